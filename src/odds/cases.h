/*
 * cases.h
 *		Rows of cases collected from SQL, and run through time by the prequential kernel.
 */
#ifndef CRM_ODDS_CASES_H
#define CRM_ODDS_CASES_H

#include "odds/lattice_type.h"
#include "odds/prequential.h"

typedef struct CaseRows
{
	Lattice *values; /* its dictionaries alone are used: values in order of arrival */
	Lattice *cases;  /* one dimension: the cases */
	int64 n;
	int64 room;
	bool numeric_ids;
	const char **id;
	int64 *id_number;
	int32 *case_code; /* -1: a case of its own */
	double *entered;
	double *labelled; /* infinity while open */
	double *outcome;
	int32 *block;
	int32 *code; /* n x dims */
} CaseRows;

/* The rows in order, run through time. */
typedef struct CaseRun
{
	Lattice *model;
	int32 *order;            /* of the collected rows, by (entered, id) */
	PrequentialScore *score; /* in that order */
} CaseRun;

extern CaseRows *crm_cases_create(int ndims, bool numeric_ids);
extern void crm_cases_add(CaseRows *rows, const char *id, const LatticeText *case_id, const LatticeText *value,
						  double entered, double labelled, double outcome, int32 block);
extern void crm_cases_run(const CaseRows *rows, const double *refit_at, int nrefits, const LatticePrior *prior,
						  int nprior, CaseRun *run);

#endif /* CRM_ODDS_CASES_H */
