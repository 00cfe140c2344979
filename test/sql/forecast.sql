-- The distribution of a sum of deals, and the forecast of a period.
SET client_min_messages = warning;
SET extra_float_digits = 0;

-- against every one of the 4,096 outcomes of twelve deals: within one point of the grid
CREATE TEMP TABLE deal AS SELECT i, (1000 * (1 + i * i % 7) + 137 * i)::float8 AS value, (0.1 + 0.07 * i)::float8 AS p FROM generate_series(1, 12) AS i;
CREATE TEMP TABLE outcome AS
SELECT sum(CASE WHEN bits >> (i - 1) & 1 = 1 THEN value ELSE 0 END) AS total, exp(sum(ln(CASE WHEN bits >> (i - 1) & 1 = 1 THEN p ELSE 1 - p END))) AS chance
  FROM generate_series(0, 4095) AS bits, deal GROUP BY bits;
CREATE TEMP VIEW exact AS
SELECT (SELECT sum(value * p) FROM deal) AS mean, min(total) FILTER (WHERE below >= 0.1) AS low, min(total) FILTER (WHERE below >= 0.5) AS mid, min(total) FILTER (WHERE below >= 0.9) AS high
  FROM (SELECT total, sum(chance) OVER (ORDER BY total) AS below FROM outcome) AS x;
SELECT abs((d).mean - e.mean) < 1e-6 AS mean, abs((d).low - e.low) < 2 * step AS low, abs((d).mid - e.mid) < 2 * step AS mid, abs((d).high - e.high) < 2 * step AS high
  FROM exact AS e, (SELECT crm.forecast_distribution(value, p, 0) AS d, sum(value) / 1023 AS step FROM deal) AS x;
SELECT abs((d).noise_floor - greatest(0, 1 - sqrt(2 / pi()) * sqrt(v) / (d).mean)) < 1e-12 AS floor
  FROM (SELECT crm.forecast_distribution(value, p, 0) AS d, sum(value * value * p * (1 - p)) AS v FROM deal) AS x;
-- the order of the rows does not matter
SELECT count(DISTINCT d) AS results FROM (SELECT crm.forecast_distribution(value, p, 0.2 ORDER BY i)::text AS d FROM deal UNION ALL SELECT crm.forecast_distribution(value, p, 0.2 ORDER BY md5(i::text))::text FROM deal) AS x;
-- a shock widens; the normal form of many deals is near the grid of half as many
SELECT (w).high > (d).high AND (w).low < (d).low AS wider FROM (SELECT crm.forecast_distribution(value, p, 0) AS d, crm.forecast_distribution(value, p, 0.3) AS w FROM deal) AS x;
SELECT abs((a).high / (b).high - 1) < 0.01 AS same FROM (SELECT crm.forecast_distribution(100 + i % 50, 0.3, 0.1) AS a FROM generate_series(1, 501) AS i) AS x, (SELECT crm.forecast_distribution(100 + i % 50, 0.3, 0.1) AS b FROM generate_series(1, 499) AS i) AS y;
-- sure, impossible and no deals
SELECT crm.forecast_distribution(100, 1, 0) AS sure FROM generate_series(1, 3);
SELECT crm.forecast_distribution(100, 0, 0.2) AS impossible FROM generate_series(1, 3);
SELECT crm.forecast_distribution(0, 0.5, 0.2) AS nothing FROM generate_series(1, 3);
SELECT crm.forecast_distribution(1, 0.5, 0) AS none WHERE false;
-- of 200 generated months with a shock in common, 70 to 90 percent lie inside
WITH u AS (SELECT m, i, ('x' || substr(md5(m || ':' || i), 1, 8))::bit(32)::bigint / 4294967296.0 + 0.5 AS u FROM generate_series(1, 200) AS m, generate_series(0, 60) AS i),
     month AS (SELECT m, 0.6 * (sum(u) FILTER (WHERE i BETWEEN 49 AND 60) - 6) AS theta FROM (SELECT m, i, u - floor(u) AS u FROM u) AS z GROUP BY m),
     fell AS (SELECT m, sum(CASE WHEN z.u < 1 / (1 + exp(-(ln(p / (1 - p)) + theta))) THEN value ELSE 0 END) AS total
                FROM (SELECT m, i, u - floor(u) AS u FROM u) AS z JOIN month USING (m), LATERAL (SELECT 0.2 + 0.01 * (z.i % 40) AS p, 100 + 13 * (z.i % 9) AS value) AS d WHERE z.i < 48 GROUP BY m),
     told AS (SELECT crm.forecast_distribution(100 + 13 * (i % 9), 0.2 + 0.01 * (i % 40), 0.37) AS d FROM generate_series(0, 47) AS i)
