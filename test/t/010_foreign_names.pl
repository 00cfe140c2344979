# Names and places that are not the usual ones: a second database in the cluster, mixed-case databases and roles, a role that may not.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $node = new_server('names');

# CREATE EXTENSION and migrate without rights
$node->safe_psql('postgres', 'CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE postgres TO plain');
fails_with($node, 'postgres', 'CREATE EXTENSION crm', '42501', qr/HINT:.*superuser/, 'CREATE EXTENSION without rights is refused with a hint',
	extra_params => [ '-U', 'plain' ]);
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'crm\\_%'"), '0', 'and leaves no role behind');

# two databases, one of them with a name that needs quotes, as a superuser with such a name too
my $db = q{Kunden "Nord" 北京};
install_crm($node, 'first');
$node->safe_psql('postgres', 'CREATE ROLE "Frau O\'Hara" LOGIN SUPERUSER');
(my $quoted = $db) =~ s/"/""/g;
$node->safe_psql('postgres', qq{CREATE DATABASE "$quoted"});
$node->safe_psql($db, 'CREATE EXTENSION crm; SET client_min_messages = warning', extra_params => [ '-U', q{Frau O'Hara} ]);
$node->safe_psql($db, 'SET client_min_messages = warning; CALL crm.migrate()', extra_params => [ '-U', q{Frau O'Hara} ]);
is($node->safe_psql($db, 'SELECT count(*) = (SELECT count(version) FROM crm.migration) FROM crm_data.schema_version'),
	't', 'second database, migrated by a role with a quoted name');
# what somebody has in one database is not seen in the other
$node->safe_psql('first', 'DROP EXTENSION crm CASCADE; DROP SCHEMA crm_data CASCADE');
is($node->safe_psql($db, 'SELECT crm.version() IS NOT NULL'), 't', 'dropping it in one database leaves the other alone');
install_crm($node, 'first');
is($node->safe_psql('first', 'SELECT count(*) > 0 FROM pg_class WHERE relnamespace = \'crm_data\'::regnamespace'), 't', 'and it installs again');

# a server or database in another encoding
foreach my $encoding ('LATIN1', 'SQL_ASCII')
{
	my $name = lc $encoding;
	$node->safe_psql('postgres', "CREATE DATABASE $name ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	fails_with($node, $name, 'CREATE EXTENSION crm', '0A000', qr/HINT:.*ENCODING 'UTF8'/, "a database in $encoding is refused with a hint");
	is($node->safe_psql($name, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'crm%'"), '0', 'and nothing is left there');
}

# roles that own everything must not be anybody's
my $taken = new_server('taken');
my @untrusted = (
	[ 'can log in', 'CREATE ROLE crm_owner LOGIN', 'DROP ROLE crm_owner' ],
	[ 'is a superuser', 'CREATE ROLE crm_gate SUPERUSER', 'DROP ROLE crm_gate' ],
	[ 'bypasses row security', 'CREATE ROLE crm_gate BYPASSRLS', 'DROP ROLE crm_gate' ],
	[ 'has a member', 'CREATE ROLE crm_owner; CREATE ROLE somebody; GRANT crm_owner TO somebody', 'DROP ROLE somebody; DROP ROLE crm_owner' ]);
foreach my $case (@untrusted)
{
	my ($what, $make, $drop) = @$case;
	$taken->safe_psql('postgres', $make);
	fails_with($taken, 'postgres', 'CREATE EXTENSION crm', '0P000', qr/cannot be trusted.*HINT/s, "an owner role that $what is refused");
	is($taken->safe_psql('postgres', "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'crm%'"), '0', 'with nothing left behind');
	$taken->safe_psql('postgres', $drop);
}
$taken->safe_psql('postgres', 'CREATE ROLE crm_owner NOLOGIN; CREATE ROLE crm_sales NOLOGIN');
install_crm($taken, 'postgres');
pass('harmless roles that exist already are taken as they are');

done_testing();
