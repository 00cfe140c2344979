/*
 * verify.c
 *		Recomputes the digests of stored changes: what verify_history and forget are made of.
 *
 * Works on the stored JSON alone, never on the record, so the answer depends on no setting and no type's output.
 *
 * Memory: results in the caller's context, everything else in a context of the call.
 */
#include "crm.h"

#include "fmgr.h"
#include "history/history.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(crm_change_hash);
PG_FUNCTION_INFO_V1(crm_value_hashes);

/* One field of a change with its digest. */
typedef struct FieldDigest
{
	char *name;
	uint8 digest[CRM_HASH_LEN];
} FieldDigest;

static FieldDigest *digests_of_values(Jsonb *fields, const bytea *salt, int *n);
static FieldDigest *digests_stored(Jsonb *hashes, int *n);
static int64 keys_of_json(const char *json);
static int64 keys_of_jsonb(Jsonb *values);
static int compare_fields(const void *a, const void *b);
static const char *text_arg(FunctionCallInfo fcinfo, int arg);

/*
 * crm._change_hash(prev_hash bytea, object text, record_id bigint, account_id bigint, version int, op "char", at timestamptz,
 * actor text, session_name text, endpoint text, client_version text, op_seq bigint, note text, fields text, salt bytea,
 * value_hash jsonb): the hash that the change should have, NULL when it cannot be one of ours. fields are JSON as it is stored: a key that
 * stands in it twice would be gone in jsonb, and with it a value that somebody put there.
 */
Datum
crm_change_hash(PG_FUNCTION_ARGS)
{
	CrmSha256 sha;
	CrmChange head;
	Jsonb *values = NULL;
	FieldDigest *fields = NULL;
	int n = 0;
	bytea *prev = PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0);
	bytea *result;

	for (int i = 1; i <= 6; i++)
		if (i != 3 && PG_ARGISNULL(i))
			PG_RETURN_NULL();
	if (prev && VARSIZE_ANY_EXHDR(prev) != CRM_HASH_LEN)
		PG_RETURN_NULL();
	head.object = text_arg(fcinfo, 1);
	head.record_id = PG_GETARG_INT64(2);
	head.has_account = !PG_ARGISNULL(3);
	head.account_id = head.has_account ? PG_GETARG_INT64(3) : 0;
	head.version = PG_GETARG_INT32(4);
	head.op = PG_GETARG_CHAR(5);
	head.at = PG_GETARG_TIMESTAMPTZ(6);
	head.actor = text_arg(fcinfo, 7);
	head.session_name = text_arg(fcinfo, 8);
	head.endpoint = text_arg(fcinfo, 9);
	head.client_version = text_arg(fcinfo, 10);
	head.has_op_seq = !PG_ARGISNULL(11);
	head.op_seq = head.has_op_seq ? PG_GETARG_INT64(11) : 0;
	head.note = text_arg(fcinfo, 12);

	if (!PG_ARGISNULL(13))
	{
		char *json = text_to_cstring(PG_GETARG_TEXT_PP(13));

		values = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
		if (keys_of_json(json) != keys_of_jsonb(values))
			PG_RETURN_NULL();
	}
	if (!PG_ARGISNULL(15))
		fields = digests_stored(PG_GETARG_JSONB_P(15), &n);
	else if (values != NULL && !PG_ARGISNULL(14))
		fields = digests_of_values(values, PG_GETARG_BYTEA_PP(14), &n);
	if (fields == NULL)
		PG_RETURN_NULL();

	crm_chain_begin(&sha, prev ? (const uint8 *) VARDATA_ANY(prev) : NULL, &head);
	for (int i = 0; i < n; i++)
		crm_chain_field(&sha, fields[i].name, fields[i].digest);
	result = palloc(VARHDRSZ + CRM_HASH_LEN);
	SET_VARSIZE(result, VARHDRSZ + CRM_HASH_LEN);
	crm_sha256_final(&sha, (uint8 *) VARDATA(result));
	PG_RETURN_BYTEA_P(result);
}

