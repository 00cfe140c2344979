/*
 * Scoring by the model of Fellegi and Sunter (1969): how much likelier is this vector of levels
 * for two records of one thing than for two picked at random.
 *
 * u, the chance of a level among random pairs, comes from pairs picked by a fixed
 * arithmetic rule. m, the chance among true pairs, comes from expectation-maximisation over
 * counts of patterns: one run for each of several kinds of key, without the fields of
 * that key (they agree because of it), averaged. Agreement on a rare value weighs
 * more than on a common one.
 *
 * Memory: pattern counts of one run, freed at its end.
 */
#ifdef CRM_STANDALONE
#include <stdlib.h>
#else
#include "postgres.h"
#endif
#include <math.h>
#include <string.h>

#include "match/match.h"

/* How true pairs usually agree: what a table too small to learn from is judged by, and where learning begins. */
static const double usual[CRM_LEVELS] = {0,    0.10, 0.01, 0.02, 0.03, 0.03, 0.05, 0.05,
										 0.64, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01};
#define USUAL_PAIRS 20

/* Candidate pairs that learning looks at. */
#define SAMPLE 2000000

/* The most that the rarity of a shared value adds. */
#define TF_MAX 4

typedef struct Count
{
	uint64_t pattern;
	double n;
} Count;

/* Sorts counts by pattern. */
static int
compare_counts(const void *a, const void *b)
{
	uint64_t x = ((const Count *) a)->pattern;
	uint64_t y = ((const Count *) b)->pattern;

	return x < y ? -1 : x > y;
}

/* Adds up equal patterns; returns how many are left. */
static size_t
gather(Count *c, size_t n)
{
	size_t k = 0;

	qsort(c, n, sizeof(Count), compare_counts);
	for (size_t i = 0; i < n; i++)
	{
		if (k > 0 && c[k - 1].pattern == c[i].pattern)
			c[k - 1].n += c[i].n;
		else
			c[k++] = c[i];
	}
	return k;
}

/* The level of a field in a pattern. */
static inline int
level_of(uint64_t pattern, int f)
{
	return (int) (pattern >> (4 * f) & 15);
}

/*
 * The most that a level may ever weigh, whatever is learned: names that are alike on
 * purpose (sister companies, branches, two valid codes that differ) share address, telephone and people,
 * so that learning without examples would take them for one. -20 rules a pair out of training and of clusters.
 */
static double
level_limit(const CrmField *fd, int level)
{
	if (fd->meaning == CRM_M_COMPANY)
	{
		if (level == 10 || level == 12)
			return -20;
		if (level == 11)
			return -8;
		if (level == 13)
			return -6;
	}
	if (fd->checked && level == CRM_L_ELSE)
		return -8;
	return 100;
}

/* True if a pattern holds a level that proves two things. */
static bool
is_vetoed(const CrmMatcher *m, uint64_t pattern)
{
	for (int f = 0; f < m->fields; f++)
		if (level_limit(&m->field[f], level_of(pattern, f)) < 0)
			return true;
	return false;
}

/* The usual chance that two random values of a meaning are equal, for tables too small to tell. */
static double
usual_equality(CrmMeaning meaning)
{
	switch (meaning)
	{
		case CRM_M_PHONE:
		case CRM_M_EMAIL:
		case CRM_M_COMPANY:
		case CRM_M_WEBSITE: return 1e-4;
		case CRM_M_USCC:
		case CRM_M_NATIONAL_ID:
		case CRM_M_ID: return 1e-5;
		case CRM_M_CITY:
		case CRM_M_TEXT: return 2e-2;
		case CRM_M_REGION:
		case CRM_M_CATEGORY: return 0.2;
		default: return 1e-3;
	}
}

