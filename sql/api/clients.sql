-- Client versions: how their saves go, which of them fell silent, and the fields that are switched off for one of them.

CREATE OR REPLACE FUNCTION crm._make_client_counts() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_name text;
BEGIN
    -- a count must outlive the rollback of the save that failed: sequences are the part of a database that no rollback touches
    FOREACH v_name IN ARRAY ARRAY['saves', 'failures'] LOOP
        EXECUTE format('CREATE SEQUENCE crm_data.%I', format('client_%s_%s', v_name, NEW.id));
        EXECUTE format('COMMENT ON SEQUENCE crm_data.%I IS %L', format('client_%s_%s', v_name, NEW.id), format('Count of the %s of a client version.', v_name));
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._make_client_counts() IS 'Trigger of client: makes the two counts of a client version. Internal.';
DROP TRIGGER IF EXISTS client_counts ON crm_data.client;
CREATE TRIGGER client_counts AFTER INSERT ON crm_data.client FOR EACH ROW EXECUTE FUNCTION crm._make_client_counts();
COMMENT ON TRIGGER client_counts ON crm_data.client IS 'Makes the counts of a client version.';
-- those that the migrations brought
DO $do$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT format('client_%s_%s', k, x.id) AS name, k AS what FROM crm_data.client AS x, unnest('{saves,failures}'::text[]) AS k WHERE to_regclass(format('crm_data.client_%s_%s', k, x.id)) IS NULL LOOP
        EXECUTE format('CREATE SEQUENCE crm_data.%I', c.name);
        EXECUTE format('COMMENT ON SEQUENCE crm_data.%I IS %L', c.name, format('Count of the %s of a client version.', c.what));
    END LOOP;
END
$do$;

