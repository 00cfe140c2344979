/*
 * SQL faces of the matcher: reads rows of a table with the caller's rights, runs the
 * kernels, gives back sets of rows.
 *
 * The public functions (crm.match_define and its kin) are SQL in sql/api/match.sql; they know
 * the model's definition and state. What is here knows only a table, its columns and their
 * meanings, and bytes of trained weights.
 *
 * Locking: none beyond the AccessShareLock of the query. Memory: everything of one call is in one named
 * context, deleted at its end; errors delete it with the caller's.
 */
#include "crm.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "match/match.h"
#include "match/parallel.h"

PG_FUNCTION_INFO_V1(crm_match_train);
PG_FUNCTION_INFO_V1(crm_match_clusters);
PG_FUNCTION_INFO_V1(crm_match_pairs);
PG_FUNCTION_INFO_V1(crm_match_compare);
PG_FUNCTION_INFO_V1(crm_match_check_fields);
PG_FUNCTION_INFO_V1(crm_match_keys);
PG_FUNCTION_INFO_V1(crm_match_blocking);
PG_FUNCTION_INFO_V1(crm_match_index_keys);
PG_FUNCTION_INFO_V1(crm_match_probe);

/* A run: the matcher and the ids of its rows. */
typedef struct Run
{
	MemoryContext cxt;
	CrmMatcher m;
	CrmTeam *team; /* NULL: alone */
	instr_time began;
	CrmMeaning meanings[CRM_FIELDS_MAX];
	const char *names[CRM_FIELDS_MAX];
	int fields;
	char *ids;
	size_t ids_n, ids_cap;
	size_t *id_at;
	size_t id_cap;
} Run;

/* Trained weights as bytes: this head, then CrmWeights. */
typedef struct ParamHead
{
	uint32 magic;
	uint32 size;
	uint32 fields;
	uint32 digest;
	int32 meanings[CRM_FIELDS_MAX];
} ParamHead;

#define PARAM_MAGIC 0x43524d31 /* CRM1 */

/* Lets the kernels be cancelled. */
static void
check(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* Reads the meanings by column from jsonb; raises on what it does not know. */
static void
read_fields(Run *run, Jsonb *fields)
{
	JsonbIterator *it;
	JsonbValue v;
	JsonbIteratorToken tok;
	char *name = NULL;

	if (!JB_ROOT_IS_OBJECT(fields))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the fields of a match model must be an object"),
				 errhint("Give a meaning for each column, for example {\"company_name\": \"company\"}.")));
	it = JsonbIteratorInit(&fields->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (tok == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (tok == WJB_VALUE)
		{
			char *meaning = v.type == jbvString ? pnstrdup(v.val.string.val, v.val.string.len) : NULL;
			CrmMeaning m = meaning != NULL ? crm_meaning_by_name(meaning) : CRM_M_NONE;

			if (m == CRM_M_NONE)
				ereport(
					ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown meaning of column \"%s\"", name),
					 errhint(
						 "Meanings are: company, person_name, given_name, family_name, phone, email, address, street, "
						 "city, region, postcode, date, id4, uscc, national_id, website, category, text, id.")));
			if (run->fields == CRM_FIELDS_MAX)
				ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
								errmsg("a match model has at most %d fields", CRM_FIELDS_MAX)));
			run->names[run->fields] = name;
			run->meanings[run->fields++] = m;
		}
	}
	if (run->fields == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a match model needs at least one field")));
}

/* A new run in its own context, which becomes the current one. */
static Run *
begin_run(Jsonb *fields)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "crm match", ALLOCSET_DEFAULT_SIZES);
	Run *run;

	MemoryContextSwitchTo(cxt);
	run = palloc0(sizeof(Run));
	run->cxt = cxt;
	INSTR_TIME_SET_CURRENT(run->began);
	read_fields(run, fields);
	crm_matcher_init(&run->m, run->meanings, run->names, run->fields);
	run->m.check = check;
	return run;
}

