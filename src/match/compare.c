/*
 * Two values of a field to a level, two rows to a vector of levels.
 *
 * A level is a name for a kind of agreement, not a degree: what it is worth is learned.
 * The meanings of the levels stand beside each comparator.
 *
 * Pure C, no memory, no locks.
 */
#include <string.h>

#include "match/match.h"
#include "match/sim.h"
#include "text/text.h"

/* The units of a value. */
static inline const uint16_t *
units(const CrmField *fd, const CrmValue *v)
{
	return fd->pool + v->text;
}

/*
 * Edits between two texts, or more than most where that is clear without counting: an
 * edit changes the set of characters by two at most.
 */
static inline int
edits(const CrmField *fd, const CrmValue *a, const CrmValue *b, int most)
{
	if (a->len > b->len + most || b->len > a->len + most ||
		(most < 3 && a->len <= CRM_SIM_MAX && __builtin_popcountll(a->letters ^ b->letters) > 2 * most))
		return most + 1;
	return crm_osa_distance(units(fd, a), a->len, units(fd, b), b->len);
}

/* True if two names, or words of a name, are sister forms: they share a group of given names. */
static bool
share_group(const uint16_t a[4], const uint16_t b[4])
{
	for (int i = 0; i < 4 && a[i] != 0; i++)
		for (int j = 0; j < 4 && b[j] != 0; j++)
			if (a[i] == b[j])
				return true;
	return false;
}

/*
 * Short texts. 1 else, 2 initial, 3 similar, 4 more, 5 very, 6 one edit, 7 sister
 * forms (given names), 8 equal.
 */
static int
compare_short(const CrmField *fd, const CrmValue *a, const CrmValue *b, bool given)
{
	const uint16_t *x = units(fd, a);
	const uint16_t *y = units(fd, b);
	size_t n = a->len;
	size_t m = b->len;
	double jw;

	if (n == 0 || m == 0)
		return CRM_L_ELSE;
	if (n == 1 || m == 1)
		return x[0] == y[0] ? 2 : CRM_L_ELSE;
	if (n > 2 && m > 2 && edits(fd, a, b, 1) <= 1)
		return 6;
	if (given && share_group(a->nick, b->nick))
		return 7;
	/* The characters that occur on one side only bound Jaro's similarity; a common beginning adds a tenth of the rest for each of its letters. */
	if (n <= CRM_SIM_MAX && m <= CRM_SIM_MAX)
	{
		/* What the shares of common characters must add up to for 0.75, by the length of the beginning. */
		static const double least[] = {1.249, 1.165, 1.061, 0.927, 0.749};
		size_t common = n - __builtin_popcountll(a->letters & ~b->letters);
		size_t other = m - __builtin_popcountll(b->letters & ~a->letters);
		int begin = 0;

		while (begin < 4 && begin < (int) n && begin < (int) m && x[begin] == y[begin])
			begin++;
		if (other < common)
			common = other;
		if ((double) common / (double) n + (double) common / (double) m < least[begin])
			return CRM_L_ELSE;
	}
	jw = crm_jaro_winkler(x, n, y, m);
	if (jw >= 0.92)
		return 5;
	if (jw >= 0.85)
		return 4;
	if (jw >= 0.75)
		return 3;
	return CRM_L_ELSE;
}

/* Identifiers. 1 else, 5 two edits, 6 one edit, 8 equal. */
static int
compare_code(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	int d = edits(fd, a, b, 2);

	if (d == 1)
		return 6;
	if (d == 2 && a->len >= 6)
		return 5;
	return CRM_L_ELSE;
}