SELECT count(*) FILTER (WHERE total BETWEEN (d).low AND (d).high) BETWEEN 140 AND 180 AS covered FROM fell, told;
\set VERBOSITY terse
SELECT crm.forecast_distribution(-1, 0.5, 0);
SELECT crm.forecast_distribution('NaN', 0.5, 0);
SELECT crm.forecast_distribution(1, 1.5, 0);
SELECT crm.forecast_distribution(1, 0.5, -1);
SELECT crm.forecast_distribution(1, NULL, 0);
SELECT crm.forecast_distribution(1, 0.5, i / 10.0) FROM generate_series(1, 2) AS i;

-- Credibility on generated statements, half to learn from and half to judge: as good as the model's own probability at telling who is right, better
-- where the evidence says something, and 60 means 60.
CREATE TEMP TABLE said AS
SELECT s.signal, s.i, 1 / (1 + exp(-(4 * s.u[1] - 2))) AS p, width_bucket(1 / (1 + exp(-(4 * s.u[1] - 2))), 0, 1, 10)::text AS p_bin, floor(s.u[2] * 3) / 2 AS signed, floor(s.u[3] * 2) AS legal, floor(s.u[4] * 7) AS rep,
       (s.u[5] < 1 / (1 + exp(-(4 * s.u[1] - 2 + CASE WHEN s.signal THEN 1.5 * (floor(s.u[2] * 3) / 2 - 0.5) + 1.2 * (floor(s.u[3] * 2) - 0.5) + 0.3 * (floor(s.u[4] * 7) - 3) ELSE 0 END))))::int AS hit
  FROM (SELECT signal, i, (SELECT array_agg((('x' || substr(md5(signal || ' ' || i), 1 + 6 * k, 6))::bit(24)::int)::float8 / 16777216 ORDER BY k) FROM generate_series(0, 4) AS k) AS u
          FROM (VALUES (true), (false)) AS v (signal), generate_series(1, 6000) AS i) AS s;
CREATE TEMP TABLE judged AS
SELECT s.signal, s.i, s.hit, s.p AS own, c.p AS index
  FROM (SELECT signal, crm.lattice_monotone(crm.lattice_monotone(crm.lattice_monotone(crm.lattice_fit(ARRAY[p_bin, signed::text, legal::text, rep::text], hit, 1, '{"order": 1}'), 2, '{0,0.5,1}'), 3, '{0,1}'), 4, '{0,1,2,3,4,5,6}') AS m
          FROM said WHERE i % 2 = 0 GROUP BY signal) AS f JOIN said AS s ON s.signal = f.signal AND s.i % 2 = 1, crm.lattice_predict(f.m, ARRAY[s.p_bin, s.signed::text, s.legal::text, s.rep::text]) AS c;
CREATE FUNCTION pg_temp.auc(p float8[], y int[]) RETURNS float8 LANGUAGE sql AS $$
    SELECT (sum(r) FILTER (WHERE y = 1) - sum(y) * (sum(y) + 1) / 2.0) / (sum(y) * (count(*) - sum(y))) FROM (SELECT y, rank() OVER (ORDER BY p) + (count(*) OVER (PARTITION BY p) - 1) / 2.0 AS r FROM unnest(p, y) AS x (p, y)) AS z
$$;
SELECT signal, pg_temp.auc(array_agg(index), array_agg(hit)) >= pg_temp.auc(array_agg(own), array_agg(hit)) - 0.01 AS not_worse, pg_temp.auc(array_agg(index), array_agg(hit)) > pg_temp.auc(array_agg(own), array_agg(hit)) + 0.03 AS better
  FROM judged GROUP BY signal ORDER BY signal DESC;
SELECT bool_and(abs(hit - index) <= 0.10) AS bins_within_ten_points FROM (SELECT avg(hit) AS hit, avg(index) AS index FROM judged GROUP BY signal, width_bucket(index, 0, 1, 10) HAVING count(*) >= 100) AS b;

-- Deals of 2014 and 2015, rolled back: two in three close in the month after they open, half of those are won.
BEGIN;
INSERT INTO crm_data.pipeline (code, name) VALUES ('fctest', 'Forecast test');
INSERT INTO crm_data.stage (pipeline_id, seq, code, name, outcome, default_probability, category)
SELECT p.id, v.seq, v.code, v.code, v.outcome, v.p, v.category
  FROM crm_data.pipeline AS p, (VALUES (1, 'talk', 'open', 0.8, 'commit'), (2, 'won', 'won', 1, 'closed'), (3, 'lost', 'lost', 0, 'omitted')) AS v (seq, code, outcome, p, category) WHERE p.code = 'fctest';