/* Adds an id; ids come sorted, so that a repetition is seen at once. */
static void
add_id(Run *run, uint32_t row, const char *s, size_t n)
{
	if (row > 0 && run->ids_n - run->id_at[row - 1] - 1 == n && memcmp(run->ids + run->id_at[row - 1], s, n) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("the id column holds a value twice"),
						errhint("Match rows by a column that identifies them.")));
	if (run->ids_n + n + 1 > run->ids_cap)
	{
		size_t cap = Max(run->ids_cap * 2, run->ids_n + n + 65536);

		run->ids = crm_huge_grow(run->ids, run->ids_cap, cap);
		run->ids_cap = cap;
	}
	if (row >= run->id_cap)
	{
		size_t cap = Max(run->id_cap * 2, 4096);

		run->id_at = crm_huge_grow(run->id_at, run->id_cap * sizeof(size_t), cap * sizeof(size_t));
		run->id_cap = cap;
	}
	run->id_at[row] = run->ids_n;
	memcpy(run->ids + run->ids_n, s, n);
	run->ids[run->ids_n + n] = '\0';
	run->ids_n += n + 1;
}

/* Reads all rows of a table. */
static void
read_rows(Run *run, Oid relid, const char *id_column, bool live_only, int max_rows)
{
	StringInfoData sql;
	SPIPlanPtr plan;
	Portal portal;
	char *rel = get_rel_name(relid);

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table of the match model does not exist")));
	initStringInfo(&sql);
	if (get_attnum(relid, id_column) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"%s\" of \"%s\" does not exist", id_column, rel),
				 errhint("Name the column that identifies a row.")));
	appendStringInfo(&sql, "SELECT %s::pg_catalog.text", quote_identifier(id_column));
	for (int f = 0; f < run->fields; f++)
	{
		if (get_attnum(relid, run->names[f]) <= 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" of \"%s\" does not exist", run->names[f], rel)));
		appendStringInfo(&sql, ", %s::pg_catalog.text", quote_identifier(run->names[f]));
	}
	appendStringInfo(&sql, " FROM %s", quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), rel));
	if (live_only)
		appendStringInfoString(&sql, " WHERE merged_into IS NULL AND deleted_at IS NULL");
	/* One order, whatever the table's: learning picks rows by their place. */
	appendStringInfo(&sql, " ORDER BY %s::pg_catalog.text COLLATE \"C\"", quote_identifier(id_column));
	if (max_rows > 0)
		appendStringInfo(&sql, " LIMIT %d", max_rows);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(sql.data, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	for (;;)
	{
		MemoryContext old;

		SPI_cursor_fetch(portal, true, 5000);
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(run->cxt);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple tup = SPI_tuptable->vals[i];
			TupleDesc desc = SPI_tuptable->tupdesc;
			bool isnull;
			Datum d = SPI_getbinval(tup, desc, 1, &isnull);
			uint32_t row;

			if (isnull)
				ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("the id column holds a null value")));
			if (run->m.rows >= 100000000)
				ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
								errmsg("a match model reads at most 100 million rows")));
			row = crm_matcher_add_row(&run->m);
			{
				text *t = DatumGetTextPP(d);

				add_id(run, row, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
			}
			for (int f = 0; f < run->fields; f++)
			{
				d = SPI_getbinval(tup, desc, f + 2, &isnull);
				if (!isnull)
				{
					text *t = DatumGetTextPP(d);

					crm_matcher_set(&run->m, row, f, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
					if ((Pointer) t != DatumGetPointer(d))
						pfree(t);
				}
			}
		}
		MemoryContextSwitchTo(old);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	SPI_finish();
	MemoryContextSwitchTo(run->cxt);
	crm_matcher_finish(&run->m);
}

/*
 * Tells people who wait how far it is, and what the phase took: seconds, and the most memory so far. Small
 * tables are done before one could read it; they tell it only to who asks for messages of level debug1.
 */
static void
tell(Run *run, const char *what, double n)
{
	instr_time now;
	double seconds;
	double mb = (double) MemoryContextMemAllocated(run->cxt, true);

	INSTR_TIME_SET_CURRENT(now);
	seconds = INSTR_TIME_GET_DOUBLE(now) - INSTR_TIME_GET_DOUBLE(run->began);
	run->began = now;
	if (run->team != NULL)
		mb += (double) run->m.shared->bytes_most;
	ereport(run->m.rows >= 200000 ? NOTICE : DEBUG1,
			(errmsg("match: %s: %.0f (%.1f s, %.0f MB)", what, n, seconds, mb / 1048576)));
}

/* The candidate pairs. */
static void
find_pairs(Run *run)
{
	tell(run, "rows read", run->m.rows);
	run->team = crm_team_begin(&run->m);
	crm_share(&run->m, run->team != NULL ? run->team : &crm_alone);
	crm_block(&run->m);
	tell(run, "candidate pairs", (double) run->m.pairs);
}

