#!/usr/bin/env bash
# SHA-256 of src/common: each way it can go on this processor, under AddressSanitizer and UndefinedBehaviorSanitizer where the compiler has
# them, on the examples of FIPS 180-4 and on messages of random lengths given in random pieces, against the server's own sha256().
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# prints "way,message,digest" for the random messages; says what is wrong with the examples
cat > "$work/main.c" <<'C'
#include <stdio.h>
#include <stdlib.h>

#include "common/sha256.c"

static const char *const examples[][2] = {
	{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
	 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	{NULL, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"} /* a million times a */
};

/* the digest, hexadecimal, of a message given in random pieces */
static const char *
digest(BlockFunction blocks, const uint8_t *data, size_t len)
{
	static char text[2 * CRM_SHA256_LEN + 1];
	CrmSha256 sha;
	uint8_t out[CRM_SHA256_LEN];

	blocks_of = blocks;
	crm_sha256_init(&sha);
	for (size_t at = 0, n; at < len; at += n)
	{
		n = random() % (1 << random() % 9);
		if (n > len - at)
			n = len - at;
		crm_sha256_update(&sha, data + at, n);
	}
	crm_sha256_final(&sha, out);
	for (int i = 0; i < CRM_SHA256_LEN; i++)
		sprintf(text + 2 * i, "%02x", out[i]);
	return text;
}

int
main(void)
{
	struct {const char *name; BlockFunction blocks;} ways[] = {{"portable", blocks_portable}, {"processor", best_blocks()}, {"chosen", choose}};
	static uint8_t million[1000000];

	srandom(1);
	fprintf(stderr, "%s\n", best_blocks() == blocks_portable ? "portable" : "processor");
	memset(million, 'a', sizeof(million));
	for (int way = 0; way < 3; way++)
	{
		for (int i = 0; i < 5; i++)
		{
			const char *text = examples[i][0];

			if (strcmp(digest(ways[way].blocks, text ? (const uint8_t *) text : million, text ? strlen(text) : sizeof(million)), examples[i][1]) != 0)
				fprintf(stderr, "example %d, %s\n", i, ways[way].name);
		}
	}
	for (int i = 0; i < 1500; i++)
	{
		/* of its exact length and at an odd place, so that a byte too far is noticed */
		size_t len = i < 300 ? i : random() % 3000;
		uint8_t *data = malloc(len + 1);

		for (size_t j = 0; j < len; j++)
			data[j + 1] = random();
		for (int way = 0; way < 3; way++)
		{
			printf("%s,", ways[way].name);
			for (size_t j = 0; j < len; j++)
				printf("%02x", data[j + 1]);
			printf(",%s\n", digest(ways[way].blocks, data + 1, len));
		}
		free(data);
	}
	return 0;
}
C
cc=${CC:-cc}
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
echo 'int main(void) { return 0; }' | $cc -x c $sanitize - -o "$work/probe" 2> /dev/null && "$work/probe" || sanitize=
$cc -g -O2 -Wall -Wextra -Werror $sanitize -I"$top/src" "$work/main.c" -o "$work/main"
"$work/main" > "$work/random" 2> "$work/said"

failed=0
check() { if [ -z "$1" ]; then echo "ok - $2"; else echo "not ok - $2"; printf '%s\n' "$1" | sed 's/^/#   /'; failed=1; fi; }
check "$(sed 1d "$work/said")" "the examples of FIPS 180-4, in pieces"
check "$(psql -X -q -A -t -v ON_ERROR_STOP=1 -d postgres \
    -c "CREATE TEMP TABLE x (way text, message text, digest text)" -c "\\copy x FROM '$work/random' (FORMAT csv)" \
    -c "SELECT way, length(message) / 2, 'is not the digest of the server' FROM x WHERE digest IS DISTINCT FROM encode(sha256(decode(coalesce(message, ''), 'hex')), 'hex')" \
    -c "SELECT count(*) || ' messages' FROM x HAVING count(*) <> 4500")" "random messages, in pieces, against the server's sha256()"
if [ "$(head -n 1 "$work/said")" = processor ]; then echo "ok - by the processor's instructions"; else echo "ok - by the processor's instructions # SKIP it has none that is known"; fi
exit $failed
