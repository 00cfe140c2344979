# Many write to a few customers and to what belongs to them, by crm.write and by SQL through the views, in one statement and in many, with savepoints that
# are rolled back: every operation has its number under its customer, none twice and none missing, and the history verifies.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IPC::Run;
use Test::More;
use CrmTest;

my $node = new_server('numbers', conf => [ 'deadlock_timeout = 100ms' ]);
install_crm($node, 'crm');
$node->safe_psql('crm', <<'SQL');
INSERT INTO crm_data.account (code, name) SELECT 'N' || g, 'customer ' || g FROM generate_series(1, 3) AS g;
INSERT INTO crm_data.contact (account_id, name) SELECT a.id, 'person ' || g FROM crm_data.account AS a, generate_series(1, 10) AS g ORDER BY a.id, g;
SQL
my $script = PostgreSQL::Test::Utils::tempdir() . '/numbers.sql';
PostgreSQL::Test::Utils::append_to_file($script, <<'SQL');
\set a random(1, 3)
\set k random(1, 10)
\set w random(1, 5)
\set v random(1, 1000000)
\if :w = 1
SELECT crm.write('account', :a, gen_random_uuid(), 'web', NULL, jsonb_build_object('attrs', jsonb_build_object('k' || :k, :v)));
\elif :w = 2
SELECT crm.write('contact', (:a - 1) * 10 + :k, gen_random_uuid(), 'app', NULL, jsonb_build_object('title', 't' || :v));
\elif :w = 3
UPDATE crm.contact SET title = 'v' || :v WHERE account_id = :a;
\elif :w = 4
BEGIN;
UPDATE crm.contact SET title = 'r' || :v WHERE account_id = :a AND id % 2 = 0;
SAVEPOINT s;
UPDATE crm.contact SET department = 'r' || :v WHERE account_id = :a AND id % 3 = 0;
ROLLBACK TO s;
UPDATE crm.contact SET department = 's' || :v WHERE account_id = :a AND id % 5 = 0;
UPDATE crm.account SET city = 's' || :v WHERE id = :a;
COMMIT;
\else
UPDATE crm.account SET city = 'c' || :v WHERE id = :a;
\endif
SQL
run_ok('eight clients write, and repeat what another was before', $node->installed_command('pgbench'), '-n', '-c', '8', '-j', '2', '-T', '8', '--max-tries=1000', '-f', $script, $node->connstr('crm'));
is($node->safe_psql('crm', "SELECT count(*) > 1000, count(DISTINCT object) FROM crm_data.operation"), 't|2', 'there is something to check');
is($node->safe_psql('crm', 'SELECT root_id FROM crm_data.operation GROUP BY root_id HAVING count(*) <> max(op_seq) OR count(DISTINCT op_seq) <> count(*)'), '', 'no number twice, none missing');
is($node->safe_psql('crm', 'SELECT * FROM crm.integrity_check()'), '', 'the history verifies and says what the records say');
$node->stop;
done_testing();
