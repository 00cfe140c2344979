/*
 * hmac.c
 *		HMAC-SHA256 (FIPS 180-4, RFC 2104) for the relay.
 *
 * libcurl does not hand out its own, and no other library is needed for the relay. It is checked against another implementation by
 * test/long/relay.py. Knows nothing of messages; allocates nothing.
 */
#include <stdint.h>
#include <string.h>

#include "hmac.h"

#define BLOCK 64

typedef struct Sha256
{
	uint32_t state[8];
	uint64_t length; /* bytes so far */
	unsigned char block[BLOCK];
} Sha256;

static const uint32_t round_constant[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t
rotate(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void
take_block(Sha256 *sha)
{
	uint32_t w[64];
	uint32_t s[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t) sha->block[4 * i] << 24 | (uint32_t) sha->block[4 * i + 1] << 16 |
			   (uint32_t) sha->block[4 * i + 2] << 8 | sha->block[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
			   (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(s, sha->state, sizeof(s));
	for (int i = 0; i < 64; i++)
	{
		uint32_t a = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
					 round_constant[i] + w[i];
		uint32_t b =
			(rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(uint32_t));
		s[4] += a;
		s[0] = a + b;
	}
	for (int i = 0; i < 8; i++)
		sha->state[i] += s[i];
}

static void
begin(Sha256 *sha)
{
	static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
									  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

	memcpy(sha->state, start, sizeof(start));
	sha->length = 0;
}

static void
add(Sha256 *sha, const void *data, size_t length)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < length; i++)
	{
		sha->block[sha->length++ % BLOCK] = p[i];
		if (sha->length % BLOCK == 0)
			take_block(sha);
	}
}

static void
end(Sha256 *sha, unsigned char out[CRM_HMAC_LENGTH])
{
	uint64_t bits = sha->length * 8;
	unsigned char tail[8];

	add(sha, "\x80", 1);
	while (sha->length % BLOCK != BLOCK - 8)
		add(sha, "", 1);
	for (int i = 0; i < 8; i++)
		tail[i] = bits >> (56 - 8 * i);
	add(sha, tail, 8);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 4; j++)
			out[4 * i + j] = sha->state[i] >> (24 - 8 * j);
}

/*
 * SHA-256 of a text.
 */
void
crm_sha256(const char *data, size_t length, unsigned char out[CRM_HMAC_LENGTH])
{
	Sha256 sha;

	begin(&sha);
	add(&sha, data, length);
	end(&sha, out);
}

/*
 * HMAC-SHA256 of a text under a key.
 */
void
crm_hmac_sha256(const char *key, size_t key_length, const char *data, size_t length, unsigned char out[CRM_HMAC_LENGTH])
{
	Sha256 sha;
	unsigned char pad[BLOCK] = {0};

	if (key_length > BLOCK)
		crm_sha256(key, key_length, pad);
	else
		memcpy(pad, key, key_length);
	for (int i = 0; i < BLOCK; i++)
		pad[i] ^= 0x36;
	begin(&sha);
	add(&sha, pad, BLOCK);
	add(&sha, data, length);
	end(&sha, out);
	for (int i = 0; i < BLOCK; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	begin(&sha);
	add(&sha, pad, BLOCK);
	add(&sha, out, CRM_HMAC_LENGTH);
	end(&sha, out);
}
