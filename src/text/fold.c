/*
 * Folding: one spelling for texts that people take for the same.
 *
 * NFKC, case folding, traditional to simplified characters, one form of brackets,
 * dashes, quotes and blanks, no control or zero-width characters, no blank between
 * two Chinese characters. Latin diacritics stay here; crm_strip_marks() removes them
 * for keys.
 *
 * NFKC itself is PostgreSQL's unicode_normalize(); texts made of characters that it
 * would not change, nearly all, do not pay for it. Bytes that are no UTF-8 become
 * U+FFFD: nothing is refused here.
 *
 * Memory: the caller's CrmText grows as needed. No locks.
 */
#ifdef CRM_STANDALONE
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif
#include "common/unicode_norm.h"

#include "text/text.h"
#include "text/unitab.h"

/* Memory of the buffers; in a backend an allocation that fails raises. */
void *
crm_text_alloc(size_t size)
{
#ifdef CRM_STANDALONE
	void *p = malloc(size);

	if (p == NULL)
		abort();
	return p;
#else
	return MemoryContextAllocHuge(CurrentMemoryContext, size);
#endif
}

/* Frees what crm_text_alloc gave. */
void
crm_text_release(void *p)
{
#ifdef CRM_STANDALONE
	free(p);
#else
	pfree(p);
#endif
}

/* Makes room for n code points; keeps what is there. */
void
crm_text_reserve(CrmText *t, size_t n)
{
	uint32_t *v;
	size_t cap;

	if (n <= t->cap)
		return;
	cap = t->cap < 32 ? 64 : t->cap * 2;
	if (cap < n)
		cap = n;
	v = crm_text_alloc(cap * sizeof(uint32_t));
	if (t->n > 0)
		memcpy(v, t->v, t->n * sizeof(uint32_t));
	if (t->v != NULL)
		crm_text_release(t->v);
	t->v = v;
	t->cap = cap;
}

/* Gives the memory back. */
void
crm_text_free(CrmText *t)
{
	if (t->v != NULL)
		crm_text_release(t->v);
	t->v = NULL;
	t->n = t->cap = 0;
}

/*
 * Reads one code point of at most n bytes (n > 0); returns how many bytes it took.
 * A malformed byte is U+FFFD and takes one.
 */
size_t
crm_utf8_next(const char *s, size_t n, uint32_t *cp)
{
	const unsigned char *u = (const unsigned char *) s;
	uint32_t c = u[0];
	size_t len;

	if (c < 0x80)
	{
		*cp = c;
		return 1;
	}
	if (c >= 0xC2 && c <= 0xDF)
	{
		len = 2;
		c &= 0x1F;
	}
	else if ((c & 0xF0) == 0xE0)
	{
		len = 3;
		c &= 0x0F;
	}
	else if (c >= 0xF0 && c <= 0xF4)
	{
		len = 4;
		c &= 0x07;
	}
	else
		len = 0;
	if (len == 0 || len > n)
	{
		*cp = 0xFFFD;
		return 1;
	}
	for (size_t i = 1; i < len; i++)
	{
		if ((u[i] & 0xC0) != 0x80)
		{
			*cp = 0xFFFD;
			return 1;
		}
		c = (c << 6) | (u[i] & 0x3F);
	}
	if ((len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10FFFF)) || (c >= 0xD800 && c <= 0xDFFF))
	{
		*cp = 0xFFFD;
		return 1;
	}
	*cp = c;
	return len;
}

/* Writes one code point as UTF-8, at most four bytes; returns how many. */
size_t
crm_utf8_put(uint32_t cp, char *out)
{
	if (cp < 0x80)
	{
		out[0] = (char) cp;
		return 1;
	}
	if (cp < 0x800)
	{
		out[0] = (char) (0xC0 | (cp >> 6));
		out[1] = (char) (0x80 | (cp & 0x3F));
		return 2;
	}
	if (cp < 0x10000)
	{
		out[0] = (char) (0xE0 | (cp >> 12));
		out[1] = (char) (0x80 | ((cp >> 6) & 0x3F));
		out[2] = (char) (0x80 | (cp & 0x3F));
		return 3;
	}
	out[0] = (char) (0xF0 | (cp >> 18));
	out[1] = (char) (0x80 | ((cp >> 12) & 0x3F));
	out[2] = (char) (0x80 | ((cp >> 6) & 0x3F));
	out[3] = (char) (0x80 | (cp & 0x3F));
	return 4;
}

/* True for the Chinese characters of the basic block and of extension A. */
bool
crm_is_han(uint32_t cp)
{
	return (cp >= CRM_HAN_FIRST && cp <= CRM_HAN_LAST) || (cp >= 0x3400 && cp <= 0x4DBF) ||
		   (cp >= 0x20000 && cp <= 0x323AF);
}

