-- Inbox: the short way of crm.ingest.

CREATE FUNCTION crm._ingest_behaviour(source text, external_id text, kind text, payload jsonb, source_ts timestamptz) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_ingest_behaviour';
COMMENT ON FUNCTION crm._ingest_behaviour(text, text, text, jsonb, timestamptz) IS
'Internal: applies a payload that is plainly an event of a customer named by account_code, without statements: the row of the inbox, the event and its rules. Returns what crm.ingest does; NULL, with nothing done, for whatever needs crm.ingest to look closer.';