INSERT INTO crm_data.member (full_name, employee_no) VALUES ('Forecaster One', 'fctest1'), ('Forecaster Two', 'fctest2');
INSERT INTO crm_data.account (code, name, owner_id) SELECT 'fctest', 'Forecast test', id FROM crm_data.member WHERE employee_no = 'fctest1';
CREATE TEMP TABLE fate AS
SELECT i, date_trunc('month', timestamptz '2014-01-01 00:00+08' + (i / 30) * interval '31 days') + (i % 28) * interval '1 day' AS opened, (i * 7 % 3) < 2 AS closes, (i * 11 % 4) < 2 AS won FROM generate_series(0, 659) AS i;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, outcome, amount, owner_id, created_at, stage_entered_at, closed_at, close_date)
SELECT a.id, 'fctest' || f.i, 'Deal', s.pipeline_id, s.id, s.outcome, 1000 + f.i % 5 * 100, m.id, f.opened, coalesce(c.at, f.opened), c.at, f.opened::date + 31
  FROM fate AS f JOIN crm_data.account AS a ON a.code = 'fctest' JOIN crm_data.member AS m ON m.employee_no = 'fctest' || 1 + f.i % 2
 CROSS JOIN LATERAL (SELECT CASE WHEN f.closes AND f.opened + interval '31 days' < '2015-10-01 00:00+08' THEN f.opened + interval '31 days' END AS at) AS c
  JOIN crm_data.stage AS s ON s.code = CASE WHEN c.at IS NULL THEN 'talk' WHEN f.won THEN 'won' ELSE 'lost' END JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id AND p.code = 'fctest';
INSERT INTO crm_data.stage_history (opportunity_id, account_id, from_stage_id, to_stage_id, entered_at, recorded_at, amount, currency, close_date)
SELECT o.id, o.account_id, x.from_id, x.to_id, x.at, x.at, o.amount, CASE o.code WHEN 'fctest650' THEN 'EUR' ELSE 'CNY' END, x.planned
  FROM crm_data.opportunity AS o JOIN crm_data.stage AS t ON t.pipeline_id = o.pipeline_id AND t.code = 'talk',
       LATERAL (SELECT NULL::bigint AS from_id, t.id AS to_id, o.created_at AS at, o.close_date AS planned UNION ALL SELECT t.id, o.stage_id, o.closed_at, NULL WHERE o.closed_at IS NOT NULL) AS x
 WHERE o.code LIKE 'fctest%' ORDER BY o.id, x.at;
ANALYZE crm_data.opportunity, crm_data.stage_history;
-- What is won in a month of deals that were open at its start, against what was told, over six months.
CREATE TEMP TABLE month AS
SELECT m::date AS first, f.* FROM generate_series(timestamp '2015-03-01', '2015-08-01', '1 month') AS m, crm.forecast(daterange(m::date, (m + interval '1 month')::date), 'owner', m AT TIME ZONE 'Asia/Shanghai') AS f WHERE f.key LIKE 'Forecaster%';
CREATE TEMP TABLE came AS
SELECT date_trunc('month', o.closed_at AT TIME ZONE 'Asia/Shanghai')::date AS first, m.full_name AS key, sum(o.amount) FILTER (WHERE o.outcome = 'won' AND date_trunc('month', o.created_at AT TIME ZONE 'Asia/Shanghai') < date_trunc('month', o.closed_at AT TIME ZONE 'Asia/Shanghai')) AS amount
  FROM crm_data.opportunity AS o JOIN crm_data.member AS m ON m.id = o.owner_id WHERE o.code LIKE 'fctest%' AND o.closed_at IS NOT NULL GROUP BY 1, 2;
SELECT count(*) AS rows, min(status) AS status, bool_and(low <= mid AND mid <= high) AS ordered, bool_and(noise_floor BETWEEN 0 AND 1) AS floor, bool_and(base = adjusted) AS unadjusted,
       round(1 - sum(abs(base - amount)) / sum(amount), 1) >= 0.7 AS accurate
  FROM month JOIN came USING (first, key);
-- total and owners add up, and in the middle of the month what was won is in it
SELECT abs(sum(f.base) FILTER (WHERE f.key <> 'total') - sum(f.base) FILTER (WHERE f.key = 'total')) < 1 AS adds_up, sum(f.closed) FILTER (WHERE f.key = 'total') > 0 AS closed, sum(f.commit) > 0 AS commit
  FROM (SELECT * FROM crm.forecast('[2015-06-01,2015-07-01)', 'owner', '2015-06-15 00:00+08') UNION ALL SELECT * FROM crm.forecast('[2015-06-01,2015-07-01)', 'total', '2015-06-15 00:00+08')) AS f;
