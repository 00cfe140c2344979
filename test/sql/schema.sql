-- The tables as the catalog sees them: every query lists offenders, so every result is empty.
-- tables and columns without a comment (a partition has its parent's)
SELECT c.oid::regclass AS "table", a.attname AS "column"
FROM pg_class AS c
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)
ORDER BY c.relname, a.attnum;
-- tables without a primary key; a change is named by what it changed
SELECT c.oid::regclass AS "table"
FROM pg_class AS c
WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname !~ '^change(_default|_\d{4}_\d{2})?$'
    AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
ORDER BY c.relname;
-- foreign keys without an index that leads with their column; a partial index may leave out NULL only
SELECT f.conrelid::regclass AS "table", f.conname
FROM pg_constraint AS f
JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1]
WHERE f.contype = 'f' AND f.connamespace = 'crm_data'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_index AS i
                    WHERE i.indrelid = f.conrelid AND i.indkey[0] = f.conkey[1]
                        AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname)))
ORDER BY f.conrelid::regclass::text, f.conname;
-- nothing refers to the partitioned tables
SELECT conname FROM pg_constraint
WHERE contype = 'f' AND confrelid IN ('crm_data.change'::regclass, 'crm_data.event'::regclass);
-- types that do not travel: reg* other than regclass, char(n), bit(n), and anything the extension owns
SELECT c.oid::regclass AS "table", a.attname AS "column", a.atttypid::regtype AS type
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p')
    AND (t.typname ~ '^_?reg' AND t.typname !~ '^_?reg(class|type|role)$'
         OR t.typname IN ('bpchar', 'bit', 'money', 'timestamp', 'json')
         OR t.typnamespace <> 'pg_catalog'::regnamespace)
ORDER BY c.relname, a.attnum;
-- tables, defaults, generated columns and checks that would fall with the extension
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS falls
FROM pg_depend AS d
JOIN pg_depend AS m ON m.classid = d.refclassid AND m.objid = d.refobjid AND m.deptype = 'e'
JOIN pg_extension AS e ON e.oid = m.refobjid AND e.extname = 'crm'
LEFT JOIN pg_attrdef AS ad ON d.classid = 'pg_attrdef'::regclass AND ad.oid = d.objid
LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
JOIN pg_class AS c ON c.oid IN (ad.adrelid, k.conrelid) OR d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY 1;
-- money is numeric(18,2) beside a currency that is checked
SELECT a.attrelid::regclass AS "table", a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid AND c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p')
WHERE a.attnum > 0 AND NOT a.attisdropped
    AND (a.attname ~ '(^|_)(amount|price|budget|cost|revenue)(_|$)' AND format_type(a.atttypid, a.atttypmod) <> 'numeric(18,2)'
         OR a.attname IN ('currency', 'base_currency')
            AND NOT EXISTS (SELECT FROM pg_constraint AS k
                            WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]
                                AND pg_get_constraintdef(k.oid) LIKE '%^[A-Z]{3}$%'))
ORDER BY 1, 2;
-- bookkeeping: created_at and created_by everywhere but in the tables with a row for every record or change; versions come with all their columns
SELECT c.relname
FROM pg_class AS c
CROSS JOIN LATERAL (SELECT array_agg(a.attname::text) AS cols FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0) AS l
WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND (NOT cols @> ARRAY['created_at', 'created_by'] AND c.relname NOT IN ('match_record', 'match_key', 'change', 'operation', 'import_row', 'import_line', 'client_count', 'schema_version')
         OR cols && ARRAY['row_version', 'field_version', 'last_hash', 'last_at']
            AND NOT cols @> ARRAY['row_version', 'field_version', 'last_hash', 'last_at', 'updated_at', 'updated_by']
         OR cols && ARRAY['owner_id', 'grade'] AND NOT cols @> ARRAY['owner_id', 'team_id', 'grade'])
