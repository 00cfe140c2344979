-- What people manage of access: requests and their decision, second confirmation, deletion, export, reveal, preview, audit, leavers, cards.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE ROLE access_rep LOGIN IN ROLE crm_sales;
CREATE ROLE access_boss LOGIN IN ROLE crm_manager;
CREATE ROLE access_agent LOGIN IN ROLE crm_service;
CREATE ROLE access_clerk LOGIN IN ROLE crm_finance;
CREATE ROLE access_lawyer LOGIN IN ROLE crm_legal;
CREATE ROLE access_admin LOGIN IN ROLE crm_admin;
CREATE ROLE access_other_admin LOGIN IN ROLE crm_admin;
CREATE ROLE access_ghost LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.team (code, name) VALUES ('access-team', 'Team');
INSERT INTO crm_data.member (role_name, full_name, employee_no, phone, team_id)
SELECT v, v, 'E-' || v, '13900000000', t.id FROM unnest(ARRAY['access_rep', 'access_boss', 'access_agent', 'access_clerk', 'access_lawyer', 'access_admin', 'access_other_admin']) AS v, crm_data.team AS t WHERE t.code = 'access-team';
UPDATE crm_data.member SET manager_id = (SELECT id FROM crm_data.member WHERE role_name = 'access_boss') WHERE role_name = 'access_rep';
INSERT INTO crm_data.account (code, name, phone, legal_id4, complaint_tags, owner_id, team_id)
SELECT 'ACCESS-' || n, 'Access ' || n, '138001380' || n, '1234', '{delivery}', m.id, m.team_id FROM generate_series(10, 40) AS n, crm_data.member AS m WHERE m.role_name = 'access_rep';
SELECT id AS account FROM crm_data.account WHERE code = 'ACCESS-10' \gset
INSERT INTO crm_data.contract (account_id, code, name, amount, invoice_state) VALUES (:account, 'ACCESS-C1', 'Contract', 1000, 'partial') RETURNING id AS contract \gset
INSERT INTO crm_data.payment_plan (contract_id, account_id, seq, name, due_on, amount) VALUES (:contract, :account, 1, 'first', '2030-01-01', 400), (:contract, :account, 2, 'rest', '2030-06-01', 600);
INSERT INTO crm_data.attachment (object, record_id, account_id, kind, name) VALUES ('contract', :contract, :account, 'contract', 'scan.pdf') RETURNING id AS attachment \gset
INSERT INTO crm_data.interaction (account_id, kind, channel, direction, occurred_at, summary)
SELECT :account, 'call', 'phone', 'out', '2030-01-01'::timestamptz + n * interval '1 day', 'summary ' || n FROM generate_series(1, 5) AS n;
INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at) VALUES ('case', 'account', :account, :account, 'Answer the complaint', now() + interval '2 hours');
INSERT INTO crm_data.opportunity (account_id, name, pipeline_id, stage_id, budget_low, budget_high) SELECT :account, 'Deal', pipeline_id, id, 100, 200 FROM crm_data.stage WHERE code = 'demo';
INSERT INTO crm_data.contact (account_id, name) VALUES (:account, 'Wang');
INSERT INTO crm_data.opportunity_contact (opportunity_id, contact_id, account_id, role, influence) SELECT o.id, c.id, :account, 'decision_maker', 5 FROM crm_data.opportunity AS o, crm_data.contact AS c WHERE o.account_id = :account AND c.account_id = :account;

-- cards: what each desk sees of the same customer
SET ROLE access_rep;
SELECT account, opportunity, stage, budget_low, budget_high, jsonb_path_query_array(decision_chain, '$[*].name') AS chain FROM crm.sales_card WHERE account_id = :account;
SET ROLE access_agent;
SELECT account, complaint_tags, jsonb_path_query_array(recent_summaries, '$[*].summary') AS last_three, sla_remaining FROM crm.service_card WHERE account_id = :account;
SELECT count(*) FROM crm.interaction;
SELECT count(*) FROM crm.sales_card;
INSERT INTO crm.interaction (account_id, kind, channel, direction, occurred_at) VALUES (:account, 'call', 'phone', 'in', '2030-02-01') RETURNING kind;
SET ROLE access_clerk;
SELECT contract_no, invoice_state, jsonb_path_query_array(payment_plan, '$[*].amount') AS plan FROM crm.finance_card WHERE account_id = :account;
SELECT count(*) FROM crm.service_card WHERE recent_summaries IS NOT NULL;

