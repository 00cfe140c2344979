-- Reports of a period: figures of a month, team performance, health of the CRM itself, and the nightly check that figures are right.

-- The figures of a span of days: for each team, and for the house in one row with whole set (a customer of two teams counts there once).
-- Money is converted at the rate of the day that it belongs to, which is looked up once for each day and currency.
CREATE OR REPLACE FUNCTION crm._report_figures(from_on date, to_on date)
    RETURNS TABLE (metric text, whole boolean, team_id bigint, value numeric)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH z AS (SELECT from_on::timestamp AT TIME ZONE s.tz AS from_at, to_on::timestamp AT TIME ZONE s.tz AS to_at FROM (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz) AS s),
    m AS MATERIALIZED (
        SELECT 'bookings' AS metric, c.team_id, c.signed_on AS day, c.currency, sum(c.amount) AS amount
          FROM crm_data.contract AS c WHERE c.signed_on >= from_on AND c.signed_on < to_on AND c.state IN ('signed', 'active', 'finished') AND c.deleted_at IS NULL GROUP BY 2, 3, 4
        UNION ALL
        SELECT CASE r.kind WHEN 'invoice' THEN 'billings' ELSE 'receipts' END, r.team_id, r.occurred_on, r.currency, sum(CASE r.kind WHEN 'refund' THEN -r.amount ELSE r.amount END)
          FROM crm_data.receivable_entry AS r WHERE r.occurred_on >= from_on AND r.occurred_on < to_on GROUP BY 1, 2, 3, 4
        UNION ALL
        SELECT v.metric, o.team_id, to_on - 1, o.currency, sum(o.amount * v.weight)
          FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id
         CROSS JOIN LATERAL (VALUES ('pipeline', 1::numeric), ('weighted_pipeline', coalesce(o.probability, s.default_probability, 0)::numeric)) AS v (metric, weight)
         WHERE o.outcome = 'open' AND o.deleted_at IS NULL GROUP BY 1, 2, 4),
    rate AS MATERIALIZED (SELECT d.day, d.currency, crm._in_base(1e8, d.currency, d.day::timestamptz) / 1e8 AS rate FROM (SELECT DISTINCT m.day, m.currency FROM m) AS d),
    money AS (SELECT m.metric, m.team_id, sum(m.amount * rate.rate) AS value FROM m JOIN rate ON rate.day = m.day AND rate.currency = m.currency GROUP BY m.metric, m.team_id)
    SELECT m.metric, grouping(m.team_id) = 1, m.team_id, round(sum(m.value), 2) FROM money AS m GROUP BY m.metric, GROUPING SETS ((m.team_id), ())
    UNION ALL
    SELECT 'orders', grouping(l.team_id) = 1, l.team_id, count(DISTINCT (l.account_id, l.product_id, l.sold_on)) FROM crm_data.line_item AS l WHERE l.sold_on >= from_on AND l.sold_on < to_on GROUP BY GROUPING SETS ((l.team_id), ()) HAVING count(*) > 0
    UNION ALL
    SELECT 'customers', grouping(c.team_id) = 1, c.team_id, count(DISTINCT c.account_id) FROM crm_data.contract AS c
     WHERE c.signed_on >= from_on AND c.signed_on < to_on AND c.state IN ('signed', 'active', 'finished') AND c.deleted_at IS NULL GROUP BY GROUPING SETS ((c.team_id), ()) HAVING count(*) > 0
    UNION ALL
    SELECT 'win_rate', grouping(o.team_id) = 1, o.team_id, round(avg((o.outcome = 'won')::int), 6) FROM crm_data.opportunity AS o, z
     WHERE o.closed_at >= z.from_at AND o.closed_at < z.to_at AND o.outcome IN ('won', 'lost') AND o.deleted_at IS NULL GROUP BY GROUPING SETS ((o.team_id), ()) HAVING count(*) > 0
    UNION ALL
    SELECT 'follow_ups', grouping(i.team_id) = 1, i.team_id, count(*) FROM crm_data.interaction AS i, z
     WHERE i.occurred_at >= z.from_at AND i.occurred_at < z.to_at AND i.retracted_at IS NULL GROUP BY GROUPING SETS ((i.team_id), ()) HAVING count(*) > 0
