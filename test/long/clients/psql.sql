-- psql: see access_clients.sh
SELECT 'views', CASE WHEN count(*) >= 30 THEN 'enough' ELSE 'few' END FROM information_schema.views WHERE table_schema = 'crm';
SET ROLE clients_agent;
SELECT 'agent', name, phone, coalesce(annual_revenue::text, 'null') FROM crm.account WHERE code = 'C1';
SET ROLE clients_rep;
SELECT 'rep', name, phone, annual_revenue FROM crm.account WHERE code = 'C1';
PREPARE p (text) AS SELECT phone FROM crm.account WHERE code = $1;
SET ROLE clients_agent;
EXECUTE p ('C1') \gset a_
SET ROLE clients_rep;
EXECUTE p ('C1') \gset b_
SET ROLE clients_agent;
EXECUTE p ('C1') \gset c_
\echo prepared :a_phone :b_phone :c_phone
SET ROLE clients_rep;
UPDATE crm.account SET phone = '13900139000' WHERE code = 'C1' RETURNING 'write', phone;
SELECT FROM crm_data.account;
\echo refused :LAST_ERROR_SQLSTATE
