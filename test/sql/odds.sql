-- The lattice model: equal to a slow reference in SQL, deterministic, safe against bad input.
SET client_min_messages = warning;
SET extra_float_digits = 0;

-- Generated cases with known structure, the same on every machine.
CREATE TEMP TABLE deal AS
SELECT i,
       ARRAY[(ARRAY['new', 'demo', 'offer'])[1 + i % 3], CASE WHEN i % 11 = 0 THEN NULL ELSE 'r' || (i * 7 % 5) END, 'o' || (i * 31 % 13)] AS dims,
       CASE WHEN (i * 7919 % 101) < 20 + 25 * (i % 3) + 6 * (i * 7 % 5) - 3 * (i * 31 % 13) THEN 1.0 WHEN i % 17 = 0 THEN 0.3 ELSE 0.0 END::float8 AS won,
       (1 + i % 4)::float8 / 2 AS weight
  FROM generate_series(1, 400) AS i;

-- The same model, written to be read: every pass over a block is a few statements.
CREATE FUNCTION pg_temp.clip(x float8) RETURNS float8 LANGUAGE sql AS 'SELECT least(greatest(x, -1), 1)';
CREATE FUNCTION pg_temp.sigmoid(x float8) RETURNS float8 LANGUAGE sql AS 'SELECT 1 / (1 + exp(-x))';
CREATE TEMP TABLE ref_block (c int, d int, e int, tau float8);
CREATE TEMP TABLE ref_cell (c int, k text[], mu float8 DEFAULT 0, var float8, step float8, own_p float8);
CREATE TEMP TABLE ref_row (i int, y float8, w float8, eta float8);
CREATE TEMP TABLE ref_in (i int, c int, k text[]);
CREATE TEMP TABLE ref_base (b float8, var float8);
CREATE FUNCTION pg_temp.reference(sweeps int, orders int, prior_value text, prior_p float8, prior_strength float8) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    blk record;
    b float8;
    b_var float8;
    step_b float8;
BEGIN
    TRUNCATE ref_block, ref_cell, ref_row, ref_in, ref_base;
    INSERT INTO ref_block SELECT d, d, NULL, 0.5 FROM generate_series(1, 3) AS d;
    INSERT INTO ref_block SELECT 2 + d + e - (d = 1)::int, d, e, 0.05 FROM generate_series(1, 3) AS d, generate_series(1, 3) AS e WHERE d < e AND orders = 2;
    INSERT INTO ref_in SELECT i, c, CASE WHEN e IS NULL THEN ARRAY[dims[d]] ELSE ARRAY[dims[d], dims[e]] END FROM deal, ref_block;
    INSERT INTO ref_cell (c, k, own_p) SELECT DISTINCT c, k, CASE WHEN c = 1 AND k = ARRAY[prior_value] THEN prior_p END FROM ref_in;
    SELECT ln(p / (1 - p)) INTO b FROM (SELECT (sum(weight * won) + 0.5) / (sum(weight) + 1) AS p FROM deal) AS x;
    INSERT INTO ref_row SELECT i, won, weight, b FROM deal;
    FOR s IN 1..sweeps LOOP
        SELECT pg_temp.clip((sum(w * (y - p)) + 0.5 - pg_temp.sigmoid(b)) / h), 1 / h INTO step_b, b_var
          FROM ref_row, pg_temp.sigmoid(eta) AS p,
               LATERAL (SELECT sum(r.w * q * (1 - q)) + pg_temp.sigmoid(b) * (1 - pg_temp.sigmoid(b)) AS h FROM ref_row AS r, pg_temp.sigmoid(r.eta) AS q) AS x
         GROUP BY h;
        b := b + step_b;
        UPDATE ref_row SET eta = eta + step_b;
        FOR blk IN SELECT * FROM ref_block WHERE e IS NULL OR s > 2 ORDER BY c LOOP
            UPDATE ref_cell AS cell
               SET step = pg_temp.clip((g - (mu - mean) * precision) / (h + precision)), var = 1 / (h + precision)
              FROM (SELECT c.ctid AS id, sum(w * (y - p)) AS g, sum(w * p * (1 - p)) AS h,
                           CASE WHEN own_p IS NULL THEN 1 / blk.tau ELSE prior_strength * own_p * (1 - own_p) END AS precision,
                           CASE WHEN own_p IS NULL THEN 0 ELSE ln(own_p / (1 - own_p)) - b END AS mean
                      FROM ref_in AS n JOIN ref_row USING (i) JOIN ref_cell AS c ON c.c = n.c AND c.k = n.k, pg_temp.sigmoid(eta) AS p
                     WHERE n.c = blk.c GROUP BY c.ctid, own_p) AS slope
             WHERE cell.ctid = slope.id;
            UPDATE ref_cell SET mu = mu + step WHERE c = blk.c;
            UPDATE ref_row AS r SET eta = eta + step FROM ref_in AS n JOIN ref_cell AS cell ON cell.c = n.c AND cell.k = n.k WHERE n.c = blk.c AND n.i = r.i;
        END LOOP;
        IF s < sweeps THEN
            UPDATE ref_block AS k SET tau = (x.squares + 0.02) / (x.n + 1)
              FROM (SELECT c, coalesce(sum(mu * mu + var) FILTER (WHERE own_p IS NULL), 0) AS squares, count(*) FILTER (WHERE own_p IS NULL) AS n FROM ref_cell GROUP BY c) AS x
             WHERE x.c = k.c AND (k.e IS NULL OR s > 2);
        END IF;
    END LOOP;
    INSERT INTO ref_base VALUES (b, b_var);
