-- Customers of the engine, a table of the same shape without it, and some of 30 columns for the trigger.
\o /dev/null
SET client_min_messages = warning;
-- duplicates are another benchmark's matter
BEGIN;
SELECT crm._match_pause(true);
INSERT INTO crm_data.account (code, name, phone, address, city) SELECT 'B' || g, 'customer ' || g, '1380000' || g, 'street ' || g, 'city' FROM generate_series(1, 100000) AS g;
COMMIT;
CREATE SCHEMA bench;
CREATE TABLE bench.plain (LIKE crm_data.account INCLUDING ALL);
ALTER TABLE bench.plain ADD COLUMN n bigint NOT NULL DEFAULT 0;
INSERT INTO bench.plain (code, name, phone, address, city) SELECT code, name, phone, address, city FROM crm_data.account ORDER BY id;
CREATE FUNCTION bench.optimistic(customer bigint, seen int, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bench.plain SET city = value, n = n + 1, row_version = row_version + 1 WHERE id = customer AND row_version = seen;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'stale' USING ERRCODE = '40001';
    END IF;
END $$;
DO $$
DECLARE
    t text;
    columns text := (SELECT string_agg(format('c%s text DEFAULT ''a value for %s''', g, g), ', ') FROM generate_series(1, 24) AS g);
BEGIN
    FOREACH t IN ARRAY '{h_none,h_log,h_version,h_chain,h_plpgsql}'::text[] LOOP
        EXECUTE format('CREATE TABLE bench.%I (id bigint PRIMARY KEY, account_id bigint, row_version int NOT NULL DEFAULT 1, last_at timestamptz, amount numeric(18,2), stage int, note text, %s)', t, columns);
        IF t = 'h_chain' THEN
            ALTER TABLE bench.h_chain ADD COLUMN last_hash bytea;
        END IF;
        EXECUTE format('ALTER TABLE bench.%I SET (fillfactor = 80)', t);
        EXECUTE format('INSERT INTO bench.%I (id, amount, stage, note) SELECT g, 100, 1, ''note'' FROM generate_series(1, 100000) AS g', t);
        EXECUTE format('ALTER TABLE bench.%I OWNER TO crm_owner', t);
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA bench TO crm_owner;
-- the change log alone: the statement counts the versions
CREATE TRIGGER crm_history AFTER UPDATE ON bench.h_log FOR EACH ROW EXECUTE FUNCTION crm._record_change('bench');
-- with the engine's versions, whose BEFORE trigger makes the server log a lock of the row; and with the chain, as all tables of the engine have it
CREATE TRIGGER zzz_crm_version BEFORE INSERT OR UPDATE ON bench.h_version FOR EACH ROW EXECUTE FUNCTION crm._version_row('bench');
CREATE TRIGGER crm_history AFTER UPDATE ON bench.h_version FOR EACH ROW EXECUTE FUNCTION crm._record_change('bench');
CREATE TRIGGER zzz_crm_version BEFORE INSERT OR UPDATE ON bench.h_chain FOR EACH ROW EXECUTE FUNCTION crm._version_row('bench');
CREATE TRIGGER crm_history AFTER UPDATE ON bench.h_chain FOR EACH ROW EXECUTE FUNCTION crm._record_change('bench');
-- what most people write
CREATE FUNCTION bench.diff() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO crm_data.change (at, object, record_id, op, version, fields, actor, endpoint)
    SELECT clock_timestamp(), 'bench', NEW.id, 'u', NEW.row_version, jsonb_object_agg(n.key, jsonb_build_array(o.value, n.value))::text, session_user, 'sql'
      FROM jsonb_each(to_jsonb(NEW)) AS n JOIN jsonb_each(to_jsonb(OLD)) AS o USING (key) WHERE n.value IS DISTINCT FROM o.value HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER history AFTER UPDATE ON bench.h_plpgsql FOR EACH ROW EXECUTE FUNCTION bench.diff();
SELECT crm._maintain_history(1);
VACUUM ANALYZE;
