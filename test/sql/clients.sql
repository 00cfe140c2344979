-- Client versions: saves that keep what is valid, counts that outlive a rollback, alarms, fields that are switched off.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET application_name = 'safari/17.3.1';
-- what cannot be saved keeps nothing else from being saved
SELECT crm.save_account('{"code": "CL-1", "name": "浦江光电", "city": "上海", "employees": "很多", "annual_revenue": -5, "legal_id4": "12", "nme": 1, "tags": ["没有的标签"], "steward_id": -7, "website": "p.example"}') - 'id' AS draft;
SELECT name, city, employees, annual_revenue, website, draft_problems, row_version FROM crm_data.account WHERE code = 'CL-1';
-- a field that is written now is a problem no longer, by whatever way; others are added
SELECT crm.save_account('{"code": "CL-1", "employees": 40, "legal_id4": "xx"}', 1) - 'id' AS draft;
SELECT draft_problems, employees, row_version FROM crm_data.account WHERE code = 'CL-1';
UPDATE crm.account SET annual_revenue = 5, legal_id4 = '123X' WHERE code = 'CL-1';
SELECT crm.save_account('{"code": "CL-1", "tags": [], "steward_id": null, "district": "浦东"}', row_version) ->> 'state' AS state, draft_problems FROM crm_data.account WHERE code = 'CL-1';
SELECT draft_problems, district FROM crm_data.account WHERE code = 'CL-1';
-- the same request again is the same operation
SELECT row_version AS version FROM crm_data.account WHERE code = 'CL-1' \gset
SELECT crm.save_account('{"code": "CL-1", "op_id": "00000000-0000-4000-8000-00000000c001", "employees": "x", "city": "苏州"}', :version) - 'id' AS draft;
SELECT crm.save_account('{"code": "CL-1", "op_id": "00000000-0000-4000-8000-00000000c001", "employees": "x", "city": "苏州"}', :version) - 'id' AS again;
-- a customer without a name is a draft that is called by its code; what a client recognised is never needed, fills what is empty and is never in the way
SELECT crm.save_account('{"code": "CL-2", "phone": "021-5550 0177", "proposals": {"uscc": "91310000MA1FL0000X", "employees": "三十", "nothing": 1}}') - 'id' AS draft;
SELECT crm.save_account('{"code": "CL-2", "name": "外滩金融", "proposals": {"legal_person": "王某"}}', 1) - 'id' AS later;
SELECT crm.save_account('{"code": "CL-2", "proposals": {"legal_person": "李某"}}') #> '{proposals,conflicts}' AS differs;
SELECT name, uscc, legal_person, draft_problems FROM crm_data.account WHERE code = 'CL-2';
-- what is wrong with the whole is an error as ever
\set VERBOSITY sqlstate
SELECT crm.save_account('[]');
SELECT crm.save_account(NULL);
SELECT crm.save_account('{"name": "x"}');
SELECT crm.save_account('{"code": "CL-1", "city": "x"}', 99);
SELECT crm.save_account('{"code": "CL-9", "op_id": "x"}');
SELECT crm.save_account('{"code": "CL-9", "proposals": [1]}');
SELECT crm.save_account('{"code": "CL-9", "external": {"source": "erp"}}');
SELECT crm.save_account('{"code": "CL-9", "external": "erp"}');
\set VERBOSITY terse

-- every save counts for its client, whatever becomes of the transaction; who is seen for the first time counts among the unknown
SELECT pg_sequence_last_value(format('crm_data.client_saves_%s', c.id)::regclass) AS saves, pg_sequence_last_value(format('crm_data.client_failures_%s', c.id)::regclass) AS failures
  FROM crm_data.client AS c WHERE c.name = 'safari/17.3.1';
BEGIN;
SELECT crm.save_account('{"code": "CL-3", "name": "x", "employees": -1}') ->> 'state' AS state;
ROLLBACK;
BEGIN;
SELECT crm.save_account('{"name": "x"}');
ROLLBACK;
SELECT pg_sequence_last_value(format('crm_data.client_saves_%s', c.id)::regclass) AS saves, pg_sequence_last_value(format('crm_data.client_failures_%s', c.id)::regclass) AS failures
  FROM crm_data.client AS c WHERE c.name = 'safari/17.3.1';
SELECT count(*) AS none FROM crm_data.account WHERE code = 'CL-3';
SELECT coalesce(pg_sequence_last_value(format('crm_data.client_saves_%s', c.id)::regclass), 0) AS unknown FROM crm_data.client AS c WHERE c.name = '*' \gset
SET application_name = 'edge/1; DROP';
SELECT crm.save_account('{"code": "CL-3", "name": "x"}') ->> 'state' AS state;
SELECT pg_sequence_last_value(format('crm_data.client_saves_%s', c.id)::regclass) - :unknown AS counted FROM crm_data.client AS c WHERE c.name = '*';

