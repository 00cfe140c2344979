-- What the demo prints: one section a promise. Every figure comes from the functions and views that a user has.
\set ON_ERROR_STOP on
\pset linestyle unicode
\pset border 2
\pset footer off
\pset null '·'

-- the present of the data: their last day, so that a company of the past is looked at in its own time
SELECT (max(h.entered_at) + interval '1 hour') AS present, (date_trunc('month', max(h.entered_at)) + interval '1 month')::date AS next_month,
       (date_trunc('month', max(h.entered_at)) + interval '2 months')::date AS month_after
  FROM crm_data.stage_history AS h \gset

\echo
\echo '=== The same customer three times ==='
\echo 'SELECT crm.scan_duplicates(\'account\'); learned from the customers themselves, no examples, no thresholds to set.'
SELECT crm.scan_duplicates('account') AS new_or_changed \gset
-- most were found as the customers came in
SELECT count(*) AS pairs, count(*) > 0 AS any_pair, (SELECT count(*) FROM crm.account) AS customers FROM crm.duplicate_pair AS p WHERE p.state = 'open' AND p.object_a = 'account' AND p.object_b = 'account' \gset
\echo :pairs 'pairs among' :customers 'customers'
\if :any_pair
SELECT CASE p.band WHEN 'auto' THEN 'certain enough to merge' ELSE 'for a person to decide' END AS band, count(*) AS pairs,
       count(*) FILTER (WHERE p.rule IS NOT NULL) AS "by a rule (R0 to R2)", round(min(p.score)::numeric, 3) AS "lowest probability"
  FROM crm.duplicate_pair AS p WHERE p.state = 'open' AND p.object_a = 'account' AND p.object_b = 'account' GROUP BY p.band ORDER BY p.band;
SELECT a.name AS "one customer", b.name AS "or two?", round(p.score::numeric, 3) AS probability,
       (SELECT string_agg(format('%s %s', e.key, e.value ->> 'level'), ', ' ORDER BY (e.value ->> 'weight')::float8 DESC, e.key)
          FROM jsonb_each(p.evidence -> 'fields') AS e WHERE e.value ->> 'level' NOT IN ('missing')) AS "because"
  FROM (SELECT d.*, row_number() OVER (PARTITION BY d.band, d.rule ORDER BY d.score DESC, d.id) AS n FROM crm.duplicate_pair AS d
         WHERE d.state = 'open' AND d.object_a = 'account' AND d.object_b = 'account') AS p
       JOIN crm.account AS a ON a.id = p.a_id JOIN crm.account AS b ON b.id = p.b_id
 WHERE p.n <= 2 ORDER BY p.band, p.rule NULLS LAST, p.n LIMIT 6;

\echo 'Somebody enters it once more: crm.find_duplicates(\'account\', what was typed), and crm.check_duplicate for those who may not see the record.'
SELECT jsonb_strip_nulls(jsonb_build_object('name', b.name, 'phone', b.phone)) AS typed FROM crm.duplicate_pair AS p JOIN crm.account AS b ON b.id = p.b_id
 WHERE p.state = 'open' AND p.object_a = 'account' AND p.object_b = 'account' ORDER BY b.phone IS NULL, p.id LIMIT 1 \gset
SELECT :'typed' AS typed, a.name AS found, f.score AS probability, f.rule FROM crm.find_duplicates('account', :'typed') AS f JOIN crm.account AS a USING (id) ORDER BY f.score DESC, f.id LIMIT 3;
SELECT * FROM crm.check_duplicate(:'typed');

\echo 'One merge, and its exact undo: SELECT crm.merge(\'account\', survivor, \'{victim}\'); SELECT crm.unmerge(merge);'
SELECT x.survivor, x.victim FROM crm.duplicate_pair AS p, LATERAL (VALUES (p.a_id, p.b_id), (p.b_id, p.a_id)) AS x (survivor, victim)
 WHERE p.state = 'open' AND p.object_a = 'account' AND p.object_b = 'account'
 ORDER BY (SELECT count(*) FROM crm.interaction AS i WHERE i.account_id = x.victim) * (SELECT count(*) FROM crm.interaction AS i WHERE i.account_id = x.survivor) DESC, p.id, x.survivor
 LIMIT 1 \gset
\set rows_of 'SELECT (SELECT count(*) FROM crm.opportunity WHERE account_id = :survivor) AS deals, (SELECT count(*) FROM crm.contact WHERE account_id = :survivor) AS contacts, (SELECT count(*) FROM crm.interaction WHERE account_id = :survivor) AS "follow-ups", (SELECT string_agg(name, \' / \' ORDER BY id) FROM crm.account WHERE id IN (:survivor, :victim) AND merged_into IS NULL) AS customers'
CREATE TEMP TABLE shown AS SELECT 1 AS n, 'before' AS "when", x.* FROM (:rows_of) AS x;
SELECT crm.merge('account', :survivor, ARRAY[:victim]::bigint[]) AS merge \gset
INSERT INTO shown SELECT 2, 'merged', x.* FROM (:rows_of) AS x;
SELECT crm.unmerge(:merge) IS NOT NULL AS undone \gset
INSERT INTO shown SELECT 3, 'undone', x.* FROM (:rows_of) AS x;
SELECT "when", deals, contacts, "follow-ups", customers FROM shown ORDER BY n;
\endif

