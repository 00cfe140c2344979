# The server's clock is shifted to just before a due time: the start of a month, Monday 10:00 and the 15th 08:00 of Asia/Shanghai come
# while the clock is called, on a server that lives in another time zone. A clock that was down, or goes back, changes nothing but the time.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local;
use Time::HiRes qw(sleep);
use CrmTest;

my ($lib) = grep { -e } glob('/usr/lib/*/faketime/libfaketime.so.1');
plan skip_all => 'libfaketime is not installed: Debian has it in the package of that name' unless $lib;

my $node = PostgreSQL::Test::Cluster->new('clock');
$node->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$node->append_conf('postgresql.conf', "jit = off\ntimezone = 'America/New_York'\n");
my $sql = sub { $node->safe_psql('crm', 'SET client_min_messages = warning; ' . $_[0]) };

my $started = 0;

# start, or start again, with this time of Asia/Shanghai (UTC+8) on the server's clock
sub start_at
{
	my ($local) = @_;
	my ($y, $m, $d, $h, $min, $s) = $local =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)$/;
	my $shift = timegm($s, $min, $h, $d, $m - 1, $y) - 8 * 3600 - time;
	local %ENV = (%ENV, LD_PRELOAD => $lib, FAKETIME => sprintf('%+d', $shift), DONT_FAKE_MONOTONIC => 1, NO_FAKE_STAT => 1);
	$node->stop if $started++;
	$node->start;
	return;
}
# how often a job was done, and for when
my $done = sub { $sql->("SELECT string_agg(to_char(r.due_at AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD HH24:MI') || ' ' || r.state, ', ' ORDER BY r.due_at)
	FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name = '$_[0]'") };
# the report's own answer to what it covers
my $covers = sub { $sql->("SELECT string_agg(format('%s to %s', to_char(lower(s.period) AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD'), to_char(upper(s.period) AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD')), ', ' ORDER BY s.seq)
	FROM crm_data.report_snapshot AS s WHERE s.report = '$_[0]'") };

# call the clock again and again, as a scheduler does, until a due time has come and its run is there
sub fires
{
	my ($job, $due, $what) = @_;
	$sql->('CALL crm.run_jobs()');
	my $early = $done->($job);
	unlike($early, qr/\Q$due\E/, "$what: not before it is due");
	for (1 .. 300)
	{
		sleep 0.2;
		$sql->('CALL crm.run_jobs()');
		last if $done->($job) =~ /\Q$due\E done/;
	}
	is($done->($job), ($early eq '' ? '' : "$early, ") . "$due done", "$what: then once");
	is($sql->("SELECT r.started_at >= r.due_at AND r.started_at < r.due_at + interval '1 minute' FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name = '$job' ORDER BY r.due_at DESC LIMIT 1"),
		't', "$what: at its time");
	return;
}

start_at('2027-02-20 12:00:00');
is($node->safe_psql('postgres', q{SELECT (now() AT TIME ZONE 'Asia/Shanghai')::date}), '2027-02-20', "the server's clock is shifted");
install_crm($node, 'crm');
$sql->(q{SELECT count(*) FROM crm.demo_data(50, 1, date '2027-02-20')});
$sql->(q{UPDATE crm_data.job SET enabled = name IN ('monthly_snapshot', 'bottleneck_brief', 'deviation')});

start_at('2027-02-28 23:59:45');
fires('monthly_snapshot', '2027-03-01 00:00', 'the start of the month');
is($covers->('monthly_snapshot'), '2027-02-01 to 2027-03-01', 'the snapshot is of the month before');
start_at('2027-03-01 09:59:45');
fires('bottleneck_brief', '2027-03-01 10:00', 'Monday 10:00');
start_at('2027-03-15 07:59:45');
fires('deviation', '2027-03-15 08:00', 'the 15th at 08:00');

# nobody called the clock over two starts of a month: both snapshots are made, in order, each of its own month
start_at('2027-05-03 12:00:00');
$sql->('CALL crm.run_jobs()');
is($done->('monthly_snapshot'), '2027-03-01 00:00 done, 2027-04-01 00:00 done, 2027-05-01 00:00 done', 'after a pause the missed months are made up for');
is($covers->('monthly_snapshot'), '2027-02-01 to 2027-03-01, 2027-03-01 to 2027-04-01, 2027-04-01 to 2027-05-01', 'each snapshot is of its own month');
is($sql->(q{SELECT bool_and(s.prev_digest IS NOT DISTINCT FROM p.digest) FROM crm_data.report_snapshot AS s LEFT JOIN crm_data.report_snapshot AS p ON p.report = s.report AND p.seq = s.seq - 1 WHERE s.report = 'monthly_snapshot'}), 't', 'and chained to the one before');
is($done->('bottleneck_brief'), '2027-02-22 10:00 done, 2027-03-01 10:00 done, 2027-03-08 10:00 done, 2027-05-03 10:00 done', 'of the Mondays of the pause only the latest has its brief');
my @before = map { $done->($_) } ('monthly_snapshot', 'bottleneck_brief', 'deviation');
# a clock that goes back
start_at('2027-04-30 23:59:58');
sleep 3;
$sql->('CALL crm.run_jobs()');
is_deeply([ map { $done->($_) } ('monthly_snapshot', 'bottleneck_brief', 'deviation') ], \@before, 'a clock that goes back makes nothing happen twice');
is($sql->(q{SELECT count(*) FROM crm_data.report_snapshot WHERE report = 'monthly_snapshot'}), '3', 'not even a report');

$node->stop;
done_testing();
