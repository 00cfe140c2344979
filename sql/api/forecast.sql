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
CREATE OR REPLACE FUNCTION crm._forecast_deals(period daterange, at timestamptz, orders int DEFAULT 2)
    RETURNS TABLE (opportunity_id bigint, stage_id bigint, amount float8, close_date date, p_close float8, p_won float8, bias float8, shock float8, n bigint, status text)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH place AS MATERIALIZED (
        SELECT x.tz, x.today, greatest(lower(_forecast_deals.period), x.today) AS first, upper(_forecast_deals.period) AS last,
               -- whole months are compared with whole months, anything else with as many days
               CASE WHEN extract(day FROM lower(_forecast_deals.period)) = 1 AND extract(day FROM upper(_forecast_deals.period)) = 1
                    THEN date_trunc('month', age(upper(_forecast_deals.period), lower(_forecast_deals.period)))
                    ELSE make_interval(days => greatest(upper(_forecast_deals.period) - lower(_forecast_deals.period), 7)) END AS step
          FROM (SELECT z.tz, (_forecast_deals.at AT TIME ZONE z.tz)::date AS today FROM (SELECT crm._odds_setting('organisation.timezone') #>> '{}' AS tz) AS z) AS x
    ), config AS MATERIALIZED (
        SELECT coalesce(m.options -> 'config', crm._odds_config('win')) AS body,
               coalesce(m.options -> 'cuts', crm._stage_cuts(_forecast_deals.at, '{0.25,0.5,0.75,0.9}')) AS cuts
          FROM (SELECT crm._win_model(_forecast_deals.at) AS id) AS i LEFT JOIN crm_data.model AS m ON m.id = i.id
    ), asked AS MATERIALIZED (
        -- k periods ago; 0 is now. Only periods that were over by now have an answer.
        SELECT k.k, ((_forecast_deals.at AT TIME ZONE p.tz) - k.k * p.step) AT TIME ZONE p.tz AS at, (p.first - k.k * p.step)::date AS first, (p.last - k.k * p.step)::date AS last, p.lag
          FROM (SELECT place.*, (SELECT min(g) FROM generate_series(1, 1000) AS g WHERE place.last - g * place.step <= place.today) AS lag FROM place) AS p,
               LATERAL (SELECT 0 AS k UNION ALL SELECT g FROM generate_series(p.lag, p.lag + 11) AS g) AS k
         WHERE p.last > p.today
           -- before the first close on record nothing can be told from silence
           AND (k.k = 0 OR (p.first - k.k * p.step)::timestamp AT TIME ZONE p.tz >= (SELECT min(h.entered_at) - interval '7 days' FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id WHERE s.outcome <> 'open'))
    ), row_of AS MATERIALIZED (
        SELECT a.k, a.lag, r.opportunity_id, r.stage_id, r.close_date, f.closed, f.won, crm._to_base(r.amount, r.currency, a.at::date)::float8 AS amount,
               r.dims[1:20] || ARRAY[width_bucket(extract(epoch FROM a.at - r.opened)::float8 / 86400, '{7,14,30,45,60,90,120,180,365}')::text,
                              ((extract(month FROM a.first)::int - 1) % 3 + 1)::text,
                              CASE WHEN r.close_date IS NULL THEN NULL WHEN r.close_date < a.first THEN 'before' WHEN r.close_date < a.last THEN 'in' ELSE 'after' END] AS dims
          FROM config AS c, asked AS a
         CROSS JOIN LATERAL crm._win_rows(a.at, c.cuts, c.body, NULL, true) AS r
          LEFT JOIN LATERAL (SELECT coalesce(bool_or(h.entered_at >= a.first::timestamp AT TIME ZONE place.tz), false) AS closed,
                                    coalesce(bool_or(h.entered_at >= a.first::timestamp AT TIME ZONE place.tz AND s.outcome = 'won'), false) AS won
                               FROM place, crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id
                              WHERE a.k > 0 AND h.opportunity_id = r.opportunity_id AND s.outcome <> 'open' AND h.recorded_at <= _forecast_deals.at
                                AND h.entered_at > a.at AND h.entered_at < a.last::timestamp AT TIME ZONE place.tz) AS f ON true
    ), head AS MATERIALIZED (
        SELECT j.k, (SELECT crm.lattice_fit(t.dims, t.closed::int, 1, jsonb_build_object('order', _forecast_deals.orders)) FROM row_of AS t WHERE t.k > 0 AND t.k >= j.k + j.lag) AS closes,
               (SELECT crm.lattice_fit(t.dims, t.won::int, 1, jsonb_build_object('order', _forecast_deals.orders)) FROM row_of AS t WHERE t.k > 0 AND t.closed AND t.k >= j.k + j.lag) AS wins,
               (SELECT count(*) FROM row_of AS t WHERE t.closed AND t.k >= j.k + j.lag) AS n
          FROM (SELECT a.k, a.lag FROM asked AS a ORDER BY a.k LIMIT 7) AS j
    ), told AS (
        SELECT r.k, r.opportunity_id, r.amount, r.won, h.n, c.p AS p_close, w.p AS p_won
          FROM row_of AS r JOIN head AS h ON h.k = r.k, crm.lattice_predict(h.closes, r.dims) AS c, crm.lattice_predict(h.wins, r.dims) AS w
    ), past AS (
        SELECT t.k, sum(t.amount * t.p_close * t.p_won) AS forecast, coalesce(sum(t.amount) FILTER (WHERE t.won), 0) AS actual,
               sum(t.amount * t.amount * t.p_close * t.p_won * (1 - t.p_close * t.p_won)) AS variance, exp2.w
          FROM told AS t, LATERAL (SELECT power(2, -(t.k - 1) / 4.0)::float8 AS w) AS exp2
         WHERE t.k > 0 AND t.n >= 30 GROUP BY t.k, exp2.w
    ), habit AS (
        -- the mean forecast counts as one period without any error
        SELECT coalesce((sum(p.w * p.actual) + avg(p.forecast)) / nullif(sum(p.w * p.forecast) + avg(p.forecast), 0), 1) AS bias FROM past AS p
    ), common AS (
        SELECT sqrt((coalesce(sum(p.w * greatest((power(p.actual - t.bias * p.forecast, 2) - p.variance) / nullif(power(t.bias * p.forecast, 2), 0), 0)), 0) + 0.04) / (coalesce(sum(p.w), 0) + 1)) AS shock
          FROM habit AS t LEFT JOIN past AS p ON true
    )
    SELECT r.opportunity_id, r.stage_id, r.amount, r.close_date, coalesce(d.p_close, CASE r.dims[cardinality(r.dims)] WHEN 'in' THEN 1 ELSE 0 END), coalesce(d.p_won, w.p),
           least(greatest(t.bias, 0.25), 4), least(c.shock, 1), coalesce(d.n, 0), CASE WHEN d.n >= 30 THEN 'ok' ELSE 'insufficient_history' END
      FROM row_of AS r
     CROSS JOIN habit AS t CROSS JOIN common AS c
      LEFT JOIN told AS d ON d.k = 0 AND d.opportunity_id = r.opportunity_id AND d.n >= 30
      LEFT JOIN crm._win_predict(_forecast_deals.at, coalesce((SELECT array_agg(u.opportunity_id) FROM row_of AS u, head AS h WHERE u.k = 0 AND h.k = 0 AND h.n < 30), '{}')) AS w
        ON w.opportunity_id = r.opportunity_id
     WHERE r.k = 0;
END;
COMMENT ON FUNCTION crm._forecast_deals(daterange, timestamptz, int) IS
'Open deals at an instant: probability that each closes in the rest of the period, and that it is won then; the bias of the last forecasts and the shock that they had in common. With fewer than 30 closed deals to learn from: the planned close decides, the win probability is that of crm.win_probability, and the status says so. amount: in the organisation''s currency at the rate of the day, NULL without a rate. orders: 1 or 2, as in crm.lattice_fit. Internal.';

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

CREATE OR REPLACE FUNCTION crm._credibility_parts(at timestamptz) RETURNS TABLE (opportunity_id bigint, representative float8, signed float8, legal float8, credibility float8)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
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
     WHERE o.outcome = 'open' OR o.closed_at > _credibility_parts.at;
END;
COMMENT ON FUNCTION crm._credibility_parts(timestamptz) IS
'Credibility of the forecast of every deal open at a time, before anything is learned: 100 (0.5 R + 0.3 S + 0.2 L) with the configured weights; R the representative''s rate, S a requirement confirmation (1/2 while the customer has not signed), L legal''s first review. Internal.';

CREATE OR REPLACE FUNCTION crm.credibility(opp bigint, at timestamptz DEFAULT now(), OUT credibility float8, OUT flag text, OUT representative float8, OUT signed float8, OUT legal float8, OUT contributions jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is no deal
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    body jsonb := (SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'credibility' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active');
    was text;
    yellow float8 := (body #>> '{levels,yellow}')::float8;
    half float8 := ((body #>> '{hysteresis,leave}')::float8 - (body #>> '{hysteresis,enter}')::float8) / 2;
BEGIN
    PERFORM crm._check_visible_deal(opp);
    SELECT p.credibility, p.representative, p.signed, p.legal INTO credibility, representative, signed, legal FROM crm._credibility_parts(at) AS p WHERE p.opportunity_id = opp;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT o.credibility_flag INTO was FROM crm_data.opportunity AS o WHERE o.id = opp;
    flag := CASE WHEN credibility < (body #>> '{levels,red}')::float8 THEN 'red'
                 WHEN credibility < (body #>> '{levels,orange}')::float8 THEN 'orange'
                 -- a flag is entered below and left above the level, so that it does not flicker
                 WHEN credibility < yellow - half OR (was <> 'green' AND credibility < yellow + half) OR (was IS NULL AND credibility < yellow) THEN 'yellow'
                 ELSE 'green' END;
    contributions := jsonb_build_object('representative', round((100 * (body #>> '{weights,representative}')::float8 * coalesce(representative, 0.5))::numeric, 1),
                                        'signed', round((100 * (body #>> '{weights,signed}')::float8 * signed)::numeric, 1),
                                        'legal', round((100 * (body #>> '{weights,legal}')::float8 * legal)::numeric, 1));
END
$$;
COMMENT ON FUNCTION crm.credibility(bigint, timestamptz) IS
'How far to believe the forecast of an open deal, 0 to 100, with what it is made of in points.
opp: opportunity; at: instant. representative: share of the owner''s last months'' deals that ended as stated, shrunk to the team''s; signed: 1 with a requirement confirmation signed by the customer, 0.5 unsigned; legal: 1 after legal''s first review; flag: green, yellow below 60 (entered at 58, left at 62), orange below 45, red below 30. NULL for a deal that is not open.
Errors: P0002 no such deal for the caller.';

CREATE OR REPLACE FUNCTION crm.forecast(period daterange, by text DEFAULT 'owner', at timestamptz DEFAULT now())
    RETURNS TABLE (key text, deals bigint, closed numeric, commit numeric, best_case numeric, pipeline numeric, base numeric, adjusted numeric, quota numeric, credibility float8,
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
    IF at IS NULL THEN
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
    ), open AS (
        SELECT v.id, v.owner_id, v.team_id, v.product_line, d.stage_id, d.amount, d.p_close * d.p_won AS p, d.bias, d.shock, d.status, s.value AS stated, c.credibility,
               -- what was stated of the deal then: the stage's category, or today the deal's own
               CASE WHEN d.close_date IS NULL OR d.close_date < lower(period) OR d.close_date >= upper(period) THEN 'pipeline'
                    WHEN at >= now() - interval '1 day' THEN v.category ELSE g.category END AS category
          FROM crm._forecast_deals(period, at) AS d
          JOIN visible AS v ON v.id = d.opportunity_id
          LEFT JOIN crm_data.stage AS g ON g.id = d.stage_id
          LEFT JOIN stated AS s ON s.opportunity_id = v.id
          LEFT JOIN crm._credibility_parts(at) AS c ON c.opportunity_id = v.id
    ), part AS (
        SELECT CASE by WHEN 'total' THEN 0 WHEN 'owner' THEN x.owner_id WHEN 'team' THEN x.team_id WHEN 'stage' THEN x.stage_id END AS id,
               CASE by WHEN 'product_line' THEN x.product_line END AS line, x.*
          FROM (SELECT w.id AS opportunity, w.owner_id, w.team_id, w.product_line, w.stage_id, w.value, NULL::float8 AS amount, NULL::float8 AS p, NULL::float8 AS bias, NULL::float8 AS shock,
                       NULL::text AS status, NULL::numeric AS stated, NULL::float8 AS credibility, 'closed'::text AS category FROM won AS w
                UNION ALL
                SELECT o.id, o.owner_id, o.team_id, o.product_line, o.stage_id, NULL, o.amount, o.p, o.bias, o.shock, o.status, o.stated, o.credibility, o.category FROM open AS o) AS x
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
deals: open ones; closed: won in the period by then; commit, best_case, pipeline: open amounts by category (those planned to close outside the period or without a planned close are pipeline); base: closed and what the open deals are expected to bring in the rest of the period, deals not yet open are not in it; adjusted: the same with people''s statements; quota: of the owner or team for the period; credibility: 0 to 100, weighted; low, mid, high: P10, P50, P90; noise_floor: accuracy that a perfectly calibrated model could expect on these deals, accuracy being max(0, 1 - relative absolute error); currency: the organisation''s; status: ok, insufficient_history, or how many deals lack an amount or an exchange rate and are not in the sums.
Errors: 22023 a period, instant or grouping that cannot be used.';
