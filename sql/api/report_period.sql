-- Reports of a period: figures of a month, team performance, health of the CRM itself, and the nightly check that figures are right.

-- The figures of a span of days by the definitions that hold on its first day: of the house, or of each team. (A customer of two teams counts once for the
-- house, so that the one is not the sum of the other.)
CREATE OR REPLACE FUNCTION crm._report_figures(metrics text[], from_on date, to_on date, by_team boolean)
    RETURNS TABLE (metric text, version int, team_id bigint, value numeric, unpriced bigint)
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    d record;
BEGIN
    FOR d IN SELECT m.name, x.version, x.body FROM unnest(metrics) WITH ORDINALITY AS m (name, o) CROSS JOIN LATERAL crm._metric_definition(m.name, from_on) AS x WHERE x.version IS NOT NULL ORDER BY m.o LOOP
        RETURN QUERY SELECT d.name, d.version, (f.dim ->> 'team')::bigint, f.value, f.unpriced FROM crm._metric_figures(d.body, daterange(from_on, to_on), CASE WHEN by_team THEN '{team}'::text[] ELSE '{}' END) AS f;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._report_figures(text[], date, date, boolean) IS 'Internal: metrics of the days from from_on up to but without to_on, for the house or for each team, with the version of their definition and how many records no rate was known for.';

CREATE OR REPLACE FUNCTION crm._report_metrics(report text) RETURNS text[]
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY(SELECT m.name FROM crm_data.config AS c, jsonb_array_elements_text(c.body -> 'metrics') WITH ORDINALITY AS m (name, o) WHERE c.kind = 'report' AND c.key = report AND c.scope = '*' AND c.status = 'active' ORDER BY m.o)
$$;
COMMENT ON FUNCTION crm._report_metrics(text) IS 'Internal: the metrics that the configuration of a report names, in its order.';

CREATE OR REPLACE FUNCTION crm._metric_label(metric text) RETURNS jsonb
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT jsonb_build_object('en', c.body ->> 'en', 'zh', c.body ->> 'zh') FROM crm_data.config AS c WHERE c.kind = 'metric' AND c.key = metric AND c.scope = '*' AND c.status = 'active'),
                    CASE metric WHEN 'funnel_entrants' THEN '{"en": "Entrants of the funnel", "zh": "漏斗进入数"}' ELSE jsonb_build_object('en', metric, 'zh', metric) END)
$$;
COMMENT ON FUNCTION crm._metric_label(text) IS 'Internal: the name of a metric in both languages.';

