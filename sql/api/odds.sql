-- Win probability: what a row of a deal is, refits, the online step, predictions, explanations, overrides.

-- The active configuration of a model.
CREATE OR REPLACE FUNCTION crm._odds_config(name text) RETURNS jsonb
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'odds' AND c.key = _odds_config.name AND c.scope = '*' AND c.status = 'active';
END;
COMMENT ON FUNCTION crm._odds_config(text) IS 'Body of the active configuration of kind odds with this key; NULL without one. Internal.';

CREATE OR REPLACE FUNCTION crm._odds_setting(key text) RETURNS jsonb
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT c.body -> 'value' FROM crm_data.config AS c WHERE c.kind = 'setting' AND c.key = _odds_setting.key AND c.scope = '*' AND c.status = 'active';
END;
COMMENT ON FUNCTION crm._odds_setting(text) IS 'Value of an active setting for the whole organisation; NULL without one. Internal.';

CREATE OR REPLACE FUNCTION crm._check_odds_config(config jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE -- not STRICT: a missing configuration is an error
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known CONSTANT text[] := ARRAY['stage', 'pipeline', 'industry', 'account_type', 'account_region', 'account_grade', 'product_line', 'deal_type', 'source', 'owner', 'team',
                                   'competitor', 'stage_age', 'days_to_expiry', 'fiscal_phase', 'close_month_in_quarter', 'amount_bucket', 'amount_zeros'];
    wrong text;
BEGIN
    IF config IS NULL OR jsonb_typeof(config -> 'dims') IS DISTINCT FROM 'array' OR jsonb_array_length(config -> 'dims') NOT BETWEEN 1 AND 24 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the configuration odds/win lacks a list of 1 to 24 dimensions',
            HINT = 'Activate a configuration of kind odds and key win whose body has "dims".';
    END IF;
    SELECT d INTO wrong FROM jsonb_array_elements_text(config -> 'dims') AS d WHERE d <> ALL (known) AND d NOT LIKE 'attrs.%' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown dimension "%s" in the configuration odds/win', wrong),
            HINT = 'Known are ' || array_to_string(known, ', ') || ' and attrs.KEY for a custom field of the opportunity.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._check_odds_config(jsonb) IS 'Raises 22023 unless the configuration of the win probability can be used. Internal.';

-- How long deals stay in each stage: cuts of the dimension stage_age.
CREATE OR REPLACE FUNCTION crm._stage_cuts(at timestamptz, percentiles float8[]) RETURNS jsonb
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(jsonb_object_agg(x.stage_id::text, x.cuts), '{}')
      FROM (SELECT s.to_stage_id AS stage_id, to_jsonb(percentile_cont(_stage_cuts.percentiles) WITHIN GROUP (ORDER BY extract(epoch FROM s.next_at - s.entered_at)::float8)) AS cuts
              FROM (SELECT h.to_stage_id, h.entered_at, lead(h.entered_at) OVER (PARTITION BY h.opportunity_id ORDER BY h.entered_at, h.id) AS next_at
                      FROM crm_data.stage_history AS h WHERE h.recorded_at <= _stage_cuts.at AND h.entered_at <= _stage_cuts.at) AS s
             WHERE s.next_at IS NOT NULL GROUP BY s.to_stage_id HAVING count(*) >= 10) AS x;
END;
COMMENT ON FUNCTION crm._stage_cuts(timestamptz, float8[]) IS
'Quantiles of the completed stays known at a time, in seconds: {"stage id": [..]}, for stages with at least ten. percentiles: fractions 0 to 1. Internal.';

-- The rows of deals: one at every entry into a stage, and one at every cut of the stay's age that it outlasts.
CREATE OR REPLACE FUNCTION crm._win_rows(at timestamptz, cuts jsonb, config jsonb, opportunities bigint[] DEFAULT NULL, current_only boolean DEFAULT false)
    RETURNS TABLE (opportunity_id bigint, seq int, stage_id bigint, entered timestamptz, labelled timestamptz, outcome float8, is_current boolean, amount numeric, currency text, close_date date,
                   opened timestamptz, dims text[])
    LANGUAGE plpgsql STABLE PARALLEL SAFE -- not STRICT: NULL opportunities means all
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_custom_plan -- one deal and all deals want different plans
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH place AS (
        SELECT crm._odds_setting('organisation.timezone') #>> '{}' AS tz, crm._odds_setting('organisation.currency') #>> '{}' AS currency,
               ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(_win_rows.config #> '{buckets,amount}') AS x) AS amounts,
               ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(_win_rows.config #> '{buckets,days_to_expiry}') AS x) AS days
    ), known AS (
        SELECT h.opportunity_id, h.id, h.to_stage_id AS stage_id, s.outcome, h.entered_at, h.recorded_at, h.amount, h.currency, h.close_date,
               lead(h.entered_at) OVER w AS next_at, row_number() OVER (PARTITION BY h.opportunity_id ORDER BY h.entered_at DESC, h.id DESC) = 1 AS is_last
          FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id
         WHERE h.recorded_at <= _win_rows.at AND h.entered_at <= _win_rows.at
           AND (_win_rows.opportunities IS NULL OR h.opportunity_id = ANY (_win_rows.opportunities))
           -- a deal that is closed now and to which nothing came after that time was closed then
           AND (NOT _win_rows.current_only OR _win_rows.opportunities IS NOT NULL OR h.opportunity_id IN (SELECT n.id FROM crm_data.opportunity AS n WHERE n.outcome = 'open'
                                                                   UNION ALL
                                                                   SELECT l.opportunity_id FROM crm_data.stage_history AS l WHERE l.recorded_at > _win_rows.at OR l.entered_at > _win_rows.at))
        WINDOW w AS (PARTITION BY h.opportunity_id ORDER BY h.entered_at, h.id)
    ), fate AS (
        SELECT k.opportunity_id, k.outcome, greatest(k.entered_at, k.recorded_at) AS closed_at FROM known AS k WHERE k.is_last AND k.outcome <> 'open'
    ), stay AS (
        SELECT k.opportunity_id, k.id, k.stage_id, k.entered_at, k.next_at, k.amount, k.currency, k.close_date FROM known AS k
         WHERE k.outcome = 'open' AND NOT (_win_rows.current_only AND EXISTS (SELECT FROM fate AS f WHERE f.opportunity_id = k.opportunity_id))
        UNION ALL
        -- a deal that came without a history
        SELECT o.id, 0, CASE WHEN s.outcome = 'open' THEN o.stage_id END, least(o.created_at, o.closed_at), o.closed_at, o.amount, o.currency, o.close_date
          FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id
         WHERE o.created_at <= _win_rows.at AND (_win_rows.opportunities IS NULL OR o.id = ANY (_win_rows.opportunities))
           AND NOT EXISTS (SELECT FROM crm_data.stage_history AS h WHERE h.opportunity_id = o.id)
    ), snapshot AS (
        SELECT s.opportunity_id, s.id, s.stage_id, s.amount, s.currency, s.close_date, b.bucket, s.entered_at + make_interval(secs => b.after) AS entered_at,
               s.next_at, min(s.entered_at) OVER (PARTITION BY s.opportunity_id) AS opened,
               coalesce(s.next_at > _win_rows.at, true) AND row_number() OVER (PARTITION BY s.opportunity_id ORDER BY s.entered_at DESC, s.id DESC, b.bucket DESC) = 1 AS is_current
          FROM stay AS s
         CROSS JOIN LATERAL (SELECT 0 AS bucket, 0::float8 AS after
                             UNION ALL
                             SELECT c.ord::int, c.cut::float8 FROM jsonb_array_elements_text(_win_rows.cuts -> s.stage_id::text) WITH ORDINALITY AS c (cut, ord)
                              WHERE s.entered_at + make_interval(secs => c.cut::float8) < least(s.next_at, _win_rows.at)) AS b
    ), phase AS (
        SELECT t.key AS account_type, m.month, p.value AS phase
          FROM jsonb_each(_win_rows.config -> 'fiscal') AS t, jsonb_each_text(t.value) AS p,
               LATERAL (SELECT split_part(p.key, '-', 1)::int AS first, split_part(p.key, '-', 2)::int AS last) AS r,
               generate_series(1, 12) AS m (month)
         WHERE CASE WHEN r.first <= r.last THEN m.month BETWEEN r.first AND r.last ELSE m.month >= r.first OR m.month <= r.last END
    )
    SELECT p.opportunity_id, row_number() OVER (PARTITION BY p.opportunity_id ORDER BY p.entered_at, p.id, p.bucket)::int, p.stage_id, p.entered_at,
           coalesce(f.closed_at, CASE WHEN p.id = 0 AND p.next_at <= _win_rows.at THEN p.next_at END),
           CASE coalesce(f.outcome, CASE WHEN p.id = 0 AND p.next_at <= _win_rows.at THEN o.outcome END) WHEN 'won' THEN 1 WHEN 'lost' THEN 0 END::float8,
           p.is_current AND f.outcome IS NULL, p.amount, p.currency, p.close_date, p.opened,
           ARRAY(SELECT CASE d.name
                        WHEN 'stage' THEN pl.code || '.' || st.code
                        WHEN 'pipeline' THEN pl.code
                        WHEN 'industry' THEN a.industry
                        WHEN 'account_type' THEN a.type
                        WHEN 'account_region' THEN a.region
                        WHEN 'account_grade' THEN a.grade::text
                        WHEN 'product_line' THEN o.product_line
                        WHEN 'deal_type' THEN o.deal_type
                        WHEN 'source' THEN o.source
                        WHEN 'owner' THEN o.owner_id::text
                        WHEN 'team' THEN o.team_id::text
                        WHEN 'competitor' THEN o.competitor
                        WHEN 'stage_age' THEN CASE WHEN _win_rows.cuts ? p.stage_id::text THEN p.bucket::text END
                        WHEN 'days_to_expiry' THEN
                            CASE WHEN o.expires_on IS NULL THEN NULL WHEN o.expires_on < p.day THEN 'overdue'
                                 ELSE width_bucket((o.expires_on - p.day)::float8, place.days)::text END
                        WHEN 'fiscal_phase' THEN
                            coalesce((SELECT ph.phase FROM phase AS ph WHERE ph.account_type = a.type AND ph.month = extract(month FROM p.day)),
                                     (SELECT ph.phase FROM phase AS ph WHERE ph.account_type = '*' AND ph.month = extract(month FROM p.day)))
                        WHEN 'close_month_in_quarter' THEN ((extract(month FROM p.close_date)::int - 1) % 3 + 1)::text
                        WHEN 'amount_bucket' THEN
                            width_bucket((p.amount * CASE WHEN p.currency = place.currency THEN 1
                                                          ELSE (SELECT x.rate FROM crm_data.fx_rate AS x
                                                                 WHERE x.currency = p.currency AND x.base_currency = place.currency AND x.rate_date <= p.day
                                                                 ORDER BY x.rate_date DESC LIMIT 1) END)::float8, place.amounts)::text
                        WHEN 'amount_zeros' THEN length(substring(trunc(p.amount)::text FROM '0*$'))::text
                        ELSE o.attrs ->> substr(d.name, 7) END
                   FROM jsonb_array_elements_text(_win_rows.config -> 'dims') WITH ORDINALITY AS d (name, ord) ORDER BY d.ord)
      FROM place, (SELECT s.*, (s.entered_at AT TIME ZONE place.tz)::date AS day FROM snapshot AS s, place) AS p
      JOIN crm_data.opportunity AS o ON o.id = p.opportunity_id AND o.deleted_at IS NULL
      JOIN crm_data.account AS a ON a.id = o.account_id
      JOIN crm_data.pipeline AS pl ON pl.id = o.pipeline_id
      LEFT JOIN crm_data.stage AS st ON st.id = p.stage_id
      LEFT JOIN fate AS f ON f.opportunity_id = p.opportunity_id
     WHERE NOT _win_rows.current_only OR (p.is_current AND f.outcome IS NULL);
END
$$;
COMMENT ON FUNCTION crm._win_rows(timestamptz, jsonb, jsonb, bigint[], boolean) IS
'Deals as the win probability sees them, from what was known at a time: a row for every entry into an open stage, and a further one whenever the stay outlasts a cut of the stage''s ages. is_current marks the row that an open deal is in at that time.
cuts: of crm._stage_cuts; config: of crm._odds_config(''win''); opportunities: NULL for all; current_only: those rows alone. Internal.';

-- The version that answers at a time: the champion if it knew no more than that, else the last that did.
CREATE OR REPLACE FUNCTION crm._win_model(at timestamptz) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT m.id FROM crm_data.model AS m
     WHERE m.name = 'win' AND m.as_of <= _win_model.at AND m.status <> 'challenger'
     ORDER BY m.status = 'champion' DESC, m.as_of DESC, m.version DESC LIMIT 1;
END;
COMMENT ON FUNCTION crm._win_model(timestamptz) IS 'Model version of the win probability that answers at a time; NULL before the first. Internal.';

CREATE OR REPLACE FUNCTION crm._in_segment(segment jsonb, names text[], dims text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT NOT EXISTS (SELECT FROM jsonb_each_text(_in_segment.segment) AS s (name, value)
                        WHERE (_in_segment.dims)[array_position(_in_segment.names, s.name)] IS DISTINCT FROM s.value);
END;
COMMENT ON FUNCTION crm._in_segment(jsonb, text[], text[]) IS 'Whether a row of a deal has all the values of a segment. Internal.';

-- Predictions with the overrides. The logit before clipping is what the explanation adds up to.
CREATE OR REPLACE FUNCTION crm._win_predict(at timestamptz, opportunities bigint[] DEFAULT NULL)
    RETURNS TABLE (opportunity_id bigint, p float8, low float8, high float8, n bigint, status text, model_version int, logit float8, dims text[], model_id bigint)
    LANGUAGE sql STABLE PARALLEL SAFE -- not STRICT: NULL opportunities means all
BEGIN ATOMIC
    WITH m AS MATERIALIZED (
        SELECT v.id, v.version, v.rows_used, v.dims, v.options, v.options ->> 'status' AS status, v.params::crm.lattice AS lattice
          FROM crm_data.model AS v WHERE v.id = crm._win_model(_win_predict.at)
    ), config AS MATERIALIZED (
        SELECT coalesce((SELECT m.options -> 'config' FROM m), crm._odds_config('win')) AS body,
               coalesce((SELECT m.options -> 'cuts' FROM m), '{}') AS cuts
    ), raw AS (
        SELECT r.opportunity_id, r.stage_id, r.dims, x.p, ln(x.p / (1 - x.p)) AS logit, x.low, x.high
          FROM config AS c, crm._win_rows(_win_predict.at, c.cuts, c.body, _win_predict.opportunities, true) AS r
          LEFT JOIN LATERAL crm.lattice_predict((SELECT m.lattice FROM m), r.dims) AS x ON true
    ), moved AS (
        SELECT r.opportunity_id, r.stage_id, r.dims, r.p, r.logit, r.low, r.high, o.mu, o.locked
          FROM raw AS r
          LEFT JOIN LATERAL (SELECT sum((v.value ->> 'mu')::float8) AS mu, max((v.value ->> 'locked')::float8) AS locked
                               FROM m, jsonb_each(m.options -> 'overrides') AS v
                              WHERE (v.value ->> 'expires_on')::date > (_win_predict.at AT TIME ZONE 'UTC')::date
                                AND crm._in_segment(v.value -> 'segment', m.dims, r.dims)) AS o ON true
    ), placed AS (
        SELECT z.opportunity_id, z.stage_id, z.dims, coalesce(ln(z.locked / (1 - z.locked)), z.logit + coalesce(z.mu, 0)) AS logit,
               CASE WHEN z.locked IS NULL THEN z.logit - ln(z.low / (1 - z.low)) ELSE 0 END AS down,
               CASE WHEN z.locked IS NULL THEN ln(z.high / (1 - z.high)) - z.logit ELSE 0 END AS up
          FROM moved AS z
    ), known AS (
        -- without enough history: the configured percentage, and how far twenty deals would pin it down
        SELECT z.opportunity_id, z.dims, s.status = 'ok' AS is_learned,
               CASE WHEN s.status = 'ok' THEN z.logit ELSE b.logit END AS logit,
               CASE WHEN s.status = 'ok' THEN z.down ELSE b.half END AS down, CASE WHEN s.status = 'ok' THEN z.up ELSE b.half END AS up
          FROM placed AS z
          LEFT JOIN crm_data.stage AS g ON g.id = z.stage_id
         CROSS JOIN (SELECT max(m.status) AS status FROM m) AS s
         CROSS JOIN LATERAL (SELECT ln(q.q / (1 - q.q)) AS logit, 1.6449 / sqrt(20 * q.q * (1 - q.q)) AS half
                               FROM (SELECT least(greatest(coalesce(g.default_probability, 0.5), 0.01), 0.99) AS q) AS q) AS b
    )
    SELECT k.opportunity_id,
           least(greatest(1 / (1 + exp(-k.logit)), 0.01), 0.99), least(greatest(1 / (1 + exp(-k.logit + k.down)), 0.01), 0.99),
           least(greatest(1 / (1 + exp(-k.logit - k.up)), 0.01), 0.99),
           coalesce(m.rows_used, 0), CASE WHEN k.is_learned THEN 'ok' ELSE 'insufficient_history' END, m.version, k.logit, k.dims, m.id
      FROM known AS k LEFT JOIN m ON true;
END;
COMMENT ON FUNCTION crm._win_predict(timestamptz, bigint[]) IS
'Win probability of every deal that is open at a time, or of the given ones, from what was known then; logit is before clipping. Without enough history the configured percentage and the status insufficient_history. Internal.';

-- State of an override under a model: where it moves the segment, and how sure it still is after the deals that closed since.
CREATE OR REPLACE FUNCTION crm._override_state(model bigint, override bigint, at timestamptz) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    SET extra_float_digits = 1 -- numbers in options are exact
AS $$
DECLARE
    m crm_data.model;
    o crm_data.odds_override;
    lattice crm.lattice;
    mean_p float8;
    mu float8;
    var float8;
    n int := 0;
    case_row record;
    p float8;
    r float8;
BEGIN
    SELECT x.* INTO STRICT m FROM crm_data.model AS x WHERE x.id = _override_state.model;
    SELECT x.* INTO STRICT o FROM crm_data.odds_override AS x WHERE x.id = _override_state.override;
    lattice := m.params::crm.lattice;
    SELECT avg(x.p) INTO mean_p
      FROM crm._win_rows(at, m.options -> 'cuts', m.options -> 'config') AS w, crm.lattice_predict(lattice, w.dims) AS x
     WHERE crm._in_segment(o.segment, m.dims, w.dims);
    mean_p := coalesce(mean_p, o.target);
    mu := ln(o.target / (1 - o.target)) - ln(mean_p / (1 - mean_p));
    var := 1 / (o.strength * o.target * (1 - o.target));
    IF NOT o.locked THEN
        FOR case_row IN
            SELECT w.outcome, ln(x.p / (1 - x.p)) AS logit
              FROM crm._win_rows(at, m.options -> 'cuts', m.options -> 'config') AS w, crm.lattice_predict(lattice, w.dims) AS x
             WHERE w.outcome IS NOT NULL AND w.labelled > o.created_at AND w.seq = 1 AND crm._in_segment(o.segment, m.dims, w.dims)
             ORDER BY w.labelled, w.opportunity_id
        LOOP
            p := 1 / (1 + exp(-(case_row.logit + mu)));
            r := p * (1 - p);
            mu := mu + var * (case_row.outcome - p) / (1 + var * r);
            var := var * (1 - var * r / (1 + var * r));
            n := n + 1;
        END LOOP;
    END IF;
    RETURN jsonb_build_object('segment', o.segment, 'mu', mu, 'var', var, 'n', n, 'locked', CASE WHEN o.locked THEN o.target END, 'expires_on', o.expires_on);
END
$$;
COMMENT ON FUNCTION crm._override_state(bigint, bigint, timestamptz) IS
'Effect of an override on the logit under a model version: its prior, and a Kalman step for every deal of the segment that closed since. Internal.';

CREATE OR REPLACE FUNCTION crm._odds_definition(config jsonb) RETURNS bytea
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN sha256(convert_to(config::text || (SELECT p.prosrc FROM pg_proc AS p WHERE p.oid = 'crm._win_rows(timestamptz, jsonb, jsonb, bigint[], boolean)'::regprocedure), 'UTF8'));
END
$$;
COMMENT ON FUNCTION crm._odds_definition(jsonb) IS 'SHA-256 over a configuration and the expressions of the features: what a fitted model stands on. Internal.';

CREATE OR REPLACE FUNCTION crm._begin_fit(as_of timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF as_of IS NULL OR as_of > now() + interval '1 minute' OR NOT isfinite(as_of) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a model is fitted to the past', HINT = 'Give an instant that is not after now.';
    END IF;
    -- one fit at a time, and no online step meanwhile; deals go on being closed, their events wait in the queue
    LOCK TABLE crm_data.model IN SHARE ROW EXCLUSIVE MODE;
END
$$;
COMMENT ON FUNCTION crm._begin_fit(timestamptz) IS 'Begins the fit of a model to what was known at an instant: raises 22023 for one that is not past, and waits until no other model is being fitted. Internal.';

CREATE OR REPLACE FUNCTION crm.odds_refit(as_of timestamptz DEFAULT now()) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    config jsonb := crm._odds_config('win');
    names text[];
    cuts jsonb;
    options jsonb;
    fitted bytea;
    deals bigint;
    closed bigint;
    won bigint;
    next_version int;
    model_id bigint;
    is_newest boolean;
    overrides jsonb := '{}';
    o record;
BEGIN
    PERFORM crm._check_odds_config(config);
    PERFORM crm._begin_fit(as_of);

    names := ARRAY(SELECT d FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS x (d, ord) ORDER BY ord);
    cuts := crm._stage_cuts(as_of, ARRAY(SELECT x::float8 / 100 FROM jsonb_array_elements_text(config #> '{buckets,stage_age,percentiles}') AS x));
    options := jsonb_build_object('prior', coalesce((
        SELECT jsonb_agg(jsonb_build_object('dim', array_position(names, 'stage'), 'value', pl.code || '.' || s.code,
                                            'p', least(greatest(s.default_probability, 0.01), 0.99), 'strength', coalesce((config ->> 'stage_prior_deals')::float8, 20))
                         ORDER BY pl.code, s.code)
          FROM crm_data.stage AS s JOIN crm_data.pipeline AS pl ON pl.id = s.pipeline_id
         WHERE s.outcome = 'open' AND array_position(names, 'stage') IS NOT NULL), '[]'));
    SELECT crm._odds_fit(r.opportunity_id || '.' || r.seq, r.opportunity_id::text, r.dims, extract(epoch FROM r.entered)::float8,
                         CASE WHEN r.outcome IS NOT NULL THEN extract(epoch FROM greatest(r.labelled, r.entered))::float8 END, r.outcome,
                         extract(epoch FROM as_of)::float8, options)::bytea,
           count(DISTINCT r.opportunity_id), count(DISTINCT r.opportunity_id) FILTER (WHERE r.outcome IS NOT NULL),
           count(DISTINCT r.opportunity_id) FILTER (WHERE r.outcome = 1)
      INTO fitted, deals, closed, won
      FROM crm._win_rows(as_of, cuts, config) AS r;

    SELECT coalesce(max(m.version), 0) + 1, NOT coalesce(bool_or(m.status = 'champion' AND m.as_of > odds_refit.as_of), false)
      INTO next_version, is_newest FROM crm_data.model AS m WHERE m.name = 'win';
    IF is_newest THEN
        UPDATE crm_data.model AS m SET status = 'retired', retired_at = now(), updated_at = now() WHERE m.name = 'win' AND m.status = 'champion';
    END IF;
    INSERT INTO crm_data.model (name, version, kind, status, dims, options, params, as_of, rows_used, definition_hash, metrics, promoted_at)
    VALUES ('win', next_version, 'mixture', CASE WHEN is_newest THEN 'champion' ELSE 'retired' END, names,
            jsonb_build_object('config', config, 'cuts', cuts, 'overrides', '{}'::jsonb,
                               'status', CASE WHEN closed >= coalesce((config ->> 'min_cases')::int, 30) AND won BETWEEN 1 AND closed - 1 THEN 'ok' ELSE 'insufficient_history' END),
            fitted, as_of, closed,
            crm._odds_definition(config),
            jsonb_build_object('deals', deals, 'closed', closed, 'won', won), CASE WHEN is_newest THEN now() END)
    RETURNING id INTO model_id;

    IF fitted IS NOT NULL THEN
        FOR o IN SELECT x.id FROM crm_data.odds_override AS x
                  WHERE x.name = 'win' AND x.created_at <= as_of AND x.revoked_at IS NULL AND x.expires_on > (as_of AT TIME ZONE 'UTC')::date ORDER BY x.id
        LOOP
            overrides := overrides || jsonb_build_object(o.id::text, crm._override_state(model_id, o.id, as_of));
        END LOOP;
        UPDATE crm_data.model AS m SET options = m.options || jsonb_build_object('overrides', overrides) WHERE m.id = model_id;
    END IF;
    IF is_newest THEN
        -- what the fit knew is done, what it did not know comes once more
        UPDATE crm_data.model_event AS e SET applied_at = now() WHERE e.name = 'win' AND e.applied_at IS NULL AND e.known_at <= as_of;
        UPDATE crm_data.model_event AS e SET applied_at = NULL WHERE e.name = 'win' AND e.applied_at IS NOT NULL AND e.known_at > as_of;
        PERFORM crm._store_probabilities(as_of);
    END IF;
    RETURN next_version;
END
$$;
COMMENT ON FUNCTION crm.odds_refit(timestamptz) IS
'Fits the win probability to all deals as they were known at an instant and makes it the champion; with an instant before the champion''s it is kept as a past version, so that numbers of that time can be computed again.
as_of: instant, not after now. Answers the version. Deals that are still open take part as fractions; the configured percentages of the stages are priors worth the configured number of deals. With fewer closed deals than min_cases of the configuration, or one outcome only, the version''s status is insufficient_history.
Errors: 22023 as_of in the future, or a configuration that cannot be used.';

CREATE OR REPLACE FUNCTION crm._store_probabilities(at timestamptz) RETURNS bigint
    LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
    WITH changed AS (
        UPDATE crm_data.opportunity AS o SET probability_auto = round(w.p::numeric, 4)::float8
          FROM crm._win_predict(_store_probabilities.at) AS w
         WHERE o.id = w.opportunity_id AND o.outcome = 'open' AND abs(coalesce(o.probability_auto, -1) - w.p) > 0.0005
        RETURNING o.id)
    SELECT count(*) FROM changed;
END;
COMMENT ON FUNCTION crm._store_probabilities(timestamptz) IS 'Writes the model''s probability into the open deals whose stored one differs; answers how many. Internal.';

-- The queue: a closing deal leaves its rows, one consumer takes them in order.
CREATE OR REPLACE FUNCTION crm._odds_closed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
BEGIN
    SELECT x.id, x.dims, x.params, x.rows_used, x.options, x.options -> 'config' AS config, x.options -> 'cuts' AS cuts INTO m
      FROM crm_data.model AS x WHERE x.name = 'win' AND x.status = 'champion';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO crm_data.model_event (name, object, record_id, dims, outcome, weight, at, known_at)
    SELECT 'win', 'opportunity', NEW.id, r.dims, (NEW.outcome = 'won')::int, 1 / sqrt(count(*) OVER ()), coalesce(NEW.closed_at, now()), now()
      FROM crm._win_rows(clock_timestamp(), m.cuts, m.config, ARRAY[NEW.id]) AS r ORDER BY r.seq;
    -- what the model said of the deal before it knew: drift and calibration are measured on these
    INSERT INTO crm_data.score (model_id, object, record_id, account_id, value, low, high, n, status, features, as_of, owner_id, team_id, grade)
    SELECT m.id, 'opportunity', NEW.id, NEW.account_id, x.p, x.low, x.high, m.rows_used, m.options ->> 'status',
           jsonb_object(m.dims, r.dims) || jsonb_build_object('_outcome', (NEW.outcome = 'won')::int), now(), NEW.owner_id, NEW.team_id, NEW.grade
      FROM (SELECT z.dims FROM crm._win_rows(clock_timestamp(), m.cuts, m.config, ARRAY[NEW.id]) AS z ORDER BY z.seq DESC LIMIT 1) AS r, crm.lattice_predict(m.params::crm.lattice, r.dims) AS x
     WHERE m.params IS NOT NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._odds_closed() IS 'Trigger of opportunity: a deal that closes joins the queue of the win probability, with the values it had while it was open. Internal.';
DROP TRIGGER IF EXISTS odds_closed ON crm_data.opportunity;
CREATE TRIGGER odds_closed AFTER UPDATE OF outcome, stage_id ON crm_data.opportunity
    FOR EACH ROW WHEN (OLD.outcome = 'open' AND NEW.outcome <> 'open') EXECUTE FUNCTION crm._odds_closed();
COMMENT ON TRIGGER odds_closed ON crm_data.opportunity IS 'A deal that closes is learned from.';

CREATE OR REPLACE FUNCTION crm.odds_apply(batch int DEFAULT 1000) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    taken bigint[];
    learned bytea;
BEGIN
    IF batch < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a batch has at least one event';
    END IF;
    -- whoever holds the model's row is the consumer; the others have nothing to do
    SELECT x.id, x.params, x.as_of, x.dims INTO m FROM crm_data.model AS x WHERE x.name = 'win' AND x.status = 'champion' FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND OR m.params IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(e.id ORDER BY e.at, e.id), crm.lattice_learn(m.params::crm.lattice, e.dims, e.outcome, e.weight ORDER BY e.at, e.id)
               -- what the fit knew is not learned twice, and an event of other dimensions waits for no model: the next refit reads the deal itself
               FILTER (WHERE e.known_at > m.as_of AND cardinality(e.dims) = cardinality(m.dims))::bytea
      INTO taken, learned
      FROM (SELECT x.id, x.at, x.known_at, x.dims, x.outcome, x.weight FROM crm_data.model_event AS x
             WHERE x.name = 'win' AND x.applied_at IS NULL ORDER BY x.at, x.id LIMIT batch) AS e;
    IF taken IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE crm_data.model AS x SET params = coalesce(learned, x.params), online_id = greatest(x.online_id, (SELECT max(t) FROM unnest(taken) AS t)), updated_at = now() WHERE x.id = m.id;
    UPDATE crm_data.model_event AS e SET applied_at = now() WHERE e.id = ANY (taken);
    RETURN cardinality(taken);
END
$$;
COMMENT ON FUNCTION crm.odds_apply(int) IS
'The online step: the champion of the win probability learns from the deals that closed since, in order of their close, by one consumer at a time.
batch: most rows to take, 1 and up. Answers how many were taken, 0 when another consumer is at work. Called by crm.tick. Errors: 22023 batch below 1.';

-- What people ask. Each function shows the deals that its caller may read, and no others.
CREATE OR REPLACE FUNCTION crm._check_visible_deal(opp bigint) RETURNS void
    LANGUAGE plpgsql STABLE -- not STRICT: NULL is no deal
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM crm_data.opportunity AS o WHERE o.id = opp AND o.deleted_at IS NULL AND crm.row_visible('opportunity', 'read', o.owner_id, o.team_id, o.grade)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'no such opportunity', HINT = 'It does not exist, or you have no right to read it.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._check_visible_deal(bigint) IS 'Raises P0002 unless the current person may read the deal: hidden and missing look the same. Internal.';

-- Contributions to the logit of a deal as crm._win_predict answered it.
CREATE OR REPLACE FUNCTION crm._win_contributions(model bigint, dims text[], logit float8)
    RETURNS TABLE (dimension text, value text, logit float8, points float8, n float8)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH part AS MATERIALIZED (
        SELECT e.dim, CASE WHEN e.dim = 0 THEN 'base' ELSE m.dims[e.dim] END AS dimension, e.value, e.logit, e.n
          FROM crm_data.model AS m, crm.lattice_explain(m.params::crm.lattice, _win_contributions.dims) AS e WHERE m.id = _win_contributions.model
    ), override AS (
        SELECT 1000, 'override', NULL::text, _win_contributions.logit - s.logit, NULL::float8 FROM (SELECT sum(p.logit) AS logit FROM part AS p) AS s
         WHERE abs(_win_contributions.logit - s.logit) > 1e-9
    )
    SELECT p.dimension, CASE p.dimension WHEN 'owner' THEN coalesce((SELECT b.full_name FROM crm_data.member AS b WHERE b.id = p.value::bigint), p.value) ELSE p.value END, p.logit,
           CASE WHEN p.dimension <> 'base' THEN 100 * (1 / (1 + exp(-_win_contributions.logit)) - 1 / (1 + exp(-(_win_contributions.logit - p.logit)))) END, p.n
      FROM (SELECT * FROM part UNION ALL SELECT * FROM override) AS p ORDER BY p.dim;
END;
COMMENT ON FUNCTION crm._win_contributions(bigint, text[], float8) IS 'Contributions to a deal''s logit before clipping: the base, every dimension of the model, and the overrides. Internal.';

CREATE OR REPLACE FUNCTION crm._dimension_shown(opp bigint, dimension text) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(bool_and(NOT f.guarded OR crm._shown(f.id, x.image, x.image -> f.name) IS NOT DISTINCT FROM x.image -> f.name), true)
      FROM (VALUES ('stage', 'opportunity', 'stage_id'), ('pipeline', 'opportunity', 'pipeline_id'), ('industry', 'account', 'industry'), ('account_type', 'account', 'type'), ('account_region', 'account', 'region'),
                   ('account_grade', 'account', 'grade'), ('product_line', 'opportunity', 'product_line'), ('deal_type', 'opportunity', 'deal_type'), ('source', 'opportunity', 'source'), ('owner', 'opportunity', 'owner_id'),
                   ('team', 'opportunity', 'team_id'), ('competitor', 'opportunity', 'competitor'), ('stage_age', 'opportunity', 'stage_entered_at'), ('days_to_expiry', 'opportunity', 'expires_on'), ('fiscal_phase', 'account', 'type'),
                   ('close_month_in_quarter', 'opportunity', 'close_date'), ('amount_bucket', 'opportunity', 'amount'), ('amount_zeros', 'opportunity', 'amount'), ('attrs', 'opportunity', 'attrs')) AS d (dimension, object, name)
      JOIN crm_data.field AS f ON f.object = d.object AND f.name = d.name AND NOT f.custom
      JOIN crm_data.opportunity AS o ON o.id = _dimension_shown.opp
      JOIN crm_data.account AS a ON a.id = o.account_id
     CROSS JOIN LATERAL (SELECT CASE d.object WHEN 'account' THEN to_jsonb(a) ELSE to_jsonb(o) END AS image) AS x
     WHERE d.dimension = split_part(_dimension_shown.dimension, '.', 1);
END;
COMMENT ON FUNCTION crm._dimension_shown(bigint, text) IS 'Whether the caller sees the column of a deal, or of its customer, that a dimension is made of: reasons tell the value only then. Internal.';

CREATE OR REPLACE FUNCTION crm.win_probability(opp bigint, at timestamptz DEFAULT now(), OUT p float8, OUT low float8, OUT high float8, OUT n bigint, OUT status text, OUT model_version int, OUT factors jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is no deal
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fate text;
    model bigint;
    dims text[];
    logit float8;
BEGIN
    PERFORM crm._check_visible_deal(opp);
    SELECT w.p, w.low, w.high, w.n, w.status, w.model_version, w.model_id, w.dims, w.logit INTO p, low, high, n, status, model_version, model, dims, logit FROM crm._win_predict(at, ARRAY[opp]) AS w;
    IF FOUND THEN
        SELECT coalesce(jsonb_agg(jsonb_build_object('dimension', f.dimension, 'value', f.value, 'points', round(f.points::numeric, 1), 'n', round(f.n)) ORDER BY abs(f.points) DESC, f.dimension), '[]')
          INTO factors
          FROM (SELECT c.dimension, CASE WHEN crm._dimension_shown(opp, c.dimension) THEN c.value END AS value, c.points, c.n FROM crm._win_contributions(model, dims, logit) AS c WHERE status = 'ok' AND c.dimension <> 'base' ORDER BY abs(c.points) DESC, c.dimension LIMIT 5) AS f;
        RETURN;
    END IF;
    -- not open at that time
    SELECT CASE WHEN count(*) = 0 THEN 'none' ELSE max(s.outcome) END INTO fate
      FROM (SELECT h.to_stage_id FROM crm_data.stage_history AS h WHERE h.opportunity_id = opp AND h.recorded_at <= at AND h.entered_at <= at ORDER BY h.entered_at DESC, h.id DESC LIMIT 1) AS h
      JOIN crm_data.stage AS s ON s.id = h.to_stage_id;
    IF fate = 'none' THEN
        SELECT CASE WHEN o.closed_at <= at THEN o.outcome ELSE 'none' END INTO fate FROM crm_data.opportunity AS o WHERE o.id = opp;
    END IF;
    factors := '[]';
    n := 0;
    IF fate IN ('won', 'lost') THEN
        p := (fate = 'won')::int;
        low := p;
        high := p;
        status := fate;
    ELSE
        status := 'not_open';
    END IF;
END
$$;
COMMENT ON FUNCTION crm.win_probability(bigint, timestamptz) IS
'Win probability of a deal at an instant, from what was known then.
opp: opportunity; at: instant. p: 0.01 to 0.99 while the deal is open; low, high: its 90 % interval; n: closed deals behind it; status: ok, insufficient_history (p is then the stage''s configured percentage), won or lost (p is 1 or 0), not_open (before its first day, p is NULL); factors: the five strongest reasons with their percentage points.
Errors: P0002 no such deal for the caller. Method: lattice model, see crm.lattice_fit, and prequential pool, see crm.odds_backtest.';

CREATE OR REPLACE FUNCTION crm.win_explain(opp bigint, at timestamptz DEFAULT now())
    RETURNS TABLE (dimension text, value text, logit float8, points float8, n float8)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is no deal
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._check_visible_deal(opp);
    RETURN QUERY SELECT c.dimension, CASE WHEN crm._dimension_shown(opp, c.dimension) THEN c.value END, c.logit, c.points, c.n FROM crm._win_predict(at, ARRAY[opp]) AS w, crm._win_contributions(w.model_id, w.dims, w.logit) AS c WHERE w.status = 'ok';
END
$$;
COMMENT ON FUNCTION crm.win_explain(bigint, timestamptz) IS
'What makes a deal''s win probability: the base, every dimension, and the overrides. logit: what each adds, together exactly the logit of p before clipping; points: percentage points of p with it less p without it; n: rows with that value, 0 for one never met. No rows without enough history.
opp: opportunity; at: instant. Errors: P0002 no such deal for the caller.';

CREATE OR REPLACE FUNCTION crm.win_whatif(opp bigint, change jsonb, OUT p float8, OUT low float8, OUT high float8, OUT was float8, OUT status text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
    m record;
    changed text[];
    k record;
    at int;
    base record;
    raw record;
BEGIN
    PERFORM crm._check_visible_deal(opp);
    IF change IS NULL OR jsonb_typeof(change) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the change must be a JSON object of dimensions and values';
    END IF;
    SELECT x.* INTO w FROM crm._win_predict(now(), ARRAY[opp]) AS x;
    IF NOT FOUND OR w.status <> 'ok' THEN
        status := coalesce(w.status, 'not_open');
        was := w.p;
        RETURN;
    END IF;
    SELECT x.dims, x.params::crm.lattice AS lattice, x.options INTO STRICT m FROM crm_data.model AS x WHERE x.id = w.model_id;
    changed := w.dims;
    FOR k IN SELECT c.key, c.value FROM jsonb_each_text(change) AS c LOOP
        at := array_position(m.dims, CASE k.key WHEN 'amount' THEN 'amount_bucket' ELSE k.key END);
        IF at IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" is no dimension of the model', k.key),
                HINT = 'Its dimensions are ' || array_to_string(m.dims, ', ') || '; amount is taken to its bucket.';
        END IF;
        IF k.key = 'amount' AND NOT coalesce(k.value::float8 >= 0 AND k.value::float8 < 'Infinity', false) THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an amount must be a number that is not negative';
        END IF;
        changed[at] := CASE WHEN k.key = 'amount'
                            THEN width_bucket(k.value::float8, ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(m.options #> '{config,buckets,amount}') AS x))::text
                            ELSE k.value END;
    END LOOP;
    SELECT x.* INTO raw FROM crm.lattice_predict(m.lattice, w.dims) AS x;
    SELECT x.* INTO base FROM crm.lattice_predict(m.lattice, changed) AS x;
    status := 'ok';
    was := w.p;
    -- an override goes on holding for the deal as it would be
    p := least(greatest(1 / (1 + exp(-(ln(base.p / (1 - base.p)) + w.logit - ln(raw.p / (1 - raw.p))))), 0.01), 0.99);
    low := least(greatest(1 / (1 + exp(-(ln(base.low / (1 - base.low)) + w.logit - ln(raw.p / (1 - raw.p))))), 0.01), 0.99);
    high := least(greatest(1 / (1 + exp(-(ln(base.high / (1 - base.high)) + w.logit - ln(raw.p / (1 - raw.p))))), 0.01), 0.99);
END
$$;
COMMENT ON FUNCTION crm.win_whatif(bigint, jsonb) IS
'Win probability of an open deal if it were otherwise; nothing is stored.
opp: opportunity; change: dimensions and their values, as crm.win_explain names them, and amount in the organisation''s currency, for example {"stage": "standard.quote", "amount": 50000}. p, low, high: as it would be; was: as it is; status: ok, insufficient_history or not_open.
Errors: P0002 no such deal for the caller; 22023 no such dimension.';

CREATE OR REPLACE FUNCTION crm.odds_override(segment jsonb, target numeric, strength int DEFAULT 20, reason text DEFAULT NULL, expires date DEFAULT NULL, locked boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: what is missing is named
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    stranger text;
    override bigint;
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_director');
    IF target IS NULL OR target <= 0 OR target >= 1 OR strength IS NULL OR strength NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an override needs a probability between 0 and 1 and a strength from 1 to 200 deals';
    END IF;
    IF coalesce(btrim(reason), '') = '' OR expires IS NULL OR expires <= current_date THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an override needs a reason and a day on which it ends',
            HINT = 'Call odds_override(segment, target, strength, reason, expires).';
    END IF;
    SELECT x.id, x.dims INTO m FROM crm_data.model AS x WHERE x.name = 'win' AND x.status = 'champion' AND x.params IS NOT NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'there is no model to override yet', HINT = 'Run SELECT crm.odds_refit().';
    END IF;
    IF segment IS NULL OR jsonb_typeof(segment) <> 'object' OR segment = '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a segment is a JSON object of dimensions and values';
    END IF;
    SELECT s.key INTO stranger FROM jsonb_each_text(segment) AS s WHERE s.key <> ALL (m.dims) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" is no dimension of the model', stranger),
            HINT = 'Its dimensions are ' || array_to_string(m.dims, ', ') || '.';
    END IF;
    INSERT INTO crm_data.odds_override (segment, target, strength, locked, reason, expires_on)
    VALUES (segment, target, strength, coalesce(locked, false), reason, expires) RETURNING odds_override.id INTO override;
    UPDATE crm_data.model AS x
       SET options = jsonb_set(x.options, ARRAY['overrides', override::text], crm._override_state(m.id, override, now())), updated_at = now()
     WHERE x.id = m.id;
    RETURN override;
END
$$;
COMMENT ON FUNCTION crm.odds_override(jsonb, numeric, int, text, date, boolean) IS
'States an opinion about the win probability of a segment. It counts at once, is worth some deals, and is outvoted by the deals that close; locked, it stands until it ends.
segment: dimensions and values that must all hold, for example {"deal_type": "renewal"}; target: probability, between 0 and 1; strength: deals'' worth, 1 to 200; reason; expires: first day it no longer counts; locked. Answers its id.
Errors: 22023 something missing or out of range; 55000 no model yet.';

CREATE OR REPLACE FUNCTION crm.odds_override_revoke(override bigint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_director');
    UPDATE crm_data.odds_override AS o SET revoked_at = now() WHERE o.id = override AND o.revoked_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE crm_data.model AS m SET options = m.options #- ARRAY['overrides', override::text], updated_at = now() WHERE m.name = 'win' AND m.options -> 'overrides' ? override::text;
    RETURN true;
END
$$;
COMMENT ON FUNCTION crm.odds_override_revoke(bigint) IS 'Takes an override back; false when there is none. override: its id.';

-- The past once more: what the model would have said of deals that closed in a span, from what was known at each row's own time.
CREATE OR REPLACE FUNCTION crm._odds_replay(config jsonb, from_at timestamptz, to_at timestamptz)
    RETURNS TABLE (opportunity_id bigint, stage text, p float8, outcome float8, share float8)
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning -- the table of the call before may be there or not
AS $$
#variable_conflict use_column
DECLARE
    cuts jsonb;
    names text[] := ARRAY(SELECT d FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS x (d, ord) ORDER BY ord);
BEGIN
    PERFORM crm._check_odds_config(config);
    cuts := crm._stage_cuts(from_at, ARRAY(SELECT x::float8 / 100 FROM jsonb_array_elements_text(config #> '{buckets,stage_age,percentiles}') AS x));
    DROP TABLE IF EXISTS pg_temp.crm_odds_replay;
    -- a refit every thirty days, from ninety days before the span, so that the experts have weights when it begins
    EXECUTE format('CREATE TEMP TABLE crm_odds_replay ON COMMIT DROP AS
        SELECT r.opportunity_id || ''.'' || r.seq AS id, r.opportunity_id, st.code AS stage, r.entered, CASE WHEN r.outcome IS NOT NULL THEN greatest(r.labelled, r.entered) END AS labelled, r.outcome AS won,
               greatest(0, 1 + floor(extract(epoch FROM r.entered - $2) / 2592000))::int AS block, %s
          FROM crm._win_rows($1, $4, $3) AS r LEFT JOIN crm_data.stage AS st ON st.id = r.stage_id',
        (SELECT string_agg(format('r.dims[%s] AS d%s', i, i), ', ' ORDER BY i) FROM generate_subscripts(names, 1) AS i))
        USING to_at, from_at - interval '90 days', config, cuts;
    -- blocks are numbered without gaps
    UPDATE pg_temp.crm_odds_replay AS t SET block = b.nr FROM (SELECT z.block, dense_rank() OVER (ORDER BY z.block) AS nr FROM (SELECT DISTINCT y.block FROM pg_temp.crm_odds_replay AS y WHERE y.block > 0) AS z) AS b WHERE b.block = t.block;
    RETURN QUERY
    SELECT t.opportunity_id, t.stage, b.p, t.won, 1.0::float8 / count(*) OVER (PARTITION BY t.opportunity_id)
      FROM crm.odds_backtest('pg_temp.crm_odds_replay', 'id', ARRAY(SELECT ('d' || i)::name FROM generate_subscripts(names, 1) AS i ORDER BY i), 'won', 'entered', 'labelled', 'block', 'opportunity_id') AS b
      JOIN pg_temp.crm_odds_replay AS t ON t.id = b.id
     WHERE t.won IS NOT NULL AND t.labelled >= from_at AND t.labelled < to_at;
    DROP TABLE pg_temp.crm_odds_replay;
END
$$;
COMMENT ON FUNCTION crm._odds_replay(jsonb, timestamptz, timestamptz) IS 'Prequential predictions of the rows of deals that closed in a span, under a configuration, with the share of each row in its deal. Internal.';

CREATE OR REPLACE FUNCTION crm.odds_score(from_at timestamptz, to_at timestamptz)
    RETURNS TABLE (segment text, deals bigint, log_loss float8, brier float8, auc float8, ece float8, observed float8, expected float8)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF from_at IS NULL OR to_at IS NULL OR from_at >= to_at OR NOT isfinite(from_at) OR to_at > now() + interval '1 minute' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a score is of a span that is over';
    END IF;
    RETURN QUERY
    WITH r AS MATERIALIZED (SELECT * FROM crm._odds_replay(crm._odds_config('win'), from_at, to_at)),
    s AS (SELECT g.segment, r.opportunity_id, least(greatest(r.p, 1e-9), 1 - 1e-9) AS p, r.outcome AS y, r.share FROM r, LATERAL (VALUES ('*'), ('stage=' || r.stage)) AS g (segment)),
    k AS (SELECT s.*, rank() OVER (PARTITION BY s.segment ORDER BY s.p) + (count(*) OVER (PARTITION BY s.segment, s.p) - 1) / 2.0 AS place, least(floor(s.p * 20), 19) AS bin FROM s),
    gap AS (SELECT z.segment, sum(abs(z.d)) AS d FROM (SELECT k.segment, sum(k.y - k.p) AS d FROM k GROUP BY k.segment, k.bin) AS z GROUP BY z.segment)
    SELECT k.segment, count(DISTINCT k.opportunity_id), avg(-(k.y * ln(k.p) + (1 - k.y) * ln(1 - k.p))), avg((k.y - k.p) ^ 2),
           ((sum(k.place) FILTER (WHERE k.y = 1) - sum(k.y) * (sum(k.y) + 1) / 2) / nullif(sum(k.y) * (count(*) - sum(k.y)), 0))::float8, max(gap.d) / count(*), avg(k.y), avg(k.p)
      FROM k JOIN gap USING (segment) GROUP BY k.segment ORDER BY k.segment = '*' DESC, k.segment;
END
$$;
COMMENT ON FUNCTION crm.odds_score(timestamptz, timestamptz) IS
'How good the win probability was for the deals that closed in a span: each of their rows predicted from what was known at its own time, with a refit every thirty days.
from_at, to_at: the span, over. segment: * for all, then by stage; deals; log_loss and brier: lower is better; auc: 0.5 is chance, NULL with one outcome; ece: mean gap between told and come in twenty bins; observed, expected: mean outcome and mean probability.
Errors: 22023 a span that is not over, or a configuration that cannot be used.';

CREATE OR REPLACE FUNCTION crm.odds_challenge(dims text[], days int DEFAULT 90, OUT champion_loss float8, OUT challenger_loss float8, OUT deals bigint, OUT confidence float8, OUT is_better boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    config jsonb := crm._odds_config('win');
    needed float8 := coalesce((crm._odds_config('drift') ->> 'promote_confidence')::float8, 0.9);
    mine float8[];
    ours float8[];
    d float8[];
BEGIN
    IF dims IS NULL OR days IS NULL OR days NOT BETWEEN 1 AND 7300 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a challenge needs dimensions and 1 to 7300 days';
    END IF;
    ours := ARRAY(SELECT sum(x.share * -ln(CASE WHEN x.outcome = 1 THEN x.p ELSE 1 - x.p END)) FROM crm._odds_replay(config, now() - make_interval(days => days), now()) AS x GROUP BY x.opportunity_id ORDER BY x.opportunity_id);
    mine := ARRAY(SELECT sum(x.share * -ln(CASE WHEN x.outcome = 1 THEN x.p ELSE 1 - x.p END))
                    FROM crm._odds_replay(jsonb_set(config, '{dims}', to_jsonb(dims)), now() - make_interval(days => days), now()) AS x GROUP BY x.opportunity_id ORDER BY x.opportunity_id);
    SELECT avg(o), avg(m), count(*) INTO champion_loss, challenger_loss, deals FROM unnest(ours, mine) AS u (o, m);
    d := ARRAY(SELECT o - m FROM unnest(ours, mine) AS u (o, m));
    -- paired bootstrap over deals, 1000 draws by a hash instead of chance, so that the same question has the same answer
    SELECT avg((b.gain > 0)::int) INTO confidence
      FROM (SELECT sum(d[1 + (hashint8extended(draw * 1000003::bigint + i, 0) & 9223372036854775807) % cardinality(d)]) AS gain
              FROM generate_series(1, 1000) AS draw, generate_series(1, least(cardinality(d), 2000)) AS i WHERE cardinality(d) > 0 GROUP BY draw) AS b;
    is_better := coalesce(deals >= 30 AND challenger_loss < champion_loss AND confidence >= needed, false);
END
$$;
COMMENT ON FUNCTION crm.odds_challenge(text[], int) IS
'Would other dimensions have predicted the last months'' deals better than the configured ones? Both predict them from what was known at each row''s time. Nothing is changed: a better challenger is proposed as a configuration of kind odds and key win.
dims: the challenger''s dimensions; days: how far back the deals closed, 1 to 7300. champion_loss, challenger_loss: mean log loss a deal; confidence: share of 1000 paired bootstrap draws in which the challenger is better; is_better: on at least 30 deals, with the configured confidence (odds/drift, promote_confidence).
Errors: 22023 no dimensions, days out of range, or an unknown dimension.';

-- Once a month another choice of dimensions is tried: one more, or one less, in turn.
CREATE OR REPLACE FUNCTION crm._try_challenger(as_of timestamptz, days int DEFAULT 90) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    config jsonb := crm._odds_config('win');
    mine text[] := ARRAY(SELECT d FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS x (d, ord) ORDER BY ord);
    known CONSTANT text[] := '{stage,pipeline,industry,account_type,account_region,account_grade,product_line,deal_type,source,owner,team,competitor,stage_age,days_to_expiry,fiscal_phase,close_month_in_quarter,amount_bucket,amount_zeros}';
    local timestamp := as_of AT TIME ZONE (crm._odds_setting('organisation.timezone') #>> '{}');
    month int := (extract(year FROM local) * 12 + extract(month FROM local))::int;
    choice text;
    other text[];
    c record;
BEGIN
    IF NOT EXISTS (SELECT FROM crm_data.model AS m WHERE m.name = 'win' AND m.status = 'champion' AND m.options ->> 'status' = 'ok') THEN
        RETURN NULL;
    END IF;
    choice := known[1 + month % cardinality(known)];
    other := CASE WHEN choice = ANY (mine) THEN array_remove(mine, choice) ELSE mine || choice END;
    IF cardinality(other) NOT BETWEEN 1 AND 24 THEN
        RETURN NULL;
    END IF;
    SELECT x.* INTO c FROM crm.odds_challenge(other, days) AS x;
    INSERT INTO crm_data.model (name, version, kind, status, dims, options, as_of, rows_used, metrics)
    SELECT 'win', max(m.version) + 1, 'mixture', 'challenger', other, jsonb_build_object('config', jsonb_set(config, '{dims}', to_jsonb(other)), 'status', 'ok'), _try_challenger.as_of, c.deals,
           jsonb_build_object('champion_loss', c.champion_loss, 'challenger_loss', c.challenger_loss, 'confidence', c.confidence, 'is_better', c.is_better)
      FROM crm_data.model AS m WHERE m.name = 'win';
    IF c.is_better THEN
        INSERT INTO crm_data.alert (kind, level, message, value, factors, dedupe_key)
        VALUES ('model_challenger', 'info', format('win probability: %s the dimension %s the last %s days would have been predicted better (log loss %s instead of %s); propose it as the configuration odds/win',
                                                   CASE WHEN choice = ANY (mine) THEN 'without' ELSE 'with' END, choice, days, round(c.challenger_loss::numeric, 3), round(c.champion_loss::numeric, 3)),
                c.challenger_loss, '[]', 'challenger:win:' || choice)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN c.is_better;
END
$$;
COMMENT ON FUNCTION crm._try_challenger(timestamptz, int) IS
'Lets a challenger of the win probability with one dimension more or less, another each month, predict the last days'' deals beside the champion (crm.odds_challenge), keeps the figures as a version with status challenger, and tells of one that is better; nothing is promoted without somebody. Answers whether it is better, NULL when none could be tried. Internal.';

CREATE OR REPLACE FUNCTION crm.model_rollback(name text DEFAULT 'win') RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    back record;
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_director');
    LOCK TABLE crm_data.model IN SHARE ROW EXCLUSIVE MODE;
    SELECT m.id, m.version INTO back FROM crm_data.model AS m
     WHERE m.name = model_rollback.name AND m.status = 'retired' AND m.promoted_at IS NOT NULL
       AND m.version < (SELECT c.version FROM crm_data.model AS c WHERE c.name = model_rollback.name AND c.status = 'champion')
     ORDER BY m.version DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('there is no earlier champion of the model "%s"', model_rollback.name);
    END IF;
    UPDATE crm_data.model AS m SET status = 'retired', retired_at = now(), updated_at = now() WHERE m.name = model_rollback.name AND m.status = 'champion';
    UPDATE crm_data.model AS m SET status = 'champion', promoted_at = now(), retired_at = NULL, updated_at = now() WHERE m.id = back.id;
    IF model_rollback.name = 'win' THEN
        PERFORM crm._store_probabilities(now());
    END IF;
    RETURN back.version;
END
$$;
COMMENT ON FUNCTION crm.model_rollback(text) IS
'Makes the champion before the present one the champion again; its successor is kept as retired. name: model. Answers the version. Errors: 55000 there is no earlier champion.';
