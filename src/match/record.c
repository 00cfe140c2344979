/*
 * Rows to values: each field keeps its distinct values once, in normal form, with how
 * often they occur, what their meaning knows of them, and their blocking hashes.
 *
 * What the details hold, by meaning:
 *   company   key: core, brand, sound of the core, city, branch, trade; num: province, ordinal; flag: Chinese
 *   address   key: city, district, road; num: province, number, building, unit, room (hashes of 16 bits, 0 missing); flag: Chinese
 *   person    key: key by sound; flag: Chinese
 *   phone     key: up to six numbers, as decimal digits with a leading one
 *   date      num: year, month, day
 *   email     num: length of the local part; flag: open domain
 *
 * Memory: everything belongs to the matcher and is freed by crm_matcher_free(). No locks.
 */
#ifdef CRM_STANDALONE
#include <stdlib.h>
#else
#include "postgres.h"
#endif
#include <math.h>
#include <string.h>

#include "match/match.h"
#include "text/lexicon.h"
#include "text/text.h"
#include "text/unitab.h"

static const char *const meaning_names[] = {"none",        "company",  "person_name", "given_name", "family_name",
											"phone",       "email",    "address",     "street",     "city",
											"region",      "postcode", "date",        "id4",        "uscc",
											"national_id", "website",  "category",    "text",       "id"};

/* The meaning of a name, CRM_M_NONE if there is none so called. */
CrmMeaning
crm_meaning_by_name(const char *name)
{
	for (int i = 1; i < (int) (sizeof(meaning_names) / sizeof(meaning_names[0])); i++)
		if (strcmp(meaning_names[i], name) == 0)
			return (CrmMeaning) i;
	return CRM_M_NONE;
}

/* Its name. */
const char *
crm_meaning_name(CrmMeaning m)
{
	return meaning_names[m];
}

/* Memory of any size, cleared. */
void *
crm_huge_alloc(size_t size)
{
	void *p = crm_text_alloc(size > 0 ? size : 1);

	memset(p, 0, size);
	return p;
}

/* The same with more room; what is new is cleared. */
void *
crm_huge_grow(void *p, size_t old, size_t size)
{
#ifdef CRM_STANDALONE
	void *q = realloc(p, size);

	if (q == NULL)
		abort();
#else
	void *q = p == NULL ? MemoryContextAllocHuge(CurrentMemoryContext, size) : repalloc_huge(p, size);
#endif
	memset((char *) q + old, 0, size - old);
	return q;
}

/* Frees it. */
void
crm_huge_free(void *p)
{
	if (p != NULL)
		crm_text_release(p);
}

#define GROW(array, n, cap, need)                                                                                      \
	do                                                                                                                 \
	{                                                                                                                  \
		if ((size_t) (n) + (need) > (size_t) (cap))                                                                    \
		{                                                                                                              \
			size_t cap_ = (size_t) (cap);                                                                              \
			size_t new_ = cap_ < 64 ? 256 : cap_ * 2;                                                                  \
			while (new_ < (size_t) (n) + (need))                                                                       \
				new_ *= 2;                                                                                             \
			(array) = crm_huge_grow((array), cap_ * sizeof(*(array)), new_ * sizeof(*(array)));                        \
			(cap) = new_;                                                                                              \
		}                                                                                                              \
	} while (0)

typedef struct Draft
{
	CrmText text;  /* normal form */
	uint64_t hash; /* 0: from the text */
	CrmDetail d;
	bool has_detail;
	bool tokens;
	uint32_t atom[CRM_ATOMS];
} Draft;

/* Buffers reused from value to value. */
struct CrmScratch
{
	CrmText folded;
	CrmCompany company;
	CrmAddress address;
	Draft draft;
};

/* Room for one more value, its blocking hashes included. */
static void
more_values(CrmField *fd)
{
	uint32_t cap = fd->values_cap;

	GROW(fd->value, fd->values, fd->values_cap, 1);
	if (fd->values_cap > cap)
		fd->atom =
			crm_huge_grow(fd->atom, (size_t) cap * sizeof(*fd->atom), (size_t) fd->values_cap * sizeof(*fd->atom));
}