/* Dates. 1 else, 2 within some 400 days, 3 same month and day, 4 same year and day, 5 same year and month or swapped, 6 one digit, 8 equal. */
static int
compare_date(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	const CrmDetail *p = &fd->detail[a->detail];
	const CrmDetail *q = &fd->detail[b->detail];
	int days;

	if (edits(fd, a, b, 1) <= 1)
		return 6;
	if (p->num[0] == q->num[0])
	{
		if (p->num[1] == q->num[1] || (p->num[1] == q->num[2] && p->num[2] == q->num[1]))
			return 5;
		if (p->num[2] == q->num[2])
			return 4;
	}
	if (p->num[1] == q->num[1] && p->num[2] == q->num[2])
		return 3;
	days = (p->num[0] - q->num[0]) * 365 + (p->num[1] - q->num[1]) * 30 + p->num[2] - q->num[2];
	return days < 400 && days > -400 ? 2 : CRM_L_ELSE;
}

/* Telephones. 1 else, 4 two edits, 6 one edit, 7 equal without area code, 8 equal. */
static int
compare_phone(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	const CrmDetail *p = &fd->detail[a->detail];
	const CrmDetail *q = &fd->detail[b->detail];
	int best = CRM_L_ELSE;

	for (int i = 0; i < p->flag; i++)
		for (int j = 0; j < q->flag; j++)
		{
			uint64_t x = p->key[i];
			uint64_t y = q->key[j];
			uint64_t small = x < y ? x : y;
			uint64_t ten = 1;

			if (x == y)
				return CRM_L_EXACT;
			if (x % 10000000 != y % 10000000)
				continue;
			while (ten * 10 <= small)
				ten *= 10;
			/* The shorter number is the end of the longer one: seven digits at least. */
			if (ten >= 10000000 && x % ten == y % ten)
				best = 7;
		}
	if (best == CRM_L_ELSE)
	{
		int d = edits(fd, a, b, 2);

		if (d == 1)
			return 6;
		if (d == 2 && a->len >= 8)
			return 4;
	}
	return best;
}

/* True if the first difference of two texts is a digit: names that are numbered, not mistyped. */
static bool
by_number(const uint16_t *x, size_t n, const uint16_t *y, size_t m)
{
	size_t i = 0;

	while (i < n && i < m && x[i] == y[i])
		i++;
	return (i < n && x[i] >= '0' && x[i] <= '9') || (i < m && y[i] >= '0' && y[i] <= '9');
}

/* Web sites. 1 else, 5 very similar, 6 one edit, 8 equal. */
static int
compare_website(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	const uint16_t *x = units(fd, a);
	const uint16_t *y = units(fd, b);

	if (by_number(x, a->len, y, b->len))
		return CRM_L_ELSE;
	if (crm_osa_distance(x, a->len, y, b->len) <= 1)
		return 6;
	return crm_jaro_winkler(x, a->len, y, b->len) >= 0.95 ? 5 : CRM_L_ELSE;
}

/* Mail addresses. 1 else, 2 same closed domain, 3 similar, 4 same domain and similar local part, 5 very similar, 6 one edit, 7 same local part, 8 equal. */
static int
compare_email(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	const CrmDetail *p = &fd->detail[a->detail];
	const CrmDetail *q = &fd->detail[b->detail];
	const uint16_t *x = units(fd, a);
	const uint16_t *y = units(fd, b);
	double local;

	if (edits(fd, a, b, 1) <= 1)
		return by_number(x, a->len, y, b->len) ? 3 : 6;
	if (p->key[0] == q->key[0] && p->num[0] >= 3)
		return 7;
	local = crm_jaro_winkler(x, p->num[0], y, q->num[0]);
	if (local >= 0.85 && crm_jaro_winkler(x, a->len, y, b->len) >= 0.92)
		return 5;
	if (p->key[1] == q->key[1] && p->key[1] != 0)
		return local >= 0.85 ? 4 : p->flag ? CRM_L_ELSE : 2;
	return local >= 0.9 ? 3 : CRM_L_ELSE;
}

