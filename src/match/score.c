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
#include "text/text.h"

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
	/* Another house of the same road is another place, however near. */
	if (fd->meaning == CRM_M_ADDRESS && level == 3)
		return 0;
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

/* True if a pattern holds a level that no other evidence outweighs, in a cluster either. */
bool
crm_is_apart(const CrmMatcher *m, uint64_t pattern)
{
	for (int f = 0; f < m->fields; f++)
		if (level_limit(&m->field[f], level_of(pattern, f)) <= -20)
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

/* Random pairs of one part of the job. */
#define RANDOM_PART 16384
#define RANDOM_PAIRS 1000000

/* Pairs looked at together: their rows and values are asked for before they are needed. */
#define TOGETHER 64

/* The state of the linear congruence after n more steps (its powers by squaring). */
static uint64_t
congruence(uint64_t state, uint64_t n)
{
	uint64_t a = UINT64_C(6364136223846793005);
	uint64_t c = UINT64_C(1442695040888963407);

	for (; n > 0; n >>= 1)
	{
		if (n & 1)
			state = state * a + c;
		c = c * a + c;
		a = a * a;
	}
	return state;
}

/* Asks for the values of pairs' rows: half of the time of scoring is waiting for memory. */
static void
fetch_values(const CrmMatcher *m, const CrmEdge *pair, uint32_t n)
{
	uint32_t width = (uint32_t) m->fields;

	for (uint32_t k = 0; k < n; k++)
	{
		__builtin_prefetch(m->val + (size_t) pair[k].a * width);
		__builtin_prefetch(m->val + (size_t) pair[k].b * width);
	}
	for (uint32_t k = 0; k < n; k++)
		for (uint32_t f = 0; f < width; f++)
		{
			const CrmValue *value = m->field[f].value;

			__builtin_prefetch(value + m->val[(size_t) pair[k].a * width + f]);
			__builtin_prefetch(value + m->val[(size_t) pair[k].b * width + f]);
		}
}

/* How many pairs are picked at random. */
static size_t
random_pairs(const CrmMatcher *m)
{
	size_t n = m->rows;

	if (n < 2)
		return 0;
	return n * (n - 1) / 2 < RANDOM_PAIRS ? n * (n - 1) / 2 : RANDOM_PAIRS;
}

/* Levels of the random pairs of one part. A linear congruence picks them. */
static void
look_at_random(CrmMatcher *m, uint32_t part)
{
	size_t n = m->rows;
	size_t from = (size_t) part * RANDOM_PART;
	size_t to = from + RANDOM_PART < random_pairs(m) ? from + RANDOM_PART : random_pairs(m);
	uint64_t state = congruence(UINT64_C(88172645463325252), 2 * from);
	uint32_t count[CRM_FIELDS_MAX][CRM_LEVELS] = {{0}};

	while (from < to)
	{
		CrmEdge pair[TOGETHER];
		uint32_t k = 0;

		for (; from < to && k < TOGETHER; from++)
		{
			state = congruence(state, 1);
			pair[k].a = (uint32_t) ((state >> 33) % n);
			state = congruence(state, 1);
			pair[k].b = (uint32_t) ((state >> 33) % n);
			k += pair[k].a != pair[k].b;
		}
		fetch_values(m, pair, k);
		for (uint32_t i = 0; i < k; i++)
		{
			uint64_t p = crm_compare_rows(m, pair[i].a, pair[i].b);

			for (int f = 0; f < m->fields; f++)
				count[f][level_of(p, f)]++;
		}
	}
	for (int f = 0; f < m->fields; f++)
		for (int l = 0; l < CRM_LEVELS; l++)
			if (count[f][l] > 0)
				__atomic_add_fetch(&m->shared->seen[f][l], count[f][l], __ATOMIC_RELAXED);
}

/* The bits of the kinds of key that two rows share. */
static void
shared_kinds(const CrmMatcher *m, CrmEdge p, uint64_t bits[2])
{
	const uint32_t *x = m->keys + (size_t) p.a * m->kinds;
	const uint32_t *y = m->keys + (size_t) p.b * m->kinds;

	bits[0] = bits[1] = 0;
	for (int k = 0; k < m->kinds; k++)
		if (x[k] == y[k] && x[k] != 0)
			bits[k >> 6] |= UINT64_C(1) << (k & 63);
}

/* The samples that lie in one piece of the pairs. */
static void
look_at_piece(CrmMatcher *m, uint32_t piece)
{
	const CrmEdge *edge = m->team->at(m->team, m->piece[piece].where);
	size_t base = 0;
	size_t next;
	size_t at;

	for (uint32_t i = 0; i < piece; i++)
		base += m->piece[i].n;
	next = (base + m->step - 1) / m->step; /* the first sample behind the pieces before */
	at = next * m->step - base;
	while (at < m->piece[piece].n)
	{
		CrmEdge pair[TOGETHER];
		uint32_t k = 0;

		for (; k < TOGETHER && at < m->piece[piece].n; at += m->step)
			pair[k++] = edge[at];
		fetch_values(m, pair, k);
		for (uint32_t i = 0; i < k; i++, next++)
		{
			m->sample[next].pattern = crm_compare_rows(m, pair[i].a, pair[i].b);
			shared_kinds(m, pair[i], m->sample[next].kinds);
		}
	}
}

/* Part of a job: what learning looks at; the random pairs first. */
void
crm_learn_part(CrmMatcher *m, uint32_t part)
{
	uint32_t random = (uint32_t) ((random_pairs(m) + RANDOM_PART - 1) / RANDOM_PART);

	if (part < random)
		look_at_random(m, part);
	else
		look_at_piece(m, part - random);
}

/* u from the levels of the random pairs, and from the frequencies of values. */
static void
learn_u(CrmMatcher *m)
{
	for (int f = 0; f < m->fields; f++)
	{
		double sum = 0;
		CrmField *fd = &m->field[f];
		double exact = 0;

		for (int l = 1; l < CRM_LEVELS; l++)
			sum += (double) m->shared->seen[f][l];
		for (int l = 1; l < CRM_LEVELS; l++)
			m->weights.u[f][l] =
				((double) m->shared->seen[f][l] + (l == CRM_L_ELSE ? 90.0 : 0.5)) / (sum + 90 + 0.5 * (CRM_LEVELS - 1));
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

/* The bits of the fields that make a kind of key. */
static uint64_t
kind_fields(const CrmMatcher *m, int k)
{
	return UINT64_C(1) << m->kind[k].f | (m->kind[k].g >= 0 ? UINT64_C(1) << m->kind[k].g : 0);
}

/* Learns all weights from the candidate pairs. */
void
crm_train(CrmMatcher *m)
{
	CrmWeights *w = &m->weights;
	Count *all;
	Count *some;
	double sum_m[CRM_FIELDS_MAX][CRM_LEVELS] = {{0}};
	double sum_n[CRM_FIELDS_MAX] = {0};
	double mm[CRM_FIELDS_MAX][CRM_LEVELS];
	double known[CRM_FIELDS_MAX];
	double n2 = m->rows > 1 ? (double) m->rows * (m->rows - 1.0) / 2 : 1;
	double lambda;

	if (m->shared == NULL)
		crm_share(m, &crm_alone);
	memset(w, 0, sizeof(*w));
	w->fields = m->fields;
	m->step = m->pairs > SAMPLE ? m->pairs / SAMPLE + 1 : 1;
	m->samples = (m->pairs + m->step - 1) / m->step;
	memset(m->shared->seen, 0, sizeof(m->shared->seen));
	crm_shared_array(m, CRM_ARRAY_SAMPLE, m->samples * sizeof(CrmSample));
	crm_run(m, CRM_JOB_LEARN, (uint32_t) ((random_pairs(m) + RANDOM_PART - 1) / RANDOM_PART) + m->pieces);
	learn_u(m);
	all = crm_text_alloc((m->samples + 1) * sizeof(Count));
	some = crm_text_alloc((m->samples + 1) * sizeof(Count));
	for (size_t i = 0; i < m->samples; i++)
		all[i] = (Count){m->sample[i].pattern, 1};
	for (int k = 0; k < m->kinds; k++)
	{
		size_t n = 0;
		size_t patterns;
		double share;
		double weight;

		for (size_t i = 0; i < m->samples; i++)
			if (m->sample[i].kinds[k >> 6] >> (k & 63) & 1)
				some[n++] = all[i];
		if (n < 200)
			continue;
		patterns = gather(some, n);
		share = run_em(m, some, patterns, kind_fields(m, k), mm, known);
		/* A run that finds hardly any true pairs, or many thousands, teaches not by its size alone. */
		weight = sqrt(share * (double) n);
		/* A class that mostly differs is no class of true pairs, only the largest heap of another kind. */
		{
			double differs = 0;
			double learned = 0;

			for (int f = 0; f < m->fields; f++)
				if (!(kind_fields(m, k) >> f & 1))
				{
					differs += known[f] * mm[f][CRM_L_ELSE];
					learned += known[f];
				}
			if (share < 0.005 || learned < 1 || differs / learned > 0.4)
				continue;
		}
		for (int f = 0; f < m->fields; f++)
			if (!(kind_fields(m, k) >> f & 1))
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
		size_t patterns = gather(all, m->samples);

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
				matches += all[i].n * (double) m->step / (1 + exp(-s));
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
	crm_shared_drop(m, CRM_ARRAY_SAMPLE, m->samples * sizeof(CrmSample));
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
	fa = fd->value[crm_value_of(m, f, a)].freq;
	fb = fd->value[crm_value_of(m, f, b)].freq;
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

/* The most that each field can say when its values differ, and the fields by how much that is above "different". */
static void
plan_scores(const CrmMatcher *m, double most[CRM_FIELDS_MAX], int order[CRM_FIELDS_MAX])
{
	for (int f = 0; f < m->fields; f++)
	{
		CrmMeaning meaning = m->field[f].meaning;
		/* These have values that are spelled differently and yet equal. */
		bool equal = meaning == CRM_M_COMPANY || meaning == CRM_M_PHONE || meaning == CRM_M_ADDRESS;
		double best = m->weights.w[f][1];
		int at = f;

		for (int l = 1; l < CRM_LEVELS; l++)
		{
			double x = m->weights.w[f][l] + (l == CRM_L_EXACT ? TF_MAX : 0);

			if ((l != CRM_L_EXACT || equal) && (l != CRM_L_CROSS || m->field[f].partner >= 0) && x > best)
				best = x;
		}
		most[f] = best > 0 ? best : 0;
		while (at > 0 && most[f] - m->weights.w[f][1] > most[order[at - 1]] - m->weights.w[order[at - 1]][1])
		{
			order[at] = order[at - 1];
			at--;
		}
		order[at] = f;
	}
}

/*
 * Part of a job: scores the pairs of one piece and keeps those of log odds of the floor and more,
 * in the places of the pairs. Most candidates share two fields and nothing else: fields are compared
 * one by one, those that can move the score most first, until it is clear that the floor cannot be reached.
 */
void
crm_score_piece(CrmMatcher *m, uint32_t piece)
{
	CrmEdge *edge = m->team->at(m->team, m->piece[piece].where);
	uint32_t n = m->piece[piece].n;
	uint32_t width = (uint32_t) m->fields;
	uint32_t kept = 0;
	double most[CRM_FIELDS_MAX];
	int order[CRM_FIELDS_MAX];

	plan_scores(m, most, order);
	for (uint32_t from = 0; from < n; from += TOGETHER)
	{
		uint32_t to = from + TOGETHER < n ? from + TOGETHER : n;
		double bound[TOGETHER];
		uint32_t open[TOGETHER];

		fetch_values(m, edge + from, to - from);
		for (uint32_t i = from; i < to; i++)
		{
			const uint32_t *x = m->val + (size_t) edge[i].a * width;
			const uint32_t *y = m->val + (size_t) edge[i].b * width;
			double b = m->weights.prior;
			uint32_t o = 0;

			for (uint32_t f = 0; f < width; f++)
			{
				if (x[f] == y[f] && x[f] != 0)
					b += m->field[f].value[x[f]].equal;
				else if ((x[f] != 0 && y[f] != 0) || m->field[f].partner >= 0)
				{
					b += most[f];
					o |= 1u << f;
				}
			}
			bound[i - from] = b;
			open[i - from] = b >= m->floor ? o : 0;
			/* The texts that will be compared first. */
			for (uint32_t k = 0, asked = 0; k < width && asked < 3 && b >= m->floor; k++)
				if (o >> order[k] & 1)
				{
					const CrmField *fd = &m->field[order[k]];

					/* (a value's details are at its own place, where there are any) */
					__builtin_prefetch(fd->detail + (fd->details > 1 ? x[order[k]] : 0));
					__builtin_prefetch(fd->detail + (fd->details > 1 ? y[order[k]] : 0));
					if (fd->pool != NULL)
					{
						__builtin_prefetch(fd->pool + fd->value[x[order[k]]].text);
						__builtin_prefetch(fd->pool + fd->value[y[order[k]]].text);
					}
					asked++;
				}
		}
		for (uint32_t i = from; i < to; i++)
		{
			uint32_t a = edge[i].a;
			uint32_t b = edge[i].b;
			double s = bound[i - from];

			for (uint32_t k = 0; k < width && s >= m->floor; k++)
				if (open[i - from] >> order[k] & 1)
					s += field_score(m, order[k], crm_compare_field(m, order[k], a, b), a, b) - most[order[k]];
			if (s < m->floor)
				continue;
			edge[kept].a = a;
			edge[kept].b = b;
			edge[kept++].w = (float) s;
		}
	}
	m->piece[piece].n = kept;
}

/* Scores the candidate pairs; m->edge gets those of log odds of floor and more, the pairs themselves are gone. */
void
crm_score_all(CrmMatcher *m, double floor)
{
	m->floor = floor;
	for (int f = 0; f < m->fields; f++)
	{
		CrmField *fd = &m->field[f];

		for (uint32_t v = 1; v < fd->values; v++)
			fd->value[v].equal = (float) value_score(m, f, CRM_L_EXACT, fd->value[v].freq);
	}
	if (m->keys != NULL)
		crm_shared_drop(m, CRM_ARRAY_KEYS, (size_t) m->rows * m->kinds * sizeof(uint32_t));
	if (m->pieces > 0)
		crm_run(m, CRM_JOB_SCORE, m->pieces);
	m->edges = 0;
	for (uint32_t i = 0; i < m->pieces; i++)
		m->edges += m->piece[i].n;
	m->edge = crm_text_alloc((m->edges + 1) * sizeof(CrmEdge));
	m->edges = 0;
	for (uint32_t i = 0; i < m->pieces; i++)
	{
		memcpy(m->edge + m->edges, m->team->at(m->team, m->piece[i].where), m->piece[i].n * sizeof(CrmEdge));
		m->edges += m->piece[i].n;
	}
	crm_block_free(m);
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
		if (meaning == CRM_M_COMPANY && crm_value_of(m, f, a) != crm_value_of(m, f, b))
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
