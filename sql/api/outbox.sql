-- Outbox: messages to people and systems. The database delivers nothing itself: relays claim, deliver and answer.

CREATE OR REPLACE FUNCTION crm._topic_channel(topic text, OUT channel text, OUT fallback text[])
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- (every message asks: in this language the plan is kept)
    SELECT t.channel, ARRAY(SELECT f.name FROM jsonb_array_elements_text(c.body #> ARRAY['fallback', t.channel]) AS f (name))
      INTO _topic_channel.channel, _topic_channel.fallback
      FROM crm_data.config AS c
           CROSS JOIN LATERAL (SELECT coalesce(c.body #>> ARRAY['topics', _topic_channel.topic], c.body #>> ARRAY['topics', split_part(_topic_channel.topic, '.', 1) || '.*'], c.body #>> '{topics,*}') AS channel) AS t
     WHERE c.kind = 'notification' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active';
END
$$;
COMMENT ON FUNCTION crm._topic_channel(text) IS
'Internal: the channel of a topic, and the channels that take over from it, by the active configuration of kind notification: the topic itself, else its family (report.*), else *.';

CREATE OR REPLACE FUNCTION crm._link(object text, id text) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_link text := crm._setting('organisation.link', '');
BEGIN
    RETURN CASE WHEN v_link ~ '^https?://' THEN replace(replace(v_link, '{object}', object), '{id}', id) END;
END
$$;
COMMENT ON FUNCTION crm._link(text, text) IS 'Internal: where a record is opened, by the setting organisation.link; NULL where there is none.';

CREATE OR REPLACE FUNCTION crm._notify(topic text, dedupe_key text, payload jsonb, members bigint[], account bigint DEFAULT NULL) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_rows int;
    v_link text := CASE WHEN payload ? 'snapshot' THEN crm._link('report', payload ->> 'snapshot') WHEN payload ? 'task' THEN crm._link('task', payload ->> 'task') WHEN payload ? 'lead' THEN crm._link('lead', payload ->> 'lead')
                        WHEN payload ? 'record' THEN crm._link(payload ->> 'object', payload ->> 'record') END;
BEGIN
    payload := payload || CASE WHEN v_link IS NOT NULL THEN jsonb_build_object('link', v_link) ELSE '{}' END;
    INSERT INTO crm_data.outbox (topic, channel, fallback, recipient_id, account_id, payload, dedupe_key)
    SELECT topic, t.channel, t.fallback, m.id, account, payload, dedupe_key || ':' || m.id
      FROM crm_data.member AS m CROSS JOIN crm._topic_channel(topic) AS t
     WHERE m.id = ANY (members) AND (m.left_at IS NULL OR m.left_at > current_date) AND t.channel IS NOT NULL
    ON CONFLICT ON CONSTRAINT outbox_dedupe_key_key DO NOTHING;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
COMMENT ON FUNCTION crm._notify(text, text, jsonb, bigint[], bigint) IS
'Internal: puts a message to some members into the outbox, on the channel that the topic has, once for each member and dedupe_key, with a link to what it is about. The payload must hold only what the recipient may see. Returns the number of new messages.';

CREATE OR REPLACE FUNCTION crm._stand_in(member bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    m record;
BEGIN
    -- (a circle of managers who all left has an end, too)
    FOR i IN 1 .. 10 LOOP
        SELECT x.manager_id, x.left_at IS NULL OR x.left_at > current_date AS here INTO m FROM crm_data.member AS x WHERE x.id = member;
        IF m.here IS NOT FALSE OR m.manager_id IS NULL THEN
            RETURN CASE WHEN m.here THEN member END;
        END IF;
        member := m.manager_id;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._stand_in(bigint) IS 'Internal: who does what a member should do: he himself, or, after he has left and as long as nobody took his work over, the first of his managers who is still there; NULL if nobody is.';

CREATE OR REPLACE FUNCTION crm._manager_of(member bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN crm._stand_in((SELECT m.manager_id FROM crm_data.member AS m WHERE m.id = member));
END
$$;
COMMENT ON FUNCTION crm._manager_of(bigint) IS 'Internal: the manager of a member, or, if he has left, who stands in for him; NULL if nobody.';

CREATE OR REPLACE FUNCTION crm._members_with(roles text[]) RETURNS bigint[]
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(m.id ORDER BY m.id), '{}')
      FROM crm_data.member AS m JOIN pg_roles AS r ON r.rolname = m.role_name
     WHERE (m.left_at IS NULL OR m.left_at > current_date) AND NOT r.rolsuper
       AND EXISTS (SELECT FROM pg_roles AS g WHERE g.rolname = ANY (roles) AND pg_has_role(r.oid, g.oid, 'member'))
$$;
COMMENT ON FUNCTION crm._members_with(text[]) IS 'Internal: the members whose login role has one of some roles.';

CREATE OR REPLACE FUNCTION crm._customer_snapshot(recipient bigint, topic text, account bigint, lead bigint) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_before text;
    v_lead jsonb;
    v_card jsonb;
BEGIN
    IF recipient IS NULL OR coalesce(account, lead) IS NULL
       OR NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'notification' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active'
                         AND c.body -> 'snapshot' ?| ARRAY[topic, split_part(topic, '.', 1) || '.*', '*']) THEN
        RETURN '{}';
    END IF;
    -- the views answer what the recipient may see, at the moment the message goes out
    v_before := crm._as('member ' || recipient);
    IF lead IS NOT NULL THEN
        v_lead := crm._see('lead', lead);
    END IF;
    v_card := crm.account_card(coalesce(account, (v_lead ->> 'account_id')::bigint));
    PERFORM crm._as(v_before);
    RETURN jsonb_strip_nulls(jsonb_build_object('lead_card', v_lead, 'customer', v_card));
END
$$;
COMMENT ON FUNCTION crm._customer_snapshot(bigint, text, bigint, bigint) IS
'Internal: what a message carries of the customer or lead that it is about, as its recipient sees them now: {customer: as crm.account_card, lead_card}; nothing for topics without a snapshot (configuration notification, snapshot) and for what he may not see. Not STRICT: recipient, account and lead may be NULL.';

CREATE OR REPLACE FUNCTION crm._outbox_attempts() RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((crm._setting('outbox.backoff', '{}')::jsonb ->> 'attempts')::int, 8)
$$;
COMMENT ON FUNCTION crm._outbox_attempts() IS 'Internal: how often a message is tried before it is given up (setting outbox.backoff).';

CREATE OR REPLACE FUNCTION crm.outbox_claim(relay text, batch int DEFAULT 50, channels text[] DEFAULT NULL)
    RETURNS TABLE (id bigint, topic text, channel text, recipient text, address text, payload jsonb, dedupe_key text, attempts int)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r record;
BEGIN
    PERFORM crm._require_role('crm_sync');
    IF coalesce(relay, '') = '' OR batch NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'a relay needs a name and a batch of 1 to 1000 messages' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example crm.outbox_claim(''relay-1'', 50).';
    END IF;
    FOR r IN
    WITH open_channel AS (
        -- an open circuit lets one message through once its time is over
        SELECT c.name, CASE WHEN c.circuit = 'closed' THEN batch ELSE 1 END AS room
          FROM crm_data.channel AS c
         WHERE c.enabled AND (c.circuit = 'closed' OR c.open_until <= now()) AND (channels IS NULL OR c.name = ANY (channels))
    ), due AS (
        SELECT o.id, o.channel, row_number() OVER (PARTITION BY o.channel ORDER BY o.next_at, o.id) AS n
          FROM (SELECT x.id, x.channel, x.next_at FROM crm_data.outbox AS x
                 WHERE ((x.state IN ('pending', 'failed') AND x.next_at <= now()) OR (x.state = 'claimed' AND x.claimed_until < now() AND x.attempts < crm._outbox_attempts()))
                   AND x.channel IN (SELECT k.name FROM open_channel AS k)
                 ORDER BY x.next_at, x.id LIMIT batch FOR UPDATE SKIP LOCKED) AS o
    ), mine AS (
        UPDATE crm_data.outbox AS o
           SET state = 'claimed', claimed_by = relay, claimed_until = now() + make_interval(secs => crm._setting('outbox.claim', '60')::float8), attempts = o.attempts + 1
          FROM due AS d JOIN open_channel AS k ON k.name = d.channel AND d.n <= k.room
         WHERE o.id = d.id
        RETURNING o.*
    )
    SELECT m.id, m.topic, m.channel, p.full_name AS recipient,
           coalesce(m.address, CASE WHEN m.channel = 'email' THEN p.email WHEN m.channel = 'sms' THEN p.phone ELSE p.employee_no END) AS address, m.payload, m.dedupe_key, m.attempts,
           m.recipient_id, m.account_id
      FROM mine AS m LEFT JOIN crm_data.member AS p ON p.id = m.recipient_id ORDER BY m.id LOOP
        id := r.id;
        topic := r.topic;
        channel := r.channel;
        recipient := r.recipient;
        address := r.address;
        payload := r.payload;
        dedupe_key := r.dedupe_key;
        attempts := r.attempts;
        IF jsonb_typeof(payload) = 'object' THEN
            payload := payload || crm._customer_snapshot(r.recipient_id, r.topic, r.account_id, CASE WHEN r.payload ->> 'lead' ~ '^[0-9]{1,18}$' THEN (r.payload ->> 'lead')::bigint END);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm.outbox_claim(text, int, text[]) IS
'Takes messages for delivery, oldest first; others do not get them for outbox.claim seconds. Deliver each at least once, with its dedupe_key, then answer with crm.outbox_ack or crm.outbox_fail. A channel whose circuit is open gives nothing until its pause is over, then one message as a trial.
A reminder (the topics in snapshot of the configuration notification) carries the customer, as crm.account_card, and the lead, as its recipient may see them at this moment; nothing of that is kept in the outbox.
relay: name of the caller. batch: 1 to 1000. channels: only these. Errors: 22023 no name or an odd batch.';

CREATE OR REPLACE FUNCTION crm.outbox_ack(ids bigint[], relay text) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows int;
BEGIN
    PERFORM crm._require_role('crm_sync');
    WITH done AS (
        UPDATE crm_data.outbox AS o SET state = 'sent', sent_at = now(), claimed_until = NULL, last_error = NULL
         WHERE o.id = ANY (ids) AND o.state = 'claimed' AND o.claimed_by = relay RETURNING o.channel
    ), works AS (
        UPDATE crm_data.channel AS c SET circuit = 'closed', failures = 0, open_until = NULL, updated_at = now(), updated_by = session_user
          FROM (SELECT DISTINCT d.channel FROM done AS d) AS d
         WHERE c.name = d.channel AND (c.failures > 0 OR c.circuit <> 'closed')
    )
    SELECT count(*) INTO v_rows FROM done;
    RETURN v_rows;
END
$$;
COMMENT ON FUNCTION crm.outbox_ack(bigint[], text) IS
'Reports messages as delivered; closes the circuit of their channels. Returns how many were still the relay''s. ids: from crm.outbox_claim. relay: the name given there.';

CREATE OR REPLACE FUNCTION crm._outbox_fall_back(ids bigint[], why text) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows int;
BEGIN
    INSERT INTO crm_data.outbox (topic, channel, fallback, recipient_id, account_id, payload, dedupe_key, parent_id)
    SELECT o.topic, f.channel, '{}', o.recipient_id, o.account_id, o.payload, o.dedupe_key || '>' || f.channel, o.id
      FROM crm_data.outbox AS o CROSS JOIN LATERAL unnest(o.fallback) AS f (channel) JOIN crm_data.channel AS c ON c.name = f.channel AND c.enabled
     WHERE o.id = ANY (ids)
     ORDER BY o.id, f.channel
    ON CONFLICT ON CONSTRAINT outbox_dedupe_key_key DO NOTHING;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    -- where every other channel is switched off, it went nowhere
    UPDATE crm_data.outbox AS o SET state = CASE WHEN EXISTS (SELECT FROM crm_data.outbox AS k WHERE k.parent_id = o.id) THEN 'cancelled' ELSE 'dead' END, last_error = left(coalesce(o.last_error || '; ', '') || why, 500), claimed_until = NULL
     WHERE o.id = ANY (ids) AND o.state <> 'sent';
    -- somebody has to know that a message reached nobody
    INSERT INTO crm_data.alert (kind, level, message, value, dedupe_key)
    SELECT 'undelivered', 'orange', format('Messages on channel %s reached nobody: the state dead in outbox says which, and why.', o.channel), count(*), 'undelivered:' || o.channel
      FROM crm_data.outbox AS o WHERE o.id = ANY (ids) AND o.state = 'dead' GROUP BY o.channel ORDER BY o.channel
    ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO UPDATE SET value = alert.value + excluded.value, updated_at = now();
    RETURN v_rows;
END
$$;
COMMENT ON FUNCTION crm._outbox_fall_back(bigint[], text) IS 'Internal: sends messages over the other channels of their chain, each once, and gives up the first way; one that has no other is dead, with an alert for its channel.';

CREATE OR REPLACE FUNCTION crm.outbox_fail(id bigint, relay text, error text, permanent boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    o crm_data.outbox;
    v_policy jsonb := crm._setting('outbox.backoff', '{}')::jsonb;
    v_failures int;
    v_opened boolean := false;
BEGIN
    PERFORM crm._require_role('crm_sync');
    SELECT * INTO o FROM crm_data.outbox AS x WHERE x.id = id AND x.state = 'claimed' AND x.claimed_by = relay FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'not yours';
    END IF;
    UPDATE crm_data.channel AS c SET failures = c.failures + 1, updated_at = now(), updated_by = session_user WHERE c.name = o.channel RETURNING c.failures INTO v_failures;
    IF v_failures >= crm._setting('circuit.failures', '8')::int THEN
        UPDATE crm_data.channel AS c SET circuit = 'open', open_until = now() + make_interval(mins => crm._setting('circuit.retry_after', '5')::int) WHERE c.name = o.channel;
        v_opened := true;
        INSERT INTO crm_data.alert (kind, level, message, value, dedupe_key)
        VALUES ('channel_down', 'orange', format('Channel %s does not deliver: its circuit is open.', o.channel), v_failures, 'channel_down:' || o.channel)
        ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
    END IF;
    UPDATE crm_data.outbox AS x SET state = 'failed', last_error = left(error, 500), claimed_until = NULL,
           next_at = now() + least((v_policy ->> 'first')::interval * power((v_policy ->> 'factor')::float8, o.attempts - 1), (v_policy ->> 'max')::interval)
     WHERE x.id = id;
    IF permanent OR o.attempts >= crm._outbox_attempts() OR (v_opened AND o.fallback <> '{}') THEN
        PERFORM crm._outbox_fall_back(ARRAY[id], CASE WHEN permanent THEN 'cannot be delivered' WHEN v_opened THEN 'the channel is down' ELSE 'tried often enough' END);
        RETURN coalesce('fell back to ' || (SELECT string_agg(k.channel, ' and ' ORDER BY array_position(o.fallback, k.channel)) FROM crm_data.outbox AS k WHERE k.parent_id = id), 'dead');
    END IF;
    RETURN 'again later';
END
$$;
COMMENT ON FUNCTION crm.outbox_fail(bigint, text, text, boolean) IS
'Reports a message as not delivered and answers what happens next: again later (waiting longer each time), fell back to other channels (each exactly once), or dead. Enough failures in a row open the circuit of the channel, and then what waits for it takes the other channels at once.
id, relay: as claimed. error: what went wrong, without personal data. permanent: trying again is useless, for example an unknown number. Answers "not yours" when another relay has it by now.';
