/*
 * lattice_ref.h
 *		Models in memory: a value of crm.lattice that is parsed already.
 */
#ifndef CRM_ODDS_LATTICE_REF_H
#define CRM_ODDS_LATTICE_REF_H

#include "postgres.h"

#include "access/detoast.h"
#include "odds/lattice.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#define LATTICE_HEAD_SIZE 24 /* bytes of a blob's head that hold its checksum and length */

typedef struct LatticeRef LatticeRef;

/* The stored model that a call site used last. Zeroed at first. */
typedef struct LatticeRefKey
{
	LatticeRef *ref; /* NULL before the first */
	bool toasted;    /* known by its toast pointer, else by its head */
	struct varatt_external toast;
	char head[LATTICE_HEAD_SIZE];
} LatticeRefKey;

extern LatticeRef *crm_lattice_ref_get(Datum value, LatticeRefKey *last, MemoryContext keep);
extern LatticeRef *crm_lattice_ref_known(Datum value);
extern Datum crm_lattice_ref_datum(LatticeRef *ref);
extern Lattice *crm_lattice_ref_model(LatticeRef *ref);
extern Datum crm_lattice_ref_learn(LatticeRef *ref, bool in_place, const LatticeText *value, double outcome,
								   double weight);

#endif /* CRM_ODDS_LATTICE_REF_H */
