# What the fuzzers of C code share; sourced by test/fuzz/*/run. They try a set number of inputs from a set seed, so that two runs of one state try
# the same; FUZZ_SECONDS lets them go on for that long instead, FUZZ_SEED (default 1) takes another path.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
config=${PG_CONFIG:-pg_config}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
sanitize=(-g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -I"$top/src")

if ! echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return 0; }' | clang -x c "${sanitize[@]}" - -o "$work/probe" 2> /dev/null; then
    echo "skipped: no clang with libFuzzer (packages clang and libclang-rt-dev)"
    exit 0
fi

# postgres_options: what compiles and links against the server's static libraries, in the array postgres; skips without them
postgres_options()
{
    local lib
    lib=$("$config" --pkglibdir)
    [ -f "$lib/libpgcommon.a" ] || lib=$("$config" --libdir)
    if [ ! -f "$lib/libpgcommon.a" ]; then
        echo "skipped: no libpgcommon.a (package postgresql-server-dev)"
        exit 0
    fi
    postgres=(-w -DCRM_STANDALONE -I"$("$config" --includedir-server)" -L"$lib" -lpgcommon -lpgport -lm)
}

# corpus: an input a line of standard input, with escapes
corpus()
{
    local n=0 line
    while IFS= read -r line; do
        n=$((n + 1))
        printf '%b' "$line" > "$work/corpus/$n"
    done
}

# fuzz NAME INPUTS BYTES: runs $work/fuzz; an input that breaks it is left in test/fuzz/NAME
fuzz()
{
    local until=(-runs="$2")
    [ -z "${FUZZ_SECONDS:-}" ] || until=(-max_total_time="$FUZZ_SECONDS")
    "$work/fuzz" "${until[@]}" -seed="${FUZZ_SEED:-1}" -reload=0 -max_len="$3" -print_final_stats=1 -artifact_prefix="$top/test/fuzz/$1/" "$work/corpus" > "$work/log" 2>&1 ||
        { tail -40 "$work/log"; exit 1; }
    grep -E '^Done|number_of_executed' "$work/log"
}
