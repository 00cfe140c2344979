/*
 * What the triggers that look for duplicates need beside SQL: which rows a statement changed, the locks by which simultaneous
 * writers of one customer see each other, and whether there is something that they cannot see.
 *
 * An UPDATE trigger that names columns cannot have transition tables, one that names none would copy every row of every update, and
 * a trigger FOR EACH STATEMENT would keep row_update.c from its short way. So a trigger BEFORE each row whose match fields change
 * notes its id here; all rows of a statement are noted before the first trigger AFTER a row fires, and that one takes what was
 * noted. Nothing is compared here: that is sql/api/match.sql.
 *
 * Locking: transaction-level locks of the classes CRM_LOCK_MATCH_KEY and CRM_LOCK_MATCH_MODEL; the model before the keys, keys in
 * ascending order. Memory: the notes live as long as the transaction; an aborted subtransaction takes its own with it.
 */
#include "crm.h"

#include "access/xact.h"
#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/direct.h"
#include "common/locks.h"
#include "match/trigger.h"
#include "text/face.h"

PG_FUNCTION_INFO_V1(crm_match_normalize);
PG_FUNCTION_INFO_V1(crm_match_note);
PG_FUNCTION_INFO_V1(crm_match_noted);
PG_FUNCTION_INFO_V1(crm_match_pause);
PG_FUNCTION_INFO_V1(crm_match_paused);
PG_FUNCTION_INFO_V1(crm_match_lock);
PG_FUNCTION_INFO_V1(crm_match_unseen);

typedef struct Note
{
	Oid rel;
	int level; /* of the transaction that changed the row */
	int64 id;
} Note;

static Note *notes; /* in TopTransactionContext */
static size_t notes_n, notes_cap;
static int paused; /* transaction level that stopped the triggers, 0 none */
static Oid held;   /* table that a statement on its view is updating, row by row */

/* Nothing noted in a transaction outlives it. */
static void
end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		notes = NULL;
		notes_n = notes_cap = 0;
		paused = 0;
	}
}

/* An abort takes back what was noted and said inside it; at its end a subtransaction is part of the one around it. */
static void
end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (notes_n > 0 && notes[notes_n - 1].level >= level)
			notes_n--;
		if (paused >= level)
			paused = 0;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (size_t i = notes_n; i > 0 && notes[i - 1].level >= level; i--)
			notes[i - 1].level = level - 1;
		paused = Min(paused, level - 1);
	}
}

/*
 * A view's updates are one statement a row for the table. What they note waits for the trigger after the statement on the view, so that all its
 * rows are compared at once. Answers what was held before, for the caller to put back, also after an error.
 */
Oid
crm_match_hold(Oid rel)
{
	Oid before = held;

	held = rel;
	return before;
}

/* Called when the library is loaded. */
void
crm_match_init(void)
{
	RegisterXactCallback(end_of_transaction, NULL);
	RegisterSubXactCallback(end_of_subtransaction, NULL);
}

