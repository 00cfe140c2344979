#!/usr/bin/env bash
# Runs the benchmarks test/bench/NAME/run, all or the named ones, on the private server. Each prints its figures as ratios against its
# rivals, measured in the same run; it finds the server in the environment, and makes and drops a database of its own.
#
# usage: bench.sh [NAME ...]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ $# = 0 ]; then
    for run in test/bench/*/run; do
        [ ! -x "$run" ] || set -- "$@" "$(basename "$(dirname "$run")")"
    done
fi
for name in "$@"; do
    if [ ! -x "test/bench/$name/run" ]; then
        echo "error: there is no benchmark \"$name\"" >&2
        echo "hint: There are:$(for run in test/bench/*/run; do [ ! -x "$run" ] || printf ' %s' "$(basename "$(dirname "$run")")"; done)." >&2
        exit 1
    fi
done

bash test/tools/server.sh start || exit 1
. .pg/env
failed=0
for name in "$@"; do
    printf '==> benchmark %s\n' "$name"
    "test/bench/$name/run" || failed=$((failed + 1))
done
echo "$(($# - failed)) benchmarks ran, $failed failed"
[ "$failed" = 0 ]
