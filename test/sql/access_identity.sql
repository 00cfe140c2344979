-- Who somebody is: tokens for a pool, roles for everybody else, and no way to forge either.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE ROLE access_pool LOGIN IN ROLE crm_pool;
CREATE ROLE access_rep NOLOGIN IN ROLE crm_sales;
CREATE ROLE access_agent NOLOGIN IN ROLE crm_service;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('access_rep', 'access_rep'), ('access_agent', 'access_agent');
INSERT INTO crm_data.account (code, name, phone, legal_id4, owner_id)
SELECT 'ACCESS-' || n, 'Access ' || n, '1380013800' || n, '1234', m.id FROM generate_series(1, 2) AS n JOIN crm_data.member AS m ON m.role_name = 'access_rep' AND n = 1 OR m.role_name = 'access_agent' AND n = 2;
SELECT crm.mint_token(id) AS rep FROM crm_data.member WHERE role_name = 'access_rep' \gset
SELECT crm.mint_token(id, '1 hour') AS agent, id AS agent_id FROM crm_data.member WHERE role_name = 'access_agent' \gset
SELECT crm.mint_token(999999999);
-- somebody who is not there any more
INSERT INTO crm_data.member (full_name) VALUES ('access gone') RETURNING id AS gone \gset
SELECT crm.mint_token(:gone) AS nobody \gset
SELECT crm._engine_write('erase');
DELETE FROM crm_data.member WHERE id = :gone;
SELECT crm._engine_write('none');

