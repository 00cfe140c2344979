-- Customers by themselves: health, grade, return to the pool, claims. Everything is in 2006, and of this test's own customers.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
CREATE ROLE regress_health_rep IN ROLE crm_sales;
CREATE ROLE regress_health_other IN ROLE crm_sales;
INSERT INTO crm_data.team (code, name, region) VALUES ('HEALTH', 'Health', 'north');
INSERT INTO crm_data.member (full_name, role_name, team_id, hired_at) SELECT v.name, v.login, t.id, '2000-01-01' FROM (VALUES ('Health Rep', 'regress_health_rep'), ('Health Other', 'regress_health_other')) AS v (name, login), crm_data.team AS t WHERE t.code = 'HEALTH';
INSERT INTO crm_data.account (name, created_at, last_contact_at, owner_id, team_id, grade)
SELECT 'Health ' || v.name, '2000-01-01', v.contact::timestamptz, m.id, m.team_id, v.grade FROM (VALUES ('A', '2006-06-28', 0), ('B', '2006-06-12 12:00', 0), ('C', '2006-01-01', 4), ('D', NULL, 0), ('E', '2006-06-30', 2)) AS v (name, contact, grade), crm_data.member AS m WHERE m.full_name = 'Health Rep';
-- A: contact 3 days ago, contract to the end of the year, sentiment 90; B: contact 18.5 days ago, contract to 2006-07-31 (30 days), no sentiment; C: none of all that; D never spoken to
INSERT INTO crm_data.contract (account_id, code, state, amount, signed_on, expires_on, owner_id, team_id) SELECT a.id, v.code, v.state, v.amount, v.signed::date, v.ends::date, a.owner_id, a.team_id
  FROM (VALUES ('A', 'HC1', 'active', 500000, '2006-06-15', '2006-12-31'), ('A', 'HC2', 'finished', 100, '2005-01-01', '2005-12-31'), ('B', 'HC3', 'active', 5000, '2005-09-01', '2006-07-31'), ('E', 'HC4', 'finished', 9000, '2003-01-01', '2003-12-31')) AS v (account, code, state, amount, signed, ends) JOIN crm_data.account AS a ON a.name = 'Health ' || v.account;
