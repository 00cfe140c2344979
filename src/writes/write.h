/*
 * write.h
 *		crm.write and its kin.
 */
#ifndef CRM_WRITE_H
#define CRM_WRITE_H

#include "crm.h"

extern void crm_writes_init(void);

#endif /* CRM_WRITE_H */
