/*
 * merge.c
 *		The three-way merge of a patch with a record.
 *
 * A field that nobody changed since the writer read it takes the writer's value; an equal one is nothing; otherwise its class
 * decides, and what cannot be decided becomes a conflict: the record keeps its value, the conflict keeps the writer's. Without a base
 * version every field counts as changed, so that a writer who has read nothing overwrites nothing.
 *
 * Reads the history where writers met. Does not read the record, take locks or write: the caller does.
 */
#include "crm.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/direct.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "writes/merge.h"

/* what a walk through the history looks for, and what it has found */
typedef struct BaseValue
{
	const char *field;
	int32 version; /* of the change, 0: none yet */
	Jsonb *value;
} BaseValue;

static void merge_field(CrmMerge *merge, int c, const JsonbValue *mine);
static void set_value(CrmMerge *merge, int c, Datum value, bool isnull);
static void add_conflict(CrmMerge *merge, int c, const char *name, Jsonb *base, Jsonb *theirs, Jsonb *mine);
static int32 field_version(const CrmMerge *merge, const char *field);
static bool is_empty(const JsonbValue *value);
static Jsonb *base_value(CrmMerge *merge, const char *field);
static void visit_base(HeapTuple row, TupleDesc desc, int32 version, void *arg);
static Jsonb *merge_set(Jsonb *base, Jsonb *theirs, Jsonb *mine);
static bool contains(Jsonb *array, JsonbValue *element);
static Jsonb *merge_keys(CrmMerge *merge, int c, bool stale, Jsonb *base, Jsonb *theirs, Jsonb *mine);
static Jsonb *key_of(Jsonb *object, const JsonbValue *key);
static bool same_json(Jsonb *a, Jsonb *b);
static Jsonb *json_of(const JsonbValue *value);

/*
 * Merge a patch, an object {field: value}, into the record. Raises for an unknown field, one that is not to be written, and a value
 * of the wrong type.
 */
void
crm_merge_patch(CrmMerge *merge, Jsonb *patch)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue v;
	int c = -1;

	if (!JB_ROOT_IS_OBJECT(patch))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a patch must be a JSON object of fields and values")));
	if (merge->has_base && merge->base > DatumGetInt32(merge->values[merge->table->row_version]))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("base version %d of %s is newer than the record, which has version %d", merge->base,
							   merge->table->object, DatumGetInt32(merge->values[merge->table->row_version])),
						errhint("Read the record and send the row_version that was read.")));
	it = JsonbIteratorInit(&patch->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char *name = pnstrdup(v.val.string.val, v.val.string.len);

			c = crm_write_column(merge->table, name);
			if (c < 0)
				ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
								errmsg("%s has no field \"%s\"", merge->table->object, name)));
			if (merge->table->columns[c].write_class == WRITE_FIXED ||
				merge->table->columns[c].write_class == WRITE_ENGINE)
				ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
								errmsg("field \"%s\" of %s is not to be written", name, merge->table->object)));
		}
		else if (token == WJB_VALUE)
			merge_field(merge, c, &v);
	}
}

/*
 * Merge one field.
 */
