-- Import: reading of text, rehearsal, apply in chunks, repetition, undo, bad input.
\set VERBOSITY terse
SET client_min_messages = notice;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';

-- reading of fields, numbers and dates
SELECT crm.csv_fields('a, "b ""x""" ,,5" pipe,"q,r"'), crm.csv_fields('a;"1;2"', ';'), crm.csv_fields('');
SELECT crm.csv_fields('a,"b');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.csv_fields('a,"b"c');
SELECT crm.csv_fields('a', '');
SELECT v, crm.parse_number(v) FROM unnest(ARRAY['1,234.50', '￥1,200', '(3,000)', '1.234,5', '12万', '1.5亿', '1,23,4', 'abc', '-5', '1,234', '0,5', '1.2E+05', '１２３', '$ 1,000.00 USD', '--1', '1.2.3', '']) AS v;
SELECT v, crm.parse_date(v), crm.parse_date(v, true) AS day_first
  FROM unnest(ARRAY['3/1/2017', '2017-03-01', '20170301', '2017年3月1日', '1.3.2017', 'Mar 5, 2017', '5-Mar-2017', '2017/2/30', '13/2/2017', '3/1/17', '2016-02-29', '2017-02-29', '']) AS v;
SELECT v, crm.parse_time(v) FROM unnest(ARRAY['3/1/2017', '2017-03-01 10:20', '2017-03-01T10:20:30.5Z', '2017-03-01 10:20:30+0200', '2017-03-01 10:20 pm', '2017-03-01 25:00']) AS v;
SELECT crm.parse_time('2017-03-01', false, 'Mars/Olympus');
SELECT crm.label_key('GTX Pro') = crm.label_key('gtx-pro') AS same, crm.label_key('ＧＴＸ　Pro'), crm.label_key('--');
-- what a header tells
SELECT for_object, mapping, unknown, missing FROM crm.import_guess(crm.csv_fields('客户名称,行业,手机号,备注2')) LIMIT 1;
SELECT for_object, matched FROM crm.import_guess(crm.csv_fields('opportunity_id,sales_agent,product,account,deal_stage,engage_date,close_date,close_value')) LIMIT 1;
SELECT count(*) AS nothing FROM crm.import_guess(crm.csv_fields('foo,bar'));

-- people and products: what they refer to is made
SELECT crm.import_begin('member', 'import test') AS b \gset
SELECT crm.import_load(:b, E'sales_agent,manager,regional_office\nImp Agent One,Imp Boss,Imp North\nImp Agent Two,Imp Boss,Imp North\nImp Agent Three,Imp Agent One,Imp South\n');
SELECT item, row_count FROM crm.import_validate(:b);
CALL crm.import_apply(:b);
SELECT m.full_name, t.name AS team, b.full_name AS manager FROM crm_data.member AS m LEFT JOIN crm_data.team AS t ON t.id = m.team_id LEFT JOIN crm_data.member AS b ON b.id = m.manager_id
 WHERE m.full_name LIKE 'Imp %' ORDER BY 1;
SELECT crm.import_begin('product', 'import test') AS b \gset
SELECT crm.import_load(:b, E'product,series,sales_price\nIMP Pro,IMP,"1,000"\nIMP Basic,IMP,100\n');
SELECT item, row_count FROM crm.import_validate(:b);
CALL crm.import_apply(:b);
SELECT code, name, line, unit_price FROM crm_data.product WHERE line = 'IMP' ORDER BY code;

-- customers, by COPY: byte-order mark, CRLF, quoted line end, every kind of bad row, values corrected by the mapping, unknown columns kept
SELECT crm.import_begin('account', 'import test', '{"values": {"sector": {"technolgy": "technology"}}, "scale": {"revenue": 1000000}}', '{"unknown": "attrs"}', 'accounts.csv') AS b \gset
COPY crm.import_line (line) FROM STDIN WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02');
﻿account_id,account,sector,revenue,grade,founded,subsidiary_of,colour
I1,"Imp Acme, Inc.",technolgy,1100.04,3,1996,,red
I2,"Imp Beta
Works",retail,"1.2",2,1999,"Imp Acme, Inc.",
I3,Imp Gamma,retail,lots,2,1999,,
I4,Imp Delta,retail,5
I5,"Imp Epsilon,retail,5,1,2000,,
I6,Imp Zeta,retail,5,12,2000,,
I7,Imp Eta,retail,5,1,2000,Imp Nowhere,

