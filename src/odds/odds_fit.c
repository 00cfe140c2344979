/*
 * odds_fit.c
 *		Aggregate crm._odds_fit: the pool of lattice models of a history of cases, as one model.
 *
 * It is the end state of the backtest: the experts' weights come from predicting the last months, the experts themselves from a refit at the end.
 *
 * What this file does not do: decide what a case's row is (sql/api/odds.sql). No locks. Memory: the state in the aggregate's context, the run in a
 * named child of the caller's.
 */
#include "crm.h"

#include <math.h>

#include "fmgr.h"
#include "odds/cases.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(crm_odds_fit_trans);
PG_FUNCTION_INFO_V1(crm_odds_fit_final);

#define REFIT_EVERY (30.0 * 86400.0) /* seconds */
#define REFITS 6                     /* from which the experts' weights are learned */

typedef struct FitState
{
	CaseRows *rows;
	double as_of;
	LatticeFitOptions options;
} FitState;

/*
 * crm._odds_fit(id text, case_id text, dims text[], entered float8, labelled float8, outcome float8, as_of float8, options jsonb): times in
 * seconds; labelled and outcome are NULL for an open case; as_of and options are those of the first row.
 */
Datum
crm_odds_fit_trans(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	MemoryContext old;
	FitState *state = PG_ARGISNULL(0) ? NULL : (FitState *) PG_GETARG_POINTER(0);
	LatticeText value[LATTICE_MAX_DIMS];
	LatticeText case_id;
	text *case_text;
	ArrayType *dims;
	const char *id;
	int ndims;
	double entered;
	double labelled;
	double outcome;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("_odds_fit is called as part of an aggregate only")));
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3) || PG_ARGISNULL(4) || PG_ARGISNULL(7) ||
		PG_ARGISNULL(8) || PG_ARGISNULL(5) != PG_ARGISNULL(6))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a row of a case lacks a value")));
	id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	case_text = PG_GETARG_TEXT_PP(2);
	case_id.text = VARDATA_ANY(case_text);
	case_id.len = VARSIZE_ANY_EXHDR(case_text);
	dims = PG_GETARG_ARRAYTYPE_P(3);
	ndims = crm_lattice_take_dims(dims, value);
	entered = PG_GETARG_FLOAT8(4);
	labelled = PG_ARGISNULL(5) ? INFINITY : PG_GETARG_FLOAT8(5);
	outcome = PG_ARGISNULL(6) ? 0 : PG_GETARG_FLOAT8(6);
	crm_lattice_check_outcome(outcome);
	if (!isfinite(entered) || isnan(labelled) || labelled < entered)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the times of a case are out of order")));

	old = MemoryContextSwitchTo(context);
	if (!state)
	{
		state = palloc0(sizeof(FitState));
		state->rows = crm_cases_create(ndims, false);
		state->as_of = PG_GETARG_FLOAT8(7);
		crm_lattice_read_options(DatumGetJsonbPCopy(PG_GETARG_DATUM(8)), ndims, &state->options);
		for (int q = 0; q < state->options.npriors; q++)
			crm_lattice_add_value(state->rows->values, state->options.prior[q].dim, state->options.prior[q].value.text,
								  state->options.prior[q].value.len, true);
	}
	if (ndims != state->rows->values->ndims)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("rows of different numbers of dimensions")));
	crm_cases_add(state->rows, id, &case_id, value, entered, labelled, outcome,
				  entered >= state->as_of - REFITS * REFIT_EVERY ? 1 : 0);
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

/*
 * Run the history and answer the pool as it stands at as_of.
 */
Datum
crm_odds_fit_final(PG_FUNCTION_ARGS)
{
	FitState *state = PG_ARGISNULL(0) ? NULL : (FitState *) PG_GETARG_POINTER(0);
	MemoryContext work;
	MemoryContext old;
	LatticePrior *prior;
	double refit_at[REFITS + 1];
	CaseRun run;
	bytea *flat;

	if (!state)
		PG_RETURN_NULL();
	work = AllocSetContextCreate(CurrentMemoryContext, "crm odds fit", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work);
	prior = palloc0(sizeof(LatticePrior) * (state->options.npriors + 1));
	for (int q = 0; q < state->options.npriors; q++)
	{
		const LatticeFitPrior *given = &state->options.prior[q];

		prior[q].dim = given->dim;
		prior[q].code = crm_lattice_find_value(state->rows->values, given->dim, given->value.text, given->value.len);
		prior[q].p = given->p;
		prior[q].strength = given->strength;
	}
	for (int k = 0; k <= REFITS; k++)
		refit_at[k] = state->as_of - (REFITS - k) * REFIT_EVERY;
	crm_cases_run(state->rows, refit_at, REFITS + 1, prior, state->options.npriors, &run);
	crm_lattice_drop_idle_experts(run.model);
	MemoryContextSwitchTo(old);
	flat = crm_lattice_flatten(run.model);
	MemoryContextDelete(work);
	PG_RETURN_POINTER(flat);
}