CREATE OR REPLACE FUNCTION crm._client_add(name text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '100ms'
AS $$
DECLARE
    v_id bigint;
BEGIN
    -- names are the clients' own: more of them than there can be versions are not kept
    IF (SELECT count(*) FROM crm_data.client) < 500 THEN
        INSERT INTO crm_data.client (name) VALUES (_client_add.name) ON CONFLICT DO NOTHING RETURNING id INTO v_id;
    END IF;
    RETURN v_id;
EXCEPTION WHEN lock_not_available OR serialization_failure THEN
    RETURN NULL;        -- another session is about to
END
$$;
COMMENT ON FUNCTION crm._client_add(text) IS 'Internal: keeps a client version that is seen for the first time; NULL when another session does, or when there are 500.';

CREATE OR REPLACE FUNCTION crm._client() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_name text := current_setting('application_name');
    v_id bigint;
BEGIN
    IF v_name ~ '^[A-Za-z0-9][A-Za-z0-9 ._()-]{0,39}(/[A-Za-z0-9._-]{1,20})?$' THEN
        SELECT c.id INTO v_id FROM crm_data.client AS c WHERE c.name = v_name;
        IF FOUND THEN
            RETURN v_id;
        END IF;
        -- its counts are made in this transaction and would go with it: the first save counts among the unknown
        PERFORM crm._client_add(v_name);
    END IF;
    RETURN (SELECT c.id FROM crm_data.client AS c WHERE c.name = '*');
END
$$;
COMMENT ON FUNCTION crm._client() IS 'Internal: the client version that calls, by application_name, for counting; that of the unknown, *, until a transaction of it has been committed.';

CREATE OR REPLACE FUNCTION crm._count_client(what text, client bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- no lock, and a crash may skip some of both: a rate is asked for, not a sum
    PERFORM nextval(format('crm_data.client_%s_%s', what, client)::regclass);
END
$$;
COMMENT ON FUNCTION crm._count_client(text, bigint) IS 'Internal: counts a save of a client version, or one that failed, for good, whatever becomes of the transaction. what: saves or failures.';

CREATE OR REPLACE FUNCTION crm._off_fields(object text, endpoint text) RETURNS text[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_client text := current_setting('application_name');
BEGIN
    RETURN (SELECT coalesce(array_agg(DISTINCT split_part(f.name, '.', 2) ORDER BY split_part(f.name, '.', 2)), '{}')
              FROM crm_data.config AS c CROSS JOIN LATERAL jsonb_each(c.body -> 'fields') AS k CROSS JOIN LATERAL jsonb_array_elements_text(k.value) AS f (name)
             WHERE c.kind = 'flag' AND c.key = 'off_fields' AND c.scope = '*' AND c.status = 'active' AND coalesce((c.body ->> 'on')::boolean, false)
               AND k.key IN (endpoint, v_client, split_part(v_client, '/', 1)) AND split_part(f.name, '.', 1) = object AND f.name NOT IN ('account.code'));
END
$$;
COMMENT ON FUNCTION crm._off_fields(text, text) IS 'Internal: fields of an object that are switched off for the calling client (configuration flag/off_fields), which is meant by its application_name, by what stands there before the version, or by its endpoint (may be NULL). Never the code of a customer, which it is found by.';

CREATE OR REPLACE FUNCTION crm._off_problems(body jsonb) RETURNS TABLE (path text, message text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '$.fields'::text, 'an object is expected here: {"client": ["object.field"]}'::text WHERE jsonb_typeof(body -> 'fields') <> 'object'
    UNION ALL
    SELECT left('$.fields.' || k.key, 100), 'a client, by its application_name, name or endpoint, has a list of fields' FROM jsonb_each(CASE jsonb_typeof(body -> 'fields') WHEN 'object' THEN body -> 'fields' ELSE '{}' END) AS k
     WHERE jsonb_typeof(k.value) <> 'array' OR k.key = ''
    UNION ALL
    SELECT left('$.fields.' || k.key, 100), format('there is no field %s that could be switched off', left(f.value::text, 100))
      FROM jsonb_each(CASE jsonb_typeof(body -> 'fields') WHEN 'object' THEN body -> 'fields' ELSE '{}' END) AS k CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(k.value) WHEN 'array' THEN k.value ELSE '[]' END) AS f (value)
     WHERE jsonb_typeof(f.value) <> 'string' OR f.value = '"account.code"'
        OR NOT EXISTS (SELECT FROM crm_data.field AS r WHERE r.object || '.' || r.name = f.value #>> '{}' AND NOT r.custom AND r.write_class NOT IN ('fixed', 'engine'))
$$;
COMMENT ON FUNCTION crm._off_problems(jsonb) IS 'Internal: what is wrong with a list of fields that are switched off by client.';

-- ---------------------------------------------------------------- watch

CREATE OR REPLACE FUNCTION crm._client_rates(upto timestamptz)
    RETURNS TABLE (client_id bigint, name text, saves bigint, failures bigint, other_saves bigint, other_failures bigint, failing boolean, usual numeric, silent boolean)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH hour AS MATERIALIZED (
        SELECT c.id, c.name, coalesce(sum(n.saves), 0)::bigint AS saves, coalesce(sum(least(n.failures, n.saves)), 0)::bigint AS failures
          FROM crm_data.client AS c LEFT JOIN crm_data.client_count AS n ON n.client_id = c.id AND n.at > upto - interval '1 hour' AND n.at <= upto
         GROUP BY c.id, c.name),
    total AS (SELECT sum(h.saves)::bigint AS saves, sum(h.failures)::bigint AS failures FROM hour AS h),
    -- the same hour of the last four same days of the week, those before its first save left out, as for the sources
    week AS (
        SELECT h.id, percentile_cont(0.5) WITHIN GROUP (ORDER BY w.n) AS usual
          FROM hour AS h CROSS JOIN LATERAL (SELECT min(n.at) AS began FROM crm_data.client_count AS n WHERE n.client_id = h.id) AS b CROSS JOIN generate_series(7, 28, 7) AS d
         CROSS JOIN LATERAL (SELECT coalesce(sum(n.saves), 0) AS n FROM crm_data.client_count AS n
                              WHERE n.client_id = h.id AND n.at > upto - interval '1 hour' - make_interval(days => d) AND n.at <= upto - make_interval(days => d)) AS w
         WHERE b.began <= upto - interval '1 hour' - make_interval(days => d)
         GROUP BY h.id)
    SELECT h.id, h.name, h.saves, h.failures, t.saves - h.saves, t.failures - h.failures,
           h.failures >= crm._setting('client.failures_min', '5')::bigint AND t.saves - h.saves >= crm._setting('client.failures_min', '5')::bigint
           AND h.failures::numeric * (t.saves - h.saves) > crm._setting('client.failure_ratio', '5')::numeric * (t.failures - h.failures) * h.saves,
           round(w.usual::numeric, 1),
           h.name <> '*' AND (w.usual >= 10 AND h.saves <= w.usual * (1 - crm._setting('watchdog.drop', '70')::numeric / 100) OR w.usual >= 5 AND h.saves = 0)
           -- an old version falls silent when people take a newer one
           AND NOT EXISTS (SELECT FROM hour AS o WHERE o.saves > 0 AND o.name <> h.name AND split_part(o.name, '/', 1) = split_part(h.name, '/', 1)
                              AND CASE WHEN split_part(o.name, '/', 2) ~ '^[0-9]{1,9}(\.[0-9]{1,9})*$' AND split_part(h.name, '/', 2) ~ '^[0-9]{1,9}(\.[0-9]{1,9})*$'
                                       THEN string_to_array(split_part(o.name, '/', 2), '.')::int[] > string_to_array(split_part(h.name, '/', 2), '.')::int[] ELSE false END)
      FROM hour AS h CROSS JOIN total AS t LEFT JOIN week AS w ON w.id = h.id
     ORDER BY h.name COLLATE "C"
$$;
COMMENT ON FUNCTION crm._client_rates(timestamptz) IS 'Internal: saves of each client version in the hour before an instant and how many failed, beside those of all others; failing when its rate is above theirs by the setting client.failure_ratio (5 times) and enough were counted (client.failures_min); silent when setting watchdog.drop or more is missing of what it usually saves in this hour of the week, and no newer version of it saves instead.';

CREATE OR REPLACE FUNCTION crm._job_client_watch(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    v_saves bigint;
    v_failures bigint;
    v_alert bigint;
    v_n bigint := 0;
BEGIN
    FOR c IN SELECT x.* FROM crm_data.client AS x ORDER BY x.id FOR NO KEY UPDATE LOOP
        v_failures := greatest(coalesce(pg_sequence_last_value(format('crm_data.client_failures_%s', c.id)::regclass), 0), c.failures);
        v_saves := greatest(coalesce(pg_sequence_last_value(format('crm_data.client_saves_%s', c.id)::regclass), 0), c.saves);
        CONTINUE WHEN v_saves = c.saves AND v_failures = c.failures;
        INSERT INTO crm_data.client_count AS n (client_id, at, saves, failures) VALUES (c.id, date_bin('10 minutes', due, '2000-01-01 00:00Z'), v_saves - c.saves, v_failures - c.failures)
        ON CONFLICT (client_id, at) DO UPDATE SET saves = n.saves + excluded.saves, failures = n.failures + excluded.failures;
        UPDATE crm_data.client AS x SET saves = v_saves, failures = v_failures WHERE x.id = c.id;
    END LOOP;
    FOR c IN SELECT r.name, k.kind, CASE k.kind WHEN 'client_failures' THEN r.failing ELSE r.silent END AS on,
                    -- what says nothing changes nothing
                    CASE k.kind WHEN 'client_failures' THEN r.saves > 0 ELSE true END AS known,
                    CASE k.kind WHEN 'client_failures' THEN format('Saves through %s fail: %s of %s in an hour, against %s of %s through all others.', CASE r.name WHEN '*' THEN 'clients that never saved before' ELSE r.name END, r.failures, r.saves, r.other_failures, r.other_saves)
                                ELSE format('Hardly anything is saved through %s: %s in an hour, usually %s.', r.name, r.saves, r.usual) END AS message
               FROM crm._client_rates(due) AS r CROSS JOIN unnest('{client_failures,client_silent}'::text[]) AS k (kind) ORDER BY r.name COLLATE "C", k.kind LOOP
        IF c.on THEN
            INSERT INTO crm_data.alert (kind, level, object, message, dedupe_key) VALUES (c.kind, 'orange', 'client', c.message, c.kind || ':' || c.name)
            ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING
            RETURNING id INTO v_alert;
            IF FOUND THEN
                PERFORM crm._notify('alert.client', c.kind || ':' || v_alert, jsonb_build_object('client', c.name, 'kind', c.kind, 'alert', v_alert), crm._members_with('{crm_admin}'));
                v_n := v_n + 1;
            END IF;
        ELSIF c.known THEN
            UPDATE crm_data.alert AS a SET state = 'closed', closed_at = due, updated_at = now(), updated_by = 'client_watch' WHERE a.dedupe_key = c.kind || ':' || c.name AND a.state <> 'closed';
        END IF;
    END LOOP;
    DELETE FROM crm_data.client_count AS n WHERE n.at < due - interval '35 days';
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_client_watch(timestamptz) IS 'Job: reads the counts of the client versions; an alert, and word to administrators, for one whose saves fail far more often than those of the others and for one that fell silent; closed when it is over. Answers how many are new. Internal.';

CREATE OR REPLACE FUNCTION crm.client_list(upto timestamptz DEFAULT now())
    RETURNS TABLE (name text, first_seen timestamptz, saves bigint, failures bigint, failure_rate numeric, others_rate numeric, failing boolean, silent boolean, off_fields text[])
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.name, c.created_at, r.saves, r.failures, round(r.failures::numeric / nullif(r.saves, 0), 3), round(r.other_failures::numeric / nullif(r.other_saves, 0), 3), r.failing, r.silent,
           ARRAY(SELECT DISTINCT f.value FROM crm_data.config AS g CROSS JOIN LATERAL jsonb_each(g.body -> 'fields') AS k CROSS JOIN LATERAL jsonb_array_elements_text(k.value) AS f (value)
                  WHERE g.kind = 'flag' AND g.key = 'off_fields' AND g.scope = '*' AND g.status = 'active' AND coalesce((g.body ->> 'on')::boolean, false) AND k.key IN (r.name, split_part(r.name, '/', 1)) ORDER BY 1)
      FROM crm._client_rates(upto) AS r JOIN crm_data.client AS c ON c.id = r.client_id
$$;
COMMENT ON FUNCTION crm.client_list(timestamptz) IS
'The client versions that save customers, by application_name (* for all that are not known): how many saves they tried in an hour and how many failed, as a whole or for a field, beside the rate of all others; whether that is an alert, whether it fell silent, and the fields that are switched off for it (configuration flag/off_fields). Counted by the job client_watch every minute; saves that were rolled back count.
upto: end of the hour.';