SET ROLE access_pool;
PREPARE mine AS SELECT code, phone, legal_id4 FROM crm.account WHERE code LIKE 'ACCESS-%' ORDER BY code;
-- no identity, no rights
EXECUTE mine;
SELECT crm.me(), crm.my_teams(), crm.has_role('crm_sales');
SAVEPOINT one;
SELECT crm.login(:'rep') = crm.me() AS me;
EXECUTE mine;
SELECT crm.has_role('crm_sales'), crm.may('reveal'), crm.may('configure');
-- the identity ends with the (sub)transaction, plans follow at the latest with the second try
ROLLBACK TO one;
SELECT crm.me();
EXECUTE mine;
SELECT crm.login(:'agent') = :agent_id AS me;
EXECUTE mine;
EXECUTE mine;
-- what would outlive the transaction is not allowed
DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM crm.account;
\echo :LAST_ERROR_SQLSTATE
-- inside a function of somebody else the person stays
RESET ROLE;
CREATE FUNCTION pg_temp.definer() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT string_agg(code || coalesce(legal_id4, '' -''), '','' ORDER BY code) FROM crm.account WHERE code LIKE ''ACCESS-%''';
SELECT pg_temp.definer();
SELECT crm._as('') <> '' AS had_identity;
SELECT pg_temp.definer();

-- bad tokens
SET ROLE access_pool;
SELECT crm.login('nonsense');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.login(overlay(:'rep' placing '9' from 4 for 1));
\echo :LAST_ERROR_SQLSTATE
SELECT crm.login(:'rep' || '0');
SELECT crm.login(left(:'rep', -64) || repeat('0', 64));
SELECT crm.login(:'nobody');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
CREATE FUNCTION pg_temp.signed(payload text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    key bytea := (SELECT value FROM crm_data.secret WHERE name = 'token');
    pad bytea := decode(repeat('00', 64), 'hex');
    inner_pad bytea;
    outer_pad bytea;
BEGIN
    -- HMAC-SHA256, RFC 2104: an application that holds the key signs like this
    pad := overlay(pad placing key from 1 for length(key));
    SELECT string_agg(set_byte('\x00', 0, get_byte(pad, i) # 54), '' ORDER BY i), string_agg(set_byte('\x00', 0, get_byte(pad, i) # 92), '' ORDER BY i)
      INTO inner_pad, outer_pad FROM generate_series(0, 63) AS i;
    RETURN payload || '.' || encode(sha256(outer_pad || sha256(inner_pad || convert_to(payload, 'UTF8'))), 'hex');
END $$;
SELECT pg_temp.signed(format('v1.%s.%s.%s', :agent_id, extract(epoch FROM now())::bigint + 60, d.oid)) AS good,
       pg_temp.signed(format('v1.%s.%s.%s', :agent_id, extract(epoch FROM now())::bigint - 1, d.oid)) AS expired,
       pg_temp.signed(format('v1.%s.%s.%s', :agent_id, extract(epoch FROM now())::bigint + 60, 1)) AS elsewhere
  FROM pg_database AS d WHERE d.datname = current_database() \gset
SET ROLE access_pool;
SELECT crm.login(:'good') = :agent_id AS own_signature;
SELECT crm.login(:'expired');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.login(:'elsewhere');
\echo :LAST_ERROR_SQLSTATE
-- forged: the setting, and what only the engine and administrators may do
SET crm.identity = 'member 1';
SELECT set_config('crm.identity', 'member 1', true);
ALTER ROLE access_pool SET crm.identity = 'member 1';
CREATE FUNCTION pg_temp.forge() RETURNS int LANGUAGE sql SET crm.identity = 'member 1' AS 'SELECT 1';
SELECT crm._as('member 1');
SELECT crm.mint_token(1);
SET crm.nonsense = 1;
RESET ROLE;
SELECT crm._as('everybody');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.mint_token(1, '2 days');
SELECT crm.mint_token(1, '-1 second');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- a person stays himself in whatever role of his he takes: he is no second person, and has neither shed his first days nor his other roles
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE ROLE access_new LOGIN IN ROLE crm_admin, crm_director;
INSERT INTO crm_data.member (role_name, full_name, hired_at) VALUES ('access_new', 'access_new', current_date - 1);
INSERT INTO crm_data.account (code, name, annual_revenue) VALUES ('ACCESS-1', 'Access', 7777);
SET SESSION AUTHORIZATION access_new;
SELECT crm.request_approval('export', 'account', '{}', 'for myself') AS request \gset
SET ROLE crm_admin;
SELECT m.full_name, crm.has_role('crm_director') AS director FROM crm.member AS m WHERE m.id = crm.me();
SELECT annual_revenue FROM crm.account WHERE code = 'ACCESS-1';
SELECT crm.decide(:request, true);
\echo :LAST_ERROR_SQLSTATE
-- the role of a person is that person, as for a pool
RESET SESSION AUTHORIZATION;
CREATE ROLE access_bob NOLOGIN IN ROLE crm_sales;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('access_bob', 'access_bob');
GRANT access_bob TO access_new;
SET SESSION AUTHORIZATION access_new;
SET ROLE access_bob;
SELECT m.full_name FROM crm.member AS m WHERE m.id = crm.me();
SELECT count(*) FROM crm.account WHERE code = 'ACCESS-1';
RESET SESSION AUTHORIZATION;
-- what a person's table runs when a superuser, or autovacuum, maintains it sees nothing
CREATE SCHEMA access_own AUTHORIZATION access_bob;
SET ROLE access_bob;
CREATE FUNCTION access_own.look(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE WARNING '%: member %, accounts %, may configure %', current_user, crm.me(), (SELECT count(*) FROM crm.account WHERE code = 'ACCESS-1'), crm.may('configure');
    RETURN $1;
END $$;
CREATE TABLE access_own.bait (n int);
CREATE INDEX bait_look ON access_own.bait (access_own.look(n));
SET LOCAL client_min_messages = error;
INSERT INTO access_own.bait VALUES (1);
RESET ROLE;
SET LOCAL client_min_messages = warning;
SELECT crm.me() IS NULL AS nobody, crm.may('configure') AS superuser;
DISCARD PLANS;
ANALYZE access_own.bait;
REINDEX TABLE access_own.bait;
SELECT crm.me() IS NULL AS nobody, crm.may('configure') AS superuser;
ROLLBACK;

-- what a grant alone would guard asks whether the role counts, too: for a leaver, and over too many steps, it does not
BEGIN;
CREATE ROLE access_r1 NOLOGIN IN ROLE crm_admin, crm_sync;
CREATE ROLE access_r2 NOLOGIN IN ROLE access_r1;
CREATE ROLE access_deep NOLOGIN IN ROLE access_r2;
CREATE ROLE access_left NOLOGIN IN ROLE crm_admin, crm_sync;
INSERT INTO crm_data.member (role_name, full_name, hired_at, left_at) VALUES ('access_left', 'access_left', current_date - 100, current_date - 1);
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
CREATE TEMP TABLE guarded (n int, statement text);
INSERT INTO guarded VALUES (1, 'SELECT crm.mint_token(1)'), (2, 'SELECT crm.outbox_claim(''x'')'), (3, 'SELECT crm.outbox_ack(''{1}'', ''x'')'), (4, 'SELECT crm.outbox_fail(1, ''x'', ''x'')'),
    (5, 'SELECT crm.ingest(''web'', ''x'', ''form'', ''{}'')'), (6, 'SELECT crm.stage_external(''erp'', ''x'', ''{}'')'), (7, 'SELECT crm.process_inbox()'), (8, 'SELECT crm.retry_inbox(''web'')'), (9, 'SELECT crm.reprocess(''web'', now())'),
    (10, 'SELECT crm.config_export()'), (11, 'SELECT crm.job_put(''x'', ''day'', ''0'')'), (12, 'SELECT crm.odds_override(''{}'', 0.5)'), (13, 'SELECT crm.odds_override_revoke(1)'), (14, 'SELECT crm.model_rollback()'),
    (15, 'SELECT crm.scan_duplicates(''lead'')'), (16, 'SELECT crm.retry_failed()');
GRANT SELECT ON guarded TO PUBLIC;
SET LOCAL ROLE access_deep;
SELECT string_agg(pg_temp.refused(g.statement), ' ' ORDER BY g.n) AS deep FROM guarded AS g;
SET LOCAL ROLE access_left;
SELECT string_agg(pg_temp.refused(g.statement), ' ' ORDER BY g.n) AS left_yesterday FROM guarded AS g;
ROLLBACK;
