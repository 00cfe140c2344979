/*
 * access.h
 *		Who may see and change what: the compiled profile of a person, and the identity it belongs to.
 */
#ifndef CRM_ACCESS_H
#define CRM_ACCESS_H

#include "crm.h"

#include "datatype/timestamp.h"
#include "executor/execdesc.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"

/*
 * What a person may do with a field. Strictness grows the other way: with several roles the strictest explicit rule wins. In a
 * compiled role an upper-case letter is a default, which gives way to any rule of another role.
 */
#define MODE_NONE '-' /* no rule: not visible */
#define MODE_NEVER 'n'
#define MODE_MASK 'm'
#define MODE_OWN 'o'  /* on rows that the person owns */
#define MODE_TEAM 't' /* on rows of the person, of his team and of the teams below it */
#define MODE_ALWAYS 'a'

/* how a value is masked where it is not shown */
#define MASK_NULL '-'
#define MASK_PHONE 'p'
#define MASK_NAME 'n'
#define MASK_EMAIL 'e'
#define MASK_TEXT 't'
#define MASK_ZERO 'z'

typedef struct CrmFieldRule
{
	char mode;
	char mask;
} CrmFieldRule;

/* field ids are object number * 1000 + position; custom fields, from a million, are keys of one column */
#define FIELD_OBJECT(field) ((field) / 1000)
#define FIELD_POSITION(field) ((field) % 1000)

typedef enum CrmFieldVerb
{
	FIELD_READ,
	FIELD_WRITE,
	FIELD_EXPORT,
	FIELD_NVERBS
} CrmFieldVerb;

/* whose rows a rule is about */
typedef enum CrmScope
{
	SCOPE_OWN,
	SCOPE_TEAM,    /* the person's team */
	SCOPE_SUBTREE, /* and the teams below it */
	SCOPE_REGION,  /* the teams of the same region */
	SCOPE_ALL
} CrmScope;

#define INT8_EQUAL_OPERATOR 410 /* the header of the core's operators has no name for it */

#define SCOPE_NTEAMS SCOPE_ALL /* scopes below SCOPE_ALL may have a list of teams */

/* verbs on rows, as bits */
#define ROW_READ 1
#define ROW_CREATE 2
#define ROW_UPDATE 4
#define ROW_DELETE 8
#define ROW_EXPORT 16
#define ROW_SUMMARY 64 /* read what many rows come to, and none of them */
#define ROW_ANYONES 32 /* whoever reads some rows reads all: reference data, which nobody owns */

typedef struct CrmRowRule
{
	char *object; /* or "*": of objects that no rule names */
	int verbs;
	CrmScope scope;
	int grade_min;
	int grade_max;
} CrmRowRule;

#define GRADE_MIN 0
#define GRADE_MAX 9

/* a key of a document column; keys without a rule follow the column */
typedef struct CrmKeyRule
{
	int field; /* the column */
	char *key;
	CrmFieldRule rule;
} CrmKeyRule;

typedef struct CrmTeams
{
	int n;
	int64 *id;   /* ascending */
	int64 nbits; /* the same as bits, when the numbers are small enough; else 0 */
	uint8 *bits;
} CrmTeams;

#define TEAM_BITS_MAX 65536

typedef struct CrmProfile
{
	MemoryContext context;
	uint64 serial;     /* never used twice in a backend */
	bool unrestricted; /* superuser or the engine itself */
	int64 member;      /* 0: nobody */
	int64 team;
	uint64 hash;               /* of all that a plan may be folded on */
	TimestampTz sandbox_until; /* until then only own rows are shown unmasked */
	TimestampTz expires;       /* when the person has left */
	int nroles;
	Oid *roles;                       /* effective ones, the deeper ones left out */
	int nobjects;                     /* object numbers run from 1 to this */
	StringInfo *fields[FIELD_NVERBS]; /* per object a string of CrmFieldRule by position */
	int nrules;
	CrmRowRule *rules; /* by object */
	int nkeys;
	CrmKeyRule *keys; /* of custom fields, for reading */
	CrmTeams teams[SCOPE_NTEAMS];
} CrmProfile;

extern void crm_access_init(void);