/*
 * crm._value_hashes(fields jsonb, salt bytea): the digest of each field, hexadecimal, to be kept when values and salt are
 * erased.
 */
Datum
crm_value_hashes(PG_FUNCTION_ARGS)
{
	int n;
	FieldDigest *fields = digests_of_values(PG_GETARG_JSONB_P(0), PG_GETARG_BYTEA_PP(1), &n);
	JsonbParseState *state = NULL;

	if (fields == NULL)
		PG_RETURN_NULL();
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue v;
		char *hex = palloc(2 * CRM_HASH_LEN);

		v.type = jbvString;
		v.val.string.val = fields[i].name;
		v.val.string.len = strlen(fields[i].name);
		pushJsonbValue(&state, WJB_KEY, &v);
		hex_encode((const char *) fields[i].digest, CRM_HASH_LEN, hex);
		v.val.string.val = hex;
		v.val.string.len = 2 * CRM_HASH_LEN;
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/*
 * Digests of {field: [old, new], ..}, by name; NULL when the JSON or the salt has another form.
 */
static FieldDigest *
digests_of_values(Jsonb *fields, const bytea *salt, int *n)
{
	FieldDigest *result;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue v;
	char *name = NULL;

	*n = 0;
	if (!JB_ROOT_IS_OBJECT(fields) || VARSIZE_ANY_EXHDR(salt) != CRM_SALT_LEN)
		return NULL;
	result = palloc((JB_ROOT_COUNT(fields) + 1) * sizeof(FieldDigest));
	it = JsonbIteratorInit(&fields->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data) ||
				JsonContainerSize(v.val.binary.data) != 2)
				return NULL;
			result[*n].name = name;
			crm_history_digest((const uint8 *) VARDATA_ANY(salt), name,
							   getIthJsonbValueFromContainer(v.val.binary.data, 0),
							   getIthJsonbValueFromContainer(v.val.binary.data, 1), result[*n].digest);
			(*n)++;
		}
	}
	qsort(result, *n, sizeof(FieldDigest), compare_fields);
	return result;
}

/*
 * Digests as they were kept, by name; NULL when the JSON has another form.
 */
static FieldDigest *
digests_stored(Jsonb *hashes, int *n)
{
	FieldDigest *result;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue v;
	char *name = NULL;

	*n = 0;
	if (!JB_ROOT_IS_OBJECT(hashes))
		return NULL;
	result = palloc((JB_ROOT_COUNT(hashes) + 1) * sizeof(FieldDigest));
	it = JsonbIteratorInit(&hashes->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (v.type != jbvString || v.val.string.len != 2 * CRM_HASH_LEN ||
				strspn(pnstrdup(v.val.string.val, v.val.string.len), "0123456789abcdef") != 2 * CRM_HASH_LEN)
				return NULL;
			result[*n].name = name;
			hex_decode(v.val.string.val, v.val.string.len, (char *) result[*n].digest);
			(*n)++;
		}
	}
	qsort(result, *n, sizeof(FieldDigest), compare_fields);
	return result;
}

/*
 * How many keys stand in a text that is known to be JSON: outside its strings, only they are followed by a colon.
 */
static int64
keys_of_json(const char *json)
{
	int64 keys = 0;
	bool quoted = false;

	for (const char *c = json; *c; c++)
	{
		if (*c == '"')
			quoted = !quoted;
		else if (quoted && *c == '\\')
			c++;
		else if (!quoted && *c == ':')
			keys++;
	}
	return keys;
}

/*
 * How many keys there are in the value made of it, at all levels.
 */
static int64
keys_of_jsonb(Jsonb *values)
{
	JsonbIterator *it = JsonbIteratorInit(&values->root);
	JsonbIteratorToken token;
	JsonbValue v;
	int64 keys = 0;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
		if (token == WJB_KEY)
			keys++;
	return keys;
}

/*
 * Order of the names in the canonical text.
 */
static int
compare_fields(const void *a, const void *b)
{
	return strcmp(((const FieldDigest *) a)->name, ((const FieldDigest *) b)->name);
}

/*
 * A text argument, NULL if it is.
 */
static const char *
text_arg(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}
