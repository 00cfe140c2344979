/*
 * invalidate.c
 *		One callback of the relation cache for the whole library.
 *
 * The core has room for ten of them in a backend, its own and those of all other modules included, and ends the session when they are used up.
 *
 * No locks. Memory: a small array of its own.
 */
#include "common/invalidate.h"

#define MAX_CALLBACKS 32

static RelcacheCallbackFunction callbacks[MAX_CALLBACKS];
static int ncallbacks = 0;

/*
 * Pass a message on. Messages may come at any time, so nobody who is called may fail.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < ncallbacks; i++)
		callbacks[i](arg, relid);
}

/*
 * Have a function called for every relation that changes, with its OID, or with 0 when any may have. Called when the library is loaded.
 */
void
crm_on_relation_change(RelcacheCallbackFunction callback)
{
	if (ncallbacks == MAX_CALLBACKS)
		elog(ERROR, "out of places for relation callbacks");
	if (ncallbacks == 0)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	callbacks[ncallbacks++] = callback;
}
