/*
 * profile.c
 *		What the current person may see and do, compiled and cached in the backend.
 *
 * A profile is put together from one compiled row for each role that counts (crm_data.access_profile, written by the policy
 * compiler), the person's row in member and the tree of teams. A role counts when the person inherits it over no more steps than
 * the compiled rows say (setting role.max_inherit_depth); deeper ones are inert here, whatever the catalog says. This file decides nothing about values or rows: guard.c does.
 *
 * Reading: systable scans with a fresh catalog snapshot. They see the newest committed policy even in a REPEATABLE READ
 * transaction, need no rights of the caller, and are legal while planning and in parallel workers.
 *
 * Invalidation: row and statement triggers on the policy tables send a relcache message; changes of roles and memberships send
 * syscache messages. The callbacks only raise a counter and, for roles, have the cached plans made anew.
 *
 * Memory: each profile has its own context below "crm access" in CacheMemoryContext. A stale profile may still be in use
 * further up the stack, so it is put aside and freed when the transaction ends.
 */
#include "access/access.h"
#include "common/invalidate.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(crm_policy_changed);

/* what holds where no compiled row says anything */
#define DEFAULT_ROLE_DEPTH 2
#define DEFAULT_SANDBOX_DAYS 7

/* the tables a profile is made of */
#define T_PROFILE "access_profile"
#define T_MEMBER "member"
#define T_TEAM "team"

typedef struct ProfileKey
{
	Oid role;   /* the session's role, or what SET ROLE made of it */
	Oid login;  /* the session's role */
	int32 kind; /* CrmIdentityKind */
	int64 member;
	char preview[NAMEDATALEN];
} ProfileKey;

typedef struct ProfileEntry
{
	ProfileKey key;
	uint64 generation; /* of the profile */
	CrmProfile *profile;
} ProfileEntry;

/* one role on the way to the person's effective ones */
typedef struct RoleStep
{
	Oid role;
	int depth;
} RoleStep;

/* what all compiled rows say alike, since one run of the compiler wrote them; should they differ, the strictest */
typedef struct CommonRules
{
	bool known;
	bool strict; /* with several roles the stricter rule wins */
	int max_depth;
	int sandbox_days;
} CommonRules;

uint64 crm_profile_generation = 1;

static MemoryContext access_context = NULL;
static HTAB *profiles = NULL;
static List *stale_profiles = NIL;

CrmCurrent crm_current = {NULL, 0, 0, InvalidOid, InvalidOid};

/* tables whose relcache messages count; looked up anew after any change of theirs */
static Oid watched[3] = {InvalidOid, InvalidOid, InvalidOid};

static bool run_by_others(void);
static const CrmProfile *find_profile(void);
static CrmProfile *build_profile(const ProfileKey *key);
static int read_member(CrmProfile *profile, const char *column, Oid eqproc, Datum value, NameData *role);
static void collect_roles(CrmProfile *profile, Oid role, CommonRules *common);
static void read_role(CrmProfile *profile, Oid role, int rank, CommonRules *learn, bool strict);
static void merge_fields(StringInfo into, const char *rules, bool strict);
static void add_rule(CrmProfile *profile, const char *text, int rank);
static void add_key(CrmProfile *profile, const char *text, bool strict);
static int compare_rules(const void *a, const void *b);
static TimestampTz attribute_time(HeapTuple tuple, Relation rel, const char *name, TimestampTz otherwise);
static void read_teams(CrmProfile *profile);
static void hash_profile(CrmProfile *profile);
static SysScanDesc scan_by(Relation rel, const char *attribute, Oid eqproc, Datum value);
static Datum attribute(HeapTuple tuple, Relation rel, const char *name, bool *isnull);
static void relcache_changed(Datum arg, Oid relid);
static void roles_changed(Datum arg, int cacheid, uint32 hashvalue);
static void free_stale(XactEvent event, void *arg);

/*
 * Register callbacks. Reads no catalog.
 */
void
crm_profile_init(void)
{
	crm_on_relation_change(relcache_changed);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
	RegisterXactCallback(free_stale, NULL);
}

/*
 * crm_profile() where it is not simply the last answer.
 */
