/*
 * lattice_type.c
 *		Type crm.lattice and its functions: fit (an aggregate), predict, update, learn (an aggregate), explain.
 *
 * A value is the blob of blob.c in a varlena, checked in full whenever it comes from outside, and again whenever it is parsed; or, between
 * functions, a reference to a model that is parsed already (lattice_ref.c).
 *
 * What this file does not do: the arithmetic (lattice.c), the stored form (blob.c).
 *
 * No locks. Memory: results in the caller's context; a call site's reference to a model in its own; an aggregate's state in the
 * aggregate's.
 */
#include "odds/lattice_type.h"

#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "odds/lattice_ref.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(crm_lattice_in);
PG_FUNCTION_INFO_V1(crm_lattice_out);
PG_FUNCTION_INFO_V1(crm_lattice_recv);
PG_FUNCTION_INFO_V1(crm_lattice_send);
PG_FUNCTION_INFO_V1(crm_lattice_from_bytea);
PG_FUNCTION_INFO_V1(crm_lattice_fit_trans);
PG_FUNCTION_INFO_V1(crm_lattice_fit_final);
PG_FUNCTION_INFO_V1(crm_lattice_learn_trans);
PG_FUNCTION_INFO_V1(crm_lattice_learn_final);
PG_FUNCTION_INFO_V1(crm_lattice_predict);
PG_FUNCTION_INFO_V1(crm_lattice_update);
PG_FUNCTION_INFO_V1(crm_lattice_explain);
PG_FUNCTION_INFO_V1(crm_lattice_monotone);

#define MAX_STRENGTH 1e6

/* What a call site keeps. */
typedef struct CallSite
{
	LatticeRefKey last;
	TupleDesc desc; /* of the result row, where the function has one */
} CallSite;

typedef struct FitState
{
	Lattice *values; /* its dictionaries alone are used: values in order of arrival */
	int64 nrows;
	int64 room;
	int32 *code; /* nrows x dims */
	double *outcome;
	double *weight;
	bool has_options;
	Jsonb *options_seen;
	LatticeFitOptions options;
} FitState;

typedef struct SortArg
{
	const FitState *state;
	int32 **rank;
} SortArg;

/*
 * Check a blob from outside and answer it as a value.
 */
static struct varlena *
checked_value(const char *bytes, Size len)
{
	struct varlena *result;
	Lattice *m;
	const char *wrong;
	MemoryContext check = AllocSetContextCreate(CurrentMemoryContext, "crm lattice check", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(check);

	wrong = crm_lattice_blob_read(bytes, len, &m);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(check);
	if (wrong)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("invalid lattice model: %s", wrong)));
	result = palloc(len + VARHDRSZ);
	SET_VARSIZE(result, len + VARHDRSZ);
	memcpy(VARDATA(result), bytes, len);
	return result;
}

/*
 * Parse the bytes of a model into the current context. They were checked when they came in, but storage may have been damaged since.
 */
Lattice *
crm_lattice_parse_bytes(const char *bytes, Size len)
{
	Lattice *m;
	char *copy = MemoryContextAllocHuge(CurrentMemoryContext, Max(len, 1));
	const char *wrong;

	memcpy(copy, bytes, len);
	wrong = crm_lattice_blob_read(copy, len, &m);
	if (wrong)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("damaged lattice model: %s", wrong)));
	return m;
}

/*
 * Parse a value into the current context.
 */
static Lattice *
parse_value(Datum value)
{
	struct varlena *flat = PG_DETOAST_DATUM_PACKED(value);

	return crm_lattice_parse_bytes(VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat));
}

/*
 * Size of a model as a value.
 */
Size
crm_lattice_flat_size(const Lattice *m)
{
	Size size = crm_lattice_blob_size(m);

	if (size > MaxAllocSize - VARHDRSZ)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the lattice model is larger than 1 GB"),
						errhint("Leave out dimensions with very many values, or group their rare values.")));
	return size + VARHDRSZ;
}

/*
 * A model as a value.
 */
bytea *
crm_lattice_flatten(const Lattice *m)
{
	Size size = crm_lattice_flat_size(m);
	bytea *flat = palloc(size);

	SET_VARSIZE(flat, size);
	crm_lattice_blob_write(m, VARDATA(flat));
	return flat;
}

