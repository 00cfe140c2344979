#!/usr/bin/env bash
# Load CSV files through the import path: rehearse, show what would happen and the first bad rows, apply.
#
#   load_csv.sh [--source NAME] [--object OBJECT] [--mapping JSON] [--options JSON] [--encoding NAME] [--dry-run] FILE|DIRECTORY ...
#
# Without --object the header tells what a file holds; a file that holds nothing known is named and left. Of a directory all *.csv files
# are loaded, those that others refer to first. Files are UTF-8, or UTF-16 with a byte-order mark, or as --encoding says; line
# ends may be of any kind. The database is that of psql's environment (PGHOST, PGPORT, PGDATABASE ..).
set -euo pipefail

source=file object='' mapping='' options='' encoding='' apply=1
die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --source) source=${2:?}; shift 2 ;;
        --object) object=${2:?}; shift 2 ;;
        --mapping) mapping=${2:?}; shift 2 ;;
        --options) options=${2:?}; shift 2 ;;
        --encoding) encoding=${2:?}; shift 2 ;;
        --dry-run) apply=0; shift ;;
        --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
        -*) die "unknown option $1" "See load_csv.sh --help." ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || die "no file given" "See load_csv.sh --help."

# The text of a file as UTF-8 with plain line ends.
text()
{
    local from=$encoding
    if [ -z "$from" ]; then
        case $(head -c 2 "$1" | od -An -tx1 | tr -d ' ') in
            fffe | feff) from=UTF-16 ;;
            *) from=UTF-8 ;;
        esac
    fi
    iconv -f "$from" -t UTF-8 "$1" | sed -e 's/\r$//' -e 's/\r/\n/g'
}

readable()
{
    [ -e "$1" ] || die "there is no file $1" "Check the path; the present directory is $PWD."
    [ -r "$1" ] || die "the file $1 cannot be read" "Check its permissions."
    [ -s "$1" ] || die "the file $1 is empty"
    text "$1" > /dev/null 2>&1 ||
        die "the file $1 is not ${encoding:-UTF-8} text" "Give its encoding, for example --encoding GB18030 for Chinese files from Excel."
}

# What a file holds, from its header; empty if nothing known.
guess()
{
    text "$1" | head -n 1 | sed 's/^\xEF\xBB\xBF//' > "$tmp/header"
    psql -qXAt -v ON_ERROR_STOP=1 -v header="$(cat "$tmp/header")" <<'SQL'
SELECT for_object FROM crm.import_guess(crm.csv_fields(:'header', CASE WHEN :'header' ~ '\t' THEN E'\t' WHEN :'header' ~ ';' AND :'header' !~ ',' THEN ';' ELSE ',' END))
 WHERE matched >= 2 OR cardinality(missing) = 0 LIMIT 1;
SQL
}

load()
{
    local file=$1 what=$2
    printf '==> %s: %s\n' "$(basename "$file")" "$what"
    cat > "$tmp/load.sql" <<'SQL'
\set QUIET on
\pset footer off
SELECT crm.import_begin(:'object', :'source', nullif(:'mapping', '')::jsonb, coalesce(nullif(:'options', ''), '{}')::jsonb, :'file') AS batch \gset
\copy crm.import_line (line) FROM PSTDIN WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')
SELECT item, row_count AS rows, detail FROM crm.import_validate(:batch);
SELECT count(*) > 0 AS bad FROM crm.import_report(:batch) \gset
\if :bad
    \echo bad rows, the first of each kind:
    SELECT min(line_no) AS line, count(*) AS rows, reason FROM crm.import_report(:batch) GROUP BY reason ORDER BY 2 DESC, 1 LIMIT 10;
\endif
\if :apply
    CALL crm.import_apply(:batch);
\endif
SQL
    text "$file" | psql -qX -v ON_ERROR_STOP=1 -v object="$what" -v source="$source" -v mapping="$mapping" -v options="$options" \
        -v file="$(basename "$file")" -v apply="$apply" -f "$tmp/load.sql"
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for path in "$@"; do
    if [ -d "$path" ]; then
        for file in "$path"/*.csv; do [ -e "$file" ] && printf '%s\n' "$file"; done
    else
        printf '%s\n' "$path"
    fi
done > "$tmp/files"
[ -s "$tmp/files" ] || die "there is no CSV file in $*"

# all files are looked at before the first is loaded
: > "$tmp/todo"
while read -r file; do
    readable "$file"
    what=${object:-$(guess "$file")}
    if [ -z "$what" ]; then
        printf '==> %s: skipped, no heading is known\n' "$(basename "$file")"
        continue
    fi
    rank=0
    for o in team member product account contact campaign lead opportunity contract interaction; do
        rank=$((rank + 1))
        [ "$o" != "$what" ] || break
    done
    printf '%02d\t%s\t%s\n' "$rank" "$what" "$file" >> "$tmp/todo"
done < "$tmp/files"
[ -s "$tmp/todo" ] || die "no file holds anything known" "Give --object and --mapping; SELECT * FROM crm.import_fields('account') lists the fields."
sort -s -k1,1 "$tmp/todo" > "$tmp/sorted"
while IFS=$'\t' read -r _ what file; do
    load "$file" "$what" < /dev/null
done < "$tmp/sorted"