/* Begins with no rows; names are kept by reference. */
void
crm_matcher_init(CrmMatcher *m, const CrmMeaning *meanings, const char *const *names, int fields)
{
	memset(m, 0, sizeof(*m));
	m->fields = fields;
	m->scratch = crm_huge_alloc(sizeof(struct CrmScratch));
	for (int f = 0; f < fields; f++)
	{
		CrmField *fd = &m->field[f];

		fd->meaning = meanings[f];
		fd->name = names[f];
		fd->partner = -1;
		fd->slots = 1024;
		fd->slot = crm_huge_alloc((size_t) fd->slots * sizeof(uint32_t));
		fd->wslots = 1024;
		fd->wslot = crm_huge_alloc(fd->wslots * sizeof(uint32_t));
		/* Index 0 means missing everywhere. */
		more_values(fd);
		fd->values = 1;
		GROW(fd->detail, 0, fd->details_cap, 1);
		fd->details = 1;
		GROW(fd->word, 0, fd->words_cap, 1);
		fd->words = 1;
	}
	/* Fields whose values people swap: given with family name, and two fields of one meaning. */
	for (int f = 0; f < fields; f++)
		for (int g = 0; g < fields && m->field[f].partner < 0; g++)
			if (f != g && ((meanings[f] == CRM_M_GIVEN && meanings[g] == CRM_M_FAMILY) ||
						   (meanings[f] == CRM_M_FAMILY && meanings[g] == CRM_M_GIVEN) ||
						   (meanings[f] == meanings[g] && meanings[f] != CRM_M_CATEGORY)))
				m->field[f].partner = g;
}

/* Frees all. */
void
crm_matcher_free(CrmMatcher *m)
{
	if (m->shared != NULL)
		crm_unshare(m);
	for (int f = 0; f < m->fields; f++)
	{
		CrmField *fd = &m->field[f];

		crm_huge_free(fd->value);
		crm_huge_free(fd->atom);
		crm_huge_free(fd->slot);
		crm_huge_free(fd->detail);
		crm_huge_free(fd->token);
		crm_huge_free(fd->word);
		crm_huge_free(fd->wslot);
		crm_huge_free(fd->pool);
	}
	if (m->scratch != NULL)
	{
		crm_text_free(&m->scratch->folded);
		crm_text_free(&m->scratch->draft.text);
		crm_company_free(&m->scratch->company);
		crm_address_free(&m->scratch->address);
		crm_huge_free(m->scratch);
	}
	crm_huge_free(m->val);
	crm_huge_free(m->edge);
	crm_huge_free(m->cluster);
	memset(m, 0, sizeof(*m));
}

/* A new row without values; returns its number. */
uint32_t
crm_matcher_add_row(CrmMatcher *m)
{
	if (m->rows >= m->rows_cap)
	{
		uint32_t cap = m->rows_cap == 0 ? 64 : m->rows_cap * 2;
		size_t width = m->fields * sizeof(uint32_t);

		m->val = crm_huge_grow(m->val, m->rows_cap * width, cap * width);
		m->rows_cap = cap;
	}
	return m->rows++;
}

/* A character as one unit; those beyond the basic plane share the surrogates' range. */
static inline uint16_t
unit(uint32_t c)
{
	return c < 0x10000 ? (uint16_t) c : (uint16_t) (0xD800 + (c & 0x7FF));
}

/* Appends units to a field's pool; returns where they begin. */
static uint32_t
store(CrmField *fd, const uint32_t *v, size_t n)
{
	size_t at = fd->pool_n;

	GROW(fd->pool, fd->pool_n, fd->pool_cap, n);
	for (size_t i = 0; i < n; i++)
		fd->pool[at + i] = unit(v[i]);
	fd->pool_n += n;
	return (uint32_t) at;
}

/* The groups that a given name belongs to. */
static void
nick_groups(const uint32_t *v, size_t n, uint16_t *out)
{
	int groups[4];
	int k = crm_nick_groups(v, n, groups, 4);

	for (int i = 0; i < k; i++)
		out[i] = (uint16_t) groups[i];
}

/* The word of a field's vocabulary, entered if new. */
static uint32_t
word_id(CrmField *fd, const uint32_t *v, size_t n)
{
	uint64_t h = crm_text_hash(v, n, 7);
	uint32_t i;
	CrmWord *w;

	if (fd->words * 2 > fd->wslots)
	{
		uint32_t slots = fd->wslots * 4;

		crm_huge_free(fd->wslot);
		fd->wslot = crm_huge_alloc((size_t) slots * sizeof(uint32_t));
		fd->wslots = slots;
		for (uint32_t k = 1; k < fd->words; k++)
		{
			i = (uint32_t) fd->word[k].hash & (slots - 1);
			while (fd->wslot[i] != 0)
				i = (i + 1) & (slots - 1);
			fd->wslot[i] = k;
		}
	}
	i = (uint32_t) h & (fd->wslots - 1);
	while (fd->wslot[i] != 0)
	{
		if (fd->word[fd->wslot[i]].hash == h)
			return fd->wslot[i];
		i = (i + 1) & (fd->wslots - 1);
	}
	GROW(fd->word, fd->words, fd->words_cap, 1);
	w = &fd->word[fd->words];
	w->hash = h;
	w->len = (uint16_t) (n > 64 ? 64 : n);
	w->text = store(fd, v, w->len);
	nick_groups(v, n, w->nick);
	fd->wslot[i] = fd->words;
	return fd->words++;
}