\echo
\echo '=== The same customer, three people ==='
\echo 'SELECT * FROM crm.account, crm.opportunity ... by three logins, straight from SQL. The planner folds the rules in: no middle layer to go around.'
SELECT o.account_id AS id, o.id AS deal
  FROM crm_data.opportunity AS o JOIN crm_data.member AS m ON m.id = o.owner_id AND m.role_name = 'demo_sales'
 ORDER BY (o.outcome = 'open') DESC, o.amount DESC NULLS LAST, o.id LIMIT 1 \gset
\set look 'SELECT jsonb_build_object(\'1 name\', (SELECT name FROM crm.account WHERE id = :id), \'2 phone\', (SELECT phone FROM crm.account WHERE id = :id), \'3 annual revenue\', (SELECT annual_revenue FROM crm.account WHERE id = :id), \'4 credit rating\', (SELECT credit_rating FROM crm.account WHERE id = :id), \'5 deals seen\', (SELECT count(*) FROM crm.opportunity WHERE account_id = :id), \'6 largest deal\', (SELECT max(amount) FROM crm.opportunity WHERE account_id = :id), \'7 contracts seen\', (SELECT count(*) FROM crm.contract WHERE account_id = :id), \'8 received so far\', (SELECT sum(amount) FROM crm.receivable_entry WHERE account_id = :id AND kind = \'payment\'), \'9 customers in the list\', (SELECT count(*) FROM crm.account))::text'
\connect - demo_sales
:look AS sales \gset
\connect - demo_service
:look AS service \gset
\connect - demo_finance
:look AS finance \gset
\connect - postgres
SELECT substr(k, 3) AS "field", :'sales'::jsonb ->> k AS "sales rep (owner)", :'service'::jsonb ->> k AS "service agent", :'finance'::jsonb ->> k AS "finance clerk"
  FROM jsonb_object_keys(:'sales'::jsonb) AS k ORDER BY k;

\echo
\echo 'One query, four logins, and its plan: EXPLAIN SELECT name, annual_revenue FROM crm.account WHERE uscc = ...'
SELECT coalesce((SELECT uscc FROM crm.account WHERE id = :id), '91310115048147538Y') AS code \gset
\pset format unaligned
\pset tuples_only on
\set plan 'EXPLAIN (COSTS OFF) SELECT name, annual_revenue FROM crm.account WHERE uscc = ' :'code'
\connect - demo_sales
\echo - sales: own customers only
:plan;
\connect - demo_manager
\echo - manager: the teams below
:plan;
\connect - demo_service
\echo - service: all customers, no revenue
:plan;
\connect - demo_finance
\echo - finance: all customers
:plan;
\connect - postgres
\pset format aligned
\pset tuples_only off

\echo
\echo '=== Eight people save the same form at once ==='
\echo 'Each reads the customer, adds a tag, saves: 200 times with UPDATE, 200 times with crm.write(.., the version that was read, ..).'
\setenv CUSTOMER :id
\set form `pgbench -n -c 8 -j 2 -t 25 --random-seed=1 -D id=$CUSTOMER -f test/tools/demo_naive.pgbench 2>&1 | sed -n 's/.*actually processed: \([0-9]*\).*/\1/p'`
\set write `pgbench -n -c 8 -j 2 -t 25 --random-seed=2 -D id=$CUSTOMER -f test/tools/demo_write.pgbench 2>&1 | sed -n 's/.*actually processed: \([0-9]*\).*/\1/p'`
SELECT v.way, 200 - v.saved AS "refused (40001), to do again", v.saved AS "saved, said the server", count(t.tag) AS "still there", v.saved - count(t.tag) AS lost
  FROM (VALUES (1, 'UPDATE', 'form-%', :form), (2, 'crm.write', 'write-%', :write)) AS v (n, way, mark, saved)
       LEFT JOIN (SELECT unnest(a.tags) AS tag FROM crm.account AS a WHERE a.id = :id) AS t ON t.tag LIKE v.mark
 GROUP BY v.n, v.way, v.saved ORDER BY v.n;
SELECT count(*) AS "changes on record", count(DISTINCT h.endpoint) AS endpoints FROM crm.history('account', :id) AS h WHERE h.field = 'tags';

