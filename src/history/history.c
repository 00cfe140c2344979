/*
 * history.c
 *		The change log: versions of records, and one row of "change" for each.
 *
 * Every protected table has, attached by sql/api/history.sql:
 * - a BEFORE row trigger that fires last (zzz_crm_version): sets row_version, field_version, last_at, last_hash and updated_*,
 *   and refuses a physical delete;
 * - an AFTER row trigger for UPDATE and DELETE and an AFTER statement trigger for INSERT (so that a bulk load is written in
 *   batches): they compare the row as it was stored with the digest, and write its change;
 * - a BEFORE TRUNCATE trigger that refuses.
 * Facts (append-only tables) have a trigger that refuses everything but INSERT. All are ENABLE ALWAYS: session_replication_role
 * does not get round them; in a logical apply worker they do nothing, since the publisher's history arrives by itself.
 *
 * Trigger arguments: the object's name; then the names of the columns that the engine keeps (scores, leases, copies): changing
 * them is no version and no history.
 *
 * last_hash of a record is the hash of its last change. The AFTER trigger computes it again over the row that was stored, unless that is byte for
 * byte the one it was computed over: a trigger in between that changed the row is found out. Both take the change's salt from a secret of the
 * transaction, so that it is stored with the change alone, and a record is not made wider by it.
 *
 * Locking: none of its own; the row lock of the statement orders a record's versions.
 *
 * Security: change is written as the table's owner, whoever caused it, and without a statement (see common/direct.c). The SQL run here
 * names operators with their schema, for the session's search_path may hold anything.
 *
 * Memory: each trigger call works in a context of its own; what is known of a table lives in a child of CacheMemoryContext.
 */
#include "crm.h"
#include "common/invalidate.h"

#include "access/heapam.h"
#include "access/access.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/direct.h"
#include "common/errors.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "history/history.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(crm_history_before);
PG_FUNCTION_INFO_V1(crm_history_after);
PG_FUNCTION_INFO_V1(crm_history_append_only);
PG_FUNCTION_INFO_V1(crm_history_engine_context);
PG_FUNCTION_INFO_V1(crm_history_engine_mode);

/* rows of an INSERT that are written together */
#define BATCH_ROWS 1000

/* how a value becomes JSON */
enum
{
	KIND_TEXT,
	KIND_BOOL,
	KIND_INT2,
	KIND_INT4,
	KIND_INT8,
	KIND_NUMERIC,
	KIND_TIMESTAMPTZ,
	KIND_JSONB,
	KIND_PLAIN, /* by to_jsonb, whatever the settings */
	KIND_OTHER  /* by to_jsonb under fixed settings */
};

/* One change on its way to the table. */
typedef struct PendingChange
{
	CrmChange head;
	text *fields; /* JSON */
	bool chained;
	uint8 salt[CRM_SALT_LEN];
	bool has_prev;
	uint8 prev[CRM_HASH_LEN];
	uint8 hash[CRM_HASH_LEN];
} PendingChange;

/*
 * The last row that BEFORE made a version of for an INSERT, and what the hash was made of beside it: a row that AFTER finds the same, byte for byte,
 * need not be digested again. One is enough: many rows at a time have other costs.
 */
#define LAST_ROW 4096
#define LAST_TEXTS 5
#define LAST_TEXT 256

typedef struct LastVersion
{
	Oid relid; /* InvalidOid: none */
	uint8 salt[CRM_SALT_LEN];
	uint8 hash[CRM_HASH_LEN];
	int64 op_seq;
	char texts[LAST_TEXTS][LAST_TEXT];
	bool absent[LAST_TEXTS];
	uint16 natts;
	bool has_nulls;
	uint8 hoff;
	uint32 len;
	char row[LAST_ROW]; /* from its bitmap of nulls */
} LastVersion;

static LastVersion last_version;
static HTAB *tables = NULL;
static CrmWriteContext write_context;
static CrmEngineWrite engine_write = ENGINE_WRITE_NONE;
static int engine_write_level = 0;
static int context_level = 0; /* of the transaction in which a function in SQL said how changes come; 0: none did */
static uint8 secret[CRM_HASH_LEN]; /* of this transaction, for salts */
static bool has_secret = false;
static SPIPlanPtr last_plan = NULL;
static SPIPlanPtr role_plan = NULL;

static CrmHistoryTable *get_table(Relation rel, Trigger *trigger);
static void fill_table(CrmHistoryTable *table, Relation rel, Trigger *trigger);
static bool is_bookkeeping(const char *name);
static bool is_engine_column(Trigger *trigger, const char *name);
static void invalidate_table(Datum arg, Oid relid);
static void end_of_transaction(XactEvent event, void *arg);
static void end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg);
static bool column_changed(const CrmHistoryColumn *column, TupleDesc desc, const Datum *old, const bool *old_null,
						   const Datum *new, const bool *new_null);
static void make_change(CrmHistoryTable *table, TupleDesc desc, const Datum *old, const bool *old_null,
						const Datum *new, const bool *new_null, PendingChange *change, bool want_fields, bool hashed);
static void keep_version(Oid relid, const PendingChange *change, HeapTuple row);
static bool is_kept_version(Oid relid, PendingChange *change, MinimalTuple row);
static Datum slow_to_jsonb(CrmHistoryColumn *column, Datum value);
static Jsonb *next_field_version(CrmHistoryTable *table, TupleDesc desc, int32 version, const Datum *old,
								 const bool *old_null, const Datum *new, const bool *new_null);
static void append_json(StringInfo out, const JsonbValue *value);
static void make_salt(CrmHistoryTable *table, PendingChange *change);
static void start_head(CrmHistoryTable *table, CrmChange *head, char op, const Datum *values, const bool *nulls);
static const uint8 *get_hash(CrmHistoryTable *table, const Datum *values, const bool *nulls);
static void check_hash(CrmHistoryTable *table, PendingChange *change, const Datum *values, const bool *nulls);
static void write_changes(Oid owner, const PendingChange *changes, int n);
static void write_inserted(CrmHistoryTable *table, Relation rel, Tuplestorestate *rows);
static void last_change_of(Oid owner, const char *object, int64 id, int32 *version, bool *has_hash, uint8 *hash,
						   TimestampTz *at);
static void execute_as(Oid owner, SPIPlanPtr plan, Datum *values, const char *nulls, int expected);
static const char *member_role(int64 member);
static void refuse_erasure(const char *object, const char *verb);

/*
 * Called when the library is loaded.
 */
