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
#define ERRCODE_CRM_BAD_POLICY MAKE_SQLSTATE('R', 'M', '1', '0', '1')	 /* a policy that cannot be compiled */
#define ERRCODE_CRM_BAD_TOKEN MAKE_SQLSTATE('R', 'M', '1', '0', '2')	 /* malformed, tampered, or of another database */
#define ERRCODE_CRM_EXPIRED_TOKEN MAKE_SQLSTATE('R', 'M', '1', '0', '3') /* the token was good once */

#endif /* CRM_ERRORS_H */
