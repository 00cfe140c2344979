# The extension holds no data: DROP EXTENSION is refused while the schema uses it, with CASCADE no row and no column goes, and CREATE EXTENSION and
# migrate bring back what hung on it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $node = new_server('drop');
install_crm($node, 'crm');
fill($node, 'crm');
$node->safe_psql('crm', 'ALTER TABLE crm_data.account ADD COLUMN ours text; CREATE INDEX ours ON crm_data.account (ours)');
my $columns = sub {
	return $node->safe_psql('crm', q{
		SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
		  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		       LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
		 WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname, a.attnum;
		SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'crm_data'::regnamespace AND contype <> 't' ORDER BY 1::text, 2});
};
my $rows = contents($node, 'crm');
my $shape = $columns->();
my $schema = schema_of($node, 'crm');

fails_with($node, 'crm', 'DROP EXTENSION crm', '2BP01', qr/depend/, 'DROP EXTENSION is refused while the schema uses it');
same_text(contents($node, 'crm'), $rows, 'nothing is lost');

$node->safe_psql('crm', 'SET client_min_messages = warning; DROP EXTENSION crm CASCADE');
same_text(contents($node, 'crm'), $rows, 'with CASCADE every row stays');
same_text($columns->(), $shape, 'and every column, default and constraint');
is($node->safe_psql('crm', "SELECT count(*) FROM pg_namespace WHERE nspname = 'crm'"), '0', 'the engine is gone');

install_crm($node, 'crm');
# what is compiled from the configuration and the catalog is compiled anew, with numbers and times of its own
my $compiled = qr/^((field_policy|row_policy|permission|view_version)|\w+_seq)\|.*\n?/m;
(my $kept = contents($node, 'crm')) =~ s/$compiled//g;
$rows =~ s/$compiled//g;
same_text($kept, $rows, 'after CREATE EXTENSION and migrate every row is there');
same_text(schema_of($node, 'crm'), $schema, 'and every view, function, trigger, policy, index and grant');

done_testing();
