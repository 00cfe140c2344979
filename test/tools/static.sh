#!/usr/bin/env bash
# Checks of the source itself, as TAP lines: warnings of two compilers, format, exported symbols, rules for the SQL files, tests
# that no list names, paths of somebody's machine. Works on a copy under .pg/, so the checkout's objects stay as they are.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. .pg/env
top=$PWD
work=$(readlink -f .pg)/static
failed=0

# check WHAT COMMAND ...: passes when the command succeeds; its output explains a failure
check()
{
    local what=$1 out
    shift
    if out=$("$@" 2>&1); then
        echo "ok - $what"
    else
        echo "not ok - $what"
        printf '%s\n' "$out" | head -n 40 | sed 's/^/#   /'
        failed=1
    fi
}

# nothing TEXT: succeeds when its input is empty, else shows it
nothing() { local found; found=$(cat); [ -z "$found" ] || { printf '%s\n' "$found"; return 1; }; }

# the tracked files, and new ones that are not ignored
files() { git ls-files --cached --others --exclude-standard "$@" | while read -r f; do [ ! -f "$f" ] || printf '%s\n' "$f"; done; }

copy()
{
    rm -rf "$work/$1"
    mkdir -p "$work/$1"
    files | cpio --quiet -pdm "$work/$1" 2> /dev/null || files | tar -cf - -T - | tar -xf - -C "$work/$1"
}

build()
{
    copy "$1"
    make --no-print-directory -s -C "$work/$1" -j2 all PG_CONFIG="$PG_CONFIG" with_llvm=no WERROR=1 CC="$1" ${2:+COPT="$2"}
}

exported()
{
    nm -D --defined-only "$work/gcc/crm.so" | awk '{print $NF}' | grep -vE '^(crm_.*|pg_finfo_crm_.*|Pg_magic_func|_PG_init|_PG_fini|__odr_asan.*)$' | nothing
}

# released objects are created once: an existing object of that name is somebody else's
plain_create()
{
    files sql/engine | xargs -r grep -niE '^[^-]*create +(or +replace|[a-z ]* if +not +exists)' | nothing
}

# every SQL file, test and specification is in the Makefile; every expected output has its test
listed()
{
    local f stem lists
    lists=$(make -s --no-print-directory -f - print-lists <<'MAKE'
include Makefile
print-lists:
	@echo $(REGRESS) / $(ISOLATION) / $(ENGINE_SQL) $(API_SQL)
MAKE
    )
    { for f in $(files test/sql) $(files test/specs); do
        stem=$(basename "$f"); stem=${stem%.*}
        case " $lists " in *" $stem "*) ;; *) echo "$f is in no list of the Makefile" ;; esac
        [ -f "expected/$stem.out" ] || echo "$f has no expected/$stem.out"
        [ ! -f "test/sql/$stem.sql" ] || [ ! -f "test/specs/$stem.spec" ] || echo "$stem names a regress test and a specification"
    done
    for f in $(files expected); do
        stem=$(basename "$f" .out)
        [ -f "test/sql/$stem.sql" ] || [ -f "test/specs/$stem.spec" ] || echo "$f has no test"
    done
    for f in $(files sql/engine sql/api); do
        case " $lists " in *" $f "*) ;; *) echo "$f is in no list of the Makefile" ;; esac
    done
    for f in $(files test/t | grep '\.pl$'); do
        case $(basename "$f") in [0-9]*.pl | long_*.pl) ;; *) echo "$f is run by nothing: name it NNN_name.pl or long_name.pl" ;; esac
    done
    for f in $(files test/fuzz test/bench | grep '/run$') $(files test/long | grep -E '^test/long/[^/]*$'); do
        [ -x "$f" ] || echo "$f is not executable, so nothing runs it"
    done; } | nothing
}

# what an install writes: the library, its bitcode, the control file and the script; never into the system's headers, which .pg/root only links to
installs()
{
    rm -rf "$work/dest"
    make --no-print-directory -s -C "$work/gcc" install DESTDIR="$work/dest" PG_CONFIG="$PG_CONFIG" with_llvm=no > /dev/null || return 1
    find "$work/dest" -type f | grep -vE '/(crm\.so|crm\.control|crm--[0-9.]+\.sql)$' | nothing
}

# a path that begins with a directory of one person's machine
no_machine_paths()
{
    files | grep -vE '\.(gz|png)$' | xargs -r grep -nE "(^|[[:space:]=(:,])[\"']?/(root|home|work|Users|mnt)/[A-Za-z0-9_.]" | grep -v '^test/tools/static.sh:' | nothing
}

format() { files src | grep -E '\.[ch]$' | xargs -r clang-format --dry-run --Werror; }

shell_syntax() { { files test .ci sql | xargs -r grep -lE '^#!.*\b(ba)?sh\b' | while read -r f; do bash -n "$f" || echo "$f"; done; } | nothing; }

check "gcc: no warnings with -Wall -Wextra" build gcc
check "an install writes the library, the control file and the script, nothing else" installs
check "only the extension's own symbols are exported" exported
if command -v clang > /dev/null; then check "clang: no warnings with -Wall -Wextra" build clang "-Wno-ignored-optimization-argument -Wno-unknown-warning-option -Wno-ignored-attributes"; else echo "ok - clang: no warnings # SKIP clang is not installed"; fi
if command -v clang-format > /dev/null; then check "clang-format changes nothing" format; else echo "ok - clang-format changes nothing # SKIP clang-format is not installed"; fi
check "the extension's script creates, and never replaces or skips" plain_create
check "every test and SQL file is listed, every expected output has a test" listed
check "no path of one machine in the repository" no_machine_paths
check "shell scripts parse" shell_syntax
check "REFERENCE.md says what the comments say" bash test/tools/reference.sh check
rm -rf "$work"
exit $failed
