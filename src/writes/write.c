/*
 * write.c
 *		crm.write: one write, one call, one transaction.
 *
 * Gate, row lock, repeated operation, lease, waiting operations, merge, then the record, its operation, conflicts and messages. The
 * history is written by the record's triggers.
 *
 * Locking: the lock root is the customer's row for a record that belongs to one, else the record itself. In front of a customer's row
 * stands an advisory lock of our own class (setting crm.fair_lock): row locks are granted to whoever comes by, advisory locks in order of
 * arrival. What is right is the row lock alone, FOR NO KEY UPDATE, so that writers who do not come through here are kept out too, and
 * foreign key checks are not. Waiting ends after three seconds (lock_timeout, if it is set lower, before). Each statement has a
 * snapshot of its own, so what is read after the lock is what the last holder left.
 *
 * Security: a C function of the caller; it asks the row and field rules first, then reads and writes as the owner of the tables.
 *
 * Memory: everything in SPI's context, which ends with the call; the answer in the caller's.
 */
#include "crm.h"
#include "common/invalidate.h"

#include "access/access.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/direct.h"
#include "common/errors.h"
#include "common/locks.h"
#include "common/row_update.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "history/history.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "writes/merge.h"
#include "writes/plan.h"
#include "writes/rights.h"
#include "writes/table.h"
#include "writes/write.h"

PG_FUNCTION_INFO_V1(crm_write);
PG_FUNCTION_INFO_V1(crm_apply_operations);
PG_FUNCTION_INFO_V1(crm_gate);
PG_FUNCTION_INFO_V1(crm_next_number);
PG_FUNCTION_INFO_V1(crm_check_client);

#define LOCK_TIMEOUT_MS 3000

/* columns of crm_data.operation, in the order of its migration */
enum
{
	OPERATION_OP_ID = 1,
	OPERATION_ROOT_ID = 2,
	OPERATION_OP_SEQ = 3,
	OPERATION_RECORD_ID = 4,
	OPERATION_BASE_VERSION = 8,
	OPERATION_VERSION = 9,
	OPERATION_ROOT_OBJECT = 11,
	OPERATION_OBJECT = 12,
	OPERATION_ENDPOINT = 13,
	OPERATION_PATCH = 16,
	OPERATION_STATE = 18,
	OPERATION_RESULT = 19
};

/* What a client asks for. */
typedef struct Request
{
	const char *object;
	int64 id;
	Datum op_id;
	const char *endpoint;
	bool has_base;
	int32 base;
	Jsonb *patch; /* without what is switched off for the client */
	Jsonb *sent;  /* as it came */
	Jsonb *off;   /* {"off": [..]}, NULL: nothing is */
	bool has_ts;
	TimestampTz ts;
	const char *mode;
	const char *actor; /* of an operation that waited, else NULL */
	int64 op_seq;      /* number of an operation that waited, else 0 */
} Request;

/* The row that is the lock. */
typedef struct Root
{
	const char *object;
	int64 id;
	bool is_record; /* the record is its own root */
	int64 op_seq;   /* last number given */
	bool apart;     /* a customer whose row says that others' numbers stand elsewhere */
	char *lease_endpoint;
	TimestampTz lease_until;
	bool leased; /* and the lease is valid */
	ArrayType *sync_off;
} Root;

/* A record as it is under the lock. */
typedef struct Record
{
	Datum *values;
	bool *nulls;
	ItemPointerData place;
	CrmRowOwner owner;
} Record;

/* An update through a view, on its way. */
struct CrmViewWrite
{
	CrmWriteTable *table;
	Request request;
	Root root;
	Record record; /* only what the root needs */
	CrmWriteContext saved;
	Oid owner; /* of the tables */
	Oid user;
	int security;
};

/* The customer whose row this subtransaction has locked last for a record of his, and the last number given. */
typedef struct Counted
{
	FullTransactionId xid;
	SubTransactionId subxact;
	int64 account;
	int64 op_seq;
} Counted;

static bool fair_lock = true;
static Counted counted_last;
static bool sources_known = false; /* does any system want to be told? */
static bool sources_any = false;
static Oid sources_relid = InvalidOid;

static bool off_known = false; /* is any field switched off for any client? */
static bool off_any = false;
static Oid off_relid = InvalidOid;

static Jsonb *write_request(Request *request);
static void lock_root(Request *request, CrmWriteTable *table, Root *root, Record *record);
static void lock_account(int64 id, bool gate, Root *root, Record *record);
static int64 last_number(CrmWriteTable *table, int64 id, const Record *root);
static void as_owner(Oid *user, int *security);
static void become(Oid owner, Oid *user, int *security);
static void make_op_id(pg_uuid_t *op_id);
static Jsonb *patch_of(CrmWriteTable *table, const Bitmapset *columns, const Datum *values, const bool *nulls);
static void wait_at_gate(int64 id);
static bool pass_gate(int64 id);
static bool read_record(CrmWriteTable *table, int64 id, bool lock, Record *record);
static void set_owner(CrmWriteTable *table, Record *record, bool *changed_scope);
static void no_such_record(const char *object, int64 id);
static Jsonb *find_operation(Request *request, Root *root, bool *waiting);
static bool is_pending(HeapTuple row, TupleDesc desc);
static void check_rights(Request *request, CrmWriteTable *table, Record *record);
static void check_keys(CrmWriteTable *table, int c, Jsonb *document, const CrmRowOwner *owner);
static void check_result(Request *request, CrmWriteTable *table, CrmMerge *merge, Record *record);
static void check_parents(CrmWriteTable *table, CrmMerge *merge);
static void check_client(const char *endpoint);
static void leave_off(Request *request);
static void check_lease(Root *root);
static int64 lease_seconds(void);
static Jsonb *apply(Request *request, CrmWriteTable *table, Root *root, Record *record);
static int32 update_record(CrmWriteTable *table, Record *record, int64 id, CrmMerge *merge, Root *root, bool renew);
static void update_root(Root *root, ItemPointer place, bool renew);
static void set_root(CrmWriteTable *table, Root *root, bool renew, bool *written, Datum *values, bool *nulls);
static int32 update_row(CrmWriteTable *table, int64 id, ItemPointer place, const bool *written, const Datum *values,
						const bool *nulls);
static void store_operation(Request *request, Root *root, int64 op_seq, const char *state, int32 version,
							Jsonb *result);
static void store_conflicts(Request *request, CrmWriteTable *table, Record *record, List *conflicts);
static void visit_writer(HeapTuple row, TupleDesc desc, int32 version, void *arg);
static void announce(Request *request, Root *root, Record *record, CrmWriteTable *table, int32 version, int64 op_seq);
static void forget_sources(Datum arg, Oid relid);
static int apply_waiting(Root *root, int limit);
static bool apply_one(Root *root, HeapTuple row, TupleDesc desc);
static Jsonb *make_answer(const char *state, int64 id, int32 version, int64 op_seq, List *conflicts,
						  const CrmRowOwner *owner, TimestampTz until);
static void add_string(JsonbParseState **state, const char *key, const char *value);
static void add_int(JsonbParseState **state, const char *key, int64 value);
static void add_json(JsonbParseState **state, const char *key, Jsonb *value);

/*
 * Called when the library is loaded.
 */
