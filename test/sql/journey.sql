-- Journeys: nodes, losses and dwell; sets of events and their lift; rights and small groups.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE ROLE jour_ann LOGIN IN ROLE crm_sales;
CREATE ROLE jour_mia LOGIN IN ROLE crm_marketing;
CREATE ROLE jour_sum LOGIN IN ROLE crm_bi;
CREATE ROLE jour_sue LOGIN IN ROLE crm_service;
INSERT INTO crm_data.team (code, name) VALUES ('JOUR', 'Jour');
-- what other tests left is put aside: rows of event cannot be deleted otherwise
CREATE FUNCTION pg_temp.forget_events(gone text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    ALTER TABLE crm_data.event DISABLE TRIGGER USER;
    DELETE FROM crm_data.event WHERE kind LIKE gone;
    ALTER TABLE crm_data.event ENABLE TRIGGER USER;
END $$;
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT v.r, v.r, t.id FROM crm_data.team AS t, (VALUES ('jour_ann'), ('jour_mia'), ('jour_sum'), ('jour_sue')) AS v (r) WHERE t.code = 'JOUR';
SELECT pg_temp.forget_events('%');
-- forty customers: 40 sign up, 30 log in a day later, 20 finish the tutorial two days after, 12 use the interface after five, 6 open a ticket; ten of them are Ann's
INSERT INTO crm_data.account (code, name, owner_id, team_id) SELECT 'JOUR-' || n, 'Jour ' || n, CASE WHEN n <= 10 THEN m.id END, CASE WHEN n <= 10 THEN m.team_id END FROM generate_series(1, 40) AS n, crm_data.member AS m WHERE m.full_name = 'jour_ann';
INSERT INTO crm_data.event (account_id, kind, occurred_at)
SELECT a.id, v.kind, '2026-03-02 10:00+08'::timestamptz + v.after FROM generate_series(1, 40) AS n JOIN crm_data.account AS a ON a.code = 'JOUR-' || n
  JOIN (VALUES ('sign_up', 40, interval '0'), ('login', 30, '1 day'), ('tutorial_done', 20, '3 days'), ('api_call', 12, '8 days'), ('ticket_opened', 6, '9 days')) AS v (kind, upto, after) ON n <= v.upto;
-- one skipped the tutorial, one is of April, one has done all in the wrong order, one is deleted
INSERT INTO crm_data.account (code, name) VALUES ('JOUR-SKIP', 'Skips'), ('JOUR-APRIL', 'April'), ('JOUR-ORDER', 'Order');
INSERT INTO crm_data.account (code, name, deleted_at) VALUES ('JOUR-GONE', 'Gone', now());
INSERT INTO crm_data.event (account_id, kind, occurred_at) SELECT a.id, v.kind, v.at::timestamptz FROM (VALUES ('JOUR-SKIP', 'sign_up', '2026-03-03 10:00+08'), ('JOUR-SKIP', 'login', '2026-03-04 10:00+08'), ('JOUR-SKIP', 'api_call', '2026-03-05 10:00+08'),
    ('JOUR-APRIL', 'sign_up', '2026-04-01 00:30+08'), ('JOUR-ORDER', 'login', '2026-03-01 10:00+08'), ('JOUR-ORDER', 'sign_up', '2026-03-03 10:00+08'), ('JOUR-GONE', 'sign_up', '2026-03-03 10:00+08')) AS v (code, kind, at) JOIN crm_data.account AS a USING (code);
-- April 1st, half past midnight in Shanghai, is not of March
SELECT seq, node, customers, waiting, loss_rate, of_first_rate, dwell_median_hours AS median, dwell_p90_hours AS p90, stalled FROM crm.journey_funnel(period => '[2026-03-01,2026-04-01)', as_of => '2026-05-01');
SELECT seq, label, customers FROM crm.journey_funnel() LIMIT 1;
-- as it was known then: the limit for going on from the tutorial is two days
SELECT node, customers, waiting, stalled FROM crm.journey_funnel(as_of => '2026-03-06 10:00+08');
SELECT node, customers, waiting, stalled FROM crm.journey_funnel(as_of => '2026-03-07 10:00:01+08') WHERE node = 'tutorial';
SET ROLE jour_ann;
SELECT node, customers AS of_mine FROM crm.journey_funnel() LIMIT 1;
RESET ROLE;

-- conversion: those with the video, the kit and a ticket buy 3.2 times as often as all
UPDATE crm_data.opportunity SET deleted_at = now() WHERE outcome = 'won' AND deleted_at IS NULL;
UPDATE crm_data.contract SET deleted_at = now() WHERE signed_on IS NOT NULL AND deleted_at IS NULL;
SELECT pg_temp.forget_events('%');
INSERT INTO crm_data.event (account_id, kind, occurred_at)
SELECT a.id, v.kind, CASE v.kind WHEN 'ticket_opened' THEN '2026-03-10 11:00+08' ELSE '2026-03-10 10:00+08' END::timestamptz FROM generate_series(1, 40) AS n JOIN crm_data.account AS a ON a.code = 'JOUR-' || n
  JOIN (VALUES ('page_view', 1, 40), ('video', 1, 20), ('sdk_download', 6, 25), ('ticket_opened', 2, 4), ('ticket_opened', 6, 15), ('ticket_opened', 21, 24)) AS v (kind, a, b) ON n BETWEEN v.a AND v.b;
INSERT INTO crm_data.contract (account_id, code, state, amount, signed_on, owner_id, team_id) SELECT a.id, 'JC-' || n, 'signed', 1, '2026-03-20', a.owner_id, a.team_id FROM generate_series(8, 15) AS n JOIN crm_data.account AS a ON a.code = 'JOUR-' || n;
INSERT INTO crm_data.contract (account_id, code, state, amount, signed_on) SELECT a.id, 'JC-' || n, 'signed', 1, '2026-03-20' FROM unnest(ARRAY[1, 39]) AS n JOIN crm_data.account AS a ON a.code = 'JOUR-' || n;
-- what happens after the conversion is no reason for it
INSERT INTO crm_data.event (account_id, kind, occurred_at) SELECT a.id, 'training', '2026-03-25 10:00+08' FROM crm_data.contract AS c JOIN crm_data.account AS a ON a.id = c.account_id WHERE c.code LIKE 'JC-%';
SELECT events, customers, converted, support, rate, mean_rate, lift, low, high FROM crm.path_lift(0.1) LIMIT 6;
SELECT count(*) AS with_training FROM crm.path_lift(0.01, min_lift => 0) WHERE 'training' = ANY (events);
SELECT max(cardinality(events)) AS largest, min(support) AS least FROM crm.path_lift(0.1, max_size => 2);
-- the same by hand
WITH k AS (SELECT e.account_id, array_agg(DISTINCT e.kind) AS kinds FROM crm_data.event AS e WHERE e.kind <> 'training' GROUP BY 1), c AS (SELECT k.*, EXISTS (SELECT FROM crm_data.contract AS x WHERE x.account_id = k.account_id AND x.code LIKE 'JC-%') AS won FROM k)
SELECT count(*) FILTER (WHERE kinds @> '{video,sdk_download,ticket_opened}') AS customers, round(avg(won::int) FILTER (WHERE kinds @> '{video,sdk_download,ticket_opened}') / avg(won::int), 2) AS lift FROM c;
-- another outcome: who opens a ticket
SELECT events, customers, converted, lift FROM crm.path_lift(0.1, 'ticket_opened', max_size => 1) ORDER BY lift DESC, events LIMIT 3;
-- the order of the rows changes nothing
CREATE TEMP TABLE before ON COMMIT DROP AS SELECT row_number() OVER () AS n, p.* FROM crm.path_lift(0.01, min_lift => 0, max_size => 5) AS p;
CREATE TEMP TABLE again ON COMMIT DROP AS SELECT * FROM crm_data.event;
SELECT pg_temp.forget_events('%');
INSERT INTO crm_data.event (account_id, kind, occurred_at) SELECT account_id, kind, occurred_at FROM again ORDER BY kind DESC, account_id DESC;
SELECT count(*) > 5 AS sets FROM before;
SELECT * FROM (SELECT row_number() OVER () AS n, p.* FROM crm.path_lift(0.01, min_lift => 0, max_size => 5) AS p) AS x EXCEPT SELECT * FROM before;

-- rights: a rep sees her ten customers, the desk nothing, marketing no purchases but events
GRANT SELECT ON before TO PUBLIC;
SET ROLE jour_ann;
SELECT events, customers, converted, lift FROM crm.path_lift(0.5) LIMIT 2;
SET ROLE jour_sue;
SELECT * FROM crm.journey_funnel();
SELECT * FROM crm.path_lift(0.1);
SET ROLE jour_mia;
SELECT * FROM crm.path_lift(0.1);
SELECT count(*) > 0 AS by_event FROM crm.path_lift(0.1, 'ticket_opened');
RESET ROLE;
-- a summary and no rows: the house, a month that is over, no small group
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver) VALUES
    ('field_policy', 'jour_sum', 1, '{"role": "jour_sum", "default": "always", "read": {}}', 'active', '(,)', 'a', 'b'),
    ('row_policy', 'jour_sum', 1, '{"role": "jour_sum", "rows": [{"object": "*", "verbs": ["read"], "scope": "all"}]}', 'active', '(,)', 'a', 'b'),
    ('permission', 'jour_sum', 1, '{"role": "jour_sum", "ops": [{"object": "event", "ops": ["summary"], "scope": "all"}], "functions": []}', 'active', '(,)', 'a', 'b');
