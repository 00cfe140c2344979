/*
 * import.c
 *		Reading of delimited text for imports: SQL faces of the kernels in csv.c, and the cutting of staged lines into records.
 *
 * It turns lines into fields and texts into dates and numbers; what the fields mean, and what becomes of a bad row, is decided
 * in sql/api/import.sql. Staged lines are read through SPI with the rights of the caller, which is the import's own definer
 * function; nothing is written.
 *
 * Memory: the lines of a record live in a context that is emptied for every block of lines; results go to a tuplestore.
 */
#include "crm.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "process/csv.h"
#include "text/text.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#define MAX_FIELDS 1600       /* columns that a table may have */
#define MAX_RECORD_LINES 1000 /* a quoted field that runs longer is a forgotten quote */
#define MAX_RECORD_BYTES (1024 * 1024)
#define FETCH_LINES 2000

PG_FUNCTION_INFO_V1(crm_csv_fields);
PG_FUNCTION_INFO_V1(crm_import_records);
PG_FUNCTION_INFO_V1(crm_parse_number);
PG_FUNCTION_INFO_V1(crm_parse_date);
PG_FUNCTION_INFO_V1(crm_parse_time);
PG_FUNCTION_INFO_V1(crm_label_key);

/*
 * What is wrong with a record, in words for the person who sent the file.
 */
static const char *
csv_problem(CrmCsvStatus status)
{
	switch (status)
	{
		case CRM_CSV_UNCLOSED: return "a quote is not closed";
		case CRM_CSV_AFTER_QUOTE: return "text follows a closing quote";
		case CRM_CSV_TOO_MANY: return "too many fields";
		default: return NULL;
	}
}

/*
 * The delimiter as one ASCII character that can delimit.
 */
static char
delimiter_arg(text *arg)
{
	char c;

	if (VARSIZE_ANY_EXHDR(arg) != 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the delimiter must be a single character"),
						errhint("Use a comma, a semicolon, a tab or a vertical bar.")));
	c = *VARDATA_ANY(arg);
	if ((unsigned char) c >= 0x80 || c == '"' || c == ' ' || c == '\n' || c == '\r')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("this character cannot be a delimiter"),
						errhint("Use a comma, a semicolon, a tab or a vertical bar.")));
	return c;
}

/*
 * Split a record and build a text array of it in the current context; NULL with a problem otherwise. An empty value is NULL:
 * no file can tell an empty text from a missing one reliably.
 */
static ArrayType *
fields_array(const char *line, size_t len, char delimiter, int *nfields, CrmCsvStatus *status)
{
	CrmCsvField *fields = palloc(sizeof(CrmCsvField) * MAX_FIELDS);
	char *out = palloc(len + 1);
	ArrayType *result = NULL;

	*nfields = crm_csv_split(line, len, delimiter, out, fields, MAX_FIELDS, status);
	if (*nfields > 0)
	{
		Datum *values = palloc(sizeof(Datum) * *nfields);
		bool *nulls = palloc(sizeof(bool) * *nfields);
		int dims[1] = {*nfields};
		int lower[1] = {1};

		for (int i = 0; i < *nfields; i++)
		{
			nulls[i] = (fields[i].len == 0);
			values[i] =
				nulls[i] ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(out + fields[i].start, fields[i].len));
		}
		result = construct_md_array(values, nulls, 1, dims, lower, TEXTOID, -1, false, TYPALIGN_INT);
	}
	return result;
}

/*
 * crm.csv_fields(line text, delimiter text)
 */
Datum
crm_csv_fields(PG_FUNCTION_ARGS)
{
	text *line = PG_GETARG_TEXT_PP(0);
	char delimiter = delimiter_arg(PG_GETARG_TEXT_PP(1));
	CrmCsvStatus status;
	int n;
	ArrayType *fields = fields_array(VARDATA_ANY(line), VARSIZE_ANY_EXHDR(line), delimiter, &n, &status);

	if (fields == NULL)
		ereport(ERROR, (errcode(ERRCODE_BAD_COPY_FILE_FORMAT), errmsg("malformed line: %s", csv_problem(status)),
						errhint("Write a quote inside a quoted field twice, and close every quoted field.")));
	PG_RETURN_ARRAYTYPE_P(fields);
}

/* Lines read but not yet part of a record: an array, consumed from "first". */
typedef struct LineQueue
{
	char **lines;
	int *lengths;
	int count;
	int first;
	int room;
	int64 next_no; /* number of lines[first] */
	bool end;      /* the cursor has no more */
} LineQueue;

/*
 * Make sure that "wanted" lines are in the queue, as far as there are any.
 */