/* A sound-alike code of a Latin word: first letter, consonant classes, no vowels or doubles. */
static uint32_t
sound(const uint32_t *v, size_t n)
{
	static const char classes[] = "01230120022455012623010202"; /* a to z */
	uint32_t code = 0;
	char last = '0';
	int len = 0;

	if (n == 0)
		return 0;
	if (v[0] < 'a' || v[0] > 'z')
		return (uint32_t) (crm_text_hash(v, n, 3) >> 32) | 1;
	code = v[0];
	last = classes[v[0] - 'a'];
	for (size_t i = 1; i < n && len < 4; i++)
	{
		char c;

		if (v[i] < 'a' || v[i] > 'z')
			continue;
		c = classes[v[i] - 'a'];
		if (c != '0' && c != last)
		{
			code = code * 8 + (uint32_t) (c - '0');
			len++;
		}
		if (v[i] != 'h' && v[i] != 'w')
			last = c;
	}
	return (code * 2654435761u) | 1;
}

/* 64 bits to a blocking hash that is never 0. */
static inline uint32_t
atom(uint64_t h)
{
	h *= UINT64_C(0x9E3779B97F4A7C15);
	h >>= 32;
	return h == 0 ? 1 : (uint32_t) h;
}

/* Two hashes to one. */
static inline uint64_t
mix(uint64_t a, uint64_t b)
{
	a = (a ^ (b + UINT64_C(0x9E3779B97F4A7C15) + (a << 6) + (a >> 2))) * UINT64_C(0xff51afd7ed558ccd);
	return a ^ (a >> 33);
}

/* Splits into words of letters and digits; returns how many, at most max. */
static int
split(const uint32_t *v, size_t n, size_t *from, size_t *len, int max)
{
	int k = 0;
	size_t i = 0;

	while (i < n && k < max)
	{
		while (i < n && !crm_is_word(v[i]))
			i++;
		from[k] = i;
		while (i < n && (crm_is_word(v[i])))
			i++;
		len[k] = i - from[k];
		if (len[k] > 0)
			k++;
	}
	return k;
}

/* Copies into the draft's text. */
static void
put(Draft *dr, const uint32_t *v, size_t n)
{
	crm_text_reserve(&dr->text, n + 1);
	memcpy(dr->text.v, v, n * sizeof(uint32_t));
	dr->text.n = n;
}

/* Keeps letters and digits, one blank between words; marks go. */
static void
put_words(Draft *dr, const uint32_t *v, size_t n)
{
	size_t k = 0;

	crm_text_reserve(&dr->text, n + 1);
	for (size_t i = 0; i < n; i++)
	{
		if (v[i] == '\'')
			continue;
		if (crm_is_word(v[i]))
			dr->text.v[k++] = v[i];
		else if (k > 0 && dr->text.v[k - 1] != ' ')
			dr->text.v[k++] = ' ';
	}
	while (k > 0 && dr->text.v[k - 1] == ' ')
		k--;
	dr->text.n = crm_strip_marks(dr->text.v, k);
}

/* Pinyin of a text as one hash. */
static uint64_t
pinyin_hash(const uint32_t *v, size_t n, bool is_name)
{
	uint16_t py[32];
	size_t k = crm_pinyin(v, n, is_name, py, 32);
	uint64_t h = k;

	for (size_t i = 0; i < k; i++)
		h = mix(h, crm_syllable_class[py[i]]);
	return k == 0 ? 0 : h;
}

/* A part of an address as 16 bits, never 0 when there is one. */
static uint16_t
part16(CrmSpan s)
{
	return s.n == 0 ? 0 : (uint16_t) (crm_text_hash(s.v, s.n, 11) % 65535 + 1);
}

