/*
 * backtest.c
 *		crm.odds_backtest: predictions of the past, each from what was known at its time.
 *
 * The relation is read by SPI with the caller's rights and row rules: this function is not SECURITY DEFINER and must never be.
 *
 * What this file does not do: the predictions (prequential.c), their order (cases.c). No locks but the query's. Memory: one named
 * context, deleted at the end.
 */
#include "crm.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "odds/cases.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(crm_odds_backtest);

#define FETCH_ROWS 10000
#define FIXED_COLUMNS 6 /* before the dimensions in the query: id, case, entered, labelled, outcome, block */

/*
 * Type of a column, or an error that names it.
 */
static Oid
column_type(Oid relid, const char *column)
{
	AttrNumber attnum = get_attnum(relid, column);

	if (attnum == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of relation \"%s\" does not exist", column, get_rel_name(relid))));
	return get_atttype(relid, attnum);
}

/*
 * Append a column as text, or, where a time is wanted, as a number: dates and timestamps in seconds.
 */
static void
append_column(StringInfo query, Oid relid, const char *column, const char *cast)
{
	Oid type = column_type(relid, column);
	const char *quoted = quote_identifier(column);
	char category;
	bool preferred;

	get_type_category_preferred(getBaseType(type), &category, &preferred);
	if (strcmp(cast, "text") != 0 && category == TYPCATEGORY_DATETIME)
		appendStringInfo(query, "EXTRACT(epoch FROM s.%s)::pg_catalog.float8", quoted);
	else if (strcmp(cast, "text") != 0 && category == TYPCATEGORY_BOOLEAN)
		appendStringInfo(query, "s.%s::pg_catalog.int4::pg_catalog.%s", quoted, cast);
	else
		appendStringInfo(query, "s.%s::pg_catalog.%s", quoted, cast);
}

/*
 * A number of the row, or an error that names what is missing. otherwise is for the two that may be missing, NaN for the others.
 */
static double
number(HeapTuple tuple, TupleDesc desc, int column, const char *name, double otherwise)
{
	bool isnull;
	Datum value = SPI_getbinval(tuple, desc, column, &isnull);

	if (isnull && isnan(otherwise))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name)));
	if (isnull)
		return otherwise;
	if (isnan(DatumGetFloat8(value)) || (isinf(DatumGetFloat8(value)) && isnan(otherwise)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a finite number", name)));
	return DatumGetFloat8(value);
}

static LatticeText
text_of(HeapTuple tuple, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(tuple, desc, column, &isnull);
	LatticeText result = {NULL, 0};

	if (!isnull)
	{
		text *t = DatumGetTextPP(value);

		result.text = VARDATA_ANY(t);
		result.len = VARSIZE_ANY_EXHDR(t);
	}
	return result;
}

/*
 * Take one row of the query.
 */
static void
add_row(CaseRows *rows, HeapTuple tuple, TupleDesc desc, MemoryContext keep)
{
	LatticeText value[LATTICE_MAX_DIMS];
	LatticeText id = text_of(tuple, desc, 1);
	LatticeText case_id = text_of(tuple, desc, 2);
	double entered = number(tuple, desc, 3, "entered", NAN);
	double labelled = number(tuple, desc, 4, "labelled", INFINITY);
	double outcome = number(tuple, desc, 5, "outcome", isinf(labelled) ? 0 : NAN);
	double block = number(tuple, desc, 6, "block", NAN);
	char *id_string;
	MemoryContext old;

	if (!id.text)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("id must not be null")));
	crm_lattice_check_outcome(outcome);
	if (labelled < entered)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("labelled must not be before entered")));
	if (block < 0 || block > PG_INT32_MAX || block != floor(block))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("block must be a whole number from 0")));
	for (int d = 0; d < rows->values->ndims; d++)
		value[d] = text_of(tuple, desc, FIXED_COLUMNS + 1 + d);
	id_string = pnstrdup(id.text, id.len);
	old = MemoryContextSwitchTo(keep);
	crm_cases_add(rows, id_string, &case_id, value, entered, labelled, outcome, (int32) block);
	MemoryContextSwitchTo(old);
}

/*
 * Read the relation.
 */
