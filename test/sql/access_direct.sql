-- An update through a view does without a statement in the plain case: the same triggers, policies, constraints and keys hold, and what comes out is
-- what the statement gives, which does everything that is not plain.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
-- (a row a statement where the order shows: room that a vacuum made decides where rows lie, and that in which order they come)
SET LOCAL client_min_messages = notice;
CREATE ROLE direct_rep LOGIN IN ROLE crm_sales;
CREATE ROLE direct_steward LOGIN IN ROLE crm_steward;
CREATE ROLE direct_agent LOGIN IN ROLE crm_service;
-- writes every column of his own rows, and sees no others
CREATE ROLE direct_own LOGIN IN ROLE crm_bi;
SELECT crm._compile_access() IS NOT NULL AS compiled;
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT v.kind, 'direct_own', 1, v.body::jsonb, 'active', '(,)', 'a', 'b'
  FROM (VALUES ('field_policy', '{"role": "direct_own", "default": "always", "read": {}, "write": {"classes": {"key": "always", "general": "always", "contact": "always", "sales": "always", "identity": "always"}}}'),
               ('row_policy', '{"role": "direct_own", "rows": [{"object": "*", "verbs": ["read", "write"], "scope": "own"}]}'),
               ('permission', '{"role": "direct_own", "ops": [{"object": "*", "ops": ["read", "update"], "scope": "own"}], "functions": []}')) AS v (kind, body);
UPDATE crm_data.config SET status = 'retired' WHERE key = 'crm_bi' AND kind IN ('field_policy', 'row_policy', 'permission');
SELECT crm._compile_access() IS NOT NULL AS compiled;
INSERT INTO crm_data.team (code, name) VALUES ('direct', 'Direct');
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT v, v, t.id FROM unnest(ARRAY['direct_rep', 'direct_steward', 'direct_agent', 'direct_own']) AS v, crm_data.team AS t WHERE t.code = 'direct';
INSERT INTO crm_data.account (code, name, phone, legal_id4, grade, owner_id, team_id)
SELECT 'DIRECT-' || n, 'Direct ' || n, '1380013800' || n % 10, '1234', 2, m.id, m.team_id
  FROM generate_series(1, 12) AS n JOIN crm_data.member AS m ON m.role_name = CASE WHEN n <= 6 THEN 'direct_own' ELSE 'direct_rep' END;
SELECT id AS somebody FROM crm_data.member WHERE role_name = 'direct_rep' \gset

-- which way was it? Only a statement stands in the context of its triggers
CREATE SCHEMA direct;
CREATE FUNCTION direct.way() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    RAISE NOTICE '% %', NEW.code, CASE WHEN context ~ 'SQL statement' THEN 'by statement' ELSE 'directly' END;
    RETURN NEW;
END $$;
CREATE TRIGGER aaa_way BEFORE UPDATE ON crm_data.account FOR EACH ROW EXECUTE FUNCTION direct.way();
SET ROLE direct_own;
UPDATE crm.account SET city = 'one' WHERE code = 'DIRECT-1' RETURNING code, city, row_version;
UPDATE crm.account SET city = 'one' WHERE code = 'DIRECT-2' RETURNING code, city, row_version;
-- a row of somebody else is not reached, and none is given away: neither old nor new row may be out of the person's scope
UPDATE crm.account SET city = 'one' WHERE code = 'DIRECT-7';
UPDATE crm.account SET owner_id = :somebody WHERE code = 'DIRECT-1';
\echo :LAST_ERROR_SQLSTATE
UPDATE crm.account SET owner_id = NULL, city = 'two' WHERE code = 'DIRECT-1';
-- the policy alone decides, also where a trigger changes the row
RESET ROLE;
CREATE FUNCTION direct.give() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.owner_id := (SELECT m.id FROM crm_data.member AS m WHERE m.role_name = 'direct_rep'); RETURN NEW; END $$;
ALTER FUNCTION direct.give() OWNER TO crm_owner;
ALTER FUNCTION direct.give() SECURITY DEFINER;
GRANT USAGE ON SCHEMA direct TO crm_owner;
CREATE TRIGGER aab_give BEFORE UPDATE ON crm_data.account FOR EACH ROW WHEN (NEW.city = 'given') EXECUTE FUNCTION direct.give();
SET ROLE direct_own;
UPDATE crm.account SET city = 'given' WHERE code = 'DIRECT-1';
\echo :LAST_ERROR_SQLSTATE
UPDATE crm.account SET city = 'kept' WHERE code = 'DIRECT-1' RETURNING city;

