-- Who sees what: the same query under several logins, and everything that may change between two runs of it. All in one transaction,
-- rolled back at the end: roles, members and rows are the test's own.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE ROLE access_rep LOGIN IN ROLE crm_sales;
CREATE ROLE access_colleague LOGIN IN ROLE crm_sales;
CREATE ROLE access_agent LOGIN IN ROLE crm_service;
CREATE ROLE access_clerk LOGIN IN ROLE crm_finance;
CREATE ROLE access_supervisor LOGIN IN ROLE crm_manager;
CREATE ROLE access_admin LOGIN IN ROLE crm_admin;
CREATE ROLE access_nobody LOGIN;
INSERT INTO crm_data.team (code, name, region) VALUES ('access-head', 'Head', 'access east'), ('access-far', 'Far', 'access west');
INSERT INTO crm_data.team (code, name, region, parent_id)
SELECT 'access-team', 'Team', 'access east', id FROM crm_data.team WHERE code = 'access-head';
INSERT INTO crm_data.member (role_name, full_name, team_id)
SELECT v.role_name, v.role_name, t.id
  FROM (VALUES ('access_rep', 'access-team'), ('access_colleague', 'access-team'), ('access_agent', 'access-far'), ('access_clerk', 'access-far'),
               ('access_supervisor', 'access-head'), ('access_admin', 'access-far')) AS v (role_name, team) JOIN crm_data.team AS t ON t.code = v.team;
INSERT INTO crm_data.account (code, name, phone, email, legal_person, legal_id4, grade, credit_rating, annual_revenue, risk_score, owner_id, team_id)
SELECT 'ACCESS-' || n, 'Access ' || n, '1380013800' || n, 'wang' || n || '@example.com', '王小明', '123' || n, n % 5, 'AA', n * 1000, n,
       m.id, CASE WHEN n < 7 THEN m.team_id ELSE (SELECT id FROM crm_data.team WHERE code = 'access-far') END
  FROM generate_series(1, 8) AS n
       LEFT JOIN crm_data.member AS m ON m.role_name = CASE WHEN n <= 3 THEN 'access_rep' WHEN n <= 6 THEN 'access_colleague' END;

-- the same query, four logins
PREPARE mine AS SELECT code, phone, email, legal_person, legal_id4, credit_rating, annual_revenue, risk_score FROM crm.account WHERE code LIKE 'ACCESS-%' ORDER BY code;
SET ROLE access_rep;
EXECUTE mine;
SELECT crm.me() = id AS me, full_name FROM crm.member WHERE id = crm.me();
SET ROLE access_agent;
EXECUTE mine;
SET ROLE access_clerk;
EXECUTE mine;
SET ROLE access_supervisor;
EXECUTE mine;
SET ROLE access_nobody;
SELECT count(*) FROM crm.account;
RESET ROLE;

-- the plan is folded: a condition of the owner's index for a rep, nothing left of guard where all or nothing is shown
SET LOCAL enable_seqscan = off;
SET ROLE access_rep;
EXPLAIN (COSTS OFF, VERBOSE) SELECT name, credit_rating, legal_id4 FROM crm.account;
SET ROLE access_agent;
EXPLAIN (COSTS OFF, VERBOSE) SELECT name, annual_revenue FROM crm.account WHERE id = 1;
-- and not folded, the result is the same
SET LOCAL crm.fold_access = off;
SELECT count(*), count(annual_revenue), max(phone) FROM crm.account WHERE code LIKE 'ACCESS-%';
SET LOCAL crm.fold_access = on;
SELECT count(*), count(annual_revenue), max(phone) FROM crm.account WHERE code LIKE 'ACCESS-%';

-- a condition that is asked of every row is one call; it answers as what it stands for, also where there is no owner, no team, no member
RESET ROLE;
SAVEPOINT each_row;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
INSERT INTO crm_data.account (code, name, grade) VALUES ('ACCESS-9', 'Nobody''s', 0);
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'row_policy' AND key IN ('crm_manager', 'crm_finance') AND status = 'active';
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver)
SELECT 'row_policy', v.role, 100, jsonb_build_object('role', v.role, 'rows', jsonb_build_array(jsonb_build_object('object', '*', 'verbs', '["read"]'::jsonb, 'scope', v.scope))), 'active', 'a', 'b'
  FROM (VALUES ('crm_manager', 'subtree'), ('crm_finance', 'all')) AS v (role, scope);
