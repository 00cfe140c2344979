/*
 * lattice.c
 *		Fit, predict, update and explain a lattice model, on plain arrays.
 *
 *		eta = b + sum over blocks of the effect of the row's cell;  effect ~ N(m, tau), tau estimated per block (EM)
 *		P   = sigmoid(eta / sqrt(1 + pi v / 8)),  v = variance of b plus the cells' variances, at most 4
 *
 * MacKay's approximation of the averaged logistic (1992) gives P; the fit is a Newton step per block and sweep, whose Hessian is
 * diagonal since a row is in one cell of a block. An online step is an extended Kalman filter's. A cell that was never seen has
 * mean 0 and variance tau, so a case falls back to its coarser cells by itself.
 *
 * What this file does not do: read text formats (blob.c), decay, censoring and the choice of experts (prequential.c).
 *
 * Results depend on the order of the rows in the last bits only through summation, so callers sort their rows first; there is no
 * randomness. No locks. Memory: the caller's context.
 */
#include "odds/lattice.h"

#include <math.h>

#define START_TAU_SINGLE 0.5
#define START_TAU_PAIR 0.05
#define PAIRS_JOIN_AT 2 /* sweep, from 0: the pairs explain only what the dimensions leave */
#define TAU_PSEUDO 0.02 /* keeps tau above zero in a block that explains nothing */
#define MAX_STEP 1.0
#define MAX_VARIANCE 4.0
#define INTERVAL_Z 1.6448536269514722 /* 90 % */
#define MANY_ROWS 300
#define MANY_ROWS_FACTOR 0.8
#define LOSS_DECAY 0.995 /* per outcome: the pool remembers some 200 */
#define PROBABILITY_FLOOR 1e-9

#define CELL_ABSENT 0 /* no rows */
#define CELL_PRESENT 1
#define CELL_OWN_PRIOR 2

typedef struct Slope
{
	double g; /* gradient */
	double h; /* minus second derivative */
} Slope;

/*
 * The logistic function.
 */
double
crm_lattice_sigmoid(double x)
{
	return 1.0 / (1.0 + exp(-x));
}

/*
 * Its inverse. The argument is in (0, 1), the callers see to it.
 */
double
crm_lattice_logit(double p)
{
	return log(p / (1.0 - p));
}

/*
 * Log loss of a prediction. Bounded, so that one absurd prediction cannot drown an expert for ever.
 */
double
crm_lattice_loss(double logit, double outcome)
{
	double p = crm_lattice_sigmoid(logit);

	if (p < PROBABILITY_FLOOR)
		p = PROBABILITY_FLOOR;
	if (p > 1.0 - PROBABILITY_FLOOR)
		p = 1.0 - PROBABILITY_FLOOR;
	return -(outcome * log(p) + (1.0 - outcome) * log(1.0 - p));
}

/*
 * An empty lattice over so many dimensions.
 */
Lattice *
crm_lattice_create(int32_t ndims)
{
	Lattice *m = LATTICE_ALLOC(sizeof(Lattice));
	int32_t c = 0;

	m->ndims = ndims;
	m->nblocks = ndims + ndims * (ndims - 1) / 2;
	m->dict = LATTICE_ALLOC(sizeof(LatticeDict) * ndims);
	m->block = LATTICE_ALLOC(sizeof(LatticeBlock) * m->nblocks);
	m->expert = LATTICE_ALLOC(sizeof(LatticeExpert) * LATTICE_MAX_EXPERTS);
	for (int32_t d = 0; d < ndims; d++)
	{
		m->block[c].first = d;
		m->block[c++].second = -1;
	}
	for (int32_t d = 0; d < ndims; d++)
	{
		for (int32_t e = d + 1; e < ndims; e++)
		{
			m->block[c].first = d;
			m->block[c++].second = e;
		}
	}
	return m;
}

/*
 * FNV-1a. The tables it serves are rebuilt whenever a model is read, so the function may change between releases.
 */
static uint32_t
hash_text(const char *text, int32_t len)
{
	uint32_t h = 2166136261u;

	if (text == NULL)
		return 0x9e3779b9u;
	for (int32_t i = 0; i < len; i++)
		h = (h ^ (unsigned char) text[i]) * 16777619u;
	return h ^ (h >> 15);
}

