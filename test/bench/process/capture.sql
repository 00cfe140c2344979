\set n random(1, 1000000000000)
SELECT crm.capture_lead(jsonb_build_object('name', 'n' || :n, 'phone', '139' || lpad(((:n)::bigint % 99999999)::text, 8, '0'), 'company', 'Firm ' || :n, 'province', '浙江省', 'need', 'solar', 'client_key', 'b' || :n, 'source', 'web'));
