/*
 * Phone numbers as people type them, above all in China.
 *
 * Reads several numbers from one field, digits of any width (folded), country and
 * dialling prefixes, area codes, 400 and 800 numbers and extensions, and says of each
 * whether it can be a real number. Foreign numbers are only cut to country code and
 * digits; whether a foreign number exists is not known here.
 *
 * Pure C, no memory, no locks.
 */
#include <string.h>

#include "text/text.h"

typedef struct Country
{
	char code[3];
	const char *cc;
	const char *trunk; /* digit dialled before the area code at home, "" none */
	int min;           /* national digits without trunk */
	int max;
} Country;

/* Numbering plans in short (ITU-T E.164 assigned country codes). */
static const Country countries[] = {
	{"CN", "86", "0", 7, 11}, {"HK", "852", "", 8, 8},  {"MO", "853", "", 8, 8},   {"TW", "886", "0", 8, 9},
	{"US", "1", "1", 10, 10}, {"CA", "1", "1", 10, 10}, {"GB", "44", "0", 9, 10},  {"DE", "49", "0", 6, 11},
	{"FR", "33", "0", 9, 9},  {"IT", "39", "", 8, 11},  {"ES", "34", "", 9, 9},    {"NL", "31", "0", 9, 9},
	{"BE", "32", "0", 8, 9},  {"CH", "41", "0", 9, 9},  {"AT", "43", "0", 7, 12},  {"SE", "46", "0", 7, 9},
	{"NO", "47", "", 8, 8},   {"DK", "45", "", 8, 8},   {"FI", "358", "0", 6, 11}, {"PL", "48", "", 9, 9},
	{"CZ", "420", "", 9, 9},  {"PT", "351", "", 9, 9},  {"IE", "353", "0", 7, 9},  {"RU", "7", "8", 10, 10},
	{"JP", "81", "0", 9, 10}, {"KR", "82", "0", 8, 10}, {"IN", "91", "0", 10, 10}, {"SG", "65", "", 8, 8},
	{"MY", "60", "0", 7, 10}, {"TH", "66", "0", 8, 9},  {"VN", "84", "0", 9, 10},  {"ID", "62", "0", 8, 12},
	{"PH", "63", "0", 8, 10}, {"AU", "61", "0", 9, 9},  {"NZ", "64", "0", 8, 10},  {"BR", "55", "0", 10, 11},
	{"MX", "52", "", 10, 10}, {"ZA", "27", "0", 9, 9},  {"AE", "971", "0", 7, 9},  {"TR", "90", "0", 10, 10},
};

#define COUNTRIES ((int) (sizeof(countries) / sizeof(countries[0])))

/* The name of a kind, as crm.phone_parse gives it. */
const char *
crm_phone_kind_name(CrmPhoneKind kind)
{
	static const char *const names[] = {"unknown", "mobile", "fixed", "local", "service", "foreign"};

	return names[kind];
}

/* Numbers typed to fill a required field. */
static bool
is_placeholder(const char *d, size_t n)
{
	size_t same = 1;
	size_t up = 1;
	size_t down = 1;

	if (n == 11 && strcmp(d, "13800138000") == 0)
		return true;
	for (size_t i = 1; i < n; i++)
	{
		same += d[i] == d[0];
		up += d[i] == d[i - 1] + 1 || (d[i] == '0' && d[i - 1] == '9');
		down += d[i] == d[i - 1] - 1 || (d[i] == '9' && d[i - 1] == '0');
	}
	if (same == n || up == n || down == n)
		return true;
	/* 13888888888, 13912345678, 01088888888: one digit or one run to the end */
	if (n >= 10)
	{
		size_t tail = 1;
		size_t run = 1;

		while (tail < n && d[n - 1 - tail] == d[n - 1])
			tail++;
		while (run < n && d[n - 1 - run] + 1 == d[n - run])
			run++;
		return tail >= 8 || run >= 8;
	}
	return false;
}

/* China, by the numbering plan: digits without any prefix or extension. */
static CrmPhoneKind
classify_china(const char *d, size_t n)
{
	if (n == 11 && d[0] == '1' && d[1] >= '3' && d[1] <= '9')
		return CRM_PHONE_MOBILE;
	if (n == 10 && (memcmp(d, "400", 3) == 0 || memcmp(d, "800", 3) == 0))
		return CRM_PHONE_SERVICE;
	if (d[0] == '0' && n >= 10 && n <= 12)
	{
		size_t area = d[1] == '1' || d[1] == '2' ? 3 : 4;

		/* Area codes are 010, 02x, and 03xx to 09xx; numbers have seven or eight digits and begin with 2 to 8, in the largest cities also with 1. */
		if ((area == 3 && d[1] == '1' && d[2] != '0') || n < area + 7 || n > area + 8)
			return CRM_PHONE_UNKNOWN;
		if (d[area] < (area == 3 && n == 11 ? '1' : '2'))
			return CRM_PHONE_UNKNOWN;
		return CRM_PHONE_FIXED;
	}
	if ((n == 7 || n == 8) && d[0] >= '2' && d[0] <= '9')
		return CRM_PHONE_LOCAL;
	return CRM_PHONE_UNKNOWN;
}

