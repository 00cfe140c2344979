-- Reports of a period, with figures that can be counted by hand. Everything is in 2003, so that nothing else of the tests is about.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
CREATE ROLE regress_period_boss IN ROLE crm_manager;
CREATE ROLE regress_period_director IN ROLE crm_director;
INSERT INTO crm_data.team (code, name) VALUES ('PERIOD1', 'Period one'), ('PERIOD2', 'Period two');
INSERT INTO crm_data.member (full_name, role_name, team_id, locale) SELECT 'Period Boss', 'regress_period_boss', id, 'en' FROM crm_data.team WHERE code = 'PERIOD1';
INSERT INTO crm_data.member (full_name, role_name, locale) VALUES ('Period Director', 'regress_period_director', 'en');
INSERT INTO crm_data.member (full_name, team_id) SELECT 'Period Rep ' || right(code, 1), id FROM crm_data.team WHERE code LIKE 'PERIOD_';
INSERT INTO crm_data.account (name, phone, email, created_at, owner_id, team_id) SELECT 'Period ' || v.name, v.phone, v.email, '2003-01-01', m.id, m.team_id
  FROM (VALUES ('A', '1', '13800000001', 'a@example.com'), ('B', '1', NULL, NULL), ('C', '2', NULL, NULL)) AS v (name, rep, phone, email) JOIN crm_data.member AS m ON m.full_name = 'Period Rep ' || v.rep;
INSERT INTO crm_data.fx_rate (currency, base_currency, rate_date, rate, source) VALUES ('EUR', 'CNY', '2003-01-01', 8, 'test'), ('EUR', 'CNY', '2003-05-10', 10, 'test');
-- May 2003: team one signs 1000 CNY and 100 EUR at 8 (A) and 100 EUR at 10 (B), team two 500 (A again: one customer of two teams); not counted: a draft, a terminated one, one of June.
-- April: 1000.
INSERT INTO crm_data.contract (code, account_id, state, amount, currency, signed_on, owner_id, team_id)
SELECT v.code, a.id, v.state, v.amount, v.currency, v.signed::date, m.id, m.team_id
  FROM (VALUES ('PC1', 'A', '1', 'active', 1000, 'CNY', '2003-05-01'), ('PC2', 'A', '1', 'signed', 100, 'EUR', '2003-05-09'), ('PC3', 'B', '1', 'finished', 100, 'EUR', '2003-05-31'), ('PC4', 'A', '2', 'active', 500, 'CNY', '2003-05-15'),
               ('PC5', 'B', '1', 'draft', 7777, 'CNY', '2003-05-15'), ('PC6', 'B', '1', 'terminated', 7777, 'CNY', '2003-05-15'), ('PC7', 'C', '2', 'active', 7777, 'CNY', '2003-06-01'), ('PC8', 'C', '2', 'active', 1000, 'CNY', '2003-04-30')) AS v (code, account, rep, state, amount, currency, signed)
  JOIN crm_data.account AS a ON a.name = 'Period ' || v.account JOIN crm_data.member AS m ON m.full_name = 'Period Rep ' || v.rep;
-- paid 900 and 50 EUR at 10, refunded 100: receipts 1300; invoiced 2000
INSERT INTO crm_data.receivable_entry (kind, account_id, amount, currency, occurred_on, owner_id, team_id)
SELECT v.kind, a.id, v.amount, v.currency, v.day::date, a.owner_id, a.team_id FROM (VALUES ('payment', 900, 'CNY', '2003-05-02'), ('payment', 50, 'EUR', '2003-05-20'), ('refund', 100, 'CNY', '2003-05-30'), ('invoice', 2000, 'CNY', '2003-05-03'), ('payment', 5555, 'CNY', '2003-06-01')) AS v (kind, amount, currency, day)
  JOIN crm_data.account AS a ON a.name = 'Period A';
