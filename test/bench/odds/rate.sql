-- The rival of every static table: the rate of each value of one column, learned again at every block's start from the rows labelled before.
DROP TABLE IF EXISTS prediction;
CREATE TABLE prediction AS
WITH start AS (SELECT block, min(entered) AS at FROM deal WHERE block > 0 GROUP BY block),
     known AS (SELECT s.block, d.:"rate_column" AS v, sum(d.won) AS won, count(*) AS n FROM start AS s JOIN deal AS d ON d.labelled < s.at GROUP BY 1, 2),
     whole AS (SELECT block, sum(won) AS won, sum(n) AS n FROM known GROUP BY block)
SELECT coalesce((k.won + 0.5) / (k.n + 1.0), (w.won + 0.5) / (w.n + 1.0))::float8 AS p, d.won
  FROM deal AS d JOIN whole AS w USING (block) LEFT JOIN known AS k ON k.block = d.block AND k.v IS NOT DISTINCT FROM d.:"rate_column"
 WHERE d.block > 0;
