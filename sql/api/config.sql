-- Configuration: immutable versions of rules, settings, policies and definitions; validated, rehearsed, approved by a second person, tried on a share, rolled back.

CREATE OR REPLACE FUNCTION crm._actor() RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT coalesce(m.role_name::text, 'member ' || m.id) FROM crm_data.member AS m WHERE m.id = crm.me()), session_user::text)
$$;
COMMENT ON FUNCTION crm._actor() IS 'Internal: who is acting, as text: the login role of the member who asks, else the session''s role.';

CREATE OR REPLACE FUNCTION crm._jsonpath_problem(path text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM path::jsonpath;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END
$$;
COMMENT ON FUNCTION crm._jsonpath_problem(text) IS 'Internal: what is wrong with a jsonpath, NULL if nothing.';

CREATE OR REPLACE FUNCTION crm._unbound(path text, known jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(DISTINCT m[1], ', ') FROM regexp_matches(regexp_replace(path, '"(\\.|[^"\\])*"', '', 'g'), '\$([A-Za-z_][A-Za-z0-9_]*)', 'g') AS m WHERE NOT coalesce(known, '{}') ? m[1]
$$;
COMMENT ON FUNCTION crm._unbound(text, jsonb) IS 'Internal: variables of a jsonpath that nothing gives a value, NULL for none.';

CREATE OR REPLACE FUNCTION crm._interval_problem(value text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN value::interval < interval '0' THEN 'an interval must not be negative' WHEN value::interval > interval '100 years' THEN 'an interval is at most 100 years' END;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END
$$;
COMMENT ON FUNCTION crm._interval_problem(text) IS 'Internal: what is wrong with the text of an interval, NULL if nothing.';

CREATE OR REPLACE FUNCTION crm._figure_problem(value jsonb) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(value) = 'number' AND value #>> '{}' ~ '^[0-9]{1,6}$' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(value) = 'object' AND EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'setting' AND c.key = value ->> 'setting' AND c.scope = '*' AND c.status = 'active' AND c.body ->> 'value' ~ '^[0-9]{1,6}$') THEN
        RETURN NULL;
    END IF;
    RETURN 'a whole number, or {"setting": the name of one}, is expected here';
END
$$;
COMMENT ON FUNCTION crm._figure_problem(jsonb) IS 'Internal: what is wrong with a figure of a rule, NULL if nothing.';

CREATE OR REPLACE FUNCTION crm._shape_problem(new jsonb, old jsonb, complete boolean, path text DEFAULT '$') RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k text;
    v jsonb;
    v_problem text;
BEGIN
    IF new IS NULL THEN
        RETURN CASE WHEN complete THEN path || ' is missing' END;
    ELSIF old = 'null' OR new = 'null' AND old IS NOT NULL AND jsonb_typeof(old) = 'null' THEN
        RETURN NULL;
    ELSIF jsonb_typeof(new) <> jsonb_typeof(old) THEN
        RETURN format('%s is %s, not %s', path, jsonb_typeof(old), jsonb_typeof(new));
    END IF;
    CASE jsonb_typeof(old)
    WHEN 'object' THEN
        FOR k, v IN SELECT e.key, e.value FROM jsonb_each(old) AS e LOOP
            v_problem := crm._shape_problem(new -> k, v, complete, path || '.' || k);
            IF v_problem IS NOT NULL THEN
                RETURN v_problem;
            END IF;
        END LOOP;
    WHEN 'array' THEN
        -- what is in a list is of one kind
        IF jsonb_array_length(old) > 0 AND EXISTS (SELECT FROM jsonb_array_elements(new) AS n WHERE jsonb_typeof(n) NOT IN (SELECT jsonb_typeof(o) FROM jsonb_array_elements(old) AS o)) THEN
            RETURN path || ' holds something of another kind';
        END IF;
    WHEN 'number' THEN
        IF old #>> '{}' ~ '^[0-9]+$' AND new #>> '{}' !~ '^[0-9]{1,9}$' THEN
            RETURN path || ' is a whole number up to nine digits';
        ELSIF abs((new #>> '{}')::numeric) > 1e12 THEN
            RETURN path || ' is far too large';
        END IF;
    WHEN 'string' THEN
        IF old #>> '{}' ~ '^[0-9]+ (second|minute|hour|day|week|month|year)s?$' AND crm._interval_problem(new #>> '{}') IS NOT NULL THEN
            RETURN format('%s is a time: %s', path, crm._interval_problem(new #>> '{}'));
        ELSIF new #>> '{}' = '' AND old #>> '{}' <> '' THEN
            RETURN path || ' is empty';
        END IF;
    ELSE
        NULL;
    END CASE;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._shape_problem(jsonb, jsonb, boolean, text) IS 'Internal: where a new body does not have the shape of the one in force: a value of another kind, and, if it must be complete, a key that is missing.';

CREATE OR REPLACE FUNCTION crm.config_validate(kind text, body jsonb)
    RETURNS TABLE (severity text, path text, message text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_min int := crm._setting('stage.actions.min', '3')::int;
    v_max int := crm._setting('stage.actions.max', '5')::int;
    v_n int;
    a jsonb;
    v_i int;
    v_text text;
BEGIN
    IF kind IS NULL OR NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = 'crm_data.config'::regclass AND c.contype = 'c' AND pg_get_constraintdef(c.oid) LIKE '%kind = ANY%' AND position(quote_literal(kind) IN pg_get_constraintdef(c.oid)) > 0) THEN
        RETURN QUERY SELECT 'error', '$', format('there is no kind of configuration %L', kind);
        RETURN;
    END IF;
    IF body IS NULL OR jsonb_typeof(body) <> 'object' THEN
        RETURN QUERY SELECT 'error', '$', 'the body is not an object'::text;
        RETURN;
    END IF;
    IF kind = 'setting' AND NOT body ? 'value' THEN
        RETURN QUERY SELECT 'error', '$.value', 'a setting has a value'::text;
    END IF;
    -- every condition, wherever it stands
    IF EXISTS (SELECT FROM jsonb_path_query(body, 'strict $.**.when') AS x (value) WHERE jsonb_typeof(x.value) <> 'string') THEN
        RETURN QUERY SELECT 'error', '$.**.when', 'a condition is a text'::text;
    END IF;
    FOR v_text IN SELECT DISTINCT x.value #>> '{}' FROM jsonb_path_query(body, 'strict $.**.when') AS x (value) WHERE jsonb_typeof(x.value) = 'string' LOOP
        IF crm._jsonpath_problem(v_text) IS NOT NULL THEN
            RETURN QUERY SELECT 'error', '$.**.when', format('%s: %s', v_text, crm._jsonpath_problem(v_text));
        ELSIF crm._unbound(v_text, CASE WHEN kind IN ('rule', 'risk_signal') AND jsonb_typeof(body -> 'settings') = 'object' THEN body -> 'settings' END) IS NOT NULL THEN
            RETURN QUERY SELECT 'error', '$.**.when', format('nothing gives $%s a value: a rule names its settings', crm._unbound(v_text, CASE WHEN kind IN ('rule', 'risk_signal') AND jsonb_typeof(body -> 'settings') = 'object' THEN body -> 'settings' END));
        END IF;
    END LOOP;
    FOR v_text IN SELECT DISTINCT x.value #>> '{}' FROM jsonb_path_query(body, 'strict $.**.evidence') AS x (value) WHERE jsonb_typeof(x.value) = 'string' LOOP
        IF crm._jsonpath_problem(v_text) IS NOT NULL THEN
            RETURN QUERY SELECT 'error', '$.**.evidence', format('%s: %s', v_text, crm._jsonpath_problem(v_text));
        ELSIF crm._unbound(v_text, NULL) IS NOT NULL THEN
            RETURN QUERY SELECT 'error', '$.**.evidence', format('nothing gives $%s a value', crm._unbound(v_text, NULL));
        END IF;
    END LOOP;

    IF kind IN ('rule', 'risk_signal') THEN
        FOR v_text IN SELECT k FROM unnest(ARRAY['on', 'when', 'then']) AS k WHERE NOT body ? k LOOP
            RETURN QUERY SELECT 'error', '$.' || v_text, format('a rule has %L', v_text);
        END LOOP;
        FOR v_text IN SELECT k FROM unnest(ARRAY['on', 'when', 'once', 'en', 'zh']) AS k WHERE body ? k AND (jsonb_typeof(body -> k) <> 'string' OR body ->> k = '') LOOP
            RETURN QUERY SELECT 'error', '$.' || v_text, 'a text is expected here'::text;
        END LOOP;
        -- a rule that listens to what nothing ever says would be silent for good
        IF kind = 'rule' AND body ->> 'on' LIKE 'date.%' THEN
            IF crm._date_column(split_part(body ->> 'on', '.', 2), split_part(body ->> 'on', '.', 3)) IS NULL THEN
                RETURN QUERY SELECT 'error', '$.on', 'date.<object>.<field> names a field of account, lead, opportunity or contract that holds a day'::text;
            END IF;
        ELSIF body ->> 'on' !~ '^(inbox|event)\..' AND body ->> 'on' <> ALL ('{interaction.insert,account.update,contract.signed,conflict.insert,task.overdue,timer.account,timer.contract,timer.interaction,timer.opportunity,score.risk,score.info_health,chain}') THEN
            RETURN QUERY SELECT 'error', '$.on', format('nothing is ever told as %L', left(body ->> 'on', 100));
        END IF;
        IF body ? 'once' AND body ->> 'once' NOT IN ('record', 'stage', 'breach', 'window') THEN
            RETURN QUERY SELECT 'error', '$.once', 'a rule fires once for a record, stage, breach or window'::text;
        END IF;
        IF jsonb_typeof(body -> 'then') IS DISTINCT FROM 'array' OR body -> 'then' = '[]' THEN
            RETURN QUERY SELECT 'error', '$.then', 'a rule has at least one action'::text;
        ELSE
            FOR a, v_i IN SELECT x.value, x.ord - 1 FROM jsonb_array_elements(body -> 'then') WITH ORDINALITY AS x (value, ord) LOOP
                IF coalesce(a ->> 'do', '') NOT IN ('task', 'tag', 'ticket', 'message', 'alert', 'hold_discount', 'assign', 'set', 'interaction', 'signal_tasks', 'chain') THEN
                    RETURN QUERY SELECT 'error', format('$.then[%s].do', v_i), format('unknown action %L: there are task, ticket, message, alert, tag, hold_discount, assign, set, interaction, signal_tasks and chain', left(a ->> 'do', 100));
                    CONTINUE;
                END IF;
                FOR v_text IN SELECT e.key FROM jsonb_each(a) AS e
                               WHERE CASE WHEN e.key IN ('priority', 'raise_priority') THEN NOT coalesce(e.value #>> '{}' ~ '^[0-9]$' AND jsonb_typeof(e.value) = 'number', false)
                                          WHEN e.key IN ('hold', 'auto') THEN jsonb_typeof(e.value) <> 'boolean'
                                          WHEN e.key IN ('count', 'hours') THEN crm._figure_problem(e.value) IS NOT NULL
                                          WHEN e.key = 'due' THEN jsonb_typeof(e.value) <> 'string' OR crm._interval_problem(e.value #>> '{}') IS NOT NULL
                                          WHEN e.key = 'level' THEN coalesce(e.value #>> '{}', '') NOT IN ('info', 'yellow', 'orange', 'red')
                                          WHEN e.key = 'depth' THEN coalesce(e.value #>> '{}', '') NOT IN ('light', 'normal', 'deep')
                                          WHEN e.key = 'to' THEN NOT coalesce(e.value #>> '{}' ~ '^(owner|manager|director|steward|role:.+|contact:.+)$', false)
                                          ELSE jsonb_typeof(e.value) <> 'string' OR e.value = '""' OR length(e.value #>> '{}') > 2000 END ORDER BY 1 LOOP
                    RETURN QUERY SELECT 'error', format('$.then[%s].%s', v_i, left(v_text, 100)), format('%s is not possible here', left(a ->> v_text, 100));
                END LOOP;
                FOR v_text IN SELECT k FROM unnest(CASE a ->> 'do' WHEN 'tag' THEN '{tag}' WHEN 'message' THEN '{topic}' WHEN 'hold_discount' THEN '{hold}' WHEN 'set' THEN '{field,value}' WHEN 'chain' THEN '{rule}' ELSE '{}' END::text[]) AS k WHERE NOT a ? k LOOP
                    RETURN QUERY SELECT 'error', format('$.then[%s]', v_i), format('the action %s has %L', a ->> 'do', v_text);
                END LOOP;
                IF a ->> 'do' = 'tag' AND NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'tag' AND c.key = a ->> 'tag' AND c.scope = '*' AND c.status = 'active') THEN
                    RETURN QUERY SELECT 'error', format('$.then[%s].tag', v_i), format('there is no tag %L', left(a ->> 'tag', 100));
                ELSIF a ->> 'do' = 'chain' AND NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.key = a ->> 'rule' AND c.scope = '*' AND c.status = 'active' AND c.body ->> 'on' = 'chain') THEN
                    RETURN QUERY SELECT 'error', format('$.then[%s].rule', v_i), format('there is no rule %L on chain', left(a ->> 'rule', 100));
                END IF;
            END LOOP;
        END IF;
        IF body ? 'window' AND (jsonb_typeof(body #> '{window,within}') IS DISTINCT FROM 'string' OR crm._interval_problem(body #>> '{window,within}') IS NOT NULL) THEN
            RETURN QUERY SELECT 'error', '$.window.within', coalesce(crm._interval_problem(body #>> '{window,within}'), 'a window has a length');
        END IF;
        IF body #> '{window,count}' IS NOT NULL AND crm._figure_problem(body #> '{window,count}') IS NOT NULL THEN
            RETURN QUERY SELECT 'error', '$.window.count', crm._figure_problem(body #> '{window,count}');
        END IF;
        IF body ? 'delay' AND (CASE jsonb_typeof(body -> 'delay') WHEN 'string' THEN crm._interval_problem(body ->> 'delay') WHEN 'object' THEN crm._figure_problem(body -> 'delay') ELSE 'a delay is a time' END) IS NOT NULL THEN
            RETURN QUERY SELECT 'error', '$.delay', 'a delay is a time, or a setting in days'::text;
        END IF;
        IF body ? 'before' AND (jsonb_typeof(body -> 'before') <> 'string' OR crm._interval_problem(body ->> 'before') IS NOT NULL OR body ->> 'on' !~ '^date\.') THEN
            RETURN QUERY SELECT 'error', '$.before', 'a time before the day of a rule on date.<object>.<field>'::text;
        END IF;
        IF body ? 'settings' AND jsonb_typeof(body -> 'settings') <> 'object' THEN
            RETURN QUERY SELECT 'error', '$.settings', 'settings are an object: {"n": "name of a setting"}'::text;
        END IF;
        FOR v_text IN SELECT s.value FROM jsonb_each_text(CASE WHEN jsonb_typeof(body -> 'settings') = 'object' THEN body -> 'settings' ELSE '{}' END) AS s
                       WHERE NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'setting' AND c.key = s.value AND c.status = 'active') LOOP
            RETURN QUERY SELECT 'error', '$.settings', format('there is no setting %L', left(v_text, 100));
        END LOOP;
        IF kind = 'risk_signal' AND NOT coalesce(jsonb_typeof(body -> 'weight') = 'number' AND body ->> 'weight' ~ '^([1-9][0-9]?|100)$', false) THEN
            RETURN QUERY SELECT 'error', '$.weight', 'a risk signal weighs 1 to 100 points'::text;
        END IF;
    ELSIF kind = 'assignment' THEN
        IF jsonb_typeof(body -> 'routes') IS DISTINCT FROM 'array' OR body -> 'routes' = '[]' THEN
            RETURN QUERY SELECT 'error', '$.routes', 'an assignment has routes'::text;
        ELSE
            FOR a, v_i IN SELECT x.value, x.ord - 1 FROM jsonb_array_elements(body -> 'routes') WITH ORDINALITY AS x (value, ord) LOOP
                IF jsonb_typeof(a -> 'name') IS DISTINCT FROM 'string' OR a ->> 'name' = '' OR jsonb_typeof(a -> 'to') IS DISTINCT FROM 'object' OR jsonb_typeof(a #> '{to,match}') NOT IN ('array') OR (a ? 'when' AND jsonb_typeof(a -> 'when') <> 'string') THEN
                    RETURN QUERY SELECT 'error', format('$.routes[%s]', v_i), 'a route has a name, to (an object) and perhaps when (a text)'::text;
                END IF;
            END LOOP;
            IF NOT EXISTS (SELECT FROM jsonb_array_elements(body -> 'routes') AS x (value) WHERE coalesce(x.value ->> 'when', '$') = '$') THEN
                RETURN QUERY SELECT 'error', '$.routes', 'the last route must take everything (no condition, or "$"): without it a record that fits nowhere would be dropped'::text;
            END IF;
        END IF;
        FOR v_text IN SELECT k FROM unnest(ARRAY['regions', 'boxes', 'industries', 'weights']) AS k WHERE body ? k AND jsonb_typeof(body -> k) <> 'object' LOOP
            RETURN QUERY SELECT 'error', '$.' || v_text, 'an object is expected here'::text;
        END LOOP;
        FOR v_text IN SELECT k || '.' || e.key FROM unnest(ARRAY['regions', 'industries']) AS k CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(body -> k) = 'object' THEN body -> k ELSE '{}' END) AS e
                       WHERE jsonb_typeof(e.value) <> 'array' OR e.value @? '$[*] ? (@.type() != "string")' LOOP
            RETURN QUERY SELECT 'error', '$.' || left(v_text, 100), 'a list of words is expected here'::text;
        END LOOP;
        FOR v_text IN SELECT e.key FROM jsonb_each(CASE WHEN jsonb_typeof(body -> 'boxes') = 'object' THEN body -> 'boxes' ELSE '{}' END) AS e
                       WHERE jsonb_typeof(e.value) <> 'array' OR jsonb_array_length(CASE WHEN jsonb_typeof(e.value) = 'array' THEN e.value ELSE '[]' END) < 2
                          OR e.value @? 'strict $[*] ? (@.type() != "array" || @.size() != 2)' OR e.value @? 'strict $[*][*] ? (@.type() != "number" || @ > 180 || @ < -180)' LOOP
            RETURN QUERY SELECT 'error', '$.boxes.' || left(v_text, 100), 'two corners, or the corners of a polygon, are expected here: [[longitude, latitude], ..]'::text;
        END LOOP;
        FOR v_text IN SELECT e.key FROM jsonb_each(CASE WHEN jsonb_typeof(body -> 'weights') = 'object' THEN body -> 'weights' ELSE '{}' END) AS e WHERE jsonb_typeof(e.value) <> 'number' OR e.value #>> '{}' !~ '^[0-9]{1,4}$' LOOP
            RETURN QUERY SELECT 'error', '$.weights.' || left(v_text, 100), 'a whole number is expected here'::text;
        END LOOP;
    ELSIF kind = 'stage' THEN
        IF jsonb_typeof(body -> 'actions') IS DISTINCT FROM 'array' THEN
            RETURN QUERY SELECT 'error', '$.actions', 'a stage has a list of actions'::text;
        ELSIF EXISTS (SELECT FROM jsonb_array_elements(body -> 'actions') AS x (value) WHERE jsonb_typeof(x.value) <> 'object' OR jsonb_typeof(x.value -> 'mandatory') NOT IN ('boolean')
                          OR jsonb_typeof(x.value -> 'key') IS DISTINCT FROM 'string' OR jsonb_typeof(x.value -> 'evidence') NOT IN ('string') OR jsonb_typeof(x.value -> 'due') NOT IN ('string') OR jsonb_typeof(x.value -> 'escalate') NOT IN ('string')
                          OR crm._interval_problem(x.value ->> 'escalate') IS NOT NULL OR jsonb_typeof(x.value -> 'en') NOT IN ('string') OR jsonb_typeof(x.value -> 'zh') NOT IN ('string')) THEN
            RETURN QUERY SELECT 'error', '$.actions', 'an action has a key, and perhaps mandatory (true or false), evidence, due, escalate, en and zh (texts)'::text;
        ELSE
            SELECT count(*) FILTER (WHERE (x.value ->> 'mandatory')::boolean) INTO v_n FROM jsonb_array_elements(body -> 'actions') AS x (value);
            IF v_n NOT BETWEEN v_min AND v_max THEN
                RETURN QUERY SELECT 'warning', '$.actions', format('%s mandatory actions; %s to %s work best', v_n, v_min, v_max);
            END IF;
            IF EXISTS (SELECT FROM jsonb_array_elements(body -> 'actions') AS x (value) GROUP BY x.value ->> 'key' HAVING count(*) > 1 OR x.value ->> 'key' IS NULL) THEN
                RETURN QUERY SELECT 'error', '$.actions', 'every action has a key of its own'::text;
            END IF;
            FOR v_text IN SELECT x.value ->> 'due' FROM jsonb_array_elements(body -> 'actions') AS x (value) WHERE crm._interval_problem(x.value ->> 'due') IS NOT NULL LOOP
                RETURN QUERY SELECT 'error', '$.actions[*].due', crm._interval_problem(v_text);
            END LOOP;
        END IF;
    ELSIF kind = 'picklist' THEN
        IF jsonb_typeof(body -> 'values') IS DISTINCT FROM 'array' OR EXISTS (SELECT FROM jsonb_array_elements(body -> 'values') AS x (value) WHERE jsonb_typeof(x.value -> 'key') IS DISTINCT FROM 'string') THEN
            RETURN QUERY SELECT 'error', '$.values', 'a picklist has values, each with a key'::text;
        ELSIF EXISTS (SELECT FROM jsonb_array_elements(body -> 'values') AS x (value) GROUP BY x.value ->> 'key' HAVING count(*) > 1 OR x.value ->> 'key' IS NULL) THEN
            RETURN QUERY SELECT 'error', '$.values', 'every value has a key of its own'::text;
        END IF;
    ELSIF kind = 'metric' THEN
        RETURN QUERY SELECT 'error', p.path, p.message FROM crm._metric_problems(body) AS p;
    ELSIF kind = 'journey' THEN
        RETURN QUERY SELECT 'error', p.path, p.message FROM crm._journey_problems(body) AS p;
    ELSIF kind = 'form' THEN
        RETURN QUERY SELECT 'error', p.path, p.message FROM crm._form_problems(body) AS p;
    ELSIF kind = 'flag' AND body ? 'fields' THEN
        RETURN QUERY SELECT 'error', p.path, p.message FROM crm._off_problems(body) AS p;
    ELSIF kind = 'report' THEN
        IF body ? 'metrics' AND jsonb_typeof(body -> 'metrics') <> 'array' THEN
            RETURN QUERY SELECT 'error', '$.metrics', 'a list of names of metrics'::text;
        END IF;
        RETURN QUERY SELECT 'error', '$.metrics', format('there is no metric %L', x.v #>> '{}') FROM jsonb_path_query(body, 'lax $.metrics[*]') AS x (v)
                      WHERE NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'metric' AND c.key = x.v #>> '{}' AND c.scope = '*' AND c.status = 'active');
    ELSIF kind = 'recycle' THEN
        IF jsonb_typeof(body -> 'rules') IS DISTINCT FROM 'array' OR crm._interval_problem(body ->> 'notice') IS NOT NULL THEN
            RETURN QUERY SELECT 'error', '$.rules', 'it has a list of rules, and a notice that is an interval'::text;
        END IF;
        RETURN QUERY SELECT 'error', format('$.rules[%s]', x.ord - 1), format('a rule has a condition and a pool, and %L is none', x.value ->> 'pool')
          FROM jsonb_array_elements(CASE jsonb_typeof(body -> 'rules') WHEN 'array' THEN body -> 'rules' ELSE '[]' END) WITH ORDINALITY AS x (value, ord)
         WHERE NOT x.value ? 'when' OR NOT EXISTS (SELECT FROM crm_data.pool AS p WHERE p.name = x.value ->> 'pool');
    ELSIF kind = 'notification' THEN
        -- a message without a channel, or to one that does not exist, would stop whatever sends it
        IF body @? 'strict $.topics."*"' IS NOT TRUE THEN
            RETURN QUERY SELECT 'error', '$.topics', 'it has topics, an object, and among them * for all that are not named'::text;
        END IF;
        IF body ? 'snapshot' AND (jsonb_typeof(body -> 'snapshot') <> 'array' OR EXISTS (SELECT FROM jsonb_path_query(body, 'lax $.snapshot[*]') AS t (v) WHERE jsonb_typeof(t.v) <> 'string' OR t.v #>> '{}' !~ '^([a-z_]+[.])?([a-z_]+|[*])$')) THEN
            RETURN QUERY SELECT 'error', '$.snapshot', 'a list of topics whose messages carry the customer is expected here: ["task.*", "followup.manager"]'::text;
        END IF;
        IF body ? 'fallback' AND jsonb_typeof(body -> 'fallback') <> 'object' THEN
            RETURN QUERY SELECT 'error', '$.fallback', 'an object is expected here: {"sms": ["app", "email"]}'::text;
        END IF;
        RETURN QUERY SELECT 'error', left(x.path, 100), format('there is no channel %s; a topic has one, a channel falls back to a list of them', left(x.name::text, 100))
          FROM (SELECT '$.topics.' || t.key, t.value FROM jsonb_each(CASE jsonb_typeof(body -> 'topics') WHEN 'object' THEN body -> 'topics' ELSE '{}' END) AS t
                UNION ALL SELECT '$.fallback.' || f.key, to_jsonb(f.key) FROM jsonb_each(CASE jsonb_typeof(body -> 'fallback') WHEN 'object' THEN body -> 'fallback' ELSE '{}' END) AS f
                UNION ALL SELECT '$.fallback.' || f.key, n.name FROM jsonb_each(CASE jsonb_typeof(body -> 'fallback') WHEN 'object' THEN body -> 'fallback' ELSE '{}' END) AS f
                                 CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(f.value) WHEN 'array' THEN f.value ELSE jsonb_build_array(f.value) END) AS n (name)) AS x (path, name)
         WHERE jsonb_typeof(x.name) <> 'string' OR NOT EXISTS (SELECT FROM crm_data.channel AS c WHERE c.name = x.name #>> '{}');
    ELSIF kind = 'approval_flow' THEN
        -- a request that nobody may decide would wait for ever
        IF jsonb_typeof(body -> 'flows') IS DISTINCT FROM 'array' OR body @? 'strict $.flows[last] ? (@.kind == "*" && @.object == "*")' IS NOT TRUE THEN
            RETURN QUERY SELECT 'error', '$.flows', 'it has a list of flows, and the last one takes everything: {"kind": "*", "object": "*", "approver": ..}'::text;
        END IF;
        RETURN QUERY SELECT 'error', format('$.flows[%s]', f.place - 1), 'a flow has a kind, an object and an approver that is a role, and nothing else'::text
          FROM jsonb_array_elements(CASE jsonb_typeof(body -> 'flows') WHEN 'array' THEN body -> 'flows' ELSE '[]' END) WITH ORDINALITY AS f (flow, place)
         WHERE jsonb_typeof(f.flow -> 'kind') IS DISTINCT FROM 'string' OR jsonb_typeof(f.flow -> 'object') IS DISTINCT FROM 'string'
            OR NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = f.flow ->> 'approver') OR (SELECT count(*) FROM jsonb_object_keys(CASE jsonb_typeof(f.flow) WHEN 'object' THEN f.flow ELSE '{}' END)) <> 3;
    ELSIF kind = 'touch_preset' THEN
        IF jsonb_typeof(body -> 'kind') IS DISTINCT FROM 'string' OR jsonb_typeof(body -> 'text') IS DISTINCT FROM 'object' OR (body ? 'next_after' AND (jsonb_typeof(body -> 'next_after') <> 'string' OR crm._interval_problem(body ->> 'next_after') IS NOT NULL))
           OR (body ? 'direction' AND coalesce(body ->> 'direction', '') NOT IN ('in', 'out', 'internal')) OR (body ? 'stage' AND NOT EXISTS (SELECT FROM crm_data.stage AS s WHERE s.code = body ->> 'stage')) THEN
            RETURN QUERY SELECT 'error', '$', 'a button has a kind and a text, and perhaps next_after (a time), a direction and a stage'::text;
        END IF;
    ELSIF kind = 'field_map' AND body ?| '{object,fields}' THEN
        RETURN QUERY SELECT p.severity, p.path, p.message FROM crm._field_map_problems(body) AS p;
    ELSIF kind IN ('field_policy', 'row_policy', 'permission') THEN
        RETURN QUERY SELECT 'error', p.path, p.message FROM crm._policy_problems(kind, body) AS p;
    END IF;
END
$$;
COMMENT ON FUNCTION crm.config_validate(text, jsonb) IS
'What is wrong with the body of a configuration, by kind: errors, which keep it from being proposed, and warnings. No row: nothing is wrong. Raises nothing.
kind: see the check of crm_data.config. body: an object; its shape depends on the kind.';

CREATE OR REPLACE FUNCTION crm._config_lock(kind text, key text, scope text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- the first version is always there, whatever becomes of the later ones
    PERFORM FROM crm_data.config AS c WHERE c.kind = _config_lock.kind AND c.key = _config_lock.key AND c.scope = _config_lock.scope ORDER BY c.version LIMIT 1 FOR NO KEY UPDATE;
END
$$;
COMMENT ON FUNCTION crm._config_lock(text, text, text) IS 'Internal: until the end of the transaction nobody else takes a step with any version of this configuration; whoever waits sees what became of it.';

CREATE OR REPLACE FUNCTION crm.config_put(kind text, key text, body jsonb, note text DEFAULT NULL, scope text DEFAULT '*') RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_version int;
BEGIN
    PERFORM crm._require('configure');
    IF coalesce(key, '') = '' OR coalesce(scope, '') = '' OR length(key) > 200 OR length(scope) > 200 OR EXISTS (SELECT FROM crm.config_validate(kind, body) AS v WHERE v.path = '$' AND v.severity = 'error') THEN
        RAISE EXCEPTION 'this cannot be a configuration: %', coalesce((SELECT v.message FROM crm.config_validate(kind, body) AS v WHERE v.path = '$' AND v.severity = 'error' LIMIT 1), 'it has no key, or one of more than 200 characters')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT * FROM crm.config_validate(kind, body) tells what is expected.';
    END IF;
    LOOP
        -- versions of one key come one after the other; of two who begin a new one, the second finds the first's to wait for
        PERFORM crm._config_lock(kind, key, scope);
        INSERT INTO crm_data.config (kind, key, scope, version, body, author, note, based_on)
        SELECT kind, key, scope, coalesce(max(c.version), 0) + 1, body, crm._actor(), note, max(c.version) FILTER (WHERE c.status = 'active')
          FROM crm_data.config AS c WHERE c.kind = kind AND c.key = key AND c.scope = scope
        ON CONFLICT ON CONSTRAINT config_kind_key_scope_version_key DO NOTHING
        RETURNING version INTO v_version;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN v_version;
END
$$;
COMMENT ON FUNCTION crm.config_put(text, text, jsonb, text, text) IS
'Saves a draft: a new version of a configuration, which nothing uses yet. Returns its number. note: why. scope: * for the whole organisation.
Errors: 22023 unknown kind, no key or a body that is no object; 42501 without the right to configure.';

-- Which route a record takes: {"route", "catch_all", "to"}; NULL for none. A field that is missing makes a condition false, so the last route takes everything.
CREATE OR REPLACE FUNCTION crm._route(body jsonb, doc jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r jsonb;
BEGIN
    FOR r IN SELECT x.value FROM jsonb_array_elements(body -> 'routes') AS x (value) LOOP
        IF coalesce(r ->> 'when', '$') = '$' OR jsonb_path_exists(doc, (r ->> 'when')::jsonpath, '{}', true) THEN
            RETURN jsonb_build_object('route', r ->> 'name', 'catch_all', coalesce(r ->> 'when', '$') = '$', 'to', r -> 'to');
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._route(jsonb, jsonb) IS 'Internal: the first route of an assignment whose condition a document meets.';

CREATE OR REPLACE FUNCTION crm._lead_document(l crm_data.lead) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN jsonb_strip_nulls(to_jsonb(l) - 'context' - 'attrs'
        || jsonb_build_object('account_owner_id', CASE WHEN l.account_id IS NOT NULL THEN (SELECT a.owner_id FROM crm_data.account AS a WHERE a.id = l.account_id) END, 'context', l.context));
END
$$;
COMMENT ON FUNCTION crm._lead_document(crm_data.lead) IS 'Internal: what the conditions of routes see of a lead: its columns without the empty ones, the context, and the owner of the customer it belongs to.';

CREATE OR REPLACE FUNCTION crm._config_problem(kind text, key text, scope text, body jsonb) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_problem text;
BEGIN
    SELECT string_agg(v.path || ' ' || v.message, '; ') INTO v_problem FROM crm.config_validate(kind, body) AS v WHERE v.severity = 'error';
    -- what the engine reads by name keeps its shape
    IF v_problem IS NULL AND kind IN ('setting', 'health_model', 'receivable_health', 'lifecycle', 'calendar', 'sla', 'journey', 'flag', 'credibility', 'odds', 'recycle') THEN
        SELECT crm._shape_problem(CASE WHEN kind = 'setting' THEN jsonb_build_object('value', body -> 'value') ELSE body END,
                                  CASE WHEN kind = 'setting' THEN jsonb_build_object('value', x.body -> 'value') ELSE x.body - 'zh' - 'en' END,
                                  kind IN ('setting', 'health_model', 'receivable_health', 'credibility', 'odds', 'calendar'))
          INTO v_problem FROM crm_data.config AS x WHERE x.kind = kind AND x.key = key AND x.scope = scope AND x.status = 'active';
    END IF;
    -- a zone that nobody knows would stop the clock
    IF v_problem IS NULL AND kind = 'setting' AND key = 'organisation.timezone' AND NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = body ->> 'value') THEN
        v_problem := format('$.value: there is no time zone "%s"; pg_timezone_names lists them, for example Asia/Shanghai', left(body ->> 'value', 100));
    END IF;
    -- a figure that is decided elsewhere is not changed here, where it would change nothing
    IF v_problem IS NULL AND kind = 'setting' THEN
        SELECT format('it is decided by %s, and can be changed only there', x.body ->> 'decided_by') INTO v_problem FROM crm_data.config AS x
         WHERE x.kind = kind AND x.key = key AND x.scope = '*' AND x.version = 1 AND x.author = 'crm' AND x.body ? 'decided_by' AND x.body -> 'value' IS DISTINCT FROM body -> 'value';
    END IF;
    -- a figure stays in the range that the setting came with
    IF v_problem IS NULL AND kind = 'setting' AND jsonb_typeof(body -> 'value') = 'number' THEN
        SELECT format('$.value is %s to %s %s', x.body -> 'min', x.body -> 'max', x.body ->> 'unit') INTO v_problem FROM crm_data.config AS x
         WHERE x.kind = kind AND x.key = key AND x.scope = '*' AND x.version = 1 AND x.author = 'crm' AND (body ->> 'value')::numeric NOT BETWEEN (x.body ->> 'min')::numeric AND (x.body ->> 'max')::numeric;
    END IF;
    RETURN v_problem;
END
$$;
COMMENT ON FUNCTION crm._config_problem(text, text, text, jsonb) IS 'Internal: what keeps a version from being rehearsed or proposed: errors of its body, or a shape other than the one in force; NULL for nothing.';

CREATE OR REPLACE FUNCTION crm._config_check(kind text, key text, version int, scope text, wanted text[]) RETURNS crm_data.config
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c crm_data.config;
    v_problem text;
    v_sim jsonb;
BEGIN
    PERFORM crm._require('configure');
    PERFORM crm._config_lock(kind, key, scope);
    SELECT * INTO c FROM crm_data.config AS x WHERE x.kind = kind AND x.key = key AND x.version = version AND x.scope = scope;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no version % of %/%', version, kind, key USING ERRCODE = 'undefined_object', HINT = 'SELECT kind, key, version, status FROM crm.config_list() shows the versions.';
    END IF;
    IF c.status <> ALL (wanted) THEN
        RAISE EXCEPTION 'version % of %/% is %', version, kind, key, c.status USING ERRCODE = 'RM501', HINT = 'A version goes from draft to proposed, then to canary or active, then to retired.';
    END IF;
    -- whoever wrote it did not know what came into force meanwhile, and would undo it unseen
    IF c.status = 'proposed' AND EXISTS (SELECT FROM crm_data.config AS x WHERE x.kind = kind AND x.key = key AND x.scope = scope AND x.status = 'active' AND x.version IS DISTINCT FROM c.based_on
                                            AND x.body IS DISTINCT FROM (SELECT b.body FROM crm_data.config AS b WHERE b.kind = kind AND b.key = key AND b.scope = scope AND b.version = c.based_on)) THEN
        RAISE EXCEPTION 'version % of %/% was not made from the version in force', version, kind, key USING ERRCODE = 'RM501',
            DETAIL = format('It was made from %s.', coalesce('version ' || c.based_on, 'nothing')), HINT = 'crm.config_diff shows what came into force meanwhile; save the change again on top of it with crm.config_put.';
    END IF;
    v_problem := crm._config_problem(kind, key, scope, c.body);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'version % of %/% is not valid', version, kind, key USING ERRCODE = 'RM502', DETAIL = v_problem, HINT = 'Save a corrected version with crm.config_put.';
    END IF;
    v_sim := crm.config_simulate(kind, key, version, make_interval(days => crm._setting('simulate.period', '30')::int), scope);
    IF (v_sim ->> 'blocked')::boolean THEN
        RAISE EXCEPTION 'version % of %/% would lose records', version, kind, key USING ERRCODE = 'RM503',
            DETAIL = format('Coverage goes from %s to %s percent of %s records, %s would go nowhere.', v_sim ->> 'coverage_before', v_sim ->> 'coverage', v_sim ->> 'records', coalesce(v_sim ->> 'newly_unmatched', '0')),
            HINT = 'SELECT crm.config_simulate(..) shows examples. Widen the conditions.';
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION crm._config_check(text, text, int, text, text[]) IS 'Internal: a version that may take its next step: the caller may configure, it is in one of the wanted states, valid, and its rehearsal loses nothing. Nobody else takes a step with the same configuration until the end of the transaction.';

CREATE OR REPLACE FUNCTION crm.config_propose(kind text, key text, version int, scope text DEFAULT '*') RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c crm_data.config := crm._config_check(kind, key, version, scope, '{draft}');
BEGIN
    UPDATE crm_data.config AS x SET status = 'proposed', proposed_at = now(), updated_at = now(), updated_by = session_user WHERE x.id = c.id;
END
$$;
COMMENT ON FUNCTION crm.config_propose(text, text, int, text) IS
'Proposes a draft for approval by a second person. Errors: RM501 not a draft; RM502 not valid; RM503 its rehearsal loses records; 42704 no such version; 42501 without the right to configure.';

CREATE OR REPLACE FUNCTION crm._config_activate(id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c crm_data.config;
BEGIN
    SELECT * INTO c FROM crm_data.config AS x WHERE x.id = id FOR UPDATE;
    UPDATE crm_data.config AS x SET status = 'retired', valid = tstzrange(lower(x.valid), greatest(now(), lower(x.valid))), updated_at = now(), updated_by = session_user
     WHERE x.kind = c.kind AND x.key = c.key AND x.scope = c.scope AND x.status IN ('active', 'canary') AND x.id <> id;
    UPDATE crm_data.config AS x SET status = 'active', valid = tstzrange(now(), NULL), activated_at = now(), rollout_pct = NULL, canary_until = NULL, approver = c.approver, updated_at = now(), updated_by = session_user WHERE x.id = id;
END
$$;
COMMENT ON FUNCTION crm._config_activate(bigint) IS 'Internal: makes a version the active one and retires the one before.';

CREATE OR REPLACE FUNCTION crm._second_person(author text) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF crm._actor() = author THEN
        RAISE EXCEPTION 'the author of a change cannot approve it' USING ERRCODE = 'RM504', HINT = 'Ask a second person with the right to configure.';
    END IF;
    RETURN crm._actor();
END
$$;
COMMENT ON FUNCTION crm._second_person(text) IS 'Internal: who is acting, unless that is the author.';

CREATE OR REPLACE FUNCTION crm.config_approve(kind text, key text, version int, scope text DEFAULT '*') RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c crm_data.config := crm._config_check(kind, key, version, scope, '{proposed,canary}');
BEGIN
    UPDATE crm_data.config AS x SET approver = crm._second_person(c.author) WHERE x.id = c.id;
    PERFORM crm._config_activate(c.id);
END
$$;
COMMENT ON FUNCTION crm.config_approve(text, text, int, text) IS
'Approves a proposed version and activates it at once, for everything that happens from its commit on. The approver is never the author. Errors: RM504 the author himself; RM501 not proposed, or another version came into force since it was written; RM502, RM503 as in crm.config_propose; 42501.';

CREATE OR REPLACE FUNCTION crm.config_canary(kind text, key text, version int, pct numeric DEFAULT NULL, duration interval DEFAULT NULL, scope text DEFAULT '*') RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c crm_data.config := crm._config_check(kind, key, version, scope, '{proposed}');
    v_until timestamptz := now() + coalesce(duration, make_interval(hours => crm._setting('rule.canary_hours', '72')::int));
BEGIN
    IF kind NOT IN ('assignment', 'rule', 'risk_signal') THEN
        RAISE EXCEPTION 'a % decides about no single record', kind USING ERRCODE = 'invalid_parameter_value', HINT = 'Assignments, rules and risk signals can be tried on a share; others are activated with crm.config_approve.';
    END IF;
    IF coalesce(pct, 1) <= 0 OR coalesce(pct, 1) > 50 THEN
        RAISE EXCEPTION 'a canary takes up to 50 percent, not %', pct USING ERRCODE = 'invalid_parameter_value', HINT = 'Take the default of 1 percent.';
    END IF;
    UPDATE crm_data.config AS x SET status = 'canary', approver = crm._second_person(c.author), rollout_pct = coalesce(pct, crm._setting('rule.canary_pct', '1')::numeric), canary_until = v_until,
           counters = '{"records": 0, "anomalies": 0}', updated_at = now(), updated_by = session_user WHERE x.id = c.id;
    RETURN v_until;
END
$$;
COMMENT ON FUNCTION crm.config_canary(text, text, int, numeric, interval, text) IS
'Tries a proposed version of an assignment, rule or risk signal on a share of the records, chosen by a stable hash of their key, while the version in force decides about the others; an hourly job promotes it when the time is over without an anomaly, else takes it back. Returns until when.
pct: above 0, up to 50, default rule.canary_pct. duration: default rule.canary_hours. Errors: as crm.config_approve; 22023 another kind, or an odd share.';

CREATE OR REPLACE FUNCTION crm._canary_takes(key text, record_key text, pct numeric) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (hashtextextended(key || ':' || record_key, 0) & 2147483647) % 10000 < pct * 100;
COMMENT ON FUNCTION crm._canary_takes(text, text, numeric) IS 'Internal: whether a canary decides about a record: a stable hash of both falls into its share, so the same records stay with it.';

-- The version that decides about one record: the canary for its share, else the active one.
CREATE OR REPLACE FUNCTION crm._config_for(kind text, key text, record_key text, OUT body jsonb, OUT version int, OUT id bigint, OUT canary boolean)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    SELECT c.body, c.version, c.id, c.status = 'canary' INTO body, version, id, canary FROM crm_data.config AS c
     WHERE c.kind = kind AND c.key = key AND c.scope = '*' AND (c.status = 'active' OR (c.status = 'canary' AND crm._canary_takes(key, record_key, c.rollout_pct)))
     ORDER BY c.status = 'canary' DESC LIMIT 1;
END
$$;
COMMENT ON FUNCTION crm._config_for(text, text, text) IS 'Internal: the version of a configuration that decides about one record: body, number and row; a canary for its share of the records.';

CREATE OR REPLACE FUNCTION crm._canaries(kind text, record_key text) RETURNS text[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY(SELECT c.key FROM crm_data.config AS c WHERE c.kind = _canaries.kind AND c.scope = '*' AND c.status = 'canary' AND crm._canary_takes(c.key, record_key, c.rollout_pct));
END
$$;
COMMENT ON FUNCTION crm._canaries(text, text) IS 'Internal: keys of a kind whose canary decides about a record; about all others the active versions do.';

CREATE OR REPLACE FUNCTION crm._config_count(id bigint, anomaly boolean, hit boolean DEFAULT true, changed boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO crm_data.config_trial (config_id, hit, changed, anomaly) VALUES (id, hit, changed, anomaly);
END
$$;
COMMENT ON FUNCTION crm._config_count(bigint, boolean, boolean, boolean) IS 'Internal: notes a record that a canary decided about: whether something was odd, whether it took the record, whether the version in force would have decided otherwise.';

CREATE OR REPLACE FUNCTION crm._job_config_canary(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    n record;
    v_why text;
    v_n bigint := 0;
BEGIN
    FOR c IN SELECT x.* FROM crm_data.config AS x WHERE x.status = 'canary' ORDER BY x.kind, x.key, x.scope LOOP
        -- it may have been approved or rolled back a moment ago
        PERFORM crm._config_lock(c.kind, c.key, c.scope);
        CONTINUE WHEN NOT EXISTS (SELECT FROM crm_data.config AS x WHERE x.id = c.id AND x.status = 'canary');
        WITH gone AS (DELETE FROM crm_data.config_trial AS t WHERE t.config_id = c.id RETURNING t.hit, t.changed, t.anomaly)
        SELECT count(*) + coalesce((c.counters ->> 'records')::bigint, 0) AS records, count(*) FILTER (WHERE g.hit) + coalesce((c.counters ->> 'hits')::bigint, 0) AS hits,
               count(*) FILTER (WHERE g.changed) + coalesce((c.counters ->> 'changed')::bigint, 0) AS changed, count(*) FILTER (WHERE g.anomaly) + coalesce((c.counters ->> 'anomalies')::bigint, 0) AS anomalies
          INTO n FROM gone AS g;
        UPDATE crm_data.config AS x SET counters = jsonb_build_object('records', n.records, 'hits', n.hits, 'changed', n.changed, 'anomalies', n.anomalies)
         WHERE x.id = c.id AND x.counters IS DISTINCT FROM jsonb_build_object('records', n.records, 'hits', n.hits, 'changed', n.changed, 'anomalies', n.anomalies);
        v_why := CASE WHEN n.anomalies > crm._setting('rule.canary_anomalies', '0')::bigint THEN format('%s anomalies', n.anomalies)
                      WHEN n.records >= 50 AND 100 * n.changed > n.records * crm._setting('rule.canary_shift', '50')::numeric THEN format('%s of %s decisions other than before', n.changed, n.records) END;
        IF v_why IS NOT NULL THEN
            UPDATE crm_data.config AS x SET status = 'retired', rollout_pct = NULL, note = concat_ws('; ', x.note, 'taken back: ' || v_why || ' as a canary'), updated_at = now(), updated_by = 'canary' WHERE x.id = c.id;
            INSERT INTO crm_data.alert (kind, level, message, value, dedupe_key)
            VALUES ('canary_failed', 'orange', format('Version %s of %s/%s showed %s on its share and was taken back.', c.version, c.kind, c.key, v_why), n.anomalies, 'canary:' || c.id)
            ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
            v_n := v_n + 1;
        ELSIF c.canary_until <= due THEN
            PERFORM crm._config_activate(c.id);
            v_n := v_n + 1;
        END IF;
    END LOOP;
    -- a version that was approved or replaced meanwhile is on trial no more
    DELETE FROM crm_data.config_trial AS t WHERE NOT EXISTS (SELECT FROM crm_data.config AS x WHERE x.id = t.config_id AND x.status = 'canary');
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_config_canary(timestamptz) IS 'Job: adds up what canaries decided, promotes those whose time is over without an anomaly and takes the others back, with an alert. An anomaly is an error, a record without a route, or far more decisions other than before (rule.canary_shift). Internal.';

CREATE OR REPLACE FUNCTION crm.config_rollback(kind text, key text, to_version int, scope text DEFAULT '*') RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    o crm_data.config;
    v_version int;
    v_id bigint;
BEGIN
    PERFORM crm._require('configure');
    PERFORM crm._config_lock(kind, key, scope);
    SELECT * INTO o FROM crm_data.config AS x WHERE x.kind = kind AND x.key = key AND x.version = to_version AND x.scope = scope;
    -- a canary that was taken back was approved too, but only for a share
    IF NOT FOUND OR o.valid IS NULL THEN
        RAISE EXCEPTION 'version % of %/% was never in force', to_version, kind, key USING ERRCODE = 'RM501', HINT = 'Only what was in force for everybody can be put back without a second person.';
    END IF;
    INSERT INTO crm_data.config (kind, key, scope, version, body, author, approver, note, based_on)
    SELECT kind, key, scope, max(c.version) + 1, o.body, crm._actor(), 'version ' || to_version, format('rolled back to version %s', to_version), to_version
      FROM crm_data.config AS c WHERE c.kind = kind AND c.key = key AND c.scope = scope
    RETURNING id, version INTO v_id, v_version;
    PERFORM crm._config_activate(v_id);
    RETURN v_version;
END
$$;
COMMENT ON FUNCTION crm.config_rollback(text, text, int, text) IS
'Puts an earlier version back in force at once, as a new version with its body; what was in force once needs no second approval. Returns the new number. Errors: RM501 it was never in force; 42501.';

CREATE OR REPLACE FUNCTION crm.config_as_of(at timestamptz) RETURNS TABLE (kind text, key text, scope text, version int, body jsonb)
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT ON (c.kind, c.key, c.scope) c.kind, c.key, c.scope, c.version, c.body FROM crm_data.config AS c
     WHERE c.valid @> at ORDER BY c.kind, c.key, c.scope, c.version DESC
$$;
COMMENT ON FUNCTION crm.config_as_of(timestamptz) IS 'The configuration that was in force at an instant.';

CREATE OR REPLACE FUNCTION crm.config_rollback_to(at timestamptz, kinds text[]) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c record;
    v_n int := 0;
BEGIN
    PERFORM crm._require('configure');
    IF at > now() THEN
        RAISE EXCEPTION 'the configuration of the future is not known' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an instant in the past.';
    END IF;
    FOR c IN SELECT coalesce(o.kind, n.kind) AS kind, coalesce(o.key, n.key) AS key, coalesce(o.scope, n.scope) AS scope, o.version AS old_version, n.id AS now_id
               FROM (SELECT * FROM crm.config_as_of(at) AS x WHERE x.kind = ANY (kinds)) AS o
               FULL JOIN (SELECT * FROM crm_data.config AS x WHERE x.status = 'active' AND x.kind = ANY (kinds)) AS n ON n.kind = o.kind AND n.key = o.key AND n.scope = o.scope
              WHERE o.version IS DISTINCT FROM n.version AND o.body IS DISTINCT FROM n.body
              ORDER BY 1, 2, 3 LOOP
        IF c.old_version IS NOT NULL THEN
            PERFORM crm.config_rollback(c.kind, c.key, c.old_version, c.scope);
        ELSE
            PERFORM crm._config_lock(c.kind, c.key, c.scope);
            UPDATE crm_data.config AS x SET status = 'retired', valid = tstzrange(lower(x.valid), greatest(now(), lower(x.valid))), note = concat_ws('; ', x.note, 'rolled back to before it was'), updated_at = now(), updated_by = session_user
             WHERE x.id = c.now_id AND x.status = 'active';
        END IF;
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm.config_rollback_to(timestamptz, text[]) IS
'Puts the configuration of some kinds back as it was at an instant; what did not exist then is retired. Returns how many changed. Errors: 22023 an instant in the future; 42501.';

CREATE OR REPLACE FUNCTION crm._json_diff(a jsonb, b jsonb, prefix text DEFAULT '') RETURNS TABLE (path text, old jsonb, new jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE d AS (
        SELECT prefix AS path, a AS old, b AS new
        UNION ALL
        SELECT d.path || CASE WHEN d.path = '' THEN '' ELSE '.' END || k.key, d.old -> k.key, d.new -> k.key
          FROM d CROSS JOIN LATERAL (SELECT jsonb_object_keys(d.old) AS key UNION SELECT jsonb_object_keys(d.new)) AS k
         WHERE jsonb_typeof(d.old) = 'object' AND jsonb_typeof(d.new) = 'object' AND d.old -> k.key IS DISTINCT FROM d.new -> k.key
    )
    SELECT d.path, d.old, d.new FROM d
     WHERE d.old IS DISTINCT FROM d.new AND NOT (jsonb_typeof(d.old) = 'object' AND jsonb_typeof(d.new) = 'object' AND d.old IS NOT NULL AND d.new IS NOT NULL)
$$;
COMMENT ON FUNCTION crm._json_diff(jsonb, jsonb, text) IS 'Internal: where two documents differ: path, old and new value; lists are compared as a whole.';

CREATE OR REPLACE FUNCTION crm.config_diff(kind text, key text, v1 int, v2 int, scope text DEFAULT '*') RETURNS jsonb
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(d.path, jsonb_build_array(d.old, d.new)), '{}')
      FROM crm_data.config AS a JOIN crm_data.config AS b ON b.kind = a.kind AND b.key = a.key AND b.scope = a.scope AND b.version = v2
     CROSS JOIN LATERAL crm._json_diff(a.body, b.body) AS d
     WHERE a.kind = config_diff.kind AND a.key = config_diff.key AND a.scope = config_diff.scope AND a.version = v1
$$;
COMMENT ON FUNCTION crm.config_diff(text, text, int, int, text) IS 'Where two versions differ: {path: [old, new]}; {} when they do not, or when one does not exist.';

CREATE OR REPLACE FUNCTION crm.config_list(kind text DEFAULT NULL)
    RETURNS TABLE (kind text, key text, scope text, version int, status text, author text, approver text, valid tstzrange, rollout_pct numeric, counters jsonb, note text, created_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.kind, c.key, c.scope, c.version, c.status, c.author, c.approver, c.valid, c.rollout_pct, c.counters, c.note, c.created_at
      FROM crm_data.config AS c WHERE config_list.kind IS NULL OR c.kind = config_list.kind ORDER BY c.kind, c.key, c.scope, c.version
$$;
COMMENT ON FUNCTION crm.config_list(text) IS 'All versions of the configuration with who made and approved them and when they were in force. kind: only this one.';

CREATE OR REPLACE FUNCTION crm._bundle_signature(items jsonb) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_key bytea := (SELECT CASE WHEN length(s.value) > 64 THEN sha256(s.value) ELSE s.value END FROM crm_data.secret AS s WHERE s.name = 'bundle' AND coalesce(s.valid_to, 'infinity') > now());
    v_inner bytea := '';
    v_outer bytea := '';
    v_byte int;
BEGIN
    IF v_key IS NULL THEN
        RETURN NULL;
    END IF;
    -- HMAC-SHA256 (RFC 2104)
    FOR i IN 0 .. 63 LOOP
        v_byte := CASE WHEN i < length(v_key) THEN get_byte(v_key, i) ELSE 0 END;
        v_inner := v_inner || set_byte('\x00', 0, v_byte # 54);
        v_outer := v_outer || set_byte('\x00', 0, v_byte # 92);
    END LOOP;
    RETURN encode(sha256(v_outer || sha256(v_inner || convert_to(items::text, 'UTF8'))), 'hex');
END
$$;
COMMENT ON FUNCTION crm._bundle_signature(jsonb) IS 'Internal: what the items of a bundle are signed with, by the secret bundle, which installations that trust each other share; NULL where there is none.';

CREATE OR REPLACE FUNCTION crm.config_export(keys text[] DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_items jsonb;
    v_missing text;
BEGIN
    PERFORM crm._require_role('crm_admin');
    SELECT string_agg(k, ', ') INTO v_missing FROM unnest(keys) AS k WHERE NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.status = 'active' AND c.kind || '/' || c.key LIKE k);
    IF v_missing IS NOT NULL THEN
        RAISE EXCEPTION 'there is no active configuration %', v_missing USING ERRCODE = 'undefined_object', HINT = 'Keys are kind/key, for example rule/sms_escalation; rule/% takes all of a kind.';
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_object('kind', c.kind, 'key', c.key, 'scope', c.scope, 'body', c.body) ORDER BY c.kind, c.key, c.scope), '[]') INTO v_items
      FROM crm_data.config AS c WHERE c.status = 'active' AND (keys IS NULL OR EXISTS (SELECT FROM unnest(keys) AS k WHERE c.kind || '/' || c.key LIKE k));
    RETURN jsonb_build_object('format', 'crm-config-1', 'items', v_items, 'digest', encode(sha256(convert_to(v_items::text, 'UTF8')), 'hex'))
        || CASE WHEN crm._bundle_signature(v_items) IS NOT NULL THEN jsonb_build_object('signature', crm._bundle_signature(v_items)) ELSE '{}' END;
END
$$;
COMMENT ON FUNCTION crm.config_export(text[]) IS
'Active configuration as one document, to be carried to another installation: {"format", "items", "digest"}, and "signature" (HMAC-SHA256, RFC 2104, of the items as text) where this one has the secret bundle. keys: kind/key, with % as a wildcard; NULL: all. Errors: 42704 a key that fits nothing.';

CREATE OR REPLACE FUNCTION crm.config_import(bundle jsonb, note text DEFAULT 'imported') RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i record;
    v_problem text;
    v_n int := 0;
BEGIN
    PERFORM crm._require('configure');
    IF jsonb_typeof(bundle) <> 'object' OR bundle ->> 'format' IS DISTINCT FROM 'crm-config-1' THEN
        RAISE EXCEPTION 'this is no bundle of this version: %', coalesce(bundle ->> 'format', 'it states no format') USING ERRCODE = 'RM505', HINT = 'Bundles are made by crm.config_export of the same release.';
    END IF;
    IF jsonb_typeof(bundle -> 'items') IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'the bundle has no items' USING ERRCODE = 'RM505', HINT = 'Bundles are made by crm.config_export of the same release.';
    END IF;
    IF bundle ->> 'digest' IS DISTINCT FROM encode(sha256(convert_to((bundle -> 'items')::text, 'UTF8')), 'hex') THEN
        RAISE EXCEPTION 'the bundle was changed on its way' USING ERRCODE = 'RM505', HINT = 'Export it again.';
    END IF;
    -- whoever has the key takes only what is signed with it
    IF bundle ->> 'signature' IS DISTINCT FROM crm._bundle_signature(bundle -> 'items') AND crm._bundle_signature(bundle -> 'items') IS NOT NULL THEN
        RAISE EXCEPTION 'the bundle is not signed with the key of this installation' USING ERRCODE = 'RM505', HINT = 'Installations that take bundles of each other have the same secret: the row bundle of crm_data.secret.';
    END IF;
    -- nothing of a bundle is taken unless all of it is good
    SELECT string_agg(format('%s/%s %s %s', x.value ->> 'kind', x.value ->> 'key', v.path, v.message), '; ') INTO v_problem
      FROM jsonb_array_elements(bundle -> 'items') AS x (value) CROSS JOIN LATERAL crm.config_validate(x.value ->> 'kind', x.value -> 'body') AS v WHERE v.severity = 'error';
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'the bundle holds something that is not valid' USING ERRCODE = 'RM502', DETAIL = v_problem, HINT = 'Correct it where it was exported.';
    END IF;
    FOR i IN SELECT x.value ->> 'kind' AS kind, x.value ->> 'key' AS key, coalesce(x.value ->> 'scope', '*') AS scope, x.value -> 'body' AS body FROM jsonb_array_elements(bundle -> 'items') AS x (value) LOOP
        CONTINUE WHEN EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = i.kind AND c.key = i.key AND c.scope = i.scope AND c.status = 'active' AND c.body = i.body);
        PERFORM crm.config_put(i.kind, i.key, i.body, note, i.scope);
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm.config_import(jsonb, text) IS
'Saves what a bundle has and this installation has not, as drafts: they are proposed and approved like any other. Returns how many. All or nothing.
Errors: RM505 another format, changed on its way, or, where this installation has the secret bundle, not signed with it; RM502 something in it is not valid; 42501.';

CREATE OR REPLACE FUNCTION crm._config_fixed() RETURNS trigger
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- a superuser repairs by hand what he must; the engine and people never do
    IF (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a version of the configuration never changes' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Save a new one with crm.config_put.';
END
$$;
COMMENT ON FUNCTION crm._config_fixed() IS 'Trigger of config: what a version says never changes, only its status. Internal.';
DROP TRIGGER IF EXISTS config_fixed ON crm_data.config;
CREATE TRIGGER config_fixed BEFORE UPDATE ON crm_data.config FOR EACH ROW
    WHEN (OLD.body IS DISTINCT FROM NEW.body OR OLD.kind <> NEW.kind OR OLD.key <> NEW.key OR OLD.scope <> NEW.scope OR OLD.version <> NEW.version OR OLD.author <> NEW.author)
    EXECUTE FUNCTION crm._config_fixed();
COMMENT ON TRIGGER config_fixed ON crm_data.config IS 'What a version says never changes.';
DROP TRIGGER IF EXISTS config_changed ON crm_data.config;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON crm_data.config FOR EACH ROW EXECUTE FUNCTION crm._policy_changed();
ALTER TABLE crm_data.config ENABLE ALWAYS TRIGGER config_changed;
COMMENT ON TRIGGER config_changed ON crm_data.config IS 'Tells every backend to read the configuration again.';

-- ---------------------------------------------------------------- words that people choose from

CREATE OR REPLACE FUNCTION crm.choices(what text) RETURNS TABLE (key text, label text)
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.key, coalesce(v.label ->> l.locale, v.label ->> 'en', v.label ->> 'zh', v.key)
      FROM (SELECT coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en') AS locale) AS l,
           (SELECT x.value ->> 'key' AS key, x.value AS label, x.ord FROM crm_data.config AS c CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'values') WITH ORDINALITY AS x (value, ord)
             WHERE c.kind = 'picklist' AND c.key = what AND c.scope = '*' AND c.status = 'active'
            UNION ALL
            SELECT c.key, c.body -> 'label', row_number() OVER (ORDER BY c.id) FROM crm_data.config AS c WHERE c.kind = what AND what IN ('tag', 'touch_preset') AND c.scope = '*' AND c.status = 'active') AS v
     ORDER BY v.ord
$$;
COMMENT ON FUNCTION crm.choices(text) IS
'What a person may choose from, in order, with the name in his language: the values of a picklist (key_progress, industry, lost_reason ..), tag for the tags, touch_preset for the buttons after a conversation. No row: there is no such list.';

CREATE OR REPLACE FUNCTION crm.tag_put(tag text, label jsonb DEFAULT NULL, enabled boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_body jsonb := jsonb_build_object('label', coalesce(label, jsonb_build_object('zh', tag)), 'objects', '["account"]'::jsonb);
    v_id bigint;
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_manager', 'crm_steward', 'crm_marketing');
    IF coalesce(tag, '') = '' OR tag <> btrim(tag) OR length(tag) > 60 OR jsonb_typeof(label) <> 'object' OR jsonb_path_exists(coalesce(label, '{}'), '$.* ? (@.type() != "string")') THEN
        RAISE EXCEPTION 'a tag is a text of up to 60 characters, without blanks around it, and its label an object of texts' USING ERRCODE = 'invalid_parameter_value', HINT = 'crm.tag_put(''光伏电站业主'', ''{"en": "Solar plant owner"}'').';
    END IF;
    -- a word of the house binds nobody: it needs no second person, and is there for everybody from the commit on
    PERFORM crm._config_lock('tag', tag, '*');
    IF NOT enabled THEN
        IF EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.status IN ('active', 'canary') AND c.body -> 'then' @> jsonb_build_array(jsonb_build_object('do', 'tag', 'tag', tag))) THEN
            RAISE EXCEPTION 'a rule in force gives the tag "%"', tag USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Change the rule first: SELECT key, body FROM crm.config_as_of(now()) WHERE kind = ''rule'' shows the rules.';
        END IF;
        UPDATE crm_data.config AS c SET status = 'retired', valid = tstzrange(lower(c.valid), greatest(now(), lower(c.valid))), updated_at = now(), updated_by = session_user WHERE c.kind = 'tag' AND c.key = tag AND c.scope = '*' AND c.status = 'active';
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no tag "%"', tag USING ERRCODE = 'undefined_object', HINT = 'SELECT key FROM crm.choices(''tag'') lists the tags.';
        END IF;
    ELSIF NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'tag' AND c.key = tag AND c.scope = '*' AND c.status = 'active' AND (c.body = v_body OR label IS NULL)) THEN
        INSERT INTO crm_data.config (kind, key, scope, version, body, author, approver, based_on)
        SELECT 'tag', tag, '*', coalesce(max(c.version), 0) + 1, v_body, crm._actor(), 'tags need no approval', max(c.version) FILTER (WHERE c.status = 'active') FROM crm_data.config AS c WHERE c.kind = 'tag' AND c.key = tag AND c.scope = '*'
        -- somebody else added it at the same moment
        ON CONFLICT ON CONSTRAINT config_kind_key_scope_version_key DO NOTHING
        RETURNING config.id INTO v_id;
        IF v_id IS NOT NULL THEN
            PERFORM crm._config_activate(v_id);
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION crm.tag_put(text, jsonb, boolean) IS
'Adds a tag for customers, or gives it another name: managers, marketing and stewards do so themselves, without a second person, and it can be used from the commit on. enabled false takes it out of the list; customers that have it keep it. The same again changes nothing.
tag: up to 60 characters. label: {"en", "zh"}, by default the tag itself. Not STRICT: label may be NULL. Errors: 22023 no tag, or a label of another form; 42704 no such tag to take out; 2BP01 a rule gives it; 42501.';

CREATE OR REPLACE FUNCTION crm._tags_known() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_bad text;
BEGIN
    -- people choose; what other systems and repairs bring is as it is. What a customer has already may go on to another, as when two become one.
    IF crm.me() IS NULL OR crm.has_role('crm_sync') THEN
        RETURN NEW;
    END IF;
    SELECT string_agg(t, ', ') INTO v_bad FROM unnest(NEW.tags) AS t
     WHERE NOT (TG_OP = 'UPDATE' AND t = ANY (OLD.tags)) AND NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'tag' AND c.key = t AND c.scope = '*' AND c.status = 'active')
       -- one that he knows of: that another carries it says something about that one
       AND NOT EXISTS (SELECT FROM crm_data.account AS a WHERE a.tags @> ARRAY[t] AND a.deleted_at IS NULL AND crm.row_visible('account', 'read', a.owner_id, a.team_id, a.grade)
                          AND crm._field_allowed('read', (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'account' AND f.name = 'tags' AND NOT f.custom), a.owner_id, a.team_id));
    IF v_bad IS NOT NULL THEN
        RAISE EXCEPTION 'there is no tag "%"', v_bad USING ERRCODE = 'check_violation', HINT = 'SELECT key FROM crm.choices(''tag'') lists the tags; managers add one with crm.tag_put.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._tags_known() IS 'Trigger of account: a person gives a customer only tags of the dictionary. Internal.';
-- two triggers: only an update has tags of before
DROP TRIGGER IF EXISTS config_tags_insert ON crm_data.account;
CREATE TRIGGER config_tags_insert BEFORE INSERT ON crm_data.account FOR EACH ROW WHEN (NEW.tags <> '{}') EXECUTE FUNCTION crm._tags_known();
COMMENT ON TRIGGER config_tags_insert ON crm_data.account IS 'Tags are of the dictionary.';
DROP TRIGGER IF EXISTS config_tags_update ON crm_data.account;
CREATE TRIGGER config_tags_update BEFORE UPDATE ON crm_data.account FOR EACH ROW WHEN (NEW.tags <> OLD.tags) EXECUTE FUNCTION crm._tags_known();
COMMENT ON TRIGGER config_tags_update ON crm_data.account IS 'Tags are of the dictionary.';
