-- What people manage of access: approvals, second confirmations, deletions, exports, single reveals, previews, audits, leavers.

CREATE OR REPLACE FUNCTION crm._log_access(action text, object text, record_id bigint, field_id int, row_count bigint, reason text, approval_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- a transaction that is rolled back takes the row below along; the server's log keeps a line without values
    RAISE LOG 'crm access: % by % (session %), object %, record %, field %, rows %, approval %', action, coalesce('member ' || crm.me(), SESSION_USER), SESSION_USER, object, record_id, field_id, row_count, approval_id;
    INSERT INTO crm_data.access_log (actor, action, object, record_id, field_id, row_count, reason, approval_id, endpoint)
    VALUES (coalesce('member ' || crm.me(), SESSION_USER), action, object, record_id, field_id, row_count, reason, approval_id, nullif(current_setting('application_name'), ''));
END
$$;
COMMENT ON FUNCTION crm._log_access(text, text, bigint, int, bigint, text, bigint) IS
'Notes an access that must leave a trace, in the access log and, for who rolls back, as a line of level LOG in the server''s. Internal.
action: reveal, export, preview and the like. The others: what it was about, NULL where it does not apply.';

CREATE OR REPLACE FUNCTION crm._require(what text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT crm.may(what) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied: %s', what),
            HINT = 'A permission of your role must name this function.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._require(text) IS 'Raises 42501 unless the current person may run something. Internal.
what: name of a function right.';

CREATE OR REPLACE FUNCTION crm._require_role(VARIADIC roles text[]) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- the grant lets a leaver pass, and a role that is inherited too deeply to count
    IF NOT EXISTS (SELECT FROM unnest(roles) AS r WHERE crm.has_role(r)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied: this is for %s', array_to_string(roles, ', ')),
            HINT = 'A role counts for a present member who inherits it directly or over few steps: SELECT * FROM crm.effective_roles().';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._require_role(text[]) IS 'Raises 42501 unless one of some roles counts for the current person. For functions that a grant alone would guard. Internal.';

CREATE OR REPLACE FUNCTION crm._see(object text, id bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = _see.object) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = format('there is no object "%s"', object), HINT = 'Objects are named as their views, for example account, contract or attachment.';
    END IF;
    EXECUTE format('SELECT to_jsonb(v) FROM crm.%I AS v WHERE v.id = $1', object) INTO result USING id;
    RETURN result;
END
$$;
COMMENT ON FUNCTION crm._see(text, bigint) IS
'A row as the current person sees it, NULL when he sees none. Internal.
object: of a view with an id. id: of the row. Errors: 42P01 no such object.';

-- Approvals

CREATE OR REPLACE FUNCTION crm._approver_role(kind text, object text) RETURNS name
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (f.flow ->> 'approver')::name
      FROM crm_data.config AS c CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'flows') WITH ORDINALITY AS f (flow, place)
     WHERE c.kind = 'approval_flow' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active'
       AND f.flow ->> 'kind' IN (_approver_role.kind, '*') AND f.flow ->> 'object' IN (_approver_role.object, '*')
     ORDER BY f.place LIMIT 1;
END;
COMMENT ON FUNCTION crm._approver_role(text, text) IS 'Role whose members decide a request, by the active configuration of kind approval_flow: as shipped legal for contracts and files, managers for bulk changes, administrators for the rest. Internal.
kind, object: of the request.';

CREATE OR REPLACE FUNCTION crm._new_request(kind text, object text, payload jsonb, reason text, record_id bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made bigint;
BEGIN
    PERFORM crm._require('start_approval');
    IF NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = _new_request.object) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = format('there is no object "%s"', object), HINT = 'Objects are named as their views, for example account, contract or attachment.';
    END IF;
    IF record_id IS NOT NULL AND crm._see(object, record_id) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no such %s', object), HINT = format('Choose one that the view crm.%s shows you.', object);
    END IF;
    INSERT INTO crm_data.approval (kind, object, record_id, payload, requested_by, approver_role, expires_at, created_by)
    VALUES (kind, object, record_id, coalesce(payload, '{}') || jsonb_strip_nulls(jsonb_build_object('reason', reason)), crm.me(), crm._approver_role(kind, object),
            clock_timestamp() + make_interval(days => crm._setting('approval.ttl', '7')::int), coalesce('member ' || crm.me(), SESSION_USER))
    RETURNING id INTO made;
    RETURN made;
END
$$;
COMMENT ON FUNCTION crm._new_request(text, text, jsonb, text, bigint) IS 'Notes a request, for crm.request_approval and crm.request_delete. Internal.';

CREATE OR REPLACE FUNCTION crm.request_approval(kind text, object text, payload jsonb DEFAULT '{}', reason text DEFAULT NULL, record_id bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind = 'delete' THEN
        RETURN crm.request_delete(object, record_id, reason, (payload->>'challenge')::bigint);
    END IF;
    IF kind IS NULL OR kind NOT IN ('export', 'bulk') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown kind of request "%s"', kind), HINT = 'Kinds are export, bulk and delete.';
    END IF;
    IF kind = 'bulk' AND coalesce((payload->>'rows')::bigint, 0) <= 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a bulk request says how many rows it is about', HINT = 'Give payload {"rows": n}.';
    END IF;
    RETURN crm._new_request(kind, object, payload, reason, record_id);
END
$$;
COMMENT ON FUNCTION crm.request_approval(text, text, jsonb, text, bigint) IS
'Asks for what needs a second person; answers the number of the request, which is worthless after the setting approval.ttl (7 days).
kind: export, bulk (payload {"rows": n}: one statement may touch up to n rows) or delete (the same as crm.request_delete; payload {"challenge": n} for a file). object: of a view. payload: export {"columns": [..], "where": {column: value}, "max_rows": n}. reason: for who decides. record_id: of the row, NULL for many.
Errors: 42501 no right start_approval; 22023 unknown kind or no rows; 42P01 no such object; P0002 no such row; those of crm.request_delete.';

CREATE OR REPLACE FUNCTION crm.decide(request bigint, approve boolean, note text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked crm_data.approval;
BEGIN
    SELECT * INTO asked FROM crm_data.approval AS a WHERE a.id = request AND a.kind <> 'challenge' FOR UPDATE;
    IF NOT FOUND OR NOT (crm.may('approve') AND crm.has_role(asked.approver_role)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'there is no such request for you to decide', HINT = 'SELECT * FROM crm.requests() lists those that you may decide.';
    END IF;
    IF asked.requested_by IS NOT DISTINCT FROM crm.me() AND asked.created_by = coalesce('member ' || crm.me(), SESSION_USER) THEN
        RAISE EXCEPTION USING ERRCODE = 'RM105', MESSAGE = 'nobody decides a request of his own', HINT = 'Ask somebody else with the role that decides: crm.requests() names it.';
    END IF;
    IF asked.state <> 'open' OR asked.expires_at <= clock_timestamp() THEN
        RAISE EXCEPTION USING ERRCODE = 'RM105', MESSAGE = format('the request is %s', CASE WHEN asked.state = 'open' THEN 'expired' ELSE asked.state END), HINT = 'It is not decided twice; ask for it again.';
    END IF;
    UPDATE crm_data.approval AS a
       SET state = CASE WHEN approve THEN 'approved' ELSE 'rejected' END, decided_by = crm.me(), decided_at = clock_timestamp(), decision_note = note
     WHERE a.id = request;
    IF approve AND asked.kind = 'delete' THEN
        PERFORM crm._soft_delete(asked.object, asked.record_id);
        UPDATE crm_data.approval AS a SET state = 'used', uses_left = 0 WHERE a.id = request;
    END IF;
    RETURN (SELECT a.state FROM crm_data.approval AS a WHERE a.id = request);
END
$$;
COMMENT ON FUNCTION crm.decide(bigint, boolean, text) IS
'Decides a request: true approves, false rejects; answers its state. An approved deletion is carried out at once (state used).
request: its number. note: why. The decider has the function right approve and the request''s approver role, and is not who asked.
Errors: 42501 no such request for the person; RM105 his own, decided, or expired.';

CREATE OR REPLACE FUNCTION crm.requests() RETURNS TABLE (id bigint, kind text, object text, record_id bigint, payload jsonb, asked_by text, state text, approver_role name, expires_at timestamptz, mine boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.id, a.kind, a.object, a.record_id, a.payload, coalesce(m.full_name, a.created_by),
           CASE WHEN a.state IN ('open', 'approved') AND a.expires_at <= clock_timestamp() THEN 'expired' ELSE a.state END, a.approver_role, a.expires_at,
           coalesce(a.requested_by = crm.me(), false)
      FROM crm_data.approval AS a LEFT JOIN crm_data.member AS m ON m.id = a.requested_by
     WHERE a.kind <> 'challenge' AND (a.requested_by = crm.me() OR (crm.may('approve') AND crm.has_role(a.approver_role)))
     ORDER BY a.id
$$;
COMMENT ON FUNCTION crm.requests() IS 'Requests of the current person, and those he may decide, oldest first.';

CREATE OR REPLACE FUNCTION crm._soft_delete(object text, id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF object = 'attachment' THEN
        UPDATE crm_data.attachment AS t
           SET retracted_at = now(), purge_after = now() + make_interval(days => crm._setting('attachment.hold', '30')::int)
         WHERE t.id = _soft_delete.id AND t.retracted_at IS NULL;
    ELSE
        EXECUTE format('UPDATE crm_data.%I AS t SET deleted_at = now() WHERE t.id = $1 AND t.deleted_at IS NULL', object) USING id;
    END IF;
END
$$;
COMMENT ON FUNCTION crm._soft_delete(text, bigint) IS 'Marks a row as deleted; a file stays for the setting attachment.hold (30 days). Internal.
object, id: of the row.';

CREATE OR REPLACE FUNCTION crm.request_delete(object text, id bigint, reason text, challenge bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made bigint;
BEGIN
    IF object IS NULL OR object NOT IN ('contract', 'attachment', 'account', 'contact', 'opportunity', 'lead') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('rows of "%s" are not deleted', object), HINT = 'This is for contract, attachment, account, contact, opportunity and lead.';
    END IF;
    IF coalesce(reason, '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a deletion needs a reason';
    END IF;
    IF crm._see(object, id) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no such %s', object), HINT = format('Choose one that the view crm.%s shows you.', object);
    END IF;
    IF object = 'attachment' THEN
        PERFORM crm._use_challenge('delete', object, id, challenge);
    END IF;
    made := crm._new_request('delete', object, '{}', reason, id);
    PERFORM crm._log_access('request_delete', object, id, NULL, 1, reason, made);
    RETURN made;
END
$$;
COMMENT ON FUNCTION crm.request_delete(text, bigint, text, bigint) IS
'Asks for the deletion of a row; answers the number of the request. Somebody of the approver role carries it out with crm.decide(): legal for contracts and files. Deletion is soft; a file is kept 30 days more.
object: contract, attachment, account, contact, opportunity or lead. id: of the row. reason: not empty. challenge: for a file, a confirmed crm.challenge(''delete'', ''attachment'', id).
Errors: 22023 object or reason; P0002 no such row for the person; RM106 no confirmed challenge; 42501 no right start_approval.';

-- Second confirmation: employee number and a one-time code

CREATE OR REPLACE FUNCTION crm.challenge(op text, object text, id bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    person crm_data.member;
    random_bytes bytea := decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');
    code text;
    made bigint;
BEGIN
    IF op NOT IN ('merge', 'delete') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" needs no second confirmation', op), HINT = 'It is for merge and delete.';
    END IF;
    SELECT * INTO person FROM crm_data.member AS m WHERE m.id = crm.me();
    IF NOT FOUND OR person.phone IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'a second confirmation needs a member with a telephone number', HINT = 'An administrator enters it: phone in crm.member.';
    END IF;
    IF crm._see(object, id) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no such %s', object), HINT = format('Choose one that the view crm.%s shows you.', object);
    END IF;
    -- one at a time for a person; what is rolled back is never sent
    PERFORM FROM crm_data.member AS m WHERE m.id = person.id FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM crm_data.approval AS a WHERE a.kind = 'challenge' AND a.requested_by = person.id AND a.created_at > clock_timestamp() - interval '1 hour')
       >= crm._setting('challenge.hourly_limit', '10')::int THEN
        RAISE EXCEPTION USING ERRCODE = 'RM107', MESSAGE = 'the hour''s limit of one-time codes is reached', HINT = 'The setting challenge.hourly_limit says how many there are.';
    END IF;
    -- six digits from 48 random bits: the first bytes of version 4 are all random
    code := lpad((('x' || encode(substring(random_bytes FROM 1 FOR 6), 'hex'))::bit(48)::bigint % 1000000)::text, 6, '0');
    INSERT INTO crm_data.approval (kind, object, record_id, payload, requested_by, expires_at, code_salt, code_hash, attempts_left, created_by)
    VALUES ('challenge', object, id, jsonb_build_object('op', op), person.id,
            clock_timestamp() + make_interval(mins => crm._setting('challenge.ttl', '5')::int),
            substring(random_bytes FROM 17), sha256(substring(random_bytes FROM 17) || convert_to(code, 'UTF8')),
            crm._setting('challenge.attempts', '5')::int, 'member ' || person.id)
    RETURNING approval.id INTO made;
    INSERT INTO crm_data.outbox (topic, channel, fallback, recipient_id, address, payload, dedupe_key)
    SELECT 'sms.code', c.name, '{}', person.id, person.phone, jsonb_build_object('code', code, 'op', op, 'object', object, 'id', id), 'challenge:' || made
      FROM crm_data.channel AS c WHERE c.name = 'sms';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'there is no channel "sms" to send the code', HINT = 'A superuser brings it back: INSERT INTO crm_data.channel (name) VALUES (''sms'').';
    END IF;
    RETURN made;
END
$$;
COMMENT ON FUNCTION crm.challenge(text, text, bigint) IS
'Sends the current person a one-time code for a sensitive operation; answers the number that crm.confirm() and the operation take. Only a hash of the code is kept; it lives 5 minutes (setting challenge.ttl).
op: merge or delete. object, id: of the row.
Errors: 22023 other operations; 55000 no telephone number or channel; P0002 no such row for the person; RM107 more than challenge.hourly_limit (10) codes in an hour.';

CREATE OR REPLACE FUNCTION crm.confirm(challenge bigint, employee_no text, code text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked crm_data.approval;
    fits boolean;
BEGIN
    SELECT * INTO asked FROM crm_data.approval AS a
     WHERE a.id = challenge AND a.kind = 'challenge' AND a.requested_by = crm.me() FOR UPDATE;
    IF NOT FOUND OR asked.state <> 'open' OR asked.expires_at <= clock_timestamp() OR asked.attempts_left <= 0 THEN
        RETURN false;
    END IF;
    -- Whoever rolls back takes the count of his attempts along, but not the time: a code lives too short to be guessed at this pace. One at a time
    -- for a person, and the same wait for right and wrong, so that a timeout tells nothing.
    PERFORM FROM crm_data.member AS m WHERE m.id = crm.me() FOR NO KEY UPDATE;
    PERFORM pg_sleep(CASE WHEN code ~ '^[0-9]{6}$' THEN 0.25 ELSE 0 END);
    IF asked.expires_at <= clock_timestamp() THEN
        RETURN false;
    END IF;
    fits := asked.code_hash = sha256(asked.code_salt || convert_to(coalesce(code, ''), 'UTF8'))
            AND EXISTS (SELECT FROM crm_data.member AS m WHERE m.id = crm.me() AND m.employee_no = confirm.employee_no);
    -- not an error: the attempt must count even when the caller rolls nothing else back
    UPDATE crm_data.approval AS a
       SET state = CASE WHEN fits THEN 'approved' WHEN a.attempts_left <= 1 THEN 'rejected' ELSE a.state END,
           decided_by = CASE WHEN fits THEN crm.me() END, decided_at = CASE WHEN fits THEN clock_timestamp() END,
           attempts_left = a.attempts_left - CASE WHEN fits THEN 0 ELSE 1 END
     WHERE a.id = challenge;
    RETURN fits;
END
$$;
COMMENT ON FUNCTION crm.confirm(bigint, text, text) IS
'Answers a challenge of the current person: true when employee number and code fit. Wrong answers count; after five (setting challenge.attempts) it is dead.
challenge: its number. employee_no: the person''s own. code: the six digits.
Raises nothing: a wrong, expired, dead or foreign challenge gives false.';

CREATE OR REPLACE FUNCTION crm._use_challenge(op text, object text, id bigint, challenge bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE crm_data.approval AS a
       SET uses_left = 0, state = 'used'
     WHERE a.id = challenge AND a.kind = 'challenge' AND a.state = 'approved' AND a.uses_left > 0 AND a.requested_by = crm.me()
       AND a.expires_at > clock_timestamp() AND a.object = _use_challenge.object AND a.record_id = _use_challenge.id AND a.payload->>'op' = op;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RM106', MESSAGE = 'this needs a second confirmation',
            HINT = format('Call crm.challenge(%L, %L, %s), then crm.confirm() with your employee number and the code.', op, object, id);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._use_challenge(text, text, bigint, bigint) IS
'Uses up the current person''s confirmed challenge for an operation. Internal: sensitive operations call it.
op, object, id: what is about to be done. challenge: its number.
Errors: RM106 none, expired, used, somebody else''s, or for something else.';

-- One full value, and many

CREATE OR REPLACE FUNCTION crm._in_sandbox() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM crm_data.member AS m WHERE m.id = crm.me() AND m.hired_at > current_date - crm._setting_number('sandbox.days', 7, 0, 3650))
$$;
COMMENT ON FUNCTION crm._in_sandbox() IS 'Whether the current person is in his first days (setting sandbox.days). Internal.';

-- What a person did today and may do only so often. The count must outlive a rollback, or whoever rolls back sees what he wants: sequences are
-- the part of a database that no rollback touches, so each member has one.
CREATE OR REPLACE FUNCTION crm._make_day_count() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE SEQUENCE crm_data.%I', 'day_count_' || NEW.id);
    EXECUTE format('COMMENT ON SEQUENCE crm_data.%I IS %L', 'day_count_' || NEW.id, 'What a member did today: days since 2000, four digits of claims, four digits of reveals.');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._make_day_count() IS 'Trigger of member: makes the count of the new member''s days, before he can do anything that is counted. Internal.';
DROP TRIGGER IF EXISTS day_count ON crm_data.member;
CREATE TRIGGER day_count AFTER INSERT ON crm_data.member FOR EACH ROW EXECUTE FUNCTION crm._make_day_count();
COMMENT ON TRIGGER day_count ON crm_data.member IS 'Makes the count of the new member''s days.';
DO $do$
DECLARE
    m record;
BEGIN
    FOR m IN SELECT 'day_count_' || x.id AS name FROM crm_data.member AS x WHERE to_regclass('crm_data.day_count_' || x.id) IS NULL LOOP
        EXECUTE format('CREATE SEQUENCE crm_data.%I', m.name);
        EXECUTE format('COMMENT ON SEQUENCE crm_data.%I IS %L', m.name, 'What a member did today: days since 2000, four digits of claims, four digits of reveals.');
    END LOOP;
END
$do$;

CREATE OR REPLACE FUNCTION crm._count_today(action text, most int) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    counter regclass := 'crm_data.day_count_' || crm.me();
    unit CONSTANT int := CASE action WHEN 'reveal' THEN 1 WHEN 'claim' THEN 10000 END;
    day CONSTANT bigint := 100000000::bigint * ((clock_timestamp() AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date - date '2000-01-01');
    count bigint;
BEGIN
    -- one at a time for a person, or two of his sessions would count as one
    PERFORM FROM crm_data.member AS m WHERE m.id = crm.me() FOR NO KEY UPDATE;
    count := greatest(coalesce(pg_sequence_last_value(counter), 0), day);
    IF count / unit % 10000 >= least(most, 9999) THEN
        RETURN false;
    END IF;
    -- not nextval(), which may skip some after a crash
    PERFORM setval(counter, count + unit);
    RETURN true;
END
$$;
COMMENT ON FUNCTION crm._count_today(text, int) IS 'Counts something that the current member does, for good, whatever becomes of the transaction; false, and not counted, when he has done it so often today. Internal.
action: reveal or claim. most: how often in a day (setting organisation.timezone), up to 9999.';

CREATE OR REPLACE FUNCTION crm.reveal(object text, id bigint, field text, reason text) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    number int := (SELECT f.id FROM crm_data.field AS f WHERE f.object = reveal.object AND f.name = reveal.field AND f.guarded AND NOT f.custom);
    seen jsonb;
    result text;
BEGIN
    PERFORM crm._require('reveal');
    IF number IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('there is no guarded field "%s.%s"', object, field), HINT = 'SELECT field FROM crm.form_spec(object, id) WHERE masked lists those of a record that you see masked.';
    END IF;
    IF length(trim(coalesce(reason, ''))) < 4 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a reveal needs a reason of at least four characters';
    END IF;
    seen := crm._see(object, id);
    IF seen IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('there is no such %s', object), HINT = format('Choose one that the view crm.%s shows you.', object);
    END IF;
    -- masked fields only: what a role must never see cannot be revealed either, and newcomers reveal their own
    IF seen->>field IS NULL OR (crm._in_sandbox() AND (seen->>'owner_id')::bigint IS DISTINCT FROM crm.me()) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied to reveal "%s.%s"', object, field), HINT = 'You may reveal what you see masked; other fields are not for your role.';
    END IF;
    IF crm.me() IS NOT NULL AND NOT crm._count_today('reveal', crm._setting('reveal.daily_limit', '30')::int) THEN
        RAISE EXCEPTION USING ERRCODE = 'RM107', MESSAGE = 'the day''s limit of revealed values is reached', HINT = 'The setting reveal.daily_limit says how many there are.';
    END IF;
    EXECUTE format('SELECT t.%I::text FROM crm_data.%I AS t WHERE t.id = $1', field, object) INTO result USING id;
    PERFORM crm._log_access('reveal', object, id, number, 1, reason, NULL);
    RETURN result;
END
$$;
COMMENT ON FUNCTION crm.reveal(text, bigint, text, text) IS
'The full value of one masked field of one visible row; noted in the access log.
object, id, field: of the value. reason: at least four characters. At most reveal.daily_limit (30) a person and day; what is rolled back counts.
Errors: 42501 no right reveal, or a field that the role never sees; 42703 no such field; P0002 no such row; 22023 no reason; RM107 the limit.';

CREATE OR REPLACE FUNCTION crm.find_by_phone(phone text) RETURNS TABLE (object text, id bigint, name text, account_id bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted text := coalesce(crm.phone_key(phone), phone);
BEGIN
    RETURN QUERY
        SELECT 'account', v.id, v.name, v.id
          FROM crm.account AS v WHERE v.id IN (SELECT t.id FROM crm_data.account AS t WHERE t.phone_norm = wanted OR t.phone = find_by_phone.phone)
        UNION ALL
        SELECT 'contact', v.id, v.name, v.account_id
          FROM crm.contact AS v WHERE v.id IN (SELECT t.id FROM crm_data.contact AS t WHERE t.phone_norm = wanted OR t.phone = find_by_phone.phone)
        UNION ALL
        SELECT 'lead', v.id, v.name, v.account_id
          FROM crm.lead AS v WHERE v.id IN (SELECT t.id FROM crm_data.lead AS t WHERE t.phone_norm = wanted OR t.phone = find_by_phone.phone)
         ORDER BY 1, 2;
    PERFORM crm._log_access('find_by_phone', NULL, NULL, NULL, NULL, crm.mask_phone(phone), NULL);
END
$$;
COMMENT ON FUNCTION crm.find_by_phone(text) IS
'Who has this number, among the rows that the person sees: for whoever sees numbers masked only, and takes a call. Noted in the access log, with the number masked.
phone: as dialled or shown; compared in its normal form.';

CREATE OR REPLACE FUNCTION crm.export(approval bigint) RETURNS SETOF jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    granted crm_data.approval;
    columns text;
    condition text;
    total bigint;
    most bigint;
BEGIN
    SELECT * INTO granted FROM crm_data.approval AS a
     WHERE a.id = approval AND a.kind = 'export' AND a.requested_by IS NOT DISTINCT FROM crm.me() AND a.state = 'approved' AND a.uses_left > 0
       AND a.expires_at > clock_timestamp() FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RM105', MESSAGE = 'there is no approved export of yours with this number',
            HINT = 'Ask with crm.request_approval(''export'', object, ..); an approval expires and is good for one export.';
    END IF;
    most := least(coalesce((granted.payload->>'max_rows')::bigint, 9223372036854775807), crm._setting('export.max_rows', '100000')::bigint);

    -- each value is what the view shows, and only where the field may be exported, too
    SELECT string_agg(format('%L, CASE WHEN %s THEN to_jsonb(v.%I) END', f.name,
                             CASE WHEN f.guarded THEN format('crm._field_allowed(''export'', %s, %s, %s)', f.id,
                                                             CASE WHEN o.owner THEN 'v.owner_id' ELSE 'NULL' END, CASE WHEN o.team THEN 'v.team_id' ELSE 'NULL' END)
                                  ELSE 'true' END, f.name), ', ' ORDER BY f.id)
      INTO columns
      FROM crm_data.field AS f,
           (SELECT bool_or(g.name = 'owner_id') AS owner, bool_or(g.name = 'team_id') AS team FROM crm_data.field AS g WHERE g.object = granted.object) AS o
     WHERE f.object = granted.object AND NOT f.custom AND f.class <> 'engine'
       AND (granted.payload->'columns' IS NULL OR granted.payload->'columns' ? f.name);
    IF columns IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = 'the request names no column of the object', HINT = 'Ask again with the columns: crm.request_approval(''export'', object, ''{"columns": ["name"]}'', reason).';
    END IF;
    SELECT coalesce(string_agg(format(' AND v.%I::text = %L', f.name, w.value), '' ORDER BY f.id), '')
      INTO condition
      FROM jsonb_each_text(granted.payload->'where') AS w JOIN crm_data.field AS f ON f.object = granted.object AND f.name = w.key;

    RETURN QUERY EXECUTE format('SELECT jsonb_build_object(%s) FROM crm.%I AS v WHERE crm.row_visible(%L, ''export'', %s)%s ORDER BY v.id LIMIT %s',
        columns, granted.object, granted.object,
        (SELECT concat_ws(', ', CASE WHEN bool_or(f.name = 'owner_id') THEN 'v.owner_id' ELSE 'NULL' END, CASE WHEN bool_or(f.name = 'team_id') THEN 'v.team_id' ELSE 'NULL' END,
                          CASE WHEN bool_or(f.name = 'grade') THEN 'v.grade' ELSE 'NULL' END) FROM crm_data.field AS f WHERE f.object = granted.object),
        condition, most);
    GET DIAGNOSTICS total = ROW_COUNT;
    UPDATE crm_data.approval AS a SET uses_left = a.uses_left - 1, state = CASE WHEN a.uses_left = 1 THEN 'used' ELSE a.state END WHERE a.id = approval;
    PERFORM crm._log_access('export', granted.object, NULL, NULL, total, granted.payload->>'reason', approval);
END
$$;
COMMENT ON FUNCTION crm.export(bigint) IS
'The rows of an approved export, one document each: columns and condition of the request, of rows and fields that the person may export; noted in the access log.
approval: number of his own approved request; good once. At most max_rows of the request and the setting export.max_rows (100000).
Errors: RM105 no such approval; 42703 no column.';

-- Looking at roles

CREATE OR REPLACE FUNCTION crm._role_paths(login name) RETURNS TABLE (role_name name, depth int, path text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE reach AS (
        SELECT r.oid AS role, r.rolname, 0 AS depth, r.rolname::text AS path, ARRAY[r.oid] AS seen FROM pg_roles AS r WHERE r.rolname = login
        UNION ALL
        SELECT g.oid, g.rolname, x.depth + 1, x.path || ' > ' || g.rolname, x.seen || g.oid
          FROM reach AS x JOIN pg_auth_members AS a ON a.member = x.role JOIN pg_roles AS g ON g.oid = a.roleid
         WHERE g.oid <> ALL (x.seen)
    )
    SELECT DISTINCT ON (x.rolname) x.rolname, x.depth, x.path FROM reach AS x ORDER BY x.rolname, x.depth, x.path
$$;
COMMENT ON FUNCTION crm._role_paths(name) IS 'Roles that a login inherits, with the shortest way to each. Internal.
login: name of a role.';

CREATE OR REPLACE FUNCTION crm._orphaned_roles() RETURNS TABLE (role_name name, reason text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.rolname, CASE WHEN m.id IS NULL THEN 'no member' ELSE 'left on ' || m.left_at END
      FROM pg_roles AS r LEFT JOIN crm_data.member AS m ON m.role_name = r.rolname
     WHERE r.rolcanlogin AND NOT r.rolsuper AND (m.id IS NULL OR m.left_at <= current_date)
       AND EXISTS (SELECT FROM crm._role_paths(r.rolname) AS p WHERE p.depth > 0 AND p.role_name IN (SELECT a.role_name FROM crm_data.access_profile AS a))
       AND NOT EXISTS (SELECT FROM crm._role_paths(r.rolname) AS p WHERE p.role_name IN ('crm_sync', 'crm_bi', 'crm_pool'))
$$;
COMMENT ON FUNCTION crm._orphaned_roles() IS 'Logins with rights in the CRM that belong to no present member; those of tools (crm_sync, crm_bi, crm_pool) need none. Internal.';

CREATE OR REPLACE FUNCTION crm.effective_roles(member bigint DEFAULT NULL) RETURNS TABLE (role_name name, depth int, path text, effective boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    person bigint := coalesce(member, crm.me());
BEGIN
    IF person IS DISTINCT FROM crm.me() THEN
        PERFORM crm._require('configure');
    END IF;
    RETURN QUERY
        SELECT p.role_name, p.depth, p.path, p.depth <= crm._setting_number('role.max_inherit_depth', 2, 0, 9)
          FROM crm_data.member AS m CROSS JOIN LATERAL crm._role_paths(m.role_name) AS p
         WHERE m.id = person ORDER BY p.role_name;
END
$$;
COMMENT ON FUNCTION crm.effective_roles(bigint) IS
'Roles that a member has by inheritance, with the shortest way to each; deeper than the setting role.max_inherit_depth (2) says they are inert.
member: its identifier, NULL for oneself. Errors: 42501 another member without the right configure.';

CREATE OR REPLACE FUNCTION crm.preview_as(role text, object text, id bigint) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
    owner bigint;
    result jsonb;
BEGIN
    PERFORM crm._require('configure');
    IF NOT EXISTS (SELECT FROM crm_data.access_profile AS p WHERE p.role_name = role) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('no access profile for role "%s"', role), HINT = 'SELECT DISTINCT role_name FROM crm.permission_matrix lists the roles.';
    END IF;
    IF NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = preview_as.object) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = format('there is no object "%s"', object), HINT = 'Objects are named as their views, for example account, contract or attachment.';
    END IF;
    IF EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = preview_as.object AND f.name = 'owner_id') THEN
        EXECUTE format('SELECT t.owner_id FROM crm_data.%I AS t WHERE t.id = $1', object) INTO owner USING id;
    END IF;
    PERFORM crm._log_access('preview', object, id, NULL, 1, 'as ' || role, NULL);
    before := crm._as(concat('role ', role, ' as ' || owner));
    result := crm._see(object, id);
    PERFORM crm._as(before);
    RETURN result;
END
$$;
COMMENT ON FUNCTION crm.preview_as(text, text, bigint) IS
'A row as somebody of a role sees it, being its owner; NULL when he sees none. Noted in the access log.
role: with an access profile. object, id: of the row.
Errors: 42501 no right configure; 42704 no such role; 42P01 no such object.';

CREATE OR REPLACE FUNCTION crm._access_findings() RETURNS TABLE (severity text, kind text, subject text, detail text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN r.rolsuper THEN 'info' ELSE 'warning' END, 'privileged role', r.rolname::text,
           concat_ws(', ', CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END)
      FROM pg_roles AS r WHERE (r.rolsuper OR r.rolbypassrls OR r.rolreplication) AND r.rolname <> 'crm_backup'
    UNION ALL
    SELECT 'warning', 'privileged membership', m.rolname::text, g.rolname::text
      FROM pg_auth_members AS a JOIN pg_roles AS g ON g.oid = a.roleid JOIN pg_roles AS m ON m.oid = a.member
     WHERE g.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_monitor', 'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', 'crm_owner', 'crm_gate', 'crm_backup')
       AND m.rolname <> 'pg_monitor' AND NOT m.rolsuper
    UNION ALL
    SELECT 'error', 'view owner', c.oid::regclass::text, pg_get_userbyid(c.relowner)::text
      FROM pg_class AS c WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'v' AND c.relowner <> 'crm_gate'::regrole
    UNION ALL
    SELECT 'error', 'row security', c.oid::regclass::text, 'off'
      FROM pg_class AS c WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    UNION ALL
    SELECT 'error', 'table right', c.oid::regclass::text, g.rolname || ' ' || a.privilege_type
      FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a LEFT JOIN pg_roles AS g ON g.oid = a.grantee
     WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner
       AND coalesce(g.rolname, 'public') NOT IN ('crm_gate', 'crm_backup')
    UNION ALL
    SELECT 'error', 'column right', format('%s.%I', c.oid::regclass, t.attname), coalesce(g.rolname, 'public') || ' ' || a.privilege_type
      FROM pg_class AS c JOIN pg_attribute AS t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) AS a LEFT JOIN pg_roles AS g ON g.oid = a.grantee
     WHERE c.relnamespace = 'crm_data'::regnamespace AND a.grantee <> c.relowner AND coalesce(g.rolname, 'public') NOT IN ('crm_gate', 'crm_backup')
    UNION ALL
    SELECT 'error', 'schema right', n.nspname::text, coalesce(g.rolname, 'public') || ' ' || a.privilege_type
      FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a LEFT JOIN pg_roles AS g ON g.oid = a.grantee
     WHERE a.grantee <> n.nspowner AND coalesce(g.rolname, 'public') NOT IN ('crm_owner', 'crm_gate', 'crm_backup') AND (n.nspname = 'crm_data' OR n.nspname = 'crm' AND a.privilege_type = 'CREATE')
    UNION ALL
    -- policies widen what others allow: of ours there is one for the engine and those of the people
    SELECT CASE WHEN p.polpermissive THEN 'error' ELSE 'info' END, 'policy of others', c.oid::regclass::text, p.polname::text
      FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
     WHERE c.relnamespace = 'crm_data'::regnamespace AND NOT (p.polpermissive AND p.polroles = ARRAY[CASE WHEN p.polname = 'engine' THEN 'crm_owner' WHEN p.polname ~ '^people_(read|create|update|delete)$' THEN 'crm_gate' END::regrole::oid])
    UNION ALL
    SELECT 'error', 'function right', p.oid::regprocedure::text, 'public EXECUTE'
      FROM pg_proc AS p WHERE p.pronamespace = 'crm'::regnamespace AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0)
    UNION ALL
    -- with SET ROLE he is the other one
    SELECT 'warning', 'shared login', m.rolname::text, format('may act as %s', g.rolname)
      FROM pg_auth_members AS a JOIN pg_roles AS g ON g.oid = a.roleid JOIN pg_roles AS m ON m.oid = a.member JOIN crm_data.member AS x ON x.role_name = g.rolname
     WHERE EXISTS (SELECT FROM crm_data.member AS y WHERE y.role_name = m.rolname)
    UNION ALL
    SELECT 'warning', 'definer function', p.oid::regprocedure::text, pg_get_userbyid(p.proowner)::text
      FROM pg_proc AS p JOIN pg_roles AS o ON o.oid = p.proowner
     WHERE p.prosecdef AND o.rolsuper AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'crm'::regnamespace)
    UNION ALL
    SELECT 'warning', 'inert role', m.full_name, e.path
      FROM crm_data.member AS m CROSS JOIN LATERAL crm._role_paths(m.role_name) AS e
     WHERE e.depth > crm._setting_number('role.max_inherit_depth', 2, 0, 9) AND EXISTS (SELECT FROM crm_data.access_profile AS p WHERE p.role_name = e.role_name)
    UNION ALL
    SELECT 'warning', 'orphaned login', o.role_name::text, o.reason FROM crm._orphaned_roles() AS o
    UNION ALL
    -- looking up numbers has no limit of its own, but whoever does it as often as a limit would allow is named
    SELECT 'warning', 'unusual access', l.actor, format('%s: %s times on %s', l.action, count(*), to_char(l.day, 'YYYY-MM-DD'))
      FROM (SELECT a.actor, a.action, (a.at AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date AS day
              FROM crm_data.access_log AS a WHERE a.action IN ('reveal', 'find_by_phone') AND a.at > now() - interval '31 days') AS l
     GROUP BY l.actor, l.action, l.day HAVING count(*) >= crm._setting('reveal.daily_limit', '30')::int
$$;
COMMENT ON FUNCTION crm._access_findings() IS 'What crm.access_audit() reports, without asking who asks. Internal.';

CREATE OR REPLACE FUNCTION crm.access_audit() RETURNS TABLE (severity text, kind text, subject text, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT crm.has_role('crm_risk') THEN
        PERFORM crm._require('configure');
    END IF;
    RETURN QUERY SELECT f.severity, f.kind, f.subject, f.detail FROM crm._access_findings() AS f
                  ORDER BY array_position(ARRAY['error', 'warning', 'info'], f.severity), f.kind, f.subject, f.detail;
END
$$;
COMMENT ON FUNCTION crm.access_audit() IS
'What stands beside or against the rules of access: privileged roles and memberships, views, tables, rights and policies that are not as they should be, people who may act as others, definer functions of superusers, roles that are inert because they are inherited too deeply, logins without a member. Empty of errors on a sound system.
Errors: 42501 neither the right configure nor the role crm_risk.';

CREATE OR REPLACE FUNCTION crm.role_cleanup(scope text DEFAULT 'orphaned', action text DEFAULT 'report') RETURNS TABLE (role_name name, reason text, done text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._require('offboard');
    IF scope <> 'orphaned' OR action NOT IN ('report', 'disable') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown scope "%s" or action "%s"', scope, action), HINT = 'Scope is orphaned, actions are report and disable.';
    END IF;
    FOR role_name, reason IN SELECT o.role_name, o.reason FROM crm._orphaned_roles() AS o ORDER BY 1 LOOP
        done := action;
        IF action = 'disable' THEN
            PERFORM crm._disable_login(role_name);
            PERFORM crm._log_access('role_cleanup', NULL, NULL, NULL, 1, format('%s: %s', role_name, reason), NULL);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm.role_cleanup(text, text) IS
'Logins with rights in the CRM that belong to no present member: reported, or taken the right to log in.
scope: orphaned. action: report or disable. Errors: 42501 no right offboard; 22023 other words.';

CREATE OR REPLACE FUNCTION crm.offboard(member bigint, handover_to bigint DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    leaver crm_data.member;
    heir bigint;
    accounts bigint;
    requests bigint;
    login boolean := false;
BEGIN
    PERFORM crm._require('offboard');
    SELECT * INTO leaver FROM crm_data.member AS m WHERE m.id = member FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'there is no such member', HINT = 'SELECT id, full_name FROM crm.member lists them.';
    END IF;
    heir := coalesce(handover_to, leaver.manager_id);
    IF heir = member OR NOT EXISTS (SELECT FROM crm_data.member AS m WHERE m.id = heir AND (m.left_at IS NULL OR m.left_at > current_date)) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'nobody is there to take over', HINT = 'Give a present member, or set the leaver''s manager.';
    END IF;
    UPDATE crm_data.member AS m SET left_at = greatest(current_date, m.hired_at) WHERE m.id = member AND (m.left_at IS NULL OR m.left_at > current_date);
    UPDATE crm_data.account AS a SET owner_id = heir, team_id = coalesce((SELECT m.team_id FROM crm_data.member AS m WHERE m.id = heir), a.team_id) WHERE a.owner_id = member;
    GET DIAGNOSTICS accounts = ROW_COUNT;
    UPDATE crm_data.approval AS a SET state = 'cancelled' WHERE a.requested_by = member AND a.state IN ('open', 'approved');
    GET DIAGNOSTICS requests = ROW_COUNT;
    IF leaver.role_name IS NOT NULL AND EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = leaver.role_name AND r.rolcanlogin) THEN
        PERFORM crm._disable_login(leaver.role_name);
        login := true;
    END IF;
    PERFORM crm._log_access('offboard', 'member', member, NULL, accounts, 'handed over to ' || heir, NULL);
    RETURN jsonb_build_object('accounts', accounts, 'requests', requests, 'login_disabled', login, 'handed_over_to', heir);
END
$$;
COMMENT ON FUNCTION crm.offboard(bigint, bigint) IS
'Ends a member''s access from this moment: no more rights, no login, requests cancelled, customers handed over with all that hangs on them. Answers the counts.
member: who leaves. handover_to: who takes over, NULL for the manager.
Errors: 42501 no right offboard; P0002 no such member; 22023 nobody to take over.';

CREATE OR REPLACE FUNCTION crm._background_rights() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(f.oid::regprocedure::text, ', ' ORDER BY f.proname)
      FROM pg_proc AS f WHERE f.pronamespace = 'crm'::regnamespace AND f.proname IN ('ingest', 'stage_external', 'retry_inbox', 'outbox_claim', 'outbox_ack', 'outbox_fail')
       AND NOT (has_function_privilege('crm_sync', f.oid, 'EXECUTE') AND has_schema_privilege('crm_sync', 'crm', 'USAGE'))
$$;
COMMENT ON FUNCTION crm._background_rights() IS 'Internal: what crm_sync should be able to call to take in and to deliver, and may not; NULL for nothing.';

CREATE OR REPLACE FUNCTION crm._job_access_watch(due_at timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_rows bigint;
BEGIN
    INSERT INTO crm_data.alert (kind, level, object, message, dedupe_key)
    SELECT 'access.' || replace(a.kind, ' ', '_'), CASE a.severity WHEN 'error' THEN 'red' ELSE 'orange' END, 'member', format('%s: %s (%s)', a.kind, a.subject, a.detail),
           format('access:%s:%s:%s', a.kind, a.subject, a.detail)
      FROM crm._access_findings() AS a
     WHERE a.severity <> 'info'
    UNION ALL
    -- what runs in the background has rights of its own: nobody who looks at pages misses them
    SELECT 'access.background_rights', 'red', 'member', 'background rights: crm_sync may not call ' || b.missing, 'access:background rights:' || b.missing
      FROM (SELECT left(crm._background_rights(), 300) AS missing) AS b WHERE b.missing IS NOT NULL
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS found_rows = ROW_COUNT;
    RETURN found_rows;
END
$$;
COMMENT ON FUNCTION crm._job_access_watch(timestamptz) IS 'The daily look at access: every finding of crm.access_audit(), as a role that is inherited too deeply to count, and rights that deliveries lack, becomes an alert unless it is one already; answers how many are new. Internal.
due_at: when the job was due.';

CREATE OR REPLACE FUNCTION crm._job_access_audit(due_at timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_rows bigint := crm._job_access_watch(due_at);
    snapshot bigint;
BEGIN
    snapshot := crm._report_store('access_audit', tstzrange(due_at - interval '1 month', due_at, '[)'), due_at,
        jsonb_build_object('title', crm._report_title('access_audit'), 'say', '["severity", "kind"]'::jsonb, 'columns', '["subject", "severity", "kind", "detail"]'::jsonb,
                           'rows', (SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY array_position(ARRAY['error', 'warning', 'info'], a.severity), a.kind, a.subject, a.detail), '[]') FROM crm._access_findings() AS a)));
    PERFORM crm._notify('report.access', 'access_audit:' || extract(epoch FROM due_at), jsonb_build_object('report', 'access_audit', 'snapshot', snapshot, 'new', found_rows), crm._report_readers('access_audit'));
    RETURN found_rows;
END
$$;
COMMENT ON FUNCTION crm._job_access_audit(timestamptz) IS 'The monthly audit of access: what crm._job_access_watch does, and all findings are stored as a report; answers how many are new. Internal.
due_at: when the job was due.';

CREATE OR REPLACE FUNCTION crm._permission_matrix() RETURNS TABLE (role_name name, object text, may_create text, may_read text, may_update text, may_delete text, may_export text, may_summarize text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH rule AS (
        SELECT p.role_name, r.part[1] AS object, r.part[2] AS verbs,
               r.part[3] || CASE WHEN (r.part[4], r.part[5]) <> ('0', '9') THEN format(' grade %s-%s', r.part[4], r.part[5]) ELSE '' END
                         || CASE WHEN (r.part[6], r.part[7]) <> ('0', '9') THEN format(' rank %s-%s', r.part[6], r.part[7]) ELSE '' END AS reach
          FROM crm_data.access_profile AS p CROSS JOIN LATERAL unnest(p.row_rules) AS u (text)
               CROSS JOIN LATERAL (SELECT string_to_array(u.text, '|') AS part) AS r
         WHERE EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = p.role_name)
    ), object AS (SELECT DISTINCT f.object FROM crm_data.field AS f WHERE NOT f.custom)
    SELECT p.role_name, o.object,
           string_agg(DISTINCT r.reach, ', ') FILTER (WHERE r.verbs LIKE '%c%' AND has_table_privilege(p.role_name, v.view, 'INSERT')),
           string_agg(DISTINCT r.reach, ', ') FILTER (WHERE r.verbs LIKE '%r%' AND has_table_privilege(p.role_name, v.view, 'SELECT')),
           string_agg(DISTINCT r.reach, ', ') FILTER (WHERE r.verbs LIKE '%u%' AND has_table_privilege(p.role_name, v.view, 'UPDATE')),
           string_agg(DISTINCT r.reach, ', ') FILTER (WHERE r.verbs LIKE '%d%' AND has_table_privilege(p.role_name, v.view, 'DELETE')),
           string_agg(DISTINCT r.reach, ', ') FILTER (WHERE r.verbs LIKE '%e%' AND has_function_privilege(p.role_name, 'crm.export(bigint)', 'EXECUTE')),
           string_agg(DISTINCT r.reach, ', ') FILTER (WHERE r.verbs ~ '[rs]' AND o.object = 'opportunity' AND has_table_privilege(p.role_name, 'crm.regional_results', 'SELECT'))
      FROM crm_data.access_profile AS p CROSS JOIN object AS o CROSS JOIN LATERAL (SELECT format('crm.%I', o.object) AS view) AS v
           LEFT JOIN rule AS r ON r.role_name = p.role_name AND r.object = o.object
     WHERE EXISTS (SELECT FROM pg_roles AS x WHERE x.rolname = p.role_name) AND (crm.may('configure') OR crm.has_role('crm_risk') OR crm.has_role(p.role_name))
     GROUP BY p.role_name, o.object
$$;
COMMENT ON FUNCTION crm._permission_matrix() IS 'Rows of the view permission_matrix. Internal.';
GRANT EXECUTE ON FUNCTION crm._permission_matrix() TO crm_gate;

-- Figures for people who may see what many deals come to, and none of them. What is fixed here cannot be turned into a question about one deal: the groups
-- are the same for everybody and do not overlap, no sum goes over several of them, and a month counts once it is over.
CREATE OR REPLACE FUNCTION crm._regional_results() RETURNS TABLE (region text, month date, outcome text, deals bigint, customers bigint, amount numeric)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    smallest int := crm._setting_number('access.min_group', 5, 2, 1000000);
    zone text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    with_amount boolean := crm._field_allowed('read', (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'opportunity' AND f.name = 'amount' AND NOT f.custom), NULL, NULL);
BEGIN
    RETURN QUERY
        WITH reached AS (
            -- whole regions only: a part of one, by team or grade, would differ from the whole by too few
            SELECT r.region
              FROM (SELECT t.region, t.id FROM crm_data.team AS t UNION ALL SELECT NULL, NULL) AS r CROSS JOIN generate_series(0, 9) AS g (grade)
             GROUP BY r.region HAVING bool_and(crm.row_visible('opportunity', 'summary', NULL, r.id, g.grade::smallint))
        ), deal AS (
            SELECT t.region, date_trunc('month', o.closed_at AT TIME ZONE zone)::date AS month, o.outcome, o.account_id, crm._in_base(o.amount, o.currency, o.closed_at) AS amount
              FROM crm_data.opportunity AS o LEFT JOIN crm_data.team AS t ON t.id = o.team_id
             WHERE o.deleted_at IS NULL AND o.outcome IN ('won', 'lost') AND date_trunc('month', o.closed_at AT TIME ZONE zone) < date_trunc('month', now() AT TIME ZONE zone)
        )
        SELECT d.region, d.month, d.outcome, count(*), count(DISTINCT d.account_id),
               CASE WHEN with_amount AND count(DISTINCT d.account_id) FILTER (WHERE d.amount IS NOT NULL) >= smallest THEN sum(d.amount) END
          FROM deal AS d JOIN reached AS r ON r.region IS NOT DISTINCT FROM d.region
         GROUP BY d.region, d.month, d.outcome
        HAVING count(DISTINCT d.account_id) >= smallest;
END
$$;
COMMENT ON FUNCTION crm._regional_results() IS
'Rows of the view regional_results: the groups that are large enough, of the regions that the current person may see a summary of as a whole. Internal.
Errors: RM101 the setting access.min_group is not a whole number from 2 on.';
GRANT EXECUTE ON FUNCTION crm._regional_results() TO crm_gate;

CREATE OR REPLACE FUNCTION crm._recent_summaries(account bigint) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_agg(jsonb_build_object('at', i.occurred_at, 'kind', i.kind, 'summary', i.summary) ORDER BY i.occurred_at DESC, i.id DESC)
      FROM (SELECT t.id, t.occurred_at, t.kind, t.summary
              FROM crm_data.interaction AS t
             WHERE t.account_id = account AND t.retracted_at IS NULL AND t.summary IS NOT NULL AND crm.may('recent_summaries')
               AND EXISTS (SELECT FROM crm.account AS a WHERE a.id = account)
             ORDER BY t.occurred_at DESC, t.id DESC
             LIMIT crm._setting('service.recent_summaries', '3')::int) AS i
$$;
COMMENT ON FUNCTION crm._recent_summaries(bigint) IS
'The latest summaries (setting service.recent_summaries, 3) of a visible account, for whoever has the right recent_summaries: the service desk reads these and no other follow-ups. Internal.
account: its identifier.';

CREATE OR REPLACE FUNCTION crm.harden() RETURNS int
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    counter regprocedure;
    taken int := 0;
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'only a superuser can harden a database', HINT = 'Connect as one; it concerns the functions of the server.';
    END IF;
    -- what counts reads of a table or an index, row by row
    FOR counter IN
        SELECT p.oid FROM pg_proc AS p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proargtypes = ARRAY['oid'::regtype]::oidvector
           AND p.proname ~ '^pg_stat_get_(xact_)?(numscans|lastscan|tuples_|blocks_|live_tuples|dead_tuples|mod_since_analyze|ins_since_vacuum)'
         ORDER BY p.oid::regprocedure::text
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', counter);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO pg_monitor', counter);
        taken := taken + 1;
    END LOOP;
    RETURN taken;
END
$$;
COMMENT ON FUNCTION crm.harden() IS
'Takes the counters of reads (pg_stat_user_indexes and the like) from everybody but pg_monitor, in this whole database: they tell whether a search met a hidden row. Opt-in, since monitoring tools with their own roles need pg_monitor then. Answers how many functions it took.
Errors: 42501 not a superuser.';
