/*
 * write.c
 *		INSERT, UPDATE and DELETE through the views: one INSTEAD OF trigger for all of them.
 *
 * An update writes only the columns whose value the person changed, so that an application that saves a whole form never writes a
 * mask back; each of them needs the right to write it. It holds only while the row is as the statement saw it: the row version is part of
 * the condition, and a row that somebody changed meanwhile raises 40001, because the statement's WHERE may no longer hold. Versions,
 * history and the rules of the business are the tables' own triggers.
 *
 * The statements on the tables run as the role of the views, which is subject to row security: so the rows are checked before and
 * after, and a failing constraint does not print a row. What is returned is masked again. An update in the plain case, which is nearly
 * every one, does without a statement (common/row_update.c); in all others, and when it finds nothing to write, the statement decides.
 *
 * Locking: the row that orders the writes to a customer, then the row itself: see writes/write.c, which also gives each update its number and
 * its operation. Memory: what is known of a view, and its plans, live in "crm writes" below
 * CacheMemoryContext until the view or its table changes.
 */
#include "access/access.h"
#include "common/invalidate.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/errors.h"
#include "common/row_update.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "match/trigger.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "writes/write.h"

PG_FUNCTION_INFO_V1(crm_write_view);

/* one column of a view */
typedef struct ViewColumn
{
	char *name;
	Oid type;
	int16 len;
	bool byval;
	AttrNumber number; /* of the table's column */
	bool coerced;      /* the view's column has the same length as the table's */
	int field;         /* 0: not registered, not written */
	bool guarded;
	bool kept;    /* by the engine: nobody writes it */
	bool fixed;   /* written with the row, never changed */
	char *parent; /* object that the column refers to, when it has a view */
	SPIPlanPtr parent_plan;
} ViewColumn;

/* a statement, by the columns it writes */
typedef struct WritePlan
{
	char operation; /* i: insert, b: insert blindly, u: update */
	Bitmapset *columns;
	SPIPlanPtr plan;
} WritePlan;

typedef struct ViewInfo
{
	Oid view; /* key of the hash table */
	bool valid;
	int in_use;
	MemoryContext context;
	Oid base;
	TupleDesc base_desc;
	char *object;
	int ncolumns;
	ViewColumn *columns; /* by attribute number - 1 */
	Bitmapset *key;      /* column indexes of the primary key */
	int version;         /* column indexes, -1: none */
	int owner;
	int team;
	bool is_member;    /* a member's own row is his */
	int object_column; /* with record: a reference to any object */
	int record;
	char *returning;
	uint64 asked; /* serial of the last profile that sees_all was asked about */
	bool whole;   /* its answer */
	List *plans;
	SPIPlanPtr look_plan;
} ViewInfo;

/* what one statement has touched so far */
typedef struct StatementState
{
	Oid gate;    /* whose views these are, and who writes */
	bool silent; /* it gives back no rows */
	int64 rows;
	int64 limit; /* 0: not asked yet */
} StatementState;

/* a statement that updates a view and gives back no rows, while it runs */
typedef struct SilentRun
{
	MemoryContext memory; /* of its executor state, in which this is */
	MemoryContextCallback callback;
	struct SilentRun *next;
} SilentRun;

static SilentRun *silent_runs = NULL;

static HTAB *views = NULL;
static Oid field_table = InvalidOid;

static ViewInfo *view_info(Relation view, const char *object);
static void build_info(ViewInfo *info, Relation view, const char *object);
static void read_fields(ViewInfo *info);
static void read_parents(ViewInfo *info, Relation base);
static void forget_info(ViewInfo *info);
static HeapTuple insert_row(ViewInfo *info, TriggerData *data);
static Bitmapset *changed_columns(const ViewInfo *info, const TupleTableSlot *seen, const TupleTableSlot *wanted);
static HeapTuple update_row(ViewInfo *info, TriggerData *data, bool silent);
static HeapTuple write_changed(ViewInfo *info, TriggerData *data, Bitmapset *changed, bool silent);
static CrmViewWrite *begin_write(const ViewInfo *info, Bitmapset *changed, const Datum *values, const bool *nulls,
								 const Datum *old_values);
static CrmRowOutcome update_directly(ViewInfo *info, CrmViewWrite *write, Bitmapset *changed, TriggerData *data,
									 bool silent, HeapTuple volatile *result, int32 *version);
static HeapTuple masked_row(ViewInfo *info, HeapTuple row, TupleDesc desc);
static void forget_silent_run(void *arg);
static bool sees_all(ViewInfo *info, const CrmProfile *profile);
static HeapTuple update_by_statement(ViewInfo *info, Bitmapset *changed, const Datum *values, const bool *nulls,
									 const Datum *old_values, const bool *old_nulls, int32 *version);
static SPIPlanPtr statement_plan(ViewInfo *info, char operation, Bitmapset *columns);
static void check_column(const ViewInfo *info, int column, CrmProfile const *profile, bool own, bool team);
static void check_parents(ViewInfo *info, Bitmapset *columns, const Datum *values, const bool *nulls);
static bool row_is_skipped(ViewInfo *info, const Datum *values, const bool *nulls, const char *verb);
static void append_condition(StringInfo sql, const ViewInfo *info, int *nargs, Oid *types, bool with_version);
static int condition_values(const ViewInfo *info, int nargs, const Datum *values, const bool *nulls, Datum *args,
							char *argnulls, bool with_version);
