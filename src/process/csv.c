/*
 * csv.c
 *		Splitting of delimited text (RFC 4180), and reading of the dates and numbers that people type and spreadsheets write.
 *
 * Pure C on bytes of UTF-8: knows nothing of PostgreSQL, allocates nothing, locks nothing, raises nothing. A quote opens a quoted
 * field only where a field begins, so an inch mark inside a plain field is just a character; delimiters are ASCII and can therefore
 * not be part of a longer character. It does not read files and does not decide what a bad line means: import.c does.
 */
#include "process/csv.h"

#include <string.h>

/*
 * Follow a line from one state to the next, to learn whether a quoted field goes on in the line after it. Before the first line the
 * state is CRM_CSV_START; between lines it must be kept only when it is CRM_CSV_QUOTED.
 */
CrmCsvState
crm_csv_scan(CrmCsvState state, const char *in, size_t len, char delimiter)
{
	for (size_t i = 0; i < len; i++)
	{
		char c = in[i];

		switch (state)
		{
			case CRM_CSV_START:
				if (c == '"')
					state = CRM_CSV_QUOTED;
				else if (c != ' ' && c != delimiter)
					state = CRM_CSV_PLAIN;
				break;
			case CRM_CSV_PLAIN:
				if (c == delimiter)
					state = CRM_CSV_START;
				break;
			case CRM_CSV_QUOTED:
				if (c == '"')
					state = CRM_CSV_CLOSED;
				break;
			case CRM_CSV_CLOSED:
				if (c == '"')
					state = CRM_CSV_QUOTED;
				else if (c == delimiter)
					state = CRM_CSV_START;
				break;
		}
	}
	return state;
}

/* Blanks that spreadsheets and web pages leave around values: ASCII, no-break space, ideographic space. */
static size_t
blank_at_start(const char *s, size_t len)
{
	if (len >= 1 && (s[0] == ' ' || s[0] == '\t' || s[0] == '\r' || s[0] == '\n'))
		return 1;
	if (len >= 2 && memcmp(s, "\xC2\xA0", 2) == 0)
		return 2;
	if (len >= 3 && (memcmp(s, "\xE3\x80\x80", 3) == 0 || memcmp(s, "\xEF\xBB\xBF", 3) == 0))
		return 3;
	return 0;
}

static size_t
blank_at_end(const char *s, size_t len)
{
	if (len >= 1 && (s[len - 1] == ' ' || s[len - 1] == '\t' || s[len - 1] == '\r' || s[len - 1] == '\n'))
		return 1;
	if (len >= 2 && memcmp(s + len - 2, "\xC2\xA0", 2) == 0)
		return 2;
	if (len >= 3 && memcmp(s + len - 3, "\xE3\x80\x80", 3) == 0)
		return 3;
	return 0;
}

/*
 * Cut the blanks off both ends.
 */
static void
trim(const char **s, size_t *len)
{
	size_t n;

	while ((n = blank_at_start(*s, *len)) > 0)
	{
		*s += n;
		*len -= n;
	}
	while ((n = blank_at_end(*s, *len)) > 0)
		*len -= n;
}

/*
 * Split one record into its fields. The values go into "out" (at least len bytes) without quotes and without blanks at
 * their ends; "fields" says where. Returns the number of fields, or -1 with the reason in "status".
 */
