-- A sales organisation of 20 teams and 200 people, and the plain tables to compare with.
SET client_min_messages = warning;
INSERT INTO crm_data.team (code, name) SELECT 'b' || n, 'Team ' || n FROM generate_series(1, 20) AS n;
INSERT INTO crm_data.member (full_name, team_id, employee_no, capacity, regions) SELECT 'Member ' || n, t.id, 'B' || n, 100, ARRAY[(ARRAY['east', 'north', 'south'])[n % 3 + 1]]
  FROM generate_series(1, 200) AS n JOIN crm_data.team AS t ON t.code = 'b' || (n % 20 + 1);
UPDATE crm_data.member AS m SET manager_id = (SELECT min(k.id) FROM crm_data.member AS k WHERE k.team_id = m.team_id AND k.id <> m.id) WHERE m.full_name LIKE 'Member %' AND m.id <> (SELECT min(k.id) FROM crm_data.member AS k WHERE k.team_id = m.team_id);
-- with the same columns, defaults, checks, keys and indexes, and nothing else
CREATE TABLE plain_payload (LIKE crm_data.inbox INCLUDING ALL);
CREATE TABLE plain_lead (LIKE crm_data.lead INCLUDING ALL);
CREATE TABLE plain_task (LIKE crm_data.task INCLUDING ALL);
CREATE TABLE plain_outbox (LIKE crm_data.outbox INCLUDING ALL);
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT v.plain, pg_get_constraintdef(k.oid) AS def FROM (VALUES ('plain_payload', 'crm_data.inbox'), ('plain_lead', 'crm_data.lead'), ('plain_task', 'crm_data.task'), ('plain_outbox', 'crm_data.outbox')) AS v (plain, own)
               JOIN pg_constraint AS k ON k.conrelid = v.own::regclass AND k.contype = 'f' AND k.confrelid <> k.conrelid ORDER BY k.conname LOOP
        EXECUTE format('ALTER TABLE %I ADD %s', c.plain, c.def);
    END LOOP;
END
$$;
