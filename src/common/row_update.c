/*
 * row_update.c
 *		Update one row of a table, found by its primary key, as the UPDATE statement
 *
 *			UPDATE table SET columns WHERE key = .. AND version = .. RETURNING *
 *
 *		of the current user would, in a snapshot of its own; but what a statement makes ready every time it starts (compiled constraints,
 *		policies, conditions of triggers, predicates of indexes) is kept for the next row.
 *
 * It does the plain case only, and does it whole: rights, policies before and after, BEFORE and AFTER row triggers, stored generated
 * columns, constraints, indexes, foreign keys. Whatever is not plain is answered with ROW_NOT_PLAIN before anything has happened, and the
 * caller runs the statement: the row is not there, has another version, is hidden by a policy, was changed meanwhile, a key or a
 * generated column is to be written; the table is partitioned, a partition, inherited, has rules, triggers FOR EACH STATEMENT of updates,
 * virtual columns, policies with subqueries, or is being updated by this very function further up. So the
 * statement alone decides every case of concurrency and every refusal, and both ways answer alike.
 *
 * Values must have been coerced to the type and the length of their columns. They are copied.
 *
 * Locking: what the statement locks: the table and its indexes RowExclusive until the transaction ends, the row.
 *
 * Memory: an entry for each table and user, an executor state with all that was compiled, lives below CacheMemoryContext. No
 * reference to a relation, buffer or descriptor of the relation cache outlives a call. An entry is made anew when its table, any
 * function, type or role changes, and after an error passed through it, since its slots may speak of buffers that are let go.
 */
#include "common/row_update.h"
#include "common/invalidate.h"
#include "common/target.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_relation.h"
#include "rewrite/rowsecurity.h"
#include "tcop/utility.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define TARGET 1 /* place of the table in the range table */

typedef struct RowTableKey
{
	Oid relid;
	Oid user;
	uint32 unforced; /* the owner's own rows are not his policies' matter */
} RowTableKey;

/* triggers, and what the executor keeps of each */
typedef struct RowTriggers
{
	TriggerDesc *desc;
	FmgrInfo *functions;
	ExprState **conditions;
} RowTriggers;

typedef struct RowTable
{
	RowTableKey key;
	bool valid;  /* nothing that it was made of has changed */
	bool in_use; /* further up the stack */
	bool plain;
	bool checked; /* the user's rights to these columns; what they rest on makes the entry anew when it changes */
	bool allowed;
	MemoryContext context; /* the executor state's, NULL: none */
	CrmTarget target;
	RowTriggers all;
	RowTriggers most; /* without those of foreign keys to our key, which have nothing to do unless it changes */
#if PG_VERSION_NUM >= 160000
	RTEPermissionInfo *rights;
#else
	RangeTblEntry *rights;
#endif
	EPQState epq; /* the triggers ask for one; the row is locked before, so it is never used */
	ExprState *visible;
	bool generated; /* columns that depend on others */
	Oid key_index;
	int nkeys;
	ScanKeyData keys[INDEX_MAX_KEYS];
	Bitmapset *key_columns;
	Bitmapset *refused; /* columns that only a statement can refuse properly */
	TupleTableSlot *old_slot;
	TupleTableSlot *new_slot;
} RowTable;

static HTAB *tables = NULL;

static RowTable *find_table(Relation rel, const Bitmapset *columns);
static void build_table(RowTable *table, Relation rel);
static void part_triggers(RowTable *table);
static void use_triggers(RowTable *table, const RowTriggers *triggers);
static bool key_is_changed(RowTable *table, Relation rel);
static bool is_plain(Relation rel, Oid *key_index);
static bool add_policies(RowTable *table, Query *query, RangeTblEntry *rte);
static void add_key(RowTable *table, Relation index);
static CrmRowOutcome update_row(RowTable *table, Relation rel, const Datum *values, const bool *nulls,
								AttrNumber version_column, int32 version, ItemPointer where, HeapTuple *result,
								int32 *new_version);