void
crm_writes_init(void)
{
	crm_write_table_init();
	crm_on_relation_change(forget_sources);
	DefineCustomBoolVariable(
		"crm.fair_lock", "Lets writers to one customer in in the order of their arrival.",
		"An advisory lock stands in front of the customer's row. Off: whoever finds the row free takes it, "
		"which costs less and lets a busy customer's writers wait unevenly.",
		&fair_lock, true, PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * crm.write(object text, id bigint, op_id uuid, endpoint text, base_version int, patch jsonb, client_ts timestamptz, mode text)
 */
Datum
crm_write(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	Request request = {0};
	Jsonb *answer;
	Datum result;
	Oid save_user;
	int save_context;

	static const char *const required[] = {"object", "id", "op_id", "endpoint", NULL, "patch", NULL, "mode"};

	for (int i = 0; i < lengthof(required); i++)
		if (required[i] && PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument \"%s\" of crm.write must not be null", required[i])));
	request.object = text_to_cstring(PG_GETARG_TEXT_PP(0));
	request.id = PG_GETARG_INT64(1);
	request.op_id = PG_GETARG_DATUM(2);
	request.endpoint = text_to_cstring(PG_GETARG_TEXT_PP(3));
	request.has_base = !PG_ARGISNULL(4);
	request.base = request.has_base ? PG_GETARG_INT32(4) : 0;
	request.patch = PG_GETARG_JSONB_P(5);
	request.has_ts = !PG_ARGISNULL(6);
	request.ts = request.has_ts ? PG_GETARG_TIMESTAMPTZ(6) : 0;
	request.mode = text_to_cstring(PG_GETARG_TEXT_PP(7));
	if (request.endpoint[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an endpoint needs a name"),
						errhint("Use web, app, wecom, dingtalk, api, or sync.<source> for another system.")));
	if (strcmp(request.mode, "merge") != 0 && strcmp(request.mode, "queue") != 0 && strcmp(request.mode, "reject") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown mode \"%s\"", request.mode),
						errhint("Use merge, queue or reject.")));

	/* the profile is the person's, and is read before we act as the engine */
	(void) crm_profile();
	PreventCommandIfReadOnly("crm.write()");
	SPI_connect();
	as_owner(&save_user, &save_context);
	answer = write_request(&request);
	if (request.off)
		answer = DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(answer), JsonbPGetDatum(request.off)));
	SetUserIdAndSecContext(save_user, save_context);
	MemoryContextSwitchTo(caller);
	result = datumCopy(JsonbPGetDatum(answer), false, -1);
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/*
 * Do what a request asks for, as the owner of the tables, inside SPI.
 */
static Jsonb *
write_request(Request *request)
{
	CrmWriteTable *table = crm_write_table(request->object);
	Root root;
	Record record;
	Jsonb *answer;
	bool waiting;

	check_client(request->endpoint);
	leave_off(request);
	if (strncmp(request->endpoint, "sync.", 5) == 0 && !crm_may(crm_profile(), "ingest"))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("endpoint \"%s\" is for connectors", request->endpoint),
						errhint("Use the name of your own client.")));
	for (int redirects = 0;; redirects++)
	{
		lock_root(request, table, &root, &record);

		answer = find_operation(request, &root, &waiting);
		if (answer)
			return answer;

		/* a merged record stays as a redirect: what its reader wrote belongs to the survivor, whom he has not read */
		if (table->merged_into < 0 || record.nulls[table->merged_into] || redirects >= 10)
			break;
		request->id = DatumGetInt64(record.values[table->merged_into]);
		request->has_base = false;
	}
	check_rights(request, table, &record);
	if (strncmp(request->endpoint, "sync.", 5) != 0 && JB_ROOT_IS_OBJECT(request->patch))
	{
		JsonbValue deleted;

		if (getKeyJsonValueFromContainer(&request->patch->root, "deleted_at", strlen("deleted_at"), &deleted) &&
			deleted.type != jbvNull)
			crm_count_removal(table->object);
	}

	if (root.leased && strcmp(root.lease_endpoint, request->endpoint) != 0)
	{
		if (strcmp(request->mode, "reject") == 0)
			ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
							errmsg("%s " INT64_FORMAT " is being edited through %s", root.object, root.id,
								   root.lease_endpoint),
							errdetail("The lease ends at %s.", timestamptz_to_str(root.lease_until)),
							errhint("Retry then, or send the operation with mode merge or queue.")));
		if (strcmp(request->mode, "queue") == 0)
		{
			/* what cannot be applied at all is refused now, not when nobody listens */
			CrmMerge check = {table, request->id, request->has_base, request->base};

			check.values = record.values;
			check.nulls = record.nulls;
			check.changed = palloc0(table->ncolumns * sizeof(bool));
			crm_merge_patch(&check, request->patch);

			/* nor does anybody ask for his rights then: he must have them for all that the patch may come to write */
			if (!read_record(table, request->id, false, &record))
				no_such_record(request->object, request->id);
			check.values = record.values;
			check.nulls = record.nulls;
			check.has_base = true;
			check.base = DatumGetInt32(record.values[table->row_version]);
			crm_merge_patch(&check, request->patch);
			check_result(request, table, &check, &record);

			root.op_seq++;
			if (root.is_record || !root.apart)
				update_root(&root, NULL, false);
			answer = make_answer("pending", request->id, 0, root.op_seq, NIL, &record.owner, root.lease_until);
			(void) store_operation(request, &root, root.op_seq, "pending", 0, answer);
			return answer;
		}
	}

	/* who waited comes first, unless it is this very lease he waits for */
	if (waiting && !(root.leased && strcmp(root.lease_endpoint, request->endpoint) == 0) &&
		apply_waiting(&root, PG_INT32_MAX) > 0 && !read_record(table, request->id, false, &record))
		no_such_record(request->object, request->id);
	return apply(request, table, &root, &record);
}

/*
 * Lock the row that orders all writes to a customer, or the record itself when it has none; then read the record, locked.
 */
static void
lock_root(Request *request, CrmWriteTable *table, Root *root, Record *record)
{
	int save_timeout = LockTimeout;

	memset(root, 0, sizeof(*root));
	root->object = table->object;
	root->id = request->id;
	root->is_record = true;
	PG_TRY();
	{
		if (LockTimeout == 0 || LockTimeout > LOCK_TIMEOUT_MS)
			LockTimeout = LOCK_TIMEOUT_MS;
		if (strcmp(table->object, "account") == 0)
			lock_account(request->id, fair_lock, root, record);
		else
		{
			/* the customer that a record belongs to is known for sure only under his lock: merges move records */
			for (int tries = 0; table->account_id >= 0; tries++)
			{
				int64 account;
				Record customer;

				if (!read_record(table, request->id, !root->is_record, record))
					no_such_record(request->object, request->id);
				if (record->nulls[table->account_id])
					break;
				account = DatumGetInt64(record->values[table->account_id]);
				if (!root->is_record && root->id == account)
					break;
				if (tries == 3)
					ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
									errmsg("%s " INT64_FORMAT " moved to another customer meanwhile, retry",
										   request->object, request->id)));
				root->object = "account";
				root->id = account;
				root->is_record = false;
				lock_account(account, fair_lock, root, &customer);
			}
			if (root->is_record)
			{
				if (!read_record(table, request->id, true, record))
					no_such_record(request->object, request->id);
				root->op_seq = last_number(table, request->id, record);
			}
		}
	}
	PG_CATCH();
	{
		LockTimeout = save_timeout;
		if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
		{
			FlushErrorState();
			ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
							errmsg("%s " INT64_FORMAT " is busy, retry", request->object, request->id),
							errdetail("Operation %s was not applied.",
									  DatumGetCString(DirectFunctionCall1(uuid_out, request->op_id))),
							errhint("Send it again with the same op_id.")));
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	LockTimeout = save_timeout;
}

/*
 * Last number given under a root: what its row says; and what its operations say where the row does not, for a root that keeps no number and for
 * the records that belong to a customer.
 */