/*
 * Input: \x and hexadecimal digits, as lattice_out writes them.
 */
Datum
crm_lattice_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	bytea *bytes;

	if (text[0] != '\\' || text[1] != 'x')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("invalid input syntax for type crm.lattice"),
				 errdetail("A model is written as \\x and hexadecimal digits.")));
	bytes = DatumGetByteaPP(DirectFunctionCall1(byteain, CStringGetDatum(text)));
	PG_RETURN_POINTER(checked_value(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

/*
 * Output: hexadecimal whatever bytea_output says, so that a dump is readable everywhere.
 */
Datum
crm_lattice_out(PG_FUNCTION_ARGS)
{
	static const char digits[] = "0123456789abcdef";
	struct varlena *flat = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(flat);
	Size len = VARSIZE_ANY_EXHDR(flat);
	char *result = palloc_extended(len * 2 + 3, MCXT_ALLOC_HUGE);
	char *to = result;

	*to++ = '\\';
	*to++ = 'x';
	for (Size i = 0; i < len; i++)
	{
		*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 15];
	}
	*to = '\0';
	PG_RETURN_CSTRING(result);
}

/*
 * Binary input.
 */
Datum
crm_lattice_recv(PG_FUNCTION_ARGS)
{
	StringInfo buf = (StringInfo) PG_GETARG_POINTER(0);
	int len = buf->len - buf->cursor;

	PG_RETURN_POINTER(checked_value(pq_getmsgbytes(buf, len), len));
}

/*
 * Binary output, which is also the cast to bytea.
 */
Datum
crm_lattice_send(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(PG_DETOAST_DATUM_COPY(PG_GETARG_DATUM(0)));
}

/*
 * Cast from bytea: the tables keep models as bytea, so that no column depends on the extension. A model that was read lately is known.
 */
Datum
crm_lattice_from_bytea(PG_FUNCTION_ARGS)
{
	LatticeRef *known = crm_lattice_ref_known(PG_GETARG_DATUM(0));
	bytea *bytes;

	if (known)
		PG_RETURN_DATUM(crm_lattice_ref_datum(known));
	bytes = PG_GETARG_BYTEA_PP(0);
	PG_RETURN_POINTER(checked_value(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

/*
 * Refuse a number of dimensions that no model has.
 */
void
crm_lattice_check_ndims(int ndims)
{
	if (ndims < 1 || ndims > LATTICE_MAX_DIMS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a lattice model has 1 to %d dimensions, not %d", LATTICE_MAX_DIMS, ndims)));
}

/*
 * Refuse an outcome that is no probability.
 */
void
crm_lattice_check_outcome(double outcome)
{
	if (!(outcome >= 0 && outcome <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an outcome must be from 0 to 1, not %g", outcome)));
}

/*
 * Refuse a weight that cannot be summed.
 */
void
crm_lattice_check_weight(double weight)
{
	if (!(weight >= 0 && weight <= 1e12))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a weight must be from 0 to 1e12, not %g", weight)));
}

/*
 * Take the elements of a text array apart, without copying them. Room for LATTICE_MAX_DIMS.
 */
int
crm_lattice_take_dims(ArrayType *dims, LatticeText *value)
{
	int n = ArrayGetNItems(ARR_NDIM(dims), ARR_DIMS(dims));
	const char *at = ARR_DATA_PTR(dims);
	bits8 *present = ARR_NULLBITMAP(dims);

	if (ARR_NDIM(dims) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("dimensions must be a one-dimensional array")));
	crm_lattice_check_ndims(n);
	for (int i = 0; i < n; i++)
	{
		if (present && !(present[i / 8] & (1 << (i % 8))))
		{
			value[i].text = NULL;
			value[i].len = 0;
			continue;
		}
		value[i].text = VARDATA_ANY(at);
		value[i].len = VARSIZE_ANY_EXHDR(at);
		at = att_addlength_pointer(at, -1, at);
		at = (const char *) att_align_nominal(at, TYPALIGN_INT);
	}
	return n;
}

/*
 * Raise unless the case has the model's dimensions.
 */
static void
check_same_ndims(int given, int expected)
{
	if (given != expected)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("%d dimensions given where the others or the model have %d", given, expected)));
}

/*
 * The model of argument 0, ready to be used, and the result row's description if wanted. A query that applies one model to many rows
 * looks for it once.
 */
static LatticeRef *
model_of(FunctionCallInfo fcinfo, TupleDesc *desc)
{
	CallSite *site = fcinfo->flinfo->fn_extra;
	MemoryContext keep = fcinfo->flinfo->fn_mcxt;

	if (!site)
		site = fcinfo->flinfo->fn_extra = MemoryContextAllocZero(keep, sizeof(CallSite));
	if (desc && !site->desc)
	{
		MemoryContext old = MemoryContextSwitchTo(keep);

		if (get_call_result_type(fcinfo, NULL, &site->desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		site->desc = BlessTupleDesc(CreateTupleDescCopy(site->desc));
		MemoryContextSwitchTo(old);
	}
	if (desc)
		*desc = site->desc;
	return crm_lattice_ref_get(PG_GETARG_DATUM(0), &site->last, keep);
}

/*
 * Codes of a case: LATTICE_UNSEEN for values that the model has not met.
 */
static void
find_codes(const Lattice *m, ArrayType *dims, LatticeText *value, int32 *code)
{
	check_same_ndims(crm_lattice_take_dims(dims, value), m->ndims);
	for (int d = 0; d < m->ndims; d++)
		code[d] = crm_lattice_find_value(m, d, value[d].text, value[d].len);
}

/*
 * crm.lattice_predict(m crm.lattice, dims text[])
 */
Datum
crm_lattice_predict(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	const Lattice *m = crm_lattice_ref_model(model_of(fcinfo, &desc));
	LatticeText value[LATTICE_MAX_DIMS];
	int32 code[LATTICE_MAX_DIMS];
	int32 cell[LATTICE_MAX_BLOCKS];
	double p;
	double low;
	double high;
	Datum values[4];
	bool nulls[4] = {false, false, false, false};

	find_codes(m, PG_GETARG_ARRAYTYPE_P(1), value, code);
	crm_lattice_cells(m, code, cell);
	crm_lattice_interval(crm_lattice_estimate(m, cell, NULL), m->n, &p, &low, &high);
	values[0] = Float8GetDatum(p);
	values[1] = Float8GetDatum(low);
	values[2] = Float8GetDatum(high);
	values[3] = Float8GetDatum(m->n);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * crm.lattice_explain(m crm.lattice, dims text[]): first the intercept as dimension 0, then each dimension.
 */
Datum
crm_lattice_explain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const Lattice *m;
	LatticeText value[LATTICE_MAX_DIMS];
	int32 code[LATTICE_MAX_DIMS];
	int32 cell[LATTICE_MAX_BLOCKS];
	double part[LATTICE_MAX_DIMS];
	double base;
	double logit;

	InitMaterializedSRF(fcinfo, 0);
	m = crm_lattice_ref_model(model_of(fcinfo, NULL));
	find_codes(m, PG_GETARG_ARRAYTYPE_P(1), value, code);
	crm_lattice_cells(m, code, cell);
	base = crm_lattice_contributions(m, cell, part);
	logit = base;
	for (int d = 0; d < m->ndims; d++)
		logit += part[d];

	for (int d = -1; d < m->ndims; d++)
	{
		Datum values[5];
		bool nulls[5] = {false, d < 0 || !value[d].text, false, d < 0, false};
		double mine = d < 0 ? base : part[d];

		values[0] = Int32GetDatum(d + 1);
		values[1] = nulls[1] ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(value[d].text, value[d].len));
		values[2] = Float8GetDatum(mine);
		values[3] = Float8GetDatum(100.0 * (crm_lattice_sigmoid(logit) - crm_lattice_sigmoid(logit - mine)));
		values[4] = Float8GetDatum(d < 0 ? m->n : code[d] < 0 ? 0 : m->dict[d].value[code[d]].n);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * crm.lattice_monotone(m crm.lattice, dim int, ordered text[])
 */
Datum
crm_lattice_monotone(PG_FUNCTION_ARGS)
{
	Lattice *m = parse_value(PG_GETARG_DATUM(0));
	int32 dim = PG_GETARG_INT32(1);
	Datum *value;
	bool *isnull;
	int nvalues;
	int32 code[LATTICE_MAX_ORDERED];
	int32 n = 0;

	if (dim < 1 || dim > m->ndims)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the model has dimensions 1 to %d, not %d", m->ndims, dim)));
	for (int e = 0; e < m->nexperts; e++)
		if (m->expert[e].order > 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("only a model of order 1 can be made monotone"),
					 errhint("Fit it with the option {\"order\": 1}.")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &value, &isnull, &nvalues);
	if (nvalues > LATTICE_MAX_ORDERED)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("at most %d values can be ordered", LATTICE_MAX_ORDERED)));
	for (int i = 0; i < nvalues; i++)
	{
		text *one = isnull[i] ? NULL : DatumGetTextPP(value[i]);
		int32 found =
			crm_lattice_find_value(m, dim - 1, one ? VARDATA_ANY(one) : NULL, one ? VARSIZE_ANY_EXHDR(one) : 0);

		for (int j = 0; j < n; j++)
			if (code[j] == found)
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a value stands twice in the order")));
		/* a value that the model has not met has no effect to move */
		if (found >= 0)
			code[n++] = found;
	}
	crm_lattice_make_monotone(m, dim - 1, code, n);
	PG_RETURN_POINTER(crm_lattice_flatten(m));
}

/*
 * Take a case apart that a model is to learn.
 */
static void
take_case(const Lattice *m, ArrayType *dims, double outcome, double weight, LatticeText *value)
{
	check_same_ndims(crm_lattice_take_dims(dims, value), m->ndims);
	crm_lattice_check_outcome(outcome);
	crm_lattice_check_weight(weight);
}

/*
 * crm.lattice_update(m crm.lattice, dims text[], outcome float8, weight float8)
 */
Datum
crm_lattice_update(PG_FUNCTION_ARGS)
{
	LatticeRef *given = model_of(fcinfo, NULL);
	bool in_place = VARATT_IS_EXTERNAL_EXPANDED_RW(PG_GETARG_POINTER(0));
	double outcome = PG_GETARG_FLOAT8(2);
	double weight = PG_GETARG_FLOAT8(3);
	LatticeText value[LATTICE_MAX_DIMS];

	take_case(crm_lattice_ref_model(given), PG_GETARG_ARRAYTYPE_P(1), outcome, weight, value);
	PG_RETURN_DATUM(crm_lattice_ref_learn(given, in_place, value, outcome, weight));
}

/*
 * The context that an aggregate's state lives in, a named child of the aggregate's own.
 */
static MemoryContext
aggregate_context(FunctionCallInfo fcinfo, const char *function)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is called as part of an aggregate only", function)));
	return context;
}

/*
 * Aggregate crm.lattice_learn(m crm.lattice, dims text[], outcome float8, weight float8): the model of the first row, taken through
 * all rows in the order in which they come.
 */
Datum
crm_lattice_learn_trans(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo, "lattice_learn");
	Lattice *m = PG_ARGISNULL(0) ? NULL : (Lattice *) PG_GETARG_POINTER(0);
	LatticeText value[LATTICE_MAX_DIMS];
	ArrayType *dims;
	MemoryContext old;

	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the model to learn from must not be null")));
	if (PG_ARGISNULL(2) || PG_ARGISNULL(3) || PG_ARGISNULL(4))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("dimensions, outcome and weight must not be null"),
				 errhint("A single dimension may be null: null is a value of its own.")));
	dims = PG_GETARG_ARRAYTYPE_P(2);
	old = MemoryContextSwitchTo(context);
	if (!m)
		m = parse_value(PG_GETARG_DATUM(1));
	take_case(m, dims, PG_GETARG_FLOAT8(3), PG_GETARG_FLOAT8(4), value);
	crm_lattice_learn(m, value, PG_GETARG_FLOAT8(3), PG_GETARG_FLOAT8(4), NULL);
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(m);
}

Datum
crm_lattice_learn_final(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_POINTER(crm_lattice_flatten((Lattice *) PG_GETARG_POINTER(0)));
}

/*
 * A number of the options, or the default.
 */
static double
option_number(Jsonb *options, JsonbContainer *from, const char *key, double otherwise, double least, double most)
{
	JsonbValue value;
	double number;

	if (!getKeyJsonValueFromContainer(from, key, strlen(key), &value))
		return otherwise;
	if (value.type != jbvNumeric)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" must be a number", key)));
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value.val.numeric)));
	if (!(number >= least && number <= most))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" must be from %g to %g, not %g", key, least, most, number)));
	return number;
}

