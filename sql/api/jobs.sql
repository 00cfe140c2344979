-- Jobs: when what is due, each due time exactly once, and the clock. A job's body is one function crm._job_<name>(due timestamptz) that answers a number of rows.

CREATE OR REPLACE FUNCTION crm.job_due(cadence text, offset_ interval, tz text, after timestamptz, upto timestamptz) RETURNS SETOF timestamptz
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE ROWS 10
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_step interval := CASE cadence WHEN 'quarter' THEN interval '3 months' WHEN 'month' THEN interval '1 month' WHEN 'week' THEN interval '7 days' WHEN 'day' THEN interval '1 day'
                                    WHEN 'hour' THEN interval '1 hour' WHEN 'minute' THEN interval '1 minute' END;
BEGIN
    IF v_step IS NULL THEN
        RAISE EXCEPTION 'unknown cadence "%"', cadence USING ERRCODE = 'invalid_parameter_value', HINT = 'Cadences: minute, hour, day, week, month, quarter.';
    END IF;
    PERFORM now() AT TIME ZONE tz;      -- an unknown zone is an error even when nothing is due
    -- minutes and hours are lengths of time, the others are days of a calendar: a day has 23 hours when the clocks go forward
    RETURN QUERY
    SELECT d.at FROM (
        SELECT g + offset_ AS at FROM generate_series(date_trunc(cadence, after - offset_, tz) - v_step, upto, v_step) AS g WHERE cadence IN ('minute', 'hour')
        UNION ALL
        SELECT (g + offset_) AT TIME ZONE tz
          FROM generate_series(date_trunc(cadence, (after AT TIME ZONE tz) - offset_) - v_step, upto AT TIME ZONE tz, v_step) AS g
         WHERE cadence NOT IN ('minute', 'hour')
    ) AS d
     WHERE d.at > after AND d.at <= upto
     ORDER BY d.at;
END
$$;
COMMENT ON FUNCTION crm.job_due(text, interval, text, timestamptz, timestamptz) IS
'The due times of a schedule after one instant and up to another: the local start of each minute, hour, day, week (Monday), month or quarter in a time zone, plus an offset. Monday 10:00 is week + 10 hours, the 15th 08:00 is month + 14 days 8 hours.
Errors: 22023 unknown cadence or time zone.';

CREATE OR REPLACE FUNCTION crm.job_put(name text, cadence text, offset_ interval, catch_up text DEFAULT 'latest', tz text DEFAULT 'Asia/Shanghai', enabled boolean DEFAULT true) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_id bigint;
BEGIN
    PERFORM crm._require_role('crm_admin');
    BEGIN
        PERFORM crm.job_due(cadence, offset_, tz, now(), now());
    EXCEPTION WHEN invalid_parameter_value THEN
        RAISE EXCEPTION '%', SQLERRM USING ERRCODE = 'invalid_parameter_value', HINT = 'Cadences: minute, hour, day, week, month, quarter. SELECT name FROM pg_timezone_names lists the time zones, for example Asia/Shanghai.';
    END;
    UPDATE crm_data.job AS j SET cadence = cadence, offset_ = offset_, tz = tz, catch_up = catch_up, enabled = enabled, updated_at = now(), updated_by = session_user
     WHERE j.name = name RETURNING j.id INTO v_id;
    IF v_id IS NULL THEN
        RAISE EXCEPTION 'there is no job "%"', name USING ERRCODE = 'undefined_object', HINT = 'SELECT name FROM crm.job_list() lists the jobs.';
    END IF;
    RETURN v_id;
END
$$;
COMMENT ON FUNCTION crm.job_put(text, text, interval, text, text, boolean) IS
'Changes when a job runs. cadence, offset_, tz: see crm.job_due. catch_up after a pause: all missed times in order, only the latest, or skip. enabled: false to stop it. Errors: 42704 no such job; 22023 unknown cadence or time zone; 23514 another catch_up.';

