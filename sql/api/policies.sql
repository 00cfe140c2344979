-- Row security of every table: people's rules for the role of the views, everything for the engine. Never for PUBLIC: then
-- pg_read_all_data would see rows.

CREATE OR REPLACE FUNCTION crm._secure_table(target regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    root regclass := coalesce(pg_partition_root(target), target);
    object text := (SELECT c.relname FROM pg_class AS c WHERE c.oid = root);
    has text[] := ARRAY(SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped);
    guarded boolean := EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = (SELECT c.relname FROM pg_class AS c WHERE c.oid = root));
    person text;
    alive text := '';
    verb text;
    old name;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', target);
    FOR old IN SELECT p.polname FROM pg_policy AS p WHERE p.polrelid = target AND p.polname IN ('engine', 'people_read', 'people_create', 'people_update', 'people_delete') LOOP
        EXECUTE format('DROP POLICY %I ON %s', old, target);
    END LOOP;
    EXECUTE format('CREATE POLICY engine ON %s TO crm_owner USING (true) WITH CHECK (true)', target);
    EXECUTE format('COMMENT ON POLICY engine ON %s IS %L', target, 'The engine reads and writes every row.');
    IF object = 'secret' THEN
        RETURN;
    END IF;

    -- A table without owners is reference data: whoever may read it reads all of it.
    person := concat_ws(', ', CASE WHEN object = 'member' THEN 'id' WHEN 'owner_id' = ANY (has) THEN 'owner_id' ELSE 'NULL::bigint' END,
                        CASE WHEN 'team_id' = ANY (has) THEN 'team_id' ELSE 'NULL::bigint' END,
                        CASE WHEN 'grade' = ANY (has) THEN 'grade' ELSE 'NULL::smallint' END);
    IF 'deleted_at' = ANY (has) THEN
        alive := 'deleted_at IS NULL AND ';
    END IF;
    EXECUTE format('CREATE POLICY people_read ON %s FOR SELECT TO crm_gate USING (%scrm.row_visible(%L, %L, %s))', target, alive, object,
                   CASE WHEN guarded AND NOT 'owner_id' = ANY (has) THEN 'look' ELSE 'read' END, person);
    EXECUTE format('COMMENT ON POLICY people_read ON %s IS %L', target, 'Rows that the current person may see.');
    EXECUTE format('CREATE POLICY people_create ON %s FOR INSERT TO crm_gate WITH CHECK (crm.row_visible(%L, ''create'', %s))', target, object, person);
    EXECUTE format('COMMENT ON POLICY people_create ON %s IS %L', target, 'Rows that the current person may add.');
    FOREACH verb IN ARRAY ARRAY['update', 'delete'] LOOP
        EXECUTE format('CREATE POLICY people_%1$s ON %2$s FOR %3$s TO crm_gate USING (crm.row_visible(%4$L, %1$L, %5$s))', verb, target, upper(verb), object, person);
        EXECUTE format('COMMENT ON POLICY people_%1$s ON %2$s IS %3$L', verb, target, format('Rows that the current person may %s, before and after.', verb));
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._secure_table(regclass) IS
'Puts row security and its policies on a table of schema crm_data or on one of its partitions, which do not inherit them: whoever makes a partition calls this. Run as crm_owner. Internal.
target: the table or partition.';

SELECT crm._secure_table(c.oid::regclass)
  FROM pg_class AS c
 WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p')
 ORDER BY c.relname COLLATE "C";

-- The views' role: reads all but the secrets, writes what has a view, column by column. Whoever may write to a view may LOCK it, and with it the
-- table, if the views' owner has a right to change the table as a whole: so it has none, and nothing is deleted through a view.
DO $do$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT c.oid::regclass AS name, EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = c.relname) AS has_view,
               (SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                   AND EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = c.relname AND f.name = a.attname AND NOT f.custom)) AS columns
          FROM pg_class AS c
         WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'secret'
         ORDER BY c.relname COLLATE "C"
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %s FROM crm_gate', target.name);
        EXECUTE format('GRANT SELECT ON %s TO crm_gate', target.name);
        IF target.has_view THEN
            EXECUTE format('GRANT INSERT (%1$s), UPDATE (%1$s) ON %2$s TO crm_gate', target.columns, target.name);
        END IF;
    END LOOP;