I2,Imp Beta again,retail,1,2,1999,,
I1,"Imp Acme, Inc.",technolgy,1100.04,3,1996,,red
I8,,retail,5,1,2000,,
,Imp Theta,retail,5,1,2000,,
I9,Imp Iota,retail,-5,1,2000,,
I10,Imp Kappa,N/A,-,,99999,,
\.
SELECT item, row_count, CASE WHEN item NOT IN ('rows', 'bad') THEN detail END AS detail FROM crm.import_validate(:b);
SELECT line_no, verdict, reason, source FROM crm.import_report(:b, '{bad,duplicate}');
SELECT count(*) AS not_yet FROM crm_data.account WHERE name LIKE 'Imp %';
-- resumable: one row a transaction, highest value first; a second chunk size goes on where the first stopped
CALL crm.import_apply(:b, 1);
SELECT a.name, a.industry, a.annual_revenue, a.grade, a.founded_year, p.name AS parent, a.attrs, s.name AS source FROM crm_data.account AS a LEFT JOIN crm_data.account AS p ON p.id = a.parent_id
  LEFT JOIN crm_data.source_system AS s ON s.id = a.source_id WHERE a.name LIKE 'Imp %' ORDER BY a.name;
CALL crm.import_apply(:b);
SELECT count(*) AS lines_left FROM crm_data.import_line WHERE batch_id = :b;

-- the same customers again: nothing; then changed, with a grade that nobody mapped on purpose
SELECT crm.import_begin('account', 'import test') AS b2 \gset
SELECT crm.import_load(:b2, E'account_id\taccount\tsector\tgrade\nI1\tImp Acme, Inc.\tsoftware\t1\nI2\tImp Beta\nI11\tImp New\tretail\t1\n');
SELECT item, row_count FROM crm.import_validate(:b2);
SELECT line_no, verdict, reason, changes FROM crm.import_report(:b2, '{insert,update,merge,duplicate,bad}');
CALL crm.import_apply(:b2);
SELECT name, industry, grade FROM crm_data.account WHERE name LIKE 'Imp %' ORDER BY name;
-- a customer that another source has too is linked, and only what is empty is filled
SELECT crm.import_begin('account', 'import test 2') AS b3 \gset
SELECT crm.import_load(:b3, E'customer,sector,website\nIMP NEW,finance,new.example\n');
SELECT item, row_count FROM crm.import_validate(:b3);
CALL crm.import_apply(:b3);
SELECT a.name, a.industry, a.website, count(e.id) AS refs FROM crm_data.account AS a JOIN crm_data.external_ref AS e ON e.object = 'account' AND e.record_id = a.id WHERE a.name = 'Imp New' GROUP BY 1, 2, 3;

-- deals with their history
SELECT crm.pipeline_put('imp', 'Import', '[{"code": "look", "name": "Looking", "probability": 0.2}, {"code": "talk", "name": "Talking", "probability": 0.5}, {"code": "won", "name": "Won", "outcome": "won"}, {"code": "lost", "name": "Lost", "outcome": "lost"}]') > 0 AS made;
SELECT crm.import_begin('opportunity', 'import test', '{"defaults": {"currency": "USD"}}', '{"pipeline": "imp", "engaged_stage": "talk", "as_of": "2017-12-31"}') AS b4 \gset
SELECT crm.import_load(:b4, E'opportunity_id,sales_agent,product,account,deal_stage,engage_date,close_date,close_value\nO1,Imp Agent One,IMPPro,Imp New,Won,10/20/2016,3/1/2017,1054\nO2,Imp Agent Two,IMP Basic,"Imp Acme, Inc.",Lost,10/25/2016,3/11/2017,0\nO3,Imp Agent Two,IMP Basic,Imp New,Talking,11/25/2016,,\nO4,Imp Agent Two,IMP Basic,Imp New,Looking,,,\nO5,Imp Agent Two,IMP Basic,,Looking,,,\nO6,Imp Stranger,IMP Basic,Imp New,Looking,,,\nO7,Imp Agent Two,IMP Basic,Imp New,Dreaming,,,\nO8,Imp Agent Two,IMP Basic,Imp New,Won,5/1/2017,3/1/2017,10\nO9,Imp Agent Two,IMP Basic,Imp New,Won,25/1/2017,3/1/2017,10');
SELECT item, row_count FROM crm.import_validate(:b4);
SELECT line_no, verdict, reason FROM crm.import_report(:b4);
CALL crm.import_apply(:b4);
SELECT o.name, s.code AS stage, o.outcome, o.amount, o.currency, o.product_line, o.category, o.stage_entered_at, o.closed_at, m.full_name AS owner, t.name AS team
  FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id JOIN crm_data.pipeline AS p ON p.id = o.pipeline_id
  LEFT JOIN crm_data.member AS m ON m.id = o.owner_id LEFT JOIN crm_data.team AS t ON t.id = o.team_id WHERE p.code = 'imp' ORDER BY o.name;
