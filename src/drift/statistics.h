/*
 * statistics.h
 *		Statistics that tell whether data or a model's errors have changed.
 */
#ifndef CRM_DRIFT_STATISTICS_H
#define CRM_DRIFT_STATISTICS_H

#include "postgres.h"

extern double crm_drift_psi(const double *expected, const double *actual, int nbins, double *floor);
extern double crm_drift_ks(double *a, int na, double *b, int nb, double *p);

#endif /* CRM_DRIFT_STATISTICS_H */
