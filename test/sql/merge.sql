-- Merge: fields by rule, references moved, conflicts put aside, and the exact way back.
SET client_min_messages = warning;
\set VERBOSITY terse
-- Everything there is, but for what a merge and its undo may leave: versions, stamps and their own records.
CREATE FUNCTION pg_temp.everything() RETURNS TABLE (tab text, rows bigint, digest text) LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT c.oid::regclass AS name, c.relname FROM pg_class AS c
              WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                AND c.relname NOT IN ('merge_op', 'merge_move', 'change', 'access_log', 'match_link', 'match_state', 'operation')
              ORDER BY c.relname LOOP
        RETURN QUERY EXECUTE format('SELECT %L::text, count(*), md5(coalesce(string_agg(x.v, '','' ORDER BY x.v COLLATE "C"), ''''))
            FROM (SELECT (to_jsonb(t) - ''{row_version,field_version,last_hash,last_at,updated_at,updated_by}''::text[])::text AS v FROM %s AS t) AS x', t.relname, t.name);
    END LOOP;
END
$$;
BEGIN;
INSERT INTO crm_data.account (code, name, uscc, phone, email, address, city, tags, attrs, industry, parent_id)
VALUES ('mg1', '枣庄绿墨精密机械有限公司', NULL, '13800138000', NULL, NULL, NULL, '{vip}', '{"a": 1}', NULL, NULL),
       ('mg2', '绿墨精密机械', '91350100M000100Y43', '0632-76580783', 'info@lm.example', '迎宾路63号', '枣庄', '{vip,old}', '{"a": 2, "b": 3}', 'machinery', NULL),
       ('mg3', '绿墨机械', NULL, '0632-76580783', NULL, '人民路1号', '济南', '{new}', '{}', 'retail', NULL),
       ('mg5', 'Later', NULL, NULL, NULL, NULL, NULL, '{}', '{}', NULL, NULL),
       ('mg4', 'Daughter', NULL, NULL, NULL, NULL, NULL, '{}', '{}', NULL, NULL);
UPDATE crm_data.account SET parent_id = (SELECT id FROM crm_data.account WHERE code = 'mg2') WHERE code IN ('mg1', 'mg4');
SELECT max(id) FILTER (WHERE code = 'mg1') AS a1, max(id) FILTER (WHERE code = 'mg2') AS a2, max(id) FILTER (WHERE code = 'mg3') AS a3 FROM crm_data.account \gset
INSERT INTO crm_data.contact (account_id, name, phone) VALUES (:a2, 'Wang', '13912345679'), (:a3, 'Li', NULL);
INSERT INTO crm_data.source_system (name) VALUES ('merge test');
INSERT INTO crm_data.external_ref (source_id, external_id, object, record_id) SELECT id, 'x-' || v.n, 'account', v.rec FROM crm_data.source_system, (VALUES (1, :a1), (2, :a2), (3, :a3)) AS v (n, rec) WHERE name = 'merge test';
INSERT INTO crm_data.duplicate_pair (object_a, a_id, object_b, b_id, band, score) VALUES ('account', :a1, 'account', :a2, 'suggest', 0.9), ('account', :a2, 'account', :a3, 'suggest', 0.8);
CREATE TEMP TABLE before_ AS SELECT * FROM pg_temp.everything();
SELECT p->'fields' AS fields, p->'moves' AS moves FROM crm.merge_preview('account', :a1, ARRAY[:a2, :a3]::bigint[]) AS p \gset preview_
SELECT jsonb_object_agg(k, v->'rule') AS rules FROM jsonb_each(:'preview_fields') AS f (k, v);
SELECT :'preview_moves'::jsonb - 'duplicate_pair.a_id' - 'duplicate_pair.b_id' - 'duplicate_pair.account_id' AS moves;
SELECT crm.merge('account', :a1, ARRAY[:a2, :a3]::bigint[]) AS op \gset
SELECT name, name_core, uscc, phone, phone_norm, email, address, city, tags, attrs, industry, parent_id IS NULL AS no_parent_in_itself FROM crm_data.account WHERE id = :a1;
SELECT code, merged_into = :a1 AS redirects, crm.current_id('account', id) = :a1 AS found FROM crm_data.account WHERE code IN ('mg2', 'mg3') ORDER BY code;
SELECT count(*) AS contacts FROM crm_data.contact WHERE account_id = :a1;
SELECT code FROM crm_data.account WHERE parent_id = :a1 ORDER BY code;
SELECT DISTINCT d.state, d.merge_id = :op AS by_this FROM crm_data.duplicate_pair AS d WHERE d.object_a = 'account' AND d.object_b = 'account' AND d.a_id IN (:a1, :a2, :a3) AND d.b_id IN (:a1, :a2, :a3);
-- a merge of merged records, and the undo under a later one
SAVEPOINT s;
SELECT crm.merge('account', :a3, ARRAY[:a1]::bigint[]);
ROLLBACK TO s;
SELECT crm.merge('account', id, ARRAY[:a1]::bigint[]) AS op2 FROM crm_data.account WHERE code = 'mg5' \gset
SELECT crm.current_id('account', :a2) = id AS one_step FROM crm_data.account WHERE code = 'mg5';
SAVEPOINT s;
\set VERBOSITY sqlstate
SELECT crm.unmerge(:op);
\set VERBOSITY terse
ROLLBACK TO s;
SELECT crm.unmerge(:op2)->'conflicts' AS conflicts;
SELECT crm.unmerge(:op)->'conflicts' AS conflicts;
SELECT tab FROM (SELECT * FROM pg_temp.everything() EXCEPT SELECT * FROM before_) AS x ORDER BY tab;
SELECT code, merged_into, uscc, phone, email, tags, attrs, industry, (SELECT p.code FROM crm_data.account AS p WHERE p.id = a.parent_id) AS parent FROM crm_data.account AS a WHERE code LIKE 'mg_' ORDER BY code;
SELECT kind, reason FROM crm_data.match_link WHERE merge_id = :op ORDER BY a, b;
SAVEPOINT s;
SELECT crm.unmerge(:op);
ROLLBACK TO s;
-- choices, and edits made since, which stay and are told
SELECT crm.merge('account', :a1, ARRAY[:a2]::bigint[], jsonb_build_object('reason', 'test', 'fields', jsonb_build_object('name', :a2, 'industry', 'pinned', 'website', '{"value": "https://lm.example"}'::jsonb))) AS op3 \gset
SELECT name, industry, website FROM crm_data.account WHERE id = :a1;
UPDATE crm_data.account SET website = 'https://new.example' WHERE id = :a1;
UPDATE crm_data.contact SET account_id = :a3 WHERE name = 'Wang' AND account_id = :a1;
SELECT c->>'table' AS "table", c->>'field' AS field FROM jsonb_array_elements(crm.unmerge(:op3)->'conflicts') AS c WHERE c->>'field' NOT IN ('owner_id', 'team_id', 'grade') ORDER BY 1, 2;
SELECT name, industry, website FROM crm_data.account WHERE id = :a1;
-- the system of record of a field is asked first, whichever record stays
SAVEPOINT s;
INSERT INTO crm_data.account (code, name, credit_rating, source_id) VALUES ('ms1', 'Rated here', 'A', NULL), ('ms2', 'Rated there', 'C', (SELECT id FROM crm_data.source_system WHERE name = 'erp')), ('ms3', 'Rated elsewhere', 'B', (SELECT id FROM crm_data.source_system WHERE name = 'file'));
SELECT crm.merge('account', max(id) FILTER (WHERE code = 'ms1'), array_agg(id ORDER BY id) FILTER (WHERE code <> 'ms1')) > 0 AS merged FROM crm_data.account WHERE code LIKE 'ms_';
SELECT name, credit_rating FROM crm_data.account WHERE code = 'ms1';
ROLLBACK TO s;
-- the scheduled merge: certain ones of one owner only, each to be undone
INSERT INTO crm_data.account (code, name, phone, legal_id4) VALUES ('mj1', 'Quarz Optik Jena GmbH', '0755-81234567', '7788'), ('mj2', 'Quarz Optik Jena', '(0755) 8123 4567', '7788'), ('mj3', 'Quarz Optik Jena GmbH', '0755 81234567', '7788'), ('mj4', 'Quarz Optik Jena GmbH', '0755-81234567', NULL);
SELECT a.code, b.code, d.band, d.rule FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id JOIN crm_data.account AS b ON b.id = d.b_id WHERE a.code LIKE 'mj_' AND d.object_b = 'account' ORDER BY 1, 2;
UPDATE crm_data.duplicate_pair SET score = 1 WHERE rule = 'R1' AND state = 'open';
INSERT INTO crm_data.member (full_name) VALUES ('Merge one'), ('Merge two');
UPDATE crm_data.account AS a SET owner_id = m.id FROM crm_data.member AS m WHERE (a.code, m.full_name) IN (('mj1', 'Merge one'), ('mj3', 'Merge two'));
SELECT crm._job_dedup_merge(now()) AS merged;
SELECT a.code, s.code AS merged_into FROM crm_data.account AS a LEFT JOIN crm_data.account AS s ON s.id = a.merged_into WHERE a.code LIKE 'mj_' ORDER BY 1;
SELECT count(crm.unmerge(m.id)) AS undone FROM (SELECT m.id FROM crm_data.merge_op AS m WHERE m.reason LIKE 'scheduled: rule R1%' ORDER BY m.id DESC) AS m;
SELECT count(*) AS still_merged FROM crm_data.account WHERE code LIKE 'mj_' AND merged_into IS NOT NULL;
SELECT crm._job_dedup_merge(now()) AS the_other_pair;
ROLLBACK TO s;
-- bad input: a clear error with its code and a hint, nothing changed
CREATE FUNCTION pg_temp.refused(call text) RETURNS TABLE (code text, message text, has_hint boolean) LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN QUERY SELECT 'none'::text, 'not refused'::text, false;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    has_hint := hint <> '';
    RETURN NEXT;
END
$$;
GRANT EXECUTE ON FUNCTION pg_temp.refused(text) TO PUBLIC;
SELECT crm.merge('account', :a1, ARRAY[:a2]::bigint[]) AS op4 \gset
INSERT INTO crm_data.account (code, name, deleted_at) VALUES ('mg6', 'Deleted', now()), ('mg7', 'Alive', NULL);
SELECT max(id) FILTER (WHERE code = 'mg6') AS gone, max(id) FILTER (WHERE code = 'mg7') AS alive FROM crm_data.account \gset
CREATE TEMP TABLE unhurt AS SELECT * FROM pg_temp.everything();
SELECT v.what, r.* FROM (VALUES
    (1, 'with itself', format('crm.merge(''account'', %s, ''{%s}'')', :a1, :a1)), (2, 'one twice', format('crm.merge(''account'', %s, ''{%s,%s}'')', :a1, :a3, :a3)),
    (3, 'nothing', format('crm.merge(''account'', %s, ''{}'')', :a1)), (4, 'no list', format('crm.merge(''account'', %s, NULL)', :a1)), (5, 'a null', format('crm.merge(''account'', %s, ''{NULL}'')', :a1)),
    (6, 'no survivor', 'crm.merge(''account'', NULL, ''{1}'')'), (7, 'another object', 'crm.merge(''opportunity'', 1, ''{2}'')'), (8, 'no object', 'crm.merge(NULL, 1, ''{2}'')'),
    (9, 'unknown record', format('crm.merge(''account'', %s, ''{-1}'')', :a1)), (10, 'across objects', format('crm.merge(''contact'', %s, ''{%s}'')', :alive + 1000000, :a1 + 1000000)),
    (11, 'merged victim', format('crm.merge(''account'', %s, ''{%s}'')', :a3, :a2)), (12, 'merged survivor', format('crm.merge(''account'', %s, ''{%s}'')', :a2, :a3)),
    (13, 'deleted record', format('crm.merge(''account'', %s, ''{%s}'')', :a1, :gone)),
    (14, 'too many', format('crm.merge(''account'', %s, ARRAY(SELECT g FROM generate_series(-101, -1) AS g)::bigint[])', :a1)),
    (15, 'choices no object', format('crm.merge(''account'', %s, ''{%s}'', ''[]'')', :a1, :a3)), (16, 'unknown field', format('crm.merge(''account'', %s, ''{%s}'', ''{"fields": {"nothing": 1}}'')', :a1, :a3)),
    (17, 'unknown rule', format('crm.merge(''account'', %s, ''{%s}'', ''{"fields": {"name": "best"}}'')', :a1, :a3)), (18, 'value of a stranger', format('crm.merge(''account'', %s, ''{%s}'', ''{"fields": {"name": -1}}'')', :a1, :a3)),
    (19, 'value of a wrong type', format('crm.merge(''account'', %s, ''{%s}'', ''{"fields": {"employees": {"value": "many"}}}'')', :a1, :a3)),
    (20, 'unknown merge', 'crm.unmerge(-1)'), (21, 'undone twice', format('crm.unmerge(%s)', :op3)),
    (22, 'preview of itself', format('crm.merge_preview(''account'', %s, ''{%s}'')', :a1, :a1)), (23, 'redirect of a deal', 'crm.current_id(''opportunity'', 1)')) AS v (n, what, call), pg_temp.refused(v.call) AS r ORDER BY v.n;
SET LOCAL ROLE crm_sales;
SELECT * FROM pg_temp.refused(format('crm.merge(''account'', %s, ''{%s}'')', :a1, :a3));
SELECT * FROM pg_temp.refused(format('crm.unmerge(%s)', :op4));
SET LOCAL ROLE crm_steward;
SELECT * FROM pg_temp.refused(format('crm.merge(''account'', %s, ''{%s}'')', :a1, :a3));
SELECT * FROM pg_temp.refused(format('crm.merge(''account'', %s, ''{%s}'', ''{"confirmation": 4711}'')', :a1, :a3));
SELECT * FROM pg_temp.refused(format('crm.merge(''account'', %s, ''{%s}'', ''{"confirmation": "soon"}'')', :a1, :a3));
RESET ROLE;
SELECT tab FROM (SELECT * FROM pg_temp.everything() EXCEPT SELECT * FROM unhurt) AS x ORDER BY tab;
SELECT count(*) AS later_merges FROM crm_data.merge_op WHERE id > :op4;
-- a later merge that changed a field of a row which this one changed must be undone first, whatever its object
INSERT INTO crm_data.contact (account_id, name) SELECT :alive, v FROM unnest(ARRAY['Mo', 'Max', 'Mia']) AS v;
SELECT max(id) FILTER (WHERE name = 'Mo') AS mo, max(id) FILTER (WHERE name = 'Max') AS max, max(id) FILTER (WHERE name = 'Mia') AS mia FROM crm_data.contact WHERE account_id = :alive \gset
UPDATE crm_data.contact SET reports_to = :mia WHERE id = :max;
SELECT crm.merge('contact', :mo, ARRAY[:max]::bigint[]) AS op5 \gset
INSERT INTO crm_data.contact (account_id, name) VALUES (:alive, 'Moritz');
SELECT max(id) AS moritz FROM crm_data.contact WHERE account_id = :alive \gset
SELECT crm.merge('contact', :moritz, ARRAY[:mia]::bigint[]) AS op6 \gset
SELECT r.code, r.message = format('merge %s came later and overlaps this one', :op6) AS names_it, r.has_hint FROM pg_temp.refused(format('crm.unmerge(%s)', :op5)) AS r;
SELECT crm.unmerge(:op6)->'conflicts' AS conflicts, crm.unmerge(:op5)->'conflicts' AS conflicts;
ROLLBACK;

-- Property (500 of them: test/long/merge_property.sh): after 30 random merges and all their undos, backwards, every row is what it was.
BEGIN;
INSERT INTO crm_data.account (code, name, phone, tags, parent_id)
SELECT 'mp' || i, 'Random ' || i % 17, CASE WHEN i % 3 > 0 THEN '139' || lpad((i % 29)::text, 8, '7') END, ARRAY['t' || i % 5], NULL FROM generate_series(1, 30) AS i;
UPDATE crm_data.account AS a SET parent_id = p.id FROM crm_data.account AS p WHERE a.code LIKE 'mp%' AND p.code = 'mp' || (substr(a.code, 3)::int * 7 % 30 + 1) AND p.id <> a.id;
INSERT INTO crm_data.contact (account_id, name, phone) SELECT a.id, 'C' || i % 11, '138' || lpad((i % 13)::text, 8, '6') FROM crm_data.account AS a, generate_series(1, 3) AS i WHERE a.code LIKE 'mp%';
UPDATE crm_data.contact AS c SET reports_to = (SELECT min(d.id) FROM crm_data.contact AS d WHERE d.account_id = c.account_id AND d.id < c.id) FROM crm_data.account AS a WHERE a.id = c.account_id AND a.code LIKE 'mp%';
INSERT INTO crm_data.campaign (code, name) VALUES ('mp', 'Merge property');
INSERT INTO crm_data.campaign_member (campaign_id, account_id) SELECT k.id, a.id FROM crm_data.campaign AS k, crm_data.account AS a WHERE k.code = 'mp' AND a.code LIKE 'mp%';
INSERT INTO crm_data.attachment (object, record_id, account_id, kind, name) SELECT 'account', a.id, a.id, 'other', 'file ' || a.code FROM crm_data.account AS a WHERE a.code LIKE 'mp%';
INSERT INTO crm_data.event (account_id, kind, occurred_at) SELECT a.id, 'visit', now() FROM crm_data.account AS a WHERE a.code LIKE 'mp%';
INSERT INTO crm_data.duplicate_pair (object_a, a_id, object_b, b_id, band, score)
SELECT 'account', a.id, 'account', b.id, 'suggest', 0.9 FROM crm_data.account AS a JOIN crm_data.account AS b ON b.id > a.id AND b.name = a.name WHERE a.code LIKE 'mp%' AND b.code LIKE 'mp%'
ON CONFLICT DO NOTHING;
CREATE TEMP TABLE start_ AS SELECT * FROM pg_temp.everything();
CREATE TEMP TABLE ops (n int, op bigint);
DO $$
DECLARE
    live bigint[];
    object text;
    k int := 20;
BEGIN
    FOR n IN 1..30 LOOP
        object := CASE WHEN n % 4 = 0 THEN 'contact' ELSE 'account' END;
        EXECUTE format('SELECT array_agg(x.id) FROM (SELECT t.id FROM crm_data.%I AS t WHERE t.merged_into IS NULL AND %s ORDER BY md5(t.id::text || $1) LIMIT 2 + $1 %% 2) AS x', object,
                       CASE object WHEN 'account' THEN 't.code LIKE ''mp%''' ELSE 't.name LIKE ''C%''' END) INTO live USING n;
        -- When few are left, undo the last ones and go on.
        IF cardinality(live) < 2 THEN
            PERFORM crm.unmerge(o.op) FROM (SELECT op FROM ops AS p JOIN crm_data.merge_op AS m ON m.id = p.op AND m.state = 'done' ORDER BY p.op DESC LIMIT 5) AS o;
            CONTINUE;
        END IF;
        INSERT INTO ops SELECT n, crm.merge(object, live[1], live[2:]);
    END LOOP;
END
$$;
SELECT count(*) > 20 AS many, count(*) FILTER (WHERE m.state = 'undone') > 0 AS some_undone FROM ops JOIN crm_data.merge_op AS m ON m.id = ops.op;
SELECT count(*) > 0 AS rows_put_aside FROM crm_data.merge_move WHERE action = 'stashed';
SELECT sum(jsonb_array_length(r->'conflicts')) AS conflicts FROM (SELECT crm.unmerge(o.op) AS r FROM (SELECT op FROM ops JOIN crm_data.merge_op AS m ON m.id = ops.op WHERE m.state = 'done' ORDER BY op DESC) AS o) AS x;
SELECT tab FROM (SELECT * FROM pg_temp.everything() EXCEPT SELECT * FROM start_) AS x ORDER BY tab;
ROLLBACK;
