-- Journeys: how far customers come on the ordered nodes of a journey, where they are lost and how long they take; and which sets of events go with a conversion.
-- Who reads events gets both over the records he may read, by his own rights on the guarded views; who may only have summaries gets those of the house, of a
-- whole month that is over, without any group of fewer customers than access.min_group or the difference to one.

CREATE OR REPLACE FUNCTION crm._journey_problems(body jsonb) RETURNS TABLE (path text, message text)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF jsonb_typeof(body -> 'nodes') IS DISTINCT FROM 'array' OR jsonb_array_length(body -> 'nodes') NOT BETWEEN 2 AND 20 THEN
        RETURN QUERY SELECT '$.nodes', 'a journey has 2 to 20 nodes, in order'::text;
        RETURN;
    END IF;
    RETURN QUERY SELECT format('$.nodes[%s]', x.ord - 1), 'a node has a key and the kind of event that reaches it, and perhaps stall (a time), en and zh'::text
      FROM jsonb_array_elements(body -> 'nodes') WITH ORDINALITY AS x (value, ord)
     WHERE jsonb_typeof(x.value) <> 'object' OR jsonb_typeof(x.value -> 'key') IS DISTINCT FROM 'string' OR jsonb_typeof(x.value -> 'event') IS DISTINCT FROM 'string' OR '' IN (x.value ->> 'key', x.value ->> 'event')
        OR jsonb_typeof(x.value -> 'stall') <> 'string' OR crm._interval_problem(x.value ->> 'stall') IS NOT NULL OR jsonb_typeof(x.value -> 'en') <> 'string' OR jsonb_typeof(x.value -> 'zh') <> 'string'
     ORDER BY x.ord;
    RETURN QUERY SELECT '$.nodes', format('%L stands there twice', left(d.name, 100))
      FROM (SELECT k.name FROM jsonb_array_elements(body -> 'nodes') AS v CROSS JOIN LATERAL (VALUES ('key', v ->> 'key'), ('event', v ->> 'event')) AS k (what, name) WHERE k.name IS NOT NULL GROUP BY k.what, k.name HAVING count(*) > 1) AS d ORDER BY 2;
END
$$;
COMMENT ON FUNCTION crm._journey_problems(jsonb) IS 'Internal: what is wrong with the body of a journey, by path; no row for a good one.';

