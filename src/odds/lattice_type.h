/*
 * lattice_type.h
 *		Between SQL values and the lattice kernel, for the files that offer it to SQL.
 */
#ifndef CRM_ODDS_LATTICE_TYPE_H
#define CRM_ODDS_LATTICE_TYPE_H

#include "postgres.h"

#include "fmgr.h"
#include "odds/lattice.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/* A prior as the options give it: the value is not coded yet. */
typedef struct LatticeFitPrior
{
	int dim; /* from 0 */
	LatticeText value;
	double p;
	double strength;
} LatticeFitPrior;

typedef struct LatticeFitOptions
{
	int order;
	int sweeps;
	int npriors;
	LatticeFitPrior *prior;
} LatticeFitOptions;

extern int crm_lattice_take_dims(ArrayType *dims, LatticeText *value);
extern void crm_lattice_check_ndims(int ndims);
extern void crm_lattice_check_outcome(double outcome);
extern void crm_lattice_check_weight(double weight);
extern Lattice *crm_lattice_parse_bytes(const char *bytes, Size len);
extern Size crm_lattice_flat_size(const Lattice *m);
extern bytea *crm_lattice_flatten(const Lattice *m);
extern void crm_lattice_read_options(Jsonb *json, int ndims, LatticeFitOptions *options);
extern Lattice *crm_lattice_sorted(const Lattice *m, int32 **rank);

#endif /* CRM_ODDS_LATTICE_TYPE_H */
