-- Configuration: drafts, validation, rehearsal, four eyes, canary, rollback, bundles. The accident of the one changed field cannot happen.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE conf_ann LOGIN IN ROLE crm_admin;
CREATE ROLE conf_bob LOGIN IN ROLE crm_admin;
CREATE ROLE conf_sam LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('conf_ann', 'Conf Ann'), ('conf_bob', 'Conf Bob'), ('conf_sam', 'Conf Sam');
-- what is wrong with a body
SELECT severity, path, regexp_replace(message, 'syntax error.*', 'syntax error') AS message FROM crm.config_validate('rule', '{"on": "timer.account", "when": "$ ? (@.x == ", "settings": {"n": "no.such"}, "window": {"count": 2}, "then": [{"do": "dance"}, {"do": "task", "due": "soon"}]}');
SELECT * FROM crm.config_validate('risk_signal', '{"on": "timer.opportunity", "when": "$.x", "then": []}');
SELECT * FROM crm.config_validate('assignment', '{"routes": [{"name": "a", "when": "$ ? (@.region != null)", "to": {}}]}');
SELECT severity, path, regexp_replace(message, 'syntax error.*', 'syntax error') AS message FROM crm.config_validate('stage', '{"actions": [{"key": "a", "mandatory": true, "due": "-3 days"}, {"key": "a", "mandatory": true, "evidence": "$["}]}');
SELECT * FROM crm.config_validate('picklist', '{"values": [{"key": "a"}, {"key": "a"}]}');
SELECT * FROM crm.config_validate('metric', '{"fact": "moon"}');
SELECT * FROM crm.config_validate('setting', '{}');
SELECT * FROM crm.config_validate('field_map', '{"object": "account", "fields": [{"field": "employees", "source_type": "text"}, {"field": "phone", "source_type": "bigint"}]}');
SELECT * FROM crm.config_validate('field_map', '{"object": "moon", "fields": []}');
SELECT * FROM crm.config_validate('field_map', '{"object": "account", "fields": ["x", {"field": "moon"}, {"field": "employees", "source_type": "no such type("}, {"field": "founded_year", "source_type": "integer"}, {"field": "employees", "source_type": "smallint"}, {"field": "annual_revenue", "source_type": "numeric(20,4)"}, {"field": "city", "samples": "x"}, {"field": "employees", "source_type": "NUMBER(10)"}, {"field": "phone", "source_type": "VARCHAR2(20)"}]}');
-- sample values on their way through the column: what is lost is told, never a value
SELECT * FROM crm.config_validate('field_map', '{"object": "account", "fields": [{"field": "employees", "samples": ["12", "0755", 7.5, "+3", "8 people", "99999999999", "", null]}, {"field": "annual_revenue", "samples": ["1000.25", "1000.255", "1e3", 1.50]},
    {"field": "next_renewal_on", "samples": ["2026-01-31", "2026-01-31 10:00", "31.01.2026 x"]}, {"field": "last_contact_at", "samples": ["2026-01-31 10:00+08", "2026-01-31T10:00:00Z", "2026-01-31 10:00", "2026-01-31", "2026-01-31 10:00:00.1234567+08"]}, {"field": "phone", "samples": ["0755-1234"]}]}');
