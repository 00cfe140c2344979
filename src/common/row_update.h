/*
 * row_update.h
 *		Update one row of a table, found by its primary key, without planning or starting a statement.
 */
#ifndef CRM_ROW_UPDATE_H
#define CRM_ROW_UPDATE_H

#include "crm.h"

#include "access/attnum.h"
#include "access/htup.h"
#include "nodes/bitmapset.h"
#include "storage/itemptr.h"

typedef enum CrmRowOutcome
{
	ROW_UPDATED,
	ROW_KEPT,     /* a BEFORE trigger did not want the change: what a statement calls no row */
	ROW_NOT_PLAIN /* nothing was done; an UPDATE statement does it, or says why not */
} CrmRowOutcome;

extern void crm_row_update_init(void);
extern CrmRowOutcome crm_row_update(Oid relid, const Bitmapset *columns, const Datum *values, const bool *nulls,
									AttrNumber version_column, int32 version, ItemPointer where, HeapTuple *result,
									int32 *new_version);

#endif /* CRM_ROW_UPDATE_H */