const CrmProfile *
crm_find_profile(void)
{
	if (unlikely(crm_current.profile != NULL && crm_current.profile->expires != DT_NOEND &&
				 GetCurrentStatementStartTimestamp() >= crm_current.profile->expires))
	{
		/* rights that end with the clock: nobody sends a message then */
		crm_current.profile = NULL;
		crm_profile_generation++;
		ResetPlanCache();
	}
	if (likely(crm_current.profile != NULL && crm_current.generation == crm_profile_generation &&
			   crm_current.role == GetOuterUserId() && crm_current.login == GetSessionUserId() &&
			   crm_current.serial == crm_identity_serial) &&
		!run_by_others())
		return crm_current.profile;
	return find_profile();
}

/*
 * Does code of a table's owner run in maintenance that somebody else started: ANALYZE by autovacuum, REINDEX, REFRESH MATERIALIZED VIEW? The
 * core runs it with the owner's rights there, but the session's role is whoever maintains, often a superuser.
 */
static bool
run_by_others(void)
{
	return InSecurityRestrictedOperation() && GetUserId() != GetOuterUserId();
}

/*
 * Find the profile in the cache, or build it.
 */
static const CrmProfile *
find_profile(void)
{
	ProfileKey key;
	ProfileEntry *entry;
	uint64 generation;
	bool found;

	if (access_context == NULL)
		access_context = AllocSetContextCreate(CacheMemoryContext, "crm access", ALLOCSET_DEFAULT_SIZES);
	if (profiles == NULL)
	{
		HASHCTL ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(ProfileKey);
		ctl.entrysize = sizeof(ProfileEntry);
		ctl.hcxt = access_context;
		profiles = hash_create("crm access profiles", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	memset(&key, 0, sizeof(key));
	key.kind = crm_identity.kind;
	key.member = crm_identity.member;
	if (key.kind == IDENTITY_PREVIEW)
		strlcpy(key.preview, crm_identity.role, NAMEDATALEN);
	else if (key.kind == IDENTITY_ROLE)
	{
		key.role = GetOuterUserId();
		key.login = GetSessionUserId();
	}
	if (run_by_others())
	{
		/* nobody */
		memset(&key, 0, sizeof(key));
		key.kind = IDENTITY_MEMBER;
	}

	entry = hash_search(profiles, &key, HASH_ENTER, &found);
	if (!found)
	{
		entry->profile = NULL;
		entry->generation = 0;
	}
	for (int attempt = 0; attempt < 3 && (entry->profile == NULL || entry->generation != crm_profile_generation);
		 attempt++)
	{
		CrmProfile *built;

		/*
		 * A message that arrives while we read makes us read again, but not for ever: where messages never end (debug_discard_caches,
		 * a storm of DDL), the newest reading serves this call, keeps its old generation, and the next call reads again.
		 */
		generation = crm_profile_generation;
		built = build_profile(&key);
		entry = hash_search(profiles, &key, HASH_ENTER, NULL);
		if (entry->profile != NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(access_context);

			stale_profiles = lappend(stale_profiles, entry->profile);
			MemoryContextSwitchTo(old);
		}
		entry->profile = built;
		entry->generation = generation;
	}

	crm_current.profile = entry->profile;
	crm_current.generation = entry->generation;
	crm_current.role = run_by_others() ? InvalidOid : GetOuterUserId();
	crm_current.login = GetSessionUserId();
	crm_current.serial = crm_identity_serial;
	return entry->profile;
}

/*
 * Put a profile together. On an error the half-made one is dropped with its context, and nothing is cached.
 */
static CrmProfile *
build_profile(const ProfileKey *key)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "crm profile", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CrmProfile *profile = palloc0(sizeof(CrmProfile));
	Oid role = InvalidOid;
	NameData name;
	CommonRules common = {false, false, DEFAULT_ROLE_DEPTH, DEFAULT_SANDBOX_DAYS};
	int rank = 0;
	static uint64 serial = 0;

	profile->context = context;
	profile->serial = ++serial;
	profile->sandbox_until = DT_NOBEGIN;
	profile->expires = DT_NOEND;
	memset(&name, 0, sizeof(name));

	if (key->kind == IDENTITY_MEMBER)
	{
		rank = read_member(profile, "id", F_INT8EQ, Int64GetDatum(key->member), &name);
		if (profile->member != 0 && NameStr(name)[0] != '\0')
			role = get_role_oid(NameStr(name), true);
	}
	else if (key->kind == IDENTITY_PREVIEW)
	{
		role = get_role_oid(key->preview, true);
		if (key->member != 0)
			rank = read_member(profile, "id", F_INT8EQ, Int64GetDatum(key->member), &name);

		/* the role is looked at, not the newcomer or leaver who happens to own the row */
		profile->sandbox_until = DT_NOBEGIN;
		profile->expires = DT_NOEND;
	}
	else
	{
		role = key->role;
		profile->unrestricted = superuser_arg(role) || role == get_role_oid(CRM_OWNER, true);
		namestrcpy(&name, GetUserNameFromId(role, false));
		rank = read_member(profile, "role_name", F_NAMEEQ, NameGetDatum(&name), &name);

		/*
		 * A pool takes the role of a person, but a person stays himself in whatever role: with SET ROLE to a role of his he would be nobody, past
		 * his first days and his last, without the bounds of his other roles, and the second person to his own requests.
		 */
		if (profile->member == 0 && key->login != role && !profile->unrestricted && !superuser_arg(key->login))
		{
			namestrcpy(&name, GetUserNameFromId(key->login, false));
			rank = read_member(profile, "role_name", F_NAMEEQ, NameGetDatum(&name), &name);
			if (profile->member != 0)
				role = key->login;
		}
	}

	if (OidIsValid(role) && GetCurrentTimestamp() < profile->expires)
	{
		collect_roles(profile, role, &common);
		for (int i = 0; i < profile->nroles; i++)
			read_role(profile, profile->roles[i], rank, NULL, common.strict);
		for (int verb = 0; verb < FIELD_NVERBS; verb++)
			for (int object = 0; object < profile->nobjects; object++)
				for (int i = 0; i < profile->fields[verb][object]->len; i += sizeof(CrmFieldRule))
					profile->fields[verb][object]->data[i] =
						pg_tolower((unsigned char) profile->fields[verb][object]->data[i]);
		for (int i = 0; i < profile->nkeys; i++)
			profile->keys[i].rule.mode = pg_tolower((unsigned char) profile->keys[i].rule.mode);
		qsort(profile->rules, profile->nrules, sizeof(CrmRowRule), compare_rules);
	}
	else
		profile->expires = DT_NOEND;
	if (!TIMESTAMP_NOT_FINITE(profile->sandbox_until))
		profile->sandbox_until += common.sandbox_days * USECS_PER_DAY;
	read_teams(profile);
	hash_profile(profile);

	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, access_context);
	return profile;
}

