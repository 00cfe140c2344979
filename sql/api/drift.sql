-- Drift of the win probability: of its features, of its calibration, of the stream of its losses, of its definition.

CREATE OR REPLACE FUNCTION crm._drift_measures(from_at timestamptz, to_at timestamptz)
    RETURNS TABLE (model_id bigint, metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    m crm_data.model;
    config jsonb := crm._odds_config('drift');
    base float8;
    hash bytea;
BEGIN
    SELECT x.* INTO m FROM crm_data.model AS x WHERE x.name = 'win' AND x.status = 'champion';
    IF NOT FOUND THEN
        RETURN;
    END IF;

    -- features: rows of the span against those that the champion was fitted to
    RETURN QUERY
    WITH cell AS (
        SELECT d.name, v.value, count(*) FILTER (WHERE r.entered < m.as_of AND r.entered < from_at) AS e, count(*) FILTER (WHERE r.entered >= from_at AND r.entered < to_at) AS a
          FROM crm._win_rows(to_at, m.options -> 'cuts', m.options -> 'config') AS r, unnest(m.dims, r.dims) WITH ORDINALITY AS v (name, value, ord), LATERAL (SELECT v.name) AS d (name)
         GROUP BY d.name, v.value
    ), ranked AS (
        -- the fifty most usual values are bins, the others one more
        SELECT c.name, CASE WHEN row_number() OVER (PARTITION BY c.name ORDER BY c.e DESC, c.a DESC, c.value) <= 50 THEN coalesce(c.value, '(none)') ELSE '(other)' END AS bin, c.e, c.a FROM cell AS c
    ), bin AS (
        SELECT k.name, k.bin, sum(k.e)::float8 AS e, sum(k.a)::float8 AS a FROM ranked AS k GROUP BY k.name, k.bin
    )
    SELECT m.id, 'psi', b.name, (p.p).psi, (p.p).threshold, (p.p).level, b.n, b.bins
      FROM (SELECT x.name, array_agg(x.e ORDER BY x.bin) AS e, array_agg(x.a ORDER BY x.bin) AS a, sum(x.a)::bigint AS n, jsonb_object_agg(x.bin, jsonb_build_array(x.e, x.a)) AS bins FROM bin AS x GROUP BY x.name) AS b,
           LATERAL (SELECT crm.psi(b.e, b.a) AS p) AS p
     WHERE (p.p).psi IS NOT NULL;

    -- calibration: what was said of the deals that closed, before it was known
    RETURN QUERY
    SELECT m.id, 'observed_expected', g.segment, g.z, (config ->> 'calibration_z')::float8, CASE WHEN g.n < 30 THEN 'no_data' WHEN abs(g.z) > (config ->> 'calibration_z')::float8 THEN 'red' ELSE 'none' END, g.n,
           jsonb_build_object('observed', g.y, 'expected', g.p)
      FROM (SELECT x.segment, sum((s.features ->> '_outcome')::float8 - s.value) / nullif(sqrt(sum(s.value * (1 - s.value))), 0) AS z, count(*) AS n, avg((s.features ->> '_outcome')::float8) AS y, avg(s.value) AS p
              FROM crm_data.score AS s, LATERAL (VALUES ('*'), ('stage=' || (s.features ->> 'stage'))) AS x (segment)
             WHERE s.object = 'opportunity' AND s.features ? '_outcome' AND s.as_of >= from_at AND s.as_of < to_at AND x.segment IS NOT NULL
             GROUP BY x.segment) AS g
     WHERE g.z IS NOT NULL;

    -- stream: the losses since then against those before
    SELECT avg(-ln(CASE WHEN (s.features ->> '_outcome')::int = 1 THEN greatest(s.value, 1e-9) ELSE greatest(1 - s.value, 1e-9) END)) INTO base
      FROM crm_data.score AS s WHERE s.object = 'opportunity' AND s.features ? '_outcome' AND s.as_of < from_at AND s.as_of >= from_at - interval '1 year' HAVING count(*) >= 100;
    IF base IS NOT NULL THEN
        RETURN QUERY
        SELECT m.id, 'page_hinkley', '*', (p.r).statistic, (config #>> '{page_hinkley,lambda}')::float8, CASE WHEN (p.r).alarms > 0 THEN 'red' ELSE 'none' END, p.n, jsonb_build_object('alarms', (p.r).alarms, 'first', (p.r).first_row, 'baseline', base)
          FROM (SELECT crm.page_hinkley(-ln(CASE WHEN (s.features ->> '_outcome')::int = 1 THEN greatest(s.value, 1e-9) ELSE greatest(1 - s.value, 1e-9) END), base,
                                        (config #>> '{page_hinkley,delta}')::float8, (config #>> '{page_hinkley,lambda}')::float8 ORDER BY s.as_of, s.id) AS r, count(*) AS n
                  FROM crm_data.score AS s WHERE s.object = 'opportunity' AND s.features ? '_outcome' AND s.as_of >= from_at AND s.as_of < to_at) AS p;
    END IF;

    -- definition: the expression of every feature, and where deals come from
    hash := crm._odds_definition(crm._odds_config('win'));
    RETURN QUERY SELECT m.id, 'definition', '*', (hash <> m.definition_hash)::int::float8, 0::float8, CASE WHEN hash <> m.definition_hash THEN 'red' ELSE 'none' END, m.rows_used, jsonb_build_object('fitted', encode(m.definition_hash, 'hex'), 'now', encode(hash, 'hex'));
    RETURN QUERY
    SELECT m.id, 'source_share', coalesce(s.source, '(none)'), 100 * (s.a / nullif(sum(s.a) OVER (), 0) - s.e / nullif(sum(s.e) OVER (), 0)), (config ->> 'source_share_points')::float8,
           CASE WHEN sum(s.a) OVER () < 30 OR sum(s.e) OVER () < 30 THEN 'no_data'
                WHEN abs(100 * (s.a / sum(s.a) OVER () - s.e / sum(s.e) OVER ())) > (config ->> 'source_share_points')::float8 THEN 'red' ELSE 'none' END, s.a::bigint, '{}'::jsonb
      FROM (SELECT o.source, count(*) FILTER (WHERE o.created_at < from_at)::float8 AS e, count(*) FILTER (WHERE o.created_at >= from_at AND o.created_at < to_at)::float8 AS a
              FROM crm_data.opportunity AS o WHERE o.deleted_at IS NULL GROUP BY o.source) AS s;
END
$$;
COMMENT ON FUNCTION crm._drift_measures(timestamptz, timestamptz) IS 'Measures of drift of the champion over a span, see crm.drift. Internal.';

CREATE OR REPLACE FUNCTION crm.drift(from_at timestamptz, to_at timestamptz DEFAULT now())
    RETURNS TABLE (metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF from_at IS NULL OR to_at IS NULL OR from_at >= to_at THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'drift is measured over a span';
    END IF;
    RETURN QUERY SELECT d.metric, d.segment, d.value, d.threshold, d.level, d.n, d.detail FROM crm._drift_measures(from_at, to_at) AS d
                  ORDER BY CASE d.level WHEN 'red' THEN 0 WHEN 'yellow' THEN 1 ELSE 2 END, d.metric, d.segment;
END
$$;
COMMENT ON FUNCTION crm.drift(timestamptz, timestamptz) IS
'Has the world changed since the win probability was fitted? Over a span, the worst first.
metric: psi (a feature''s values against those of the fit, see crm.psi), observed_expected (z of the outcomes against what was said, by stage; threshold 4), page_hinkley (the losses against the year before), definition (a feature''s expression or the configuration is no longer the fit''s), source_share (points by which a source''s share of new deals moved); level: none, yellow, red or no_data. Refitting alone does not heal a feature that no longer means what it meant: look at psi and definition first.
Errors: 22023 no span.';

CREATE OR REPLACE FUNCTION crm._job_drift(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d record;
    alarms bigint := 0;
    today date := (due AT TIME ZONE (crm._odds_setting('organisation.timezone') #>> '{}'))::date;
    span daterange := daterange(today - 30, today);
BEGIN
    FOR d IN SELECT x.* FROM crm._drift_measures(due - interval '30 days', due) AS x WHERE x.level <> 'no_data' ORDER BY x.metric, x.segment LOOP
        INSERT INTO crm_data.model_metric (model_id, metric, segment, period, value, n, threshold, alarmed, detail)
        VALUES (d.model_id, d.metric, d.segment, span, d.value, d.n, d.threshold, d.level <> 'none', d.detail)
        ON CONFLICT DO NOTHING;
        IF d.level <> 'none' THEN
            INSERT INTO crm_data.alert (kind, level, message, value, factors, dedupe_key)
            VALUES ('model_drift', d.level, format('win probability: %s of %s is %s, threshold %s', d.metric, d.segment, round(d.value::numeric, 3), round(d.threshold::numeric, 3)),
                    d.value, '[]', format('drift:win:%s:%s', d.metric, d.segment))
            ON CONFLICT DO NOTHING;
            alarms := alarms + 1;
        END IF;
    END LOOP;
    RETURN alarms;
END
$$;
COMMENT ON FUNCTION crm._job_drift(timestamptz) IS 'Job: measures the drift of the last thirty days, keeps the figures, raises an alert for each that is out of bounds; answers how many. Internal.';

CREATE OR REPLACE FUNCTION crm._is_decayed(name text, at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM crm_data.model_metric AS k JOIN crm_data.model AS m ON m.id = k.model_id
                    WHERE m.name = _is_decayed.name AND m.status = 'champion' AND k.alarmed AND k.metric IN ('observed_expected', 'precision', 'sentinel') AND k.segment = '*'
                      AND k.created_at <= _is_decayed.at AND k.created_at > _is_decayed.at - interval '7 days');
END;
COMMENT ON FUNCTION crm._is_decayed(text, timestamptz) IS 'Whether the drift monitor found the champion of a model wrong in the week before a time. Internal.';
