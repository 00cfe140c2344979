CREATE FUNCTION crm._version_row() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_history_before';
COMMENT ON FUNCTION crm._version_row() IS
'BEFORE row trigger of a protected table, the last to fire: sets row_version, field_version, last_at, last_hash and updated_*, and refuses a physical DELETE. Arguments: object, then the columns that the engine keeps, whose change is no version.
Errors: RM201 a row would be deleted.';

CREATE FUNCTION crm._record_change() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_history_after';
COMMENT ON FUNCTION crm._record_change() IS
'AFTER trigger of a protected table (UPDATE and DELETE for each row, INSERT for the statement with the transition table) that writes crm_data.change; BEFORE TRUNCATE it refuses. Arguments as for crm._version_row.
Errors: RM201 TRUNCATE; RM202 the stored row is not the one whose version was made.';

CREATE FUNCTION crm._append_only() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_history_append_only';
COMMENT ON FUNCTION crm._append_only() IS
'BEFORE trigger (UPDATE and DELETE for each row, TRUNCATE for the statement) of a table of facts: refuses. Arguments: object, then the columns that may change: references and copies that the engine keeps, and what is filled in once.
Errors: RM201.';

CREATE FUNCTION crm._engine_write(mode text, endpoint text DEFAULT NULL, note text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_history_engine_context';
COMMENT ON FUNCTION crm._engine_write(text, text, text) IS
'Lets a function of the engine write as the engine, until it calls this again with none, an abort or the end of the transaction.
mode: none; erase (physical deletes, changes of facts); restore (an insert continues the record''s earlier versions). endpoint, note: what the changes say about the way they came; NULL: sql, nothing. Not STRICT because of these.
Errors: 42501 the caller is not the owner of the tables; 22023 unknown mode.';

CREATE FUNCTION crm._engine_writes() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_history_engine_mode';
COMMENT ON FUNCTION crm._engine_writes() IS
'What a function of the engine may do now: none, erase or restore, as crm._engine_write said; for triggers that would refuse it to people.';

CREATE FUNCTION crm._change_hash(prev_hash bytea, object text, record_id bigint, account_id bigint, version int, op "char", at timestamptz,
        actor text, session_name text, endpoint text, client_version text, op_seq bigint, note text,
        fields text, salt bytea, value_hash jsonb) RETURNS bytea
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_change_hash';
COMMENT ON FUNCTION crm._change_hash(bytea, text, bigint, bigint, int, "char", timestamptz, text, text, text, text, bigint, text, text, bytea, jsonb) IS
'Hash that a row of crm_data.change should have: SHA-256 over prev_hash, the hash of the record''s previous change (NULL for the first), and canonical text version 1 (src/history/chain.c describes it). Other arguments: the columns of the row. NULL when the row cannot be one of ours, as with a key that stands in its JSON twice. Not STRICT: most may be NULL.';

CREATE FUNCTION crm._value_hashes(fields jsonb, salt bytea) RETURNS jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_value_hashes';
COMMENT ON FUNCTION crm._value_hashes(jsonb, bytea) IS
'Digest of each field of a change, hexadecimal, by name: what stays when its values and salt are erased.';