-- the matrix: customers, contracts, files by role and operation
SET ROLE access_admin;
SELECT * FROM crm.permission_matrix WHERE object IN ('account', 'contract', 'attachment') ORDER BY role_name, object;
SET ROLE access_rep;
SELECT DISTINCT role_name FROM crm.permission_matrix;

-- a contract is deleted by legal's decision and softly; nobody decides his own request
SELECT crm.request_delete('contract', :contract, 'signed twice') AS request \gset
SELECT kind, object, state, approver_role, mine FROM crm.requests();
SELECT crm.decide(:request, true);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.request_delete('contract', 999999999, 'x');
SELECT crm.request_delete('contract', :contract, '');
SELECT crm.request_delete('member', 1, 'x');
DELETE FROM crm.contract WHERE id = :contract;
SET ROLE access_boss;
SELECT crm.decide(:request, true);
SET ROLE access_lawyer;
SELECT crm.decide(:request, true, 'checked');
SELECT crm.decide(:request, true);
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM crm.contract WHERE id = :contract;
RESET ROLE;
SELECT deleted_at IS NOT NULL AS kept FROM crm_data.contract WHERE id = :contract;
-- a file needs a second confirmation first
SET ROLE access_rep;
SELECT crm.request_delete('attachment', :attachment, 'wrong scan');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.request_approval('delete', 'attachment', '{}', 'wrong scan', :attachment);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.challenge('delete', 'attachment', :attachment) AS challenge \gset
RESET ROLE;
SELECT payload->>'code' AS code, payload->>'op' AS op, recipient_id = (SELECT id FROM crm_data.member WHERE role_name = 'access_rep') AS to_him, dedupe_key = 'challenge:' || :challenge AS keyed FROM crm_data.outbox WHERE topic = 'sms.code' \gset
SELECT :'op' AS op, :'to_him' AS to_him, :'keyed' AS keyed, length(:'code') AS digits;
SELECT count(*) FROM crm_data.approval WHERE id = :challenge AND position(convert_to(:'code', 'UTF8') IN code_hash) > 0;
SET ROLE access_rep;
SELECT crm.confirm(:challenge, 'E-access_rep', 'wrong') AS wrong_code, crm.confirm(:challenge, 'E-other', :'code') AS wrong_person;
SELECT crm.request_delete('attachment', :attachment, 'wrong scan', :challenge);
SET ROLE access_boss;
SELECT crm.confirm(:challenge, 'E-access_boss', :'code') AS not_his;
SET ROLE access_rep;
SELECT crm.confirm(:challenge, 'E-access_rep', :'code') AS right_code;
SELECT crm.request_delete('attachment', :attachment, 'wrong scan', :challenge) AS request \gset
SELECT crm.request_delete('attachment', :attachment, 'wrong scan', :challenge);
\echo :LAST_ERROR_SQLSTATE
SET ROLE access_lawyer;
SELECT crm.decide(:request, true);
RESET ROLE;
SELECT retracted_at IS NOT NULL AS retracted, purge_after > now() + interval '29 days' AS held FROM crm_data.attachment WHERE id = :attachment;
-- five wrong codes, and an expired one
SET ROLE access_rep;
SELECT crm.challenge('merge', 'account', :account) AS challenge \gset
SELECT count(*) FILTER (WHERE crm.confirm(:challenge, 'E-access_rep', 'x' || n)) AS guessed FROM generate_series(1, 5) AS n;
RESET ROLE;
SELECT state, attempts_left FROM crm_data.approval WHERE id = :challenge;
SELECT payload->>'code' AS code FROM crm_data.outbox WHERE dedupe_key = 'challenge:' || :challenge \gset
SET ROLE access_rep;
SELECT crm.confirm(:challenge, 'E-access_rep', :'code') AS too_late;
SELECT crm.challenge('paint', 'account', :account);
-- so many codes an hour
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '3') WHERE kind = 'setting' AND key = 'challenge.hourly_limit';
SET ROLE access_rep;
SELECT crm.challenge('merge', 'account', :account) IS NOT NULL AS third;
SELECT crm.challenge('merge', 'account', :account);
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '10') WHERE kind = 'setting' AND key = 'challenge.hourly_limit';
-- a case is closed by its function: the desk works on its cases together, and on nobody's stage actions
INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, owner_id)
SELECT k, 'account', :account, :account, 'access ' || k, now(), m.id FROM unnest(ARRAY['case', 'follow_up']) AS k, crm_data.member AS m WHERE m.role_name = 'access_rep';
SELECT max(id) FILTER (WHERE kind = 'case') AS desk_case, max(id) FILTER (WHERE kind = 'follow_up') AS follow_up FROM crm_data.task WHERE title LIKE 'access %' \gset
SET ROLE access_agent;
UPDATE crm.task SET state = 'done', done_at = now() WHERE id = :desk_case;
\echo :LAST_ERROR_SQLSTATE
SELECT crm.complete_task(:desk_case, 'answered');
SELECT crm.complete_task(:follow_up, 'answered');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE id = :follow_up;
SET ROLE access_rep;