int
crm_csv_split(const char *in, size_t len, char delimiter, char *out, CrmCsvField *fields, int max, CrmCsvStatus *status)
{
	CrmCsvState state = CRM_CSV_START;
	int n = 0;
	size_t used = 0;
	size_t begin = 0;

	*status = CRM_CSV_OK;
	for (size_t i = 0; i <= len; i++)
	{
		bool end = (i == len);
		char c = end ? delimiter : in[i];

		if (end && state == CRM_CSV_QUOTED)
		{
			*status = CRM_CSV_UNCLOSED;
			return -1;
		}
		if (c == delimiter && state != CRM_CSV_QUOTED)
		{
			const char *value = out + begin;
			size_t size = used - begin;

			if (n >= max)
			{
				*status = CRM_CSV_TOO_MANY;
				return -1;
			}
			trim(&value, &size);
			fields[n].start = value - out;
			fields[n].len = size;
			n++;
			begin = used;
			state = CRM_CSV_START;
			continue;
		}
		switch (state)
		{
			case CRM_CSV_START:
				if (c == '"')
					state = CRM_CSV_QUOTED;
				else
				{
					if (c != ' ')
						state = CRM_CSV_PLAIN;
					out[used++] = c;
				}
				break;
			case CRM_CSV_PLAIN: out[used++] = c; break;
			case CRM_CSV_QUOTED:
				if (c == '"')
					state = CRM_CSV_CLOSED;
				else
					out[used++] = c;
				break;
			case CRM_CSV_CLOSED:
				if (c == '"')
				{
					out[used++] = c;
					state = CRM_CSV_QUOTED;
				}
				else if (c != ' ' && c != '\r')
				{
					*status = CRM_CSV_AFTER_QUOTE;
					return -1;
				}
				break;
		}
	}
	return n;
}

/*
 * The ASCII character that stands at s, full-width forms folded; *width is the bytes it takes. Other characters give 0.
 */
static char
ascii_at(const char *s, size_t len, size_t *width)
{
	unsigned char c = (unsigned char) s[0];

	if (c < 0x80)
	{
		*width = 1;
		return s[0];
	}
	/* U+FF01 to U+FF5E are U+0021 to U+007E, wide */
	if (len >= 3 && c == 0xEF && ((unsigned char) s[1] == 0xBC || (unsigned char) s[1] == 0xBD))
	{
		int code = (((unsigned char) s[1] & 0x3F) << 6) | ((unsigned char) s[2] & 0x3F);

		*width = 3;
		/* code counts from U+F000 */
		if (code >= 0xF01 && code <= 0xF5E)
			return (char) (code - 0xF01 + 0x21);
	}
	return 0;
}

static bool
starts_with(const char *s, size_t len, const char *word, size_t *width)
{
	size_t n = strlen(word);

	if (len < n || memcmp(s, word, n) != 0)
		return false;
	*width = n;
	return true;
}

/*
 * Read digits with at most one decimal sign and thousands separators; *exponent is what a Chinese unit or an E adds. The grammar
 * is narrow on purpose: what cannot be one number without guessing is refused, so that "1,23,4" never becomes 1234.
 *
 * On success "out" holds a plain decimal that the core's numeric type reads.
 */
