-- Churn by the engine of the win probability. Everything is of 2013 and 2014, and rolled back.
SET client_min_messages = warning;
BEGIN;
-- schools buy every three months, steel works bought once
INSERT INTO crm_data.account (code, name, industry) SELECT 'churn' || i, 'Churn ' || i, (ARRAY['steel', 'school'])[1 + i % 2] FROM generate_series(0, 99) AS i;
INSERT INTO crm_data.contract (account_id, code, state, amount, signed_on, expires_on)
SELECT a.id, 'churn' || a.id || '/' || k, 'signed', 100, date '2013-01-10' + k * 90, date '2014-01-10' + k * 90
  FROM crm_data.account AS a, generate_series(0, 8) AS k WHERE a.code LIKE 'churn%' AND (a.industry = 'school' OR k = 0);
INSERT INTO crm_data.account (code, name) VALUES ('churn-none', 'Churn none');
SELECT id AS steel FROM crm_data.account WHERE code = 'churn0' \gset
SELECT id AS school FROM crm_data.account WHERE code = 'churn1' \gset
SELECT id AS none FROM crm_data.account WHERE code = 'churn-none' \gset
SELECT p, n, status, factors FROM crm.churn_probability(:steel, '2014-12-01 00:00+00');
SELECT crm.churn_refit('2014-12-01 00:00+00') > 0 AS fitted;
SELECT status, rows_used, options ->> 'status' AS history FROM crm_data.model WHERE name = 'churn' ORDER BY version DESC LIMIT 1;
SELECT p > 0.9 AS leaves, low < p AND p < high AS inside, n, status, factors #>> '{0,dimension}' IN ('industry', 'days_to_expiry') AS reason FROM crm.churn_probability(:steel, '2014-12-01 00:00+00');
SELECT p < 0.1 AS stays, status FROM crm.churn_probability(:school, '2014-12-01 00:00+00');
SELECT p, status FROM crm.churn_probability(:none, '2014-12-01 00:00+00');
SAVEPOINT s;
\set VERBOSITY terse
SELECT crm.churn_probability(-1);
ROLLBACK TO s;
SELECT crm.churn_refit('infinity');
ROLLBACK TO s;
UPDATE crm_data.config SET body = jsonb_set(body, '{dims}', '["horoscope"]') WHERE kind = 'odds' AND key = 'churn';
SELECT crm.churn_refit('2014-12-01 00:00+00');
ROLLBACK TO s;
SET LOCAL ROLE crm_sales;
SELECT crm.churn_probability(:steel, '2014-12-01 00:00+00');
ROLLBACK TO s;
ROLLBACK;
