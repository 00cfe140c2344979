/*
 * Addresses taken apart.
 *
 * Chinese: province, city, district by the word lists and their marks, then road,
 * number, building, unit and room by theirs; written numerals become digits. Other
 * scripts: house number, room, and the words in one spelling. No gazetteer of roads, no geocoding.
 *
 * Memory: the result's own text buffer, freed by crm_address_free(). No locks.
 */
#include <string.h>

#include "text/lexicon.h"
#include "text/text.h"

#define HAN_SHENG 0x7701
#define HAN_SHI 0x5E02
#define HAN_QU 0x533A
#define HAN_XIAN 0x53BF
#define HAN_QI 0x65D7
#define HAN_HAO 0x53F7  /* number */
#define HAN_LOU 0x697C  /* building, floor */
#define HAN_DONG 0x680B /* building */
#define HAN_ZHUANG 0x5E62
#define HAN_ZUO 0x5EA7
#define HAN_SHI_ROOM 0x5BA4
#define HAN_FANG 0x623F
#define HAN_CENG 0x5C42
#define HAN_DAN 0x5355
#define HAN_YUAN 0x5143
#define HAN_NONG 0x5F04

/* The value of one numeral character: 0 to 9, 10, 100, 1000 for units, -1 for others. */
static int
numeral(uint32_t c)
{
	static const uint32_t digits[] = {0x96F6, 0x4E00, 0x4E8C, 0x4E09, 0x56DB, 0x4E94, 0x516D, 0x4E03, 0x516B, 0x4E5D};

	for (int k = 0; k < 10; k++)
		if (digits[k] == c)
			return k;
	if (c == 0x4E24)
		return 2;
	if (c == 0x5341)
		return 10;
	if (c == 0x767E)
		return 100;
	if (c == 0x5343)
		return 1000;
	return -1;
}

/* True for the characters that follow a number in an address. */
static bool
is_counter(uint32_t c)
{
	return c == HAN_HAO || c == HAN_LOU || c == HAN_DONG || c == HAN_ZHUANG || c == HAN_ZUO || c == HAN_SHI_ROOM ||
		   c == HAN_FANG || c == HAN_CENG || c == HAN_DAN || c == HAN_NONG || c == '#';
}

/* Copies a Chinese text without blanks and signs, numerals before a counter as digits; returns the length. */
static size_t
clean_han(const uint32_t *v, size_t n, uint32_t *w)
{
	size_t len = 0;

	for (size_t i = 0; i < n;)
	{
		size_t j = i;
		int total = 0;
		int last = -1;
		bool units = false;

		while (j < n && j - i < 9 && numeral(v[j]) >= 0)
		{
			int d = numeral(v[j]);

			if (d >= 10)
			{
				total += (last < 0 ? 1 : last) * d;
				last = 0;
				units = true;
			}
			else
				last = last > 0 && !units ? last * 10 + d : d;
			j++;
		}
		if (j > i && j < n && is_counter(v[j]))
		{
			char digits[16];
			int k = 0;
			int x = total + (last < 0 ? 0 : last);

			do
			{
				digits[k++] = (char) ('0' + x % 10);
				x /= 10;
			} while (x > 0);
			while (k > 0)
				w[len++] = (unsigned char) digits[--k];
			i = j;
			continue;
		}
		if (crm_is_word(v[i]) || v[i] == '#' || v[i] == '-')
			w[len++] = v[i];
		i++;
	}
	return len;
}

/* Skips "zhuang-zu autonomous region" and its like at v; 0 if that is not there. */
static size_t
autonomous(const uint32_t *v, size_t n, uint32_t last)
{
	for (size_t i = 0; i + 2 < n && i < 10; i++)
		if (v[i] == 0x81EA && v[i + 1] == 0x6CBB)
			return v[i + 2] == last ? i + 3 : 0;
	return 0;
}

