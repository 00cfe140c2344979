-- Feature documents: what the conditions of rules, stage actions and signals see of a record.

CREATE OR REPLACE FUNCTION crm._workdays(from_at timestamptz, to_at timestamptz) RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- whole working days between two instants, by the active calendar: weekends and holidays out, working weekends in
    SELECT count(*)::int
      FROM (SELECT coalesce((SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'calendar' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active'), '{}') AS body) AS k
     CROSS JOIN LATERAL generate_series((from_at AT TIME ZONE coalesce(k.body ->> 'tz', 'UTC'))::date + 1, least((to_at AT TIME ZONE coalesce(k.body ->> 'tz', 'UTC'))::date, (from_at AT TIME ZONE coalesce(k.body ->> 'tz', 'UTC'))::date + 400), interval '1 day') AS d
     WHERE k.body -> 'workdays' ? to_char(d, 'YYYY-MM-DD')
        OR (NOT coalesce(k.body -> 'weekend', '[6, 7]') @> to_jsonb(extract(isodow FROM d)::int) AND NOT coalesce(k.body -> 'holidays' ? to_char(d, 'YYYY-MM-DD'), false))
$$;
COMMENT ON FUNCTION crm._workdays(timestamptz, timestamptz) IS 'Internal: working days after one instant up to another, by the active calendar; at most 400 days are looked at.';

CREATE OR REPLACE FUNCTION crm._usage(account bigint, at timestamptz) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_nodes jsonb;
    v_reached jsonb;
    v_next text;
    v_last text;
    v_at timestamptz;
    e record;
    n record;
BEGIN
    SELECT c.body -> 'nodes' INTO v_nodes FROM crm_data.config AS c WHERE c.kind = 'journey' AND c.key = 'onboarding' AND c.scope = '*' AND c.status = 'active';
    SELECT max(x.occurred_at) FILTER (WHERE x.kind = 'login') AS login, count(*) FILTER (WHERE x.kind = 'ticket_opened' AND x.detail ->> 'category' = 'technical') AS technical,
           (array_agg(x.value ORDER BY x.occurred_at DESC, x.id DESC) FILTER (WHERE x.kind = 'balance' AND x.value IS NOT NULL))[1] AS balance,
           count(DISTINCT x.occurred_at::date) FILTER (WHERE x.occurred_at > at - interval '30 days') AS days, count(DISTINCT x.occurred_at::date) FILTER (WHERE x.occurred_at BETWEEN at - interval '60 days' AND at - interval '30 days') AS days_before
      INTO e FROM crm_data.event AS x WHERE x.account_id = account AND x.occurred_at <= at;
    -- the way through the nodes: the first that was not reached is where the customer stands, since he reached the one before
    IF e.login IS NOT NULL OR e.days > 0 OR e.days_before > 0 THEN
        FOR n IN SELECT x.value ->> 'key' AS key, (SELECT min(y.occurred_at) FROM crm_data.event AS y WHERE y.account_id = account AND y.kind = x.value ->> 'event' AND y.occurred_at <= at) AS at
                   FROM jsonb_array_elements(v_nodes) WITH ORDINALITY AS x (value, ord) ORDER BY x.ord LOOP
            IF n.at IS NULL THEN
                v_next := n.key;
                EXIT;
            END IF;
            v_last := n.key;
            v_at := greatest(v_at, n.at);
        END LOOP;
    END IF;
    RETURN jsonb_build_object(
        'usage', jsonb_build_object('days_since_login', round(extract(epoch FROM at - e.login) / 86400, 2), 'tickets_technical', e.technical, 'balance', e.balance, 'active_days_30d', e.days,
                     'tickets_open', (SELECT count(*) FROM crm_data.task AS t WHERE t.account_id = account AND t.kind = 'case' AND t.state = 'open'),
                     'trend', CASE WHEN e.days_before > 0 THEN round(e.days::numeric / e.days_before, 2) END),
        'journey', jsonb_build_object('node', CASE WHEN v_last IS NOT NULL THEN v_next END, 'reached', v_last, 'hours', CASE WHEN v_next IS NOT NULL THEN round(extract(epoch FROM at - v_at) / 3600, 1) END));
END
$$;
COMMENT ON FUNCTION crm._usage(bigint, timestamptz) IS 'Internal: the parts usage and journey of the feature document, from the behaviour log of a customer.';

CREATE OR REPLACE FUNCTION crm._features(object text, id bigint, at timestamptz, paths text DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    o crm_data.opportunity;
    a crm_data.account;
    v_account bigint;
    v_deal bigint;
    v_contract bigint;
    v_rivals text[];
    doc jsonb := '{}';
    -- a path that may reach everything without naming it gets everything
    v_all boolean := paths IS NULL OR paths ~ '[*\\]|keyvalue|\$\s*(\[|$)';
BEGIN
    IF object = 'opportunity' THEN
        SELECT * INTO o FROM crm_data.opportunity AS x WHERE x.id = id;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        v_deal := id;
        v_account := o.account_id;
    ELSIF object = 'account' THEN
        v_account := id;
    ELSIF object = 'lead' THEN
        RETURN (SELECT jsonb_build_object('lead', crm._lead_document(l)) FROM crm_data.lead AS l WHERE l.id = id);
    ELSIF object = 'contract' THEN
        SELECT c.account_id, c.opportunity_id INTO v_account, v_deal FROM crm_data.contract AS c WHERE c.id = id;
    ELSE
        RETURN NULL;
    END IF;
    SELECT * INTO a FROM crm_data.account AS x WHERE x.id = v_account;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    IF object = 'opportunity' THEN
        doc := jsonb_build_object('opportunity', to_jsonb(o) - 'field_version' - 'last_hash' || (
            SELECT jsonb_build_object('stage', s.code, 'stage_seq', s.seq, 'stage_age_days', round(extract(epoch FROM at - o.stage_entered_at) / 86400, 2),
                       'days_since_contact', round(extract(epoch FROM at - coalesce(o.last_contact_at, o.created_at)) / 86400, 2),
                       'days_since_demo', (SELECT round(extract(epoch FROM at - max(h.entered_at)) / 86400, 2) FROM crm_data.stage_history AS h JOIN crm_data.stage AS d ON d.id = h.to_stage_id WHERE h.opportunity_id = id AND d.code = 'demo'),
                       'days_to_close', o.close_date - at::date,
                       'quote_unviewed_workdays', CASE WHEN o.quote_sent_at IS NOT NULL AND o.quote_viewed_at IS NULL THEN crm._workdays(o.quote_sent_at, at) ELSE 0 END,
                       'regressions_30d', (SELECT count(*) FROM crm_data.stage_history AS h JOIN crm_data.stage AS f ON f.id = h.from_stage_id JOIN crm_data.stage AS t ON t.id = h.to_stage_id
                                            WHERE h.opportunity_id = id AND t.seq < f.seq AND h.entered_at > at - interval '30 days'),
                       'amount_change_pct_30d', (SELECT round(100 * (o.amount - h.amount) / nullif(h.amount, 0), 1) FROM crm_data.stage_history AS h WHERE h.opportunity_id = id AND h.entered_at <= at - interval '30 days' ORDER BY h.entered_at DESC LIMIT 1))
              FROM crm_data.stage AS s WHERE s.id = o.stage_id));
        doc := doc || jsonb_build_object(
            'actions', (SELECT jsonb_build_object('open_mandatory', count(*) FILTER (WHERE t.state = 'open' AND t.mandatory), 'overdue', count(*) FILTER (WHERE t.state = 'open' AND t.due_at < at),
                                                  'overdue_hours', coalesce(round(max(extract(epoch FROM at - t.due_at) / 3600) FILTER (WHERE t.state = 'open' AND t.due_at < at), 1), 0), 'waived', count(*) FILTER (WHERE t.state = 'waived'))
                          FROM crm_data.task AS t WHERE t.object = 'opportunity' AND t.record_id = id AND t.kind = 'stage_action'),
            'decision_chain', (SELECT jsonb_build_object('decision_makers', count(*) FILTER (WHERE c.role = 'decision_maker'), 'champions', count(*) FILTER (WHERE c.stance = 'champion'),
                                                         'opponents', count(*) FILTER (WHERE c.stance = 'opponent'),
                                                         'lost_30d', count(*) FILTER (WHERE k.merged_into IS NULL AND (k.deleted_at BETWEEN at - interval '30 days' AND at
                                                                                             OR crm.parse_time(k.attrs ->> 'left_on') BETWEEN at - interval '30 days' AND at)))
                                  FROM crm_data.opportunity_contact AS c JOIN crm_data.contact AS k ON k.id = c.contact_id WHERE c.opportunity_id = id),
            'line_items', (SELECT jsonb_build_object('count', count(*), 'discount_pct', coalesce(max(l.discount_pct), 0)) FROM crm_data.line_item AS l WHERE l.opportunity_id = id),
            'progress', (SELECT coalesce(jsonb_agg(DISTINCT i.progress), '[]') FROM crm_data.interaction AS i WHERE i.opportunity_id = id AND i.progress IS NOT NULL AND i.retracted_at IS NULL),
            'forms', coalesce(o.attrs -> 'forms', '{}'));
    END IF;

    IF v_all OR position('account' IN paths) > 0 THEN
        doc := doc || jsonb_build_object('account', to_jsonb(a) - 'field_version' - 'last_hash' || jsonb_build_object(
            'days_since_contact', round(extract(epoch FROM at - coalesce(a.last_contact_at, a.created_at)) / 86400, 2), 'days_to_renewal', a.next_renewal_on - at::date,
            'open_opportunities', (SELECT count(*) FROM crm_data.opportunity AS x WHERE x.account_id = v_account AND x.outcome = 'open' AND x.deleted_at IS NULL),
            'open_cases', (SELECT count(*) FROM crm_data.task AS t WHERE t.account_id = v_account AND t.kind = 'case' AND t.state = 'open'),
            'complaints_90d', (SELECT count(*) FROM crm_data.task AS t WHERE t.account_id = v_account AND t.kind = 'case' AND t.created_at > at - interval '90 days'),
            'overdue_days', (SELECT coalesce(max(at::date - p.due_on), 0) FROM crm_data.payment_plan AS p WHERE p.account_id = v_account AND p.paid_on IS NULL AND p.due_on < at::date),
            'receivable', CASE WHEN EXISTS (SELECT FROM crm_data.payment_plan AS p WHERE p.account_id = v_account AND p.paid_on IS NULL AND p.due_on < at::date - 30) THEN 'red'
                               WHEN EXISTS (SELECT FROM crm_data.payment_plan AS p WHERE p.account_id = v_account AND p.paid_on IS NULL AND p.due_on < at::date) THEN 'yellow' ELSE 'green' END));
    END IF;
    IF v_all OR position('contacts' IN paths) > 0 THEN
        doc := doc || jsonb_build_object('contacts', (SELECT jsonb_build_object('count', count(*), 'by_role', coalesce((SELECT jsonb_object_agg(r.role, jsonb_build_object('count', r.n, 'days_silent', r.silent, 'open_questions', r.questions))
                        FROM (SELECT c.role_in_decision AS role, count(*) AS n, round(min(extract(epoch FROM at - coalesce(c.last_contact_at, c.created_at))) / 86400, 2) AS silent,
                                     coalesce(sum((SELECT sum(oc.open_questions) FROM crm_data.opportunity_contact AS oc WHERE oc.contact_id = c.id AND (v_deal IS NULL OR oc.opportunity_id = v_deal))), 0) AS questions
                                FROM crm_data.contact AS c WHERE c.account_id = v_account AND c.role_in_decision IS NOT NULL AND c.deleted_at IS NULL GROUP BY 1) AS r), '{}'))
                       FROM crm_data.contact AS c WHERE c.account_id = v_account AND c.deleted_at IS NULL AND c.merged_into IS NULL));
    END IF;
    IF v_all OR position('interactions' IN paths) > 0 THEN
        v_rivals := CASE WHEN object = 'opportunity' THEN array_remove(ARRAY[o.competitor], NULL)
                         ELSE ARRAY(SELECT DISTINCT x.competitor FROM crm_data.opportunity AS x WHERE x.account_id = v_account AND x.outcome = 'open' AND x.competitor IS NOT NULL AND x.deleted_at IS NULL) END;
        doc := doc || jsonb_build_object('interactions', (SELECT jsonb_build_object('count', count(*), 'kinds', coalesce((SELECT jsonb_object_agg(k.kind, k.n) FROM (SELECT i.kind, count(*) AS n FROM crm_data.interaction AS i
                                   WHERE i.account_id = v_account AND (v_deal IS NULL OR i.opportunity_id = v_deal) AND i.retracted_at IS NULL AND i.occurred_at <= at GROUP BY 1) AS k), '{}'),
                            'inbound_14d', count(*) FILTER (WHERE i.direction = 'in' AND i.occurred_at > at - interval '14 days'),
                            'reply_hours_30d', coalesce(max(crm.parse_number(i.detail ->> 'reply_hours')) FILTER (WHERE i.direction IS DISTINCT FROM 'out' AND i.occurred_at > at - interval '30 days'), 0),
                            'without_next_step_30d', count(*) FILTER (WHERE i.kind = 'meeting' AND i.next_step IS NULL AND i.occurred_at > at - interval '30 days'),
                            'quality', round(avg(i.quality) FILTER (WHERE i.occurred_at > at - interval '30 days'), 1),
                            'quality_drop', coalesce(round(avg(i.quality) FILTER (WHERE i.occurred_at BETWEEN at - interval '60 days' AND at - interval '30 days') - avg(i.quality) FILTER (WHERE i.occurred_at > at - interval '30 days'), 1), 0),
                            'keyword_hits_7d', count(*) FILTER (WHERE i.occurred_at > at - interval '7 days' AND crm._keyword_hits(concat_ws(' ', i.summary, i.body)) > 0),
                            'budget_wait_mentions', count(*) FILTER (WHERE concat_ws(' ', i.summary, i.body) LIKE '%等待年度预算批复%'),
                            'competitor_mentions_30d', count(*) FILTER (WHERE i.occurred_at > at - interval '30 days' AND EXISTS (SELECT FROM unnest(v_rivals) AS r WHERE position(lower(r) IN lower(concat_ws(' ', i.summary, i.body))) > 0)))
                           FROM crm_data.interaction AS i WHERE i.account_id = v_account AND (v_deal IS NULL OR i.opportunity_id = v_deal) AND i.retracted_at IS NULL AND i.occurred_at <= at));
    END IF;
    IF v_all OR position('attachments' IN paths) > 0 THEN
        doc := doc || jsonb_build_object('attachments', (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', t.kind, 'name', t.name, 'signed_by_customer', t.signed_by_customer, 'legal_reviewed_at', t.legal_reviewed_at) ORDER BY t.id), '[]')
                          FROM crm_data.attachment AS t WHERE t.retracted_at IS NULL AND ((v_deal IS NOT NULL AND t.object = 'opportunity' AND t.record_id = v_deal) OR (v_deal IS NULL AND t.account_id = v_account))));
    END IF;
    IF v_all OR position('contract' IN paths) > 0 THEN
        -- which one, by statements that are planned once each
        IF object = 'contract' THEN
            v_contract := id;
        ELSIF v_deal IS NOT NULL THEN
            SELECT c.id INTO v_contract FROM crm_data.contract AS c WHERE c.opportunity_id = v_deal AND c.deleted_at IS NULL ORDER BY c.expires_on DESC NULLS LAST, c.id DESC LIMIT 1;
        ELSE
            SELECT c.id INTO v_contract FROM crm_data.contract AS c WHERE c.account_id = v_account AND c.deleted_at IS NULL ORDER BY c.expires_on DESC NULLS LAST, c.id DESC LIMIT 1;
        END IF;
        doc := doc || jsonb_build_object('contract', (SELECT to_jsonb(c) - 'field_version' - 'last_hash' || jsonb_build_object('days_to_expiry', c.expires_on - at::date,
                            'approval_stuck_workdays', CASE WHEN c.approval_since IS NOT NULL AND c.state IN ('draft', 'review') THEN crm._workdays(c.approval_since, at) ELSE 0 END,
                            'payment_points', (SELECT count(*) FROM crm_data.payment_plan AS p WHERE p.contract_id = c.id),
                            'overdue_points', (SELECT count(*) FROM crm_data.payment_plan AS p WHERE p.contract_id = c.id AND p.paid_on IS NULL AND p.due_on < at::date),
                            'amount_base', crm._in_base(c.amount, c.currency, at))
                       FROM crm_data.contract AS c WHERE c.id = v_contract AND c.deleted_at IS NULL));
    END IF;
    IF v_all OR position('owner' IN paths) > 0 THEN
        doc := doc || jsonb_build_object('owner', (SELECT jsonb_build_object('left', m.left_at IS NOT NULL AND m.left_at <= at::date, 'open_tasks', (SELECT count(*) FROM crm_data.task AS t WHERE t.owner_id = m.id AND t.state = 'open'))
                    FROM crm_data.member AS m WHERE m.id = coalesce(o.owner_id, a.owner_id)));
    END IF;
    IF v_all OR paths ~ 'usage|journey' THEN
        doc := doc || crm._usage(v_account, at);
    END IF;
    RETURN doc;
END
$$;
COMMENT ON FUNCTION crm._features(text, bigint, timestamptz, text) IS 'Internal: the feature document of a record as of an instant; NULL for an unknown object or record. paths: conditions that are to be decided: only the parts that they name are made, NULL for all.';

CREATE OR REPLACE FUNCTION crm._keyword_hits(value text) RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*)::int FROM jsonb_array_elements_text(crm._setting('emotion.keywords', '[]')::jsonb) AS k WHERE position(k IN coalesce(value, '')) > 0
$$;
COMMENT ON FUNCTION crm._keyword_hits(text) IS 'Internal: how many of the words of emotion.keywords a text holds; Chinese has no blanks between words, so any place counts.';

CREATE OR REPLACE FUNCTION crm.features(object text, id bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    doc jsonb := crm._features(object, id, now());
BEGIN
    IF doc IS NULL THEN
        RAISE EXCEPTION 'there is no % %', object, id USING ERRCODE = 'no_data_found', HINT = 'Feature documents exist for opportunity, account, lead and contract.';
    END IF;
    RETURN doc;
END
$$;
COMMENT ON FUNCTION crm.features(text, bigint) IS
'The feature document of a record: what conditions (jsonpath) of rules, signals and stage actions see. Its columns under the object''s name, and beside them counts and ages of contacts, follow-ups, actions, attachments, the contract, the owner, use of the product and the journey; counts are 0 and never absent.
object: opportunity, account, lead or contract. Errors: P0002 no such record.';