static int64
last_number(CrmWriteTable *table, int64 id, const Record *root)
{
	int64 number = table->op_seq >= 0 ? DatumGetInt64(root->values[table->op_seq]) : 0;
	Relation rel;
	Relation index;
	Snapshot snapshot;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple row;

	if (table->op_seq >= 0 && (table->op_apart < 0 || !DatumGetBool(root->values[table->op_apart])))
		return number;
	counted_last.account = 0;
	rel = table_open(crm_direct_table("operation"), AccessShareLock);
	index = index_open(crm_direct_table("operation_root_idx"), AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyInit(&keys[0], OPERATION_ROOT_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	ScanKeyInit(&keys[1], OPERATION_ROOT_OBJECT, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(table->object));
	keys[1].sk_collation = DEFAULT_COLLATION_OID;
	scan = systable_beginscan_ordered(rel, index, snapshot, 2, keys);
	row = systable_getnext_ordered(scan, BackwardScanDirection);
	if (row)
	{
		bool isnull;

		number = Max(number, DatumGetInt64(heap_getattr(row, OPERATION_OP_SEQ, RelationGetDescr(rel), &isnull)));
	}
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return number;
}

/*
 * crm._next_number(account bigint): locks a customer and answers the number of his next operation, for functions in SQL.
 */
Datum
crm_next_number(PG_FUNCTION_ARGS)
{
	Root root = {0};
	Record record;

	lock_account(PG_GETARG_INT64(0), false, &root, &record);
	PG_RETURN_INT64(root.op_seq + 1);
}

/*
 * Lock a customer's row and read it, and what it says of operations and leases.
 */
static void
lock_account(int64 id, bool gate, Root *root, Record *record)
{
	CrmWriteTable *table = crm_write_table("account");
	int places[3] = {table->lease_endpoint, table->lease_until, table->sync_off};
	Datum values[3];
	bool nulls[3];

	if (gate)
		wait_at_gate(id);
	if (!read_record(table, id, true, record))
		no_such_record("account", id);
	for (int i = 0; i < lengthof(places); i++)
	{
		values[i] = record->values[places[i]];
		nulls[i] = record->nulls[places[i]];
	}
	root->op_seq = last_number(table, id, record);
	root->apart = DatumGetBool(record->values[table->op_apart]);
	root->lease_endpoint = nulls[0] ? NULL : TextDatumGetCString(values[0]);
	root->lease_until = nulls[1] ? 0 : DatumGetTimestampTz(values[1]);
	root->sync_off = nulls[2] ? NULL : DatumGetArrayTypePCopy(values[2]);
	if (root->lease_endpoint && root->lease_until)
		check_lease(root);
}

/*
 * Stand in line for a customer.
 */
static void
wait_at_gate(int64 id)
{
	LOCKTAG tag;

	SET_LOCKTAG_CRM(tag, CRM_LOCK_ACCOUNT, id);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Take a customer's place if nobody stands in line.
 */
static bool
pass_gate(int64 id)
{
	LOCKTAG tag;

	SET_LOCKTAG_CRM(tag, CRM_LOCK_ACCOUNT, id);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * crm._gate(account bigint): the same for functions in SQL that are about to write to one customer.
 */
Datum
crm_gate(PG_FUNCTION_ARGS)
{
	if (fair_lock)
		wait_at_gate(PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

/*
 * Is the lease valid? Only until its end, and only if that is not further away than a lease may last: after the clock went back, a lease
 * must not hold for hours.
 */
static void
check_lease(Root *root)
{
	TimestampTz now = GetCurrentTimestamp();

	root->leased = root->lease_until > now && root->lease_until <= now + lease_seconds() * USECS_PER_SEC;
}

/*
 * Longest lease, seconds: the setting write_lease.ttl. Read only where there is a lease.
 */
static int64
lease_seconds(void)
{
	bool isnull = true;
	Datum d = (Datum) 0;

	SPI_connect();
	crm_execute("SELECT (body OPERATOR(pg_catalog.->>) 'value')::pg_catalog.int8 FROM " CRM_DATA_SCHEMA
				".config WHERE kind OPERATOR(pg_catalog.=) 'setting' "
				"AND key OPERATOR(pg_catalog.=) 'write_lease.ttl' AND scope OPERATOR(pg_catalog.=) '*' AND status "
				"OPERATOR(pg_catalog.=) 'active'",
				0, NULL, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	SPI_finish();
	return isnull ? 30 : DatumGetInt64(d);
}

/*
 * Read a record, false when there is none.
 */
static bool
read_record(CrmWriteTable *table, int64 id, bool lock, Record *record)
{
	Relation rel = table_open(table->relid, lock ? RowShareLock : AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	HeapTuple row = crm_direct_row(rel, id, lock);

	if (row)
	{
		Datum *values = palloc(desc->natts * sizeof(Datum));
		bool *nulls = palloc(desc->natts * sizeof(bool));

		heap_deform_tuple(row, desc, values, nulls);
		record->place = row->t_self;
		record->values = palloc(table->ncolumns * sizeof(Datum));
		record->nulls = palloc(table->ncolumns * sizeof(bool));
		for (int i = 0; i < table->ncolumns; i++)
		{
			int a = table->columns[i].column.attnum - 1;

			record->values[i] = values[a];
			record->nulls[i] = nulls[a];
		}
		set_owner(table, record, NULL);
	}
	table_close(rel, NoLock);
	return row != NULL;
}

/*
 * Whose the record is.
 */
static void
set_owner(CrmWriteTable *table, Record *record, bool *changed_scope)
{
	CrmRowOwner owner = {0};
	int place = strcmp(table->object, "member") == 0 ? table->id : table->owner_id;

	owner.anyones = table->owner_id < 0;
	owner.has_owner = place >= 0 && !record->nulls[place];
	if (owner.has_owner)
		owner.owner = DatumGetInt64(record->values[place]);
	owner.has_team = table->team_id >= 0 && !record->nulls[table->team_id];
	if (owner.has_team)
		owner.team = DatumGetInt64(record->values[table->team_id]);
	owner.grade = table->grade >= 0 && !record->nulls[table->grade] ? DatumGetInt16(record->values[table->grade]) : -1;
	owner.deleted = table->deleted_at >= 0 && !record->nulls[table->deleted_at];
	if (changed_scope)
		*changed_scope = memcmp(&owner, &record->owner, sizeof(owner)) != 0;
	record->owner = owner;
}

/*
 * One message for a record that is not there and one that is hidden.
 */
static void
no_such_record(const char *object, int64 id)
{
	ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("there is no %s " INT64_FORMAT, object, id)));
}

/*
 * The answer of an operation that came before, or NULL. Also tells whether operations of this root wait. Raises when the identifier came
 * with another request.
 */
static Jsonb *
find_operation(Request *request, Root *root, bool *waiting)
{
	Relation rel = table_open(crm_direct_table("operation"), RowExclusiveLock);
	TupleDesc desc = RelationGetDescr(rel);
	ScanKeyData keys[2];
	HeapTuple row;
	Jsonb *answer = NULL;

	/* the columns' places are those of the migration that made the table, and no later one moves a column */
	list_free(RelationGetIndexList(rel));
	ScanKeyInit(&keys[0], OPERATION_OP_ID, BTEqualStrategyNumber, F_UUID_EQ, request->op_id);
	row = crm_direct_find(rel, rel->rd_pkindex, 1, keys, NULL);
	if (row)
	{
		bool same;
		bool isnull;
		Datum d;
		Jsonb *patch;

		same = strcmp(TextDatumGetCString(heap_getattr(row, OPERATION_OBJECT, desc, &isnull)), request->object) == 0;
		d = heap_getattr(row, OPERATION_BASE_VERSION, desc, &isnull);
		same = same && isnull == !request->has_base && (isnull || DatumGetInt32(d) == request->base);
		patch = DatumGetJsonbP(heap_getattr(row, OPERATION_PATCH, desc, &isnull));
		/* sent again after a field of it was switched off, it is still the same */
		same = same && (compareJsonbContainers(&patch->root, &request->patch->root) == 0 ||
						compareJsonbContainers(&patch->root, &request->sent->root) == 0);
		same = same && strcmp(TextDatumGetCString(heap_getattr(row, OPERATION_ENDPOINT, desc, &isnull)),
							  request->endpoint) == 0;
		d = heap_getattr(row, OPERATION_RESULT, desc, &isnull);
		if (!isnull)
			answer = DatumGetJsonbPCopy(d);
		else if (same)
			answer = make_answer("applied", DatumGetInt64(heap_getattr(row, OPERATION_RECORD_ID, desc, &isnull)),
								 DatumGetInt32(heap_getattr(row, OPERATION_VERSION, desc, &isnull)),
								 DatumGetInt64(heap_getattr(row, OPERATION_OP_SEQ, desc, &isnull)), NIL, NULL, 0);
		if (!same)
			ereport(ERROR, (errcode(ERRCODE_CRM_OPERATION_REUSED),
							errmsg("operation %s was another request",
								   DatumGetCString(DirectFunctionCall1(uuid_out, request->op_id))),
							errhint("Give every new request an op_id of its own; send the same one again only with the "
									"same request.")));
	}
	/* operations wait for the end of a lease: where nobody ever took one, none does */
	*waiting = false;
	if (answer == NULL && root->lease_endpoint)
	{
		ScanKeyInit(&keys[0], OPERATION_ROOT_OBJECT, BTEqualStrategyNumber, F_TEXTEQ,
					CStringGetTextDatum(root->object));
		ScanKeyInit(&keys[1], OPERATION_ROOT_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(root->id));
		keys[0].sk_collation = DEFAULT_COLLATION_OID;
		*waiting = crm_direct_find(rel, crm_direct_table("operation_waiting_idx"), 2, keys, is_pending) != NULL;
	}
	table_close(rel, NoLock);
	return answer;
}

/*
 * Does an operation wait? One that failed waits for somebody to try it again.
 */
static bool
is_pending(HeapTuple row, TupleDesc desc)
{
	bool isnull;
	text *state = DatumGetTextPP(heap_getattr(row, OPERATION_STATE, desc, &isnull));

	return VARSIZE_ANY_EXHDR(state) == 7 && memcmp(VARDATA_ANY(state), "pending", 7) == 0;
}

/*
 * Raise unless the person may write these fields of this record.
 */
static void
check_rights(Request *request, CrmWriteTable *table, Record *record)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue v;
	int c = -1;

	if (crm_profile()->unrestricted)
		return;
	if (!crm_row_may(table->object, ROW_READ, &record->owner))
		no_such_record(request->object, request->id);
	if (!crm_row_may(table->object, ROW_UPDATE, &record->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to write %s " INT64_FORMAT, request->object, request->id)));
	if (!JB_ROOT_IS_OBJECT(request->patch))
		return;
	it = JsonbIteratorInit(&request->patch->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_VALUE && c >= 0 && table->columns[c].write_class == WRITE_KEYED && v.type == jbvBinary &&
			JsonContainerIsObject(v.val.binary.data))
			check_keys(table, c, JsonbValueToJsonb(&v), &record->owner);
		if (token != WJB_KEY)
			continue;
		c = crm_write_column(table, pnstrdup(v.val.string.val, v.val.string.len));
		/* an unknown field is the merge's to refuse */
		if (c >= 0 && (table->columns[c].field == 0 || !crm_field_may_write(table->columns[c].field, &record->owner)))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for field \"%s\" of %s",
																	 table->columns[c].column.name, request->object)));
	}
}

/*
 * Raise when a document has keys that the person does not see: he cannot mean to change them.
 */
static void
check_keys(CrmWriteTable *table, int c, Jsonb *document, const CrmRowOwner *owner)
{
	Jsonb *seen = crm_field_shown(table->columns[c].field, owner, document);

	if (seen == NULL || compareJsonbContainers(&seen->root, &document->root) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for keys of field \"%s\" of %s",
																 table->columns[c].column.name, table->object)));
}

/*
 * Raise when a changed reference leads to a row that the person does not see. What is hidden and what is missing get the same
 * answer: the core's own check of a foreign key runs past row security and would tell them apart. The look is the views' role's,
 * whose row policies are the person's.
 */
static void
check_parents(CrmWriteTable *table, CrmMerge *merge)
{
	for (int i = 0; i < table->ncolumns; i++)
	{
		CrmWriteColumn *column = &table->columns[i];
		Oid types[1] = {column->column.type};
		Oid save_user;
		int save_context;
		char *sql;

		if (!merge->changed[i] || merge->nulls[i] || column->parent == NULL)
			continue;
		GetUserIdAndSecContext(&save_user, &save_context);
		SetUserIdAndSecContext(get_role_oid(CRM_GATE, false),
							   (save_context | SECURITY_LOCAL_USERID_CHANGE) & ~SECURITY_NOFORCE_RLS);
		sql = psprintf("SELECT FROM " CRM_DATA_SCHEMA ".%s WHERE id OPERATOR(pg_catalog.=) $1",
					   quote_identifier(column->parent));
		crm_execute(sql, 1, types, &merge->values[i], NULL, SPI_OK_SELECT);
		SetUserIdAndSecContext(save_user, save_context);
		if (SPI_processed == 0)
			ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
							errmsg("column \"%s\" refers to a row of %s that is not there", column->column.name,
								   column->parent)));
	}
}