static void
merge_field(CrmMerge *merge, int c, const JsonbValue *mine)
{
	CrmWriteTable *table = merge->table;
	CrmWriteColumn *column = &table->columns[c];
	const char *name = column->column.name;
	bool stale = !merge->has_base || field_version(merge, name) > merge->base;
	bool deleted = table->deleted_at >= 0 && !merge->nulls[table->deleted_at];
	bool isnull;
	Datum value;

	/* a delta has no base to be stale against */
	if (column->write_class == WRITE_COUNTER && mine->type == jbvBinary &&
		JsonContainerIsObject(mine->val.binary.data) && !deleted)
	{
		JsonbValue *delta = getKeyJsonValueFromContainer(mine->val.binary.data, "add", 3, NULL);
		JsonbValue now;

		if (delta == NULL || delta->type != jbvNumeric || JsonContainerSize(mine->val.binary.data) != 1)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("field \"%s\" needs a number, or {\"add\": number}", name)));
		crm_history_value(&column->column, merge->values[c], merge->nulls[c], &now);
		if (now.type != jbvNumeric)
			now.val.numeric = int64_to_numeric(0);
		now.type = jbvNumeric;
		now.val.numeric = DatumGetNumeric(
			DirectFunctionCall2(numeric_add, NumericGetDatum(now.val.numeric), NumericGetDatum(delta->val.numeric)));
		value = crm_write_value(table, column, &now, &isnull);
		set_value(merge, c, value, isnull);
		return;
	}

	/* custom fields: each key is a field of its own */
	if (column->write_class == WRITE_KEYED && mine->type == jbvBinary && JsonContainerIsObject(mine->val.binary.data) &&
		!deleted)
	{
		Jsonb *theirs = crm_write_jsonb(column, merge->values[c], merge->nulls[c]);
		Jsonb *merged = merge_keys(merge, c, stale, stale ? base_value(merge, name) : NULL, theirs, json_of(mine));

		if (!same_json(merged, theirs))
			set_value(merge, c, JsonbPGetDatum(merged), false);
		return;
	}

	value = crm_write_value(table, column, mine, &isnull);
	/* another system says what it knows, and nothing by what it does not */
	if (merge->connector && is_empty(mine))
		return;
	if (crm_write_equal(column, value, isnull, merge->values[c], merge->nulls[c]))
		return;

	/* whoever deletes must have seen the record as it is */
	if (c == table->deleted_at && !isnull && merge->has_base &&
		merge->base < DatumGetInt32(merge->values[table->row_version]))
		stale = true;
	if (deleted && c != table->deleted_at)
		stale = true;
	else if (stale && column->write_class == WRITE_SET && mine->type == jbvBinary)
	{
		JsonbValue merged;
		Jsonb *set = merge_set(base_value(merge, name), crm_write_jsonb(column, merge->values[c], merge->nulls[c]),
							   json_of(mine));

		merged.type = jbvBinary;
		merged.val.binary.data = &set->root;
		merged.val.binary.len = VARSIZE(set) - VARHDRSZ;
		value = crm_write_value(table, column, &merged, &isnull);
		if (!crm_write_equal(column, value, isnull, merge->values[c], merge->nulls[c]))
			set_value(merge, c, value, isnull);
		return;
	}
	else if (stale && (column->write_class == WRITE_FILL || (merge->connector && column->write_class == WRITE_TEXT)))
	{
		JsonbValue theirs;

		crm_history_value(&column->column, merge->values[c], merge->nulls[c], &theirs);
		if (is_empty(mine))
			return;
		if (is_empty(&theirs))
			stale = false;
	}

	if (stale)
	{
		Jsonb *theirs = crm_write_jsonb(column, merge->values[c], merge->nulls[c]);
		bool untouched = merge->has_base && field_version(merge, name) <= merge->base;

		add_conflict(merge, c, name, untouched ? theirs : base_value(merge, name), theirs, json_of(mine));
	}
	else
		set_value(merge, c, value, isnull);
}

/*
 * The record takes a value.
 */
static void
set_value(CrmMerge *merge, int c, Datum value, bool isnull)
{
	merge->values[c] = value;
	merge->nulls[c] = isnull;
	merge->changed[c] = true;
}

/*
 * The record keeps its value, and the writer's is kept as well.
 */
static void
add_conflict(CrmMerge *merge, int c, const char *name, Jsonb *base, Jsonb *theirs, Jsonb *mine)
{
	CrmConflict *conflict = palloc0(sizeof(CrmConflict));

	conflict->field = pstrdup(name);
	conflict->number = merge->table->columns[c].field;
	conflict->base = base;
	conflict->theirs = theirs;
	conflict->mine = mine;
	conflict->their_version = field_version(merge, merge->table->columns[c].column.name);
	merge->conflicts = lappend(merge->conflicts, conflict);
}

/*
 * Version in which a field was last written. One that is not listed was not since the insert.
 */
static int32
field_version(const CrmMerge *merge, const char *field)
{
	Jsonb *versions;
	JsonbValue *v;

	if (merge->nulls[merge->table->field_version])
		return 1;
	versions = DatumGetJsonbP(merge->values[merge->table->field_version]);
	v = getKeyJsonValueFromContainer(&versions->root, field, strlen(field), NULL);
	return v && v->type == jbvNumeric
			   ? DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(v->val.numeric)))
			   : 1;
}

/*
 * Does a value say nothing?
 */
static bool
is_empty(const JsonbValue *value)
{
	return value->type == jbvNull || (value->type == jbvString && value->val.string.len == 0);
}

/*
 * What a field was when the writer read the record: the old value of its first change since. NULL when it is not known.
 */
static Jsonb *
base_value(CrmMerge *merge, const char *field)
{
	BaseValue found = {field, 0, NULL};

	if (merge->has_base)
		crm_history_walk(merge->table->object, merge->id, merge->base,
						 DatumGetInt32(merge->values[merge->table->row_version]), visit_base, &found);
	return found.value;
}

/*
 * Visits changes: the first that has the field is the one that counts.
 */
