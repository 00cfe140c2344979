-- Access: the policy compiler, and the triggers that tell every backend of a change.

CREATE OR REPLACE FUNCTION crm._setting(key text, otherwise text) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- (in this language the plan is kept from one statement to the next)
    RETURN coalesce((SELECT c.body ->> 'value' FROM crm_data.config AS c
                      WHERE c.kind = 'setting' AND c.key = _setting.key AND c.scope = '*' AND c.status = 'active'), otherwise);
END
$$;
COMMENT ON FUNCTION crm._setting(text, text) IS
'The active value of a setting as text. Internal.
key: its key in the configuration. otherwise: the answer when there is none.';

CREATE OR REPLACE FUNCTION crm._setting_number(key text, otherwise int, low int, high int) RETURNS int
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    value text := crm._setting(key, otherwise::text);
BEGIN
    IF value !~ '^[0-9]{1,9}$' OR value::int NOT BETWEEN low AND high THEN
        RAISE EXCEPTION USING ERRCODE = 'RM101', MESSAGE = format('setting "%s" is not a whole number from %s to %s', key, low, high),
            HINT = 'Give it another value.';
    END IF;
    RETURN value::int;
END
$$;
COMMENT ON FUNCTION crm._setting_number(text, int, int, int) IS
'The active value of a setting that is a whole number. Internal.
key: its key in the configuration. otherwise: the answer when there is none. low, high: its range. Errors: RM101 the value is something else.';

CREATE OR REPLACE FUNCTION crm._policy_problems(kind text, body jsonb) RETURNS TABLE (path text, message text)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    modes CONSTANT text[] := ARRAY['never', 'mask', 'own', 'team', 'always'];
    scopes CONSTANT text[] := ARRAY['own', 'team', 'subtree', 'region', 'all'];
    -- what functions ask for before they do something
    functions CONSTANT text[] := ARRAY['approve', 'configure', 'explain', 'ingest', 'merge', 'offboard', 'recent_summaries', 'reveal', 'run_report', 'start_approval'];
    list text := CASE kind WHEN 'row_policy' THEN 'rows' WHEN 'permission' THEN 'ops' END;
    known text[] := CASE kind WHEN 'field_policy' THEN '{role,default,read,write,export,masks,valid_to}'::text[] WHEN 'row_policy' THEN '{role,rows,valid_to}' ELSE '{role,ops,functions,valid_to}' END;
    r record;
