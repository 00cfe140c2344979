-- Sync: what came from a system is not sent back to it, others are told; our own change coming back changes nothing and goes nowhere.
\set VERBOSITY terse
SET client_min_messages = warning;
INSERT INTO crm_data.account (code, name) VALUES ('SYNC-1', 'Sync Customer'), ('SYNC-2', 'Sync Quiet');
INSERT INTO crm_data.contract (account_id, code, state, amount) SELECT id, 'SYNC-C', 'review', 1000 FROM crm_data.account WHERE code = 'SYNC-1';
SELECT id AS con FROM crm_data.contract WHERE code = 'SYNC-C' \gset
SELECT id AS acc, row_version AS ver FROM crm_data.account WHERE code = 'SYNC-1' \gset
UPDATE crm_data.source_system SET enabled = true WHERE name = 'kingdee';
-- bad input
SELECT crm.sync_subscribe('nowhere', '{"contract": ["state"]}');
SELECT crm.sync_subscribe('erp', '{"contract": "state"}');
SELECT crm.sync_subscribe('erp', '{"contract": ["state", "moon", "receipt_state"], "planet": ["name"], "account": ["last_contact_at"]}');
SELECT crm.sync_subscribe('erp', '{"contract": ["state"]}', 'pigeon');
SET ROLE crm_sales;
\set VERBOSITY sqlstate
SELECT crm.sync_subscribe('erp', '{"contract": ["state"]}');
\set VERBOSITY terse
RESET ROLE;
-- three systems listen
SELECT crm.sync_subscribe(s, '{"contract": ["state", "amount", "final_url"], "account": ["name", "phone"]}') FROM unnest(ARRAY['erp', 'kingdee', 'esign']) AS s;
CREATE FUNCTION pg_temp.told() RETURNS TABLE (system text, origin text, code text, fields jsonb) LANGUAGE sql AS $$
    WITH r AS (UPDATE crm_data.outbox AS o SET state = 'sent' WHERE o.topic LIKE 'sync.%' AND o.state = 'pending' RETURNING o.*)
    SELECT substr(r.topic, 6), regexp_replace(r.payload ->> 'origin', '\d+:', 'N:'), r.payload ->> 'code', r.payload -> 'fields' FROM r ORDER BY r.payload ->> 'origin', 1