static CaseRows *
read_rows(Oid relid, const char *query, int ndims, bool numeric_ids, MemoryContext keep)
{
	MemoryContext old = MemoryContextSwitchTo(keep);
	CaseRows *rows = crm_cases_create(ndims, numeric_ids);
	MemoryContext batch;
	Portal portal;
	SPIPlanPtr plan;

	MemoryContextSwitchTo(old);
	SPI_connect();
	plan = SPI_prepare(query, 0, NULL);
	if (!plan)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	batch = AllocSetContextCreate(CurrentMemoryContext, "crm backtest batch", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(batch);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			CHECK_FOR_INTERRUPTS();
			add_row(rows, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, keep);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	return rows;
}

/*
 * Times of the refits: the smallest entered of every block but 0, in rising order.
 */
static double *
block_starts(const CaseRows *rows, int *nstarts)
{
	int32 nblocks = 0;
	double *start;
	int n = 0;

	for (int64 i = 0; i < rows->n; i++)
		nblocks = Max(nblocks, rows->block[i]);
	if (nblocks > rows->n)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("block %d is out of range", nblocks),
						errhint("Number the blocks from 0 without gaps.")));
	start = palloc(sizeof(double) * (nblocks + 1));
	for (int32 b = 0; b <= nblocks; b++)
		start[b] = INFINITY;
	for (int64 i = 0; i < rows->n; i++)
		start[rows->block[i]] = Min(start[rows->block[i]], rows->entered[i]);
	for (int32 b = 1; b <= nblocks; b++)
	{
		double s = start[b];
		int at = n;

		if (isinf(s))
			continue;
		/* blocks come in time's order nearly always */
		while (at > 0 && start[at - 1] > s)
			at--;
		memmove(&start[at + 1], &start[at], sizeof(double) * (n - at));
		start[at] = s;
		n++;
	}
	*nstarts = n;
	return start;
}

/*
 * crm.odds_backtest(source regclass, id_column name, dims name[], outcome name, entered name, labelled name, block name, case_column name)
 */
Datum
crm_odds_backtest(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid relid;
	Datum *dim;
	bool *dim_null;
	int ndims;
	const char *column[5];
	char category;
	bool preferred;
	StringInfoData query;
	MemoryContext work;
	MemoryContext old;
	CaseRows *rows;
	CaseRun run;
	double *start;
	int nstarts;

	for (int i = 0; i < 7; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("no argument but case_column may be null")));
	relid = PG_GETARG_OID(0);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &dim, &dim_null, &ndims);
	crm_lattice_check_ndims(ndims);
	column[0] = NameStr(*PG_GETARG_NAME(1));
	column[1] = NameStr(*PG_GETARG_NAME(4));
	column[2] = NameStr(*PG_GETARG_NAME(5));
	column[3] = NameStr(*PG_GETARG_NAME(3));
	column[4] = NameStr(*PG_GETARG_NAME(6));

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT ");
	append_column(&query, relid, column[0], "text");
	appendStringInfoString(&query, ", ");
	if (PG_ARGISNULL(7))
		appendStringInfoString(&query, "NULL::pg_catalog.text");
	else
		append_column(&query, relid, NameStr(*PG_GETARG_NAME(7)), "text");
	for (int i = 1; i < 5; i++)
	{
		appendStringInfoString(&query, ", ");
		append_column(&query, relid, column[i], "float8");
	}
	for (int d = 0; d < ndims; d++)
	{
		if (dim_null[d])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the name of a dimension must not be null")));
		appendStringInfoString(&query, ", ");
		append_column(&query, relid, NameStr(*DatumGetName(dim[d])), "text");
	}
	appendStringInfo(&query, " FROM %s AS s",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)));
	get_type_category_preferred(getBaseType(column_type(relid, column[0])), &category, &preferred);

	InitMaterializedSRF(fcinfo, 0);
	work = AllocSetContextCreate(CurrentMemoryContext, "crm backtest", ALLOCSET_DEFAULT_SIZES);
	rows = read_rows(relid, query.data, ndims, category == TYPCATEGORY_NUMERIC, work);
	old = MemoryContextSwitchTo(work);
	start = block_starts(rows, &nstarts);
	crm_cases_run(rows, start, nstarts, NULL, 0, &run);
	for (int64 i = 0; i < rows->n; i++)
	{
		Datum values[4];
		bool nulls[4] = {false, false, false, false};

		if (rows->block[run.order[i]] == 0)
			continue;
		values[0] = CStringGetTextDatum(rows->id[run.order[i]]);
		values[1] = Float8GetDatum(run.score[i].p);
		values[2] = Float8GetDatum(run.score[i].low);
		values[3] = Float8GetDatum(run.score[i].high);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return (Datum) 0;
}