CREATE OR REPLACE FUNCTION crm._journey_statement(journey text, period daterange, at timestamptz, house boolean, smallest int) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_nodes jsonb := (SELECT c.body -> 'nodes' FROM crm_data.config AS c WHERE c.kind = 'journey' AND c.key = journey AND c.scope = '*' AND c.status = 'active');
BEGIN
    IF v_nodes IS NULL THEN
        RAISE EXCEPTION 'there is no journey "%"', journey USING ERRCODE = 'undefined_object', HINT = 'Journeys are configuration of kind journey; onboarding is shipped.';
    END IF;
    RETURN format($q$
        WITH n AS MATERIALIZED (SELECT x.ord, x.value ->> 'key' AS key, x.value ->> 'event' AS event, jsonb_strip_nulls(jsonb_build_object('en', x.value -> 'en', 'zh', x.value -> 'zh')) AS label, (x.value ->> 'stall')::interval AS stall
                                  FROM jsonb_array_elements(%1$L::jsonb) WITH ORDINALITY AS x (value, ord)),
        f AS (SELECT e.account_id, n.ord, min(e.occurred_at) AS at FROM %2$I.event AS e JOIN n ON n.event = e.kind JOIN %2$I.account AS a ON a.id = e.account_id AND a.deleted_at IS NULL AND a.merged_into IS NULL
               WHERE e.occurred_at <= %3$L GROUP BY 1, 2),
        -- the way ends at the first node that was not reached; whoever reached nodes in another order counts from the later one
        w AS (SELECT f.account_id, f.ord, max(f.at) OVER v AS at, count(*) OVER v AS so_far FROM f WINDOW v AS (PARTITION BY f.account_id ORDER BY f.ord)),
        r AS (SELECT w.account_id, w.ord, w.at, lead(w.at) OVER v AS next_at, first_value(w.at) OVER v AS began_at FROM w WHERE w.so_far = w.ord WINDOW v AS (PARTITION BY w.account_id ORDER BY w.ord)),
        g AS (SELECT n.ord, n.key, n.label, count(r.account_id) AS reached, count(r.account_id) FILTER (WHERE r.next_at IS NULL) AS waiting,
                     count(*) FILTER (WHERE r.account_id IS NOT NULL AND r.next_at IS NULL AND %3$L - r.at > s.stall) AS stalled,
                     percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM r.next_at - r.at)::float8 / 3600) AS hours
                FROM n LEFT JOIN r ON r.ord = n.ord AND r.began_at >= %4$L AND r.began_at < %5$L LEFT JOIN n AS s ON s.ord = n.ord + 1 GROUP BY n.ord, n.key, n.label),
        -- a node is shown with enough customers, and with as many lost before it, or none; behind one that is not shown none is
        h AS (SELECT g.*, bool_and(g.reached >= %6$s AND (p.reached IS NULL OR p.reached - g.reached = 0 OR p.reached - g.reached >= %6$s)) OVER (ORDER BY g.ord) AS shown FROM g LEFT JOIN g AS p ON p.ord = g.ord - 1),
        i AS (SELECT h.*, lead(h.shown) OVER (ORDER BY h.ord) AS next_shown, lead(h.reached) OVER (ORDER BY h.ord) IS NULL AS is_last, first_value(h.reached) OVER (ORDER BY h.ord) AS started FROM h)
        SELECT i.ord::int, i.key, i.label, CASE WHEN i.shown THEN i.reached END, CASE WHEN i.next_shown THEN i.waiting END, CASE WHEN i.next_shown THEN round(i.waiting::numeric / nullif(i.reached, 0), 4) END,
               CASE WHEN i.shown THEN round(i.reached::numeric / nullif(i.started, 0), 4) END, CASE WHEN i.next_shown THEN round(i.hours[1]::numeric, 1) END, CASE WHEN i.next_shown THEN round(i.hours[2]::numeric, 1) END,
               CASE WHEN i.next_shown AND (i.stalled = 0 OR i.stalled >= %6$s) AND (i.waiting = i.stalled OR i.waiting - i.stalled >= %6$s) THEN i.stalled END
          FROM i ORDER BY i.ord$q$,
        v_nodes, CASE WHEN house THEN 'crm_data' ELSE 'crm' END, at, (crm._local_span(period)).since, (crm._local_span(period)).upto, smallest);
END
$$;
COMMENT ON FUNCTION crm._journey_statement(text, daterange, timestamptz, boolean, int) IS 'Internal: for crm.journey_funnel: its statement over the guarded views or, for the house, over the tables, without groups smaller than asked. Answers nothing about customers.';

CREATE OR REPLACE FUNCTION crm._path_statement(min_support numeric, outcome text, period daterange, max_size int, min_lift numeric, house boolean, smallest int) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_schema text := CASE WHEN house THEN 'crm_data' ELSE 'crm' END;
    v_from timestamptz := (crm._local_span(period)).since;
    v_to timestamptz := (crm._local_span(period)).upto;
    v_won text;