/*
 * Finalizer of splitmix64: neighbouring codes land far apart.
 */
static uint32_t
hash_key(uint64_t k)
{
	k = (k ^ (k >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	k = (k ^ (k >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t) (k ^ (k >> 31));
}

/*
 * Code of a value (text NULL: the value NULL), or LATTICE_UNSEEN.
 */
int32_t
crm_lattice_find_value(const Lattice *m, int32_t dim, const char *text, int32_t len)
{
	const LatticeDict *dict = &m->dict[dim];
	uint32_t h;

	if (dict->nslots == 0)
		return LATTICE_UNSEEN;
	h = hash_text(text, len);
	for (uint32_t s = h;; s++)
	{
		int32_t code = dict->slot[s & (dict->nslots - 1)] - 1;
		const LatticeValue *v;

		if (code < 0)
			return LATTICE_UNSEEN;
		v = &dict->value[code];
		if (v->hash == h && (v->text == NULL) == (text == NULL) &&
			(text == NULL || (v->len == len && memcmp(v->text, text, len) == 0)))
			return code;
	}
}

/*
 * Grow a hash of numbered entries, those of a dictionary or of a block, to hold one more, at most half full.
 */
static void
grow_slots(int32_t **slot, int32_t *nslots, int32_t nentries, const LatticeDict *dict, const LatticeBlock *block)
{
	int64_t want = *nslots ? (int64_t) *nslots : 16;

	if ((int64_t) nentries * 2 < want && *nslots > 0)
		return;
	while ((int64_t) nentries * 2 >= want)
		want *= 2;
	if (*slot)
		LATTICE_FREE(*slot);
	*slot = LATTICE_ALLOC(sizeof(int32_t) * want);
	*nslots = (int32_t) want;
	for (int32_t i = 0; i < nentries; i++)
	{
		uint32_t s = dict ? dict->value[i].hash : hash_key(block->key[i]);

		while ((*slot)[s & (*nslots - 1)] != 0)
			s++;
		(*slot)[s & (*nslots - 1)] = i + 1;
	}
}

/*
 * Code of a value, which is added when the dimension has not met it. With copy the text is kept in memory of our own, else the
 * caller keeps it alive as long as the lattice. The cells of the value's single block are made with it.
 */
int32_t
crm_lattice_add_value(Lattice *m, int32_t dim, const char *text, int32_t len, bool copy)
{
	LatticeDict *dict = &m->dict[dim];
	int32_t code = crm_lattice_find_value(m, dim, text, len);
	LatticeValue *v;
	uint32_t s;

	if (code >= 0)
		return code;
	if (dict->nvalues == dict->room)
	{
		dict->room = dict->room ? dict->room * 2 : 16;
		if (dict->value)
			dict->value = LATTICE_GROW(dict->value, sizeof(LatticeValue) * dict->room);
		else
			dict->value = LATTICE_ALLOC(sizeof(LatticeValue) * dict->room);
	}
	grow_slots(&dict->slot, &dict->nslots, dict->nvalues, dict, NULL);
	code = dict->nvalues;
	v = &dict->value[code];
	v->text = text;
	v->len = text ? len : 0;
	if (text && copy)
	{
		char *own = LATTICE_ALLOC(len > 0 ? len : 1);

		memcpy(own, text, len);
		v->text = own;
	}
	v->owned = text && copy;
	v->hash = hash_text(text, len);
	v->n = 0;
	for (s = v->hash; dict->slot[s & (dict->nslots - 1)] != 0; s++)
		;
	dict->slot[s & (dict->nslots - 1)] = code + 1;
	dict->nvalues++;
	m->block[dim].ncells = dict->nvalues;
	return code;
}

/*
 * Cell of a case in a block, or LATTICE_UNSEEN.
 */
int32_t
crm_lattice_find_cell(const Lattice *m, int32_t block, const int32_t *code)
{
	const LatticeBlock *b = &m->block[block];
	uint64_t key;

	if (b->second < 0)
		return code[b->first];
	if (code[b->first] < 0 || code[b->second] < 0 || b->nslots == 0)
		return LATTICE_UNSEEN;
	key = (uint64_t) code[b->first] << 32 | (uint32_t) code[b->second];
	for (uint32_t s = hash_key(key);; s++)
	{
		int32_t cell = b->slot[s & (b->nslots - 1)] - 1;

		if (cell < 0 || b->key[cell] == key)
			return cell;
	}
}

/*
 * Cell of a case in a block, added when the block has not met it. All codes must be known.
 */
int32_t
crm_lattice_add_cell(Lattice *m, int32_t block, const int32_t *code)
{
	LatticeBlock *b = &m->block[block];
	int32_t cell = crm_lattice_find_cell(m, block, code);
	uint32_t s;

	if (cell >= 0)
		return cell;
	if (b->ncells == b->room)
	{
		b->room = b->room ? b->room * 2 : 16;
		if (b->key)
			b->key = LATTICE_GROW(b->key, sizeof(uint64_t) * b->room);
		else
			b->key = LATTICE_ALLOC(sizeof(uint64_t) * b->room);
	}
	grow_slots(&b->slot, &b->nslots, b->ncells, NULL, b);
	cell = b->ncells++;
	b->key[cell] = (uint64_t) code[b->first] << 32 | (uint32_t) code[b->second];
	for (s = hash_key(b->key[cell]); b->slot[s & (b->nslots - 1)] != 0; s++)
		;
	b->slot[s & (b->nslots - 1)] = cell + 1;
	return cell;
}

/*
 * Does an expert have effects in this block?
 */
bool
crm_lattice_uses(const LatticeExpert *x, const LatticeBlock *b)
{
	if (x->only >= 0)
		return b->second < 0 && b->first == x->only;
	return b->second < 0 || x->order > 1;
}

/*
 * A further expert, all effects 0, over the cells that the lattice has now.
 */
LatticeExpert *
crm_lattice_add_expert(Lattice *m, int32_t order, int32_t only)
{
	LatticeExpert *x = &m->expert[m->nexperts++];

	x->order = order;
	x->only = only;
	x->prior = 1.0;
	x->tau = LATTICE_ALLOC(sizeof(double) * m->nblocks);
	x->cell = LATTICE_ALLOC(sizeof(LatticeCell *) * m->nblocks);
	x->ncells = LATTICE_ALLOC(sizeof(int32_t) * m->nblocks);
	for (int32_t c = 0; c < m->nblocks; c++)
	{
		const LatticeBlock *b = &m->block[c];

		x->tau[c] = b->second < 0 ? START_TAU_SINGLE : START_TAU_PAIR;
		if (crm_lattice_uses(x, b))
		{
			x->ncells[c] = b->ncells;
			x->cell[c] = LATTICE_ALLOC(sizeof(LatticeCell) * (b->ncells > 0 ? b->ncells : 1));
		}
	}
	return x;
}

/*
 * Find the cells of n coded rows in every block, adding those of pairs. code is per dimension, per row; the arrays of the
 * dimensions are kept as they are.
 */
void
crm_lattice_make_rows(Lattice *m, LatticeRows *rows, int32_t **code, int32_t n)
{
	rows->n = n;
	rows->cell = LATTICE_ALLOC(sizeof(int32_t *) * m->nblocks);
	for (int32_t c = 0; c < m->nblocks; c++)
	{
		const LatticeBlock *b = &m->block[c];

		if (b->second < 0)
		{
			rows->cell[c] = code[b->first];
			continue;
		}
		rows->cell[c] = LATTICE_ALLOC(sizeof(int32_t) * (n > 0 ? n : 1));
		LATTICE_TICK();
		for (int32_t i = 0; i < n; i++)
		{
			int32_t one[LATTICE_MAX_DIMS];

			one[b->first] = code[b->first][i];
			one[b->second] = code[b->second][i];
			rows->cell[c][i] = crm_lattice_add_cell(m, c, one);
		}
	}
}

/*
 * Sums of gradient and curvature by cell, while the odds of each row take the last block's steps (factor, NULL for none).
 * One pass over the rows a block is what the whole fit costs.
 */
static void
sum_slopes(Slope *slope, const int32_t *cell, double *odds, const double *factor, const int32_t *factor_cell, int32_t n,
		   const double *outcome, const double *weight)
{
	if (factor)
	{
		for (int32_t i = 0; i < n; i++)
		{
			double o = odds[i] * factor[factor_cell[i]];
			double p = 1.0 - 1.0 / (1.0 + o);
			Slope *s = &slope[cell[i]];

			odds[i] = o;
			s->g += weight[i] * (outcome[i] - p);
			s->h += weight[i] * p * (1.0 - p);
		}
	}
	else
	{
		for (int32_t i = 0; i < n; i++)
		{
			double p = 1.0 - 1.0 / (1.0 + odds[i]);
			Slope *s = &slope[cell[i]];

			s->g += weight[i] * (outcome[i] - p);
			s->h += weight[i] * p * (1.0 - p);
		}
	}
}

static double
clip_step(double step)
{
	if (step > MAX_STEP)
		return MAX_STEP;
	if (step < -MAX_STEP)
		return -MAX_STEP;
	return step;
}

/*
 * Count the cells of a block that have rows, and mark them; cells with a prior of their own are marked, not counted.
 */
static int32_t
mark_cells(char *mark, const int32_t *cell, int32_t n, const double *weight, int32_t block, const LatticePrior *prior,
		   int32_t nprior)
{
	int32_t count = 0;

	for (int32_t q = 0; q < nprior; q++)
		if (prior[q].dim == block)
			mark[prior[q].code] = CELL_OWN_PRIOR;
	for (int32_t i = 0; i < n; i++)
		if (weight[i] > 0 && mark[cell[i]] == CELL_ABSENT)
		{
			mark[cell[i]] = CELL_PRESENT;
			count++;
		}
	return count;
}

/*
 * Set the odds of every row from the effects as they are. Done once a sweep; in between the odds are carried by multiplication.
 */
static void
restart_odds(const Lattice *m, const LatticeExpert *x, const LatticeRows *rows, double *odds, int32_t n)
{
	for (int32_t i = 0; i < n; i++)
		odds[i] = x->b;
	for (int32_t c = 0; c < m->nblocks; c++)
	{
		const LatticeCell *cell = x->cell[c];
		const int32_t *at = rows->cell[c];

		if (cell)
			for (int32_t i = 0; i < n; i++)
				odds[i] += cell[at[i]].mu;
	}
	for (int32_t i = 0; i < n; i++)
		odds[i] = exp(odds[i]);
}

/*
 * Newton step of the intercept. It has one case of its own, half won, so that a single outcome does not run away.
 */
static void
step_intercept(LatticeExpert *x, double *odds, int32_t n, const double *outcome, const double *weight)
{
	double p = crm_lattice_sigmoid(x->b);
	Slope all = {0.5 - p, p * (1.0 - p)};
	double step;

	for (int32_t i = 0; i < n; i++)
	{
		p = 1.0 - 1.0 / (1.0 + odds[i]);
		all.g += weight[i] * (outcome[i] - p);
		all.h += weight[i] * p * (1.0 - p);
	}
	step = clip_step(all.g / all.h);
	x->b += step;
	x->bvar = 1.0 / all.h;
	step = exp(step);
	for (int32_t i = 0; i < n; i++)
		odds[i] *= step;
}

/*
 * Newton step of one cell around its prior's mean; answers the factor on its rows' odds.
 */
static double
step_cell(LatticeCell *cell, Slope slope, double mean, double precision)
{
	double h = slope.h + precision;
	double step = clip_step((slope.g - (cell->mu - mean) * precision) / h);

	cell->mu += step;
	cell->var = 1.0 / h;
	return exp(step);
}

/*
 * Fit one expert to the first nrows rows from scratch: outcome in 0..1 and weight of each. A row of weight 0 is as absent.
 *
 * A sweep: the intercept, then each block in order, a Newton step of at most 1 a cell; then the variances of the blocks by EM, except
 * after the last sweep, so that the cells' variances go with the tau that they were made with.
 */
void
crm_lattice_fit(const Lattice *m, LatticeExpert *x, const LatticeRows *rows, int32_t nrows, const double *outcome,
				const double *weight, int32_t sweeps, const LatticePrior *prior, int32_t nprior)
{
	double *odds = LATTICE_ALLOC(sizeof(double) * (nrows > 0 ? nrows : 1));
	char **mark = LATTICE_ALLOC(sizeof(char *) * m->nblocks);
	int32_t *present = LATTICE_ALLOC(sizeof(int32_t) * m->nblocks);
	int32_t widest = 1;
	double total = 0;
	double won = 0;
	Slope *slope;
	double *factor;

	for (int32_t i = 0; i < nrows; i++)
	{
		total += weight[i];
		won += weight[i] * outcome[i];
	}
	x->b = crm_lattice_logit((won + 0.5) / (total + 1.0));
	for (int32_t c = 0; c < m->nblocks; c++)
	{
		const LatticeBlock *b = &m->block[c];

		if (!x->cell[c])
			continue;
		if (b->ncells > widest)
			widest = b->ncells;
		x->tau[c] = b->second < 0 ? START_TAU_SINGLE : START_TAU_PAIR;
		memset(x->cell[c], 0, sizeof(LatticeCell) * b->ncells);
		mark[c] = LATTICE_ALLOC(b->ncells > 0 ? b->ncells : 1);
		present[c] = mark_cells(mark[c], rows->cell[c], nrows, weight, c, prior, nprior);
	}
	slope = LATTICE_ALLOC(sizeof(Slope) * widest);
	factor = LATTICE_ALLOC(sizeof(double) * widest);

	for (int32_t s = 0; s < sweeps; s++)
	{
		const int32_t *factor_cell = NULL;

		restart_odds(m, x, rows, odds, nrows);
		step_intercept(x, odds, nrows, outcome, weight);
		for (int32_t c = 0; c < m->nblocks; c++)
		{
			const LatticeBlock *b = &m->block[c];
			LatticeCell *cell = x->cell[c];
			double precision = 1.0 / x->tau[c];

			if (!cell || (b->second >= 0 && s < PAIRS_JOIN_AT && sweeps > PAIRS_JOIN_AT))
				continue;
			LATTICE_TICK();
			memset(slope, 0, sizeof(Slope) * b->ncells);
			sum_slopes(slope, rows->cell[c], odds, factor_cell ? factor : NULL, factor_cell, nrows, outcome, weight);
			for (int32_t k = 0; k < b->ncells; k++)
				if (mark[c][k] != CELL_OWN_PRIOR)
					factor[k] = step_cell(&cell[k], slope[k], 0, precision);
			for (int32_t q = 0; q < nprior; q++)
				if (prior[q].dim == c)
					factor[prior[q].code] =
						step_cell(&cell[prior[q].code], slope[prior[q].code], crm_lattice_logit(prior[q].p) - x->b,
								  prior[q].strength * prior[q].p * (1.0 - prior[q].p));
			factor_cell = rows->cell[c];
		}
		if (s == sweeps - 1)
			break;
		for (int32_t c = 0; c < m->nblocks; c++)
		{
			const LatticeBlock *b = &m->block[c];
			double squares = 0;

			if (!x->cell[c] || (b->second >= 0 && s < PAIRS_JOIN_AT))
				continue;
			for (int32_t k = 0; k < b->ncells; k++)
				if (mark[c][k] == CELL_PRESENT)
					squares += x->cell[c][k].mu * x->cell[c][k].mu + x->cell[c][k].var;
			x->tau[c] = (squares + TAU_PSEUDO) / (present[c] + 1);
		}
	}

	for (int32_t c = 0; c < m->nblocks; c++)
		if (mark[c])
			LATTICE_FREE(mark[c]);
	LATTICE_FREE(mark);
	LATTICE_FREE(present);
	LATTICE_FREE(slope);
	LATTICE_FREE(factor);
	LATTICE_FREE(odds);
}

/*
 * Weights of the experts in the pool, summing to 1: prior times exp(-decayed loss).
 */
void
crm_lattice_weights(const Lattice *m, double *weight)
{
	double least = INFINITY;
	double sum = 0;

	for (int32_t e = 0; e < m->nexperts; e++)
		if (m->expert[e].prior > 0 && m->expert[e].loss < least)
			least = m->expert[e].loss;
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		weight[e] = m->expert[e].prior > 0 ? m->expert[e].prior * exp(least - m->expert[e].loss) : 0;
		sum += weight[e];
	}
	for (int32_t e = 0; e < m->nexperts; e++)
		weight[e] /= sum;
}

/*
 * What one expert says of a case.
 */
LatticeEstimate
crm_lattice_expert_estimate(const Lattice *m, const LatticeExpert *x, const int32_t *cell)
{
	LatticeEstimate est = {0, x->b, x->bvar};

	for (int32_t c = 0; c < m->nblocks; c++)
	{
		if (!x->cell[c])
			continue;
		if (cell[c] >= 0 && cell[c] < x->ncells[c])
		{
			est.eta += x->cell[c][cell[c]].mu;
			est.var += x->cell[c][cell[c]].var;
		}
		else
			est.var += x->tau[c];
	}
	if (est.var > MAX_VARIANCE)
		est.var = MAX_VARIANCE;
	est.logit = est.eta / sqrt(1.0 + M_PI * est.var / 8.0);
	return est;
}

/*
 * What the pool says of a case. expert_logit, when not NULL, takes each expert's own.
 */
LatticeEstimate
crm_lattice_estimate(const Lattice *m, const int32_t *cell, double *expert_logit)
{
	LatticeEstimate pool = {0, 0, 0};
	double weight[LATTICE_MAX_EXPERTS];

	crm_lattice_weights(m, weight);
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		LatticeEstimate est;

		if (weight[e] == 0 && !expert_logit)
			continue;
		est = crm_lattice_expert_estimate(m, &m->expert[e], cell);
		if (expert_logit)
			expert_logit[e] = est.logit;
		pool.logit += weight[e] * est.logit;
		pool.eta += weight[e] * est.eta;
		pool.var += weight[e] * est.var;
	}
	return pool;
}

/*
 * Probability and its 90 % interval; n is the weight of the rows behind the model. The variances of the cells add up to a
 * little more than the truth once there are enough rows (measured on generated truth), hence the factor.
 */
void
crm_lattice_interval(LatticeEstimate est, double n, double *p, double *low, double *high)
{
	double half = INTERVAL_Z * sqrt((n < MANY_ROWS ? 1.0 : MANY_ROWS_FACTOR) * est.var);

	*p = crm_lattice_sigmoid(est.logit);
	*low = crm_lattice_sigmoid(fmin(est.eta - half, est.logit));
	*high = crm_lattice_sigmoid(fmax(est.eta + half, est.logit));
}

/*
 * Cells of a case in every block, from its codes.
 */
void
crm_lattice_cells(const Lattice *m, const int32_t *code, int32_t *cell)
{
	for (int32_t c = 0; c < m->nblocks; c++)
		cell[c] = crm_lattice_find_cell(m, c, code);
}

/*
 * Take one outcome into an expert: a step of an extended Kalman filter. All cells are known.
 */
void
crm_lattice_step(const Lattice *m, LatticeExpert *x, const int32_t *cell, double outcome, double weight)
{
	double eta = x->b;
	double var = x->bvar;
	double p;
	double r;
	double gain;
	double shrink;

	for (int32_t c = 0; c < m->nblocks; c++)
		if (x->cell[c])
		{
			eta += x->cell[c][cell[c]].mu;
			var += x->cell[c][cell[c]].var;
		}
	p = crm_lattice_sigmoid(eta);
	r = weight * p * (1.0 - p);
	gain = weight * (outcome - p) / (1.0 + var * r);
	shrink = r / (1.0 + var * r);
	x->b += x->bvar * gain;
	x->bvar *= 1.0 - x->bvar * shrink;
	for (int32_t c = 0; c < m->nblocks; c++)
		if (x->cell[c])
		{
			LatticeCell *k = &x->cell[c][cell[c]];

			k->mu += k->var * gain;
			k->var *= 1.0 - k->var * shrink;
		}
}

/*
 * Remember how wrong an expert was. weight is the row's share of its case, since rows of one case share one outcome.
 */
void
crm_lattice_add_loss(LatticeExpert *x, double loss, double weight)
{
	x->loss = x->loss * LOSS_DECAY + weight * loss;
}

/*
 * Make room for a cell that joined the lattice after the expert: mean 0, variance tau. The array is doubled, so that a stream of
 * new values costs no more than it has to; cells beyond the lattice's count are prepared, not used.
 */
static void
reach_cell(LatticeExpert *x, int32_t block, int32_t cell)
{
	int32_t room = x->ncells[block];

	if (cell < room)
		return;
	room = cell < 8 ? 16 : cell * 2;
	x->cell[block] = LATTICE_GROW(x->cell[block], sizeof(LatticeCell) * room);
	for (int32_t k = x->ncells[block]; k < room; k++)
	{
		x->cell[block][k].mu = 0;
		x->cell[block][k].var = x->tau[block];
	}
	x->ncells[block] = room;
}

/*
 * Room for what one outcome will change.
 */
LatticeUndo *
crm_lattice_create_undo(const Lattice *m)
{
	size_t experts_at = (sizeof(LatticeUndo) + 15) & ~(size_t) 15;
	size_t cells_at = experts_at + sizeof(LatticeExpertBefore) * m->nexperts;
	size_t blocks_at = cells_at + sizeof(LatticeCell) * m->nblocks * m->nexperts;
	char *room = LATTICE_ALLOC(blocks_at + (sizeof(int32_t) + sizeof(bool)) * m->nblocks);
	LatticeUndo *undo = (LatticeUndo *) room;

	undo->expert = (LatticeExpertBefore *) (room + experts_at);
	for (int32_t e = 0; e < m->nexperts; e++)
		undo->expert[e].cell = (LatticeCell *) (room + cells_at) + (size_t) m->nblocks * e;
	undo->cell = (int32_t *) (room + blocks_at);
	undo->is_added = (bool *) (undo->cell + m->nblocks);
	return undo;
}

/*
 * Remember an expert's numbers that an outcome in these cells changes.
 */
static void
keep_expert(const Lattice *m, const LatticeExpert *x, const int32_t *cell, LatticeExpertBefore *before)
{
	before->loss = x->loss;
	before->b = x->b;
	before->bvar = x->bvar;
	for (int32_t c = 0; c < m->nblocks; c++)
		if (x->cell[c])
			before->cell[c] = x->cell[c][cell[c]];
}

/*
 * Take one outcome into every expert of a model that stands alone, growing it by the values and cells that it has not met. weight is
 * that of an online step: the root of the row's share of its case. undo, when not NULL, takes what crm_lattice_take_back needs.
 */
void
crm_lattice_learn(Lattice *m, const LatticeText *value, double outcome, double weight, LatticeUndo *undo)
{
	int32_t code[LATTICE_MAX_DIMS];
	int32_t cell[LATTICE_MAX_BLOCKS];

	for (int32_t d = 0; d < m->ndims; d++)
	{
		if (undo)
			undo->nvalues[d] = m->dict[d].nvalues;
		code[d] = crm_lattice_add_value(m, d, value[d].text, value[d].len, true);
	}
	for (int32_t c = 0; c < m->nblocks; c++)
	{
		int32_t before = m->block[c].ncells;

		cell[c] = LATTICE_UNSEEN;
		for (int32_t e = 0; e < m->nexperts; e++)
			if (m->expert[e].cell[c])
			{
				if (cell[c] < 0)
					cell[c] = crm_lattice_add_cell(m, c, code);
				reach_cell(&m->expert[e], c, cell[c]);
			}
		if (undo)
		{
			undo->cell[c] = cell[c];
			undo->is_added[c] = m->block[c].second >= 0 && m->block[c].ncells > before;
		}
	}
	if (undo)
	{
		undo->n = m->n;
		for (int32_t d = 0; d < m->ndims; d++)
		{
			undo->code[d] = code[d];
			undo->value_n[d] = m->dict[d].value[code[d]].n;
		}
		for (int32_t e = 0; e < m->nexperts; e++)
			keep_expert(m, &m->expert[e], cell, &undo->expert[e]);
	}
	for (int32_t d = 0; d < m->ndims; d++)
		m->dict[d].value[code[d]].n += weight;
	m->n += weight;
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		LatticeExpert *x = &m->expert[e];

		crm_lattice_add_loss(x, crm_lattice_loss(crm_lattice_expert_estimate(m, x, cell).logit, outcome),
							 weight * weight);
		crm_lattice_step(m, x, cell, outcome, weight);
	}
}