static StatementState *statement_state(FunctionCallInfo fcinfo);
static void count_row(StatementState *state, const ViewInfo *info);
static void count_one(int64 *rows, int64 *limit, const char *object);
static void relation_changed(Datum arg, Oid relid);

/*
 * Register the callback.
 */
void
crm_write_init(void)
{
	crm_on_relation_change(relation_changed);
}

/*
 * What is known of the statement lives with the trigger's call, which is one statement's.
 */
static StatementState *
statement_state(FunctionCallInfo fcinfo)
{
	StatementState *state = fcinfo->flinfo->fn_extra;

	if (state == NULL)
	{
		state = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(StatementState));
		state->gate = get_role_oid(CRM_GATE, false);
		for (SilentRun *run = silent_runs; run != NULL && !state->silent; run = run->next)
			state->silent = run->memory == fcinfo->flinfo->fn_mcxt;
		fcinfo->flinfo->fn_extra = state;
	}
	return state;
}

/*
 * A statement was started. Where it gives back nothing, what the trigger answers is only thrown away, and needs not be made. (The trigger
 * is not told; but its call lives in the memory of its statement.)
 */
void
crm_write_note_start(QueryDesc *query)
{
	PlannedStmt *stmt = query->plannedstmt;
	SilentRun *run;

	if (query->operation != CMD_UPDATE || stmt->hasReturning || stmt->hasModifyingCTE ||
		list_length(stmt->resultRelations) != 1 ||
		rt_fetch(linitial_int(stmt->resultRelations), stmt->rtable)->relkind != RELKIND_VIEW)
		return;
	run = MemoryContextAllocZero(query->estate->es_query_cxt, sizeof(SilentRun));
	run->memory = query->estate->es_query_cxt;
	run->next = silent_runs;
	silent_runs = run;
	run->callback.func = forget_silent_run;
	run->callback.arg = run;
	MemoryContextRegisterResetCallback(run->memory, &run->callback);
}

/*
 * Its memory goes.
 */
static void
forget_silent_run(void *arg)
{
	SilentRun **at = &silent_runs;

	while (*at != NULL && *at != arg)
		at = &(*at)->next;
	if (*at != NULL)
		*at = (*at)->next;
}

/*
 * crm._write_view(object): INSTEAD OF INSERT OR UPDATE OR DELETE on a view.
 */
Datum
crm_write_view(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	ViewInfo *info;
	HeapTuple volatile result = NULL;
	Oid user;
	int security;
	Oid volatile held = InvalidOid;
	StatementState *volatile state = statement_state(fcinfo);

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_INSTEAD(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) || data->tg_trigger->tgnargs != 1)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("crm._write_view must be called as an INSTEAD OF row trigger with the object's name")));

	/*
	 * We are about to act as the owner of the view, so the view must be ours: anybody may hang this function on a view of his own, with
	 * rows of his own making, if he is allowed to call it.
	 */
	if (data->tg_relation->rd_rel->relowner != state->gate)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("crm._write_view works on the views of %s only", CRM_GATE)));

	/* whoever may write to a view may lock what its owner has a right to delete from, so the owner has none */
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(
			ERROR,
			(errcode(ERRCODE_CRM_ERASURE_REFUSED), errmsg("rows of %s cannot be deleted", data->tg_trigger->tgargs[0]),
			 errhint("%s.remove() marks a row as deleted, %s.request_delete() asks for it.", CRM_SCHEMA, CRM_SCHEMA)));

	info = view_info(data->tg_relation, data->tg_trigger->tgargs[0]);
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(state->gate, security | SECURITY_LOCAL_USERID_CHANGE);
	info->in_use++;
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		held = crm_match_hold(info->base);
	PG_TRY();
	{
		if (!TRIGGER_FIRED_BY_INSERT(data->tg_event))
			count_row(state, info);
		if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
			result = update_row(info, data, state->silent);
		else
		{
			SPI_connect();
			result = insert_row(info, data);
			SPI_finish();
		}
	}
	PG_FINALLY();
	{
		info->in_use--;
		if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
			(void) crm_match_hold(held);
		SetUserIdAndSecContext(user, security);
	}
	PG_END_TRY();
	return PointerGetDatum(result);
}

/*
 * Write the columns that were given; the others have their defaults. A row without an owner becomes the
 * person's own, and his team's.
 */
