-- Lattice model: a logistic model with a shrunken effect for every value of every dimension and of every pair of dimensions.

CREATE TYPE crm.lattice;

CREATE FUNCTION crm.lattice_in(cstring) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_in';
COMMENT ON FUNCTION crm.lattice_in(cstring) IS 'Text input of crm.lattice: \x and hexadecimal digits. Errors: 22P02 not so written; 22P03 no valid model.';

CREATE FUNCTION crm.lattice_out(crm.lattice) RETURNS cstring
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_out';
COMMENT ON FUNCTION crm.lattice_out(crm.lattice) IS 'Text output of crm.lattice, hexadecimal.';

CREATE FUNCTION crm.lattice_recv(internal) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_recv';
COMMENT ON FUNCTION crm.lattice_recv(internal) IS 'Binary input of crm.lattice. Errors: 22P03 no valid model.';

CREATE FUNCTION crm.lattice_send(crm.lattice) RETURNS bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_send';
COMMENT ON FUNCTION crm.lattice_send(crm.lattice) IS 'Binary output of crm.lattice; also its cast to bytea.';

CREATE TYPE crm.lattice (
    INPUT = crm.lattice_in,
    OUTPUT = crm.lattice_out,
    RECEIVE = crm.lattice_recv,
    SEND = crm.lattice_send,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = external
);
COMMENT ON TYPE crm.lattice IS
'A fitted lattice model: dimensions, their values, the effect of every value and pair of values with its variance. 24 bytes a cell, little-endian, versioned, with a checksum; anything that is no valid model is refused with 22P03.';

CREATE FUNCTION crm.lattice(bytea) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_from_bytea';
COMMENT ON FUNCTION crm.lattice(bytea) IS 'A lattice model from its stored bytes, checked. Errors: 22P03 no valid model.';

CREATE CAST (bytea AS crm.lattice) WITH FUNCTION crm.lattice(bytea);
COMMENT ON CAST (bytea AS crm.lattice) IS 'A lattice model from its stored bytes, checked';
CREATE CAST (crm.lattice AS bytea) WITH FUNCTION crm.lattice_send(crm.lattice);
COMMENT ON CAST (crm.lattice AS bytea) IS 'The stored bytes of a lattice model';

CREATE FUNCTION crm._lattice_fit_trans(internal, text[], float8, float8) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: a NULL row is refused, not skipped
    AS 'MODULE_PATHNAME', 'crm_lattice_fit_trans';
COMMENT ON FUNCTION crm._lattice_fit_trans(internal, text[], float8, float8) IS 'Step of the aggregate crm.lattice_fit.';

CREATE FUNCTION crm._lattice_fit_trans(internal, text[], float8, float8, jsonb) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: a NULL row is refused, not skipped
    AS 'MODULE_PATHNAME', 'crm_lattice_fit_trans';
COMMENT ON FUNCTION crm._lattice_fit_trans(internal, text[], float8, float8, jsonb) IS 'Step of the aggregate crm.lattice_fit with options.';

CREATE FUNCTION crm._lattice_fit_final(internal) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: no rows give NULL
    AS 'MODULE_PATHNAME', 'crm_lattice_fit_final';
COMMENT ON FUNCTION crm._lattice_fit_final(internal) IS 'End of the aggregate crm.lattice_fit.';

CREATE AGGREGATE crm.lattice_fit(dims text[], outcome float8, weight float8) (
    SFUNC = crm._lattice_fit_trans,
    STYPE = internal,
    FINALFUNC = crm._lattice_fit_final,
    PARALLEL = RESTRICTED
);
COMMENT ON AGGREGATE crm.lattice_fit(text[], float8, float8) IS
'Fits a lattice model with the default options: see crm.lattice_fit(text[], float8, float8, jsonb).';