BEGIN;
-- and of what the systems have sent already
INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, state, source_ts)
SELECT s.id, 'map ' || n, 'record', jsonb_build_object('staff', CASE WHEN n % 5 = 0 THEN '0' ELSE '' END || (7431 + n), 'since', 1990 + n), sha256(convert_to(n::text, 'UTF8')), 'applied', now() FROM crm_data.source_system AS s, generate_series(1, 10) AS n WHERE s.name = 'marketing';
SELECT * FROM crm.config_validate('field_map', '{"object": "account", "systems": ["marketing", "erp"], "fields": [{"field": "employees", "marketing": "staff", "erp": "staff"}, {"field": "founded_year", "marketing": "since"}]}');
SELECT crm.config_put('field_map', 'map_test', '{"object": "account", "systems": ["marketing"], "fields": [{"field": "employees", "marketing": "staff"}]}') AS version;
SAVEPOINT s;
SELECT crm.config_propose('field_map', 'map_test', 1);
ROLLBACK TO s;
DELETE FROM crm_data.inbox WHERE external_id LIKE 'map %' AND payload ->> 'staff' LIKE '0%';
SELECT crm.config_propose('field_map', 'map_test', 1);
ROLLBACK;
SELECT * FROM crm.config_validate('permission', '{"role": "crm_sales"}');
SELECT * FROM crm.config_validate('notification', '{"topics": {"task.overdue": null, "report.*": {"channel": "email"}, "*": "pigeon"}, "fallback": {"sms": ["app", 7], "owl": "email"}}');
SELECT * FROM crm.config_validate('notification', '{"topics": ["*"], "fallback": "email"}');
SELECT * FROM crm.config_validate('notification', '{"topics": {"report.*": "email"}}');
SELECT * FROM crm.config_validate('quality_rule', '{"object": "account", "field": "phone", "when": {"x": null}}');
SELECT crm._config_problem('setting', 'snapshot.cron', '*', '{"value": "2nd 00:00"}'), crm._config_problem('setting', 'snapshot.cron', '*', '{"value": "1st 00:00"}') AS as_it_is;
SELECT * FROM crm.config_validate('approval_flow', '{"flows": [{"kind": "delete", "object": "contract", "approver": "crm_legal", "when": "$"}, 7, {"kind": "*", "object": "*", "approver": "nobody"}]}');
SELECT * FROM crm.config_validate('approval_flow', '{"flows": [{"kind": "delete", "object": "*", "approver": "crm_legal"}]}');
SELECT v.kind, v.object, crm._approver_role(v.kind, v.object) FROM (VALUES ('delete', 'contract'), ('delete', 'attachment'), ('bulk', 'account'), ('export', 'account'), ('delete', 'account')) AS v (kind, object);
SELECT * FROM crm.config_validate('horoscope', '{}');
SELECT * FROM crm.config_validate('rule', '[]');
-- everything that is shipped is valid
SELECT c.kind, c.key, v.* FROM crm_data.config AS c CROSS JOIN LATERAL crm.config_validate(c.kind, c.body) AS v WHERE c.status = 'active' AND v.severity = 'error' ORDER BY 1, 2;

-- a draft, a proposal, and a second person
SET ROLE conf_ann;
SELECT crm.config_put('setting', 'board.top_todos', '{"value": 5, "unit": "tasks"}', 'five are better') AS version;
SELECT crm.config_approve('setting', 'board.top_todos', 2);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.config_propose('setting', 'board.top_todos', 2);
SELECT crm.config_approve('setting', 'board.top_todos', 2);
\echo :LAST_ERROR_SQLSTATE
SET ROLE conf_bob;
SELECT crm.config_approve('setting', 'board.top_todos', 2);
RESET ROLE;
SELECT crm._setting('board.top_todos', '0') AS in_force;
SELECT version, status, author, approver, lower(valid) IS NULL AS since_ever, upper(valid) IS NULL AS open FROM crm.config_list('setting') WHERE key = 'board.top_todos' ORDER BY version;
SELECT crm.config_diff('setting', 'board.top_todos', 1, 2) - 'compare' - 'source' - 'description' - 'min' - 'max';
-- a figure out of its range goes nowhere
SET ROLE conf_ann;
SELECT crm.config_put('setting', 'challenge.attempts', '{"value": 0}') AS version;
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT crm.config_propose('setting', 'challenge.attempts', 2);
\set VERBOSITY terse
SELECT crm.config_put('setting', 'challenge.attempts', '{"value": 100}') AS version;
SELECT crm.config_propose('setting', 'challenge.attempts', 3);
RESET ROLE;
DELETE FROM crm_data.config WHERE kind = 'setting' AND key = 'challenge.attempts' AND version > 1;
-- a version never changes
SET ROLE crm_owner;
UPDATE crm_data.config SET body = '{}' WHERE kind = 'setting' AND key = 'board.top_todos';
RESET ROLE;
-- people without the right
SET ROLE conf_sam;
SELECT crm.config_put('setting', 'board.top_todos', '{"value": 1}');
RESET ROLE;

