CREATE FUNCTION crm._row_readable(object text, image jsonb) RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_row_readable';
COMMENT ON FUNCTION crm._row_readable(text, jsonb) IS
'May the person (not the definer) read this record? image: the record as JSON; NULL: one that is gone, which only those who read all may see. Not STRICT because of that.';

CREATE FUNCTION crm._shown(field int, image jsonb, value jsonb) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_shown';
COMMENT ON FUNCTION crm._shown(int, jsonb, jsonb) IS
'A value of a field as the person (not the definer) may see it: itself, masked, or NULL. field: its number, NULL for a column that is not registered, which nobody but the engine sees; image: the record it belongs to, as JSON. Not STRICT: these may be NULL.';

CREATE FUNCTION crm.write(object text, id bigint, op_id uuid, endpoint text, base_version int, patch jsonb,
        client_ts timestamptz DEFAULT NULL, mode text DEFAULT 'merge') RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_write';
COMMENT ON FUNCTION crm.write(text, bigint, uuid, text, int, jsonb, timestamptz, text) IS
'Writes fields of a record so that no other writer''s change is lost, and answers {state, id, version, op_seq, conflicts[]}.
object, id: the record. op_id: chosen by the client, new for each request; sent again it gets the stored answer again. endpoint: web, app, wecom, dingtalk, api, or sync.<source> for another system, whose empty values say nothing. base_version: the row_version that the client has read; NULL: none, then nothing that differs is overwritten. patch: {field: value}; a counter takes {"add": n}, a key of a document set to null is taken away. client_ts: the client''s clock, kept, orders nothing. mode, under another endpoint''s lease: merge (the lease is advice), queue (the operation waits for its end), reject.
A field that nobody changed since base_version takes the value; sets unite; documents merge key by key; otherwise the record keeps its value and the other is kept as a conflict. state: applied, partial or conflict (some or all fields in conflict), pending (waits), failed (waited and could not be applied: crm.retry_failed). A write to a record that was merged goes to its survivor. Order is the server''s: op_seq is given under the customer''s lock, without gaps. off: fields of the patch that are switched off for this client by the configuration flag/off_fields, and are left as they are. Not STRICT: base_version and client_ts may be NULL.
Errors: 55P03 busy for three seconds, or leased with mode reject; P0002 no such record, or hidden; 42501 not the caller''s to write; 42704 no such object; 42703 no such field; 22023 and the type''s own for a wrong value; RM203 the op_id was another request; RM204 the client is too old.';

CREATE FUNCTION crm.apply_operations(account bigint DEFAULT NULL, batch int DEFAULT 500) RETURNS int
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_apply_operations';
COMMENT ON FUNCTION crm.apply_operations(bigint, int) IS
'Applies operations that wait (mode queue) in their order, for customers whose lease has ended; answers how many were tried. One that cannot be applied is marked failed and the others go on.
account: one customer, NULL: all that nobody is writing to; batch: at most so many operations, 1 and up. Not STRICT: account may be NULL.
Errors: 22023 batch below 1; 55P03 the customer is busy.';

CREATE FUNCTION crm._gate(account bigint) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_gate';
COMMENT ON FUNCTION crm._gate(bigint) IS
'Takes a customer''s place in the line of writers, until the transaction ends: for functions in SQL that write to one customer. account: its id. What keeps others out is the row lock taken next.';

CREATE FUNCTION crm._next_number(account bigint) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_next_number';
COMMENT ON FUNCTION crm._next_number(bigint) IS
'Locks a customer''s row and answers the number of the next operation on him or on what belongs to him: for functions in SQL that store one. account: its id.
Errors: P0002 no such customer.';

CREATE FUNCTION crm._check_client(endpoint text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'crm_check_client';
COMMENT ON FUNCTION crm._check_client(text) IS
'Refuses a client that is too old to write, by the setting client.min_version: for functions in SQL. endpoint: what the client writes through; its name and version are those of application_name, name/version.
Errors: RM204 the client is too old.';