/*
 * Read a member by id or by role, answer his rank. Leaves the profile as it is when there is none.
 */
static int
read_member(CrmProfile *profile, const char *column, Oid eqproc, Datum value, NameData *role)
{
	Oid relid = crm_access_relation(T_MEMBER);
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	int rank = 0;

	if (!OidIsValid(relid))
		return 0;
	rel = table_open(relid, AccessShareLock);
	scan = scan_by(rel, column, eqproc, value);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum datum;

		profile->member = DatumGetInt64(attribute(tuple, rel, "id", &isnull));
		datum = attribute(tuple, rel, "team_id", &isnull);
		profile->team = isnull ? 0 : DatumGetInt64(datum);
		datum = attribute(tuple, rel, "rank", &isnull);
		rank = isnull ? 0 : DatumGetInt16(datum);
		/* from here; how long it lasts comes with the roles */
		profile->sandbox_until = attribute_time(tuple, rel, "hired_at", DT_NOBEGIN);
		profile->expires = attribute_time(tuple, rel, "left_at", DT_NOEND);
		datum = attribute(tuple, rel, "role_name", &isnull);
		if (!isnull)
			namestrcpy(role, NameStr(*DatumGetName(datum)));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return rank;
}

/*
 * Find the roles that count: the role itself and those it inherits over not too many steps. The shortest way counts, so the
 * search goes in breadth. How to combine them, and how many steps are too many, must be known before the first one counts.
 */