static void
visit_base(HeapTuple row, TupleDesc desc, int32 version, void *arg)
{
	BaseValue *found = arg;
	bool isnull;
	Jsonb *fields;
	JsonbValue *change;

	if (found->version != 0 && found->version < version)
		return;
	fields = DatumGetJsonbP(
		DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(heap_getattr(
										  row, crm_direct_column(desc, "fields", TEXTOID), desc, &isnull)))));
	change = getKeyJsonValueFromContainer(&fields->root, found->field, strlen(found->field), NULL);
	if (change && change->type == jbvBinary && JsonContainerIsArray(change->val.binary.data))
	{
		found->version = version;
		found->value = JsonbValueToJsonb(getIthJsonbValueFromContainer(change->val.binary.data, 0));
	}
}

/*
 * Two writers' sets: what either added is in, and what the writer took out of the set that was read is out.
 */
static Jsonb *
merge_set(Jsonb *base, Jsonb *theirs, Jsonb *mine)
{
	JsonbParseState *state = NULL;
	Jsonb *sources[2] = {theirs, mine};

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int s = 0; s < 2; s++)
	{
		JsonbIterator *it = JsonbIteratorInit(&sources[s]->root);
		JsonbIteratorToken token;
		JsonbValue v;

		if (!JB_ROOT_IS_ARRAY(sources[s]) || JB_ROOT_IS_SCALAR(sources[s]))
			continue;
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token != WJB_ELEM)
				continue;
			if (s == 0 && base && contains(base, &v) && !contains(mine, &v))
				continue;
			if (s == 1 && (contains(theirs, &v) || (base && contains(base, &v))))
				continue;
			pushJsonbValue(&state, WJB_ELEM, &v);
		}
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/*
 * Is a scalar among an array's elements?
 */
static bool
contains(Jsonb *array, JsonbValue *element)
{
	return JB_ROOT_IS_ARRAY(array) && IsAJsonbScalar(element) &&
		   findJsonbValueFromContainer(&array->root, JB_FARRAY, element) != NULL;
}

/*
 * Two writers' documents, key by key: a key that only one changed takes that change, null takes a key away.
 */
static Jsonb *
merge_keys(CrmMerge *merge, int c, bool stale, Jsonb *base, Jsonb *theirs, Jsonb *mine)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue v;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (JB_ROOT_IS_OBJECT(theirs))
	{
		it = JsonbIteratorInit(&theirs->root);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
				key = v;
			else if (token == WJB_VALUE && key_of(mine, &key) == NULL)
			{
				pushJsonbValue(&state, WJB_KEY, &key);
				pushJsonbValue(&state, WJB_VALUE, &v);
			}
		}
	}
	it = JsonbIteratorInit(&mine->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		Jsonb *now;
		Jsonb *was;
		Jsonb *wanted;
		bool take = true;

		if (token == WJB_KEY)
			key = v;
		if (token != WJB_VALUE)
			continue;
		now = key_of(theirs, &key);
		was = base ? key_of(base, &key) : NULL;
		wanted = json_of(&v);
		if (stale && !same_json(now, wanted) && !(v.type == jbvNull && now == NULL))
			take = base ? same_json(now, was) : now == NULL;
		if (!take)
		{
			char *name =
				psprintf("%s.%.*s", merge->table->columns[c].column.name, key.val.string.len, key.val.string.val);

			add_conflict(merge, c, name, was, now, wanted);
			if (now == NULL)
				continue;
			wanted = now;
		}
		else if (v.type == jbvNull)
			continue;
		pushJsonbValue(&state, WJB_KEY, &key);
		if (JB_ROOT_IS_SCALAR(wanted))
			(void) JsonbExtractScalar(&wanted->root, &v);
		else
		{
			v.type = jbvBinary;
			v.val.binary.data = &wanted->root;
			v.val.binary.len = VARSIZE(wanted) - VARHDRSZ;
		}
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * A key's value, NULL when it is not there.
 */
static Jsonb *
key_of(Jsonb *object, const JsonbValue *key)
{
	JsonbValue *v = JB_ROOT_IS_OBJECT(object)
						? getKeyJsonValueFromContainer(&object->root, key->val.string.val, key->val.string.len, NULL)
						: NULL;

	return v ? json_of(v) : NULL;
}

/*
 * Are two JSON values, or their absence, the same?
 */
static bool
same_json(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

/*
 * JSON of a value.
 */
static Jsonb *
json_of(const JsonbValue *value)
{
	return JsonbValueToJsonb((JsonbValue *) value);
}