BEGIN
    IF kind NOT IN ('field_policy', 'row_policy', 'permission') THEN
        RETURN;
    ELSIF jsonb_typeof(body) IS DISTINCT FROM 'object' THEN
        RETURN QUERY SELECT '$'::text, 'a policy is an object'::text;
        RETURN;
    END IF;
    IF body->>'role' IS NULL OR NOT EXISTS (SELECT FROM pg_roles AS x WHERE x.rolname = body->>'role') THEN
        RETURN QUERY SELECT '$.role', format('unknown role "%s"', coalesce(body->>'role', ''));
    END IF;
    -- what nobody reads would be taken for a rule that holds
    RETURN QUERY SELECT '$.' || k, format('unknown key "%s": a %s has %s', k, kind, array_to_string(known, ', ')) FROM jsonb_object_keys(body) AS k WHERE k <> ALL (known);
    IF body ? 'valid_to' THEN
        BEGIN
            PERFORM (body->>'valid_to')::timestamptz;
        EXCEPTION WHEN data_exception THEN
            RETURN QUERY SELECT '$.valid_to'::text, format('"%s" is no time', body->>'valid_to');
        END;
    END IF;

    IF kind = 'field_policy' THEN
        FOR r IN SELECT v.key, v.value FROM jsonb_each(body) AS v WHERE v.key IN ('read', 'write', 'export', 'masks') LOOP
            IF jsonb_typeof(r.value) <> 'object' THEN
                RETURN QUERY SELECT '$.' || r.key, format('%s is an object', r.key);
            ELSIF r.key = 'masks' THEN
                RETURN QUERY SELECT '$.masks.' || m.key, format('unknown mask "%s" of %s: null, phone, name, email, text or zero', m.value, m.key)
                  FROM jsonb_each_text(r.value) AS m WHERE coalesce(m.value, '') NOT IN ('null', 'phone', 'name', 'email', 'text', 'zero');
                RETURN QUERY SELECT '$.masks.' || m.key, format('unknown class or field "%s"', m.key)
                  FROM jsonb_each_text(r.value) AS m WHERE NOT EXISTS (SELECT FROM crm_data.field AS d WHERE d.class = m.key OR d.object || '.' || d.name = m.key);
            ELSE
                RETURN QUERY SELECT format('$.%s.%s', r.key, x.key), CASE WHEN x.key NOT IN ('classes', 'fields') THEN format('unknown key "%s": there are classes and fields', x.key) ELSE format('%s is an object', x.key) END
                  FROM jsonb_each(r.value) AS x WHERE x.key NOT IN ('classes', 'fields') OR jsonb_typeof(x.value) <> 'object';
                RETURN QUERY SELECT format('$.%s.%s.%s', r.key, x.key, m.key), format('unknown mode "%s" of %s: %s', m.value, m.key, array_to_string(modes, ', '))
                  FROM jsonb_each(r.value) AS x, jsonb_each_text(CASE WHEN jsonb_typeof(x.value) = 'object' THEN x.value ELSE '{}' END) AS m
                 WHERE x.key IN ('classes', 'fields') AND coalesce(m.value, '') <> ALL (modes);
                RETURN QUERY SELECT format('$.%s.fields.%s', r.key, f.key), format('unknown field "%s"', f.key)
                  FROM jsonb_each(CASE WHEN jsonb_typeof(r.value->'fields') = 'object' THEN r.value->'fields' ELSE '{}' END) AS f WHERE NOT EXISTS (SELECT FROM crm_data.field AS d WHERE d.object || '.' || d.name = f.key);
                RETURN QUERY SELECT format('$.%s.classes.%s', r.key, c.key), format('unknown class "%s"', c.key)
                  FROM jsonb_each(CASE WHEN jsonb_typeof(r.value->'classes') = 'object' THEN r.value->'classes' ELSE '{}' END) AS c WHERE NOT EXISTS (SELECT FROM crm_data.field AS d WHERE d.class = c.key);
            END IF;
        END LOOP;
        IF body ? 'default' AND coalesce(body->>'default', '') <> ALL (modes) THEN
            RETURN QUERY SELECT '$.default'::text, format('unknown mode "%s": %s', body->>'default', array_to_string(modes, ', '));
        END IF;
        RETURN;
    END IF;

    IF body ? list AND jsonb_typeof(body->list) <> 'array' THEN
        RETURN QUERY SELECT '$.' || list, format('%s is an array', list);
    ELSE
        FOR r IN SELECT format('$.%s[%s]', list, x.n - 1) AS path, x.rule, coalesce(x.rule->>'object', '') AS object FROM jsonb_array_elements(coalesce(body->list, '[]')) WITH ORDINALITY AS x (rule, n) LOOP
            IF jsonb_typeof(r.rule) <> 'object' THEN
                RETURN QUERY SELECT r.path, 'a rule is an object'::text;
                CONTINUE;
            END IF;
            RETURN QUERY
            SELECT r.path, p.text
              FROM unnest(ARRAY[
                   CASE WHEN r.object = '' THEN 'a rule without an object'
                        WHEN r.object NOT IN ('*', 'report') AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname = r.object) THEN format('unknown object "%s"', r.object) END,
                   CASE WHEN r.rule->>'scope' IS NULL THEN format('the %s for %s has no scope', CASE kind WHEN 'permission' THEN 'permission' ELSE 'rule' END, r.object)
                        WHEN r.rule->>'scope' <> ALL (scopes) THEN format('unknown scope "%s" for %s: %s', r.rule->>'scope', r.object, array_to_string(scopes, ', ')) END,
                   CASE WHEN kind = 'permission' AND NOT coalesce(jsonb_typeof(r.rule->'ops') = 'array' AND r.rule->'ops' <@ '["create", "read", "update", "delete", "export", "summary"]', false)
                        THEN format('unknown operation on %s: create, read, update, delete, export or summary', r.object) END,
                   CASE WHEN kind = 'row_policy' AND NOT coalesce(jsonb_typeof(r.rule->'verbs') = 'array' AND r.rule->'verbs' <@ '["read", "write", "export"]', false)
                        THEN format('verbs of %s must be read, write or export', r.object) END]) AS p (text)
             WHERE p.text IS NOT NULL
            UNION ALL
            SELECT r.path || '.' || k, format('unknown key "%s" in the rule for %s', k, r.object)
              FROM jsonb_object_keys(r.rule) AS k
             WHERE k <> ALL (CASE kind WHEN 'permission' THEN '{object,ops,scope}'::text[] ELSE '{object,verbs,scope,grade_min,grade_max,rank_min,rank_max}' END)
            UNION ALL
            SELECT r.path, format('%ss of %s are not within 0 and 9', b.what, r.object)
              FROM (VALUES ('grade'), ('rank')) AS b (what)
             WHERE kind = 'row_policy' AND (r.rule ? (b.what || '_min') OR r.rule ? (b.what || '_max'))
               AND NOT (coalesce(r.rule->>(b.what || '_min'), '0') ~ '^[0-9]$' AND coalesce(r.rule->>(b.what || '_max'), '9') ~ '^[0-9]$' AND coalesce(r.rule->>(b.what || '_min'), '0') <= coalesce(r.rule->>(b.what || '_max'), '9'));
        END LOOP;
    END IF;
    IF body ? 'functions' AND jsonb_typeof(body->'functions') <> 'array' THEN
        RETURN QUERY SELECT '$.functions'::text, 'functions is an array'::text;
    ELSIF kind = 'permission' THEN
        RETURN QUERY SELECT format('$.functions[%s]', f.n - 1), format('unknown function "%s": %s', f.name, array_to_string(functions, ', '))
          FROM jsonb_array_elements_text(coalesce(body->'functions', '[]')) WITH ORDINALITY AS f (name, n) WHERE coalesce(f.name, '') <> ALL (functions);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._policy_problems(text, jsonb) IS
