#!/usr/bin/env bash
# The private PostgreSQL of this checkout, under .pg/: its own copy of the server's programs, its own port, socket and data. The
# system's clusters and directories are never touched, so several checkouts can be built and tested side by side.
#
#   server.sh packages [long]   install the Debian packages that are missing (long: also those of make test-all)
#   server.sh install           build and install the extension into .pg/root
#   server.sh start             packages, install, start; does nothing the second time
#   server.sh stop              stop the server
#   server.sh psql [args]       psql on the database crm
#   server.sh run CMD ...       run a command as the server's user with the server's environment
#
# .pg/root mirrors the directories of the server's package: programs are copied (a program finds its library and share directories
# relative to itself), everything else is a symbolic link, and `make install` adds the extension.
#
# Settings: PG_MAJOR (default: newest installed, else the distribution's), CRM_PORT (default: a free one),
# CRM_MIN_FREE_MB (default 1500: with less space the server is not created).
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top"

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

as_root()
{
    if [ "$(id -u)" = 0 ]; then "$@"; else
        command -v sudo > /dev/null || die "installing packages needs root" "Run as root, or install sudo."
        sudo "$@"
    fi
}

# The server refuses to run as root: use the package's user then.
server_user() { if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi; }
as_server()
{
    if [ "$(id -u)" = 0 ]; then
        runuser -u postgres -- env HOME=/tmp LC_ALL=C.UTF-8 "$@"
    else
        env LC_ALL=C.UTF-8 "$@"
    fi
}

major()
{
    if [ -n "${PG_MAJOR:-}" ]; then echo "$PG_MAJOR"; return; fi
    if [ -f .pg/major ]; then cat .pg/major; return; fi
    local newest
    newest=$(ls -d /usr/lib/postgresql/*/bin/postgres 2> /dev/null | sed 's|.*/postgresql/\([0-9]*\)/.*|\1|' | sort -n | tail -n 1)
    [ -n "$newest" ] || newest=$(apt-cache depends postgresql 2> /dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
    echo "$newest"
}

packages()
{
    command -v apt-get > /dev/null || die "this is not a Debian system" "Build by hand: make PG_CONFIG=... && make install && make installcheck."
    local m missing=() p
    m=$(major)
    if [ -z "$m" ]; then
        as_root apt-get update -qq
        m=$(major)
    fi
    [ -n "$m" ] || die "no PostgreSQL package found" "Check /etc/apt/sources.list."
    case $m in 15 | 16 | 17 | 18) ;; *) die "PostgreSQL $m is not supported" "crm needs PostgreSQL 15, 17 or 18: set PG_MAJOR." ;; esac
    local want=(gcc make "postgresql-$m" "postgresql-client-$m" "postgresql-server-dev-$m" "postgresql-$m-cron" libipc-run-perl util-linux)
    if [ "${1:-}" = long ]; then
        want+=(pgbouncer clang clang-format "postgresql-$m-plpgsql-check" python3-psycopg libpostgresql-jdbc-java default-jdk-headless odbc-postgresql
               python3-pyodbc valgrind libfaketime chromium fonts-wqy-microhei python3-phonenumbers libcurl4-openssl-dev libpq-dev)
    fi
    for p in "${want[@]}"; do
        dpkg-query -W -f '${Status}' "$p" 2> /dev/null | grep -q 'install ok installed' || missing+=("$p")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        say "installing ${missing[*]}"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null ||
            die "packages could not be installed" "See the messages of apt-get above."
    fi
    mkdir_pg
    echo "$m" > .pg/major
}

# The server's user must reach .pg; a checkout under a private directory (/root, a home) keeps it elsewhere behind a link.
mkdir_pg()
{
    if [ ! -e .pg ]; then
        if [ "$(id -u)" = 0 ] && ! as_server test -r "$top" -a -x "$top" 2> /dev/null; then
            local elsewhere
            elsewhere=/var/tmp/crm-$(printf '%s' "$top" | sha256sum | cut -c 1-12)
            mkdir -p "$elsewhere"
            ln -sfn "$elsewhere" .pg
        else
            mkdir -p .pg
        fi
    fi
    [ "$(id -u)" != 0 ] || chown postgres: "$(readlink -f .pg)"
}

