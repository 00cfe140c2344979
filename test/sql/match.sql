-- Match: models over a table of one's own, and the CRM's suggestions.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE TABLE people (id text, first text, last text, born text, phone text, city text);
INSERT INTO people
SELECT i::text || v.tail, CASE v.tail WHEN 'b' THEN left(n.first, 1) || substr(n.first, 3) ELSE n.first END, n.last, to_char(date '1950-01-01' + (i * 97) % 18000, 'YYYY-MM-DD'),
       CASE v.tail WHEN 'c' THEN NULL ELSE '1' || (3 + i % 6) || lpad((i * 7919 % 1000000000)::text, 9, '0') END, (ARRAY['Leeds', 'York', 'Hull', 'Bath', 'Derby'])[1 + i % 5]
  FROM generate_series(1, 400) AS i,
       LATERAL (SELECT (ARRAY['Robert', 'Alice', 'William', 'Margaret', 'Edward', 'Catherine', 'Thomas', 'Harriet', 'Oliver', 'Susanna'])[1 + i * 7 % 10] AS first,
                       (ARRAY['Smith', 'Turner', 'Baker', 'Whitfield', 'Oakley', 'Marsh', 'Hollander', 'Quincy', 'Underhill', 'Vance', 'Yardley', 'Zimmer'])[1 + i * 5 % 12] AS last) AS n,
       (VALUES ('a'), ('b'), ('c')) AS v (tail)
 WHERE v.tail = 'a' OR (v.tail = 'b' AND i % 3 = 0) OR (v.tail = 'c' AND i % 5 = 0);
SELECT crm.match_define('test people', 'people', 'id', '{"first": "given_name", "last": "family_name", "born": "date", "phone": "phone", "city": "city"}');
SELECT count(*) FROM crm.match_clusters('test people');
SELECT l->>'rows' AS rows, (l->'fields'->'last'->'levels'->'equal'->>'weight')::float8 > 1 AS surname_counts FROM crm.match_train('test people') AS l;
-- every record's cluster is its number without the letter
SELECT count(*) AS rows, count(DISTINCT c.cluster) AS clusters, count(*) FILTER (WHERE same.n <> c.n) AS wrong
  FROM (SELECT *, count(*) OVER (PARTITION BY cluster) AS n FROM crm.match_clusters('test people')) AS c
       JOIN (SELECT id, count(*) OVER (PARTITION BY rtrim(id, 'abc')) AS n FROM people) AS same USING (id);
SELECT a, b, band, probability > 0.9 AS likely, evidence->'fields'->'phone'->>'level' AS phone, evidence->'fields'->'first'->>'level' AS first
  FROM crm.match_pairs('test people') WHERE rtrim(a, 'abc') IN ('15', '30', '33') ORDER BY a, b;