/* A company name. */
static bool
draft_company(struct CrmScratch *sc, Draft *dr, const uint32_t *v, size_t n)
{
	uint64_t core;

	crm_company_scan(v, n, &sc->company);
	if (sc->company.core.n == 0)
		return false;
	core = crm_text_hash(sc->company.core.v, sc->company.core.n, 1);
	dr->has_detail = true;
	dr->d.flag = sc->company.is_han;
	dr->d.key[0] = core;
	dr->hash = core;
	crm_text_reserve(&dr->text, sc->company.core.n + sc->company.branch.n + 1);
	memcpy(dr->text.v, sc->company.core.v, sc->company.core.n * sizeof(uint32_t));
	dr->text.n = sc->company.core.n;
	if (sc->company.is_han)
	{
		dr->d.key[1] = crm_text_hash(sc->company.brand.v, sc->company.brand.n, 1);
		dr->d.key[2] = pinyin_hash(sc->company.core.v, sc->company.core.n, false);
		dr->d.num[0] = (uint16_t) sc->company.province;
		dr->d.num[1] = (uint16_t) sc->company.ordinal;
		dr->d.num[2] = (uint16_t) sc->company.form_class;
		if (sc->company.region.n > 0)
		{
			crm_address_scan(sc->company.region.v, sc->company.region.n, &sc->address);
			if (sc->address.city.n > 0)
				dr->d.key[3] = crm_text_hash(sc->address.city.v, sc->address.city.n, 1);
			if (dr->d.num[0] == 0)
				dr->d.num[0] = (uint16_t) sc->address.province;
		}
		if (sc->company.branch.n > 0)
			dr->d.key[4] = crm_text_hash(sc->company.branch.v, sc->company.branch.n, 1);
		if (sc->company.trade.n > 0)
			dr->d.key[5] = crm_text_hash(sc->company.trade.v, sc->company.trade.n, 1);
		dr->d.from[0] = 0;
		dr->d.len[0] = (uint16_t) (sc->company.brand.n > 1000 ? 1000 : sc->company.brand.n);
		dr->d.from[1] = dr->d.len[0];
		dr->d.len[1] = (uint16_t) (sc->company.trade.n > 1000 ? 1000 : sc->company.trade.n);
		for (int k = 3; k < 5; k++)
			dr->hash = mix(dr->hash, dr->d.key[k]);
		dr->hash = mix(dr->hash, dr->d.num[0]);
		dr->hash = mix(dr->hash, dr->d.num[2]);
		dr->atom[0] = atom(core);
		dr->atom[1] = atom(dr->d.key[1]);
		dr->atom[2] = atom(dr->d.key[2]);
		/* The brand as it sounds: a homophone in it, and the trade missing. */
		dr->atom[3] = atom(pinyin_hash(sc->company.brand.v, sc->company.brand.n, false));
		if (sc->company.core.n >= 4)
			dr->atom[4] = atom(crm_text_hash(sc->company.core.v + sc->company.core.n - 4, 4, 5));
	}
	else
	{
		dr->tokens = true;
		dr->atom[0] = atom(core);
	}
	return true;
}

/* An address. */
static bool
draft_address(struct CrmScratch *sc, Draft *dr, const uint32_t *v, size_t n)
{
	uint64_t road;

	crm_address_scan(v, n, &sc->address);
	dr->has_detail = true;
	dr->d.flag = sc->address.is_han;
	if (!sc->address.is_han)
	{
		dr->d.num[1] = part16(sc->address.number);
		dr->d.num[4] = part16(sc->address.room);
		put(dr, sc->address.rest.v, sc->address.rest.n);
		dr->tokens = true;
		return dr->text.n > 0;
	}
	if (sc->address.road.n == 0 && sc->address.city.n == 0 && sc->address.number.n == 0 && sc->address.district.n == 0)
	{
		return false;
	}
	road = sc->address.road.n > 0 ? crm_text_hash(sc->address.road.v, sc->address.road.n, 1) : 0;
	dr->d.key[0] = sc->address.city.n > 0 ? crm_text_hash(sc->address.city.v, sc->address.city.n, 1) : 0;
	dr->d.key[1] = sc->address.district.n > 0 ? crm_text_hash(sc->address.district.v, sc->address.district.n, 1) : 0;
	dr->d.key[2] = road;
	dr->d.num[0] = (uint16_t) sc->address.province;
	dr->d.num[1] = part16(sc->address.number);
	dr->d.num[2] = part16(sc->address.building);
	dr->d.num[3] = part16(sc->address.unit);
	dr->d.num[4] = part16(sc->address.room);
	dr->hash = dr->d.key[0];
	for (int k = 1; k < 3; k++)
		dr->hash = mix(dr->hash, dr->d.key[k]);
	for (int k = 1; k < 5; k++)
		dr->hash = mix(dr->hash, dr->d.num[k]);
	put(dr, sc->address.road.v, sc->address.road.n);
	if (road != 0 && sc->address.number.n > 0)
	{
		dr->atom[0] = atom(mix(road, dr->d.num[1]));
		if (sc->address.city.n > 0)
			dr->atom[1] = atom(mix(mix(road, dr->d.num[1]), dr->d.key[0]));
	}
	if (road != 0 && sc->address.city.n > 0)
		dr->atom[2] = atom(mix(road, dr->d.key[0]));
	return true;
}