static bool find_row(RowTable *table, Relation rel, const Datum *values, const bool *nulls);
static bool write_row(RowTable *table, Relation rel);
static void relation_changed(Datum arg, Oid relid);
static void catalog_changed(Datum arg, int cacheid, uint32 hashvalue);

/*
 * Register the callbacks.
 */
void
crm_row_update_init(void)
{
	crm_on_relation_change(relation_changed);
	/* functions are inlined and their rights checked when an expression is compiled; domains are, too; policies are for roles */
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, catalog_changed, (Datum) 0);
}

/*
 * Update the row of the table whose primary key stands in values (by attribute number - 1, as the new values of the columns do). columns are
 * attribute numbers less FirstLowInvalidHeapAttributeNumber. With a version_column, only the row of this version is updated.
 * where: the row's place, if the caller has locked it in this transaction against every other update, else NULL.
 * The new row comes back in the caller's memory, before AFTER triggers ran, as RETURNING would show it; and what stands in its version_column. Either
 * may be NULL, where the caller does not want it.
 */
CrmRowOutcome
crm_row_update(Oid relid, const Bitmapset *columns, const Datum *values, const bool *nulls, AttrNumber version_column,
			   int32 version, ItemPointer where, HeapTuple *result, int32 *new_version)
{
	Relation rel;
	RowTable *table;
	CrmRowOutcome volatile outcome = ROW_NOT_PLAIN;

	/* what refuses to run under row security has its own message */
	if (!row_security || columns == NULL)
		return ROW_NOT_PLAIN;
	PreventCommandIfReadOnly("UPDATE");
	PreventCommandIfParallelMode("UPDATE");

	rel = table_open(relid, RowExclusiveLock);
	table = find_table(rel, columns);
	if (table != NULL && table->plain && !bms_overlap(columns, table->refused))
	{
		MemoryContext old = CurrentMemoryContext;

		table->in_use = true;
		PG_TRY();
		{
			outcome = update_row(table, rel, values, nulls, version_column, version, where, result, new_version);
		}
		PG_CATCH();
		{
			table->in_use = false;
			table->valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
		table->in_use = false;
		MemoryContextSwitchTo(old);
	}
	table_close(rel, NoLock);
	return outcome;
}

/*
 * What is known of the table for this user and these columns; NULL while it is in use.
 */
static RowTable *
find_table(Relation rel, const Bitmapset *columns)
{
	RowTableKey key = {RelationGetRelid(rel), GetUserId(), InNoForceRLSOperation()};
	RowTable *table;
	bool found;

	if (tables == NULL)
	{
		HASHCTL ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(RowTableKey);
		ctl.entrysize = sizeof(RowTable);
		ctl.hcxt = CacheMemoryContext;
		tables = hash_create("crm row updates", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	table = hash_search(tables, &key, HASH_ENTER, &found);
	if (!found)
		memset((char *) table + sizeof(RowTableKey), 0, sizeof(RowTable) - sizeof(RowTableKey));
	if (table->in_use)
		return NULL;

	/* which generated columns are computed depends on the columns written */
	if (!table->valid || (table->generated && !bms_equal(table->rights->updatedCols, columns)))
		build_table(table, rel);
	if (table->plain && !bms_equal(table->rights->updatedCols, columns))
	{
		MemoryContext old = MemoryContextSwitchTo(table->context);

		bms_free(table->rights->updatedCols);
		table->rights->updatedCols = NULL;
		table->rights->updatedCols = bms_copy(columns);
		table->checked = false;
		MemoryContextSwitchTo(old);
		/* so does what an index is told */
		for (int i = 0; i < table->target.info->ri_NumIndices; i++)
			table->target.info->ri_IndexRelationInfo[i]->ii_CheckedUnchanged = false;
	}
	return table;
}

/*
 * Make an entry. On an error the half-made executor state goes with the memory it was made in. Messages that arrive while we work make the
 * next call work again; what concerns the table cannot change under our lock.
 */
static void
build_table(RowTable *table, Relation rel)
{
	EState *estate;
	MemoryContext old;
	Query *query;
	RangeTblEntry *rte;
	Relation index;

	if (table->context != NULL)
		MemoryContextDelete(table->context);
	memset((char *) table + sizeof(RowTableKey), 0, sizeof(RowTable) - sizeof(RowTableKey));
	table->valid = true;
	if (!is_plain(rel, &table->key_index))
		return;

	estate = CreateExecutorState();
	old = MemoryContextSwitchTo(estate->es_query_cxt);

	rte = makeNode(RangeTblEntry);
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	rte->eref = makeAlias(RelationGetRelationName(rel), NIL);
	query = makeNode(Query);
	query->commandType = CMD_UPDATE;
	query->resultRelation = TARGET;
	query->rtable = list_make1(rte);
#if PG_VERSION_NUM >= 160000
	table->rights = addRTEPermissionInfo(&query->rteperminfos, rte);
#else
	table->rights = rte;
#endif
	table->rights->requiredPerms = ACL_SELECT | ACL_UPDATE;
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);
		int member = att->attnum - FirstLowInvalidHeapAttributeNumber;

		if (!att->attisdropped)
			table->rights->selectedCols = bms_add_member(table->rights->selectedCols, member);
		if (att->attisdropped || att->attgenerated != '\0' || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			table->refused = bms_add_member(table->refused, member);
	}
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, query->rtable, query->rteperminfos, bms_make_singleton(TARGET));
#elif PG_VERSION_NUM >= 160000
	ExecInitRangeTable(estate, query->rtable, query->rteperminfos);
#else
	ExecInitRangeTable(estate, query->rtable);
#endif

	crm_target_make(&table->target, estate, rel, TARGET);
#if PG_VERSION_NUM >= 160000
	EvalPlanQualInit(&table->epq, estate, NULL, NIL, -1, NIL);
#else
	EvalPlanQualInit(&table->epq, estate, NULL, NIL, -1);
#endif
	table->generated = RelationGetDescr(rel)->constr != NULL && RelationGetDescr(rel)->constr->has_generated_stored;

	table->old_slot = crm_target_slot(&table->target, rel);
	table->new_slot = crm_target_slot(&table->target, rel);

	index = index_open(table->key_index, RowExclusiveLock);
	add_key(table, index);
	index_close(index, NoLock);
	part_triggers(table);

	table->plain = add_policies(table, query, rte);
	MemoryContextSwitchTo(old);

	MemoryContextSetParent(estate->es_query_cxt, CacheMemoryContext);
	table->context = estate->es_query_cxt;
}

/*
 * Find the triggers that have something to do when the key stays. A table that many others refer to has two for each of them that have not, and the
 * core asks every one about every row.
 */
static void
part_triggers(RowTable *table)
{
	ResultRelInfo *info = table->target.info;
	int n = 0;

	table->all.desc = info->ri_TrigDesc;
	table->all.functions = info->ri_TrigFunctions;
	table->all.conditions = info->ri_TrigWhenExprs;
	table->most = table->all;
	if (info->ri_TrigDesc == NULL)
		return;
	table->most.desc = palloc(sizeof(TriggerDesc));
	*table->most.desc = *info->ri_TrigDesc;
	table->most.desc->triggers = palloc(sizeof(Trigger) * info->ri_TrigDesc->numtriggers);
	table->most.functions = palloc0(sizeof(FmgrInfo) * info->ri_TrigDesc->numtriggers);
	table->most.conditions = palloc0(sizeof(ExprState *) * info->ri_TrigDesc->numtriggers);
	for (int i = 0; i < info->ri_TrigDesc->numtriggers; i++)
	{
		Trigger *trigger = &info->ri_TrigDesc->triggers[i];

		if (RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_PK && trigger->tgconstrindid == table->key_index)
			continue;
		table->most.desc->triggers[n] = *trigger;
		fmgr_info_cxt(trigger->tgfoid, &table->most.functions[n++], CurrentMemoryContext);
	}
	table->most.desc->numtriggers = n;
}

/*
 * From now on these triggers are the table's.
 */
static void
use_triggers(RowTable *table, const RowTriggers *triggers)
{
	table->target.info->ri_TrigDesc = triggers->desc;
	table->target.info->ri_TrigFunctions = triggers->functions;
	table->target.info->ri_TrigWhenExprs = triggers->conditions;
}

/*
 * Can an update of such a table be done here, and which index is the primary key's?
 */
static bool
is_plain(Relation rel, Oid *key_index)
{
	Relation index;
	bool usable;

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition || rel->rd_rel->relhassubclass ||
		rel->rd_rel->relhasrules || IsCatalogRelation(rel))
		return false;
#if PG_VERSION_NUM >= 180000
	if (RelationGetDescr(rel)->constr != NULL && RelationGetDescr(rel)->constr->has_generated_virtual)
		return false;
#endif
	if (rel->trigdesc != NULL &&
		(rel->trigdesc->trig_update_before_statement || rel->trigdesc->trig_update_after_statement ||
		 rel->trigdesc->trig_update_old_table || rel->trigdesc->trig_update_new_table))
		return false;

	/* a deferrable key may stand twice in the table */
	list_free(RelationGetIndexList(rel));
	*key_index = rel->rd_pkindex;
	if (!OidIsValid(*key_index))
		return false;
	index = index_open(*key_index, RowExclusiveLock);
	usable = index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid && index->rd_index->indimmediate;
	index_close(index, NoLock);
	return usable;
}