-- a period that is over is what was won in it
SELECT f.base = f.closed AS over, f.low = f.high AS certain FROM crm.forecast('[2015-05-01,2015-06-01)', 'total', '2015-07-01 00:00+08') AS f;
-- without history it says so, and the planned close decides
SELECT status FROM crm.forecast('[2014-01-01,2014-02-01)', 'total', '2014-01-05 00:00+08');
-- another currency without a rate is not silently left out
SELECT o.id AS deal FROM crm_data.opportunity AS o WHERE o.code = 'fctest650' \gset
SELECT status FROM crm.forecast('[2015-11-01,2015-12-01)', 'total', '2015-11-01 00:00+08');
INSERT INTO crm_data.fx_rate (rate_date, currency, base_currency, rate, source) VALUES ('2015-10-01', 'EUR', 'CNY', 7.1, 'test');
SELECT status FROM crm.forecast('[2015-11-01,2015-12-01)', 'total', '2015-11-01 00:00+08');
-- a person's statement changes adjusted and leaves base alone
SELECT base AS was FROM crm.forecast('[2015-11-01,2015-12-01)', 'total', '2015-11-01 00:00+08') \gset
INSERT INTO crm_data.forecast (kind, period, opportunity_id, amount, reason_code, reason, as_of) VALUES ('adjusted', '[2015-11-01,2015-12-01)', :deal, 50000, 'customer', 'letter of award', '2015-10-31');
SELECT base = :was AS base_stands, adjusted > base AS adjusted FROM crm.forecast('[2015-11-01,2015-12-01)', 'total', '2015-11-01 00:00+08');
-- credibility: every evidence raises it
SELECT credibility AS cold FROM crm.credibility(:deal, '2015-11-01 00:00+08') \gset
INSERT INTO crm_data.attachment (object, record_id, kind, name, created_at) VALUES ('opportunity', :deal, 'requirement_confirmation', 'confirmation', '2015-10-01');
SELECT round((credibility - :cold)::numeric, 1) AS unsigned, signed FROM crm.credibility(:deal, '2015-11-01 00:00+08');
UPDATE crm_data.attachment SET signed_by_customer = true, legal_reviewed_at = '2015-10-02' WHERE object = 'opportunity' AND record_id = :deal;
SELECT round((credibility - :cold)::numeric, 1) AS signed_and_reviewed, flag, contributions -> 'legal' AS legal FROM crm.credibility(:deal, '2015-11-01 00:00+08');
-- learned once there are win models of before and enough decided statements; evidence still raises it or leaves it
SELECT crm.credibility_refit('2015-09-01 00:00+08') > 0 AS tried;
SELECT options ->> 'status' AS status FROM crm_data.model WHERE name = 'credibility' ORDER BY version DESC LIMIT 1;
SELECT count(crm.odds_refit(m)) AS models FROM generate_series(timestamptz '2014-10-01 00:00+08', '2015-08-01 00:00+08', '5 months') AS m;
SELECT crm.credibility_refit('2015-09-30 00:00+08') > 0 AS tried;
SELECT options ->> 'status' AS status, rows_used > 100 AS cases, (metrics ->> 'hits')::int BETWEEN 1 AND rows_used - 1 AS hits FROM crm_data.model WHERE name = 'credibility' ORDER BY version DESC LIMIT 1;
SELECT credibility BETWEEN 0 AND 100 AS inside, learned, contributions ? 'gap' AS gap FROM crm.credibility(:deal, '2015-11-01 00:00+08');
-- the night's job: credibility and flag beside the deals, neither version nor history move; a flag is left above the level where it was entered below
SELECT row_version AS version FROM crm_data.opportunity WHERE id = :deal \gset
SELECT crm._store_credibility('2015-11-01 00:00+08') > 100 AS stored, crm._store_credibility('2015-11-01 00:00+08') AS again;
SELECT o.credibility = round(c.credibility) AS same, o.credibility_flag = c.flag AS flag, o.row_version - :version AS versions FROM crm_data.opportunity AS o, crm.credibility(o.id, '2015-11-01 00:00+08') AS c WHERE o.id = :deal;
SELECT count(DISTINCT (a.credibility, a.flag)) AS alone_or_together FROM crm._credibility('2015-11-01 00:00+08') AS a, crm._credibility('2015-11-01 00:00+08', ARRAY[a.opportunity_id]) AS b WHERE a.opportunity_id = :deal AND a.credibility = b.credibility;
-- stored timing models say what a fit says, also of a past instant; other periods are fitted as before
CREATE TEMP TABLE fitted_now AS SELECT f.* FROM crm._forecast_deals('[2015-10-01,2015-11-01)', '2015-09-30 04:15+08') AS f;
INSERT INTO crm_data.model (name, version, as_of) VALUES ('timing.close [2015-08-01,2015-09-01)', 1, '2015-08-01');
SELECT crm.timing_refit('2015-09-30 04:15+08') AS periods;
SELECT count(*) = (SELECT count(*) FROM fitted_now) AS rows, count(*) FILTER (WHERE (a.p_close, a.p_won, a.bias, a.shock, a.n) IS DISTINCT FROM (b.p_close, b.p_won, b.bias, b.shock, b.n)) AS different, min(a.version) AS version
  FROM crm._forecast_deals('[2015-10-01,2015-11-01)', '2015-09-30 04:15+08') AS a LEFT JOIN fitted_now AS b USING (opportunity_id);