bool
crm_number_clean(const char *in, size_t len, char *out)
{
	static const char *const currencies[] = {"\xC2\xA5", "\xEF\xBF\xA5", "$",   "\xE2\x82\xAC", "\xC2\xA3", "RMB",
											 "CNY",      "USD",          "EUR", "HKD",          "JPY",      "GBP"};
	char text[64];
	size_t n = 0;
	size_t width;
	bool negative = false;
	int exponent = 0;
	int commas = 0, dots = 0;
	size_t last_comma = 0, last_dot = 0, digits = 0;
	char decimal = 0;
	size_t o = 0;
	bool found;

	trim(&in, &len);
	if (len >= 2 && in[0] == '(' && in[len - 1] == ')')
	{
		/* what accountants write for a negative amount */
		negative = true;
		in++;
		len -= 2;
		trim(&in, &len);
	}
	do
	{
		found = false;
		if (len > 0 && (in[0] == '-' || in[0] == '+') && !negative)
		{
			negative = (in[0] == '-');
			in++;
			len--;
			found = true;
		}
		for (size_t i = 0; i < sizeof(currencies) / sizeof(currencies[0]) && !found; i++)
			if (starts_with(in, len, currencies[i], &width))
			{
				in += width;
				len -= width;
				found = true;
			}
		trim(&in, &len);
	} while (found);

	for (;;)
	{
		size_t unit = strlen("\xE5\x85\x83");

		if (len >= unit && memcmp(in + len - unit, "\xE5\x85\x83", unit) == 0) /* yuan */
			len -= unit;
		else if (exponent == 0 && len >= unit && memcmp(in + len - unit, "\xE4\xB8\x87", unit) == 0) /* ten thousand */
		{
			exponent = 4;
			len -= unit;
		}
		else if (exponent == 0 && len >= unit &&
				 memcmp(in + len - unit, "\xE4\xBA\xBF", unit) == 0) /* hundred million */
		{
			exponent = 8;
			len -= unit;
		}
		else
		{
			found = false;
			for (size_t i = 0; i < sizeof(currencies) / sizeof(currencies[0]) && !found; i++)
			{
				width = strlen(currencies[i]);
				if (len > width && memcmp(in + len - width, currencies[i], width) == 0)
				{
					len -= width;
					found = true;
				}
			}
			if (!found)
				break;
		}
		trim(&in, &len);
	}

	while (len > 0)
	{
		char c = ascii_at(in, len, &width);

		if (n >= sizeof(text) - 1)
			return false;
		if (c >= '0' && c <= '9')
			digits++;
		else if (c == ',')
		{
			commas++;
			last_comma = n;
		}
		else if (c == '.')
		{
			dots++;
			last_dot = n;
		}
		else if ((c == 'e' || c == 'E') && digits > 0 && exponent == 0 && commas == 0)
		{
			int sign = 1;
			int e = 0, e_digits = 0;

			in++;
			len--;
			if (len > 0 && (in[0] == '+' || in[0] == '-'))
			{
				sign = (in[0] == '-') ? -1 : 1;
				in++;
				len--;
			}
			while (len > 0 && in[0] >= '0' && in[0] <= '9' && e_digits < 2)
			{
				e = e * 10 + (in[0] - '0');
				e_digits++;
				in++;
				len--;
			}
			if (e_digits == 0 || len > 0 || e > 30)
				return false;
			exponent = sign * e;
			break;
		}
		else
			return false;
		text[n++] = c;
		in += width;
		len -= width;
	}
	if (digits == 0)
		return false;

	/* which sign is the decimal one */
	if (commas > 0 && dots > 0)
	{
		decimal = (last_comma > last_dot) ? ',' : '.';
		if ((decimal == ',' ? commas : dots) != 1)
			return false;
	}
	else if (dots == 1)
		decimal = '.';
	else if (commas == 1 && n - last_comma - 1 != 3)
		decimal = ',';

	/* the other one groups thousands: after the first group of one to three digits always three */
	{
		char group = (decimal == '.') ? ',' : (decimal == ',') ? '.' : (commas > 0) ? ',' : '.';
		size_t run = 0;
		bool grouped = false;
		bool after = false;

		if (negative)
			out[o++] = '-';
		for (size_t i = 0; i < n; i++)
		{
			if (text[i] >= '0' && text[i] <= '9')
			{
				out[o++] = text[i];
				run++;
				continue;
			}
			if (!after && (grouped ? run != 3 : (text[i] == group && (run < 1 || run > 3))))
				return false;
			if (after)
				return false;
			if (text[i] == decimal)
			{
				out[o++] = '.';
				after = true;
			}
			else
				grouped = true;
			run = 0;
		}
		if (!after && grouped && run != 3)
			return false;
		if (after && run == 0)
			out[o++] = '0';
	}
	if (exponent != 0)
	{
		out[o++] = 'e';
		if (exponent < 0)
			out[o++] = '-';
		exponent = (exponent < 0) ? -exponent : exponent;
		if (exponent >= 10)
			out[o++] = (char) ('0' + exponent / 10);
		out[o++] = (char) ('0' + exponent % 10);
	}
	out[o] = '\0';
	return true;
}

