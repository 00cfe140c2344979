/*
 * hmac.h
 *		HMAC-SHA256 for the relay: robots and receivers that want to know who is calling.
 */
#ifndef CRM_RELAY_HMAC_H
#define CRM_RELAY_HMAC_H

#include "common/sha256.h"

extern void crm_hmac_sha256(const char *key, size_t key_length, const char *data, size_t length,
							unsigned char out[CRM_SHA256_LEN]);
extern void crm_sha256(const char *data, size_t length, unsigned char out[CRM_SHA256_LEN]);

#endif /* CRM_RELAY_HMAC_H */
