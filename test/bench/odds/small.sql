-- Mean log loss over twelve draws of :n deals to learn from and 4,000 to predict; beside it that of the global rate.
CREATE TABLE IF NOT EXISTS shuffled AS SELECT draw, row_number() OVER (PARTITION BY draw ORDER BY md5(draw || ':' || id)) AS at, d.* FROM deal AS d, generate_series(1, 12) AS draw;
CREATE INDEX IF NOT EXISTS shuffled_idx ON shuffled (draw, at);
DROP TABLE IF EXISTS small_result;
CREATE TABLE small_result (loss float8, rate float8);
SELECT format($$
DROP VIEW IF EXISTS small;
CREATE VIEW small AS SELECT s.at AS nr, s.won AS ended, CASE WHEN s.at <= %1$s THEN s.at ELSE 1e6 END::float8 AS began, CASE WHEN s.at <= %1$s THEN s.at ELSE 2e6 END::float8 AS closed,
       (s.at > %1$s)::int AS part, %3$s FROM shuffled AS s WHERE draw = %2$s AND s.at <= %1$s + 4000;
INSERT INTO small_result
SELECT avg(-ln(CASE WHEN s.ended = 1 THEN b.p ELSE 1 - b.p END)), avg(-ln(CASE WHEN s.ended = 1 THEN g.rate ELSE 1 - g.rate END))
  FROM crm.odds_backtest('small', 'nr', %4$L, 'ended', 'began', 'closed', 'part') AS b JOIN small AS s ON s.nr = b.id::int,
       (SELECT (sum(ended) + 0.5) / (count(*) + 1.0) AS rate FROM small WHERE part = 0) AS g;
$$, :n, draw, (SELECT string_agg(quote_ident(x), ', ') FROM unnest(string_to_array(:'dims', ',')) AS x), string_to_array(:'dims', ',')) FROM generate_series(1, 12) AS draw
\gexec
SELECT round(avg(loss)::numeric, 4), round(avg(rate)::numeric, 4) FROM small_result;
