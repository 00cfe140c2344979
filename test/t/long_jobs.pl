# Eight sessions call the clock at once while jobs fail, sessions are killed and the server crashes: every due job still runs exactly once,
# in the order it was due. And a slow report delays neither a timer nor another job.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use CrmTest;

my $node = new_server('jobs');
install_crm($node, 'crm');
my $sql = sub { $node->safe_psql('crm', $_[0]) };

# A job for each cadence, each with a function that notes what it did. By a hash of its due time a run is slow, fails once, or fails always;
# the sequence counts what was begun, since a failed run leaves nothing else behind.
$sql->(<<'SQL');
UPDATE crm_data.job SET enabled = false;
CREATE TABLE public.effect (job text NOT NULL, due timestamptz NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE SEQUENCE public.begun;
GRANT ALL ON public.effect, public.begun TO crm_owner;
CREATE FUNCTION public.fate(job text, due timestamptz) RETURNS text LANGUAGE sql STABLE AS
	$$ SELECT CASE abs(hashtext(job || extract(epoch FROM due))) % 20 WHEN 0 THEN 'never' WHEN 1 THEN 'second' WHEN 2 THEN 'second' WHEN 3 THEN 'slow' ELSE 'first' END $$;
CREATE FUNCTION public.do_job(job text, due timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('public.begun');
	INSERT INTO public.effect (job, due) VALUES (job, due);
	IF public.fate(job, due) = 'never' OR (public.fate(job, due) = 'second'
		AND (SELECT r.attempts FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name = job AND r.due_at = due) = 0) THEN
		RAISE EXCEPTION 'injected failure';
	END IF;
	IF public.fate(job, due) = 'slow' THEN PERFORM pg_sleep(0.3); END IF;
	RETURN 1;
END $$;
DO $$
DECLARE c text;
BEGIN
	FOREACH c IN ARRAY '{minute,hour,day,week,month,quarter}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION crm._job_test_%s(due timestamptz) RETURNS bigint LANGUAGE sql AS %L', c, format('SELECT public.do_job(%L, due)', 'test ' || c));
		EXECUTE format('GRANT EXECUTE ON FUNCTION crm._job_test_%s(timestamptz) TO crm_owner', c);
		INSERT INTO crm_data.job (name, cadence, offset_, procedure, catch_up, starts_at)
		VALUES ('test ' || c, c, '0', '_job_test_' || c, 'all', now() - CASE c WHEN 'minute' THEN interval '40 minutes' WHEN 'hour' THEN interval '40 hours' WHEN 'day' THEN interval '40 days'
			WHEN 'week' THEN interval '40 weeks' WHEN 'month' THEN interval '40 months' ELSE interval '10 years' END);
	END LOOP;
END $$;
SQL

my ($killed, $crashed, $round) = (0, 0, 0);
my $left = 1;
while ($left && $round < 60)
{
	$round++;
	my @tickers;
	foreach my $n (1 .. 8)
	{
		my ($out, $err) = ('', '');
		push @tickers, IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('crm'), '-c', 'SET client_min_messages = warning', '-c', 'CALL crm.run_jobs()' ],
			'<', \'', '>', \$out, '2>', \$err);
	}
	if ($round <= 6)
	{
		# not before two of them are at work
		for (1 .. 100)
		{
			last if $sql->(q{SELECT count(*) FROM pg_stat_activity WHERE query = 'CALL crm.run_jobs()' AND state = 'active'}) >= 2;
			sleep 0.05;
		}
		if ($round == 4)
		{
			$node->stop('immediate');
			$node->start;
			$crashed++;
		}
		else
		{
			# of the sessions at work, two at a time
			$killed += $sql->(q{SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
				WHERE query = 'CALL crm.run_jobs()' AND state = 'active' ORDER BY query_start, pid LIMIT 2) AS p});
		}
	}
	IPC::Run::finish($_) foreach @tickers;
	# what failed waits for its next attempt: not in a test
	$left = $sql->(q{UPDATE crm_data.job_run SET next_at = now() WHERE state = 'failed' AND attempts < 3;
		SELECT count(*) FROM crm_data.job_run AS r WHERE r.state = 'ready' OR (r.state = 'failed' AND r.attempts < 3)});
}
cmp_ok($killed, '>=', 3, "$killed sessions were killed at their work");
is($crashed, 1, 'and the server crashed once');
is($left, 0, "all is done after $round rounds of eight sessions");

is($sql->('SELECT count(*) FROM (SELECT FROM public.effect GROUP BY job, due HAVING count(*) > 1) AS twice'), 0, 'no run happened twice');
# what was due when the last plan was made, from the schedule itself
my $due = q{due AS (SELECT j.name AS job, d.at AS due FROM crm_data.job AS j CROSS JOIN LATERAL crm.job_due(j.cadence, j.offset_, j.tz, j.starts_at - interval '1 microsecond',
	(SELECT max(r.due_at) FROM crm_data.job_run AS r WHERE r.job_id = j.id)) AS d (at) WHERE j.name LIKE 'test %')};
