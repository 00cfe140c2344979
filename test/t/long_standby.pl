# A streaming standby answers as the primary does, to the same people, and refuses writes; after promotion it goes on as a primary.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $primary = new_server('primary', allows_streaming => 1);
install_crm($primary, 'crm');
fill($primary, 'crm');
$primary->safe_psql('crm', <<'SQL');
CREATE ROLE person1 LOGIN;
GRANT crm_sales TO person1;
CREATE ROLE robot LOGIN;
GRANT crm_backup TO robot;
SQL
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# rows that come after the base backup
$primary->safe_psql('crm', "UPDATE crm_data.account SET region = 'later' WHERE code = 'T7'");
my $lsn = $primary->lsn('write');
$primary->wait_for_catchup($standby, 'replay', $lsn);
is($standby->safe_psql('crm', 'SELECT pg_is_in_recovery()'), 't', 'the standby is one');
# a sequence's position is ahead of itself on a standby, by design of the WAL
my ($there, $here) = (contents($standby, 'crm', 'p'), contents($primary, 'crm', 'p'));
s/^\w+_seq\|.*\n?//mg foreach ($there, $here);
same_text($there, $here, 'it has every row');

# everything that can be read as a person reads the same on both
my $views = $primary->safe_psql('crm', q{SELECT string_agg(format('%I.%I', 'crm', c.relname), ' ' ORDER BY c.relname) FROM pg_class AS c
	WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'v' AND has_table_privilege('person1', c.oid, 'SELECT')});
my @views = split / /, $views;
my ($seen, $different) = (0, '');
foreach my $view (@views)
{
	my $sql = "SELECT md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\"), '')), count(*) FROM $view AS t";
	my @answers;
	foreach my $node ($primary, $standby)
	{
		my ($out, $err) = ('', '');
		my $rc = $node->psql('crm', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', 'person1' ]);
		$err =~ s/\A.*?ERROR:/ERROR:/s;
		push @answers, "$rc $out $err";
	}
	$seen++;
	$different .= "$view:\n  primary $answers[0]\n  standby $answers[1]\n" if $answers[0] ne $answers[1];
}
is($different, '', "a person reads the same on both through $seen views");
is($standby->safe_psql('crm', 'SELECT crm.version()'), $primary->safe_psql('crm', 'SELECT crm.version()'), 'functions answer');

# the attacks that only read find on the standby what they find on the primary, and there a test says that it is nothing
{
	my @lines = grep { !/^--/ } split /\n/, slurp_file("$ENV{TESTDIR}/sql/access_attack.sql");
	my ($first) = grep { $lines[$_] eq 'SET ROLE attack_rep;' } 0 .. $#lines;
	my ($last) = grep { $lines[$_] eq 'ROLLBACK;' } 0 .. $#lines;
	my $tools = join "\n", grep { /^CREATE (FUNCTION (leak|told)|OPERATOR|DOMAIN|VIEW attack|FUNCTION attack)|^GRANT SELECT ON attack/ } @lines;
	$primary->safe_psql('crm', join("\n", grep { !/^\\|^BEGIN|^SET LOCAL/ } @lines[ 0 .. $first - 1 ]) . "\nSET search_path = attack, crm, pg_catalog;\n$tools") or 1;
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
	my $hidden = $primary->safe_psql('crm', "SELECT id FROM crm_data.account WHERE code = 'ATTACK-2'");
	my @reads = grep { /^(SELECT|WITH|TABLE|COPY|SET ROLE attack_(rep|agent|reader)|SET search_path = attack|(RE)?SET row_security)/ && !/\\gset|FROM STDIN|COPY \(UPDATE|_engine_write|FOR UPDATE|restore|crm\.(reveal|harden|locks|preview_as)|stolen|pg_temp|his_own/ } @lines[ $first .. $last ];
	s/:'?hidden'?/$hidden/g foreach @reads;
	my $script = "\\set VERBOSITY terse\nSET client_min_messages = notice;\n" . join("\n", @reads);
	my @answers;
	foreach my $node ($primary, $standby)
	{
		my ($out, $err) = ('', '');
		$node->psql('crm', $script, stdout => \$out, stderr => \$err, on_error_stop => 0, on_error_die => 0);
		$err =~ s/^psql:<stdin>:\d+: //mg;
		push @answers, "$out\n$err";
	}
	same_text($answers[1], $answers[0], scalar(@reads) . ' attacks that read find the same on both');
	# (the mask of a telephone number is seen)
	$answers[1] =~ s/LEAK 138\*{4}7777//g;
	unlike($answers[1], qr/LEAK|SECRET|13866667777/, 'and nothing that is hidden');
}
fails_with($standby, 'crm', 'CALL crm.migrate()', '25006', qr/read-only/, 'migrate is refused on a standby');
fails_with($standby, 'crm', "UPDATE crm_data.account SET region = 'x'", '25006', qr/read-only/, 'and so is a write');
$standby->safe_psql('crm', "CALL crm.$_()") foreach ('tick', 'run_jobs', 'maintenance');
pass('the clock stands still on a standby, without an error');
run_ok('a dump can be taken from the standby', 'pg_dump', '-f', '/dev/null', '-U', 'robot', '--role=crm_backup', '-d', $standby->connstr('crm'));

$standby->promote;
$standby->safe_psql('crm', "UPDATE crm_data.account SET region = 'after' WHERE code = 'T8'");
is($standby->safe_psql('crm', "SELECT region FROM crm_data.account WHERE code = 'T8'"), 'after', 'after promotion it takes writes');
$standby->safe_psql('crm', 'SET client_min_messages = warning; CALL crm.migrate()');
pass('and migrates');

done_testing();