CREATE FUNCTION pg_temp.asked(condition text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE 'SELECT string_agg(code, '' '' ORDER BY code) FROM crm.account WHERE code LIKE ''ACCESS-%'' AND ' || condition INTO answer;
    RETURN answer;
END $$;
-- (newer servers sort before the aggregate)
CREATE FUNCTION pg_temp.filter_of(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE l text; BEGIN FOR l IN EXECUTE 'EXPLAIN (COSTS OFF) ' || q LOOP IF l ~ 'Filter:' THEN RETURN trim(l); END IF; END LOOP; END $$;
PREPARE all_rows AS SELECT string_agg(code, ' ' ORDER BY code) FROM crm.account WHERE code LIKE 'ACCESS-%';
SET LOCAL plan_cache_mode = force_generic_plan;
SET ROLE access_rep;
SELECT pg_temp.filter_of('EXECUTE all_rows');
EXECUTE all_rows;
SET ROLE access_supervisor;
SELECT pg_temp.filter_of('EXECUTE all_rows');
EXECUTE all_rows;
SET ROLE access_clerk;
EXECUTE all_rows;
EXPLAIN (COSTS OFF) SELECT FROM crm.account WHERE crm.me() = owner_id OR NOT team_id = ANY (crm.my_teams('region'));
SELECT v.a, pg_temp.asked(v.a) = pg_temp.asked(v.b) AS same, pg_temp.asked(v.a) AS codes
  FROM (VALUES ('owner_id = crm.me() OR grade = 1', 'owner_id = (SELECT crm.me()) OR grade = 1'), ('NOT (owner_id = crm.me())', 'NOT (owner_id = (SELECT crm.me()))'), ('(owner_id = crm.me()) IS NULL', '(owner_id = (SELECT crm.me())) IS NULL'),
               ('team_id = ANY (crm.my_teams())', 'team_id = ANY ((SELECT crm.my_teams())::bigint[])'), ('NOT (team_id = ANY (crm.my_teams(''team'')))', 'NOT (team_id = ANY ((SELECT crm.my_teams(''team''))::bigint[]))'),
               ('(team_id = ANY (crm.my_teams())) IS NULL', '(team_id = ANY ((SELECT crm.my_teams())::bigint[])) IS NULL')) AS v (a, b);
RESET ROLE;
-- no team, and then no member
UPDATE crm_data.member SET team_id = NULL WHERE role_name = 'access_clerk';
SET ROLE access_clerk;
SELECT v.a, pg_temp.asked(v.a) IS NOT DISTINCT FROM pg_temp.asked(v.b) AS same, pg_temp.asked(v.a) AS codes
  FROM (VALUES ('NOT (team_id = ANY (crm.my_teams()))', 'NOT (team_id = ANY ((SELECT crm.my_teams())::bigint[]))')) AS v (a, b);
RESET ROLE;
UPDATE crm_data.member SET role_name = NULL WHERE role_name IN ('access_clerk', 'access_supervisor');
SET ROLE access_clerk;
SELECT v.a, pg_temp.asked(v.a) IS NOT DISTINCT FROM pg_temp.asked(v.b) AS same, pg_temp.asked(v.a) AS codes
  FROM (VALUES ('(owner_id = crm.me()) IS NULL', '(owner_id = (SELECT crm.me())) IS NULL')) AS v (a, b);
SET ROLE access_supervisor;
EXECUTE all_rows;
RESET ROLE;
ROLLBACK TO each_row;
DEALLOCATE all_rows;
SELECT crm._in_my_teams(1, 4) AS no_scope, crm._in_my_teams(1, NULL) AS none, crm._in_my_teams(NULL, 2) AS no_team, crm._is_me(NULL) AS nobody;
-- what is asked of rows before it is known whether they may be seen raises nothing: each of these was looked at for that
SELECT p.oid::regprocedure AS leakproof FROM pg_proc AS p WHERE p.pronamespace = 'crm'::regnamespace AND p.proleakproof ORDER BY p.proname COLLATE "C";

-- a search for one that is nearly unique is one of the index, and then only asks whether the value is shown; a mask that comes later is found again
SAVEPOINT search;
SET LOCAL enable_bitmapscan = off;
SET LOCAL plan_cache_mode = force_generic_plan;
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'field_policy' AND key = 'crm_finance' AND status = 'active';
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver)
VALUES ('field_policy', 'crm_finance', 100, '{"role": "crm_finance", "default": "always", "read": {"fields": {"account.phone": "team"}}}', 'active', 'a', 'b');
UPDATE crm_data.account SET owner_id = m.id FROM crm_data.member AS m WHERE m.role_name = 'access_clerk' AND code = 'ACCESS-7';
CREATE INDEX access_phone_idx ON crm_data.account (phone);
PREPARE by_phone(text) AS SELECT code FROM crm.account WHERE phone = $1 AND code LIKE 'ACCESS-%';
PREPARE partner(text) AS SELECT a.code, b.code AS same FROM crm.account AS a LEFT JOIN crm.account AS b ON b.id = a.id AND b.grade < 9 WHERE b.phone = $1;
SET ROLE access_clerk;
EXPLAIN (COSTS OFF) EXECUTE by_phone('13800138007');
EXECUTE by_phone('13800138007');
EXECUTE by_phone('13800138001');
EXECUTE by_phone('138****8001');
EXECUTE partner('13800138007');
EXECUTE partner('13800138001');
SELECT count(*) FROM crm.account WHERE phone = '13800138007' AND NOT (phone = '13800138001') AND code LIKE 'ACCESS-%';
RESET ROLE;
UPDATE crm_data.member SET hired_at = current_date WHERE role_name = 'access_clerk';
SET ROLE access_clerk;
EXECUTE by_phone('13800138007');
EXECUTE by_phone('13800138008');
EXECUTE by_phone('138****8008');
RESET ROLE;
UPDATE crm_data.member SET hired_at = '-infinity' WHERE role_name = 'access_clerk';
UPDATE crm_data.config SET body = body || '{"masks": {"account.phone": "phone"}}' WHERE kind = 'field_policy' AND key = 'crm_finance' AND version = 100;
SET ROLE access_clerk;
EXECUTE by_phone('13800138007');
EXECUTE by_phone('138****8001');
RESET ROLE;
ROLLBACK TO search;
DEALLOCATE by_phone;
DEALLOCATE partner;

-- a hidden value answers no question: conditions, errors, leaky functions, order, groups
SET ROLE access_agent;
CREATE FUNCTION pg_temp.leak(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'leak: %', value; RETURN true; END $$;
SELECT count(*) FROM crm.account WHERE code LIKE 'ACCESS-%' AND annual_revenue > 0;
SELECT count(*) FROM crm.account WHERE code LIKE 'ACCESS-%' AND phone = '13800138001';
SELECT count(*) FROM crm.account WHERE code = 'ACCESS-1' AND 1 / (CASE WHEN annual_revenue > 0 THEN 0 ELSE 1 END) = 1;
SELECT count(*) FROM crm.account WHERE code = 'ACCESS-1' AND pg_temp.leak(legal_id4);
SELECT to_jsonb(a)->>'annual_revenue' AS revenue, to_jsonb(a)->>'phone' AS phone FROM crm.account AS a WHERE code = 'ACCESS-1';
SET ROLE access_rep;
SELECT count(*) FROM crm.account WHERE code <> 'ACCESS-1' AND code <> 'ACCESS-2' AND pg_temp.leak(code);
SELECT a.code FROM crm.account AS a LEFT JOIN crm.account AS b ON a.id = b.id AND pg_temp.leak(b.legal_id4) WHERE a.code LIKE 'ACCESS-%' ORDER BY 1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM crm.account;
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM crm_data.account;
\echo :LAST_ERROR_SQLSTATE
SET crm.identity = 'member 1';
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;

-- a policy changes: plans follow, in this transaction and after going back
SAVEPOINT before_policy;
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'field_policy' AND key = 'crm_finance' AND status = 'active';
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver)
SELECT kind, key, 100, jsonb_set(body, '{read,fields,account.annual_revenue}', '"never"'), 'active', 'a', 'b' FROM crm_data.config WHERE kind = 'field_policy' AND key = 'crm_finance' AND version = 1;
SET ROLE access_clerk;
SELECT count(annual_revenue) FROM crm.account WHERE code LIKE 'ACCESS-%';
EXECUTE mine;
RESET ROLE;
ROLLBACK TO before_policy;
SET ROLE access_clerk;
SELECT count(annual_revenue) FROM crm.account WHERE code LIKE 'ACCESS-%';
RESET ROLE;

-- what is computed from a field is shown no better than the field: here the normal form of a number that is hidden
SAVEPOINT before_inputs;
SET ROLE access_agent;
SELECT count(phone), count(phone_norm) FROM crm.account WHERE code LIKE 'ACCESS-%';
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{read,fields,account.phone}', '"never"') WHERE kind = 'field_policy' AND key = 'crm_service' AND status = 'active';
SET ROLE access_agent;
SELECT count(phone), count(phone_norm) FROM crm.account WHERE code LIKE 'ACCESS-%';
RESET ROLE;
ROLLBACK TO before_inputs;
-- every generated column says what it is made of
SELECT c.relname, a.attname, i.attname AS input
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid AND c.relnamespace = 'crm_data'::regnamespace
       JOIN pg_attrdef AS e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
       JOIN pg_depend AS d ON d.classid IN ('pg_class'::regclass, 'pg_attrdef'::regclass) AND d.objid IN (a.attrelid, e.oid) AND d.objsubid IN (a.attnum, 0) AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
       JOIN pg_attribute AS i ON i.attrelid = d.refobjid AND i.attnum = d.refobjsubid AND i.attnum <> a.attnum
       JOIN crm_data.field AS f ON f.object = c.relname AND f.name = a.attname
 WHERE a.attgenerated <> '' AND i.attname <> ALL (coalesce(f.inputs, '{}'));

-- rights that end with the clock end inside a transaction; a plan that is kept is refused at first, and then made anew
SAVEPOINT before_end;
UPDATE crm_data.access_profile SET valid_to = clock_timestamp() + interval '2 seconds' WHERE role_name = 'crm_finance';
SET ROLE access_clerk;
PREPARE until AS SELECT count(annual_revenue) FROM crm.account WHERE code LIKE 'ACCESS-%';
EXECUTE until;
SELECT pg_sleep(2.1);
EXECUTE until;
EXECUTE until;
RESET ROLE;
DEALLOCATE until;
ROLLBACK TO before_end;

-- memberships: revoked, and inherited over two steps and over three
REVOKE crm_finance FROM access_clerk;
GRANT crm_bi TO access_clerk;
SET ROLE access_clerk;
EXECUTE mine;
RESET ROLE;
CREATE ROLE access_one; CREATE ROLE access_two;
GRANT crm_admin TO access_two; GRANT access_two TO access_one; GRANT access_one TO access_nobody;
SET ROLE access_nobody;
SELECT count(*), crm.has_role('crm_admin') FROM crm.account WHERE code LIKE 'ACCESS-%';
RESET ROLE;
GRANT access_two TO access_nobody;
SET ROLE access_nobody;
SELECT count(*), crm.has_role('crm_admin') FROM crm.account WHERE code LIKE 'ACCESS-%';
RESET ROLE;
REVOKE access_two FROM access_nobody;
-- how deep is too deep is a setting
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '3') WHERE kind = 'setting' AND key = 'role.max_inherit_depth';
SET ROLE access_nobody;
SELECT count(*), crm.has_role('crm_admin') FROM crm.account WHERE code LIKE 'ACCESS-%';
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '0') WHERE kind = 'setting' AND key = 'role.max_inherit_depth';
SET ROLE access_admin;
SELECT count(*), crm.has_role('crm_admin') FROM crm.account WHERE code LIKE 'ACCESS-%';
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '10') WHERE kind = 'setting' AND key = 'role.max_inherit_depth';
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '2') WHERE kind = 'setting' AND key = 'role.max_inherit_depth';
REVOKE access_one FROM access_nobody;