/* Whether two words are the same but for a small error: their weight, 0 to 1. */
static double
word_likeness(const CrmField *fd, uint32_t a, uint32_t b)
{
	const CrmWord *p = &fd->word[a];
	const CrmWord *q = &fd->word[b];
	const uint16_t *x = fd->pool + p->text;
	const uint16_t *y = fd->pool + q->text;

	if (a == b)
		return 1;
	if (p->len == 1 || q->len == 1)
		return x[0] == y[0] && fd->meaning == CRM_M_PERSON ? 0.5 : 0;
	/* Numbers are equal or not. */
	if ((x[0] >= '0' && x[0] <= '9') || (y[0] >= '0' && y[0] <= '9'))
		return 0;
	if (fd->meaning == CRM_M_PERSON && share_group(p->nick, q->nick))
		return 0.9;
	if (p->len < 4 || q->len < 4)
		return 0;
	if (p->len <= q->len + 1 && q->len <= p->len + 1 && crm_osa_distance(x, p->len, y, q->len) <= 1)
		return 0.9;
	if (p->len >= 6 && q->len >= 6 && crm_jaro_winkler(x, p->len, y, q->len) >= 0.93)
		return 0.8;
	return 0;
}

/*
 * Sets of words: *both is the share of the weight of all words that is common, *inner
 * the same for the smaller set; *common is that weight itself.
 */
static void
compare_words(const CrmField *fd, const CrmValue *a, const CrmValue *b, double *both, double *inner, double *common)
{
	const uint32_t *x = fd->token + a->token;
	const uint32_t *y = fd->token + b->token;
	int n = a->tokens > 24 ? 24 : a->tokens;
	int m = b->tokens > 24 ? 24 : b->tokens;
	uint32_t used = 0;
	double sum = 0;
	double wa = 0;
	double wb = 0;

	for (int i = 0; i < n; i++)
		wa += fd->word[x[i]].idf;
	for (int j = 0; j < m; j++)
		wb += fd->word[y[j]].idf;
	for (int i = 0; i < n; i++)
	{
		int at = -1;
		double best = 0;

		for (int j = 0; j < m; j++)
			if (x[i] == y[j] && !(used & (1u << j)))
			{
				at = j;
				best = 1;
				break;
			}
		if (at < 0)
			for (int j = 0; j < m; j++)
			{
				double l;

				if (used & (1u << j))
					continue;
				l = word_likeness(fd, x[i], y[j]);
				if (l > best)
				{
					best = l;
					at = j;
				}
			}
		if (at >= 0)
		{
			double p = fd->word[x[i]].idf;
			double q = fd->word[y[at]].idf;

			used |= 1u << at;
			/* A mistyped word is rare because of the error: the commoner one tells its weight. */
			sum += best * (p < q ? p : q);
		}
	}
	*common = sum;
	*both = wa + wb - sum > 0 ? sum / (wa + wb - sum) : 0;
	*inner = (wa < wb ? wa : wb) > 0 ? sum / (wa < wb ? wa : wb) : 0;
	if (*inner > 1)
		*inner = 1;
}

/* Sets of words to levels: 1 else, 2 to 6 by the common share, 7 one holds the other, 8 equal. */
static int
compare_sets(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	double both;
	double inner;
	double common;

	compare_words(fd, a, b, &both, &inner, &common);
	if (both >= 0.85)
		return 6;
	if (both >= 0.6)
		return 5;
	if (inner >= 0.9 && common >= 4)
		return 7;
	if (both >= 0.4 || inner >= 0.7)
		return 4;
	if (both >= 0.2 || inner >= 0.45)
		return 3;
	return both >= 0.08 ? 2 : CRM_L_ELSE;
}

/* One Chinese brand within the other, in order. */
static bool
is_within(const uint16_t *x, size_t n, const uint16_t *y, size_t m)
{
	size_t i = 0;

	for (size_t j = 0; j < m && i < n; j++)
		i += x[i] == y[j];
	return i == n;
}

/*
 * Chinese company names. 1 else, 2 brand within brand, 3 similar, 4 core with a typing error,
 * 5 core that sounds the same, 6 same brand and one trade missing, 7 same core and a region
 * missing, 8 equal, 10 same name in another region, 11 same brand in another trade, 12
 * another branch, 13 another legal form. The Latin ones: as sets of words.
 */
