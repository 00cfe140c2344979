-- Boards of a person and the daily reports: war board, customers of today, receivables, customers nobody speaks to, director's daily.
-- What a person reads comes through the guarded views; what a job stores is cut to its recipient's teams.

CREATE OR REPLACE FUNCTION crm._report_teams(report text) RETURNS bigint[]
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF crm.has_role('crm_admin') OR crm.has_role('crm_director') THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM crm_data.config AS c, jsonb_array_elements_text(c.body -> 'to') AS r (role)
                WHERE c.kind = 'report' AND c.key = report AND c.scope = '*' AND c.status = 'active' AND crm.has_role(r.role)) THEN
        RETURN crm.my_teams('subtree');
    END IF;
    RAISE EXCEPTION 'the report "%" is not for you', report USING ERRCODE = 'insufficient_privilege', HINT = 'Its configuration, of kind report, names the roles it is for.';
END
$$;
COMMENT ON FUNCTION crm._report_teams(text) IS 'Internal: the teams of which the caller may read a report, NULL for all. Errors: 42501 a report that is not for any of his roles.';

CREATE OR REPLACE FUNCTION crm._report_house(report text) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF crm._report_teams(report) IS NOT NULL THEN
        RAISE EXCEPTION 'the report "%" is about the whole house', report USING ERRCODE = 'insufficient_privilege', HINT = 'It is for directors and administrators; crm.bottleneck_brief() and crm.team_performance() show your teams.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._report_house(text) IS 'Internal: for a report about the whole house. Errors: 42501 for others than directors and administrators.';

