-- Bad input to configuration, inbox, leads and jobs: a clear error with its code and a hint, nothing half activated, nothing lost.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE bad_ann LOGIN IN ROLE crm_admin;
CREATE ROLE bad_sam LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('bad_ann', 'Bad Ann'), ('bad_sam', 'Bad Sam');
CREATE FUNCTION pg_temp.try(statement text) RETURNS TABLE (code text, hint boolean, message text) LANGUAGE plpgsql AS $$
DECLARE h text;
BEGIN
    EXECUTE statement;
    RETURN QUERY SELECT '00000', NULL::boolean, 'it succeeded';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT;
    RETURN QUERY SELECT SQLSTATE::text, h <> '', regexp_replace(SQLERRM, 'version [0-9]+', 'version N');
END $$;
CREATE FUNCTION pg_temp.proposed(kind text, key text, body jsonb) RETURNS TABLE (code text, hint boolean, message text) LANGUAGE sql AS
    $$ SELECT t.* FROM crm.config_put(kind, key, body) AS v (v) CROSS JOIN LATERAL pg_temp.try(format('SELECT crm.config_propose(%L, %L, %s)', kind, key, v.v)) AS t $$;
CREATE TEMP TABLE before AS SELECT md5(string_agg(c.id || c.status, ',' ORDER BY c.id)) AS config, (SELECT count(*) FROM crm_data.inbox) AS inbox, (SELECT md5(string_agg(j::text, ',' ORDER BY j.id)) FROM crm_data.job AS j) AS jobs FROM crm_data.config AS c;
GRANT SELECT ON before TO PUBLIC;
SET ROLE bad_ann;
-- drafts that are no configuration; what is wrong inside one shows when it is proposed
SELECT t.* FROM unnest(ARRAY[
    $$SELECT crm.config_put('rule', 'bad', '[]')$$, $$SELECT crm.config_put('rule', 'bad', '"x"')$$, $$SELECT crm.config_put('horoscope', 'bad', '{}')$$, $$SELECT crm.config_put('rule', '', '{}')$$,
    $$SELECT crm.config_import('[]')$$, $$SELECT crm.config_import('{"format": "crm-config-9", "items": []}')$$, $$SELECT crm.config_import('{"format": "crm-config-1", "items": 3, "digest": "x"}')$$, $$SELECT crm.config_import('{"format": "crm-config-1"}')$$,
    $$SELECT crm.config_export('{no/such}')$$, $$SELECT crm.config_approve('rule', 'no such', 1)$$, $$SELECT crm.config_rollback_to('infinity', '{rule}')$$]) WITH ORDINALITY AS s (statement, n) CROSS JOIN LATERAL pg_temp.try(s.statement) AS t ORDER BY s.n;
SELECT v.what, p.code, p.hint FROM (VALUES
    (1, 'invalid jsonpath', 'rule', 'bad', '{"on": "interaction.insert", "when": "$.event ? (", "then": [{"do": "tag", "tag": "x"}]}'),
    (2, 'a variable without a value', 'rule', 'bad', '{"on": "interaction.insert", "when": "$.event ? (@.x > $n)", "then": [{"do": "tag", "tag": "x"}]}'),
    (3, 'unknown action', 'rule', 'bad', '{"on": "interaction.insert", "when": "$", "then": [{"do": "dance"}]}'),
    (4, 'an action without what it needs', 'rule', 'bad', '{"on": "interaction.insert", "when": "$", "then": [{"do": "tag"}]}'),
    (5, 'no action', 'rule', 'bad', '{"on": "interaction.insert", "when": "$", "then": []}'),
    (6, 'a condition that is a number', 'rule', 'bad', '{"on": "interaction.insert", "when": 3, "then": [{"do": "tag", "tag": "x"}]}'),
    (7, 'a rule set without the last route', 'assignment', 'bad', '{"routes": [{"name": "a", "when": "$ ? (@.region != null)", "to": {"match": []}}]}'),
    (8, 'no routes', 'assignment', 'bad', '{}'),
    (9, 'a box with one corner', 'assignment', 'bad', '{"routes": [{"name": "a", "to": {"match": []}}], "boxes": {"east": [[1, 2]]}}'),
    (10, 'a signal of no weight', 'risk_signal', 'bad', '{"on": "timer.opportunity", "when": "$", "weight": 0, "then": [{"do": "task"}]}'),
    (11, 'a setting of another kind', 'setting', 'lead.first_touch', '{"value": "soon"}'),
    (12, 'half an hour where whole minutes are read', 'setting', 'lead.first_touch', '{"value": 0.5}'),
    (13, 'a health model without its weights', 'health_model', 'information', '{"recent_summaries": 3}'),
    (14, 'no time', 'stage', 'standard/demo', '{"actions": [{"key": "a", "due": "soon"}]}')) AS v (n, what, kind, key, body)
 CROSS JOIN LATERAL pg_temp.proposed(v.kind, v.key, v.body::jsonb) AS p ORDER BY v.n;