\echo
\echo '=== Win probability: what the stage says, what the deals say ==='
\echo 'SELECT crm.odds_refit(:present), then crm.win_probability(deal): learned by segment, beside the percentage somebody once typed in.'
SELECT crm.odds_refit(:'present') AS model \gset
SELECT CASE WHEN count(DISTINCT o.deal_type) > 1 THEN 'deal_type' ELSE 'product_line' END AS dimension FROM crm.opportunity AS o WHERE o.outcome = 'open' \gset
SELECT p.name || ': ' || s.name AS stage, to_char(100 * s.default_probability, 'FM990') || ' %' AS "configured", count(*) AS deals,
       to_char(100 * avg(o.probability_auto), 'FM990.0') || ' %' AS learned,
       (SELECT string_agg(format('%s %s %%', x.segment, round(100 * x.p)), ',  ' ORDER BY x.p DESC, x.segment)
          FROM (SELECT v.:"dimension" AS segment, avg(v.probability_auto) AS p FROM crm.opportunity AS v
                 WHERE v.stage_id = s.id AND v.outcome = 'open' GROUP BY 1 HAVING count(*) >= 5) AS x) AS "by segment"
  FROM crm.opportunity AS o JOIN crm.stage AS s ON s.id = o.stage_id JOIN crm.pipeline AS p ON p.id = s.pipeline_id
 WHERE o.outcome = 'open'
 GROUP BY p.id, p.name, s.id, s.seq, s.name, s.default_probability ORDER BY p.id, s.seq;

\echo
\echo 'One deal, and why: SELECT * FROM crm.win_probability(:deal); SELECT * FROM crm.win_explain(:deal);'
SELECT o.id AS deal FROM crm.opportunity AS o WHERE o.outcome = 'open'
 ORDER BY (o.probability_auto BETWEEN 0.3 AND 0.8) DESC NULLS LAST, o.amount DESC NULLS LAST, o.id LIMIT 1 \gset
SELECT o.id AS deal, left(o.name, 40) AS name, o.amount, round(100 * w.p) || ' %' AS probability,
       format('%s to %s %%', round(100 * w.low), round(100 * w.high)) AS "90 % interval", w.n AS "closed deals behind it"
  FROM crm.opportunity AS o, crm.win_probability(o.id, :'present') AS w WHERE o.id = :deal;
SELECT e.dimension, e.value, to_char(e.points, 'S990.0') AS "points of probability", e.n::bigint AS "times seen"
  FROM crm.win_explain(:deal, :'present') AS e WHERE e.dimension <> 'base' ORDER BY abs(e.points) DESC, e.dimension LIMIT 5;

\echo
\echo '=== The forecast of next month, and how far to believe it ==='
\echo 'SELECT * FROM crm.forecast(:next_month, \'total\', :present); then by team.'
SELECT CASE WHEN f.key IS NULL OR f.key = '' OR f.key = 'total' THEN 'all' ELSE f.key END AS "who", f.deals AS "open deals",
       to_char(f.low, 'FM999,999,999,990') AS "P10", to_char(f.mid, 'FM999,999,999,990') AS "P50", to_char(f.high, 'FM999,999,999,990') AS "P90",
       to_char(f.quota, 'FM999,999,999,990') AS quota, round(f.credibility::numeric) AS "credibility 0-100", to_char(100 * f.noise_floor, 'FM990') || ' %' AS "best possible accuracy",
       f.currency, f.status
  FROM (SELECT 0 AS part, * FROM crm.forecast(daterange(:'next_month', :'month_after'), 'total', :'present')
        UNION ALL
        SELECT 1, * FROM crm.forecast(daterange(:'next_month', :'month_after'), 'team', :'present')) AS f
 ORDER BY f.part, f.mid DESC NULLS LAST, f.key LIMIT 8;

\echo
\echo '=== The Monday brief: where the team is stuck ==='
\echo 'SELECT * FROM crm.bottleneck_brief(:present); stored and sent by its job every Monday at 10:00, to each manager for his own teams.'
SELECT b.rank, b.action, b.stage, b.deals, to_char(b.amount, 'FM999,999,999,990') || ' ' || b.currency AS amount, b.median_days AS "median days over",
       array_to_string(b.customers[1:2], E'\n') AS "customers, largest first"
  FROM crm.bottleneck_brief(:'present') AS b;
SELECT crm._job_bottleneck_brief(date_trunc('week', :'present'::timestamptz) + interval '10 hours') AS lines \gset
SELECT min(l.id) AS snapshot FROM crm.report_list('bottleneck_brief') AS l WHERE l.recipient IS NULL \gset
\pset format unaligned
\pset tuples_only on
\o :brief
SELECT crm.report_html(:snapshot, 'en');
\o
\pset format aligned
\pset tuples_only off
\echo 'The same as a page, as the message to the managers carries it:' :brief

\echo
\echo '=== Everything in place? SELECT * FROM crm.doctor(); ==='
SELECT d.name AS "check", d.status, d.found, d.advice FROM crm.doctor() AS d;