/* crm._match_normalize(): trigger before a row; keeps the normal forms that duplicates are found by, of values that come or change. */
Datum
crm_match_normalize(PG_FUNCTION_ARGS)
{
	static const struct
	{
		const char *from;
		const char *to;
		PGFunction key;
	} forms[] = {{"phone", "phone_norm", crm_phone_key},
				 {"email", "email_norm", crm_email_key},
				 {"name", "name_core", crm_company_key}};
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	HeapTuple tuple;
	bool updating;
	int columns[lengthof(forms)];
	Datum values[lengthof(forms)];
	bool nulls[lengthof(forms)];
	int n = 0;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(data->tg_event) || data->tg_trigger->tgnargs != 1)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("crm._match_normalize is a trigger before each inserted or updated row")));
	updating = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	tuple = updating ? data->tg_newtuple : data->tg_trigtuple;
	desc = RelationGetDescr(data->tg_relation);
	for (int i = 0; i < (strcmp(data->tg_trigger->tgargs[0], "account") == 0 ? 3 : 2); i++)
	{
		AttrNumber from = crm_direct_column(desc, forms[i].from, TEXTOID);
		AttrNumber to;
		LOCAL_FCINFO(call, 2);
		Datum value;
		Datum before;
		bool isnull;
		bool before_null;

		value = heap_getattr(tuple, from, desc, &isnull);
		if (updating)
		{
			before = heap_getattr(data->tg_trigtuple, from, desc, &before_null);
			if (isnull == before_null && (isnull || datum_image_eq(value, before, false, -1)))
				continue;
		}
		to = crm_direct_column(desc, forms[i].to, TEXTOID);
		if (!isnull)
		{
			InitFunctionCallInfoData(*call, NULL, 2, DEFAULT_COLLATION_OID, NULL, NULL);
			call->args[0].value = value;
			call->args[1].value = CStringGetTextDatum("CN");
			call->args[0].isnull = call->args[1].isnull = false;
			value = forms[i].key(call);
			isnull = call->isnull;
		}
		/* most often nobody has said it before, and an import or the short way of a lead has said the same */
		before = heap_getattr(tuple, to, desc, &before_null);
		if (isnull == before_null && (isnull || datum_image_eq(value, before, false, -1)))
			continue;
		columns[n] = to;
		values[n] = value;
		nulls[n++] = isnull;
	}
	if (n > 0)
		tuple = heap_modify_tuple_by_cols(tuple, desc, n, columns, values, nulls);
	return PointerGetDatum(tuple);
}

/* crm._match_note(): trigger before a row; remembers the id of a row whose match fields change. */
Datum
crm_match_note(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Relation rel;
	AttrNumber attno;
	bool isnull;
	Datum id;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("crm._match_note is a trigger before each updated row")));
	if (paused)
		return PointerGetDatum(data->tg_newtuple);
	rel = data->tg_relation;
	attno = get_attnum(RelationGetRelid(rel), "id");
	if (attno == InvalidAttrNumber || TupleDescAttr(RelationGetDescr(rel), attno - 1)->atttypid != INT8OID)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("table \"%s\" has no column id of type bigint", RelationGetRelationName(rel))));
	id = heap_getattr(data->tg_newtuple, attno, RelationGetDescr(rel), &isnull);
	if (isnull)
		return PointerGetDatum(data->tg_newtuple);
	if (notes_n == notes_cap)
	{
		size_t cap = notes_cap == 0 ? 64 : notes_cap * 2;

		notes = notes == NULL ? MemoryContextAllocHuge(TopTransactionContext, cap * sizeof(Note))
							  : repalloc_huge(notes, cap * sizeof(Note));
		notes_cap = cap;
	}
	notes[notes_n].rel = RelationGetRelid(rel);
	notes[notes_n].level = GetCurrentTransactionNestLevel();
	notes[notes_n++].id = DatumGetInt64(id);
	return PointerGetDatum(data->tg_newtuple);
}

/* Ascending. */
static int
compare_ids(const void *a, const void *b)
{
	int64 x = DatumGetInt64(*(const Datum *) a);
	int64 y = DatumGetInt64(*(const Datum *) b);

	return x < y ? -1 : x > y;
}

