/*
 * identity.c
 *		Who is asking: the role of the session, or a member whom a signed token or the engine named for this transaction.
 *
 * A pool's role has no rights of its own. Each transaction begins with crm.login(token); the token is checked and the member stands in
 * the setting crm.identity until the transaction ends. The setting is for superusers (so that nobody can forge it with SET, set_config or
 * PGOPTIONS) but not internal (parallel workers would not get it).
 *
 * Tokens: v1.<member>.<expiry, epoch seconds>.<database OID>.<HMAC-SHA256 of what stands before, hexadecimal>. The key is a row of
 * crm_data.secret, read with a scan of the engine's own, since the caller has no rights there.
 *
 * No locks. Memory: the caller's.
 */
#include "access/access.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/direct.h"
#include "common/errors.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(crm_me_sql);
PG_FUNCTION_INFO_V1(crm_my_teams);
PG_FUNCTION_INFO_V1(crm_is_me);
PG_FUNCTION_INFO_V1(crm_in_my_teams);
PG_FUNCTION_INFO_V1(crm_has_role);
PG_FUNCTION_INFO_V1(crm_login);
PG_FUNCTION_INFO_V1(crm_mint_token);
PG_FUNCTION_INFO_V1(crm_as_member);
PG_FUNCTION_INFO_V1(crm_field_allowed);
PG_FUNCTION_INFO_V1(crm_may_sql);

#define TOKEN_SECRET "token"
#define MAX_TTL_SECONDS (24 * 3600)

CrmIdentity crm_identity = {IDENTITY_ROLE, 0, ""};
uint64 crm_identity_serial = 1;

static char *identity_setting = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

static bool check_identity(char **newval, void **extra, GucSource source);
static void assign_identity(const char *newval, void *extra);
static void no_cursor_survives(PlannedStmt *statement, const char *query, bool read_only, ProcessUtilityContext context,
							   ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest,
							   QueryCompletion *completion);
static void set_identity(const char *value);
static void refuse_token(const char *why);
static bytea *token_key(void);
static void sign(const char *payload, char hex[PG_SHA256_DIGEST_LENGTH * 2 + 1]);

/*
 * Define the setting.
 */
void
crm_identity_init(void)
{
	DefineCustomStringVariable(
		"crm.identity", "Whom this transaction acts for; set by crm.login().", NULL, &identity_setting, "", PGC_SUSET,
		GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, check_identity, assign_identity, NULL);
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = no_cursor_survives;
}

/*
 * A cursor WITH HOLD keeps its rows beyond the transaction, and behind a pool the next transaction is somebody else's.
 */
static void
no_cursor_survives(PlannedStmt *statement, const char *query, bool read_only, ProcessUtilityContext context,
				   ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (IsA(statement->utilityStmt, DeclareCursorStmt) && crm_identity.kind != IDENTITY_ROLE &&
		(((DeclareCursorStmt *) statement->utilityStmt)->options & CURSOR_OPT_HOLD) != 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("a cursor WITH HOLD is not allowed after %s.login()", CRM_SCHEMA),
						errdetail("It would outlive the transaction that the login is for.")));
	if (previous_utility)
		previous_utility(statement, query, read_only, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, query, read_only, context, params, environment, dest, completion);
}

/*
 * Parse "", "member <id>", "role <name>" or "role <name> as <id>".
 */
static bool
check_identity(char **newval, void **extra, GucSource source)
{
	CrmIdentity parsed;
	CrmIdentity *result;
	const char *value = *newval ? *newval : "";

	memset(&parsed, 0, sizeof(parsed));
	if (strncmp(value, "member ", 7) == 0)
	{
		char *end;

		errno = 0;
		parsed.kind = IDENTITY_MEMBER;
		parsed.member = strtoll(value + 7, &end, 10);
		if (errno != 0 || *end != '\0' || parsed.member <= 0)
			return false;
	}
	else if (strncmp(value, "role ", 5) == 0)
	{
		const char *as = strstr(value + 5, " as ");
		size_t len = as ? (size_t) (as - (value + 5)) : strlen(value + 5);

		parsed.kind = IDENTITY_PREVIEW;
		if (len >= NAMEDATALEN)
			return false;
		memcpy(parsed.role, value + 5, len);
		if (as != NULL)
			parsed.member = strtoll(as + 4, NULL, 10);
	}
	else if (value[0] != '\0')
		return false;

#if PG_VERSION_NUM >= 160000
	result = guc_malloc(LOG, sizeof(CrmIdentity));
#else
	result = malloc(sizeof(CrmIdentity));
#endif
	if (result == NULL)
		return false;
	*result = parsed;
	*extra = result;
	return true;
}

