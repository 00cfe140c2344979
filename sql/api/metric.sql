-- Metrics: figures by versioned definitions (configuration of kind metric), the funnel, and what became of a month's figures since they were stored.
-- A definition holds no SQL: a fact, a measure, bases, filters and keys by name. From it one statement is made, over the guarded views for people, so
-- that they count what they may read and nothing else, and over the tables for the reports of the house.

CREATE OR REPLACE FUNCTION crm._metric_facts() RETURNS TABLE (fact text, known text, versioned boolean, money boolean, taxed boolean, engine boolean)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 16
    SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('contract', 'created_at', true, true, true, false), ('payment_plan', 'created_at', true, true, false, false), ('receivable_entry', 'recorded_at', false, true, true, false),
           ('line_item', 'created_at', true, true, true, false), ('opportunity', 'created_at', true, true, false, false), ('stage_history', 'recorded_at', false, true, false, false),
           ('interaction', 'recorded_at', true, false, false, false), ('task', 'created_at', true, false, false, false), ('lead', 'recorded_at', true, false, false, false),
           ('account', 'created_at', true, false, false, false), ('contact', 'created_at', true, false, false, false), ('event', 'at', false, false, false, false),
           ('conflict', 'created_at', false, false, false, true), ('access_log', 'at', false, false, false, true),
           ('inbox', 'created_at', false, false, false, true), ('approval', 'created_at', false, false, false, true), ('config', 'created_at', false, false, false, true)
$$;
COMMENT ON FUNCTION crm._metric_facts() IS
'Internal: the facts that metrics are about: the column that says since when the database knows one, whether its rows have versions, money, a tax rate; engine: not a business object, for directors and administrators only.';

