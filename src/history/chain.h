/*
 * chain.h
 *		The digest chain of the history: the canonical text of a change, version 1, and what is digested of it.
 */
#ifndef CRM_CHAIN_H
#define CRM_CHAIN_H

#include "postgres.h"

#include "common/sha256.h"

#define CRM_HASH_LEN CRM_SHA256_LEN
#define CRM_SALT_LEN 16

/* What a change says about itself, apart from its fields. Absent texts are NULL. */
typedef struct CrmChange
{
	const char *object;
	int64 record_id;
	bool has_account;
	int64 account_id;
	int32 version;
	char op;  /* i, u, d */
	int64 at; /* microseconds since 2000-01-01 UTC */
	const char *actor;
	const char *session_name;
	const char *endpoint;
	const char *client_version;
	bool has_op_seq;
	int64 op_seq;
	const char *note;
} CrmChange;

extern void crm_chain_value_begin(CrmSha256 *sha, const uint8 *salt, const char *field);
extern void crm_chain_value_add(CrmSha256 *sha, char kind, const void *value, size_t len);
extern void crm_chain_begin(CrmSha256 *sha, const uint8 *prev, const CrmChange *change);
extern void crm_chain_field(CrmSha256 *sha, const char *field, const uint8 *digest);

#endif /* CRM_CHAIN_H */