'All that is wrong with a policy, the place and what it is; crm._check_policy describes its body. No row: nothing, or another kind. Raises nothing. Internal.';

CREATE OR REPLACE FUNCTION crm._check_policy(kind text, body jsonb) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p record;
BEGIN
    SELECT x.path, x.message INTO p FROM crm._policy_problems(kind, body) AS x LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RM101', MESSAGE = format('%s: %s', kind, p.message), DETAIL = format('It stands at %s.', p.path),
            HINT = format('SELECT * FROM crm.config_validate(%L, ..) lists all that is wrong with a body; COMMENT ON FUNCTION crm._check_policy describes it.', kind);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._check_policy(text, jsonb) IS
'Refuses a policy that cannot be compiled: unknown role, object, field, class, mode, mask, operation, function or key, a permission or a row rule without a scope, bounds outside 0 to 9, an end that is no time. Internal.
kind: field_policy, row_policy or permission; other kinds pass. body: field_policy {"role", "default", "read"|"write"|"export": {"classes": {class: mode}, "fields": {"object.field": mode}}, "masks": {class or "object.field": mask}}; row_policy {"role", "rows": [{"object", "verbs", "scope", "grade_min", "grade_max", "rank_min", "rank_max"}]}; permission {"role", "ops": [{"object", "ops": create, read, update, delete, export or summary (figures over many rows, and none of the rows), "scope"}], "functions": []}; each may have "valid_to".
Errors: RM101 with the first problem.';

CREATE OR REPLACE FUNCTION crm._wanted_field_policy() RETURNS TABLE (role_name name, field_id int, verb text, mode text, mask text, valid_to timestamptz, config_version int)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.role_name, x.field_id, x.verb, x.mode, x.mask, x.valid_to, x.version
      FROM (SELECT (c.body->>'role')::name AS role_name, f.id AS field_id, v.verb,
                   coalesce(c.body->v.verb->'fields'->>(f.object || '.' || f.name), c.body->v.verb->'classes'->>f.class) AS mode,
                   coalesce(c.body->'masks'->>(f.object || '.' || f.name), c.body->'masks'->>f.class) AS mask,
                   (c.body->>'valid_to')::timestamptz AS valid_to, c.version
              FROM crm_data.config AS c, crm_data.field AS f, (VALUES ('read'), ('write'), ('export')) AS v (verb)
             WHERE c.kind = 'field_policy' AND c.status = 'active' AND c.scope = '*' AND f.retired_at IS NULL) AS x
     WHERE x.mode IS NOT NULL AND (x.valid_to IS NULL OR x.valid_to > now())
$$;
COMMENT ON FUNCTION crm._wanted_field_policy() IS 'What field_policy holds under the active configuration. Internal.';

CREATE OR REPLACE FUNCTION crm._wanted_row_policy() RETURNS TABLE (role_name name, object text, verb text, scope text, grade_min smallint, grade_max smallint, rank_min smallint, rank_max smallint, valid_to timestamptz, config_version int)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT ON (1, 2, 3, 4, 5, 7) (c.body->>'role')::name, r->>'object', v.verb, r->>'scope',
           coalesce((r->>'grade_min')::smallint, 0), coalesce((r->>'grade_max')::smallint, 9),
           coalesce((r->>'rank_min')::smallint, 0), coalesce((r->>'rank_max')::smallint, 9), (c.body->>'valid_to')::timestamptz, c.version
      FROM crm_data.config AS c, jsonb_array_elements(c.body->'rows') AS r, jsonb_array_elements_text(r->'verbs') AS v (verb)
     WHERE c.kind = 'row_policy' AND c.status = 'active' AND c.scope = '*'
       AND r->>'scope' IS NOT NULL AND coalesce((c.body->>'valid_to')::timestamptz > now(), true)
     ORDER BY 1, 2, 3, 4, 5, 7, 6 DESC, 8 DESC
$$;
COMMENT ON FUNCTION crm._wanted_row_policy() IS 'What row_policy holds under the active configuration. Internal.';

CREATE OR REPLACE FUNCTION crm._wanted_permission() RETURNS TABLE (role_name name, object text, op text, scope text, config_version int)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT ON (1, 2, 3) x.*
      FROM (SELECT (c.body->>'role')::name, r->>'object', o.op, r->>'scope', c.version
              FROM crm_data.config AS c, jsonb_array_elements(c.body->'ops') AS r, jsonb_array_elements_text(r->'ops') AS o (op)
             WHERE c.kind = 'permission' AND c.status = 'active' AND c.scope = '*'
               AND r->>'scope' IS NOT NULL AND coalesce((c.body->>'valid_to')::timestamptz > now(), true)
            UNION ALL
            SELECT (c.body->>'role')::name, 'function', f.name, 'all', c.version
              FROM crm_data.config AS c, jsonb_array_elements_text(c.body->'functions') AS f (name)
             WHERE c.kind = 'permission' AND c.status = 'active' AND c.scope = '*'
               AND coalesce((c.body->>'valid_to')::timestamptz > now(), true)) AS x (role_name, object, op, scope, version)
     ORDER BY 1, 2, 3, array_position(ARRAY['own', 'team', 'subtree', 'region', 'all'], x.scope) DESC