/* u from pairs of rows that a linear congruence picks. */
static void
learn_u(CrmMatcher *m)
{
	size_t n = m->rows;
	size_t want = 1000000;
	uint64_t state = UINT64_C(88172645463325252);
	double count[CRM_FIELDS_MAX][CRM_LEVELS] = {{0}};

	if (n < 2)
		want = 0;
	else if (want > n * (n - 1) / 2)
		want = n * (n - 1) / 2;
	for (size_t k = 0; k < want; k++)
	{
		uint32_t a;
		uint32_t b;
		uint64_t p;

		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		a = (uint32_t) ((state >> 33) % n);
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		b = (uint32_t) ((state >> 33) % n);
		if (a == b)
			continue;
		p = crm_compare_rows(m, a, b);
		for (int f = 0; f < m->fields; f++)
			count[f][level_of(p, f)]++;
		if (k % 65536 == 0 && m->check != NULL)
			m->check();
	}
	for (int f = 0; f < m->fields; f++)
	{
		double sum = 0;
		CrmField *fd = &m->field[f];
		double exact = 0;

		for (int l = 1; l < CRM_LEVELS; l++)
			sum += count[f][l];
		for (int l = 1; l < CRM_LEVELS; l++)
			m->weights.u[f][l] = (count[f][l] + (l == CRM_L_ELSE ? 90.0 : 0.5)) / (sum + 90 + 0.5 * (CRM_LEVELS - 1));
		/* Equality is known exactly from the frequencies, however rare. */
		for (uint32_t v = 1; v < fd->values; v++)
			exact += (double) fd->value[v].freq * (fd->value[v].freq - 1.0);
		exact = (exact + 100 * usual_equality(fd->meaning)) /
				((double) fd->present * (fd->present > 0 ? fd->present - 1.0 : 0) + 100);
		if (exact < 1e-9)
			exact = 1e-9;
		if (fd->meaning == CRM_M_PHONE || fd->meaning == CRM_M_COMPANY)
			m->weights.u[f][CRM_L_EXACT] = m->weights.u[f][CRM_L_EXACT] > exact ? m->weights.u[f][CRM_L_EXACT] : exact;
		else
			m->weights.u[f][CRM_L_EXACT] = exact;
	}
}

/* One run of expectation-maximisation; skip has bits of fields left out. known gets the true pairs that have a field. Returns the share of true pairs. */
static double
run_em(const CrmMatcher *m, const Count *c, size_t n, uint64_t skip, double mm[CRM_FIELDS_MAX][CRM_LEVELS],
	   double known[CRM_FIELDS_MAX])
{
	double lambda = 0.2;

	/* A guess to begin with: agreement is likely. */
	for (int f = 0; f < m->fields; f++)
	{
		double sum = 0;

		for (int l = 1; l < CRM_LEVELS; l++)
		{
			mm[f][l] = l == CRM_L_EXACT ? 0.8 : l == CRM_L_ELSE ? 0.05 : m->weights.u[f][l] > 1e-7 ? 0.02 : 0.002;
			sum += mm[f][l];
		}
		for (int l = 1; l < CRM_LEVELS; l++)
			mm[f][l] /= sum;
	}
	for (int round = 0; round < 60; round++)
	{
		double got[CRM_FIELDS_MAX][CRM_LEVELS] = {{0}};
		double lr[CRM_FIELDS_MAX][CRM_LEVELS] = {{0}};
		double matches = 0;
		double all = 0;
		double moved = 0;
		double odds = log(lambda / (1 - lambda));

		for (int f = 0; f < m->fields; f++)
			for (int l = 1; l < CRM_LEVELS; l++)
				lr[f][l] = skip >> f & 1 ? 0 : log(mm[f][l] / m->weights.u[f][l]);
		for (size_t i = 0; i < n; i++)
		{
			double s = odds;
			double p;

			for (int f = 0; f < m->fields; f++)
				s += lr[f][level_of(c[i].pattern, f)];
			p = is_vetoed(m, c[i].pattern) ? 0 : 1 / (1 + exp(-s)) * c[i].n;
			matches += p;
			all += c[i].n;
			for (int f = 0; f < m->fields; f++)
				got[f][level_of(c[i].pattern, f)] += p;
		}
		for (int f = 0; f < m->fields; f++)
		{
			double sum = 0;

			if (skip >> f & 1)
				continue;
			for (int l = 1; l < CRM_LEVELS; l++)
				sum += got[f][l];
			known[f] = sum;
			for (int l = 1; l < CRM_LEVELS; l++)
			{
				double x = (got[f][l] + USUAL_PAIRS * usual[l]) / (sum + USUAL_PAIRS);

				moved += fabs(x - mm[f][l]);
				mm[f][l] = x;
			}
		}
		lambda = all > 0 ? matches / all : 0.5;
		if (lambda < 1e-6)
			lambda = 1e-6;
		if (lambda > 1 - 1e-6)
			lambda = 1 - 1e-6;
		if (moved < 1e-4)
			break;
	}
	return lambda;
}

