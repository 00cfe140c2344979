# A right that is taken away on one server is taken away on its copies, in sessions that are open there: on a streaming standby, and on a server that
# gets the access profiles by logical replication, whose apply worker fires no statement trigger.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $company = <<'SQL';
SET client_min_messages = warning;
CREATE ROLE clerk LOGIN IN ROLE crm_finance;
CREATE ROLE pool LOGIN IN ROLE crm_pool;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('clerk', 'clerk');
INSERT INTO crm_data.account (code, name, annual_revenue) VALUES ('A', 'Account', 1000);
SQL
my $primary = new_server('first', allows_streaming => 'logical');
install_crm($primary, 'crm');
$primary->safe_psql('crm', $company);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my $subscriber = new_server('second', allows_streaming => 'logical');
install_crm($subscriber, 'crm');
$subscriber->safe_psql('crm', $company);
$primary->safe_psql('crm', 'CREATE PUBLICATION access FOR TABLE crm_data.access_profile');
# The owner of the tables is subject to their row security, and into such a table nothing is replicated as its owner, which is what newer servers do.
my $as = $subscriber->safe_psql('crm', 'SHOW server_version_num') >= 160000 ? ', run_as_owner = true' : '';
$subscriber->safe_psql('crm', "CREATE SUBSCRIPTION access CONNECTION '" . $primary->connstr . " dbname=crm' PUBLICATION access WITH (copy_data = false$as)");
$primary->wait_for_catchup('access');

sub session
{
	my ($node, $user) = @_;
	my %s = (in => '', out => '', n => 0);
	$s{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('crm') . " user=$user" ], '<', \$s{in}, '>', \$s{out}, '2>&1');
	return \%s;
}
sub ask
{
	my ($s, $sql) = @_;
	my $mark = 'done ' . ++$s->{n};
	$s->{out} = '';
	$s->{in} .= "$sql;\n\\echo $mark\n";
	$s->{run}->pump until $s->{out} =~ /^\Q$mark\E$/m;
	(my $answer = $s->{out}) =~ s/\n?^\Q$mark\E\n//m;
	return $answer;
}

my %open = map { $_->name => session($_, 'clerk') } ($standby, $subscriber);
foreach my $name (sort keys %open)
{
	ask($open{$name}, "PREPARE s AS SELECT count(*), sum(annual_revenue) FROM crm.account");
	is(ask($open{$name}, 'EXECUTE s'), '1|1000.00', "$name: the clerk sees the revenue") for 1 .. 7;
}
$primary->safe_psql('crm', "UPDATE crm_data.access_profile SET read_fields = ARRAY(SELECT translate(f, 'ao', 'nn') FROM unnest(read_fields) WITH ORDINALITY AS u (f, n) ORDER BY n) WHERE role_name = 'crm_finance'");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
$primary->wait_for_catchup('access');
is(ask($open{$_}, 'EXECUTE s'), '1|', "$_: the kept plan follows a policy of the other server") foreach sort keys %open;
$primary->safe_psql('crm', 'TRUNCATE crm_data.access_profile');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
$primary->wait_for_catchup('access');
is(ask($open{$_}, 'EXECUTE s'), '0|', "$_: and a TRUNCATE there") foreach sort keys %open;
$primary->safe_psql('crm', 'SELECT crm._compile_access()');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
$primary->wait_for_catchup('access');
is(ask($open{$_}, 'EXECUTE s'), '1|1000.00', "$_: and the way back") foreach sort keys %open;
$primary->safe_psql('crm', 'REVOKE crm_finance FROM clerk');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
like(ask($open{standby}, 'EXECUTE s'), qr/permission denied/, 'standby: and a membership');

