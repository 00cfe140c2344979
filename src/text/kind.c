/*
 * What one value looks like, without knowing its column: the basis of guessing what a column means.
 *
 * It is a guess by form and by the word lists, right more often than not for values of its kind; a column is
 * judged by the shares of many values. Never by a list of a country's people or streets.
 *
 * Memory: a buffer of the address parser, freed at once. No locks.
 */
#include <string.h>

#include "text/lexicon.h"
#include "text/text.h"

/* Words looked at. */
#define WORDS 12

/* Counts of characters, by class. */
typedef struct Shape
{
	size_t digits, letters, han, blanks, marks;
	size_t words;
	size_t from[WORDS], len[WORDS];
} Shape;

/* True for the letters of plain Latin. */
static inline bool
is_latin(uint32_t c)
{
	return c >= 'a' && c <= 'z';
}

/* Counts. */
static void
look(const uint32_t *v, size_t n, Shape *s)
{
	bool in_word = false;

	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < n; i++)
	{
		bool word = crm_is_word(v[i]);

		if (v[i] >= '0' && v[i] <= '9')
			s->digits++;
		else if (crm_is_han(v[i]))
			s->han++;
		else if (word)
			s->letters++;
		else if (v[i] == ' ')
			s->blanks++;
		else
			s->marks++;
		/* An apostrophe or a hyphen does not end a word. */
		if (word && !in_word)
		{
			if (s->words < WORDS)
				s->from[s->words] = i;
			s->words++;
		}
		if (word && s->words <= WORDS)
			s->len[s->words - 1] = i + 1 - s->from[s->words - 1];
		in_word = word || (in_word && (v[i] == '\'' || v[i] == '-'));
	}
}