/*
 * Remember how to look for a key. Key columns are not written here.
 */
static void
add_key(RowTable *table, Relation index)
{
	table->nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	for (int i = 0; i < table->nkeys; i++)
	{
		AttrNumber column = index->rd_index->indkey.values[i];
		Oid family = index->rd_opfamily[i];
		Oid type = index->rd_opcintype[i];
		Oid operator= get_opfamily_member(family, type, type, BTEqualStrategyNumber);

		if (!OidIsValid(operator))
			elog(ERROR, "there is no equality in the operator family of a key");
		ScanKeyEntryInitialize(&table->keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[i],
							   get_opcode(operator), (Datum) 0);
		table->key_columns = bms_add_member(table->key_columns, column);
		table->refused = bms_add_member(table->refused, column - FirstLowInvalidHeapAttributeNumber);
	}
}

/*
 * Compile the policies that hold for the user: which rows he may update, and what may become of them. False when they hold subqueries.
 */
static bool
add_policies(RowTable *table, Query *query, RangeTblEntry *rte)
{
	List *quals;
	List *checks;
	ListCell *cell;
	bool has_policies;
	bool has_subqueries;

	get_row_security_policies(query, rte, TARGET, &quals, &checks, &has_policies, &has_subqueries);
	if (has_subqueries)
		return false;
	table->visible = ExecPrepareQual(quals, table->target.estate);
	table->target.info->ri_WithCheckOptions = checks;
	foreach (cell, checks)
	{
		WithCheckOption *check = lfirst_node(WithCheckOption, cell);

		table->target.info->ri_WithCheckOptionExprs =
			lappend(table->target.info->ri_WithCheckOptionExprs,
					ExecPrepareQual(make_ands_implicit((Expr *) check->qual), table->target.estate));
	}
	return true;
}

