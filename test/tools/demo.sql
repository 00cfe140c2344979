-- What the demo prints: one section a promise. Every figure comes from the functions and views that a user has.
\set ON_ERROR_STOP on
\pset linestyle unicode
\pset border 2
\pset footer off
\pset null '·'
\set section '\\echo \\echo :title'

-- the present of the data: their last day, so that a company of the past is looked at in its own time
SELECT (max(h.entered_at) + interval '1 hour') AS present, (date_trunc('month', max(h.entered_at)) + interval '1 month')::date AS next_month,
       (date_trunc('month', max(h.entered_at)) + interval '2 months')::date AS month_after
  FROM crm_data.stage_history AS h \gset

\echo
\echo '=== The same customer, three people ==='
\echo 'SELECT * FROM crm.account, crm.opportunity ... by three logins, straight from SQL. The planner folds the rules in: no middle layer to go around.'
SELECT o.account_id AS id, o.id AS deal
  FROM crm_data.opportunity AS o JOIN crm_data.member AS m ON m.id = o.owner_id AND m.role_name = 'demo_sales'
 ORDER BY (o.outcome = 'open') DESC, o.amount DESC NULLS LAST, o.id LIMIT 1 \gset
\set look 'SELECT jsonb_build_object(\'1 name\', (SELECT name FROM crm.account WHERE id = :id), \'2 phone\', (SELECT phone FROM crm.account WHERE id = :id), \'3 annual revenue\', (SELECT annual_revenue FROM crm.account WHERE id = :id), \'4 credit rating\', (SELECT credit_rating FROM crm.account WHERE id = :id), \'5 deals seen\', (SELECT count(*) FROM crm.opportunity WHERE account_id = :id), \'6 largest deal\', (SELECT max(amount) FROM crm.opportunity WHERE account_id = :id), \'7 contracts seen\', (SELECT count(*) FROM crm.contract WHERE account_id = :id), \'8 received so far\', (SELECT sum(amount) FROM crm.receivable_entry WHERE account_id = :id AND kind = \'payment\'), \'9 customers in the list\', (SELECT count(*) FROM crm.account))::text'
\connect - demo_sales
:look AS sales \gset
\connect - demo_service
:look AS service \gset
\connect - demo_finance
:look AS finance \gset
\connect - postgres
SELECT substr(k, 3) AS "field", :'sales'::jsonb ->> k AS "sales rep (owner)", :'service'::jsonb ->> k AS "service agent", :'finance'::jsonb ->> k AS "finance clerk"
  FROM jsonb_object_keys(:'sales'::jsonb) AS k ORDER BY k;
