/*
 * guard.c
 *		crm.guard decides what a person sees of a field, crm.row_visible which rows; both fold away while planning when the
 *		answer is the same for every row.
 *
 * Folding rests on the role and the policy tables alone. Who the person is, his teams and the time stay calls at run time, so
 * a plan never outlives them. A plan that was looked at here says so: it depends on the role, on the policy tables, and carries
 * private invalidation items with the hash of the profile, which the ExecutorStart hook compares with the profile of
 * the moment. Whoever folded a plan in this backend has this library loaded, so nothing needs to be preloaded.
 *
 * No locks, no memory that outlives the call beside what the plan keeps.
 */
#include "access/access.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "mb/pg_wchar.h"
#include "parser/parse_func.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/plancache.h"

PG_FUNCTION_INFO_V1(crm_guard);
PG_FUNCTION_INFO_V1(crm_guard_support);
PG_FUNCTION_INFO_V1(crm_row_visible);
PG_FUNCTION_INFO_V1(crm_row_visible_support);

/*
 * Kinds of our invalidation items. The core compares an item's kind with those of its own caches, which are small numbers, and
 * passes by what it does not know.
 */
#define ITEM_TOUCHED 0x63720001 /* guarded views are read */
#define ITEM_HASH_LOW 0x63720002
#define ITEM_HASH_HIGH 0x63720003
#define ITEM_SANDBOX 0x63720004 /* folded for somebody in the sandbox */

/* int2 <= and >=: the header of the core's operators has no names for them */
#define INT2_LESS_EQUAL_OPERATOR 522
#define INT2_GREATER_EQUAL_OPERATOR 524

#define MASK_AUTO '?' /* a mask that fits what the text looks like */

/* of the text engine */
extern Datum crm_mask_phone(PG_FUNCTION_ARGS);
extern Datum crm_mask_name(PG_FUNCTION_ARGS);

bool crm_fold_enabled = true;

static ExecutorStart_hook_type previous_executor_start = NULL;

static void guard_executor_start(QueryDesc *query, int eflags);
static Datum mask_text(Datum value, char mask);
static Node *fold_row_visible(List *args);
static Node *fold_rule(const CrmRowRule *rule, Node *owner, Node *team, Node *grade);
static FuncExpr *call_of_ours(const char *name, Oid result, List *args, const Oid *types, int nargs);
static void note_support(PlannerInfo *root, bool folded);

/*
 * Define the setting and put the hook in place.
 */
void
crm_guard_init(void)
{
	DefineCustomBoolVariable("crm.fold_access", "Decide while planning what a role may see.",
							 "Off, every rule is evaluated for every row: slower, the same result.", &crm_fold_enabled,
							 true, PGC_USERSET, 0, NULL, NULL, NULL);
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = guard_executor_start;
}

/*
 * What a person may do with a field, before the row is looked at. A field without a rule is not visible.
 */
CrmFieldRule
crm_field_rule(const CrmProfile *profile, CrmFieldVerb verb, int field)
{
	CrmFieldRule rule = {MODE_ALWAYS, MASK_NULL};
	int object = FIELD_OBJECT(field) - 1;
	int at = (FIELD_POSITION(field) - 1) * (int) sizeof(CrmFieldRule);

	if (profile->unrestricted)
		return rule;
	rule.mode = MODE_NEVER;
	if (object >= 0 && object < profile->nobjects && at >= 0 && at < profile->fields[verb][object]->len)
		memcpy(&rule, profile->fields[verb][object]->data + at, sizeof(rule));
	if (rule.mode == MODE_NONE)
		rule.mode = MODE_NEVER;
	return rule;
}

/*
 * What of a value is shown. A mask is made in the caller's memory.
 */