/*
 * The update, from its snapshot to its AFTER triggers.
 */
static CrmRowOutcome
update_row(RowTable *table, Relation rel, const Datum *values, const bool *nulls, AttrNumber version_column,
		   int32 version, ItemPointer where, HeapTuple *result, int32 *new_version)
{
	EState *estate = table->target.estate;
	MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
	CrmRowOutcome outcome = ROW_NOT_PLAIN;

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	estate->es_snapshot = GetActiveSnapshot();
	estate->es_output_cid = GetCurrentCommandId(true);
	table->target.info->ri_RelationDesc = rel;
	use_triggers(table, &table->most);

	if (!table->checked || ExecutorCheckPerms_hook != NULL)
	{
#if PG_VERSION_NUM >= 160000
		table->allowed = ExecCheckPermissions(estate->es_range_table, estate->es_rteperminfos, false);
#else
		table->allowed = ExecCheckRTPerms(estate->es_range_table, false);
#endif
		table->checked = true;
	}
	if (table->allowed && (where ? table_tuple_fetch_row_version(rel, where, estate->es_snapshot, table->old_slot)
								 : find_row(table, rel, values, nulls)))
	{
		bool isnull = true;
		Datum found = version_column > 0 ? slot_getattr(table->old_slot, version_column, &isnull) : (Datum) 0;
		TM_FailureData failure;

		/* a row that the user may not update is not locked either */
		GetPerTupleExprContext(estate)->ecxt_scantuple = table->old_slot;
		if ((version_column <= 0 || (!isnull && DatumGetInt32(found) == version)) &&
			ExecQual(table->visible, GetPerTupleExprContext(estate)) &&
			(where || table_tuple_lock(rel, &table->old_slot->tts_tid, estate->es_snapshot, table->old_slot,
									   estate->es_output_cid, ExecUpdateLockMode(estate, table->target.info),
									   LockWaitBlock, 0, &failure) == TM_Ok))
		{
			CheckCmdReplicaIdentity(rel, CMD_UPDATE);
			slot_getallattrs(table->old_slot);
			ExecClearTuple(table->new_slot);
			for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
			{
				bool written = bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, table->rights->updatedCols);
				bool dropped = TupleDescAttr(RelationGetDescr(rel), i)->attisdropped;

				table->new_slot->tts_values[i] = written ? values[i] : table->old_slot->tts_values[i];
				table->new_slot->tts_isnull[i] = dropped || (written ? nulls[i] : table->old_slot->tts_isnull[i]);
			}
			ExecStoreVirtualTuple(table->new_slot);
			ExecMaterializeSlot(table->new_slot);

			AfterTriggerBeginQuery();
			outcome = ROW_KEPT;
			if (write_row(table, rel))
			{
				outcome = ROW_UPDATED;
				if (new_version && version_column > 0)
					*new_version = DatumGetInt32(slot_getattr(table->new_slot, version_column, &isnull));
				if (result)
				{
					MemoryContextSwitchTo(caller);
					*result = ExecCopySlotHeapTuple(table->new_slot);
					MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
				}
			}
			AfterTriggerEndQuery(estate);
			crm_target_close_indexes(&table->target);
		}
	}

	if (!crm_target_release(&table->target))
		table->valid = false;

	PopActiveSnapshot();
	estate->es_snapshot = InvalidSnapshot;
	ExecClearTuple(table->old_slot);
	ExecClearTuple(table->new_slot);
	MemoryContextSwitchTo(caller);
	ReScanExprContext(GetPerTupleExprContext(estate));
	if (outcome != ROW_NOT_PLAIN)
		CommandCounterIncrement();
	return outcome;
}

