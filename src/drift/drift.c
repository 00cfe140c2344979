/*
 * drift.c
 *		SQL faces of the drift statistics: crm.psi, crm.ks_test, and the aggregate crm.page_hinkley.
 *
 * What this file does not do: find the data (sql/api/drift.sql). No locks. Memory: results in the caller's context, the state
 * of the aggregate in its own.
 */
#include "crm.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "drift/statistics.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(crm_psi);
PG_FUNCTION_INFO_V1(crm_ks_test);
PG_FUNCTION_INFO_V1(crm_page_hinkley_trans);
PG_FUNCTION_INFO_V1(crm_page_hinkley_final);

#define PSI_YELLOW 0.1
#define PSI_RED 0.25

typedef struct PageHinkley
{
	int64 n;
	int64 first; /* row of the first alarm, from 1 */
	int32 alarms;
	double sum;
	double least;
} PageHinkley;

/*
 * Elements of a float8 array without NULLs, NaN or infinity, as a copy.
 */
static double *
take_numbers(ArrayType *array, int *n, const char *what)
{
	Datum *datum;
	bool *isnull;
	double *number;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("%s must be a one-dimensional array", what)));
	deconstruct_array(array, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &datum, &isnull, n);
	number = palloc(sizeof(double) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		if (isnull[i] || !isfinite(DatumGetFloat8(datum[i])))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must hold finite numbers only", what)));
		number[i] = DatumGetFloat8(datum[i]);
	}
	return number;
}

/*
 * The result row of a function with OUT parameters.
 */
static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * crm.psi(expected float8[], actual float8[])
 */
Datum
crm_psi(PG_FUNCTION_ARGS)
{
	int n;
	int m;
	double *expected = take_numbers(PG_GETARG_ARRAYTYPE_P(0), &n, "expected");
	double *actual = take_numbers(PG_GETARG_ARRAYTYPE_P(1), &m, "actual");
	double floor;
	double psi;
	const char *level;
	Datum values[3];
	bool nulls[3] = {false, false, false};

	if (n != m || n == 0)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("expected and actual must have the same bins")));
	for (int i = 0; i < n; i++)
		if (expected[i] < 0 || actual[i] < 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("counts must not be negative")));
	psi = crm_drift_psi(expected, actual, n, &floor);
	nulls[0] = nulls[1] = isnan(psi);
	floor = fmax(floor, PSI_YELLOW);
	level = isnan(psi) ? "no_data" : psi <= floor ? "none" : psi > PSI_RED ? "red" : "yellow";
	values[0] = Float8GetDatum(psi);
	values[1] = Float8GetDatum(floor);
	values[2] = CStringGetTextDatum(level);
	PG_RETURN_DATUM(make_row(fcinfo, values, nulls));
}

/*
 * crm.ks_test(a float8[], b float8[])
 */
Datum
crm_ks_test(PG_FUNCTION_ARGS)
{
	int na;
	int nb;
	double *a = take_numbers(PG_GETARG_ARRAYTYPE_P(0), &na, "the first sample");
	double *b = take_numbers(PG_GETARG_ARRAYTYPE_P(1), &nb, "the second sample");
	double p;
	Datum values[2] = {0, 0};
	bool nulls[2] = {true, true};

	if (na > 0 && nb > 0)
	{
		values[0] = Float8GetDatum(crm_drift_ks(a, na, b, nb, &p));
		values[1] = Float8GetDatum(p);
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(make_row(fcinfo, values, nulls));
}

/*
 * Aggregate crm.page_hinkley(loss, baseline, delta, lambda): the sum of what the losses exceed baseline + delta by, above its least
 * value so far; above lambda is an alarm, after which the sum begins anew.
 */
Datum
crm_page_hinkley_trans(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	PageHinkley *state = PG_ARGISNULL(0) ? NULL : (PageHinkley *) PG_GETARG_POINTER(0);
	double number[4];

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("page_hinkley is called as an aggregate only")));
	for (int i = 0; i < 4; i++)
	{
		if (PG_ARGISNULL(i + 1))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("no argument of page_hinkley may be null")));
		number[i] = PG_GETARG_FLOAT8(i + 1);
		if (!isfinite(number[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("page_hinkley takes finite numbers only")));
	}
	if (number[2] < 0 || number[3] <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("delta must not be negative and lambda above 0")));
	if (!state)
		state = MemoryContextAllocZero(context, sizeof(PageHinkley));
	state->n++;
	state->sum += number[0] - number[1] - number[2];
	state->least = fmin(state->least, state->sum);
	if (state->sum - state->least > number[3])
	{
		if (state->alarms++ == 0)
			state->first = state->n;
		state->sum = state->least = 0;
	}
	PG_RETURN_POINTER(state);
}

Datum
crm_page_hinkley_final(PG_FUNCTION_ARGS)
{
	PageHinkley *state = PG_ARGISNULL(0) ? NULL : (PageHinkley *) PG_GETARG_POINTER(0);
	Datum values[3] = {Int32GetDatum(0), 0, Float8GetDatum(0)};
	bool nulls[3] = {false, true, false};

	if (state)
	{
		values[0] = Int32GetDatum(state->alarms);
		values[1] = Int64GetDatum(state->first);
		nulls[1] = state->alarms == 0;
		values[2] = Float8GetDatum(state->sum - state->least);
	}
	PG_RETURN_DATUM(make_row(fcinfo, values, nulls));
}
