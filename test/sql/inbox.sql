-- Inbox: once, visible, never filtered by its own time.
\set VERBOSITY terse
SET client_min_messages = warning;
INSERT INTO crm_data.member (full_name) VALUES ('Inbox Rep');
INSERT INTO crm_data.account (code, name, owner_id) SELECT 'INBOX-1', 'Inbox Customer', id FROM crm_data.member WHERE full_name = 'Inbox Rep';
SELECT crm.ingest('telephony', 'in 1', 'call', '{"account_code": "INBOX-1", "connected": true, "seconds": 91}', '2020-01-01') - 'inbox' - 'record' AS old_but_taken;
SELECT crm.ingest('telephony', 'in 1', 'call', '{"account_code": "INBOX-1", "connected": true, "seconds": 91}', '2020-01-01') - 'inbox' - 'record' AS again;
SELECT crm.ingest('telephony', 'in 2', 'call', '{"account_code": "INBOX-1", "connected": true, "seconds": 90}') - 'inbox' - 'record' AS too_short;
SELECT i.kind, i.depth, i.auto, i.occurred_at = '2020-01-01' AS its_own_time FROM crm_data.interaction AS i JOIN crm_data.account AS a ON a.id = i.account_id WHERE a.code = 'INBOX-1';
SELECT crm.ingest('asr', 'in 3', 'meeting', '{"account_code": "INBOX-1", "summary": "", "body": "talked"}') ->> 'state' AS state;
SELECT i.summary IS NULL AS empty_is_nothing, i.body FROM crm_data.interaction AS i JOIN crm_data.account AS a ON a.id = i.account_id WHERE a.code = 'INBOX-1' AND i.client_key LIKE 'inbox:%';
SELECT crm.ingest('web', 'in 4', 'form', '{"phone": "13911110077", "name": "In"}') - 'inbox' - 'record' AS lead;
SELECT crm.ingest('web', 'in 5', 'form', '{"name": "nobody"}') - 'inbox' AS rejected;
-- parked until the customer is known
SELECT crm.ingest('telephony', 'in 6', 'call', '{"account_code": "INBOX-2", "connected": true, "seconds": 200}') - 'inbox' AS parked;
INSERT INTO crm_data.account (code, name, owner_id) SELECT 'INBOX-2', 'Inbox Second', id FROM crm_data.member WHERE full_name = 'Inbox Rep';
SELECT crm.retry_inbox('telephony') AS applied, crm.retry_inbox('telephony') AS again;
-- by the clock too: once it is due again; not before, and less and less often
SELECT crm.ingest('telephony', 'in 7', 'call', '{"account_code": "INBOX-3", "connected": true, "seconds": 200}') ->> 'state' AS state;
INSERT INTO crm_data.account (code, name, owner_id) SELECT 'INBOX-3', 'Inbox Third', id FROM crm_data.member WHERE full_name = 'Inbox Rep';
SELECT crm.process_inbox() AS not_due;
UPDATE crm_data.inbox SET next_at = now() WHERE external_id = 'in 7';
CALL crm.tick();
SELECT state, attempts, next_at FROM crm_data.inbox WHERE external_id = 'in 7';
-- a customer may switch a source off
UPDATE crm_data.account SET sync_off = '{telephony}' WHERE code = 'INBOX-3';
SELECT crm.ingest('telephony', 'in 8', 'call', '{"account_code": "INBOX-3", "connected": true, "seconds": 201}') - 'inbox' AS switched_off;
-- the person is found by his number, and his company by him
INSERT INTO crm_data.contact (account_id, name, phone) SELECT id, 'Inbox Person', '13911110078' FROM crm_data.account WHERE code = 'INBOX-2';
SELECT crm.ingest('wecom_archive', 'in 9', 'chat', '{"phone": "139 1111 0078", "direction": "in", "body": "hello"}') ->> 'state' AS state;
SELECT a.code, c.name, c.last_contact_at IS NOT NULL AS spoken_to FROM crm_data.interaction AS i JOIN crm_data.account AS a ON a.id = i.account_id JOIN crm_data.contact AS c ON c.id = i.contact_id WHERE i.body = 'hello';
-- a source is as fresh as what it sent last
SELECT last_seen_at IS NOT NULL AND last_applied_at IS NOT NULL AS fresh FROM crm_data.source_system WHERE name = 'telephony';