-- the accident: province and city became province and district, and 87 of 100 leads have no district
INSERT INTO crm_data.lead (source, name, province, city, district, client_key) SELECT 'conf', 'Conf lead ' || i, '浙江省', '杭州市', CASE WHEN i <= 13 THEN '西湖区' END, 'conf ' || i FROM generate_series(1, 100) AS i;
SET ROLE conf_ann;
SELECT crm.config_put('assignment', 'conf', '{"object": "lead", "routes": [{"name": "city", "when": "$ ? (@.province != null && @.city != null)", "to": {"match": []}}, {"name": "default", "when": "$", "to": {"match": []}}]}') AS version;
SELECT crm.config_propose('assignment', 'conf', 1);
SET ROLE conf_bob;
SELECT crm.config_approve('assignment', 'conf', 1);
SET ROLE conf_ann;
SELECT crm.config_put('assignment', 'conf', '{"object": "lead", "routes": [{"name": "district", "when": "$ ? (@.province != null && @.district != null)", "to": {"match": []}}, {"name": "default", "when": "$", "to": {"match": []}}]}') AS version;
SELECT (s ->> 'coverage_before')::numeric > (s ->> 'coverage')::numeric AS loses, (s ->> 'loss')::numeric > 2 AS much, s -> 'blocked' AS blocked, jsonb_array_length(s -> 'examples') AS examples FROM crm.config_simulate('assignment', 'conf', 2) AS s;
SELECT crm.config_propose('assignment', 'conf', 2);
\echo :LAST_ERROR_SQLSTATE
-- and without a last route it is not even valid
SELECT crm.config_put('assignment', 'conf', '{"object": "lead", "routes": [{"name": "district", "when": "$ ? (@.district != null)", "to": {"match": []}}]}') AS version;
SELECT crm.config_propose('assignment', 'conf', 3);
\echo :LAST_ERROR_SQLSTATE
-- a better one is tried on a share first
SELECT crm.config_put('assignment', 'conf', '{"object": "lead", "routes": [{"name": "district", "when": "$ ? (@.district != null)", "to": {"match": []}}, {"name": "city", "when": "$ ? (@.province != null && @.city != null)", "to": {"match": []}}, {"name": "default", "to": {"match": []}}]}') AS version;
SELECT crm.config_propose('assignment', 'conf', 4);
SET ROLE conf_bob;
SELECT crm.config_canary('assignment', 'conf', 4, 60);
SELECT crm.config_canary('assignment', 'conf', 4, 20, '1 hour') > now() AS until;
SELECT crm.config_impact('assignment', 'conf', 4) -> 'used_by' AS used_by;
RESET ROLE;
SELECT count(*) BETWEEN 120 AND 280 AS a_fifth, count(*) = count(*) FILTER (WHERE (crm._config_for('assignment', 'conf', i::text)).version = 4) AS stable
  FROM generate_series(1, 1000) AS i WHERE (crm._config_for('assignment', 'conf', i::text)).version = 4;
-- time is over without an anomaly: promoted; with one: taken back, with an alert
SELECT crm._job_config_canary(now()) AS too_early;
SELECT crm._job_config_canary(now() + interval '2 hours') AS promoted;
SELECT version, status FROM crm.config_list('assignment') WHERE key = 'conf' ORDER BY version;
SET ROLE conf_ann;
SELECT crm.config_put('assignment', 'conf', '{"object": "lead", "routes": [{"name": "city", "when": "$ ? (@.city != null)", "to": {"match": []}}, {"name": "default", "to": {"match": []}}]}') AS version;
SELECT crm.config_propose('assignment', 'conf', 5);
SET ROLE conf_bob;
SELECT crm.config_canary('assignment', 'conf', 5) > now() + interval '71 hours' AS until;
RESET ROLE;
SELECT crm._config_count(id, true) FROM crm_data.config WHERE kind = 'assignment' AND key = 'conf' AND version = 5;
SELECT crm._job_config_canary(now()) AS taken_back;
SELECT version, status, counters FROM crm.config_list('assignment') WHERE key = 'conf' AND version >= 4 ORDER BY version;
SELECT message FROM crm_data.alert WHERE kind = 'canary_failed';

-- back by version and by instant
SET ROLE conf_ann;
SELECT crm.config_rollback('assignment', 'conf', 1) AS version;
SELECT crm.config_rollback('assignment', 'conf', 2);
SELECT version, status, note FROM crm.config_list('assignment') WHERE key = 'conf' AND version = 6;
SELECT crm.config_rollback_to('2020-01-01', '{setting,assignment}') AS changed;
RESET ROLE;
SELECT crm._setting('board.top_todos', '0') AS as_shipped;
SELECT count(*) AS not_there_then FROM crm_data.config WHERE kind = 'assignment' AND key = 'conf' AND status = 'active';
SELECT count(*) = (SELECT count(*) FROM crm_data.config WHERE status = 'active') AS now_is_now FROM crm.config_as_of(now());

