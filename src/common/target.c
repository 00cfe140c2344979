/*
 * target.c
 *		A table that rows are written to without a statement: what the executor makes ready of it, in a shape that can be kept from one call to
 *		the next.
 *
 * It does not write, and knows nothing of rights, policies or when what is kept is old: direct.c inserts with it, row_update.c updates.
 *
 * Locking: indexes RowExclusive, until the transaction ends.
 *
 * Memory: all of it lives in the executor state's query context. Between crm_target_release() and the next call no reference to a relation,
 * buffer or descriptor of the relation cache is held.
 */
#include "common/target.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/memutils.h"

/*
 * Make a table ready, in the executor state's memory, where the caller must be. place: in the range table, 0: there is none.
 */
void
crm_target_make(CrmTarget *target, EState *estate, Relation rel, Index place)
{
	ResultRelInfo *info = makeNode(ResultRelInfo);

	InitResultRelInfo(info, rel, place, NULL, 0);
	target->estate = estate;
	target->info = info;
	/* here the AFTER triggers find it */
	estate->es_opened_result_relations = list_make1(info);

	/* the core would make these in memory that ends with the row, and with a descriptor that is counted for the transaction */
	target->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	info->ri_TrigOldSlot = crm_target_slot(target, rel);
	info->ri_TrigNewSlot = crm_target_slot(target, rel);
	for (int i = 0; info->ri_TrigDesc != NULL && i < info->ri_TrigDesc->numtriggers; i++)
		fmgr_info_cxt(info->ri_TrigDesc->triggers[i].tgfoid, &info->ri_TrigFunctions[i], CurrentMemoryContext);

	target->index_memory = AllocSetContextCreate(CurrentMemoryContext, "crm indexes", ALLOCSET_SMALL_SIZES);
	ExecOpenIndices(info, false);
	target->indexes = palloc(sizeof(Oid) * Max(info->ri_NumIndices, 1));
	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		target->indexes[i] = RelationGetRelid(info->ri_IndexRelationDescs[i]);
		index_close(info->ri_IndexRelationDescs[i], NoLock);
		info->ri_IndexRelationDescs[i] = NULL;
	}
}

/*
 * A slot for rows of the table that lives as long as the target.
 */
TupleTableSlot *
crm_target_slot(CrmTarget *target, Relation rel)
{
	return MakeTupleTableSlot(target->desc, table_slot_callbacks(rel));
}

/*
 * Open the indexes, before rows go into them.
 */
void
crm_target_open_indexes(CrmTarget *target)
{
	for (int i = 0; i < target->info->ri_NumIndices; i++)
	{
		target->info->ri_IndexRelationDescs[i] = index_open(target->indexes[i], RowExclusiveLock);
		target->info->ri_IndexRelationInfo[i]->ii_Context = target->index_memory;
	}
}

/*
 * Close those that are open, with whatever their access methods kept for the next row.
 */
void
crm_target_close_indexes(CrmTarget *target)
{
	for (int i = 0; i < target->info->ri_NumIndices; i++)
	{
		Relation index = target->info->ri_IndexRelationDescs[i];

		if (index == NULL)
			continue;
#if PG_VERSION_NUM >= 170000
		index_insert_cleanup(index, target->info->ri_IndexRelationInfo[i]);
#endif
		target->info->ri_IndexRelationInfo[i]->ii_AmCache = NULL;
		index_close(index, NoLock);
		target->info->ri_IndexRelationDescs[i] = NULL;
	}
	MemoryContextReset(target->index_memory);
}

/*
 * Let go of all that belongs to this call. False when triggers reached other tables: what was made for those stays in our memory, so the caller
 * makes the target anew next time.
 */
bool
crm_target_release(CrmTarget *target)
{
	EState *estate = target->estate;
	bool reusable = estate->es_trig_target_relations == NIL && estate->es_tupleTable == NIL;
	ListCell *cell;

	if (!reusable)
	{
		ExecResetTupleTable(estate->es_tupleTable, false);
		estate->es_tupleTable = NIL;
		foreach (cell, estate->es_trig_target_relations)
			table_close(((ResultRelInfo *) lfirst(cell))->ri_RelationDesc, NoLock);
		estate->es_trig_target_relations = NIL;
	}
	ExecClearTuple(target->info->ri_TrigOldSlot);
	ExecClearTuple(target->info->ri_TrigNewSlot);
	target->info->ri_RelationDesc = NULL;
	return reusable;
}
