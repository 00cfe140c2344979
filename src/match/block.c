/*
 * Blocking: which pairs of rows are worth comparing.
 *
 * A kind of key is one blocking hash of a strong field, or two hashes of two
 * fields. All kinds that the fields allow are made, so that a pair is found as soon as any
 * two of its fields agree. Rows with an equal key form a block. Each kind may yield a
 * bounded number of pairs: blocks above the size where that bound is reached are
 * not dropped but divided by a further field.
 *
 * A pair is emitted in the first kind that has it; later kinds see that by comparing the
 * two rows' keys. Keys of blocks that were too large are cleared, so that they do not count.
 *
 * Memory: keys are kinds x rows x 4 bytes, pairs 8 bytes each, both bounded; freed with the matcher.
 */
#ifdef CRM_STANDALONE
#include <stdlib.h>
#else
#include "postgres.h"
#endif
#include <string.h>

#include "match/match.h"

#define KINDS_MAX 120

/* Which hashes of a meaning make a key alone, and which make one with another field's. */
typedef struct Plan
{
	CrmMeaning meaning;
	uint8_t alone;
	uint8_t paired;
	uint8_t small; /* alone too, in small tables: as many pairs as their blocks allow */
} Plan;

/* Tables of fewer rows can afford a pair for every shared name. */
#define SMALL 100000

static const Plan plans[] = {
	{CRM_M_COMPANY, 0x0F, 0x0F, 0x00}, {CRM_M_PERSON, 0x01, 0x0F, 0x0A},   {CRM_M_GIVEN, 0x00, 0x07, 0x03},
	{CRM_M_FAMILY, 0x00, 0x07, 0x03},  {CRM_M_PHONE, 0x03, 0x01, 0x00},    {CRM_M_EMAIL, 0x03, 0x03, 0x04},
	{CRM_M_ADDRESS, 0x0B, 0x05, 0x00}, {CRM_M_STREET, 0x00, 0x03, 0x01},   {CRM_M_CITY, 0x00, 0x03, 0x01},
	{CRM_M_REGION, 0x00, 0x00, 0x00},  {CRM_M_POSTCODE, 0x00, 0x03, 0x01}, {CRM_M_DATE, 0x01, 0x0F, 0x0E},
	{CRM_M_ID4, 0x00, 0x01, 0x00},     {CRM_M_USCC, 0x01, 0x01, 0x00},     {CRM_M_NATIONAL_ID, 0x01, 0x01, 0x00},
	{CRM_M_WEBSITE, 0x01, 0x01, 0x00}, {CRM_M_CATEGORY, 0x00, 0x00, 0x00}, {CRM_M_TEXT, 0x00, 0x01, 0x00},
	{CRM_M_ID, 0x01, 0x01, 0x00},
};

typedef struct Kind
{
	int f, g; /* g -1: alone */
	int i, j; /* which hashes */
} Kind;

typedef struct Entry
{
	uint32_t key;
	uint32_t row;
} Entry;

/* The plan of a meaning. */
static const Plan *
plan_of(CrmMeaning m)
{
	for (size_t k = 0; k < sizeof(plans) / sizeof(plans[0]); k++)
		if (plans[k].meaning == m)
			return &plans[k];
	return NULL;
}

/* Sorts entries by key, stable, by radix: the order does not depend on anything but the keys. */
static void
sort_entries(Entry *e, Entry *tmp, size_t n)
{
	for (int pass = 0; pass < 3; pass++)
	{
		static uint32_t count[2049];
		int shift = pass * 11;
		Entry *swap;

		memset(count, 0, sizeof(count));
		for (size_t i = 0; i < n; i++)
			count[((e[i].key >> shift) & 2047) + 1]++;
		for (int k = 0; k < 2048; k++)
			count[k + 1] += count[k];
		for (size_t i = 0; i < n; i++)
			tmp[count[(e[i].key >> shift) & 2047]++] = e[i];
		swap = e;
		e = tmp;
		tmp = swap;
	}
	/* Three passes: the result is in the other array. */
	memcpy(tmp, e, n * sizeof(Entry));
}

