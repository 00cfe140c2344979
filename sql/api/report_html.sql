-- Reports as pages: one self-contained HTML document with inline SVG, no script, every text escaped, legible on a phone, in English and Chinese.

CREATE OR REPLACE FUNCTION crm._html(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace(replace(replace(replace(replace(regexp_replace(CASE WHEN length(value) > 2000 THEN left(value, 2000) || '…' ELSE coalesce(value, '') END, '[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]', '', 'g'), '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;')
$$;
COMMENT ON FUNCTION crm._html(text) IS 'Internal: a text as it may stand in HTML, in an element or an attribute; at most 2,000 characters of it, without control characters and the marks that turn the direction of what follows.';

CREATE OR REPLACE FUNCTION crm._say(key text, locale text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT CASE locale WHEN 'zh' THEN v.zh ELSE v.en END FROM (VALUES
        ('stage', 'Stage', '阶段'), ('deals', 'Deals', '商机数'), ('amount', 'Amount', '金额'), ('days', 'Days', '天数'), ('median_days', 'Median days', '中位天数'), ('customers', 'Customers', '客户'),
        ('customer', 'Customer', '客户'), ('owner', 'Owner', '负责人'), ('cases', 'Similar deals that were won', '已赢单的相似商机'), ('case', '%s (#%s): won after %s days', '%s(#%s):%s 天赢单'), ('same', '; same %s', ';相同:%s'),
        ('industry', 'industry', '行业'), ('product line', 'product line', '产品线'), ('region', 'region', '区域'), ('deal type', 'deal type', '商机类型'), ('customer type', 'customer type', '客户类型'), ('size', 'amount', '金额规模'),
        ('competitor', 'competitor', '竞争对手'), ('data_as_of', 'Data as of', '数据截至'), ('history_root', 'History root', '历史根值'), ('definitions', 'Definitions', '口径版本'), ('report', 'Report', '报告'), ('nothing', 'Nothing to report.', '暂无内容。'),
        ('digest', 'Digest', '摘要'), ('action', 'Action', '动作'), ('team', 'Team', '团队'), ('no_team', 'No team', '未分团队'), ('done_rate', 'Done', '完成率'), ('mean_hours', 'Mean hours', '平均小时数'),
        ('first_pass_rate', 'First time right', '首次通过率'), ('stuck', 'Deals stuck by action', '各动作卡住的商机'), ('metric', 'Metric', '指标'), ('value', 'Value', '数值'), ('account', 'Customer', '客户'),
        ('reason', 'Reason', '原因'), ('rank', 'No.', '序号'), ('currency', 'Currency', '币种'), ('member', 'Member', '成员'), ('count', 'Count', '数量'), ('name', 'Name', '名称'), ('title', 'Title', '标题'),
        ('due', 'Due', '应完成'), ('due_at', 'Date', '日期'), ('due_on', 'Due on', '应付日'), ('todo', 'To do first', '优先待办'), ('silent', 'Not spoken to for long', '久未跟进'), ('expiring', 'Contracts that expire', '即将到期合同'),
        ('result', 'Result', '结果'), ('manager', 'Time for the manager to step in', '需经理介入'), ('alert', 'On the alert list', '预警'), ('last_contact_at', 'Last contact', '最近跟进'),
        ('yesterday', 'The day before', '昨日业绩'), ('overdue', 'Overdue actions', '超期动作'), ('oldest', 'Waiting longest', '超期最久'), ('alerts', 'Open alerts', '未处理预警'),
        ('message', 'Message', '内容'), ('level', 'Level', '级别'), ('red', 'red', '红'), ('orange', 'orange', '橙'), ('yellow', 'yellow', '黄'), ('green', 'green', '绿'), ('leads', 'Leads', '线索'), ('follow_ups', 'Follow-ups', '跟进'),
        ('won', 'Won', '赢单'), ('lost', 'Lost', '输单'), ('risk', 'Customers at risk', '客户风险'), ('competitors', 'Competitors', '竞争对手'), ('won_rate', 'Won against them', '对其赢单率'), ('score', 'Score', '得分'),
        ('figures', 'Figures', '指标'), ('trend', 'Bookings of twelve months', '近12个月签约额'), ('funnel', 'How far the deals came that were closed', '已结商机到达阶段'), ('before', 'Month before', '上月'), ('change_rate', 'Change', '环比'),
        ('bookings', 'Bookings', '签约额'), ('quota', 'Quota', '目标'), ('attainment_rate', 'Attained', '达成率'), ('receipts', 'Receipts', '回款额'), ('win_rate', 'Win rate', '赢单率'), ('month', 'Month', '月份'),
        ('control', 'Second way', '对照值'), ('deviation_rate', 'Difference', '差异'), ('previous', 'Day before', '前一日'), ('status', 'Status', '状态'), ('ok', 'ok', '正常'), ('differs', 'differs', '不一致'), ('jumped', 'jumped', '突变'),
        ('indicator', 'Indicator', '指标'), ('target', 'Target', '目标'), ('advice', 'Advice', '建议'), ('value_rate', 'Share', '比率'),
        ('active_users', 'Daily of monthly users', '日活/月活'), ('completeness', 'Completeness', '数据完整率'), ('approval_hours', 'Hours to a decision', '平均审批时长(小时)'), ('error_rate', 'Payloads refused', '接口错误率'),
        ('orphan', 'Record of a customer that is gone', '所属客户已删除或合并'), ('dangling', 'Names a record that does not exist', '指向不存在的记录'), ('copied_owner', 'Owner is not the customer''s', '归属与客户不一致'),
        ('contact_mismatch', 'One person under two numbers', '同一人联系方式不一致'), ('stage_mismatch', 'Stage and outcome disagree', '阶段与结果不一致'), ('plan_sum', 'Instalments are not the contract''s amount', '付款计划合计不等于合同额'), ('overpaid', 'Paid more than the contract', '回款超过合同额'),
        ('problem', 'What is wrong', '问题'), ('label', 'Name', '名称'), ('severity', 'Severity', '严重程度'), ('error', 'error', '错误'), ('warning', 'warning', '警告'), ('info', 'info', '提示'), ('open', 'Open', '未解决'), ('new', 'New', '新增'), ('gone', 'Gone', '已消除'),
        ('fields', 'Fields', '字段'), ('field', 'Field', '字段'), ('system', 'System', '系统'), ('compared', 'Compared', '已比对'), ('differing', 'Differ', '不一致'), ('missing_here', 'Missing here', '本系统缺失'), ('missing_there', 'Missing there', '对方缺失'),
        ('difference_rate', 'Share', '差异率'), ('unmatched', 'Records that are no customer of ours', '未匹配到客户的记录'), ('records', 'Records', '记录数'), ('stewards', 'Open differences by steward', '各责任人未解决差异'),
        ('summary', 'Summary', '概览'), ('object', 'Object', '对象'), ('filled_rate', 'Filled', '填写率'), ('distinct_values', 'Values', '取值数'), ('changes', 'Changes', '修改次数'), ('used_by', 'Used by', '被引用'),
        ('waterfall', 'From the forecast to the result', '从预测到结果'), ('forecast', 'Forecast', '预测'), ('slipped', 'Slipped', '延期'), ('step', 'Step', '环节'), ('deviation', 'Deviation', '偏差'), ('accuracy_rate', 'Accuracy', '准确率'), ('verdict', 'Verdict', '判断'),
        ('within_band', 'within what chance explains', '在正常波动范围内'), ('beyond_band', 'beyond what chance explains', '超出正常波动'), ('causes', 'Causes', '原因'), ('cause', 'Cause', '原因'), ('rule', 'Rule', '判定规则'), ('largest', 'Largest items', '最大偏差项'), ('similar', 'Similar earlier', '历史相似'),
        ('sales', 'Sales', '销售'), ('chance', 'Chance', '偶然'), ('none', '–', '–'), ('amount_changed', 'amount changed', '金额变更'), ('plan_was_past', 'planned date had passed', '预计日期已过'), ('no_evidence', 'adjusted without evidence', '无凭证调整'),
        ('stage_went_back', 'stage went back', '阶段回退'), ('no_activity', 'no activity', '未跟进'), ('date_moved', 'customer moved the date', '客户推迟'), ('late_record', 'recorded late', '录入滞后'), ('outage', 'source was silent', '集成接口中断'), ('duplicate', 'duplicate removed', '重复商机'), ('action_missing', 'required action missing', '必做动作未完成'), ('budget_frozen', 'budget frozen', '预算冻结'),
        ('sponsor_left', 'sponsor left', '关键人离职'), ('procurement', 'procurement', '采购原因'), ('kind', 'Kind', '类别'), ('subject', 'Subject', '对象'), ('detail', 'Detail', '说明'),
        ('privileged role', 'privileged role', '特权角色'), ('privileged membership', 'privileged membership', '特权成员关系'), ('view owner', 'view owner', '视图属主'), ('row security', 'row security', '行级安全'), ('table right', 'table right', '表权限'),
        ('definer function', 'definer function', '属主权限函数'), ('inert role', 'inert role', '失效角色'), ('orphaned login', 'orphaned login', '无主账号'),
        ('competitor_move', 'Heard of competitors', '竞品动态'), ('effective', 'in force since', '生效日期'),
        ('retire', 'could go', '建议停用'), ('seldom_filled', 'seldom filled', '很少填写'), ('one_value', 'always the same', '取值单一'), ('unused', 'not used', '未使用'), ('unpriced', 'Without rate', '缺汇率'),
        ('days_silent', 'Days without contact', '未联系天数'), ('contract', 'Contract', '合同'), ('expires_on', 'Expires', '到期日'), ('days_left', 'Days left', '剩余天数'), ('days_since', 'Days ago', '距今天数'), ('credit_rating', 'Credit rating', '信用评级'), ('on_time_rate', 'Paid on time', '按时回款率'),
        ('instalments', 'Instalments so far', '已到期分期数'), ('outstanding', 'Overdue amount', '逾期未付'), ('of_first_rate', 'Of the first', '占首阶段'), ('of_before_rate', 'Of the one before', '占上一阶段'), ('grade', 'Grade', '等级'),
        ('hidden', 'Not shown to you', '无权查看'), ('in_currency', 'Amounts in %s', '金额单位:%s'), ('nobody', 'nobody named', '未指定'), ('task', 'task', '任务'), ('next_step', 'next step', '下一步'), ('checked_at', 'Checked', '校验时间'),
        ('model_accuracy', 'Accuracy of the win probability', '模型准确率'), ('poor', 'poor', '不达标'), ('no_data', 'no data', '无数据')) AS v (k, en, zh) WHERE v.k = key), key)
$$;
COMMENT ON FUNCTION crm._say(text, text) IS 'Internal: a heading of the reports in a language (en, zh); the key itself if it has none.';

CREATE OR REPLACE FUNCTION crm._num(value numeric, decimals int DEFAULT 2) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN value IN ('NaN', 'Infinity', '-Infinity') OR abs(value) >= 1e30 THEN value::text
                ELSE rtrim(to_char(round(value, decimals), 'FM' || repeat('999,', 10) || '990.' || repeat('9', decimals)), '.') END
$$;
COMMENT ON FUNCTION crm._num(numeric, int) IS 'Internal: a figure for reading, with commas between thousands, at most so many decimals.';

CREATE OR REPLACE FUNCTION crm._num_short(value numeric, locale text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN locale = 'zh' AND abs(value) >= 1e8 THEN crm._num(value / 1e8) || '亿'
                WHEN locale = 'zh' AND abs(value) >= 1e4 THEN crm._num(value / 1e4, 1) || '万'
                WHEN abs(value) >= 1e9 AND locale <> 'zh' THEN crm._num(value / 1e9) || ' bn'
                WHEN abs(value) >= 1e6 AND locale <> 'zh' THEN crm._num(value / 1e6) || ' m'
                WHEN abs(value) >= 1e4 AND locale <> 'zh' THEN crm._num(value / 1e3, 1) || ' k' ELSE crm._num(value) END
$$;
COMMENT ON FUNCTION crm._num_short(numeric, text) IS 'Internal: a figure for a drawing: thousands, millions and billions in English, 万 and 亿 in Chinese.';

CREATE OR REPLACE FUNCTION crm._clip(value text, width int) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- a Han character is twice as wide as a Latin one
    SELECT CASE WHEN sum(c.w) <= width THEN value ELSE coalesce(string_agg(c.ch, '' ORDER BY c.i) FILTER (WHERE c.upto < width), '') || '…' END
      FROM (SELECT x.ch, x.i, x.w, sum(x.w) OVER (ORDER BY x.i) AS upto
              FROM (SELECT ch, i, CASE WHEN ascii(ch) >= 11904 THEN 2 ELSE 1 END AS w FROM regexp_split_to_table(left(value, width + 1), '') WITH ORDINALITY AS u (ch, i)) AS x) AS c
$$;
COMMENT ON FUNCTION crm._clip(text, int) IS 'Internal: a text that fits into a width, counted in Latin characters, with … for what was cut.';

-- Drawings are 360 wide, the width of a phone, and grow with the page up to 560: text of size 14 is never smaller than that on a screen.
-- A label and its figure stand on a line of their own above each bar, so that nothing ever runs into anything.
CREATE OR REPLACE FUNCTION crm._svg_bar(i bigint, label text, figure text, x numeric, width numeric, colour text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<text x="0" y="%1$s">%2$s</text><text x="360" y="%1$s" class="v">%3$s</text><rect x="%4$s" y="%5$s" width="%6$s" height="16" rx="3" fill="%7$s"/>',
                  (i - 1) * 46 + 15, crm._html(crm._clip(label, greatest(42 - char_length(figure), 20))), crm._html(figure), round(x, 1), (i - 1) * 46 + 22, round(CASE WHEN width > 0 THEN greatest(width, 2) ELSE 0 END, 1), colour)
$$;
COMMENT ON FUNCTION crm._svg_bar(bigint, text, text, numeric, numeric, text) IS 'Internal: the i-th bar of a drawing, with its label and figure above it.';

CREATE OR REPLACE FUNCTION crm._svg_bars(labels text[], amounts numeric[], colour text DEFAULT '#2563eb', locale text DEFAULT 'en') RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- where all are nought there is nothing to compare
    SELECT CASE WHEN max(amounts[i]) > 0 THEN format('<svg viewBox="0 0 360 %s" role="img">', greatest(count(*), 1) * 46)
           || coalesce(string_agg(crm._svg_bar(i, labels[i], crm._num_short(amounts[i], locale), 0, 360 * amounts[i] / nullif(m.top, 0), crm._html(colour)), '' ORDER BY i), '') || '</svg>' ELSE '' END
      FROM generate_subscripts(labels, 1) AS i, (SELECT max(x) AS top FROM unnest(amounts) AS x) AS m
$$;
COMMENT ON FUNCTION crm._svg_bars(text[], numeric[], text, text) IS 'Internal: horizontal bars with a label and the figure above each, as SVG; nothing when all are nought.';

CREATE OR REPLACE FUNCTION crm._svg_funnel(labels text[], amounts numeric[], locale text DEFAULT 'en') RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<svg viewBox="0 0 360 %s" role="img">', greatest(count(*), 1) * 46)
           || coalesce(string_agg(crm._svg_bar(i, labels[i], crm._num_short(amounts[i], locale) || coalesce(' · ' || round(100 * amounts[i] / nullif(amounts[i - 1], 0)) || '%', ''),
                                               180 - 180 * amounts[i] / nullif(m.top, 0), 360 * amounts[i] / nullif(m.top, 0), '#2563eb'), '' ORDER BY i), '') || '</svg>'
      FROM generate_subscripts(labels, 1) AS i, (SELECT max(x) AS top FROM unnest(amounts) AS x) AS m
$$;
COMMENT ON FUNCTION crm._svg_funnel(text[], numeric[], text) IS 'Internal: a funnel as SVG: centred bars, each with its figure and its share of the one before.';

CREATE OR REPLACE FUNCTION crm._svg_waterfall(labels text[], steps numeric[], locale text DEFAULT 'en') RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- the first step is where it begins, the others add and take away; the last bar is where it ends
    WITH s AS (SELECT i, labels[i] AS label, coalesce(steps[i], 0) AS d, sum(coalesce(steps[i], 0)) OVER (ORDER BY i) AS after FROM generate_subscripts(steps, 1) AS i),
         b AS (SELECT s.i, s.label, s.d, CASE WHEN s.i = 1 THEN 0 ELSE s.after - s.d END AS a, s.after AS z, s.i = 1 AS whole FROM s
               UNION ALL SELECT max(s.i) + 1, crm._say('result', locale), sum(s.d), 0, sum(s.d), true FROM s HAVING count(*) > 0),
         f AS (SELECT least(min(least(b.a, b.z)), 0) AS lo, nullif(greatest(max(greatest(b.a, b.z)), 0) - least(min(least(b.a, b.z)), 0), 0) AS span FROM b)
    SELECT format('<svg viewBox="0 0 360 %s" role="img">', greatest(count(*), 1) * 46)
           || coalesce(string_agg(crm._svg_bar(b.i, b.label, CASE WHEN b.d > 0 AND NOT b.whole THEN '+' ELSE '' END || crm._num_short(b.d, locale), 360 * (least(b.a, b.z) - f.lo) / f.span, 360 * abs(b.z - b.a) / f.span,
                                               CASE WHEN b.whole THEN '#6b7280' WHEN b.d >= 0 THEN '#16a34a' ELSE '#dc2626' END), '' ORDER BY b.i), '') || '</svg>'
      FROM b, f
$$;
COMMENT ON FUNCTION crm._svg_waterfall(text[], numeric[], text) IS 'Internal: how an amount became another, step by step, as SVG.';

CREATE OR REPLACE FUNCTION crm._svg_trend(labels text[], amounts numeric[], locale text DEFAULT 'en') RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- of many points only some are named, the last always
    SELECT '<svg viewBox="0 0 360 200" role="img"><line x1="10" y1="160" x2="350" y2="160" stroke="#9ca3af"/>'
           || coalesce(format('<polyline fill="none" stroke="#2563eb" stroke-width="3" points="%s"/>', string_agg(p.x || ',' || p.y, ' ' ORDER BY p.i)), '')
           || coalesce(string_agg(format('<circle cx="%s" cy="%s" r="4" fill="#2563eb"/>', p.x, p.y)
                                  || CASE WHEN p.named THEN format('<text x="%1$s" y="%2$s" class="c o">%3$s</text><text x="%1$s" y="184" class="c">%4$s</text>', p.x, CASE WHEN p.below THEN p.y + 22 ELSE p.y - 10 END, crm._html(crm._num_short(p.v, locale)), crm._html(crm._clip(p.label, 10))) ELSE '' END, '' ORDER BY p.i), '') || '</svg>'
      -- in a valley the figure stands under its point, where no line is
      FROM (SELECT q.*, coalesce(lag(q.y) OVER (ORDER BY q.i) < q.y AND lead(q.y) OVER (ORDER BY q.i) < q.y AND q.y < 140, false) AS below
      FROM (SELECT i, labels[i] AS label, amounts[i] AS v, (n.n - i) % ((n.n + 3) / 4) = 0 AS named, round(45 + 270 * (i - 1)::numeric / greatest(n.n - 1, 1), 1) AS x,
                   coalesce(round(160 - 125 * (amounts[i] - m.lo) / nullif(m.top - m.lo, 0), 1), 160) AS y
              FROM generate_subscripts(amounts, 1) AS i, (SELECT cardinality(amounts) AS n) AS n, (SELECT max(x) AS top, least(min(x), 0) AS lo FROM unnest(amounts) AS x) AS m) AS q) AS p
     WHERE p.v IS NOT NULL
$$;
COMMENT ON FUNCTION crm._svg_trend(text[], numeric[], text) IS 'Internal: a line over time as SVG.';

CREATE OR REPLACE FUNCTION crm._svg_heat(rows_ text[], cols text[], cells jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- headings are slanted, and a row's label stands above its cells: columns stay narrow enough for a phone
    SELECT format('<div class="scroll"><svg viewBox="0 0 %s %s" role="img" class="heat" style="min-width:%spx;max-width:%spx">', s.w, 86 + 50 * coalesce(cardinality(rows_), 0), round(s.w * 0.82), greatest(s.w, 560))
           || coalesce((SELECT string_agg(format('<text transform="translate(%s,80) rotate(-45)" class="h">%s</text>', (j - 1) * s.c + s.c / 2, crm._html(crm._clip(cols[j], 11))), '' ORDER BY j) FROM generate_subscripts(cols, 1) AS j), '')
           || coalesce((SELECT string_agg(format('<text x="0" y="%s">%s</text>', 86 + (i - 1) * 50 + 14, crm._html(crm._clip(rows_[i], 44))), '' ORDER BY i) FROM generate_subscripts(rows_, 1) AS i), '')
           || coalesce((SELECT string_agg(format('<rect x="%s" y="%s" width="%s" height="24" rx="3" fill="%s"/><text x="%s" y="%s" class="c">%s</text>', (j - 1) * s.c, 86 + (i - 1) * 50 + 20, s.c - 3,
                                                 CASE WHEN v IS NULL THEN '#e5e7eb' ELSE format('hsl(%s,70%%,%s)', round(120 * least(greatest(v, 0), 1)), '75%') END,
                                                 (j - 1) * s.c + s.c / 2 - 1, 86 + (i - 1) * 50 + 37, CASE WHEN v IS NULL THEN '–' ELSE round(100 * v) || '%' END), '' ORDER BY i, j)
                         FROM generate_subscripts(rows_, 1) AS i, generate_subscripts(cols, 1) AS j, LATERAL (SELECT (cells -> (i - 1) ->> (j - 1))::numeric AS v) AS c), '') || '</svg></div>'
      FROM (SELECT g.c, g.c * coalesce(cardinality(cols), 0) + 48 AS w FROM (SELECT least(greatest(312 / greatest(coalesce(cardinality(cols), 0), 1), 44), 90) AS c) AS g) AS s
$$;
COMMENT ON FUNCTION crm._svg_heat(text[], text[], jsonb) IS 'Internal: a heat map of shares (0 red to 1 green, grey for none) as SVG; cells is a list of rows.';

CREATE OR REPLACE FUNCTION crm._text_of(value jsonb, locale text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'object' THEN coalesce(value ->> locale, value ->> 'en', value::text)
                                    WHEN 'array' THEN (SELECT string_agg(crm._text_of(x, locale), ', ' ORDER BY o) FROM jsonb_array_elements(value) WITH ORDINALITY AS u (x, o))
                                    ELSE value #>> '{}' END
$$;
COMMENT ON FUNCTION crm._text_of(jsonb, text) IS 'Internal: a value of a report''s row as text: of an object {en, zh} the language asked for, of a list its members.';

CREATE OR REPLACE FUNCTION crm._local_time(at timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT to_char(at AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'), 'YYYY-MM-DD HH24:MI')
$$;
COMMENT ON FUNCTION crm._local_time(timestamptz) IS 'Internal: an instant as a day and a minute of the organisation''s time zone.';

CREATE OR REPLACE FUNCTION crm._html_cell(name text, value jsonb, unit text, said boolean, locale text, link text DEFAULT NULL) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- what is said of the column above stands beside the value where a phone shows rows as cards; how bad it is has a colour beside its word
    SELECT format('<td data-l="%s"%s>%s%s%s</td>', crm._html(crm._say(name, locale)), CASE WHEN jsonb_typeof(value) = 'number' THEN ' class="n"' WHEN name ~ '_(at|on)$' THEN ' class="d"' ELSE '' END,
                  CASE WHEN link IS NOT NULL THEN format('<a href="%s">', crm._html(link)) ELSE '' END,
                  CASE WHEN said AND name IN ('level', 'status', 'severity') AND c.colour IS NOT NULL THEN format('<span class="dot %s"></span>', c.colour) ELSE '' END ||
                  crm._html(CASE WHEN jsonb_typeof(value) = 'number' AND (name ~ '_rate$' OR unit = 'share' AND name IN ('value', 'before', 'control', 'previous')) THEN round(100 * (value #>> '{}')::numeric) || '%'
                                 WHEN jsonb_typeof(value) = 'number' THEN crm._num((value #>> '{}')::numeric, CASE WHEN abs((value #>> '{}')::numeric) >= 10000 THEN 0 ELSE 2 END)
                                 -- midnight is a day, not a time
                                 WHEN jsonb_typeof(value) = 'string' AND name ~ '_at$' THEN coalesce(regexp_replace(crm._local_time(crm.parse_time(value #>> '{}')), ' 00:00$', ''), value #>> '{}')
                                 WHEN said THEN crm._say(value #>> '{}', locale) ELSE crm._text_of(value, locale) END),
                  CASE WHEN link IS NOT NULL THEN '</a>' ELSE '' END)
      FROM (SELECT CASE WHEN value #>> '{}' IN ('red', 'error', 'differs', 'poor') THEN 'red' WHEN value #>> '{}' IN ('orange', 'jumped') THEN 'orange' WHEN value #>> '{}' IN ('yellow', 'warning') THEN 'yellow'
                        WHEN value #>> '{}' IN ('green', 'ok') THEN 'green' END AS colour) AS c
$$;
COMMENT ON FUNCTION crm._html_cell(text, jsonb, text, boolean, text, text) IS 'Internal: a value of a report''s row as a cell: *_rate, and figures of a row whose unit is share, as percent, *_at as local time, the day alone at midnight, what is to be said in the reader''s language; link: where it leads.';

CREATE OR REPLACE FUNCTION crm._html_table(rows_ jsonb, columns text[], say text[], locale text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- a column that is empty throughout is left out, and one currency for all is said once; the first leads to the record where the organisation has said how, and is never empty, because a phone makes it the head of a card; a table of more than four, or of four with several texts, is wide: a phone shows it as cards
    WITH c AS (SELECT c.name, c.o, bool_or(jsonb_typeof(x -> c.name) = 'number') AS figures
                 FROM unnest(columns) WITH ORDINALITY AS c (name, o), jsonb_array_elements(rows_) AS x GROUP BY c.name, c.o HAVING bool_or(coalesce(x -> c.name, 'null') <> 'null') AND (c.name <> 'currency' OR count(DISTINCT x ->> 'currency') > 1))
    SELECT coalesce((SELECT format('<p class="u">%s</p>', crm._html(format(crm._say('in_currency', locale), min(x ->> 'currency')))) FROM jsonb_array_elements(rows_) AS x
                      WHERE 'currency' = ANY (columns) AND jsonb_typeof(x -> 'currency') = 'string' HAVING count(DISTINCT x ->> 'currency') = 1), '')
           || format('<div class="scroll"><table%s><tr>', CASE WHEN (SELECT count(*) > 4 OR count(*) = 4 AND count(*) FILTER (WHERE NOT c.figures AND c.name <> 'currency') > 1 FROM c) THEN ' class="wide"' ELSE '' END)
           || (SELECT string_agg(format('<th%s>%s</th>', CASE WHEN c.figures THEN ' class="n"' ELSE '' END, crm._html(crm._say(c.name, locale))), '' ORDER BY c.o) FROM c) || '</tr>'
           || (SELECT string_agg('<tr>' || (SELECT string_agg(crm._html_cell(c.name, CASE WHEN c.o = f.o AND coalesce(x -> c.name, 'null') = 'null' THEN '"–"' ELSE x -> c.name END, x ->> 'unit', c.name = ANY (say), locale,
                                                                               CASE WHEN c.o = f.o THEN coalesce(crm._link(x ->> 'object', x ->> 'record_id'), crm._link('account', x ->> 'account_id')) END), '' ORDER BY c.o) FROM c, (SELECT min(o) AS o FROM c) AS f) || '</tr>', '' ORDER BY xo)
                 FROM jsonb_array_elements(rows_) WITH ORDINALITY AS u (x, xo)) || '</table></div>'
$$;
COMMENT ON FUNCTION crm._html_table(jsonb, text[], text[], text) IS 'Internal: rows of a report as a table; say names the columns whose values are words of the reports.';

CREATE OR REPLACE FUNCTION crm._html_chart(rows_ jsonb, chart jsonb, locale text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE chart ->> 'kind'
        WHEN 'bars' THEN crm._svg_bars(l.labels, l.amounts, '#2563eb', locale) WHEN 'funnel' THEN crm._svg_funnel(l.labels, l.amounts, locale)
        WHEN 'waterfall' THEN crm._svg_waterfall(l.labels, l.amounts, locale) WHEN 'trend' THEN crm._svg_trend(l.labels, l.amounts, locale)
        WHEN 'heat' THEN (
            SELECT crm._svg_heat(a.labels, b.labels,
                                 (SELECT jsonb_agg((SELECT jsonb_agg((SELECT x -> (chart ->> 'value') FROM jsonb_array_elements(rows_) AS x
                                                                       WHERE crm._text_of(x -> (chart ->> 'label'), locale) = ra AND crm._text_of(x -> (chart ->> 'column'), locale) = cb LIMIT 1) ORDER BY co)
                                                      FROM unnest(b.labels) WITH ORDINALITY AS ub (cb, co)) ORDER BY ro) FROM unnest(a.labels) WITH ORDINALITY AS ua (ra, ro)))
              FROM (SELECT array_agg(y.t ORDER BY y.o) AS labels FROM (SELECT crm._text_of(x -> (chart ->> 'label'), locale) AS t, min(o) AS o FROM jsonb_array_elements(rows_) WITH ORDINALITY AS u (x, o) GROUP BY 1) AS y WHERE y.t IS NOT NULL) AS a,
                   (SELECT array_agg(y.t ORDER BY y.o) AS labels FROM (SELECT crm._text_of(x -> (chart ->> 'column'), locale) AS t, min(o) AS o FROM jsonb_array_elements(rows_) WITH ORDINALITY AS u (x, o) GROUP BY 1) AS y WHERE y.t IS NOT NULL) AS b)
        ELSE '' END
      FROM (SELECT array_agg(crm._text_of(x -> (chart ->> 'label'), locale) ORDER BY o) AS labels,
                   array_agg(CASE WHEN jsonb_typeof(x -> (chart ->> 'value')) = 'number' THEN (x ->> (chart ->> 'value'))::numeric END ORDER BY o) AS amounts
              FROM jsonb_array_elements(rows_) WITH ORDINALITY AS u (x, o)) AS l
$$;
COMMENT ON FUNCTION crm._html_chart(jsonb, jsonb, text) IS 'Internal: rows of a report as a drawing: {kind: bars, funnel, waterfall, trend or heat; label, value, and for heat column: names of columns}.';

CREATE OR REPLACE FUNCTION crm._html_bottleneck(rows_ jsonb, locale text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<h2>%s</h2>%s', crm._html(crm._say('stuck', locale)), crm._svg_bars(array_agg(x.action ORDER BY x.o), array_agg((x.r ->> 'deals')::numeric ORDER BY x.o), '#dc2626', locale))
           || string_agg(format('<section><h2>%s. %s</h2><p>%s: %s<br>%s: %s · %s: %s %s · %s: %s</p>', crm._html(x.r ->> 'rank'), crm._html(x.action),
                  crm._html(crm._say('stage', locale)), crm._html(coalesce(x.r #>> ARRAY['labels', 'stage', locale], x.r ->> 'stage')), crm._html(crm._say('deals', locale)), crm._html(x.r ->> 'deals'),
                  crm._html(crm._say('amount', locale)), crm._num((x.r ->> 'amount')::numeric, 0), crm._html(x.r ->> 'currency'), crm._html(crm._say('median_days', locale)), crm._html(x.r ->> 'median_days'))
              || (SELECT format('<div class="scroll"><table class="wide"><tr><th>%s</th><th>%s</th><th class="n">%s</th><th class="n">%s</th></tr>%s</table></div>', crm._html(crm._say('customer', locale)), crm._html(crm._say('owner', locale)),
                                crm._html(crm._say('amount', locale)), crm._html(crm._say('days', locale)),
                                string_agg(format('<tr>%s<td data-l="%s">%s</td><td data-l="%s" class="n">%s %s</td><td data-l="%s" class="n">%s</td></tr>', crm._html_cell('customer', c -> 'account', NULL, false, locale, crm._link('opportunity', c ->> 'deal')), crm._html(crm._say('owner', locale)), crm._html(c ->> 'owner'),
                                                  crm._html(crm._say('amount', locale)), crm._num((c ->> 'amount')::numeric, 0), crm._html(c ->> 'currency'), crm._html(crm._say('days', locale)), crm._html(c ->> 'days')), '' ORDER BY o))
                    FROM jsonb_array_elements(CASE jsonb_typeof(x.r -> 'customers') WHEN 'array' THEN x.r -> 'customers' ELSE '[]' END) WITH ORDINALITY AS u (c, o))
              || coalesce((SELECT format('<h3>%s</h3><ul>%s</ul>', crm._html(crm._say('cases', locale)),
                                         string_agg('<li>' || crm._html(format(crm._say('case', locale), c ->> 'account', c ->> 'deal', c ->> 'days')
                                             || coalesce(format(crm._say('same', locale), (SELECT string_agg(crm._say(CASE s WHEN 'amount' THEN 'size' ELSE s END, locale), CASE locale WHEN 'zh' THEN '、' ELSE ', ' END ORDER BY so)
                                                                                             FROM jsonb_array_elements_text(c -> 'shared') WITH ORDINALITY AS us (s, so) HAVING count(*) > 0)), '')) || '</li>', '' ORDER BY o))
                             FROM jsonb_array_elements(CASE jsonb_typeof(x.r -> 'cases') WHEN 'array' THEN x.r -> 'cases' ELSE '[]' END) WITH ORDINALITY AS u (c, o) HAVING count(*) > 0), '')
              || '</section>', '' ORDER BY x.o)
      FROM (SELECT u.r, u.o, coalesce(u.r #>> ARRAY['labels', 'action', locale], u.r ->> 'action') AS action FROM jsonb_array_elements(rows_) WITH ORDINALITY AS u (r, o)) AS x
$$;
COMMENT ON FUNCTION crm._html_bottleneck(jsonb, text) IS 'Internal: the bottleneck brief: where it is stuck, and under each place its customers and the solved cases.';

CREATE OR REPLACE FUNCTION crm.report_html(report text, body jsonb, locale text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    b jsonb := CASE jsonb_typeof(body) WHEN 'array' THEN jsonb_build_object('rows', body) ELSE body END;
    v_rows jsonb := CASE WHEN jsonb_typeof(b) = 'object' THEN coalesce(b -> 'rows', '[]') END;
    v_locale text := coalesce(locale, (SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en');
    v_title text;
    v_main text := '';
    v_cols text[];
    v_say text[];
    v_part text[];
    g record;
    r record;
BEGIN
    IF v_locale NOT IN ('en', 'zh') THEN
        RAISE EXCEPTION 'reports are in English (en) and Chinese (zh), not in "%"', v_locale USING ERRCODE = 'invalid_parameter_value', HINT = 'Give en or zh.';
    END IF;
    IF report IS NULL OR jsonb_typeof(v_rows) IS DISTINCT FROM 'array' OR jsonb_path_exists(v_rows, '$[*] ? (@.type() != "object")') THEN
        RAISE EXCEPTION 'the rows of a report are a list of objects' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a list of rows, for example (SELECT jsonb_agg(to_jsonb(r)) FROM crm.action_heatmap() AS r), or an object with rows, and columns, chart, title.';
    END IF;
    -- how a report of ours is laid out when only its rows are given
    b := coalesce((SELECT c.body -> 'page' FROM crm_data.config AS c WHERE c.kind = 'report' AND c.key = report AND c.scope = '*' AND c.status = 'active' AND jsonb_typeof(c.body -> 'page') = 'object'), '{}') || b;
    v_title := coalesce(b #>> ARRAY['title', v_locale], crm._report_title(report) ->> v_locale, report);
    v_cols := coalesce(ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(b -> 'columns') WHEN 'array' THEN b -> 'columns' END)), '{}');
    IF v_cols = '{}' THEN
        v_cols := ARRAY(SELECT jsonb_object_keys(v_rows -> 0));
    END IF;
    v_say := ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(b -> 'say') WHEN 'array' THEN b -> 'say' END));
    IF v_rows = '[]' THEN
        v_main := format('<p>%s</p>', crm._html(crm._say('nothing', v_locale)));
    ELSIF report = 'bottleneck_brief' AND v_rows #> '{0,rank}' IS NOT NULL THEN
        v_main := crm._html_bottleneck(v_rows, v_locale);
    ELSIF b ? 'part' THEN
        -- rows of several kinds: one section for each
        v_main := coalesce(crm._html_chart(v_rows, b -> 'chart', v_locale), '');
        FOR g IN SELECT crm._text_of(x -> (b ->> 'part'), v_locale) AS part, jsonb_agg(x ORDER BY o) AS rows_ FROM jsonb_array_elements(v_rows) WITH ORDINALITY AS u (x, o) GROUP BY 1 ORDER BY min(o) LOOP
            -- a column may mean something else in each section
            v_part := array_remove(v_cols, b ->> 'part');
            v_rows := g.rows_;
            FOR r IN SELECT n.key, n.value FROM jsonb_each_text(CASE jsonb_typeof(b -> 'names' -> g.part) WHEN 'object' THEN b -> 'names' -> g.part ELSE '{}' END) AS n LOOP
                v_part := array_replace(v_part, r.key, r.value);
                v_rows := (SELECT jsonb_agg((x - r.key) || jsonb_build_object(r.value, x -> r.key) ORDER BY o) FROM jsonb_array_elements(v_rows) WITH ORDINALITY AS u (x, o));
            END LOOP;
            v_main := v_main || format('<section><h2>%s</h2>', crm._html(crm._say(g.part, v_locale))) || coalesce(crm._html_chart(g.rows_, b -> 'charts' -> g.part, v_locale), '')
                      || crm._html_table(v_rows, v_part, v_say, v_locale) || '</section>';
        END LOOP;
    ELSE
        v_main := coalesce(crm._html_chart(v_rows, b -> 'chart', v_locale), '') || crm._html_table(v_rows, v_cols, v_say, v_locale);
    END IF;
    RETURN format('<!DOCTYPE html><html lang="%s"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''"><title>%s</title>', v_locale, crm._html(v_title))
        || '<style>body{font:16px/1.5 system-ui,-apple-system,"PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;margin:0 auto;max-width:760px;padding:16px;color:#111827;background:#fff}h1{font-size:24px;line-height:1.25;margin:8px 0}h2{font-size:18px;margin:28px 0 6px}h3{font-size:15px;margin:14px 0 4px}p{margin:4px 0 10px}'
        || 'table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:left;padding:6px 6px;border-bottom:1px solid #e5e7eb;vertical-align:top}td{overflow-wrap:break-word;min-width:44px}th{word-break:keep-all}th.n,td.n{text-align:right;font-variant-numeric:tabular-nums;min-width:0}td.n{white-space:nowrap}.d{white-space:nowrap}a{color:#1d4ed8;text-decoration:none}.u{font-size:13px;color:#6b7280;margin:10px 0 0}.dot{display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:5px;background:#9ca3af}.dot.red{background:#dc2626}.dot.orange{background:#ea580c}.dot.yellow{background:#eab308}.dot.green{background:#16a34a}.scroll{overflow-x:auto;margin:8px 0}ul{padding-left:20px;margin:4px 0}li{overflow-wrap:anywhere}'
        || '@media(max-width:520px){table.wide,table.wide tbody{display:block}table.wide tr{display:flex;flex-wrap:wrap;gap:1px 14px;border-bottom:1px solid #d1d5db;padding:8px 0}table.wide tr:first-child{display:none}table.wide td{display:block;border:0;padding:0;min-width:0;text-align:left;overflow-wrap:anywhere;white-space:normal}table.wide td::before{content:attr(data-l)" ";color:#6b7280}table.wide td:first-child{flex:0 0 100%;font-weight:600}table.wide td:first-child:not(.n)::before{display:none}table.wide td:empty{display:none}}'
        || 'footer{margin-top:32px;font-size:12px;color:#6b7280;overflow-wrap:anywhere}svg{display:block;width:100%;max-width:560px;height:auto}svg text{font-size:14px;fill:#111827}svg .v{text-anchor:end}svg .c{text-anchor:middle;font-size:13px}svg .h{font-size:13px}svg .o{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}</style></head><body>'
        || format('<h1>%s</h1>', crm._html(v_title)) || CASE WHEN b ? 'due_at' THEN format('<p>%s</p>', crm._html(crm._local_time((b ->> 'due_at')::timestamptz))) ELSE '' END
        || v_main
        || CASE WHEN b ? 'digest' THEN format('<footer>%s %s · %s %s · %s #%s · %s %s%s</footer>', crm._html(crm._say('data_as_of', v_locale)), crm._html(crm._local_time((b ->> 'data_as_of')::timestamptz)),
                  crm._html(crm._say('definitions', v_locale)),
                  crm._html((SELECT string_agg(x.names || CASE WHEN x.since IS NOT NULL THEN format(' (%s %s)', crm._say('effective', v_locale), x.since) ELSE '' END, CASE v_locale WHEN 'zh' THEN '、' ELSE ', ' END ORDER BY x.since NULLS LAST, x.names COLLATE "C")
                               FROM (SELECT c.body ->> 'valid_from' AS since, string_agg(format('%s v%s', coalesce(c.body ->> v_locale, d.key), d.value), CASE v_locale WHEN 'zh' THEN '、' ELSE ', ' END ORDER BY d.key COLLATE "C") AS names
                                       FROM jsonb_each_text(b -> 'definitions') AS d LEFT JOIN crm_data.config AS c ON c.kind || '/' || c.key = d.key AND c.kind = 'metric' AND c.scope = '*' AND c.version::text = d.value GROUP BY 1) AS x)),
                  crm._html(crm._say('report', v_locale)), crm._html(b ->> 'seq'), crm._html(crm._say('digest', v_locale)), crm._html(left(b ->> 'digest', 16)),
                  -- whoever has the page can prove later that the history was not rewritten: see crm.verify_roots
                  ' · ' || crm._html(crm._say('history_root', v_locale)) || ' ' || crm.history_root()) ELSE '' END
        || '</body></html>';
END
$$;
COMMENT ON FUNCTION crm.report_html(text, jsonb, text) IS
'Rows as one self-contained HTML page with inline SVG, without script, every text escaped. Reads no business data: it shows what it is given.
report: name of the report, for its title and form. body: a list of rows, or {rows, columns: their order, chart: {kind: bars, funnel, waterfall, trend or heat; label, value, column}, part: column by which rows fall into sections, charts: one for a section, by its key, names: what columns are called in a section, by its key, say: columns with words of the reports, title: {en, zh}}; what is not given comes from page of the configuration of that report. Columns named *_rate are shown as percent, *_at as local time.
locale: en or zh, by default the reader''s own. Not STRICT: locale may be NULL. Errors: 22023 another language, or a body that is not like that.';

CREATE OR REPLACE FUNCTION crm.report_html(snapshot bigint, locale text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    b jsonb := crm.report_body(snapshot);
BEGIN
    IF b IS NULL THEN
        RAISE EXCEPTION 'there is no report % that you may see', snapshot USING ERRCODE = 'no_data_found', HINT = 'SELECT id, report FROM crm.report_list() lists yours.';
    END IF;
    RETURN crm.report_html(b ->> 'report', b, locale);
END
$$;
COMMENT ON FUNCTION crm.report_html(bigint, text) IS
'A stored report as one self-contained HTML page with inline SVG, without script, every text escaped; its footer names the definitions, their versions, the data''s age, the digest and the last root of the history.
snapshot: from crm.report_list. locale: en or zh, by default the reader''s own. Not STRICT: locale may be NULL. Errors: P0002 no such report within the caller''s view; 22023 another language.';
