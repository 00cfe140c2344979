/*
 * sha256.c
 *		SHA-256 (FIPS 180-4), by the processor's own instructions where it has them.
 *
 * Pure C on plain types, for the server and for the relay: nothing allocated, nothing that can fail, no locks. One thread: the first block
 * asks the processor which way it can go.
 *
 * Why one of our own: the server's, when it is OpenSSL's, allocates, fetches and registers a resource for each digest, which costs six
 * times what a field's one or two blocks cost here with the processor's instructions, and four times even where its context is
 * kept. The history makes a digest for each field of each row written. The relay is linked with no library that hands one out.
 * Other processors' instructions are left out until there is one to test them on.
 */
#include <string.h>

#include "sha256.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define HAVE_SHA_NI
#endif

typedef void (*BlockFunction)(uint32_t *state, const uint8_t *data, size_t blocks);

static void choose(uint32_t *state, const uint8_t *data, size_t blocks);
static void blocks_portable(uint32_t *state, const uint8_t *data, size_t blocks);

static BlockFunction blocks_of = choose;

static const uint32_t round_constants[64] = {
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
	static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
									  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

	memcpy(sha->state, start, sizeof(start));
	sha->bytes = 0;
}

/*
 * Add bytes to a digest. data may be NULL when len is 0.
 */
void
crm_sha256_update(CrmSha256 *sha, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t used = sha->bytes % CRM_SHA256_BLOCK;

	if (len == 0)
		return;
	sha->bytes += len;
	if (used > 0)
	{
		size_t n = CRM_SHA256_BLOCK - used;

		if (len < n)
		{
			memcpy(sha->block + used, p, len);
			return;
		}
		memcpy(sha->block + used, p, n);
		blocks_of(sha->state, sha->block, 1);
		p += n;
		len -= n;
	}
	if (len >= CRM_SHA256_BLOCK)
		blocks_of(sha->state, p, len / CRM_SHA256_BLOCK);
	memcpy(sha->block, p + len / CRM_SHA256_BLOCK * CRM_SHA256_BLOCK, len % CRM_SHA256_BLOCK);
}

/*
 * End a digest: 32 bytes.
 */
void
crm_sha256_final(CrmSha256 *sha, uint8_t *digest)
{
	uint64_t bits = sha->bytes * 8;
	size_t used = sha->bytes % CRM_SHA256_BLOCK;

	sha->block[used++] = 0x80;
	if (used > CRM_SHA256_BLOCK - 8)
	{
		memset(sha->block + used, 0, CRM_SHA256_BLOCK - used);
		blocks_of(sha->state, sha->block, 1);
		used = 0;
	}
	memset(sha->block + used, 0, CRM_SHA256_BLOCK - 8 - used);
	for (int i = 0; i < 8; i++)
		sha->block[CRM_SHA256_BLOCK - 8 + i] = (uint8_t) (bits >> (56 - 8 * i));
	blocks_of(sha->state, sha->block, 1);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 4; j++)
			digest[4 * i + j] = (uint8_t) (sha->state[i] >> (24 - 8 * j));
}

#define ROTR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

/*
 * Blocks of 64 bytes on any processor.
 */