/*
 * Refuse keys that mean nothing: a misspelt option must not be a silent default.
 */
static void
check_keys(JsonbContainer *object, const char *const *known)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue value;
	JsonbIteratorToken token;
	bool skip = false;

	while ((token = JsonbIteratorNext(&it, &value, skip)) != WJB_DONE)
	{
		skip = true;
		if (token == WJB_KEY)
		{
			bool found = false;

			for (const char *const *k = known; *k; k++)
				if (strlen(*k) == value.val.string.len && memcmp(*k, value.val.string.val, value.val.string.len) == 0)
					found = true;
			if (!found)
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
								errmsg("unknown option \"%.*s\"", value.val.string.len, value.val.string.val)));
		}
	}
}

/*
 * Read the options of lattice_fit: {"order": 2, "sweeps": 20, "prior": [{"dim": 1, "value": "Demo", "p": 0.8, "strength": 20}]}
 */
void
crm_lattice_read_options(Jsonb *json, int ndims, LatticeFitOptions *options)
{
	static const char *const known[] = {"order", "sweeps", "prior", NULL};
	static const char *const known_prior[] = {"dim", "value", "p", "strength", NULL};
	JsonbValue priors;

	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be a JSON object")));
	check_keys(&json->root, known);
	options->order = (int) option_number(json, &json->root, "order", 2, 1, 2);
	options->sweeps = (int) option_number(json, &json->root, "sweeps", LATTICE_DEFAULT_SWEEPS, LATTICE_MIN_SWEEPS,
										  LATTICE_MAX_SWEEPS);
	if (!getKeyJsonValueFromContainer(&json->root, "prior", 5, &priors))
		return;
	if (priors.type != jbvBinary || !JsonContainerIsArray(priors.val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"prior\" must be an array of objects")));
	options->npriors = JsonContainerSize(priors.val.binary.data);
	options->prior = palloc0(sizeof(LatticeFitPrior) * Max(options->npriors, 1));
	for (int i = 0; i < options->npriors; i++)
	{
		JsonbValue *one = getIthJsonbValueFromContainer(priors.val.binary.data, i);
		JsonbContainer *object;
		JsonbValue value;
		LatticeFitPrior *prior = &options->prior[i];

		if (one->type != jbvBinary || !JsonContainerIsObject(one->val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"prior\" must be an array of objects")));
		object = one->val.binary.data;
		check_keys(object, known_prior);
		prior->dim = (int) option_number(json, object, "dim", 0, 1, ndims) - 1;
		prior->p = option_number(json, object, "p", -1, 0.001, 0.999);
		prior->strength = option_number(json, object, "strength", 20, 1e-3, MAX_STRENGTH);
		if (prior->dim < 0 || prior->p < 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a prior needs \"dim\" and \"p\"")));
		if (!getKeyJsonValueFromContainer(object, "value", 5, &value) || value.type == jbvNull)
			prior->value.text = NULL;
		else if (value.type == jbvString)
		{
			prior->value.text = pnstrdup(value.val.string.val, value.val.string.len);
			prior->value.len = value.val.string.len;
		}
		else
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("the value of a prior must be a string or null")));
		for (int j = 0; j < i; j++)
			if (options->prior[j].dim == prior->dim && options->prior[j].value.len == prior->value.len &&
				(options->prior[j].value.text == NULL) == (prior->value.text == NULL) &&
				(!prior->value.text || memcmp(options->prior[j].value.text, prior->value.text, prior->value.len) == 0))
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a value has two priors"),
								errdetail("Dimension %d.", prior->dim + 1)));
	}
}

