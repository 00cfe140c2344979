/*
 * import.c
 *		libFuzzer target: the kernels that cut delimited text and read numbers and dates, on any bytes.
 *
 * Besides memory errors it looks for broken promises: a field lies in the output, what is cut is cut the same way when it is written
 * again with quotes, a clean number is one that the core reads, a moment exists.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process/csv.h"

#define REQUIRE(x) \
	do { if (!(x)) { fprintf(stderr, "broken: %s, line %d\n", #x, __LINE__); abort(); } } while (0)

/* Cuts a record; writes its fields again, each between quotes, and cuts that. */
static void
split(const char *in, size_t len, char delimiter, int max)
{
	CrmCsvField *fields = malloc(sizeof(CrmCsvField) * max);
	CrmCsvField *again = malloc(sizeof(CrmCsvField) * max);
	CrmCsvStatus status;
	CrmCsvState end = crm_csv_scan(CRM_CSV_START, in, len, delimiter);
	char	   *out = malloc(len + 1);
	int			n = crm_csv_split(in, len, delimiter, out, fields, max, &status);

	REQUIRE(n <= max);
	REQUIRE((n > 0) == (status == CRM_CSV_OK));
	REQUIRE(status != CRM_CSV_UNCLOSED || end == CRM_CSV_QUOTED);
	REQUIRE(status != CRM_CSV_OK || end != CRM_CSV_QUOTED);
	if (n > 0)
	{
		char	   *quoted = malloc(len * 2 + 3 * (size_t) n + 1);
		char	   *copy = malloc(len * 2 + 3 * (size_t) n + 1);
		size_t		at = 0;

		for (int i = 0; i < n; i++)
		{
			REQUIRE(fields[i].start <= len && fields[i].len <= len - fields[i].start);
			if (i > 0)
				quoted[at++] = delimiter;
			quoted[at++] = '"';
			for (size_t k = 0; k < fields[i].len; k++)
			{
				if (out[fields[i].start + k] == '"')
					quoted[at++] = '"';
				quoted[at++] = out[fields[i].start + k];
			}
			quoted[at++] = '"';
		}
		REQUIRE(crm_csv_split(quoted, at, delimiter, copy, again, max, &status) == n && status == CRM_CSV_OK);
		for (int i = 0; i < n; i++)
			REQUIRE(again[i].len == fields[i].len && memcmp(copy + again[i].start, out + fields[i].start, fields[i].len) == 0);
		free(quoted);
		free(copy);
	}
	free(out);
	free(fields);
	free(again);
}

/* A decimal as numeric_in reads it: sign, digits with at most one point, exponent of two digits. */
static void
number(const char *in, size_t len)
{
	char	   *out = malloc(CRM_NUMBER_MAX);
	const char *s = out;
	int			digits = 0;

	if (crm_number_clean(in, len, out))
	{
		REQUIRE(strlen(out) < CRM_NUMBER_MAX);
		s += *s == '-';
		for (; *s >= '0' && *s <= '9'; s++)
			digits++;
		if (*s == '.')
			for (s++; *s >= '0' && *s <= '9'; s++)
				digits++;
		REQUIRE(digits > 0);
		if (*s == 'e')
		{
			s++;
			s += *s == '-';
			REQUIRE(*s >= '0' && *s <= '9');
			s++;
			if (*s >= '0' && *s <= '9')
				s++;
		}
		REQUIRE(*s == '\0');
	}
	free(out);
}

/* A day that the calendar has, a time that the clock has, an offset that a zone has. */
static void
moment(const char *in, size_t len, bool day_first)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	CrmMoment	m;

	if (!crm_moment_parse(in, len, day_first, &m))
		return;
	REQUIRE(m.year >= 1000 && m.year <= 9999 && m.month >= 1 && m.month <= 12 && m.day >= 1 && m.day <= days[m.month - 1]);
	REQUIRE(m.hour >= 0 && m.hour <= 23 && m.minute >= 0 && m.minute <= 59 && m.second >= 0 && m.second <= 59);
	REQUIRE(m.microsecond >= 0 && m.microsecond <= 999999);
	REQUIRE(!m.has_zone || (m.zone > -16 * 3600 && m.zone < 16 * 3600));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char delimiters[] = {',', ';', '\t', '|'};
	char	   *in;

	if (size == 0)
		return 0;
	/* a copy of the exact size, so that reading past it is seen */
	in = malloc(size - 1 > 0 ? size - 1 : 1);
	memcpy(in, data + 1, size - 1);
	split(in, size - 1, delimiters[data[0] & 3], data[0] & 4 ? 3 : 1600);
	number(in, size - 1);
	moment(in, size - 1, data[0] & 8);
	free(in);
	return 0;
}
