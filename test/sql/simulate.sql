-- Rehearsals before a version is activated, and trials on a share of the records: rules, risk signals and everything that decides about records.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE sim_ann LOGIN IN ROLE crm_admin;
CREATE ROLE sim_bob LOGIN IN ROLE crm_admin;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('sim_ann', 'Sim Ann'), ('sim_bob', 'Sim Bob');
INSERT INTO crm_data.account (name, owner_id) SELECT 'Sim ' || n, m.id FROM generate_series(1, 60) AS n, crm_data.member AS m WHERE m.full_name = 'Sim Ann';
CREATE TEMP TABLE sim AS SELECT id, name, row_number() OVER (ORDER BY id) AS n FROM crm_data.account WHERE name LIKE 'Sim %';
GRANT SELECT ON sim TO PUBLIC;
-- what customers did lately: everybody opened the documents, every third for long
INSERT INTO crm_data.event (account_id, kind, occurred_at, detail) SELECT id, 'docs_sim', now() - interval '1 day', jsonb_build_object('minutes', CASE WHEN n % 3 = 0 THEN 20 ELSE 5 END) FROM sim;
-- a proposed version by one person, a step by another
CREATE FUNCTION pg_temp.version(kind text, key text, body jsonb) RETURNS int LANGUAGE plpgsql AS $$
DECLARE v int;
BEGIN
    SET LOCAL ROLE sim_ann;
    v := crm.config_put(kind, key, body);
    PERFORM crm.config_propose(kind, key, v);
    SET LOCAL ROLE sim_bob;
    RETURN v;
