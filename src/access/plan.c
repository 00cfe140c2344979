/*
 * plan.c
 *		An optimisation of plans over guarded views, never needed for their safety: a backend that does not have it yet only plans worse.
 *
 * Before the core plans, what the role sees of a field is decided already (the core would do so after it pulled the views up, and
 * a guarded column on the nullable side of an outer join keeps a place holder then, and its index is lost). And where the answer depends on
 * the row, an equality search for a field that is nearly unique gets the same condition on the column itself, so that the index finds the
 * candidates; guard still has the last word. Not for other fields: the estimates of the plan would tell how frequent a value is.
 *
 * The library may be loaded only when the planner first calls the support function of crm.guard: too late for that plan, so what is kept of
 * plans is made anew then.
 *
 * No locks. Memory: the query's; the set of searchable fields is kept in TopMemoryContext.
 */
#include "access/access.h"
#include "common/invalidate.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* our functions; looked up again when a function changes */
static Oid guard_function = InvalidOid;
static Oid me_function = InvalidOid;
static Oid teams_function = InvalidOid;
static Oid is_me_function = InvalidOid;
static Oid in_teams_function = InvalidOid;
static bool functions_known = false;
static bool in_place = false; /* was the hook there from the start of a plan? */

static planner_hook_type previous_planner = NULL;

/* numbers of the searchable fields; read once, and again when the registry's table changes */
static Bitmapset *searchable = NULL;
static bool searchable_known = false;
static Oid field_table = InvalidOid;

typedef struct FoldContext
{
	ParamListInfo params;
	bool folded; /* what was done holds for this profile alone */
} FoldContext;

static PlannedStmt *plan_guarded(Query *parse, const char *query_string, int options, ParamListInfo params);
static Oid find_function(const char *name, const Oid *types, int nargs);
static bool find_functions(void);
static bool mentions_guard(Node *node, void *context);
static Node *fold_guards(Node *node, void *arg);
static bool imply_searches(Node *node, void *context);
static Node *imply_search(Query *query, Node *condition, FoldContext *context);
static bool is_searchable(int field);
static void cheapen_plan(Plan *plan);
static void cheapen_plans(List *plans);
static Node *cheapen(Node *node, void *context);
static bool calls(Node *node, Oid function);
static void function_changed(Datum arg, int cacheid, uint32 hashvalue);
static void relation_changed(Datum arg, Oid relid);

/*
 * Put the hook in place.
 */
void
crm_plan_init(void)
{
	previous_planner = planner_hook;
	planner_hook = plan_guarded;
	CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
	crm_on_relation_change(relation_changed);
}

/*
 * The support function was called. If this hook was not there when the plan was begun, have it made again when it is kept.
 */
void
crm_plan_note_guard(void)
{
	if (in_place)
		return;
	in_place = true;
	ResetPlanCache();
}

/*
 * One of our functions; InvalidOid when there is none.
 */
static Oid
find_function(const char *name, const Oid *types, int nargs)
{
	return LookupFuncName(list_make2(makeString(pstrdup(CRM_SCHEMA)), makeString(pstrdup(name))), nargs, types, true);
}

/*
 * Is there a crm.guard? The others come along.
 */
static bool
find_functions(void)
{
	static const Oid guard_types[] = {ANYELEMENTOID, INT4OID, INT8OID, INT8OID};
	static const Oid team_types[] = {INT8OID, INT4OID};
	static const Oid scope_type = TEXTOID;
	static const Oid owner_type = INT8OID;

	if (!functions_known)
	{
		guard_function = InvalidOid;
		functions_known = true;
		if (OidIsValid(get_namespace_oid(CRM_SCHEMA, true)))
		{
			guard_function = find_function("guard", guard_types, lengthof(guard_types));
			me_function = find_function("me", NULL, 0);
			teams_function = find_function("my_teams", &scope_type, 1);
			is_me_function = find_function("_is_me", &owner_type, 1);
			in_teams_function = find_function("_in_my_teams", team_types, lengthof(team_types));
		}
	}
	return OidIsValid(guard_function);
}