static int
compare_company(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	const CrmDetail *p = &fd->detail[a->detail];
	const CrmDetail *q = &fd->detail[b->detail];
	const uint16_t *x = units(fd, a);
	const uint16_t *y = units(fd, b);
	bool elsewhere;
	int level = CRM_L_ELSE;
	double jw;

	if (!p->flag && !q->flag)
		return p->key[0] == q->key[0] ? CRM_L_EXACT : compare_sets(fd, a, b);
	if (p->flag != q->flag)
		return CRM_L_ELSE;
	elsewhere = (p->key[3] != 0 && q->key[3] != 0 && p->key[3] != q->key[3]) ||
				(p->num[0] != 0 && q->num[0] != 0 && p->num[0] != q->num[0]);
	if (p->key[0] == q->key[0])
		level = (p->num[0] != 0) == (q->num[0] != 0) ? CRM_L_EXACT : 7;
	else if (p->key[1] == q->key[1])
	{
		if (p->key[5] == 0 || q->key[5] == 0)
			level = 6;
		else if (p->len[1] >= 2 && q->len[1] >= 2 &&
				 crm_osa_distance(x + p->from[1], p->len[1], y + q->from[1], q->len[1]) <= 1)
			level = 4;
		else
			level = 11;
	}
	else if (p->key[2] != 0 && p->key[2] == q->key[2])
		level = 5;
	else
	{
		int d = crm_osa_distance(x, a->len, y, b->len);
		size_t len = a->len < b->len ? a->len : b->len;

		if ((d <= 1 && len >= 4) || (d <= 2 && len >= 7))
		{
			/* The error is in the brand, or the trades are of one character's difference. */
			level = p->key[5] == q->key[5] || p->key[5] == 0 || q->key[5] == 0 || d <= 1 ? 4 : 11;
		}
		else if (p->len[0] >= 2 && q->len[0] >= 2 &&
				 (p->len[0] < q->len[0] ? is_within(x, p->len[0], y, q->len[0])
										: is_within(y, q->len[0], x, p->len[0])))
			level = 2;
		else
		{
			jw = crm_jaro_winkler(x, a->len, y, b->len);
			if (jw >= 0.85)
				level = 3;
		}
	}
	if (level == CRM_L_ELSE)
		return level;
	if (p->key[4] != q->key[4] || p->num[1] != q->num[1])
		return 12;
	if (elsewhere && level != 11)
		return 10;
	/* A partnership, a works or a group of the same name is another company. */
	if (level != 11 && p->num[2] != 0 && q->num[2] != 0 && p->num[2] != q->num[2])
		return 13;
	return level;
}

/*
 * Addresses. Chinese: 1 else, 2 same district, 3 same road and another number, 4 same road and a
 * number missing, 5 another building, 6 another room, 7 a road with a typing error, 8 equal as far
 * as known. Others: 1 else, 2 another number, 3 another number of the same road, 4 similar and a number
 * missing, 5 to 7 same number and ever more words, 8 equal, 9 never.
 */