CREATE OR REPLACE FUNCTION crm._metric_type(fact text, field text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a
     WHERE a.attrelid = to_regclass('crm_data.' || quote_ident(fact)) AND a.attname = field AND a.attnum > 0 AND NOT a.attisdropped
       AND fact IN (SELECT f.fact FROM crm._metric_facts() AS f)
$$;
COMMENT ON FUNCTION crm._metric_type(text, text) IS 'Internal: the type of a column of a fact, NULL when it has none of that name.';

CREATE OR REPLACE FUNCTION crm._metric_paid_fact(body jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN body ->> 'fact' = 'contract' AND body ->> 'recognition' = 'instalment' THEN 'payment_plan' WHEN body ->> 'fact' = 'contract' AND body ->> 'recognition' = 'cash' THEN 'receivable_entry' ELSE body ->> 'fact' END
$$;
COMMENT ON FUNCTION crm._metric_paid_fact(jsonb) IS 'Internal: the fact that has the amount and the date of a metric: of a contract, by its recognition, the contract itself, its instalments or its payments.';

CREATE OR REPLACE FUNCTION crm._metric_value_problem(type text, value text) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- the type is one of a column of ours
    EXECUTE format('SELECT %L::%s', value, type);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END
$$;
COMMENT ON FUNCTION crm._metric_value_problem(text, text) IS 'Internal: why a value cannot be compared with a column of a type, NULL if it can.';

-- One condition of a definition: {field, in | not_in: [..]}, {field, is: null | "not_null"}, {field, min, max}.
CREATE OR REPLACE FUNCTION crm._metric_condition(filter jsonb, alias text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN filter ? 'in' THEN format('%1$s.%2$I IN (%3$s)', alias, filter ->> 'field', (SELECT string_agg(quote_literal(v), ', ' ORDER BY o) FROM jsonb_array_elements_text(filter -> 'in') WITH ORDINALITY AS u (v, o)))
                WHEN filter ? 'not_in' THEN format('(%1$s.%2$I IS NULL OR %1$s.%2$I NOT IN (%3$s))', alias, filter ->> 'field', (SELECT string_agg(quote_literal(v), ', ' ORDER BY o) FROM jsonb_array_elements_text(filter -> 'not_in') WITH ORDINALITY AS u (v, o)))
                WHEN filter ? 'is' THEN format('%s.%I IS %sNULL', alias, filter ->> 'field', CASE WHEN filter -> 'is' = 'null' THEN '' ELSE 'NOT ' END)
                ELSE concat_ws(' AND ', CASE WHEN filter ? 'min' THEN format('%s.%I >= %L', alias, filter ->> 'field', filter ->> 'min') END, CASE WHEN filter ? 'max' THEN format('%s.%I <= %L', alias, filter ->> 'field', filter ->> 'max') END) END
$$;
COMMENT ON FUNCTION crm._metric_condition(jsonb, text) IS 'Internal: a condition of a metric''s definition as SQL; names and values quoted.';

CREATE OR REPLACE FUNCTION crm._metric_conditions(filters jsonb, alias text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT string_agg(crm._metric_condition(f, alias), ' AND ' ORDER BY o) FROM jsonb_array_elements(coalesce(filters, '[]')) WITH ORDINALITY AS u (f, o)), 'true')
$$;
COMMENT ON FUNCTION crm._metric_conditions(jsonb, text) IS 'Internal: conditions of a metric''s definition as SQL, true for none.';

CREATE OR REPLACE FUNCTION crm._local_span(period daterange, OUT since timestamptz, OUT upto timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(lower(period)::timestamp AT TIME ZONE z.tz, '-infinity'), coalesce(upper(period)::timestamp AT TIME ZONE z.tz, 'infinity') FROM (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz) AS z
$$;
COMMENT ON FUNCTION crm._local_span(daterange) IS 'Internal: the instants at which days of a period begin and end in the organisation''s time zone; an end that is open, or NULL for a period, is at infinity.';

CREATE OR REPLACE FUNCTION crm._metric_problems(body jsonb) RETURNS TABLE (path text, message text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    f record;
    v_fact text := body ->> 'fact';
    v_paid text := crm._metric_paid_fact(body);
    v_measure text := body ->> 'measure';
    v_dims CONSTANT text[] := '{owner,team,region,industry,type,grade,stage,product_line}';
    v_list text;
    v_item jsonb;
    v_i int;
    v_key text;
    v_type text;
BEGIN
    FOR v_key IN SELECT k FROM jsonb_object_keys(body) AS k WHERE k <> ALL ('{en,zh,fact,measure,amount_basis,recognition,date_basis,filters,distinct_key,dims,signs,weight,numerator,denominator,from,to,field,fields,valid_from,note}'::text[]) ORDER BY 1 LOOP
        RETURN QUERY SELECT '$.' || v_key, format('a definition has no %L', v_key);
    END LOOP;
    SELECT * INTO f FROM crm._metric_facts() AS x WHERE x.fact = v_fact;
    IF NOT FOUND THEN
        RETURN QUERY SELECT '$.fact', format('there is no fact %L', v_fact);
    END IF;
    IF v_measure IS NULL THEN
        RETURN QUERY SELECT '$.measure', 'a metric has a measure'::text;
    ELSIF v_measure <> ALL ('{amount,count,share,mean,mean_days,mean_hours,p95_hours,filled_share,repeat_share}') THEN
        RETURN QUERY SELECT '$.measure', format('unknown measure %L: amount, count, share, mean, mean_days, mean_hours, p95_hours, filled_share or repeat_share', v_measure);
    END IF;
    IF coalesce(body ->> 'en', '') = '' OR coalesce(body ->> 'zh', '') = '' THEN
        RETURN QUERY SELECT '$', 'a metric has a name in en and zh'::text;
    END IF;
    IF body ? 'valid_from' AND (jsonb_typeof(body -> 'valid_from') <> 'string' OR crm._metric_value_problem('date', body ->> 'valid_from') IS NOT NULL) THEN
        RETURN QUERY SELECT '$.valid_from', format('%L is no day', body ->> 'valid_from');
    END IF;
    IF f.fact IS NULL THEN
        RETURN;      -- of what follows nothing can be said
    END IF;
    IF body ? 'amount_basis' AND coalesce(body ->> 'amount_basis', '') <> ALL ('{gross,net,received}') THEN
        RETURN QUERY SELECT '$.amount_basis', format('unknown amount basis %L: gross, net or received', body ->> 'amount_basis');
    ELSIF body ->> 'amount_basis' = 'received' AND coalesce(body ->> 'recognition', '') <> 'cash' THEN
        RETURN QUERY SELECT '$.amount_basis', 'what is received is recognised by cash'::text;
    ELSIF body ->> 'amount_basis' = 'net' AND NOT f.taxed THEN
        RETURN QUERY SELECT '$.amount_basis', format('%L has no tax rate', v_fact);
    END IF;
    IF body ? 'recognition' AND (coalesce(body ->> 'recognition', '') <> ALL ('{signed,instalment,cash}') OR v_fact NOT IN ('contract', 'payment_plan', 'receivable_entry')) THEN
        RETURN QUERY SELECT '$.recognition', format('unknown recognition %L: signed, instalment or cash, of contracts, instalments and payments', body ->> 'recognition');
    END IF;
    IF v_measure = 'amount' AND NOT f.money THEN
        RETURN QUERY SELECT '$.measure', format('%L has no amount', v_fact);
    END IF;
    IF body ? 'date_basis' AND coalesce(crm._metric_type(v_paid, body ->> 'date_basis'), '') <> ALL ('{date,timestamp with time zone}') THEN
        RETURN QUERY SELECT '$.date_basis', format('%L of %s is no date', body ->> 'date_basis', v_paid);
    END IF;
    -- conditions
    FOREACH v_list IN ARRAY ARRAY['filters', 'numerator', 'denominator'] LOOP
        CONTINUE WHEN NOT body ? v_list;
        IF jsonb_typeof(body -> v_list) <> 'array' OR jsonb_path_exists(body -> v_list, '$[*] ? (@.type() != "object")') THEN
            RETURN QUERY SELECT '$.' || v_list, 'a list of conditions, like {"field": "state", "in": ["signed"]}'::text;
            CONTINUE;
        END IF;
        FOR v_item, v_i IN SELECT x.value, x.ord - 1 FROM jsonb_array_elements(body -> v_list) WITH ORDINALITY AS x (value, ord) LOOP
            v_type := crm._metric_type(v_fact, v_item ->> 'field');
            IF v_type IS NULL THEN
                RETURN QUERY SELECT format('$.%s[%s].field', v_list, v_i), format('%s has no %L', v_fact, v_item ->> 'field');
                CONTINUE;
            END IF;
            FOR v_key IN SELECT k FROM jsonb_object_keys(v_item) AS k WHERE k <> ALL ('{field,in,not_in,is,min,max}'::text[]) ORDER BY 1 LOOP
                RETURN QUERY SELECT format('$.%s[%s].%s', v_list, v_i, v_key), format('unknown filter %L: in, not_in, is, min or max', v_key);
            END LOOP;
            IF (v_item ? 'in')::int + (v_item ? 'not_in')::int + (v_item ? 'is')::int + (v_item ?| '{min,max}')::int <> 1 THEN
                RETURN QUERY SELECT format('$.%s[%s]', v_list, v_i), 'a filter has one of in, not_in, is, or bounds min and max'::text;
            ELSIF v_item ? 'is' AND v_item -> 'is' NOT IN ('null', '"not_null"') THEN
                RETURN QUERY SELECT format('$.%s[%s].is', v_list, v_i), 'null or "not_null"'::text;
            ELSIF v_item ?| '{in,not_in}' AND (jsonb_typeof(coalesce(v_item -> 'in', v_item -> 'not_in')) <> 'array' OR coalesce(v_item -> 'in', v_item -> 'not_in') = '[]') THEN
                RETURN QUERY SELECT format('$.%s[%s]', v_list, v_i), 'a list of values'::text;
            ELSE
                RETURN QUERY SELECT format('$.%s[%s]', v_list, v_i), coalesce(crm._metric_value_problem(v_type, x.v #>> '{}'), 'a value is a text, a number or a boolean')
                  FROM jsonb_path_query(v_item, '$.*') AS y (v) CROSS JOIN LATERAL jsonb_path_query(y.v, 'lax $[*]') AS x (v)
                 WHERE v_item ?| '{in,not_in,min,max}' AND y.v <> v_item -> 'field' AND (jsonb_typeof(x.v) NOT IN ('string', 'number', 'boolean') OR crm._metric_value_problem(v_type, x.v #>> '{}') IS NOT NULL) LIMIT 1;
            END IF;
        END LOOP;
    END LOOP;
    IF v_measure = 'share' AND (NOT body ? 'numerator' OR NOT body ? 'denominator') THEN
        RETURN QUERY SELECT '$.numerator', 'a share has a numerator and a denominator'::text;
    END IF;
    -- lists of columns
    FOREACH v_list IN ARRAY ARRAY['distinct_key', 'fields', 'dims'] LOOP
        CONTINUE WHEN NOT body ? v_list;
        IF jsonb_typeof(body -> v_list) <> 'array' OR body -> v_list = '[]' THEN
            RETURN QUERY SELECT '$.' || v_list, 'a list of names'::text;
            CONTINUE;
        END IF;
        FOR v_key IN SELECT x.v #>> '{}' FROM jsonb_array_elements(body -> v_list) AS x (v) LOOP
            IF crm._metric_type(v_fact, coalesce(v_key, '')) IS NULL AND NOT (v_list = 'dims' AND v_key = ANY (v_dims) AND NOT f.engine) THEN
                RETURN QUERY SELECT '$.' || v_list, format('%s has no %L', v_fact, v_key);
            END IF;
        END LOOP;
    END LOOP;
    IF body ? 'distinct_key' AND coalesce(v_measure, '') NOT IN ('count', 'repeat_share') THEN
        RETURN QUERY SELECT '$.distinct_key', 'only what is counted has a distinct key'::text;
    ELSIF v_measure = 'repeat_share' AND NOT body ? 'distinct_key' THEN
        RETURN QUERY SELECT '$.distinct_key', 'a share of what is repeated has the key by which it is the same'::text;
    END IF;
    IF v_measure = 'filled_share' AND NOT body ? 'fields' THEN
        RETURN QUERY SELECT '$.fields', 'a share of what is filled has fields'::text;
    END IF;
    FOR v_key, v_type IN SELECT v.key, v.types FROM (VALUES ('from', 'date,timestamp with time zone', 'mean_'), ('to', 'date,timestamp with time zone', 'mean_'), ('field', 'smallint,integer,bigint,numeric,double precision', 'mean')) AS v (key, types, measure)
                           WHERE body ? v.key OR v_measure = v.measure OR (v.measure = 'mean_' AND v_measure IN ('mean_days', 'mean_hours', 'p95_hours')) LOOP
        IF coalesce(crm._metric_type(v_fact, body ->> v_key), '') <> ALL (string_to_array(v_type, ',')) THEN
            RETURN QUERY SELECT '$.' || v_key, format('%s has no such %L of a type that fits', v_fact, body ->> v_key);
        END IF;
    END LOOP;
    IF body ? 'weight' AND coalesce(crm._metric_type(v_fact, body ->> 'weight'), '') <> ALL ('{smallint,integer,bigint,numeric,double precision}') THEN
        RETURN QUERY SELECT '$.weight', format('%s has no number %L', v_fact, body ->> 'weight');
    END IF;
    IF body ? 'signs' AND (jsonb_typeof(body -> 'signs') <> 'object' OR crm._metric_type(v_paid, 'kind') IS NULL OR EXISTS (SELECT FROM jsonb_path_query(body -> 'signs', '$.*') AS s WHERE s NOT IN ('1', '-1'))) THEN
        RETURN QUERY SELECT '$.signs', 'signs give 1 or -1 for values of kind'::text;
    END IF;
    -- a source that was taken out of use must not feed a new figure
    RETURN QUERY SELECT '$', format('%s.%s was taken out of use', r.object, r.name) FROM crm_data.field AS r
                  WHERE r.object IN (v_fact, v_paid) AND r.retired_at IS NOT NULL AND NOT r.custom AND jsonb_path_exists(body, 'strict $.** ? (@ == $n)', jsonb_build_object('n', r.name), true) ORDER BY r.id;
END
$$;
COMMENT ON FUNCTION crm._metric_problems(jsonb) IS 'Internal: what is wrong with the definition of a metric, by path; no row for a good one.';

CREATE OR REPLACE FUNCTION crm._fx_rate(currency text, day date, at timestamptz DEFAULT NULL, OUT rate numeric, OUT rate_date date, OUT source text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.rate, x.rate_date, x.source
      FROM (SELECT crm._setting('organisation.currency', 'CNY') AS base) AS b
     CROSS JOIN LATERAL (
        SELECT 1::numeric AS rate, NULL::date AS rate_date, NULL::text AS source WHERE b.base = currency
        UNION ALL
        (SELECT f.rate, f.rate_date, f.source FROM crm_data.fx_rate AS f
          WHERE b.base <> _fx_rate.currency AND f.currency = _fx_rate.currency AND f.base_currency = b.base AND f.rate_date <= day AND (at IS NULL OR f.created_at <= at) ORDER BY f.rate_date DESC LIMIT 1)) AS x
$$;
COMMENT ON FUNCTION crm._fx_rate(text, date, timestamptz) IS
'Internal: the rate of a currency to the organisation''s on a day: the latest of that day or before, as known at an instant, with its day and source; all NULL where none is known. A rate is no secret.';

CREATE OR REPLACE FUNCTION crm._metric_hidden(fact text, alias text, names text[]) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(format('crm.guard(1, %s, %s.owner_id, %2$s.team_id) IS NULL', r.id, alias), ' OR ' ORDER BY r.id), 'false')
      FROM crm_data.field AS r WHERE r.object = fact AND r.name = ANY (names) AND (r.guarded OR r.class = 'engine') AND NOT r.custom
$$;
COMMENT ON FUNCTION crm._metric_hidden(text, text, text[]) IS 'Internal: the condition, as SQL over a view, that the caller may not read one of some columns of a row.';

CREATE OR REPLACE FUNCTION crm._metric_statement(body jsonb, period daterange, dims text[], at timestamptz, basis text, house boolean, since timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    f record;
    v_fact text := body ->> 'fact';
    v_paid text := crm._metric_paid_fact(body);
    v_measure text := body ->> 'measure';
    v_schema text := CASE WHEN house THEN 'crm_data' ELSE 'crm' END;
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_basis text := coalesce(basis, body ->> 'date_basis');
    v_known text;
    v_e text;      -- the alias that has the amount and the date: t itself, or what was paid
    v_from text;
    v_when text;
    v_where text[] := '{}';
    v_day text;
    v_value text;
    v_hidden text;
    v_dim text;
    v_account boolean := false;
    v_keys text[] := '{}';
    v_labels text[] := '{}';
    v_joins text := '';
BEGIN
    SELECT * INTO f FROM crm._metric_facts() AS x WHERE x.fact = v_fact;
    SELECT x.known INTO v_known FROM crm._metric_facts() AS x WHERE x.fact = v_paid;
    v_e := CASE WHEN v_paid = v_fact THEN 't' ELSE 'e' END;
    -- the rows, as they are or as they were
    v_from := format('%I.%I', v_schema, v_fact);
    IF at IS NOT NULL AND f.versioned THEN
        v_from := format('(SELECT s.* FROM %1$s AS s WHERE s.updated_at <= %2$L UNION ALL SELECT z.* FROM %1$s AS s CROSS JOIN LATERAL jsonb_populate_record(s, coalesce(crm.as_of(%3$L, s.id, %2$L), ''{}'')) AS z WHERE s.updated_at > %2$L AND s.%4$I <= %2$L)', v_from, at, v_fact, f.known);
    END IF;
    v_from := v_from || ' AS t';
    IF v_e = 'e' THEN
        v_from := v_from || format(' JOIN %I.%I AS e ON e.contract_id = t.id', v_schema, v_paid);
        IF v_paid = 'receivable_entry' THEN
            v_where := v_where || $q$e.kind IN ('payment', 'refund')$q$::text;
        END IF;
    END IF;
    -- when: a date of the fact, or, without one, all there were at the end of the period
    IF v_basis IS NULL THEN
        v_day := format('%L::date', upper(period) - 1);
        v_when := format('t.%I < %L', f.known, upper(period)::timestamp AT TIME ZONE v_tz);
    ELSIF crm._metric_type(v_paid, v_basis) = 'date' THEN
        v_day := format('%s.%I', v_e, v_basis);
        v_when := format('%1$s.%2$I >= %3$L AND %1$s.%2$I < %4$L', v_e, v_basis, lower(period), upper(period));
    ELSIF crm._metric_type(v_paid, v_basis) = 'timestamp with time zone' THEN
        v_day := format('(%s.%I AT TIME ZONE %L)::date', v_e, v_basis, v_tz);
        v_when := format('%1$s.%2$I >= %3$L AND %1$s.%2$I < %4$L', v_e, v_basis, lower(period)::timestamp AT TIME ZONE v_tz, upper(period)::timestamp AT TIME ZONE v_tz);
    ELSE
        RAISE EXCEPTION '"%" of % is no date', v_basis, v_paid USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave date_basis out for the one of the definition.';
    END IF;
    IF at IS NOT NULL THEN
        v_where := v_where || format('%s.%I <= %L', v_e, v_known, at);
    END IF;
    IF since IS NOT NULL THEN
        v_where := v_where || format('%s.%I > %L', v_e, v_known, since);
    END IF;
    IF crm._metric_type(v_fact, 'deleted_at') IS NOT NULL THEN
        v_where := v_where || CASE WHEN at IS NULL THEN 't.deleted_at IS NULL' ELSE format('(t.deleted_at IS NULL OR t.deleted_at > %L)', at) END;
    END IF;
    IF v_fact IN ('account', 'contact', 'lead') THEN
        v_where := v_where || 't.merged_into IS NULL'::text;
    END IF;
    -- what the person may not read takes no part, and is counted
    v_hidden := 'false';
    IF NOT house THEN
        SELECT coalesce(string_agg(h.expression, ' OR ' ORDER BY h.expression), 'false') INTO v_hidden
          FROM (SELECT crm._metric_hidden(v_fact, 't', ARRAY(SELECT p.v #>> '{}' FROM jsonb_path_query(body, 'lax $.filters[*].field') AS p (v) UNION SELECT p.v #>> '{}' FROM jsonb_path_query(body, 'lax $.numerator[*].field') AS p (v)
                                                             UNION SELECT p.v #>> '{}' FROM jsonb_path_query(body, 'lax $.denominator[*].field') AS p (v) UNION SELECT p.v #>> '{}' FROM jsonb_path_query(body, 'lax $.distinct_key[*]') AS p (v)
                                                             UNION SELECT p.v #>> '{}' FROM jsonb_path_query(body, 'lax $.fields[*]') AS p (v) UNION SELECT body ->> k FROM unnest('{field,from,to,weight}'::text[]) AS k)) AS expression
                UNION
                SELECT crm._metric_hidden(v_paid, v_e, ARRAY[v_basis, CASE v_measure WHEN 'amount' THEN 'amount' END, CASE WHEN body ? 'signs' THEN 'kind' END, CASE WHEN body ->> 'amount_basis' = 'net' AND v_paid <> 'payment_plan' THEN 'tax_rate' END])
                UNION
                SELECT crm._metric_hidden(v_fact, 't', ARRAY[CASE WHEN body ->> 'amount_basis' = 'net' AND v_paid = 'payment_plan' THEN 'tax_rate' END])) AS h
         WHERE h.expression <> 'false';
        -- a record whose date he may not read could be of this period
        IF v_hidden <> 'false' AND v_basis IS NOT NULL THEN
            v_when := format('(%s OR %s.%I IS NULL AND (%s))', v_when, v_e, v_basis, v_hidden);
        END IF;
    END IF;
    v_where := v_where || format('((%s) OR (%s))', v_hidden, crm._metric_conditions(body -> 'filters', 't'));
    -- the value of a row
    v_value := CASE v_measure
        WHEN 'amount' THEN v_e || '.amount'
            || CASE WHEN body ->> 'amount_basis' = 'net' THEN format(' / (1 + %s.tax_rate)', CASE WHEN v_paid = 'payment_plan' THEN 't' ELSE v_e END) ELSE '' END
            || CASE WHEN body ->> 'weight' = 'probability' AND v_fact = 'opportunity' THEN format(' * coalesce(t.probability, (SELECT s.default_probability FROM %I.stage AS s WHERE s.id = t.stage_id), 0)::numeric', v_schema)
                    WHEN body ? 'weight' THEN format(' * coalesce(t.%I, 0)::numeric', body ->> 'weight') ELSE '' END
            || CASE WHEN v_paid = 'receivable_entry' AND v_fact = 'contract' THEN ' * CASE e.kind WHEN ''refund'' THEN -1 ELSE 1 END'
                    WHEN body ? 'signs' AND body -> 'signs' <> '{}' THEN format(' * CASE t.kind %s ELSE 1 END', (SELECT string_agg(format('WHEN %L THEN %s', s.key, s.value::int), ' ' ORDER BY s.key COLLATE "C") FROM jsonb_each_text(body -> 'signs') AS s)) ELSE '' END
        WHEN 'share' THEN format('CASE WHEN %s THEN coalesce((%s)::int, 0) END', crm._metric_conditions(body -> 'denominator', 't'), crm._metric_conditions(body -> 'numerator', 't'))
        WHEN 'mean' THEN format('t.%I::numeric', body ->> 'field')
        WHEN 'mean_days' THEN format('extract(epoch FROM t.%I::timestamptz - t.%I::timestamptz) / 86400', body ->> 'to', body ->> 'from')
        WHEN 'mean_hours' THEN format('extract(epoch FROM t.%I::timestamptz - t.%I::timestamptz) / 3600', body ->> 'to', body ->> 'from')
        WHEN 'p95_hours' THEN format('extract(epoch FROM t.%I::timestamptz - t.%I::timestamptz) / 3600', body ->> 'to', body ->> 'from')
        WHEN 'filled_share' THEN (SELECT format('(%s) / %s.0', string_agg(format('(nullif(t.%I::text, '''') IS NOT NULL)::int', x.v), ' + ' ORDER BY x.o), count(*)) FROM jsonb_array_elements_text(body -> 'fields') WITH ORDINALITY AS x (v, o))
        ELSE '1' END;
    -- dimensions: by number inside, by name outside
    FOREACH v_dim IN ARRAY dims LOOP
        IF v_dim = ANY ('{day,week,month,quarter,year}') THEN
            IF v_basis IS NULL THEN
                RAISE EXCEPTION 'this metric has no date to be split by %', v_dim USING ERRCODE = 'invalid_parameter_value', HINT = 'It counts what there is at the end of the period. Give a date_basis, or no such dimension.';
            END IF;
            v_keys := v_keys || format('to_char(%s, %L)', v_day, CASE v_dim WHEN 'day' THEN 'YYYY-MM-DD' WHEN 'week' THEN 'IYYY-"W"IW' WHEN 'month' THEN 'YYYY-MM' WHEN 'quarter' THEN 'YYYY-"Q"Q' ELSE 'YYYY' END);
            v_labels := v_labels || 'to_jsonb(g.%1$I)'::text;
        ELSIF coalesce(body -> 'dims', '[]') ? v_dim THEN
            CASE
                WHEN v_dim IN ('owner', 'team') THEN
                    v_keys := v_keys || format('t.%I', v_dim || '_id');
                    v_labels := v_labels || CASE WHEN house THEN 'to_jsonb(g.%1$I)'::text
                                                 ELSE format($q$to_jsonb(coalesce((SELECT n.%I FROM crm.%I AS n WHERE n.id = g.%%1$I), '#' || g.%%1$I))$q$, CASE v_dim WHEN 'owner' THEN 'full_name' ELSE 'name' END, CASE v_dim WHEN 'owner' THEN 'member' ELSE 'team' END) END;
                WHEN v_dim = 'stage' THEN
                    v_keys := v_keys || CASE v_fact WHEN 'stage_history' THEN 't.to_stage_id'::text ELSE 't.stage_id' END;
                    v_labels := v_labels || CASE WHEN house THEN 'to_jsonb(g.%1$I)'::text ELSE 'to_jsonb((SELECT n.name FROM crm.stage AS n WHERE n.id = g.%1$I))' END;
                WHEN v_dim = 'product_line' AND v_fact = 'line_item' THEN
                    v_keys := v_keys || format('(SELECT n.line FROM %I.product AS n WHERE n.id = t.product_id)', v_schema);
                    v_labels := v_labels || 'to_jsonb(g.%1$I)'::text;
                WHEN crm._metric_type(v_fact, v_dim) IS NOT NULL THEN
                    v_keys := v_keys || format('t.%I', v_dim);
                    v_labels := v_labels || 'to_jsonb(g.%1$I)'::text;
                ELSE
                    v_account := true;
                    v_keys := v_keys || format('a.%I', v_dim);
                    v_labels := v_labels || 'to_jsonb(g.%1$I)'::text;
            END CASE;
        ELSE
            RAISE EXCEPTION 'this metric has no dimension "%"', v_dim USING ERRCODE = 'invalid_parameter_value',
                HINT = format('Its dimensions: %s.', array_to_string(ARRAY(SELECT jsonb_array_elements_text(coalesce(body -> 'dims', '[]'))) || '{day,week,month,quarter,year}'::text[], ', '));
        END IF;
    END LOOP;
    IF v_account THEN
        v_joins := format(' LEFT JOIN %I.account AS a ON a.id = t.account_id', v_schema);
    END IF;
    RETURN format('WITH x AS (SELECT %s%s AS at_day, %s AS at_hidden, %s AS at_value, %s AS at_currency, %s AS at_key FROM %s%s WHERE %s)',
            (SELECT coalesce(string_agg(format('%s AS %I, ', k, d), '' ORDER BY o), '') FROM unnest(v_keys, dims) WITH ORDINALITY AS u (k, d, o)), CASE v_measure WHEN 'amount' THEN v_day ELSE 'NULL::date' END, v_hidden, v_value,
            CASE v_measure WHEN 'amount' THEN v_e || '.currency' ELSE 'NULL::text' END,
            CASE WHEN body ? 'distinct_key' THEN (SELECT format('ROW(%s)', string_agg(format('t.%I', k.v), ', ' ORDER BY k.o)) FROM jsonb_array_elements_text(body -> 'distinct_key') WITH ORDINALITY AS k (v, o)) ELSE 'NULL::int' END,
            v_from, v_joins, array_to_string(v_when || v_where, ' AND '))
        || CASE WHEN v_measure = 'amount' THEN format(
            ', m AS MATERIALIZED (SELECT %1$sx.at_day, x.at_currency, sum(x.at_value) FILTER (WHERE NOT x.at_hidden) AS amount, count(*) FILTER (WHERE NOT x.at_hidden) AS n, count(*) FILTER (WHERE x.at_hidden) AS hidden FROM x GROUP BY %1$sx.at_day, x.at_currency),'
            ' r AS MATERIALIZED (SELECT d.at_day, d.at_currency, y.rate, y.rate_date, y.source FROM (SELECT DISTINCT m.at_day, m.at_currency FROM m) AS d CROSS JOIN LATERAL crm._fx_rate(d.at_currency, d.at_day, %2$L) AS y),'
            ' g AS (SELECT %3$ssum(m.amount * r.rate) AS value, sum(m.n)::bigint AS n, sum(m.hidden)::bigint AS hidden, coalesce(sum(m.n) FILTER (WHERE r.rate IS NULL), 0)::bigint AS unpriced,'
            ' (SELECT jsonb_object_agg(c.cur, jsonb_build_object(''source'', c.sources, ''from'', c.from_on, ''to'', c.to_on)) FROM (SELECT r.at_currency AS cur, jsonb_agg(DISTINCT r.source) AS sources, min(r.rate_date) AS from_on, max(r.rate_date) AS to_on FROM r WHERE r.rate_date IS NOT NULL GROUP BY 1) AS c) AS rates'
            ' FROM m JOIN r ON r.at_day IS NOT DISTINCT FROM m.at_day AND r.at_currency = m.at_currency %4$s)',
            (SELECT coalesce(string_agg(format('x.%I, ', d), '' ORDER BY o), '') FROM unnest(dims) WITH ORDINALITY AS u (d, o)), at,
            (SELECT coalesce(string_agg(format('m.%I, ', d), '' ORDER BY o), '') FROM unnest(dims) WITH ORDINALITY AS u (d, o)),
            (SELECT coalesce('GROUP BY ' || string_agg(format('m.%I', d), ', ' ORDER BY o), '') FROM unnest(dims) WITH ORDINALITY AS u (d, o)))
           ELSE format(', g AS (SELECT %s%s AS value, count(%s) FILTER (WHERE NOT x.at_hidden) AS n, count(*) FILTER (WHERE x.at_hidden) AS hidden, 0::bigint AS unpriced, NULL::jsonb AS rates FROM x %s)',
            (SELECT coalesce(string_agg(format('x.%I, ', d), '' ORDER BY o), '') FROM unnest(dims) WITH ORDINALITY AS u (d, o)),
            CASE WHEN v_measure = 'count' AND body ? 'distinct_key' THEN 'count(DISTINCT x.at_key) FILTER (WHERE NOT x.at_hidden)' WHEN v_measure = 'count' THEN 'count(*) FILTER (WHERE NOT x.at_hidden)' WHEN v_measure = 'repeat_share' THEN '1 - count(DISTINCT x.at_key) FILTER (WHERE NOT x.at_hidden)::numeric / nullif(count(*) FILTER (WHERE NOT x.at_hidden), 0)'
                 WHEN v_measure = 'p95_hours' THEN '(percentile_cont(0.95) WITHIN GROUP (ORDER BY x.at_value) FILTER (WHERE NOT x.at_hidden))::numeric' ELSE 'avg(x.at_value) FILTER (WHERE NOT x.at_hidden)' END,
            CASE v_measure WHEN 'count' THEN '*' ELSE 'x.at_value' END,
            (SELECT coalesce('GROUP BY ' || string_agg(format('x.%I', d), ', ' ORDER BY o), '') FROM unnest(dims) WITH ORDINALITY AS u (d, o))) END
        || format(' SELECT %s::jsonb, round(coalesce(g.value, %s)::numeric, %s), coalesce(g.n, 0), coalesce(g.hidden, 0), coalesce(g.unpriced, 0), g.rates FROM g',
            CASE WHEN dims = '{}' THEN '''{}''' ELSE (SELECT 'jsonb_build_object(' || string_agg(format('%L, ', d) || format(l, d), ', ' ORDER BY o) || ')' FROM unnest(v_labels, dims) WITH ORDINALITY AS u (l, d, o)) END,
            CASE WHEN v_measure IN ('amount', 'count') THEN '0' ELSE 'NULL' END, CASE v_measure WHEN 'amount' THEN 2 WHEN 'count' THEN 0 WHEN 'mean' THEN 2 ELSE 6 END)
        || CASE WHEN dims = '{}' THEN '' ELSE ' ORDER BY ' || (SELECT string_agg(format('g.%I', d), ', ' ORDER BY o) FROM unnest(dims) WITH ORDINALITY AS u (d, o)) END;
END
$$;
COMMENT ON FUNCTION crm._metric_statement(jsonb, daterange, text[], timestamptz, text, boolean, timestamptz) IS
'Internal: the statement that computes a metric by a definition, over the views or, for the house, over the tables; every name and value in it is quoted. at: as known then, since: only what was learned after. Its rows: dims, value, records, hidden, unpriced, rates.';

CREATE OR REPLACE FUNCTION crm._metric_definitions(name text, period daterange, at timestamptz) RETURNS TABLE (part daterange, version int, effective_from date, body jsonb)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS (      -- what was ever in force and approved; of those that hold on a day, the newest
        SELECT c.version, coalesce((c.body ->> 'valid_from')::date, '-infinity') AS from_on, c.body FROM crm_data.config AS c
         WHERE c.kind = 'metric' AND c.key = name AND c.scope = '*' AND c.status IN ('active', 'retired') AND c.valid IS NOT NULL AND NOT isempty(c.valid)
           AND (at IS NULL OR lower(c.valid) IS NULL OR lower(c.valid) <= at)),
    s AS (SELECT b.on_day, (SELECT max(d.version) FROM d WHERE d.from_on <= b.on_day) AS version
            FROM (SELECT lower(period) AS on_day UNION SELECT d.from_on FROM d WHERE d.from_on > lower(period) AND d.from_on < upper(period)) AS b),
    g AS (SELECT s.*, count(*) FILTER (WHERE s.changed) OVER (ORDER BY s.on_day) AS n FROM (SELECT s.*, s.version IS DISTINCT FROM lag(s.version) OVER (ORDER BY s.on_day) AS changed FROM s) AS s)
    SELECT daterange(p.from_on, coalesce(lead(p.from_on) OVER (ORDER BY p.from_on), upper(period))), p.version, nullif(d.from_on, '-infinity'), d.body
      FROM (SELECT min(g.on_day) AS from_on, g.version FROM g GROUP BY g.n, g.version) AS p LEFT JOIN d ON d.version = p.version
     ORDER BY p.from_on
$$;
COMMENT ON FUNCTION crm._metric_definitions(text, daterange, timestamptz) IS 'Internal: the definitions of a metric that hold in a period, each for its part of it, as known at an instant; version NULL where none does.';

CREATE OR REPLACE FUNCTION crm._metric_plan(name text, period daterange, dims text[], at timestamptz, basis text)
    RETURNS TABLE (part daterange, version int, effective_from date, unit text, currency text, by_date text, engine boolean, freshness jsonb, statement text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    d record;
    v_fresh jsonb := (SELECT coalesce(jsonb_object_agg(s.name, s.last_applied_at), '{}') FROM crm_data.source_system AS s WHERE s.last_applied_at IS NOT NULL);
BEGIN
    IF NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'metric' AND c.key = name AND c.scope = '*' AND c.status = 'active') THEN
        RAISE EXCEPTION 'there is no metric "%"', name USING ERRCODE = 'undefined_object', HINT = 'SELECT name FROM crm.metric_list() lists them.';
    END IF;
    IF period IS NULL OR isempty(period) OR lower(period) IS NULL OR upper(period) IS NULL OR NOT isfinite(lower(period)) OR NOT isfinite(upper(period)) THEN
        RAISE EXCEPTION 'a metric needs a period with both ends' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ''[2026-01-01,2026-04-01)''.';
    END IF;
    IF at > now() THEN
        RAISE EXCEPTION 'what will be known is not known' USING ERRCODE = 'invalid_parameter_value', HINT = 'as_of is an instant in the past.';
    END IF;
    IF cardinality(dims) > 4 OR array_position(dims, NULL) IS NOT NULL OR EXISTS (SELECT FROM unnest(dims) AS x GROUP BY x HAVING count(*) > 1) THEN
        RAISE EXCEPTION 'dims are up to four different names' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ''{team,month}''.';
    END IF;
    FOR d IN SELECT * FROM crm._metric_definitions(name, period, at) LOOP
        IF d.version IS NULL THEN
            RAISE EXCEPTION 'no definition of "%" holds on %', name, lower(d.part) USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT * FROM crm.metric_list() shows since when each holds.';
        END IF;
        RETURN QUERY SELECT d.part, d.version, d.effective_from,
               CASE d.body ->> 'measure' WHEN 'amount' THEN 'money' WHEN 'mean_days' THEN 'days' WHEN 'mean_hours' THEN 'hours' WHEN 'p95_hours' THEN 'hours' WHEN 'filled_share' THEN 'share' WHEN 'repeat_share' THEN 'share' ELSE d.body ->> 'measure' END,
               CASE d.body ->> 'measure' WHEN 'amount' THEN crm._setting('organisation.currency', 'CNY') END, coalesce(basis, d.body ->> 'date_basis', 'end of period'),
               (SELECT f.engine FROM crm._metric_facts() AS f WHERE f.fact = d.body ->> 'fact'), v_fresh,
               crm._metric_statement(d.body, d.part, coalesce(dims, '{}'), at, basis, (SELECT f.engine FROM crm._metric_facts() AS f WHERE f.fact = d.body ->> 'fact'), NULL);
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._metric_plan(text, daterange, text[], timestamptz, text) IS 'Internal: for crm.metric: the definitions that hold in the period, and the statement for each. Answers nothing about records.';

CREATE OR REPLACE FUNCTION crm._metric_engine(name text, period daterange, dims text[], at timestamptz, basis text)
    RETURNS TABLE (part daterange, dim jsonb, value numeric, records bigint, hidden bigint, unpriced bigint, rates jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    p record;
BEGIN
    IF NOT (crm.has_role('crm_admin') OR crm.has_role('crm_director')) THEN
        RAISE EXCEPTION 'the metric "%" is about the whole house', name USING ERRCODE = 'insufficient_privilege', HINT = 'It is for directors and administrators.';
    END IF;
    FOR p IN SELECT * FROM crm._metric_plan(name, period, dims, at, basis) AS x WHERE x.engine LOOP
        RETURN QUERY EXECUTE format('SELECT %L::daterange, q.* FROM (%s) AS q', p.part, p.statement);
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._metric_engine(text, daterange, text[], timestamptz, text) IS 'Internal: the rows of a metric about the engine''s own facts (conflicts, configuration, access), which no view shows. Errors: 42501 for others than directors and administrators.';

CREATE OR REPLACE FUNCTION crm.metric(name text, period daterange, dims text[] DEFAULT '{}', as_of timestamptz DEFAULT NULL, date_basis text DEFAULT NULL)
    RETURNS TABLE (part daterange, dim jsonb, value numeric, unit text, currency text, records bigint, hidden bigint, unpriced bigint, basis text, definition_version int, effective_from date, data_as_of timestamptz, freshness jsonb, rates jsonb)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED -- the caller's own rights: what he may not read takes no part. Not STRICT: as_of and date_basis may be NULL
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    p record;
    v_at timestamptz := coalesce(as_of, now());
BEGIN
    FOR p IN SELECT * FROM crm._metric_plan(name, period, dims, as_of, date_basis) LOOP
        IF p.engine THEN
            RETURN QUERY SELECT e.part, e.dim, e.value, p.unit, p.currency, e.records, e.hidden, e.unpriced, p.by_date, p.version, p.effective_from, v_at, p.freshness, e.rates
              FROM crm._metric_engine(name, p.part, dims, as_of, date_basis) AS e;
        ELSE
            RETURN QUERY EXECUTE format('SELECT %L::daterange, q.d, q.v, %L::text, %L::text, q.n, q.h, q.u, %L::text, %L::int, %L::date, %L::timestamptz, %L::jsonb, q.r FROM (%s) AS q (d, v, n, h, u, r)',
                                        p.part, p.unit, p.currency, p.by_date, p.version, p.effective_from, v_at, p.freshness, p.statement);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm.metric(text, daterange, text[], timestamptz, text) IS
'A figure by its versioned definition (configuration of kind metric), over the records and fields that the caller may read: it runs with the caller''s rights on the guarded views. A period in which the definition changed is answered in parts, one for each version; they are not to be added up unseen.
name: a metric of crm.metric_list. period: days, both ends given. dims: up to four dimensions of the definition, or day, week, month, quarter, year. as_of: as the records, rates and definitions were known then, records deleted since left out; NULL is now. date_basis: another date of the fact than the definition''s, for example recorded_at.
value: in unit (money in currency, converted at the rate of each record''s day; count, share of 1, days, hours, mean); NULL for a share or mean of nothing. records: how many stand behind it; hidden: records of the period left out because the caller may not read a field that counts; unpriced: left out because no rate of their currency is known. rates: source of the rates by currency, and the days they are of.
basis, definition_version, effective_from: by what it was computed; data_as_of and freshness, by source: what was known.
Errors: 42704 no such metric; 22023 a period without ends, an unknown dimension or date, as_of in the future, or a day on which no definition holds; 42501 a metric of the house, for others than directors and administrators.';

CREATE OR REPLACE FUNCTION crm.metric_list()
    RETURNS TABLE (name text, label jsonb, version int, effective_from date, until date, status text, fact text, measure text, amount_basis text, recognition text, date_basis text, dims text[])
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    -- a version stops to count on the day from which a newer one holds
    SELECT c.key, jsonb_build_object('en', c.body ->> 'en', 'zh', c.body ->> 'zh'), c.version, (c.body ->> 'valid_from')::date,
           (SELECT min(coalesce((n.body ->> 'valid_from')::date, '-infinity')) FROM crm_data.config AS n WHERE n.kind = 'metric' AND n.key = c.key AND n.scope = '*' AND n.status IN ('active', 'retired') AND n.valid IS NOT NULL AND NOT isempty(n.valid) AND n.version > c.version),
           c.status, c.body ->> 'fact', c.body ->> 'measure', c.body ->> 'amount_basis', c.body ->> 'recognition', c.body ->> 'date_basis', ARRAY(SELECT jsonb_array_elements_text(c.body -> 'dims'))
      FROM crm_data.config AS c
     WHERE c.kind = 'metric' AND c.scope = '*' AND c.status IN ('active', 'retired') AND c.valid IS NOT NULL AND NOT isempty(c.valid)
     ORDER BY c.key COLLATE "C", c.version
$$;
COMMENT ON FUNCTION crm.metric_list() IS 'The metrics and the versions of their definitions: what each is about, and from which day to which it holds.';

-- A figure of the house, for reports: by the definition that is given, over the tables, teams by number.
CREATE OR REPLACE FUNCTION crm._metric_figures(body jsonb, period daterange, dims text[], at timestamptz DEFAULT NULL, since timestamptz DEFAULT NULL)
    RETURNS TABLE (dim jsonb, value numeric, records bigint, hidden bigint, unpriced bigint, rates jsonb)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE crm._metric_statement(body, period, dims, at, NULL, true, since);
END
$$;
COMMENT ON FUNCTION crm._metric_figures(jsonb, daterange, text[], timestamptz, timestamptz) IS 'Internal: a metric of the whole house by a definition. at: as known then; since: only facts that the database learned of after.';

CREATE OR REPLACE FUNCTION crm._metric_definition(name text, day date, OUT version int, OUT body jsonb)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.version, d.body FROM crm._metric_definitions(name, daterange(day, day + 1), NULL) AS d
$$;
COMMENT ON FUNCTION crm._metric_definition(text, date) IS 'Internal: the definition of a metric that holds on a day; NULL when none does.';

-- ---------------------------------------------------------------- funnel

CREATE OR REPLACE FUNCTION crm._funnel_statement(period daterange, date_basis text, pipeline bigint) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_from timestamptz := (crm._local_span(period)).since;
    v_to timestamptz := (crm._local_span(period)).upto;
    v_hidden text := crm._metric_hidden('opportunity', 'o', '{amount,outcome,stage_id,furthest_stage_id}');
    v_rows text;
BEGIN
    -- a deal, the day whose rate its amount takes, and how far it came: to the last stage there is when it was won; of entries, the stage entered and no other
    CASE date_basis
        WHEN 'created' THEN
            v_rows := format($q$SELECT o.id, (o.created_at AT TIME ZONE %L)::date AS day, o.amount, o.currency, CASE o.outcome WHEN 'won' THEN 32767 ELSE f.seq END AS upto, NULL::bigint AS entered, %s AS hidden
                                  FROM crm.opportunity AS o LEFT JOIN crm.stage AS f ON f.id = coalesce(o.furthest_stage_id, o.stage_id)
                                 WHERE o.created_at >= %L AND o.created_at < %L AND o.pipeline_id = %s AND o.deleted_at IS NULL$q$, v_tz, v_hidden, v_from, v_to, pipeline);
        WHEN 'stage_changed' THEN
            v_rows := format($q$SELECT o.id, max((h.entered_at AT TIME ZONE %L)::date) AS day, o.amount, o.currency, NULL::smallint AS upto, h.to_stage_id AS entered, %s AS hidden
                                  FROM crm.stage_history AS h JOIN crm.opportunity AS o ON o.id = h.opportunity_id
                                 WHERE h.entered_at >= %L AND h.entered_at < %L AND o.pipeline_id = %s AND o.deleted_at IS NULL GROUP BY 1, 3, 4, 6, 7$q$, v_tz, v_hidden, v_from, v_to, pipeline);
        WHEN 'paid' THEN
            v_rows := format($q$SELECT o.id, p.day, o.amount, o.currency, CASE o.outcome WHEN 'won' THEN 32767 ELSE f.seq END AS upto, NULL::bigint AS entered, %s AS hidden
                                  FROM (SELECT k.opportunity_id, min(e.occurred_on) AS day FROM crm.receivable_entry AS e JOIN crm.contract AS k ON k.id = e.contract_id
                                         WHERE e.kind = 'payment' AND e.occurred_on >= %L AND e.occurred_on < %L AND k.opportunity_id IS NOT NULL GROUP BY 1) AS p
                                  JOIN crm.opportunity AS o ON o.id = p.opportunity_id LEFT JOIN crm.stage AS f ON f.id = coalesce(o.furthest_stage_id, o.stage_id)
                                 WHERE o.pipeline_id = %s AND o.deleted_at IS NULL$q$, v_hidden, lower(period), upper(period), pipeline);
    END CASE;
    RETURN format($q$
        WITH d AS MATERIALIZED (%s),
        r AS MATERIALIZED (SELECT x.day, x.currency, y.rate FROM (SELECT DISTINCT d.day, d.currency FROM d) AS x CROSS JOIN LATERAL crm._fx_rate(x.currency, x.day) AS y),
        g AS MATERIALIZED (SELECT d.upto, d.entered, count(*) FILTER (WHERE NOT d.hidden) AS n, sum(d.amount * r.rate) FILTER (WHERE NOT d.hidden) AS amount, count(*) FILTER (WHERE d.hidden) AS hidden,
                                  count(*) FILTER (WHERE NOT d.hidden AND r.rate IS NULL AND d.amount IS NOT NULL) AS unpriced
                             FROM d LEFT JOIN r ON r.day = d.day AND r.currency = d.currency GROUP BY 1, 2),
        s AS (SELECT s.seq, s.name, s.label, coalesce(sum(g.n), 0)::bigint AS n, coalesce(sum(g.amount), 0) AS amount, coalesce(sum(g.hidden), 0)::bigint AS hidden, coalesce(sum(g.unpriced), 0)::bigint AS unpriced
                FROM crm.stage AS s LEFT JOIN g ON g.entered = s.id OR g.upto >= s.seq AND (s.outcome = 'open' OR g.upto = 32767)
               WHERE s.pipeline_id = %s AND s.outcome <> 'lost' GROUP BY s.id, s.seq, s.name, s.label)
        SELECT s.seq, s.name, s.label, s.n, round(s.amount, 2), %L::text, s.hidden, s.unpriced, round(s.n::numeric / nullif(first_value(s.n) OVER w, 0), 4), round(s.n::numeric / nullif(lag(s.n) OVER w, 0), 4)
          FROM s WINDOW w AS (ORDER BY s.seq) ORDER BY s.seq$q$, v_rows, pipeline, crm._setting('organisation.currency', 'CNY'));
END
$$;
COMMENT ON FUNCTION crm._funnel_statement(daterange, text, bigint) IS 'Internal: for crm.funnel: its statement over the guarded views. Answers nothing about records.';

CREATE OR REPLACE FUNCTION crm.funnel(period daterange, date_basis text DEFAULT 'created', pipeline text DEFAULT NULL)
    RETURNS TABLE (seq smallint, stage text, label jsonb, deals bigint, amount numeric, currency text, hidden bigint, unpriced bigint, of_first_rate numeric, of_before_rate numeric, basis text, data_as_of timestamptz)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED -- the caller's own rights. Not STRICT: pipeline may be NULL
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_pipeline bigint;
BEGIN
    IF date_basis IS NULL OR date_basis <> ALL ('{created,stage_changed,paid}') THEN
        RAISE EXCEPTION 'unknown date basis "%"', date_basis USING ERRCODE = 'invalid_parameter_value', HINT = 'created, stage_changed or paid.';
    END IF;
    IF period IS NULL OR isempty(period) OR lower(period) IS NULL OR upper(period) IS NULL OR NOT isfinite(lower(period)) OR NOT isfinite(upper(period)) THEN
        RAISE EXCEPTION 'a funnel needs a period with both ends' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ''[2026-01-01,2026-04-01)''.';
    END IF;
    SELECT p.id INTO v_pipeline FROM crm.pipeline AS p WHERE CASE WHEN pipeline IS NULL THEN p.is_default ELSE p.code = pipeline END;
    IF v_pipeline IS NULL THEN
        RAISE EXCEPTION 'there is no pipeline "%"', coalesce(pipeline, 'by default') USING ERRCODE = 'undefined_object', HINT = 'SELECT code FROM crm.pipeline lists them.';
    END IF;
    RETURN QUERY EXECUTE format('SELECT q.*, %L::text, now() FROM (%s) AS q', date_basis, crm._funnel_statement(period, date_basis, v_pipeline));
END
$$;
COMMENT ON FUNCTION crm.funnel(daterange, text, text) IS
'One funnel on three date bases, over the deals that the caller may read (it runs with his rights on the guarded views): how many deals there are at each stage and what they are worth, in the organisation''s currency at the rate of the day that counts.
period: days, both ends given. date_basis: created, the deals created in the period and how far each came since; stage_changed, the deals that entered each stage in the period; paid, the deals of whose contracts money came in the period. pipeline: its code, NULL for the default one.
of_first_rate, of_before_rate: share of the deals of the first stage, of the stage before. hidden: deals left out because the caller may not read their amount, outcome or stage; unpriced: their amount is left out, no rate is known.
Errors: 22023 another basis, or a period without ends; 42704 no such pipeline.';