/*
 * Find the row in the snapshot, by the key, into old_slot.
 */
static bool
find_row(RowTable *table, Relation rel, const Datum *values, const bool *nulls)
{
	Relation index = index_open(table->key_index, RowExclusiveLock);
	IndexScanDesc scan;
	bool found = true;

	for (int i = 0; i < table->nkeys; i++)
	{
		int column = index->rd_index->indkey.values[i] - 1;

		found = found && !nulls[column];
		table->keys[i].sk_argument = values[column];
	}
	if (found)
	{
#if PG_VERSION_NUM >= 180000
		scan = index_beginscan(rel, index, table->target.estate->es_snapshot, NULL, table->nkeys, 0);
#else
		scan = index_beginscan(rel, index, table->target.estate->es_snapshot, table->nkeys, 0);
#endif
		index_rescan(scan, table->keys, table->nkeys, NULL, 0);
		found = index_getnext_slot(scan, ForwardScanDirection, table->old_slot);
		index_endscan(scan);
	}
	index_close(index, NoLock);
	return found;
}

/*
 * Write new_slot over the row in old_slot, which is locked, in the order of the core's executor. False when nothing was to be done.
 */
static bool
write_row(RowTable *table, Relation rel)
{
	EState *estate = table->target.estate;
	ResultRelInfo *target = table->target.info;
	TupleTableSlot *slot = table->new_slot;
	ItemPointerData tid = table->old_slot->tts_tid;
	TM_FailureData failure;
	LockTupleMode mode;
	List *recheck = NIL;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;
#else
	bool indexes;
#endif

	if (target->ri_TrigDesc != NULL && target->ri_TrigDesc->trig_update_before_row &&
#if PG_VERSION_NUM >= 180000
		!ExecBRUpdateTriggers(estate, &table->epq, target, &tid, NULL, slot, NULL, NULL, false)
#elif PG_VERSION_NUM >= 160000
		!ExecBRUpdateTriggers(estate, &table->epq, target, &tid, NULL, slot, NULL, NULL)
#else
		!ExecBRUpdateTriggers(estate, &table->epq, target, &tid, NULL, slot, NULL)
#endif
	)
		return false;

	slot->tts_tableOid = RelationGetRelid(rel);
	if (table->generated)
		ExecComputeStoredGenerated(target, estate, slot, CMD_UPDATE);
	ExecMaterializeSlot(slot);
	if (target->ri_WithCheckOptions != NIL)
		ExecWithCheckOptions(WCO_RLS_UPDATE_CHECK, target, slot, estate);
	if (RelationGetDescr(rel)->constr != NULL)
		ExecConstraints(target, slot, estate);

	switch (table_tuple_update(rel, &tid, slot, estate->es_output_cid, estate->es_snapshot, InvalidSnapshot, true,
							   &failure, &mode, &indexes))
	{
		case TM_Ok: break;
		case TM_SelfModified:
			/* a BEFORE trigger updated the row itself */
			if (failure.cmax != estate->es_output_cid)
				ereport(ERROR, (errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
								errmsg("tuple to be updated was already modified by an operation triggered by the "
									   "current command"),
								errhint("Consider using an AFTER trigger instead of a BEFORE trigger to propagate "
										"changes to other rows.")));
			return false;
		default: elog(ERROR, "a row that is locked could not be updated");
	}

#if PG_VERSION_NUM >= 160000
	if (indexes != TU_None)
	{
		crm_target_open_indexes(&table->target);
		recheck = ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL, indexes == TU_Summarizing);
	}
