-- Forms: which fields of a record are shown, asked for and editable, by the configuration of kind form, by the stage, and by what the person may read and write.
-- What is asked for holds a deal back when it changes its stage, not whenever it is saved.

CREATE OR REPLACE FUNCTION crm._form_fields(body jsonb) RETURNS TABLE (ord bigint, field text, visible jsonb, required jsonb, editable jsonb, label jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.ord, x.field, x.value -> 'visible',
           CASE WHEN body -> 'required' ? x.field THEN 'true' ELSE coalesce(x.value -> 'required', 'false') END, x.value -> 'editable',
           jsonb_strip_nulls(jsonb_build_object('en', x.value -> 'en', 'zh', x.value -> 'zh'))
      FROM (SELECT e.ord, e.value, CASE jsonb_typeof(e.value) WHEN 'string' THEN e.value #>> '{}' ELSE e.value ->> 'field' END AS field
              FROM jsonb_array_elements(CASE jsonb_typeof(body -> 'fields') WHEN 'array' THEN body -> 'fields' ELSE '[]' END) WITH ORDINALITY AS e (value, ord)) AS x
$$;
COMMENT ON FUNCTION crm._form_fields(jsonb) IS 'Internal: the fields of a form in order, each with its conditions (true, false, a jsonpath, or NULL for none) and a label of its own.';

CREATE OR REPLACE FUNCTION crm._form_unknown(path text, object text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- $.opportunity.amount, @.account.grade, and below a filter @.amount; what stands before a bracket is a method, what stands behind attrs is free
    SELECT string_agg(DISTINCT p.name, ', ' ORDER BY p.name)
      FROM regexp_matches(regexp_replace(path, '"(\\.|[^"\\])*"', '""', 'g'), '[$@]((?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)+)(\s*\()?', 'g') AS m
     CROSS JOIN LATERAL (SELECT array_remove(string_to_array(regexp_replace(m[1], '\s', '', 'g'), '.'), '') AS part) AS a
     CROSS JOIN LATERAL (SELECT CASE WHEN m[2] IS NULL THEN a.part ELSE a.part[:cardinality(a.part) - 1] END AS part) AS s
     CROSS JOIN LATERAL (SELECT CASE WHEN s.part[1] IN (object, 'account') THEN array_to_string(s.part[1:2], '.') ELSE s.part[1] END AS name, s.part[1] IN (object, 'account') AS qualified) AS p
     WHERE cardinality(s.part) > CASE WHEN p.qualified THEN 1 ELSE 0 END
       AND NOT EXISTS (SELECT FROM crm_data.field AS f WHERE NOT f.custom AND f.retired_at IS NULL
                          AND CASE WHEN p.qualified THEN f.object = s.part[1] AND f.name = s.part[2] ELSE f.object IN (object, 'account') AND f.name = s.part[1] END)
       AND NOT (object = 'opportunity' AND CASE WHEN p.qualified THEN s.part[1] = object AND s.part[2] IN ('stage', 'stage_seq') ELSE s.part[1] IN ('stage', 'stage_seq') END)
$$;
COMMENT ON FUNCTION crm._form_unknown(text, text) IS 'Internal: what a condition of a form names that its document does not have, NULL for nothing: a name that is missing would make it false for ever.';

CREATE OR REPLACE FUNCTION crm._form_problems(body jsonb) RETURNS TABLE (path text, message text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_object text := body ->> 'object';
    v_store boolean := body ? 'store';
    e record;
    k text;
    c text;
BEGIN
    FOR k IN SELECT x FROM jsonb_object_keys(body) AS x WHERE x <> ALL ('{object,store,fields,required,required_any,context,en,zh,note}'::text[]) ORDER BY 1 LOOP
        RETURN QUERY SELECT '$.' || left(k, 100), format('a form has no %L', left(k, 100));
    END LOOP;
    IF NOT EXISTS (SELECT FROM crm._protected_tables() AS p JOIN crm_data.field AS f ON f.object = p.object WHERE p.object = v_object) THEN
        RETURN QUERY SELECT '$.object', format('there is no object %L', left(v_object, 100));
        RETURN;
    END IF;
    IF v_store AND (jsonb_typeof(body -> 'store') <> 'string' OR body ->> 'store' !~ '^attrs\.forms\.[a-z_][a-z0-9_]*$') THEN
        RETURN QUERY SELECT '$.store', 'a form that is kept beside the record is stored in attrs.forms.<name>'::text;
    END IF;
    IF jsonb_typeof(body -> 'fields') IS DISTINCT FROM 'array' OR body -> 'fields' = '[]' THEN
        RETURN QUERY SELECT '$.fields', 'a form has a list of fields'::text;
        RETURN;
    END IF;
    FOR e IN SELECT x.value, format('$.fields[%s]', x.ord - 1) AS at, CASE jsonb_typeof(x.value) WHEN 'string' THEN x.value #>> '{}' WHEN 'object' THEN x.value ->> CASE WHEN v_store THEN 'key' ELSE 'field' END END AS name
               FROM jsonb_array_elements(body -> 'fields') WITH ORDINALITY AS x (value, ord) ORDER BY x.ord LOOP
        IF e.name IS NULL OR jsonb_typeof(e.value) NOT IN ('string', 'object') OR v_store AND jsonb_typeof(e.value) <> 'object' THEN
            RETURN QUERY SELECT e.at, CASE WHEN v_store THEN 'an entry is an object with a key and a type' ELSE 'an entry is the name of a field, or an object with field, visible, required and editable' END;
            CONTINUE;
        END IF;
        IF v_store THEN
            FOR k IN SELECT x FROM jsonb_object_keys(e.value) AS x WHERE x <> ALL ('{key,type,required,en,zh}'::text[]) ORDER BY 1 LOOP
                RETURN QUERY SELECT e.at || '.' || left(k, 100), format('an entry of such a form has no %L', left(k, 100));
            END LOOP;
            IF coalesce(e.value ->> 'type', '') <> ALL ('{text,number,date,boolean}') THEN
                RETURN QUERY SELECT e.at || '.type', format('%L is no type: text, number, date or boolean', left(e.value ->> 'type', 100));
            END IF;
            IF e.value ? 'required' AND jsonb_typeof(e.value -> 'required') <> 'boolean' THEN
                RETURN QUERY SELECT e.at || '.required', 'true or false'::text;
            END IF;
            CONTINUE;
        END IF;
        IF NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = v_object AND f.name = e.name AND f.retired_at IS NULL AND f.class <> 'engine') THEN
            RETURN QUERY SELECT e.at, format('%s has no field %L', v_object, left(e.name, 100));
            CONTINUE;
        END IF;
        CONTINUE WHEN jsonb_typeof(e.value) = 'string';
        FOR k IN SELECT x FROM jsonb_object_keys(e.value) AS x WHERE x <> ALL ('{field,visible,required,editable,en,zh}'::text[]) ORDER BY 1 LOOP
            RETURN QUERY SELECT e.at || '.' || left(k, 100), format('an entry has no %L: visible, required and editable are its conditions', left(k, 100));
        END LOOP;
        FOREACH k IN ARRAY '{visible,required,editable}'::text[] LOOP
            CONTINUE WHEN NOT e.value ? k OR jsonb_typeof(e.value -> k) = 'boolean';
            c := e.value ->> k;
            IF jsonb_typeof(e.value -> k) <> 'string' THEN
                RETURN QUERY SELECT e.at || '.' || k, 'true, false or a condition (jsonpath)'::text;
            ELSIF crm._jsonpath_problem(c) IS NOT NULL THEN
                RETURN QUERY SELECT e.at || '.' || k, format('%s: %s', left(c, 200), crm._jsonpath_problem(c));
            ELSIF crm._unbound(c, NULL) IS NOT NULL THEN
                RETURN QUERY SELECT e.at || '.' || k, format('nothing gives $%s a value', crm._unbound(c, NULL));
            ELSIF crm._form_unknown(c, v_object) IS NOT NULL THEN
                RETURN QUERY SELECT e.at || '.' || k, format('there is no %s: conditions see %s', crm._form_unknown(c, v_object),
                    CASE v_object WHEN 'opportunity' THEN 'opportunity (with stage and stage_seq) and account' WHEN 'account' THEN 'account' ELSE v_object || ' and account' END);
            END IF;
        END LOOP;
        IF coalesce(e.value -> 'required', 'false') <> 'false' AND EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = v_object AND f.name = e.name AND f.write_class = 'engine') THEN
            RETURN QUERY SELECT e.at || '.required', format('%L is kept by the engine: nobody could fill it in', e.name);
        END IF;
    END LOOP;
    RETURN QUERY SELECT '$.fields', format('%L stands there twice', left(x.name, 100)) FROM (SELECT CASE jsonb_typeof(v) WHEN 'string' THEN v #>> '{}' ELSE coalesce(v ->> 'field', v ->> 'key') END AS name FROM jsonb_array_elements(body -> 'fields') AS v) AS x
                  WHERE x.name IS NOT NULL GROUP BY x.name HAVING count(*) > 1 ORDER BY x.name;
    FOREACH k IN ARRAY '{required,required_any,context}'::text[] LOOP
        CONTINUE WHEN NOT body ? k;
        IF jsonb_typeof(body -> k) <> 'array' OR EXISTS (SELECT FROM jsonb_array_elements(body -> k) AS v WHERE jsonb_typeof(v) <> CASE k WHEN 'required_any' THEN 'array' ELSE 'string' END) THEN
            RETURN QUERY SELECT '$.' || k, CASE k WHEN 'required_any' THEN 'a list of lists of fields' ELSE 'a list of names' END;
        ELSIF k <> 'context' THEN
            RETURN QUERY SELECT '$.' || k, format('%L is no field of this form', left(n.v #>> '{}', 100)) FROM jsonb_path_query(body -> k, CASE k WHEN 'required_any' THEN '$[*][*]' ELSE '$[*]' END::jsonpath) AS n (v)
                          WHERE NOT EXISTS (SELECT FROM crm._form_fields(body) AS f WHERE f.field = n.v #>> '{}') ORDER BY 2;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._form_problems(jsonb) IS 'Internal: what is wrong with the body of a form, by path; no row for a good one.';

CREATE OR REPLACE FUNCTION crm._form_document(object text, image jsonb, account jsonb, stage bigint) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('account', coalesce(account, '{}'))
           || jsonb_build_object(object, coalesce(image, '{}') || coalesce((SELECT jsonb_build_object('stage', s.code, 'stage_seq', s.seq, 'outcome', s.outcome) FROM crm_data.stage AS s WHERE s.id = _form_document.stage), '{}'))
$$;
COMMENT ON FUNCTION crm._form_document(text, jsonb, jsonb, bigint) IS 'Internal: what the conditions of a form see: the record under its object''s name, a deal with code, position and outcome of the stage it is in or about to enter, and the customer under account.';

CREATE OR REPLACE FUNCTION crm._form_holds(condition jsonb, doc jsonb, otherwise boolean) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE jsonb_typeof(condition) WHEN 'boolean' THEN condition::boolean WHEN 'string' THEN jsonb_path_exists(doc, (condition #>> '{}')::jsonpath, '{}', true) ELSE otherwise END;
END
$$;
COMMENT ON FUNCTION crm._form_holds(jsonb, jsonb, boolean) IS 'Internal: whether a condition of a form holds for a document. otherwise: the answer when there is no condition.';

CREATE OR REPLACE FUNCTION crm._form_value(image jsonb, field text, custom boolean) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN custom THEN image -> 'attrs' -> field ELSE image -> field END
$$;
COMMENT ON FUNCTION crm._form_value(jsonb, text, boolean) IS 'Internal: the value of a field in the image of a record; a custom one stands in attrs.';

CREATE OR REPLACE FUNCTION crm._form_missing(body jsonb, object text, image jsonb, account jsonb, stage bigint) RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(f.field ORDER BY f.ord), '{}')
      FROM crm._form_document(object, image, account, stage) AS doc CROSS JOIN crm._form_fields(body) AS f JOIN crm_data.field AS r ON r.object = _form_missing.object AND r.name = f.field AND r.retired_at IS NULL
     WHERE coalesce(crm._form_value(image, f.field, r.custom), 'null') IN ('null', '""', '[]', '{}')
       AND crm._form_holds(f.required, doc, false) AND crm._form_holds(f.visible, doc, true)
$$;
COMMENT ON FUNCTION crm._form_missing(jsonb, text, jsonb, jsonb, bigint) IS 'Internal: the fields of a form that are asked for and empty, for a record in a stage or about to enter it. A field that the form does not show is not asked for.';

CREATE OR REPLACE FUNCTION crm._seen_image(object text, image jsonb) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(e.key, coalesce(crm._shown(f.id, image, e.value), 'null')), '{}')
      FROM jsonb_each(image) AS e JOIN crm_data.field AS f ON f.object = _seen_image.object AND f.name = e.key AND NOT f.custom
$$;
COMMENT ON FUNCTION crm._seen_image(text, jsonb) IS 'Internal: what the current person sees of a record, given as it is: masks, and null where he sees nothing.';

CREATE OR REPLACE FUNCTION crm._check_form(image jsonb, t crm_data.stage) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_body jsonb;
    v_missing text[];
    v_account jsonb;
    v_doc jsonb;
    v_named text[];
BEGIN
    SELECT c.body INTO v_body FROM crm_data.config AS c WHERE c.kind = 'form' AND c.key = 'opportunity' AND c.scope = '*' AND c.status = 'active' AND NOT c.body ? 'store' AND c.body ->> 'object' = 'opportunity';
    IF v_body IS NULL THEN
        RETURN;
    END IF;
    SELECT to_jsonb(a) INTO v_account FROM crm_data.account AS a WHERE a.id = (image ->> 'account_id')::bigint;
    -- what is switched off for this client is not asked of it
    v_missing := ARRAY(SELECT m FROM unnest(crm._form_missing(v_body, 'opportunity', image, v_account, t.id)) WITH ORDINALITY AS x (m, ord) WHERE NOT m = ANY (crm._off_fields('opportunity', NULL)) ORDER BY ord);
    IF v_missing = '{}' THEN
        RETURN;
    END IF;
    -- named are the fields that crm.form_spec shows the person as asked for; others would tell him of values that he may not read
    v_doc := crm._form_document('opportunity', crm._seen_image('opportunity', image), CASE WHEN crm._row_readable('account', v_account) THEN crm._seen_image('account', v_account) END, t.id);
    v_named := ARRAY(SELECT r.name FROM crm._form_fields(v_body) AS f JOIN crm_data.field AS r ON r.object = 'opportunity' AND r.name = f.field AND r.retired_at IS NULL
                      WHERE r.name = ANY (v_missing) AND crm._form_holds(f.visible, v_doc, true) AND crm._form_holds(f.required, v_doc, false)
                        AND CASE WHEN r.custom THEN crm._shown((SELECT a.id FROM crm_data.field AS a WHERE a.object = 'opportunity' AND a.name = 'attrs' AND NOT a.custom), image, jsonb_build_object(r.name, '13800138000')) ? r.name
                                 ELSE crm._shown(r.id, image, '"13800138000"') IS NOT NULL END
                      ORDER BY f.ord);
    RAISE EXCEPTION 'stage "%" asks for fields that are empty', t.code USING ERRCODE = 'RM523',
        DETAIL = concat_ws('; ', nullif(array_to_string(v_named, ', '), ''), CASE WHEN v_named <> v_missing THEN 'fields that you may not read' END),
        HINT = concat_ws(' ', CASE WHEN v_named <> '{}' THEN format('Fill them in first: SELECT * FROM crm.form_spec(''opportunity'', %s, ''%s'') shows what the stage asks for.', image ->> 'id', t.code) END,
                         CASE WHEN v_named <> v_missing THEN 'Ask somebody who may see the whole deal to fill in the rest.' END);
END
$$;
COMMENT ON FUNCTION crm._check_form(jsonb, crm_data.stage) IS 'Internal: refuses to let a deal enter a stage for which the form opportunity asks for fields that are empty, and names those that the person may know of. Errors: RM523.';

CREATE OR REPLACE FUNCTION crm.form_spec(entity text, record bigint DEFAULT NULL, stage text DEFAULT NULL, form text DEFAULT NULL)
    RETURNS TABLE (seq int, field text, label jsonb, type text, visible boolean, required boolean, editable boolean, masked boolean, missing boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_table regclass := crm._protected_table(entity);
    v_body jsonb;
    v_image jsonb;
    v_seen jsonb;
    v_account jsonb;
    v_stage bigint;
    v_pipeline bigint;
    v_doc jsonb;
    v_owner bigint;
    v_team bigint;
    v_may boolean;
    v_attrs int := (SELECT f.id FROM crm_data.field AS f WHERE f.object = entity AND f.name = 'attrs' AND NOT f.custom);
    v_off text[] := crm._off_fields(entity, NULL);
BEGIN
    IF v_table IS NULL OR NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = entity) THEN
        RAISE EXCEPTION 'there is no object "%"', entity USING ERRCODE = 'undefined_object', HINT = 'Use the name of its view, for example account, contact or opportunity.';
    END IF;
    SELECT c.body INTO v_body FROM crm_data.config AS c WHERE c.kind = 'form' AND c.key = coalesce(form, entity) AND c.scope = '*' AND c.status = 'active' AND NOT c.body ? 'store' AND c.body ->> 'object' = entity;
    IF v_body IS NULL AND form IS NOT NULL THEN
        RAISE EXCEPTION 'there is no form "%" of %', form, entity USING ERRCODE = 'undefined_object', HINT = 'SELECT key FROM crm.config_list(''form'') lists the forms.';
    END IF;
    -- without a form: all there is
    v_body := coalesce(v_body, jsonb_build_object('fields', (SELECT jsonb_agg(f.name ORDER BY f.custom, f.id, f.name COLLATE "C") FROM crm_data.field AS f WHERE f.object = entity AND f.class <> 'engine' AND f.retired_at IS NULL)));
    IF record IS NULL THEN
        -- nothing yet, but his own
        SELECT jsonb_object_agg(f.name, CASE f.name WHEN 'owner_id' THEN to_jsonb(m.id) WHEN 'team_id' THEN to_jsonb(m.team_id) END) INTO v_image
          FROM crm_data.field AS f LEFT JOIN crm_data.member AS m ON m.id = crm.me() WHERE f.object = entity AND NOT f.custom;
        v_seen := v_image;
    ELSE
        v_image := crm._image(entity, record);
        IF v_image IS NULL OR NOT crm._row_readable(entity, v_image) THEN
            RAISE EXCEPTION 'there is no such % that you may read', entity USING ERRCODE = 'no_data_found', HINT = 'A form is asked for a record of yours; leave the record out for a new one.';
        END IF;
        -- conditions see what the person sees, so that no form tells of a value that is hidden
        v_seen := crm._seen_image(entity, v_image);
    END IF;
    IF entity = 'opportunity' THEN
        v_stage := (v_seen ->> 'stage_id')::bigint;
        SELECT coalesce((SELECT s.pipeline_id FROM crm_data.stage AS s WHERE s.id = v_stage), (SELECT p.id FROM crm_data.pipeline AS p WHERE p.is_default)) INTO v_pipeline;
        IF record IS NULL AND stage IS NULL THEN
            SELECT s.id INTO v_stage FROM crm_data.stage AS s WHERE s.pipeline_id = v_pipeline ORDER BY s.seq LIMIT 1;
        ELSIF stage IS NOT NULL THEN
            SELECT s.id INTO v_stage FROM crm_data.stage AS s WHERE s.pipeline_id = v_pipeline AND s.code = stage;
        END IF;
    END IF;
    IF stage IS NOT NULL AND v_stage IS NULL THEN
        RAISE EXCEPTION 'there is no stage "%" here', stage USING ERRCODE = 'invalid_parameter_value', HINT = 'A stage is the code of one in the pipeline of the deal; other records have none.';
    END IF;
    IF entity <> 'account' AND v_seen ->> 'account_id' IS NOT NULL THEN
        v_account := crm._image('account', (v_seen ->> 'account_id')::bigint);
        v_account := CASE WHEN crm._row_readable('account', v_account) THEN crm._seen_image('account', v_account) END;
    END IF;
    v_doc := crm._form_document(entity, v_seen, v_account, v_stage);
    v_owner := (v_image ->> CASE entity WHEN 'member' THEN 'id' ELSE 'owner_id' END)::bigint;
    v_team := (v_image ->> 'team_id')::bigint;
    v_may := crm.row_visible(entity, CASE WHEN record IS NULL THEN 'create' ELSE 'update' END, v_owner, v_team, (v_image ->> 'grade')::smallint);
    RETURN QUERY
    SELECT row_number() OVER (ORDER BY x.ord)::int, x.name, x.labelled, x.typed, x.shown AND x.readable, x.asked, v_may AND x.shown AND x.changeable AND x.readable, x.readable AND x.blurred,
           CASE WHEN x.readable THEN x.asked AND coalesce(x.value, 'null') IN ('null', '""', '[]', '{}') END
      FROM (SELECT f.ord, r.name, r.label || f.label AS labelled, r.type AS typed, crm._form_holds(f.visible, v_doc, true) AS shown, NOT r.name = ANY (v_off) AND crm._form_holds(f.visible, v_doc, true) AND crm._form_holds(f.required, v_doc, false) AS asked,
                   p.seen IS NOT NULL AS readable, p.seen IS DISTINCT FROM p.probe AS blurred, crm._form_value(v_image, r.name, r.custom) AS value,
                   r.write_class NOT IN ('engine', 'fixed') AND NOT r.name = ANY (v_off) AND crm._form_holds(f.editable, v_doc, true) AND coalesce(crm._field_allowed('write', CASE WHEN r.custom THEN v_attrs ELSE r.id END, v_owner, v_team), false) AS changeable
              FROM crm._form_fields(v_body) AS f JOIN crm_data.field AS r ON r.object = entity AND r.name = f.field AND r.retired_at IS NULL
             -- what the person would see of a value, there or not
             CROSS JOIN LATERAL (SELECT CASE WHEN jsonb_typeof(crm._form_value(v_image, r.name, r.custom)) IN ('number', 'boolean') THEN crm._form_value(v_image, r.name, r.custom) ELSE '"13800138000"' END AS probe) AS v
             CROSS JOIN LATERAL (SELECT v.probe, CASE WHEN r.custom THEN crm._shown(v_attrs, v_image, jsonb_build_object(r.name, v.probe)) -> r.name ELSE crm._shown(r.id, v_image, v.probe) END AS seen) AS p) AS x
     ORDER BY x.ord;
END
$$;
COMMENT ON FUNCTION crm.form_spec(text, bigint, text, text) IS
'What a client shows of a record, field by field, in the order of the form (configuration of kind form; the one named as the object unless another is given; without one, every field): for the person who asks, by his rights to row and field, and for the stage.
entity: name of the view. record: its id, NULL for a new one. stage: code of a stage of the deal''s pipeline, to see what that one will ask for; NULL for the present one. form: key of another form.
visible: the form shows it and the person may read it; masked: he sees a mask. required: it is asked for in this stage; missing: and empty (NULL where he may not read it). editable: he may change it. type: of the column; label: {en, zh}. A field that is switched off for this client (configuration flag/off_fields) is neither required nor editable. The conditions see what he sees, never a hidden value.
What is required holds a deal back when it enters a stage going forward (RM523 in crm.advance_stage), never when it is saved. Errors: 42704 no such object or form; P0002 no such record of the caller''s; 22023 no such stage.';

CREATE OR REPLACE FUNCTION crm._simulate_form(new jsonb, old jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_object text := new ->> 'object';
    v_result jsonb;
BEGIN
    IF new ? 'store' THEN
        RETURN jsonb_build_object('records', 0, 'note', 'nothing to rehearse: this form is kept beside the record');
    END IF;
    -- deals that are open, other records that live: at most 5000, drawn by their number
    EXECUTE format($q$
        WITH r AS MATERIALIZED (
            SELECT t.id, crm._form_missing($1, %1$L, to_jsonb(t), to_jsonb(a), %2$s) AS n, CASE WHEN $2 IS NOT NULL THEN crm._form_missing($2, %1$L, to_jsonb(t), to_jsonb(a), %2$s) END AS o
              FROM %3$s AS t LEFT JOIN crm_data.account AS a ON %4$s WHERE %5$s ORDER BY hashint8extended(t.id, 0), t.id LIMIT 5000)
        SELECT jsonb_build_object('records', count(*), 'incomplete', count(*) FILTER (WHERE r.n <> '{}'), 'incomplete_before', CASE WHEN $2 IS NOT NULL THEN count(*) FILTER (WHERE r.o <> '{}') END,
                   'fields', coalesce((SELECT jsonb_object_agg(f.name, f.n) FROM (SELECT x.name, count(*) AS n FROM r AS y CROSS JOIN LATERAL unnest(y.n) AS x (name) GROUP BY 1) AS f), '{}'),
                   'newly', coalesce(to_jsonb((array_agg(r.id ORDER BY r.id) FILTER (WHERE r.n <> '{}' AND coalesce(r.o, '{}') = '{}'))[1:20]), '[]'), 'limited', count(*) >= 5000) FROM r$q$,
        v_object, CASE v_object WHEN 'opportunity' THEN 't.stage_id' ELSE 'NULL' END, crm._protected_table(v_object),
        CASE WHEN v_object = 'account' THEN 'a.id = t.id' WHEN EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = v_object AND f.name = 'account_id' AND NOT f.custom) THEN 'a.id = t.account_id' ELSE 'false' END,
        concat_ws(' AND ', 'true', CASE v_object WHEN 'opportunity' THEN 't.outcome = ''open''' END,
                  (SELECT 't.deleted_at IS NULL' FROM pg_attribute AS x WHERE x.attrelid = crm._protected_table(v_object) AND x.attname = 'deleted_at' AND NOT x.attisdropped),
                  (SELECT 't.merged_into IS NULL' FROM pg_attribute AS x WHERE x.attrelid = crm._protected_table(v_object) AND x.attname = 'merged_into' AND NOT x.attisdropped)))
       INTO v_result USING new, old;
    RETURN v_result;
END
$$;
COMMENT ON FUNCTION crm._simulate_form(jsonb, jsonb) IS 'Internal: records that lack something two versions of a form ask for where they stand, the fields that are lacking, and whom the new one would newly hold back.';
