/*
 * SQL faces of the text kernels.
 *
 * Every function here is IMMUTABLE: no catalogs, no settings, no locale. Results are in the
 * memory context of the caller, working buffers in the per-call context. No locks.
 */
#include "crm.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "text/text.h"

PG_FUNCTION_INFO_V1(crm_fold_sql);
PG_FUNCTION_INFO_V1(crm_phone_key);
PG_FUNCTION_INFO_V1(crm_phone_parse);
PG_FUNCTION_INFO_V1(crm_company_parse);
PG_FUNCTION_INFO_V1(crm_company_key);
PG_FUNCTION_INFO_V1(crm_person_key_sql);
PG_FUNCTION_INFO_V1(crm_email_key);
PG_FUNCTION_INFO_V1(crm_address_parse);
PG_FUNCTION_INFO_V1(crm_uscc_valid);
PG_FUNCTION_INFO_V1(crm_id_valid);
PG_FUNCTION_INFO_V1(crm_value_kind_sql);
PG_FUNCTION_INFO_V1(crm_mask_phone);
PG_FUNCTION_INFO_V1(crm_mask_name);

/* Folds a text argument into a buffer of the current context. */
static void
fold_arg(text *t, CrmText *out)
{
	memset(out, 0, sizeof(*out));
	crm_fold(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), out);
}

/* Code points to text. */
static text *
to_text(const uint32_t *v, size_t n)
{
	size_t len = 0;
	text *t;
	char *p;

	/* Four bytes a code point at most; a text of a gigabyte is the core's limit and the core's error. */
	t = palloc(VARHDRSZ + n * 4);
	p = VARDATA(t);
	for (size_t i = 0; i < n; i++)
		len += crm_utf8_put(v[i], p + len);
	SET_VARSIZE(t, VARHDRSZ + len);
	return t;
}

/* A span as a nullable column. */
static Datum
span_datum(CrmSpan s, bool *isnull)
{
	*isnull = s.n == 0;
	return s.n == 0 ? (Datum) 0 : PointerGetDatum(to_text(s.v, s.n));
}

/* The row type a composite function was declared with. */
static TupleDesc
result_desc(FunctionCallInfo fcinfo)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return BlessTupleDesc(desc);
}

/* crm.fold: raises nothing. */
Datum
crm_fold_sql(PG_FUNCTION_ARGS)
{
	CrmText t;

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	PG_RETURN_TEXT_P(to_text(t.v, t.n));
}

/* Reads the numbers of the arguments (text, country); the country must be two letters. */
static int
scan_args(FunctionCallInfo fcinfo, CrmPhone *phones)
{
	CrmText t;
	char *country = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (strlen(country) != 2 || !(country[0] >= 'A' && country[0] <= 'Z') || !(country[1] >= 'A' && country[1] <= 'Z'))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid country code"),
						errhint("Give the two capital letters of ISO 3166-1, for example CN.")));
	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	return crm_phone_scan(t.v, t.n, country, phones, CRM_PHONES_MAX);
}

/* crm.phone_key: the first number that may be real, NULL if there is none. */
Datum
crm_phone_key(PG_FUNCTION_ARGS)
{
	CrmPhone p[CRM_PHONES_MAX];
	int n = scan_args(fcinfo, p);

	for (int i = 0; i < n; i++)
		if (p[i].valid)
			PG_RETURN_TEXT_P(cstring_to_text(p[i].e164[0] != '\0' ? p[i].e164 : p[i].national));
	PG_RETURN_NULL();
}

