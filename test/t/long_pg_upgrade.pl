# pg_upgrade from PostgreSQL 15 keeps everything: rows, views, policies, triggers, rights. CRM_OLD_BINDIR names the programs of the old server, which must
# have crm; without it the server of Debian 12 is looked for.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my ($new_major) = `postgres --version` =~ /(\d+)/;
my $old_bin = $ENV{CRM_OLD_BINDIR} // '';
plan skip_all => "pg_upgrade needs a second server with crm: CRM_OLD_BINDIR is not set" if $old_bin eq '' || !-x "$old_bin/postgres";
my ($old_major) = `$old_bin/postgres --version` =~ /(\d+)/;
plan skip_all => "the other server is PostgreSQL $old_major, this one $new_major" if $old_major >= $new_major;

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $old_data = "$dir/old";
my $port = PostgreSQL::Test::Cluster::get_free_port();
run_ok("a cluster of PostgreSQL $old_major", "$old_bin/initdb", '-D', $old_data, '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '-N', '-U', 'postgres');
append_to_file("$old_data/postgresql.conf", "port = $port\nlisten_addresses = ''\nunix_socket_directories = '$dir'\nmax_prepared_transactions = 10\n");
run_ok('it starts', "$old_bin/pg_ctl", '-D', $old_data, '-l', "$dir/log", '-w', 'start');

# the old server, as the helpers know one
my $old = bless { port => $port, host => $dir }, 'OldServer';
install_crm($old, 'crm');
fill($old, 'crm');
$old->safe_psql('crm', 'CREATE ROLE person1 LOGIN; GRANT crm_sales TO person1; ALTER TABLE crm_data.account ADD COLUMN ours text; CREATE INDEX ours ON crm_data.account (ours)');
my $rows = contents($old, 'crm');
my $dumped = whole_dump($old, 'crm');
my $attver = "SELECT count(*) > 0 FROM pg_attribute WHERE attoptions::text LIKE '%pg_attver%'";
my $has_attver = $old->safe_psql('postgres', $attver);
run_ok('it stops', "$old_bin/pg_ctl", '-D', $old_data, '-w', '-m', 'fast', 'stop');

my $new = PostgreSQL::Test::Cluster->new('new');
# a cluster of 18 has checksums by default, one of 15 has not
my @checksums = $new_major >= 18 ? ('--no-data-checksums') : ();
$new->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8', '--username=postgres', @checksums ]);
# Releases from November 2026 on mark the columns of views; the others do not know the mark, and pg_upgrade fails on any view.
if ($has_attver eq 't')
{
	$new->start;
	my $knows = $new->safe_psql('postgres', $attver);
	my $version = $new->safe_psql('postgres', 'SHOW server_version');
	$new->stop;
	if ($knows ne 't')
	{
	  SKIP:
		{
			skip "PostgreSQL $version is an older release than the one of $old_major, and cannot take its catalog", 1;
		}
		done_testing();
		exit;
	}
}
chdir $dir;
my @upgrade = ('pg_upgrade', '--no-sync', '-U', 'postgres', '-b', $old_bin, '-B', dirname_of('postgres'), '-d', $old_data, '-D', $new->data_dir, '-p', $port, '-P', $new->port, '-s', $dir);
run_ok('pg_upgrade finds nothing against it', @upgrade, '--check');
run_ok('pg_upgrade', @upgrade) or do
{
	foreach my $file (glob($new->data_dir . '/pg_upgrade_output.d/*/log/*.log'))
	{
		diag("$file: $_") foreach grep { /ERROR|error:|FATAL/ } split /\n/, slurp_file($file);
	}
};
$new->start;
$ENV{PGUSER} = 'postgres';
same_text(contents($new, 'crm'), $rows, 'every row is there');

# each major writes a view in its own way, so what compares is a dump of the old server restored on the new one
append_to_file("$dir/dump.sql", $dumped);
$new->safe_psql('postgres', 'CREATE DATABASE restored');
run_ok('a dump of the old server restores', 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", '-d', $new->connstr('restored'));
my $schema = schema_of($new, 'restored');
same_text(contents($new, 'restored'), $rows, 'with every row');
same_text(schema_of($new, 'crm'), $schema, 'both have the same objects and rights');
$new->safe_psql('crm', 'SET client_min_messages = warning; CALL crm.migrate()');
same_text(schema_of($new, 'crm'), $schema, 'migrate runs and changes nothing');
done_testing();

sub dirname_of
{
	my ($program) = @_;
	my ($found) = grep { -x "$_/$program" } split /:/, $ENV{PATH};
	return $found;
}

package OldServer;

sub connstr { my ($self, $db) = @_; return "port=$self->{port} host=$self->{host} user=postgres dbname='$db'"; }

sub safe_psql
{
	my ($self, $db, $sql) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $self->connstr($db) ], '<', \$sql, '>', \$out, '2>', \$err) or die $err;
	chomp $out;
	return $out;
}
