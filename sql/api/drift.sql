-- Drift of the models: of their features, of their calibration, of the stream of their losses, of their definition.

-- PSI of every feature from the counts of its values, the fifty most usual ones being bins and the others one more.
CREATE OR REPLACE FUNCTION crm._psi_of(cells text[], expected bigint[], actual bigint[]) RETURNS TABLE (metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE -- not STRICT: no cells give no rows
BEGIN ATOMIC
    WITH ranked AS (
        SELECT split_part(c.cell, E'\t', 1) AS name,
               CASE WHEN row_number() OVER (PARTITION BY split_part(c.cell, E'\t', 1) ORDER BY c.e DESC, c.a DESC, c.cell) <= 50 THEN substr(c.cell, strpos(c.cell, E'\t') + 1) ELSE '(other)' END AS bin, c.e, c.a
          FROM unnest(_psi_of.cells, _psi_of.expected, _psi_of.actual) AS c (cell, e, a)
    ), bin AS (
        SELECT k.name, k.bin, sum(k.e)::float8 AS e, sum(k.a)::float8 AS a FROM ranked AS k GROUP BY k.name, k.bin
    )
    SELECT 'psi' AS monitor, b.name, (p.p).psi, (p.p).threshold, (p.p).level, b.n, b.bins
      FROM (SELECT x.name, array_agg(x.e ORDER BY x.bin) AS e, array_agg(x.a ORDER BY x.bin) AS a, sum(x.a)::bigint AS n, jsonb_object_agg(x.bin, jsonb_build_array(x.e, x.a)) AS bins FROM bin AS x GROUP BY x.name) AS b,
           LATERAL (SELECT crm.psi(b.e, b.a) AS p) AS p
     WHERE (p.p).psi IS NOT NULL;
END;
COMMENT ON FUNCTION crm._psi_of(text[], bigint[], bigint[]) IS 'PSI of each feature; cells: feature, tab, value; expected, actual: how often then and now. Internal.';

CREATE OR REPLACE FUNCTION crm._ks_of(expected float8[], actual float8[], features int, OUT value float8, OUT threshold float8, OUT level text, OUT n bigint, OUT detail jsonb)
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE -- not STRICT: a missing sample gives no value
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    e float8 := coalesce(cardinality(expected), 0);
    a float8 := coalesce(cardinality(actual), 0);
    k record;
BEGIN
    n := a;
    level := 'no_data';
    IF e = 0 OR a = 0 THEN
        RETURN;
    END IF;
    SELECT x.distance, x.p INTO k FROM crm.ks_test(expected, actual) AS x;
    value := k.distance;
    -- distance that chance exceeds once in a thousand times the number of features
    threshold := sqrt(-ln(0.001 / features / 2) / 2 * (e + a) / (e * a));
    IF e >= 30 AND a >= 30 THEN
        -- with very many cases every difference is certain; a small one is none of ours
        level := CASE WHEN k.p >= 0.001 / features OR value < 0.05 THEN 'none' WHEN value >= 0.25 THEN 'red' ELSE 'yellow' END;
    END IF;
    detail := jsonb_build_object('p', k.p, 'median_then', (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u) FROM unnest(expected) AS u), 'median_now', (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u) FROM unnest(actual) AS u));
END
$$;
COMMENT ON FUNCTION crm._ks_of(float8[], float8[], int) IS 'Kolmogorov-Smirnov test of the numbers of a feature then and now, one of several features that are tested: none, yellow, red from a distance of 0.25, no_data with fewer than 30 on a side. Internal.';