SELECT o.name, f.code AS from_stage, s.code AS to_stage, h.entered_at, h.left_at, h.recorded_at = h.entered_at AS known_then, h.ts_assumed, h.amount
  FROM crm_data.stage_history AS h JOIN crm_data.opportunity AS o ON o.id = h.opportunity_id JOIN crm_data.stage AS s ON s.id = h.to_stage_id LEFT JOIN crm_data.stage AS f ON f.id = h.from_stage_id
  JOIN crm_data.pipeline AS p ON p.id = o.pipeline_id WHERE p.code = 'imp' ORDER BY o.name, h.entered_at;
SELECT o.name, pr.name AS product, l.amount FROM crm_data.line_item AS l JOIN crm_data.opportunity AS o ON o.id = l.opportunity_id JOIN crm_data.product AS pr ON pr.id = l.product_id WHERE pr.line = 'IMP' ORDER BY 1;

-- a later file moves a deal on: the history gets its entry, on the day of the file
SELECT crm.import_begin('opportunity', 'import test', '{"defaults": {"currency": "USD"}}', '{"pipeline": "imp"}') AS b5 \gset
SELECT crm.import_load(:b5, E'opportunity_id,sales_agent,product,account,deal_stage,engage_date,close_date,close_value\nO3,Imp Agent Two,IMP Basic,Imp New,Won,11/25/2016,4/20/2017,90');
SELECT item, row_count FROM crm.import_validate(:b5);
SELECT changes - 'stage_id' AS changes FROM crm.import_report(:b5, '{update}');
CALL crm.import_apply(:b5);
SELECT o.outcome, o.amount, o.closed_at, o.stage_moves FROM crm_data.opportunity AS o WHERE o.name LIKE 'Imp New%O3';
SELECT f.code AS from_stage, s.code AS to_stage, h.entered_at, h.left_at FROM crm_data.stage_history AS h JOIN crm_data.opportunity AS o ON o.id = h.opportunity_id JOIN crm_data.stage AS s ON s.id = h.to_stage_id
  LEFT JOIN crm_data.stage AS f ON f.id = h.from_stage_id WHERE o.name LIKE 'Imp New%O3' ORDER BY h.entered_at;
CALL crm.import_undo(:b5);
SELECT o.outcome, o.amount FROM crm_data.opportunity AS o WHERE o.name LIKE 'Imp New%O3';

-- a file that does not look like the customers that are there must be confirmed
SELECT crm.import_begin('account', 'import test 3', '{"columns": {"id": "external_id", "name": "name", "grade": "grade"}}') AS b5 \gset
SELECT crm.import_load(:b5, 'id,name,grade' || E'\n' || string_agg(format('%s,Shift %s,%s', i, i, 1 + i % 3), E'\n' ORDER BY i)) FROM generate_series(1, 300) AS i;
SELECT item, row_count FROM crm.import_validate(:b5);
CALL crm.import_apply(:b5);
SELECT crm.import_begin('account', 'import test 3', '{"columns": {"id": "external_id", "name": "name", "grade": "grade"}}') AS b6 \gset
SELECT crm.import_load(:b6, 'id,name,grade' || E'\n' || string_agg(format('%s,Shift %s,%s', i, i, 3), E'\n' ORDER BY i)) FROM generate_series(1, 100) AS i;
SELECT item, row_count FROM crm.import_validate(:b6);
CALL crm.import_apply(:b6);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.import_confirm(:b6, ' ');
SELECT crm.import_confirm(:b6, 'all were graded anew');
CALL crm.import_apply(:b6);
SELECT grade, count(*) FROM crm_data.account WHERE name LIKE 'Shift %' GROUP BY 1 ORDER BY 1;

