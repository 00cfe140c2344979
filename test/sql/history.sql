-- History: versions, changes, the digest chain, what it refuses, what it finds.
\set VERBOSITY terse
SET client_min_messages = warning;

-- an insert, a change of three fields, a change of nothing, a change that only the engine keeps
INSERT INTO crm_data.account (code, name, phone, tags, attrs, geo, annual_revenue)
VALUES ('HIST-1', '苏州远景科技有限公司', '0512-66668888', '{vip}', '{"线索": "展会"}', '(120.6,31.3)', 1200000);
SELECT id AS acc FROM crm_data.account WHERE code = 'HIST-1' \gset
UPDATE crm_data.account SET name = '苏州远景信息科技有限公司', tags = '{vip,续约}', annual_revenue = 1500000.50 WHERE id = :acc;
UPDATE crm_data.account SET name = name, row_version = 99, last_hash = NULL WHERE id = :acc;
UPDATE crm_data.account SET risk_score = 70, last_contact_at = now() WHERE id = :acc;
SELECT row_version, field_version, length(last_hash) AS hash_bytes, risk_score FROM crm_data.account WHERE id = :acc;
SELECT version, op, fields::jsonb - 'created_at' AS fields, endpoint FROM crm_data.change WHERE object = 'account' AND record_id = :acc ORDER BY version;
SELECT op, field, old, new, actor = current_user AS by_me FROM crm.history('account', :acc) WHERE op = 'update';

-- values are stored the same whatever the session's settings
BEGIN;
SET LOCAL timezone = 'America/New_York';
SET LOCAL datestyle = 'SQL, DMY';
SET LOCAL intervalstyle = 'iso_8601';
SET LOCAL bytea_output = 'escape';
SET LOCAL extra_float_digits = -15;
INSERT INTO crm_data.interaction (account_id, kind, occurred_at, duration) VALUES (:acc, 'call', '01/02/2026 12:00:00 UTC', 'PT90M');
UPDATE crm_data.account SET geo = '(0.1234567890123,1e-7)' WHERE id = :acc;
COMMIT;
SELECT h.fields::jsonb -> 'occurred_at' AS occurred_at, h.fields::jsonb -> 'duration' AS duration
  FROM crm_data.change AS h WHERE h.object = 'interaction' AND h.account_id = :acc;
SELECT h.fields::jsonb -> 'geo' AS geo FROM crm_data.change AS h WHERE h.object = 'account' AND h.record_id = :acc AND h.version = 3;

-- many rows at once, more than one batch, spilled to disk; each has its change
BEGIN;
SET LOCAL work_mem = '64kB';
INSERT INTO crm_data.product (code, name) SELECT 'HIST-' || g, '产品' || g FROM generate_series(1, 2500) AS g;
UPDATE crm_data.product SET unit_price = 10 WHERE code LIKE 'HIST-%' AND right(code, 1) = '7';
COMMIT;
SELECT op, version, count(*) FROM crm_data.change WHERE object = 'product' AND record_id IN (SELECT id FROM crm_data.product WHERE code LIKE 'HIST-%')
 GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) AS problems FROM crm.verify_history();
-- every change has a salt of its own
SELECT count(*) > 2500 AS many, count(*) - count(DISTINCT salt) AS same_salts, min(length(salt)) AS bytes FROM crm_data.change;

