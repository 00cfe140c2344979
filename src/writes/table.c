/*
 * table.c
 *		What crm.write knows of a table, and how a value of a patch becomes a value of a column.
 *
 * Memory: an entry lives in a child of CacheMemoryContext until the table changes; values in the caller's context.
 */
#include "crm.h"
#include "common/invalidate.h"

#include "access/access.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "writes/table.h"

static HTAB *tables = NULL;

static void fill_table(CrmWriteTable *table);
static void read_registry(CrmWriteTable *table);
static void invalidate_table(Datum arg, Oid relid);
static Datum scalar_value(FmgrInfo *input, Oid ioparam, int32 typmod, Oid type, const char *name,
						  const JsonbValue *value);
static void field_context(void *arg);

/*
 * Called when the library is loaded.
 */
void
crm_write_table_init(void)
{
	crm_on_relation_change(invalidate_table);
}

/*
 * What is known of an object's table. Raises for one that does not exist or has no versions. As the owner of the tables.
 */
CrmWriteTable *
crm_write_table(const char *object)
{
	CrmWriteTable *table = crm_write_table_if(object);

	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no object \"%s\" that can be written", object),
				 errhint("Use the name of its view, for example account, contact or opportunity.")));
	return table;
}

/*
 * The same, or NULL.
 */
CrmWriteTable *
crm_write_table_if(const char *object)
{
	char key[NAMEDATALEN] = {0};
	CrmWriteTable *table;
	bool found;

	if (tables == NULL)
	{
		HASHCTL ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(CrmWriteTable);
		ctl.hcxt = CacheMemoryContext;
		tables = hash_create("crm write tables", 32, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	strlcpy(key, object, NAMEDATALEN);
	table = hash_search(tables, key, HASH_ENTER, &found);
	if (!found)
	{
		table->valid = false;
		table->context = NULL;
	}
	if (!table->valid || table->generation != crm_profile_generation)
	{
		table->valid = false;
		fill_table(table);
	}
	return table->written ? table : NULL;
}

/*
 * Read a table's columns. The entry becomes valid last.
 */
static void
fill_table(CrmWriteTable *table)
{
	Oid relid = get_relname_relid(table->object, get_namespace_oid(CRM_DATA_SCHEMA, false));
	Relation rel;
	TupleDesc desc;
	MemoryContext old;
	ListCell *cell;
	struct
	{
		const char *name;
		Oid type;
		int *place;
	} places[] = {{"id", INT8OID, &table->id},
				  {"account_id", INT8OID, &table->account_id},
				  {"row_version", INT4OID, &table->row_version},
				  {"field_version", JSONBOID, &table->field_version},
				  {"op_seq", INT8OID, &table->op_seq},
				  {"op_apart", BOOLOID, &table->op_apart},
				  {"owner_id", INT8OID, &table->owner_id},
				  {"team_id", INT8OID, &table->team_id},
				  {"grade", INT2OID, &table->grade},
				  {"deleted_at", TIMESTAMPTZOID, &table->deleted_at},
				  {"merged_into", INT8OID, &table->merged_into},
				  {"lease_endpoint", TEXTOID, &table->lease_endpoint},
				  {"lease_until", TIMESTAMPTZOID, &table->lease_until},
				  {"sync_off", TEXTARRAYOID, &table->sync_off}};

	for (int i = 0; i < lengthof(places); i++)
		*places[i].place = -1;
	rel = OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_RELATION ? table_open(relid, AccessShareLock) : NULL;
	if (table->context)
		MemoryContextDelete(table->context);
	table->context = NULL;
	table->ncolumns = 0;
	table->relid = InvalidOid;
	if (rel)
	{
		table->context = AllocSetContextCreate(CacheMemoryContext, "crm write table", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(table->context);
		desc = RelationGetDescr(rel);
		table->relid = relid;
		table->owner = rel->rd_rel->relowner;
		table->natts = desc->natts;
		table->desc = CreateTupleDescCopy(desc);
		table->columns = palloc0(desc->natts * sizeof(CrmWriteColumn));
		table->ncolumns = 0;
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);
			CrmWriteColumn *column = &table->columns[table->ncolumns];
			Oid input;

			if (att->attisdropped)
				continue;
			crm_history_column_init(&column->column, att, table->context);
			column->write_class = WRITE_FIXED;
			column->typmod = att->atttypmod;
			column->len = att->attlen;
			column->byval = att->attbyval;
			getTypeInputInfo(att->atttypid, &input, &column->ioparam);
			fmgr_info_cxt(input, &column->input, table->context);
			column->element = get_element_type(att->atttypid);
			if (OidIsValid(column->element))
			{
				get_typlenbyvalalign(column->element, &column->element_len, &column->element_byval,
									 &column->element_align);
				getTypeInputInfo(column->element, &input, &column->element_ioparam);
				fmgr_info_cxt(input, &column->element_input, table->context);
			}
			for (int p = 0; p < lengthof(places); p++)
				if (strcmp(places[p].name, column->column.name) == 0 && places[p].type == att->atttypid)
					*places[p].place = table->ncolumns;
			table->ncolumns++;
		}
		foreach (cell, RelationGetFKeyList(rel))
		{
			ForeignKeyCacheInfo *fk = lfirst(cell);
			char *parent = get_rel_name(fk->confrelid);

			if (fk->nkeys != 1 || get_rel_namespace(fk->confrelid) != RelationGetNamespace(rel) ||
				!OidIsValid(get_relname_relid(parent, get_namespace_oid(CRM_SCHEMA, false))))
				continue;
			for (int i = 0; i < table->ncolumns; i++)
				if (table->columns[i].column.attnum == fk->conkey[0])
					table->columns[i].parent = pstrdup(parent);
		}
		MemoryContextSwitchTo(old);
		table_close(rel, AccessShareLock);
	}
	table->written = rel != NULL && table->id >= 0 && table->row_version >= 0 && table->field_version >= 0;
	if (table->written)
		read_registry(table);
	table->generation = crm_profile_generation;
	table->valid = true;
}

/*
 * Read from the registry of fields how each column is written. A column that is not there is not written by people.
 */
static void
read_registry(CrmWriteTable *table)
{
	static const char *const names[] = {"text", "strict", "set", "counter", "fill", "keyed", "fixed", "engine"};
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(table->object)};

	SPI_connect();
	if (SPI_execute_with_args("SELECT name, id, write_class FROM " CRM_DATA_SCHEMA
							  ".field WHERE object OPERATOR(pg_catalog.=) $1 AND NOT custom",
							  1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the registry of fields");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		int c = crm_write_column(table, SPI_getvalue(row, SPI_tuptable->tupdesc, 1));
		char *class = SPI_getvalue(row, SPI_tuptable->tupdesc, 3);
		bool isnull;

		if (c < 0)
			continue;
		table->columns[c].field = DatumGetInt32(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		for (int n = 0; n < lengthof(names); n++)
			if (strcmp(names[n], class) == 0)
				table->columns[c].write_class = (CrmWriteClass) n;
	}
	SPI_finish();
}

/*
 * Relation cache callback. Only sets a flag.
 */
static void
invalidate_table(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	CrmWriteTable *table;

	if (tables == NULL)
		return;
	hash_seq_init(&seq, tables);
	while ((table = hash_seq_search(&seq)) != NULL)
		if (!OidIsValid(relid) || table->relid == relid)
			table->valid = false;
}

/*
 * Place of a column, -1 when there is none.
 */
int
crm_write_column(const CrmWriteTable *table, const char *name)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (strcmp(table->columns[i].column.name, name) == 0)
			return i;
	return -1;
}

/*
 * A value of a patch as the column's type has it. Raises 22023 for a value of the wrong shape, and what the type's input
 * raises, with the field in the context.
 */
Datum
crm_write_value(CrmWriteTable *table, CrmWriteColumn *column, const JsonbValue *value, bool *isnull)
{
	ErrorContextCallback context;
	Datum result;

	*isnull = value->type == jbvNull;
	if (*isnull)
		return (Datum) 0;

	context.callback = field_context;
	context.arg = column->column.name;
	context.previous = error_context_stack;
	error_context_stack = &context;
	if (column->column.type == JSONBOID)
		result = JsonbPGetDatum(JsonbValueToJsonb((JsonbValue *) value));
	else if (OidIsValid(column->element))
	{
		Datum *elements;
		bool *nulls;
		int n = 0;
		int dims[1];
		int bounds[1] = {1};
		JsonbIterator *it;
		JsonbIteratorToken token;
		JsonbValue v;

		if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("field \"%s\" needs an array", column->column.name)));
		elements = palloc((JsonContainerSize(value->val.binary.data) + 1) * sizeof(Datum));
		nulls = palloc((JsonContainerSize(value->val.binary.data) + 1) * sizeof(bool));
		it = JsonbIteratorInit(value->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
			if (token == WJB_ELEM)
			{
				nulls[n] = v.type == jbvNull;
				elements[n] = nulls[n] ? (Datum) 0
									   : scalar_value(&column->element_input, column->element_ioparam, -1,
													  column->element, column->column.name, &v);
				n++;
			}
		dims[0] = n;
		result = PointerGetDatum(n == 0 ? construct_empty_array(column->element)
										: construct_md_array(elements, nulls, 1, dims, bounds, column->element,
															 column->element_len, column->element_byval,
															 column->element_align));
	}
	else
		result = scalar_value(&column->input, column->ioparam, column->typmod, column->column.type, column->column.name,
							  value);
	error_context_stack = context.previous;
	return result;
}