/* One key from two hashes. */
static inline uint32_t
mix32(uint32_t a, uint32_t b)
{
	uint64_t h = ((uint64_t) a << 32 | b) * UINT64_C(0x9E3779B97F4A7C15);

	h ^= h >> 29;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h >>= 32;
	return h == 0 ? 1 : (uint32_t) h;
}

/* The hash of a row's value. */
static inline uint32_t
hash_of(const CrmMatcher *m, int f, int i, uint32_t row)
{
	uint32_t v = m->field[f].val[row];

	return v == 0 ? 0 : m->field[f].value[v].atom[i];
}

/* Adds a pair; the smaller row first. */
static inline void
emit(CrmMatcher *m, uint32_t a, uint32_t b)
{
	if (m->pairs == m->pairs_cap)
	{
		size_t cap = m->pairs_cap < 1024 ? 65536 : m->pairs_cap * 2;

		m->pair = crm_huge_grow(m->pair, m->pairs_cap * sizeof(CrmPair), cap * sizeof(CrmPair));
		m->pairs_cap = cap;
	}
	m->pair[m->pairs].a = a < b ? a : b;
	m->pair[m->pairs++].b = a < b ? b : a;
}

/* True if two rows share a key of one of the first n kinds. */
static inline bool
share(const CrmMatcher *m, uint32_t a, uint32_t b, int n)
{
	const uint32_t *x = m->keys + (size_t) a * m->kinds;
	const uint32_t *y = m->keys + (size_t) b * m->kinds;
	uint32_t hit = 0;

	for (int k = 0; k < n; k++)
		hit |= (uint32_t) ((x[k] == y[k]) & (x[k] != 0));
	return hit != 0;
}

/* All kinds that the fields allow, the surest first. */
static int
make_kinds(const CrmMatcher *m, Kind *kind, int max)
{
	int n = 0;

	for (int f = 0; f < m->fields; f++)
	{
		const Plan *p = plan_of(m->field[f].meaning);

		for (int i = 0; i < CRM_ATOMS; i++)
			if (n < max && ((p->alone | (m->rows < SMALL ? p->small : 0)) >> i & 1))
				kind[n++] = (Kind){f, -1, i, 0};
	}
	/* First both by their own value, then one of them by a softer hash, then both. */
	for (int soft = 0; soft <= 8; soft++)
		for (int f = 0; f < m->fields; f++)
			for (int g = f + 1; g < m->fields; g++)
			{
				const Plan *p = plan_of(m->field[f].meaning);
				const Plan *q = plan_of(m->field[g].meaning);

				for (int i = 0; i < CRM_ATOMS; i++)
					for (int j = 0; j < CRM_ATOMS; j++)
						if (n < max && i + j == soft && (p->paired >> i & 1) && (q->paired >> j & 1))
							kind[n++] = (Kind){f, g, i, j};
			}
	return n;
}

/* Sorts pairs and takes out repetitions. */
static int
compare_pairs(const void *a, const void *b)
{
	const CrmPair *p = a;
	const CrmPair *q = b;

	if (p->a != q->a)
		return p->a < q->a ? -1 : 1;
	return p->b < q->b ? -1 : p->b > q->b;
}