BEGIN
    v_won := CASE outcome
        WHEN 'bought' THEN format($q$SELECT o.account_id, min(o.closed_at) AS at FROM %1$I.opportunity AS o WHERE o.outcome = 'won' AND o.deleted_at IS NULL AND o.closed_at >= %2$L GROUP BY 1
                                     UNION ALL SELECT c.account_id, min(c.signed_on::timestamp AT TIME ZONE %3$L) FROM %1$I.contract AS c WHERE c.signed_on IS NOT NULL AND c.deleted_at IS NULL AND c.signed_on::timestamp AT TIME ZONE %3$L >= %2$L GROUP BY 1$q$, v_schema, v_from, v_tz)
        ELSE format('SELECT e.account_id, min(e.occurred_at) AS at FROM %I.event AS e WHERE e.kind = %L AND e.occurred_at >= %L GROUP BY 1', v_schema, outcome, v_from) END;
    RETURN format($q$
        WITH RECURSIVE won AS (SELECT w.account_id, min(w.at) AS at FROM (%1$s) AS w GROUP BY 1),
        -- what happened in the period before the conversion; a customer of whom nothing is known before it takes no part
        e AS MATERIALIZED (SELECT DISTINCT e.account_id, e.kind, w.at IS NOT NULL AS converted FROM %2$I.event AS e JOIN %2$I.account AS a ON a.id = e.account_id AND a.deleted_at IS NULL AND a.merged_into IS NULL LEFT JOIN won AS w ON w.account_id = e.account_id
                            WHERE e.occurred_at >= %3$L AND e.occurred_at < %4$L AND e.occurred_at < coalesce(w.at, 'infinity') AND e.kind <> %5$L),
        t AS MATERIALIZED (SELECT count(DISTINCT e.account_id) AS n, count(DISTINCT e.account_id) FILTER (WHERE e.converted) AS hit FROM e),
        i AS MATERIALIZED (SELECT k.kind, row_number() OVER (ORDER BY k.n DESC, k.kind COLLATE "C") - 1 AS pos FROM (SELECT e.kind, count(*) AS n FROM e GROUP BY 1) AS k, t WHERE k.n >= greatest(%6$s * t.n, 1) ORDER BY 2 LIMIT 60),
        -- customers with the same events are one row
        m AS MATERIALIZED (SELECT x.mask, count(*) AS n, count(*) FILTER (WHERE x.converted) AS hit FROM (SELECT e.account_id, e.converted, coalesce(bit_or(1::bigint << i.pos::int), 0) AS mask FROM e LEFT JOIN i USING (kind) GROUP BY 1, 2) AS x GROUP BY 1),
        -- a set is frequent only if every part of it is: sets grow by one event at a time
        s AS (SELECT 1::bigint << i.pos::int AS mask, i.pos, 1 AS size, c.n, c.hit FROM i CROSS JOIN LATERAL (SELECT sum(m.n) AS n, sum(m.hit) AS hit FROM m WHERE (m.mask & (1::bigint << i.pos::int)) <> 0) AS c
              UNION ALL
              SELECT s.mask | (1::bigint << i.pos::int), i.pos, s.size + 1, c.n, c.hit FROM s JOIN i ON i.pos > s.pos AND s.size < %7$s CROSS JOIN t
               CROSS JOIN LATERAL (SELECT sum(m.n) AS n, sum(m.hit) AS hit FROM m WHERE (m.mask & (s.mask | (1::bigint << i.pos::int))) = (s.mask | (1::bigint << i.pos::int))) AS c
               WHERE c.n >= greatest(%6$s * t.n, 1)),
        -- a set that says no more than a smaller one (the same customers) is left out, and so is what would tell of few customers: those with some of its events
        -- and without the others can be had by adding and taking away, so they are none or enough, whichever of its events they are
        k AS (SELECT s.* FROM s WHERE NOT EXISTS (SELECT FROM s AS p WHERE p.size = s.size - 1 AND (p.mask & s.mask) = p.mask AND p.n = s.n)
                 AND (%8$s = 0 OR s.hit >= %8$s AND s.n - s.hit >= %8$s
                      AND NOT EXISTS (SELECT FROM m GROUP BY m.mask & s.mask HAVING sum(m.n) BETWEEN 1 AND %8$s - 1 OR sum(m.hit) BETWEEN 1 AND %8$s - 1 OR sum(m.n) - sum(m.hit) BETWEEN 1 AND %8$s - 1))),
        -- Wilson's interval of the share, 95 %%
        q AS (SELECT k.*, t.n AS all_n, t.hit AS all_hit, k.hit / k.n AS rate, (k.hit / k.n + 1.9208 / k.n) / (1 + 3.8416 / k.n) AS mid, 1.96 * sqrt(k.hit / k.n * (1 - k.hit / k.n) / k.n + 0.9604 / (k.n * k.n)) / (1 + 3.8416 / k.n) AS half,
                     t.hit::numeric / nullif(t.n, 0) AS mean FROM k, t)
        SELECT (SELECT array_agg(i.kind ORDER BY i.kind COLLATE "C") FROM i WHERE (q.mask & (1::bigint << i.pos::int)) <> 0) AS events, q.n::bigint, q.hit::bigint, round(q.n / q.all_n, 4), round(q.rate, 4), round(q.mean, 4), round(q.rate / nullif(q.mean, 0), 2),
               round(greatest(q.mid - q.half, 0) / nullif(q.mean, 0), 2), round(least(q.mid + q.half, 1) / nullif(q.mean, 0), 2)
          FROM q WHERE q.rate >= %9$s * q.mean AND q.mean > 0 AND (%8$s = 0 OR q.all_n - q.n = 0 OR q.all_n - q.n >= %8$s)
         ORDER BY q.rate DESC, q.n DESC, q.size, 1$q$,
        v_won, v_schema, v_from, v_to, outcome, min_support, max_size, smallest, min_lift);
