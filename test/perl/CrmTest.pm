# Helpers of the TAP tests: a server like the ones people have, with the extension of this checkout.
package CrmTest;

use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(new_server install_crm fails_with);

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

1;