-- undo: a changed record gets its old value, an edited one is kept
UPDATE crm_data.account SET website = 'edited.example' WHERE name = 'Shift 7';
CALL crm.import_undo(:b6, 60);
SELECT grade, count(*) FROM crm_data.account WHERE name LIKE 'Shift %' GROUP BY 1 ORDER BY 1;
UPDATE crm_data.account SET grade = 0 WHERE name = 'Shift 8';
CALL crm.import_undo(:b5);
SELECT name, website FROM crm_data.account WHERE name LIKE 'Shift %' AND deleted_at IS NULL ORDER BY 1;
SELECT line_no, verdict, reason FROM crm.import_report(:b5, '{insert}') WHERE reason <> '';
CALL crm.import_undo(:b4);
SELECT count(*) AS deals_left FROM crm_data.opportunity AS o JOIN crm_data.pipeline AS p ON p.id = o.pipeline_id WHERE p.code = 'imp' AND o.deleted_at IS NULL;
-- and in again
SELECT crm.import_begin('opportunity', 'import test', NULL, '{"pipeline": "imp"}') AS b7 \gset
SELECT crm.import_load(:b7, E'opportunity_id,sales_agent,product,account,deal_stage,close_date,close_value\nO1,Imp Agent One,IMPPro,Imp New,Won,2017-03-01,1054');
SELECT item, row_count FROM crm.import_validate(:b7);
BEGIN;      -- inside a transaction block all is that transaction
CALL crm.import_apply(:b7);
ROLLBACK;
SELECT state, rows_applied FROM crm_data.import_batch WHERE id = :b7;

-- the matcher looks over new rows before they are in: certain ones are merged, by which rule and how surely, possible ones are noted; rows of the file that are one become one
INSERT INTO crm_data.account (code, name, phone, legal_id4, uscc, address) VALUES ('IMPM-1', '枣庄绿墨精密机械有限公司', '0632-76580783', '3005', NULL, NULL), ('IMPM-2', '星健兰庭（枣庄）软件股份有限公司', '13812345679', '5489', '91350100M000100Y43', '迎宾路63号');
CREATE FUNCTION pg_temp.impm() RETURNS TABLE (tab text, digest text) LANGUAGE sql AS $$
    SELECT 'account', md5(string_agg((to_jsonb(t) - '{row_version,field_version,last_hash,last_at,updated_at,updated_by}'::text[])::text, ',' ORDER BY t.id)) FROM crm_data.account AS t WHERE t.deleted_at IS NULL
    UNION ALL SELECT 'external_ref', md5(string_agg(to_jsonb(t)::text, ',' ORDER BY t.id)) FROM crm_data.external_ref AS t $$;
