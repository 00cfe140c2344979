/*
 * hmac.c
 *		HMAC-SHA256 (RFC 2104) for the relay.
 *
 * libcurl does not hand out its own, and no other library is needed for the relay. It is checked against another implementation by
 * test/long/relay.py. Knows nothing of messages; allocates nothing.
 */
#include <string.h>

#include "hmac.h"

/*
 * SHA-256 of a text.
 */
void
crm_sha256(const char *data, size_t length, unsigned char out[CRM_SHA256_LEN])
{
	CrmSha256 sha;

	crm_sha256_init(&sha);
	crm_sha256_update(&sha, data, length);
	crm_sha256_final(&sha, out);
}

/*
 * HMAC-SHA256 of a text under a key.
 */
void
crm_hmac_sha256(const char *key, size_t key_length, const char *data, size_t length, unsigned char out[CRM_SHA256_LEN])
{
	CrmSha256 sha;
	unsigned char pad[CRM_SHA256_BLOCK] = {0};

	if (key_length > CRM_SHA256_BLOCK)
		crm_sha256(key, key_length, pad);
	else
		memcpy(pad, key, key_length);
	for (int i = 0; i < CRM_SHA256_BLOCK; i++)
		pad[i] ^= 0x36;
	crm_sha256_init(&sha);
	crm_sha256_update(&sha, pad, CRM_SHA256_BLOCK);
	crm_sha256_update(&sha, data, length);
	crm_sha256_final(&sha, out);
	for (int i = 0; i < CRM_SHA256_BLOCK; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	crm_sha256_init(&sha);
	crm_sha256_update(&sha, pad, CRM_SHA256_BLOCK);
	crm_sha256_update(&sha, out, CRM_SHA256_LEN);
	crm_sha256_final(&sha, out);
}
