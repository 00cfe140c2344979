-- Boards and daily reports, with figures that can be counted by hand. Everything is long ago, so that nothing else of the tests is about.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
CREATE ROLE regress_board_rep IN ROLE crm_sales;
CREATE ROLE regress_board_boss IN ROLE crm_manager;
CREATE ROLE regress_board_director IN ROLE crm_director;
INSERT INTO crm_data.team (code, name) VALUES ('BOARD', 'Board');
INSERT INTO crm_data.member (full_name, role_name, team_id, locale) SELECT 'Board Boss', 'regress_board_boss', id, 'en' FROM crm_data.team WHERE code = 'BOARD';
INSERT INTO crm_data.member (full_name, role_name, team_id, manager_id, locale) SELECT 'Board Rep', 'regress_board_rep', t.id, m.id, 'en' FROM crm_data.team AS t, crm_data.member AS m WHERE t.code = 'BOARD' AND m.full_name = 'Board Boss';
INSERT INTO crm_data.member (full_name, role_name, locale) VALUES ('Board Director', 'regress_board_director', 'zh');
-- five customers of the rep: grade, risk, rating, silence
INSERT INTO crm_data.account (name, grade, risk_score, credit_rating, last_contact_at, owner_id, team_id)
SELECT v.name, v.grade, v.risk, v.rating, v.spoken::timestamptz, m.id, m.team_id FROM crm_data.member AS m,
       (VALUES ('Board A', 4, 97, 'A', '2001-06-14 12:00'), ('Board B', 3, 85, 'B', '2001-06-08'), ('Board C', 2, 61, 'C', '2001-06-07 08:00'), ('Board D', 4, 60, NULL, '2001-05-16 08:30'), ('Board E', 3, NULL, 'D', '2001-03-01')) AS v (name, grade, risk, rating, spoken)
 WHERE m.full_name = 'Board Rep';
SELECT crm.pipeline_put('board', 'Board', '[{"code": "a", "name": "Alpha", "probability": 0.2}, {"code": "won", "name": "Won", "outcome": "won"}, {"code": "lost", "name": "Lost", "outcome": "lost"}]') > 0 AS made;
BEGIN;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, outcome, amount, competitor, closed_at, created_at, next_step, next_step_at, owner_id, team_id)
SELECT a.id, v.code, v.code, p.id, s.id, s.outcome, v.amount, v.competitor, v.closed::timestamptz, '2001-01-01', v.step, v.step_at::timestamptz, a.owner_id, a.team_id
  FROM (VALUES ('BO1', 'Board A', 'a', 1000, 'Rival', NULL, NULL, NULL), ('BO2', 'Board A', 'a', 2000, 'Rival', NULL, NULL, NULL), ('BO3', 'Board B', 'a', 500, NULL, NULL, 'Call them', '2001-06-15 15:00'),
               ('BO4', 'Board C', 'won', 700, 'Rival', '2001-06-14 10:00', NULL, NULL), ('BO5', 'Board C', 'lost', 900, 'Rival', '2001-06-14 23:59', NULL, NULL), ('BO6', 'Board C', 'lost', 900, 'Rival', '2001-06-15 00:00', NULL, NULL)) AS v (code, account, stage, amount, competitor, closed, step, step_at)
  JOIN crm_data.account AS a ON a.name = v.account JOIN crm_data.pipeline AS p ON p.code = 'board' JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = v.stage;
INSERT INTO crm_data.stage_history (opportunity_id, account_id, to_stage_id, entered_at, recorded_at) SELECT o.id, o.account_id, o.stage_id, '2001-01-01', '2001-01-01' FROM crm_data.opportunity AS o WHERE o.code LIKE 'BO_';
COMMIT;
INSERT INTO crm_data.task (kind, object, record_id, account_id, action_key, title, mandatory, due_at, priority, owner_id, team_id, created_at)
SELECT v.kind, 'opportunity', o.id, o.account_id, v.key, v.title, v.key IS NOT NULL, v.due::timestamptz, v.priority, o.owner_id, o.team_id, '2001-06-01'
  FROM (VALUES ('BO1', 'stage_action', 'quote_sent', 'Send it', '2001-06-13 08:00', 0), ('BO3', 'stage_action', 'quote_sent', 'Send it', '2001-06-11 08:00', 0), ('BO2', 'todo', NULL, 'First of all', '2001-06-20', 9), ('BO4', 'todo', NULL, 'Last', '2001-06-30', 0)) AS v (deal, kind, key, title, due, priority)
  JOIN crm_data.opportunity AS o ON o.code = v.deal;
