-- Consistency: related records against each other and against the quality rules every night, core fields against other systems every month, and the use
-- of every field every quarter. What is wrong becomes a data issue with the steward responsible; what is right again closes it.

-- Follow-ups are by far the most rows: above two million of them a night looks at the copies of a part of the customers, in turn.
CREATE OR REPLACE FUNCTION crm._consistency_turn(at timestamptz, OUT parts int, OUT part int, OUT from_id bigint, OUT to_id bigint)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- customers who lie together, since what hangs on them is read together; the bounds move only when there are a hundred thousand more
    SELECT t.n, t.k, CASE WHEN t.k = 0 THEN -9223372036854775808 ELSE t.top * t.k / t.n END, CASE WHEN t.k = t.n - 1 THEN 9223372036854775807 ELSE t.top * (t.k + 1) / t.n END
      FROM (SELECT p.n, (floor(extract(epoch FROM at) / 86400)::bigint % p.n)::int AS k, ceil((SELECT max(a.id) FROM crm_data.account AS a) / 1e5)::bigint * 100000 AS top
              FROM (SELECT greatest(1, ceil(c.reltuples / 2e6))::int AS n FROM pg_class AS c WHERE c.oid = 'crm_data.interaction'::regclass) AS p) AS t
$$;
COMMENT ON FUNCTION crm._consistency_turn(timestamptz) IS 'Internal: into how many parts the customers are cut for the comparison with their follow-ups, by the number of follow-ups, which part a night looks at, and its customers: from one id up to, but not including, another.';

