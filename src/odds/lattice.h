/*
 * lattice.h
 *		The lattice model: a logistic model with one shrunken effect for every value of every dimension and of every pair of
 *		dimensions (crossed random effects, fitted by empirical Bayes).
 *
 * Everything here is plain C: no catalogs, no SPI, no elog. Built with CRM_STANDALONE it needs no server at all, which is how
 * the fuzzer runs it. Memory comes from the caller's context (malloc when standalone) and is freed with it.
 */
#ifndef CRM_ODDS_LATTICE_H
#define CRM_ODDS_LATTICE_H

#ifdef CRM_STANDALONE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
extern void *crm_lattice_standalone_alloc(size_t size);
extern void *crm_lattice_standalone_grow(void *p, size_t size);
extern void crm_lattice_standalone_free(void *p);
#define LATTICE_ALLOC(size) crm_lattice_standalone_alloc(size)
#define LATTICE_GROW(p, size) crm_lattice_standalone_grow(p, size)
#define LATTICE_FREE(p) crm_lattice_standalone_free(p)
#define LATTICE_TICK() ((void) 0)
#else
#include "postgres.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#define LATTICE_ALLOC(size) MemoryContextAllocExtended(CurrentMemoryContext, (size), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO)
#define LATTICE_GROW(p, size) repalloc_huge((p), (size))
#define LATTICE_FREE(p) pfree(p)
#define LATTICE_TICK() CHECK_FOR_INTERRUPTS()
#endif

#define LATTICE_MAX_DIMS 24
#define LATTICE_MAX_BLOCKS (LATTICE_MAX_DIMS + LATTICE_MAX_DIMS * (LATTICE_MAX_DIMS - 1) / 2)
#define LATTICE_MAX_EXPERTS 32
#define LATTICE_MAX_ORDERED 100
#define LATTICE_MAX_VALUES 0x7ffffff0
#define LATTICE_UNSEEN (-1) /* code of a value, or index of a cell, that the model has not met */
#define LATTICE_DEFAULT_SWEEPS 20
#define LATTICE_MIN_SWEEPS 3
#define LATTICE_MAX_SWEEPS 100

/* A value of a case in one dimension, as it is given. */
typedef struct LatticeText
{
	const char *text; /* NULL for NULL; not terminated */
	int32_t len;
} LatticeText;

/* A value of a dimension. A NULL is a value of its own. */
typedef struct LatticeValue
{
	const char *text; /* NULL for the value NULL; not terminated */
	int32_t len;
	uint32_t hash;
	double n;   /* weight of the rows that had it */
	bool owned; /* the text is a copy of our own */
} LatticeValue;

/* The values of one dimension, numbered in order of arrival, found by a hash with open addressing. */
typedef struct LatticeDict
{
	int32_t nvalues;
	int32_t room;
	LatticeValue *value;
	int32_t *slot;  /* code + 1, 0 for empty */
	int32_t nslots; /* power of two */
} LatticeDict;

/* The cells of a dimension (second < 0: the cell of a value is its code) or of a pair of dimensions (found by hash). */
typedef struct LatticeBlock
{
	int32_t first;
	int32_t second;
	int32_t ncells;
	int32_t room;
	uint64_t *key; /* pairs only: code of first << 32 | code of second */
	int32_t *slot; /* pairs only: cell + 1, 0 for empty */
	int32_t nslots;
} LatticeBlock;

/* Posterior of one cell's effect, as a normal distribution. */
typedef struct LatticeCell
{
	double mu;
	double var;
} LatticeCell;

/* One fitted model over the cells of its lattice. */
typedef struct LatticeExpert
{
	int32_t order; /* 1: dimensions, 2: and pairs */
	int32_t only;  /* >= 0: this single dimension alone */
	double prior;  /* weight in the pool before any evidence, 0 leaves it out */
	double loss;   /* decayed prequential loss */
	double b;      /* intercept */
	double bvar;
	double *tau;        /* variance of the effects, per block */
	LatticeCell **cell; /* per block, NULL where the expert does not use it */
	int32_t *ncells;    /* per block: cells in the array; those beyond are unseen */
} LatticeExpert;

typedef struct Lattice
{
	int32_t ndims;
	int32_t nblocks; /* every dimension in order, then every pair in order */
	int32_t nexperts;
	double n; /* weight of the rows behind it */
	LatticeDict *dict;
	LatticeBlock *block;
	LatticeExpert *expert;
} Lattice;