# a token of the first server opens the standby, but not another database
my $token = $primary->safe_psql('crm', "SELECT crm.mint_token(id) FROM crm_data.member WHERE role_name = 'clerk'");
$primary->safe_psql('crm', 'GRANT crm_finance TO clerk');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
is($standby->safe_psql('crm', "BEGIN; SELECT crm.login('$token') > 0; SELECT count(*) FROM crm.account; COMMIT", extra_params => [ '-U', 'pool' ]), "t\n1", 'the standby takes the token');
fails_with($subscriber, 'crm', "SELECT crm.login('$token')", 'RM102', qr/signature|another database/, 'another server does not', extra_params => [ '-U', 'pool' ]);
foreach my $s (values %open)
{
	$s->{in} .= "\\q\n";
	$s->{run}->finish;
}
$subscriber->safe_psql('crm', 'DROP SUBSCRIPTION access');

# A subscriber that has its members, teams and profiles from the first server alone: nobody has a right before they came.
my $third = new_server('third', allows_streaming => 'logical');
install_crm($third, 'crm');
$third->safe_psql('crm', 'TRUNCATE crm_data.access_profile');
$third->safe_psql('crm', 'SET client_min_messages = warning; CREATE ROLE clerk LOGIN IN ROLE crm_finance');
is($third->safe_psql('crm', 'SELECT count(*) FROM crm.account', extra_params => [ '-U', 'clerk' ]), '0', 'a subscriber without profiles: nobody reads a row');
my @history = map { "crm_data.$_" } split /\n/, $primary->safe_psql('crm', "SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^change_'");
# the history has no key, and an erasure changes it
$primary->safe_psql('crm', "ALTER TABLE $_ REPLICA IDENTITY FULL") foreach @history;
$primary->safe_psql('crm', 'CREATE PUBLICATION whole FOR TABLE ' . join(', ', map { "crm_data.$_" } qw(access_profile member team account contact change)));
$third->safe_psql('crm', "CREATE SUBSCRIPTION whole CONNECTION '" . $primary->connstr . " dbname=crm' PUBLICATION whole WITH (copy_data = true$as)");
$third->wait_for_subscription_sync($primary, 'whole', 'crm');
is($third->safe_psql('crm', 'SELECT count(*), sum(annual_revenue) FROM crm.account', extra_params => [ '-U', 'clerk' ]), '1|1000.00', 'the first copy of the tables brings the rights');

# rows arrive as they are: their versions, hashes and history are the first server's, which alone may erase
my $rows = "SELECT row_to_json(a) FROM crm_data.account AS a ORDER BY id; SELECT row_to_json(c) FROM crm_data.contact AS c ORDER BY id; SELECT row_to_json(h) FROM crm_data.change AS h ORDER BY object, record_id, version";
sub same_rows
{
	my ($what) = @_;
	$primary->wait_for_catchup('whole');
	is($third->safe_psql('crm', $rows), $primary->safe_psql('crm', $rows), "$what: the same rows and history");
	is($third->safe_psql('crm', "SELECT problem FROM crm.verify_history()"), '', "$what: the chain holds on the subscriber");
	return;
}
$primary->safe_psql('crm', "UPDATE crm_data.account SET annual_revenue = 2000; INSERT INTO crm_data.account (code, name) VALUES ('B', 'Other'); INSERT INTO crm_data.contact (account_id, name, phone) SELECT id, 'Person', '13800138000' FROM crm_data.account WHERE code = 'A'");
same_rows('insert and update');
$primary->safe_psql('crm', "SELECT crm.forget(id, 'asked for it') FROM crm_data.contact");
same_rows('an erasure');
$primary->safe_psql('crm', "BEGIN; SELECT crm._engine_write('erase'); DELETE FROM crm_data.contact; SELECT crm._engine_write('none'); COMMIT");
same_rows('a delete');
# a role that applies changes is no way around them for anybody else
fails_with($third, 'crm', "SET session_replication_role = replica; UPDATE crm_data.change SET note = 'x'", 'RM201', qr/change/, 'a session that says it is a replica is not believed');

# (sequences are not replicated)
$third->safe_psql('crm', "SELECT setval(format('crm_data.%s_id_seq', t)::regclass, 1000) FROM unnest('{member,team,account,contact}'::text[]) AS t");
attack($third, 'crm', 'the attacks find nothing after logical replication of the policy tables');
$third->safe_psql('crm', 'DROP SUBSCRIPTION whole');
done_testing();
