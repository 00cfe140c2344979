/*
 * direct.c
 *		Rows of the engine's own tables, read and inserted without a statement.
 *
 * A write to a customer reads one row by its key, locks it, looks for an operation and inserts two rows. As statements these cost
 * more in starting and ending an executor than in doing their work. What is here does what the executor would: constraints, row triggers,
 * every index, defaults of columns that somebody added, triggers of rows and of statements: what lies between begin and end of an insert is
 * one. It knows no views, no row security and no rights: the caller has asked. Row security of ours lets the engine do all; whether somebody
 * added to it, crm_direct_restricted() tells.
 *
 * The core looks up what a foreign key refers to by a statement for each, half of what such a row costs. A key of one column is looked up
 * here, where the row that it refers to is locked as the core locks it; only where none is found is the core's trigger left to look
 * again, and to say so.
 *
 * Locking: a table is locked as a statement would lock it, until the transaction ends. crm_direct_row() locks a row as FOR NO KEY UPDATE does:
 * it waits for whoever holds it and then reads the row's last version; under REPEATABLE READ and above a row changed since the snapshot
 * is 40001.
 *
 * Memory: what an insert compiles (constraints, conditions of indexes, defaults) is kept below CacheMemoryContext until the table, a function
 * or a type changes, or an error passed through it; no reference to a relation or buffer outlives it. Tuples found are copied into the caller's.
 */
#include "crm.h"
#include "common/invalidate.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_policy.h"
#include "commands/trigger.h"
#include "common/direct.h"
#include "common/target.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* A foreign key of one column. */
typedef struct Reference
{
	int trigger; /* that checks it */
	char enabled;
	AttrNumber column;
	Oid relid; /* what it refers to */
	Oid index;
	ScanKeyData key;
} Reference;

/* An insert under way, and what is kept of it for the next into the same table. */
struct CrmInsert
{
	Oid relid;                       /* hash key */
	bool valid;                      /* nothing that it was made of has changed */
	bool in_use;                     /* further up the stack, or left by an error */
	bool once;                       /* not kept */
	bool events;                     /* there are triggers */
	TransitionCaptureState *capture; /* the rows, for triggers that ask for them all */
	MemoryContext context;           /* the executor state's, NULL: none */
	CrmTarget target;
	TupleTableSlot *slot;
	ExprState **defaults; /* by column, for columns that the caller does not name; NULL: none */
	int ncolumns;
	AttrNumber places[CRM_DIRECT_COLUMNS];
	int nreferences;
	Reference *references;
	Relation rel;
};

static HTAB *inserts = NULL;
static bool restricted = false;
static bool restricted_known = false;

static Oid partition_of(Relation parent, Datum key);
static AttrNumber place_of(TupleDesc desc, const char *name, Oid type, int hint);
static void make_insert(CrmInsert *insert, Relation rel, const CrmColumn *columns, int n);
static void read_references(CrmInsert *insert, Relation rel);
static void check_references(CrmInsert *insert);
static void end_of_transaction(XactEvent event, void *arg);
static void relation_changed(Datum arg, Oid relid);
static void catalog_changed(Datum arg, int cacheid, uint32 hashvalue);

/*
 * Called when the library is loaded.
 */
void
crm_direct_init(void)
{
	RegisterXactCallback(end_of_transaction, NULL);
	crm_on_relation_change(relation_changed);
	CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, catalog_changed, (Datum) 0);
}

/*
 * A table of the engine by its name.
 */
Oid
crm_direct_table(const char *name)
{
	Oid relid = get_relname_relid(name, get_namespace_oid(CRM_DATA_SCHEMA, false));

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("there is no table %s.%s", CRM_DATA_SCHEMA, name),
						errhint("Run CALL %s.migrate().", CRM_SCHEMA)));
	return relid;
}

/*
 * The partition for a key, of a table that is partitioned by the range of one column. The table is open and locked, the partition comes locked:
 * a month that was attached while we waited for the lock takes its rows from the one that took everything before.
 */
