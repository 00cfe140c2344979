/*
 * object.h
 *		JSON objects: reading keys, writing them one by one.
 */
#ifndef CRM_PROCESS_OBJECT_H
#define CRM_PROCESS_OBJECT_H

#include "crm.h"

#include "utils/jsonb.h"

extern JsonbValue *crm_object_get(Jsonb *object, const char *key, JsonbValue *into);
extern void crm_object_push(JsonbParseState **state, const char *name, JsonbValue *value);
extern void crm_object_push_number(JsonbParseState **state, const char *name, int64 number);
extern void crm_object_push_text(JsonbParseState **state, const char *name, const char *text);
extern void crm_object_push_null(JsonbParseState **state, const char *name);
extern void crm_object_push_bool(JsonbParseState **state, const char *name, bool yes);

#endif /* CRM_PROCESS_OBJECT_H */