is($sql->("WITH $due SELECT count(*) FROM due WHERE NOT EXISTS (SELECT FROM public.effect AS e WHERE e.job = due.job AND e.due = due.due) AND public.fate(due.job, due.due) <> 'never'"), 0, 'none was left out');
is($sql->("WITH $due SELECT count(*) FROM public.effect AS e WHERE NOT EXISTS (SELECT FROM due WHERE e.job = due.job AND e.due = due.due)"), 0, 'none happened that was not due');
cmp_ok($sql->('SELECT count(*) FROM public.effect'), '>=', 200, $sql->('SELECT count(*) FROM public.effect') . ' runs of ' . $sql->('SELECT last_value FROM public.begun') . ' begun');
is($sql->('SELECT count(*) FROM (SELECT e.due < lag(e.due) OVER (PARTITION BY e.job ORDER BY e.at) AS back FROM public.effect AS e) AS o WHERE back'), 0, 'each job ran in the order of its due times');
is($sql->("SELECT count(*) FROM public.effect AS e WHERE public.fate(e.job, e.due) = 'never'"), 0, 'a failed run leaves nothing behind');
# (an alert says the organisation's time, whatever the scheduler's)
is($sql->(q{SET timezone = 'Asia/Shanghai'; SELECT count(*) FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE public.fate(j.name, r.due_at) = 'never'
	AND (r.state <> 'failed' OR r.attempts <> 3 OR r.error <> 'injected failure' OR (SELECT count(*) FROM crm_data.alert AS a WHERE a.dedupe_key = format('job_failed:%s:%s', j.name, r.due_at)) <> 1)}), 0,
	'what fails for good is tried three times, says why and alerts once');
is($sql->(q{SELECT string_agg(DISTINCT state, ',' ORDER BY state) FROM crm_data.job_run}), 'done,failed', 'no run is left in between');
my $before = $sql->(q{SELECT count(*) FROM public.effect WHERE job <> 'test minute'});
$sql->('SET client_min_messages = warning; CALL crm.run_jobs(); CALL crm.run_jobs()');
is($sql->(q{SELECT count(*) FROM public.effect WHERE job <> 'test minute'}), $before, 'called again it does nothing');

# A slow report at its work: the timers go on, and so do the other jobs.
$sql->(<<'SQL');
UPDATE crm_data.job SET enabled = false;
CREATE TABLE public.go (now bool);
GRANT ALL ON public.go TO crm_owner;
CREATE FUNCTION crm._job_test_slow(due timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.effect (job, due) VALUES ('slow', due);
	WHILE NOT EXISTS (SELECT FROM public.go) LOOP PERFORM pg_sleep(0.1); END LOOP;
	RETURN 1;
END $$;
CREATE FUNCTION crm._job_test_quick(due timestamptz) RETURNS bigint LANGUAGE sql AS 'INSERT INTO public.effect (job, due) VALUES (''quick'', due); SELECT 1::bigint';
GRANT EXECUTE ON FUNCTION crm._job_test_slow(timestamptz), crm._job_test_quick(timestamptz) TO crm_owner;
INSERT INTO crm_data.job (name, cadence, procedure, catch_up, starts_at) VALUES ('slow', 'hour', '_job_test_slow', 'latest', now() - interval '2 hours');
INSERT INTO crm_data.team (code, name) VALUES ('C', 'Clock');
INSERT INTO crm_data.member (full_name, team_id) SELECT 'Clock ' || n, id FROM crm_data.team, generate_series(1, 2) AS n WHERE code = 'C';
INSERT INTO crm_data.account (name, owner_id) SELECT 'Clock customer', id FROM crm_data.member WHERE full_name = 'Clock 1';
SELECT crm.capture_lead('{"phone": "13911112222", "client_key": "clock"}');
UPDATE crm_data.task SET escalate_at = now() - interval '1 second' WHERE kind = 'first_touch';
INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, owner_id) SELECT 'follow_up', 'account', a.id, a.id, 'late', now() - interval '1 minute', a.owner_id FROM crm_data.account AS a WHERE a.name = 'Clock customer';
SQL
my ($out, $err) = ('', '');
my $slow = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('crm'), '-c', 'CALL crm.run_jobs()' ], '<', \'', '>', \$out, '2>', \$err);
$node->poll_query_until('crm', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = 'CALL crm.run_jobs()' AND wait_event = 'PgSleep')") or die 'the slow report does not run';
$sql->(q{INSERT INTO crm_data.job (name, cadence, procedure, catch_up, starts_at) VALUES ('quick', 'minute', '_job_test_quick', 'latest', now() - interval '2 minutes')});
$sql->('SET client_min_messages = warning; CALL crm.tick()');
pass('the timer runs while the report does');
is($sql->(q{SELECT count(*) FROM crm_data.lead AS l WHERE l.client_key = 'clock' AND l.assign_count = 2}), 1, 'the missed first touch has gone to somebody else meanwhile');
is($sql->(q{SELECT count(*) FROM crm_data.task AS t WHERE t.title = 'late' AND t.notified_at IS NOT NULL}), 1, 'the overdue task is announced');
$sql->('SET client_min_messages = warning; CALL crm.run_jobs()');
is($sql->(q{SELECT count(*) FROM public.effect WHERE job = 'quick'}), 1, 'another session runs another job meanwhile');
is($sql->(q{SELECT count(*) FROM public.effect WHERE job = 'slow'}), 0, 'the report is still at its work');
$sql->('INSERT INTO public.go VALUES (true)');
IPC::Run::finish($slow);
is($sql->(q{SELECT count(*) FROM public.effect WHERE job = 'slow'}), 1, 'and then done, once');

$node->stop;
done_testing();