-- the text that is digested is what src/history/chain.c says, and SHA-256 is SHA-256
WITH f AS (
    SELECT h.*, e.key, encode(sha256(h.salt || convert_to(e.key, 'UTF8') || '\x00'::bytea || CASE jsonb_typeof(e.value -> 0) WHEN 'number' THEN 'd'::bytea WHEN 'string' THEN 's'::bytea ELSE 'j'::bytea END
             || convert_to(e.value ->> 0, 'UTF8') || '\x00'::bytea || CASE jsonb_typeof(e.value -> 1) WHEN 'number' THEN 'd'::bytea WHEN 'string' THEN 's'::bytea ELSE 'j'::bytea END
             || convert_to(e.value ->> 1, 'UTF8')), 'hex') AS digest
      FROM crm_data.change AS h, jsonb_each(h.fields::jsonb) AS e WHERE h.object = 'account' AND h.record_id = :acc AND h.version = 2
)
SELECT sha256((SELECT p.hash FROM crm_data.change AS p WHERE p.object = 'account' AND p.record_id = :acc AND p.version = 1) || convert_to(
           concat_ws(E'\n', 'crm1', min(object), min(record_id), min(account_id), min(version), min(op),
                     (extract(epoch FROM min(at) - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint, min(actor), coalesce(min(session_name), '\N'), coalesce(min(endpoint), '\N'),
                     coalesce(min(client_version), '\N'), '\N', '\N') || E'\n'
           || string_agg(key || '=' || digest || E'\n', '' ORDER BY key COLLATE "C"), 'UTF8')) = min(hash::text)::bytea AS by_the_book
  FROM f;

-- going back
SELECT e.key, e.value FROM jsonb_each(crm.as_of('account', :acc, (SELECT at FROM crm_data.change WHERE object = 'account' AND record_id = :acc AND version = 1))) AS e
 WHERE e.key IN ('name', 'tags', 'annual_revenue', 'geo', 'row_version', 'risk_score') ORDER BY 1;
SELECT crm.as_of('account', :acc, '2000-01-01');

-- TRUNCATE and DELETE are refused, whoever asks and however
DELETE FROM crm_data.account WHERE id = :acc;
\echo :LAST_ERROR_SQLSTATE
TRUNCATE crm_data.match_link, crm_data.line_item;
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM crm_data.account WHERE id = :acc;
ROLLBACK;
UPDATE crm_data.change SET note = 'edited' WHERE record_id = :acc;
DELETE FROM crm_data.change WHERE record_id = :acc;
TRUNCATE crm_data.change;
TRUNCATE crm_data.change_default;
\echo :LAST_ERROR_SQLSTATE
-- what the engine may, it may until it says so, or until an abort
BEGIN;
SELECT crm._engine_write('erase', 'import', 'undo of a batch');
DELETE FROM crm_data.product WHERE code = 'HIST-1' RETURNING code;
SAVEPOINT s;
SELECT crm._engine_write('none');
DELETE FROM crm_data.product WHERE code = 'HIST-2';
ROLLBACK TO s;
DELETE FROM crm_data.product WHERE code = 'HIST-2';
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT crm._engine_write('erase');
ROLLBACK TO s;
DELETE FROM crm_data.product WHERE code = 'HIST-2';
ROLLBACK;
SET ROLE crm_sales;
SELECT crm._engine_write('erase');
RESET ROLE;
SELECT crm._engine_write('everything');
-- the last change of a deleted record keeps it whole
SELECT id AS product FROM crm_data.product WHERE code = 'HIST-3' \gset
BEGIN;
SELECT crm._engine_write('erase', 'import', 'undo of a batch');
DELETE FROM crm_data.product WHERE code = 'HIST-3';
SELECT crm._engine_write('none');
COMMIT;
SELECT version, op, fields::jsonb -> 'name' AS name, endpoint, note FROM crm_data.change WHERE object = 'product' AND record_id = :product ORDER BY version;
SELECT crm._image_at('product', :product, 1) ->> 'name' AS was, crm._image_at('product', :product, 2) AS is_now;
SELECT count(*) AS problems FROM crm.verify_history();

-- a trigger that changes a row after its version was made is found out
BEGIN;
CREATE FUNCTION pg_temp.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := NEW.name || '!'; RETURN NEW; END $$;
CREATE TRIGGER zzzz_late BEFORE INSERT OR UPDATE ON crm_data.product FOR EACH ROW EXECUTE FUNCTION pg_temp.meddle();
SAVEPOINT s;
UPDATE crm_data.product SET unit_price = 11 WHERE code = 'HIST-4';
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
UPDATE crm_data.product SET op_seq = op_seq WHERE code = 'HIST-4';
ROLLBACK TO s;
INSERT INTO crm_data.product (code, name) VALUES ('HIST-LATE', 'x');
ROLLBACK TO s;
-- and so is one that changes the way it came; one that changes nothing is not in the way
CREATE OR REPLACE FUNCTION pg_temp.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET LOCAL application_name = 'late/9.9'; RETURN NEW; END $$;
INSERT INTO crm_data.product (code, name) VALUES ('HIST-LATE', 'x');
ROLLBACK TO s;
CREATE OR REPLACE FUNCTION pg_temp.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
INSERT INTO crm_data.product (code, name) VALUES ('HIST-LATE', 'x'), ('HIST-LATER', 'y') RETURNING row_version;
SELECT count(*) AS problems FROM crm.verify_history();
ROLLBACK;

-- tampering: a superuser with the triggers off
BEGIN;
ALTER TABLE crm_data.change DISABLE TRIGGER USER;
ALTER TABLE crm_data.account DISABLE TRIGGER USER;
SAVEPOINT s;
\echo a value of the history is edited
UPDATE crm_data.change SET fields = jsonb_set(fields::jsonb, '{annual_revenue,1}', '9')::text WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo a value is made what is no value
UPDATE crm_data.change SET fields = 'x' WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo a second value is put before the one that is there
UPDATE crm_data.change SET fields = overlay(fields PLACING '{"annual_revenue": [null, 666], ' FROM 1 FOR 1) WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo and so inside a value; what looks like a key inside a text is none
UPDATE crm_data.change SET fields = replace(fields, '{', '{"\":{\"": [null, ":\\\":"], ') WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT count(*) AS not_one_of_ours FROM crm_data.change AS h WHERE h.object = 'account' AND h.record_id = :acc AND h.version = 2
   AND crm._change_hash(NULL, h.object, h.record_id, h.account_id, h.version, h.op, h.at, h.actor, h.session_name, h.endpoint, h.client_version, h.op_seq, h.note, h.fields, h.salt, NULL) IS NULL;
UPDATE crm_data.change SET fields = '{"attrs": [{"a": 1, "a": 2}, {}]}' WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT count(*) AS not_one_of_ours FROM crm_data.change AS h WHERE h.object = 'account' AND h.record_id = :acc AND h.version = 2
   AND crm._change_hash(NULL, h.object, h.record_id, h.account_id, h.version, h.op, h.at, h.actor, h.session_name, h.endpoint, h.client_version, h.op_seq, h.note, h.fields, h.salt, NULL) IS NULL;
ROLLBACK TO s;
\echo its writer is edited
UPDATE crm_data.change SET actor = 'somebody' WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo a row of the history is deleted
DELETE FROM crm_data.change WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo the last row of the history is deleted
DELETE FROM crm_data.change WHERE object = 'account' AND record_id = :acc AND version = 3;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo the whole history of a record is deleted
DELETE FROM crm_data.change WHERE object = 'account' AND record_id = :acc;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo a row is inserted
INSERT INTO crm_data.change (at, object, record_id, account_id, op, version, fields, actor, salt, hash)
SELECT at + interval '1 us', object, record_id, account_id, 'u', 2, '{"name": ["a", "b"]}', actor, salt, hash FROM crm_data.change WHERE object = 'account' AND record_id = :acc AND version = 2;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo the record is edited behind its back, its digest too
UPDATE crm_data.account SET row_version = 7 WHERE id = :acc;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK TO s;
\echo the record is deleted behind its back
DELETE FROM crm_data.interaction WHERE false;
ALTER TABLE crm_data.product DISABLE TRIGGER USER;
DELETE FROM crm_data.product WHERE code = 'HIST-5';
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK;

-- months are made ahead, rows that came before them move in, and each is protected
SELECT crm._maintain_history(2) AS made;
SELECT crm._maintain_history(2) AS made_again;
SELECT count(*) AS left_in_default FROM crm_data.change_default;
SELECT count(*) AS months, bool_and(c.relrowsecurity AND c.relforcerowsecurity) AS row_security,
       bool_and(EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = 'crm_fact_truncate' AND t.tgenabled = 'A')) AS truncate_refused,
       bool_and(EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = 'zzz_crm_fact' AND t.tgenabled = 'A')) AS never_change
  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
 WHERE i.inhparent IN ('crm_data.change'::regclass, 'crm_data.event'::regclass) AND c.relname !~ 'default$';
