\set n random(1, 1000000000000)
\set m random(0, 199)
WITH l AS (
    INSERT INTO plain_lead (name, phone, phone_norm, company, province, need, client_key, source, region, industry, state, route, route_version, owner_id, team_id, assigned_at, assign_count, first_touch_due_at)
    SELECT 'n' || :n, '139' || lpad(((:n)::bigint % 99999999)::text, 8, '0'), '+86139' || lpad(((:n)::bigint % 99999999)::text, 8, '0'), 'Firm ' || :n, '浙江省', 'solar', 'b' || :n, 'web', 'east', 'energy', 'assigned', 'region', 1, (:owner)::bigint + (:m)::bigint, (:team)::bigint + ((:m)::bigint + 1) % 20, now(), 1, now() + interval '5 minutes'
    ON CONFLICT (client_key) DO NOTHING RETURNING id, owner_id, team_id, first_touch_due_at
), t AS (
    INSERT INTO plain_task (kind, object, record_id, title, mandatory, due_at, escalate_at, priority, dedupe_key, owner_id, team_id)
    SELECT 'first_touch', 'lead', l.id, 'First touch: Firm ' || :n, true, l.first_touch_due_at, l.first_touch_due_at, 8, 'first_touch:' || l.id, l.owner_id, l.team_id FROM l
)
INSERT INTO plain_outbox (topic, channel, fallback, recipient_id, payload, dedupe_key)
SELECT 'task.first_touch', 'sms', '{app,email}', l.owner_id, jsonb_build_object('lead', l.id, 'company', 'Firm ' || :n, 'need', 'solar', 'due', l.first_touch_due_at), 'first_touch:' || l.id FROM l;
