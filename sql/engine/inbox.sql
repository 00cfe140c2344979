-- Inbox and leads: the short ways of crm.ingest and crm.capture_lead.

CREATE FUNCTION crm._ingest_behaviour(source text, external_id text, kind text, payload jsonb, source_ts timestamptz) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_ingest_behaviour';
COMMENT ON FUNCTION crm._ingest_behaviour(text, text, text, jsonb, timestamptz) IS
'Internal: applies a payload that is plainly an event of a customer named by account_code, without statements: the row of the inbox, the event and its rules. Returns what crm.ingest does; NULL, with nothing done, for whatever needs crm.ingest to look closer.';

CREATE FUNCTION crm._capture_new(doc jsonb) RETURNS jsonb
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_capture_new';
COMMENT ON FUNCTION crm._capture_new(jsonb) IS
'Internal: takes in and assigns a lead whose person, number, address and company are all unknown, without statements: the lead, its first-touch task and the message. Returns what crm.capture_lead does; NULL, with nothing done, for whatever needs crm.capture_lead to look closer.';
