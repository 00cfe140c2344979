-- Match: the kernels' faces. They read a table with the caller's rights and keep nothing; crm.match_define and its kin hold the state.

CREATE FUNCTION crm._match_train(source regclass, id_column name, fields jsonb, live_only boolean, max_rows int, OUT params bytea, OUT learned jsonb, OUT rows bigint)
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'crm_match_train';
COMMENT ON FUNCTION crm._match_train(regclass, name, jsonb, boolean, int) IS
'Learns weights from the rows of a table without examples. live_only leaves out rows that were merged or deleted (columns merged_into, deleted_at); max_rows reads only the first in the order of ids, NULL all. Returns the weights as the engine reads them, the same for people, and how many rows there were. Method: Fellegi and Sunter 1969, expectation-maximisation on pattern counts.
Errors: 42703 unknown column; 22023 unknown meaning; 54000 more than 16 fields; 23505, 23502 the id column repeats or is null.';

CREATE FUNCTION crm._match_clusters(source regclass, id_column name, fields jsonb, live_only boolean, params bytea, threshold float8, links text[], save text, OUT id text, OUT cluster bigint)
    RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'crm_match_clusters';
COMMENT ON FUNCTION crm._match_clusters(regclass, name, jsonb, boolean, bytea, float8, text[], text) IS
'Clusters of the rows of a table. params: weights of crm._match_train, NULL to learn them now; threshold: probability above 0 and below 1, NULL for the model''s own; links: people''s decisions, each three words: id, id, must or cannot; save: model that keeps what is learned now, NULL for none. A cluster''s number is the place of its first row in the order of ids. Errors: as crm._match_train; 55000 the weights do not fit the fields; 22023 the threshold; 42501 the model is somebody else''s.';

CREATE FUNCTION crm._match_pairs(source regclass, id_column name, fields jsonb, live_only boolean, params bytea, threshold float8, links text[], OUT a text, OUT b text, OUT probability float8, OUT band text, OUT evidence jsonb)
    RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'crm_match_pairs';
COMMENT ON FUNCTION crm._match_pairs(regclass, name, jsonb, boolean, bytea, float8, text[]) IS
'Pairs of rows of a table with the probability that both are one, the band (auto or suggest) and the evidence by field, without values; the surest first. Pairs that people decided to be two are left out, those that are one are auto. Arguments and errors as crm._match_clusters.';

CREATE FUNCTION crm._match_compare(fields jsonb, params bytea, a jsonb, b jsonb, OUT probability float8, OUT band text, OUT evidence jsonb)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000
    AS 'MODULE_PATHNAME', 'crm_match_compare';
COMMENT ON FUNCTION crm._match_compare(jsonb, bytea, jsonb, jsonb) IS
'Compares two documents by a model''s fields and trained weights, without the frequency of values. Band is auto, suggest or none. Errors: 22023 a document is no object; 55000 the weights do not fit the fields.';

CREATE FUNCTION crm._match_check_fields(source regclass, id_column name, fields jsonb) RETURNS void
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_match_check_fields';
COMMENT ON FUNCTION crm._match_check_fields(regclass, name, jsonb) IS 'Raises what is wrong with a model''s definition. Errors: 42P01 no such table; 42703 unknown column; 22023 unknown meaning or no field; 54000 more than 16 fields.';

CREATE FUNCTION crm._match_normalize() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_match_normalize';
COMMENT ON FUNCTION crm._match_normalize() IS 'Trigger that keeps phone_norm, email_norm and, for accounts, name_core beside the values they come from. Argument: the object. Internal.';

CREATE FUNCTION crm._match_note() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_match_note';
COMMENT ON FUNCTION crm._match_note() IS 'Trigger before a row whose match fields change that notes its id, for the trigger after it that looks for duplicates. Internal.';

CREATE FUNCTION crm._match_noted(source regclass) RETURNS bigint[]
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_match_noted';
COMMENT ON FUNCTION crm._match_noted(regclass) IS 'The ids that crm._match_note noted of a table, each once and ascending; they are forgotten then. Internal.';

CREATE FUNCTION crm._match_pause(on_ boolean) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_match_pause';
COMMENT ON FUNCTION crm._match_pause(boolean) IS 'Stops the triggers that look for duplicates, for merges and imports that know better; ends with false, an abort or the transaction. Internal.';

CREATE FUNCTION crm._match_paused() RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_match_paused';
COMMENT ON FUNCTION crm._match_paused() IS 'Whether crm._match_pause stopped the triggers that look for duplicates. Internal.';

CREATE FUNCTION crm._match_lock(model bigint, keys bigint[]) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_match_lock';
COMMENT ON FUNCTION crm._match_lock(bigint, bigint[]) IS 'Takes the engine''s lock of each match key of a model until the end of the transaction, in ascending order, so that simultaneous writers of one customer see each other; keys NULL: of the whole model. Internal.';

CREATE FUNCTION crm._match_unseen(source regclass, columns text[], keys text[]) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_match_unseen';
COMMENT ON FUNCTION crm._match_unseen(regclass, text[], text[]) IS 'Whether records that hold one of the keys in one of the columns were committed that this transaction cannot see; only under REPEATABLE READ and SERIALIZABLE. Internal.';

CREATE FUNCTION crm._match_keys(fields jsonb, doc jsonb, OUT kind smallint, OUT key bigint)
    RETURNS SETOF record
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 ROWS 15
    AS 'MODULE_PATHNAME', 'crm_match_keys';
COMMENT ON FUNCTION crm._match_keys(jsonb, jsonb) IS 'The keys that a row, as a document, is found by in a persisted index. Internal. Errors: 22023 the document is no object.';

CREATE FUNCTION crm._match_blocking(source regclass, id_column name, fields jsonb, truth name, OUT pairs bigint, OUT hits bigint)
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE COST 1000000
    AS 'MODULE_PATHNAME', 'crm_match_blocking';
COMMENT ON FUNCTION crm._match_blocking(regclass, name, jsonb, name) IS 'How many candidate pairs a table has, and how many of them have the same value in the column truth: for measuring what blocking misses. Internal, for superusers. Errors: as crm._match_train.';

CREATE FUNCTION crm._match_index_keys(source regclass, id_column name, fields jsonb, OUT kinds smallint[], OUT keys bigint[], OUT recs bigint[])
    RETURNS SETOF record
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 100
    AS 'MODULE_PATHNAME', 'crm_match_index_keys';
COMMENT ON FUNCTION crm._match_index_keys(regclass, name, jsonb) IS 'The keys of all rows of a table, read with the caller''s rights, in the order of a persisted index: some ten thousand in each answer. Takes 24 bytes of memory a key. Internal. Errors: as crm._match_train.';

CREATE FUNCTION crm._match_probe(source regclass, id_column name, fields jsonb, params bytea, doc jsonb, ids text[], lim int, OUT id text, OUT probability float8, OUT band text, OUT evidence jsonb)
    RETURNS SETOF record
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE COST 1000 ROWS 10
    AS 'MODULE_PATHNAME', 'crm_match_probe';
COMMENT ON FUNCTION crm._match_probe(regclass, name, jsonb, bytea, jsonb, text[], int) IS 'A document against rows of a table, read with the caller''s rights: the likeliest first, at most lim. Internal. Errors: 22023 the document is no object; 42703 a column is gone; 55000 the weights do not fit.';