-- the same rows in another order give the same clusters, and learning gives the same weights
CREATE TABLE people2 AS SELECT * FROM people ORDER BY md5(id);
SELECT crm.match_define('test people 2', 'people2', 'id', '{"first": "given_name", "last": "family_name", "born": "date", "phone": "phone", "city": "city"}');
SELECT crm.match_train('test people') = crm.match_train('test people 2') AS same_weights;
SELECT count(*) AS different FROM (SELECT * FROM crm.match_clusters('test people') EXCEPT SELECT * FROM crm.match_clusters('test people 2')) AS x;
-- and whoever does the work: this process alone, two workers alone, all three
SET max_parallel_workers_per_gather = 0;
SELECT crm.match_train('test people') AS alone_learned \gset
SELECT md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) AS alone FROM crm.match_clusters('test people') \gset
SET max_parallel_workers_per_gather = 2;
SET min_parallel_table_scan_size = 0;
SELECT crm.match_train('test people') = :'alone_learned' AS learned_same, md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) = :'alone' AS clusters_same FROM crm.match_clusters('test people');
SET parallel_leader_participation = off;
SELECT crm.match_train('test people') = :'alone_learned' AS learned_same, md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) = :'alone' AS clusters_same FROM crm.match_clusters('test people');
SET max_parallel_workers = 0;
SELECT crm.match_train('test people') = :'alone_learned' AS learned_same, md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) = :'alone' AS clusters_same FROM crm.match_clusters('test people');
RESET max_parallel_workers;
RESET parallel_leader_participation;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;
-- loaded in three parts, in each of two orders, with the state that was trained before: the same clusters in the end
CREATE TABLE staged (LIKE people);
SELECT crm.match_define('test staged', 'staged', 'id', '{"first": "given_name", "last": "family_name", "born": "date", "phone": "phone", "city": "city"}');
UPDATE crm_data.match_state AS s SET params = o.params FROM crm_data.match_state AS o WHERE s.name = 'test staged' AND o.name = 'test people';
INSERT INTO staged SELECT * FROM people WHERE hashtext(id) % 3 = 0 ORDER BY id;
SELECT count(*) > 100 AS some FROM crm.match_clusters('test staged');
INSERT INTO staged SELECT * FROM people WHERE hashtext(id) % 3 > 0 ORDER BY md5(id);
INSERT INTO staged SELECT * FROM people WHERE hashtext(id) % 3 < 0 ORDER BY id DESC;
SELECT md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) = :'alone' AS clusters_same FROM crm.match_clusters('test staged');
TRUNCATE staged;
INSERT INTO staged SELECT * FROM people WHERE hashtext(id) % 3 < 0 ORDER BY md5(id);
INSERT INTO staged SELECT * FROM people WHERE hashtext(id) % 3 = 0 ORDER BY id DESC;
INSERT INTO staged SELECT * FROM people WHERE hashtext(id) % 3 > 0 ORDER BY id;
SELECT md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) = :'alone' AS clusters_same FROM crm.match_clusters('test staged');
DROP TABLE staged;
SELECT count(*) FROM crm.match_clusters('test staged');
-- in one pass: what it learns is kept and is the same
SELECT md5(string_agg(id || ':' || cluster, ',' ORDER BY id)) = :'alone' AS clusters_same FROM crm.match_clusters('test people 2', learn => true);
SELECT a.params = b.params AS learned_same FROM crm_data.match_state AS a, crm_data.match_state AS b WHERE a.name = 'test people' AND b.name = 'test people 2';
-- people decide: two rows are one, or two; what keeps apart holds against any chain
SELECT crm.match_link('test people', '15c', '15a', false, 'father and son');
SELECT crm.match_link('test people', '30a', '31a', true), crm.match_link('test people', '31a', '32a', true), crm.match_link('test people', '32a', '30b', false),
       crm.match_link('test people', '1a', 'nobody', true);
SELECT array_agg(id ORDER BY id) FROM crm.match_clusters('test people') WHERE id ~ '^(15|30|31|32)[abc]$' GROUP BY cluster ORDER BY 1;
SELECT a, b FROM crm.match_pairs('test people') WHERE rtrim(a, 'abc') = '15' ORDER BY a, b;
SELECT crm.match_link('test people', '15a', '15c', NULL);
SELECT array_agg(id ORDER BY id) FROM crm.match_clusters('test people') WHERE id ~ '^15[abc]$' GROUP BY cluster ORDER BY 1;
DELETE FROM crm_data.match_link AS l USING crm_data.match_state AS s WHERE s.model = l.model AND s.name = 'test people';
\set VERBOSITY terse
SELECT crm.match_link('test nothing', '1', '2', true);
SELECT crm.match_link('account', '1', '2', true);
SELECT crm.match_link('test people', '1', '1', true);
SELECT crm.match_link('test people', NULL, '1', true);
\set VERBOSITY default
-- meanings are guessed
SET client_min_messages = notice;
SELECT crm.match_define('test people 2', 'people2', 'id');
CREATE TABLE guess (id int, full_name text, first_and_surname text, first_name text, surname text, soc_sec_id text, account_id int, birth_place text, dob date, mobile text, cluster int);
INSERT INTO guess SELECT i, 'Ann Lee ' || i, 'Ann Lee', 'Ann', 'Lee', 'S' || i, i, 'Hull', '2000-01-01', '0400 000 00' || i, i FROM generate_series(1, 9) AS i;
SELECT crm.match_define('test guess', 'guess', 'id');
DROP TABLE guess;
-- from the values alone, where the columns' names say nothing; a column made of others is left out
CREATE TABLE guess AS
SELECT i AS id, f.v AS c1, l.v AS c2, f.v || ' ' || l.v AS c3, to_char(date '1950-01-01' + i * 31, 'DD/MM/YYYY') AS c4, 1 + i % 77 || ' ' || l.v || ' Street' AS c5, (2000 + i % 90)::text AS c6, left(f.v, 1) || l.v || '@example.com' AS c7,
       '(02) 9' || lpad((i * 7919 % 10000000)::text, 7, '0') AS c8, l.v || ' & Sons Pty Ltd' AS c9, (ARRAY['red', 'green', 'blue'])[1 + i % 3] AS c10, 'www.' || lower(l.v) || i || '.com' AS c11
  FROM generate_series(1, 300) AS i,
       LATERAL (SELECT (regexp_split_to_array('Robert Alice William Margaret Edward Catherine Thomas Harriet Oliver Susanna James Mary John Anna Peter Helen George Emily Henry Laura Frank Julia Arthur Rose Albert Nora', ' '))[1 + i * 7 % 26] AS v) AS f,
       LATERAL (SELECT (regexp_split_to_array('Smith Turner Baker Whitfield Oakley Marsh Hollander Quincy Underhill Vance Yardley Zimmer Abbott Brandt Carver Dunmore Ellery Farrow Garland Hartley Ingram Jessop Kirby Lowell Mercer Norwood', ' '))[1 + i * 5 % 26] AS v) AS l;
