/*
 * Company names taken apart: region, brand, trade, legal form, branch.
 *
 * Chinese names follow "region brand trade form branch", with the region in front, in
 * brackets anywhere, or missing; Latin names lose their legal form and get one
 * spelling of common words. Nothing is looked up outside the word lists, so a name of
 * unknown words keeps all of them in its brand.
 *
 * Memory: the result's own text buffer, freed by crm_company_free(). No locks.
 */
#include <string.h>

#include "text/lexicon.h"
#include "text/text.h"

#define HAN_SHENG 0x7701 /* province */
#define HAN_SHI 0x5E02   /* city */
#define HAN_QU 0x533A    /* district */
#define HAN_XIAN 0x53BF  /* county */
#define HAN_DI 0x7B2C    /* mark of an ordinal */

static const uint32_t limited[] = {0x6709, 0x9650, 0x516C, 0x53F8}; /* the usual form, for mistyped ones */

/* The value of a Chinese numeral below ten thousand or of digits, -1 if it is none. */
static int
small_number(const uint32_t *v, size_t n)
{
	static const uint32_t digits[] = {0x96F6, 0x4E00, 0x4E8C, 0x4E09, 0x56DB, 0x4E94, 0x516D, 0x4E03, 0x516B, 0x4E5D};
	int total = 0;
	int last = -1;

	if (n == 0 || n > 7)
		return -1;
	for (size_t i = 0; i < n; i++)
	{
		uint32_t c = v[i];
		int d = -1;

		if (c >= '0' && c <= '9')
			d = (int) (c - '0');
		else if (c == 0x4E24) /* the other word for two */
			d = 2;
		else
			for (int k = 0; k < 10; k++)
				if (digits[k] == c)
					d = k;
		if (d >= 0)
		{
			/* Digits follow one another: 195 or the same in characters. */
			last = last > 0 && i > 0 ? last * 10 + d : d;
			if (last > 999999)
				return -1;
		}
		else if (c == 0x5341 || c == 0x767E || c == 0x5343)
		{
			int unit = c == 0x5341 ? 10 : c == 0x767E ? 100 : 1000;

			total += (last < 0 ? 1 : last) * unit;
			last = 0;
		}
		else
			return -1;
	}
	return total + (last < 0 ? 0 : last);
}

/* Edit distance at most one. */
static bool
near(const uint32_t *a, size_t n, const uint32_t *b, size_t m)
{
	size_t i = 0;
	size_t j = 0;

	if (n > m + 1 || m > n + 1)
		return false;
	while (i < n && i < m && a[i] == b[i])
		i++;
	while (j < n - i && j < m - i && a[n - 1 - j] == b[m - 1 - j])
		j++;
	return (n - i - j) <= 1 && (m - i - j) <= 1;
}

/* The longest word of a list at the end of a text, at most max characters; 0 if none. */
static size_t
suffix_of(CrmLexKind kind, const uint32_t *v, size_t n, size_t max, int *value)
{
	for (size_t l = n < max ? n : max; l > 0; l--)
	{
		int x = crm_lex_find(kind, v + n - l, l);

		if (x != 0)
		{
			*value = x;
			return l;
		}
	}
	return 0;
}

/* The length of a nationality in front of "autonomous" at v, 0 if that is not what stands there. */
static size_t
autonomous(const uint32_t *v, size_t n)
{
	for (size_t i = 0; i + 2 < n && i < 10; i++)
	{
		if (v[i] == 0x81EA && v[i + 1] == 0x6CBB) /* autonomous */
		{
			if (v[i + 2] == HAN_QU || v[i + 2] == 0x5DDE || v[i + 2] == HAN_XIAN || v[i + 2] == 0x65D7)
				return i + 3;
			return 0;
		}
	}
	return 0;
}

/*
 * The length of a region at the start of v: province, city, then district; 0 if none.
 * province is what is known so far and is filled in.
 */
static size_t
region_prefix(const uint32_t *v, size_t n, int *province, bool with_district)
{
	size_t i = 0;
	bool found = false;

	for (size_t l = 3; l >= 2 && !found; l--)
	{
		int p;

		if (n >= l && (p = crm_lex_find(CRM_LEX_PROVINCE, v, l)) != 0 && (*province == 0 || *province == p))
		{
			size_t a;

			/* A prefecture may be named like a province: Jilin, Hainan. */
			*province = p;
			i = l;
			if (i < n && (v[i] == HAN_SHENG || v[i] == HAN_SHI))
				i++;
			else if ((a = autonomous(v + i, n - i)) > 0 && a <= 6)
				i += a;
			found = true;
		}
	}
	found = false;
	for (size_t l = 5; l >= 2 && !found; l--)
	{
		int p[4];
		int k;

		if (n - i < l)
			continue;
		k = crm_lex_find_all(CRM_LEX_CITY, v + i, l, p, 4);
		for (int x = 0; x < k && !found; x++)
		{
			size_t a;

			if (*province != 0 && *province != p[x])
				continue;
			/* Without the mark of a city, a second name may be the brand. */
			*province = p[x];
			i += l;
			if (i < n && v[i] == HAN_SHI)
				i++;
			else if (i + 1 < n && v[i] == 0x5730 && v[i + 1] == HAN_QU)
				i += 2;
			else if ((a = autonomous(v + i, n - i)) > 0)
				i += a;
			else if (i + 1 < n && v[i + 1] == 0x65CF && crm_is_han(v[i])) /* "X zu" cut short */
				i += 2;
			found = true;
		}
	}
	if (with_district && i > 0)
	{
		for (size_t l = 2; l <= 4 && i + l < n; l++)
			if (v[i + l] == HAN_QU || v[i + l] == HAN_XIAN)
			{
				if (n - i - l - 1 >= 3)
					i += l + 1;
				break;
			}
	}
	return i;
}

