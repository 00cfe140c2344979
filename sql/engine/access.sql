-- Access: what a person sees of fields and rows, and who the person is.

CREATE FUNCTION crm._guard_support(internal) RETURNS internal
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_guard_support';
COMMENT ON FUNCTION crm._guard_support(internal) IS 'Planner support of crm.guard: while planning, replaces it by the bare column or by NULL when the role sees all or nothing of the field. Internal.';

CREATE FUNCTION crm.guard(value anyelement, field int, owner bigint, team bigint) RETURNS anyelement
    LANGUAGE c STABLE LEAKPROOF PARALLEL SAFE COST 1 SUPPORT crm._guard_support
    AS 'MODULE_PATHNAME', 'crm_guard';
COMMENT ON FUNCTION crm.guard(anyelement, int, bigint, bigint) IS
'The value as the current person may see it: itself, a mask (138****1234), or NULL.
value: the column. field: its number in crm_data.field. owner, team: of the row, NULL when it has none.
Not STRICT: owner and team may be NULL. A field without a rule gives NULL. Raises nothing.';

CREATE FUNCTION crm._row_visible_support(internal) RETURNS internal
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_row_visible_support';
COMMENT ON FUNCTION crm._row_visible_support(internal) IS 'Planner support of crm.row_visible: while planning, replaces it by true, false or comparisons that indexes know. Internal.';

CREATE FUNCTION crm.row_visible(object text, verb text, owner bigint, team bigint, grade smallint) RETURNS boolean
    LANGUAGE c STABLE LEAKPROOF PARALLEL SAFE COST 1 SUPPORT crm._row_visible_support
    AS 'MODULE_PATHNAME', 'crm_row_visible';
COMMENT ON FUNCTION crm.row_visible(text, text, bigint, bigint, smallint) IS
'Whether the current person may do something with a row: the row policies of the tables call it.
object: name of the table. verb: read, create, update, delete or export; summary: count for a summary, which whoever reads the row may too; or look: read data that nobody owns, which whoever reads some of reads all of; both must be constants. owner, team, grade: of the row, NULL when it has none.
Not STRICT: a row may lack owner, team or grade; without a grade, bounds of grade do not apply. Raises nothing.';

CREATE FUNCTION crm.me() RETURNS bigint
    LANGUAGE c STABLE STRICT LEAKPROOF PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_me_sql';
COMMENT ON FUNCTION crm.me() IS 'Identifier of the member who is asking: the one crm.login() named for this transaction, else the member whose role SET ROLE took, else the one whose login role the session has: in a role that is nobody''s a person stays himself. NULL when there is none. The same inside SECURITY DEFINER functions; nobody in what a table runs (the functions of its indexes) while somebody else, or autovacuum, maintains it.';

-- Not LEAKPROOF: it tells an unknown scope, and could be asked of a row's column before it is known whether the row may be seen.
CREATE FUNCTION crm.my_teams(scope text DEFAULT 'subtree') RETURNS bigint[]
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_my_teams';
COMMENT ON FUNCTION crm.my_teams(text) IS
'Identifiers of the teams within a scope, ascending; empty for a person without a team.
scope: team (the person''s own), subtree (and those below it, the default) or region (all of the same region).
Errors: 22023 unknown scope.';

CREATE FUNCTION crm._is_me(owner bigint) RETURNS boolean
    LANGUAGE c STABLE STRICT LEAKPROOF PARALLEL SAFE COST 1
    AS 'MODULE_PATHNAME', 'crm_is_me';
COMMENT ON FUNCTION crm._is_me(bigint) IS 'What owner = crm.me() says, in one call: plans over the views have it where a scan asks it of every row. Internal.';

CREATE FUNCTION crm._in_my_teams(team bigint, scope int) RETURNS boolean
    LANGUAGE c STABLE LEAKPROOF PARALLEL SAFE COST 1
    AS 'MODULE_PATHNAME', 'crm_in_my_teams';
COMMENT ON FUNCTION crm._in_my_teams(bigint, int) IS
'What team = ANY (crm.my_teams(scope)) says, in one call: plans over the views have it where a scan asks it of every row. Internal.
team: identifier. scope: 0 nobody''s, 1 team, 2 subtree, 3 region.
NULL for another scope. Not STRICT: where there are no teams, the answer is false for a row without one, too. Raises nothing.';

