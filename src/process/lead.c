/*
 * lead.c
 *		The short way of crm.capture_lead: a person nobody knows yet becomes a lead of somebody's, without statements.
 *
 * Most leads are new: neither they nor their company were heard of. For these the steps of sql/api/leads.sql (the look-ups that find nothing,
 * the route, the member with the least to do, the lead, its first-touch task and the message) are done here by keys and direct inserts, with
 * the same result. Everything else is answered with NULL and done by the long way: a repetition, a known person, number, address or company,
 * a place on the map, a campaign, a routing on trial, nobody to give it to, a transaction with one snapshot for all of it. What goes wrong
 * is undone first.
 *
 * Configuration, and what is made of it, is kept until any of it changes; the members are kept until one of them, or the membership of a role,
 * changes. What a lead gets of either is copied: a trigger that the lead fires may take in another, after something has changed.
 *
 * Locking: the locks of the lead's match keys, taken before it is looked for, so that of two simultaneous writers of one customer the second sees
 * the first; and what the inserts' foreign keys lock. Memory: what is kept lives below CacheMemoryContext; all else ends with the call.
 */
#include "crm.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/direct.h"
#include "common/invalidate.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "process/attempt.h"
#include "process/lead.h"
#include "process/object.h"
#include "storage/bufmgr.h"
#include "text/face.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "writes/plan.h"

PG_FUNCTION_INFO_V1(crm_capture_new);

