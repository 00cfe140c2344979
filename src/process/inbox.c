/*
 * inbox.c
 *		The short way of crm.ingest: behaviour of a known customer becomes an event without statements.
 *
 * Most of what other systems send is behaviour: a page seen, a call, a file. It needs a handful of look-ups by keys and two or three
 * inserts; as statements these cost several times what they do. What is here decides nothing that sql/api/inbox.sql does not decide:
 * whatever is not plainly such a payload (a lead, a conversation, money, a person to look for, a source that is switched off, a
 * repetition, an odd time) is answered with NULL, and so is whatever goes wrong on the way, after it was undone; crm.ingest then
 * takes the long way, which says what became of the payload.
 *
 * Locking: what the inserts' foreign keys lock. A customer that was merged meanwhile is noticed after the event is written, under the
 * lock of its foreign key. Memory: the caller's, which ends with the call.
 */
#include "crm.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/direct.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "history/history.h"
#include "mb/pg_wchar.h"
#include "process/attempt.h"
#include "process/listen.h"
#include "process/object.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/timestamp.h"
#include "writes/plan.h"

PG_FUNCTION_INFO_V1(crm_ingest_behaviour);

/* kinds and channels longer than this are odd; keys of indexes are limited */
#define MAX_NAME 200

/* One payload, and what is known of it so far. */
typedef struct Payload
{
	Datum source; /* its name */
	Datum external_id;
	char *kind;
	Jsonb *payload;
	Jsonb *detail; /* without what says nothing */
	char *channel; /* NULL: none */
	TimestampTz at;
	bool at_assumed;
	int64 source_id;
	int64 account;
	Datum owner;
	bool no_owner;
	Datum team;
	bool no_team;
	Datum grade;
	Datum digest;
	int64 id;
} Payload;

/*
 * Kinds that are more than an event.
 */
static bool
is_behaviour(const char *kind)
{
	static const char *const others[] = {"lead",    "form",   "invoice", "payment", "refund", "sealed",
										 "meeting", "survey", "chat",    "email",   "note",   "transcript"};

	if (kind[0] == '\0' || strlen(kind) > MAX_NAME)
		return false;
	for (int i = 0; i < lengthof(others); i++)
		if (strcmp(kind, others[i]) == 0)
			return false;
	/* a system may say whose entry it is: finance.payment, legal.sealed */
	return strncmp(kind, "finance.", 8) != 0 && strncmp(kind, "legal.", 6) != 0;
}

/*
 * Look at a payload's keys; false when it is for the long way. What is null or an empty text says nothing and is left out.
 */
static bool
read_payload(Payload *p, Datum *code)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue v;
	JsonbValue *found;
	JsonbParseState *state = NULL;
	bool empty = false;

	if (!JB_ROOT_IS_OBJECT(p->payload) || crm_object_get(p->payload, "phone", &v) ||
		crm_object_get(p->payload, "email", &v) || crm_object_get(p->payload, "value", &v) ||
		crm_object_get(p->payload, "origin", &v))
		return false;
	found = crm_object_get(p->payload, "account_code", &v);
	if (found == NULL || found->type != jbvString || found->val.string.len == 0)
		return false;
	*code = PointerGetDatum(cstring_to_text_with_len(found->val.string.val, found->val.string.len));
	found = crm_object_get(p->payload, "channel", &v);
	if (found && (found->type != jbvString || found->val.string.len == 0 || found->val.string.len > MAX_NAME))
		return false;
	p->channel = found ? pnstrdup(found->val.string.val, found->val.string.len) : NULL;

	it = JsonbIteratorInit(&p->payload->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_VALUE && (v.type == jbvNull || (v.type == jbvString && v.val.string.len == 0)))
			empty = true;
	p->detail = p->payload;
	if (empty)
	{
		JsonbValue key;
		JsonbValue *object = NULL;

		it = JsonbIteratorInit(&p->payload->root);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
				key = v;
			else if (token == WJB_VALUE && (v.type == jbvNull || (v.type == jbvString && v.val.string.len == 0)))
				continue;
			else if (token == WJB_VALUE)
			{
				pushJsonbValue(&state, WJB_KEY, &key);
				pushJsonbValue(&state, WJB_VALUE, &v);
			}
			else
				object = pushJsonbValue(&state, token, NULL);
		}
		p->detail = JsonbValueToJsonb(object);
	}
	return true;
}

