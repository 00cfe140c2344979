-- Rules: event, condition over the feature document, window, actions. One engine, no SQL of users; each rule fires once for what it says.

CREATE OR REPLACE FUNCTION crm._emit(kind text, object text, record_id bigint, event jsonb DEFAULT '{}', at timestamptz DEFAULT now()) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.status IN ('active', 'canary') AND c.body ->> 'on' = kind) THEN
        INSERT INTO crm_data.rule_event (kind, object, record_id, event, at) VALUES (kind, object, record_id, event, at);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._emit(text, text, bigint, jsonb, timestamptz) IS 'Internal: tells the rules that something happened to a record, if any listens; the next tick looks at it.';

CREATE OR REPLACE FUNCTION crm._rule_value(value jsonb) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN jsonb_typeof(value) = 'object' AND value ? 'setting'
                THEN (SELECT c.body -> 'value' FROM crm_data.config AS c WHERE c.kind = 'setting' AND c.key = value ->> 'setting' AND c.scope = '*' AND c.status = 'active') ELSE value END
$$;
COMMENT ON FUNCTION crm._rule_value(jsonb) IS 'Internal: a figure of a rule, or the setting that holds it.';

CREATE OR REPLACE FUNCTION crm._rule_vars(body jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- (every rule asks for every record: in this language the plan is kept)
    IF NOT body ? 'settings' THEN
        RETURN '{}';
    END IF;
    RETURN (SELECT coalesce(jsonb_object_agg(s.key, c.body -> 'value'), '{}')
              FROM jsonb_each_text(body -> 'settings') AS s JOIN crm_data.config AS c ON c.kind = 'setting' AND c.key = s.value AND c.scope = '*' AND c.status = 'active');
END
$$;
COMMENT ON FUNCTION crm._rule_vars(jsonb) IS 'Internal: the variables of a rule''s path: the settings that it names.';

CREATE OR REPLACE FUNCTION crm._rule_holds(body jsonb, doc jsonb) RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN jsonb_path_exists(doc, (body ->> 'when')::jsonpath, CASE WHEN body ? 'settings' THEN crm._rule_vars(body) ELSE '{}' END, true);
END
$$;
COMMENT ON FUNCTION crm._rule_holds(jsonb, jsonb) IS 'Internal: whether the condition of a rule or signal finds something in a document; a missing field is never a match.';

CREATE OR REPLACE FUNCTION crm._rule_delay(body jsonb) RETURNS interval
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN jsonb_typeof(body -> 'delay') = 'object' THEN make_interval(days => (crm._rule_value(body -> 'delay') #>> '{}')::int) ELSE coalesce((body ->> 'delay')::interval, '0') END
$$;
COMMENT ON FUNCTION crm._rule_delay(jsonb) IS 'Internal: the delay of a rule, which may be a setting in days.';

CREATE OR REPLACE FUNCTION crm._deal_of(account bigint, code text) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.id FROM crm_data.opportunity AS o WHERE o.code = _deal_of.code AND o.account_id = account AND o.deleted_at IS NULL
$$;
COMMENT ON FUNCTION crm._deal_of(bigint, text) IS 'Internal: the deal of a customer with a code.';

CREATE OR REPLACE FUNCTION crm._rule_people(target text, owner bigint) RETURNS bigint[]
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN target = 'owner' THEN array_remove(ARRAY[crm._stand_in(owner)], NULL)
                WHEN target = 'manager' THEN array_remove(ARRAY[crm._manager_of(owner)], NULL)
                WHEN target = 'director' THEN crm._members_with('{crm_director}')
                WHEN target = 'steward' THEN crm._members_with('{crm_steward}')
                WHEN target LIKE 'role:%' THEN crm._members_with(ARRAY[substr(target, 6)])
                ELSE '{}' END
$$;
COMMENT ON FUNCTION crm._rule_people(text, bigint) IS 'Internal: whom an action is for: owner, his manager, director, steward, role:<role>.';

CREATE OR REPLACE FUNCTION crm._least_loaded(members bigint[], salt bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cardinality(members) <= 1 THEN
        RETURN members[1];
    END IF;
    RETURN (SELECT f.id FROM (SELECT m AS id FROM unnest(members) AS m ORDER BY hashint8extended(m, salt) LIMIT 8) AS f
             CROSS JOIN LATERAL (SELECT count(*) AS n FROM crm_data.task AS t WHERE t.owner_id = f.id AND t.state = 'open') AS k ORDER BY k.n, f.id LIMIT 1);
END
$$;
COMMENT ON FUNCTION crm._least_loaded(bigint[], bigint) IS 'Internal: of some members, of whom eight are drawn by a number if they are more, the one with the fewest open tasks.';

CREATE OR REPLACE FUNCTION crm._rule_act(rule text, version int, body jsonb, object text, id bigint, event jsonb, key text) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    a jsonb;
    n int := 0;
    v_owner bigint;
    v_team bigint;
    v_account bigint;
    v_locale text;
    v_people bigint[];
    v_text text;
    v_dedupe text;
    c record;
BEGIN
    CASE object
    WHEN 'account' THEN
        SELECT k.owner_id, k.team_id, k.id INTO v_owner, v_team, v_account FROM crm_data.account AS k WHERE k.id = id;
    WHEN 'opportunity' THEN
        SELECT o.owner_id, o.team_id, o.account_id INTO v_owner, v_team, v_account FROM crm_data.opportunity AS o WHERE o.id = id;
    WHEN 'lead' THEN
        SELECT l.owner_id, l.team_id, l.account_id INTO v_owner, v_team, v_account FROM crm_data.lead AS l WHERE l.id = id;
    WHEN 'contract' THEN
        SELECT k.owner_id, k.team_id, k.id INTO v_owner, v_team, v_account FROM crm_data.contract AS t JOIN crm_data.account AS k ON k.id = t.account_id WHERE t.id = id;
    ELSE
        NULL;
    END CASE;
    v_locale := coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = v_owner), 'zh');
    FOR a IN SELECT x.value FROM jsonb_array_elements(body -> 'then') AS x (value) LOOP
        n := n + 1;
        v_dedupe := format('rule:%s:%s', key, n);
        v_text := coalesce(a ->> v_locale, a ->> 'en', body ->> v_locale, body ->> 'en', rule);
        v_people := crm._rule_people(coalesce(a ->> 'to', 'owner'), v_owner);
        CASE a ->> 'do'
        WHEN 'task', 'ticket' THEN
            INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, priority, rule_key, rule_version, dedupe_key, owner_id, team_id)
            VALUES (coalesce(a ->> 'kind', CASE a ->> 'do' WHEN 'ticket' THEN 'case' ELSE 'follow_up' END), CASE WHEN object = 'contract' THEN 'account' ELSE object END, CASE WHEN object = 'contract' THEN v_account ELSE id END, v_account, v_text,
                    now() + (a ->> 'due')::interval, least(9, coalesce((a ->> 'priority')::int, 3) + coalesce((a ->> 'raise_priority')::int, 0)), rule, version, v_dedupe, coalesce(crm._least_loaded(v_people, id), crm._stand_in(v_owner), v_owner), v_team)
            ON CONFLICT (dedupe_key) DO NOTHING;
        WHEN 'message' THEN
            IF a ->> 'to' LIKE 'contact:%' THEN
                INSERT INTO crm_data.outbox (topic, channel, address, account_id, payload, dedupe_key)
                SELECT a ->> 'topic', 'email', k.email, v_account, jsonb_build_object('content', a ->> 'content'), v_dedupe || ':' || k.id
                  FROM crm_data.contact AS k WHERE k.account_id = v_account AND k.role_in_decision = substr(a ->> 'to', 9) AND k.email IS NOT NULL AND NOT 'email' = ANY (k.opt_out) AND k.deleted_at IS NULL AND k.merged_into IS NULL
                ON CONFLICT (dedupe_key) DO NOTHING;
            ELSE
                PERFORM crm._notify(a ->> 'topic', v_dedupe, jsonb_strip_nulls(jsonb_build_object('rule', rule, 'title', v_text, 'object', object, 'record', id, 'content', a ->> 'content')), v_people, v_account);
            END IF;
        WHEN 'alert' THEN
            INSERT INTO crm_data.alert (kind, level, object, record_id, account_id, message, factors, owner_id, team_id, dedupe_key)
            VALUES (coalesce(a ->> 'kind', rule), coalesce(a ->> 'level', 'info'), object, id, v_account, coalesce(body ->> v_locale, body ->> 'en', rule), jsonb_build_array(jsonb_build_object('rule', rule, 'version', version)), v_owner, v_team, v_dedupe)
            ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
        WHEN 'tag' THEN
            UPDATE crm_data.account AS k SET tags = k.tags || (a ->> 'tag'), updated_at = now() WHERE k.id = v_account AND NOT (a ->> 'tag') = ANY (k.tags);
        WHEN 'hold_discount' THEN
            UPDATE crm_data.opportunity AS o SET discount_hold = (a ->> 'hold')::boolean WHERE object = 'opportunity' AND o.id = id AND o.discount_hold IS DISTINCT FROM (a ->> 'hold')::boolean;
        WHEN 'assign' THEN
            IF object = 'lead' THEN
                PERFORM crm.assign_lead(id, CASE WHEN a ->> 'exclude' = 'previous' THEN array_remove(ARRAY[v_owner], NULL) ELSE '{}' END);
            END IF;
        WHEN 'set' THEN
            -- only what the engine itself derives may be set by a rule; people's fields change through people
            IF object = 'account' AND a ->> 'field' = 'lifecycle' THEN
                UPDATE crm_data.account AS k SET lifecycle = a ->> 'value', updated_at = now() WHERE k.id = id;
            END IF;
        WHEN 'interaction' THEN
            INSERT INTO crm_data.interaction (account_id, opportunity_id, lead_id, kind, channel, direction, occurred_at, summary, depth, auto, client_key, detail, quality, owner_id, team_id)
            SELECT v_account, crm._deal_of(v_account, event ->> 'opportunity_code'), CASE WHEN object = 'lead' THEN id END, coalesce(a ->> 'kind', 'note'), event ->> 'channel', 'out', coalesce((event ->> 'occurred_at')::timestamptz, now()), v_text || coalesce(': ' || left(event ->> 'file_name', 300), ''), a ->> 'depth', true, v_dedupe, event,
                   crm._touch_quality(coalesce(a ->> 'kind', 'note'), NULL, a ->> 'depth', NULL, NULL), v_owner, v_team
             WHERE v_account IS NOT NULL OR object = 'lead'
            ON CONFLICT (client_key) DO NOTHING;
        WHEN 'signal_tasks' THEN
            -- the heaviest signals that hold say what to do first
            INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, priority, rule_key, rule_version, dedupe_key, owner_id, team_id)
            SELECT 'risk_action', object, id, v_account, coalesce(s.action ->> v_locale, s.action ->> 'en', s.signal), now() + make_interval(hours => coalesce((crm._rule_value(a -> 'hours') #>> '{}')::int, 48)), 7, rule, version, v_dedupe || ':' || s.signal, coalesce(crm._stand_in(v_owner), v_owner), v_team
              FROM (SELECT y.signal, y.action FROM crm._risk_signals(id, now()) AS y ORDER BY y.weight DESC, y.signal LIMIT coalesce((crm._rule_value(a -> 'count') #>> '{}')::int, 3)) AS s
             -- what is still to be done from a level before is not to be done twice
             WHERE NOT EXISTS (SELECT FROM crm_data.task AS t WHERE t.object = object AND t.record_id = id AND t.kind = 'risk_action' AND t.state = 'open' AND right(t.dedupe_key, length(s.signal) + 1) = ':' || s.signal)
            ON CONFLICT (dedupe_key) DO NOTHING;
        WHEN 'chain' THEN
            FOR c IN SELECT x.key AS k, x.version AS v, x.body AS b FROM crm_data.config AS x WHERE x.kind = 'rule' AND x.key = a ->> 'rule' AND x.status = 'active' AND x.body ->> 'on' = 'chain' LOOP
                PERFORM crm._rule_act(c.k, c.v, c.b, object, id, event, key || '>' || c.k);
            END LOOP;
        ELSE
            NULL;       -- validation knows no other
        END CASE;
    END LOOP;
    RETURN n;
END
$$;
COMMENT ON FUNCTION crm._rule_act(text, int, jsonb, text, bigint, jsonb, text) IS 'Internal: runs the actions of a rule on a record; each leaves a key, so that a repetition does nothing.';

-- Does a condition see more than the event? Then it needs the feature document, which costs.
CREATE OR REPLACE FUNCTION crm._needs_features(path text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN path ~ '\$\.(?!event\M)|@\.(account|opportunity|contract|lead)\M';
COMMENT ON FUNCTION crm._needs_features(text) IS 'Internal: whether a condition looks at more than the event itself.';

CREATE OR REPLACE FUNCTION crm._run_rule(rule text, version int, body jsonb, delayed boolean, object text, id bigint, event jsonb, at timestamptz, paths text, INOUT doc jsonb, OUT holds boolean, OUT acted boolean)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_key text;
    v_within interval;
    v_count int;
    v_id bigint;
    v_at timestamptz;
BEGIN
    acted := false;
    IF NOT doc ? 'features' AND crm._needs_features(body ->> 'when') THEN
        doc := doc || coalesce(crm._features(object, id, at, paths), '{}') || '{"features": true}';
    END IF;
    holds := crm._rule_holds(body, doc);
    v_key := format('%s:%s:%s', rule, object, id) || CASE CASE WHEN body ->> 'on' LIKE 'date.%' THEN 'record' ELSE body ->> 'once' END
        WHEN 'record' THEN ':' || coalesce(event ->> 'id', event ->> 'dedupe', '')
        WHEN 'stage' THEN ':' || coalesce(doc #>> '{opportunity,stage_id}', doc #>> '{journey,node}', '') ELSE '' END;
    IF NOT holds THEN
        IF body ->> 'once' = 'breach' THEN
            UPDATE crm_data.rule_match AS m SET cleared_at = at WHERE m.key = v_key AND m.fired AND m.cleared_at IS NULL;
        END IF;
        RETURN;
    END IF;
    IF NOT delayed AND body ? 'delay' THEN
        -- counted from when it happened, however late it was told; what is long over is no news
        v_at := coalesce((event ->> 'occurred_at')::timestamptz, at) + crm._rule_delay(body);
        INSERT INTO crm_data.rule_event (kind, object, record_id, event, at) SELECT 'rule:' || rule, object, id, event, v_at WHERE v_at > at - interval '7 days';
        RETURN;
    END IF;
    v_within := (body #>> '{window,within}')::interval;
    IF v_within IS NOT NULL THEN
        INSERT INTO crm_data.rule_match (rule, version, object, record_id, key, at) VALUES (rule, version, object, id, v_key, at);
        SELECT count(*) INTO v_count FROM crm_data.rule_match AS m WHERE m.object = object AND m.record_id = id AND m.rule = rule AND NOT m.fired AND m.at > at - v_within AND m.at <= at;
        -- once a window: not again before the one that fired is over
        IF v_count < coalesce((crm._rule_value(body #> '{window,count}') #>> '{}')::int, 1)
           OR EXISTS (SELECT FROM crm_data.rule_match AS m WHERE m.object = object AND m.record_id = id AND m.rule = rule AND m.fired AND m.at > at - v_within) THEN
            RETURN;
        END IF;
        v_key := v_key || ':' || extract(epoch FROM at);
    END IF;
    INSERT INTO crm_data.rule_match (rule, version, object, record_id, key, at, fired) VALUES (rule, version, object, id, v_key, at, true)
    ON CONFLICT (key) WHERE fired AND cleared_at IS NULL DO NOTHING RETURNING rule_match.id INTO v_id;
    IF v_id IS NOT NULL THEN
        -- a breach that comes back is a new one for the keys that actions leave
        PERFORM crm._rule_act(rule, version, body, object, id, event, v_key || CASE WHEN body ->> 'once' = 'breach' THEN ':' || v_id ELSE '' END);
        acted := true;
    END IF;
END
$$;
COMMENT ON FUNCTION crm._run_rule(text, int, jsonb, boolean, text, bigint, jsonb, timestamptz, text, jsonb) IS 'Internal: lets one version of a rule look at a record; delayed: its delay is over. paths: the conditions of all rules on the event. doc collects the feature document once one rule needs it.';

CREATE OR REPLACE FUNCTION crm._run_rules(kind text, object text, id bigint, event jsonb, at timestamptz DEFAULT now()) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r record;
    o record;
    v_old record;
    doc jsonb := jsonb_build_object('event', event);
    v_fired int := 0;
    v_rule text := CASE WHEN kind LIKE 'rule:%' THEN substr(kind, 6) END;
    v_ids bigint[];
    v_trial text[];
    v_paths text;
BEGIN
    IF v_rule IS NOT NULL THEN
        v_ids := ARRAY(SELECT c.id FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.key = v_rule AND c.scope = '*' AND c.status IN ('active', 'canary'));
    ELSE
        v_ids := ARRAY(SELECT c.id FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.body ->> 'on' = kind AND c.scope = '*' AND c.status IN ('active', 'canary'));
    END IF;
    IF v_ids = '{}' THEN
        RETURN 0;
    END IF;
    v_trial := crm._canaries('rule', object || ':' || id);
    SELECT string_agg((c.body ->> 'when') || CASE WHEN c.body ->> 'once' = 'stage' THEN ' journey' ELSE '' END, ' ') INTO v_paths FROM crm_data.config AS c WHERE c.id = ANY (v_ids);
    FOR r IN SELECT c.id, c.key, c.version, c.body, c.status = 'canary' AS trial FROM crm_data.config AS c
              WHERE c.id = ANY (v_ids) AND (c.status = 'canary') = (c.key = ANY (v_trial)) ORDER BY c.key LOOP
        IF NOT r.trial THEN
            SELECT * INTO o FROM crm._run_rule(r.key, r.version, r.body, v_rule IS NOT NULL, object, id, event, at, v_paths, doc);
            doc := o.doc;
            v_fired := v_fired + o.acted::int;
            CONTINUE;
        END IF;
        -- a version on trial: what it gets wrong is counted, and the one in force stands in for it
        SELECT c.version, c.body INTO v_old FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.key = r.key AND c.scope = '*' AND c.status = 'active';
        BEGIN
            SELECT * INTO o FROM crm._run_rule(r.key, r.version, r.body, v_rule IS NOT NULL, object, id, event, at, v_paths, doc);
            doc := o.doc;
            v_fired := v_fired + o.acted::int;
            IF v_old.body IS NOT NULL AND NOT doc ? 'features' AND crm._needs_features(v_old.body ->> 'when') THEN
                doc := doc || coalesce(crm._features(object, id, at, v_paths), '{}') || '{"features": true}';
            END IF;
            PERFORM crm._config_count(r.id, false, o.holds, o.holds IS DISTINCT FROM coalesce(v_old.body ->> 'on' = r.body ->> 'on' AND crm._rule_holds(v_old.body, doc), false));
        EXCEPTION WHEN OTHERS THEN
            PERFORM crm._config_count(r.id, true, false, false);
            IF v_old.body IS NOT NULL THEN
                SELECT * INTO o FROM crm._run_rule(r.key, v_old.version, v_old.body, v_rule IS NOT NULL, object, id, event, at, v_paths, doc);
                doc := o.doc;
                v_fired := v_fired + o.acted::int;
            END IF;
        END;
    END LOOP;
    RETURN v_fired;
END
$$;
COMMENT ON FUNCTION crm._run_rules(text, text, bigint, jsonb, timestamptz) IS 'Internal: lets all rules on an event look at a record, each by the version that decides about that record; returns how many fired. Rules that see only the event cost no feature document.';

CREATE OR REPLACE FUNCTION crm._take_rule_events(lim int) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    e record;
    v_n int := 0;
BEGIN
    FOR e IN SELECT x.* FROM crm_data.rule_event AS x WHERE x.at <= now() AND x.attempts < 3 ORDER BY x.at, x.id LIMIT lim FOR UPDATE SKIP LOCKED LOOP
        BEGIN
            PERFORM crm._run_rules(e.kind, e.object, e.record_id, e.event || jsonb_build_object('dedupe', e.id), now());
            DELETE FROM crm_data.rule_event AS x WHERE x.id = e.id;
        EXCEPTION WHEN OTHERS THEN
            UPDATE crm_data.rule_event AS x SET attempts = x.attempts + 1, error = left(SQLERRM, 500), at = now() + interval '5 minutes' WHERE x.id = e.id;
            IF e.attempts >= 2 THEN
                INSERT INTO crm_data.alert (kind, level, object, record_id, message, dedupe_key)
                VALUES ('rule_failed', 'orange', e.object, e.record_id, format('What the rules should do about %s failed three times and waits in rule_event, with the reason.', e.kind), 'rule_failed:' || e.kind)
                ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
            END IF;
        END;
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._take_rule_events(int) IS 'Internal: takes some events from the queue of the rules; what fails three times stays there, with an alert. Returns how many were taken.';

-- ---------------------------------------------------------------- risk

CREATE OR REPLACE FUNCTION crm._risk_signals(deal bigint, at timestamptz) RETURNS TABLE (signal text, weight int, action jsonb)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- only what the signals name
    doc jsonb := crm._features('opportunity', deal, at, (SELECT string_agg(c.body ->> 'when', ' ') FROM crm_data.config AS c WHERE c.kind = 'risk_signal' AND c.scope = '*' AND c.status IN ('active', 'canary')));
    v_trial text[] := crm._canaries('risk_signal', 'opportunity:' || deal);
BEGIN
    RETURN QUERY
    SELECT c.key, (c.body ->> 'weight')::int, c.body -> 'then' -> 0 FROM crm_data.config AS c
     WHERE c.kind = 'risk_signal' AND c.scope = '*' AND c.status IN ('active', 'canary') AND (c.status = 'canary') = (c.key = ANY (v_trial))
       AND crm._rule_holds(c.body, doc);
END
$$;
COMMENT ON FUNCTION crm._risk_signals(bigint, timestamptz) IS 'Internal: the risk signals that hold for a deal, each by the version that decides about it, with their weight and first action.';

CREATE OR REPLACE FUNCTION crm._try_signals(deal bigint, at timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_trial text[] := crm._canaries('risk_signal', 'opportunity:' || deal);
    doc jsonb;
BEGIN
    IF v_trial = '{}' THEN
        RETURN;
    END IF;
    doc := crm._features('opportunity', deal, at);
    PERFORM crm._config_count(t.id, false, t.new, t.new IS DISTINCT FROM t.old)
       FROM (SELECT c.id, crm._rule_holds(c.body, doc) AS new,
                    coalesce((SELECT crm._rule_holds(k.body, doc) FROM crm_data.config AS k
                               WHERE k.kind = c.kind AND k.key = c.key AND k.scope = c.scope AND k.status = 'active'), false) AS old
               FROM crm_data.config AS c WHERE c.kind = 'risk_signal' AND c.scope = '*' AND c.status = 'canary' AND c.key = ANY (v_trial)) AS t;
END
$$;
COMMENT ON FUNCTION crm._try_signals(bigint, timestamptz) IS 'Internal: notes what the risk signals on trial say of a deal beside those in force.';

CREATE OR REPLACE FUNCTION crm._risk_score(weights int[]) RETURNS int
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT round(100 * (1 - coalesce(exp(sum(ln(greatest(1 - w / 100.0, 1e-9)))), 1)))::int FROM unnest(weights) AS w);
COMMENT ON FUNCTION crm._risk_score(int[]) IS 'Internal: points of risk from the weights of the signals that hold: 100 (1 - product of (1 - weight / 100)); 0 for none, therefore not STRICT.';

CREATE OR REPLACE FUNCTION crm._risk_level(score numeric, before text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- a level is entered above its threshold and left only some points below it
    SELECT CASE WHEN score > s.red - CASE WHEN before = 'red' THEN s.slack ELSE 0 END THEN 'red'
                WHEN score > s.orange - CASE WHEN before IN ('red', 'orange') THEN s.slack ELSE 0 END THEN 'orange'
                WHEN score > s.yellow - CASE WHEN before IN ('red', 'orange', 'yellow') THEN s.slack ELSE 0 END THEN 'yellow' ELSE 'green' END
      FROM (SELECT crm._setting('risk.red', '95')::numeric AS red, crm._setting('risk.orange', '80')::numeric AS orange, crm._setting('risk.yellow', '60')::numeric AS yellow, crm._setting('risk.hysteresis', '5')::numeric AS slack) AS s
$$;
COMMENT ON FUNCTION crm._risk_level(numeric, text) IS 'Internal: level of a risk score, with hysteresis against the level before.';

CREATE OR REPLACE FUNCTION crm._risk_weights(doc jsonb, trial text[], keys text[], trials boolean[], weights int[], paths jsonpath[], vars jsonb[]) RETURNS int[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result int[] := '{}';
BEGIN
    FOR i IN 1 .. cardinality(keys) LOOP
        IF trials[i] = (keys[i] = ANY (trial)) AND jsonb_path_exists(doc, paths[i], vars[i], true) THEN
            result := result || weights[i];
        END IF;
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION crm._risk_weights(jsonb, text[], text[], boolean[], int[], jsonpath[], jsonb[]) IS 'Internal: the weights of the signals that hold in a feature document. trial: keys whose canary decides; the others describe the signals, one element each.';

CREATE OR REPLACE FUNCTION crm._deal_risks(only_deal bigint, at timestamptz) RETURNS TABLE (opportunity_id bigint, before text, score int, level text, quality float8, changed boolean)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys text[];
    v_trials boolean[];
    v_weights int[];
    v_paths jsonpath[];
    v_vars jsonb[];
    v_named text;
    v_half float8 := coalesce((SELECT extract(epoch FROM (c.body ->> 'half_life')::interval) FROM crm_data.config AS c WHERE c.kind = 'health_model' AND c.key = 'touch_quality' AND c.scope = '*' AND c.status = 'active'), 2592000);
BEGIN
    -- the signals and their figures once, not once a deal
    SELECT array_agg(c.key ORDER BY c.id), array_agg(c.status = 'canary' ORDER BY c.id), array_agg((c.body ->> 'weight')::int ORDER BY c.id), array_agg((c.body ->> 'when')::jsonpath ORDER BY c.id), array_agg(crm._rule_vars(c.body) ORDER BY c.id), string_agg(c.body ->> 'when', ' ')
      INTO v_keys, v_trials, v_weights, v_paths, v_vars, v_named FROM crm_data.config AS c WHERE c.kind = 'risk_signal' AND c.scope = '*' AND c.status IN ('active', 'canary');
    RETURN QUERY
    WITH d AS MATERIALIZED (
        SELECT o.id, o.risk_score, o.risk_level, o.touch_quality,
               crm._risk_weights(crm._features('opportunity', o.id, at, coalesce(v_named, '')), CASE WHEN true = ANY (v_trials) THEN crm._canaries('risk_signal', 'opportunity:' || o.id) ELSE '{}' END, coalesce(v_keys, '{}'), v_trials, v_weights, v_paths, v_vars) AS weights,
               -- what was said lately counts most: half after the half-life of the model
               (SELECT round((sum(i.quality * w.w) / nullif(sum(w.w), 0))::numeric, 1) FROM crm_data.interaction AS i CROSS JOIN LATERAL (SELECT power(0.5, extract(epoch FROM at - i.occurred_at)::float8 / v_half) AS w) AS w
                 WHERE i.opportunity_id = o.id AND i.quality IS NOT NULL AND i.retracted_at IS NULL AND i.occurred_at BETWEEN at - interval '1 year' AND at)::float8 AS quality
          FROM crm_data.opportunity AS o WHERE CASE WHEN only_deal IS NULL THEN o.outcome = 'open' AND o.deleted_at IS NULL ELSE o.id = only_deal END
    ), points AS MATERIALIZED (SELECT x.weights, crm._risk_score(x.weights) AS score FROM (SELECT DISTINCT d.weights FROM d) AS x),
    levels AS MATERIALIZED (SELECT x.score, x.before, crm._risk_level(x.score, nullif(x.before, '')) AS level FROM (SELECT DISTINCT p.score, coalesce(d.risk_level, '') AS before FROM d JOIN points AS p ON p.weights = d.weights) AS x)
    SELECT d.id, d.risk_level, p.score, l.level, d.quality, d.risk_score IS DISTINCT FROM p.score OR d.risk_level IS DISTINCT FROM l.level OR d.touch_quality IS DISTINCT FROM d.quality
      FROM d JOIN points AS p ON p.weights = d.weights JOIN levels AS l ON l.score = p.score AND l.before = coalesce(d.risk_level, '');
END
$$;
COMMENT ON FUNCTION crm._deal_risks(bigint, timestamptz) IS 'Internal: of a deal, or of all open ones (NULL), the level before, score and level by the signals that hold, the decayed quality of its follow-ups, and whether any of them is another than what is stored. Score: 100 (1 - product of (1 - weight / 100)).';

CREATE OR REPLACE FUNCTION crm._plain_rule(object text, body jsonb) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    path text := (body ->> 'when')::jsonpath::text;
BEGIN
    RETURN coalesce(body ->> 'once' = 'breach' AND NOT body ?| '{delay,window}'
        AND path ~ ('^\$\."' || object || '"\?\(([()]|@\."[a-z0-9_]+"|\$"[a-z0-9_]+"|"[^"\\]*"|-?[0-9.]+|true|false|null|==|!=|<=?|>=?|&&|\|\|| )+\)$')
        AND NOT EXISTS (SELECT FROM regexp_matches(path, '@\."([a-z0-9_]+)"', 'g') AS m
                         WHERE m[1] IN ('field_version', 'last_hash') OR NOT EXISTS (SELECT FROM pg_attribute AS t WHERE t.attrelid = to_regclass('crm_data.' || quote_ident(object)) AND t.attname = m[1] AND t.attnum > 0 AND NOT t.attisdropped)), false);
END
$$;
COMMENT ON FUNCTION crm._plain_rule(text, jsonb) IS 'Internal: whether a rule acts once a breach and its condition only compares columns of the record: then the row and the breach that stands tell whether there is anything to do.';

CREATE OR REPLACE FUNCTION crm._score_risks(only_deal bigint, at timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = on
AS $$
DECLARE
    v_trial boolean := EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'risk_signal' AND c.scope = '*' AND c.status = 'canary');
    v_keys text[];
    v_paths jsonpath[];
    v_vars jsonb[];
    v_plain boolean;
    v_todo boolean;
    r record;
    v_n bigint := 0;
BEGIN
    SELECT array_agg(c.key), array_agg((c.body ->> 'when')::jsonpath), array_agg(crm._rule_vars(c.body)), bool_and(c.status = 'active' AND crm._plain_rule('opportunity', c.body)) INTO v_keys, v_paths, v_vars, v_plain
      FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.body ->> 'on' = 'score.risk' AND c.scope = '*' AND c.status IN ('active', 'canary');
    FOR r IN SELECT x.* FROM crm._deal_risks(only_deal, at) AS x ORDER BY x.opportunity_id LOOP
        IF v_n = 0 THEN
            -- from here on records are looked up: a table that was empty when the first was is not to be read through for each of the others
            PERFORM set_config('enable_seqscan', 'off', true);
        END IF;
        IF v_trial THEN
            PERFORM crm._try_signals(r.opportunity_id, at);
        END IF;
        IF r.changed THEN
            UPDATE crm_data.opportunity AS x SET risk_score = r.score, risk_level = r.level, touch_quality = r.quality WHERE x.id = r.opportunity_id;
        END IF;
        IF r.level IS DISTINCT FROM coalesce(r.before, 'green') THEN
            -- what the alerts of another level say is no longer so
            UPDATE crm_data.alert AS a SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = 'risk'
             WHERE a.object = 'opportunity' AND a.record_id = r.opportunity_id AND a.kind = 'risk' AND a.level <> r.level AND a.state <> 'closed';
        END IF;
        IF r.level IS DISTINCT FROM coalesce(r.before, 'green') OR r.level <> 'green' THEN
            v_todo := true;
            IF v_plain THEN
                -- a breach that stands and one that is not there are no news: most deals are tonight what they were last night
                SELECT bool_or(jsonb_path_exists(d.doc, x.path, x.vars, true) IS DISTINCT FROM EXISTS (SELECT FROM crm_data.rule_match AS m WHERE m.key = format('%s:opportunity:%s', x.key, r.opportunity_id) AND m.fired AND m.cleared_at IS NULL)) INTO v_todo
                  FROM (SELECT jsonb_build_object('opportunity', to_jsonb(o)) AS doc FROM crm_data.opportunity AS o WHERE o.id = r.opportunity_id OFFSET 0) AS d CROSS JOIN unnest(v_keys, v_paths, v_vars) AS x (key, path, vars);
            END IF;
            IF v_todo THEN
                PERFORM crm._run_rules('score.risk', 'opportunity', r.opportunity_id, '{}', at);
            END IF;
        END IF;
        v_n := v_n + 1;
        IF v_n % 10000 = 0 THEN
            RAISE NOTICE 'risk: % deals', v_n;
        END IF;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._score_risks(bigint, timestamptz) IS 'Internal: keeps the risk of a deal, or of all open ones (NULL), where it changed, and lets the rules that listen to it look; answers how many deals.';

CREATE OR REPLACE FUNCTION crm._score_risk(deal bigint, at timestamptz) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._score_risks(deal, at);
    RETURN (SELECT x.risk_level FROM crm_data.opportunity AS x WHERE x.id = deal);
END
$$;
COMMENT ON FUNCTION crm._score_risk(bigint, timestamptz) IS 'Internal: keeps the risk of one deal, and answers its level.';

CREATE OR REPLACE FUNCTION crm.risk(opp bigint) RETURNS TABLE (score int, level text, signal text, weight int, what text)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    o crm_data.opportunity;
    v_locale text := coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en');
BEGIN
    SELECT * INTO o FROM crm_data.opportunity AS x WHERE x.id = opp;
    IF NOT FOUND OR NOT coalesce(crm._may_work_on(o.owner_id, o.team_id) OR crm.has_role('crm_director') OR crm.has_role('crm_risk'), false) THEN
        RAISE EXCEPTION 'there is no such opportunity that you may see' USING ERRCODE = 'no_data_found', HINT = 'Look it up in the view crm.opportunity.';
    END IF;
    RETURN QUERY
    WITH s AS MATERIALIZED (SELECT * FROM crm._risk_signals(opp, now())),
         t AS (SELECT crm._risk_score(array_agg(s.weight)) AS score FROM s)
    SELECT t.score, crm._risk_level(t.score, o.risk_level), s.signal, s.weight, coalesce(c.body ->> v_locale, c.body ->> 'en')
      FROM t LEFT JOIN s ON true LEFT JOIN crm_data.config AS c ON c.kind = 'risk_signal' AND c.key = s.signal AND c.scope = '*' AND c.status = 'active'
     ORDER BY s.weight DESC, s.signal;
END
$$;
COMMENT ON FUNCTION crm.risk(bigint) IS 'The risk of a deal now: score (0 to 100), level, and the signals behind it, heaviest first. Errors: P0002 no such deal within the caller''s view.';

CREATE OR REPLACE FUNCTION crm._discount_held() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_TABLE_NAME = 'line_item' THEN
        -- what was granted before may stay, or become less
        IF TG_OP = 'UPDATE' AND NEW.opportunity_id = OLD.opportunity_id AND NEW.discount_pct <= OLD.discount_pct OR NOT EXISTS (SELECT FROM crm_data.opportunity AS o WHERE o.id = NEW.opportunity_id AND o.discount_hold) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'discounts on this deal are held: its risk is too high' USING ERRCODE = 'RM522', HINT = 'They are free again when the risk level is below orange; SELECT * FROM crm.risk(deal) shows why.';
END
$$;
COMMENT ON FUNCTION crm._discount_held() IS 'Trigger of opportunity and line_item: no higher discount while a deal''s risk holds discounts. Internal.';
DROP TRIGGER IF EXISTS process_discount_hold ON crm_data.opportunity;
CREATE TRIGGER process_discount_hold BEFORE UPDATE ON crm_data.opportunity FOR EACH ROW WHEN (NEW.discount_hold AND NEW.discount_pct > OLD.discount_pct) EXECUTE FUNCTION crm._discount_held();
COMMENT ON TRIGGER process_discount_hold ON crm_data.opportunity IS 'No higher discount while discounts are held.';
DROP TRIGGER IF EXISTS process_discount_hold ON crm_data.line_item;
CREATE TRIGGER process_discount_hold BEFORE INSERT OR UPDATE ON crm_data.line_item FOR EACH ROW WHEN (NEW.discount_pct > 0) EXECUTE FUNCTION crm._discount_held();
COMMENT ON TRIGGER process_discount_hold ON crm_data.line_item IS 'No higher discount while discounts of the deal are held.';

CREATE OR REPLACE FUNCTION crm._product_sold() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- people offer what there is; what other systems report was sold, whatever the list says
    IF crm.me() IS NOT NULL AND NOT crm.has_role('crm_sync')
       AND EXISTS (SELECT FROM crm_data.product AS p WHERE p.id = NEW.product_id AND (p.deleted_at IS NOT NULL OR p.retired_on <= coalesce(NEW.sold_on, (now() AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date))) THEN
        RAISE EXCEPTION 'product % is not sold any more', (SELECT p.code FROM crm_data.product AS p WHERE p.id = NEW.product_id) USING ERRCODE = 'check_violation',
            HINT = 'Take another one: SELECT code, name FROM crm.product WHERE retired_on IS NULL OR retired_on > current_date.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._product_sold() IS 'Trigger of line_item: a person offers no product that is retired (retired_on) or deleted. Internal.';
DROP TRIGGER IF EXISTS process_product_sold ON crm_data.line_item;
CREATE TRIGGER process_product_sold BEFORE INSERT OR UPDATE OF product_id ON crm_data.line_item FOR EACH ROW EXECUTE FUNCTION crm._product_sold();
COMMENT ON TRIGGER process_product_sold ON crm_data.line_item IS 'The life of a product ends on the day it is retired.';

-- ---------------------------------------------------------------- information health, watches

CREATE OR REPLACE FUNCTION crm._info_health(account bigint, at timestamptz, model jsonb DEFAULT NULL) RETURNS TABLE (score int, contact_freshness numeric, contract_scans numeric, recent_summaries numeric)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT round((p.fresh * (h.body #>> '{weights,contact_freshness}')::numeric + p.scans * (h.body #>> '{weights,contract_scans}')::numeric + p.words * (h.body #>> '{weights,recent_summaries}')::numeric)
                 / ((h.body #>> '{weights,contact_freshness}')::numeric + (h.body #>> '{weights,contract_scans}')::numeric + (h.body #>> '{weights,recent_summaries}')::numeric))::int, round(p.fresh), round(p.scans), round(p.words)
      FROM (SELECT coalesce(model, (SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'health_model' AND c.key = 'information' AND c.scope = '*' AND c.status = 'active')) AS body) AS h
     CROSS JOIN LATERAL (
        SELECT 100 * coalesce((SELECT CASE WHEN count(*) > 0 THEN greatest(0, least(1, (extract(epoch FROM (h.body #>> '{contact_freshness,zero}')::interval) - extract(epoch FROM at - max(greatest(c.last_contact_at, c.updated_at))))
                                                         / (extract(epoch FROM (h.body #>> '{contact_freshness,zero}')::interval) - extract(epoch FROM (h.body #>> '{contact_freshness,full}')::interval)))) END
                                 FROM crm_data.contact AS c WHERE c.account_id = _info_health.account AND c.deleted_at IS NULL AND c.merged_into IS NULL), 0)::numeric AS fresh,
               -- a customer without a contract has no scan to miss
               100 * coalesce((SELECT avg((EXISTS (SELECT FROM crm_data.attachment AS x WHERE x.retracted_at IS NULL AND x.kind = 'contract' AND ((x.object = 'contract' AND x.record_id = k.id) OR (x.object = 'opportunity' AND x.record_id = k.opportunity_id))) OR k.final_url IS NOT NULL)::int)
                                 FROM crm_data.contract AS k WHERE k.account_id = _info_health.account AND k.deleted_at IS NULL AND k.state IN ('signed', 'active', 'finished')), 1)::numeric AS scans,
               100 * (SELECT count(*) FILTER (WHERE y.summary IS NOT NULL OR y.body IS NOT NULL) FROM (SELECT i.summary, i.body FROM crm_data.interaction AS i WHERE i.account_id = _info_health.account AND i.retracted_at IS NULL AND i.occurred_at <= at
                                                                                  ORDER BY i.occurred_at DESC, i.id DESC LIMIT coalesce((h.body ->> 'recent_summaries')::int, 3)) AS y)::numeric / coalesce((h.body ->> 'recent_summaries')::int, 3) AS words) AS p
     WHERE h.body IS NOT NULL;
END;
COMMENT ON FUNCTION crm._info_health(bigint, timestamptz, jsonb) IS 'Internal: how complete what we know of a customer is, 0 to 100, with its parts: freshness of the contacts, contracts with their scan, summaries of the last conversations. model: weights other than those in force.';

CREATE OR REPLACE FUNCTION crm.info_health(account bigint) RETURNS TABLE (score int, contact_freshness int, contract_scans int, recent_summaries int, to_do text)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    a crm_data.account;
    v_zh boolean := coalesce((SELECT m.locale = 'zh' FROM crm_data.member AS m WHERE m.id = crm.me()), false);
BEGIN
    SELECT * INTO a FROM crm_data.account AS x WHERE x.id = account AND x.deleted_at IS NULL AND x.merged_into IS NULL;
    IF NOT FOUND OR NOT crm._row_readable('account', to_jsonb(a)) THEN
        RAISE EXCEPTION 'there is no such customer that you may see' USING ERRCODE = 'no_data_found', HINT = 'Look it up in the view crm.account.';
    END IF;
    RETURN QUERY
    SELECT h.score, h.contact_freshness::int, h.contract_scans::int, h.recent_summaries::int,
           nullif(concat_ws(CASE WHEN v_zh THEN ';' ELSE '; ' END, CASE WHEN h.contact_freshness < 100 THEN CASE WHEN v_zh THEN '联系或更新联系人' ELSE 'speak to a contact, or bring the contacts up to date' END END,
                                                          CASE WHEN h.contract_scans < 100 THEN CASE WHEN v_zh THEN '补充合同扫描件' ELSE 'attach the scans of the contracts' END END,
                                                          CASE WHEN h.recent_summaries < 100 THEN CASE WHEN v_zh THEN '补写最近沟通的摘要' ELSE 'write summaries of the last conversations' END END), '')
      FROM crm._info_health(account, now()) AS h;
END
$$;
COMMENT ON FUNCTION crm.info_health(bigint) IS
'How complete what we know of a customer is, now, 0 to 100: how fresh its contacts are, how many of its contracts have their scan, whether the last conversations have a summary (health_model/information has the weights), and what there is to do, in the reader''s language. Below info_health.task_below the nightly job makes a task of it, of 5000 new ones a night at most. Errors: P0002 no such customer within the caller''s view.';

CREATE OR REPLACE FUNCTION crm._job_followup_watch(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a record;
    v_n bigint := 0;
BEGIN
    -- the longest silent first, and not those that a rule has already spoken of at both distances
    FOR a IN SELECT x.id FROM crm_data.account AS x
              WHERE x.last_contact_at < due - make_interval(days => crm._setting('followup.manager_days', '7')::int) AND x.merged_into IS NULL AND x.deleted_at IS NULL AND x.owner_id IS NOT NULL
                AND (SELECT count(*) FROM crm_data.rule_match AS m WHERE m.object = 'account' AND m.record_id = x.id AND m.rule IN ('followup_manager', 'followup_alert') AND m.fired AND m.cleared_at IS NULL)
                    < 1 + (x.last_contact_at < due - make_interval(days => crm._setting('followup.alert_days', '30')::int))::int
              ORDER BY x.last_contact_at, x.id LIMIT 2000 LOOP
        v_n := v_n + crm._run_rules('timer.account', 'account', a.id, '{}', due);
    END LOOP;
    FOR a IN SELECT x.id FROM crm_data.contract AS x WHERE x.deleted_at IS NULL AND x.state IN ('signed', 'active') AND x.expires_on BETWEEN due::date AND due::date + crm._setting('renewal.window', '90')::int
               AND NOT EXISTS (SELECT FROM crm_data.rule_match AS m WHERE m.object = 'contract' AND m.record_id = x.id AND m.rule = 'renewal_window' AND m.fired) ORDER BY x.expires_on, x.id LIMIT 2000 LOOP
        v_n := v_n + crm._run_rules('timer.contract', 'contract', a.id, '{}', due);
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_followup_watch(timestamptz) IS 'Job: customers nobody has spoken to, after a week and after a month, and contracts about to expire: the rules on timers look at each once. Internal.';

CREATE OR REPLACE FUNCTION crm._info_scores(at timestamptz) RETURNS TABLE (account_id bigint, score int, before int)
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- (known to the planner, it is taken apart once and not once a customer)
    v_model jsonb := (SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'health_model' AND c.key = 'information' AND c.scope = '*' AND c.status = 'active');
BEGIN
    RETURN QUERY
    SELECT a.id, h.score, a.info_health::int FROM crm_data.account AS a CROSS JOIN LATERAL crm._info_health(a.id, at, v_model) AS h
     WHERE a.merged_into IS NULL AND a.deleted_at IS NULL AND a.owner_id IS NOT NULL AND (a.last_contact_at > at - interval '180 days' OR EXISTS (SELECT FROM crm_data.opportunity AS x WHERE x.account_id = a.id AND x.outcome = 'open'));
END
$$;
COMMENT ON FUNCTION crm._info_scores(timestamptz) IS 'Internal: information health of every customer with something going on, and what is stored of it.';

CREATE OR REPLACE FUNCTION crm._job_score_accounts(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_below int := crm._setting('info_health.task_below', '80')::int;
    v_keys text[];
    v_bounds numeric[];
    v_ids bigint[];
    v_id bigint;
    v_customers bigint;
    v_n bigint := crm._score_risks(NULL, due);
BEGIN
    -- rules that only ask whether the score is below a bound, once a breach: what they find is known without asking them for each customer
    SELECT array_agg(c.key), array_agg((crm._rule_vars(c.body) ->> 'n')::numeric) INTO v_keys, v_bounds
      FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.scope = '*' AND c.status IN ('active', 'canary') AND c.body ->> 'on' = 'score.info_health'
    HAVING bool_and(c.status = 'active' AND crm._plain_rule('account', c.body) AND (c.body ->> 'when')::jsonpath::text = '$."account"?(@."info_health" < $"n")' AND jsonb_typeof(crm._rule_vars(c.body) -> 'n') = 'number');
    RAISE NOTICE 'score_accounts: % deals, now the customers', v_n;
    WITH s AS MATERIALIZED (SELECT i.* FROM crm._info_scores(due) AS i),
    -- both scores in one go, where one has changed
    kept AS (UPDATE crm_data.account AS a SET health = h.score, info_health = CASE WHEN s.account_id IS NULL THEN a.info_health ELSE s.score END
               FROM crm._account_health(NULL, due) AS h LEFT JOIN s ON s.account_id = h.account_id
              WHERE a.id = h.account_id AND (a.health IS DISTINCT FROM h.score OR (s.account_id IS NOT NULL AND a.info_health IS DISTINCT FROM s.score))),
    breach AS MATERIALIZED (SELECT m.record_id, m.rule FROM crm_data.rule_match AS m WHERE m.object = 'account' AND m.rule = ANY (v_keys) AND m.fired AND m.cleared_at IS NULL),
    -- worst first, and of the new ones so many a night: a field that a million customers lack is not a million tasks of one day
    news AS (SELECT s.account_id FROM s CROSS JOIN unnest(v_keys, v_bounds) AS r (rule, bound) LEFT JOIN breach AS b ON b.record_id = s.account_id AND b.rule = r.rule
              WHERE s.score < r.bound AND b.record_id IS NULL GROUP BY s.account_id, s.score ORDER BY s.score, s.account_id LIMIT 5000)
    SELECT ARRAY(SELECT n.account_id FROM news AS n
                 UNION SELECT s.account_id FROM s CROSS JOIN unnest(v_keys, v_bounds) AS r (rule, bound) JOIN breach AS b ON b.record_id = s.account_id AND b.rule = r.rule WHERE s.score >= r.bound
                 UNION SELECT s.account_id FROM s WHERE v_keys IS NULL AND (s.score < v_below OR s.before < v_below) ORDER BY 1),
           (SELECT count(*) FROM s)
      INTO v_ids, v_customers;
    RAISE NOTICE 'score_accounts: % customers, now the rules for % of them', v_customers, cardinality(v_ids);
    FOREACH v_id IN ARRAY v_ids LOOP
        PERFORM crm._run_rules('score.info_health', 'account', v_id, '{}', due);
    END LOOP;
    RETURN v_n + v_customers;
END
$$;
COMMENT ON FUNCTION crm._job_score_accounts(timestamptz) IS 'Job: risk of every open deal and information health of every active customer, and the rules that listen to them (of new breaches the 5000 worst a night); health of every customer. Answers how many deals and customers were scored. Internal.';

-- ---------------------------------------------------------------- what rules listen to

CREATE OR REPLACE FUNCTION crm._contract_signed() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._emit('contract.signed', 'contract', NEW.id, jsonb_build_object('id', NEW.id));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._contract_signed() IS 'Trigger of contract: tells the rules that it was signed. Internal.';
DROP TRIGGER IF EXISTS process_contract_insert ON crm_data.contract;
CREATE TRIGGER process_contract_insert AFTER INSERT ON crm_data.contract FOR EACH ROW
    WHEN (NEW.state IN ('signed', 'active') AND NEW.signed_on > NEW.created_at::date - 30) EXECUTE FUNCTION crm._contract_signed();
COMMENT ON TRIGGER process_contract_insert ON crm_data.contract IS 'A contract that comes in signed is told to the rules, unless it is an old one.';
DROP TRIGGER IF EXISTS process_contract_signed ON crm_data.contract;
CREATE TRIGGER process_contract_signed AFTER UPDATE ON crm_data.contract FOR EACH ROW
    WHEN (NEW.state IN ('signed', 'active') AND OLD.state IN ('draft', 'review')) EXECUTE FUNCTION crm._contract_signed();
COMMENT ON TRIGGER process_contract_signed ON crm_data.contract IS 'A contract that is signed is told to the rules.';

CREATE OR REPLACE FUNCTION crm._lifecycle_moves() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_next jsonb;
BEGIN
    SELECT c.body -> 'next' INTO v_next FROM crm_data.config AS c WHERE c.kind = 'lifecycle' AND c.key = 'account' AND c.scope = '*' AND c.status = 'active';
    IF v_next ? OLD.lifecycle AND NOT v_next -> OLD.lifecycle ? NEW.lifecycle THEN
        RAISE EXCEPTION 'a customer does not go from "%" to "%"', OLD.lifecycle, NEW.lifecycle USING ERRCODE = 'check_violation',
            HINT = format('From there it may go to: %s. The configuration lifecycle/account says so.', (SELECT string_agg(x, ', ') FROM jsonb_array_elements_text(v_next -> OLD.lifecycle) AS x));
    END IF;
    PERFORM crm._emit('account.update', 'account', NEW.id, jsonb_build_object('id', NEW.id || ':' || NEW.row_version, 'old', jsonb_build_object('lifecycle', OLD.lifecycle)));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._lifecycle_moves() IS 'Trigger of account: the life cycle moves only as its configuration says, and the rules hear of it. Internal.';
DROP TRIGGER IF EXISTS process_lifecycle ON crm_data.account;
CREATE TRIGGER process_lifecycle AFTER UPDATE ON crm_data.account FOR EACH ROW WHEN (NEW.lifecycle <> OLD.lifecycle AND NEW.merged_into IS NULL) EXECUTE FUNCTION crm._lifecycle_moves();
COMMENT ON TRIGGER process_lifecycle ON crm_data.account IS 'The life cycle moves only as its configuration says.';

CREATE OR REPLACE FUNCTION crm._conflict_added() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._emit('conflict.insert', NEW.object, NEW.record_id, jsonb_build_object('id', NEW.id));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._conflict_added() IS 'Trigger of conflict: tells the rules that two wrote the same field. Internal.';
DROP TRIGGER IF EXISTS process_conflict ON crm_data.conflict;
CREATE TRIGGER process_conflict AFTER INSERT ON crm_data.conflict FOR EACH ROW EXECUTE FUNCTION crm._conflict_added();
COMMENT ON TRIGGER process_conflict ON crm_data.conflict IS 'The rules hear of every conflict.';

CREATE OR REPLACE FUNCTION crm._job_journey_watch(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a record;
    v_n bigint := 0;
BEGIN
    -- who reached the node before one that has a limit, longer ago than that, and has not reached the node itself
    FOR a IN
        WITH n AS (SELECT x.value ->> 'event' AS event, x.value ->> 'stall' AS stall, lag(x.value ->> 'event') OVER (ORDER BY x.ord) AS before
                     FROM crm_data.config AS c CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'nodes') WITH ORDINALITY AS x (value, ord) WHERE c.kind = 'journey' AND c.key = 'onboarding' AND c.scope = '*' AND c.status = 'active')
        SELECT DISTINCT e.account_id AS id FROM n JOIN crm_data.event AS e ON e.kind = n.before
         WHERE n.stall IS NOT NULL AND e.account_id IS NOT NULL AND e.occurred_at BETWEEN due - interval '60 days' AND due - n.stall::interval
           AND NOT EXISTS (SELECT FROM crm_data.event AS y WHERE y.account_id = e.account_id AND y.kind = n.event)
           AND NOT EXISTS (SELECT FROM crm_data.rule_match AS m WHERE m.object = 'account' AND m.record_id = e.account_id AND m.rule = 'journey_stall' AND m.fired AND m.cleared_at IS NULL)
         ORDER BY 1 LIMIT 2000
    LOOP
        v_n := v_n + crm._run_rules('timer.account', 'account', a.id, '{}', due);
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_journey_watch(timestamptz) IS 'Job: customers who stand still before a node of the journey that has a limit: the rules on timers look at each once. Internal.';

-- ---------------------------------------------------------------- days that come

CREATE OR REPLACE FUNCTION crm._date_column(object text, field text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- a column that is a day or an instant, or a field of one's own, which is a text; as the local day
    SELECT CASE WHEN f.custom THEN format('(crm.parse_time(t.attrs ->> %L, false, %2$L) AT TIME ZONE %2$L)::date', f.name, z.tz) WHEN a.atttypid = 'date'::regtype THEN format('t.%I', f.name) ELSE format('(t.%I AT TIME ZONE %L)::date', f.name, z.tz) END
      FROM crm_data.field AS f CROSS JOIN (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz) AS z
      LEFT JOIN pg_attribute AS a ON a.attrelid = to_regclass('crm_data.' || quote_ident(f.object)) AND a.attname = f.name AND NOT a.attisdropped
     WHERE object IN ('account', 'lead', 'opportunity', 'contract') AND f.object = _date_column.object AND f.name = field AND f.retired_at IS NULL
       AND (f.custom OR a.atttypid IN ('date'::regtype, 'timestamptz'::regtype))
$$;
COMMENT ON FUNCTION crm._date_column(text, text) IS 'Internal: a field of an object that holds a day or an instant, as SQL over t that gives the day; NULL when it is none.';

CREATE OR REPLACE FUNCTION crm._job_date_rules(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    v_id bigint;
    v_on date;
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_day date := (due AT TIME ZONE v_tz)::date;
    v_column text;
    v_n bigint := 0;
BEGIN
    FOR r IN SELECT c.key, split_part(c.body ->> 'on', '.', 2) AS object, split_part(c.body ->> 'on', '.', 3) AS field, crm._rule_delay(c.body) - coalesce((c.body ->> 'before')::interval, '0') AS shift
               FROM crm_data.config AS c WHERE c.kind = 'rule' AND c.scope = '*' AND c.status IN ('active', 'canary') AND c.body ->> 'on' LIKE 'date.%' ORDER BY c.key, c.version LOOP
        v_column := crm._date_column(r.object, r.field);
        CONTINUE WHEN v_column IS NULL;
        -- today and the six days before: a clock that stood still is caught up, and what was done is not done again
        FOR v_id, v_on IN EXECUTE format('SELECT t.id, %1$s AS day FROM crm_data.%2$I AS t WHERE %1$s BETWEEN $1 AND $2 AND t.deleted_at IS NULL %3$s
                                    AND NOT EXISTS (SELECT FROM crm_data.rule_match AS m WHERE m.object = %2$L AND m.record_id = t.id AND m.rule = $3 AND m.fired AND m.key = format(''%%s:%%s:%%s:%%s'', $3, %2$L, t.id, %1$s))
                                  ORDER BY t.id LIMIT 5000', v_column, r.object, CASE WHEN r.object IN ('account', 'lead') THEN 'AND t.merged_into IS NULL' ELSE '' END)
                   USING (v_day - 6 - r.shift)::date, (v_day - r.shift)::date, r.key LOOP
            v_n := v_n + crm._run_rules('rule:' || r.key, r.object, v_id, jsonb_build_object('id', v_on, 'day', v_on), due);
        END LOOP;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_date_rules(timestamptz) IS 'Job: rules on date.<object>.<field>: the records whose day, with the delay after it or the time before it, has come. Internal.';
