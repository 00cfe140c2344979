\set n random(1, 1000000000000)
\set a random(1, :accounts)
SELECT crm.ingest('web', 'x' || :n, 'scroll', jsonb_build_object('account_code', 'B' || :a, 'page', '/about', 'dwell', 12));
