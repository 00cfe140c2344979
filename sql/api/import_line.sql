-- The view through which COPY brings a file's lines into an import.
-- runs as: crm_gate

CREATE OR REPLACE VIEW crm.import_line AS SELECT NULL::text AS line WHERE false;
COMMENT ON VIEW crm.import_line IS 'Target of COPY for the lines of a file that is being imported (crm.import_begin). Shows nothing.';
COMMENT ON COLUMN crm.import_line.line IS 'Line of the file without its end.';
CREATE OR REPLACE TRIGGER import_line_insert INSTEAD OF INSERT ON crm.import_line FOR EACH ROW EXECUTE FUNCTION crm._import_line_insert();
COMMENT ON TRIGGER import_line_insert ON crm.import_line IS 'Files the line under the import that the session has open.';