/* True for letters, digits and characters of any script: what is left of a text when marks and signs go. */
bool
crm_is_word(uint32_t cp)
{
	if (cp < 0x80)
		return (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
	if (cp < 0xC0)
		return cp == 0xAA || cp == 0xB5 || cp == 0xBA;
	if (cp == 0xD7 || cp == 0xF7)
		return false;
	if ((cp >= 0x2000 && cp <= 0x2BFF) || (cp >= 0x3000 && cp <= 0x3030) || cp == 0xFFFD)
		return false;
	return true;
}

/* Characters that NFKC leaves alone whatever stands beside them, as long as all are of this kind. */
static inline bool
is_inert(uint32_t cp)
{
	if (cp < 0xA0)
		return true;
	if (cp >= CRM_HAN_FIRST && cp <= CRM_HAN_LAST)
		return true;
	if (cp >= 0xFF01 && cp <= 0xFF5E)
		return true; /* mapped below, as NFKC would */
	if (cp >= 0xC0 && cp <= 0x131)
		return true;
	if (cp >= 0x3000 && cp <= 0x301B)
		return true;
	return cp == 0x2018 || cp == 0x2019 || cp == 0x201C || cp == 0x201D || cp == 0x2013 || cp == 0x2014 || cp == 0xB7 ||
		   cp == 0xFFFD;
}

/* Full case folding of one character beyond ASCII; returns how many it becomes. */
static int
fold_case(uint32_t cp, uint32_t *out)
{
	int lo = 0;
	int hi = crm_casefold_count - 1;

	while (lo <= hi)
	{
		int mid = (lo + hi) / 2;

		if (crm_casefold[mid].from == cp)
		{
			int n = 0;

			while (n < 3 && crm_casefold[mid].to[n] != 0)
			{
				out[n] = crm_casefold[mid].to[n];
				n++;
			}
			return n;
		}
		if (crm_casefold[mid].from < cp)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	out[0] = cp;
	return 1;
}

/* One character after NFKC to at most three; 0 drops it. */
static int
map_one(uint32_t cp, uint32_t *out)
{
	if (cp >= 0xFF01 && cp <= 0xFF5E)
		cp -= 0xFEE0;
	if (cp < 0x80)
	{
		if (cp >= 'A' && cp <= 'Z')
			cp += 'a' - 'A';
		else if (cp == '\t' || cp == '\n' || cp == '\r' || cp == '\f' || cp == '\v')
			cp = ' ';
		else if (cp < 0x20 || cp == 0x7F)
			return 0;
		else if (cp == '[' || cp == '{')
			cp = '(';
		else if (cp == ']' || cp == '}')
			cp = ')';
		else if (cp == '`')
			cp = '\'';
		out[0] = cp;
		return 1;
	}
	if (cp >= CRM_HAN_FIRST && cp <= CRM_HAN_LAST)
	{
		uint32_t s = crm_simplified[cp - CRM_HAN_FIRST];

		out[0] = s != 0 ? s : cp;
		return 1;
	}
	if (cp < 0xA0 || cp == 0xAD || (cp >= 0x200B && cp <= 0x200F) || (cp >= 0x202A && cp <= 0x202E) ||
		(cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF || (cp >= 0xFE00 && cp <= 0xFE0F) || cp == 0x61C ||
		cp == 0x180E || (cp >= 0xE0000 && cp <= 0xE0FFF) || (cp >= 0xFFF9 && cp <= 0xFFFB))
		return 0;
	switch (cp)
	{
		case 0x3008:
		case 0x300A:
		case 0x300C:
		case 0x300E:
		case 0x3010:
		case 0x3014:
		case 0x3016:
		case 0x3018:
		case 0x301A: out[0] = '('; return 1;
		case 0x3009:
		case 0x300B:
		case 0x300D:
		case 0x300F:
		case 0x3011:
		case 0x3015:
		case 0x3017:
		case 0x3019:
		case 0x301B: out[0] = ')'; return 1;
		case 0x3001: out[0] = ','; return 1;
		case 0x3002: out[0] = '.'; return 1;
		case 0x2018:
		case 0x2019:
		case 0x201A:
		case 0x201B:
		case 0x2032:
		case 0xB4: out[0] = '\''; return 1;
		case 0x201C:
		case 0x201D:
		case 0x201E:
		case 0x201F:
		case 0x2033:
		case 0xAB:
		case 0xBB: out[0] = '"'; return 1;
		case 0x2022:
		case 0x2027:
		case 0x2219:
		case 0x22C5:
		case 0x30FB: out[0] = 0xB7; return 1;
		case 0x2212:
		case 0xFE63:
		case 0x2043: out[0] = '-'; return 1;
		case 0x3007: /* the zero of written numbers */ out[0] = 0x96F6; return 1;
		case 0xA0:
		case 0x1680:
		case 0x3000:
		case 0x2028:
		case 0x2029:
		case 0x202F:
		case 0x205F: out[0] = ' '; return 1;
		default: break;
	}
	if (cp >= 0x2010 && cp <= 0x2015)
	{
		out[0] = '-';
		return 1;
	}
	if (cp >= 0x2000 && cp <= 0x200A)
	{
		out[0] = ' ';
		return 1;
	}
	return fold_case(cp, out);
}

/* Appends one code point, collapsing blanks and closing gaps inside Chinese text. */
static inline void
push(CrmText *out, uint32_t c)
{
	if (c == ' ')
	{
		if (out->n == 0 || out->v[out->n - 1] == ' ')
			return;
	}
	else if (out->n > 1 && out->v[out->n - 1] == ' ' && crm_is_han(c) && crm_is_han(out->v[out->n - 2]))
		out->n--;
	out->v[out->n++] = c;
}

/* Normalises and maps code points in place; returns whether anything changed. */
static bool
fold_wide(CrmText *t)
{
	pg_wchar *wide = crm_text_alloc((t->n + 1) * sizeof(pg_wchar));
	pg_wchar *norm;
	size_t len = 0;
	size_t before = t->n;
	bool changed;
	uint32_t to[3];

	for (size_t i = 0; i < t->n; i++)
		wide[i] = t->v[i];
	wide[t->n] = 0;
	norm = unicode_normalize(UNICODE_NFKC, wide);
	t->n = 0;
	if (norm != NULL)
	{
		while (norm[len] != 0)
			len++;
		crm_text_reserve(t, len * 3 + 1);
		for (size_t i = 0; i < len; i++)
		{
			int k = map_one(norm[i], to);

			for (int j = 0; j < k; j++)
				push(t, to[j]);
		}
		crm_text_release(norm);
	}
	changed = t->n != before;
	for (size_t i = 0; i < t->n && !changed; i++)
		changed = t->v[i] != wide[i];
	crm_text_release(wide);
	return changed;
}

/* Folds n bytes of UTF-8; the result replaces what out held. */
void
crm_fold(const char *s, size_t n, CrmText *out)
{
	bool inert = true;
	uint32_t to[3];
	size_t i;

	out->n = 0;
	crm_text_reserve(out, n + 1);
	for (i = 0; i < n;)
	{
		uint32_t cp;

		i += crm_utf8_next(s + i, n - i, &cp);
		if (!is_inert(cp))
		{
			inert = false;
			break;
		}
		if (cp < 0x80 || (cp >= CRM_HAN_FIRST && cp <= CRM_HAN_LAST))
		{
			if (map_one(cp, to) == 1)
				push(out, to[0]);
		}
		else
		{
			int k = map_one(cp, to);

			/* Full case folding may grow a character (two bytes) to two code points, never beyond the bytes read. */
			for (int j = 0; j < k; j++)
				push(out, to[j]);
		}
	}
	if (!inert)
	{
		/*
		 * Folding a letter or dropping a character between two may let others combine: again
		 * until nothing changes. Once is enough for nearly all texts, four times for all known.
		 */
		out->n = 0;
		for (i = 0; i < n;)
		{
			uint32_t cp;

			i += crm_utf8_next(s + i, n - i, &cp);
			out->v[out->n++] = cp == 0 ? 0xFFFD : cp;
		}
		for (int round = 0; round < 4 && fold_wide(out); round++)
			;
	}
	while (out->n > 0 && out->v[out->n - 1] == ' ')
		out->n--;
}

/* Takes diacritics off Latin letters and drops combining marks, in place; returns the new length. */
size_t
crm_strip_marks(uint32_t *v, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
	{
		uint32_t c = v[i];

		if (c >= 0x300 && c <= 0x36F)
			continue;
		if (c >= 0xC0 && c < 0x250 && crm_base_a[c - 0xC0] != 0)
			c = crm_base_a[c - 0xC0];
		else if (c >= 0x1E00 && c < 0x1F00 && crm_base_b[c - 0x1E00] != 0)
			c = crm_base_b[c - 0x1E00];
		v[k++] = c;
	}
	return k;
}

/* A 64-bit hash of a text, the same on every machine. */
uint64_t
crm_text_hash(const uint32_t *v, size_t n, uint64_t seed)
{
	uint64_t h = seed * UINT64_C(0x9E3779B97F4A7C15) + n;

	for (size_t i = 0; i < n; i++)
	{
		h ^= v[i];
		h *= UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 29;
	}
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ (h >> 32);
}
