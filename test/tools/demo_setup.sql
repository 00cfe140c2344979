-- What an administrator does once: logins for the people of the demo, the engines' first run, the clock.
\set ON_ERROR_STOP on

-- Three people who look at the same customer, and their manager; a company that came by files has no such members yet.
DO $$
DECLARE
    person record;
BEGIN
    FOR person IN
        SELECT * FROM (VALUES ('demo_sales', 'crm_sales', 'Sales representative'), ('demo_service', 'crm_service', 'Service agent'),
                              ('demo_finance', 'crm_finance', 'Finance clerk'), ('demo_manager', 'crm_manager', 'Regional manager')) AS v(login, role, name)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = person.login) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', person.login);
        END IF;
        EXECUTE format('GRANT %I TO %I', person.role, person.login);
        IF NOT EXISTS (SELECT FROM crm_data.member WHERE role_name = person.login) THEN
            IF person.role IN ('crm_sales', 'crm_manager') THEN
                -- the busiest representative, and who manages her
                UPDATE crm_data.member SET role_name = person.login
                 WHERE id = (SELECT CASE person.role WHEN 'crm_sales' THEN m.id ELSE m.manager_id END
                               FROM crm_data.member AS m JOIN crm_data.opportunity AS o ON o.owner_id = m.id
                              GROUP BY m.id, m.manager_id ORDER BY count(*) DESC, m.id LIMIT 1);
            ELSE
                INSERT INTO crm_data.member (role_name, full_name) VALUES (person.login, person.name);
            END IF;
        END IF;
    END LOOP;
END
$$;

-- Customers that came without an owner go to whoever has their deals.
WITH most AS (
    SELECT DISTINCT ON (o.account_id) o.account_id, o.owner_id FROM crm_data.opportunity AS o WHERE o.owner_id IS NOT NULL
     GROUP BY o.account_id, o.owner_id ORDER BY o.account_id, count(*) DESC, o.owner_id)
UPDATE crm.account AS a SET owner_id = m.owner_id FROM most AS m WHERE a.id = m.account_id AND a.owner_id IS NULL;

-- The clock: pg_cron where it is there, and its first minute now.
SELECT count(*) > 0 AS cron FROM pg_available_extensions WHERE name = 'pg_cron' AND current_setting('shared_preload_libraries') ~ 'pg_cron' \gset
\if :cron
CREATE EXTENSION IF NOT EXISTS pg_cron;
SELECT crm.schedule();
\endif
CALL crm.maintenance();
CALL crm.tick();
CALL crm.run_jobs();