/* Divides the rows of blocks that were too large by each further field; their pairs follow the others. */
static void
refine(CrmMatcher *m, const Kind *kd, Entry *big, size_t n, Entry *e, Entry *tmp, size_t limit, size_t *budget)
{
	for (int h = 0; h<m->fields && * budget> 0; h++)
	{
		size_t k = 0;

		if (h == kd->f || h == kd->g)
			continue;
		for (size_t x = 0; x < n; x++)
		{
			uint32_t a = hash_of(m, h, 0, big[x].row);

			if (a != 0)
			{
				e[k].key = mix32(big[x].key, a);
				e[k++].row = big[x].row;
			}
		}
		sort_entries(e, tmp, k);
		for (size_t x = 0; x < k;)
		{
			size_t y = x + 1;

			while (y < k && e[y].key == e[x].key)
				y++;
			if (y - x > 1 && y - x <= limit)
				for (size_t s = x; s < y; s++)
					for (size_t t = s + 1; t<y && * budget> 0; t++)
						if (!share(m, e[s].row, e[t].row, m->kinds))
						{
							emit(m, e[s].row, e[t].row);
							(*budget)--;
						}
			x = y;
		}
		if (m->check != NULL)
			m->check();
	}
}

/* Finds the candidate pairs of all rows. */
void
crm_block(CrmMatcher *m)
{
	Kind kind[KINDS_MAX];
	size_t n = m->rows;
	size_t limit[KINDS_MAX];
	size_t per_kind;
	size_t total;
	size_t extra;
	size_t base;
	Entry *e;
	Entry *tmp;
	Entry *big;
	int max = n > 1000000 ? 40 : n > 300000 ? 48 : n > 100000 ? 80 : KINDS_MAX;

	m->pairs = 0;
	m->kinds = make_kinds(m, kind, max);
	if (n < 2 || m->kinds == 0)
		return;
	per_kind = n < 100000 ? 600000 + 12 * n : 3 * n;
	total = n < 100000 ? 4000000 + 100 * n : 11500000 + 25 * n;
	m->keys = crm_huge_alloc(n * m->kinds * sizeof(uint32_t));
	e = crm_huge_alloc(n * sizeof(Entry));
	tmp = crm_huge_alloc(n * sizeof(Entry));
	big = crm_huge_alloc(n * sizeof(Entry));
	for (int k = 0; k < m->kinds; k++)
	{
		m->kind_fields[k] = UINT64_C(1) << kind[k].f | (kind[k].g >= 0 ? UINT64_C(1) << kind[k].g : 0);
		for (size_t r = 0; r < n; r++)
		{
			uint32_t a = hash_of(m, kind[k].f, kind[k].i, (uint32_t) r);

			if (a != 0 && kind[k].g >= 0)
			{
				uint32_t b = hash_of(m, kind[k].g, kind[k].j, (uint32_t) r);

				a = b == 0 ? 0 : mix32(a, b);
			}
			m->keys[r * m->kinds + k] = a;
		}
	}
	for (int k = 0; k < m->kinds; k++)
	{
		size_t entries = 0;
		size_t by_size[1025] = {0}; /* pairs in blocks of each size */
		size_t sum = 0;
		size_t size;

		for (size_t r = 0; r < n; r++)
			if (m->keys[r * m->kinds + k] != 0)
			{
				e[entries].key = m->keys[r * m->kinds + k];
				e[entries++].row = (uint32_t) r;
			}
		sort_entries(e, tmp, entries);
		for (size_t x = 0; x < entries;)
		{
			size_t y = x + 1;

			while (y < entries && e[y].key == e[x].key)
				y++;
			if (y - x <= 1024)
				by_size[y - x] += (y - x) * (y - x - 1) / 2;
			x = y;
		}
		for (size = 2; size <= 1024; size++)
		{
			sum += by_size[size];
			if (sum > per_kind && size > 4)
				break;
		}
		limit[k] = size - 1;
		for (size_t x = 0; x < entries;)
		{
			size_t y = x + 1;

			while (y < entries && e[y].key == e[x].key)
				y++;
			if (y - x > limit[k])
				for (size_t s = x; s < y; s++)
					m->keys[(size_t) e[s].row * m->kinds + k] = 0;
			else
				for (size_t s = x; s < y; s++)
					for (size_t t = s + 1; t < y; t++)
						if (m->pairs < total && !share(m, e[s].row, e[t].row, k))
							emit(m, e[s].row, e[t].row);
			x = y;
		}
		if (m->check != NULL)
			m->check();
	}
	base = m->pairs;
	extra = 1000000 + 4 * n;
	for (int k = 0; k < m->kinds && extra > 0; k++)
	{
		size_t bigs = 0;

		for (size_t r = 0; r < n; r++)
		{
			uint32_t a;

			if (m->keys[r * m->kinds + k] != 0)
				continue;
			a = hash_of(m, kind[k].f, kind[k].i, (uint32_t) r);
			if (a != 0 && kind[k].g >= 0)
			{
				uint32_t b = hash_of(m, kind[k].g, kind[k].j, (uint32_t) r);

				a = b == 0 ? 0 : mix32(a, b);
			}
			if (a != 0)
			{
				big[bigs].key = a;
				big[bigs++].row = (uint32_t) r;
			}
		}
		/* A field of so few values that nearly all rows are in large blocks is no key. */
		if (bigs > 1 && bigs < n / 2)
			refine(m, &kind[k], big, bigs, e, tmp, limit[k] < 50 ? limit[k] : 50, &extra);
	}
	if (m->pairs > base)
	{
		size_t to = base;

		qsort(m->pair + base, m->pairs - base, sizeof(CrmPair), compare_pairs);
		for (size_t x = base; x < m->pairs; x++)
			if (x == base || compare_pairs(&m->pair[x], &m->pair[x - 1]) != 0)
				m->pair[to++] = m->pair[x];
		m->pairs = to;
	}
	crm_huge_free(e);
	crm_huge_free(tmp);
	crm_huge_free(big);
}