-- several roles: the stricter explicit rule wins, and the other way when least privilege is off
GRANT crm_admin, crm_service TO access_nobody;
SET ROLE access_nobody;
SELECT phone, annual_revenue FROM crm.account WHERE code = 'ACCESS-1';
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', 'false') WHERE kind = 'setting' AND key = 'access.least_privilege';
SET ROLE access_nobody;
SELECT phone, annual_revenue FROM crm.account WHERE code = 'ACCESS-1';
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', 'true') WHERE kind = 'setting' AND key = 'access.least_privilege';

-- keys of the custom fields: each has rules of its own, the column only those that everybody has
INSERT INTO crm_data.field (object, name, type, label, purpose, class, write_class, custom)
VALUES ('account', 'solar_kw', 'integer', '{"en": "Solar power"}', 'Sizing', 'custom', 'text', true), ('account', 'margin', 'numeric', '{"en": "Margin"}', 'Pricing', 'risk', 'text', true);
UPDATE crm_data.account SET attrs = '{"solar_kw": 12, "margin": 0.3, "note": "free"}' WHERE code = 'ACCESS-1';
SET ROLE access_rep;
SELECT attrs FROM crm.account WHERE code = 'ACCESS-1';
SET ROLE access_admin;
SELECT attrs, attrs ? 'margin' AS has FROM crm.account WHERE code = 'ACCESS-1';
RESET ROLE;
GRANT crm_steward TO access_colleague; REVOKE crm_sales FROM access_colleague;
SET ROLE access_colleague;
SELECT attrs, attrs ? 'margin' AS has, to_jsonb(a)->'attrs' AS whole FROM crm.account AS a WHERE code = 'ACCESS-1';
SELECT count(*) FROM crm.account WHERE attrs @> '{"margin": 0.3}';
UPDATE crm.account SET attrs = attrs || '{"solar_kw": 13}' WHERE code = 'ACCESS-1';
RESET ROLE;
REVOKE crm_steward FROM access_colleague; GRANT crm_sales TO access_colleague;