SELECT crm.match_define('test guess', 'guess', 'id');
DROP TABLE guess;
CREATE TABLE guess AS
SELECT i AS id, (ARRAY['北京', '上海', '武汉', '青岛'])[1 + i % 4] || (ARRAY['星海', '绿墨', '德卡', '长青', '云山'])[1 + i % 5] || i || '科技有限公司' AS c1, (ARRAY['张', '王', '李', '赵', '欧阳'])[1 + i % 5] || (ARRAY['三', '莲莉', '大伟', '芳', '建国', '文'])[1 + i % 6] || (ARRAY['', '明', '华'])[1 + i % 3] AS c2,
       '138' || lpad((i * 7919 % 100000000)::text, 8, '0') AS c3, '湖北省武汉市武昌区中山北路' || i || '号' AS c4, lpad((i * 37 % 1000)::text, 3, '0') || substr('0123456789X', 1 + i % 11, 1) AS c5
  FROM generate_series(1, 200) AS i;
SELECT crm.match_define('test guess', 'guess', 'id');
DROP TABLE guess;
SET client_min_messages = warning;
-- one document against an index that a trigger keeps
\set VERBOSITY terse
SELECT * FROM crm.match_probe('test people', '{"first": "Will", "last": "Oakley"}');
SELECT crm.match_index('test people') = count(*) AS all_rows FROM people;
SELECT pid, band, probability > 0.9 AS likely, evidence->'fields'->'last'->>'level' AS last
  FROM people AS q, LATERAL crm.match_probe('test people', jsonb_build_object('first', q.first, 'last', substr(q.last, 1, 3) || 'x' || substr(q.last, 4), 'born', q.born, 'phone', q.phone), 2) AS p (pid, probability, band, evidence)
 WHERE q.id = '15a' AND p.pid LIKE '15_' ORDER BY pid;