/*
 * Forget the entry added last to a hash: nothing that was added before it was placed around it, so its slot is simply free again.
 */
static void
free_last_slot(int32_t *slot, int32_t nslots, uint32_t hash, int32_t entry)
{
	uint32_t s = hash;

	while (slot[s & (nslots - 1)] != entry + 1)
		s++;
	slot[s & (nslots - 1)] = 0;
}

/*
 * Take back the outcome that a model learned last. Room that it grew by is kept; everything that is stored is as it was.
 */
void
crm_lattice_take_back(Lattice *m, const LatticeUndo *undo)
{
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		LatticeExpert *x = &m->expert[e];

		x->loss = undo->expert[e].loss;
		x->b = undo->expert[e].b;
		x->bvar = undo->expert[e].bvar;
		for (int32_t c = 0; c < m->nblocks; c++)
			if (x->cell[c])
				x->cell[c][undo->cell[c]] = undo->expert[e].cell[c];
	}
	for (int32_t c = 0; c < m->nblocks; c++)
		if (undo->is_added[c])
		{
			LatticeBlock *b = &m->block[c];

			b->ncells--;
			free_last_slot(b->slot, b->nslots, hash_key(b->key[b->ncells]), b->ncells);
		}
	for (int32_t d = 0; d < m->ndims; d++)
	{
		LatticeDict *dict = &m->dict[d];

		dict->value[undo->code[d]].n = undo->value_n[d];
		if (dict->nvalues > undo->nvalues[d])
		{
			LatticeValue *v = &dict->value[--dict->nvalues];

			free_last_slot(dict->slot, dict->nslots, v->hash, dict->nvalues);
			if (v->owned)
				LATTICE_FREE((char *) v->text);
			m->block[d].ncells = dict->nvalues;
		}
	}
	m->n = undo->n;
}