-- the first week: others' rows are blurred
UPDATE crm_data.member SET hired_at = current_date WHERE role_name IN ('access_supervisor', 'access_admin', 'access_rep');
SET ROLE access_supervisor;
SELECT code, name, phone, annual_revenue FROM crm.account WHERE code LIKE 'ACCESS-%' ORDER BY code;
SET ROLE access_rep;
SELECT code, name, phone, annual_revenue FROM crm.account WHERE code LIKE 'ACCESS-%' ORDER BY code;
RESET ROLE;
UPDATE crm_data.member SET hired_at = current_date - 8 WHERE role_name = 'access_supervisor';
SET ROLE access_supervisor;
SELECT code, name, phone, annual_revenue FROM crm.account WHERE code = 'ACCESS-1' ORDER BY code;
-- how long it lasts is a setting, and a plan that is kept follows it, also back
PREPARE newcomer AS SELECT phone, annual_revenue FROM crm.account WHERE code = 'ACCESS-1';
EXECUTE newcomer;
RESET ROLE;
SAVEPOINT before_setting;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '30') WHERE kind = 'setting' AND key = 'sandbox.days';
SET ROLE access_supervisor;
EXECUTE newcomer;
SELECT phone, annual_revenue FROM crm.account WHERE code = 'ACCESS-1';
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '"8"') WHERE kind = 'setting' AND key = 'sandbox.days';
SET ROLE access_supervisor;
EXECUTE newcomer;
RESET ROLE;
ROLLBACK TO before_setting;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '-1') WHERE kind = 'setting' AND key = 'sandbox.days';
\echo :LAST_ERROR_SQLSTATE
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '"a week"') WHERE kind = 'setting' AND key = 'sandbox.days';
-- whoever has left sees nothing
UPDATE crm_data.member SET hired_at = current_date - 8, left_at = current_date WHERE role_name = 'access_supervisor';
SET ROLE access_supervisor;
SELECT count(*) FROM crm.account;
RESET ROLE;