/* A Chinese name; v has n code points, out->work has room for them and for what stood in brackets. */
static void
scan_han(const uint32_t *v, size_t n, CrmCompany *out)
{
	uint32_t *w = out->work.v;
	uint32_t *side = w + n + 1; /* text that stood in brackets */
	size_t sn = 0;
	size_t len = 0;
	size_t start = 0;
	size_t end;
	size_t region;
	size_t l;
	int value = 0;
	int bracket_province = 0;
	CrmSpan bracket = {NULL, 0};

	for (size_t i = 0; i < n; i++)
	{
		if (v[i] == '(')
		{
			size_t j = i + 1;
			size_t m;
			int p = 0;

			while (j < n && v[j] != ')' && v[j] != '(')
				j++;
			m = j - i - 1;
			if (m >= 2 && m <= 12 && j < n)
			{
				if (region_prefix(v + i + 1, m, &p, true) == m || (m == 2 && v[i + 1] == 0x4E2D && v[i + 2] == 0x56FD))
				{
					if (bracket.n == 0)
					{
						memcpy(side + sn, v + i + 1, m * sizeof(uint32_t));
						bracket.v = side + sn;
						bracket.n = m;
						bracket_province = p;
						sn += m;
					}
					i = j;
					continue;
				}
				if (crm_lex_find(CRM_LEX_FORM, v + i + 1, m) != 0 && m >= 2)
				{
					if (out->form_class == 0)
						out->form_class = crm_lex_find(CRM_LEX_FORM, v + i + 1, m);
					i = j;
					continue;
				}
			}
			continue;
		}
		if (crm_is_word(v[i]))
			w[len++] = v[i];
	}
	end = len;

	/* Branch: what follows the legal form, if it ends like a branch. */
	l = suffix_of(CRM_LEX_BRANCH, w, end, 4, &value);
	if (l > 0 && end > l + 1)
	{
		size_t p;
		size_t cut = 0;

		for (p = end - l; p >= 4 && cut == 0; p--)
		{
			int f;
			size_t fl = suffix_of(CRM_LEX_FORM, w, p, 8, &f);

			if (fl >= 2 && p - fl >= 2 && f <= 3)
				cut = p;
		}
		if (cut == 0 && l >= 2 && end - l >= 2)
		{
			cut = end - l;
			for (p = cut; p > 2 && cut - p < 4; p--)
				if (w[p - 1] == HAN_DI)
				{
					cut = p - 1;
					break;
				}
		}
		if (cut > 0)
		{
			out->branch.v = w + cut;
			out->branch.n = end - cut;
			end = cut;
		}
	}
	for (size_t i = 0; i + 1 < len; i++)
		if (w[i] == HAN_DI)
		{
			size_t k = 1;

			while (i + 1 + k <= len && k < 5 && small_number(w + i + 1, k) >= 0)
				k++;
			if (k > 1)
				out->ordinal = small_number(w + i + 1, k - 1);
		}

	/* Legal form at the end; a mistyped usual form counts. */
	l = suffix_of(CRM_LEX_FORM, w, end, 10, &value);
	if (l == 2)
		for (size_t k = 3; k <= 4; k++)
			if (end >= k + 2 && near(w + end - k, k, limited, 4))
				l = k;
	if (l > 0 && end - l >= 2)
	{
		out->form.v = w + end - l;
		out->form.n = l;
		if (out->form_class == 0)
			out->form_class = value;
		end -= l;
	}
	else
	{
		for (l = 5; l >= 3; l--)
			if (end >= l + 2 && near(w + end - l, l, limited, 4) && w[end - l] != limited[3])
			{
				/* Of two readings the one that begins like the form. */
				if (l > 3 && near(w + end - l + 1, l - 1, limited, 4) && w[end - l] != limited[0])
					continue;
				out->form.v = w + end - l;
				out->form.n = l;
				out->form_class = 1;
				end -= l;
				break;
			}
	}
	if (end > 4 && out->form.n > 0)
	{
		static const uint32_t parts[3][2] = {{0x8D23, 0x4EFB}, {0x80A1, 0x4EFD}, {0x96C6, 0x56E2}};

		for (int k = 0; k < 3; k++)
			if (end > 4 && w[end - 2] == parts[k][0] && w[end - 1] == parts[k][1])
			{
				out->form.v -= 2;
				out->form.n += 2;
				end -= 2;
				/* By shares, or a group: other companies than the plain one. */
				if (k > 0 && out->form_class <= 1)
					out->form_class = k + 1;
				break;
			}
	}

	/* Region in front. */
	if (end > 3 && w[0] == 0x4E2D && w[1] == 0x56FD)
		start = 2;
	region = region_prefix(w + start, end - start, &out->province, true);
	if (end - start - region >= 2)
		start += region;
	else
		out->province = 0;
	if (start > 0)
	{
		out->region.v = w;
		out->region.n = start;
	}
	else if (bracket.n > 0)
		out->region = bracket;
	if (out->province == 0)
		out->province = bracket_province;

	/* Trades, from the end. */
	out->core.v = w + start;
	out->core.n = end - start;
	out->brand = out->core;
	for (int round = 0; round < 3; round++)
	{
		size_t room = out->brand.n > 2 ? out->brand.n - 2 : 0;

		l = suffix_of(CRM_LEX_TRADE, out->brand.v, out->brand.n, room < 8 ? room : 8, &value);
		if (l == 0)
			break;
		out->brand.n -= l;
	}
	if (out->brand.n < out->core.n)
	{
		out->trade.v = out->brand.v + out->brand.n;
		out->trade.n = out->core.n - out->brand.n;
	}
}

