/*
 * crm.h
 *		Names and entry points shared by all engines of the extension.
 *
 * The names of the two schemas stand here and nowhere else in C.
 */
#ifndef CRM_H
#define CRM_H

#include "postgres.h"

#define CRM_SCHEMA "crm"           /* functions and views: what people see */
#define CRM_DATA_SCHEMA "crm_data" /* tables */
#define CRM_OWNER "crm_owner"      /* owns tables and functions */
#define CRM_GATE "crm_gate"        /* owns the views */

#endif /* CRM_H */
