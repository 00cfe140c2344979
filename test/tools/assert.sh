#!/usr/bin/env bash
# The regress tests on a server built with assertions, from the distribution's source package: first all of them, then a walk through the library
# (discard.sql) with every cache discarded at every chance, which finds pointers into caches that are used too long and loops that never end. The server is built
# once and kept under .cache/assert; the system's package lists are not touched. Ends with one line: N passed, N failed[, N skipped].
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
top=$PWD

say() { printf '==> %s\n' "$*"; }
skip() { echo "no server with assertions: $1"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }

bash test/tools/server.sh packages || exit 1
major=$(cat .pg/major)
cache=$top/.cache/assert
user() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- env HOME=/tmp LC_ALL=C.UTF-8 "$@"; else env LC_ALL=C.UTF-8 "$@"; fi; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# fetch: the newest source of this major that the mirror really has
fetch()
{
    local apt=$cache/apt codename lists=() version
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$cache/source"
    # the sources beside the packages that this machine installs
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u | awk '/debian/ && $3 == "main" {print "deb-src", $1, $2, $3}' > "$apt/sources.list"
    [ -s "$apt/sources.list" ] || return 1
    local options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return 1
    for version in $(apt-cache "${options[@]}" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -Vru); do
        (cd "$cache/source" && apt-get "${options[@]}" source --download-only "postgresql-$major=$version" 2> /dev/null) && return 0
    done
    return 1
}

build()
{
    local tarball
    [ ! -x "$cache/server/bin/postgres" ] || [ "$(cat "$cache/major")" != "$major libxml" ] || return 0
    rm -rf "$cache"
    say "fetching the source of PostgreSQL $major"
    fetch || skip "apt has no source of postgresql-$major that can be fetched"
    tarball=$(ls "$cache"/source/*.orig.tar.* | tail -n 1)
    mkdir -p "$cache/build"
    tar -xf "$tarball" -C "$cache/build" --strip-components=1 || skip "the source could not be unpacked"
    say "building it with assertions"
    # what the build needs beside gcc and make; without libxml the tests that make XML would say so
    local p missing=()
    for p in libxml2-dev pkg-config bison flex perl; do dpkg-query -W -f '${Status}' "$p" 2> /dev/null | grep -q 'install ok installed' || missing+=("$p"); done
    [ ${#missing[@]} = 0 ] || as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null || skip "what it is built with could not be installed"
    (cd "$cache/build" &&
        ./configure -q --prefix="$cache/server" --enable-cassert --with-libxml --without-icu --without-readline --without-zlib CFLAGS='-O1 -g0' &&
        make -s -j"$(nproc)" install && make -s -C src/test/isolation install) > "$cache/build.log" 2>&1 ||
        { tail -n 20 "$cache/build.log"; skip "it could not be built"; }
    rm -rf "$cache/build" "$cache/source"
    echo "$major libxml" > "$cache/major"
}

began=$SECONDS
build
say "a server with assertions is there after $((SECONDS - began)) s"

# Autovacuum is after every row there: what a test sees may depend neither on where rows lie, nor on who else runs a transaction.
# its own copy of the server and of the checkout, where the server's user can read them
pg=$(readlink -f .pg)/assert
rm -rf "$pg"
mkdir -p "$pg/source"
cp -r "$cache/server" "$pg/server"
git ls-files --cached --others --exclude-standard | tar -cf - --ignore-failed-read -T - 2> /dev/null | tar -xf - -C "$pg/source"
bin=$pg/server/bin
[ "$(id -u)" != 0 ] || chown postgres: "$pg"
port=$((40000 + $(printf '%s' "$top" | cksum | cut -d ' ' -f 1) % 10000))
cd "$pg/source"
make -s -j"$(nproc)" install PG_CONFIG="$bin/pg_config" with_llvm=no > "$pg/build.log" 2>&1 || { cat "$pg/build.log"; echo "0 passed, 1 failed"; exit 1; }
sockets=$(mktemp -d /tmp/crm-assert-XXXXXX)
[ "$(id -u)" != 0 ] || chown postgres: "$sockets"
user "$bin/initdb" -D "$pg/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N > "$pg/initdb.log" 2>&1 || { cat "$pg/initdb.log"; echo "0 passed, 1 failed"; exit 1; }
printf '%s\n' "listen_addresses = ''" "port = $port" "unix_socket_directories = '$sockets'" 'max_prepared_transactions = 10' 'jit = off' \
    "timezone = 'Asia/Shanghai'" autovacuum_naptime=1s autovacuum_{vacuum,analyze}_threshold=1 autovacuum_{vacuum,analyze}_scale_factor=0 | user tee -a "$pg/data/postgresql.conf" > /dev/null
user "$bin/pg_ctl" -D "$pg/data" -l "$pg/server.log" -w start > /dev/null || { tail "$pg/server.log"; echo "0 passed, 1 failed"; exit 1; }
trap 'user "$bin/pg_ctl" -D "$pg/data" -m immediate stop > /dev/null; rm -rf "$sockets"' EXIT
export PGHOST=$sockets PGPORT=$port PGUSER=postgres PATH=$bin:$PATH
unset PGSERVICE PGPASSWORD PGOPTIONS PGDATABASE

passed=0 failed=0
# tests WHAT COMMAND ...: run make installcheck, count its lines
tests()
{
    local log=$pg/$1.log began=$SECONDS p f
    say "$2"
    shift 2
    rm -f test/regression.diffs
    "$@" 2>&1 | tee "$log" | grep --line-buffered -E '^(test|  ) .* \.\.\. |^(not )?ok\b' | sed -u 's/^/    /'
    p=$(grep -cE '^(test|  ) .* \.\.\. ok |^ok\b' "$log")
    f=$(grep -cE '^(test|  ) .* \.\.\. FAILED|^not ok\b' "$log")
    if [ "$p" = 0 ] && [ "$f" = 0 ]; then f=1; tail -n 20 "$log"; fi
    [ "$f" = 0 ] || head -n 80 test/regression.diffs 2> /dev/null
    passed=$((passed + p)) failed=$((failed + f))
    printf '    %s passed, %s failed, %s s\n' "$p" "$f" $((SECONDS - began))
}

check() { make --no-print-directory installcheck PG_CONFIG="$bin/pg_config" ISOLATION= "$@"; }
tests all "all regress tests, with assertions" check
tests setup "setting up for the next" check REGRESS=migrate

# walk DISCARD: the script on a copy of that database, with or without discarded caches
walk()
{
    psql -Xq -d postgres -c "CREATE DATABASE crm_discard_$1 TEMPLATE contrib_regression" &&
        timeout -k 10 "${DISCARD_SECONDS:-420}" psql -X -d "crm_discard_$1" -v discard="$1" -v timing=off -v person="Person $1" -f test/tools/discard.sql > "$pg/discard_$1.out" 2>&1
}
began=$SECONDS
say "a walk with caches discarded, and one without"
if walk 0 && walk 1 && ! grep -q 'ERROR' "$pg/discard_0.out" && diff "$pg/discard_0.out" "$pg/discard_1.out"; then
    passed=$((passed + 1))
    echo "    both print the same, $((SECONDS - began)) s"
else
    failed=$((failed + 1))
    grep -h 'ERROR' "$pg"/discard_*.out
    echo "    FAILED after $((SECONDS - began)) s"
fi
if grep -q 'TRAP:' "$pg/server.log"; then
    grep -m 5 'TRAP:' "$pg/server.log"
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