-- many rows at once with an approval, once
SELECT crm.request_approval('bulk', 'account', '{"rows": 40}', 'new industry codes') AS request \gset
UPDATE crm.account SET industry = 'energy' WHERE code LIKE 'ACCESS-%';
SET ROLE access_boss;
SELECT crm.decide(:request, true);
SET ROLE access_rep;
UPDATE crm.account SET industry = 'energy' WHERE code LIKE 'ACCESS-%';
SELECT count(*) FROM crm.account WHERE industry = 'energy';
UPDATE crm.account SET industry = 'retail' WHERE code LIKE 'ACCESS-%';
\echo :LAST_ERROR_SQLSTATE
SELECT crm.request_approval('bulk', 'account');
SELECT crm.request_approval('party', 'account');
\echo :LAST_ERROR_SQLSTATE

-- export: asked by an administrator, decided by another, good once, of what may be exported
SET ROLE access_admin;
SELECT crm.request_approval('export', 'account', '{"columns": ["code", "phone", "legal_id4"], "where": {"code": "ACCESS-10"}}', 'audit') AS request \gset
SELECT * FROM crm.export(:request);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.decide(:request, true);
SET ROLE access_other_admin;
SELECT crm.decide(:request, true);
SELECT * FROM crm.export(:request);
SET ROLE access_admin;
SELECT * FROM crm.export(:request);
SELECT * FROM crm.export(:request);
\echo :LAST_ERROR_SQLSTATE

-- one full value: with a reason, a limit and a trace
SET ROLE access_agent;
SELECT phone FROM crm.account WHERE id = :account;
SELECT crm.reveal('account', :account, 'phone', 'callback');
SELECT crm.reveal('account', :account, 'phone', '');
SELECT crm.reveal('account', :account, 'legal_id4', 'curious');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.reveal('account', :account, 'nothing', 'curious');
SELECT crm.reveal('account', 999999999, 'phone', 'curious');
SET ROLE access_clerk;
SELECT crm.reveal('account', :account, 'phone', 'curious');
RESET ROLE;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '2') WHERE kind = 'setting' AND key = 'reveal.daily_limit';
SET ROLE access_agent;
SAVEPOINT seen;
SELECT crm.reveal('account', :account, 'phone', 'rolled back') IS NOT NULL AS revealed;
ROLLBACK TO seen;
-- the second of the two was the one that was rolled back
SELECT crm.reveal('account', :account, 'phone', 'callback');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
-- another day, and other limits of the same day, are other counts
SELECT setval('crm_data.day_count_' || m.id, pg_sequence_last_value('crm_data.day_count_' || m.id) - 100000000) > 0 AS yesterday FROM crm_data.member AS m WHERE m.role_name = 'access_agent';
SET ROLE access_agent;
SELECT crm.reveal('account', :account, 'phone', 'callback');
RESET ROLE;
SELECT pg_sequence_last_value('crm_data.day_count_' || m.id) % 100000000 AS today FROM crm_data.member AS m WHERE m.role_name = 'access_agent';
-- only the engine touches the counts
SET ROLE access_agent;
SELECT setval('crm_data.day_count_' || crm.me(), 1);
SELECT crm._count_today('reveal', 100);
RESET ROLE;
SELECT severity, kind, regexp_replace(detail, ' on .*', '') AS detail FROM crm.access_audit() WHERE kind = 'unusual access';
SELECT action, object, row_count, reason FROM crm_data.access_log WHERE actor = 'member ' || (SELECT id FROM crm_data.member WHERE role_name = 'access_agent') ORDER BY id;

