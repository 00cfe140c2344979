/*
 * rights.c
 *		What the person behind a write or a look into history may do with a record.
 *
 * The person is who the profile is of: the session's outer user or the member who logged in. Inside definer functions and
 * triggers the current user is the engine. The rules themselves are access's; this file asks them about records that are read beside the
 * views.
 */
#include "crm.h"

#include "access/access.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "writes/rights.h"

PG_FUNCTION_INFO_V1(crm_row_readable);
PG_FUNCTION_INFO_V1(crm_shown);

static bool image_int(Jsonb *image, const char *key, int64 *value);
static CrmRowOwner image_owner(const char *object, Jsonb *image);
static JsonbValue *image_value(Jsonb *image, const char *key);

/*
 * May the person do something (ROW_READ, ROW_UPDATE, ..) with a record?
 */
bool
crm_row_may(const char *object, int verb, const CrmRowOwner *row)
{
	const CrmProfile *profile = crm_profile();

	if (profile->unrestricted)
		return true;
	if (row->deleted)
		return false;
	if (row->anyones && verb == ROW_READ)
		verb = ROW_READ | ROW_ANYONES;
	return crm_row_allowed(profile, crm_first_row_rule(profile, object), verb, !row->has_owner, row->owner,
						   !row->has_team, row->team, row->grade);
}

/*
 * May the person write a field of a record?
 */
bool
crm_field_may_write(int field, const CrmRowOwner *row)
{
	const CrmProfile *profile = crm_profile();
	char mode = crm_field_rule(profile, FIELD_WRITE, field).mode;
	bool own = profile->member != 0 && row->has_owner && row->owner == profile->member;

	return mode == MODE_ALWAYS || ((mode == MODE_OWN || mode == MODE_TEAM) && own) ||
		   (mode == MODE_TEAM && row->has_team && crm_team_listed(&profile->teams[SCOPE_SUBTREE], row->team));
}

/*
 * crm._row_readable(object text, image jsonb)
 */
Datum
crm_row_readable(PG_FUNCTION_ARGS)
{
	char *object;
	CrmRowOwner row;

	if (crm_profile()->unrestricted)
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	object = text_to_cstring(PG_GETARG_TEXT_PP(0));
	row = image_owner(object, PG_GETARG_JSONB_P(1));
	PG_RETURN_BOOL(crm_row_may(object, ROW_READ, &row));
}

/*
 * crm._shown(field int, image jsonb, value jsonb)
 */
Datum
crm_shown(PG_FUNCTION_ARGS)
{
	CrmRowOwner row = {0};
	Jsonb *value;

	if (PG_ARGISNULL(2))
		PG_RETURN_NULL();
	if (!PG_ARGISNULL(1))
		row = image_owner("", PG_GETARG_JSONB_P(1));
	value = crm_field_shown(PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0), &row, PG_GETARG_JSONB_P(2));
	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(value);
}

/*
 * A value of a field as the person may see it, masked or NULL. field: 0 for a column that is not registered.
 */
Jsonb *
crm_field_shown(int field, const CrmRowOwner *row, Jsonb *value)
{
	const CrmProfile *profile = crm_profile();
	JsonbValue scalar;
	JsonbValue masked;
	CrmFieldRule rule;
	bool own;
	bool team;
	bool isnull;
	Oid type = JSONBOID;
	Datum plain = (Datum) 0;
	Datum result;

	if (value == NULL || profile->unrestricted)
		return value;
	if (field == 0)
		return NULL;
	rule = crm_field_rule(profile, FIELD_READ, field);
	own = profile->member != 0 && row->has_owner && row->owner == profile->member;
	team = row->has_team && crm_team_listed(&profile->teams[SCOPE_SUBTREE], row->team);

	if (!JB_ROOT_IS_SCALAR(value))
		value = DatumGetJsonbP(crm_filter_keys(profile, field, JsonbPGetDatum(value), own, team));
	if (JB_ROOT_IS_SCALAR(value) && JsonbExtractScalar(&value->root, &scalar))
	{
		if (scalar.type == jbvNull)
			return value;
		if (scalar.type == jbvString)
		{
			type = TEXTOID;
			plain = PointerGetDatum(cstring_to_text_with_len(scalar.val.string.val, scalar.val.string.len));
		}
		else if (scalar.type == jbvNumeric)
		{
			type = NUMERICOID;
			plain = NumericGetDatum(scalar.val.numeric);
		}
	}
	result = crm_guard_value(profile, rule, type, plain, own, team, &isnull);
	if (isnull)
		return NULL;
	if (type == JSONBOID)
		return DatumGetJsonbP(crm_filter_keys(profile, field, JsonbPGetDatum(value), own, team));
	if (type == TEXTOID)
	{
		masked.type = jbvString;
		masked.val.string.val = VARDATA_ANY(DatumGetTextPP(result));
		masked.val.string.len = VARSIZE_ANY_EXHDR(DatumGetTextPP(result));
		return JsonbValueToJsonb(&masked);
	}
	if (type == NUMERICOID)
	{
		masked.type = jbvNumeric;
		masked.val.numeric = DatumGetNumeric(result);
		return JsonbValueToJsonb(&masked);
	}
	return value;
}

/*
 * Whose a record is, from its image.
 */
static CrmRowOwner
image_owner(const char *object, Jsonb *image)
{
	CrmRowOwner row = {0};
	int64 grade;
	JsonbValue *deleted = image_value(image, "deleted_at");

	row.anyones = image_value(image, "owner_id") == NULL;
	row.has_owner = image_int(image, strcmp(object, "member") == 0 ? "id" : "owner_id", &row.owner);
	row.has_team = image_int(image, "team_id", &row.team);
	row.grade = image_int(image, "grade", &grade) ? (int) grade : -1;
	row.deleted = deleted != NULL && deleted->type != jbvNull;
	return row;
}

/*
 * A key of an image, NULL when it is not there.
 */
static JsonbValue *
image_value(Jsonb *image, const char *key)
{
	return getKeyJsonValueFromContainer(&image->root, key, strlen(key), NULL);
}

/*
 * An integer of an image; false when it has none.
 */
static bool
image_int(Jsonb *image, const char *key, int64 *value)
{
	JsonbValue *v = image_value(image, key);

	if (v == NULL || v->type != jbvNumeric)
		return false;
	*value = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(v->val.numeric)));
	return true;
}