/*
 * Take the new identity. Runs at the end of transactions too, so it reads no catalog; plans made for the other identity are
 * caught when they start, or sooner by set_identity.
 */
static void
assign_identity(const char *newval, void *extra)
{
	crm_identity = *(CrmIdentity *) extra;
	crm_identity_serial++;
}

/*
 * Act for somebody until the transaction, or the subtransaction, ends. Plans in the cache that were folded for other rights are
 * made anew: the core knows roles, not identities.
 */
static void
set_identity(const char *value)
{
	uint64 hash = crm_profile()->hash;

	(void) set_config_option("crm.identity", value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	if (crm_profile()->hash != hash || crm_profile()->sandbox_until != DT_NOBEGIN)
		ResetPlanCache();
}

/*
 * The member who is asking, 0 when it is none.
 */
int64
crm_me(void)
{
	return crm_profile()->member;
}

/*
 * crm.me()
 */
Datum
crm_me_sql(PG_FUNCTION_ARGS)
{
	int64 me = crm_profile()->member;

	if (me == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(me);
}

/*
 * crm.my_teams(scope text): the result is a copy, since a profile may go away while an array is in use.
 */
Datum
crm_my_teams(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CrmScope scope = crm_scope_named(name);
	const CrmTeams *teams;
	Datum *values;

	if (scope == SCOPE_ALL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown scope \"%s\"", name),
						errhint("Scopes of teams are team, subtree and region.")));
	teams = &crm_profile()->teams[scope];
	values = palloc(sizeof(Datum) * Max(teams->n, 1));
	for (int i = 0; i < teams->n; i++)
		values[i] = Int64GetDatum(teams->id[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, teams->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* whose rows a plan asks for: kept by each call of the plan */
typedef struct PlanProfile
{
	const CrmProfile *profile; /* alive while the generation stays */
	uint64 generation;         /* 0: not to be kept */
	uint64 serial;
	Oid role;
} PlanProfile;

/*
 * The profile for a function that plans call for each row of a scan. The other functions look closer at who asks, since an expression outside of
 * a plan lives longer than a statement; these two tell nobody anything about anybody else.
 */
static pg_noinline const CrmProfile *
find_plan_profile(FmgrInfo *function)
{
	PlanProfile *kept = function->fn_extra;

	if (kept == NULL)
	{
		kept = MemoryContextAlloc(function->fn_mcxt, sizeof(PlanProfile));
		function->fn_extra = kept;
	}
	kept->profile = crm_profile();
	kept->generation =
		kept->profile->expires == DT_NOEND && !InSecurityRestrictedOperation() ? crm_current.generation : 0;
	kept->serial = crm_identity_serial;
	kept->role = GetOuterUserId();
	return kept->profile;
}

static inline const CrmProfile *
plan_profile(FmgrInfo *function)
{
	const PlanProfile *kept = function->fn_extra;

	if (likely(kept != NULL && kept->generation == crm_profile_generation && kept->serial == crm_identity_serial &&
			   kept->role == GetOuterUserId()))
		return kept->profile;
	return find_plan_profile(function);
}

/*
 * crm._is_me(owner bigint): owner = crm.me(), for every row of a scan.
 */
Datum
crm_is_me(PG_FUNCTION_ARGS)
{
	int64 me = plan_profile(fcinfo->flinfo)->member;

	if (unlikely(me == 0))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(PG_GETARG_INT64(0) == me);
}

/*
 * crm._in_my_teams(team bigint, scope int): team = ANY (crm.my_teams(..)), for every row of a scan. scope: CrmScope. Nothing is an error
 * here: it is asked of rows before it is known whether the person may see them.
 */
Datum
crm_in_my_teams(PG_FUNCTION_ARGS)
{
	int scope = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT32(1);
	const CrmTeams *teams;

	if (scope < 0 || scope >= SCOPE_NTEAMS)
		PG_RETURN_NULL();
	teams = &plan_profile(fcinfo->flinfo)->teams[scope];
	if (teams->n == 0)
		PG_RETURN_BOOL(false);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(crm_team_listed(teams, PG_GETARG_INT64(0)));
}

/*
 * crm.has_role(role text): does the role count for the person, over not too many steps?
 */
Datum
crm_has_role(PG_FUNCTION_ARGS)
{
	const CrmProfile *profile = crm_profile();

	PG_RETURN_BOOL(profile->unrestricted ||
				   crm_profile_has_role(profile, get_role_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), true)));
}

/*
 * crm._field_allowed(verb text, field int, owner bigint, team bigint): may the person see, change or export the field of such a row
 * unmasked? For functions that hand out values by other ways than the views.
 */
Datum
crm_field_allowed(PG_FUNCTION_ARGS)
{
	char *word = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const CrmProfile *profile = crm_profile();
	CrmFieldVerb verb = FIELD_READ;
	CrmFieldRule rule;
	bool own;

	if (strcmp(word, "write") == 0)
		verb = FIELD_WRITE;
	else if (strcmp(word, "export") == 0)
		verb = FIELD_EXPORT;
	else if (strcmp(word, "read") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown verb \"%s\"", word),
						errhint("Verbs on fields are read, write and export.")));
	if (PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	rule = crm_field_rule(profile, verb, PG_GETARG_INT32(1));
	own = profile->member != 0 && !PG_ARGISNULL(2) && PG_GETARG_INT64(2) == profile->member;
	if (!own && crm_profile_in_sandbox(profile))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(rule.mode == MODE_ALWAYS || ((rule.mode == MODE_OWN || rule.mode == MODE_TEAM) && own) ||
				   (rule.mode == MODE_TEAM && !PG_ARGISNULL(3) &&
					crm_team_listed(&profile->teams[SCOPE_SUBTREE], PG_GETARG_INT64(3))));
}

