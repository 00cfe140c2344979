/*
 * Similarity kernels: Jaro-Winkler and the restricted Damerau-Levenshtein distance, bit-parallel.
 *
 * Both work on units of 16 bits, one a character, and on the first 64 of them: one
 * machine word holds a whole name. Sources: Winkler 1990; Hyyro 2002, "Explaining and
 * extending the bit-parallel approximate string matching algorithm of Myers".
 *
 * Memory: one static table of positions that every call leaves clean; a backend has
 * one thread. No locks.
 */
#include "match/sim.h"

/* Where each character of the left text stands, as bits; slots by the low byte, further ones in a short list. */
static uint64_t low[256];
static struct
{
	uint16_t c;
	uint64_t bits;
} high[CRM_SIM_MAX];
static int highs;

/* Enters the characters of a text. */
static void
load(const uint16_t *a, size_t n)
{
	highs = 0;
	for (size_t i = 0; i < n; i++)
	{
		if (a[i] < 256)
			low[a[i]] |= UINT64_C(1) << i;
		else
		{
			int k = 0;

			while (k < highs && high[k].c != a[i])
				k++;
			if (k == highs)
			{
				high[highs].c = a[i];
				high[highs++].bits = 0;
			}
			high[k].bits |= UINT64_C(1) << i;
		}
	}
}

/* Takes them out again. */
static void
unload(const uint16_t *a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i] < 256)
			low[a[i]] = 0;
}

/* The places of one character. */
static inline uint64_t
places(uint16_t c)
{
	if (c < 256)
		return low[c];
	for (int k = 0; k < highs; k++)
		if (high[k].c == c)
			return high[k].bits;
	return 0;
}

/* Jaro-Winkler similarity, 0 to 1, prefix weight 0.1 over four characters; 0 if a text is empty. */
double
crm_jaro_winkler(const uint16_t *a, size_t n, const uint16_t *b, size_t m)
{
	uint64_t used = 0;
	uint64_t hit = 0;
	uint64_t walk;
	int common = 0;
	int swapped = 0;
	int window;
	int prefix = 0;
	double jaro;

	if (n > CRM_SIM_MAX)
		n = CRM_SIM_MAX;
	if (m > CRM_SIM_MAX)
		m = CRM_SIM_MAX;
	if (n == 0 || m == 0)
		return 0;
	window = (int) (n > m ? n : m) / 2 - 1;
	if (window < 0)
		window = 0;
	load(a, n);
	for (int j = 0; j < (int) m; j++)
	{
		int from = j > window ? j - window : 0;
		int to = j + window; /* inclusive */
		uint64_t mask = to >= 63 ? ~UINT64_C(0) : (UINT64_C(1) << (to + 1)) - 1;
		uint64_t x;

		if (from > 63)
			break;
		mask &= ~UINT64_C(0) << from;
		x = places(b[j]) & mask & ~used;
		if (x != 0)
		{
			used |= x & (~x + 1);
			hit |= UINT64_C(1) << j;
			common++;
		}
	}
	unload(a, n);
	if (common == 0)
		return 0;
	walk = used;
	for (uint64_t h = hit; h != 0; h &= h - 1)
	{
		int i = __builtin_ctzll(walk);
		int j = __builtin_ctzll(h);

		swapped += a[i] != b[j];
		walk &= walk - 1;
	}
	jaro = ((double) common / (double) n + (double) common / (double) m + (common - swapped / 2) / (double) common) / 3;
	while (prefix < 4 && prefix < (int) n && prefix < (int) m && a[prefix] == b[prefix])
		prefix++;
	return jaro + prefix * 0.1 * (1 - jaro);
}

/* Edits (insert, delete, replace, swap of neighbours) between two texts. */
int
crm_osa_distance(const uint16_t *a, size_t n, const uint16_t *b, size_t m)
{
	uint64_t vp = ~UINT64_C(0);
	uint64_t vn = 0;
	uint64_t d0 = 0;
	uint64_t before = 0;
	uint64_t last;
	int score;

	if (n > CRM_SIM_MAX)
		n = CRM_SIM_MAX;
	if (m > CRM_SIM_MAX)
		m = CRM_SIM_MAX;
	if (n == 0 || m == 0)
		return (int) (n + m);
	score = (int) n;
	last = UINT64_C(1) << (n - 1);
	load(a, n);
	for (size_t j = 0; j < m; j++)
	{
		uint64_t pm = places(b[j]);
		uint64_t tr = (((~d0) & pm) << 1) & before;
		uint64_t hp;
		uint64_t hn;

		d0 = ((((pm & vp) + vp) ^ vp) | pm | vn) | tr;
		hp = vn | ~(d0 | vp);
		hn = d0 & vp;
		if (hp & last)
			score++;
		if (hn & last)
			score--;
		hp = (hp << 1) | 1;
		hn <<= 1;
		vp = hn | ~(d0 | hp);
		vn = hp & d0;
		before = pm;
	}
	unload(a, n);
	return score;
}