-- finance and the seal answer back: how far a contract is invoiced and paid, and where its final copy is
INSERT INTO crm_data.contract (account_id, code, state, amount) SELECT id, 'INBOX-C', 'review', 1000 FROM crm_data.account WHERE code = 'INBOX-1';
SELECT crm.ingest('esign', 'seal 1', 'sealed', '{"contract_code": "INBOX-C", "url": "https://seal.example/1"}') ->> 'state' AS sealed;
SELECT crm.ingest('erp', 'inv 1', 'invoice', '{"contract_code": "INBOX-C", "amount": "1,000.00"}') ->> 'state' AS invoiced;
SELECT crm.ingest('erp', 'pay 1', 'payment', '{"contract_code": "INBOX-C", "amount": 600}') ->> 'state' AS paid, crm.ingest('erp', 'pay 1', 'payment', '{"contract_code": "INBOX-C", "amount": 600}') ->> 'repeated' AS again;
SELECT crm.ingest('erp', 'pay 1', 'payment', '{"contract_code": "INBOX-C", "amount": 700}') - 'inbox' AS other_content;
SELECT crm.ingest('erp', 'pay 2', 'payment', '{"contract_code": "INBOX-C", "amount": -1}') ->> 'state' AS negative, crm.ingest('erp', 'pay 3', 'payment', '{"contract_code": "INBOX-NONE", "amount": 1}') ->> 'reason' AS nowhere;
SELECT state, signed_on IS NOT NULL AS signed, final_url, invoice_state, receipt_state FROM crm_data.contract WHERE code = 'INBOX-C';
SELECT crm.ingest('erp', 'pay 4', 'payment', '{"contract_code": "INBOX-C", "amount": 400}') ->> 'state' AS rest;
SELECT receipt_state FROM crm_data.contract WHERE code = 'INBOX-C';
SELECT crm.ingest('erp', 'ref 1', 'refund', '{"contract_code": "INBOX-C", "amount": 1000}') ->> 'state' AS refunded;
SELECT receipt_state FROM crm_data.contract WHERE code = 'INBOX-C';
UPDATE crm_data.contract SET deleted_at = now() WHERE code = 'INBOX-C';