INSERT INTO people VALUES ('new1', 'Zebedee', 'Quartermain', '1971-02-03', NULL, 'Leeds');
SELECT id, band FROM crm.match_probe('test people', '{"first": "Zebedee", "last": "Quartermain", "born": "1971-02-03"}', 1);
SELECT id, evidence->'fields'->'first'->>'level' AS first FROM crm.match_probe('test people', '{"first": "Quartermain", "last": "Zebedee"}', 1);
UPDATE people SET last = 'Pennyfeather', first = 'Xavier' WHERE id = 'new1';
SELECT count(*) FROM crm.match_probe('test people', '{"first": "Zebedee", "last": "Quartermain"}', 1);
SELECT id FROM crm.match_probe('test people', '{"first": "Xavier", "last": "Pennyfeather"}', 1);
DELETE FROM people WHERE id = 'new1';
SELECT count(*) FROM crm.match_probe('test people', '{"first": "Xavier", "last": "Pennyfeather"}', 1);
SELECT count(*) FROM crm.match_probe('test people', '{}');
-- the trigger leaves the keys that a new index has
CREATE TEMP TABLE kept AS SELECT k.* FROM crm_data.match_key AS k JOIN crm_data.match_state AS s USING (model) WHERE s.name = 'test people';
SELECT crm.match_index('test people') = count(*) AS all_rows FROM people;
SELECT (SELECT count(*) FROM kept) > 2000 AS many, count(*) AS different
  FROM (SELECT k.* FROM crm_data.match_key AS k JOIN crm_data.match_state AS s USING (model) WHERE s.name = 'test people') AS k FULL JOIN kept AS o USING (kind, key, rec) WHERE k.model IS NULL OR o.model IS NULL;
DROP TABLE kept;
SELECT count(*) FROM crm.match_probe('test people', '[]');
SELECT count(*) FROM crm.match_probe('test people', '{}', 0);
-- an index runs no code of the table's owner with the engine's rights, takes keys from nobody else, and tells only those who may read the table
BEGIN;
CREATE ROLE match_owner NOLOGIN IN ROLE crm_sales;
CREATE ROLE match_other NOLOGIN IN ROLE crm_service;
CREATE SCHEMA match_own AUTHORIZATION match_owner;
GRANT USAGE, CREATE ON SCHEMA match_own TO match_other;
SET ROLE match_owner;
CREATE TYPE match_own.size AS ENUM ('Small', 'Large');
CREATE FUNCTION match_own.run(match_own.size) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'run by %', current_user; RETURN to_json($1::text); END $$;
CREATE CAST (match_own.size AS json) WITH FUNCTION match_own.run(match_own.size);
CREATE TABLE match_own.shop (id int, name text, size match_own.size, open boolean);
SELECT crm.match_define('test shop', 'match_own.shop', 'id', '{"name": "company", "size": "category", "open": "category"}');
SELECT crm.match_index('test shop');
INSERT INTO match_own.shop VALUES (1, 'Willow Bakery', 'Small', true), (2, 'Harbour Books', 'Large', NULL);
UPDATE match_own.shop SET name = 'Willow and Sons' WHERE id = 1;
DELETE FROM match_own.shop WHERE id = 2;
SELECT crm._match_candidates('test shop', '{"name": "Willow and Sons"}');
SET ROLE match_other;
SAVEPOINT s;
SELECT crm._match_candidates('test shop', '{"name": "Willow and Sons"}');
ROLLBACK TO s;
CREATE TABLE match_own.forge (model int);
CREATE FUNCTION match_own.forge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM crm._match_put(NEW.model, '{7}', '{1}', '{1}', '{1}'); RETURN NEW; END $$;
CREATE TRIGGER forge BEFORE INSERT ON match_own.forge FOR EACH ROW EXECUTE FUNCTION match_own.forge();
INSERT INTO match_own.forge VALUES (1);
ROLLBACK;
-- whoever may not read a customer's identity does not find it out by asking
BEGIN;
INSERT INTO crm_data.account (name, phone, legal_id4) VALUES ('Askwell Trading Ltd', '13911114711', '4711');
CREATE ROLE match_agent NOLOGIN IN ROLE crm_service;
SELECT evidence #>> '{fields,legal_id4,level}' AS knows FROM crm.find_duplicates('account', '{"name": "Askwell Trading Ltd", "phone": "13911114711", "legal_id4": "4711"}');
SET LOCAL ROLE match_agent;
SELECT evidence #>> '{fields,legal_id4,level}' AS asked FROM crm.find_duplicates('account', '{"name": "Askwell Trading Ltd", "phone": "13911114711", "legal_id4": "4711"}');
ROLLBACK;
-- bad input: a clear error, nothing changed
SELECT crm.match_define('bad', 'people', 'nothing', '{"first": "given_name"}');
SELECT crm.match_define('bad', 'people', 'id', '{"nothing": "given_name"}');
SELECT crm.match_define('bad', 'people', 'id', '{"first": "surname"}');
SELECT crm.match_define('bad', 'people', 'id', '{"first": 1}');
SELECT crm.match_define('bad', 'people', 'id', '[]');
SELECT crm.match_define('bad', 'people', NULL, '{}');
SELECT crm.match_define('account', 'people', 'id', '{"first": "given_name"}');
SELECT crm.match_train('bad');
SELECT count(*) FROM crm.match_clusters('bad');
SELECT count(*) FROM crm.match_clusters('test people 2');
SELECT count(*) FROM crm.match_clusters('test people', 1);
SELECT count(*) FROM crm.match_clusters('test people', 'NaN');
INSERT INTO people SELECT * FROM people WHERE id = '1a';
SELECT count(*) FROM crm.match_clusters('test people');
DELETE FROM people WHERE id = '1a';
INSERT INTO people (first) VALUES ('nobody');
SELECT count(*) FROM crm.match_clusters('test people');
DELETE FROM people WHERE id IS NULL;
-- empty tables, one row, empty values, megabytes
CREATE TABLE few (id int, name text);
SELECT crm.match_define('test few', 'few', 'id', '{"name": "company"}');
SELECT crm.match_train('test few')->>'rows' AS rows;
SELECT * FROM crm.match_clusters('test few');
INSERT INTO few VALUES (1, 'Acme Ltd'), (2, ''), (3, NULL), (4, repeat('x', 10000000)), (5, repeat('x ', 1000000)), (6, U&'\FFFD'), (7, '()');
SELECT crm.match_train('test few')->>'rows' AS rows;
SELECT * FROM crm.match_clusters('test few') ORDER BY id;
SELECT * FROM crm.match_clusters('test few', learn => true) ORDER BY id LIMIT 1;
SELECT count(*) FROM crm.match_pairs('test few', 0);
SELECT count(*) FROM crm.match_clusters('test few', 'infinity');
SELECT crm.match_define('test few', 'few', 'id', '{}');
SELECT crm.match_define('test few', 'few', 'id', NULL);
SELECT crm.match_define('test seventeen', 'few', 'id', (SELECT jsonb_object_agg('c' || i, 'text') FROM generate_series(1, 17) AS i));
SELECT crm.match_define('test few', 'few', 'id', '{"name": "company"}');
SELECT crm.match_train('test few')->>'rows' AS rows;
ALTER TABLE few RENAME name TO other;
SELECT count(*) FROM crm.match_clusters('test few');
SELECT crm.match_index('test few');
ALTER TABLE few RENAME other TO name;
-- trained state that does not fit
BEGIN;
UPDATE crm_data.match_state SET params = '\x00' WHERE name = 'test few';
SELECT count(*) FROM crm.match_clusters('test few');
ROLLBACK;
BEGIN;
UPDATE crm_data.match_state SET params = set_byte(params, 500, 1 + get_byte(params, 500) % 255) WHERE name = 'test few';
SELECT count(*) FROM crm.match_clusters('test few');
ROLLBACK;

