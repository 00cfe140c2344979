#!/usr/bin/env bash
# The same rows give the same clusters in whatever order they were loaded, given one trained state: three real files of one set (people and
# organisations with hard cases), in all six orders, with and without parallel workers. The set is that of CRM_DATA (default ../shared, holds
# data/match/senzing); without it the test is skipped.
set -euo pipefail
dir=${CRM_DATA:-../shared}/data/match/senzing
[ -f "$dir/customers.csv" ] || { echo "there are no files in $dir"; exit 77; }
db=crm_match_staged_$$
export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"
psql=(psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$db")
"${psql[@]}" -d postgres -c "CREATE DATABASE $db ENCODING 'UTF8' TEMPLATE template0"
trap '"${psql[@]}" -d postgres -c "DROP DATABASE $db WITH (FORCE)"' EXIT
"${psql[@]}" -c 'CREATE EXTENSION crm' -c 'CALL crm.migrate()' > /dev/null
for f in customers reference watchlist; do
    "${psql[@]}" -c "CREATE TABLE $f ($(head -1 "$dir/$f.csv" | tr -d '\r' | tr 'A-Z' 'a-z' | sed 's/,/ text, /g; s/$/ text/'))"
    "${psql[@]}" -c "\\copy $f FROM '$dir/$f.csv' CSV HEADER"
    # one shape for all: a column that a file lacks is null
    "${psql[@]}" -c "CREATE VIEW ${f}_rows AS
        SELECT j->>'data_source' || '-' || (j->>'record_id') AS id, j->>'primary_name_org' AS org, concat_ws(' ', j->>'primary_name_full', j->>'primary_name_first', j->>'primary_name_middle', j->>'primary_name_last') AS person,
               j->>'date_of_birth' AS born, concat_ws(' ', j->>'addr_full', j->>'addr_line1', j->>'addr_city', j->>'addr_state', j->>'addr_postal_code') AS address, j->>'phone_number' AS phone, j->>'email_address' AS email,
               coalesce(j->>'ssn_number', j->>'national_id_number', j->>'passport_number', j->>'drivers_license_number') AS number
          FROM (SELECT to_jsonb(x) AS j FROM $f AS x) AS x"
done
"${psql[@]}" -c "CREATE TABLE staged AS SELECT * FROM customers_rows LIMIT 0" \
    -c "SELECT crm.match_define('staged', 'staged', 'id', '{\"org\": \"company\", \"person\": \"person_name\", \"born\": \"date\", \"address\": \"address\", \"phone\": \"phone\", \"email\": \"email\", \"number\": \"national_id\"}')" \
    -c "INSERT INTO staged SELECT DISTINCT ON (id) * FROM (SELECT * FROM customers_rows UNION ALL SELECT * FROM reference_rows UNION ALL SELECT * FROM watchlist_rows) AS x ORDER BY id" \
    -c "SELECT crm.match_train('staged') IS NOT NULL" > /dev/null
rows=$("${psql[@]}" -c "SELECT count(*) FROM staged")
first=
failed=0
for order in "customers reference watchlist" "customers watchlist reference" "reference customers watchlist" "reference watchlist customers" "watchlist customers reference" "watchlist reference customers"; do
    "${psql[@]}" -c "TRUNCATE staged"
    for f in $order; do
        "${psql[@]}" -c "INSERT INTO staged SELECT DISTINCT ON (id) * FROM ${f}_rows AS r WHERE NOT EXISTS (SELECT FROM staged AS s WHERE s.id = r.id) ORDER BY id, md5(r::text)"
        # a clustering between the loads leaves nothing behind
        "${psql[@]}" -c "SELECT count(*) FROM crm.match_clusters('staged')" > /dev/null
    done
    for workers in 0 2; do
        found=$("${psql[@]}" -c "SET max_parallel_workers_per_gather = $workers; SET min_parallel_table_scan_size = 0; SELECT count(DISTINCT cluster) || ' ' || md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) FROM crm.match_clusters('staged')")
        [ -n "$first" ] || first=$found
        if [ "$found" = "$first" ]; then
            echo "ok - $rows rows loaded as $order, $workers workers: ${found%% *} clusters, the same"
        else
            echo "not ok - $rows rows loaded as $order, $workers workers: ${found%% *} clusters, others"
            failed=1
        fi
    done
done
exit $failed
