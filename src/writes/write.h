/*
 * write.h
 *		crm.write and its kin.
 */
#ifndef CRM_WRITE_H
#define CRM_WRITE_H

#include "crm.h"

#include "access/attnum.h"
#include "nodes/bitmapset.h"
#include "storage/itemptr.h"

/* An update through a view, on its way. */
typedef struct CrmViewWrite CrmViewWrite;

extern void crm_writes_init(void);
extern CrmViewWrite *crm_view_write_begin(const char *object, int64 id, int32 version, const Bitmapset *columns,
										  const Datum *values, const bool *nulls);
extern ItemPointer crm_view_write_place(CrmViewWrite *write, AttrNumber *op_seq_column, int64 *op_seq);
extern void crm_view_write_end(CrmViewWrite *write, int32 version, bool counted);
extern void crm_view_write_give_up(CrmViewWrite *write);

#endif /* CRM_WRITE_H */