void
crm_history_init(void)
{
	RegisterXactCallback(end_of_transaction, NULL);
	RegisterSubXactCallback(end_of_subtransaction, NULL);
	crm_on_relation_change(invalidate_table);
}

/*
 * Say how the changes that follow came; answers what held before, for crm_history_context_restore. The texts must live
 * until then.
 */
CrmWriteContext
crm_history_context_set(CrmWriteContext context)
{
	CrmWriteContext saved = write_context;

	write_context = context;
	return saved;
}

/*
 * Undo crm_history_context_set.
 */
void
crm_history_context_restore(CrmWriteContext saved)
{
	write_context = saved;
}

/*
 * Let the engine's own code do what nobody else may. Ends with ENGINE_WRITE_NONE, an abort or the transaction; it is no
 * setting, so no client can turn it on.
 */
void
crm_history_engine_write(CrmEngineWrite mode)
{
	engine_write = mode;
	engine_write_level = GetCurrentTransactionNestLevel();
}

/*
 * crm._engine_write(mode text, endpoint text, note text): the same for engine functions in SQL. The owner of the tables
 * alone may call it.
 */
Datum
crm_history_engine_context(PG_FUNCTION_ARGS)
{
	char *mode = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!superuser() && GetUserId() != get_role_oid(CRM_OWNER, false))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("only functions of the engine may write as the engine")));
	if (strcmp(mode, "none") == 0)
		crm_history_engine_write(ENGINE_WRITE_NONE);
	else if (strcmp(mode, "erase") == 0)
		crm_history_engine_write(ENGINE_WRITE_ERASE);
	else if (strcmp(mode, "restore") == 0)
		crm_history_engine_write(ENGINE_WRITE_RESTORE);
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown way to write: \"%s\"", mode),
						errhint("Use none, erase or restore.")));
	/* texts live as long as the transaction, and so does what they say */
	write_context.endpoint =
		PG_ARGISNULL(1) ? NULL : MemoryContextStrdup(TopTransactionContext, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	write_context.note =
		PG_ARGISNULL(2) ? NULL : MemoryContextStrdup(TopTransactionContext, text_to_cstring(PG_GETARG_TEXT_PP(2)));
	write_context.op_seq = 0;
	context_level = GetCurrentTransactionNestLevel();
	PG_RETURN_VOID();
}

/*
 * crm._engine_writes(): what crm._engine_write said.
 */
Datum
crm_history_engine_mode(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(engine_write == ENGINE_WRITE_ERASE     ? "erase"
									 : engine_write == ENGINE_WRITE_RESTORE ? "restore"
																			: "none"));
}

/*
 * Nothing said in a transaction outlives it.
 */
static void
end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		engine_write = ENGINE_WRITE_NONE;
		memset(&write_context, 0, sizeof(write_context));
		context_level = 0;
		explicit_bzero(secret, sizeof(secret));
		explicit_bzero(last_version.salt, sizeof(last_version.salt));
		last_version.relid = InvalidOid;
		has_secret = false;
	}
}

/*
 * An abort takes back what was allowed and said inside it; what C code said is its own to restore.
 */
static void
end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && engine_write != ENGINE_WRITE_NONE &&
		GetCurrentTransactionNestLevel() <= engine_write_level)
		engine_write = ENGINE_WRITE_NONE;
	if (event == SUBXACT_EVENT_ABORT_SUB && context_level >= GetCurrentTransactionNestLevel())
	{
		memset(&write_context, 0, sizeof(write_context));
		context_level = 0;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		context_level = Min(context_level, GetCurrentTransactionNestLevel() - 1);
}

/*
 * Who writes: the role of the member who logged in with a token, else the role the session acts as, unchanged by definer
 * functions. An operation that waited is written in its sender's name. In short-lived memory.
 */
const char *
crm_history_actor(void)
{
	if (write_context.actor)
		return write_context.actor;
	if (crm_identity.kind == IDENTITY_MEMBER)
		return member_role(crm_identity.member);
	return GetUserNameFromId(GetOuterUserId(), false);
}

/*
 * Role of a member, remembered until another logs in.
 */
