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
SELECT crm.churn_probability(:steel, 'infinity');
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

-- Renewal: contracts of 2012 to 2014 that end on the 10th of a month; who uses the product renews. Rolled back.
BEGIN;
INSERT INTO crm_data.account (code, name) SELECT 'renew' || i, 'Renew ' || i FROM generate_series(0, 119) AS i;
INSERT INTO crm_data.contract (account_id, code, state, amount, signed_on, starts_on, expires_on)
SELECT a.id, 'renew' || i, 'active', 1000, d.ends - 365, d.ends - 365, d.ends
  FROM generate_series(0, 119) AS i JOIN crm_data.account AS a ON a.code = 'renew' || i, LATERAL (SELECT date '2013-01-10' + 30 * (i % 22) AS ends) AS d;
-- every second customer uses it daily and renews ten days before the end
INSERT INTO crm_data.event (at, occurred_at, account_id, kind, channel)
SELECT e.at, e.at, c.account_id, 'login', 'web' FROM crm_data.contract AS c, generate_series(c.expires_on - 120, c.expires_on, '1 day') AS e (at) WHERE c.code LIKE 'renew%' AND right(c.code, 1) IN ('0', '2', '4', '6', '8');
INSERT INTO crm_data.contract (account_id, code, state, amount, signed_on, starts_on, expires_on)
SELECT c.account_id, c.code || '/2', 'active', 1000, c.expires_on - 10, c.expires_on, c.expires_on + 365 FROM crm_data.contract AS c
 WHERE c.code LIKE 'renew%' AND right(c.code, 1) IN ('0', '2', '4', '6', '8') AND c.expires_on < '2014-08-01';
SELECT id AS used FROM crm_data.contract WHERE code = 'renew20' \gset
SELECT id AS idle FROM crm_data.contract WHERE code = 'renew21' \gset
SELECT expires_on FROM crm_data.contract WHERE id IN (:used, :idle) ORDER BY id;
SELECT p, n, status, actions FROM crm.renewal_probability(:used, '2014-08-20 00:00+08');
SELECT crm.renewal_refit('2014-08-20 00:00+08') > 0 AS fitted;
SELECT status, rows_used > 90 AS contracts, options ->> 'status' AS history FROM crm_data.model WHERE name = 'renewal' ORDER BY version DESC LIMIT 1;
SELECT p > 0.5 AS renews, low < p AND p < high AS inside, status, factors #>> '{0,dimension}' AS reason FROM crm.renewal_probability(:used, '2014-08-20 00:00+08');
SELECT p < 0.2 AS leaves, status FROM crm.renewal_probability(:idle, '2014-08-20 00:00+08');
SELECT p, status FROM crm.renewal_probability(:used, '2014-01-20 00:00+08');
-- the night's job writes it beside the contract, with the values of the features, and neither version nor history move
SELECT row_version AS version, last_hash AS hash FROM crm_data.contract WHERE id = :used \gset
SELECT crm._store_scores('renewal', '2014-08-20 00:00+08') >= 2 AS stored, crm._store_scores('renewal', '2014-08-20 00:00+08') AS again;
SELECT renewal_probability > 0.5 AS stored, row_version - :version AS versions, last_hash IS NOT DISTINCT FROM :'hash'::bytea AS same_history FROM crm_data.contract WHERE id = :used;
SELECT abs(s.value - c.renewal_probability) < 0.0001 AS same, s.features ? 'dau_mau' AS features, m.name FROM crm_data.score AS s JOIN crm_data.model AS m ON m.id = s.model_id JOIN crm_data.contract AS c ON c.id = s.record_id WHERE s.object = 'contract' AND s.record_id = :used;
-- an open task of the renewal is an action
INSERT INTO crm_data.task (kind, object, record_id, title) VALUES ('renewal', 'contract', :used, 'Prepare the renewal');
SELECT actions #>> '{0,title}' AS action FROM crm.renewal_probability(:used, '2014-08-20 00:00+08');
SAVEPOINT s;
SELECT crm.renewal_probability(-1);
ROLLBACK TO s;
SELECT crm.renewal_refit(NULL);
ROLLBACK TO s;
UPDATE crm_data.config SET body = jsonb_set(body, '{dims}', '["tea_leaves"]') WHERE kind = 'odds' AND key = 'renewal';
SELECT crm.renewal_refit('2014-08-20 00:00+08');
ROLLBACK TO s;
SET LOCAL ROLE crm_sales;
SELECT crm.renewal_probability(:used, '2014-08-20 00:00+08');
ROLLBACK TO s;
ROLLBACK;
