-- The views through which people read and write: one for each business object of crm_data.field, made from that registry and the catalog.
-- runs as: crm_gate

-- Plain views: the rows are filtered by the tables' policies, and what a person asks of a guarded column is asked of what guard shows.
DO $do$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT s FROM crm._view_statements() AS s LOOP
        EXECUTE statement;
    END LOOP;
END
$do$;
