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
 * Two jobs in parts (team.c), each part a kind: its blocks, then its pairs. The pairs' order is that of
 * kinds, blocks and rows, whoever found them. Where there are more than may be, the first in that order are
 * kept; several processes cannot know which these are, so one of them then does it alone.
 *
 * Memory, all bounded: keys are kinds x rows x 4 bytes, blocks at most 6 bytes a row and kind, pairs 12 bytes each.
 */
#ifdef CRM_STANDALONE
#include <stdlib.h>
#else
#include "postgres.h"
#endif
#include <string.h>

#include "match/match.h"
#include "text/text.h"

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
		uint32_t count[2049];
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
	uint32_t v = crm_value_of(m, f, row);

	return v == 0 ? 0 : m->field[f].atom[v][i];
}

/* One key from hashes of two fields; of fields whose values people swap it is the same either way. */
static inline uint32_t
pair_key(const CrmMatcher *m, int f, int g, bool like, uint32_t a, uint32_t b)
{
	if (like && b < a && (m->field[f].partner == g || m->field[g].partner == f))
		return mix32(b, a);
	return mix32(a, b);
}

/* A row's key of a kind, 0 none. */
static inline uint32_t
key_of(const CrmMatcher *m, int kind, uint32_t row)
{
	const struct CrmKind *kd = &m->kind[kind];
	uint32_t a = hash_of(m, kd->f, kd->i, row);
	uint32_t b;

	if (a == 0 || kd->g < 0)
		return a;
	b = hash_of(m, kd->g, kd->j, row);
	return b == 0 ? 0 : pair_key(m, kd->f, kd->g, kd->i == kd->j, a, b);
}

/* Where the pairs of one kind go. */
typedef struct Writer
{
	uint32_t kind;
	uint32_t pieces;
	uint32_t at; /* the open piece's number */
	uint32_t n;  /* pairs in it */
	CrmEdge *edge;
	size_t room; /* pairs that may still come, where one process knows it */
} Writer;

/* Begins the pairs of a kind. */
static void
begin_pairs(CrmMatcher *m, Writer *w, uint32_t kind)
{
	memset(w, 0, sizeof(*w));
	w->kind = kind;
	w->room = m->shared->exact ? m->pairs_max - m->shared->pairs : SIZE_MAX;
}

/* Closes the open piece. */
static void
end_piece(CrmMatcher *m, Writer *w)
{
	if (w->edge == NULL)
		return;
	m->piece[w->at].n = w->n;
	if (__atomic_add_fetch(&m->shared->pairs, w->n, __ATOMIC_RELAXED) > m->pairs_max)
		m->shared->overflow = 1;
	w->edge = NULL;
	w->n = 0;
}