-- the CRM's records
BEGIN;
CREATE ROLE match_rep LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.team (code, name) VALUES ('match-team', 'Team');
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT 'match_rep', 'Rep', t.id FROM crm_data.team AS t WHERE t.code = 'match-team';
INSERT INTO crm_data.account (code, name, uscc, phone, email, legal_person, legal_id4, address)
VALUES ('mt1', '星健兰庭（枣庄）软件股份有限公司', '91350100M000100Y43', '138 1234 5679', 'info@aqgbq.com.cn', '李蕊天', '5489', '山东省枣庄市台儿庄区迎宾路63号2312室'),
       ('mt2', '枣庄绿墨精密机械有限公司', NULL, '0632-76580783', 'info@rrtncbno.com', '段丽霞', '3005', NULL);
SELECT phone_norm, email_norm, name_core FROM crm_data.account WHERE code LIKE 'mt_' ORDER BY code;
-- found as it is typed, rule by rule
INSERT INTO crm_data.account (code, name, uscc, phone) VALUES ('mt3', '星健兰庭软件', '91350100m000100y43', NULL);
INSERT INTO crm_data.account (code, name, phone, legal_id4) VALUES ('mt4', '绿墨精密机械（枣庄）有限公司', '(0632)76580783', '3005'), ('mt5', '枣庄市绿墨精密機械有限公司', '７６５８０７８３', NULL);
INSERT INTO crm_data.lead (source, name, company, phone, legal_id4) VALUES ('web', '段丽霞', '枣庄绿墨精密机械有限公司', '+86 632 7658 0783', '3005');
-- another branch is no duplicate
INSERT INTO crm_data.account (code, name, phone) VALUES ('mt6', '枣庄绿墨精密机械有限公司济南分公司', '0632-76580783');
SELECT a.code AS original, coalesce(b.code, 'lead') AS newer, d.object_b, d.band, d.rule, d.locks_target, d.lock_expires_at > now() + interval '23 hours' AS for_a_day, d.state
  FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id LEFT JOIN crm_data.account AS b ON b.id = d.b_id AND d.object_b = 'account'
 WHERE a.code LIKE 'mt_' ORDER BY 1, 2;
