-- Random documents against everything that takes them. Prints what is wrong and fails, or how much was tried.
SET client_min_messages = error;
SET jit = off;
\t on
INSERT INTO crm_data.member (full_name) VALUES ('Fuzz One'), ('Fuzz Two');
INSERT INTO crm_data.account (code, name, phone, owner_id) SELECT 'FUZZ-' || m.id, 'Fuzz ' || m.id, '1391111000' || m.id % 10, m.id FROM crm_data.member AS m WHERE m.full_name LIKE 'Fuzz %';
CREATE ROLE crm_fuzz_ann LOGIN;
GRANT crm_admin TO crm_fuzz_ann;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('crm_fuzz_ann', 'Fuzz Ann');
CREATE TABLE public.seeds (target text, doc jsonb);
INSERT INTO public.seeds VALUES
    ('payload', '{"account_code": "FUZZ-1", "connected": true, "seconds": 95, "value": 3, "channel": "phone"}'), ('payload', '{"phone": "13911110001", "direction": "in", "body": "再看看", "summary": "x", "satisfaction": "2", "reply_hours": 3}'),
    ('payload', '{"account_code": "FUZZ-2", "page": "/price", "dwell": 99, "minutes": 20, "category": "technical", "file_name": "a.pdf"}'),
    ('payload', '{"account_code": "FUZZ-1", "summary": "太贵", "segments": [{"speaker": "王", "side": "customer", "text": "再看看"}, {"side": "us", "text": "折扣"}], "text": "no budget"}'),
    ('save', '{"code": "FUZZ-1", "name": "n", "phone": "13911113333", "employees": 5, "tags": ["x"], "geo": "(1,2)", "next_renewal_on": "2026-01-01", "attrs": {"a": 1}, "proposals": {"uscc": "91310000MA1FL0000X", "legal_person": "王"}}'),
    ('save', '{"external": {"source": "erp", "id": "E-1"}, "op_id": "00000000-0000-4000-8000-000000000001", "endpoint": "web", "annual_revenue": 10.5, "grade": 3, "currency": "CNY", "parent_id": 1, "proposals": {"name": "x"}}'),
    ('config', '{"kind": "flag", "key": "off_fields", "body": {"on": true, "en": "x", "fields": {"web": ["account.city", "contact.phone"], "safari/17.3.1": ["account.legal_person"]}}}'),
    ('config', '{"kind": "field_map", "key": "fuzz", "body": {"object": "account", "systems": ["erp"], "fields": [{"field": "employees", "source_type": "int", "samples": ["1", "07"], "erp": "staff"}, {"field": "annual_revenue", "source_type": "numeric(18,2)", "samples": [1.5]}, {"field": "next_renewal_on", "samples": ["2026-01-01"]}, {"field": "geo", "samples": ["(1,2)"]}, {"field": "tags", "samples": ["{a}"]}]}}'),
    ('config', '{"kind": "setting", "key": "objection.keywords", "body": {"value": {"price": ["太贵", "a.*b", "("]}}}'),
    ('lead', '{"name": "张三", "company": "杭州光伏", "phone": "13911112222", "email": "a@b.cn", "need": "solar", "province": "浙江省", "city": "杭州", "source": "web", "campaign": "c", "client_key": "k1", "occurred_at": "2026-01-01 10:00", "legal_id4": "123X", "context": {"ip": "1.2.3.4", "dwell": 3, "longitude": "120.1", "latitude": 30}}'),
    ('touch', '{"account_id": 1, "kind": "call", "channel": "phone", "direction": "out", "occurred_at": "2026-01-01T10:00:00Z", "summary": "s", "progress": "budget_confirmed", "next_step": "n", "next_step_at": "2026-02-01", "duration": "00:02:00", "depth": "deep", "satisfaction": 5, "detail": {"reply_hours": 2}, "client_key": "t1"}');