CREATE OR REPLACE FUNCTION crm.my_board(at timestamptz DEFAULT now())
    RETURNS TABLE (part text, account text, title text, due_at timestamptz, days int, level text, score int, deals bigint, amount numeric, currency text, won_rate numeric)
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    (SELECT 'todo', a.name, k.title, k.due_at, crm._days_until(k.due_at, at), NULL, NULL::int, NULL::bigint, NULL::numeric, NULL, NULL::numeric
       FROM crm.task AS k LEFT JOIN crm.account AS a ON a.id = k.account_id
      WHERE k.owner_id = crm.me() AND k.state = 'open' AND k.created_at <= at
      ORDER BY k.priority DESC, k.due_at NULLS LAST, k.id LIMIT crm._setting('board.top_todos', '3')::int)
    UNION ALL
    (SELECT 'risk', a.name, NULL, NULL, NULL,
            CASE WHEN a.risk_score > s.red THEN 'red' WHEN a.risk_score > s.orange THEN 'orange' WHEN a.risk_score > s.yellow THEN 'yellow' ELSE 'green' END, a.risk_score::int, o.deals, o.amount, o.currency, NULL
       FROM crm.account AS a CROSS JOIN (SELECT crm._setting('risk.yellow', '60')::int AS yellow, crm._setting('risk.orange', '80')::int AS orange, crm._setting('risk.red', '95')::int AS red) AS s
       LEFT JOIN LATERAL (SELECT count(*) AS deals, CASE WHEN count(DISTINCT x.currency) = 1 THEN sum(x.amount) END AS amount, CASE WHEN count(DISTINCT x.currency) = 1 THEN max(x.currency) END AS currency
                            FROM crm.opportunity AS x WHERE x.account_id = a.id AND x.outcome = 'open') AS o ON true
      WHERE a.owner_id = crm.me() AND a.merged_into IS NULL AND a.risk_score IS NOT NULL
      ORDER BY a.risk_score DESC, a.id LIMIT 10)
    UNION ALL
    (SELECT 'competitor', NULL,
            -- what is known of them: strong and weak points and the price, from the latest competitor matrix
            o.competitor || coalesce(': ' || (array_agg(m.said ORDER BY o.updated_at DESC, o.id DESC) FILTER (WHERE m.said <> ''))[1], ''), NULL, NULL, NULL, NULL, count(*) FILTER (WHERE o.outcome = 'open'),
            CASE WHEN count(DISTINCT o.currency) FILTER (WHERE o.outcome = 'open') = 1 THEN sum(o.amount) FILTER (WHERE o.outcome = 'open') END,
            CASE WHEN count(DISTINCT o.currency) FILTER (WHERE o.outcome = 'open') = 1 THEN max(o.currency) FILTER (WHERE o.outcome = 'open') END,
            round(avg((o.outcome = 'won')::int) FILTER (WHERE o.outcome <> 'open'), 3)
       FROM crm.opportunity AS o
      CROSS JOIN LATERAL (SELECT CASE WHEN coalesce(o.attrs #>> '{forms,competitor_matrix,competitor}', o.competitor) = o.competitor
                                      THEN concat_ws('; ', '+ ' || (o.attrs #>> '{forms,competitor_matrix,strength}'), '- ' || (o.attrs #>> '{forms,competitor_matrix,weakness}'), '¤ ' || (o.attrs #>> '{forms,competitor_matrix,price}')) END AS said) AS m
      WHERE o.owner_id = crm.me() AND o.competitor IS NOT NULL
      GROUP BY o.competitor HAVING count(*) FILTER (WHERE o.outcome = 'open') > 0 ORDER BY 8 DESC, o.competitor COLLATE "C" LIMIT 10)
$$;
COMMENT ON FUNCTION crm.my_board(timestamptz) IS
'The caller''s war board, in three parts: todo, the first open tasks (setting board.top_todos, 3; days until due, negative when overdue); risk, his ten customers of the highest risk with their level and open deals; competitor, who stands against his open deals, with what the latest competitor matrix of his deals says of them (+ strong, - weak points, ¤ price), and the share of closed deals won against each.
Amounts are in their currency, and left out where several meet. Read through the guarded views. at: the instant that days are counted from.';

CREATE OR REPLACE FUNCTION crm.today_focus(day date DEFAULT NULL)
    RETURNS TABLE (account_id bigint, account text, grade smallint, reason text, title text, due_at timestamptz, last_contact_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS (SELECT x.d::timestamp AT TIME ZONE x.tz AS from_at, (x.d + 1)::timestamp AT TIME ZONE x.tz AS to_at
                 FROM (SELECT coalesce(day, (now() AT TIME ZONE z.tz)::date) AS d, z.tz FROM (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz) AS z) AS x),
    due AS (SELECT k.account_id, 'task' AS reason, k.title, k.due_at FROM crm.task AS k, d WHERE k.owner_id = crm.me() AND k.state = 'open' AND k.due_at < d.to_at
            UNION ALL
            SELECT o.account_id, 'next_step', o.next_step, o.next_step_at FROM crm.opportunity AS o, d
             WHERE o.owner_id = crm.me() AND o.outcome = 'open' AND o.next_step_at >= d.from_at AND o.next_step_at < d.to_at)
    SELECT a.id, a.name, a.grade, x.reason, x.title, x.due_at, a.last_contact_at
      FROM (SELECT DISTINCT ON (due.account_id) due.* FROM due ORDER BY due.account_id, due.due_at, due.reason, due.title) AS x
      JOIN crm.account AS a ON a.id = x.account_id
     WHERE a.owner_id = crm.me() AND a.grade >= 3 AND a.merged_into IS NULL
     ORDER BY a.grade DESC, x.due_at, a.id
$$;
COMMENT ON FUNCTION crm.today_focus(date) IS
'Only the caller''s customers of high value (grade A or B) for whom something is due today or overdue: each once, with what is due first (reason: task or next_step). Read through the guarded views.
day: another day, in the organisation''s time zone. Not STRICT: NULL is today.';

CREATE OR REPLACE FUNCTION crm._between(value float8, zero float8, full_ float8) RETURNS float8
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN zero = full_ THEN CASE WHEN value >= full_ THEN 100 ELSE 0 END ELSE least(greatest(100 * (value - zero) / (full_ - zero), 0), 100) END;
COMMENT ON FUNCTION crm._between(float8, float8, float8) IS 'Internal: points from 0 to 100 of a value between the one that gives none and the one that gives all.';

CREATE OR REPLACE FUNCTION crm.receivable_health(at date DEFAULT NULL)
    RETURNS TABLE (level text, account_id bigint, account text, contract text, expires_on date, days_left int, credit_rating text, on_time_rate numeric, instalments bigint, outstanding numeric, currency text, score numeric)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS (SELECT coalesce(at, (now() AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date) AS day),
    c AS (SELECT (x.body #>> '{weights,contract_expiry}')::float8 AS w1, (x.body #>> '{weights,credit_rating}')::float8 AS w2, (x.body #>> '{weights,on_time_rate}')::float8 AS w3,
                 extract(epoch FROM (x.body #>> '{contract_expiry,red}')::interval)::float8 / 86400 AS expiry_red, extract(epoch FROM (x.body #>> '{contract_expiry,green}')::interval)::float8 / 86400 AS expiry_green, x.body -> 'credit_rating' AS ratings,
                 (x.body #>> '{on_time_rate,red}')::float8 AS rate_red, (x.body #>> '{on_time_rate,green}')::float8 AS rate_green, (x.body #>> '{levels,green}')::float8 AS green, (x.body #>> '{levels,yellow}')::float8 AS yellow
            FROM crm_data.config AS x WHERE x.kind = 'receivable_health' AND x.key = 'default' AND x.scope = '*' AND x.status = 'active'),
    paid AS (      -- how the customer paid what was due, over all of his contracts
        SELECT p.account_id, count(*) AS instalments, avg((p.paid_on IS NOT NULL AND p.paid_on <= p.due_on)::int) AS rate
          FROM crm.payment_plan AS p, d WHERE p.due_on < d.day GROUP BY p.account_id),
    owed AS (
        SELECT p.contract_id, sum(p.amount) AS amount FROM crm.payment_plan AS p, d WHERE p.due_on < d.day AND (p.paid_on IS NULL OR p.paid_on > d.day) GROUP BY p.contract_id),
    side AS MATERIALIZED (
        SELECT k.account_id, a.name AS account, k.code, k.expires_on, k.expires_on - d.day AS days_left, a.credit_rating, p.rate, coalesce(p.instalments, 0) AS instalments, coalesce(o.amount, 0) AS outstanding, k.currency,
               crm._between((k.expires_on - d.day)::float8, c.expiry_red, c.expiry_green) AS s1, coalesce(c.ratings ->> a.credit_rating, c.ratings ->> 'none')::float8 AS s2, crm._between(p.rate::float8, c.rate_red, c.rate_green) AS s3
          FROM crm.contract AS k CROSS JOIN d CROSS JOIN c JOIN crm.account AS a ON a.id = k.account_id LEFT JOIN paid AS p ON p.account_id = k.account_id LEFT JOIN owed AS o ON o.contract_id = k.id
         WHERE k.state IN ('signed', 'active')),
    scored AS MATERIALIZED (      -- what is not known takes no part: the weights of the others are stretched
        SELECT s.*, (coalesce(c.w1 * s.s1, 0) + coalesce(c.w2 * s.s2, 0) + coalesce(c.w3 * s.s3, 0)) / nullif(CASE WHEN s.s1 IS NULL THEN 0 ELSE c.w1 END + CASE WHEN s.s2 IS NULL THEN 0 ELSE c.w2 END + CASE WHEN s.s3 IS NULL THEN 0 ELSE c.w3 END, 0) AS points
          FROM side AS s CROSS JOIN c)
    SELECT CASE WHEN s.points >= c.green THEN 'green' WHEN s.points >= c.yellow THEN 'yellow' ELSE 'red' END,
           s.account_id, s.account, s.code, s.expires_on, s.days_left, s.credit_rating, round(s.rate, 3), s.instalments, s.outstanding, s.currency, round(s.points::numeric, 1)
      FROM scored AS s CROSS JOIN c
     ORDER BY s.points, s.outstanding DESC, s.code COLLATE "C"
$$;
COMMENT ON FUNCTION crm.receivable_health(date) IS
'Current contracts as red, yellow or green, the worst first, from three sides: days to expiry, the customer''s credit rating, and the share of his instalments due so far that were paid on time. Each gives 0 to 100 points by the active configuration of kind receivable_health; what is not known takes no part.
outstanding: due and unpaid, in the contract''s currency. Read through the guarded views: who may not see contracts has no rows. at: another day; dates of payment are as known now. Not STRICT: NULL is today.';

-- Customers nobody has spoken to, as a list; the rules on timers tell the manager and raise the alert, each once.
CREATE OR REPLACE FUNCTION crm.followup_watch(at timestamptz DEFAULT now(), lim int DEFAULT 500)
    RETURNS TABLE (level text, account_id bigint, account text, owner text, last_contact_at timestamptz, days int)
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.last_contact_at <= at - s.alert THEN 'alert' ELSE 'manager' END, a.id, a.name, m.full_name, a.last_contact_at, floor(extract(epoch FROM at - a.last_contact_at) / 86400)::int
      FROM (SELECT make_interval(days => crm._setting('followup.manager_days', '7')::int) AS manager, make_interval(days => crm._setting('followup.alert_days', '30')::int) AS alert, crm._report_teams('followup_watch') AS teams) AS s,
           crm_data.account AS a JOIN crm_data.member AS m ON m.id = a.owner_id
     WHERE a.deleted_at IS NULL AND a.merged_into IS NULL AND a.lifecycle NOT IN ('dormant', 'churned') AND a.last_contact_at <= at - s.manager AND (s.teams IS NULL OR a.team_id = ANY (s.teams))
     ORDER BY a.last_contact_at, a.id LIMIT greatest(lim, 0)
$$;
COMMENT ON FUNCTION crm.followup_watch(timestamptz, int) IS
'Customers with an owner whom nobody has spoken to, the longest silence first: manager after followup.manager_days (7), alert after followup.alert_days (30). Managers see their teams, directors and administrators all. at: the instant that days are counted to; contacts are as known now. lim: at most so many. Errors: 42501 for others.';

-- Director's daily: the day before, what is overdue, what is on fire.
CREATE OR REPLACE FUNCTION crm._director_daily(at timestamptz)
    RETURNS TABLE (part text, team text, action jsonb, account text, owner text, message text, level text, count bigint, leads bigint, follow_ups bigint, won bigint, lost bigint, amount numeric, currency text, days numeric)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH z AS (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz, crm._setting('organisation.currency', 'CNY') AS currency),
    d AS (SELECT (date_trunc('day', at AT TIME ZONE z.tz) - interval '1 day') AT TIME ZONE z.tz AS from_at, date_trunc('day', at AT TIME ZONE z.tz) AT TIME ZONE z.tz AS to_at FROM z),
    lead AS (SELECT l.team_id, count(*) AS n FROM crm_data.lead AS l, d WHERE l.created_at >= d.from_at AND l.created_at < d.to_at GROUP BY l.team_id),
    talk AS (SELECT i.team_id, count(*) AS n FROM crm_data.interaction AS i, d WHERE i.occurred_at >= d.from_at AND i.occurred_at < d.to_at AND i.retracted_at IS NULL GROUP BY i.team_id),
    deal AS (SELECT x.team_id, sum(x.won) AS won, sum(x.lost) AS lost, sum(crm._in_base(x.amount, x.currency, at)) AS amount
               FROM (SELECT o.team_id, o.currency, count(*) FILTER (WHERE o.outcome = 'won') AS won, count(*) FILTER (WHERE o.outcome = 'lost') AS lost, coalesce(sum(o.amount) FILTER (WHERE o.outcome = 'won'), 0) AS amount
                       FROM crm_data.opportunity AS o, d WHERE o.closed_at >= d.from_at AND o.closed_at < d.to_at AND o.deleted_at IS NULL GROUP BY o.team_id, o.currency) AS x GROUP BY x.team_id),
    late AS MATERIALIZED (SELECT k.id, k.action_key, k.title, k.account_id, k.owner_id, k.team_id, k.due_at, extract(epoch FROM at - k.due_at) / 86400 AS days
                            FROM crm_data.task AS k WHERE k.kind = 'stage_action' AND k.mandatory AND k.state = 'open' AND k.due_at < at),
    by_action AS (SELECT l.action_key, max(l.title) AS title, count(*) AS n, percentile_cont(0.5) WITHIN GROUP (ORDER BY l.days) AS days FROM late AS l GROUP BY l.action_key ORDER BY 3 DESC, l.action_key COLLATE "C" LIMIT 10)
    (SELECT 'yesterday', t.name, NULL::jsonb, NULL, NULL, NULL, NULL, NULL::bigint, coalesce(lead.n, 0), coalesce(talk.n, 0), coalesce(deal.won, 0)::bigint, coalesce(deal.lost, 0)::bigint, coalesce(deal.amount, 0), z.currency, NULL::numeric
       FROM z, (SELECT lead.team_id FROM lead UNION SELECT talk.team_id FROM talk UNION SELECT deal.team_id FROM deal) AS k
       LEFT JOIN crm_data.team AS t ON t.id = k.team_id LEFT JOIN lead ON lead.team_id = k.team_id LEFT JOIN talk ON talk.team_id = k.team_id LEFT JOIN deal ON deal.team_id = k.team_id
      WHERE t.id IS NOT NULL ORDER BY coalesce(deal.amount, 0) DESC, t.name COLLATE "C", t.id)
    UNION ALL
    (SELECT 'overdue', NULL, crm._action_label(b.action_key, b.title), NULL, NULL, NULL, NULL, b.n, NULL, NULL, NULL, NULL, NULL, NULL, round(b.days::numeric, 1) FROM by_action AS b ORDER BY b.n DESC, b.action_key COLLATE "C")
    UNION ALL
    (SELECT 'oldest', t.name, crm._action_label(l.action_key, l.title), a.name, m.full_name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, round(l.days::numeric, 1)
       FROM (SELECT * FROM late ORDER BY late.due_at, late.id LIMIT 10) AS l LEFT JOIN crm_data.account AS a ON a.id = l.account_id LEFT JOIN crm_data.member AS m ON m.id = l.owner_id LEFT JOIN crm_data.team AS t ON t.id = l.team_id
      ORDER BY l.due_at, l.id)
    UNION ALL
    (SELECT 'alerts', t.name, NULL, a.name, m.full_name, x.message, x.level, NULL, NULL, NULL, NULL, NULL, NULL, NULL, round((extract(epoch FROM at - x.created_at) / 86400)::numeric, 1)
       FROM (SELECT * FROM crm_data.alert AS y WHERE y.state <> 'closed' AND y.level IN ('red', 'orange') AND y.created_at <= at ORDER BY y.level DESC, y.created_at DESC, y.id LIMIT 10) AS x
       LEFT JOIN crm_data.account AS a ON a.id = x.account_id LEFT JOIN crm_data.member AS m ON m.id = x.owner_id LEFT JOIN crm_data.team AS t ON t.id = x.team_id
      ORDER BY x.level DESC, x.created_at DESC, x.id)
$$;
COMMENT ON FUNCTION crm._director_daily(timestamptz) IS 'Internal: the rows of the director''s daily.';

CREATE OR REPLACE FUNCTION crm.director_daily(at timestamptz DEFAULT now())
    RETURNS TABLE (part text, team text, action text, account text, owner text, message text, level text, count bigint, leads bigint, follow_ups bigint, won bigint, lost bigint, amount numeric, currency text, days numeric)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._report_house('director_daily');
    RETURN QUERY
    SELECT d.part, d.team, crm._text_of(d.action, coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en')), d.account, d.owner, d.message, d.level, d.count, d.leads, d.follow_ups, d.won, d.lost, d.amount, d.currency, d.days
      FROM crm._director_daily(at) AS d;
END
$$;
COMMENT ON FUNCTION crm.director_daily(timestamptz) IS
'The director''s daily, in four parts: yesterday, by team: leads, follow-ups, deals won and lost, money won in the organisation''s currency; overdue: mandatory stage actions past their time limit, by action (median days over); oldest: the ten that wait longest; alerts: ten open red and orange ones.
at: any instant of the day after; tasks and alerts are as known now. Errors: 42501 for others than directors and administrators.';

CREATE OR REPLACE FUNCTION crm._job_director_daily(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows jsonb := (SELECT coalesce(jsonb_agg(to_jsonb(d)), '[]') FROM crm._director_daily(due) AS d);
    v_id bigint;
BEGIN
    v_id := crm._report_store('director_daily', tstzrange(due - interval '1 day', due, '[)'), due,
        jsonb_build_object('title', crm._report_title('director_daily'), 'part', 'part', 'say', '["level"]'::jsonb,
                           'columns', '["team", "action", "account", "owner", "message", "level", "count", "leads", "follow_ups", "won", "lost", "amount", "currency", "days"]'::jsonb,
                           'charts', '{"yesterday": {"kind": "bars", "label": "team", "value": "amount"}, "overdue": {"kind": "bars", "label": "action", "value": "count"}}'::jsonb, 'rows', v_rows));
    PERFORM crm._notify('report.director', 'director_daily:' || extract(epoch FROM due), jsonb_build_object('report', 'director_daily', 'snapshot', v_id), crm._report_readers('director_daily'));
    RETURN jsonb_array_length(v_rows);
END
$$;
COMMENT ON FUNCTION crm._job_director_daily(timestamptz) IS 'Job: stores the director''s daily and sends word of it. Internal.';
