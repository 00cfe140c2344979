-- Reports as pages: one self-contained HTML document with inline SVG, no script, every text escaped, legible on a phone, in English and Chinese.

CREATE OR REPLACE FUNCTION crm._html(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace(replace(replace(replace(replace(regexp_replace(coalesce(value, ''), '[\x01-\x08\x0b\x0c\x0e-\x1f]', '', 'g'), '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;')
$$;
COMMENT ON FUNCTION crm._html(text) IS 'Internal: a text as it may stand in HTML, in an element or an attribute.';

CREATE OR REPLACE FUNCTION crm._say(key text, locale text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT CASE locale WHEN 'zh' THEN v.zh ELSE v.en END FROM (VALUES
        ('stage', 'Stage', '阶段'), ('deals', 'Deals', '商机数'), ('amount', 'Amount', '金额'), ('days', 'Days', '天数'), ('median_days', 'Median days', '中位停留天数'), ('customers', 'Customers', '客户'),
        ('customer', 'Customer', '客户'), ('owner', 'Owner', '负责人'), ('cases', 'Similar deals that were won', '已赢单的相似商机'), ('won_after', 'won after', '赢单用时'), ('same', 'same', '相同'),
        ('industry', 'industry', '行业'), ('product line', 'product line', '产品线'), ('region', 'region', '区域'), ('deal type', 'deal type', '类型'), ('customer type', 'customer type', '客户类型'),
        ('competitor', 'competitor', '竞争对手'), ('data_as_of', 'Data as of', '数据截至'), ('definitions', 'Definitions', '口径版本'), ('report', 'Report', '报告'), ('nothing', 'Nothing to report.', '暂无内容。'),
        ('digest', 'Digest', '摘要'), ('action', 'Action', '动作'), ('team', 'Team', '团队'), ('done_rate', 'Done', '完成率'), ('mean_hours', 'Mean hours', '平均时长'), ('first_pass_rate', 'First time right', '首次通过率'),
        ('stuck', 'Deals stuck by action', '各动作卡住的商机'), ('metric', 'Metric', '指标'), ('value', 'Value', '数值'), ('account', 'Customer', '客户'), ('reason', 'Reason', '原因'), ('rank', 'No.', '序号'),
        ('currency', 'Currency', '币种'), ('member', 'Member', '成员'), ('count', 'Count', '数量'), ('name', 'Name', '名称'), ('title', 'Title', '标题'), ('due_at', 'Due', '到期')) AS v (k, en, zh) WHERE v.k = key), key)
$$;
COMMENT ON FUNCTION crm._say(text, text) IS 'Internal: a heading of the reports in a language (en, zh); the key itself if it has none.';

CREATE OR REPLACE FUNCTION crm._svg_bars(labels text[], amounts numeric[], colour text DEFAULT '#2563eb') RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- each label stands above its bar, so that long ones never run into it
    SELECT format('<svg viewBox="0 0 640 %s" role="img" width="100%%">', greatest(count(*), 1) * 46 + 4) ||
           coalesce(string_agg(format('<text x="0" y="%s" class="l">%s</text><rect x="0" y="%s" width="%s" height="16" rx="3" fill="%s"/><text x="%s" y="%s" class="v">%s</text>',
               (i - 1) * 46 + 15, crm._html(CASE WHEN length(labels[i]) > 60 THEN left(labels[i], 59) || '…' ELSE labels[i] END), (i - 1) * 46 + 22,
               round(greatest(2, 540 * coalesce(amounts[i], 0) / nullif((SELECT max(x) FROM unnest(amounts) AS x), 0)), 1), crm._html(colour),
               round(greatest(2, 540 * coalesce(amounts[i], 0) / nullif((SELECT max(x) FROM unnest(amounts) AS x), 0)), 1) + 8, (i - 1) * 46 + 35, to_char(amounts[i], 'FM999,999,999,990.##')), '' ORDER BY i), '') || '</svg>'
      FROM generate_subscripts(labels, 1) AS i
$$;
COMMENT ON FUNCTION crm._svg_bars(text[], numeric[], text) IS 'Internal: horizontal bars with a label above each and the figure behind it, as SVG; also what a funnel is drawn with.';

CREATE OR REPLACE FUNCTION crm._svg_heat(rows_ text[], cols text[], cells jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<div class="scroll"><svg viewBox="0 0 %s %s" role="img" width="100%%" style="min-width:%spx">', 190 + 100 * coalesce(cardinality(cols), 0), 44 + 34 * coalesce(cardinality(rows_), 0), 160 + 85 * coalesce(cardinality(cols), 0)) ||
           coalesce((SELECT string_agg(format('<text x="%s" y="26" class="h">%s</text>', 190 + (j - 1) * 100 + 48, crm._html(CASE WHEN length(cols[j]) > 14 THEN left(cols[j], 13) || '…' ELSE cols[j] END)), '' ORDER BY j) FROM generate_subscripts(cols, 1) AS j), '') ||
           coalesce((SELECT string_agg(format('<text x="0" y="%s" class="l">%s</text>', 44 + (i - 1) * 34 + 21, crm._html(CASE WHEN length(rows_[i]) > 22 THEN left(rows_[i], 21) || '…' ELSE rows_[i] END)), '' ORDER BY i) FROM generate_subscripts(rows_, 1) AS i), '') ||
           coalesce((SELECT string_agg(format('<rect x="%s" y="%s" width="96" height="30" rx="4" fill="%s"/><text x="%s" y="%s" class="c">%s</text>',
                                              190 + (j - 1) * 100, 44 + (i - 1) * 34,
                                              CASE WHEN v IS NULL THEN '#e5e7eb' ELSE format('hsl(%s,70%%,%s)', round(120 * least(greatest(v, 0), 1)), '72%') END,
                                              190 + (j - 1) * 100 + 48, 44 + (i - 1) * 34 + 20, CASE WHEN v IS NULL THEN '–' ELSE round(100 * v) || ' %' END), '' ORDER BY i, j)
                       FROM generate_subscripts(rows_, 1) AS i, generate_subscripts(cols, 1) AS j, LATERAL (SELECT (cells -> (i - 1) ->> (j - 1))::numeric AS v) AS c), '') || '</svg></div>'
$$;
COMMENT ON FUNCTION crm._svg_heat(text[], text[], jsonb) IS 'Internal: a heat map of shares (0 red to 1 green, grey for none) as SVG; cells is a list of rows.';

CREATE OR REPLACE FUNCTION crm._svg_trend(labels text[], amounts numeric[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '<svg viewBox="0 0 640 220" role="img" width="100%"><line x1="10" y1="180" x2="630" y2="180" stroke="#9ca3af"/>' ||
           coalesce(format('<polyline fill="none" stroke="#2563eb" stroke-width="3" points="%s"/>', string_agg(p.x || ',' || p.y, ' ' ORDER BY p.i)), '') ||
           coalesce(string_agg(format('<circle cx="%s" cy="%s" r="4" fill="#2563eb"/><text x="%s" y="%s" class="c">%s</text><text x="%1$s" y="204" class="c">%6$s</text>', p.x, p.y, p.x, p.y - 10, to_char(p.v, 'FM999,999,999,990.##'), crm._html(left(p.label, 10))), '' ORDER BY p.i), '') || '</svg>'
      FROM (SELECT i, labels[i] AS label, amounts[i] AS v,
                   round(40 + 560 * (i - 1)::numeric / greatest(cardinality(amounts) - 1, 1), 1) AS x,
                   round(180 - 140 * amounts[i] / nullif((SELECT max(x) FROM unnest(amounts) AS x), 0), 1) AS y
              FROM generate_subscripts(amounts, 1) AS i) AS p
     WHERE p.y IS NOT NULL
$$;
COMMENT ON FUNCTION crm._svg_trend(text[], numeric[]) IS 'Internal: a line over time as SVG.';

CREATE OR REPLACE FUNCTION crm._svg_waterfall(labels text[], steps numeric[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- the first step is where it begins, the others add and take away; the last bar is where it ends
    WITH s AS (SELECT i, labels[i] AS label, steps[i] AS d, sum(steps[i]) OVER (ORDER BY i) AS after FROM generate_subscripts(steps, 1) AS i),
         b AS (SELECT s.i, s.label, s.d, least(s.after, s.after - CASE WHEN s.i = 1 THEN s.after ELSE s.d END) AS low, greatest(s.after, s.after - CASE WHEN s.i = 1 THEN s.after ELSE s.d END) AS high FROM s
               UNION ALL SELECT max(s.i) + 1, '=', sum(s.d), least(0, sum(s.d)), greatest(0, sum(s.d)) FROM s HAVING count(*) > 0),
         f AS (SELECT least(min(b.low), 0) AS lo, nullif(greatest(max(b.high), 0) - least(min(b.low), 0), 0) AS span, count(*) AS n FROM b)
    SELECT '<svg viewBox="0 0 640 240" role="img" width="100%">' ||
           coalesce(string_agg(format('<rect x="%s" y="%s" width="%s" height="%s" rx="2" fill="%s"/><text x="%s" y="%s" class="c">%s</text><text x="%6$s" y="226" class="c">%9$s</text>',
               round(10 + (b.i - 1) * 620.0 / f.n, 1), round(200 - 170 * (b.high - f.lo) / f.span, 1), round(620.0 / f.n - 8, 1), greatest(round(170 * (b.high - b.low) / f.span, 1), 1),
               CASE WHEN b.i = 1 OR b.label = '=' THEN '#6b7280' WHEN b.d >= 0 THEN '#16a34a' ELSE '#dc2626' END,
               round(10 + (b.i - 1) * 620.0 / f.n + (620.0 / f.n - 8) / 2, 1), round(200 - 170 * (b.high - f.lo) / f.span, 1) - 6, to_char(b.d, 'FM999,999,999,990'), crm._html(left(b.label, 12))), '' ORDER BY b.i), '') || '</svg>'
      FROM b, f
$$;
COMMENT ON FUNCTION crm._svg_waterfall(text[], numeric[]) IS 'Internal: how an amount became another, step by step, as SVG.';

CREATE OR REPLACE FUNCTION crm._html_cell(value jsonb, locale text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE jsonb_typeof(value)
        WHEN 'number' THEN to_char((value #>> '{}')::numeric, 'FM999,999,999,990.##')
        WHEN 'array' THEN crm._html((SELECT string_agg(x #>> '{}', ', ') FROM jsonb_array_elements(value) AS x))
        WHEN 'object' THEN crm._html(coalesce(value ->> locale, value ->> 'en', value::text))
        WHEN 'null' THEN '' ELSE crm._html(value #>> '{}') END
$$;
COMMENT ON FUNCTION crm._html_cell(jsonb, text) IS 'Internal: a value of a report''s row as HTML.';

CREATE OR REPLACE FUNCTION crm.report_html(snapshot bigint, locale text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    b jsonb := crm.report_body(snapshot);
    v_locale text;
    v_title text;
    v_main text := '';
    r jsonb;
    v_cols text[];
BEGIN
    IF b IS NULL THEN
        RAISE EXCEPTION 'there is no report % that you may see', snapshot USING ERRCODE = 'no_data_found', HINT = 'SELECT id, report FROM crm.report_list() lists yours.';
    END IF;
    v_locale := coalesce(locale, (SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en');
    IF v_locale NOT IN ('en', 'zh') THEN
        RAISE EXCEPTION 'reports are in English (en) and Chinese (zh), not in "%"', v_locale USING ERRCODE = 'invalid_parameter_value', HINT = 'Give en or zh.';
    END IF;
    v_title := coalesce(b #>> ARRAY['title', v_locale], b #>> '{title,en}', b ->> 'report');
    IF b -> 'rows' = '[]' OR b -> 'rows' IS NULL THEN
        v_main := format('<p>%s</p>', crm._html(crm._say('nothing', v_locale)));
    ELSIF b ->> 'report' = 'bottleneck_brief' THEN
        v_main := format('<h2>%s</h2>%s', crm._html(crm._say('stuck', v_locale)),
                         (SELECT crm._svg_bars(array_agg(x ->> 'action' ORDER BY o), array_agg((x ->> 'deals')::numeric ORDER BY o), '#dc2626') FROM jsonb_array_elements(b -> 'rows') WITH ORDINALITY AS u (x, o)));
        FOR r IN SELECT x FROM jsonb_array_elements(b -> 'rows') AS x LOOP
            v_main := v_main || format('<section><h2>%s. %s</h2><p>%s: %s · %s: %s · %s: %s %s · %s: %s</p>', r ->> 'rank', crm._html(r ->> 'action'),
                crm._html(crm._say('stage', v_locale)), crm._html(r ->> 'stage'), crm._html(crm._say('deals', v_locale)), r ->> 'deals',
                crm._html(crm._say('amount', v_locale)), to_char((r ->> 'amount')::numeric, 'FM999,999,999,990'), crm._html(r ->> 'currency'), crm._html(crm._say('median_days', v_locale)), r ->> 'median_days');
            v_main := v_main || format('<table><tr><th>%s</th><th>%s</th><th class="n">%s</th><th class="n">%s</th></tr>%s</table>', crm._html(crm._say('customer', v_locale)), crm._html(crm._say('owner', v_locale)),
                crm._html(crm._say('amount', v_locale)), crm._html(crm._say('days', v_locale)),
                (SELECT string_agg(format('<tr><td>%s</td><td>%s</td><td class="n">%s %s</td><td class="n">%s</td></tr>', crm._html(c ->> 'account'), crm._html(c ->> 'owner'),
                                          to_char((c ->> 'amount')::numeric, 'FM999,999,999,990'), crm._html(c ->> 'currency'), c ->> 'days'), '' ORDER BY o) FROM jsonb_array_elements(r -> 'customers') WITH ORDINALITY AS u (c, o)));
            IF jsonb_typeof(r -> 'cases') = 'array' THEN
                v_main := v_main || format('<h3>%s</h3><ul>%s</ul>', crm._html(crm._say('cases', v_locale)),
                    (SELECT string_agg(format('<li>%s (#%s): %s %s %s; %s %s</li>', crm._html(c ->> 'account'), c ->> 'deal', crm._html(crm._say('won_after', v_locale)), c ->> 'days', crm._html(lower(crm._say('days', v_locale))),
                                              crm._html(crm._say('same', v_locale)), crm._html((SELECT string_agg(crm._say(s, v_locale), ', ') FROM jsonb_array_elements_text(c -> 'shared') AS s))), '' ORDER BY o)
                       FROM jsonb_array_elements(r -> 'cases') WITH ORDINALITY AS u (c, o)));
            END IF;
            v_main := v_main || '</section>';
        END LOOP;
    ELSE
        IF b ->> 'report' = 'action_heatmap' THEN
            v_main := (SELECT crm._svg_heat(t.teams, a.actions, (SELECT jsonb_agg((SELECT jsonb_agg((SELECT (x -> 'done_rate') FROM jsonb_array_elements(b -> 'rows') AS x WHERE x ->> 'team' = tm AND x ->> 'action' = ac LIMIT 1) ORDER BY ao) FROM unnest(a.actions) WITH ORDINALITY AS ua (ac, ao)) ORDER BY tmo)
                                                                        FROM unnest(t.teams) WITH ORDINALITY AS ut (tm, tmo)))
                         FROM (SELECT array_agg(DISTINCT x ->> 'team') AS teams FROM jsonb_array_elements(b -> 'rows') AS x) AS t, (SELECT array_agg(DISTINCT x ->> 'action') AS actions FROM jsonb_array_elements(b -> 'rows') AS x) AS a);
        ELSIF b -> 'chart' ->> 'kind' IN ('bars', 'trend', 'waterfall') THEN
            SELECT CASE b #>> '{chart,kind}' WHEN 'bars' THEN crm._svg_bars(l.a, v.a) WHEN 'trend' THEN crm._svg_trend(l.a, v.a) ELSE crm._svg_waterfall(l.a, v.a) END INTO v_main
              FROM (SELECT array_agg(x ->> (b #>> '{chart,label}') ORDER BY o) AS a FROM jsonb_array_elements(b -> 'rows') WITH ORDINALITY AS u (x, o)) AS l,
                   (SELECT array_agg((x ->> (b #>> '{chart,value}'))::numeric ORDER BY o) AS a FROM jsonb_array_elements(b -> 'rows') WITH ORDINALITY AS u (x, o)) AS v;
        END IF;
        v_cols := coalesce(ARRAY(SELECT jsonb_array_elements_text(b -> 'columns')), '{}');
        IF v_cols = '{}' THEN
            v_cols := ARRAY(SELECT k FROM jsonb_object_keys(b #> '{rows,0}') AS k);
        END IF;
        v_main := coalesce(v_main, '') || '<div class="scroll"><table><tr>' || (SELECT string_agg('<th>' || crm._html(crm._say(c, v_locale)) || '</th>', '' ORDER BY o) FROM unnest(v_cols) WITH ORDINALITY AS u (c, o)) || '</tr>' ||
            (SELECT string_agg('<tr>' || (SELECT string_agg(format('<td%s>%s</td>', CASE WHEN jsonb_typeof(x -> c) = 'number' THEN ' class="n"' ELSE '' END, coalesce(crm._html_cell(x -> c, v_locale), '')), '' ORDER BY co)
                                            FROM unnest(v_cols) WITH ORDINALITY AS uc (c, co)) || '</tr>', '' ORDER BY xo) FROM jsonb_array_elements(b -> 'rows') WITH ORDINALITY AS u (x, xo)) || '</table></div>';
    END IF;
    RETURN format('<!DOCTYPE html><html lang="%s"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''"><title>%s</title>', v_locale, crm._html(v_title))
        || '<style>body{font:16px/1.5 system-ui,-apple-system,"PingFang SC","Microsoft YaHei",sans-serif;margin:0 auto;max-width:760px;padding:16px;color:#111827;background:#fff}h1{font-size:24px}h2{font-size:18px;margin:24px 0 4px}h3{font-size:15px;margin:12px 0 4px}'
        || 'table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:left;padding:6px 8px;border-bottom:1px solid #e5e7eb;vertical-align:top}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.scroll{overflow-x:auto}ul{padding-left:20px;margin:4px 0}'
        || 'footer{margin-top:32px;font-size:12px;color:#6b7280;overflow-wrap:anywhere}svg{display:block;height:auto}svg text{font-size:14px;fill:#111827}svg .c,svg .h{text-anchor:middle;font-size:13px}</style></head><body>'
        || format('<h1>%s</h1><p>%s</p>', crm._html(v_title), crm._html(to_char((b ->> 'due_at')::timestamptz AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'), 'YYYY-MM-DD HH24:MI')))
        || v_main
        || format('<footer>%s %s · %s %s · %s #%s · %s %s</footer></body></html>', crm._html(crm._say('data_as_of', v_locale)),
                  crm._html(to_char((b ->> 'data_as_of')::timestamptz AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'), 'YYYY-MM-DD HH24:MI')),
                  crm._html(crm._say('definitions', v_locale)), crm._html((SELECT string_agg(d.key || ' v' || d.value, ', ' ORDER BY d.key) FROM jsonb_each_text(b -> 'definitions') AS d)),
                  crm._html(crm._say('report', v_locale)), b ->> 'seq', crm._html(crm._say('digest', v_locale)), left(b ->> 'digest', 16));
END
$$;
COMMENT ON FUNCTION crm.report_html(bigint, text) IS
'A stored report as one self-contained HTML page with inline SVG, without script, every text escaped; its footer names the definitions, their versions, the data''s age and the digest.
snapshot: from crm.report_list. locale: en or zh, by default the reader''s own. Errors: P0002 no such report within the caller''s view; 22023 another language.';