$$;
COMMENT ON FUNCTION crm._report_figures(date, date) IS 'Internal: bookings, billings, receipts, orders, signing customers, win rate and follow-ups of the days from from_on up to but without to_on, and the open pipeline as it is now; by team, and for the house (whole).';

CREATE OR REPLACE FUNCTION crm._metric_label(metric text) RETURNS jsonb
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT jsonb_build_object('en', c.body ->> 'en', 'zh', c.body ->> 'zh') FROM crm_data.config AS c WHERE c.kind = 'metric' AND c.key = metric AND c.scope = '*' AND c.status = 'active'),
                    jsonb_build_object('en', metric, 'zh', metric))
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
    WITH f AS (SELECT x.* FROM crm._report_figures(month, (month + interval '1 month')::date) AS x WHERE NOT x.whole AND x.team_id IS NOT NULL),
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
    -- one for the house, which the directors get, and one for each manager who is not a director
    FOR m IN SELECT NULL::bigint AS id, NULL::bigint[] AS teams, crm._members_with('{crm_director}') AS readers
             UNION ALL
             SELECT x.id, ARRAY(WITH RECURSIVE sub AS (SELECT t.id FROM crm_data.team AS t WHERE t.id = x.team_id UNION SELECT c.id FROM crm_data.team AS c JOIN sub ON c.parent_id = sub.id) SELECT s.id FROM sub AS s), ARRAY[x.id]
               FROM crm_data.member AS x WHERE x.id = ANY (crm._report_readers('team_performance')) AND x.id <> ALL (crm._members_with('{crm_director}')) AND x.team_id IS NOT NULL
              ORDER BY 1 NULLS FIRST
    LOOP
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
    RETURNS TABLE (part text, metric jsonb, key text, value numeric, before numeric, change_rate numeric, currency text)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH names AS (SELECT m.name, m.o FROM crm_data.config AS c, jsonb_array_elements_text(c.body -> 'metrics') WITH ORDINALITY AS m (name, o) WHERE c.kind = 'report' AND c.key = 'monthly_snapshot' AND c.scope = '*' AND c.status = 'active'),
    this AS (SELECT f.metric, f.value FROM crm._report_figures(month, (month + interval '1 month')::date) AS f WHERE f.whole),
    last AS (SELECT f.metric, f.value FROM crm._report_figures((month - interval '1 month')::date, month) AS f WHERE f.whole AND f.metric NOT IN ('pipeline', 'weighted_pipeline')),
    z AS (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz, crm._setting('organisation.currency', 'CNY') AS currency),
    -- the pipeline that most deals of the month ran through, and how far each got; a deal that was won passed every stage
    closed AS (SELECT o.pipeline_id, o.outcome, s.seq FROM z, crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = coalesce(o.furthest_stage_id, o.stage_id)
                WHERE o.closed_at >= month::timestamp AT TIME ZONE z.tz AND o.closed_at < (month + interval '1 month') AT TIME ZONE z.tz AND o.deleted_at IS NULL),
    main AS (SELECT c.pipeline_id FROM closed AS c GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)
    (SELECT 'figures', crm._metric_label(n.name), n.name, coalesce(this.value, CASE WHEN n.name <> 'win_rate' THEN 0 END), last.value, round((this.value - last.value) / nullif(last.value, 0), 4),
            CASE WHEN n.name IN ('bookings', 'billings', 'receipts', 'pipeline', 'weighted_pipeline') THEN z.currency END
       FROM names AS n CROSS JOIN z LEFT JOIN this ON this.metric = n.name LEFT JOIN last ON last.metric = n.name ORDER BY n.o)
    UNION ALL
    (SELECT 'trend', to_jsonb(to_char(g, 'YYYY-MM')), to_char(g, 'YYYY-MM'), coalesce(round(x.value, 2), 0), NULL, NULL, z.currency
       FROM z CROSS JOIN generate_series(month - interval '11 months', month::timestamp, interval '1 month') AS g
       LEFT JOIN (SELECT date_trunc('month', c.day::timestamp) AS month, sum(crm._in_base(c.amount, c.currency, c.day::timestamptz)) AS value
                    FROM (SELECT y.signed_on AS day, y.currency, sum(y.amount) AS amount FROM crm_data.contract AS y
                           WHERE y.signed_on >= month - interval '11 months' AND y.signed_on < month + interval '1 month' AND y.state IN ('signed', 'active', 'finished') AND y.deleted_at IS NULL GROUP BY 1, 2) AS c
                   GROUP BY 1) AS x ON x.month = g ORDER BY g)
    UNION ALL
    (SELECT 'funnel', coalesce(nullif(s.label, '{}'), jsonb_build_object('en', s.name, 'zh', s.name)), s.code, (SELECT count(*) FROM closed AS c WHERE c.pipeline_id = s.pipeline_id AND (c.outcome = 'won' OR (c.seq >= s.seq AND s.outcome = 'open'))), NULL, NULL, NULL
       FROM main JOIN crm_data.stage AS s ON s.pipeline_id = main.pipeline_id WHERE s.outcome <> 'lost' ORDER BY s.seq)
