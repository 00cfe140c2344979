\set id random(1, :customers)
\set v random(1, 1000000)
BEGIN;
SELECT row_version FROM bench.plain WHERE id = :id \gset
SELECT bench.optimistic(:id, :row_version::int, 'v' || :v);
COMMIT;
