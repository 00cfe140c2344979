/*
 * lead.h
 *		The short way of crm.capture_lead.
 */
#ifndef CRM_PROCESS_LEAD_H
#define CRM_PROCESS_LEAD_H

#include "crm.h"

extern void crm_lead_init(void);

#endif /* CRM_PROCESS_LEAD_H */