-- payloads, leads, follow-ups
SELECT t.* FROM unnest(ARRAY[
    $$SELECT crm.ingest('web', 'bad', 'form', '[]')$$, $$SELECT crm.ingest('web', 'bad', 'form', '3')$$, $$SELECT crm.ingest('web', 'bad', 'form', NULL)$$, $$SELECT crm.ingest('web', '', 'form', '{}')$$, $$SELECT crm.ingest('nowhere', 'bad', 'form', '{}')$$,
    $$SELECT crm.reprocess('nowhere', now())$$, $$SELECT crm.retry_inbox('nowhere')$$, $$SELECT crm.capture_lead('[]')$$, $$SELECT crm.capture_lead('{"name": "x"}')$$,
    $$SELECT crm.log_interaction('[]')$$, $$SELECT crm.log_interaction('{"account_id": 1, "depth": "very"}')$$, $$SELECT crm.features('planet', 1)$$]) WITH ORDINALITY AS s (statement, n) CROSS JOIN LATERAL pg_temp.try(s.statement) AS t ORDER BY s.n;
-- jobs and the clock
SELECT t.* FROM unnest(ARRAY[
    $$SELECT crm.job_put('bottleneck_brief', 'week', '10 hours', 'latest', 'Asia/Atlantis')$$, $$SELECT crm.job_put('bottleneck_brief', 'fortnight', '10 hours')$$, $$SELECT crm.job_put('no such', 'day', '0')$$]) WITH ORDINALITY AS s (statement, n) CROSS JOIN LATERAL pg_temp.try(s.statement) AS t ORDER BY s.n;
SET ROLE bad_sam;
SELECT t.code FROM unnest(ARRAY[$$SELECT crm.config_put('rule', 'bad', '{}')$$, $$SELECT crm.schedule()$$, $$CALL crm.tick()$$, $$SELECT crm.ingest('web', 'bad', 'form', '{}')$$, $$SELECT crm.reprocess('web', now())$$]) WITH ORDINALITY AS s (statement, n) CROSS JOIN LATERAL pg_temp.try(s.statement) AS t ORDER BY s.n;
RESET ROLE;
SELECT b.config = (SELECT md5(string_agg(c.id || c.status, ',' ORDER BY c.id)) FROM crm_data.config AS c WHERE c.status <> 'draft' OR c.author <> 'bad_ann') AS nothing_in_force_or_proposed,
       b.inbox = (SELECT count(*) FROM crm_data.inbox) AS inbox_as_before, b.jobs = (SELECT md5(string_agg(j::text, ',' ORDER BY j.id)) FROM crm_data.job AS j) AS jobs_as_before FROM before AS b;
-- what is odd but no error is kept: a time that lies ahead or is none counts as now
SELECT crm.ingest('web', 'bad time', 'form', '{"phone": "13911119999", "client_key": "bad time"}', 'infinity') ->> 'state' AS state;
SELECT i.ts_assumed, isfinite(i.source_ts) AS finite, isfinite(l.occurred_at) AS lead_too FROM crm_data.inbox AS i JOIN crm_data.lead AS l ON l.id = i.record_id WHERE i.external_id = 'bad time';
-- leave as found
DELETE FROM crm_data.config WHERE author = 'bad_ann';
UPDATE crm_data.lead SET deleted_at = now() WHERE client_key = 'bad time';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE kind = 'first_touch' AND state = 'open';
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Bad %';
DROP TABLE before;
DROP ROLE bad_ann, bad_sam;
