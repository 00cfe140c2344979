-- Drift: the statistics, and the story of the churn model whose login feature counted the web only.
SET client_min_messages = warning;
SET extra_float_digits = 0;

SELECT round(psi::numeric, 4) AS psi, threshold, level FROM crm.psi('{5000,3000,2000}', '{5000,3000,2000}');
SELECT round(psi::numeric, 3) AS psi, level FROM crm.psi('{5000,3000,2000}', '{2000,3000,5000}');
SELECT level, round(threshold::numeric, 3) AS threshold FROM crm.psi('{500,500,500,500,500,500,500,500,500,500}', '{14,6,9,14,7,12,6,13,8,11}');
SELECT * FROM crm.psi('{0,0}', '{1,2}');
-- of 300 pairs of samples of 100 from the same distribution, few are told apart by the threshold, and many by a plain 0.1
WITH u AS (SELECT k, i, ('x' || substr(md5(k || ' ' || i), 1, 8))::bit(32)::bigint & 1048575 AS u FROM generate_series(1, 300) AS k, generate_series(1, 200) AS i),
     c AS (SELECT k, array_agg(e ORDER BY b) AS e, array_agg(a ORDER BY b) AS a FROM (SELECT k, b, count(*) FILTER (WHERE i <= 100 AND u % 10 = b)::float8 AS e, count(*) FILTER (WHERE i > 100 AND u % 10 = b)::float8 AS a FROM u, generate_series(0, 9) AS b GROUP BY k, b) AS x GROUP BY k)
SELECT count(*) FILTER (WHERE level <> 'none') <= 5 AS few_by_threshold, count(*) FILTER (WHERE psi > 0.1) > 90 AS many_by_rule_of_thumb FROM c, crm.psi(e, a);
SELECT round(distance::numeric, 3) AS distance, round(p::numeric, 3) AS p FROM crm.ks_test(ARRAY(SELECT i::float8 FROM generate_series(1, 100) AS i), ARRAY(SELECT i::float8 FROM generate_series(1, 100) AS i));
SELECT round(distance::numeric, 3) AS distance, p < 0.001 AS different FROM crm.ks_test(ARRAY(SELECT i::float8 FROM generate_series(1, 100) AS i), ARRAY(SELECT i::float8 FROM generate_series(31, 130) AS i));
SELECT * FROM crm.ks_test('{}', '{1}');
SELECT crm.page_hinkley(0.5, 0.5, 0.01, 10) AS quiet FROM generate_series(1, 1000);
SELECT crm.page_hinkley(CASE WHEN i > 500 THEN 0.8 ELSE 0.5 END, 0.5, 0.01, 10 ORDER BY i) AS jump FROM generate_series(1, 600) AS i;
\set VERBOSITY terse
SELECT crm.psi('{1,2}', '{1}');
SELECT crm.psi('{1,NULL}', '{1,2}');
SELECT crm.psi('{-1,2}', '{1,2}');
SELECT crm.ks_test('{NaN}', '{1}');
SELECT crm.page_hinkley(1, 1, -1, 10);
SELECT crm.page_hinkley(NULL, 1, 0.01, 10);

-- 1,500 customers a month. Who is active stays; from month 31 on customers move from the web to the app, small firms grow from 35 to 61 percent,
-- and the feature goes on counting the web. From month 37 on it counts both.
CREATE TEMP TABLE customer AS
SELECT x.month, x.i, x.activity, CASE WHEN x.web OR x.month >= 37 THEN x.activity ELSE 0 END AS login, x.activity AS login_fixed, CASE WHEN x.small THEN 'small' ELSE 'large' END AS size, x.tickets,
       (x.u5 < 1 / (1 + exp(-(3.0 - 2.0 * x.activity + 0.3 * x.small::int + 0.3 * (x.tickets - 1)))))::int AS churned
  FROM (SELECT month, i, floor(u[1] * 8)::int AS activity, u[2] < CASE month WHEN 31 THEN 0.7 WHEN 32 THEN 0.5 WHEN 33 THEN 0.4 ELSE CASE WHEN month < 31 THEN 0.9 ELSE 0.3 END END AS web,
               u[3] < CASE WHEN month < 31 THEN 0.35 ELSE least(0.35 + 0.065 * (month - 30), 0.61) END AS small, floor(u[4] * 3)::int AS tickets, u[5] AS u5
          FROM generate_series(1, 39) AS month, generate_series(1, 1500) AS i,
               LATERAL (SELECT array_agg((('x' || substr(h, 1 + 6 * k, 6))::bit(24)::int)::float8 / 16777216 ORDER BY k) AS u FROM md5(month || '/' || i) AS h, generate_series(0, 4) AS k) AS r) AS x;
