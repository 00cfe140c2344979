-- Inbox: every payload that comes in ends in one visible state. Never filtered by its own time; the same payload again is the same row.

CREATE OR REPLACE FUNCTION crm._apply_inbox(id bigint) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    i crm_data.inbox;
    s crm_data.source_system;
    d jsonb;
    v_account bigint;
    v_id bigint;
    v_state text := 'applied';
    v_reason text;
    v_object text := 'account';
BEGIN
    SELECT * INTO i FROM crm_data.inbox AS x WHERE x.id = id FOR UPDATE;
    SELECT * INTO s FROM crm_data.source_system AS x WHERE x.id = i.source_id;
    BEGIN
        -- an empty text says nothing, and nothing never overwrites something
        SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') INTO d FROM jsonb_each(i.payload) AS e WHERE e.value <> 'null' AND e.value <> '""';
        IF i.kind IN ('lead', 'form') THEN
            v_object := 'lead';
            v_id := (crm.capture_lead(d || jsonb_build_object('source', s.name, 'client_key', coalesce(d ->> 'client_key', s.name || ':' || i.external_id), 'occurred_at', i.source_ts)) ->> 'lead')::bigint;
        ELSE
            SELECT a.id INTO v_account FROM crm_data.account AS a
             WHERE a.merged_into IS NULL AND a.deleted_at IS NULL
               AND (a.code = d ->> 'account_code' OR a.phone_norm = crm.phone_key(d ->> 'phone') OR a.email_norm = crm.email_key(d ->> 'email')
                    OR a.id = (SELECT c.account_id FROM crm_data.contact AS c WHERE c.phone_norm = crm.phone_key(d ->> 'phone') OR c.email_norm = crm.email_key(d ->> 'email') ORDER BY c.id LIMIT 1))
             ORDER BY a.id LIMIT 1;
            IF v_account IS NULL THEN
                v_state := 'parked';
                v_reason := 'no customer with this code, telephone number or address';
            ELSIF s.name = ANY ((SELECT a.sync_off FROM crm_data.account AS a WHERE a.id = v_account)::text[]) THEN
                v_state := 'rejected';
                v_reason := 'this source is switched off for the customer';
            ELSIF i.kind IN ('meeting', 'survey', 'chat', 'email', 'note') THEN
                INSERT INTO crm_data.interaction (account_id, kind, channel, direction, occurred_at, summary, body, satisfaction, auto, client_key, detail)
                VALUES (v_account, i.kind, d ->> 'channel', CASE WHEN d ->> 'direction' IN ('in', 'out', 'internal') THEN d ->> 'direction' END, i.source_ts, d ->> 'summary', d ->> 'body',
                        crm.parse_number(d ->> 'satisfaction'), false, 'inbox:' || i.id, d) ON CONFLICT (client_key) DO NOTHING;
                v_id := v_account;
            ELSE
                -- calls, files and behaviour: the rules know what they mean
                INSERT INTO crm_data.event (occurred_at, account_id, source_id, kind, channel, value, detail) VALUES (i.source_ts, v_account, i.source_id, i.kind, d ->> 'channel', crm.parse_number(d ->> 'value')::float8, d);
                PERFORM crm._run_rules('inbox.' || i.kind, 'account', v_account, d || jsonb_build_object('id', i.id, 'kind', i.kind, 'occurred_at', i.source_ts));
                PERFORM crm._emit('event.' || i.kind, 'account', v_account, d || jsonb_build_object('id', i.id, 'kind', i.kind));
                v_id := v_account;
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        v_state := 'rejected';
        v_reason := left(SQLERRM, 500);
        v_id := NULL;
    END;
    UPDATE crm_data.inbox AS x SET state = v_state, reason = v_reason, object = CASE WHEN v_id IS NOT NULL THEN v_object END, record_id = v_id, attempts = x.attempts + 1, processed_at = now() WHERE x.id = id;
    UPDATE crm_data.source_system AS x SET last_seen_at = now(), last_applied_at = CASE WHEN v_state = 'applied' THEN now() ELSE x.last_applied_at END WHERE x.id = i.source_id;
    RETURN v_state;
END
$$;
COMMENT ON FUNCTION crm._apply_inbox(bigint) IS 'Internal: applies a payload: a form becomes a lead, a conversation a follow-up, anything else an event that rules look at; without a customer it is parked, with an error rejected, each with its reason.';

CREATE OR REPLACE FUNCTION crm.ingest(source text, external_id text, kind text, payload jsonb, source_ts timestamptz DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_source bigint;
    v_id bigint;
    v_digest bytea;
BEGIN
    IF jsonb_typeof(payload) IS DISTINCT FROM 'object' OR coalesce(external_id, '') = '' OR coalesce(kind, '') = '' THEN
        RAISE EXCEPTION 'a payload is an object with a kind and an identifier of its source' USING ERRCODE = 'invalid_parameter_value', HINT = 'crm.ingest(''web'', ''form-17'', ''form'', ''{"phone": "..."}'').';
    END IF;
    SELECT s.id INTO v_source FROM crm_data.source_system AS s WHERE s.name = source AND s.enabled;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown source "%"', source USING ERRCODE = 'invalid_parameter_value', HINT = 'Sources are rows of source_system; this one is missing or switched off.';
    END IF;
    v_digest := sha256(convert_to(payload::text, 'UTF8'));
    INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, source_ts, ts_assumed) VALUES (v_source, external_id, kind, payload, v_digest, coalesce(source_ts, now()), source_ts IS NULL)
    ON CONFLICT ON CONSTRAINT inbox_source_id_external_id_digest_key DO NOTHING RETURNING id INTO v_id;
    IF v_id IS NOT NULL THEN
        PERFORM crm._apply_inbox(v_id);
    END IF;
    RETURN (SELECT jsonb_build_object('inbox', x.id, 'state', x.state, 'reason', x.reason, 'object', x.object, 'record', x.record_id, 'repeated', v_id IS NULL)
              FROM crm_data.inbox AS x WHERE x.source_id = v_source AND x.external_id = external_id AND x.digest = v_digest);
END
$$;
COMMENT ON FUNCTION crm.ingest(text, text, text, jsonb, timestamptz) IS
'Takes a payload of another system in and applies it in the same transaction. The same payload again changes nothing. It ends as applied, rejected or parked, with the reason, and stays visible. Never refused for its age: a missing source_ts is now, and marked as assumed.
kind: lead or form; meeting, survey, chat, email, note; call, chat_file and any behaviour. The customer is found by account_code, phone or email. Errors: 22023 an unknown source, or a payload that is no object.';

CREATE OR REPLACE FUNCTION crm.retry_inbox(source text, batch int DEFAULT 500, force boolean DEFAULT false) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_id bigint;
    v_n int := 0;
BEGIN
    FOR v_id IN SELECT x.id FROM crm_data.inbox AS x JOIN crm_data.source_system AS s ON s.id = x.source_id AND s.name = retry_inbox.source
                 WHERE x.state IN ('received', 'parked') OR (force AND x.state = 'rejected') ORDER BY x.id LIMIT batch FOR UPDATE OF x SKIP LOCKED LOOP
        IF crm._apply_inbox(v_id) = 'applied' THEN
            v_n := v_n + 1;
        END IF;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm.retry_inbox(text, int, boolean) IS 'Tries what is parked of a source again, with force what was rejected too, oldest first, with its original times; returns how many were applied.';