/*
 * Aggregate crm.lattice_fit(dims text[], outcome float8, weight float8 [, options jsonb]): collect the rows.
 */
Datum
crm_lattice_fit_trans(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo, "lattice_fit");
	FitState *state = PG_ARGISNULL(0) ? NULL : (FitState *) PG_GETARG_POINTER(0);
	LatticeText value[LATTICE_MAX_DIMS];
	ArrayType *dims;
	double outcome;
	double weight;
	int ndims;
	MemoryContext old;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("dimensions, outcome and weight must not be null"),
				 errhint("A single dimension may be null: null is a value of its own.")));
	dims = PG_GETARG_ARRAYTYPE_P(1);
	outcome = PG_GETARG_FLOAT8(2);
	weight = PG_GETARG_FLOAT8(3);
	ndims = crm_lattice_take_dims(dims, value);
	crm_lattice_check_outcome(outcome);
	crm_lattice_check_weight(weight);

	old = MemoryContextSwitchTo(context);
	if (!state)
	{
		state = palloc0(sizeof(FitState));
		state->values = crm_lattice_create(ndims);
		state->options.order = 2;
		state->options.sweeps = LATTICE_DEFAULT_SWEEPS;
		if (PG_NARGS() > 4 && !PG_ARGISNULL(4))
		{
			state->options_seen = DatumGetJsonbPCopy(PG_GETARG_DATUM(4));
			crm_lattice_read_options(state->options_seen, ndims, &state->options);
		}
	}
	else if (PG_NARGS() > 4)
	{
		/* the first row would decide, and which row is first is nobody's choice */
		Jsonb *now = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);

		if ((now == NULL) != (state->options_seen == NULL) ||
			(now &&
			 (VARSIZE(now) != VARSIZE(state->options_seen) || memcmp(now, state->options_seen, VARSIZE(now)) != 0)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("options must be the same for every row")));
	}
	check_same_ndims(ndims, state->values->ndims);
	if (weight > 0)
	{
		if (state->nrows == PG_INT32_MAX)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many rows for a lattice model")));
		if (state->nrows == state->room)
		{
			bool fresh = state->room == 0;

			state->room = fresh ? 1024 : state->room * 2;
			state->code = fresh ? LATTICE_ALLOC(sizeof(int32) * ndims * state->room)
								: LATTICE_GROW(state->code, sizeof(int32) * ndims * state->room);
			state->outcome = fresh ? LATTICE_ALLOC(sizeof(double) * state->room)
								   : LATTICE_GROW(state->outcome, sizeof(double) * state->room);
			state->weight = fresh ? LATTICE_ALLOC(sizeof(double) * state->room)
								  : LATTICE_GROW(state->weight, sizeof(double) * state->room);
		}
		for (int d = 0; d < ndims; d++)
			state->code[state->nrows * ndims + d] =
				crm_lattice_add_value(state->values, d, value[d].text, value[d].len, true);
		state->outcome[state->nrows] = outcome;
		state->weight[state->nrows] = weight;
		state->nrows++;
	}
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