UPDATE crm_data.config SET status = 'retired' WHERE key = 'crm_bi' AND kind IN ('field_policy', 'row_policy', 'permission');
SELECT pg_temp.forget_events('page_view');
INSERT INTO crm_data.event (account_id, kind, occurred_at)
SELECT a.id, v.kind, '2026-03-02 10:00+08'::timestamptz + v.after FROM generate_series(1, 40) AS n JOIN crm_data.account AS a ON a.code = 'JOUR-' || n
  JOIN (VALUES ('sign_up', 40, interval '0'), ('login', 30, '1 day'), ('tutorial_done', 27, '3 days'), ('api_call', 12, '8 days')) AS v (kind, upto, after) ON n <= v.upto;
SELECT node, customers, waiting FROM crm.journey_funnel(period => '[2026-03-01,2026-04-01)');
SET ROLE jour_sum;
SELECT count(*) AS rows_seen FROM crm.event;
-- between login and tutorial three are lost: fewer than five
SELECT node, customers, waiting, loss_rate, dwell_median_hours AS median, stalled FROM crm.journey_funnel(period => '[2026-03-01,2026-04-01)');
SELECT min(customers) >= 5 AS none_small, bool_and(converted >= 5 AND customers - converted >= 5) AS none_pure, count(*) > 0 AS some FROM crm.path_lift(0.01, 'bought', '[2026-03-01,2026-04-01)', 3, 0);
-- those without an event are a group, too: of ten without the first one bought; and one has neither
RESET ROLE;
SELECT pg_temp.forget_events('%');
INSERT INTO crm_data.event (account_id, kind, occurred_at) SELECT a.id, v.kind, '2026-03-02 10:00+08' FROM generate_series(1, 40) AS n JOIN crm_data.account AS a ON a.code = 'JOUR-' || n
  JOIN (VALUES ('one', 1, 30), ('two', 15, 39), ('rare', 40, 40)) AS v (kind, lo, hi) ON n BETWEEN v.lo AND v.hi;