static void
fill_queue(LineQueue *q, Portal cursor, int wanted, MemoryContext keep)
{
	while (!q->end && q->count - q->first < wanted)
	{
		SPITupleTable *table;

		/* forget what is consumed */
		if (q->first > 0)
		{
			for (int i = 0; i < q->first; i++)
				pfree(q->lines[i]);
			memmove(q->lines, q->lines + q->first, sizeof(char *) * (q->count - q->first));
			memmove(q->lengths, q->lengths + q->first, sizeof(int) * (q->count - q->first));
			q->count -= q->first;
			q->first = 0;
		}
		SPI_cursor_fetch(cursor, true, FETCH_LINES);
		table = SPI_tuptable;
		if (SPI_processed < FETCH_LINES)
			q->end = true;
		if (q->room < q->count + (int) SPI_processed)
		{
			MemoryContext old = MemoryContextSwitchTo(keep);

			q->room = q->count + FETCH_LINES * 2;
			q->lines = q->lines ? repalloc(q->lines, sizeof(char *) * q->room) : palloc(sizeof(char *) * q->room);
			q->lengths = q->lengths ? repalloc(q->lengths, sizeof(int) * q->room) : palloc(sizeof(int) * q->room);
			MemoryContextSwitchTo(old);
		}
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool isnull;
			Datum d = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);
			text *t = isnull ? cstring_to_text("") : DatumGetTextPP(d);
			int len = VARSIZE_ANY_EXHDR(t);
			char *copy = MemoryContextAlloc(keep, len + 1);

			memcpy(copy, VARDATA_ANY(t), len);
			copy[len] = '\0';
			q->lines[q->count] = copy;
			q->lengths[q->count] = len;
			q->count++;
		}
		SPI_freetuptable(table);
	}
}

/*
 * How many of the queued lines the record that begins at the first one takes; 0 if its quote is never closed.
 */
static int
record_length(LineQueue *q, Portal cursor, char delimiter, MemoryContext keep)
{
	CrmCsvState state = CRM_CSV_START;
	size_t bytes = 0;

	for (int n = 1; n <= MAX_RECORD_LINES; n++)
	{
		fill_queue(q, cursor, n, keep);
		if (q->count - q->first < n)
			return 0;
		state = crm_csv_scan(state, q->lines[q->first + n - 1], q->lengths[q->first + n - 1], delimiter);
		if (state != CRM_CSV_QUOTED)
			return n;
		bytes += q->lengths[q->first + n - 1] + 1;
		if (bytes > MAX_RECORD_BYTES)
			return 0;
	}
	return 0;
}

/*
 * crm._import_records(batch bigint, delimiter text, columns int)
 *
 * A record is one line, or several when a quoted field holds line ends. When several lines do not make a good record, only the
 * first of them is reported as bad and reading goes on with the second: one forgotten quote costs one row, not the rest of the file.
 */
