#!/usr/bin/env bash
# The same tests on the other supported servers: PostgreSQL 17 in a folder of Debian 13, 18 in one of Debian forky. Makes the folders with
# debootstrap under .cache/matrix and keeps them with the packages that the tests installed there, so that only the first run is
# slow. Needs root, for the folders' mounts. Ends with one line: N passed, N failed[, N skipped].
#
# usage: matrix.sh [15|17|18 ...]     15 is a bare Debian 12: what a new machine has to install shows there; the default is 17 18
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
top=$PWD

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$1" >&2; printf 'hint: %s\n' "$2" >&2; echo "0 passed, 1 failed"; exit 1; }

[ $# -gt 0 ] || set -- 17 18
for major in "$@"; do
    case $major in 15 | 17 | 18) ;; *) die "there is no folder for PostgreSQL $major" "Give 15, 17 or 18." ;; esac
done
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || die "the folders need root" "Run as root, or install sudo."
    exec sudo "$0" "$@"
fi

suite_of() { case $1 in 15) echo bookworm ;; 17) echo trixie ;; 18) echo forky ;; esac; }

# the mirror that this machine's own packages come from
mirror()
{
    local codename
    codename=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2> /dev/null |
        awk -v c="$codename" '$2 == c && $3 == "main" {print $1; exit}' | grep . || echo http://deb.debian.org/debian
}

# the security updates of a release, where this machine has those of its own
security()
{
    [ "$1" != forky ] || return 0
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2> /dev/null |
        awk -v s="$1" '$2 ~ /-security$/ && $3 == "main" {print "deb", $1, s "-security", "main"; exit}'
}

# A folder that has not been finished is of no use, so it gets its name last.
make_folder()
{
    local suite=$1 root=.cache/matrix/$1 script log
    [ ! -d "$root" ] || return 0
    if ! command -v debootstrap > /dev/null; then
        say "installing debootstrap"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap; } > /dev/null ||
            die "debootstrap could not be installed" "See the messages of apt-get above."
    fi
    script=/usr/share/debootstrap/scripts/$suite
    # Debian 12 does not know the name of the release after the next; the script of unstable is the same
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    log=.cache/matrix/$suite.log
    mkdir -p .cache/matrix
    rm -rf "$root.new"
    say "making a folder of Debian $suite in .cache/matrix"
    if ! debootstrap --variant=minbase --include=make,git "$suite" "$root.new" "$(mirror)" "$script" > "$log" 2>&1; then
        tail -n 20 "$log" >&2
        return 1
    fi
    # the server of the distribution's package stays off
    printf '#!/bin/sh\nexit 101\n' > "$root.new/usr/sbin/policy-rc.d"
    chmod +x "$root.new/usr/sbin/policy-rc.d"
    security "$suite" > "$root.new/etc/apt/sources.list.d/security.list"
    mv "$root.new" "$root"
}

