\set n random(1, 1000000000000)
INSERT INTO plain_lead (name, phone, phone_norm, company, province, need, client_key, source) VALUES ('n' || :n, '139' || (:n)::bigint % 99999999, '+86139' || (:n)::bigint % 99999999, 'Firm ' || :n, '浙江省', 'solar', 'b' || :n, 'web') ON CONFLICT (client_key) DO NOTHING;
