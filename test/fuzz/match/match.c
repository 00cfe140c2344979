/*
 * match.c
 *		libFuzzer target: the matcher from rows to clusters, on fields of every meaning.
 *
 * The first byte picks the fields, the rest is cut into values at the bytes 0 and 1: a value ends, a row ends.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "match/match.h"

/* A team of one that does the parts in another order, as several processes would. */
static uint64_t
other_alloc(CrmTeam *team, size_t size)
{
	return (uint64_t) (uintptr_t) malloc(size) - 16;
}

static void *
other_at(CrmTeam *team, uint64_t where)
{
	return (void *) (uintptr_t) (where + 16);
}

static void
other_release(CrmTeam *team, uint64_t where)
{
	free((void *) (uintptr_t) (where + 16));
}

static void
other_run(CrmTeam *team, CrmMatcher *m, CrmJob job)
{
	uint32_t	parts = m->shared->parts;
	CrmMatcher	worker;

	crm_adopt(&worker, team, m->shared);
	for (uint32_t k = parts; k > 0; k--)
	{
		m->shared->part = k - 1;
		m->shared->parts = k;
		crm_work(k % 2 == 0 ? m : &worker, job);
	}
}

static CrmTeam other = {false, other_alloc, other_at, other_release, other_run};

/* Reads the rows. */
static void
read_rows(CrmMatcher *m, const uint8_t *data, size_t size)
{
	CrmMeaning	meanings[5];
	static const char *const names[5] = {"a", "b", "c", "d", "e"};
	size_t		from = 1;
	int			field = 0;
	uint32_t	row = 0;

	for (int f = 0; f < 5; f++)
		meanings[f] = (CrmMeaning) (CRM_M_COMPANY + (data[0] * 7 + f * (1 + data[0] % 5)) % (CRM_M_ID - CRM_M_COMPANY + 1));
	crm_matcher_init(m, meanings, names, 5);
	for (size_t i = 1; i <= size; i++)
	{
		if (i < size && data[i] > 1)
			continue;
		if (field == 0)
		{
			if (m->rows >= 200)
				break;
			row = crm_matcher_add_row(m);
		}
		if (i > from)
			crm_matcher_set(m, row, field, (const char *) data + from, i - from);
		field = i < size && data[i] == 1 ? 0 : (field + 1) % 5;
		from = i + 1;
	}
	crm_matcher_finish(m);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static CrmMatcher m;
	static CrmMatcher n;
	int16_t		kinds[256];
	int64_t		keys[256];

	if (size < 2)
		return 0;
	read_rows(&m, data, size);
	for (uint32_t r = 0; r < m.rows; r++)
		if (crm_row_keys(&m, r, kinds, keys, 256) > 256)
			abort();
	crm_block(&m);
	crm_train(&m);
	crm_score_all(&m, 0);
	crm_cluster(&m, 0.5);
	for (size_t e = 0; e < m.edges; e++)
	{
		uint64_t	ab = crm_compare_rows(&m, m.edge[e].a, m.edge[e].b);

		if (ab != crm_compare_rows(&m, m.edge[e].b, m.edge[e].a))
		{
			fprintf(stderr, "a comparison depends on its order\n");
			abort();
		}
		crm_is_certain(&m, m.edge[e].a, m.edge[e].b, ab, m.edge[e].w);
	}
	for (uint32_t r = 0; r < m.rows; r++)
		if (m.cluster[r] > r || m.cluster[m.cluster[r]] != m.cluster[r])
			abort();
	read_rows(&n, data, size);
	crm_share(&n, &other);
	crm_block(&n);
	crm_train(&n);
	crm_score_all(&n, 0);
	crm_cluster(&n, 0.5);
	if (m.edges != n.edges || memcmp(&m.weights, &n.weights, sizeof(m.weights)) != 0 || memcmp(m.cluster, n.cluster, m.rows * sizeof(uint32_t)) != 0)
	{
		fprintf(stderr, "the result depends on who does the parts\n");
		abort();
	}
	crm_matcher_free(&m);
	crm_matcher_free(&n);
	return 0;
}
