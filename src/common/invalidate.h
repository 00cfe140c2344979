/*
 * invalidate.h
 *		Hear of changed relations.
 */
#ifndef CRM_INVALIDATE_H
#define CRM_INVALIDATE_H

#include "crm.h"

#include "utils/inval.h"

extern void crm_on_relation_change(RelcacheCallbackFunction callback);

#endif /* CRM_INVALIDATE_H */