/* Ends a run. */
static void
end_run(Run *run, MemoryContext caller)
{
	crm_team_end(run->team);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(run->cxt);
}

/* Trained weights to bytes. */
static bytea *
pack_params(const Run *run)
{
	size_t size = sizeof(ParamHead) + sizeof(CrmWeights);
	bytea *b = palloc0(VARHDRSZ + size);
	ParamHead head = {0};

	SET_VARSIZE(b, VARHDRSZ + size);
	head.magic = PARAM_MAGIC;
	head.size = (uint32) size;
	head.fields = run->fields;
	for (int f = 0; f < run->fields; f++)
		head.meanings[f] = run->meanings[f];
	head.digest = hash_bytes((const unsigned char *) &run->m.weights, sizeof(CrmWeights));
	memcpy(VARDATA(b), &head, sizeof(head));
	memcpy(VARDATA(b) + sizeof(head), &run->m.weights, sizeof(CrmWeights));
	return b;
}

/* Bytes to trained weights; whatever does not fit is an error, never a crash. */
static void
unpack_params(Run *run, bytea *b)
{
	ParamHead head;
	CrmWeights w;
	bool ok = VARSIZE_ANY_EXHDR(b) == sizeof(head) + sizeof(w);

	if (ok)
	{
		memcpy(&head, VARDATA_ANY(b), sizeof(head));
		memcpy(&w, VARDATA_ANY(b) + sizeof(head), sizeof(w));
		ok = head.magic == PARAM_MAGIC && head.fields == (uint32) run->fields && w.fields == run->fields &&
			 head.digest == hash_bytes((const unsigned char *) &w, sizeof(w)) && isfinite(w.prior);
		for (int f = 0; ok && f < run->fields; f++)
		{
			ok = head.meanings[f] == (int32) run->meanings[f];
			for (int l = 0; ok && l < CRM_LEVELS; l++)
				ok = isfinite(w.w[f][l]) && isfinite(w.u[f][l]);
		}
	}
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the trained state does not fit the match model"),
						errhint("Train it again with crm.match_train().")));
	run->m.weights = w;
	run->m.trained = true;
}

/* Begins a run of the arguments (source, id column, fields, live only) and reads the rows. */
static Run *
run_of_args(FunctionCallInfo fcinfo, int max_rows)
{
	Run *run;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("source, id column and fields must not be null")));
	run = begin_run(PG_GETARG_JSONB_P(2));
	read_rows(run, PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), PG_GETARG_BOOL(3), max_rows);
	return run;
}

/* What was learned, for people: by field the chance of each kind of agreement among true and among random pairs. */
static Jsonb *
describe(const Run *run)
{
	StringInfoData s;
	const CrmWeights *w = &run->m.weights;

	initStringInfo(&s);
	appendStringInfo(&s, "{\"rows\": %u, \"pairs\": %zu, \"prior_log_odds\": %.4f, \"threshold\": %.3f, \"fields\": {",
					 run->m.rows, run->m.pairs, w->prior, w->threshold);
	for (int f = 0; f < run->fields; f++)
	{
		bool first = true;

		if (f > 0)
			appendStringInfoString(&s, ", ");
		escape_json(&s, run->names[f]);
		appendStringInfo(&s, ": {\"meaning\": \"%s\", \"present\": %u, \"distinct\": %u, \"levels\": {",
						 crm_meaning_name(run->meanings[f]), run->m.field[f].present, run->m.field[f].values - 1);
		for (int l = 1; l < CRM_LEVELS; l++)
		{
			if (w->m[f][l] < 1e-4 && w->u[f][l] < 1e-4)
				continue;
			appendStringInfo(&s, "%s\"%s\": {\"m\": %.5f, \"u\": %.3g, \"weight\": %.3f}", first ? "" : ", ",
							 crm_level_name(run->meanings[f], l), w->m[f][l], w->u[f][l], w->w[f][l]);
			first = false;
		}
		appendStringInfoString(&s, "}}");
	}
	appendStringInfoString(&s, "}}");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(s.data)));
}