static void
collect_roles(CrmProfile *profile, Oid role, CommonRules *common)
{
	int allocated = 16;
	RoleStep *queue = palloc(sizeof(RoleStep) * allocated);
	int n = 1;

	queue[0].role = role;
	queue[0].depth = 0;
	for (int i = 0; i < n; i++)
	{
		CatCList *list;
#if PG_VERSION_NUM < 160000
		HeapTuple auth = SearchSysCache1(AUTHOID, ObjectIdGetDatum(queue[i].role));
		bool inherits = HeapTupleIsValid(auth) && ((Form_pg_authid) GETSTRUCT(auth))->rolinherit;

		if (HeapTupleIsValid(auth))
			ReleaseSysCache(auth);
		if (!inherits)
			continue;
#endif
		CHECK_FOR_INTERRUPTS();
		list = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(queue[i].role));
		for (int j = 0; j < list->n_members; j++)
		{
			Form_pg_auth_members form = (Form_pg_auth_members) GETSTRUCT(&list->members[j]->tuple);
			bool known = false;

#if PG_VERSION_NUM >= 160000
			if (!form->inherit_option)
				continue;
#endif
			for (int k = 0; k < n && !known; k++)
				known = queue[k].role == form->roleid;
			if (known)
				continue;
			if (n == allocated)
			{
				allocated *= 2;
				queue = repalloc(queue, sizeof(RoleStep) * allocated);
			}
			queue[n].role = form->roleid;
			queue[n].depth = queue[i].depth + 1;
			n++;
		}
		ReleaseSysCacheList(list);
	}

	for (int i = 0; i < n; i++)
		read_role(profile, queue[i].role, 0, common, false);
	profile->roles = palloc(sizeof(Oid) * n);
	for (int i = 0; i < n && queue[i].depth <= common->max_depth; i++)
		profile->roles[profile->nroles++] = queue[i].role;
}

/*
 * Read one role's compiled row: only what is common to all of them, or all of it. A row whose end has come gives nothing until the
 * policies are compiled again.
 */
static void
read_role(CrmProfile *profile, Oid role, int rank, CommonRules *learn, bool strict)
{
	static const char *const columns[FIELD_NVERBS] = {"read_fields", "write_fields", "export_fields"};
	Oid relid = crm_access_relation(T_PROFILE);
	char *name = GetUserNameFromId(role, true);
	NameData key;
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	TimestampTz valid_to;

	if (!OidIsValid(relid) || name == NULL)
		return;
	namestrcpy(&key, name);
	rel = table_open(relid, AccessShareLock);
	scan = scan_by(rel, "role_name", F_NAMEEQ, NameGetDatum(&key));
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) &&
		GetCurrentTimestamp() < (valid_to = attribute_time(tuple, rel, "valid_to", DT_NOEND)))
	{
		bool isnull;
		Datum datum;
		Datum *parts;
		int nparts;

		if (learn != NULL)
		{
			int depth = DatumGetInt16(attribute(tuple, rel, "max_depth", &isnull));
			int days = DatumGetInt16(attribute(tuple, rel, "sandbox_days", &isnull));

			datum = attribute(tuple, rel, "least_privilege", &isnull);
			learn->strict |= isnull || DatumGetBool(datum);
			learn->max_depth = learn->known ? Min(learn->max_depth, depth) : depth;
			learn->sandbox_days = learn->known ? Max(learn->sandbox_days, days) : days;
			learn->known = true;
		}
		else
			profile->expires = Min(profile->expires, valid_to);
		for (int verb = 0; verb < FIELD_NVERBS && learn == NULL; verb++)
		{
			datum = attribute(tuple, rel, columns[verb], &isnull);
			if (isnull)
				continue;
			deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT, &parts, NULL, &nparts);
			for (int i = 0; i < nparts; i++)
			{
				while (profile->nobjects <= i)
				{
					for (int v = 0; v < FIELD_NVERBS; v++)
					{
						StringInfo *more = palloc(sizeof(StringInfo) * (profile->nobjects + 1));

						if (profile->nobjects > 0)
							memcpy(more, profile->fields[v], sizeof(StringInfo) * profile->nobjects);
						more[profile->nobjects] = makeStringInfo();
						profile->fields[v] = more;
					}
					profile->nobjects++;
				}
				merge_fields(profile->fields[verb][i], TextDatumGetCString(parts[i]), strict);
			}
		}
		if (learn == NULL)
		{
			datum = attribute(tuple, rel, "key_rules", &isnull);
			if (!isnull)
			{
				deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT, &parts, NULL, &nparts);
				for (int i = 0; i < nparts; i++)
					add_key(profile, TextDatumGetCString(parts[i]), strict);
			}
			datum = attribute(tuple, rel, "row_rules", &isnull);
			if (!isnull)
			{
				deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT, &parts, NULL, &nparts);
				for (int i = 0; i < nparts; i++)
					add_rule(profile, TextDatumGetCString(parts[i]), rank);
			}
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * Rank of a mode, the strictest lowest.
 */
