/*
 * target.h
 *		A table that rows are written to without a statement, made ready once.
 */
#ifndef CRM_TARGET_H
#define CRM_TARGET_H

#include "crm.h"

#include "nodes/execnodes.h"
#include "utils/rel.h"

typedef struct CrmTarget
{
	EState *estate;
	ResultRelInfo *info; /* its relation and indexes are open only while a row is written */
	TupleDesc desc;      /* a copy that is not counted for any transaction */
	Oid *indexes;
	MemoryContext index_memory; /* what access methods keep from row to row, while the indexes are open */
} CrmTarget;

extern void crm_target_make(CrmTarget *target, EState *estate, Relation rel, Index place);
extern TupleTableSlot *crm_target_slot(CrmTarget *target, Relation rel);
extern void crm_target_open_indexes(CrmTarget *target);
extern void crm_target_close_indexes(CrmTarget *target);
extern bool crm_target_release(CrmTarget *target);

#endif /* CRM_TARGET_H */
