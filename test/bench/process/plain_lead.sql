\set n random(1, 1000000000000)
\set m random(0, 199)
INSERT INTO plain_lead (name, phone, phone_norm, company, province, need, client_key, source, region, industry, state, route, route_version, owner_id, team_id, assigned_at, assign_count, first_touch_due_at)
SELECT 'n' || :n, '139' || lpad(((:n)::bigint % 99999999)::text, 8, '0'), '+86139' || lpad(((:n)::bigint % 99999999)::text, 8, '0'), 'Firm ' || :n, '浙江省', 'solar', 'b' || :n, 'web', 'east', 'energy', 'assigned', 'region', 1, (:owner)::bigint + (:m)::bigint, (:team)::bigint + ((:m)::bigint + 1) % 20, now(), 1, now() + interval '5 minutes'
ON CONFLICT (client_key) DO NOTHING;