# what this machine needs to reach its mirror, a proxy for example
network()
{
    local root=$1 f
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    for f in $(grep -ls 'Acquire' /etc/apt/apt.conf /etc/apt/apt.conf.d/*); do cp "$f" "$root/etc/apt/apt.conf.d/50host-$(basename "$f")"; done
}

# test_on MAJOR: make test in the folder, on a copy of the checkout that keeps its private server for the next run
test_on()
{
    local major=$1 root
    root=.cache/matrix/$(suite_of "$major")
    mkdir -p "$root/srv/crm"
    git ls-files --cached --others --exclude-standard | sort > .cache/matrix/files
    # what is gone from the checkout must go from the copy
    (cd "$root/srv/crm" && find . -path ./.pg -prune -o -type f ! -name '*.o' -print0 | xargs -0r rm -f)
    tar -cf - --ignore-failed-read -T .cache/matrix/files 2> /dev/null | tar -xf - -C "$root/srv/crm"
    unshare --mount --pid --fork --propagation private bash -euc '
        mount --bind "$0" "$0"; cd "$0"
        mount -t proc proc proc
        for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
        mkdir -p dev/shm; mount -t tmpfs -o mode=1777 tmpfs dev/shm
        mount -t tmpfs -o mode=1777 tmpfs tmp
        [ -e dev/fd ] || ln -s /proc/self/fd dev/fd
        exec chroot . /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PG_MAJOR="$1" sh -c "
            cd /srv/crm && git config --global --add safe.directory /srv/crm
            make test; rc=\$?
            for t in long_cron long_access_replication; do make test TESTS=test/t/\$t.pl || rc=1; done
            if [ -d /srv/old ]; then CRM_OLD_BINDIR=/srv/old/bin make test TESTS=test/t/long_pg_upgrade.pl || rc=1; fi
            make stop; exit \$rc"' \
        "$(readlink -f "$root")" "$major" < /dev/null
}

# old_server FOLDER: this machine's own server with crm, and the libraries that it needs, for pg_upgrade from it. Wrappers give the
# libraries to the old programs alone: the new server has its own releases of them.
old_server()
{
    local old=$1/srv/old major from program lib
    rm -rf "$old"
    bash test/tools/server.sh install > /dev/null || return 1
    major=$(cat .pg/major)
    [ "$major" = 15 ] || return 1
    from=$(readlink -f .pg)/root/usr
    mkdir -p "$old/root/usr/lib/postgresql/15" "$old/root/usr/share/postgresql" "$old/lib" "$old/bin"
    cp -rL "$from/lib/postgresql/15/bin" "$old/root/usr/lib/postgresql/15/"
    mkdir "$old/root/usr/lib/postgresql/15/lib"
    for lib in "$from"/lib/postgresql/15/lib/*.so; do
        case $lib in *llvmjit*) ;; *) cp -L "$lib" "$old/root/usr/lib/postgresql/15/lib/" ;; esac
    done
    cp -rL "$from/share/postgresql/15" "$old/root/usr/share/postgresql/"
    # all but the C library's own parts, which serve older programs too
    for lib in $(ldd "$from"/lib/postgresql/15/bin/* 2> /dev/null | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so'); do
        cp -L "$lib" "$old/lib/"
    done
    for program in "$old"/root/usr/lib/postgresql/15/bin/*; do
        program=$(basename "$program")
        printf '#!/bin/sh\nLD_LIBRARY_PATH=/srv/old/lib exec /srv/old/root/usr/lib/postgresql/15/bin/%s "$@"\n' "$program" > "$old/bin/$program"
    done
    chmod -R a+rX,a-w "$old"
    chmod a+x "$old"/bin/*
}

passed=0 failed=0 skipped=0
mkdir -p .cache/matrix
exec 8> .cache/matrix/lock
flock 8
for major in "$@"; do
    began=$SECONDS
    log=.cache/matrix/$major.log
    say "PostgreSQL $major"
    if ! make_folder "$(suite_of "$major")"; then
        echo "the folder could not be made" | tee "$log"
        rc=1
    else
        network ".cache/matrix/$(suite_of "$major")"
        [ "$major" = 15 ] || old_server ".cache/matrix/$(suite_of "$major")" || say "pg_upgrade is not tested: this machine has no PostgreSQL 15"
        test_on "$major" 2>&1 | tee "$log"
        rc=${PIPESTATUS[0]}
    fi
    line=$(awk '/^[0-9]+ passed, [0-9]+ failed/ {p += $1; f += $3; s += $5; n++} END {if (n) printf "%d passed, %d failed, %d skipped", p, f, s}' "$log")
    [ -n "$line" ] || line="0 passed, 1 failed"
    read -r p _ f _ s _ <<< "${line//,/}"
    [ "$rc" = 0 ] || [ "$f" -gt 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
    say "PostgreSQL $major: $line, $((SECONDS - began)) s"
done
echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
[ "$failed" = 0 ]