/*
 * Order of values: NULL, then by bytes. Independent of any collation, so that a model is the same everywhere.
 */
static int
compare_values(const void *a, const void *b, void *arg)
{
	const LatticeDict *dict = arg;
	const LatticeValue *x = &dict->value[*(const int32 *) a];
	const LatticeValue *y = &dict->value[*(const int32 *) b];
	int cmp;

	if (!x->text || !y->text)
		return (x->text != NULL) - (y->text != NULL);
	cmp = memcmp(x->text, y->text, Min(x->len, y->len));
	return cmp != 0 ? cmp : (x->len > y->len) - (x->len < y->len);
}

/*
 * A lattice with the same values in sorted order; rank, per dimension, takes the old codes to the new. Texts are shared.
 */
Lattice *
crm_lattice_sorted(const Lattice *m, int32 **rank)
{
	Lattice *sorted = crm_lattice_create(m->ndims);

	for (int d = 0; d < m->ndims; d++)
	{
		const LatticeDict *dict = &m->dict[d];
		int32 *order = LATTICE_ALLOC(sizeof(int32) * Max(dict->nvalues, 1));

		rank[d] = LATTICE_ALLOC(sizeof(int32) * Max(dict->nvalues, 1));
		for (int32 k = 0; k < dict->nvalues; k++)
			order[k] = k;
		qsort_arg(order, dict->nvalues, sizeof(int32), compare_values, unconstify(LatticeDict *, dict));
		for (int32 k = 0; k < dict->nvalues; k++)
			rank[d][order[k]] =
				crm_lattice_add_value(sorted, d, dict->value[order[k]].text, dict->value[order[k]].len, false);
		pfree(order);
	}
	return sorted;
}

