/*
 * prequential.c
 *		The pool of lattice models through time: refits, censoring of open cases, online steps, weights of the experts.
 *
 * At a refit at time T the closed rows are those with labelled < T; rows entered before T and not labelled yet are open, neither
 * won nor lost. An open row enters as a fraction r = p Sw(a) / (p Sw(a) + (1 - p) Sl(a)): p of an order 1 fit to the closed
 * rows, a its age, Sw and Sl the shares of won and lost rows that take longer than a. The delays are known only up to each row's age (right truncation), so
 * their distribution is estimated by the reverse-time product limit (Lagakos, Barraj, De Gruttola, Biometrika 1988). Without all
 * this, the rows that closed fast would speak for all recent ones.
 *
 * Between refits a row is predicted from the rows with labelled < its entered, each taken in order (labelled, id) by an online
 * step. No prediction uses an outcome that was not known at its time.
 *
 * What this file does not do: read rows from anywhere. No locks. Memory: the caller's context, freed as far as it grows with rows.
 */
#include "odds/prequential.h"

#include <math.h>
#ifdef CRM_STANDALONE
#define SORT_DOUBLES(a, n) qsort(a, n, sizeof(double), compare_doubles)
#else
#define SORT_DOUBLES(a, n) pg_qsort(a, n, sizeof(double), compare_doubles)
#endif

#define HALF_LIFE_SPANS 6.0 /* half-life of the recent experts: a sixth of the time seen */
#define RECENT_ROWS 200.0   /* what a recent expert must weigh to be heard */
#define SINGLE_PRIOR 0.1

/* experts of the pool: both orders, all time and recent; after them each dimension alone */
#define EXPERT_ALL_1 0
#define EXPERT_ALL_2 1
#define EXPERT_RECENT_1 2
#define EXPERT_RECENT_2 3
#define EXPERT_SINGLES 4

/* Delays of one outcome, longest first, and the share of rows with a delay at most so long. */
typedef struct DelayCurve
{
	int32_t n;
	double *delay;
	double *share;
} DelayCurve;

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

/*
 * Distribution of the delays of won (outcome at least one half) or lost rows closed before t, among the first n rows.
 */
static void
fit_delays(DelayCurve *curve, const PrequentialRows *rows, int32_t n, double t, bool won)
{
	double *delay = LATTICE_ALLOC(sizeof(double) * (n + 1));
	double *age = LATTICE_ALLOC(sizeof(double) * (n + 1));
	double share = 1.0;
	int32_t m = 0;
	int32_t at;

	for (int32_t i = 0; i < n; i++)
		if (rows->labelled[i] < t && (rows->outcome[i] >= 0.5) == won)
		{
			delay[m] = rows->labelled[i] - rows->entered[i];
			age[m++] = t - rows->entered[i];
		}
	SORT_DOUBLES(delay, m);
	SORT_DOUBLES(age, m);
	curve->n = 0;
	curve->delay = LATTICE_ALLOC(sizeof(double) * (m + 1));
	curve->share = LATTICE_ALLOC(sizeof(double) * (m + 1));
	at = m;
	for (int32_t older = m; at > 0;)
	{
		double s = delay[at - 1];
		int32_t upto = at;

		while (at > 0 && delay[at - 1] == s)
			at--;
		while (older > 0 && age[older - 1] >= s)
			older--;
		curve->delay[curve->n] = s;
		curve->share[curve->n++] = share;
		/* at risk: delay at most s, and old enough to have shown a delay of s */
		share *= 1.0 - (double) (upto - at) / (upto - older);
	}
	LATTICE_FREE(delay);
	LATTICE_FREE(age);
}

/*
 * Share of rows whose delay is longer than an age.
 */
static double
longer_than(const DelayCurve *curve, double age)
{
	int32_t low = 0;
	int32_t high = curve->n;

	while (low < high)
	{
		int32_t mid = (low + high) / 2;

		if (curve->delay[mid] <= age)
			high = mid;
		else
			low = mid + 1;
	}
	return low == curve->n ? 1.0 : 1.0 - curve->share[low];
}