SELECT verdict, masked_name, rule FROM crm.check_duplicate('{"name": "星健兰庭", "uscc": "91350100M000100Y43"}');
SELECT verdict, masked_name, rule FROM crm.check_duplicate('{"name": "没有这家公司", "phone": "13800138000"}');
SELECT verdict, masked_name, rule FROM crm.check_duplicate('{}');
SELECT a.code, f.rule, f.score >= 0.9 AS sure, f.evidence->'fields'->'phone'->>'level' AS phone FROM crm.find_duplicates('account', '{"name": "枣庄绿墨精密机械有限公司", "phone": "0632-76580783"}') AS f JOIN crm_data.account AS a USING (id) ORDER BY 1;
-- a changed field is looked at again: evidence that comes is suggested, evidence that goes takes the suggestion and its lock with it
SAVEPOINT u;
CREATE FUNCTION pg_temp.pairs(like_ text) RETURNS TABLE (original text, newer text, object_b text, band text, rule text, locks boolean, state text, reason text) LANGUAGE sql AS $$
    SELECT a.code, coalesce(b.code, 'lead'), d.object_b, d.band, d.rule, d.locks_target, d.state, d.reason
      FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id LEFT JOIN crm_data.account AS b ON b.id = d.b_id AND d.object_b = 'account'
     WHERE d.object_a = 'account' AND a.code LIKE like_ ORDER BY 1, 2, 3 $$;