/* The evidence of a pair: each field's level and weight, no values. */
static Datum
explain(const Run *run, uint64_t pattern, double score)
{
	StringInfoData s;
	Datum d;

	initStringInfo(&s);
	appendStringInfo(&s, "{\"log_odds\": %.3f, \"fields\": {", score);
	for (int f = 0; f < run->fields; f++)
	{
		int l = (int) (pattern >> (4 * f) & 15);

		if (f > 0)
			appendStringInfoString(&s, ", ");
		escape_json(&s, run->names[f]);
		appendStringInfo(&s, ": {\"level\": \"%s\", \"weight\": %.2f}", crm_level_name(run->meanings[f], l),
						 run->m.weights.w[f][l]);
	}
	appendStringInfoString(&s, "}}");
	d = DirectFunctionCall1(jsonb_in, CStringGetDatum(s.data));
	pfree(s.data);
	return d;
}

/* Log odds to a probability. */
static inline double
to_probability(double s)
{
	return 1 / (1 + exp(-s));
}

/* crm._match_train(source, id_column, fields, live_only, max_rows) -> params, learned, rows */
Datum
crm_match_train(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TupleDesc desc;
	Run *run;
	Datum values[3];
	bool nulls[3] = {false};
	HeapTuple tup;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	run = run_of_args(fcinfo, PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4));
	find_pairs(run);
	crm_train(&run->m);
	tell(run, "trained on pairs", (double) run->m.pairs);
	values[0] = PointerGetDatum(pack_params(run));
	values[1] = JsonbPGetDatum(describe(run));
	values[2] = Int64GetDatum(run->m.rows);
	MemoryContextSwitchTo(caller);
	tup = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	end_run(run, caller);
	PG_RETURN_DATUM(HeapTupleGetDatum(tup));
}

/* Weights from the argument, or learned now where it is null. */
static void
weights_of_arg(FunctionCallInfo fcinfo, int arg, Run *run)
{
	if (PG_ARGISNULL(arg))
	{
		crm_train(&run->m);
		tell(run, "trained on pairs", (double) run->m.pairs);
	}
	else
		unpack_params(run, PG_GETARG_BYTEA_PP(arg));
}

