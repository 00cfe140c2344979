-- Inbox: once, visible, never filtered by its own time.
\set VERBOSITY terse
SET client_min_messages = warning;
INSERT INTO crm_data.member (full_name) VALUES ('Inbox Rep');
INSERT INTO crm_data.account (code, name, owner_id) SELECT 'INBOX-1', 'Inbox Customer', id FROM crm_data.member WHERE full_name = 'Inbox Rep';
SELECT crm.ingest('telephony', 'in 1', 'call', '{"account_code": "INBOX-1", "connected": true, "seconds": 91}', '2020-01-01') - 'inbox' - 'record' AS old_but_taken;
SELECT crm.ingest('telephony', 'in 1', 'call', '{"account_code": "INBOX-1", "connected": true, "seconds": 91}', '2020-01-01') - 'inbox' - 'record' AS again;
SELECT crm.ingest('telephony', 'in 2', 'call', '{"account_code": "INBOX-1", "connected": true, "seconds": 90}') - 'inbox' - 'record' AS too_short;
SELECT i.kind, i.depth, i.auto, i.occurred_at = '2020-01-01' AS its_own_time FROM crm_data.interaction AS i JOIN crm_data.account AS a ON a.id = i.account_id WHERE a.code = 'INBOX-1';
SELECT crm.ingest('meeting', 'in 3', 'meeting', '{"account_code": "INBOX-1", "summary": "", "body": "talked"}') ->> 'state' AS state;
SELECT summary IS NULL AS empty_is_nothing, body FROM crm_data.interaction WHERE client_key LIKE 'inbox:%';
SELECT crm.ingest('web', 'in 4', 'form', '{"phone": "13911110077", "name": "In"}') - 'inbox' - 'record' AS lead;
SELECT crm.ingest('web', 'in 5', 'form', '{"name": "nobody"}') - 'inbox' AS rejected;
-- parked until the customer is known
SELECT crm.ingest('telephony', 'in 6', 'call', '{"account_code": "INBOX-2", "connected": true, "seconds": 200}') - 'inbox' AS parked;
INSERT INTO crm_data.account (code, name, owner_id) SELECT 'INBOX-2', 'Inbox Second', id FROM crm_data.member WHERE full_name = 'Inbox Rep';
SELECT crm.retry_inbox('telephony') AS applied, crm.retry_inbox('telephony') AS again;
-- bad input
SELECT crm.ingest('nowhere', 'x', 'call', '{}');
SELECT crm.ingest('web', 'x', 'form', '[]');
SELECT crm.ingest('web', '', 'form', '{}');
UPDATE crm_data.account SET deleted_at = now() WHERE code LIKE 'INBOX-%';
UPDATE crm_data.lead SET deleted_at = now() WHERE client_key = 'web:in 4';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE kind = 'first_touch' AND state = 'open';
UPDATE crm_data.member SET left_at = current_date WHERE full_name = 'Inbox Rep';