/* A Chinese address. */
static void
scan_han(const uint32_t *v, size_t n, CrmAddress *out)
{
	uint32_t *w = out->work.v;
	size_t len = clean_han(v, n, w);
	size_t i = 0;
	size_t a;
	size_t first;

	for (size_t l = 3; l >= 2 && i == 0; l--)
	{
		int p = len >= l ? crm_lex_find(CRM_LEX_PROVINCE, w, l) : 0;

		if (p != 0)
		{
			out->province = p;
			i = l;
			if (i < len && (w[i] == HAN_SHENG || w[i] == HAN_SHI))
				i++;
			else if ((a = autonomous(w + i, len - i, HAN_QU)) > 0)
				i += a;
			/* The four cities are both. */
			if (crm_lex_find(CRM_LEX_CITY, w, l) == p)
			{
				out->city.v = w;
				out->city.n = l;
			}
		}
	}
	for (size_t l = 5; l >= 2; l--)
	{
		int p[4];
		int k = len - i >= l ? crm_lex_find_all(CRM_LEX_CITY, w + i, l, p, 4) : 0;
		bool fits = false;

		for (int x = 0; x < k; x++)
			if (out->province == 0 || out->province == p[x])
			{
				out->province = p[x];
				fits = true;
				break;
			}
		if (!fits)
			continue;
		out->city.v = w + i;
		out->city.n = l;
		i += l;
		if (i < len && w[i] == HAN_SHI)
			i++;
		else if (i + 1 < len && w[i] == 0x5730 && w[i + 1] == HAN_QU)
			i += 2;
		else if ((a = autonomous(w + i, len - i, 0x5DDE)) > 0)
			i += a;
		break;
	}
	/* District: up to its mark, before any digit and any mark of a road. */
	for (size_t k = i + 1; k < len && k < i + 12; k++)
	{
		if ((w[k] >= '0' && w[k] <= '9') || w[k] == 0x8DEF || w[k] == 0x8857 || w[k] == 0x9053)
			break;
		if (w[k] == HAN_QU || w[k] == HAN_XIAN || w[k] == HAN_QI || w[k] == HAN_SHI)
		{
			out->district.v = w + i;
			out->district.n = k + 1 - i;
			i = k + 1;
			break;
		}
	}
	first = i;
	while (first < len && !(w[first] >= '0' && w[first] <= '9'))
		first++;
	out->road.v = w + i;
	out->road.n = first - i;
	i = first;
	while (i < len)
	{
		size_t j = i;
		CrmSpan digits;

		while (j < len && w[j] >= '0' && w[j] <= '9')
			j++;
		digits.v = w + i;
		digits.n = j - i;
		if (digits.n == 0)
		{
			if (out->rest.n == 0)
				out->rest.v = w + i;
			i++;
			out->rest.n = (size_t) (w + i - out->rest.v);
			continue;
		}
		if (j + 1 < len && w[j] == HAN_HAO && w[j + 1] == HAN_LOU)
		{
			out->building = digits;
			i = j + 2;
		}
		else if (j < len && (w[j] == HAN_HAO || w[j] == HAN_NONG))
		{
			if (out->number.n == 0)
				out->number = digits;
			i = j + 1;
		}
		else if (j < len && (w[j] == HAN_DONG || w[j] == HAN_ZHUANG || w[j] == HAN_ZUO || w[j] == '#' ||
							 (w[j] == HAN_LOU && out->building.n == 0 && digits.n <= 2 && j + 1 < len)))
		{
			out->building = digits;
			i = j + 1;
		}
		else if (j + 1 < len && w[j] == HAN_DAN && w[j + 1] == HAN_YUAN)
		{
			out->unit = digits;
			i = j + 2;
		}
		else if (j < len && w[j] == HAN_CENG)
			i = j + 1;
		else if (j >= len || w[j] == HAN_SHI_ROOM || w[j] == HAN_FANG)
		{
			/* A number alone is the house without a number before it, else the room. */
			if (j >= len && out->number.n == 0 && out->building.n == 0)
				out->number = digits;
			else
				out->room = digits;
			i = j < len ? j + 1 : j;
		}
		else
			i = j + 1;
	}
}

/* An address in another script: words in one spelling, the first number, and what follows the mark of a room. */
static void
scan_latin(const uint32_t *v, size_t n, CrmAddress *out)
{
	static const char *const room_marks[] = {"apartment", "suite", "room", "unit"};
	uint32_t *w = out->work.v;
	size_t len = 0;
	size_t i = 0;
	bool next_is_room = false;

	while (i < n)
	{
		size_t from = len;
		size_t j;
		int group[4];

		while (i < n && !crm_is_word(v[i]))
		{
			next_is_room = next_is_room || v[i] == '#';
			i++;
		}
		j = i;
		if (i >= n)
			break;
		if (len > 0)
			w[len++] = ' ';
		from = len;
		while (j < n && (crm_is_word(v[j]) || v[j] == '\''))
		{
			if (v[j] != '\'')
				w[len++] = v[j];
			j++;
		}
		len = from + crm_strip_marks(w + from, len - from);
		if (w[from] >= '0' && w[from] <= '9')
		{
			size_t d = from;

			while (d < len && w[d] >= '0' && w[d] <= '9')
				d++;
			if (next_is_room)
			{
				out->room.v = w + from;
				out->room.n = len - from;
			}
			else if (out->number.n == 0 && (d == len || len - d == 1))
			{
				out->number.v = w + from;
				out->number.n = len - from;
			}
			next_is_room = false;
			i = j;
			continue;
		}
		next_is_room = false;
		if (crm_lex_find_all(CRM_LEX_ABBREV, w + from, len - from, group, 4) >= 1)
		{
			const char *head = crm_lex_group_head(CRM_LEX_ABBREV, group[0]);
			size_t h = strcspn(head, " |");

			if (from + h + 2 < out->work.cap - (n - j) * 2)
			{
				for (size_t k = 0; k < sizeof(room_marks) / sizeof(room_marks[0]); k++)
					if (strlen(room_marks[k]) == h && strncmp(room_marks[k], head, h) == 0)
						next_is_room = true;
				len = from;
				for (size_t k = 0; k < h; k++)
					w[len++] = (unsigned char) head[k];
			}
		}
		i = j;
	}
	out->rest.v = w;
	out->rest.n = len;
}

/* Takes a folded address apart; *out is overwritten, its buffer reused. */
void
crm_address_scan(const uint32_t *v, size_t n, CrmAddress *out)
{
	CrmText work = out->work;

	memset(out, 0, sizeof(*out));
	out->work = work;
	crm_text_reserve(&out->work, n * 4 + 64);
	for (size_t i = 0; i < n && !out->is_han; i++)
		out->is_han = crm_is_han(v[i]);
	if (out->is_han)
		scan_han(v, n, out);
	else
		scan_latin(v, n, out);
}

/* Frees the buffer. */
void
crm_address_free(CrmAddress *a)
{
	crm_text_free(&a->work);
}

/* The name of a province by its number, a pointer into the word list with its length in bytes. */
const char *
crm_province_name(int province, size_t *len)
{
	const char *head = province > 0 ? crm_lex_group_head(CRM_LEX_PROVINCE, province) : NULL;

	*len = head != NULL ? strcspn(head, " |") : 0;
	return head;
}
