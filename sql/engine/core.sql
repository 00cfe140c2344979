SET LOCAL search_path TO pg_catalog, pg_temp;

-- A server in another encoding cannot hold the names of half our customers.
DO $do$
BEGIN
    IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'feature_not_supported',
            MESSAGE = pg_catalog.format('crm needs a database in encoding UTF8, this one is in %s', pg_catalog.current_setting('server_encoding')),
            HINT = 'Create the database with: CREATE DATABASE name ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
    IF pg_catalog.current_setting('server_version_num')::int < 150000 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'feature_not_supported',
            MESSAGE = pg_catalog.format('crm needs PostgreSQL 15 or newer, this server is %s', pg_catalog.current_setting('server_version')),
            HINT = 'Install crm on PostgreSQL 15, 17 or 18.';
    END IF;
END
$do$;

-- Roles belong to the cluster, so they are made when missing and never dropped: a dump then restores on a server
-- that has never seen crm.  The roles that own things must not be anybody's: nobody logs in as them or is a member.
DO $do$
DECLARE
    r text;
    existing record;
BEGIN
    FOREACH r IN ARRAY ARRAY['crm_owner', 'crm_gate'] LOOP
        SELECT a.* INTO existing FROM pg_catalog.pg_roles AS a WHERE a.rolname OPERATOR(pg_catalog.=) r;
        IF NOT FOUND THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOREPLICATION NOCREATEROLE NOCREATEDB', r);
        ELSIF existing.rolcanlogin OR existing.rolsuper OR existing.rolbypassrls OR existing.rolreplication OR existing.rolcreaterole
              OR EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m WHERE m.roleid OPERATOR(pg_catalog.=) existing.oid)
        THEN
            RAISE EXCEPTION USING
                ERRCODE = 'invalid_role_specification',
                MESSAGE = pg_catalog.format('role "%s" exists and cannot be trusted to own the CRM', r),
                DETAIL = 'It can log in, is privileged or has members, so somebody could act as the owner of all data.',
                HINT = pg_catalog.format('Make it NOLOGIN NOSUPERUSER NOBYPASSRLS NOREPLICATION NOCREATEROLE, revoke it from its members, or rename it, then run CREATE EXTENSION again. Now: ALTER ROLE %I NOLOGIN ...', r);
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS a WHERE a.rolname OPERATOR(pg_catalog.=) 'crm_backup') THEN
        CREATE ROLE crm_backup NOLOGIN BYPASSRLS;
    END IF;
    FOREACH r IN ARRAY ARRAY['crm_admin', 'crm_steward', 'crm_sales', 'crm_manager', 'crm_director', 'crm_service',
                             'crm_finance', 'crm_legal', 'crm_marketing', 'crm_risk', 'crm_sync', 'crm_bi', 'crm_pool'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS a WHERE a.rolname OPERATOR(pg_catalog.=) r) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', r);
        END IF;
    END LOOP;
END
$do$;

CREATE SCHEMA crm;
COMMENT ON SCHEMA crm IS 'CRM engine: the functions, and the views through which people read and write';
GRANT USAGE, CREATE ON SCHEMA crm TO crm_owner, crm_gate;

CREATE TABLE crm.migration (
    seq int PRIMARY KEY,
    version int UNIQUE,
    name text NOT NULL UNIQUE,
    runs_as text NOT NULL CHECK (runs_as IN ('crm_owner', 'crm_gate', 'caller')),
    body text NOT NULL,
    checksum text NOT NULL
);
COMMENT ON TABLE crm.migration IS 'The steps that crm.migrate applies, as the library was built with them';
COMMENT ON COLUMN crm.migration.seq IS 'Order of application';
COMMENT ON COLUMN crm.migration.version IS 'Number of a forward-only migration, applied once; NULL for a file that is applied on every migrate';
COMMENT ON COLUMN crm.migration.name IS 'Name of the file in the source';
COMMENT ON COLUMN crm.migration.runs_as IS 'Role that the step runs as: crm_owner, crm_gate, or caller (the superuser who migrates)';
COMMENT ON COLUMN crm.migration.body IS 'SQL of the step';
COMMENT ON COLUMN crm.migration.checksum IS 'SHA-256 of the body, hexadecimal';
REVOKE ALL ON crm.migration FROM PUBLIC;
GRANT SELECT ON crm.migration TO crm_owner;

CREATE FUNCTION crm.version() RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_version';
COMMENT ON FUNCTION crm.version() IS
'Version of the loaded library, for example 1.0. After a package upgrade it may be newer than the extension (pg_extension.extversion): then run ALTER EXTENSION crm UPDATE and CALL crm.migrate().';

CREATE PROCEDURE crm.migrate(target int DEFAULT NULL)
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_migrate';
COMMENT ON PROCEDURE crm.migrate(int) IS
'Brings the schema to the library''s version: applies the numbered migrations that crm_data.schema_version lacks, then all re-runnable files (views, functions, triggers, policies, grants).
target: last migration to apply, 1 and up; NULL: all. With a target below the newest, the re-runnable files are left as they are.
Outside a transaction block each step is a transaction of its own, so an interrupted run resumes where it stopped; inside one, all steps are that transaction. Reports each step as a NOTICE. Idempotent.
Errors: 42501 not a superuser; 55P03 another migration runs; RM001 an applied migration''s text has changed; RM002 the schema is newer than the library; 22023 no such target.';