/*
 * The source, false when it is unknown, switched off, or its freshness is to be noted.
 */
static bool
find_source(Payload *p)
{
	Relation rel = table_open(crm_direct_table("source_system"), AccessShareLock);
	HeapTuple row;
	ScanKeyData key;
	bool isnull;
	bool good = false;

	crm_direct_text_key(&key, rel, "name", p->source);
	row = crm_direct_find(rel, crm_direct_table("source_system_name_key"), 1, &key, NULL);
	if (row && DatumGetBool(crm_direct_value(row, rel, "enabled", BOOLOID, &isnull)) &&
		!crm_direct_is_null(row, rel, "last_applied_at"))
	{
		TimestampTz seen = DatumGetTimestampTz(crm_direct_value(row, rel, "last_seen_at", TIMESTAMPTZOID, &isnull));

		good = !isnull && seen >= GetCurrentTransactionStartTimestamp() - 10 * USECS_PER_SEC;
		p->source_id = DatumGetInt64(crm_direct_value(row, rel, "id", INT8OID, &isnull));
	}
	table_close(rel, NoLock);
	return good;
}

/*
 * Is a name one of an array of texts?
 */
static bool
is_among(Datum array, Datum name)
{
	Datum *names;
	bool *nulls;
	int n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i] && DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, names[i], name)))
			return true;
	return false;
}

/*
 * The living customer with a code, false when there is none or it refuses the source.
 */
static bool
find_account(Payload *p, Datum code)
{
	Relation rel = table_open(crm_direct_table("account"), AccessShareLock);
	HeapTuple row;
	ScanKeyData key;
	bool isnull;
	bool good;

	crm_direct_text_key(&key, rel, "code", code);
	row = crm_direct_find(rel, crm_direct_table("account_code_key"), 1, &key, NULL);
	good = row != NULL && crm_direct_is_null(row, rel, "merged_into") && crm_direct_is_null(row, rel, "deleted_at") &&
		   !is_among(crm_direct_value(row, rel, "sync_off", TEXTARRAYOID, &isnull), p->source);
	if (good)
	{
		p->account = DatumGetInt64(crm_direct_value(row, rel, "id", INT8OID, &isnull));
		p->owner = crm_direct_value(row, rel, "owner_id", INT8OID, &p->no_owner);
		p->team = crm_direct_value(row, rel, "team_id", INT8OID, &p->no_team);
		p->grade = crm_direct_value(row, rel, "grade", INT2OID, &isnull);
	}
	table_close(rel, NoLock);
	return good;
}

/*
 * Has the source sent this before?
 */
