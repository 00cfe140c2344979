#!/usr/bin/env bash
# The demo: a company in the private server's database "crm", and what the engine makes of it, as tables for people.
#
#   demo.sh            a generated company (2,000 customers; ACCOUNTS=n for another number, SEED=n for another company)
#   demo.sh DIRECTORY  the CSV files of a directory, through the import path
#
# The database "crm" is made anew each time; other databases of the private server are left alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
data=${1:-}
die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
began=$SECONDS
step() { printf '\n==> %s\n' "$*"; }

# what can be wrong is said before anything is installed or made
if [ -n "$data" ]; then
    [ -d "$data" ] || die "there is no directory $data" "Give a directory with CSV files: make demo DATA=path."
    ls "$data"/*.csv > /dev/null 2>&1 || die "there is no CSV file in $data" "Files must end in .csv; their headings tell what they hold."
fi
case ${ACCOUNTS:=2000}${SEED:=1} in *[!0-9]*) die "ACCOUNTS and SEED must be whole numbers" "For example: ACCOUNTS=5000 SEED=7 make demo." ;; esac

bash test/tools/server.sh start
. .pg/env
sql() { PGOPTIONS='-c client_min_messages=warning' psql -qX -v ON_ERROR_STOP=1 "$@"; }

step "a fresh database: CREATE EXTENSION crm; CALL crm.migrate();"
# pg_cron does not come back by itself to a database that was dropped under it
if [ "$(sql -d postgres -At -c "SELECT count(*) FROM pg_database WHERE datname = 'crm'")" = 1 ]; then
    sql -d postgres -c 'DROP DATABASE crm WITH (FORCE)'
    bash test/tools/server.sh stop > /dev/null
    bash test/tools/server.sh start > /dev/null
    . .pg/env
fi
sql -d postgres -c 'CREATE DATABASE crm'
sql -c 'CREATE EXTENSION crm'
psql -qX -v ON_ERROR_STOP=1 -c 'CALL crm.migrate()' 2>&1 | tail -n 1 | sed 's/^NOTICE:  /    /'

if [ -n "$data" ]; then
    step "loading $data: each file is rehearsed first, then applied"
    name=$(basename "$(cd "$data" && pwd)")
    about=test/tools/demo_sources/$name.sql
    options='{}'
    if [ -f "$about" ]; then
        sql -f "$about" > /dev/null
        options=$(sed -n 's/^-- options: //p' "$about")
    fi
    bash test/tools/load_csv.sh --source "$name" --options "$options" "$data" 2>&1 | sed 's/^psql:[^ ]*: NOTICE:  /    /'
else
    step "a company of its own: SELECT * FROM crm.demo_data($ACCOUNTS, $SEED);"
    sql -At -c "SELECT string_agg(to_char(row_count, 'FM999,999,999') || ' ' || object, ', ') FROM crm.demo_data($ACCOUNTS, $SEED) WHERE row_count > 0" | fold -s -w 110 | sed 's/^/    /'
fi
sql -f test/tools/demo_setup.sql > /dev/null

sql -v brief="$(readlink -f .pg)/monday-brief.html" -f test/tools/demo.sql

printf '\n%s s. The server keeps running (make stop ends it). Look around with:\n\n    make psql\n\n' $((SECONDS - began))
