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
        -- the lattice model works on whatever its caller may read
        EXECUTE format('GRANT EXECUTE ON FUNCTION crm.lattice_fit(text[], float8, float8), crm.lattice_fit(text[], float8, float8, jsonb),'
                       ' crm._lattice_fit_trans(internal, text[], float8, float8), crm._lattice_fit_trans(internal, text[], float8, float8, jsonb),'
                       ' crm._lattice_fit_final(internal), crm.lattice_learn(crm.lattice, text[], float8, float8),'
                       ' crm._lattice_learn_trans(internal, crm.lattice, text[], float8, float8), crm._lattice_learn_final(internal),'
                       ' crm.lattice_predict(crm.lattice, text[]), crm.lattice_update(crm.lattice, text[], float8, float8),'
                       ' crm.lattice_explain(crm.lattice, text[]), crm.lattice(bytea), crm.lattice_send(crm.lattice),'
                       ' crm.odds_backtest(regclass, name, name[], name, name, name, name, name) TO %I', person);
    END LOOP;
END
$grants$;

-- Dumps read everything and change nothing.
GRANT USAGE ON SCHEMA crm, crm_data TO crm_backup;
GRANT SELECT ON ALL TABLES IN SCHEMA crm_data TO crm_backup;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA crm_data TO crm_backup;
