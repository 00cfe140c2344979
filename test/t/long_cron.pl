# pg_cron runs the clock: registered in its own database, from another database, and by a role with just the rights it needs.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $node = new_server('cron');
my $available = $node->safe_psql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'pg_cron'});
plan skip_all => 'pg_cron is not installed: Debian has it as postgresql-NN-cron' if $available eq '';
note("pg_cron $available");

install_crm($node, 'crm');
$node->safe_psql('crm', 'CREATE ROLE clock LOGIN IN ROLE crm_admin');
my @as_clock = (extra_params => [ '-U', 'clock' ]);

# without pg_cron
fails_with($node, 'crm', 'SELECT crm.schedule()', '0A000', qr/let any scheduler run CALL crm\.tick/, 'without pg_cron the hint says what to do', @as_clock);
is($node->safe_psql('crm', 'SELECT crm.unschedule()', @as_clock), '0', 'and there is nothing to take out');
run_ok("$_ can be called by hand", 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-U', 'clock', '-d', $node->connstr('crm'), '-c', "CALL crm.$_()") foreach ('tick', 'run_jobs', 'maintenance');
# somebody else's function of that name is not taken for it
$node->safe_psql('crm', q{CREATE SCHEMA cron; CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / 0'});
fails_with($node, 'crm', 'SELECT crm.schedule()', '0A000', qr/pg_cron is not in this database/, 'a function that only has the name is not called');
$node->safe_psql('crm', 'DROP SCHEMA cron CASCADE');

# what the clock has to do: a job, and a lead that nobody spoke to
sub something_to_do
{
	my ($db) = @_;
	$node->safe_psql($db, <<'SQL');
CREATE TABLE public.effect (due timestamptz, who text);
GRANT ALL ON public.effect TO crm_owner;
UPDATE crm_data.job SET enabled = false;
CREATE FUNCTION crm._job_test_cron(due timestamptz) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO public.effect VALUES (due, session_user); SELECT 1::bigint';
GRANT EXECUTE ON FUNCTION crm._job_test_cron(timestamptz) TO crm_owner;
INSERT INTO crm_data.job (name, cadence, procedure, catch_up, starts_at) VALUES ('test cron', 'hour', '_job_test_cron', 'latest', now() - interval '2 hours');
INSERT INTO crm_data.member (full_name) SELECT 'Cron ' || n FROM generate_series(1, 2) AS n;
SELECT crm.capture_lead('{"phone": "13911112222", "client_key": "cron"}');
UPDATE crm_data.task SET escalate_at = now() - interval '1 second' WHERE kind = 'first_touch';
SQL
	return;
}
sub is_done
{
	my ($db, $what) = @_;
	ok($node->poll_query_until($db, q{SELECT (SELECT count(*) FROM public.effect) = 1 AND (SELECT l.assign_count FROM crm_data.lead AS l WHERE l.client_key = 'cron') = 2}), $what);
	return;
}

# in its own database, as it comes from Debian: it connects to the server like anybody else
$node->stop;
$node->append_conf('postgresql.conf', join("\n", q{shared_preload_libraries = 'pg_cron'}, q{cron.database_name = 'crm'}, "cron.host = '" . $node->host . "'") . "\n");
$node->start;
$node->safe_psql('crm', 'CREATE EXTENSION pg_cron');
fails_with($node, 'crm', 'SELECT crm.schedule()', '42501', qr/GRANT USAGE ON SCHEMA cron TO clock/, 'without rights on pg_cron the hint says which', @as_clock);
is($node->safe_psql('crm', 'SELECT count(*) FROM cron.job'), '0', 'and nothing is half registered');
$node->safe_psql('crm', 'GRANT USAGE ON SCHEMA cron TO clock');
something_to_do('crm');
is($node->safe_psql('crm', 'SELECT * FROM crm.schedule()', @as_clock), "crm jobs: CALL crm.run_jobs()\ncrm maintenance: CALL crm.maintenance()\ncrm tick: CALL crm.tick()", 'the clock is registered');
$node->safe_psql('crm', 'SELECT crm.schedule()', @as_clock);
is($node->safe_psql('crm', q{SELECT jobname, schedule, username FROM cron.job ORDER BY 1}), "crm jobs|* * * * *|clock\ncrm maintenance|20 18 * * *|clock\ncrm tick|* * * * *|clock", 'once, however often it is called');
is_done('crm', 'pg_cron runs the due job and the missed first touch goes to somebody else');
is($node->safe_psql('crm', 'SELECT who FROM public.effect'), 'clock', 'as the role that registered it');
ok($node->poll_query_until('crm', q{SELECT count(DISTINCT command) FILTER (WHERE status = 'succeeded') = 2 AND count(*) FILTER (WHERE status = 'failed') = 0 FROM cron.job_run_details}), 'its own run history says so');
# its history of our entries is purged, and nobody else's
$node->safe_psql('crm', q{UPDATE cron.job_run_details SET start_time = start_time - interval '8 days', end_time = end_time - interval '8 days' WHERE runid = (SELECT min(runid) FROM cron.job_run_details WHERE status = 'succeeded');
	INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, end_time) VALUES (99, 9999, 'crm', 'postgres', 'CALL other()', 'succeeded', now() - interval '1 year')});
my $runs = $node->safe_psql('crm', 'SELECT count(*) FROM cron.job_run_details');
$node->safe_psql('crm', q{SELECT cron.unschedule('crm jobs'), cron.unschedule('crm tick')}, @as_clock);
$node->safe_psql('crm', 'CALL crm.maintenance()', @as_clock);
is($node->safe_psql('crm', q{SELECT count(*) FILTER (WHERE end_time < now() - interval '7 days') FROM cron.job_run_details}), '1', "maintenance purges its run history of our own entries");
is($node->safe_psql('crm', 'SELECT crm.unschedule()', @as_clock), '1', 'taken out again');
is($node->safe_psql('crm', 'SELECT count(*) FROM cron.job'), '0', 'nothing is left of it');

# from another database, with workers of the server instead of connections
install_crm($node, 'elsewhere');
something_to_do('elsewhere');
$node->append_conf('postgresql.conf', 'cron.use_background_workers = on');
$node->restart;
my ($out, $err) = ('', '');
$node->psql('elsewhere', 'SELECT crm.schedule()', stdout => \$out, stderr => \$err);
like($err, qr/pg_cron is not in this database/, 'where pg_cron is not, it says so');
my ($statement) = $err =~ /Run there: (SELECT .*;)/;
$node->safe_psql('crm', $statement // 'no hint');
is($node->safe_psql('crm', q{SELECT string_agg(jobname || ' in ' || database, ', ' ORDER BY jobname) FROM cron.job}), 'crm jobs in elsewhere, crm maintenance in elsewhere, crm tick in elsewhere', 'the statement of its hint registers the clock from there');
is_done('elsewhere', 'pg_cron runs the clock of another database');
is($node->safe_psql('crm', q{SELECT count(*) FROM cron.job_run_details WHERE database = 'elsewhere' AND status = 'failed'}), '0', 'without a failure');

$node->stop;
done_testing();