/*
 * Read an unsigned number of at most max_digits digits; false without one.
 */
static bool
read_int(const char **s, size_t *len, int max_digits, int *value, int *digits)
{
	size_t width;

	*value = 0;
	*digits = 0;
	while (*len > 0)
	{
		char c = ascii_at(*s, *len, &width);

		if (c < '0' || c > '9')
			break;
		if (*digits >= max_digits)
			return false;
		*value = *value * 10 + (c - '0');
		(*digits)++;
		*s += width;
		*len -= width;
	}
	return *digits > 0;
}

/* English month by its first three letters, 1 to 12; 0 for none. *width is what the whole word takes. */
static int
read_month(const char *s, size_t len, size_t *width)
{
	static const char months[] = "janfebmaraprmayjunjulaugsepoctnovdec";
	char three[3];
	size_t n = 0;

	while (n < len && ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z')))
	{
		if (n < 3)
			three[n] = (char) (s[n] | 0x20);
		n++;
	}
	*width = n;
	if (n < 3 || n > 9)
		return 0;
	for (int m = 0; m < 12; m++)
		if (memcmp(months + 3 * m, three, 3) == 0)
			return m + 1;
	return 0;
}

static bool
is_date(int year, int month, int day)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	if (year < 1000 || year > 9999 || month < 1 || month > 12 || day < 1)
		return false;
	return day <= days[month - 1] + ((month == 2 && leap) ? 1 : 0);
}

/*
 * Skip any of the separators in "allowed" and blanks; *seen is the first that is no blank, or a blank, or 0.
 */
static void
skip_separators(const char **s, size_t *len, const char *allowed, char *seen)
{
	*seen = 0;
	while (*len > 0 && (**s == ' ' || strchr(allowed, **s) != NULL) && **s != '\0')
	{
		if (*seen == 0 || *seen == ' ')
			*seen = **s;
		(*s)++;
		(*len)--;
	}
}

/*
 * Read a date, with or without time: year first with - / . or the Chinese words, 8 digits, month/day/year (day_first: day/month/year),
 * day.month.year, and month names in English. Years have four digits: with two, nobody can know the order. A time may follow, and
 * then Z or an offset.
 */