/*
 * Raise when the person may not leave the record as the merge made it: out of his own sight, in a scope that he may not write, or with
 * references to what he does not see.
 */
static void
check_result(Request *request, CrmWriteTable *table, CrmMerge *merge, Record *record)
{
	bool moved;

	set_owner(table, record, &moved);
	if (moved)
	{
		CrmRowOwner now = record->owner;

		now.deleted = false;
		if (!crm_row_may(table->object, ROW_UPDATE, &now))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to move %s " INT64_FORMAT " there", request->object, request->id)));
	}
	if (!crm_profile()->unrestricted)
		check_parents(table, merge);
}

/*
 * Refuse a client that is too old: setting client.min_version, {"app": {"version": "4.2.1", "after": ".."}}. The client says its name and version
 * in application_name, name/version; what the setting says of its endpoint holds as well.
 */
static void
check_client(const char *endpoint)
{
	const char *version = crm_history_client_version();
	const char *names[2] = {endpoint, NULL};
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2];
	Oid user;
	int security;

	if (version == NULL)
		return;
	names[1] = pnstrdup(application_name, version - application_name - 1);
	values[1] = CStringGetTextDatum(version);
	SPI_connect();
	as_owner(&user, &security);
	for (int i = 0; i < lengthof(names); i++)
	{
		values[0] = CStringGetTextDatum(names[i]);
		crm_execute(
			"SELECT c.body OPERATOR(pg_catalog.#>>) ARRAY['value', $1, 'version'] FROM " CRM_DATA_SCHEMA ".config AS c "
			"WHERE c.kind OPERATOR(pg_catalog.=) 'setting' AND c.key OPERATOR(pg_catalog.=) 'client.min_version' "
			"AND c.scope OPERATOR(pg_catalog.=) '*' "
			"AND c.status OPERATOR(pg_catalog.=) 'active' "
			"AND coalesce((c.body OPERATOR(pg_catalog.#>>) ARRAY['value', $1, 'after'])::pg_catalog.timestamptz, "
			"'-infinity') "
			"OPERATOR(pg_catalog.<=) pg_catalog.now() "
			"AND pg_catalog.string_to_array($2, '.')::pg_catalog.int4[] OPERATOR(pg_catalog.<) "
			"pg_catalog.string_to_array(c.body OPERATOR(pg_catalog.#>>) ARRAY['value', $1, 'version'], "
			"'.')::pg_catalog.int4[]",
			2, types, values, NULL, SPI_OK_SELECT);
		if (SPI_processed > 0)
			ereport(ERROR,
					(errcode(ERRCODE_CRM_CLIENT_TOO_OLD), errmsg("client version %s is too old to write", version),
					 errdetail("%s needs version %s or newer.", names[i],
							   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
					 errhint("Upgrade the client; what it has not sent yet is sent again by the new one.")));
	}
	SetUserIdAndSecContext(user, security);
	SPI_finish();
}

/*
 * Leave the fields out that are switched off for the client (configuration flag/off_fields), and remember which. Nearly always there are none.
 */
