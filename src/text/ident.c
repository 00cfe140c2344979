/*
 * Identifiers: the unified social credit code, the resident identity number, mail addresses.
 *
 * Only form and checksum are judged; that a number was ever issued is not known here.
 * Pure C, no memory, no locks.
 */
#include <string.h>

#include "text/lexicon.h"
#include "text/text.h"

/* A folded letter or digit in capitals. */
static uint32_t
upper(uint32_t c)
{
	return c >= 'a' && c <= 'z' ? c - 32 : c;
}

/*
 * GB 32100-2015: 18 characters of 31, the last a check character modulo 31 with
 * weights 3^i.
 */
bool
crm_uscc_check(const uint32_t *v, size_t n)
{
	static const char set[] = "0123456789ABCDEFGHJKLMNPQRTUWXY";
	int sum = 0;
	int weight = 1;

	if (n != 18)
		return false;
	for (int i = 0; i < 18; i++)
	{
		uint32_t c = upper(v[i]);
		const char *at = c > 0 && c < 0x80 ? strchr(set, (int) c) : NULL;

		if (at == NULL || (i >= 2 && i < 8 && (c < '0' || c > '9')))
			return false;
		if (i < 17)
		{
			sum += (int) (at - set) * weight;
			weight = weight * 3 % 31;
		}
		else if ((31 - sum % 31) % 31 != (int) (at - set))
			return false;
	}
	return true;
}

/* GB 11643-1999: 17 digits with a real date of birth, and a check character by ISO 7064 mod 11-2. */
bool
crm_resident_check(const uint32_t *v, size_t n)
{
	static const int weights[] = {7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2};
	static const char check[] = "10X98765432";
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int sum = 0;
	int d[17];
	int year;
	int month;
	int day;

	if (n != 18)
		return false;
	for (int i = 0; i < 17; i++)
	{
		if (v[i] < '0' || v[i] > '9')
			return false;
		d[i] = (int) (v[i] - '0');
		sum += d[i] * weights[i];
	}
	year = d[6] * 1000 + d[7] * 100 + d[8] * 10 + d[9];
	month = d[10] * 10 + d[11];
	day = d[12] * 10 + d[13];
	if (d[0] == 0 || year < 1800 || year > 2199 || month < 1 || month > 12 || day < 1)
		return false;
	if (day > days[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)))
		return false;
	return upper(v[17]) == (unsigned char) check[sum % 11];
}

/* Compares a span with plain letters. */
static bool
equals(const uint32_t *v, size_t n, const char *s)
{
	size_t i = 0;

	while (i < n && s[i] != '\0' && v[i] == (unsigned char) s[i])
		i++;
	return i == n && s[i] == '\0';
}

/*
 * The key of a folded mail address: without a tag behind '+', Gmail without dots.
 * Returns its length and the place of '@', 0 if the text is no address. out has room for
 * n + 8 code points.
 */
size_t
crm_email_scan(const uint32_t *v, size_t n, uint32_t *out, size_t *at)
{
	size_t a = n;
	size_t k = 0;
	bool gmail;
	bool dot = false;

	for (size_t i = 0; i < n; i++)
	{
		if (v[i] == '@')
		{
			if (a != n)
				return 0;
			a = i;
		}
		else if (v[i] == ' ' || v[i] == ',' || v[i] == ';' || v[i] == '<' || v[i] == '>' || v[i] == '(' || v[i] == ')')
			return 0;
		else if (a != n && v[i] == '.')
			dot = true;
	}
	if (a == 0 || a + 3 >= n || !dot || v[n - 1] == '.' || v[a + 1] == '.')
		return 0;
	gmail = equals(v + a + 1, n - a - 1, "gmail.com") || equals(v + a + 1, n - a - 1, "googlemail.com");
	for (size_t i = 0; i < a; i++)
	{
		if (v[i] == '+' && i > 0)
			break;
		if (gmail && v[i] == '.')
			continue;
		out[k++] = v[i];
	}
	if (k == 0)
		return 0;
	*at = k;
	out[k++] = '@';
	if (gmail)
		for (const char *s = "gmail.com"; *s != '\0'; s++)
			out[k++] = (unsigned char) *s;
	else
		for (size_t i = a + 1; i < n; i++)
			out[k++] = v[i];
	return k;
}

/* True when the domain of an address is open to everybody and so no evidence of a company. */
bool
crm_email_is_free(const uint32_t *v, size_t n, size_t at)
{
	return at + 1 < n && crm_lex_find(CRM_LEX_FREEMAIL, v + at + 1, n - at - 1) != 0;
}