-- a caller is found by his number, by whoever sees numbers masked
SET ROLE access_agent;
SELECT object, name FROM crm.find_by_phone('138 0013 8010');
SELECT object, name FROM crm.find_by_phone('13900000001');
SET ROLE access_lawyer;
SELECT object, name FROM crm.find_by_phone('13800138010');
RESET ROLE;

-- what a role would see
SET ROLE access_admin;
SELECT crm.preview_as('crm_service', 'account', :account)->>'phone' AS service, crm.preview_as('crm_sales', 'account', :account)->>'phone' AS owner,
       crm.preview_as('crm_service', 'account', :account)->'legal_id4' AS hidden, crm.me() IS NOT NULL AS still_me;
SELECT crm.preview_as('crm_nothing', 'account', :account);
SELECT crm.preview_as('crm_sales', 'nothing', :account);
SET ROLE access_rep;
SELECT crm.preview_as('crm_admin', 'account', :account);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM crm.effective_roles();
SELECT * FROM crm.effective_roles((SELECT id FROM crm.member WHERE full_name = 'access_boss'));

-- one statement removes 20 records at most, also by a function called row by row, in a query or in a loop
SET ROLE access_rep;
SELECT count(crm.remove('account', id, row_version)) FROM crm.account WHERE code LIKE 'ACCESS-%';
\echo :LAST_ERROR_SQLSTATE
DO $$ DECLARE a record; BEGIN FOR a IN SELECT id, row_version FROM crm.account WHERE code LIKE 'ACCESS-%' LOOP PERFORM crm.write('account', a.id, gen_random_uuid(), 'web', a.row_version, '{"deleted_at": "2020-01-01"}'); END LOOP; END $$;
SAVEPOINT removed;
SELECT count(crm.remove('account', id, row_version)) AS removed FROM (SELECT id, row_version FROM crm.account WHERE code LIKE 'ACCESS-%' AND id <> :account ORDER BY id LIMIT 20) AS a;
SELECT count(crm.write('account', id, gen_random_uuid(), 'web', row_version, '{"district": "x"}')) > 0 AS other_writes FROM crm.account WHERE code LIKE 'ACCESS-%';
ROLLBACK TO removed;
RESET ROLE;

-- an intern deletes the scans of 127 customers: inherited over three steps he may nothing, a right without a scope is no right, and with both in order
-- one statement reaches 20 rows at most, and none of them physically
RESET ROLE;
CREATE ROLE access_intern LOGIN;
CREATE ROLE access_archive; CREATE ROLE access_step1; CREATE ROLE access_step2;
GRANT USAGE ON SCHEMA crm TO access_archive; GRANT SELECT, UPDATE, DELETE ON crm.attachment TO access_archive;
GRANT EXECUTE ON FUNCTION crm.guard(anyelement, int, bigint, bigint), crm.row_visible(text, text, bigint, bigint, smallint), crm.me(), crm.my_teams(text) TO access_archive;
INSERT INTO crm_data.member (role_name, full_name, hired_at) VALUES ('access_intern', 'access_intern', current_date - 2);
INSERT INTO crm_data.attachment (object, record_id, account_id, kind, name) SELECT 'account', :account, :account, 'contract', 'scan ' || n FROM generate_series(1, 127) AS n;
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver) VALUES
    ('field_policy', 'access_archive', 1, '{"role": "access_archive", "default": "always", "write": {"classes": {"general": "always"}}}', 'active', 'a', 'b'),
    ('row_policy', 'access_archive', 1, '{"role": "access_archive", "rows": [{"object": "attachment", "verbs": ["read", "write"], "scope": "all"}]}', 'active', 'a', 'b');
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver) VALUES
    ('permission', 'access_archive', 1, '{"role": "access_archive", "ops": [{"object": "attachment", "ops": ["read", "update", "delete"]}]}', 'active', 'a', 'b');
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver) VALUES
    ('permission', 'access_archive', 1, '{"role": "access_archive", "ops": [{"object": "attachment", "ops": ["read", "update", "delete"], "scope": "all"}]}', 'active', 'a', 'b');
