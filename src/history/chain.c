/*
 * chain.c
 *		The digest chain of the history: SHA-256 and the canonical text of a change, version 1.
 *
 * Pure C on plain types: no catalogs, no memory of its own, nothing that can fail.
 *
 * hash(n) = SHA-256(hash(n - 1) || text), where hash(0) is empty and text, in UTF-8, is the line "crm1", then one line each for
 * object, record, account, version, op (a letter), at (microseconds since 2000-01-01 UTC), actor, session, endpoint, client version, op_seq
 * and note, then one line "name=digest" for each changed field, in byte order of the names. A missing value is \N; a backslash
 * or a newline in a value is written \\ or \n. A field's digest, hexadecimal, is SHA-256(salt || name || 0 || old || 0 || new), where a
 * value is a letter for its kind (see crm_chain_value_add) and its text: the canonical text never holds a value, so the values of a change can be erased, with their salt, and its hash still be verified.
 *
 * Why a SHA-256 of our own (FIPS 180-4): the core's, when it is OpenSSL's, allocates and registers a resource for each
 * digest, which costs more than the few blocks hashed here, twice a row.
 */
#include "chain.h"

static void sha256_block(uint32 *state, const uint8 *block);
static void add_text(CrmSha256 *sha, const char *text);
static void add_int(CrmSha256 *sha, bool present, int64 value);

static const uint32 round_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/*
 * Start a digest.
 */
void
crm_sha256_init(CrmSha256 *sha)
{
	static const uint32 start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
									0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

	memcpy(sha->state, start, sizeof(start));
	sha->bytes = 0;
}

/*
 * Add bytes to a digest.
 */
void
crm_sha256_update(CrmSha256 *sha, const void *data, size_t len)
{
	const uint8 *p = data;
	size_t used = sha->bytes % 64;

	sha->bytes += len;
	if (used > 0)
	{
		size_t n = Min(len, 64 - used);

		memcpy(sha->block + used, p, n);
		p += n;
		len -= n;
		if (used + n < 64)
			return;
		sha256_block(sha->state, sha->block);
	}
	for (; len >= 64; p += 64, len -= 64)
		sha256_block(sha->state, p);
	if (len > 0)
		memcpy(sha->block, p, len);
}

/*
 * End a digest: 32 bytes.
 */
void
crm_sha256_final(CrmSha256 *sha, uint8 *digest)
{
	uint64 bits = sha->bytes * 8;
	size_t used = sha->bytes % 64;

	sha->block[used++] = 0x80;
	if (used > 56)
	{
		memset(sha->block + used, 0, 64 - used);
		sha256_block(sha->state, sha->block);
		used = 0;
	}
	memset(sha->block + used, 0, 56 - used);
	for (int i = 0; i < 8; i++)
		sha->block[56 + i] = (uint8) (bits >> (56 - 8 * i));
	sha256_block(sha->state, sha->block);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 4; j++)
			digest[4 * i + j] = (uint8) (sha->state[i] >> (24 - 8 * j));
}

#define ROTR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

/*
 * One block of 64 bytes.
 */
static void
sha256_block(uint32 *state, const uint8 *block)
{
	uint32 w[64];
	uint32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6],
		   h = state[7];

	for (int i = 0; i < 16; i++)
		w[i] = ((uint32) block[4 * i] << 24) | ((uint32) block[4 * i + 1] << 16) | ((uint32) block[4 * i + 2] << 8) |
			   block[4 * i + 3];
	for (int i = 16; i < 64; i++)
	{
		uint32 s0 = ROTR(w[i - 15], 7) ^ ROTR(w[i - 15], 18) ^ (w[i - 15] >> 3);
		uint32 s1 = ROTR(w[i - 2], 17) ^ ROTR(w[i - 2], 19) ^ (w[i - 2] >> 10);

		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	for (int i = 0; i < 64; i++)
	{
		uint32 t1 = h + (ROTR(e, 6) ^ ROTR(e, 11) ^ ROTR(e, 25)) + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
		uint32 t2 = (ROTR(a, 2) ^ ROTR(a, 13) ^ ROTR(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

		h = g;
		g = f;
		f = e;
		e = d + t1;
		d = c;
		c = b;
		b = a;
		a = t1 + t2;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

/*
 * Start the digest of a field; then come its old and its new value, then crm_sha256_final.
 */
void
crm_chain_value_begin(CrmSha256 *sha, const uint8 *salt, const char *field)
{
	crm_sha256_init(sha);
	crm_sha256_update(sha, salt, CRM_SALT_LEN);
	crm_sha256_update(sha, field, strlen(field));
}

/*
 * Add a value to the digest of its field. kind: n null, t true, f false, s string, d number, j array or object, for which value
 * is the text.
 */
void
crm_chain_value_add(CrmSha256 *sha, char kind, const void *value, size_t len)
{
	char start[2] = {'\0', kind};

	crm_sha256_update(sha, start, 2);
	if (len > 0)
		crm_sha256_update(sha, value, len);
}

/*
 * Start a change's hash: everything but the fields. prev: 32 bytes, NULL for the first change of a record.
 */
void
crm_chain_begin(CrmSha256 *sha, const uint8 *prev, const CrmChange *change)
{
	crm_sha256_init(sha);
	if (prev)
		crm_sha256_update(sha, prev, CRM_HASH_LEN);
	crm_sha256_update(sha, "crm1\n", 5);
	add_text(sha, change->object);
	add_int(sha, true, change->record_id);
	add_int(sha, change->has_account, change->account_id);
	add_int(sha, true, change->version);
	add_text(sha, (const char[]){change->op, '\0'});
	add_int(sha, true, change->at);
	add_text(sha, change->actor);
	add_text(sha, change->session_name);
	add_text(sha, change->endpoint);
	add_text(sha, change->client_version);
	add_int(sha, change->has_op_seq, change->op_seq);
	add_text(sha, change->note);
}

/*
 * Add a field's digest to a change's hash. The caller comes in byte order of the names.
 */
void
crm_chain_field(CrmSha256 *sha, const char *field, const uint8 *digest)
{
	static const char hex[] = "0123456789abcdef";
	char line[2 + 2 * CRM_HASH_LEN];

	crm_sha256_update(sha, field, strlen(field));
	line[0] = '=';
	for (int i = 0; i < CRM_HASH_LEN; i++)
	{
		line[1 + 2 * i] = hex[digest[i] >> 4];
		line[2 + 2 * i] = hex[digest[i] & 15];
	}
	line[1 + 2 * CRM_HASH_LEN] = '\n';
	crm_sha256_update(sha, line, sizeof(line));
}

/*
 * A line of text, escaped so that no value can look like two lines.
 */
static void
add_text(CrmSha256 *sha, const char *text)
{
	if (text == NULL)
	{
		crm_sha256_update(sha, "\\N\n", 3);
		return;
	}
	while (*text)
	{
		size_t n = strcspn(text, "\\\n");

		crm_sha256_update(sha, text, n);
		text += n;
		if (*text)
		{
			crm_sha256_update(sha, *text == '\n' ? "\\n" : "\\\\", 2);
			text++;
		}
	}
	crm_sha256_update(sha, "\n", 1);
}

/*
 * A line with a number.
 */
static void
add_int(CrmSha256 *sha, bool present, int64 value)
{
	char digits[32];

	if (!present)
	{
		crm_sha256_update(sha, "\\N\n", 3);
		return;
	}
	crm_sha256_update(sha, digits, snprintf(digits, sizeof(digits), INT64_FORMAT "\n", value));
}