ORDER BY 1;
-- every column of an object people see is in the registry of fields under the number its place gives, and nothing else is
SELECT coalesce(f.object, c.relname) AS object, coalesce(f.name, a.attname) AS name, f.id
FROM (SELECT * FROM crm_data.field WHERE NOT custom) AS f
FULL JOIN (pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND c.relnamespace = 'crm_data'::regnamespace AND c.relname IN (SELECT object FROM crm_data.field))
    ON c.relname = f.object AND a.attname = f.name
WHERE f.id IS NULL OR a.attnum IS NULL
    -- deleted_at stands early in the row, because every policy reads it, and last in the view
    OR f.id % 1000 <> (SELECT count(*) FROM pg_attribute AS b WHERE b.attrelid = a.attrelid AND b.attnum > 0 AND (b.attname = 'deleted_at', b.attnum) <= (a.attname = 'deleted_at', a.attnum))
    OR f.type <> format_type(a.atttypid, a.atttypmod) OR f.purpose <> col_description(a.attrelid, a.attnum)
    OR NOT f.label ?& ARRAY['en', 'zh']
ORDER BY 1, 2;
SELECT min(id / 1000) AS first_object, max(id / 1000) AS last_object, count(DISTINCT id / 1000) AS objects, count(DISTINCT object) AS names FROM crm_data.field WHERE NOT custom;
-- all tables belong to crm_owner
SELECT c.relname, c.relowner::regrole FROM pg_class AS c
WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND c.relowner <> 'crm_owner'::regrole ORDER BY 1;
-- constraints that carry meaning
\set VERBOSITY terse
BEGIN;
INSERT INTO crm_data.account (name, currency) VALUES ('Lowercase Ltd', 'cny');
ROLLBACK;
INSERT INTO crm_data.account (name, legal_id4) VALUES ('Too much', '12345');
INSERT INTO crm_data.forecast (kind, period, amount, as_of, reason_code) VALUES ('adjusted', '[2026-01-01,2026-02-01)', 1, '2026-01-01', 'award');
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver) VALUES ('flag', 'schema-test', 1, '{}', 'active', 'a', 'a');
INSERT INTO crm_data.task (kind, object, record_id, title, state, done_at) VALUES ('stage_action', 'opportunity', 1, 't', 'waived', now());
INSERT INTO crm_data.interaction (kind) VALUES ('call');
-- the stated probability wins over the model's
BEGIN;
INSERT INTO crm_data.pipeline (code, name) VALUES ('schema-test', 'Test');
INSERT INTO crm_data.stage (pipeline_id, seq, code, name, default_probability) SELECT id, 1, 'one', 'One', 0.5 FROM crm_data.pipeline WHERE code = 'schema-test';
INSERT INTO crm_data.account (code, name) VALUES ('schema-test', 'Test');
INSERT INTO crm_data.opportunity (account_id, name, pipeline_id, stage_id, probability_auto, probability_manual)
SELECT a.id, v.name, s.pipeline_id, s.id, 0.25, v.manual
FROM crm_data.account AS a, crm_data.stage AS s, (VALUES ('x', NULL::float8), ('y', 0.75)) AS v (name, manual)
WHERE a.code = 'schema-test' AND s.code = 'one' AND s.pipeline_id = (SELECT id FROM crm_data.pipeline WHERE code = 'schema-test');
SELECT name, probability FROM crm_data.opportunity WHERE account_id = (SELECT id FROM crm_data.account WHERE code = 'schema-test') ORDER BY name;
ROLLBACK;

-- no index of what IS NULL and nothing else: before the first ANALYZE the planner takes it for nearly empty and walks it for every row
SELECT i.indexrelid::regclass
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indrelid
 WHERE c.relnamespace = 'crm_data'::regnamespace AND pg_get_expr(i.indpred, i.indrelid) ~ '^\(*\w+ IS NULL\)*( AND \(\w+ IS NULL\))+\)?$'
 ORDER BY 1;