CREATE TEMP TABLE churn_model AS SELECT crm.lattice_fit(ARRAY[login::text, size, tickets::text], churned, 1) AS m FROM customer WHERE month <= 6;
CREATE TEMP TABLE told AS
SELECT month, login, churned, p FROM churn_model, customer, crm.lattice_predict(m, ARRAY[login::text, size, tickets::text]);
CREATE TEMP TABLE watch AS
SELECT t.month, (SELECT level FROM crm.psi((SELECT array_agg(n ORDER BY login) FROM (SELECT login, count(*)::float8 AS n FROM customer WHERE month <= 6 GROUP BY login) AS e),
                                         (SELECT array_agg(n ORDER BY login) FROM (SELECT b AS login, count(c.i)::float8 AS n FROM generate_series(0, 7) AS b LEFT JOIN customer AS c ON c.month = t.month AND c.login = b GROUP BY b) AS a))) AS psi,
       sum(churned - p) / sqrt(sum(p * (1 - p))) AS z, avg(churned) FILTER (WHERE p >= 0.5) AS precision
  FROM told AS t GROUP BY t.month;
-- 24 quiet months without an alarm, an alarm in the first month of the drift
SELECT count(*) AS quiet_months, count(*) FILTER (WHERE psi <> 'none' OR abs(z) > 4) AS alarms, round(avg(precision)::numeric, 1) AS precision FROM watch WHERE month BETWEEN 7 AND 30;
SELECT month, psi, abs(z) > 4 AS calibration_alarm, precision <= 0.35 AS useless FROM watch WHERE month BETWEEN 31 AND 36 ORDER BY month;
-- the feature mended and the model fitted again, half-life three months: the next two months
SELECT month, avg(churned) FILTER (WHERE p >= 0.5) >= 0.70 AS useful, count(*) FILTER (WHERE p >= 0.5) > 100 AS flagged
  FROM (SELECT crm.lattice_fit(ARRAY[login_fixed::text, size, tickets::text], churned, 2 ^ (-(37 - month) / 3.0)) AS m FROM customer WHERE month BETWEEN 25 AND 36) AS f,
       customer, crm.lattice_predict(m, ARRAY[login_fixed::text, size, tickets::text]) WHERE month IN (37, 38) GROUP BY month ORDER BY month;

-- the champion of the win probability: a change of its definition is told, and kept by the job with one alert
BEGIN;
DELETE FROM crm_data.model_event WHERE name = 'win';
SELECT crm.odds_refit() > 0 AS fitted;
SELECT level FROM crm.drift(now() - interval '30 days') WHERE model = 'win' AND metric = 'definition';
UPDATE crm_data.config SET body = body || '{"min_cases": 31}' WHERE kind = 'odds' AND key = 'win' AND status = 'active';
SELECT level FROM crm.drift(now() - interval '30 days') WHERE model = 'win' AND metric = 'definition';
SELECT crm._job_drift(now()) > 0 AS alarms, crm._job_drift(now()) > 0 AS again;
SELECT count(*) AS alerts, min(level) AS level FROM crm_data.alert WHERE dedupe_key = 'drift:win:definition:*';
SAVEPOINT s;
SELECT crm.drift(now(), now());
ROLLBACK TO s;
ROLLBACK;

