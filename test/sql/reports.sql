-- Reports: the bottleneck brief, similar cases, snapshots in a chain.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
-- two teams, deals of which some lie still, and won ones to learn from; everything long ago, so that nothing else of the tests is about
INSERT INTO crm_data.team (code, name) VALUES ('BRIEF', 'Brief'), ('BRIEF2', 'Brief two');
INSERT INTO crm_data.member (full_name, team_id) SELECT 'Brief Boss', id FROM crm_data.team WHERE code = 'BRIEF';
INSERT INTO crm_data.member (full_name, team_id, manager_id) SELECT 'Brief Rep', t.id, m.id FROM crm_data.team AS t, crm_data.member AS m WHERE t.code = 'BRIEF' AND m.full_name = 'Brief Boss';
SELECT crm.pipeline_put('brief', 'Brief', '[{"code": "a", "name": "Alpha", "probability": 0.2}, {"code": "b", "name": "Beta", "probability": 0.5}, {"code": "won", "name": "Won", "outcome": "won"}]') > 0 AS made;
INSERT INTO crm_data.account (name, industry, owner_id, team_id) SELECT 'Brief Customer ' || i, CASE WHEN i % 2 = 0 THEN 'retail' ELSE 'energy' END, m.id, m.team_id FROM crm_data.member AS m, generate_series(1, 12) AS i WHERE m.full_name = 'Brief Rep';
BEGIN;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, outcome, amount, product_line, stage_entered_at, closed_at, created_at, owner_id, team_id)
SELECT a.id, 'BR' || i, 'Brief ' || i, p.id, s.id, s.outcome, i * 1000, 'X', '2001-01-01'::timestamptz + make_interval(days => i), CASE WHEN s.outcome = 'won' THEN '2001-01-01'::timestamptz + make_interval(days => 2 * i) END, '2001-01-01', a.owner_id, a.team_id
  FROM generate_series(1, 12) AS i JOIN crm_data.account AS a ON a.name = 'Brief Customer ' || i JOIN crm_data.pipeline AS p ON p.code = 'brief' JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = CASE WHEN i > 9 THEN 'won' WHEN i > 5 THEN 'b' ELSE 'a' END;
INSERT INTO crm_data.stage_history (opportunity_id, account_id, to_stage_id, entered_at, recorded_at) SELECT o.id, o.account_id, o.stage_id, o.stage_entered_at, o.stage_entered_at FROM crm_data.opportunity AS o WHERE o.code LIKE 'BR%';
COMMIT;
INSERT INTO crm_data.task (kind, object, record_id, account_id, stage_id, action_key, title, mandatory, due_at, owner_id, created_at)
SELECT 'stage_action', 'opportunity', o.id, o.account_id, o.stage_id, 'deck', 'Upload the deck', true, '2001-01-15', o.owner_id, '2001-01-02' FROM crm_data.opportunity AS o WHERE o.code IN ('BR1', 'BR2', 'BR3');
SELECT rank, action, stage, deals, amount, currency, median_days FROM crm.bottleneck_brief('2001-02-15');
SELECT c AS customer FROM crm.bottleneck_brief('2001-02-15') AS b, unnest(b.customers) AS c WHERE b.rank = 2;
SELECT regexp_replace(c, 'deal \d+', 'deal') AS solved FROM crm.bottleneck_brief('2001-02-15') AS b, unnest(b.similar_cases) AS c WHERE b.rank = 2;
-- the past as it was: before the due date nothing is overdue; a team that has nothing has no rows
SELECT count(*) AS earlier FROM crm.bottleneck_brief('2001-01-10');
SELECT count(*) AS of_another_team FROM crm.bottleneck_brief('2001-02-15', (SELECT id FROM crm_data.team WHERE code = 'BRIEF2'));
SELECT account, name, outcome, similarity, days_to_close, shared, won_share FROM crm.similar_cases('opportunity', (SELECT id FROM crm_data.opportunity WHERE code = 'BR2'), 2);
SELECT crm.similar_cases('account', 1);
SELECT crm.similar_cases('opportunity', -1);
-- stored once for the house and once for each manager, chained
SELECT crm._job_bottleneck_brief('2001-02-15') > 0 AS rows_stored;
SELECT crm._job_bottleneck_brief('2001-02-15') > 0 AS again;
SELECT coalesce(recipient, 'the house') AS recipient, row_count, due_at, definitions FROM crm.report_list('bottleneck_brief') WHERE due_at = '2001-02-15' AND (recipient IS NULL OR recipient LIKE 'Brief%') ORDER BY seq;
SELECT o.topic, o.payload - 'snapshot' AS payload FROM crm_data.outbox AS o JOIN crm_data.member AS m ON m.id = o.recipient_id WHERE m.full_name = 'Brief Boss';
SELECT crm.report_body(id) #>> '{rows,0,action}' AS first_action, crm.report_body(id) #>> '{title,zh}' AS title FROM crm.report_list('bottleneck_brief') WHERE due_at = '2001-02-15' AND recipient IS NULL;
SELECT crm.report_body(-1) IS NULL AS none;
SELECT * FROM crm.verify_reports();
-- as a page: every text escaped, no script, tags in pairs, in both languages, the footer says what stands behind the figures
UPDATE crm_data.account SET name = 'Brief <script>alert(1)</script> & "Co"' WHERE name = 'Brief Customer 3';
SELECT crm._job_bottleneck_brief('2001-02-16') > 0 AS rows_stored;
SELECT h !~* '<script' AS no_script, h LIKE '%Brief &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;Co&quot;%' AS escaped, h LIKE '<!DOCTYPE html>%</html>' AS whole,
       (SELECT bool_and(regexp_count_open = regexp_count_close) FROM (SELECT cardinality(regexp_split_to_array(h, '<' || t || '[ >]')) AS regexp_count_open, cardinality(regexp_split_to_array(h, '</' || t || '>')) AS regexp_count_close
          FROM unnest(ARRAY['svg', 'table', 'tr', 'td', 'th', 'section', 'ul', 'li', 'h1', 'h2', 'h3', 'p', 'text', 'body', 'footer', 'div']) AS t) AS n) AS tags_in_pairs,
       h LIKE '%report/bottleneck_brief v1%' AS definitions, h !~ 'https?://' AS self_contained
  FROM (SELECT crm.report_html(id, 'en') AS h FROM crm.report_list('bottleneck_brief') WHERE due_at = '2001-02-16' AND recipient IS NULL) AS x;