Datum
crm_guard_value(const CrmProfile *profile, CrmFieldRule rule, Oid type, Datum value, bool own, bool team,
				bool *result_null)
{
	bool shown =
		rule.mode == MODE_ALWAYS || (rule.mode == MODE_OWN && own) || (rule.mode == MODE_TEAM && (own || team));

	*result_null = false;
	if (shown && (own || !crm_profile_in_sandbox(profile)))
		return value;
	if (rule.mode != MODE_NEVER)
	{
		/* what the sandbox takes away is blurred, also where no mask is configured */
		char mask = shown && rule.mask == MASK_NULL ? MASK_AUTO : rule.mask;

		if (type == TEXTOID || type == VARCHAROID)
			switch (mask)
			{
				case MASK_PHONE: return DirectFunctionCall1(crm_mask_phone, value);
				case MASK_NAME: return DirectFunctionCall1(crm_mask_name, value);
				case MASK_EMAIL:
				case MASK_TEXT:
				case MASK_AUTO: return mask_text(value, mask);
				default: break;
			}
		else if (mask == MASK_ZERO && type == NUMERICOID)
			return NumericGetDatum(int64_to_numeric(0));
	}
	*result_null = true;
	return (Datum) 0;
}

/*
 * Does a document column have keys that the person does not see on every row?
 */
bool
crm_hides_keys(const CrmProfile *profile, int field)
{
	for (int i = 0; i < profile->nkeys && !profile->unrestricted; i++)
		if (profile->keys[i].field == field && profile->keys[i].rule.mode != MODE_ALWAYS)
			return true;
	return false;
}

/*
 * A document without the keys that the person does not see. A masked key is left out, too.
 */
Datum
crm_filter_keys(const CrmProfile *profile, int field, Datum document, bool own, bool team)
{
	Datum *hidden;
	int n = 0;

	if (profile->nkeys == 0 || profile->unrestricted)
		return document;
	hidden = palloc(sizeof(Datum) * profile->nkeys);
	for (int i = 0; i < profile->nkeys; i++)
	{
		const CrmKeyRule *key = &profile->keys[i];

		if (key->field == field && key->rule.mode != MODE_ALWAYS && !(key->rule.mode == MODE_OWN && own) &&
			!(key->rule.mode == MODE_TEAM && (own || team)))
			hidden[n++] = CStringGetTextDatum(key->key);
	}
	if (n > 0 && JB_ROOT_IS_OBJECT(DatumGetJsonbP(document)))
		document = DirectFunctionCall2(jsonb_delete_array, document,
									   PointerGetDatum(construct_array(hidden, n, TEXTOID, -1, false, TYPALIGN_INT)));
	pfree(hidden);
	return document;
}

/*
 * Show the form of a text and little of its content: an e-mail address keeps its first letter and its domain, anything else its first
 * character. The number of stars says nothing about the length. A number is recognised when nobody said what the text is.
 */
static Datum
mask_text(Datum value, char mask)
{
	text *t = DatumGetTextPP(value);
	const char *s = VARDATA_ANY(t);
	int len = (int) VARSIZE_ANY_EXHDR(t);
	int first = len > 0 ? Min(pg_mblen(s), len) : 0;
	int digits = 0;
	const char *at = mask == MASK_TEXT || len <= 0 ? NULL : memchr(s, '@', len);
	StringInfoData buf;

	for (int i = 0; i < len; i++)
		digits += s[i] >= '0' && s[i] <= '9';
	if (mask == MASK_AUTO && at == NULL && digits >= 7 && digits * 2 > len)
		return DirectFunctionCall1(crm_mask_phone, value);

	initStringInfo(&buf);
	if (len > 0)
	{
		appendBinaryStringInfo(&buf, s, first);
		appendStringInfoString(&buf, at != NULL ? "***" : "**");
	}
	if (at != NULL)
		appendBinaryStringInfo(&buf, at, len - (int) (at - s));
	return PointerGetDatum(cstring_to_text_with_len(buf.data, buf.len));
}

/*
 * What the person sees of a value that is not NULL, in a row of this owner and team (NULL: none). A mask is made in the caller's memory.
 */
