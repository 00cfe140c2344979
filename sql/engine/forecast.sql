-- Distribution of a forecast.

CREATE TYPE crm.forecast_interval AS (mean float8, low float8, mid float8, high float8, noise_floor float8);
COMMENT ON TYPE crm.forecast_interval IS 'Distribution of a sum of deals';
COMMENT ON COLUMN crm.forecast_interval.mean IS 'Expected value';
COMMENT ON COLUMN crm.forecast_interval.low IS 'P10, conservative';
COMMENT ON COLUMN crm.forecast_interval.mid IS 'P50, neutral';
COMMENT ON COLUMN crm.forecast_interval.high IS 'P90, optimistic';
COMMENT ON COLUMN crm.forecast_interval.noise_floor IS 'Expected accuracy, 1 less the relative absolute error, of a perfectly calibrated model of this sharpness on these deals: what no forecast can be expected to beat. NULL without an expected value';

CREATE FUNCTION crm._forecast_trans(internal, float8, float8, float8) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: a NULL is refused, not skipped
    AS 'MODULE_PATHNAME', 'crm_forecast_trans';
COMMENT ON FUNCTION crm._forecast_trans(internal, float8, float8, float8) IS 'Step of the aggregate crm.forecast_distribution.';

CREATE FUNCTION crm._forecast_final(internal) RETURNS crm.forecast_interval
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: no deals give zeros
    AS 'MODULE_PATHNAME', 'crm_forecast_final';
COMMENT ON FUNCTION crm._forecast_final(internal) IS 'End of the aggregate crm.forecast_distribution.';

CREATE AGGREGATE crm.forecast_distribution(value float8, p float8, shock float8) (
    SFUNC = crm._forecast_trans,
    STYPE = internal,
    FINALFUNC = crm._forecast_final,
    PARALLEL = RESTRICTED
);
COMMENT ON AGGREGATE crm.forecast_distribution(float8, float8, float8) IS
'Distribution of the sum of deals that each come or do not come.
value: amount, 0 to 1e18, one currency; p: probability that it comes; shock: standard deviation of the whole relative to its mean that the deals have in common, 0 to 10, the same in every row.
Poisson-binomial on a grid of 1024 points, mixed over seven nodes of Gauss-Hermite quadrature of the shock; normal above 500 deals of which none is more than 5 percent of the sum. The result does not depend on the order of the rows.
Errors: 22004 a NULL; 22023 a value out of range.';