/* The bits of the kinds of key that two rows share. */
static void
shared_kinds(const CrmMatcher *m, CrmPair p, uint64_t bits[2])
{
	const uint32_t *x = m->keys + (size_t) p.a * m->kinds;
	const uint32_t *y = m->keys + (size_t) p.b * m->kinds;

	bits[0] = bits[1] = 0;
	for (int k = 0; k < m->kinds; k++)
		if (x[k] == y[k] && x[k] != 0)
			bits[k >> 6] |= UINT64_C(1) << (k & 63);
}

/* Learns all weights from the candidate pairs. */
void
crm_train(CrmMatcher *m)
{
	CrmWeights *w = &m->weights;
	size_t step = m->pairs > SAMPLE ? m->pairs / SAMPLE + 1 : 1;
	size_t sample = 0;
	Count *all;
	Count *some;
	uint64_t *bits;
	double sum_m[CRM_FIELDS_MAX][CRM_LEVELS] = {{0}};
	double sum_n[CRM_FIELDS_MAX] = {0};
	double mm[CRM_FIELDS_MAX][CRM_LEVELS];
	double known[CRM_FIELDS_MAX];
	double n2 = m->rows > 1 ? (double) m->rows * (m->rows - 1.0) / 2 : 1;
	double lambda;

	memset(w, 0, sizeof(*w));
	w->fields = m->fields;
	learn_u(m);
	all = crm_huge_alloc((m->pairs / step + 1) * sizeof(Count));
	some = crm_huge_alloc((m->pairs / step + 1) * sizeof(Count));
	bits = crm_huge_alloc((m->pairs / step + 1) * 2 * sizeof(uint64_t));
	for (size_t i = 0; i < m->pairs; i += step)
	{
		all[sample].pattern = crm_compare_rows(m, m->pair[i].a, m->pair[i].b);
		all[sample].n = 1;
		shared_kinds(m, m->pair[i], bits + 2 * sample);
		sample++;
		if (sample % 65536 == 0 && m->check != NULL)
			m->check();
	}
	for (int k = 0; k < m->kinds; k++)
	{
		size_t n = 0;
		size_t patterns;
		double share;
		double weight;

		for (size_t i = 0; i < sample; i++)
			if (bits[2 * i + (k >> 6)] >> (k & 63) & 1)
				some[n++] = all[i];
		if (n < 200)
			continue;
		patterns = gather(some, n);
		share = run_em(m, some, patterns, m->kind_fields[k], mm, known);
		/* A run that finds hardly any true pairs, or many thousands, teaches not by its size alone. */
		weight = sqrt(share * (double) n);
		/* A class that mostly differs is no class of true pairs, only the largest heap of another kind. */
		{
			double differs = 0;
			double learned = 0;

			for (int f = 0; f < m->fields; f++)
				if (!(m->kind_fields[k] >> f & 1))
				{
					differs += known[f] * mm[f][CRM_L_ELSE];
					learned += known[f];
				}
			if (share < 0.005 || learned < 1 || differs / learned > 0.4)
				continue;
		}
		for (int f = 0; f < m->fields; f++)
			if (!(m->kind_fields[k] >> f & 1))
			{
				for (int l = 1; l < CRM_LEVELS; l++)
					sum_m[f][l] += weight * mm[f][l];
				sum_n[f] += weight;
			}
		if (m->check != NULL)
			m->check();
	}
	for (int f = 0; f < m->fields; f++)
	{
		for (int l = 1; l < CRM_LEVELS; l++)
		{
			double x = sum_n[f] > 0 ? sum_m[f][l] / sum_n[f] : usual[l];

			w->m[f][l] = x;
			w->w[f][l] = log(x / w->u[f][l]);
			if (w->w[f][l] > level_limit(&m->field[f], l))
				w->w[f][l] = level_limit(&m->field[f], l);
		}
		w->tf[f] = 1;
	}
	/* A whole name repeats what the columns of its parts say. */
	for (int f = 0; f < m->fields; f++)
		if (m->field[f].meaning == CRM_M_PERSON)
		{
			int parts = 0;

			for (int g = 0; g < m->fields; g++)
				parts += m->field[g].meaning == CRM_M_GIVEN || m->field[g].meaning == CRM_M_FAMILY;
			if (parts < 2)
				continue;
			w->tf[f] = 0;
			for (int l = 1; l < CRM_LEVELS; l++)
				w->w[f][l] *= 0.3;
		}
	/* The share of true pairs among all: those that the candidates hold, found as a fixed point. */
	{
		size_t patterns = gather(all, sample);

		lambda = m->rows > 100 ? m->rows / n2 : 0.001;
		for (int round = 0; round < 50; round++)
		{
			double matches = 0;
			double odds = log(lambda / (1 - lambda));

			for (size_t i = 0; i < patterns; i++)
			{
				double s = odds;

				for (int f = 0; f < m->fields; f++)
					s += w->w[f][level_of(all[i].pattern, f)];
				matches += all[i].n * (double) step / (1 + exp(-s));
			}
			if (m->rows <= 100)
				break;
			if (matches < 1)
				matches = 1;
			if (fabs(matches / n2 - lambda) < lambda * 1e-4)
				break;
			lambda = matches / n2;
			if (lambda > 0.5)
				lambda = 0.5;
		}
	}
	w->prior = log(lambda / (1 - lambda));
	w->threshold = 0.5;
	m->trained = true;
	crm_huge_free(all);
	crm_huge_free(some);
	crm_huge_free(bits);
}

