/*
 * forecast.c
 *		Aggregate crm.forecast_distribution: the SQL face of distribution.c.
 *
 * What this file does not do: the arithmetic. No locks. Memory: the deals in the aggregate's context.
 */
#include "crm.h"

#include <math.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "forecast/distribution.h"
#include "funcapi.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(crm_forecast_trans);
PG_FUNCTION_INFO_V1(crm_forecast_final);

typedef struct ForecastState
{
	int64 n;
	int64 room;
	double shock;
	ForecastDeal *deal;
} ForecastState;

/*
 * Collect a deal. A row without value or probability is refused: a sum that left it out in silence would look complete.
 */
Datum
crm_forecast_trans(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	ForecastState *state = PG_ARGISNULL(0) ? NULL : (ForecastState *) PG_GETARG_POINTER(0);
	ForecastDeal deal;
	double shock;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("forecast_distribution is called as an aggregate only")));
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("value, probability and shock must not be null")));
	deal.value = PG_GETARG_FLOAT8(1);
	deal.p = PG_GETARG_FLOAT8(2);
	shock = PG_GETARG_FLOAT8(3);
	if (!(deal.value >= 0 && deal.value <= 1e18))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a value must be from 0 to 1e18, not %g", deal.value)));
	if (!(deal.p >= 0 && deal.p <= 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a probability must be from 0 to 1, not %g", deal.p)));
	if (!(shock >= 0 && shock <= 10))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a shock must be from 0 to 10, not %g", shock)));
	if (!state)
	{
		state = MemoryContextAllocZero(context, sizeof(ForecastState));
		state->shock = shock;
		state->room = 64;
		state->deal = MemoryContextAlloc(context, sizeof(ForecastDeal) * state->room);
	}
	if (shock != state->shock)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the shock must be the same for every deal")));
	if (state->n == state->room)
	{
		state->room *= 2;
		state->deal = repalloc_huge(state->deal, sizeof(ForecastDeal) * state->room);
	}
	state->deal[state->n++] = deal;
	PG_RETURN_POINTER(state);
}

/*
 * The distribution as a row. No deals: everything is 0 and there is no floor.
 */
Datum
crm_forecast_final(PG_FUNCTION_ARGS)
{
	ForecastState *state = PG_ARGISNULL(0) ? NULL : (ForecastState *) PG_GETARG_POINTER(0);
	ForecastSum sum = {0, 0, 0, 0, NAN};
	TupleDesc desc;
	Datum values[5];
	bool nulls[5] = {false, false, false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (state)
	{
		/* sorted in place: a copy, since a window may add rows and ask again */
		ForecastDeal *deal = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ForecastDeal) * (state->n + 1));

		memcpy(deal, state->deal, sizeof(ForecastDeal) * state->n);
		sum = crm_forecast_sum(deal, state->n, state->shock);
		pfree(deal);
	}
	values[0] = Float8GetDatum(sum.mean);
	values[1] = Float8GetDatum(sum.low);
	values[2] = Float8GetDatum(sum.mid);
	values[3] = Float8GetDatum(sum.high);
	nulls[4] = isnan(sum.floor);
	values[4] = Float8GetDatum(sum.floor);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
