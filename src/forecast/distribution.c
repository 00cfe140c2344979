/*
 * distribution.c
 *		Distribution of the sum of amounts that each come or do not come, with a common shock.
 *
 * Given the shock the deals are independent: their sum is a Poisson-binomial, convolved on a grid of 1024 points, each value split between its two
 * neighbouring points so that the mean is kept. The shock moves all logits together; it is normal and integrated over the seven nodes of
 * Gauss-Hermite quadrature. Many small deals are taken as normal.
 *
 * What this file does not do: find the deals or their probabilities. Pure C: no catalogs, no locks. Memory: the caller's context, freed here.
 * The result does not depend on the order of the deals: they are sorted first.
 */
#include "forecast/distribution.h"

#include <math.h>

#include "miscadmin.h"

#define GRID 1024
#define NODES 7
#define EXACT_DEALS 500 /* beyond, normal, unless one deal is a large part */
#define LARGE_PART 0.05

static const double node[NODES] = {-2.6519613568352334, -1.6735516287674714, -0.8162878828589647, 0.0,
								   0.8162878828589647,  1.6735516287674714,  2.6519613568352334};
static const double node_weight[NODES] = {0.0009717812450995192, 0.05451558281912703, 0.4256072526101278,
										  0.8102646175568073,    0.4256072526101278,  0.05451558281912703,
										  0.0009717812450995192};

static int
compare_deals(const void *a, const void *b)
{
	const ForecastDeal *x = a;
	const ForecastDeal *y = b;

	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	return (x->p > y->p) - (x->p < y->p);
}

/*
 * Probability of a deal when everything is moved by theta on the logit scale.
 */
static double
shifted(double p, double theta)
{
	if (p <= 0 || p >= 1 || theta == 0)
		return p;
	return 1.0 / (1.0 + exp(-(log(p / (1.0 - p)) + theta)));
}

/*
 * Value below which a share of the distribution lies, between the grid points by the line through them.
 */
static double
quantile(const double *mass, double step, double share)
{
	double below = 0;

	for (int k = 0; k < GRID; k++)
	{
		if (mass[k] > 0 && below + mass[k] >= share)
			return k == 0 ? 0 : step * (k - 1 + (share - below) / mass[k]);
		below += mass[k];
	}
	return step * (GRID - 1);
}

/*
 * Mean, P10, P50, P90 and the noise floor of the sum of n deals, which are sorted in place. shock is the standard deviation of the whole sum
 * relative to its mean that does not come from the deals' own chance.
 */
ForecastSum
crm_forecast_sum(ForecastDeal *deal, int64 n, double shock)
{
	ForecastSum sum = {0, 0, 0, 0, NAN};
	double total = 0;
	double variance = 0;
	double spread = 0; /* change of the mean with theta */
	double largest = 0;
	double sigma;

	qsort(deal, n, sizeof(ForecastDeal), compare_deals);
	for (int64 i = 0; i < n; i++)
	{
		double pq = deal[i].p * (1.0 - deal[i].p);

		total += deal[i].value;
		sum.mean += deal[i].p * deal[i].value;
		spread += pq * deal[i].value;
		variance += pq * deal[i].value * deal[i].value;
		largest = fmax(largest, deal[i].value);
	}
	if (sum.mean > 0)
		sum.floor = fmax(0.0, 1.0 - sqrt(2.0 / M_PI * variance) / sum.mean);
	if (total <= 0 || variance <= 0)
	{
		sum.low = sum.mid = sum.high = sum.mean;
		return sum;
	}
	if (n > EXACT_DEALS && largest <= LARGE_PART * total)
	{
		double sd = sqrt(variance + shock * shock * sum.mean * sum.mean);

		sum.low = fmax(0.0, sum.mean - 1.2815515655446004 * sd);
		sum.mid = sum.mean;
		sum.high = fmin(total, sum.mean + 1.2815515655446004 * sd);
		return sum;
	}

	sigma = shock * sum.mean / spread;
	{
		double step = total / (GRID - 1);
		double *mass = palloc0(sizeof(double) * GRID);
		double *now = palloc(sizeof(double) * GRID);

		for (int q = 0; q < NODES; q++)
		{
			int top = 0; /* highest point with mass */

			if (sigma == 0 && node[q] != 0)
				continue;
			memset(now, 0, sizeof(double) * GRID);
			now[0] = 1;
			for (int64 i = 0; i < n; i++)
			{
				double p = shifted(deal[i].p, sqrt(2.0) * sigma * node[q]);
				double at = deal[i].value / step;
				int k = Min((int) at, GRID - 1);
				double part = at - k;

				CHECK_FOR_INTERRUPTS();
				if (p <= 0 || deal[i].value <= 0)
					continue;
				for (int j = Min(top, GRID - 1); j >= 0; j--)
				{
					double m = now[j];

					/* the points above were done before: in place, from the top */
					now[j] = m * (1.0 - p);
					now[Min(j + k, GRID - 1)] += m * p * (1.0 - part);
					now[Min(j + k + 1, GRID - 1)] += m * p * part;
				}
				top = Min(top + k + 1, GRID - 1);
			}
			for (int j = 0; j <= top; j++)
				mass[j] += now[j] * (sigma == 0 ? 1.0 : node_weight[q] / sqrt(M_PI));
		}
		sum.low = quantile(mass, step, 0.1);
		sum.mid = quantile(mass, step, 0.5);
		sum.high = quantile(mass, step, 0.9);
		pfree(mass);
		pfree(now);
	}
	return sum;
}