SELECT count(DISTINCT version) AS later_that_day, (SELECT count(version) FROM crm._forecast_deals('[2015-10-01,2015-11-01)', '2015-09-30 04:14+08')) AS before, (SELECT count(version) FROM crm._forecast_deals('[2015-10-01,2015-10-15)', '2015-09-30 23:00+08')) AS other_period
  FROM crm._forecast_deals('[2015-10-01,2015-11-01)', '2015-09-30 23:00+08');
SELECT count(*) AS old_ones FROM crm_data.model WHERE name LIKE 'timing.%' AND as_of < '2015-08-20';
-- frozen, and what came after: every cent is on one deal
SELECT crm.freeze_forecast('[2015-06-01,2015-07-01)', '2015-06-01 00:00+08') > 0 AS frozen;
SELECT count(*) >= 2 AS members, bool_and(low <= mid AND mid <= high) AS ordered FROM crm_data.forecast WHERE kind = 'base' AND period = '[2015-06-01,2015-07-01)' HAVING bool_or(member_id IS NOT NULL);
SELECT sum(d.amount) = (SELECT sum(amount) FROM crm_data.opportunity WHERE code LIKE 'fctest%' AND outcome = 'won' AND closed_at >= '2015-06-01 00:00+08' AND closed_at < '2015-07-01 00:00+08')
                       - (SELECT sum(round((amount_base::float8 * probability)::numeric, 2)) FROM crm_data.forecast_snapshot WHERE period = '[2015-06-01,2015-07-01)') AS adds_up,
       count(DISTINCT item) AS items, bool_and(cause IN ('system', 'sales', 'customer', 'chance')) AS causes
  FROM crm.deviation('[2015-06-01,2015-07-01)') AS d;