-- closed in May: team one 2 won and 1 lost, team two 1 lost; midnight belongs to the day that begins
SELECT crm.pipeline_put('period', 'Period', '[{"code": "a", "name": "Alpha", "probability": 0.2}, {"code": "b", "name": "Beta", "probability": 0.5}, {"code": "won", "name": "Won", "outcome": "won"}, {"code": "lost", "name": "Lost", "outcome": "lost"}]') > 0 AS made;
BEGIN;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, furthest_stage_id, outcome, amount, closed_at, created_at, owner_id, team_id)
SELECT a.id, v.code, v.code, p.id, s.id, f.id, s.outcome, 100, v.closed::timestamptz, '2003-01-01', a.owner_id, a.team_id
  FROM (VALUES ('PO1', 'A', 'won', 'won', '2003-05-01 00:00'), ('PO2', 'A', 'won', 'won', '2003-05-31 23:59:59'), ('PO3', 'B', 'lost', 'b', '2003-05-10'), ('PO4', 'C', 'lost', 'a', '2003-05-10'), ('PO5', 'C', 'won', 'won', '2003-06-01 00:00')) AS v (code, account, stage, furthest, closed)
  JOIN crm_data.account AS a ON a.name = 'Period ' || v.account JOIN crm_data.pipeline AS p ON p.code = 'period' JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = v.stage JOIN crm_data.stage AS f ON f.pipeline_id = p.id AND f.code = v.furthest;
INSERT INTO crm_data.stage_history (opportunity_id, account_id, to_stage_id, entered_at, recorded_at) SELECT o.id, o.account_id, o.stage_id, o.closed_at, o.closed_at FROM crm_data.opportunity AS o WHERE o.code LIKE 'PO_';
COMMIT;
-- a quota of the second quarter (91 days) for two people of team one, 910 and 91: May has 31 of the days; team two has one of its own beside a person's
INSERT INTO crm_data.quota (member_id, team_id, period, basis, amount)
SELECT m.id, t.id, '[2003-04-01,2003-07-01)', 'bookings', v.amount FROM (VALUES ('PERIOD1', 'Period Rep 1', 910), ('PERIOD1', 'Period Boss', 91), ('PERIOD2', NULL, 1820), ('PERIOD2', 'Period Rep 2', 9999)) AS v (team, member, amount)
  JOIN crm_data.team AS t ON t.code = v.team LEFT JOIN crm_data.member AS m ON m.full_name = v.member;
-- follow-ups: one person on two working days of May, another on one of them; one retracted, one of June
INSERT INTO crm_data.interaction (account_id, kind, occurred_at, recorded_at, author_id, summary, retracted_at, retracted_reason, owner_id, team_id)
SELECT a.id, 'call', v.at::timestamptz, v.at::timestamptz, m.id, 'Spoke', v.retracted::timestamptz, v.reason, m.id, m.team_id
  FROM (VALUES ('1', '2003-05-05 09:00', NULL, NULL), ('1', '2003-05-06 09:00', NULL, NULL), ('2', '2003-05-06 10:00', NULL, NULL), ('2', '2003-05-06 11:00', '2003-05-06 12:00', 'mistake'), ('2', '2003-06-01 00:00', NULL, NULL)) AS v (rep, at, retracted, reason)
  JOIN crm_data.member AS m ON m.full_name = 'Period Rep ' || v.rep JOIN crm_data.account AS a ON a.name = 'Period A';