$$;
-- what a running transaction has changed is told later: another one, of autovacuum too, is waited for
CREATE FUNCTION pg_temp.quiet() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 500 LOOP
        EXIT WHEN pg_snapshot_xmin(pg_current_snapshot()) = pg_snapshot_xmax(pg_current_snapshot());
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
-- nothing of what was before
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
-- the payment came from the ERP, the link from the seal: each is the other system's own word, and the history says whose; the seal's goes to the other two
SELECT crm.ingest('erp', 'sync pay 1', 'finance.payment', '{"contract_code": "SYNC-C", "amount": 400}') - 'inbox' - 'record' AS paid;
SELECT crm.ingest('esign', 'sync seal 1', 'legal.sealed', '{"contract_code": "SYNC-C", "url": "https://seal.example/sync"}', '2026-03-02') - 'inbox' - 'record' AS sealed;
SELECT state, receipt_state, final_url FROM crm_data.contract WHERE id = :con;
SELECT h.endpoint, h.fields::jsonb ? 'final_url' AS url FROM crm_data.change AS h WHERE h.object = 'contract' AND h.record_id = :con AND h.op = 'u' ORDER BY h.version;
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT count(*) AS once FROM pg_temp.told();
-- our own change: everybody
UPDATE crm_data.contract SET amount = 1200 WHERE id = :con;
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
-- and back from one of them, as it was sent and without the envelope: nothing happens and nobody is told
SELECT o.payload AS echo, o.payload ->> 'origin' AS origin FROM crm_data.outbox AS o WHERE o.topic = 'sync.kingdee' AND o.payload #>> '{fields,amount}' = '1200.00' \gset
SELECT crm.ingest('kingdee', 'sync echo 1', 'contract', :'echo'::jsonb) - 'inbox' - 'record' AS whole;
SELECT crm.ingest('kingdee', 'sync echo 2', 'contract', jsonb_build_object('origin', :'origin', 'amount', 1200.00)) - 'inbox' - 'record' AS bare;
SELECT external_id, state, origin IS NOT NULL AS marked FROM crm_data.inbox WHERE external_id LIKE 'sync echo%' ORDER BY id;
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT count(*) AS nobody FROM pg_temp.told();
-- with something new in it, from a system that was not told so, or under a mark that is not ours, it is news
SELECT crm.ingest('kingdee', 'sync news 1', 'finance.payment', jsonb_build_object('origin', :'origin', 'contract_code', 'SYNC-C', 'amount', 800)) ->> 'state' AS news;
SELECT crm.ingest('kingdee', 'sync news 2', 'finance.payment', '{"origin": "crm:contract:0:9", "contract_code": "SYNC-C", "amount": 1}') ->> 'state' AS unknown_mark;
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
-- the loop over crm.write: a name from the ERP goes to the others, they write it back, and there it ends
SELECT crm.write('account', :acc, gen_random_uuid(), 'sync.erp', :ver, '{"name": "Sync Customer Ltd"}') ->> 'state' AS written;
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
SELECT crm.write('account', :acc, gen_random_uuid(), 'sync.kingdee', NULL, '{"name": "Sync Customer Ltd"}') ->> 'state' AS written_back;
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT count(*) AS it_ends FROM pg_temp.told();
-- a customer who switched a system off is nothing that it hears of; fields nobody asked for neither
UPDATE crm_data.account SET sync_off = '{erp,kingdee}' WHERE id = :acc;
UPDATE crm_data.account SET phone = '13912340011', website = 'https://sync.example' WHERE id = :acc;
UPDATE crm_data.account SET website = 'https://www.sync.example' WHERE id = :acc;
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
-- a new record with its fields; a system that is switched off hears of it when it is back
UPDATE crm_data.source_system SET enabled = false WHERE name = 'kingdee';
SELECT crm.sync_subscribe('esign', '{}');
INSERT INTO crm_data.account (code, name) VALUES ('SYNC-3', 'Sync Third');
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
UPDATE crm_data.source_system SET enabled = true WHERE name = 'kingdee';
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT * FROM pg_temp.told();
-- what was told of a person is erased with him
SELECT crm.sync_subscribe('erp', '{"contact": ["name", "phone", "role_in_decision"]}');
INSERT INTO crm_data.contact (account_id, name, phone, role_in_decision) SELECT a.id, 'Sync Person', '13912340099', 'user' FROM crm_data.account AS a WHERE a.code = 'SYNC-3' RETURNING id AS person \gset
\o /dev/null
SELECT pg_temp.quiet();
\o
CALL crm.tick();
SELECT payload -> 'fields' AS told FROM crm_data.outbox WHERE topic = 'sync.erp' AND payload ->> 'object' = 'contact' AND payload ->> 'id' = :'person';
SELECT crm.forget(:person, 'he asked for it') - 'contact' AS forgotten;
SELECT payload -> 'fields' AS told FROM crm_data.outbox WHERE topic = 'sync.erp' AND payload ->> 'object' = 'contact' AND payload ->> 'id' = :'person';
-- leave as found
SELECT crm.sync_subscribe(s, NULL) FROM unnest(ARRAY['erp', 'kingdee', 'esign']) AS s;
UPDATE crm_data.source_system SET enabled = false WHERE name = 'kingdee';
UPDATE crm_data.contract SET deleted_at = now() WHERE id = :con;
UPDATE crm_data.account SET deleted_at = now() WHERE code LIKE 'SYNC-%';
-- the index by time, once it is summarized, takes many changes of one statement: what it keeps from one row to the next must last as long
SELECT count(brin_summarize_new_values(i.inhrelid)) > 0 AS summarized FROM pg_inherits AS i WHERE i.inhparent = 'crm_data.change_at_idx'::regclass;
INSERT INTO crm_data.account (code, name, tags) SELECT 'SYNC-M' || n, 'Sync ' || n, ARRAY['高意向'] FROM generate_series(1, 200) AS n;
SELECT count(*) AS changes FROM crm_data.change AS h JOIN crm_data.account AS a ON a.id = h.record_id WHERE h.object = 'account' AND a.code LIKE 'SYNC-M%';
UPDATE crm_data.account SET deleted_at = now() WHERE code LIKE 'SYNC-M%';
