/*
 * merge.h
 *		The three-way merge of a patch with a record.
 */
#ifndef CRM_MERGE_H
#define CRM_MERGE_H

#include "crm.h"

#include "nodes/pg_list.h"
#include "writes/table.h"

/* A field that two writers changed. */
typedef struct CrmConflict
{
	char *field;
	int number;  /* in the registry of fields */
	Jsonb *base; /* NULL: not known */
	Jsonb *theirs;
	Jsonb *mine;
	int32 their_version;
} CrmConflict;

typedef struct CrmMerge
{
	CrmWriteTable *table;
	int64 id;
	bool has_base;
	int32 base;     /* version that the writer had read */
	bool connector; /* the writer is another system, which knows no intention */
	Datum *values;  /* the record; becomes the merged one */
	bool *nulls;
	bool *changed; /* by column */
	List *conflicts;
} CrmMerge;

extern void crm_merge_patch(CrmMerge *merge, Jsonb *patch);

#endif /* CRM_MERGE_H */