static void
leave_off(Request *request)
{
	Oid types[3] = {JSONBOID, TEXTOID, TEXTOID};
	Datum values[3];
	bool isnull;

	request->sent = request->patch;
	if (!off_known)
	{
		off_relid = get_relname_relid("config", get_namespace_oid(CRM_DATA_SCHEMA, false));
		off_known = true;
		crm_execute("SELECT FROM " CRM_DATA_SCHEMA ".config AS c WHERE c.kind OPERATOR(pg_catalog.=) 'flag' "
					"AND c.key OPERATOR(pg_catalog.=) 'off_fields' AND c.scope OPERATOR(pg_catalog.=) '*' "
					"AND c.status OPERATOR(pg_catalog.=) 'active' "
					"AND c.body OPERATOR(pg_catalog.->) 'fields' OPERATOR(pg_catalog.<>) '{}'",
					0, NULL, NULL, NULL, SPI_OK_SELECT);
		off_any = SPI_processed > 0;
	}
	if (!off_any || !JB_ROOT_IS_OBJECT(request->patch))
		return;
	values[0] = JsonbPGetDatum(request->patch);
	values[1] = CStringGetTextDatum(request->object);
	values[2] = CStringGetTextDatum(request->endpoint);
	crm_execute("SELECT $1 OPERATOR(pg_catalog.-) o.names, pg_catalog.jsonb_build_object('off', o.names) "
				"FROM (SELECT ARRAY(SELECT k.name FROM pg_catalog.unnest(" CRM_SCHEMA
				"._off_fields($2, $3)) AS k (name) "
				"WHERE $1 OPERATOR(pg_catalog.?) k.name) AS names) AS o WHERE pg_catalog.cardinality(o.names) "
				"OPERATOR(pg_catalog.>) 0",
				3, types, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		request->patch = DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		request->off = DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
}

/*
 * crm._check_client(endpoint text): the same for functions in SQL.
 */
Datum
crm_check_client(PG_FUNCTION_ARGS)
{
	check_client(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/*
 * Merge a request into the record and store all that comes of it. The root is locked.
 */
static Jsonb *
apply(Request *request, CrmWriteTable *table, Root *root, Record *record)
{
	CrmMerge merge = {table, request->id, request->has_base, request->base};
	CrmWriteContext saved;
	CrmWriteContext context = {0};
	volatile int32 version = DatumGetInt32(record->values[table->row_version]);
	int32 before = version;
	volatile int64 op_seq = request->op_seq ? request->op_seq : root->op_seq + 1;
	bool renew = root->leased && strcmp(root->lease_endpoint, request->endpoint) == 0;
	volatile bool any = false;
	Jsonb *answer;

	merge.connector = strncmp(request->endpoint, "sync.", 5) == 0;
	merge.values = record->values;
	merge.nulls = record->nulls;
	merge.changed = palloc0(table->ncolumns * sizeof(bool));
	crm_merge_patch(&merge, request->patch);
	for (int i = 0; i < table->ncolumns; i++)
		any = any || merge.changed[i];

	if (request->actor == NULL)
		check_result(request, table, &merge, record);
	else
		set_owner(table, record, NULL);

	root->op_seq = Max(root->op_seq, op_seq);
	context.endpoint = request->endpoint;
	context.op_seq = op_seq;
	context.actor = request->actor;
	saved = crm_history_context_set(context);
	PG_TRY();
	{
		if (any || (root->is_record && table->op_seq >= 0))
			version = update_record(table, record, request->id, &merge, root, renew);
		if (!root->is_record && (renew || !root->apart))
			update_root(root, NULL, renew);
	}
	PG_FINALLY();
	{
		crm_history_context_restore(saved);
	}
	PG_END_TRY();

	answer = make_answer(merge.conflicts == NIL ? "applied"
						 : version > before     ? "partial"
												: "conflict",
						 request->id, version, op_seq, merge.conflicts, &record->owner, 0);
	store_operation(request, root, op_seq, "applied", version, merge.conflicts == NIL ? NULL : answer);
	if (merge.conflicts != NIL)
		store_conflicts(request, table, record, merge.conflicts);
	if (version > before)
		announce(request, root, record, table, version, op_seq);
	return answer;
}

/*
 * Write the changed fields, and what the root keeps if the record is its own root. Answers the record's version.
 */
static int32
update_record(CrmWriteTable *table, Record *record, int64 id, CrmMerge *merge, Root *root, bool renew)
{
	bool *written = palloc(table->ncolumns * sizeof(bool));
	Datum *values = palloc(table->ncolumns * sizeof(Datum));
	bool *nulls = palloc(table->ncolumns * sizeof(bool));

	memcpy(written, merge->changed, table->ncolumns * sizeof(bool));
	memcpy(values, merge->values, table->ncolumns * sizeof(Datum));
	memcpy(nulls, merge->nulls, table->ncolumns * sizeof(bool));
	if (root->is_record && table->op_seq >= 0)
		set_root(table, root, renew, written, values, nulls);
	return update_row(table, id, &record->place, written, values, nulls);
}

/*
 * Write what the root keeps, when it was not written with the record.
 */
static void
update_root(Root *root, ItemPointer place, bool renew)
{
	CrmWriteTable *table = crm_write_table(root->object);
	bool *written = palloc0(table->ncolumns * sizeof(bool));
	Datum *values = palloc0(table->ncolumns * sizeof(Datum));
	bool *nulls = palloc0(table->ncolumns * sizeof(bool));

	if (table->op_seq < 0)
		return;
	set_root(table, root, renew, written, values, nulls);
	(void) update_row(table, root->id, place, written, values, nulls);
}

/*
 * What a write changes in its root: the number of the last operation, and the end of the writer's lease.
 */
static void
set_root(CrmWriteTable *table, Root *root, bool renew, bool *written, Datum *values, bool *nulls)
{
	written[table->op_seq] = true;
	values[table->op_seq] = Int64GetDatum(root->op_seq);
	nulls[table->op_seq] = false;
	if (!root->is_record && !root->apart)
	{
		written[table->op_apart] = true;
		values[table->op_apart] = BoolGetDatum(true);
		nulls[table->op_apart] = false;
		root->apart = true;
	}
	if (!renew)
		return;
	written[table->lease_until] = true;
	values[table->lease_until] = TimestampTzGetDatum(GetCurrentTimestamp() + lease_seconds() * USECS_PER_SEC);
	nulls[table->lease_until] = false;
}

/*
 * Update columns of a row that is locked, and answer its version: without a statement where that is possible.
 */
static int32
update_row(CrmWriteTable *table, int64 id, ItemPointer place, const bool *written, const Datum *values,
		   const bool *nulls)
{
	Datum *row = palloc0(table->natts * sizeof(Datum));
	bool *row_nulls = palloc(table->natts * sizeof(bool));
	Bitmapset *columns = NULL;
	HeapTuple result = NULL;
	CrmRowOutcome outcome;
	bool isnull;

	memset(row_nulls, true, table->natts * sizeof(bool));
	for (int i = 0; i < table->ncolumns; i++)
	{
		int a = table->columns[i].column.attnum - 1;

		if (i == table->id)
		{
			row[a] = Int64GetDatum(id);
			row_nulls[a] = false;
		}
		else if (written[i])
		{
			row[a] = values[i];
			row_nulls[a] = nulls[i];
			columns = bms_add_member(columns, a + 1 - FirstLowInvalidHeapAttributeNumber);
		}
	}
	outcome = crm_row_update(table->relid, columns, row, row_nulls, InvalidAttrNumber, 0, place, &result, NULL);
	if (outcome == ROW_NOT_PLAIN)
	{
		StringInfoData sql;
		Oid *types = palloc((table->ncolumns + 1) * sizeof(Oid));
		Datum *args = palloc((table->ncolumns + 1) * sizeof(Datum));
		char *arg_nulls = palloc(table->ncolumns + 1);
		int n = 1;

		types[0] = INT8OID;
		args[0] = Int64GetDatum(id);
		arg_nulls[0] = ' ';
		initStringInfo(&sql);
		appendStringInfo(&sql, "UPDATE " CRM_DATA_SCHEMA ".%s SET ", quote_identifier(table->object));
		for (int i = 0; i < table->ncolumns; i++)
		{
			if (!written[i] || i == table->id)
				continue;
			types[n] = table->columns[i].column.type;
			args[n] = values[i];
			arg_nulls[n] = nulls[i] ? 'n' : ' ';
			n++;
			appendStringInfo(&sql, "%s%s = $%d", n > 2 ? ", " : "", quote_identifier(table->columns[i].column.name), n);
		}
		appendStringInfoString(&sql, " WHERE id OPERATOR(pg_catalog.=) $1 RETURNING row_version");
		crm_execute(sql.data, n, types, args, arg_nulls, SPI_OK_UPDATE_RETURNING);
		if (SPI_processed == 1)
			return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		outcome = ROW_KEPT;
	}
	if (outcome == ROW_KEPT)
		no_such_record(table->object, id);
	return DatumGetInt32(heap_getattr(result, table->columns[table->row_version].column.attnum, table->desc, &isnull));
}

/*
 * Store a new operation, or the end of one that waited. result: NULL for one that was applied without a conflict.
 */
static void
store_operation(Request *request, Root *root, int64 op_seq, const char *state, int32 version, Jsonb *result)
{
	static const CrmColumn columns[] = {{"op_id", UUIDOID},
										{"root_id", INT8OID},
										{"op_seq", INT8OID},
										{"record_id", INT8OID},
										{"client_ts", TIMESTAMPTZOID},
										{"applied_at", TIMESTAMPTZOID},
										{"created_at", TIMESTAMPTZOID},
										{"base_version", INT4OID},
										{"version", INT4OID},
										{"attempts", INT4OID},
										{"root_object", TEXTOID},
										{"object", TEXTOID},
										{"endpoint", TEXTOID},
										{"client_version", TEXTOID},
										{"actor", TEXTOID},
										{"patch", JSONBOID},
										{"mode", TEXTOID},
										{"state", TEXTOID},
										{"result", JSONBOID}};
	Datum values[lengthof(columns)] = {0};
	bool nulls[lengthof(columns)] = {false};
	const char *client = crm_history_client_version();
	CrmInsert *insert;

	if (request->actor)
	{
		Oid done_types[4] = {UUIDOID, INT4OID, JSONBOID, INT8OID};
		Datum done[4] = {request->op_id, Int32GetDatum(version), JsonbPGetDatum(result), Int64GetDatum(request->id)};
		char done_nulls[4] = {' ', ' ', result ? ' ' : 'n', ' '};

		crm_execute(
			"UPDATE " CRM_DATA_SCHEMA ".operation SET state = 'applied', version = $2, result = $3, record_id = $4, "
			"error = NULL, attempts = attempts OPERATOR(pg_catalog.+) 1, applied_at = pg_catalog.clock_timestamp() "
			"WHERE op_id OPERATOR(pg_catalog.=) $1",
			4, done_types, done, done_nulls, SPI_OK_UPDATE);
		return;
	}
	values[0] = request->op_id;
	values[1] = Int64GetDatum(root->id);
	values[2] = Int64GetDatum(op_seq);
	values[3] = Int64GetDatum(request->id);
	values[4] = TimestampTzGetDatum(request->ts);
	nulls[4] = !request->has_ts;
	values[5] = TimestampTzGetDatum(GetCurrentTimestamp());
	nulls[5] = version == 0;
	values[6] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[7] = Int32GetDatum(request->base);
	nulls[7] = !request->has_base;
	values[8] = Int32GetDatum(version);
	nulls[8] = version == 0;
	values[9] = Int32GetDatum(0);
	values[10] = CStringGetTextDatum(root->object);
	values[11] = CStringGetTextDatum(request->object);
	values[12] = CStringGetTextDatum(request->endpoint);
	values[13] = client ? CStringGetTextDatum(client) : (Datum) 0;
	nulls[13] = client == NULL;
	values[14] = CStringGetTextDatum(crm_history_actor());
	values[15] = JsonbPGetDatum(request->patch);
	values[16] = CStringGetTextDatum(request->mode);
	values[17] = CStringGetTextDatum(state);
	values[18] = result ? JsonbPGetDatum(result) : (Datum) 0;
	nulls[18] = result == NULL;
	insert = crm_insert_begin(crm_direct_table("operation"), columns, lengthof(columns));
	crm_insert_row(insert, values, nulls);
	crm_insert_end(insert);
}

/*
 * Keep what could not be merged, and raise one alert a record until somebody closes it.
 */
static void
store_conflicts(Request *request, CrmWriteTable *table, Record *record, List *conflicts)
{
	static const CrmColumn columns[] = {{"op_id", UUIDOID},        {"object", TEXTOID},
										{"record_id", INT8OID},    {"account_id", INT8OID},
										{"field", TEXTOID},        {"base", JSONBOID},
										{"theirs", JSONBOID},      {"mine", JSONBOID},
										{"their_actor", TEXTOID},  {"their_version", INT4OID},
										{"base_version", INT4OID}, {"actor", TEXTOID},
										{"state", TEXTOID},        {"created_at", TIMESTAMPTZOID},
										{"created_by", TEXTOID}};
	bool is_account = strcmp(table->object, "account") == 0;
	bool has_account = is_account || (table->account_id >= 0 && !record->nulls[table->account_id]);
	int64 account = is_account ? request->id : has_account ? DatumGetInt64(record->values[table->account_id]) : 0;
	char *alert = psprintf("write_conflict:%s:" INT64_FORMAT, request->object, request->id);
	Datum values[lengthof(columns)] = {0};
	bool nulls[lengthof(columns)] = {false};
	CrmInsert *insert;
	ScanKeyData key;
	Relation rel;
	ListCell *cell;

	values[0] = request->op_id;
	values[1] = CStringGetTextDatum(request->object);
	values[2] = Int64GetDatum(request->id);
	values[3] = Int64GetDatum(account);
	nulls[3] = !has_account;
	values[10] = Int32GetDatum(request->base);
	nulls[10] = !request->has_base;
	values[11] = CStringGetTextDatum(request->actor ? request->actor : crm_history_actor());
	values[12] = CStringGetTextDatum("open");
	values[13] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[14] = CStringGetTextDatum(crm_history_session());
	insert = crm_insert_begin(crm_direct_table("conflict"), columns, lengthof(columns));
	foreach (cell, conflicts)
	{
		CrmConflict *conflict = lfirst(cell);
		Jsonb *sides[3] = {conflict->base, conflict->theirs, conflict->mine};
		char *theirs = NULL;

		crm_history_walk(table->object, request->id, conflict->their_version - 1, conflict->their_version, visit_writer,
						 &theirs);
		values[4] = CStringGetTextDatum(conflict->field);
		for (int i = 0; i < lengthof(sides); i++)
		{
			values[5 + i] = sides[i] ? JsonbPGetDatum(sides[i]) : (Datum) 0;
			nulls[5 + i] = sides[i] == NULL;
		}
		values[8] = theirs ? CStringGetTextDatum(theirs) : (Datum) 0;
		nulls[8] = theirs == NULL;
		values[9] = Int32GetDatum(conflict->their_version);
		crm_insert_row(insert, values, nulls);
	}
	crm_insert_end(insert);

	/* an alert that is open already is the rule: it is looked for before a statement is run */
	rel = table_open(crm_direct_table("alert"), AccessShareLock);
	ScanKeyInit(&key, crm_direct_column(RelationGetDescr(rel), "dedupe_key", TEXTOID), BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(alert));
	key.sk_collation = DEFAULT_COLLATION_OID;
	if (crm_direct_find(rel, crm_direct_table("alert_dedupe_key_idx"), 1, &key, NULL) == NULL)
	{
		Oid types[7] = {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT4OID, TEXTOID};
		Datum args[7] = {values[1],
						 values[2],
						 values[3],
						 Int64GetDatum(record->owner.owner),
						 Int64GetDatum(record->owner.team),
						 Int32GetDatum(Max(record->owner.grade, 0)),
						 CStringGetTextDatum(alert)};
		char arg_nulls[7] = {
			' ', ' ', has_account ? ' ' : 'n', record->owner.has_owner ? ' ' : 'n', record->owner.has_team ? ' ' : 'n',
			' ', ' '};

		crm_execute("INSERT INTO " CRM_DATA_SCHEMA
					".alert (kind, level, object, record_id, account_id, message, value, owner_id, team_id, grade, "
					"dedupe_key) VALUES ('write_conflict', 'yellow', $1, $2, $3, 'Two writers changed the same field; "
					"the second value is kept beside the record.', 1, $4, $5, $6::pg_catalog.int2, $7) "
					"ON CONFLICT DO NOTHING",
					7, types, args, arg_nulls, SPI_OK_INSERT);
	}
	table_close(rel, NoLock);
}

/*
 * Visits the change of a version: who wrote it?
 */
static void
visit_writer(HeapTuple row, TupleDesc desc, int32 version, void *arg)
{
	bool isnull;

	*(char **) arg = TextDatumGetCString(heap_getattr(row, crm_direct_column(desc, "actor", TEXTOID), desc, &isnull));
}

/*
 * Become the owner of the tables.
 */
static void
as_owner(Oid *user, int *security)
{
	become(get_role_oid(CRM_OWNER, false), user, security);
}

/*
 * The same, where it is known who that is.
 */
static void
become(Oid owner, Oid *user, int *security)
{
	GetUserIdAndSecContext(user, security);
	SetUserIdAndSecContext(owner, *security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
}

/*
 * An update through a view begins: the person's rights are checked and nothing is written yet. Locks the row that orders all writes to
 * the customer, before the record, as crm.write does (but not at the gate: a statement may change thousands), and gives the update its
 * number. Answers NULL for a table without versions, and inside another operation.
 * version: as the statement saw it; columns: attribute numbers of what changes; values and nulls by attribute number - 1.
 */
CrmViewWrite *
crm_view_write_begin(const char *object, int64 id, int32 version, const Bitmapset *columns, const Datum *values,
					 const bool *nulls)
{
	CrmViewWrite *write;
	CrmWriteTable *table;
	CrmWriteContext context = {0};
	bool there;
	Oid owner;
	Oid user;
	int security;

	as_owner(&user, &security);
	owner = GetUserId();
	table = crm_write_table_if(object);
	SetUserIdAndSecContext(user, security);
	if (table == NULL)
		return NULL;
	check_client("sql");
	write = palloc0(sizeof(CrmViewWrite));
	write->saved = crm_history_context_set(context);
	crm_history_context_restore(write->saved);
	if (write->saved.op_seq != 0)
		return NULL;

	write->table = table;
	write->request.object = table->object;
	write->request.id = id;
	write->request.endpoint = write->saved.endpoint ? write->saved.endpoint : "sql";
	write->request.mode = "merge";
	write->request.has_base = true;
	write->request.base = version;
	write->request.patch = patch_of(table, columns, values, nulls);
	write->root.object = table->object;
	write->root.id = id;
	write->root.is_record = true;
	write->owner = owner;
	become(owner, &write->user, &write->security);
	if (table->account_id >= 0)
	{
		Record child;

		/* the record is not locked yet: one that moves to another customer now has another version */
		there = read_record(table, id, false, &child);
		if (there && !child.nulls[table->account_id])
		{
			write->root.object = "account";
			write->root.id = DatumGetInt64(child.values[table->account_id]);
			write->root.is_record = false;
			/* a statement that changes many records of a customer locks him once: the lock lasts, and nobody else gives numbers under it */
			if (counted_last.account == write->root.id && counted_last.subxact == GetCurrentSubTransactionId() &&
				FullTransactionIdEquals(counted_last.xid, GetTopFullTransactionIdIfAny()) && sources_known &&
				!sources_any)
			{
				write->root.op_seq = counted_last.op_seq;
				write->root.apart = true;
			}
			else
				lock_account(write->root.id, false, &write->root, &write->record);
		}
	}
	else
		there = true;
	if (there && write->root.is_record)
	{
		Record *record = &write->record;

		there = read_record(table, id, true, record);
		if (there)
			write->root.op_seq = last_number(table, id, record);
		if (there && table->sync_off >= 0 && !record->nulls[table->sync_off])
			write->root.sync_off = DatumGetArrayTypePCopy(record->values[table->sync_off]);
	}
	SetUserIdAndSecContext(write->user, write->security);
	if (!there)
		return NULL;
	write->root.op_seq++;
	context = write->saved;
	context.op_seq = write->root.op_seq;
	(void) crm_history_context_set(context);
	return write;
}

/*
 * The patch that an update amounts to.
 */
static Jsonb *
patch_of(CrmWriteTable *table, const Bitmapset *columns, const Datum *values, const bool *nulls)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < table->ncolumns; i++)
	{
		CrmHistoryColumn *column = &table->columns[i].column;
		JsonbValue v;

		if (!bms_is_member(column->attnum, columns))
			continue;
		v.type = jbvString;
		v.val.string.val = column->name;
		v.val.string.len = strlen(column->name);
		pushJsonbValue(&state, WJB_KEY, &v);
		crm_history_value(column, values[column->attnum - 1], nulls[column->attnum - 1], &v);
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * Where the record is, if it is its own root and so locked, else NULL; and what is to be written with it: the number of the operation,
 * in a column (InvalidAttrNumber: in none).
 */
ItemPointer
crm_view_write_place(CrmViewWrite *write, AttrNumber *op_seq_column, int64 *op_seq)
{
	*op_seq_column = InvalidAttrNumber;
	*op_seq = write->root.op_seq;
	if (!write->root.is_record)
		return NULL;
	if (write->table->op_seq >= 0)
		*op_seq_column = write->table->columns[write->table->op_seq].column.attnum;
	return &write->record.place;
}

/*
 * The record has its new version: write the number into it if it is the root, unless it was counted there already, and the operation, and tell the
 * systems that want to know.
 */
void
crm_view_write_end(CrmViewWrite *write, int32 version, bool counted)
{
	pg_uuid_t op_id;

	crm_view_write_give_up(write);
	make_op_id(&op_id);
	write->request.op_id = UUIDPGetDatum(&op_id);

	become(write->owner, &write->user, &write->security);
	if (write->root.is_record ? !counted : !write->root.apart)
	{
		SPI_connect();
		update_root(&write->root, write->root.is_record ? NULL : &write->record.place, false);
		SPI_finish();
	}
	store_operation(&write->request, &write->root, write->root.op_seq, "applied", version, NULL);
	if (!sources_known || sources_any)
	{
		SPI_connect();
		announce(&write->request, &write->root, &write->record, write->table, version, write->root.op_seq);
		SPI_finish();
	}
	if (!write->root.is_record)
	{
		counted_last.xid = GetTopFullTransactionId();
		counted_last.subxact = GetCurrentSubTransactionId();
		counted_last.account = write->root.id;
		counted_last.op_seq = write->root.op_seq;
	}
	SetUserIdAndSecContext(write->user, write->security);
}

/*
 * An identifier for an operation that no client named: a UUID of version 7 (RFC 9562), whose order is that of time, so that the index that a
 * large statement fills grows at its end.
 */
static void
make_op_id(pg_uuid_t *op_id)
{
	static uint8 pool[1024];
	static int used = sizeof(pool);
	uint64 us = (uint64) GetCurrentTimestamp() +
				(uint64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * USECS_PER_SEC;
	uint64 ms = us / 1000;
	uint64 fraction = us % 1000 * 4096 / 1000;

	if (used + 8 > sizeof(pool))
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random bytes")));
		used = 0;
	}
	for (int i = 0; i < 6; i++)
		op_id->data[i] = (uint8) (ms >> (40 - 8 * i));
	op_id->data[6] = 0x70 | (uint8) (fraction >> 8);
	op_id->data[7] = (uint8) fraction;
	memcpy(op_id->data + 8, pool + used, 8);
	op_id->data[8] = (op_id->data[8] & 0x3f) | 0x80;
	used += 8;
}

/*
 * Nothing was written, or an error ended it.
 */
void
crm_view_write_give_up(CrmViewWrite *write)
{
	crm_history_context_restore(write->saved);
}

/*
 * Tell the systems that want to know that a record has a new version. The message says which, never what is in it.
 */
static void
announce(Request *request, Root *root, Record *record, CrmWriteTable *table, int32 version, int64 op_seq)
{
	Oid types[6] = {TEXTOID, INT8OID, INT4OID, INT8OID, INT8OID, TEXTARRAYOID};
	Datum values[6];
	char nulls[6];
	bool has_account = strcmp(root->object, "account") == 0;

	if (!sources_known)
	{
		sources_relid = get_relname_relid("source_system", get_namespace_oid(CRM_DATA_SCHEMA, false));
		sources_known = true;
		crm_execute("SELECT FROM " CRM_DATA_SCHEMA
					".source_system WHERE enabled AND config OPERATOR(pg_catalog.?) 'outbound' LIMIT 1",
					0, NULL, NULL, NULL, SPI_OK_SELECT);
		sources_any = SPI_processed > 0;
	}
	if (!sources_any)
		return;
	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(request->object);
	values[1] = Int64GetDatum(request->id);
	values[2] = Int32GetDatum(version);
	values[3] = Int64GetDatum(op_seq);
	values[4] = Int64GetDatum(root->id);
	nulls[4] = has_account ? ' ' : 'n';
	values[5] = root->sync_off ? PointerGetDatum(root->sync_off) : PointerGetDatum(construct_empty_array(TEXTOID));
	crm_execute("INSERT INTO " CRM_DATA_SCHEMA ".outbox (topic, channel, account_id, payload, dedupe_key) "
				"SELECT 'sync.' OPERATOR(pg_catalog.||) s.name, s.config OPERATOR(pg_catalog.->>) 'outbound', $5, "
				"pg_catalog.jsonb_build_object('object', $1, 'id', $2, 'version', $3, 'op_seq', $4), "
				"pg_catalog.concat_ws(':', 'sync', s.name, $1, $2, $3) "
				"FROM " CRM_DATA_SCHEMA
				".source_system AS s WHERE s.enabled AND s.config OPERATOR(pg_catalog.?) 'outbound' "
				"AND s.name OPERATOR(pg_catalog.<>) ALL ($6)",
				6, types, values, nulls, SPI_OK_INSERT);
}

/*
 * Relation cache callback. Only sets a flag.
 */
static void
forget_sources(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == sources_relid)
		sources_known = false;
	if (!OidIsValid(relid) || relid == off_relid)
		off_known = false;
}

#define WAITING_COLUMNS "op_id, op_seq, object, record_id, endpoint, actor, base_version, patch, mode"

/*
 * Apply what waits for a root that is locked, in the order of acceptance. Answers how many were tried.
 */
static int
apply_waiting(Root *root, int limit)
{
	Oid types[3] = {TEXTOID, INT8OID, INT4OID};
	Datum values[3] = {CStringGetTextDatum(root->object), Int64GetDatum(root->id), Int32GetDatum(limit)};
	SPITupleTable *rows;
	uint64 n;

	crm_execute(
		"SELECT " WAITING_COLUMNS " FROM " CRM_DATA_SCHEMA ".operation WHERE root_object OPERATOR(pg_catalog.=) $1 "
		"AND root_id OPERATOR(pg_catalog.=) $2 AND state OPERATOR(pg_catalog.=) 'pending' ORDER BY op_seq LIMIT $3",
		3, types, values, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) apply_one(root, rows->vals[i], rows->tupdesc);
	}
	return (int) n;
}

/*
 * Apply one operation that waited, in a subtransaction: one that cannot be applied is marked and waits for crm.retry_failed(), and
 * the others go on.
 */
static bool
apply_one(Root *root, HeapTuple row, TupleDesc desc)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int64 old_seq = root->op_seq;
	Request request = {0};
	bool isnull;
	bool applied = true;
	Datum d;

	request.op_id = SPI_getbinval(row, desc, 1, &isnull);
	request.op_seq = DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
	request.object = SPI_getvalue(row, desc, 3);
	request.id = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
	request.endpoint = SPI_getvalue(row, desc, 5);
	request.actor = SPI_getvalue(row, desc, 6);
	d = SPI_getbinval(row, desc, 7, &request.has_base);
	request.has_base = !request.has_base;
	request.base = request.has_base ? DatumGetInt32(d) : 0;
	request.patch = DatumGetJsonbP(SPI_getbinval(row, desc, 8, &isnull));
	request.mode = SPI_getvalue(row, desc, 9);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		CrmWriteTable *table = crm_write_table(request.object);
		Record record;

		if (!read_record(table, request.id, !root->is_record, &record))
			no_such_record(request.object, request.id);
		(void) apply(&request, table, root, &record);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;
		Oid types[2] = {UUIDOID, TEXTOID};
		Datum values[2];

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		root->op_seq = old_seq;
		/* a cancelled statement or a lost lock is not the operation's fault */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
			ReThrowError(error);
		values[0] = request.op_id;
		values[1] = CStringGetTextDatum(psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message));
		crm_execute(
			"UPDATE " CRM_DATA_SCHEMA
			".operation SET state = 'failed', error = $2, attempts = attempts OPERATOR(pg_catalog.+) 1, "
			"result = pg_catalog.jsonb_build_object('state', 'failed', 'op_seq', op_seq, 'error', $2) WHERE op_id "
			"OPERATOR(pg_catalog.=) $1",
			2, types, values, NULL, SPI_OK_UPDATE);
		applied = false;
	}
	PG_END_TRY();
	return applied;
}

