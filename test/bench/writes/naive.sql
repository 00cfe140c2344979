\set id random(1, :customers)
\set v random(1, 1000000)
SELECT n FROM bench.plain WHERE id = :id \gset
UPDATE bench.plain SET city = 'v' || :v, n = :n + 1 WHERE id = :id;
