#!/usr/bin/env bash
# Runs the tests on the private server of this checkout and ends with one line: N passed, N failed[, N skipped].
#
#   test.sh            regress, isolation, short TAP                    (make test)
#   test.sh all        the same, then static checks and long tests      (make test-all)
#   test.sh only PATH  one file of test/t, test/long or test/fuzz/*/run
#
# Where a test belongs, and what makes it run:
#   test/sql/NAME.sql       regress: listed in the Makefile's REGRESS; runs in order on one database that the first test sets up
#   test/specs/NAME.spec    isolation: listed in ISOLATION; the first spec sets up the database. A name is used by a regress test or a
#                           spec, not by both: their expected output is in the same directory
#   test/t/NNN_name.pl      short TAP (PostgreSQL::Test::Cluster, with test/perl/CrmTest.pm): every file runs
#   test/t/long_name.pl     long TAP: make test-all only
#   test/long/name.*        long tests of any other kind: every executable file runs
#   test/fuzz/name/run      fuzzers: every executable of that name runs
#   test/tools/static.sh    checks of the source itself
# Long tests and fuzzers find the server in the environment (PATH, PGHOST, PGPORT, PGUSER, PG_CONFIG), make and drop a database of
# their own, print what they did, and exit with 0 for passed, 77 for skipped (the last line says why), anything else for failed.
# They may print TAP lines ("ok - what", "not ok - what", "ok - what # SKIP why"), which are then counted one by one.
#
# TAP runs as the server's user, since a server refuses root, and from a copy of test/ under .pg/, since that user may not be able to read the
# checkout. Its nodes are the private copy of the server, so the extension under test is the checkout's own.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"
mode=${1:-short}

passed=0 failed=0 skipped=0
failures=()

say() { printf '==> %s\n' "$*"; }

# run NAME COMMAND ...: run, log, show the result lines as they come, count
run()
{
    local name=$1 log=.pg/test/$1.log rc p f s began=$SECONDS
    shift
    mkdir -p "$(dirname "$log")"
    "$@" 2>&1 < /dev/null | tee "$log" | show "$name"
    rc=${PIPESTATUS[0]}
    s=$(grep -ciE '^(not )?ok\b.*# skip|^1\.\.0 # skip' "$log")
    p=$(grep -iE '^(test|  ) .* \.\.\. ok |^ok\b' "$log" | grep -civE '# skip')
    f=$(grep -iE '^(test|  ) .* \.\.\. FAILED|^not ok\b' "$log" | grep -civE '# (skip|todo)')
    if [ "$rc" = 77 ]; then
        rc=0 s=$((s + 1))
        printf '    skipped %s: %s\n' "$name" "$(tail -n 1 "$log")"
    elif [ "$rc" != 0 ] && [ "$f" = 0 ]; then
        f=1
    elif [ "$rc" = 0 ] && [ $((p + f + s)) = 0 ]; then
        p=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$f" -gt 0 ]; then
        failures+=("$name")
        printf '    FAILED  %s: %s passed, %s failed; the end of %s:\n' "$name" "$p" "$f" "$log"
        tail -n 40 "$log" | sed 's/^/    | /'
    else
        printf '    ok      %s: %s passed%s, %s s\n' "$name" "$p" "$([ "$s" = 0 ] || echo ", $s skipped")" $((SECONDS - began))
    fi
}

# of a TAP file only what is not right; of pg_regress every test
show()
{
    case $1 in
        regress | isolation) grep --line-buffered -E '^(test|  ) .* \.\.\. |^(not )?ok\b' | sed -u 's/^/    /' ;;
        *) grep --line-buffered -iE '^not ok\b|^ok\b.*# skip|^1\.\.0 # skip|^progress:' | sed -u 's/^/    /' ;;
    esac
    return 0
}

# pg_regress says what is different in a file of its own
regress()
{
    rm -f test/regression.diffs
    make --no-print-directory "$1" || { head -n 150 test/regression.diffs 2> /dev/null; return 1; }
}

# The server's user works in its own copy of the tests.
copy_tests()
{
    rm -rf .pg/tap
    mkdir -p .pg/tap/log
    cp -r test/t test/perl test/sql expected .pg/tap/
    [ ! -d test/data ] || cp -r test/data .pg/tap/
    [ "$(id -u)" != 0 ] || chown -R postgres: "$(readlink -f .pg/tap)"
}

# tap STEM: one file, in a folder of its own
tap()
{
    local pgxs dir
    dir=$(readlink -f .pg/tap)
    pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
    bash test/tools/server.sh run env -C "$dir" \
        TESTDIR="$dir" TESTDATADIR="$dir/$1" TESTLOGDIR="$dir/log/$1" PG_TEST_PORT_DIR="$dir/ports" PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
        PERL5LIB="$pgxs/src/test/perl:$dir/perl" PG_TEST_TIMEOUT_DEFAULT=180 CRM_LONG_TESTS="${CRM_LONG_TESTS:-}" CRM_OLD_BINDIR="${CRM_OLD_BINDIR:-}" \
        perl "t/$1.pl"
}

tap_file()
{
    local stem
    stem=$(basename "$1" .pl)
    run "$stem" tap "$stem"
    # the servers' logs of a failed test stay with its output
    if [ ${#failures[@]} -gt 0 ] && [ "${failures[-1]}" = "$stem" ]; then
        mkdir -p ".pg/test/$stem"
        cp -r ".pg/tap/$stem/log" ".pg/tap/log/$stem" ".pg/test/$stem/" 2> /dev/null
    fi
    rm -rf ".pg/tap/$stem"
}

script() { run "$(basename "$(dirname "$1")")-$(basename "$1")" "$top/$1"; }

# one FILE: by its kind
one()
{
    case $1 in
        test/tools/*) run "$(basename "$1" .sh)" bash "$1" ;;
        test/t/*) tap_file "$1" ;;
        *) script "$1" ;;
    esac
}

# several FILE ...: two at a time where there are two processors; what one printed is shown when it ends
several()
{
    local file out n=0 p f s names
    for file in "$@"; do
        while [ "$(jobs -rp | wc -l)" -ge "$(($(nproc) > 1 ? 2 : 1))" ]; do wait -n; done
        n=$((n + 1))
        out=.pg/test/several.$n
        {
            passed=0 failed=0 skipped=0 failures=()
            one "$file" > "$out" 2>&1
            cat "$out"
            echo "$passed $failed $skipped ${failures[*]}" > "$out"
        } &
    done
    wait
    for ((; n > 0; n--)); do
        p=0 f=1 s=0 names=several
        read -r p f s names < ".pg/test/several.$n"
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
        [ -z "$names" ] || failures+=("$names")
    done
}

say "the private server"
bash test/tools/server.sh start "$([ "$mode" != all ] || echo long)" || exit 1
. .pg/env
[ "$mode" = short ] || export CRM_LONG_TESTS=1
rm -rf .pg/test
copy_tests

if [ "$mode" = only ]; then
    one "$2"
else
    say "regress"
    run regress regress regress
    run readme bash test/tools/definer.sh
    say "isolation"
    run isolation regress isolation
    say "TAP"
    for file in test/t/[0-9]*.pl; do tap_file "$file"; done
    if [ "$mode" = all ]; then
        say "static checks, long tests, fuzzers"
        long=(test/tools/static.sh test/t/long_*.pl)
        for file in test/long/* test/fuzz/*/run; do [ ! -f "$file" ] || [ ! -x "$file" ] || long+=("$file"); done
        several "${long[@]}"
    fi
fi

[ ${#failures[@]} = 0 ] || say "failed: ${failures[*]}"
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ]