CREATE OR REPLACE FUNCTION crm.job_list()
    RETURNS TABLE (name text, cadence text, offset_ interval, tz text, catch_up text, enabled boolean, next_due timestamptz, last_due timestamptz, last_state text, last_rows bigint, last_error text, description text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT j.name, j.cadence, j.offset_, j.tz, j.catch_up, j.enabled,
           (SELECT min(d) FROM crm.job_due(j.cadence, j.offset_, j.tz, now(), now() + interval '7 months') AS d WHERE j.enabled AND j.cadence NOT IN ('minute', 'hour')),
           r.due_at, r.state, r.rows, r.error, j.description
      FROM crm_data.job AS j
      LEFT JOIN LATERAL (SELECT x.* FROM crm_data.job_run AS x WHERE x.job_id = j.id ORDER BY x.due_at DESC LIMIT 1) AS r ON true
     ORDER BY j.name
$$;
COMMENT ON FUNCTION crm.job_list() IS 'The jobs: when each runs next, and how its latest run went.';

CREATE OR REPLACE FUNCTION crm._plan_jobs(at timestamptz) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    j record;
    v_rows int;
    v_total int := 0;
BEGIN
    -- what a clock that ran ahead planned for later than the next time does not count, or nothing would be due for as long
    FOR j IN SELECT x.*, coalesce((SELECT max(r.due_at) FROM crm_data.job_run AS r WHERE r.job_id = x.id AND r.due_at <= at + CASE x.cadence WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || x.cadence)::interval END), x.starts_at - interval '1 microsecond') AS since
               FROM crm_data.job AS x WHERE x.enabled ORDER BY x.id LOOP
        -- minutes of a long pause would be many, and of them at most the last counts
        INSERT INTO crm_data.job_run (job_id, due_at)
        SELECT j.id, d.due
          FROM (SELECT x.due, row_number() OVER (ORDER BY x.due DESC) AS n
                  FROM crm.job_due(j.cadence, j.offset_, j.tz, CASE WHEN j.catch_up <> 'all' AND j.cadence IN ('minute', 'hour') THEN greatest(j.since, at - interval '2 hours') ELSE j.since END, at) AS x (due)) AS d
         WHERE CASE j.catch_up WHEN 'all' THEN d.n <= 500
                               WHEN 'latest' THEN d.n = 1
                               ELSE d.n = 1 AND d.due > at - CASE j.cadence WHEN 'minute' THEN interval '2 minutes' WHEN 'hour' THEN interval '1 hour' WHEN 'day' THEN interval '1 day' ELSE interval '7 days' END END
         ORDER BY d.due
        ON CONFLICT (job_id, due_at) DO NOTHING;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_total := v_total + v_rows;
    END LOOP;
    RETURN v_total;
END
$$;
COMMENT ON FUNCTION crm._plan_jobs(timestamptz) IS 'Internal: notes the runs that are due up to an instant, as each job catches up; returns how many are new.';

CREATE OR REPLACE FUNCTION crm._local_days() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM set_config('TimeZone', crm._setting('organisation.timezone', 'Asia/Shanghai'), true);
END
$$;
COMMENT ON FUNCTION crm._local_days() IS 'Internal: until the end of the transaction days are those of the organisation: what the clock does at night must not depend on where the server or the scheduler believes to be.';

