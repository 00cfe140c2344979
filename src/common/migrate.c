/*
 * migrate.c
 *		crm.migrate: brings the schema to the version of the library.
 *
 * The steps are rows of crm.migration. Numbered ones are applied once, in order, and remembered with their checksum in
 * crm_data.schema_version; the others are applied every time. This file does not know what a step does, and repairs nothing:
 * crm.doctor() tells what is missing, and migrate applies all re-runnable files again.
 *
 * Locking: one migration at a time a database, by a transaction-level lock of our own class, taken anew in every transaction.
 *
 * Transactions: outside a transaction block every step is committed on its own; inside one, all are part of it. A procedure with
 * a SET clause or SECURITY DEFINER could not commit, so neither is used: the role and search_path of a step are set here.
 *
 * Memory: the list of steps outlives the commits, so it lives in a child of the caller's (the portal's) context.
 */
#include "crm.h"

#include "catalog/pg_type.h"
#include "common/locks.h"
#include "common/errors.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(crm_migrate);

typedef struct MigrationStep
{
	int version; /* 0: applied every time */
	char *name;
	char *runs_as;
	char *body;
	char *checksum;
} MigrationStep;

typedef struct MigrationPlan
{
	int nsteps;
	int newest; /* highest numbered step */
	MigrationStep *steps;
} MigrationPlan;

static int begin_work(void);
static void set_for_work(const char *name, const char *value);
static void check_schema_owner(void);
static void prepare_schema(void);
static MigrationPlan *read_plan(MemoryContext keep);
static void check_newer_schema(const MigrationPlan *plan);
static bool is_applied(const MigrationStep *step);
static void apply_step(const MigrationStep *step);
static void run_sql(const char *sql);

/*
 * crm.migrate(target int)
 */
Datum
crm_migrate(PG_FUNCTION_ARGS)
{
	bool atomic = true;
	int target = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	int applied = 0;
	int nestlevel;
	MemoryContext keep;
	MigrationPlan *plan;

	if (fcinfo->context && IsA(fcinfo->context, CallContext))
		atomic = ((CallContext *) fcinfo->context)->atomic;

	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to migrate the CRM schema"),
						errhint("Run CALL %s.migrate() as a superuser.", CRM_SCHEMA)));
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("crm needs a database in encoding UTF8, this one is in %s", GetDatabaseEncodingName()),
						errhint("Create the database with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0.")));

	keep = AllocSetContextCreate(CurrentMemoryContext, "crm migrate", ALLOCSET_DEFAULT_SIZES);

	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	nestlevel = begin_work();
	plan = read_plan(keep);
	if (!PG_ARGISNULL(0) && (target < 1 || target > plan->newest))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no migration number %d", target),
						errhint("Give a number from 1 to %d, or none for all.", plan->newest)));
	check_schema_owner();
	prepare_schema();
	check_newer_schema(plan);
	AtEOXact_GUC(true, nestlevel);

	for (int i = 0; i < plan->nsteps; i++)
	{
		const MigrationStep *step = &plan->steps[i];

		if (target > 0 && target < plan->newest && (step->version == 0 || step->version > target))
			continue;

		CHECK_FOR_INTERRUPTS();

		/* lock and settings went with the last commit, and somebody may have been faster */
		nestlevel = begin_work();
		if (step->version > 0 && is_applied(step))
		{
			AtEOXact_GUC(true, nestlevel);
			continue;
		}
		apply_step(step);
		AtEOXact_GUC(true, nestlevel);
		applied++;
		ereport(NOTICE, (errmsg("crm.migrate: step %d of %d, %s", i + 1, plan->nsteps, step->name)));
		if (!atomic)
			SPI_commit();
	}
	ereport(NOTICE, (errmsg("crm.migrate: %d steps applied, the schema is at version %d", applied,
							target > 0 ? target : plan->newest)));

	SPI_finish();
	MemoryContextDelete(keep);
	PG_RETURN_VOID();
}

/*
 * Begin the work of a transaction: take the migration lock, or say that somebody has it (waiting would be worse: the other run may
 * take minutes, and does the same work), and pin what names mean. The caller ends it with AtEOXact_GUC of the answer.
 */
