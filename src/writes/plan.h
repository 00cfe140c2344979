/*
 * plan.h
 *		Kept plans by their text.
 */
#ifndef CRM_WRITES_PLAN_H
#define CRM_WRITES_PLAN_H

#include "crm.h"

extern void crm_execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected);

#endif /* CRM_WRITES_PLAN_H */
