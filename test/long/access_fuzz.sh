#!/usr/bin/env bash
# Differential fuzzing of the guarded views: random queries, each as six roles, once with folding while planning and once with every rule
# evaluated for every row. Results must be the same. Whether a condition that fails on some value (a cast, a division) is reached at all is
# the planner's business, so a query that fails in one way is not compared with one that does not; all that fail are counted. The seed is fixed, so a failure repeats; SEED=n and QUERIES=n for more.
set -eu
queries=${QUERIES:-2000}
seed=${SEED:-0.42}
db=crm_access_fuzz
roles="access_fuzz_sales access_fuzz_manager access_fuzz_service access_fuzz_finance access_fuzz_admin access_fuzz_newcomer"
finish()
{
    psql -Xq -d postgres -c "DROP DATABASE IF EXISTS $db WITH (FORCE)"
    for role in $roles; do psql -Xq -d postgres -c "DROP ROLE IF EXISTS $role"; done
}
export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"
finish
trap finish EXIT
psql -Xq -d postgres -c "CREATE DATABASE $db ENCODING 'UTF8' TEMPLATE template0"
found=$(psql -XAtq -v ON_ERROR_STOP=1 -v queries="$queries" -v seed="$seed" -d "$db" <<'SQL'
CREATE EXTENSION crm;
CALL crm.migrate();
CREATE ROLE access_fuzz_sales IN ROLE crm_sales;
CREATE ROLE access_fuzz_manager IN ROLE crm_manager;
CREATE ROLE access_fuzz_service IN ROLE crm_service;
CREATE ROLE access_fuzz_finance IN ROLE crm_finance;
CREATE ROLE access_fuzz_admin IN ROLE crm_admin;
CREATE ROLE access_fuzz_newcomer IN ROLE crm_director;
INSERT INTO crm_data.team (code, name, region) VALUES ('head', 'head', 'north'), ('far', 'far', 'north'), ('other', 'other', 'south');
INSERT INTO crm_data.team (code, name, region, parent_id) SELECT 't' || n, 't' || n, 'north', 1 FROM generate_series(1, 3) AS n;
INSERT INTO crm_data.member (role_name, full_name, team_id, hired_at)
SELECT 'access_fuzz_' || v.name, v.name, t.id, v.hired FROM (VALUES ('sales', 't1', '-infinity'::date), ('manager', 'head', '-infinity'), ('service', 'far', '-infinity'), ('finance', 'other', '-infinity'),
       ('admin', 'other', '-infinity'), ('newcomer', 'far', current_date)) AS v (name, team, hired) JOIN crm_data.team AS t ON t.code = v.team ORDER BY v.name;
INSERT INTO crm_data.account (code, name, phone, email, legal_id4, grade, region, credit_rating, annual_revenue, employees, risk_score, tags, owner_id, team_id)
SELECT CASE WHEN n % 7 > 0 THEN 'F' || n END, 'Account ' || n % 40, CASE WHEN n % 5 > 0 THEN '138001' || lpad((n % 60)::text, 5, '0') END, 'a' || n % 50 || '@example.com', lpad((n % 30)::text, 4, '0'), n % 5,
       (ARRAY['north', 'south', NULL])[1 + n % 3], (ARRAY['AAA', 'AA', 'B'])[1 + n % 3], (n % 25) * 1000, n % 9, n % 100, CASE WHEN n % 4 = 0 THEN '{vip}'::text[] ELSE '{}' END,
       CASE WHEN n % 8 > 0 THEN 1 + n % 6 END, CASE WHEN n % 9 > 0 THEN 1 + n % 6 END
  FROM generate_series(1, 240) AS n;
INSERT INTO crm_data.contact (account_id, name, phone) SELECT a.id, 'C' || a.id % 17, '139' || lpad(a.id::text, 8, '0') FROM crm_data.account AS a WHERE a.id % 2 = 0;
INSERT INTO crm_data.opportunity (account_id, name, pipeline_id, stage_id, amount, budget_low)
SELECT a.id, 'D' || a.id % 13, s.pipeline_id, s.id, a.id * 10, a.id FROM crm_data.account AS a JOIN crm_data.stage AS s ON s.seq = 1 + a.id % 5 WHERE a.id % 3 = 0;
ANALYZE;

CREATE TABLE public.query (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);
SELECT setseed(:seed) \gset
CREATE FUNCTION public.pick(VARIADIC a text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT a[1 + floor(random() * array_length(a, 1))::int]';
CREATE FUNCTION public.condition(t text) RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT pick(
    t || '.phone = ' || quote_literal(pick('13800100007', '138****0007', '13800100033', '')), t || '.phone LIKE ' || quote_literal(pick('138%', '%7', '%*%')),
    t || '.annual_revenue ' || pick('>', '<', '=', '<>') || ' ' || pick('0', '5000', '12000'), t || '.credit_rating ' || pick('=', '<', '>=') || ' ''AA''', t || '.legal_id4 IS ' || pick('', 'NOT ') || 'NULL',
    t || '.email > ' || quote_literal(pick('a1', 'a3', 'm')), t || '.grade ' || pick('>', '=') || ' 2', t || '.employees % 2 = 0', 'coalesce(' || t || '.risk_score, -1) > 50', t || '.tags @> ''{vip}''',
    '10 / (CASE WHEN ' || t || '.employees = 3 THEN 0 ELSE 1 END) = 10', t || '.owner_id = ' || pick('1', '2', '3'), 'length(' || t || '.name) > 9', t || '.region IN (''north'')',
    t || '.id < ' || pick('20', '120', '500'), 'NOT (' || t || '.annual_revenue > 3000)', t || '.phone::bigint > 0')
$$;
CREATE FUNCTION public.columns(t text) RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT concat_ws(', ', t || '.' || pick('id', 'code', 'phone', 'email'), t || '.' || pick('annual_revenue', 'credit_rating', 'legal_id4', 'risk_score', 'employees'), t || '.' || pick('name', 'region', 'tags', 'grade', 'row_version'))
$$;
INSERT INTO public.query (text)
SELECT CASE (n % 12)
       WHEN 0 THEN format('SELECT %s FROM crm.account AS a WHERE %s', columns('a'), condition('a'))
       WHEN 1 THEN format('SELECT %s FROM crm.account AS a WHERE %s AND %s', columns('a'), condition('a'), condition('a'))
       WHEN 2 THEN format('SELECT %s FROM crm.account AS a WHERE %s OR %s', columns('a'), condition('a'), condition('a'))
       WHEN 3 THEN format('SELECT a.%s AS k, count(*), sum(a.annual_revenue), min(a.phone), max(a.credit_rating) FROM crm.account AS a WHERE %s GROUP BY 1', pick('credit_rating', 'phone', 'grade', 'region', 'legal_id4'), condition('a'))
       WHEN 4 THEN format('SELECT a.%s AS k, count(*) FROM crm.account AS a GROUP BY 1 HAVING %s', pick('credit_rating', 'phone', 'region'), pick('max(a.annual_revenue) > 5000', 'min(a.phone) IS NULL', 'count(a.legal_id4) > 3', 'bool_or(a.employees = 3)'))
       WHEN 5 THEN format('SELECT o.name, o.amount, a.phone, a.annual_revenue FROM crm.opportunity AS o LEFT JOIN crm.account AS a ON a.id = o.account_id AND %s', condition('a'))
       WHEN 6 THEN format('SELECT o.name, %s FROM crm.opportunity AS o LEFT JOIN crm.account AS a ON a.id = o.account_id WHERE %s', columns('a'), condition('a'))
       WHEN 7 THEN format('SELECT %s FROM crm.account AS a WHERE %s (SELECT FROM crm.contact AS c WHERE c.account_id = a.id AND c.phone %s)', columns('a'), pick('EXISTS', 'NOT EXISTS'), pick('> a.phone', 'LIKE ''139%''', 'IS NULL', '= ''13900000002'''))
       WHEN 8 THEN format('SELECT DISTINCT a.%s, a.%s FROM crm.account AS a WHERE %s', pick('phone', 'credit_rating', 'legal_id4'), pick('email', 'annual_revenue', 'region'), condition('a'))
       WHEN 9 THEN format('SELECT a.id, rank() OVER (PARTITION BY a.%s ORDER BY a.%s, a.id) FROM crm.account AS a WHERE %s', pick('region', 'credit_rating'), pick('annual_revenue', 'phone'), condition('a'))
       WHEN 10 THEN format('WITH w AS %s (SELECT %s, a.id AS w_id FROM crm.account AS a WHERE %s) SELECT * FROM w UNION ALL SELECT * FROM w WHERE w_id > 50', pick('MATERIALIZED', 'NOT MATERIALIZED'), columns('a'), condition('a'))
       ELSE format('SELECT to_jsonb(a) - %s FROM crm.account AS a FULL JOIN crm.contact AS c ON c.account_id = a.id AND c.name = %s WHERE %s', quote_literal('updated_at'), quote_literal('C' || n % 17), condition('a'))
       END
  FROM generate_series(1, :queries) AS n;

CREATE TABLE public.outcome (query int, role text, folded boolean, result text);
CREATE PROCEDURE public.run() LANGUAGE plpgsql AS $$
DECLARE
    q record;
    who text;
    fold boolean;
    outcome text;
BEGIN
    FOR q IN SELECT * FROM public.query ORDER BY id LOOP
        FOREACH who IN ARRAY ARRAY['sales', 'manager', 'service', 'finance', 'admin', 'newcomer'] LOOP
            FOREACH fold IN ARRAY ARRAY[true, false] LOOP
                BEGIN
                    EXECUTE format('SET LOCAL ROLE %I', 'access_fuzz_' || who);
                    EXECUTE format('SET LOCAL crm.fold_access = %s', fold);
                    EXECUTE format('SELECT count(*) || md5(coalesce(string_agg(q::text, chr(10) ORDER BY q::text COLLATE "C"), '''')) FROM (%s) AS q', q.text) INTO outcome;
                EXCEPTION WHEN OTHERS THEN
                    outcome := SQLSTATE || CASE WHEN SQLSTATE LIKE '22%' THEN '' ELSE SQLERRM END;
                END;
                RESET ROLE;
                INSERT INTO public.outcome VALUES (q.id, who, fold, outcome);
            END LOOP;
        END LOOP;
    END LOOP;
END $$;
CALL public.run();
SELECT format('%s as %s: %s, unfolded %s: %s', a.query, a.role, a.result, b.result, q.text)
  FROM public.outcome AS a JOIN public.outcome AS b ON b.query = a.query AND b.role = a.role AND a.folded AND NOT b.folded JOIN public.query AS q ON q.id = a.query
 WHERE a.result <> b.result AND NOT (a.result ~ '^22' OR b.result ~ '^22') ORDER BY 1 LIMIT 20;
\o /tmp/crm_access_fuzz.summary
SELECT format('%s queries, %s runs, %s distinct outcomes, %s errors, %s empty', count(DISTINCT query), count(*), count(DISTINCT result), count(*) FILTER (WHERE result ~ '^22'),
              count(*) FILTER (WHERE result = '0d41d8cd98f00b204e9800998ecf8427e')) FROM public.outcome;
SQL
)
summary=$(cat /tmp/crm_access_fuzz.summary)
rm -f /tmp/crm_access_fuzz.summary
if [ -n "$found" ]; then
    printf '%s\n' "$found"
    echo "not ok - access fuzzer: $summary"
    exit 1
fi
echo "ok - access fuzzer: $summary"
