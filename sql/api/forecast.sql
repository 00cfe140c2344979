-- Forecast: which open deals close in a period and are won, what that sums to, and how far to believe it.

CREATE OR REPLACE FUNCTION crm._to_base(amount numeric, currency text, day date) RETURNS numeric
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN _to_base.currency = b.currency THEN _to_base.amount
                ELSE round(_to_base.amount * (SELECT x.rate FROM crm_data.fx_rate AS x
                                               WHERE x.currency = _to_base.currency AND x.base_currency = b.currency AND x.rate_date <= _to_base.day
                                               ORDER BY x.rate_date DESC LIMIT 1), 2) END
      FROM (SELECT crm._odds_setting('organisation.currency') #>> '{}' AS currency) AS b;
END;
COMMENT ON FUNCTION crm._to_base(numeric, text, date) IS
'An amount in the organisation''s currency at the rate of the day or the last one before it; NULL without a rate. Internal.';

-- Two questions of every open deal: does it close in the period, and if it does, is it won. Both are learned from the same
-- questions asked a period ago, two periods ago and so on, of the deals as they were then.
CREATE OR REPLACE FUNCTION crm._timing_questions(period daterange, at timestamptz) RETURNS TABLE (k int, lag int, asked_at timestamptz, first date, last date)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH place AS MATERIALIZED (
        SELECT x.tz, x.today, greatest(lower(_timing_questions.period), x.today) AS first, upper(_timing_questions.period) AS last,
               -- whole months are compared with whole months, anything else with as many days
               CASE WHEN extract(day FROM lower(_timing_questions.period)) = 1 AND extract(day FROM upper(_timing_questions.period)) = 1
                    THEN date_trunc('month', age(upper(_timing_questions.period), lower(_timing_questions.period)))
                    ELSE make_interval(days => greatest(upper(_timing_questions.period) - lower(_timing_questions.period), 7)) END AS step
          FROM (SELECT z.tz, (_timing_questions.at AT TIME ZONE z.tz)::date AS today FROM (SELECT crm._odds_setting('organisation.timezone') #>> '{}' AS tz) AS z) AS x
    )
    SELECT k.k, p.lag, ((_timing_questions.at AT TIME ZONE p.tz) - k.k * p.step) AT TIME ZONE p.tz, (p.first - k.k * p.step)::date, (p.last - k.k * p.step)::date
      FROM (SELECT place.*, (SELECT min(g) FROM generate_series(1, 1000) AS g WHERE place.last - g * place.step <= place.today) AS lag FROM place) AS p,
           -- only periods that were over by then have an answer
           LATERAL (SELECT 0 AS k UNION ALL SELECT g FROM generate_series(p.lag, p.lag + 11) AS g) AS k
     WHERE p.last > p.today
       -- before the first close on record nothing can be told from silence
       AND (k.k = 0 OR (p.first - k.k * p.step)::timestamp AT TIME ZONE p.tz >= (SELECT min(h.entered_at) - interval '7 days' FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id WHERE s.outcome <> 'open'));
END;
COMMENT ON FUNCTION crm._timing_questions(daterange, timestamptz) IS
'When the question of a period is asked: k 0 now, of what is left of it, k periods ago of the periods that were over by now, of as much of each; lag: the first of those. No rows for a period that is over. Internal.';

CREATE OR REPLACE FUNCTION crm._timing_rows(period daterange, at timestamptz, config jsonb, cuts jsonb, past boolean)
    RETURNS TABLE (k int, lag int, opportunity_id bigint, stage_id bigint, close_date date, amount float8, closed boolean, won boolean, dims text[])
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH z AS MATERIALIZED (SELECT crm._odds_setting('organisation.timezone') #>> '{}' AS tz)
    SELECT a.k, a.lag, r.opportunity_id, r.stage_id, r.close_date, crm._to_base(r.amount, r.currency, (a.asked_at AT TIME ZONE z.tz)::date)::float8, f.closed, f.won,
           r.dims[1:20] || ARRAY[width_bucket(extract(epoch FROM a.asked_at - r.opened)::float8 / 86400, '{7,14,30,45,60,90,120,180,365}')::text,
                          ((extract(month FROM a.first)::int - 1) % 3 + 1)::text,
                          CASE WHEN r.close_date IS NULL THEN NULL WHEN r.close_date < a.first THEN 'before' WHEN r.close_date < a.last THEN 'in' ELSE 'after' END]
      FROM z CROSS JOIN crm._timing_questions(_timing_rows.period, _timing_rows.at) AS a
     CROSS JOIN LATERAL crm._win_rows(a.asked_at, _timing_rows.cuts, _timing_rows.config, NULL, true) AS r
      LEFT JOIN LATERAL (SELECT coalesce(bool_or(h.entered_at >= a.first::timestamp AT TIME ZONE z.tz), false) AS closed,
                                coalesce(bool_or(h.entered_at >= a.first::timestamp AT TIME ZONE z.tz AND s.outcome = 'won'), false) AS won
                           FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id
                          WHERE _timing_rows.past AND h.opportunity_id = r.opportunity_id AND s.outcome <> 'open' AND h.recorded_at <= _timing_rows.at
                            AND h.entered_at > a.asked_at AND h.entered_at < a.last::timestamp AT TIME ZONE z.tz) AS f ON true
     WHERE (a.k > 0) = _timing_rows.past;
END;
COMMENT ON FUNCTION crm._timing_rows(daterange, timestamptz, jsonb, jsonb, boolean) IS
'Deals as the timing model sees them: those open now (past false), or those that were open when the question was asked before, with what became of them. amount: in the organisation''s currency at the rate of the day, NULL without a rate. Internal.';

CREATE OR REPLACE FUNCTION crm._timing_fit(period daterange, at timestamptz, OUT config jsonb, OUT cuts jsonb, OUT closes bytea, OUT wins bytea, OUT n bigint, OUT bias float8, OUT shock float8)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH config AS MATERIALIZED (
        SELECT coalesce(m.options -> 'config', crm._odds_config('win')) AS body,
               coalesce(m.options -> 'cuts', crm._stage_cuts(_timing_fit.at, '{0.25,0.5,0.75,0.9}')) AS cuts
          FROM (SELECT crm._win_model(_timing_fit.at) AS id) AS i LEFT JOIN crm_data.model AS m ON m.id = i.id
    ), row_of AS MATERIALIZED (
        SELECT r.* FROM config AS c, crm._timing_rows(_timing_fit.period, _timing_fit.at, c.body, c.cuts, true) AS r
    ), head AS MATERIALIZED (
        -- what could have been learned by each time, for the habit of the last forecasts; 0 is what can be learned now
        SELECT j.k, (SELECT crm.lattice_fit(t.dims, t.closed::int, 1) FROM row_of AS t WHERE t.k >= j.k + j.lag) AS closes,
               (SELECT crm.lattice_fit(t.dims, t.won::int, 1) FROM row_of AS t WHERE t.closed AND t.k >= j.k + j.lag) AS wins,
               (SELECT count(*) FROM row_of AS t WHERE t.closed AND t.k >= j.k + j.lag) AS n
          FROM (SELECT q.k, q.lag FROM crm._timing_questions(_timing_fit.period, _timing_fit.at) AS q ORDER BY q.k LIMIT 7) AS j
    ), past AS (
        -- summed in one order, so that the same question has the same answer to the last digit
        SELECT r.k, sum(r.amount * c.p * w.p ORDER BY r.opportunity_id) AS forecast, coalesce(sum(r.amount ORDER BY r.opportunity_id) FILTER (WHERE r.won), 0) AS actual,
               sum(r.amount * r.amount * c.p * w.p * (1 - c.p * w.p) ORDER BY r.opportunity_id) AS variance, power(2, -(r.k - 1) / 4.0)::float8 AS w
          FROM row_of AS r JOIN head AS h ON h.k = r.k AND h.n >= 30, crm.lattice_predict(h.closes, r.dims) AS c, crm.lattice_predict(h.wins, r.dims) AS w
         GROUP BY r.k
    ), habit AS (
        -- the mean forecast counts as one period without any error
        SELECT coalesce((sum(p.w * p.actual ORDER BY p.k) + avg(p.forecast ORDER BY p.k)) / nullif(sum(p.w * p.forecast ORDER BY p.k) + avg(p.forecast ORDER BY p.k), 0), 1) AS bias FROM past AS p
    ), common AS (
        SELECT sqrt((coalesce(sum(p.w * greatest((power(p.actual - t.bias * p.forecast, 2) - p.variance) / nullif(power(t.bias * p.forecast, 2), 0), 0) ORDER BY p.k), 0) + 0.04) / (coalesce(sum(p.w ORDER BY p.k), 0) + 1)) AS shock
          FROM habit AS t LEFT JOIN past AS p ON true
    )
    SELECT c.body, c.cuts, h.closes::bytea, h.wins::bytea, coalesce(h.n, 0), least(greatest(t.bias, 0.25), 4), least(x.shock, 1)
      FROM config AS c CROSS JOIN habit AS t CROSS JOIN common AS x LEFT JOIN head AS h ON h.k = 0;
END;
COMMENT ON FUNCTION crm._timing_fit(daterange, timestamptz) IS
'The timing model of a period at an instant: heads for whether a deal closes in it and for whether it is then won, closed deals behind them, the bias of the last forecasts and the shock that they had in common. Internal.';

-- The stored timing model of a period, if it is of the day and a half before the instant.
CREATE OR REPLACE FUNCTION crm._timing_model(period daterange, at timestamptz, OUT config jsonb, OUT cuts jsonb, OUT closes bytea, OUT wins bytea, OUT n bigint, OUT bias float8, OUT shock float8, OUT version text)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m crm_data.model;
BEGIN
    SELECT x.* INTO m FROM crm_data.model AS x
     WHERE x.name = 'timing.close ' || period::text AND x.as_of <= at AND x.as_of > at - interval '36 hours' ORDER BY x.as_of DESC, x.version DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT f.config, f.cuts, f.closes, f.wins, f.n, f.bias, f.shock INTO config, cuts, closes, wins, n, bias, shock FROM crm._timing_fit(period, at) AS f;
        RETURN;
    END IF;
    version := 'timing ' || m.version;
    config := m.options -> 'config';
    cuts := m.options -> 'cuts';
    closes := m.params;
    wins := (SELECT x.params FROM crm_data.model AS x WHERE x.name = 'timing.win ' || period::text AND x.version = m.version);
    n := m.rows_used;
    bias := (m.options ->> 'bias')::float8;
    shock := (m.options ->> 'shock')::float8;
END
$$;
COMMENT ON FUNCTION crm._timing_model(daterange, timestamptz) IS
'The timing model that answers for a period at an instant: the newest that was stored (crm.timing_refit) in the day and a half before, else one fitted now; version: NULL for the latter. Internal.';

CREATE OR REPLACE FUNCTION crm.timing_refit(as_of timestamptz DEFAULT now()) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
    SET extra_float_digits = 1 -- numbers in options are exact
AS $$
DECLARE
    today date := (as_of AT TIME ZONE (crm._odds_setting('organisation.timezone') #>> '{}'))::date;
    span daterange;
    f record;
    next_version int;
    stored int := 0;
BEGIN
    PERFORM crm._begin_fit(as_of);
    FOR span IN SELECT daterange(s.first, (s.first + u.step)::date)
                  FROM (VALUES ('month', interval '1 month'), ('quarter', interval '3 months')) AS u (unit, step), generate_series(0, 1) AS ahead,
                       LATERAL (SELECT (date_trunc(u.unit, today::timestamp) + ahead * u.step)::date AS first) AS s
    LOOP
        f := crm._timing_fit(span, as_of);
        SELECT coalesce(max(m.version), 0) + 1 INTO next_version FROM crm_data.model AS m WHERE m.name = 'timing.close ' || span::text;
        UPDATE crm_data.model AS m SET status = 'retired', retired_at = now(), updated_at = now()
         WHERE m.name IN ('timing.close ' || span::text, 'timing.win ' || span::text) AND m.status = 'champion' AND m.as_of <= timing_refit.as_of;
        INSERT INTO crm_data.model (name, version, kind, status, dims, options, params, as_of, rows_used)
        SELECT h.head || ' ' || span::text, next_version, 'lattice',
               CASE WHEN EXISTS (SELECT FROM crm_data.model AS m WHERE m.name = h.head || ' ' || span::text AND m.status = 'champion') THEN 'retired' ELSE 'champion' END,
               (ARRAY(SELECT d FROM jsonb_array_elements_text(f.config -> 'dims') WITH ORDINALITY AS x (d, ord) ORDER BY ord))[1:20] || '{deal_age,month_in_quarter,planned}'::text[],
               CASE h.head WHEN 'timing.close' THEN jsonb_build_object('config', f.config, 'cuts', f.cuts, 'bias', f.bias, 'shock', f.shock) ELSE '{}' END, h.params, as_of, f.n
          FROM (VALUES ('timing.close', f.closes), ('timing.win', f.wins)) AS h (head, params);
        stored := stored + 1;
    END LOOP;
    -- what is older can be fitted again
    DELETE FROM crm_data.model AS m WHERE m.name LIKE 'timing.%' AND m.as_of < timing_refit.as_of - interval '40 days';
    RETURN stored;
END
$$;
COMMENT ON FUNCTION crm.timing_refit(timestamptz) IS
'Stores the timing models of this and the next month and quarter as they can be learned at an instant, so that crm.forecast answers without fitting; called by the nightly job. Other periods, and instants without a model of the day and a half before, are fitted when they are asked for.
as_of: instant, not after now. Answers how many periods. Models older than 40 days are deleted. Errors: 22023 as_of in the future.';

CREATE OR REPLACE FUNCTION crm._forecast_deals(period daterange, at timestamptz)
    RETURNS TABLE (opportunity_id bigint, stage_id bigint, amount float8, close_date date, p_close float8, p_won float8, bias float8, shock float8, n bigint, status text, version text)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    m record := crm._timing_model(_forecast_deals.period, _forecast_deals.at);
    closes crm.lattice;
    wins crm.lattice;
BEGIN
    IF m.n >= 30 THEN
        closes := m.closes::crm.lattice;
        wins := m.wins::crm.lattice;
        RETURN QUERY
        SELECT r.opportunity_id, r.stage_id, r.amount, r.close_date, c.p, w.p, m.bias, m.shock, m.n, 'ok', m.version
          FROM crm._timing_rows(_forecast_deals.period, _forecast_deals.at, m.config, m.cuts, false) AS r, crm.lattice_predict(closes, r.dims) AS c, crm.lattice_predict(wins, r.dims) AS w;
        RETURN;
    END IF;
    RETURN QUERY
    WITH row_of AS MATERIALIZED (SELECT r.* FROM crm._timing_rows(_forecast_deals.period, _forecast_deals.at, m.config, m.cuts, false) AS r)
    SELECT r.opportunity_id, r.stage_id, r.amount, r.close_date, CASE r.dims[cardinality(r.dims)] WHEN 'in' THEN 1 ELSE 0 END::float8, w.p, m.bias, m.shock, m.n, 'insufficient_history', m.version
      FROM row_of AS r
      LEFT JOIN crm._win_predict(_forecast_deals.at, (SELECT coalesce(array_agg(u.opportunity_id), '{}') FROM row_of AS u)) AS w ON w.opportunity_id = r.opportunity_id;
END
$$;
COMMENT ON FUNCTION crm._forecast_deals(daterange, timestamptz) IS
'Open deals at an instant: probability that each closes in the rest of the period, and that it is won then; the bias of the last forecasts and the shock that they had in common. With fewer than 30 closed deals to learn from: the planned close decides, the win probability is that of crm.win_probability, and the status says so. amount: in the organisation''s currency at the rate of the day, NULL without a rate; version: stored timing model behind it, NULL for one fitted now. Internal.';

-- Credibility before anything is learned: how often the representative was right lately, whether the customer signed, whether legal has looked.
CREATE OR REPLACE FUNCTION crm._representative_rate(at timestamptz) RETURNS TABLE (member_id bigint, rate float8, n bigint)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH config AS (
        SELECT (c.body ->> 'window')::interval AS span, (c.body ->> 'shrink_to_team')::float8 AS shrink
          FROM crm_data.config AS c WHERE c.kind = 'credibility' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active'
    ), stated AS (
        -- what the deal's last open stage said of it, or the member did, against what came
        SELECT o.owner_id, o.team_id, ((coalesce(o.probability_manual, s.default_probability) >= 0.5) = (e.outcome = 'won'))::int AS hit,
               power(2, -extract(epoch FROM _representative_rate.at - h.entered_at)::float8 / extract(epoch FROM c.span)::float8 * 2) AS w
          FROM config AS c, crm_data.stage_history AS h
          JOIN crm_data.stage AS e ON e.id = h.to_stage_id AND e.outcome <> 'open'
          JOIN crm_data.stage AS s ON s.id = h.from_stage_id AND s.outcome = 'open'
          JOIN crm_data.opportunity AS o ON o.id = h.opportunity_id AND o.deleted_at IS NULL
         WHERE h.recorded_at <= _representative_rate.at AND h.entered_at <= _representative_rate.at AND h.entered_at > _representative_rate.at - c.span
    ), whole AS (
        SELECT (coalesce(sum(s.w * s.hit), 0) + 5) / (coalesce(sum(s.w), 0) + 10) AS rate FROM stated AS s
    ), team AS (
        SELECT s.team_id, (sum(s.w * s.hit) + 10 * w.rate) / (sum(s.w) + 10) AS rate FROM stated AS s, whole AS w GROUP BY s.team_id, w.rate
    )
    SELECT m.id, (coalesce(x.hits, 0) + c.shrink * coalesce(t.rate, w.rate)) / (coalesce(x.w, 0) + c.shrink), coalesce(x.n, 0)
      FROM config AS c, whole AS w, crm_data.member AS m
      LEFT JOIN (SELECT s.owner_id, sum(s.w * s.hit) AS hits, sum(s.w) AS w, count(*) AS n FROM stated AS s GROUP BY s.owner_id) AS x ON x.owner_id = m.id
      LEFT JOIN team AS t ON t.team_id IS NOT DISTINCT FROM m.team_id;
END;
COMMENT ON FUNCTION crm._representative_rate(timestamptz) IS
'Share of the last months'' closed deals of each member whose outcome was what their stage or their owner had stated, recent ones counting more, shrunk to the team''s and that to everybody''s. Internal.';

CREATE OR REPLACE FUNCTION crm._credibility_parts(at timestamptz, opportunities bigint[] DEFAULT NULL) RETURNS TABLE (opportunity_id bigint, representative float8, signed float8, legal float8, credibility float8)
    LANGUAGE sql STABLE PARALLEL SAFE -- not STRICT: NULL opportunities means all
    SET search_path = pg_catalog, pg_temp -- never inlined: its rows are asked for once
BEGIN ATOMIC
    WITH evidence AS (
        SELECT a.record_id AS opportunity_id,
               max(CASE WHEN a.kind = 'requirement_confirmation' THEN CASE WHEN a.signed_by_customer THEN 1 ELSE 0.5 END END) AS signed,
               max(CASE WHEN a.legal_reviewed_at <= _credibility_parts.at THEN 1 END) AS legal
          FROM crm_data.attachment AS a
         WHERE a.object = 'opportunity' AND a.created_at <= _credibility_parts.at AND (a.retracted_at IS NULL OR a.retracted_at > _credibility_parts.at)
         GROUP BY a.record_id
    ), contract AS (
        SELECT c.opportunity_id, max(1) AS legal FROM crm_data.contract AS c WHERE c.legal_reviewed_at <= _credibility_parts.at AND c.opportunity_id IS NOT NULL GROUP BY c.opportunity_id
    )
    SELECT o.id, r.rate, coalesce(e.signed, 0)::float8, coalesce(e.legal, l.legal, 0)::float8,
           100 * ((w.body #>> '{weights,representative}')::float8 * coalesce(r.rate, 0.5) + (w.body #>> '{weights,signed}')::float8 * coalesce(e.signed, 0)
                  + (w.body #>> '{weights,legal}')::float8 * coalesce(e.legal, l.legal, 0))
      FROM crm_data.opportunity AS o
      JOIN crm_data.config AS w ON w.kind = 'credibility' AND w.key = 'default' AND w.scope = '*' AND w.status = 'active'
      LEFT JOIN crm._representative_rate(_credibility_parts.at) AS r ON r.member_id = o.owner_id
      LEFT JOIN evidence AS e ON e.opportunity_id = o.id
      LEFT JOIN contract AS l ON l.opportunity_id = o.id
     WHERE (o.outcome = 'open' OR o.closed_at > _credibility_parts.at) AND (_credibility_parts.opportunities IS NULL OR o.id = ANY (_credibility_parts.opportunities));
END;
COMMENT ON FUNCTION crm._credibility_parts(timestamptz, bigint[]) IS
'Credibility of the forecast of every deal open at a time, before anything is learned: 100 (0.5 R + 0.3 S + 0.2 L) with the configured weights; R the representative''s rate, S a requirement confirmation (1/2 while the customer has not signed), L legal''s first review. Internal.';

-- What the learned credibility knows of a stated forecast: the model's own probability, how far the statement is from it, and the evidence.
CREATE OR REPLACE FUNCTION crm._credibility_rows(at timestamptz, config jsonb, cuts jsonb, win bigint, opportunities bigint[] DEFAULT NULL)
    RETURNS TABLE (opportunity_id bigint, stated float8, dims text[])
    LANGUAGE sql STABLE PARALLEL SAFE -- not STRICT: NULL opportunities means all
    SET search_path = pg_catalog, pg_temp -- never inlined: its rows are asked for once
BEGIN ATOMIC
    SELECT r.opportunity_id, s.stated,
           ARRAY[width_bucket(x.p, 0, 1, 10)::text, width_bucket(s.stated - x.p, '{-0.5,-0.3,-0.15,-0.05,0.05,0.15,0.3,0.5}')::text,
                 coalesce(width_bucket(c.representative, '{0.3,0.4,0.5,0.6,0.7,0.8}')::text, '-'), c.signed::text, c.legal::text,
                 g.code, o.deal_type, least(o.slip_count, 3)::text,
                 (SELECT least(count(*), 3)::text FROM crm_data.stage_history AS h JOIN crm_data.stage AS a ON a.id = h.from_stage_id JOIN crm_data.stage AS b ON b.id = h.to_stage_id AND b.outcome = 'open'
                   WHERE h.opportunity_id = r.opportunity_id AND h.entered_at <= _credibility_rows.at AND b.seq < a.seq)]
      FROM crm._win_rows(_credibility_rows.at, _credibility_rows.cuts, _credibility_rows.config, _credibility_rows.opportunities, true) AS r
      JOIN crm_data.opportunity AS o ON o.id = r.opportunity_id
      JOIN crm_data.stage AS g ON g.id = r.stage_id
     CROSS JOIN LATERAL (SELECT coalesce(CASE WHEN o.updated_at <= _credibility_rows.at THEN o.probability_manual END, g.default_probability) AS stated) AS s
      LEFT JOIN crm._credibility_parts(_credibility_rows.at, _credibility_rows.opportunities) AS c ON c.opportunity_id = r.opportunity_id
     CROSS JOIN LATERAL crm.lattice_predict((SELECT m.params::crm.lattice FROM crm_data.model AS m WHERE m.id = _credibility_rows.win), r.dims) AS x;
END;
COMMENT ON FUNCTION crm._credibility_rows(timestamptz, jsonb, jsonb, bigint, bigint[]) IS 'Open deals at a time with what is stated of them and the dimensions of the learned credibility. Internal.';

CREATE OR REPLACE FUNCTION crm.credibility_refit(as_of timestamptz DEFAULT now()) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' -- days and months are the same whoever asks
AS $$
DECLARE
    needed int := (SELECT (c.body ->> 'min_cases')::int FROM crm_data.config AS c WHERE c.kind = 'credibility' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active');
    fitted crm.lattice;
    cases bigint;
    hits bigint;
    next_version int;
BEGIN
    PERFORM crm._begin_fit(as_of);
    -- the deals as they stood at the start of each of the last twelve months and were decided since; each judged by a win model of before that month
    SELECT crm.lattice_fit(r.dims, ((r.stated >= 0.5) = f.won)::int, 1, '{"order": 1}'), count(*), count(*) FILTER (WHERE (r.stated >= 0.5) = f.won)
      INTO fitted, cases, hits
      FROM generate_series(1, 12) AS k
     CROSS JOIN LATERAL (SELECT as_of - k * interval '1 month' AS at) AS t
     CROSS JOIN LATERAL (SELECT m.id, m.options FROM crm_data.model AS m WHERE m.id = crm._win_model(t.at) AND m.params IS NOT NULL AND m.options ->> 'status' = 'ok') AS w
     CROSS JOIN LATERAL crm._credibility_rows(t.at, w.options -> 'config', w.options -> 'cuts', w.id) AS r
     CROSS JOIN LATERAL (SELECT s.outcome = 'won' AS won FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id AND s.outcome <> 'open'
                          WHERE h.opportunity_id = r.opportunity_id AND h.entered_at > t.at AND h.entered_at <= t.at + interval '1 month' AND h.entered_at <= as_of AND h.recorded_at <= as_of
                          ORDER BY h.entered_at DESC LIMIT 1) AS f;
    IF fitted IS NOT NULL THEN
        -- evidence never counts against: representative, signature, legal review
        fitted := crm.lattice_monotone(crm.lattice_monotone(crm.lattice_monotone(fitted, 3, '{0,1,2,3,4,5,6}'), 4, '{0,0.5,1}'), 5, '{0,1}');
    END IF;
    SELECT coalesce(max(m.version), 0) + 1 INTO next_version FROM crm_data.model AS m WHERE m.name = 'credibility';
    UPDATE crm_data.model AS m SET status = 'retired', retired_at = now(), updated_at = now() WHERE m.name = 'credibility' AND m.status = 'champion';
    INSERT INTO crm_data.model (name, version, kind, status, dims, options, params, as_of, rows_used, metrics, promoted_at)
    VALUES ('credibility', next_version, 'lattice', 'champion', '{win_probability,gap,representative,signed,legal,stage,deal_type,slips,regressions}',
            jsonb_build_object('status', CASE WHEN cases >= needed AND hits BETWEEN 1 AND cases - 1 THEN 'ok' ELSE 'insufficient_history' END), fitted::bytea, as_of, cases, jsonb_build_object('hits', hits), now());
    RETURN next_version;
END
$$;
COMMENT ON FUNCTION crm.credibility_refit(timestamptz) IS
'Learns how far stated forecasts can be believed: of the deals as they stood at the start of each of the last twelve months and were decided within it, how many ended as stated (won where 50 percent or more was stated). Until there are min_cases of them (configuration credibility), and as long as there was no win model before those months, the fixed weights stand.
as_of: instant, not after now. Answers the version. Errors: 22023 as_of in the future. Evidence (representative, signature, legal review) never counts against: see crm.lattice_monotone.';

CREATE OR REPLACE FUNCTION crm._credibility(at timestamptz, opportunities bigint[] DEFAULT NULL)
    RETURNS TABLE (opportunity_id bigint, credibility float8, flag text, representative float8, signed float8, legal float8, learned boolean, model bigint, dims text[])
    LANGUAGE plpgsql STABLE -- not STRICT: NULL opportunities means all
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    body jsonb := (SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'credibility' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active');
    yellow float8 := (body #>> '{levels,yellow}')::float8;
    half float8 := ((body #>> '{hysteresis,leave}')::float8 - (body #>> '{hysteresis,enter}')::float8) / 2;
    m record;
    w record;
BEGIN
    SELECT x.id, x.params::crm.lattice AS lattice INTO m FROM crm_data.model AS x
     WHERE x.name = 'credibility' AND x.status <> 'challenger' AND x.as_of <= at AND x.options ->> 'status' = 'ok' ORDER BY x.as_of DESC, x.version DESC LIMIT 1;
    SELECT x.id, x.options INTO w FROM crm_data.model AS x WHERE m.id IS NOT NULL AND x.id = crm._win_model(at) AND x.params IS NOT NULL;
    RETURN QUERY
    SELECT z.opportunity_id, z.credibility,
           CASE WHEN z.credibility < (body #>> '{levels,red}')::float8 THEN 'red'
                WHEN z.credibility < (body #>> '{levels,orange}')::float8 THEN 'orange'
                -- a flag is entered below and left above the level, so that it does not flicker
                WHEN z.credibility < yellow - half OR (z.was <> 'green' AND z.credibility < yellow + half) OR (z.was IS NULL AND z.credibility < yellow) THEN 'yellow'
                ELSE 'green' END,
           z.representative, z.signed, z.legal, z.dims IS NOT NULL, CASE WHEN z.dims IS NOT NULL THEN m.id END, z.dims
      FROM (SELECT p.opportunity_id, coalesce(100 * x.p, p.credibility) AS credibility, p.representative, p.signed, p.legal, r.dims, o.credibility_flag AS was
              FROM crm._credibility_parts(at, opportunities) AS p
              JOIN crm_data.opportunity AS o ON o.id = p.opportunity_id
              LEFT JOIN (SELECT c.* FROM crm._credibility_rows(at, w.options -> 'config', w.options -> 'cuts', w.id, opportunities) AS c WHERE w.id IS NOT NULL) AS r ON r.opportunity_id = p.opportunity_id
              LEFT JOIN LATERAL crm.lattice_predict(m.lattice, r.dims) AS x ON true) AS z;
END
$$;
COMMENT ON FUNCTION crm._credibility(timestamptz, bigint[]) IS 'Credibility of the open deals, or of the given ones, with the flag that follows from the stored one; dims: what the learned model saw, NULL while the fixed weights stand. See crm.credibility. Internal.';

CREATE OR REPLACE FUNCTION crm.credibility(opp bigint, at timestamptz DEFAULT now(), OUT credibility float8, OUT flag text, OUT representative float8, OUT signed float8, OUT legal float8, OUT contributions jsonb, OUT learned boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is no deal
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    weights jsonb := (SELECT c.body -> 'weights' FROM crm_data.config AS c WHERE c.kind = 'credibility' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active');
    model_id bigint;
    row_dims text[];
BEGIN
    PERFORM crm._check_visible_deal(opp);
    SELECT c.credibility, c.flag, c.representative, c.signed, c.legal, c.learned, c.model, c.dims INTO credibility, flag, representative, signed, legal, learned, model_id, row_dims
      FROM crm._credibility(at, ARRAY[opp]) AS c;
    IF learned THEN
        SELECT jsonb_object_agg(m.dims[e.dim], round(e.points::numeric, 1)) INTO contributions FROM crm_data.model AS m, crm.lattice_explain(m.params::crm.lattice, row_dims) AS e WHERE m.id = model_id AND e.dim > 0;
    ELSIF NOT learned THEN
        contributions := jsonb_build_object('representative', round((100 * (weights ->> 'representative')::float8 * coalesce(representative, 0.5))::numeric, 1),
                                            'signed', round((100 * (weights ->> 'signed')::float8 * signed)::numeric, 1), 'legal', round((100 * (weights ->> 'legal')::float8 * legal)::numeric, 1));
    END IF;
END
$$;
COMMENT ON FUNCTION crm.credibility(bigint, timestamptz) IS
'How far to believe the forecast of an open deal: of 100 forecasts with index 60, 60 come true.
opp: opportunity; at: instant. credibility: 0 to 100, learned (crm.credibility_refit) from the model''s own probability, its gap to what is stated, and the evidence, or, until there is enough to learn from, the fixed weights 50, 30, 20; representative: share of the owner''s last months'' deals that ended as stated, shrunk to the team''s; signed: 1 with a requirement confirmation signed by the customer, 0.5 unsigned; legal: 1 after legal''s first review; flag: green, yellow below 60 (entered at 58, left at 62), orange below 45, red below 30; contributions: points of each part; learned. NULL for a deal that is not open.
Errors: P0002 no such deal for the caller.';

-- Whose a deal is: revenue splits give their members a share, the owner has the rest. Overlay splits are credit on top and no part of a sum.
CREATE OR REPLACE FUNCTION crm._revenue_shares(at timestamptz) RETURNS TABLE (opportunity_id bigint, member_id bigint, team_id bigint, share numeric)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH split AS (
        SELECT x.opportunity_id, x.member_id, least(x.percent, 100 - coalesce(sum(x.percent) OVER (PARTITION BY x.opportunity_id ORDER BY x.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)) / 100 AS share
          FROM crm_data.split AS x WHERE x.kind = 'revenue' AND x.created_at <= _revenue_shares.at
    )
    SELECT s.opportunity_id, s.member_id, m.team_id, s.share FROM split AS s JOIN crm_data.member AS m ON m.id = s.member_id WHERE s.share > 0
    UNION ALL
    SELECT o.id, o.owner_id, o.team_id, 1 - coalesce(s.given, 0)
      FROM crm_data.opportunity AS o LEFT JOIN (SELECT x.opportunity_id, sum(x.share) AS given FROM split AS x WHERE x.share > 0 GROUP BY x.opportunity_id) AS s ON s.opportunity_id = o.id
     WHERE coalesce(s.given, 0) < 1;
END;
COMMENT ON FUNCTION crm._revenue_shares(timestamptz) IS 'Share of every deal that counts for a member, by the revenue splits made by a time; the shares of a deal add up to 1. Internal.';

CREATE OR REPLACE FUNCTION crm.forecast(period daterange, by text DEFAULT 'owner', at timestamptz DEFAULT now())
    RETURNS TABLE (key text, deals bigint, closed numeric, commit numeric, best_case numeric, pipeline numeric, base numeric, adjusted numeric, submitted numeric, quota numeric, credibility float8,
                   low numeric, mid numeric, high numeric, noise_floor float8, currency text, status text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tz text := crm._odds_setting('organisation.timezone') #>> '{}';
    own_currency text := crm._odds_setting('organisation.currency') #>> '{}';
    amount_field int := (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'opportunity' AND f.name = 'amount');
BEGIN
    IF period IS NULL OR isempty(period) OR lower(period) IS NULL OR upper(period) IS NULL OR upper(period) - lower(period) > 1100 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a forecast needs a period with both ends, of at most three years';
    END IF;
    IF by IS NULL OR by NOT IN ('total', 'owner', 'team', 'product_line', 'stage') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a forecast is by total, owner, team, product_line or stage';
    END IF;
    IF at IS NULL OR NOT isfinite(at) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a forecast needs an instant';
    END IF;
    RETURN QUERY
    WITH visible AS (
        SELECT o.id, o.owner_id, o.team_id, o.product_line, o.stage_id, o.outcome, o.closed_at, o.amount, o.currency, o.category, o.close_date
          FROM crm_data.opportunity AS o
         WHERE o.deleted_at IS NULL AND crm.row_visible('opportunity', 'read', o.owner_id, o.team_id, o.grade) AND crm._field_allowed('read', amount_field, o.owner_id, o.team_id)
    ), won AS (
        SELECT v.*, crm._to_base(v.amount, v.currency, (v.closed_at AT TIME ZONE tz)::date) AS value
          FROM visible AS v
         WHERE v.outcome = 'won' AND v.closed_at <= at AND (v.closed_at AT TIME ZONE tz)::date >= lower(period) AND (v.closed_at AT TIME ZONE tz)::date < upper(period)
    ), stated AS (
        SELECT DISTINCT ON (f.opportunity_id) f.opportunity_id, crm._to_base(f.amount, f.currency, (at AT TIME ZONE tz)::date) AS value
          FROM crm_data.forecast AS f
         WHERE f.kind = 'adjusted' AND f.period = forecast.period AND f.opportunity_id IS NOT NULL AND f.as_of <= at
         ORDER BY f.opportunity_id, f.as_of DESC, f.id DESC
    ), submitted AS (
        SELECT DISTINCT ON (f.member_id) f.member_id, m.team_id AS member_team, crm._to_base(f.amount, f.currency, (at AT TIME ZONE tz)::date) AS value
          FROM crm_data.forecast AS f JOIN crm_data.member AS m ON m.id = f.member_id
         WHERE f.kind = 'submitted' AND f.period = forecast.period AND f.opportunity_id IS NULL AND f.as_of <= at AND crm.row_visible('forecast', 'read', f.owner_id, f.team_id, f.grade)
         ORDER BY f.member_id, f.as_of DESC, f.id DESC
    ), open AS (
        SELECT v.id, v.owner_id, v.team_id, v.product_line, d.stage_id, d.amount, d.p_close * d.p_won AS p, d.bias, d.shock, d.status, s.value AS stated, c.credibility,
               -- what was stated of the deal then: the stage's category, or today the deal's own
               CASE WHEN d.close_date IS NULL OR d.close_date < lower(period) OR d.close_date >= upper(period) THEN 'pipeline'
                    WHEN at >= now() - interval '1 day' THEN v.category ELSE g.category END AS category
          FROM crm._forecast_deals(period, at) AS d
          JOIN visible AS v ON v.id = d.opportunity_id
          LEFT JOIN crm_data.stage AS g ON g.id = d.stage_id
          LEFT JOIN stated AS s ON s.opportunity_id = v.id
          LEFT JOIN crm._credibility(at) AS c ON c.opportunity_id = v.id
    ), shared AS (
        SELECT r.opportunity_id, r.member_id, r.team_id, r.share FROM crm._revenue_shares(at) AS r WHERE by IN ('owner', 'team')
        UNION ALL
        SELECT v.id, NULL, NULL, 1 FROM visible AS v WHERE by NOT IN ('owner', 'team')
    ), part AS (
        SELECT CASE by WHEN 'total' THEN 0 WHEN 'owner' THEN r.member_id WHEN 'team' THEN r.team_id WHEN 'stage' THEN x.stage_id END AS id,
               CASE by WHEN 'product_line' THEN x.product_line END AS line, x.opportunity, x.value * r.share AS value, x.amount * r.share::float8 AS amount, x.p, x.bias, x.shock, x.status, x.stated * r.share AS stated, x.credibility, x.category
          FROM (SELECT w.id AS opportunity, w.product_line, w.stage_id, w.value, NULL::float8 AS amount, NULL::float8 AS p, NULL::float8 AS bias, NULL::float8 AS shock,
                       NULL::text AS status, NULL::numeric AS stated, NULL::float8 AS credibility, 'closed'::text AS category FROM won AS w
                UNION ALL
                SELECT o.id, o.product_line, o.stage_id, NULL, o.amount, o.p, o.bias, o.shock, o.status, o.stated, o.credibility, o.category FROM open AS o) AS x
          JOIN shared AS r ON r.opportunity_id = x.opportunity
    ), summed AS (
        SELECT p.id, p.line, count(p.p) AS deals, coalesce(sum(p.value), 0) AS closed,
               coalesce(sum(p.amount) FILTER (WHERE p.category = 'commit'), 0)::numeric AS commit,
               coalesce(sum(p.amount) FILTER (WHERE p.category = 'best_case'), 0)::numeric AS best_case,
               coalesce(sum(p.amount) FILTER (WHERE p.category = 'pipeline'), 0)::numeric AS pipeline,
               coalesce(sum(p.amount * p.bias * p.p), 0) AS expected,
               coalesce(sum(coalesce(p.stated::float8, p.amount * p.bias * p.p)), 0) AS expected_stated,
               sum(p.credibility * p.amount * p.p) / nullif(sum(p.amount * p.p) FILTER (WHERE p.credibility IS NOT NULL), 0) AS credibility,
               crm.forecast_distribution(coalesce(p.amount, 0) * coalesce(p.bias, 1), coalesce(p.p, 0), coalesce((SELECT max(o.shock) FROM open AS o), 0)) AS d,
               count(*) FILTER (WHERE coalesce(p.value::float8, p.amount) IS NULL) AS unpriced,
               bool_or(p.status = 'insufficient_history') AS unlearned
          FROM part AS p GROUP BY p.id, p.line
    )
    SELECT CASE by WHEN 'total' THEN 'total' WHEN 'owner' THEN coalesce(m.full_name, 'nobody') WHEN 'team' THEN coalesce(t.name, 'none') WHEN 'stage' THEN coalesce(g.name, 'none') ELSE coalesce(s.line, 'none') END,
           s.deals, round(s.closed, 2), round(s.commit, 2), round(s.best_case, 2), round(s.pipeline, 2),
           round(s.closed + s.expected::numeric, 2), round(s.closed + s.expected_stated::numeric, 2),
           (SELECT round(sum(u.value), 2) FROM submitted AS u WHERE CASE by WHEN 'total' THEN true WHEN 'owner' THEN u.member_id = s.id WHEN 'team' THEN u.member_team = s.id ELSE false END),
           CASE by WHEN 'owner' THEN (SELECT sum(crm._to_base(q.amount, q.currency, lower(period))) FROM crm_data.quota AS q
                                       WHERE q.member_id = s.id AND q.basis = 'bookings' AND q.product_line = '*' AND q.period <@ period
                                         AND crm.row_visible('quota', 'read', q.owner_id, q.team_id, q.grade))
                   WHEN 'team' THEN (SELECT sum(crm._to_base(q.amount, q.currency, lower(period))) FROM crm_data.quota AS q
                                      WHERE q.team_id = s.id AND q.member_id IS NULL AND q.basis = 'bookings' AND q.product_line = '*' AND q.period <@ period
                                        AND crm.row_visible('quota', 'read', q.owner_id, q.team_id, q.grade)) END,
           round(s.credibility::numeric, 1)::float8,
           round(s.closed + ((s.d).low)::numeric, 2), round(s.closed + ((s.d).mid)::numeric, 2), round(s.closed + ((s.d).high)::numeric, 2),
           round(((s.d).noise_floor)::numeric, 3)::float8, own_currency,
           CASE WHEN s.unpriced > 0 THEN format('not in the sums: deals without amount or exchange rate: %s', s.unpriced) WHEN s.unlearned THEN 'insufficient_history' ELSE 'ok' END
      FROM summed AS s
      LEFT JOIN crm_data.member AS m ON by = 'owner' AND m.id = s.id
      LEFT JOIN crm_data.team AS t ON by = 'team' AND t.id = s.id
      LEFT JOIN crm_data.stage AS g ON by = 'stage' AND g.id = s.id
     ORDER BY 7 DESC, 1;
END
$$;
COMMENT ON FUNCTION crm.forecast(daterange, text, timestamptz) IS
'Forecast of a period from what was known at an instant, over the deals whose amount the caller may read.
period: both ends, at most three years; by: total, owner, team, product_line or stage; at: instant.
By owner and team, revenue splits share a deal between members. deals: open ones; closed: won in the period by then; commit, best_case, pipeline: open amounts by category (those planned to close outside the period or without a planned close are pipeline); base: closed and what the open deals are expected to bring in the rest of the period, deals not yet open are not in it; adjusted: the same with people''s statements; submitted: what the members of the group sent upwards (crm.forecast_submit), NULL where nobody did; quota: of the owner or team for the period; credibility: 0 to 100, weighted; low, mid, high: P10, P50, P90; noise_floor: accuracy that a perfectly calibrated model could expect on these deals, accuracy being max(0, 1 - relative absolute error); currency: the organisation''s; status: ok, insufficient_history, or how many deals lack an amount or an exchange rate and are not in the sums.
Errors: 22023 a period, instant or grouping that cannot be used.';

-- Statements of people: append-only, with a reason, above a threshold with evidence.
CREATE OR REPLACE FUNCTION crm.forecast_adjust(opp bigint, period daterange, amount numeric, reason_code text, reason text, evidence bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: what is missing is named
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    o crm_data.opportunity;
    known jsonb := (SELECT c.body -> 'values' FROM crm_data.config AS c WHERE c.kind = 'picklist' AND c.key = 'adjust_reason' AND c.scope = '*' AND c.status = 'active');
    threshold float8 := (crm._odds_setting('forecast.evidence_over') #>> '{}')::float8;
    expected float8;
    digest bytea;
    before bigint;
    made bigint;
BEGIN
    PERFORM crm._check_visible_deal(opp);
    SELECT x.* INTO o FROM crm_data.opportunity AS x WHERE x.id = opp AND crm.row_visible('opportunity', 'update', x.owner_id, x.team_id, x.grade);
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to state a forecast of this opportunity';
    END IF;
    IF period IS NULL OR isempty(period) OR lower(period) IS NULL OR upper(period) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a statement needs a period with both ends';
    END IF;
    IF amount IS NULL OR amount < 0 OR amount >= 1e16 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a statement needs an amount that is not negative';
    END IF;
    IF coalesce(btrim(reason), '') = '' OR NOT EXISTS (SELECT FROM jsonb_array_elements(known) AS k WHERE k ->> 'key' = reason_code) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a statement needs a reason in words and a reason code',
            HINT = 'Codes are ' || coalesce((SELECT string_agg(k ->> 'key', ', ') FROM jsonb_array_elements(known) AS k), 'values of the picklist adjust_reason') || '.';
    END IF;
    SELECT d.amount * d.p_close * d.p_won INTO expected FROM crm._forecast_deals(period, now()) AS d WHERE d.opportunity_id = opp;
    IF evidence IS NOT NULL THEN
        SELECT a.sha256 INTO digest FROM crm_data.attachment AS a WHERE a.id = evidence AND a.object = 'opportunity' AND a.record_id = opp AND a.retracted_at IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the evidence is no attachment of this opportunity';
        END IF;
    ELSIF abs(amount::float8 - coalesce(expected, 0)) > threshold / 100 * coalesce(o.amount::float8, 0) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a change of more than %s percent of the deal needs evidence', threshold),
            HINT = 'Attach the award notice, the customer''s mail or the like to the opportunity and give its id.';
    END IF;
    SELECT f.id INTO before FROM crm_data.forecast AS f WHERE f.kind = 'adjusted' AND f.opportunity_id = opp AND f.period = period ORDER BY f.as_of DESC, f.id DESC LIMIT 1;
    INSERT INTO crm_data.forecast (kind, period, opportunity_id, account_id, member_id, amount, currency, reason_code, reason, evidence_id, evidence_sha256, as_of, author_id, supersedes_id, owner_id, team_id, grade)
    VALUES ('adjusted', period, opp, o.account_id, o.owner_id, amount, o.currency, reason_code, reason, evidence, digest, clock_timestamp(), crm.me(), before, o.owner_id, o.team_id, o.grade)
    RETURNING id INTO made;
    RETURN made;
END
$$;
COMMENT ON FUNCTION crm.forecast_adjust(bigint, daterange, numeric, text, text, bigint) IS
'States what a deal will bring in a period, beside the computed base, which stays. A later statement replaces an earlier one; none is changed.
opp: opportunity; period: both ends; amount: in the deal''s currency, not negative; reason_code: value of the picklist adjust_reason; reason: in words; evidence: id of an attachment of the deal, needed when the change exceeds the setting forecast.evidence_over (percent of the deal). Answers the statement''s id.
Errors: P0002 no such deal for the caller; 42501 no right to change it; 22023 something missing or out of range.';

-- A member's own word on a period, sent upwards.
CREATE OR REPLACE FUNCTION crm.forecast_submit(period daterange, amount numeric, reason_code text DEFAULT NULL, reason text DEFAULT NULL, evidence bigint DEFAULT NULL, member bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: what is missing is named
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    who bigint := coalesce(member, crm.me());
    whose record;
    known jsonb := (SELECT c.body -> 'values' FROM crm_data.config AS c WHERE c.kind = 'picklist' AND c.key = 'adjust_reason' AND c.scope = '*' AND c.status = 'active');
    threshold float8 := (crm._odds_setting('forecast.evidence_over') #>> '{}')::float8;
    computed float8;
    digest bytea;
    before bigint;
    made bigint;
BEGIN
    IF crm.me() IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'only a member submits a forecast', HINT = 'Log in as a member, see crm.login.';
    END IF;
    -- for oneself, or for those one manages
    WITH RECURSIVE up AS (
        SELECT m.id, m.manager_id, 0 AS depth FROM crm_data.member AS m WHERE m.id = who
        UNION ALL
        SELECT m.id, m.manager_id, u.depth + 1 FROM up AS u JOIN crm_data.member AS m ON m.id = u.manager_id WHERE u.depth < 32
    )
    SELECT m.id, m.team_id INTO whose FROM crm_data.member AS m WHERE m.id = who AND EXISTS (SELECT FROM up AS u WHERE u.id = crm.me());
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to submit a forecast for this member', HINT = 'A forecast is submitted by the member or by one who manages him.';
    END IF;
    IF period IS NULL OR isempty(period) OR lower(period) IS NULL OR upper(period) IS NULL OR upper(period) - lower(period) > 1100 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a forecast needs a period with both ends, of at most three years';
    END IF;
    IF amount IS NULL OR NOT (amount >= 0 AND amount < 1e16) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a forecast needs an amount that is not negative';
    END IF;
    computed := crm._member_forecast(period, now(), who);
    IF abs(amount::float8 - computed) > threshold / 100 * computed THEN
        IF coalesce(btrim(reason), '') = '' OR NOT EXISTS (SELECT FROM jsonb_array_elements(known) AS k WHERE k ->> 'key' = reason_code) THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a forecast more than %s percent away from the computed one needs a reason in words and a reason code', threshold),
                HINT = 'Codes are ' || coalesce((SELECT string_agg(k ->> 'key', ', ') FROM jsonb_array_elements(known) AS k), 'values of the picklist adjust_reason') || '.';
        END IF;
        IF evidence IS NULL AND amount::float8 > computed THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a forecast more than %s percent above the computed one needs evidence', threshold),
                HINT = 'Attach it to one of the deals and give its id.';
        END IF;
    END IF;
    IF evidence IS NOT NULL THEN
        SELECT a.sha256 INTO digest FROM crm_data.attachment AS a JOIN crm_data.opportunity AS o ON a.object = 'opportunity' AND o.id = a.record_id
         WHERE a.id = evidence AND a.retracted_at IS NULL AND EXISTS (SELECT FROM crm._revenue_shares(now()) AS r WHERE r.opportunity_id = o.id AND r.member_id = who)
           AND crm.row_visible('opportunity', 'read', o.owner_id, o.team_id, o.grade);
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the evidence is no attachment of a deal of this member';
        END IF;
    END IF;
    SELECT f.id INTO before FROM crm_data.forecast AS f WHERE f.kind = 'submitted' AND f.member_id = who AND f.period = period AND f.opportunity_id IS NULL ORDER BY f.as_of DESC, f.id DESC LIMIT 1;
    INSERT INTO crm_data.forecast (kind, period, member_id, amount, currency, reason_code, reason, evidence_id, evidence_sha256, as_of, author_id, supersedes_id, owner_id, team_id)
    VALUES ('submitted', period, who, amount, crm._odds_setting('organisation.currency') #>> '{}', reason_code, reason, evidence, digest, clock_timestamp(), crm.me(), before, who, whose.team_id)
    RETURNING id INTO made;
    RETURN made;
END
$$;
COMMENT ON FUNCTION crm.forecast_submit(daterange, numeric, text, text, bigint, bigint) IS
'Submits a member''s forecast of a period: his own word, beside the computed base and the statements on single deals, which stay. A later one replaces an earlier one; none is changed.
period: both ends, at most three years; amount: in the organisation''s currency, not negative; reason_code (picklist adjust_reason) and reason: needed when it is further from the computed forecast than the setting forecast.evidence_over (percent); evidence: id of an attachment of one of the member''s deals, needed when it is that much above; member: whose, by default one''s own; a manager may submit for those he manages. Answers the statement''s id.
Errors: 42501 nobody''s or somebody else''s forecast; 22023 something missing or out of range.';

CREATE OR REPLACE FUNCTION crm._member_forecast(period daterange, at timestamptz, member bigint) RETURNS float8
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH place AS (SELECT crm._odds_setting('organisation.timezone') #>> '{}' AS tz),
    mine AS MATERIALIZED (SELECT r.opportunity_id, r.share::float8 AS share FROM crm._revenue_shares(_member_forecast.at) AS r WHERE r.member_id = _member_forecast.member)
    SELECT coalesce((SELECT sum(crm._to_base(o.amount, o.currency, (o.closed_at AT TIME ZONE z.tz)::date)::float8 * m.share ORDER BY o.id)
                       FROM place AS z, mine AS m JOIN crm_data.opportunity AS o ON o.id = m.opportunity_id
                      WHERE o.outcome = 'won' AND o.deleted_at IS NULL AND o.closed_at <= _member_forecast.at AND (o.closed_at AT TIME ZONE z.tz)::date <@ _member_forecast.period), 0)
         + coalesce((SELECT sum(d.amount * d.bias * d.p_close * d.p_won * m.share ORDER BY d.opportunity_id)
                       FROM crm._forecast_deals(_member_forecast.period, _member_forecast.at) AS d JOIN mine AS m ON m.opportunity_id = d.opportunity_id), 0);
END;
COMMENT ON FUNCTION crm._member_forecast(daterange, timestamptz, bigint) IS 'Computed forecast of a member''s deals or shares of deals in a period, in the organisation''s currency. Internal.';

-- The forecast of a period as it stood: what deviations are measured against.
CREATE OR REPLACE FUNCTION crm.freeze_forecast(period daterange, at timestamptz DEFAULT now()) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    frozen bigint;
    version text;
BEGIN
    IF freeze_forecast.period IS NULL OR isempty(freeze_forecast.period) OR lower(freeze_forecast.period) IS NULL OR upper(freeze_forecast.period) IS NULL OR at IS NULL OR NOT isfinite(at) OR at > now() + interval '1 minute' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a forecast is frozen for a period with both ends, at an instant that is not after now';
    END IF;
    LOCK TABLE crm_data.forecast_snapshot IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM crm_data.forecast_snapshot AS s WHERE s.period = freeze_forecast.period) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the forecast of this period is frozen already';
    END IF;
    SELECT 'win ' || m.version INTO version FROM crm_data.model AS m WHERE m.id = crm._win_model(at);
    INSERT INTO crm_data.forecast_snapshot (period, opportunity_id, account_id, member_id, team_id, stage_id, amount, currency, amount_base, probability, adjusted, category, close_date, features, model_version, frozen_at)
    SELECT freeze_forecast.period, o.id, o.account_id, o.owner_id, o.team_id, coalesce(d.stage_id, o.stage_id), coalesce(o.amount, 0), o.currency, round(d.amount::numeric, 2),
           least(d.p_close * d.p_won * d.bias, 1), a.amount, coalesce(g.category, o.category), d.close_date,
           jsonb_build_object('p_close', round(d.p_close::numeric, 6), 'p_won', round(d.p_won::numeric, 6), 'bias', round(d.bias::numeric, 6), 'shock', round(d.shock::numeric, 6), 'status', d.status),
           concat_ws(', ', version, d.version), at
      FROM crm._forecast_deals(freeze_forecast.period, at) AS d
      JOIN crm_data.opportunity AS o ON o.id = d.opportunity_id
      LEFT JOIN crm_data.stage AS g ON g.id = d.stage_id
      LEFT JOIN LATERAL (SELECT f.amount FROM crm_data.forecast AS f WHERE f.kind = 'adjusted' AND f.opportunity_id = o.id AND f.period = freeze_forecast.period AND f.as_of <= at
                          ORDER BY f.as_of DESC, f.id DESC LIMIT 1) AS a ON true
     WHERE d.amount IS NOT NULL;
    GET DIAGNOSTICS frozen = ROW_COUNT;
    INSERT INTO crm_data.forecast (kind, period, member_id, amount, currency, low, mid, high, model_version, as_of, owner_id)
    SELECT 'base', freeze_forecast.period, x.member_id, round(((x.d).mean)::numeric, 2), crm._odds_setting('organisation.currency') #>> '{}',
           round(((x.d).low)::numeric, 2), round(((x.d).mid)::numeric, 2), round(((x.d).high)::numeric, 2), version, at, x.member_id
      FROM (SELECT r.member_id, crm.forecast_distribution(z.amount_base::float8 * r.share::float8, z.probability, (z.features ->> 'shock')::float8) AS d
              FROM crm_data.forecast_snapshot AS z JOIN crm._revenue_shares(at) AS r ON r.opportunity_id = z.opportunity_id
             WHERE z.period = freeze_forecast.period GROUP BY r.member_id) AS x;
    RETURN frozen;
END
$$;
COMMENT ON FUNCTION crm.freeze_forecast(daterange, timestamptz) IS
'Keeps the forecast of a period as it stands, deal by deal and member by member; what comes is measured against it. Once a period.
period: both ends; at: instant of the facts, not after now. Answers the number of deals. Deals without an exchange rate are left out. Errors: 22023 a period or instant that cannot be used; 55000 frozen already.';

-- Every cent between forecast and result, on one deal, with a cause.
CREATE OR REPLACE FUNCTION crm._deviation_items(period daterange)
    RETURNS TABLE (opportunity_id bigint, account_id bigint, item text, amount numeric, cause text, rule text, evidence jsonb, beyond_band boolean, owner_id bigint, team_id bigint, grade smallint)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tz text := crm._odds_setting('organisation.timezone') #>> '{}';
    ends timestamptz := upper(period)::timestamp AT TIME ZONE tz;
    cuts jsonb := crm._stage_cuts(ends, '{0.9}');
BEGIN
    IF ends > now() THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the period is not over yet', HINT = 'The deviation is told from the day after its last day.';
    END IF;
    IF NOT EXISTS (SELECT FROM crm_data.forecast_snapshot AS s WHERE s.period = _deviation_items.period) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the forecast of this period was never frozen', HINT = 'crm.freeze_forecast(period) keeps it, the job forecast_freeze does so every month.';
    END IF;
    RETURN QUERY
    WITH ended AS (
        SELECT DISTINCT ON (h.opportunity_id) h.opportunity_id, s.outcome, h.entered_at, h.recorded_at
          FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id
         WHERE h.entered_at < ends ORDER BY h.opportunity_id, h.entered_at DESC, h.id DESC
    ), came AS (
        SELECT o.id, o.account_id, o.owner_id, o.team_id, o.grade, o.currency, o.close_date, o.lost_reason, o.slip_count, o.deleted_at,
               coalesce(e.outcome, CASE WHEN o.closed_at < ends THEN o.outcome END, 'open') AS outcome, coalesce(e.entered_at, o.closed_at) AS at, e.recorded_at,
               crm._to_base(o.amount, o.currency, (coalesce(e.entered_at, o.closed_at) AT TIME ZONE tz)::date) AS won
          FROM crm_data.opportunity AS o LEFT JOIN ended AS e ON e.opportunity_id = o.id
    ), pair AS (
        SELECT c.*, s.frozen_at, s.amount_base AS v, round((s.amount_base::float8 * s.probability)::numeric, 2) AS f, s.stage_id, s.close_date AS planned, s.adjusted, s.currency AS was_currency, s.opportunity_id IS NOT NULL AS told,
               c.outcome = 'won' AND (c.at AT TIME ZONE tz)::date >= lower(_deviation_items.period) AND c.won IS NOT NULL AS is_won
          FROM came AS c LEFT JOIN crm_data.forecast_snapshot AS s ON s.period = _deviation_items.period AND s.opportunity_id = c.id
    ), part AS (
        SELECT p.*, x.item, x.amount
          FROM pair AS p,
               LATERAL (SELECT 'amount' AS item, p.won - p.v AS amount WHERE p.told AND p.is_won AND p.won <> p.v
                        UNION ALL SELECT 'won', p.v - p.f WHERE p.told AND p.is_won AND p.v <> p.f
                        UNION ALL SELECT 'lost', -p.f WHERE p.told AND NOT p.is_won AND p.outcome = 'lost' AND p.f <> 0
                        UNION ALL SELECT 'slipped', -p.f WHERE p.told AND NOT p.is_won AND p.outcome <> 'lost' AND p.f <> 0
                        UNION ALL SELECT 'new', p.won WHERE NOT p.told AND p.is_won AND p.won <> 0) AS x
    ), fact AS (
        SELECT p.*, (p.recorded_at > p.frozen_at AND p.at <= p.frozen_at) AS late, CASE WHEN p.outcome <> 'open' THEN p.at ELSE ends END AS over,
               EXISTS (SELECT FROM crm_data.task AS t WHERE t.object = 'opportunity' AND t.record_id = p.id AND t.mandatory AND t.waived_reason IS NULL
                                                        AND t.due_at < CASE WHEN p.outcome <> 'open' THEN p.at ELSE ends END AND coalesce(t.done_at, 'infinity') > t.due_at + interval '7 days') AS undone,
               (SELECT max(i.occurred_at) FROM crm_data.interaction AS i WHERE i.opportunity_id = p.id AND i.occurred_at < least(CASE WHEN p.outcome <> 'open' THEN p.at END, ends)) AS touched,
               (SELECT max(h.entered_at) FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id AND s.outcome = 'open' WHERE h.opportunity_id = p.id AND h.entered_at < ends) AS moved,
               (cuts -> p.stage_id::text ->> 0)::float8 AS usual,
               EXISTS (SELECT FROM crm_data.stage_history AS h JOIN crm_data.stage AS a ON a.id = h.from_stage_id JOIN crm_data.stage AS b ON b.id = h.to_stage_id AND b.outcome = 'open'
                        WHERE h.opportunity_id = p.id AND h.entered_at >= p.frozen_at AND h.entered_at < ends AND b.seq < a.seq) AS went_back,
               p.adjusted IS NOT NULL AND NOT EXISTS (SELECT FROM crm_data.forecast AS f WHERE f.kind = 'adjusted' AND f.opportunity_id = p.id AND f.period = _deviation_items.period AND f.evidence_id IS NOT NULL) AS unproved
          FROM part AS p
    ), told AS (
        SELECT f.*, CASE WHEN f.late THEN 'system:late_record'
                         WHEN f.item = 'slipped' AND f.deleted_at < ends THEN 'system:duplicate'
                         -- the system that the deal comes from was silent when it should have said what became of it
                         WHEN f.item IN ('lost', 'slipped') AND EXISTS (SELECT FROM crm_data.external_ref AS x JOIN crm_data.alert AS a ON a.kind = 'source_silent' AND a.object = 'source_system' AND a.record_id = x.source_id
                                                                         WHERE x.object = 'opportunity' AND x.record_id = f.id AND a.created_at < f.over AND coalesce(a.closed_at, 'infinity') > f.over - interval '7 days')
                              THEN 'system:outage'
                         WHEN f.told AND (f.currency <> f.was_currency OR f.outcome = 'won' AND f.won IS NULL) THEN 'system:currency'
                         WHEN f.item = 'amount' THEN 'sales:amount_changed'
                         WHEN f.item IN ('lost', 'slipped') AND f.planned < (f.frozen_at AT TIME ZONE tz)::date THEN 'sales:plan_was_past'
                         WHEN f.item IN ('lost', 'slipped') AND f.unproved THEN 'sales:no_evidence'
                         WHEN f.item IN ('lost', 'slipped') AND f.went_back THEN 'sales:stage_went_back'
                         WHEN f.item IN ('lost', 'slipped') AND f.undone THEN 'sales:action_missing'
                         WHEN f.item = 'lost' AND f.lost_reason IN ('budget_frozen', 'sponsor_left', 'competitor', 'procurement') THEN 'customer:' || f.lost_reason
                         WHEN f.item = 'slipped' AND f.close_date >= upper(_deviation_items.period) AND f.planned < upper(_deviation_items.period) THEN 'customer:date_moved'
                         WHEN f.item IN ('lost', 'slipped') AND extract(epoch FROM coalesce(CASE WHEN f.outcome <> 'open' THEN f.at END, ends) - greatest(f.touched, f.moved)) > f.usual THEN 'sales:no_activity'
                         ELSE 'chance:none' END AS why
          FROM fact AS f
    ), band AS (
        -- deals that were not open yet were not in the forecast, so its band says nothing of them
        SELECT coalesce(sum(t.amount) FILTER (WHERE t.item <> 'new'), 0) AS d, (SELECT crm.forecast_distribution(s.amount_base::float8, s.probability, x.shock) FROM crm_data.forecast_snapshot AS s, (SELECT max((z.features ->> 'shock')::float8) AS shock FROM crm_data.forecast_snapshot AS z WHERE z.period = _deviation_items.period) AS x
                                     WHERE s.period = _deviation_items.period) AS b
          FROM told AS t
    )
    SELECT t.id, t.account_id, t.item, t.amount, split_part(t.why, ':', 1), split_part(t.why, ':', 2),
           jsonb_strip_nulls(jsonb_build_object('forecast', t.f, 'snapshot_amount', t.v, 'result', CASE WHEN t.is_won THEN t.won END, 'outcome', t.outcome, 'planned', t.planned, 'close_date', t.close_date,
                                                'last_activity', greatest(t.touched, t.moved), 'lost_reason', t.lost_reason, 'recorded_at', CASE WHEN t.late THEN t.recorded_at END)),
           NOT (b.d::float8 + (b.b).mean BETWEEN (b.b).low AND (b.b).high), t.owner_id, t.team_id, t.grade
      FROM told AS t, band AS b;
END
$$;
COMMENT ON FUNCTION crm._deviation_items(daterange) IS 'Items of the deviation of a period, see crm.deviation. Internal.';

CREATE OR REPLACE FUNCTION crm.deviation(period daterange)
    RETURNS TABLE (opportunity_id bigint, item text, amount numeric, cause text, rule text, beyond_band boolean, evidence jsonb, similar_cases jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF deviation.period IS NULL OR isempty(deviation.period) OR lower(deviation.period) IS NULL OR upper(deviation.period) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a deviation needs a period with both ends';
    END IF;
    RETURN QUERY
    SELECT i.opportunity_id, i.item, i.amount, i.cause, i.rule, i.beyond_band, i.evidence,
           coalesce((SELECT jsonb_agg(jsonb_build_object('opportunity_id', s.opportunity_id, 'period', s.period::text, 'amount', s.amount))
                       FROM (SELECT d.opportunity_id, d.period, d.amount FROM crm_data.deviation AS d
                              WHERE d.rule = i.rule AND d.item = i.item AND upper(d.period) <= lower(deviation.period) AND crm.row_visible('deviation', 'read', d.owner_id, d.team_id, d.grade)
                              ORDER BY abs(d.amount - i.amount), d.id LIMIT 3) AS s), '[]')
      FROM crm._deviation_items(deviation.period) AS i
     WHERE crm.row_visible('opportunity', 'read', i.owner_id, i.team_id, i.grade)
       AND crm._field_allowed('read', (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'opportunity' AND f.name = 'amount'), i.owner_id, i.team_id)
     ORDER BY abs(i.amount) DESC, i.opportunity_id, i.item;
END
$$;
COMMENT ON FUNCTION crm.deviation(daterange) IS
'Why the result of a period is not its frozen forecast: result less forecast, every cent on one deal, in the organisation''s currency, over the deals whose amount the caller may read. For one who reads all, the items add up to the whole difference.
period: over, and frozen by crm.freeze_forecast. item: amount (won at another amount), won (certainty that the forecast did not have), lost, slipped, new (won, not in the forecast); cause: system, sales, customer or chance, by the first rule that fires; rule; beyond_band: the whole, without new, lies outside the 80 percent interval of the forecast and asks for action, inside it nobody is to blame for chance; evidence: facts the rule read; similar_cases: up to three earlier items of the same rule.
Errors: 22023 no period; 55000 not over, or never frozen.';

-- Whose word helps: the error of what was computed, of what was stated deal by deal, and of what was submitted.
CREATE OR REPLACE FUNCTION crm.forecast_value_added(period daterange, by text DEFAULT 'member')
    RETURNS TABLE (key text, periods bigint, actual numeric, base numeric, adjusted numeric, submitted numeric, base_error float8, adjusted_error float8, submitted_error float8,
                   adjusted_value float8, submitted_value float8, currency text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    tz text := crm._odds_setting('organisation.timezone') #>> '{}';
    own_currency text := crm._odds_setting('organisation.currency') #>> '{}';
BEGIN
    IF forecast_value_added.period IS NULL OR isempty(forecast_value_added.period) OR lower(forecast_value_added.period) IS NULL OR upper(forecast_value_added.period) IS NULL OR by IS NULL OR by NOT IN ('member', 'reason') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the value added by people is told over a period with both ends, by member or by reason';
    END IF;
    IF (upper(forecast_value_added.period)::timestamp AT TIME ZONE tz) > now() THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the period is not over yet', HINT = 'The value added is told of frozen forecasts whose period is over.';
    END IF;
    RETURN QUERY
    WITH frozen AS (
        SELECT s.period, max(s.frozen_at) AS frozen_at FROM crm_data.forecast_snapshot AS s WHERE s.period <@ forecast_value_added.period GROUP BY s.period
    ), deal AS (
        SELECT f.period, f.frozen_at, o.id, o.owner_id, o.team_id, o.grade, s.amount_base::float8 * s.probability AS base, s.adjusted,
               coalesce(crm._to_base(s.adjusted, s.currency, (f.frozen_at AT TIME ZONE tz)::date)::float8, s.amount_base::float8 * s.probability) AS adjusted_base,
               CASE WHEN o.outcome = 'won' AND (o.closed_at AT TIME ZONE tz)::date <@ f.period THEN crm._to_base(o.amount, o.currency, (o.closed_at AT TIME ZONE tz)::date)::float8 ELSE 0 END AS actual,
               (SELECT a.reason_code FROM crm_data.forecast AS a WHERE a.kind = 'adjusted' AND a.opportunity_id = o.id AND a.period = f.period AND a.as_of <= f.frozen_at ORDER BY a.as_of DESC, a.id DESC LIMIT 1) AS reason
          FROM frozen AS f JOIN crm_data.forecast_snapshot AS s ON s.period = f.period JOIN crm_data.opportunity AS o ON o.id = s.opportunity_id
         WHERE crm.row_visible('opportunity', 'read', o.owner_id, o.team_id, o.grade)
    ), spoke AS (
        -- the last word before the forecast was frozen, or the first one after
        SELECT DISTINCT ON (f.period, a.member_id) f.period, a.member_id, a.amount::float8 AS amount
          FROM frozen AS f JOIN crm_data.forecast AS a ON a.kind = 'submitted' AND a.period = f.period AND a.opportunity_id IS NULL AND a.as_of < upper(f.period)::timestamp AT TIME ZONE tz
         WHERE crm.row_visible('forecast', 'read', a.owner_id, a.team_id, a.grade)
         ORDER BY f.period, a.member_id, a.as_of <= f.frozen_at DESC, CASE WHEN a.as_of <= f.frozen_at THEN -extract(epoch FROM a.as_of) ELSE extract(epoch FROM a.as_of) END, a.id DESC
    ), unit AS (
        -- one member and period, or one deal somebody spoke about
        SELECT m.full_name AS key, d.period, sum(d.base * r.share::float8 ORDER BY d.id) AS base, sum(d.adjusted_base * r.share::float8 ORDER BY d.id) AS adjusted, sum(d.actual * r.share::float8 ORDER BY d.id) AS actual,
               bool_or(d.adjusted IS NOT NULL) AS spoken, max(k.amount) AS submitted
          FROM deal AS d JOIN crm._revenue_shares(now()) AS r ON r.opportunity_id = d.id JOIN crm_data.member AS m ON m.id = r.member_id LEFT JOIN spoke AS k ON k.period = d.period AND k.member_id = m.id
         WHERE by = 'member' GROUP BY m.id, m.full_name, d.period
        UNION ALL
        SELECT d.reason, d.period, d.base, d.adjusted_base, d.actual, true, NULL FROM deal AS d WHERE by = 'reason' AND d.adjusted IS NOT NULL
    ), summed AS (
        SELECT u.key, count(DISTINCT u.period) AS periods, sum(u.actual ORDER BY u.period) AS actual, sum(u.base ORDER BY u.period) AS base, sum(u.adjusted ORDER BY u.period) AS adjusted, sum(u.submitted ORDER BY u.period) AS submitted,
               sum(abs(u.base - u.actual) ORDER BY u.period) / nullif(sum(u.actual ORDER BY u.period), 0) AS base_error,
               sum(abs(u.adjusted - u.actual) ORDER BY u.period) / nullif(sum(u.actual ORDER BY u.period), 0) AS adjusted_error, count(*) FILTER (WHERE u.spoken) AS spoken,
               sum(abs(u.submitted - u.actual) ORDER BY u.period) / nullif(sum(u.actual ORDER BY u.period) FILTER (WHERE u.submitted IS NOT NULL), 0) AS submitted_error, count(u.submitted) AS submissions,
               sum(abs(u.base - u.actual) ORDER BY u.period) FILTER (WHERE u.submitted IS NOT NULL) / nullif(sum(u.actual ORDER BY u.period) FILTER (WHERE u.submitted IS NOT NULL), 0) AS base_there
          FROM unit AS u GROUP BY u.key
    )
    SELECT s.key, s.periods, round(s.actual::numeric, 2), round(s.base::numeric, 2), round(s.adjusted::numeric, 2), round(s.submitted::numeric, 2), s.base_error, s.adjusted_error, s.submitted_error,
           -- ten cases without any effect are counted in: few lucky words prove nothing
           (s.base_error - s.adjusted_error) * s.spoken / (s.spoken + 10.0), (s.base_there - s.submitted_error) * s.submissions / (s.submissions + 10.0), own_currency
      FROM summed AS s ORDER BY 11 DESC NULLS LAST, 10 DESC NULLS LAST, 1;
END
$$;
COMMENT ON FUNCTION crm.forecast_value_added(daterange, text) IS
'Forecast value added: what people''s statements did to the error of the computed forecast, over the frozen periods within a period, for the deals and submissions that the caller may read.
period: over; by: member (revenue splits share deals), or reason (of the statements on single deals, crm.forecast_adjust).
actual, base, adjusted, submitted: sums in the organisation''s currency, adjusted as of the freeze, submitted the last before it or else the first after; base_error, adjusted_error, submitted_error: absolute error by member and period (by reason: by deal) relative to the actual, NULL without any; adjusted_value, submitted_value: base error less theirs, shrunk with ten cases without effect: above 0 the word helped.
Errors: 22023 no such period or grouping; 55000 not over.';

CREATE OR REPLACE FUNCTION crm._job_forecast_freeze(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first date := date_trunc('month', due AT TIME ZONE (crm._odds_setting('organisation.timezone') #>> '{}'))::date;
BEGIN
    RETURN crm.freeze_forecast(daterange(first, (first + interval '1 month')::date), least(due, now()));
END
$$;
COMMENT ON FUNCTION crm._job_forecast_freeze(timestamptz) IS 'Job: freezes the forecast of the month that begins. Internal.';

CREATE OR REPLACE FUNCTION crm._job_deviation(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last date := date_trunc('month', due AT TIME ZONE (crm._odds_setting('organisation.timezone') #>> '{}'))::date;
    month daterange := daterange((last - interval '1 month')::date, last);
    n bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM crm_data.forecast_snapshot AS s WHERE s.period = month) THEN
        RETURN 0;
    END IF;
    INSERT INTO crm_data.deviation (period, opportunity_id, account_id, item, amount, currency, cause, rule, evidence, beyond_band, owner_id, team_id, grade)
    SELECT month, i.opportunity_id, i.account_id, i.item, i.amount, crm._odds_setting('organisation.currency') #>> '{}', i.cause, i.rule, i.evidence, i.beyond_band, i.owner_id, i.team_id, i.grade
      FROM crm._deviation_items(month) AS i
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    PERFORM crm._report_deviation(month, due);
    RETURN n;
END
$$;
COMMENT ON FUNCTION crm._job_deviation(timestamptz) IS 'Job of the 15th: keeps the deviation of the month before, item by item, and stores the report of it. Internal.';

CREATE OR REPLACE FUNCTION crm._job_model_refit(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    as_of timestamptz := least(due, now());
BEGIN
    PERFORM crm.odds_refit(as_of);
    PERFORM crm.credibility_refit(as_of);
    PERFORM crm.churn_refit(as_of);
    PERFORM crm.renewal_refit(as_of);
    PERFORM crm.timing_refit(as_of);
    PERFORM crm._try_challenger(as_of);
    RETURN 5;
END
$$;
COMMENT ON FUNCTION crm._job_model_refit(timestamptz) IS 'Job: fits the win probability, the credibility, the churn, the renewal and the timing model anew, and tries a challenger; answers how many models. Internal.';

-- Beside the forecast, the money.
CREATE OR REPLACE FUNCTION crm.forecast_vs_cash(period daterange, at timestamptz DEFAULT now())
    RETURNS TABLE (key text, base numeric, adjusted numeric, signed numeric, invoiced numeric, received numeric, refunded numeric, due numeric, due_unpaid numeric, unpriced bigint, currency text, as_of timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH told AS (SELECT f.key, f.base, f.adjusted FROM crm.forecast(forecast_vs_cash.period, 'owner', forecast_vs_cash.at) AS f),
    money AS (
        SELECT m.full_name AS who, x.kind, x.value
          FROM (SELECT e.owner_id, e.kind, crm._to_base(e.amount, e.currency, e.occurred_on) AS value
                  FROM crm_data.receivable_entry AS e
                 WHERE e.occurred_on <@ forecast_vs_cash.period AND e.recorded_at <= forecast_vs_cash.at AND crm.row_visible('receivable_entry', 'read', e.owner_id, e.team_id, e.grade)
                   AND crm._field_allowed('read', (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'receivable_entry' AND f.name = 'amount'), e.owner_id, e.team_id)
                UNION ALL
                SELECT c.owner_id, 'signed', crm._to_base(c.amount, c.currency, c.signed_on)
                  FROM crm_data.contract AS c WHERE c.signed_on <@ forecast_vs_cash.period AND crm.row_visible('contract', 'read', c.owner_id, c.team_id, c.grade)
                   AND crm._field_allowed('read', (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'contract' AND f.name = 'amount'), c.owner_id, c.team_id)
                UNION ALL
                SELECT p.owner_id, CASE WHEN p.paid_on IS NULL THEN 'due_unpaid' ELSE 'due_paid' END, crm._to_base(p.amount, p.currency, least(p.due_on, forecast_vs_cash.at::date))
                  FROM crm_data.payment_plan AS p WHERE p.due_on <@ forecast_vs_cash.period AND crm.row_visible('payment_plan', 'read', p.owner_id, p.team_id, p.grade)
                   AND crm._field_allowed('read', (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'payment_plan' AND f.name = 'amount'), p.owner_id, p.team_id)) AS x
          LEFT JOIN crm_data.member AS m ON m.id = x.owner_id
    ), cash AS (
        SELECT coalesce(z.who, 'nobody') AS who, sum(z.value) FILTER (WHERE z.kind = 'signed') AS signed, sum(z.value) FILTER (WHERE z.kind = 'invoice') AS invoiced, sum(z.value) FILTER (WHERE z.kind = 'payment') AS received,
               sum(z.value) FILTER (WHERE z.kind = 'refund') AS refunded, sum(z.value) FILTER (WHERE z.kind LIKE 'due%') AS due, sum(z.value) FILTER (WHERE z.kind = 'due_unpaid') AS due_unpaid,
               count(*) FILTER (WHERE z.value IS NULL) AS unpriced
          FROM money AS z GROUP BY 1
    )
    SELECT coalesce(t.key, c.who), coalesce(t.base, 0), coalesce(t.adjusted, 0), coalesce(c.signed, 0), coalesce(c.invoiced, 0), coalesce(c.received, 0), coalesce(c.refunded, 0), coalesce(c.due, 0), coalesce(c.due_unpaid, 0),
           coalesce(c.unpriced, 0), crm._odds_setting('organisation.currency') #>> '{}', forecast_vs_cash.at
      FROM (SELECT t.key, sum(t.base) AS base, sum(t.adjusted) AS adjusted FROM told AS t GROUP BY t.key) AS t FULL JOIN cash AS c ON c.who = t.key
     ORDER BY 2 DESC, 1;
END
$$;
COMMENT ON FUNCTION crm.forecast_vs_cash(daterange, timestamptz) IS
'By owner, the forecast of a period beside the money: contracts signed, invoiced, received, refunded, and the contractual payment points due in the period, of the rows whose amount the caller may read, in the organisation''s currency at the day of each fact.
period: both ends; at: instant of the forecast, and up to when entries count. unpriced: entries without an exchange rate, not in the sums; as_of: the instant. Errors: as crm.forecast.';

-- A sandbox: what these deals bring if some things were otherwise.
CREATE OR REPLACE FUNCTION crm.simulate(opps bigint[], overrides jsonb DEFAULT '{}')
    RETURNS TABLE (scenario text, amount numeric, close_date date, deals bigint, currency text, key_actions jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    opp bigint;
    one jsonb;
    p float8;
    value float8;
    p_of float8[] := '{}';
    value_of float8[] := '{}';
    told crm.forecast_interval;
    actions jsonb;
    age float8;
    span float8[];
BEGIN
    IF opps IS NULL OR cardinality(opps) NOT BETWEEN 1 AND 1000 OR overrides IS NULL OR jsonb_typeof(overrides) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a simulation takes 1 to 1000 opportunities and an object of changes';
    END IF;
    IF EXISTS (SELECT FROM jsonb_object_keys(overrides) AS k WHERE k <> ALL (ARRAY(SELECT u::text FROM unnest(opps) AS u WHERE u IS NOT NULL))) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a change is for an opportunity that is not simulated';
    END IF;
    FOREACH opp IN ARRAY ARRAY(SELECT DISTINCT u FROM unnest(opps) AS u ORDER BY u) LOOP
        PERFORM crm._check_visible_deal(opp);
        one := coalesce(overrides -> opp::text, '{}');
        SELECT w.p INTO p FROM crm._win_predict(now(), ARRAY[opp]) AS w;
        CONTINUE WHEN NOT FOUND;
        IF one - ARRAY['amount', 'probability'] <> '{}' THEN
            SELECT w.p INTO p FROM crm.win_whatif(opp, one - ARRAY['amount', 'probability']) AS w;
        END IF;
        p := coalesce((one ->> 'probability')::float8, p, 0);
        SELECT coalesce((one ->> 'amount')::float8,
                        CASE WHEN crm._field_allowed('read', (SELECT f.id FROM crm_data.field AS f WHERE f.object = 'opportunity' AND f.name = 'amount'), o.owner_id, o.team_id)
                             THEN crm._to_base(o.amount, o.currency, current_date)::float8 END)
          INTO value FROM crm_data.opportunity AS o WHERE o.id = opp;
        IF value IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('opportunity %s has no amount that you may read, or its currency no exchange rate', opp);
        END IF;
        p_of := p_of || p;
        value_of := value_of || value;
    END LOOP;
    SELECT (d).mean, (d).low, (d).mid, (d).high, (d).noise_floor INTO told
      FROM (SELECT crm.forecast_distribution(v.value, v.p, 0.2) AS d FROM unnest(value_of, p_of) AS v (value, p)) AS x;
    -- days from the age that the deals have to the close of those that were won after it
    SELECT avg(extract(epoch FROM now() - o.created_at)::float8 / 86400) INTO age FROM crm_data.opportunity AS o WHERE o.id = ANY (opps);
    SELECT percentile_cont('{0.1,0.5,0.9}'::float8[]) WITHIN GROUP (ORDER BY d.days - age) INTO span
      FROM (SELECT extract(epoch FROM o.closed_at - o.created_at)::float8 / 86400 AS days FROM crm_data.opportunity AS o
             WHERE o.outcome = 'won' AND o.deleted_at IS NULL AND o.pipeline_id IN (SELECT x.pipeline_id FROM crm_data.opportunity AS x WHERE x.id = ANY (opps))) AS d
     WHERE d.days > age;
    SELECT coalesce(jsonb_agg(jsonb_build_object('opportunity_id', t.record_id, 'action', t.action_key, 'due_at', t.due_at) ORDER BY t.due_at, t.id), '[]') INTO actions
      FROM (SELECT x.* FROM crm_data.task AS x WHERE x.object = 'opportunity' AND x.record_id = ANY (opps) AND x.mandatory AND x.done_at IS NULL AND x.waived_reason IS NULL ORDER BY x.due_at, x.id LIMIT 5) AS t;
    RETURN QUERY
    SELECT s.name, round(s.amount::numeric, 2), current_date + round(s.days)::int, cardinality(p_of)::bigint, crm._odds_setting('organisation.currency') #>> '{}', actions
      FROM (VALUES (1, 'conservative', told.low, span[3]), (2, 'neutral', told.mid, span[2]), (3, 'optimistic', told.high, span[1])) AS s (ord, name, amount, days) ORDER BY s.ord;
END
$$;
COMMENT ON FUNCTION crm.simulate(bigint[], jsonb) IS
'Three scenarios of what open deals will bring, with changes; nothing is stored.
opps: 1 to 1000 opportunities; closed ones count nothing; overrides: by opportunity id, an object with probability, amount (organisation''s currency) or dimensions as for crm.win_whatif, for example {"17": {"stage": "standard.quote", "amount": 50000}}.
scenario: conservative P10, neutral P50, optimistic P90; amount; close_date: by the cycle of won deals that were open at least as long, NULL without any; key_actions: the next five mandatory actions of the deals.
Errors: P0002 a deal the caller may not read; 22023 a value that cannot be used.';
