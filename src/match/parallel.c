/*
 * Parallel workers for the matcher's jobs: PostgreSQL's own, in a ParallelContext.
 *
 * The records and all that the jobs write lie in one area of dynamic shared memory, made once for a call;
 * workers are started for each job and end with it, so that none waits while the leader works
 * alone. The leader takes parts like everybody: with no worker free (max_parallel_workers), it does them all. What
 * comes out is the same in any case (team.c).
 *
 * There is no team at all, and no shared memory, for small tables (unless min_parallel_table_scan_size is 0, as for
 * queries), with max_parallel_workers_per_gather or max_parallel_workers at 0, inside another parallel query,
 * and where the shared memory file system has not the room (a container's /dev/shm often has 64 MB).
 *
 * Locking: the area's own; parts are taken by an atomic counter. Memory: the area belongs to the current resource owner, so an
 * error frees it, and to crm_team_end().
 */
#include "crm.h"

#include <sys/statvfs.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "storage/dsm_impl.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "match/parallel.h"

/* Starting workers takes some milliseconds for each job. */
#define ROWS_MIN 20000

#define KEY_JOB UINT64CONST(1)

typedef struct Team
{
	CrmTeam team;
	dsa_area *area;
	int workers;
} Team;

/* What a worker is told. */
typedef struct Order
{
	dsa_handle area;
	uint64 shared; /* where the CrmShared is */
	int job;
} Order;

extern PGDLLEXPORT void crm_match_worker(dsm_segment *seg, shm_toc *toc);

/* Memory of the area. */
static uint64_t
team_alloc(CrmTeam *team, size_t size)
{
	return dsa_allocate_extended(((Team *) team)->area, size, DSA_ALLOC_HUGE);
}

/* Its address here. */
static void *
team_at(CrmTeam *team, uint64_t where)
{
	return dsa_get_address(((Team *) team)->area, where);
}

/* Frees it. */
static void
team_release(CrmTeam *team, uint64_t where)
{
	dsa_free(((Team *) team)->area, where);
}

/* Starts workers, takes parts with them, and waits for them. */
static void
team_run(CrmTeam *team, CrmMatcher *m, CrmJob job)
{
	Team *t = (Team *) team;
	int workers = Min(t->workers, (int) m->shared->parts - 1);
	ParallelContext *pcxt;
	Order *order;

	if (workers < 1)
	{
		crm_work(m, job);
		return;
	}
	EnterParallelMode();
	pcxt = CreateParallelContext("crm", "crm_match_worker", workers);
	shm_toc_estimate_chunk(&pcxt->estimator, sizeof(Order));
	shm_toc_estimate_keys(&pcxt->estimator, 1);
	InitializeParallelDSM(pcxt);
	order = shm_toc_allocate(pcxt->toc, sizeof(Order));
	order->area = dsa_get_handle(t->area);
	order->shared = m->shared_at;
	order->job = (int) job;
	shm_toc_insert(pcxt->toc, KEY_JOB, order);
	LaunchParallelWorkers(pcxt);
	if (parallel_leader_participation || pcxt->nworkers_launched == 0)
		crm_work(m, job);
	WaitForParallelWorkersToFinish(pcxt);
	DestroyParallelContext(pcxt);
	ExitParallelMode();
}

/* Lets a worker be cancelled. */
static void
check(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* A worker: attaches to the area, takes parts, ends. It reads no table. */
void
crm_match_worker(dsm_segment *seg, shm_toc *toc)
{
	const Order *order = shm_toc_lookup(toc, KEY_JOB, false);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "crm match worker", ALLOCSET_DEFAULT_SIZES);
	Team t = {{false, team_alloc, team_at, team_release, NULL}, NULL, 0};
	CrmMatcher *m;

	MemoryContextSwitchTo(cxt);
	t.area = dsa_attach(order->area);
	m = palloc(sizeof(CrmMatcher));
	crm_adopt(m, &t.team, dsa_get_address(t.area, order->shared));
	m->check = check;
	crm_work(m, (CrmJob) order->job);
	dsa_detach(t.area);
}

/* True if the file system behind dynamic shared memory has room; where there is none to ask, the server answers itself. */
static bool
has_room(size_t size)
{
#ifdef __linux__
	struct statvfs fs;

	if (dynamic_shared_memory_type == DSM_IMPL_POSIX && statvfs("/dev/shm", &fs) == 0)
		return (size_t) fs.f_bavail * fs.f_frsize > size;
#endif
	return true;
}

/* A team for the rows that a matcher holds, NULL where one process is better or must do. */
CrmTeam *
crm_team_begin(const CrmMatcher *m)
{
	int workers = Min(max_parallel_workers_per_gather, max_parallel_workers);
	Team *t;

	if ((m->rows < ROWS_MIN && min_parallel_table_scan_size > 0) || workers < 1 || IsInParallelMode() ||
		InterruptHoldoffCount > 0 || !has_room(crm_shared_need(m)))
		return NULL;
	t = palloc0(sizeof(Team));
	t->team = (CrmTeam){false, team_alloc, team_at, team_release, team_run};
	t->workers = workers;
	t->area = dsa_create(LWTRANCHE_PARALLEL_QUERY_DSA);
	return &t->team;
}

/* Gives its memory back. */
void
crm_team_end(CrmTeam *team)
{
	if (team != NULL)
		dsa_detach(((Team *) team)->area);
}