static bool
was_received(Payload *p)
{
	Relation rel = table_open(crm_direct_table("inbox"), AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	ScanKeyData keys[3];
	HeapTuple row;

	ScanKeyInit(&keys[0], crm_direct_column(desc, "source_id", INT8OID), BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(p->source_id));
	crm_direct_text_key(&keys[1], rel, "external_id", p->external_id);
	ScanKeyInit(&keys[2], crm_direct_column(desc, "digest", BYTEAOID), BTEqualStrategyNumber, F_BYTEAEQ, p->digest);
	row = crm_direct_find(rel, crm_direct_table("inbox_source_id_external_id_digest_key"), 3, keys, NULL);
	table_close(rel, NoLock);
	return row != NULL;
}

/*
 * The payload as a row of the inbox, applied.
 */
static void
store_payload(Payload *p)
{
	static const CrmColumn columns[] = {{"id", INT8OID},
										{"source_id", INT8OID},
										{"external_id", TEXTOID},
										{"kind", TEXTOID},
										{"payload", JSONBOID},
										{"digest", BYTEAOID},
										{"source_ts", TIMESTAMPTZOID},
										{"ts_assumed", BOOLOID},
										{"state", TEXTOID},
										{"object", TEXTOID},
										{"record_id", INT8OID},
										{"attempts", INT4OID},
										{"processed_at", TIMESTAMPTZOID}};
	Datum values[lengthof(columns)];
	bool nulls[lengthof(columns)] = {false};
	CrmInsert *insert;

	values[0] = Int64GetDatum(p->id);
	values[1] = Int64GetDatum(p->source_id);
	values[2] = p->external_id;
	values[3] = CStringGetTextDatum(p->kind);
	values[4] = JsonbPGetDatum(p->payload);
	values[5] = p->digest;
	values[6] = TimestampTzGetDatum(p->at);
	values[7] = BoolGetDatum(p->at_assumed);
	values[8] = CStringGetTextDatum("applied");
	values[9] = CStringGetTextDatum("account");
	values[10] = Int64GetDatum(p->account);
	values[11] = Int32GetDatum(1);
	values[12] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	insert = crm_insert_begin(crm_direct_table("inbox"), columns, lengthof(columns));
	crm_insert_row(insert, values, nulls);
	crm_insert_end(insert);
}

/*
 * The event, with owner, team and grade of the customer. False when the customer has been merged by now, or it takes a statement.
 */
static bool
store_event(Payload *p)
{
	static const CrmColumn columns[] = {
		{"id", INT8OID},         {"at", TIMESTAMPTZOID}, {"occurred_at", TIMESTAMPTZOID},
		{"account_id", INT8OID}, {"source_id", INT8OID}, {"kind", TEXTOID},
		{"channel", TEXTOID},    {"detail", JSONBOID},   {"owner_id", INT8OID},
		{"team_id", INT8OID},    {"grade", INT2OID}};
	Relation parent = table_open(crm_direct_table("event"), RowExclusiveLock);
	Oid month;
	Relation part;
	Relation accounts;
	HeapTuple account;
	bool living;
	bool fired;
	Datum values[lengthof(columns)];
	bool nulls[lengthof(columns)] = {false};
	CrmInsert *insert;

	values[0] = Int64GetDatum(nextval_internal(crm_direct_table("event_id_seq"), false));
	values[1] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[2] = TimestampTzGetDatum(p->at);
	values[3] = Int64GetDatum(p->account);
	values[4] = Int64GetDatum(p->source_id);
	values[5] = CStringGetTextDatum(p->kind);
	nulls[6] = p->channel == NULL;
	values[6] = p->channel ? CStringGetTextDatum(p->channel) : (Datum) 0;
	values[7] = JsonbPGetDatum(p->detail);
	values[8] = p->owner;
	nulls[8] = p->no_owner;
	values[9] = p->team;
	nulls[9] = p->no_team;
	values[10] = p->grade;
	month = crm_direct_partition(parent, values[1]);
	part = table_open(month, NoLock);
	fired = crm_direct_fires_once(parent) || crm_direct_fires_once(part);
	table_close(part, NoLock);
	table_close(parent, NoLock);
	/* triggers that somebody put there are a statement's */
	if (fired)
		return false;
	insert = crm_insert_begin(month, columns, lengthof(columns));
	crm_insert_row(insert, values, nulls);
	crm_insert_end(insert);

	accounts = table_open(crm_direct_table("account"), AccessShareLock);
	account = crm_direct_row(accounts, p->account, false);
	living = account != NULL && crm_direct_is_null(account, accounts, "merged_into");
	table_close(accounts, NoLock);
	return living;
}

/*
 * Tell the rules: those on the payload look at it now, those on the event at the next tick.
 */
static void
tell_rules(Payload *p)
{
	static const CrmColumn columns[] = {
		{"kind", TEXTOID}, {"object", TEXTOID}, {"record_id", INT8OID}, {"event", JSONBOID}};
	char *event = psprintf("event.%s", p->kind);

	if (crm_rules_listen(psprintf("inbox.%s", p->kind)))
	{
		Oid types[5] = {TEXTOID, INT8OID, JSONBOID, INT8OID, TIMESTAMPTZOID};
		Datum args[5] = {CStringGetTextDatum(p->kind), Int64GetDatum(p->account), JsonbPGetDatum(p->detail),
						 Int64GetDatum(p->id), TimestampTzGetDatum(p->at)};

		SPI_connect();
		crm_execute("SELECT " CRM_SCHEMA "._run_rules('inbox.' OPERATOR(pg_catalog.||) $1, 'account', $2, $3 "
					"OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('id', $4, 'kind', $1, 'occurred_at', $5))",
					5, types, args, NULL, SPI_OK_SELECT);
		SPI_finish();
	}
	if (crm_rules_listen(event))
	{
		JsonbParseState *state = NULL;
		Datum values[lengthof(columns)];
		bool nulls[lengthof(columns)] = {false};
		CrmInsert *insert;

		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		crm_object_push_number(&state, "id", p->id);
		crm_object_push_text(&state, "kind", p->kind);
		crm_object_push_text(&state, "occurred_at",
							 JsonEncodeDateTime(NULL, TimestampTzGetDatum(p->at), TIMESTAMPTZOID, NULL));
		values[0] = CStringGetTextDatum(event);
		values[1] = CStringGetTextDatum("account");
		values[2] = Int64GetDatum(p->account);
		values[3] =
			DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(p->detail),
								JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL))));
		insert = crm_insert_begin(crm_direct_table("rule_event"), columns, lengthof(columns));
		crm_insert_row(insert, values, nulls);
		crm_insert_end(insert);
	}
}

