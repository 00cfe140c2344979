# Acknowledged writes survive SIGKILL. Clients write to a few customers, through crm.write and by SQL through a view, while backends and the whole server are killed; then a checker that knows what
# they were told looks for every acknowledged operation. Positive control: with synchronous_commit = off the same checker must find losses, or it
# would not find them at all.
#
# Does not test the disk: the operating system lives on.
use strict;
use warnings;
use File::Basename;
use IO::Handle;
use IPC::Open3;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use CrmTest;

my $seconds = $ENV{CRM_CRASH_SECONDS} // 50;
my $clients = 8;
my $accounts = 5;
my @fields = qw(address legal_person type province district website);
my $logs = PostgreSQL::Test::Utils::tempdir();

my $node = new_server('crash');
$node->append_conf('postgresql.conf', <<CONF);
restart_after_crash = on
max_connections = 40
log_min_messages = fatal
CONF
$node->restart;
install_crm($node, 'crm');

# what a client was told, one line an answer: op, account, field, value, invoked, acknowledged, state, op_seq, version
sub client
{
	my ($round, $number, $until) = @_;
	srand($round * 1000 + $number);
	open my $log, '>', "$logs/acks_${round}_$number" or die $!;
	$log->autoflush(1);
	my ($in, $out, $pid);
	my (%seen, $n);
	my $connect = sub {
		waitpid($pid, 0) if $pid;
		# errors are for the checker to judge; psql's own go nowhere
		open my $null, '>', '/dev/null' or die $!;
		$pid = open3($in, $out, '>&' . fileno($null), $node->installed_command('psql'), '-X', '-q', '-A', '-t', '-d', $node->connstr('crm') . " application_name=client$number");
		$in->autoflush(1);
	};
	# one statement, one line; nothing when the server refused or went away
	my $ask = sub {
		my ($sql) = @_;
		local $SIG{PIPE} = 'IGNORE';
		return (undef, 0) unless print {$in} "$sql;\n\\echo DONE\n";
		my $answer;
		while (defined(my $line = <$out>))
		{
			chomp $line;
			return ($answer, 1) if $line eq 'DONE';
			$answer = $line;
		}
		return (undef, 0);
	};
	$connect->();
	while (time() < $until)
	{
		my $account = 1 + int(rand($accounts));
		my $field = $fields[ int(rand(@fields)) ];
		my $op = sprintf('%08x-0000-4000-8000-%012x', $round * 256 + $number, ++$n);
		my $value = "r${round}c${number}n$n";
		my $mode = rand() < 0.2 ? 'queue' : 'merge';
		my $base = $seen{$account} // 'NULL';
		my $invoked = time();
		my ($answer, $alive);
		# through the view: it has no identifier to be sent again with, so what is not acknowledged is nothing
		if (rand() < 0.2)
		{
			($answer, $alive) = $ask->("BEGIN; UPDATE crm.account SET $field = '$value' WHERE id = crash_id($account); SELECT concat_ws(' ', op_id, op_seq, version) FROM crm_data.operation WHERE root_object = 'account' AND root_id = crash_id($account) AND endpoint = 'sql' ORDER BY op_seq DESC LIMIT 1; COMMIT");
			if (!$alive) { sleep(0.2); $connect->(); next; }
			next unless defined $answer;
			my ($id, $seq, $version) = split / /, $answer;
			printf {$log} "%s\t%d\t%s\t%s\t%.6f\t%.6f\t%s\t%d\t%d\n", $id, $account, $field, $value, $invoked, time(), 'applied', $seq, $version;
			next;
		}
		$ask->("SELECT crm.begin_edit(crash_id($account), 'client$number', '200 ms')") if rand() < 0.02;
		# the same operation again, until somebody answers
		for (;;)
		{
			($answer, $alive) = $ask->("SELECT concat_ws(' ', w ->> 'state', w ->> 'op_seq', coalesce(w ->> 'version', '0')) FROM crm.write('account', crash_id($account), '$op', 'client$number', $base, '{\"$field\": \"$value\"}', NULL, '$mode') AS w");
			last if defined $answer;
			last if time() > $until + 30;
			if (!$alive) { sleep(0.2); $connect->(); }
		}
		next unless defined $answer;
		my ($state, $seq, $version) = split / /, $answer;
		$seen{$account} = $version if $version;
		printf {$log} "%s\t%d\t%s\t%s\t%.6f\t%.6f\t%s\t%d\t%d\n", $op, $account, $field, $value, $invoked, time(), $state, $seq, $version;
	}
	close $in;
	POSIX::_exit(0);
}