$$;
COMMENT ON FUNCTION crm._wanted_permission() IS 'What permission holds under the active configuration. Internal.';

CREATE OR REPLACE FUNCTION crm._compile_access() RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stricter_wins boolean := crm._setting('access.least_privilege', 'true')::boolean;
    depth int := crm._setting_number('role.max_inherit_depth', 2, 0, 9);
    days int := crm._setting_number('sandbox.days', 7, 0, 3650);
    changed int;
BEGIN
    -- one at a time: two would each leave out what the other has not committed
    LOCK TABLE crm_data.access_profile IN SHARE ROW EXCLUSIVE MODE;

    -- what has not changed is not written again
    IF EXISTS ((SELECT w.role_name, w.field_id, w.verb, w.mode, w.mask, w.valid_to, w.config_version FROM crm._wanted_field_policy() AS w EXCEPT SELECT t.role_name, t.field_id, t.verb, t.mode, t.mask, t.valid_to, t.config_version FROM crm_data.field_policy AS t)
               UNION ALL
               (SELECT t.role_name, t.field_id, t.verb, t.mode, t.mask, t.valid_to, t.config_version FROM crm_data.field_policy AS t EXCEPT SELECT w.role_name, w.field_id, w.verb, w.mode, w.mask, w.valid_to, w.config_version FROM crm._wanted_field_policy() AS w)) THEN
        DELETE FROM crm_data.field_policy;
        INSERT INTO crm_data.field_policy (role_name, field_id, verb, mode, mask, valid_to, config_version) SELECT w.role_name, w.field_id, w.verb, w.mode, w.mask, w.valid_to, w.config_version FROM crm._wanted_field_policy() AS w;
    END IF;
    IF EXISTS ((SELECT w.role_name, w.object, w.verb, w.scope, w.grade_min, w.grade_max, w.rank_min, w.rank_max, w.valid_to, w.config_version FROM crm._wanted_row_policy() AS w EXCEPT SELECT t.role_name, t.object, t.verb, t.scope, t.grade_min, t.grade_max, t.rank_min, t.rank_max, t.valid_to, t.config_version FROM crm_data.row_policy AS t)
               UNION ALL
               (SELECT t.role_name, t.object, t.verb, t.scope, t.grade_min, t.grade_max, t.rank_min, t.rank_max, t.valid_to, t.config_version FROM crm_data.row_policy AS t EXCEPT SELECT w.role_name, w.object, w.verb, w.scope, w.grade_min, w.grade_max, w.rank_min, w.rank_max, w.valid_to, w.config_version FROM crm._wanted_row_policy() AS w)) THEN
        DELETE FROM crm_data.row_policy;
        INSERT INTO crm_data.row_policy (role_name, object, verb, scope, grade_min, grade_max, rank_min, rank_max, valid_to, config_version) SELECT w.role_name, w.object, w.verb, w.scope, w.grade_min, w.grade_max, w.rank_min, w.rank_max, w.valid_to, w.config_version FROM crm._wanted_row_policy() AS w;
    END IF;
    IF EXISTS ((SELECT w.role_name, w.object, w.op, w.scope, w.config_version FROM crm._wanted_permission() AS w EXCEPT SELECT t.role_name, t.object, t.op, t.scope, t.config_version FROM crm_data.permission AS t)
               UNION ALL
               (SELECT t.role_name, t.object, t.op, t.scope, t.config_version FROM crm_data.permission AS t EXCEPT SELECT w.role_name, w.object, w.op, w.scope, w.config_version FROM crm._wanted_permission() AS w)) THEN
        DELETE FROM crm_data.permission;
        INSERT INTO crm_data.permission (role_name, object, op, scope, config_version) SELECT w.role_name, w.object, w.op, w.scope, w.config_version FROM crm._wanted_permission() AS w;
    END IF;

    -- A way back in must stay: somebody who can change the configuration.
    IF NOT EXISTS (SELECT FROM crm_data.permission AS p WHERE p.object = 'function' AND p.op = 'configure')
       AND EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'permission' AND c.status = 'active') THEN
        RAISE EXCEPTION USING ERRCODE = 'RM101', MESSAGE = 'no role would be left with the right to configure',
            HINT = 'Keep the function "configure" in the permission of at least one role.';
    END IF;

    WITH role AS (
        SELECT DISTINCT (c.body->>'role')::name AS role_name
          FROM crm_data.config AS c
         WHERE c.kind IN ('field_policy', 'row_policy', 'permission') AND c.status = 'active' AND c.scope = '*'
    ), position AS (
        SELECT o.n AS object, p.n AS position, o.n * 1000 + p.n AS field_id
          FROM generate_series(1, (SELECT max(f.id / 1000) FROM crm_data.field AS f WHERE f.id < 1000000)) AS o (n),
               LATERAL generate_series(1, (SELECT max(f.id % 1000) FROM crm_data.field AS f WHERE f.id / 1000 = o.n)) AS p (n)
    ), mode AS (
        SELECT r.role_name, v.verb, f.id AS field_id, f.object, f.name, f.inputs,
               coalesce(left(y.mode, 1), upper(left(coalesce(d.body->>'default', 'never'), 1))) AS letter,
               coalesce(CASE y.mask WHEN 'null' THEN '-' ELSE left(y.mask, 1) END, '-') AS mask
          FROM role AS r CROSS JOIN (VALUES ('read'), ('write'), ('export')) AS v (verb) CROSS JOIN crm_data.field AS f
               LEFT JOIN crm_data.field_policy AS y ON y.role_name = r.role_name AND y.field_id = f.id AND y.verb = v.verb
               LEFT JOIN crm_data.config AS d ON d.kind = 'field_policy' AND d.status = 'active' AND d.scope = '*' AND d.body->>'role' = r.role_name
         WHERE NOT f.custom AND f.retired_at IS NULL
    ), strictest AS (
        -- what is computed is shown no better than what it is computed from
        SELECT DISTINCT ON (m.role_name, m.verb, m.field_id) m.role_name, m.verb, m.field_id, i.letter
          FROM mode AS m JOIN mode AS i ON i.role_name = m.role_name AND i.verb = m.verb AND i.object = m.object AND (i.name = m.name OR i.name = ANY (m.inputs))
         WHERE m.inputs IS NOT NULL AND m.verb <> 'write'
         ORDER BY m.role_name, m.verb, m.field_id, strpos('nmota', lower(i.letter)), i.letter COLLATE "C" DESC
    ), letters AS (
        SELECT r.role_name, v.verb, p.object, string_agg(coalesce(coalesce(s.letter, m.letter) || m.mask, '--'), '' ORDER BY p.position) AS pairs
          FROM role AS r CROSS JOIN (VALUES ('read'), ('write'), ('export')) AS v (verb) CROSS JOIN position AS p
               LEFT JOIN mode AS m ON m.role_name = r.role_name AND m.verb = v.verb AND m.field_id = p.field_id
               LEFT JOIN strictest AS s ON s.role_name = r.role_name AND s.verb = v.verb AND s.field_id = p.field_id
         GROUP BY r.role_name, v.verb, p.object
    ), fields AS (
        SELECT l.role_name, l.verb, array_agg(l.pairs ORDER BY l.object) AS pairs FROM letters AS l GROUP BY l.role_name, l.verb
    ), custom AS (
        SELECT r.role_name, array_agg(concat_ws('|', a.id, f.name, CASE WHEN y.mode IS NOT NULL THEN left(y.mode, 1) ELSE upper(left(coalesce(d.body->>'default', 'never'), 1)) END || '-')
                                      ORDER BY a.id, f.name COLLATE "C") AS rules
          FROM role AS r JOIN crm_data.field AS f ON f.custom AND f.retired_at IS NULL
               JOIN crm_data.field AS a ON a.object = f.object AND a.name = 'attrs' AND NOT a.custom
               LEFT JOIN crm_data.field_policy AS y ON y.role_name = r.role_name AND y.field_id = f.id AND y.verb = 'read'
               LEFT JOIN crm_data.config AS d ON d.kind = 'field_policy' AND d.status = 'active' AND d.scope = '*' AND d.body->>'role' = r.role_name
         GROUP BY r.role_name
    ), object AS (
        SELECT c.relname::text AS name FROM pg_class AS c
         WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        UNION SELECT p.object FROM crm_data.permission AS p WHERE p.object <> 'function'
        UNION SELECT p.object FROM crm_data.row_policy AS p
    ), row_right AS (
        -- an operation reaches the rows that both the permission and the row policy reach; an entry of its own beats *
        SELECT p.role_name, o.name AS object, p.op, w.grade_min, w.grade_max, w.rank_min, w.rank_max, w.valid_to,
               least(array_position(s.names, p.scope), array_position(s.names, w.scope)) AS scope
          FROM object AS o
               CROSS JOIN (VALUES (ARRAY['own', 'team', 'subtree', 'region', 'all'])) AS s (names)
               JOIN crm_data.permission AS p
                 ON p.object = o.name OR (p.object = '*' AND NOT EXISTS (SELECT FROM crm_data.permission AS q WHERE q.role_name = p.role_name AND q.object = o.name))
               JOIN crm_data.row_policy AS w
                 ON w.role_name = p.role_name
                AND w.verb = CASE p.op WHEN 'read' THEN 'read' WHEN 'summary' THEN 'read' WHEN 'export' THEN 'export' ELSE 'write' END
                AND (w.object = o.name OR (w.object = '*' AND NOT EXISTS (SELECT FROM crm_data.row_policy AS q WHERE q.role_name = w.role_name AND q.object = o.name)))
         WHERE p.object <> 'function'
    ), rule AS (
        SELECT DISTINCT g.role_name, concat_ws('|', g.object, g.verbs, (ARRAY['own', 'team', 'subtree', 'region', 'all'])[g.scope],
                                               g.grade_min, g.grade_max, g.rank_min, g.rank_max) AS text
          FROM (SELECT x.role_name, x.object, x.scope, x.grade_min, x.grade_max, x.rank_min, x.rank_max,
                       string_agg(DISTINCT left(x.op, 1), '' ORDER BY left(x.op, 1)) AS verbs
                  FROM row_right AS x GROUP BY 1, 2, 3, 4, 5, 6, 7) AS g
        UNION ALL
        SELECT p.role_name, concat_ws('|', 'function:' || p.op, 'r', 'all', 0, 9, 0, 9) FROM crm_data.permission AS p WHERE p.object = 'function'
    ), profile AS (
        SELECT r.role_name, coalesce(stricter_wins, true) AS least_privilege, depth AS max_depth, days AS sandbox_days,
               coalesce((SELECT f.pairs FROM fields AS f WHERE f.role_name = r.role_name AND f.verb = 'read'), '{}') AS read_fields,
               coalesce((SELECT f.pairs FROM fields AS f WHERE f.role_name = r.role_name AND f.verb = 'write'), '{}') AS write_fields,
               coalesce((SELECT f.pairs FROM fields AS f WHERE f.role_name = r.role_name AND f.verb = 'export'), '{}') AS export_fields,
               coalesce((SELECT c.rules FROM custom AS c WHERE c.role_name = r.role_name), '{}') AS key_rules,
               coalesce((SELECT array_agg(u.text ORDER BY u.text COLLATE "C") FROM rule AS u WHERE u.role_name = r.role_name), '{}') AS row_rules,
               (SELECT min((c.body->>'valid_to')::timestamptz) FROM crm_data.config AS c
                 WHERE c.kind IN ('field_policy', 'row_policy', 'permission') AND c.status = 'active' AND c.scope = '*'
                   AND c.body->>'role' = r.role_name AND (c.body->>'valid_to')::timestamptz > now()) AS valid_to
          FROM role AS r
    ), gone AS (
        DELETE FROM crm_data.access_profile AS a WHERE NOT EXISTS (SELECT FROM role AS r WHERE r.role_name = a.role_name) RETURNING 1
    ), put AS (
        INSERT INTO crm_data.access_profile AS a (role_name, least_privilege, max_depth, sandbox_days, read_fields, write_fields, export_fields, key_rules, row_rules, valid_to)
        SELECT p.role_name, p.least_privilege, p.max_depth, p.sandbox_days, p.read_fields, p.write_fields, p.export_fields, p.key_rules, p.row_rules, p.valid_to FROM profile AS p
        ON CONFLICT (role_name) DO UPDATE
           SET least_privilege = excluded.least_privilege, max_depth = excluded.max_depth, sandbox_days = excluded.sandbox_days, read_fields = excluded.read_fields, write_fields = excluded.write_fields,
               export_fields = excluded.export_fields, key_rules = excluded.key_rules, row_rules = excluded.row_rules, valid_to = excluded.valid_to
         WHERE (a.least_privilege, a.max_depth, a.sandbox_days, a.read_fields, a.write_fields, a.export_fields, a.key_rules, a.row_rules, a.valid_to)
               IS DISTINCT FROM (excluded.least_privilege, excluded.max_depth, excluded.sandbox_days, excluded.read_fields, excluded.write_fields, excluded.export_fields, excluded.key_rules, excluded.row_rules, excluded.valid_to)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM put) INTO changed;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION crm._compile_access() IS
