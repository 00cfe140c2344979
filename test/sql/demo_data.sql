-- Generated companies: equal for equal arguments, different for another seed, and only where there are no customers. A database of its own: a big company leaves
-- statistics behind that change the plans of other tests.
\set home :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE DATABASE crm_demo_data_test TEMPLATE template0 ENCODING 'UTF8';
\c crm_demo_data_test
SET client_min_messages = warning;
CREATE EXTENSION crm;
CALL crm.migrate();
-- The digest leaves out identifiers, which the sequences go on with, and the times of writing.
CREATE FUNCTION pg_temp.digest() RETURNS text LANGUAGE sql AS $$
    WITH content AS (
        SELECT 'account' AS what, a.code AS key, concat_ws('|', a.name, a.phone, a.email, a.uscc, a.legal_person, a.legal_id4, a.grade, a.region, a.city, a.geo::text, a.annual_revenue, m.employee_no, p.code, a.tags, a.lifecycle, a.last_contact_at AT TIME ZONE 'UTC', a.created_at AT TIME ZONE 'UTC', a.attrs) AS body
        FROM crm_data.account AS a LEFT JOIN crm_data.member AS m ON m.id = a.owner_id LEFT JOIN crm_data.account AS p ON p.id = a.parent_id
        UNION ALL
        SELECT 'opportunity', o.code, concat_ws('|', o.name, a.code, o.amount, o.currency, o.outcome, s.code, o.close_date, o.closed_at AT TIME ZONE 'UTC', o.competitor, o.lost_reason, o.stage_moves)
        FROM crm_data.opportunity AS o JOIN crm_data.account AS a ON a.id = o.account_id JOIN crm_data.stage AS s ON s.id = o.stage_id
        UNION ALL
        SELECT 'stage_history', o.code || h.entered_at AT TIME ZONE 'UTC', concat_ws('|', s.code, h.left_at AT TIME ZONE 'UTC', h.amount)
        FROM crm_data.stage_history AS h JOIN crm_data.opportunity AS o ON o.id = h.opportunity_id JOIN crm_data.stage AS s ON s.id = h.to_stage_id
        UNION ALL
        SELECT 'interaction', i.client_key, concat_ws('|', i.kind, i.summary, i.progress, i.occurred_at AT TIME ZONE 'UTC', i.quality) FROM crm_data.interaction AS i
        UNION ALL
        SELECT 'task', t.dedupe_key, concat_ws('|', t.title, t.state, t.due_at AT TIME ZONE 'UTC', t.done_at AT TIME ZONE 'UTC', t.reopened) FROM crm_data.task AS t
        UNION ALL
        SELECT 'receivable', r.number, concat_ws('|', r.kind, r.amount, r.occurred_on, r.recorded_at AT TIME ZONE 'UTC') FROM crm_data.receivable_entry AS r
        UNION ALL
        SELECT 'member', m.employee_no, concat_ws('|', m.full_name, m.role_name, m.phone, t.code) FROM crm_data.member AS m LEFT JOIN crm_data.team AS t ON t.id = m.team_id
        UNION ALL
        SELECT 'contact', c.email || c.name, concat_ws('|', c.title, c.phone) FROM crm_data.contact AS c
        UNION ALL
        SELECT 'lead', l.client_key, concat_ws('|', l.name, l.company, l.phone, l.state, l.context, l.occurred_at AT TIME ZONE 'UTC') FROM crm_data.lead AS l
        UNION ALL
        SELECT 'rate', r.rate_date || r.currency, r.rate::text FROM crm_data.fx_rate AS r
        UNION ALL
        SELECT 'event', e.session_key || e.kind, concat_ws('|', e.channel, e.value, e.at AT TIME ZONE 'UTC') FROM crm_data.event AS e
        UNION ALL
        SELECT 'quota', m.employee_no || q.period::text, q.amount::text FROM crm_data.quota AS q JOIN crm_data.member AS m ON m.id = q.member_id
    )
    SELECT md5(string_agg(what || key || body, E'\n' ORDER BY what COLLATE "C", key COLLATE "C", body COLLATE "C")) FROM content
$$;
-- what there is
BEGIN;
SELECT * FROM crm.demo_data(300, 7);
SELECT pg_temp.digest() AS digest \gset first_
-- the same call again changes nothing, another one is refused
SELECT object, row_count FROM crm.demo_data(300, 7) WHERE object IN ('account', 'opportunity');
SAVEPOINT s;
SELECT * FROM crm.demo_data(300, 8);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT pg_temp.digest() = :'first_digest' AS unchanged;
-- the truth is in attrs: entities, duplicates of each script, sisters that are no duplicates
SELECT count(*) FILTER (WHERE NOT attrs -> 'demo' ? 'damage') AS entities, count(*) FILTER (WHERE attrs -> 'demo' ? 'damage') AS duplicates,
       count(DISTINCT attrs -> 'demo' -> 'entity') AS distinct_entities, count(*) FILTER (WHERE parent_id IS NOT NULL AND NOT attrs -> 'demo' ? 'damage') AS sisters,
       count(*) FILTER (WHERE region = 'overseas') > 30 AS overseas
