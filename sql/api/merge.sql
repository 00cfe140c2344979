-- Merge: records made one, field by field and reference by reference, and the exact way back.

-- What may hold a reference without a foreign key. Logs and histories keep what they said.
CREATE OR REPLACE FUNCTION crm._merge_references(object text) RETURNS TABLE (tab regclass, col name, filter text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    -- Foreign keys, composite ones by the column that holds the id; a partition has its parent's.
    SELECT c.conrelid::regclass, a.attname, NULL::text
      FROM pg_constraint AS c
           CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS k (child, parent)
           JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.child
           JOIN pg_attribute AS p ON p.attrelid = c.confrelid AND p.attnum = k.parent AND p.attname = 'id'
           JOIN pg_class AS t ON t.oid = c.conrelid AND NOT t.relispartition
     WHERE c.contype = 'f' AND c.confrelid = to_regclass(format('crm_data.%I', object)) AND c.conparentid = 0
     UNION
    -- References by the name of the object.
    SELECT t.oid::regclass, v.col::name, format('%I = %L', v.object_col, object)
      FROM (VALUES ('attachment', 'object', 'record_id'), ('task', 'object', 'record_id'), ('alert', 'object', 'record_id'),
                   ('data_issue', 'object', 'record_id'), ('external_ref', 'object', 'record_id'), ('score', 'object', 'record_id'),
                   ('duplicate_pair', 'object_a', 'a_id'), ('duplicate_pair', 'object_b', 'b_id')) AS v (name, object_col, col)
           JOIN pg_class AS t ON t.relnamespace = to_regnamespace('crm_data') AND t.relname = v.name
     ORDER BY 1, 2;
END
$$;
COMMENT ON FUNCTION crm._merge_references(text) IS
'Columns that may refer to a record of an object: foreign keys of the catalog, and the registered references by name of object. filter: condition that goes with the column. Internal.';

CREATE OR REPLACE FUNCTION crm._merge_check(object text, survivor bigint, victims bigint[]) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF object IS NULL OR object NOT IN ('account', 'contact', 'lead') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('objects of kind "%s" cannot be merged', coalesce(object, '')),
            HINT = 'Accounts, contacts and leads can.';
    END IF;
    IF NOT crm.may('merge') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to merge records', HINT = 'A data steward may.';
    END IF;
    IF survivor IS NULL OR victims IS NULL OR cardinality(victims) = 0 OR array_position(victims, NULL) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'a merge needs the record that stays and at least one that goes', HINT = 'For example crm.merge(''account'', 4711, ''{4712}'').';
    END IF;
    IF survivor = ANY (victims) OR (SELECT count(DISTINCT v) FROM unnest(victims) AS v) < cardinality(victims) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a record cannot be merged with itself', HINT = 'Name each record once.';
    END IF;
    IF cardinality(victims) > 100 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'at most 100 records are merged into one at a time', HINT = 'Merge them in several steps.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._merge_check(text, bigint, bigint[]) IS 'Refuses a merge that makes no sense or that the caller may not do. Internal. Errors: as crm.merge.';

CREATE OR REPLACE FUNCTION crm._merge_images(object text, ids bigint[], locked boolean, everything boolean DEFAULT false) RETURNS jsonb[]
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    id bigint;
    image jsonb;
    images jsonb[] := '{}';
BEGIN
    -- All rows in the order of ids, so that two merges never wait for each other.
    IF locked THEN
        PERFORM crm._gate(x.account) FROM (
            SELECT DISTINCT y.account FROM (
                SELECT CASE object WHEN 'account' THEN i
                                   WHEN 'contact' THEN (SELECT c.account_id FROM crm_data.contact AS c WHERE c.id = i)
                                   ELSE (SELECT l.account_id FROM crm_data.lead AS l WHERE l.id = i) END AS account
                  FROM unnest(ids) AS i) AS y
             WHERE y.account IS NOT NULL ORDER BY y.account) AS x;
        EXECUTE format('SELECT count(*) FROM (SELECT FROM crm_data.%I AS t WHERE t.id = ANY ($1) ORDER BY t.id FOR UPDATE) AS x', object) USING ids;
    END IF;
    FOREACH id IN ARRAY ids LOOP
        EXECUTE format('SELECT to_jsonb(t) FROM crm_data.%I AS t WHERE t.id = $1', object) INTO image USING id;
        IF image IS NULL OR (NOT everything AND current_setting('is_superuser') <> 'on' AND crm._see(object, id) IS NULL) THEN
            RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no such %s', object), HINT = 'Name records that you may see.';
        END IF;
        IF image->>'merged_into' IS NOT NULL OR image->>'deleted_at' IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'RM301', MESSAGE = format('one of the records of kind %s was merged or deleted already', object),
                HINT = 'Look it up with crm.current_id().';
        END IF;
        images := images || image;
    END LOOP;
    RETURN images;
END
$$;
COMMENT ON FUNCTION crm._merge_images(text, bigint[], boolean, boolean) IS
'Images of records in the order given, everything: whoever may see them; locked takes the gates of their accounts and the rows, in the order of ids. Internal. Errors: P0002 missing or hidden; RM301 merged or deleted already.';

-- Which source knows a field best: the configured authority of the field, of its object, or of all; then the sources by their priority.
CREATE OR REPLACE FUNCTION crm._source_rank(object text, field text, source_id bigint) RETURNS int
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    name text;
    priority int;
    place bigint;
BEGIN
    SELECT s.name, s.priority INTO name, priority FROM crm_data.source_system AS s WHERE s.id = source_id;
    SELECT n.place INTO place
      FROM crm_data.config AS c
           CROSS JOIN LATERAL jsonb_array_elements_text(coalesce(c.body->'fields'->(object || '.' || field), c.body->'objects'->object, c.body->'default')) WITH ORDINALITY AS n (name, place)
     WHERE c.kind = 'authority' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active' AND n.name = coalesce(name, 'crm');
    RETURN coalesce(1000000 - place, priority, -32768);
END
$$;
COMMENT ON FUNCTION crm._source_rank(text, text, bigint) IS
'Rank of a source for a field, the higher the better: by its place in the configured authority (kind authority), behind these by its priority. source_id: NULL for what was entered here. Internal.';

-- Which value of a field survives: images of the survivor first, then the victims.
CREATE OR REPLACE FUNCTION crm._survivor_of(rule text, object text, field text, images jsonb[]) RETURNS int
    LANGUAGE plpgsql STABLE SECURITY DEFINER      -- whose plans are kept: it is asked for every field
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (WITH v AS (
        SELECT i.n::int AS n, i.image, i.image->field AS value
          FROM unnest(images) WITH ORDINALITY AS i (image, n)
         WHERE jsonb_typeof(i.image->field) <> 'null' AND i.image->field NOT IN ('""', '[]', '{}')
    )
    SELECT v.n FROM v
     ORDER BY CASE rule WHEN 'pinned' THEN v.n
                        WHEN 'longest' THEN -length(v.value #>> '{}')
                        WHEN 'most_frequent' THEN -(SELECT count(*) FROM v AS w WHERE w.value = v.value)
                        WHEN 'source_priority' THEN -crm._source_rank(object, field, (v.image->>'source_id')::bigint)
                        WHEN 'most_recent' THEN -extract(epoch FROM (v.image->>'updated_at')::timestamptz)
                        WHEN 'validated_first' THEN
                            CASE WHEN (field = 'uscc' AND crm.uscc_valid(v.value #>> '{}')) OR (field = 'phone' AND crm.phone_key(v.value #>> '{}') IS NOT NULL)
                                      OR (field = 'email' AND crm.email_key(v.value #>> '{}') IS NOT NULL) THEN 0 ELSE 1 END
                        ELSE 0 END, v.n
     LIMIT 1);
END
$$;
COMMENT ON FUNCTION crm._survivor_of(text, text, text, jsonb[]) IS
'Place of the record whose value of a field survives, NULL if none has one. rule: non_empty_first, most_recent, source_priority, most_frequent, longest, validated_first or pinned; ties go to the survivor, then by order. Internal.';

CREATE OR REPLACE FUNCTION crm._merge_plan(object text, records jsonb[], choices jsonb, OUT result jsonb, OUT chosen jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    images jsonb[] := records;
    rules jsonb;
    col record;
    choice jsonb;
    rule text;
    winner int;
    value jsonb;
    lead_of_group text;
    kinds CONSTANT text[] := ARRAY['non_empty_first', 'most_recent', 'source_priority', 'most_frequent', 'longest', 'validated_first', 'union', 'pinned'];
BEGIN
    result := '{}';
    chosen := '{}';
    SELECT c.body INTO rules FROM crm_data.config AS c WHERE c.kind = 'survivorship' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active';
    rules := coalesce(rules, '{"default": "non_empty_first"}');
    IF jsonb_typeof(coalesce(choices->'fields', '{}')) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'choices->fields must be an object', HINT = 'For example {"fields": {"phone": 4711}}.';
    END IF;
    FOR choice IN SELECT to_jsonb(k) FROM jsonb_object_keys(coalesce(choices->'fields', '{}')) AS k LOOP
        PERFORM FROM pg_attribute AS a WHERE a.attrelid = to_regclass(format('crm_data.%I', object)) AND a.attname = choice #>> '{}' AND a.attnum > 0 AND NOT a.attisdropped;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('%s has no field "%s"', object, choice #>> '{}'), HINT = 'choices->fields names fields of the record.';
        END IF;
    END LOOP;
    -- A reference among the merged records themselves is no value: nothing is its own parent.
    FOR col IN SELECT x.col AS name FROM crm._merge_references(object) AS x WHERE x.tab = to_regclass(format('crm_data.%I', object)) LOOP
        SELECT array_agg(CASE WHEN i.image->col.name IN (SELECT j.image->'id' FROM unnest(records) AS j (image)) THEN i.image || jsonb_build_object(col.name, NULL) ELSE i.image END ORDER BY i.n)
          INTO images FROM unnest(images) WITH ORDINALITY AS i (image, n);
    END LOOP;
    FOR col IN
        SELECT a.attname AS name, a.atttypid IN (SELECT t.oid FROM pg_type AS t WHERE t.typcategory = 'A') AS is_array, a.atttypid = 'jsonb'::regtype AS is_jsonb
          FROM pg_attribute AS a
               LEFT JOIN crm_data.field AS f ON f.object = _merge_plan.object AND f.name = a.attname AND NOT f.custom
         WHERE a.attrelid = to_regclass(format('crm_data.%I', object)) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
           -- Bookkeeping, what the engine derives, and keys that stay with their record.
           AND a.attname NOT IN ('id', 'code', 'client_key', 'merged_into', 'created_at', 'created_by', 'updated_at', 'updated_by', 'row_version', 'field_version',
                                 'last_hash', 'last_at', 'deleted_at', 'forgotten_at', 'op_seq', 'lease_endpoint', 'lease_until', 'phone_norm', 'email_norm', 'name_core',
                                 'owner_id', 'team_id', 'grade', 'lifecycle', 'state', 'account_id', 'pool_id', 'assigned_at', 'occurred_at', 'recorded_at')
           AND f.write_class IS DISTINCT FROM 'engine'
         ORDER BY a.attnum
    LOOP
        choice := choices->'fields'->col.name;
        -- A group of fields follows the record that its first field comes from.
        lead_of_group := NULL;
        SELECT split_part(g.value->>0, '.', 2) INTO lead_of_group
          FROM jsonb_array_elements(coalesce(rules->'groups', '[]')) AS g
         WHERE g.value ? (object || '.' || col.name) AND choice IS NULL;
        rule := coalesce(CASE WHEN jsonb_typeof(choice) = 'string' THEN choice #>> '{}' END,
                         rules->'fields'->>(object || '.' || coalesce(lead_of_group, col.name)),
                         -- a field with a system of record of its own
                         CASE WHEN EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'authority' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active' AND c.body->'fields' ? (object || '.' || col.name)) THEN 'source_priority' END,
                         rules->>'default', 'non_empty_first');
        IF rule <> ALL (kinds) THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown survivorship rule "%s"', rule),
                HINT = 'Rules are: ' || array_to_string(kinds, ', ') || '.';
        END IF;
        IF jsonb_typeof(choice) = 'object' AND choice ? 'value' THEN
            value := choice->'value';
            winner := NULL;
            rule := 'chosen';
        ELSIF jsonb_typeof(choice) = 'number' THEN
            SELECT i.n INTO winner FROM unnest(images) WITH ORDINALITY AS i (image, n) WHERE i.image->'id' = choice;
            IF winner IS NULL THEN
                RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('the value of "%s" is to come from a record that is not merged', col.name), HINT = 'Name the survivor or one of the victims.';
            END IF;
            value := images[winner]->col.name;
            rule := 'chosen';
        ELSIF rule = 'union' AND col.is_array THEN
            SELECT coalesce(jsonb_agg(x.value ORDER BY x.first), '[]') INTO value
              FROM (SELECT e.value, min(i.n * 1000000 + e.n) AS first
                      FROM unnest(images) WITH ORDINALITY AS i (image, n),
                           LATERAL jsonb_array_elements(CASE jsonb_typeof(i.image->col.name) WHEN 'array' THEN i.image->col.name ELSE '[]' END) WITH ORDINALITY AS e (value, n)
                     GROUP BY e.value) AS x;
            winner := NULL;
        ELSIF rule = 'union' AND col.is_jsonb THEN
            value := '{}';
            FOR winner IN REVERSE cardinality(images)..1 LOOP
                value := value || CASE jsonb_typeof(images[winner]->col.name) WHEN 'object' THEN images[winner]->col.name ELSE '{}' END;
            END LOOP;
            winner := NULL;
        ELSE
            IF rule = 'pinned' THEN
                winner := 1;
            ELSE
                winner := crm._survivor_of(rule, object, coalesce(lead_of_group, col.name), images);
                -- An empty leader leaves the group to whoever has something.
                IF winner IS NULL AND lead_of_group IS NOT NULL THEN
                    winner := crm._survivor_of('non_empty_first', object, col.name, images);
                END IF;
            END IF;
            value := images[coalesce(winner, 1)]->col.name;
        END IF;
        IF value IS DISTINCT FROM images[1]->col.name THEN
            result := result || jsonb_build_object(col.name, value);
            chosen := chosen || jsonb_build_object(col.name, jsonb_strip_nulls(jsonb_build_object('rule', rule, 'from', images[winner]->'id')));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._merge_plan(text, jsonb[], jsonb) IS
'The fields of the survivor that a merge changes, and for each the rule and the record it comes from. Internal. Errors: 22023 unknown rule or record; 42703 unknown field.';

CREATE OR REPLACE FUNCTION crm.merge_preview(object text, survivor bigint, victims bigint[]) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    plan record;
    r record;
    n bigint;
    moves jsonb := '{}';
BEGIN
    PERFORM crm._merge_check(object, survivor, victims);
    SELECT * INTO plan FROM crm._merge_plan(object, crm._merge_images(object, survivor || victims, false), '{}');
    FOR r IN SELECT * FROM crm._merge_references(object) LOOP
        EXECUTE format('SELECT count(*) FROM %s AS t WHERE t.%I = ANY ($1) AND %s', r.tab, r.col, coalesce('t.' || r.filter, 'true')) INTO n USING victims;
        IF n > 0 THEN
            moves := moves || jsonb_build_object((SELECT c.relname FROM pg_class AS c WHERE c.oid = r.tab) || '.' || r.col, n);
        END IF;
    END LOOP;
    RETURN jsonb_build_object('object', object, 'survivor', survivor, 'victims', victims, 'fields', plan.chosen, 'moves', moves);
END
$$;
COMMENT ON FUNCTION crm.merge_preview(text, bigint, bigint[]) IS
'What crm.merge would do: for each field of the survivor that would change the rule and the record it comes from, and how many references would move, by table and column. Changes nothing and shows no value.
object: account, contact or lead. survivor: record that stays. victims: records that become redirects. Errors: as crm.merge.';

CREATE OR REPLACE FUNCTION crm._merge_difference(before jsonb, after jsonb, OUT old_value jsonb, OUT new_value jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(jsonb_object_agg(b.key, b.value), '{}'), coalesce(jsonb_object_agg(b.key, after->b.key), '{}')
      FROM jsonb_each(before) AS b
     WHERE after->b.key IS DISTINCT FROM b.value
       AND b.key NOT IN ('row_version', 'field_version', 'last_hash', 'last_at', 'updated_at', 'updated_by');
END;
COMMENT ON FUNCTION crm._merge_difference(jsonb, jsonb) IS 'Columns that differ between two images of a row, without bookkeeping. Internal.';

-- The columns of a table's primary key, and SQL that finds the row of table t by them in the document of name key.
CREATE OR REPLACE FUNCTION crm._merge_key(tab regclass, OUT columns name[], OUT condition text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT array_agg(a.attname ORDER BY k.n), string_agg(format('t.%1$I = (%2$s->>%1$L)::%3$s', a.attname, 'key', format_type(a.atttypid, a.atttypmod)), ' AND ' ORDER BY k.n)
      INTO columns, condition
      FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
           JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE i.indrelid = tab AND i.indisprimary;
END
$$;
COMMENT ON FUNCTION crm._merge_key(regclass) IS 'Columns of a table''s primary key, and the condition that finds its row (t) by a document (key) of them. Internal.';

CREATE OR REPLACE FUNCTION crm._merge_repoint(op bigint, seq int, tab regclass, col name, filter text, survivor bigint, victims bigint[], only_key jsonb DEFAULT NULL) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    name CONSTANT text := (SELECT c.relname FROM pg_class AS c WHERE c.oid = tab);
    pk record;
    keys text;
    condition text;
    n int;
    found_keys jsonb[];
BEGIN
    SELECT * INTO pk FROM crm._merge_key(tab);
    keys := (SELECT string_agg(format('%1$L, t.%1$I', k), ', ') FROM unnest(pk.columns) AS k);
    condition := format('t.%I = ANY ($1)', col) || coalesce(' AND t.' || filter, '') || CASE name WHEN 'duplicate_pair' THEN format(' AND t.merge_id IS DISTINCT FROM %s', op) ELSE '' END;
    IF only_key IS NULL THEN
        -- Locked in one order; a later statement sees them as they are then.
        EXECUTE format('SELECT array_agg(x.key) FROM (SELECT jsonb_build_object(%s) AS key FROM %s AS t WHERE %s ORDER BY %s FOR UPDATE) AS x',
                       keys, tab, condition, (SELECT string_agg(format('t.%I', k), ', ') FROM unnest(pk.columns) AS k))
            INTO found_keys USING victims;
        IF found_keys IS NULL THEN
            RETURN 0;
        END IF;
    ELSE
        found_keys := ARRAY[only_key];
    END IF;
    PERFORM crm._engine_write('erase', 'merge', 'merge ' || op);
    BEGIN
        -- What changes with a row (owner, team) is kept for the way back. A record of the merge itself does not refer to itself.
        EXECUTE format(
            'WITH o AS MATERIALIZED (
                 SELECT k.n, k.key, to_jsonb(t) AS image FROM unnest($2) WITH ORDINALITY AS k (key, n) JOIN %1$s AS t ON %2$s),
             u AS (
                 UPDATE %1$s AS t SET %3$I = %4$s FROM o WHERE %5$s RETURNING o.n, o.key, o.image, to_jsonb(t) AS after)
             INSERT INTO crm_data.merge_move (merge_id, seq, tab, columns, row_key, old_value, new_value, action)
             SELECT $4, $5 + u.n, %6$L, ARRAY(SELECT jsonb_object_keys(d.old_value) ORDER BY 1), u.key, d.old_value, d.new_value, ''moved''
               FROM u CROSS JOIN LATERAL crm._merge_difference(u.image, u.after) AS d',
            tab, replace(pk.condition, '(key->>', '(k.key->>'), col,
            CASE WHEN tab = to_regclass(format('crm_data.%I', (SELECT m.object FROM crm_data.merge_op AS m WHERE m.id = op))) AND col <> 'merged_into' THEN 'CASE WHEN t.id <> $3 THEN $3 END' ELSE '$3' END,
            replace(pk.condition, '(key->>', '(o.key->>'), name)
            USING victims, found_keys, survivor, op, seq;
        RETURN cardinality(found_keys);
    EXCEPTION WHEN unique_violation OR check_violation OR exclusion_violation THEN
        NULL;
    END;
    PERFORM crm._engine_write('erase', 'merge', 'merge ' || op);
    IF only_key IS NOT NULL THEN
        -- The survivor has one like it: this one is put aside, whole, and comes back with the undo.
        EXECUTE format(
            'WITH d AS (DELETE FROM %1$s AS t WHERE %2$s RETURNING to_jsonb(t) AS image)
             INSERT INTO crm_data.merge_move (merge_id, seq, tab, columns, row_key, action, image)
             SELECT $2, $3 + 1, %3$L, ARRAY[%4$L], $1, ''stashed'', d.image FROM d', tab, replace(pk.condition, '(key->>', '($1->>'), name, col)
            USING only_key, op, seq;
        RETURN 1;
    END IF;
    FOR i IN 1 .. cardinality(found_keys) LOOP
        n := crm._merge_repoint(op, seq + i - 1, tab, col, filter, survivor, victims, found_keys[i]);
    END LOOP;
    RETURN cardinality(found_keys);
END
$$;
COMMENT ON FUNCTION crm._merge_repoint(bigint, int, regclass, name, text, bigint, bigint[], jsonb) IS
'Moves one reference of a merge to the survivor, all rows at once; where a constraint forbids that, row by row, putting aside whole what has no place beside the survivor''s. seq: last number of the merge''s moves. only_key: this row alone. Returns how many rows. Internal.';

CREATE OR REPLACE FUNCTION crm._merge_records(object text, survivor bigint, victims bigint[], choices jsonb, confirmation bigint, as_job boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    base CONSTANT regclass := to_regclass('crm_data.' || quote_ident(object));
    images jsonb[];
    plan record;
    op bigint;
    seq int := 0;
    r record;
    moved jsonb;
    after jsonb;
    cols text;
    merged_at CONSTANT timestamptz := clock_timestamp();
BEGIN
    images := crm._merge_images(object, survivor || victims, true, as_job);
    -- What the merge does to suggestions it does itself, so that it can be undone.
    PERFORM crm._match_pause(true);
    SELECT * INTO plan FROM crm._merge_plan(object, images, choices);

    INSERT INTO crm_data.merge_op AS m (object, survivor_id, victim_ids, choices, before, chosen, actor, reason, confirmation_id)
    VALUES (_merge_records.object, survivor, victims, choices,
            (SELECT jsonb_object_agg(i->>'id', i) FROM unnest(images) AS i), plan.chosen, crm._caller(), choices->>'reason',
            confirmation)
    RETURNING m.id INTO op;

    -- The suggestions that this merge answers end with it.
    WITH o AS MATERIALIZED (
        SELECT d.id, to_jsonb(d) AS image, row_number() OVER (ORDER BY d.id) AS n FROM crm_data.duplicate_pair AS d
         WHERE d.object_a = _merge_records.object AND d.object_b = _merge_records.object AND d.a_id = ANY (survivor || victims) AND d.b_id = ANY (survivor || victims)
    ), u AS (
        UPDATE crm_data.duplicate_pair AS d
           SET state = 'merged', merge_id = op, locks_target = false, decided_by = crm._caller(), decided_at = merged_at
          FROM o WHERE d.id = o.id RETURNING o.n, o.id, o.image, to_jsonb(d) AS after
    )
    INSERT INTO crm_data.merge_move (merge_id, seq, tab, columns, row_key, old_value, new_value, action)
    SELECT op, u.n, 'duplicate_pair', ARRAY(SELECT jsonb_object_keys(d.old_value) ORDER BY 1), jsonb_build_object('id', u.id), d.old_value, d.new_value, 'moved'
      FROM u CROSS JOIN LATERAL crm._merge_difference(u.image, u.after) AS d;
    GET DIAGNOSTICS seq = ROW_COUNT;
    FOR r IN SELECT x.tab, x.col, x.filter FROM crm._merge_references(object) AS x JOIN pg_class AS c ON c.oid = x.tab ORDER BY c.relname, x.col LOOP
        seq := seq + crm._merge_repoint(op, seq, r.tab, r.col, r.filter, survivor, victims);
    END LOOP;

    PERFORM crm._engine_write('none', 'merge', 'merge ' || op);
    EXECUTE format('SELECT to_jsonb(t) FROM %s AS t WHERE t.id = $1', base) INTO moved USING survivor;
    EXECUTE format('UPDATE %s AS t SET merged_into = $1 WHERE t.id = ANY ($2)', base) USING survivor, victims;
    IF plan.result <> '{}' THEN
        SELECT string_agg(format('%I', k), ', ' ORDER BY k) INTO cols FROM jsonb_object_keys(plan.result) AS k;
        EXECUTE format('UPDATE %s AS t SET (%s) = (SELECT %s FROM jsonb_populate_record(t, $1) AS x) WHERE t.id = $2', base, cols,
                       (SELECT string_agg(format('x.%I', k), ', ' ORDER BY k) FROM jsonb_object_keys(plan.result) AS k))
            USING plan.result, survivor;
    END IF;
    -- What the survivor is now, to tell later edits from the merge's.
    EXECUTE format('SELECT to_jsonb(t) FROM %s AS t WHERE t.id = $1', base) INTO after USING survivor;
    UPDATE crm_data.merge_op AS m
       SET after_version = (after->>'row_version')::int, before = m.before || (SELECT jsonb_build_object('moved', x.old_value, 'after', x.new_value) FROM crm._merge_difference(moved, after) AS x)
     WHERE m.id = op;
    PERFORM crm._engine_write('none'), crm._match_pause(false);
    RETURN op;
END
$$;
COMMENT ON FUNCTION crm._merge_records(text, bigint, bigint[], jsonb, bigint, boolean) IS 'Makes records one, after all checks of right and confirmation. as_job: for the scheduled merge of certain duplicates, whoever may see them. Internal.';

CREATE OR REPLACE FUNCTION crm.merge(object text, survivor bigint, victims bigint[], choices jsonb DEFAULT '{}') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM crm._merge_check(object, survivor, victims);
    IF choices IS NULL OR jsonb_typeof(choices) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the choices of a merge must be an object', HINT = 'For example {"confirmation": 17, "reason": "one company"}.';
    END IF;
    IF choices ? 'confirmation' AND (jsonb_typeof(choices->'confirmation') <> 'number' OR choices->>'confirmation' !~ '^[0-9]{1,18}$') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the confirmation of a merge must be the number of a challenge', HINT = 'crm.challenge() gives one, crm.confirm() approves it.';
    END IF;
    -- A superuser at the console has nobody to ask.
    IF current_setting('is_superuser') <> 'on' THEN
        PERFORM crm._use_challenge('merge', object, survivor, (choices->>'confirmation')::bigint);
    END IF;
    RETURN crm._merge_records(object, survivor, victims, choices, CASE WHEN current_setting('is_superuser') <> 'on' THEN (choices->>'confirmation')::bigint END, false);
END
$$;
COMMENT ON FUNCTION crm.merge(text, bigint, bigint[], jsonb) IS
'Makes records one. Fields survive by the configuration of kind survivorship, references move (foreign keys of the catalog and registered ones), rows that the survivor has already are put aside, the victims become redirects. Returns the merge, for crm.unmerge.
object: account, contact or lead. survivor: record that stays. victims: 1 to 100 records that become redirects. choices: {"confirmation": id that crm.confirm approved, "reason": .., "fields": {"phone": id of a record, or a rule, or {"value": ..}}}.
Errors: 22023 another object, a record with itself, an unknown rule; 42501 no right to merge; RM106 no second confirmation (superusers need none); P0002 a record is missing or hidden; RM301 it was merged or deleted already; 54000 more than 100.';

CREATE OR REPLACE FUNCTION crm._job_dedup_merge(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_least CONSTANT float8 := (SELECT (c.body->>'value')::float8 FROM crm_data.config AS c WHERE c.kind = 'setting' AND c.key = 'dedup.auto_merge' AND c.scope = '*' AND c.status = 'active');
    v_n bigint := 0;
    p record;
BEGIN
    -- Two records of two owners are for people to decide about, and so is what the rules alone do not prove.
    FOR p IN
        SELECT d.id, d.a_id, d.b_id, d.rule, d.score FROM crm_data.duplicate_pair AS d
               JOIN crm_data.account AS a ON a.id = d.a_id AND a.merged_into IS NULL AND a.deleted_at IS NULL
               JOIN crm_data.account AS b ON b.id = d.b_id AND b.merged_into IS NULL AND b.deleted_at IS NULL
         WHERE d.object_a = 'account' AND d.object_b = 'account' AND d.state = 'open' AND d.band = 'auto' AND d.score >= greatest(v_least, 0.999)
           AND (a.owner_id = b.owner_id OR a.owner_id IS NULL OR b.owner_id IS NULL)
           -- nor what somebody has called two, or un-merged
           AND NOT EXISTS (SELECT FROM crm_data.match_link AS l JOIN crm_data.match_state AS s ON s.model = l.model AND s.name = 'account'
                            WHERE l.kind = 'cannot' AND (l.a, l.b) IN ((d.a_id::text, d.b_id::text), (d.b_id::text, d.a_id::text)))
         ORDER BY d.score DESC, d.id LIMIT 500
    LOOP
        -- an earlier merge of this run may have answered it
        CONTINUE WHEN NOT EXISTS (SELECT FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS b ON b.id = d.b_id AND b.merged_into IS NULL JOIN crm_data.account AS a ON a.id = d.a_id AND a.merged_into IS NULL
                                   WHERE d.id = p.id AND d.state = 'open' AND d.a_id = p.a_id AND d.b_id = p.b_id);
        PERFORM crm._merge_records('account', p.a_id, ARRAY[p.b_id], jsonb_build_object('reason', format('scheduled: %s, probability %s', coalesce('rule ' || p.rule, 'all fields together'), round(p.score::numeric, 4))), NULL, true);
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_dedup_merge(timestamptz) IS
'Job: merges customers that are certainly one (band auto) with at least the probability of the setting dedup.auto_merge, never below 0.999, the older one stays; not when two people own them or somebody has called them two. At most 500 a run, each to be undone with crm.unmerge. Internal.';

CREATE OR REPLACE FUNCTION crm._unmerge_rows(op bigint, tab regclass, seqs int[], OUT restored int, OUT conflicts jsonb)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    name CONSTANT text := (SELECT c.relname FROM pg_class AS c WHERE c.oid = tab);
    stashed CONSTANT boolean := (SELECT v.action = 'stashed' FROM crm_data.merge_move AS v WHERE v.merge_id = op AND v.seq = seqs[1]);
    pk record;
    keys jsonb[];
    backs jsonb[];
    one record;
    cols text;
    again text := '';
BEGIN
    restored := 0;
    conflicts := '[]';
    SELECT * INTO pk FROM crm._merge_key(tab);
    PERFORM crm._engine_write(CASE WHEN stashed THEN 'restore' ELSE 'erase' END, 'merge', 'undo of merge ' || op);
    IF NOT stashed THEN
        -- What each row gets back: the fields that are still as the merge left them. The others were edited since; they stay and are told.
        EXECUTE format(
            'WITH x AS MATERIALIZED (
                 SELECT v.row_key,
                        (SELECT jsonb_object_agg(e.key, v.old_value->e.key) FROM jsonb_each(v.new_value) AS e WHERE i.image->e.key = e.value) AS back,
                        CASE WHEN i.image IS NULL THEN ARRAY[''row''] ELSE ARRAY(SELECT e.key FROM jsonb_each(v.new_value) AS e WHERE i.image->e.key IS DISTINCT FROM e.value ORDER BY 1) END AS edited
                   FROM crm_data.merge_move AS v
                        LEFT JOIN LATERAL (SELECT to_jsonb(t) AS image FROM %s AS t WHERE %s FOR UPDATE) AS i ON true
                  WHERE v.merge_id = $1 AND v.seq = ANY ($2)
                  ORDER BY v.seq DESC)
             SELECT (SELECT array_agg(x.row_key) FROM x WHERE x.back IS NOT NULL) AS keys, (SELECT array_agg(x.back) FROM x WHERE x.back IS NOT NULL) AS backs,
                    (SELECT coalesce(jsonb_agg(jsonb_build_object(''table'', %L, ''key'', x.row_key, ''field'', f)), ''[]'') FROM x, unnest(x.edited) AS f) AS conflicts',
            tab, replace(pk.condition, '(key->>', '(v.row_key->>'), name)
            INTO keys, backs, conflicts USING op, seqs;
        IF keys IS NULL THEN
            RETURN;
        END IF;
    END IF;
    BEGIN
        IF stashed THEN
            SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) INTO cols
              FROM pg_attribute AS a WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
            EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE
                            SELECT %3$s FROM crm_data.merge_move AS v CROSS JOIN LATERAL jsonb_populate_record(NULL::%1$s, v.image) AS x
                             WHERE v.merge_id = $1 AND v.seq = ANY ($2) ORDER BY v.seq DESC', tab, cols,
                           (SELECT string_agg(format('x.%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute AS a
                             WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')) USING op, seqs;
            restored := cardinality(seqs);
            RETURN;
        END IF;
        SELECT string_agg(format('%I', k), ', ' ORDER BY k) INTO cols FROM (SELECT DISTINCT jsonb_object_keys(b) AS k FROM unnest(backs) AS b) AS x;
        FOR i IN 1 .. 2 LOOP
            -- Twice: a trigger copies owner and team of the account that a row moves to, which may not be what the row had.
            EXECUTE format('UPDATE %s AS t SET (%s) = (SELECT %s FROM jsonb_populate_record(t, k.back) AS x) FROM unnest($1, $2) AS k (key, back) WHERE %s', tab, cols,
                           (SELECT string_agg(format('x.%I', k), ', ' ORDER BY k) FROM (SELECT DISTINCT jsonb_object_keys(b) AS k FROM unnest(backs) AS b) AS y),
                           replace(pk.condition, '(key->>', '(k.key->>') || again)
                USING keys, backs;
            again := ' AND NOT to_jsonb(t) @> k.back';
        END LOOP;
        restored := cardinality(keys);
        RETURN;
    EXCEPTION WHEN unique_violation OR check_violation OR exclusion_violation OR foreign_key_violation THEN
        restored := 0;
    END;
    IF cardinality(seqs) = 1 THEN
        conflicts := conflicts || jsonb_build_object('table', name, 'key', (SELECT v.row_key FROM crm_data.merge_move AS v WHERE v.merge_id = op AND v.seq = seqs[1]),
                                                     'field', CASE WHEN stashed THEN 'row' ELSE 'reference' END);
        RETURN;
    END IF;
    conflicts := '[]';
    FOR i IN 1 .. cardinality(seqs) LOOP
        SELECT * INTO one FROM crm._unmerge_rows(op, tab, ARRAY[seqs[i]]);
        restored := restored + one.restored;
        conflicts := conflicts || one.conflicts;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._unmerge_rows(bigint, regclass, int[]) IS
'Takes back some moves of a merge in one table, each of another row, all at once; where a constraint forbids that, one by one, the last first. seqs: numbers of the moves, descending. Returns how many rows are as before, and what was edited since or has no place any more. Internal.';

CREATE OR REPLACE FUNCTION crm.unmerge(merge_id bigint) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    op crm_data.merge_op;
    later bigint;
    base regclass;
    part record;
    one record;
    now_image jsonb;
    back jsonb;
    cols text;
    field record;
    conflicts jsonb := '[]';
    restored int := 0;
    ids bigint[];
    report jsonb;
    model int;
BEGIN
    IF NOT crm.may('merge') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to undo a merge', HINT = 'A data steward may.';
    END IF;
    SELECT * INTO op FROM crm_data.merge_op AS o WHERE o.id = merge_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('merge %s does not exist', merge_id), HINT = 'crm.merge() returned its number.';
    END IF;
    IF op.state <> 'done' THEN
        RAISE EXCEPTION USING ERRCODE = 'RM302', MESSAGE = 'the merge was undone already', HINT = 'crm.merge() makes the records one again.';
    END IF;
    ids := op.survivor_id || op.victim_ids;
    SELECT o.id INTO later FROM crm_data.merge_op AS o
     WHERE o.state = 'done' AND o.id > op.id
       AND (o.object = op.object AND (o.survivor_id = ANY (ids) OR o.victim_ids && ids)
            -- or it changed a field of a row that this one changed, or put such a row aside
            OR o.id IN (SELECT w.merge_id FROM crm_data.merge_move AS v JOIN crm_data.merge_move AS w ON w.tab = v.tab AND w.row_key = v.row_key AND w.merge_id > v.merge_id
                         WHERE v.merge_id = op.id AND (v.columns && w.columns OR 'stashed' IN (v.action, w.action))
                        UNION ALL
                        SELECT w.merge_id FROM crm_data.merge_move AS w
                         WHERE w.tab = op.object AND w.row_key = jsonb_build_object('id', op.survivor_id) AND w.columns && ARRAY(SELECT jsonb_object_keys(op.before->'after'))
                        UNION ALL
                        SELECT l.id FROM crm_data.merge_move AS v JOIN crm_data.merge_op AS l ON l.object = v.tab AND l.survivor_id = (v.row_key->>'id')::bigint
                         WHERE v.merge_id = op.id AND v.columns && ARRAY(SELECT jsonb_object_keys(l.before->'after'))))
     ORDER BY o.id DESC LIMIT 1;
    IF later IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'RM303', MESSAGE = format('merge %s came later and overlaps this one', later),
            HINT = format('Undo it first: SELECT crm.unmerge(%s).', later);
    END IF;
    base := to_regclass(format('crm_data.%I', op.object));
    PERFORM crm._gate(x.account) FROM (
        SELECT DISTINCT y.account FROM (
            SELECT CASE op.object WHEN 'account' THEN i ELSE (op.before->(i::text)->>'account_id')::bigint END AS account FROM unnest(ids) AS i) AS y
         WHERE y.account IS NOT NULL ORDER BY y.account) AS x;
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %s AS t WHERE t.id = ANY ($1) ORDER BY t.id FOR UPDATE) AS x', base) USING ids;

    -- The fields of the survivor: what was edited since stays and is reported.
    PERFORM crm._engine_write('none', 'merge', 'undo of merge ' || op.id), crm._match_pause(true);
    EXECUTE format('SELECT to_jsonb(t) FROM %s AS t WHERE t.id = $1', base) INTO now_image USING op.survivor_id;
    back := '{}';
    FOR field IN SELECT e.key, e.value FROM jsonb_each(op.before->'after') AS e ORDER BY e.key LOOP
        IF now_image->field.key IS DISTINCT FROM field.value THEN
            conflicts := conflicts || jsonb_build_object('table', op.object, 'key', jsonb_build_object('id', op.survivor_id), 'field', field.key);
        ELSE
            back := back || jsonb_build_object(field.key, op.before->'moved'->field.key);
        END IF;
    END LOOP;
    SELECT string_agg(format('%I', k), ', ' ORDER BY k) INTO cols
      FROM jsonb_object_keys(back) AS k WHERE k <> 'merged_into';
    IF cols IS NOT NULL THEN
        EXECUTE format('UPDATE %s AS t SET (%s) = (SELECT %s FROM jsonb_populate_record(t, $1) AS x) WHERE t.id = $2', base, cols,
                       (SELECT string_agg(format('x.%I', k), ', ' ORDER BY k) FROM jsonb_object_keys(back) AS k WHERE k <> 'merged_into'))
            USING back, op.survivor_id;
    END IF;
    EXECUTE format('UPDATE %s AS t SET merged_into = NULL WHERE t.id = ANY ($1)', base) USING op.victim_ids;

    -- References, backwards: at once what one statement moved, that is a run of moves in one table, in which a row comes once.
    FOR part IN
        SELECT y.tab, array_agg(y.seq ORDER BY y.seq DESC) AS seqs
          FROM (SELECT x.tab, x.seq, x.action, x.run, row_number() OVER (PARTITION BY x.tab, x.action, x.run, x.row_key ORDER BY x.seq) AS turn
                  FROM (SELECT v.tab, v.seq, v.action, v.row_key, v.seq - row_number() OVER (PARTITION BY v.tab, v.action ORDER BY v.seq) AS run
                          FROM crm_data.merge_move AS v WHERE v.merge_id = op.id) AS x) AS y
         GROUP BY y.tab, y.action, y.run, y.turn
         ORDER BY max(y.seq) DESC
    LOOP
        SELECT * INTO one FROM crm._unmerge_rows(op.id, to_regclass(format('crm_data.%I', part.tab)), part.seqs);
        restored := restored + one.restored;
        conflicts := conflicts || one.conflicts;
    END LOOP;
    PERFORM crm._engine_write('none'), crm._match_pause(false);

    report := jsonb_build_object('merge', op.id, 'restored', restored, 'conflicts', conflicts);
    UPDATE crm_data.merge_op AS o
       SET state = 'undone', undone_at = clock_timestamp(), undone_by = crm._caller(), undo_report = report, updated_at = now(), updated_by = crm._caller()
     WHERE o.id = op.id;
    SELECT s.model INTO model FROM crm_data.match_state AS s WHERE s.name = op.object AND s.shipped;
    IF model IS NOT NULL THEN
        INSERT INTO crm_data.match_link (model, a, b, kind, reason, merge_id, actor)
        SELECT model, CASE WHEN op.survivor_id::text COLLATE "C" < v::text THEN op.survivor_id ELSE v END::text,
               CASE WHEN op.survivor_id::text COLLATE "C" < v::text THEN v ELSE op.survivor_id END::text, 'cannot', 'unmerged', op.id, crm._caller()
          FROM unnest(op.victim_ids) AS v
        ON CONFLICT ON CONSTRAINT match_link_model_a_b_key DO UPDATE SET kind = 'cannot', reason = 'unmerged', merge_id = excluded.merge_id;
    END IF;
    RETURN report;
END
$$;
COMMENT ON FUNCTION crm.unmerge(bigint) IS
'Undoes a merge: references go back, rows that were put aside come back, the survivor''s fields are what they were, the victims are records again, and the pairs are marked as not to be merged. What was edited since stays and is listed under conflicts; rows made since stay with the survivor.
merge_id: as crm.merge returned it. Returns {merge, restored, conflicts[]}. Errors: 42501 no right; P0002 no such merge; RM302 undone already; RM303 a later merge overlaps it and must be undone first.';

CREATE OR REPLACE FUNCTION crm.current_id(object text, id bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    target bigint;
BEGIN
    IF object IS NULL OR object NOT IN ('account', 'contact', 'lead') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('objects of kind "%s" are never merged', coalesce(object, '')), HINT = 'Accounts, contacts and leads are.';
    END IF;
    -- who saw the record, or sees what it became, is led there
    EXECUTE format('SELECT coalesce(t.merged_into, t.id) FROM crm_data.%1$I AS t LEFT JOIN crm_data.%1$I AS s ON s.id = t.merged_into
                     WHERE t.id = $1 AND (crm._row_readable(%1$L, to_jsonb(t)) OR crm._row_readable(%1$L, to_jsonb(s)))', object) INTO target USING id;
    RETURN target;
END
$$;
COMMENT ON FUNCTION crm.current_id(text, bigint) IS
'The record that an id stands for now: itself, or the one it was merged into; NULL if there never was one, or neither is the caller''s to see. Merging re-points earlier redirects, so one step is all. Errors: 22023 an object that is never merged.';