mirror()
{
    local m=$1 root r
    root=$(readlink -f .pg)/root
    local stamp="$m $(dpkg-query -W -f '${Version}' "postgresql-$m" 2> /dev/null || true) $(dpkg-query -W -f '${Version}' "postgresql-$m-cron" 2> /dev/null || true)"
    if [ "$(cat "$root/stamp" 2> /dev/null)" = "$stamp" ]; then return; fi
    [ ! -f .pg/data/postmaster.pid ] || stop
    rm -rf "$root"
    for r in "usr/lib/postgresql/$m/bin" "usr/lib/postgresql/$m/lib" "usr/share/postgresql/$m" usr/include; do
        mkdir -p "$root/$(dirname "$r")"
    done
    cp -rL "/usr/lib/postgresql/$m/bin" "$root/usr/lib/postgresql/$m/bin"
    cp -rs "/usr/lib/postgresql/$m/lib" "$root/usr/lib/postgresql/$m/lib"
    cp -rs "/usr/share/postgresql/$m" "$root/usr/share/postgresql/$m"
    # a crm of the system's own must not show through
    rm -rf "$root/usr/lib/postgresql/$m/lib/crm.so" "$root/usr/lib/postgresql/$m/lib/bitcode/crm"* "$root/usr/share/postgresql/$m/extension/crm"[.-]*
    ln -s /usr/include "$root/usr/include"
    echo "$stamp" > "$root/stamp"
}

install_extension()
{
    local m bin
    m=$(cat .pg/major)
    mirror "$m"
    bin=$(readlink -f .pg)/root/usr/lib/postgresql/$m/bin
    # objects of another server's headers are of no use
    if [ "$(cat .pg/built 2> /dev/null)" != "$m" ]; then
        make --no-print-directory -s clean PG_CONFIG="$bin/pg_config" > /dev/null 2>&1 || true
        echo "$m" > .pg/built
    fi
    local log=.pg/build.log
    if ! make --no-print-directory -s -j"$(nproc)" install PG_CONFIG="$bin/pg_config" with_llvm=no ${WERROR:+WERROR=1} > $log 2>&1; then
        cat $log >&2
        die "the build failed" "The compiler's messages are above."
    fi
    grep -E 'warning:' $log || true
}

in_use() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

choose_port()
{
    if [ -n "${CRM_PORT:-}" ]; then
        case $CRM_PORT in *[!0-9]* | '' | ??????*) die "CRM_PORT must be a number, not \"$CRM_PORT\"" "Give a port from 1024 to 65535, or leave CRM_PORT unset." ;; esac
        if [ "$CRM_PORT" -lt 1024 ] || [ "$CRM_PORT" -gt 65535 ]; then die "there is no port $CRM_PORT for the server" "Give a port from 1024 to 65535, or leave CRM_PORT unset."; fi
        if in_use "$CRM_PORT"; then die "port $CRM_PORT is in use" "Choose another: CRM_PORT=5433 make demo, or leave CRM_PORT unset."; fi
        echo "$CRM_PORT"
        return
    fi
    local p=$((20000 + $(printf '%s' "$top" | cksum | cut -d ' ' -f 1) % 20000))
    while in_use "$p"; do p=$((p + 1)); done
    echo "$p"
}

running() { [ -f .pg/data/postmaster.pid ] && as_server "$(bindir)/pg_ctl" -D "$(readlink -f .pg)/data" status > /dev/null 2>&1; }
bindir() { echo "$(readlink -f .pg)/root/usr/lib/postgresql/$(cat .pg/major)/bin"; }