static const char *
member_role(int64 member)
{
	static uint64 known_serial = 0;
	static char known_role[NAMEDATALEN];
	Oid types[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(member)};
	bool isnull = true;

	if (known_serial == crm_identity_serial && known_role[0] != '\0')
		return known_role;
	SPI_connect();
	if (role_plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(
			"SELECT role_name FROM " CRM_DATA_SCHEMA ".member WHERE id OPERATOR(pg_catalog.=) $1", 1, types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the look-up of a member");
		role_plan = plan;
	}
	execute_as(get_role_oid(CRM_OWNER, false), role_plan, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		(void) SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		snprintf(known_role, sizeof(known_role), "member " INT64_FORMAT, member);
	else
		strlcpy(known_role, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), sizeof(known_role));
	SPI_finish();
	known_serial = crm_identity_serial;
	return known_role;
}

/*
 * Login role of the session. In short-lived memory.
 */
const char *
crm_history_session(void)
{
	return GetUserNameFromId(GetSessionUserId(), false);
}

/*
 * Version of the client, when application_name is of the form name/1.2.3; else NULL.
 */
const char *
crm_history_client_version(void)
{
	const char *slash = application_name ? strrchr(application_name, '/') : NULL;

	if (slash == NULL || slash[1] == '\0' || strspn(slash + 1, "0123456789.") != strlen(slash + 1))
		return NULL;
	return slash + 1;
}

/*
 * BEFORE row trigger: makes the next version of a record.
 */
Datum
crm_history_before(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	bool inserting;
	HeapTuple result;
	TupleDesc desc;
	CrmHistoryTable *table;
	MemoryContext work;
	MemoryContext caller;
	Datum *old = NULL;
	Datum *new;
	bool *old_null = NULL;
	bool *new_null;
	PendingChange change;
	int32 version;
	TimestampTz now;
	TimestampTz at;
	int n = 0;
	int set[6];
	Datum values[6];
	bool nulls[6] = {false};
	uint8 stored[VARHDRSZ + CRM_HASH_LEN];

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		elog(ERROR, "crm_history_before must be a BEFORE ROW trigger");
	inserting = TRIGGER_FIRED_BY_INSERT(trigdata->tg_event);
	result = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple;
	if (IsLogicalWorker())
		return PointerGetDatum(result);

	table = get_table(trigdata->tg_relation, trigdata->tg_trigger);
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
	{
		if (engine_write != ENGINE_WRITE_ERASE)
			refuse_erasure(table->object, "deleted");
		return PointerGetDatum(result);
	}

	work = AllocSetContextCreate(CurrentMemoryContext, "crm version", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(work);
	desc = RelationGetDescr(trigdata->tg_relation);
	new = palloc(desc->natts * sizeof(Datum));
	new_null = palloc(desc->natts * sizeof(bool));
	heap_deform_tuple(result, desc, new, new_null);
	if (!inserting)
	{
		old = palloc(desc->natts * sizeof(Datum));
		old_null = palloc(desc->natts * sizeof(bool));
		heap_deform_tuple(trigdata->tg_trigtuple, desc, old, old_null);
	}

	memset(&change, 0, sizeof(change));
	now = GetCurrentTimestamp();
	at = now;
	if (inserting)
	{
		version = 1;
		if (engine_write == ENGINE_WRITE_RESTORE)
		{
			last_change_of(trigdata->tg_relation->rd_rel->relowner, table->object, DatumGetInt64(new[table->id - 1]),
						   &version, &change.has_prev, change.prev, &at);
			version++;
			at = Max(at, now);
		}
	}
	else
	{
		const uint8 *hash;
		bool changed = false;

		version = DatumGetInt32(old[table->row_version - 1]);
		for (int i = 0; i < table->ncolumns && !changed; i++)
			changed = column_changed(&table->columns[i], desc, old, old_null, new, new_null);
		if (!changed)
		{
			/* no version: the bookkeeping stays as it was, whatever the statement says */
			AttrNumber kept[4] = {table->row_version, table->field_version, table->last_hash, table->last_at};

			for (int i = 0; i < lengthof(kept); i++)
			{
				AttrNumber a = kept[i];

				if (a == 0 || (old_null[a - 1] && new_null[a - 1]) ||
					(!old_null[a - 1] && !new_null[a - 1] &&
					 datum_image_eq(old[a - 1], new[a - 1], TupleDescAttr(desc, a - 1)->attbyval,
									TupleDescAttr(desc, a - 1)->attlen)))
					continue;
				set[n] = a;
				values[n] = old[a - 1];
				nulls[n] = old_null[a - 1];
				n++;
			}
			MemoryContextSwitchTo(caller);
			if (n > 0)
				result = heap_modify_tuple_by_cols(result, desc, n, set, values, nulls);
			MemoryContextDelete(work);
			return PointerGetDatum(result);
		}
		if (version == PG_INT32_MAX)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the record has used up its versions")));
		version++;
		if (table->last_at && !old_null[table->last_at - 1])
			at = Max(now, DatumGetTimestampTz(old[table->last_at - 1]));
		hash = get_hash(table, old, old_null);
		if (hash)
		{
			change.has_prev = true;
			memcpy(change.prev, hash, CRM_HASH_LEN);
		}
	}

	set[n] = table->row_version;
	values[n++] = Int32GetDatum(version);
	if (table->field_version && !inserting)
	{
		set[n] = table->field_version;
		values[n++] = JsonbPGetDatum(next_field_version(table, desc, version, old, old_null, new, new_null));
	}
	if (table->last_at)
	{
		set[n] = table->last_at;
		values[n++] = TimestampTzGetDatum(at);
	}
	if (table->updated_at && !inserting)
	{
		set[n] = table->updated_at;
		values[n++] = TimestampTzGetDatum(now);
	}
	if (table->updated_by && !inserting)
	{
		set[n] = table->updated_by;
		values[n++] = CStringGetTextDatum(crm_history_actor());
	}
	if (table->last_hash)
	{
		start_head(table, &change.head, inserting ? 'i' : 'u', new, new_null);
		change.head.version = version;
		change.head.at = at;
		make_change(table, desc, old, old_null, new, new_null, &change, false, false);
		SET_VARSIZE(stored, sizeof(stored));
		memcpy(stored + VARHDRSZ, change.hash, CRM_HASH_LEN);
		set[n] = table->last_hash;
		values[n++] = PointerGetDatum(stored);
	}
	MemoryContextSwitchTo(caller);
	result = heap_modify_tuple_by_cols(result, desc, n, set, values, nulls);
	if (inserting && table->last_hash && !change.has_prev)
		keep_version(RelationGetRelid(trigdata->tg_relation), &change, result);
	MemoryContextDelete(work);
	return PointerGetDatum(result);
}

/*
 * AFTER trigger: writes the change. For each row of an UPDATE or DELETE; for a whole INSERT, with the transition table
 * new_rows. For TRUNCATE, as a BEFORE statement trigger, refuses.
 */
Datum
crm_history_after(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Relation rel;
	TupleDesc desc;
	CrmHistoryTable *table;
	MemoryContext work;
	MemoryContext caller;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "crm_history_after must be a trigger");
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	rel = trigdata->tg_relation;
	table = get_table(rel, trigdata->tg_trigger);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		refuse_erasure(table->object, "truncated");

	work = AllocSetContextCreate(CurrentMemoryContext, "crm history", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(work);
	if (TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event))
	{
		if (trigdata->tg_newtable == NULL)
			elog(ERROR, "crm_history_after needs the transition table of the INSERT");
		write_inserted(table, rel, trigdata->tg_newtable);
	}
	else
	{
		bool deleting = TRIGGER_FIRED_BY_DELETE(trigdata->tg_event);
		Datum *old;
		bool *old_null;
		Datum *new;
		bool *new_null;
		PendingChange change;
		const uint8 *hash;

		desc = RelationGetDescr(rel);
		old = palloc(desc->natts * sizeof(Datum));
		old_null = palloc(desc->natts * sizeof(bool));
		new = palloc(desc->natts * sizeof(Datum));
		new_null = palloc(desc->natts * sizeof(bool));
		heap_deform_tuple(trigdata->tg_trigtuple, desc, old, old_null);
		if (!deleting)
			heap_deform_tuple(trigdata->tg_newtuple, desc, new, new_null);

		/* an update that was no version */
		if (!deleting && DatumGetInt32(old[table->row_version - 1]) == DatumGetInt32(new[table->row_version - 1]))
		{
			for (int i = 0; i < table->ncolumns; i++)
				if (column_changed(&table->columns[i], desc, old, old_null, new, new_null))
					ereport(ERROR, (errcode(ERRCODE_CRM_HISTORY_MISMATCH),
									errmsg("a trigger changed column \"%s\" of %s after its version was made",
										   table->columns[i].name, table->object),
									errhint("Give the trigger a name that sorts before zzz_crm_version.")));
			MemoryContextSwitchTo(caller);
			MemoryContextDelete(work);
			return PointerGetDatum(NULL);
		}

		memset(&change, 0, sizeof(change));
		start_head(table, &change.head, deleting ? 'd' : 'u', deleting ? old : new, deleting ? old_null : new_null);
		hash = get_hash(table, old, old_null);
		if (hash)
		{
			change.has_prev = true;
			memcpy(change.prev, hash, CRM_HASH_LEN);
		}
		if (deleting)
		{
			change.head.version = DatumGetInt32(old[table->row_version - 1]) + 1;
			change.head.at = GetCurrentTimestamp();
			if (table->last_at && !old_null[table->last_at - 1])
				change.head.at = Max(change.head.at, DatumGetTimestampTz(old[table->last_at - 1]));
			make_change(table, desc, old, old_null, NULL, NULL, &change, true, false);
		}
		else
		{
			make_change(table, desc, old, old_null, new, new_null, &change, true, false);
			check_hash(table, &change, new, new_null);
		}
		write_changes(rel->rd_rel->relowner, &change, 1);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
	return PointerGetDatum(NULL);
}

/*
 * Trigger of append-only tables, BEFORE UPDATE OR DELETE for each row and BEFORE TRUNCATE: facts never change. The arguments
 * after the object's name are columns that may: the engine's references and what is filled in once.
 */
Datum
crm_history_append_only(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	HeapTuple result;
	TupleDesc desc;
	const char *object;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) || trigdata->tg_trigger->tgnargs < 1)
		elog(ERROR, "crm_history_append_only must be a BEFORE trigger with an argument");
	object = trigdata->tg_trigger->tgargs[0];
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
	{
		if (!IsLogicalWorker())
			refuse_erasure(object, "truncated");
		return PointerGetDatum(NULL);
	}
	result = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple;
	if (IsLogicalWorker() || engine_write == ENGINE_WRITE_ERASE)
		return PointerGetDatum(result);
	if (TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		refuse_erasure(object, "deleted");

	desc = RelationGetDescr(trigdata->tg_relation);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool old_null;
		bool new_null;
		Datum old_value;
		Datum new_value;

		if (att->attisdropped || is_engine_column(trigdata->tg_trigger, NameStr(att->attname)))
			continue;
		old_value = heap_getattr(trigdata->tg_trigtuple, i + 1, desc, &old_null);
		new_value = heap_getattr(trigdata->tg_newtuple, i + 1, desc, &new_null);
		if (old_null != new_null || (!old_null && !datum_image_eq(old_value, new_value, att->attbyval, att->attlen)))
			ereport(ERROR,
					(errcode(ERRCODE_CRM_ERASURE_REFUSED), errmsg("rows of %s are facts and never change", object),
					 errhint("Add a row that corrects it.")));
	}
	return PointerGetDatum(result);
}