CREATE AGGREGATE crm.lattice_fit(dims text[], outcome float8, weight float8, options jsonb) (
    SFUNC = crm._lattice_fit_trans,
    STYPE = internal,
    FINALFUNC = crm._lattice_fit_final,
    PARALLEL = RESTRICTED
);
COMMENT ON AGGREGATE crm.lattice_fit(text[], float8, float8, jsonb) IS
'Fits a lattice model: one shrunken effect for every value of every dimension and of every pair of dimensions.
dims: 1 to 24 values of the case, the same number in every row; a NULL element is a value of its own. outcome: 0 to 1, may be fractional. weight: 0 to 1e12, 0 leaves the row out.
options, the same in every row: order 2 (default, with pairs) or 1; sweeps 3 to 100, default 20; prior: array of {dim (from 1), value, p (0.001 to 0.999), strength (cases'' worth, default 20)}.
The result does not depend on the order of the rows. NULL without rows of positive weight.
Errors: 22004 NULL dims, outcome or weight; 22023 outcome, weight or option out of range; 2202E rows of different length; 54000 no or more than 24 dimensions, or a model above 1 GB.
Method: crossed random effects by penalised Newton steps and empirical Bayes (EM) variances.';

CREATE FUNCTION crm.lattice_predict(m crm.lattice, dims text[], OUT p float8, OUT low float8, OUT high float8, OUT n float8)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_predict';
COMMENT ON FUNCTION crm.lattice_predict(crm.lattice, text[]) IS
'Probability of a case under a model. dims: its values, as many as the model has; values that the model has not met count as average.
p: probability; low, high: its 90 % interval, which is about the probability, not the outcome; n: weight of the rows behind the model.
Errors: 2202E wrong number of dimensions; XX001 damaged model.
Source: D. J. C. MacKay, The evidence framework applied to classification networks, 1992 (average over the uncertainty).';

CREATE FUNCTION crm.lattice_update(m crm.lattice, dims text[], outcome float8, weight float8 DEFAULT 1) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_update';
COMMENT ON FUNCTION crm.lattice_update(crm.lattice, text[], float8, float8) IS
'The model after one more outcome: a step of an extended Kalman filter. In a chain (m := crm.lattice_update(m, ..)) a call costs one step whatever the size of the model.
dims: values of the case, new ones are added; outcome 0 to 1; weight 0 to 1e12.
Errors: 22023 outcome or weight out of range; 2202E wrong number of dimensions; XX001 damaged model.';

CREATE FUNCTION crm._lattice_learn_trans(internal, crm.lattice, text[], float8, float8) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: a NULL row is refused, not skipped
    AS 'MODULE_PATHNAME', 'crm_lattice_learn_trans';
COMMENT ON FUNCTION crm._lattice_learn_trans(internal, crm.lattice, text[], float8, float8) IS 'Step of the aggregate crm.lattice_learn.';

CREATE FUNCTION crm._lattice_learn_final(internal) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: no rows give NULL
    AS 'MODULE_PATHNAME', 'crm_lattice_learn_final';
COMMENT ON FUNCTION crm._lattice_learn_final(internal) IS 'End of the aggregate crm.lattice_learn.';

CREATE AGGREGATE crm.lattice_learn(m crm.lattice, dims text[], outcome float8, weight float8) (
    SFUNC = crm._lattice_learn_trans,
    STYPE = internal,
    FINALFUNC = crm._lattice_learn_final,
    FINALFUNC_MODIFY = READ_ONLY,
    PARALLEL = RESTRICTED
);
COMMENT ON AGGREGATE crm.lattice_learn(crm.lattice, text[], float8, float8) IS
'The model of the first row after all outcomes, taken in the order given: write ORDER BY inside the call. NULL without rows.
Arguments and errors as for crm.lattice_update; 22004 NULL model, dims, outcome or weight.';

CREATE FUNCTION crm.lattice_explain(m crm.lattice, dims text[])
    RETURNS TABLE (dim int, value text, logit float8, points float8, n float8)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 13
    AS 'MODULE_PATHNAME', 'crm_lattice_explain';
