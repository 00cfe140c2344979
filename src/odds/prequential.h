/*
 * prequential.h
 *		Running a pool of lattice models through time: predict before the outcome is known, refit at given times, learn online between.
 */
#ifndef CRM_ODDS_PREQUENTIAL_H
#define CRM_ODDS_PREQUENTIAL_H

#include "odds/lattice.h"

/* Rows in order of (entered, id). A row of a case that is still open has labelled = infinity. */
typedef struct PrequentialRows
{
	int32_t n;
	const double *entered;  /* when the row's facts held */
	const double *labelled; /* when its outcome became known */
	const double *outcome;
	const double *share;     /* 1 / rows of its case */
	const bool *scored;      /* to be predicted */
	const int32_t *by_label; /* the rows in order of (labelled, id) */
} PrequentialRows;

/* A prediction; p is NaN for a row that is not scored. */
typedef struct PrequentialScore
{
	double p;
	double low;
	double high;
} PrequentialScore;

extern void crm_prequential_run(Lattice *m, const LatticeRows *cells, const PrequentialRows *rows,
								const double *refit_at, int32_t nrefits, const LatticePrior *prior, int32_t nprior,
								PrequentialScore *score);

#endif /* CRM_ODDS_PREQUENTIAL_H */