/*
 * All of it.
 */
static bool
apply(void *arg)
{
	Payload *p = arg;

	p->id = nextval_internal(crm_direct_table("inbox_id_seq"), false);
	/* first the row that the same payload at the same time waits for */
	store_payload(p);
	if (!store_event(p))
		return false;
	tell_rules(p);
	return true;
}

/*
 * crm._ingest_behaviour(source text, external_id text, kind text, payload jsonb, source_ts timestamptz) -> what crm.ingest answers, or NULL when
 * the payload is for the long way
 */
Datum
crm_ingest_behaviour(PG_FUNCTION_ARGS)
{
	Payload p;
	Datum code;
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	char *written;
	int len;
	bytea *raw;
	JsonbParseState *state = NULL;
	CrmWriteContext context = {0};
	CrmWriteContext saved;
	volatile bool done = false;

	memset(&p, 0, sizeof(p));
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3) || GetDatabaseEncoding() != PG_UTF8)
		PG_RETURN_NULL();
	p.at_assumed = PG_ARGISNULL(4);
	p.at = p.at_assumed ? now : PG_GETARG_TIMESTAMPTZ(4);
	/* a time without sense: the long way makes it now; a century is not worth more care */
	if (p.at > now || p.at < now - 100 * INT64CONST(365) * USECS_PER_DAY)
		PG_RETURN_NULL();
	p.source = PointerGetDatum(PG_GETARG_TEXT_PP(0));
	p.external_id = PointerGetDatum(PG_GETARG_TEXT_PP(1));
	p.kind = text_to_cstring(PG_GETARG_TEXT_PP(2));
	p.payload = PG_GETARG_JSONB_P(3);
	if (VARSIZE_ANY_EXHDR(DatumGetPointer(p.external_id)) == 0 || !is_behaviour(p.kind) || !read_payload(&p, &code) ||
		crm_direct_restricted() || !find_source(&p) || !find_account(&p, code))
		PG_RETURN_NULL();
	written = JsonbToCString(NULL, &p.payload->root, VARSIZE(p.payload));
	len = strlen(written);
	raw = palloc(VARHDRSZ + len);
	SET_VARSIZE(raw, VARHDRSZ + len);
	memcpy(VARDATA(raw), written, len);
	p.digest = DirectFunctionCall1(sha256_bytea, PointerGetDatum(raw));
	if (was_received(&p))
		PG_RETURN_NULL();
	/* what its rules change says which system it came from, and is not sent back there */
	context.endpoint = psprintf("sync.%s", TextDatumGetCString(p.source));
	saved = crm_history_context_set(context);
	PG_TRY();
	{
		done = crm_attempt(apply, &p);
	}
	PG_FINALLY();
	{
		crm_history_context_restore(saved);
	}
	PG_END_TRY();
	if (!done)
		PG_RETURN_NULL();

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	crm_object_push_number(&state, "inbox", p.id);
	crm_object_push_text(&state, "state", "applied");
	crm_object_push_null(&state, "reason");
	crm_object_push_text(&state, "object", "account");
	crm_object_push_number(&state, "record", p.account);
	crm_object_push_bool(&state, "repeated", false);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}