-- alarms, in 2004, so that nothing else is about: one version fails ten times as often as the others; one that fails as often as the others does not
SET application_name = 'test';
SELECT count(*) AS read FROM crm._job_client_watch('2004-03-10 06:00');
DELETE FROM crm_data.client_count;
INSERT INTO crm_data.client (name) VALUES ('safari/17.3.0'), ('chrome/120.1'), ('chrome/121.0'), ('app/4.2');
INSERT INTO crm_data.client_count (client_id, at, saves, failures)
SELECT c.id, '2004-03-10 11:30', v.saves, v.failures FROM (VALUES ('safari/17.3.1', 20, 20), ('chrome/120.1', 100, 5), ('app/4.2', 100, 5)) AS v (name, saves, failures) JOIN crm_data.client AS c ON c.name = v.name;
SELECT name, saves, failures, failure_rate, others_rate, failing FROM crm.client_list('2004-03-10 12:00') WHERE saves > 0 ORDER BY name;
SELECT crm._job_client_watch('2004-03-10 12:00') AS new;
SELECT crm._job_client_watch('2004-03-10 12:05') AS new;
SELECT kind, level, message, state FROM crm_data.alert WHERE kind LIKE 'client%' ORDER BY dedupe_key;
-- exactly five times is not above; no saves say nothing, a good hour closes the alert
UPDATE crm_data.client_count SET saves = 100, failures = CASE saves WHEN 20 THEN 25 ELSE 5 END;
SELECT name, failing FROM crm.client_list('2004-03-10 12:00') WHERE saves > 0 ORDER BY name;
SELECT crm._job_client_watch('2004-03-10 14:00') AS new, (SELECT state FROM crm_data.alert WHERE kind = 'client_failures') AS before;
SELECT crm._job_client_watch('2004-03-10 12:00') AS new;
SELECT state FROM crm_data.alert WHERE kind = 'client_failures';
-- a version that used to save and does not any more, unless people took a newer one
INSERT INTO crm_data.client_count (client_id, at, saves, failures)
SELECT c.id, '2004-03-11 11:30'::timestamptz - make_interval(days => d), 12, 0 FROM crm_data.client AS c, unnest('{7,14,21,28}'::int[]) AS d WHERE c.name IN ('safari/17.3.0', 'chrome/120.1', 'app/4.2');
INSERT INTO crm_data.client_count (client_id, at, saves, failures) SELECT c.id, '2004-03-11 11:30', 10, 0 FROM crm_data.client AS c WHERE c.name IN ('app/4.2', 'chrome/121.0');
SELECT r.name, r.saves, r.usual, r.silent FROM crm._client_rates('2004-03-11 12:00') AS r WHERE r.usual > 0 ORDER BY r.name;
SELECT crm._job_client_watch('2004-03-11 12:00') AS new;
SELECT kind, level, message, state FROM crm_data.alert WHERE kind = 'client_silent' ORDER BY dedupe_key;

-- a field that is switched off for a client is neither taken from it nor asked for, and the answer says so; the others keep it
SELECT * FROM crm.config_validate('flag', '{"on": true, "fields": {"safari": ["account.legal_person", "account.nothing", "account.code", 5], "web": "account.city"}}');
SELECT * FROM crm.config_validate('flag', '{"on": true, "fields": []}');
BEGIN;
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'flag' AND key = 'off_fields' AND status = 'active';
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
VALUES ('flag', 'off_fields', 2, '{"on": true, "fields": {"safari/17.3.1": ["account.legal_person", "account.name"], "edge": ["account.city"], "kiosk": ["account.website"]}}', 'active', '(,)', 'clients', 'release');
SET LOCAL application_name = 'safari/17.3.1';
SELECT crm.save_account('{"code": "CL-4", "city": "杭州", "legal_person": {"ocr": "failed"}, "proposals": {"legal_person": "赵某"}}') - 'id' AS saved;
SELECT name, city, legal_person, draft_problems FROM crm_data.account WHERE code = 'CL-4';
SELECT crm.save_account('{"code": "CL-4", "district": "西湖", "endpoint": "kiosk", "website": "x.example"}', 1) - 'id' - 'op_seq' AS saved;
-- whatever way it writes; sent again it is the same request
SELECT crm.write('account', id, '00000000-0000-4000-8000-00000000c004', 'web', row_version, '{"legal_person": "钱某", "industry": "energy"}') - 'id' - 'op_seq' AS written, row_version AS version FROM crm_data.account WHERE code = 'CL-4' \gset
SELECT crm.write('account', id, '00000000-0000-4000-8000-00000000c004', 'web', :version, '{"legal_person": "钱某", "industry": "energy"}') - 'id' - 'op_seq' = :'written'::jsonb AS the_same, :'written' AS written FROM crm_data.account WHERE code = 'CL-4';
SELECT d - 'id' - 'op_id' - 'op_seq' AS draft FROM crm_data.account AS a, crm.submit_drafts(ARRAY[jsonb_build_object('object', 'account', 'id', a.id, 'op_id', '00000000-0000-4000-8000-00000000c005', 'base_version', a.row_version, 'client_ts', '2026-03-01T10:05:00+08', 'patch', '{"legal_person": "孙某"}'::jsonb)]) AS d WHERE a.code = 'CL-4';
SELECT industry, legal_person FROM crm_data.account WHERE code = 'CL-4';
SELECT off_fields FROM crm.client_list('2004-03-10 12:00') WHERE name = 'safari/17.3.1';
SELECT field, required, editable, missing FROM crm.form_spec('account', NULL, NULL, 'account.light') WHERE field IN ('name', 'phone') ORDER BY seq;
SET LOCAL application_name = 'safari/17.3.0';
SELECT field, required, editable, missing FROM crm.form_spec('account', NULL, NULL, 'account.light') WHERE field IN ('name', 'phone') ORDER BY seq;
SELECT crm.save_account('{"code": "CL-4", "legal_person": "赵某"}', row_version) ->> 'state' AS state FROM crm_data.account WHERE code = 'CL-4';
SELECT legal_person FROM crm_data.account WHERE code = 'CL-4';
ROLLBACK;

-- who may look, and clean up
SELECT p.role, has_function_privilege(p.role, 'crm.client_list(timestamptz)', 'EXECUTE') AS may FROM unnest('{crm_admin,crm_steward,crm_sales}'::text[]) AS p (role);
RESET application_name;
DELETE FROM crm_data.outbox WHERE topic = 'alert.client';
DELETE FROM crm_data.alert WHERE kind LIKE 'client%';
DELETE FROM crm_data.client_count;