SELECT cause, rule, bool_and(amount < 0) AS negative FROM crm.deviation('[2015-06-01,2015-07-01)') WHERE item = 'slipped' GROUP BY 1, 2 ORDER BY 1, 2;
-- rules that read what else is known: a source that was silent, a duplicate that was removed, a required action that was not taken
SAVEPOINT rules;
CREATE TEMP TABLE slip AS SELECT row_number() OVER (ORDER BY d.rule = 'plan_was_past', d.opportunity_id) AS n, d.opportunity_id AS id FROM crm.deviation('[2015-06-01,2015-07-01)') AS d WHERE d.item = 'slipped' ORDER BY 1 LIMIT 4;
INSERT INTO crm_data.source_system (name, kind) VALUES ('fctest', 'web');
INSERT INTO crm_data.external_ref (source_id, external_id, object, record_id) SELECT s.id, 'fctest', 'opportunity', slip.id FROM slip, crm_data.source_system AS s WHERE slip.n = 1 AND s.name = 'fctest';
INSERT INTO crm_data.alert (kind, level, object, record_id, message, created_at, closed_at) SELECT 'source_silent', 'orange', 'source_system', s.id, 'silent', '2015-06-20', '2015-06-28' FROM crm_data.source_system AS s WHERE s.name = 'fctest';
UPDATE crm_data.opportunity SET deleted_at = '2015-06-10' WHERE id = (SELECT id FROM slip WHERE n = 2);
INSERT INTO crm_data.task (kind, object, record_id, title, mandatory, due_at) SELECT 'stage_action', 'opportunity', id, 'decision chain', true, '2015-06-05' FROM slip WHERE n = 3;
SELECT s.n, d.cause, d.rule FROM crm._deviation_items('[2015-06-01,2015-07-01)') AS d JOIN slip AS s ON s.id = d.opportunity_id WHERE d.item = 'slipped' AND s.n < 4 ORDER BY s.n;
ROLLBACK TO rules;
SELECT crm._job_deviation('2015-07-15 08:00+08') > 0 AS kept, crm._job_deviation('2015-07-15 08:00+08') AS kept_again;
SELECT (SELECT sum(amount) FROM crm_data.deviation WHERE period = '[2015-06-01,2015-07-01)') = (SELECT sum(amount) FROM crm.deviation('[2015-06-01,2015-07-01)')) AS same;
-- the report of the 15th: its waterfall is drawn from its own rows and ends where the result is
SELECT sum((r ->> 'amount')::numeric) FILTER (WHERE r ->> 'part' = 'waterfall') = max((r ->> 'result')::numeric) FILTER (WHERE r ->> 'part' = 'summary') AS ends_at_the_result,
       max((r ->> 'result')::numeric) FILTER (WHERE r ->> 'part' = 'summary') = (SELECT sum(amount) FROM crm_data.opportunity WHERE code LIKE 'fctest%' AND outcome = 'won' AND closed_at >= '2015-06-01 00:00+08' AND closed_at < '2015-07-01 00:00+08') AS as_it_was,
       string_agg(r #>> '{step,en}', ' > ' ORDER BY o) FILTER (WHERE r ->> 'part' = 'waterfall') AS steps, count(*) FILTER (WHERE r ->> 'part' = 'largest') AS largest, count(*) FILTER (WHERE r ->> 'part' = 'causes') > 1 AS causes
  FROM crm_data.report_snapshot AS s, jsonb_array_elements(s.body -> 'rows') WITH ORDINALITY AS u (r, o) WHERE s.report = 'deviation' AND s.recipient_id IS NULL;
SELECT l, h ~ '<svg' AS drawn, cardinality(regexp_split_to_array(substring(h FROM '<svg.*?</svg>'), '<rect')) - 1 AS bars, h ~ CASE l WHEN 'zh' THEN '从预测到结果' ELSE 'From the forecast to the result' END AS said
  FROM unnest('{en,zh}'::text[]) AS l, LATERAL (SELECT crm.report_html(s.id, l) AS h FROM crm_data.report_snapshot AS s WHERE s.report = 'deviation' AND s.recipient_id IS NULL) AS x;
SELECT crm._job_forecast_freeze('2015-07-01 00:05+08') > 0 AS frozen;
SELECT bool_or(jsonb_array_length(similar_cases) > 0) AS similar FROM crm.deviation('[2015-07-01,2015-08-01)');
-- a statement needs a reason, and evidence when it moves much; the last one counts
SAVEPOINT a;
SELECT crm.forecast_adjust(:deal, '[2015-11-01,2015-12-01)', 900, 'award_notice', '');
ROLLBACK TO a;
SELECT crm.forecast_adjust(:deal, '[2015-11-01,2015-12-01)', 900, 'because', 'I know');
ROLLBACK TO a;
SELECT crm.forecast_adjust(:deal, '[2015-11-01,2015-12-01)', 900, 'award_notice', 'won the tender');
ROLLBACK TO a;
SELECT crm.forecast_adjust(:deal, '[2015-11-01,2015-12-01)', -1, 'award_notice', 'won the tender');
ROLLBACK TO a;
SELECT crm.forecast_adjust(:deal, '[2015-11-01,2015-12-01)', 900, 'award_notice', 'won the tender', (SELECT id FROM crm_data.attachment WHERE object = 'opportunity' AND record_id = :deal)) > 0 AS stated;
SELECT f.amount, f.supersedes_id IS NOT NULL AS supersedes, f.evidence_id IS NOT NULL AS evidence FROM crm_data.forecast AS f WHERE f.opportunity_id = :deal ORDER BY f.id DESC LIMIT 1;
-- splits: a deal's amount is shared between members, and nothing is lost or counted twice
SELECT id AS one FROM crm_data.member WHERE employee_no = 'fctest1' \gset
SELECT id AS two FROM crm_data.member WHERE employee_no = 'fctest2' \gset
SELECT base AS base1, closed AS closed1 FROM crm.forecast('[2015-06-01,2015-07-01)', 'owner', '2015-06-15 00:00+08') WHERE key = 'Forecaster One' \gset
SELECT base AS base2 FROM crm.forecast('[2015-06-01,2015-07-01)', 'owner', '2015-06-15 00:00+08') WHERE key = 'Forecaster Two' \gset
SAVEPOINT split;
INSERT INTO crm_data.split (opportunity_id, account_id, member_id, kind, percent, created_at)
SELECT o.id, o.account_id, :two, v.kind, v.percent, '2014-01-01' FROM crm_data.opportunity AS o, (VALUES ('revenue', 40), ('overlay', 100)) AS v (kind, percent) WHERE o.code LIKE 'fctest%' AND o.owner_id = :one;
SELECT abs(sum(f.base) FILTER (WHERE f.key LIKE 'Forecaster%') - (:base1 + :base2)) < 0.05 AS nothing_lost, abs(sum(f.base) FILTER (WHERE f.key = 'Forecaster One') - 0.6 * :base1) < 0.05 AS rest, abs(sum(f.closed) FILTER (WHERE f.key = 'Forecaster One') - 0.6 * :closed1) < 0.01 AS closed
  FROM crm.forecast('[2015-06-01,2015-07-01)', 'owner', '2015-06-15 00:00+08') AS f;
SELECT abs(crm._member_forecast('[2015-06-01,2015-07-01)', '2015-06-15 00:00+08', :one) - 0.6 * :base1) < 0.05 AS same;
-- a member submits his own forecast: near the computed one as it is, further away with a reason, far above with evidence; a manager may for those he manages
INSERT INTO crm_data.member (full_name, employee_no) VALUES ('Forecast Manager', 'fctest3');
UPDATE crm_data.member SET manager_id = (SELECT id FROM crm_data.member WHERE employee_no = 'fctest3') WHERE employee_no = 'fctest1';
CREATE ROLE regress_fctest1 LOGIN;
CREATE ROLE regress_fctest3 LOGIN;
GRANT crm_sales TO regress_fctest1, regress_fctest3;
UPDATE crm_data.member SET role_name = 'regress_' || employee_no WHERE employee_no IN ('fctest1', 'fctest3');
SAVEPOINT a;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 1000);
ROLLBACK TO a;
SET LOCAL ROLE regress_fctest1;
SAVEPOINT b;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 1000, member => :two);
ROLLBACK TO b;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), -1);
ROLLBACK TO b;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 'NaN');
ROLLBACK TO b;
SELECT crm.forecast_submit('empty', 1000);
ROLLBACK TO b;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 500000);
ROLLBACK TO b;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 500000, 'award_notice', 'two tenders won');
ROLLBACK TO b;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 500000, 'award_notice', 'two tenders won', -1);
ROLLBACK TO b;
RESET ROLE;
INSERT INTO crm_data.attachment (object, record_id, kind, name, sha256) SELECT 'opportunity', o.id, 'award', 'award notice', sha256('award') FROM crm_data.opportunity AS o WHERE o.code = 'fctest648';
SELECT a.id AS award FROM crm_data.attachment AS a WHERE a.name = 'award notice' \gset
SET LOCAL ROLE regress_fctest1;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 500000, 'award_notice', 'two tenders won', :award) > 0 AS submitted;
SET LOCAL ROLE regress_fctest3;
SELECT crm.forecast_submit(daterange(current_date, current_date + 30), 0, member => :one) > 0 AS by_manager;
RESET ROLE;
SELECT f.amount, m.full_name AS whose, a.full_name AS author, f.supersedes_id IS NOT NULL AS supersedes, f.evidence_sha256 = sha256('award') AS evidence
  FROM crm_data.forecast AS f JOIN crm_data.member AS m ON m.id = f.member_id JOIN crm_data.member AS a ON a.id = f.author_id WHERE f.kind = 'submitted' ORDER BY f.id;