/* A whole name. */
static bool
draft_person(Draft *dr, const uint32_t *v, size_t n)
{
	uint32_t key[128];
	size_t k;
	size_t from[24];
	size_t len[24];
	int words;
	bool han = false;

	for (size_t i = 0; i < n; i++)
		han |= crm_is_han(v[i]);
	put_words(dr, v, n);
	if (dr->text.n == 0)
		return false;
	k = crm_person_key(v, n, key, 128);
	dr->has_detail = true;
	dr->d.flag = han;
	dr->d.key[0] = k > 0 ? crm_text_hash(key, k, 1) : 0;
	dr->d.key[1] = han ? pinyin_hash(dr->text.v, dr->text.n, true) : 0;
	dr->tokens = !han;
	if (k > 0)
		dr->atom[0] = atom(dr->d.key[0]);
	if (!han)
	{
		words = split(dr->text.v, dr->text.n, from, len, 24);
		if (words > 0)
		{
			dr->atom[1] = atom(crm_text_hash(dr->text.v + from[words - 1], len[words - 1], 1));
			dr->atom[2] = atom(crm_text_hash(dr->text.v + from[0], len[0], 1));
		}
	}
	else
		dr->atom[1] = atom(dr->d.key[1]);
	return true;
}

/* A given or family name. */
static bool
draft_name(Draft *dr, const uint32_t *v, size_t n, bool given)
{
	int group;

	put_words(dr, v, n);
	if (dr->text.n == 0)
		return false;
	dr->atom[0] = atom(crm_text_hash(dr->text.v, dr->text.n, 1));
	if (crm_is_han(dr->text.v[0]))
		dr->atom[1] = atom(pinyin_hash(dr->text.v, dr->text.n, !given));
	else if (given && crm_nick_groups(dr->text.v, dr->text.n, &group, 1) > 0)
		dr->atom[1] = atom((uint64_t) group + 1000003);
	else
		dr->atom[1] = sound(dr->text.v, dr->text.n);
	/* The first three letters: a typing error is likelier behind them. */
	dr->atom[2] = atom(crm_text_hash(dr->text.v, dr->text.n < 3 ? dr->text.n : 3, 13));
	return true;
}

/* A telephone field. */
static bool
draft_phone(Draft *dr, const uint32_t *v, size_t n)
{
	CrmPhone p[CRM_PHONES_MAX];
	int k = crm_phone_scan(v, n, "CN", p, 6);
	int used = 0;

	dr->has_detail = true;
	for (int i = 0; i < k; i++)
	{
		const char *s = p[i].national;
		size_t l = strlen(s);
		uint64_t x = 1;
		uint64_t tail = 0;

		/* A placeholder is no number; what the Chinese plan does not know may be a number elsewhere. */
		if (!p[i].valid && p[i].kind != CRM_PHONE_UNKNOWN)
			continue;
		if (l < 5)
			continue;
		for (size_t j = 0; j < l && j < 15; j++)
		{
			x = x * 10 + (uint64_t) (s[j] - '0');
			if (j + 8 >= l)
				tail = tail * 10 + (uint64_t) (s[j] - '0');
		}
		/* The last seven digits are there with and without an area code. */
		tail %= 10000000;
		dr->d.key[used] = x;
		if (used < CRM_ATOMS)
			dr->atom[used] = atom(tail + 1);
		used++;
	}
	if (used == 0)
		return false;
	dr->hash = 17;
	for (int i = 0; i < used; i++)
		dr->hash = mix(dr->hash, dr->d.key[i]);
	dr->d.flag = (uint8_t) used;
	crm_text_reserve(&dr->text, 24);
	dr->text.n = 0;
	for (const char *s = p[0].national; *s != '\0'; s++)
		dr->text.v[dr->text.n++] = (unsigned char) *s;
	return true;
}