/* Adds a pair, the smaller row first; false where no more may come. */
static inline bool
put_pair(CrmMatcher *m, Writer *w, uint32_t a, uint32_t b)
{
	if (w->room == 0)
		return false;
	if (w->edge == NULL || w->n == m->piece_size)
	{
		CrmPiece *p;

		end_piece(m, w);
		w->at = __atomic_fetch_add(&m->shared->pieces, 1, __ATOMIC_RELAXED);
		if (w->at >= m->pieces_cap)
			m->shared->overflow = 1;
		if (m->shared->overflow)
		{
			w->room = 0;
			return false;
		}
		p = &m->piece[w->at];
		p->kind = w->kind;
		p->piece = w->pieces++;
		p->n = 0;
		p->where = crm_shared_alloc(m, m->piece_size * sizeof(CrmEdge));
		w->edge = m->team->at(m->team, p->where);
	}
	w->edge[w->n].a = a < b ? a : b;
	w->edge[w->n++].b = a < b ? b : a;
	w->room--;
	return true;
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
make_kinds(CrmMatcher *m, int max)
{
	struct CrmKind *kind = m->kind;
	int n = 0;

	for (int f = 0; f < m->fields; f++)
	{
		const Plan *p = plan_of(m->field[f].meaning);

		for (int i = 0; i < CRM_ATOMS; i++)
			if (n < max && ((p->alone | (m->rows < SMALL ? p->small : 0)) >> i & 1))
				kind[n++] = (struct CrmKind){(int8_t) f, -1, (int8_t) i, 0};
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
							kind[n++] = (struct CrmKind){(int8_t) f, (int8_t) g, (int8_t) i, (int8_t) j};
			}
	return n;
}

/* Sorts pairs by their rows. */
static int
compare_pairs(const void *a, const void *b)
{
	const CrmEdge *p = a;
	const CrmEdge *q = b;

	if (p->a != q->a)
		return p->a < q->a ? -1 : 1;
	return p->b < q->b ? -1 : p->b > q->b;
}

/* Sorts pieces by kind, and by their order in it. */
static int
compare_pieces(const void *a, const void *b)
{
	const CrmPiece *p = a;
	const CrmPiece *q = b;

	if (p->kind != q->kind)
		return p->kind < q->kind ? -1 : 1;
	return p->piece < q->piece ? -1 : p->piece > q->piece;
}

/* The pairs of refined blocks, which may repeat. */
typedef struct Extra
{
	CrmEdge *edge;
	size_t n;
	size_t cap;
	size_t most;
} Extra;

/* Divides the rows of blocks that were too large by each further field; their pairs follow the others. */
static void
refine(CrmMatcher *m, const struct CrmKind *kd, const Entry *big, size_t n, Entry *e, Entry *tmp, size_t limit,
	   Extra *extra)
{
	for (int h = 0; h < m->fields && extra->n < extra->most; h++)
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
					for (size_t t = s + 1; t < y && extra->n < extra->most; t++)
						if (!share(m, e[s].row, e[t].row, m->kinds))
						{
							if (extra->n == extra->cap)
							{
								size_t cap = extra->cap == 0 ? 4096 : extra->cap * 2;

								extra->edge =
									crm_huge_grow(extra->edge, extra->cap * sizeof(CrmEdge), cap * sizeof(CrmEdge));
								extra->cap = cap;
							}
							extra->edge[extra->n].a = e[s].row < e[t].row ? e[s].row : e[t].row;
							extra->edge[extra->n++].b = e[s].row < e[t].row ? e[t].row : e[s].row;
						}
			x = y;
		}
		if (m->check != NULL)
			m->check();
	}
}

/* A buffer of one entry a row, made when a process first needs it. */
static Entry *
buffer(CrmMatcher *m, int which)
{
	if (m->work[which] == NULL)
		m->work[which] = crm_text_alloc((m->rows + 1) * sizeof(Entry));
	return m->work[which];
}

/*
 * Part of a job: the blocks of one kind. Keys of blocks that are too large are cleared; the others are
 * kept as a stream of sizes, each followed by that many rows.
 */
void
crm_block_size(CrmMatcher *m, uint32_t kind)
{
	size_t n = m->rows;
	size_t entries = 0;
	size_t by_size[1025] = {0}; /* pairs in blocks of each size */
	size_t rows_in[1025] = {0}; /* words of the stream that they take */
	size_t sum = 0;
	size_t words = 0;
	size_t size;
	size_t limit;
	Entry *e = buffer(m, 0);
	Entry *tmp = buffer(m, 1);
	uint32_t *stream;

	for (size_t r = 0; r < n; r++)
	{
		uint32_t key = key_of(m, (int) kind, (uint32_t) r);

		m->keys[r * m->kinds + kind] = key;
		if (key != 0)
		{
			e[entries].key = key;
			e[entries++].row = (uint32_t) r;
		}
	}
	sort_entries(e, tmp, entries);
	for (size_t x = 0; x < entries;)
	{
		size_t y = x + 1;

		while (y < entries && e[y].key == e[x].key)
			y++;
		if (y - x > 1 && y - x <= 1024)
		{
			by_size[y - x] += (y - x) * (y - x - 1) / 2;
			rows_in[y - x] += y - x + 1;
		}
		x = y;
	}
	for (size = 2; size <= 1024; size++)
	{
		sum += by_size[size];
		if (sum > m->per_kind && size > 4)
			break;
		words += rows_in[size];
	}
	limit = size - 1;
	m->shared->limit[kind] = (uint32_t) limit;
	m->shared->blocks_n[kind] = words;
	m->shared->blocks[kind] = crm_shared_alloc(m, words * sizeof(uint32_t));
	stream = m->team->at(m->team, m->shared->blocks[kind]);
	for (size_t x = 0; x < entries;)
	{
		size_t y = x + 1;

		while (y < entries && e[y].key == e[x].key)
			y++;
		if (y - x > limit)
			for (size_t s = x; s < y; s++)
				m->keys[(size_t) e[s].row * m->kinds + kind] = 0;
		else if (y - x > 1)
		{
			*stream++ = (uint32_t) (y - x);
			for (size_t s = x; s < y; s++)
				*stream++ = e[s].row;
		}
		x = y;
	}
}