Datum
crm_guard_column(const CrmProfile *profile, int field, Oid type, Datum value, const int64 *owner, const int64 *team,
				 bool *result_null)
{
	CrmFieldRule rule = crm_field_rule(profile, FIELD_READ, field);
	bool keys;
	bool own;
	bool in_team;

	*result_null = rule.mode == MODE_NEVER;
	if (rule.mode == MODE_NEVER)
		return (Datum) 0;
	keys = crm_hides_keys(profile, field);
	if (rule.mode == MODE_ALWAYS && profile->sandbox_until == DT_NOBEGIN && !keys)
		return value;

	own = profile->member != 0 && owner != NULL && *owner == profile->member;
	if (own && rule.mode != MODE_MASK && !keys)
		return value;
	in_team =
		(rule.mode == MODE_TEAM || keys) && team != NULL && crm_team_listed(&profile->teams[SCOPE_SUBTREE], *team);
	if (in_team && rule.mode == MODE_TEAM && profile->sandbox_until == DT_NOBEGIN && !keys)
		return value;

	value = crm_guard_value(profile, rule, type, value, own, in_team, result_null);
	if (keys && !*result_null && type == JSONBOID)
		value = crm_filter_keys(profile, field, value, own, in_team);
	return value;
}

/*
 * How a call of crm.guard answers for nearly all rows, so that what is the same for every row is found out once.
 */
typedef enum GuardWay
{
	WAY_ASK, /* look at every rule */
	WAY_ALWAYS,
	WAY_NEVER,
	WAY_OWN, /* his own rows as they are; of others every rule is asked */
	WAY_TEAM /* his own and his teams' rows */
} GuardWay;

typedef struct GuardState
{
	Oid type;
	uint64 profile; /* serial of the profile that way belongs to */
	int field;      /* that it belongs to */
	GuardWay way;
} GuardState;

/*
 * Find out what is the same for every row.
 */
static GuardState *
prepare_guard(FmgrInfo *function, const CrmProfile *profile, int field)
{
	GuardState *state = function->fn_extra;
	CrmFieldRule rule = crm_field_rule(profile, FIELD_READ, field);
	bool sandbox = profile->sandbox_until != DT_NOBEGIN;

	if (state == NULL)
	{
		state = MemoryContextAlloc(function->fn_mcxt, sizeof(GuardState));
		state->type = get_fn_expr_argtype(function, 0);
		function->fn_extra = state;
	}
	state->profile = profile->serial;
	state->field = field;
	state->way = WAY_ASK;
	if (rule.mode == MODE_NEVER)
		state->way = WAY_NEVER;
	else if (crm_hides_keys(profile, field))
		;
	else if (rule.mode == MODE_ALWAYS && !sandbox)
		state->way = WAY_ALWAYS;
	else if (rule.mode == MODE_TEAM && !sandbox)
		state->way = WAY_TEAM;
	else if (rule.mode != MODE_MASK)
		state->way = WAY_OWN;
	return state;
}

/*
 * crm.guard where every rule has to be asked. Apart from it, so that it is not paid for where that is not so.
 */