extern PGDLLEXPORT Datum crm_parse_time(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum crm_match_lock(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum crm_match_pause(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum crm_match_paused(PG_FUNCTION_ARGS);

/* members who fit equally well are compared by what they have to do; of more than a few, some are drawn, and of two the better is nearly the best */
#define FEW 4
#define DRAWN 2

/* a word that says which region or industry it is */
typedef struct Word
{
	char *text;
	char *key;
	int length; /* in characters */
} Word;

typedef struct Words
{
	int n;
	Word *word; /* the longest first, then by key */
} Words;

typedef struct Route
{
	char *name;
	Datum when; /* a path; 0: always */
	bool by_region;
	bool by_industry;
} Route;

/* An assignment in force. */
typedef struct Assignment
{
	MemoryContext context;
	uint64 serial; /* of the configuration that it was made of */
	int32 version;
	bool odd; /* for the long way */
	Words regions;
	Words industries;
	int region_weight;
	int industry_weight;
	int nroutes;
	Route *routes;
} Assignment;

typedef struct Member
{
	int64 id;
	int64 team;
	bool no_team;
	int capacity;
	int rank;
	DateADT left_at;
	bool sales;
	int nregions;
	char **regions;
	int nindustries;
	char **industries;
} Member;

typedef struct Members
{
	MemoryContext context;
	Oid relid;
	bool valid;
	bool whole; /* no error came in between */
	int n;
	Member *member;
} Members;

/* How a message of a topic is sent. */
typedef struct Topic
{
	MemoryContext context;
	uint64 serial; /* of the configuration that it was made of */
	Datum channel; /* 0: none */
	Datum fallback;
} Topic;

/* One lead, and what is known of it so far. */
typedef struct Lead
{
	int64 id;
	Jsonb *doc;
	char *name, *company, *title, *need, *industry, *region, *province, *city, *district, *source, *channel,
		*client_key;
	Datum phone, email; /* as they came; 0: none */
	Datum phone_key, email_key;
	Jsonb *context;
	Jsonb *attrs;
	TimestampTz at;
	bool at_assumed;
	bool has_source;
	int64 source_id;
	char *route;
	int32 route_version;
	int64 owner;
	int64 team;
	bool no_team;
	Datum message_channel;
	Datum message_fallback;
	int minutes; /* for the first touch */
} Lead;

/* A configuration by its kind and key, and its version in force. */
typedef struct Config
{
	const char *kind;
	const char *key;
	int32 version;
	Jsonb *body;   /* NULL: none */
	bool on_trial; /* there is one that is tried */
} Config;

/* Those that were asked for, until one of any changes. */
typedef struct Configs
{
	MemoryContext context;
	Oid relid;
	bool valid;
	uint64 serial; /* counts how often they were read anew */
	int n;
	Config config[8];
} Configs;

static Configs configs;
static Assignment assignment;
static Members members;
static Topic topic;

/*
 * Relation cache callback: the members or the configuration changed.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == configs.relid || !OidIsValid(relid))
		configs.valid = false;
	if (relid == members.relid || !OidIsValid(relid))
		members.valid = false;
}

/*
 * Catalog cache callback: a role or a membership changed.
 */
static void
roles_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	members.valid = false;
}

/*
 * Called when the library is loaded.
 */
void
crm_lead_init(void)
{
	crm_on_relation_change(relation_changed);
	CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
}

/*
 * A function of one text, or of a text and a second argument, which may answer NULL: 0.
 */
static Datum
text_of(PGFunction function, Datum value, Datum second, Datum third)
{
	LOCAL_FCINFO(fcinfo, 3);
	Datum result;

	if (value == 0)
		return 0;
	InitFunctionCallInfoData(*fcinfo, NULL, 3, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = value;
	fcinfo->args[1].value = second;
	fcinfo->args[2].value = third;
	fcinfo->args[0].isnull = fcinfo->args[1].isnull = fcinfo->args[2].isnull = false;
	result = function(fcinfo);
	return fcinfo->isnull ? 0 : result;
}

/*
 * The version of a configuration that is in force or, with an index of those, on trial: its row. NULL: none.
 */
static HeapTuple
config_row(Relation rel, const char *index, const char *kind, const char *key)
{
	ScanKeyData keys[3];

	crm_direct_text_key(&keys[0], rel, "kind", CStringGetTextDatum(kind));
	crm_direct_text_key(&keys[1], rel, "key", CStringGetTextDatum(key));
	crm_direct_text_key(&keys[2], rel, "scope", CStringGetTextDatum("*"));
	return crm_direct_find(rel, crm_direct_table(index), 3, keys, NULL);
}

/*
 * A configuration. kind and key are constants. It is good until the next is asked for.
 */
static Config *
get_config(const char *kind, const char *key)
{
	Relation rel;
	HeapTuple found;
	MemoryContext old;
	Config *config;
	bool isnull;

	if (!configs.valid)
	{
		if (configs.context == NULL)
			configs.context = AllocSetContextCreate(CacheMemoryContext, "crm configuration", ALLOCSET_SMALL_SIZES);
		MemoryContextReset(configs.context);
		configs.n = 0;
		configs.serial++;
		configs.relid = crm_direct_table("config");
		/* before anything is read: what changes now makes it invalid again */
		configs.valid = true;
	}
	for (int i = 0; i < configs.n; i++)
		if (strcmp(configs.config[i].key, key) == 0 && strcmp(configs.config[i].kind, kind) == 0)
			return &configs.config[i];
	if (configs.n == lengthof(configs.config))
		elog(ERROR, "too many configurations are kept");
	rel = table_open(configs.relid, AccessShareLock);
	config = &configs.config[configs.n];
	memset(config, 0, sizeof(*config));
	config->kind = kind;
	config->key = key;
	config->on_trial = config_row(rel, "config_one_canary_idx", kind, key) != NULL;
	found = config_row(rel, "config_one_active_idx", kind, key);
	if (found)
	{
		config->version = DatumGetInt32(crm_direct_value(found, rel, "version", INT4OID, &isnull));
		old = MemoryContextSwitchTo(configs.context);
		config->body = DatumGetJsonbPCopy(crm_direct_value(found, rel, "body", JSONBOID, &isnull));
		MemoryContextSwitchTo(old);
	}
	table_close(rel, NoLock);
	configs.n++;
	return config;
}

/*
 * A key of an object as ->> gives it: NULL when there is none, it is null, or, as an empty text says nothing, blank. Sets odd for what is no
 * plain text.
 */
static char *
plain_text(Jsonb *object, const char *key, bool *odd)
{
	JsonbValue v;
	char *text;

	if (crm_object_get(object, key, &v) == NULL || v.type == jbvNull)
		return NULL;
	if (v.type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
	if (v.type != jbvString)
	{
		*odd = true;
		return NULL;
	}
	text = pnstrdup(v.val.string.val, v.val.string.len);
	return text[strspn(text, " ")] == '\0' ? NULL : text;
}

/*
 * A setting, NULL when there is none.
 */
static char *
setting(const char *key)
{
	Config *config = get_config("setting", key);
	bool odd = false;

	return config->body ? plain_text(config->body, "value", &odd) : NULL;
}

/*
 * The longest first, then by key as the database sorts texts.
 */
static int
compare_words(const void *a, const void *b)
{
	const Word *x = a;
	const Word *y = b;

	if (x->length != y->length)
		return x->length > y->length ? -1 : 1;
	return varstr_cmp(x->key, strlen(x->key), y->key, strlen(y->key), DEFAULT_COLLATION_OID);
}

/*
 * The words of a dictionary: an object of lists. False when it is something else.
 */
static bool
read_words(Jsonb *body, const char *name, bool lower, Words *words)
{
	JsonbValue v;
	JsonbIterator *it;
	JsonbIteratorToken token;
	char *key = NULL;
	int depth = 0;
	int room = 16;

	words->n = 0;
	words->word = palloc(room * sizeof(Word));
	if (crm_object_get(body, name, &v) == NULL)
		return true;
	if (v.type != jbvBinary)
		return false;
	it = JsonbIteratorInit(v.val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT ? depth++ != 0 : token == WJB_BEGIN_ARRAY ? depth++ != 1 : false)
			return false;
		if (token == WJB_END_OBJECT || token == WJB_END_ARRAY)
			depth--;
		if (token == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		if (token == WJB_VALUE || (token == WJB_ELEM && v.type != jbvString))
			return false;
		if (token == WJB_ELEM)
		{
			Word *word;

			if (words->n == room)
				words->word = repalloc(words->word, (room *= 2) * sizeof(Word));
			word = &words->word[words->n++];
			word->key = key;
			word->text = lower ? str_tolower(v.val.string.val, v.val.string.len, DEFAULT_COLLATION_OID)
							   : pnstrdup(v.val.string.val, v.val.string.len);
			word->length = pg_mbstrlen_with_len(v.val.string.val, v.val.string.len);
		}
	}
	qsort(words->word, words->n, sizeof(Word), compare_words);
	return true;
}

/*
 * What a text says: the key of its longest word.
 */
static char *
key_of_words(Words *words, const char *text)
{
	for (int i = 0; i < words->n; i++)
		if (strstr(text, words->word[i].text))
			return pstrdup(words->word[i].key);
	return NULL;
}

/*
 * A weight of an assignment.
 */
static int
weight_of(Jsonb *body, const char *name, int otherwise)
{
	JsonbValue v;
	JsonbValue w;
	bool odd = false;
	char *text;

	if (crm_object_get(body, "weights", &v) == NULL || v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
		return otherwise;
	if (getKeyJsonValueFromContainer(v.val.binary.data, name, strlen(name), &w) == NULL)
		return otherwise;
	text = plain_text(JsonbValueToJsonb(&v), name, &odd);
	return text ? pg_strtoint32(text) : otherwise;
}

/*
 * Does the list under a key of an object hold a text?
 */
static bool
list_holds(Jsonb *object, const char *key, const char *text)
{
	JsonbValue v;
	JsonbValue wanted;

	if (crm_object_get(object, key, &v) == NULL || v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data))
		return false;
	wanted.type = jbvString;
	wanted.val.string.val = unconstify(char *, text);
	wanted.val.string.len = strlen(text);
	return findJsonbValueFromContainer(v.val.binary.data, JB_FARRAY, &wanted) != NULL;
}

/*
 * The routes of an assignment; false when they are not what is known here.
 */
static bool
read_routes(Jsonb *body, Assignment *into)
{
	JsonbValue v;
	JsonbContainer *list;

	if (crm_object_get(body, "routes", &v) == NULL || v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data))
		return false;
	list = v.val.binary.data;
	into->nroutes = JsonContainerSize(list);
	into->routes = palloc0(Max(into->nroutes, 1) * sizeof(Route));
	for (int i = 0; i < into->nroutes; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(list, i);
		Route *route = &into->routes[i];
		bool odd = false;
		Jsonb *object;
		char *when;

		if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
			return false;
		object = JsonbValueToJsonb(element);
		route->name = plain_text(object, "name", &odd);
		when = plain_text(object, "when", &odd);
		if (when && strcmp(when, "$") != 0)
			route->when = DirectFunctionCall1(jsonpath_in, CStringGetDatum(when));
		if (odd || route->name == NULL)
			return false;
		if (crm_object_get(object, "to", &v) && v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data))
		{
			Jsonb *to = JsonbValueToJsonb(&v);

			route->by_region = list_holds(to, "match", "region");
			route->by_industry = list_holds(to, "match", "industry");
		}
	}
	return true;
}

/*
 * The assignment in force, NULL when the long way is to look at it.
 */
static Assignment *
current_assignment(void)
{
	Config *config = get_config("assignment", "default");
	Jsonb *body = config->body;

	if (body == NULL || config->on_trial)
		return NULL;
	if (assignment.serial != configs.serial)
	{
		MemoryContext old;

		if (assignment.context)
			MemoryContextDelete(assignment.context);
		memset(&assignment, 0, sizeof(assignment));
		assignment.context = AllocSetContextCreate(CacheMemoryContext, "crm assignment", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(assignment.context);
		assignment.odd = !read_words(body, "regions", false, &assignment.regions) ||
						 !read_words(body, "industries", true, &assignment.industries) ||
						 !read_routes(body, &assignment);
		assignment.region_weight = weight_of(body, "region", 3);
		assignment.industry_weight = weight_of(body, "industry", 2);
		MemoryContextSwitchTo(old);
		assignment.version = config->version;
		assignment.serial = configs.serial;
	}
	return assignment.odd ? NULL : &assignment;
}

/*
 * An array of texts as C strings.
 */
static int
strings_of(Datum array, char ***strings)
{
	Datum *values;
	bool *nulls;
	int n;
	int kept = 0;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	*strings = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			(*strings)[kept++] = TextDatumGetCString(values[i]);
	return kept;
}

/*
 * Read the members, unless nothing has changed.
 */
static void
read_members(void)
{
	Relation rel;
	SysScanDesc scan;
	HeapTuple row;
	MemoryContext old;
	Snapshot snapshot;
	Oid sales = get_role_oid("crm_sales", true);
	int room = 64;

	if (members.valid && members.whole)
		return;
	rel = table_open(crm_direct_table("member"), AccessShareLock);
	if (members.context)
		MemoryContextDelete(members.context);
	members.context = NULL;
	members.n = 0;
	members.relid = RelationGetRelid(rel);
	members.context = AllocSetContextCreate(CacheMemoryContext, "crm members", ALLOCSET_DEFAULT_SIZES);
	/* before the rows are read: what changes now makes it invalid again */
	members.valid = true;
	members.whole = false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	old = MemoryContextSwitchTo(members.context);
	members.member = palloc(room * sizeof(Member));
	while ((row = systable_getnext(scan)) != NULL)
	{
		Member *m;
		Datum value;
		bool isnull;

		if (members.n == room)
			members.member = repalloc(members.member, (room *= 2) * sizeof(Member));
		m = &members.member[members.n++];
		m->id = DatumGetInt64(crm_direct_value(row, rel, "id", INT8OID, &isnull));
		m->team = DatumGetInt64(crm_direct_value(row, rel, "team_id", INT8OID, &m->no_team));
		m->capacity = DatumGetInt32(crm_direct_value(row, rel, "capacity", INT4OID, &isnull));
		m->rank = DatumGetInt16(crm_direct_value(row, rel, "rank", INT2OID, &isnull));
		value = crm_direct_value(row, rel, "left_at", DATEOID, &isnull);
		m->left_at = isnull ? DATEVAL_NOEND : DatumGetDateADT(value);
		m->nregions = strings_of(crm_direct_value(row, rel, "regions", TEXTARRAYOID, &isnull), &m->regions);
		m->nindustries = strings_of(crm_direct_value(row, rel, "industries", TEXTARRAYOID, &isnull), &m->industries);
		value = crm_direct_value(row, rel, "role_name", NAMEOID, &isnull);
		m->sales = false;
		if (!isnull && OidIsValid(sales))
		{
			Oid role = get_role_oid(NameStr(*DatumGetName(value)), true);

			m->sales = OidIsValid(role) && !superuser_arg(role) && is_member_of_role(role, sales);
		}
	}
	MemoryContextSwitchTo(old);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	members.whole = true;
}

static bool
among(const char *text, int n, char **strings)
{
	for (int i = 0; text && i < n; i++)
		if (strcmp(text, strings[i]) == 0)
			return true;
	return false;
}

/*
 * Open tasks of a member, at most so many: who has as many as he can carry is full, however many more there are. From the end of the index,
 * where the tasks are that have been there longest: that a page of these is seen by everybody is known, and they need not be looked at, as
 * the urgent ones at its beginning need, which have just come.
 */
static int
open_tasks(Relation rel, Relation index, int64 member, int most)
{
	Snapshot snapshot = GetActiveSnapshot();
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Buffer map = InvalidBuffer;
	IndexScanDesc scan;
	ScanKeyData key;
	ItemPointer tid;
	int n = 0;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(member));
	scan = index_beginscan(rel, index, snapshot,
#if PG_VERSION_NUM >= 180000
						   NULL,
#endif
						   1, 0);
	index_rescan(scan, &key, 1, NULL, 0);
	while (n < most && (tid = index_getnext_tid(scan, BackwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		/* as an index-only scan: rows that everybody sees need not be looked at */
		if (VM_ALL_VISIBLE(rel, ItemPointerGetBlockNumber(tid), &map) || index_fetch_heap(scan, slot))
			n++;
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return n;
}

/* a member who may get a lead */
typedef struct Candidate
{
	Member *member;
	int64 draw;
} Candidate;

/*
 * Who gets a lead: crm._route_lead says the same in SQL. NULL: nobody.
 */
static Member *
choose_member(Lead *lead, Assignment *how, Route *route)
{
	DateADT today = GetSQLCurrentDate();
	Candidate drawn[FEW];
	int fitting = 0;
	Member *best = NULL;
	double best_load = 0;
	int64 best_draw = 0;
	int best_fit = -1;
	int n = 0;
	bool any_sales = false;
	Relation rel;
	Relation index;

	read_members();
	for (int i = 0; i < members.n; i++)
		any_sales |= members.member[i].sales && members.member[i].left_at > today;
	/* of those who fit best the first few in the order in which they are drawn */
	for (int i = 0; i < members.n; i++)
	{
		Member *m = &members.member[i];
		int64 draw;
		int place;
		int fit;

		if (m->left_at <= today || m->capacity <= 0 || !(any_sales ? m->sales : m->rank < 5))
			continue;
		fit = (route->by_region && among(lead->region, m->nregions, m->regions) ? how->region_weight : 0) +
			  (route->by_industry && among(lead->industry, m->nindustries, m->industries) ? how->industry_weight : 0);
		if (fit < best_fit)
			continue;
		if (fit > best_fit)
			n = fitting = 0;
		fitting++;
		best_fit = fit;
		draw = DatumGetInt64(DirectFunctionCall2(hashint8extended, Int64GetDatum(m->id), Int64GetDatum(lead->id)));
		for (place = n; place > 0 && drawn[place - 1].draw > draw; place--)
			if (place < FEW)
				drawn[place] = drawn[place - 1];
		if (place < FEW)
		{
			drawn[place].member = m;
			drawn[place].draw = draw;
			n = Min(n + 1, FEW);
		}
	}
	if (n == 0)
		return NULL;
	if (fitting > FEW)
		n = DRAWN;
	rel = table_open(crm_direct_table("task"), AccessShareLock);
	index = index_open(crm_direct_table("task_owner_open_idx"), AccessShareLock);
	for (int i = 0; i < n; i++)
	{
		Member *m = drawn[i].member;
		/* no more are counted than decide */
		int most = best ? Min(m->capacity, (int) (best_load * m->capacity) + 2) : m->capacity;
		double load = (double) open_tasks(rel, index, m->id, most) / m->capacity;
		/* of those who are full none is preferred */
		int64 draw = load < 1 ? PG_INT64_MIN : drawn[i].draw;

		if (best == NULL || load < best_load ||
			(load == best_load && (draw < best_draw || (draw == best_draw && m->id < best->id))))
		{
			best = m;
			best_load = load;
			best_draw = draw;
		}
	}
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return best;
}

/*
 * A text for jsonb, unless there is none.
 */
static void
push_if(JsonbParseState **state, const char *name, const char *text)
{
	if (text)
		crm_object_push_text(state, name, text);
}

/*
 * The first route whose condition holds for the lead, NULL when none does.
 */
static Route *
choose_route(Lead *lead, Assignment *how)
{
	Datum doc = 0;
	Datum none = 0;

	for (int i = 0; i < how->nroutes; i++)
	{
		Route *route = &how->routes[i];

		if (route->when == 0)
			return route;
		if (doc == 0)
		{
			JsonbParseState *state = NULL;
			JsonbValue context;

			/* what crm._lead_document makes of it */
			pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
			crm_object_push_number(&state, "id", lead->id);
			push_if(&state, "name", lead->name);
			push_if(&state, "company", lead->company);
			push_if(&state, "title", lead->title);
			push_if(&state, "need", lead->need);
			push_if(&state, "industry", lead->industry);
			push_if(&state, "region", lead->region);
			push_if(&state, "province", lead->province);
			push_if(&state, "city", lead->city);
			push_if(&state, "district", lead->district);
			push_if(&state, "source", lead->source);
			push_if(&state, "channel", lead->channel);
			context.type = jbvBinary;
			context.val.binary.data = &lead->context->root;
			context.val.binary.len = VARSIZE(lead->context) - VARHDRSZ;
			crm_object_push(&state, "context", &context);
			doc = DirectFunctionCall1(jsonb_strip_nulls,
									  JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL))));
			none = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
		}
		if (DatumGetBool(DirectFunctionCall4(jsonb_path_exists, doc, route->when, none, BoolGetDatum(true))))
			return route;
	}
	return NULL;
}

/*
 * Is the row an account or a contact that lives?
 */
static bool
is_living(HeapTuple row, TupleDesc desc)
{
	return heap_attisnull(row, crm_direct_column(desc, "merged_into", InvalidOid), desc) &&
		   heap_attisnull(row, crm_direct_column(desc, "deleted_at", InvalidOid), desc);
}

/*
 * Is the row a lead that is still open and came within a month?
 */
static bool
is_recent(HeapTuple row, TupleDesc desc)
{
	bool isnull;
	Datum recorded = heap_getattr(row, crm_direct_column(desc, "recorded_at", TIMESTAMPTZOID), desc, &isnull);
	char *state = TextDatumGetCString(heap_getattr(row, crm_direct_column(desc, "state", TEXTOID), desc, &isnull));

	/* a month has as many days as it has: the long way counts */
	return is_living(row, desc) &&
		   DatumGetTimestampTz(recorded) > GetCurrentTransactionStartTimestamp() - 31 * USECS_PER_DAY &&
		   (strcmp(state, "new") == 0 || strcmp(state, "unrouted") == 0 || strcmp(state, "assigned") == 0 ||
			strcmp(state, "working") == 0);
}

/*
 * Is there a row with a value, that a function accepts?
 */
static bool
there_is(Relation rel, const char *index, const char *column, Datum value, bool (*accept)(HeapTuple, TupleDesc))
{
	ScanKeyData key;

	if (value == 0)
		return false;
	crm_direct_text_key(&key, rel, column, value);
	return crm_direct_find(rel, crm_direct_table(index), 1, &key, accept) != NULL;
}

/*
 * Is anybody known by the lead's keys? They are locked first, as the search for duplicates does.
 */
static bool
is_known(Lead *lead)
{
	const char *called = lead->company ? lead->company : lead->name;
	Datum core = text_of(crm_company_key, called ? CStringGetTextDatum(called) : (Datum) 0, 0, 0);
	Datum values[3] = {lead->phone_key, lead->email_key, core};
	Datum hashes[3];
	int n = 0;
	Relation leads, accounts, contacts;
	bool known;

	for (int i = 0; i < lengthof(values); i++)
		if (values[i])
			hashes[n++] = DirectFunctionCall2Coll(hashtextextended, DEFAULT_COLLATION_OID, values[i], Int64GetDatum(0));
	(void) DirectFunctionCall2(
		crm_match_lock, Int64GetDatum(1),
		PointerGetDatum(construct_array(hashes, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
	leads = table_open(crm_direct_table("lead"), AccessShareLock);
	accounts = table_open(crm_direct_table("account"), AccessShareLock);
	contacts = table_open(crm_direct_table("contact"), AccessShareLock);
	known = (lead->client_key &&
			 there_is(leads, "lead_client_key_key", "client_key", CStringGetTextDatum(lead->client_key), NULL)) ||
			there_is(leads, "lead_phone_norm_idx", "phone_norm", lead->phone_key, is_recent) ||
			there_is(leads, "lead_email_norm_idx", "email_norm", lead->email_key, is_recent) ||
			there_is(accounts, "account_phone_norm_idx", "phone_norm", lead->phone_key, is_living) ||
			there_is(accounts, "account_email_norm_idx", "email_norm", lead->email_key, is_living) ||
			there_is(accounts, "account_name_core_idx", "name_core", core, is_living) ||
			there_is(contacts, "contact_phone_norm_idx", "phone_norm", lead->phone_key, is_living);
	table_close(contacts, NoLock);
	table_close(accounts, NoLock);
	table_close(leads, NoLock);
	return known;
}

/*
 * What the lead's context holds: the keys that the form knows, and others. False for the long way.
 */
static bool
read_context(Lead *lead)
{
	JsonbParseState *states[2] = {NULL, NULL};
	JsonbValue v;
	JsonbValue list;
	JsonbValue key;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbContainer *form = NULL;
	int into = 0;

	for (int i = 0; i < 2; i++)
		pushJsonbValue(&states[i], WJB_BEGIN_OBJECT, NULL);
	if (crm_object_get(lead->doc, "context", &v) && v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data))
	{
		Jsonb *body = get_config("form", "lead.capture")->body;

		if (body == NULL || crm_object_get(body, "context", &list) == NULL || list.type != jbvBinary ||
			!JsonContainerIsArray(list.val.binary.data))
			return false;
		form = list.val.binary.data;
		it = JsonbIteratorInit(v.val.binary.data);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
			{
				key = v;
				into = findJsonbValueFromContainer(form, JB_FARRAY, &key) == NULL;
				pushJsonbValue(&states[into], WJB_KEY, &key);
			}
			else if (token == WJB_VALUE)
				pushJsonbValue(&states[into], WJB_VALUE, &v);
		}
	}
	lead->context = JsonbValueToJsonb(pushJsonbValue(&states[0], WJB_END_OBJECT, NULL));
	lead->attrs = JsonbValueToJsonb(pushJsonbValue(&states[1], WJB_END_OBJECT, NULL));
	/* a place on the map */
	return crm_object_get(lead->context, "longitude", &v) == NULL;
}

/*
 * Read what came. False for the long way.
 */
static bool
read_lead(Lead *lead)
{
	bool odd = false;
	char *text;

	lead->name = plain_text(lead->doc, "name", &odd);
	lead->company = plain_text(lead->doc, "company", &odd);
	lead->title = plain_text(lead->doc, "title", &odd);
	lead->need = plain_text(lead->doc, "need", &odd);
	lead->industry = plain_text(lead->doc, "industry", &odd);
	lead->region = plain_text(lead->doc, "region", &odd);
	lead->province = plain_text(lead->doc, "province", &odd);
	lead->city = plain_text(lead->doc, "city", &odd);
	lead->district = plain_text(lead->doc, "district", &odd);
	lead->channel = plain_text(lead->doc, "channel", &odd);
	lead->client_key = plain_text(lead->doc, "client_key", &odd);
	text = plain_text(lead->doc, "phone", &odd);
	lead->phone = text ? CStringGetTextDatum(text) : (Datum) 0;
	text = plain_text(lead->doc, "email", &odd);
	lead->email = text ? CStringGetTextDatum(text) : (Datum) 0;
	lead->source = plain_text(lead->doc, "source", &odd);
	if (odd || plain_text(lead->doc, "campaign", &odd) || odd || plain_text(lead->doc, "legal_id4", &odd) || odd ||
		(lead->phone == 0 && lead->email == 0))
		return false;
	if (lead->source)
	{
		Relation rel = table_open(crm_direct_table("source_system"), AccessShareLock);
		ScanKeyData key;
		HeapTuple row;
		bool isnull;

		crm_direct_text_key(&key, rel, "name", CStringGetTextDatum(lead->source));
		row = crm_direct_find(rel, crm_direct_table("source_system_name_key"), 1, &key, NULL);
		lead->has_source = row != NULL;
		if (row)
			lead->source_id = DatumGetInt64(crm_direct_value(row, rel, "id", INT8OID, &isnull));
		table_close(rel, NoLock);
	}
	else
		lead->source = "web";
	text = plain_text(lead->doc, "occurred_at", &odd);
	lead->at = GetCurrentTransactionStartTimestamp();
	lead->at_assumed = text == NULL;
	if (odd)
		return false;
	if (text)
	{
		char *tz = setting("organisation.timezone");
		Datum at = text_of(crm_parse_time, CStringGetTextDatum(text), BoolGetDatum(false),
						   CStringGetTextDatum(tz ? tz : "Asia/Shanghai"));

		/* a time that is none, or that lies ahead or very far back, is for the long way */
		if (at == 0 || DatumGetTimestampTz(at) > lead->at ||
			DatumGetTimestampTz(at) < lead->at - 100 * INT64CONST(365) * USECS_PER_DAY)
			return false;
		lead->at = DatumGetTimestampTz(at);
	}
	lead->phone_key = text_of(crm_phone_key, lead->phone, CStringGetTextDatum("CN"), 0);
	lead->email_key = text_of(crm_email_key, lead->email, 0, 0);
	return (lead->phone_key != 0 || lead->email_key != 0) && read_context(lead);
}

/*
 * Texts with a blank between them, what there is of them.
 */
static char *
joined(const char *a, const char *b)
{
	return a && b ? psprintf("%s %s", a, b) : pstrdup(a ? a : b ? b : "");
}

/*
 * Region, industry, route and member. False when somebody else has to look.
 */
static bool
route_lead(Lead *lead)
{
	char *place = joined(lead->province, lead->city);
	char *words = joined(lead->company, lead->need);
	char *minutes;
	Assignment *how = current_assignment();
	Route *route;
	Member *member;

	if (how == NULL)
		return false;
	if (lead->region == NULL && place[0] != '\0')
		lead->region = key_of_words(&how->regions, place);
	if (lead->industry == NULL && words[0] != '\0')
		lead->industry = key_of_words(&how->industries, str_tolower(words, strlen(words), DEFAULT_COLLATION_OID));
	route = choose_route(lead, how);
	member = route ? choose_member(lead, how, route) : NULL;
	if (member == NULL)
		return false;
	lead->route = pstrdup(route->name);
	lead->route_version = how->version;
	lead->owner = member->id;
	lead->team = member->team;
	lead->no_team = member->no_team;
	minutes = setting("lead.first_touch");
	lead->minutes = minutes ? pg_strtoint32(minutes) : 5;
	return lead->minutes > 0;
}

/*
 * Values for an insert, by name.
 */
static void
set_text(Datum *values, bool *nulls, int i, const char *text)
{
	nulls[i] = text == NULL;
	values[i] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
set_datum(Datum *values, bool *nulls, int i, Datum value)
{
	nulls[i] = value == 0;
	values[i] = value;
}

static void
store_lead(Lead *lead, TimestampTz due)
{
	static const CrmColumn columns[] = {{"id", INT8OID},
										{"source", TEXTOID},
										{"source_id", INT8OID},
										{"channel", TEXTOID},
										{"context", JSONBOID},
										{"attrs", JSONBOID},
										{"client_key", TEXTOID},
										{"name", TEXTOID},
										{"company", TEXTOID},
										{"title", TEXTOID},
										{"phone", TEXTOID},
										{"phone_norm", TEXTOID},
										{"email", TEXTOID},
										{"email_norm", TEXTOID},
										{"need", TEXTOID},
										{"industry", TEXTOID},
										{"region", TEXTOID},
										{"province", TEXTOID},
										{"city", TEXTOID},
										{"district", TEXTOID},
										{"occurred_at", TIMESTAMPTZOID},
										{"ts_assumed", BOOLOID},
										{"state", TEXTOID},
										{"route", TEXTOID},
										{"route_version", INT4OID},
										{"owner_id", INT8OID},
										{"team_id", INT8OID},
										{"assigned_at", TIMESTAMPTZOID},
										{"assign_count", INT4OID},
										{"first_touch_due_at", TIMESTAMPTZOID}};
	Datum values[lengthof(columns)];
	bool nulls[lengthof(columns)] = {false};
	CrmInsert *insert;

	values[0] = Int64GetDatum(lead->id);
	set_text(values, nulls, 1, lead->source);
	values[2] = Int64GetDatum(lead->source_id);
	nulls[2] = !lead->has_source;
	set_text(values, nulls, 3, lead->channel);
	values[4] = JsonbPGetDatum(lead->context);
	values[5] = JsonbPGetDatum(lead->attrs);
	set_text(values, nulls, 6, lead->client_key);
	set_text(values, nulls, 7, lead->name);
	set_text(values, nulls, 8, lead->company);
	set_text(values, nulls, 9, lead->title);
	set_datum(values, nulls, 10, lead->phone);
	set_datum(values, nulls, 11, lead->phone_key);
	set_datum(values, nulls, 12, lead->email);
	set_datum(values, nulls, 13, lead->email_key);
	set_text(values, nulls, 14, lead->need);
	set_text(values, nulls, 15, lead->industry);
	set_text(values, nulls, 16, lead->region);
	set_text(values, nulls, 17, lead->province);
	set_text(values, nulls, 18, lead->city);
	set_text(values, nulls, 19, lead->district);
	values[20] = TimestampTzGetDatum(lead->at);
	values[21] = BoolGetDatum(lead->at_assumed);
	values[22] = CStringGetTextDatum("assigned");
	values[23] = CStringGetTextDatum(lead->route);
	values[24] = Int32GetDatum(lead->route_version);
	values[25] = Int64GetDatum(lead->owner);
	values[26] = Int64GetDatum(lead->team);
	nulls[26] = lead->no_team;
	values[27] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[28] = Int32GetDatum(1);
	values[29] = TimestampTzGetDatum(due);
	insert = crm_insert_begin(crm_direct_table("lead"), columns, lengthof(columns));
	crm_insert_row(insert, values, nulls);
	crm_insert_end(insert);
}

static void
store_task(Lead *lead, TimestampTz due, const char *key)
{
	static const CrmColumn columns[] = {{"kind", TEXTOID},
										{"object", TEXTOID},
										{"record_id", INT8OID},
										{"title", TEXTOID},
										{"mandatory", BOOLOID},
										{"due_at", TIMESTAMPTZOID},
										{"escalate_at", TIMESTAMPTZOID},
										{"priority", INT2OID},
										{"dedupe_key", TEXTOID},
										{"owner_id", INT8OID},
										{"team_id", INT8OID}};
	Datum values[lengthof(columns)];
	bool nulls[lengthof(columns)] = {false};
	CrmInsert *insert;

	values[0] = CStringGetTextDatum("first_touch");
	values[1] = CStringGetTextDatum("lead");
	values[2] = Int64GetDatum(lead->id);
	values[3] = CStringGetTextDatum(psprintf("首次联系: %s", lead->company ? lead->company
															 : lead->name  ? lead->name
																		   : psprintf(INT64_FORMAT, lead->id)));
	values[4] = BoolGetDatum(true);
	values[5] = values[6] = TimestampTzGetDatum(due);
	values[7] = Int16GetDatum(8);
	values[8] = CStringGetTextDatum(key);
	values[9] = Int64GetDatum(lead->owner);
	values[10] = Int64GetDatum(lead->team);
	nulls[10] = lead->no_team;
	insert = crm_insert_begin(crm_direct_table("task"), columns, lengthof(columns));
	crm_insert_row(insert, values, nulls);
	crm_insert_end(insert);
}

/*
 * How messages about first touches go, asked anew when the configuration is another. False when they do not.
 */
static bool
read_topic(void)
{
	Config *config = get_config("notification", "default");
	uint64 serial = configs.serial;
	MemoryContext old;
	Datum channel;
	Datum fallback;
	bool isnull;

	if (config->body == NULL || topic.serial == serial)
		return config->body != NULL && topic.channel != 0;
	if (topic.context)
		MemoryContextDelete(topic.context);
	memset(&topic, 0, sizeof(topic));
	topic.context = AllocSetContextCreate(CacheMemoryContext, "crm topic", ALLOCSET_SMALL_SIZES);
	SPI_connect();
	crm_execute("SELECT t.channel, t.fallback FROM " CRM_SCHEMA "._topic_channel('task.first_touch') AS t", 0, NULL,
				NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed == 1)
	{
		channel = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		if (!isnull)
		{
			fallback = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
			old = MemoryContextSwitchTo(topic.context);
			topic.channel = datumCopy(channel, false, -1);
			topic.fallback = PointerGetDatum(DatumGetArrayTypePCopy(fallback));
			MemoryContextSwitchTo(old);
		}
	}
	SPI_finish();
	topic.serial = serial;
	return topic.channel != 0;
}

/*
 * Where a lead is opened, as crm._link says it; NULL where the organisation has not said how.
 */
static char *
lead_link(int64 id)
{
	char *link = setting("organisation.link");
	Datum filled;

	if (!link || (strncmp(link, "http://", 7) != 0 && strncmp(link, "https://", 8) != 0))
		return NULL;
	filled = DirectFunctionCall3Coll(replace_text, C_COLLATION_OID, CStringGetTextDatum(link),
									 CStringGetTextDatum("{object}"), CStringGetTextDatum("lead"));
	filled = DirectFunctionCall3Coll(replace_text, C_COLLATION_OID, filled, CStringGetTextDatum("{id}"),
									 CStringGetTextDatum(psprintf(INT64_FORMAT, id)));
	return TextDatumGetCString(filled);
}

static void
store_message(Lead *lead, TimestampTz due, const char *key)
{
	static const CrmColumn columns[] = {{"topic", TEXTOID},        {"channel", TEXTOID},  {"fallback", TEXTARRAYOID},
										{"recipient_id", INT8OID}, {"payload", JSONBOID}, {"dedupe_key", TEXTOID}};
	Datum values[lengthof(columns)];
	bool nulls[lengthof(columns)] = {false};
	JsonbParseState *state = NULL;
	char buffer[MAXDATELEN + 1];
	char *need = lead->need;
	char *link = lead_link(lead->id);
	CrmInsert *insert;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	crm_object_push_number(&state, "lead", lead->id);
	if (link)
		crm_object_push_text(&state, "link", link);
	if (lead->company)
		crm_object_push_text(&state, "company", lead->company);
	else
		crm_object_push_null(&state, "company");
	if (need)
		crm_object_push_text(&state, "need", pnstrdup(need, pg_mbcharcliplen(need, strlen(need), 200)));
	else
		crm_object_push_null(&state, "need");
	crm_object_push_text(&state, "due", JsonEncodeDateTime(buffer, TimestampTzGetDatum(due), TIMESTAMPTZOID, NULL));
	values[0] = CStringGetTextDatum("task.first_touch");
	values[1] = lead->message_channel;
	values[2] = lead->message_fallback;
	values[3] = Int64GetDatum(lead->owner);
	values[4] = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
	values[5] = CStringGetTextDatum(psprintf("%s:" INT64_FORMAT, key, lead->owner));
	insert = crm_insert_begin(crm_direct_table("outbox"), columns, lengthof(columns));
	crm_insert_row(insert, values, nulls);
	crm_insert_end(insert);
}

/*
 * All of it.
 */
static bool
capture(void *arg)
{
	Lead *lead = arg;
	TimestampTz due;
	char *key;

	if (is_known(lead))
		return false;
	lead->id = nextval_internal(crm_direct_table("lead_id_seq"), false);
	if (!route_lead(lead) || !read_topic())
		return false;
	lead->message_channel = datumCopy(topic.channel, false, -1);
	lead->message_fallback = datumCopy(topic.fallback, false, -1);
	due = GetCurrentTransactionStartTimestamp() + lead->minutes * USECS_PER_MINUTE;
	key = psprintf("first_touch:" INT64_FORMAT ":1", lead->id);
	/* that there is nobody like it was found out above, under the locks of its keys */
	(void) DirectFunctionCall1(crm_match_pause, BoolGetDatum(true));
	store_lead(lead, due);
	(void) DirectFunctionCall1(crm_match_pause, BoolGetDatum(false));
	store_task(lead, due, key);
	store_message(lead, due, key);
	return true;
}

/*
 * crm._capture_new(doc jsonb) -> what crm.capture_lead answers, or NULL when the lead is for the long way
 */
Datum
crm_capture_new(PG_FUNCTION_ARGS)
{
	Lead lead;
	JsonbParseState *state = NULL;

	memset(&lead, 0, sizeof(lead));
	lead.doc = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_OBJECT(lead.doc) || IsolationUsesXactSnapshot() || GetDatabaseEncoding() != PG_UTF8 ||
		DatumGetBool(DirectFunctionCall1(crm_match_paused, (Datum) 0)) || crm_direct_restricted() ||
		!read_lead(&lead) || !crm_attempt(capture, &lead))
		PG_RETURN_NULL();
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	crm_object_push_number(&state, "lead", lead.id);
	crm_object_push_number(&state, "owner", lead.owner);
	crm_object_push_null(&state, "account");
	crm_object_push_bool(&state, "duplicate", false);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}