SAVEPOINT c;
UPDATE crm_data.forecast SET amount = 1 WHERE kind = 'submitted';
ROLLBACK TO c;
SELECT key, submitted, submitted IS DISTINCT FROM base AS beside_base FROM crm.forecast(daterange(current_date, current_date + 30), 'owner', clock_timestamp()) WHERE key LIKE 'Forecaster%' ORDER BY key;
-- whose word helps: in June the computed forecast is wrong by something, one who submits what comes adds value, and one statement on a deal that came true helps
ROLLBACK TO split;
INSERT INTO crm_data.forecast (kind, period, member_id, amount, as_of, author_id)
SELECT 'submitted', '[2015-06-01,2015-07-01)', :one, sum(o.amount), '2015-05-31', :one
  FROM crm_data.forecast_snapshot AS s JOIN crm_data.opportunity AS o ON o.id = s.opportunity_id WHERE s.period = '[2015-06-01,2015-07-01)' AND o.owner_id = :one AND o.outcome = 'won' AND (o.closed_at AT TIME ZONE 'Asia/Shanghai')::date <@ s.period;
SELECT key, periods, submitted = actual AS right_on, base_error > 0 AS base_wrong, submitted_error, submitted_value BETWEEN 0.0001 AND base_error / 5 AS helped, adjusted_value AS stated_nothing FROM crm.forecast_value_added('[2015-06-01,2015-07-01)') WHERE key LIKE 'Forecaster%' ORDER BY key;
SELECT count(*) AS reasons FROM crm.forecast_value_added('[2015-06-01,2015-07-01)', 'reason');
SAVEPOINT d;
SELECT crm.forecast_value_added('[2015-06-01,2015-07-01)', 'moon');
ROLLBACK TO d;
SELECT crm.forecast_value_added(daterange(current_date, current_date + 9));
ROLLBACK TO d;
-- scenarios
SELECT scenario, amount FROM crm.simulate(ARRAY[:deal], format('{"%s": {"probability": 1, "amount": 500}}', :deal)::jsonb);
SELECT count(*) AS scenarios, max(amount) FILTER (WHERE scenario = 'optimistic') >= max(amount) FILTER (WHERE scenario = 'conservative') AS ordered, max(deals) AS deals
  FROM crm.simulate(ARRAY(SELECT id FROM crm_data.opportunity WHERE code LIKE 'fctest65%'));