/*
 * planner_hook
 */
static PlannedStmt *
plan_guarded(Query *parse, const char *query_string, int options, ParamListInfo params)
{
	PlannedStmt *result;
	FoldContext context = {params, false};

	in_place = true;

	/* inside a definer's function nothing is folded, so nothing is to be gained */
	if (crm_fold_enabled && GetUserId() == GetOuterUserId() && !InLocalUserIdChange() && find_functions() &&
		mentions_guard((Node *) parse, NULL))
	{
		parse = (Query *) fold_guards((Node *) parse, &context);
		(void) imply_searches((Node *) parse, &context);
	}
	result = previous_planner ? previous_planner(parse, query_string, options, params)
							  : standard_planner(parse, query_string, options, params);
	if (context.folded)
		crm_note_dependency(result, &result->relationOids, &result->invalItems, true);
	if (crm_plan_is_guarded(result) && find_functions() && OidIsValid(is_me_function) && OidIsValid(in_teams_function))
	{
		cheapen_plan(result->planTree);
		cheapen_plans(result->subplans);
	}
	return result;
}

/*
 * Does a guard stand anywhere in the query?
 */
static bool
mentions_guard(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == guard_function)
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, mentions_guard, context, 0);
	return expression_tree_walker(node, mentions_guard, context);
}

/*
 * Replace the guards that fold.
 */
static Node *
fold_guards(Node *node, void *arg)
{
	FoldContext *context = arg;

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, fold_guards, context, 0);
	if (IsA(node, FuncExpr))
	{
		FuncExpr *call = (FuncExpr *) node;

		if (call->funcid == guard_function)
		{
			Node *folded = crm_fold_guard(call->args, call->funcresulttype, call->funccollid);

			if (folded != NULL)
			{
				context->folded = true;
				return copyObject(folded);
			}
		}
		else if (list_length(call->args) >= 1 && IsA(linitial(call->args), FuncExpr) &&
				 ((FuncExpr *) linitial(call->args))->funcid == guard_function)
		{
			/* the cast that keeps the length of a type goes, too, once there is a column below */
			FoldContext inner = {NULL, false};
			Node *mutated = expression_tree_mutator(node, fold_guards, &inner);

			context->folded |= inner.folded;
			return inner.folded ? eval_const_expressions(NULL, mutated) : mutated;
		}
	}
	return expression_tree_mutator(node, fold_guards, context);
}

/*
 * Look for equality searches at every level of the query.
 */
static bool
imply_searches(Node *node, void *arg)
{
	FoldContext *context = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;

		if (query->jointree != NULL && query->jointree->quals != NULL)
		{
			Node *quals = query->jointree->quals;
			ListCell *cell;

			if (IsA(quals, BoolExpr) && ((BoolExpr *) quals)->boolop == AND_EXPR)
				foreach (cell, ((BoolExpr *) quals)->args)
					lfirst(cell) = imply_search(query, lfirst(cell), context);
			else
				query->jointree->quals = imply_search(query, quals, context);
		}
		return query_tree_walker(query, imply_searches, context, 0);
	}
	return expression_tree_walker(node, imply_searches, context);
}

/*
 * If the condition compares a guarded, searchable column of a view with a constant, add the condition on the bare column to
 * the view's own query. A text with a star could be the mask of a hidden value, which the index would not find: such a search is
 * left alone, and so is one for a value that is not known yet, unless hidden values are NULL for this person.
 *
 * Answers the condition itself, or one that is cheaper now.
 */
