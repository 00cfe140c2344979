-- Sync: other systems are told of our changes, from the history and never of what came from themselves.
-- A change is in the history in the transaction that made it, with the endpoint it came through: sync.<source> for another system. The clock reads on from where it
-- stopped and puts a message for each subscriber into the outbox; a change of a transaction that was still running is read when it is over, so none is left out.

CREATE OR REPLACE FUNCTION crm._echo_of(source text, d jsonb, OUT object text, OUT record_id bigint)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- our message to this very system, and nothing in the payload that it did not say
    SELECT o.payload ->> 'object', (o.payload ->> 'id')::bigint
      FROM crm_data.outbox AS o
     WHERE d ->> 'origin' LIKE 'crm:%' AND o.dedupe_key = 'sync:' || source || ':' || substr(d ->> 'origin', 5)
       AND o.payload -> 'fields' || (o.payload - 'fields') @> (d - 'fields' || CASE jsonb_typeof(d -> 'fields') WHEN 'object' THEN d -> 'fields' ELSE '{}' END)
$$;
COMMENT ON FUNCTION crm._echo_of(text, jsonb) IS 'Internal: the record whose change a payload only repeats to us, by the mark of the message that we sent to its source; NULL for anything else.';

CREATE OR REPLACE FUNCTION crm.sync_subscribe(source text, objects jsonb, channel text DEFAULT 'webhook', address text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_source bigint := crm._source_id(coalesce(source, ''));
    v_bad text;
BEGIN
    PERFORM crm._require('configure');
    IF objects IS NULL OR objects = '{}' THEN
        DELETE FROM crm_data.sync_cursor AS c WHERE c.source_id = v_source;
        RETURN;
    END IF;
    IF jsonb_typeof(objects) <> 'object' OR EXISTS (SELECT FROM jsonb_each(objects) AS e WHERE jsonb_typeof(e.value) <> 'array' OR e.value = '[]') THEN
        RAISE EXCEPTION 'a subscription names fields by object' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example {"contract": ["state", "amount"]}.';
    END IF;
    SELECT string_agg(e.key || '.' || (v.f #>> '{}'), ', ' ORDER BY e.key, v.f #>> '{}') INTO v_bad
      FROM jsonb_each(objects) AS e CROSS JOIN LATERAL jsonb_array_elements(e.value) AS v (f)
     WHERE NOT EXISTS (SELECT FROM crm._protected_tables() AS p WHERE p.object = e.key AND v.f #>> '{}' = ANY (p.versioned_columns));
    IF v_bad IS NOT NULL THEN
        RAISE EXCEPTION 'no history is kept of %', v_bad USING ERRCODE = 'invalid_parameter_value', HINT = 'Only fields that people and systems change can be told of; those that the engine keeps have no history.';
    END IF;
    IF NOT EXISTS (SELECT FROM crm_data.channel AS c WHERE c.name = channel) THEN
        RAISE EXCEPTION 'there is no channel "%"', channel USING ERRCODE = 'invalid_parameter_value', HINT = 'For example webhook.';
    END IF;
    INSERT INTO crm_data.sync_cursor AS c (source_id, channel, address, objects, done_at, done_xid, from_at, mark_at, mark_xid)
    VALUES (v_source, channel, address, objects, clock_timestamp(), pg_snapshot_xmin(pg_current_snapshot()), now(), now(), pg_current_xact_id())
    ON CONFLICT (source_id) DO UPDATE SET channel = excluded.channel, address = excluded.address, objects = excluded.objects, updated_at = now(), updated_by = session_user;
END
$$;
COMMENT ON FUNCTION crm.sync_subscribe(text, jsonb, text, text) IS
'From now on another system is told of changes of some fields: a message in the outbox for each change, topic sync.<source>, {origin, object, id, code, external_id, version, op, at, fields: {field: new value}}, by the next tick, in the order of each record''s versions. It is not told of changes that came from itself (endpoint sync.<source>: crm.ingest, or crm.write and crm.save_account with that endpoint), nor about customers who switched it off (sync_off). A system that sends a message back with its origin and nothing new is not listened to.
source: a row of source_system. objects: fields by object, {"contract": ["state", "amount"]}; again to change them; NULL or {} to end it. channel: of the outbox. address: on it; NULL leaves it to the relay.
Errors: 22023 unknown source, channel, object or field; 42501 without the right to configure.';

CREATE OR REPLACE FUNCTION crm._sync_changes() RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    v_upto timestamptz;
    v_mark xid8;
    v_own xid8;
    v_n int;
    v_total int := 0;
BEGIN
    FOR s IN SELECT c.*, y.name FROM crm_data.sync_cursor AS c JOIN crm_data.source_system AS y ON y.id = c.source_id AND y.enabled ORDER BY c.source_id FOR UPDATE OF c SKIP LOCKED LOOP
        v_upto := clock_timestamp();
        v_mark := pg_snapshot_xmin(pg_current_snapshot());
        -- whoever has a later number than this transaction began after it
        v_own := pg_current_xact_id();
        INSERT INTO crm_data.outbox (topic, channel, address, account_id, payload, dedupe_key)
        SELECT 'sync.' || s.name, s.channel, s.address, h.account_id,
               jsonb_strip_nulls(jsonb_build_object('origin', format('crm:%s:%s:%s', h.object, h.record_id, h.version), 'object', h.object, 'id', h.record_id, 'code', crm._image(h.object, h.record_id) -> 'code',
                   'external_id', (SELECT min(e.external_id) FROM crm_data.external_ref AS e WHERE e.source_id = s.source_id AND e.object = h.object AND e.record_id = h.record_id), 'version', h.version, 'op', crm._op_name(h.op), 'at', h.at))
               || jsonb_build_object('fields', f.told),
               format('sync:%s:%s:%s:%s', s.name, h.object, h.record_id, h.version)
          FROM crm_data.change AS h
         CROSS JOIN LATERAL (SELECT jsonb_object_agg(e.key, e.value -> 1) AS told FROM jsonb_each(h.fields::jsonb) AS e WHERE s.objects -> h.object ? e.key AND e.value -> 1 IS DISTINCT FROM CASE h.op WHEN 'i' THEN 'null'::jsonb END) AS f
          -- the clock may have been set back a little meanwhile
         WHERE h.at >= s.from_at - interval '1 hour' AND h.at <= v_upto AND h.xid < v_mark AND NOT (h.at <= s.done_at AND h.xid < s.done_xid)
           AND s.objects ? h.object AND h.endpoint IS DISTINCT FROM 'sync.' || s.name AND f.told IS NOT NULL
           AND NOT EXISTS (SELECT FROM crm_data.account AS a WHERE a.id = h.account_id AND s.name = ANY (a.sync_off))
         ORDER BY h.at, h.object, h.record_id, h.version
        ON CONFLICT ON CONSTRAINT outbox_dedupe_key_key DO NOTHING;
        GET DIAGNOSTICS v_n = ROW_COUNT;
        v_total := v_total + v_n;
        -- what ran at the mark is over: what is missing began after it
        UPDATE crm_data.sync_cursor AS c SET done_at = v_upto, done_xid = v_mark, updated_at = now(), updated_by = 'tick',
               from_at = CASE WHEN v_mark >= c.mark_xid THEN c.mark_at ELSE c.from_at END,
               mark_at = CASE WHEN v_mark >= c.mark_xid OR c.mark_xid > v_own THEN now() ELSE c.mark_at END,
               mark_xid = CASE WHEN v_mark >= c.mark_xid OR c.mark_xid > v_own THEN v_own ELSE c.mark_xid END
         WHERE c.source_id = s.source_id;
    END LOOP;
    RETURN v_total;
END
$$;
COMMENT ON FUNCTION crm._sync_changes() IS 'Internal: puts a message for every subscriber into the outbox for each change since the last time that did not come from itself; returns how many.';