-- the money beside it
INSERT INTO crm_data.receivable_entry (kind, account_id, amount, occurred_on, owner_id, recorded_at)
SELECT v.kind, a.id, v.amount, '2015-06-10', m.id, '2015-06-10' FROM crm_data.account AS a, crm_data.member AS m, (VALUES ('invoice', 300.10), ('payment', 200.20), ('refund', 10)) AS v (kind, amount) WHERE a.code = 'fctest' AND m.employee_no = 'fctest1';
SELECT key, invoiced, received, refunded, due, base > 0 AS forecast FROM crm.forecast_vs_cash('[2015-06-01,2015-07-01)', '2015-06-20 00:00+08') WHERE key LIKE 'Forecaster%' ORDER BY key;
-- a director in his first days sees amounts blurred, and so they are in no answer
CREATE ROLE forecast_new NOLOGIN IN ROLE crm_director;
INSERT INTO crm_data.member (role_name, full_name, hired_at) VALUES ('forecast_new', 'Forecast New', current_date);
SAVEPOINT p;
SET LOCAL ROLE forecast_new;
SELECT count(*) AS deals FROM crm.opportunity WHERE id = :deal AND amount IS NULL;
SELECT count(*) AS items FROM crm.deviation('[2015-06-01,2015-07-01)');
SELECT count(*) AS owners FROM crm.forecast_vs_cash('[2015-06-01,2015-07-01)', '2015-06-20 00:00+08') WHERE invoiced <> 0 OR received <> 0 OR due <> 0;
\set VERBOSITY sqlstate
SELECT crm.simulate(ARRAY[:deal], format('{"%s": {"probability": 0.999999}}', :deal)::jsonb);
ROLLBACK TO p;
\set VERBOSITY terse
-- bad input
SAVEPOINT s;
SELECT crm.freeze_forecast('[2015-06-01,2015-07-01)', '2015-06-01 00:00+08');
ROLLBACK TO s;
SELECT crm.deviation('[2015-05-01,2015-06-01)');
ROLLBACK TO s;
SELECT crm.deviation(daterange(current_date, current_date + 30));
ROLLBACK TO s;
SELECT crm.simulate('{}');
ROLLBACK TO s;
SELECT crm.forecast('empty');
ROLLBACK TO s;
SELECT crm.forecast('[2015-01-01,)');
ROLLBACK TO s;
SELECT crm.forecast('[2015-01-01,2015-02-01)', 'moon');
ROLLBACK TO s;
SELECT crm.forecast(NULL);
ROLLBACK TO s;
SELECT crm.forecast('[2015-01-01,2015-02-01)', 'total', 'infinity');
ROLLBACK TO s;
SELECT crm.freeze_forecast('[2015-01-01,2015-02-01)', '-infinity');
ROLLBACK TO s;
SELECT crm.simulate(ARRAY[:deal], '{"0": {"amount": 5}}');
ROLLBACK TO s;
SELECT crm.simulate(ARRAY[:deal], format('{"%s": {"amount": -5}}', :deal)::jsonb);
ROLLBACK TO s;
SELECT crm.simulate(ARRAY[:deal], format('{"%s": {"probability": 2}}', :deal)::jsonb);
ROLLBACK TO s;
-- a person who may read no deal has an empty forecast
SET LOCAL ROLE crm_sales;
SELECT count(*) AS rows FROM crm.forecast('[2015-05-01,2015-06-01)', 'owner', '2015-05-01 00:00+08');
SELECT crm.credibility(:deal);
ROLLBACK TO s;
ROLLBACK;
