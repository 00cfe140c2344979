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
$subscriber->safe_psql('crm', "CREATE SUBSCRIPTION access CONNECTION '" . $primary->connstr . " dbname=crm' PUBLICATION access WITH (copy_data = false)");
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
done_testing();