-- the figures of the house: A is one customer though two teams signed with it
SELECT f.metric, f.value FROM crm._report_figures('{billings,bookings,customers,follow_ups,receipts,win_rate}', '2003-05-01', '2003-06-01', false) AS f;
SELECT t.name, f.metric, f.value FROM crm._report_figures('{bookings,customers}', '2003-05-01', '2003-06-01', true) AS f JOIN crm_data.team AS t ON t.id = f.team_id ORDER BY 2, 1;
-- managers see their teams, directors all, a representative nothing
SET ROLE regress_period_boss;
SELECT * FROM crm.team_performance('2003-05-20');
SELECT crm.monthly_snapshot('2003-05-20');
SELECT crm.health_report('2003-05-20');
SELECT crm.report_check('2003-06-01');
RESET ROLE;
SET ROLE regress_period_director;
SELECT * FROM crm.team_performance('2003-05-20') WHERE team LIKE 'Period %';
SELECT part, metric, value, before, change_rate, currency, definition_version AS v FROM crm.monthly_snapshot('2003-05-20') WHERE key NOT LIKE '%pipeline' AND (part <> 'trend' OR key >= '2003-03');
RESET ROLE;
SET ROLE crm_sales;
SELECT crm.team_performance('2003-05-20');
RESET ROLE;
-- health: two people in May, 1 and 2 on the working days, mean 1.5 of 2; 2 of 3 customers lack all five fields, A has two: 2 of 15;
-- a decision after 30 hours; one payload of four refused; of three deals with a frozen probability two on the right side
INSERT INTO crm_data.approval (kind, object, state, decided_at, created_at, expires_at) VALUES ('period', 'account', 'approved', '2003-05-02 06:00', '2003-05-01 00:00', '2003-06-01');
INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, state, reason, created_at)
SELECT s.id, 'period ' || i, 'x', '{}', sha256('x'), CASE i WHEN 1 THEN 'rejected' ELSE 'applied' END, CASE i WHEN 1 THEN 'no' END, '2003-05-05' FROM crm_data.source_system AS s, generate_series(1, 4) AS i WHERE s.name = 'web';
INSERT INTO crm_data.forecast_snapshot (period, opportunity_id, account_id, stage_id, amount, currency, amount_base, probability, category, frozen_at)
SELECT daterange(v.month::date, (v.month::date + interval '1 month')::date), o.id, o.account_id, o.stage_id, 100, 'CNY', 100, v.p, 'commit', v.at::timestamptz FROM (VALUES ('PO2', 0.1, '2003-04-01', '2003-04-01'), ('PO2', 0.9, '2003-05-01', '2003-05-01'), ('PO3', 0.2, '2003-05-01', '2003-05-01'), ('PO4', 0.5, '2003-05-01', '2003-05-01'), ('PO1', 0.1, '2003-05-01', '2003-05-02')) AS v (code, p, month, at) JOIN crm_data.opportunity AS o ON o.code = v.code;
SELECT indicator, value, target, status, left(advice, 30) AS advice FROM crm.health_report('2003-05-01');
-- both ways agree; a figure that a faulty report would give is found, and one that jumps
SELECT metric, value, control, deviation_rate, status FROM crm.report_check('2003-06-01');
SELECT crm._job_report_check('2003-06-01 01:30') AS bad;
SELECT metric, value, previous, change_rate, status FROM crm.report_check('2003-06-02') WHERE metric IN ('bookings', 'win_rate');
SELECT crm._job_report_check('2003-06-02 01:30') AS bad;
SELECT level, message FROM crm_data.alert WHERE kind = 'report_check';
BEGIN;
SET LOCAL ROLE crm_owner;
CREATE OR REPLACE FUNCTION crm._report_controls(from_on date, to_on date) RETURNS TABLE (metric text, value numeric) LANGUAGE sql STABLE STRICT AS 'SELECT ''bookings'', 3401::numeric UNION ALL SELECT ''receipts'', NULL';
SELECT metric, value, control, deviation_rate, status FROM crm._report_check('2003-06-01');
ROLLBACK;
-- and so is a view behind the funnel that somebody "optimised"
BEGIN;
DO $do$ BEGIN EXECUTE replace('CREATE OR REPLACE VIEW crm.stage_history AS ' || pg_get_viewdef('crm.stage_history'::regclass), ';', '') || ' WHERE t.id < 0'; END $do$;
SELECT metric, value, control, deviation_rate, status FROM crm.report_check('2003-06-01') WHERE metric = 'funnel_entrants';
ROLLBACK;
-- a definition that was changed has no second way, and no figure of the day before to jump from
BEGIN;
INSERT INTO crm_data.config (kind, key, version, body, author, approver, valid) SELECT 'metric', 'bookings', 2, c.body || '{"valid_from": "2002-01-01", "amount_basis": "net"}', 'a', 'b', '(,)' FROM crm_data.config AS c WHERE c.kind = 'metric' AND c.key = 'bookings' AND c.version = 1;
SELECT crm._config_activate(id) FROM crm_data.config WHERE kind = 'metric' AND key = 'bookings' AND version = 2;
SELECT metric, value, control, previous, definition_version, status FROM crm.report_check('2003-06-02') WHERE metric = 'bookings';
ROLLBACK;
-- stored and sent
SELECT crm._job_team_performance('2003-06-01 01:00') > 0 AS stored;
SELECT crm._job_monthly_snapshot('2003-06-01') AS stored;
SELECT crm._job_health_report('2003-06-01 09:00') AS stored;
SELECT s.report, lower(s.period) AS from_at, coalesce(m.full_name, 'the house') AS recipient FROM crm_data.report_snapshot AS s LEFT JOIN crm_data.member AS m ON m.id = s.recipient_id
 WHERE s.due_at BETWEEN '2003-06-01' AND '2003-06-02' AND (m.id IS NULL OR m.full_name LIKE 'Period %') ORDER BY s.report, s.due_at, s.seq;