END
$$;
-- probability of a case, a cell that was never seen having mean 0 and variance tau
CREATE FUNCTION pg_temp.reference_p(dims text[]) RETURNS float8 LANGUAGE sql AS $$
    SELECT pg_temp.sigmoid(eta / sqrt(1 + pi() * least(v, 4) / 8))
      FROM (SELECT b + sum(coalesce(cell.mu, 0)) AS eta, ref_base.var + sum(coalesce(cell.var, k.tau)) AS v
              FROM ref_base CROSS JOIN ref_block AS k
              LEFT JOIN ref_cell AS cell ON cell.c = k.c AND cell.k = CASE WHEN k.e IS NULL THEN ARRAY[dims[d]] ELSE ARRAY[dims[d], dims[e]] END
             GROUP BY b, ref_base.var) AS x
$$;

CREATE TEMP TABLE asked AS
SELECT DISTINCT dims FROM deal UNION ALL VALUES (ARRAY['never', 'r1', 'o2']), (ARRAY['demo', NULL, 'o99']), (ARRAY[NULL, NULL, NULL]);

SELECT pg_temp.reference(20, 2, NULL, NULL, NULL);
SELECT count(*) AS asked, max(abs(p - pg_temp.reference_p(dims))) < 1e-9 AS equal_to_reference, bool_and(low <= p AND p <= high) AS inside, min(n) AS n
  FROM asked, (SELECT crm.lattice_fit(dims, won, weight) AS m FROM deal) AS x, crm.lattice_predict(m, dims);
SELECT pg_temp.reference(12, 1, NULL, NULL, NULL);
SELECT max(abs(p - pg_temp.reference_p(dims))) < 1e-9 AS equal_to_reference
  FROM asked, (SELECT crm.lattice_fit(dims, won, weight, '{"order": 1, "sweeps": 12}') AS m FROM deal) AS x, crm.lattice_predict(m, dims);
SELECT pg_temp.reference(15, 2, 'demo', 0.8, 20);
SELECT max(abs(p - pg_temp.reference_p(dims))) < 1e-9 AS equal_to_reference
  FROM asked, (SELECT crm.lattice_fit(dims, won, weight, '{"sweeps": 15, "prior": [{"dim": 1, "value": "demo", "p": 0.8, "strength": 20}]}') AS m FROM deal) AS x, crm.lattice_predict(m, dims);

CREATE TEMP TABLE fitted AS SELECT crm.lattice_fit(dims, won, weight) AS m FROM deal;
-- the order of the rows does not matter, nor their division into rows of smaller weight
SELECT (SELECT crm.lattice_fit(dims, won, weight ORDER BY i DESC) FROM deal)::bytea = m::bytea AS same_in_any_order FROM fitted;
SELECT (SELECT crm.lattice_fit(dims, won, weight ORDER BY md5(i::text)) FROM deal)::bytea = m::bytea AS same_in_any_order FROM fitted;
SELECT max(abs(a.p - b.p)) < 1e-12 AS same_in_halves
  FROM (SELECT crm.lattice_fit(dims, won, weight / 2) AS h FROM deal, generate_series(1, 2)) AS x, fitted, asked, crm.lattice_predict(h, dims) AS a, crm.lattice_predict(m, dims) AS b;

-- contributions sum to the logit of the probability
SELECT max(abs(total - ln(p / (1 - p)))) < 1e-12 AS sums_to_logit
  FROM asked, fitted, crm.lattice_predict(m, dims), LATERAL (SELECT sum(logit) AS total FROM crm.lattice_explain(m, dims)) AS e;
SELECT dim, value, round(logit::numeric, 3) AS logit, round(points::numeric, 1) AS points, round(n::numeric, 1) AS n
  FROM fitted, crm.lattice_explain(m, ARRAY['offer', NULL, 'o99']) ORDER BY dim;

-- one update is the Kalman step of the reference
SELECT pg_temp.reference(20, 2, NULL, NULL, NULL);
WITH x AS (SELECT ARRAY['demo', 'r1', 'o3'] AS dims),
     c AS (SELECT k.c, coalesce(cell.mu, 0) AS mu, coalesce(cell.var, k.tau) AS var
             FROM x CROSS JOIN ref_block AS k LEFT JOIN ref_cell AS cell
                  ON cell.c = k.c AND cell.k = CASE WHEN k.e IS NULL THEN ARRAY[dims[d]] ELSE ARRAY[dims[d], dims[e]] END),
     s AS (SELECT b + sum(c.mu) AS eta, ref_base.var + sum(c.var) AS v FROM c, ref_base GROUP BY b, ref_base.var),
     k AS (SELECT eta, v, 0.7 * p * (1 - p) AS r, 0.7 * (1 - p) AS q FROM s, pg_temp.sigmoid(eta) AS p),
     after AS (SELECT eta + v * q / (1 + v * r) AS eta,
                      (SELECT sum(z.var * (1 - z.var * r / (1 + v * r))) FROM (SELECT var FROM c UNION ALL SELECT var FROM ref_base) AS z) AS v FROM k)
