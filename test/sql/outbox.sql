-- Outbox: claimed once, tried again, other channels when one is down.
\set VERBOSITY terse
SET client_min_messages = warning;
UPDATE crm_data.outbox SET state = 'cancelled' WHERE state IN ('pending', 'failed', 'claimed');     -- of other tests
INSERT INTO crm_data.member (full_name, email, phone) VALUES ('Out One', 'one@example.com', '13912345678'), ('Out Two', NULL, NULL);
SELECT id AS one FROM crm_data.member WHERE full_name = 'Out One' \gset
SELECT id AS two FROM crm_data.member WHERE full_name = 'Out Two' \gset
SELECT t.name, c.channel, c.fallback FROM unnest('{task.first_touch,alert.orange,report.anything,nothing known}'::text[]) WITH ORDINALITY AS t (name, n) CROSS JOIN LATERAL crm._topic_channel(t.name) AS c ORDER BY t.n;
-- once for each member and key
SELECT crm._notify('task.first_touch', 'out test', '{"task": 1}', ARRAY[:one, :two]);
SELECT crm._notify('task.first_touch', 'out test', '{"task": 1}', ARRAY[:one, :two]);
CREATE TEMP TABLE claimed AS SELECT * FROM crm.outbox_claim('relay a', 100, '{sms}');
SELECT topic, channel, recipient, address, payload, attempts FROM claimed ORDER BY id;
SELECT count(*) AS for_the_other FROM crm.outbox_claim('relay b', 100, '{sms}');
SELECT crm.outbox_ack(ARRAY[(SELECT min(id) FROM claimed)], 'relay b') AS not_his, crm.outbox_ack(ARRAY[(SELECT min(id) FROM claimed)], 'relay a') AS his;
SELECT crm.outbox_fail((SELECT max(id) FROM claimed), 'relay b', 'no answer') AS not_his, crm.outbox_fail((SELECT max(id) FROM claimed), 'relay a', 'no answer') AS his;
SELECT state, attempts, next_at > now() AS later, last_error FROM crm_data.outbox WHERE id = (SELECT max(id) FROM claimed);
-- a number that does not exist: the other channels, each once
UPDATE crm_data.outbox SET next_at = now() WHERE id = (SELECT max(id) FROM claimed);
SELECT crm.outbox_fail(id, 'relay a', 'unknown number', true) FROM crm.outbox_claim('relay a', 100, '{sms}');
SELECT channel, state, regexp_replace(dedupe_key, ':\d+', '') AS key, fallback FROM crm_data.outbox WHERE parent_id = (SELECT max(id) FROM claimed) ORDER BY channel;
-- a gateway that is down: after eight failures in a row the circuit opens, and what waits takes the other channels at the next tick
UPDATE crm_data.channel SET failures = 0 WHERE name = 'sms';
SELECT sum(crm._notify('task.first_touch', 'down ' || i, '{}', ARRAY[:one])) FROM generate_series(1, 10) AS i;
SELECT count(crm.outbox_fail(id, 'relay a', 'gateway down')) AS failed FROM (SELECT * FROM crm.outbox_claim('relay a', 8, '{sms}')) AS c;
SELECT circuit, failures FROM crm_data.channel WHERE name = 'sms';
SELECT level, message FROM crm_data.alert WHERE kind = 'channel_down';
SELECT count(*) AS while_open FROM crm.outbox_claim('relay a', 100, '{sms}');
CALL crm.tick();
SELECT channel, state, count(*) FROM crm_data.outbox WHERE dedupe_key LIKE 'down %' GROUP BY 1, 2 ORDER BY 1, 2;
-- the pause is over: one trial, and its success closes the circuit
UPDATE crm_data.channel SET open_until = now() WHERE name = 'sms';
UPDATE crm_data.outbox SET next_at = now() WHERE state = 'failed';
SELECT count(crm.outbox_ack(ARRAY[id], 'relay a')) AS trials FROM (SELECT * FROM crm.outbox_claim('relay a', 100, '{sms}')) AS c;
SELECT circuit, failures FROM crm_data.channel WHERE name = 'sms';
-- bad input
SELECT crm.outbox_claim('', 10);
SELECT crm.outbox_claim('relay', 0);
SELECT crm.outbox_fail(-1, 'relay', 'x');
SET ROLE crm_sales;
SELECT crm.outbox_claim('relay', 10);
RESET ROLE;
DELETE FROM crm_data.outbox WHERE parent_id IS NOT NULL AND recipient_id IN (:one, :two);
DELETE FROM crm_data.outbox WHERE recipient_id IN (:one, :two);
DELETE FROM crm_data.alert WHERE kind = 'channel_down';
-- a message leads to what it is about, where the organisation has said how, the short way of a lead too; and so do rows of a page
BEGIN;
SELECT crm._link('task', '1') IS NULL AS nowhere_yet;
UPDATE crm_data.config SET body = '{"value": "https://crm.example.com/{object}/{id}?a=1&b=2"}' WHERE kind = 'setting' AND key = 'organisation.link' AND status = 'active';
SELECT crm._notify(v.topic, v.topic || ' link', v.payload::jsonb, ARRAY[(SELECT id FROM crm_data.member WHERE full_name = 'Out One')]) AS sent
  FROM (VALUES ('task.overdue', '{"task": 7}'), ('report.x', '{"report": "x", "snapshot": 8}'), ('alert.x', '{"object": "opportunity", "record": 9}'), ('other', '{"yours": 3}')) AS v (topic, payload);
