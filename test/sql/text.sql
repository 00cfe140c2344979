-- Normalisers: the same result in every locale, for Chinese and Latin text, and for bad input.
SET client_min_messages = warning;
\pset null '-'
-- folding; psql's releases do not agree on the width of what has none
SELECT replace(replace(v, E'\u200b', '<200b>'), E'\ufeff', '<feff>') AS v, crm.fold(v) FROM (VALUES
    (1, 'ＡＢＣ　１２３'), (2, '北京（海淀）【科技】'), (3, '愛看機械設備'), (4, 'Straße'), (5, E'zero\u200bwidth\ufeff'), (6, '有限公 司'),
    (7, E'cafe\u0301'), (8, '  many   blanks  '), (9, 'ﬁne ㈱ ①'), (10, ''), (11, E'tab\there'), (12, '“quoted” — dash'), (13, '臺灣電腦')) AS t(o, v) ORDER BY o;
-- telephone numbers
SELECT v, p.* FROM (VALUES
    (1, '138 1234 5679'), (2, '+86 138-1234-5679'), (3, '008613812345679'), (4, '１８８０８７７０４３３'), (5, '(010) 6552 9988 转 801'),
    (6, '021-62345678-123'), (7, '13946581832/18600907181'), (8, '0755-89899123'), (9, '45903695'), (10, '13800138000'), (11, '11111111'),
    (12, '400-820-8820'), (13, '1795113812345679'), (14, '+1 702 919 1300'), (15, 'no number'), (16, '+86-22-81706744'), (17, '8617855464111'),
    (18, '027-68456022 ext 66'), (19, '+44 (0)20 7946 0018'), (20, '99999999999999999999999999'), (21, '086-13812345679')) AS t(o, v)
    LEFT JOIN LATERAL crm.phone_parse(v) AS p ON true ORDER BY o, e164;
SELECT crm.phone_key('0412 345 678', 'AU'), crm.phone_key('(702) 919-1300', 'US'), crm.phone_key('13800138000'), crm.phone_key(NULL);
SELECT crm.phone_key('1', 'china');
-- companies
SELECT v, c.* FROM (VALUES
    (1, '德卡（天津）服饰有限公司'), (2, '枣庄星健兰庭精密机械有限公司'), (3, '星健兰庭软件股份有公司'), (4, '苏州索尔特餐饮管理有限公司浦东分公司'),
    (5, '北京市苏州银行药业集团有限公司'), (6, '北京托玛斯科技合伙企业（有限合伙）'), (7, '武汉魔画师服饰有限公司第一分公司'), (8, '山东省艾美尔(青岛)通信有限公司'),
    (9, '武汉市长生宝人力资源经营部'), (10, '愛看機械設備有限責任公司'), (11, '中国石油化工股份有限公司'), (12, 'The Acme Intl. Corp., Inc.'),
    (13, 'A.B.C. Svcs & Co. KG'), (14, ''), (15, '公司'), (16, '吉林大学'), (17, '！！！')) AS t(o, v), crm.company_parse(v) AS c ORDER BY o;
SELECT crm.company_key('北京小米科技有限责任公司') = crm.company_key('小米科技(北京)有限公司') AS same;
-- people
SELECT v, crm.person_key(v) FROM (VALUES (1, '张三'), (2, 'Zhang San'), (3, 'SAN ZHANG'), (4, '欧阳莲莉'), (5, '单田芳'), (6, '张总'), (7, 'Dr. Bill Gates'),
    (8, 'William Gates'), (9, 'José García'), (10, ''), (11, '先生'), (12, '123')) AS t(o, v) ORDER BY o;
-- mail
SELECT v, crm.email_key(v) FROM (VALUES (1, 'John.Doe+crm@GMail.com'), (2, 'info@hqnbwiba.com'), (3, 'no address'), (4, 'a@b'), (5, 'a@@b.cn'), (6, ' Ｘ@y.cn '),
    (7, 'x@googlemail.com'), (8, '+a@b.cn')) AS t(o, v) ORDER BY o;