INSERT INTO crm_data.event (account_id, kind, value, occurred_at) SELECT id, 'sentiment', v.value, v.at::timestamptz FROM crm_data.account, (VALUES (20, '2006-06-01'), (90, '2006-06-20'), (500, '2006-06-25'), (10, '2006-07-05')) AS v (value, at) WHERE name = 'Health A';
SELECT a.name, h.score, h.follow_up_gap, h.contract_expiry, h.sentiment FROM crm_data.account AS a CROSS JOIN LATERAL crm._account_health(a.id, '2006-07-01') AS h WHERE a.name LIKE 'Health _' ORDER BY 1;
SELECT count(*) AS differ FROM crm._account_health(NULL, '2006-07-01') AS h JOIN crm_data.account AS a ON a.id = h.account_id AND a.name LIKE 'Health _' CROSS JOIN LATERAL crm._account_health(a.id, '2006-07-01') AS one WHERE one.score <> h.score;
SELECT crm._score_health('2006-07-01') > 0 AS kept;
SELECT name, health FROM crm_data.account WHERE name LIKE 'Health _' ORDER BY 1;
SELECT crm._score_health('2006-07-01') AS unchanged;
SET ROLE regress_health_rep;
SELECT part, weight FROM crm.account_health((SELECT id FROM crm.account WHERE name = 'Health A'));
SELECT crm.account_health(-1);
RESET ROLE;
-- grade: A bought lately (5), twice (3), for 500000 paid (4): 12, an A; B within a year (2), once (2), nothing paid (1): 5, a D; E long ago: 3, a D as before by its person; nobody else
INSERT INTO crm_data.receivable_entry (kind, account_id, amount, occurred_on) SELECT v.kind, a.id, v.amount, v.day::date FROM (VALUES ('payment', 600000, '2006-06-20'), ('refund', 100000, '2006-06-25'), ('payment', 9000000, '2003-06-20')) AS v (kind, amount, day), crm_data.account AS a WHERE a.name = 'Health A';
SELECT a.name, r.last_on, r.purchases, r.money, r.recency, r.frequency, r.volume, r.grade FROM crm._rfm('2006-07-01') AS r JOIN crm_data.account AS a ON a.id = r.account_id AND a.name LIKE 'Health _' ORDER BY 1;
BEGIN;
SELECT crm._job_rfm_grade('2006-07-01') > 0 AS graded;
SELECT name, grade FROM crm_data.account WHERE name LIKE 'Health _' ORDER BY 1;
SELECT h.note FROM crm_data.change AS h JOIN crm_data.account AS a ON a.id = h.record_id AND a.name = 'Health A' WHERE h.object = 'account' AND h.fields::jsonb ? 'grade' AND h.op = 'u';
SELECT crm._job_rfm_grade('2006-07-01') AS unchanged;
-- what the job wrote it changes again; what a person wrote stays
SELECT crm._job_rfm_grade('2007-07-01') > 0 AS a_year_later;
SELECT name, grade FROM crm_data.account WHERE name IN ('Health A', 'Health B') ORDER BY 1;
UPDATE crm_data.account SET grade = 4 WHERE name = 'Health A';
SELECT crm._job_rfm_grade('2007-07-01') AS of_a_person;
SELECT name, grade FROM crm_data.account WHERE name = 'Health A';
ROLLBACK;
-- back to the pool: B after 30 days of silence, with a notice first. A has an open deal, C is of grade A
INSERT INTO crm_data.opportunity (account_id, name, pipeline_id, stage_id, outcome, owner_id, team_id) SELECT a.id, 'Health deal', s.pipeline_id, s.id, s.outcome, a.owner_id, a.team_id FROM crm_data.account AS a, (SELECT x.* FROM crm_data.stage AS x JOIN crm_data.pipeline AS p ON p.id = x.pipeline_id AND p.is_default WHERE x.outcome = 'open' ORDER BY x.seq LIMIT 1) AS s WHERE a.name = 'Health A';
SELECT crm.config_validate('recycle', '{"rules": [{"when": "$ ? (@.grade < 3)", "pool": "nowhere"}], "notice": "soon"}');
BEGIN;
UPDATE crm_data.account SET deleted_at = '2006-01-01' WHERE name NOT LIKE 'Health %' AND deleted_at IS NULL AND owner_id IS NOT NULL AND merged_into IS NULL;
SELECT a.name, p.name AS pool FROM crm._recycle_due('2006-08-01') AS r JOIN crm_data.account AS a ON a.id = r.account_id JOIN crm_data.pool AS p ON p.id = r.pool_id ORDER BY 1;
SELECT crm._job_recycle('2006-08-01 06:00') AS noticed;
SELECT a.name, t.state, t.due_at, a.owner_id IS NOT NULL AS owned FROM crm_data.task AS t JOIN crm_data.account AS a ON a.id = t.record_id WHERE t.kind = 'recycle' AND a.name LIKE 'Health _' ORDER BY 1;
SELECT crm._job_recycle('2006-08-02 06:00') AS waiting;
-- E is spoken to in time
UPDATE crm_data.account SET last_contact_at = '2006-08-03' WHERE name = 'Health E';
SELECT crm._job_recycle('2006-08-09 06:00') AS returned;
SELECT crm._job_recycle('2006-08-09 06:00') AS again;
SELECT a.name, t.state, a.owner_id IS NOT NULL AS owned, p.name AS pool FROM crm_data.task AS t JOIN crm_data.account AS a ON a.id = t.record_id LEFT JOIN crm_data.pool AS p ON p.id = a.pool_id WHERE t.kind = 'recycle' AND a.name LIKE 'Health _' ORDER BY 1;
SELECT o.topic, count(*) FROM crm_data.outbox AS o JOIN crm_data.member AS m ON m.id = o.recipient_id WHERE m.full_name = 'Health Rep' AND o.topic LIKE 'recycle.%' GROUP BY 1 ORDER BY 1;
-- and out of it again, once, so many a day
SELECT id AS b FROM crm_data.account WHERE name = 'Health B' \gset
SET ROLE regress_health_other;
SELECT crm.claim_account(:b);
RESET ROLE;
SELECT m.full_name AS owner, a.pool_id IS NULL AS out FROM crm_data.account AS a JOIN crm_data.member AS m ON m.id = a.owner_id WHERE a.id = :b;
SAVEPOINT claimed;
SET ROLE regress_health_rep;
SELECT crm.claim_account(:b);
ROLLBACK TO claimed;
SELECT setval('crm_data.day_count_' || m.id, pg_sequence_last_value('crm_data.day_count_' || m.id) + 19 * 10000) > 0 AS claimed_often FROM crm_data.member AS m WHERE m.full_name = 'Health Other';
UPDATE crm_data.account SET owner_id = NULL, pool_id = (SELECT id FROM crm_data.pool WHERE name = 'public') WHERE id = :b;
SET ROLE regress_health_other;
SELECT crm.claim_account(:b);
ROLLBACK;
-- what was rolled back counts
SELECT pg_sequence_last_value('crm_data.day_count_' || m.id) / 10000 % 10000 AS claimed FROM crm_data.member AS m WHERE m.full_name = 'Health Other';
SET ROLE crm_service;
SELECT crm.claim_account(1);
RESET ROLE;
-- leave as found
UPDATE crm_data.opportunity SET deleted_at = now() WHERE name = 'Health deal';
UPDATE crm_data.contract SET deleted_at = now() WHERE code LIKE 'HC_';
UPDATE crm_data.account SET deleted_at = now() WHERE name LIKE 'Health _';
UPDATE crm_data.member SET role_name = NULL WHERE full_name LIKE 'Health %';
DROP ROLE regress_health_rep, regress_health_other;
