#!/usr/bin/env bash
# The README says of every SECURITY DEFINER function why it needs its owner's rights: holds that list, the section headed
# "Functions with their owner's rights", to the catalog. Names stand there in backticks, without arguments. Reads the database of the regress
# tests, or the one that is named; prints one TAP line.
#
# usage: definer.sh [DATABASE]
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. .pg/env
what="the README lists every SECURITY DEFINER function and no other"
listed=$(awk '/^#+ .*owner.s rights/ {on = 1; next} /^## / {on = 0} on' README.md | grep -oE '`crm\.[a-z_0-9]+`' | tr -d '`' | sort -u)
present=$(psql -XAtq -v ON_ERROR_STOP=1 -d "${1:-contrib_regression}" -c "
    SELECT DISTINCT 'crm.' || p.proname FROM pg_catalog.pg_proc AS p
     WHERE p.prosecdef AND p.pronamespace IN ('crm'::pg_catalog.regnamespace, 'crm_data'::pg_catalog.regnamespace)") || { echo "not ok - $what"; exit 1; }
missing=$(comm -13 <(printf '%s\n' "$listed" | LC_ALL=C sort) <(printf '%s\n' "$present" | LC_ALL=C sort))
extra=$(comm -23 <(printf '%s\n' "$listed" | LC_ALL=C sort) <(printf '%s\n' "$present" | LC_ALL=C sort))
if [ -z "$missing$extra" ]; then
    echo "ok - $what"
    exit 0
fi
echo "not ok - $what"
[ -z "$missing" ] || echo "#   not in the README: $(echo $missing)"
[ -z "$extra" ] || echo "#   in the README only: $(echo $extra)"
exit 1