UPDATE crm_data.opportunity SET attrs = '{"forms": {"competitor_matrix": {"competitor": "Rival", "strength": "price", "weakness": "service", "complete": true}}}' WHERE code = 'BO4';
-- the war board: three tasks, customers by risk, the one competitor (1 won, 2 lost)
SET ROLE regress_board_rep;
SELECT * FROM crm.my_board('2001-06-15 08:00');
-- today: A and B are of grade A and B, the rest is not or has nothing due
SELECT account, grade, reason, title, due_at FROM crm.today_focus('2001-06-15');
SELECT count(*) AS nothing_due_then FROM crm.today_focus('2001-06-10');
-- not for a representative
SELECT crm.followup_watch('2001-06-15 08:00');
SELECT crm.director_daily('2001-06-15 08:00');
RESET ROLE;
-- receivables: A expires in 90 days or more, rating A, 2 of 2 on time: 100; C expires in 45 days (50), rating C (40), 1 of 2 on time (0): 0.3 * 50 + 0.3 * 40 + 0.4 * 0 = 27;
-- D has no rating (60) and nothing due so far: (0.3 * 100 + 0.3 * 60) / 0.6 = 80
INSERT INTO crm_data.contract (code, account_id, state, amount, signed_on, starts_on, expires_on, owner_id, team_id)
SELECT v.code, a.id, v.state, 1000, '2001-01-01', '2001-01-01', v.expires::date, a.owner_id, a.team_id FROM (VALUES ('BOC1', 'Board A', 'active', '2001-09-13'), ('BOC2', 'Board C', 'signed', '2001-07-30'), ('BOC3', 'Board D', 'active', '2002-01-01'), ('BOC4', 'Board A', 'finished', '2001-06-01')) AS v (code, account, state, expires)
  JOIN crm_data.account AS a ON a.name = v.account;
INSERT INTO crm_data.payment_plan (contract_id, account_id, seq, due_on, amount, paid_on, owner_id, team_id)
SELECT c.id, c.account_id, v.seq, v.due::date, v.amount, v.paid::date, c.owner_id, c.team_id FROM (VALUES ('BOC1', 1, '2001-03-01', 300, '2001-03-01'), ('BOC1', 2, '2001-06-01', 300, '2001-05-20'), ('BOC1', 3, '2001-08-01', 400, NULL), ('BOC2', 1, '2001-03-01', 600, '2001-02-01'), ('BOC2', 2, '2001-06-01', 400, NULL)) AS v (code, seq, due, amount, paid)
  JOIN crm_data.contract AS c ON c.code = v.code;
SELECT level, account, contract, days_left, credit_rating, on_time_rate, instalments, outstanding, currency, score FROM crm.receivable_health('2001-06-15') WHERE contract LIKE 'BOC_' ORDER BY score, contract;
SET ROLE regress_board_rep;
SELECT count(*) > 0 AS own_contracts FROM crm.receivable_health('2001-06-15');
RESET ROLE;
-- silence: C for 7 days to the hour, D for 28, E for 105; A and B were spoken to
SET ROLE regress_board_boss;
SELECT level, account, owner, days FROM crm.followup_watch('2001-06-14 08:00');
SELECT level, account, days FROM crm.followup_watch('2001-06-14 07:59:59');
SELECT crm.director_daily('2001-06-15 08:00');
RESET ROLE;
-- the director's daily of the 15th: on the 14th one deal was won and one lost (the other is of the 15th), one follow-up written and one taken back, one lead
INSERT INTO crm_data.interaction (account_id, kind, occurred_at, recorded_at, author_id, summary, retracted_at, retracted_reason, owner_id, team_id)
SELECT a.id, 'call', '2001-06-14 09:00', '2001-06-14 09:00', a.owner_id, 'Spoke', v.retracted::timestamptz, v.reason, a.owner_id, a.team_id FROM crm_data.account AS a, (VALUES (NULL, NULL), ('2001-06-14 10:00', 'mistake')) AS v (retracted, reason) WHERE a.name = 'Board A';
INSERT INTO crm_data.lead (name, source, created_at, owner_id, team_id) SELECT 'Board Lead', 'web', '2001-06-14 12:00', m.id, m.team_id FROM crm_data.member AS m WHERE m.full_name = 'Board Rep';
INSERT INTO crm_data.alert (kind, level, message, created_at, owner_id, team_id) SELECT 'risk', l.level, 'Board alert ' || l.level, '2001-06-10 08:00', m.id, m.team_id FROM crm_data.member AS m, (VALUES ('red'), ('orange'), ('yellow')) AS l (level) WHERE m.full_name = 'Board Rep';
SET ROLE regress_board_director;
SELECT part, team, leads, follow_ups, won, lost, amount, currency FROM crm.director_daily('2001-06-15 08:00') WHERE part = 'yesterday';
SELECT part, team, action, account, owner, message, level, count, days FROM crm.director_daily('2001-06-15 08:00') WHERE part <> 'yesterday';
RESET ROLE;
SELECT crm._job_director_daily('2001-06-15 08:15') AS rows_stored;
SELECT h LIKE '%总监日报%昨日业绩%<svg%超期动作%报价单发送%未处理预警%' AS page, h !~ '>null<' AS clean FROM (SELECT crm.report_html(id, 'zh') AS h FROM crm.report_list('director_daily') WHERE due_at = '2001-06-15 08:15') AS x;
SELECT m.full_name, o.topic FROM crm_data.outbox AS o JOIN crm_data.member AS m ON m.id = o.recipient_id WHERE o.dedupe_key LIKE 'director_daily:%' ORDER BY o.id;
SELECT * FROM crm.verify_reports();
-- leave as found
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code LIKE 'BO_';
UPDATE crm_data.account SET deleted_at = now() WHERE name LIKE 'Board _';
UPDATE crm_data.contract SET deleted_at = now() WHERE code LIKE 'BOC_';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE created_at = '2001-06-01';
UPDATE crm_data.alert SET state = 'closed', closed_at = now() WHERE message LIKE 'Board alert %';
UPDATE crm_data.member SET role_name = NULL WHERE full_name LIKE 'Board %';
DROP ROLE regress_board_rep, regress_board_boss, regress_board_director;
