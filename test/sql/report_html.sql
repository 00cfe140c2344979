-- Reports as pages: what is escaped, what is drawn, what is refused.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'UTC';
\pset format unaligned
-- figures and texts
SELECT crm._num(1234567.5) AS a, crm._num(0.125) AS b, crm._num(-3) AS c, crm._num(0) AS d, crm._num(12345678901234567890.01) AS e, crm._num('NaN') AS f, crm._num(2.5, 0) AS g;
SELECT crm._num_short(123456789, 'en') AS en, crm._num_short(123456789, 'zh') AS zh, crm._num_short(12345, 'en') AS k, crm._num_short(12345, 'zh') AS wan, crm._num_short(950, 'en') AS small;
SELECT crm._clip('abcdef', 6) AS fits, crm._clip('abcdefg', 6) AS cut, crm._clip('团队瓶颈诊断', 8) AS han, crm._clip('', 5) AS empty;
SELECT crm._html(E'<a href="x" onclick=''y''>&\x01') AS escaped, crm._html(NULL) = '' AS none;
-- drawings: a bar is as long as its share of 360, a funnel is centred, a waterfall ends where the steps lead
SELECT crm._svg_bars('{a,b}', '{4,1}');
SELECT crm._svg_funnel('{a,b}', '{100,25}');
SELECT crm._svg_waterfall('{start,more,less}', '{100,20,-50}');
SELECT crm._svg_trend('{m1,m2,m3}', '{0,5,10}');
SELECT crm._svg_heat('{t}', '{a,b}', '[[0.5, null]]');
SELECT count(*) FILTER (WHERE d LIKE '<svg %</svg>' OR d = '') AS drawn, count(*) AS all_of_them
  FROM unnest(ARRAY[crm._svg_bars('{}', '{}'), crm._svg_funnel('{}', '{}'), crm._svg_trend('{}', '{}'), crm._svg_waterfall('{}', '{}'), crm._svg_bars('{a}', '{0}'), crm._svg_funnel('{a}', '{NULL}'), crm._svg_trend('{a}', '{0}'), crm._svg_waterfall('{a}', '{0}')]) AS d;
