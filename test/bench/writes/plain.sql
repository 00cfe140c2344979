\set id random(1, :customers)
\set v random(1, 1000000)
UPDATE bench.plain SET city = 'v' || :v, n = n + 1 WHERE id = :id;
