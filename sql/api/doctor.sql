-- crm.doctor: is everything in place that the engine's promises rest on?
--
-- Reads catalogs and a few engine tables, changes nothing. Each check is one row; what it cannot repair itself it names the command for. Objects
-- are found by rule (every table, every view), never from a list that could be forgotten.

-- What the views are now, right after the views' own file made them.
DELETE FROM crm_data.view_version;
INSERT INTO crm_data.view_version (name, digest)
SELECT c.relname, encode(sha256(convert_to(pg_get_viewdef(c.oid), 'UTF8')), 'hex')
  FROM pg_class AS c WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'v' AND c.relowner = 'crm_gate'::regrole;

CREATE OR REPLACE FUNCTION crm.verify_views()
RETURNS TABLE (view text, problem text)
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(v.name, c.relname::text),
           CASE WHEN c.oid IS NULL THEN 'missing' WHEN v.name IS NULL THEN 'not made by migrate' ELSE 'changed' END
      FROM crm_data.view_version AS v
           FULL JOIN (SELECT k.oid, k.relname FROM pg_class AS k WHERE k.relnamespace = 'crm'::regnamespace AND k.relkind = 'v') AS c ON c.relname = v.name
     WHERE c.oid IS NULL OR v.name IS NULL OR v.digest <> encode(sha256(convert_to(pg_get_viewdef(c.oid), 'UTF8')), 'hex')
     ORDER BY 1;
END;
COMMENT ON FUNCTION crm.verify_views() IS
'Views of schema crm that are not as the last migrate made them: missing, changed (somebody replaced the definition), or not made by migrate. No row: all are. CALL crm.migrate() makes them again.
For crm_admin. Changes nothing.';

CREATE OR REPLACE FUNCTION crm._views_changed() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    v record;
    v_alert bigint;
BEGIN
    -- migrate, which holds the lock of class 64, makes them; others' views are nothing to us. What is dropped is not named here.
    IF TG_TAG !~ '^(DROP|ALTER) ' AND NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() AS c WHERE c.schema_name = 'crm' OR c.object_identity ~ '\mcrm\.')
       OR EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.objsubid = 64 AND l.pid = pg_backend_pid() AND l.granted AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())) THEN
        RETURN;
    END IF;
    FOR v IN SELECT x.view, x.problem FROM crm.verify_views() AS x LOOP
        IF coalesce((SELECT (c.body ->> 'on')::boolean FROM crm_data.config AS c WHERE c.kind = 'flag' AND c.key = 'fixed_views' AND c.scope = '*' AND c.status = 'active'), false) THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('view "%s" is made by crm.migrate() and stays as it is', v.view),
                HINT = 'Make a view of your own in another schema. The configuration flag/fixed_views says whether views of schema crm may be changed.';
        END IF;
        INSERT INTO crm_data.alert (kind, level, message, dedupe_key) VALUES ('view_changed', 'red', crm._view_message(v.view, v.problem), 'view_changed:' || v.view)
        ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING RETURNING id INTO v_alert;
        IF FOUND THEN
            PERFORM crm._notify('alert.view', 'view_changed:' || v_alert, jsonb_build_object('view', v.view, 'alert', v_alert), crm._members_with('{crm_admin}'));
        END IF;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION crm._views_changed() IS
'Event trigger: at the end of a command that touched a view of schema crm and left it other than the last migrate made it, an alert and word to the administrators; with the configuration flag/fixed_views the command is refused instead. Internal.
Errors: 55000 refused.';