/* A name in any other script: words in one spelling, without the legal form. */
static void
scan_latin(const uint32_t *v, size_t n, CrmCompany *out)
{
	uint32_t *w = out->work.v;
	size_t len = 0;
	size_t i = 0;
	int words = 0;

	while (i < n)
	{
		uint32_t word[64];
		size_t k = 0;
		int cls;
		int groups[4];

		if (v[i] == '&' || v[i] == '+')
		{
			word[k++] = 'a';
			word[k++] = 'n';
			word[k++] = 'd';
			i++;
		}
		else
		{
			size_t dots = 0;

			while (i < n)
			{
				if (crm_is_word(v[i]))
				{
					if (k < 64)
						word[k++] = v[i];
				}
				/* "a.b.c" is one word, "e. 51st" are two */
				else if (v[i] == '.' && k == dots + 1 && i + 1 < n && crm_is_word(v[i + 1]) &&
						 (i + 2 >= n || !crm_is_word(v[i + 2])))
					dots++;
				else if (v[i] != '\'')
					break;
				i++;
			}
			while (i < n && !crm_is_word(v[i]) && v[i] != '&' && v[i] != '+')
				i++;
		}
		if (k == 0)
			continue;
		k = crm_strip_marks(word, k);
		cls = words > 0 ? crm_lex_find(CRM_LEX_LEGAL, word, k) : 0;
		if (cls != 0)
		{
			if (out->form_class == 0)
				out->form_class = 100 + cls;
			continue;
		}
		if (words == 0 && k == 3 && word[0] == 't' && word[1] == 'h' && word[2] == 'e')
			continue;
		if (words > 0)
			w[len++] = ' ';
		if (crm_lex_find_all(CRM_LEX_ABBREV, word, k, groups, 4) == 1)
		{
			const char *head = crm_lex_group_head(CRM_LEX_ABBREV, groups[0]);

			/* The written-out word may be longer than the abbreviation: at most 16 against 1. */
			if (len + 16 < out->work.cap - (n - i))
			{
				while (*head != '\0' && *head != ' ' && *head != '|')
					w[len++] = (unsigned char) *head++;
				words++;
				continue;
			}
		}
		memcpy(w + len, word, k * sizeof(uint32_t));
		len += k;
		words++;
	}
	/* "Brown & Co": the form went, the word before it goes too. */
	if (len > 4 && w[len - 4] == ' ' && w[len - 3] == 'a' && w[len - 2] == 'n' && w[len - 1] == 'd' &&
		out->form_class != 0)
		len -= 4;
	out->core.v = w;
	out->core.n = len;
	out->brand = out->core;
}

/* Takes a folded name apart; *out is overwritten, its buffer reused. */
void
crm_company_scan(const uint32_t *v, size_t n, CrmCompany *out)
{
	CrmText work = out->work;
	size_t han = 0;

	memset(out, 0, sizeof(*out));
	out->work = work;
	crm_text_reserve(&out->work, 5 * n + 64);
	for (size_t i = 0; i < n; i++)
		han += crm_is_han(v[i]);
	out->is_han = han > 0;
	if (n == 0)
		return;
	if (out->is_han)
		scan_han(v, n, out);
	else
		scan_latin(v, n, out);
}

/* Frees the buffer. */
void
crm_company_free(CrmCompany *c)
{
	crm_text_free(&c->work);
}
