/*
 * Similarity kernels: see sim.c.
 */
#ifndef CRM_MATCH_SIM_H
#define CRM_MATCH_SIM_H

#include <stddef.h>
#include <stdint.h>

/* Longer texts are compared by their first CRM_SIM_MAX units. */
#define CRM_SIM_MAX 64

extern double crm_jaro_winkler(const uint16_t *a, size_t n, const uint16_t *b, size_t m);
extern int crm_osa_distance(const uint16_t *a, size_t n, const uint16_t *b, size_t m);

#endif
