-- Attacks on the guarded views by people who may read some of them. Every attack must find nothing: what stands in the output is what the
-- attacker sees. The hidden values are 7777 (revenue), 13866667777 (phone) and SECRET (names and codes of hidden rows).
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = notice;
CREATE ROLE attack_agent LOGIN IN ROLE crm_service;
CREATE ROLE attack_rep LOGIN IN ROLE crm_sales;
CREATE ROLE attack_reader LOGIN IN ROLE pg_read_all_data;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('attack_agent', 'attack agent'), ('attack_rep', 'attack rep');
INSERT INTO crm_data.account (code, name, phone, annual_revenue, employees, owner_id)
SELECT 'ATTACK-' || n, CASE WHEN n = 1 THEN 'Mine' ELSE 'SECRET ' || n END, CASE WHEN n = 1 THEN '13900000001' ELSE '13866667777' END, CASE WHEN n = 1 THEN 1 ELSE 7777 END, 77, CASE WHEN n = 1 THEN m.id END
  FROM generate_series(1, 3) AS n, crm_data.member AS m WHERE m.role_name = 'attack_rep';
SELECT id AS hidden FROM crm_data.account WHERE code = 'ATTACK-2' \gset
\set VERBOSITY terse

CREATE SCHEMA attack;
GRANT ALL ON SCHEMA attack TO PUBLIC;
SET ROLE attack_rep;
SET search_path = attack, crm, pg_catalog;
-- leaky functions and operators at every place of a query
CREATE FUNCTION leak(v anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS $$ BEGIN IF v::text ~ 'SECRET|6666|ATTACK-[23]|7777' THEN RAISE NOTICE 'LEAK %', v; END IF; RETURN true; END $$;
CREATE FUNCTION leak_equal(a text, b text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS $$ BEGIN PERFORM attack.leak(a); RETURN a = b; END $$;
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = leak_equal, RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
-- (servers refuse in different words)
CREATE FUNCTION told(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN EXECUTE q INTO r; RETURN coalesce(r, 'nothing'); EXCEPTION WHEN OTHERS THEN RETURN 'nothing'; END $$;
SELECT count(*) FROM account WHERE leak(name);
SELECT count(*) FROM account WHERE name === 'x' OR leak(code);
SELECT count(*) FROM account AS a JOIN account AS b ON a.id = b.id AND leak(b.name);
SELECT count(*) FROM account AS a LEFT JOIN account AS b ON leak(b.phone) AND a.id = b.id;
SELECT count(*) FROM account AS a WHERE EXISTS (SELECT FROM account AS b WHERE leak(b.name) AND b.id = a.id);
SELECT count(*) FROM account AS a WHERE a.id IN (SELECT b.id FROM account AS b WHERE b.name === 'Mine');
SELECT name FROM account GROUP BY name HAVING leak(min(phone)) ORDER BY 1;
SELECT count(*) FROM (SELECT * FROM account ORDER BY leak(name), id OFFSET 0) AS x;
SELECT count(*) FROM account TABLESAMPLE BERNOULLI (100) WHERE leak(name);
SELECT count(*) FROM ONLY account WHERE leak(name);
SELECT count(*) FROM account WHERE leak(ROW(account.*)::text);
SELECT count(*) FROM generate_series(1, 3) AS g, LATERAL (SELECT * FROM account WHERE leak(name) AND g > 0) AS x;
WITH RECURSIVE r AS (SELECT id, name FROM account WHERE leak(name) UNION SELECT a.id, a.name FROM account AS a JOIN r ON leak(a.code) AND a.id = r.id) SELECT count(*) FROM r;
-- errors as oracles
SELECT count(*) FROM account WHERE 1 / (CASE WHEN name LIKE 'SECRET%' THEN 0 ELSE 1 END) = 1;
SELECT count(*) FROM account WHERE (CASE WHEN name LIKE 'SECRET%' THEN name ELSE '1' END)::int = 1;
SELECT count(*) FROM account WHERE my_teams(name) IS NOT NULL;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT count(*) FROM account WHERE my_teams(code) IS NOT NULL;
SELECT count(*) FROM account WHERE _in_my_teams(1, employees) IS NOT NULL OR _is_me(employees);
RESET enable_indexscan;
RESET enable_bitmapscan;
CREATE DOMAIN nosecret AS text CHECK (VALUE NOT LIKE 'SECRET%');
SELECT count(*) FROM account WHERE name::nosecret = 'x';
-- hidden system columns, statistics, catalogs, files
SELECT ctid FROM account;
SELECT xmin FROM account;
SELECT count(*) FROM pg_stats WHERE schemaname = 'crm_data';
SELECT count(*) FROM pg_statistic;
SELECT count(*) FROM pg_statistic_ext_data;
TABLE crm_data.account;
COPY crm_data.account TO STDOUT;
TABLE crm_data.account_pkey;
SELECT lo_get(1);
-- rows that are not there answer nothing, however they are touched
SELECT id FROM account WHERE id = :hidden FOR UPDATE;
SELECT id FROM account WHERE id = :hidden FOR UPDATE NOWAIT;
UPDATE account SET name = 'x' WHERE id = :hidden;
UPDATE account SET name = 'x' WHERE id = :hidden AND leak(name);
DELETE FROM account WHERE leak(name) AND id = :hidden;
INSERT INTO account (id, name) VALUES (:hidden, 'x');
INSERT INTO account (code, name) VALUES ('ATTACK-2', 'x') ON CONFLICT (code) DO UPDATE SET name = 'x' RETURNING *;
INSERT INTO contact (account_id, name) VALUES (:hidden, 'x');
UPDATE account SET parent_id = :hidden WHERE code = 'ATTACK-1';
UPDATE account SET code = 'ATTACK-2' WHERE code = 'ATTACK-1';
UPDATE account SET name = NULL WHERE code = 'ATTACK-1';
UPDATE account SET name = '' WHERE code = 'ATTACK-1';
INSERT INTO account (code, name) VALUES ('ATTACK-2', 'x') ON CONFLICT DO NOTHING;
-- (a view takes MERGE on newer servers only)
DO $$ BEGIN MERGE INTO crm.account AS a USING (SELECT 1) AS s ON a.code = 'ATTACK-2' AND attack.leak(a.name) WHEN MATCHED THEN UPDATE SET name = 'x' WHEN NOT MATCHED THEN DO NOTHING; RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'no row';
EXCEPTION WHEN feature_not_supported OR wrong_object_type OR syntax_error THEN RAISE NOTICE 'MERGE finds nothing'; END $$;
-- rows by COPY are rows by the view
COPY account (code, name, owner_id) FROM STDIN;
ATTACK-4	by copy	999999
\.
COPY account (id, name) FROM STDIN;
1	by copy
\.
COPY (UPDATE account SET industry = 'x' WHERE leak(name) RETURNING name) TO STDOUT;
-- a view of one's own, with whatever options, is no other view
CREATE VIEW attack.mine AS SELECT * FROM crm.account;
CREATE VIEW attack.checked WITH (security_barrier) AS SELECT * FROM crm.account WHERE name <> 'x' WITH CHECK OPTION;
GRANT ALL ON attack.mine TO attack_agent;
UPDATE attack.checked SET name = 'x' WHERE leak(name);
UPDATE attack.checked SET owner_id = NULL WHERE code = 'ATTACK-2';
SELECT count(*) FROM attack.checked WHERE leak(name) AND leak(phone);
SET ROLE attack_agent;
UPDATE attack.mine SET name = 'agent' WHERE code = 'ATTACK-1';
INSERT INTO attack.mine (name) VALUES ('agent');
SELECT annual_revenue FROM attack.mine WHERE code = 'ATTACK-2';
-- neither is what was kept of it by somebody who maintains for others
SET ROLE attack_rep;
CREATE MATERIALIZED VIEW attack.kept AS SELECT code, name FROM crm.account WHERE code LIKE 'ATTACK%';
RESET ROLE;
REFRESH MATERIALIZED VIEW attack.kept;
SELECT count(*) FROM attack.kept;
SET ROLE attack_rep;
REFRESH MATERIALIZED VIEW attack.kept;
SELECT count(*) FROM attack.kept;
-- cursors that scroll, and rows of partitioned tables
DECLARE s SCROLL CURSOR FOR SELECT name FROM crm.account WHERE attack.leak(name) ORDER BY id;
FETCH LAST FROM s;
FETCH ABSOLUTE 2 FROM s;
CLOSE s;
DECLARE u CURSOR FOR SELECT * FROM crm.account FOR UPDATE;
UPDATE account SET name = 'x' WHERE CURRENT OF u;
CLOSE u;
SELECT count(*) FROM event WHERE kind === 'x' OR leak(detail);
-- what else the server can be asked to read
SELECT count(*) FROM pg_stats_ext WHERE schemaname = 'crm_data';
SELECT count(*) FROM pg_stats_ext_exprs WHERE schemaname = 'crm_data';
SELECT count(last_value) FROM pg_sequences WHERE schemaname = 'crm_data';
SELECT told('SELECT pg_sequence_last_value(c.oid) FROM pg_class AS c WHERE c.relname = ''account_id_seq''');
SELECT count(*) FROM ts_stat('SELECT to_tsvector(''simple'', name) FROM crm.account') WHERE word ~ 'secret';
-- (a server may be built without XML)
DO $$ BEGIN RAISE NOTICE 'in XML: %', database_to_xml(true, false, '')::text ~ '>7777|13866667777|SECRET'; EXCEPTION WHEN feature_not_supported THEN RAISE NOTICE 'in XML: f'; END $$;
SELECT told('SELECT schema_to_xml(''crm_data'', true, false, '''')'), told('SELECT pg_create_logical_replication_slot(''attack'', ''test_decoding'')');
CREATE TABLE attack.child (account bigint REFERENCES crm_data.account (id));
CREATE TABLE attack.like_it (LIKE crm_data.account INCLUDING STATISTICS);
SELECT NULL::crm_data.account;
CREATE EVENT TRIGGER attack ON ddl_command_end EXECUTE FUNCTION crm.me();
SET plpgsql.print_strict_params = on;
SET plpgsql.extra_errors = 'all';
SELECT crm.history('account', :hidden);
RESET plpgsql.print_strict_params;
RESET plpgsql.extra_errors;
-- privileges
SET row_security = off;
SELECT count(*) FROM account;
RESET row_security;
CREATE TRIGGER t BEFORE INSERT ON account FOR EACH STATEMENT EXECUTE FUNCTION crm._write_view('account');
CREATE RULE r AS ON INSERT TO account DO ALSO SELECT 1;
ALTER VIEW account OWNER TO attack_rep;
CREATE OR REPLACE VIEW crm.account AS SELECT 1 AS id;
CREATE INDEX ON crm_data.account (leak(name));
CREATE STATISTICS s ON name, phone FROM crm_data.account;
CREATE TABLE child () INHERITS (crm_data.account);
CREATE FUNCTION fold(internal) RETURNS internal LANGUAGE c AS '$libdir/crm', 'crm_guard_support';
CREATE FUNCTION seen(text) RETURNS text LANGUAGE sql SUPPORT crm._guard_support AS 'SELECT $1';
DO $$ BEGIN PERFORM crm._guard_support(NULL); RAISE NOTICE 'called'; EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'refused'; END $$;
SELECT crm._see('account', :hidden);
-- who writes to a hidden customer is hidden, too, and its history brings nothing back
RESET ROLE;
CREATE ROLE attack_steward LOGIN IN ROLE crm_steward;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('attack_steward', 'attack steward');
INSERT INTO crm_data.contact (account_id, name) VALUES (:hidden, 'SECRET contact') RETURNING id AS gone \gset
SELECT crm._engine_write('erase');
DELETE FROM crm_data.contact WHERE id = :gone;
SELECT crm._engine_write('none');
SELECT concat_ws('/', object, record_id, max(version)) AS deletion FROM crm_data.change WHERE object = 'contact' AND record_id = :gone GROUP BY object, record_id \gset
-- a steward who is to see his own customers only
UPDATE crm_data.config SET body = '{"role": "crm_steward", "rows": [{"object": "*", "verbs": ["read", "write"], "scope": "own"}]}' WHERE kind = 'row_policy' AND key = 'crm_steward' AND status = 'active';
UPDATE crm_data.account SET owner_id = (SELECT id FROM crm_data.member WHERE role_name = 'attack_steward') WHERE code = 'ATTACK-3';
UPDATE crm_data.account SET lease_endpoint = 'attack desk ' || code, lease_until = clock_timestamp() + interval '20 seconds' WHERE code IN ('ATTACK-2', 'ATTACK-3');
SET ROLE attack_steward;
SELECT application FROM crm.locks() WHERE application LIKE 'attack desk%';
\set VERBOSITY sqlstate
SELECT crm.restore('account', :hidden, 1);
\set VERBOSITY terse
SELECT crm.restore_row(:'deletion');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
UPDATE crm_data.account SET owner_id = NULL WHERE code = 'ATTACK-3';
SET ROLE attack_rep;
SET search_path = attack, crm, pg_catalog;
SELECT crm._soft_delete('account', :hidden);
SELECT crm._access_findings();
SELECT crm._disable_login('postgres');
SELECT crm.guard('SECRET'::text, 1003, NULL, NULL) AS his_own_constant;
-- temporary objects do not stand in for ours
CREATE TEMP TABLE account (id bigint, name text, owner_id bigint);
CREATE FUNCTION pg_temp.me() RETURNS bigint LANGUAGE sql AS 'SELECT NULL::bigint';
CREATE FUNCTION pg_temp.guard(anyelement, int, bigint, bigint) RETURNS anyelement LANGUAGE sql AS 'SELECT $1';
SET search_path = pg_temp, attack, crm, pg_catalog;
SELECT count(*) FROM crm.account;
SELECT contract_no FROM crm.finance_card WHERE leak(contract_no);
DROP TABLE pg_temp.account;

-- a masked or hidden field, in every shape
SET ROLE attack_agent;
SET search_path = attack, crm, pg_catalog;
SELECT phone, annual_revenue FROM account WHERE code = 'ATTACK-2';
SELECT to_jsonb(a)::text ~ '7777,|13866' FROM account AS a WHERE code = 'ATTACK-2';
SELECT json_agg(a)::text ~ '7777,|13866' FROM account AS a WHERE code = 'ATTACK-2';
-- (a server may be built without XML)
DO $$ BEGIN RAISE NOTICE 'in XML: %', query_to_xml('SELECT * FROM crm.account WHERE code = ''ATTACK-2''', true, false, '')::text ~ '>7777|13866'; EXCEPTION WHEN feature_not_supported THEN RAISE NOTICE 'in XML: f'; END $$;
-- (a server may come without its contrib modules)
DO $$ BEGIN RESET ROLE; CREATE EXTENSION hstore SCHEMA attack; SET ROLE attack_agent; RAISE NOTICE 'in hstore: %', (SELECT hstore(a)::text ~ '=>"7777|13866' FROM account AS a WHERE code = 'ATTACK-2');
EXCEPTION WHEN undefined_file OR feature_not_supported THEN SET ROLE attack_agent; RAISE NOTICE 'in hstore: f'; END $$;
SELECT (a).annual_revenue, a::text ~ '13866' FROM account AS a WHERE code = 'ATTACK-2';
SELECT row_to_json(x)::text FROM (SELECT phone, annual_revenue FROM account WHERE code = 'ATTACK-2') AS x;
COPY (SELECT phone, annual_revenue FROM crm.account WHERE code = 'ATTACK-2') TO STDOUT;
SELECT annual_revenue, count(*) FROM account WHERE code LIKE 'ATTACK%' GROUP BY 1;
SELECT min(annual_revenue), max(annual_revenue), avg(annual_revenue), sum(employees), stddev(annual_revenue) FROM account WHERE code LIKE 'ATTACK%';
SELECT count(*) FROM account WHERE annual_revenue BETWEEN 7776 AND 7778;
SELECT count(*) FROM account WHERE phone ~ '13866' OR phone LIKE '1386666%' OR starts_with(phone, '13866');
SELECT count(DISTINCT phone) FROM account WHERE code LIKE 'ATTACK%';
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY annual_revenue) FROM account WHERE code LIKE 'ATTACK%';
SELECT lag(phone) OVER (ORDER BY annual_revenue, id) FROM account WHERE code = 'ATTACK-2';
SELECT count(*) FROM account WHERE leak(annual_revenue) AND leak(phone) AND code LIKE 'ATTACK%';
CREATE TEMP TABLE stolen AS SELECT * FROM crm.account WHERE code LIKE 'ATTACK%';
SELECT count(annual_revenue), max(phone) FROM stolen;
DROP TABLE stolen;
SELECT crm.reveal('account', :hidden, 'annual_revenue', 'please');
SELECT crm.preview_as('crm_admin', 'account', :hidden);
-- a view of somebody else is folded for the reader, and so is a function
RESET ROLE;
CREATE VIEW attack.of_superuser AS SELECT phone, annual_revenue FROM crm.account WHERE code = 'ATTACK-2';
CREATE FUNCTION attack.of_superuser() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC SELECT phone || ' ' || coalesce(annual_revenue::text, 'hidden') FROM crm.account WHERE code = 'ATTACK-2'; END;
GRANT SELECT ON attack.of_superuser TO PUBLIC;
SELECT * FROM attack.of_superuser;
SELECT * FROM attack.of_superuser();
SET ROLE attack_agent;
SELECT * FROM attack.of_superuser;
SELECT * FROM attack.of_superuser();
-- kept plans in three languages across roles
RESET ROLE;
PREPARE p AS SELECT phone, annual_revenue FROM crm.account WHERE code = 'ATTACK-2';
CREATE FUNCTION attack.plain() RETURNS text LANGUAGE plpgsql STABLE AS 'DECLARE r text; BEGIN SELECT phone || coalesce(annual_revenue::text, ''-'') INTO r FROM crm.account WHERE code = ''ATTACK-2''; RETURN r; END';
CREATE FUNCTION attack.query() RETURNS text LANGUAGE sql STABLE AS 'SELECT phone || coalesce(annual_revenue::text, ''-'') FROM crm.account WHERE code = ''ATTACK-2''';
CREATE FUNCTION attack.kept() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS 'DECLARE r text; BEGIN SELECT phone || coalesce(annual_revenue::text, ''-'') INTO r FROM crm.account WHERE code = ''ATTACK-2''; RETURN r; END';
EXECUTE p;
SELECT attack.plain(), attack.query(), attack.kept();
SET ROLE attack_agent;
EXECUTE p;
SELECT attack.plain(), attack.query(), attack.kept();
SET ROLE attack_rep;
EXECUTE p;
SELECT attack.plain(), attack.query();
-- a role that reads all tables of the database
SET ROLE attack_reader;
SELECT count(*) FROM crm_data.account;
SELECT count(*) FROM crm_data.event_default;
SELECT count(*) FROM crm_data.secret;
SELECT count(*) FROM crm.account;
RESET ROLE;
-- counters of reads tell whether an index met a hidden row, unless the database is hardened
SET ROLE attack_agent;
SELECT count(*) > 0 AS told FROM pg_stat_user_indexes WHERE schemaname = 'crm_data' AND idx_tup_read >= 0;
SELECT crm.harden();
RESET ROLE;
SELECT crm.harden() > 10 AS taken;
SET ROLE attack_agent;
SELECT count(*) > 0 AS told FROM pg_stat_user_indexes WHERE schemaname = 'crm_data' AND idx_tup_read >= 0;
RESET ROLE;
-- a cursor keeps the rights it was opened with until it is closed (stated in the security model), for its own session alone
SET ROLE attack_agent;
DECLARE c CURSOR FOR SELECT annual_revenue FROM crm.account WHERE code LIKE 'ATTACK%';
RESET ROLE;
FETCH 1 FROM c;
CLOSE c;
-- expiry and membership inside a transaction
SET ROLE attack_rep;
EXECUTE p;
RESET ROLE;
UPDATE crm_data.member SET hired_at = current_date - 10, left_at = current_date WHERE role_name = 'attack_agent';
SET ROLE attack_agent;
EXECUTE p;
RESET ROLE;
ROLLBACK;
-- a view that one may write to is no handle to lock the table of everybody
BEGIN;
CREATE ROLE attack_lock NOLOGIN IN ROLE crm_bi;
SET LOCAL ROLE attack_lock;
SAVEPOINT s;
LOCK TABLE crm.account IN ACCESS EXCLUSIVE MODE;
ROLLBACK TO s;
LOCK TABLE crm.account IN ROW EXCLUSIVE MODE;
ROLLBACK TO s;
CREATE TEMP VIEW handle AS SELECT * FROM crm.opportunity;
SAVEPOINT s;
LOCK TABLE handle IN SHARE MODE;
ROLLBACK TO s;
RESET ROLE;
-- nor any other
SELECT string_agg(c.relname, ' ' ORDER BY c.relname COLLATE "C") AS lockable FROM pg_class AS c WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND has_table_privilege('crm_gate', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE');
ROLLBACK;
