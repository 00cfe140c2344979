-- Default configuration as it is shipped. Lists of offenders are empty.
-- every figure of the incident reports is a setting
SELECT k.key AS missing
FROM unnest(ARRAY['stage.actions.min', 'stage.actions.max', 'action.overdue.quote_sent', 'stage.stall_days', 'stalled.open_actions', 'credibility.yellow_below',
    'credibility.window', 'write_lease.ttl', 'write.conflict_window', 'reconcile.core_fields', 'reconcile.day_of_month', 'report.deviation.day', 'report.bottleneck.cron',
    'report.heatmap.period', 'service.recent_summaries', 'dedup.strong_key', 'attribution.touchpoints', 'emotion.keywords', 'emotion.threshold', 'renewal.window',
    'demo.no_sign_days', 'tag.effective_within', 'legacy.default_prob.demo', 'sync.max_age_filter', 'retry.batch', 'call.auto_log_over', 'transcript.sla',
    'role.max_inherit_depth', 'sandbox.days', 'interaction.lock_after', 'snapshot.cron', 'light.fields', 'offline.templates', 'brief.daily.cron', 'followup.alert_days',
    'client.upgrade_deadline', 'board.top_todos', 'followup.manager_days', 'csat.case_below', 'config.reviewers', 'report.check', 'field.review', 'team_performance.cron',
    'lead.context_dims', 'lead.assign_within', 'lead.first_touch', 'scripts.count', 'info_health.task_below', 'risk.signals', 'risk.yellow', 'risk.orange', 'risk.red',
    'risk.contact_silent', 'risk.legal_edits', 'risk.approval_stuck', 'touch.reply_full_marks', 'risk.actions', 'risk.hours', 'quote.unviewed', 'tech.open_questions',
    'budget.wait_mentions', 'consistency.alert', 'rule.canary_pct', 'rule.canary_hours', 'rule.canary_anomalies', 'journey.stall', 'renewal.activity_window', 'docs.dwell',
    'tickets.architect_at', 'revisit.after_event', 'model.retrain', 'model.nominal_accuracy', 'scv.cadence', 'health.report']) AS k (key)
WHERE NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'setting' AND c.key = k.key AND c.status = 'active')
ORDER BY 1;
SELECT key FROM crm_data.config WHERE kind = 'setting' AND NOT body ?& ARRAY['value', 'source', 'description'] ORDER BY key;
-- every setting says what it means and in what unit, a number also in what range, which its value is in; every metric has a name and what it counts by
SELECT key FROM crm_data.config WHERE kind = 'setting' AND author = 'crm' AND (length(body ->> 'description') < 15 OR coalesce(body ->> 'unit', '') = '' OR jsonb_typeof(body -> 'value') = 'number' AND NOT coalesce((body ->> 'value')::numeric BETWEEN (body ->> 'min')::numeric AND (body ->> 'max')::numeric, false)) ORDER BY key;
SELECT key FROM crm_data.config WHERE kind = 'metric' AND author = 'crm' AND ('' IN (coalesce(body ->> 'en', ''), coalesce(body ->> 'zh', ''), coalesce(body ->> 'fact', ''), coalesce(body ->> 'measure', ''))) ORDER BY key;
-- the thresholds that decide something, with their comparison
SELECT key, body ->> 'compare' AS compare, body -> 'value' AS value, body ->> 'unit' AS unit
FROM crm_data.config
WHERE kind = 'setting' AND key IN ('action.overdue.quote_sent', 'stage.stall_days', 'credibility.yellow_below', 'emotion.threshold', 'call.auto_log_over', 'interaction.lock_after',
    'followup.alert_days', 'followup.manager_days', 'csat.case_below', 'lead.first_touch', 'info_health.task_below', 'risk.yellow', 'risk.orange', 'risk.red',
    'risk.legal_edits', 'risk.approval_stuck', 'tech.open_questions', 'budget.wait_mentions', 'consistency.alert', 'journey.stall', 'tickets.architect_at')