static pg_noinline Datum
guard_slowly(FunctionCallInfo fcinfo, const CrmProfile *profile, const GuardState *state)
{
	int64 owner = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	int64 team = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);
	Datum result;
	bool isnull;

	result = crm_guard_column(profile, state->field, state->type, PG_GETARG_DATUM(0), PG_ARGISNULL(2) ? NULL : &owner,
							  PG_ARGISNULL(3) ? NULL : &team, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/*
 * crm.guard(value anyelement, field int, owner bigint, team bigint): the value, a mask or NULL.
 */
Datum
crm_guard(PG_FUNCTION_ARGS)
{
	const CrmProfile *profile;
	GuardState *state = fcinfo->flinfo->fn_extra;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();

	profile = crm_profile();
	if (unlikely(state == NULL || state->profile != profile->serial || state->field != PG_GETARG_INT32(1)))
		state = prepare_guard(fcinfo->flinfo, profile, PG_GETARG_INT32(1));
	if (state->way == WAY_NEVER)
		PG_RETURN_NULL();
	if (state->way == WAY_ALWAYS ||
		(state->way == WAY_TEAM && !PG_ARGISNULL(3) &&
		 crm_team_listed(&profile->teams[SCOPE_SUBTREE], PG_GETARG_INT64(3))) ||
		(state->way != WAY_ASK && !PG_ARGISNULL(2) && profile->member != 0 && PG_GETARG_INT64(2) == profile->member))
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	return guard_slowly(fcinfo, profile, state);
}

/*
 * Index of the first rule about an object, or about all others when none names it; -1 when there is none.
 */
int
crm_first_row_rule(const CrmProfile *profile, const char *object)
{
	int general = -1;

	for (int i = 0; i < profile->nrules; i++)
	{
		if (strcmp(profile->rules[i].object, object) == 0)
			return i;
		if (general < 0 && strcmp(profile->rules[i].object, "*") == 0)
			general = i;
	}
	return general;
}

/*
 * May the person do this with a row of this owner, team and grade (-1: the row has none)? first comes from crm_first_row_rule.
 */
bool
crm_row_allowed(const CrmProfile *profile, int first, int verb, bool owner_null, int64 owner, bool team_null,
				int64 team, int grade)
{
	bool own;

	if (profile->unrestricted)
		return true;
	own = !owner_null && profile->member != 0 && owner == profile->member;
	for (int i = first; i >= 0 && i < profile->nrules; i++)
	{
		const CrmRowRule *rule = &profile->rules[i];

		/* rules are by object */
		if (rule->object != profile->rules[first].object && strcmp(rule->object, profile->rules[first].object) != 0)
			break;
		if ((rule->verbs & verb) == 0)
			continue;
		if (verb & ROW_ANYONES)
			return true;
		if (rule->scope != SCOPE_ALL && !own)
		{
			if (rule->scope == SCOPE_OWN || team_null || !crm_team_listed(&profile->teams[rule->scope], team))
				continue;
		}
		if (grade < 0 || (grade >= rule->grade_min && grade <= rule->grade_max))
			return true;
	}
	return false;
}

/*
 * May the person read any row of an object?
 */
bool
crm_reads_any(const CrmProfile *profile, const char *object)
{
	return profile->unrestricted ||
		   crm_row_allowed(profile, crm_first_row_rule(profile, object), ROW_READ | ROW_ANYONES, true, 0, true, 0, -1);
}

/*
 * May the person run something? These rights stand among the row rules, without rows.
 */
bool
crm_may(const CrmProfile *profile, const char *function)
{
	char object[NAMEDATALEN];
	int first;

	if (profile->unrestricted)
		return true;
	snprintf(object, sizeof(object), "function:%s", function);
	first = crm_first_row_rule(profile, object);
	return first >= 0 && strcmp(profile->rules[first].object, object) == 0;
}

/*
 * The verb of a policy, as a bit; 0 for one we do not know, which nobody may do.
 */
static int
verb_of(const char *verb)
{
	return strcmp(verb, "read") == 0      ? ROW_READ
		   : strcmp(verb, "create") == 0  ? ROW_CREATE
		   : strcmp(verb, "update") == 0  ? ROW_UPDATE
		   : strcmp(verb, "delete") == 0  ? ROW_DELETE
		   : strcmp(verb, "export") == 0  ? ROW_EXPORT
		   : strcmp(verb, "summary") == 0 ? ROW_READ | ROW_SUMMARY
		   : strcmp(verb, "look") == 0    ? ROW_READ | ROW_ANYONES
										  : 0;
}

/* what of a call of row_visible is the same for every row */
typedef struct RowVisibleState
{
	uint64 profile; /* serial of the profile that first belongs to */
	int first;
	int verb;
} RowVisibleState;

/*
 * crm.row_visible(object text, verb text, owner bigint, team bigint, grade smallint). Object and verb must be constants.
 */
Datum
crm_row_visible(PG_FUNCTION_ARGS)
{
	const CrmProfile *profile = crm_profile();
	RowVisibleState *state = fcinfo->flinfo->fn_extra;

	if (profile->unrestricted)
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	if (state == NULL)
	{
		state = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(RowVisibleState));
		fcinfo->flinfo->fn_extra = state;
	}
	if (state->profile != profile->serial || !get_fn_expr_arg_stable(fcinfo->flinfo, 0) ||
		!get_fn_expr_arg_stable(fcinfo->flinfo, 1))
	{
		char *object = text_to_cstring(PG_GETARG_TEXT_PP(0));
		char *verb = text_to_cstring(PG_GETARG_TEXT_PP(1));

		state->first = crm_first_row_rule(profile, object);
		state->verb = verb_of(verb);
		state->profile = profile->serial;
		pfree(object);
		pfree(verb);
	}
	PG_RETURN_BOOL(crm_row_allowed(
		profile, state->first, state->verb, PG_ARGISNULL(2), PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2), PG_ARGISNULL(3),
		PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3), PG_ARGISNULL(4) ? -1 : PG_GETARG_INT16(4)));
}