'Compiles the active configuration of the kinds field_policy, row_policy and permission into the tables of the same names and into one access profile a role; answers how many profiles changed. Runs by itself when such configuration changes. Internal.
Errors: RM101 nobody would be left with the right to configure, or a setting of the policies is out of its range.';

CREATE OR REPLACE FUNCTION crm._config_policy_check() RETURNS trigger
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.status IN ('proposed', 'canary', 'active') THEN
        PERFORM crm._check_policy(NEW.kind, NEW.body);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._config_policy_check() IS 'Trigger of config: a policy that cannot be compiled is neither proposed nor activated. Internal.';

CREATE OR REPLACE FUNCTION crm._config_policy_compile() RETURNS trigger
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM touched AS t WHERE t.kind IN ('field_policy', 'row_policy', 'permission') OR (t.kind = 'setting' AND t.key IN ('access.least_privilege', 'role.max_inherit_depth', 'sandbox.days'))) THEN
        PERFORM crm._compile_access();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._config_policy_compile() IS 'Trigger of config: compiles the access profiles when a policy changes. Internal.';

DROP TRIGGER IF EXISTS access_policy_check ON crm_data.config;
CREATE TRIGGER access_policy_check BEFORE INSERT OR UPDATE ON crm_data.config
    FOR EACH ROW WHEN (NEW.kind IN ('field_policy', 'row_policy', 'permission')) EXECUTE FUNCTION crm._config_policy_check();