END $$;
CREATE FUNCTION pg_temp.activate(kind text, key text, body jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE v int := pg_temp.version(kind, key, body);
BEGIN
    PERFORM crm.config_approve(kind, key, v);
    RESET ROLE;
    RETURN 'version ' || v;
END $$;

SELECT crm.tag_put(t) FROM unnest('{sim,sim new,sim newer}'::text[]) AS t;
-- a rule: its events are replayed
SELECT pg_temp.activate('rule', 'sim', '{"on": "event.docs_sim", "when": "$.event ? (@.minutes > 15)", "once": "record", "then": [{"do": "tag", "tag": "sim"}], "en": "Sim"}');
SET ROLE sim_ann;
SELECT crm.config_put('rule', 'sim', '{"on": "event.docs_sim", "when": "$.event ? (@.minutes > 3)", "once": "record", "then": [{"do": "tag", "tag": "sim"}], "en": "Sim"}') AS version;
SELECT s - 'newly' - 'period' AS wider, jsonb_array_length(s -> 'newly') AS examples FROM crm.config_simulate('rule', 'sim', 2) AS s;
-- a field that is not there matches nothing: it cannot be proposed
SELECT crm.config_put('rule', 'sim', '{"on": "event.docs_sim", "when": "$.event ? (@.minuets > 15)", "once": "record", "then": [{"do": "tag", "tag": "sim"}], "en": "Sim"}') AS version;
SELECT s -> 'hits' AS hits, s -> 'hits_before' AS before, s -> 'blocked' AS blocked FROM crm.config_simulate('rule', 'sim', 3) AS s;
SELECT crm.config_propose('rule', 'sim', 3);
\echo :LAST_ERROR_SQLSTATE
-- a window: three in an hour nobody reaches
SELECT crm.config_put('rule', 'sim', '{"on": "event.docs_sim", "when": "$.event ? (@.minutes > 3)", "window": {"count": 3, "within": "1 hour"}, "then": [{"do": "tag", "tag": "sim"}], "en": "Sim"}') AS version;
SELECT s -> 'hits' AS hits, s -> 'fires_for' AS fires_for FROM crm.config_simulate('rule', 'sim', 4) AS s;
-- a rule on the features of customers
SELECT crm.config_put('rule', 'sim timer', '{"on": "timer.account", "when": "$.account ? (@.name starts with \"Sim\")", "then": [{"do": "tag", "tag": "sim"}], "en": "Sim"}') AS version;
SELECT (s ->> 'hits')::int >= 1 AS hits, s -> 'hits_before' AS before, s -> 'blocked' AS blocked FROM crm.config_simulate('rule', 'sim timer', 1) AS s;
-- one that is not valid is not rehearsed
SELECT crm.config_put('rule', 'sim bad', '{"on": "event.x", "when": "$.event ? (", "then": [{"do": "tag", "tag": "sim"}]}') AS version;
SELECT crm.config_simulate('rule', 'sim bad', 1);
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;

-- a trial on half of the customers: they are decided by the new version, the others by the one in force
CREATE TEMP TABLE v AS SELECT pg_temp.version('rule', 'sim', '{"on": "event.docs_sim", "when": "$.event ? (@.minutes >= 5)", "once": "record", "then": [{"do": "tag", "tag": "sim new"}], "en": "Sim"}') AS v;
SELECT pg_temp.version('flag', 'sim', '{"on": true}') AS flag;
SET ROLE sim_bob;
SELECT crm.config_canary('flag', 'sim', 1);
SELECT crm.config_canary('rule', 'sim', 5, 50) > now() AS until;
RESET ROLE;
SELECT count(crm._emit('event.docs_sim', 'account', sim.id, jsonb_build_object('id', sim.id, 'minutes', CASE WHEN n % 3 = 0 THEN 20 ELSE 5 END))) AS events FROM sim;
CALL crm.tick();
SELECT bool_and(CASE WHEN crm._canary_takes('sim', 'account:' || a.id, 50) THEN a.tags = '{sim new}' WHEN s.n % 3 = 0 THEN a.tags = '{sim}' ELSE a.tags = '{}' END) AS each_by_its_version,
       count(*) FILTER (WHERE a.tags = '{sim new}') BETWEEN 15 AND 45 AS about_half FROM crm_data.account AS a JOIN sim AS s ON s.id = a.id;
SELECT crm._job_config_canary(now()) AS too_early;
SELECT (counters ->> 'records')::int = (SELECT count(*) FROM sim WHERE crm._canary_takes('sim', 'account:' || id, 50)) AS counted, counters -> 'hits' = counters -> 'records' AS all_hit, counters -> 'anomalies' AS anomalies
  FROM crm.config_list('rule') WHERE key = 'sim' AND version = 5;
SELECT crm._job_config_canary(now() + interval '73 hours') AS promoted;
SELECT version, status FROM crm.config_list('rule') WHERE key = 'sim' AND status IN ('active', 'canary');
-- one that fails at its work: the version in force stands in, nothing is lost, and the trial is over
CREATE TEMP TABLE w AS SELECT pg_temp.version('rule', 'sim', '{"on": "event.docs_sim", "when": "$.event ? (@.minutes >= 5)", "once": "record", "then": [{"do": "interaction", "kind": "note", "en": "Sim"}], "en": "Sim"}') AS v;
SET ROLE sim_bob;
SELECT crm.config_canary('rule', 'sim', 6, 50) > now() AS until;
RESET ROLE;
UPDATE crm_data.account SET tags = '{}' WHERE id IN (SELECT id FROM sim);
SELECT count(crm._emit('event.docs_sim', 'account', sim.id, jsonb_build_object('id', 1000000000 + sim.id, 'minutes', 20, 'occurred_at', 'never'))) AS events FROM sim;
CALL crm.tick();
SELECT count(*) FILTER (WHERE a.tags = '{sim new}') AS served_all_the_same FROM crm_data.account AS a JOIN sim AS s ON s.id = a.id;
SELECT count(*) AS waiting FROM crm_data.rule_event WHERE kind = 'event.docs_sim';
SELECT crm._job_config_canary(now()) AS taken_back;
SELECT version, status, note ~ 'anomalies as a canary' AS says_why FROM crm.config_list('rule') WHERE key = 'sim' AND version >= 5 ORDER BY version;
SELECT count(*) FROM crm_data.alert WHERE kind = 'canary_failed' AND message LIKE 'Version 6 of rule/sim %';

-- a risk signal: the deals of the period
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, slip_count, close_date) SELECT sim.id, 'SIM' || n, 'Sim deal', p.id, s.id, 1000, n % 4, current_date + 30
  FROM sim, crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'needs' WHERE p.code = 'standard';
SELECT pg_temp.activate('risk_signal', 'sim', '{"on": "timer.opportunity", "weight": 1, "when": "$.opportunity ? (@.name == \"Sim deal\" && @.slip_count >= 3)", "then": [{"do": "task", "due": "48 hours", "en": "x"}], "en": "Sim"}');
SET ROLE sim_ann;
SELECT crm.config_put('risk_signal', 'sim', '{"on": "timer.opportunity", "weight": 1, "when": "$.opportunity ? (@.name == \"Sim deal\" && @.slip_count >= 2)", "then": [{"do": "task", "due": "48 hours", "en": "x"}], "en": "Sim"}') AS version;
SELECT (s ->> 'hits')::int > (s ->> 'hits_before')::int AS wider, (s ->> 'hits_before')::int > 0 AS before, s -> 'no_longer' AS no_longer, s -> 'blocked' AS blocked FROM crm.config_simulate('risk_signal', 'sim', 2) AS s;
SELECT crm.config_propose('risk_signal', 'sim', 2);
SET ROLE sim_bob;
SELECT crm.config_canary('risk_signal', 'sim', 2, 50) > now() AS until;
RESET ROLE;
SELECT bool_and(EXISTS (SELECT FROM crm._risk_signals(o.id, now()) AS r WHERE r.signal = 'sim') = (o.slip_count >= CASE WHEN crm._canary_takes('sim', 'opportunity:' || o.id, 50) THEN 2 ELSE 3 END)) AS each_by_its_version
  FROM crm_data.opportunity AS o WHERE o.name = 'Sim deal';
