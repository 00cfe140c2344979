# Access with real logins and several sessions: forged identities, and plans kept in one session while another takes a right away. Once with the
# library preloaded and once without: safety must not depend on it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $node = new_server('access');
install_crm($node, 'crm');
$node->safe_psql('crm', <<'SQL');
SET client_min_messages = warning;
CREATE ROLE rep LOGIN IN ROLE crm_sales;
CREATE ROLE clerk LOGIN IN ROLE crm_finance;
CREATE ROLE agent LOGIN IN ROLE crm_service;
CREATE ROLE pool LOGIN IN ROLE crm_pool;
CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('rep', 'rep'), ('clerk', 'clerk'), ('agent', 'agent');
INSERT INTO crm_data.account (code, name, phone, annual_revenue, owner_id)
SELECT 'A' || n, 'Account ' || n, '1380013800' || n, 1000 * n, CASE WHEN n < 3 THEN (SELECT id FROM crm_data.member WHERE role_name = 'rep') END FROM generate_series(1, 5) AS n;
SQL

# a psql that stays: ask(session, sql) answers its output and errors
sub session
{
	my ($user, %env) = @_;
	my %s = (in => '', out => '', n => 0);
	local %ENV = (%ENV, %env);
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
sub end { $_[0]->{in} .= "\\q\n"; $_[0]->{run}->finish; return; }

my $sum = 'SELECT count(*), sum(annual_revenue) FROM crm.account';
foreach my $preload ('', 'crm')
{
	my $how = $preload ? 'preloaded' : 'loaded when needed';
	$node->safe_psql('crm', $preload ? "ALTER DATABASE crm SET session_preload_libraries = 'crm'" : 'ALTER DATABASE crm RESET session_preload_libraries');

	my $clerk = session('clerk');
	ask($clerk, "PREPARE s AS $sum");
	is(ask($clerk, 'EXECUTE s'), '5|15000.00', "$how: the clerk sees the revenue") for 1 .. 7;
	# another session takes the field away, then the role
	$node->safe_psql('crm', <<'SQL');
BEGIN;
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'field_policy' AND key = 'crm_finance' AND status = 'active';
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver)
SELECT kind, key, max(version) + 1, (SELECT jsonb_set(body, '{read,fields,account.annual_revenue}', '"never"') FROM crm_data.config WHERE kind = 'field_policy' AND key = 'crm_finance' AND version = 1), 'active', 'a', 'b'
  FROM crm_data.config WHERE kind = 'field_policy' AND key = 'crm_finance' GROUP BY kind, key;
COMMIT;
SQL
	is(ask($clerk, 'EXECUTE s'), '5|', "$how: a kept plan follows a policy");
	ask($clerk, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$node->safe_psql('crm', <<'SQL');
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'field_policy' AND key = 'crm_finance' AND status = 'active';
UPDATE crm_data.config SET status = 'active', approver = 'b' WHERE kind = 'field_policy' AND key = 'crm_finance' AND version = 1;
SQL
	is(ask($clerk, 'EXECUTE s'), '5|15000.00', "$how: also within a snapshot that is older");
	ask($clerk, 'COMMIT');
	$node->safe_psql('crm', 'REVOKE crm_finance FROM clerk');
	like(ask($clerk, 'EXECUTE s'), qr/permission denied/, "$how: a kept plan follows a membership");
	$node->safe_psql('crm', 'GRANT crm_finance TO clerk; GRANT crm_service TO clerk');
	is(ask($clerk, 'EXECUTE s'), '5|15000.00', "$how: a second role that says nothing about a field does not forbid it");
	$node->safe_psql('crm', 'REVOKE crm_service FROM clerk');
	is(ask($clerk, 'EXECUTE s'), '5|15000.00', "$how: and the right is back");
	# the person leaves
	$node->safe_psql('crm', "UPDATE crm_data.member SET left_at = current_date WHERE role_name = 'clerk'");
	is(ask($clerk, 'EXECUTE s'), '0|', "$how: whoever left sees nothing in the session that is still open");
	$node->safe_psql('crm', "UPDATE crm_data.member SET left_at = NULL WHERE role_name = 'clerk'");
	# the tables are emptied by TRUNCATE, which fires no row trigger
	my $kept = $node->safe_psql('crm', 'SELECT count(*) FROM crm_data.access_profile');
	$node->safe_psql('crm', 'TRUNCATE crm_data.access_profile');
	is(ask($clerk, 'EXECUTE s'), '0|', "$how: no profiles, no rights");
	is($node->safe_psql('crm', 'SELECT crm._compile_access()'), $kept, "$how: compiled again");
	is(ask($clerk, 'EXECUTE s'), '5|15000.00', "$how: and read again");
	end($clerk);

	# identities that nobody gave
	foreach my $try ("SET crm.identity = 'member 1'", "SELECT set_config('crm.identity', 'member 1', false)")
	{
		my $s = session('pool');
		ask($s, $try);
		unlike(ask($s, "$sum; SELECT 'me', crm.me()"), qr/^[1-9]|^me\|[0-9]/m, "$how: not forged by $try");
		end($s);
	}
	my $s = session('pool', PGOPTIONS => "-c crm.identity=member\\ 1");
	unlike(ask($s, "$sum; SELECT 'me', crm.me()"), qr/^[1-9]|^me\|[0-9]/m, "$how: not forged by PGOPTIONS");
	end($s);
	fails_with($node, 'crm', "SELECT crm.me(); ALTER ROLE pool SET crm.identity = 'member 1'", '42501', qr/permission denied/, "$how: not forged by ALTER ROLE", extra_params => [ '-U', 'pool' ]);

	# tokens, one session for many people
	my %token = map { $_ => $node->safe_psql('crm', "SELECT crm.mint_token(id) FROM crm_data.member WHERE role_name = '$_'") } ('rep', 'clerk', 'agent');
	my $pool = session('pool');
	ask($pool, "PREPARE s AS $sum");
	for my $turn (1 .. 7)
	{
		is(ask($pool, "BEGIN; SELECT 'in' FROM (SELECT crm.login('$token{rep}')) AS l; EXECUTE s; COMMIT"), "in\n2|3000.00", "$how: the pool acts for the rep, turn $turn");
		is(ask($pool, "BEGIN; SELECT 'in' FROM (SELECT crm.login('$token{agent}')) AS l; EXECUTE s; COMMIT"), "in\n5|", "$how: then for the agent, turn $turn");
	}
	my $nobody = ask($pool, 'EXECUTE s');
	ok($nobody eq '0|' || $nobody =~ /other access rights/, "$how: and for nobody without a token") or diag($nobody);
	is(ask($pool, 'EXECUTE s'), '0|', "$how: at the latest at the second try");
	# whoever shares the login reads its sessions' statements, but no token
	like(ask($pool, "SELECT 'in' FROM (SELECT crm.login('$token{rep}')) AS l"), qr/^in$/, "$how: a token in the text of a statement");
	is($node->safe_psql('crm', "SELECT query FROM pg_stat_activity WHERE usename = 'pool'"), 'SELECT crm.login(...)', "$how: is not in pg_stat_activity");
	end($pool);

	# what the server prints of its work for whoever asks: his own plans, not those of the engine, which hold the record with all its fields
	my ($out, $err) = ('', '');
	$node->psql('crm', <<'SQL', stdout => \$out, stderr => \$err, extra_params => [ '-U', 'agent' ]);
SET client_min_messages = log;
SET debug_print_parse = on;
SET debug_print_rewritten = on;
SET debug_print_plan = on;
SELECT count(*) FROM crm.form_spec('account', 5);
SELECT crm.write('account', 5, '00000000-0000-4000-8000-000000000005', 'web', 1, '{"complaint_tags": ["x"]}') IS NOT NULL;
SELECT count(*) FROM crm.history('account', 5);
SELECT count(*) FROM crm.check_duplicate('account', '{"phone": "13800138004"}');
SELECT account_id FROM crm.service_card WHERE account_id = 5;
SQL
	s/\s+/ /g foreach ($err);
	like($err, qr/LOG: plan:.*LOG: plan:/, "$how: a person sees the trees of his own statements");
	my $phone = join ' ', map { ord } split //, '13800138005';
	unlike($err, qr/$phone/, "$how: and no constant that is the engine's");
}

# the ways past the views
foreach my $sql ('TABLE crm_data.account', 'COPY crm_data.account TO STDOUT', 'SELECT * FROM crm_data.secret', 'SET ROLE crm_owner', 'SET ROLE crm_gate', 'SET SESSION AUTHORIZATION postgres',
	"ALTER ROLE rep SUPERUSER", 'CREATE TABLE crm.x (i int)', "SELECT pg_read_file('/etc/passwd')", 'EXPLAIN ANALYZE SELECT * FROM crm.account', "SELECT lo_import('/etc/passwd')",
	'SET row_security = off; SELECT count(*) FROM crm.account')
{
	my ($out, $err) = ('', '');
	my $rc = $node->psql('crm', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1, extra_params => [ '-U', 'rep' ]);
	ok($rc != 0 && $out eq '' && $err =~ /permission denied|must be|query would be affected/, "refused: $sql") or diag("$out $err");
}
is($node->safe_psql('crm', 'SELECT count(*) FROM crm_data.account', extra_params => [ '-U', 'reader' ]), '0', 'a role that reads all tables reads no row');
run_fails('a person cannot dump', qr/permission denied/, 'pg_dump', '-U', 'rep', '-d', $node->connstr('crm'));

# nobody hears of rows by notifications, and parallel workers know the person
is($node->safe_psql('crm', <<'SQL', extra_params => [ '-U', 'rep' ]), '2', 'a parallel plan shows the same');
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
SELECT count(*) FROM crm.account WHERE length(name) > 0;
SQL

done_testing();