SELECT abs(p - pg_temp.sigmoid(eta / sqrt(1 + pi() * least(v, 4) / 8))) < 1e-9 AS equal_to_reference
  FROM x, after, fitted, crm.lattice_predict(crm.lattice_update(m, dims, 1, 0.7), dims);
-- the aggregate does what a chain of updates does, and new values are learned
SELECT (SELECT crm.lattice_learn(m, dims, won, 1 ORDER BY i)
          FROM (VALUES (1, ARRAY['new', 'r9', 'o1'], 1), (2, ARRAY['lost', NULL, 'o1'], 0)) AS v(i, dims, won))::bytea
       = crm.lattice_update(crm.lattice_update(m, ARRAY['new', 'r9', 'o1'], 1), ARRAY['lost', NULL, 'o1'], 0)::bytea AS same
  FROM fitted;
WITH taught AS (SELECT crm.lattice_learn(m, ARRAY['x', 'y', 'z'], 1, 1) AS m FROM fitted, generate_series(1, 10))
SELECT round(a.p::numeric, 3) AS before, b.p > a.p AS rises, b.n - a.n AS rows
  FROM fitted, taught, crm.lattice_predict(fitted.m, ARRAY['x', 'y', 'z']) AS a, crm.lattice_predict(taught.m, ARRAY['x', 'y', 'z']) AS b;

-- values share what they have in common and stay what they are: every version of a chain, and branches of it, is the model that the aggregate learns
CREATE FUNCTION pg_temp.learned(upto int) RETURNS bytea LANGUAGE sql AS
'SELECT coalesce((SELECT crm.lattice_learn(m, dims, won, weight ORDER BY i) FROM deal WHERE i <= upto)::bytea, m::bytea) FROM fitted';
CREATE FUNCTION pg_temp.chain(OUT stored boolean, OUT middle boolean, OUT branch boolean, OUT newest boolean, OUT after_error boolean) LANGUAGE plpgsql AS $$
DECLARE
    first crm.lattice;
    m crm.lattice;
    fifth crm.lattice;
    other crm.lattice;
    fresh CONSTANT text[] := ARRAY['fresh', 'r99', 'o1'];
    one record;
    p float8;
BEGIN
    SELECT f.m INTO first FROM fitted AS f;
    m := first;
    FOR one IN SELECT * FROM deal WHERE i <= 20 ORDER BY i LOOP
        m := crm.lattice_update(m, one.dims, one.won, one.weight);
        IF one.i = 5 THEN
            fifth := m;
        END IF;
    END LOOP;
    SELECT x.p INTO p FROM crm.lattice_predict(fifth, fresh) AS x;
    -- from the fifth on another way: values that the others never meet
    other := crm.lattice_update(crm.lattice_update(fifth, fresh, 1), ARRAY[NULL, 'r99', 'o2'], 0);
    PERFORM crm.lattice_update(first, fresh, 1);
    PERFORM crm.lattice_update(m, fresh, 1);
    BEGIN
        m := crm.lattice_update(m, fresh, 7);
    EXCEPTION WHEN invalid_parameter_value THEN
        NULL;
    END;
    stored := first::bytea = pg_temp.learned(0);
    middle := fifth::bytea = pg_temp.learned(5) AND p = (SELECT x.p FROM crm.lattice_predict(pg_temp.learned(5)::crm.lattice, fresh) AS x);
    branch := other::bytea = (SELECT crm.lattice_learn(pg_temp.learned(5)::crm.lattice, v.dims, v.won, 1 ORDER BY v.k) FROM (VALUES (1, fresh, 1), (2, ARRAY[NULL, 'r99', 'o2'], 0)) AS v (k, dims, won))::bytea;
    newest := m::bytea = pg_temp.learned(20);
    m := NULL;
    after_error := crm.lattice_update(fifth, (SELECT dims FROM deal WHERE i = 6), (SELECT won FROM deal WHERE i = 6), (SELECT weight FROM deal WHERE i = 6))::bytea = pg_temp.learned(6);
END
$$;
SELECT * FROM pg_temp.chain();
-- more models than are kept, in turn, and each of them unchanged by updates of others
CREATE TEMP TABLE several AS SELECT k, (SELECT crm.lattice_fit(dims, won, weight) FROM deal WHERE i <= 20 * k) AS m FROM generate_series(1, 7) AS k;
SELECT count(*) AS asked, count(DISTINCT p) = 7 AS different, bool_and(p = (SELECT x.p FROM crm.lattice_predict(m::bytea::crm.lattice, ARRAY['demo', 'r1', 'o3']) AS x)) AS right_one
  FROM (SELECT t, s.k, s.m, (SELECT x.p FROM crm.lattice_predict(s.m, ARRAY['demo', 'r1', 'o3']) AS x) AS p, crm.lattice_update(s.m, ARRAY['demo', 'r' || t, 'o3'], 1) IS NOT NULL FROM generate_series(1, 3) AS t, several AS s ORDER BY t, s.k) AS z;