CREATE OR REPLACE FUNCTION crm._view_message(view text, problem text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN format('View %s is not as it was made: %s. CALL crm.migrate() makes it again.', view, problem);
COMMENT ON FUNCTION crm._view_message(text, text) IS 'Internal: what the alert of a changed view says.';

CREATE OR REPLACE FUNCTION crm.doctor()
RETURNS TABLE (name text, status text, found text, advice text)
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    bad text;
    n bigint;
    seen timestamptz;
    known int;
    applied int;
BEGIN
    -- library, extension, schema
    SELECT e.extversion INTO bad FROM pg_extension AS e WHERE e.extname = 'crm' AND e.extversion <> crm.version();
    RETURN QUERY SELECT 'extension version', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        CASE WHEN bad IS NULL THEN crm.version() ELSE format('extension %s, library %s', bad, crm.version()) END,
        CASE WHEN bad IS NOT NULL THEN 'Run ALTER EXTENSION crm UPDATE; CALL crm.migrate();' END;

    SELECT max(m.version) INTO known FROM crm.migration AS m;
    SELECT max(v.version), count(*) INTO applied, n FROM crm_data.schema_version AS v;
    RETURN QUERY SELECT 'schema version', CASE WHEN applied = known AND n = known THEN 'ok' ELSE 'error' END,
        format('schema %s with %s steps, library %s', applied, n, known),
        CASE WHEN applied IS DISTINCT FROM known OR n <> known THEN 'Run CALL crm.migrate();' END;

    -- the roles that own things
    SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) INTO bad
      FROM pg_roles AS r
     WHERE r.rolname IN ('crm_owner', 'crm_gate')
       AND (r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolreplication OR r.rolcreaterole
            OR EXISTS (SELECT FROM pg_auth_members AS m WHERE m.roleid = r.oid));
    RETURN QUERY SELECT 'owner roles', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce('can be used by people: ' || bad, 'nobody can log in as an owner or is a member'),
        CASE WHEN bad IS NOT NULL THEN 'ALTER ROLE ... NOLOGIN NOSUPERUSER NOBYPASSRLS NOREPLICATION NOCREATEROLE, and REVOKE it from its members.' END;

    SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) INTO bad
      FROM pg_roles AS r
     WHERE r.rolcanlogin AND (r.rolsuper OR r.rolbypassrls)
       AND EXISTS (SELECT FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
                    WHERE m.member = r.oid AND g.rolname LIKE 'crm\_%' AND g.rolname <> 'crm_backup');
    RETURN QUERY SELECT 'privileged people', CASE WHEN bad IS NULL THEN 'ok' ELSE 'warning' END,
        coalesce('see every row past the rules: ' || bad, 'no person of a crm role bypasses the rules'),
        CASE WHEN bad IS NOT NULL THEN 'Give daily work a login role without SUPERUSER and BYPASSRLS.' END;

    -- views
    SELECT string_agg(c.relname, ', ' ORDER BY c.relname) INTO bad
      FROM pg_class AS c
     WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('v', 'm')
       AND (c.relowner <> 'crm_gate'::regrole OR c.relkind = 'm'
            OR coalesce(c.reloptions, '{}') && ARRAY['security_invoker=true', 'security_invoker=on']);
    SELECT count(*) INTO n FROM pg_class AS c WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'v';
    RETURN QUERY SELECT 'view owners', CASE WHEN bad IS NULL AND n > 0 THEN 'ok' ELSE 'error' END,
        coalesce('not views of crm_gate: ' || bad, format('%s views belong to crm_gate', n)),
        CASE WHEN bad IS NOT NULL OR n = 0 THEN 'A view of another owner shows what its owner may see. Run CALL crm.migrate(); or ALTER VIEW crm.... OWNER TO crm_gate;' END;

    SELECT string_agg(format('%s (%s)', v.view, v.problem), ', ' ORDER BY v.view) INTO bad FROM crm.verify_views() AS v;
    RETURN QUERY SELECT 'view definitions', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce(left(bad, 200), 'as the last migrate made them'),
        CASE WHEN bad IS NOT NULL THEN 'Run CALL crm.migrate(); it makes them again. After an upgrade of PostgreSQL to another major version this is expected once.' END;

    -- tables and functions
    SELECT string_agg(c.relname, ', ' ORDER BY c.relname) INTO bad
      FROM pg_class AS c
     WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND c.relowner <> 'crm_owner'::regrole;
    RETURN QUERY SELECT 'table owners', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce('not of crm_owner: ' || bad, 'all tables belong to crm_owner'),
        CASE WHEN bad IS NOT NULL THEN 'ALTER TABLE crm_data.... OWNER TO crm_owner;' END;

    -- row security: a partition does not inherit its parent's
    SELECT string_agg(c.relname, ', ' ORDER BY c.relname), count(*) INTO bad, n
      FROM pg_class AS c
     WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p')
       AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polroles = ARRAY['crm_owner'::regrole::oid])
                AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND 0::oid = ANY (p.polroles)));
    RETURN QUERY SELECT 'row security', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        CASE WHEN bad IS NULL THEN 'enabled, forced and with its policies on every table and partition'
             ELSE format('%s tables without it: %s', n, left(bad, 200)) END,
        CASE WHEN bad IS NOT NULL THEN 'Run CALL crm.migrate();' END;

    -- rights
    SELECT string_agg(DISTINCT format('%s on %s', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, c.relname), ', ') INTO bad
      FROM pg_class AS c, LATERAL aclexplode(c.relacl) AS a
     WHERE c.relnamespace = 'crm_data'::regnamespace
       AND a.grantee <> ALL (ARRAY['crm_owner'::regrole, 'crm_gate'::regrole, 'crm_backup'::regrole]::oid[])
       AND a.grantee <> (SELECT s.nspowner FROM pg_namespace AS s WHERE s.nspname = 'crm_data');
    RETURN QUERY SELECT 'rights on tables', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce(left(bad, 200), 'people have none'),
        CASE WHEN bad IS NOT NULL THEN 'REVOKE ALL ON crm_data.... FROM ...; people read and write through the views of schema crm.' END;

    SELECT string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.proname) INTO bad
      FROM pg_proc AS p
     WHERE p.pronamespace = 'crm'::regnamespace
       AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0);
    RETURN QUERY SELECT 'rights on functions', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce('anybody may call ' || left(bad, 200), 'nothing is for PUBLIC'),
        CASE WHEN bad IS NOT NULL THEN 'Run CALL crm.migrate(); or REVOKE EXECUTE ON FUNCTION ... FROM PUBLIC;' END;

    -- triggers
    SELECT string_agg(format('%s on %s', t.tgname, t.tgrelid::regclass), ', ' ORDER BY t.tgrelid::regclass::text, t.tgname) INTO bad
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
     WHERE c.relnamespace IN ('crm_data'::regnamespace, 'crm'::regnamespace) AND NOT t.tgisinternal AND t.tgenabled IN ('D', 'R');
    RETURN QUERY SELECT 'triggers enabled', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce('switched off: ' || left(bad, 200), 'none is switched off'),
        CASE WHEN bad IS NOT NULL THEN 'Run CALL crm.migrate(); then SELECT * FROM crm.integrity_check();' END;

    SELECT string_agg(format('%s on %s', w.name, p.relid), ', ' ORDER BY p.relid::text, w.name) INTO bad
      FROM crm._protected_tables() AS p, unnest(ARRAY['zzz_crm_version', 'crm_history', 'crm_history_insert', 'crm_history_truncate']) AS w(name)
     WHERE NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = p.relid AND t.tgname = w.name AND t.tgenabled = 'A');
    RETURN QUERY SELECT 'history triggers', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce('missing or not ENABLE ALWAYS: ' || left(bad, 200), 'on every table with a history, always'),
        CASE WHEN bad IS NOT NULL THEN 'Run CALL crm.migrate(); then SELECT * FROM crm.integrity_check();' END;

    -- keys between tables: without an index every look at what hangs on a record, and every merge, reads the whole table
    SELECT string_agg(format('%s (%s)', c.conrelid::regclass, a.attname), ', ' ORDER BY c.conrelid::regclass::text, a.attname) INTO bad
      FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.contype = 'f' AND c.connamespace = 'crm_data'::regnamespace AND c.conparentid = 0
       AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1] AND i.indisvalid);
    RETURN QUERY SELECT 'keys indexed', CASE WHEN bad IS NULL THEN 'ok' ELSE 'warning' END,
        coalesce('no index on ' || left(bad, 200), 'every reference to another table has its index'),
        CASE WHEN bad IS NOT NULL THEN 'CREATE INDEX ON crm_data.... (...); a migration makes it again where it was dropped by hand: REINDEX where it is invalid.' END;

    -- what delivers in the background needs rights of its own, which nobody misses who looks at pages
    bad := crm._background_rights();
    RETURN QUERY SELECT 'background rights', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce('crm_sync may not call ' || left(bad, 200), 'crm_sync may take in and deliver'),
        CASE WHEN bad IS NOT NULL THEN 'Run CALL crm.migrate(); it grants them again.' END;

    -- partitions: the default one takes what has no month of its own, but then retiring a month means moving rows
    SELECT string_agg(c.relname, ', ' ORDER BY c.relname) INTO bad
      FROM pg_class AS c
     WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind = 'p'
       AND NOT EXISTS (
           SELECT FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhrelid,
                  LATERAL regexp_match(pg_get_expr(p.relpartbound, p.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS b
            WHERE i.inhparent = c.oid AND b IS NOT NULL
              AND now() + interval '1 month' >= b[1]::timestamptz AND now() + interval '1 month' < b[2]::timestamptz);
    RETURN QUERY SELECT 'partitions ahead', CASE WHEN bad IS NULL THEN 'ok' ELSE 'warning' END,
        coalesce('no partition for next month: ' || bad, 'made for this and the next month'),
        CASE WHEN bad IS NOT NULL THEN 'Run CALL crm.maintenance(); and let SELECT crm.schedule(); run it nightly.' END;

    -- the clock: a job that is due every minute leaves its run, the first one a minute after the schema was made
    SELECT max(r.finished_at) INTO seen FROM crm_data.job_run AS r;
    RETURN QUERY SELECT 'clock', CASE WHEN k.ticks THEN 'ok' ELSE 'warning' END,
        CASE WHEN seen IS NULL THEN 'no job ran yet'
             ELSE 'jobs last ran ' || date_trunc('second', greatest(clock_timestamp() - seen, interval '0')) || ' ago' END,
        CASE WHEN NOT k.ticks THEN 'SELECT crm.schedule() registers the jobs with pg_cron; without it let any scheduler run CALL crm.tick() and CALL crm.run_jobs() every minute.' END
      FROM (SELECT coalesce(seen, (SELECT min(j.starts_at) FROM crm_data.job AS j)) > clock_timestamp() - interval '3 minutes' AS ticks) AS k;

    -- durability
    SELECT string_agg(s, ', ') INTO bad
      FROM unnest(ARRAY['fsync', 'full_page_writes', 'synchronous_commit']) AS s WHERE current_setting(s) = 'off';
    RETURN QUERY SELECT 'durability', CASE WHEN bad IS NULL THEN 'ok' ELSE 'error' END,
        coalesce(bad || ' off', 'fsync, full_page_writes and synchronous_commit are on'),
        CASE WHEN bad IS NOT NULL THEN 'An acknowledged write can be lost in a crash: set them on.' END;
    RETURN QUERY SELECT 'data checksums', CASE WHEN current_setting('data_checksums') = 'on' THEN 'ok' ELSE 'warning' END,
        current_setting('data_checksums'),
        CASE WHEN current_setting('data_checksums') <> 'on' THEN 'Stop the server and run pg_checksums --enable, so that a failing disk shows.' END;

    -- minor releases of August 2026 re-plan when a role membership changes
    SELECT v.minor INTO bad
      FROM (VALUES (15, 20, '15.20'), (17, 11, '17.11'), (18, 6, '18.6')) AS v(major, least, minor)
     WHERE v.major = current_setting('server_version_num')::int / 10000 AND current_setting('server_version_num')::int % 10000 < v.least;
    RETURN QUERY SELECT 'server release', CASE WHEN bad IS NULL THEN 'ok' ELSE 'warning' END,
        split_part(current_setting('server_version'), ' ', 1),
        CASE WHEN bad IS NOT NULL THEN format('Update PostgreSQL to %s or newer: older ones rely on the engine alone to re-plan after REVOKE of a role.', bad) END;
END
$function$;
COMMENT ON FUNCTION crm.doctor() IS
'Checks what the engine''s promises rest on, one row each: versions, owners, row security, rights, triggers, durability, partitions, clock, view definitions.
Returns: name of the check; status ok, warning or error; what was found; advice, the command that mends it (NULL when ok).
For crm_admin. Changes nothing.';
