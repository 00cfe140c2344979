/*
 * table.h
 *		What crm.write knows of a table, and how a value of a patch becomes a value of a column.
 */
#ifndef CRM_WRITES_TABLE_H
#define CRM_WRITES_TABLE_H

#include "crm.h"

#include "access/tupdesc.h"
#include "history/history.h"
#include "utils/jsonb.h"

/* How two writes of a field merge: the first letter of crm_data.field.write_class, except FIXED. */
typedef enum CrmWriteClass
{
	WRITE_TEXT,
	WRITE_STRICT,
	WRITE_SET,
	WRITE_COUNTER,
	WRITE_FILL,
	WRITE_KEYED,
	WRITE_FIXED, /* not written after the insert */
	WRITE_ENGINE /* not written by people at all */
} CrmWriteClass;

typedef struct CrmWriteColumn
{
	CrmHistoryColumn column;
	int field; /* number in the registry, 0: none */
	CrmWriteClass write_class;
	int32 typmod;
	int16 len;
	bool byval;
	FmgrInfo input;
	char *parent; /* object that the column refers to, when people see it, else NULL */
	Oid ioparam;
	Oid element; /* of an array, else invalid */
	int16 element_len;
	bool element_byval;
	char element_align;
	Oid element_ioparam;
	FmgrInfo element_input;
} CrmWriteColumn;

typedef struct CrmWriteTable
{
	char object[NAMEDATALEN]; /* hash key */
	bool valid;
	bool written;      /* it has versions */
	uint64 generation; /* of the access profiles: the registry of fields belongs to what bumps it */
	Oid relid;
	Oid owner;
	MemoryContext context;
	int natts;
	TupleDesc desc; /* a copy */
	int ncolumns;
	CrmWriteColumn *columns; /* without the dropped ones, in order */
	/* places in columns, -1: none */
	int id;
	int account_id;
	int row_version;
	int field_version;
	int op_seq;
	int op_apart;
	int owner_id;
	int team_id;
	int grade;
	int deleted_at;
	int merged_into;
	int lease_endpoint;
	int lease_until;
	int sync_off;
} CrmWriteTable;

extern void crm_write_table_init(void);
extern CrmWriteTable *crm_write_table(const char *object);
extern CrmWriteTable *crm_write_table_if(const char *object);
extern int crm_write_column(const CrmWriteTable *table, const char *name);
extern Datum crm_write_value(CrmWriteTable *table, CrmWriteColumn *column, const JsonbValue *value, bool *isnull);
extern Jsonb *crm_write_jsonb(CrmWriteColumn *column, Datum value, bool isnull);
extern bool crm_write_equal(const CrmWriteColumn *column, Datum a, bool a_null, Datum b, bool b_null);

#endif /* CRM_WRITES_TABLE_H */