sub processes_of
{
	my ($postmaster) = @_;
	return grep { /^\d+$/ } split /\s+/, `ps -o pid= --ppid $postmaster`;
}

# let clients write while something is killed five times; answer the problems that the checker finds
sub round
{
	my ($round, $kills) = @_;
	my $until = time() + $seconds;
	my @pids;
	foreach my $number (1 .. $clients)
	{
		my $pid = fork() // die $!;
		client($round, $number, $until) if $pid == 0;
		push @pids, $pid;
	}
	foreach my $kill (@$kills)
	{
		sleep($seconds / (@$kills + 1));
		my $pid_file = $node->data_dir . '/postmaster.pid';
		if ($kill eq 'backend')
		{
			my $backend = eval { $node->safe_psql('crm', "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'client%' AND state = 'active' ORDER BY pid LIMIT 1") };
			kill 'KILL', $backend if $backend;
		}
		else
		{
			my $postmaster = (split /\n/, slurp_file($pid_file))[0];
			my @children = processes_of($postmaster);
			$node->kill9;
			kill 'KILL', @children;
			sleep(0.1) while grep { kill 0, $_ } @children;
			$node->start;
		}
	}
	waitpid($_, 0) foreach @pids;
	$node->poll_query_until('crm', 'SELECT true') or die 'the server is gone';
	# what waited for a lease
	sleep(0.5);
	$node->poll_query_until('crm', "SELECT crm.apply_operations() = 0 AND NOT EXISTS (SELECT FROM crm_data.operation WHERE state = 'pending')");
	$node->safe_psql('crm', 'TRUNCATE crash_ack');
	foreach my $number (1 .. $clients)
	{
		$node->safe_psql('crm', "COPY crash_ack FROM '$logs/acks_${round}_$number'");
	}
	my $acks = $node->safe_psql('crm', 'SELECT count(*) FROM crash_ack');
	note("round $round: $acks operations acknowledged");
	cmp_ok($node->safe_psql('crm', "SELECT count(*) FROM crash_ack AS a JOIN crm_data.operation AS o ON o.op_id = a.op WHERE o.endpoint = 'sql'"), '>', 20, "round $round: some of them by SQL through a view");
	cmp_ok($acks, '>', 200, "round $round: the clients got something done");
	return $node->safe_psql('crm', slurp_file(dirname(__FILE__) . "/long_crash.sql"));
}

$node->safe_psql('crm', <<SQL);
INSERT INTO crm_data.account (code, name) SELECT 'CRASH-' || g, 'customer ' || g FROM generate_series(1, $accounts) AS g;
CREATE FUNCTION crash_id(n int) RETURNS bigint LANGUAGE sql STABLE AS \$\$ SELECT id FROM crm_data.account WHERE code = 'CRASH-' || n \$\$;
CREATE TABLE crash_ack (op uuid, account int, field text, value text, invoked float8, acknowledged float8, state text, op_seq bigint, version int);
SQL

my $problems = round(1, [ 'backend', 'server', 'backend', 'server', 'server' ]);
is($problems, '', 'every acknowledged operation is there, in order, and its value in the history or in a conflict; versions and numbers have no gaps; the chains verify');

$node->append_conf('postgresql.conf', "synchronous_commit = off\nwal_writer_delay = 10s\nwal_writer_flush_after = 0\n");
$node->restart;
$seconds = 12;
$problems = round(2, [ 'server', 'server' ]);
isnt($problems, '', 'positive control: without a flush at commit the checker finds losses');
note($problems);
done_testing();
