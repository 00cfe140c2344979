-- Rules and risk signals as they are shipped. A sample of the feature document on each side of every threshold.
CREATE FUNCTION pg_temp.holds(rule_kind text, rule_key text, doc jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT jsonb_path_exists(doc, (c.body ->> 'when')::jsonpath,
                             coalesce((SELECT jsonb_object_agg(v.key, s.body -> 'value') FROM jsonb_each_text(c.body -> 'settings') AS v JOIN crm_data.config AS s ON s.kind = 'setting' AND s.key = v.value AND s.status = 'active'), '{}'))
    FROM crm_data.config AS c WHERE c.kind = rule_kind AND c.key = rule_key AND c.status = 'active'
$$;
SELECT count(*) AS signals, count(*) = (SELECT (body -> 'value')::int FROM crm_data.config WHERE kind = 'setting' AND key = 'risk.signals') AS as_the_setting_says,
       min((body -> 'weight')::int) AS lightest, max((body -> 'weight')::int) AS heaviest
FROM crm_data.config WHERE kind = 'risk_signal' AND status = 'active';
-- shape: what every rule must have, actions that the engine knows, settings that exist
SELECT kind, key FROM crm_data.config
WHERE kind IN ('rule', 'risk_signal') AND (NOT body ?& ARRAY['on', 'when', 'then', 'en', 'zh'] OR jsonb_array_length(body -> 'then') = 0 OR (kind = 'risk_signal' AND NOT body ? 'weight'))
ORDER BY 1, 2;
SELECT c.kind, c.key, a.action ->> 'do' AS unknown
FROM crm_data.config AS c, jsonb_array_elements(c.body -> 'then') AS a (action)
WHERE c.kind IN ('rule', 'risk_signal') AND a.action ->> 'do' NOT IN ('task', 'tag', 'ticket', 'message', 'alert', 'hold_discount', 'assign', 'set', 'interaction', 'signal_tasks', 'chain')
ORDER BY 1, 2, 3;
SELECT c.kind, c.key, s.value #>> '{}' AS unknown
FROM crm_data.config AS c
CROSS JOIN LATERAL (SELECT value FROM jsonb_path_query(c.body, '$.settings.*') AS value UNION ALL SELECT value FROM jsonb_path_query(c.body, 'strict $.**.setting') AS value) AS s
WHERE c.kind IN ('rule', 'risk_signal') AND NOT EXISTS (SELECT FROM crm_data.config AS x WHERE x.kind = 'setting' AND x.key = s.value #>> '{}')
ORDER BY 1, 2, 3;
SELECT c.kind, c.key, v.name AS variable_without_setting
FROM crm_data.config AS c, regexp_matches(c.body ->> 'when', '\$([a-z]+)', 'g') AS m (name), unnest(m.name) AS v (name)
WHERE c.kind IN ('rule', 'risk_signal') AND NOT coalesce(c.body -> 'settings' ? v.name, false)
ORDER BY 1, 2;
SELECT c.key, a.action ->> 'tag' AS unknown_tag FROM crm_data.config AS c, jsonb_array_elements(c.body -> 'then') AS a (action)
WHERE c.kind = 'rule' AND a.action ? 'tag' AND NOT EXISTS (SELECT FROM crm_data.config AS t WHERE t.kind = 'tag' AND t.key = a.action ->> 'tag');
SELECT c.key, a.action ->> 'rule' AS unknown_rule FROM crm_data.config AS c, jsonb_array_elements(c.body -> 'then') AS a (action)
WHERE c.kind = 'rule' AND a.action ->> 'do' = 'chain' AND NOT EXISTS (SELECT FROM crm_data.config AS t WHERE t.kind = 'rule' AND t.key = a.action ->> 'rule');
-- both sides of every threshold
CREATE TEMP TABLE sample (kind text, key text, yes jsonb, no jsonb);
INSERT INTO sample VALUES
    ('risk_signal', 'technical_contact_silent', '{"contacts": {"by_role": {"technical": {"days_silent": 8}}}}', '{"contacts": {"by_role": {"technical": {"days_silent": 7}}}}'),
    ('risk_signal', 'legal_edits', '{"contract": {"legal_edits": 4}}', '{"contract": {"legal_edits": 3}}'),
    ('risk_signal', 'approval_stuck', '{"contract": {"approval_stuck_workdays": 6}}', '{"contract": {"approval_stuck_workdays": 5}}'),
    ('risk_signal', 'quote_unviewed', '{"opportunity": {"quote_unviewed_workdays": 5}}', '{"opportunity": {"quote_unviewed_workdays": 4}}'),
    ('risk_signal', 'open_questions', '{"contacts": {"by_role": {"technical": {"open_questions": 3}}}}', '{"contacts": {"by_role": {"technical": {"open_questions": 2}}}}'),
    ('risk_signal', 'budget_waiting', '{"interactions": {"budget_wait_mentions": 3}}', '{"interactions": {"budget_wait_mentions": 2}}'),
    ('risk_signal', 'negative_words', '{"interactions": {"keyword_hits_7d": 2}}', '{"interactions": {"keyword_hits_7d": 1}}'),
    ('risk_signal', 'stage_stalled', '{"opportunity": {"stage_age_days": 16}}', '{"opportunity": {"stage_age_days": 15}}'),
    ('risk_signal', 'actions_open', '{"opportunity": {"stage_age_days": 16}, "actions": {"open_mandatory": 2}}', '{"opportunity": {"stage_age_days": 16}, "actions": {"open_mandatory": 1}}'),
    ('risk_signal', 'action_overdue', '{"actions": {"overdue": 1}}', '{"actions": {"overdue": 0}}'),
    ('risk_signal', 'silent_week', '{"opportunity": {"days_since_contact": 8}}', '{"opportunity": {"days_since_contact": 7}}'),
    ('risk_signal', 'silent_month', '{"opportunity": {"days_since_contact": 31}}', '{"opportunity": {"days_since_contact": 30}}'),
    ('risk_signal', 'close_date_past', '{"opportunity": {"days_to_close": -1}}', '{"opportunity": {"days_to_close": 0}}'),
    ('risk_signal', 'close_date_pushed', '{"opportunity": {"slip_count": 2}}', '{"opportunity": {"slip_count": 1}}'),
    ('risk_signal', 'stage_regressed', '{"opportunity": {"regressions_30d": 1}}', '{"opportunity": {"regressions_30d": 0}}'),
    ('risk_signal', 'demo_without_signature', '{"opportunity": {"days_since_demo": 31}}', '{"opportunity": {"days_since_demo": null}}'),
    ('risk_signal', 'no_decision_maker', '{"opportunity": {"stage_seq": 4}, "decision_chain": {"decision_makers": 0}}', '{"opportunity": {"stage_seq": 3}, "decision_chain": {"decision_makers": 0}}'),
    ('risk_signal', 'single_thread', '{"opportunity": {"stage_seq": 3}, "contacts": {"count": 1}}', '{"opportunity": {"stage_seq": 3}, "contacts": {"count": 2}}'),
    ('risk_signal', 'key_person_lost', '{"decision_chain": {"lost_30d": 1}}', '{"decision_chain": {"lost_30d": 0}}'),
    ('risk_signal', 'opponent', '{"decision_chain": {"opponents": 1}}', '{"decision_chain": {"opponents": 0}}'),
    ('risk_signal', 'competitor_active', '{"interactions": {"competitor_mentions_30d": 2}}', '{"interactions": {"competitor_mentions_30d": 1}}'),
    ('risk_signal', 'amount_cut', '{"opportunity": {"amount_change_pct_30d": -21}}', '{"opportunity": {"amount_change_pct_30d": -20}}'),
    ('risk_signal', 'discount_pressure', '{"opportunity": {"discount_pct": 15.5}}', '{"opportunity": {"discount_pct": 15}}'),
    ('risk_signal', 'slow_answers', '{"interactions": {"reply_hours_30d": 49}}', '{"interactions": {"reply_hours_30d": null}}'),
    ('risk_signal', 'no_next_step', '{"interactions": {"without_next_step_30d": 2}}', '{"interactions": {"without_next_step_30d": 1}}'),
    ('risk_signal', 'quality_drop', '{"interactions": {"quality_drop": 21}}', '{"interactions": {"quality_drop": 20}}'),
    ('risk_signal', 'account_trouble', '{"account": {"receivable": "green", "open_cases": 1}}', '{"account": {"receivable": "yellow", "open_cases": 0}}'),
    ('rule', 'emotion_escalation', '{"event": {"keyword_hits": 1}}', '{"event": {"keyword_hits": 0}}'),
    ('rule', 'call_auto_log', '{"event": {"connected": true, "seconds": 91}}', '{"event": {"connected": true, "seconds": 90}}'),
    ('rule', 'file_sent', '{"event": {"file_name": "a.pdf"}}', '{"event": {"file_name": null}}'),
    ('rule', 'transcript_late', '{"event": {"kind": "meeting", "summary": null, "age_minutes": 6}}', '{"event": {"kind": "meeting", "summary": "done", "age_minutes": 6}}'),
    ('rule', 'followup_manager', '{"account": {"days_since_contact": 8, "owner_id": 1}}', '{"account": {"days_since_contact": 7, "owner_id": 1}}'),
    ('rule', 'followup_alert', '{"account": {"days_since_contact": 31}}', '{"account": {"days_since_contact": 30}}'),
    ('rule', 'competitor_move', '{"interactions": {"competitor_mentions_30d": 2}}', '{"interactions": {"competitor_mentions_30d": 1}}'),
    ('rule', 'csat_case', '{"event": {"kind": "survey", "satisfaction": 2}}', '{"event": {"kind": "survey", "satisfaction": 3}}'),
    ('rule', 'task_overdue', '{"event": {"kind": "stage_action"}}', '{"event": {"kind": "first_touch"}}'),
    ('rule', 'revisit_after_event', '{}', NULL),
    ('rule', 'revisit_after_delivery', '{}', NULL),
    ('rule', 'renewal_window', '{"contract": {"days_to_expiry": 90}}', '{"contract": {"days_to_expiry": 91}}'),
    ('rule', 'high_intent', '{"event": {"page": "/报价", "dwell": 61}}', '{"event": {"page": "/about", "dwell": 61}}'),
    ('rule', 'large_order', '{"contract": {"amount_base": 500000}}', '{"contract": {"amount_base": 499999.99}}'),
    ('rule', 'new_customer', '{"account": {"lifecycle": "customer"}, "event": {"old": {"lifecycle": "prospect"}}}', '{"account": {"lifecycle": "customer"}, "event": {"old": {"lifecycle": "dormant"}}}'),
    ('rule', 'welcome_gift', '{}', NULL),
    ('rule', 'risk_yellow', '{"opportunity": {"risk_score": 61, "risk_level": "yellow"}}', '{"opportunity": {"risk_score": 60, "risk_level": "green"}}'),
    ('rule', 'risk_orange', '{"opportunity": {"risk_score": 81, "risk_level": "orange"}}', '{"opportunity": {"risk_score": 80, "risk_level": "yellow"}}'),
    ('rule', 'risk_red', '{"opportunity": {"risk_score": 96, "risk_level": "red"}}', '{"opportunity": {"risk_score": 95, "risk_level": "orange"}}'),
    ('rule', 'risk_over', '{"opportunity": {"discount_hold": true, "risk_level": "yellow"}}', '{"opportunity": {"discount_hold": true, "risk_level": "orange"}}'),
    ('rule', 'info_health_low', '{"account": {"info_health": 79}}', '{"account": {"info_health": 80}}'),
    ('rule', 'journey_stall', '{"journey": {"node": "api", "hours": 49}}', '{"journey": {"node": "api", "hours": 48}}'),
    ('rule', 'docs_dwell', '{"event": {"minutes": 16}}', '{"event": {"minutes": 15}}'),
    ('rule', 'balance_low', '{"event": {"value": 999}}', '{"event": {"value": 1000}}'),
    ('rule', 'ticket_architect', '{"usage": {"tickets_technical": 5}}', '{"usage": {"tickets_technical": 4}}'),
    ('rule', 'write_conflict', '{}', NULL);
SELECT coalesce(c.kind, s.kind) AS kind, coalesce(c.key, s.key) AS key, pg_temp.holds(s.kind, s.key, s.yes) AS yes, pg_temp.holds(s.kind, s.key, s.no) AS no
FROM sample AS s FULL JOIN (SELECT kind, key FROM crm_data.config WHERE kind IN ('rule', 'risk_signal') AND status = 'active') AS c USING (kind, key)
WHERE s.key IS NULL OR c.key IS NULL OR pg_temp.holds(s.kind, s.key, s.yes) IS NOT TRUE OR pg_temp.holds(s.kind, s.key, s.no) IS TRUE
ORDER BY 1, 2;
-- a missing field is never a match
SELECT c.kind, c.key FROM crm_data.config AS c
WHERE c.kind IN ('rule', 'risk_signal') AND c.body ->> 'when' <> '$' AND pg_temp.holds(c.kind, c.key, '{}')
ORDER BY 1, 2;
-- a figure stands in one place: another setting, another answer
BEGIN;
UPDATE crm_data.config SET body = body || '{"value": 10}' WHERE kind = 'setting' AND key = 'risk.legal_edits';
SELECT pg_temp.holds('risk_signal', 'legal_edits', '{"contract": {"legal_edits": 4}}') AS holds;
ROLLBACK;
