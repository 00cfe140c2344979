#!/bin/sh
# Writes the extension script: the engine's SQL faces as they are, then every migration and re-runnable file as a
# row of crm.migration. Bodies travel as base64: they hold Chinese, which a database of another encoding could not even read,
# and so CREATE EXTENSION would fail there with a conversion error before our own check could say what to do.
#
# usage: embed.sh VERSION "engine files" "schema files" "api files"
set -eu
version=$1 engine=$2 schema=$3 api=$4

printf '/* crm %s: built from sql/engine, sql/schema and sql/api; edit those */\n' "$version"
printf '%s\n' '\echo Use "CREATE EXTENSION crm" to load this file. \quit'
for file in $engine; do
    if LC_ALL=C grep -q '[^ -~	]' "$file"; then
        echo "embed.sh: $file is not plain ASCII" >&2
        exit 1
    fi
    printf '\n/* %s */\n' "$file"
    cat "$file"
done

# usage: step SEQ VERSION FILE
step()
{
    role=$(sed -n '1,20s/^-- runs as: *\([a-z_]*\).*$/\1/p' "$3" | head -n 1)
    name=$(basename "$3" .sql)
    printf "INSERT INTO crm.migration (seq, version, name, runs_as, body, checksum)\n"
    printf "SELECT %s, %s, '%s', '%s', pg_catalog.convert_from(b, 'UTF8'), pg_catalog.encode(pg_catalog.sha256(b), 'hex')\n" \
        "$1" "$2" "$name" "${role:-crm_owner}"
    printf "  FROM (SELECT pg_catalog.decode('"
    base64 -w 0 "$3"
    printf "', 'base64')) AS x(b);\n"
}

printf '\n/* migrations */\n'
seq=0
for file in $schema; do
    number=$(basename "$file" | sed 's/_.*//; s/^0*//')
    seq=$((seq + 1))
    if [ "$number" != "$seq" ]; then
        echo "embed.sh: $file should have number $seq" >&2
        exit 1
    fi
    step "$seq" "$number" "$file"
done
for file in $api; do
    seq=$((seq + 1))
    step "$seq" NULL "$file"
done

# Nothing of the engine is for everybody; sql/api/grants.sql says who may call what.
printf '\nREVOKE ALL ON ALL ROUTINES IN SCHEMA crm FROM PUBLIC;\n'
printf 'GRANT EXECUTE ON ALL ROUTINES IN SCHEMA crm TO crm_owner, crm_gate;\n'
