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
-- a chain of single updates, and single predictions, as a function in PL/pgSQL calls them; the model is stored in a table
CREATE FUNCTION chain(n int) RETURNS crm.lattice LANGUAGE plpgsql AS $$
DECLARE
    model crm.lattice;
    one record;
BEGIN
    SELECT m INTO model FROM fitted;
    FOR one IN SELECT dims, won FROM gen WHERE i <= n ORDER BY i LOOP
        model := crm.lattice_update(model, one.dims, one.won, 1);
    END LOOP;
    RETURN model;
END
$$;
CREATE FUNCTION ask(n int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    model crm.lattice;
    one record;
    said float8;
    total float8 := 0;
BEGIN
    SELECT m INTO model FROM fitted;
    FOR one IN SELECT dims FROM gen WHERE i <= n LOOP
        SELECT p INTO said FROM crm.lattice_predict(model, one.dims);
        total := total + said;
    END LOOP;
    RETURN total;
END
$$;
SELECT 'bytes of that model', octet_length(m::bytea), '-' FROM fitted;
SELECT 'update one at a time, PL/pgSQL, microseconds a call of 100,000', round((seconds('SELECT chain(100000)') * 10)::numeric, 2), 20;
SELECT 'update one at a time, of a stored model, microseconds a call of 100,000',
       round((seconds('SELECT count(crm.lattice_update(m, dims, won, 1)) FROM fitted, gen WHERE i <= 100000') * 10)::numeric, 2), 20;
SELECT 'predict one at a time, PL/pgSQL, microseconds a call of 100,000', round((seconds('SELECT ask(100000)') * 10)::numeric, 2), 20;
SELECT 'fit of 1,000,000 rows with a million distinct values, seconds', round(seconds('SELECT crm.lattice_fit(ARRAY[''v'' || i, dims[1]], won, 1) FROM gen')::numeric, 1), 60;