/* Fills in one number from its digits; plus says that a country code was written. */
static void
finish(char *d, size_t n, bool plus, const char *country, CrmPhone *p)
{
	const Country *home = NULL;
	bool china;

	for (int i = 0; i < COUNTRIES; i++)
		if (strcmp(countries[i].code, country) == 0)
			home = &countries[i];
	china = home != NULL && strcmp(home->code, "CN") == 0;
	p->valid = false;
	p->kind = CRM_PHONE_UNKNOWN;
	p->e164[0] = '\0';

	if (!plus && n > 4 && memcmp(d, "00", 2) == 0)
	{
		/* 0086...: an international prefix. */
		memmove(d, d + 2, n - 2 + 1);
		n -= 2;
		plus = true;
	}
	if (china)
	{
		CrmPhoneKind kind;

		/* 17951 and 12593 were dialled before a number to make the call cheaper. */
		while (n >= 16 && (memcmp(d, "17951", 5) == 0 || memcmp(d, "12593", 5) == 0 || memcmp(d, "17911", 5) == 0 ||
						   memcmp(d, "17909", 5) == 0))
		{
			memmove(d, d + 5, n - 5 + 1);
			n -= 5;
		}
		/* 086...: the code with the trunk zero of a careless form. */
		if (!plus && n >= 13 && memcmp(d, "086", 3) == 0)
		{
			memmove(d, d + 1, n - 1 + 1);
			n--;
		}
		if (n >= 11 && memcmp(d, "86", 2) == 0 && (plus || classify_china(d, n) == CRM_PHONE_UNKNOWN))
		{
			memmove(d, d + 2, n - 2 + 1);
			n -= 2;
			plus = false;
			/* +86 10 6552 9988: the trunk zero is left out. */
			if (classify_china(d, n) == CRM_PHONE_UNKNOWN && n >= 9 && n <= 11 && d[0] != '0')
			{
				memmove(d + 1, d, n + 1);
				d[0] = '0';
				n++;
				if (classify_china(d, n) == CRM_PHONE_UNKNOWN)
				{
					memmove(d, d + 1, n);
					n--;
				}
			}
		}
		/* 013812345678: a zero before a mobile number. */
		if (!plus && n == 12 && d[0] == '0' && classify_china(d + 1, 11) == CRM_PHONE_MOBILE)
		{
			memmove(d, d + 1, n);
			n--;
		}
		if (!plus)
		{
			kind = classify_china(d, n);
			p->kind = kind;
			if (kind != CRM_PHONE_UNKNOWN)
			{
				p->valid = !is_placeholder(d, n);
				if (kind == CRM_PHONE_MOBILE || kind == CRM_PHONE_SERVICE)
				{
					strcpy(p->e164, "+86");
					memcpy(p->e164 + 3, d, n + 1);
				}
				else if (kind == CRM_PHONE_FIXED)
				{
					strcpy(p->e164, "+86");
					memcpy(p->e164 + 3, d + 1, n);
				}
			}
			memcpy(p->national, d, n + 1);
			return;
		}
	}
	if (plus)
	{
		/* The longest country code that fits. */
		const Country *best = NULL;

		for (int i = 0; i < COUNTRIES; i++)
		{
			size_t l = strlen(countries[i].cc);

			if (n > l && memcmp(d, countries[i].cc, l) == 0 && (best == NULL || strlen(best->cc) < l))
				best = &countries[i];
		}
		p->kind = CRM_PHONE_FOREIGN;
		if (best != NULL)
		{
			char *rest = d + strlen(best->cc);
			size_t len = n - strlen(best->cc);

			/* +44 (0)20 ...: the trunk digit in brackets. */
			if (best->trunk[0] == '0' && rest[0] == '0')
			{
				rest++;
				len--;
			}
			p->valid = len >= (size_t) best->min && len <= (size_t) best->max && !is_placeholder(rest, len);
			p->e164[0] = '+';
			strcpy(p->e164 + 1, best->cc);
			if (strlen(best->cc) + len < sizeof(p->e164) - 1)
				memcpy(p->e164 + 1 + strlen(best->cc), rest, len + 1);
			memcpy(p->national, rest, len + 1);
		}
		else
		{
			p->e164[0] = '+';
			memcpy(p->e164 + 1, d, n + 1);
			memcpy(p->national, d, n + 1);
			p->valid = n >= 8 && n <= 15;
		}
		return;
	}
	memcpy(p->national, d, n + 1);
	if (home != NULL)
	{
		char *rest = d;
		size_t len = n;
		size_t cc = strlen(home->cc);

		if (home->trunk[0] != '\0' && rest[0] == home->trunk[0] && len > (size_t) home->min)
		{
			rest++;
			len--;
		}
		else if (len > (size_t) home->max && memcmp(rest, home->cc, cc) == 0)
		{
			rest += cc;
			len -= cc;
		}
		p->valid = len >= (size_t) home->min && len <= (size_t) home->max && !is_placeholder(rest, len);
		if (p->valid)
		{
			p->kind = CRM_PHONE_FIXED;
			p->e164[0] = '+';
			strcpy(p->e164 + 1, home->cc);
			memcpy(p->e164 + 1 + cc, rest, len + 1);
			memmove(p->national, rest, len + 1);
		}
	}
}

