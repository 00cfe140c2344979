/*
 * People's names: surname, pinyin, short forms, and a key by sound.
 *
 * The key of a Chinese name is its pinyin, surname and given name as two words; of a Latin
 * name its words without titles, each given name in its full form. The words of a key
 * are sorted, so that "Zhang San", "San Zhang" and the characters give one key.
 *
 * Pure C, no memory, no locks.
 */
#include <string.h>

#include "text/lexicon.h"
#include "text/text.h"
#include "text/unitab.h"

/* How many characters of a Chinese name are its surname. */
size_t
crm_surname_len(const uint32_t *v, size_t n)
{
	if (n >= 3 && crm_lex_find(CRM_LEX_SURNAME, v, 2) != 0)
		return 2;
	return n > 0 ? 1 : 0;
}

/*
 * Syllable ids of the Chinese characters of a text, at most max; other characters are
 * skipped. In a name, the surname is read as a surname.
 */
size_t
crm_pinyin(const uint32_t *v, size_t n, bool is_name, uint16_t *out, size_t max)
{
	size_t k = 0;

	for (size_t i = 0; i < n && k < max; i++)
	{
		if (v[i] < CRM_HAN_FIRST || v[i] > CRM_HAN_LAST)
			continue;
		out[k] = crm_reading[v[i] - CRM_HAN_FIRST];
		if (is_name && k == 0)
		{
			int special = 0;

			if (n - i >= 3 && crm_surname_len(v + i, n - i) == 2)
				special = crm_lex_find(CRM_LEX_READING, v + i, 2);
			if (special == 0)
				special = crm_lex_find(CRM_LEX_READING, v + i, 1);
			if (special != 0)
				out[k] = (uint16_t) special;
		}
		k++;
	}
	return k;
}

/* The groups of sister forms that a given name belongs to. */
int
crm_nick_groups(const uint32_t *v, size_t n, int *groups, int max)
{
	return crm_lex_find_all(CRM_LEX_NICK, v, n, groups, max);
}

/* Order of two words, for the key. */
static int
compare_words(const uint32_t *a, size_t n, const uint32_t *b, size_t m)
{
	for (size_t i = 0; i < n && i < m; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return n == m ? 0 : n < m ? -1 : 1;
}

/* Writes a syllable; returns its length. */
static size_t
put_syllable(int id, uint32_t *out, size_t max)
{
	size_t k = 0;

	for (const char *s = crm_syllable[id]; *s != '\0' && k < max; s++)
		out[k++] = (unsigned char) *s;
	return k;
}

#define WORDS_MAX 12

/* The key by sound of a folded name; returns its length, at most max. */
size_t
crm_person_key(const uint32_t *v, size_t n, uint32_t *out, size_t max)
{
	uint32_t text[WORDS_MAX][40];
	size_t lens[WORDS_MAX];
	int order[WORDS_MAX];
	int words = 0;
	size_t i = 0;
	size_t len = 0;

	while (i < n && words < WORDS_MAX)
	{
		if (crm_is_han(v[i]))
		{
			size_t j = i;
			size_t s;
			uint16_t py[16];
			size_t k;

			while (j < n && crm_is_han(v[j]))
				j++;
			/* A title behind the name goes: two characters or more, or one after a single surname. */
			for (size_t l = 4; l >= 1; l--)
				if (j - i > l && crm_lex_find(CRM_LEX_TITLE, v + j - l, l) != 0 && (l > 1 || j - i == 2))
				{
					j -= l;
					break;
				}
			if (crm_lex_find(CRM_LEX_TITLE, v + i, j - i) == 0)
			{
				s = crm_surname_len(v + i, j - i);
				k = crm_pinyin(v + i, j - i, true, py, 16);
				for (int part = 0; part < 2 && words < WORDS_MAX; part++)
				{
					size_t from = part == 0 ? 0 : s;
					size_t to = part == 0 ? s : k;
					size_t l = 0;

					for (size_t x = from; x < to && x < k; x++)
						l += put_syllable(py[x], text[words] + l, 40 - l);
					if (l > 0)
						lens[words++] = l;
				}
			}
			while (j < n && crm_is_han(v[j]))
				j++;
			i = j;
		}
		else if (crm_is_word(v[i]))
		{
			size_t l = 0;
			int group[2];

			while (i < n && (crm_is_word(v[i]) || v[i] == '\'') && !crm_is_han(v[i]))
			{
				if (v[i] != '\'' && l < 40)
					text[words][l++] = v[i];
				i++;
			}
			l = crm_strip_marks(text[words], l);
			if (l == 0 || crm_lex_find(CRM_LEX_TITLE, text[words], l) != 0)
				continue;
			if (crm_nick_groups(text[words], l, group, 2) == 1)
			{
				const char *head = crm_lex_group_head(CRM_LEX_NICK, group[0]);

				l = 0;
				while (*head != '\0' && *head != ' ' && *head != '|')
					text[words][l++] = (unsigned char) *head++;
			}
			lens[words++] = l;
		}
		else
			i++;
	}
	for (int a = 0; a < words; a++)
	{
		int b = a;

		while (b > 0 && compare_words(text[order[b - 1]], lens[order[b - 1]], text[a], lens[a]) > 0)
		{
			order[b] = order[b - 1];
			b--;
		}
		order[b] = a;
	}
	for (int a = 0; a < words; a++)
	{
		if (a > 0 && len < max)
			out[len++] = ' ';
		for (size_t x = 0; x < lens[order[a]] && len < max; x++)
			out[len++] = text[order[a]][x];
	}
	return len;
}
