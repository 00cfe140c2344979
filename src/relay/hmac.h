/*
 * hmac.h
 *		HMAC-SHA256 for the relay: robots and receivers that want to know who is calling.
 */
#ifndef CRM_RELAY_HMAC_H
#define CRM_RELAY_HMAC_H

#include <stddef.h>

#define CRM_HMAC_LENGTH 32

extern void crm_hmac_sha256(const char *key, size_t key_length, const char *data, size_t length,
							unsigned char out[CRM_HMAC_LENGTH]);
extern void crm_sha256(const char *data, size_t length, unsigned char out[CRM_HMAC_LENGTH]);

#endif /* CRM_RELAY_HMAC_H */
