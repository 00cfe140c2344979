/*
 * statistics.c
 *		Population stability index and the two-sample Kolmogorov-Smirnov test.
 *
 * What this file does not do: decide what is compared with what. Pure C: no catalogs, no locks, no memory of its own.
 */
#include "drift/statistics.h"

#include <math.h>

#define HALF 0.5 /* added to each bin, so that an empty one has a logarithm */
#define NORMAL_999 3.090232306167813

/*
 * Population stability index of counts in bins, and the value that chance alone exceeds once in a thousand times: PSI times the harmonic size
 * is chi-square with bins - 1 degrees of freedom (B. Yurdakul, 2018). Bins empty on both sides do not count. NaN when one side is empty.
 */
double
crm_drift_psi(const double *expected, const double *actual, int nbins, double *floor)
{
	double n = 0;
	double m = 0;
	double psi = 0;
	double freedom;
	double cube;
	int used = 0;

	for (int k = 0; k < nbins; k++)
	{
		n += expected[k];
		m += actual[k];
		if (expected[k] + actual[k] > 0)
			used++;
	}
	*floor = NAN;
	if (n <= 0 || m <= 0)
		return NAN;
	for (int k = 0; k < nbins; k++)
		if (expected[k] + actual[k] > 0)
		{
			double e = (expected[k] + HALF) / (n + HALF * used);
			double a = (actual[k] + HALF) / (m + HALF * used);

			psi += (a - e) * log(a / e);
		}
	/* chi-square quantile by the cube-root normal approximation (Wilson, Hilferty, 1931) */
	freedom = Max(used - 1, 1);
	cube = 1.0 - 2.0 / (9.0 * freedom) + NORMAL_999 * sqrt(2.0 / (9.0 * freedom));
	*floor = freedom * cube * cube * cube * (1.0 / n + 1.0 / m);
	return psi;
}

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

/*
 * Largest distance of the two empirical distributions, and the chance of one as large; both arrays are sorted in place.
 */
double
crm_drift_ks(double *a, int na, double *b, int nb, double *p)
{
	double distance = 0;
	double lambda;
	double sum = 0;
	int i = 0;
	int j = 0;

	qsort(a, na, sizeof(double), compare_doubles);
	qsort(b, nb, sizeof(double), compare_doubles);
	while (i < na && j < nb)
	{
		double x = Min(a[i], b[j]);

		while (i < na && a[i] <= x)
			i++;
		while (j < nb && b[j] <= x)
			j++;
		distance = fmax(distance, fabs((double) i / na - (double) j / nb));
	}
	lambda = sqrt((double) na * nb / ((double) na + nb));
	lambda = (lambda + 0.12 + 0.11 / lambda) * distance;
	if (lambda < 0.2)
	{
		*p = 1;
		return distance;
	}
	for (int k = 1; k <= 100; k++)
		sum += (k % 2 ? 2.0 : -2.0) * exp(-2.0 * k * k * lambda * lambda);
	*p = fmin(fmax(sum, 0.0), 1.0);
	return distance;
}
