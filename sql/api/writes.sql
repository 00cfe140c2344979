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
Errors: 55P03 another endpoint holds it, or the customer is busy; P0002 no such customer, or hidden; 42501 not the caller''s to write; 22023 no endpoint, or a ttl out of range.';

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
        PERFORM crm.apply_operations(account);
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
    IF lim < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'lim must be at least 1';
    END IF;
    UPDATE crm_data.operation AS o SET state = 'pending'
     WHERE o.id IN (SELECT f.id FROM crm_data.operation AS f WHERE f.state = 'failed' ORDER BY f.id DESC LIMIT lim FOR UPDATE SKIP LOCKED);
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
    RETURN crm.write(object, id, gen_random_uuid(), 'remove', base_version, jsonb_build_object('deleted_at', clock_timestamp()));
END
$function$;
COMMENT ON FUNCTION crm.remove(text, bigint, int) IS
'Marks a record as deleted; nothing is erased, and crm.restore brings it back. Answers as crm.write does: when somebody changed the record since base_version, state is conflict and it stays.
object, id: the record; base_version: the row_version that was read, NULL: none, then it stays; therefore not STRICT.
Errors: those of crm.write; 42703 the object has no deleted_at.';
