/*
 * chain.c
 *		The digest chain of the history: the canonical text of a change, version 1, and what is digested of it.
 *
 * Pure C on plain types: no catalogs, no memory of its own, nothing that can fail.
 *
 * hash(n) = SHA-256(hash(n - 1) || text), where hash(0) is empty and text, in UTF-8, is the line "crm1", then one line each for
 * object, record, account, version, op (a letter), at (microseconds since 2000-01-01 UTC), actor, session, endpoint, client version, op_seq
 * and note, then one line "name=digest" for each changed field, in byte order of the names. A missing value is \N; a backslash
 * or a newline in a value is written \\ or \n. A field's digest, hexadecimal, is SHA-256(salt || name || 0 || old || 0 || new), where a
 * value is a letter for its kind (see crm_chain_value_add) and its text: the canonical text never holds a value, so the values of a change can be erased, with their salt, and its hash still be verified.
 */
#include "chain.h"

static void add_text(CrmSha256 *sha, const char *text);
static void add_int(CrmSha256 *sha, bool present, int64 value);

/*
 * Start the digest of a field; then come its old and its new value, then crm_sha256_final.
 */
void
crm_chain_value_begin(CrmSha256 *sha, const uint8 *salt, const char *field)
{
	crm_sha256_init(sha);
	crm_sha256_update(sha, salt, CRM_SALT_LEN);
	crm_sha256_update(sha, field, strlen(field));
}

/*
 * Add a value to the digest of its field. kind: n null, t true, f false, s string, d number, j array or object, for which value
 * is the text.
 */
void
crm_chain_value_add(CrmSha256 *sha, char kind, const void *value, size_t len)
{
	char start[2] = {'\0', kind};

	crm_sha256_update(sha, start, 2);
	if (len > 0)
		crm_sha256_update(sha, value, len);
}

/*
 * Start a change's hash: everything but the fields. prev: 32 bytes, NULL for the first change of a record.
 */
void
crm_chain_begin(CrmSha256 *sha, const uint8 *prev, const CrmChange *change)
{
	crm_sha256_init(sha);
	if (prev)
		crm_sha256_update(sha, prev, CRM_HASH_LEN);
	crm_sha256_update(sha, "crm1\n", 5);
	add_text(sha, change->object);
	add_int(sha, true, change->record_id);
	add_int(sha, change->has_account, change->account_id);
	add_int(sha, true, change->version);
	add_text(sha, (const char[]){change->op, '\0'});
	add_int(sha, true, change->at);
	add_text(sha, change->actor);
	add_text(sha, change->session_name);
	add_text(sha, change->endpoint);
	add_text(sha, change->client_version);
	add_int(sha, change->has_op_seq, change->op_seq);
	add_text(sha, change->note);
}

/*
 * Add a field's digest to a change's hash. The caller comes in byte order of the names.
 */
void
crm_chain_field(CrmSha256 *sha, const char *field, const uint8 *digest)
{
	static const char hex[] = "0123456789abcdef";
	char line[2 + 2 * CRM_HASH_LEN];

	crm_sha256_update(sha, field, strlen(field));
	line[0] = '=';
	for (int i = 0; i < CRM_HASH_LEN; i++)
	{
		line[1 + 2 * i] = hex[digest[i] >> 4];
		line[2 + 2 * i] = hex[digest[i] & 15];
	}
	line[1 + 2 * CRM_HASH_LEN] = '\n';
	crm_sha256_update(sha, line, sizeof(line));
}

/*
 * A line of text, escaped so that no value can look like two lines.
 */
static void
add_text(CrmSha256 *sha, const char *text)
{
	if (text == NULL)
	{
		crm_sha256_update(sha, "\\N\n", 3);
		return;
	}
	while (*text)
	{
		size_t n = strcspn(text, "\\\n");

		crm_sha256_update(sha, text, n);
		text += n;
		if (*text)
		{
			crm_sha256_update(sha, *text == '\n' ? "\\n" : "\\\\", 2);
			text++;
		}
	}
	crm_sha256_update(sha, "\n", 1);
}

/*
 * A line with a number.
 */
static void
add_int(CrmSha256 *sha, bool present, int64 value)
{
	char digits[32];

	if (!present)
	{
		crm_sha256_update(sha, "\\N\n", 3);
		return;
	}
	crm_sha256_update(sha, digits, snprintf(digits, sizeof(digits), INT64_FORMAT "\n", value));
}
