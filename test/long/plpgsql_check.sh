#!/usr/bin/env bash
# Every PL/pgSQL function of the schema through plpgsql_check, trigger functions with each table they hang on. CREATE FUNCTION finds no wrong
# column or function name in a body; this does.
set -eu
if ! psql -XAtq -d postgres -c "SELECT 1 FROM pg_available_extensions WHERE name = 'plpgsql_check'" | grep -q 1; then
    echo "plpgsql_check is not available for this server"
    exit 77
fi
db=crm_plpgsql_check
psql -Xq -d postgres -c "DROP DATABASE IF EXISTS $db" -c "CREATE DATABASE $db" 2> /dev/null
trap 'psql -Xq -d postgres -c "DROP DATABASE $db WITH (FORCE)"' EXIT
psql -Xq -v ON_ERROR_STOP=1 -d "$db" -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION crm' -c 'CALL crm.migrate()' -c 'CREATE EXTENSION plpgsql_check'
found=$(psql -XAtq -v ON_ERROR_STOP=1 -d "$db" <<'SQL'
SET search_path = pg_catalog, pg_temp, public;
-- What it cannot know is left out: temporary tables that a function makes itself; pg_cron, which is optional; and, one by one, the shape of a record
-- before it is assigned, and fields that a trigger function of several tables has for one of them only and asks for there only. One that is
-- not found any more must go from this list.
WITH known (place, message) AS (VALUES
    ('crm._discount_held() on crm_data.opportunity', 'record "new" has no field "opportunity_id"'),
    ('crm._match_guess(regclass,name)', 'record "part" is not assigned yet'),
    ('crm.match_index(text)', 'record "batch" is not assigned yet'),
    ('crm.scan_duplicates(text,timestamp with time zone)', 'record "f" is not assigned yet')
), found AS (
    SELECT pg_catalog.concat(f.oid::regprocedure, CASE WHEN f.relid <> 0 THEN ' on ' || f.relid::regclass::text END) AS place, m.lineno, m.sqlstate, m.message
      FROM (SELECT p.oid, coalesce(t.tgrelid, 0::oid) AS relid, max(t.tgoldtable) AS old_table, max(t.tgnewtable) AS new_table
              FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
                   LEFT JOIN pg_trigger AS t ON t.tgfoid = p.oid AND NOT t.tgisinternal AND t.tgparentid = 0
             WHERE p.pronamespace IN ('crm'::regnamespace, 'crm_data'::regnamespace)
               AND (t.tgrelid IS NOT NULL OR p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype))
             GROUP BY p.oid, t.tgrelid) AS f
           CROSS JOIN LATERAL public.plpgsql_check_function_tb(f.oid, f.relid, oldtable => f.old_table, newtable => f.new_table,
               fatal_errors => false, other_warnings => false, extra_warnings => false, performance_warnings => false) AS m
     WHERE m.level = 'error' AND m.message !~ '"pg_temp[".]' AND m.message !~ '^(schema "cron"|relation "cron\.)'
)
SELECT x.text
  FROM (SELECT pg_catalog.format('%s line %s: %s %s', f.place, f.lineno, f.sqlstate, f.message) AS text FROM found AS f
         WHERE NOT EXISTS (SELECT FROM known AS k WHERE (k.place, k.message) = (f.place, f.message))
        UNION ALL
        SELECT pg_catalog.format('%s: not found any more: %s', k.place, k.message) FROM known AS k
         WHERE NOT EXISTS (SELECT FROM found AS f WHERE (k.place, k.message) = (f.place, f.message))) AS x
 ORDER BY 1;
SQL
)
checked=$(psql -XAtq -d "$db" -c "SELECT count(*) FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang AND l.lanname = 'plpgsql' WHERE p.pronamespace IN ('crm'::regnamespace, 'crm_data'::regnamespace)")
if [ -n "$found" ]; then
    printf '%s\n' "$found"
    echo "not ok - plpgsql_check of $checked functions"
    exit 1
fi
echo "ok - plpgsql_check of $checked functions"