/*
 * A single JSON value as a type's input reads it.
 */
static Datum
scalar_value(FmgrInfo *input, Oid ioparam, int32 typmod, Oid type, const char *name, const JsonbValue *value)
{
	char *text = NULL;

	switch (value->type)
	{
		case jbvString: text = pnstrdup(value->val.string.val, value->val.string.len); break;
		case jbvNumeric:
			if (type != TEXTOID && type != BOOLOID)
				text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
			break;
		case jbvBool:
			if (type == BOOLOID)
				text = value->val.boolean ? "t" : "f";
			break;
		default: break;
	}
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("field \"%s\" needs a single value of type %s", name, format_type_be(type))));
	return InputFunctionCall(input, text, ioparam, typmod);
}

/*
 * Error context: which field of the patch it was.
 */
static void
field_context(void *arg)
{
	errcontext("field \"%s\" of the patch", (const char *) arg);
}

/*
 * A column's value as JSON, the form of the history; NULL becomes JSON null.
 */
Jsonb *
crm_write_jsonb(CrmWriteColumn *column, Datum value, bool isnull)
{
	JsonbValue v;

	crm_history_value(&column->column, value, isnull, &v);
	return JsonbValueToJsonb(&v);
}

/*
 * Are two values of a column the same?
 */
bool
crm_write_equal(const CrmWriteColumn *column, Datum a, bool a_null, Datum b, bool b_null)
{
	if (a_null || b_null)
		return a_null == b_null;
	return datum_image_eq(a, b, column->byval, column->len);
}
