/*
 * csv.h
 *		Splitting of delimited text (RFC 4180) and reading of the dates and numbers that spreadsheets write: pure kernels.
 */
#ifndef CRM_CSV_H
#define CRM_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a scan stands between two characters. */
typedef enum CrmCsvState
{
	CRM_CSV_START,  /* before a field, blanks may have been skipped */
	CRM_CSV_PLAIN,  /* in a field without quotes */
	CRM_CSV_QUOTED, /* between quotes: delimiters and line ends are data */
	CRM_CSV_CLOSED  /* after a quote in a quoted field: its end, or half of a doubled quote */
} CrmCsvState;

typedef enum CrmCsvStatus
{
	CRM_CSV_OK,
	CRM_CSV_UNCLOSED,    /* the text ends between quotes */
	CRM_CSV_AFTER_QUOTE, /* text between a closing quote and the next delimiter */
	CRM_CSV_TOO_MANY     /* more fields than the caller has room for */
} CrmCsvStatus;

typedef struct CrmCsvField
{
	size_t start; /* offset in the output buffer */
	size_t len;
} CrmCsvField;

extern CrmCsvState crm_csv_scan(CrmCsvState state, const char *in, size_t len, char delimiter);
extern int crm_csv_split(const char *in, size_t len, char delimiter, char *out, CrmCsvField *fields, int max,
						 CrmCsvStatus *status);

/* A point in time as written; parts that are absent are zero. */
typedef struct CrmMoment
{
	int year;
	int month;
	int day;
	int hour;
	int minute;
	int second;
	int microsecond;
	bool has_time;
	bool has_zone;
	int zone; /* seconds east of UTC, if has_zone */
} CrmMoment;

#define CRM_NUMBER_MAX 128 /* room that crm_number_clean needs, with the final zero */

extern bool crm_number_clean(const char *in, size_t len, char *out);
extern bool crm_moment_parse(const char *in, size_t len, bool day_first, CrmMoment *moment);

#endif /* CRM_CSV_H */