/*
 * What each dimension adds to the pooled logit: its own cell and half of each pair that it is part of. Answers the
 * intercept's part: with it the contributions sum to the logit.
 */
double
crm_lattice_contributions(const Lattice *m, const int32_t *cell, double *contribution)
{
	double weight[LATTICE_MAX_EXPERTS];
	double base = 0;

	memset(contribution, 0, sizeof(double) * m->ndims);
	crm_lattice_weights(m, weight);
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		const LatticeExpert *x = &m->expert[e];
		LatticeEstimate est;
		double scale;

		if (weight[e] == 0)
			continue;
		est = crm_lattice_expert_estimate(m, x, cell);
		scale = weight[e] / sqrt(1.0 + M_PI * est.var / 8.0);
		base += scale * x->b;
		for (int32_t c = 0; c < m->nblocks; c++)
		{
			const LatticeBlock *b = &m->block[c];

			if (!x->cell[c] || cell[c] < 0 || cell[c] >= x->ncells[c])
				continue;
			if (b->second < 0)
				contribution[b->first] += scale * x->cell[c][cell[c]].mu;
			else
			{
				contribution[b->first] += scale * x->cell[c][cell[c]].mu / 2.0;
				contribution[b->second] += scale * x->cell[c][cell[c]].mu / 2.0;
			}
		}
	}
	return base;
}