/*
 * Refuse to lose rows, with the way that does not.
 */
static void
refuse_erasure(const char *object, const char *verb)
{
	ereport(ERROR, (errcode(ERRCODE_CRM_ERASURE_REFUSED), errmsg("rows of %s cannot be %s", object, verb),
					strcmp(object, "contact") == 0
						? errhint("Use %s.remove() to mark a record as deleted, %s.merge() for a duplicate, "
								  "%s.forget() to erase a person's data.",
								  CRM_SCHEMA, CRM_SCHEMA, CRM_SCHEMA)
						: errhint("Use %s.remove() to mark a record as deleted, %s.merge() for a duplicate.",
								  CRM_SCHEMA, CRM_SCHEMA)));
}

/*
 * What is known of a protected table, from the cache or the catalogs.
 */
static CrmHistoryTable *
get_table(Relation rel, Trigger *trigger)
{
	Oid relid = RelationGetRelid(rel);
	CrmHistoryTable *table;
	bool found;

	if (tables == NULL)
	{
		HASHCTL ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(CrmHistoryTable);
		ctl.hcxt = CacheMemoryContext;
		tables = hash_create("crm history tables", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	table = hash_search(tables, &relid, HASH_ENTER, &found);
	if (!found)
	{
		table->valid = false;
		table->context = NULL;
	}
	if (!table->valid)
		fill_table(table, rel, trigger);
	return table;
}

/*
 * Read a table's columns. The entry becomes valid last: an error half-way leaves it to be filled again.
 */
static void
fill_table(CrmHistoryTable *table, Relation rel, Trigger *trigger)
{
	TupleDesc desc = RelationGetDescr(rel);
	MemoryContext old;

	if (trigger->tgnargs < 1)
		elog(ERROR, "trigger %s on %s needs the object's name as its argument", trigger->tgname,
			 RelationGetRelationName(rel));
	if (table->context)
		MemoryContextDelete(table->context);
	table->context = NULL;
	table->context = AllocSetContextCreate(CacheMemoryContext, "crm history table", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(table->context);
	table->object = pstrdup(trigger->tgargs[0]);
	table->id = table->account_id = table->row_version = table->field_version = 0;
	table->last_hash = table->last_at = table->updated_at = table->updated_by = 0;
	table->columns = palloc0(desc->natts * sizeof(CrmHistoryColumn));
	table->ncolumns = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		const char *name = NameStr(att->attname);
		CrmHistoryColumn column;
		int place;

		if (att->attisdropped)
			continue;
		/* the field registry's id is an int4; by value both read the same */
		if (strcmp(name, "id") == 0 && (att->atttypid == INT8OID || att->atttypid == INT4OID))
			table->id = i + 1;
		else if (strcmp(name, "account_id") == 0 && att->atttypid == INT8OID)
			table->account_id = i + 1;
		else if (strcmp(name, "row_version") == 0 && att->atttypid == INT4OID)
			table->row_version = i + 1;
		else if (strcmp(name, "field_version") == 0 && att->atttypid == JSONBOID)
			table->field_version = i + 1;
		else if (strcmp(name, "last_hash") == 0 && att->atttypid == BYTEAOID)
			table->last_hash = i + 1;
		else if (strcmp(name, "last_at") == 0 && att->atttypid == TIMESTAMPTZOID)
			table->last_at = i + 1;
		else if (strcmp(name, "updated_at") == 0 && att->atttypid == TIMESTAMPTZOID)
			table->updated_at = i + 1;
		else if (strcmp(name, "updated_by") == 0 && att->atttypid == TEXTOID)
			table->updated_by = i + 1;
		if (att->attgenerated || is_bookkeeping(name) || is_engine_column(trigger, name))
			continue;

		crm_history_column_init(&column, att, table->context);
		for (place = table->ncolumns; place > 0 && strcmp(table->columns[place - 1].name, name) > 0; place--)
			table->columns[place] = table->columns[place - 1];
		table->columns[place] = column;
		table->ncolumns++;
	}
	if (table->id == 0 || table->row_version == 0)
		elog(ERROR, "table %s has no id or row_version", RelationGetRelationName(rel));
	if (strcmp(table->object, "account") == 0)
		table->account_id = table->id;
	MemoryContextSwitchTo(old);
	table->valid = true;
}

/*
 * Prepare to turn a column's values into JSON. What it needs is allocated in the given context.
 */
void
crm_history_column_init(CrmHistoryColumn *column, Form_pg_attribute att, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	memset(column, 0, sizeof(*column));
	column->attnum = att->attnum;
	column->name = pstrdup(NameStr(att->attname));
	column->type = att->atttypid;
	switch (att->atttypid)
	{
		case TEXTOID:
		case VARCHAROID: column->kind = KIND_TEXT; break;
		case BOOLOID: column->kind = KIND_BOOL; break;
		case INT2OID: column->kind = KIND_INT2; break;
		case INT4OID: column->kind = KIND_INT4; break;
		case INT8OID: column->kind = KIND_INT8; break;
		case NUMERICOID: column->kind = KIND_NUMERIC; break;
		case TIMESTAMPTZOID: column->kind = KIND_TIMESTAMPTZ; break;
		case JSONBOID: column->kind = KIND_JSONB; break;
		case TEXTARRAYOID:
		case INT2ARRAYOID:
		case INT4ARRAYOID:
		case INT8ARRAYOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case UUIDOID:
		case BPCHAROID:
		case NAMEOID: column->kind = KIND_PLAIN; break;
		default: column->kind = KIND_OTHER; break;
	}
	fmgr_info_cxt(F_TO_JSONB, &column->to_jsonb, context);
	/* to_jsonb asks its call expression for the argument's type */
	column->to_jsonb.fn_expr =
		(Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(makeNullConst(att->atttypid, -1, att->attcollation)),
							  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	MemoryContextSwitchTo(old);
}

/*
 * Is this a column that the triggers themselves keep, or the record's identity?
 */
static bool
is_bookkeeping(const char *name)
{
	static const char *const names[] = {"id",      "row_version", "field_version", "last_hash",
										"last_at", "updated_at",  "updated_by"};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/*
 * Is this column among the trigger's arguments after the first?
 */
static bool
is_engine_column(Trigger *trigger, const char *name)
{
	for (int i = 1; i < trigger->tgnargs; i++)
		if (strcmp(trigger->tgargs[i], name) == 0)
			return true;
	return false;
}

/*
 * Relation cache callback: forget a table, or all. Only sets a flag.
 */
static void
invalidate_table(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	CrmHistoryTable *table;

	if (tables == NULL)
		return;
	if (OidIsValid(relid))
	{
		table = hash_search(tables, &relid, HASH_FIND, NULL);
		if (table)
			table->valid = false;
		return;
	}
	hash_seq_init(&seq, tables);
	while ((table = hash_seq_search(&seq)) != NULL)
		table->valid = false;
}

/*
 * Does a column differ between two images of a row? By bytes: 1.0 and 1.00 differ, as people see them differ.
 */
static bool
column_changed(const CrmHistoryColumn *column, TupleDesc desc, const Datum *old, const bool *old_null, const Datum *new,
			   const bool *new_null)
{
	int i = column->attnum - 1;
	Form_pg_attribute att = TupleDescAttr(desc, i);

	if (old_null[i] || new_null[i])
		return old_null[i] != new_null[i];
	return !datum_image_eq(old[i], new[i], att->attbyval, att->attlen);
}

/*
 * Fill in a change's salt and hash, and its fields if wanted, from two images of the row (one is NULL for an insert or a delete). head and
 * prev are set; salt and hash too where hashed says so.
 */
static void
make_change(CrmHistoryTable *table, TupleDesc desc, const Datum *old, const bool *old_null, const Datum *new,
			const bool *new_null, PendingChange *change, bool want_fields, bool hashed)
{
	CrmSha256 sha;
	StringInfoData fields;

	change->chained = table->last_hash != 0;
	if (change->chained && !hashed)
	{
		make_salt(table, change);
		crm_chain_begin(&sha, change->has_prev ? change->prev : NULL, &change->head);
	}
	if (want_fields)
	{
		initStringInfo(&fields);
		appendStringInfoSpaces(&fields, VARHDRSZ);
	}
	for (int i = 0; i < table->ncolumns; i++)
	{
		CrmHistoryColumn *column = &table->columns[i];
		int a = column->attnum - 1;
		JsonbValue old_value;
		JsonbValue new_value;

		if (old && new)
		{
			if (!column_changed(column, desc, old, old_null, new, new_null))
				continue;
		}
		else if (old ? old_null[a] : new_null[a])
			continue;
		crm_history_value(column, old ? old[a] : (Datum) 0, old ? old_null[a] : true, &old_value);
		crm_history_value(column, new ? new[a] : (Datum) 0, new ? new_null[a] : true, &new_value);
		if (change->chained && !hashed)
		{
			uint8 digest[CRM_HASH_LEN];

			crm_history_digest(change->salt, column->name, &old_value, &new_value, digest);
			crm_chain_field(&sha, column->name, digest);
		}
		if (want_fields)
		{
			/* as text, not jsonb: every change of every record is stored and logged, few are read */
			appendStringInfoChar(&fields, fields.len == VARHDRSZ ? '{' : ',');
			escape_json(&fields, column->name);
			appendStringInfoString(&fields, ":[");
			append_json(&fields, &old_value);
			appendStringInfoChar(&fields, ',');
			append_json(&fields, &new_value);
			appendStringInfoChar(&fields, ']');
		}
	}
	if (change->chained && !hashed)
		crm_sha256_final(&sha, change->hash);
	if (want_fields)
	{
		appendStringInfoString(&fields, fields.len == VARHDRSZ ? "{}" : "}");
		SET_VARSIZE(fields.data, fields.len);
		change->fields = (text *) fields.data;
	}
}

/*
 * What a hash says about the way a change came.
 */
static void
texts_of(const CrmChange *head, const char *texts[LAST_TEXTS])
{
	texts[0] = head->actor;
	texts[1] = head->session_name;
	texts[2] = head->endpoint;
	texts[3] = head->client_version;
	texts[4] = head->note;
}

/*
 * Keep the version that was made of a row, the first of its record, unless it is too large.
 */
static void
keep_version(Oid relid, const PendingChange *change, HeapTuple row)
{
	const char *texts[LAST_TEXTS];
	uint32 len = row->t_len - SizeofHeapTupleHeader;

	last_version.relid = InvalidOid;
	texts_of(&change->head, texts);
	for (int i = 0; i < LAST_TEXTS; i++)
	{
		last_version.absent[i] = texts[i] == NULL;
		if (texts[i] && strlcpy(last_version.texts[i], texts[i], LAST_TEXT) >= LAST_TEXT)
			return;
	}
	if (len > LAST_ROW)
		return;
	memcpy(last_version.salt, change->salt, CRM_SALT_LEN);
	memcpy(last_version.hash, change->hash, CRM_HASH_LEN);
	last_version.op_seq = change->head.op_seq;
	last_version.natts = HeapTupleHeaderGetNatts(row->t_data);
	last_version.has_nulls = HeapTupleHasNulls(row);
	last_version.hoff = row->t_data->t_hoff;
	last_version.len = len;
	memcpy(last_version.row, row->t_data->t_bits, len);
	last_version.relid = relid;
}

/*
 * Is a row the one whose version is kept, and did its change come the same way? Gives the change its salt and hash then.
 */
static bool
is_kept_version(Oid relid, PendingChange *change, MinimalTuple row)
{
	const char *texts[LAST_TEXTS];

	if (last_version.relid != relid || last_version.op_seq != change->head.op_seq ||
		last_version.len != row->t_len - SizeofMinimalTupleHeader ||
		last_version.natts != HeapTupleHeaderGetNatts(row) || last_version.hoff != row->t_hoff ||
		last_version.has_nulls != ((row->t_infomask & HEAP_HASNULL) != 0) ||
		memcmp(last_version.row, row->t_bits, last_version.len) != 0)
		return false;
	texts_of(&change->head, texts);
	for (int i = 0; i < LAST_TEXTS; i++)
		if (texts[i] ? last_version.absent[i] || strcmp(texts[i], last_version.texts[i]) != 0 : !last_version.absent[i])
			return false;
	memcpy(change->salt, last_version.salt, CRM_SALT_LEN);
	memcpy(change->hash, last_version.hash, CRM_HASH_LEN);
	return true;
}

/*
 * A value as JSON text.
 */
static void
append_json(StringInfo out, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull: appendStringInfoString(out, "null"); break;
		case jbvBool: appendStringInfoString(out, value->val.boolean ? "true" : "false"); break;
		case jbvString:
		{
			char *string = pnstrdup(value->val.string.val, value->val.string.len);

			escape_json(out, string);
			pfree(string);
			break;
		}
		case jbvNumeric:
			appendStringInfoString(
				out, DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))));
			break;
		case jbvBinary: (void) JsonbToCString(out, value->val.binary.data, value->val.binary.len); break;
		default: elog(ERROR, "unexpected kind of JSON value: %d", (int) value->type);
	}
}

