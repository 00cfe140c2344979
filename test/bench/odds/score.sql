-- Log loss, Brier score, AUC, expected calibration error (20 bins) of :scored, a query of (p, won).
WITH s AS (SELECT least(greatest(x.p, 1e-9), 1 - 1e-9) AS p, x.won AS y FROM (:scored) AS x(p, won)),
     k AS (SELECT p, y, rank() OVER (ORDER BY p) + (count(*) OVER (PARTITION BY p) - 1) / 2.0 AS r, least(floor(p * 20), 19) AS bin FROM s)
SELECT round(avg(-ln(CASE WHEN y = 1 THEN p ELSE 1 - p END))::numeric, 4),
       round(avg((y - p) ^ 2)::numeric, 4),
       round(((sum(r) FILTER (WHERE y = 1) - sum(y) * (sum(y) + 1) / 2.0) / nullif(sum(y) * (count(*) - sum(y)), 0))::numeric, 4),
       round(((SELECT sum(abs(g)) FROM (SELECT sum(y - p) AS g FROM k GROUP BY bin) AS b) / count(*))::numeric, 4)
  FROM k;