-- after an accident: nobody was there for the leads, one payload had no customer yet; then all is well again, at its original times, and twice is once
BEGIN;
UPDATE crm_data.member SET capacity = 0;
SELECT crm.ingest('app', 're 1', 'form', '{"phone": "13911110081", "name": "Re"}', '2026-01-22 18:00+08') ->> 'state' AS state;
SELECT crm.ingest('app', 're 2', 'login', '{"account_code": "INBOX-4"}', '2026-01-22 18:01+08') ->> 'state' AS state;
SELECT l.state, count(*) FILTER (WHERE a.state = 'open') AS alerts FROM crm_data.lead AS l LEFT JOIN crm_data.alert AS a ON a.dedupe_key = 'unrouted' WHERE l.client_key = 'app:re 1' GROUP BY 1;
SELECT crm.reprocess('app', now() - interval '1 hour') AS still_nobody;
UPDATE crm_data.member SET capacity = 10 WHERE full_name = 'Inbox Rep';
INSERT INTO crm_data.account (code, name) VALUES ('INBOX-4', 'Inbox Fourth');
SELECT crm.reprocess('app', now() - interval '1 hour') AS all_well, crm.reprocess('app', now() - interval '1 hour') AS again;
SELECT l.state, l.occurred_at = '2026-01-22 18:00+08' AS its_time, l.first_touch_due_at > now() AS clock_starts_now, m.full_name FROM crm_data.lead AS l JOIN crm_data.member AS m ON m.id = l.owner_id WHERE l.client_key = 'app:re 1';
SELECT e.kind, e.occurred_at = '2026-01-22 18:01+08' AS its_time FROM crm_data.event AS e JOIN crm_data.account AS a ON a.id = e.account_id WHERE a.code = 'INBOX-4';
SELECT count(*) AS alerts FROM crm_data.alert WHERE dedupe_key = 'unrouted' AND state = 'open';
ROLLBACK;
-- a number that a payload came with is shown to fewer people than the details of an event
SELECT crm.ingest('telephony', 'in 10', 'chat_file', '{"account_code": "INBOX-1", "phone": "13911110078", "email": "in@example.cn", "name": "plan.pdf"}') ->> 'state' AS state;
SELECT e.detail FROM crm_data.event AS e JOIN crm_data.account AS a ON a.id = e.account_id WHERE a.code = 'INBOX-1' AND e.kind = 'chat_file';
-- the short way of behaviour leaves what the long way leaves, and takes nothing else
UPDATE crm_data.source_system SET last_seen_at = now(), last_applied_at = now() WHERE name = 'telephony';
BEGIN;
SELECT crm._ingest_behaviour('telephony', 'short', 'page_view', '{"account_code": "INBOX-1", "channel": "web", "page": "/a", "nix": null, "empty": "", "deep": {"null": null}}', '2026-01-02') - 'inbox' - 'record' AS short;
SELECT crm.ingest('telephony', 'long', 'page_view', '{"account_code": "INBOX-1", "channel": "web", "page": "/a", "nix": null, "empty": "", "deep": {"null": null}, "phone": "1"}', '2026-01-02') - 'inbox' - 'record' AS long;
SELECT count(*), count(DISTINCT to_jsonb(e) - 'id') AS alike FROM crm_data.event AS e WHERE e.kind = 'page_view' AND e.occurred_at = '2026-01-02';
SELECT count(*), count(DISTINCT to_jsonb(i) - '{id,external_id,payload,digest}'::text[]) AS alike FROM crm_data.inbox AS i WHERE i.kind = 'page_view' AND i.source_ts = '2026-01-02';
SELECT count(*), count(DISTINCT to_jsonb(e) - 'id' || jsonb_build_object('event', e.event - 'id')) AS alike FROM crm_data.rule_event AS e WHERE e.kind = 'event.page_view' AND (e.event ->> 'occurred_at')::timestamptz = '2026-01-02';
SELECT crm._ingest_behaviour(s, x, k, p::jsonb, t) AS nothing FROM (VALUES ('telephony', 'short', 'page_view', '{"account_code": "INBOX-1", "channel": "web", "page": "/a", "nix": null, "empty": "", "deep": {"null": null}}', timestamptz '2026-01-02'), ('nowhere', '1', 'scroll', '{"account_code": "INBOX-1"}', NULL),
    ('telephony', '', 'scroll', '{"account_code": "INBOX-1"}', NULL), ('telephony', '2', 'form', '{"account_code": "INBOX-1"}', NULL), ('telephony', '3', '', '{"account_code": "INBOX-1"}', NULL), ('telephony', '4', 'scroll', '{"account_code": "INBOX-9"}', NULL),
    ('telephony', '5', 'scroll', '{"account_code": ["INBOX-1"]}', NULL), ('telephony', '6', 'scroll', '["account_code"]', NULL), ('telephony', '7', 'scroll', '{"account_code": "INBOX-1", "value": 7}', NULL), ('telephony', '8', 'scroll', '{"account_code": "INBOX-3"}', NULL),
    ('telephony', '9', 'scroll', '{"account_code": "INBOX-1", "email": "a@b.cn"}', NULL), ('telephony', '13', 'finance.payment', '{"account_code": "INBOX-1"}', NULL), ('telephony', '14', 'scroll', '{"account_code": "INBOX-1", "origin": "x"}', NULL), ('telephony', '10', 'scroll', '{"account_code": "INBOX-1"}', 'infinity'), ('telephony', '11', 'scroll', '{"account_code": "INBOX-1"}', '-infinity'),
    ('telephony', NULL, 'scroll', '{"account_code": "INBOX-1"}', NULL), ('telephony', '12', 'scroll', NULL, NULL)) AS v (s, x, k, p, t) GROUP BY 1;