SELECT h LIKE '%团队瓶颈诊断简报%' AND h LIKE '%<html lang="zh">%' AS chinese FROM (SELECT crm.report_html(id, 'zh') AS h FROM crm.report_list('bottleneck_brief') WHERE due_at = '2001-02-16' AND recipient IS NULL) AS x;
SELECT crm.report_html(-1);
SELECT crm.report_html(id, 'fr') FROM crm.report_list('bottleneck_brief') LIMIT 1;

-- the heat map of a week
SELECT crm._job_action_heatmap('2001-01-22 08:30') AS rows_stored;
SELECT * FROM crm.action_heatmap('2001-01-15');
SELECT crm.report_html(id, 'en') LIKE '%<svg%Upload the deck%' AS drawn FROM crm.report_list('action_heatmap') WHERE due_at = '2001-01-22 08:30';
-- the morning list of a member
UPDATE crm_data.task SET priority = 9 WHERE title = 'Upload the deck';
SELECT b.kind, b.title, b.due_at, b.days FROM crm_data.member AS m, crm._morning_brief(m.id, '2001-02-15') AS b WHERE m.full_name = 'Brief Rep';
-- a competitor that a follow-up of yesterday speaks of is on it
BEGIN;
UPDATE crm_data.opportunity SET competitor = 'Rivale' WHERE code = 'BR1';
INSERT INTO crm_data.interaction (account_id, kind, summary, occurred_at) SELECT o.account_id, 'call', v.said, v.at::timestamptz FROM crm_data.opportunity AS o, (VALUES ('RIVALE has cut its prices', '2001-02-14 10:00'), ('rivale was there', '2001-02-13 07:00'), ('nothing', '2001-02-14 11:00')) AS v (said, at) WHERE o.code = 'BR1';
SELECT b.title, b.due_at, b.days FROM crm_data.member AS m, crm._morning_brief(m.id, '2001-02-15 08:00') AS b WHERE m.full_name = 'Brief Rep' AND b.kind = 'competitor_move';
ROLLBACK;
-- a snapshot never changes; one that was changed behind the triggers is found
UPDATE crm_data.report_snapshot SET body = '{}';
BEGIN;
SET LOCAL session_replication_role = replica;
ALTER TABLE crm_data.report_snapshot DISABLE TRIGGER USER;
UPDATE crm_data.report_snapshot SET body = jsonb_set(body, '{rows}', '[]') WHERE due_at = '2001-02-15' AND recipient_id IS NULL;
SELECT report, problem FROM crm.verify_reports();
ROLLBACK;
-- similar cases are of the deals that one sees: a representative's are his own, not his team's or his region's
BEGIN;
CREATE ROLE brief_rep NOLOGIN IN ROLE crm_sales;
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT 'brief_rep', 'Brief Rep', o.team_id FROM crm_data.opportunity AS o WHERE o.code LIKE 'BR%' AND o.outcome = 'open' AND o.team_id IS NOT NULL ORDER BY o.id LIMIT 1;
SELECT id AS others FROM crm_data.opportunity WHERE code LIKE 'BR%' AND outcome = 'open' AND team_id IS NOT NULL ORDER BY id LIMIT 1 \gset
SAVEPOINT a;
SET LOCAL ROLE brief_rep;
\set VERBOSITY sqlstate
SELECT crm.similar_cases('opportunity', :others);
\set VERBOSITY terse
ROLLBACK TO a;
UPDATE crm_data.opportunity SET owner_id = (SELECT id FROM crm_data.member WHERE role_name = 'brief_rep') WHERE id = :others;
SET LOCAL ROLE brief_rep;
SELECT count(*) AS of_others FROM crm.similar_cases('opportunity', :others, 50);
RESET ROLE;
SELECT count(*) > 0 AS of_all FROM crm.similar_cases('opportunity', :others, 50);
ROLLBACK;
-- people: a manager sees his own, a representative nothing
SET ROLE crm_sales;
SELECT crm.bottleneck_brief();
SELECT count(*) AS mine FROM crm.report_list();
RESET ROLE;
SET ROLE crm_manager;
SELECT count(*) AS of_a_manager_without_team FROM crm.bottleneck_brief('2001-02-15');
SELECT crm.bottleneck_brief('2001-02-15', (SELECT 1));
RESET ROLE;
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code LIKE 'BR%';
UPDATE crm_data.account SET deleted_at = now() WHERE name LIKE 'Brief %';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE title = 'Upload the deck';