/*
 * The keys of one row for a persisted index: fewer than blocking makes, since each is an entry of a B-tree, and none that
 * depends on other rows. Names and dates pair with each other and with places. Returns how many, at most max.
 */
int
crm_row_keys(const CrmMatcher *m, uint32_t row, int16_t *kinds, int64_t *keys, int max)
{
	int n = 0;

	for (int f = 0; f < m->fields; f++)
	{
		const CrmField *fd = &m->field[f];
		const Plan *p = plan_of(fd->meaning);
		bool core_f = fd->meaning == CRM_M_COMPANY || fd->meaning == CRM_M_PERSON || fd->meaning == CRM_M_GIVEN ||
					  fd->meaning == CRM_M_FAMILY || fd->meaning == CRM_M_DATE;
		const CrmValue *v = fd->val[row] != 0 ? &fd->value[fd->val[row]] : NULL;

		if (v == NULL)
			continue;
		/* Words stand for themselves here: which is the rarest is known only to the whole table. */
		for (int t = 0; t < v->tokens && n < max; t++)
		{
			kinds[n] = (int16_t) (2048 + f);
			keys[n++] = (int64_t) fd->word[fd->token[v->token + t]].hash;
		}
		for (int i = 0; i < CRM_ATOMS && n < max; i++)
			if ((p->alone >> i & 1) && v->atom[i] != 0 && !(v->tokens > 0 && i > 0))
			{
				kinds[n] = (int16_t) (f * 8 + i);
				keys[n++] = v->atom[i];
			}
		for (int g = f + 1; g < m->fields && core_f; g++)
		{
			const CrmField *gd = &m->field[g];
			const CrmValue *w = gd->val[row] != 0 ? &gd->value[gd->val[row]] : NULL;
			const Plan *q = plan_of(gd->meaning);

			if (w == NULL || (q->paired & 1) == 0 || n >= max || v->atom[0] == 0 || w->atom[0] == 0)
				continue;
			if (gd->meaning == CRM_M_TEXT || gd->meaning == CRM_M_PHONE || gd->meaning == CRM_M_EMAIL)
				continue;
			kinds[n] = (int16_t) (256 + f * 16 + g);
			keys[n++] = (int64_t) mix32(v->atom[0], w->atom[0]);
		}
	}
	return n;
}
