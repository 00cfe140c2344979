-- Reports: each a function that returns rows; its job stores it as an immutable snapshot, chained to the one before, and sends word of it.

CREATE OR REPLACE FUNCTION crm._report_store(report text, period tstzrange, due timestamptz, body jsonb, recipient bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_id bigint;
    v_last crm_data.report_snapshot;
    v_seq int;
    v_defs jsonb;
    v_fresh jsonb;
BEGIN
    -- one writer a report: the chain has no forks
    PERFORM FROM crm_data.config AS c WHERE c.kind = 'report' AND c.key = report AND c.scope = '*' AND c.status = 'active' FOR UPDATE;
    SELECT s.id INTO v_id FROM crm_data.report_snapshot AS s WHERE s.report = report AND s.due_at = due AND s.recipient_id IS NOT DISTINCT FROM recipient;
    IF FOUND THEN
        RETURN v_id;
    END IF;
    SELECT * INTO v_last FROM crm_data.report_snapshot AS s WHERE s.report = report ORDER BY s.seq DESC LIMIT 1;
    v_seq := coalesce(v_last.seq, 0) + 1;
    SELECT coalesce(jsonb_object_agg(d.name, d.version), '{}') INTO v_defs
      FROM (SELECT 'report/' || c.key AS name, c.version FROM crm_data.config AS c WHERE c.kind = 'report' AND c.key = report AND c.scope = '*' AND c.status = 'active'
            UNION ALL
            SELECT 'metric/' || m.name, x.version FROM unnest(crm._report_metrics(report)) AS m (name)
             CROSS JOIN LATERAL crm._metric_definition(m.name, (lower(period) AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date) AS x WHERE x.version IS NOT NULL) AS d;
    SELECT coalesce(jsonb_object_agg(s.name, s.last_applied_at), '{}') INTO v_fresh FROM crm_data.source_system AS s WHERE s.last_applied_at IS NOT NULL;
    INSERT INTO crm_data.report_snapshot (report, seq, period, due_at, recipient_id, body, definitions, data_as_of, freshness, prev_digest, digest)
    VALUES (report, v_seq, period, due, recipient, body, v_defs, now(), v_fresh, v_last.digest,
            sha256(coalesce(v_last.digest, '') || convert_to(concat_ws('|', report, v_seq, extract(epoch FROM due), recipient, body::text, v_defs::text), 'UTF8')))
    RETURNING id INTO v_id;
    RETURN v_id;
END
$$;
COMMENT ON FUNCTION crm._report_store(text, tstzrange, timestamptz, jsonb, bigint) IS
'Internal: stores a report for a due time and recipient, once: its rows, the versions of the definitions behind it, how fresh each source was, and a digest over the one before. Returns its number.';

CREATE OR REPLACE FUNCTION crm.verify_reports() RETURNS TABLE (report text, seq int, problem text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.report, x.seq,
           CASE WHEN x.prev_seq IS DISTINCT FROM x.seq - 1 AND x.seq > 1 THEN 'the report before is missing'
                WHEN x.prev_digest IS DISTINCT FROM x.before THEN 'the chain is broken' ELSE 'the content was changed' END
      FROM (SELECT s.*, lag(s.digest) OVER w AS before, lag(s.seq) OVER w AS prev_seq FROM crm_data.report_snapshot AS s WINDOW w AS (PARTITION BY s.report ORDER BY s.seq)) AS x
     WHERE (x.seq > 1 AND x.prev_seq IS DISTINCT FROM x.seq - 1) OR x.prev_digest IS DISTINCT FROM x.before
        OR x.digest <> sha256(coalesce(x.prev_digest, '') || convert_to(concat_ws('|', x.report, x.seq, extract(epoch FROM x.due_at), x.recipient_id, x.body::text, x.definitions::text), 'UTF8'))
     ORDER BY x.report, x.seq
$$;
COMMENT ON FUNCTION crm.verify_reports() IS 'Stored reports whose content or place in the chain is not what it was when they were delivered. No row: all are as they were.';

CREATE OR REPLACE FUNCTION crm._in_base(amount numeric, currency text, at timestamptz) RETURNS numeric
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN currency = b.base THEN amount
                ELSE round(amount * (SELECT f.rate FROM crm_data.fx_rate AS f WHERE f.currency = _in_base.currency AND f.base_currency = b.base AND f.rate_date <= at::date ORDER BY f.rate_date DESC LIMIT 1), 2) END
      FROM (SELECT crm._setting('organisation.currency', 'CNY') AS base) AS b
$$;
COMMENT ON FUNCTION crm._in_base(numeric, text, timestamptz) IS 'Internal: an amount in the organisation''s currency, at the latest rate of that day or before; NULL where no rate is known.';

CREATE OR REPLACE FUNCTION crm._action_label(key text, otherwise text) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT jsonb_build_object('en', x ->> 'en', 'zh', x ->> 'zh') FROM crm_data.config AS c, jsonb_array_elements(c.body -> 'actions') AS x
                      WHERE c.kind = 'stage' AND c.status = 'active' AND x ->> 'key' = _action_label.key ORDER BY c.scope, c.key LIMIT 1), jsonb_build_object('en', otherwise, 'zh', otherwise))
$$;
COMMENT ON FUNCTION crm._action_label(text, text) IS 'Internal: the name of a stage action in both languages; of one that no stage has any more, what its tasks say.';

-- Deals that lie still: an overdue mandatory action, or, where the stage has none open, a stay far beyond what is usual there.
CREATE OR REPLACE FUNCTION crm._stuck_deals(at timestamptz, teams bigint[])
    RETURNS TABLE (opportunity_id bigint, account_id bigint, stage_id bigint, owner_id bigint, team_id bigint, action_key text, action text, product_line text, days float8, amount numeric, currency text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH stay AS (
        SELECT h.opportunity_id, h.to_stage_id AS stage_id, h.entered_at
          FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id AND s.outcome = 'open'
         WHERE h.entered_at <= at AND (h.left_at IS NULL OR h.left_at > at)
    ), usual AS (      -- three of four deals have moved on by then
        SELECT h.to_stage_id AS stage_id, percentile_cont(0.75) WITHIN GROUP (ORDER BY extract(epoch FROM h.left_at - h.entered_at) / 86400) AS days
          FROM crm_data.stage_history AS h WHERE h.left_at <= at GROUP BY 1 HAVING count(*) >= 20
    ), deal AS (
        SELECT o.*, st.stage_id AS stage_at, st.entered_at AS since FROM stay AS st JOIN crm_data.opportunity AS o ON o.id = st.opportunity_id
         WHERE o.deleted_at IS NULL AND (teams IS NULL OR o.team_id = ANY (teams))
    ), late AS (
        SELECT d.id, t.action_key, t.title, extract(epoch FROM at - t.due_at) / 86400 AS days
          FROM deal AS d JOIN crm_data.task AS t ON t.object = 'opportunity' AND t.record_id = d.id AND t.kind = 'stage_action' AND t.mandatory
         WHERE t.due_at < at AND t.created_at <= at AND (t.state = 'open' OR t.done_at > at)
    )
    SELECT d.id, d.account_id, d.stage_at, d.owner_id, d.team_id, l.action_key, l.title, NULL, l.days, d.amount, d.currency FROM deal AS d JOIN late AS l ON l.id = d.id
    UNION ALL
    SELECT d.id, d.account_id, d.stage_at, d.owner_id, d.team_id, NULL, NULL, d.product_line, extract(epoch FROM at - d.since) / 86400, d.amount, d.currency
      FROM deal AS d LEFT JOIN usual AS u ON u.stage_id = d.stage_at
     WHERE extract(epoch FROM at - d.since) / 86400 > greatest(crm._setting('stage.stall_days', '15')::float8, coalesce(u.days, 0))
       AND NOT EXISTS (SELECT FROM late AS l WHERE l.id = d.id)
$$;
COMMENT ON FUNCTION crm._stuck_deals(timestamptz, bigint[]) IS
'Internal: deals that were stuck at an instant, in some teams or all (NULL): with the overdue mandatory action, or without one, by product line, when the stay is longer than stage.stall_days and than three quarters of the completed stays in that stage.';

CREATE OR REPLACE FUNCTION crm._similar_cases(opportunity bigint, k int, at timestamptz, only_won boolean, teams bigint[] DEFAULT NULL)
    RETURNS TABLE (opportunity_id bigint, account text, name text, outcome text, amount numeric, currency text, similarity float8, days_to_close float8, shared text[])
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH me AS (
        SELECT o.*, a.industry, a.type, a.region, s.seq FROM crm_data.opportunity AS o JOIN crm_data.account AS a ON a.id = o.account_id JOIN crm_data.stage AS s ON s.id = o.stage_id
         WHERE o.id = opportunity
    )
    SELECT c.id, a.name, c.name, c.outcome, c.amount, c.currency, w.similarity, extract(epoch FROM c.closed_at - c.created_at) / 86400,
           array_remove(ARRAY[CASE WHEN a.industry = me.industry THEN 'industry' END, CASE WHEN c.product_line = me.product_line THEN 'product line' END,
                              CASE WHEN a.type = me.type THEN 'customer type' END, CASE WHEN a.region = me.region THEN 'region' END, CASE WHEN c.deal_type = me.deal_type THEN 'deal type' END,
                              CASE WHEN w.size > 0.8 THEN 'amount' END, CASE WHEN c.competitor = me.competitor THEN 'competitor' END], NULL)
      FROM me
     CROSS JOIN LATERAL (      -- the latest ones: what was done long ago teaches little, and there is no end of it
           SELECT o.* FROM crm_data.opportunity AS o
            WHERE o.pipeline_id = me.pipeline_id AND o.outcome IN ('won', 'lost') AND (o.outcome = 'won' OR NOT only_won) AND o.closed_at <= at AND o.deleted_at IS NULL AND o.id <> me.id
            ORDER BY o.closed_at DESC, o.id LIMIT 5000) AS c
      JOIN crm_data.account AS a ON a.id = c.account_id
     CROSS JOIN LATERAL (SELECT coalesce(exp(-abs(ln((c.amount + 1)::float8 / (me.amount + 1)::float8))), 0) AS size) AS z
     CROSS JOIN LATERAL (SELECT z.size, 0.3 * coalesce((a.industry = me.industry)::int, 0) + 0.2 * coalesce((c.product_line = me.product_line)::int, 0) + 0.15 * coalesce((a.type = me.type)::int, 0)
                                + 0.05 * coalesce((a.region = me.region)::int, 0) + 0.05 * coalesce((c.deal_type = me.deal_type)::int, 0) + 0.2 * z.size + 0.05 * coalesce((c.competitor = me.competitor)::int, 0) AS similarity) AS w
     WHERE (c.outcome = 'won' OR NOT only_won) AND (teams IS NULL OR c.team_id = ANY (teams))
     ORDER BY w.similarity DESC, c.closed_at DESC, c.id LIMIT k
$$;
COMMENT ON FUNCTION crm._similar_cases(bigint, int, timestamptz, boolean, bigint[]) IS 'Internal: the closed deals most like one, of some teams or all (NULL; therefore not STRICT), by industry, product line, size of the amount, customer type, region, deal type and competitor.';

CREATE OR REPLACE FUNCTION crm.similar_cases(object text, id bigint, k int DEFAULT 3)
    RETURNS TABLE (opportunity_id bigint, account text, name text, outcome text, amount numeric, currency text, similarity numeric, days_to_close numeric, shared text[], won_share numeric)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF object <> 'opportunity' OR k NOT BETWEEN 1 AND 50 THEN
        RAISE EXCEPTION 'similar cases are known for opportunities, 1 to 50 of them' USING ERRCODE = 'invalid_parameter_value', HINT = 'crm.similar_cases(''opportunity'', id, 3).';
    END IF;
    IF NOT EXISTS (SELECT FROM crm_data.opportunity AS o WHERE o.id = similar_cases.id
                    AND o.deleted_at IS NULL AND crm.row_visible('opportunity', 'read', o.owner_id, o.team_id, o.grade)) THEN
        RAISE EXCEPTION 'there is no opportunity % that you may see', similar_cases.id USING ERRCODE = 'no_data_found', HINT = 'Look it up in the view crm.opportunity.';
    END IF;
    RETURN QUERY
    SELECT c.opportunity_id, CASE WHEN crm.row_visible('account', 'read', a.owner_id, a.team_id, a.grade) THEN c.account END, c.name, c.outcome,
           CASE WHEN crm._field_allowed('read', f.amount, o.owner_id, o.team_id) THEN c.amount END, c.currency, round(c.similarity::numeric, 2), round(c.days_to_close::numeric, 1), c.shared,
           round((SELECT avg((x.outcome = 'won')::int) FROM crm._similar_cases(similar_cases.id, 20, now(), false) AS x), 2)
      FROM crm._similar_cases(similar_cases.id, 1000000, now(), false) AS c JOIN crm_data.opportunity AS o ON o.id = c.opportunity_id JOIN crm_data.account AS a ON a.id = o.account_id
     CROSS JOIN (SELECT max(d.id) AS amount FROM crm_data.field AS d WHERE d.object = 'opportunity' AND d.name = 'amount') AS f
     WHERE crm.row_visible('opportunity', 'read', o.owner_id, o.team_id, o.grade)
     ORDER BY c.similarity DESC, o.closed_at DESC, o.id LIMIT k;
END
$$;
COMMENT ON FUNCTION crm.similar_cases(text, bigint, int) IS
'The closed deals most like one, of the latest 5000 of its pipeline, with how they ended, what they share with it, days to their close, and the share of won deals among the twenty nearest. Cases that the caller may not read are left out; the share is of all.
object: opportunity. k: 1 to 50. Errors: 22023 another object; P0002 no such deal within the caller''s view.';

CREATE OR REPLACE FUNCTION crm._bottleneck_brief(at timestamptz, teams bigint[])
    RETURNS TABLE (rank int, action text, stage text, deals bigint, amount numeric, currency text, median_days numeric, labels jsonb, customers jsonb, cases jsonb)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH stuck AS MATERIALIZED (SELECT * FROM crm._stuck_deals(at, teams)),
    top AS (
        SELECT row_number() OVER (ORDER BY k.action_key IS NULL, count(*) DESC, sum(k.amount) DESC NULLS LAST, k.stage_id, k.action_key, k.product_line)::int AS rank, k.stage_id, k.action_key, k.product_line, max(k.action) AS action,
               count(DISTINCT k.opportunity_id) AS deals, CASE WHEN count(DISTINCT k.currency) = 1 THEN sum(k.amount) ELSE sum(crm._in_base(k.amount, k.currency, at)) END AS amount,
               CASE WHEN count(DISTINCT k.currency) = 1 THEN max(k.currency) ELSE crm._setting('organisation.currency', 'CNY') END AS currency,
               round((percentile_cont(0.5) WITHIN GROUP (ORDER BY k.days))::numeric, 1) AS days
          FROM stuck AS k GROUP BY k.stage_id, k.action_key, k.product_line
         ORDER BY 1
         LIMIT (SELECT coalesce(max((c.body ->> 'top')::int), 3) FROM crm_data.config AS c WHERE c.kind = 'report' AND c.key = 'bottleneck_brief' AND c.scope = '*' AND c.status = 'active')
    )
    SELECT t.rank, coalesce(t.action, 'Move on from ' || s.name || coalesce(', product line ' || t.product_line, '')), s.name, t.deals, t.amount, t.currency, t.days,
           jsonb_build_object('stage', s.label, 'action', CASE WHEN t.action_key IS NULL THEN jsonb_build_object('zh', '推进“' || coalesce(s.label ->> 'zh', s.name) || '”阶段' || coalesce('(产品线 ' || t.product_line || ')', ''))
                                                               ELSE crm._action_label(t.action_key, t.action) END),
           (SELECT jsonb_agg(jsonb_build_object('account', x.account, 'deal', x.opportunity_id, 'owner', x.owner, 'amount', x.amount, 'currency', x.currency, 'days', round(x.days::numeric, 0)) ORDER BY x.n)
              FROM (SELECT a.name AS account, n.opportunity_id, m.full_name AS owner, n.amount, n.currency, n.days, n.n
                      FROM (SELECT k.*, row_number() OVER (ORDER BY k.amount DESC NULLS LAST, k.days DESC, k.opportunity_id) AS n FROM stuck AS k
                             WHERE k.stage_id = t.stage_id AND k.action_key IS NOT DISTINCT FROM t.action_key AND k.product_line IS NOT DISTINCT FROM t.product_line ORDER BY n LIMIT 5) AS n
                      JOIN crm_data.account AS a ON a.id = n.account_id LEFT JOIN crm_data.member AS m ON m.id = n.owner_id) AS x),
           (SELECT jsonb_agg(jsonb_build_object('deal', c.opportunity_id, 'account', c.account, 'outcome', c.outcome, 'days', round(c.days_to_close::numeric, 0), 'shared', to_jsonb(c.shared),
                                                'action_hours', (SELECT round((extract(epoch FROM min(w.done_at - w.created_at)) / 3600)::numeric, 1) FROM crm_data.task AS w
                                                                  WHERE w.object = 'opportunity' AND w.record_id = c.opportunity_id AND w.action_key = t.action_key AND w.state = 'done')) ORDER BY c.similarity DESC, c.opportunity_id)
              FROM crm._similar_cases((SELECT k.opportunity_id FROM stuck AS k WHERE k.stage_id = t.stage_id AND k.action_key IS NOT DISTINCT FROM t.action_key AND k.product_line IS NOT DISTINCT FROM t.product_line ORDER BY k.amount DESC NULLS LAST, k.days DESC, k.opportunity_id LIMIT 1),
                                      3, at, true, teams) AS c)
      FROM top AS t JOIN crm_data.stage AS s ON s.id = t.stage_id
     ORDER BY t.rank
$$;
COMMENT ON FUNCTION crm._bottleneck_brief(timestamptz, bigint[]) IS 'Internal: the rows of the bottleneck brief for some teams, or all (NULL).';

CREATE OR REPLACE FUNCTION crm.bottleneck_brief(at timestamptz DEFAULT now(), team bigint DEFAULT NULL)
    RETURNS TABLE (rank int, action text, stage text, deals bigint, amount numeric, currency text, median_days numeric, customers text[], similar_cases text[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_teams bigint[];
BEGIN
    IF NOT (crm.has_role('crm_admin') OR crm.has_role('crm_director') OR crm.has_role('crm_risk')) THEN
        v_teams := crm.my_teams('subtree');
    END IF;
    IF team IS NOT NULL THEN
        IF v_teams IS NOT NULL AND team <> ALL (v_teams) THEN
            RAISE EXCEPTION 'team % is not one of yours', team USING ERRCODE = 'insufficient_privilege', HINT = 'Leave the team out to see all of yours.';
        END IF;
        v_teams := ARRAY(WITH RECURSIVE sub AS (SELECT t.id FROM crm_data.team AS t WHERE t.id = team UNION SELECT c.id FROM crm_data.team AS c JOIN sub ON c.parent_id = sub.id) SELECT s.id FROM sub AS s);
    END IF;
    RETURN QUERY
    SELECT b.rank, b.action, b.stage, b.deals, b.amount, b.currency, b.median_days,
           ARRAY(SELECT format('%s: %s %s, %s days%s', c ->> 'account', coalesce(to_char((c ->> 'amount')::numeric, 'FM999,999,999,990'), '?'), c ->> 'currency', c ->> 'days', coalesce(', ' || (c ->> 'owner'), ''))
                   FROM jsonb_array_elements(b.customers) AS c),
           ARRAY(SELECT format('deal %s, %s: %s after %s days%s', c ->> 'deal', c ->> 'account', c ->> 'outcome', c ->> 'days',
                               CASE WHEN c -> 'shared' <> '[]' THEN ', same ' || (SELECT string_agg(s, ', ') FROM jsonb_array_elements_text(c -> 'shared') AS s) ELSE '' END)
                   FROM jsonb_array_elements(b.cases) AS c)
      FROM crm._bottleneck_brief(coalesce(at, now()), v_teams) AS b ORDER BY b.rank;
END
$$;
COMMENT ON FUNCTION crm.bottleneck_brief(timestamptz, bigint) IS
'The bottleneck brief: the three actions at which most deals are stuck (overdue mandatory stage actions first; then, by product line, a stay in the stage far beyond the usual), how many deals and how much money, the customers with the largest deals, and similar deals that were won, to learn from. Managers see their teams, directors and administrators all.
at: the instant it speaks of, past ones too. team: only this team and those below it. Errors: 42501 a team that is not the caller''s.';

CREATE OR REPLACE FUNCTION crm._job_bottleneck_brief(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    v_rows jsonb;
    v_id bigint;
    v_n bigint := 0;
    v_period tstzrange := tstzrange(due - interval '7 days', due, '[)');
    v_config jsonb := coalesce((SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'report' AND c.key = 'bottleneck_brief' AND c.scope = '*' AND c.status = 'active'), '{}');
BEGIN
    -- one for the whole house, then one for each manager of a team, with his teams only
    FOR m IN
        SELECT NULL::bigint AS id, NULL::bigint[] AS teams
        UNION ALL
        SELECT x.id, ARRAY(WITH RECURSIVE sub AS (SELECT t.id FROM crm_data.team AS t WHERE t.id = x.team_id UNION SELECT c.id FROM crm_data.team AS c JOIN sub ON c.parent_id = sub.id) SELECT s.id FROM sub AS s)
          FROM crm_data.member AS x
         WHERE x.team_id IS NOT NULL AND (x.left_at IS NULL OR x.left_at > current_date) AND EXISTS (SELECT FROM crm_data.member AS y WHERE y.manager_id = x.id)
         ORDER BY 1 NULLS FIRST
    LOOP
        SELECT coalesce(jsonb_agg(to_jsonb(b) ORDER BY b.rank), '[]') INTO v_rows FROM crm._bottleneck_brief(due, m.teams) AS b;
        v_id := crm._report_store('bottleneck_brief', v_period, due, jsonb_build_object('title', jsonb_build_object('en', v_config ->> 'en', 'zh', v_config ->> 'zh'), 'rows', v_rows), m.id);
        IF m.id IS NOT NULL THEN
            PERFORM crm._notify(coalesce(v_config ->> 'topic', 'report.bottleneck'), 'bottleneck_brief:' || extract(epoch FROM due),
                                jsonb_build_object('report', 'bottleneck_brief', 'snapshot', v_id, 'top', v_rows #>> '{0,action}', 'deals', v_rows #> '{0,deals}'), ARRAY[m.id]);
        END IF;
        v_n := v_n + jsonb_array_length(v_rows);
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_bottleneck_brief(timestamptz) IS 'Job: the bottleneck brief of the week before a due time, stored for the house and for each manager, who gets a message. Internal.';

CREATE OR REPLACE FUNCTION crm.report_list(report text DEFAULT NULL)
    RETURNS TABLE (id bigint, report text, seq int, due_at timestamptz, recipient text, row_count int, data_as_of timestamptz, definitions jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.id, s.report, s.seq, s.due_at, m.full_name, jsonb_array_length(s.body -> 'rows'), s.data_as_of, s.definitions
      FROM crm_data.report_snapshot AS s LEFT JOIN crm_data.member AS m ON m.id = s.recipient_id
     WHERE (report_list.report IS NULL OR s.report = report_list.report)
       AND (s.recipient_id = crm.me() OR crm.has_role('crm_admin') OR crm.has_role('crm_director'))
     ORDER BY s.report, s.seq
$$;
COMMENT ON FUNCTION crm.report_list(text) IS 'The stored reports that the caller may see: his own; administrators and directors all. report: only this one.';

CREATE OR REPLACE FUNCTION crm.report_body(snapshot bigint) RETURNS jsonb
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.body || jsonb_build_object('report', s.report, 'seq', s.seq, 'due_at', s.due_at, 'data_as_of', s.data_as_of, 'definitions', s.definitions, 'freshness', s.freshness, 'digest', encode(s.digest, 'hex'))
      FROM crm_data.report_snapshot AS s
     WHERE s.id = snapshot AND (s.recipient_id = crm.me() OR crm.has_role('crm_admin') OR crm.has_role('crm_director'))
$$;
COMMENT ON FUNCTION crm.report_body(bigint) IS 'A stored report as a document: title, rows, versions of its definitions, data as of, freshness of the sources, digest. NULL for one that does not exist or is not the caller''s.';

CREATE OR REPLACE FUNCTION crm._action_heatmap(from_at timestamptz, to_at timestamptz, teams bigint[])
    RETURNS TABLE (team jsonb, action jsonb, action_key text, due bigint, done_rate numeric, mean_hours numeric, first_pass_rate numeric)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('en', coalesce(t.name, crm._say('no_team', 'en')), 'zh', coalesce(t.name, crm._say('no_team', 'zh'))), crm._action_label(k.action_key, k.title), k.action_key, k.due,
           round(k.done::numeric / k.due, 3), round((k.hours / nullif(k.done, 0))::numeric, 1), round(k.first::numeric / nullif(k.done, 0), 3)
      FROM (SELECT x.team_id, x.action_key, max(x.title) AS title, count(*) AS due, count(*) FILTER (WHERE x.state = 'done') AS done,
                   sum(extract(epoch FROM x.done_at - x.created_at) / 3600) FILTER (WHERE x.state = 'done') AS hours, count(*) FILTER (WHERE x.state = 'done' AND x.reopened = 0) AS first
              FROM crm_data.task AS x
             WHERE x.kind = 'stage_action' AND x.state <> 'cancelled' AND x.due_at >= from_at AND x.due_at < to_at AND (teams IS NULL OR x.team_id = ANY (teams))
             GROUP BY x.team_id, x.action_key) AS k
      LEFT JOIN crm_data.team AS t ON t.id = k.team_id
     ORDER BY t.name COLLATE "C", t.id, k.action_key COLLATE "C"
$$;
COMMENT ON FUNCTION crm._action_heatmap(timestamptz, timestamptz, bigint[]) IS 'Internal: the rows of the action heat map for some teams, or all (NULL).';

CREATE OR REPLACE FUNCTION crm.action_heatmap(week date DEFAULT current_date)
    RETURNS TABLE (team text, action text, due bigint, done_rate numeric, mean_hours numeric, first_pass_rate numeric)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT crm._text_of(h.team, l.locale), crm._text_of(h.action, l.locale), h.due, h.done_rate, h.mean_hours, h.first_pass_rate
      FROM (SELECT coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en') AS locale) AS l,
           crm._action_heatmap(date_trunc('week', week::timestamp) AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'),
                               (date_trunc('week', week::timestamp) + interval '7 days') AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'),
                               CASE WHEN crm.has_role('crm_admin') OR crm.has_role('crm_director') THEN NULL ELSE crm.my_teams('subtree') END) AS h
$$;
COMMENT ON FUNCTION crm.action_heatmap(date) IS
'How the stage actions of a week went, by team and action: how many were due, the share that is done, mean hours from the task to its end, and the share of those that were done without being reopened. Managers see their teams, directors and administrators all. week: any day of it.';

CREATE OR REPLACE FUNCTION crm._job_action_heatmap(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
    v_to timestamptz := date_trunc('week', due AT TIME ZONE v_tz) AT TIME ZONE v_tz;
    v_from timestamptz := (date_trunc('week', due AT TIME ZONE v_tz) - interval '7 days') AT TIME ZONE v_tz;
    v_rows jsonb;
    v_id bigint;
BEGIN
    SELECT coalesce(jsonb_agg(to_jsonb(h)), '[]') INTO v_rows FROM crm._action_heatmap(v_from, v_to, NULL) AS h;
    v_id := crm._report_store('action_heatmap', tstzrange(v_from, v_to, '[)'), due, jsonb_build_object('title', crm._report_title('action_heatmap'), 'columns', '["team", "action", "due", "done_rate", "mean_hours", "first_pass_rate"]'::jsonb,
                                                  'chart', '{"kind": "heat", "label": "action", "column": "team", "value": "done_rate"}'::jsonb, 'part', 'team', 'rows', v_rows));
    PERFORM crm._notify('report.heatmap', 'action_heatmap:' || extract(epoch FROM due), jsonb_build_object('report', 'action_heatmap', 'snapshot', v_id), crm._report_readers('action_heatmap'));
    RETURN jsonb_array_length(v_rows);
END
$$;
COMMENT ON FUNCTION crm._job_action_heatmap(timestamptz) IS 'Job: the action heat map of the week before a due time. Internal.';

CREATE OR REPLACE FUNCTION crm._report_title(report text) RETURNS jsonb
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT jsonb_build_object('en', c.body ->> 'en', 'zh', c.body ->> 'zh') FROM crm_data.config AS c WHERE c.kind = 'report' AND c.key = report AND c.scope = '*' AND c.status = 'active'), jsonb_build_object('en', report, 'zh', report))
$$;
COMMENT ON FUNCTION crm._report_title(text) IS 'Internal: the title of a report in both languages.';

CREATE OR REPLACE FUNCTION crm._report_readers(report text) RETURNS bigint[]
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT crm._members_with(ARRAY(SELECT jsonb_array_elements_text(c.body -> 'to') FROM crm_data.config AS c WHERE c.kind = 'report' AND c.key = report AND c.scope = '*' AND c.status = 'active'))
$$;
COMMENT ON FUNCTION crm._report_readers(text) IS 'Internal: the members whose roles a report goes to.';

CREATE OR REPLACE FUNCTION crm._days_until(due timestamptz, at timestamptz) RETURNS int
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tz text := crm._setting('organisation.timezone', 'Asia/Shanghai');
BEGIN
    RETURN (due AT TIME ZONE v_tz)::date - (at AT TIME ZONE v_tz)::date;
END
$$;
COMMENT ON FUNCTION crm._days_until(timestamptz, timestamptz) IS 'Internal: days from one local day to another, as people count them: 0 for today, 1 for tomorrow, negative for what is over.';

-- The morning list of one member: what is due, whom nobody has spoken to, what expires.
CREATE OR REPLACE FUNCTION crm._morning_brief(member bigint, at timestamptz)
    RETURNS TABLE (kind text, account text, title text, due_at timestamptz, days int, object text, record_id bigint)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    (SELECT 'todo', a.name, k.title, k.due_at, crm._days_until(k.due_at, at), 'task', k.id
       FROM (SELECT t.* FROM crm_data.task AS t WHERE t.owner_id = member AND t.state = 'open' AND t.created_at <= at ORDER BY t.priority DESC, t.due_at, t.id LIMIT crm._setting('board.top_todos', '3')::int) AS k
       LEFT JOIN crm_data.account AS a ON a.id = k.account_id)
    UNION ALL
    (SELECT 'silent', a.name, NULL, a.last_contact_at, floor(extract(epoch FROM at - a.last_contact_at) / 86400)::int, 'account', a.id
       FROM crm_data.account AS a
      WHERE a.owner_id = member AND a.deleted_at IS NULL AND a.merged_into IS NULL AND a.last_contact_at < at - make_interval(days => crm._setting('followup.alert_days', '30')::int)
      ORDER BY a.last_contact_at, a.id LIMIT 20)
    UNION ALL
    (SELECT 'expiring', a.name, c.code, c.expires_on::timestamp AT TIME ZONE z.tz, c.expires_on - z.day, 'contract', c.id
       FROM crm_data.contract AS c JOIN crm_data.account AS a ON a.id = c.account_id
      -- days are the organisation's, wherever the session that runs the job lives
      CROSS JOIN (SELECT s.tz, (at AT TIME ZONE s.tz)::date AS day FROM (SELECT crm._setting('organisation.timezone', 'Asia/Shanghai') AS tz) AS s) AS z
      WHERE c.owner_id = member AND c.deleted_at IS NULL AND c.state IN ('signed', 'active') AND c.expires_on BETWEEN z.day AND z.day + crm._setting('renewal.window', '90')::int
      ORDER BY c.expires_on, c.id LIMIT 20)
    UNION ALL
    -- what was heard since the morning before of those who stand against him
    (SELECT 'competitor_move', a.name, o.competitor, max(i.occurred_at), floor(extract(epoch FROM _morning_brief.at - max(i.occurred_at)) / 86400)::int, 'account', a.id
       FROM crm_data.opportunity AS o JOIN crm_data.account AS a ON a.id = o.account_id JOIN crm_data.interaction AS i ON i.account_id = o.account_id
      WHERE o.owner_id = member AND o.outcome = 'open' AND o.deleted_at IS NULL AND o.competitor <> '' AND i.retracted_at IS NULL AND i.occurred_at > _morning_brief.at - interval '1 day' AND i.occurred_at <= _morning_brief.at
        AND position(lower(o.competitor) IN lower(concat_ws(' ', i.summary, i.body))) > 0
      GROUP BY a.id, o.competitor ORDER BY 4 DESC, a.id LIMIT 10)
$$;
COMMENT ON FUNCTION crm._morning_brief(bigint, timestamptz) IS 'Internal: the morning list of a member: the first tasks, customers without contact for followup.alert_days, contracts that expire within renewal.window, follow-ups of the day before that speak of the competitor of an open deal.';

CREATE OR REPLACE FUNCTION crm.morning_brief(at timestamptz DEFAULT now())
    RETURNS TABLE (kind text, account text, title text, due_at timestamptz, days int, object text, record_id bigint)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT b.* FROM crm._morning_brief(crm.me(), at) AS b
$$;
COMMENT ON FUNCTION crm.morning_brief(timestamptz) IS 'The caller''s morning list: the first tasks (todo), customers nobody has spoken to for followup.alert_days (silent), contracts that expire within renewal.window (expiring), follow-ups of the day before that speak of the competitor of an open deal (competitor_move); object and record_id are what to open.';

CREATE OR REPLACE FUNCTION crm._job_morning_brief(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    v_rows jsonb;
    v_id bigint;
    v_n bigint := 0;
BEGIN
    FOR m IN SELECT x.id FROM crm_data.member AS x WHERE (x.left_at IS NULL OR x.left_at > due::date) ORDER BY x.id LOOP
        SELECT jsonb_agg(to_jsonb(b)) INTO v_rows FROM crm._morning_brief(m.id, due) AS b;
        CONTINUE WHEN v_rows IS NULL;
        v_id := crm._report_store('morning_brief', tstzrange(due - interval '1 day', due, '[)'), due,
                                  jsonb_build_object('title', crm._report_title('morning_brief'), 'part', 'kind', 'columns', '["kind", "account", "title", "due_at", "days"]'::jsonb, 'rows', v_rows), m.id);
        PERFORM crm._notify('brief.daily', 'morning_brief:' || extract(epoch FROM due), jsonb_build_object('report', 'morning_brief', 'snapshot', v_id, 'items', jsonb_array_length(v_rows)), ARRAY[m.id]);
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_morning_brief(timestamptz) IS 'Job: stores and sends the morning list of every member who has something on it. Internal.';