/*
 * A column's value as JSON, the same under every setting of the session.
 */
void
crm_history_value(CrmHistoryColumn *column, Datum value, bool isnull, JsonbValue *out)
{
	Jsonb *jsonb;

	if (isnull)
	{
		out->type = jbvNull;
		return;
	}
	switch (column->kind)
	{
		case KIND_TEXT:
		{
			text *t = DatumGetTextPP(value);

			out->type = jbvString;
			out->val.string.val = VARDATA_ANY(t);
			out->val.string.len = VARSIZE_ANY_EXHDR(t);
			return;
		}
		case KIND_BOOL:
			out->type = jbvBool;
			out->val.boolean = DatumGetBool(value);
			return;
		case KIND_INT2:
			out->type = jbvNumeric;
			out->val.numeric = int64_to_numeric(DatumGetInt16(value));
			return;
		case KIND_INT4:
			out->type = jbvNumeric;
			out->val.numeric = int64_to_numeric(DatumGetInt32(value));
			return;
		case KIND_INT8:
			out->type = jbvNumeric;
			out->val.numeric = int64_to_numeric(DatumGetInt64(value));
			return;
		case KIND_NUMERIC:
		{
			Numeric number = DatumGetNumeric(value);

			if (numeric_is_nan(number) || numeric_is_inf(number))
				break;
			out->type = jbvNumeric;
			out->val.numeric = number;
			return;
		}
		case KIND_TIMESTAMPTZ:
		{
			char buffer[MAXDATELEN + 1];
			int utc = 0;

			JsonEncodeDateTime(buffer, value, TIMESTAMPTZOID, &utc);
			out->type = jbvString;
			out->val.string.val = pstrdup(buffer);
			out->val.string.len = strlen(buffer);
			return;
		}
		case KIND_JSONB: value = PointerGetDatum(PG_DETOAST_DATUM(value)); break;
		default: break;
	}

	jsonb = DatumGetJsonbP(column->kind == KIND_JSONB ? value : slow_to_jsonb(column, value));
	if (JB_ROOT_IS_SCALAR(jsonb))
		(void) JsonbExtractScalar(&jsonb->root, out);
	else
	{
		out->type = jbvBinary;
		out->val.binary.data = &jsonb->root;
		out->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
}

/*
 * to_jsonb of any type, under fixed settings: the text of an interval, a range or a float depends on the session's.
 */
static Datum
slow_to_jsonb(CrmHistoryColumn *column, Datum value)
{
	static const char *const fixed[][2] = {{"datestyle", "ISO, YMD"},
										   {"intervalstyle", "postgres"},
										   {"extra_float_digits", "1"},
										   {"bytea_output", "hex"},
										   {"timezone", "UTC"}};
	int nestlevel;
	Datum result;

	if (column->kind == KIND_PLAIN)
		return FunctionCall1(&column->to_jsonb, value);
	nestlevel = NewGUCNestLevel();
	for (int i = 0; i < lengthof(fixed); i++)
		(void) set_config_option(fixed[i][0], fixed[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	result = FunctionCall1(&column->to_jsonb, value);
	AtEOXact_GUC(true, nestlevel);
	return result;
}

/*
 * Digest of a field's old and new value.
 */
void
crm_history_digest(const uint8 *salt, const char *field, const JsonbValue *old_value, const JsonbValue *new_value,
				   uint8 *digest)
{
	CrmSha256 sha;
	const JsonbValue *values[2] = {old_value, new_value};

	crm_chain_value_begin(&sha, salt, field);
	for (int i = 0; i < 2; i++)
	{
		const JsonbValue *value = values[i];

		switch (value->type)
		{
			case jbvNull: crm_chain_value_add(&sha, 'n', NULL, 0); break;
			case jbvBool: crm_chain_value_add(&sha, value->val.boolean ? 't' : 'f', NULL, 0); break;
			case jbvString: crm_chain_value_add(&sha, 's', value->val.string.val, value->val.string.len); break;
			case jbvNumeric:
			{
				char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));

				crm_chain_value_add(&sha, 'd', text, strlen(text));
				break;
			}
			case jbvBinary:
			{
				StringInfoData text;

				initStringInfo(&text);
				(void) JsonbToCString(&text, value->val.binary.data, value->val.binary.len);
				crm_chain_value_add(&sha, 'j', text.data, text.len);
				break;
			}
			default: elog(ERROR, "unexpected kind of JSON value: %d", (int) value->type);
		}
	}
	crm_sha256_final(&sha, digest);
}

/*
 * field_version with the changed fields at the given version. A field that is not there has the version of the insert, 1.
 */
static Jsonb *
next_field_version(CrmHistoryTable *table, TupleDesc desc, int32 version, const Datum *old, const bool *old_null,
				   const Datum *new, const bool *new_null)
{
	JsonbParseState *state = NULL;
	int a = table->field_version - 1;
	JsonbValue v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (!old_null[a])
	{
		Jsonb *before = DatumGetJsonbP(old[a]);
		JsonbIterator *it = JsonbIteratorInit(&before->root);
		JsonbIteratorToken token;

		if (JB_ROOT_IS_OBJECT(before))
			while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
				if (token == WJB_KEY || token == WJB_VALUE)
					pushJsonbValue(&state, token, &v);
	}
	/* the later of two equal keys wins */
	for (int i = 0; i < table->ncolumns; i++)
	{
		CrmHistoryColumn *column = &table->columns[i];

		if (!column_changed(column, desc, old, old_null, new, new_null))
			continue;
		v.type = jbvString;
		v.val.string.val = column->name;
		v.val.string.len = strlen(column->name);
		pushJsonbValue(&state, WJB_KEY, &v);
		v.type = jbvNumeric;
		v.val.numeric = int64_to_numeric(version);
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * The salt of a change: nobody can tell it who has not the secret of its transaction, which is random and ends with it, so that a digest cannot
 * be tried with likely values; and no other change has the same, so that it is gone when it is erased.
 */
static void
make_salt(CrmHistoryTable *table, PendingChange *change)
{
	CrmSha256 sha;
	uint8 digest[CRM_HASH_LEN];

	if (!has_secret)
	{
		if (!pg_strong_random(secret, sizeof(secret)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random bytes")));
		has_secret = true;
	}
	crm_sha256_init(&sha);
	crm_sha256_update(&sha, secret, sizeof(secret));
	crm_sha256_update(&sha, &table->relid, sizeof(table->relid));
	crm_sha256_update(&sha, &change->head.record_id, sizeof(change->head.record_id));
	crm_sha256_update(&sha, &change->head.version, sizeof(change->head.version));
	crm_sha256_final(&sha, digest);
	memcpy(change->salt, digest, CRM_SALT_LEN);
}

/*
 * What a change says about itself, from an image of the row.
 */
static void
start_head(CrmHistoryTable *table, CrmChange *head, char op, const Datum *values, const bool *nulls)
{
	head->object = table->object;
	head->op = op;
	head->record_id = DatumGetInt64(values[table->id - 1]);
	head->has_account = table->account_id && !nulls[table->account_id - 1];
	head->account_id = head->has_account ? DatumGetInt64(values[table->account_id - 1]) : 0;
	head->version = DatumGetInt32(values[table->row_version - 1]);
	head->at = table->last_at && !nulls[table->last_at - 1] ? DatumGetTimestampTz(values[table->last_at - 1])
															: GetCurrentTimestamp();
	head->actor = crm_history_actor();
	head->session_name = crm_history_session();
	if (strcmp(head->session_name, head->actor) == 0)
		head->session_name = NULL;
	head->endpoint = write_context.endpoint;
	head->client_version = crm_history_client_version();
	head->has_op_seq = write_context.op_seq != 0;
	head->op_seq = write_context.op_seq;
	head->note = write_context.note;
}

/*
 * A row's last_hash, or NULL. It points into the row.
 */
static const uint8 *
get_hash(CrmHistoryTable *table, const Datum *values, const bool *nulls)
{
	bytea *hash;

	if (table->last_hash == 0 || nulls[table->last_hash - 1])
		return NULL;
	hash = DatumGetByteaPP(values[table->last_hash - 1]);
	return VARSIZE_ANY_EXHDR(hash) == CRM_HASH_LEN ? (const uint8 *) VARDATA_ANY(hash) : NULL;
}

/*
 * Raise unless the row was stored as its version was made.
 */
static void
check_hash(CrmHistoryTable *table, PendingChange *change, const Datum *values, const bool *nulls)
{
	const uint8 *hash;

	if (table->last_hash == 0)
		return;
	hash = get_hash(table, values, nulls);
	if (hash == NULL || memcmp(hash, change->hash, CRM_HASH_LEN) != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_CRM_HISTORY_MISMATCH),
			 errmsg("a row of %s is not stored as its version was made", table->object),
			 errhint("A trigger that fires after zzz_crm_version changes the row: give it a name that sorts before.")));
}

/*
 * Write the changes of an INSERT, some together.
 */
static void
write_inserted(CrmHistoryTable *table, Relation rel, Tuplestorestate *rows)
{
	TupleDesc desc = RelationGetDescr(rel);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int64 total = tuplestore_tuple_count(rows);
	int size = (int) Min(total, BATCH_ROWS);
	PendingChange *changes = palloc(Max(size, 1) * sizeof(PendingChange));
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "crm history batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch);
	int n = 0;

	tuplestore_select_read_pointer(rows, tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND));
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		PendingChange *change = &changes[n];
		bool hashed;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		/* the slot's row goes with the next one, the change's texts are copied into JSON at once */
		memset(change, 0, sizeof(PendingChange));
		start_head(table, &change->head, 'i', slot->tts_values, slot->tts_isnull);
		if (engine_write == ENGINE_WRITE_RESTORE)
		{
			int32 version;
			TimestampTz at;

			last_change_of(rel->rd_rel->relowner, table->object, change->head.record_id, &version, &change->has_prev,
						   change->prev, &at);
		}
		/* the slot's own, not a copy */
		hashed =
			!change->has_prev && is_kept_version(RelationGetRelid(rel), change, ExecFetchSlotMinimalTuple(slot, NULL));
		make_change(table, desc, NULL, NULL, slot->tts_values, slot->tts_isnull, change, true, hashed);
		check_hash(table, change, slot->tts_values, slot->tts_isnull);
		if (++n == size)
		{
			write_changes(rel->rd_rel->relowner, changes, n);
			n = 0;
			/* a row read back from disk lies in this context */
			ExecClearTuple(slot);
			MemoryContextReset(batch);
		}
	}
	if (n > 0)
		write_changes(rel->rd_rel->relowner, changes, n);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextSwitchTo(old);
}

/*
 * Run a kept plan as the owner of the tables.
 */
static void
execute_as(Oid owner, SPIPlanPtr plan, Datum *values, const char *nulls, int expected)
{
	Oid save_user;
	int save_context;
	int rc;

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(owner, save_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	rc = SPI_execute_plan(plan, values, nulls, false, 0);
	SetUserIdAndSecContext(save_user, save_context);
	if (rc != expected)
		elog(ERROR, "could not execute a statement of the history: %s", SPI_result_code_string(rc));
}

/*
 * Write changes, as the owner of the tables: straight into the month they belong to, which is the same for all of a batch but for those
 * whose clock stood still.
 */
static void
write_changes(Oid owner, const PendingChange *changes, int n)
{
	static const CrmColumn columns[] = {{"at", TIMESTAMPTZOID}, {"raw_at", TIMESTAMPTZOID},
										{"record_id", INT8OID}, {"account_id", INT8OID},
										{"op_seq", INT8OID},    {"xid", XID8OID},
										{"version", INT4OID},   {"op", CHAROID},
										{"object", TEXTOID},    {"fields", TEXTOID},
										{"actor", TEXTOID},     {"session_name", TEXTOID},
										{"endpoint", TEXTOID},  {"client_version", TEXTOID},
										{"note", TEXTOID},      {"salt", BYTEAOID},
										{"hash", BYTEAOID}};
	Relation parent = table_open(crm_direct_table("change"), RowExclusiveLock);
	FullTransactionId xid = GetTopFullTransactionId();
	CrmInsert *insert = NULL;
	Oid open = InvalidOid;
	Oid save_user;
	int save_context;

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(owner, save_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	for (int i = 0; i < n; i++)
	{
		const PendingChange *change = &changes[i];
		const CrmChange *head = &change->head;
		const char *texts[] = {head->actor, head->session_name, head->endpoint, head->client_version, head->note};
		Datum values[lengthof(columns)] = {0};
		bool nulls[lengthof(columns)] = {false};
		TimestampTz now = GetCurrentTimestamp();
		Oid part = crm_direct_partition(parent, TimestampTzGetDatum(head->at));
		uint8 salt[VARHDRSZ + CRM_SALT_LEN];
		uint8 hash[VARHDRSZ + CRM_HASH_LEN];

		if (part != open)
		{
			if (OidIsValid(open))
				crm_insert_end(insert);
			insert = crm_insert_begin(part, columns, lengthof(columns));
			open = part;
		}
		values[0] = TimestampTzGetDatum(head->at);
		values[1] = TimestampTzGetDatum(now);
		nulls[1] = now >= head->at;
		values[2] = Int64GetDatum(head->record_id);
		values[3] = Int64GetDatum(head->account_id);
		nulls[3] = !head->has_account;
		values[4] = Int64GetDatum(head->op_seq);
		nulls[4] = !head->has_op_seq;
		values[5] = FullTransactionIdGetDatum(xid);
		values[6] = Int32GetDatum(head->version);
		values[7] = CharGetDatum(head->op);
		values[8] = CStringGetTextDatum(head->object);
		values[9] = PointerGetDatum(change->fields);
		for (int t = 0; t < lengthof(texts); t++)
		{
			values[10 + t] = texts[t] ? CStringGetTextDatum(texts[t]) : (Datum) 0;
			nulls[10 + t] = texts[t] == NULL;
		}
		SET_VARSIZE(salt, sizeof(salt));
		memcpy(salt + VARHDRSZ, change->salt, CRM_SALT_LEN);
		values[15] = PointerGetDatum(salt);
		SET_VARSIZE(hash, sizeof(hash));
		memcpy(hash + VARHDRSZ, change->hash, CRM_HASH_LEN);
		values[16] = PointerGetDatum(hash);
		nulls[15] = nulls[16] = !change->chained;
		crm_insert_row(insert, values, nulls);
	}
	if (OidIsValid(open))
		crm_insert_end(insert);
	SetUserIdAndSecContext(save_user, save_context);
	table_close(parent, NoLock);
}

/*
 * Last change of a record that is inserted again: its version (0: none), hash and time.
 */
static void
last_change_of(Oid owner, const char *object, int64 id, int32 *version, bool *has_hash, uint8 *hash, TimestampTz *at)
{
	Oid types[2] = {TEXTOID, INT8OID};
	Datum values[2] = {CStringGetTextDatum(object), Int64GetDatum(id)};

	*version = 0;
	*has_hash = false;
	*at = 0;
	SPI_connect();
	if (last_plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(
			"SELECT version, hash, at FROM " CRM_DATA_SCHEMA ".change WHERE object OPERATOR(pg_catalog.=) $1 "
			"AND record_id OPERATOR(pg_catalog.=) $2 UNION ALL SELECT version, hash, at FROM " CRM_DATA_SCHEMA
			".history_head WHERE object OPERATOR(pg_catalog.=) $1 AND record_id OPERATOR(pg_catalog.=) $2 "
			"ORDER BY 1 DESC LIMIT 1",
			2, types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the look-up in the history");
		last_plan = plan;
	}
	execute_as(owner, last_plan, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		Datum d;

		*version = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
		d = SPI_getbinval(row, desc, 2, &isnull);
		if (!isnull && VARSIZE_ANY_EXHDR(DatumGetByteaPP(d)) == CRM_HASH_LEN)
		{
			*has_hash = true;
			memcpy(hash, VARDATA_ANY(DatumGetByteaPP(d)), CRM_HASH_LEN);
		}
		*at = DatumGetTimestampTz(SPI_getbinval(row, desc, 3, &isnull));
	}
	SPI_finish();
}
