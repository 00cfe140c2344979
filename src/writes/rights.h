/*
 * rights.h
 *		What the person behind a write or a look into history may do with a record.
 */
#ifndef CRM_RIGHTS_H
#define CRM_RIGHTS_H

#include "crm.h"

#include "utils/jsonb.h"

/* Whose a record is, as the row rules see it. */
typedef struct CrmRowOwner
{
	bool has_owner;
	int64 owner;
	bool has_team;
	int64 team;
	int grade;    /* -1: none */
	bool anyones; /* reference data: nobody owns it */
	bool deleted;
} CrmRowOwner;

extern bool crm_row_may(const char *object, int verb, const CrmRowOwner *row);
extern bool crm_field_may_write(int field, const CrmRowOwner *row);
extern Jsonb *crm_field_shown(int field, const CrmRowOwner *row, Jsonb *value);

#endif /* CRM_RIGHTS_H */
