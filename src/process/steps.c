/*
 * steps.c
 *		Procedures that do long work in short transactions: crm.import_apply, crm.import_undo, crm.run_jobs, crm.maintenance, crm.tick.
 *
 * Each calls a definer function of the schema again and again, which does one bounded piece of the work and answers whether
 * there is more and what to tell the user. What a piece is, is decided in sql/api. The procedures are neither SECURITY DEFINER
 * nor do they have a SET clause, since under either a COMMIT fails. Inside a transaction block all pieces are that one transaction.
 *
 * Locking: none here. Memory: texts for the user live in the procedure's context until they are sent.
 */
#include "crm.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(crm_import_apply);
PG_FUNCTION_INFO_V1(crm_import_undo);
PG_FUNCTION_INFO_V1(crm_tick);
PG_FUNCTION_INFO_V1(crm_run_jobs);
PG_FUNCTION_INFO_V1(crm_maintenance);

/*
 * Run one piece after the other, each committed on its own unless the caller is in a transaction block, until the answer is that nothing is
 * left, or, where seconds are given, that time is over. The function's row is (more boolean, note text).
 */
static void
run_steps(FunctionCallInfo fcinfo, const char *sql, int nargs, Oid *types, Datum *args, int seconds)
{
	TimestampTz began = GetCurrentTimestamp();
	bool atomic = true;
	bool more = true;
	MemoryContext caller = CurrentMemoryContext;

	if (fcinfo->context && IsA(fcinfo->context, CallContext))
		atomic = ((CallContext *) fcinfo->context)->atomic;

	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	while (more)
	{
		char *note = NULL;
		bool isnull;
		int rc;
		HeapTuple row;

		CHECK_FOR_INTERRUPTS();
		rc = SPI_execute_with_args(sql, nargs, types, args, NULL, false, 1);
		if (rc != SPI_OK_SELECT || SPI_processed != 1)
			elog(ERROR, "unexpected answer of a step: %s", SPI_result_code_string(rc));
		row = SPI_tuptable->vals[0];
		more = DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull)) && !isnull;
		if (seconds > 0 && TimestampDifferenceExceeds(began, GetCurrentTimestamp(), seconds * 1000))
			more = false;
		note = SPI_getvalue(row, SPI_tuptable->tupdesc, 2);
		if (note != NULL)
			note = MemoryContextStrdup(caller, note);
		SPI_freetuptable(SPI_tuptable);
		if (!atomic)
			SPI_commit();
		if (note != NULL)
		{
			ereport(NOTICE, (errmsg_internal("%s", note)));
			pfree(note);
		}
	}
	SPI_finish();
}

/*
 * crm.import_apply(batch bigint, chunk int, order_by_value boolean)
 */
Datum
crm_import_apply(PG_FUNCTION_ARGS)
{
	Oid types[3] = {INT8OID, INT4OID, BOOLOID};
	Datum args[3];

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("arguments of import_apply must not be null")));
		args[i] = PG_GETARG_DATUM(i);
	}
	run_steps(fcinfo, "SELECT more, note FROM " CRM_SCHEMA "._import_apply_chunk($1, $2, $3)", 3, types, args, 0);
	PG_RETURN_VOID();
}

/*
 * crm.import_undo(batch bigint, chunk int)
 */
Datum
crm_import_undo(PG_FUNCTION_ARGS)
{
	Oid types[2] = {INT8OID, INT4OID};
	Datum args[2];

	for (int i = 0; i < 2; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("arguments of import_undo must not be null")));
		args[i] = PG_GETARG_DATUM(i);
	}
	run_steps(fcinfo, "SELECT more, note FROM " CRM_SCHEMA "._import_undo_chunk($1, $2)", 2, types, args, 0);
	PG_RETURN_VOID();
}

/*
 * One call of the clock. A standby's clock stands still: whatever schedules the calls may run on both servers, and goes on after a promotion.
 */
static Datum
run_clock(FunctionCallInfo fcinfo, const char *sql, int seconds)
{
	if (!RecoveryInProgress())
		run_steps(fcinfo, sql, 0, NULL, NULL, seconds);
	PG_RETURN_VOID();
}

/*
 * crm.tick()
 */
Datum
crm_tick(PG_FUNCTION_ARGS)
{
	/* together less than the minute after which the next call comes: a long queue never makes a timer wait for longer than that */
	run_clock(fcinfo, "SELECT more, note FROM " CRM_SCHEMA "._tick_step()", 20);
	return run_clock(fcinfo, "SELECT more, note FROM " CRM_SCHEMA "._tick_queues()", 20);
}

/*
 * crm.run_jobs()
 */
Datum
crm_run_jobs(PG_FUNCTION_ARGS)
{
	return run_clock(fcinfo, "SELECT more, note FROM " CRM_SCHEMA "._run_jobs_step()", 0);
}

/*
 * crm.maintenance()
 */
Datum
crm_maintenance(PG_FUNCTION_ARGS)
{
	run_clock(fcinfo, "SELECT more, note FROM " CRM_SCHEMA "._maintenance_step()", 0);
	/* pg_cron's own table is the caller's business, not the engine's */
	return run_clock(fcinfo, "SELECT more, note FROM " CRM_SCHEMA "._cron_purge()", 0);
}