CREATE FUNCTION crm.has_role(role text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_has_role';
COMMENT ON FUNCTION crm.has_role(text) IS
'Whether a role counts for the person who is asking: inherited over no more steps than the setting role.max_inherit_depth says (2); deeper ones are inert. True for superusers.
role: name of a role, for example crm_sales; false for one that does not exist. Raises nothing.';

CREATE FUNCTION crm.may(function text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_may_sql';
COMMENT ON FUNCTION crm.may(text) IS
'Whether the person who is asking has the right to run something: the function rights of the active configuration of kind permission.
function: its name there, for example reveal, approve or run_report; false for an unknown one. True for superusers. Raises nothing.';

CREATE FUNCTION crm._field_allowed(verb text, field int, owner bigint, team bigint) RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_field_allowed';
COMMENT ON FUNCTION crm._field_allowed(text, int, bigint, bigint) IS
'Whether the person who is asking may read, write or export the full value of a field of a row: for functions that hand out or take values beside the views. Internal.
verb: read, write or export. field: its number; NULL gives false. owner, team: of the row, NULL when it has none.
Not STRICT: owner and team may be NULL. Errors: 22023 unknown verb.';

CREATE FUNCTION crm.login(token text) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_login';
COMMENT ON FUNCTION crm.login(text) IS
'Acts for a member until the transaction ends: the way in for a connection pool, whose own role has no rights. Answers the member''s identifier.
token: from crm.mint_token(), or made by an application that holds the key: v1.<member>.<expiry in epoch seconds>.<database OID>.<HMAC-SHA256 (RFC 2104) of what stands before the last dot, hexadecimal>.
Errors: RM102 malformed, tampered or for another database; RM103 expired; 55000 no key.';

CREATE FUNCTION crm.mint_token(member bigint, ttl interval DEFAULT '15 minutes') RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_mint_token';
COMMENT ON FUNCTION crm.mint_token(bigint, interval) IS
'A signed token with which crm.login() acts for a member of this database.
member: identifier. ttl: 1 second to 24 hours.
Errors: 22023 out of range; P0002 no such member; 42501 no right configure; 55000 no key.';

CREATE FUNCTION crm._as(identity text) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_as_member';
COMMENT ON FUNCTION crm._as(text) IS
'Acts for somebody until the transaction ends, without a token: for jobs that write for a recipient. Answers the identity before, which the caller puts back in the same way. Internal.
identity: member <id>; role <name> or role <name> as <member id> to look at what a role sees; or the empty text for the session''s own role.
Errors: 22023 anything else.';

CREATE FUNCTION crm._policy_changed() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'crm_policy_changed';
COMMENT ON FUNCTION crm._policy_changed() IS 'Trigger of tables that backends remember, as those that access profiles are made of and the configuration: tells every backend to read them again. Internal.';

CREATE FUNCTION crm._write_view() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'crm_write_view';
COMMENT ON FUNCTION crm._write_view() IS
'INSTEAD OF trigger of the views: writes what the person changed and may change, checks that the row is as it was seen, answers the row masked again. Its argument is the name of the object. Internal.
Errors: 42501 no right to the row or the column; 40001 somebody else changed the row meanwhile; 23503 a reference to a row that is missing or hidden; RM104 too many rows without an approval; RM201 a deletion: rows are marked as deleted by functions.';

-- Owned by the superuser who creates the extension: the owner of the tables cannot change roles.
CREATE FUNCTION crm._disable_login(login name) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = login AND (r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = pg_catalog.format('role "%s" is privileged', login),
            HINT = 'A superuser disables it with ALTER ROLE .. NOLOGIN.';
    END IF;
    EXECUTE pg_catalog.format('ALTER ROLE %I NOLOGIN', login);
END
$$;
COMMENT ON FUNCTION crm._disable_login(name) IS
'Takes a role the right to log in: for crm.offboard() and crm.role_cleanup(), after they checked who asks. Internal.
login: a role that is not privileged. Errors: 42501 a privileged role; 42704 no such role.';
