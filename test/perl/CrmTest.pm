# Helpers of the TAP tests: a server like the ones people have, with the extension of this checkout, and ways to compare databases.
package CrmTest;

use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(normal_dump new_server install_crm fill fails_with contents schema_of whole_dump same_text run_ok run_fails attack);

# new_server(name, init options): an initialised and started server in UTF8. conf => [lines] adds settings.
sub new_server
{
	my ($name, %opt) = @_;
	my $conf = delete $opt{conf} // [];
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ], %opt);
	$node->append_conf('postgresql.conf', join("\n", 'max_prepared_transactions = 10', 'jit = off', @$conf) . "\n");
	$node->start;
	return $node;
}

# install_crm(node, database): the extension and its schema; makes the database when it is missing
sub install_crm
{
	my ($node, $db) = @_;
	(my $literal = $db) =~ s/'/''/g;
	(my $name = $db) =~ s/"/""/g;
	$node->safe_psql('postgres', qq{CREATE DATABASE "$name"})
	  if $node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = '$literal'") eq '0';
	$node->safe_psql($db, 'CREATE EXTENSION crm');
	$node->safe_psql($db, 'SET client_min_messages = warning; CALL crm.migrate()');
	return;
}

# fill(node, database): a generated company, and customers of our own in two languages, of four people in two teams
sub fill
{
	my ($node, $db) = @_;
	$node->safe_psql($db, <<'SQL');
SET client_min_messages = warning;
SELECT count(*) FROM crm.demo_data(50, 1, date '2026-01-31');
INSERT INTO crm_data.team (code, name) VALUES ('t-north', '华北'), ('t-south', 'South');
INSERT INTO crm_data.member (role_name, employee_no, full_name, team_id)
SELECT 'person' || n, 'T' || n, CASE n % 2 WHEN 0 THEN '王' ELSE 'Ann ' END || n, (SELECT id FROM crm_data.team WHERE code = CASE n % 2 WHEN 0 THEN 't-north' ELSE 't-south' END)
  FROM generate_series(1, 4) AS n;
INSERT INTO crm_data.account (code, name, phone, owner_id, team_id)
SELECT 'T' || n, CASE n % 2 WHEN 0 THEN '北京第' || n || '贸易有限公司' ELSE 'Company ' || n || E' "quoted", \\slash\ttab' END, '1380013' || lpad(n::text, 4, '0'), m.id, m.team_id
  FROM generate_series(1, 40) AS n JOIN crm_data.member AS m ON m.employee_no = 'T' || (n % 4 + 1);
INSERT INTO crm_data.contact (account_id, name) SELECT id, 'contact of ' || code FROM crm_data.account;
UPDATE crm_data.account SET region = 'changed' WHERE code IN ('T1', 'T2');
SQL
	return;
}

# fails_with(node, database, sql, SQLSTATE, text, what, psql options): the statement fails with this code, and its message or hint has the text
sub fails_with
{
	my ($node, $db, $sql, $code, $text, $what, @options) = @_;
	my ($out, $err) = ('', '');
	my $rc = $node->psql($db, "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err, on_error_stop => 1, @options);
	my $good = $rc != 0 && $err =~ /\b$code\b/ && $err =~ $text;
	ok($good, $what) or diag("exit code $rc, error: $err");
	return $good;
}

# attack(node, database, what): the regress test of the attacks, on a server that came about in another way or is reached so; port: its own, or a pooler's
sub attack
{
	my ($node, $db, $what, $host, $port) = @_;
	my $dir = $node->basedir . '/attack';
	mkdir $dir;
	my ($out, $good) = ('', 0);
	$good = IPC::Run::run([ $ENV{PG_REGRESS}, '--use-existing', "--dbname=$db", '--host=' . ($host // $node->host), '--port=' . ($port // $node->port), "--inputdir=$ENV{TESTDIR}", "--outputdir=$dir", 'access_attack' ], '>', \$out, '2>&1');
	ok($good, $what) or diag($out, -e "$dir/regression.diffs" ? slurp_file("$dir/regression.diffs") : '');
	return $good;
}

# contents(node, database, kinds): every table of crm_data with the number and a digest of its rows, every sequence with its position.
# kinds: persistence of the tables, by default permanent and unlogged.
sub contents
{
	my ($node, $db, $kinds) = @_;
	return $node->safe_psql($db, "\\set kinds " . ($kinds // 'pu') . "\n" . <<'SQL');
SET TimeZone = 'UTC';
SELECT c.relname, (pg_catalog.xpath('/row/h/text()', pg_catalog.query_to_xml(pg_catalog.format(
           $q$SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\n' ORDER BY t::text COLLATE "C")), '') AS h FROM crm_data.%I AS t$q$, c.relname), false, true, '')))[1]
  FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'm') AND strpos(:'kinds', c.relpersistence) > 0 ORDER BY 1;
SELECT sequencename, last_value FROM pg_catalog.pg_sequences WHERE schemaname = 'crm_data' ORDER BY 1;
SQL
}

# what a dump says beside the objects themselves is different every time
sub normal_dump
{
	my ($text) = @_;
	$text =~ s/^\\(un)?restrict .*\n//mg;
	$text =~ s/^-- (Dumped|Started|Completed) .*\n//mg;
	return $text;
}

# whole_dump(node, database, options): the text of pg_dump as the superuser, without what is different every time
sub whole_dump
{
	my ($node, $db, @options) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ 'pg_dump', @options, '-d', $node->connstr($db) ], '>', \$out, '2>', \$err);
	die "pg_dump failed: $err" unless $ok;
	return normal_dump($out);
}

# schema_of(node, database): all objects, as pg_dump writes them
sub schema_of
{
	my ($node, $db) = @_;
	return whole_dump($node, $db, '--schema-only');
}

# same_text(got, expected, what): equal, or the first lines that are not
sub same_text
{
	my ($got, $expected, $what) = @_;
	# (a, b) IS DISTINCT FROM (c, d) in a trigger is written as OR in one nesting, and read again in another
	s/^(CREATE TRIGGER .*)$/my $line = $1; $line =~ tr{()}{}d; $line/mge foreach ($got, $expected);
	# rows have no order
	s/^(COPY [^\n]* FROM stdin;\n)(.*?)^(\\\.\n)/$1 . join('', sort split(m{^}m, $2)) . $3/gmse foreach ($got, $expected);
	my $good = $got eq $expected;
	ok($good, $what) or do
	{
		my @got = split /\n/, $got;
		my @expected = split /\n/, $expected;
		my $i = 0;
		$i++ while $i < @got && $i < @expected && $got[$i] eq $expected[$i];
		diag("first difference in line " . ($i + 1) . ":");
		diag("  got      " . ($_ < @got ? $got[$_] : '(end)')) for $i .. $i + 4;
		diag("  expected " . ($_ < @expected ? $expected[$_] : '(end)')) for $i .. $i + 4;
	};
	return $good;
}

# run_ok(what, command ...) and run_fails(what, text, command ...): programs, with their messages shown when it is otherwise
sub run_ok
{
	my ($what, @command) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '<', \'', '>', \$out, '2>', \$err);
	ok($ok, $what) or diag("@command\n$out\n$err");
	return $ok;
}

sub run_fails
{
	my ($what, $text, @command) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '<', \'', '>', \$out, '2>', \$err);
	ok(!$ok && $err =~ $text, $what) or diag("@command\n" . ($ok ? 'succeeded' : $err));
	return;
}

1;
