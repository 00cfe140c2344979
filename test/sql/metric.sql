-- Metrics by versioned definitions, with figures that can be counted by hand. Everything is in 2004, so that nothing else of the tests is about.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
CREATE ROLE regress_metric_rep IN ROLE crm_sales;
CREATE ROLE regress_metric_director IN ROLE crm_director;
CREATE ROLE regress_metric_service IN ROLE crm_service;
INSERT INTO crm_data.team (code, name) VALUES ('METRIC1', 'Metric one'), ('METRIC2', 'Metric two');
INSERT INTO crm_data.member (full_name, role_name, team_id, hired_at) SELECT 'Metric Rep ' || right(code, 1), CASE code WHEN 'METRIC1' THEN 'regress_metric_rep' END, id, '2003-01-01' FROM crm_data.team WHERE code LIKE 'METRIC_';
INSERT INTO crm_data.member (full_name, role_name, hired_at) VALUES ('Metric Director', 'regress_metric_director', '2003-01-01'), ('Metric Service', 'regress_metric_service', '2003-01-01');
INSERT INTO crm_data.account (name, region, created_at, owner_id, team_id) SELECT 'Metric ' || v.name, v.region, '2004-01-01', m.id, m.team_id
  FROM (VALUES ('A', '1', 'north'), ('B', '1', 'south'), ('C', '2', NULL)) AS v (name, rep, region) JOIN crm_data.member AS m ON m.full_name = 'Metric Rep ' || v.rep;
INSERT INTO crm_data.fx_rate (currency, base_currency, rate_date, rate, source) VALUES ('EUR', 'CNY', '2004-01-01', 8, 'bank'), ('EUR', 'CNY', '2004-02-10', 10, 'other bank');
-- Q1: A 1060 with 6 % tax, B 100 EUR at 8 and 100 EUR at 10, C 500; one of a currency without a rate; a draft does not count. Q2: 700
INSERT INTO crm_data.contract (code, account_id, state, amount, tax_rate, currency, signed_on, owner_id, team_id, created_at)
SELECT v.code, a.id, v.state, v.amount, v.tax, v.currency, v.signed::date, a.owner_id, a.team_id, '2004-01-01'
  FROM (VALUES ('MC1', 'A', 'active', 1060, 0.06, 'CNY', '2004-01-05'), ('MC2', 'B', 'signed', 100, 0, 'EUR', '2004-02-09'), ('MC3', 'B', 'signed', 100, 0, 'EUR', '2004-03-01'), ('MC4', 'C', 'finished', 500, 0, 'CNY', '2004-03-31'),
               ('MC5', 'C', 'signed', 10, 0, 'XAU', '2004-03-01'), ('MC6', 'A', 'draft', 9999, 0, 'CNY', '2004-03-01'), ('MC7', 'A', 'active', 700, 0, 'CNY', '2004-04-01')) AS v (code, account, state, amount, tax, currency, signed)
  JOIN crm_data.account AS a ON a.name = 'Metric ' || v.account;
-- instalments of the first: half in Q1, half in Q2, the first is paid; 40 were given back in Q2
INSERT INTO crm_data.payment_plan (contract_id, account_id, seq, due_on, amount, paid_on, owner_id, team_id) SELECT k.id, k.account_id, v.seq, v.due::date, 530, v.paid::date, k.owner_id, k.team_id FROM crm_data.contract AS k, (VALUES (1, '2004-02-01', '2004-02-02'), (2, '2004-05-01', NULL)) AS v (seq, due, paid) WHERE k.code = 'MC1';
INSERT INTO crm_data.receivable_entry (kind, account_id, contract_id, amount, occurred_on, owner_id, team_id) SELECT v.kind, k.account_id, k.id, v.amount, v.day::date, k.owner_id, k.team_id
  FROM crm_data.contract AS k, (VALUES ('invoice', 1060, '2004-01-06'), ('payment', 530, '2004-02-02'), ('refund', 40, '2004-04-10')) AS v (kind, amount, day) WHERE k.code = 'MC1';