static void
cells_of_row(const Lattice *m, const LatticeRows *cells, int32_t row, int32_t *cell)
{
	for (int32_t c = 0; c < m->nblocks; c++)
		cell[c] = cells->cell[c][row];
}

/*
 * Fit all experts to what was known at time t: the first n rows entered before it.
 */
static void
refit(Lattice *m, const LatticeRows *cells, const PrequentialRows *rows, int32_t n, double t, const LatticePrior *prior,
	  int32_t nprior, double *outcome, double *weight, double *recent)
{
	double half_life = n > 0 ? (t - rows->entered[0]) / HALF_LIFE_SPANS : 0;
	double recent_rows = 0;
	int32_t cell[LATTICE_MAX_BLOCKS];
	bool any_open = false;

	m->n = 0;
	for (int32_t i = 0; i < n; i++)
	{
		bool open = !(rows->labelled[i] < t);

		outcome[i] = open ? 0.5 : rows->outcome[i];
		weight[i] = open ? 0 : 1;
		m->n += weight[i];
		any_open = any_open || open;
	}
	if (any_open)
	{
		LatticeExpert *first = &m->expert[EXPERT_ALL_1];
		DelayCurve won;
		DelayCurve lost;

		crm_lattice_fit(m, first, cells, n, outcome, weight, LATTICE_DEFAULT_SWEEPS, prior, nprior);
		fit_delays(&won, rows, n, t, true);
		fit_delays(&lost, rows, n, t, false);
		for (int32_t i = 0; i < n; i++)
		{
			double p;
			double w;
			double l;

			if (weight[i] > 0)
				continue;
			cells_of_row(m, cells, i, cell);
			p = crm_lattice_sigmoid(crm_lattice_expert_estimate(m, first, cell).logit);
			w = p * longer_than(&won, t - rows->entered[i]);
			l = (1.0 - p) * longer_than(&lost, t - rows->entered[i]);
			outcome[i] = w + l > 0 ? w / (w + l) : p;
		}
		for (int32_t i = 0; i < n; i++)
			weight[i] = 1;
		LATTICE_FREE(won.delay);
		LATTICE_FREE(won.share);
		LATTICE_FREE(lost.delay);
		LATTICE_FREE(lost.share);
	}
	for (int32_t i = 0; i < n; i++)
	{
		recent[i] = half_life > 0 ? weight[i] * exp2(-(t - rows->entered[i]) / half_life) : weight[i];
		recent_rows += recent[i];
	}
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		bool is_recent = e == EXPERT_RECENT_1 || e == EXPERT_RECENT_2;

		if (is_recent)
			m->expert[e].prior = recent_rows >= RECENT_ROWS ? 1.0 : 0.0;
		if (is_recent && recent_rows < RECENT_ROWS)
			crm_lattice_fit(m, &m->expert[e], cells, 0, outcome, weight, 1, NULL, 0);
		else
			crm_lattice_fit(m, &m->expert[e], cells, n, outcome, is_recent ? recent : weight, LATTICE_DEFAULT_SWEEPS,
							prior, nprior);
	}
}

/*
 * Of the single dimensions only the best so far is in the pool.
 */
static void
choose_single(Lattice *m)
{
	int32_t best = EXPERT_SINGLES;

	for (int32_t e = EXPERT_SINGLES; e < m->nexperts; e++)
		if (m->expert[e].loss < m->expert[best].loss)
			best = e;
	for (int32_t e = EXPERT_SINGLES; e < m->nexperts; e++)
		m->expert[e].prior = e == best ? SINGLE_PRIOR : 0.0;
}

typedef struct Run
{
	Lattice *m;
	const LatticeRows *cells;
	const PrequentialRows *rows;
	const PrequentialScore *score;
	float *said;        /* logit that each expert gave each row */
	int32_t next_label; /* in rows->by_label */
} Run;

/*
 * Take the outcomes that became known before a time: every expert answers for what it said of the row, and learns from it unless the
 * refit at that time is about to.
 */