/* A mail address; a broken one is compared as text. */
static bool
draft_email(Draft *dr, const uint32_t *v, size_t n)
{
	size_t at = 0;
	size_t k;

	if (n < 3 || n > 320)
		return false;
	crm_text_reserve(&dr->text, n + 16);
	k = crm_email_scan(v, n, dr->text.v, &at);
	dr->has_detail = true;
	if (k == 0)
	{
		put(dr, v, n);
		at = 0;
		while (at < n && v[at] != '@')
			at++;
	}
	else
		dr->text.n = k;
	dr->d.num[0] = (uint16_t) at;
	dr->d.flag = k > 0 && crm_email_is_free(dr->text.v, dr->text.n, at);
	dr->d.key[0] = crm_text_hash(dr->text.v, at, 1);
	if (at + 1 < dr->text.n)
		dr->d.key[1] = crm_text_hash(dr->text.v + at + 1, dr->text.n - at - 1, 1);
	dr->atom[0] = atom(crm_text_hash(dr->text.v, dr->text.n, 1));
	if (at >= 3)
		dr->atom[1] = atom(dr->d.key[0]);
	if (!dr->d.flag && dr->d.key[1] != 0)
		dr->atom[2] = atom(dr->d.key[1]);
	return true;
}

/* A date: digits are kept even where they are no day of the calendar. */
static bool
draft_date(Draft *dr, const uint32_t *v, size_t n)
{
	int part[3] = {0, 0, 0};
	int digits[3] = {0, 0, 0};
	int k = 0;
	int y;
	int mo;
	int d;

	for (size_t i = 0; i < n && k < 3; i++)
	{
		if (v[i] >= '0' && v[i] <= '9')
		{
			if (digits[k] < 8)
				part[k] = part[k] * 10 + (int) (v[i] - '0');
			digits[k]++;
		}
		else if (digits[k] > 0)
		{
			/* A time behind a date is not read. */
			if (v[i] == ' ' || v[i] == 't' || v[i] == 'T')
			{
				if (k == 2 || digits[0] == 8)
					break;
			}
			k++;
		}
	}
	if (digits[0] == 8)
	{
		y = part[0] / 10000;
		mo = part[0] / 100 % 100;
		d = part[0] % 100;
	}
	else if (digits[2] == 4 && digits[0] <= 2)
	{
		/* Day or month first: the order that fits. */
		y = part[2];
		mo = part[0] <= 12 ? part[0] : part[1];
		d = part[0] <= 12 ? part[1] : part[0];
	}
	else if (digits[0] > 0)
	{
		y = part[0];
		mo = part[1];
		d = part[2];
	}
	else
		return false;
	if (y > 9999 || mo > 99 || d > 99)
		return false;
	dr->has_detail = true;
	dr->d.num[0] = (uint16_t) y;
	dr->d.num[1] = (uint16_t) mo;
	dr->d.num[2] = (uint16_t) d;
	crm_text_reserve(&dr->text, 8);
	dr->text.n = 8;
	for (int i = 3, x = y; i >= 0; i--, x /= 10)
		dr->text.v[i] = (uint32_t) ('0' + x % 10);
	dr->text.v[4] = (uint32_t) ('0' + mo / 10);
	dr->text.v[5] = (uint32_t) ('0' + mo % 10);
	dr->text.v[6] = (uint32_t) ('0' + d / 10);
	dr->text.v[7] = (uint32_t) ('0' + d % 10);
	dr->atom[0] = atom((uint64_t) (y * 10000 + mo * 100 + d) + 1);
	dr->atom[1] = atom((uint64_t) (y * 100 + mo) + (UINT64_C(1) << 40));
	dr->atom[2] = atom((uint64_t) (mo * 100 + d) + (UINT64_C(1) << 41));
	dr->atom[3] = atom((uint64_t) (y * 100 + d) + (UINT64_C(1) << 42));
	return true;
}

/* Everything else: words, or an identifier without blanks. */
static bool
draft_other(Draft *dr, const uint32_t *v, size_t n, CrmMeaning meaning)
{
	bool code = meaning == CRM_M_USCC || meaning == CRM_M_NATIONAL_ID || meaning == CRM_M_ID4 || meaning == CRM_M_ID ||
				meaning == CRM_M_POSTCODE || meaning == CRM_M_WEBSITE;
	size_t from[24];
	size_t len[24];

	if (meaning == CRM_M_WEBSITE)
	{
		static const char *const heads[] = {"https://", "http://", "www."};

		for (int h = 0; h < 3; h++)
		{
			size_t l = strlen(heads[h]);
			size_t i = 0;

			while (i < l && i < n && v[i] == (unsigned char) heads[h][i])
				i++;
			if (i == l)
			{
				v += l;
				n -= l;
			}
		}
	}
	put_words(dr, v, n);
	if (code)
	{
		size_t k = 0;

		for (size_t i = 0; i < dr->text.n; i++)
			if (dr->text.v[i] != ' ')
				dr->text.v[k++] = dr->text.v[i];
		dr->text.n = k;
	}
	if (dr->text.n == 0)
		return false;
	dr->atom[0] = atom(crm_text_hash(dr->text.v, dr->text.n, 1));
	if (meaning == CRM_M_POSTCODE && dr->text.n >= 4)
		dr->atom[1] = atom(crm_text_hash(dr->text.v, dr->text.n > 5 ? dr->text.n - 3 : dr->text.n - 2, 3));
	else if (!code && dr->text.n > 0)
	{
		int k = split(dr->text.v, dr->text.n, from, len, 24);
		int longest = 0;

		for (int i = 1; i < k; i++)
			if (len[i] > len[longest])
				longest = i;
		if (k > 0)
			dr->atom[1] = atom(sound(dr->text.v + from[longest], len[longest]));
		dr->tokens = (meaning == CRM_M_STREET || meaning == CRM_M_TEXT) && k > 1;
	}
	return true;
}

