\set n random(1, 1000000000000)
\set a random(1, :accounts)
INSERT INTO plain_payload (source_id, external_id, kind, payload, digest, source_ts, state) VALUES (1, 'x' || :n, 'page_view', jsonb_build_object('account_code', 'B' || :a, 'page', '/about', 'dwell', 12), sha256('x'), now(), 'applied') ON CONFLICT (source_id, external_id, digest) DO NOTHING;
