/*
 * distribution.h
 *		Distribution of the sum of amounts that each come or do not come.
 */
#ifndef CRM_FORECAST_DISTRIBUTION_H
#define CRM_FORECAST_DISTRIBUTION_H

#include "postgres.h"

typedef struct ForecastDeal
{
	double value; /* not negative */
	double p;     /* 0 to 1 */
} ForecastDeal;

typedef struct ForecastSum
{
	double mean;
	double low;   /* P10 */
	double mid;   /* P50 */
	double high;  /* P90 */
	double floor; /* accuracy of a perfect model of this sharpness; NaN without a mean */
} ForecastSum;

extern ForecastSum crm_forecast_sum(ForecastDeal *deal, int64 n, double shock);

#endif /* CRM_FORECAST_DISTRIBUTION_H */