static HeapTuple
insert_row(ViewInfo *info, TriggerData *data)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	Datum *values = palloc(sizeof(Datum) * info->ncolumns);
	bool *nulls = palloc(sizeof(bool) * info->ncolumns);
	Datum *args = palloc(sizeof(Datum) * info->ncolumns);
	Bitmapset *columns = NULL;
	const CrmProfile *profile = crm_profile();
	bool own;
	bool team;
	int n = 0;

	heap_deform_tuple(data->tg_trigtuple, desc, values, nulls);
	for (int i = 0; i < info->ncolumns; i++)
		if (!nulls[i])
			columns = bms_add_member(columns, i);
	if (info->owner >= 0 && nulls[info->owner] && !info->columns[info->owner].kept && profile->member != 0)
	{
		values[info->owner] = Int64GetDatum(profile->member);
		nulls[info->owner] = false;
		if (info->team >= 0 && nulls[info->team] && !info->columns[info->team].kept && profile->team != 0)
		{
			values[info->team] = Int64GetDatum(profile->team);
			nulls[info->team] = false;
		}
	}

	own = info->owner >= 0 && !nulls[info->owner] && DatumGetInt64(values[info->owner]) == profile->member;
	/* a row that hangs on an account gets its owner, so whoever may add it to the account adds to his own or his team's */
	if (info->owner >= 0 && info->columns[info->owner].kept)
		own = profile->member != 0;
	team = info->team >= 0 && !nulls[info->team] &&
		   crm_team_listed(&profile->teams[SCOPE_SUBTREE], DatumGetInt64(values[info->team]));
	for (int i = -1; (i = bms_next_member(columns, i)) >= 0;)
		check_column(info, i, profile, own, team);
	check_parents(info, columns, values, nulls);
	if (info->owner >= 0 && !nulls[info->owner] && !info->columns[info->owner].kept)
		columns = bms_add_member(columns, info->owner);
	if (info->team >= 0 && !nulls[info->team] && !info->columns[info->team].kept)
		columns = bms_add_member(columns, info->team);

	for (int i = -1; (i = bms_next_member(columns, i)) >= 0;)
		args[n++] = values[i];

	/* whoever may add rows and read none gets back what he gave: reading the new row would need the right to see it */
	if (!crm_reads_any(profile, info->object))
	{
		if (SPI_execute_plan(statement_plan(info, 'b', columns), args, NULL, false, 1) != SPI_OK_INSERT)
			elog(ERROR, "could not insert through a view");
		return SPI_processed == 0 ? NULL : data->tg_trigtuple;
	}
	/* no limit of one row: the executor would stop at it, before the triggers that come after the statement */
	if (SPI_execute_plan(statement_plan(info, 'i', columns), args, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not insert through a view");
	if (SPI_processed == 0)
		return NULL;
	return SPI_copytuple(SPI_tuptable->vals[0]);
}

/*
 * The columns that differ from what the person saw.
 */
static Bitmapset *
changed_columns(const ViewInfo *info, const TupleTableSlot *seen, const TupleTableSlot *wanted)
{
	Bitmapset *changed = NULL;

	for (int i = 0; i < info->ncolumns; i++)
	{
		const ViewColumn *column = &info->columns[i];

		if (wanted->tts_isnull[i] == seen->tts_isnull[i] &&
			(seen->tts_isnull[i] ||
			 datum_image_eq(wanted->tts_values[i], seen->tts_values[i], column->byval, column->len)))
			continue;

		/* applications count versions and note times by themselves; the engine knows better */
		if (i == info->version || strcmp(column->name, "updated_at") == 0 || strcmp(column->name, "updated_by") == 0)
			continue;
		changed = bms_add_member(changed, i);
	}
	return changed;
}

/*
 * Write them, if the person may.
 */
static HeapTuple
update_row(ViewInfo *info, TriggerData *data, bool silent)
{
	/* the executor has both rows in parts already */
	const Datum *values = data->tg_newslot->tts_values;
	const bool *nulls = data->tg_newslot->tts_isnull;
	const Datum *old_values = data->tg_trigslot->tts_values;
	const bool *old_nulls = data->tg_trigslot->tts_isnull;
	Bitmapset *changed;
	const CrmProfile *profile = crm_profile();
	bool own;
	bool team;

	slot_getallattrs(data->tg_trigslot);
	slot_getallattrs(data->tg_newslot);
	changed = changed_columns(info, data->tg_trigslot, data->tg_newslot);
	if (changed == NULL)
		return data->tg_newtuple;

	/* the key columns of a row are shown to whoever sees it, so the old row's owner is the true one */
	if (info->is_member)
		own = profile->member != 0 && DatumGetInt64(old_values[bms_next_member(info->key, -1)]) == profile->member;
	else
		own = info->owner >= 0 && !old_nulls[info->owner] && profile->member != 0 &&
			  DatumGetInt64(old_values[info->owner]) == profile->member;
	team = info->team >= 0 && !old_nulls[info->team] &&
		   crm_team_listed(&profile->teams[SCOPE_SUBTREE], DatumGetInt64(old_values[info->team]));
	for (int i = -1; (i = bms_next_member(changed, i)) >= 0;)
	{
		if (info->columns[i].fixed)
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
							errmsg("column \"%s\" of %s never changes", info->columns[i].name, info->object)));
		check_column(info, i, profile, own, team);
	}
	check_parents(info, changed, values, nulls);
	for (int i = -1; (i = bms_next_member(changed, i)) >= 0;)
		if (crm_hides_keys(profile, info->columns[i].field))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("column \"%s\" of %s has keys that you may not see", info->columns[i].name, info->object),
					 errhint("Change single keys with %s.write().", CRM_SCHEMA)));
	return write_changed(info, data, changed, silent);
}

/*
 * Write these columns, which the person may.
 */