Datum
crm_import_records(PG_FUNCTION_ARGS)
{
	int64 batch = PG_GETARG_INT64(0);
	char delimiter = delimiter_arg(PG_GETARG_TEXT_PP(1));
	int columns = PG_GETARG_INT32(2);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext keep;
	MemoryContext work;
	LineQueue q = {0};
	Portal cursor;
	SPIPlanPtr plan;
	Oid argtypes[1] = {INT8OID};
	Datum args[1] = {Int64GetDatum(batch)};

	InitMaterializedSRF(fcinfo, 0);
	keep = AllocSetContextCreate(CurrentMemoryContext, "crm import lines", ALLOCSET_DEFAULT_SIZES);
	work = AllocSetContextCreate(CurrentMemoryContext, "crm import record", ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	plan = SPI_prepare("SELECT line FROM " CRM_DATA_SCHEMA
					   ".import_line WHERE batch_id OPERATOR(pg_catalog.=) $1 ORDER BY id",
					   1, argtypes);
	if (plan == NULL)
		elog(ERROR, "could not prepare the reading of staged lines: %s", SPI_result_code_string(SPI_result));
	cursor = SPI_cursor_open(NULL, plan, args, NULL, true);
	q.next_no = 1;

	for (;;)
	{
		int n;
		int nfields = 0;
		StringInfoData record;
		CrmCsvStatus status = CRM_CSV_OK;
		ArrayType *fields = NULL;
		const char *problem = NULL;
		Datum values[5];
		bool nulls[5] = {false, false, false, false, false};
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(work);
		fill_queue(&q, cursor, 1, keep);
		if (q.count == q.first)
			break;
		n = record_length(&q, cursor, delimiter, keep);

		old = MemoryContextSwitchTo(work);
		initStringInfo(&record);
		for (int i = 0; i < Max(n, 1); i++)
		{
			if (i > 0)
				appendStringInfoChar(&record, '\n');
			appendBinaryStringInfo(&record, q.lines[q.first + i], q.lengths[q.first + i]);
		}
		/* a byte-order mark is no part of the first field */
		if (q.next_no == 1 && record.len >= 3 && memcmp(record.data, "\xEF\xBB\xBF", 3) == 0)
		{
			memmove(record.data, record.data + 3, record.len - 2);
			record.len -= 3;
		}
		if (n == 0)
			status = CRM_CSV_UNCLOSED;
		else
			fields = fields_array(record.data, record.len, delimiter, &nfields, &status);
		problem = csv_problem(status);
		if (problem == NULL && columns > 0 && nfields != columns)
		{
			bool blank = true;

			for (int i = 0; i < record.len && blank; i++)
				blank = (record.data[i] == ' ' || record.data[i] == '\t' || record.data[i] == '\r');
			problem = blank ? "the line is empty" : psprintf("it has %d fields, the header has %d", nfields, columns);
		}
		if (problem != NULL && n > 1)
		{
			/* perhaps only the first line is broken */
			n = 1;
			problem = "a quote is not closed";
			record.len = q.lengths[q.first];
		}

		values[0] = Int64GetDatum(q.next_no);
		values[1] = Int32GetDatum(Max(n, 1));
		nulls[2] = (problem != NULL);
		values[2] = nulls[2] ? (Datum) 0 : PointerGetDatum(fields);
		nulls[3] = (problem == NULL);
		values[3] = nulls[3] ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(record.data, record.len));
		nulls[4] = (problem == NULL);
		values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(problem);
		MemoryContextSwitchTo(old);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);

		q.first += Max(n, 1);
		q.next_no += Max(n, 1);
	}
	SPI_cursor_close(cursor);
	SPI_finish();
	MemoryContextDelete(work);
	MemoryContextDelete(keep);
	return (Datum) 0;
}

/*
 * crm.parse_number(value text)
 */
Datum
crm_parse_number(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	char clean[CRM_NUMBER_MAX];

	if (!crm_number_clean(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), clean))
		PG_RETURN_NULL();
	return DirectFunctionCall3(numeric_in, CStringGetDatum(clean), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/*
 * crm.parse_date(value text, day_first boolean)
 */
Datum
crm_parse_date(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	CrmMoment m;

	if (!crm_moment_parse(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), PG_GETARG_BOOL(1), &m))
		PG_RETURN_NULL();
	PG_RETURN_DATEADT(date2j(m.year, m.month, m.day) - POSTGRES_EPOCH_JDATE);
}

/*
 * crm.parse_time(value text, day_first boolean, tz text)
 */
Datum
crm_parse_time(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	CrmMoment m;
	struct pg_tm tm = {0};
	fsec_t fsec;
	int zone;
	TimestampTz result;

	if (!crm_moment_parse(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), PG_GETARG_BOOL(1), &m))
		PG_RETURN_NULL();
	tm.tm_year = m.year;
	tm.tm_mon = m.month;
	tm.tm_mday = m.day;
	tm.tm_hour = m.hour;
	tm.tm_min = m.minute;
	tm.tm_sec = m.second;
	fsec = m.microsecond;
	if (m.has_zone)
		zone = -m.zone;
	else
	{
		char *name = text_to_cstring(PG_GETARG_TEXT_PP(2));
		pg_tz *tz = pg_tzset(name);

		if (tz == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("time zone \"%s\" not recognized", name),
							errhint("SELECT name FROM pg_timezone_names lists the known ones.")));
		zone = DetermineTimeZoneOffset(&tm, tz);
	}
	if (tm2timestamp(&tm, fsec, &zone, &result) != 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(result);
}

/*
 * crm.label_key(value text): what two spellings of one label share.
 */
Datum
crm_label_key(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	CrmText folded = {0};
	text *result;
	char *out;
	size_t len = 0;

	crm_fold(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &folded);
	result = palloc(VARHDRSZ + folded.n * 4);
	out = VARDATA(result);
	for (size_t i = 0; i < folded.n; i++)
		if (crm_is_word(folded.v[i]))
			len += crm_utf8_put(folded.v[i], out + len);
	crm_text_free(&folded);
	if (len == 0)
		PG_RETURN_NULL();
	SET_VARSIZE(result, VARHDRSZ + len);
	PG_RETURN_TEXT_P(result);
}