/* Part of a job: the pairs of one kind that no kind before it has. */
void
crm_block_pairs(CrmMatcher *m, uint32_t kind)
{
	const uint32_t *stream = m->team->at(m->team, m->shared->blocks[kind]);
	size_t words = m->shared->blocks_n[kind];
	size_t ahead = 0;
	Writer w;

	begin_pairs(m, &w, kind);
	for (size_t x = 0; x < words && w.room > 0; x += stream[x] + 1)
	{
		const uint32_t *row = stream + x + 1;
		uint32_t n = stream[x];

		/* Keys lie anywhere; ask for those of the next blocks now. A size among the rows asks for some row's. */
		for (; ahead < words && ahead < x + n + 32; ahead++)
			if (stream[ahead] < m->rows)
				for (uint32_t k = 0; k <= kind; k += 16)
					__builtin_prefetch(m->keys + (size_t) stream[ahead] * m->kinds + k);
		for (uint32_t s = 0; s < n; s++)
			for (uint32_t t = s + 1; t < n; t++)
				if (!share(m, row[s], row[t], (int) kind) && !put_pair(m, &w, row[s], row[t]))
					goto full;
	}
full:
	end_piece(m, &w);
}

/* Frees the pairs found so far. */
static void
forget_pairs(CrmMatcher *m)
{
	uint32_t n = m->shared->pieces < m->pieces_cap ? m->shared->pieces : m->pieces_cap;

	for (uint32_t i = 0; i < n; i++)
		crm_shared_free(m, m->piece[i].where, m->piece_size * sizeof(CrmEdge));
	memset(m->piece, 0, m->pieces_cap * sizeof(CrmPiece));
	m->shared->pieces = 0;
	m->shared->pairs = 0;
	m->shared->overflow = 0;
	m->pairs = m->pieces = 0;
}

/* Frees pairs and keys. */
void
crm_block_free(CrmMatcher *m)
{
	if (m->piece != NULL)
	{
		forget_pairs(m);
		crm_shared_drop(m, CRM_ARRAY_PIECES, m->pieces_cap * sizeof(CrmPiece));
	}
	if (m->keys != NULL)
		crm_shared_drop(m, CRM_ARRAY_KEYS, (size_t) m->rows * m->kinds * sizeof(uint32_t));
}

/* The pairs of blocks that were too large. */
static void
refine_all(CrmMatcher *m)
{
	size_t n = m->rows;
	Extra extra = {NULL, 0, 0, 1000000 + 4 * n};
	Entry *e = crm_text_alloc((n + 1) * sizeof(Entry));
	Entry *tmp = crm_text_alloc((n + 1) * sizeof(Entry));
	Entry *big = crm_text_alloc((n + 1) * sizeof(Entry));
	Writer w;

	for (int k = 0; k < m->kinds && extra.n < extra.most; k++)
	{
		size_t bigs = 0;

		for (size_t r = 0; r < n; r++)
		{
			uint32_t a;

			if (m->keys[r * m->kinds + k] != 0)
				continue;
			a = key_of(m, k, (uint32_t) r);
			if (a != 0)
			{
				big[bigs].key = a;
				big[bigs++].row = (uint32_t) r;
			}
		}
		/* A field of so few values that nearly all rows are in large blocks is no key. */
		if (bigs > 1 && bigs < n / 2)
			refine(m, &m->kind[k], big, bigs, e, tmp, m->shared->limit[k] < 50 ? m->shared->limit[k] : 50, &extra);
	}
	crm_huge_free(e);
	crm_huge_free(tmp);
	crm_huge_free(big);
	if (extra.n == 0)
		return;
	qsort(extra.edge, extra.n, sizeof(CrmEdge), compare_pairs);
	/* These come above the most that the kinds bring. */
	m->pairs_max += extra.most;
	begin_pairs(m, &w, (uint32_t) m->kinds);
	for (size_t x = 0; x < extra.n; x++)
		if (x == 0 || compare_pairs(&extra.edge[x], &extra.edge[x - 1]) != 0)
			put_pair(m, &w, extra.edge[x].a, extra.edge[x].b);
	end_piece(m, &w);
	crm_huge_free(extra.edge);
}