GRANT access_archive TO access_step2; GRANT access_step2 TO access_step1; GRANT access_step1 TO access_intern;
SET ROLE access_intern;
SELECT count(*) FROM crm.attachment;
DELETE FROM crm.attachment;
RESET ROLE;
GRANT access_archive TO access_intern;
SET ROLE access_intern;
SELECT count(*), min(name) AS blurred FROM crm.attachment WHERE account_id = :account;
UPDATE crm.attachment SET retracted_at = now() WHERE retracted_at IS NULL;
\echo :LAST_ERROR_SQLSTATE
DELETE FROM crm.attachment WHERE account_id = :account;
RESET ROLE;
SELECT count(*) FROM crm_data.attachment WHERE name LIKE 'scan _%' AND retracted_at IS NULL AND account_id = :account;

-- audit, orphaned logins, leavers
SET ROLE access_rep;
SELECT crm.remove('attachment', :attachment, 1);
SELECT * FROM crm.access_audit();
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
CREATE ROLE access_one IN ROLE crm_admin; CREATE ROLE access_two IN ROLE access_one; GRANT access_two TO access_clerk;
GRANT pg_read_all_data TO access_boss;
SET ROLE access_admin;
SELECT * FROM crm.access_audit() WHERE subject LIKE 'access%' ORDER BY 1, 2, 3, 4;
SELECT * FROM crm.access_audit() WHERE severity = 'error';
-- what an administrator of the server may have put beside the rules
RESET ROLE;
SAVEPOINT beside;
GRANT access_boss TO access_rep;
GRANT SELECT (phone) ON crm_data.account TO access_rep;
GRANT USAGE ON SCHEMA crm_data TO access_rep;
GRANT CREATE ON SCHEMA crm TO access_agent;
GRANT EXECUTE ON FUNCTION crm._see(text, bigint) TO PUBLIC;
CREATE POLICY all_of_it ON crm_data.account TO PUBLIC USING (true);
CREATE POLICY less ON crm_data.account AS RESTRICTIVE TO crm_gate USING (name <> 'x');
SELECT * FROM crm._access_findings() WHERE severity = 'error' OR kind IN ('shared login', 'policy of others') ORDER BY 1, 2, 3, 4;
ROLLBACK TO beside;
SET ROLE access_admin;
SELECT * FROM crm.effective_roles((SELECT id FROM crm.member WHERE full_name = 'access_clerk'));
SELECT * FROM crm.role_cleanup() WHERE role_name LIKE 'access%';
SELECT * FROM crm.role_cleanup(action => 'disable') WHERE role_name LIKE 'access%';
SELECT rolcanlogin FROM pg_roles WHERE rolname = 'access_ghost';
SELECT crm.role_cleanup('everybody', 'shoot');
SELECT id AS leaver FROM crm.member WHERE full_name = 'access_rep' \gset
SELECT crm.offboard(:leaver) - 'handed_over_to' AS done;
SELECT crm.offboard(999999999);
SELECT crm.offboard((SELECT id FROM crm.member WHERE full_name = 'access_boss'));
SET ROLE access_rep;
SELECT count(*) FROM crm.account;
SELECT crm.offboard(:leaver);
\echo :LAST_ERROR_SQLSTATE
SET ROLE access_boss;
SELECT count(*), count(*) FILTER (WHERE owner_id = crm.me()) AS mine FROM crm.account WHERE code LIKE 'ACCESS-%';
SELECT count(*) FILTER (WHERE owner_id = crm.me()) AS deals FROM crm.opportunity WHERE account_id = :account;
RESET ROLE;
SELECT crm._job_access_watch(now()) > 0 AS alerts, crm._job_access_watch(now()) AS again;
SELECT count(*) > 0 AS inert_role_told FROM crm_data.alert WHERE kind = 'access.inert_role';
SELECT crm._job_access_audit(now()) AS none_new, crm._job_access_audit(now()) AS again;
SELECT count(*) AS stored, bool_and(jsonb_array_length(body -> 'rows') > 0) AS rows FROM crm_data.report_snapshot WHERE report = 'access_audit';
ROLLBACK;
