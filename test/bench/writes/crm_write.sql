\set id random(1, :customers)
\set v random(1, 1000000)
SELECT crm.write('account', :id, gen_random_uuid(), 'web', (SELECT a.row_version FROM crm_data.account AS a WHERE a.id = :id),
    jsonb_build_object(('{address,legal_person,type,industry,province,city,district,credit_rating,website}'::text[])[1 + :client_id % 9], 'v' || :v));
