-- All rights of people and tools, in one place. Nothing is for PUBLIC; the engine's roles have what they need by ownership.
-- runs as: caller

DO $grants$
DECLARE
    person text;
BEGIN
    FOREACH person IN ARRAY ARRAY['crm_admin', 'crm_steward', 'crm_sales', 'crm_manager', 'crm_director', 'crm_service',
                                  'crm_finance', 'crm_legal', 'crm_marketing', 'crm_risk', 'crm_sync', 'crm_bi'] LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA crm TO %I', person);
        EXECUTE format('GRANT EXECUTE ON FUNCTION crm.version() TO %I', person);
    END LOOP;
END
$grants$;

-- Dumps read everything and change nothing.
GRANT USAGE ON SCHEMA crm, crm_data TO crm_backup;
GRANT SELECT ON ALL TABLES IN SCHEMA crm_data TO crm_backup;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA crm_data TO crm_backup;
