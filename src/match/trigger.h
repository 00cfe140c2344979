/*
 * trigger.h
 *		Which rows' match fields a statement changed.
 */
#ifndef CRM_MATCH_TRIGGER_H
#define CRM_MATCH_TRIGGER_H

extern void crm_match_init(void);
extern Oid crm_match_hold(Oid rel);

#endif /* CRM_MATCH_TRIGGER_H */