/* True if a text has the pattern: 9 a digit, a a letter, anything else itself. */
static bool
has_form(const uint32_t *v, size_t n, const char *form)
{
	if (strlen(form) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (form[i] == '9'   ? v[i] < '0' || v[i] > '9'
			: form[i] == 'a' ? !is_latin(v[i])
							 : v[i] != (unsigned char) form[i])
			return false;
	return true;
}

/* A day of the calendar of the years 1000 to 2100, in one of the usual forms. */
static bool
is_day(const uint32_t *v, size_t n)
{
	int part[3] = {0, 0, 0};
	int digits[3] = {0, 0, 0};
	int k = 0;
	int y;
	int a;
	int b;

	for (size_t i = 0; i < n; i++)
	{
		if (v[i] >= '0' && v[i] <= '9')
		{
			if (k > 2 || digits[k] >= 8)
				return false;
			part[k] = part[k] * 10 + (int) (v[i] - '0');
			digits[k]++;
		}
		else if ((v[i] == ' ' || v[i] == 't') && k == 2 && digits[2] > 0)
			break;
		else if ((v[i] == '-' || v[i] == '/' || v[i] == '.') && k < 2 && digits[k] > 0)
			k++;
		else
			return false;
	}
	if (k == 0 && digits[0] == 8)
	{
		y = part[0] / 10000;
		a = part[0] / 100 % 100;
		b = part[0] % 100;
	}
	else if (k == 2 && digits[0] == 4 && digits[1] <= 2 && digits[2] <= 2)
	{
		y = part[0];
		a = part[1];
		b = part[2];
	}
	else if (k == 2 && digits[0] <= 2 && digits[1] <= 2 && (digits[2] == 4 || digits[2] == 2))
	{
		y = digits[2] == 4 ? part[2] : 1900 + part[2];
		a = part[0];
		b = part[1];
	}
	else
		return false;
	return y >= 1000 && y <= 2100 && a >= 1 && b >= 1 && a <= 31 && b <= 31 && (a <= 12 || b <= 12);
}

/* A postcode of the usual forms; five or six digits, or four, may also be another number. */
static bool
is_postcode(const uint32_t *v, size_t n)
{
	static const char *const forms[] = {"9999",     "99999",   "99999-9999", "999999", "a9 9aa",   "a99 9aa", "aa9 9aa",
										"aa99 9aa", "a9a 9aa", "aa9a 9aa",   "a99aa",  "a999aa",   "aa99aa",  "aa999aa",
										"a9a9aa",   "aa9a9aa", "a9a 9a9",    "a9a9a9", "999-9999", "9999 aa", "9999aa"};

	for (size_t k = 0; k < sizeof(forms) / sizeof(forms[0]); k++)
		if (has_form(v, n, forms[k]))
			return true;
	return false;
}

/* The number of a word's group among the Latin short forms of names and addresses, 0 none. */
static int
short_form(const uint32_t *v, size_t n)
{
	return crm_lex_find(CRM_LEX_ABBREV, v, n);
}

/* The same of a word of the program. */
static int
group_of(const char *word)
{
	uint32_t v[16];
	size_t n = 0;

	for (; word[n] != '\0' && n < 16; n++)
		v[n] = (unsigned char) word[n];
	return short_form(v, n);
}

/* What a Chinese value is. */
static CrmValueKind
han_kind(const uint32_t *v, size_t n, const Shape *s)
{
	CrmAddress a;
	CrmValueKind kind = CRM_VALUE_OTHER;

	for (size_t len = n > 8 ? 8 : n; len >= 1; len--)
		if (n > len + 1 &&
			(crm_lex_find(CRM_LEX_FORM, v + n - len, len) != 0 || crm_lex_find(CRM_LEX_BRANCH, v + n - len, len) != 0))
			return CRM_VALUE_COMPANY;
	if (crm_lex_find(CRM_LEX_PROVINCE, v, n) != 0)
		return CRM_VALUE_REGION;
	if (crm_lex_find(CRM_LEX_CITY, v, n) != 0 ||
		(n > 1 && v[n - 1] == 0x5E02 && crm_lex_find(CRM_LEX_CITY, v, n - 1) != 0))
		return CRM_VALUE_CITY;
	if (s->han == n && n >= 2 && n <= 4)
		return CRM_VALUE_PERSON;
	memset(&a, 0, sizeof(a));
	crm_address_scan(v, n, &a);
	if (a.road.n > 0 && (a.number.n > 0 || a.city.n > 0 || a.province != 0))
		kind = CRM_VALUE_ADDRESS;
	crm_address_free(&a);
	return kind;
}

/* What a value of Latin words is. */
static CrmValueKind
latin_kind(const uint32_t *v, size_t n, const Shape *s)
{
	int streets =
		group_of("north") - 1; /* street types stand before it in the list, and words of institutions from this on: */
	int organs = group_of("center");
	size_t words = s->words > WORDS ? WORDS : s->words;
	bool street = false;
	bool organ = false;
	bool given = false;
	bool title = false;
	bool house = words >= 2 && s->from[0] == 0 && v[0] >= '0' && v[0] <= '9';

	for (size_t w = 0; w < words; w++)
	{
		const uint32_t *word = v + s->from[w];
		int group = short_form(word, s->len[w]);

		if (w > 0 && crm_lex_find(CRM_LEX_LEGAL, word, s->len[w]) != 0 && (s->len[w] > 2 || w == words - 1))
			organ = true;
		if (group >= organs)
			organ = true;
		/* "st" before a name is a saint */
		if (w > 0 && group >= 1 && group <= streets)
			street = true;
		given |= (w == 0 || w == words - 1) && crm_lex_find(CRM_LEX_NICK, word, s->len[w]) != 0;
		title |= words > 1 && crm_lex_find(CRM_LEX_TITLE, word, s->len[w]) != 0;
	}
	if (house)
		return words >= 2 && s->letters > 1 ? CRM_VALUE_ADDRESS : CRM_VALUE_OTHER;
	if (words >= 2 && organ)
		return CRM_VALUE_COMPANY;
	if (words >= 2 && street && !given)
		return CRM_VALUE_STREET;
	if (s->digits > 0)
		return CRM_VALUE_OTHER;
	if (words == 1)
		return s->len[0] <= 3 && s->len[0] == n ? (given ? CRM_VALUE_GIVEN : CRM_VALUE_CODE)
			   : given                          ? CRM_VALUE_GIVEN
												: CRM_VALUE_WORD;
	if (words <= 5 && (given || title))
		return CRM_VALUE_PERSON;
	return CRM_VALUE_WORDS;
}

/* What a folded value looks like. */
CrmValueKind
crm_value_kind(const uint32_t *v, size_t n)
{
	Shape s;
	size_t i = 0;
	size_t dots = 0;
	uint32_t mail[336];
	size_t at;

	while (n > 0 && v[n - 1] == ' ')
		n--;
	while (n > 0 && v[0] == ' ')
	{
		v++;
		n--;
	}
	if (n == 0)
		return CRM_VALUE_NONE;
	if (n > 300)
		return CRM_VALUE_OTHER;
	if (crm_email_scan(v, n, mail, &at) > 0)
		return CRM_VALUE_EMAIL;
	if (n == 18 && crm_resident_check(v, n))
		return CRM_VALUE_NATIONAL_ID;
	if (n == 18 && crm_uscc_check(v, n))
		return CRM_VALUE_USCC;
	look(v, n, &s);
	/* A code of the form of a credit code, mistyped. */
	if (n == 18 && s.digits >= 8 && s.digits + s.letters == 18 && v[2] >= '0' && v[2] <= '9' && v[7] >= '0' &&
		v[7] <= '9')
		return s.letters > 1 ? CRM_VALUE_USCC : CRM_VALUE_NATIONAL_ID;
	for (i = 0; i < n && (is_latin(v[i]) || (v[i] >= '0' && v[i] <= '9') || v[i] == '-' || v[i] == '.' || v[i] == '/' ||
						  v[i] == ':');
		 i++)
		dots += i > 0 && v[i] == '.' && i + 2 < n && is_latin(v[i + 1]) && is_latin(v[i + 2]);
	if (i == n && dots > 0 && s.letters > s.digits && s.letters > 4)
		return CRM_VALUE_WEBSITE;
	if (s.letters == 0 && s.han == 0)
	{
		if (is_day(v, n))
			return CRM_VALUE_DATE;
		if (is_postcode(v, n))
			return CRM_VALUE_POSTCODE;
		if (s.digits >= 7 && s.digits <= 15)
			return CRM_VALUE_PHONE;
		return s.digits > 0 ? CRM_VALUE_NUMBER : CRM_VALUE_OTHER;
	}
	if (n == 4 && s.digits == 3 && v[3] == 'x')
		return CRM_VALUE_ID4;
	if (is_postcode(v, n))
		return CRM_VALUE_POSTCODE;
	if (s.han > 0)
		return s.digits >= 7 && s.han <= 2 ? CRM_VALUE_PHONE : han_kind(v, n, &s);
	/* An extension behind a number. */
	if (s.digits >= 7 && s.letters <= 3)
		return CRM_VALUE_PHONE;
	return latin_kind(v, n, &s);
}

/* Its name: that of the meaning where there is one. */
const char *
crm_value_kind_name(CrmValueKind kind)
{
	static const char *const names[] = {"none",       "email",    "website", "uscc",   "national_id", "id4",
										"date",       "postcode", "phone",   "number", "company",     "person_name",
										"given_name", "address",  "street",  "city",   "region",      "word",
										"words",      "code",     "other"};

	return names[kind];
}
