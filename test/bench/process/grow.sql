-- Grows the company to :accounts customers, :followups follow-ups and :accounts open tasks. Triggers are off: what is measured is not the load;
-- the copies of owner, team and grade that they would have made are made here. One customer in fifty has no address.
-- Follow-ups come without their history, which nothing here reads and which takes longer than all else.
SET client_min_messages = warning;
SET session_replication_role = replica;
SET synchronous_commit = off;
SET work_mem = '256MB';
CREATE TEMP TABLE was AS SELECT (SELECT count(*) FROM crm_data.account) AS accounts, (SELECT count(*) FROM crm_data.interaction) AS followups, (SELECT min(id) FROM crm_data.member WHERE employee_no LIKE 'B%') AS m0;
CREATE TEMP TABLE ind AS SELECT i.indrelid::regclass::text AS tab, i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS def FROM pg_index AS i
 WHERE i.indrelid IN ('crm_data.interaction'::regclass, 'crm_data.account'::regclass, 'crm_data.task'::regclass, 'crm_data.contact'::regclass) AND NOT i.indisunique;
DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM ind LOOP EXECUTE 'DROP INDEX ' || i.name; END LOOP; END $$;
INSERT INTO crm_data.account (code, name, phone, phone_norm, email, email_norm, name_core, industry, region, lifecycle, grade, owner_id, team_id, last_contact_at, created_at)
SELECT 'B' || n, 'Company ' || n, '138' || lpad(n::text, 8, '0'), '+86138' || lpad(n::text, 8, '0'), CASE WHEN n % 50 <> 0 THEN 'office@c' || n || '.example' END, CASE WHEN n % 50 <> 0 THEN 'office@c' || n || '.example' END, 'company ' || n, (ARRAY['manufacturing', 'energy', 'software', 'retail'])[n % 4 + 1], (ARRAY['east', 'north', 'south'])[n % 3 + 1],
       CASE WHEN n % 3 = 0 THEN 'customer' ELSE 'prospect' END, n % 5, w.m0 + n % 200, (SELECT min(id) FROM crm_data.team WHERE code LIKE 'b%') + (n % 200 + 1) % 20, now() - make_interval(hours => (n % 1500)::int), now() - interval '2 years'
  FROM was AS w CROSS JOIN generate_series(w.accounts + 1, :accounts) AS n;
INSERT INTO crm_data.contact (account_id, name, phone, phone_norm, role_in_decision, owner_id, team_id, grade, last_contact_at) SELECT a.id, 'Contact ' || a.id, '139' || lpad(a.id::text, 8, '0'), '+86139' || lpad(a.id::text, 8, '0'), 'technical', a.owner_id, a.team_id, a.grade, a.last_contact_at FROM was AS w JOIN crm_data.account AS a ON a.code = 'B' || (substr(a.code, 2)::bigint) AND substr(a.code, 2)::bigint > w.accounts AND a.id % 4 = 0;
ALTER TABLE crm_data.interaction DISABLE TRIGGER zzz_crm_version, DISABLE TRIGGER crm_history_insert;
INSERT INTO crm_data.interaction (account_id, kind, channel, direction, occurred_at, recorded_at, author_id, summary, quality, owner_id, team_id, grade)
SELECT a0.id + n % (:accounts), (ARRAY['call', 'visit', 'meeting', 'chat', 'email'])[n % 5 + 1], 'phone', CASE n % 2 WHEN 0 THEN 'in' ELSE 'out' END, now() - make_interval(secs => ((n * 37) % 31536000)::float8), now() - make_interval(secs => ((n * 37) % 31536000)::float8), w.m0 + n % 200, 'Follow-up ' || n, n % 100,
       w.m0 + (n % (:accounts) + 1) % 200, (SELECT min(id) FROM crm_data.team WHERE code LIKE 'b%') + ((n % (:accounts) + 1) % 200 + 1) % 20, (n % (:accounts) + 1) % 5
  FROM was AS w CROSS JOIN (SELECT min(id) AS id FROM crm_data.account) AS a0 CROSS JOIN generate_series(w.followups + 1, :followups) AS n;
ALTER TABLE crm_data.interaction ENABLE ALWAYS TRIGGER zzz_crm_version, ENABLE ALWAYS TRIGGER crm_history_insert;
INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, owner_id, team_id, created_at)
SELECT 'follow_up', 'account', a.id, a.id, 'Call', now() + make_interval(hours => (a.id % 700)::int + 1), a.owner_id, a.team_id, now() - interval '1 day' FROM was AS w JOIN crm_data.account AS a ON a.code = 'B' || (substr(a.code, 2)::bigint) AND substr(a.code, 2)::bigint > w.accounts;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, outcome, amount, close_date, closed_at, owner_id, team_id, stage_entered_at, last_contact_at, created_at, probability_auto, grade)
SELECT a.id, 'B' || a.id, 'Deal ' || a.id, s.pipeline_id, s.id, s.outcome, 1000 + a.id % 100000, current_date + (a.id % 200)::int - 100, CASE WHEN s.outcome <> 'open' THEN now() - make_interval(days => (a.id % 300)::int) END,
       a.owner_id, a.team_id, now() - make_interval(days => (a.id % 40)::int), now() - make_interval(days => (a.id % 40)::int), now() - make_interval(days => 300), 0.3, a.grade
  FROM was AS w JOIN crm_data.account AS a ON substr(a.code, 2)::bigint > w.accounts AND a.id % 10 = 0
  JOIN crm_data.stage AS s ON s.seq = (a.id / 10) % 7 + 1 JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id AND p.is_default;
INSERT INTO crm_data.stage_history (opportunity_id, account_id, to_stage_id, entered_at, amount, close_date, owner_id, team_id)
SELECT o.id, o.account_id, o.stage_id, o.stage_entered_at, o.amount, o.close_date, o.owner_id, o.team_id FROM crm_data.opportunity AS o WHERE NOT EXISTS (SELECT FROM crm_data.stage_history AS h WHERE h.opportunity_id = o.id);
INSERT INTO crm_data.task (kind, object, record_id, account_id, stage_id, action_key, title, mandatory, state, due_at, started_at, done_at, owner_id, team_id, created_at, dedupe_key)
SELECT 'stage_action', 'opportunity', o.id, o.account_id, o.stage_id, 'bench_' || o.id % 5, 'Action', true, CASE WHEN o.id % 3 = 0 THEN 'open' ELSE 'done' END, now() + interval '10 days', o.stage_entered_at, CASE WHEN o.id % 3 <> 0 THEN now() - interval '5 days' END, o.owner_id, o.team_id, o.stage_entered_at, 'bench:' || o.id
  FROM crm_data.opportunity AS o WHERE o.outcome = 'open' ON CONFLICT (dedupe_key) DO NOTHING;
INSERT INTO crm_data.contract (account_id, opportunity_id, code, state, amount, signed_on, starts_on, expires_on, owner_id, team_id, grade)
SELECT o.account_id, o.id, 'B' || o.id, 'active', o.amount, current_date - (o.id % 300)::int, current_date - (o.id % 300)::int, current_date + (o.id % 400)::int, o.owner_id, o.team_id, o.grade FROM crm_data.opportunity AS o WHERE o.outcome = 'won' ON CONFLICT (code) DO NOTHING;
DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM ind ORDER BY 1, 2 LOOP EXECUTE i.def; END LOOP; END $$;
DROP TABLE was, ind;
VACUUM ANALYZE crm_data.account, crm_data.contact, crm_data.interaction, crm_data.task, crm_data.opportunity, crm_data.stage_history, crm_data.contract;
ANALYZE;
CHECKPOINT;
