-- Naive Bayes with Odoo's choices: counts of won and lost by value with 0.1 added to each, the prior of all cases, bounds of 1 and 99 percent; learned
-- again at every block's start from the rows labelled before.
DROP TABLE IF EXISTS prediction;
CREATE TABLE prediction AS
WITH start AS (SELECT block, min(entered) AS at FROM deal WHERE block > 0 GROUP BY block),
     known_from AS (SELECT d.id, min(s.block) AS block FROM deal AS d JOIN start AS s ON d.labelled < s.at GROUP BY d.id),
     long AS (SELECT d.id, d.won, d.block AS at_block, k.block AS known_block, e.key AS dim, e.value AS v
                FROM deal AS d LEFT JOIN known_from AS k USING (id), jsonb_each_text(to_jsonb(d)) AS e
               WHERE e.key = ANY (string_to_array(:'dims', ','))),
     fresh AS (SELECT dim, v, known_block AS block, sum(won) AS won, sum(1 - won) AS lost FROM long WHERE known_block IS NOT NULL GROUP BY 1, 2, 3),
     counted AS (SELECT x.dim, x.v, s.block, sum(f.won) AS won, sum(f.lost) AS lost
                   FROM (SELECT DISTINCT dim, v FROM fresh) AS x CROSS JOIN start AS s
                   JOIN fresh AS f ON f.dim = x.dim AND f.v = x.v AND f.block <= s.block GROUP BY 1, 2, 3),
     whole AS (SELECT s.block, sum(d.won) AS won, sum(1 - d.won) AS lost FROM start AS s JOIN deal AS d ON d.labelled < s.at GROUP BY 1),
     odds AS (SELECT l.id, l.won, ln(w.won::float8 / w.lost) + sum(coalesce(ln((c.won + 0.1) / (w.won + 0.1)) - ln((c.lost + 0.1) / (w.lost + 0.1)), 0)) AS logit
                FROM long AS l JOIN whole AS w ON w.block = l.at_block LEFT JOIN counted AS c ON c.dim = l.dim AND c.v = l.v AND c.block = l.at_block
               WHERE l.at_block > 0 GROUP BY l.id, l.won, w.won, w.lost)
SELECT least(greatest(1 / (1 + exp(-greatest(least(logit, 500), -500))), 0.01), 0.99)::float8 AS p, won FROM odds;
