/*
 * cases.c
 *		Collects rows of cases and runs them through time.
 *
 * The result does not depend on the order in which the rows were added: values are numbered in sorted order, rows run by (entered, id).
 *
 * What this file does not do: read rows (backtest.c, odds_fit.c), predict (prequential.c). No locks. Memory: the caller's context.
 */
#include "odds/cases.h"

#include <math.h>

typedef struct OrderArg
{
	const CaseRows *rows;
	const double *time;    /* first key */
	const int32 *position; /* NULL, or from sorted to collected rows */
} OrderArg;

/*
 * No rows yet. With numeric_ids an id is compared as a number, else by its bytes.
 */
CaseRows *
crm_cases_create(int ndims, bool numeric_ids)
{
	CaseRows *rows = palloc0(sizeof(CaseRows));

	rows->values = crm_lattice_create(ndims);
	rows->cases = crm_lattice_create(1);
	rows->numeric_ids = numeric_ids;
	return rows;
}

/*
 * Grow an array of rows, with what it holds.
 */
static void *
grow(void *array, Size element, int64 room)
{
	return array ? repalloc_huge(array, element * room) : MemoryContextAllocHuge(CurrentMemoryContext, element * room);
}

/*
 * Add a row. id and the texts are copied; a NULL case is a case of its own.
 */
void
crm_cases_add(CaseRows *rows, const char *id, const LatticeText *case_id, const LatticeText *value, double entered,
			  double labelled, double outcome, int32 block)
{
	int ndims = rows->values->ndims;
	int64 n = rows->n;

	if (n == PG_INT32_MAX / 2)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many rows")));
	if (n == rows->room)
	{
		rows->room = rows->room ? rows->room * 2 : 1024;
		rows->id = grow(rows->id, sizeof(char *), rows->room);
		rows->id_number = grow(rows->id_number, sizeof(int64), rows->room);
		rows->case_code = grow(rows->case_code, sizeof(int32), rows->room);
		rows->entered = grow(rows->entered, sizeof(double), rows->room);
		rows->labelled = grow(rows->labelled, sizeof(double), rows->room);
		rows->outcome = grow(rows->outcome, sizeof(double), rows->room);
		rows->block = grow(rows->block, sizeof(int32), rows->room);
		rows->code = grow(rows->code, sizeof(int32) * ndims, rows->room);
	}
	rows->id[n] = pstrdup(id);
	rows->id_number[n] = rows->numeric_ids ? strtoll(id, NULL, 10) : 0;
	rows->case_code[n] =
		case_id && case_id->text ? crm_lattice_add_value(rows->cases, 0, case_id->text, case_id->len, true) : -1;
	rows->entered[n] = entered;
	rows->labelled[n] = labelled;
	rows->outcome[n] = outcome;
	rows->block[n] = block;
	for (int d = 0; d < ndims; d++)
		rows->code[n * ndims + d] = crm_lattice_add_value(rows->values, d, value[d].text, value[d].len, true);
	rows->n++;
}

/*
 * Order by (time, id).
 */
static int
compare_by_time(const void *a, const void *b, void *arg)
{
	const OrderArg *order = arg;
	int32 i = *(const int32 *) a;
	int32 j = *(const int32 *) b;

	if (order->position)
	{
		i = order->position[i];
		j = order->position[j];
	}
	if (order->time[i] != order->time[j])
		return order->time[i] < order->time[j] ? -1 : 1;
	if (order->rows->id_number[i] != order->rows->id_number[j])
		return order->rows->id_number[i] < order->rows->id_number[j] ? -1 : 1;
	return strcmp(order->rows->id[i], order->rows->id[j]);
}

/*
 * Two rows of one id would have no order of their own, and their predictions no name.
 */
static void
check_unique_ids(const CaseRows *rows)
{
	Lattice *seen = crm_lattice_create(1);

	for (int64 i = 0; i < rows->n; i++)
		if (crm_lattice_add_value(seen, 0, rows->id[i], strlen(rows->id[i]), false) != i)
			ereport(ERROR, (errcode(ERRCODE_CARDINALITY_VIOLATION), errmsg("an id occurs more than once")));
}

/*
 * Run the rows through time with refits at the given times, in rising order. A row of block 0 is history: learned from, not
 * predicted.
 */
void
crm_cases_run(const CaseRows *rows, const double *refit_at, int nrefits, const LatticePrior *prior, int nprior,
			  CaseRun *run)
{
	int ndims = rows->values->ndims;
	int32 n = (int32) rows->n;
	int32 *rank[LATTICE_MAX_DIMS];
	int32 *code[LATTICE_MAX_DIMS];
	int32 *by_label = LATTICE_ALLOC(sizeof(int32) * (n + 1));
	double *entered = LATTICE_ALLOC(sizeof(double) * (n + 1));
	double *labelled = LATTICE_ALLOC(sizeof(double) * (n + 1));
	double *outcome = LATTICE_ALLOC(sizeof(double) * (n + 1));
	double *share = LATTICE_ALLOC(sizeof(double) * (n + 1));
	bool *scored = LATTICE_ALLOC(n + 1);
	int32 *in_case = LATTICE_ALLOC(sizeof(int32) * (rows->cases->dict[0].nvalues + 1));
	LatticePrior *ranked = palloc0(sizeof(LatticePrior) * (nprior + 1));
	OrderArg by_entered = {rows, rows->entered, NULL};
	OrderArg by_labelled = {rows, rows->labelled, NULL};
	PrequentialRows ready = {n, entered, labelled, outcome, share, scored, by_label};
	LatticeRows cells;

	check_unique_ids(rows);
	run->order = LATTICE_ALLOC(sizeof(int32) * (n + 1));
	run->score = LATTICE_ALLOC(sizeof(PrequentialScore) * (n + 1));
	for (int32 i = 0; i < n; i++)
	{
		run->order[i] = i;
		by_label[i] = i;
		if (rows->case_code[i] >= 0)
			in_case[rows->case_code[i]]++;
	}
	qsort_arg(run->order, n, sizeof(int32), compare_by_time, &by_entered);
	by_labelled.position = run->order;
	qsort_arg(by_label, n, sizeof(int32), compare_by_time, &by_labelled);

	run->model = crm_lattice_sorted(rows->values, rank);
	for (int d = 0; d < ndims; d++)
		code[d] = LATTICE_ALLOC(sizeof(int32) * (n + 1));
	for (int32 i = 0; i < n; i++)
	{
		int32 from = run->order[i];

		entered[i] = rows->entered[from];
		labelled[i] = rows->labelled[from];
		outcome[i] = rows->outcome[from];
		share[i] = rows->case_code[from] >= 0 ? 1.0 / in_case[rows->case_code[from]] : 1.0;
		scored[i] = rows->block[from] > 0;
		for (int d = 0; d < ndims; d++)
		{
			code[d][i] = rank[d][rows->code[(int64) from * ndims + d]];
			run->model->dict[d].value[code[d][i]].n += 1;
		}
	}
	for (int q = 0; q < nprior; q++)
	{
		ranked[q] = prior[q];
		ranked[q].code = rank[prior[q].dim][prior[q].code];
	}
	crm_lattice_make_rows(run->model, &cells, code, n);
	crm_prequential_run(run->model, &cells, &ready, refit_at, nrefits, ranked, nprior, run->score);
}