static HeapTuple
write_changed(ViewInfo *info, TriggerData *data, Bitmapset *changed, bool silent)
{
	const Datum *values = data->tg_newslot->tts_values;
	const bool *nulls = data->tg_newslot->tts_isnull;
	const Datum *old_values = data->tg_trigslot->tts_values;
	const bool *old_nulls = data->tg_trigslot->tts_isnull;
	HeapTuple volatile result = NULL;
	CrmRowOutcome volatile outcome;
	CrmViewWrite *write;
	int32 version = 0;

	write = begin_write(info, changed, values, nulls, old_values);
	PG_TRY();
	{
		outcome = update_directly(info, write, changed, data, silent, &result, &version);
		if (outcome == ROW_NOT_PLAIN)
			result = update_by_statement(info, changed, values, nulls, old_values, old_nulls, &version);
		else if (outcome == ROW_KEPT)
		{
			SPI_connect();
			(void) row_is_skipped(info, old_values, old_nulls, "change");
			SPI_finish();
		}
	}
	PG_CATCH();
	{
		if (write)
			crm_view_write_give_up(write);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (write && result)
		crm_view_write_end(write, version, outcome == ROW_UPDATED);
	else if (write)
		crm_view_write_give_up(write);
	return result;
}

/*
 * Give the update its place in the order of all writes to the customer (writes/write.c). NULL when it has none.
 */
static CrmViewWrite *
begin_write(const ViewInfo *info, Bitmapset *changed, const Datum *values, const bool *nulls, const Datum *old_values)
{
	Datum *row;
	bool *row_nulls;
	Bitmapset *columns = NULL;
	int key = bms_next_member(info->key, -1);

	if (info->version < 0 || key < 0 || bms_num_members(info->key) != 1 || info->columns[key].type != INT8OID)
		return NULL;
	row = palloc(sizeof(Datum) * info->base_desc->natts);
	row_nulls = palloc(sizeof(bool) * info->base_desc->natts);
	for (int i = -1; (i = bms_next_member(changed, i)) >= 0;)
	{
		row[info->columns[i].number - 1] = values[i];
		row_nulls[info->columns[i].number - 1] = nulls[i];
		columns = bms_add_member(columns, info->columns[i].number);
	}
	return crm_view_write_begin(info->object, DatumGetInt64(old_values[key]), DatumGetInt32(old_values[info->version]),
								columns, row, row_nulls);
}

/*
 * The update without a statement.
 */
static CrmRowOutcome
update_directly(ViewInfo *info, CrmViewWrite *write, Bitmapset *changed, TriggerData *data, bool silent,
				HeapTuple volatile *result, int32 *version)
{
	const Datum *values = data->tg_newslot->tts_values;
	const bool *nulls = data->tg_newslot->tts_isnull;
	const Datum *old_values = data->tg_trigslot->tts_values;
	Datum *row = palloc(sizeof(Datum) * info->base_desc->natts);
	bool *row_nulls = palloc0(sizeof(bool) * info->base_desc->natts);
	Bitmapset *columns = NULL;
	ItemPointer place = NULL;
	HeapTuple written;
	CrmRowOutcome outcome;

	for (int i = -1; (i = bms_next_member(info->key, i)) >= 0;)
		row[info->columns[i].number - 1] = old_values[i];
	for (int i = -1; (i = bms_next_member(changed, i)) >= 0;)
	{
		const ViewColumn *column = &info->columns[i];

		if (!column->coerced)
			return ROW_NOT_PLAIN;
		row[column->number - 1] = values[i];
		row_nulls[column->number - 1] = nulls[i];
		columns = bms_add_member(columns, column->number - FirstLowInvalidHeapAttributeNumber);
	}
	if (write)
	{
		AttrNumber column;
		int64 number;

		place = crm_view_write_place(write, &column, &number);
		if (column != InvalidAttrNumber)
		{
			row[column - 1] = Int64GetDatum(number);
			columns = bms_add_member(columns, column - FirstLowInvalidHeapAttributeNumber);
		}
	}
	outcome = crm_row_update(info->base, columns, row, row_nulls,
							 info->version >= 0 ? info->columns[info->version].number : InvalidAttrNumber,
							 info->version >= 0 ? DatumGetInt32(old_values[info->version]) : 0, place,
							 silent ? NULL : &written, version);
	if (outcome == ROW_UPDATED)
		*result = silent ? data->tg_newtuple : masked_row(info, written, RelationGetDescr(data->tg_relation));
	return outcome;
}

/*
 * A row of the table as a row of the view, masked like everything that is read.
 */
static HeapTuple
masked_row(ViewInfo *info, HeapTuple row, TupleDesc desc)
{
	const CrmProfile *profile = crm_profile();
	Datum *base = palloc(sizeof(Datum) * info->base_desc->natts);
	bool *base_nulls = palloc(sizeof(bool) * info->base_desc->natts);
	Datum *values = palloc(sizeof(Datum) * info->ncolumns);
	bool *nulls = palloc(sizeof(bool) * info->ncolumns);
	int owner_column = info->is_member ? bms_next_member(info->key, -1) : info->owner;
	const int64 *owner = NULL;
	const int64 *team = NULL;
	int64 owner_id = 0;
	int64 team_id = 0;
	bool whole = sees_all(info, profile);

	heap_deform_tuple(row, info->base_desc, base, base_nulls);
	if (owner_column >= 0 && !base_nulls[info->columns[owner_column].number - 1])
	{
		owner_id = DatumGetInt64(base[info->columns[owner_column].number - 1]);
		owner = &owner_id;
	}
	if (info->team >= 0 && !base_nulls[info->columns[info->team].number - 1])
	{
		team_id = DatumGetInt64(base[info->columns[info->team].number - 1]);
		team = &team_id;
	}
	for (int i = 0; i < info->ncolumns; i++)
	{
		const ViewColumn *column = &info->columns[i];

		values[i] = base[column->number - 1];
		nulls[i] = base_nulls[column->number - 1];
		if (!whole && column->guarded && !nulls[i])
			values[i] = crm_guard_column(profile, column->field, column->type, values[i], owner, team, &nulls[i]);
	}
	return heap_form_tuple(desc, values, nulls);
}

/*
 * Is nothing of any row masked for this person? Asked for every row of a statement, so the answer is kept.
 */
static bool
sees_all(ViewInfo *info, const CrmProfile *profile)
{
	if (info->asked != profile->serial)
	{
		bool all = !crm_profile_in_sandbox(profile);

		for (int i = 0; i < info->ncolumns && all; i++)
			all = !info->columns[i].guarded ||
				  (crm_field_rule(profile, FIELD_READ, info->columns[i].field).mode == MODE_ALWAYS &&
				   !crm_hides_keys(profile, info->columns[i].field));
		info->asked = profile->serial;
		info->whole = all;
	}
	return info->whole;
}

/*
 * The update by its statement.
 */
static HeapTuple
update_by_statement(ViewInfo *info, Bitmapset *changed, const Datum *values, const bool *nulls, const Datum *old_values,
					const bool *old_nulls, int32 *version)
{
	bool isnull;
	Datum *args = palloc(sizeof(Datum) * (info->ncolumns * 2));
	char *argnulls = palloc(info->ncolumns * 2 + 1);
	HeapTuple result = NULL;
	int n = 0;

	for (int i = -1; (i = bms_next_member(changed, i)) >= 0;)
	{
		args[n] = values[i];
		argnulls[n++] = nulls[i] ? 'n' : ' ';
	}
	n = condition_values(info, n, old_values, old_nulls, args, argnulls, true);
	argnulls[n] = '\0';
	SPI_connect();
	if (SPI_execute_plan(statement_plan(info, 'u', changed), args, argnulls, false, 0) != SPI_OK_UPDATE_RETURNING)
		elog(ERROR, "could not update through a view");
	if (SPI_processed > 0)
	{
		result = SPI_copytuple(SPI_tuptable->vals[0]);
		if (info->version >= 0)
			*version =
				DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, info->version + 1, &isnull));
	}
	else
		(void) row_is_skipped(info, old_values, old_nulls, "change");
	SPI_finish();
	return result;
}