/*
 * crm.apply_operations(account bigint, batch int): applies what waits, for one customer or for all whose lease has ended.
 */
Datum
crm_apply_operations(PG_FUNCTION_ARGS)
{
	bool one = !PG_ARGISNULL(0);
	int32 batch = PG_ARGISNULL(1) ? 500 : PG_GETARG_INT32(1);
	Oid types[2] = {INT8OID, INT4OID};
	Datum values[2];
	char nulls[2] = {' ', ' '};
	SPITupleTable *rows;
	uint64 n;
	int tried = 0;
	Oid save_user;
	int save_context;

	if (batch < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("batch must be at least 1")));
	SPI_connect();
	as_owner(&save_user, &save_context);
	values[0] = one ? PG_GETARG_DATUM(0) : (Datum) 0;
	nulls[0] = one ? ' ' : 'n';
	values[1] = Int32GetDatum(batch);
	/* in order of the customers' ids, as every writer to several takes them */
	crm_execute(
		"SELECT root_object, root_id FROM " CRM_DATA_SCHEMA ".operation WHERE state OPERATOR(pg_catalog.=) 'pending' "
		"AND ($1 IS NULL OR (root_object OPERATOR(pg_catalog.=) 'account' AND root_id OPERATOR(pg_catalog.=) $1)) "
		"GROUP BY root_object, root_id ORDER BY root_object, root_id LIMIT $2",
		2, types, values, nulls, SPI_OK_SELECT);
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n && tried < batch; i++)
	{
		bool isnull;
		Root root = {0};
		Record record;

		CHECK_FOR_INTERRUPTS();
		root.object = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);
		root.id = DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		if (strcmp(root.object, "account") == 0)
		{
			Oid id_type[1] = {INT8OID};
			Datum id[1] = {Int64GetDatum(root.id)};

			/* a customer who is being written to now is drained by that writer; the gate comes before the row, as in every write */
			if (!one)
			{
				if (fair_lock && !pass_gate(root.id))
					continue;
				crm_execute("SELECT id FROM " CRM_DATA_SCHEMA
							".account WHERE id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED",
							1, id_type, id, NULL, SPI_OK_SELECT);
				if (SPI_processed == 0)
					continue;
			}
			lock_account(root.id, fair_lock, &root, &record);
			if (root.leased)
				continue;
		}
		else
		{
			Request request = {0};

			request.object = root.object;
			request.id = root.id;
			lock_root(&request, crm_write_table(root.object), &root, &record);
		}
		tried += apply_waiting(&root, batch - tried);
	}
	SetUserIdAndSecContext(save_user, save_context);
	SPI_finish();
	PG_RETURN_INT32(tried);
}