start()
{
    packages "${1:-}"
    local pg bin port free
    pg=$(readlink -f .pg)
    free=$(df -Pk "$pg" | awk 'NR == 2 {print $4}')
    if [ ! -f "$pg/data/PG_VERSION" ] && [ $((free / 1024)) -lt "${CRM_MIN_FREE_MB:-1500}" ]; then
        die "only $((free / 1024)) MB are free for the private server in $pg" "It needs about 1.5 GB: free some space, or move the checkout."
    fi
    install_extension
    bin=$(bindir)
    if running; then
        port=$(sed -n 4p "$pg/data/postmaster.pid")
        [ -z "${CRM_PORT:-}" ] || [ "$CRM_PORT" = "$port" ] || die "the private server runs on port $port already" "Run make stop first, or leave CRM_PORT unset."
        return
    fi
    if [ ! -f "$pg/data/PG_VERSION" ]; then
        say "creating the private server in .pg"
        rm -rf "$pg/data"
        mkdir -p "$pg/data" "$pg/log"
        [ "$(id -u)" != 0 ] || chown postgres: "$pg/data" "$pg/log"
        if ! as_server "$bin/initdb" -D "$pg/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --data-checksums > "$pg/initdb.log" 2>&1; then
            cat "$pg/initdb.log" >&2
            rm -rf "$pg/data"
            die "the private server could not be created" "A full disk shows above; nothing is left behind, so run the same command again."
        fi
    fi
    port=$(choose_port)
    # a socket's path may have 107 bytes
    local sock=$pg/socket
    if [ ${#sock} -gt 85 ]; then sock=/tmp/crm-socket-$port; fi
    mkdir -p "$sock"
    [ "$(id -u)" != 0 ] || chown postgres: "$sock"
    cat > "$pg/data/postgresql.auto.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$sock'
shared_preload_libraries = '$( [ -e "$pg/root/usr/lib/postgresql/$(cat .pg/major)/lib/pg_cron.so" ] && echo pg_cron )'
cron.database_name = 'crm'
cron.host = '$sock'
shared_buffers = '512MB'
maintenance_work_mem = '256MB'
work_mem = '32MB'
max_wal_size = '4GB'
max_connections = 100
max_prepared_transactions = 10
wal_level = logical
log_line_prefix = '%m [%p] %u@%d '
timezone = 'Asia/Shanghai'
jit = off
CONF
    [ "$(id -u)" != 0 ] || chown postgres: "$pg/data/postgresql.auto.conf"
    if ! as_server "$bin/pg_ctl" -D "$pg/data" -l "$pg/log/server.log" -w -t 60 start > "$pg/start.log" 2>&1; then
        cat "$pg/start.log" >&2
        tail -n 20 "$pg/log/server.log" >&2 || true
        die "the private server did not start" "Its log is $pg/log/server.log."
    fi
    cat > "$pg/env" <<ENV
export PG_CONFIG='$bin/pg_config' PATH='$bin':\$PATH PGHOST='$sock' PGPORT=$port PGUSER=postgres PGDATABASE=crm
unset PGSERVICE PGPASSWORD PGOPTIONS
ENV
    say "private PostgreSQL $("$bin/postgres" --version | awk '{print $3}') runs on port $port (make stop ends it)"
}

stop()
{
    if running; then
        as_server "$(bindir)/pg_ctl" -D "$(readlink -f .pg)/data" -m fast -w stop > /dev/null
        say "private server stopped"
    fi
}

case ${1:-} in
    packages) packages "${2:-}" ;;
    install) packages; install_extension ;;
    start) start "${2:-}" ;;
    stop) [ ! -f .pg/major ] || stop ;;
    psql) shift; start; . .pg/env; exec psql "$@" ;;
    run) shift; . .pg/env; as_server env PATH="$PATH" PGHOST="$PGHOST" PGPORT="$PGPORT" PGUSER="$PGUSER" PGDATABASE="$PGDATABASE" PG_CONFIG="$PG_CONFIG" "$@" ;;
    *) sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