\set q1 '''[2004-01-01,2004-04-01)'''
\set q2 '''[2004-04-01,2004-07-01)'''
SELECT part, dim, value, unit, currency, records, hidden, unpriced, basis, definition_version AS v, effective_from, data_as_of = now() AS as_of_now, rates FROM crm.metric('bookings', :q1);
SELECT dim, value, records FROM crm.metric('bookings', :q1, '{team,month}') ORDER BY dim::text COLLATE "C";
SELECT dim, value FROM crm.metric('bookings', :q1, '{region}') ORDER BY dim::text COLLATE "C";
-- the same money: without tax, by instalments, as it came in
SELECT m, x.value, x.basis FROM unnest('{net_bookings,instalments,contract_receipts,receipts,billings,customers,instalments_paid}'::text[]) AS m, crm.metric(m, :q1) AS x;
SELECT value FROM crm.metric('contract_receipts', :q2);
-- another date of the same fact
SELECT value, basis FROM crm.metric('instalments', :q1, date_basis => 'paid_on');
-- an order of the same product twice on a day is one
INSERT INTO crm_data.product (code, name, line) VALUES ('METRIC-P', 'P', 'metric line'), ('METRIC-Q', 'Q', 'metric line');
SELECT crm.pipeline_put('metric', 'Metric', '[{"code": "a", "name": "Alpha", "probability": 0.2}, {"code": "b", "name": "Beta", "probability": 0.5}, {"code": "won", "name": "Won", "outcome": "won"}, {"code": "lost", "name": "Lost", "outcome": "lost"}]') > 0 AS made;
BEGIN;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, furthest_stage_id, outcome, amount, closed_at, created_at, owner_id, team_id)
SELECT a.id, v.code, v.code, p.id, s.id, f.id, s.outcome, v.amount, v.closed::timestamptz, v.made::timestamptz, a.owner_id, a.team_id
  FROM (VALUES ('MO1', 'A', 'won', 'won', 100, '2004-01-02', '2004-02-01'), ('MO2', 'A', 'lost', 'b', 200, '2004-01-31 23:59', '2004-03-01'), ('MO3', 'B', 'a', 'a', 400, '2004-02-01', NULL), ('MO4', 'C', 'b', 'b', 800, '2003-12-31 23:59:59', NULL)) AS v (code, account, stage, furthest, amount, made, closed)
  JOIN crm_data.account AS a ON a.name = 'Metric ' || v.account JOIN crm_data.pipeline AS p ON p.code = 'metric' JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = v.stage JOIN crm_data.stage AS f ON f.pipeline_id = p.id AND f.code = v.furthest;
INSERT INTO crm_data.stage_history (opportunity_id, account_id, from_stage_id, to_stage_id, entered_at, left_at, recorded_at, owner_id, team_id)
SELECT o.id, o.account_id, NULL, s.id, v.entered::timestamptz, v.gone::timestamptz, v.entered::timestamptz, o.owner_id, o.team_id
  FROM (VALUES ('MO1', 'a', '2004-01-02', '2004-01-04'), ('MO1', 'b', '2004-01-04', '2004-02-01'), ('MO1', 'won', '2004-02-01', NULL), ('MO2', 'a', '2004-01-31', '2004-02-10'), ('MO2', 'b', '2004-02-10', '2004-03-01'), ('MO2', 'lost', '2004-03-01', NULL),
               ('MO3', 'a', '2004-02-01', NULL), ('MO4', 'a', '2003-12-31', '2004-01-10'), ('MO4', 'b', '2004-01-10', NULL)) AS v (code, stage, entered, gone)
  JOIN crm_data.opportunity AS o ON o.code = v.code JOIN crm_data.stage AS s ON s.pipeline_id = o.pipeline_id AND s.code = v.stage;
COMMIT;
INSERT INTO crm_data.line_item (opportunity_id, account_id, product_id, unit_price, sold_on, owner_id, team_id) SELECT o.id, o.account_id, p.id, 1, v.day::date, o.owner_id, o.team_id
  FROM (VALUES ('P', '2004-01-02'), ('P', '2004-01-02'), ('Q', '2004-01-02'), ('P', '2004-01-03')) AS v (product, day) JOIN crm_data.product AS p ON p.code = 'METRIC-' || v.product JOIN crm_data.opportunity AS o ON o.code = 'MO1';