CREATE TEMP TABLE impm_before AS SELECT * FROM pg_temp.impm();
SELECT crm.import_begin('account', 'import match', '{"columns": {"no": "external_id", "customer": "name", "tel": "phone", "id4": "legal_id4", "uscc": "uscc", "mail": "email", "value": "annual_revenue"}}') AS m1 \gset
SELECT crm.import_load(:m1, E'no,customer,tel,id4,uscc,mail,value\nA,绿墨精密机械（枣庄）有限公司,(0632)76580783,3005,,info@lm.example,10\nB,星健兰庭软件,,,91350100m000100y43,,20\nC,枣庄市绿墨精密機械有限公司,０６３２７６５８０７８３,,,,30\nD,Quarz Optik Jena GmbH,0755-81234567,7788,,,40\nE,"Quarz Optik, Jena",(0755) 8123 4567,7788,,jena@quarz.example,90\nF,Quarz Optik GmbH,0755-81234567,,,,50\nG,Nordwind Logistik AG,0755-89999999,1122,,,60\n');
SELECT item, row_count FROM crm.import_validate(:m1);
SELECT r.line_no, r.verdict, regexp_replace(r.reason, 'account [0-9]+: (rule \w+).*', 'an account: \1') AS reason, a.code, r.changes FROM crm.import_report(:m1, '{insert,merge,duplicate,bad}') AS r LEFT JOIN crm_data.account AS a ON a.id = r.record_id ORDER BY 1;
SELECT tab AS changed_by_the_rehearsal FROM (SELECT * FROM pg_temp.impm() EXCEPT SELECT * FROM impm_before) AS x;
CALL crm.import_apply(:m1, 1);      -- a row a transaction: the highest value first
SELECT a.code, a.name, a.phone, a.legal_id4, a.email, a.annual_revenue, count(e.id) AS refs FROM crm_data.account AS a JOIN crm_data.external_ref AS e ON e.object = 'account' AND e.record_id = a.id JOIN crm_data.source_system AS s ON s.id = e.source_id AND s.name = 'import match' GROUP BY a.id ORDER BY a.id;
SELECT count(*) AS suggested FROM crm_data.duplicate_pair AS d JOIN crm_data.import_row AS r ON r.record_id = d.b_id AND r.batch_id = :m1 AND r.action = 'insert' WHERE d.object_b = 'account' AND d.state = 'open';
-- the same file again brings nothing, under the number that each row has in its source
SELECT crm.import_begin('account', 'import match', '{"columns": {"no": "external_id", "customer": "name", "tel": "phone", "id4": "legal_id4", "uscc": "uscc", "mail": "email"}}') AS m2 \gset
SELECT crm.import_load(:m2, E'no,customer,tel,id4,uscc,mail\nD,Quarz Optik Jena GmbH,0755-81234567,7788,,\nE,"Quarz Optik, Jena",(0755) 8123 4567,7788,,jena@quarz.example\nF,Quarz Optik GmbH,0755-81234567,,,\n');
SELECT item, row_count FROM crm.import_validate(:m2);
SELECT line_no, verdict, reason FROM crm.import_report(:m2, '{insert,update,merge,duplicate,bad}');
-- skipped or entered all the same, when the import says so; conflicts by the survivorship of the configuration
SELECT crm.import_begin('account', 'import match 2', '{"columns": {"no": "external_id", "customer": "name", "tel": "phone", "id4": "legal_id4"}}', '{"on_duplicate": "skip"}') AS m3 \gset
SELECT crm.import_load(:m3, E'no,customer,tel,id4\nA,绿墨精密机械（枣庄）有限公司,(0632)76580783,3005\nD,Quarz Optik Jena AG,0755-81234567,7788\n');
SELECT item, row_count FROM crm.import_validate(:m3);
SELECT crm.import_begin('account', 'import match 3', '{"columns": {"no": "external_id", "customer": "name", "tel": "phone", "id4": "legal_id4"}}', '{"on_duplicate": "insert"}') AS m4 \gset
SELECT crm.import_load(:m4, E'no,customer,tel,id4\nA,绿墨精密机械（枣庄）有限公司,(0632)76580783,3005\n');
SELECT item, row_count FROM crm.import_validate(:m4);
SELECT crm.import_begin('account', 'import match 4', '{"columns": {"no": "external_id", "customer": "name", "uscc": "uscc", "where": "address", "tel": "phone"}}', '{"as_of": "2999-01-01"}') AS m5 \gset
SELECT crm.import_load(:m5, E'no,customer,uscc,where,tel\nB,星健兰庭软件,91350100m000100y43,人民路1号,021-62345678\n');
SELECT item, row_count FROM crm.import_validate(:m5);
SELECT verdict, changes FROM crm.import_report(:m5, '{merge}');
-- where a customer is, out of its address
SELECT crm.import_begin('account', 'import match 5', '{"columns": {"customer": "name", "where": "address"}}') AS m6 \gset
SELECT crm.import_load(:m6, E'customer,where\nImp Ort,湖北省武汉市武昌区中山北路一百二十七号11号楼3单元1548室\nImp Place,"12 N. Kedzie Ave., Ste 400"\n');
SELECT item, row_count FROM crm.import_validate(:m6);
CALL crm.import_apply(:m6);
SELECT name, province, city, district FROM crm_data.account WHERE name IN ('Imp Ort', 'Imp Place') ORDER BY name;
CALL crm.import_undo(:m6);
-- taken back, nothing of it is left
CALL crm.import_undo(:m1);
SELECT tab AS left_by_the_import FROM (SELECT * FROM pg_temp.impm() EXCEPT SELECT * FROM impm_before) AS x;
UPDATE crm_data.account SET deleted_at = now(), name = 'gone ' || id, phone = NULL, uscc = NULL, legal_id4 = NULL WHERE code LIKE 'IMPM-%';