INSERT INTO crm_data.account (code, name, phone, legal_id4) VALUES ('mu1', 'Quarz Optik Jena GmbH', '0755-81234567', '7788'), ('mu2', 'Nordwind Logistik AG', '0755-89999999', '1122');
SELECT * FROM pg_temp.pairs('mu_');
UPDATE crm_data.account SET name = 'Quarz Optik Jena', phone = '(0755) 8123 4567', legal_id4 = '7788' WHERE code = 'mu2';
SELECT * FROM pg_temp.pairs('mu_');
SELECT lock_expires_at AS first_end FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id WHERE a.code = 'mu1' \gset
UPDATE crm_data.account SET industry = 'logistics' WHERE code = 'mu2';
UPDATE crm_data.account SET name = 'Nordwind Logistik AG', phone = '0755-89999999' WHERE code = 'mu2';
SELECT * FROM pg_temp.pairs('mu_');
-- evidence that comes again opens the pair again, with the end that its lock had
UPDATE crm_data.account SET name = 'Quarz Optik Jena', phone = '(0755) 8123 4567' WHERE code = 'mu2';
SELECT * FROM pg_temp.pairs('mu_');
SELECT lock_expires_at = :'first_end' AS same_end FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id WHERE a.code = 'mu1';
-- another hit does not make it longer, and once it ran out undecided nobody's form locks again
INSERT INTO crm_data.lead (source, name, company, phone, legal_id4) VALUES ('web', 'Anna', 'Quarz Optik Jena GmbH', '0755-81234567', '7788');
SELECT count(DISTINCT d.lock_expires_at) AS ends, bool_and(d.locks_target) AS all_lock FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id WHERE a.code = 'mu1';
UPDATE crm_data.duplicate_pair AS d SET lock_expires_at = now() FROM crm_data.account AS a WHERE a.id = d.a_id AND a.code = 'mu1';
INSERT INTO crm_data.account (code, name, phone, legal_id4) VALUES ('mu3', 'Quarz Optik Jena GmbH', '0755 81234567', '7788');
SELECT * FROM pg_temp.pairs('mu1');
-- what is deleted, or a lead converted, is suggested no more
UPDATE crm_data.lead SET converted_account_id = (SELECT id FROM crm_data.account WHERE code = 'mu1') WHERE company = 'Quarz Optik Jena GmbH';
UPDATE crm_data.account SET deleted_at = now() WHERE code = 'mu3';
SELECT * FROM pg_temp.pairs('mu1');
-- contacts likewise; what a person named stays
INSERT INTO crm_data.contact (account_id, name, phone, email) SELECT id, 'Sommer, Katharina', '13912340001', 'k.sommer@qoj.example' FROM crm_data.account WHERE code = 'mu1';
INSERT INTO crm_data.contact (account_id, name, phone) SELECT id, 'Peter Winter', '13912340002' FROM crm_data.account WHERE code = 'mu2';
UPDATE crm_data.contact SET name = 'Katharina Sommer', phone = '+86 139 1234 0001', email = 'K.Sommer@qoj.example' WHERE name = 'Peter Winter';
SELECT d.object_a, d.state, d.band <> 'none' AS found FROM crm_data.duplicate_pair AS d JOIN crm_data.contact AS c ON c.id = d.a_id AND d.object_a = 'contact' WHERE c.name = 'Sommer, Katharina';
UPDATE crm_data.contact SET name = 'Peter Winter', phone = '13912340002', email = NULL WHERE name = 'Katharina Sommer';
SELECT d.object_a, d.state FROM crm_data.duplicate_pair AS d JOIN crm_data.contact AS c ON c.id = d.a_id AND d.object_a = 'contact' WHERE c.name = 'Sommer, Katharina';
INSERT INTO crm_data.duplicate_pair (object_a, a_id, object_b, b_id, band) SELECT 'account', a.id, 'account', b.id, 'none' FROM crm_data.account AS a, crm_data.account AS b WHERE a.code = 'mt2' AND b.code = 'mu2';
UPDATE crm_data.account SET name = 'Nordwind Logistik' WHERE code = 'mu2';
SELECT original, newer, band, state FROM pg_temp.pairs('mt2') WHERE newer = 'mu2';
-- a subtransaction that fails takes its notes with it
DO $$
BEGIN
    BEGIN
        UPDATE crm_data.account SET phone = '0755-81234567' WHERE code = 'mu2';
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
    UPDATE crm_data.account SET phone = '0755-86666666' WHERE code = 'mu2';
END
$$;
SELECT original, newer, state FROM pg_temp.pairs('mu1') WHERE newer = 'mu2';
ROLLBACK TO u;
-- a set: the same suggestions as one by one, and one lock in place of very many
SAVEPOINT u;
SELECT count(*) AS locks_before FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid IN (66, 69) \gset
INSERT INTO crm_data.account (code, name, phone) SELECT 'mv' || i, 'Werk ' || to_char(i, 'FMRN') || ' Guss', '0755-7' || lpad(i::text, 7, '0') FROM generate_series(1, 500) AS i;
SELECT count(*) - :locks_before AS locks_of_1000_keys FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid IN (66, 69);
ROLLBACK TO u;
INSERT INTO crm_data.account (code, name, phone, email) SELECT 'mv' || i, 'Werk ' || to_char(i, 'FMRN') || ' Guss', '0755-7' || lpad(i::text, 7, '0'), CASE i WHEN 1 THEN 'x@werk.example' END FROM generate_series(1, 500) AS i;
SELECT count(*) - :locks_before AS locks_of_1001, bool_or(mode = 'ExclusiveLock' AND objsubid = 69) AS of_the_model FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid IN (66, 69);
INSERT INTO crm_data.account (code, name, phone) SELECT 'mw' || i, 'Werk ' || to_char(i, 'FMRN') || ' Guss', '(0755) 7' || lpad(i::text, 7, '0') FROM generate_series(1, 400) AS i;
SELECT count(*) >= 400 AS as_a_set, count(*) FILTER (WHERE a.phone_norm <> b.phone_norm) AS wrong FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id JOIN crm_data.account AS b ON b.id = d.b_id WHERE a.code LIKE 'mv%' AND b.code LIKE 'mw%';
CREATE TEMP TABLE as_set AS SELECT d.a_id, d.b_id, d.score, d.band, d.rule FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS b ON b.id = d.b_id WHERE b.code LIKE 'mw%';
SELECT count(*) AS differ FROM (SELECT s.a_id, s.b_id, s.score, s.band, s.rule FROM as_set AS s EXCEPT
    SELECT f.id, b.id, f.score, f.band, f.rule FROM crm_data.account AS b, crm._find_duplicates('account', to_jsonb(b)) AS f WHERE b.code LIKE 'mw%') AS x;
