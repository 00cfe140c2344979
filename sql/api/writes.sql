-- Writes: leases, drafts, failed operations, upsert, removal, follow-ups, going back, and who holds and waits.

-- ---------------------------------------------------------------- leases

CREATE OR REPLACE FUNCTION crm.begin_edit(account bigint, endpoint text, ttl interval DEFAULT '30 seconds') RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '3s'
AS $function$
DECLARE
    longest interval := make_interval(secs => coalesce((SELECT (c.body ->> 'value')::int FROM crm_data.config AS c
                                                         WHERE c.kind = 'setting' AND c.key = 'write_lease.ttl' AND c.scope = '*' AND c.status = 'active'), 30));
    a crm_data.account;
    until timestamptz;
BEGIN
    IF endpoint = '' OR ttl <= interval '0' OR ttl > longest THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a lease needs an endpoint and lasts at most %s', longest),
            HINT = 'Call crm.begin_edit again, or write, to keep it longer.';
    END IF;
    PERFORM crm._check_client(endpoint);
    PERFORM crm._gate(account);
    SELECT * INTO a FROM crm_data.account AS x WHERE x.id = account FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT crm._row_readable('account', to_jsonb(a)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no account %s', account);
    END IF;
    -- a lease is for people who may write
    IF NOT crm.row_visible('account', 'update', a.owner_id, a.team_id, a.grade) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied to edit account %s', account);
    END IF;
    IF a.lease_endpoint <> endpoint AND a.lease_until > clock_timestamp() AND a.lease_until <= clock_timestamp() + longest THEN
        RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = format('account %s is being edited through %s', account, a.lease_endpoint),
            DETAIL = format('The lease ends at %s.', a.lease_until), HINT = 'Retry then. Writing without a lease is possible: changes of the same field become conflicts.';
    END IF;
    until := clock_timestamp() + ttl;
    UPDATE crm_data.account AS x SET lease_endpoint = begin_edit.endpoint, lease_until = until WHERE x.id = account;
    RETURN until;
END
$function$;
COMMENT ON FUNCTION crm.begin_edit(bigint, text, interval) IS
'Takes the edit lease of a customer for an endpoint, or renews it; answers its end. It ends by itself: nothing needs to be cleaned up after a crash. Each write by the holder renews it.
account: the customer; endpoint: web, app, wecom, dingtalk and so on; ttl: more than 0, at most the setting write_lease.ttl (30 seconds).
Errors: 55P03 another endpoint holds it, or the customer is busy; P0002 no such customer, or hidden; 42501 not the caller''s to write; 22023 no endpoint, or a ttl out of range; RM204 the client is too old.';

CREATE OR REPLACE FUNCTION crm.end_edit(account bigint, endpoint text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '3s'
AS $function$
DECLARE
    a crm_data.account;
BEGIN
    PERFORM crm._gate(account);
    SELECT * INTO a FROM crm_data.account AS x WHERE x.id = account FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT crm._row_readable('account', to_jsonb(a)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no account %s', account);
    END IF;
    IF NOT crm.row_visible('account', 'update', a.owner_id, a.team_id, a.grade) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied to edit account %s', account);
    END IF;
    IF endpoint IS NULL OR a.lease_endpoint = endpoint THEN
        UPDATE crm_data.account AS x SET lease_endpoint = NULL, lease_until = NULL WHERE x.id = account AND x.lease_endpoint IS NOT NULL;
        -- all of it: a customer without a lease is not asked what waits
        PERFORM crm.apply_operations(account, 2147483647);
    END IF;
END
$function$;
COMMENT ON FUNCTION crm.end_edit(bigint, text) IS
'Gives the edit lease of a customer back before it ends, and applies what waited for that.
account: the customer; endpoint: only if this one holds it, NULL: whoever does. Not STRICT: endpoint may be NULL.
Errors: P0002 no such customer, or hidden; 42501 not the caller''s to write; 55P03 the customer is busy.';

-- ---------------------------------------------------------------- who holds and waits

CREATE OR REPLACE FUNCTION crm.locks()
    RETURNS TABLE (account bigint, pid int, role name, application text, state text, since timestamptz, blocked_by int[])
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
    -- class 65 is the gate of crm.write; see src/common/locks.h
    SELECT (l.classid::bigint << 32) | l.objid::bigint, l.pid, a.usename, a.application_name, CASE WHEN l.granted THEN 'holds' ELSE 'waits' END,
           CASE WHEN l.granted THEN a.xact_start ELSE l.waitstart END, CASE WHEN l.granted THEN '{}' ELSE pg_blocking_pids(l.pid) END
      FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.objsubid = 65 AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND EXISTS (SELECT FROM crm_data.account AS x WHERE x.id = (l.classid::bigint << 32) | l.objid::bigint AND crm._row_readable('account', to_jsonb(x)))
    UNION ALL
    SELECT x.id, NULL, NULL, x.lease_endpoint, 'lease', x.lease_until, '{}'
      FROM crm_data.account AS x WHERE x.lease_until > clock_timestamp() AND crm._row_readable('account', to_jsonb(x))
    ORDER BY 1, 5, 2
$function$;
COMMENT ON FUNCTION crm.locks() IS
'Who is writing to which customer now: one row a session that holds the customer''s gate or waits for it (since, and for whom), and one a valid edit lease (application: its endpoint; since: its end).
Only sessions that write through crm.write and crm.begin_edit stand at the gate; others hold the row alone and show in pg_locks.';

-- ---------------------------------------------------------------- what waited and failed

CREATE OR REPLACE FUNCTION crm.retry_failed(lim int DEFAULT 500) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_steward', 'crm_sync');
    IF lim < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'lim must be at least 1';
    END IF;
    UPDATE crm_data.operation AS o SET state = 'pending'
     WHERE o.op_id IN (SELECT f.op_id FROM crm_data.operation AS f WHERE f.state = 'failed' ORDER BY f.created_at DESC, f.op_id LIMIT lim FOR UPDATE SKIP LOCKED);
    RETURN crm.apply_operations(NULL, lim);
END
$function$;
COMMENT ON FUNCTION crm.retry_failed(int) IS
'Tries the newest failed operations again, in their order; answers how many were tried. Each keeps its identifier, number and count of attempts, so one that is applied is applied once. lim: at most so many, 1 and up.
Errors: 22023 lim below 1.';

-- ---------------------------------------------------------------- upsert, removal

CREATE OR REPLACE FUNCTION crm.remove(object text, id bigint, base_version int) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'crm_data' AND c.relname = object AND c.relkind IN ('r', 'p')
                  AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'deleted_at' AND NOT a.attisdropped)) THEN
        RAISE EXCEPTION 'rows of % are not marked as deleted', object USING ERRCODE = 'undefined_column',
            HINT = CASE object WHEN 'attachment' THEN 'Ask for it with crm.request_delete(''attachment'', id, reason, challenge).' WHEN 'interaction' THEN 'Its author or a steward may retract it: set retracted_at.'
                               WHEN 'member' THEN 'Whoever leaves is offboarded: crm.offboard(member).' ELSE 'They stay with the record they belong to.' END;
    END IF;
    RETURN crm.write(object, id, gen_random_uuid(), 'remove', base_version, jsonb_build_object('deleted_at', clock_timestamp()));
END
$function$;
COMMENT ON FUNCTION crm.remove(text, bigint, int) IS
'Marks a record as deleted; nothing is erased, and crm.restore brings it back. Answers as crm.write does: when somebody changed the record since base_version, state is conflict and it stays.
object, id: the record; base_version: the row_version that was read, NULL: none, then it stays; therefore not STRICT.
Errors: those of crm.write; 42703 the object has no deleted_at.';

CREATE OR REPLACE FUNCTION crm._whole_error(code text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN code ~ '^(40|53|57|58|XX|55P03|55006|25006|RM203|RM204)';
COMMENT ON FUNCTION crm._whole_error(text) IS 'Internal: whether an error concerns the whole request, whatever its fields: busy, cancelled, out of something, an operation sent before, a client too old.';

CREATE OR REPLACE FUNCTION crm._field_problem(code text, message text, field text) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
    -- a value of the wrong type is not repeated
    SELECT jsonb_build_object('code', code, 'message', CASE
               WHEN code = '23502' THEN 'is required'
               WHEN code ~ '^22' THEN 'is not a value of type ' || coalesce((SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
                                                                              WHERE a.attrelid = 'crm_data.account'::regclass AND a.attname = field AND a.attnum > 0), 'text')
               ELSE message END)
$function$;
COMMENT ON FUNCTION crm._field_problem(text, text, text) IS 'Internal: what is said of a field of a customer that was refused: {code, message}. code: SQLSTATE. message: of the error; NULL where the code says all, therefore not STRICT.';

CREATE OR REPLACE FUNCTION crm._draft_codes(problems jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_object_agg(p.key, p.value -> 'code') FROM jsonb_each(problems) AS p WHERE p.value ->> 'code' NOT IN ('42501', '42703')
$function$;
COMMENT ON FUNCTION crm._draft_codes(jsonb) IS 'Internal: what a record keeps of the problems of a save, {field: SQLSTATE}: those that another value would end; NULL for none.';

CREATE OR REPLACE FUNCTION crm._insert_account(patch jsonb, endpoint text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    columns text;
    added bigint;
BEGIN
    SELECT string_agg(quote_ident(k.key), ', ' ORDER BY k.key) INTO columns FROM jsonb_each(patch) AS k WHERE k.value <> 'null';
    PERFORM crm._engine_write('none', endpoint);
    EXECUTE format('INSERT INTO crm_data.account (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::crm_data.account, $1) RETURNING id', columns) INTO added USING patch;
    PERFORM crm._engine_write('none');
    RETURN added;
END
$function$;
COMMENT ON FUNCTION crm._insert_account(jsonb, text) IS 'Internal: adds a customer with some fields, whose rights were asked; answers its id.';

CREATE OR REPLACE FUNCTION crm._try_account(account bigint, version int, patch jsonb, endpoint text, field text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    done boolean := false;
BEGIN
    IF account IS NULL THEN
        PERFORM crm._insert_account(patch, endpoint);
    ELSE
        PERFORM crm.write('account', account, gen_random_uuid(), endpoint, version, patch);
    END IF;
    done := true;
    RAISE EXCEPTION 'undone';
EXCEPTION WHEN OTHERS THEN
    IF done THEN
        RETURN NULL;
    ELSIF crm._whole_error(SQLSTATE) THEN
        RAISE;
    END IF;
    RETURN crm._field_problem(SQLSTATE, SQLERRM, field);
END
$function$;
COMMENT ON FUNCTION crm._try_account(bigint, int, jsonb, text, text) IS 'Internal: whether a customer could be written (account) or added (NULL) with some fields, of which one is in question: what is wrong, NULL for nothing. Nothing of it stays. Not STRICT: account and version may be NULL.';

CREATE OR REPLACE FUNCTION crm._keep_fields(account bigint, version int, patch jsonb, endpoint text, INOUT kept jsonb, INOUT problems jsonb)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    f record;
    problem jsonb;
BEGIN
    FOR f IN SELECT k.key, k.value FROM jsonb_each(patch) AS k ORDER BY k.key LOOP
        problem := crm._try_account(account, version, kept || jsonb_build_object(f.key, f.value), endpoint, f.key);
        IF problem IS NULL THEN
            kept := kept || jsonb_build_object(f.key, f.value);
        ELSE
            problems := problems || jsonb_build_object(f.key, problem);
        END IF;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION crm._keep_fields(bigint, int, jsonb, text, jsonb, jsonb) IS 'Internal: tries the fields of a patch one after the other, each with those that are kept already: what goes is kept, the others are added to the problems. Not STRICT: account and version may be NULL, as for crm._try_account.';

CREATE OR REPLACE FUNCTION crm._write_account(account bigint, op uuid, version int, patch jsonb, endpoint text, INOUT problems jsonb, OUT answer jsonb)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    kept jsonb := '{}';
BEGIN
    -- sent again: what was kept then is what the request was
    SELECT o.patch INTO kept FROM crm_data.operation AS o WHERE o.op_id = op AND o.object = 'account' AND o.patch <@ _write_account.patch AND o.patch <> _write_account.patch;
    IF FOUND THEN
        SELECT coalesce(jsonb_object_agg(k.key, jsonb_build_object('code', coalesce(a.draft_problems ->> k.key, '22000'), 'message', 'was refused when it was sent first')), '{}') || problems INTO problems
          FROM jsonb_object_keys(patch) AS k (key) LEFT JOIN crm_data.account AS a ON a.id = account WHERE NOT kept ? k.key;
        answer := crm.write('account', account, op, endpoint, version, kept);
        RETURN;
    END IF;
    BEGIN
        answer := crm.write('account', account, op, endpoint, version, patch);
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        IF crm._whole_error(SQLSTATE) THEN
            RAISE;
        END IF;
        SELECT x.kept, x.problems INTO kept, problems FROM crm._keep_fields(account, version, patch, endpoint, '{}', problems) AS x;
        -- no field goes: then it is not one of them
        IF kept = '{}' AND crm._try_account(account, version, '{}', endpoint, NULL) IS NOT NULL THEN
            RAISE;
        END IF;
    END;
    answer := crm.write('account', account, op, endpoint, version, kept);
END
$function$;
COMMENT ON FUNCTION crm._write_account(bigint, uuid, int, jsonb, text, jsonb) IS 'Internal: writes the fields of a customer that can be written and adds the others to the problems, {field: {code, message}}; answers as crm.write does. The same request again is the same operation.';

CREATE OR REPLACE FUNCTION crm._create_account(patch jsonb, called text, endpoint text, INOUT problems jsonb, OUT id bigint)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    a crm_data.account;
    given jsonb := patch;
    kept jsonb;
    f record;
BEGIN
    FOR f IN SELECT k.key FROM jsonb_object_keys(patch) AS k (key) LEFT JOIN crm_data.field AS r ON r.object = 'account' AND r.name = k.key AND NOT r.custom
              WHERE r.id IS NULL OR r.write_class IN ('fixed', 'engine') ORDER BY k.key LOOP
        problems := problems || jsonb_build_object(f.key, crm._field_problem('42703', format('account has no field to be written: %s', f.key), f.key));
    END LOOP;
    patch := patch - ARRAY(SELECT k.key FROM jsonb_object_keys(problems) AS k (key));
    BEGIN
        a := jsonb_populate_record(NULL::crm_data.account, patch);
    EXCEPTION WHEN OTHERS THEN
        FOR f IN SELECT k.key, k.value FROM jsonb_each(patch) AS k ORDER BY k.key LOOP
            BEGIN
                a := jsonb_populate_record(NULL::crm_data.account, jsonb_build_object(f.key, f.value));
            EXCEPTION WHEN OTHERS THEN
                IF crm._whole_error(SQLSTATE) THEN
                    RAISE;
                END IF;
                problems := problems || jsonb_build_object(f.key, crm._field_problem(SQLSTATE, SQLERRM, f.key));
                patch := patch - f.key;
            END;
        END LOOP;
    END;
    -- hidden and missing get the same answer, before the foreign key gives another (the catalog is asked only when there may be one)
    IF EXISTS (SELECT FROM jsonb_object_keys(patch) AS k WHERE k ~ '(_id|merged_into)$') THEN
        FOR f IN
            SELECT g.attname AS name, p.relname AS object
              FROM pg_constraint AS c JOIN pg_class AS p ON p.oid = c.confrelid JOIN pg_attribute AS g ON g.attrelid = c.conrelid AND ARRAY[g.attnum] = c.conkey
             WHERE c.conrelid = 'crm_data.account'::regclass AND c.contype = 'f' AND coalesce(patch -> g.attname, 'null') <> 'null'
               AND EXISTS (SELECT FROM crm_data.field AS r WHERE r.object = p.relname)
             ORDER BY g.attnum LOOP
            IF crm._see(f.object, (patch ->> f.name)::bigint) IS NULL THEN
                problems := problems || jsonb_build_object(f.name, crm._field_problem('23503', format('column "%s" refers to a row of %s that is not there', f.name, f.object), f.name));
                patch := patch - f.name;
            END IF;
        END LOOP;
    END IF;
    patch := jsonb_build_object('owner_id', crm.me()) || patch;
    patch := jsonb_build_object('team_id', (SELECT m.team_id FROM crm_data.member AS m WHERE m.id = (patch ->> 'owner_id')::bigint)) || patch;
    a := jsonb_populate_record(NULL::crm_data.account, patch);
    IF NOT crm.row_visible('account', 'create', a.owner_id, a.team_id, coalesce(a.grade, 0::smallint)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to create an account';
    END IF;
    FOR f IN SELECT r.name FROM crm_data.field AS r WHERE r.object = 'account' AND NOT r.custom AND given ? r.name AND patch ? r.name AND NOT crm._field_allowed('write', r.id, a.owner_id, a.team_id) ORDER BY r.name LOOP
        problems := problems || jsonb_build_object(f.name, crm._field_problem('42501', format('permission denied for fields of account: %s', f.name), f.name));
        patch := patch - f.name;
    END LOOP;
    -- until it has a name it is called by its code
    IF coalesce(patch ->> 'name', '') = '' THEN
        problems := jsonb_build_object('name', crm._field_problem('23502', NULL, 'name')) || problems;
        patch := patch || jsonb_build_object('name', called);
    END IF;
    BEGIN
        id := crm._insert_account(patch || jsonb_build_object('draft_problems', crm._draft_codes(problems)), endpoint);
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        IF crm._whole_error(SQLSTATE) THEN
            RAISE;
        END IF;
        SELECT jsonb_object_agg(k.key, k.value) INTO kept FROM jsonb_each(patch) AS k WHERE k.key IN ('code', 'name', 'owner_id', 'team_id');
        SELECT x.kept, x.problems INTO kept, problems FROM crm._keep_fields(NULL, NULL, patch - '{code,name,owner_id,team_id}'::text[], endpoint, kept, problems) AS x;
    END;
    id := crm._insert_account(kept || jsonb_build_object('draft_problems', crm._draft_codes(problems)), endpoint);
END
$function$;
COMMENT ON FUNCTION crm._create_account(jsonb, text, text, jsonb) IS 'Internal: adds a customer with the fields that can be written and adds the others to the problems, {field: {code, message}}, which the record keeps. called: its name while it has none. Errors: those that concern no field, and what code and name alone are refused for.';

CREATE OR REPLACE FUNCTION crm._save_account(doc jsonb, expected_version int, endpoint text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    source bigint;
    found bigint;
    patch jsonb := doc - '{op_id,endpoint,external,proposals}'::text[];
    proposals jsonb := coalesce(doc -> 'proposals', '{}');
    op uuid := CASE WHEN doc ->> 'op_id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN (doc ->> 'op_id')::uuid ELSE gen_random_uuid() END;
    called text := coalesce(doc ->> 'code', doc #>> '{external,id}', '');
    off text[] := crm._off_fields('account', endpoint);
    answer jsonb;
    problems jsonb := '{}';
    refused jsonb;
    filled jsonb;
    w record;
    v int;
BEGIN
    IF called = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an account is found by its code or by an external reference',
            HINT = 'Give {"code": .., ..} or {"external": {"source": .., "id": ..}, ..}.';
    ELSIF lower(doc ->> 'op_id') <> op::text THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an op_id is a UUID', HINT = 'Make a new one for every request, and send it again with the same request only.';
    ELSIF doc ? 'external' AND (jsonb_typeof(doc #> '{external,source}') IS DISTINCT FROM 'string' OR coalesce(doc #>> '{external,id}', '') = '') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an external reference has a source and an id', HINT = 'Give {"external": {"source": "erp", "id": "C-77"}, ..}.';
    ELSIF jsonb_typeof(proposals) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'proposals are an object of fields and values', HINT = 'Give {"proposals": {"uscc": ".."}, ..}.';
    END IF;
    -- what is switched off for this client is not taken from it
    patch := patch - off;
    proposals := proposals - off;
    IF doc ? 'external' THEN
        SELECT s.id INTO source FROM crm_data.source_system AS s WHERE s.name = doc #>> '{external,source}';
        IF source IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no source system "%s"', left(doc #>> '{external,source}', 100)), HINT = 'Sources are rows of source_system.';
        END IF;
        -- one at a time for one reference: two senders of a new customer must not both insert it
        PERFORM crm._match_lock(0, ARRAY[hashtextextended(format('crm.external:%s:%s', source, doc #>> '{external,id}'), 0)]);
        SELECT r.record_id INTO found FROM crm_data.external_ref AS r
         WHERE r.source_id = source AND r.external_id = doc #>> '{external,id}' AND r.object = 'account';
    END IF;
    IF found IS NULL AND doc ? 'code' THEN
        SELECT x.id INTO found FROM crm_data.account AS x WHERE x.code = doc ->> 'code';
    END IF;
    IF found IS NOT NULL AND NOT crm._row_readable('account', (SELECT to_jsonb(x) FROM crm_data.account AS x WHERE x.id = found)) THEN
        RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = 'the code or the external reference belongs to another account';
    END IF;
    -- what a system calls its customer is for those who connect it: whoever binds it gets all that the system sends
    IF source IS NOT NULL AND NOT crm.row_visible('external_ref', 'create', NULL, NULL, NULL)
       AND NOT EXISTS (SELECT FROM crm_data.external_ref AS r WHERE r.source_id = source AND r.external_id = doc #>> '{external,id}' AND r.object = 'account') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to bind an external reference';
    END IF;

    IF found IS NULL THEN
        IF expected_version IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'there is no such account', HINT = 'A new customer has no version: leave expected_version out.';
        END IF;
        -- not asked for where it is switched off, but a record has a name
        w := crm._create_account(CASE WHEN 'name' = ANY (off) THEN patch || jsonb_build_object('name', called) ELSE patch END, called, endpoint, problems);
        found := w.id;
        problems := w.problems;
        answer := jsonb_build_object('state', 'created', 'id', found, 'version', 1, 'conflicts', '[]'::jsonb);
    ELSE
        w := crm._write_account(found, op, expected_version, patch - 'code', endpoint, problems);
        answer := w.answer;
        found := (answer ->> 'id')::bigint;
        problems := w.problems;
        UPDATE crm_data.account AS a SET draft_problems = coalesce(a.draft_problems, '{}') || p.codes
          FROM (SELECT crm._draft_codes(problems) AS codes) AS p
         WHERE a.id = found AND NOT coalesce(a.draft_problems, '{}') @> p.codes
        RETURNING a.row_version INTO v;
        answer := answer || CASE WHEN v IS NOT NULL THEN jsonb_build_object('version', v) ELSE '{}' END;
    END IF;
    IF source IS NOT NULL THEN
        INSERT INTO crm_data.external_ref (source_id, external_id, object, record_id) VALUES (source, doc #>> '{external,id}', 'account', found)
        ON CONFLICT DO NOTHING;
    END IF;
    -- what a client computed or recognised is a proposal: written as by one who has read nothing, and missed by nobody
    IF proposals <> '{}' THEN
        BEGIN
            -- (the customer is locked) what is empty takes the value; what is not keeps its own, and the other becomes a conflict
            SELECT a.row_version, coalesce(jsonb_object_agg(p.key, p.value) FILTER (WHERE coalesce(to_jsonb(a) -> p.key, 'null') IN ('null', '""', '[]')), '{}') INTO v, filled
              FROM crm_data.account AS a CROSS JOIN LATERAL jsonb_each(proposals) AS p WHERE a.id = found GROUP BY a.id;
            w := crm._write_account(found, md5(op || ':fill')::uuid, v, filled, endpoint, '{}');
            refused := w.problems;
            w := crm._write_account(found, md5(op || ':differ')::uuid, NULL, proposals - ARRAY(SELECT k FROM jsonb_object_keys(filled) AS k), endpoint, refused);
            answer := answer || jsonb_build_object('version', w.answer -> 'version',
                                                   'proposals', jsonb_build_object('filled', coalesce((SELECT jsonb_agg(k ORDER BY k) FROM jsonb_object_keys(filled) AS k WHERE NOT w.problems ? k), '[]'),
                                                                                   'conflicts', w.answer -> 'conflicts', 'problems', w.problems));
        EXCEPTION WHEN OTHERS THEN
            IF crm._whole_error(SQLSTATE) THEN
                RAISE;
            END IF;
            answer := answer || jsonb_build_object('proposals', jsonb_build_object('filled', '[]'::jsonb, 'conflicts', '[]'::jsonb, 'problems', jsonb_build_object('*', crm._field_problem(SQLSTATE, SQLERRM, NULL))));
        END;
    END IF;
    RETURN answer || CASE WHEN problems <> '{}' THEN jsonb_build_object('state', 'draft', 'saved', answer -> 'state', 'problems', problems) ELSE '{}' END
                  || CASE WHEN off <> '{}' THEN jsonb_build_object('off', to_jsonb(off)) ELSE '{}' END;
END
$function$;
COMMENT ON FUNCTION crm._save_account(jsonb, int, text) IS 'Internal: what crm.save_account does, without its counting.';

CREATE OR REPLACE FUNCTION crm.save_account(doc jsonb, expected_version int DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    endpoint text := coalesce(doc ->> 'endpoint', 'api');
    client bigint;
    answer jsonb;
BEGIN
    PERFORM crm._check_client(endpoint);
    client := crm._client();
    PERFORM crm._count_client('saves', client);
    BEGIN
        IF jsonb_typeof(doc) IS DISTINCT FROM 'object' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an account to be saved is an object of fields and values', HINT = 'Give {"code": .., ..} or {"external": {"source": .., "id": ..}, ..}.';
        END IF;
        answer := crm._save_account(doc, expected_version, endpoint);
    EXCEPTION WHEN OTHERS THEN
        -- what is only busy is no failure of the client's
        IF NOT crm._whole_error(SQLSTATE) THEN
            PERFORM crm._count_client('failures', client);
        END IF;
        RAISE;
    END;
    IF answer ? 'problems' THEN
        PERFORM crm._count_client('failures', client);
    END IF;
    RETURN answer;
END
$function$;
COMMENT ON FUNCTION crm.save_account(jsonb, int) IS
'Upsert of a customer: finds it by external reference or code and writes it as crm.write does, else inserts it. Answers {state: created | applied | partial | conflict | draft, id, version, conflicts[]}.
A field that cannot be saved keeps nothing else from being saved: the state is then draft, saved says what else it would be, and problems {field: {code: SQLSTATE, message}}; the record keeps the codes in draft_problems until these fields are written. A new customer without a name is a draft that is called by its code.
doc: fields and values, with "code" or "external": {"source", "id"}; "op_id" and "endpoint" (api) as for crm.write. "proposals": {field: value} that a client computed or recognised (a business card, a licence): never needed, in the same call or a later one; they fill what is empty, become a conflict where they differ, and what cannot be saved of them is said under proposals {filled[], conflicts[], problems{}} and makes no draft. expected_version: the row_version that was read; NULL: none, then what differs becomes a conflict and only empty fields that let a value win are filled. Without an owner the new customer is the caller''s. off: fields that are switched off for this client by the configuration flag/off_fields, which are neither asked for nor taken. Each call counts for its client version, and each that fails or makes a draft, even if it is rolled back (crm.client_list). Not STRICT: expected_version may be NULL.
Errors: those of crm.write that concern no single field; 22023 neither code nor reference, or one of another form, or an op_id that is none; 42704 unknown source; 42501 not the caller''s to create or to write, or to bind a reference; 23505 code or reference belongs to an account that is hidden; P0002 expected_version for a customer that does not exist.';

CREATE OR REPLACE FUNCTION crm._draft_solved() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    SELECT jsonb_object_agg(p.key, p.value) INTO NEW.draft_problems
      FROM jsonb_each(NEW.draft_problems) AS p WHERE to_jsonb(NEW) -> p.key IS NOT DISTINCT FROM to_jsonb(OLD) -> p.key;
    RETURN NEW;
END
$function$;
COMMENT ON FUNCTION crm._draft_solved() IS 'Trigger of account: a field of a draft that gets another value is no problem any more. Internal.';
DROP TRIGGER IF EXISTS account_draft_solved ON crm_data.account;
CREATE TRIGGER account_draft_solved BEFORE UPDATE ON crm_data.account FOR EACH ROW
    WHEN (OLD.draft_problems IS NOT NULL AND NEW.draft_problems IS NOT DISTINCT FROM OLD.draft_problems) EXECUTE FUNCTION crm._draft_solved();
COMMENT ON TRIGGER account_draft_solved ON crm_data.account IS 'What was refused of a draft and is written now is a problem no longer.';

-- ---------------------------------------------------------------- follow-ups

CREATE OR REPLACE FUNCTION crm._interaction_rules() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    hours int := crm._setting('interaction.lock_after', '72')::int;
    steward boolean := crm.has_role('crm_steward') OR crm.has_role('crm_admin');
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- a time of recording in the future would keep the follow-up open for longer
        NEW.recorded_at := least(NEW.recorded_at, clock_timestamp());
        -- nobody writes in another's name, or at another time than now; what comes from other systems has its own
        IF NOT steward AND NOT crm.has_role('crm_sync') THEN
            IF NEW.author_id <> crm.me() THEN
                RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a follow-up is its writer''s: author_id is another member';
            END IF;
            NEW.author_id := crm.me();
            NEW.recorded_at := now();
        END IF;
        RETURN NEW;
    END IF;
    IF crm._engine_writes() = 'erase' THEN
        RETURN NEW;
    END IF;
    IF steward AND to_jsonb(NEW) - '{retracted_at,retracted_reason}'::text[] = to_jsonb(OLD) - '{retracted_at,retracted_reason}'::text[] THEN
        RETURN NEW;
    END IF;
    IF clock_timestamp() > OLD.recorded_at + make_interval(hours => hours) THEN
        RAISE EXCEPTION USING ERRCODE = 'RM205', MESSAGE = format('follow-up %s is older than %s hours and can no longer be changed', OLD.id, hours),
            HINT = 'Add a follow-up that corrects it; a data steward may retract this one.';
    END IF;
    IF OLD.author_id IS DISTINCT FROM crm.me() AND NOT steward THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('only its author may change follow-up %s', OLD.id);
    END IF;
    RETURN NEW;
END
$function$;
COMMENT ON FUNCTION crm._interaction_rules() IS
'Trigger of follow-ups: their content may be changed by their author until the setting interaction.lock_after (72 hours) after they were recorded, retracted by a data steward at any time, and not at all otherwise. A new one is in the name of who writes it, and recorded now. References move with merges.
Errors: RM205 too old; 42501 not the author.';
DROP TRIGGER IF EXISTS crm_interaction_insert ON crm_data.interaction;
CREATE TRIGGER crm_interaction_insert BEFORE INSERT ON crm_data.interaction FOR EACH ROW
    WHEN (NEW.recorded_at > now() OR CURRENT_USER = 'crm_gate') EXECUTE FUNCTION crm._interaction_rules();
COMMENT ON TRIGGER crm_interaction_insert ON crm_data.interaction IS 'No follow-up is recorded in the future, nor, through the view, in another''s name.';
-- the references are moved by merges, the quality is the engine's: the rest is the content
DROP TRIGGER IF EXISTS crm_interaction_rules ON crm_data.interaction;
CREATE TRIGGER crm_interaction_rules BEFORE UPDATE ON crm_data.interaction FOR EACH ROW
    WHEN ((OLD.kind, OLD.channel, OLD.direction, OLD.occurred_at, OLD.recorded_at, OLD.author_id, OLD.summary, OLD.body, OLD.progress, OLD.next_step, OLD.next_step_at, OLD.duration, OLD.depth, OLD.satisfaction, OLD.auto, OLD.preset, OLD.client_key, OLD.endpoint, OLD.detail, OLD.retracted_at, OLD.retracted_reason, OLD.created_at, OLD.created_by)
          IS DISTINCT FROM
          (NEW.kind, NEW.channel, NEW.direction, NEW.occurred_at, NEW.recorded_at, NEW.author_id, NEW.summary, NEW.body, NEW.progress, NEW.next_step, NEW.next_step_at, NEW.duration, NEW.depth, NEW.satisfaction, NEW.auto, NEW.preset, NEW.client_key, NEW.endpoint, NEW.detail, NEW.retracted_at, NEW.retracted_reason, NEW.created_at, NEW.created_by))
    EXECUTE FUNCTION crm._interaction_rules();
ALTER TABLE crm_data.interaction ENABLE ALWAYS TRIGGER crm_interaction_insert, ENABLE ALWAYS TRIGGER crm_interaction_rules;
COMMENT ON TRIGGER crm_interaction_rules ON crm_data.interaction IS 'A follow-up is its author''s for 72 hours, then nobody''s.';

CREATE OR REPLACE FUNCTION crm._may_mention(contact bigint, opportunity bigint, lead bigint) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT (contact IS NULL OR EXISTS (SELECT FROM crm_data.contact AS c WHERE c.id = contact AND crm._row_readable('contact', to_jsonb(c))))
       AND (opportunity IS NULL OR EXISTS (SELECT FROM crm_data.opportunity AS o WHERE o.id = opportunity AND crm._row_readable('opportunity', to_jsonb(o))))
       AND (lead IS NULL OR EXISTS (SELECT FROM crm_data.lead AS l WHERE l.id = lead AND crm._row_readable('lead', to_jsonb(l))))
$function$;
COMMENT ON FUNCTION crm._may_mention(bigint, bigint, bigint) IS
'Whether the caller sees the records that a follow-up names beside its customer: it is noted there. NULL: it names none; therefore not STRICT. Internal.';

CREATE OR REPLACE FUNCTION crm._add_interaction(doc jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    a crm_data.account;
    known crm_data.interaction;
    row jsonb;
    columns text;
    bad text;
    added bigint;
BEGIN
    SELECT * INTO known FROM crm_data.interaction AS i WHERE i.client_key = doc ->> 'client_key';
    IF FOUND THEN
        IF NOT crm._row_readable('interaction', to_jsonb(known)) THEN
            RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = 'the client key belongs to another follow-up';
        END IF;
        RETURN jsonb_build_object('state', 'applied', 'id', known.id, 'version', known.row_version, 'repeated', true);
    END IF;
    SELECT * INTO a FROM crm_data.account AS x WHERE x.id = (doc ->> 'account_id')::bigint;
    IF NOT FOUND OR NOT crm._row_readable('account', to_jsonb(a)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no account %s', doc ->> 'account_id');
    END IF;
    IF NOT crm.row_visible('interaction', 'create', a.owner_id, a.team_id, a.grade) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to add a follow-up';
    END IF;
    SELECT string_agg(k.key, ', ' ORDER BY k.key) INTO bad
      FROM jsonb_object_keys(doc) AS k (key) LEFT JOIN crm_data.field AS f ON f.object = 'interaction' AND f.name = k.key AND NOT f.custom
     WHERE f.id IS NULL OR f.write_class = 'engine' OR k.key IN ('id', 'recorded_at', 'author_id', 'created_at', 'created_by');
    IF NOT crm._may_mention((doc ->> 'contact_id')::bigint, (doc ->> 'opportunity_id')::bigint, (doc ->> 'lead_id')::bigint) THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = 'the follow-up names a contact, an opportunity or a lead that is not there';
    END IF;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('a follow-up has no field to be written: %s', bad);
    END IF;
    row := doc || jsonb_build_object('author_id', crm.me(), 'owner_id', a.owner_id, 'team_id', a.team_id, 'grade', a.grade);
    SELECT string_agg(quote_ident(k.key), ', ' ORDER BY k.key) INTO columns FROM jsonb_each(row) AS k WHERE k.value <> 'null';
    EXECUTE format('INSERT INTO crm_data.interaction (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::crm_data.interaction, $1) ON CONFLICT (client_key) DO NOTHING RETURNING id', columns)
       INTO added USING row;
    IF added IS NULL THEN
        -- the same follow-up came at the same time through another connection
        RETURN crm._add_interaction(doc);
    END IF;
    RETURN jsonb_build_object('state', 'created', 'id', added, 'version', 1);
END
$function$;
COMMENT ON FUNCTION crm._add_interaction(jsonb) IS
'Adds a follow-up of the caller, once for a client_key: the same again answers the one that is there. doc: fields of the follow-up, with account_id and client_key; occurred_at is kept beside the time of recording.
Errors: P0002 no such customer, or hidden; 42501 not the caller''s to add; 42703 a field that is not to be written; 23503 a contact, opportunity or lead that is missing or hidden.';

-- ---------------------------------------------------------------- drafts of a device that was offline

CREATE OR REPLACE FUNCTION crm._draft_root(draft jsonb) RETURNS bigint
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN CASE draft ->> 'object' WHEN 'account' THEN (draft ->> 'id')::bigint
                                   ELSE (crm._image(draft ->> 'object', (draft ->> 'id')::bigint) ->> 'account_id')::bigint END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION crm._draft_root(jsonb) IS 'Customer whose lock orders a draft; NULL when it names no record that has one.';

CREATE OR REPLACE FUNCTION crm._draft_at(draft jsonb) RETURNS timestamptz
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN least((draft ->> 'client_ts')::timestamptz, now());
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION crm._draft_at(jsonb) IS 'Time of a draft by the device''s clock, at most now; NULL when it has none that can be read.';

CREATE OR REPLACE FUNCTION crm._reject_draft(draft jsonb, error text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    op uuid := CASE WHEN draft ->> 'op_id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN (draft ->> 'op_id')::uuid ELSE gen_random_uuid() END;
    object text := coalesce(draft ->> 'object', '?');
    root bigint := crm._draft_root(draft);
    seq bigint;
BEGIN
    IF EXISTS (SELECT FROM crm_data.operation AS o WHERE o.op_id = op) THEN
        RETURN;
    END IF;
    -- nobody counts under a customer whom he does not see
    IF root IS NOT NULL AND crm._row_readable('account', crm._image('account', root)) THEN
        seq := crm._next_number(root);
        UPDATE crm_data.account AS a SET op_seq = seq WHERE a.id = root;
    END IF;
    IF seq IS NULL THEN
        root := NULL;
        -- no customer to count under: the drafts without a home have numbers of their own
        PERFORM crm._match_lock(0, ARRAY[hashtextextended('crm.drafts', 0)]);
        SELECT coalesce(max(o.op_seq), 0) + 1 INTO seq FROM crm_data.operation AS o WHERE o.root_object = 'draft' AND o.root_id = 0;
    END IF;
    INSERT INTO crm_data.operation (op_id, root_object, root_id, op_seq, object, record_id, endpoint, actor, base_version, patch, client_ts, state, error, result)
    VALUES (op, CASE WHEN root IS NULL THEN 'draft' ELSE 'account' END, coalesce(root, 0), seq, coalesce(nullif(object, ''), '?'), NULL, coalesce(nullif(draft ->> 'endpoint', ''), 'offline'),
            coalesce((SELECT m.role_name FROM crm_data.member AS m WHERE m.id = crm.me()), SESSION_USER), NULL, draft, NULL, 'rejected', error,
            jsonb_build_object('state', 'rejected', 'op_seq', seq, 'error', error));
END
$function$;
COMMENT ON FUNCTION crm._reject_draft(jsonb, text) IS 'Keeps a draft that could not be applied, whole, with the reason: nothing that a device sent is dropped.';

CREATE OR REPLACE FUNCTION crm.submit_drafts(drafts jsonb[]) RETURNS SETOF jsonb
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    d record;
    answer jsonb;
    reason text;
BEGIN
    -- the whole backlog of a client that is too old stays with it
    PERFORM crm._check_client('offline');
    FOR d IN
        SELECT x.draft, x.place, x.draft ->> 'kind' AS kind
          FROM unnest(drafts) WITH ORDINALITY AS x (draft, place)
         -- customers in order of id, as every writer to several takes them; within one, by the device's clock, which no further than now counts
         ORDER BY crm._draft_root(x.draft) NULLS FIRST, crm._draft_at(x.draft) NULLS LAST,
                  CASE x.draft ->> 'kind' WHEN 'create' THEN 1 WHEN 'delete' THEN 3 ELSE 2 END, x.place
    LOOP
        BEGIN
            IF jsonb_typeof(d.draft) <> 'object' THEN
                RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a draft must be a JSON object';
            ELSIF coalesce(d.kind, 'update') = 'update' THEN
                answer := crm.write(d.draft ->> 'object', (d.draft ->> 'id')::bigint, (d.draft ->> 'op_id')::uuid, coalesce(d.draft ->> 'endpoint', 'offline'),
                                    (d.draft ->> 'base_version')::int, d.draft -> 'patch', (d.draft ->> 'client_ts')::timestamptz);
            ELSIF d.kind = 'delete' THEN
                answer := crm.write(d.draft ->> 'object', (d.draft ->> 'id')::bigint, (d.draft ->> 'op_id')::uuid, coalesce(d.draft ->> 'endpoint', 'offline'),
                                    (d.draft ->> 'base_version')::int, jsonb_build_object('deleted_at', d.draft ->> 'client_ts'), (d.draft ->> 'client_ts')::timestamptz);
            ELSIF d.kind = 'create' AND d.draft ->> 'object' = 'account' THEN
                answer := crm.save_account(d.draft -> 'patch' || jsonb_strip_nulls(jsonb_build_object('op_id', d.draft ->> 'op_id', 'endpoint', coalesce(d.draft ->> 'endpoint', 'offline'))));
            ELSIF d.kind = 'create' AND d.draft ->> 'object' = 'interaction' THEN
                answer := crm._add_interaction(d.draft -> 'patch' || jsonb_build_object('client_key', coalesce(d.draft #>> '{patch,client_key}', d.draft ->> 'op_id')));
            ELSE
                RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('a draft cannot %s %s', d.kind, d.draft ->> 'object'),
                    HINT = 'Kinds are update and delete, and create for account and interaction.';
            END IF;
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE = ANY ('{40001,40P01,55P03,57014}') THEN
                RAISE;
            END IF;
            reason := SQLSTATE || ': ' || SQLERRM;
            PERFORM crm._reject_draft(d.draft, reason);
            answer := jsonb_build_object('state', 'rejected', 'error', reason);
        END;
        RETURN NEXT jsonb_build_object('op_id', d.draft -> 'op_id', 'place', d.place) || answer;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION crm.submit_drafts(jsonb[]) IS
'Applies what a device wrote while it was offline, and answers each draft as crm.write does, with its op_id and place in the array.
drafts: {object, id, op_id, base_version, patch, client_ts, endpoint (offline), kind: update (the default), delete, or create for account and interaction}. They are applied customer by customer, each customer''s by client_ts (a clock that runs ahead counts as now). The whole call can be sent again. A draft that cannot be applied is kept with its reason and answered as rejected; the others go on.
Errors: 55P03, 40001 or 40P01: nothing was applied, send it again; RM204 the client is too old.';

-- ---------------------------------------------------------------- going back

CREATE OR REPLACE FUNCTION crm.restore(object text, id bigint, version int, fields text[] DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    then_image jsonb;
    now_image jsonb := crm._image(object, id);
    now_version int := (now_image ->> 'row_version')::int;
    patch jsonb;
    bad text;
BEGIN
    IF now_image IS NULL OR NOT crm._row_readable(object, now_image - 'deleted_at') THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no %s %s', object, id);
    END IF;
    then_image := crm._image_at(object, id, version);
    IF then_image IS NULL OR version > now_version OR version < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%s %s has no version %s', object, id, version),
            HINT = format('Its versions go from 1 to %s.', now_version);
    END IF;
    SELECT string_agg(f.name, ', ' ORDER BY f.name) INTO bad FROM unnest(fields) AS f (name) WHERE NOT then_image ? f.name OR f.name = 'id';
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('%s has no field with a history: %s', object, bad);
    END IF;
    -- only what differs; a key of a document that came later is taken away again
    SELECT coalesce(jsonb_object_agg(t.key,
               CASE WHEN f.write_class = 'keyed' AND jsonb_typeof(t.value) = 'object' AND jsonb_typeof(now_image -> t.key) = 'object'
                    THEN t.value || (SELECT coalesce(jsonb_object_agg(k.key, 'null'::jsonb), '{}') FROM jsonb_object_keys(now_image -> t.key) AS k (key) WHERE NOT t.value ? k.key)
                    ELSE t.value END), '{}')
      INTO patch
      FROM jsonb_each(then_image) AS t JOIN crm_data.field AS f ON f.object = restore.object AND f.name = t.key AND NOT f.custom
     WHERE t.value IS DISTINCT FROM now_image -> t.key AND f.write_class NOT IN ('fixed', 'engine') AND (fields IS NULL OR t.key = ANY (fields));
    RETURN crm.write(object, id, gen_random_uuid(), 'restore', now_version, patch);
END
$function$;
COMMENT ON FUNCTION crm.restore(text, bigint, int, text[]) IS
'Writes a record back to what it was at a version: a normal write, which makes a new version, asks the caller''s rights and has its history; what somebody changes at the same moment becomes a conflict. Brings back a record that crm.remove marked as deleted. Answers as crm.write does.
object, id: the record; version: 1 to the present one; fields: only these, NULL: all that people write. Not STRICT: fields may be NULL.
Errors: those of crm.write; P0002 no such record, or hidden; 22023 no such version; 42703 no such field.';

CREATE OR REPLACE FUNCTION crm.restore_row(change_id text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    c crm_data.change;
    name CONSTANT text[] := regexp_match(change_id, '^([a-z_]+)/([0-9]{1,18})/([0-9]{1,9})$');
    tab regclass;
    target int;
    image jsonb;
    account crm_data.account;
    columns text;
    answer jsonb;
BEGIN
    SELECT * INTO c FROM crm_data.change AS h WHERE h.object = name[1] AND h.record_id = name[2]::bigint AND h.version = name[3]::int;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no change %s', change_id);
    END IF;
    tab := crm._protected_table(c.object);
    target := CASE c.op WHEN 'd' THEN c.version - 1 ELSE c.version END;
    IF crm._image(c.object, c.record_id) IS NOT NULL THEN
        RETURN crm.restore(c.object, c.record_id, target);
    END IF;
    image := crm._image_at(c.object, c.record_id, target);
    IF image IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('the history of %s %s does not hold version %s', c.object, c.record_id, target);
    END IF;
    -- a row that is gone comes back under its number, with the copies that the engine keeps
    IF c.account_id IS NOT NULL AND c.object <> 'account' THEN
        SELECT * INTO account FROM crm_data.account AS a WHERE a.id = c.account_id;
        image := jsonb_build_object('owner_id', account.owner_id, 'team_id', account.team_id, 'grade', account.grade) || image;
    END IF;
    IF NOT crm.row_visible(c.object, 'create', (image ->> 'owner_id')::bigint, (image ->> 'team_id')::bigint, (image ->> 'grade')::smallint) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied to bring back a row of %s', c.object);
    END IF;
    image := image || jsonb_build_object('op_seq', (SELECT coalesce(max(o.op_seq), 0) FROM crm_data.operation AS o
                                                     WHERE o.root_object = c.object AND o.root_id = c.record_id));
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
      FROM pg_attribute AS a WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND coalesce(image -> a.attname, 'null') <> 'null';
    PERFORM crm._engine_write('restore', 'restore', format('restored from change %s', change_id));
    EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1) RETURNING jsonb_build_object(''state'', ''restored'', ''id'', id, ''version'', row_version)', tab, columns)
       INTO answer USING image;
    PERFORM crm._engine_write('none');
    RETURN answer;
END
$function$;
COMMENT ON FUNCTION crm.restore_row(text) IS
'Brings a record back as a change left it, a deleted one as it was before. One that is still there is written back as crm.restore does; one that is gone, by whatever way, is inserted again under its number and goes on with its versions.
change_id: object/record/version, from crm.history. Answers {state: restored, id, version}, or as crm.write does.
Errors: P0002 no such change, or its history is not complete; 42501 not the caller''s to create; 23505 and others when the row does not fit any more.';

-- ---------------------------------------------------------------- erasure on request

CREATE OR REPLACE FUNCTION crm.forget(contact bigint, reason text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    c crm_data.contact;
    personal CONSTANT text[] := '{name,title,department,phone,email,wechat,birthday,attrs,preferred_channel}';
    changes bigint;
    n bigint;
BEGIN
    IF btrim(reason) = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a reason is needed';
    END IF;
    SELECT * INTO c FROM crm_data.contact AS x WHERE x.id = contact;
    IF NOT FOUND OR NOT crm._row_readable('contact', to_jsonb(c)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no contact %s', contact);
    END IF;
    PERFORM FROM crm_data.account AS a WHERE a.id = c.account_id FOR NO KEY UPDATE;
    PERFORM crm._engine_write('erase', 'forget', 'erased on request');
    UPDATE crm_data.contact AS x
       SET name = '(forgotten)', title = NULL, department = NULL, phone = NULL, phone_norm = NULL, email = NULL, email_norm = NULL, wechat = NULL, birthday = NULL,
           preferred_channel = NULL, attrs = '{}', opt_out = '{all}', forgotten_at = now()
     WHERE x.id = contact;
    -- the history keeps which field changed when, and the digests that the chain is made of; values and salts go
    UPDATE crm_data.change AS h
       SET value_hash = coalesce(h.value_hash, crm._value_hashes(h.fields::jsonb, h.salt)), salt = NULL,
           fields = (SELECT coalesce(jsonb_object_agg(e.key, CASE WHEN e.key = ANY (personal) THEN '[null, null]'::jsonb ELSE e.value END), '{}')::text FROM jsonb_each(h.fields::jsonb) AS e)
     WHERE h.object = 'contact' AND h.record_id = contact;
    GET DIAGNOSTICS changes = ROW_COUNT;
    UPDATE crm_data.conflict AS x SET base = NULL, theirs = NULL, mine = NULL WHERE x.object = 'contact' AND x.record_id = contact AND split_part(x.field, '.', 1) = ANY (personal);
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE crm_data.operation AS o SET patch = o.patch - personal, result = o.result - 'conflicts' WHERE o.object = 'contact' AND o.record_id = contact;
    -- what other systems were told, or are about to be: they are told of the erasure, too
    UPDATE crm_data.outbox AS o SET payload = jsonb_set(o.payload, '{fields}', (o.payload -> 'fields') - personal)
     WHERE o.dedupe_key IN (SELECT format('sync:%s:contact:%s:%s', s.name, contact, h.version) FROM crm_data.source_system AS s, crm_data.change AS h WHERE h.object = 'contact' AND h.record_id = contact)
       AND (o.payload -> 'fields') ?| personal;
    PERFORM crm._engine_write('none');
    INSERT INTO crm_data.access_log (actor, action, object, record_id, reason)
    VALUES (coalesce((SELECT m.role_name FROM crm_data.member AS m WHERE m.id = crm.me()), SESSION_USER), 'forget', 'contact', contact, reason);
    RETURN jsonb_build_object('contact', contact, 'changes', changes, 'conflicts', n);
END
$function$;
COMMENT ON FUNCTION crm.forget(bigint, text) IS
'Erases what the database knows of a person: the contact''s personal fields, their values in its history, in conflicts, in stored operations and in messages to other systems. The record stays as a nameless one, its history still says when which field changed, and the chain still verifies (the digests stay, values and salts go). Free text of follow-ups is not searched.
contact: its id; reason: kept in the access log, never empty. Answers the number of changes and conflicts emptied.
Errors: P0002 no such contact, or hidden; 22023 no reason.';

-- ---------------------------------------------------------------- who is told

DROP TRIGGER IF EXISTS crm_sources_changed ON crm_data.source_system;
CREATE TRIGGER crm_sources_changed AFTER INSERT OR UPDATE OR DELETE ON crm_data.source_system FOR EACH ROW EXECUTE FUNCTION crm._policy_changed();
ALTER TABLE crm_data.source_system ENABLE ALWAYS TRIGGER crm_sources_changed;
COMMENT ON TRIGGER crm_sources_changed ON crm_data.source_system IS 'Backends learn at once which systems are to be told of new versions.';