-- The story once more, in the tables: 200 customers of 2012 to 2014, one in two uses the product and buys again every 100 days. The features count the web; from
-- June 2014 on two in three who use it do so in the app. Everything is rolled back.
BEGIN;
INSERT INTO crm_data.account (code, name, type) SELECT 'drift' || i, 'Drift ' || i, 'enterprise' FROM generate_series(0, 199) AS i;
CREATE TEMP TABLE people AS SELECT a.id, substr(a.code, 6)::int AS i, substr(a.code, 6)::int % 2 = 0 AS uses, substr(a.code, 6)::int % 3 > 0 AS moves FROM crm_data.account AS a WHERE a.code LIKE 'drift%';
INSERT INTO crm_data.contract (account_id, code, state, amount, signed_on, expires_on)
SELECT c.id, 'drift' || c.i || '/' || k, 'signed', 100, date '2012-01-01' + c.i % 90 + k * 100, date '2012-12-31' + c.i % 90 + k * 100 FROM people AS c, generate_series(0, 12) AS k WHERE c.uses OR k = 0;
INSERT INTO crm_data.event (at, occurred_at, account_id, kind, channel)
SELECT d.at, d.at, c.id, 'login', CASE WHEN c.moves AND d.at >= '2014-06-01' THEN 'app' ELSE 'web' END
  FROM people AS c, generate_series(timestamptz '2012-06-01 12:00+08', '2015-03-01', '4 days') AS d (at) WHERE c.uses AND hashint8extended(c.i, extract(epoch FROM d.at)::bigint) % 100 > c.i % 60 - 30;
ANALYZE crm_data.event, crm_data.contract, crm_data.account;
UPDATE crm_data.config SET body = body || '{"sources": ["web"], "dims": ["usage_trend", "usage_depth", "account_type"]}' WHERE kind = 'odds' AND key = 'churn' AND status = 'active';
UPDATE crm_data.config SET body = body || '{"sentinels": [{"name": "idle", "model": "churn", "values": {"usage_depth": "0", "account_type": "enterprise"}, "least": 0.6}]}' WHERE kind = 'odds' AND key = 'drift' AND status = 'active';
SELECT crm.churn_refit('2014-05-01 00:00+08') > 0 AS fitted;
CREATE FUNCTION pg_temp.alarms(at timestamptz) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(metric || ' ' || segment || ' ' || level, ', ' ORDER BY metric, segment) FROM crm.drift(at - interval '30 days', at) WHERE model = 'churn' AND level IN ('yellow', 'red') $$;
-- the night before it is quiet; a month on the job tells of it, and of what has become of the figures nine months on
SELECT pg_temp.alarms('2014-06-01 00:00+08') AS quiet;
SELECT crm._job_drift('2014-07-01 05:00+08') >= 2 AS alarms;
SELECT k.metric, k.segment, k.alarmed FROM crm_data.model_metric AS k JOIN crm_data.model AS m ON m.id = k.model_id WHERE m.name = 'churn' AND k.alarmed AND k.metric IN ('new_source', 'psi') ORDER BY 1, 2;
SELECT crm._job_drift('2015-03-01 05:00+08') > 3 AS alarms;
SELECT k.metric, k.segment, round(k.value::numeric, 1) AS value, k.alarmed FROM crm_data.model_metric AS k JOIN crm_data.model AS m ON m.id = k.model_id
 WHERE m.name = 'churn' AND upper(k.period) = '2015-03-01' AND (k.alarmed OR k.metric IN ('definition', 'sentinel')) ORDER BY 1, 2;
SELECT count(*) = count(DISTINCT dedupe_key) AS once_each FROM crm_data.alert WHERE dedupe_key LIKE 'drift:churn:%';
-- a model that is wrong does not claim to be sure
SELECT status FROM crm.churn_probability((SELECT id FROM people WHERE i = 2), now());
-- the feature mended and the model fitted again: what it says is as good as before
UPDATE crm_data.config SET body = body || '{"sources": ["web", "app"]}' WHERE kind = 'odds' AND key = 'churn' AND status = 'active';
SELECT crm.churn_refit('2015-02-15 00:00+08') > 0 AS fitted;
SELECT pg_temp.alarms('2015-03-01 00:00+08') AS quiet_again;
SELECT status FROM crm.churn_probability((SELECT id FROM people WHERE i = 2), now());
SELECT crm.model_rollback('churn') > 0 AS back;
ROLLBACK;