-- bad input: one clear error, nothing half-done
SELECT crm.import_begin('planet', 'x');
SELECT crm.import_begin('account', NULL);
SELECT crm.import_begin('account', 'import test', '[]');
SELECT crm.import_begin('account', 'import test', '{"fields": {}}');
SELECT crm.import_begin('account', 'import test', NULL, '{"colour": 1}');
SELECT crm.import_begin('account', 'import test', NULL, '{"date_order": "YMD"}');
SELECT crm.import_begin('account', 'import test') AS b8 \gset
SELECT crm.import_validate(:b8);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.import_load(:b8, E'foo,bar\n1,2');
SELECT crm.import_validate(:b8);
SELECT crm.import_begin('account', 'import test') AS b9 \gset
SELECT crm.import_load(:b9, E'name,Name\n1,2');
SELECT crm.import_validate(:b9);
SELECT crm.import_begin('account', 'import test', '{"columns": {"firm": "name"}}') AS b9 \gset
SELECT crm.import_load(:b9, E'name,phone\n1,2');
SELECT crm.import_validate(:b9);
SELECT crm.import_begin('account', 'import test', '{"columns": {"name": "title"}}') AS b9 \gset
SELECT crm.import_load(:b9, E'name,phone\n1,2');
SELECT crm.import_validate(:b9);
SELECT crm.import_begin('account', 'import test', NULL, '{"unknown": "refuse"}') AS b9 \gset
SELECT crm.import_load(:b9, E'name,foo\n1,2');
SELECT crm.import_validate(:b9);
SELECT crm.import_begin('opportunity', 'import test') AS b9 \gset
SELECT crm.import_load(:b9, E'id,amount\n1,2');
SELECT crm.import_validate(:b9);
SELECT crm.import_begin('opportunity', 'import test', NULL, '{"pipeline": "none"}') AS b9 \gset
SELECT crm.import_load(:b9, E'account,stage\n1,2');
SELECT crm.import_validate(:b9);
SELECT crm.import_begin('account', 'import test') AS b9 \gset
SELECT crm.import_load(:b9, E'"name,phone\n1,2');
SELECT crm.import_validate(:b9);
CALL crm.import_apply(:b9);
\echo :LAST_ERROR_SQLSTATE
CALL crm.import_apply(0);
CALL crm.import_apply(NULL);
CALL crm.import_undo(:b9);
CALL crm.import_apply(:b7, 0);
SELECT crm.import_report(0);
SELECT crm.import_confirm(:b9, 'why');
SELECT crm.pipeline_put('bad', 'Bad', '[{"code": "x", "probability": 7}]');
SELECT count(*) FROM crm_data.account WHERE name IN ('1', '2');
UPDATE crm_data.import_batch SET loader_pid = NULL;
COPY crm.import_line (line) FROM STDIN WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02');
name
\.
-- people without the right
SET ROLE crm_sales;
SELECT crm.import_begin('account', 'x');
INSERT INTO crm.import_line VALUES ('x');
RESET ROLE;
-- nobody imports what he could not write row by row: objects, fields, missing references; nor reads and applies what others import
SELECT crm.import_begin('opportunity', 'others') AS theirs \gset
SET ROLE crm_steward;
SELECT crm.import_begin('member', 'x');
SELECT count(*) FROM crm.import_list() WHERE id = :theirs;
\set VERBOSITY sqlstate
SELECT crm.import_load(:theirs, 'name');
SELECT * FROM crm.import_report(:theirs);
CALL crm.import_apply(:theirs);
\set VERBOSITY terse
SELECT crm.import_begin('account', 'steward', NULL, '{"create_missing": ["owner"]}') AS batch \gset
SELECT crm.import_load(:batch, E'name,annual revenue,owner\nImp Steward,5,Nobody Yet') AS lines;
\set VERBOSITY sqlstate
SELECT crm.import_validate(:batch);
\set VERBOSITY terse
RESET ROLE;
-- a backlog of leads: with its own times, given to somebody as it comes in, its clocks from now; what is a year old is history, and an option leaves all alone
INSERT INTO crm_data.member (full_name, capacity) VALUES ('Import Seller', 10);
SELECT crm.import_begin('lead', 'file') AS leads \gset
SELECT crm.import_load(:leads, E'公司,联系人,手机,来源,提交时间\n' || string_agg(format('线索公司%s,张%s,1391234%s,tradeshow,%s', n, n, lpad(n::text, 4, '0'), to_char(now() - CASE n WHEN 3 THEN interval '1 year' ELSE interval '3 hours' END, 'YYYY-MM-DD HH24:MI')), E'\n' ORDER BY n)) > 0 AS loaded FROM generate_series(1, 3) AS n;
SELECT item, row_count FROM crm.import_validate(:leads) WHERE item LIKE 'unknown%' OR item = 'insert';
CALL crm.import_apply(:leads);
SELECT l.name, l.source, l.state, l.owner_id IS NOT NULL AS owned, l.occurred_at < now() - interval '2 hours' AS its_time, NOT l.ts_assumed AS told, l.first_touch_due_at > now() AS clock_starts_now, t.state AS task
  FROM crm_data.lead AS l LEFT JOIN crm_data.task AS t ON t.object = 'lead' AND t.record_id = l.id AND t.kind = 'first_touch' WHERE l.company LIKE '线索公司%' ORDER BY l.company;