static int
strictness(char mode)
{
	switch (pg_tolower((unsigned char) mode))
	{
		case MODE_NEVER: return 1;
		case MODE_MASK: return 3;
		case MODE_OWN: return 4;
		case MODE_TEAM: return 5;
		case MODE_ALWAYS: return 6;
		default: return 0;
	}
}

/*
 * Add a role's rule, a pair of mode and mask, to that of the roles before it. An explicit rule beats a default; of two explicit
 * ones the strictest wins under least privilege, else the widest; of two defaults always the widest, since a role that says
 * nothing about a field does not forbid it.
 */
static void
merge_pair(char *into, const char *rule, bool strict)
{
	bool had_explicit = into[0] >= 'a' && into[0] <= 'z';
	bool add_explicit = rule[0] >= 'a' && rule[0] <= 'z';
	bool wider = strictness(rule[0]) > strictness(into[0]);

	if (strictness(rule[0]) == 0)
		return;
	if (strictness(into[0]) != 0)
	{
		if (add_explicit != had_explicit ? !add_explicit : add_explicit && strict ? wider : !wider)
			return;
	}
	into[0] = rule[0];
	into[1] = rule[1];
}

/*
 * The same for all fields of an object.
 */
static void
merge_fields(StringInfo into, const char *rules, bool strict)
{
	int n = (int) strlen(rules) / 2 * 2;

	while (into->len < n)
		appendStringInfoChar(into, MODE_NONE);
	for (int i = 0; i < n; i += 2)
		merge_pair(into->data + i, rules + i, strict);
}

/*
 * Add a key's rule "field|key|pair".
 */
static void
add_key(CrmProfile *profile, const char *text, bool strict)
{
	char *copy = pstrdup(text);
	char *key = strchr(copy, '|');
	char *pair = strrchr(copy, '|');
	int field = atoi(copy);
	CrmKeyRule *more;

	if (key == NULL || key == pair || strlen(pair + 1) != sizeof(CrmFieldRule))
		return;
	*key++ = '\0';
	*pair++ = '\0';
	for (int i = 0; i < profile->nkeys; i++)
	{
		if (profile->keys[i].field == field && strcmp(profile->keys[i].key, key) == 0)
		{
			merge_pair((char *) &profile->keys[i].rule, pair, strict);
			return;
		}
	}
	more = palloc(sizeof(CrmKeyRule) * (profile->nkeys + 1));
	if (profile->nkeys > 0)
		memcpy(more, profile->keys, sizeof(CrmKeyRule) * profile->nkeys);
	profile->keys = more;
	more[profile->nkeys].field = field;
	more[profile->nkeys].key = key;
	memcpy(&more[profile->nkeys].rule, pair, sizeof(CrmFieldRule));
	profile->nkeys++;
}

/*
 * Add a row rule "object|verbs|scope|grade_min|grade_max|rank_min|rank_max" when it is for the person's rank. A text we do not
 * understand gives no right.
 */