/* The length of a mark of an extension at v, 0 if there is none. */
static size_t
ext_mark(const uint32_t *v, size_t n)
{
	static const char *const marks[] = {"extension", "extn", "ext", "ex", "x", "#"};

	if (n >= 2 && v[0] == 0x5206 && v[1] == 0x673A) /* 分机 */
		return 2;
	if (n >= 1 && v[0] == 0x8F6C) /* 转 */
		return n >= 3 && v[1] == 0x5206 && v[2] == 0x673A ? 3 : 1;
	for (size_t m = 0; m < sizeof(marks) / sizeof(marks[0]); m++)
	{
		size_t l = strlen(marks[m]);
		size_t k = 0;

		while (k < l && k < n && v[k] == (unsigned char) marks[m][k])
			k++;
		if (k == l)
			return l;
	}
	return 0;
}

/*
 * Reads the numbers of a folded text, at most max; returns how many. country is the
 * ISO code assumed where none is written.
 */
int
crm_phone_scan(const uint32_t *v, size_t n, const char *country, CrmPhone *out, int max)
{
	int count = 0;
	size_t i = 0;
	size_t mainlen = country != NULL && strcmp(country, "CN") == 0 ? 7 : 6;

	while (i < n && count < max)
	{
		char d[20];
		size_t k = 0;
		size_t group = 0;  /* digits in the group being read */
		size_t before = 0; /* digits before that group */
		char ext[8] = "";
		bool plus = false;
		bool dash = false;
		bool done = false;

		while (i < n && !(v[i] >= '0' && v[i] <= '9') && v[i] != '+')
			i++;
		if (i < n && v[i] == '+')
		{
			plus = true;
			i++;
		}
		for (; i < n && !done; i++)
		{
			uint32_t c = v[i];
			size_t m;

			if (c >= '0' && c <= '9')
			{
				if (k < sizeof(d) - 2)
					d[k] = (char) c;
				k++;
				group++;
				continue;
			}
			if ((m = ext_mark(v + i, n - i)) > 0 && k >= mainlen)
			{
				size_t e = 0;

				i += m;
				while (i < n && (v[i] == ' ' || v[i] == '.' || v[i] == ':' || v[i] == '-' || v[i] == '#'))
					i++;
				while (i < n && v[i] >= '0' && v[i] <= '9')
				{
					if (e < sizeof(ext) - 1)
						ext[e++] = (char) v[i];
					i++;
				}
				ext[e] = '\0';
				break;
			}
			if (c == '-' || c == ' ' || c == '.' || c == '(' || c == ')' || c == 0xB7)
			{
				/* A new number after a blank: enough digits before, a mobile number or an area code ahead. */
				if (c == ' ' && k >= 11 && i + 2 < n && (v[i + 1] == '+' || v[i + 1] == '0' || v[i + 1] == '1'))
				{
					done = true;
					continue;
				}
				if (group > 0)
				{
					before += group;
					dash = c == '-';
				}
				group = 0;
				continue;
			}
			if (k == 0 && c == '+')
				continue;
			done = true;
		}
		if (k >= sizeof(d) - 1)
			continue; /* too long for any number */
		/* 021-62345678-123: a short group behind a whole number is an extension. */
		if (ext[0] == '\0' && dash && group >= 1 && group <= 5 && before >= 7 && before + group > 11 &&
			country != NULL && strcmp(country, "CN") == 0 &&
			!(plus || memcmp(d, "86", 2) == 0 || memcmp(d, "00", 2) == 0))
		{
			memcpy(ext, d + before, group);
			ext[group] = '\0';
			k = before;
		}
		if (k < 5)
			continue;
		d[k] = '\0';
		memset(&out[count], 0, sizeof(CrmPhone));
		memcpy(out[count].ext, ext, sizeof(ext));
		finish(d, k, plus, country != NULL ? country : "", &out[count]);
		count++;
	}
	return count;
}
