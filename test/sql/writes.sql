-- Writes: no update lost, every operation answered once, leases, what waits, what conflicts.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.op(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
INSERT INTO crm_data.account (code, name, phone, tags, attrs) VALUES ('WRITE-1', '甲公司', '138', '{a,b}', '{"k": 1, "z": 2}') RETURNING id AS acc \gset

-- one write; sent again it gets the same answer; the identifier with another request is refused
SELECT crm.write('account', :acc, pg_temp.op(1), 'web', 1, '{"name": "乙公司", "annual_revenue": 12.5, "tags": ["a", "c"]}') - 'id' AS first;
SELECT crm.write('account', :acc, pg_temp.op(1), 'web', 1, '{"name": "乙公司", "annual_revenue": 12.5, "tags": ["a", "c"]}') - 'id' AS again;
SELECT crm.write('account', :acc, pg_temp.op(1), 'web', 1, '{"name": "丙公司"}');
\echo :LAST_ERROR_SQLSTATE
-- a stale form: another field is merged, sets unite, documents merge by key, the same field is a conflict and loses nothing
SELECT crm.write('account', :acc, pg_temp.op(2), 'wecom', 1, '{"name": "丙公司", "phone": "139", "tags": ["b", "d"], "attrs": {"k": 5, "n": 7, "z": null}}') - 'id' AS stale;
SELECT name, phone, tags, attrs, row_version, op_seq, field_version FROM crm_data.account WHERE id = :acc;
-- a key that both changed; one that only he changed
SELECT crm.write('account', :acc, pg_temp.op(3), 'web', 2, '{"attrs": {"k": 6, "m": 1}}') - 'id' AS keys;
-- an equal value is nothing; no base version overwrites nothing
SELECT crm.write('account', :acc, pg_temp.op(4), 'web', 1, '{"phone": "139"}') - 'id' AS equal;
SELECT crm.write('account', :acc, pg_temp.op(5), 'web', NULL, '{"phone": "137", "name": "乙公司", "city": "苏州"}') - 'id' AS no_base;
-- a field that lets the non-empty value win; another system's empty values say nothing
UPDATE crm_data.account SET uscc = '91320594MA1XXXXX0X' WHERE id = :acc;
SELECT crm.write('account', :acc, pg_temp.op(6), 'web', 2, '{"uscc": "", "industry": "制造"}') - 'id' AS fill;
SELECT crm.write('account', :acc, pg_temp.op(7), 'sync.erp', 6, '{"phone": null, "name": "", "industry": "软件"}') - 'id' AS connector;
SELECT uscc, industry, phone, name, row_version FROM crm_data.account WHERE id = :acc;
-- a counter takes a delta, however stale the form
INSERT INTO crm_data.contract (account_id, code) VALUES (:acc, 'WRITE-1') RETURNING id AS contract \gset
SELECT crm.write('contract', :contract, pg_temp.op(8), 'web', 1, '{"legal_edits": {"add": 1}}') ->> 'state' AS plus_one,
       crm.write('contract', :contract, pg_temp.op(9), 'app', 1, '{"legal_edits": {"add": 2}}') ->> 'state' AS plus_two;
SELECT legal_edits, row_version FROM crm_data.contract WHERE id = :contract;

-- what was kept
SELECT o.op_seq, c.field, c.base, c.theirs, c.mine, c.base_version, c.their_version, c.their_actor = c.actor AS same_actor
  FROM crm_data.conflict AS c JOIN crm_data.operation AS o ON o.op_id = c.op_id WHERE c.account_id = :acc ORDER BY c.id;
SELECT kind, level, object, state FROM crm_data.alert WHERE account_id = :acc;
-- every operation has its number, every version its change
SELECT array_agg(op_seq ORDER BY op_seq) AS numbers FROM crm_data.operation WHERE root_object = 'account' AND root_id = :acc;
SELECT object, version, endpoint, op_seq FROM crm_data.change WHERE account_id = :acc AND version > 1 ORDER BY object, version;
SELECT count(*) AS problems FROM crm.verify_history();

-- the lease: whoever has it, whoever else comes, in each mode
SELECT crm.begin_edit(:acc, 'web') - now() BETWEEN '29 s' AND '31 s' AS held;
\set VERBOSITY sqlstate
SELECT crm.begin_edit(:acc, 'app');
\set VERBOSITY terse
SELECT account = :acc AS here, application, state FROM crm.locks() WHERE state = 'lease';
SELECT row_version AS v FROM crm_data.account WHERE id = :acc \gset
\set VERBOSITY sqlstate
SELECT crm.write('account', :acc, pg_temp.op(20), 'wecom', :v, '{"city": "上海"}', NULL, 'reject');
\set VERBOSITY terse
SELECT crm.write('account', :acc, pg_temp.op(21), 'wecom', :v, '{"city": "上海"}', NULL, 'queue') ->> 'state' AS queued;
SELECT crm.write('account', :acc, pg_temp.op(21), 'wecom', :v, '{"city": "上海"}', NULL, 'queue') ->> 'state' AS still_queued;
SELECT crm.write('account', :acc, pg_temp.op(22), 'wecom', :v, '{"legal_id4": "1"}', NULL, 'queue') ->> 'state' AS queued;
SELECT crm.write('account', :acc, pg_temp.op(23), 'wecom', :v, '{"no_such_field": 1}', NULL, 'queue');
SELECT crm.write('account', :acc, pg_temp.op(24), 'web', :v, '{"city": "北京"}') ->> 'state' AS holder;
SELECT crm.write('account', :acc, pg_temp.op(25), 'app', :v, '{"district": "海淀"}') ->> 'state' AS lease_is_advice;
SELECT op_seq, endpoint, state, version, left(error, 5) AS code FROM crm_data.operation WHERE root_id = :acc AND op_id >= pg_temp.op(20) ORDER BY op_seq;
SELECT crm.end_edit(:acc);
SELECT lease_endpoint, lease_until FROM crm_data.account WHERE id = :acc;
-- a clock that went back: a lease that ends too far away is none
UPDATE crm_data.account SET lease_endpoint = 'web', lease_until = now() + interval '2 hours' WHERE id = :acc;
SELECT crm.write('account', :acc, pg_temp.op(26), 'app', NULL, '{"website": "example.com"}', NULL, 'reject') ->> 'state' AS not_held;
SELECT crm.end_edit(:acc);
-- what failed is tried again, keeps its number, and is applied when it can be
SELECT crm.retry_failed(10) AS tried;
SELECT state, attempts FROM crm_data.operation WHERE op_id = pg_temp.op(22);
SELECT crm.write('account', :acc, pg_temp.op(22), 'wecom', :v, '{"legal_id4": "1"}', NULL, 'queue') ->> 'state' AS answer;

-- deletion is a write like others: not over an edit that was not seen, and an edit of what is deleted is kept as a conflict
INSERT INTO crm_data.contact (account_id, name) VALUES (:acc, '张三') RETURNING id AS contact \gset
SELECT crm.write('contact', :contact, pg_temp.op(30), 'web', 1, '{"title": "总监"}') ->> 'state' AS edited;
SELECT crm.remove('contact', :contact, 1) ->> 'state' AS stale_delete;
SELECT crm.remove('contact', :contact, 2) ->> 'state' AS deleted;
SELECT crm.write('contact', :contact, pg_temp.op(31), 'web', 2, '{"title": "副总"}') ->> 'state' AS edit_of_deleted;
SELECT deleted_at IS NOT NULL AS deleted, title FROM crm_data.contact WHERE id = :contact;
-- a write to a merged customer goes to the survivor, whom its writer has not read
INSERT INTO crm_data.account (code, name) VALUES ('WRITE-2', '乙公司苏州') RETURNING id AS loser \gset
UPDATE crm_data.account SET merged_into = :acc WHERE id = :loser;
SELECT (crm.write('account', :loser, pg_temp.op(32), 'web', 1, '{"address": "工业园区", "name": "丁公司"}'))->>'id' = :acc::text AS at_survivor;
SELECT address, name FROM crm_data.account WHERE id = :acc;

-- messages for systems that want to know, without values, and not for a customer who is switched off
BEGIN;
UPDATE crm_data.source_system SET config = '{"outbound": "webhook"}' WHERE name = 'erp';
SELECT crm.write('account', :acc, pg_temp.op(40), 'web', NULL, '{"employees": 10}') ->> 'state' AS told;
SELECT topic, channel, payload - 'id' - 'version' - 'op_seq' AS payload FROM crm_data.outbox WHERE account_id = :acc AND topic = 'sync.erp';
UPDATE crm.account SET employees = 20 WHERE id = :acc;
SELECT count(*) AS told_of_sql FROM crm_data.outbox AS o JOIN crm_data.account AS a ON a.id = :acc
 WHERE o.account_id = :acc AND o.topic = 'sync.erp' AND o.payload = jsonb_build_object('object', 'account', 'id', a.id, 'version', a.row_version, 'op_seq', a.op_seq);
UPDATE crm_data.account SET sync_off = '{erp}' WHERE id = :acc;
SELECT crm.write('account', :acc, pg_temp.op(41), 'web', NULL, '{"founded_year": 2001}') ->> 'state' AS not_told;
SELECT count(*) FROM crm_data.outbox WHERE account_id = :acc AND topic = 'sync.erp';
ROLLBACK;

-- SQL through the views: a number and an operation for each version; none for what changes nothing or goes past the views
BEGIN;
SELECT op_seq AS before FROM crm_data.account WHERE id = :acc \gset
UPDATE crm.account SET name = '戊公司', tags = '{x}', attrs = '{"k": 9}' WHERE id = :acc;
UPDATE crm.account SET name = '戊公司' WHERE id = :acc;
UPDATE crm_data.account SET city = '常州' WHERE id = :acc;
UPDATE crm.contract SET legal_edits = 7 WHERE id = :contract;
SELECT o.op_seq - :before AS number, o.object, o.endpoint, o.state, o.mode, o.patch, o.version = o.base_version + 1 AS next_version, substr(o.op_id::text, 15, 1) AS uuid_version
  FROM crm_data.operation AS o WHERE o.root_object = 'account' AND o.root_id = :acc AND o.op_seq > :before ORDER BY o.op_seq;
SELECT h.object, h.op_seq - :before AS number FROM crm_data.change AS h WHERE h.account_id = :acc AND h.op_seq > :before ORDER BY h.op_seq;
SELECT crm.write('account', :acc, pg_temp.op(43), 'web', NULL, '{"founded_year": 2002}') ->> 'op_seq' = (:before + 3)::text AS goes_on;
-- its own identifier gets the same answer again
SELECT crm.write('account', :acc, o.op_id, 'sql', o.base_version, o.patch) - 'id' = jsonb_build_object('state', 'applied', 'version', o.version, 'op_seq', o.op_seq, 'conflicts', '[]'::jsonb) AS same_answer
  FROM crm_data.operation AS o WHERE o.root_object = 'account' AND o.root_id = :acc AND o.op_seq = :before + 1;
SELECT count(*) AS problems FROM crm.integrity_check() WHERE check_name = 'operations';
ROLLBACK;

-- many records of a customer in one statement: he is locked, not changed, even under a lease, and the numbers go on, whatever was rolled back between
BEGIN;
INSERT INTO crm_data.contact (account_id, name) SELECT :acc, '联系人' || g FROM generate_series(1, 50) AS g;
SELECT ctid AS place, (SELECT coalesce(max(o.op_seq), 0) FROM crm_data.operation AS o WHERE o.root_object = 'account' AND o.root_id = :acc) AS before FROM crm_data.account WHERE id = :acc \gset
UPDATE crm.contact SET title = 'a' WHERE account_id = :acc AND name LIKE '联系人%';
SAVEPOINT s;
UPDATE crm.contact SET title = 'b' WHERE account_id = :acc AND name LIKE '联系人1%';
ROLLBACK TO s;
UPDATE crm.contact SET title = 'c' WHERE account_id = :acc AND name LIKE '联系人2%';
SELECT ctid = :'place'::tid AS not_changed FROM crm_data.account WHERE id = :acc;
SELECT crm.begin_edit(:acc, 'web') IS NOT NULL AS leased;
UPDATE crm.contact SET title = 'd' WHERE account_id = :acc AND name = '联系人3';
SELECT (crm.write('account', :acc, pg_temp.op(44), 'web', NULL, '{"founded_year": 2003}') ->> 'op_seq')::int - :before AS own;
UPDATE crm.contact SET title = 'e' WHERE account_id = :acc AND name = '联系人3';
UPDATE crm.account SET name = '己公司' WHERE id = :acc;
SELECT max(o.op_seq) - :before AS last, count(*) = max(o.op_seq) AS gapless FROM crm_data.operation AS o WHERE o.root_object = 'account' AND o.root_id = :acc;
SELECT count(*) AS problems FROM crm.integrity_check() WHERE check_name = 'operations';
ROLLBACK;

-- a client that is too old
BEGIN;
SAVEPOINT s;
UPDATE crm_data.config SET body = body || '{"value": {"app": {"version": "4.2.1", "after": "2026-01-01"}}}' WHERE kind = 'setting' AND key = 'client.min_version';
SET LOCAL application_name = 'app/4.2.0';
SELECT crm.write('account', :acc, pg_temp.op(42), 'app', NULL, '{"website": "a.example"}');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
UPDATE crm_data.config SET body = body || '{"value": {"app": {"version": "4.2.1", "after": "2026-01-01"}}}' WHERE kind = 'setting' AND key = 'client.min_version';
SET LOCAL application_name = 'app/4.2.0';
SAVEPOINT t;
UPDATE crm.account SET website = 'a.example' WHERE id = :acc;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO t;
SELECT crm.submit_drafts('{}');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO t;
SET LOCAL application_name = 'app/4.10';
UPDATE crm.account SET district = 'new' WHERE id = :acc RETURNING district;
SELECT crm.write('account', :acc, pg_temp.op(42), 'app', NULL, '{"employees": 11}') ->> 'state' AS new_enough;
ROLLBACK;

-- upsert by code or reference
SELECT crm.save_account('{"code": "SAVE-1", "name": "新客户", "city": "南京"}') - 'id' AS created;
SELECT id AS saved FROM crm_data.account WHERE code = 'SAVE-1' \gset
SELECT crm.save_account('{"code": "SAVE-1", "name": "改名", "city": "无锡"}', 1) - 'id' AS updated;
SELECT crm.save_account('{"code": "SAVE-1", "name": "又改名", "industry": "制造"}') - 'id' AS nothing_read;
SELECT crm.save_account('{"external": {"source": "erp", "id": "C-77"}, "code": "SAVE-1", "phone": "025-1"}', 3) ->> 'state' AS linked;
SELECT (crm.save_account('{"external": {"source": "erp", "id": "C-77"}, "website": "s.example"}', 4) ->> 'id')::bigint = :saved AS found_by_reference;
SELECT name, city, industry, phone, website, row_version FROM crm_data.account WHERE id = :saved;
\set VERBOSITY sqlstate
SELECT crm.save_account('{"name": "x"}');
SELECT crm.save_account('{"code": "SAVE-8", "name": "x", "nme": 1}') - 'id' AS draft;
SELECT crm.save_account('{"code": "SAVE-9", "name": "x"}', 5);
SELECT crm.save_account('{"external": {"source": "nobody", "id": "1"}, "name": "x"}');
\set VERBOSITY terse

-- what a device wrote offline: ordered by its clock within a customer, sent twice without harm, nothing dropped
SELECT d - 'id' - 'op_id' AS draft FROM crm.submit_drafts(ARRAY[
    jsonb_build_object('object', 'account', 'id', :saved, 'op_id', pg_temp.op(72), 'base_version', 5, 'client_ts', '2026-03-01T10:05:00+08', 'patch', '{"city": "常州"}'::jsonb),
    jsonb_build_object('object', 'account', 'id', :saved, 'op_id', pg_temp.op(71), 'base_version', 5, 'client_ts', '2026-03-01T10:00:00+08', 'patch', '{"district": "天宁"}'::jsonb),
    jsonb_build_object('object', 'interaction', 'kind', 'create', 'op_id', pg_temp.op(73), 'patch', jsonb_build_object('account_id', :saved, 'kind', 'visit', 'summary', '语音备注', 'occurred_at', '2026-03-01T09:00:00+08')),
    jsonb_build_object('object', 'account', 'id', :saved, 'op_id', pg_temp.op(74), 'base_version', 5, 'client_ts', '2999-01-01', 'patch', '{"no_field": 1}'::jsonb),
    '{"object": "account", "kind": "explode"}'::jsonb, '[1]'::jsonb]) AS d ORDER BY d -> 'place';
SELECT d ->> 'state' AS again FROM crm.submit_drafts(ARRAY[
    jsonb_build_object('object', 'account', 'id', :saved, 'op_id', pg_temp.op(72), 'base_version', 5, 'client_ts', '2026-03-01T10:05:00+08', 'patch', '{"city": "常州"}'::jsonb),
    jsonb_build_object('object', 'interaction', 'kind', 'create', 'op_id', pg_temp.op(73), 'patch', jsonb_build_object('account_id', :saved, 'kind', 'visit', 'summary', '语音备注', 'occurred_at', '2026-03-01T09:00:00+08'))]) AS d ORDER BY d -> 'place';
SELECT op_seq, state, left(error, 5) AS code FROM crm_data.operation WHERE root_object = 'account' AND root_id = :saved ORDER BY op_seq;
SELECT city, district, row_version FROM crm_data.account WHERE id = :saved;
SELECT summary, occurred_at = '2026-03-01T09:00:00+08' AS occurred_kept, recorded_at > now() - interval '1 minute' AS recorded_now FROM crm_data.interaction WHERE account_id = :saved;

-- follow-ups: nobody deletes them, only the author changes them, for 72 hours; a steward may retract
SELECT id AS note FROM crm_data.interaction WHERE account_id = :saved \gset
\set VERBOSITY sqlstate
DELETE FROM crm_data.interaction WHERE id = :note;
UPDATE crm_data.interaction SET summary = '更正' WHERE id = :note RETURNING summary, row_version;
SELECT crm.write('interaction', :note, pg_temp.op(80), 'web', 2, '{"body": "补充"}') ->> 'state' AS within_72_hours;
BEGIN;
ALTER TABLE crm_data.interaction DISABLE TRIGGER crm_interaction_rules;
UPDATE crm_data.interaction SET recorded_at = now() - interval '73 hours' WHERE id = :note;
ALTER TABLE crm_data.interaction ENABLE ALWAYS TRIGGER crm_interaction_rules;
COMMIT;
UPDATE crm_data.interaction SET summary = '太晚' WHERE id = :note;
UPDATE crm_data.interaction SET quality = 80 WHERE id = :note RETURNING quality;
SELECT crm.write('interaction', :note, pg_temp.op(81), 'web', 4, '{"body": "太晚"}');
UPDATE crm_data.interaction SET retracted_at = now(), retracted_reason = '重复' WHERE id = :note RETURNING retracted_reason;
INSERT INTO crm_data.interaction (account_id, kind, recorded_at) VALUES (:saved, 'call', now() + interval '1 year') RETURNING recorded_at <= clock_timestamp() AS not_in_the_future;
INSERT INTO crm_data.interaction (account_id, kind, client_key) VALUES (:saved, 'call', '00000000-0000-4000-8000-000000000073');
\set VERBOSITY terse

-- bad input: clear errors, nothing done
SELECT crm.write('nothing', 1, pg_temp.op(50), 'web', 1, '{}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.write('config', 1, pg_temp.op(50), 'web', 1, '{}');
SELECT crm.write('account', -1, pg_temp.op(50), 'web', 1, '{"name": "x"}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"nme": "x"}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"row_version": 5}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"risk_score": 5}');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"created_at": "2020-01-01"}');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"annual_revenue": "much"}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"name": {"a": 1}}');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"name": 5}');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"tags": "a"}');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"tags": [["a"]]}');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '["name"]');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '5');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 99999, '{"name": "x"}');
SELECT crm.write('account', :acc, pg_temp.op(50), '', 1, '{"name": "x"}');
SELECT crm.write('account', :acc, pg_temp.op(50), 'web', 1, '{"name": "x"}', NULL, 'force');
SELECT crm.write('account', :acc, NULL, 'web', 1, '{"name": "x"}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.write('contract', :contract, pg_temp.op(50), 'web', 1, '{"legal_edits": {"add": "x"}}');
SELECT crm.begin_edit(:acc, '');
SELECT crm.begin_edit(:acc, 'web', '2 hours');
SELECT crm.begin_edit(-1, 'web');
SELECT crm.retry_failed(0);
SELECT crm.apply_operations(NULL, 0);
SELECT count(*) AS stored FROM crm_data.operation WHERE op_id = pg_temp.op(50);
-- a stranger sees nothing to write, and gets no lease
\set VERBOSITY sqlstate
SET ROLE crm_bi;
SELECT crm.write('account', :acc, '00000000-0000-4000-8000-000000000060', 'web', 1, '{"name": "x"}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.begin_edit(:acc, 'web');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
\set VERBOSITY terse
SELECT count(*) AS problems FROM crm.verify_history();

-- the same operations in any order lose no acknowledged value
DO $$
DECLARE
    ops CONSTANT jsonb[] := ARRAY[
        '{"name": "名一"}', '{"name": "名二", "phone": "201"}', '{"phone": "202", "city": "甲"}', '{"city": "乙", "province": "丙"}', '{"tags": ["a", "b"]}', '{"tags": ["b", "c"]}',
        '{"attrs": {"x": 1, "y": 1}}', '{"attrs": {"x": 2, "z": 1}}', '{"annual_revenue": 5, "employees": 7}', '{"employees": 8, "name": "名三"}', '{"tags": []}', '{"district": "丁", "phone": "203"}'];
    account bigint;
    answer jsonb;
    lost text := '';
    o record;
    f record;
    a crm_data.account;
BEGIN
    FOR seed IN 1 .. 25 LOOP
        INSERT INTO crm_data.account (name, tags, attrs) VALUES ('顺序' || seed, '{z}', '{"x": 0}') RETURNING id INTO account;
        FOR o IN SELECT p.patch, p.n FROM unnest(ops) WITH ORDINALITY AS p (patch, n) ORDER BY md5(seed || ':' || p.n) LOOP
            answer := crm.write('account', account, md5(seed || '/' || o.n)::uuid, 'web', 1, o.patch);
            FOR f IN SELECT e.key, e.value FROM jsonb_each(o.patch) AS e WHERE e.key NOT IN ('tags', 'attrs') LOOP
                IF NOT EXISTS (SELECT FROM crm_data.change AS h WHERE h.object = 'account' AND h.record_id = account AND h.op_seq = (answer ->> 'op_seq')::bigint AND h.fields::jsonb -> f.key -> 1 = f.value)
                   AND NOT EXISTS (SELECT FROM crm_data.conflict AS c WHERE c.record_id = account AND c.field = f.key AND c.mine = f.value) THEN
                    lost := lost || format('seed %s operation %s field %s; ', seed, o.n, f.key);
                END IF;
            END LOOP;
        END LOOP;
        SELECT * INTO a FROM crm_data.account AS x WHERE x.id = account;
        -- what anybody added is in, what anybody took out and nobody added is out
        IF NOT a.tags @> '{a,b,c}' OR 'z' = ANY (a.tags) THEN
            lost := lost || format('seed %s tags %s; ', seed, a.tags);
        END IF;
        IF NOT a.attrs @> '{"y": 1, "z": 1}' OR NOT EXISTS (SELECT FROM crm_data.conflict AS c WHERE c.record_id = account AND c.field = 'attrs.x' AND c.mine <> a.attrs -> 'x') THEN
            lost := lost || format('seed %s attrs %s; ', seed, a.attrs);
        END IF;
        IF a.op_seq <> cardinality(ops) THEN
            lost := lost || format('seed %s has %s operations; ', seed, a.op_seq);
        END IF;
    END LOOP;
    IF lost <> '' THEN
        RAISE EXCEPTION 'lost: %', lost;
    END IF;
END $$;
SELECT count(*) AS problems FROM crm.verify_history();

-- as a person: his own customer, not another's; no reference to what he does not see; answers and history show what he may see
DROP ROLE IF EXISTS writes_rep, writes_other;
CREATE ROLE writes_rep LOGIN IN ROLE crm_sales;
CREATE ROLE writes_other LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.team (code, name) VALUES ('WRITES-A', 'A'), ('WRITES-B', 'B');
INSERT INTO crm_data.member (role_name, employee_no, full_name, team_id, hired_at)
SELECT v.r, v.r, v.r, t.id, '2020-01-01' FROM (VALUES ('writes_rep', 'WRITES-A'), ('writes_other', 'WRITES-B')) AS v (r, t) JOIN crm_data.team AS t ON t.code = v.t;
INSERT INTO crm_data.account (code, name, owner_id, team_id)
SELECT 'WRITES-' || m.role_name, m.full_name, m.id, m.team_id FROM crm_data.member AS m WHERE m.role_name IN ('writes_rep', 'writes_other');
SELECT id AS his FROM crm_data.account WHERE code = 'WRITES-writes_rep' \gset
SELECT id AS others FROM crm_data.account WHERE code = 'WRITES-writes_other' \gset
INSERT INTO crm_data.contact (account_id, name) VALUES (:others, '别人') RETURNING id AS others_contact \gset
SET ROLE writes_rep;
SELECT crm.write('account', :his, md5('w1')::uuid, 'web', 1, '{"city": "苏州"}') - 'id' AS own;
\set VERBOSITY sqlstate
SELECT crm.write('account', :others, md5('w2')::uuid, 'web', 1, '{"city": "苏州"}');
SELECT crm.write('account', :his, md5('w3')::uuid, 'web', 2, jsonb_build_object('parent_id', :others));
SELECT crm.write('account', :his, md5('w4')::uuid, 'web', 2, '{"parent_id": -5}');
-- what waits for a lease asks for rights when it is sent; and nobody passes for a connector
SELECT crm.begin_edit(:his, 'app') > now() AS leased;
SELECT crm.write('account', :his, md5('w10')::uuid, 'web', 2, jsonb_build_object('parent_id', :others), NULL, 'queue');
SELECT crm.write('account', :his, md5('w11')::uuid, 'web', 1, '{"parent_id": -5}', NULL, 'queue');
SELECT crm.end_edit(:his);
SELECT crm.write('account', :his, md5('w12')::uuid, 'sync.erp', 2, '{"city": "苏州"}');
SELECT crm.current_id('account', :others) IS NULL AS nothing, crm.current_id('account', :his) = :his AS his;
SELECT crm.begin_edit(:others, 'web');
SELECT crm.end_edit(:others);
SELECT crm.restore('account', :others, 1);
SELECT crm.remove('account', :others, 1);
\set VERBOSITY terse
SELECT field, old, new, actor FROM crm.history('account', :his) WHERE op = 'update';
SELECT crm.account_card(:his) #>> '{account,city}' AS city, crm.account_card(:his) -> 'counts' AS counts, crm.account_card(:others) AS hidden;
SELECT count(*) AS none FROM crm.account_related(:his, 'interaction');
SELECT crm.account_related(:his, 'secret');
SELECT crm.account_related(:his, 'task', NULL, 0);
SELECT count(*) AS others_history FROM crm.history('account', :others);
SELECT count(*) AS others_trail FROM crm.account_trail(:others);
SELECT crm.as_of('account', :others, 'infinity') AS others_past;
SELECT d ->> 'state' AS draft FROM crm.submit_drafts(ARRAY[
    jsonb_build_object('object', 'interaction', 'kind', 'create', 'op_id', md5('w5')::uuid, 'patch', jsonb_build_object('account_id', :his, 'kind', 'visit', 'summary', '拜访')),
    jsonb_build_object('object', 'interaction', 'kind', 'create', 'op_id', md5('w6')::uuid, 'patch', jsonb_build_object('account_id', :others, 'kind', 'visit', 'summary', '拜访'))]) AS d ORDER BY d -> 'place';
SELECT crm.save_account('{"code": "WRITES-NEW", "name": "他的新客户"}') - 'id' AS created;
-- what is hidden is as if it were not there: as a parent, as the other end of a follow-up, and under its code; who is no system binds no reference
SELECT crm.save_account(jsonb_build_object('code', 'WRITES-HIS', 'name', '子公司', 'parent_id', :others)) -> 'problems' AS hidden, crm.save_account('{"code": "WRITES-HIS-2", "name": "子公司", "parent_id": -5}') -> 'problems' AS missing;
SELECT crm.save_account('{"code": "WRITES-HIS-3", "name": "子公司", "credit_rating": "A", "city": "苏州"}') -> 'problems' AS not_his_to_write;
SELECT crm.save_account('{"code": "WRITES-writes_other", "name": "别人的"}');
SELECT crm.save_account('{"external": {"source": "erp", "id": "W-1"}, "code": "WRITES-HIS", "name": "子公司"}');
SELECT d ->> 'error' AS draft FROM crm.submit_drafts(ARRAY[
    jsonb_build_object('object', 'interaction', 'kind', 'create', 'op_id', md5('w8')::uuid, 'patch', jsonb_build_object('account_id', :his, 'kind', 'visit', 'contact_id', :others_contact)),
    jsonb_build_object('object', 'interaction', 'kind', 'create', 'op_id', md5('w9')::uuid, 'patch', jsonb_build_object('account_id', :his, 'kind', 'visit', 'lead_id', -5))]) AS d ORDER BY d -> 'place';
-- through the view, too, a follow-up is in its writer's name and of now
INSERT INTO crm.interaction (account_id, kind, author_id) SELECT :his, 'note', m.id FROM crm.member AS m WHERE m.full_name <> '' AND m.id <> crm.me() LIMIT 1;
BEGIN;
INSERT INTO crm.interaction (account_id, kind, recorded_at) VALUES (:his, 'note', '2020-01-01') RETURNING author_id = crm.me() AS author, recorded_at > now() - interval '1 hour' AS now;
ROLLBACK;
INSERT INTO crm.attachment (object, record_id, account_id, kind, name, url, bytes, sha256, legal_reviewed_at) VALUES ('account', :his, :his, 'contract', 'scan', 'https://x.example/1', 1, sha256('x'), now());
INSERT INTO crm.forecast (kind, period, account_id, member_id, amount, currency) VALUES ('base', '[2026-12-01,2027-01-01)', :his, crm.me(), 1, 'CNY');
SELECT x ->> 'summary' AS summary FROM crm.account_related(:his, 'interaction') AS x;
RESET ROLE;
SELECT i.author_id = m.id AS author, i.owner_id = m.id AS owner FROM crm_data.interaction AS i JOIN crm_data.member AS m ON m.role_name = 'writes_rep' WHERE i.account_id = :his;
-- only the author changes a follow-up
UPDATE crm_data.account SET owner_id = (SELECT id FROM crm_data.member WHERE role_name = 'writes_other'), team_id = (SELECT team_id FROM crm_data.member WHERE role_name = 'writes_other') WHERE id = :his;
SELECT id AS visit, row_version AS v FROM crm_data.interaction WHERE account_id = :his \gset
SET ROLE writes_other;
\set VERBOSITY sqlstate
SELECT crm.write('interaction', :visit, md5('w7')::uuid, 'web', :v, '{"summary": "改写"}');
\set VERBOSITY terse
RESET ROLE;
-- a library newer than the tables, as after an update of the package: refused with what to do, not misread
BEGIN;
ALTER TABLE crm_data.operation ALTER COLUMN attempts TYPE text;
\set VERBOSITY default
SELECT crm.write('account', :his, md5('w10')::uuid, 'web', NULL, '{"city": "杭州"}');
\set VERBOSITY terse
ROLLBACK;
DROP ROLE writes_rep, writes_other;
