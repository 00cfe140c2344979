/*
 * direct.h
 *		Rows of the engine's own tables, read and inserted without a statement.
 */
#ifndef CRM_DIRECT_H
#define CRM_DIRECT_H

#include "postgres.h"

#include "access/htup.h"
#include "access/skey.h"
#include "access/tupdesc.h"
#include "utils/rel.h"

/* most columns that a caller names */
#define CRM_DIRECT_COLUMNS 32

/* A column as the C code takes it to be: what comes with another type is refused, for a table of another version would be misread. */
typedef struct CrmColumn
{
	const char *name;
	Oid type;
} CrmColumn;

/* An insert under way. */
typedef struct CrmInsert CrmInsert;

extern Oid crm_direct_table(const char *name);
extern AttrNumber crm_direct_column(TupleDesc desc, const char *name, Oid type);
extern void crm_direct_text_key(ScanKey key, Relation rel, const char *column, Datum value);
extern Datum crm_direct_value(HeapTuple row, Relation rel, const char *column, Oid type, bool *isnull);
extern bool crm_direct_is_null(HeapTuple row, Relation rel, const char *column);
extern Oid crm_direct_partition(Relation parent, Datum key);
extern bool crm_direct_restricted(void);
extern bool crm_direct_fires_once(Relation rel);
extern CrmInsert *crm_insert_begin(Oid relid, const CrmColumn *columns, int n);
extern void crm_insert_row(CrmInsert *insert, const Datum *values, const bool *nulls);
extern void crm_insert_end(CrmInsert *insert);
extern HeapTuple crm_direct_find(Relation rel, Oid index, int nkeys, ScanKey keys,
								 bool (*accept)(HeapTuple, TupleDesc));
extern HeapTuple crm_direct_row(Relation rel, int64 id, bool lock);
extern void crm_direct_init(void);

#endif /* CRM_DIRECT_H */