ROLLBACK TO u;
-- a certain one locks match fields and owner of the original; other fields stay free, a steward decides
SAVEPOINT s;
UPDATE crm_data.account AS a SET owner_id = m.id, team_id = m.team_id FROM crm_data.member AS m WHERE a.code = 'mt2' AND m.role_name = 'match_rep';
SET LOCAL ROLE match_rep;
UPDATE crm.account SET industry = 'machinery' WHERE code = 'mt2';
UPDATE crm.account SET phone = '0632-76580784' WHERE code = 'mt2';
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
UPDATE crm_data.account AS a SET owner_id = m.id, team_id = m.team_id FROM crm_data.member AS m WHERE a.code = 'mt2' AND m.role_name = 'match_rep';
UPDATE crm_data.duplicate_pair SET lock_expires_at = now() WHERE locks_target;
SET LOCAL ROLE match_rep;
UPDATE crm.account SET phone = '0632-76580784' WHERE code = 'mt2' RETURNING phone;
ROLLBACK TO s;
SELECT crm.reject_duplicate(d.id, ' two companies of one owner ') FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id WHERE a.code = 'mt2' AND d.rule = 'R1' AND d.object_b = 'account';
SELECT crm.scan_duplicates('account') >= 0 AS scanned;
SELECT d.state, d.reason, d.locks_target FROM crm_data.duplicate_pair AS d JOIN crm_data.account AS a ON a.id = d.a_id WHERE a.code = 'mt2' AND d.rule = 'R1' AND d.object_b = 'account';
SAVEPOINT s;
SELECT crm.reject_duplicate(d.id, 'again') FROM crm_data.duplicate_pair AS d WHERE d.state = 'rejected' ORDER BY d.id DESC LIMIT 1;
ROLLBACK TO s;
SELECT crm.reject_duplicate(-1, 'why');
ROLLBACK TO s;
SELECT crm.reject_duplicate(1, ' ');
ROLLBACK TO s;
SELECT * FROM crm.find_duplicates('pipeline', '{}');
ROLLBACK TO s;
SELECT * FROM crm.find_duplicates('account', '[]');
ROLLBACK TO s;
SELECT * FROM crm.find_duplicates('account', '{}', 'all');
ROLLBACK TO s;
SET LOCAL ROLE crm_sales;
SELECT crm.scan_duplicates('account');
ROLLBACK TO s;
ROLLBACK;
-- people match tables that they may read, and no others
GRANT SELECT ON people TO crm_sales;
SET ROLE crm_sales;
SELECT crm.match_define('test of sales', 'people', 'id', '{"first": "given_name", "last": "family_name", "born": "date"}');
SELECT crm.match_train('test of sales')->>'rows' AS rows;
SELECT crm.match_define('test of sales', 'people2', 'id', '{"first": "given_name"}');
SELECT crm.match_define('test people', 'people', 'id', '{"first": "given_name"}');
SELECT crm.match_link('test people', '1a', '2a', true);
SELECT count(*) FROM crm.match_clusters('test few');
RESET ROLE;
DELETE FROM crm_data.match_state WHERE name LIKE 'test %';
DROP TABLE people, people2, few;