SELECT count(crm._score_risk(o.id, now())) AS scored FROM crm_data.opportunity AS o WHERE o.name = 'Sim deal';
SELECT crm._job_config_canary(now() + interval '73 hours') AS promoted;
SELECT version, status, (counters ->> 'changed')::int > 0 AS told_of_changes FROM crm.config_list('risk_signal') WHERE key = 'sim' AND status = 'active';

-- other kinds: a value in use cannot be taken away, a stage knows who is ready, health and deadlines are compared
SET ROLE sim_ann;
SELECT crm.config_put('lifecycle', 'account', '{"states": ["customer", "dormant", "churned"], "next": {}}') AS version;
SELECT s -> 'removed' AS removed, (s ->> 'newly_unmatched')::int >= 60 AS many, s -> 'blocked' AS blocked FROM crm.config_simulate('lifecycle', 'account', 2) AS s;
SELECT crm.config_put('picklist', 'deal_type', '{"values": [{"key": "renewal"}]}') AS version;
SELECT s -> 'blocked' AS blocked FROM crm.config_simulate('picklist', 'deal_type', 2) AS s;
SELECT crm.config_put('stage', 'standard/needs', '{"actions": [{"key": "sim", "mandatory": true, "due": "3 days", "evidence": "$.opportunity ? (@.name == \"Sim deal\")"}]}') AS version;
SELECT s -> 'added' AS added, jsonb_array_length(s -> 'removed') > 0 AS removed, (s ->> 'ready')::int >= 60 AS ready, (s #>> '{evidence,sim}')::int >= 60 AS evidence FROM crm.config_simulate('stage', 'standard/needs', 2) AS s;
SELECT crm.config_put('sla', 'case', '{"object": "task", "kind": "case", "due": "1 minute"}') AS version;
SELECT (s ->> 'late')::int >= (s ->> 'late_before')::int AS stricter FROM crm.config_simulate('sla', 'case', 2) AS s;
SELECT crm.config_put('health_model', 'information', '{"weights": {"contact_freshness": 0, "contract_scans": 1, "recent_summaries": 0}, "contact_freshness": {"full": "30 days", "zero": "180 days"}, "recent_summaries": 3}') AS version;
SELECT (s ->> 'mean')::numeric > (s ->> 'mean_before')::numeric AS kinder, (s ->> 'low')::int < (s ->> 'low_before')::int AS fewer FROM crm.config_simulate('health_model', 'information', 2) AS s;
SELECT crm.config_put('recycle', 'default', '{"rules": [{"when": "$ ? (@.days_since_contact >= 0)", "pool": "public"}]}') AS version;
SELECT (s ->> 'hits')::int >= (s ->> 'hits_before')::int AS more FROM crm.config_simulate('recycle', 'default', 2) AS s;
SELECT crm.config_simulate('setting', 'board.top_todos', 1) - 'period' AS nothing;
-- what a version touches
SELECT i #> '{records}' AS records, i -> 'views' AS views FROM crm.config_impact('rule', 'sim', 5) AS i;
SELECT (i #>> '{records,opportunity}')::int >= 60 AS records, i -> 'fields' AS fields, i -> 'views' AS views FROM crm.config_impact('picklist', 'deal_type', 2) AS i;
SELECT i -> 'used_by' AS used_by FROM crm.config_impact('setting', 'risk.legal_edits', 1) AS i;
SELECT i -> 'views' AS views, i -> 'metrics' AS metrics FROM crm.config_impact('stage', 'standard/needs', 2) AS i;
SELECT crm.config_impact('setting', 'no such', 1);
RESET ROLE;
-- leave as found
DELETE FROM crm_data.config_trial;
DELETE FROM crm_data.config WHERE key IN ('sim', 'sim timer', 'sim bad') OR (version > 1 AND status = 'draft' AND author = 'sim_ann');
DELETE FROM crm_data.alert WHERE kind = 'canary_failed';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE state = 'open' AND account_id IN (SELECT id FROM sim);
UPDATE crm_data.opportunity SET deleted_at = now() WHERE name = 'Sim deal';
UPDATE crm_data.account SET deleted_at = now() WHERE id IN (SELECT id FROM sim);
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Sim %';
DROP TABLE sim, v, w;
DROP ROLE sim_ann, sim_bob;
