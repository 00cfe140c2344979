/*
 * trigger.h
 *		Which rows' match fields a statement changed.
 */
#ifndef CRM_MATCH_TRIGGER_H
#define CRM_MATCH_TRIGGER_H

extern void crm_match_init(void);

#endif /* CRM_MATCH_TRIGGER_H */