/* Gives a row its value of a field; empty and unreadable values are missing. */
void
crm_matcher_set(CrmMatcher *m, uint32_t row, int field, const char *s, size_t n)
{
	struct CrmScratch *sc = m->scratch;
	CrmField *fd = &m->field[field];
	Draft *dr = &sc->draft;
	CrmText keep;
	bool ok;
	uint64_t h;
	uint32_t i;
	CrmValue *val;

	/* A value of megabytes is no name; its beginning says all that can be compared. */
	if (n > 2000)
		n = 2000;
	crm_fold(s, n, &sc->folded);
	if (sc->folded.n == 0)
		return;
	keep = dr->text;
	memset(dr, 0, sizeof(*dr));
	dr->text = keep;
	dr->text.n = 0;
	switch (fd->meaning)
	{
		case CRM_M_COMPANY: ok = draft_company(sc, dr, sc->folded.v, sc->folded.n); break;
		case CRM_M_ADDRESS: ok = draft_address(sc, dr, sc->folded.v, sc->folded.n); break;
		case CRM_M_PERSON: ok = draft_person(dr, sc->folded.v, sc->folded.n); break;
		case CRM_M_GIVEN:
		case CRM_M_FAMILY: ok = draft_name(dr, sc->folded.v, sc->folded.n, fd->meaning == CRM_M_GIVEN); break;
		case CRM_M_PHONE: ok = draft_phone(dr, sc->folded.v, sc->folded.n); break;
		case CRM_M_EMAIL: ok = draft_email(dr, sc->folded.v, sc->folded.n); break;
		case CRM_M_DATE: ok = draft_date(dr, sc->folded.v, sc->folded.n); break;
		default: ok = draft_other(dr, sc->folded.v, sc->folded.n, fd->meaning); break;
	}
	if (!ok)
		return;
	h = dr->hash != 0 ? dr->hash : crm_text_hash(dr->text.v, dr->text.n, 1);
	if (fd->values * 2 > fd->slots)
	{
		uint32_t slots = fd->slots * 4;

		crm_huge_free(fd->slot);
		fd->slot = crm_huge_alloc((size_t) slots * sizeof(uint32_t));
		fd->slots = slots;
		for (uint32_t k = 1; k < fd->values; k++)
		{
			i = (uint32_t) fd->value[k].hash & (slots - 1);
			while (fd->slot[i] != 0)
				i = (i + 1) & (slots - 1);
			fd->slot[i] = k;
		}
	}
	i = (uint32_t) h & (fd->slots - 1);
	while (fd->slot[i] != 0 && fd->value[fd->slot[i]].hash != h)
		i = (i + 1) & (fd->slots - 1);
	if (fd->slot[i] == 0)
	{
		more_values(fd);
		val = &fd->value[fd->values];
		val->hash = h;
		val->len = (uint16_t) (dr->text.n > 1000 ? 1000 : dr->text.n);
		val->text = store(fd, dr->text.v, val->len);
		for (uint32_t k = 0; k < val->len; k++)
			val->letters |= UINT64_C(1) << (fd->pool[val->text + k] * 2654435761u >> 26);
		memcpy(fd->atom[fd->values], dr->atom, sizeof(dr->atom));
		if (fd->meaning == CRM_M_GIVEN)
			nick_groups(dr->text.v, val->len, val->nick);
		if (dr->has_detail)
		{
			GROW(fd->detail, fd->details, fd->details_cap, 1);
			fd->detail[fd->details] = dr->d;
			val->detail = fd->details++;
		}
		if (dr->tokens)
		{
			size_t from[32];
			size_t len[32];
			int k = split(dr->text.v, val->len, from, len, 32);

			val->token = fd->tokens;
			val->tokens = 0;
			for (int t = 0; t < k; t++)
			{
				uint32_t w;

				if (crm_lex_find(CRM_LEX_STOP, dr->text.v + from[t], len[t]) != 0)
					continue;
				w = word_id(fd, dr->text.v + from[t], len[t]);
				GROW(fd->token, fd->tokens, fd->tokens_cap, 1);
				fd->token[fd->tokens++] = w;
				val->tokens++;
			}
		}
		fd->slot[i] = fd->values++;
	}
	val = &fd->value[fd->slot[i]];
	val->freq++;
	fd->present++;
	m->val[(size_t) row * m->fields + field] = fd->slot[i];
}