static int
compare_address(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	const CrmDetail *p = &fd->detail[a->detail];
	const CrmDetail *q = &fd->detail[b->detail];

	if (p->flag != q->flag)
		return CRM_L_ELSE;
	if (!p->flag)
	{
		double both;
		double inner;
		double common;
		double s;

		compare_words(fd, a, b, &both, &inner, &common);
		s = both > inner * 0.9 ? both : inner * 0.9;
		if (p->num[1] != 0 && p->num[1] == q->num[1])
			return s >= 0.85  ? (p->num[4] != q->num[4] && p->num[4] != 0 && q->num[4] != 0 ? 6 : 7)
				   : s >= 0.6 ? 6
				   : s >= 0.4 ? 5
							  : 10;
		if (p->num[1] == 0 || q->num[1] == 0)
			return s >= 0.8 ? 11 : s >= 0.5 ? 4 : CRM_L_ELSE;
		return s >= 0.5 ? 3 : s >= 0.3 ? 2 : CRM_L_ELSE;
	}
	if (p->num[0] != 0 && q->num[0] != 0 && p->num[0] != q->num[0])
		return CRM_L_ELSE;
	if (p->key[0] != 0 && q->key[0] != 0 && p->key[0] != q->key[0])
		return CRM_L_ELSE;
	if (p->key[2] == q->key[2] && p->key[2] != 0)
	{
		bool other_district = p->key[1] != 0 && q->key[1] != 0 && p->key[1] != q->key[1];

		if (p->num[1] == 0 || q->num[1] == 0)
			return 4;
		if (p->num[1] != q->num[1])
			return 3;
		if (p->num[2] != 0 && q->num[2] != 0 && p->num[2] != q->num[2])
			return 5;
		if (p->num[4] != 0 && q->num[4] != 0 && p->num[4] != q->num[4])
			return 6;
		return other_district ? 7 : CRM_L_EXACT;
	}
	if (p->num[1] != 0 && p->num[1] == q->num[1] && p->num[4] == q->num[4] && p->num[2] == q->num[2] &&
		crm_jaro_winkler(units(fd, a), a->len, units(fd, b), b->len) >= 0.75)
		return 7;
	return p->key[1] != 0 && p->key[1] == q->key[1] ? 2 : CRM_L_ELSE;
}

/* Whole names. Chinese: 1 else, 3 same surname, 5 one character differs, 7 same sound, 8 equal. Others as sets of words. */
static int
compare_person(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	const CrmDetail *p = &fd->detail[a->detail];
	const CrmDetail *q = &fd->detail[b->detail];
	const uint16_t *x = units(fd, a);
	const uint16_t *y = units(fd, b);

	if (p->key[0] != 0 && p->key[0] == q->key[0])
		return 7;
	if (!p->flag || !q->flag)
		return p->flag == q->flag ? compare_sets(fd, a, b) : CRM_L_ELSE;
	if (p->key[1] != 0 && p->key[1] == q->key[1])
		return 7;
	if (crm_osa_distance(x, a->len, y, b->len) <= 1 && (a->len >= 3 || b->len >= 3))
		return 5;
	return x[0] == y[0] ? 3 : CRM_L_ELSE;
}

/* Postcodes. 1 else, 4 same area, 6 one edit, 8 equal. */
static int
compare_postcode(const CrmField *fd, const CrmValue *a, const CrmValue *b)
{
	uint32_t area = fd->atom[a - fd->value][1];

	if (edits(fd, a, b, 1) <= 1)
		return 6;
	return area != 0 && area == fd->atom[b - fd->value][1] ? 4 : CRM_L_ELSE;
}

/* The level of two values of a field, by their indexes; 0 if one is missing. */
int
crm_compare_values(CrmMatcher *m, int field, uint32_t va, uint32_t vb)
{
	const CrmField *fd = &m->field[field];
	const CrmValue *a = &fd->value[va];
	const CrmValue *b = &fd->value[vb];

	if (va == 0 || vb == 0)
		return CRM_L_NULL;
	if (va == vb)
		return CRM_L_EXACT;
	switch (fd->meaning)
	{
		case CRM_M_COMPANY: return compare_company(fd, a, b);
		case CRM_M_PERSON: return compare_person(fd, a, b);
		case CRM_M_GIVEN: return compare_short(fd, a, b, true);
		case CRM_M_PHONE: return compare_phone(fd, a, b);
		case CRM_M_EMAIL: return compare_email(fd, a, b);
		case CRM_M_ADDRESS: return compare_address(fd, a, b);
		case CRM_M_DATE: return compare_date(fd, a, b);
		case CRM_M_WEBSITE: return compare_website(fd, a, b);
		case CRM_M_POSTCODE: return compare_postcode(fd, a, b);
		case CRM_M_ID4:
		case CRM_M_USCC:
		case CRM_M_NATIONAL_ID:
		case CRM_M_ID: return compare_code(fd, a, b);
		case CRM_M_STREET:
		case CRM_M_TEXT:
			if (a->tokens > 2 || b->tokens > 2)
				return compare_sets(fd, a, b);
			return compare_short(fd, a, b, false);
		default: return compare_short(fd, a, b, false);
	}
}