#else
	if (indexes)
	{
		crm_target_open_indexes(&table->target);
		recheck = ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL);
	}
#endif
	/* columns of the key are not written here, but a BEFORE trigger may have */
	if (key_is_changed(table, rel))
		use_triggers(table, &table->all);
	ExecARUpdateTriggers(estate, target, NULL, NULL, &tid, NULL, slot, recheck, NULL, false);
	return true;
}

/*
 * Does the new row have another key than the old?
 */
static bool
key_is_changed(RowTable *table, Relation rel)
{
	for (int i = -1; (i = bms_next_member(table->key_columns, i)) >= 0;)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i - 1);
		bool old_null;
		bool new_null;
		Datum old_value = slot_getattr(table->old_slot, i, &old_null);
		Datum new_value = slot_getattr(table->new_slot, i, &new_null);

		if (old_null || new_null || !datum_image_eq(old_value, new_value, att->attbyval, att->attlen))
			return true;
	}
	return false;
}

/*
 * A relation changed: what is known of it is old.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	RowTable *table;

	if (tables == NULL)
		return;
	hash_seq_init(&status, tables);
	while ((table = hash_seq_search(&status)) != NULL)
		if (relid == InvalidOid || relid == table->key.relid)
			table->valid = false;
}

/*
 * A function, a type or a role changed: any expression may have been compiled with it.
 */
static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	relation_changed(arg, InvalidOid);
}