/*
 * May this plan be folded? Only for the person whom the core knows the plan to be for: inside a SECURITY DEFINER function it would
 * not plan again when the caller is another, also where the definer is the first caller himself.
 */
static bool
may_fold(void)
{
	return crm_fold_enabled && GetUserId() == GetOuterUserId() && !InLocalUserIdChange();
}

/*
 * Planner support of crm.guard.
 */
Datum
crm_guard_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	Node *result = NULL;

	if (IsA(request, SupportRequestSimplify))
	{
		SupportRequestSimplify *simplify = (SupportRequestSimplify *) request;

		crm_plan_note_guard();

		/* without a planner there is no plan to note the dependency in */
		if (simplify->root != NULL)
		{
			FuncExpr *call = simplify->fcall;
			Node *value = linitial(call->args);

			result = crm_fold_guard(call->args, call->funcresulttype, call->funccollid);
			note_support(simplify->root, result != NULL);

			/* guard keeps the length of its type: with that known, the view's cast folds away and is not run for every row */
			if (result == NULL && exprType(value) == call->funcresulttype && exprTypmod(value) >= 0)
				result = (Node *) makeRelabelType((Expr *) copyObject(call), call->funcresulttype, exprTypmod(value),
												  exprCollation((Node *) call), COERCE_IMPLICIT_CAST);
		}
	}
	PG_RETURN_POINTER(result);
}

/*
 * The bare column, a NULL, or NULL when the answer depends on the row. The caller notes the dependency.
 */
Node *
crm_fold_guard(List *args, Oid resulttype, Oid resultcollid)
{
	const CrmProfile *profile;
	Node *value = linitial(args);
	Node *field = lsecond(args);
	CrmFieldRule rule;

	if (!may_fold() || !IsA(field, Const) || ((Const *) field)->constisnull || exprType(value) != resulttype)
		return NULL;

	profile = crm_profile();
	rule = crm_field_rule(profile, FIELD_READ, DatumGetInt32(((Const *) field)->constvalue));
	if (rule.mode == MODE_ALWAYS && !crm_profile_in_sandbox(profile) &&
		!crm_hides_keys(profile, DatumGetInt32(((Const *) field)->constvalue)))
		return value;
	if (rule.mode == MODE_NEVER)
		return (Node *) makeNullConst(resulttype, exprTypmod(value), exprCollation(value));
	return NULL;
}

/*
 * Planner support of crm.row_visible.
 */
Datum
crm_row_visible_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	Node *result = NULL;

	if (IsA(request, SupportRequestSimplify))
	{
		SupportRequestSimplify *simplify = (SupportRequestSimplify *) request;

		if (simplify->root != NULL)
		{
			result = fold_row_visible(simplify->fcall->args);
			note_support(simplify->root, result != NULL);
		}
	}
	PG_RETURN_POINTER(result);
}

/*
 * A condition that indexes know instead of the call: true, false, or comparisons of owner, team and grade.
 */