CREATE OR REPLACE FUNCTION crm._drift_win(from_at timestamptz, to_at timestamptz)
    RETURNS TABLE (model_id bigint, metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' -- days and months are the same whoever asks
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

    -- features: rows of the span against those that the champion was fitted to; the amount and the days to the planned close also as the numbers they are
    RETURN QUERY
    WITH row_of AS MATERIALIZED (
        SELECT r.seq, r.dims, crm._to_base(r.amount, r.currency, r.entered::date)::float8 AS amount, (r.close_date - r.entered::date)::float8 AS days,
               r.entered < m.as_of AND r.entered < from_at AS before, r.entered >= from_at AND r.entered < to_at AS after
          FROM crm._win_rows(to_at, m.options -> 'cuts', m.options -> 'config') AS r
    ), cell AS (
        SELECT d.name, v.value, count(*) FILTER (WHERE r.before) AS e, count(*) FILTER (WHERE r.after) AS a
          FROM row_of AS r, unnest(m.dims, r.dims) WITH ORDINALITY AS v (name, value, ord), LATERAL (SELECT v.name) AS d (name)
         -- what turns with the calendar differs between a month and a year without any change of the world
         WHERE d.name NOT IN ('fiscal_phase', 'close_month_in_quarter')
         GROUP BY d.name, v.value
    ), raw AS (
        SELECT x.name, array_agg(x.value) FILTER (WHERE r.before) AS e, array_agg(x.value) FILTER (WHERE r.after) AS a
          FROM row_of AS r, LATERAL (VALUES ('amount', r.amount), ('days_to_close', r.days)) AS x (name, value) WHERE r.seq = 1 AND x.value IS NOT NULL GROUP BY x.name
    )
    SELECT m.id, p.metric, p.segment, p.value, p.threshold, p.level, p.n, p.detail FROM crm._psi_of((SELECT array_agg(c.name || E'\t' || coalesce(c.value, '(none)') ORDER BY c.name, c.value) FROM cell AS c),
             (SELECT array_agg(c.e ORDER BY c.name, c.value) FROM cell AS c), (SELECT array_agg(c.a ORDER BY c.name, c.value) FROM cell AS c)) AS p
    UNION ALL
    SELECT m.id, 'ks', w.name, (k.k).value, (k.k).threshold, (k.k).level, (k.k).n, (k.k).detail FROM raw AS w, LATERAL (SELECT crm._ks_of(w.e, w.a, 2) AS k) AS k WHERE (k.k).value IS NOT NULL;

    -- what was said of deals, against what was said before
    RETURN QUERY
    WITH bin AS (
        SELECT width_bucket(s.value, 0, 1, 10)::text AS bin, count(*) FILTER (WHERE s.as_of < from_at) AS e, count(*) FILTER (WHERE s.as_of >= from_at AND s.as_of < to_at) AS a
          FROM crm_data.score AS s WHERE s.object = 'opportunity' AND s.as_of >= from_at - interval '1 year' GROUP BY 1
    )
    SELECT m.id, p.metric, p.segment, p.value, p.threshold, p.level, p.n, p.detail
      FROM crm._psi_of((SELECT array_agg(E'score\t' || b.bin ORDER BY b.bin) FROM bin AS b), (SELECT array_agg(b.e ORDER BY b.bin) FROM bin AS b), (SELECT array_agg(b.a ORDER BY b.bin) FROM bin AS b)) AS p;

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
COMMENT ON FUNCTION crm._drift_win(timestamptz, timestamptz) IS 'Measures of drift of the win probability''s champion over a span, see crm.drift. Internal.';

-- The churn and the renewal model: their customers now against those of the fit, and what they said a horizon ago against what came.
CREATE OR REPLACE FUNCTION crm._drift_customers(name text, from_at timestamptz, to_at timestamptz)
    RETURNS TABLE (model_id bigint, metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' -- days and months are the same whoever asks
AS $$
#variable_conflict use_column
DECLARE
    m crm_data.model;
    config jsonb := crm._odds_config('drift');
    own jsonb := crm._odds_config(_drift_customers.name);
    limit_z float8 := (config ->> 'calibration_z')::float8;
    nominal float8 := (own ->> 'nominal_accuracy')::float8;
    span interval := CASE _drift_customers.name WHEN 'churn' THEN (own ->> 'horizon')::interval
                          ELSE make_interval(days => coalesce((crm._odds_setting('renewal.window') #>> '{}')::int, 90)) + (own ->> 'window')::interval END;
    hash bytea;
    -- what a feature of another definition said is no evidence about this one
    is_same boolean;
BEGIN
    SELECT x.* INTO m FROM crm_data.model AS x WHERE x.name = _drift_customers.name AND x.status = 'champion' AND x.options ->> 'status' = 'ok';
    IF NOT FOUND THEN
        RETURN;
    END IF;

    -- features: as the last customers of the fit stood, and as they stand now
    RETURN QUERY
    WITH row_of AS (
        SELECT false AS after, x.p, c.dims
          FROM (SELECT r.dims FROM crm._churn_rows(least(m.as_of, from_at), m.options -> 'config') AS r WHERE _drift_customers.name = 'churn'
                UNION ALL SELECT r.dims FROM crm._renewal_rows(least(m.as_of, from_at), m.options -> 'config') AS r WHERE _drift_customers.name = 'renewal') AS c, crm.lattice_predict(m.params::crm.lattice, c.dims) AS x
        UNION ALL
        SELECT true, s.p, s.dims FROM crm._customer_scores(_drift_customers.name, to_at) AS s
    ), cell AS (
        SELECT v.name || E'\t' || coalesce(v.value, '(none)') AS cell, count(*) FILTER (WHERE NOT r.after) AS e, count(*) FILTER (WHERE r.after) AS a
          FROM row_of AS r, LATERAL (SELECT u.name, u.value FROM unnest(m.dims, r.dims) AS u (name, value) UNION ALL SELECT 'score', width_bucket(r.p, 0, 1, 10)::text) AS v (name, value) GROUP BY 1
    )
    SELECT m.id, p.metric, p.segment, p.value, p.threshold, p.level, p.n, p.detail
      FROM crm._psi_of((SELECT array_agg(c.cell ORDER BY c.cell) FROM cell AS c), (SELECT array_agg(c.e ORDER BY c.cell) FROM cell AS c), (SELECT array_agg(c.a ORDER BY c.cell) FROM cell AS c)) AS p;

    -- the numbers behind the features: use that is counted, use by whatever way, cases, days of silence
    RETURN QUERY
    WITH asked AS (SELECT false AS after, least(m.as_of, from_at) AS at UNION ALL SELECT true, to_at),
    number AS (
        SELECT a.after, x.name, x.value
          FROM asked AS a
         CROSS JOIN LATERAL (SELECT c.account_id FROM crm._churn_rows(a.at, crm._odds_config('churn')) AS c) AS c
         CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE e.channel IS NULL OR own -> 'sources' IS NULL OR own -> 'sources' = '[]' OR own -> 'sources' ? e.channel) AS counted, count(*) AS used
                               FROM crm_data.event AS e WHERE e.account_id = c.account_id AND e.occurred_at > a.at - interval '90 days' AND e.occurred_at <= a.at) AS u
         CROSS JOIN LATERAL (VALUES ('use_counted', u.counted::float8), ('use', u.used::float8),
                                    ('cases', (SELECT count(*) FROM crm_data.task AS t WHERE t.account_id = c.account_id AND t.kind = 'case' AND t.created_at > a.at - interval '90 days' AND t.created_at <= a.at)::float8),
                                    ('silence_days', (SELECT extract(epoch FROM a.at - max(i.occurred_at))::float8 / 86400 FROM crm_data.interaction AS i WHERE i.account_id = c.account_id AND i.occurred_at <= a.at AND i.retracted_at IS NULL))) AS x (name, value)
         WHERE x.value IS NOT NULL
    ), raw AS (SELECT z.name, array_agg(z.value) FILTER (WHERE NOT z.after) AS e, array_agg(z.value) FILTER (WHERE z.after) AS a FROM number AS z GROUP BY z.name)
    SELECT m.id, 'ks', w.name, (k.k).value, (k.k).threshold, (k.k).level, (k.k).n, (k.k).detail FROM raw AS w, LATERAL (SELECT crm._ks_of(w.e, w.a, 4) AS k) AS k WHERE (k.k).value IS NOT NULL;

    -- calibration: what the version of that time said a horizon ago, against what came since
    SELECT x.definition_hash = m.definition_hash INTO is_same FROM crm_data.model AS x WHERE x.id = crm._customer_model(_drift_customers.name, to_at - span);
    RETURN QUERY
    WITH said AS MATERIALIZED (
        SELECT s.p, CASE _drift_customers.name WHEN 'churn' THEN NOT crm._has_bought(s.record_id, to_at - span, to_at)
                         ELSE crm._has_bought(s.account_id, to_at - span, (SELECT c.expires_on FROM crm_data.contract AS c WHERE c.id = s.record_id) + (own ->> 'window')::interval) END::int AS y, a.type
          FROM crm._customer_scores(_drift_customers.name, to_at - span) AS s JOIN crm_data.account AS a ON a.id = s.account_id
    ), of AS (
        SELECT g.segment, sum(s.y - s.p) / nullif(sqrt(sum(s.p * (1 - s.p))), 0) AS z, count(*) AS n, avg(s.y) AS y, avg(s.p) AS p
          FROM said AS s, LATERAL (VALUES ('*'), ('account_type=' || s.type)) AS g (segment) WHERE g.segment IS NOT NULL GROUP BY g.segment
    )
    SELECT m.id, 'observed_expected', o.segment, o.z, limit_z, CASE WHEN o.n < 30 OR NOT is_same THEN 'no_data' WHEN abs(o.z) > limit_z THEN 'red' ELSE 'none' END, o.n, jsonb_build_object('observed', o.y, 'expected', o.p)
      FROM of AS o WHERE o.z IS NOT NULL
    UNION ALL
    -- of those told to have it, how many had it: alarmed when further below the accepted figure than chance allows
    SELECT m.id, 'precision', '*', f.hit, nominal, CASE WHEN f.n < 30 OR NOT is_same THEN 'no_data' WHEN (f.hit - nominal) / sqrt(nominal * (1 - nominal) / f.n) < -limit_z THEN 'red' ELSE 'none' END, f.n, jsonb_build_object('found', f.found)
      FROM (SELECT avg(s.y) FILTER (WHERE s.p >= 0.5)::float8 AS hit, count(*) FILTER (WHERE s.p >= 0.5) AS n, (sum(s.y) FILTER (WHERE s.p >= 0.5))::float8 / nullif(sum(s.y), 0) AS found FROM said AS s) AS f
     WHERE f.hit IS NOT NULL AND nominal BETWEEN 0.01 AND 0.99;

    -- definition, and ways of use that the features do not count
    hash := crm._customer_definition(_drift_customers.name, own);
    RETURN QUERY SELECT m.id, 'definition', '*', (hash <> m.definition_hash)::int::float8, 0::float8, CASE WHEN hash <> m.definition_hash THEN 'red' ELSE 'none' END, m.rows_used, jsonb_build_object('fitted', encode(m.definition_hash, 'hex'), 'now', encode(hash, 'hex'));
    RETURN QUERY
    SELECT m.id, 'new_source', x.channel, 100 * x.n / sum(x.n) OVER (), (config ->> 'new_source_percent')::float8,
           CASE WHEN sum(x.n) OVER () < 30 THEN 'no_data' WHEN NOT own -> 'sources' ? x.channel AND 100 * x.n / sum(x.n) OVER () > (config ->> 'new_source_percent')::float8 THEN 'red' ELSE 'none' END, x.n::bigint,
           jsonb_build_object('counted', own -> 'sources' ? x.channel)
      FROM (SELECT e.channel, count(*)::float8 AS n FROM crm_data.event AS e WHERE e.occurred_at >= from_at AND e.occurred_at < to_at AND e.channel IS NOT NULL GROUP BY e.channel) AS x
     WHERE jsonb_array_length(coalesce(own -> 'sources', '[]')) > 0;
END
$$;
COMMENT ON FUNCTION crm._drift_customers(text, timestamptz, timestamptz) IS 'Measures of drift of the churn or the renewal model''s champion over a span, see crm.drift. Internal.';

-- Cases whose answer is known: whatever else moves, the champion must still give it.
CREATE OR REPLACE FUNCTION crm._drift_sentinels() RETURNS TABLE (model_id bigint, metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT m.id, 'sentinel' AS metric, coalesce(s.body ->> 'name', s.ord::text), p.p, CASE WHEN p.p < b.least THEN b.least ELSE b.most END, CASE WHEN p.p BETWEEN b.least AND b.most THEN 'none' ELSE 'red' END, m.rows_used, s.body
      FROM jsonb_array_elements(coalesce(crm._odds_config('drift') -> 'sentinels', '[]')) WITH ORDINALITY AS s (body, ord)
      JOIN crm_data.model AS m ON m.name = s.body ->> 'model' AND m.status = 'champion' AND m.params IS NOT NULL AND m.options ->> 'status' = 'ok'
     CROSS JOIN LATERAL (SELECT coalesce((s.body ->> 'least')::float8, 0) AS least, coalesce((s.body ->> 'most')::float8, 1) AS most) AS b
     CROSS JOIN LATERAL crm.lattice_predict(m.params::crm.lattice, ARRAY(SELECT s.body -> 'values' ->> d.name FROM unnest(m.dims) WITH ORDINALITY AS d (name, ord) ORDER BY d.ord)) AS p;
END;
COMMENT ON FUNCTION crm._drift_sentinels() IS 'The configured sentinels (odds/drift: name, model, values by dimension, least, most) and what their champion says of them. Internal.';

CREATE OR REPLACE FUNCTION crm._drift_measures(from_at timestamptz, to_at timestamptz)
    RETURNS TABLE (model text, model_id bigint, metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
    SELECT m.name, d.model_id, d.metric, d.segment, d.value, d.threshold, d.level, d.n, d.detail
      FROM (SELECT * FROM crm._drift_win(_drift_measures.from_at, _drift_measures.to_at)
            UNION ALL SELECT * FROM crm._drift_customers('churn', _drift_measures.from_at, _drift_measures.to_at)
            UNION ALL SELECT * FROM crm._drift_customers('renewal', _drift_measures.from_at, _drift_measures.to_at)
            UNION ALL SELECT * FROM crm._drift_sentinels()) AS d JOIN crm_data.model AS m ON m.id = d.model_id;
END;
COMMENT ON FUNCTION crm._drift_measures(timestamptz, timestamptz) IS 'Measures of drift of the champions over a span, see crm.drift. Internal.';

CREATE OR REPLACE FUNCTION crm.drift(from_at timestamptz, to_at timestamptz DEFAULT now())
    RETURNS TABLE (model text, metric text, segment text, value float8, threshold float8, level text, n bigint, detail jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF from_at IS NULL OR to_at IS NULL OR from_at >= to_at OR NOT isfinite(from_at) OR NOT isfinite(to_at) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'drift is measured over a span';
    END IF;
    RETURN QUERY SELECT d.model, d.metric, d.segment, d.value, d.threshold, d.level, d.n, d.detail FROM crm._drift_measures(from_at, to_at) AS d
                  ORDER BY CASE d.level WHEN 'red' THEN 0 WHEN 'yellow' THEN 1 ELSE 2 END, d.model, d.metric, d.segment;
END
$$;
COMMENT ON FUNCTION crm.drift(timestamptz, timestamptz) IS
'Has the world changed since the models win, churn and renewal were fitted? Over a span, the worst first.
metric: psi (a feature''s values, or the model''s own scores, against those of the fit, see crm.psi; not of the two features that turn with the calendar), ks (numbers behind the features, see crm.ks_test), observed_expected (z of the outcomes against what was said, by segment; threshold 4), precision (share of those told to churn that did, against the accepted one), page_hinkley (the losses against the year before), definition (a feature''s expression or the configuration is no longer the fit''s), source_share (points by which a source''s share of new deals moved), new_source (percent of use by a way that the features do not count), sentinel (a case whose answer is known); level: none, yellow, red or no_data. Refitting alone does not heal a feature that no longer means what it meant: look at psi, new_source and definition first.
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
    FOR d IN SELECT x.* FROM crm._drift_measures(due - interval '30 days', due) AS x WHERE x.level <> 'no_data' ORDER BY x.model, x.metric, x.segment LOOP
        INSERT INTO crm_data.model_metric (model_id, metric, segment, period, value, n, threshold, alarmed, detail)
        VALUES (d.model_id, d.metric, d.segment, span, d.value, d.n, d.threshold, d.level <> 'none', d.detail)
        ON CONFLICT DO NOTHING;
        IF d.level <> 'none' THEN
            INSERT INTO crm_data.alert (kind, level, message, value, factors, dedupe_key)
            VALUES ('model_drift', d.level, format('model %s: %s of %s is %s, threshold %s', d.model, d.metric, d.segment, round(d.value::numeric, 3), round(d.threshold::numeric, 3)),
                    d.value, '[]', format('drift:%s:%s:%s', d.model, d.metric, d.segment))
            ON CONFLICT DO NOTHING;
            alarms := alarms + 1;
        END IF;
    END LOOP;
    RETURN alarms;
END
$$;
COMMENT ON FUNCTION crm._job_drift(timestamptz) IS 'Job: measures the drift of the models over the last thirty days, keeps the figures, raises an alert for each that is out of bounds; answers how many. Internal.';

CREATE OR REPLACE FUNCTION crm._is_decayed(name text, at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM crm_data.model_metric AS k JOIN crm_data.model AS m ON m.id = k.model_id
                    WHERE m.name = _is_decayed.name AND m.status = 'champion' AND k.alarmed AND (k.metric IN ('observed_expected', 'precision') AND k.segment = '*' OR k.metric = 'sentinel')
                      AND k.created_at <= _is_decayed.at AND k.created_at > _is_decayed.at - interval '7 days');
END;
COMMENT ON FUNCTION crm._is_decayed(text, timestamptz) IS 'Whether the drift monitor found the champion of a model wrong in the week before a time. Internal.';