/* After the last row: word frequencies, and the blocking hashes that need them. */
void
crm_matcher_finish(CrmMatcher *m)
{
	for (int f = 0; f < m->fields; f++)
	{
		CrmField *fd = &m->field[f];

		if (fd->meaning == CRM_M_USCC || fd->meaning == CRM_M_NATIONAL_ID)
		{
			size_t valid = 0;

			/* An identifier whose checksum mostly fails was not typed from a certificate: it is evidence, no proof. */
			for (uint32_t v = 1; v < fd->values; v++)
			{
				uint32_t wide[20];
				size_t n = fd->value[v].len;

				for (size_t i = 0; i < n && i < 20; i++)
					wide[i] = fd->pool[fd->value[v].text + i];
				valid += n == 18 && (crm_uscc_check(wide, n) || crm_resident_check(wide, n));
			}
			fd->checked = fd->values > 1 && valid * 10 >= (size_t) (fd->values - 1) * 8;
		}
		for (uint32_t v = 1; v < fd->values; v++)
			for (int t = 0; t < fd->value[v].tokens; t++)
			{
				bool again = false;

				for (int s = 0; s < t; s++)
					again |= fd->token[fd->value[v].token + s] == fd->token[fd->value[v].token + t];
				if (!again)
					fd->word[fd->token[fd->value[v].token + t]].df += fd->value[v].freq;
			}
		for (uint32_t w = 1; w < fd->words; w++)
			fd->word[w].idf = (float) log(1.0 + (double) fd->present / (fd->word[w].df > 0 ? fd->word[w].df : 1));
		for (uint32_t v = 1; v < fd->values; v++)
		{
			CrmValue *val = &fd->value[v];
			uint32_t *atoms = fd->atom[v];
			uint32_t best[3] = {0, 0, 0};

			if (val->tokens == 0)
				continue;
			/* The three rarest words, the rarest first; a tie goes to the smaller hash, not to the order of arrival. */
			for (int t = 0; t < val->tokens; t++)
			{
				uint32_t w = fd->token[val->token + t];

				if (w == best[0] || w == best[1] || w == best[2])
					continue;
				for (int k = 0; k < 3; k++)
					if (best[k] == 0 || fd->word[w].df < fd->word[best[k]].df ||
						(fd->word[w].df == fd->word[best[k]].df && fd->word[w].hash < fd->word[best[k]].hash))
					{
						for (int j = 2; j > k; j--)
							best[j] = best[j - 1];
						best[k] = w;
						break;
					}
			}
			if (fd->meaning == CRM_M_COMPANY)
			{
				atoms[1] = atom(fd->word[best[0]].hash);
				if (best[1] != 0)
				{
					atoms[2] = atom(fd->word[best[1]].hash);
					atoms[3] = atom(fd->word[best[0]].hash ^ fd->word[best[1]].hash);
				}
				atoms[4] = atom(fd->word[fd->token[val->token]].hash);
			}
			else if (fd->meaning == CRM_M_ADDRESS)
			{
				const CrmDetail *d = &fd->detail[val->detail];

				atoms[0] = atom(val->hash);
				/* House number and the rarest other word. */
				for (int k = 0; k < 3; k++)
					if (best[k] != 0 &&
						!(fd->pool[fd->word[best[k]].text] >= '0' && fd->pool[fd->word[best[k]].text] <= '9'))
					{
						if (d->num[1] != 0)
							atoms[1] = atom(mix(fd->word[best[k]].hash, d->num[1]));
						atoms[2] = atom(fd->word[best[k]].hash);
						break;
					}
				if (best[1] != 0)
					atoms[3] = atom(fd->word[best[0]].hash ^ fd->word[best[1]].hash);
			}
			else if (fd->meaning == CRM_M_PERSON && best[1] != 0)
				atoms[3] = atom(fd->word[best[0]].hash ^ fd->word[best[1]].hash);
		}
	}
}
