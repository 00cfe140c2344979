/*
 * crm.c
 *		Module entry: calls each engine's init function, nothing else.
 *
 * No init function may raise an error or read a catalog: the library is loaded in the middle of whatever query first
 * needs it, and by pg_upgrade.
 */
#include "crm.h"

#include "access/access.h"
#include "common/direct.h"
#include "common/row_update.h"
#include "fmgr.h"
#include "history/history.h"
#include "match/trigger.h"
#include "process/lead.h"
#include "utils/guc.h"
#include "writes/write.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Called once a backend, when the library is loaded.
 */
void
_PG_init(void)
{
	crm_direct_init();
	crm_row_update_init();
	crm_access_init();
	crm_history_init();
	crm_writes_init();
	crm_match_init();
	crm_lead_init();
	MarkGUCPrefixReserved("crm");
}