/* crm._match_noted(source): the ids noted of a table, each once and ascending; they are forgotten then. None while they are held. */
Datum
crm_match_noted(PG_FUNCTION_ARGS)
{
	Oid rel = PG_GETARG_OID(0);
	Datum *ids;
	size_t n = 0;
	size_t left = 0;
	size_t once = 0;

	if (rel == held)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT8OID));
	if (notes_n * sizeof(Datum) > MaxAllocSize / 2)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("one statement changes the match fields of too many records"),
						errhint("Change them in several statements.")));
	ids = palloc(Max(notes_n, 1) * sizeof(Datum));
	for (size_t i = 0; i < notes_n; i++)
	{
		if (notes[i].rel == rel)
			ids[n++] = Int64GetDatum(notes[i].id);
		else
			notes[left++] = notes[i];
	}
	notes_n = left;
	if (n > 1)
		qsort(ids, n, sizeof(Datum), compare_ids);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || compare_ids(&ids[i], &ids[once - 1]) != 0)
			ids[once++] = ids[i];
	PG_RETURN_ARRAYTYPE_P(construct_array(ids, (int) once, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* crm._match_pause(on): merges, their undos and imports compare records themselves; ends with off, an abort or the transaction. */
Datum
crm_match_pause(PG_FUNCTION_ARGS)
{
	paused = PG_GETARG_BOOL(0) ? GetCurrentTransactionNestLevel() : 0;
	PG_RETURN_VOID();
}

/* crm._match_paused(): whether it is so now. */
Datum
crm_match_paused(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(paused != 0);
}

/*
 * crm._match_lock(model, keys): until the end of the transaction. Who brings keys shares the model and holds the keys alone; without
 * keys (NULL) the whole model is held alone.
 */
Datum
crm_match_lock(PG_FUNCTION_ARGS)
{
	LOCKTAG tag;
	ArrayType *a;
	Datum *keys;
	bool *nulls;
	int n;
	int kept = 0;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the model must not be null")));
	SET_LOCKTAG_CRM(tag, CRM_LOCK_MATCH_MODEL, PG_GETARG_INT64(0));
	(void) LockAcquire(&tag, PG_ARGISNULL(1) ? ExclusiveLock : RowShareLock, false, false);
	if (PG_ARGISNULL(1))
		PG_RETURN_VOID();
	a = PG_GETARG_ARRAYTYPE_P(1);
	deconstruct_array(a, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &keys, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			keys[kept++] = keys[i];
	if (kept > 1)
		qsort(keys, kept, sizeof(Datum), compare_ids);
	for (int i = 0; i < kept; i++)
	{
		if (i > 0 && compare_ids(&keys[i], &keys[i - 1]) == 0)
			continue;
		SET_LOCKTAG_CRM(tag, CRM_LOCK_MATCH_KEY, DatumGetInt64(keys[i]));
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
	PG_RETURN_VOID();
}

/* Number and sum of the ids that a query sees under a snapshot. */
static void
seen_under(SPIPlanPtr plan, Datum keys, Snapshot snapshot, int64 *n, char **sum)
{
	bool isnull;

	if (SPI_execute_snapshot(plan, &keys, NULL, snapshot, InvalidSnapshot, true, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not count records by their keys");
	*n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	*sum = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
}

/*
 * crm._match_unseen(source, columns, keys): whether records with one of the keys were committed that this transaction cannot see. Only
 * a transaction with one snapshot for all of it can be so blind; the locks come before, so none can be added after.
 */
Datum
crm_match_unseen(PG_FUNCTION_ARGS)
{
	Oid rel = PG_GETARG_OID(0);
	Datum *columns;
	int n;
	StringInfoData sql;
	Oid argtype = TEXTARRAYOID;
	SPIPlanPtr plan;
	int64 mine, now;
	char *mine_sum, *now_sum;
	bool differ;

	if (!IsolationUsesXactSnapshot())
		PG_RETURN_BOOL(false);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &columns, NULL, &n);
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT pg_catalog.count(*), pg_catalog.sum(id) FROM %s WHERE false",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(rel)), get_rel_name(rel)));
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, " OR %s OPERATOR(pg_catalog.=) ANY ($1)",
						 quote_identifier(TextDatumGetCString(columns[i])));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(sql.data, 1, &argtype);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	seen_under(plan, PG_GETARG_DATUM(2), GetTransactionSnapshot(), &mine, &mine_sum);
	seen_under(plan, PG_GETARG_DATUM(2), GetLatestSnapshot(), &now, &now_sum);
	differ = mine != now || (mine_sum != NULL && now_sum != NULL && strcmp(mine_sum, now_sum) != 0);
	SPI_finish();
	PG_RETURN_BOOL(differ);
}
