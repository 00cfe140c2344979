/*
 * SQL functions of the text kernels that other files call without SQL.
 */
#ifndef CRM_TEXT_FACE_H
#define CRM_TEXT_FACE_H

#include "fmgr.h"

extern PGDLLEXPORT Datum crm_phone_key(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum crm_email_key(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum crm_company_key(PG_FUNCTION_ARGS);

#endif /* CRM_TEXT_FACE_H */
