/*
 * errors.h
 *		The extension's own SQLSTATEs, class RM.
 *
 * Only conditions that a client may want to tell apart by code are here; everything else uses the codes of the core.
 * The README lists them.
 */
#ifndef CRM_ERRORS_H
#define CRM_ERRORS_H

#include "utils/elog.h"

/* the schema */
#define ERRCODE_CRM_SCHEMA_CHANGED                                                                                     \
	MAKE_SQLSTATE('R', 'M', '0', '0', '1') /* a released migration differs from the applied one */
#define ERRCODE_CRM_SCHEMA_VERSION MAKE_SQLSTATE('R', 'M', '0', '0', '2') /* the schema is newer than the library */

/* access */
#define ERRCODE_CRM_BAD_POLICY MAKE_SQLSTATE('R', 'M', '1', '0', '1') /* a policy that cannot be compiled */
#define ERRCODE_CRM_BAD_TOKEN MAKE_SQLSTATE('R', 'M', '1', '0', '2')  /* malformed, tampered, or of another database */
#define ERRCODE_CRM_EXPIRED_TOKEN MAKE_SQLSTATE('R', 'M', '1', '0', '3') /* the token was good once */
#define ERRCODE_CRM_TOO_MANY_ROWS                                                                                      \
	MAKE_SQLSTATE('R', 'M', '1', '0', '4') /* more protected rows than one statement may touch */
#define ERRCODE_CRM_NOT_APPROVED                                                                                       \
	MAKE_SQLSTATE('R', 'M', '1', '0', '5') /* a request is missing, decided, expired or one's own */
#define ERRCODE_CRM_NOT_CONFIRMED MAKE_SQLSTATE('R', 'M', '1', '0', '6') /* no confirmed challenge for the operation */
#define ERRCODE_CRM_REVEAL_LIMIT MAKE_SQLSTATE('R', 'M', '1', '0', '7')  /* the day's reveals are used up */

/* writes and history */
#define ERRCODE_CRM_ERASURE_REFUSED                                                                                    \
	MAKE_SQLSTATE('R', 'M', '2', '0', '1') /* a protected row would be lost, or a fact changed */
#define ERRCODE_CRM_HISTORY_MISMATCH                                                                                   \
	MAKE_SQLSTATE('R', 'M', '2', '0', '2') /* a row is not stored as its version was made */
#define ERRCODE_CRM_OPERATION_REUSED                                                                                   \
	MAKE_SQLSTATE('R', 'M', '2', '0', '3') /* an operation id came again with another request */
#define ERRCODE_CRM_CLIENT_TOO_OLD                                                                                     \
	MAKE_SQLSTATE('R', 'M', '2', '0', '4') /* the client must be upgraded before it may write */
#define ERRCODE_CRM_RECORD_CLOSED MAKE_SQLSTATE('R', 'M', '2', '0', '5') /* a follow-up can no longer be edited */

/* merge: raised in SQL */
#define ERRCODE_CRM_MERGED_ALREADY MAKE_SQLSTATE('R', 'M', '3', '0', '1')   /* a record was merged or deleted already */
#define ERRCODE_CRM_UNDONE_ALREADY MAKE_SQLSTATE('R', 'M', '3', '0', '2')   /* the merge was undone already */
#define ERRCODE_CRM_MERGE_OVERLAPPED MAKE_SQLSTATE('R', 'M', '3', '0', '3') /* a later merge must be undone first */

/* process: raised in SQL */
#define ERRCODE_CRM_ACTIONS_OPEN MAKE_SQLSTATE('R', 'M', '5', '2', '0')     /* mandatory actions of a stage are open */
#define ERRCODE_CRM_EVIDENCE_MISSING MAKE_SQLSTATE('R', 'M', '5', '2', '1') /* the evidence for an action is missing */
#define ERRCODE_CRM_DISCOUNT_HELD MAKE_SQLSTATE('R', 'M', '5', '2', '2')    /* discounts of a deal at risk are held */
#define ERRCODE_CRM_FIELDS_MISSING MAKE_SQLSTATE('R', 'M', '5', '2', '3')   /* fields that a stage asks for are empty */
#define ERRCODE_CRM_CONFIG_STATE MAKE_SQLSTATE('R', 'M', '5', '0', '1')     /* the version is not at that step */
#define ERRCODE_CRM_CONFIG_INVALID MAKE_SQLSTATE('R', 'M', '5', '0', '2')   /* the body is not valid */
#define ERRCODE_CRM_CONFIG_LOSES MAKE_SQLSTATE('R', 'M', '5', '0', '3')     /* its rehearsal loses records */
#define ERRCODE_CRM_CONFIG_FOUR_EYES MAKE_SQLSTATE('R', 'M', '5', '0', '4') /* the author cannot approve */
#define ERRCODE_CRM_CONFIG_BUNDLE MAKE_SQLSTATE('R', 'M', '5', '0', '5')    /* a bundle of another format, or changed */
#define ERRCODE_CRM_IMPORT_STATE MAKE_SQLSTATE('R', 'M', '5', '1', '0')     /* the import is not at that step */
#define ERRCODE_CRM_IMPORT_SHIFT MAKE_SQLSTATE('R', 'M', '5', '1', '1') /* a shifted distribution is not confirmed */
#define ERRCODE_CRM_IMPORT_FILE MAKE_SQLSTATE('R', 'M', '5', '1', '2')  /* the file cannot be used as it is */

#endif /* CRM_ERRORS_H */