/* True if a value of one field equals a value of another of a like meaning. */
static bool
equal_across(const CrmField *f, uint32_t va, const CrmField *g, uint32_t vb)
{
	return va != 0 && vb != 0 && f->value[va].hash == g->value[vb].hash;
}

/* The level of one field of two rows, swapped values included. */
int
crm_compare_field(CrmMatcher *m, int f, uint32_t a, uint32_t b)
{
	CrmField *fd = &m->field[f];
	uint32_t va = crm_value_of(m, f, a);
	uint32_t vb = crm_value_of(m, f, b);
	int level = crm_compare_values(m, f, va, vb);

	/* Swapped with the partner field, or written into it: in either row. */
	if (fd->partner >= 0 && (level == CRM_L_ELSE || level == CRM_L_NULL))
	{
		CrmField *g = &m->field[fd->partner];

		if (equal_across(fd, va, g, crm_value_of(m, fd->partner, b)) ||
			equal_across(fd, vb, g, crm_value_of(m, fd->partner, a)))
			level = CRM_L_CROSS;
	}
	return level;
}

/* The vector of two rows: four bits a field, the first field lowest. */
uint64_t
crm_compare_rows(CrmMatcher *m, uint32_t a, uint32_t b)
{
	uint64_t pattern = 0;

	for (int f = 0; f < m->fields; f++)
		pattern |= (uint64_t) crm_compare_field(m, f, a, b) << (4 * f);
	return pattern;
}

/* What a level of a meaning is called in evidence and in what was learned. */
const char *
crm_level_name(CrmMeaning meaning, int level)
{
	static const char *const common[] = {
		"missing", "different", "initial", "similar", "more similar", "very similar", "one edit", "sister form",
		"equal",   "swapped",   "other",   "other",   "other",        "other",        "other",    "veto"};
	static const char *const company[] = {"missing",      "different",  "brand within",  "similar",
										  "typing error", "same sound", "trade missing", "region missing",
										  "equal",        "swapped",    "other region",  "other trade",
										  "other branch", "other",      "other",         "veto"};
	static const char *const address[] = {"missing",        "different",      "same district", "other number",
										  "number missing", "other building", "other room",    "nearly equal",
										  "equal",          "swapped",        "number only",   "words only",
										  "other",          "other",          "other",         "veto"};
	static const char *const person[] = {
		"missing",    "different", "few words", "some words", "many words", "most words", "nearly all words",
		"same sound", "equal",     "swapped",   "other",      "other",      "other",      "other",
		"other",      "veto"};
	static const char *const phone[] = {
		"missing", "different", "other", "other", "two edits", "other", "one edit", "equal without area code",
		"equal",   "swapped",   "other", "other", "other",     "other", "other",    "veto"};
	static const char *const email[] = {"missing",
										"different",
										"same domain",
										"similar",
										"same domain, similar name",
										"very similar",
										"one edit",
										"same name, other domain",
										"equal",
										"swapped",
										"other",
										"other",
										"other",
										"other",
										"other",
										"veto"};
	static const char *const date[] = {"missing",
									   "different",
									   "within a year",
									   "same day of year",
									   "same year and day",
									   "same month or swapped",
									   "one digit",
									   "other",
									   "equal",
									   "swapped",
									   "other",
									   "other",
									   "other",
									   "other",
									   "other",
									   "veto"};

	switch (meaning)
	{
		case CRM_M_COMPANY: return company[level];
		case CRM_M_ADDRESS: return address[level];
		case CRM_M_PERSON: return person[level];
		case CRM_M_PHONE: return phone[level];
		case CRM_M_EMAIL: return email[level];
		case CRM_M_DATE: return date[level];
		default: return common[level];
	}
}