CALL crm.import_undo(:leads);
SELECT count(*) AS gone FROM crm_data.lead WHERE company LIKE '线索公司%' AND deleted_at IS NOT NULL;
-- the clock of a lead that is gone troubles nobody, nor does it stop the others'
UPDATE crm_data.task SET escalate_at = now() - interval '1 minute' WHERE object = 'lead' AND kind = 'first_touch' AND state = 'open' AND record_id IN (SELECT id FROM crm_data.lead WHERE company LIKE '线索公司%');
CALL crm.tick();
SELECT t.state, t.escalations, count(*) FROM crm_data.task AS t JOIN crm_data.lead AS l ON l.id = t.record_id AND t.object = 'lead' WHERE l.company LIKE '线索公司%' GROUP BY 1, 2;
SELECT crm.import_begin('lead', 'file', NULL, '{"assign": false}') AS leads \gset
SELECT crm.import_load(:leads, E'company,phone\n线索公司9,13912349999\n') > 0 AS loaded;
SELECT count(*) > 0 AS validated FROM crm.import_validate(:leads);
CALL crm.import_apply(:leads);
SELECT state, owner_id IS NULL AS left_alone FROM crm_data.lead WHERE company = '线索公司9';
CALL crm.import_undo(:leads);
SELECT crm.import_begin('lead', 'file', NULL, '{"assign": "yes"}');
UPDATE crm_data.member SET left_at = current_date, capacity = 0 WHERE full_name = 'Import Seller';
-- leave as found
UPDATE crm_data.account SET deleted_at = now() WHERE (name LIKE 'Imp %' OR name LIKE 'Shift %') AND deleted_at IS NULL;

-- a code tells who is who: one name and two codes are two, one code is one whatever the name; a name alone still finds who has no code
SELECT crm.import_begin('account', 'import test') AS b \gset
SELECT crm.import_load(:b, E'name,city\nImp Twin,Suzhou\nImp Lone,Suzhou\n');
SELECT count(*) AS items FROM crm.import_validate(:b);
CALL crm.import_apply(:b);
SELECT crm.import_begin('account', 'import codes') AS b2 \gset
SELECT crm.import_load(:b2, E'code,name,city\nIMP-1,Imp Twin,Wuxi\nIMP-2,Imp Twin,Ningbo\nIMP-1,Imp Twin,Hefei\n,Imp Lone,Suzhou\nIMP-3,Imp Coded,Wuxi\n');
SELECT item, row_count FROM crm.import_validate(:b2);
SELECT line_no, verdict, reason FROM crm.import_report(:b2) WHERE reason IS NOT NULL ORDER BY line_no;
CALL crm.import_apply(:b2);
SELECT crm.import_begin('account', 'import codes again') AS b3 \gset
SELECT crm.import_load(:b3, E'code,name,city\nIMP-3,Imp Coded Holding,Wuxi\nIMP-4,Imp Coded,Jinan\n');
SELECT item, row_count FROM crm.import_validate(:b3);
CALL crm.import_apply(:b3);
SELECT name, code, city FROM crm_data.account WHERE name LIKE 'Imp Twin%' OR name LIKE 'Imp Lone%' OR name LIKE 'Imp Coded%' ORDER BY name, code NULLS FIRST;
CALL crm.import_undo(:b3);
CALL crm.import_undo(:b2);
CALL crm.import_undo(:b);
