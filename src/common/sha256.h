/*
 * sha256.h
 *		SHA-256, for the history's chain and for the relay.
 */
#ifndef CRM_SHA256_H
#define CRM_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define CRM_SHA256_BLOCK 64
#define CRM_SHA256_LEN 32

typedef struct CrmSha256
{
	uint32_t state[8];
	uint64_t bytes; /* so far */
	uint8_t block[CRM_SHA256_BLOCK];
} CrmSha256;

extern void crm_sha256_init(CrmSha256 *sha);
extern void crm_sha256_update(CrmSha256 *sha, const void *data, size_t len);
extern void crm_sha256_final(CrmSha256 *sha, uint8_t *digest);

#endif /* CRM_SHA256_H */
