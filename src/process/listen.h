/*
 * listen.h
 *		Whether a rule listens to an event.
 */
#ifndef CRM_PROCESS_LISTEN_H
#define CRM_PROCESS_LISTEN_H

#include "crm.h"

extern bool crm_rules_listen(const char *event);

#endif /* CRM_PROCESS_LISTEN_H */