-- What cannot be true of related records. Keys keep rows from pointing nowhere; these are the things keys cannot say.
CREATE OR REPLACE FUNCTION crm._consistency_findings(at timestamptz DEFAULT now())
    RETURNS TABLE (kind text, object text, record_id bigint, account_id bigint, field text, ours text, theirs text, severity text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    v_turn record;
BEGIN
    -- what hangs on a customer, in one go: the same person under two numbers or addresses (a customer who is a person, or the legal person of one); what hangs on
    -- a customer that is gone; the copies of owner, team and grade, on which the row rules stand, one finding a customer, however many rows it is
    RETURN QUERY
    WITH hung AS (
        SELECT 'contact'::text AS object, k.id, k.account_id, k.owner_id, k.team_id, k.grade, true AS copies, k.deleted_at IS NULL AS there, CASE WHEN k.deleted_at IS NULL AND k.merged_into IS NULL THEN k.name END AS name, k.phone, k.phone_norm, k.email, k.email_norm FROM crm_data.contact AS k
        UNION ALL SELECT 'contract', k.id, k.account_id, k.owner_id, k.team_id, k.grade, true, k.deleted_at IS NULL, NULL, NULL, NULL, NULL, NULL FROM crm_data.contract AS k
        UNION ALL SELECT 'receivable_entry', k.id, k.account_id, k.owner_id, k.team_id, k.grade, true, false, NULL, NULL, NULL, NULL, NULL FROM crm_data.receivable_entry AS k
        UNION ALL SELECT 'opportunity', k.id, k.account_id, NULL, NULL, NULL, false, k.deleted_at IS NULL, NULL, NULL, NULL, NULL, NULL FROM crm_data.opportunity AS k
    ), odd AS MATERIALIZED (
        SELECT h.*, a.deleted_at, a.merged_into, concat_ws(', ', a.owner_id, a.team_id, a.grade) AS keys, a.phone AS a_phone, a.phone_norm AS a_phone_norm, a.email AS a_email, a.email_norm AS a_email_norm,
               h.copies AND (h.owner_id, h.team_id, h.grade) IS DISTINCT FROM (a.owner_id, a.team_id, a.grade) AS differs, a.deleted_at IS NULL AND a.merged_into IS NULL AND h.name IN (a.name, a.legal_person) AS same_name
          FROM hung AS h JOIN crm_data.account AS a ON a.id = h.account_id
         WHERE (h.copies AND (h.owner_id, h.team_id, h.grade) IS DISTINCT FROM (a.owner_id, a.team_id, a.grade))
            OR (h.there AND (a.deleted_at IS NOT NULL OR a.merged_into IS NOT NULL))
            OR (h.name IN (a.name, a.legal_person) AND (h.phone_norm <> a.phone_norm OR h.email_norm <> a.email_norm))
    )
    SELECT 'contact_mismatch', 'contact', o.id, o.account_id, v.field, v.ours, v.theirs, 'warning'
      FROM odd AS o CROSS JOIN LATERAL (VALUES ('phone', o.phone, o.a_phone, o.phone_norm, o.a_phone_norm), ('email', o.email, o.a_email, o.email_norm, o.a_email_norm)) AS v (field, ours, theirs, ours_key, theirs_key)
     WHERE o.same_name AND v.ours_key <> v.theirs_key
    UNION ALL
    SELECT 'orphan', o.object, o.id, o.account_id, 'account_id', o.account_id::text, CASE WHEN o.deleted_at IS NOT NULL THEN 'deleted' ELSE 'merged' END, 'error'
      FROM odd AS o WHERE o.there AND (o.deleted_at IS NOT NULL OR o.merged_into IS NOT NULL)
    UNION ALL
    SELECT 'copied_owner', o.object, min(o.id), o.account_id, 'owner_id', count(*)::text, o.keys, 'error'
      FROM odd AS o WHERE o.differs GROUP BY o.object, o.account_id, o.keys;
    -- the copies in the follow-ups likewise, of the customers whose turn it is
    SELECT * INTO v_turn FROM crm._consistency_turn(at);
    RETURN QUERY EXECUTE format('SELECT ''copied_owner'', ''interaction'', min(t.id), a.id, ''owner_id'', count(*)::text, concat_ws('', '', a.owner_id, a.team_id, a.grade), ''error''
                                   FROM crm_data.interaction AS t JOIN crm_data.account AS a ON a.id = t.account_id WHERE %s (t.owner_id, t.team_id, t.grade) IS DISTINCT FROM (a.owner_id, a.team_id, a.grade) GROUP BY a.id',
                                CASE WHEN v_turn.parts > 1 THEN format('t.account_id >= %1$s AND t.account_id < %2$s AND a.id >= %1$s AND a.id < %2$s AND', v_turn.from_id, v_turn.to_id) ELSE '' END);
    -- what names a record that does not exist
    FOR c IN SELECT x.name, o.object FROM (VALUES ('task'), ('attachment'), ('external_ref')) AS x (name), (VALUES ('account'), ('contact'), ('lead'), ('opportunity'), ('contract')) AS o (object) LOOP
        RETURN QUERY EXECUTE format('SELECT ''dangling'', %1$L, t.id, %3$s, ''record_id'', %2$L || '' '' || t.record_id, NULL, ''error''
                                       FROM crm_data.%1$I AS t WHERE t.object = %2$L AND NOT EXISTS (SELECT FROM crm_data.%2$I AS r WHERE r.id = t.record_id)', c.name, c.object, CASE c.name WHEN 'external_ref' THEN 'NULL::bigint' ELSE 't.account_id' END);
    END LOOP;
    RETURN QUERY
    SELECT 'stage_mismatch', 'opportunity', o.id, o.account_id, 'outcome', o.outcome, s.outcome, 'error'
      FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id WHERE o.deleted_at IS NULL AND (o.outcome <> s.outcome OR o.pipeline_id <> s.pipeline_id)
    UNION ALL
    SELECT 'stage_mismatch', 'opportunity', o.id, o.account_id, 'stage_id', o.stage_id::text, h.to_stage_id::text, 'error'
      FROM crm_data.opportunity AS o JOIN crm_data.stage_history AS h ON h.opportunity_id = o.id AND h.left_at IS NULL AND o.stage_id <> h.to_stage_id WHERE o.deleted_at IS NULL;
    -- sums of a contract are cheap to look at whole
    RETURN QUERY
    SELECT 'plan_sum', 'contract', k.id, k.account_id, 'amount', k.amount::text, sum(p.amount)::text, 'warning'
      FROM crm_data.contract AS k JOIN crm_data.payment_plan AS p ON p.contract_id = k.id AND p.currency = k.currency WHERE k.deleted_at IS NULL AND k.state IN ('signed', 'active', 'finished') GROUP BY k.id HAVING sum(p.amount) <> k.amount
    UNION ALL
    SELECT 'overpaid', 'contract', k.id, k.account_id, 'amount', k.amount::text, sum(CASE e.kind WHEN 'refund' THEN -e.amount ELSE e.amount END)::text, 'warning'
      FROM crm_data.contract AS k JOIN crm_data.receivable_entry AS e ON e.contract_id = k.id AND e.currency = k.currency AND e.kind IN ('payment', 'refund') WHERE k.deleted_at IS NULL GROUP BY k.id HAVING sum(CASE e.kind WHEN 'refund' THEN -e.amount ELSE e.amount END) > k.amount;
END
$$;
COMMENT ON FUNCTION crm._consistency_findings(timestamptz) IS
'Internal: contradictions between related records: contact_mismatch (the same person under two numbers), orphan (of a customer that is deleted or merged), dangling (names a record that does not exist), copied_owner, stage_mismatch, plan_sum (instalments are not the contract''s amount), overpaid.';

CREATE OR REPLACE FUNCTION crm._plain_condition(object text, condition text) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    path text := condition::jsonpath::text;
    atom text[];
    kind oid;
    result text;
BEGIN
    IF path !~ '^\$\?\(@\."[a-z0-9_]+" (==|!=) (null|true|false)( && @\."[a-z0-9_]+" (==|!=) (null|true|false))*\)$' THEN
        RETURN NULL;
    END IF;
    FOR atom IN SELECT regexp_matches(path, '@\."([a-z0-9_]+)" (==|!=) (null|true|false)', 'g') LOOP
        IF object = 'account' AND atom[1] = 'uscc_valid' THEN
            kind := 'bool'::regtype;
        ELSE
            SELECT a.atttypid INTO kind FROM crm_data.field AS f JOIN pg_attribute AS a ON a.attrelid = to_regclass('crm_data.' || quote_ident(f.object)) AND a.attname = f.name AND a.attnum > 0 AND NOT a.attisdropped
                   JOIN pg_type AS t ON t.oid = a.atttypid AND t.typtype = 'b' AND t.typcategory <> 'A' WHERE f.object = _plain_condition.object AND f.name = atom[1] AND NOT f.custom;
        END IF;
        -- an array is compared by its elements, JSON may hold a null of its own, and what is no boolean cannot be compared with one
        IF kind IS NULL OR kind IN ('json'::regtype, 'jsonb'::regtype) OR (atom[3] <> 'null' AND kind <> 'bool'::regtype) THEN
            RETURN NULL;
        END IF;
        result := concat_ws(' AND ', result, format('%s %s %s', CASE WHEN atom[1] = 'uscc_valid' AND object = 'account' THEN 'crm.uscc_valid(t.uscc)' ELSE format('t.%I', atom[1]) END,
                                                    CASE atom[2] WHEN '==' THEN 'IS NOT DISTINCT FROM' ELSE 'IS DISTINCT FROM' END, atom[3]));
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION crm._plain_condition(text, text) IS 'Internal: the condition of a quality rule as SQL over its table t, when it only asks whether columns are empty, true or false, which is quicker than a document a row; NULL for every other condition.';

CREATE OR REPLACE FUNCTION crm._quality_findings()
    RETURNS TABLE (kind text, object text, record_id bigint, account_id bigint, field text, ours text, theirs text, severity text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o record;
    v_there text;
    v_account text;
BEGIN
    FOR o IN SELECT r.object AS name, r.plain, string_agg(format('SELECT %L, %L, %L WHERE %s', r.kind, r.field, r.severity, r.holds), ' UNION ALL ' ORDER BY r.kind) AS rules, string_agg(format('(%s)', r.holds), ' OR ' ORDER BY r.kind) AS broken,
                    string_agg(r.condition, ' ') AS conditions, r.object = 'account' AND bool_or(r.condition ~ 'uscc_valid') AS uscc
               FROM (SELECT 'quality.' || c.key AS kind, c.body ->> 'object' AS object, c.body ->> 'field' AS field, coalesce(c.body ->> 'severity', 'warning') AS severity, c.body ->> 'when' AS condition, p.sql IS NOT NULL AS plain,
                            coalesce(p.sql, format('jsonb_path_exists(d.doc, %L::jsonpath, ''{}'', true)', c.body ->> 'when')) AS holds
                       FROM crm_data.config AS c JOIN crm_data.field AS f ON f.object = c.body ->> 'object' AND f.name = 'updated_at' CROSS JOIN LATERAL crm._plain_condition(c.body ->> 'object', c.body ->> 'when') AS p (sql)
                      WHERE c.kind = 'quality_rule' AND c.scope = '*' AND c.status = 'active') AS r
              GROUP BY r.object, r.plain ORDER BY r.object, r.plain LOOP
        v_there := (SELECT coalesce(string_agg(format('t.%I IS NULL AND ', f.name), ''), '') FROM crm_data.field AS f WHERE f.object = o.name AND f.name IN ('deleted_at', 'merged_into'));
        v_account := CASE WHEN o.name = 'account' THEN 't.id' WHEN EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = o.name AND f.name = 'account_id') THEN 't.account_id' ELSE 'NULL::bigint' END;
        IF o.plain THEN
            RETURN QUERY EXECUTE format('SELECT r.kind, %1$L, t.id, %2$s, r.field, NULL::text, NULL::text, r.severity FROM crm_data.%1$I AS t CROSS JOIN LATERAL (%3$s) AS r (kind, field, severity) WHERE %4$s (%5$s)', o.name, v_account, o.rules, v_there, o.broken);
            CONTINUE;
        END IF;
        -- a condition sees the columns that the rules name, or all when one asks for whatever there is
        RETURN QUERY EXECUTE format($q$
            SELECT r.kind, %1$L, d.id, d.account_id, r.field, NULL::text, NULL::text, r.severity
              FROM (SELECT t.id, %2$s AS account_id, %3$s AS doc FROM crm_data.%1$I AS t WHERE %4$s true OFFSET 0) AS d CROSS JOIN LATERAL (%5$s) AS r (kind, field, severity) WHERE %6$s$q$,
            o.name, v_account,
            CASE WHEN o.conditions ~ '\*' THEN 'to_jsonb(t)' || CASE WHEN o.uscc THEN ' || jsonb_build_object(''uscc_valid'', crm.uscc_valid(t.uscc))' ELSE '' END
                 ELSE (SELECT 'jsonb_build_object(' || concat_ws(', ', CASE WHEN o.uscc THEN '''uscc_valid'', crm.uscc_valid(t.uscc)' END, string_agg(format('%L, t.%I', f.name, f.name), ', ' ORDER BY f.id)) || ')' FROM crm_data.field AS f WHERE f.object = o.name AND NOT f.custom AND o.conditions ~ ('\m' || f.name || '\M')) END,
            v_there, o.rules, o.broken);
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._quality_findings() IS 'Internal: records that break an active rule of kind quality_rule.';

CREATE OR REPLACE FUNCTION crm._steward_of(account bigint, object text, field text, source bigint) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT a.steward_id FROM crm_data.account AS a WHERE a.id = account), (SELECT f.steward_id FROM crm_data.field AS f WHERE f.object = _steward_of.object AND f.name = field AND NOT f.custom),
                    (SELECT s.steward_id FROM crm_data.source_system AS s WHERE s.id = source))
$$;
COMMENT ON FUNCTION crm._steward_of(bigint, text, text, bigint) IS 'Internal: who is responsible for a wrong value: the steward of the customer, else of the field, else of the source; NULL when nobody is named.';

CREATE OR REPLACE FUNCTION crm._job_consistency_scan(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_most int := crm._setting('consistency.max_issues', '5000')::int;
    v_new bigint;
    v_gone bigint;
    v_rows jsonb;
    v_id bigint;
    v_turn record;
    w record;
BEGIN
    SELECT * INTO v_turn FROM crm._consistency_turn(due);
    WITH found AS MATERIALIZED (SELECT f.*, format('%s:%s:%s:%s', f.kind, f.object, f.record_id, f.field) AS key FROM (SELECT * FROM crm._consistency_findings(due) UNION ALL SELECT * FROM crm._quality_findings()) AS f),
    -- what is not found again is gone: the engine does not know whether somebody repaired it. (NOT IN is looked up in a hash, whatever number was expected.)
    gone AS (UPDATE crm_data.data_issue AS i SET state = 'gone', resolved_at = now(), resolved_by = 'consistency scan', updated_at = now(), updated_by = 'consistency scan'
              WHERE i.state = 'open' AND (i.kind IN ('contact_mismatch', 'orphan', 'dangling', 'copied_owner', 'stage_mismatch', 'plan_sum', 'overpaid') OR i.kind LIKE 'quality.%') AND coalesce(i.dedupe_key, '') NOT IN (SELECT f.key FROM found AS f)
                AND NOT (i.kind = 'copied_owner' AND i.object = 'interaction' AND (i.account_id < v_turn.from_id OR i.account_id >= v_turn.to_id))
             RETURNING i.id),
    -- of one kind so many a night: an empty column of a million customers is one thing to repair, not a million
    new AS (INSERT INTO crm_data.data_issue (kind, object, record_id, account_id, field, ours, theirs, severity, dedupe_key, steward_id)
            SELECT f.kind, f.object, f.record_id, f.account_id, f.field, f.ours, f.theirs, f.severity, f.key, crm._steward_of(f.account_id, f.object, f.field, NULL)
              FROM (SELECT x.*, row_number() OVER (PARTITION BY x.kind ORDER BY x.record_id, x.object, x.field) AS n FROM found AS x
                     WHERE NOT EXISTS (SELECT FROM crm_data.data_issue AS i WHERE i.dedupe_key = x.key AND i.state IN ('open', 'accepted'))) AS f
             WHERE f.n <= v_most ORDER BY f.kind, f.record_id, f.object, f.field
            ON CONFLICT (dedupe_key) WHERE state = 'open' DO NOTHING RETURNING id)
    SELECT (SELECT count(*) FROM new), (SELECT count(*) FROM gone) INTO v_new, v_gone;
    INSERT INTO crm_data.alert (kind, level, message, dedupe_key)
    SELECT 'view_changed', 'red', crm._view_message(v.view, v.problem), 'view_changed:' || v.view FROM crm.verify_views() AS v
    ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
    INSERT INTO crm_data.alert (kind, level, message, dedupe_key)
    SELECT 'doctor', 'red', format('%s: %s. %s', d.name, d.found, d.advice), 'doctor:' || d.name FROM crm.doctor() AS d WHERE d.status = 'error' AND d.name <> 'view definitions'
    ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
    SELECT coalesce(jsonb_agg(jsonb_build_object('check', i.kind, 'problem', jsonb_build_object('en', coalesce(q.body ->> 'en', crm._say(i.kind, 'en')), 'zh', coalesce(q.body ->> 'zh', crm._say(i.kind, 'zh'))), 'severity', i.severity, 'open', i.open, 'new', i.fresh, 'gone', i.gone)
                              ORDER BY i.severity, i.open DESC, i.kind COLLATE "C"), '[]') INTO v_rows
      FROM (SELECT x.kind, min(x.severity) AS severity, count(*) FILTER (WHERE x.state = 'open') AS open, count(*) FILTER (WHERE x.state = 'open' AND x.created_at = now()) AS fresh, count(*) FILTER (WHERE x.resolved_at = now()) AS gone
              FROM crm_data.data_issue AS x WHERE x.kind <> 'sync_diff' AND (x.state = 'open' OR x.resolved_at = now()) GROUP BY 1) AS i
      LEFT JOIN crm_data.config AS q ON q.kind = 'quality_rule' AND 'quality.' || q.key = i.kind AND q.scope = '*' AND q.status = 'active';
    v_id := crm._report_store('consistency_scan', tstzrange(due - interval '1 day', due, '[)'), due,
        jsonb_build_object('title', crm._report_title('consistency_scan'), 'columns', '["problem", "severity", "open", "new", "gone"]'::jsonb, 'say', '["severity"]'::jsonb, 'chart', '{"kind": "bars", "label": "problem", "value": "open"}'::jsonb, 'rows', v_rows));
    IF v_new + v_gone > 0 THEN
        PERFORM crm._notify('report.consistency', 'consistency_scan:' || extract(epoch FROM due), jsonb_build_object('report', 'consistency_scan', 'snapshot', v_id, 'new', v_new, 'gone', v_gone), crm._report_readers('consistency_scan'));
    END IF;
    FOR w IN SELECT i.steward_id, count(*) AS n FROM crm_data.data_issue AS i WHERE i.state = 'open' AND i.created_at = now() AND i.steward_id IS NOT NULL GROUP BY 1 ORDER BY 1 LOOP
        PERFORM crm._notify('report.consistency', 'consistency_scan:mine:' || extract(epoch FROM due), jsonb_build_object('report', 'consistency_scan', 'yours', w.n), ARRAY[w.steward_id]);
    END LOOP;
    RETURN v_new + v_gone;
END
$$;
COMMENT ON FUNCTION crm._job_consistency_scan(timestamptz) IS 'Job: contradictions between related records and broken quality rules become data issues with their steward, those that are no more are closed, replaced views, and what crm.doctor finds broken, raise an alert; stores the report. Above two million follow-ups a night compares a part of the customers with theirs. Answers how many issues are new or gone. Internal.';

-- ---------------------------------------------------------------- other systems

CREATE OR REPLACE FUNCTION crm._sample_loss(sample text, type oid, typmod int) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    v_back text;
    v_zone CONSTANT boolean := sample ~* '([0-9]\s*(z|utc|gmt)|:[0-9.]+\s*[+-][0-9]{1,2}(:?[0-9]{2})?)\s*$' OR sample ~ ':[0-9.]+\s+[A-Za-z]+/[A-Za-z_/]+\s*$';
    v_clock CONSTANT boolean := sample ~ '[0-9]:[0-9]{2}';
BEGIN
    EXECUTE format('SELECT ($1::%s)::text', format_type(type, typmod)) INTO v_back USING sample;
    IF type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'float4'::regtype, 'float8'::regtype) THEN
        RETURN CASE WHEN btrim(sample) ~ '^[+-]?0[0-9]' THEN 'a leading zero' WHEN btrim(sample) ~ '^\+' THEN 'a leading plus'
                    WHEN btrim(sample) !~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$' THEN 'what is no number' WHEN v_back::numeric <> btrim(sample)::numeric THEN 'precision' END;
    ELSIF type = 'date'::regtype THEN
        RETURN CASE WHEN v_clock THEN 'the time of day' END;
    ELSIF type IN ('timestamptz'::regtype, 'timestamp'::regtype) THEN
        RETURN CASE WHEN (type = 'timestamp'::regtype) = v_zone AND v_clock OR type = 'timestamptz'::regtype AND NOT v_clock AND sample !~* 'infinity' THEN 'the time zone' WHEN sample ~ ':[0-9]{2}\.[0-9]{6}[0-9]*[1-9]' THEN 'precision' END;
    ELSIF type IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype) THEN
        RETURN CASE WHEN v_back <> sample THEN 'what is too long' END;
    END IF;
    RETURN NULL;
EXCEPTION
    WHEN numeric_value_out_of_range OR string_data_right_truncation OR datetime_field_overflow THEN
        RETURN 'what is too long';
    WHEN OTHERS THEN
        RETURN CASE WHEN type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND btrim(sample) ~ '^[+-]?[0-9]+\.[0-9]*$' THEN 'precision' ELSE 'all of it' END;
END
$$;
COMMENT ON FUNCTION crm._sample_loss(text, oid, int) IS 'Internal: what a value that comes as text loses on its way into a type, NULL for nothing: a leading zero or plus, precision, the time of day, the time zone (dropped, or to be guessed), what is too long or no number, or all of it when it cannot be read.';

CREATE OR REPLACE FUNCTION crm._field_map_problems(body jsonb) RETURNS TABLE (severity text, path text, message text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    f jsonb;
    v_ord int;
    v_type oid;
    v_mod int;
    v_source text;
    v_name text;
    v_alias text;
    v_from oid;
    v_table regclass := to_regclass('crm_data.' || quote_ident(coalesce(body ->> 'object', '')));
    v_loss record;
    v_number CONSTANT oid[] := ARRAY['int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'float4'::regtype, 'float8'::regtype]::oid[];
BEGIN
    IF v_table IS NULL OR NOT EXISTS (SELECT FROM crm_data.field AS r WHERE r.object = body ->> 'object') THEN
        RETURN QUERY SELECT 'error', '$.object', format('there is no object %L', left(body ->> 'object', 100));
        RETURN;
    ELSIF jsonb_typeof(body -> 'fields') IS DISTINCT FROM 'array' THEN
        RETURN QUERY SELECT 'error', '$.fields', 'a map has a list of fields'::text;
        RETURN;
    END IF;
    FOR f, v_ord IN SELECT x.value, x.ord - 1 FROM jsonb_array_elements(body -> 'fields') WITH ORDINALITY AS x (value, ord) LOOP
        v_name := left(f ->> 'field', 63);
        path := format('$.fields[%s]', v_ord);
        v_source := coalesce(f ->> 'source_type', f ->> 'type');
        v_from := NULL;
        IF jsonb_typeof(f) <> 'object' OR v_name IS NULL OR NOT EXISTS (SELECT FROM crm_data.field AS r WHERE r.object = body ->> 'object' AND r.name = v_name) THEN
            RETURN QUERY SELECT 'error', path, format('%s has no field %L', body ->> 'object', coalesce(v_name, left(f::text, 100)));
            CONTINUE;
        END IF;
        SELECT t.atttypid, t.atttypmod INTO v_type, v_mod FROM pg_attribute AS t WHERE t.attrelid = v_table AND t.attname = v_name AND NOT t.attisdropped;
        CONTINUE WHEN NOT FOUND;      -- one of one's own: a text in attrs
        IF v_source IS NOT NULL THEN
            BEGIN
                v_alias := regexp_replace(lower(v_source), '\s*\([0-9]+\s*(,\s*[0-9]+\s*)?\)', '');
                -- other systems have other names
                v_from := to_regtype(coalesce('{"number": "numeric", "varchar2": "text", "nvarchar": "text", "nvarchar2": "text", "string": "text", "longtext": "text", "datetime": "timestamp", "double": "float8", "tinyint": "int2", "int": "int4"}'::jsonb ->> v_alias, v_alias));
            EXCEPTION WHEN OTHERS THEN
                v_from := NULL;
            END;
            IF v_from IS NULL THEN
                RETURN QUERY SELECT 'error', path, format('%s: there is no type %L', v_name, left(v_source, 100));
            -- a text that goes into a number is cut on the way: refused before it happens. What a wider type of the same family holds is not.
            ELSIF v_from <> v_type AND v_type <> 'text'::regtype
                  AND NOT (v_from = 'int2'::regtype AND v_type IN ('int4'::regtype, 'int8'::regtype, 'numeric'::regtype) OR v_from = 'int4'::regtype AND v_type IN ('int8'::regtype, 'numeric'::regtype)
                           OR v_from = 'int8'::regtype AND v_type = 'numeric'::regtype OR v_from = 'float4'::regtype AND v_type = 'float8'::regtype)
               OR v_from = v_type AND v_type = 'numeric'::regtype AND v_mod >= 0 AND coalesce(substring(v_source FROM ',\s*([0-9]+)')::int, CASE WHEN v_source ~ '\(' THEN 0 ELSE 999 END) > ((v_mod - 4) & 65535) THEN
                RETURN QUERY SELECT 'error', path, format('%s cannot hold what comes as %s without loss', v_name, left(v_source, 100));
            ELSIF v_from = ANY (v_number) AND v_type = 'text'::regtype THEN
                RETURN QUERY SELECT 'warning', path, format('%s is a text: what comes as %s may have lost its leading zeros there', v_name, left(v_source, 100));
            END IF;
        END IF;
        IF f ? 'samples' AND (jsonb_typeof(f -> 'samples') <> 'array' OR jsonb_array_length(f -> 'samples') > 1000 OR EXISTS (SELECT FROM jsonb_array_elements(f -> 'samples') AS s WHERE jsonb_typeof(s) NOT IN ('string', 'number', 'boolean', 'null'))) THEN
            RETURN QUERY SELECT 'error', path || '.samples', format('%s: samples are a list of at most 1000 plain values', v_name);
            CONTINUE;
        END IF;
        -- what the map brings as samples, and what the systems have sent already; told are the field, how many and what is lost, never a value
        FOR v_loss IN
            SELECT l.origin, l.loss, count(*) AS n, max(l.all_of) AS total
              FROM (SELECT v.origin, crm._sample_loss(v.value, v_type, v_mod) AS loss, count(*) OVER (PARTITION BY v.origin) AS all_of
                      FROM (SELECT 'samples' AS origin, s #>> '{}' AS value FROM jsonb_array_elements(CASE WHEN f ? 'samples' THEN f -> 'samples' ELSE '[]' END) AS s
                            UNION ALL
                            SELECT 'values of ' || y.name, i.payload ->> (f ->> y.name)
                              FROM jsonb_array_elements_text(CASE jsonb_typeof(body -> 'systems') WHEN 'array' THEN body -> 'systems' ELSE '[]' END) AS y (name) JOIN crm_data.source_system AS s ON s.name = y.name
                             CROSS JOIN LATERAL (SELECT x.payload FROM crm_data.inbox AS x WHERE x.source_id = s.id AND x.kind = 'record' ORDER BY x.created_at DESC LIMIT 200) AS i
                             WHERE v_type <> 'text'::regtype AND f ? y.name) AS v
                     WHERE v.value <> '') AS l
             WHERE l.loss IS NOT NULL GROUP BY l.origin, l.loss ORDER BY l.origin, l.loss LOOP
            RETURN QUERY SELECT 'error', path, format('%s would lose %s in %s of %s %s', v_name, v_loss.loss, v_loss.n, v_loss.total, v_loss.origin);
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._field_map_problems(jsonb) IS 'Internal: what is wrong with a map of fields: an unknown object, field or type, a declared type that the column cannot hold, and what sample values (samples of a field, and the latest 200 records that each of its systems sent) lose on their way through the type of the column. No message holds a value.';

CREATE OR REPLACE FUNCTION crm._map_key(compare text, value text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE compare WHEN 'phone' THEN coalesce(crm.phone_key(value), crm.fold(value)) WHEN 'email' THEN coalesce(crm.email_key(value), crm.fold(value)) WHEN 'fold' THEN crm.fold(value) ELSE nullif(btrim(value), '') END
$$;
COMMENT ON FUNCTION crm._map_key(text, text) IS 'Internal: what of a value counts when two systems are compared: exact, fold (case, width, blanks), phone or email.';

CREATE OR REPLACE FUNCTION crm._map_record(source text, doc jsonb) RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m jsonb := (SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'field_map' AND c.key = 'core' AND c.scope = '*' AND c.status = 'active');
    f jsonb;
    v_id bigint;
BEGIN
    -- by the customer's code, else by his company number, else by his telephone when it is one customer's only
    SELECT jsonb_object_agg(x ->> 'field', crm._map_key(x ->> 'compare', doc ->> (x ->> source))) INTO f FROM jsonb_array_elements(m -> 'fields') AS x WHERE x ? source;
    SELECT a.id INTO v_id FROM crm_data.account AS a WHERE a.code = f ->> 'code' AND a.deleted_at IS NULL;
    IF v_id IS NULL THEN
        SELECT min(a.id) INTO v_id FROM crm_data.account AS a WHERE a.uscc = f ->> 'uscc' AND a.deleted_at IS NULL AND a.merged_into IS NULL HAVING count(*) = 1;
    END IF;
    IF v_id IS NULL THEN
        SELECT min(a.id) INTO v_id FROM crm_data.account AS a WHERE a.phone_norm = f ->> 'phone' AND a.deleted_at IS NULL AND a.merged_into IS NULL HAVING count(*) = 1;
    END IF;
    RETURN v_id;
END
$$;
COMMENT ON FUNCTION crm._map_record(text, jsonb) IS 'Internal: the customer that a record of another system is a copy of, by the mapped code, company number or telephone; NULL when none or several are.';

CREATE OR REPLACE FUNCTION crm.stage_external(source text, external_id text, record jsonb, source_ts timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE -- not STRICT: source_ts may be NULL
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_source crm_data.source_system;
    v_id bigint;
    v_account bigint;
BEGIN
    PERFORM crm._require_role('crm_sync', 'crm_admin');
    IF jsonb_typeof(record) IS DISTINCT FROM 'object' OR coalesce(external_id, '') = '' THEN
        RAISE EXCEPTION 'a record of another system is an object with an identifier there' USING ERRCODE = 'invalid_parameter_value', HINT = 'crm.stage_external(''erp'', ''C-17'', ''{"customer_no": "C-17", "tel": "..."}'').';
    END IF;
    SELECT * INTO v_source FROM crm_data.source_system AS s WHERE s.name = source AND s.enabled;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown source "%"', source USING ERRCODE = 'invalid_parameter_value', HINT = 'Sources are rows of source_system; this one is missing or switched off.';
    END IF;
    SELECT r.record_id INTO v_account FROM crm_data.external_ref AS r WHERE r.source_id = v_source.id AND r.object = 'account' AND r.external_id = external_id;
    IF v_account IS NULL THEN
        v_account := crm._map_record(source, record);
        IF v_account IS NOT NULL THEN
            INSERT INTO crm_data.external_ref (source_id, external_id, object, record_id, source_ts) VALUES (v_source.id, external_id, 'account', v_account, source_ts) ON CONFLICT DO NOTHING;
        END IF;
    END IF;
    -- the same again is as fresh as it is now
    INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, source_ts, ts_assumed, state, object, record_id, processed_at)
    VALUES (v_source.id, external_id, 'record', record, sha256(convert_to(record::text, 'UTF8')), coalesce(source_ts, now()), source_ts IS NULL, 'applied', CASE WHEN v_account IS NOT NULL THEN 'account' END, v_account, clock_timestamp())
    ON CONFLICT ON CONSTRAINT inbox_source_id_external_id_digest_key DO UPDATE SET processed_at = clock_timestamp(), object = excluded.object, record_id = excluded.record_id
    RETURNING id INTO v_id;
    UPDATE crm_data.source_system AS s SET last_seen_at = now(), last_applied_at = now() WHERE s.id = v_source.id;
    RETURN v_account;
END
$$;
COMMENT ON FUNCTION crm.stage_external(text, text, jsonb, timestamptz) IS
'Keeps the copy that another system has of one of our customers, for the monthly comparison of the core fields; changes nothing of ours. The customer is found by the crosswalk, else by the mapped code, company number or telephone. Returns it, NULL when none is found: the check names such records.
source: name of a source system; record: the fields by their names there. source_ts: when it was read. Not STRICT: it may be NULL. Errors: 22023 an unknown source, or a record that is no object.';

CREATE OR REPLACE FUNCTION crm._field_map_differences(upto timestamptz)
    RETURNS TABLE (source_id bigint, system text, external_id text, account_id bigint, field text, compare text, ours text, theirs text, verdict text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH m AS (SELECT c.body FROM crm_data.config AS c
                WHERE c.kind = 'field_map' AND c.scope = '*' AND c.status = 'active' AND c.key = coalesce((SELECT r.body ->> 'map' FROM crm_data.config AS r WHERE r.kind = 'report' AND r.key = 'field_map_check' AND r.scope = '*' AND r.status = 'active'), 'core')),
    copy AS MATERIALIZED (SELECT DISTINCT ON (i.source_id, i.external_id) s.id AS source_id, s.name AS system, i.external_id, i.payload, coalesce(r.record_id, crm._map_record(s.name, i.payload)) AS account_id
                            FROM m CROSS JOIN LATERAL jsonb_array_elements_text(m.body -> 'systems') AS n (name) JOIN crm_data.source_system AS s ON s.name = n.name
                            JOIN crm_data.inbox AS i ON i.source_id = s.id AND i.kind = 'record' AND i.created_at <= upto
                            LEFT JOIN crm_data.external_ref AS r ON r.source_id = s.id AND r.object = 'account' AND r.external_id = i.external_id
                           ORDER BY i.source_id, i.external_id, i.processed_at DESC),
    side AS (SELECT c.source_id, c.system, c.external_id, a.id AS account_id, f ->> 'field' AS field, f ->> 'compare' AS compare, nullif(btrim(d.doc ->> (f ->> 'field')), '') AS ours, nullif(btrim(c.payload ->> (f ->> c.system)), '') AS theirs
               FROM copy AS c JOIN crm_data.account AS a ON a.id = c.account_id AND a.deleted_at IS NULL CROSS JOIN LATERAL (SELECT to_jsonb(a) AS doc OFFSET 0) AS d
              CROSS JOIN m CROSS JOIN LATERAL jsonb_array_elements(m.body -> 'fields') AS f
              WHERE f ? c.system AND NOT c.system = ANY (a.sync_off))
    SELECT s.source_id, s.system, s.external_id, s.account_id, s.field, s.compare, s.ours, s.theirs,
           CASE WHEN s.ours IS NULL AND s.theirs IS NULL THEN 'none' WHEN s.theirs IS NULL THEN 'missing_there' WHEN s.ours IS NULL THEN 'missing_here' WHEN crm._map_key(s.compare, s.ours) = crm._map_key(s.compare, s.theirs) THEN 'same' ELSE 'differs' END
      FROM side AS s
    UNION ALL
    SELECT c.source_id, c.system, c.external_id, NULL, NULL, NULL, NULL, NULL, 'unmatched' FROM copy AS c WHERE c.account_id IS NULL OR EXISTS (SELECT FROM crm_data.account AS a WHERE a.id = c.account_id AND a.deleted_at IS NOT NULL)
$$;
COMMENT ON FUNCTION crm._field_map_differences(timestamptz) IS 'Internal: every mapped field of every record staged by another system, against ours: same, differs, missing here or there, none; unmatched for a record that is no customer of ours.';

CREATE OR REPLACE FUNCTION crm._job_field_map_check(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_month timestamptz := date_trunc('month', due AT TIME ZONE v_tz) AT TIME ZONE v_tz;
    v_limit numeric := crm._setting('consistency.alert', '5')::numeric;
    v_rows jsonb;
    v_id bigint;
    v_n bigint;
    w record;
BEGIN
    -- by system and field; the values themselves stand in the issues, where each reader sees what he may
    WITH d AS MATERIALIZED (SELECT x.*, format('sync_diff:%s:%s:%s', x.source_id, x.external_id, x.field) AS key FROM crm._field_map_differences(due) AS x),
    gone AS (UPDATE crm_data.data_issue AS i SET state = 'gone', resolved_at = now(), resolved_by = 'field map check', updated_at = now(), updated_by = 'field map check'
              WHERE i.kind = 'sync_diff' AND i.state = 'open' AND NOT EXISTS (SELECT FROM d WHERE d.key = i.dedupe_key AND d.verdict = 'differs')),
    new AS (INSERT INTO crm_data.data_issue (kind, object, record_id, account_id, field, ours, theirs, source_id, dedupe_key, steward_id)
            SELECT 'sync_diff', 'account', k.account_id, k.account_id, k.field, k.ours, k.theirs, k.source_id, k.key, crm._steward_of(k.account_id, 'account', k.field, k.source_id)
              FROM (SELECT x.*, row_number() OVER (PARTITION BY x.source_id, x.field ORDER BY x.account_id, x.external_id) AS n FROM d AS x WHERE x.verdict = 'differs'
                       AND NOT EXISTS (SELECT FROM crm_data.data_issue AS i WHERE i.dedupe_key = x.key AND i.state = 'accepted' AND i.ours IS NOT DISTINCT FROM x.ours AND i.theirs IS NOT DISTINCT FROM x.theirs)) AS k
             WHERE k.n <= crm._setting('consistency.max_issues', '5000')::int ORDER BY k.system, k.field, k.account_id
            ON CONFLICT (dedupe_key) WHERE state = 'open' DO UPDATE SET ours = excluded.ours, theirs = excluded.theirs, steward_id = excluded.steward_id, updated_at = now(), updated_by = 'field map check'),
    r AS (SELECT d.system, d.field, min(f.id) AS o, jsonb_build_object('en', coalesce(s.label ->> 'en', s.name), 'zh', coalesce(s.label ->> 'zh', s.name)) AS label, jsonb_build_object('en', coalesce(f.label ->> 'en', d.field), 'zh', coalesce(f.label ->> 'zh', d.field)) AS field_label,
                 count(*) FILTER (WHERE d.verdict IN ('same', 'differs')) AS compared, count(*) FILTER (WHERE d.verdict = 'differs') AS differing, count(*) FILTER (WHERE d.verdict = 'missing_here') AS missing_here, count(*) FILTER (WHERE d.verdict = 'missing_there') AS missing_there,
                 round(count(*) FILTER (WHERE d.verdict = 'differs')::numeric / nullif(count(*) FILTER (WHERE d.verdict IN ('same', 'differs')), 0), 4) AS rate, (SELECT m.full_name FROM crm_data.member AS m WHERE m.id = coalesce(f.steward_id, s.steward_id)) AS steward
            FROM d JOIN crm_data.source_system AS s ON s.id = d.source_id LEFT JOIN crm_data.field AS f ON f.object = 'account' AND f.name = d.field AND NOT f.custom
           WHERE d.verdict <> 'unmatched' GROUP BY d.system, d.field, s.label, s.name, s.steward_id, f.label, f.steward_id)
    SELECT coalesce((SELECT jsonb_agg(jsonb_build_object('part', 'fields', 'system', r.label, 'source', r.system, 'field', r.field_label, 'name', r.field, 'compared', r.compared, 'differing', r.differing, 'missing_here', r.missing_here, 'missing_there', r.missing_there,
                                                         'difference_rate', r.rate, 'owner', r.steward, 'level', CASE WHEN 100 * r.rate > v_limit THEN 'red' WHEN r.differing > 0 THEN 'yellow' WHEN r.compared > 0 THEN 'green' END) ORDER BY r.rate DESC NULLS LAST, r.system, r.o) FROM r), '[]')
        || coalesce((SELECT jsonb_agg(jsonb_build_object('part', 'unmatched', 'system', jsonb_build_object('en', coalesce(x.label ->> 'en', x.name), 'zh', coalesce(x.label ->> 'zh', x.name)), 'source', x.name, 'records', x.n) ORDER BY x.name)
                       FROM (SELECT s.name, s.label, count(*) AS n FROM d JOIN crm_data.source_system AS s ON s.id = d.source_id WHERE d.verdict = 'unmatched' GROUP BY 1, 2) AS x), '[]'),
           (SELECT count(*) FROM d WHERE d.verdict = 'differs') INTO v_rows, v_n;
    v_rows := v_rows || (SELECT coalesce(jsonb_agg(jsonb_build_object('part', 'stewards', 'owner', coalesce(to_jsonb(x.name), jsonb_build_object('en', crm._say('nobody', 'en'), 'zh', crm._say('nobody', 'zh'))), 'count', x.n) ORDER BY x.n DESC, x.name), '[]')
                           FROM (SELECT m.full_name AS name, count(*) AS n FROM crm_data.data_issue AS i LEFT JOIN crm_data.member AS m ON m.id = i.steward_id WHERE i.kind = 'sync_diff' AND i.state = 'open' GROUP BY 1) AS x);
    v_id := crm._report_store('field_map_check', tstzrange(v_month - interval '1 month', v_month, '[)'), due,
        jsonb_build_object('title', crm._report_title('field_map_check'), 'part', 'part', 'say', '["level"]'::jsonb, 'columns', '["field", "system", "level", "difference_rate", "compared", "differing", "missing_here", "missing_there", "records", "owner", "count"]'::jsonb, 'rows', v_rows));
    INSERT INTO crm_data.alert (kind, level, message, value, dedupe_key)
    SELECT 'consistency', 'orange', format('%s percent of the values of %s differ from those in %s.', round(100 * (r ->> 'difference_rate')::numeric, 1), r ->> 'name', r ->> 'source'), (r ->> 'difference_rate')::float8, format('consistency:%s:%s', r ->> 'source', r ->> 'name')
      FROM jsonb_array_elements(v_rows) AS r WHERE r ->> 'level' = 'red'
    ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
    PERFORM crm._notify('report.field_map', 'field_map_check:' || extract(epoch FROM due), jsonb_build_object('report', 'field_map_check', 'snapshot', v_id, 'differences', v_n), crm._report_readers('field_map_check'));
    FOR w IN SELECT i.steward_id, count(*) AS n FROM crm_data.data_issue AS i WHERE i.kind = 'sync_diff' AND i.state = 'open' AND i.steward_id IS NOT NULL GROUP BY 1 ORDER BY 1 LOOP
        PERFORM crm._notify('report.field_map', 'field_map_check:mine:' || extract(epoch FROM due), jsonb_build_object('report', 'field_map_check', 'yours', w.n), ARRAY[w.steward_id]);
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_field_map_check(timestamptz) IS 'Job of the 5th: the core fields against the copies of other systems; every difference a data issue with its steward, an alert above setting consistency.alert, the report stored. Answers how many values differ. Internal.';

CREATE OR REPLACE FUNCTION crm.consistency_rate() RETURNS TABLE (system text, field text, compared bigint, differing bigint, difference_rate numeric, missing_here bigint, missing_there bigint, level text, checked_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r ->> 'source', r ->> 'name', (r ->> 'compared')::bigint, (r ->> 'differing')::bigint, (r ->> 'difference_rate')::numeric, (r ->> 'missing_here')::bigint, (r ->> 'missing_there')::bigint, r ->> 'level', s.data_as_of
      FROM (SELECT x.* FROM crm_data.report_snapshot AS x WHERE x.report = 'field_map_check' ORDER BY x.seq DESC LIMIT 1) AS s, jsonb_array_elements(s.body -> 'rows') WITH ORDINALITY AS u (r, o)
     WHERE r ->> 'part' = 'fields' ORDER BY o
$$;
COMMENT ON FUNCTION crm.consistency_rate() IS 'The consistency board: for each other system and core field how many values were compared in the latest cross-system check, how many differ and their share; level red above setting consistency.alert (5 %). Holds no values.';

-- ---------------------------------------------------------------- use of fields

CREATE OR REPLACE FUNCTION crm._field_fill() RETURNS TABLE (object text, field text, filled numeric, variety bigint)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o record;
BEGIN
    FOR o IN SELECT f.object AS name, string_agg(format('count(nullif(nullif(t.%1$I::text, ''''), ''{}'')) AS f%2$s, count(DISTINCT t.%1$I::text) AS d%2$s', f.name, f.id), ', ' ORDER BY f.id) AS counts,
                    string_agg(format('(%L, a.f%2$s, a.d%2$s)', f.name, f.id), ', ' ORDER BY f.id) AS rows_,
                    least(100, 100 * 20000 / greatest((SELECT c.reltuples FROM pg_class AS c WHERE c.oid = format('crm_data.%I', f.object)::regclass), 1)) AS share
               FROM crm_data.field AS f WHERE f.class NOT IN ('key', 'engine') AND f.write_class <> 'engine' AND f.retired_at IS NULL AND NOT f.custom
                AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = format('crm_data.%I', f.object)::regclass AND c.relkind = 'r') GROUP BY f.object ORDER BY f.object LOOP
        RETURN QUERY EXECUTE format('SELECT %L, v.name, round(v.f::numeric / nullif(a.n, 0), 3), v.d FROM (SELECT count(*) AS n, %s FROM crm_data.%I AS t TABLESAMPLE SYSTEM (%s) REPEATABLE (1)) AS a CROSS JOIN LATERAL (VALUES %s) AS v (name, f, d)',
                                    o.name, o.counts, o.name, o.share, o.rows_);
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._field_fill() IS 'Internal: of every field that people fill in, how much is filled and how many values it has, in a fixed sample of about 20000 rows; NULL for a table without rows.';

CREATE OR REPLACE FUNCTION crm._field_review(from_at timestamptz, to_at timestamptz)
    RETURNS TABLE (object text, field text, label jsonb, filled_rate numeric, distinct_values bigint, changes bigint, reads bigint, used_by bigint, advice text)
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH f AS (SELECT f.id, f.object, f.name, f.label FROM crm_data.field AS f WHERE f.class NOT IN ('key', 'engine') AND f.write_class <> 'engine' AND f.retired_at IS NULL AND NOT f.custom),
    s AS MATERIALIZED (SELECT * FROM crm._field_fill()),
    c AS (SELECT h.object, k.name, count(*) AS n FROM crm_data.change AS h CROSS JOIN LATERAL jsonb_object_keys(h.fields::jsonb) AS k (name) WHERE h.at >= from_at AND h.at < to_at AND h.op = 'u' GROUP BY 1, 2),
    r AS (SELECT l.field_id, count(*) AS n FROM crm_data.access_log AS l WHERE l.at >= from_at AND l.at < to_at AND l.field_id IS NOT NULL GROUP BY 1),
    -- rules, forms, maps, models and metrics that name it
    u AS (SELECT DISTINCT x.id, w[1] AS word FROM crm_data.config AS x CROSS JOIN LATERAL regexp_matches(x.body::text, '[a-z_0-9]+', 'g') AS w WHERE x.status = 'active' AND x.kind NOT IN ('setting', 'picklist', 'field_policy', 'row_policy', 'permission'))
    SELECT f.object, f.name, f.label, s.filled, s.variety, coalesce(c.n, 0), coalesce(r.n, 0), (SELECT count(*) FROM u WHERE u.word = f.name),
           CASE WHEN s.filled IS NULL THEN 'no_data' WHEN s.filled < 0.05 AND NOT EXISTS (SELECT FROM u WHERE u.word = f.name) THEN 'retire' WHEN s.filled < 0.05 THEN 'seldom_filled' WHEN s.variety <= 1 THEN 'one_value'
                WHEN coalesce(c.n, 0) + coalesce(r.n, 0) = 0 AND NOT EXISTS (SELECT FROM u WHERE u.word = f.name) THEN 'unused' ELSE 'ok' END
      FROM f LEFT JOIN s ON s.object = f.object AND s.field = f.name LEFT JOIN c ON c.object = f.object AND c.name = f.name LEFT JOIN r ON r.field_id = f.id
     ORDER BY f.id
$$;
COMMENT ON FUNCTION crm._field_review(timestamptz, timestamptz) IS 'Internal: for every field that people fill in: how much of it is filled and how many values it has (in a sample), how often it was changed and revealed in a span, how many rules, forms, maps and models name it, and what follows.';

CREATE OR REPLACE FUNCTION crm.field_review(day date DEFAULT NULL)
    RETURNS TABLE (object text, field text, label text, filled_rate numeric, distinct_values bigint, changes bigint, reads bigint, used_by bigint, advice text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_to timestamp := date_trunc('quarter', coalesce(day::timestamp, now() AT TIME ZONE v_tz));
BEGIN
    PERFORM crm._report_teams('field_review');
    RETURN QUERY SELECT r.object, r.field, crm._text_of(r.label, coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en')), r.filled_rate, r.distinct_values, r.changes, r.reads, r.used_by, r.advice
                   FROM crm._field_review((v_to - interval '3 months') AT TIME ZONE v_tz, v_to AT TIME ZONE v_tz) AS r;
END
$$;
COMMENT ON FUNCTION crm.field_review(date) IS
'What every field was good for in the quarter before a day''s: how much of it is filled, how many values it has (in a sample of about 20000 rows), how often it was changed and revealed, how many rules, forms, maps and models name it. advice: retire (hardly filled, named nowhere), seldom_filled, one_value, unused, no_data (no rows), ok.
day: any day of the quarter after. Not STRICT: NULL is today. Errors: 42501 for others than stewards, directors and administrators.';

CREATE OR REPLACE FUNCTION crm._job_field_review(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_to timestamp := date_trunc('quarter', due AT TIME ZONE v_tz);
    v_period tstzrange := tstzrange((v_to - interval '3 months') AT TIME ZONE v_tz, v_to AT TIME ZONE v_tz, '[)');
    v_rows jsonb;
    v_id bigint;
BEGIN
    -- those that are as they should be are a number
    WITH r AS MATERIALIZED (SELECT * FROM crm._field_review(lower(v_period), upper(v_period)))
    SELECT coalesce((SELECT jsonb_agg(jsonb_build_object('part', 'summary', 'advice', x.advice, 'count', x.n) ORDER BY x.n DESC, x.advice) FROM (SELECT r.advice, count(*) AS n FROM r GROUP BY 1) AS x), '[]')
           || coalesce((SELECT jsonb_agg(jsonb_build_object('part', 'field', 'object', r.object, 'field', r.label, 'filled_rate', r.filled_rate, 'distinct_values', r.distinct_values, 'changes', r.changes, 'used_by', r.used_by, 'advice', r.advice) ORDER BY r.advice = 'retire' DESC, r.advice, r.filled_rate, r.object, r.field)
                          FROM (SELECT * FROM r WHERE r.advice NOT IN ('ok', 'no_data') ORDER BY r.advice = 'retire' DESC, r.advice, r.filled_rate, r.object, r.field LIMIT 60) AS r), '[]') INTO v_rows;
    v_id := crm._report_store('field_review', v_period, due, jsonb_build_object('title', crm._report_title('field_review'), 'part', 'part', 'say', '["advice"]'::jsonb,
                'columns', '["object", "field", "filled_rate", "distinct_values", "changes", "used_by", "advice", "count"]'::jsonb, 'rows', v_rows));
    PERFORM crm._notify('report.field_review', 'field_review:' || extract(epoch FROM due), jsonb_build_object('report', 'field_review', 'snapshot', v_id), crm._report_readers('field_review'));
    RETURN jsonb_array_length(v_rows);
END
$$;
COMMENT ON FUNCTION crm._job_field_review(timestamptz) IS 'Job: the use of every field in the quarter before, stored and sent to the stewards. Internal.';