INSERT INTO public.seeds SELECT DISTINCT ON (kind, jsonb_typeof(body)) 'config', jsonb_build_object('kind', kind, 'key', key, 'body', body) FROM crm_data.config WHERE status = 'active' ORDER BY kind, jsonb_typeof(body), key;
INSERT INTO public.seeds SELECT 'config', jsonb_build_object('kind', kind, 'key', key, 'body', body) FROM crm_data.config WHERE status = 'active' AND kind IN ('form', 'journey', 'rule', 'risk_signal', 'assignment', 'stage');

CREATE FUNCTION public.pick(VARIADIC a text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT a[1 + floor(random() * cardinality(a))::int]';
CREATE FUNCTION public.value(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    CASE floor(random() * 9)::int
    WHEN 0 THEN RETURN 'null';
    WHEN 1 THEN RETURN to_jsonb(public.pick('', ' ', 'x', '张三', 'infinity', 'NaN', '1e999', '-5', '0', '2026-02-30', '0000-00-00', 'now', '99999999999999999999', 'true', E'\u200b', E'\t\n', $q$'"; DROP TABLE$q$, '%s%n', '{}', '[]',
                                            '1 day', '-1 days', '1000000000 years', 'P1Y', '$', '$.*', '$.** ? (@ == 1', 'strict $.a.b', '$.account ? (@.x like_regex "(")', '$.a ? (@ > $n)', '$[*] ? (@.datetime() < 1)', '$.keyvalue()', '(', '13911112222', 'a@b.cn'));
    WHEN 2 THEN RETURN to_jsonb(repeat(public.pick('x', '长', 'a b ', '1', '$.'), 1 + floor(random() * random() * 12000)::int));
    WHEN 3 THEN RETURN to_jsonb((random() - 0.5) * power(10, floor(random() * 40) - 10));
    WHEN 4 THEN RETURN public.pick('0', '-1', '1', '2147483648', '9223372036854775808', '1e300', '1.5', '-0.0', '1e-300')::jsonb;
    WHEN 5 THEN RETURN public.pick('true', 'false')::jsonb;
    WHEN 6 THEN RETURN CASE WHEN depth <= 0 THEN '[]' ELSE (SELECT coalesce(jsonb_agg(public.value(depth - 1)), '[]') FROM generate_series(1, floor(random() * 4)::int)) END;
    ELSE RETURN CASE WHEN depth <= 0 THEN '{}' ELSE (SELECT coalesce(jsonb_object_agg(public.pick('when', 'on', 'then', 'do', 'kind', 'key', 'body', 'phone', 'value', 'routes', 'to', 'x', 'id', 'due', 'name', 'context', 'setting') || CASE n WHEN 1 THEN '' ELSE n::text END, public.value(depth - 1)), '{}') FROM generate_series(1, floor(random() * 4)::int) AS n) END;
    END CASE;
END $$;
-- something wrong somewhere in a document: another value, a key more or less
CREATE FUNCTION public.spoil(doc jsonb, depth int DEFAULT 6) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE k text; n int;
BEGIN
    IF random() < 0.25 OR depth = 0 OR jsonb_typeof(doc) NOT IN ('object', 'array') OR doc IN ('{}', '[]') THEN RETURN public.value(2); END IF;
    IF jsonb_typeof(doc) = 'object' THEN
        SELECT x INTO k FROM jsonb_object_keys(doc) AS x ORDER BY random() LIMIT 1;
        IF random() < 0.15 THEN RETURN doc - k; END IF;
        IF random() < 0.1 THEN RETURN doc || jsonb_build_object(public.pick('x', 'window', 'delay', 'settings', 'once', 'regions', 'boxes', 'weights'), public.value(2)); END IF;
        RETURN doc || jsonb_build_object(k, public.spoil(doc -> k, depth - 1));
    END IF;
    n := floor(random() * jsonb_array_length(doc))::int;
    IF random() < 0.15 THEN RETURN doc - n; END IF;
    RETURN jsonb_set(doc, ARRAY[n::text], public.spoil(doc -> n, depth - 1));
END $$;

CREATE TABLE public.outcome (target text, code text, message text, hint text, doc jsonb);
CREATE PROCEDURE public.fuzz(documents int, seconds int, seed float8) LANGUAGE plpgsql AS $$
DECLARE
    until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    s record; d jsonb; v int; n int := 0; v_hint text; v_message text; v_state text; v_step text; v_before text; v_ok boolean;
BEGIN
    PERFORM setseed(seed / 1000);
    WHILE CASE WHEN seconds IS NULL THEN n < documents ELSE clock_timestamp() < until END LOOP
        n := n + 1;
        v_ok := random() < 0.4;
        SELECT * INTO s FROM public.seeds WHERE (target = 'config') = v_ok ORDER BY random() LIMIT 1;
        d := s.doc;
        FOR i IN 1 .. 1 + floor(random() * 3)::int LOOP d := CASE WHEN s.target = 'config' THEN jsonb_set(d, '{body}', public.spoil(d -> 'body')) ELSE public.spoil(d) END; END LOOP;
        v_step := s.target;
        v_ok := false;
        IF s.target = 'config' THEN SELECT md5(string_agg(c.id || c.status, ',' ORDER BY c.id)) INTO v_before FROM crm_data.config AS c WHERE c.status IN ('active', 'canary'); END IF;
        BEGIN
            CASE s.target
            WHEN 'payload' THEN
                PERFORM crm.ingest(public.pick('web', 'telephony', 'app', 'wecom_archive', 'asr'), 'f' || n, public.pick('call', 'chat', 'meeting', 'transcript', 'survey', 'chat_file', 'page_view', 'ticket_opened', 'balance', 'docs_view', 'form', 'lead', 'note', 'x y'), d,
                                   public.pick('2026-01-01', 'infinity', '-infinity', '0001-01-01', '294000-01-01')::timestamptz);
            WHEN 'lead' THEN PERFORM crm.capture_lead(d);
            WHEN 'touch' THEN PERFORM crm.log_interaction(d);
            WHEN 'save' THEN PERFORM crm.save_account(d || jsonb_build_object('code', public.pick('FUZZ-1', 'FUZZ-2', 'FUZZ-' || n)), public.pick(NULL, NULL, '1', '2')::int);
            ELSE
                PERFORM count(*) FROM crm.config_validate(d ->> 'kind', d -> 'body');
                v_step := 'bundle';
                IF random() < 0.2 THEN
                    PERFORM crm.config_import(CASE WHEN random() < 0.3 THEN public.value(3) ELSE jsonb_build_object('format', 'crm-config-1', 'items', jsonb_build_array(d), 'digest', encode(sha256(convert_to(jsonb_build_array(d)::text, 'UTF8')), 'hex')) END);
                END IF;
                v_step := 'config';
                v := crm.config_put(d ->> 'kind', d ->> 'key', d -> 'body');
                v_step := 'simulate';
                PERFORM crm.config_simulate(d ->> 'kind', d ->> 'key', v), crm.config_impact(d ->> 'kind', d ->> 'key', v);
                v_step := 'propose';
                PERFORM crm.config_propose(d ->> 'kind', d ->> 'key', v);
                -- a valid one is tried by the second person and taken back, so that what follows meets the shipped ones
                v_step := 'approve';
                SET LOCAL ROLE crm_fuzz_ann;
                PERFORM crm.config_approve(d ->> 'kind', d ->> 'key', v);
                RESET ROLE;
                IF d ->> 'kind' IN ('rule', 'risk_signal', 'assignment', 'stage', 'health_model', 'notification', 'journey', 'setting', 'picklist', 'form', 'calendar', 'lifecycle') THEN
                    v_step := 'in force';
                    PERFORM crm._run_rules(public.pick('timer.account', 'interaction.insert', 'inbox.call', 'score.risk', 'timer.contract'), 'account', (SELECT min(a.id) FROM crm_data.account AS a), '{"id": 1, "keyword_hits": 3}');
                    PERFORM crm.capture_lead(jsonb_build_object('phone', '139' || (10000000 + n), 'need', 'x'));
                    PERFORM count(*) FROM crm._objections('价格太高了 a.b ( no budget');
                    PERFORM crm._features('account', a.id, now()), crm._info_health(a.id, now()) FROM crm_data.account AS a;
                END IF;
                RAISE EXCEPTION 'taken back' USING ERRCODE = 'RM999', HINT = 'all well';
            END CASE;
            v_ok := true;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS v_hint = PG_EXCEPTION_HINT, v_message = MESSAGE_TEXT, v_state = RETURNED_SQLSTATE;
            INSERT INTO public.outcome VALUES (v_step, v_state, v_message, v_hint, d);
        END;
        IF v_ok THEN INSERT INTO public.outcome VALUES (v_step, '00000', NULL, NULL, NULL); END IF;
        IF s.target = 'config' AND (SELECT md5(string_agg(c.id || c.status, ',' ORDER BY c.id)) FROM crm_data.config AS c WHERE c.status IN ('active', 'canary')) <> v_before THEN
            INSERT INTO public.outcome VALUES (v_step, 'HALF', 'something is in force that was not approved', '', d);
        END IF;
        COMMIT;
    END LOOP;
END $$;
CALL public.fuzz(:documents, nullif(:'seconds', '')::int, :seed);
CALL crm.tick();
CALL crm.tick();

-- what ended otherwise than well or with one of our errors
SELECT o.target, o.code, left(o.message, 90), count(*), left((array_agg(o.doc::text ORDER BY length(o.doc::text)))[1], 160) FROM public.outcome AS o
 WHERE o.code <> '00000' AND coalesce(o.hint, '') = '' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 40;
SELECT 'payloads without a state', count(*) FROM crm_data.inbox AS i WHERE i.state = 'received' OR (i.state <> 'applied' AND i.reason IS NULL) HAVING count(*) > 0;
SELECT 'payloads lost', (SELECT count(*) FROM public.outcome WHERE target = 'payload' AND code = '00000') - (SELECT count(*) FROM crm_data.inbox) WHERE (SELECT count(*) FROM public.outcome WHERE target = 'payload' AND code = '00000') <> (SELECT count(*) FROM crm_data.inbox);
SELECT 'refused by an error of the engine', i.reason, count(*), left((array_agg(i.kind || i.payload::text ORDER BY length(i.payload::text)))[1], 160) FROM crm_data.inbox AS i
 WHERE i.state IN ('rejected', 'parked') AND i.reason ~* '(violates|does not exist|cannot|out of range|invalid|exceeds|malformed|overflow|unexpected|null value)' GROUP BY 2 ORDER BY 3 DESC LIMIT 20;
SELECT 'an event failed', r.error, count(*) FROM crm_data.rule_event AS r WHERE r.error IS NOT NULL GROUP BY 2;
SELECT target, code, count(*) FROM public.outcome GROUP BY 1, 2 ORDER BY 1, 2;
DO $$
BEGIN
    IF EXISTS (SELECT FROM public.outcome AS o WHERE o.code <> '00000' AND coalesce(o.hint, '') = '') OR EXISTS (SELECT FROM crm_data.rule_event AS r WHERE r.error IS NOT NULL)
       OR EXISTS (SELECT FROM crm_data.inbox AS i WHERE i.state = 'received' OR (i.state <> 'applied' AND i.reason IS NULL))
       OR (SELECT count(*) FROM public.outcome WHERE target = 'payload' AND code = '00000') <> (SELECT count(*) FROM crm_data.inbox) THEN
        RAISE EXCEPTION 'see above';
    END IF;
END
$$;
SELECT count(*) || ' documents, each with a good end or a clear error' FROM public.outcome;