-- a key that a trigger changes is a changed key, for those who refer to it too
RESET ROLE;
INSERT INTO crm_data.contact (account_id, name) SELECT id, 'direct' FROM crm_data.account WHERE code = 'DIRECT-2';
CREATE FUNCTION direct.rekey() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 1000000000; RETURN NEW; END $$;
CREATE TRIGGER aac_rekey BEFORE UPDATE ON crm_data.account FOR EACH ROW WHEN (NEW.city = 'moved') EXECUTE FUNCTION direct.rekey();
SET ROLE direct_own;
UPDATE crm.account SET city = 'moved' WHERE code = 'DIRECT-2';
\echo :LAST_ERROR_SQLSTATE
UPDATE crm.account SET city = 'stays' WHERE code = 'DIRECT-2';
RESET ROLE;
DROP TRIGGER aac_rekey ON crm_data.account;

-- whoever wants the row back gets it, also in the midst of a statement that does not, and in one that does
CREATE FUNCTION direct.inner(back boolean, town text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    IF back THEN
        UPDATE crm.account SET city = town WHERE code = 'DIRECT-2' RETURNING city || ' ' || (updated_by <> 'before') INTO answer;
    ELSE
        UPDATE crm.account SET city = town WHERE code = 'DIRECT-2';
        answer := 'silent';
    END IF;
    RETURN answer;
END $$;
GRANT USAGE ON SCHEMA direct TO direct_own;
GRANT EXECUTE ON FUNCTION direct.inner(boolean, text) TO direct_own;
UPDATE crm_data.account SET updated_by = 'before' WHERE code = 'DIRECT-1';
UPDATE crm_data.account SET updated_by = 'before' WHERE code = 'DIRECT-2';
SET ROLE direct_own;
UPDATE crm.account SET city = direct.inner(true, 'a') WHERE code = 'DIRECT-1';
SELECT code, city FROM crm.account WHERE code IN ('DIRECT-1', 'DIRECT-2') ORDER BY code;
UPDATE crm.account SET city = direct.inner(false, 'b') WHERE code = 'DIRECT-1' RETURNING city, updated_by <> 'before' AS noted;
WITH x AS (UPDATE crm.account SET city = 'c' WHERE code = 'DIRECT-1' RETURNING city, updated_by <> 'before' AS noted) SELECT * FROM x;
WITH x AS (UPDATE crm.account SET city = 'd' WHERE code = 'DIRECT-1' RETURNING city, updated_by <> 'before' AS noted)
UPDATE crm.account SET city = x.city || '2' FROM x WHERE code = 'DIRECT-2';
UPDATE crm.account SET tags = array_append(tags, 'none') WHERE code = 'DIRECT-1';
\echo :LAST_ERROR_SQLSTATE
UPDATE crm.account SET complaint_tags = array_append(array_append(complaint_tags, 'price'), 'delay') WHERE code = 'DIRECT-1';
SELECT complaint_tags FROM crm.account WHERE code = 'DIRECT-1';
UPDATE crm.account SET city = 'kept' WHERE code = 'DIRECT-1';

-- constraints say which, and nothing of the row; so do keys
\set VERBOSITY default
\set SHOW_CONTEXT never
UPDATE crm.account SET legal_id4 = 'abcd' WHERE code = 'DIRECT-1';
UPDATE crm.account SET name = NULL WHERE code = 'DIRECT-1';
UPDATE crm.account SET code = 'DIRECT-7' WHERE code = 'DIRECT-1';
RESET ROLE;
CREATE TABLE direct.region (name text PRIMARY KEY);
INSERT INTO direct.region VALUES ('north');
GRANT USAGE ON SCHEMA direct TO crm_gate;
ALTER TABLE crm_data.account ADD CONSTRAINT direct_region FOREIGN KEY (region) REFERENCES direct.region DEFERRABLE INITIALLY DEFERRED;
SET ROLE direct_own;
UPDATE crm.account SET region = 'north' WHERE code = 'DIRECT-1' RETURNING region;
UPDATE crm.account SET region = 'nowhere' WHERE code = 'DIRECT-1' RETURNING region;
SET CONSTRAINTS ALL IMMEDIATE;
\set VERBOSITY terse
UPDATE crm.account SET region = 'north' WHERE code = 'DIRECT-1' RETURNING region;
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE crm.account SET region = 'south' WHERE code = 'DIRECT-1' RETURNING region;
RESET ROLE;
SET CONSTRAINTS ALL IMMEDIATE;
-- a change handed on by a foreign key, with a trigger where it arrives
CREATE TABLE direct.child (code text REFERENCES crm_data.account (code) ON UPDATE CASCADE);
CREATE FUNCTION direct.arrived() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'child follows: % to %', OLD.code, NEW.code; RETURN NULL; END $$;
CREATE TRIGGER arrived AFTER UPDATE ON direct.child FOR EACH ROW EXECUTE FUNCTION direct.arrived();
INSERT INTO direct.child VALUES ('DIRECT-3'), ('DIRECT-4');
SET ROLE direct_own;
UPDATE crm.account SET code = code || 'x' WHERE code = 'DIRECT-3' RETURNING code;
UPDATE crm.account SET code = code || 'x' WHERE code = 'DIRECT-4' RETURNING code;
UPDATE crm.account SET code = code || 'x' WHERE code = 'DIRECT-5' RETURNING code;
RESET ROLE;
TABLE direct.child ORDER BY 1;

-- generated columns follow, and are not written
INSERT INTO crm_data.opportunity (account_id, name, pipeline_id, stage_id, owner_id)
SELECT a.id, 'Direct', s.pipeline_id, s.id, a.owner_id FROM crm_data.account AS a, crm_data.stage AS s WHERE a.code = 'DIRECT-1' AND s.code = 'demo';
SET ROLE direct_own;
UPDATE crm.opportunity SET probability_manual = 0.25 WHERE name = 'Direct' RETURNING probability_manual, probability;
UPDATE crm.opportunity SET name = 'Direct 2' WHERE name = 'Direct' RETURNING name, probability;
UPDATE crm.opportunity SET probability_manual = NULL WHERE name = 'Direct 2' RETURNING probability_manual, probability IS NOT DISTINCT FROM probability_auto AS again;
UPDATE crm.opportunity SET probability = 0.5 WHERE name = 'Direct 2';

-- triggers that say no, that update the row or another one, and that change the rules on the way
RESET ROLE;
CREATE FUNCTION direct.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.city = 'no' THEN
        RETURN NULL;
    ELSIF NEW.city = 'self' THEN
        UPDATE crm_data.account SET district = 'x' WHERE id = NEW.id;
    ELSIF NEW.city = 'other' THEN
        UPDATE crm.account SET city = 'second' WHERE code = 'DIRECT-2';
    ELSIF NEW.city = 'after' AND TG_WHEN = 'AFTER' THEN
        UPDATE crm.account SET district = 'after' WHERE id = NEW.id;
    ELSIF NEW.city = 'rules' THEN
        EXECUTE 'CREATE POLICY direct_no ON crm_data.account AS RESTRICTIVE FOR UPDATE TO crm_gate USING (city IS DISTINCT FROM ''kept'') WITH CHECK (district IS DISTINCT FROM ''never'')';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER aac_meddle BEFORE UPDATE ON crm_data.account FOR EACH ROW EXECUTE FUNCTION direct.meddle();
CREATE TRIGGER aac_meddle_after AFTER UPDATE ON crm_data.account FOR EACH ROW WHEN (NEW.district IS DISTINCT FROM 'after') EXECUTE FUNCTION direct.meddle();
SET ROLE direct_own;
UPDATE crm.account SET city = 'no' WHERE code = 'DIRECT-1';
UPDATE crm.account SET city = 'self' WHERE code = 'DIRECT-1';
\echo :LAST_ERROR_SQLSTATE
UPDATE crm.account SET city = 'other' WHERE code = 'DIRECT-6';
SELECT code, city FROM crm.account WHERE code IN ('DIRECT-2', 'DIRECT-6') ORDER BY 1;
UPDATE crm.account SET city = 'after' WHERE code = 'DIRECT-6' RETURNING city, district, row_version;
SELECT city, district, row_version FROM crm.account WHERE code = 'DIRECT-6';
RESET ROLE;
ALTER FUNCTION direct.meddle() OWNER TO crm_owner;
ALTER FUNCTION direct.meddle() SECURITY DEFINER;
SET ROLE direct_own;
UPDATE crm.account SET city = 'rules' WHERE code = 'DIRECT-6';
UPDATE crm.account SET district = 'x' WHERE code = 'DIRECT-1';
UPDATE crm.account SET district = 'never' WHERE code = 'DIRECT-2';
UPDATE crm.account SET district = 'now' WHERE code = 'DIRECT-2' RETURNING district;
RESET ROLE;
DROP TRIGGER aac_meddle ON crm_data.account;
DROP TRIGGER aac_meddle_after ON crm_data.account;
-- a policy with a subquery is the statement's
CREATE POLICY direct_sub ON crm_data.account AS RESTRICTIVE FOR UPDATE TO crm_gate USING (EXISTS (SELECT FROM crm_data.team AS t WHERE t.id = team_id));
SET ROLE direct_own;
UPDATE crm.account SET district = 'sub' WHERE code = 'DIRECT-2' RETURNING district;
RESET ROLE;
DROP POLICY direct_sub ON crm_data.account;
DROP POLICY direct_no ON crm_data.account;
-- rights taken from the views' role, and rules changed by name, count for the next row
REVOKE UPDATE ON crm_data.account FROM crm_gate;
SET ROLE direct_own;
UPDATE crm.account SET district = 'x' WHERE code = 'DIRECT-2';
RESET ROLE;
GRANT UPDATE ON crm_data.account TO crm_gate;
SET ROLE direct_own;
UPDATE crm.account SET district = 'y' WHERE code = 'DIRECT-2' RETURNING district;
RESET ROLE;
ROLLBACK;

-- The same 400 updates by four people, both ways: a trigger FOR EACH STATEMENT leaves the table to the statement. Values that are refused, rows that are
-- hidden, own and foreign ones, twice the same row in a statement: results, messages and rows are the same.
BEGIN;
-- rows in the order of the index, wherever they lie
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL client_min_messages = warning;
CREATE ROLE direct_rep LOGIN IN ROLE crm_sales;
CREATE ROLE direct_steward LOGIN IN ROLE crm_steward;
CREATE ROLE direct_agent LOGIN IN ROLE crm_service;
CREATE ROLE direct_risk LOGIN IN ROLE crm_risk;
INSERT INTO crm_data.team (code, name) VALUES ('direct', 'Direct');
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT v, v, t.id FROM unnest(ARRAY['direct_rep', 'direct_steward', 'direct_agent', 'direct_risk']) AS v, crm_data.team AS t WHERE t.code = 'direct';
INSERT INTO crm_data.account (code, name, phone, legal_id4, grade, owner_id, team_id)
SELECT 'DIRECT-' || n, 'Direct ' || n, '1380013800' || n % 10, '1234', n % 5, m.id, m.team_id
  FROM generate_series(1, 20) AS n LEFT JOIN crm_data.member AS m ON m.role_name = CASE WHEN n % 2 = 0 THEN 'direct_rep' ELSE 'direct_steward' END;
INSERT INTO crm_data.opportunity (account_id, name, pipeline_id, stage_id, owner_id)
SELECT a.id, 'Direct ' || a.code, s.pipeline_id, s.id, a.owner_id FROM crm_data.account AS a, crm_data.stage AS s WHERE a.code LIKE 'DIRECT-%' AND s.code = 'demo';
SELECT min(id) AS first_member, max(id) AS last_member FROM crm_data.member WHERE role_name LIKE 'direct%' \gset
CREATE TEMP TABLE outcome (way text, n int, answer text);
CREATE TEMP TABLE member_range AS SELECT :first_member AS low, :last_member AS high;
GRANT SELECT ON member_range TO PUBLIC;
CREATE FUNCTION pg_temp.play(way text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    roles text[] := ARRAY['direct_rep', 'direct_steward', 'direct_agent', 'direct_risk'];
    columns text[] := ARRAY['name', 'city', 'phone', 'legal_id4', 'grade', 'owner_id', 'annual_revenue', 'tags', 'complaint_tags', 'code', 'lifecycle', 'credit_rating', 'parent_id', 'employees', 'currency'];
    deal_columns text[] := ARRAY['name', 'probability_manual', 'probability', 'amount', 'budget_low', 'close_date', 'stage_id', 'owner_id', 'discount_pct'];
    answer text;
    answers text[] := '{}';
    rows text[];
    h int;
    c text;
    v text;
    statement text;
BEGIN
    FOR n IN 1 .. 400 LOOP
        h := abs(hashint4(n));
        IF h % 7 = 0 THEN
            c := deal_columns[1 + h / 7 % cardinality(deal_columns)];
            v := (ARRAY['NULL', '''0.5''', '''' || h % 100 || '''', '''2031-01-01''', c, '''nothing'''])[1 + h / 50 % 6];
            statement := format('UPDATE crm.opportunity SET %I = %s WHERE name = ''Direct DIRECT-%s'' RETURNING to_jsonb(opportunity)', c, v, 1 + h / 300 % 20);
        ELSE
            c := columns[1 + h % cardinality(columns)];
            v := CASE c WHEN 'owner_id' THEN (SELECT (low + h / 15 % (high - low + 2))::text FROM member_range)
                 ELSE (ARRAY['NULL', quote_literal('x' || h % 30), quote_literal(h % 12), '''{a,b}''', 'DEFAULT', quote_literal(-1), c, quote_literal('138' || h % 100000000)])[1 + h / 15 % 8] END;
            statement := format('UPDATE crm.account SET %I = %s, region = %L WHERE code IN (%L, %L) RETURNING to_jsonb(account)', c, v, 'r' || h % 3,
                                'DIRECT-' || 1 + h / 120 % 20, 'DIRECT-' || 1 + h / 2400 % 20);
            IF h % 11 = 0 THEN
                statement := replace(statement, 'WHERE', 'FROM generate_series(1, 2) AS g WHERE');
            END IF;
        END IF;
        BEGIN
            EXECUTE format('SET LOCAL ROLE %I', roles[1 + h / 3 % 4]);
            rows := '{}';
            FOR v IN EXECUTE statement LOOP
                rows := rows || (v::jsonb - '{last_hash,last_at,updated_at}'::text[])::text;
            END LOOP;
            answer := (SELECT coalesce(string_agg(r, ' ' ORDER BY r), '') FROM unnest(rows) AS r);
        EXCEPTION WHEN OTHERS THEN
            answer := SQLSTATE || SQLERRM;
        END;
        RESET ROLE;
        answers := answers || answer;
    END LOOP;
    INSERT INTO outcome SELECT way, a.n, a.answer FROM unnest(answers) WITH ORDINALITY AS a (answer, n);
    INSERT INTO outcome SELECT way, 1000 + row_number() OVER (ORDER BY a.id), (to_jsonb(a) - '{last_hash,last_at,updated_at}'::text[])::text FROM crm_data.account AS a WHERE a.name LIKE 'Direct%' OR a.code LIKE 'DIRECT%';
    INSERT INTO outcome SELECT way, 2000 + row_number() OVER (ORDER BY o.id), (to_jsonb(o) - '{last_hash,last_at,updated_at}'::text[])::text FROM crm_data.opportunity AS o JOIN crm_data.account AS a ON a.id = o.account_id WHERE a.name LIKE 'Direct%' OR a.code LIKE 'DIRECT%';
    INSERT INTO outcome SELECT way, 3000 + row_number() OVER (ORDER BY c.account_id, c.object, c.record_id, c.version), concat_ws(' ', c.object, c.record_id, c.version, c.op, c.actor, c.fields) FROM crm_data.change AS c WHERE c.xid = pg_current_xact_id();
END $$;
SAVEPOINT before;
SELECT pg_temp.play('directly');
SELECT count(*) FILTER (WHERE n < 1000 AND answer ~ '^[0-9A-Z]{5}') > 50 AS some_refused, count(*) FILTER (WHERE n < 1000 AND answer LIKE '{%') > 50 AS some_written, count(*) FILTER (WHERE n < 1000 AND answer = '') > 50 AS some_hidden, count(*) FILTER (WHERE n > 3000) > 100 AS history FROM outcome;
SELECT md5(string_agg(n || answer, '|' ORDER BY n)) AS directly FROM outcome \gset
ROLLBACK TO before;
CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER by_statement AFTER UPDATE ON crm_data.account FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.nothing();
CREATE TRIGGER by_statement AFTER UPDATE ON crm_data.opportunity FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.nothing();
SELECT pg_temp.play('by statement');
SELECT md5(string_agg(n || answer, '|' ORDER BY n)) = :'directly' AS the_same FROM outcome;
ROLLBACK;