-- bundles
SET ROLE conf_ann;
SELECT b ->> 'format' AS format, jsonb_array_length(b -> 'items') AS items FROM crm.config_export('{touch_preset/%,flag/auto_merge}') AS b;
SELECT crm.config_export('{flag/nothing}');
SELECT crm.config_import(crm.config_export('{touch_preset/%}')) AS nothing_new;
SELECT crm.config_import('{"format": "crm-config-9", "items": []}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.config_import(jsonb_set(crm.config_export('{flag/auto_merge}'), '{items,0,body,on}', 'true'));
-- installations that share a key sign for each other, and take nothing else; a short key and a long one, as HMAC-SHA256 has it
BEGIN;
SELECT crm.config_export('{flag/auto_merge}') ? 'signature' AS signed;
RESET ROLE;
INSERT INTO crm_data.secret (name, value) VALUES ('bundle', decode(repeat('aa', 131), 'hex'));
SELECT crm._bundle_signature('[]') = 'e054e92545fc7c506b9967d45635383f6333251cf819c8c97e3ee39cd66c15ec' AS long_key;
UPDATE crm_data.secret SET value = decode(repeat('aa', 32), 'hex') WHERE name = 'bundle';
SELECT crm._bundle_signature('[]') = '58b09ce78c040111383ba5d07b41adbd3ce0702a63a923418ae5791c4fe3bfd7' AS short_key;
SELECT crm.config_import(crm.config_export('{touch_preset/%}')) AS nothing_new;
SAVEPOINT s;
SELECT crm.config_import(crm.config_export('{touch_preset/%}') - 'signature');
ROLLBACK TO s;
SELECT crm.config_import(crm.config_export('{touch_preset/%}') || '{"signature": "00"}');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
WITH i AS (SELECT '[{"kind": "flag", "key": "conf", "scope": "*", "body": {"on": true}}, {"kind": "rule", "key": "conf", "scope": "*", "body": {"on": "x"}}]'::jsonb AS items)
SELECT crm.config_import(jsonb_build_object('format', 'crm-config-1', 'items', items, 'digest', encode(sha256(convert_to(items::text, 'UTF8')), 'hex'))) FROM i;
SELECT count(*) AS nothing_half FROM crm.config_list() WHERE key = 'conf' AND kind IN ('flag', 'rule');
WITH i AS (SELECT '[{"kind": "flag", "key": "conf", "scope": "*", "body": {"on": true}}]'::jsonb AS items)
SELECT crm.config_import(jsonb_build_object('format', 'crm-config-1', 'items', items, 'digest', encode(sha256(convert_to(items::text, 'UTF8')), 'hex'))) FROM i;
-- tags: a manager adds one without anybody else, and it is there at once; a person gives no other, an administrator neither
RESET ROLE;
CREATE ROLE conf_max LOGIN IN ROLE crm_manager;
INSERT INTO crm_data.member (role_name, full_name, locale) VALUES ('conf_max', 'Conf Max', 'zh');
INSERT INTO crm_data.account (code, name, owner_id, tags) SELECT 'CONF-TAG', 'Conf Tag', id, '{old and wild}' FROM crm_data.member WHERE full_name = 'Conf Sam';
SET ROLE conf_sam;
UPDATE crm.account SET tags = '{屋顶光伏}' WHERE code = 'CONF-TAG';
SELECT crm.tag_put('屋顶光伏');
SET ROLE conf_max;
SELECT crm.tag_put('屋顶光伏', '{"en": "Rooftop", "zh": "屋顶光伏"}'), crm.tag_put('屋顶光伏');
SELECT * FROM crm.choices('tag') WHERE key = '屋顶光伏';
SELECT version, status, approver FROM crm.config_list('tag') WHERE key = '屋顶光伏';
SELECT crm.tag_put(' '), crm.tag_put('x', '[]');
SET ROLE conf_sam;
UPDATE crm.account SET tags = '{屋顶光伏,old and wild}' WHERE code = 'CONF-TAG' RETURNING tags;
INSERT INTO crm.account (name, tags) VALUES ('Conf Other', '{never heard}');
-- whether another customer carries one is not to be learned by trying
RESET ROLE;
INSERT INTO crm_data.account (code, name, tags) VALUES ('CONF-HID', 'Conf Hidden', '{of a hidden one}');
SET ROLE conf_sam;
UPDATE crm.account SET tags = '{old and wild,of a hidden one}' WHERE code = 'CONF-TAG';
SET ROLE conf_max;
SELECT crm.tag_put('屋顶光伏', NULL, false);
SELECT count(*) AS chosen_no_more FROM crm.choices('tag') WHERE key = '屋顶光伏';
SELECT crm.tag_put('屋顶光伏', NULL, false);
SELECT crm.tag_put('高意向', NULL, false);
RESET ROLE;
SELECT tags FROM crm_data.account WHERE code = 'CONF-TAG';
UPDATE crm_data.account SET deleted_at = now() WHERE code IN ('CONF-TAG', 'CONF-HID');
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name = 'Conf Max';
DROP ROLE conf_max;
SET ROLE conf_bob;
-- bad input
SELECT crm.config_put('setting', '', '{"value": 1}');
SELECT crm.config_put('horoscope', 'x', '{}');
SELECT crm.config_propose('setting', 'no such', 1);
SELECT crm.config_simulate('setting', 'no such', 1);
SELECT crm.config_rollback_to(now() + interval '1 day', '{setting}');
RESET ROLE;
DELETE FROM crm_data.config WHERE key = 'conf';
DELETE FROM crm_data.alert WHERE kind = 'canary_failed';
UPDATE crm_data.lead SET deleted_at = now() WHERE source = 'conf';
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Conf %';
DROP ROLE conf_ann, conf_bob, conf_sam;
