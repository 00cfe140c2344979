-- Forecast of six months of a real small CRM, told at each month's start: accuracy of the whole and of every agent, beside the static way
-- (share of open amounts that was won a month so far), the noise floor, and the share of months inside the 80 percent interval.
CALL crm.migrate();
CREATE TABLE pipeline_row (opportunity_id text, sales_agent text, product text, account text, deal_stage text, engage_date date, close_date date, close_value numeric);
CREATE TABLE account_row (account text, sector text, year_established int, revenue numeric, employees int, office_location text, subsidiary_of text);
CREATE TABLE product_row (product text, series text, sales_price numeric);
SET datestyle = 'ISO, MDY';
SELECT :'dir' || '/sales_pipeline.csv' AS f1, :'dir' || '/accounts.csv' AS f2, :'dir' || '/products.csv' AS f3 \gset
\setenv F1 :f1
\setenv F2 :f2
\setenv F3 :f3
\copy pipeline_row FROM PROGRAM 'cat "$F1"' CSV HEADER
\copy account_row FROM PROGRAM 'cat "$F2"' CSV HEADER
\copy product_row FROM PROGRAM 'cat "$F3"' CSV HEADER
INSERT INTO crm_data.member (full_name, employee_no) SELECT DISTINCT sales_agent, sales_agent FROM pipeline_row ORDER BY 1;
INSERT INTO crm_data.account (code, name, industry) SELECT account, account, sector FROM account_row ORDER BY 1;
INSERT INTO crm_data.account (code, name) VALUES ('-', 'none yet');
CREATE TABLE one AS
SELECT row_number() OVER (ORDER BY r.opportunity_id) AS nr, r.*, p.sales_price FROM pipeline_row AS r LEFT JOIN product_row AS p ON replace(p.product, ' ', '') = replace(r.product, ' ', '') WHERE r.engage_date IS NOT NULL;
BEGIN; -- with its own history, a deal gets no other
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, outcome, amount, product_line, close_date, closed_at, stage_entered_at, created_at, owner_id)
SELECT a.id, o.opportunity_id, o.opportunity_id, s.pipeline_id, s.id, s.outcome, CASE WHEN o.deal_stage = 'Won' THEN o.close_value ELSE o.sales_price END, o.product, o.close_date,
       o.close_date::timestamp AT TIME ZONE 'Asia/Shanghai', coalesce(o.close_date, o.engage_date)::timestamp AT TIME ZONE 'Asia/Shanghai', o.engage_date::timestamp AT TIME ZONE 'Asia/Shanghai', m.id
  FROM one AS o JOIN crm_data.account AS a ON a.code = coalesce(o.account, '-') JOIN crm_data.member AS m ON m.full_name = o.sales_agent
  JOIN crm_data.stage AS s ON s.code = CASE o.deal_stage WHEN 'Won' THEN 'won' WHEN 'Lost' THEN 'lost' ELSE 'contact' END ORDER BY o.nr;
INSERT INTO crm_data.stage_history (opportunity_id, account_id, from_stage_id, to_stage_id, entered_at, recorded_at, ts_assumed, amount)
SELECT p.id, p.account_id, x.from_stage, x.to_stage, x.at, x.at, true, x.amount
  FROM crm_data.opportunity AS p JOIN one AS o ON o.opportunity_id = p.code JOIN crm_data.stage AS c ON c.pipeline_id = p.pipeline_id AND c.code = 'contact',
       LATERAL (SELECT NULL::bigint AS from_stage, c.id AS to_stage, p.created_at AS at, o.sales_price AS amount UNION ALL SELECT c.id, p.stage_id, p.closed_at, p.amount WHERE p.closed_at IS NOT NULL) AS x;
COMMIT;
ANALYZE;
CREATE TABLE told AS
SELECT m::date AS month, f.* FROM generate_series(timestamp '2017-07-01', '2017-12-01', '1 month') AS m, crm.forecast(daterange(m::date, (m + interval '1 month')::date), 'owner', m AT TIME ZONE 'Asia/Shanghai') AS f
UNION ALL
SELECT m::date, f.* FROM generate_series(timestamp '2017-07-01', '2017-12-01', '1 month') AS m, crm.forecast(daterange(m::date, (m + interval '1 month')::date), 'total', m AT TIME ZONE 'Asia/Shanghai') AS f;
-- won in the month of what was open at its start, and the static way to foresee it: the share of the open amount that was won a month so far
CREATE TABLE seen AS
SELECT m::date AS month, b.full_name AS key, coalesce(sum(o.amount) FILTER (WHERE o.outcome = 'won' AND o.close_date < m + interval '1 month'), 0) AS amount, sum(h.amount) AS open
  FROM generate_series(timestamp '2017-03-01', '2017-12-01', '1 month') AS m, crm_data.opportunity AS o JOIN crm_data.member AS b ON b.id = o.owner_id JOIN crm_data.stage_history AS h ON h.opportunity_id = o.id AND h.from_stage_id IS NULL
 WHERE o.created_at < m AT TIME ZONE 'Asia/Shanghai' AND (o.close_date IS NULL OR o.close_date >= m) GROUP BY m, b.full_name;