/* A threshold between 0 and 1, the model's own where the argument is null. */
static double
threshold_of_arg(FunctionCallInfo fcinfo, int arg, const Run *run)
{
	double t = PG_ARGISNULL(arg) ? run->m.weights.threshold : PG_GETARG_FLOAT8(arg);

	if (!(t > 0 && t < 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a threshold is a probability above 0 and below 1")));
	return t;
}

/* The row of an id, false if there is none; rows are in the order of their ids. */
static bool
find_row(const Run *run, const char *id, uint32_t *row)
{
	uint32_t from = 0;
	uint32_t to = run->m.rows;

	while (from < to)
	{
		uint32_t mid = from + (to - from) / 2;
		int c = strcmp(run->ids + run->id_at[mid], id);

		if (c == 0)
		{
			*row = mid;
			return true;
		}
		if (c < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return false;
}

/* People's decisions, as an array of id, id, must or cannot; those of rows that are gone are left out. */
static void
links_of_arg(FunctionCallInfo fcinfo, int arg, Run *run)
{
	Datum *words;
	bool *nulls;
	int n;

	if (PG_ARGISNULL(arg))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), TEXTOID, -1, false, TYPALIGN_INT, &words, &nulls, &n);
	run->m.link = palloc(sizeof(CrmLink) * (n / 3 + 1));
	for (int i = 0; i + 2 < n; i += 3)
	{
		CrmLink *l = &run->m.link[run->m.links];

		if (nulls[i] || nulls[i + 1] || nulls[i + 2])
			continue;
		l->same = strcmp(TextDatumGetCString(words[i + 2]), "must") == 0;
		if (find_row(run, TextDatumGetCString(words[i]), &l->a) &&
			find_row(run, TextDatumGetCString(words[i + 1]), &l->b) && l->a != l->b)
			run->m.links++;
	}
}

/* Keeps what was learned, by the SQL function that knows who may. */
static void
save_weights(Run *run, const char *name)
{
	Oid types[4] = {TEXTOID, BYTEAOID, JSONBOID, INT8OID};
	Datum args[4];

	args[0] = CStringGetTextDatum(name);
	args[1] = PointerGetDatum(pack_params(run));
	args[2] = JsonbPGetDatum(describe(run));
	args[3] = Int64GetDatum(run->m.rows);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT " CRM_SCHEMA "._match_save($1, $2, $3, $4)", 4, types, args, NULL, false, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "SPI_execute failed");
	SPI_finish();
	MemoryContextSwitchTo(run->cxt);
}

/* crm._match_clusters(source, id_column, fields, live_only, params, threshold, links, save) -> id, cluster */
Datum
crm_match_clusters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	Run *run;
	double threshold;

	InitMaterializedSRF(fcinfo, 0);
	run = run_of_args(fcinfo, 0);
	find_pairs(run);
	weights_of_arg(fcinfo, 4, run);
	if (PG_ARGISNULL(4) && !PG_ARGISNULL(7))
		save_weights(run, text_to_cstring(PG_GETARG_TEXT_PP(7)));
	links_of_arg(fcinfo, 6, run);
	threshold = threshold_of_arg(fcinfo, 5, run);
	crm_score_all(&run->m, log(threshold / (1 - threshold)));
	tell(run, "pairs above the threshold", (double) run->m.edges);
	crm_cluster(&run->m, threshold);
	tell(run, "rows clustered", run->m.rows);
	for (uint32_t r = 0; r < run->m.rows; r++)
	{
		Datum values[2];
		bool nulls[2] = {false};
		size_t end = r + 1 < run->m.rows ? run->id_at[r + 1] : run->ids_n;

		values[0] =
			PointerGetDatum(cstring_to_text_with_len(run->ids + run->id_at[r], (int) (end - run->id_at[r] - 1)));
		values[1] = Int64GetDatum((int64) run->m.cluster[r] + 1);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		pfree(DatumGetPointer(values[0]));
	}
	end_run(run, caller);
	return (Datum) 0;
}

/* True if a person decided that two rows are two; *same where they decided that they are one. */
static bool
decided(const Run *run, const CrmEdge *e, bool *same)
{
	bool apart = false;

	*same = false;
	for (size_t i = 0; i < run->m.links; i++)
		if ((run->m.link[i].a == e->a && run->m.link[i].b == e->b) ||
			(run->m.link[i].a == e->b && run->m.link[i].b == e->a))
		{
			apart |= !run->m.link[i].same;
			*same |= run->m.link[i].same;
		}
	return apart;
}

/* crm._match_pairs(source, id_column, fields, live_only, params, threshold, links) -> a, b, probability, band, evidence */
Datum
crm_match_pairs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	Run *run;
	double cut;

	InitMaterializedSRF(fcinfo, 0);
	run = run_of_args(fcinfo, 0);
	find_pairs(run);
	weights_of_arg(fcinfo, 4, run);
	links_of_arg(fcinfo, 6, run);
	cut = threshold_of_arg(fcinfo, 5, run);
	cut = log(cut / (1 - cut));
	crm_score_all(&run->m, cut);
	if (run->m.edges > 1)
		qsort(run->m.edge, run->m.edges, sizeof(CrmEdge), crm_edge_compare);
	for (size_t e = 0; e < run->m.edges && run->m.edge[e].w >= cut; e++)
	{
		const CrmEdge *x = &run->m.edge[e];
		uint64_t pattern = crm_compare_rows(&run->m, x->a, x->b);
		Datum values[5];
		bool nulls[5] = {false};
		bool same;

		if (decided(run, x, &same))
			continue;
		values[0] = CStringGetTextDatum(run->ids + run->id_at[x->a]);
		values[1] = CStringGetTextDatum(run->ids + run->id_at[x->b]);
		values[2] = Float8GetDatum(to_probability(x->w));
		values[3] =
			CStringGetTextDatum(same || crm_is_certain(&run->m, x->a, x->b, pattern, x->w) ? "auto" : "suggest");
		values[4] = explain(run, pattern, x->w);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		if (e % 1000 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	end_run(run, caller);
	return (Datum) 0;
}

/* Gives a row the values of a document, by column name. */
static void
row_of_doc(Run *run, Jsonb *doc)
{
	uint32_t row = crm_matcher_add_row(&run->m);

	for (int f = 0; f < run->fields; f++)
	{
		JsonbValue v;
		char *s = NULL;

		if (getKeyJsonValueFromContainer(&doc->root, run->names[f], strlen(run->names[f]), &v) == NULL)
			continue;
		if (v.type == jbvString)
			crm_matcher_set(&run->m, row, f, v.val.string.val, v.val.string.len);
		else if (v.type == jbvNumeric)
		{
			s = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
			crm_matcher_set(&run->m, row, f, s, strlen(s));
		}
	}
}

/* crm._match_compare(fields, params, a, b) -> probability, band, evidence: two documents, without frequencies of values. */
Datum
crm_match_compare(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	TupleDesc desc;
	Run *run;
	Jsonb *a = PG_GETARG_JSONB_P(2);
	Jsonb *b = PG_GETARG_JSONB_P(3);
	uint64_t pattern;
	double score;
	Datum values[3];
	bool nulls[3] = {false};
	HeapTuple tup;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (!JB_ROOT_IS_OBJECT(a) || !JB_ROOT_IS_OBJECT(b))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a document must be an object")));
	run = begin_run(PG_GETARG_JSONB_P(0));
	unpack_params(run, PG_GETARG_BYTEA_PP(1));
	row_of_doc(run, a);
	row_of_doc(run, b);
	crm_matcher_finish(&run->m);
	for (int f = 0; f < run->fields; f++)
		run->m.weights.tf[f] = 0;
	pattern = crm_compare_rows(&run->m, 0, 1);
	score = crm_score(&run->m, 0, 1, pattern);
	values[0] = Float8GetDatum(to_probability(score));
	values[1] = CStringGetTextDatum(crm_is_certain(&run->m, 0, 1, pattern, score) ? "auto"
									: score >= 0                                  ? "suggest"
																				  : "none");
	values[2] = explain(run, pattern, score);
	MemoryContextSwitchTo(caller);
	tup = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	end_run(run, caller);
	PG_RETURN_DATUM(HeapTupleGetDatum(tup));
}

/* crm._match_check_fields(source, id_column, fields): raises what is wrong with a definition, before it is stored. */
Datum
crm_match_check_fields(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	char *id_column = NameStr(*PG_GETARG_NAME(1));
	char *rel = get_rel_name(relid);
	Run run = {0};

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table of the match model does not exist")));
	read_fields(&run, PG_GETARG_JSONB_P(2));
	if (get_attnum(relid, id_column) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"%s\" of \"%s\" does not exist", id_column, rel),
				 errhint("Name the column that identifies a row.")));
	for (int f = 0; f < run.fields; f++)
		if (get_attnum(relid, run.names[f]) <= 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" of \"%s\" does not exist", run.names[f], rel)));
	PG_RETURN_VOID();
}