END
$$;
COMMENT ON FUNCTION crm._path_statement(numeric, text, daterange, int, numeric, boolean, int) IS 'Internal: for crm.path_lift: its statement over the guarded views or, for the house, over the tables, without groups smaller than asked. Answers nothing about customers.';

-- Who may have summaries of the house and reads no rows: a whole month that is over, so that no two answers differ by a few customers.
CREATE OR REPLACE FUNCTION crm._house_summary(period daterange) RETURNS int
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF NOT coalesce((SELECT bool_and(crm.row_visible('event', 'summary', NULL, r.id, g.grade::smallint)) FROM (SELECT t.id FROM crm_data.team AS t UNION ALL SELECT NULL) AS r CROSS JOIN generate_series(0, 9) AS g (grade)), false) THEN
        RAISE EXCEPTION 'you read no events' USING ERRCODE = 'insufficient_privilege', HINT = 'It takes the operation read on event, or summary on all of them.';
    END IF;
    IF period IS DISTINCT FROM daterange(date_trunc('month', lower(period))::date, (date_trunc('month', lower(period)) + interval '1 month')::date)
       OR upper(period) > (now() AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date THEN
        RAISE EXCEPTION 'a summary is of one whole month that is over' USING ERRCODE = 'insufficient_privilege', HINT = 'For example ''[2026-03-01,2026-04-01)''. Other periods are for people who read events.';
    END IF;
    RETURN crm._setting_number('access.min_group', 5, 2, 1000000);
END
$$;
COMMENT ON FUNCTION crm._house_summary(daterange) IS 'Internal: whether the caller may have a summary over the events of the house, and of this period; answers the fewest customers of a group. Errors: 42501; RM101 the setting access.min_group is not a whole number from 2 on.';

CREATE OR REPLACE FUNCTION crm._journey_summary(journey text, period daterange)
    RETURNS TABLE (seq int, node text, label jsonb, customers bigint, waiting bigint, loss_rate numeric, of_first_rate numeric, dwell_median_hours numeric, dwell_p90_hours numeric, stalled bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE crm._journey_statement(journey, period, now(), true, crm._house_summary(period));
END
$$;
COMMENT ON FUNCTION crm._journey_summary(text, daterange) IS 'Internal: crm.journey_funnel over the house, for people who may have summaries only. Errors: 42501.';

CREATE OR REPLACE FUNCTION crm.journey_funnel(journey text DEFAULT 'onboarding', period daterange DEFAULT NULL, as_of timestamptz DEFAULT NULL)
    RETURNS TABLE (seq int, node text, label jsonb, customers bigint, waiting bigint, loss_rate numeric, of_first_rate numeric, dwell_median_hours numeric, dwell_p90_hours numeric, stalled bigint)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED -- the caller's own rights. Not STRICT: period and as_of may be NULL
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF isempty(period) OR as_of > now() OR NOT isfinite(as_of) THEN
        RAISE EXCEPTION 'a period has days, and as_of is an instant in the past' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ''[2026-03-01,2026-04-01)''; leave both out for all there is.';
    END IF;
    IF crm.row_visible('event', 'look', NULL, NULL, NULL) THEN
        RETURN QUERY EXECUTE crm._journey_statement(journey, period, coalesce(as_of, now()), false, 0);
    ELSIF as_of IS NOT NULL THEN
        RAISE EXCEPTION 'a summary is of what is known now' USING ERRCODE = 'insufficient_privilege', HINT = 'as_of is for people who read events.';
    ELSE
        RETURN QUERY SELECT * FROM crm._journey_summary(journey, period);
    END IF;
END
$$;
COMMENT ON FUNCTION crm.journey_funnel(text, daterange, timestamptz) IS
'How far customers came on a journey (configuration of kind journey: nodes in order, each reached by an event of a kind): by node, how many reached it, how many of them did not go on, and how long those who did took. A customer stands at the last node before the first one that he has not reached.
journey: its key. period: days of the first node that count, NULL for all. as_of: what had happened by then, NULL for now.
customers: reached the node; waiting: and not the next; loss_rate: waiting as a share of customers, among them those who may still go on; stalled: waiting longer than the next node allows (stall). dwell_median_hours, dwell_p90_hours: hours from this node to the next, of those who reached it: median and nine tenths. of_first_rate: share of those who began. NULL for the last node, which has no next.
Over the customers and events that the caller may read, with his own rights. Whoever has the operation summary on all events and reads none gets figures of the house, of one whole month that is over; groups of fewer customers than access.min_group, or the difference to one, are NULL.
Errors: 42704 no such journey; 22023 an empty period, or as_of in the future; 42501 no right to events, or a summary of another period.';

CREATE OR REPLACE FUNCTION crm._path_summary(min_support numeric, period daterange, max_size int, min_lift numeric)
    RETURNS TABLE (events text[], customers bigint, converted bigint, support numeric, rate numeric, mean_rate numeric, lift numeric, low numeric, high numeric)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY EXECUTE crm._path_statement(min_support, 'bought', period, max_size, min_lift, true, crm._house_summary(period));
END
$$;
COMMENT ON FUNCTION crm._path_summary(numeric, daterange, int, numeric) IS 'Internal: crm.path_lift over the house, for people who may have summaries only. Errors: 42501.';

CREATE OR REPLACE FUNCTION crm.path_lift(min_support numeric DEFAULT 0.02, outcome text DEFAULT 'bought', period daterange DEFAULT NULL, max_size int DEFAULT 3, min_lift numeric DEFAULT 1)
    RETURNS TABLE (events text[], customers bigint, converted bigint, support numeric, rate numeric, mean_rate numeric, lift numeric, low numeric, high numeric)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED -- the caller's own rights. Not STRICT: period may be NULL
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF min_support IS NULL OR NOT (min_support > 0 AND min_support <= 1) OR max_size IS NULL OR max_size NOT BETWEEN 1 AND 5 OR min_lift IS NULL OR NOT (min_lift >= 0 AND min_lift <= 1000) OR coalesce(outcome, '') = '' OR isempty(period) THEN
        RAISE EXCEPTION 'min_support is above 0 and at most 1, max_size from 1 to 5, min_lift from 0 to 1000, and there is an outcome' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example crm.path_lift(0.02).';
    END IF;
    IF crm.row_visible('event', 'look', NULL, NULL, NULL) THEN
        IF outcome = 'bought' AND NOT (crm.row_visible('opportunity', 'look', NULL, NULL, NULL) AND crm.row_visible('contract', 'look', NULL, NULL, NULL)) THEN
            RAISE EXCEPTION 'you read no deals and contracts' USING ERRCODE = 'insufficient_privilege', HINT = 'Give the kind of an event as the outcome, for example ''api_call''.';
        END IF;
        RETURN QUERY EXECUTE crm._path_statement(min_support, outcome, period, max_size, min_lift, false, 0);
    ELSIF outcome <> 'bought' THEN
        RAISE EXCEPTION 'a summary is about purchases' USING ERRCODE = 'insufficient_privilege', HINT = 'Other outcomes are for people who read events.';
    ELSE
        RETURN QUERY SELECT * FROM crm._path_summary(min_support, period, max_size, min_lift);
    END IF;
END
$$;
COMMENT ON FUNCTION crm.path_lift(numeric, text, daterange, int, numeric) IS
'Sets of events after which customers convert more often than on average: association rules (Agrawal, Imielinski and Swami 1993) from a set of kinds of events to the outcome, with support and lift. It says what goes together, not what causes what.
min_support: least share of the customers who have all events of the set, above 0 up to 1. outcome: bought (the first deal won or contract signed since the period began) or the kind of an event. period: days of the events, NULL for all. max_size: most events of a set, 1 to 5. min_lift: least lift, 0 to 1000.
Customers are those with an event in the period before their conversion; only such events count. Of the kinds of events the sixty most frequent take part. A set with the same customers as a smaller one is left out.
rate: share of customers with the set who converted; mean_rate: of all; lift: rate / mean_rate; low, high: lift at the ends of the 95 % score interval of the rate (Wilson 1927), the mean taken as known. Many sets are looked at, so some reach a high lift by chance: look at low.
Over what the caller may read, with his own rights; for whoever has only the operation summary on all events, over the house, of one whole month that is over, for the outcome bought, without sets that would tell of fewer customers than access.min_group.
Errors: 22023 a figure out of range; 42501 no right to events or to deals, or a summary of another period or outcome.';
