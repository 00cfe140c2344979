-- The rule engine: windows, once, breaches, actions, risk levels, held discounts, information health.
\set VERBOSITY terse
SET client_min_messages = warning;
DELETE FROM crm_data.rule_event;
CREATE ROLE rule_boss LOGIN IN ROLE crm_manager;
CREATE ROLE rule_rep LOGIN IN ROLE crm_sales;
CREATE ROLE rule_service LOGIN IN ROLE crm_service;
INSERT INTO crm_data.team (code, name) VALUES ('RULES', 'Rules');
INSERT INTO crm_data.member (role_name, full_name, team_id, rank, locale) SELECT v.r, v.n, t.id, v.k, 'en' FROM crm_data.team AS t, (VALUES ('rule_boss', 'Rule Boss', 5), ('rule_service', 'Rule Service', 0)) AS v (r, n, k) WHERE t.code = 'RULES';
INSERT INTO crm_data.member (role_name, full_name, team_id, manager_id, locale) SELECT 'rule_rep', 'Rule Rep', b.team_id, b.id, 'en' FROM crm_data.member AS b WHERE b.full_name = 'Rule Boss';
INSERT INTO crm_data.account (name, owner_id, team_id, last_contact_at) SELECT 'Rule Customer', id, team_id, now() FROM crm_data.member WHERE full_name = 'Rule Rep';
SELECT id AS acc FROM crm_data.account WHERE name = 'Rule Customer' \gset
CREATE VIEW pg_temp.tasks AS SELECT t.kind, t.title, m.full_name AS whose, t.priority, t.rule_key FROM crm_data.task AS t LEFT JOIN crm_data.member AS m ON m.id = t.owner_id WHERE t.account_id = (SELECT id FROM crm_data.account WHERE name = 'Rule Customer') AND t.state = 'open' ORDER BY t.id;

-- two mentions within a week, not one; and one ticket for the window, whatever comes after it
INSERT INTO crm_data.interaction (account_id, kind, summary) VALUES (:acc, 'call', '客户说再看看');
CALL crm.tick();
SELECT count(*) AS after_one FROM pg_temp.tasks;
INSERT INTO crm_data.interaction (account_id, kind, summary) VALUES (:acc, 'call', '价格太高,不考虑');
CALL crm.tick();
SELECT * FROM pg_temp.tasks;
INSERT INTO crm_data.interaction (account_id, kind, summary) VALUES (:acc, 'call', '还是再看看');
CALL crm.tick();
CALL crm.tick();
SELECT count(*) AS still FROM pg_temp.tasks;
SELECT o.topic, m.full_name FROM crm_data.outbox AS o JOIN crm_data.member AS m ON m.id = o.recipient_id WHERE o.topic = 'alert.emotion' AND o.account_id = :acc;
-- satisfaction below 3 opens a case for the service, each survey its own; 3 does not
INSERT INTO crm_data.interaction (account_id, kind, satisfaction) VALUES (:acc, 'survey', 2), (:acc, 'survey', 3), (:acc, 'survey', 1);
CALL crm.tick();
SELECT * FROM pg_temp.tasks WHERE kind = 'case';
-- a week without a word: the manager and a task, once; a month: an alert too; spoken to and silent again: anew
UPDATE crm_data.account SET last_contact_at = now() - interval '8 days' WHERE id = :acc;
SELECT crm._job_followup_watch(now()) > 0 AS fired;
SELECT crm._run_rules('timer.account', 'account', :acc, '{}') AS again;
SELECT title, whose FROM pg_temp.tasks WHERE rule_key = 'followup_manager';
UPDATE crm_data.account SET last_contact_at = now() - interval '31 days' WHERE id = :acc;
SELECT crm._run_rules('timer.account', 'account', :acc, '{}') AS a_month;
SELECT level, message FROM crm_data.alert WHERE account_id = :acc AND kind = 'silent';
INSERT INTO crm_data.interaction (account_id, kind, occurred_at) VALUES (:acc, 'call', now() + interval '1 second');
UPDATE crm_data.account SET last_contact_at = now() - interval '9 days' WHERE id = :acc;
SELECT crm._run_rules('timer.account', 'account', :acc, '{}') AS silent_again;
-- an event that has its own delay is looked at when that is over
SELECT crm._emit('event.treatment', 'account', :acc, '{"kind": "treatment", "id": 1}');
CALL crm.tick();
SELECT kind, round(extract(epoch FROM at - now()) / 86400) AS days FROM crm_data.rule_event WHERE record_id = :acc AND object = 'account' AND kind LIKE 'rule:%';
UPDATE crm_data.rule_event SET at = now() WHERE kind LIKE 'rule:%';
CALL crm.tick();
SELECT title FROM pg_temp.tasks WHERE rule_key = 'revisit_after_event';
-- seven days after it happened, whenever it was told; and nobody is asked for what is long over
DELETE FROM crm_data.rule_event WHERE kind LIKE 'rule:%';
SELECT crm._emit('event.treatment', 'account', :acc, jsonb_build_object('kind', 'treatment', 'id', 2, 'occurred_at', now() - interval '3 days')), crm._emit('event.treatment', 'account', :acc, jsonb_build_object('kind', 'treatment', 'id', 3, 'occurred_at', now() - interval '30 days'));
CALL crm.tick();
SELECT event -> 'id' AS id, round(extract(epoch FROM at - now()) / 86400) AS days FROM crm_data.rule_event WHERE record_id = :acc AND kind LIKE 'rule:%';
DELETE FROM crm_data.rule_event WHERE kind LIKE 'rule:%';
-- days that come: a field of one's own with a delay, a column with a time before it; each day once, what is past for a week too
INSERT INTO crm_data.field (object, name, type, label, purpose, class, write_class, custom) VALUES ('account', 'surgery_on', 'date', '{"en": "Surgery"}', 'asks after it', 'custom', 'text', true);
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver) VALUES
    ('rule', 'test_surgery', 1, '{"on": "date.account.surgery_on", "when": "$", "delay": "7 days", "en": "Ask", "zh": "问", "then": [{"do": "task", "due": "1 day", "en": "Ask after the surgery"}]}', 'active', '[2020-01-01,)', 'a', 'b'),
    ('rule', 'test_renewal', 1, '{"on": "date.account.next_renewal_on", "when": "$.account ? (@.grade >= 0)", "before": "30 days", "en": "Renew", "zh": "续", "then": [{"do": "task", "due": "1 day", "en": "Talk of the renewal"}]}', 'active', '[2020-01-01,)', 'a', 'b');