/* Prior of one value's effect: the probability that the value alone would give, and how many cases that is worth. */
typedef struct LatticePrior
{
	int32_t dim; /* from 0 */
	int32_t code;
	double p;
	double strength;
} LatticePrior;

/* Rows ready to be fitted: outcome and weight of each, and its cell in every block. */
typedef struct LatticeRows
{
	int32_t n;
	int32_t **cell; /* per block, per row */
} LatticeRows;

/* An expert as it was before it took an outcome. */
typedef struct LatticeExpertBefore
{
	double loss;
	double b;
	double bvar;
	LatticeCell *cell; /* per block: the cell of the case */
} LatticeExpertBefore;

/* What one outcome changed in a model, enough to take it back. All in one piece of memory. */
typedef struct LatticeUndo
{
	double n;
	int32_t nvalues[LATTICE_MAX_DIMS]; /* before */
	int32_t code[LATTICE_MAX_DIMS];
	double value_n[LATTICE_MAX_DIMS];
	int32_t *cell;  /* per block, LATTICE_UNSEEN where no expert uses it */
	bool *is_added; /* per block: the cell of a pair is new */
	LatticeExpertBefore *expert;
} LatticeUndo;

typedef struct LatticeEstimate
{
	double logit; /* pooled, each expert's logit divided for its own uncertainty */
	double eta;   /* pooled, undivided: centre of the interval */
	double var;   /* pooled variance of eta */
} LatticeEstimate;

extern double crm_lattice_sigmoid(double x);
extern double crm_lattice_logit(double p);
extern double crm_lattice_loss(double logit, double outcome);

extern Lattice *crm_lattice_create(int32_t ndims);
extern int32_t crm_lattice_find_value(const Lattice *m, int32_t dim, const char *text, int32_t len);
extern int32_t crm_lattice_add_value(Lattice *m, int32_t dim, const char *text, int32_t len, bool copy);
extern int32_t crm_lattice_find_cell(const Lattice *m, int32_t block, const int32_t *code);
extern int32_t crm_lattice_add_cell(Lattice *m, int32_t block, const int32_t *code);
extern LatticeExpert *crm_lattice_add_expert(Lattice *m, int32_t order, int32_t only);
extern bool crm_lattice_uses(const LatticeExpert *x, const LatticeBlock *b);
extern void crm_lattice_make_rows(Lattice *m, LatticeRows *rows, int32_t **code, int32_t n);

extern void crm_lattice_fit(const Lattice *m, LatticeExpert *x, const LatticeRows *rows, int32_t nrows,
							const double *outcome, const double *weight, int32_t sweeps, const LatticePrior *prior,
							int32_t nprior);
extern void crm_lattice_weights(const Lattice *m, double *weight);
extern LatticeEstimate crm_lattice_expert_estimate(const Lattice *m, const LatticeExpert *x, const int32_t *cell);
extern LatticeEstimate crm_lattice_estimate(const Lattice *m, const int32_t *cell, double *expert_logit);
extern void crm_lattice_interval(LatticeEstimate est, double n, double *p, double *low, double *high);
extern void crm_lattice_cells(const Lattice *m, const int32_t *code, int32_t *cell);
extern void crm_lattice_step(const Lattice *m, LatticeExpert *x, const int32_t *cell, double outcome, double weight);
extern void crm_lattice_add_loss(LatticeExpert *x, double loss, double weight);
extern LatticeUndo *crm_lattice_create_undo(const Lattice *m);
extern void crm_lattice_learn(Lattice *m, const LatticeText *value, double outcome, double weight, LatticeUndo *undo);
extern void crm_lattice_take_back(Lattice *m, const LatticeUndo *undo);
extern double crm_lattice_contributions(const Lattice *m, const int32_t *cell, double *contribution);

extern void crm_lattice_make_monotone(Lattice *m, int32_t dim, const int32_t *code, int32_t n);
extern void crm_lattice_drop_idle_experts(Lattice *m);

/* blob.c */
extern size_t crm_lattice_blob_size(const Lattice *m);
extern void crm_lattice_blob_write(const Lattice *m, char *to);
extern void crm_lattice_blob_seal(char *blob, size_t len);
extern const char *crm_lattice_blob_read(const char *from, size_t len, Lattice **m);

#endif /* CRM_ODDS_LATTICE_H */