static int
begin_work(void)
{
	LOCKTAG tag;
	int nestlevel;

	SET_LOCKTAG_CRM(tag, CRM_LOCK_MIGRATE, 0);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("another crm.migrate() is running in this database"),
				 errhint("Wait for it to end, then run CALL %s.migrate() again: it continues where the other stopped.",
						 CRM_SCHEMA)));

	nestlevel = NewGUCNestLevel();
	set_for_work("search_path", "pg_catalog, pg_temp");
	set_for_work("check_function_bodies", "on");
	set_for_work("client_min_messages", "warning");
	return nestlevel;
}

/*
 * Set a setting until the GUC nest level ends.
 */
static void
set_for_work(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Refuse a schema for the tables that somebody else made: its owner could rename or drop whatever is in it.
 */
static void
check_schema_owner(void)
{
	if (SPI_execute(
			"SELECT r.rolname FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS r ON r.oid = n.nspowner"
			" WHERE n.nspname = '" CRM_DATA_SCHEMA "' AND NOT r.rolsuper",
			true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the owner of schema %s", CRM_DATA_SCHEMA);
	if (SPI_processed > 0)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_SCHEMA),
						errmsg("schema \"%s\" exists and belongs to role \"%s\"", CRM_DATA_SCHEMA,
							   SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
						errdetail("The owner of the schema could replace the tables in it."),
						errhint("Rename the schema, or give it to a superuser, then run CALL %s.migrate() again.",
								CRM_SCHEMA)));
}

/*
 * Make what every step needs: the tables' schema and the list of applied steps. The schema belongs to whoever
 * migrates: pg_dump emits schemas before extensions, and the role crm_owner would be missing on a new server.
 */
static void
prepare_schema(void)
{
	run_sql("CREATE SCHEMA IF NOT EXISTS " CRM_DATA_SCHEMA);
	run_sql("COMMENT ON SCHEMA " CRM_DATA_SCHEMA
			" IS 'CRM tables. People have no rights here: they read and write through the views of schema " CRM_SCHEMA
			"'");
	run_sql("GRANT USAGE, CREATE ON SCHEMA " CRM_DATA_SCHEMA " TO " CRM_OWNER);
	run_sql("GRANT USAGE ON SCHEMA " CRM_DATA_SCHEMA " TO " CRM_GATE ", crm_backup");

	/* a function is nobody's until sql/api/grants.sql gives it */
	run_sql("ALTER DEFAULT PRIVILEGES FOR ROLE " CRM_OWNER ", " CRM_GATE " REVOKE EXECUTE ON ROUTINES FROM PUBLIC");
	run_sql(
		"CREATE TABLE IF NOT EXISTS " CRM_DATA_SCHEMA ".schema_version ("
		"version int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
		" applied_at timestamptz NOT NULL DEFAULT pg_catalog.now(), applied_by name NOT NULL DEFAULT SESSION_USER)");
	run_sql("ALTER TABLE " CRM_DATA_SCHEMA ".schema_version OWNER TO " CRM_OWNER);
	run_sql("COMMENT ON TABLE " CRM_DATA_SCHEMA ".schema_version IS 'Migrations that this database has, one row each'");
	run_sql("COMMENT ON COLUMN " CRM_DATA_SCHEMA ".schema_version.version IS 'Number of the migration'");
	run_sql("COMMENT ON COLUMN " CRM_DATA_SCHEMA ".schema_version.name IS 'Name of the migration'");
	run_sql("COMMENT ON COLUMN " CRM_DATA_SCHEMA
			".schema_version.checksum IS 'SHA-256 of the text that was applied, hexadecimal'");
	run_sql("COMMENT ON COLUMN " CRM_DATA_SCHEMA ".schema_version.applied_at IS 'When it was applied'");
	run_sql("COMMENT ON COLUMN " CRM_DATA_SCHEMA ".schema_version.applied_by IS 'Login role that applied it'");
}

/*
 * Read the steps of the library into the given context.
 */
static MigrationPlan *
read_plan(MemoryContext keep)
{
	MigrationPlan *plan;
	MemoryContext old;
	TupleDesc desc;

	if (SPI_execute("SELECT version, name, runs_as, body, checksum FROM " CRM_SCHEMA ".migration ORDER BY seq", true,
					0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the list of migrations");

	old = MemoryContextSwitchTo(keep);
	plan = palloc0(sizeof(MigrationPlan));
	plan->nsteps = (int) SPI_processed;
	plan->steps = palloc0(sizeof(MigrationStep) * Max(plan->nsteps, 1));
	desc = SPI_tuptable->tupdesc;
	for (int i = 0; i < plan->nsteps; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		MigrationStep *step = &plan->steps[i];
		bool isnull;
		Datum version = SPI_getbinval(tuple, desc, 1, &isnull);

		step->version = isnull ? 0 : DatumGetInt32(version);
		plan->newest = Max(plan->newest, step->version);
		step->name = SPI_getvalue(tuple, desc, 2);
		step->runs_as = SPI_getvalue(tuple, desc, 3);
		step->body = SPI_getvalue(tuple, desc, 4);
		step->checksum = SPI_getvalue(tuple, desc, 5);

		/* SPI_getvalue answers in SPI's own context, which a commit may empty */
		step->name = pstrdup(step->name);
		step->runs_as = pstrdup(step->runs_as);
		step->body = pstrdup(step->body);
		step->checksum = pstrdup(step->checksum);
	}
	MemoryContextSwitchTo(old);
	return plan;
}

/*
 * A library older than the schema cannot know what the newer migrations mean: refuse to touch it.
 */
static void
check_newer_schema(const MigrationPlan *plan)
{
	bool isnull;
	Datum newest;

	if (SPI_execute("SELECT max(version) FROM " CRM_DATA_SCHEMA ".schema_version", false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the schema's version");
	newest = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull && DatumGetInt32(newest) > plan->newest)
		ereport(ERROR,
				(errcode(ERRCODE_CRM_SCHEMA_VERSION), errmsg("the CRM schema is newer than the library"),
				 errdetail("The schema is at version %d, this library knows %d.", DatumGetInt32(newest), plan->newest),
				 errhint("Install the newer crm package and run ALTER EXTENSION crm UPDATE.")));
}

/*
 * Is a numbered step applied? Raises if its text is no longer the one that was applied: a released migration is never
 * edited, so either the library or the database is not what it says.
 */
static bool
is_applied(const MigrationStep *step)
{
	Oid types[1] = {INT4OID};
	Datum values[1] = {Int32GetDatum(step->version)};
	char *checksum;

	if (SPI_execute_with_args("SELECT checksum FROM " CRM_DATA_SCHEMA ".schema_version WHERE version = $1", 1, types,
							  values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the schema's version");
	if (SPI_processed == 0)
		return false;
	checksum = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (strcmp(checksum, step->checksum) != 0)
		ereport(ERROR, (errcode(ERRCODE_CRM_SCHEMA_CHANGED),
						errmsg("migration %d (%s) has changed since it was applied", step->version, step->name),
						errdetail("Applied was %s, the library has %s.", checksum, step->checksum),
						errhint("Install the release that this database was migrated with, or one that follows it.")));
	return true;
}

/*
 * Run one step as its role and remember it. The role holds for the step alone, also when the caller's transaction goes on.
 */
static void
apply_step(const MigrationStep *step)
{
	Oid types[3] = {INT4OID, TEXTOID, TEXTOID};
	int nestlevel = NewGUCNestLevel();

	if (strcmp(step->runs_as, "caller") != 0)
		set_for_work("role", step->runs_as);
	run_sql(step->body);
	AtEOXact_GUC(true, nestlevel);

	if (step->version > 0)
	{
		Datum values[3] = {Int32GetDatum(step->version), CStringGetTextDatum(step->name),
						   CStringGetTextDatum(step->checksum)};

		if (SPI_execute_with_args("INSERT INTO " CRM_DATA_SCHEMA
								  ".schema_version (version, name, checksum) VALUES ($1, $2, $3)",
								  3, types, values, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not record migration %d", step->version);
	}
}

/*
 * Run SQL of our own, one statement or many. Errors come as they are, with the step in the context.
 */
static void
run_sql(const char *sql)
{
	int rc = SPI_execute(sql, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
}
