# Somebody with rights in schema public, or with temporary tables in the session of the superuser, gets nothing run and nothing bound by CREATE EXTENSION
# and migrate: the result is the same database, and no object of ours refers to one of theirs.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $node = new_server('hostile');
install_crm($node, 'clean');
$node->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; CREATE DATABASE trap; CREATE DATABASE temp');
$node->safe_psql('trap', 'GRANT ALL ON SCHEMA public TO mallory; GRANT CREATE ON DATABASE trap TO mallory');

# Functions that say who ran them. They are better matches than the built-in ones for the types we call them with.
my @functions = (
	'format(text, text)', 'format(text, name)', 'format(text, VARIADIC text[])', 'format(text, integer)', 'current_setting(text)', 'current_setting(varchar)', 'now()',
	'lower(text)', 'lower(varchar)', 'upper(text)', 'length(text)', 'md5(text)', 'sha256(bytea)', 'encode(bytea, text)',
	'decode(text, text)', 'convert_from(bytea, name)', 'convert_from(bytea, text)', 'regexp_replace(text, text, text)', 'to_char(timestamptz, text)',
	'jsonb_build_object(VARIADIC text[])', 'jsonb_typeof(jsonb)', 'set_config(text, text, boolean)', 'quote_ident(text)', 'quote_literal(text)',
	'pg_has_role(name, text)', 'has_table_privilege(text, text)', 'to_regclass(text)', 'array_length(text[], integer)',
	'date_trunc(text, timestamptz)', 'string_to_array(text, text)', 'generate_series(integer, integer)', 'clock_timestamp()', 'txid_current()');
my $sql = "CREATE TABLE public.caught (who name, what text);\nGRANT ALL ON public.caught TO PUBLIC;\n";
foreach my $function (@functions)
{
	(my $name = $function) =~ s/'/''/g;
	(my $type = $function =~ /^(now|clock_timestamp|date_trunc)/ ? 'timestamptz' : $function =~ /^(jsonb_build)/ ? 'jsonb' : $function =~ /^(sha256|decode)/ ? 'bytea' :
		  $function =~ /^(length|array_length|generate_series)/ ? 'integer' : $function =~ /^(pg_has|has_)/ ? 'boolean' : 'text');
	$sql .= "CREATE FUNCTION public.$function RETURNS $type LANGUAGE plpgsql AS \$f\$BEGIN INSERT INTO public.caught VALUES (current_user, '$name'); RETURN NULL; END\$f\$;\n";
}

# operators for types that ours compare: exact matches win over the built-in ones when found first
my @types = ([ 'name', 'text' ], [ 'text', 'name' ], [ 'varchar', 'text' ], [ 'text', 'text' ], [ 'integer', 'integer' ], [ 'oid', 'oid' ], [ 'name', 'name' ], [ 'bigint', 'integer' ],
	[ 'bigint', 'bigint' ], [ 'boolean', 'boolean' ]);
my $n = 0;
foreach my $pair (@types)
{
	my ($left, $right) = @$pair;
	foreach my $op ('=', '<>', '<', '>', '<=', '>=', '~')
	{
		$n++;
		$sql .= "CREATE FUNCTION public.op$n($left, $right) RETURNS boolean LANGUAGE plpgsql AS \$f\$BEGIN INSERT INTO public.caught VALUES (current_user, '$left $op $right'); RETURN NULL; END\$f\$;\n";
		$sql .= "CREATE OPERATOR public.$op (LEFTARG = $left, RIGHTARG = $right, FUNCTION = public.op$n);\n";
	}
}
$sql .= "CREATE FUNCTION public.cat(text, text) RETURNS text LANGUAGE plpgsql AS \$f\$BEGIN INSERT INTO public.caught VALUES (current_user, '||'); RETURN NULL; END\$f\$;\n";
$sql .= "CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = public.cat);\n";

# tables and types in the place of catalogs and of our own
my @tables = ('pg_roles', 'pg_authid', 'pg_auth_members', 'pg_class', 'pg_proc', 'pg_namespace', 'pg_attribute', 'pg_extension', 'pg_policy', 'pg_trigger',
	'migration', 'schema_version', 'account', 'member', 'team', 'config', 'field', 'opportunity');
$sql .= "CREATE TABLE public.$_ (oid oid, rolname name, rolcanlogin boolean, rolsuper boolean, id bigint, name text, version integer, body text);\n" foreach @tables;
$sql .= "CREATE DOMAIN public.$_ AS pg_catalog.int2;\n" foreach ('int4', 'jsonb', 'timestamptz', 'bool');
$sql .= "CREATE TYPE public.text AS ENUM ('a');\n";

my $hostile = $sql;
$node->safe_psql('trap', "SET check_function_bodies = off;\n$hostile", extra_params => [ '-U', 'mallory' ]);
# the superuser's own session finds them first
my $first = 'SET search_path = public, pg_catalog; SET client_min_messages = warning;';
$node->safe_psql('trap', "$first CREATE EXTENSION crm; CALL crm.migrate(); CALL crm.migrate();");
is($node->safe_psql('trap', 'SELECT who, what FROM public.caught'), '', 'nothing of schema public ran');

$node->safe_psql('trap', "SET search_path = public, pg_catalog; SELECT lower('x'::pg_catalog.text), 'x'::pg_catalog.text = 'y'::pg_catalog.text");
is($node->safe_psql('trap', 'SELECT who IS NOT NULL, what FROM public.caught ORDER BY what COLLATE "C"'), "t|lower(text)\nt|text = text", 'the trap works');

my $foreign = q{
	SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid), pg_catalog.pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
	  FROM pg_catalog.pg_depend AS d
	       CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS ours
	       CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0) AS theirs
	 WHERE d.classid <> 0 AND d.objid <> 0 AND d.refobjid <> 0
	   AND (ours.identity LIKE 'crm.%' OR ours.identity LIKE 'crm_data.%' OR ours.identity LIKE '% on crm%')
	   AND (theirs.identity LIKE 'public.%' OR theirs.identity LIKE 'pg_temp%' OR theirs.schema = 'public' OR theirs.schema LIKE 'pg_temp%')};
is($node->safe_psql('trap', $foreign), '', 'no object of ours refers to one of theirs');
same_text(whole_dump($node, 'trap', '--schema-only', '-n', 'crm', '-n', 'crm_data'), whole_dump($node, 'clean', '--schema-only', '-n', 'crm', '-n', 'crm_data'),
	'the result is the same as in a clean database');

# the same from pg_temp, which PostgreSQL searches before pg_catalog for tables and types
my $temp = join("\n", map { "CREATE TEMP TABLE $_ (oid oid, rolname name, rolcanlogin boolean, rolsuper boolean, id bigint, name text, version integer, body text);" } @tables);
$temp .= join("\n", map { "CREATE DOMAIN pg_temp.$_ AS pg_catalog.int2;" } ('int4', 'jsonb', 'timestamptz', 'bool'));
$temp .= "CREATE TYPE pg_temp.text AS ENUM ('a');";
$node->safe_psql('temp', "SET client_min_messages = warning; $temp CREATE EXTENSION crm; CALL crm.migrate(); CALL crm.migrate();");
same_text(whole_dump($node, 'temp', '--schema-only'), whole_dump($node, 'clean', '--schema-only'), 'temporary tables and types in the session change nothing');

done_testing();
