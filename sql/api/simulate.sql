-- Rehearsals: what a version of the configuration would have decided about the records of a period, beside the one in force; and what it touches.

CREATE OR REPLACE FUNCTION crm._replay(on_event text, since timestamptz, lim int) RETURNS TABLE (object text, id bigint, event jsonb, at timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- what a rule would have looked at since an instant, the latest first; timers look at everything now
    SELECT x.object, x.id, x.event, x.at FROM (
        SELECT 'account' AS object, i.account_id AS id, jsonb_strip_nulls(jsonb_build_object('id', i.id, 'kind', i.kind, 'channel', i.channel, 'direction', i.direction, 'satisfaction', i.satisfaction, 'progress', i.progress,
                                                                                             'keyword_hits', crm._keyword_hits(concat_ws(' ', i.summary, i.body)))) AS event, i.occurred_at AS at
          FROM crm_data.interaction AS i WHERE on_event = 'interaction.insert' AND i.account_id IS NOT NULL AND i.occurred_at >= since AND i.retracted_at IS NULL AND NOT i.auto
        UNION ALL
        SELECT 'account', e.account_id, e.detail || jsonb_build_object('id', e.id, 'kind', e.kind), e.occurred_at FROM crm_data.event AS e
         WHERE on_event ~ '^(inbox|event)\.' AND e.kind = split_part(on_event, '.', 2) AND e.occurred_at >= since AND e.account_id IS NOT NULL
        UNION ALL
        SELECT 'account', a.id, '{}', now() FROM crm_data.account AS a WHERE on_event IN ('timer.account', 'score.info_health') AND a.deleted_at IS NULL AND a.merged_into IS NULL AND a.owner_id IS NOT NULL
        UNION ALL
        SELECT 'contract', c.id, '{}', now() FROM crm_data.contract AS c WHERE on_event = 'timer.contract' AND c.deleted_at IS NULL AND c.state IN ('signed', 'active')
        UNION ALL
        SELECT 'contract', c.id, jsonb_build_object('id', c.id), c.signed_on::timestamptz FROM crm_data.contract AS c WHERE on_event = 'contract.signed' AND c.deleted_at IS NULL AND c.signed_on >= since::date
        UNION ALL
        SELECT 'opportunity', o.id, '{}', now() FROM crm_data.opportunity AS o WHERE on_event IN ('timer.opportunity', 'score.risk') AND o.deleted_at IS NULL AND o.outcome = 'open'
        UNION ALL
        SELECT t.object, t.record_id, jsonb_build_object('id', t.id, 'kind', t.kind, 'action_key', t.action_key), t.due_at FROM crm_data.task AS t
         WHERE on_event = 'task.overdue' AND t.due_at >= since AND t.due_at < least(coalesce(t.done_at, now()), now()) AND t.object IN ('account', 'opportunity', 'lead', 'contract')
        UNION ALL
        SELECT 'account', i.account_id, jsonb_build_object('id', i.id, 'kind', i.kind, 'summary', i.summary, 'age_minutes', round(extract(epoch FROM now() - i.occurred_at) / 60)), i.occurred_at
          FROM crm_data.interaction AS i WHERE on_event = 'timer.interaction' AND i.account_id IS NOT NULL AND i.kind = 'meeting' AND i.occurred_at >= since AND i.retracted_at IS NULL) AS x
     WHERE x.at <= now()
     ORDER BY x.at DESC, x.object, hashint8extended(x.id, 0), x.id, x.event ->> 'id' LIMIT lim
$$;
COMMENT ON FUNCTION crm._replay(text, timestamptz, int) IS 'Internal: events of a kind that happened since an instant, as rules saw them; empty for kinds that leave no trace.';

CREATE OR REPLACE FUNCTION crm._simulate_rule(new jsonb, old jsonb, period interval) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_full boolean := crm._needs_features(new ->> 'when') OR coalesce(crm._needs_features(old ->> 'when'), false);
    -- a feature document costs a millisecond or two
    v_lim int := CASE WHEN v_full THEN 300 ELSE 5000 END;
    v_new jsonb := crm._rule_vars(new);
    v_old jsonb := crm._rule_vars(old);
    v_count int := coalesce((crm._rule_value(new #> '{window,count}') #>> '{}')::int, 1);
    v_count_old int := coalesce((crm._rule_value(old #> '{window,count}') #>> '{}')::int, 1);
    v_within interval := coalesce((new #>> '{window,within}')::interval, '0');
    v_within_old interval := coalesce((old #>> '{window,within}')::interval, '0');
    v_result jsonb;
BEGIN
    WITH e AS MATERIALIZED (
        SELECT r.object, r.id, r.at, jsonb_build_object('event', r.event) || CASE WHEN v_full THEN coalesce(crm._features(r.object, r.id, r.at, concat_ws(' ', new ->> 'when', old ->> 'when')), '{}') ELSE '{}' END AS doc
          FROM crm._replay(new ->> 'on', now() - period, v_lim) AS r
    ), h AS (
        SELECT e.object, e.id, e.at, jsonb_path_exists(e.doc, (new ->> 'when')::jsonpath, v_new, true) AS n, coalesce(jsonb_path_exists(e.doc, (old ->> 'when')::jsonpath, v_old, true) AND old ->> 'on' = new ->> 'on', false) AS o FROM e
    ), w AS (
        SELECT h.*, count(*) FILTER (WHERE h.n) OVER (PARTITION BY h.object, h.id ORDER BY h.at RANGE BETWEEN v_within PRECEDING AND CURRENT ROW) AS n_window,
               count(*) FILTER (WHERE h.o) OVER (PARTITION BY h.object, h.id ORDER BY h.at RANGE BETWEEN v_within_old PRECEDING AND CURRENT ROW) AS o_window FROM h
    )
    SELECT jsonb_build_object('events', count(*), 'records', count(DISTINCT (w.object, w.id)), 'hits', count(*) FILTER (WHERE w.n), 'hits_before', CASE WHEN old IS NOT NULL THEN count(*) FILTER (WHERE w.o) END,
               'fires_for', count(DISTINCT (w.object, w.id)) FILTER (WHERE w.n AND w.n_window >= v_count),
               'fires_for_before', CASE WHEN old IS NOT NULL THEN count(DISTINCT (w.object, w.id)) FILTER (WHERE w.o AND w.o_window >= v_count_old) END,
               'changed', count(*) FILTER (WHERE w.n <> w.o), 'limited', count(*) >= v_lim,
               'newly', coalesce(to_jsonb((array_agg(DISTINCT w.id) FILTER (WHERE w.n AND NOT w.o))[1:20]), '[]'), 'no_longer', coalesce(to_jsonb((array_agg(DISTINCT w.id) FILTER (WHERE w.o AND NOT w.n))[1:20]), '[]'))
      INTO v_result FROM w;
    RETURN v_result;
END
$$;
COMMENT ON FUNCTION crm._simulate_rule(jsonb, jsonb, interval) IS 'Internal: replays the events of a period against two versions of a rule: matches, records it would fire for (windows counted), what is new and what is gone.';

CREATE OR REPLACE FUNCTION crm._simulate_signal(new jsonb, old jsonb, period interval) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_new jsonb := crm._rule_vars(new);
    v_old jsonb := crm._rule_vars(old);
    v_result jsonb;
BEGIN
    -- deals that were open in the period, at most 300 drawn by their number, each as it stood at its end (now, or the day it closed) and a week before
    WITH d AS (
        SELECT o.id, coalesce(o.closed_at - interval '1 second', now()) AS at, count(*) OVER () AS total FROM crm_data.opportunity AS o
         WHERE o.deleted_at IS NULL AND o.created_at <= now() AND coalesce(o.closed_at, now()) >= now() - period ORDER BY hashint8extended(o.id, 0), o.id LIMIT 300
    ), e AS MATERIALIZED (
        SELECT d.id, d.total, crm._features('opportunity', d.id, t.at) AS doc FROM d CROSS JOIN LATERAL (VALUES (d.at), (d.at - interval '7 days')) AS t (at)
    ), h AS (
        SELECT e.id, e.total, bool_or(jsonb_path_exists(e.doc, (new ->> 'when')::jsonpath, v_new, true)) AS n, coalesce(bool_or(jsonb_path_exists(e.doc, (old ->> 'when')::jsonpath, v_old, true)), false) AS o FROM e GROUP BY e.id, e.total
    )
    SELECT jsonb_build_object('records', count(*), 'hits', count(*) FILTER (WHERE h.n), 'hits_before', CASE WHEN old IS NOT NULL THEN count(*) FILTER (WHERE h.o) END, 'changed', count(*) FILTER (WHERE h.n <> h.o),
               'limited', coalesce(max(h.total), 0) > count(*), 'newly', coalesce(to_jsonb((array_agg(h.id ORDER BY h.id) FILTER (WHERE h.n AND NOT h.o))[1:20]), '[]'),
               'no_longer', coalesce(to_jsonb((array_agg(h.id ORDER BY h.id) FILTER (WHERE h.o AND NOT h.n))[1:20]), '[]'))
      INTO v_result FROM h;
    RETURN v_result;
END
$$;
COMMENT ON FUNCTION crm._simulate_signal(jsonb, jsonb, interval) IS 'Internal: which deals of a period two versions of a risk signal speak of.';

CREATE OR REPLACE FUNCTION crm._picklist_use(key text) RETURNS TABLE (object text, field text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.object, v.field FROM (VALUES ('key_progress', 'interaction', 'progress'), ('account_type', 'account', 'type'), ('industry', 'account', 'industry'), ('industry', 'lead', 'industry'), ('region', 'account', 'region'),
        ('region', 'lead', 'region'), ('lead_source', 'lead', 'source'), ('deal_type', 'opportunity', 'deal_type'), ('lost_reason', 'opportunity', 'lost_reason'), ('product_line', 'opportunity', 'product_line')) AS v (list, object, field)
     WHERE v.list = key
$$;
COMMENT ON FUNCTION crm._picklist_use(text) IS 'Internal: the fields that take their values from a picklist.';

CREATE OR REPLACE FUNCTION crm._simulate_values(kind text, key text, new jsonb, old jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    u record;
    v_gone text[] := CASE kind WHEN 'picklist' THEN ARRAY(SELECT x ->> 'key' FROM jsonb_array_elements(coalesce(old -> 'values', '[]')) AS x EXCEPT SELECT x ->> 'key' FROM jsonb_array_elements(new -> 'values') AS x)
                               ELSE ARRAY(SELECT jsonb_array_elements_text(coalesce(old -> 'states', '[]')) EXCEPT SELECT jsonb_array_elements_text(coalesce(new -> 'states', '[]'))) END;
    v_n bigint;
    v_hit bigint;
    v_total bigint := 0;
    v_lost bigint := 0;
BEGIN
    FOR u IN SELECT p.object, p.field FROM crm._picklist_use(key) AS p WHERE kind = 'picklist' UNION ALL SELECT key, 'lifecycle' WHERE kind = 'lifecycle' AND key = 'account' LOOP
        EXECUTE format('SELECT count(*), count(*) FILTER (WHERE t.%1$I = ANY ($1)) FROM crm_data.%2$I AS t WHERE t.%1$I IS NOT NULL', u.field, u.object) INTO v_n, v_hit USING v_gone;
        v_total := v_total + v_n;
        v_lost := v_lost + v_hit;
    END LOOP;
    RETURN jsonb_build_object('records', v_total, 'removed', to_jsonb(v_gone), 'newly_unmatched', v_lost);
END
$$;
COMMENT ON FUNCTION crm._simulate_values(text, text, jsonb, jsonb) IS 'Internal: records that hold a value which a new version of a picklist or life cycle no longer has.';

CREATE OR REPLACE FUNCTION crm.config_simulate(kind text, key text, version int, period interval DEFAULT '30 days', scope text DEFAULT '*') RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_new jsonb;
    v_old jsonb;
    v_result jsonb;
    v_loss numeric;
    v_problem text;
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_manager', 'crm_steward');
    SELECT c.body INTO v_new FROM crm_data.config AS c WHERE c.kind = kind AND c.key = key AND c.version = version AND c.scope = scope;
    IF v_new IS NULL THEN
        RAISE EXCEPTION 'there is no version % of %/%', version, kind, key USING ERRCODE = 'undefined_object', HINT = 'SELECT kind, key, version, status FROM crm.config_list() shows the versions.';
    END IF;
    v_problem := crm._config_problem(kind, key, scope, v_new);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'version % of %/% is not valid', version, kind, key USING ERRCODE = 'RM502', DETAIL = v_problem, HINT = 'Save a corrected version with crm.config_put.';
    END IF;
    SELECT c.body INTO v_old FROM crm_data.config AS c WHERE c.kind = kind AND c.key = key AND c.scope = scope AND c.status = 'active';
    IF kind = 'assignment' THEN
        WITH r AS (
            SELECT l.id, crm._route(v_new, d.doc) AS n, crm._route(v_old, d.doc) AS o
              FROM crm_data.lead AS l CROSS JOIN LATERAL (SELECT crm._lead_document(l) AS doc) AS d
             WHERE l.recorded_at >= now() - period AND l.deleted_at IS NULL AND l.merged_into IS NULL
        ), c AS (
            SELECT count(*) AS total,
                   count(*) FILTER (WHERE r.n IS NOT NULL AND NOT (r.n ->> 'catch_all')::boolean) AS new_covered,
                   count(*) FILTER (WHERE r.o IS NOT NULL AND NOT (r.o ->> 'catch_all')::boolean) AS old_covered,
                   count(*) FILTER (WHERE r.n IS NULL AND (r.o IS NOT NULL OR v_old IS NULL)) AS newly_unmatched,
                   count(*) FILTER (WHERE r.n ->> 'route' IS DISTINCT FROM r.o ->> 'route') AS changed,
                   (array_agg(r.id ORDER BY r.id) FILTER (WHERE (r.n IS NULL OR (r.n ->> 'catch_all')::boolean) AND r.o IS NOT NULL AND NOT (r.o ->> 'catch_all')::boolean))[1:20] AS examples
              FROM r
        )
        SELECT jsonb_build_object('records', c.total, 'coverage', CASE WHEN c.total > 0 THEN round(100.0 * c.new_covered / c.total, 1) END,
                                  'coverage_before', CASE WHEN c.total > 0 AND v_old IS NOT NULL THEN round(100.0 * c.old_covered / c.total, 1) END,
                                  'changed', c.changed, 'newly_unmatched', c.newly_unmatched, 'examples', coalesce(to_jsonb(c.examples), '[]'))
          INTO v_result FROM c;
    -- of business objects only: counts of hits would tell of any table
    ELSIF kind = 'quality_rule' AND EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = v_new ->> 'object' AND NOT f.custom) THEN
        EXECUTE format('SELECT jsonb_build_object(''records'', count(*), ''hits'', count(*) FILTER (WHERE jsonb_path_exists(to_jsonb(t), $1::jsonpath, ''{}'', true)),
                               ''hits_before'', count(*) FILTER (WHERE jsonb_path_exists(to_jsonb(t), $2::jsonpath, ''{}'', true))) FROM crm_data.%I AS t', v_new ->> 'object')
           INTO v_result USING v_new ->> 'when', coalesce(v_old ->> 'when', '$ ? (1 == 0)');
    ELSIF kind = 'rule' THEN
        v_result := crm._simulate_rule(v_new, v_old, period);
    ELSIF kind = 'risk_signal' THEN
        v_result := crm._simulate_signal(v_new, v_old, period);
    ELSIF kind IN ('picklist', 'lifecycle') THEN
        v_result := crm._simulate_values(kind, key, v_new, v_old);
    ELSIF kind = 'form' THEN
        v_result := crm._simulate_form(v_new, v_old);
    ELSIF kind = 'stage' THEN
        -- deals in the stage: which of its actions they have open, and which evidence they hold already
        WITH a AS (SELECT x.value ->> 'key' AS key, x.value ->> 'evidence' AS evidence, coalesce((x.value ->> 'mandatory')::boolean, false) AS mandatory FROM jsonb_array_elements(v_new -> 'actions') AS x (value)),
             b AS (SELECT x.value ->> 'key' AS key FROM jsonb_array_elements(coalesce(v_old -> 'actions', '[]')) AS x (value)),
             o AS MATERIALIZED (SELECT d.id, crm._features('opportunity', d.id, now()) AS doc FROM crm_data.opportunity AS d JOIN crm_data.stage AS s ON s.id = d.stage_id JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id
                    WHERE p.code || '/' || s.code = key AND d.outcome = 'open' AND d.deleted_at IS NULL ORDER BY hashint8extended(d.id, 0), d.id LIMIT 300)
        SELECT jsonb_build_object('records', (SELECT count(*) FROM o), 'added', coalesce((SELECT jsonb_agg(a.key ORDER BY a.key) FROM a WHERE a.key NOT IN (SELECT b.key FROM b)), '[]'),
                   'removed', coalesce((SELECT jsonb_agg(b.key ORDER BY b.key) FROM b WHERE b.key NOT IN (SELECT a.key FROM a)), '[]'),
                   'ready', (SELECT count(*) FROM o WHERE NOT EXISTS (SELECT FROM a WHERE a.mandatory AND a.evidence IS NOT NULL AND NOT jsonb_path_exists(o.doc, a.evidence::jsonpath, '{}', true))),
                   'evidence', coalesce((SELECT jsonb_object_agg(a.key, (SELECT count(*) FROM o WHERE jsonb_path_exists(o.doc, a.evidence::jsonpath, '{}', true))) FROM a WHERE a.evidence IS NOT NULL), '{}'))
          INTO v_result;
    ELSIF kind = 'sla' THEN
        SELECT jsonb_build_object('records', count(*), 'late', count(*) FILTER (WHERE t.created_at + (v_new ->> 'due')::interval < now()), 'late_before', count(*) FILTER (WHERE t.created_at + (v_old ->> 'due')::interval < now()))
          INTO v_result FROM crm_data.task AS t WHERE t.state = 'open' AND (t.kind = coalesce(v_new ->> 'kind', key) OR t.action_key = v_new ->> 'action');
    ELSIF kind = 'health_model' AND key = 'information' THEN
        WITH a AS MATERIALIZED (
            SELECT n.score AS n, o.score AS o FROM (SELECT x.id FROM crm_data.account AS x WHERE x.deleted_at IS NULL AND x.merged_into IS NULL ORDER BY hashint8extended(x.id, 0), x.id LIMIT 300) AS x
             CROSS JOIN LATERAL crm._info_health(x.id, now(), v_new) AS n LEFT JOIN LATERAL crm._info_health(x.id, now(), v_old) AS o ON true)
        SELECT jsonb_build_object('records', count(*), 'mean', round(avg(a.n), 1), 'mean_before', round(avg(a.o), 1), 'low', count(*) FILTER (WHERE a.n < s.low), 'low_before', count(*) FILTER (WHERE a.o < s.low))
          INTO v_result FROM a CROSS JOIN (SELECT crm._setting('info_health.task_below', '80')::int AS low) AS s;
    ELSIF kind = 'recycle' THEN
        WITH a AS MATERIALIZED (
            SELECT to_jsonb(x) || jsonb_build_object('days_since_contact', extract(epoch FROM now() - coalesce(x.last_contact_at, x.created_at)) / 86400,
                       'open_opportunities', (SELECT count(*) FROM crm_data.opportunity AS d WHERE d.account_id = x.id AND d.outcome = 'open' AND d.deleted_at IS NULL)) AS doc
              FROM crm_data.account AS x WHERE x.deleted_at IS NULL AND x.merged_into IS NULL AND x.owner_id IS NOT NULL ORDER BY hashint8extended(x.id, 0), x.id LIMIT 5000)
        SELECT jsonb_build_object('records', count(*), 'hits', count(*) FILTER (WHERE EXISTS (SELECT FROM jsonb_array_elements(v_new -> 'rules') AS r WHERE jsonb_path_exists(a.doc, (r ->> 'when')::jsonpath, '{}', true))),
                   'hits_before', count(*) FILTER (WHERE EXISTS (SELECT FROM jsonb_array_elements(v_old -> 'rules') AS r WHERE jsonb_path_exists(a.doc, (r ->> 'when')::jsonpath, '{}', true)))) INTO v_result FROM a;
    ELSE
        v_result := jsonb_build_object('records', 0, 'note', 'nothing to rehearse: this kind decides about no records by itself');
    END IF;
    v_loss := coalesce((v_result ->> 'coverage_before')::numeric - (v_result ->> 'coverage')::numeric, 0);
    RETURN v_result || jsonb_build_object('period', period, 'loss', v_loss,
        'blocked', v_loss > crm._setting('simulate.max_coverage_loss', '2')::numeric OR coalesce((v_result ->> 'newly_unmatched')::int, 0) > 0
                   -- a condition that matched and now matches nothing at all looks for something that is not there
                   OR (kind IN ('rule', 'risk_signal') AND (v_result ->> 'hits')::int = 0 AND coalesce((v_result ->> 'hits_before')::int, 0) > 0));
END
$$;
COMMENT ON FUNCTION crm.config_simulate(text, text, int, interval, text) IS
'Rehearses a version on the records of a period beside the one in force, changing nothing.
assignment: how many leads a route other than the last one takes (coverage, percent), how many go elsewhere or nowhere, examples of those that lose their route. rule: the events of the period replayed: matches (hits), records it would fire for, what is new and no longer. risk_signal: deals of the period it speaks of. picklist, lifecycle: records with a value that is taken away. stage: deals that hold the evidence. form: records that lack what it asks for where they stand. sla, health_model/information, recycle, quality_rule: records on either side. Of many records a sample is taken by their number (limited).
blocked: it loses more than simulate.max_coverage_loss points of coverage, leaves a record unmatched or with a value that is gone, or a condition that matched matches nothing any more; it cannot be activated then. Errors: 42704 no such version; RM502 not valid.';

CREATE OR REPLACE FUNCTION crm.config_impact(kind text, key text, version int, scope text DEFAULT '*') RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_body jsonb;
    v_records jsonb := '{}';
    v_fields jsonb;
    v_n bigint;
    u record;
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_manager', 'crm_steward');
    SELECT c.body INTO v_body FROM crm_data.config AS c WHERE c.kind = kind AND c.key = key AND c.version = version AND c.scope = scope;
    IF v_body IS NULL THEN
        RAISE EXCEPTION 'there is no version % of %/%', version, kind, key USING ERRCODE = 'undefined_object', HINT = 'SELECT kind, key, version, status FROM crm.config_list() shows the versions.';
    END IF;
    v_records := CASE kind
        WHEN 'tag' THEN (SELECT jsonb_build_object('account', count(*)) FROM crm_data.account AS a WHERE a.tags @> ARRAY[key])
        WHEN 'stage' THEN (SELECT jsonb_build_object('opportunity', count(*)) FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id
                            WHERE o.outcome = 'open' AND p.code || '/' || s.code = key)
        WHEN 'assignment' THEN (SELECT jsonb_build_object('lead', count(*)) FROM crm_data.lead AS l WHERE l.state IN ('new', 'unrouted', 'assigned'))
        WHEN 'risk_signal' THEN (SELECT jsonb_build_object('opportunity', count(*)) FROM crm_data.opportunity AS o WHERE o.outcome = 'open')
        WHEN 'rule' THEN (SELECT coalesce(jsonb_object_agg(m.object, m.n), '{}') FROM (SELECT x.object, count(DISTINCT x.record_id) AS n FROM crm_data.rule_match AS x WHERE x.rule = key AND x.fired AND x.at > now() - interval '30 days' GROUP BY 1) AS m)
        WHEN 'touch_preset' THEN (SELECT jsonb_build_object('interaction', count(*)) FROM crm_data.interaction AS i WHERE i.preset = key AND i.occurred_at > now() - interval '30 days')
        WHEN 'sla' THEN (SELECT jsonb_build_object('task', count(*)) FROM crm_data.task AS t WHERE t.state = 'open' AND (t.kind = coalesce(v_body ->> 'kind', key) OR t.action_key = v_body ->> 'action'))
        WHEN 'lifecycle' THEN (SELECT jsonb_build_object('account', count(*)) FROM crm_data.account AS a WHERE a.deleted_at IS NULL)
        WHEN 'recycle' THEN (SELECT jsonb_build_object('account', count(*)) FROM crm_data.account AS a WHERE a.deleted_at IS NULL AND a.owner_id IS NOT NULL)
        WHEN 'form' THEN (SELECT jsonb_build_object(v_body ->> 'object', s -> 'records') FROM crm._simulate_form(v_body, NULL) AS s)
        WHEN 'notification' THEN (SELECT jsonb_build_object('outbox', count(*)) FROM crm_data.outbox AS o WHERE o.state IN ('pending', 'failed'))
        ELSE '{}' END;
    IF kind = 'picklist' THEN
        FOR u IN SELECT p.object, p.field FROM crm._picklist_use(key) AS p LOOP
            EXECUTE format('SELECT count(*) FROM crm_data.%I AS t WHERE t.%I IS NOT NULL', u.object, u.field) INTO v_n;
            v_records := v_records || jsonb_build_object(u.object, v_n);
        END LOOP;
    END IF;
    v_fields := CASE WHEN kind = 'picklist' THEN (SELECT coalesce(jsonb_agg(p.object || '.' || p.field ORDER BY p.object), '[]') FROM crm._picklist_use(key) AS p)
                     WHEN kind = 'form' AND NOT v_body ? 'store' THEN (SELECT coalesce(jsonb_agg((v_body ->> 'object') || '.' || f.field ORDER BY f.ord), '[]') FROM crm._form_fields(v_body) AS f) ELSE '[]' END;
    RETURN jsonb_build_object('records', v_records, 'fields', v_fields,
        'views', CASE WHEN kind = 'picklist' THEN (SELECT coalesce(jsonb_agg(DISTINCT 'crm.' || p.object), '[]') FROM crm._picklist_use(key) AS p)
                      WHEN kind IN ('field_policy', 'row_policy', 'quality_rule', 'field_map') THEN (SELECT coalesce(jsonb_agg(DISTINCT 'crm.' || f.object), '[]') FROM crm_data.field AS f
                           WHERE kind = 'field_policy' OR v_body ->> 'object' IN (f.object, '*') OR jsonb_path_exists(v_body, '$.rows[*].object ? (@ == $o || @ == "*")', jsonb_build_object('o', f.object)))
                      WHEN kind IN ('tag', 'lifecycle', 'recycle') THEN '["crm.account"]' WHEN kind = 'stage' THEN '["crm.opportunity", "crm.task"]' WHEN kind = 'form' THEN jsonb_build_array('crm.' || (v_body ->> 'object')) ELSE '[]' END,
        'used_by', (SELECT coalesce(jsonb_agg(DISTINCT c.kind || '/' || c.key), '[]') FROM crm_data.config AS c
                     WHERE c.status IN ('active', 'canary') AND (c.kind, c.key) <> (kind, key) AND jsonb_path_exists(c.body, '$.** ? (@ == $k)', jsonb_build_object('k', key))),
        'metrics', (SELECT coalesce(jsonb_agg(DISTINCT c.key), '[]') FROM crm_data.config AS c
                     WHERE c.status = 'active' AND c.kind = 'metric' AND CASE kind WHEN 'picklist' THEN EXISTS (SELECT FROM crm._picklist_use(key) AS p WHERE p.object = c.body ->> 'fact' AND (c.body -> 'dims' ? p.field OR jsonb_path_exists(c.body, '$.filters[*].field ? (@ == $f)', jsonb_build_object('f', p.field))))
                                                                                  WHEN 'stage' THEN c.body -> 'dims' ? 'stage' ELSE false END),
        'reports', (SELECT coalesce(jsonb_agg(c.key ORDER BY c.key), '[]') FROM crm_data.config AS c WHERE c.status = 'active' AND c.kind = 'report' AND kind = 'metric' AND c.body -> 'metrics' ? key),
        'roles', CASE WHEN kind IN ('field_policy', 'row_policy', 'permission') THEN jsonb_build_array(v_body ->> 'role') ELSE '[]' END);
END
$$;
COMMENT ON FUNCTION crm.config_impact(text, text, int, text) IS
'What a version touches before it is activated: records by object (of a rule: those it fired for in thirty days), fields, views, other configuration that names it, metrics, reports, roles. Errors: 42704 no such version.';
