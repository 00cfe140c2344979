\set id random(1, :customers)
\set v random(1, 1000000)
UPDATE bench.h_version SET amount = :v, c12 = 'value ' || :v, c24 = 'note ' || :v WHERE id = :id;