/* The most kinds of key that a table of n rows has. */
static int
kinds_max(size_t n)
{
	return n > 1000000 ? 40 : n > 300000 ? 48 : n > 100000 ? 80 : CRM_KINDS_MAX;
}

/* The most pairs; the fuzzer has fewer, to come to the end of them. */
static size_t
pairs_max(size_t n)
{
#ifdef CRM_PAIRS_FEW
	return 4 * n;
#endif
	return n < 100000 ? 4000000 + 100 * n : 11500000 + 25 * n;
}

/* The most bytes that keys, blocks and pairs of a table of n rows take. */
size_t
crm_block_need(size_t n)
{
	return n * (size_t) kinds_max(n) * 10 + (pairs_max(n) + 1000000 + 4 * n) * sizeof(CrmEdge);
}

/* Finds the candidate pairs of all rows. */
void
crm_block(CrmMatcher *m)
{
	size_t n = m->rows;

	if (m->shared == NULL)
		crm_share(m, &crm_alone);
	m->pairs = 0;
	m->kinds = make_kinds(m, kinds_max(n));
	if (n < 2 || m->kinds == 0)
		return;
	m->per_kind = n < 100000 ? 600000 + 12 * n : 3 * n;
	m->pairs_max = pairs_max(n);
	m->piece_size = n < 8000 ? 1000 : n > 256000 ? 32000 : (uint32_t) (n / 8);
	/* Each kind leaves one piece that is not full; the refined pairs are few. */
	m->pieces_cap = (uint32_t) ((m->pairs_max + 1000000 + 4 * n) / m->piece_size) + 2 * CRM_KINDS_MAX;
	crm_shared_array(m, CRM_ARRAY_KEYS, n * m->kinds * sizeof(uint32_t));
	crm_shared_array(m, CRM_ARRAY_PIECES, m->pieces_cap * sizeof(CrmPiece));
	memset(m->piece, 0, m->pieces_cap * sizeof(CrmPiece));
	crm_run(m, CRM_JOB_SIZE, (uint32_t) m->kinds);
	crm_run(m, CRM_JOB_PAIRS, (uint32_t) m->kinds);
	if (m->shared->overflow && !m->shared->exact)
	{
		forget_pairs(m);
		m->shared->exact = true;
		m->shared->part = 0;
		crm_work(m, CRM_JOB_PAIRS);
	}
	for (int k = 0; k < m->kinds; k++)
		crm_shared_free(m, m->shared->blocks[k], m->shared->blocks_n[k] * sizeof(uint32_t));
	m->shared->overflow = 0;
	refine_all(m);
	m->pieces = m->shared->pieces;
	m->pairs = m->shared->pairs;
	qsort(m->piece, m->pieces, sizeof(CrmPiece), compare_pieces);
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
		uint32_t at = crm_value_of(m, f, row);
		const CrmValue *v = &fd->value[at];
		const uint32_t *atom = fd->atom[at];

		if (at == 0)
			continue;
		/* Words stand for themselves here: which is the rarest is known only to the whole table. */
		for (int t = 0; t < v->tokens && n < max; t++)
		{
			kinds[n] = (int16_t) (2048 + f);
			keys[n++] = (int64_t) fd->word[fd->token[v->token + t]].hash;
		}
		for (int i = 0; i < CRM_ATOMS && n < max; i++)
			if ((p->alone >> i & 1) && atom[i] != 0 && !(v->tokens > 0 && i > 0))
			{
				kinds[n] = (int16_t) (f * 8 + i);
				keys[n++] = atom[i];
			}
		for (int g = f + 1; g < m->fields && core_f; g++)
		{
			const CrmField *gd = &m->field[g];
			uint32_t other = gd->atom[crm_value_of(m, g, row)][0];
			const Plan *q = plan_of(gd->meaning);

			if ((q->paired & 1) == 0 || n >= max || atom[0] == 0 || other == 0)
				continue;
			if (gd->meaning == CRM_M_TEXT || gd->meaning == CRM_M_PHONE || gd->meaning == CRM_M_EMAIL)
				continue;
			kinds[n] = (int16_t) (256 + f * 16 + g);
			keys[n++] = (int64_t) pair_key(m, f, g, true, atom[0], other);
		}
	}
	return n;
}