SET ROLE jour_sum;
SELECT events, customers, converted FROM crm.path_lift(0.1, 'bought', '[2026-03-01,2026-04-01)', 3, 0);
SELECT * FROM crm.journey_funnel();
SELECT * FROM crm.journey_funnel(period => '[2026-03-01,2026-03-20)');
SELECT * FROM crm.path_lift(0.1, 'bought', '[2026-03-02,2026-04-02)');
SELECT * FROM crm.path_lift(0.1, 'login', '[2026-03-01,2026-04-01)');
SELECT * FROM crm.journey_funnel(period => '[2026-03-01,2026-04-01)', as_of => '2026-04-01');
RESET ROLE;
-- bad input
SELECT * FROM crm.journey_funnel('nowhere');
SELECT * FROM crm.journey_funnel(period => 'empty');
SELECT * FROM crm.journey_funnel(as_of => 'infinity');
SELECT * FROM crm.path_lift(0);
SELECT * FROM crm.path_lift('NaN');
SELECT * FROM crm.path_lift(0.1, max_size => 6);
SELECT * FROM crm.path_lift(0.1, outcome => '');
SELECT count(*) AS nothing_known FROM crm.path_lift(0.1, 'no such event');
SELECT * FROM crm.config_validate('journey', '{"nodes": []}');
SELECT * FROM crm.config_validate('journey', '{"nodes": [{"key": "a", "event": "x"}, {"key": "a", "event": "y", "stall": "long"}, {"event": "x"}]}');
ROLLBACK;
