\set id random(1, :customers)
\set v random(1, 1000000)
UPDATE bench.h_log SET amount = :v, c12 = 'value ' || :v, c24 = 'note ' || :v, row_version = row_version + 1 WHERE id = :id;
