# Through PgBouncer in transaction mode sessions are shared: what one client does to its session must not give the next one rights or rows of
# somebody else.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my ($bouncer) = grep { -x $_ } map { "$_/pgbouncer" } (split(/:/, $ENV{PATH}), '/usr/sbin');
plan skip_all => 'pgbouncer is not installed' unless $bouncer;

my $node = new_server('pooled', conf => [ "listen_addresses = '127.0.0.1'" ]);
install_crm($node, 'crm');
fill($node, 'crm');
$node->safe_psql('crm', <<'SQL');
CREATE ROLE person1 LOGIN;
GRANT crm_sales TO person1;
CREATE ROLE person2 LOGIN;
GRANT crm_finance TO person2;
CREATE ROLE app LOGIN NOINHERIT;
GRANT person1, person2 TO app;
SQL

my $dir = $node->basedir . '/pooler';
mkdir $dir;
my $port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/users", join('', map { qq{"$_" ""\n} } ('app', 'person1', 'person2', $node->safe_psql('postgres', 'SELECT current_user'))));
append_to_file("$dir/ini", <<INI);
[databases]
crm = host=@{[ $node->host ]} port=@{[ $node->port ]} dbname=crm
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = trust
auth_file = $dir/users
pool_mode = transaction
default_pool_size = 1
max_client_conn = 50
logfile = $dir/log
pidfile = $dir/pid
ignore_startup_parameters = extra_float_digits,options
INI
run_ok('PgBouncer starts', $bouncer, '-q', '-d', "$dir/ini");

my $pooled = sub {
	my ($user, $sql) = @_;
	my ($out, $err) = ('', '');
	for (1 .. 50)
	{
		my $ok = IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', "host=127.0.0.1 port=$port dbname=crm user=$user" ], '<', \$sql, '>', \$out, '2>', \$err);
		last if $ok || $err !~ /Connection refused/;
		select(undef, undef, undef, 0.1);
	}
	chomp $out;
	chomp $err;
	# a row without columns is an empty line
	$out =~ s/\A\n+//;
	return $err eq '' ? $out : "error: $err";
};
my $direct = sub {
	my ($user, $sql) = @_;
	return $node->safe_psql('crm', $sql, extra_params => [ '-U', $user ]);
};

# clients of one login role share one session of the server: a role taken for a transaction ends with it
my $count = 'SELECT count(*), md5(coalesce(string_agg(a::text, E\'\n\' ORDER BY id), \'\')) FROM crm.account AS a';
my %own = map { $_ => $direct->($_, $count) } ('person1', 'person2');
for my $turn (1 .. 3)
{
	foreach my $person ('person1', 'person2')
	{
		is($pooled->('app', "BEGIN; SET LOCAL ROLE $person; $count; COMMIT"), $own{$person}, "$person sees through the pool what $person sees, turn $turn");
	}
	like($pooled->('app', $count), qr/permission denied/, 'the shared login itself sees nothing');
}
isnt($own{person1}, $own{person2}, 'the two see different things');

# what fails or is left behind in one transaction is not there in the next
$pooled->('app', "BEGIN; SET LOCAL ROLE person1; SELECT 1/0; COMMIT");
is($pooled->('app', 'SELECT current_user'), 'app', 'the role is gone after an error');
like($pooled->('app', $count), qr/permission denied/, 'and so are its rights');

# many clients at once, each transaction as one person or the other
my $script = "$dir/script";
append_to_file($script, <<'SQL');
BEGIN;
\set one random(1, 2)
\if :one = 1
SET LOCAL ROLE person1;
SELECT count(*) = :expected1 AS same FROM crm.account \gset
\else
SET LOCAL ROLE person2;
SELECT count(*) = :expected2 AS same FROM crm.account \gset
\endif
COMMIT;
SELECT 1 / CASE WHEN ':same' = 't' THEN 1 ELSE 0 END;
SQL
my ($one) = split /\|/, $own{person1};
my ($two) = split /\|/, $own{person2};
run_ok('sixteen clients on one session', 'pgbench', '-n', '-M', 'simple', '-c', '16', '-t', '40', '-D', "expected1=$one", '-D', "expected2=$two", '-f', $script,
	'-h', '127.0.0.1', '-p', $port, '-U', 'app', 'crm');

# the same with signed tokens: the shared login has no role of a person at all
$node->safe_psql('crm', 'CREATE ROLE tokens LOGIN IN ROLE crm_pool');
append_to_file("$dir/users", qq{"tokens" ""\n});
kill 'HUP', slurp_file("$dir/pid");
my %token = map { $_ => $node->safe_psql('crm', "SELECT crm.mint_token(id) FROM crm_data.member WHERE role_name = '$_'") } ('person1', 'person2');
for my $turn (1 .. 3)
{
	foreach my $person ('person1', 'person2')
	{
		is($pooled->('tokens', "BEGIN; SELECT FROM (SELECT crm.login('$token{$person}')) AS l; $count; COMMIT"), $own{$person}, "$person by token sees what $person sees, turn $turn");
	}
	like($pooled->('tokens', $count), qr/^0\|/, 'and without a token the login sees nothing');
}

attack($node, 'crm', 'the attacks find nothing through the pool', '127.0.0.1', $port);
kill 'INT', slurp_file("$dir/pid");
done_testing();
