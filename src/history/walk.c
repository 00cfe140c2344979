/*
 * walk.c
 *		The changes of one record, from the newest back, for the write path: what was a field when its writer read it, who has changed it since.
 *
 * Does what a query by record and version would, month by month and without planning for all of them. It knows no rights: the caller has
 * asked.
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

static bool walk_month(Oid relid, const char *object, int64 id, int32 above, CrmHistoryVisit visit, void *arg);
static Relation open_index(Relation rel, const AttrNumber *columns, int n);

/*
 * Visit the changes of a record whose version is above one, the newest first.
 */
void
crm_history_walk(const char *object, int64 id, int32 above, CrmHistoryVisit visit, void *arg)
{
	Relation parent = table_open(crm_direct_table("change"), AccessShareLock);
	PartitionDesc months = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = months->boundinfo;

	/* what came before its month was made; there is nothing, but for a while */
	if (bounds && bounds->default_index >= 0)
		(void) walk_month(months->oids[bounds->default_index], object, id, above, visit, arg);
	/* time never runs backwards within a record: the month that holds an older version ends the walk */
	for (int i = bounds ? bounds->ndatums : -1; i >= 0; i--)
		if (bounds->indexes[i] >= 0 && walk_month(months->oids[bounds->indexes[i]], object, id, above, visit, arg))
			break;
	table_close(parent, NoLock);
}

/*
 * The changes of one month. Answers whether it holds an older version.
 */
static bool
walk_month(Oid relid, const char *object, int64 id, int32 above, CrmHistoryVisit visit, void *arg)
{
	Relation rel = table_open(relid, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	AttrNumber columns[3];
	Relation index;
	Snapshot snapshot;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple row;
	bool older = false;
	static const char *const names[] = {"record_id", "version", "object"};

	for (int i = 0; i < lengthof(names); i++)
		columns[i] = crm_direct_column(desc, names[i]);
	index = open_index(rel, columns, 2);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyInit(&key, columns[0], BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = systable_beginscan_ordered(rel, index, snapshot, 1, &key);
	while (!older && (row = systable_getnext_ordered(scan, BackwardScanDirection)) != NULL)
	{
		bool isnull;

		CHECK_FOR_INTERRUPTS();
		if (strcmp(TextDatumGetCString(heap_getattr(row, columns[2], desc, &isnull)), object) != 0)
			continue;
		if (DatumGetInt32(heap_getattr(row, columns[1], desc, &isnull)) <= above)
			older = true;
		else
			visit(row, desc, arg);
	}
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return older;
}

/*
 * The index of a table over some columns.
 */
static Relation
open_index(Relation rel, const AttrNumber *columns, int n)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;

	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		bool fits =
			index->rd_index->indisvalid && index->rd_index->indnkeyatts >= n && RelationGetIndexPredicate(index) == NIL;

		for (int i = 0; fits && i < n; i++)
			fits = index->rd_index->indkey.values[i] == columns[i];
		if (fits)
		{
			list_free(indexes);
			return index;
		}
		index_close(index, AccessShareLock);
	}
	elog(ERROR, "the index of %s by record and version is missing", RelationGetRelationName(rel));
}
