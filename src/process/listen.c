/*
 * listen.c
 *		Whether a rule listens to an event.
 *
 * Every event asks, most are of no rule's interest. Does not look at what a rule says beyond the event that it is on.
 *
 * Locking: reads the configuration as it is now. Memory: the caller's.
 */
#include "crm.h"

#include "access/table.h"
#include "catalog/pg_collation.h"
#include "common/direct.h"
#include "process/listen.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/*
 * Is there a rule in force, or on trial, on an event?
 */
bool
crm_rules_listen(const char *event)
{
	Relation rel = table_open(crm_direct_table("config"), AccessShareLock);
	ScanKeyData key;
	bool found;

	/* the index holds rules in force and on trial alone, by an expression: what it is on; an expression's place is 0 */
	ScanKeyEntryInitialize(&key, 0, InvalidAttrNumber, BTEqualStrategyNumber, InvalidOid, DEFAULT_COLLATION_OID,
						   F_TEXTEQ, CStringGetTextDatum(event));
	found = crm_direct_find(rel, crm_direct_table("config_rule_on_idx"), 1, &key, NULL) != NULL;
	table_close(rel, NoLock);
	return found;
}