SELECT count(*) AS problems FROM crm.verify_history();

-- months are retired: what is left goes on where they end, and a change that is missing there is still found
BEGIN;
DELETE FROM crm_data.config WHERE kind = 'setting' AND key = 'keep.change';
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver) VALUES ('setting', 'keep.change', 1, '{"value": -2}', 'active', 'a', 'b');
SELECT crm._maintain_history(0) AS made;
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'setting' AND key = 'keep.change';
SELECT count(*) AS still_attached FROM crm_data.change WHERE object = 'account' AND record_id = :acc;
SELECT changes > 0 AS changes FROM crm_data.history_month ORDER BY id LIMIT 1;
SELECT * FROM crm.verify_history();
SELECT * FROM crm.verify_roots();
UPDATE crm_data.account SET city = '南京' WHERE id = :acc;
UPDATE crm_data.account SET city = '无锡' WHERE id = :acc;
SELECT * FROM crm.verify_history();
SELECT crm._job_history_root('2026-03-01 00:10+08') >= 0 AS root_made;
SELECT * FROM crm.verify_roots();
SELECT min(version) - (SELECT h.version FROM crm_data.history_head AS h WHERE h.object = 'account' AND h.record_id = :acc) AS goes_on FROM crm_data.change WHERE object = 'account' AND record_id = :acc;
ALTER TABLE crm_data.change DISABLE TRIGGER USER;
SAVEPOINT s;
\echo the first change that is left is deleted
DELETE FROM crm_data.change WHERE object = 'account' AND record_id = :acc AND version = (SELECT min(h.version) FROM crm_data.change AS h WHERE h.object = 'account' AND h.record_id = :acc);
SELECT object, regexp_replace(problem, '\d+', 'n', 'g') AS problem FROM crm.verify_history();
ROLLBACK TO s;
\echo all that is left is deleted
DELETE FROM crm_data.change WHERE object = 'account' AND record_id = :acc;
SELECT object, regexp_replace(problem, '\d+', 'n', 'g') AS problem FROM crm.verify_history();
ROLLBACK TO s;
\echo and the head is moved over the gap
DELETE FROM crm_data.change WHERE object = 'account' AND record_id = :acc AND version = (SELECT min(h.version) FROM crm_data.change AS h WHERE h.object = 'account' AND h.record_id = :acc);
UPDATE crm_data.history_head AS h SET version = h.version + 1 WHERE h.object = 'account' AND h.record_id = :acc;
SELECT object, regexp_replace(problem, '\d+', 'n', 'g') AS problem FROM crm.verify_history();
SELECT problem FROM crm.verify_roots() WHERE problem LIKE '%head%';
ROLLBACK TO s;
\echo a record whose history is retired is removed behind its back
ALTER TABLE crm_data.product DISABLE TRIGGER USER;
DELETE FROM crm_data.product WHERE code = 'HIST-5';
SELECT object, regexp_replace(problem, '\d+', 'n', 'g') AS problem FROM crm.verify_history();
ROLLBACK;