/*
 * crm.may(function text): does the person have the right to run something?
 */
Datum
crm_may_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(crm_may(crm_profile(), text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/*
 * Refuse what is no token of ours.
 */
static void
refuse_token(const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_CRM_BAD_TOKEN), errmsg("%s", why),
					errhint("Tokens come from %s.mint_token(), whole, and are good in its database until they expire.",
							CRM_SCHEMA)));
}

/*
 * crm.login(token text): act for the member whom the token names, until the transaction ends.
 */
Datum
crm_login(PG_FUNCTION_ARGS)
{
	char *token = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *mac = strrchr(token, '.');
	char expected[PG_SHA256_DIGEST_LENGTH * 2 + 1];
	long long member;
	long long expiry;
	unsigned int database;
	int used = 0;
	int different = 0;
	char value[64];

	/* whoever logs in by the same role reads the statements of its sessions in pg_stat_activity */
	if (debug_query_string != NULL && strstr(debug_query_string, token) != NULL)
		pgstat_report_activity(STATE_RUNNING, "SELECT " CRM_SCHEMA ".login(...)");

	if (mac == NULL || strlen(mac + 1) != PG_SHA256_DIGEST_LENGTH * 2)
		refuse_token("malformed token");
	*mac++ = '\0';
	sign(token, expected);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH * 2; i++)
		different |= mac[i] ^ expected[i];
	if (different != 0)
		refuse_token("the token's signature does not fit");
	if (sscanf(token, "v1.%lld.%lld.%u%n", &member, &expiry, &database, &used) != 3 || token[used] != '\0' ||
		member <= 0)
		refuse_token("malformed token");
	if (database != MyDatabaseId)
		refuse_token("the token is for another database");
	if (timestamptz_to_time_t(GetCurrentTimestamp()) >= expiry)
		ereport(ERROR, (errcode(ERRCODE_CRM_EXPIRED_TOKEN), errmsg("the token has expired"),
						errhint("Ask for a new one with %s.mint_token().", CRM_SCHEMA)));

	snprintf(value, sizeof(value), "member %lld", member);
	set_identity(value);
	if (crm_me() == 0)
		ereport(ERROR, (errcode(ERRCODE_CRM_BAD_TOKEN), errmsg("the token's member is not there any more"),
						errhint("Whoever left the house has none; ask an administrator.")));
	PG_RETURN_INT64(member);
}

