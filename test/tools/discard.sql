-- A walk through the library's caches and plans, small enough for debug_discard_caches, where every statement takes a thousand times as long. The same
-- script runs with and without it, and both must print the same. Variables: discard (0 or 1), person (a role to make), timing (on or off).
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE :"person" LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.team (code, name) VALUES ('discard', 'Team');
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT :'person', 'Person', id FROM crm_data.team WHERE code = 'discard';
INSERT INTO crm_data.account (code, name, phone, annual_revenue, owner_id, team_id)
SELECT 'DISCARD-' || n, 'Discard ' || n, '1380013800' || n, n * 1000, CASE WHEN n < 3 THEN m.id END, m.team_id
  FROM generate_series(1, 4) AS n, crm_data.member AS m WHERE m.role_name = :'person';
\timing :timing
SET debug_discard_caches = :discard;
-- access: profile compiled, guard folded and not, row policies
SET ROLE :"person";
SELECT crm.me() IS NOT NULL AS known;
SELECT code, phone, annual_revenue FROM crm.account WHERE code LIKE 'DISCARD-%' ORDER BY code;
SET crm.fold_access = off;
SELECT code, phone, annual_revenue FROM crm.account WHERE code LIKE 'DISCARD-%' ORDER BY code;
RESET crm.fold_access;
-- writes through the view and by plain SQL, with history and its chain
UPDATE crm.account SET city = '苏州' WHERE code = 'DISCARD-1' RETURNING code, city;
RESET ROLE;
UPDATE crm_data.account SET name = 'Discard changed' WHERE code = 'DISCARD-2' RETURNING row_version;
SELECT version, op FROM crm_data.change WHERE object = 'account' AND record_id = (SELECT id FROM crm_data.account WHERE code = 'DISCARD-2') ORDER BY version;
SELECT crm.write('account', id, '00000000-0000-4000-8000-00000000d15c', 'web', 1, '{"city": "上海"}') ->> 'state' AS written FROM crm_data.account WHERE code = 'DISCARD-3';
-- odds
SELECT crm.lattice_predict(crm.lattice_fit(ARRAY[(n % 3)::text, (n % 2)::text], (n % 2)::float8, 1.0), ARRAY['1', '1']) AS odds FROM generate_series(1, 30) AS n;
-- match
SELECT crm.company_key('枣庄绿墨精密机械有限公司') AS company;
SELECT verdict FROM crm.check_duplicate('{"name": "没有这家公司", "phone": "13800138000"}');
SET debug_discard_caches = 0;
\timing off
