/*
 * attempt.h
 *		Do something or nothing.
 */
#ifndef CRM_PROCESS_ATTEMPT_H
#define CRM_PROCESS_ATTEMPT_H

#include "crm.h"

extern bool crm_attempt(bool (*what)(void *), void *arg);

#endif /* CRM_PROCESS_ATTEMPT_H */
