/*
 * From scored pairs to clusters: greedy correlation clustering.
 *
 * Edges are taken from the surest down. Two clusters become one if the mean of the log odds
 * of all pairs between them, each bounded, is above the threshold; pairs that were no candidates
 * are scored when they are needed. So one strong edge cannot chain two groups that disagree.
 *
 * Before the edges come people's decisions: rows that are one are joined, rows that are two never are, by
 * any chain of others; where the two contradict each other, what keeps apart holds. A pair with a veto (another
 * branch, another region: crm_is_apart) keeps its clusters apart likewise.
 *
 * Ties are broken by the rows' content order (their numbers), and each edge is
 * judged once in each state of its clusters.
 *
 * Memory: four bytes a row and the sorted edges; freed with the matcher.
 */
#ifdef CRM_STANDALONE
#include <stdlib.h>
#else
#include "postgres.h"
#endif
#include <math.h>
#include <string.h>

#include "match/match.h"

/* Two clusters that were found to be two, and their sizes then. */
typedef struct Refused
{
	uint64_t key;
	uint32_t state;
} Refused;

#define REFUSED_SLOTS ((size_t) 1 << 20)

/* Order of edges for qsort: the surest first; equal ones by row. */
int
crm_edge_compare(const void *a, const void *b)
{
	const CrmEdge *p = a;
	const CrmEdge *q = b;

	if (p->w != q->w)
		return p->w > q->w ? -1 : 1;
	if (p->a != q->a)
		return p->a < q->a ? -1 : 1;
	return p->b < q->b ? -1 : p->b > q->b;
}

/* The root of a row, with path halving. */
static uint32_t
root(uint32_t *parent, uint32_t x)
{
	while (parent[x] != x)
	{
		parent[x] = parent[parent[x]];
		x = parent[x];
	}
	return x;
}

/* Evidence of one pair for a merge: bounded, so that one pair does not outvote all; *apart is set by a veto. */
static double
vote(CrmMatcher *m, uint32_t a, uint32_t b, bool *apart)
{
	uint64_t pattern = crm_compare_rows(m, a, b);
	double s = crm_score(m, a, b, pattern);

	*apart |= crm_is_apart(m, pattern);
	return s > 8 ? 8 : s < -8 ? (s < -25 ? -100 : -8) : s;
}

/* The rows that each row must not be with: a list of links for each, by their index and one; 0 ends it. */
typedef struct Apart
{
	const CrmLink *link;
	uint32_t *first; /* by row */
	uint32_t *next;  /* by link and side */
} Apart;

/* Order of links: by row. */
static int
compare_links(const void *a, const void *b)
{
	const CrmLink *p = a;
	const CrmLink *q = b;

	if (p->a != q->a)
		return p->a < q->a ? -1 : 1;
	return p->b < q->b ? -1 : p->b > q->b;
}

/* Lists who must not be with whom. */
static void
list_apart(Apart *x, const CrmMatcher *m)
{
	memset(x, 0, sizeof(*x));
	if (m->links == 0)
		return;
	x->link = m->link;
	x->first = crm_huge_alloc(m->rows * sizeof(uint32_t));
	x->next = crm_huge_alloc(m->links * 2 * sizeof(uint32_t));
	for (size_t i = 0; i < m->links; i++)
		if (!m->link[i].same)
			for (int side = 0; side < 2; side++)
			{
				uint32_t row = side == 0 ? m->link[i].a : m->link[i].b;

				x->next[2 * i + side] = x->first[row];
				x->first[row] = (uint32_t) (2 * i + side) + 1;
			}
}

/* True if a member of the cluster of root a must not be with one of the cluster of root b. */
static bool
must_not(const Apart *x, uint32_t *parent, const uint32_t *next, uint32_t a, uint32_t b)
{
	uint32_t row = a;

	if (x->first == NULL)
		return false;
	do
	{
		for (uint32_t k = x->first[row]; k != 0; k = x->next[k - 1])
		{
			const CrmLink *l = &x->link[(k - 1) / 2];

			if (root(parent, (k - 1) % 2 == 0 ? l->b : l->a) == b)
				return true;
		}
		row = next[row];
	} while (row != a);
	return false;
}