/*
 * Nothing was written: why? True when the row is gone, or was written by this very statement before, as the core skips it then. Raises when
 * somebody else changed it, or when the person may not.
 */
static bool
row_is_skipped(ViewInfo *info, const Datum *values, const bool *nulls, const char *verb)
{
	Datum *args = palloc(sizeof(Datum) * info->ncolumns);
	char *argnulls = palloc0(info->ncolumns + 1);
	bool isnull;

	if (info->look_plan == NULL)
	{
		StringInfoData sql;
		Oid *types = palloc(sizeof(Oid) * info->ncolumns);
		int nargs = 0;

		initStringInfo(&sql);
		appendStringInfo(&sql, "SELECT t.xmin, %s FROM %s.%s AS t", info->version >= 0 ? "t.row_version" : "NULL::int",
						 CRM_DATA_SCHEMA, quote_identifier(info->object));
		append_condition(&sql, info, &nargs, types, false);
		info->look_plan = SPI_prepare(sql.data, nargs, types);
		if (info->look_plan == NULL || SPI_keepplan(info->look_plan) != 0)
			elog(ERROR, "could not prepare a look at a row");
	}
	condition_values(info, 0, values, nulls, args, argnulls, false);
	if (SPI_execute_plan(info->look_plan, args, argnulls, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look at a row");
	if (SPI_processed == 0)
		return true;
	if (info->version >= 0)
	{
		Datum version = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);

		if (!isnull && DatumGetInt32(version) != DatumGetInt32(values[info->version]))
		{
			Datum xmin = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

			if (TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin)))
				return true;
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("the %s was changed by somebody else meanwhile", info->object),
							errdetail("The statement saw version %d, it has version %d now.",
									  DatumGetInt32(values[info->version]), DatumGetInt32(version)),
							errhint("Read it again and repeat the change.")));
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to %s this %s", verb, info->object)));
	return true; /* not reached */
}

/*
 * May the person write this column of such a row?
 */
static void
check_column(const ViewInfo *info, int column, const CrmProfile *profile, bool own, bool team)
{
	const ViewColumn *c = &info->columns[column];
	CrmFieldRule rule;

	if (profile->unrestricted && !c->kept)
		return;
	if (c->field == 0 || c->kept)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("column \"%s\" of %s is kept by the engine", c->name, info->object)));
	rule = crm_field_rule(profile, FIELD_WRITE, c->field);
	if (rule.mode == MODE_ALWAYS || (rule.mode == MODE_OWN && own) || (rule.mode == MODE_TEAM && (own || team)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to write column \"%s\" of %s", c->name, info->object),
			 errhint("%s.form_spec('%s', id) shows what of a record you may change.", CRM_SCHEMA, info->object)));
}