static void
take_outcomes(Run *run, double until, bool learn)
{
	const PrequentialRows *rows = run->rows;
	Lattice *m = run->m;
	int32_t cell[LATTICE_MAX_BLOCKS];

	while (run->next_label < rows->n && rows->labelled[rows->by_label[run->next_label]] < until)
	{
		int32_t k = rows->by_label[run->next_label++];

		LATTICE_TICK();
		if (!isnan(run->score[k].p))
			for (int32_t e = 0; e < m->nexperts; e++)
				crm_lattice_add_loss(&m->expert[e],
									 crm_lattice_loss(run->said[(size_t) k * m->nexperts + e], rows->outcome[k]),
									 rows->share[k]);
		if (!learn)
			continue;
		cells_of_row(m, run->cells, k, cell);
		for (int32_t e = 0; e < m->nexperts; e++)
			crm_lattice_step(m, &m->expert[e], cell, rows->outcome[k], sqrt(rows->share[k]));
		m->n += 1;
	}
}

/*
 * Run the rows through time. m has the values and cells of all rows and no experts yet; afterwards its experts are as they were after
 * the last row or refit, whichever came later. refit_at is in rising order; score has room for every row.
 */
void
crm_prequential_run(Lattice *m, const LatticeRows *cells, const PrequentialRows *rows, const double *refit_at,
					int32_t nrefits, const LatticePrior *prior, int32_t nprior, PrequentialScore *score)
{
	int32_t n = rows->n;
	double *outcome = LATTICE_ALLOC(sizeof(double) * (n + 1));
	double *weight = LATTICE_ALLOC(sizeof(double) * (n + 1));
	double *recent = LATTICE_ALLOC(sizeof(double) * (n + 1));
	int32_t nexperts = EXPERT_SINGLES + m->ndims;
	int32_t next_refit = 0;
	Run run = {m, cells, rows, score, NULL, 0};

	crm_lattice_add_expert(m, 1, -1);
	crm_lattice_add_expert(m, 2, -1);
	crm_lattice_add_expert(m, 1, -1);
	crm_lattice_add_expert(m, 2, -1);
	for (int32_t d = 0; d < m->ndims; d++)
		crm_lattice_add_expert(m, 1, d);
	run.said = LATTICE_ALLOC(sizeof(float) * nexperts * (n + 1));
	for (int32_t i = 0; i < n; i++)
		score[i].p = score[i].low = score[i].high = NAN;

	/* one step beyond the last row, for a refit after it */
	for (int32_t i = 0; i <= n; i++)
	{
		double now = i < n ? rows->entered[i] : INFINITY;
		int32_t cell[LATTICE_MAX_BLOCKS];
		double logit[LATTICE_MAX_EXPERTS];

		LATTICE_TICK();
		if (next_refit < nrefits && refit_at[next_refit] <= now)
		{
			int32_t known = i;
			double t;

			/* of refits between two rows only the last one matters */
			while (next_refit + 1 < nrefits && refit_at[next_refit + 1] <= now)
				next_refit++;
			t = refit_at[next_refit++];
			take_outcomes(&run, t, false);
			while (known > 0 && !(rows->entered[known - 1] < t))
				known--;
			refit(m, cells, rows, known, t, prior, nprior, outcome, weight, recent);
		}
		if (i == n)
			break;
		take_outcomes(&run, now, next_refit > 0);
		if (rows->scored[i] && next_refit > 0)
		{
			LatticeEstimate est;

			choose_single(m);
			cells_of_row(m, cells, i, cell);
			est = crm_lattice_estimate(m, cell, logit);
			for (int32_t e = 0; e < nexperts; e++)
				run.said[(size_t) i * nexperts + e] = (float) logit[e];
			crm_lattice_interval(est, m->n, &score[i].p, &score[i].low, &score[i].high);
		}
	}
	choose_single(m);
	LATTICE_FREE(run.said);
	LATTICE_FREE(recent);
	LATTICE_FREE(weight);
	LATTICE_FREE(outcome);
}