COMMENT ON TRIGGER access_policy_check ON crm_data.config IS 'A policy that cannot be compiled is neither proposed nor activated.';
DROP TRIGGER IF EXISTS access_policy_insert ON crm_data.config;
CREATE TRIGGER access_policy_insert AFTER INSERT ON crm_data.config REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION crm._config_policy_compile();
COMMENT ON TRIGGER access_policy_insert ON crm_data.config IS 'Compiles the access profiles when a policy is added.';
DROP TRIGGER IF EXISTS access_policy_update ON crm_data.config;
CREATE TRIGGER access_policy_update AFTER UPDATE ON crm_data.config REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION crm._config_policy_compile();
COMMENT ON TRIGGER access_policy_update ON crm_data.config IS 'Compiles the access profiles when a policy changes its status.';
DROP TRIGGER IF EXISTS access_policy_delete ON crm_data.config;
CREATE TRIGGER access_policy_delete AFTER DELETE ON crm_data.config REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION crm._config_policy_compile();
COMMENT ON TRIGGER access_policy_delete ON crm_data.config IS 'Compiles the access profiles when a policy is taken away.';

CREATE OR REPLACE FUNCTION crm._rows_allowed(object text, so_far bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    granted bigint;
BEGIN
    IF so_far = 0 THEN
        RETURN crm._setting('blast_radius.rows', '20')::bigint;
    END IF;
    UPDATE crm_data.approval AS a
       SET uses_left = a.uses_left - 1, state = CASE WHEN a.uses_left = 1 THEN 'used' ELSE a.state END
     WHERE a.id = (SELECT b.id FROM crm_data.approval AS b
                    WHERE b.kind = 'bulk' AND b.object = _rows_allowed.object AND b.state = 'approved' AND b.uses_left > 0
                      AND b.expires_at > clock_timestamp() AND b.requested_by = crm.me()
                      AND coalesce((b.payload->>'rows')::bigint, 0) > so_far
                    ORDER BY b.expires_at, b.id LIMIT 1 FOR UPDATE)
    RETURNING (a.payload->>'rows')::bigint INTO granted;
    RETURN coalesce(granted, so_far);
END
$$;
COMMENT ON FUNCTION crm._rows_allowed(text, bigint) IS
'How many protected rows of an object one statement of the current person may touch. Uses up an approval of kind bulk when the rows so far are all that was allowed. Internal.
object: of the view. so_far: 0 asks for the ordinary limit (setting blast_radius.rows), else the limit that is reached.';
GRANT EXECUTE ON FUNCTION crm._rows_allowed(text, bigint) TO crm_gate;

-- A row that hangs on a customer has its owner, team and grade: the row policies compare them.
CREATE OR REPLACE FUNCTION crm._inherit_owner() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent record;
BEGIN
    IF NEW.account_id IS NOT NULL THEN
        -- Locked as its foreign key does anyway: a row that waited for a merge belongs to the account that stayed.
        SELECT a.id, a.owner_id, a.team_id, a.grade, a.merged_into INTO parent FROM crm_data.account AS a WHERE a.id = NEW.account_id FOR KEY SHARE;
        IF parent.merged_into IS NOT NULL THEN
            SELECT a.id, a.owner_id, a.team_id, a.grade, a.merged_into INTO parent FROM crm_data.account AS a WHERE a.id = parent.merged_into;
        END IF;
        IF FOUND THEN
            NEW.account_id := parent.id;
            IF TG_ARGV[0] = 'own' THEN
                NEW.owner_id := coalesce(NEW.owner_id, parent.owner_id);
            ELSE
                NEW.owner_id := parent.owner_id;
            END IF;
            NEW.team_id := CASE WHEN NEW.owner_id = parent.owner_id THEN parent.team_id
                                ELSE coalesce((SELECT m.team_id FROM crm_data.member AS m WHERE m.id = NEW.owner_id), parent.team_id) END;
            NEW.grade := parent.grade;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._inherit_owner() IS
'Trigger of the tables that hang on an account: copies its owner, team and grade into a new row, or one that moves to another account. Argument own: the row may have an owner of its own. Internal.';

-- One statement a table, written out here so that each is planned once a session: a night gives thousands of customers another grade.
DO $do$
DECLARE
    updates text;
BEGIN
    -- what had the old owner goes along; what was somebody else's stays his
    SELECT string_agg(format($update$
    UPDATE crm_data.%I AS t SET owner_id = NEW.owner_id, team_id = NEW.team_id, grade = NEW.grade
     WHERE t.account_id = NEW.id%s AND (t.owner_id, t.team_id, t.grade) IS DISTINCT FROM (NEW.owner_id, NEW.team_id, NEW.grade);$update$, c.relname,
                             CASE WHEN f.write_class <> 'engine' THEN ' AND t.owner_id IS NOT DISTINCT FROM OLD.owner_id' ELSE '' END), '' ORDER BY c.relname COLLATE "C") INTO updates
      FROM pg_class AS c
           JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'account_id' AND NOT a.attisdropped
           JOIN pg_attribute AS o ON o.attrelid = c.oid AND o.attname = 'owner_id' AND NOT o.attisdropped
           JOIN pg_attribute AS g ON g.attrelid = c.oid AND g.attname = 'grade' AND NOT g.attisdropped
           JOIN crm_data.field AS f ON f.object = c.relname AND f.name = 'owner_id'
     WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition;
    EXECUTE format($function$
CREATE OR REPLACE FUNCTION crm._hand_down_owner() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN%s
    RETURN NULL;
END
$$$function$, updates);
END
$do$;
COMMENT ON FUNCTION crm._hand_down_owner() IS 'Trigger of account: when owner, team or grade change, the rows that hang on it follow. Internal.';

DO $do$
DECLARE
    child record;
BEGIN
    FOR child IN
        SELECT c.oid::regclass AS name, CASE WHEN f.write_class = 'engine' THEN 'copy' ELSE 'own' END AS how
          FROM pg_class AS c
               JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'account_id' AND NOT a.attisdropped
               JOIN pg_attribute AS o ON o.attrelid = c.oid AND o.attname = 'grade' AND NOT o.attisdropped
               JOIN crm_data.field AS f ON f.object = c.relname AND f.name = 'owner_id'
         WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
         ORDER BY c.relname COLLATE "C"
    LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS access_inherit_owner ON %s', child.name);
        EXECUTE format('CREATE TRIGGER access_inherit_owner BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.account_id IS NOT NULL AND (NEW.owner_id IS NULL OR NEW.team_id IS NULL)) EXECUTE FUNCTION crm._inherit_owner(%L)', child.name, child.how);
        EXECUTE format('COMMENT ON TRIGGER access_inherit_owner ON %s IS %L', child.name, 'Copies owner, team and grade of the account into a row that has none.');
        EXECUTE format('DROP TRIGGER IF EXISTS access_move_owner ON %s', child.name);
        EXECUTE format('CREATE TRIGGER access_move_owner BEFORE UPDATE ON %s FOR EACH ROW WHEN (NEW.account_id IS DISTINCT FROM OLD.account_id) EXECUTE FUNCTION crm._inherit_owner(%L)', child.name, child.how);
        EXECUTE format('COMMENT ON TRIGGER access_move_owner ON %s IS %L', child.name, 'Copies owner, team and grade of the account that the row moves to.');
    END LOOP;
END
$do$;
DROP TRIGGER IF EXISTS access_hand_down_owner ON crm_data.account;
CREATE TRIGGER access_hand_down_owner AFTER UPDATE ON crm_data.account
    FOR EACH ROW WHEN ((NEW.owner_id, NEW.team_id, NEW.grade) IS DISTINCT FROM (OLD.owner_id, OLD.team_id, OLD.grade))
    EXECUTE FUNCTION crm._hand_down_owner();
COMMENT ON TRIGGER access_hand_down_owner ON crm_data.account IS 'When owner, team or grade change, the rows that hang on the account follow.';

CREATE OR REPLACE FUNCTION crm._field_changed() RETURNS trigger
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._compile_access();
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._field_changed() IS 'Trigger of the registry of fields: a new or retired field has its rules from now on. Internal.';
DROP TRIGGER IF EXISTS access_field_changed ON crm_data.field;
CREATE TRIGGER access_field_changed AFTER INSERT OR UPDATE OR DELETE ON crm_data.field
    FOR EACH STATEMENT EXECUTE FUNCTION crm._field_changed();
COMMENT ON TRIGGER access_field_changed ON crm_data.field IS 'Compiles the access profiles again.';

-- Row triggers for logical apply, statement triggers for TRUNCATE; both always, also on a subscriber.
DO $do$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['access_profile', 'member', 'team'] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS access_changed_row ON crm_data.%I', target);
        EXECUTE format('CREATE TRIGGER access_changed_row AFTER INSERT OR UPDATE OR DELETE ON crm_data.%I FOR EACH ROW EXECUTE FUNCTION crm._policy_changed()', target);
        EXECUTE format('ALTER TABLE crm_data.%I ENABLE ALWAYS TRIGGER access_changed_row', target);
        EXECUTE format('COMMENT ON TRIGGER access_changed_row ON crm_data.%I IS %L', target, 'Tells every backend to read the access profiles again.');
        EXECUTE format('DROP TRIGGER IF EXISTS access_changed_all ON crm_data.%I', target);
        EXECUTE format('CREATE TRIGGER access_changed_all AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON crm_data.%I FOR EACH STATEMENT EXECUTE FUNCTION crm._policy_changed()', target);
        EXECUTE format('ALTER TABLE crm_data.%I ENABLE ALWAYS TRIGGER access_changed_all', target);
        EXECUTE format('COMMENT ON TRIGGER access_changed_all ON crm_data.%I IS %L', target, 'Tells every backend to read the access profiles again, after TRUNCATE too.');
    END LOOP;
END
$do$;

-- The key that signs tokens; made once, never shown.
INSERT INTO crm_data.secret (name, value)
SELECT 'token', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
ON CONFLICT (name) DO NOTHING;

SELECT crm._compile_access();
