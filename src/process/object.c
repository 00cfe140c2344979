/*
 * object.c
 *		JSON objects: reading keys, writing them one by one.
 *
 * Memory: what is written points to the texts it is given until the object is made.
 */
#include "crm.h"

#include "process/object.h"
#include "utils/numeric.h"

/*
 * The value of a key, NULL when there is none.
 */
JsonbValue *
crm_object_get(Jsonb *object, const char *key, JsonbValue *into)
{
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key), into);
}

/*
 * A key of an object under way, with its value.
 */
void
crm_object_push(JsonbParseState **state, const char *name, JsonbValue *value)
{
	JsonbValue key;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &key);
	pushJsonbValue(state, WJB_VALUE, value);
}

void
crm_object_push_number(JsonbParseState **state, const char *name, int64 number)
{
	JsonbValue value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	crm_object_push(state, name, &value);
}

void
crm_object_push_text(JsonbParseState **state, const char *name, const char *text)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	crm_object_push(state, name, &value);
}

void
crm_object_push_null(JsonbParseState **state, const char *name)
{
	JsonbValue value;

	value.type = jbvNull;
	crm_object_push(state, name, &value);
}

void
crm_object_push_bool(JsonbParseState **state, const char *name, bool yes)
{
	JsonbValue value;

	value.type = jbvBool;
	value.val.boolean = yes;
	crm_object_push(state, name, &value);
}