/*
 * Is there such a row of another object, for this person? What is hidden and what is missing get the same answer: the core's own
 * check of a foreign key runs past row security and would tell them apart.
 */
static void
check_parent(const char *object, SPIPlanPtr *plan, bool keep, Datum key, const char *column)
{
	SPI_connect();
	if (*plan == NULL)
	{
		Oid types[1] = {INT8OID};

		*plan = SPI_prepare(psprintf("SELECT FROM %s.%s AS p WHERE p.id OPERATOR(pg_catalog.=) $1", CRM_DATA_SCHEMA,
									 quote_identifier(object)),
							1, types);
		if (*plan == NULL || (keep && SPI_keepplan(*plan) != 0))
			elog(ERROR, "could not prepare a look at a reference");
	}
	if (SPI_execute_plan(*plan, &key, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look at a reference");
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
						errmsg("column \"%s\" refers to a row of %s that is not there", column, object),
						errhint("Choose one that the view %s.%s shows you.", CRM_SCHEMA, object)));
	SPI_finish();
}

/*
 * Check all references among the columns.
 */
static void
check_parents(ViewInfo *info, Bitmapset *columns, const Datum *values, const bool *nulls)
{
	for (int i = -1; (i = bms_next_member(columns, i)) >= 0;)
		if (info->columns[i].parent != NULL && !nulls[i])
			check_parent(info->columns[i].parent, &info->columns[i].parent_plan, true,
						 info->columns[i].type == INT4OID ? Int64GetDatum(DatumGetInt32(values[i])) : values[i],
						 info->columns[i].name);

	if (info->record >= 0 && info->object_column >= 0 && !nulls[info->record] && !nulls[info->object_column] &&
		(bms_is_member(info->record, columns) || bms_is_member(info->object_column, columns)))
	{
		char *object = TextDatumGetCString(values[info->object_column]);
		Oid schema = get_namespace_oid(CRM_SCHEMA, false);
		Oid view = get_relname_relid(object, schema);
		SPIPlanPtr plan = NULL;

		if (!OidIsValid(view) || get_rel_relkind(view) != RELKIND_VIEW)
			ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION), errmsg("there is no object \"%s\"", object)));
		check_parent(object, &plan, false, values[info->record], info->columns[info->record].name);
	}
}

/*
 * The plan that writes these columns; made once.
 */
static SPIPlanPtr
statement_plan(ViewInfo *info, char operation, Bitmapset *columns)
{
	ListCell *cell;
	StringInfoData sql;
	Oid *types;
	int nargs = 0;
	WritePlan *made;
	MemoryContext old;
	const char *separator = "";

	foreach (cell, info->plans)
	{
		WritePlan *known = lfirst(cell);

		if (known->operation == operation && bms_equal(known->columns, columns))
			return known->plan;
	}

	types = palloc(sizeof(Oid) * info->ncolumns * 2);
	initStringInfo(&sql);
	if (operation == 'u')
	{
		appendStringInfo(&sql, "UPDATE %s.%s AS t SET ", CRM_DATA_SCHEMA, quote_identifier(info->object));
		for (int i = -1; (i = bms_next_member(columns, i)) >= 0;)
		{
			types[nargs++] = info->columns[i].type;
			appendStringInfo(&sql, "%s%s = $%d", separator, quote_identifier(info->columns[i].name), nargs);
			separator = ", ";
		}
		append_condition(&sql, info, &nargs, types, true);
	}
	else
	{
		StringInfoData list;

		initStringInfo(&list);
		appendStringInfo(&sql, "INSERT INTO %s.%s AS t", CRM_DATA_SCHEMA, quote_identifier(info->object));
		for (int i = -1; (i = bms_next_member(columns, i)) >= 0;)
		{
			types[nargs++] = info->columns[i].type;
			appendStringInfo(&sql, "%s%s", nargs == 1 ? " (" : ", ", quote_identifier(info->columns[i].name));
			appendStringInfo(&list, "%s$%d", nargs == 1 ? "" : ", ", nargs);
		}
		if (nargs > 0)
			appendStringInfo(&sql, ") VALUES (%s)", list.data);
		else
			appendStringInfoString(&sql, " DEFAULT VALUES");
	}
	if (operation != 'b')
		appendStringInfo(&sql, " RETURNING %s", info->returning);

	old = MemoryContextSwitchTo(info->context);
	made = palloc(sizeof(WritePlan));
	made->operation = operation;
	made->columns = bms_copy(columns);
	MemoryContextSwitchTo(old);
	made->plan = SPI_prepare(sql.data, nargs, types);
	if (made->plan == NULL || SPI_keepplan(made->plan) != 0)
		elog(ERROR, "could not prepare a write through a view");
	old = MemoryContextSwitchTo(info->context);
	info->plans = lappend(info->plans, made);
	MemoryContextSwitchTo(old);
	return made->plan;
}

/*
 * Add the condition that finds the row, as it was seen.
 */