Oid
crm_direct_partition(Relation parent, Datum key)
{
	Oid part = partition_of(parent, key);

	for (;;)
	{
		Oid now;

		LockRelationOid(part, RowExclusiveLock);
		now = partition_of(parent, key);
		if (now == part)
			return part;
		UnlockRelationOid(part, RowExclusiveLock);
		part = now;
	}
}

/*
 * The partition for a key as it is known at this moment.
 */
static Oid
partition_of(Relation parent, Datum key)
{
	PartitionKey how = RelationGetPartitionKey(parent);
	PartitionDesc parts = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = parts->boundinfo;
	bool equal;
	int place;

	if (how == NULL || how->strategy != PARTITION_STRATEGY_RANGE || how->partnatts != 1 || bounds == NULL)
		elog(ERROR, "table %s is not partitioned by the range of one column", RelationGetRelationName(parent));
	place =
		bounds
			->indexes[1 + partition_range_datum_bsearch(how->partsupfunc, how->partcollation, bounds, 1, &key, &equal)];
	if (place < 0)
		place = bounds->default_index;
	if (place < 0 || !parts->is_leaf[place])
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
						errmsg("table %s has no partition for a row", RelationGetRelationName(parent)),
						errhint("Run CALL %s.migrate().", CRM_SCHEMA)));
	return parts->oids[place];
}

/*
 * Column of a name and type (InvalidOid: any), at its usual place or wherever it is.
 */
static AttrNumber
place_of(TupleDesc desc, const char *name, Oid type, int hint)
{
	int place = hint < desc->natts ? hint : 0;

	for (int i = 0; i < desc->natts; i++, place = (place + 1) % desc->natts)
	{
		Form_pg_attribute att = TupleDescAttr(desc, place);

		if (strcmp(NameStr(att->attname), name) == 0 && !att->attisdropped &&
			(!OidIsValid(type) || att->atttypid == type))
			return place + 1;
	}
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the tables of %s are not those of this version of its library", CRM_SCHEMA),
					errdetail("Column %s of %s is missing or of another type.", name,
							  quote_identifier(get_rel_name(TupleDescAttr(desc, 0)->attrelid))),
					errhint("Run CALL %s.migrate().", CRM_SCHEMA)));
}

/*
 * Column of a name and type; InvalidOid where no value of it is taken.
 */
AttrNumber
crm_direct_column(TupleDesc desc, const char *name, Oid type)
{
	return place_of(desc, name, type, 0);
}

/*
 * A key of a look-up by a column of type text.
 */
void
crm_direct_text_key(ScanKey key, Relation rel, const char *column, Datum value)
{
	ScanKeyInit(key, crm_direct_column(RelationGetDescr(rel), column, TEXTOID), BTEqualStrategyNumber, F_TEXTEQ, value);
	key->sk_collation = DEFAULT_COLLATION_OID;
}

/*
 * A column of a row by its name and type.
 */
Datum
crm_direct_value(HeapTuple row, Relation rel, const char *column, Oid type, bool *isnull)
{
	return heap_getattr(row, crm_direct_column(RelationGetDescr(rel), column, type), RelationGetDescr(rel), isnull);
}

/*
 * Is a column of a row NULL?
 */
bool
crm_direct_is_null(HeapTuple row, Relation rel, const char *column)
{
	return heap_attisnull(row, crm_direct_column(RelationGetDescr(rel), column, InvalidOid), RelationGetDescr(rel));
}

/*
 * Did anybody put a restrictive policy on a table of the engine, for others than the people? What is done here asks no policies, so whoever
 * does in C what an SQL statement could do, leaves it to the statement then.
 */
