/*
 * Work in parts, by one process or several: what they share, and who does which part.
 *
 * The records stand still once all rows are read, so that any process can look at them. A job
 * is cut into parts by what it is about (a kind of key, a piece of the pairs), never by who works,
 * and what a part writes does not depend on the others: the result is the same whoever does it.
 * How other processes come to it is not known here (parallel.c); alone, the parts are done in order.
 *
 * Memory: what is shared comes from the team. Locking: none; counters are atomic.
 */
#ifdef CRM_STANDALONE
#include <stdlib.h>
#else
#include "postgres.h"
#endif
#include <string.h>

#include "match/match.h"
#include "text/text.h"

/* Memory of a process that is alone. */
static uint64_t
alone_alloc(CrmTeam *team, size_t size)
{
	return (uint64_t) (uintptr_t) crm_text_alloc(size);
}

/* Its address. */
static void *
alone_at(CrmTeam *team, uint64_t where)
{
	return (void *) (uintptr_t) where;
}

/* Frees it. */
static void
alone_release(CrmTeam *team, uint64_t where)
{
	crm_text_release((void *) (uintptr_t) where);
}

/* Does all parts. */
static void
alone_run(CrmTeam *team, CrmMatcher *m, CrmJob job)
{
	crm_work(m, job);
}

CrmTeam crm_alone = {true, alone_alloc, alone_at, alone_release, alone_run};

/* The pointer of an array that all processes see, by its place in CrmShared.array; *size gets its bytes. */
static void **
array_of(CrmMatcher *m, int array, size_t *size)
{
	if (array < CRM_ARRAY_VAL)
	{
		CrmField *fd = &m->field[array / 6];

		switch (array % 6)
		{
			case 0: *size = (size_t) fd->values * sizeof(*fd->value); return (void **) &fd->value;
			case 1: *size = (size_t) fd->values * sizeof(*fd->atom); return (void **) &fd->atom;
			case 2: *size = (size_t) fd->details * sizeof(*fd->detail); return (void **) &fd->detail;
			case 3: *size = (size_t) fd->tokens * sizeof(*fd->token); return (void **) &fd->token;
			case 4: *size = (size_t) fd->words * sizeof(*fd->word); return (void **) &fd->word;
			default: *size = fd->pool_n * sizeof(*fd->pool); return (void **) &fd->pool;
		}
	}
	switch (array)
	{
		case CRM_ARRAY_VAL: *size = (size_t) m->rows * m->fields * sizeof(*m->val); return (void **) &m->val;
		case CRM_ARRAY_KEYS: return (void **) &m->keys;
		case CRM_ARRAY_PIECES: return (void **) &m->piece;
		default: return (void **) &m->sample;
	}
}