/*
 * crm.mint_token(member bigint, ttl interval)
 */
Datum
crm_mint_token(PG_FUNCTION_ARGS)
{
	int64 member = PG_GETARG_INT64(0);
	Interval *ttl = PG_GETARG_INTERVAL_P(1);
	int64 seconds = ttl->time / USECS_PER_SEC + ((int64) ttl->month * 30 + ttl->day) * SECS_PER_DAY;
	Relation rel;
	char payload[128];
	char mac[PG_SHA256_DIGEST_LENGTH * 2 + 1];

	if (member <= 0 || seconds < 1 || seconds > MAX_TTL_SECONDS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a token needs a member and between 1 second and 24 hours to live")));

	/* the grant lets a leaver pass, and a role that is inherited too deeply to count */
	if (!crm_may(crm_profile(), "configure"))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to mint a token"),
						errhint("It takes the function \"configure\" in a permission of your role.")));
	rel = table_open(crm_direct_table("member"), AccessShareLock);
	if (crm_direct_row(rel, member, false) == NULL)
		ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("there is no member %lld", (long long) member),
						errhint("SELECT id, full_name FROM %s.member lists them.", CRM_SCHEMA)));
	table_close(rel, AccessShareLock);
	snprintf(payload, sizeof(payload), "v1.%lld.%lld.%u", (long long) member,
			 (long long) timestamptz_to_time_t(GetCurrentTimestamp()) + seconds, MyDatabaseId);
	sign(payload, mac);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s.%s", payload, mac)));
}

/*
 * crm._as(identity text) returns text: for the engine only. Act for a member ("member 7"), a role to preview ("role crm_sales"), or nobody
 * in particular (""); answers what it was before, so that the caller can put it back.
 */
Datum
crm_as_member(PG_FUNCTION_ARGS)
{
	char *before = pstrdup(identity_setting ? identity_setting : "");

	set_identity(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_TEXT_P(cstring_to_text(before));
}

/*
 * HMAC-SHA256 of a payload, in hexadecimal.
 */
static void
sign(const char *payload, char hex[PG_SHA256_DIGEST_LENGTH * 2 + 1])
{
	bytea *key = token_key();
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];

	if (ctx == NULL || pg_hmac_init(ctx, (uint8 *) VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) < 0 ||
		pg_hmac_update(ctx, (const uint8 *) payload, strlen(payload)) < 0 ||
		pg_hmac_final(ctx, digest, sizeof(digest)) < 0)
	{
		pg_hmac_free(ctx);
		elog(ERROR, "could not sign a token");
	}
	pg_hmac_free(ctx);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		snprintf(hex + i * 2, 3, "%02x", digest[i]);
}

/*
 * The key that signs tokens.
 */
static bytea *
token_key(void)
{
	Oid schema = get_namespace_oid(CRM_DATA_SCHEMA, true);
	Oid relid = OidIsValid(schema) ? get_relname_relid("secret", schema) : InvalidOid;
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	bytea *key = NULL;
	AttrNumber name_number;
	AttrNumber value_number;

	if (OidIsValid(relid))
	{
		name_number = get_attnum(relid, "name");
		value_number = get_attnum(relid, "value");
		rel = table_open(relid, AccessShareLock);
		scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
		while (key == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			bool isnull;
			Datum name = heap_getattr(tuple, name_number, RelationGetDescr(rel), &isnull);

			if (isnull || strcmp(TextDatumGetCString(name), TOKEN_SECRET) != 0)
				continue;
			name = heap_getattr(tuple, value_number, RelationGetDescr(rel), &isnull);
			if (!isnull)
				key = DatumGetByteaPCopy(name);
		}
		systable_endscan(scan);
		table_close(rel, AccessShareLock);
	}
	if (key == NULL || VARSIZE_ANY_EXHDR(key) < 32)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("there is no key to sign tokens with"),
				 errhint("Run CALL %s.migrate() as a superuser: it makes one.", CRM_SCHEMA)));
	return key;
}
