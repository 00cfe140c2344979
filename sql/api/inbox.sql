-- Inbox: every payload that comes in ends in one visible state. Never filtered by its own time; the same payload again is the same row.

CREATE OR REPLACE FUNCTION crm._apply_contract(source_id bigint, external_id text, kind text, d jsonb, at timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c crm_data.contract;
    v_day date := (at AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date;
    v_amount numeric := crm.parse_number(d ->> 'amount');
BEGIN
    -- the customer first, then what belongs to it: the order of every write
    PERFORM FROM crm_data.account AS a WHERE a.id = (SELECT k.account_id FROM crm_data.contract AS k WHERE k.code = d ->> 'contract_code') FOR NO KEY UPDATE;
    SELECT * INTO c FROM crm_data.contract AS k WHERE k.code = d ->> 'contract_code' AND k.deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF kind = 'sealed' THEN
        UPDATE crm_data.contract AS k SET final_url = coalesce(d ->> 'url', k.final_url), state = CASE WHEN k.state IN ('draft', 'review') THEN 'signed' ELSE k.state END, signed_on = coalesce(k.signed_on, v_day), updated_at = now(), updated_by = session_user WHERE k.id = c.id;
        RETURN c.account_id;
    END IF;
    IF v_amount IS NULL OR v_amount < 0 OR v_amount >= 1e15 OR NOT coalesce(d ->> 'currency', c.currency) ~ '^[A-Z]{3}$' THEN
        RAISE EXCEPTION 'an entry has an amount that is not negative, and a currency of three letters' USING ERRCODE = 'invalid_parameter_value', HINT = '{"contract_code": "C-1", "amount": 1000, "currency": "CNY"}';
    END IF;
    INSERT INTO crm_data.receivable_entry (kind, account_id, contract_id, number, amount, currency, occurred_on, source_id, external_id)
    VALUES (kind, c.account_id, c.id, d ->> 'number', v_amount, coalesce(d ->> 'currency', c.currency), v_day, source_id, external_id) ON CONFLICT ON CONSTRAINT receivable_entry_source_id_external_id_key DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this entry was booked before, with other content' USING ERRCODE = 'invalid_parameter_value', HINT = 'Entries are never changed: send a refund, or a new entry with a number of its own.';
    END IF;
    UPDATE crm_data.contract AS k SET invoice_state = CASE WHEN x.invoiced >= k.amount THEN 'full' WHEN x.invoiced > 0 THEN 'partial' ELSE 'none' END,
           receipt_state = CASE WHEN x.paid >= k.amount THEN 'full' WHEN x.paid > 0 THEN 'partial' ELSE 'none' END, updated_at = now(), updated_by = session_user
      FROM (SELECT coalesce(sum(r.amount) FILTER (WHERE r.kind = 'invoice'), 0) AS invoiced, coalesce(sum(CASE r.kind WHEN 'payment' THEN r.amount WHEN 'refund' THEN -r.amount END), 0) AS paid
              FROM crm_data.receivable_entry AS r WHERE r.contract_id = c.id AND r.currency = c.currency) AS x WHERE k.id = c.id;
    RETURN c.account_id;
END
$$;
COMMENT ON FUNCTION crm._apply_contract(bigint, text, text, jsonb, timestamptz) IS 'Internal: books an invoice, payment or refund of another system on a contract and keeps how far it is invoiced and paid; a sealed one gets its final copy and is signed. Returns the customer; NULL when there is no such contract.';

CREATE OR REPLACE FUNCTION crm._apply_payload(id bigint, source_id bigint, source text, external_id text, kind text, payload jsonb, source_ts timestamptz, OUT state text, OUT reason text, OUT object text, OUT record_id bigint)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    d jsonb := payload;
    v_phone text;
    v_email text;
    v_account bigint;
    v_contact bigint;
    v_person record;
    v_off text[];
    v_direction text;
    v_reply numeric;
    v_deal bigint;
    v_meeting bigint;
    v_detail jsonb;
    v_kind text := CASE WHEN kind IN ('finance.invoice', 'finance.payment', 'finance.refund', 'legal.sealed') THEN split_part(kind, '.', 2) ELSE kind END;
BEGIN
    state := 'applied';
    BEGIN
        -- an empty text says nothing, and nothing never overwrites something
        IF payload @? '$.* ? (@ == null || @ == "")' THEN
            SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') INTO d FROM jsonb_each(payload) AS e WHERE e.value <> 'null' AND e.value <> '""';
        END IF;
        IF d ? 'origin' THEN
            SELECT o.object, o.record_id INTO object, record_id FROM crm._echo_of(source, d) AS o;
            IF object IS NOT NULL THEN
                state := 'rejected';
                reason := 'our own change coming back';
                RETURN;
            END IF;
            d := d - 'origin';
        END IF;
        IF kind IN ('lead', 'form') THEN
            object := 'lead';
            record_id := (crm.capture_lead(d || jsonb_build_object('source', source, 'client_key', coalesce(d ->> 'client_key', source || ':' || external_id), 'occurred_at', source_ts)) ->> 'lead')::bigint;
            RETURN;
        END IF;
        IF v_kind IN ('invoice', 'payment', 'refund', 'sealed') THEN
            v_account := crm._apply_contract(source_id, external_id, v_kind, d, source_ts);
            IF v_account IS NULL THEN
                state := 'parked';
                reason := 'no contract with this code';
            ELSE
                object := 'account';
                record_id := v_account;
            END IF;
            RETURN;
        END IF;
        -- the customer: by the code, by the number or address of its own, by those of a person there
        IF d ? 'account_code' THEN
            SELECT a.id, a.sync_off INTO v_account, v_off FROM crm_data.account AS a WHERE a.code = d ->> 'account_code' AND a.merged_into IS NULL AND a.deleted_at IS NULL;
        END IF;
        IF d ? 'phone' OR d ? 'email' THEN
            v_phone := crm.phone_key(d ->> 'phone');
            v_email := crm.email_key(d ->> 'email');
            IF v_account IS NULL THEN
                SELECT a.id, a.sync_off INTO v_account, v_off FROM crm_data.account AS a
                 WHERE a.merged_into IS NULL AND a.deleted_at IS NULL AND (a.phone_norm = v_phone OR a.email_norm = v_email) ORDER BY a.id LIMIT 1;
            END IF;
            SELECT c.id AS contact, a.id AS account, a.sync_off INTO v_person FROM crm_data.contact AS c JOIN crm_data.account AS a ON a.id = c.account_id AND a.merged_into IS NULL AND a.deleted_at IS NULL
             WHERE c.merged_into IS NULL AND c.deleted_at IS NULL AND (c.phone_norm = v_phone OR c.email_norm = v_email) AND a.id = coalesce(v_account, a.id) ORDER BY c.id LIMIT 1;
            IF FOUND THEN
                v_contact := v_person.contact;
                v_account := v_person.account;
                v_off := v_person.sync_off;
            END IF;
        END IF;
        IF v_account IS NULL THEN
            state := 'parked';
            reason := 'no customer with this code, telephone number or address';
            RETURN;
        ELSIF source = ANY (v_off) THEN
            state := 'rejected';
            reason := 'this source is switched off for the customer';
            RETURN;
        END IF;
        object := 'account';
        record_id := v_account;
        -- what it was found by is kept in the inbox alone: details are shown to more people than numbers and addresses are
        d := d - '{phone,email}'::text[];
        IF kind IN ('meeting', 'transcript', 'survey', 'chat', 'email', 'note') THEN
            v_deal := crm._deal_of(v_account, d ->> 'opportunity_code');
            IF kind = 'transcript' OR source = 'asr' AND kind = 'meeting' THEN
                d := crm._transcript(d);
                SELECT t.deal, t.meeting INTO v_deal, v_meeting FROM crm._transcript_of(v_account, source_ts, v_deal) AS t;
                -- its words stand in the follow-up alone
                v_detail := (d - '{summary,body,meeting,objections}'::text[]) || jsonb_strip_nulls(jsonb_build_object('meeting', v_meeting, 'objections',
                                (SELECT jsonb_object_agg(o.kind, o.n) FROM (SELECT x.kind, count(*) AS n FROM crm._objections_of(d ->> 'summary', d ->> 'body', d) AS x GROUP BY x.kind) AS o)));
                kind := 'meeting';
            END IF;
            v_direction := CASE WHEN d ->> 'direction' IN ('in', 'out', 'internal') THEN d ->> 'direction' END;
            v_reply := coalesce(crm.parse_number(d ->> 'reply_hours'), crm._reply_hours(v_account, kind, v_direction, source_ts));
            INSERT INTO crm_data.interaction (account_id, contact_id, opportunity_id, kind, channel, direction, occurred_at, summary, body, next_step, satisfaction, quality, auto, client_key, detail)
            VALUES (v_account, v_contact, v_deal, kind, d ->> 'channel', v_direction, source_ts, d ->> 'summary', d ->> 'body', d ->> 'next_step', CASE WHEN crm.parse_number(d ->> 'satisfaction') BETWEEN 0 AND 10 THEN crm.parse_number(d ->> 'satisfaction') END,
                    crm._touch_quality(kind, NULL, NULL, d ->> 'next_step', CASE WHEN v_direction IS DISTINCT FROM 'in' THEN v_reply END), false, 'inbox:' || id,
                    coalesce(v_detail, d) || jsonb_strip_nulls(jsonb_build_object('reply_hours', v_reply))) ON CONFLICT (client_key) DO NOTHING;
            -- the summary that somebody missed has come
            IF v_meeting IS NOT NULL AND d ->> 'summary' IS NOT NULL THEN
                UPDATE crm_data.alert AS a SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = 'asr' WHERE a.dedupe_key = format('rule:transcript_late:account:%s:%s:1', v_account, v_meeting) AND a.state <> 'closed';
            END IF;
        ELSE
            -- calls, files and behaviour: the rules know what they mean
            INSERT INTO crm_data.event (occurred_at, account_id, contact_id, source_id, kind, channel, value, detail) VALUES (source_ts, v_account, v_contact, source_id, kind, d ->> 'channel', crm.parse_number(d ->> 'value')::float8, d);
            PERFORM crm._run_rules('inbox.' || kind, 'account', v_account, d || jsonb_build_object('id', id, 'kind', kind, 'occurred_at', source_ts));
            PERFORM crm._emit('event.' || kind, 'account', v_account, d || jsonb_build_object('id', id, 'kind', kind, 'occurred_at', source_ts));
        END IF;
    EXCEPTION WHEN OTHERS THEN
        -- what is only in the way now is tried again by the clock; what is wrong stays until somebody asks for it
        state := CASE WHEN SQLSTATE ~ '^(40|53|55P03)' THEN 'parked' ELSE 'rejected' END;
        reason := left(SQLERRM, 500);
        object := NULL;
        record_id := NULL;
    END;
END
$$;
COMMENT ON FUNCTION crm._apply_payload(bigint, bigint, text, text, text, jsonb, timestamptz) IS 'Internal: applies a payload: a form becomes a lead, a conversation a follow-up, anything else an event that rules look at; without a customer it is parked, with an error rejected, each with its reason.';

CREATE OR REPLACE FUNCTION crm._apply_inbox(id bigint) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    i crm_data.inbox;
    s crm_data.source_system;
    r record;
BEGIN
    SELECT * INTO i FROM crm_data.inbox AS x WHERE x.id = id FOR UPDATE;
    SELECT * INTO s FROM crm_data.source_system AS x WHERE x.id = i.source_id;
    -- what it changes says which system it came from, and is not sent back there
    PERFORM crm._engine_write('none', 'sync.' || s.name);
    r := crm._apply_payload(i.id, s.id, s.name, i.external_id, i.kind, i.payload, i.source_ts);
    PERFORM crm._engine_write('none');
    -- a customer may come later: looked for again after one hour, two, four .. up to a day
    UPDATE crm_data.inbox AS x SET state = r.state, reason = r.reason, object = r.object, record_id = r.record_id, attempts = x.attempts + 1, processed_at = now(), origin = left(i.payload ->> 'origin', 200),
           next_at = CASE WHEN r.state = 'parked' THEN now() + least(interval '1 hour' * power(2, x.attempts), interval '1 day') END WHERE x.id = id;
    RETURN r.state;
END
$$;
COMMENT ON FUNCTION crm._apply_inbox(bigint) IS 'Internal: applies a payload that is in the inbox and notes what became of it; returns that.';

CREATE OR REPLACE FUNCTION crm._apply_all(ids bigint[]) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_id bigint;
    v_n int := 0;
BEGIN
    FOREACH v_id IN ARRAY ids LOOP
        v_n := v_n + (crm._apply_inbox(v_id) = 'applied')::int;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._apply_all(bigint[]) IS 'Internal: applies payloads that are in the inbox, one after the other; returns how many were applied.';

CREATE OR REPLACE FUNCTION crm.ingest(source text, external_id text, kind text, payload jsonb, source_ts timestamptz DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    s crm_data.source_system;
    i crm_data.inbox;
    v_digest bytea;
    v_done jsonb;
    r record;
BEGIN
    PERFORM crm._require_role('crm_sync', 'crm_admin');
    IF length(external_id) > 500 OR length(kind) > 100 THEN
        RAISE EXCEPTION 'the identifier of a payload has up to 500 characters, its kind up to 100' USING ERRCODE = 'invalid_parameter_value', HINT = 'Take the identifier that the source gives it, or a digest of it.';
    END IF;
    -- behaviour of a known customer, most of what comes, has a short way
    v_done := crm._ingest_behaviour(source, external_id, kind, payload, source_ts);
    IF v_done IS NOT NULL THEN
        RETURN v_done;
    END IF;
    IF jsonb_typeof(payload) IS DISTINCT FROM 'object' OR coalesce(external_id, '') = '' OR coalesce(kind, '') = '' THEN
        RAISE EXCEPTION 'a payload is an object with a kind and an identifier of its source' USING ERRCODE = 'invalid_parameter_value', HINT = 'crm.ingest(''web'', ''form-17'', ''form'', ''{"phone": "..."}'').';
    END IF;
    SELECT * INTO s FROM crm_data.source_system AS x WHERE x.name = source AND x.enabled;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown source "%"', left(source, 100) USING ERRCODE = 'invalid_parameter_value',
            HINT = format('It is missing in source_system or switched off. Those that are on: %s.', (SELECT string_agg(x.name, ', ' ORDER BY x.name) FROM crm_data.source_system AS x WHERE x.enabled));
    END IF;
    -- a time that is no time, or lies ahead, says nothing about when it happened
    IF NOT isfinite(source_ts) OR source_ts > now() + interval '1 day' OR source_ts < '1900-01-01' THEN
        source_ts := NULL;
    END IF;
    v_digest := sha256(convert_to(payload::text, 'UTF8'));
    SELECT * INTO i FROM crm_data.inbox AS x WHERE x.source_id = s.id AND x.external_id = external_id AND x.digest = v_digest;
    IF FOUND THEN
        RETURN jsonb_build_object('inbox', i.id, 'state', i.state, 'reason', i.reason, 'object', i.object, 'record', i.record_id, 'repeated', true);
    END IF;
    -- applied first and written once, in its last state
    i.id := nextval('crm_data.inbox_id_seq');
    BEGIN
        -- what it changes says which system it came from, and is not sent back there
        PERFORM crm._engine_write('none', 'sync.' || s.name);
        r := crm._apply_payload(i.id, s.id, s.name, external_id, kind, payload, coalesce(source_ts, now()));
        PERFORM crm._engine_write('none');
        i.state := r.state;
        i.reason := r.reason;
        i.object := r.object;
        i.record_id := r.record_id;
        INSERT INTO crm_data.inbox (id, source_id, external_id, kind, payload, digest, source_ts, ts_assumed, state, reason, object, record_id, attempts, processed_at, next_at, origin) OVERRIDING SYSTEM VALUE
        VALUES (i.id, s.id, external_id, kind, payload, v_digest, coalesce(source_ts, now()), source_ts IS NULL, i.state, i.reason, i.object, i.record_id, 1, now(), CASE WHEN i.state = 'parked' THEN now() + interval '1 hour' END, left(payload ->> 'origin', 200));
    EXCEPTION WHEN unique_violation THEN
        -- the same payload at the same time: what this one did is undone, the other's answer holds
        SELECT * INTO i FROM crm_data.inbox AS x WHERE x.source_id = s.id AND x.external_id = external_id AND x.digest = v_digest;
        IF NOT FOUND THEN
            RAISE;
        END IF;
        RETURN jsonb_build_object('inbox', i.id, 'state', i.state, 'reason', i.reason, 'object', i.object, 'record', i.record_id, 'repeated', true);
    END;
    -- nobody waits for the row of a busy source: every ten seconds are often enough to tell how fresh it is
    IF s.last_seen_at IS NULL OR s.last_seen_at < now() - interval '10 seconds' OR (i.state = 'applied' AND s.last_applied_at IS NULL) THEN
        UPDATE crm_data.source_system AS x SET last_seen_at = now(), last_applied_at = CASE WHEN i.state = 'applied' THEN now() ELSE x.last_applied_at END
         WHERE x.id = (SELECT y.id FROM crm_data.source_system AS y WHERE y.id = s.id FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    RETURN jsonb_build_object('inbox', i.id, 'state', i.state, 'reason', i.reason, 'object', i.object, 'record', i.record_id, 'repeated', false);
END
$$;
COMMENT ON FUNCTION crm.ingest(text, text, text, jsonb, timestamptz) IS
'Takes a payload of another system in and applies it in the same transaction. The same payload again changes nothing. It ends as applied, rejected or parked, with the reason, and stays visible. Never refused for its age: a missing source_ts, or one that lies ahead, is now, and marked as assumed.
kind: lead or form; meeting, survey, chat, email, note; transcript, what a speech recogniser wrote of a meeting (source asr; summary, text or segments [{speaker, side: us or customer, text}]), which is linked to the meeting and the deal it belongs to and whose objections crm.objections shows; finance.invoice, finance.payment, finance.refund (contract_code, amount, currency, number) and legal.sealed (contract_code, url), with or without what stands before the dot; call, chat_file and any behaviour. The customer is found by account_code, phone or email; opportunity_code names a deal of it that a conversation belongs to. origin: the mark of a message that we sent to this system (crm.sync_subscribe); with nothing but what it said it is our own change coming back, and rejected. Errors: 22023 an unknown source, a payload that is no object, or an identifier or kind that is too long.';

CREATE OR REPLACE FUNCTION crm.process_inbox(batch int DEFAULT 500) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._require_role('crm_sync', 'crm_admin');
    RETURN crm._apply_all(ARRAY(SELECT x.id FROM crm_data.inbox AS x WHERE x.state IN ('received', 'parked') AND x.next_at <= now() ORDER BY x.next_at, x.id LIMIT batch FOR UPDATE SKIP LOCKED));
END
$$;
COMMENT ON FUNCTION crm.process_inbox(int) IS
'Tries what is parked and due again, of all sources: first after an hour, then after twice as long each time, at most a day. The clock calls it; several sessions may at once. Returns how many were applied. batch: how many are tried.';

CREATE OR REPLACE FUNCTION crm.retry_inbox(source text, batch int DEFAULT 500, force boolean DEFAULT false) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_source bigint := crm._source_id(source);
BEGIN
    PERFORM crm._require_role('crm_sync', 'crm_admin');
    RETURN crm._apply_all(ARRAY(SELECT x.id FROM crm_data.inbox AS x WHERE x.source_id = v_source AND (x.state IN ('received', 'parked') OR (force AND x.state = 'rejected')) ORDER BY x.id LIMIT batch FOR UPDATE SKIP LOCKED));
END
$$;
COMMENT ON FUNCTION crm.retry_inbox(text, int, boolean) IS 'Tries what is parked of a source again, with force what was rejected too, oldest first, with its original times; returns how many were applied. Errors: 22023 unknown source.';

CREATE OR REPLACE FUNCTION crm._source_id(source text) RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_id bigint;
BEGIN
    SELECT s.id INTO v_id FROM crm_data.source_system AS s WHERE s.name = source;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown source "%"', source USING ERRCODE = 'invalid_parameter_value', HINT = 'Sources are rows of source_system.';
    END IF;
    RETURN v_id;
END
$$;
COMMENT ON FUNCTION crm._source_id(text) IS 'Internal: the row of a source by its name, switched off or not; an error for an unknown one.';

CREATE OR REPLACE FUNCTION crm.reprocess(source text, since timestamptz) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_source bigint := crm._source_id(source);
    v_id bigint;
    v_ids bigint[];
    v_applied int;
    v_leads int := 0;
    v_routed int := 0;
BEGIN
    PERFORM crm._require_role('crm_sync', 'crm_admin');
    v_ids := ARRAY(SELECT x.id FROM crm_data.inbox AS x WHERE x.source_id = v_source AND x.created_at >= since AND x.state IN ('received', 'parked', 'rejected', 'conflict') ORDER BY x.id FOR UPDATE SKIP LOCKED);
    v_applied := crm._apply_all(v_ids);
    FOR v_id IN SELECT l.id FROM crm_data.lead AS l WHERE l.source_id = v_source AND l.recorded_at >= since AND l.state = 'unrouted' AND l.deleted_at IS NULL AND l.merged_into IS NULL ORDER BY l.occurred_at, l.id FOR UPDATE SKIP LOCKED LOOP
        v_leads := v_leads + 1;
        v_routed := v_routed + (crm.assign_lead(v_id) IS NOT NULL)::int;
    END LOOP;
    IF v_routed > 0 AND NOT EXISTS (SELECT FROM crm_data.lead AS l WHERE l.state = 'unrouted' AND l.deleted_at IS NULL) THEN
        UPDATE crm_data.alert AS a SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = session_user WHERE a.dedupe_key = 'unrouted' AND a.state <> 'closed';
    END IF;
    RETURN jsonb_build_object('payloads', cardinality(v_ids), 'applied', v_applied, 'unrouted', v_leads, 'routed', v_routed);
END
$$;
COMMENT ON FUNCTION crm.reprocess(text, timestamptz) IS
'After a rule or a mapping was wrong and is right again: takes what a source sent since an instant and what did not end as applied, in its order and with its original times, and gives every lead of that source that found nobody to somebody. What was applied stays as it is; first-touch clocks start now. Anybody may call it twice.
Returns {"payloads": tried, "applied", "unrouted": leads that waited, "routed"}. since: by when we received it. Errors: 22023 unknown source.';
