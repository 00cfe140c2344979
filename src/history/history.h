/*
 * history.h
 *		The change log: what other engines may tell it, and how they name a writer.
 */
#ifndef CRM_HISTORY_H
#define CRM_HISTORY_H

#include "crm.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "history/chain.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

/* What the engine's own code may do that nobody else may; holds until it is switched off or the transaction ends. */
typedef enum CrmEngineWrite
{
	ENGINE_WRITE_NONE,
	ENGINE_WRITE_ERASE,  /* physical deletes, and changes of append-only facts */
	ENGINE_WRITE_RESTORE /* an insert goes on with the record's earlier versions */
} CrmEngineWrite;

/* What a change says about the way it came. */
typedef struct CrmWriteContext
{
	const char *endpoint; /* NULL: SQL */
	const char *note;
	const char *actor; /* NULL: whoever the session is */
	int64 op_seq;      /* 0: none */
} CrmWriteContext;

/* A column that the history keeps. */
typedef struct CrmHistoryColumn
{
	AttrNumber attnum;
	char *name;
	Oid type;
	int kind;
	FmgrInfo to_jsonb; /* for types without a path of their own */
} CrmHistoryColumn;

/* A protected table, as its triggers see it. */
typedef struct CrmHistoryTable
{
	Oid relid; /* hash key */
	bool valid;
	MemoryContext context;
	char *object;
	AttrNumber id;
	AttrNumber account_id; /* 0: none */
	AttrNumber row_version;
	AttrNumber field_version; /* 0: none, as in the next four */
	AttrNumber last_hash;
	AttrNumber last_at;
	AttrNumber updated_at;
	AttrNumber updated_by;
	int ncolumns;
	CrmHistoryColumn *columns; /* in byte order of the names */
} CrmHistoryTable;

/* Called with a change; the row is gone when it returns. */
typedef void (*CrmHistoryVisit)(HeapTuple row, TupleDesc desc, int32 version, void *arg);

extern void crm_history_init(void);
extern void crm_history_walk(const char *object, int64 id, int32 above, int32 upto, CrmHistoryVisit visit, void *arg);
extern CrmWriteContext crm_history_context_set(CrmWriteContext context);
extern void crm_history_context_restore(CrmWriteContext saved);
extern void crm_history_engine_write(CrmEngineWrite mode);
extern const char *crm_history_actor(void);
extern const char *crm_history_session(void);
extern const char *crm_history_client_version(void);
extern void crm_history_column_init(CrmHistoryColumn *column, Form_pg_attribute att, MemoryContext context);
extern void crm_history_value(CrmHistoryColumn *column, Datum value, bool isnull, JsonbValue *out);
extern void crm_history_digest(const uint8 *salt, const char *field, const JsonbValue *old_value,
							   const JsonbValue *new_value, uint8 *digest);

#endif /* CRM_HISTORY_H */