COMMENT ON FUNCTION crm.lattice_explain(crm.lattice, text[]) IS
'What makes the probability of a case. dim 0 is the base rate, dim 1 and up the dimensions; value: the case''s; logit: what the dimension adds (its own effect and half of that of each pair it is in), together exactly the logit of p; points: percentage points of p with it less p without it; n: weight of the rows with that value, 0 for one never met.
Errors: 2202E wrong number of dimensions; XX001 damaged model.';

CREATE FUNCTION crm.lattice_monotone(m crm.lattice, dim int, ordered text[]) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_lattice_monotone';
COMMENT ON FUNCTION crm.lattice_monotone(crm.lattice, int, text[]) IS
'The model with the effects of some values of a dimension rising in the order given: more evidence never counts against. Neighbours that fall are pooled.
m: of order 1; dim: dimension, from 1; ordered: at most 100 values from lowest to highest, those that the model has not met are left out.
Errors: 22023 no such dimension, a value twice, or a model of order 2; 54000 more than 100 values; XX001 damaged model. Method: isotonic regression, pool adjacent violators.';

CREATE FUNCTION crm.odds_backtest(source regclass, id_column name, dims name[], outcome name, entered name, labelled name, block name, case_column name DEFAULT NULL)
    RETURNS TABLE (id text, p float8, low float8, high float8)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10000 -- not STRICT: case_column may be NULL
    AS 'MODULE_PATHNAME', 'crm_odds_backtest';
COMMENT ON FUNCTION crm.odds_backtest(regclass, name, name[], name, name, name, name, name) IS
'Predicts the past, each row from what was known at its time, with the caller''s rights: one row out for every row of block > 0, ordered by (entered, id).
source: table or view. id_column: unique. dims: 1 to 24 columns, taken as text, NULL being a value of its own. outcome: 0 to 1 or boolean. entered: when the row''s facts held; labelled: when its outcome became known, NULL while open (both numbers, dates or timestamps). block: whole number, 0 is history; a refit happens at the smallest entered of each other block. case_column: rows of one case share their weight.
p: probability from rows with labelled < entered of the row; low, high: its 90 % interval.
Errors: 42703 no such column; 22004 NULL where none may be; 22023 a value out of range, labelled before entered; 21000 an id twice; 54000 more than 24 dimensions.
Method: prequential evaluation (A. P. Dawid, 1984); open rows censored by reverse-time product limit (Lagakos, Barraj, De Gruttola, 1988).';

CREATE FUNCTION crm._odds_fit_trans(internal, text, text, text[], float8, float8, float8, float8, jsonb) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: an open case has no end
    AS 'MODULE_PATHNAME', 'crm_odds_fit_trans';
COMMENT ON FUNCTION crm._odds_fit_trans(internal, text, text, text[], float8, float8, float8, float8, jsonb) IS 'Step of the aggregate crm._odds_fit.';

CREATE FUNCTION crm._odds_fit_final(internal) RETURNS crm.lattice
    LANGUAGE c IMMUTABLE PARALLEL SAFE -- not STRICT: no rows give NULL
    AS 'MODULE_PATHNAME', 'crm_odds_fit_final';
COMMENT ON FUNCTION crm._odds_fit_final(internal) IS 'End of the aggregate crm._odds_fit.';

CREATE AGGREGATE crm._odds_fit(id text, case_id text, dims text[], entered float8, labelled float8, outcome float8, as_of float8, options jsonb) (
    SFUNC = crm._odds_fit_trans,
    STYPE = internal,
    FINALFUNC = crm._odds_fit_final,
    PARALLEL = RESTRICTED
);
COMMENT ON AGGREGATE crm._odds_fit(text, text, text[], float8, float8, float8, float8, jsonb) IS
'The pool of lattice models of a history of cases, at as_of: censoring, experts and their weights as in crm.odds_backtest.
id: unique; case_id: rows of one case share their weight; dims: as for crm.lattice_fit; entered, labelled, as_of: seconds, labelled and outcome NULL while open; options: prior as for crm.lattice_fit, the same in every row. Internal.';