/* crm._match_keys(fields, doc) -> kind, key: the keys that a row is found by in a persisted index. */
Datum
crm_match_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *doc = PG_GETARG_JSONB_P(1);
	Run *run;
	int16_t kinds[256];
	int64_t keys[256];
	int n;

	if (!JB_ROOT_IS_OBJECT(doc))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a document must be an object")));
	InitMaterializedSRF(fcinfo, 0);
	run = begin_run(PG_GETARG_JSONB_P(0));
	row_of_doc(run, doc);
	n = crm_row_keys(&run->m, 0, kinds, keys, lengthof(kinds));
	for (int i = 0; i < n; i++)
	{
		Datum values[2];
		bool nulls[2] = {false};

		values[0] = Int16GetDatum(kinds[i]);
		values[1] = Int64GetDatum(keys[i]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	end_run(run, caller);
	return (Datum) 0;
}

/* crm._match_blocking(source, id_column, fields, truth) -> pairs, hits: the candidate pairs, and those of one true group. */
Datum
crm_match_blocking(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid relid = PG_GETARG_OID(0);
	char *id_column = NameStr(*PG_GETARG_NAME(1));
	char *truth = NameStr(*PG_GETARG_NAME(3));
	TupleDesc desc;
	Run *run;
	uint64 *group;
	int64 hits = 0;
	uint32_t r = 0;
	Portal portal;
	Datum values[2];
	bool nulls[2] = {false};
	HeapTuple tup;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	run = begin_run(PG_GETARG_JSONB_P(2));
	read_rows(run, relid, id_column, false, 0);
	find_pairs(run);
	group = crm_huge_alloc(run->m.rows * sizeof(uint64));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	portal =
		SPI_cursor_open(NULL,
						SPI_prepare(psprintf("SELECT pg_catalog.hashtextextended(%s::pg_catalog.text, 0) FROM %s ORDER "
											 "BY %s::pg_catalog.text COLLATE \"C\"",
											 quote_identifier(truth),
											 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
																		get_rel_name(relid)),
											 quote_identifier(id_column)),
									0, NULL),
						NULL, NULL, true);
	do
	{
		SPI_cursor_fetch(portal, true, 5000);
		for (uint64 i = 0; i < SPI_processed && r < run->m.rows; i++)
		{
			bool isnull;
			Datum d = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

			/* No group: of its own. */
			group[r] = isnull ? r : (uint64) DatumGetInt64(d);
			r++;
		}
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(portal);
	SPI_finish();
	MemoryContextSwitchTo(run->cxt);
	for (uint32_t i = 0; i < run->m.pieces; i++)
	{
		const CrmEdge *e = run->m.team->at(run->m.team, run->m.piece[i].where);

		for (uint32_t k = 0; k < run->m.piece[i].n; k++)
			hits += group[e[k].a] == group[e[k].b];
	}
	values[0] = Int64GetDatum((int64) run->m.pairs);
	values[1] = Int64GetDatum(hits);
	MemoryContextSwitchTo(caller);
	tup = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	end_run(run, caller);
	PG_RETURN_DATUM(HeapTupleGetDatum(tup));
}

/* A key of a persisted index and its record. */
typedef struct IndexKey
{
	int64 key;
	int64 rec;
	int16 kind;
} IndexKey;

/* The order of the index: inserted so, its pages are filled one after the other. */
static int
compare_index_keys(const void *a, const void *b)
{
	const IndexKey *x = a;
	const IndexKey *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->rec < y->rec ? -1 : x->rec > y->rec;
}

/* Keys that go into one answer of crm._match_index_keys. */
#define KEYS_TOGETHER 50000

/* crm._match_index_keys(source, id_column, fields) -> kinds, keys, recs: the keys of all rows in the order of the index, many a row. */
Datum
crm_match_index_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	Run *run;
	IndexKey *all = NULL;
	size_t cap = 0;
	size_t n = 0;
	size_t kept = 0;
	Datum *part[3];

	InitMaterializedSRF(fcinfo, 0);
	run = begin_run(PG_GETARG_JSONB_P(2));
	read_rows(run, PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), false, 0);
	tell(run, "rows read", run->m.rows);
	for (uint32_t r = 0; r < run->m.rows; r++)
	{
		int16_t kinds[256];
		int64_t keys[256];
		int k = crm_row_keys(&run->m, r, kinds, keys, lengthof(kinds));
		const char *id = run->ids + run->id_at[r];
		int64 rec = DatumGetInt64(hash_any_extended((const unsigned char *) id, (int) strlen(id), 0));

		if (n + k > cap)
		{
			size_t more = Max(cap * 2, 65536);

			all = crm_huge_grow(all, cap * sizeof(IndexKey), more * sizeof(IndexKey));
			cap = more;
		}
		for (int i = 0; i < k; i++)
			all[n++] = (IndexKey){keys[i], rec, kinds[i]};
		if (r % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
	}
	if (n > 1)
		qsort(all, n, sizeof(IndexKey), compare_index_keys);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || compare_index_keys(&all[i], &all[i - 1]) != 0)
			all[kept++] = all[i];
	tell(run, "keys", (double) kept);
	for (int c = 0; c < 3; c++)
		part[c] = palloc(sizeof(Datum) * KEYS_TOGETHER);
	for (size_t from = 0; from < kept; from += KEYS_TOGETHER)
	{
		int k = (int) Min(KEYS_TOGETHER, kept - from);
		Datum values[3];
		bool nulls[3] = {false};

		for (int i = 0; i < k; i++)
		{
			part[0][i] = Int16GetDatum(all[from + i].kind);
			part[1][i] = Int64GetDatum(all[from + i].key);
			part[2][i] = Int64GetDatum(all[from + i].rec);
		}
		values[0] = PointerGetDatum(construct_array(part[0], k, INT2OID, 2, true, TYPALIGN_SHORT));
		for (int c = 1; c < 3; c++)
			values[c] = PointerGetDatum(construct_array(part[c], k, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		for (int c = 0; c < 3; c++)
			pfree(DatumGetPointer(values[c]));
		CHECK_FOR_INTERRUPTS();
	}
	end_run(run, caller);
	return (Datum) 0;
}

/* The plan of the last query of crm._match_probe, kept because planning takes longer than running it. */
static char *probe_query = NULL;
static SPIPlanPtr probe_plan = NULL;

/* A plan for a query with an argument of type text[]. */
static SPIPlanPtr
plan_of_query(const char *query)
{
	Oid argtype = TEXTARRAYOID;
	SPIPlanPtr plan;

	if (probe_plan != NULL && strcmp(probe_query, query) == 0)
		return probe_plan;
	plan = SPI_prepare(query, 1, &argtype);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (probe_plan != NULL)
	{
		SPI_freeplan(probe_plan);
		pfree(probe_query);
		probe_plan = NULL;
	}
	probe_query = MemoryContextStrdup(TopMemoryContext, query);
	SPI_keepplan(plan);
	probe_plan = plan;
	return plan;
}

/* crm._match_probe(source, id_column, fields, params, doc, ids, lim) -> id, probability, band, evidence: a document against some rows. */
Datum
crm_match_probe(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	Oid relid = PG_GETARG_OID(0);
	char *id_column = NameStr(*PG_GETARG_NAME(1));
	Jsonb *doc = PG_GETARG_JSONB_P(4);
	int lim = PG_GETARG_INT32(6);
	AttrNumber attno = get_attnum(relid, id_column);
	StringInfoData sql;
	Datum arg = PG_GETARG_DATUM(5);
	Run *run;
	CrmEdge *found;

	if (!JB_ROOT_IS_OBJECT(doc))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a document must be an object")));
	if (get_rel_name(relid) == NULL || attno <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("the table of the match model or its id column does not exist")));
	InitMaterializedSRF(fcinfo, 0);
	run = begin_run(PG_GETARG_JSONB_P(2));
	unpack_params(run, PG_GETARG_BYTEA_PP(3));
	row_of_doc(run, doc);
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s::pg_catalog.text", quote_identifier(id_column));
	for (int f = 0; f < run->fields; f++)
	{
		if (get_attnum(relid, run->names[f]) <= 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" does not exist any more", run->names[f])));
		appendStringInfo(&sql, ", %s::pg_catalog.text", quote_identifier(run->names[f]));
	}
	/* The ids in the column's own type, so that its index is used. */
	appendStringInfo(&sql, " FROM %s WHERE %s = ANY ($1::%s[])",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)),
					 quote_identifier(id_column), format_type_be_qualified(get_atttype(relid, attno)));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_plan(plan_of_query(sql.data), &arg, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute failed");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(run->cxt);
		uint32_t row = crm_matcher_add_row(&run->m);

		for (int f = 0; f <= run->fields; f++)
		{
			bool isnull;
			Datum d = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, f + 1, &isnull);
			text *t;

			if (isnull)
				continue;
			t = DatumGetTextPP(d);
			if (f > 0)
				crm_matcher_set(&run->m, row, f - 1, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
			else
			{
				/* Place 0 is the document's. */
				if (row == 1)
					add_id(run, 0, "", 0);
				add_id(run, row, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
			}
		}
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	MemoryContextSwitchTo(run->cxt);
	crm_matcher_finish(&run->m);
	/* How often a value occurs in the whole table is not known here. */
	for (int f = 0; f < run->fields; f++)
		run->m.weights.tf[f] = 0;
	found = palloc0(sizeof(CrmEdge) * run->m.rows);
	for (uint32_t r = 1; r < run->m.rows; r++)
	{
		found[r - 1].b = r;
		found[r - 1].w = (float) crm_score(&run->m, 0, r, crm_compare_rows(&run->m, 0, r));
	}
	qsort(found, run->m.rows - 1, sizeof(CrmEdge), crm_edge_compare);
	for (uint32_t k = 0; k + 1 < run->m.rows && k < (uint32_t) lim; k++)
	{
		uint32_t r = found[k].b;
		uint64_t pattern = crm_compare_rows(&run->m, 0, r);
		bool certain = crm_is_certain(&run->m, 0, r, pattern, found[k].w);
		Datum values[4];
		bool nulls[4] = {false};

		values[0] = CStringGetTextDatum(run->ids + run->id_at[r]);
		values[1] = Float8GetDatum(to_probability(found[k].w));
		values[2] = CStringGetTextDatum(certain ? "auto" : found[k].w >= 0 ? "suggest" : "none");
		values[3] = explain(run, pattern, found[k].w);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	end_run(run, caller);
	return (Datum) 0;
}