static Node *
fold_row_visible(List *args)
{
	const CrmProfile *profile;
	Node *object = linitial(args);
	Node *verb = lsecond(args);
	List *any = NIL;
	char *name;
	int bit;
	int first;

	if (!may_fold() || !IsA(object, Const) || !IsA(verb, Const) || ((Const *) object)->constisnull ||
		((Const *) verb)->constisnull)
		return NULL;
	name = TextDatumGetCString(((Const *) object)->constvalue);
	bit = verb_of(TextDatumGetCString(((Const *) verb)->constvalue));

	profile = crm_profile();
	if (profile->unrestricted)
		return makeBoolConst(true, false);
	first = crm_first_row_rule(profile, name);
	for (int i = first; i >= 0 && i < profile->nrules; i++)
	{
		const CrmRowRule *rule = &profile->rules[i];
		Node *condition;

		if (strcmp(rule->object, profile->rules[first].object) != 0)
			break;
		if ((rule->verbs & bit) == 0)
			continue;
		if (bit & ROW_ANYONES)
			return makeBoolConst(true, false);
		condition = fold_rule(rule, list_nth(args, 2), list_nth(args, 3), list_nth(args, 4));
		if (condition == NULL)
			return makeBoolConst(true, false);
		if (!list_member(any, condition))
			any = lappend(any, condition);
	}
	if (any == NIL)
		return makeBoolConst(false, false);
	return list_length(any) == 1 ? (Node *) linitial(any) : (Node *) makeBoolExpr(OR_EXPR, any, -1);
}

/*
 * A comparison of a row's grade with a bound, which holds for a row without a grade, too.
 */
static Node *
fold_grade(Node *grade, Oid operator, Oid function, int bound)
{
	OpExpr *op = (OpExpr *) make_opclause(operator, BOOLOID, false, (Expr *) copyObject(grade),
										  (Expr *) makeConst(INT2OID, -1, InvalidOid, sizeof(int16),
															 Int16GetDatum(bound), false, true),
										  InvalidOid, InvalidOid);
	NullTest *none = makeNode(NullTest);

	op->opfuncid = function;
	none->arg = (Expr *) copyObject(grade);
	none->nulltesttype = IS_NULL;
	none->location = -1;
	return (Node *) makeBoolExpr(OR_EXPR, list_make2(op, none), -1);
}

/*
 * The condition of one rule; NULL when it lets every row pass.
 */
static Node *
fold_rule(const CrmRowRule *rule, Node *owner, Node *team, Node *grade)
{
	static const Oid text_arg[] = {TEXTOID};
	List *all = NIL;

	if (rule->scope != SCOPE_ALL)
	{
		OpExpr *mine =
			(OpExpr *) make_opclause(INT8_EQUAL_OPERATOR, BOOLOID, false, (Expr *) copyObject(owner),
									 (Expr *) call_of_ours("me", INT8OID, NIL, NULL, 0), InvalidOid, InvalidOid);
		Node *rows = (Node *) mine;

		mine->opfuncid = F_INT8EQ;
		if (rule->scope != SCOPE_OWN)
		{
			ScalarArrayOpExpr *in_team = makeNode(ScalarArrayOpExpr);
			Const *scope = makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
									 CStringGetTextDatum(crm_scope_name(rule->scope)), false, false);

			in_team->opno = INT8_EQUAL_OPERATOR;
			in_team->opfuncid = F_INT8EQ;
			in_team->useOr = true;
			in_team->args =
				list_make2(copyObject(team), call_of_ours("my_teams", INT8ARRAYOID, list_make1(scope), text_arg, 1));
			in_team->location = -1;
			rows = (Node *) makeBoolExpr(OR_EXPR, list_make2(rows, in_team), -1);
		}
		all = lappend(all, rows);
	}
	if (rule->grade_min > GRADE_MIN)
		all = lappend(all, fold_grade(grade, INT2_GREATER_EQUAL_OPERATOR, F_INT2GE, rule->grade_min));
	if (rule->grade_max < GRADE_MAX)
		all = lappend(all, fold_grade(grade, INT2_LESS_EQUAL_OPERATOR, F_INT2LE, rule->grade_max));
	if (all == NIL)
		return NULL;
	return list_length(all) == 1 ? (Node *) linitial(all) : (Node *) makeBoolExpr(AND_EXPR, all, -1);
}

/*
 * A call of one of the extension's own functions.
 */