static void
blocks_portable(uint32_t *state, const uint8_t *data, size_t blocks)
{
	for (; blocks > 0; blocks--, data += CRM_SHA256_BLOCK)
	{
		uint32_t w[64];
		uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6],
				 h = state[7];

		for (int i = 0; i < 16; i++)
			w[i] = ((uint32_t) data[4 * i] << 24) | ((uint32_t) data[4 * i + 1] << 16) |
				   ((uint32_t) data[4 * i + 2] << 8) | data[4 * i + 3];
		for (int i = 16; i < 64; i++)
		{
			uint32_t s0 = ROTR(w[i - 15], 7) ^ ROTR(w[i - 15], 18) ^ (w[i - 15] >> 3);
			uint32_t s1 = ROTR(w[i - 2], 17) ^ ROTR(w[i - 2], 19) ^ (w[i - 2] >> 10);

			w[i] = w[i - 16] + s0 + w[i - 7] + s1;
		}
		for (int i = 0; i < 64; i++)
		{
			uint32_t t1 =
				h + (ROTR(e, 6) ^ ROTR(e, 11) ^ ROTR(e, 25)) + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
			uint32_t t2 = (ROTR(a, 2) ^ ROTR(a, 13) ^ ROTR(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

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
}

#ifdef HAVE_SHA_NI

/* Four rounds with the words of m0, which become the words sixteen rounds later. (The last four times nobody reads them.) */
#define FOUR_ROUNDS(m0, m1, m2, m3, i)                                                                                 \
	do                                                                                                                 \
	{                                                                                                                  \
		__m128i wk = _mm_add_epi32(m0, _mm_loadu_si128((const __m128i *) (round_constants + 4 * (i))));                \
                                                                                                                       \
		cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);                                                                  \
		abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));                                         \
		m0 = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(m0, m1), _mm_alignr_epi8(m3, m2, 4)), m3);        \
	} while (0)

/*
 * Blocks of 64 bytes by the SHA extensions of x86. The instructions want the state as a, b, e, f and c, d, g, h, the first letter
 * highest.
 */
__attribute__((target("sha,sse4.1,ssse3"))) static void
blocks_sha_ni(uint32_t *state, const uint8_t *data, size_t blocks)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
	__m128i dcba = _mm_loadu_si128((const __m128i *) state);
	__m128i hgfe = _mm_loadu_si128((const __m128i *) (state + 4));
	__m128i cdab = _mm_shuffle_epi32(dcba, 0xb1);
	__m128i efgh = _mm_shuffle_epi32(hgfe, 0x1b);
	__m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
	__m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
	__m128i feba;
	__m128i dchg;

	for (; blocks > 0; blocks--, data += CRM_SHA256_BLOCK)
	{
		const __m128i *block = (const __m128i *) data;
		__m128i abef_before = abef;
		__m128i cdgh_before = cdgh;
		__m128i m0 = _mm_shuffle_epi8(_mm_loadu_si128(block), big_endian);
		__m128i m1 = _mm_shuffle_epi8(_mm_loadu_si128(block + 1), big_endian);
		__m128i m2 = _mm_shuffle_epi8(_mm_loadu_si128(block + 2), big_endian);
		__m128i m3 = _mm_shuffle_epi8(_mm_loadu_si128(block + 3), big_endian);

		for (int i = 0; i < 16; i += 4)
		{
			FOUR_ROUNDS(m0, m1, m2, m3, i);
			FOUR_ROUNDS(m1, m2, m3, m0, i + 1);
			FOUR_ROUNDS(m2, m3, m0, m1, i + 2);
			FOUR_ROUNDS(m3, m0, m1, m2, i + 3);
		}
		abef = _mm_add_epi32(abef, abef_before);
		cdgh = _mm_add_epi32(cdgh, cdgh_before);
	}
	feba = _mm_shuffle_epi32(abef, 0x1b);
	dchg = _mm_shuffle_epi32(cdgh, 0xb1);
	_mm_storeu_si128((__m128i *) state, _mm_blend_epi16(feba, dchg, 0xf0));
	_mm_storeu_si128((__m128i *) (state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

#endif

/*
 * The way this processor can go.
 */
static BlockFunction
best_blocks(void)
{
#ifdef HAVE_SHA_NI
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSSE3) && (c & bit_SSE4_1) &&
		__get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA))
		return blocks_sha_ni;
#endif
	return blocks_portable;
}

/*
 * The first blocks of the program choose for all that follow.
 */
static void
choose(uint32_t *state, const uint8_t *data, size_t blocks)
{
	blocks_of = best_blocks();
	blocks_of(state, data, blocks);
}