static Node *
imply_search(Query *query, Node *condition, FoldContext *context)
{
	OpExpr *op = (OpExpr *) condition;
	ParamListInfo params = context->params;
	Var *var;
	Node *value;
	RangeTblEntry *rte;
	Query *view;
	TargetEntry *entry;
	FuncExpr *guard;
	Const *field;
	Const *constant = NULL;
	Node *implied;
	CrmFieldRule rule;
	bool starless = false;

	if (!IsA(condition, OpExpr) || list_length(op->args) != 2 || op->opno != TextEqualOperator)
		return condition;
	var = linitial(op->args);
	value = lsecond(op->args);
	if (!IsA(var, Var))
	{
		var = lsecond(op->args);
		value = linitial(op->args);
	}
	if (!IsA(var, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return condition;
	if (IsA(value, Const))
		constant = (Const *) value;
	else if (IsA(value, Param) && ((Param *) value)->paramkind == PARAM_EXTERN)
	{
		Param *param = (Param *) value;

		/* only a custom plan knows the value, and it is made for this value alone */
		if (params != NULL && params->paramFetch == NULL && param->paramid > 0 && param->paramid <= params->numParams)
		{
			ParamExternData *known = &params->params[param->paramid - 1];

			if ((known->pflags & PARAM_FLAG_CONST) != 0 && !known->isnull && known->ptype == TEXTOID)
				constant = makeConst(TEXTOID, -1, param->paramcollid, -1, known->value, false, false);
		}
	}
	if (constant != NULL)
	{
		text *t;

		if (constant->constisnull || constant->consttype != TEXTOID)
			return condition;
		t = DatumGetTextPP(constant->constvalue);
		starless = memchr(VARDATA_ANY(t), '*', VARSIZE_ANY_EXHDR(t)) == NULL;
	}
	else if (!IsA(value, Param) || ((Param *) value)->paramkind != PARAM_EXTERN ||
			 ((Param *) value)->paramtype != TEXTOID)
		return condition;

	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind != RTE_SUBQUERY || rte->subquery == NULL)
		return condition;
	view = rte->subquery;
	if (view->hasAggs || view->hasWindowFuncs || view->setOperations != NULL || view->groupClause != NIL ||
		view->distinctClause != NIL || view->limitCount != NULL || view->limitOffset != NULL || view->jointree == NULL)
		return condition;
	entry = get_tle_by_resno(view->targetList, var->varattno);
	if (entry == NULL || !IsA(entry->expr, FuncExpr))
		return condition;
	guard = (FuncExpr *) entry->expr;
	if (guard->funcid != guard_function || !IsA(linitial(guard->args), Var) || !IsA(lsecond(guard->args), Const))
		return condition;
	field = lsecond(guard->args);
	if (field->constisnull || !is_searchable(DatumGetInt32(field->constvalue)))
		return condition;

	/* who always sees the mask finds nothing, and the index would only tell by its time that there is something */
	rule = crm_field_rule(crm_profile(), FIELD_READ, DatumGetInt32(field->constvalue));
	if (rule.mode == MODE_MASK || (!starless && (rule.mask != MASK_NULL || crm_profile_in_sandbox(crm_profile()))))
		return condition;

	implied =
		(Node *) make_opclause(op->opno, BOOLOID, false, copyObject(linitial(guard->args)),
							   (Expr *) copyObject(constant ? (Node *) constant : value), InvalidOid, op->inputcollid);
	set_opfuncid((OpExpr *) implied);
	view->jointree->quals = make_and_qual(view->jointree->quals, implied);
	context->folded = true;

	/* the value is the right one now: where a hidden one is NULL, it only remains to ask whether it is shown */
	if (rule.mask == MASK_NULL && !crm_profile_in_sandbox(crm_profile()))
	{
		NullTest *shown = makeNode(NullTest);

		shown->arg = (Expr *) var;
		shown->nulltesttype = IS_NOT_NULL;
		shown->location = -1;
		return (Node *) shown;
	}
	return condition;
}

/*
 * Is the field nearly unique?
 */
static bool
is_searchable(int field)
{
	if (!searchable_known)
	{
		Oid schema = get_namespace_oid(CRM_DATA_SCHEMA, true);
		Relation rel;
		SysScanDesc scan;
		HeapTuple tuple;
		Bitmapset *found = NULL;
		MemoryContext old;

		field_table = OidIsValid(schema) ? get_relname_relid("field", schema) : InvalidOid;
		if (!OidIsValid(field_table))
			return false;
		rel = table_open(field_table, AccessShareLock);
		scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
		old = MemoryContextSwitchTo(TopMemoryContext);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			bool isnull;
			int id = DatumGetInt32(heap_getattr(tuple, get_attnum(field_table, "id"), RelationGetDescr(rel), &isnull));

			if (id < 1000000 && DatumGetBool(heap_getattr(tuple, get_attnum(field_table, "searchable"),
														  RelationGetDescr(rel), &isnull)))
				found = bms_add_member(found, id);
		}
		MemoryContextSwitchTo(old);
		systable_endscan(scan);
		table_close(rel, AccessShareLock);
		bms_free(searchable);
		searchable = found;
		searchable_known = true;
	}
	return bms_is_member(field, searchable);
}