CREATE OR REPLACE FUNCTION crm._run_jobs_step(OUT more boolean, OUT note text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    v_rows bigint;
    v_error text;
    v_planned int;
BEGIN
    PERFORM crm._local_days();
    -- planning is committed before anything runs, so that no other session waits for a long job to know what is due
    v_planned := crm._plan_jobs(now());
    IF v_planned > 0 THEN
        more := true;
        RETURN;
    END IF;
    -- the lock on the job keeps its runs in order; a session that dies leaves its run as it found it
    SELECT x.id, x.due_at, x.attempts, j.id AS job_id, j.name, j.procedure, j.max_attempts INTO r
      FROM crm_data.job_run AS x JOIN crm_data.job AS j ON j.id = x.job_id
     -- (no run waits longer than a day for its next attempt: a clock that ran ahead has said so)
     WHERE x.state IN ('ready', 'failed') AND x.due_at <= now() AND (x.next_at IS NULL OR x.next_at <= now() OR x.next_at > now() + interval '1 day') AND x.attempts < j.max_attempts AND j.enabled
       AND NOT EXISTS (SELECT FROM crm_data.job_run AS e WHERE e.job_id = x.job_id AND e.due_at < x.due_at AND e.state IN ('ready', 'failed') AND e.attempts < j.max_attempts)
     ORDER BY x.due_at, j.id LIMIT 1
       FOR UPDATE OF j, x SKIP LOCKED;
    more := FOUND;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    BEGIN
        IF r.procedure !~ '^_job_[a-z0-9_]+$' OR to_regprocedure(format('crm.%I(timestamptz)', r.procedure)) IS NULL THEN
            UPDATE crm_data.job_run AS x SET state = 'skipped', started_at = clock_timestamp(), finished_at = clock_timestamp(), attempts = x.attempts + 1,
                   error = format('there is no function crm.%s(timestamptz)', r.procedure) WHERE x.id = r.id;
            note := format('%s due %s: skipped, it has no function', r.name, r.due_at);
            RETURN;
        END IF;
        UPDATE crm_data.job_run AS x SET started_at = clock_timestamp() WHERE x.id = r.id;
        EXECUTE format('SELECT crm.%I($1)', r.procedure) INTO v_rows USING r.due_at;
        UPDATE crm_data.job_run AS x SET state = 'done', finished_at = clock_timestamp(), attempts = x.attempts + 1, rows = v_rows, error = NULL WHERE x.id = r.id;
        note := format('%s due %s: done, %s rows', r.name, r.due_at, v_rows);
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS v_error = MESSAGE_TEXT;
        UPDATE crm_data.job_run AS x SET state = 'failed', started_at = coalesce(x.started_at, clock_timestamp()), finished_at = clock_timestamp(), attempts = x.attempts + 1, error = left(v_error, 1000),
               next_at = now() + interval '1 minute' * power(4, x.attempts) WHERE x.id = r.id;
        note := format('%s due %s: failed, %s', r.name, r.due_at, v_error);
        IF r.attempts + 1 >= r.max_attempts THEN
            INSERT INTO crm_data.alert (kind, level, message, dedupe_key) VALUES ('job_failed', 'orange', format('Job %s of %s failed for good.', r.name, r.due_at), format('job_failed:%s:%s', r.name, r.due_at))
            ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
        END IF;
    END;
END
$$;
COMMENT ON FUNCTION crm._run_jobs_step() IS 'Internal: one transaction of crm.run_jobs: notes what is due, or runs one run.';

CREATE OR REPLACE FUNCTION crm._tick_step(OUT more boolean, OUT note text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    v_n int := 0;
    v_breaches int;
    v_unrouted bigint;
    v_ids bigint[];
BEGIN
    PERFORM crm._local_days();
    -- overdue tasks: owner and manager hear of each once; at most 500 in a transaction
    FOR t IN
        SELECT k.id, left(k.title, 200) AS title, k.owner_id, k.account_id, k.due_at, k.kind, k.action_key, k.object, k.record_id
          FROM crm_data.task AS k
         WHERE k.state = 'open' AND k.notified_at IS NULL AND k.due_at < now() AND k.kind <> 'first_touch'
         ORDER BY k.due_at LIMIT 500 FOR UPDATE OF k SKIP LOCKED
    LOOP
        PERFORM crm._notify('task.overdue', 'task_overdue:' || t.id,
                            jsonb_build_object('task', t.id, 'title', t.title, 'due', crm._local_time(t.due_at)), array_remove(ARRAY[t.owner_id, crm._manager_of(t.owner_id)], NULL), t.account_id);
        UPDATE crm_data.task AS k SET notified_at = now() WHERE k.id = t.id;
        IF t.kind = 'stage_action' THEN
            PERFORM crm._emit('task.overdue', t.object, t.record_id, jsonb_build_object('id', t.id, 'kind', t.kind, 'action_key', t.action_key));
        END IF;
        v_n := v_n + 1;
    END LOOP;
    v_breaches := crm._first_touch_breaches(200);
    v_unrouted := crm._unrouted_leads(200);
    more := v_n >= 500 OR v_breaches >= 200 OR v_unrouted >= 200;
    v_n := v_n + v_breaches;
    -- locks that a duplicate put on its original fall when their time is over
    UPDATE crm_data.duplicate_pair AS d SET locks_target = false, updated_at = now(), updated_by = 'tick' WHERE d.state = 'open' AND d.locks_target AND d.lock_expires_at < now();
    UPDATE crm_data.approval AS a SET state = 'expired', updated_at = now(), updated_by = 'tick' WHERE a.state IN ('open', 'approved') AND a.expires_at < now();
    -- what waits for a channel that is down takes the other channels
    v_ids := ARRAY(SELECT o.id FROM crm_data.outbox AS o JOIN crm_data.channel AS c ON c.name = o.channel AND c.circuit = 'open' AND c.open_until > now()
                    WHERE o.state IN ('pending', 'failed') AND o.fallback <> '{}' AND o.next_at <= now() ORDER BY o.id LIMIT 500);
    IF v_ids <> '{}' THEN
        PERFORM crm._outbox_fall_back(v_ids, 'the channel is down');
    END IF;
    -- a message that ended every relay which took it is given up like one that could not be delivered
    v_ids := ARRAY(SELECT o.id FROM crm_data.outbox AS o WHERE o.state = 'claimed' AND o.claimed_until < now() AND o.attempts >= crm._outbox_attempts() ORDER BY o.id LIMIT 500 FOR UPDATE SKIP LOCKED);
    IF v_ids <> '{}' THEN
        PERFORM crm._outbox_fall_back(v_ids, 'no relay answered, often enough');
    END IF;
    IF EXISTS (SELECT FROM crm_data.outbox AS o WHERE o.state IN ('pending', 'failed') AND o.next_at <= now()) OR EXISTS (SELECT FROM crm_data.outbox AS o WHERE o.state = 'claimed' AND o.claimed_until < now()) THEN
        NOTIFY crm_outbox;      -- one a tick, without content
    END IF;
    -- writes that waited for the end of a lease; last, so that no customer is locked for longer than this takes
    PERFORM crm.apply_operations(NULL, 200);
    IF v_n > 0 THEN
        note := format('tick: %s overdue tasks handled', v_n);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._tick_step() IS 'Internal: first kind of transaction of crm.tick, again as long as timers are due: the timers, and what waits for a channel.';

CREATE OR REPLACE FUNCTION crm._tick_queues(OUT more boolean, OUT note text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._local_days();
    -- meetings whose summary is late after their end: each is told of once
    PERFORM crm._run_rules('timer.interaction', 'account', i.account_id, jsonb_build_object('id', i.id, 'kind', i.kind, 'summary', i.summary, 'age_minutes', round(extract(epoch FROM now() - i.occurred_at - coalesce(i.duration, '0')) / 60)))
       FROM crm_data.interaction AS i
      WHERE i.kind = 'meeting' AND i.summary IS NULL AND i.retracted_at IS NULL AND i.account_id IS NOT NULL
        AND i.occurred_at > now() - interval '1 day' AND i.occurred_at <= now() - make_interval(mins => crm._setting('transcript.sla', '5')::int) AND i.occurred_at + coalesce(i.duration, '0') <= now() - make_interval(mins => crm._setting('transcript.sla', '5')::int)
        -- a transcript is a follow-up of its own, and says which meeting it is of; what people write does not
        AND NOT EXISTS (SELECT FROM crm_data.interaction AS s WHERE s.account_id = i.account_id AND s.kind = 'meeting' AND s.summary IS NOT NULL AND s.retracted_at IS NULL
                           AND s.occurred_at BETWEEN i.occurred_at - interval '1 hour' AND i.occurred_at + interval '1 day' AND coalesce(s.detail ->> 'meeting', i.id::text) = i.id::text)
        AND NOT EXISTS (SELECT FROM crm_data.rule_match AS m WHERE m.object = 'account' AND m.record_id = i.account_id AND m.rule = 'transcript_late' AND m.fired AND m.key = format('transcript_late:account:%s:%s', i.account_id, i.id));
    more := crm._take_rule_events(200) >= 200;
    PERFORM crm.process_inbox(100);
    PERFORM crm.odds_apply(200);
    IF crm._sync_changes() > 0 THEN
        NOTIFY crm_outbox;
    END IF;
END
$$;
COMMENT ON FUNCTION crm._tick_queues() IS 'Internal: second kind of transaction of crm.tick, again as long as events wait for the rules: the queues, after the timers so that nothing in them holds a timer back.';

CREATE OR REPLACE FUNCTION crm._maintenance_step(OUT more boolean, OUT note text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_n bigint;
    v_rows bigint := 0;
    v_parts int;
BEGIN
    v_parts := crm._maintain_history(crm._setting('partition.months_ahead', '3')::int);
    DELETE FROM crm_data.inbox AS i WHERE i.id IN (SELECT x.id FROM crm_data.inbox AS x WHERE x.state = 'applied' AND x.created_at < now() - make_interval(days => crm._setting('keep.inbox', '90')::int) ORDER BY x.id LIMIT 5000);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    v_rows := v_rows + v_n;
    DELETE FROM crm_data.outbox AS o WHERE o.id IN (SELECT x.id FROM crm_data.outbox AS x WHERE x.state IN ('sent', 'dead', 'cancelled') AND x.created_at < now() - make_interval(days => crm._setting('keep.outbox', '90')::int)
                                                     AND NOT EXISTS (SELECT FROM crm_data.outbox AS k WHERE k.parent_id = x.id) ORDER BY x.id LIMIT 5000);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    v_rows := v_rows + v_n;
    DELETE FROM crm_data.rule_match AS m WHERE m.id IN (SELECT x.id FROM crm_data.rule_match AS x WHERE NOT x.fired AND x.at < now() - interval '60 days' ORDER BY x.id LIMIT 5000);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    v_rows := v_rows + v_n;
    -- the newest run of a job stays: it says from when on the next is due
    DELETE FROM crm_data.job_run AS r WHERE r.id IN (SELECT x.id FROM crm_data.job_run AS x WHERE x.state IN ('done', 'skipped', 'failed') AND x.due_at < now() - make_interval(days => crm._setting('keep.job_run', '400')::int)
                                                      AND EXISTS (SELECT FROM crm_data.job_run AS y WHERE y.job_id = x.job_id AND y.due_at > x.due_at) ORDER BY x.id LIMIT 5000);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    v_rows := v_rows + v_n;
    more := v_rows > 0;
    IF v_parts > 0 OR v_rows > 0 THEN
        note := format('maintenance: %s partitions made, %s old rows purged', v_parts, v_rows);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._maintenance_step() IS 'Internal: one transaction of crm.maintenance.';

CREATE OR REPLACE FUNCTION crm._clock_entries() RETURNS TABLE (name text, spec text, command text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.name, v.spec, v.command FROM (VALUES ('crm jobs', '* * * * *', 'CALL crm.run_jobs()'), ('crm maintenance', '20 18 * * *', 'CALL crm.maintenance()'), ('crm tick', '* * * * *', 'CALL crm.tick()')) AS v (name, spec, command);
END;
COMMENT ON FUNCTION crm._clock_entries() IS 'Internal: what a scheduler calls, and when: the entries of pg_cron.';

CREATE OR REPLACE FUNCTION crm.schedule() RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    j record;
    -- only some may read it, and the others are told the rest
    v_home text := CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('cron.database_name', true) END;
BEGIN
    -- pg_cron's own function, not one that somebody else gave this name
    IF NOT EXISTS (SELECT FROM pg_extension AS e JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
                     JOIN pg_proc AS p ON p.oid = d.objid JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE e.extname = 'pg_cron' AND n.nspname = 'cron' AND p.proname = 'schedule') THEN
        RAISE EXCEPTION 'pg_cron is not in this database' USING ERRCODE = 'feature_not_supported',
            HINT = CASE WHEN v_home IS NOT NULL AND v_home <> current_database()
                        THEN format('It runs from database %I. Run there: SELECT %s;', v_home,
                                    (SELECT string_agg(format('cron.schedule_in_database(%L, %L, %L, %L)', c.name, c.spec, c.command, current_database()), ', ' ORDER BY c.name) FROM crm._clock_entries() AS c))
                        ELSE 'CREATE EXTENSION pg_cron, or let any scheduler run CALL crm.tick() and CALL crm.run_jobs() every minute and CALL crm.maintenance() every night.' END;
    END IF;
    IF NOT has_schema_privilege('cron', 'USAGE') THEN
        RAISE EXCEPTION 'role "%" has no rights on pg_cron', current_user USING ERRCODE = 'insufficient_privilege', HINT = format('GRANT USAGE ON SCHEMA cron TO %I, or let a superuser call crm.schedule().', current_user);
    END IF;
    FOR j IN SELECT * FROM crm._clock_entries() LOOP
        EXECUTE 'SELECT cron.schedule($1, $2, $3)' USING j.name, j.spec, j.command;
        RETURN NEXT format('%s: %s', j.name, j.command);
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm.schedule() IS
'Registers the clock with pg_cron, for the calling role: tick and jobs every minute, maintenance nightly (18:20 GMT). Calling it again changes nothing. Needs rights on pg_cron''s schema; the calling role needs EXECUTE on the three procedures.
Errors: 0A000 pg_cron is not in this database: the hint has the statement to run where it is, or what to do without it; 42501 no rights on it.';

CREATE OR REPLACE FUNCTION crm._cron_purge(OUT more boolean, OUT note text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows bigint;
BEGIN
    more := false;
    IF to_regnamespace('cron') IS NULL OR NOT has_schema_privilege('cron', 'USAGE') OR to_regclass('cron.job_run_details') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE 'DELETE FROM cron.job_run_details AS d WHERE d.command = ANY ($1) AND d.database = current_database() AND d.end_time < now() - interval ''7 days'''
      USING ARRAY(SELECT c.command FROM crm._clock_entries() AS c);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    IF v_rows > 0 THEN
        note := format('maintenance: %s old entries of pg_cron''s run history purged', v_rows);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._cron_purge() IS 'Internal: with the caller''s rights, takes what pg_cron noted of our own entries more than a week ago out of its run history, which it never purges itself.';

CREATE OR REPLACE FUNCTION crm.unschedule() RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_n int;
BEGIN
    IF to_regnamespace('cron') IS NULL OR NOT has_schema_privilege('cron', 'USAGE') OR to_regclass('cron.job') IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE 'SELECT count(cron.unschedule(j.jobid)) FROM cron.job AS j WHERE j.jobname = ANY ($1) AND j.username = current_user' INTO v_n USING ARRAY(SELECT c.name FROM crm._clock_entries() AS c);
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm.unschedule() IS 'Takes the clock out of pg_cron again; returns how many entries went.';