static void
add_rule(CrmProfile *profile, const char *text, int rank)
{
	static const char *const scopes[] = {"own", "team", "subtree", "region", "all"};
	static const char letters[] = "rcudes";
	static const int bits[] = {ROW_READ, ROW_CREATE, ROW_UPDATE, ROW_DELETE, ROW_EXPORT, ROW_SUMMARY};
	char *part[7];
	char *rest = pstrdup(text);
	CrmRowRule *rule;
	int verbs = 0;
	int scope = -1;

	for (int i = 0; i < lengthof(part); i++)
	{
		part[i] = rest;
		rest = strchr(rest, '|');
		if ((rest == NULL) != (i == lengthof(part) - 1))
			return;
		if (rest != NULL)
			*rest++ = '\0';
	}
	for (const char *c = part[1]; *c; c++)
		if (strchr(letters, *c) != NULL)
			verbs |= bits[strchr(letters, *c) - letters];
	for (int i = 0; i < lengthof(scopes); i++)
		if (strcmp(part[2], scopes[i]) == 0)
			scope = i;
	if (scope < 0 || verbs == 0 || rank < atoi(part[5]) || rank > atoi(part[6]))
		return;

	if (profile->nrules % 64 == 0)
	{
		CrmRowRule *more = palloc(sizeof(CrmRowRule) * (profile->nrules + 64));

		if (profile->nrules > 0)
			memcpy(more, profile->rules, sizeof(CrmRowRule) * profile->nrules);
		profile->rules = more;
	}
	rule = &profile->rules[profile->nrules++];
	rule->object = part[0];
	rule->verbs = verbs;
	rule->scope = (CrmScope) scope;
	rule->grade_min = atoi(part[3]);
	rule->grade_max = atoi(part[4]);
}

/*
 * Order of rules: by object, then so that the same rules always stand in the same order, whatever role gave them.
 */
static int
compare_rules(const void *a, const void *b)
{
	const CrmRowRule *x = a;
	const CrmRowRule *y = b;
	int order = strcmp(x->object, y->object);

	if (order == 0)
		order = (int) x->scope - (int) y->scope;
	if (order == 0)
		order = x->verbs - y->verbs;
	if (order == 0)
		order = x->grade_min - y->grade_min;
	return order != 0 ? order : x->grade_max - y->grade_max;
}

