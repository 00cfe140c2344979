-- What people ask for themselves, on the company that grow.sql made: every board, report and metric with the rights of a director, a manager and a
-- representative. Prints: name <tab> seconds, for each the better of two.
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
-- money on the contracts, lines of the deals won, and three people with logins
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO crm_data.receivable_entry (kind, account_id, contract_id, amount, occurred_on, owner_id, team_id)
SELECT v.kind, k.account_id, k.id, round(k.amount * v.share, 2), k.signed_on + v.days, k.owner_id, k.team_id FROM crm_data.contract AS k, (VALUES ('invoice', 1.0, 3), ('payment', 0.5, 10), ('payment', 0.4, 40)) AS v (kind, share, days)
 WHERE NOT EXISTS (SELECT FROM crm_data.receivable_entry AS e WHERE e.contract_id = k.id);
INSERT INTO crm_data.payment_plan (contract_id, account_id, seq, due_on, amount, paid_on, owner_id, team_id)
SELECT k.id, k.account_id, v.seq, k.signed_on + v.days, round(k.amount / 2, 2), CASE WHEN v.seq = 1 THEN k.signed_on + v.days END, k.owner_id, k.team_id FROM crm_data.contract AS k, (VALUES (1, 10), (2, 40)) AS v (seq, days)
ON CONFLICT DO NOTHING;
INSERT INTO crm_data.product (code, name, line) SELECT 'BENCH' || n, 'Product ' || n, 'line' || n % 4 FROM generate_series(1, 20) AS n ON CONFLICT DO NOTHING;
INSERT INTO crm_data.line_item (opportunity_id, account_id, product_id, unit_price, sold_on, owner_id, team_id)
SELECT o.id, o.account_id, p.id, 100, o.closed_at::date, o.owner_id, o.team_id FROM crm_data.opportunity AS o JOIN crm_data.product AS p ON p.code = 'BENCH' || o.id % 20 + 1 WHERE o.outcome = 'won' AND NOT EXISTS (SELECT FROM crm_data.line_item AS l WHERE l.opportunity_id = o.id);
COMMIT;
DO $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT v.login, v.role, m.id FROM (VALUES ('bench_director', 'crm_director', NULL), ('bench_manager', 'crm_manager', true), ('bench_rep', 'crm_sales', false)) AS v (login, role, manages)
               LEFT JOIN LATERAL (SELECT x.id FROM crm_data.member AS x WHERE x.employee_no LIKE 'B%' AND (EXISTS (SELECT FROM crm_data.member AS y WHERE y.manager_id = x.id)) = v.manages ORDER BY x.id LIMIT 1) AS m ON true LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p.login) THEN
            EXECUTE format('CREATE ROLE %I', p.login);
        END IF;
        EXECUTE format('GRANT %I TO %I', p.role, p.login);
        IF p.id IS NULL THEN
            INSERT INTO crm_data.member (role_name, full_name) VALUES (p.login, p.login) ON CONFLICT DO NOTHING;
        ELSE
            UPDATE crm_data.member SET role_name = p.login WHERE id = p.id AND role_name IS DISTINCT FROM p.login;
        END IF;
    END LOOP;
END
$$;
ANALYZE crm_data.receivable_entry, crm_data.payment_plan, crm_data.line_item, crm_data.member;
CREATE TEMP TABLE took (o int GENERATED ALWAYS AS IDENTITY, who text, name text, seconds numeric);
GRANT INSERT ON took TO PUBLIC;
CREATE PROCEDURE pg_temp.ask(who text, name text, statement text) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz;
    n bigint;
    s numeric;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', who);
    FOR i IN 1 .. 2 LOOP
        t := clock_timestamp();
        BEGIN
            EXECUTE 'SELECT count(*) FROM (' || statement || ') AS x' INTO n;
            s := least(s, round(extract(epoch FROM clock_timestamp() - t)::numeric, 2));
        EXCEPTION
            WHEN query_canceled THEN
                s := 60;
                EXIT;
            WHEN insufficient_privilege THEN
                -- what is about the whole house is for directors
                IF who = 'bench_director' THEN
                    RAISE;
                END IF;
                EXIT;
        END;
    END LOOP;
    RESET ROLE;
    IF s IS NOT NULL THEN
        INSERT INTO took (who, name, seconds) VALUES (who, name, s);
    END IF;
END
$$;
SET statement_timeout = '10min';
DO $$
DECLARE
    r record;
    q text := format('[%s,%s)', date_trunc('month', current_date - interval '12 months')::date, date_trunc('month', current_date)::date);
BEGIN
    FOR r IN SELECT who, name FROM unnest('{bench_director,bench_manager}'::text[]) AS who, unnest('{bottleneck_brief,action_heatmap,followup_watch,team_performance}'::text[]) AS name LOOP
        CALL pg_temp.ask(r.who, r.name, format('SELECT * FROM crm.%I()', r.name));
    END LOOP;
    FOR r IN SELECT name FROM unnest('{director_daily,monthly_snapshot,health_report,report_check,field_review,consistency_rate,receivable_health,report_list}'::text[]) AS name LOOP
        CALL pg_temp.ask('bench_director', r.name, format('SELECT * FROM crm.%I()', r.name));
    END LOOP;
    CALL pg_temp.ask('bench_director', 'restatement of a year', 'SELECT * FROM crm.restatement(daterange((current_date - 365), current_date))');
    FOR r IN SELECT who, basis FROM unnest('{bench_director,bench_manager}'::text[]) AS who, unnest('{created,stage_changed,paid}'::text[]) AS basis LOOP
        CALL pg_temp.ask(r.who, 'funnel ' || r.basis, format('SELECT * FROM crm.funnel(%L, %L)', q, r.basis));
    END LOOP;
    FOR r IN SELECT name FROM unnest('{morning_brief,my_board,today_focus,receivable_health}'::text[]) AS name LOOP
        CALL pg_temp.ask('bench_rep', r.name, format('SELECT * FROM crm.%I()', r.name));
    END LOOP;
    FOR r IN SELECT w.who, l.name, d.dim FROM crm.metric_list() AS l, unnest('{bench_director,bench_manager}'::text[]) AS w (who), unnest('{none,team}'::text[]) AS d (dim)
              WHERE l.status = 'active' AND (d.dim = 'none' OR d.dim = ANY (l.dims)) LOOP
        CALL pg_temp.ask(r.who, 'metric ' || r.name || CASE r.dim WHEN 'none' THEN '' ELSE ' by ' || r.dim END, format('SELECT * FROM crm.metric(%L, %L, %L)', r.name, q, CASE r.dim WHEN 'none' THEN '{}' ELSE '{' || r.dim || '}' END));
    END LOOP;
END
$$;
SELECT format(E'%s, %s\t%s', t.name, replace(t.who, 'bench_', ''), t.seconds) FROM took AS t WHERE t.name NOT LIKE 'metric %' ORDER BY t.o;
-- of the metrics the slowest, by name
SELECT format(E'%s, %s\t%s', t.name, replace(t.who, 'bench_', ''), t.seconds) FROM took AS t WHERE t.name LIKE 'metric %' ORDER BY t.seconds DESC, t.o LIMIT 8;