static void
append_condition(StringInfo sql, const ViewInfo *info, int *nargs, Oid *types, bool with_version)
{
	const char *separator = " WHERE ";

	for (int i = -1; (i = bms_next_member(info->key, i)) >= 0;)
	{
		types[(*nargs)++] = info->columns[i].type;
		appendStringInfo(sql, "%st.%s OPERATOR(pg_catalog.=) $%d", separator, quote_identifier(info->columns[i].name),
						 *nargs);
		separator = " AND ";
	}
	if (with_version && info->version >= 0)
	{
		types[(*nargs)++] = INT4OID;
		appendStringInfo(sql, "%st.row_version OPERATOR(pg_catalog.=) $%d", separator, *nargs);
	}
}

/*
 * The values of that condition; answers how many arguments there are then.
 */
static int
condition_values(const ViewInfo *info, int nargs, const Datum *values, const bool *nulls, Datum *args, char *argnulls,
				 bool with_version)
{
	for (int i = -1; (i = bms_next_member(info->key, i)) >= 0;)
	{
		args[nargs] = values[i];
		argnulls[nargs++] = nulls[i] ? 'n' : ' ';
	}
	if (with_version && info->version >= 0)
	{
		args[nargs] = values[info->version];
		argnulls[nargs++] = nulls[info->version] ? 'n' : ' ';
	}
	return nargs;
}

/*
 * One statement may touch only so many protected rows unless somebody approved of more.
 */
static void
count_row(StatementState *state, const ViewInfo *info)
{
	if (info->version >= 0)
		count_one(&state->rows, &state->limit, info->object);
}

/*
 * One more row. The first is free of questions.
 */
static void
count_one(int64 *rows, int64 *limit, const char *object)
{
	if (++*rows == 1 || crm_profile()->unrestricted)
		return;
	if (*limit == 0 || *rows == *limit + 1)
	{
		Oid types[2] = {TEXTOID, INT8OID};
		Datum args[2] = {CStringGetTextDatum(object), Int64GetDatum(*limit)};
		bool isnull;

		SPI_connect();
		if (SPI_execute_with_args("SELECT " CRM_SCHEMA "._rows_allowed($1, $2)", 2, types, args, NULL, false, 1) !=
			SPI_OK_SELECT)
			elog(ERROR, "could not ask how many rows are allowed");
		*limit = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		SPI_finish();
	}
	if (*rows > *limit)
		ereport(ERROR,
				(errcode(ERRCODE_CRM_TOO_MANY_ROWS),
				 errmsg("the statement touches more than %lld rows of %s", (long long) *limit, object),
				 errhint("Ask for an approval with %s.request_approval('bulk', '%s', ...).", CRM_SCHEMA, object)));
}

/*
 * The same for records that a client's statement removes one by one, by a function. A statement that removes now of one object and now of
 * another counts both together.
 */
void
crm_count_removal(const char *object)
{
	static TimestampTz statement = 0;
	static int64 rows = 0;
	static int64 limit = 0;

	if (statement != GetCurrentStatementStartTimestamp())
	{
		statement = GetCurrentStatementStartTimestamp();
		rows = limit = 0;
	}
	count_one(&rows, &limit, object);
}

/*
 * What is known of a view.
 */
static ViewInfo *
view_info(Relation view, const char *object)
{
	Oid key = RelationGetRelid(view);
	ViewInfo *info;
	bool found;

	if (views == NULL)
	{
		HASHCTL ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(ViewInfo);
		ctl.hcxt = AllocSetContextCreate(CacheMemoryContext, "crm writes", ALLOCSET_DEFAULT_SIZES);
		views = hash_create("crm writes", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	info = hash_search(views, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) info + sizeof(Oid), 0, sizeof(ViewInfo) - sizeof(Oid));
		info->valid = false;
	}
	if (!info->valid && info->in_use == 0)
	{
		forget_info(info);
		build_info(info, view, object);
	}
	return info;
}

/*
 * Learn what a view is made of.
 */
