-- Times of fit, predict and update on generated cases: figure, seconds or microseconds, bar.
CREATE TABLE gen AS
SELECT i::bigint AS i, ARRAY['s' || i % 6, 'i' || i * 7 % 23, 'c' || i * 13 % 5, 'p' || i * 17 % 11, 'o' || i * 31 % 60, 'a' || i * 37 % 9, 'h' || i * 41 % 7, 'q' || i * 43 % 4] AS dims,
       (i::bigint * 7919 % 101 < 20 + 10 * (i % 6))::int AS won
  FROM generate_series(1::bigint, 1000000) AS i;
CREATE FUNCTION seconds(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    EXECUTE query;
    RETURN extract(epoch FROM clock_timestamp() - began);
END
$$;
CREATE TABLE fitted (m crm.lattice);
SELECT 'order 2 fit of 50,000 rows x 36 blocks, seconds', round(seconds('INSERT INTO fitted SELECT crm.lattice_fit(dims, won, 1) FROM gen WHERE i <= 50000')::numeric, 2), 3;
SELECT 'predict through SQL, microseconds a call of 100,000',
       round((seconds('SELECT count(p.p) FROM fitted, gen, crm.lattice_predict(m, dims) AS p WHERE i <= 100000') * 10)::numeric, 2), 20;
SELECT 'learn through SQL, microseconds a row of 100,000',
       round((seconds('SELECT crm.lattice_learn(m, dims, won, 1 ORDER BY i) FROM fitted, gen WHERE i <= 100000') * 10)::numeric, 2), 20;
SELECT 'fit of 1,000,000 rows, seconds', round(seconds('SELECT crm.lattice_fit(dims, won, 1) FROM gen')::numeric, 1), 60;
