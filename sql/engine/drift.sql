-- Statistics of drift.

CREATE FUNCTION crm.psi(expected float8[], actual float8[], OUT psi float8, OUT threshold float8, OUT level text)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_psi';
COMMENT ON FUNCTION crm.psi(float8[], float8[]) IS
'Population stability index of two counts over the same bins.
expected, actual: counts, not negative. psi: sum of (a - e) ln (a / e) over the shares; threshold: 0.1, or what chance alone exceeds once in a thousand times with so few cases (chi-square) if that is more: plain 0.1 would be a false alarm every third time at 100 cases; level: none, yellow above the threshold, red if also above 0.25, no_data when a side is empty.
Errors: 2202E different bins; 22023 a count that is negative or no number. Source: B. Yurdakul, Statistical properties of population stability index, 2018.';

CREATE FUNCTION crm.ks_test(a float8[], b float8[], OUT distance float8, OUT p float8)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_ks_test';
COMMENT ON FUNCTION crm.ks_test(float8[], float8[]) IS
'Kolmogorov-Smirnov test of two samples: largest distance of their distributions, and the chance of one as large if they were the same (asymptotic). NULL when a sample is empty. Errors: 22023 NULL or no number; 2202E more than one dimension.';

CREATE TYPE crm.page_hinkley_result AS (alarms int, first_row bigint, statistic float8);
COMMENT ON TYPE crm.page_hinkley_result IS 'Result of crm.page_hinkley';
COMMENT ON COLUMN crm.page_hinkley_result.alarms IS 'How often the statistic exceeded lambda, beginning anew after each time';
COMMENT ON COLUMN crm.page_hinkley_result.first_row IS 'Row of the first alarm, from 1; NULL without any';
COMMENT ON COLUMN crm.page_hinkley_result.statistic IS 'Statistic after the last row';

CREATE FUNCTION crm._page_hinkley_trans(internal, float8, float8, float8, float8) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: a NULL is refused, not skipped
    AS 'MODULE_PATHNAME', 'crm_page_hinkley_trans';
COMMENT ON FUNCTION crm._page_hinkley_trans(internal, float8, float8, float8, float8) IS 'Step of the aggregate crm.page_hinkley.';

CREATE FUNCTION crm._page_hinkley_final(internal) RETURNS crm.page_hinkley_result
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: no rows give no alarm
    AS 'MODULE_PATHNAME', 'crm_page_hinkley_final';
COMMENT ON FUNCTION crm._page_hinkley_final(internal) IS 'End of the aggregate crm.page_hinkley.';

CREATE AGGREGATE crm.page_hinkley(loss float8, baseline float8, delta float8, lambda float8) (
    SFUNC = crm._page_hinkley_trans,
    STYPE = internal,
    FINALFUNC = crm._page_hinkley_final,
    PARALLEL = RESTRICTED
);
COMMENT ON AGGREGATE crm.page_hinkley(float8, float8, float8, float8) IS
'Page-Hinkley test on a stream of losses, in the order given: write ORDER BY inside the call.
loss; baseline: mean loss that is normal; delta: tolerance, not negative, usually 0.01; lambda: alarm level, above 0, usually 10.
Errors: 22004 a NULL; 22023 a number out of range. Source: E. S. Page, Continuous inspection schemes, 1954.';