SELECT payload ->> 'link' AS link FROM crm_data.outbox WHERE dedupe_key LIKE '% link:%' ORDER BY id;
UPDATE crm_data.member SET capacity = 10 WHERE full_name = 'Out One';
SELECT crm.capture_lead('{"phone": "13911110055"}') ->> 'lead' AS l \gset
SELECT payload ->> 'link' = 'https://crm.example.com/lead/' || :l || '?a=1&b=2' AS leads_to_the_lead FROM crm_data.outbox WHERE topic = 'task.first_touch' AND payload ->> 'lead' = :'l';
SELECT (regexp_matches(crm.report_html('x', '{"columns": ["account", "days"], "rows": [{"account": "<A>", "days": 1, "object": "contract", "record_id": 5, "account_id": 6}, {"account": "B", "account_id": 6}, {"account": "C"}]}', 'en'), '<td data-l="Customer">.*?</td>', 'g'))[1] AS cell;
UPDATE crm_data.config SET body = '{"value": "javascript:alert(1)//{id}"}' WHERE kind = 'setting' AND key = 'organisation.link' AND status = 'active';
SELECT crm._link('task', '1') IS NULL AS only_the_web;
ROLLBACK;


-- a reminder carries the customer as its recipient sees him when it goes out, and nothing of that stays in the outbox
DO $$ BEGIN CREATE ROLE outbox_rep LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE outbox_service LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT crm_sales TO outbox_rep;
GRANT crm_service TO outbox_service;
INSERT INTO crm_data.member (role_name, full_name, phone) VALUES ('outbox_rep', 'Snap Rep', '13912345001'), ('outbox_service', 'Snap Service', '13912345002');
INSERT INTO crm_data.account (code, name, phone, annual_revenue, city, owner_id) SELECT 'SNAP-1', '快照客户', '13855501234', 777000.00, '宁波', m.id FROM crm_data.member AS m WHERE m.full_name = 'Snap Rep';
INSERT INTO crm_data.account (code, name, phone, city) VALUES ('SNAP-2', '别人的客户', '13855505678', '温州');
INSERT INTO crm_data.lead (name, company, phone, need, owner_id, state) SELECT '钱某', '快照公司', '13855509999', '储能', m.id, 'assigned' FROM crm_data.member AS m WHERE m.full_name = 'Snap Rep';
SELECT crm._notify(v.topic, v.key, v.payload || CASE WHEN v.key = 'snap 3' THEN jsonb_build_object('lead', (SELECT id FROM crm_data.lead WHERE company = '快照公司')) ELSE '{}' END,
                   ARRAY(SELECT m.id FROM crm_data.member AS m WHERE m.full_name LIKE 'Snap %' ORDER BY m.id), (SELECT a.id FROM crm_data.account AS a WHERE a.code = v.code)) AS sent
  FROM (VALUES ('task.overdue', 'snap 1', 'SNAP-1', '{"task": 1}'::jsonb), ('task.overdue', 'snap 2', 'SNAP-2', '{"task": 2}'), ('task.first_touch', 'snap 3', NULL, '{}'), ('report.x', 'snap 4', 'SNAP-1', '{"report": "x"}')) AS v (topic, key, code, payload) ORDER BY v.key;
SELECT o.payload::text ~ '555|快照|777' AS values_in_it FROM crm_data.outbox AS o WHERE o.dedupe_key LIKE 'snap %' GROUP BY 1;
SELECT split_part(c.dedupe_key, ':', 1) AS message, c.recipient, c.payload #>> '{customer,account,name}' AS name, c.payload #>> '{customer,account,phone}' AS phone, c.payload #>> '{customer,account,annual_revenue}' AS revenue,
       c.payload #>> '{customer,counts,contact}' AS contacts, c.payload #>> '{lead_card,phone}' AS lead_phone, c.payload ? 'lead_card' AS lead
  FROM crm.outbox_claim('relay s', 1000) AS c WHERE c.dedupe_key LIKE 'snap %' ORDER BY 1, 2;
SELECT o.payload::text ~ '555|快照|777' AS values_in_it, crm.me() IS NULL AS nobody_again FROM crm_data.outbox AS o WHERE o.dedupe_key LIKE 'snap %' GROUP BY 1;
SELECT * FROM crm.config_validate('notification', '{"snapshot": ["task.*", 5], "topics": {"*": "email"}}');
DELETE FROM crm_data.outbox WHERE dedupe_key LIKE 'snap %';