/*
 * Give the filters of all scans of a plan their cheap form. What an index or a join uses stays as it is.
 */
static void
cheapen_plan(Plan *plan)
{
	if (plan == NULL)
		return;
	switch (nodeTag(plan))
	{
		case T_BitmapHeapScan:
			/* asked of every row of a page whose rows the bitmap no longer knows */
			((BitmapHeapScan *) plan)->bitmapqualorig =
				(List *) cheapen((Node *) ((BitmapHeapScan *) plan)->bitmapqualorig, NULL);
			/* FALLTHROUGH */
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_TidScan:
		case T_TidRangeScan: plan->qual = (List *) cheapen((Node *) plan->qual, NULL); return;
		case T_SubqueryScan: cheapen_plan(((SubqueryScan *) plan)->subplan); break;
		case T_Append: cheapen_plans(((Append *) plan)->appendplans); break;
		case T_MergeAppend: cheapen_plans(((MergeAppend *) plan)->mergeplans); break;
		default: break;
	}
	cheapen_plan(plan->lefttree);
	cheapen_plan(plan->righttree);
}

/*
 * The same for a list of them.
 */
static void
cheapen_plans(List *plans)
{
	ListCell *cell;

	foreach (cell, plans)
		cheapen_plan(lfirst(cell));
}

/*
 * owner = crm.me() becomes crm._is_me(owner), and team = ANY (crm.my_teams('subtree')) becomes crm._in_my_teams(team, ..): they answer alike.
 */
static Node *
cheapen(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, OpExpr) && ((OpExpr *) node)->opno == INT8_EQUAL_OPERATOR)
	{
		List *args = ((OpExpr *) node)->args;
		Node *owner = calls(lsecond(args), me_function)    ? linitial(args)
					  : calls(linitial(args), me_function) ? lsecond(args)
														   : NULL;

		if (owner != NULL)
			return (Node *) makeFuncExpr(is_me_function, BOOLOID, list_make1(copyObject(owner)), InvalidOid, InvalidOid,
										 COERCE_EXPLICIT_CALL);
	}
	if (IsA(node, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) node)->opno == INT8_EQUAL_OPERATOR &&
		((ScalarArrayOpExpr *) node)->useOr)
	{
		List *args = ((ScalarArrayOpExpr *) node)->args;

		if (calls(lsecond(args), teams_function))
		{
			Const *name = linitial(((FuncExpr *) lsecond(args))->args);
			int scope = IsA(name, Const) && !name->constisnull ? crm_scope_named(TextDatumGetCString(name->constvalue))
															   : SCOPE_ALL;

			/* any other name is an error when it is asked */
			if (scope != SCOPE_ALL)
				return (Node *) makeFuncExpr(
					in_teams_function, BOOLOID,
					list_make2(copyObject(linitial(args)),
							   makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(scope), false, true)),
					InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
		}
	}
	return expression_tree_mutator(node, cheapen, context);
}

/*
 * Is it a call of this function?
 */
static bool
calls(Node *node, Oid function)
{
	return IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == function;
}

/*
 * A function changed; it may have been ours.
 */
static void
function_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	functions_known = false;
}

/*
 * A table changed; it may have been the registry.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == field_table)
		searchable_known = false;
}
