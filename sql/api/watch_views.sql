-- Whoever changes a view of schema crm is noticed at once; what slips through, as in a database restored without this trigger, is found by the nightly scan.
-- runs as: caller

DO $do$
BEGIN
    DROP EVENT TRIGGER IF EXISTS crm_views_changed;
    CREATE EVENT TRIGGER crm_views_changed ON ddl_command_end
        WHEN TAG IN ('CREATE VIEW', 'ALTER VIEW', 'DROP VIEW', 'CREATE RULE', 'ALTER RULE', 'DROP RULE')
        EXECUTE FUNCTION crm._views_changed();
    COMMENT ON EVENT TRIGGER crm_views_changed IS 'Tells of views of schema crm that somebody changed.';
END
$do$;
