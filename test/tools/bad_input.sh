#!/usr/bin/env bash
# What people get wrong, or meet, with the private server: a port in use, a server of a version that is not supported, a full disk. Each ends with one
# clear error and a hint, with nothing half-done, and the right command works afterwards. Works on a copy of the checkout. Ends
# with one line: N passed, N failed[, N skipped].
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
top=$PWD
passed=0 failed=0 skipped=0

work=$(mktemp -d /var/tmp/crm-bad-XXXXXX)
chmod 755 "$work"
listener=
cleanup()
{
    [ -z "$listener" ] || kill "$listener" 2> /dev/null
    for d in "$work"/*/; do [ ! -d "$d/.pg" ] || make --no-print-directory -s -C "$d" stop > /dev/null 2>&1; done
    if mountpoint -q "$work/full/.pg" 2> /dev/null; then umount "$work/full/.pg"; fi
    rm -rf "$work"
}
trap cleanup EXIT

copy()
{
    mkdir -p "$work/$1"
    (cd "$top" && git ls-files --cached --others --exclude-standard | tar -cf - --ignore-failed-read -T - 2> /dev/null) | tar -xf - -C "$work/$1"
    cd "$work/$1"
}

# expect WHAT TEXT COMMAND ...: fails, says TEXT and a hint
expect()
{
    local what=$1 text=$2 out
    shift 2
    if out=$("$@" 2>&1 < /dev/null); then
        echo "not ok - $what: it succeeded"
    elif ! grep -qiE "$text" <<< "$out"; then
        echo "not ok - $what: no \"$text\" in:"
    elif ! grep -q '^hint: ' <<< "$out"; then
        echo "not ok - $what: no hint in:"
    else
        echo "ok - $what"
        passed=$((passed + 1))
        return
    fi
    printf '%s\n' "$out" | tail -n 20 | sed 's/^/#   /'
    failed=$((failed + 1))
}

works()
{
    local what=$1 out
    shift
    if out=$("$@" 2>&1 < /dev/null); then
        echo "ok - $what"
        passed=$((passed + 1))
    else
        echo "not ok - $what"
        printf '%s\n' "$out" | tail -n 20 | sed 's/^/#   /'
        failed=$((failed + 1))
    fi
}

skip() { echo "ok - $1 # SKIP $2"; skipped=$((skipped + 1)); }

copy port
port=47321
perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => shift, Listen => 1, ReuseAddr => 1) or exit 1; sleep 300' "$port" &
listener=$!
sleep 1
expect "a port in use" "port $port is in use" env CRM_PORT=$port make --no-print-directory start
expect "a port that is no number" 'must be a number' env CRM_PORT=abc make --no-print-directory start
expect "a port that does not exist" 'from 1024 to 65535' env CRM_PORT=99999 make --no-print-directory start
expect "an old server" 'PostgreSQL 14 is not supported' env PG_MAJOR=14 make --no-print-directory start
expect "a server of another kind" 'PostgreSQL new is not supported' env PG_MAJOR=new make --no-print-directory start
expect "a server that does not exist" 'PostgreSQL 99 is not supported' env PG_MAJOR=99 make --no-print-directory start
works "after all that, the right command works" env -u CRM_PORT -u PG_MAJOR make --no-print-directory start
expect "another port for a server that runs" 'runs on port' env CRM_PORT=47322 make --no-print-directory start
works "the end of it" make --no-print-directory stop

copy full
mkdir .pg
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=40m,mode=755 tmpfs .pg 2> /dev/null; then
    expect "a disk with little space" 'are free for the private server' make --no-print-directory start
    [ ! -e .pg/data ] && { echo "ok - nothing is left behind"; passed=$((passed + 1)); } || { echo "not ok - .pg/data is left behind"; failed=$((failed + 1)); }
    # and one that fills up on the way
    expect "a disk that fills up" 'could not be created|build failed|could not be copied' env CRM_MIN_FREE_MB=0 make --no-print-directory start
    [ ! -e .pg/data ] && { echo "ok - nothing is left behind"; passed=$((passed + 1)); } || { echo "not ok - .pg/data is left behind"; failed=$((failed + 1)); }
    mount -o remount,size=2g .pg
    works "with space, the same command works" make --no-print-directory start
    works "and stops" make --no-print-directory stop
else
    skip "a full disk" "mounting a small file system needs root"
fi

echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ]