CREATE TABLE came AS
SELECT s.month, s.key, s.amount, s.open * p.share AS static FROM seen AS s, LATERAL (SELECT sum(q.amount) / sum(q.open) AS share FROM seen AS q WHERE q.month < s.month) AS p WHERE s.month >= '2017-07-01';
CREATE TABLE total AS SELECT month, sum(amount) AS amount, sum(static) AS static FROM came GROUP BY month;
SELECT 'Maven forecast 1 - accuracy, total', round(sum(abs(t.base - c.amount)) / sum(c.amount), 3), 0.30 FROM told AS t JOIN total AS c USING (month) WHERE t.key = 'total';
SELECT 'Maven forecast 1 - accuracy, static, total', round(sum(abs(c.static - c.amount)) / sum(c.amount), 3), '-' FROM total AS c;
SELECT 'Maven forecast 1 - noise floor, total', round(1 - avg(noise_floor)::numeric, 3), '-' FROM told WHERE key = 'total';
SELECT 'Maven forecast 1 - accuracy, agents', round(sum(abs(t.base - c.amount)) / sum(c.amount), 3), 0.50 FROM told AS t JOIN came AS c USING (month, key);
SELECT 'Maven forecast 1 - accuracy, static, agents', round(sum(abs(c.static - c.amount)) / sum(c.amount), 3), '-' FROM came AS c;
SELECT 'Maven forecast 1 - noise floor, agents', round(1 - (sum(t.noise_floor * t.base) / sum(t.base))::numeric, 3), '-' FROM told AS t JOIN came AS c USING (month, key);
SELECT 'Maven forecast, share outside the 80 percent interval, agents', round(avg((c.amount NOT BETWEEN t.low AND t.high)::int), 3), '-' FROM told AS t JOIN came AS c USING (month, key);
SELECT 'Maven forecast ' || to_char(t.month, 'YYYY-MM') || ' 1 - accuracy, total (1 - floor ' || round(1 - t.noise_floor::numeric, 3) || ')', round(abs(t.base - c.amount) / c.amount, 3), '-' FROM told AS t JOIN total AS c USING (month) WHERE t.key = 'total' ORDER BY t.month;
-- what a caller waits: a forecast that is fitted, one whose timing models are stored, and a deal's probability
SELECT set_config('test.began', extract(epoch FROM clock_timestamp())::text, false) IS NULL AS nothing;
SELECT 'Maven forecast fitted when asked, milliseconds', round(1000 * (extract(epoch FROM clock_timestamp()) - current_setting('test.began')::numeric)), '-' FROM (SELECT count(*) AS n FROM crm.forecast('[2017-12-01,2018-01-01)', 'total', '2017-12-01 06:00+08') OFFSET 0) AS f WHERE n > 0;
SELECT crm.odds_refit('2017-12-01 00:00+08') IS NULL AS nothing, crm.timing_refit('2017-12-01 05:00+08') IS NULL;
SELECT set_config('test.began', extract(epoch FROM clock_timestamp())::text, false) IS NULL AS nothing;
SELECT 'Maven forecast with stored timing models, milliseconds', round(1000 * (extract(epoch FROM clock_timestamp()) - current_setting('test.began')::numeric)), '-' FROM (SELECT count(*) AS n FROM crm.forecast('[2017-12-01,2018-01-01)', 'total', '2017-12-01 06:00+08') OFFSET 0) AS f WHERE n > 0;
SELECT set_config('test.began', extract(epoch FROM clock_timestamp())::text, false) IS NULL AS nothing;
SELECT 'Maven win_probability, milliseconds a call of 200', round(5 * (extract(epoch FROM clock_timestamp()) - current_setting('test.began')::numeric), 1), '-'
  FROM (SELECT count(w.p) AS n FROM (SELECT id FROM crm_data.opportunity ORDER BY created_at DESC, id LIMIT 200) AS o, crm.win_probability(o.id, '2017-12-01 06:00+08') AS w OFFSET 0) AS f WHERE n > 0;