SELECT v.path, v.message FROM crm_data.config AS c, crm.config_validate('rule', c.body) AS v WHERE c.key IN ('test_surgery', 'test_renewal');
SELECT path, message FROM crm.config_validate('rule', '{"on": "date.account.name", "when": "$", "then": [{"do": "tag", "tag": "nobody knows it"}, {"do": "chain", "rule": "nor this"}]}');
SELECT path, message FROM crm.config_validate('rule', '{"on": "reconcile.done", "when": "$", "before": "1 day", "then": [{"do": "assign"}]}');
UPDATE crm_data.account SET attrs = attrs || '{"surgery_on": "2026-11-13"}', next_renewal_on = '2026-12-20' WHERE id = :acc;
SELECT crm._job_date_rules('2026-11-19 06:30+08') AS the_day_before, crm._job_date_rules('2026-11-20 06:30+08') AS the_day, crm._job_date_rules('2026-11-20 06:31+08') AS again, crm._job_date_rules('2026-11-22 06:30+08') AS later;
SELECT title FROM pg_temp.tasks WHERE rule_key IN ('test_surgery', 'test_renewal');
UPDATE crm_data.account SET attrs = attrs || '{"surgery_on": "2026-12-01"}' WHERE id = :acc;
SELECT crm._job_date_rules('2026-12-10 06:30+08') AS another_surgery_two_days_late, crm._job_date_rules('2027-01-10 06:30+08') AS much_later;
UPDATE crm_data.config SET status = 'retired' WHERE key IN ('test_surgery', 'test_renewal');
UPDATE crm_data.field SET retired_at = now() WHERE name = 'surgery_on';
-- an event for a rule that is gone goes too; one that fails stays visible and stops nobody
INSERT INTO crm_data.rule_event (kind, object, record_id) VALUES ('rule:nothing', 'account', :acc);
CALL crm.tick();
INSERT INTO crm_data.rule_event (kind, object, record_id, event) VALUES ('rule:call_auto_log', 'account', :acc, '{"connected": true, "seconds": 91, "occurred_at": "never"}'), ('rule:call_auto_log', 'account', :acc, '{"connected": true, "seconds": 91, "id": 2}');
CALL crm.tick();
SELECT attempts, error FROM crm_data.rule_event WHERE record_id = :acc;
SELECT kind, summary, depth, auto FROM crm_data.interaction WHERE account_id = :acc AND auto;

