-- Each client writes a field of his own until there are no more: what two write is a conflict. None is a field by which duplicates are found.
\set id random(1, :customers)
\set v random(1, 30000)
SELECT crm.write('account', :id, gen_random_uuid(), 'web', (SELECT a.row_version FROM crm_data.account AS a WHERE a.id = :id),
    jsonb_build_object(('{type,industry,province,city,district,credit_rating,founded_year,employees,annual_revenue}'::text[])[1 + :client_id % 9], :v::text));