ORDER BY key;
-- whatever is active has been approved by somebody else and is in force
SELECT kind, key FROM crm_data.config WHERE status = 'active' AND (approver IS NULL OR approver = author OR valid IS NULL) ORDER BY 1, 2;
-- every condition is a jsonpath
SELECT c.kind, c.key, p.path #>> '{}' AS path
FROM crm_data.config AS c
CROSS JOIN LATERAL jsonb_path_query(c.body, 'strict $.**.when ? (@.type() == "string")') AS p (path)
WHERE (p.path #>> '{}')::jsonpath IS NULL;
SELECT c.kind, c.key, p.path #>> '{}' AS path
FROM crm_data.config AS c
CROSS JOIN LATERAL jsonb_path_query(c.body, 'strict $.**.evidence ? (@.type() == "string")') AS p (path)
WHERE (p.path #>> '{}')::jsonpath IS NULL;
-- stages and their actions: three to five, each mandatory one with evidence
SELECT s.seq, s.code, s.outcome, s.default_probability, s.category, jsonb_array_length(c.body -> 'actions') AS actions
FROM crm_data.stage AS s
JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id AND p.code = 'standard' AND p.is_default
LEFT JOIN crm_data.config AS c ON c.kind = 'stage' AND c.key = p.code || '/' || s.code
ORDER BY s.seq;
SELECT c.key, a.action ->> 'key' AS action
FROM crm_data.config AS c, jsonb_array_elements(c.body -> 'actions') AS a (action)
WHERE c.kind = 'stage' AND NOT a.action ?& ARRAY['key', 'en', 'zh', 'mandatory', 'due', 'evidence'] ORDER BY 1, 2;
-- counts that the reports name
SELECT (SELECT jsonb_array_length(body -> 'values') FROM crm_data.config WHERE kind = 'picklist' AND key = 'key_progress') AS key_progress,
       (SELECT count(*) FROM crm_data.config WHERE kind = 'touch_preset') AS touch_presets,
       (SELECT jsonb_array_length(body -> 'fields') FROM crm_data.config WHERE kind = 'field_map' AND key = 'core') AS core_fields,
       (SELECT jsonb_array_length(body -> 'touchpoints') FROM crm_data.config WHERE kind = 'attribution' AND key = 'default') AS touchpoints,
       (SELECT jsonb_array_length(body -> 'fields') FROM crm_data.config WHERE kind = 'form' AND key = 'account.light') AS light_fields,
       (SELECT jsonb_array_length(body -> 'context') FROM crm_data.config WHERE kind = 'form' AND key = 'lead.capture') AS context_keys,
       (SELECT jsonb_array_length(body -> 'nodes') FROM crm_data.config WHERE kind = 'journey' AND key = 'onboarding') AS journey_nodes,
       (SELECT count(*) FROM crm_data.config WHERE kind = 'script') AS scripts,
       (SELECT jsonb_array_length(body -> 'dims') FROM crm_data.config WHERE kind = 'odds' AND key = 'win') AS odds_dims,
       (SELECT body -> 'weights' FROM crm_data.config WHERE kind = 'credibility') AS credibility,
       (SELECT body #>> '{routes,-1,when}' FROM crm_data.config WHERE kind = 'assignment' AND key = 'default') AS last_route;
-- policies: one of each for every group role, naming only classes, fields and objects that exist
SELECT r.role, k.kind
FROM unnest(ARRAY['crm_admin', 'crm_steward', 'crm_sales', 'crm_manager', 'crm_director', 'crm_service', 'crm_finance', 'crm_legal', 'crm_marketing', 'crm_risk', 'crm_sync', 'crm_bi']) AS r (role)
CROSS JOIN unnest(ARRAY['field_policy', 'row_policy', 'permission']) AS k (kind)
WHERE NOT EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = k.kind AND c.key = r.role AND c.status = 'active' AND c.body ->> 'role' = r.role)
ORDER BY 1, 2;
SELECT c.key, e.key AS unknown
FROM crm_data.config AS c
CROSS JOIN unnest(ARRAY['read', 'write', 'export']) AS v (verb)
CROSS JOIN LATERAL (SELECT key, value FROM jsonb_each_text(coalesce(c.body -> v.verb -> 'classes', '{}'))
                    UNION ALL SELECT key, value FROM jsonb_each_text(coalesce(c.body -> v.verb -> 'fields', '{}'))) AS e
WHERE c.kind = 'field_policy'
    AND (e.value NOT IN ('never', 'mask', 'own', 'team', 'always')
         OR NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.class = e.key OR f.object || '.' || f.name = e.key))
ORDER BY 1, 2;
SELECT c.key, e.key AS unknown
FROM crm_data.config AS c
CROSS JOIN LATERAL jsonb_each_text(c.body -> 'masks') AS e
WHERE c.kind = 'field_policy' AND NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.class = e.key OR f.object || '.' || f.name = e.key)
ORDER BY 1, 2;
SELECT c.kind, c.key, e.value ->> 'object' AS unknown
FROM crm_data.config AS c
CROSS JOIN LATERAL jsonb_array_elements(coalesce(c.body -> 'rows', c.body -> 'ops')) AS e (value)
WHERE c.kind IN ('row_policy', 'permission')
    AND (e.value ->> 'object' NOT IN ('*', 'report') AND NOT EXISTS (SELECT FROM crm_data.field AS f WHERE f.object = e.value ->> 'object')
         OR e.value ->> 'scope' IS NULL OR e.value ->> 'scope' NOT IN ('own', 'team', 'subtree', 'region', 'all'))
ORDER BY 1, 2, 3;
-- what the service desk, finance and sales see of the two fields that divide them
SELECT c.key AS role, c.body #>> '{read,classes,sales}' AS sales, c.body #>> '{read,classes,service}' AS service, c.body #>> '{read,classes,finance}' AS finance
FROM crm_data.config AS c WHERE c.kind = 'field_policy' AND c.key IN ('crm_sales', 'crm_service', 'crm_finance') ORDER BY 1;
-- when the jobs of the reports are due
SELECT name, cadence, offset_, tz, catch_up FROM crm_data.job
WHERE name IN ('bottleneck_brief', 'morning_brief', 'field_map_check', 'deviation', 'monthly_snapshot', 'team_performance', 'field_review') ORDER BY name;
-- sources of the three chat tools are on
SELECT name, enabled FROM crm_data.source_system WHERE name IN ('wechat_service', 'wecom_archive', 'dingtalk_approval') ORDER BY name;

-- every setting is read by a function or a rule, or tells where its figure is decided; these are read by the C code or by a name that is put together
SELECT c.key FROM crm_data.config AS c
 WHERE c.kind = 'setting' AND NOT c.body ? 'decided_by'
   AND NOT EXISTS (SELECT FROM pg_proc AS p WHERE p.pronamespace = 'crm'::regnamespace AND p.prolang <> (SELECT l.oid FROM pg_language AS l WHERE l.lanname = 'c')
                      AND position(quote_literal(c.key) IN CASE WHEN p.prosqlbody IS NULL THEN p.prosrc ELSE pg_get_functiondef(p.oid) END) > 0)
   AND NOT EXISTS (SELECT FROM crm_data.config AS r WHERE r.kind <> 'setting' AND position(to_json(c.key)::text IN r.body::text) > 0) ORDER BY 1;
