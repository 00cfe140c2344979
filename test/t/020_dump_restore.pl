# A dump restores on a server that has never seen crm: every row, view, policy, trigger, grant, and what people added, and no trigger of ours fires
# on the way. A dump by somebody who does not see everything fails instead of being partial.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $source = new_server('source');
my $dir = $source->backup_dir;
mkdir $dir;
install_crm($source, 'crm');
fill($source, 'crm');

# what people add to it
$source->safe_psql('crm', <<'SQL');
SET client_min_messages = warning;
CREATE ROLE robot LOGIN;
GRANT crm_backup TO robot;
CREATE ROLE ann LOGIN;
GRANT crm_sales TO ann;
CREATE ROLE owner_of_all LOGIN;
ALTER TABLE crm_data.account ADD COLUMN "Größe 大小" numeric(10,2) CHECK ("Größe 大小" >= 0);
COMMENT ON COLUMN crm_data.account."Größe 大小" IS 'a column of ours';
UPDATE crm_data.account SET "Größe 大小" = id * 1.5 WHERE id % 3 = 0;
CREATE INDEX "ours on size" ON crm_data.account ("Größe 大小") WHERE "Größe 大小" IS NOT NULL;
CREATE SCHEMA ours;
GRANT USAGE ON SCHEMA ours TO crm_backup;
CREATE TABLE ours.seen (account_id bigint REFERENCES crm_data.account (id), name text);
GRANT SELECT ON ours.seen TO crm_backup;
CREATE FUNCTION ours.see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO ours.seen VALUES (NEW.id, NEW.name); RETURN NULL; END$$;
CREATE TRIGGER zz_ours AFTER INSERT ON crm_data.account FOR EACH ROW EXECUTE FUNCTION ours.see();
INSERT INTO crm_data.account (code, name) VALUES ('seen', 'Seen by our trigger');
CREATE POLICY ours ON crm_data.contact FOR SELECT TO crm_bi USING (false);
CREATE VIEW ours.report AS SELECT count(*) AS accounts FROM crm_data.account;
GRANT SELECT ON ours.report TO crm_bi;
SQL

my $rows = contents($source, 'crm');
my $text = whole_dump($source, 'crm');
my $lines = lines_of($source, 'crm');
like($rows, qr/^account\|91 /m, 'the source has customers');
like($text, qr/Größe 大小/, 'the dump has our column');

# a restore may put a row that did not fit behind the next one, so lines are compared in order of their text
sub lines_of
{
	return join("\n", sort split /\n/, whole_dump(@_));
}

# by whom, with which options
my %dumpers = (
	superuser => [],
	crm_backup => [ '-U', 'robot', '--role=crm_backup' ]);
my $fresh = new_server('fresh');
is($fresh->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'crm%'"), '0', 'the other server has never seen crm');

my $n = 0;
foreach my $who (sort keys %dumpers)
{
	foreach my $format ('custom', 'plain')
	{
		my $file = "$dir/$who.$format";
		my $db = 'restored' . ++$n;
		run_ok("dump as $who, $format", 'pg_dump', "--format=$format", '-f', $file, '-d', $source->connstr('crm'), @{ $dumpers{$who} }) or next;
		$fresh->safe_psql('postgres', "CREATE DATABASE $db");
		if ($format eq 'custom')
		{
			run_ok("restore what $who dumped, custom", 'pg_restore', '--exit-on-error', '--jobs=1', '-d', $fresh->connstr($db), $file);
		}
		else
		{
			run_ok("restore what $who dumped, plain", 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $fresh->connstr($db));
		}
		same_text(contents($fresh, $db), $rows, 'every row and sequence is back, and no trigger added any');
		same_text(lines_of($fresh, $db), $lines, 'every object and grant is back');
	}
}

# In parallel, as large databases are restored, and by sections: left to itself, pg_restore --jobs makes the foreign keys of a partitioned table
# before the data of its partitions, when the owner has no rights on the schema yet.
$fresh->safe_psql('postgres', 'CREATE DATABASE parallel');
run_ok("restore with two jobs: $_", 'pg_restore', '--exit-on-error', "--section=$_", '--jobs=2', '-d', $fresh->connstr('parallel'), "$dir/superuser.custom")
  foreach ('pre-data', 'data', 'post-data');
same_text(whole_dump($fresh, 'parallel', '--schema-only'), schema_of($source, 'crm'), 'every object is back');
same_text(contents($fresh, 'parallel'), $rows, 'every row is back');

# the restored schema is alive
my $applied = '';
$fresh->psql('restored1', 'CALL crm.migrate()', stderr => \$applied);
like($applied, qr/the schema is at version/, 'migrate runs on the restored database');
same_text(whole_dump($fresh, 'restored1', '--schema-only'), schema_of($source, 'crm'), 'and changes nothing');
is($fresh->safe_psql('restored1', q{INSERT INTO crm_data.account (code, name) VALUES ('later', '后来的公司'); SELECT count(*) FROM ours.seen WHERE name = '后来的公司'}),
	'1', 'the triggers fire again');

# who does not see everything gets an error, never a part; what people added is left out, since it would be refused for another reason
foreach my $case ([ 'crm_owner', '--role=crm_owner' ], [ 'crm_gate', '--role=crm_gate' ], [ 'a person', '-U', 'ann' ],
	[ 'a member of crm_backup that does not give --role', '-U', 'robot' ])
{
	my ($who, @options) = @$case;
	run_fails("a dump as $who fails", qr/permission denied|row-level security/, 'pg_dump', '-N', 'ours', '-f', "$dir/refused", @options, '-d', $source->connstr('crm'));
}

done_testing();