static int
compare_int64(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

/*
 * Read the tree of teams and note the person's own, those below it and those of its region.
 */
static void
read_teams(CrmProfile *profile)
{
	Oid relid = crm_access_relation(T_TEAM);
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	int n = 0;
	int allocated = 64;
	int64 *id = palloc(sizeof(int64) * allocated);
	int64 *parent = palloc(sizeof(int64) * allocated);
	char **region = palloc(sizeof(char *) * allocated);
	bool *below;
	char *mine = NULL;
	bool more;

	if (profile->team == 0 || !OidIsValid(relid))
		return;

	rel = table_open(relid, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Datum datum;

		if (n == allocated)
		{
			allocated *= 2;
			id = repalloc(id, sizeof(int64) * allocated);
			parent = repalloc(parent, sizeof(int64) * allocated);
			region = repalloc(region, sizeof(char *) * allocated);
		}
		id[n] = DatumGetInt64(attribute(tuple, rel, "id", &isnull));
		datum = attribute(tuple, rel, "parent_id", &isnull);
		parent[n] = isnull ? 0 : DatumGetInt64(datum);
		datum = attribute(tuple, rel, "region", &isnull);
		region[n] = isnull ? NULL : TextDatumGetCString(datum);
		if (id[n] == profile->team)
			mine = region[n];
		n++;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	/* one pass per level; a cycle of parents ends too, since a team is only ever added */
	below = palloc0(sizeof(bool) * Max(n, 1));
	do
	{
		more = false;
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
		{
			if (below[i])
				continue;
			below[i] = id[i] == profile->team;
			for (int j = 0; j < n && !below[i] && parent[i] != 0; j++)
				below[i] = below[j] && id[j] == parent[i];
			more |= below[i];
		}
	} while (more);

	for (int scope = SCOPE_TEAM; scope < SCOPE_NTEAMS; scope++)
		profile->teams[scope].id = palloc(sizeof(int64) * Max(n, 1));
	profile->teams[SCOPE_TEAM].id[profile->teams[SCOPE_TEAM].n++] = profile->team;
	for (int i = 0; i < n; i++)
	{
		CrmTeams *subtree = &profile->teams[SCOPE_SUBTREE];
		CrmTeams *of_region = &profile->teams[SCOPE_REGION];

		if (below[i])
			subtree->id[subtree->n++] = id[i];
		if (id[i] == profile->team || (mine != NULL && region[i] != NULL && strcmp(mine, region[i]) == 0))
			of_region->id[of_region->n++] = id[i];
	}
	for (int scope = SCOPE_TEAM; scope < SCOPE_NTEAMS; scope++)
	{
		CrmTeams *teams = &profile->teams[scope];

		qsort(teams->id, teams->n, sizeof(int64), compare_int64);
		if (teams->n == 0 || teams->id[0] < 0 || teams->id[teams->n - 1] >= TEAM_BITS_MAX)
			continue;
		teams->nbits = teams->id[teams->n - 1] + 1;
		teams->bits = palloc0(teams->nbits / 8 + 1);
		for (int i = 0; i < teams->n; i++)
			teams->bits[teams->id[i] / 8] |= 1 << (teams->id[i] % 8);
	}
}

/*
 * Hash what a plan may be folded on: the read modes and the row rules. Not the member, the teams or the clock.
 */
static void
hash_profile(CrmProfile *profile)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%d", profile->unrestricted);
	for (int object = 0; object < profile->nobjects; object++)
		appendStringInfo(&buf, ";%s", profile->fields[FIELD_READ][object]->data);
	for (int i = 0; i < profile->nrules; i++)
		appendStringInfo(&buf, ";%s|%d|%d|%d|%d", profile->rules[i].object, profile->rules[i].verbs,
						 (int) profile->rules[i].scope, profile->rules[i].grade_min, profile->rules[i].grade_max);
	for (int i = 0; i < profile->nkeys; i++)
		appendStringInfo(&buf, ";%d|%s|%c", profile->keys[i].field, profile->keys[i].key, profile->keys[i].rule.mode);
	profile->hash = hash_bytes_extended((const unsigned char *) buf.data, buf.len, 0);
	pfree(buf.data);
}

/*
 * In the first days a person sees only his own rows unmasked. Time only ever ends it, so a plan made inside stays
 * safe: it is stricter.
 */
bool
crm_profile_in_sandbox(const CrmProfile *profile)
{
	return profile->sandbox_until != DT_NOBEGIN && GetCurrentStatementStartTimestamp() < profile->sandbox_until;
}

/* scopes that have a list of teams, as crm.my_teams() names them */
static const char *const scope_names[SCOPE_NTEAMS] = {"own", "team", "subtree", "region"};

/*
 * The name of a scope below SCOPE_ALL.
 */
const char *
crm_scope_name(CrmScope scope)
{
	return scope_names[scope];
}

/*
 * The scope of a name, SCOPE_ALL when there is none with a list of teams.
 */
CrmScope
crm_scope_named(const char *name)
{
	for (int scope = 0; scope < SCOPE_NTEAMS; scope++)
		if (strcmp(name, scope_names[scope]) == 0)
			return scope;
	return SCOPE_ALL;
}

/*
 * Does the role count for the person?
 */
bool
crm_profile_has_role(const CrmProfile *profile, Oid role)
{
	if (!OidIsValid(role))
		return false;
	for (int i = 0; i < profile->nroles; i++)
		if (profile->roles[i] == role)
			return true;
	return false;
}

/*
 * The same by halving, where the numbers are too large for bits.
 */
bool
crm_team_found(const CrmTeams *teams, int64 team)
{
	int low = 0;
	int high = teams->n - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;

		if (teams->id[middle] == team)
			return true;
		if (teams->id[middle] < team)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return false;
}

/*
 * The tables that a folded plan depends on: the core makes such a plan anew when they change.
 */
List *
crm_profile_relations(void)
{
	List *result = NIL;
	Oid oid;

	if (OidIsValid(oid = crm_access_relation(T_PROFILE)))
		result = lappend_oid(result, oid);
	if (OidIsValid(oid = crm_access_relation(T_MEMBER)))
		result = lappend_oid(result, oid);
	return result;
}

/*
 * OID of a table of ours, 0 before the schema is there. Remembered for the callback.
 */
Oid
crm_access_relation(const char *name)
{
	static const char *const names[] = {T_PROFILE, T_MEMBER, T_TEAM};
	Oid schema = get_namespace_oid(CRM_DATA_SCHEMA, true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			watched[i] = relid;
	return relid;
}

/*
 * Start a scan for one value of a column, by an index whose first column it is, if there is one.
 */
static SysScanDesc
scan_by(Relation rel, const char *column, Oid eqproc, Datum value)
{
	AttrNumber number = get_attnum(RelationGetRelid(rel), column);
	Oid use = InvalidOid;
	ScanKeyData key;
	List *indexes;
	ListCell *cell;

	if (number == InvalidAttrNumber)
		elog(ERROR, "column %s.%s is missing", RelationGetRelationName(rel), column);
	indexes = RelationGetIndexList(rel);
	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisvalid && index->rd_index->indnkeyatts == 1 &&
			index->rd_index->indkey.values[0] == number &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
			use = lfirst_oid(cell);
		index_close(index, AccessShareLock);
		if (OidIsValid(use))
			break;
	}
	list_free(indexes);

	ScanKeyInit(&key, number, BTEqualStrategyNumber, eqproc, value);
	return systable_beginscan(rel, use, OidIsValid(use), NULL, 1, &key);
}

/*
 * A column of a tuple by name: migrations may change numbers.
 */
static Datum
attribute(HeapTuple tuple, Relation rel, const char *name, bool *isnull)
{
	AttrNumber number = get_attnum(RelationGetRelid(rel), name);

	if (number == InvalidAttrNumber)
		elog(ERROR, "column %s.%s is missing", RelationGetRelationName(rel), name);
	return heap_getattr(tuple, number, RelationGetDescr(rel), isnull);
}

/*
 * A column that is a date or a time; a date is midnight of the server's time zone.
 */
static TimestampTz
attribute_time(HeapTuple tuple, Relation rel, const char *name, TimestampTz otherwise)
{
	bool isnull;
	Datum datum = attribute(tuple, rel, name, &isnull);

	if (isnull)
		return otherwise;
	if (get_atttype(RelationGetRelid(rel), get_attnum(RelationGetRelid(rel), name)) == DATEOID)
		return DatumGetTimestampTz(DirectFunctionCall1(date_timestamptz, datum));
	return DatumGetTimestampTz(datum);
}

/*
 * A relation changed: count it when it is one of ours, or might be.
 */
static void
relcache_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid)
		crm_profile_generation++;
	else
		for (int i = 0; i < lengthof(watched); i++)
			if (watched[i] == relid)
				crm_profile_generation++;
}