/* crm.phone_parse: one row a number. */
Datum
crm_phone_parse(PG_FUNCTION_ARGS)
{
	CrmPhone p[CRM_PHONES_MAX];
	int n = scan_args(fcinfo, p);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		Datum values[4] = {0};
		bool nulls[4] = {false};
		const char *number = p[i].e164[0] != '\0' ? p[i].e164 : p[i].national;

		values[0] = PointerGetDatum(cstring_to_text(number));
		nulls[1] = p[i].ext[0] == '\0';
		if (!nulls[1])
			values[1] = PointerGetDatum(cstring_to_text(p[i].ext));
		values[2] = PointerGetDatum(cstring_to_text(crm_phone_kind_name(p[i].kind)));
		values[3] = BoolGetDatum(p[i].valid);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* crm.company_parse: region, brand, trade, form, branch, core. */
Datum
crm_company_parse(PG_FUNCTION_ARGS)
{
	CrmText t;
	CrmCompany c = {0};
	TupleDesc desc = result_desc(fcinfo);
	Datum values[6];
	bool nulls[6];

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	crm_company_scan(t.v, t.n, &c);
	values[0] = span_datum(c.region, &nulls[0]);
	values[1] = span_datum(c.brand, &nulls[1]);
	values[2] = span_datum(c.trade, &nulls[2]);
	values[3] = span_datum(c.form, &nulls[3]);
	values[4] = span_datum(c.branch, &nulls[4]);
	values[5] = span_datum(c.core, &nulls[5]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* crm.company_key: the core alone, NULL if nothing is left. */
Datum
crm_company_key(PG_FUNCTION_ARGS)
{
	CrmText t;
	CrmCompany c = {0};

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	crm_company_scan(t.v, t.n, &c);
	if (c.core.n == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(to_text(c.core.v, c.core.n));
}

/* crm.person_key: NULL if the text has no name in it. */
Datum
crm_person_key_sql(PG_FUNCTION_ARGS)
{
	CrmText t;
	uint32_t key[256];
	size_t n;

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	n = crm_person_key(t.v, t.n, key, lengthof(key));
	if (n == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(to_text(key, n));
}

/* crm.email_key: NULL if the text is no address. */
Datum
crm_email_key(PG_FUNCTION_ARGS)
{
	CrmText t;
	uint32_t *key;
	size_t at;
	size_t n;

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	key = crm_text_alloc((t.n + 16) * sizeof(uint32_t));
	n = crm_email_scan(t.v, t.n, key, &at);
	if (n == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(to_text(key, n));
}

/* crm.address_parse: province, city, district, road, number, building, unit, room, rest. */
Datum
crm_address_parse(PG_FUNCTION_ARGS)
{
	CrmText t;
	CrmAddress a = {0};
	TupleDesc desc = result_desc(fcinfo);
	Datum values[9];
	bool nulls[9];
	const char *province;
	size_t len;

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	crm_address_scan(t.v, t.n, &a);
	province = crm_province_name(a.province, &len);
	nulls[0] = len == 0;
	values[0] = len == 0 ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(province, len));
	values[1] = span_datum(a.city, &nulls[1]);
	values[2] = span_datum(a.district, &nulls[2]);
	values[3] = span_datum(a.road, &nulls[3]);
	values[4] = span_datum(a.number, &nulls[4]);
	values[5] = span_datum(a.building, &nulls[5]);
	values[6] = span_datum(a.unit, &nulls[6]);
	values[7] = span_datum(a.room, &nulls[7]);
	values[8] = span_datum(a.rest, &nulls[8]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* crm.uscc_valid */
Datum
crm_uscc_valid(PG_FUNCTION_ARGS)
{
	CrmText t;

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	PG_RETURN_BOOL(crm_uscc_check(t.v, t.n));
}

/* crm.id_valid */
Datum
crm_id_valid(PG_FUNCTION_ARGS)
{
	CrmText t;

	fold_arg(PG_GETARG_TEXT_PP(0), &t);
	PG_RETURN_BOOL(crm_resident_check(t.v, t.n));
}

/*
 * crm.mask_phone: of 11 digits and more all but the fifth to eighth from the end stay, of
 * shorter numbers the last two; signs stay where they are, letters do not.
 */
Datum
crm_mask_phone(PG_FUNCTION_ARGS)
{
	text *in = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(in);
	size_t n = VARSIZE_ANY_EXHDR(in);
	CrmText t = {0};
	size_t digits = 0;
	size_t seen = 0;

	crm_text_reserve(&t, n + 1);
	for (size_t i = 0; i < n;)
	{
		uint32_t c;

		i += crm_utf8_next(s + i, n - i, &c);
		if (c >= 0xFF10 && c <= 0xFF19)
			c -= 0xFEE0;
		digits += c >= '0' && c <= '9';
		t.v[t.n++] = c;
	}
	for (size_t i = 0; i < t.n; i++)
		if (t.v[i] >= '0' && t.v[i] <= '9')
		{
			bool keep = digits >= 11 ? seen + 8 < digits || seen + 4 >= digits : digits >= 5 && seen + 2 >= digits;

			seen++;
			if (!keep)
				t.v[i] = '*';
		}
		else if (crm_is_word(t.v[i]))
			t.v[i] = '*';
	PG_RETURN_TEXT_P(to_text(t.v, t.n));
}

/* crm.mask_name: the surname of a Chinese name, else the first letter; two stars, whatever the length. */
Datum
crm_mask_name(PG_FUNCTION_ARGS)
{
	text *in = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(in);
	size_t n = VARSIZE_ANY_EXHDR(in);
	uint32_t v[8];
	size_t k = 0;
	size_t keep;

	for (size_t i = 0; i < n && k < 4;)
		i += crm_utf8_next(s + i, n - i, &v[k++]);
	if (k == 0)
		PG_RETURN_TEXT_P(cstring_to_text(""));
	keep = crm_is_han(v[0]) && k >= 3 ? crm_surname_len(v, k) : 1;
	v[keep] = '*';
	v[keep + 1] = '*';
	PG_RETURN_TEXT_P(to_text(v, keep + 2));
}

/* crm._value_kind: what a value looks like; only its beginning is looked at. */
Datum
crm_value_kind_sql(PG_FUNCTION_ARGS)
{
	text *t = PG_GETARG_TEXT_PP(0);
	CrmText folded = {0};

	crm_fold(VARDATA_ANY(t), Min(VARSIZE_ANY_EXHDR(t), 2000), &folded);
	PG_RETURN_TEXT_P(cstring_to_text(crm_value_kind_name(crm_value_kind(folded.v, folded.n))));
}