SELECT dim, value, records FROM crm.metric('orders', :q1, '{product_line}');
SELECT dim, value, unit FROM crm.metric('stage_dwell', '[2004-01-01,2004-02-02)', '{stage}');
SELECT value, records FROM crm.metric('win_rate', :q1);
SELECT value IS NULL AS of_nothing, records FROM crm.metric('win_rate', :q2);
-- one funnel on three dates; what entered the stages is what the history says
SELECT stage, deals, amount, currency, of_first_rate, of_before_rate FROM crm.funnel('[2004-01-01,2004-03-01)', 'created', 'metric');
SELECT stage, deals, amount FROM crm.funnel('[2004-01-01,2004-03-01)', 'stage_changed', 'metric');
SELECT sum(f.deals) = (SELECT count(*) FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id AND p.code = 'metric' WHERE h.entered_at >= '2004-01-01' AND h.entered_at < '2004-03-01' AND s.outcome <> 'lost') AS as_the_history
  FROM crm.funnel('[2004-01-01,2004-03-01)', 'stage_changed', 'metric') AS f;
UPDATE crm_data.contract SET opportunity_id = (SELECT id FROM crm_data.opportunity WHERE code = 'MO1') WHERE code = 'MC1';
SELECT stage, deals, amount FROM crm.funnel(:q1, 'paid', 'metric');
SELECT crm.funnel(:q1, 'signed');
SELECT crm.funnel(:q1, 'paid', 'nowhere');
SELECT crm.funnel('[2004-01-01,)');
-- with the caller's rights: a representative his own customers, a director all, one who may not read amounts is told so
SET ROLE regress_metric_rep;
SELECT value, records, hidden FROM crm.metric('bookings', :q1);
SELECT stage, deals FROM crm.funnel('[2004-01-01,2004-03-01)', 'created', 'metric');
SELECT crm.metric('write_conflicts', :q1);
RESET ROLE;
SET ROLE regress_metric_director;
SELECT value, records, hidden FROM crm.metric('bookings', :q1);
SELECT value FROM crm.metric('write_conflicts', :q1);
RESET ROLE;
SET ROLE regress_metric_service;
SELECT value, records, hidden FROM crm.metric('bookings', :q1);
SELECT value, records, hidden FROM crm.metric('completeness', :q1);
RESET ROLE;
SELECT count(*) AS visible_to_nobody FROM crm_data.contract AS k WHERE k.code LIKE 'MC_' AND k.owner_id IS NULL;
-- as it was known: a contract corrected, a refund posted late; what was deleted since is hidden from everybody
SELECT clock_timestamp() AS before \gset
SELECT pg_sleep(0.01);
UPDATE crm_data.contract SET amount = 2060 WHERE code = 'MC1';
UPDATE crm_data.contract SET deleted_at = now() WHERE code = 'MC4';
INSERT INTO crm_data.receivable_entry (kind, account_id, contract_id, amount, occurred_on, owner_id, team_id) SELECT 'refund', k.account_id, k.id, 30, '2004-03-30', k.owner_id, k.team_id FROM crm_data.contract AS k WHERE k.code = 'MC1';
SELECT m, n.value AS now, b.value AS before FROM unnest('{bookings,receipts,contract_receipts}'::text[]) AS m, crm.metric(m, :q1) AS n, crm.metric(m, :q1, as_of => :'before') AS b;
UPDATE crm_data.contract SET deleted_at = NULL WHERE code = 'MC4';
UPDATE crm_data.contract SET amount = 1060 WHERE code = 'MC1';
-- from the second quarter on bookings are what is received; the first quarter stays what it was, and nothing mixes the two
INSERT INTO crm_data.config (kind, key, version, body, author, approver) SELECT 'metric', 'bookings', 2, c.body || '{"valid_from": "2004-04-01", "recognition": "cash", "amount_basis": "received", "date_basis": "occurred_on"}', 'a', 'b' FROM crm_data.config AS c WHERE c.kind = 'metric' AND c.key = 'bookings' AND c.version = 1;
SELECT * FROM crm.config_validate('metric', (SELECT body FROM crm_data.config WHERE kind = 'metric' AND key = 'bookings' AND version = 2));
SELECT crm._config_activate(id) FROM crm_data.config WHERE kind = 'metric' AND key = 'bookings' AND version = 2;
SELECT value, definition_version AS v, effective_from FROM crm.metric('bookings', :q1);
SELECT value, definition_version AS v, effective_from FROM crm.metric('bookings', :q2);
SELECT part, value, basis, definition_version AS v FROM crm.metric('bookings', '[2004-01-01,2004-07-01)');
SELECT value, definition_version AS v FROM crm.metric('bookings', :q2, as_of => :'before');
SELECT name, version, effective_from, until, status, recognition FROM crm.metric_list() WHERE name = 'bookings';
SELECT crm.config_diff('metric', 'bookings', 1, 2) - 'valid_from' AS changed;
SELECT crm.config_rollback('metric', 'bookings', 1) AS version;
SELECT part, value, definition_version AS v FROM crm.metric('bookings', '[2004-01-01,2004-07-01)');
-- bad input
SELECT crm.metric('nothing', :q1);
SELECT crm.metric('bookings', NULL);
SELECT crm.metric('bookings', '[2004-01-01,)');
SELECT crm.metric('bookings', '[1999-12-31,2000-02-01)');
SELECT crm.metric('bookings', :q1, '{moon}');
SELECT crm.metric('bookings', :q1, '{team,team}');
SELECT crm.metric('bookings', :q1, '{"team; DROP TABLE x"}');
SELECT crm.metric('bookings', :q1, date_basis => 'amount');
SELECT crm.metric('bookings', :q1, as_of => now() + interval '1 day');
SELECT crm.metric('pipeline', :q1, '{month}');
-- definitions that are none; every problem at once, and none that raises
SELECT v.path, v.message FROM crm.config_validate('metric', '{"en": "x", "zh": "x", "fact": "contract", "measure": "amount", "amount_basis": "half", "recognition": "never", "date_basis": "amount", "colour": 1, "dims": ["moon"], "valid_from": "soon", "signs": {"a": 2}, "weight": "code", "distinct_key": ["code"],
    "filters": [{"field": "moon", "in": ["x"]}, {"field": "state", "in": []}, {"field": "amount", "in": ["many"]}, {"field": "state", "like": "x"}, {"field": "signed_on", "is": "empty"}, {"field": "amount", "min": "a"}, {"field": "state", "in": [{"a": 1}]}]}') AS v;
