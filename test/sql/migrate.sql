-- The engine is installed and its schema made; the tests that follow share both.
SET client_min_messages = warning;
CREATE EXTENSION crm;
CALL crm.migrate();
-- idempotent
CALL crm.migrate();
SELECT crm.version() = extversion AS library_is_extension FROM pg_extension WHERE extname = 'crm';
SELECT count(*) FILTER (WHERE s.version IS NULL) AS not_applied FROM crm.migration AS m LEFT JOIN crm_data.schema_version AS s USING (version) WHERE m.version IS NOT NULL;
-- inside a transaction block all steps are that transaction, and role and search_path are as before
BEGIN;
CALL crm.migrate();
SELECT current_user = session_user AS same_user;
ROLLBACK;
-- bad input
\set VERBOSITY terse
CALL crm.migrate(0);
\echo :LAST_ERROR_SQLSTATE
CALL crm.migrate(100000);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
UPDATE crm_data.schema_version SET checksum = 'edited' WHERE version = 1;
CALL crm.migrate();
ROLLBACK;
BEGIN;
INSERT INTO crm_data.schema_version (version, name, checksum) VALUES (9999, 'of a later release', '');
CALL crm.migrate();
ROLLBACK;
SET ROLE crm_admin;
CALL crm.migrate();
RESET ROLE;