-- bad input
SELECT * FROM crm.history('nothing', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM crm.history('account', -1);
SELECT crm.as_of('config', 1, now());
SET ROLE crm_sales;
SELECT count(*) AS hidden FROM crm.history('account', :acc);
RESET ROLE;

-- going back is a write like others
INSERT INTO crm_data.account (code, name, attrs, tags) VALUES ('HIST-R', '上海旧名', '{"a": 1}', '{x}') RETURNING id AS back \gset
UPDATE crm_data.account SET name = '上海新名', attrs = '{"a": 2, "b": 1}', tags = '{x,y}', city = '上海' WHERE id = :back;
SELECT crm.restore('account', :back, 1, '{name}') - 'id' - 'op_seq' AS one_field;
SELECT crm.restore('account', :back, 1) - 'id' - 'op_seq' AS all_fields;
SELECT name, attrs, tags, city, row_version FROM crm_data.account WHERE id = :back;
SELECT crm.remove('account', :back, 4) ->> 'state' AS removed, crm.restore('account', :back, 4) ->> 'state' AS brought_back;
SELECT deleted_at IS NULL AS there, row_version FROM crm_data.account WHERE id = :back;
SELECT version, endpoint FROM crm_data.change WHERE object = 'account' AND record_id = :back ORDER BY version;
\set VERBOSITY sqlstate
SELECT crm.restore('account', :back, 99);
SELECT crm.restore('account', :back, 1, '{nme}');
SELECT crm.restore('account', -1, 1);
SELECT crm.restore_row('account/0/1');
SELECT crm.restore_row('1');
\set VERBOSITY terse
-- a row that the engine deleted, and one that was deleted behind its back, come back with their versions
INSERT INTO crm_data.contact (account_id, name, phone) VALUES (:back, '李雷', '13900000000') RETURNING id AS con \gset
UPDATE crm_data.contact SET title = '经理' WHERE id = :con;
BEGIN;
SELECT crm._engine_write('erase');
DELETE FROM crm_data.contact WHERE id = :con;
COMMIT;
SELECT crm.restore_row((SELECT concat_ws('/', object, record_id, max(version)) FROM crm_data.change WHERE object = 'contact' AND record_id = :con GROUP BY object, record_id)) - 'id' AS restored;
SELECT name, title, row_version FROM crm_data.contact WHERE id = :con;
ALTER TABLE crm_data.contact DISABLE TRIGGER USER;
DELETE FROM crm_data.contact WHERE id = :con;
DO $$ BEGIN EXECUTE (SELECT string_agg(format('ALTER TABLE crm_data.contact ENABLE ALWAYS TRIGGER %I', tgname), ';') FROM pg_trigger WHERE tgrelid = 'crm_data.contact'::regclass AND NOT tgisinternal); END $$;
SELECT check_name, object, problems FROM crm.integrity_check() WHERE object = 'contact';
SELECT crm.restore_row((SELECT concat_ws('/', object, record_id, max(version)) FROM crm_data.change WHERE object = 'contact' AND record_id = :con GROUP BY object, record_id)) - 'id' AS restored;
SELECT name, title, row_version FROM crm_data.contact WHERE id = :con;
SELECT version, op, note IS NOT NULL AS noted FROM crm_data.change WHERE object = 'contact' AND record_id = :con ORDER BY version;
SELECT crm._image_at('contact', :con, 1) ->> 'title' AS at_1, crm._image_at('contact', :con, 2) ->> 'title' AS at_2, crm._image_at('contact', :con, 3) AS at_3;
SELECT count(*) AS problems FROM crm.verify_history();

-- the daily root: chained, once a due time, and it finds a history that was rewritten with its chain
-- (what was written while another transaction runs, of autovacuum too, belongs to the next root: here none is left of those before)
CREATE FUNCTION pg_temp.quiet() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    before xid8 := pg_snapshot_xmax(pg_current_snapshot());
BEGIN
    WHILE pg_snapshot_xmin(pg_current_snapshot()) < before LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN true;
END $$;
SELECT pg_temp.quiet();
SELECT crm._job_history_root('2026-01-01 00:10+08') > 0 AS covers, crm._job_history_root('2026-01-01 00:10+08') AS again;
UPDATE crm_data.account SET city = '苏州' WHERE id = :back;
SELECT pg_temp.quiet();
SELECT crm._job_history_root('2026-01-02 00:10+08') AS covers;
SELECT count(*) AS roots, count(prev_root) AS chained, max(encode(root, 'hex')) FILTER (WHERE due_at = '2026-01-02 00:10+08') = crm.history_root() AS newest FROM crm_data.history_root;
SELECT topic, payload - 'root' - 'previous' - 'due' - 'changes' AS rest, payload ->> 'root' = crm.history_root() AS same FROM crm_data.outbox WHERE topic = 'history.root' ORDER BY id DESC LIMIT 1;
SELECT count(*) AS problems FROM crm.verify_roots();
-- a change of a transaction that was not over at the time of a root belongs to the next, however old it says it is; and no root reads what another covers
BEGIN;
INSERT INTO crm_data.change (at, record_id, version, op, object, fields, actor) SELECT r.upto - interval '1 hour', -n, 1, 'i', 'account', '{}', 'somebody' FROM generate_series(1, 3) AS n, (SELECT h.upto FROM crm_data.history_root AS h ORDER BY h.id DESC LIMIT 1) AS r;
COMMIT;
SELECT pg_temp.quiet();
SELECT crm._job_history_root('2026-01-03 00:10+08') AS late_ones;
SELECT count(*) AS roots, count(*) FILTER (WHERE o.n = r.changes AND o.digest = r.root) AS same
  FROM (SELECT h.*, lag(h.upto) OVER w AS from_at, lag(h.watermark) OVER w AS from_xid FROM crm_data.history_root AS h WINDOW w AS (ORDER BY h.id)) AS r
 CROSS JOIN LATERAL (SELECT sum(b.n) AS n, sha256(coalesce(r.prev_root, '') || coalesce(string_agg(b.digest, '' ORDER BY b.object COLLATE "C", b.bucket), '')) AS digest
                       FROM (SELECT h.object, h.record_id / 100000 AS bucket, count(*) AS n, sha256(string_agg(convert_to(h.object || ':' || h.record_id || ':' || h.version || ':', 'UTF8') || coalesce(h.hash, ''), '' ORDER BY h.record_id, h.version, h.hash)) AS digest
                               FROM crm_data.change AS h WHERE h.at <= r.upto AND h.xid < r.watermark AND NOT (r.from_xid IS NOT NULL AND h.at <= r.from_at AND h.xid < r.from_xid) GROUP BY 1, 2) AS b) AS o;
SELECT count(*) AS problems FROM crm.verify_roots();
BEGIN;
ALTER TABLE crm_data.change DISABLE TRIGGER USER;
UPDATE crm_data.change SET hash = '\x01' WHERE object = 'account' AND record_id = -2;
SELECT due_at = '2026-01-03 00:10+08' AS that_day, problem FROM crm.verify_roots();
DELETE FROM crm_data.change WHERE object = 'account' AND record_id = -2;
SELECT due_at = '2026-01-03 00:10+08' AS that_day, problem FROM crm.verify_roots();
-- put back with the time and the transaction of an older day, it is an older root's
INSERT INTO crm_data.change (at, xid, record_id, version, op, object, fields, actor) SELECT r.upto, '3', -9, 1, 'i', 'account', '{}', 'somebody' FROM crm_data.history_root AS r WHERE r.due_at = '2026-01-02 00:10+08';
SELECT due_at = '2026-01-02 00:10+08' AS that_day, regexp_replace(problem, '\d+', 'n', 'g') AS problem FROM crm.verify_roots() ORDER BY due_at;
ROLLBACK;
BEGIN;
SELECT crm._engine_write('erase');
DELETE FROM crm_data.change WHERE record_id < 0;
DELETE FROM crm_data.history_root WHERE due_at = '2026-01-03 00:10+08';
COMMIT;
BEGIN;
ALTER TABLE crm_data.change DISABLE TRIGGER USER;
ALTER TABLE crm_data.account DISABLE TRIGGER USER;
WITH forged AS (
    UPDATE crm_data.change AS h SET fields = '{"city": [null, "杭州"]}',
           hash = crm._change_hash((SELECT p.hash FROM crm_data.change AS p WHERE p.object = h.object AND p.record_id = h.record_id AND p.version = h.version - 1), h.object, h.record_id, h.account_id, h.version, h.op, h.at, h.actor, h.session_name, h.endpoint, h.client_version, h.op_seq, h.note,
                                   '{"city": [null, "杭州"]}', h.salt, NULL)
     WHERE h.object = 'account' AND h.record_id = :back AND h.version = (SELECT row_version FROM crm_data.account WHERE id = :back) RETURNING h.hash
)
UPDATE crm_data.account SET city = '杭州', last_hash = forged.hash FROM forged WHERE id = :back;
SELECT count(*) AS chain_says FROM crm.verify_history();
SELECT due_at = '2026-01-02 00:10+08' AS that_day, problem FROM crm.verify_roots();
SELECT crm._job_verify_history(now()) AS problems;
SELECT level, value FROM crm_data.alert WHERE dedupe_key = 'verify_history';
ROLLBACK;
-- a value edited behind the history's back
BEGIN;
ALTER TABLE crm_data.account DISABLE TRIGGER USER;
UPDATE crm_data.account SET city = '宁波' WHERE id = :back;
SELECT check_name, object, problems FROM crm.integrity_check() ORDER BY 1, 2;
ROLLBACK;
SELECT check_name, object, problems, sample FROM crm.integrity_check() WHERE check_name <> 'operations' ORDER BY 1, 2;

-- erasure on request: the values go, the chain stays
UPDATE crm_data.contact SET phone = '13911112222', email = 'li@example.com' WHERE id = :con;
SELECT crm.forget(:con, '个人信息删除请求') - 'contact' AS forgotten;
SELECT name, phone, email, title, opt_out, forgotten_at IS NOT NULL AS forgotten FROM crm_data.contact WHERE id = :con;
SELECT count(*) AS found FROM crm_data.change AS h WHERE h.object = 'contact' AND h.record_id = :con AND (h::text ~ '1391111|li@example|李雷' OR h.salt IS NOT NULL);
SELECT version, op, array_agg(e.key ORDER BY e.key) FILTER (WHERE e.key IN ('phone', 'email', 'name', 'title')) AS fields FROM crm_data.change AS h, jsonb_each(h.fields::jsonb) AS e
 WHERE h.object = 'contact' AND h.record_id = :con AND h.version > 4 GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) AS problems FROM crm.verify_history();
SELECT count(*) AS problems FROM crm.verify_roots();
UPDATE crm_data.contact SET title = '离职' WHERE id = :con;
SELECT count(*) AS problems FROM crm.verify_history();
BEGIN;
ALTER TABLE crm_data.change DISABLE TRIGGER USER;
UPDATE crm_data.change SET value_hash = value_hash - 'phone' WHERE object = 'contact' AND record_id = :con AND version = 1;
SELECT object, version, problem FROM crm.verify_history();
ROLLBACK;
\set VERBOSITY sqlstate
SELECT crm.forget(:con, ' ');
SELECT crm.forget(-1, 'x');
\set VERBOSITY terse

-- leave no crowd behind for the tests that follow
BEGIN;
SELECT crm._engine_write('erase');
DELETE FROM crm_data.product WHERE code LIKE 'HIST-%';
COMMIT;
SELECT count(*) AS problems FROM crm.verify_history();
