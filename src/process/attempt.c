/*
 * attempt.c
 *		Do something or nothing.
 *
 * The short ways of crm.ingest and crm.capture_lead try; what is in the way is undone, and the long way, which is written in SQL, does it
 * again and says what became of it.
 *
 * Locking: none. Memory: the caller's context is current in what is tried.
 */
#include "crm.h"

#include "access/xact.h"
#include "process/attempt.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * Whether something was done; if it says no or fails, nothing was. Whoever asks the server to stop is heard: after it was undone, for he may
 * be caught further up, where only his own subtransaction is ended.
 */
bool
crm_attempt(bool (*what)(void *), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext transaction = CurTransactionContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	/*
	 * What a subtransaction leaves behind is kept until the transaction ends, a page of memory for each however little it was: a million leads in
	 * one transaction would take 8 GB. So it goes to where the transaction around it keeps its own, as if there were no other.
	 */
	CurTransactionContext = transaction;
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		done = what(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		done = false;
	}
	PG_END_TRY();
	if (done)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error)
	{
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ASSERT_FAILURE)
			ReThrowError(error);
		elog(DEBUG1, "undone: %s", error->message);
		FreeErrorData(error);
	}
	return done;
}