-- evidence never counts against
WITH x AS (SELECT ARRAY[(i % 4)::text, (i * 7 % 3)::text] AS dims, (i * 7919 % 101 < 60 - 10 * (i % 4 = 2)::int + 5 * (i % 4))::int AS y FROM generate_series(1, 400) AS i),
     f AS (SELECT crm.lattice_fit(dims, y, 1, '{"order": 1}') AS m FROM x),
     g AS (SELECT v, (SELECT p FROM crm.lattice_predict(m, ARRAY[v::text, '0'])) AS before, (SELECT p FROM crm.lattice_predict(crm.lattice_monotone(m, 1, '{0,1,2,3,never met}'), ARRAY[v::text, '0'])) AS after FROM f, generate_series(0, 3) AS v)
SELECT bool_or(before < before_last) AS falls_before, bool_or(after < after_last - 1e-12) AS falls_after
  FROM (SELECT g.*, lag(before) OVER (ORDER BY v) AS before_last, lag(after) OVER (ORDER BY v) AS after_last FROM g) AS z;

-- text and binary form
SELECT m::text::crm.lattice::bytea = m::bytea AS text_round_trip, m::bytea::crm.lattice::bytea = m::bytea AS binary_round_trip, octet_length(m::bytea) AS bytes FROM fitted;
\set VERBOSITY terse
SELECT ''::crm.lattice;
SELECT 'hello'::crm.lattice;
SELECT '\x'::crm.lattice;
SELECT '\x00112233445566778899'::crm.lattice;
SELECT '\xzz'::crm.lattice;
\echo :LAST_ERROR_SQLSTATE
-- every damage is refused: a byte changed, cut off or added, at any place
CREATE FUNCTION pg_temp.refused(bytes bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bytes::crm.lattice;
    RETURN 'accepted';
EXCEPTION WHEN invalid_binary_representation THEN
    RETURN 'refused';
END
$$;
SELECT pg_temp.refused(set_byte(m::bytea, at, (get_byte(m::bytea, at) + 1) % 256)) AS changed, count(*) > 500 AS tried
  FROM fitted, generate_series(0, octet_length(m::bytea) - 1, 7) AS at GROUP BY 1;
SELECT pg_temp.refused(substr(m::bytea, 1, len)) AS cut, count(*) > 100 AS tried FROM fitted, generate_series(0, octet_length(m::bytea) - 1, 31) AS len GROUP BY 1;
SELECT pg_temp.refused(m::bytea || '\x00') AS longer, pg_temp.refused(m::bytea) AS untouched FROM fitted;

-- bad input
SELECT crm.lattice_fit(dims, won, weight) IS NULL AS no_rows FROM deal WHERE false;
SELECT crm.lattice_fit(dims, won, 0) IS NULL AS no_weight FROM deal;
SELECT crm.lattice_fit(dims, 1.5, 1) FROM deal;
SELECT crm.lattice_fit(dims, -0.1, 1) FROM deal;
SELECT crm.lattice_fit(dims, 'NaN', 1) FROM deal;
SELECT crm.lattice_fit(dims, won, 'NaN') FROM deal;
SELECT crm.lattice_fit(dims, won, 'Infinity') FROM deal;
SELECT crm.lattice_fit(dims, won, -1) FROM deal;
SELECT crm.lattice_fit(dims, NULL, 1) FROM deal;
SELECT crm.lattice_fit(NULL, won, 1) FROM deal;
SELECT crm.lattice_fit('{}', won, 1) FROM deal;
SELECT crm.lattice_fit(ARRAY[['a'], ['b']], won, 1) FROM deal;
SELECT crm.lattice_fit(array_fill('x'::text, ARRAY[25]), won, 1) FROM deal;
SELECT crm.lattice_fit(CASE WHEN i = 7 THEN ARRAY['a'] ELSE dims END, won, 1) FROM deal;
SELECT crm.lattice_fit(dims, won, 1, '{"ordre": 1}') FROM deal;
SELECT crm.lattice_fit(dims, won, 1, '{"order": 3}') FROM deal;
SELECT crm.lattice_fit(dims, won, 1, '[]') FROM deal;
SELECT crm.lattice_fit(dims, won, 1, '{"prior": [{"dim": 9, "p": 0.5}]}') FROM deal;
SELECT crm.lattice_fit(dims, won, 1, '{"prior": [{"dim": 1, "value": "a", "p": 0.5}, {"dim": 1, "value": "a", "p": 0.6}]}') FROM deal;
SELECT crm.lattice_fit(dims, won, 1, CASE WHEN i < 9 THEN '{"order": 1}'::jsonb END) FROM deal;
SELECT crm.lattice_predict(m, ARRAY['a']) FROM fitted;
SELECT crm.lattice_update(m, ARRAY['a', 'b', 'c'], 2) FROM fitted;
SELECT crm.lattice_update(m, ARRAY['a', 'b', 'c'], 1, 'Infinity') FROM fitted;
SELECT crm.lattice_update(m, ARRAY['a', 'b', 'c'], 1, 'NaN') FROM fitted;
SELECT crm.lattice_explain(m, '{}') FROM fitted;
SELECT crm.lattice_monotone(m, 1, '{demo,offer}') FROM fitted;
SELECT crm.lattice_monotone(crm.lattice_fit(dims, won, 1, '{"order": 1}'), 4, '{a}') FROM deal;
SELECT crm.lattice_monotone(crm.lattice_fit(dims, won, 1, '{"order": 1}'), 1, '{demo,demo}') FROM deal;
SELECT crm.lattice_predict(m, NULL) IS NULL AS strict FROM fitted;
\echo :LAST_ERROR_SQLSTATE
-- one outcome only: a high probability, not certainty
SELECT round(p::numeric, 3) AS p, high < 1 AS below_one FROM (SELECT crm.lattice_fit(dims, 1, 1) AS m FROM deal LIMIT 1) AS x, crm.lattice_predict(m, ARRAY['new', 'r1', 'o1']);
SELECT p < 1, p > 0.99 FROM (SELECT crm.lattice_fit(dims, 1, 1) AS m FROM deal) AS x, crm.lattice_predict(m, ARRAY['new', 'r1', 'o1']);
-- 24 dimensions, and very many values
SELECT round(p::numeric, 2) AS p FROM (SELECT crm.lattice_fit(array_fill('x'::text, ARRAY[24]), i % 2, 1) AS m FROM deal) AS x, crm.lattice_predict(m, array_fill('x'::text, ARRAY[24]));
SELECT round(p::numeric, 2) AS p, n FROM (SELECT crm.lattice_fit(ARRAY['v' || i, NULL], (i % 4 = 0)::int, 1) AS m FROM generate_series(1, 100000) AS i) AS x, crm.lattice_predict(m, ARRAY['w', NULL]);

-- Backtest: what a prediction may know
CREATE TEMP TABLE past AS
SELECT i AS id, i / 3 AS deal, (i / 3 * 3)::float8 / 10 + i % 3 AS entered, (i / 3 * 3)::float8 / 10 + 4 + (i / 3) * 7 % 19 + 12 * (1 - won) AS labelled, (i / 100) AS block, won,
       'a' || i % 3 AS stage, CASE WHEN i % 13 = 0 THEN NULL ELSE 'b' || (i / 3) * 7 % 5 END AS segment
  FROM generate_series(0, 899) AS i, LATERAL (SELECT ((i / 3) * 7919 % 101 < 25 + 10 * ((i / 3) * 7 % 5))::int AS won) AS w;
CREATE TEMP TABLE told AS SELECT * FROM crm.odds_backtest('past', 'id', '{stage,segment}', 'won', 'entered', 'labelled', 'block', 'deal');
SELECT count(*) AS rows, bool_and(p > 0 AND p < 1 AND low <= p AND p <= high) AS sound, count(DISTINCT id) AS ids FROM told;
-- nothing that became known at X or later has a part in a prediction entered by X
CREATE TEMP VIEW flipped AS SELECT id, deal, entered, labelled, block, CASE WHEN labelled >= current_setting('test.x')::float8 THEN 1 - won ELSE won END AS won, stage, segment FROM past;
CREATE FUNCTION pg_temp.leak(x float8, OUT tried boolean, OUT changed bigint, OUT changed_later boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('test.x', x::text, true);
    SELECT count(*) > 50, count(*) FILTER (WHERE past.entered <= x AND (n.p, n.low, n.high) IS DISTINCT FROM (t.p, t.low, t.high)),
           bool_or(past.entered > x AND n.p <> t.p)
      INTO tried, changed, changed_later
      FROM crm.odds_backtest('flipped', 'id', '{stage,segment}', 'won', 'entered', 'labelled', 'block', 'deal') AS n JOIN told AS t USING (id) JOIN past ON past.id = t.id::int;
END
$$;
SELECT x, l.* FROM (VALUES (30.0), (50.0), (75.5)) AS v(x), pg_temp.leak(x) AS l ORDER BY x;
-- wins close after 5 days, losses after 60, half of each: those that are closed by day 120 would speak of many more wins
CREATE TEMP TABLE fast AS
SELECT i AS id, i / 5.0 AS entered, i / 5.0 + CASE WHEN won = 1 THEN 5 ELSE 60 END AS labelled, (i >= 600)::int AS block, won, 'a' || i * 7 % 3 AS kind FROM generate_series(0, 629) AS i, LATERAL (SELECT (i * 7919 % 101 % 2) AS won) AS w;
SELECT (SELECT avg(p) FROM (SELECT crm.lattice_fit(ARRAY[kind], won, 1) AS m FROM fast WHERE labelled < 120) AS x, crm.lattice_predict(m, ARRAY['a1'])) / 0.5 > 1.3 AS closed_alone_are_biased,
       abs(avg(p) / 0.5 - 1) < 0.05 AS with_the_open_ones_not
  FROM crm.odds_backtest('fast', 'id', '{kind}', 'won', 'entered', 'labelled', 'block') WHERE id::int < 605;
-- the order of the rows does not matter
CREATE TEMP TABLE shuffled AS SELECT * FROM past ORDER BY md5(id::text);
SELECT count(*) AS differing FROM told JOIN crm.odds_backtest('shuffled', 'id', '{stage,segment}', 'won', 'entered', 'labelled', 'block', 'deal') AS n USING (id) WHERE n.p <> told.p OR n.low <> told.low;
-- dates, booleans and open rows
CREATE TEMP TABLE dated AS SELECT id, deal, timestamptz '2026-01-01 00:00+00' + entered * interval '1 day' AS entered,
       CASE WHEN labelled < 90 THEN date '2026-01-01' + ceil(labelled)::int END AS labelled, block, CASE WHEN labelled < 90 THEN won = 1 END AS won, stage, segment FROM past;
SELECT count(*) AS rows, bool_and(p > 0 AND p < 1) AS sound FROM crm.odds_backtest('dated', 'id', '{stage,segment}', 'won', 'entered', 'labelled', 'block');
-- bad input
SELECT count(*) FROM crm.odds_backtest('past', 'nr', '{stage}', 'won', 'entered', 'labelled', 'block');
SELECT count(*) FROM crm.odds_backtest('past', 'deal', '{stage}', 'won', 'entered', 'labelled', 'block');
SELECT count(*) FROM crm.odds_backtest('past', 'id', '{}', 'won', 'entered', 'labelled', 'block');
SELECT count(*) FROM crm.odds_backtest('past', 'id', '{stage}', 'entered', 'entered', 'labelled', 'block');
SELECT count(*) FROM crm.odds_backtest('past', 'id', '{stage}', 'won', 'labelled', 'entered', 'block');
SELECT count(*) FROM crm.odds_backtest('past', 'id', '{stage}', 'won', 'entered', 'labelled', 'entered');
SELECT count(*) FROM crm.odds_backtest('past', 'id', '{stage}', 'won', 'segment', 'labelled', 'block');
SELECT count(*) FROM crm.odds_backtest('past', NULL, '{stage}', 'won', 'entered', 'labelled', 'block');
SELECT count(*) FROM crm.odds_backtest(0, 'id', '{stage}', 'won', 'entered', 'labelled', 'block');
CREATE TEMP TABLE nothing (LIKE past);
SELECT count(*) AS rows FROM crm.odds_backtest('nothing', 'id', '{stage}', 'won', 'entered', 'labelled', 'block');
-- a history with a single outcome
UPDATE shuffled SET won = 1;
SELECT count(*) AS rows, bool_and(p < 1 AND p > 0.9) AS high FROM crm.odds_backtest('shuffled', 'id', '{stage}', 'won', 'entered', 'labelled', 'block') WHERE id::int > 400;
-- with the caller's rights
GRANT SELECT (id, stage) ON past TO crm_bi;
SET ROLE crm_bi;
SELECT count(*) FROM crm.odds_backtest('past', 'id', '{stage}', 'won', 'entered', 'labelled', 'block');
RESET ROLE;

-- Win probability of deals. Everything below is of 2015, so that deals of other tests are not known to it, and is rolled back.
BEGIN;
INSERT INTO crm_data.pipeline (code, name) VALUES ('oddstest', 'Odds test');
INSERT INTO crm_data.stage (pipeline_id, seq, code, name, outcome, default_probability, category)
SELECT p.id, v.seq, v.code, v.code, v.outcome, v.p, v.category
  FROM crm_data.pipeline AS p, (VALUES (1, 'talk', 'open', 0.8, 'pipeline'), (2, 'offer', 'open', 0.8, 'commit'), (3, 'won', 'won', 1, 'closed'), (4, 'lost', 'lost', 0, 'omitted')) AS v (seq, code, outcome, p, category)
 WHERE p.code = 'oddstest';
INSERT INTO crm_data.account (code, name, industry, type) SELECT 'odds' || i, 'Odds ' || i, (ARRAY['steel', 'school'])[1 + i % 2], 'company' FROM generate_series(0, 9) AS i;
-- steel wins 3 of 4, school 1 of 4; won deals close after 20 days, lost ones after 60
CREATE TEMP TABLE fate AS
SELECT i, 'odds' || i % 10 AS account, timestamptz '2015-01-05 08:00+00' + i * interval '1 day' AS opened, CASE WHEN i % 2 = 0 THEN (i * 7 % 20) < 15 ELSE (i * 7 % 20) < 5 END AS won FROM generate_series(0, 399) AS i;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, outcome, amount, product_line, created_at, stage_entered_at)
SELECT a.id, 'oddstest' || f.i, 'Deal ' || f.i, s.pipeline_id, s.id, 'open', 1000 * (1 + f.i % 7), 'line' || f.i % 3, f.opened, f.opened
  FROM fate AS f JOIN crm_data.account AS a ON a.code = f.account, crm_data.stage AS s JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id AND p.code = 'oddstest' WHERE s.code = 'talk';
INSERT INTO crm_data.stage_history (opportunity_id, account_id, to_stage_id, entered_at, recorded_at, amount)
SELECT o.id, o.account_id, s.id, x.at, x.at, o.amount
  FROM fate AS f JOIN crm_data.opportunity AS o ON o.code = 'oddstest' || f.i JOIN crm_data.stage AS s USING (pipeline_id),
       LATERAL (SELECT CASE s.code WHEN 'talk' THEN f.opened WHEN 'offer' THEN f.opened + interval '10 days' WHEN 'won' THEN f.opened + interval '20 days' ELSE f.opened + interval '60 days' END AS at) AS x
 WHERE (s.code IN ('talk', 'offer') OR s.code = CASE WHEN f.won THEN 'won' ELSE 'lost' END) AND x.at < '2016-01-01'
 ORDER BY o.id, x.at;
UPDATE crm_data.opportunity AS o SET stage_id = h.to_stage_id, stage_entered_at = h.entered_at
  FROM (SELECT DISTINCT ON (opportunity_id) opportunity_id, to_stage_id, entered_at FROM crm_data.stage_history ORDER BY opportunity_id, entered_at DESC) AS h WHERE h.opportunity_id = o.id AND o.code LIKE 'oddstest%';
UPDATE crm_data.opportunity AS o SET outcome = s.outcome, closed_at = o.stage_entered_at FROM crm_data.stage AS s WHERE s.id = o.stage_id AND s.outcome <> 'open' AND o.code LIKE 'oddstest%';
DELETE FROM crm_data.model_event WHERE name = 'win';
CREATE FUNCTION pg_temp.deal(i int) RETURNS bigint LANGUAGE sql AS $$ SELECT id FROM crm_data.opportunity WHERE code = 'oddstest' || i $$;

-- before there is a model, and with too little history: the configured percentage, and it says so
SELECT round(p::numeric, 2) AS p, n, status, model_version, factors FROM crm.win_probability(pg_temp.deal(0), '2015-01-20 00:00+00');
SELECT crm.odds_refit('2015-02-01 00:00+00') > 0 AS fitted;
SELECT status, rows_used, options ->> 'status' AS history, metrics FROM crm_data.model WHERE name = 'win' ORDER BY version DESC LIMIT 1;
SELECT round(p::numeric, 2) AS p, n, status FROM crm.win_probability(pg_temp.deal(20), '2015-02-01 00:00+00');
-- enough history: the rates are learned although every stage says 80 percent, and fast wins do not speak for the open deals
SELECT crm.odds_refit('2016-01-01 00:00+00') > 0 AS fitted;
SELECT status, rows_used, options ->> 'status' AS history, metrics FROM crm_data.model WHERE name = 'win' ORDER BY version DESC LIMIT 1;
SELECT a.industry, count(*) AS open, round(avg(w.p)::numeric, 1) AS p, bool_and(w.low < w.p AND w.p < w.high) AS inside, min(w.status) AS status, min(w.n) AS n
  FROM crm._win_predict('2016-01-01 00:00+00') AS w JOIN crm_data.opportunity AS o ON o.id = w.opportunity_id JOIN crm_data.account AS a ON a.id = o.account_id
 WHERE w.opportunity_id IN (SELECT id FROM crm_data.opportunity WHERE code LIKE 'oddstest%') AND o.created_at > '2015-12-25' GROUP BY 1 ORDER BY 1;
-- a fit to the past is kept as the past's, and the same past gives the same model
SELECT crm.odds_refit('2015-10-01 00:00+00') > 0 AS fitted, crm.odds_refit('2015-10-01 00:00+00') > 0 AS again;
-- a month is not a year: what turns with the calendar is no drift
SELECT count(*) FILTER (WHERE segment IN ('fiscal_phase', 'close_month_in_quarter')) AS calendar, count(*) > 3 AS others FROM crm.drift('2015-09-01 00:00+00', '2015-10-01 00:00+00') WHERE model = 'win' AND metric = 'psi';
SELECT count(DISTINCT params) AS models, array_agg(DISTINCT status) AS status FROM crm_data.model WHERE name = 'win' AND as_of = '2015-10-01 00:00+00';
-- an explanation adds up to the logit before clipping, its points go with it
SELECT abs(sum(e.logit) - min(w.logit)) < 1e-12 AS adds_up, count(*) AS parts
  FROM crm._win_predict('2016-01-01 00:00+00', ARRAY[pg_temp.deal(358)]) AS w, crm.win_explain(w.opportunity_id, '2016-01-01 00:00+00') AS e;
SELECT jsonb_array_length(factors) AS factors, factors #>> '{0,dimension}' AS strongest, status FROM crm.win_probability(pg_temp.deal(358), '2016-01-01 00:00+00');
-- a reason tells its value to those who see the column: the words of a newcomer's reasons have none
CREATE ROLE odds_new NOLOGIN IN ROLE crm_director;
INSERT INTO crm_data.member (role_name, full_name, hired_at) VALUES ('odds_new', 'Odds New', current_date);
SELECT pg_temp.deal(358) AS deal \gset
SET LOCAL ROLE odds_new;
SELECT dimension, value, points IS NOT NULL AS counts FROM crm.win_explain(:deal, '2016-01-01 00:00+00') ORDER BY dimension;
RESET ROLE;
SELECT count(value) > 3 AS told FROM crm.win_explain(:deal, '2016-01-01 00:00+00');
SELECT p, status, factors FROM crm.win_probability(pg_temp.deal(0), '2016-01-01 00:00+00');
SELECT p, status FROM crm.win_probability(pg_temp.deal(0), '2014-01-01 00:00+00');
-- what if
SELECT p < was AS lower, status FROM crm.win_whatif(pg_temp.deal(358), '{"industry": "school"}');
SELECT p = was AS same FROM crm.win_whatif(pg_temp.deal(358), '{}');
-- an override counts at once, is a dimension of the explanation, is taken back
SELECT crm.odds_override('{"industry": "school"}', 0.9, 40, 'new tender law', '2100-01-01') AS override \gset
SELECT round(p::numeric, 1) AS p FROM crm.win_probability(pg_temp.deal(359));
SELECT count(*) FILTER (WHERE dimension = 'override') AS override, abs(sum(e.logit) - min(w.logit)) < 1e-12 AS adds_up
  FROM crm._win_predict(now(), ARRAY[pg_temp.deal(359)]) AS w, crm.win_explain(w.opportunity_id) AS e;
-- a deal that closes waits in the queue and is learned from once; what a lost deal teaches lowers its like, the override with it
SELECT (options #>> ARRAY['overrides', :'override', 'mu'])::float8 AS mu, (SELECT p FROM crm.win_probability(pg_temp.deal(357))) AS p FROM crm_data.model WHERE name = 'win' AND status = 'champion' \gset before_
UPDATE crm_data.opportunity SET stage_id = (SELECT s.id FROM crm_data.stage AS s WHERE s.pipeline_id = opportunity.pipeline_id AND s.code = 'lost'), outcome = 'lost', closed_at = now()
 WHERE id IN (pg_temp.deal(359), pg_temp.deal(361), pg_temp.deal(363), pg_temp.deal(365));
SELECT count(*) AS rows, count(DISTINCT record_id) AS deals, round(sum(weight * weight)::numeric, 6) AS weight, min(outcome) AS outcome FROM crm_data.model_event WHERE name = 'win' AND applied_at IS NULL;
INSERT INTO crm_data.model_event (name, object, record_id, dims, outcome, at) VALUES ('win', 'opportunity', 1, '{of,another,configuration}', 1, now());
SELECT crm.odds_apply() > 0 AS taken, crm.odds_apply() AS taken_again;
SELECT p < :before_p AS lower FROM crm.win_probability(pg_temp.deal(357));
SELECT crm.odds_override_revoke(:override) AS revoked, crm.odds_override_revoke(:override) AS again;
SELECT round(p::numeric, 1) AS p FROM crm.win_probability(pg_temp.deal(357));
SELECT crm.odds_override('{"industry": "school"}', 0.6, 20, 'agreed', '2100-01-01', true) > 0 AS locked;
SELECT round(p::numeric, 6) AS p FROM crm.win_probability(pg_temp.deal(357));
-- what the model said of a deal before it knew is kept
SELECT count(*) AS scores, bool_and(value BETWEEN 0 AND 1 AND features ? 'stage' AND (features ->> '_outcome')::int = 0) AS sound FROM crm_data.score WHERE object = 'opportunity' AND record_id = pg_temp.deal(359);
-- quality over a span that is over: the industries are told apart
SELECT segment, deals > 100 AS deals, log_loss < 0.65 AS log_loss, auc > 0.7 AS auc, abs(observed - expected) < 0.1 AS calibrated FROM crm.odds_score('2015-07-01 00:00+00', '2016-01-01 00:00+00') WHERE segment IN ('*', 'stage=talk') ORDER BY 1;
-- a challenger without the industry is not better
SELECT is_better, challenger_loss > champion_loss AS worse FROM crm.odds_challenge('{stage,owner}', 7300);
SAVEPOINT s;
SELECT crm.odds_challenge('{horoscope}');
ROLLBACK TO s;
-- every month another is tried, and kept beside the champion, which stays
SELECT crm._try_challenger('2016-01-01 00:00+00', 7300) AS is_better;
SELECT status, dims, (metrics ->> 'challenger_loss')::float8 > 0 AS measured, params IS NULL AS answers_nothing FROM crm_data.model WHERE name = 'win' AND status = 'challenger';
SELECT count(*) AS champions FROM crm_data.model WHERE name = 'win' AND status = 'champion';
-- one call back to the champion before
SELECT version AS newest FROM crm_data.model WHERE name = 'win' AND status = 'champion' \gset
SELECT crm.odds_refit() > :newest AS refitted;
SELECT crm.model_rollback() = :newest AS back;
SELECT version = :newest AS champion FROM crm_data.model WHERE name = 'win' AND status = 'champion';
-- bad input
SAVEPOINT s;
SELECT crm.model_rollback('nothing');
ROLLBACK TO s;
SELECT crm.odds_score('2016-01-01', '2015-01-01');
ROLLBACK TO s;
SELECT crm.odds_refit('infinity');
ROLLBACK TO s;
SELECT crm.odds_override('{"colour": "red"}', 0.5, 20, 'x', '2100-01-01');
ROLLBACK TO s;
SELECT crm.odds_override('{"industry": "steel"}', 0.5, 500, 'x', '2100-01-01');
ROLLBACK TO s;
SELECT crm.odds_override('{"industry": "steel"}', 0.5);
ROLLBACK TO s;
SELECT crm.win_whatif(pg_temp.deal(358), '{"colour": "red"}');
ROLLBACK TO s;
SELECT crm.win_whatif(pg_temp.deal(358), '{"amount": -1}');
ROLLBACK TO s;
SELECT crm.win_probability(-1);
ROLLBACK TO s;
UPDATE crm_data.config SET body = jsonb_set(body, '{dims}', '["stage", "horoscope"]') WHERE kind = 'odds' AND key = 'win';
SELECT crm.odds_refit('2016-01-01 00:00+00');
ROLLBACK TO s;
-- a person who may not read the deal learns nothing of it
SELECT pg_temp.deal(358) AS deal \gset
SET LOCAL ROLE crm_sales;
SELECT crm.win_probability(:deal);
ROLLBACK TO s;
ROLLBACK;