$$;
COMMENT ON FUNCTION crm._monthly_snapshot(date) IS 'Internal: the rows of the monthly snapshot; month: its first day.';

CREATE OR REPLACE FUNCTION crm.monthly_snapshot(month date DEFAULT NULL)
    RETURNS TABLE (part text, metric text, key text, value numeric, before numeric, change_rate numeric, currency text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF crm._report_teams('monthly_snapshot') IS NOT NULL THEN
        RAISE EXCEPTION 'the monthly snapshot is about the whole house' USING ERRCODE = 'insufficient_privilege', HINT = 'It is for directors and administrators; SELECT * FROM crm.team_performance() shows your teams.';
    END IF;
    RETURN QUERY
    SELECT s.part, crm._text_of(s.metric, coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en')), s.key, s.value, s.before, s.change_rate, s.currency
      FROM crm._monthly_snapshot(crm._report_month(monthly_snapshot.month)) AS s;
END
$$;
COMMENT ON FUNCTION crm.monthly_snapshot(date) IS
'The figures of a month for the whole house, in three parts: figures, the metrics that the configuration of the report names, with the month before and the change (the open pipeline is as of now); trend, bookings of the twelve months up to it; funnel, of the deals closed in the month how many reached each stage. Money in the organisation''s currency.
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
        jsonb_build_object('title', crm._report_title('monthly_snapshot'), 'part', 'part', 'columns', '["metric", "value", "before", "change_rate", "currency"]'::jsonb,
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
    v AS (SELECT 1 AS o, 'active_users' AS indicator, round(active.dau / nullif(active.mau, 0), 3) AS value, 0.5 AS bound, true AS more, '>= 50%' AS target,
                 '{"en": "Few of the people who use it in a month use it every day: look at the morning lists and the mobile pages.", "zh": "月活用户中每日使用者偏少:请检查每日清单与移动端体验。"}'::jsonb AS advice FROM active
          UNION ALL SELECT 2, 'completeness', round(filled.share, 3), 0.9, true, '>= 90%', '{"en": "Customers lack phone, e-mail, industry, region or company number: open completion tasks.", "zh": "客户缺少电话、邮箱、行业、区域或信用代码:请发起信息补全任务。"}' FROM filled
          UNION ALL SELECT 3, 'approval_hours', round(decided.hours, 1), 24, false, '<= 24', '{"en": "Approvals wait longer than a day: name deputies for the approvers.", "zh": "审批平均超过一天:请为审批人设置代理人。"}' FROM decided
          UNION ALL SELECT 4, 'error_rate', round(taken.share, 4), 0.01, false, '<= 1%', '{"en": "Interfaces send payloads that cannot be taken: look at the rejected ones by source.", "zh": "接口数据被拒绝比例偏高:请按来源检查被拒绝的数据。"}' FROM taken
          UNION ALL SELECT 5, 'model_accuracy', round(told.share, 3), (SELECT crm._setting('model.nominal_accuracy', '0.78')::numeric), true, '>= ' || round(100 * crm._setting('model.nominal_accuracy', '0.78')::numeric) || '%',
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
    IF crm._report_teams('health_report') IS NOT NULL THEN
        RAISE EXCEPTION 'the health report is about the whole house' USING ERRCODE = 'insufficient_privilege', HINT = 'It is for directors and administrators.';
    END IF;
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
COMMENT ON FUNCTION crm._report_controls(date, date) IS 'Internal: the figures of crm._report_figures for the house, computed another way.';

CREATE OR REPLACE FUNCTION crm._report_check(day date)
    RETURNS TABLE (metric text, value numeric, control numeric, deviation_rate numeric, previous numeric, change_rate numeric, status text)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.metric, x.value, round(x.control, 6), round(x.deviation, 6), x.previous, round(x.change, 4),
           CASE WHEN x.value IS NULL AND x.control IS NULL THEN 'ok' WHEN coalesce(x.deviation, 1) > 0.0001 THEN 'differs' WHEN abs(x.change) > crm._setting('report.check_threshold', '5')::numeric / 100 THEN 'jumped' ELSE 'ok' END
      FROM (SELECT c.metric, f.value, c.value AS control, CASE WHEN f.value = c.value THEN 0 ELSE abs(f.value - c.value) / nullif(greatest(abs(f.value), abs(c.value)), 0) END AS deviation,
                   p.value AS previous, (f.value - p.value) / nullif(abs(p.value), 0) AS change
              FROM (SELECT x.metric, coalesce(x.value, z.nothing) AS value, z.nothing FROM crm._report_controls((day - interval '1 year')::date, day) AS x CROSS JOIN LATERAL (SELECT CASE WHEN x.metric <> 'win_rate' THEN 0 END AS nothing) AS z) AS c
              LEFT JOIN crm._report_figures((day - interval '1 year')::date, day) AS g ON g.metric = c.metric AND g.whole CROSS JOIN LATERAL (SELECT coalesce(g.value, c.nothing) AS value) AS f
              LEFT JOIN (SELECT r ->> 'metric' AS metric, (r ->> 'value')::numeric AS value
                           FROM (SELECT s.body FROM crm_data.report_snapshot AS s WHERE s.report = 'report_check' AND upper(s.period) < day::timestamp AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai') ORDER BY s.seq DESC LIMIT 1) AS l,
                                jsonb_array_elements(l.body -> 'rows') AS r) AS p ON p.metric = c.metric) AS x
     ORDER BY x.metric COLLATE "C"
$$;
COMMENT ON FUNCTION crm._report_check(date) IS 'Internal: the rows of the report check for the year before a day.';

CREATE OR REPLACE FUNCTION crm.report_check(day date DEFAULT NULL)
    RETURNS TABLE (metric text, value numeric, control numeric, deviation_rate numeric, previous numeric, change_rate numeric, status text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF crm._report_teams('report_check') IS NOT NULL THEN
        RAISE EXCEPTION 'the report check is about the whole house' USING ERRCODE = 'insufficient_privilege', HINT = 'It is for administrators and directors.';
    END IF;
    RETURN QUERY SELECT c.* FROM crm._report_check(coalesce(report_check.day, (now() AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date)) AS c;
END
$$;
COMMENT ON FUNCTION crm.report_check(date) IS
'Whether the reports are right: each metric of the year before a day, computed as the reports do and again in another way (control), and against the check of the day before (previous). status: differs when the two ways are more than 0.01 % apart, jumped when it moved by more than setting report.check_threshold (5 %) since, else ok.
day: the day after the last that counts. Not STRICT: NULL is today. Errors: 42501 for others than administrators and directors.';

CREATE OR REPLACE FUNCTION crm._job_report_check(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_day date := (due AT TIME ZONE v_tz)::date;
    v_rows jsonb := (SELECT jsonb_agg(to_jsonb(c) || jsonb_build_object('name', crm._metric_label(c.metric))) FROM crm._report_check(v_day) AS c);
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