-- addresses
SELECT v, a.* FROM (VALUES (1, '湖北省武汉市武昌区中山北路一百二十七号11号楼1548室'), (2, '武汉市中山北路127号11号楼1548'), (3, '福州市东风东路２１９号4幢'),
    (4, '北京市海淀区科技街303号'), (5, '辽宁省朝阳市喀喇沁左翼蒙古族自治县建设路十号'), (6, '12 N. Kedzie Ave., Ste 400'), (7, '221B Baker Street'), (8, ''), (9, '新疆维吾尔自治区和田地区民丰县建设西路71号28号楼2029室'))
    AS t(o, v), crm.address_parse(v) AS a ORDER BY o;
-- identifiers
SELECT crm.uscc_valid('91350100M000100Y43') AS standard_example, crm.uscc_valid('91350100m000100y43') AS lower, crm.uscc_valid('91350100M000100Y44') AS wrong, crm.uscc_valid('') AS empty, crm.uscc_valid(NULL) AS no_value;
SELECT crm.id_valid('11010519491231002X') AS standard_example, crm.id_valid('11010519491231002x') AS lower, crm.id_valid('110105194912310021') AS wrong, crm.id_valid('11010519490231002X') AS no_such_day;
-- masks
SELECT crm.mask_phone('13812345678'), crm.mask_phone('+86 138-1234-5678'), crm.mask_phone('62345678'), crm.mask_phone(''), crm.mask_name('张三丰'), crm.mask_name('欧阳莲莉'), crm.mask_name('Bill'), crm.mask_name('');
-- bad input: ten megabytes, every byte that is no text, characters that grow under NFKC
SELECT length(crm.fold(repeat('名', 3500000))) AS fold, length(crm.fold(repeat('é' || E'\u0301', 2000000))) AS slow_path, length(crm.company_key(repeat('公司', 1700000))) AS company,
    length(crm.company_key(repeat('n ', 1000000))) AS latin, crm.phone_key(repeat('1', 10000000)) AS phone, crm.person_key(repeat('x', 10000000)) = repeat('x', 40) AS person,
    crm.email_key(repeat('a', 1000000)) AS mail, length((crm.address_parse(repeat('一千号', 1000000))).rest) AS address, length(crm.mask_phone(repeat('1', 1000000))) AS mask;
SELECT length(crm.fold(repeat(E'\ufdfa', 1000))) AS grown, crm.company_key(repeat('&', 1000)) = rtrim(repeat('and ', 1000)) AS ampersands;
SELECT count(*) AS characters, count(*) FILTER (WHERE crm.fold(crm.fold(c)) = crm.fold(c)) AS stable
  FROM (SELECT chr(i) AS c FROM generate_series(1, 200000) AS i WHERE i NOT BETWEEN 55296 AND 57343) AS x;
SELECT count(crm.company_key(c)) > 0 AS any, count((crm.address_parse(c)).rest) >= 0 AS address, count(crm.person_key(c)) > 0 AS person
  FROM (SELECT chr(i) || chr(i + 1) || chr(i) AS c FROM generate_series(1, 55000) AS i) AS x;
-- folding twice is folding once, also where dropping a character lets others combine
SELECT crm.fold(U&'Z\200B\0301') = crm.fold(crm.fold(U&'Z\200B\0301')) AS stable;
-- what a value looks like, whatever its column is called
SELECT v, crm._value_kind(v) FROM (VALUES (1, 'info@hqnbwiba.com'), (2, 'https://www.example.com/a'), (3, 'example.org'), (4, '91350100M000100Y43'), (5, '11010519491231002X'), (6, '300x'),
    (7, '1971-06-24'), (8, '19710624'), (9, '24/6/1971'), (10, '19719924'), (11, '60302'), (12, 'TQ13 8DF'), (13, '(010) 6552 9988 转 801'), (14, '3865286'), (15, '42'), (16, 'Acme Svcs, Inc.'),
    (17, 'St. Lucy School'), (18, '德卡（天津）服饰有限公司'), (19, '欧阳莲莉'), (20, 'Dr. Jane Roe'), (21, 'Bob'), (22, 'Underhill'), (23, 'nsw'), (24, '221 E. 51st St.'), (25, 'Wallaby Place'),
    (26, '湖北省武汉市武昌区中山北路一百二十七号'), (27, '武汉市'), (28, '湖北'), (29, 'black rock'), (30, ''), (31, '!?')) AS t(o, v) ORDER BY o;
SELECT crm._value_kind(repeat('x', 10000000)), crm._value_kind(NULL);