/*
 * Canonical order of rows: by values, outcome, weight.
 */
static int
compare_rows(const void *a, const void *b, void *arg)
{
	const SortArg *sort = arg;
	const FitState *state = sort->state;
	int32 x = *(const int32 *) a;
	int32 y = *(const int32 *) b;
	int ndims = state->values->ndims;

	for (int d = 0; d < ndims; d++)
	{
		int32 i = sort->rank[d][state->code[(int64) x * ndims + d]];
		int32 j = sort->rank[d][state->code[(int64) y * ndims + d]];

		if (i != j)
			return i < j ? -1 : 1;
	}
	if (state->outcome[x] != state->outcome[y])
		return state->outcome[x] < state->outcome[y] ? -1 : 1;
	return (state->weight[x] > state->weight[y]) - (state->weight[x] < state->weight[y]);
}

/*
 * Fit what was collected. Rows with the same values are one row of their summed weight and mean outcome, which has the same
 * likelihood; the aggregate's state is not changed, since a window may ask again.
 */
Datum
crm_lattice_fit_final(PG_FUNCTION_ARGS)
{
	FitState *state = PG_ARGISNULL(0) ? NULL : (FitState *) PG_GETARG_POINTER(0);
	MemoryContext work;
	MemoryContext old;
	SortArg sort;
	int32 *rank[LATTICE_MAX_DIMS];
	int32 *order;
	int32 *code[LATTICE_MAX_DIMS];
	double *outcome;
	double *weight;
	int32 n = 0;
	int ndims;
	Lattice *m;
	LatticeExpert *x;
	LatticeRows rows;
	LatticePrior *prior;
	bytea *flat;

	(void) aggregate_context(fcinfo, "lattice_fit");
	if (!state || state->nrows == 0)
		PG_RETURN_NULL();
	ndims = state->values->ndims;
	work = AllocSetContextCreate(CurrentMemoryContext, "crm lattice fit", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work);

	prior = palloc0(sizeof(LatticePrior) * Max(state->options.npriors, 1));
	m = crm_lattice_sorted(state->values, rank);
	order = LATTICE_ALLOC(sizeof(int32) * state->nrows);
	for (int32 i = 0; i < state->nrows; i++)
		order[i] = i;
	sort.state = state;
	sort.rank = rank;
	qsort_arg(order, state->nrows, sizeof(int32), compare_rows, &sort);
	CHECK_FOR_INTERRUPTS();

	for (int d = 0; d < ndims; d++)
		code[d] = LATTICE_ALLOC(sizeof(int32) * state->nrows);
	outcome = LATTICE_ALLOC(sizeof(double) * state->nrows);
	weight = LATTICE_ALLOC(sizeof(double) * state->nrows);
	for (int64 i = 0; i < state->nrows; i++)
	{
		int32 from = order[i];
		bool same = n > 0;

		for (int d = 0; d < ndims; d++)
		{
			code[d][n] = rank[d][state->code[(int64) from * ndims + d]];
			same = same && code[d][n] == code[d][n - 1];
		}
		m->n += state->weight[from];
		if (!same)
			n++;
		weight[n - 1] += state->weight[from];
		outcome[n - 1] += state->weight[from] * state->outcome[from];
	}
	for (int32 i = 0; i < n; i++)
	{
		outcome[i] = fmin(outcome[i] / weight[i], 1.0);
		for (int d = 0; d < ndims; d++)
			m->dict[d].value[code[d][i]].n += weight[i];
	}
	for (int q = 0; q < state->options.npriors; q++)
	{
		const LatticeFitPrior *given = &state->options.prior[q];

		prior[q].dim = given->dim;
		prior[q].code = crm_lattice_add_value(m, given->dim, given->value.text, given->value.len, false);
		prior[q].p = given->p;
		prior[q].strength = given->strength;
	}

	crm_lattice_make_rows(m, &rows, code, n);
	x = crm_lattice_add_expert(m, state->options.order, -1);
	crm_lattice_fit(m, x, &rows, n, outcome, weight, state->options.sweeps, prior, state->options.npriors);

	MemoryContextSwitchTo(old);
	flat = crm_lattice_flatten(m);
	MemoryContextDelete(work);
	PG_RETURN_POINTER(flat);
}
