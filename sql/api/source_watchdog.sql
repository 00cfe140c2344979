-- Watchdog over the sources: one that sends far less than it usually does at this time of day is told of, until it sends again.

CREATE OR REPLACE FUNCTION crm._source_volume(at timestamptz)
    RETURNS TABLE (source_id bigint, source text, span interval, usual numeric, found bigint, silent boolean)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- ten minutes tell soon, an hour tells of sources that send little. What is usual is the median of the same minutes of the last four same days of the week,
    -- those before the source's first payload left out: a Sunday is not a Friday. Fewer than ten expected payloads tell nothing by a share, five by silence.
    SELECT s.id, s.name, w.span, round(u.usual::numeric, 1), f.found, u.usual >= 10 AND f.found <= u.usual * (1 - crm._setting('watchdog.drop', '70')::numeric / 100) OR u.usual >= 5 AND f.found = 0
      FROM crm_data.source_system AS s CROSS JOIN (VALUES (interval '10 minutes'), (interval '1 hour')) AS w (span)
     CROSS JOIN LATERAL (SELECT min(i.created_at) AS began FROM crm_data.inbox AS i WHERE i.source_id = s.id) AS h
     CROSS JOIN LATERAL (SELECT count(*) AS found FROM crm_data.inbox AS i WHERE i.source_id = s.id AND i.created_at > at - w.span AND i.created_at <= at) AS f
     CROSS JOIN LATERAL (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x.n) AS usual FROM generate_series(7, 28, 7) AS d
                          CROSS JOIN LATERAL (SELECT count(*) AS n FROM crm_data.inbox AS i
                                               WHERE i.source_id = s.id AND i.created_at > at - w.span - make_interval(days => d) AND i.created_at <= at - make_interval(days => d)) AS x
                          WHERE h.began <= at - w.span - make_interval(days => d)) AS u
     WHERE s.enabled AND s.mode = 'push'
     ORDER BY s.id, w.span
$$;
COMMENT ON FUNCTION crm._source_volume(timestamptz) IS 'Internal: payloads of each source that sends by itself in the last ten minutes and the last hour, against the median of the same minutes of the last four same days of the week; silent when setting watchdog.drop (70 %) or more is missing of at least ten, or all of at least five.';

CREATE OR REPLACE FUNCTION crm._job_source_watchdog(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v record;
    v_alert bigint;
    v_n bigint := 0;
BEGIN
    FOR v IN SELECT x.source_id, x.source, bool_or(x.silent) AS silent, string_agg(format('%s of about %s in %s minutes', x.found, x.usual, round(extract(epoch FROM x.span) / 60)), ', ' ORDER BY x.span) FILTER (WHERE x.silent) AS message
               FROM crm._source_volume(due) AS x GROUP BY x.source_id, x.source ORDER BY x.source_id LOOP
        IF v.silent THEN
            INSERT INTO crm_data.alert (kind, level, object, record_id, message, dedupe_key)
            VALUES ('source_silent', 'orange', 'source_system', v.source_id, format('The source %s is nearly silent: %s.', v.source, v.message), 'source_silent:' || v.source)
            ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING
            RETURNING id INTO v_alert;
            IF FOUND THEN
                PERFORM crm._notify('alert.source', 'source_silent:' || v_alert, jsonb_build_object('source', v.source, 'alert', v_alert),
                                    crm._members_with('{crm_admin}') || ARRAY(SELECT s.steward_id FROM crm_data.source_system AS s WHERE s.id = v.source_id AND s.steward_id IS NOT NULL));
                v_n := v_n + 1;
            END IF;
        ELSE
            UPDATE crm_data.alert AS a SET state = 'closed', closed_at = due, updated_at = now(), updated_by = 'watchdog' WHERE a.dedupe_key = 'source_silent:' || v.source AND a.state <> 'closed';
        END IF;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_source_watchdog(timestamptz) IS 'Job: an alert, and word to administrators and the steward, for each source that fell nearly silent; closed when it sends again. Answers how many are new. Internal.';