-- what its rules write came from its source, and after an abort nothing does
SELECT crm._ingest_behaviour('telephony', 'origin', 'chat_file', '{"account_code": "INBOX-1", "file_name": "origin.pdf"}', NULL) ->> 'state' AS state;
SELECT c.endpoint FROM crm_data.change AS c JOIN crm_data.interaction AS i ON c.object = 'interaction' AND c.record_id = i.id WHERE i.detail ->> 'file_name' = 'origin.pdf';
SAVEPOINT s;
SELECT crm._engine_write('none', 'sync.telephony');
ROLLBACK TO s;
INSERT INTO crm_data.account (code, name) VALUES ('INBOX-8', 'Inbox eight');
SELECT count(*) AS ours FROM crm_data.change AS c JOIN crm_data.account AS a ON c.object = 'account' AND c.record_id = a.id WHERE a.code = 'INBOX-8' AND c.endpoint IS NULL;
-- what goes wrong on it is undone and said
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
CREATE TRIGGER refuse BEFORE INSERT ON crm_data.event FOR EACH ROW WHEN (NEW.kind = 'scroll') EXECUTE FUNCTION pg_temp.refuse();
SELECT crm.ingest('telephony', 'refused', 'scroll', '{"account_code": "INBOX-1"}') - 'inbox' AS refused;
SELECT count(*) FROM crm_data.inbox AS i WHERE i.external_id = 'refused';
DROP TRIGGER refuse ON crm_data.event;
SELECT crm.ingest('telephony', 'after', 'scroll', '{"account_code": "INBOX-1"}') ->> 'state' AS state;
-- a trigger of the statement that somebody puts on the events fires, and a policy that somebody lays on the engine holds: these are for a statement
SAVEPOINT s;
CREATE FUNCTION pg_temp.told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE WARNING ''told of % events'', (SELECT count(*) FROM added); RETURN NULL; END';
CREATE TRIGGER told AFTER INSERT ON crm_data.event REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.told();
SELECT crm._ingest_behaviour('telephony', 'told', 'scroll', '{"account_code": "INBOX-1"}', NULL) AS nothing;
SELECT crm.ingest('telephony', 'told', 'scroll', '{"account_code": "INBOX-1"}') ->> 'state' AS state;
ROLLBACK TO s;
CREATE POLICY people ON crm_data.event AS RESTRICTIVE TO crm_gate USING (kind <> 'scroll');
SELECT crm._ingest_behaviour('telephony', 'gate', 'scroll', '{"account_code": "INBOX-1"}', NULL) ->> 'state' AS short;
CREATE POLICY not_scroll ON crm_data.event AS RESTRICTIVE FOR INSERT TO crm_owner WITH CHECK (kind <> 'scroll');
SELECT crm._ingest_behaviour('telephony', 'policy', 'scroll', '{"account_code": "INBOX-1"}', NULL) AS nothing;
SELECT crm.ingest('telephony', 'policy', 'scroll', '{"account_code": "INBOX-1"}') - 'inbox' AS refused;
DROP POLICY not_scroll ON crm_data.event;
SELECT crm._ingest_behaviour('telephony', 'policy gone', 'scroll', '{"account_code": "INBOX-1"}', NULL) ->> 'state' AS short;
ROLLBACK;
-- a meeting whose transcript came is not late; it is of the deal that it names; a file is named in its follow-up; a delay counts from when it happened
INSERT INTO crm_data.interaction (account_id, kind, occurred_at) SELECT id, 'meeting', now() - interval '10 minutes' FROM crm_data.account WHERE code IN ('INBOX-2', 'INBOX-3');
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, owner_id) SELECT a.id, 'INBOX-D', 'Inbox deal', p.id, s.id, a.owner_id FROM crm_data.account AS a, crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'contact' WHERE p.code = 'standard' AND a.code = 'INBOX-2';
SELECT crm.ingest('asr', 'in 11', 'meeting', '{"account_code": "INBOX-2", "summary": "what was said", "opportunity_code": "INBOX-D"}', now() - interval '9 minutes') ->> 'state' AS state,
       crm.ingest('wecom_archive', 'in 12', 'chat_file', '{"account_code": "INBOX-2", "file_name": "报价单.pdf", "opportunity_code": "INBOX-D"}') ->> 'state' AS file,
       crm.ingest('app', 'in 13', 'treatment', '{"account_code": "INBOX-2"}', now() - interval '3 days') ->> 'state' AS treatment, crm.ingest('app', 'in 14', 'treatment', '{"account_code": "INBOX-2", "phone": "13911110078"}', now() - interval '3 days') ->> 'state' AS the_long_way;
CALL crm.tick();
SELECT a.code, count(x.id) AS late FROM crm_data.account AS a LEFT JOIN crm_data.alert AS x ON x.account_id = a.id AND x.kind = 'sla' WHERE a.code IN ('INBOX-2', 'INBOX-3') GROUP BY 1 ORDER BY 1;
SELECT i.kind, i.summary, o.code AS deal FROM crm_data.interaction AS i JOIN crm_data.opportunity AS o ON o.id = i.opportunity_id WHERE o.code = 'INBOX-D' ORDER BY i.kind DESC;
SELECT round(extract(epoch FROM e.at - now()) / 86400) AS days FROM crm_data.rule_event AS e JOIN crm_data.account AS a ON a.id = e.record_id AND a.code = 'INBOX-2' WHERE e.kind = 'rule:revisit_after_event';
DELETE FROM crm_data.rule_event WHERE kind = 'rule:revisit_after_event';
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code = 'INBOX-D';
DELETE FROM crm_data.alert WHERE kind = 'sla';
-- bad input
SELECT crm.reprocess('nowhere', now());
SELECT crm.retry_inbox('nowhere');
SELECT crm.ingest('nowhere', 'x', 'call', '{}');
SELECT crm.ingest('web', 'x', 'form', '[]');
SELECT crm.ingest('web', '', 'form', '{}');
UPDATE crm_data.account SET deleted_at = now() WHERE code LIKE 'INBOX-%';
UPDATE crm_data.lead SET deleted_at = now() WHERE client_key = 'web:in 4';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE kind = 'first_touch' AND state = 'open';
UPDATE crm_data.member SET left_at = current_date WHERE full_name = 'Inbox Rep';