/* profile.c */
extern uint64 crm_profile_generation;
extern const CrmProfile *crm_find_profile(void);
extern bool crm_profile_in_sandbox(const CrmProfile *profile);
extern const char *crm_scope_name(CrmScope scope);
extern CrmScope crm_scope_named(const char *name);
extern bool crm_profile_has_role(const CrmProfile *profile, Oid role);
extern bool crm_team_found(const CrmTeams *teams, int64 team);
extern List *crm_profile_relations(void);
extern void crm_profile_init(void);
extern Oid crm_access_relation(const char *name);

/* identity.c */
typedef enum CrmIdentityKind
{
	IDENTITY_ROLE,   /* the session's role, or what SET ROLE made of it */
	IDENTITY_MEMBER, /* a member, by signed token or by the engine */
	IDENTITY_PREVIEW /* a role looked at by an administrator */
} CrmIdentityKind;

typedef struct CrmIdentity
{
	CrmIdentityKind kind;
	int64 member;
	char role[NAMEDATALEN];
} CrmIdentity;

extern CrmIdentity crm_identity;
extern uint64 crm_identity_serial;
extern void crm_identity_init(void);
extern int64 crm_me(void);

/* guard.c */
extern Datum crm_guard_value(const CrmProfile *profile, CrmFieldRule rule, Oid type, Datum value, bool own, bool team,
							 bool *result_null);
extern Datum crm_guard_column(const CrmProfile *profile, int field, Oid type, Datum value, const int64 *owner,
							  const int64 *team, bool *result_null);
extern Datum crm_filter_keys(const CrmProfile *profile, int field, Datum document, bool own, bool team);
extern bool crm_hides_keys(const CrmProfile *profile, int field);
extern CrmFieldRule crm_field_rule(const CrmProfile *profile, CrmFieldVerb verb, int field);
extern int crm_first_row_rule(const CrmProfile *profile, const char *object);
extern bool crm_row_allowed(const CrmProfile *profile, int first, int verb, bool owner_null, int64 owner,
							bool team_null, int64 team, int grade);
extern bool crm_reads_any(const CrmProfile *profile, const char *object);
extern bool crm_may(const CrmProfile *profile, const char *function);
extern bool crm_fold_enabled;
extern Node *crm_fold_guard(List *args, Oid resulttype, Oid resultcollid);
extern void crm_note_dependency(PlannedStmt *stmt, List **relations, List **items, bool folded);
extern bool crm_plan_is_guarded(const PlannedStmt *stmt);
extern void crm_guard_init(void);

/* plan.c */
extern void crm_plan_init(void);
extern void crm_plan_note_guard(void);

/* write.c */
extern void crm_write_init(void);
extern void crm_write_note_start(QueryDesc *query);
extern void crm_count_removal(const char *object);

/* message.c */
extern void crm_message_init(void);

/* the answer to the last question who asks */
typedef struct CrmCurrent
{
	const CrmProfile *profile; /* NULL: none */
	uint64 generation;
	uint64 serial;
	Oid role;
	Oid login;
} CrmCurrent;

extern CrmCurrent crm_current;

/*
 * The profile of whoever asks: the signed identity, else the session's role or what SET ROLE made of it. Never NULL; one without
 * rights when nobody is known. The result is valid until the transaction ends, but a caller that wants the newest asks
 * again: it costs a few comparisons. Inline, for it is asked for every row of a scan.
 */
static inline const CrmProfile *
crm_profile(void)
{
	if (likely(crm_current.profile != NULL && crm_current.generation == crm_profile_generation &&
			   crm_current.serial == crm_identity_serial && crm_current.role == GetOuterUserId() &&
			   crm_current.login == GetSessionUserId() && crm_current.profile->expires == DT_NOEND &&
			   !InSecurityRestrictedOperation()))
		return crm_current.profile;
	return crm_find_profile();
}

/*
 * Is the team in the list?
 */
static inline bool
crm_team_listed(const CrmTeams *teams, int64 team)
{
	if (likely(teams->nbits > 0))
		return team >= 0 && team < teams->nbits && (teams->bits[team / 8] & (1 << (team % 8))) != 0;
	return crm_team_found(teams, team);
}

#endif /* CRM_ACCESS_H */
