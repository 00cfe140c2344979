/*
 * walk.c
 *		Some changes of one record, for the write path: what was a field when its writer read it, who has changed it since.
 *
 * Does what a query by record would, from the newest month back and without planning for all of them. Inside a month the index gives the rows
 * as they lie in the table, taken backwards: mostly the newest first, but nothing promises that. Versions are gapless, so the walk ends when it has
 * met as many as it looks for. It knows no rights: the caller has asked.
 *
 * Locking: the months are opened as a query would.
 */
#include "crm.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "common/direct.h"
#include "history/history.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

static int64 walk_month(Oid relid, const char *object, int64 id, int32 above, int32 upto, int64 wanted,
						CrmHistoryVisit visit, void *arg);
static Relation open_index(Relation rel, AttrNumber column);

/*
 * Visit the changes of a record whose version is above one and not above another, in any order.
 */
void
crm_history_walk(const char *object, int64 id, int32 above, int32 upto, CrmHistoryVisit visit, void *arg)
{
	Relation parent = table_open(crm_direct_table("change"), AccessShareLock);
	PartitionDesc months = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = months->boundinfo;
	int64 wanted = (int64) upto - above;

	/* what came before its month was made; there is nothing, but for a while */
	if (bounds && bounds->default_index >= 0)
		wanted -= walk_month(months->oids[bounds->default_index], object, id, above, upto, wanted, visit, arg);
	for (int i = bounds ? bounds->ndatums : -1; i >= 0 && wanted > 0; i--)
		if (bounds->indexes[i] >= 0)
			wanted -= walk_month(months->oids[bounds->indexes[i]], object, id, above, upto, wanted, visit, arg);
	table_close(parent, NoLock);
}

/*
 * The changes of one month, until there are as many as wanted. Answers how many there were.
 */
static int64
walk_month(Oid relid, const char *object, int64 id, int32 above, int32 upto, int64 wanted, CrmHistoryVisit visit,
		   void *arg)
{
	Relation rel = table_open(relid, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	AttrNumber record = crm_direct_column(desc, "record_id", INT8OID);
	AttrNumber number = crm_direct_column(desc, "version", INT4OID);
	AttrNumber kind = crm_direct_column(desc, "object", TEXTOID);
	Relation index = open_index(rel, record);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple row;
	int64 met = 0;

	ScanKeyInit(&key, record, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = systable_beginscan_ordered(rel, index, snapshot, 1, &key);
	while (met < wanted && (row = systable_getnext_ordered(scan, BackwardScanDirection)) != NULL)
	{
		bool isnull;
		int32 version = DatumGetInt32(heap_getattr(row, number, desc, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (version <= above || version > upto ||
			strcmp(TextDatumGetCString(heap_getattr(row, kind, desc, &isnull)), object) != 0)
			continue;
		visit(row, desc, version, arg);
		met++;
	}
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return met;
}

/*
 * The index of a table by a column.
 */
static Relation
open_index(Relation rel, AttrNumber column)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;

	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisvalid && index->rd_index->indkey.values[0] == column &&
			RelationGetIndexPredicate(index) == NIL)
		{
			list_free(indexes);
			return index;
		}
		index_close(index, AccessShareLock);
	}
	elog(ERROR, "the index of %s by record is missing", RelationGetRelationName(rel));
}