static FuncExpr *
call_of_ours(const char *name, Oid result, List *args, const Oid *types, int nargs)
{
	Oid function =
		LookupFuncName(list_make2(makeString(pstrdup(CRM_SCHEMA)), makeString(pstrdup(name))), nargs, types, false);

	return makeFuncExpr(function, result, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/*
 * Note in a plan that is being made what it depends on.
 */
static void
note_support(PlannerInfo *root, bool folded)
{
	PlannerGlobal *glob = root->glob;

	glob->dependsOnRole = true;
	crm_note_dependency(NULL, &glob->relationOids, &glob->invalItems, folded);
}

/*
 * Add an item unless it is there.
 */
static List *
add_item(List *items, int kind, uint32 value)
{
	ListCell *cell;
	PlanInvalItem *item;

	foreach (cell, items)
	{
		item = lfirst_node(PlanInvalItem, cell);
		if (item->cacheId == kind && item->hashValue == value)
			return items;
	}
	item = makeNode(PlanInvalItem);
	item->cacheId = kind;
	item->hashValue = value;
	return lappend(items, item);
}

/*
 * Add to a plan's lists what it depends on: the tables of the policies and, when it was folded, the profile.
 */
void
crm_note_dependency(PlannedStmt *stmt, List **relations, List **items, bool folded)
{
	const CrmProfile *profile = crm_profile();

	*relations = list_concat_unique_oid(*relations, crm_profile_relations());
	*items = add_item(*items, ITEM_TOUCHED, 0);
	if (folded)
	{
		*items = add_item(*items, ITEM_HASH_LOW, (uint32) profile->hash);
		*items = add_item(*items, ITEM_HASH_HIGH, (uint32) (profile->hash >> 32));
		if (crm_profile_in_sandbox(profile))
			*items = add_item(*items, ITEM_SANDBOX, 0);
	}
	if (stmt != NULL)
		stmt->dependsOnRole = true;
}

/*
 * Does a plan read guarded views?
 */
bool
crm_plan_is_guarded(const PlannedStmt *stmt)
{
	ListCell *cell;

	foreach (cell, stmt->invalItems)
		if (lfirst_node(PlanInvalItem, cell)->cacheId == ITEM_TOUCHED)
			return true;
	return false;
}

/*
 * Is somebody running EXPLAIN ANALYZE? Other modules may measure too, but only EXPLAIN throws the rows away.
 */
static bool
is_explain_analyze(const QueryDesc *query)
{
	if (query->instrument_options == 0 || query->dest == NULL)
		return false;
	switch (query->dest->mydest)
	{
		case DestNone:
		case DestIntoRel:
#if PG_VERSION_NUM >= 170000
		case DestExplainSerialize:
#endif
			return true;
		default: return false;
	}
}

/*
 * The last check before a plan runs: was it folded for the profile of this moment? The core plans again when the role or a policy
 * changes; this is for what it cannot know. EXPLAIN ANALYZE counts rows that the reader may not see, so it needs the right.
 */
static void
guard_executor_start(QueryDesc *query, int eflags)
{
	ListCell *cell;
	const CrmProfile *profile = NULL;
	bool folded = false;
	bool in_sandbox = false;

	foreach (cell, query->plannedstmt->invalItems)
	{
		PlanInvalItem *item = lfirst_node(PlanInvalItem, cell);
		bool fits = true;

		switch (item->cacheId)
		{
			case ITEM_TOUCHED: profile = crm_profile(); break;
			case ITEM_HASH_LOW:
				folded = true;
				fits = item->hashValue == (uint32) crm_profile()->hash;
				break;
			case ITEM_HASH_HIGH: fits = item->hashValue == (uint32) (crm_profile()->hash >> 32); break;
			case ITEM_SANDBOX: in_sandbox = true; break;
			default: break;
		}
		if (!fits)
		{
			ResetPlanCache();
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cached plan was made for other access rights"),
					 errhint("Run the statement again: it will be planned anew.")));
		}
	}
	if (profile != NULL)
	{
		if (folded && !in_sandbox && crm_profile_in_sandbox(profile))
		{
			ResetPlanCache();
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cached plan was made for other access rights"),
					 errhint("Run the statement again: it will be planned anew.")));
		}
		if (is_explain_analyze(query) && !profile->unrestricted && !crm_may(profile, "explain"))
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
							errmsg("permission denied to run EXPLAIN ANALYZE on guarded views"),
							errdetail("It counts rows that you may not see."),
							errhint("Use EXPLAIN, or ask an administrator.")));
	}

	if (previous_executor_start)
		previous_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	crm_write_note_start(query);
}