bool
crm_direct_restricted(void)
{
	Oid schema;
	Oid gate;
	Relation rel;
	SysScanDesc scan;
	HeapTuple row;

	if (restricted_known)
		return restricted;
	restricted_known = true;
	restricted = false;
	schema = get_namespace_oid(CRM_DATA_SCHEMA, false);
	gate = get_role_oid(CRM_GATE, false);
	rel = table_open(PolicyRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while ((row = systable_getnext(scan)) != NULL)
	{
		Form_pg_policy policy = (Form_pg_policy) GETSTRUCT(row);
		ArrayType *roles;
		bool isnull;

		if (policy->polpermissive || get_rel_namespace(policy->polrelid) != schema)
			continue;
		roles = DatumGetArrayTypeP(heap_getattr(row, Anum_pg_policy_polroles, RelationGetDescr(rel), &isnull));
		if (ArrayGetNItems(ARR_NDIM(roles), ARR_DIMS(roles)) != 1 || *(Oid *) ARR_DATA_PTR(roles) != gate)
			restricted = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return restricted;
}

/*
 * Has the table triggers that fire once for an INSERT statement? A statement on a partitioned table fires those of the table that it names, an
 * insert into the partition the partition's.
 */
bool
crm_direct_fires_once(Relation rel)
{
	return rel->trigdesc != NULL &&
		   (rel->trigdesc->trig_insert_before_statement || rel->trigdesc->trig_insert_after_statement ||
			rel->trigdesc->trig_insert_new_table);
}

/*
 * Start to insert into a table. columns: those that come with each row, in their order, the same for every insert into the table; others
 * get their defaults.
 */
CrmInsert *
crm_insert_begin(Oid relid, const CrmColumn *columns, int n)
{
	Relation rel = table_open(relid, RowExclusiveLock);
	CrmInsert *insert;
	bool found;

	PreventCommandIfReadOnly("INSERT");
	if (inserts == NULL)
	{
		HASHCTL ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(CrmInsert);
		ctl.hcxt = CacheMemoryContext;
		inserts = hash_create("crm inserts", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	insert = hash_search(inserts, &relid, HASH_ENTER, &found);
	if (!found)
	{
		insert->context = NULL;
		insert->in_use = insert->once = false;
	}
	/* a trigger inserts where we insert: that one is made for the occasion */
	if (insert->in_use)
	{
		insert = palloc0(sizeof(CrmInsert));
		insert->once = true;
	}
	if (!found || insert->context == NULL || !insert->valid)
		make_insert(insert, rel, columns, n);
	insert->rel = rel;
	insert->in_use = true;
	insert->target.info->ri_RelationDesc = rel;
	crm_target_open_indexes(&insert->target);
	insert->target.estate->es_output_cid = GetCurrentCommandId(true);
	insert->capture = NULL;
	if (insert->events)
	{
		AfterTriggerBeginQuery();
		insert->capture = MakeTransitionCaptureState(insert->target.info->ri_TrigDesc, relid, CMD_INSERT);
		ExecBSInsertTriggers(insert->target.estate, insert->target.info);
	}
	return insert;
}

/*
 * Make ready what does not change from one insert to the next. It lives below CacheMemoryContext and holds nothing of the relation cache.
 */
static void
make_insert(CrmInsert *insert, Relation rel, const CrmColumn *columns, int n)
{
	TupleDesc desc = RelationGetDescr(rel);
	EState *estate;
	MemoryContext old;
	bool named[MaxHeapAttributeNumber] = {false};

	Assert(n <= CRM_DIRECT_COLUMNS);
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		elog(ERROR, "%s is not a plain table", RelationGetRelationName(rel));
	if (insert->context)
		MemoryContextDelete(insert->context);
	insert->context = NULL;
	insert->valid = true;
	estate = CreateExecutorState();
	old = MemoryContextSwitchTo(estate->es_query_cxt);
	crm_target_make(&insert->target, estate, rel, 0);
	insert->slot = crm_target_slot(&insert->target, rel);
	insert->events = insert->target.info->ri_TrigDesc != NULL;
	insert->ncolumns = n;
	for (int i = 0; i < n; i++)
	{
		insert->places[i] = place_of(desc, columns[i].name, columns[i].type, i);
		named[insert->places[i] - 1] = true;
	}
	insert->defaults = NULL;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Expr *value;

		if (att->attgenerated)
			elog(ERROR, "table %s has generated columns", RelationGetRelationName(rel));
		if (named[i] || att->attisdropped || (!att->atthasdef && !att->attidentity))
			continue;
		value = (Expr *) build_column_default(rel, i + 1);
		if (value == NULL)
			continue;
		if (insert->defaults == NULL)
			insert->defaults = palloc0(desc->natts * sizeof(ExprState *));
		insert->defaults[i] = ExecPrepareExpr(value, estate);
	}
	read_references(insert, rel);
	MemoryContextSwitchTo(old);
	if (!insert->once)
		MemoryContextSetParent(estate->es_query_cxt, CacheMemoryContext);
	insert->context = estate->es_query_cxt;
}

/*
 * The foreign keys that can be looked up here: of one column, of the type of what they refer to by its own equality, checked at once.
 */
static void
read_references(CrmInsert *insert, Relation rel)
{
	TriggerDesc *triggers = insert->target.info->ri_TrigDesc;
	List *keys = copyObject(RelationGetFKeyList(rel)); /* the relation cache may let go of its own */
	ListCell *cell;

	insert->nreferences = 0;
	insert->references = NULL;
	if (triggers == NULL || keys == NIL)
		return;
	insert->references = palloc(triggers->numtriggers * sizeof(Reference));
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];
		Reference *reference = &insert->references[insert->nreferences];

		if (trigger->tgfoid != F_RI_FKEY_CHECK_INS || trigger->tgdeferrable || !OidIsValid(trigger->tgconstrindid) ||
			get_rel_relkind(trigger->tgconstrrelid) != RELKIND_RELATION)
			continue;
		foreach (cell, keys)
		{
			ForeignKeyCacheInfo *info = lfirst_node(ForeignKeyCacheInfo, cell);
			Relation index;
			Oid type;
			Oid equal;

			if (info->conoid != trigger->tgconstraint || info->nkeys != 1)
				continue;
			index = index_open(trigger->tgconstrindid, AccessShareLock);
			type = TupleDescAttr(RelationGetDescr(rel), info->conkey[0] - 1)->atttypid;
			equal = index->rd_rel->relam == BTREE_AM_OID && index->rd_opcintype[0] == type
						? get_opfamily_member(index->rd_opfamily[0], type, type, BTEqualStrategyNumber)
						: InvalidOid;
			if (OidIsValid(equal) && equal == info->conpfeqop[0] && IndexRelationGetNumberOfKeyAttributes(index) == 1 &&
				index->rd_index->indkey.values[0] == info->confkey[0])
			{
				reference->trigger = i;
				reference->enabled = trigger->tgenabled;
				reference->column = info->conkey[0];
				reference->relid = trigger->tgconstrrelid;
				reference->index = trigger->tgconstrindid;
				ScanKeyEntryInitialize(&reference->key, 0, 1, BTEqualStrategyNumber, InvalidOid,
									   index->rd_indcollation[0], get_opcode(equal), (Datum) 0);
				insert->nreferences++;
			}
			index_close(index, AccessShareLock);
			break;
		}
	}
}

/*
 * Is the row there that a foreign key refers to? It is locked then, as the core's trigger does.
 */
static bool
reference_holds(Reference *reference, Datum value, CommandId cid, Snapshot snapshot)
{
	Relation rel = table_open(reference->relid, RowShareLock);
	Relation index = index_open(reference->index, RowShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan;
	TM_FailureData failure;
	bool holds = false;

	reference->key.sk_argument = value;
	scan = index_beginscan(rel, index, snapshot,
#if PG_VERSION_NUM >= 180000
						   NULL,
#endif
						   1, 0);
	index_rescan(scan, &reference->key, 1, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		ItemPointerData tid = slot->tts_tid;

		/* a later version may have another key */
		holds = table_tuple_lock(rel, &tid, snapshot, slot, cid, LockTupleKeyShare, LockWaitBlock,
								 TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS | TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
								 &failure) == TM_Ok &&
				!failure.traversed;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return holds;
}

/*
 * Look up what the row in the slot refers to. The triggers of those that are found need not fire.
 */
static void
check_references(CrmInsert *insert)
{
	Snapshot snapshot;

	for (int i = 0; i < insert->nreferences; i++)
		insert->target.info->ri_TrigDesc->triggers[insert->references[i].trigger].tgenabled =
			insert->references[i].enabled;
	if (insert->nreferences == 0 || IsolationUsesXactSnapshot() ||
		SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < insert->nreferences; i++)
	{
		Reference *reference = &insert->references[i];

		bool isnull;
		Datum value = slot_getattr(insert->slot, reference->column, &isnull);

		if (reference->enabled != TRIGGER_DISABLED &&
			(isnull || reference_holds(reference, value, insert->target.estate->es_output_cid, snapshot)))
			insert->target.info->ri_TrigDesc->triggers[reference->trigger].tgenabled = TRIGGER_DISABLED;
	}
	UnregisterSnapshot(snapshot);
}

/*
 * Insert a row. values and nulls: in the order of the columns.
 */
void
crm_insert_row(CrmInsert *insert, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = insert->slot;
	TriggerDesc *triggers = insert->target.info->ri_TrigDesc;
	MemoryContext old = MemoryContextSwitchTo(GetPerTupleMemoryContext(insert->target.estate));
	List *recheck = NIL;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	memset(slot->tts_values, 0, slot->tts_tupleDescriptor->natts * sizeof(Datum));
	if (insert->defaults)
		for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
			if (insert->defaults[i])
				slot->tts_values[i] = ExecEvalExpr(insert->defaults[i], GetPerTupleExprContext(insert->target.estate),
												   &slot->tts_isnull[i]);
	for (int i = 0; i < insert->ncolumns; i++)
	{
		slot->tts_values[insert->places[i] - 1] = values[i];
		slot->tts_isnull[insert->places[i] - 1] = nulls[i];
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(insert->rel);

	if (triggers == NULL || !triggers->trig_insert_before_row ||
		ExecBRInsertTriggers(insert->target.estate, insert->target.info, slot))
	{
		if (insert->rel->rd_att->constr)
			ExecConstraints(insert->target.info, slot, insert->target.estate);
		table_tuple_insert(insert->rel, slot, insert->target.estate->es_output_cid, 0, NULL);
		if (insert->target.info->ri_NumIndices > 0)
			recheck = ExecInsertIndexTuples(insert->target.info, slot, insert->target.estate, false, false, NULL, NIL
#if PG_VERSION_NUM >= 160000
											,
											false
#endif
			);
		check_references(insert);
		if (insert->events)
			ExecARInsertTriggers(insert->target.estate, insert->target.info, slot, recheck, insert->capture);
	}
	ExecClearTuple(slot);
	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(insert->target.estate);
}

/*
 * End an insert: triggers fire, and the rows are seen by the next command.
 */
void
crm_insert_end(CrmInsert *insert)
{
	if (insert->events)
	{
		ExecASInsertTriggers(insert->target.estate, insert->target.info, insert->capture);
		AfterTriggerEndQuery(insert->target.estate);
	}
	crm_target_close_indexes(&insert->target);
	if (!crm_target_release(&insert->target))
		insert->valid = false;
	table_close(insert->rel, NoLock);
	insert->in_use = false;
	if (insert->once)
	{
		MemoryContextDelete(insert->context);
		pfree(insert);
	}
	CommandCounterIncrement();
}

/*
 * The transaction is over. An insert that an error left half-way is made anew.
 */
static void
end_of_transaction(XactEvent event, void *arg)
{
	HASH_SEQ_STATUS status;
	CrmInsert *insert;

	if (inserts == NULL || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE))
		return;
	hash_seq_init(&status, inserts);
	while ((insert = hash_seq_search(&status)) != NULL)
		if (insert->in_use)
			insert->in_use = insert->valid = false;
}

/*
 * Relation cache callback: a table changed. Only sets a flag.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	CrmInsert *insert;

	restricted_known = false;
	if (inserts == NULL)
		return;
	if (OidIsValid(relid))
	{
		insert = hash_search(inserts, &relid, HASH_FIND, NULL);
		if (insert)
			insert->valid = false;
		return;
	}
	hash_seq_init(&status, inserts);
	while ((insert = hash_seq_search(&status)) != NULL)
		insert->valid = false;
}

/*
 * Catalog cache callback: a function or type changed, and any expression may have been compiled with it.
 */
static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	relation_changed(arg, InvalidOid);
}

/*
 * The first row that an index finds and a function accepts (NULL: any), as it is now; NULL when there is none. The keys name columns of the
 * table. The table is open. In the caller's memory. Not a scan as of a system table: ignore_system_indexes would have it read the whole table,
 * also what the condition of a partial index leaves out.
 */
HeapTuple
crm_direct_find(Relation rel, Oid index, int nkeys, ScanKey keys, bool (*accept)(HeapTuple, TupleDesc))
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Relation by = index_open(index, AccessShareLock);
	IndexScanDesc scan;
	HeapTuple found = NULL;

	for (int i = 0; i < nkeys; i++)
	{
		int place = 0;

		while (place < by->rd_index->indnkeyatts && by->rd_index->indkey.values[place] != keys[i].sk_attno)
			place++;
		if (place == by->rd_index->indnkeyatts)
			elog(ERROR, "column %d is not in index %s", keys[i].sk_attno, RelationGetRelationName(by));
		keys[i].sk_attno = place + 1;
	}
	scan = index_beginscan(rel, by, snapshot,
#if PG_VERSION_NUM >= 180000
						   NULL,
#endif
						   nkeys, 0);
	index_rescan(scan, keys, nkeys, NULL, 0);
	while (found == NULL && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (accept == NULL || accept(ExecFetchSlotHeapTuple(slot, false, NULL), RelationGetDescr(rel)))
			found = ExecCopySlotHeapTuple(slot);
	}
	index_endscan(scan);
	index_close(by, AccessShareLock);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * A row by its primary key "id", locked if wanted; NULL when there is none. The table is open. In the caller's memory.
 */
HeapTuple
crm_direct_row(Relation rel, int64 id, bool lock)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	HeapTuple result = NULL;
	ScanKeyData key;
	Relation index;
	IndexScanDesc scan;
	Oid pk;

	if (!rel->rd_indexvalid)
		list_free(RelationGetIndexList(rel));
	pk = rel->rd_pkindex;
	if (!OidIsValid(pk))
		elog(ERROR, "table %s has no primary key", RelationGetRelationName(rel));
	/* what this transaction did so far is seen, and what others committed by now */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	index = index_open(pk, AccessShareLock);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = index_beginscan(rel, index, GetActiveSnapshot(),
#if PG_VERSION_NUM >= 180000
						   NULL,
#endif
						   1, 0);
	index_rescan(scan, &key, 1, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		TM_Result state = TM_Ok;

		if (lock)
		{
			TM_FailureData failure;
			ItemPointerData tid = slot->tts_tid;

			state = table_tuple_lock(rel, &tid, GetActiveSnapshot(), slot, GetCurrentCommandId(true),
									 LockTupleNoKeyExclusive, LockWaitBlock,
									 IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		}
		if (state == TM_Updated || (state == TM_Deleted && IsolationUsesXactSnapshot()))
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access due to concurrent update")));
		if (state == TM_Ok)
			result = ExecCopySlotHeapTuple(slot);
		else if (state != TM_Deleted)
			elog(ERROR, "could not lock a row of %s: %d", RelationGetRelationName(rel), (int) state);
	}
	index_endscan(scan);
	index_close(index, AccessShareLock);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	return result;
}