/* Memory that all processes see. */
uint64_t
crm_shared_alloc(CrmMatcher *m, size_t size)
{
	uint64_t now;
	uint64_t most;

	now = __atomic_add_fetch(&m->shared->bytes, size, __ATOMIC_RELAXED);
	most = __atomic_load_n(&m->shared->bytes_most, __ATOMIC_RELAXED);
	while (now > most &&
		   !__atomic_compare_exchange_n(&m->shared->bytes_most, &most, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return m->team->alloc(m->team, size > 0 ? size : 1);
}

/* Frees it. */
void
crm_shared_free(CrmMatcher *m, uint64_t where, size_t size)
{
	if (where == 0)
		return;
	__atomic_sub_fetch(&m->shared->bytes, size, __ATOMIC_RELAXED);
	m->team->release(m->team, where);
}

/* Makes one of the arrays that come and go. */
void *
crm_shared_array(CrmMatcher *m, int array, size_t size)
{
	size_t unused;
	void **p = array_of(m, array, &unused);

	m->shared->array[array] = crm_shared_alloc(m, size);
	*p = m->team->at(m->team, m->shared->array[array]);
	return *p;
}

/* And frees it. */
void
crm_shared_drop(CrmMatcher *m, int array, size_t size)
{
	size_t unused;

	crm_shared_free(m, m->shared->array[array], size);
	m->shared->array[array] = 0;
	*array_of(m, array, &unused) = NULL;
}

/* Bytes of shared memory that the work would take, with as many keys and pairs as there may be. */
size_t
crm_shared_need(const CrmMatcher *m)
{
	size_t n = m->rows;
	size_t sum = sizeof(CrmShared);

	for (int i = 0; i <= CRM_ARRAY_VAL; i++)
	{
		size_t size;

		if (i < CRM_ARRAY_VAL && i / 6 >= m->fields)
			continue;
		(void) array_of((CrmMatcher *) m, i, &size);
		sum += size;
	}
	return sum + crm_block_need(n);
}

/* Begins work in parts: the records go to where all of the team see them. No rows can be added from here on. */
void
crm_share(CrmMatcher *m, CrmTeam *team)
{
	m->team = team;
	m->shared_at = team->alloc(team, sizeof(CrmShared));
	m->shared = team->at(team, m->shared_at);
	memset(m->shared, 0, sizeof(CrmShared));
	m->shared->exact = team->alone;
	for (int f = 0; f < m->fields; f++)
	{
		/* To find values again is needed only while rows come. */
		crm_huge_free(m->field[f].slot);
		crm_huge_free(m->field[f].wslot);
		m->field[f].slot = m->field[f].wslot = NULL;
	}
	if (team->alone)
		return;
	for (int i = 0; i <= CRM_ARRAY_VAL; i++)
	{
		size_t size;
		void **p;
		void *old;

		if (i < CRM_ARRAY_VAL && i / 6 >= m->fields)
			continue;
		p = array_of(m, i, &size);
		old = *p;
		crm_shared_array(m, i, size);
		if (size > 0)
			memcpy(*p, old, size);
		crm_huge_free(old);
	}
}

/* Frees what is shared. */
void
crm_unshare(CrmMatcher *m)
{
	crm_block_free(m);
	for (int i = 0; i < CRM_ARRAYS; i++)
		if (m->shared->array[i] != 0)
			crm_shared_drop(m, i, 0);
	m->team->release(m->team, m->shared_at);
	m->shared = NULL;
}

/* In another process: the matcher that the leader shares. */
void
crm_adopt(CrmMatcher *m, CrmTeam *team, CrmShared *shared)
{
	memcpy(m, &shared->image, sizeof(*m));
	m->team = team;
	m->shared = shared;
	m->scratch = NULL;
	m->work[0] = m->work[1] = NULL;
	m->edge = NULL;
	m->cluster = NULL;
	for (int i = 0; i < CRM_ARRAYS; i++)
	{
		size_t size;

		if (i < CRM_ARRAY_VAL && i / 6 >= m->fields)
			continue;
		*array_of(m, i, &size) = shared->array[i] == 0 ? NULL : team->at(team, shared->array[i]);
	}
}

/* Does a job in parts; all of them are done when it comes back. */
void
crm_run(CrmMatcher *m, CrmJob job, uint32_t parts)
{
	m->shared->part = 0;
	m->shared->parts = parts;
	if (!m->team->alone)
		memcpy(&m->shared->image, m, sizeof(*m));
	m->team->run(m->team, m, job);
}

/* Takes one part after the other until none is left; every process of the team runs it. */
void
crm_work(CrmMatcher *m, CrmJob job)
{
	for (;;)
	{
		uint32_t part = __atomic_fetch_add(&m->shared->part, 1, __ATOMIC_RELAXED);

		if (part >= m->shared->parts)
			break;
		switch (job)
		{
			case CRM_JOB_SIZE: crm_block_size(m, part); break;
			case CRM_JOB_PAIRS: crm_block_pairs(m, part); break;
			case CRM_JOB_LEARN: crm_learn_part(m, part); break;
			case CRM_JOB_SCORE: crm_score_piece(m, part); break;
		}
		if (m->check != NULL)
			m->check();
	}
	for (int i = 0; i < 2; i++)
	{
		crm_huge_free(m->work[i]);
		m->work[i] = NULL;
	}
}