SELECT m.full_name, o.topic FROM crm_data.outbox AS o JOIN crm_data.member AS m ON m.id = o.recipient_id WHERE o.topic LIKE 'report.%' AND m.full_name LIKE 'Period %' ORDER BY 2, 1;
SELECT l.report, h ~ '<svg' AS drawn, h LIKE '%</html>' AS whole, h !~ '>null<' AS clean FROM crm.report_list() AS l, LATERAL (SELECT crm.report_html(l.id, 'zh') AS h OFFSET 0) AS x
 WHERE l.due_at BETWEEN '2003-06-01' AND '2003-06-02' AND l.recipient IS NULL ORDER BY l.report, l.due_at;
SELECT h LIKE '%13%' AND h LIKE '%Hours to a decision</td>%' AND h LIKE '%25\%%' AS health FROM crm.report_list('health_report') AS l, LATERAL (SELECT crm.report_html(l.id, 'en') AS h) AS x WHERE l.due_at = '2003-06-01 09:00';
SELECT * FROM crm.verify_reports();
-- what became of the stored month: a refund of May that was posted late, a contract of May that was corrected
SELECT * FROM crm.restatement('[2003-05-01,2003-06-01)');
INSERT INTO crm_data.receivable_entry (kind, account_id, amount, occurred_on) SELECT 'refund', a.id, 300, '2003-05-31' FROM crm_data.account AS a WHERE a.name = 'Period A';
UPDATE crm_data.contract SET amount = 1100 WHERE code = 'PC1';
INSERT INTO crm_data.contract (code, account_id, state, amount, signed_on) SELECT 'PC9', a.id, 'active', 50, '2003-05-07' FROM crm_data.account AS a WHERE a.name = 'Period C';
SELECT month, metric, reported, now_value, difference, late_value, late_records, other_changes, currency, definition_version AS v FROM crm.restatement('[2003-05-01,2003-06-01)');
SELECT count(*) AS of_other_months FROM crm.restatement('[2003-06-01,2003-07-01)');
SELECT crm.restatement(NULL);
SELECT crm.restatement('[2003-05-01,)');
SET ROLE regress_period_boss;
SELECT crm.restatement('[2003-05-01,2003-06-01)');
RESET ROLE;
-- leave as found
DELETE FROM crm_data.alert WHERE kind = 'report_check';
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code LIKE 'PO_';
UPDATE crm_data.contract SET deleted_at = now() WHERE code LIKE 'PC_';
UPDATE crm_data.account SET deleted_at = now() WHERE name LIKE 'Period _';
UPDATE crm_data.member SET role_name = NULL WHERE full_name LIKE 'Period %';
DROP ROLE regress_period_boss, regress_period_director;