/* What a level says when freq rows share the value: its weight, and for an equal value how rare it is. */
static inline double
value_score(const CrmMatcher *m, int f, int l, uint32_t freq)
{
	const CrmWeights *w = &m->weights;
	double x = w->tf[f] * log(w->u[f][CRM_L_EXACT] * m->field[f].present / freq);

	/* A value seen once or twice is not rarer than what chance explains. */
	if (x > TF_MAX)
		x = TF_MAX;
	return w->w[f][l] + (l == CRM_L_EXACT || x < 0 ? x : 0);
}

/* What one field of two rows says. */
static inline double
field_score(const CrmMatcher *m, int f, int l, uint32_t a, uint32_t b)
{
	const CrmField *fd = &m->field[f];
	uint32_t fa;
	uint32_t fb;

	if (l != CRM_L_EXACT && l != 7)
		return m->weights.w[f][l];
	fa = fd->value[fd->val[a]].freq;
	fb = fd->value[fd->val[b]].freq;
	return value_score(m, f, l, fa > fb ? fa : fb);
}

/* Log odds that two rows are one, by their pattern and the frequency of the values they share. */
double
crm_score(const CrmMatcher *m, uint32_t a, uint32_t b, uint64_t pattern)
{
	double s = m->weights.prior;

	for (int f = 0; f < m->fields; f++)
		s += field_score(m, f, level_of(pattern, f), a, b);
	return s;
}

/*
 * Scores the candidate pairs and keeps those of log odds of floor and more. Most candidates
 * share two fields and nothing else: fields are compared one by one, those that can move the
 * score most first, until it is clear that the floor cannot be reached.
 */