FROM crm_data.account;
SELECT count(*) - count(DISTINCT name) AS same_names FROM crm_data.account WHERE NOT attrs -> 'demo' ? 'damage';
-- stories are consistent: history ends where the deal stands, nothing lies after the present, money adds up
SELECT count(*) AS broken FROM crm_data.opportunity AS o
WHERE (SELECT h.to_stage_id FROM crm_data.stage_history AS h WHERE h.opportunity_id = o.id AND h.left_at IS NULL) IS DISTINCT FROM o.stage_id;
SELECT count(*) AS broken FROM (SELECT h.left_at, lead(h.entered_at) OVER (PARTITION BY h.opportunity_id ORDER BY h.entered_at) AS next_at FROM crm_data.stage_history AS h) AS x WHERE x.left_at IS DISTINCT FROM x.next_at;
SELECT (SELECT max(entered_at) FROM crm_data.stage_history) <= p.present AND (SELECT max(occurred_at) FROM crm_data.interaction) <= p.present AND (SELECT max(recorded_at) FROM crm_data.receivable_entry) <= p.present
       AND (SELECT max(at) FROM crm_data.event) <= p.present AS nothing_in_the_future
FROM (SELECT timestamptz '2026-11-20 18:00+08' AS present) AS p;
SELECT count(*) AS broken FROM crm_data.contract AS c WHERE c.amount <> (SELECT sum(p.amount) FROM crm_data.payment_plan AS p WHERE p.contract_id = c.id);
SELECT count(*) AS broken FROM crm_data.opportunity AS o WHERE (o.outcome = 'won') <> EXISTS (SELECT FROM crm_data.contract AS c WHERE c.opportunity_id = o.id);
SELECT count(*) FILTER (WHERE state = 'open' AND due_at < '2026-11-20 18:00+08') > 0 AS some_overdue, count(*) FILTER (WHERE state = 'done') > 0 AS some_done, count(*) FILTER (WHERE reopened > 0) > 0 AS some_redone FROM crm_data.task;
-- there is something to learn: energy gets better over time, renewals are won
SELECT avg((o.outcome = 'won')::int) FILTER (WHERE o.deal_type = 'renewal') > avg((o.outcome = 'won')::int) FILTER (WHERE o.deal_type = 'new') + 0.1 AS renewals_win,
       avg((o.outcome = 'won')::int) FILTER (WHERE a.industry = 'energy' AND o.created_at >= '2025-11-20') > avg((o.outcome = 'won')::int) FILTER (WHERE a.industry = 'energy' AND o.created_at < '2025-11-20') AS energy_rises
FROM crm_data.opportunity AS o JOIN crm_data.account AS a ON a.id = o.account_id WHERE o.outcome <> 'open';
ROLLBACK;
-- the same arguments give the same company, in another time zone too; another seed another one
BEGIN;
SELECT count(*) FROM crm.demo_data(80, 7);
SELECT pg_temp.digest() AS digest \gset small_
ROLLBACK;
BEGIN;
SET LOCAL timezone = 'America/New_York';
SELECT count(*) FROM crm.demo_data(80, 7);
SELECT pg_temp.digest() = :'small_digest' AS same;
ROLLBACK;
BEGIN;
SELECT count(*) FROM crm.demo_data(80, 8);
SELECT pg_temp.digest() = :'small_digest' AS same;
ROLLBACK;
BEGIN;
SELECT count(*) FROM crm.demo_data(80, 7, '2027-03-01');
SELECT pg_temp.digest() = :'small_digest' AS same, max(created_at) > '2027-01-01' AS later FROM crm_data.interaction;
ROLLBACK;
-- any seed will do, and codes keep their check characters
BEGIN;
SELECT row_count FROM crm.demo_data(50, -2147483648) WHERE object = 'account';
SELECT bool_and(crm.uscc_valid(uscc)) AS codes_valid FROM crm_data.account WHERE uscc IS NOT NULL;
ROLLBACK;
BEGIN;
SELECT row_count FROM crm.demo_data(50, 2147483647) WHERE object = 'account';
SELECT bool_and(crm.uscc_valid(uscc)) AS codes_valid FROM crm_data.account WHERE uscc IS NOT NULL;
ROLLBACK;
-- customers of somebody are never mixed with it
BEGIN;
INSERT INTO crm_data.account (code, name) VALUES ('demo-test', 'Somebody''s customer');
\set VERBOSITY default
SELECT * FROM crm.demo_data(300, 7);
\set VERBOSITY terse
ROLLBACK;
-- bad arguments
SELECT * FROM crm.demo_data(0, 1);
SELECT * FROM crm.demo_data(NULL, 1);
SELECT * FROM crm.demo_data(300, NULL);
SELECT * FROM crm.demo_data(3000000, 1);
SELECT * FROM crm.demo_data(300, 1, 'infinity');
-- for administrators only
SET ROLE crm_sales;
SELECT * FROM crm.demo_data(300, 1);
RESET ROLE;
SELECT has_function_privilege('crm_admin', 'crm.demo_data(int, int, date)', 'EXECUTE') AS admin_may;
SELECT count(*) AS left_over FROM crm_data.account WHERE code LIKE 'DEMO-%';
-- a pipeline that is not the shipped one
BEGIN;
UPDATE crm_data.stage SET code = 'another' WHERE code = 'demo';
SELECT * FROM crm.demo_data(300, 1);
ROLLBACK;
\c :home
DROP DATABASE crm_demo_data_test;