-- rows of any kind: percent, local time, two languages, empty columns left out, words said in the reader's language
SELECT regexp_replace(crm.report_html('action_heatmap', '[{"team": {"en": "North", "zh": "华北"}, "done_rate": 0.25, "due_at": "2026-11-20T00:00:00+00:00", "reason": null, "n": 1234.5}]', 'zh'), '^.*</style>', '') AS page;
SELECT regexp_replace(crm.report_html('x', '{"part": "kind", "columns": ["kind", "name", "level", "due_at"], "say": ["level"], "charts": {"todo": {"kind": "bars", "label": "name", "value": "v"}},
                                            "rows": [{"kind": "todo", "name": "one", "v": 2, "level": "owner"}, {"kind": "silent", "name": "two", "due_at": "not a time"}, {"kind": "todo", "name": "three", "v": 1}]}', 'en'), '^.*</style>', '') AS page;
SELECT crm.report_html('x', '[]', 'en') LIKE '%Nothing to report.%' AS nothing, crm.report_html('x', '{}', 'zh') LIKE '%暂无内容。%' AS nothing_zh;
-- one currency is said once, two stay a column; midnight is a day; how bad it is has a colour; our own reports are laid out when only rows are given
SELECT regexp_replace(crm.report_html('my_board', '[{"part": "risk", "account": "A", "level": "red", "amount": 5, "currency": "CNY"}, {"part": "risk", "account": "B", "level": "green", "amount": 6, "currency": "CNY"}, {"part": "todo", "account": "A", "title": "t", "due_at": "2026-11-20T00:00:00+08:00"}]', 'zh'), '^.*</style>', '') AS page;
SELECT regexp_replace(crm.report_html('funnel', '[{"label": {"en": "a"}, "deals": 2, "amount": 5, "currency": "CNY", "of_first_rate": 1}, {"label": {"en": "b"}, "deals": 1, "amount": 5, "currency": "EUR", "of_first_rate": 0.5}]', 'en'), '^.*</style>', '') AS page;
-- the first column is the head of a card: never empty
SELECT (regexp_matches(crm.report_html('x', '{"columns": ["team", "n"], "rows": [{"team": "a", "n": 1}, {"n": 2}]}', 'en'), '<td data-l="Team">[^<]*</td>', 'g'))[1] AS head;
-- of nothing no bars; figures and definitions of one day are together at the foot
SELECT crm._svg_bars('{a,b}', '{0,0}') = '' AS no_bars;
SELECT substring(crm.report_html('x', '{"rows": [{"n": 1}], "digest": "d", "seq": 1, "data_as_of": "2026-11-20", "definitions": {"metric/bookings": 1, "metric/orders": 1, "report/x": 2}}', 'zh') FROM '口径版本 [^·]*') AS definitions;
-- hostile texts wherever a text can stand: no element, no attribute, no script of theirs; tags stay in pairs; the same page every time
CREATE TEMP TABLE hostile AS
SELECT x, jsonb_build_object('part', 'kind', 'title', jsonb_build_object('en', x), 'columns', jsonb_build_array('kind', x, 'value'), 'say', jsonb_build_array(x),
                             'chart', jsonb_build_object('kind', k, 'label', x, 'column', 'kind', 'value', 'value'), 'due_at', '2026-11-20', 'digest', x, 'seq', x, 'definitions', jsonb_build_object(x, x),
                             'rows', jsonb_build_array(jsonb_build_object('kind', x, x, x, 'value', 0.5), jsonb_build_object('kind', x, x, jsonb_build_array(x, jsonb_build_object('en', x)), 'value', 1))) AS body
  FROM unnest(ARRAY['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '''/><svg onload=alert(1)>', '</style><script>', 'javascript:alert(1)', '%s%1$s\1&amp;&#60;script>', E'</td>\n<iframe>', '{{x}}${x}<!-- -->']) AS x, unnest(ARRAY['bars', 'funnel', 'waterfall', 'trend', 'heat', '<b>']) AS k;
SELECT count(*) AS pages, bool_and(h !~* '<(script|img|iframe|!--|svg onload)' AND h !~ 'onerror=alert\(1\)>') AS nothing_of_theirs,
       bool_and((SELECT bool_and(n.open = n.close) FROM (SELECT cardinality(regexp_split_to_array(h, '<' || t || '[ >]')) AS open, cardinality(regexp_split_to_array(h, '</' || t || '>')) AS close
                                                           FROM unnest('{html,head,body,title,style,svg,table,tr,td,th,section,h1,h2,h3,p,text,footer,div}'::text[]) AS t) AS n)) AS in_pairs,
       bool_and(h = crm.report_html('x', p.body, 'en')) AS same_again
  FROM hostile AS p, LATERAL (SELECT crm.report_html('x', p.body, 'en') AS h OFFSET 0) AS r;
SELECT bool_and(h !~* '<(script|img|iframe|!--|svg onload)') AS nothing_of_theirs
  FROM hostile AS p, LATERAL (SELECT crm.report_html('bottleneck_brief', jsonb_build_object('rows', jsonb_build_array(jsonb_build_object('rank', x, 'action', x, 'stage', x, 'deals', 1, 'amount', 5, 'currency', x, 'median_days', x,
          'customers', jsonb_build_array(jsonb_build_object('account', x, 'owner', x, 'amount', 1, 'currency', x, 'days', x)),
          'cases', jsonb_build_array(jsonb_build_object('account', x, 'deal', x, 'days', x, 'shared', jsonb_build_array(x)))))), 'en') AS h OFFSET 0) AS r;
-- refused
SELECT crm.report_html('x', '[1]', 'en');
SELECT crm.report_html('x', '"rows"', 'en');
SELECT crm.report_html('x', '{"rows": {}}', 'en');
SELECT crm.report_html(NULL, '[]', 'en');
SELECT crm.report_html('x', '[]', 'fr');
SELECT crm.report_html(-1);
-- everybody may turn rows that he has into a page
SET ROLE crm_sales;
SELECT crm.report_html('x', '[{"name": "mine"}]', 'en') LIKE '%>mine</td>%' AS mine;
RESET ROLE;
DROP TABLE hostile;
-- marks that turn the direction of what follows are taken out, wherever a text stands
SELECT crm.report_html('x', jsonb_build_array(jsonb_build_object(E'a\u202Eb', E'\u202Ereversed \u2067and\u200F more')), 'en') ~ '[\u202a-\u202e\u2066-\u2069\u200e\u200f]' AS turned;