/* Makes one cluster of two. */
static void
join_roots(uint32_t *parent, uint32_t *next, uint32_t *size, uint32_t a, uint32_t b)
{
	uint32_t t;

	if (size[a] < size[b])
	{
		t = a;
		a = b;
		b = t;
	}
	parent[b] = a;
	size[a] += size[b];
	t = next[a];
	next[a] = next[b];
	next[b] = t;
}

/* Fills m->cluster: the smallest row of each row's cluster. threshold is a probability. */
void
crm_cluster(CrmMatcher *m, double threshold)
{
	uint32_t n = m->rows;
	uint32_t *parent = crm_huge_alloc((size_t) n * sizeof(uint32_t));
	uint32_t *next = crm_huge_alloc((size_t) n * sizeof(uint32_t)); /* ring of members */
	uint32_t *size = crm_huge_alloc((size_t) n * sizeof(uint32_t));
	Refused *refused = crm_huge_alloc(REFUSED_SLOTS * sizeof(Refused));
	double cut = log(threshold / (1 - threshold));
	Apart apart;

	for (uint32_t i = 0; i < n; i++)
	{
		parent[i] = next[i] = i;
		size[i] = 1;
	}
	if (m->links > 1)
		qsort(m->link, m->links, sizeof(CrmLink), compare_links);
	list_apart(&apart, m);
	for (size_t i = 0; i < m->links; i++)
	{
		uint32_t a = root(parent, m->link[i].a);
		uint32_t b = root(parent, m->link[i].b);

		if (m->link[i].same && a != b && !must_not(&apart, parent, next, a, b))
			join_roots(parent, next, size, a, b);
	}
	if (m->edges > 1)
		qsort(m->edge, m->edges, sizeof(CrmEdge), crm_edge_compare);
	for (size_t e = 0; e < m->edges; e++)
	{
		uint32_t a;
		uint32_t b;
		bool join = true;

		if (m->edge[e].w < cut)
			break;
		if (e % 65536 == 0 && m->check != NULL)
			m->check();
		a = root(parent, m->edge[e].a);
		b = root(parent, m->edge[e].b);
		if (a == b)
			continue;
		if (size[a] > 1 || size[b] > 1)
		{
			uint64_t key = (((uint64_t) (a < b ? a : b) << 32 | (a < b ? b : a)) + 1) * UINT64_C(0x9E3779B97F4A7C15);
			uint32_t state = size[a] + size[b];
			Refused *slot = &refused[key >> 44];

			double sum = 0;
			uint32_t pairs = 0;
			uint32_t x = a;
			bool veto = false;

			/* Many edges join the same two clusters: they were judged by the first. */
			if (slot->key == key && slot->state == state)
				continue;
			/* Of very large clusters a fixed part votes. */
			do
			{
				uint32_t y = b;

				do
				{
					sum += vote(m, x, y, &veto);
					pairs++;
					y = next[y];
				} while (y != b && pairs < 2000);
				x = next[x];
			} while (x != a && pairs < 2000);
			join = sum / pairs >= cut && !veto;
			if (!join)
			{
				slot->key = key;
				slot->state = state;
			}
		}
		if (join && !must_not(&apart, parent, next, size[a] < size[b] ? a : b, size[a] < size[b] ? b : a))
			join_roots(parent, next, size, a, b);
	}
	if (m->cluster != NULL)
		crm_huge_free(m->cluster);
	m->cluster = crm_huge_alloc((size_t) n * sizeof(uint32_t));
	/* A cluster is called by its smallest row. */
	for (uint32_t i = 0; i < n; i++)
		size[i] = UINT32_MAX;
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t r = root(parent, i);

		if (size[r] == UINT32_MAX)
			size[r] = i;
		m->cluster[i] = size[r];
	}
	crm_huge_free(parent);
	crm_huge_free(next);
	crm_huge_free(size);
	crm_huge_free(refused);
	crm_huge_free(apart.first);
	crm_huge_free(apart.next);
}