/*
 * A role or a membership changed. The core of older minors does not re-plan when a membership is revoked, so do it here.
 */
static void
roles_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	crm_profile_generation++;
	ResetPlanCache();
}

/*
 * At the end of a transaction nobody is using a stale profile any more.
 */
static void
free_stale(XactEvent event, void *arg)
{
	ListCell *cell;

	if (stale_profiles == NIL ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE &&
		 event != XACT_EVENT_PARALLEL_COMMIT && event != XACT_EVENT_PARALLEL_ABORT))
		return;
	foreach (cell, stale_profiles)
		MemoryContextDelete(((CrmProfile *) lfirst(cell))->context);
	list_free(stale_profiles);
	stale_profiles = NIL;
}

/*
 * Trigger of the policy tables, FOR EACH ROW and, because of TRUNCATE, FOR EACH STATEMENT: ENABLE ALWAYS, since logical apply fires
 * row triggers only. The configuration has it too. Tells all backends that the table changed.
 */
Datum
crm_policy_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("crm._policy_changed must be called as a trigger")));
	CacheInvalidateRelcache(data->tg_relation);
	/* what is returned does not matter after the change, but it may not be an SQL NULL */
	if (TRIGGER_FIRED_FOR_STATEMENT(data->tg_event))
		PG_RETURN_POINTER(NULL);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		PG_RETURN_POINTER(data->tg_newtuple);
	PG_RETURN_POINTER(data->tg_trigtuple);
}