END
$do$;

CREATE OR REPLACE FUNCTION crm._view_statements() RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH object AS (
        SELECT f.object, min(f.id) AS first_id, format('crm_data.%I', f.object)::regclass AS base, format('crm.%I', f.object) AS view,
               CASE WHEN f.object = 'member' THEN 't.id' WHEN bool_or(f.name = 'owner_id') THEN 't.owner_id' ELSE 'NULL::bigint' END
               || ', ' || CASE WHEN bool_or(f.name = 'team_id') THEN 't.team_id' ELSE 'NULL::bigint' END AS person
          FROM crm_data.field AS f WHERE NOT f.custom GROUP BY f.object
    ), col AS (
        SELECT o.object, o.first_id, o.base, o.view, f.id, f.name, col_description(o.base, a.attnum) AS comment,
               CASE WHEN f.guarded OR f.class = 'engine'
                    THEN format('crm.guard(t.%I, %s, %s)', f.name, f.id, o.person)
                         || CASE WHEN a.atttypmod <> -1 THEN '::' || format_type(a.atttypid, a.atttypmod) ELSE '' END
                         || format(' AS %I', f.name)
                    ELSE format('t.%I', f.name) END AS expression
          FROM object AS o JOIN crm_data.field AS f ON f.object = o.object AND NOT f.custom
               JOIN pg_attribute AS a ON a.attrelid = o.base AND a.attname = f.name AND a.attnum > 0 AND NOT a.attisdropped
    )
    SELECT x.statement
      FROM (SELECT c.first_id, 0 AS id, format(E'CREATE OR REPLACE VIEW %s AS\n SELECT %s\n   FROM %s AS t', c.view, string_agg(c.expression, E',\n        ' ORDER BY c.id), c.base) AS statement
              FROM col AS c GROUP BY c.first_id, c.view, c.base
            UNION ALL
            SELECT o.first_id, 1, format('COMMENT ON VIEW %s IS %L', o.view, obj_description(o.base, 'pg_class')) FROM object AS o
            UNION ALL
            SELECT o.first_id, 2, format('CREATE OR REPLACE TRIGGER write INSTEAD OF INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION crm._write_view(%L)', o.view, o.object) FROM object AS o
            UNION ALL
            SELECT o.first_id, 3, format('COMMENT ON TRIGGER write ON %s IS %L', o.view, 'Writes what the person changed and may change.') FROM object AS o
            UNION ALL
            -- the rows of an update through the view are one statement each for the table: their duplicates are looked for together
            SELECT o.first_id, 4, format('CREATE OR REPLACE TRIGGER match_update AFTER UPDATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION crm._match_on_update(%L)', o.view, o.object)
              FROM object AS o WHERE o.object IN ('account', 'contact', 'lead')
            UNION ALL
            SELECT o.first_id, 5, format('COMMENT ON TRIGGER match_update ON %s IS %L', o.view, 'Looks again for duplicates of what the statement changed.')
              FROM object AS o WHERE o.object IN ('account', 'contact', 'lead')
            UNION ALL
            SELECT c.first_id, c.id, format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.name, c.comment) FROM col AS c) AS x
     ORDER BY x.first_id, x.id
$$;
COMMENT ON FUNCTION crm._view_statements() IS
'The statements that make the views, from the registry of fields and the catalog: the one place that says what a view looks like. Columns stand in the order of their numbers, so that new ones come last. Internal.';
GRANT EXECUTE ON FUNCTION crm._view_statements() TO crm_gate;