bool
crm_moment_parse(const char *in, size_t len, bool day_first, CrmMoment *m)
{
	static const char year_word[] = "\xE5\xB9\xB4";
	static const char month_word[] = "\xE6\x9C\x88";
	static const char day_word[] = "\xE6\x97\xA5";
	static const char day_word2[] = "\xE5\x8F\xB7";
	int a, b, c, digits;
	int month;
	size_t width;
	char sep;

	memset(m, 0, sizeof(*m));
	trim(&in, &len);
	if (len == 0 || len > 80)
		return false;

	month = read_month(in, len, &width);
	if (month > 0)
	{
		/* Mar 5, 2017 */
		in += width;
		len -= width;
		skip_separators(&in, &len, ".-", &sep);
		if (!read_int(&in, &len, 2, &b, &digits))
			return false;
		skip_separators(&in, &len, ",-", &sep);
		if (sep == 0 || !read_int(&in, &len, 4, &a, &digits) || digits != 4)
			return false;
		m->year = a;
		m->month = month;
		m->day = b;
	}
	else
	{
		if (!read_int(&in, &len, 8, &a, &digits))
			return false;
		if (digits == 8)
		{
			m->year = a / 10000;
			m->month = a / 100 % 100;
			m->day = a % 100;
		}
		else if (digits == 4)
		{
			bool words = starts_with(in, len, year_word, &width);

			m->year = a;
			if (words)
			{
				in += width;
				len -= width;
			}
			else
			{
				if (len == 0 || strchr("-/.", in[0]) == NULL)
					return false;
				sep = in[0];
				in++;
				len--;
			}
			if (!read_int(&in, &len, 2, &m->month, &digits))
				return false;
			if (words)
			{
				if (!starts_with(in, len, month_word, &width))
					return false;
				in += width;
				len -= width;
			}
			else
			{
				if (len == 0 || in[0] != sep)
					return false;
				in++;
				len--;
			}
			if (!read_int(&in, &len, 2, &m->day, &digits))
				return false;
			if (words && (starts_with(in, len, day_word, &width) || starts_with(in, len, day_word2, &width)))
			{
				in += width;
				len -= width;
			}
		}
		else if (digits <= 2)
		{
			char first;

			if (len == 0)
				return false;
			first = in[0];
			if (first == ' ' || first == '-' || first == '/' || first == '.')
			{
				in++;
				len--;
			}
			else
				return false;
			month = read_month(in, len, &width);
			if (month > 0)
			{
				/* 5 Mar 2017, 5-Mar-2017 */
				in += width;
				len -= width;
				skip_separators(&in, &len, ".,-/", &sep);
				if (!read_int(&in, &len, 4, &c, &digits) || digits != 4)
					return false;
				m->year = c;
				m->month = month;
				m->day = a;
			}
			else
			{
				if (first == ' ' || !read_int(&in, &len, 2, &b, &digits))
					return false;
				if (len == 0 || in[0] != first)
					return false;
				in++;
				len--;
				if (!read_int(&in, &len, 4, &c, &digits) || digits != 4)
					return false;
				m->year = c;
				/* with points the day always comes first */
				m->month = (day_first || first == '.') ? b : a;
				m->day = (day_first || first == '.') ? a : b;
			}
		}
		else
			return false;
	}
	if (!is_date(m->year, m->month, m->day))
		return false;
	if (len == 0)
		return true;

	/* a time */
	if (in[0] != 'T' && blank_at_start(in, len) == 0)
		return false;
	if (in[0] == 'T')
	{
		in++;
		len--;
	}
	else
		trim(&in, &len);
	m->has_time = true;
	if (!read_int(&in, &len, 2, &m->hour, &digits) || len == 0 || in[0] != ':')
		return false;
	in++;
	len--;
	if (!read_int(&in, &len, 2, &m->minute, &digits))
		return false;
	if (len > 0 && in[0] == ':')
	{
		in++;
		len--;
		if (!read_int(&in, &len, 2, &m->second, &digits))
			return false;
		if (len > 0 && in[0] == '.')
		{
			in++;
			len--;
			if (!read_int(&in, &len, 6, &m->microsecond, &digits))
				return false;
			for (; digits < 6; digits++)
				m->microsecond *= 10;
		}
	}
	trim(&in, &len);
	if (len == 2 && (in[0] | 0x20) >= 'a' && (in[1] | 0x20) == 'm')
	{
		if (m->hour < 1 || m->hour > 12 || ((in[0] | 0x20) != 'a' && (in[0] | 0x20) != 'p'))
			return false;
		m->hour = m->hour % 12 + (((in[0] | 0x20) == 'p') ? 12 : 0);
		len = 0;
	}
	if (m->hour > 23 || m->minute > 59 || m->second > 59)
		return false;
	if (len == 0)
		return true;
	m->has_zone = true;
	if (len == 1 && (in[0] == 'Z' || in[0] == 'z'))
		return true;
	if (in[0] == '+' || in[0] == '-')
	{
		bool west = (in[0] == '-');
		int minutes = 0;

		in++;
		len--;
		if (!read_int(&in, &len, 4, &a, &digits))
			return false;
		if (digits == 4)
		{
			minutes = a % 100;
			a /= 100;
		}
		else if (digits > 2)
			return false;
		else if (len > 0 && in[0] == ':')
		{
			in++;
			len--;
			if (!read_int(&in, &len, 2, &minutes, &digits))
				return false;
		}
		if (len > 0 || a > 15 || minutes > 59)
			return false;
		m->zone = (a * 60 + minutes) * 60 * (west ? -1 : 1);
		return true;
	}
	return false;
}