/*
 * Make the effects of some values of a dimension rise in the order given, in every expert: neighbours that fall are
 * pooled at their mean, weighted by precision (isotonic regression by pooling adjacent violators). Pairs are left as they are,
 * so this is for models of order 1.
 */
void
crm_lattice_make_monotone(Lattice *m, int32_t dim, const int32_t *code, int32_t n)
{
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		LatticeCell *cell = m->expert[e].cell[dim];
		double mean[LATTICE_MAX_ORDERED];
		double weight[LATTICE_MAX_ORDERED];
		int32_t size[LATTICE_MAX_ORDERED];
		int32_t pools = 0;
		int32_t at = 0;

		if (!cell)
			continue;
		for (int32_t i = 0; i < n; i++)
		{
			mean[pools] = cell[code[i]].mu;
			weight[pools] = 1.0 / cell[code[i]].var;
			size[pools++] = 1;
			while (pools > 1 && mean[pools - 2] > mean[pools - 1])
			{
				double w = weight[pools - 2] + weight[pools - 1];

				mean[pools - 2] = (mean[pools - 2] * weight[pools - 2] + mean[pools - 1] * weight[pools - 1]) / w;
				weight[pools - 2] = w;
				size[pools - 2] += size[pools - 1];
				pools--;
			}
		}
		for (int32_t k = 0; k < pools; k++)
			for (int32_t i = 0; i < size[k]; i++)
				cell[code[at++]].mu = mean[k];
	}
}

/*
 * Forget the experts that have no weight in the pool.
 */
void
crm_lattice_drop_idle_experts(Lattice *m)
{
	int32_t kept = 0;

	for (int32_t e = 0; e < m->nexperts; e++)
		if (m->expert[e].prior > 0)
			m->expert[kept++] = m->expert[e];
	m->nexperts = kept;
}
