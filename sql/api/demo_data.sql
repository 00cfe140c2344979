-- A company that never was: crm.demo_data fills an empty CRM with customers in Chinese and Latin script, duplicates with known truth, deals that can be learned from,
-- follow-ups, contracts and money. Set-based, so that a million customers take minutes; every value is a function of the arguments, so that two runs are equal.

-- The one source of chance. salt is the seed and the use together, so that two uses never see the same numbers.
CREATE OR REPLACE FUNCTION crm._demo_u(n bigint, salt bigint) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ((hashint8extended(n, salt) >> 11) & 9007199254740991)::double precision / 9007199254740992.0;
COMMENT ON FUNCTION crm._demo_u(bigint, bigint) IS
'Number from 0 up to but excluding 1 that depends on n and salt alone: the top 53 bits of PostgreSQL''s own hash.';

CREATE OR REPLACE FUNCTION crm._demo_uscc(n bigint, division text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    alphabet constant text := '0123456789ABCDEFGHJKLMNPQRTUWXY';
    organisation_weights constant int[] := '{3,7,9,10,5,8,4,2}';
    weights constant int[] := '{1,3,9,27,19,26,16,17,20,29,25,13,8,24,10,30,28}';
    body text := lpad((n % 100000000)::text, 8, '0');
    code text;
    total int := 0;
BEGIN
    FOR i IN 1..8 LOOP
        total := total + organisation_weights[i] * substr(body, i, 1)::int;
    END LOOP;
    code := '91' || division || body || substr('0123456789X', (11 - total % 11) % 11 + 1, 1);
    total := 0;
    FOR i IN 1..17 LOOP
        total := total + weights[i] * (strpos(alphabet, substr(code, i, 1)) - 1);
    END LOOP;
    RETURN code || substr(alphabet, (31 - total % 31) % 31 + 1, 1);
END
$$;
COMMENT ON FUNCTION crm._demo_uscc(bigint, text) IS
'Unified social credit code of a company that does not exist, with valid check characters (GB 32100-2015, GB 11714-1997). n: number of the company, its last eight digits are used; division: six digits of an administrative division.';

CREATE OR REPLACE FUNCTION crm.demo_data(accounts int, seed int, as_of date DEFAULT '2026-11-20')
    RETURNS TABLE (object text, row_count bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- writes tables that no person has rights on
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'Asia/Shanghai' -- days begin there, whoever calls
AS $$
DECLARE
    -- the present of the company: the evening of as_of
    present constant timestamptz := as_of + time '18:00';
    salt constant bigint := seed::bigint * 1000;
    marker constant jsonb := jsonb_build_object('accounts', accounts, 'seed', seed, 'as_of', as_of);
    regions constant text[] := '{north,northeast,east,central,south,west,overseas}';
    region_names constant text[] := '{华北,东北,华东,华中,华南,西部,海外}';
    cities constant text[] := '{北京,天津,石家庄,太原,沈阳,大连,长春,哈尔滨,上海,南京,苏州,杭州,宁波,合肥,厦门,济南,青岛,郑州,武汉,长沙,广州,深圳,东莞,南宁,海口,成都,重庆,西安,昆明,兰州,Singapore,London,Berlin,Sydney,Toronto,Austin,Dublin,Amsterdam}';
    provinces constant text[] := '{北京,天津,河北,山西,辽宁,辽宁,吉林,黑龙江,上海,江苏,江苏,浙江,浙江,安徽,福建,山东,山东,河南,湖北,湖南,广东,广东,广东,广西,海南,四川,重庆,陕西,云南,甘肃,Singapore,England,Berlin,New South Wales,Ontario,Texas,Leinster,North Holland}';
    city_regions constant int[] := '{1,1,1,1,2,2,2,2,3,3,3,3,3,3,3,3,3,4,4,4,5,5,5,5,5,6,6,6,6,6,7,7,7,7,7,7,7,7}';
    divisions constant text[] := '{110108,120101,130102,140105,210102,210202,220102,230102,310115,320102,320505,330106,330203,340104,350203,370102,370202,410102,420102,430102,440106,440305,441900,450103,460105,510104,500103,610113,530102,620102}';
    dial constant text[] := '{+65,+44,+49,+61,+1,+1,+353,+31}';
    lon constant float8[] := '{116.4,117.2,114.5,112.5,123.4,121.6,125.3,126.6,121.5,118.8,120.6,120.2,121.5,117.2,118.1,117.0,120.4,113.6,114.3,112.9,113.3,114.1,113.7,108.4,110.3,104.1,106.5,108.9,102.7,103.8,103.8,-0.1,13.4,151.2,-79.4,-97.7,-6.3,4.9}';
    lat constant float8[] := '{39.9,39.1,38.0,37.9,41.8,38.9,43.9,45.8,31.2,32.1,31.3,30.3,29.9,31.8,24.5,36.7,36.1,34.7,30.6,28.2,23.1,22.5,23.0,22.8,20.0,30.7,29.6,34.3,25.0,36.1,1.35,51.5,52.5,-33.9,43.7,30.3,53.3,52.4}';
    trades_zh constant text[] := '{网络科技,信息技术,机械制造,精密仪器,新能源,光伏科技,电力设备,建筑工程,物流,商贸,医疗器械,生物医药,通信技术,教育科技,软件,电子,食品,化工,供应链管理,智能装备}';
    trades_en constant text[] := '{Networks,Data Systems,Machinery,Instruments,Energy,Solar,Power,Construction,Logistics,Trading,Medical,Pharma,Telecom,Learning,Software,Electronics,Foods,Chemicals,Freight,Robotics}';
    trade_industries constant text[] := '{software,software,manufacturing,manufacturing,energy,energy,energy,construction,logistics,retail,healthcare,healthcare,telecom,education,software,manufacturing,retail,manufacturing,logistics,manufacturing}';
    brand_first constant text := '华中天金新东恒瑞宏盛嘉远博星海云龙泰永鑫凯德智创科力正大同方卓佳润景源亿锦启安航';
    brand_second constant text := '达信通泰源光辉业邦成德康隆伟丰鸿腾航宇图川峰岳诺睿哲朗晟骏尚禾谷桥林原野江湖虹翔';
    brand_third constant text := '升和利昌兴旺荣顺联合众汇聚能元亨';
    forms_zh constant text[] := '{有限公司,有限公司,有限公司,有限公司,股份有限公司,有限责任公司,集团有限公司,有限公司}';
    forms_en constant text[] := '{Ltd,Inc.,LLC,GmbH,PLC,Ltd,Inc.,BV}';
    english_first constant text[] := '{Blue,Silver,North,Summit,Harbor,Cedar,Iron,Bright,Stone,River,Maple,Granite,Golden,Clear,Red,Oak,Falcon,Amber,Coral,Delta,Ember,Frost,Green,Hazel,Indigo,Juniper,Lunar,Mist,Noble,Onyx}';
    english_second constant text[] := '{ridge,field,bridge,wood,water,gate,point,crest,view,land,brook,haven,port,shore,peak,vale,forge,works,line,path,mark,ford,mere,dale,cliff,grove,mill,spring,moor,well}';
    surnames constant text := '王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕';
    given_names constant text := '伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰红梅建国文斌宇浩欣怡子涵思远佳琪晨曦俊峰雪莹志强海燕';
    english_given constant text[] := '{James,Mary,Robert,Linda,Michael,Susan,David,Karen,Daniel,Emma,Thomas,Laura,Peter,Julia,Henry,Alice,Oliver,Grace,Simon,Clara}';
    english_family constant text[] := '{Miller,Baker,Turner,Cooper,Walker,Hughes,Foster,Bennett,Murray,Dixon,Fischer,Weber,Meyer,Janssen,Visser,Murphy,Byrne,Lim,Tan,Carter}';
    functions constant text[] := '{director,service,service,finance,legal,marketing,risk,steward,admin}';
    reps_per_region constant int := least(100, greatest(2, accounts / 700));
    reps constant int := 7 * reps_per_region;
    entities constant int := accounts - accounts * 6 / 100;
    deals constant int := least(3 * accounts, 15000 + accounts / 8);
    leads constant int := least(50000, accounts / 5);
    lone_every constant int := CASE WHEN accounts <= 20000 THEN 1 ELSE 5 END;
    pipeline bigint;
    stages bigint[];
    pool bigint;
    team0 bigint;
    member0 bigint;
    product0 bigint;
    campaign0 bigint;
    account0 bigint;
    contact0 bigint;
    lead0 bigint;
    deal0 bigint;
    contract0 bigint;
    existing jsonb;
BEGIN
    IF accounts IS NULL OR accounts < 50 OR accounts > 2000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'number of accounts must be between 50 and 2000000',
            HINT = 'Try: SELECT * FROM crm.demo_data(500, 1);';
    END IF;
    IF seed IS NULL OR as_of IS NULL OR as_of NOT BETWEEN '2015-01-01' AND '2100-01-01' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'seed must be a number and as_of a day between 2015 and 2100',
            HINT = 'Leave as_of out for the fixed day on which tests are written.';
    END IF;

    -- One generator at a time, and none beside an import. What is there decides: nothing, the same company already, or customers of somebody.
    LOCK TABLE crm_data.account IN SHARE ROW EXCLUSIVE MODE;
    SELECT a.attrs -> 'demo' -> 'run' INTO existing FROM crm_data.account AS a WHERE a.code = 'DEMO-0000001';
    IF existing IS DISTINCT FROM marker AND EXISTS (SELECT FROM crm_data.account) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'demo data are only made in an empty CRM, and this one has customers',
            DETAIL = CASE WHEN existing IS NULL THEN 'The customers were not made by crm.demo_data.'
                          ELSE format('They were made by crm.demo_data(%s, %s, %L).', existing ->> 'accounts', existing ->> 'seed', existing ->> 'as_of') END,
            HINT = 'Create another database for the demo.';
    END IF;
    IF existing IS NULL THEN
        SELECT p.id, array_agg(s.id ORDER BY s.seq) INTO pipeline, stages
        FROM crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id
        WHERE p.code = 'standard' AND s.code IN ('contact', 'needs', 'demo', 'quote', 'negotiation', 'won', 'lost')
        GROUP BY p.id;
        IF cardinality(stages) IS DISTINCT FROM 7 THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = 'demo data need the standard pipeline with its seven stages',
                HINT = 'Run CALL crm.migrate() and leave the pipeline "standard" as it is shipped.';
        END IF;
        SELECT p.id INTO pool FROM crm_data.pool AS p ORDER BY p.id LIMIT 1;
        INSERT INTO crm_data.field (object, name, type, label, purpose, class, write_class, custom)
        VALUES ('account', 'demo', 'jsonb', '{"en": "Truth of the demo", "zh": "演示数据真值"}',
                'Who the generated customer is and how its duplicate was damaged, so that matching can be scored.', 'custom', 'fixed', true)
        ON CONFLICT DO NOTHING;

        -- Identifiers are taken in one piece from each sequence: a row's number in the generator plus the table's base is its id.
        team0 := crm._demo_reserve('team', 15);
        member0 := crm._demo_reserve('member', 16 + reps);
        product0 := crm._demo_reserve('product', 12);
        campaign0 := crm._demo_reserve('campaign', 6);
        account0 := crm._demo_reserve('account', accounts);
        contact0 := crm._demo_reserve('contact', 2 * entities);
        lead0 := crm._demo_reserve('lead', leads);
        deal0 := crm._demo_reserve('opportunity', deals);
        contract0 := crm._demo_reserve('contract', deals);

        -- teams: 1 head office, 2 sales, 3 to 9 the regions, 10 to 15 the other departments
        INSERT INTO crm_data.team (id, parent_id, code, name, region, created_at) OVERRIDING SYSTEM VALUE
        SELECT team0 + t.n, CASE WHEN t.n = 1 THEN NULL WHEN t.n BETWEEN 3 AND 9 THEN team0 + 2 ELSE team0 + 1 END,
               'demo-' || t.code, t.name, CASE WHEN t.n BETWEEN 3 AND 9 THEN regions[t.n - 2] END, present - interval '36000 hours'
        FROM (SELECT n, CASE WHEN n BETWEEN 3 AND 9 THEN regions[n - 2] ELSE (ARRAY['head', 'sales'])[n] END AS code,
                     CASE WHEN n BETWEEN 3 AND 9 THEN region_names[n - 2] || '销售部' ELSE (ARRAY['总部', '销售中心'])[n] END AS name FROM generate_series(1, 9) AS n
              UNION ALL
              SELECT 9 + o, (ARRAY['service', 'finance', 'legal', 'marketing', 'risk', 'data'])[o], (ARRAY['客户服务部', '财务部', '法务部', '市场部', '风险控制部', '数据管理部'])[o] FROM generate_series(1, 6) AS o) AS t
        ORDER BY t.n;

        -- members: 1 to 9 departments, 10 to 16 the managers of the regions, then the representatives, region by region in turn. The first of each kind has a login name;
        -- the roles themselves are for an administrator to create.
        INSERT INTO crm_data.member (id, role_name, employee_no, full_name, phone, email, team_id, manager_id, rank, hired_at, capacity, regions, locale, created_at) OVERRIDING SYSTEM VALUE
        SELECT member0 + m.n,
               CASE WHEN m.n IN (1, 2, 4, 5, 6, 7, 8, 9) THEN 'demo_' || functions[m.n] WHEN m.n = 12 THEN 'demo_manager' WHEN m.n = 19 THEN 'demo_sales' END,
               'E' || lpad(m.n::text, 4, '0'),
               CASE WHEN m.region = 7 THEN english_given[1 + floor(20 * crm._demo_u(m.n, salt + 1))::int] || ' ' || english_family[1 + floor(20 * crm._demo_u(m.n, salt + 2))::int]
                    ELSE substr(surnames, 1 + floor(40 * crm._demo_u(m.n, salt + 1))::int, 1) || substr(given_names, 1 + 2 * floor(24 * crm._demo_u(m.n, salt + 2))::int, 1 + floor(2 * crm._demo_u(m.n, salt + 3))::int) END,
               '138' || lpad(floor(1e8 * crm._demo_u(m.n, salt + 4))::text, 8, '0'), 'e' || lpad(m.n::text, 4, '0') || '@demo.example',
               CASE WHEN m.n = 1 THEN team0 + 1 WHEN m.n <= 3 THEN team0 + 10 WHEN m.n <= 9 THEN team0 + 7 + m.n - CASE WHEN m.n = 9 THEN 1 ELSE 0 END ELSE team0 + 2 + m.region END,
               CASE WHEN m.n = 1 THEN NULL WHEN m.n <= 16 THEN member0 + 1 ELSE member0 + 9 + m.region END,
               CASE WHEN m.n = 1 THEN 9 WHEN m.n BETWEEN 10 AND 16 THEN 6 WHEN m.n > 16 THEN 2 + floor(3 * crm._demo_u(m.n, salt + 5))::int ELSE 4 END,
               as_of - 60 - floor(2400 * crm._demo_u(m.n, salt + 6))::int, CASE WHEN m.n > 16 THEN 50 ELSE 0 END,
               CASE WHEN m.n > 9 THEN ARRAY[regions[m.region]] ELSE '{}' END, CASE WHEN m.region = 7 THEN 'en' ELSE 'zh' END, present - interval '36000 hours'
        FROM (SELECT n, CASE WHEN n > 16 THEN (n - 17) % 7 + 1 WHEN n > 9 THEN n - 9 END AS region FROM generate_series(1, 16 + reps) AS n) AS m
        ORDER BY m.n;

        INSERT INTO crm_data.product (id, code, name, line, unit, unit_price, tax_rate, created_at) OVERRIDING SYSTEM VALUE
        SELECT product0 + n, 'DEMO-P' || lpad(n::text, 2, '0'),
               (ARRAY['客户数据平台', '客户数据平台 旗舰版', '营销自动化', '在线客服云', '在线客服云 专业版', '数据分析云', '智能网关', '边缘控制器', '光伏监测终端', '实施服务', '年度运维', '驻场支持'])[n],
               (ARRAY['platform', 'platform', 'platform', 'saas', 'saas', 'saas', 'devices', 'devices', 'devices', 'services', 'services', 'services'])[n],
               (ARRAY['套', '套', '套', '年', '年', '年', '台', '台', '台', '人天', '年', '人天'])[n],
               (ARRAY[180000, 420000, 96000, 36000, 88000, 52000, 6800, 12500, 4200, 3500, 60000, 2800])[n], CASE WHEN n BETWEEN 7 AND 9 THEN 0.13 ELSE 0.06 END, present - interval '36000 hours'
        FROM generate_series(1, 12) AS n ORDER BY n;

        INSERT INTO crm_data.campaign (id, code, name, channel, starts_on, ends_on, budget, cost, state, owner_id, team_id, created_at) OVERRIDING SYSTEM VALUE
        SELECT campaign0 + n, 'DEMO-C' || n, (ARRAY['春季展会', '光伏行业白皮书', '直播公开课', '老客户召回', '搜索推广', 'Autumn trade show'])[n], (ARRAY['event', 'web', 'app', 'sms', 'web', 'event'])[n],
               as_of - 700 + 110 * n, as_of - 640 + 110 * n, 50000 * n, round((42000 * n * (0.8 + 0.4 * crm._demo_u(n, salt + 7)))::numeric, 2),
               CASE WHEN as_of - 640 + 110 * n < as_of THEN 'finished' ELSE 'running' END, member0 + 6, team0 + 13, present - interval '17000 hours'
        FROM generate_series(1, 6) AS n ORDER BY n;

        INSERT INTO crm_data.fx_rate (rate_date, currency, rate, source, created_at)
        SELECT as_of - d, c.currency, round((c.rate * (1 + 0.03 * sin(d / 90.0 + ascii(c.currency)) + 0.002 * (crm._demo_u(d, salt + 8) - 0.5)))::numeric, 8), 'demo', (as_of - d)::timestamptz
        FROM generate_series(0, 799) AS d, (VALUES ('USD', 7.12), ('EUR', 7.83), ('GBP', 9.18), ('SGD', 5.32)) AS c (currency, rate)
        ON CONFLICT DO NOTHING;

        -- Customers. Entities come first, their duplicates after them; a duplicate repeats an entity with one kind of damage, and attrs says which. Sister companies share
        -- brand and parent but are customers of their own.
        INSERT INTO crm_data.account (id, code, name, uscc, phone, phone_norm, email, email_norm, website, address, legal_person, legal_id4, type, industry, grade, region, province, city, geo,
                                      employees, annual_revenue, currency, founded_year, owner_id, team_id, pool_id, credit_rating, tags, complaint_tags, attrs, parent_id, lifecycle, created_at, updated_at) OVERRIDING SYSTEM VALUE
        SELECT account0 + n, 'DEMO-' || lpad(n::text, 7, '0'), v.name,
               CASE WHEN kind <> 'no_code' AND (NOT is_copy OR u_keep < 0.45) THEN uscc END,
               CASE kind WHEN 'other_phone' THEN other_phone
                         WHEN 'phone_format' THEN CASE WHEN chinese THEN '+86 ' || substr(phone, 1, 3) || '-' || substr(phone, 4, 4) || '-' || substr(phone, 8) ELSE '00' || substr(phone, 2) END
                         WHEN 'full_width' THEN translate(phone, '0123456789+', '０１２３４５６７８９＋') ELSE CASE WHEN is_copy AND u_keep > 0.85 THEN NULL ELSE phone END END,
               CASE WHEN kind = 'other_phone' THEN CASE WHEN chinese THEN '+86' ELSE '' END || other_phone WHEN is_copy AND u_keep > 0.85 AND kind NOT IN ('phone_format', 'full_width') THEN NULL
                    ELSE CASE WHEN chinese THEN '+86' ELSE '' END || phone END,
               CASE WHEN NOT is_copy OR u_keep BETWEEN 0.3 AND 0.7 THEN email END, CASE WHEN NOT is_copy OR u_keep BETWEEN 0.3 AND 0.7 THEN email END,
               CASE WHEN NOT is_copy THEN 'https://www.' || split_part(email, '@', 2) END,
               CASE WHEN chinese THEN provinces[city] || CASE WHEN provinces[city] IN ('北京', '天津', '上海', '重庆') THEN '市' ELSE '省' || cities[city] || '市' END || (ARRAY['高新区', '经济开发区', '中山路', '人民路', '科技园'])[1 + e % 5] || (1 + e % 300) || '号' ELSE (1 + e % 300) || ' ' || (ARRAY['High Street', 'Market Road', 'Park Lane', 'Station Road', 'Mill Street'])[1 + e % 5] END,
               legal_person, CASE WHEN chinese AND (NOT is_copy OR u_keep < 0.6) THEN id4 END,
               type, industry, grade::smallint, regions[city_regions[city]], provinces[city], cities[city],
               point(lon[city] + 0.2 * (crm._demo_u(e, salt + 30) - 0.5), lat[city] + 0.2 * (crm._demo_u(e, salt + 31) - 0.5)),
               (10 ^ (1 + 0.6 * grade * crm._demo_u(e, salt + 32) + crm._demo_u(e, salt + 33)))::int,
               round((1e6 * 10 ^ (0.5 * grade + crm._demo_u(e, salt + 34)))::numeric, -4), CASE WHEN chinese THEN 'CNY' WHEN city IN (32) THEN 'GBP' WHEN city = 31 THEN 'SGD' WHEN city IN (33, 37, 38) THEN 'EUR' ELSE 'USD' END,
               (extract(year FROM as_of) - 2 - floor(28 * crm._demo_u(e, salt + 35)))::smallint,
               CASE WHEN u_owner >= 0.05 THEN member0 + 16 + rep END, CASE WHEN u_owner >= 0.05 THEN team0 + 2 + city_regions[city] END, CASE WHEN u_owner < 0.05 THEN pool END,
               (ARRAY['A', 'A', 'B', 'B', 'B', 'C', 'C', 'D'])[1 + floor(8 * crm._demo_u(e, salt + 36))::int],
               CASE WHEN industry = 'energy' AND crm._demo_u(e, salt + 37) < 0.5 THEN ARRAY[(ARRAY['光伏电站业主', '储能项目EPC'])[1 + e % 2]] WHEN crm._demo_u(e, salt + 37) > 0.9 THEN '{价格敏感}' ELSE '{}' END,
               CASE WHEN crm._demo_u(e, salt + 38) < 0.06 THEN ARRAY[(ARRAY['quality', 'delivery', 'promise'])[1 + e % 3]] ELSE '{}' END,
               jsonb_build_object('demo', jsonb_strip_nulls(jsonb_build_object('entity', e, 'damage', CASE WHEN is_copy THEN kind END, 'run', CASE WHEN n = 1 THEN marker END))),
               CASE WHEN sister THEN account0 + e - 1 END, 'prospect', made, made
        FROM (SELECT b.*, CASE WHEN NOT is_copy THEN 'none' WHEN chinese THEN (ARRAY['form_variant', 'no_region', 'short_name', 'homophone', 'full_width', 'traditional', 'brackets', 'phone_format', 'other_phone', 'no_code'])[1 + floor(10 * crm._demo_u(n, salt + 20))::int]
                               ELSE (ARRAY['form_variant', 'upper', 'typo', 'short_name', 'punctuation', 'phone_format', 'other_phone', 'token_order'])[1 + floor(8 * crm._demo_u(n, salt + 20))::int] END AS kind,
                     crm._demo_u(n, salt + 21) AS u_keep, CASE WHEN chinese THEN '139' || lpad(floor(1e8 * crm._demo_u(n, salt + 22))::text, 8, '0') ELSE dial[city - 30] || floor(2e8 + 7e8 * crm._demo_u(n, salt + 22))::text END AS other_phone,
                     crm._demo_u(e, salt + 23) AS u_owner, (city_regions[city] - 1) + 7 * floor(reps_per_region * crm._demo_u(e, salt + 24))::int + 1 AS rep,
                     present - make_interval(secs => 86400 * CASE WHEN is_copy THEN 3 + floor(700 * crm._demo_u(n, salt + 25)) ELSE 731 + floor(900 * crm._demo_u(n, salt + 25)) END) AS made
              FROM (SELECT x.n, x.e, x.is_copy, x.sister, x.city, x.city <= 30 AS chinese,
                           -- the parts of the name; a sister company takes the brand of the entity before it
                           CASE WHEN x.city <= 30 THEN substr(brand_first, 1 + floor(40 * crm._demo_u(x.b, salt + 10))::int, 1) || substr(brand_second, 1 + floor(40 * crm._demo_u(x.b, salt + 11))::int, 1)
                                     || CASE WHEN entities > 400 AND crm._demo_u(x.b, salt + 12) < 0.7 OR entities > 20000 THEN substr(brand_third, 1 + floor(16 * crm._demo_u(x.b, salt + 13))::int, 1) ELSE '' END
                                     || CASE WHEN entities > 50000 THEN substr(brand_second, 1 + floor(40 * crm._demo_u(x.b, salt + 19))::int, 1) ELSE '' END
                                ELSE english_first[1 + floor(30 * crm._demo_u(x.b, salt + 10))::int] || english_second[1 + floor(30 * crm._demo_u(x.b, salt + 11))::int]
                                     || CASE WHEN entities > 1000 THEN ' ' || english_family[1 + floor(20 * crm._demo_u(x.b, salt + 12))::int] ELSE '' END
                                     || CASE WHEN entities > 20000 THEN ' ' || english_first[1 + floor(30 * crm._demo_u(x.b, salt + 13))::int] ELSE '' END END AS brand,
                           x.trade, trade_industries[x.trade] AS trade_industry, floor(8 * crm._demo_u(x.e, salt + 15))::int + 1 AS form, x.public,
                           CASE WHEN x.public = 'government' THEN 'government' WHEN x.public = 'education' THEN 'education' ELSE trade_industries[x.trade] END AS industry,
                           CASE WHEN x.public IS NOT NULL THEN x.public WHEN crm._demo_u(x.e, salt + 16) < 0.45 THEN 'smb' ELSE 'enterprise' END AS type,
                           (ARRAY[1, 1, 1, 2, 2, 2, 2, 3, 3, 4])[1 + floor(10 * crm._demo_u(x.e, salt + 17))::int] AS grade,
                           CASE WHEN x.city <= 30 THEN (ARRAY['138', '139', '136', '158', '159', '186', '187', '177'])[1 + x.e % 8] || lpad(floor(1e8 * crm._demo_u(x.e, salt + 18))::text, 8, '0')
                                ELSE dial[x.city - 30] || floor(2e8 + 7e8 * crm._demo_u(x.e, salt + 18))::text END AS phone,
                           CASE WHEN x.city <= 30 THEN crm._demo_uscc(((x.e::bigint * 7919 + seed) % 100000000 + 100000000) % 100000000, divisions[x.city]) END AS uscc,
                           'info@' || CASE WHEN x.city <= 30 THEN 'c' ELSE 'w' END || x.e || '.example' AS email,
                           CASE WHEN x.city <= 30 THEN substr(surnames, 1 + floor(40 * crm._demo_u(x.e, salt + 26))::int, 1) || substr(given_names, 1 + 2 * floor(24 * crm._demo_u(x.e, salt + 27))::int, 2)
                                ELSE english_given[1 + floor(20 * crm._demo_u(x.e, salt + 26))::int] || ' ' || english_family[1 + floor(20 * crm._demo_u(x.e, salt + 27))::int] END AS legal_person,
                           lpad(floor(1000 * crm._demo_u(x.e, salt + 28))::text, 3, '0') || substr('0123456789X', 1 + floor(11 * crm._demo_u(x.e, salt + 29))::int, 1) AS id4
                    FROM (SELECT g.n, g.e, g.n > entities AS is_copy, g.sister, CASE WHEN g.sister THEN g.e - 1 ELSE g.e END AS b,
                                 -- a sister sits elsewhere but in the same script, so that the brand can be the same
                                 CASE WHEN crm._demo_u(CASE WHEN g.sister THEN g.e - 1 ELSE g.e END, salt + 40) < 0.78 THEN 1 + floor(30 * crm._demo_u(g.e, salt + 41))::int ELSE 31 + floor(8 * crm._demo_u(g.e, salt + 41))::int END AS city,
                                 1 + floor(20 * crm._demo_u(g.e, salt + 42))::int AS trade,
                                 CASE WHEN NOT g.sister AND crm._demo_u(g.e, salt + 43) < 0.08 THEN 'government' WHEN NOT g.sister AND crm._demo_u(g.e, salt + 43) < 0.18 THEN 'education' END AS public
                          FROM (SELECT s.n, s.e, s.e > 1 AND s.e % 25 = 0 AS sister
                                FROM (SELECT n, CASE WHEN n <= entities THEN n ELSE 1 + floor(entities * crm._demo_u(n, salt + 44))::int END AS e FROM generate_series(1, accounts) AS n) AS s) AS g) AS x) AS b) AS c
        CROSS JOIN LATERAL (SELECT CASE
               WHEN NOT chinese THEN
                    CASE public WHEN 'government' THEN cities[city] || ' Borough Council ' || e WHEN 'education' THEN brand || ' College ' || cities[city] ELSE
                         CASE kind WHEN 'upper' THEN upper(brand || ' ' || trades_en[trade] || ' ' || forms_en[form])
                                   WHEN 'form_variant' THEN brand || ' ' || trades_en[trade] || ' ' || (ARRAY['Limited', 'Incorporated', 'L.L.C.', 'G.m.b.H.', 'P.L.C.', 'Limited', 'Incorporated', 'B.V.'])[form]
                                   WHEN 'typo' THEN overlay(brand PLACING '' FROM 3 FOR 1) || ' ' || trades_en[trade] || ' ' || forms_en[form]
                                   WHEN 'short_name' THEN brand || ' ' || trades_en[trade]
                                   WHEN 'punctuation' THEN brand || '  ' || trades_en[trade] || ', ' || forms_en[form]
                                   WHEN 'token_order' THEN trades_en[trade] || ' ' || brand || ' ' || forms_en[form]
                                   ELSE brand || ' ' || trades_en[trade] || ' ' || forms_en[form] END END
               WHEN public = 'government' THEN CASE kind WHEN 'short_name' THEN cities[city] || (ARRAY['教育局', '卫健委', '发改委', '交通局', '数据局'])[1 + e % 5] || '第' || e || '处'
                                                         ELSE cities[city] || '市' || (ARRAY['教育局', '卫生健康委员会', '发展和改革委员会', '交通运输局', '大数据管理局'])[1 + e % 5] || '第' || e || '处' END
               WHEN public = 'education' THEN CASE kind WHEN 'no_region' THEN brand || (ARRAY['职业技术学院', '实验中学', '大学', '外国语学校', '师范学院'])[1 + e % 5]
                                                        ELSE cities[city] || brand || (ARRAY['职业技术学院', '实验中学', '大学', '外国语学校', '师范学院'])[1 + e % 5] END
               ELSE CASE kind WHEN 'form_variant' THEN cities[city] || brand || trades_zh[trade] || CASE forms_zh[form] WHEN '有限公司' THEN '有限责任公司' ELSE '有限公司' END
                              WHEN 'no_region' THEN brand || trades_zh[trade] || forms_zh[form]
                              WHEN 'short_name' THEN cities[city] || brand || trades_zh[trade]
                              WHEN 'homophone' THEN cities[city] || translate(brand, '华达信通源光成康伟宏瑞盛嘉泰恒远博业丰', '桦答欣同元广诚抗维鸿锐胜佳太衡元渤叶峰') || trades_zh[trade] || forms_zh[form]
                              WHEN 'full_width' THEN cities[city] || ' ' || brand || ' ' || trades_zh[trade] || ' ' || forms_zh[form]
                              WHEN 'traditional' THEN translate(cities[city] || brand || trades_zh[trade] || forms_zh[form], '华东远业龙云达广汉贸机电网络医疗实验学责团仪术创军辉庆济长苏宁', '華東遠業龍雲達廣漢貿機電網絡醫療實驗學責團儀術創軍輝慶濟長蘇寧')
                              WHEN 'brackets' THEN brand || '（' || cities[city] || '）' || trades_zh[trade] || forms_zh[form]
                              ELSE cities[city] || brand || trades_zh[trade] || forms_zh[form] END END AS name) AS v
        ORDER BY n;

        -- plans that follow must not take the new tables for empty
        ANALYZE crm_data.account;

        -- One or two persons at every entity; the second is the technical one.
        INSERT INTO crm_data.contact (id, account_id, name, title, role_in_decision, phone, phone_norm, email, email_norm, reports_to, owner_id, team_id, grade, created_at, updated_at) OVERRIDING SYSTEM VALUE
        SELECT contact0 + 2 * (e - 1) + k, a.id,
               CASE WHEN a.region = 'overseas' THEN english_given[1 + floor(20 * crm._demo_u(2 * e + k, salt + 50))::int] || ' ' || english_family[1 + floor(20 * crm._demo_u(2 * e + k, salt + 51))::int]
                    ELSE substr(surnames, 1 + floor(40 * crm._demo_u(2 * e + k, salt + 50))::int, 1) || substr(given_names, 1 + 2 * floor(24 * crm._demo_u(2 * e + k, salt + 51))::int, 1 + floor(2 * crm._demo_u(2 * e + k, salt + 52))::int) END,
               CASE k WHEN 1 THEN (ARRAY['总经理', '采购总监', '副总裁', '信息中心主任'])[1 + e % 4] ELSE (ARRAY['技术经理', '系统工程师', '运维主管'])[1 + e % 3] END,
               CASE k WHEN 1 THEN CASE WHEN e % 4 = 1 THEN 'procurement' ELSE 'decision_maker' END ELSE 'technical' END,
               p.phone, '+86' || p.phone, 'u' || k || '@c' || e || '.example', 'u' || k || '@c' || e || '.example', CASE k WHEN 2 THEN contact0 + 2 * (e - 1) + 1 END,
               a.owner_id, a.team_id, a.grade, a.created_at, a.created_at
        FROM generate_series(1, entities) AS e
        JOIN crm_data.account AS a ON a.id = account0 + e
        CROSS JOIN generate_series(1, 2) AS k
        CROSS JOIN LATERAL (SELECT '137' || lpad(floor(1e8 * crm._demo_u(2 * e + k, salt + 53))::text, 8, '0') AS phone) AS p
        WHERE k = 1 OR crm._demo_u(e, salt + 54) < 0.45
        ORDER BY e, k;

        INSERT INTO crm_data.lead (id, source, channel, campaign_id, context, client_key, name, company, phone, phone_norm, email, email_norm, need, industry, region, province, city, account_id, state, assigned_at,
                                   assign_count, first_touch_due_at, first_touch_at, occurred_at, recorded_at, owner_id, team_id, grade, created_at, updated_at) OVERRIDING SYSTEM VALUE
        SELECT lead0 + n, l.source, CASE l.source WHEN 'tradeshow' THEN 'event' WHEN 'phone' THEN 'phone' ELSE 'web' END,
               CASE l.source WHEN 'tradeshow' THEN campaign0 + 1 WHEN 'whitepaper' THEN campaign0 + 2 WHEN 'live' THEN campaign0 + 3 END,
               jsonb_build_object('ip', '198.51.100.' || n % 250, 'page', '/' || l.source, 'dwell', floor(600 * crm._demo_u(n, salt + 60)), 'device', (ARRAY['pc', 'ios', 'android'])[1 + n % 3], 'latitude', (a.geo)[1], 'longitude', (a.geo)[0]),
               'demo-lead-' || n, a.legal_person, CASE WHEN l.known THEN a.name ELSE a.city || '未知线索' || n END, l.phone, CASE WHEN a.region = 'overseas' THEN l.phone ELSE '+86' || l.phone END, 'lead' || n || '@example.com', 'lead' || n || '@example.com',
               (ARRAY['想了解光伏监测方案', '希望试用数据平台', '需要报价', '咨询接口对接', 'Looking for a customer platform'])[1 + n % 5], a.industry, a.region, a.province, a.city,
               CASE WHEN l.known THEN a.id END, l.state, CASE WHEN l.state <> 'unrouted' THEN l.at + interval '2 seconds' END, CASE WHEN l.state <> 'unrouted' THEN 1 ELSE 0 END, l.at + interval '5 minutes',
               CASE WHEN l.state IN ('working', 'disqualified') THEN l.at + make_interval(secs => 20 + 900 * crm._demo_u(n, salt + 61) ^ 3) END, l.at, l.at,
               CASE WHEN l.state <> 'unrouted' THEN coalesce(a.owner_id, member0 + 17) END, CASE WHEN l.state <> 'unrouted' THEN coalesce(a.team_id, team0 + 3) END, CASE WHEN l.known THEN a.grade ELSE 0 END, l.at, l.at
        FROM (SELECT n, (ARRAY['web', 'web', 'whitepaper', 'tradeshow', 'live', 'phone', 'referral'])[1 + floor(7 * crm._demo_u(n, salt + 62))::int] AS source, crm._demo_u(n, salt + 63) < 0.25 AS known,
                     CASE WHEN n % 97 = 0 THEN 'unrouted' WHEN n <= 5 THEN 'assigned' ELSE (ARRAY['working', 'working', 'disqualified'])[1 + n % 3] END AS state,
                     present - make_interval(secs => CASE WHEN n <= 5 THEN 60 * n ELSE 86400 * 120 * crm._demo_u(n, salt + 64) END) AS at,
                     '135' || lpad(floor(1e8 * crm._demo_u(n, salt + 65))::text, 8, '0') AS phone, 1 + floor(entities * crm._demo_u(n, salt + 66))::int AS e
              FROM generate_series(1, leads) AS n) AS l
        JOIN crm_data.account AS a ON a.id = account0 + l.e
        ORDER BY n;

        -- Deals as they really go: a true probability that depends on the segment, on the representative, on the season and, for energy and software, on time; then a
        -- path through the stages. What lies after the present has not happened yet, so open deals are honestly censored.
        CREATE TEMP TABLE crm_demo_deal ON COMMIT DROP AS
        SELECT q.*, CASE WHEN q.back THEN CASE WHEN q.reached >= 5 THEN '{1,2,3,4,3,4,5}'::int[] ELSE '{1,2,3,4,3,4}'::int[] END ELSE (ARRAY[1, 2, 3, 4, 5])[:q.reached] END AS path
        FROM (SELECT p.*, CASE WHEN p.won THEN 5 ELSE 1 + (p.u_stage > 0.18)::int + (p.u_stage > 0.42)::int + (p.u_stage > 0.66)::int + (p.u_stage > 0.86)::int END AS reached,
                     crm._demo_u(p.j, salt + 70) < 0.07 AND (p.won OR p.u_stage > 0.66) AS back
              FROM (SELECT d.*, crm._demo_u(d.j, salt + 71) < 1 / (1 + exp(-(d.effect))) AS won, crm._demo_u(d.j, salt + 72) AS u_stage,
                           make_interval(secs => 86400 * least(420, CASE WHEN crm._demo_u(d.j, salt + 71) < 1 / (1 + exp(-(d.effect))) THEN 18 - 55 * ln(1 - crm._demo_u(d.j, salt + 73)) ELSE 25 - 75 * ln(1 - crm._demo_u(d.j, salt + 73)) END)) AS lasted
                    FROM (SELECT f.*,
                                 -0.25
                                 + CASE f.industry WHEN 'energy' THEN -0.7 + 1.6 * f.era WHEN 'software' THEN 0.5 - 0.9 * f.era WHEN 'finance' THEN 0.4 WHEN 'retail' THEN -0.5 WHEN 'healthcare' THEN 0.2 WHEN 'construction' THEN -0.3 ELSE 0 END
                                 + CASE f.type WHEN 'smb' THEN -0.4 WHEN 'government' THEN CASE WHEN f.month >= 9 THEN 0.8 ELSE -0.5 END WHEN 'education' THEN CASE WHEN f.month BETWEEN 4 AND 7 THEN 0.9 ELSE -0.3 END ELSE 0.15 END
                                 + CASE f.line WHEN 'services' THEN 0.5 WHEN 'devices' THEN 0.25 WHEN 'saas' THEN -0.2 ELSE 0 END
                                 + CASE f.deal_type WHEN 'renewal' THEN 1.3 WHEN 'expansion' THEN 0.5 ELSE -0.3 END
                                 + CASE f.source WHEN 'referral' THEN 0.9 WHEN 'tradeshow' THEN -0.2 WHEN 'web' THEN -0.3 WHEN 'phone' THEN -0.5 ELSE 0 END
                                 + 1.2 * (crm._demo_u(coalesce(f.owner_id, member0) - member0, salt + 74) + crm._demo_u(coalesce(f.owner_id, member0) - member0, salt + 75) - 1)
                                 - 0.2 * (ln(f.amount) - 11.5) - CASE WHEN f.competitor IS NULL THEN 0 ELSE 0.5 END AS effect
                          FROM (SELECT g.j, a.id AS account_id, a.name AS account_name, a.owner_id, a.team_id, a.grade, a.industry, a.type, a.currency, a.credit_rating, a.region, g.e, g.started, g.era, extract(month FROM g.started)::int AS month,
                                       g.product, (ARRAY['platform', 'platform', 'platform', 'saas', 'saas', 'saas', 'devices', 'devices', 'devices', 'services', 'services', 'services'])[g.product] AS line,
                                       CASE WHEN g.era > 0.3 AND crm._demo_u(g.j, salt + 76) < 0.2 THEN 'renewal' WHEN crm._demo_u(g.j, salt + 76) < 0.45 THEN 'expansion' ELSE 'new' END AS deal_type,
                                       (ARRAY['referral', 'web', 'web', 'tradeshow', 'phone', 'visit', 'visit', 'campaign'])[1 + floor(8 * crm._demo_u(g.j, salt + 77))::int] AS source,
                                       greatest(2000, round((exp(10.2 + 0.35 * a.grade + CASE a.type WHEN 'enterprise' THEN 0.4 WHEN 'government' THEN 0.6 ELSE 0 END + 1.1 * (crm._demo_u(g.j, salt + 78) + crm._demo_u(g.j, salt + 79) + crm._demo_u(g.j, salt + 80) - 1.5)
                                              + CASE WHEN g.product <= 3 THEN 0.6 ELSE 0 END))::numeric, CASE WHEN crm._demo_u(g.j, salt + 81) < 0.6 THEN -3 ELSE 0 END)) AS amount,
                                       CASE WHEN crm._demo_u(g.j, salt + 82) < 0.3 THEN (ARRAY['星桥软件', '北辰数据', 'Vantage Suite', '蓝湾云'])[1 + g.j % 4] END AS competitor
                                FROM (SELECT j, e, present - make_interval(secs => 86400 * back) AS started, 1 - back / 720.0 AS era, 1 + floor(12 * crm._demo_u(j, salt + 83))::int AS product
                                      FROM (SELECT j, 1 + floor(entities * crm._demo_u(j, salt + 84))::int AS e, 1 + 719 * crm._demo_u(j, salt + 85) AS back FROM generate_series(1, deals) AS j) AS h) AS g
                                JOIN crm_data.account AS a ON a.id = account0 + g.e) AS f) AS d) AS p) AS q;

        ANALYZE pg_temp.crm_demo_deal;

        -- every entry into a stage up to the present, the closing one included
        CREATE TEMP TABLE crm_demo_step ON COMMIT DROP AS
        SELECT s.j, s.i, s.stage, s.at, lag(s.stage) OVER w AS from_stage, lead(s.at) OVER w AS left_at
        FROM (SELECT d.j, i, d.path[i] AS stage, d.started + d.lasted * ((i - 1 + CASE WHEN i > 1 THEN 0.7 * crm._demo_u(d.j * 16 + i, salt + 90) - 0.35 ELSE 0 END) / cardinality(d.path)) AS at
              FROM pg_temp.crm_demo_deal AS d CROSS JOIN LATERAL generate_series(1, cardinality(d.path)) AS i
              UNION ALL
              SELECT d.j, cardinality(d.path) + 1, CASE WHEN d.won THEN 6 ELSE 7 END, d.started + d.lasted FROM pg_temp.crm_demo_deal AS d) AS s
        WHERE s.at <= present
        WINDOW w AS (PARTITION BY s.j ORDER BY s.i);

        ANALYZE pg_temp.crm_demo_step;

        INSERT INTO crm_data.opportunity (id, account_id, code, name, pipeline_id, stage_id, outcome, amount, currency, budget_low, budget_high, close_date, closed_at, product_line, deal_type, source, category,
                                          furthest_stage_id, stage_entered_at, stage_moves, slip_count, campaign_id, competitor, lost_reason, next_step, next_step_at, quote_sent_at, attrs,
                                          owner_id, team_id, grade, created_at, updated_at) OVERRIDING SYSTEM VALUE
        SELECT deal0 + d.j, d.account_id, 'DEMO-O' || lpad(d.j::text, 7, '0'),
               CASE WHEN d.region = 'overseas' THEN initcap(d.line) || ' for ' || d.account_name ELSE left(d.account_name, 6) || (ARRAY['数据平台', '客服云', '智能终端', '实施服务'])[1 + (d.product - 1) / 3] || '项目' END,
               pipeline, stages[l.stage], CASE l.stage WHEN 6 THEN 'won' WHEN 7 THEN 'lost' ELSE 'open' END, d.amount, d.currency, round(d.amount * 0.8, -3), round(d.amount * 1.3, -3),
               CASE WHEN l.stage >= 6 THEN l.at::date ELSE greatest(as_of - 12, (d.started + d.lasted * (0.8 + 0.5 * crm._demo_u(d.j, salt + 91)))::date) END, CASE WHEN l.stage >= 6 THEN l.at END,
               d.line, d.deal_type, d.source, (ARRAY['pipeline', 'pipeline', 'best_case', 'best_case', 'commit', 'closed', 'omitted'])[l.stage],
               stages[least(5, l.furthest)], l.at, l.steps - 1, floor(3 * crm._demo_u(d.j, salt + 92) ^ 2)::int, CASE d.source WHEN 'tradeshow' THEN campaign0 + 1 WHEN 'campaign' THEN campaign0 + 2 + d.j % 4 END,
               d.competitor, CASE WHEN l.stage = 7 THEN CASE WHEN d.competitor IS NOT NULL AND crm._demo_u(d.j, salt + 93) < 0.5 THEN 'competitor' ELSE (ARRAY['price', 'price', 'budget_frozen', 'no_need', 'procurement', 'no_answer'])[1 + d.j % 6] END END,
               CASE WHEN l.stage < 6 THEN (ARRAY['约下次会议', '提交方案', '确认预算', '安排演示', '推动合同审批'])[1 + d.j % 5] END, CASE WHEN l.stage < 6 THEN present + make_interval(days => (d.j % 9)::int - 2) END,
               CASE WHEN l.furthest >= 4 AND (l.stage > 4 OR d.j % 3 > 0) THEN l.at END,
               CASE WHEN l.furthest >= 2 THEN jsonb_build_object('forms', jsonb_build_object('key_need', '{"complete": true}'::jsonb, 'pain_points', jsonb_build_object('complete', d.j % 4 > 0))) ELSE '{}' END,
               d.owner_id, d.team_id, d.grade, d.started, l.at
        FROM pg_temp.crm_demo_deal AS d
        JOIN (SELECT j, count(*)::int AS steps, max(stage) FILTER (WHERE stage < 6) AS furthest, (array_agg(stage ORDER BY i DESC))[1] AS stage, max(at) AS at FROM pg_temp.crm_demo_step GROUP BY j) AS l ON l.j = d.j
        ORDER BY d.j;

        ANALYZE crm_data.contact, crm_data.opportunity;

        INSERT INTO crm_data.stage_history (opportunity_id, account_id, from_stage_id, to_stage_id, entered_at, left_at, recorded_at, amount, currency, close_date, actor, reason, owner_id, team_id, grade, created_at)
        SELECT deal0 + s.j, d.account_id, stages[s.from_stage], stages[s.stage], s.at, s.left_at, s.at, d.amount, d.currency, (d.started + d.lasted * 0.9)::date, 'demo',
               CASE WHEN s.stage < s.from_stage THEN '客户要求重新比价' END, d.owner_id, d.team_id, d.grade, s.at
        FROM pg_temp.crm_demo_step AS s JOIN pg_temp.crm_demo_deal AS d ON d.j = s.j
        ORDER BY s.j, s.i;

        INSERT INTO crm_data.opportunity_contact (opportunity_id, contact_id, account_id, role, influence, stance, open_questions, owner_id, team_id, grade, created_at, updated_at)
        SELECT deal0 + d.j, c.id, d.account_id, c.role_in_decision, CASE c.role_in_decision WHEN 'technical' THEN 4 ELSE 8 END, (ARRAY['champion', 'supporter', 'neutral', 'sceptic'])[1 + d.j % 4],
               CASE WHEN c.role_in_decision = 'technical' THEN d.j % 5 ELSE 0 END, d.owner_id, d.team_id, d.grade, d.started, d.started
        FROM pg_temp.crm_demo_deal AS d JOIN crm_data.contact AS c ON c.account_id = d.account_id AND c.id BETWEEN contact0 + 1 AND contact0 + 2 * entities
        ORDER BY d.j, c.id;

        INSERT INTO crm_data.line_item (opportunity_id, account_id, product_id, quantity, unit_price, tax_rate, currency, sold_on, owner_id, team_id, grade, created_at, updated_at)
        SELECT o.id, o.account_id, p.id, greatest(1, round(o.amount / p.unit_price)), round(o.amount / greatest(1, round(o.amount / p.unit_price)), 2), p.tax_rate, o.currency, CASE o.outcome WHEN 'won' THEN o.close_date END,
               o.owner_id, o.team_id, o.grade, o.created_at, o.created_at
        FROM pg_temp.crm_demo_deal AS d JOIN crm_data.opportunity AS o ON o.id = deal0 + d.j JOIN crm_data.product AS p ON p.id = product0 + d.product
        ORDER BY d.j;

        -- Follow-ups: one for every stage entered, and one for customers without a deal. Words of doubt are rarer where deals are won.
        INSERT INTO crm_data.interaction (account_id, contact_id, opportunity_id, kind, channel, direction, occurred_at, recorded_at, author_id, summary, progress, next_step, next_step_at, duration, depth, quality, satisfaction, auto, client_key, endpoint,
                                          owner_id, team_id, grade, created_at, updated_at)
        SELECT d.account_id, contact0 + 2 * (d.e - 1) + 1, deal0 + d.j, v.kind, (ARRAY['phone', 'visit', 'meeting', 'email', 'visit', 'email', 'email'])[s.stage], 'out', t.at, t.at, d.owner_id,
               CASE WHEN s.stage < 6 AND crm._demo_u(d.j * 16 + s.i, salt + 100) < CASE WHEN d.won THEN 0.02 ELSE 0.1 END THEN (ARRAY['客户表示再看看', '客户认为价格太高,需要重新比价', '对方暂时不考虑'])[1 + d.j % 3]
                    WHEN d.region = 'overseas' THEN (ARRAY['Introduced ourselves, good first talk.', 'Went through the requirements together.', 'Showed the solution, many questions.', 'Sent the quote.', 'Discussed terms with procurement.', 'Signed.', 'They decided otherwise.'])[s.stage]
                    ELSE (ARRAY['首次电话沟通,客户有兴趣。', '现场确认需求与痛点。', '完成方案演示,客户提出若干技术问题。', '已发送报价单。', '与采购沟通商务条款。', '合同签署完成。', '客户决定暂不采购。'])[s.stage] END,
               CASE WHEN s.stage BETWEEN 2 AND 5 AND crm._demo_u(d.j * 16 + s.i, salt + 101) < CASE WHEN d.won THEN 0.7 ELSE 0.25 END THEN (ARRAY['budget_confirmed', 'poc_passed', 'executive_meeting', 'legal_confirmed'])[s.stage - 1] END,
               CASE WHEN s.stage < 6 AND crm._demo_u(d.j * 16 + s.i, salt + 102) < 0.8 THEN '约定下一次沟通' END, CASE WHEN s.stage < 6 AND crm._demo_u(d.j * 16 + s.i, salt + 102) < 0.8 THEN t.at + interval '96 hours' END,
               CASE WHEN v.kind = 'call' THEN make_interval(secs => 30 + floor(600 * crm._demo_u(d.j * 16 + s.i, salt + 103))) END, CASE WHEN v.kind = 'call' AND 30 + floor(600 * crm._demo_u(d.j * 16 + s.i, salt + 103)) > 90 THEN 'deep' ELSE 'normal' END,
               (40 + floor(60 * crm._demo_u(d.j * 16 + s.i, salt + 104)))::smallint, CASE WHEN s.stage = 6 AND d.j % 4 = 0 THEN 1 + floor(5 * crm._demo_u(d.j, salt + 105) ^ 0.5) END, false, 'demo-o-' || d.j || '-' || s.i, 'web',
               d.owner_id, d.team_id, d.grade, t.at, t.at
        FROM pg_temp.crm_demo_step AS s
        JOIN pg_temp.crm_demo_deal AS d ON d.j = s.j
        CROSS JOIN LATERAL (SELECT (ARRAY['call', 'visit', 'demo', 'quote', 'objection', 'email', 'note'])[s.stage] AS kind) AS v
        CROSS JOIN LATERAL (SELECT least(present, s.at + make_interval(secs => 3600 * (1 + floor(40 * crm._demo_u(d.j * 16 + s.i, salt + 106))))) AS at) AS t
        ORDER BY d.j, s.i;
        INSERT INTO crm_data.interaction (account_id, contact_id, kind, channel, direction, occurred_at, recorded_at, author_id, summary, quality, satisfaction, auto, client_key, endpoint, owner_id, team_id, grade, created_at, updated_at)
        SELECT a.id, CASE WHEN e <= entities THEN contact0 + 2 * (e - 1) + 1 END, CASE WHEN e % 9 = 0 THEN 'survey' ELSE 'call' END, CASE WHEN e % 9 = 0 THEN 'app' ELSE 'phone' END, CASE WHEN e % 9 = 0 THEN 'in' ELSE 'out' END, t.at, t.at, a.owner_id,
               CASE WHEN e % 9 = 0 THEN '满意度回访' ELSE '电话回访,了解近期情况。' END, 60, CASE WHEN e % 9 = 0 THEN 1 + floor(5 * crm._demo_u(e, salt + 107) ^ 0.4) END, false, 'demo-a-' || e, 'wecom', a.owner_id, a.team_id, a.grade, t.at, t.at
        FROM generate_series(1, accounts, lone_every) AS e -- copies too: a customer entered twice has its history in two places
        JOIN crm_data.account AS a ON a.id = account0 + e
        CROSS JOIN LATERAL (SELECT present - make_interval(secs => 86400 * (1 + 160 * crm._demo_u(e, salt + 108) ^ 2)) AS at) AS t
        ORDER BY e;

        -- Actions of the stages of the last quarter, as the configuration lists them: mostly done, some late, some owed.
        INSERT INTO crm_data.task (kind, object, record_id, account_id, stage_id, action_key, title, mandatory, state, due_at, escalate_at, started_at, done_at, done_by, evidence, waived_reason, reopened, dedupe_key, owner_id, team_id, grade, created_at, updated_at)
        SELECT 'stage_action', 'opportunity', deal0 + d.j, d.account_id, stages[s.stage], x.action ->> 'key', x.action ->> CASE WHEN d.region = 'overseas' THEN 'en' ELSE 'zh' END, (x.action ->> 'mandatory')::boolean,
               CASE WHEN t.done_at <= least(present, coalesce(s.left_at, present)) THEN 'done' WHEN s.left_at IS NOT NULL THEN 'waived' ELSE 'open' END,
               s.at + (x.action ->> 'due')::interval, s.at + coalesce((x.action ->> 'escalate')::interval, 2 * (x.action ->> 'due')::interval), s.at,
               CASE WHEN t.done_at <= least(present, coalesce(s.left_at, present)) THEN t.done_at WHEN s.left_at IS NOT NULL THEN s.left_at END,
               CASE WHEN t.done_at <= least(present, coalesce(s.left_at, present)) OR s.left_at IS NOT NULL THEN d.owner_id END,
               CASE WHEN t.done_at <= least(present, coalesce(s.left_at, present)) THEN '{"note": "demo"}'::jsonb END,
               CASE WHEN t.done_at > least(present, coalesce(s.left_at, present)) AND s.left_at IS NOT NULL THEN '阶段已推进' END, (crm._demo_u(d.j * 256 + s.i * 16 + x.k, salt + 111) < 0.12)::int,
               'demo-' || d.j || '-' || s.i || '-' || (x.action ->> 'key'), d.owner_id, d.team_id, d.grade, s.at, s.at
        FROM pg_temp.crm_demo_step AS s
        JOIN pg_temp.crm_demo_deal AS d ON d.j = s.j
        JOIN crm_data.stage AS st ON st.id = stages[s.stage]
        JOIN crm_data.config AS c ON c.kind = 'stage' AND c.key = 'standard/' || st.code AND c.scope = '*' AND c.status = 'active'
        CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'actions') WITH ORDINALITY AS x (action, k)
        CROSS JOIN LATERAL (SELECT s.at + (x.action ->> 'due')::interval * (0.15 + 1.6 * crm._demo_u(d.j * 256 + s.i * 16 + x.k, salt + 110) ^ 1.5) AS done_at) AS t
        WHERE s.at > present - interval '2160 hours' AND s.stage < 6
        ORDER BY d.j, s.i, x.k;

        -- Money: a contract for every deal won, three payment points, invoices and payments up to the present; who pays late has the worse rating.
        INSERT INTO crm_data.contract (id, account_id, opportunity_id, code, name, state, amount, tax_rate, currency, signed_on, starts_on, expires_on, legal_reviewed_at, legal_edits, owner_id, team_id, grade, created_at, updated_at) OVERRIDING SYSTEM VALUE
        SELECT contract0 + d.j, o.account_id, o.id, 'DEMO-HT' || to_char(o.close_date, 'YYYY') || lpad(d.j::text, 7, '0'), o.name || '合同', CASE WHEN o.close_date + 365 < as_of THEN 'finished' ELSE 'active' END, o.amount, 0.06, o.currency,
               o.close_date, o.close_date + 5, o.close_date + 370, o.closed_at - interval '72 hours', (d.j % 5)::int, o.owner_id, o.team_id, o.grade, o.closed_at, o.closed_at
        FROM pg_temp.crm_demo_deal AS d JOIN crm_data.opportunity AS o ON o.id = deal0 + d.j AND o.outcome = 'won'
        ORDER BY d.j;
        ANALYZE crm_data.contract;
        INSERT INTO crm_data.payment_plan (contract_id, account_id, seq, name, condition, due_on, amount, currency, paid_on, owner_id, team_id, grade, created_at, updated_at)
        SELECT c.id, c.account_id, k, (ARRAY['预付款', '验收款', '质保金'])[k], (ARRAY['合同签署后', '验收合格后', '质保期满'])[k], p.due, CASE k WHEN 1 THEN round(c.amount * 0.3, 2) WHEN 2 THEN round(c.amount * 0.5, 2) ELSE c.amount - round(c.amount * 0.3, 2) - round(c.amount * 0.5, 2) END, c.currency,
               CASE WHEN p.paid <= as_of THEN p.paid END, c.owner_id, c.team_id, c.grade, c.created_at, c.created_at
        FROM pg_temp.crm_demo_deal AS d
        JOIN crm_data.contract AS c ON c.id = contract0 + d.j
        CROSS JOIN generate_series(1, 3) AS k
        CROSS JOIN LATERAL (SELECT c.signed_on + (ARRAY[7, 60, 180])[k] AS due,
                                   c.signed_on + (ARRAY[7, 60, 180])[k] + floor(CASE d.credit_rating WHEN 'A' THEN 6 WHEN 'B' THEN 18 WHEN 'C' THEN 45 ELSE 120 END * crm._demo_u(d.j * 4 + k, salt + 120) ^ 2)::int - 2 AS paid) AS p
        ORDER BY d.j, k;
        ANALYZE crm_data.payment_plan;
        INSERT INTO crm_data.receivable_entry (kind, account_id, contract_id, payment_plan_id, number, amount, tax_rate, currency, occurred_on, recorded_at, owner_id, team_id, grade, created_at)
        SELECT x.kind, p.account_id, p.contract_id, p.id, x.prefix || c.code || '-' || p.seq, x.amount, 0.06, p.currency, x.day, x.day + time '10:00' + make_interval(days => x.late), p.owner_id, p.team_id, p.grade, x.day + time '10:00' + make_interval(days => x.late)
        FROM crm_data.payment_plan AS p
        JOIN crm_data.contract AS c ON c.id = p.contract_id AND c.id BETWEEN contract0 + 1 AND contract0 + deals
        CROSS JOIN LATERAL (SELECT 'invoice' AS kind, 'FP-' AS prefix, p.amount, p.due_on - 5 AS day, 0 AS late
                            UNION ALL SELECT 'payment', 'SK-', p.amount, p.paid_on, 0 WHERE p.paid_on IS NOT NULL
                            -- refunds are booked weeks late, the trap of the renewal report
                            UNION ALL SELECT 'refund', 'TK-', round(p.amount * 0.2, 2), p.paid_on + 10, 21 WHERE p.paid_on IS NOT NULL AND p.seq = 2 AND crm._demo_u(c.id - contract0, salt + 121) < 0.02) AS x
        WHERE x.day + x.late <= as_of
        ORDER BY p.contract_id, p.seq, x.kind;

        -- Targets by quarter, and what representatives said each month: honest, but for the bias of each.
        INSERT INTO crm_data.quota (member_id, team_id, owner_id, period, amount, created_at, updated_at)
        SELECT member0 + 16 + r, team0 + 3 + (r - 1) % 7, member0 + 16 + r, daterange(q::date, (q + interval '3 months')::date), round((greatest(100000, 0.95 * sum(coalesce(o.amount, 0))) * (0.9 + 0.3 * crm._demo_u(r, salt + 130)))::numeric, -4), q, q
        FROM generate_series(1, reps) AS r
        CROSS JOIN generate_series(date_trunc('quarter', as_of - interval '18 months'), date_trunc('quarter', as_of::timestamp), interval '3 months') AS q
        LEFT JOIN crm_data.opportunity AS o ON o.owner_id = member0 + 16 + r AND o.outcome = 'won' AND o.closed_at >= date_trunc('quarter', as_of - interval '18 months') AND o.closed_at < q + interval '3 months' AND o.closed_at >= q - interval '3 months'
        GROUP BY r, q ORDER BY r, q;
        INSERT INTO crm_data.forecast (kind, period, member_id, amount, as_of, author_id, owner_id, team_id, created_at)
        SELECT 'submitted', daterange(m::date, (m + interval '1 month')::date), member0 + 16 + r,
               round((coalesce(sum(o.amount), 0) * (0.75 + 0.6 * crm._demo_u(r, salt + 131) + 0.3 * (crm._demo_u(r * 100 + extract(month FROM m)::int, salt + 132) - 0.5)) + 20000 * crm._demo_u(r, salt + 133))::numeric, -3),
               m, member0 + 16 + r, member0 + 16 + r, team0 + 3 + (r - 1) % 7, m
        FROM generate_series(1, reps) AS r
        CROSS JOIN generate_series(date_trunc('month', as_of - interval '6 months'), date_trunc('month', as_of::timestamp), interval '1 month') AS m
        LEFT JOIN crm_data.opportunity AS o ON o.owner_id = member0 + 16 + r AND o.outcome = 'won' AND o.closed_at >= m AND o.closed_at < m + interval '1 month'
        GROUP BY r, m ORDER BY r, m;

        -- Papers on open deals: who has a signed confirmation and a legal review is closer to the truth with his forecast.
        INSERT INTO crm_data.attachment (object, record_id, account_id, kind, name, url, sha256, bytes, signed_by_customer, legal_reviewed_at, owner_id, team_id, grade, created_at, updated_at)
        SELECT 'opportunity', o.id, o.account_id, x.kind, x.name, 'https://files.demo.example/' || o.code || '/' || x.kind, sha256(convert_to(o.code || x.kind, 'UTF8')), 20000 + (d.j % 900) * 1000, x.kind = 'requirement_confirmation' AND d.won,
               CASE WHEN x.kind = 'contract' AND d.j % 2 = 0 THEN o.stage_entered_at END, o.owner_id, o.team_id, o.grade, o.stage_entered_at, o.stage_entered_at
        FROM pg_temp.crm_demo_deal AS d
        JOIN crm_data.opportunity AS o ON o.id = deal0 + d.j AND o.outcome = 'open'
        JOIN crm_data.stage AS s ON s.id = o.stage_id
        JOIN (VALUES ('requirement_confirmation', '需求确认书.pdf', 2, 0.5), ('deck', '定制方案.pptx', 3, 0.8), ('contract', '合同草案.docx', 5, 0.7)) AS x (kind, name, from_seq, share)
            ON s.seq >= x.from_seq AND crm._demo_u(d.j * 4 + x.from_seq, salt + 140) < x.share
        ORDER BY d.j, x.from_seq;

        -- Behaviour on the way from registration to the first ticket, by web and, more and more, by app.
        INSERT INTO crm_data.event (at, occurred_at, account_id, contact_id, source_id, kind, channel, value, detail, session_key, owner_id, team_id, grade, created_at)
        SELECT x.at, x.at, a.id, contact0 + 2 * (e - 1) + 1, s.id, (ARRAY['sign_up', 'login', 'tutorial_done', 'api_call', 'ticket_opened'])[k], s.name, floor(1800 * crm._demo_u(e * 8 + k, salt + 150)), '{}', 'demo-' || e, a.owner_id, a.team_id, a.grade, x.at
        FROM generate_series(1, least(entities, 4000)) AS e
        JOIN crm_data.account AS a ON a.id = account0 + e
        CROSS JOIN generate_series(1, 5) AS k
        CROSS JOIN LATERAL (SELECT present - make_interval(secs => 86400 * (1 + 300 * crm._demo_u(e, salt + 151)) - 3600 * 30 * (k - 1) * crm._demo_u(e * 8 + k, salt + 152)) AS at) AS x
        JOIN crm_data.source_system AS s ON s.name = CASE WHEN crm._demo_u(e * 8 + k, salt + 153) < 0.25 + 0.5 * (1 - crm._demo_u(e, salt + 151)) THEN 'app' ELSE 'web' END
        WHERE x.at <= present AND k <= 1 + floor(5.5 * crm._demo_u(e, salt + 154) ^ 0.7)
        ORDER BY e, k;

        ANALYZE crm_data.interaction;
        -- What the engine keeps up to date for every new row, in one sweep for the old ones.
        UPDATE crm_data.account AS a
        SET last_contact_at = t.last_at,
            lifecycle = CASE WHEN t.customer THEN CASE WHEN t.last_at < present - interval '4320 hours' THEN 'dormant' ELSE 'customer' END ELSE a.lifecycle END,
            next_renewal_on = t.expires_on
        FROM (SELECT i.account_id, max(i.occurred_at) AS last_at, bool_or(c.account_id IS NOT NULL) AS customer, max(c.expires_on) AS expires_on
              FROM (SELECT i.account_id, max(i.occurred_at) AS occurred_at FROM crm_data.interaction AS i WHERE i.account_id BETWEEN account0 + 1 AND account0 + accounts GROUP BY i.account_id) AS i
              LEFT JOIN (SELECT c.account_id, max(c.expires_on) AS expires_on FROM crm_data.contract AS c WHERE c.id BETWEEN contract0 + 1 AND contract0 + deals GROUP BY c.account_id) AS c ON c.account_id = i.account_id
              GROUP BY i.account_id) AS t
        WHERE a.id = t.account_id;
        DROP TABLE pg_temp.crm_demo_step, pg_temp.crm_demo_deal;
    END IF;

    RETURN QUERY
        SELECT t.name, t.n
        FROM (SELECT 1 AS ord, 'team' AS name, count(*) AS n FROM crm_data.team
              UNION ALL SELECT 2, 'member', count(*) FROM crm_data.member
              UNION ALL SELECT 3, 'product', count(*) FROM crm_data.product
              UNION ALL SELECT 4, 'campaign', count(*) FROM crm_data.campaign
              UNION ALL SELECT 5, 'account', count(*) FROM crm_data.account
              UNION ALL SELECT 6, 'contact', count(*) FROM crm_data.contact
              UNION ALL SELECT 7, 'lead', count(*) FROM crm_data.lead
              UNION ALL SELECT 8, 'opportunity', count(*) FROM crm_data.opportunity
              UNION ALL SELECT 9, 'opportunity_contact', count(*) FROM crm_data.opportunity_contact
              UNION ALL SELECT 10, 'line_item', count(*) FROM crm_data.line_item
              UNION ALL SELECT 11, 'stage_history', count(*) FROM crm_data.stage_history
              UNION ALL SELECT 12, 'interaction', count(*) FROM crm_data.interaction
              UNION ALL SELECT 13, 'task', count(*) FROM crm_data.task
              UNION ALL SELECT 14, 'contract', count(*) FROM crm_data.contract
              UNION ALL SELECT 15, 'payment_plan', count(*) FROM crm_data.payment_plan
              UNION ALL SELECT 16, 'receivable_entry', count(*) FROM crm_data.receivable_entry
              UNION ALL SELECT 17, 'quota', count(*) FROM crm_data.quota
              UNION ALL SELECT 18, 'forecast', count(*) FROM crm_data.forecast
              UNION ALL SELECT 19, 'attachment', count(*) FROM crm_data.attachment
              UNION ALL SELECT 20, 'event', count(*) FROM crm_data.event
              UNION ALL SELECT 21, 'fx_rate', count(*) FROM crm_data.fx_rate) AS t
        ORDER BY t.ord;
END
$$;
COMMENT ON FUNCTION crm.demo_data(int, int, date) IS
'Fills an empty CRM with a company that never was: teams, members, products, customers in Chinese and Latin script with sister companies and duplicates, contacts, leads, deals with their stage history, follow-ups, stage actions, contracts, payments, quotas, forecasts, rates.
accounts: customers, 50 to 2,000,000, six in a hundred of them duplicates. seed: any number; the same arguments give the same values, identifiers aside. as_of: the company''s present day; a fixed day by default, so that results do not depend on the clock; pass current_date for a demo that ends today.
Returns the rows in each table. account.attrs -> ''demo'' holds the truth: entity is the same number for a customer and its duplicates, damage names how the duplicate was changed. Called again with the same arguments it changes nothing.
For administrators. Errors: 22023 an argument is out of range; 55000 the CRM has customers that were not made by the same call, or the standard pipeline is gone.';

CREATE OR REPLACE FUNCTION crm._demo_reserve(object text, n bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seq constant regclass := pg_get_serial_sequence('crm_data.' || quote_ident(object), 'id');
    base constant bigint := nextval(seq) - 1;
BEGIN
    PERFORM setval(seq, base + n);
    RETURN base;
END
$$;
COMMENT ON FUNCTION crm._demo_reserve(text, bigint) IS
'Takes n consecutive identifiers from a table''s sequence and gives back the number before the first. object: name of the table; n: how many, 1 and up. The caller holds a lock that keeps other generators out.';
