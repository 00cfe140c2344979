# The way to a version does not matter: one migrate, one step at a time, with an interruption, or inside a transaction give the same database.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $node = new_server('migrate');
install_crm($node, 'fresh');
my $schema = schema_of($node, 'fresh');
my $steps = $node->safe_psql('fresh', 'SELECT max(version) FROM crm.migration');
my $quiet = 'SET client_min_messages = warning;';

# stepwise
$node->safe_psql('postgres', 'CREATE DATABASE stepwise');
$node->safe_psql('stepwise', 'CREATE EXTENSION crm');
for my $step (1 .. ($steps || 0))
{
	$node->safe_psql('stepwise', "$quiet CALL crm.migrate($step)");
	is($node->safe_psql('stepwise', 'SELECT max(version) FROM crm_data.schema_version'), $step, "stopped at migration $step");
}
$node->safe_psql('stepwise', "$quiet CALL crm.migrate()");
same_text(schema_of($node, 'stepwise'), $schema, 'stepwise equals fresh');

# again, and again
$node->safe_psql('stepwise', "$quiet CALL crm.migrate(); CALL crm.migrate()");
same_text(schema_of($node, 'stepwise'), $schema, 'migrating again changes nothing');

# as one transaction
$node->safe_psql('postgres', 'CREATE DATABASE atomic');
$node->safe_psql('atomic', "BEGIN; CREATE EXTENSION crm; SET LOCAL client_min_messages = warning; CALL crm.migrate(); ROLLBACK");
is($node->safe_psql('atomic', "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'crm%'"), '0', 'rolled back as a whole');
$node->safe_psql('atomic', "BEGIN; CREATE EXTENSION crm; SET LOCAL client_min_messages = warning; CALL crm.migrate(); COMMIT");
same_text(schema_of($node, 'atomic'), $schema, 'one transaction equals fresh');

# interrupted: whoever stops a migration finds whole steps only, and the next run goes on from there
SKIP:
{
	skip 'there are no numbered migrations', 3 unless $steps;
	my $stop_at = int($steps / 2) + 1;
	$node->safe_psql('postgres', 'CREATE DATABASE interrupted');
	$node->safe_psql('interrupted', <<SQL);
CREATE EXTENSION crm;
CREATE FUNCTION public.stop_here() RETURNS event_trigger LANGUAGE plpgsql AS \$\$
BEGIN
    IF pg_catalog.to_regclass('crm_data.schema_version') IS NULL THEN
        RETURN;
    END IF;
    IF (SELECT pg_catalog.count(*) FROM crm_data.schema_version) = $stop_at - 1 THEN
        -- in the middle of it
        PERFORM pg_catalog.set_config('stop.after', (coalesce(nullif(pg_catalog.current_setting('stop.after', true), ''), '0')::int + 1)::text, true);
        IF pg_catalog.current_setting('stop.after')::int = 5 THEN
            PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());
        END IF;
    END IF;
END\$\$;
CREATE EVENT TRIGGER stop_here ON ddl_command_end EXECUTE FUNCTION public.stop_here();
SQL
	my $rc = $node->psql('interrupted', "$quiet CALL crm.migrate()");
	isnt($rc, 0, "the session is terminated in migration $stop_at");
	is($node->safe_psql('interrupted', 'SELECT count(*) FROM crm_data.schema_version'), $stop_at - 1, 'the steps before it are whole');
	$node->safe_psql('interrupted', 'DROP EVENT TRIGGER stop_here; DROP FUNCTION public.stop_here()');
	$node->safe_psql('interrupted', "$quiet CALL crm.migrate()");
	same_text(schema_of($node, 'interrupted'), $schema, 'the next run continues, and the result equals fresh');
}

done_testing();