SELECT t.body, v.message FROM (VALUES ('{"en": "x", "zh": "x", "fact": 7, "measure": []}'), ('{"en": "x", "zh": "x", "fact": "pg_class", "measure": "count"}'), ('{"en": "x", "zh": "x", "fact": "member", "measure": "count"}'), ('{"en": "x", "zh": "x", "fact": "account", "measure": "amount", "filters": {}}'),
    ('{"en": "x", "zh": "x", "fact": "opportunity", "measure": "amount", "amount_basis": "net"}'), ('{"en": "x", "zh": "x", "fact": "contract", "measure": "amount", "amount_basis": "received"}'), ('{"en": "x", "zh": "x", "fact": "opportunity", "measure": "share"}'),
    ('{"en": "x", "zh": "x", "fact": "stage_history", "measure": "mean_days", "from": "id"}'), ('{"en": "x", "zh": "x", "fact": "account", "measure": "filled_share", "fields": "phone"}'), ('{"en": "x", "zh": "x", "fact": "interaction", "measure": "mean", "field": "summary"}'), ('{"en": "x", "zh": "x", "fact": "account", "measure": "count", "filters": [1]}')) AS t (body), crm.config_validate('metric', t.body::jsonb) AS v;
SELECT v.path, v.message FROM crm.config_validate('report', '{"metrics": ["bookings", "moon", 7]}') AS v;
SELECT count(*) FILTER (WHERE v.path IS NOT NULL) AS wrong, count(DISTINCT c.key) > 20 AS many FROM crm_data.config AS c LEFT JOIN LATERAL crm.config_validate('metric', c.body) AS v ON true WHERE c.kind = 'metric';
-- a field that was taken out of use
BEGIN;
UPDATE crm_data.field SET retired_at = now() WHERE object = 'contract' AND name = 'tax_rate';
UPDATE crm_data.field SET retired_at = now() WHERE object = 'contract' AND name = 'state';
SELECT v.message FROM crm.config_validate('metric', (SELECT body FROM crm_data.config WHERE kind = 'metric' AND key = 'bookings' AND version = 1)) AS v;
ROLLBACK;
-- a value that is SQL stays a value
SELECT value FROM crm._metric_figures('{"fact": "contract", "measure": "count", "filters": [{"field": "code", "in": ["x'') OR (''1''=''1"]}]}', '[2004-01-01,2005-01-01)', '{}');
-- every shipped metric computes, over the views and over the tables, and by each of its dimensions
SELECT c.key, d.dim FROM crm_data.config AS c CROSS JOIN LATERAL (SELECT x AS dim FROM jsonb_array_elements_text(c.body -> 'dims') AS x UNION ALL SELECT 'month' WHERE c.body ? 'date_basis') AS d
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM crm.metric(c.key, '[2004-01-01,2004-02-01)', ARRAY[d.dim])) AS v CROSS JOIN LATERAL (SELECT count(*) AS n FROM crm._metric_figures(c.body, '[2004-01-01,2004-02-01)', ARRAY[d.dim])) AS t
 WHERE c.kind = 'metric' AND c.status = 'active' AND v.n <> t.n;