/*
 * What the client gets, now and each time it asks again. The other writer's value is shown as the field is.
 */
static Jsonb *
make_answer(const char *state, int64 id, int32 version, int64 op_seq, List *conflicts, const CrmRowOwner *owner,
			TimestampTz until)
{
	JsonbParseState *parse = NULL;
	JsonbValue key;
	ListCell *cell;

	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	add_string(&parse, "state", state);
	add_int(&parse, "id", id);
	if (version)
		add_int(&parse, "version", version);
	add_int(&parse, "op_seq", op_seq);
	if (until)
		add_string(&parse, "until", timestamptz_to_str(until));
	key.type = jbvString;
	key.val.string.val = "conflicts";
	key.val.string.len = 9;
	pushJsonbValue(&parse, WJB_KEY, &key);
	pushJsonbValue(&parse, WJB_BEGIN_ARRAY, NULL);
	foreach (cell, conflicts)
	{
		CrmConflict *conflict = lfirst(cell);

		pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
		add_string(&parse, "field", conflict->field);
		add_json(&parse, "base", crm_field_shown(conflict->number, owner, conflict->base));
		add_json(&parse, "theirs", crm_field_shown(conflict->number, owner, conflict->theirs));
		add_json(&parse, "mine", conflict->mine);
		add_int(&parse, "their_version", conflict->their_version);
		pushJsonbValue(&parse, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(&parse, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
}

/*
 * Add a key and a text to an object.
 */
static void
add_string(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue v;

	v.type = jbvString;
	v.val.string.val = (char *) key;
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = pstrdup(value);
	v.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/*
 * Add a key and a number to an object.
 */
static void
add_int(JsonbParseState **state, const char *key, int64 value)
{
	JsonbValue v;

	v.type = jbvString;
	v.val.string.val = (char *) key;
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/*
 * Add a key and a JSON value, null for NULL, to an object.
 */
static void
add_json(JsonbParseState **state, const char *key, Jsonb *value)
{
	JsonbValue v;

	v.type = jbvString;
	v.val.string.val = (char *) key;
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	if (value == NULL)
		v.type = jbvNull;
	else if (JB_ROOT_IS_SCALAR(value))
		(void) JsonbExtractScalar(&value->root, &v);
	else
	{
		v.type = jbvBinary;
		v.val.binary.data = &value->root;
		v.val.binary.len = VARSIZE(value) - VARHDRSZ;
	}
	pushJsonbValue(state, WJB_VALUE, &v);
}