static void
build_info(ViewInfo *info, Relation view, const char *object)
{
	TupleDesc desc = RelationGetDescr(view);
	MemoryContext context = AllocSetContextCreate(CacheMemoryContext, "crm view", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Relation base;
	Bitmapset *key;
	StringInfoData returning;

	info->context = context;
	info->object = pstrdup(object);
	info->base = get_relname_relid(object, get_namespace_oid(CRM_DATA_SCHEMA, false));
	if (!OidIsValid(info->base))
		elog(ERROR, "there is no table for the view of \"%s\"", object);
	info->ncolumns = desc->natts;
	info->columns = palloc0(sizeof(ViewColumn) * desc->natts);
	info->version = info->owner = info->team = info->object_column = info->record = -1;

	info->is_member = strcmp(object, "member") == 0;

	base = table_open(info->base, AccessShareLock);
	info->base_desc = CreateTupleDescCopy(RelationGetDescr(base));
	key = RelationGetIndexAttrBitmap(base, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		ViewColumn *column = &info->columns[i];

		column->name = pstrdup(NameStr(att->attname));
		column->type = att->atttypid;
		column->len = att->attlen;
		column->byval = att->attbyval;
		column->number = get_attnum(info->base, column->name);
		if (column->number <= 0)
			elog(ERROR, "table \"%s\" has no column \"%s\"", object, column->name);
		column->coerced = TupleDescAttr(info->base_desc, column->number - 1)->atttypmod == att->atttypmod;
		column->kept = true;
		if (bms_is_member(column->number - FirstLowInvalidHeapAttributeNumber, key))
			info->key = bms_add_member(info->key, i);
		if (strcmp(column->name, "row_version") == 0)
			info->version = i;
		else if (strcmp(column->name, "owner_id") == 0)
			info->owner = i;
		else if (strcmp(column->name, "team_id") == 0)
			info->team = i;
		else if (strcmp(column->name, "object") == 0)
			info->object_column = i;
		else if (strcmp(column->name, "record_id") == 0)
			info->record = i;
	}
	read_fields(info);
	read_parents(info, base);
	table_close(base, AccessShareLock);

	/* what is returned is masked like everything that is read */
	initStringInfo(&returning);
	for (int i = 0; i < info->ncolumns; i++)
	{
		const ViewColumn *column = &info->columns[i];
		const char *name = quote_identifier(column->name);

		if (i > 0)
			appendStringInfoString(&returning, ", ");
		if (column->guarded)
			appendStringInfo(&returning, "%s.guard(t.%s, %d, %s, %s)", CRM_SCHEMA, name, column->field,
							 info->is_member    ? "t.id"
							 : info->owner >= 0 ? "t.owner_id"
												: "NULL::bigint",
							 info->team >= 0 ? "t.team_id" : "NULL::bigint");
		else
			appendStringInfo(&returning, "t.%s", name);
	}
	info->returning = returning.data;
	MemoryContextSwitchTo(old);
	info->valid = true;
}

/*
 * Read numbers and classes of the fields from the registry.
 */
static void
read_fields(ViewInfo *info)
{
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	AttrNumber number_of[6];
	static const char *const names[] = {"id", "object", "name", "class", "write_class", "guarded"};

	field_table = get_relname_relid("field", get_namespace_oid(CRM_DATA_SCHEMA, false));
	for (int i = 0; i < lengthof(names); i++)
		number_of[i] = get_attnum(field_table, names[i]);
	rel = table_open(field_table, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum value[6];
		bool isnull;
		char *name;

		for (int i = 0; i < lengthof(names); i++)
			value[i] = heap_getattr(tuple, number_of[i], RelationGetDescr(rel), &isnull);
		if (strcmp(TextDatumGetCString(value[1]), info->object) != 0)
			continue;
		name = TextDatumGetCString(value[2]);
		for (int i = 0; i < info->ncolumns; i++)
		{
			ViewColumn *column = &info->columns[i];
			char *write_class;

			if (strcmp(column->name, name) != 0)
				continue;
			write_class = TextDatumGetCString(value[4]);
			column->field = DatumGetInt32(value[0]);
			column->guarded = DatumGetBool(value[5]) || strcmp(TextDatumGetCString(value[3]), "engine") == 0;
			column->fixed = strcmp(write_class, "fixed") == 0;

			/* whoever could say when a row was made could get round every time limit */
			column->kept = strcmp(write_class, "engine") == 0 || strcmp(name, "id") == 0 ||
						   strcmp(name, "created_at") == 0 || strcmp(name, "created_by") == 0;
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * Find the columns that refer to another object of the views.
 */
static void
read_parents(ViewInfo *info, Relation base)
{
	List *keys = RelationGetFKeyList(base);
	Oid schema = get_namespace_oid(CRM_SCHEMA, false);
	ListCell *cell;

	foreach (cell, keys)
	{
		ForeignKeyCacheInfo *fk = lfirst(cell);
		char *parent = get_rel_name(fk->confrelid);
		char *column;

		if (fk->nkeys != 1 || get_rel_namespace(fk->confrelid) != RelationGetNamespace(base))
			continue;
		if (!OidIsValid(get_relname_relid(parent, schema)))
			continue;
		column = get_attname(fk->confrelid, fk->confkey[0], false);
		if (strcmp(column, "id") != 0)
			continue;
		column = get_attname(info->base, fk->conkey[0], false);
		for (int i = 0; i < info->ncolumns; i++)
			if (strcmp(info->columns[i].name, column) == 0)
				info->columns[i].parent = parent;
	}
}

/*
 * Drop what was known, plans too.
 */
static void
forget_info(ViewInfo *info)
{
	ListCell *cell;
	Oid view = info->view;

	if (info->context == NULL)
		return;
	foreach (cell, info->plans)
		SPI_freeplan(((WritePlan *) lfirst(cell))->plan);
	for (int i = 0; i < info->ncolumns; i++)
		if (info->columns[i].parent_plan != NULL)
			SPI_freeplan(info->columns[i].parent_plan);
	if (info->look_plan != NULL)
		SPI_freeplan(info->look_plan);
	MemoryContextDelete(info->context);
	memset(info, 0, sizeof(ViewInfo));
	info->view = view;
}

/*
 * A relation changed: what is known of it is old.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	ViewInfo *info;

	if (views == NULL)
		return;
	hash_seq_init(&status, views);
	while ((info = hash_seq_search(&status)) != NULL)
		if (relid == InvalidOid || relid == info->view || relid == info->base || relid == field_table)
			info->valid = false;
}