-- how long payloads take from their source, all but one of twenty; and drafts to their effect
INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, state, created_at, source_ts, processed_at)
SELECT (SELECT id FROM crm_data.source_system WHERE name = 'web'), 'metric p95 ' || n, 'x', '{}', sha256('x'), 'applied', '2003-05-06 12:00', '2003-05-06 12:00', timestamptz '2003-05-06 12:00' + make_interval(hours => CASE n WHEN 21 THEN 500 ELSE n END) FROM generate_series(1, 21) AS n;
SELECT value, unit, records FROM crm.metric('payload_delay', '[2003-05-01,2003-06-01)');
DELETE FROM crm_data.inbox WHERE external_id LIKE 'metric p95 %';
BEGIN;
INSERT INTO crm_data.config (kind, key, version, body, author, created_at) VALUES ('flag', 'metric', 1, '{"on": true}', 'a', now() - interval '3 hours') RETURNING id AS flag \gset
UPDATE crm_data.config SET approver = 'b' WHERE id = :flag;
SELECT crm._config_activate(:flag);
SELECT value, unit FROM crm.metric('config_hours', daterange(((now() AT TIME ZONE 'Asia/Shanghai')::date), ((now() AT TIME ZONE 'Asia/Shanghai')::date + 1)), '{kind}') WHERE dim ->> 'kind' = 'flag';
ROLLBACK;
-- looked up again: two of five were the same person, record and field; days until the manager steps in
BEGIN;
INSERT INTO crm_data.access_log (at, actor, action, object, record_id, field_id) SELECT '2004-02-10', v.who, v.what, 'account', v.rec, f.id FROM (VALUES ('a', 'reveal', 1), ('a', 'reveal', 1), ('a', 'reveal', 1), ('b', 'reveal', 1), ('a', 'reveal', 2), ('a', 'export', 1)) AS v (who, what, rec), crm_data.field AS f
 WHERE f.object = 'account' AND f.name = 'phone';
INSERT INTO crm_data.task (kind, object, record_id, title, started_at, escalated_at) VALUES ('stage_action', 'opportunity', 0, 'x', '2004-02-10', '2004-02-13 12:00'), ('stage_action', 'opportunity', 0, 'x', '2004-02-10', '2004-02-12'), ('follow_up', 'account', 0, 'x', '2004-02-10', '2004-02-29');
SELECT m.key, x.value, x.unit, x.records FROM (VALUES ('lookup_repeats'), ('lookups'), ('manager_intervention_days')) AS m (key), crm.metric(m.key, '[2004-02-01,2004-03-01)') AS x ORDER BY 1;
SELECT x.dim ->> 'actor' AS actor, x.value FROM crm.metric('lookup_repeats', '[2004-02-01,2004-03-01)', '{actor}') AS x ORDER BY 1;
SELECT value IS NULL AS of_nothing FROM crm.metric('lookup_repeats', '[2004-03-01,2004-04-01)');
ROLLBACK;
SELECT v.message FROM crm.config_validate('metric', '{"en": "x", "zh": "x", "fact": "access_log", "measure": "repeat_share"}') AS v;
-- leave as found
DELETE FROM crm_data.config WHERE kind = 'metric' AND key = 'bookings' AND version > 1;
UPDATE crm_data.config SET status = 'active', valid = '(,)' WHERE kind = 'metric' AND key = 'bookings';
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code LIKE 'MO_';
UPDATE crm_data.contract SET deleted_at = now() WHERE code LIKE 'MC_';
UPDATE crm_data.account SET deleted_at = now() WHERE name LIKE 'Metric _';
UPDATE crm_data.member SET role_name = NULL WHERE full_name LIKE 'Metric %';
DROP ROLE regress_metric_rep, regress_metric_director, regress_metric_service;