-- risk: levels with hysteresis, discounts held and freed, the heaviest signals become tasks
SELECT crm._risk_level(60, 'green') AS at_60, crm._risk_level(61, 'green') AS above, crm._risk_level(81, 'yellow') AS orange, crm._risk_level(77, 'orange') AS stays, crm._risk_level(75, 'orange') AS leaves, crm._risk_level(96, 'green') AS red;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, close_date, slip_count, stage_entered_at, owner_id, team_id)
SELECT :acc, 'RULE1', 'Rule deal', p.id, s.id, 1000, current_date - 10, 3, now() - interval '40 days', m.id, m.team_id FROM crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'demo', crm_data.member AS m WHERE p.code = 'standard' AND m.full_name = 'Rule Rep';
SELECT id AS deal FROM crm_data.opportunity WHERE code = 'RULE1' \gset
INSERT INTO crm_data.contract (account_id, opportunity_id, code, state, legal_edits) VALUES (:acc, :deal, 'RULE-1', 'review', 4);
UPDATE crm_data.opportunity SET last_contact_at = now() - interval '40 days' WHERE id = :deal;
SELECT crm._score_risk(:deal, now()) IN ('orange', 'red') AS high;
SELECT discount_hold, risk_level IN ('orange', 'red') AS high FROM crm_data.opportunity WHERE id = :deal;
SELECT count(*) AS attack_list FROM crm_data.task WHERE object = 'opportunity' AND record_id = :deal AND kind = 'risk_action' AND state = 'open';
SELECT crm._score_risk(:deal, now()) IN ('orange', 'red') AS again;
SELECT count(*) AS attack_list FROM crm_data.task WHERE object = 'opportunity' AND record_id = :deal AND kind = 'risk_action' AND state = 'open';
UPDATE crm_data.opportunity SET discount_pct = 10 WHERE id = :deal;
\echo :LAST_ERROR_SQLSTATE
-- a line that has its discount from before may be worked on, and the discount taken back; no more of it, and none on a new line
ALTER TABLE crm_data.line_item DISABLE TRIGGER process_discount_hold;
INSERT INTO crm_data.product (code, name) VALUES ('RULE-P', 'Rule product') RETURNING id AS product \gset
INSERT INTO crm_data.line_item (opportunity_id, account_id, product_id, quantity, unit_price, discount_pct) VALUES (:deal, :acc, :product, 1, 100, 10) RETURNING id AS line \gset
ALTER TABLE crm_data.line_item ENABLE TRIGGER process_discount_hold;
UPDATE crm_data.line_item SET quantity = 3 WHERE id = :line;
UPDATE crm_data.line_item SET discount_pct = 5 WHERE id = :line;
UPDATE crm_data.line_item SET discount_pct = 6 WHERE id = :line;
INSERT INTO crm_data.line_item (opportunity_id, account_id, product_id, quantity, unit_price, discount_pct) VALUES (:deal, :acc, :product, 1, 100, 1);
SELECT quantity, discount_pct FROM crm_data.line_item WHERE opportunity_id = :deal;
-- a product's life ends on the day it is retired: nobody offers it any more, what was sold before stays
INSERT INTO crm_data.product (code, name, retired_on) VALUES ('RULE-OLD', 'Rule old product', '2026-01-01') RETURNING id AS old_product \gset
SET ROLE rule_rep;
INSERT INTO crm.line_item (opportunity_id, account_id, product_id, unit_price) VALUES (:deal, :acc, :old_product, 100);
INSERT INTO crm.line_item (opportunity_id, account_id, product_id, unit_price, sold_on) VALUES (:deal, :acc, :old_product, 100, '2025-12-31') RETURNING product_id = :old_product AS sold_before;
INSERT INTO crm.line_item (opportunity_id, account_id, product_id, unit_price) VALUES (:deal, :acc, :product, 100) RETURNING product_id = :product AS sold;
SELECT score > 80 AS high, level IN ('orange', 'red') AS level, count(signal) >= 4 AS signals FROM crm.risk(:deal) GROUP BY 1, 2;
SELECT crm.risk(-1);
RESET ROLE;
UPDATE crm_data.contract SET legal_edits = 0 WHERE code = 'RULE-1';
UPDATE crm_data.opportunity SET close_date = current_date + 30, slip_count = 0, stage_entered_at = now(), last_contact_at = now() WHERE id = :deal;
UPDATE crm_data.task SET state = 'done', done_at = now() WHERE object = 'opportunity' AND record_id = :deal;
UPDATE crm_data.task SET state = 'done', done_at = now() WHERE account_id = :acc;
SELECT crm._score_risk(:deal, now()) IN ('green', 'yellow') AS low;
SELECT discount_hold FROM crm_data.opportunity WHERE id = :deal;
UPDATE crm_data.opportunity SET discount_pct = 10 WHERE id = :deal;
-- information health: what is missing costs, below 80 opens one task
SELECT * FROM crm._info_health(:acc, now());
INSERT INTO crm_data.contact (account_id, name) VALUES (:acc, 'Rule Contact');
SELECT * FROM crm._info_health(:acc, now());
UPDATE crm_data.account SET info_health = 40 WHERE id = :acc;
SELECT crm._run_rules('score.info_health', 'account', :acc, '{}') AS fired, crm._run_rules('score.info_health', 'account', :acc, '{}') AS again;
SELECT title FROM pg_temp.tasks WHERE kind = 'data_completion';
-- leave as found
UPDATE crm_data.opportunity SET deleted_at = now() WHERE id = :deal;
UPDATE crm_data.account SET deleted_at = now() WHERE id = :acc;
UPDATE crm_data.contract SET deleted_at = now() WHERE code = 'RULE-1';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE account_id = :acc AND state = 'open';
DELETE FROM crm_data.rule_event;
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Rule %';
DROP VIEW pg_temp.tasks;
DROP ROLE rule_boss, rule_rep, rule_service;