-- rank and grade: consultants below A, seniors across teams from B
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'row_policy' AND key = 'crm_sales' AND status = 'active';
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver)
VALUES ('row_policy', 'crm_sales', 100, '{"role": "crm_sales", "rows": [{"object": "*", "verbs": ["read"], "scope": "own", "grade_max": 3}, {"object": "*", "verbs": ["read"], "scope": "all", "grade_min": 3, "rank_min": 5}]}', 'active', 'a', 'b');
UPDATE crm_data.config SET body = jsonb_set(body, '{ops}', '[{"object": "*", "ops": ["read"], "scope": "all"}]') WHERE kind = 'permission' AND key = 'crm_sales' AND status = 'active';
SET ROLE access_colleague;
SELECT code, grade FROM crm.account WHERE code LIKE 'ACCESS-%' ORDER BY code;
RESET ROLE;
UPDATE crm_data.member SET rank = 6 WHERE role_name = 'access_colleague';
SET ROLE access_colleague;
SELECT code, grade FROM crm.account WHERE code LIKE 'ACCESS-%' ORDER BY code;
RESET ROLE;

-- bad input
\set try 'INSERT INTO crm_data.config (kind, key, version, body, status, author) VALUES '
:try ('field_policy', 'x', 1, '{"role": "access_missing"}', 'proposed', 'a');
\echo :LAST_ERROR_SQLSTATE
:try ('field_policy', 'x', 1, '{"role": "crm_bi", "read": {"classes": {"money": "sometimes"}}}', 'proposed', 'a');
:try ('field_policy', 'x', 1, '{"role": "crm_bi", "read": {"fields": {"account.nothing": "never"}}}', 'proposed', 'a');
:try ('field_policy', 'x', 1, '{"role": "crm_bi", "read": {"classes": {"nothing": "never"}}}', 'proposed', 'a');
:try ('field_policy', 'x', 1, '{"role": "crm_bi", "masks": {"money": "paint"}}', 'proposed', 'a');
:try ('row_policy', 'x', 1, '{"role": "crm_bi", "rows": [{"object": "account", "verbs": ["read"]}]}', 'proposed', 'a');
:try ('row_policy', 'x', 1, '{"role": "crm_bi", "rows": [{"object": "account", "verbs": ["read"], "scope": "everything"}]}', 'proposed', 'a');
:try ('row_policy', 'x', 1, '{"role": "crm_bi", "rows": [{"object": "account", "verbs": ["read"], "scope": "all", "grade_min": 5, "grade_max": 12}]}', 'proposed', 'a');
:try ('permission', 'x', 1, '{"role": "crm_bi", "ops": [{"object": "attachment", "ops": ["delete"]}]}', 'proposed', 'a');
:try ('permission', 'x', 1, '{"role": "crm_bi", "ops": [{"object": "attachment", "ops": ["shred"], "scope": "all"}]}', 'proposed', 'a');
-- a slip of the pen that would be a rule for nothing, and what has another form; all of it at once
:try ('row_policy', 'x', 1, '{"role": "crm_bi", "rows": [{"object": "acount", "verbs": ["read"], "scope": "own"}]}', 'proposed', 'a');
:try ('field_policy', 'x', 1, '{"role": "crm_bi", "raed": {"fields": {"account.phone": "never"}}}', 'proposed', 'a');
:try ('permission', 'x', 1, '{"role": "crm_bi", "ops": [], "functions": ["confgure"]}', 'proposed', 'a');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM crm._policy_problems('field_policy', '{"role": "nobody here", "default": "maybe", "read": {"fields": {"account.moon": "always", "account.phone": "sometimes", "account.name": null}, "classes": {"nope": "never"}, "rows": {}}, "write": [], "masks": {"phnoe": "phone", "money": "sparkle"}, "valid_to": "some day"}');
SELECT * FROM crm._policy_problems('row_policy', '{"role": "crm_bi", "rows": [7, {"object": "account", "verbs": "read", "scope": "galaxy", "grade_min": "high", "rank_min": 5, "rank_max": 2, "color": 1}]}');
SELECT * FROM crm._policy_problems('permission', '{"ops": {}, "functions": {}}');
SELECT * FROM crm._policy_problems('permission', '[]');
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'permission' AND key = 'crm_admin' AND status = 'active';
\echo :LAST_ERROR_SQLSTATE
SELECT crm.my_teams('galaxy');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- every table and partition has its policies, every view its owner, and the compiled profiles are what a new compilation gives
SELECT c.relname FROM pg_class AS c
 WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p')
   AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'engine'))
 ORDER BY 1;
SELECT p.polname, p.polrelid::regclass FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
 WHERE c.relnamespace = 'crm_data'::regnamespace AND p.polroles && ARRAY[0::oid] ORDER BY 1, 2;
SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'v' AND c.relowner <> 'crm_gate'::regrole ORDER BY 1;
SELECT crm._compile_access() AS changed;
-- every table that has a customer's owner, team and grade is one that they are handed down to
SELECT c.relname FROM pg_class AS c
 WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND (SELECT count(*) FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname IN ('account_id', 'owner_id', 'team_id', 'grade') AND NOT a.attisdropped) = 4
   AND NOT EXISTS (SELECT FROM pg_proc AS p WHERE p.oid = 'crm._hand_down_owner'::regproc AND position(format('UPDATE crm_data.%I AS t', c.relname) IN p.prosrc) > 0)
 ORDER BY 1;