CREATE OR REPLACE FUNCTION crm._report_month(day date) RETURNS date
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT date_trunc('month', coalesce(day::timestamp, now() AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai') - interval '1 month'))::date
$$;
COMMENT ON FUNCTION crm._report_month(date) IS 'Internal: the first day of the month of a day; of NULL, of the month before this one.';

CREATE OR REPLACE FUNCTION crm._team_performance(month date, teams bigint[])
    RETURNS TABLE (team text, bookings numeric, quota numeric, attainment_rate numeric, receipts numeric, win_rate numeric, follow_ups bigint, currency text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH f AS (SELECT x.* FROM crm._report_figures('{bookings,receipts,win_rate,follow_ups}', month, (month + interval '1 month')::date, true) AS x WHERE x.team_id IS NOT NULL),
    q AS (      -- a team's own quota, else those of its people; a quarter's counts by its days
        SELECT x.team_id, CASE WHEN bool_or(x.member_id IS NULL) THEN sum(x.amount) FILTER (WHERE x.member_id IS NULL) ELSE sum(x.amount) END AS amount
          FROM (SELECT u.team_id, u.member_id, crm._in_base(u.amount, u.currency, month::timestamptz)
                       * (least(upper(u.period), (month + interval '1 month')::date) - greatest(lower(u.period), month)) / nullif(upper(u.period) - lower(u.period), 0) AS amount
                  FROM crm_data.quota AS u WHERE u.period && daterange(month, (month + interval '1 month')::date) AND u.basis = 'bookings' AND u.product_line = '*') AS x
         GROUP BY x.team_id)
    SELECT t.name, coalesce(v.bookings, 0), round(q.amount, 2), round(coalesce(v.bookings, 0) / nullif(q.amount, 0), 4), coalesce(v.receipts, 0), v.win_rate, coalesce(v.follow_ups, 0)::bigint, crm._setting('organisation.currency', 'CNY')
      FROM (SELECT f.team_id, max(f.value) FILTER (WHERE f.metric = 'bookings') AS bookings, max(f.value) FILTER (WHERE f.metric = 'receipts') AS receipts, max(f.value) FILTER (WHERE f.metric = 'win_rate') AS win_rate,
                   max(f.value) FILTER (WHERE f.metric = 'follow_ups') AS follow_ups FROM f GROUP BY f.team_id) AS v
      FULL JOIN q ON q.team_id = v.team_id JOIN crm_data.team AS t ON t.id = coalesce(v.team_id, q.team_id)
     WHERE teams IS NULL OR t.id = ANY (teams)
     ORDER BY coalesce(v.bookings, 0) DESC, t.name COLLATE "C", t.id
$$;
COMMENT ON FUNCTION crm._team_performance(date, bigint[]) IS 'Internal: the rows of the team performance of a month, of some teams or all (NULL).';

CREATE OR REPLACE FUNCTION crm.team_performance(month date DEFAULT NULL)
    RETURNS TABLE (team text, bookings numeric, quota numeric, attainment_rate numeric, receipts numeric, win_rate numeric, follow_ups bigint, currency text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.* FROM crm._team_performance(crm._report_month(month), crm._report_teams('team_performance')) AS p
$$;
COMMENT ON FUNCTION crm.team_performance(date) IS
'What each team achieved in a month: bookings (contracts signed), the quota and the share attained, receipts (payments less refunds), share of closed deals won, follow-ups; money in the organisation''s currency. A quota of a longer period counts by its days. Managers see their teams, directors and administrators all.
month: any day of it. Not STRICT: NULL is the month before this one. Errors: 42501 for others.';

-- Who gets a report by teams: the directors one for the house, each manager who is no director one of his teams.
CREATE OR REPLACE FUNCTION crm._report_recipients(report text) RETURNS TABLE (recipient bigint, teams bigint[], readers bigint[])
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NULL::bigint, NULL::bigint[], crm._members_with('{crm_director}')
    UNION ALL
    (SELECT x.id, ARRAY(WITH RECURSIVE sub AS (SELECT t.id FROM crm_data.team AS t WHERE t.id = x.team_id UNION SELECT c.id FROM crm_data.team AS c JOIN sub ON c.parent_id = sub.id) SELECT s.id FROM sub AS s), ARRAY[x.id]
       FROM crm_data.member AS x WHERE x.id = ANY (crm._report_readers(report)) AND x.id <> ALL (crm._members_with('{crm_director}')) AND x.team_id IS NOT NULL ORDER BY x.id)
$$;
COMMENT ON FUNCTION crm._report_recipients(text) IS 'Internal: the copies of a report: one for the house (recipient and teams NULL), whose readers are the directors, and one for each manager whose role the report is for, with his teams.';

CREATE OR REPLACE FUNCTION crm._job_team_performance(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_to date := date_trunc('month', due AT TIME ZONE v_tz)::date;
    v_from date := (date_trunc('month', due AT TIME ZONE v_tz) - interval '1 month')::date;
    v_period tstzrange := tstzrange(v_from::timestamp AT TIME ZONE v_tz, v_to::timestamp AT TIME ZONE v_tz, '[)');
    m record;
    v_rows jsonb;
    v_id bigint;
    v_n bigint := 0;
BEGIN
    FOR m IN SELECT r.recipient AS id, r.teams, r.readers FROM crm._report_recipients('team_performance') AS r LOOP
        SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]') INTO v_rows FROM crm._team_performance(v_from, m.teams) AS p;
        v_id := crm._report_store('team_performance', v_period, due, jsonb_build_object('title', crm._report_title('team_performance'),
                    'columns', '["team", "bookings", "quota", "attainment_rate", "receipts", "win_rate", "follow_ups", "currency"]'::jsonb, 'chart', '{"kind": "bars", "label": "team", "value": "bookings"}'::jsonb, 'rows', v_rows), m.id);
        PERFORM crm._notify('report.team', 'team_performance:' || extract(epoch FROM due), jsonb_build_object('report', 'team_performance', 'snapshot', v_id), m.readers);
        v_n := v_n + jsonb_array_length(v_rows);
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_team_performance(timestamptz) IS 'Job: stores the team performance of the month before, for the house and for each manager, and sends word of it. Internal.';

CREATE OR REPLACE FUNCTION crm._monthly_snapshot(month date)
    RETURNS TABLE (part text, metric jsonb, key text, value numeric, before numeric, change_rate numeric, currency text, unit text, definition_version int, unpriced bigint)
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH names AS (SELECT m.name, m.o, d.version, d.body FROM unnest(crm._report_metrics('monthly_snapshot')) WITH ORDINALITY AS m (name, o) CROSS JOIN LATERAL crm._metric_definition(m.name, month) AS d),
    this AS (SELECT f.* FROM crm._report_figures(crm._report_metrics('monthly_snapshot'), month, (month + interval '1 month')::date, false) AS f),
    -- what there is at the end of a month is known of this one only; a figure by another definition is no figure to compare with
    last AS (SELECT f.* FROM crm._report_figures(ARRAY(SELECT n.name FROM names AS n WHERE n.body ? 'date_basis'), (month - interval '1 month')::date, month, false) AS f),
    z AS (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz, crm._setting('organisation.currency', 'CNY') AS currency),
    -- the pipeline that most deals of the month ran through, and how far each got; a deal that was won passed every stage
    closed AS (SELECT o.pipeline_id, o.outcome, s.seq FROM z, crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = coalesce(o.furthest_stage_id, o.stage_id)
                WHERE o.closed_at >= month::timestamp AT TIME ZONE z.tz AND o.closed_at < (month + interval '1 month') AT TIME ZONE z.tz AND o.deleted_at IS NULL),
    main AS (SELECT c.pipeline_id FROM closed AS c GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)
    (SELECT 'figures', jsonb_build_object('en', n.body ->> 'en', 'zh', n.body ->> 'zh'), n.name, this.value, last.value, round((this.value - last.value) / nullif(last.value, 0), 4), CASE n.body ->> 'measure' WHEN 'amount' THEN z.currency END, CASE n.body ->> 'measure' WHEN 'amount' THEN 'money' WHEN 'filled_share' THEN 'share' ELSE n.body ->> 'measure' END, n.version, nullif(this.unpriced, 0)
       FROM names AS n CROSS JOIN z LEFT JOIN this ON this.metric = n.name LEFT JOIN last ON last.metric = n.name AND last.version = n.version ORDER BY n.o)
    UNION ALL
    (SELECT 'trend', to_jsonb(to_char(g, 'YYYY-MM')), to_char(g, 'YYYY-MM'), coalesce(x.value, 0), NULL, NULL, z.currency, 'money', d.version, nullif(x.unpriced, 0)
       FROM z CROSS JOIN generate_series(month - interval '11 months', month::timestamp, interval '1 month') AS g CROSS JOIN LATERAL crm._metric_definition('bookings', month) AS d
       LEFT JOIN (SELECT f.* FROM crm._metric_definition('bookings', month) AS d CROSS JOIN LATERAL crm._metric_figures(d.body, daterange((month - interval '11 months')::date, (month + interval '1 month')::date), '{month}') AS f WHERE d.version IS NOT NULL) AS x
         ON x.dim ->> 'month' = to_char(g, 'YYYY-MM') ORDER BY g)
    UNION ALL
    (SELECT 'funnel', coalesce(nullif(s.label, '{}'), jsonb_build_object('en', s.name, 'zh', s.name)), s.code, (SELECT count(*) FROM closed AS c WHERE c.pipeline_id = s.pipeline_id AND (c.outcome = 'won' OR (c.seq >= s.seq AND s.outcome = 'open'))), NULL, NULL, NULL, 'count', NULL, NULL
       FROM main JOIN crm_data.stage AS s ON s.pipeline_id = main.pipeline_id WHERE s.outcome <> 'lost' ORDER BY s.seq)
$$;
COMMENT ON FUNCTION crm._monthly_snapshot(date) IS 'Internal: the rows of the monthly snapshot; month: its first day.';

CREATE OR REPLACE FUNCTION crm.monthly_snapshot(month date DEFAULT NULL)
    RETURNS TABLE (part text, metric text, key text, value numeric, before numeric, change_rate numeric, currency text, unit text, definition_version int, unpriced bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._report_house('monthly_snapshot');
    RETURN QUERY
    SELECT s.part, crm._text_of(s.metric, coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en')), s.key, s.value, s.before, s.change_rate, s.currency, s.unit, s.definition_version, s.unpriced
      FROM crm._monthly_snapshot(crm._report_month(monthly_snapshot.month)) AS s;
END
$$;
COMMENT ON FUNCTION crm.monthly_snapshot(date) IS
'The figures of a month for the whole house, in three parts: figures, the metrics that the configuration of the report names, by the definitions that hold on its first day, with the month before and the change when that is by the same definition (without a date, like the open pipeline: what there is now of what there was at its end); trend, bookings of the twelve months up to it; funnel, of the deals closed in the month how many reached each stage. Money in the organisation''s currency; unpriced: records left out because no rate is known.
month: any day of it. Not STRICT: NULL is the month before this one. Errors: 42501 for others than directors and administrators.';

CREATE OR REPLACE FUNCTION crm._job_monthly_snapshot(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_month date := (date_trunc('month', due AT TIME ZONE v_tz) - interval '1 month')::date;
    v_rows jsonb := (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM crm._monthly_snapshot(v_month) AS s);
    v_id bigint;
BEGIN
    v_id := crm._report_store('monthly_snapshot', tstzrange(v_month::timestamp AT TIME ZONE v_tz, (v_month + interval '1 month') AT TIME ZONE v_tz, '[)'), due,
        jsonb_build_object('title', crm._report_title('monthly_snapshot'), 'part', 'part', 'columns', '["metric", "value", "before", "change_rate", "currency", "unpriced"]'::jsonb,
                           'charts', '{"trend": {"kind": "trend", "label": "metric", "value": "value"}, "funnel": {"kind": "funnel", "label": "metric", "value": "value"}}'::jsonb, 'rows', v_rows));
    PERFORM crm._notify('report.snapshot', 'monthly_snapshot:' || extract(epoch FROM due), jsonb_build_object('report', 'monthly_snapshot', 'snapshot', v_id), crm._report_readers('monthly_snapshot'));
    RETURN jsonb_array_length(v_rows);
END
$$;
COMMENT ON FUNCTION crm._job_monthly_snapshot(timestamptz) IS 'Job: stores the figures of the month before, for ever, and sends word of it. Internal.';

CREATE OR REPLACE FUNCTION crm._health_report(month date)
    RETURNS TABLE (indicator text, value numeric, target text, status text, advice jsonb)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH z AS (SELECT month::timestamp AT TIME ZONE s.tz AS from_at, (month + interval '1 month') AT TIME ZONE s.tz AS to_at, s.tz FROM (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz) AS s),
    seen AS (      -- who wrote a follow-up or asked for protected data that day
        SELECT DISTINCT i.author_id AS member, (i.recorded_at AT TIME ZONE z.tz)::date AS day FROM crm_data.interaction AS i, z WHERE i.recorded_at >= z.from_at AND i.recorded_at < z.to_at AND i.author_id IS NOT NULL AND NOT i.auto
        UNION
        SELECT m.id, (l.at AT TIME ZONE z.tz)::date FROM crm_data.access_log AS l JOIN crm_data.member AS m ON m.role_name = l.actor, z WHERE l.at >= z.from_at AND l.at < z.to_at),
    active AS (SELECT (SELECT count(DISTINCT s.member) FROM seen AS s)::numeric AS mau, (SELECT avg(x.n) FROM (SELECT count(*) AS n FROM seen AS s WHERE extract(isodow FROM s.day) < 6 GROUP BY s.day) AS x) AS dau),
    filled AS (SELECT avg(((a.phone IS NOT NULL)::int + (a.email IS NOT NULL)::int + (a.industry IS NOT NULL)::int + (a.region IS NOT NULL)::int + (a.uscc IS NOT NULL)::int) / 5.0) AS share
                 FROM crm_data.account AS a, z WHERE a.deleted_at IS NULL AND a.merged_into IS NULL AND a.created_at < z.to_at),
    decided AS (SELECT avg(extract(epoch FROM p.decided_at - p.created_at) / 3600)::numeric AS hours FROM crm_data.approval AS p, z WHERE p.decided_at >= z.from_at AND p.decided_at < z.to_at),
    taken AS (SELECT count(*) FILTER (WHERE i.state IN ('rejected', 'parked'))::numeric / nullif(count(*), 0) AS share FROM crm_data.inbox AS i, z WHERE i.created_at >= z.from_at AND i.created_at < z.to_at),
    told AS (      -- the latest frozen probability of each deal that was closed, against what became of it
        SELECT avg(((x.probability >= 0.5) = (o.outcome = 'won'))::int)::numeric AS share
          FROM z, crm_data.opportunity AS o CROSS JOIN LATERAL (SELECT f.probability FROM crm_data.forecast_snapshot AS f WHERE f.opportunity_id = o.id AND f.frozen_at < o.closed_at ORDER BY f.frozen_at DESC LIMIT 1) AS x
         WHERE o.closed_at >= z.from_at AND o.closed_at < z.to_at AND o.outcome IN ('won', 'lost') AND o.deleted_at IS NULL),
    v AS (SELECT 1 AS o, 'active_users' AS indicator, round(active.dau / nullif(active.mau, 0), 3) AS value, 0.5 AS bound, true AS more, '≥ 50%' AS target,
                 '{"en": "Few of the people who use it in a month use it every day: look at the morning lists and the mobile pages.", "zh": "月活用户中每日使用者偏少:请检查每日清单与移动端体验。"}'::jsonb AS advice FROM active
          UNION ALL SELECT 2, 'completeness', round(filled.share, 3), 0.9, true, '≥ 90%', '{"en": "Customers lack phone, e-mail, industry, region or company number: open completion tasks.", "zh": "客户缺少电话、邮箱、行业、区域或信用代码:请发起信息补全任务。"}' FROM filled
          UNION ALL SELECT 3, 'approval_hours', round(decided.hours, 1), 24, false, '≤ 24', '{"en": "Approvals wait longer than a day: name deputies for the approvers.", "zh": "审批平均超过一天:请为审批人设置代理人。"}' FROM decided
          UNION ALL SELECT 4, 'error_rate', round(taken.share, 4), 0.01, false, '≤ 1%', '{"en": "Interfaces send payloads that cannot be taken: look at the rejected ones by source.", "zh": "接口数据被拒绝比例偏高:请按来源检查被拒绝的数据。"}' FROM taken
          UNION ALL SELECT 5, 'model_accuracy', round(told.share, 3), (SELECT crm._setting('model.nominal_accuracy', '0.78')::numeric), true, '≥ ' || round(100 * crm._setting('model.nominal_accuracy', '0.78')::numeric) || '%',
                           '{"en": "The win probability misses more often than accepted: look at its drift before fitting it anew.", "zh": "赢单概率准确率低于验收值:重训前请先查看漂移监测。"}' FROM told)
    SELECT v.indicator, v.value, v.target, CASE WHEN v.value IS NULL THEN 'no_data' WHEN (v.value >= v.bound) = v.more OR v.value = v.bound THEN 'ok' ELSE 'poor' END,
           CASE WHEN v.value <> v.bound AND (v.value >= v.bound) <> v.more THEN v.advice END
      FROM v ORDER BY v.o
$$;
COMMENT ON FUNCTION crm._health_report(date) IS 'Internal: the rows of the health report; month: its first day.';

CREATE OR REPLACE FUNCTION crm.health_report(month date DEFAULT NULL)
    RETURNS TABLE (indicator text, value numeric, target text, status text, advice text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._report_house('health_report');
    RETURN QUERY
    SELECT h.indicator, h.value, h.target, h.status, crm._text_of(h.advice, coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en')) FROM crm._health_report(crm._report_month(health_report.month)) AS h;
END
$$;
COMMENT ON FUNCTION crm.health_report(date) IS
'Five indicators of the CRM''s own health in a month, each against its target (status ok, poor or no_data) and with advice where it is poor: active_users, the mean share of the month''s users that is active on a working day (wrote a follow-up or asked for protected data); completeness, the share of phone, e-mail, industry, region and company number filled in; approval_hours, the mean time to a decision; error_rate, the share of incoming payloads that could not be taken; model_accuracy, the share of closed deals whose last frozen win probability was on the right side of a half, against setting model.nominal_accuracy.
month: any day of it. Not STRICT: NULL is the month before this one. Errors: 42501 for others than directors and administrators.';

CREATE OR REPLACE FUNCTION crm._job_health_report(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_month date := (date_trunc('month', due AT TIME ZONE v_tz) - interval '1 month')::date;
    -- shares are stored under a name that says so, which is how a page knows to show percent
    v_rows jsonb := (SELECT jsonb_agg(CASE h.indicator WHEN 'approval_hours' THEN to_jsonb(h) ELSE to_jsonb(h) - 'value' || jsonb_build_object('value_rate', h.value) END) FROM crm._health_report(v_month) AS h);
    v_id bigint;
BEGIN
    v_id := crm._report_store('health_report', tstzrange(v_month::timestamp AT TIME ZONE v_tz, (v_month + interval '1 month') AT TIME ZONE v_tz, '[)'), due,
        jsonb_build_object('title', crm._report_title('health_report'), 'columns', '["indicator", "value_rate", "value", "target", "status", "advice"]'::jsonb, 'say', '["indicator", "status"]'::jsonb, 'rows', v_rows));
    PERFORM crm._notify('report.health', 'health_report:' || extract(epoch FROM due), jsonb_build_object('report', 'health_report', 'snapshot', v_id), crm._report_readers('health_report'));
    RETURN jsonb_array_length(v_rows);
END
$$;
COMMENT ON FUNCTION crm._job_health_report(timestamptz) IS 'Job: stores the five indicators of the month before and sends word of it. Internal.';

-- The same figures, each computed another way: by another path through the data, another order of sums, or as a complement.
CREATE OR REPLACE FUNCTION crm._report_controls(from_on date, to_on date)
    RETURNS TABLE (metric text, value numeric)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH z AS (SELECT from_on::timestamp AT TIME ZONE s.tz AS from_at, to_on::timestamp AT TIME ZONE s.tz AS to_at FROM (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz) AS s),
    rate AS MATERIALIZED (SELECT d.day::date AS day, c.currency, crm._in_base(1e8, c.currency, d.day::date::timestamptz) / 1e8 AS rate
               FROM generate_series(from_on::timestamp, to_on::timestamp, interval '1 day') AS d (day), (SELECT DISTINCT f.currency FROM crm_data.fx_rate AS f UNION SELECT crm._setting('organisation.currency', 'CNY')) AS c),
    entry AS (SELECT r.kind, sum(r.amount * rate.rate) AS amount FROM crm_data.receivable_entry AS r JOIN rate ON rate.day = r.occurred_on AND rate.currency = r.currency WHERE r.occurred_on BETWEEN from_on AND to_on - 1 GROUP BY r.kind)
    SELECT 'bookings', sum(c.amount * rate.rate) FROM crm_data.contract AS c JOIN crm_data.account AS a ON a.id = c.account_id JOIN rate ON rate.day = c.signed_on AND rate.currency = c.currency
     WHERE c.signed_on BETWEEN from_on AND to_on - 1 AND c.state <> ALL ('{draft,review,terminated}') AND c.deleted_at IS NULL
    UNION ALL SELECT 'billings', (SELECT e.amount FROM entry AS e WHERE e.kind = 'invoice')
    UNION ALL SELECT 'receipts', coalesce((SELECT e.amount FROM entry AS e WHERE e.kind = 'payment'), 0) - coalesce((SELECT e.amount FROM entry AS e WHERE e.kind = 'refund'), 0)
    UNION ALL SELECT 'orders', count(*) FROM (SELECT FROM crm_data.line_item AS l WHERE l.sold_on BETWEEN from_on AND to_on - 1 GROUP BY l.account_id, l.product_id, l.sold_on) AS x
    UNION ALL SELECT 'customers', count(*) FROM crm_data.account AS a WHERE EXISTS (SELECT FROM crm_data.contract AS c WHERE c.account_id = a.id AND c.signed_on BETWEEN from_on AND to_on - 1 AND c.state <> ALL ('{draft,review,terminated}') AND c.deleted_at IS NULL)
    UNION ALL SELECT 'win_rate', 1 - count(*) FILTER (WHERE o.outcome = 'lost')::numeric / nullif(count(*), 0) FROM crm_data.opportunity AS o, z WHERE o.closed_at >= z.from_at AND o.closed_at < z.to_at AND o.outcome <> 'open' AND o.deleted_at IS NULL
    UNION ALL SELECT 'follow_ups', count(*) - count(i.retracted_at) FROM crm_data.interaction AS i, z WHERE i.occurred_at >= z.from_at AND i.occurred_at < z.to_at
$$;
COMMENT ON FUNCTION crm._report_controls(date, date) IS 'Internal: metrics of the house by their shipped definitions, computed another way than crm._metric_figures does.';

CREATE OR REPLACE FUNCTION crm._funnel_control(from_on date, to_on date, OUT shown numeric, OUT control numeric)
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_before text := crm._as('role crm_director');
    v_from timestamptz := (crm._local_span(daterange(from_on, to_on))).since;
    v_to timestamptz := (crm._local_span(daterange(from_on, to_on))).upto;
BEGIN
    -- where directors do not read every deal, their funnel is not the whole
    IF crm.row_visible('opportunity', 'read', NULL, NULL, 9::smallint) AND crm.row_visible('stage_history', 'read', NULL, NULL, 9::smallint) THEN
        SELECT coalesce(sum(f.deals + f.hidden), 0) INTO shown FROM crm_data.pipeline AS p CROSS JOIN LATERAL crm.funnel(daterange(from_on, to_on), 'stage_changed', p.code) AS f;
        SELECT count(DISTINCT (h.opportunity_id, h.to_stage_id)) INTO control
          FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id AND s.outcome <> 'lost' JOIN crm_data.opportunity AS o ON o.id = h.opportunity_id AND o.pipeline_id = s.pipeline_id AND o.deleted_at IS NULL
         WHERE h.entered_at >= v_from AND h.entered_at < v_to;
    END IF;
    PERFORM crm._as(v_before);
END
$$;
COMMENT ON FUNCTION crm._funnel_control(date, date) IS 'Internal: entrants of all stages as the funnel shows them to a director, and as the history of stages counts them; NULL where directors do not read every deal.';

CREATE OR REPLACE FUNCTION crm._report_check(day date)
    RETURNS TABLE (metric text, value numeric, control numeric, deviation_rate numeric, previous numeric, change_rate numeric, definition_version int, status text)
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    -- a definition that was changed has no second way here; what it gives is still compared with the day before
    WITH control AS (SELECT * FROM crm._report_controls((day - interval '1 year')::date, day)),
    named AS (SELECT n.metric, d.version, d.body - '{en,zh,dims,valid_from,note}'::text[] = (SELECT c.body - '{en,zh,dims,valid_from,note}'::text[] FROM crm_data.config AS c WHERE c.kind = 'metric' AND c.key = n.metric AND c.scope = '*' AND c.version = 1 AND c.author = 'crm') AS shipped
                FROM (SELECT c.metric FROM control AS c) AS n CROSS JOIN LATERAL crm._metric_definition(n.metric, (day - interval '1 year')::date) AS d WHERE d.version IS NOT NULL),
    figure AS (SELECT f.metric, f.value FROM crm._report_figures(ARRAY(SELECT n.metric FROM named AS n), (day - interval '1 year')::date, day, false) AS f),
    before AS (SELECT r ->> 'metric' AS metric, (r ->> 'value')::numeric AS value, coalesce((r ->> 'definition_version')::int, 1) AS version
                 FROM (SELECT s.body FROM crm_data.report_snapshot AS s WHERE s.report = 'report_check' AND upper(s.period) < day::timestamp AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai') ORDER BY s.seq DESC LIMIT 1) AS l,
                      jsonb_array_elements(l.body -> 'rows') AS r)
    SELECT x.metric, x.value, round(x.control, 6), round(x.deviation, 6), x.previous, round(x.change, 4), x.version,
           CASE WHEN coalesce(x.deviation, (x.shipped AND (x.value IS NOT NULL OR x.control IS NOT NULL))::int) > 0.0001 THEN 'differs' WHEN abs(x.change) > crm._setting('report.check_threshold', '5')::numeric / 100 THEN 'jumped' ELSE 'ok' END
      FROM (SELECT n.metric, n.version, n.shipped, f.value, c.value AS control, CASE WHEN f.value = c.value THEN 0 ELSE abs(f.value - c.value) / nullif(greatest(abs(f.value), abs(c.value)), 0) END AS deviation,
                   b.value AS previous, (f.value - b.value) / nullif(abs(b.value), 0) AS change
              FROM named AS n LEFT JOIN figure AS f ON f.metric = n.metric
              LEFT JOIN (SELECT k.metric, coalesce(k.value, CASE WHEN k.metric <> 'win_rate' THEN 0 END) AS value FROM control AS k) AS c ON c.metric = n.metric AND n.shipped
              LEFT JOIN before AS b ON b.metric = n.metric AND b.version = n.version
            UNION ALL
            -- the funnel has no definition: what it shows of a month is held to the history of stages
            SELECT 'funnel_entrants', 1, true, c.shown, c.control, CASE WHEN c.shown = c.control THEN 0 ELSE abs(c.shown - c.control) / nullif(greatest(c.shown, c.control), 0) END, NULL, NULL
              FROM crm._funnel_control(day - 31, day) AS c WHERE c.control IS NOT NULL) AS x
     ORDER BY x.metric COLLATE "C"
$$;
COMMENT ON FUNCTION crm._report_check(date) IS 'Internal: the rows of the report check for the year before a day.';

CREATE OR REPLACE FUNCTION crm.report_check(day date DEFAULT NULL)
    RETURNS TABLE (metric text, value numeric, control numeric, deviation_rate numeric, previous numeric, change_rate numeric, definition_version int, status text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._report_house('report_check');
    RETURN QUERY SELECT c.* FROM crm._report_check(coalesce(report_check.day, (now() AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date)) AS c;
END
$$;
COMMENT ON FUNCTION crm.report_check(date) IS
'Whether the reports are right: each metric of the year before a day, computed as the reports do and again in another way (control; NULL for a definition that is not the shipped one), and against the check of the day before by the same definition (previous); beside them funnel_entrants, what the funnel shows of the last 31 days against the history of stages. status: differs when the two ways are more than 0.01 % apart, jumped when it moved by more than setting report.check_threshold (5 %) since, else ok.
day: the day after the last that counts. Not STRICT: NULL is today. Errors: 42501 for others than administrators and directors.';

CREATE OR REPLACE FUNCTION crm._job_report_check(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_day date := (due AT TIME ZONE v_tz)::date;
    v_rows jsonb := (SELECT jsonb_agg(to_jsonb(c) || jsonb_strip_nulls(jsonb_build_object('name', crm._metric_label(c.metric), 'unit', (SELECT 'share' FROM crm_data.config AS d WHERE d.kind = 'metric' AND d.key = c.metric AND d.scope = '*' AND d.version = c.definition_version AND d.body ->> 'measure' = 'share')))) FROM crm._report_check(v_day) AS c);
    v_bad text[] := ARRAY(SELECT x ->> 'metric' FROM jsonb_array_elements(v_rows) AS x WHERE x ->> 'status' <> 'ok' ORDER BY 1);
    v_id bigint;
BEGIN
    v_id := crm._report_store('report_check', tstzrange((v_day - interval '1 year') AT TIME ZONE v_tz, v_day::timestamp AT TIME ZONE v_tz, '[)'), due,
        jsonb_build_object('title', crm._report_title('report_check'), 'columns', '["name", "value", "control", "deviation_rate", "previous", "change_rate", "status"]'::jsonb, 'say', '["status"]'::jsonb, 'rows', v_rows));
    IF v_bad <> '{}' THEN
        INSERT INTO crm_data.alert (kind, level, message, factors, dedupe_key)
        VALUES ('report_check', 'orange', format('The nightly check finds figures that do not hold: %s.', array_to_string(v_bad, ', ')), to_jsonb(v_bad), 'report_check:' || v_day)
        ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
        PERFORM crm._notify('report.check', 'report_check:' || extract(epoch FROM due), jsonb_build_object('report', 'report_check', 'snapshot', v_id, 'metrics', to_jsonb(v_bad)), crm._report_readers('report_check'));
    END IF;
    RETURN cardinality(v_bad);
END
$$;
COMMENT ON FUNCTION crm._job_report_check(timestamptz) IS 'Job: checks the figures of the reports, stores the result, and raises an alert and writes to the administrators when one does not hold; answers how many. Internal.';

-- What became of the figures of stored months.
CREATE OR REPLACE FUNCTION crm.restatement(period daterange)
    RETURNS TABLE (month date, metric text, reported numeric, now_value numeric, difference numeric, late_value numeric, late_records bigint, other_changes numeric, currency text, definition_version int, snapshot bigint, reported_as_of timestamptz, freshness jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
BEGIN
    PERFORM crm._report_house('monthly_snapshot');
    IF period IS NULL OR isempty(period) OR lower(period) IS NULL OR upper(period) IS NULL THEN
        RAISE EXCEPTION 'a restatement needs a period with both ends' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ''[2026-01-01,2026-04-01)''.';
    END IF;
    RETURN QUERY
    SELECT s.month, r.row ->> 'key', r.reported, f.value, f.value - r.reported, l.value, l.records, f.value - r.reported - l.value, r.row ->> 'currency', c.version, s.id, s.data_as_of, s.freshness
      FROM (SELECT DISTINCT ON (x.period) x.*, (lower(x.period) AT TIME ZONE v_tz)::date AS month, (upper(x.period) AT TIME ZONE v_tz)::date AS until FROM crm_data.report_snapshot AS x
             WHERE x.report = 'monthly_snapshot' AND (lower(x.period) AT TIME ZONE v_tz)::date <@ period ORDER BY x.period, x.seq) AS s
     CROSS JOIN LATERAL (SELECT y AS row, (y ->> 'value')::numeric AS reported, o FROM jsonb_array_elements(s.body -> 'rows') WITH ORDINALITY AS u (y, o) WHERE y ->> 'part' = 'figures') AS r
      -- by the definition of that day, whatever holds now
      JOIN crm_data.config AS c ON c.kind = 'metric' AND c.key = r.row ->> 'key' AND c.scope = '*' AND c.version = (s.definitions ->> ('metric/' || (r.row ->> 'key')))::int AND c.body ? 'date_basis'
     CROSS JOIN LATERAL crm._metric_figures(c.body, daterange(s.month, s.until), '{}') AS f
      LEFT JOIN LATERAL (SELECT k.value, k.records FROM crm._metric_figures(c.body, daterange(s.month, s.until), '{}', NULL, s.data_as_of) AS k
                          WHERE c.body ->> 'measure' IN ('amount', 'count') AND NOT c.body ? 'distinct_key') AS l ON true
     WHERE f.value IS DISTINCT FROM r.reported OR l.records > 0
     ORDER BY s.month, r.o;
END
$$;
COMMENT ON FUNCTION crm.restatement(daterange) IS
'How the figures of past months, as their monthly snapshots reported them, differ from what the same definitions give now: the history stays, what came late is shown. No row: nothing changed.
period: days; the months that begin in it count. difference: now_value less reported; of it late_value comes from late_records facts of the month that the database learned of only after the snapshot (a refund posted late), other_changes from records that were corrected since; both NULL for shares and for what is counted once by a key. freshness: how fresh each source was when it was reported.
Errors: 22023 a period without ends; 42501 for others than directors and administrators.';

-- ---------------------------------------------------------------- deviation of the forecast

CREATE OR REPLACE FUNCTION crm._deviation_label(item text) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT jsonb_build_object('en', v.en, 'zh', v.zh) FROM (VALUES ('forecast', 'Forecast', '预测'), ('amount', 'Won at another amount', '成交金额变化'), ('won', 'Won, was uncertain', '赢单(原为概率)'), ('lost', 'Lost', '输单'), ('slipped', 'Slipped', '延期'),
                                                                                ('new', 'Won, not foreseen', '预测外赢单')) AS v (item, en, zh) WHERE v.item = _deviation_label.item), jsonb_build_object('en', item, 'zh', item))
$$;
COMMENT ON FUNCTION crm._deviation_label(text) IS 'Internal: a step between forecast and result in both languages.';

CREATE OR REPLACE FUNCTION crm._deviation_rows(month daterange, teams bigint[]) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS MATERIALIZED (SELECT * FROM crm_data.deviation AS x WHERE x.period = month AND (teams IS NULL OR x.team_id = ANY (teams))),
    f AS (SELECT coalesce(sum(round((s.amount_base::float8 * s.probability)::numeric, 2)), 0) AS amount, count(*) AS deals FROM crm_data.forecast_snapshot AS s WHERE s.period = month AND (teams IS NULL OR s.team_id = ANY (teams))),
    z AS (SELECT crm._setting('organisation.currency', 'CNY') AS currency)
    SELECT jsonb_build_array(jsonb_build_object('part', 'summary', 'forecast', f.amount, 'result', f.amount + t.amount, 'deviation', t.amount, 'accuracy_rate', CASE WHEN f.amount + t.amount > 0 THEN greatest(0, round(1 - abs(t.amount) / (f.amount + t.amount), 4)) END,
                                                'currency', z.currency, 'verdict', CASE WHEN t.beyond THEN 'beyond_band' ELSE 'within_band' END))
        -- from the forecast to the result, step by step: what adds up is drawn from these rows and from nothing else
        || (SELECT jsonb_agg(jsonb_build_object('part', 'waterfall', 'step', crm._deviation_label(w.item), 'amount', w.amount, 'deals', w.deals, 'currency', z.currency) ORDER BY w.o)
              FROM (SELECT 0 AS o, 'forecast' AS item, f.amount, f.deals
                    UNION ALL SELECT v.o, v.item, coalesce(sum(d.amount), 0), count(d.*) FROM unnest('{amount,won,lost,slipped,new}'::text[]) WITH ORDINALITY AS v (item, o) LEFT JOIN d ON d.item = v.item GROUP BY v.o, v.item) AS w)
        || (SELECT coalesce(jsonb_agg(jsonb_build_object('part', 'causes', 'cause', c.cause, 'rule', c.rule, 'deals', c.n, 'amount', c.amount, 'currency', z.currency) ORDER BY c.of_cause DESC, c.cause, abs(c.amount) DESC, c.rule), '[]')
              FROM (SELECT d.cause, d.rule, count(DISTINCT d.opportunity_id) AS n, sum(d.amount) AS amount, sum(sum(abs(d.amount))) OVER (PARTITION BY d.cause) AS of_cause FROM d GROUP BY d.cause, d.rule) AS c)
        || (SELECT coalesce(jsonb_agg(jsonb_build_object('part', 'largest', 'account', l.account, 'owner', l.owner, 'step', crm._deviation_label(l.item), 'amount', l.amount, 'cause', l.cause, 'rule', l.rule, 'similar', l.similar) ORDER BY l.o), '[]')
              FROM (SELECT row_number() OVER (ORDER BY abs(d.amount) DESC, d.id) AS o, a.name AS account, m.full_name AS owner, d.item, d.amount, d.cause, d.rule,
                           (SELECT jsonb_agg(format('%s %s', to_char(lower(e.period), 'YYYY-MM'), b.name) ORDER BY e.n)
                              FROM (SELECT x.*, row_number() OVER (ORDER BY abs(x.amount - d.amount), x.id) AS n FROM crm_data.deviation AS x WHERE x.rule = d.rule AND x.item = d.item AND upper(x.period) <= lower(month) AND (teams IS NULL OR x.team_id = ANY (teams)) LIMIT 2) AS e
                              JOIN crm_data.account AS b ON b.id = e.account_id) AS similar
                      FROM d LEFT JOIN crm_data.account AS a ON a.id = d.account_id LEFT JOIN crm_data.member AS m ON m.id = d.owner_id ORDER BY abs(d.amount) DESC, d.id LIMIT 15) AS l)
      FROM f, z, (SELECT coalesce(sum(d.amount), 0) AS amount, coalesce(bool_or(d.beyond_band), false) AS beyond FROM d) AS t
$$;
COMMENT ON FUNCTION crm._deviation_rows(daterange, bigint[]) IS 'Internal: the rows of the deviation report of a month whose items are kept, of some teams or all (NULL): summary, waterfall from the forecast to the result, causes with their rules, the largest items with similar earlier ones.';

CREATE OR REPLACE FUNCTION crm._report_deviation(month daterange, due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    m record;
    v_id bigint;
    v_n bigint := 0;
BEGIN
    FOR m IN SELECT * FROM crm._report_recipients('deviation') LOOP
        v_id := crm._report_store('deviation', tstzrange(lower(month)::timestamp AT TIME ZONE v_tz, upper(month)::timestamp AT TIME ZONE v_tz, '[)'), due,
            jsonb_build_object('title', crm._report_title('deviation'), 'part', 'part', 'say', '["cause", "rule", "verdict"]'::jsonb,
                               'columns', '["forecast", "result", "deviation", "accuracy_rate", "verdict", "account", "owner", "step", "cause", "rule", "deals", "amount", "currency", "similar"]'::jsonb,
                               'charts', '{"waterfall": {"kind": "waterfall", "label": "step", "value": "amount"}}'::jsonb, 'rows', crm._deviation_rows(month, m.teams)), m.recipient);
        PERFORM crm._notify('report.deviation', 'deviation:' || extract(epoch FROM due), jsonb_build_object('report', 'deviation', 'snapshot', v_id), m.readers);
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._report_deviation(daterange, timestamptz) IS 'Internal: stores the deviation report of a month, for the house and for each manager, and sends word of it; for the job of the 15th, which keeps the items first.';