void
crm_score_all(CrmMatcher *m, double floor)
{
	double most[CRM_FIELDS_MAX]; /* the best that a field can say when its values differ */
	int order[CRM_FIELDS_MAX];
	float *shared[CRM_FIELDS_MAX]; /* what an equal value says, by value */
	uint32_t *row;                 /* the values of a row side by side: pairs come in no order of rows */
	size_t n = m->fields;

	for (int f = 0; f < m->fields; f++)
	{
		double best = m->field[f].partner >= 0 ? m->weights.w[f][CRM_L_CROSS] : m->weights.w[f][1];
		int at = f;

		for (int l = 1; l < CRM_LEVELS; l++)
			if (l != CRM_L_EXACT && l != CRM_L_CROSS && m->weights.u[f][l] > 2e-6 && m->weights.w[f][l] > best)
				best = m->weights.w[f][l];
		/* Two spellings of one value are rare in the sample but not impossible. */
		if (m->weights.w[f][CRM_L_EXACT] > best)
			best = m->weights.w[f][CRM_L_EXACT];
		most[f] = best > 0 ? best : 0;
		while (at > 0 && most[f] - m->weights.w[f][1] > most[order[at - 1]] - m->weights.w[order[at - 1]][1])
		{
			order[at] = order[at - 1];
			at--;
		}
		order[at] = f;
	}
	row = crm_huge_alloc((m->rows * n + 1) * sizeof(uint32_t));
	for (int f = 0; f < m->fields; f++)
	{
		CrmField *fd = &m->field[f];

		for (size_t r = 0; r < m->rows; r++)
			row[r * n + f] = fd->val[r];
		shared[f] = crm_huge_alloc(fd->values * sizeof(float));
		for (uint32_t v = 1; v < fd->values; v++)
			shared[f][v] = (float) value_score(m, f, CRM_L_EXACT, fd->value[v].freq);
	}
	m->edges = 0;
	for (size_t i = 0; i < m->pairs; i++)
	{
		uint32_t a = m->pair[i].a;
		uint32_t b = m->pair[i].b;
		double bound = m->weights.prior;
		uint32_t open = 0;

		if (i % 65536 == 0 && m->check != NULL)
			m->check();
		for (int f = 0; f < m->fields; f++)
		{
			uint32_t va = row[a * n + f];
			uint32_t vb = row[b * n + f];

			if (va == vb && va != 0)
				bound += shared[f][va];
			else if ((va != 0 && vb != 0) || m->field[f].partner >= 0)
			{
				bound += most[f];
				open |= 1u << f;
			}
		}
		for (int k = 0; k < m->fields && bound >= floor; k++)
			if (open >> order[k] & 1)
				bound += field_score(m, order[k], crm_compare_field(m, order[k], a, b), a, b) - most[order[k]];
		if (bound < floor)
			continue;
		if (m->edges == m->edges_cap)
		{
			size_t cap = m->edges_cap < 1024 ? 65536 : m->edges_cap * 2;

			m->edge = crm_huge_grow(m->edge, m->edges_cap * sizeof(CrmEdge), cap * sizeof(CrmEdge));
			m->edges_cap = cap;
		}
		m->edge[m->edges].a = a;
		m->edge[m->edges].b = b;
		m->edge[m->edges++].w = (float) bound;
	}
	for (int f = 0; f < m->fields; f++)
		crm_huge_free(shared[f]);
	crm_huge_free(row);
}

/*
 * True if a pair may be merged without a person: very likely, three fields of weight beside the name
 * equal, and nothing known that differs. The learned probability alone is not trusted that
 * far: fields err together in ways that no model without examples sees.
 */
bool
crm_is_certain(const CrmMatcher *m, uint32_t a, uint32_t b, uint64_t pattern, double score)
{
	int equal = 0;
	bool has_name = false;
	bool has_key = false;

	if (score < log(999.0))
		return false;
	for (int f = 0; f < m->fields; f++)
	{
		int l = level_of(pattern, f);
		CrmMeaning meaning = m->field[f].meaning;
		bool name =
			meaning == CRM_M_COMPANY || meaning == CRM_M_PERSON || meaning == CRM_M_GIVEN || meaning == CRM_M_FAMILY;

		if (l == CRM_L_NULL || meaning == CRM_M_CATEGORY)
			continue;
		if (l != CRM_L_EXACT)
			return false;
		/* A company's name with all its parts: a missing legal form or region leaves a doubt. */
		if (meaning == CRM_M_COMPANY && m->field[f].val[a] != m->field[f].val[b])
			return false;
		if (name)
			has_name = true;
		else if (m->weights.w[f][CRM_L_EXACT] >= 3)
			equal++;
		/* Relatives and sister companies share an address, but rarely these. */
		if (meaning == CRM_M_PHONE || meaning == CRM_M_EMAIL || meaning == CRM_M_USCC || meaning == CRM_M_NATIONAL_ID ||
			meaning == CRM_M_ID4 || meaning == CRM_M_DATE || meaning == CRM_M_ID)
			has_key = true;
	}
	return has_name && has_key && equal >= 3;
}
