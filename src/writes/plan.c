/*
 * plan.c
 *		Kept plans by their text.
 *
 * The statements of crm.write are few, but an UPDATE sets whatever fields the patch changes: its text is its name. The SQL run here
 * names operators with their schema, for a plan is analysed again under whatever search_path the session has.
 *
 * Memory: plans live until the session ends; there are at most MAX_PLANS, later ones are used once.
 */
#include "crm.h"

#include "executor/spi.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "writes/plan.h"

#define MAX_PLANS 500
#define MAX_TEXT 2048

typedef struct KeptPlan
{
	char sql[MAX_TEXT]; /* hash key */
	SPIPlanPtr plan;
} KeptPlan;

static HTAB *plans = NULL;

/*
 * Run a statement, inside SPI and as whoever the current user is. Raises unless it ends as expected.
 */
void
crm_execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected)
{
	KeptPlan *kept = NULL;
	SPIPlanPtr plan = NULL;
	bool found = false;
	int rc;

	if (plans == NULL)
	{
		HASHCTL ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = MAX_TEXT;
		ctl.entrysize = sizeof(KeptPlan);
		ctl.hcxt = CacheMemoryContext;
		plans = hash_create("crm write plans", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	if (strlen(sql) < MAX_TEXT)
		kept = hash_search(plans, sql, HASH_FIND, NULL);
	if (kept)
		plan = kept->plan;
	else
	{
		plan = SPI_prepare(sql, nargs, types);
		if (plan == NULL)
			elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
		if (strlen(sql) < MAX_TEXT && hash_get_num_entries(plans) < MAX_PLANS)
		{
			if (SPI_keepplan(plan) != 0)
				elog(ERROR, "could not keep a plan");
			kept = hash_search(plans, sql, HASH_ENTER, &found);
			kept->plan = plan;
		}
	}
	rc = SPI_execute_plan(plan, values, nulls, false, 0);
	if (rc != expected)
		elog(ERROR, "could not execute a statement: %s", SPI_result_code_string(rc));
}
