-- Default configuration: settings, picklists, policies, the standard pipeline, mapping and survivorship, routing, models, jobs. Rules and risk signals follow in a
-- file of their own. Every row is version 1 and active: written by crm, approved by the release, in force since ever, and replaced by later versions like any other.

-- A setting is {value, unit, min, max, compare, source, description}: min and max are the range of a number, by its unit where the setting has none of its own; compare
-- says how a figure is compared with the threshold, source names the document the figure comes from (s0 to s4 are the incident reports behind the product, design is a
-- decision of its own). decided_by tells of a figure that is looked for here where it is really decided: it cannot be changed here.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'setting', v.key, 1,
       jsonb_strip_nulls(jsonb_build_object('unit', v.unit, 'compare', v.compare, 'source', v.source, 'description', v.description))
           || jsonb_build_object('value', v.value::jsonb)
           || CASE WHEN jsonb_typeof(v.value::jsonb) = 'number' THEN
                  (SELECT jsonb_build_object('min', r.low, 'max', r.high)
                     FROM (VALUES ('role.max_inherit_depth', 0, 9), ('access.min_group', 2, 1000000), ('rule.canary_pct', 0, 50), ('outbox.claim', 5, 3600), ('circuit.failures', 1, 1000), ('challenge.attempts', 1, 100),
                                  ('retry.batch', 1, 100000), ('keep.event', 1, 1200), ('keep.change', 1, 1200), ('write_lease.ttl', 1, 3600), ('partition.months_ahead', 1, 120),
                                  ('challenge.ttl', 1, 1440), ('approval.ttl', 1, 365),
                                  ('seconds', 0, 86400), ('minutes', 0, 10080), ('hours', 0, 8760), ('days', 0, 3650), ('working days', 0, 260), ('months', 0, 1200), ('day of month', 1, 28),
                                  ('percent', 0, 100), ('percent of the deal', 0, 1000), ('points', 0, 100), ('points of 5', 1, 5), ('probability', 0, 1), ('share', 0, 1), ('times', 1, 1000),
                                  ('amount in the organisation''s currency', 0, 999999999), ('*', 0, 1000000)) AS r (what, low, high)
                    WHERE r.what IN (v.key, v.unit, '*') ORDER BY r.what = v.key DESC, r.what = v.unit DESC LIMIT 1) ELSE '{}' END
           || (SELECT coalesce(jsonb_object_agg('decided_by', d.by), '{}')
                 FROM (VALUES ('action.overdue.quote_sent', 'stage/standard/quote'), ('attribution.touchpoints', 'attribution/default'), ('credibility.window', 'credibility/default'),
                              ('credibility.yellow_below', 'credibility/default'), ('dedup.strong_key', 'match_rule/R1'), ('reconcile.core_fields', 'field_map/core'),
                              ('renewal.activity_window', 'odds/renewal'), ('touch.reply_full_marks', 'health_model/touch_quality'), ('retry.batch', 'crm.retry_inbox and crm.retry_failed: an argument'), ('lead.context_dims', 'form/lead.capture'),
                              ('light.fields', 'form/account.light'), ('client.upgrade_deadline', 'setting/client.min_version'), ('risk.signals', 'the kind risk_signal'),
                              ('brief.daily.cron', 'job morning_brief'), ('field.review', 'job field_review'), ('health.report', 'job health_report'), ('model.retrain', 'job model_refit'),
                              ('reconcile.day_of_month', 'job field_map_check'), ('report.bottleneck.cron', 'job bottleneck_brief'), ('report.deviation.day', 'job deviation'),
                              ('report.heatmap.period', 'job action_heatmap'), ('snapshot.cron', 'job monthly_snapshot'), ('team_performance.cron', 'job team_performance'),
                              ('watchdog.alert_within', 'job source_watchdog'),
                              ('config.reviewers', 'crm.config_approve: the author and another'), ('lead.assign_within', 'crm.capture_lead: in the same transaction'),
                              ('tag.effective_within', 'crm.tag_put: at commit'), ('sync.max_age_filter', 'crm.ingest: no payload is refused for its age'),
                              ('write.conflict_window', 'crm.write: versions decide, whatever the time between'), ('legacy.default_prob.demo', 'the stage: kept for comparison'),
                              ('offline.templates', 'the client: a promise to it'), ('scv.cadence', 'the sources: a promise of them')) AS d (key, by)
                WHERE d.key = v.key),
       'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('stage.actions.min', '3', 'actions', '>=', 's0', 'Fewest mandatory actions of a stage'),
    ('stage.actions.max', '5', 'actions', '<=', 's0', 'Most mandatory actions of a stage'),
    ('stage.stall_days', '15', 'days', '>', 's0', 'Days in a stage after which a deal counts as stalled'),
    ('stalled.open_actions', '2', 'actions', '>=', 's0', 'Open actions that mark a stalled deal as blocked'),
    ('action.overdue.quote_sent', '72', 'hours', '>', 's0', 'Time to send the quote before the action is overdue'),
    ('credibility.yellow_below', '60', 'points', '<', 's0', 'Forecast credibility below which the flag turns yellow'),
    ('credibility.window', '3', 'months', NULL, 's0', 'Months of a representative''s forecasts that the credibility looks back on'),
    ('write_lease.ttl', '30', 'seconds', NULL, 's0', 'Longest time one endpoint may hold the edit lease of a customer'),
    ('write.conflict_window', '10', 'seconds', NULL, 's0', 'Two endpoints writing the same customer within this time are reported as a near conflict'),
    ('reconcile.core_fields', '12', 'fields', NULL, 's0', 'Core fields compared across systems'),
    ('reconcile.day_of_month', '5', 'day of month', '<=', 's0', 'Day by which the cross-system check is out'),
    ('report.deviation.day', '15', 'day of month', NULL, 's0', 'Day of the deviation report'),
    ('report.bottleneck.cron', '"Mon 10:00"', 'local time', NULL, 's0', 'When the bottleneck brief is out'),
    ('report.heatmap.period', '"week"', 'period', NULL, 's0', 'Period of the action heat map'),
    ('service.recent_summaries', '3', 'follow-ups', NULL, 's0', 'Latest summaries the service desk sees of a customer'),
    ('dedup.strong_key', '["phone", "company", "legal_id4"]', 'fields', NULL, 's0', 'Fields that together prove two customers the same'),
    ('attribution.touchpoints', '12', 'touchpoints', NULL, 's0', 'Kinds of touchpoint the attribution weighs'),
    ('emotion.keywords', '["不考虑", "再看看", "价格太高"]', 'keywords', NULL, 's0', 'Words in a follow-up that speak of a customer turning away'),
    ('emotion.threshold', '2', 'mentions in 7 days', '>=', 's0', 'Mentions within 7 days that open an escalation'),
    ('renewal.window', '90', 'days', '<=', 's0', 'Days before expiry in which a renewal is worked on'),
    ('demo.no_sign_days', '30', 'days', '>', 's0', 'Days after a demo without signature after which the configured percentage is not believed'),
    ('tag.effective_within', '2', 'minutes', '<=', 's0', 'Promise for a new tag to be usable; it is so at commit'),
    ('legacy.default_prob.demo', '0.80', 'probability', NULL, 's0', 'Fixed percentage after a demo that the learned probability replaces, kept for comparison'),
    ('sync.max_age_filter', '"off"', 'hours or off', NULL, 's1', 'Payloads are never refused for the age of their source time'),
    ('retry.batch', '500', 'rows', NULL, 's1', 'Rows of a forced retry'),
    ('call.auto_log_over', '90', 'seconds', '>', 's1', 'Length of a call that writes its own follow-up'),
    ('objection.keywords', '{"price": ["价格太高", "价格偏高", "太贵", "贵了", "便宜一点", "折扣", "too expensive", "too pricey", "price is too high", "cheaper", "discount"], "budget": ["没有预算", "预算不够", "预算有限", "预算还没批", "no budget", "over budget", "budget is tight"], "timing": ["再看看", "考虑一下", "以后再说", "不着急", "明年再", "not now", "next year", "think about it", "too early"], "need": ["不考虑", "不需要", "用不上", "现有系统够用", "don''t need", "no need", "happy with what we have"], "competitor": ["别家", "竞品", "对比一下", "其他供应商", "another vendor", "competitor", "competitors", "other suppliers"], "authority": ["请示", "领导决定", "要上会", "我做不了主", "ask my boss", "need approval", "not my decision"], "trust": ["担心", "不放心", "数据安全", "稳定性", "没听说过", "worried", "concerned", "security risk", "never heard of"]}', 'words by kind', NULL, 's1', 'Words of an objection in a transcript or follow-up, by its kind (picklist objection)'),
    ('transcript.sla', '5', 'minutes', '<=', 's1', 'Time in which a meeting''s summary is promised'),
    ('role.max_inherit_depth', '2', 'levels', '<=', 's1', 'Depth of role inheritance; deeper grants are inert'),
    ('sandbox.days', '7', 'days', '<', 's1', 'First days of a member with a blurred view'),
    ('interaction.lock_after', '72', 'hours', '>', 's1', 'Age from which a follow-up can no longer be corrected'),
    ('snapshot.cron', '"1st 00:00"', 'local time', NULL, 's1', 'When the monthly snapshot is taken'),
    ('light.fields', '5', 'fields', NULL, 's1', 'Fields of the slim page'),
    ('offline.templates', '30', 'templates', NULL, 's1', 'Operation templates a client may cache'),
    ('brief.daily.cron', '"08:00"', 'local time', NULL, 's1', 'When the morning list is out'),
    ('followup.alert_days', '30', 'days', '>', 's1', 'Days without contact that put a customer on the morning list'),
    ('client.upgrade_deadline', '24', 'hours', NULL, 's1', 'Time clients have to reach the required version'),
    ('board.top_todos', '3', 'tasks', NULL, 's1', 'Tasks at the top of the personal board'),
    ('followup.manager_days', '7', 'days', '>', 's2', 'Days without contact after which the manager steps in'),
    ('csat.case_below', '3', 'points of 5', '<', 's2', 'Satisfaction below which a complaint is opened'),
    ('config.reviewers', '2', 'persons', NULL, 's2', 'Persons a change of configuration needs'),
    ('report.check', '"nightly"', 'period', NULL, 's2', 'How often each metric is computed twice'),
    ('field.review', '"quarter"', 'period', NULL, 's2', 'How often the use of fields is reviewed'),
    ('team_performance.cron', '"1st"', 'local time', NULL, 's2', 'When the team performance report is out'),
    ('lead.context_dims', '12', 'keys', NULL, 's3', 'Context keys of a captured lead'),
    ('lead.assign_within', '5', 'seconds', '<=', 's3', 'Time in which a lead is assigned'),
    ('lead.first_touch', '5', 'minutes', '<=', 's3', 'Time in which a lead is first touched'),
    ('scripts.count', '3', 'scripts', NULL, 's3', 'Opening scripts offered for a lead'),
    ('info_health.task_below', '80', 'points', '<', 's3', 'Information health below which a completion task is opened'),
    ('risk.signals', '27', 'signals', NULL, 's3', 'Signals of the risk library'),
    ('risk.yellow', '60', 'points', '>', 's3', 'Risk score above which the owner is warned'),
    ('risk.orange', '80', 'points', '>', 's3', 'Risk score above which the manager is warned and discounts are frozen'),
    ('risk.red', '95', 'points', '>', 's3', 'Risk score above which an executive is involved'),
    ('risk.contact_silent', '7', 'days', '>', 's3', 'Days of silence of the technical contact that count as a risk'),
    ('risk.legal_edits', '3', 'places', '>', 's3', 'Places changed by the customer''s lawyers that count as a risk'),
    ('risk.approval_stuck', '5', 'working days', '>', 's3', 'Working days at the final approval that count as a risk'),
    ('risk.actions', '3', 'actions', NULL, 's3', 'Actions on the attack list of a customer at risk'),
    ('risk.hours', '48', 'hours', NULL, 's3', 'Time to finish those actions'),
    ('touch.reply_full_marks', '2', 'hours', '<', 's3', 'Time of an answer that earns full marks'),
    ('quote.unviewed', '5', 'working days', '>=', 's3', 'Working days without a look at the quote that count as a signal'),
    ('tech.open_questions', '3', 'questions', '>=', 's3', 'Open technical questions that book an expert'),
    ('budget.wait_mentions', '2', 'mentions', '>', 's3', 'Mentions of a waiting budget that send the phased payment plan'),
    ('consistency.max_issues', '5000', 'issues', '<=', 'design', 'New data issues of one kind, or of one field and system, that one check opens'),
    ('consistency.alert', '5', 'percent', '>', 's3', 'Share of differing fields between two systems that raises an alert'),
    ('rule.canary_pct', '1', 'percent', NULL, 's3', 'Share of the records a new rule decides at first'),
    ('rule.canary_hours', '72', 'hours', NULL, 's3', 'Time a new rule must run without an anomaly'),
    ('rule.canary_shift', '50', 'percent', '>', 'design', 'Share of decisions other than before, of fifty and more, that counts as an anomaly of a new rule'),
    ('rule.canary_anomalies', '0', 'anomalies', '<=', 's3', 'Anomalies a new rule may show and still be promoted'),
    ('journey.stall', '48', 'hours', '>', 's3', 'Time at a journey node that calls for a hand'),
    ('renewal.activity_window', '30', 'days', '<=', 's3', 'Days before expiry whose activity the renewal model reads'),
    ('docs.dwell', '15', 'minutes', '>', 's3', 'Time in the interface documents that opens a success task'),
    ('tickets.architect_at', '5', 'tickets', '>=', 's3', 'Technical ticket at which a dedicated architect is named'),
    ('revisit.after_event', '7', 'days', NULL, 's4', 'Days after a treatment or delivery at which the customer is asked'),
    ('model.retrain', '"month"', 'period', NULL, 's4', 'How often models are fitted anew'),
    ('model.nominal_accuracy', '0.78', 'share', NULL, 's4', 'Accuracy the churn model was once accepted with'),
    ('scv.cadence', '{"basic": "0", "transaction": "1 day", "service": "0", "interaction": "5 minutes"}', 'interval by part', NULL, 's4', 'Promised age of the parts of the single customer view; 0 is real time'),
    ('health.report', '"month"', 'period', NULL, 's4', 'Period of the CRM health report'),
    ('organisation.currency', '"CNY"', 'ISO 4217', NULL, 'design', 'Currency that totals are given in'),
    ('organisation.link', '""', 'address', NULL, 'design', 'Where a record is opened, for messages and reports: https://crm.example.com/{object}/{id}; empty for none'),
    ('organisation.timezone', '"Asia/Shanghai"', 'time zone', NULL, 'design', 'Time zone of days, months and schedules'),
    ('blast_radius.rows', '20', 'rows', '>', 'design', 'Protected rows one statement may touch without a bulk approval'),
    ('reveal.daily_limit', '30', 'values', '<=', 'design', 'Full values one member may reveal in a day'),
    ('challenge.ttl', '5', 'minutes', NULL, 'design', 'Life of a one-time code'),
    ('challenge.attempts', '5', 'attempts', NULL, 'design', 'Wrong codes accepted before a challenge is dead'),
    ('challenge.hourly_limit', '10', 'codes', '<=', 'design', 'One-time codes one member may ask for in an hour'),
    ('approval.ttl', '7', 'days', NULL, 'design', 'Life of a request and of its approval'),
    ('export.max_rows', '100000', 'rows', '<=', 'design', 'Most rows of one approved export'),
    ('access.least_privilege', 'true', 'boolean', NULL, 'design', 'With several roles the narrower rule wins'),
    ('access.min_group', '5', 'rows', '>=', 'design', 'Fewest rows behind an aggregate shown to a summary-only role'),
    ('attachment.hold', '30', 'days', NULL, 'design', 'Time a deleted attachment is kept before it may be purged'),
    ('dedup.lock_ttl', '24', 'hours', NULL, 'design', 'Life of the lock that a certain duplicate puts on the original'),
    ('dedup.auto_merge', '0.9999', 'probability', NULL, 'design', 'Least probability at which the job dedup_merge, once it is switched on, merges customers'),
    ('simulate.period', '30', 'days', NULL, 'design', 'Records a new rule is rehearsed on'),
    ('simulate.max_coverage_loss', '2', 'points', '<=', 'design', 'Coverage a new rule may lose'),
    ('watchdog.drop', '70', 'percent', '>=', 'design', 'Drop of a source below its usual volume that raises an alert'),
    ('watchdog.alert_within', '10', 'minutes', NULL, 'design', 'Time in which a silent source is reported'),
    ('client.min_version', '{}', 'version by endpoint', NULL, 'design', 'Oldest client version that may write, by endpoint, with its deadline: {"app": {"version": "4.2.1", "after": ".."}}'),
    ('client.failure_ratio', '5', 'times', '>', 's1', 'Failure rate of a client version''s saves, as a multiple of that of all others, that raises an alert'),
    ('client.failures_min', '5', 'failures', '>=', 'design', 'Failed saves of a client version in an hour, and saves of the others, below which rates are not compared'),
    ('report.check_threshold', '5', 'percent', '>', 'design', 'Difference between the two computations of a metric, or change against yesterday, that pages its owner'),
    ('risk.hysteresis', '5', 'points', NULL, 'design', 'Points a score must fall below a level before the level is left'),
    ('delivery.large_order', '500000', 'amount in the organisation''s currency', '>=', 'design', 'Signed amount from which delivery and service are notified'),
    ('balance.low', '1000', 'amount in the organisation''s currency', '<', 'design', 'Prepaid balance below which a renewal is suggested'),
    ('forecast.evidence_over', '10', 'percent of the deal', '>', 'design', 'Change of a forecast from which evidence is asked for'),
    ('outbox.backoff', '{"first": "30 seconds", "factor": 2, "max": "6 hours", "attempts": 8}', 'policy', NULL, 'design', 'When a failed message is tried again'),
    ('outbox.claim', '60', 'seconds', NULL, 'design', 'Time a relay holds a message'),
    ('circuit.failures', '8', 'failures in a row', '>=', 'design', 'Failures that open a channel''s circuit'),
    ('circuit.retry_after', '5', 'minutes', NULL, 'design', 'Time until an open circuit is tried again'),
    ('partition.months_ahead', '3', 'months', NULL, 'design', 'Monthly partitions made ahead'),
    ('keep.inbox', '90', 'days', NULL, 'design', 'Age at which finished payloads are purged'),
    ('keep.outbox', '90', 'days', NULL, 'design', 'Age at which delivered messages are purged'),
    ('keep.job_run', '400', 'days', NULL, 'design', 'Age at which finished runs are purged'),
    ('keep.event', '25', 'months', NULL, 'design', 'Age at which months of the behaviour log are retired'),
    ('keep.change', '120', 'months', NULL, 'design', 'Age at which months of the history are retired')
) AS v (key, value, unit, compare, source, description);

-- Picklists: {"values": [{"key", "en", "zh"}]}, in the order they are shown.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'picklist', v.key, 1,
       jsonb_build_object('values', (SELECT jsonb_agg(jsonb_build_object('key', i.item[1], 'en', i.item[2], 'zh', i.item[3]) ORDER BY i.ord)
                                     FROM (SELECT string_to_array(x, '=') AS item, ord FROM unnest(string_to_array(v.items, ', ')) WITH ORDINALITY AS u (x, ord)) AS i)),
       'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('key_progress', 'budget_confirmed=Budget confirmed=客户明确预算, executive_meeting=Executive meeting arranged=已安排高层见面, poc_passed=Technical POC passed=技术POC通过, legal_confirmed=Legal terms confirmed=法务条款确认'),
    ('account_type', 'enterprise=Enterprise=企业, smb=Small business=中小企业, government=Government=政府, education=Education=教育, person=Person=个人'),
    ('industry', 'manufacturing=Manufacturing=制造, energy=Energy=能源, software=Software=软件, retail=Retail=零售, finance=Finance=金融, healthcare=Healthcare=医疗, education=Education=教育, government=Government=政府, construction=Construction=建筑, logistics=Logistics=物流, telecom=Telecommunications=通信, other=Other=其他'),
    ('grade', '4=A=A级, 3=B=B级, 2=C=C级, 1=D=D级, 0=Not graded=未分级'),
    ('region', 'north=North=华北, east=East=华东, south=South=华南, central=Central=华中, west=West=西部, northeast=Northeast=东北, overseas=Overseas=海外'),
    ('lead_source', 'web=Website form=官网表单, whitepaper=Whitepaper download=白皮书下载, tradeshow=Trade show=展会, live=Live stream=直播报名, phone=Telephone=电话, referral=Referral=转介绍, chat=Chat=微信, import=Import=导入, manual=By hand=手工录入'),
    ('channel', 'web=Web=网页, app=App=应用, phone=Telephone=电话, email=E-mail=邮件, sms=SMS=短信, wecom=WeCom=企业微信, wechat=WeChat=微信服务号, dingtalk=DingTalk=钉钉, meeting=Meeting=会议, visit=Visit=拜访, event=Event=活动, system=System=系统'),
    ('deal_type', 'new=New business=新购, expansion=Expansion=增购, renewal=Renewal=续约'),
    ('lost_reason', 'price=Price=价格, competitor=Competitor=竞争对手, budget_frozen=Budget frozen=预算冻结, no_need=Need vanished=需求取消, sponsor_left=Sponsor left=关键人离职, procurement=Procurement stuck=采购流程受阻, product=Product gap=产品不满足, no_answer=No answer=失联, other=Other=其他'),
    ('objection', 'price=Price=价格, budget=Budget=预算, timing=Timing=时机, need=No need=无需求, competitor=Competitor=竞争对手, authority=Decision is not theirs=无决策权, trust=Trust=信任'),
    ('adjust_reason', 'award_notice=Award notice=中标通知, customer_mail=Customer confirmation=客户确认邮件, budget_change=Budget changed=预算变化, date_moved=Date moved=时间调整, scope_changed=Scope changed=范围变化, relationship=Own knowledge=个人判断'),
    ('decision_role', 'decision_maker=Decision maker=决策人, influencer=Influencer=影响者, technical=Technical=技术负责人, procurement=Procurement=采购负责人, legal=Legal=法务, finance=Finance=财务, user=User=使用者, gatekeeper=Gatekeeper=把关人'),
    ('complaint', 'quality=Quality=质量问题, delivery=Late delivery=交付延期, price=Price dispute=价格争议, service=Service=服务态度, promise=Broken promise=承诺未兑现, invoice=Invoice=发票问题')
) AS v (key, items);

-- Tags, which managers add to: usable at commit.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'tag', v.key, 1, jsonb_build_object('label', jsonb_build_object('en', v.en, 'zh', v.key), 'objects', '["account", "lead"]'::jsonb), 'active', '(,)', 'crm', 'release'
FROM (VALUES ('光伏电站业主', 'Solar plant owner'), ('储能项目EPC', 'Storage EPC contractor'), ('战略客户', 'Strategic customer'), ('价格敏感', 'Price sensitive'),
             ('老客户召回', 'Win back'), ('标杆案例', 'Reference'), ('高意向', 'High intent'), ('需法务关注', 'Legal attention')) AS v (key, en);

-- The standard pipeline. Percentages are the priors of the learned probabilities.
INSERT INTO crm_data.pipeline (code, name, label, is_default) VALUES ('standard', 'Standard sales', '{"en": "Standard sales", "zh": "标准销售管道"}', true);
INSERT INTO crm_data.stage (pipeline_id, seq, code, name, label, outcome, default_probability, category, sla)
SELECT p.id, v.seq, v.code, v.name, jsonb_build_object('en', v.name, 'zh', v.zh), v.outcome, v.probability, v.category, v.sla::interval
FROM crm_data.pipeline AS p,
     (VALUES (1, 'contact', 'First contact', '初步接触', 'open', 0.10, 'pipeline', '14 days'),
             (2, 'needs', 'Needs confirmed', '需求确认', 'open', 0.25, 'pipeline', '21 days'),
             (3, 'demo', 'Solution shown', '方案演示', 'open', 0.40, 'best_case', '15 days'),
             (4, 'quote', 'Quoted', '报价', 'open', 0.60, 'best_case', '15 days'),
             (5, 'negotiation', 'Negotiation', '商务谈判', 'open', 0.80, 'commit', '30 days'),
             (6, 'won', 'Won', '赢单', 'won', 1, 'closed', NULL),
             (7, 'lost', 'Lost', '输单', 'lost', 0, 'omitted', NULL)) AS v (seq, code, name, zh, outcome, probability, category, sla)
WHERE p.code = 'standard';

-- Stage actions: {"actions": [{key, en, zh, mandatory, due, escalate, evidence}]}. evidence is a jsonpath over the feature document of the opportunity that must
-- hold before the action counts as done; due and escalate count from the entry into the stage.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'stage', v.key, 1, jsonb_build_object('pipeline', 'standard', 'stage', split_part(v.key, '/', 2), 'actions', v.actions::jsonb), 'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('standard/contact', '[{"key": "identify_contact", "en": "Name a contact", "zh": "登记联系人", "mandatory": true, "due": "3 days", "evidence": "$.contacts.count ? (@ >= 1)"},
        {"key": "first_call", "en": "Hold a first conversation", "zh": "首次沟通", "mandatory": true, "due": "3 days", "evidence": "$.interactions.count ? (@ >= 1)"},
        {"key": "qualify_need", "en": "Write down the key need", "zh": "记录核心需求", "mandatory": true, "due": "7 days", "evidence": "$.forms.key_need ? (@.complete == true)"}]'),
    ('standard/needs', '[{"key": "pain_points", "en": "Fill in the table of pain points", "zh": "填写痛点表", "mandatory": true, "due": "7 days", "evidence": "$.forms.pain_points ? (@.complete == true)"},
        {"key": "budget_range", "en": "Enter the budget range", "zh": "录入预算范围", "mandatory": true, "due": "7 days", "evidence": "$.opportunity.budget_high ? (@ > 0)"},
        {"key": "decision_chain", "en": "Draw the decision chain", "zh": "绘制决策链", "mandatory": true, "due": "10 days", "evidence": "$.decision_chain.decision_makers ? (@ >= 1)"},
        {"key": "requirement_confirmation", "en": "Have the requirements confirmed by the customer", "zh": "客户签署需求确认", "mandatory": false, "due": "14 days", "evidence": "$.attachments[*] ? (@.kind == \"requirement_confirmation\" && @.signed_by_customer == true)"}]'),
    ('standard/demo', '[{"key": "custom_deck", "en": "Upload the customised presentation", "zh": "上传定制化PPT", "mandatory": true, "due": "5 days", "evidence": "$.attachments[*] ? (@.kind == \"deck\")"},
        {"key": "pain_point_table", "en": "Complete the table of pain points", "zh": "完成痛点对应表", "mandatory": true, "due": "5 days", "evidence": "$.forms.pain_points ? (@.complete == true)"},
        {"key": "competitor_matrix", "en": "Enter the competitor matrix", "zh": "录入竞品对比矩阵", "mandatory": true, "due": "7 days", "evidence": "$.forms.competitor_matrix ? (@.complete == true)"},
        {"key": "demo_held", "en": "Hold the demo", "zh": "完成方案演示", "mandatory": true, "due": "10 days", "evidence": "$.interactions.kinds.demo ? (@ >= 1)"}]'),
    ('standard/quote', '[{"key": "quote_sent", "en": "Send the quote", "zh": "报价单发送", "mandatory": true, "due": "72 hours", "escalate": "72 hours", "evidence": "$.opportunity.quote_sent_at ? (@ != null)"},
        {"key": "line_items", "en": "Enter the lines of the quote", "zh": "录入报价明细", "mandatory": true, "due": "72 hours", "evidence": "$.line_items.count ? (@ >= 1)"},
        {"key": "objections", "en": "Answer the objections", "zh": "异议处理", "mandatory": true, "due": "10 days", "evidence": "$.interactions.kinds.objection ? (@ >= 1)"}]'),
    ('standard/negotiation', '[{"key": "contract_draft", "en": "Upload the draft contract", "zh": "上传合同草案", "mandatory": true, "due": "5 days", "evidence": "$.attachments[*] ? (@.kind == \"contract\")"},
        {"key": "legal_review", "en": "Finish the first legal review", "zh": "法务合规初审", "mandatory": true, "due": "10 days", "evidence": "$.contract.legal_reviewed_at ? (@ != null)"},
        {"key": "payment_plan", "en": "Agree on the payment plan", "zh": "确认付款节点", "mandatory": true, "due": "15 days", "evidence": "$.contract.payment_points ? (@ >= 1)"},
        {"key": "final_approver", "en": "Meet the person who signs", "zh": "拜访最终审批人", "mandatory": false, "due": "20 days", "evidence": "$.progress[*] ? (@ == \"executive_meeting\")"}]')
) AS v (key, actions);

-- The three buttons after a conversation. A button with a stage takes the deal there.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'touch_preset', v.key, 1, v.body::jsonb, 'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('just_talked', '{"label": {"en": "Just talked", "zh": "刚聊完"}, "kind": "call", "channel": "phone", "direction": "out", "text": {"en": "Talked with the customer.", "zh": "已与客户沟通。"}, "next_step": {"en": "Follow up", "zh": "跟进沟通结果"}, "next_after": "3 days"}'),
    ('proposal_sent', '{"label": {"en": "Proposal sent", "zh": "已发方案"}, "kind": "quote", "channel": "email", "direction": "out", "text": {"en": "Proposal sent to the customer.", "zh": "方案已发送给客户。"}, "next_step": {"en": "Ask for feedback", "zh": "确认方案反馈"}, "next_after": "2 days", "stage": "quote"}'),
    ('waiting', '{"label": {"en": "Waiting for the customer", "zh": "等客户回复"}, "kind": "note", "channel": "system", "direction": "internal", "text": {"en": "Waiting for the customer''s answer.", "zh": "等待客户回复。"}, "next_step": {"en": "Remind the customer", "zh": "提醒客户"}, "next_after": "5 days"}')
) AS v (key, body);

-- Field policies: {"role", "default", "read"|"write"|"export": {"classes": {class: mode}, "fields": {"object.field": mode}}, "masks": {class or "object.field": mask}}.
-- A class that is not named has the default; a single field overrides its class. Keys of a row that is visible at all are always read. Telephone numbers stay
-- masked for roles that read in bulk: one at a time is revealed, and logged.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'field_policy', v.role, 1,
       jsonb_build_object('role', v.role, 'default', 'never', 'read', v.readable::jsonb, 'write', v.writable::jsonb, 'export', v.exportable::jsonb,
                          'masks', '{"contact": "phone", "identity": "text", "account.email": "email", "account.email_norm": "email", "account.address": "text", "contact.email": "email", "contact.email_norm": "email", "contact.wechat": "text", "lead.email": "email", "lead.email_norm": "email", "people": "text"}'::jsonb),
       'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('crm_admin', '{"classes": {"key": "always", "general": "always", "contact": "always", "identity": "always", "money": "always", "sales": "always", "service": "always", "finance": "always", "risk": "always", "people": "always", "custom": "always", "engine": "always"}}',
                  '{"classes": {"key": "always", "general": "always", "contact": "always", "identity": "always", "money": "always", "sales": "always", "service": "always", "finance": "always", "people": "always", "custom": "always"}}',
                  '{"classes": {"key": "always", "general": "always", "contact": "always", "money": "always", "sales": "always", "service": "always", "finance": "always", "risk": "always", "custom": "always"}}'),
    ('crm_steward', '{"classes": {"key": "always", "general": "always", "contact": "always", "identity": "always", "custom": "always"}}',
                    '{"classes": {"key": "always", "general": "always", "contact": "always", "identity": "always", "custom": "always"}}', '{"classes": {}}'),
    ('crm_sales', '{"classes": {"key": "always", "general": "always", "contact": "own", "identity": "mask", "money": "always", "sales": "always", "service": "always", "finance": "own", "risk": "always", "custom": "always"}}',
                  '{"classes": {"key": "own", "general": "own", "contact": "own", "money": "own", "sales": "own", "service": "own", "custom": "own"}, "fields": {"account.grade": "never", "account.steward_id": "never", "account.owner_id": "never", "account.team_id": "never", "contract.amount": "never", "attachment.legal_reviewed_at": "never", "task.state": "never", "task.mandatory": "never", "task.done_at": "never", "task.done_by": "never", "task.evidence": "never", "task.waived_reason": "never"}}', '{"classes": {}}'),
    ('crm_manager', '{"classes": {"key": "always", "general": "always", "contact": "team", "identity": "mask", "money": "always", "sales": "always", "service": "always", "finance": "always", "risk": "always", "custom": "always"}}',
                    '{"classes": {"key": "team", "general": "team", "contact": "team", "money": "team", "sales": "team", "service": "team", "custom": "team"}, "fields": {"contract.amount": "never", "attachment.legal_reviewed_at": "never", "task.state": "never", "task.mandatory": "never", "task.done_at": "never", "task.done_by": "never", "task.evidence": "never", "task.waived_reason": "never"}}', '{"classes": {}}'),
    ('crm_director', '{"classes": {"key": "always", "general": "always", "contact": "mask", "identity": "mask", "money": "always", "sales": "always", "service": "always", "finance": "always", "risk": "always", "custom": "always"}}',
                     '{"classes": {}}', '{"classes": {"key": "always", "general": "always", "money": "always", "sales": "always", "finance": "always"}}'),
    ('crm_service', '{"classes": {"key": "always", "general": "always", "contact": "mask", "service": "always", "custom": "never"}, "fields": {"interaction.detail": "never", "interaction.body": "never"}}',
                    '{"classes": {"service": "always"}, "fields": {"task.title": "always", "task.body": "always", "task.priority": "always", "interaction.account_id": "always", "interaction.contact_id": "always", "interaction.kind": "always", "interaction.channel": "always", "interaction.direction": "always", "interaction.occurred_at": "always", "interaction.duration": "always"}}', '{"classes": {}}'),
    ('crm_finance', '{"classes": {"key": "always", "general": "always", "contact": "mask", "money": "always", "finance": "always"}, "fields": {"opportunity.amount": "never", "opportunity.discount_pct": "never", "line_item.amount": "never", "line_item.unit_price": "never", "line_item.discount_pct": "never", "account.credit_rating": "always"}}',
                    '{"classes": {"finance": "always"}, "fields": {"payment_plan.amount": "always", "account.credit_rating": "always"}}', '{"classes": {"key": "always", "finance": "always"}}'),
    ('crm_legal', '{"classes": {"key": "always", "general": "always", "contact": "mask", "identity": "mask", "money": "always", "finance": "always"}, "fields": {"contract.legal_reviewed_at": "always", "contract.legal_edits": "always", "contract.approval_since": "always", "attachment.legal_reviewed_at": "always"}}',
                  '{"classes": {}, "fields": {"contract.legal_reviewed_at": "always", "contract.legal_edits": "always", "contract.state": "always", "contract.final_url": "always", "attachment.legal_reviewed_at": "always"}}', '{"classes": {}}'),
    ('crm_marketing', '{"classes": {"key": "always", "general": "always", "contact": "mask", "custom": "always"}, "fields": {"campaign.budget": "always", "campaign.cost": "always", "campaign_member.amount": "always"}}',
                      '{"classes": {}, "fields": {"campaign.code": "always", "campaign.name": "always", "campaign.channel": "always", "campaign.starts_on": "always", "campaign.ends_on": "always", "campaign.budget": "always", "campaign.cost": "always", "campaign.filter": "always", "campaign.state": "always", "campaign.attrs": "always", "campaign_member.campaign_id": "always", "campaign_member.account_id": "always", "campaign_member.contact_id": "always", "campaign_member.lead_id": "always", "campaign_member.state": "always", "account.tags": "always"}}', '{"classes": {}}'),
    ('crm_risk', '{"classes": {"key": "always", "general": "always", "contact": "mask", "identity": "mask", "money": "always", "sales": "always", "service": "always", "finance": "always", "risk": "always", "custom": "always"}}', '{"classes": {}}', '{"classes": {}}'),
    ('crm_sync', '{"classes": {"key": "always", "general": "always", "contact": "always", "money": "always", "finance": "always", "service": "always", "custom": "always"}}',
                 '{"classes": {"key": "always", "general": "always", "contact": "always", "money": "always", "finance": "always", "service": "always", "custom": "always"}}', '{"classes": {}}'),
    ('crm_bi', '{"classes": {"key": "always", "general": "always", "contact": "mask", "money": "always", "sales": "always", "service": "always", "finance": "always", "risk": "always"}}', '{"classes": {}}', '{"classes": {}}')
) AS v (role, readable, writable, exportable);

-- Row policies: {"role", "rows": [{object, verbs, scope, grade_min, grade_max}]}; * is every object without an entry of its own.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'row_policy', v.role, 1, jsonb_build_object('role', v.role, 'rows', v.rules::jsonb), 'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('crm_admin', '[{"object": "*", "verbs": ["read", "write", "export"], "scope": "all"}]'),
    ('crm_steward', '[{"object": "*", "verbs": ["read", "write"], "scope": "all"}]'),
    ('crm_sales', '[{"object": "*", "verbs": ["read", "write"], "scope": "own"}]'),
    ('crm_manager', '[{"object": "*", "verbs": ["read", "write"], "scope": "subtree"}, {"object": "*", "verbs": ["read"], "scope": "region"}]'),
    ('crm_director', '[{"object": "*", "verbs": ["read", "export"], "scope": "all"}]'),
    ('crm_service', '[{"object": "*", "verbs": ["read", "write"], "scope": "all"}]'),
    ('crm_finance', '[{"object": "*", "verbs": ["read", "write", "export"], "scope": "all"}]'),
    ('crm_legal', '[{"object": "*", "verbs": ["read", "write"], "scope": "all"}]'),
    ('crm_marketing', '[{"object": "*", "verbs": ["read", "write"], "scope": "all"}]'),
    ('crm_risk', '[{"object": "*", "verbs": ["read"], "scope": "all"}]'),
    ('crm_sync', '[{"object": "*", "verbs": ["read", "write"], "scope": "all"}]'),
    ('crm_bi', '[{"object": "*", "verbs": ["read"], "scope": "all"}]')
) AS v (role, rules);
-- The stricter table by rank and grade, ready to be proposed: consultants below grade A, senior managers across teams from grade B.
INSERT INTO crm_data.config (kind, key, version, body, status, author, note)
SELECT 'row_policy', v.role, 2, jsonb_build_object('role', v.role, 'rows', v.rules::jsonb), 'draft', 'crm', 'Rank and grade: propose it to replace version 1.'
FROM (VALUES
    ('crm_sales', '[{"object": "*", "verbs": ["read", "write"], "scope": "own", "grade_max": 3}]'),
    ('crm_manager', '[{"object": "*", "verbs": ["read", "write"], "scope": "subtree"}, {"object": "*", "verbs": ["read"], "scope": "all", "grade_min": 3}]')
) AS v (role, rules);

-- Permissions: {"role", "ops": [{object, ops, scope}], "functions": [..]}. Operations on data and rights to run something are apart.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'permission', v.role, 1, jsonb_build_object('role', v.role, 'ops', v.ops::jsonb, 'functions', v.functions::jsonb), 'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('crm_admin', '[{"object": "*", "ops": ["create", "read", "update", "delete", "export"], "scope": "all"}]', '["run_report", "start_approval", "approve", "configure", "offboard", "reveal", "explain", "recent_summaries"]'),
    ('crm_steward', '[{"object": "*", "ops": ["read"], "scope": "all"}, {"object": "account", "ops": ["create", "read", "update", "delete"], "scope": "all"}, {"object": "contact", "ops": ["create", "read", "update", "delete"], "scope": "all"}, {"object": "lead", "ops": ["create", "read", "update", "delete"], "scope": "all"}, {"object": "data_issue", "ops": ["read", "update"], "scope": "all"}, {"object": "duplicate_pair", "ops": ["read", "update"], "scope": "all"}]', '["run_report", "start_approval", "merge"]'),
    ('crm_sales', '[{"object": "*", "ops": ["read"], "scope": "own"}, {"object": "account", "ops": ["create", "read", "update"], "scope": "own"}, {"object": "contact", "ops": ["create", "read", "update"], "scope": "own"}, {"object": "lead", "ops": ["create", "read", "update"], "scope": "own"}, {"object": "opportunity", "ops": ["create", "read", "update"], "scope": "own"}, {"object": "opportunity_contact", "ops": ["create", "read", "update", "delete"], "scope": "own"}, {"object": "line_item", "ops": ["create", "read", "update", "delete"], "scope": "own"}, {"object": "interaction", "ops": ["create", "read", "update"], "scope": "own"}, {"object": "task", "ops": ["create", "read", "update"], "scope": "own"}, {"object": "attachment", "ops": ["create", "read"], "scope": "own"}, {"object": "contract", "ops": ["read"], "scope": "own"}, {"object": "forecast", "ops": ["read"], "scope": "own"}]', '["start_approval", "reveal"]'),
    ('crm_manager', '[{"object": "*", "ops": ["read"], "scope": "region"}, {"object": "account", "ops": ["create", "read", "update"], "scope": "subtree"}, {"object": "contact", "ops": ["create", "read", "update"], "scope": "subtree"}, {"object": "lead", "ops": ["create", "read", "update"], "scope": "subtree"}, {"object": "opportunity", "ops": ["create", "read", "update"], "scope": "subtree"}, {"object": "opportunity_contact", "ops": ["create", "read", "update", "delete"], "scope": "subtree"}, {"object": "line_item", "ops": ["create", "read", "update", "delete"], "scope": "subtree"}, {"object": "interaction", "ops": ["create", "read", "update"], "scope": "subtree"}, {"object": "task", "ops": ["create", "read", "update"], "scope": "subtree"}, {"object": "attachment", "ops": ["create", "read"], "scope": "subtree"}, {"object": "quota", "ops": ["create", "read", "update"], "scope": "subtree"}, {"object": "forecast", "ops": ["read"], "scope": "subtree"}]', '["run_report", "start_approval", "approve", "reveal"]'),
    ('crm_director', '[{"object": "*", "ops": ["read"], "scope": "all"}, {"object": "report", "ops": ["read", "export"], "scope": "all"}]', '["run_report", "approve"]'),
    ('crm_service', '[{"object": "account", "ops": ["read", "update"], "scope": "all"}, {"object": "contact", "ops": ["read"], "scope": "all"}, {"object": "interaction", "ops": ["create"], "scope": "all"}, {"object": "task", "ops": ["create", "read", "update"], "scope": "all"}]', '["reveal", "start_approval", "recent_summaries"]'),
    ('crm_finance', '[{"object": "account", "ops": ["read", "update"], "scope": "all"}, {"object": "contract", "ops": ["read", "update", "export"], "scope": "all"}, {"object": "payment_plan", "ops": ["create", "read", "update", "export"], "scope": "all"}, {"object": "receivable_entry", "ops": ["create", "read", "export"], "scope": "all"}, {"object": "fx_rate", "ops": ["create", "read"], "scope": "all"}]', '["run_report"]'),
    ('crm_legal', '[{"object": "account", "ops": ["read"], "scope": "all"}, {"object": "contract", "ops": ["create", "read", "update", "delete"], "scope": "all"}, {"object": "attachment", "ops": ["create", "read", "update"], "scope": "all"}]', '["approve"]'),
    ('crm_marketing', '[{"object": "account", "ops": ["read", "update"], "scope": "all"}, {"object": "contact", "ops": ["read"], "scope": "all"}, {"object": "lead", "ops": ["create", "read"], "scope": "all"}, {"object": "event", "ops": ["read"], "scope": "all"}, {"object": "campaign", "ops": ["create", "read", "update"], "scope": "all"}, {"object": "campaign_member", "ops": ["create", "read", "update"], "scope": "all"}]', '["run_report"]'),
    ('crm_risk', '[{"object": "*", "ops": ["read"], "scope": "all"}]', '["run_report"]'),
    ('crm_sync', '[{"object": "*", "ops": ["create", "read", "update"], "scope": "all"}]', '["ingest"]'),
    ('crm_bi', '[{"object": "*", "ops": ["read"], "scope": "all"}]', '[]')
) AS v (role, ops, functions);

-- The rest, one document each. {"en", "zh"} are labels.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT v.kind, v.key, 1, v.body::jsonb, 'active', '(,)', 'crm', 'release'
FROM (VALUES
    -- twelve core fields: our field, its name in the other systems, how values are compared
    ('field_map', 'core', '{"object": "account", "systems": ["erp", "marketing"], "fields": [
        {"field": "code", "compare": "exact", "type": "text", "erp": "customer_no", "marketing": "customer_code"},
        {"field": "name", "compare": "fold", "type": "text", "erp": "customer_name", "marketing": "company"},
        {"field": "uscc", "compare": "exact", "type": "text", "erp": "tax_no", "marketing": "uscc"},
        {"field": "phone", "compare": "phone", "type": "text", "erp": "tel", "marketing": "phone"},
        {"field": "email", "compare": "email", "type": "text", "erp": "email", "marketing": "email"},
        {"field": "legal_person", "compare": "fold", "type": "text", "erp": "legal_person", "marketing": "legal_person"},
        {"field": "address", "compare": "fold", "type": "text", "erp": "address", "marketing": "address"},
        {"field": "province", "compare": "fold", "type": "text", "erp": "province", "marketing": "province"},
        {"field": "city", "compare": "fold", "type": "text", "erp": "city", "marketing": "city"},
        {"field": "industry", "compare": "exact", "type": "text", "erp": "trade", "marketing": "industry"},
        {"field": "type", "compare": "exact", "type": "text", "erp": "customer_type", "marketing": "segment"},
        {"field": "credit_rating", "compare": "exact", "type": "text", "erp": "credit_class", "marketing": "credit_rating"}]}'),
    -- which value survives a merge or a delivery; groups survive together
    ('survivorship', 'default', '{"default": "non_empty_first", "fields": {"account.tags": "union", "account.complaint_tags": "union", "account.sync_off": "union", "contact.opt_out": "union", "account.attrs": "union", "account.uscc": "validated_first", "account.phone": "validated_first", "account.email": "validated_first", "account.address": "most_recent"}, "groups": [["account.address", "account.province", "account.city", "account.district", "account.geo"], ["account.legal_person", "account.legal_id4"]]}'),
    -- sources that may overwrite a field, the first one first; crm stands for people''s own edits
    ('authority', 'default', '{"default": ["crm"], "objects": {"receivable_entry": ["kingdee", "yonyou", "erp"], "payment_plan": ["crm", "erp"], "contract": ["crm", "esign"]}, "fields": {"account.credit_rating": ["erp", "crm"], "contract.final_url": ["esign"], "account.grade": ["crm"], "account.owner_id": ["crm"]}}'),
    -- the engine''s own models: column to meaning
    ('match_model', 'account', '{"object": "account", "fields": {"name": "company", "uscc": "uscc", "legal_person": "person_name", "legal_id4": "id4", "phone": "phone", "email": "email", "address": "address", "website": "website"}}'),
    ('match_model', 'contact', '{"object": "contact", "fields": {"name": "person_name", "phone": "phone", "email": "email", "account_id": "category"}}'),
    ('match_model', 'lead', '{"object": "lead", "against": "account", "fields": {"company": "company", "name": "person_name", "phone": "phone", "email": "email", "legal_id4": "id4"}}'),
    ('match_rule', 'R0', '{"objects": ["account"], "all": ["uscc"], "require_valid": true, "band": "auto", "locks_target": true}'),
    ('match_rule', 'R1', '{"objects": ["account", "lead"], "all": ["phone", "company", "id4"], "band": "auto", "locks_target": true}'),
    ('match_rule', 'R2', '{"objects": ["account", "lead"], "any": ["phone", "company", "id4"], "at_least": 2, "band": "suggest", "locks_target": false}'),
    -- what makes a record a data issue: the jsonpath over the record finds something when the rule is broken
    ('quality_rule', 'account.no_email', '{"object": "account", "field": "email", "when": "$ ? (@.email == null)", "severity": "info", "en": "No e-mail address", "zh": "缺少邮箱"}'),
    ('quality_rule', 'account.bad_phone', '{"object": "account", "field": "phone", "when": "$ ? (@.phone != null && @.phone_norm == null)", "severity": "warning", "en": "Telephone number not valid", "zh": "电话无效"}'),
    ('quality_rule', 'account.bad_uscc', '{"object": "account", "field": "uscc", "when": "$ ? (@.uscc != null && @.uscc_valid == false)", "severity": "error", "en": "Unified social credit code fails its checksum", "zh": "统一社会信用代码校验失败"}'),
    ('quality_rule', 'account.no_industry', '{"object": "account", "field": "industry", "when": "$ ? (@.industry == null)", "severity": "info", "en": "No industry", "zh": "缺少行业"}'),
    ('quality_rule', 'contact.no_channel', '{"object": "contact", "field": "phone", "when": "$ ? (@.phone == null && @.email == null)", "severity": "warning", "en": "Neither telephone nor e-mail", "zh": "缺少联系方式"}'),
    -- what a page shows and a stage asks for: required is enforced when a deal enters the stage
    ('form', 'opportunity', '{"object": "opportunity", "fields": [{"field": "name", "required": true}, {"field": "account_id", "required": true, "editable": "$ ? (@.opportunity.id == null)"}, "stage_id", "deal_type", "product_line", "source", "competitor",
        {"field": "amount", "required": "$ ? (@.opportunity.stage == \"quote\" || @.opportunity.stage == \"negotiation\" || @.opportunity.stage == \"won\")"}, "currency", {"field": "budget_low", "visible": "$ ? (@.opportunity.stage_seq >= 2)"}, {"field": "budget_high", "visible": "$ ? (@.opportunity.stage_seq >= 2)"}, "close_date",
        {"field": "discount_pct", "visible": "$ ? (@.opportunity.stage_seq >= 4)"}, {"field": "quote_sent_at", "visible": "$ ? (@.opportunity.stage_seq >= 4)"}, {"field": "expires_on", "visible": "$ ? (@.opportunity.deal_type == \"renewal\")"},
        {"field": "lost_reason", "visible": "$ ? (@.opportunity.outcome == \"lost\")"}, "probability_manual", "category", "next_step", "next_step_at", "owner_id"]}'),
    ('form', 'account.light', '{"object": "account", "fields": ["name", "phone", "industry", "owner_id", "last_contact_at"], "required": ["name"]}'),
    ('form', 'lead.capture', '{"object": "lead", "fields": ["name", "company", "phone", "email", "need"], "required_any": [["phone", "email"]], "context": ["ip", "page", "referrer", "campaign", "keyword", "device", "browser", "language", "dwell", "click_zone", "latitude", "longitude"]}'),
    ('form', 'key_need', '{"object": "opportunity", "store": "attrs.forms.key_need", "fields": [{"key": "need", "type": "text", "required": true}, {"key": "deadline", "type": "date"}]}'),
    ('form', 'pain_points', '{"object": "opportunity", "store": "attrs.forms.pain_points", "fields": [{"key": "pain", "type": "text", "required": true}, {"key": "effect", "type": "text", "required": true}, {"key": "our_answer", "type": "text", "required": true}]}'),
    ('form', 'competitor_matrix', '{"object": "opportunity", "store": "attrs.forms.competitor_matrix", "fields": [{"key": "competitor", "type": "text", "required": true}, {"key": "strength", "type": "text"}, {"key": "weakness", "type": "text"}, {"key": "price", "type": "number"}]}'),
    -- routes are tried in order; the last one takes everything, and a set without such a route cannot be activated
    ('assignment', 'default', '{"object": "lead", "weights": {"region": 3, "industry": 2, "load": 1}, "routes": [{"name": "same_customer", "when": "$ ? (@.account_owner_id != null)", "to": {"owner": "account_owner"}}, {"name": "region_and_industry", "when": "$ ? (@.region != null && @.industry != null)", "to": {"match": ["region", "industry"], "by": "load"}}, {"name": "region", "when": "$ ? (@.region != null)", "to": {"match": ["region"], "by": "load"}}, {"name": "default", "when": "$", "to": {"match": [], "by": "load"}}],
        "regions": {"north": ["北京", "天津", "河北", "山西", "内蒙古"], "northeast": ["辽宁", "吉林", "黑龙江"], "east": ["上海", "江苏", "浙江", "安徽", "福建", "江西", "山东"], "central": ["河南", "湖北", "湖南"], "south": ["广东", "广西", "海南"], "west": ["重庆", "四川", "贵州", "云南", "西藏", "陕西", "甘肃", "青海", "宁夏", "新疆"]},
        "boxes": {"north": [[110.5, 36.0], [119.9, 42.7]], "east": [[114.9, 23.5], [122.9, 36.0]], "south": [[104.4, 18.1], [117.3, 25.6]]},
        "industries": {"energy": ["光伏", "储能", "风电", "电力", "solar", "energy"], "manufacturing": ["制造", "工厂", "机械", "设备", "manufactur", "factory"], "education": ["学校", "大学", "教育", "school", "university"], "healthcare": ["医院", "医疗", "制药", "hospital", "clinic"], "finance": ["银行", "保险", "证券", "bank", "insurance"], "retail": ["零售", "电商", "门店", "retail", "shop"], "software": ["软件", "信息化", "系统集成", "software", "saas"], "logistics": ["物流", "运输", "仓储", "logistics", "freight"], "construction": ["建筑", "工程", "施工", "construction"], "government": ["政府", "局", "委员会", "government"]}}'),
    ('sla', 'first_touch', '{"object": "lead", "due": "5 minutes", "escalate": "5 minutes", "reassign": true, "clock": "always"}'),
    ('sla', 'quote_sent', '{"object": "opportunity", "action": "quote_sent", "due": "72 hours", "notify": ["owner", "manager"], "clock": "always"}'),
    ('sla', 'case', '{"object": "task", "kind": "case", "due": "8 hours", "escalate": "4 hours", "clock": "working"}'),
    ('sla', 'meeting_summary', '{"object": "interaction", "kind": "meeting", "due": "5 minutes", "clock": "always"}'),
    -- win probability: dimensions, buckets, calendars by customer type
    ('odds', 'win', '{"object": "opportunity", "dims": ["stage", "industry", "account_type", "product_line", "deal_type", "source", "owner", "stage_age", "days_to_expiry", "fiscal_phase", "close_month_in_quarter", "amount_bucket"], "orders": [1, 2], "half_life": "span/6", "min_cases": 30,
        "buckets": {"stage_age": {"percentiles": [25, 50, 75, 90]}, "days_to_expiry": [0, 30, 60, 90, 180], "amount": [10000, 50000, 100000, 300000, 1000000, 3000000]},
        "fiscal": {"government": {"1-3": "budget", "4-6": "tender", "7-9": "award", "10-12": "year_end"}, "education": {"3-5": "tender", "6-8": "summer", "9-11": "term", "12-2": "winter"}, "*": {"1-3": "Q1", "4-6": "Q2", "7-9": "Q3", "10-12": "Q4"}},
        "override": {"strength": 20, "max_strength": 200}, "clip": [0.01, 0.99], "stage_prior_deals": 20}'),
    ('odds', 'churn', '{"object": "account", "label": "no_purchase", "horizon": "180 days", "dims": ["usage_trend", "usage_depth", "tickets", "days_to_expiry", "account_type", "industry", "grade", "last_contact_age"], "sources": ["web", "app"], "min_cases": 30, "nominal_accuracy": 0.78}'),
    ('odds', 'renewal', '{"object": "contract", "label": "renewed", "window": "30 days", "dims": ["dau_mau", "support_response", "last_activity", "days_to_expiry", "account_type", "amount_bucket", "receivable_health"], "sources": ["web", "app"], "min_cases": 30}'),
    ('odds', 'drift', '{"psi": 0.1, "psi_red": 0.25, "chi_square": 0.999, "calibration_z": 4, "page_hinkley": {"delta": 0.01, "lambda": 10}, "source_share_points": 20, "new_source_percent": 5, "promote_confidence": 0.90}'),
    -- forecast credibility, cold start: representative, signed confirmation, legal review
    ('credibility', 'default', '{"weights": {"representative": 0.5, "signed": 0.3, "legal": 0.2}, "window": "3 months", "hit_within_percent": 20, "shrink_to_team": 10, "levels": {"yellow": 60, "orange": 45, "red": 30}, "hysteresis": {"enter": 58, "leave": 62}, "min_cases": 100}'),
    -- metrics: fact, measure, amount basis, recognition, date basis, filters, distinct key
    ('metric', 'bookings', '{"en": "Bookings", "zh": "签约额", "fact": "contract", "measure": "amount", "amount_basis": "gross", "recognition": "signed", "date_basis": "signed_on", "filters": [{"field": "state", "in": ["signed", "active", "finished"]}], "dims": ["owner", "team", "region", "industry", "type", "grade"], "valid_from": "2000-01-01"}'),
    ('metric', 'net_bookings', '{"en": "Bookings without tax", "zh": "签约额(不含税)", "fact": "contract", "measure": "amount", "amount_basis": "net", "recognition": "signed", "date_basis": "signed_on", "filters": [{"field": "state", "in": ["signed", "active", "finished"]}], "dims": ["owner", "team", "region", "industry", "type", "grade"], "valid_from": "2000-01-01"}'),
    ('metric', 'instalments', '{"en": "Instalments due", "zh": "分期应收额", "fact": "contract", "measure": "amount", "amount_basis": "gross", "recognition": "instalment", "date_basis": "due_on", "filters": [{"field": "state", "in": ["signed", "active", "finished"]}], "dims": ["owner", "team", "region", "industry", "type", "grade"], "valid_from": "2000-01-01"}'),
    ('metric', 'contract_receipts', '{"en": "Receipts on contracts", "zh": "合同回款额", "fact": "contract", "measure": "amount", "amount_basis": "received", "recognition": "cash", "date_basis": "occurred_on", "filters": [{"field": "state", "in": ["signed", "active", "finished"]}], "dims": ["owner", "team", "region", "industry", "type", "grade"], "valid_from": "2000-01-01"}'),
    ('metric', 'billings', '{"en": "Billings", "zh": "开票额", "fact": "receivable_entry", "measure": "amount", "amount_basis": "gross", "recognition": "instalment", "date_basis": "occurred_on", "filters": [{"field": "kind", "in": ["invoice"]}], "dims": ["owner", "team", "region", "industry", "type", "grade"], "valid_from": "2000-01-01"}'),
    ('metric', 'receipts', '{"en": "Receipts", "zh": "回款额", "fact": "receivable_entry", "measure": "amount", "amount_basis": "received", "recognition": "cash", "date_basis": "occurred_on", "filters": [{"field": "kind", "in": ["payment", "refund"]}], "signs": {"refund": -1}, "dims": ["owner", "team", "region", "industry", "type", "grade"], "valid_from": "2000-01-01"}'),
    ('metric', 'orders', '{"en": "Orders", "zh": "订单数", "fact": "line_item", "measure": "count", "date_basis": "sold_on", "filters": [{"field": "sold_on", "is": "not_null"}], "distinct_key": ["account_id", "product_id", "sold_on"], "dims": ["owner", "team", "region", "product_line"], "valid_from": "2000-01-01"}'),
    ('metric', 'customers', '{"en": "Signing customers", "zh": "签约客户数", "fact": "contract", "measure": "count", "date_basis": "signed_on", "filters": [{"field": "state", "in": ["signed", "active", "finished"]}], "distinct_key": ["account_id"], "dims": ["owner", "team", "region", "industry", "type", "grade"], "valid_from": "2000-01-01"}'),
    ('metric', 'win_rate', '{"en": "Win rate", "zh": "赢单率", "fact": "opportunity", "measure": "share", "numerator": [{"field": "outcome", "in": ["won"]}], "denominator": [{"field": "outcome", "in": ["won", "lost"]}], "date_basis": "closed_at", "dims": ["owner", "team", "stage", "region", "industry", "product_line", "deal_type", "competitor"], "valid_from": "2000-01-01"}'),
    ('metric', 'won_amount', '{"en": "Deals won", "zh": "赢单金额", "fact": "opportunity", "measure": "amount", "amount_basis": "gross", "filters": [{"field": "outcome", "in": ["won"]}], "date_basis": "closed_at", "dims": ["owner", "team", "region", "industry", "product_line", "deal_type"], "valid_from": "2000-01-01"}'),
    -- without a date: what there is at the end of the period
    ('metric', 'pipeline', '{"en": "Open pipeline", "zh": "在途商机金额", "fact": "opportunity", "measure": "amount", "amount_basis": "gross", "filters": [{"field": "outcome", "in": ["open"]}], "dims": ["owner", "team", "stage", "category", "product_line"], "valid_from": "2000-01-01"}'),
    ('metric', 'weighted_pipeline', '{"en": "Weighted pipeline", "zh": "加权管道金额", "fact": "opportunity", "measure": "amount", "weight": "probability", "amount_basis": "gross", "filters": [{"field": "outcome", "in": ["open"]}], "dims": ["owner", "team", "stage", "category", "product_line"], "valid_from": "2000-01-01"}'),
    ('metric', 'stage_dwell', '{"en": "Days in stage", "zh": "阶段停留天数", "fact": "stage_history", "measure": "mean_days", "from": "entered_at", "to": "left_at", "date_basis": "left_at", "dims": ["owner", "team", "stage"], "valid_from": "2000-01-01"}'),
    ('metric', 'follow_ups', '{"en": "Follow-ups", "zh": "跟进次数", "fact": "interaction", "measure": "count", "date_basis": "occurred_at", "filters": [{"field": "retracted_at", "is": null}], "dims": ["owner", "team", "kind", "channel"], "valid_from": "2000-01-01"}'),
    ('metric', 'touch_quality', '{"en": "Quality of follow-ups", "zh": "跟进质量", "fact": "interaction", "measure": "mean", "field": "quality", "date_basis": "occurred_at", "filters": [{"field": "retracted_at", "is": null}], "dims": ["owner", "team", "kind", "channel"], "valid_from": "2000-01-01"}'),
    ('metric', 'survey_response', '{"en": "Surveys answered", "zh": "调研回复率", "fact": "interaction", "measure": "share", "numerator": [{"field": "satisfaction", "is": "not_null"}], "denominator": [{"field": "kind", "in": ["survey"]}, {"field": "retracted_at", "is": null}], "date_basis": "occurred_at", "dims": ["owner", "team", "channel"], "valid_from": "2000-01-01"}'),
    ('metric', 'satisfaction', '{"en": "Satisfaction", "zh": "客户满意度", "fact": "interaction", "measure": "mean", "field": "satisfaction", "date_basis": "occurred_at", "filters": [{"field": "kind", "in": ["survey"]}, {"field": "retracted_at", "is": null}], "dims": ["owner", "team", "channel"], "valid_from": "2000-01-01"}'),
    ('metric', 'leads', '{"en": "Leads", "zh": "线索数", "fact": "lead", "measure": "count", "date_basis": "occurred_at", "dims": ["owner", "team", "region", "industry", "source", "channel"], "valid_from": "2000-01-01"}'),
    ('metric', 'lead_conversion', '{"en": "Leads converted", "zh": "线索转化率", "fact": "lead", "measure": "share", "numerator": [{"field": "state", "in": ["converted"]}], "denominator": [{"field": "state", "not_in": ["recycled"]}], "date_basis": "occurred_at", "dims": ["owner", "team", "region", "industry", "source", "channel"], "valid_from": "2000-01-01"}'),
    ('metric', 'first_touch_hours', '{"en": "Hours to the first touch", "zh": "首触时长(小时)", "fact": "lead", "measure": "mean_hours", "from": "recorded_at", "to": "first_touch_at", "date_basis": "recorded_at", "dims": ["owner", "team", "region", "source", "channel"], "valid_from": "2000-01-01"}'),
    ('metric', 'actions_done', '{"en": "Stage actions done", "zh": "阶段动作完成率", "fact": "task", "measure": "share", "numerator": [{"field": "state", "in": ["done"]}], "denominator": [{"field": "kind", "in": ["stage_action"]}, {"field": "state", "not_in": ["cancelled"]}], "date_basis": "due_at", "dims": ["owner", "team", "stage", "action_key"], "valid_from": "2000-01-01"}'),
    ('metric', 'instalments_paid', '{"en": "Instalments paid", "zh": "分期回款率", "fact": "payment_plan", "measure": "share", "numerator": [{"field": "paid_on", "is": "not_null"}], "denominator": [{"field": "due_on", "is": "not_null"}], "date_basis": "due_on", "dims": ["owner", "team", "region", "industry", "type"], "valid_from": "2000-01-01"}'),
    ('metric', 'completeness', '{"en": "Completeness", "zh": "数据完整率", "fact": "account", "measure": "filled_share", "fields": ["phone", "email", "industry", "region", "uscc"], "dims": ["owner", "team", "region", "type"], "valid_from": "2000-01-01"}'),
    ('metric', 'manager_intervention_days', '{"en": "Days until the manager steps in", "zh": "经理介入时长(天)", "note": "Mean days from the beginning of a task to the moment it was escalated to the manager; the difference between two periods says by how much earlier managers intervene.", "fact": "task", "measure": "mean_days", "from": "started_at", "to": "escalated_at", "date_basis": "escalated_at", "filters": [{"field": "kind", "in": ["stage_action"]}], "dims": ["owner", "team", "kind"], "valid_from": "2000-01-01"}'),
    -- about the engine itself: for directors and administrators
    ('metric', 'write_conflicts', '{"en": "Conflicting writes", "zh": "写入冲突数", "fact": "conflict", "measure": "count", "date_basis": "created_at", "valid_from": "2000-01-01"}'),
    ('metric', 'lookups', '{"en": "Values revealed", "zh": "敏感信息查看次数", "fact": "access_log", "measure": "count", "date_basis": "at", "filters": [{"field": "action", "in": ["reveal"]}], "dims": ["actor", "object"], "valid_from": "2000-01-01"}'),
    ('metric', 'payload_errors', '{"en": "Payloads refused", "zh": "接口错误率", "fact": "inbox", "measure": "share", "numerator": [{"field": "state", "in": ["rejected", "parked"]}], "denominator": [{"field": "state", "is": "not_null"}], "date_basis": "created_at", "dims": ["kind"], "valid_from": "2000-01-01"}'),
    ('metric', 'lookup_repeats', '{"en": "Looked up again", "zh": "重复查询率", "note": "Share of the values revealed that the same person had revealed of the same record before in the period: 1 - different ones / all.", "fact": "access_log", "measure": "repeat_share", "distinct_key": ["actor", "object", "record_id", "field_id"], "date_basis": "at", "filters": [{"field": "action", "in": ["reveal"]}], "dims": ["actor", "object"], "valid_from": "2000-01-01"}'),
    ('metric', 'config_hours', '{"en": "Hours from a draft to its effect", "zh": "配置生效时长(小时)", "fact": "config", "measure": "mean_hours", "from": "created_at", "to": "activated_at", "date_basis": "activated_at", "dims": ["kind"], "valid_from": "2000-01-01"}'),
    ('metric', 'payload_delay', '{"en": "Hours from the source to us (95 %)", "zh": "数据接入延迟P95(小时)", "fact": "inbox", "measure": "p95_hours", "from": "source_ts", "to": "processed_at", "date_basis": "created_at", "dims": ["kind", "state"], "valid_from": "2000-01-01"}'),
    ('metric', 'approval_hours', '{"en": "Hours to a decision", "zh": "审批时长(小时)", "fact": "approval", "measure": "mean_hours", "from": "created_at", "to": "decided_at", "date_basis": "decided_at", "dims": ["kind", "object"], "valid_from": "2000-01-01"}'),
    ('report', 'bottleneck_brief', '{"en": "Bottleneck brief", "zh": "团队瓶颈诊断简报", "to": ["crm_manager"], "top": 3, "topic": "report.bottleneck"}'),
    ('report', 'action_heatmap', '{"en": "Action heat map", "zh": "销售动作热力图", "to": ["crm_manager", "crm_director"], "columns": ["done_rate", "mean_hours", "first_pass_rate"], "topic": "report.heatmap"}'),
    ('report', 'morning_brief', '{"en": "Morning list", "zh": "每日预警清单", "to": ["crm_sales", "crm_manager"], "silent_days": 30, "expiring_days": 90, "top": 3, "topic": "brief.daily", "page": {"part": "kind", "columns": ["kind", "account", "title", "due_at", "days"], "names": {"todo": {"days": "days_left"}, "silent": {"due_at": "last_contact_at", "days": "days_silent"}, "expiring": {"title": "contract", "days": "days_left"}, "competitor_move": {"title": "competitor", "due_at": "last_contact_at", "days": "days_since"}}}}'),
    ('report', 'director_daily', '{"en": "Director''s daily", "zh": "总监日报", "to": ["crm_director"], "topic": "report.director"}'),
    ('report', 'followup_watch', '{"en": "Customers nobody speaks to", "zh": "久未跟进客户", "to": ["crm_manager"], "page": {"part": "level", "columns": ["account", "owner", "last_contact_at", "days"], "names": {"alert": {"days": "days_silent"}, "manager": {"days": "days_silent"}}}}'),
    -- what people ask for themselves: only how it looks as a page
    ('report', 'my_board', '{"en": "War board", "zh": "作战室", "page": {"part": "part", "names": {"todo": {"days": "days_left"}}, "columns": ["account", "title", "due_at", "days", "level", "score", "deals", "amount", "currency", "won_rate"], "say": ["level"]}}'),
    ('report', 'today_focus', '{"en": "Customers of today", "zh": "今日重点客户", "page": {"columns": ["account", "grade", "reason", "title", "due_at", "last_contact_at"], "say": ["reason"]}}'),
    ('report', 'receivable_health', '{"en": "Health of receivables", "zh": "回款健康度", "page": {"columns": ["account", "level", "contract", "expires_on", "days_left", "credit_rating", "on_time_rate", "outstanding", "currency", "score"], "say": ["level"]}}'),
    ('report', 'funnel', '{"en": "Funnel", "zh": "销售漏斗", "page": {"columns": ["label", "deals", "amount", "currency", "of_first_rate", "of_before_rate", "hidden", "unpriced"], "chart": {"kind": "funnel", "label": "label", "value": "deals"}}}'),
    ('report', 'consistency_rate', '{"en": "Consistency board", "zh": "一致性看板", "page": {"columns": ["field", "system", "level", "difference_rate", "compared", "differing", "missing_here", "missing_there"], "say": ["level"]}}'),
    ('report', 'field_map_check', '{"en": "Cross-system check", "zh": "跨系统字段映射校验", "to": ["crm_steward"], "map": "core", "topic": "report.field_map"}'),
    ('report', 'consistency_scan', '{"en": "Consistency of the data", "zh": "数据一致性巡检", "to": ["crm_steward"], "topic": "report.consistency"}'),
    ('report', 'field_review', '{"en": "Use of the fields", "zh": "字段季度复盘", "to": ["crm_steward"], "topic": "report.field_review"}'),
    ('report', 'deviation', '{"en": "Deviation of the forecast", "zh": "预测偏差归因分析", "to": ["crm_manager", "crm_director"], "topic": "report.deviation"}'),
    ('report', 'monthly_snapshot', '{"en": "Monthly snapshot", "zh": "月度快照", "to": ["crm_director"], "metrics": ["bookings", "billings", "receipts", "orders", "customers", "win_rate", "pipeline", "weighted_pipeline"], "topic": "report.snapshot"}'),
    ('report', 'team_performance', '{"en": "Team performance", "zh": "团队业绩报表", "to": ["crm_manager", "crm_director"], "metrics": ["bookings", "receipts", "win_rate", "follow_ups"], "topic": "report.team"}'),
    ('report', 'report_check', '{"en": "Report check", "zh": "报表一致性检查", "to": ["crm_admin"], "topic": "report.check"}'),
    ('report', 'health_report', '{"en": "CRM health", "zh": "CRM健康度月报", "to": ["crm_admin", "crm_director"], "indicators": ["active_users", "completeness", "approval_hours", "error_rate", "model_accuracy"], "topic": "report.health"}'),
    ('report', 'access_audit', '{"en": "Access audit", "zh": "权限审计", "to": ["crm_admin"], "topic": "report.access"}'),
    ('attribution', 'default', '{"model": "position", "position": {"first": 0.4, "last": 0.4, "middle": 0.2}, "window": "180 days", "touchpoints": [{"key": "website_form", "en": "Website form", "zh": "官网表单", "weight": 1.0}, {"key": "whitepaper", "en": "Whitepaper", "zh": "白皮书下载", "weight": 0.8}, {"key": "live_stream", "en": "Live stream", "zh": "直播报名", "weight": 0.8}, {"key": "trade_show", "en": "Trade show", "zh": "展会扫码", "weight": 1.2}, {"key": "webinar", "en": "Webinar", "zh": "线上研讨会", "weight": 0.9}, {"key": "search_ad", "en": "Search ad", "zh": "搜索广告", "weight": 0.6}, {"key": "social_post", "en": "Social post", "zh": "社交媒体", "weight": 0.5}, {"key": "wechat_article", "en": "WeChat article", "zh": "公众号文章", "weight": 0.5}, {"key": "referral", "en": "Referral", "zh": "老客户转介绍", "weight": 1.5}, {"key": "phone_call", "en": "Telephone call", "zh": "电话沟通", "weight": 1.0}, {"key": "visit", "en": "Visit", "zh": "上门拜访", "weight": 1.4}, {"key": "demo", "en": "Demo", "zh": "方案演示", "weight": 1.4}]}'),
    ('journey', 'onboarding', '{"nodes": [{"key": "signed_up", "event": "sign_up", "en": "Signed up", "zh": "注册"}, {"key": "first_login", "event": "login", "en": "First log-in", "zh": "首次登录"}, {"key": "tutorial", "event": "tutorial_done", "en": "Tutorial done", "zh": "完成教程"}, {"key": "api", "event": "api_call", "en": "Interface used", "zh": "使用API", "stall": "48 hours"}, {"key": "ticket", "event": "ticket_opened", "en": "Ticket opened", "zh": "提交工单"}]}'),
    ('script', 'opening.value', '{"when": "$", "en": "Thank you for your interest in {product}. Companies like yours in {industry} usually start with {need}. May I ask what made you look for it now?", "zh": "感谢您关注{product}。{industry}行业的客户通常从{need}开始。请问您目前最想解决的问题是什么?"}'),
    ('script', 'opening.competitor', '{"when": "$ ? (@.competitor != null)", "en": "Many customers compare us with {competitor}. The three differences that matter most in {industry} are quickly told. Shall I send you the comparison?", "zh": "不少客户会把我们和{competitor}做对比,在{industry}行业最关键的差异有三点,我把对比表发给您可以吗?"}'),
    ('script', 'opening.reference', '{"when": "$ ? (@.similar_case != null)", "en": "We solved the same for {similar_case}. A call of fifteen minutes would show you how.", "zh": "我们为{similar_case}解决过类似问题,15分钟电话即可向您说明。"}'),
    -- who decides a request; the first entry that fits it counts
    ('approval_flow', 'default', '{"flows": [{"kind": "delete", "object": "contract", "approver": "crm_legal"}, {"kind": "delete", "object": "attachment", "approver": "crm_legal"}, {"kind": "bulk", "object": "*", "approver": "crm_manager"}, {"kind": "*", "object": "*", "approver": "crm_admin"}]}'),
    -- which channel a topic goes out on, and which reminders carry the customer they are about; who gets a message is decided where it is made
    ('notification', 'default', '{"snapshot": ["task.*", "followup.*", "recycle.notice", "alert.*", "exec.alert", "order.signed"], "topics": {"task.overdue": "wecom", "task.first_touch": "sms", "alert.yellow": "wecom", "alert.orange": "wecom", "brief.daily": "wecom", "followup.manager": "wecom", "*": "email"}, "fallback": {"sms": ["app", "email"], "wecom": ["app"], "dingtalk": ["app"], "feishu": ["app"], "app": ["email"]}}'),
    -- working days: the weekend, public holidays and the working weekends that pay for them. To be extended when the next year''s are published.
    ('calendar', 'default', '{"tz": "Asia/Shanghai", "weekend": [6, 7], "hours": ["09:00", "18:00"], "holidays": ["2026-01-01", "2026-01-02", "2026-01-03", "2026-02-15", "2026-02-16", "2026-02-17", "2026-02-18", "2026-02-19", "2026-02-20", "2026-02-21", "2026-02-22", "2026-02-23", "2026-04-04", "2026-04-05", "2026-04-06", "2026-05-01", "2026-05-02", "2026-05-03", "2026-05-04", "2026-05-05", "2026-06-19", "2026-06-20", "2026-06-21", "2026-09-25", "2026-09-26", "2026-09-27", "2026-10-01", "2026-10-02", "2026-10-03", "2026-10-04", "2026-10-05", "2026-10-06", "2026-10-07"], "workdays": ["2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"], "fiscal_year_starts": "01-01"}'),
    ('health_model', 'account', '{"weights": {"follow_up_gap": 0.4, "contract_expiry": 0.3, "sentiment": 0.3}, "follow_up_gap": {"full": "7 days", "zero": "30 days"}, "contract_expiry": {"full": "180 days", "zero": "30 days"}, "sentiment": {"neutral": 50}}'),
    ('health_model', 'information', '{"weights": {"contact_freshness": 0.4, "contract_scans": 0.3, "recent_summaries": 0.3}, "contact_freshness": {"full": "30 days", "zero": "180 days"}, "recent_summaries": 3}'),
    ('health_model', 'touch_quality', '{"base": {"visit": 90, "demo": 90, "meeting": 80, "call": 70, "quote": 70, "objection": 70, "chat": 60, "email": 60, "file": 50, "form": 50, "survey": 50, "ticket": 40, "note": 30, "system": 10}, "reply": {"full_under": "2 hours", "zero_after": "48 hours"}, "meeting_without_next_step": -40, "deep": 10, "half_life": "30 days"}'),
    ('health_model', 'rfm', '{"recency": ["30 days", "90 days", "180 days", "365 days"], "frequency": [1, 2, 4, 8], "money": [10000, 100000, 500000, 2000000], "grades": {"A": 12, "B": 9, "C": 6, "D": 3}, "window": "24 months"}'),
    ('health_model', 'points', '{"task_on_time": 2, "stage_action_on_time": 3, "follow_up_quality_over": {"quality": 80, "points": 1}, "first_touch_in_time": 3}'),
    ('flag', 'auto_merge', '{"on": false, "en": "Merge certain duplicates without a person", "zh": "自动合并确定重复"}'),
    ('flag', 'lock_original', '{"on": true, "en": "Lock the original on a certain duplicate", "zh": "强匹配锁定原记录"}'),
    ('flag', 'fixed_views', '{"on": false, "en": "Refuse changes of the views of schema crm, instead of telling of them", "zh": "禁止修改crm视图"}'),
    ('flag', 'off_fields', '{"on": true, "en": "Fields switched off by client: {\"safari/17.3.1\": [\"account.legal_person\"]}", "zh": "按客户端停用字段", "fields": {}}'),
    ('receivable_health', 'default', '{"weights": {"contract_expiry": 0.3, "credit_rating": 0.3, "on_time_rate": 0.4}, "contract_expiry": {"green": "90 days", "red": "0 days"}, "credit_rating": {"A": 100, "B": 75, "C": 40, "D": 0, "none": 60}, "on_time_rate": {"green": 0.9, "red": 0.6}, "levels": {"green": 75, "yellow": 50}}'),
    ('lifecycle', 'account', '{"states": ["prospect", "customer", "dormant", "churned"], "next": {"prospect": ["customer", "dormant"], "customer": ["dormant", "churned"], "dormant": ["prospect", "customer", "churned"], "churned": ["prospect", "customer"]}}'),
    ('recycle', 'default', '{"rules": [{"when": "$ ? (@.grade < 3 && @.days_since_contact > 30 && @.open_opportunities == 0)", "pool": "public"}], "notice": "7 days", "claim_limit": 20}')
) AS v (kind, key, body);

-- Opening stock of channels, sources, the public pool and the jobs.
INSERT INTO crm_data.channel (name) VALUES ('sms'), ('email'), ('app'), ('wecom'), ('dingtalk'), ('feishu'), ('webhook');

INSERT INTO crm_data.source_system (name, kind, label, mode, enabled, cadence, priority)
SELECT v.name, v.kind, jsonb_build_object('en', v.en, 'zh', v.zh), v.mode, v.enabled, v.cadence::interval, v.priority
FROM (VALUES
    ('wechat_service', 'chat', 'WeChat service account', '微信服务号', 'push', true, '0', 10),
    ('wecom_archive', 'chat', 'WeCom message archive', '企业微信会话存档', 'push', true, '0', 10),
    ('dingtalk_approval', 'chat', 'DingTalk approvals', '钉钉审批单', 'push', true, '0', 10),
    ('web', 'web', 'Website', '官网', 'push', true, '0', 20),
    ('app', 'web', 'Product and app', '产品与应用', 'push', true, '0', 20),
    ('telephony', 'telephony', 'Telephone system', '呼叫中心', 'push', true, '0', 20),
    ('asr', 'asr', 'Meetings and transcripts', '会议与转写', 'push', true, '5 minutes', 20),
    ('file', 'file', 'File import', '文件导入', 'pull', true, NULL, 5),
    ('erp', 'erp', 'ERP', 'ERP', 'pull', true, '1 day', 40),
    ('marketing', 'marketing', 'Marketing cloud', '营销云', 'pull', true, '1 day', 15),
    ('esign', 'legal', 'Electronic seal', '电子签章', 'push', true, '0', 50),
    ('kingdee', 'finance', 'Kingdee Cloud', '金蝶云星空', 'pull', false, '1 day', 40),
    ('yonyou', 'finance', 'Yonyou U8', '用友U8', 'pull', false, '1 day', 40),
    ('feishu', 'chat', 'Feishu', '飞书', 'push', false, '0', 10),
    ('taobao', 'web', 'Taobao', '淘宝', 'pull', false, '1 day', 10),
    ('jd', 'web', 'JD', '京东', 'pull', false, '1 day', 10),
    ('shopify', 'web', 'Shopify', 'Shopify', 'pull', false, '1 day', 10)
) AS v (name, kind, en, zh, mode, enabled, cadence, priority);

INSERT INTO crm_data.pool (name) VALUES ('public');

-- The default sender of everything is the schedule: an offset counts from the local start of the day, week (Monday), month or quarter.
INSERT INTO crm_data.job (name, cadence, offset_, procedure, catch_up, description)
SELECT v.name, v.cadence, v.offset_::interval, v.procedure, v.catch_up, v.description
FROM (VALUES
    ('source_watchdog', 'minute', '0', '_job_source_watchdog', 'skip', 'Compares the volume of every source with its usual one'),
    ('client_watch', 'minute', '0', '_job_client_watch', 'skip', 'Compares how often the saves of each client version fail, and which versions fell silent'),
    ('config_canary', 'hour', '5 minutes', '_job_config_canary', 'latest', 'Promotes canaries without anomalies, rolls back the others'),
    ('history_root', 'day', '10 minutes', '_job_history_root', 'all', 'Chains the daily root over all history heads and sends it out'),
    ('report_check', 'day', '1 hour 30 minutes', '_job_report_check', 'latest', 'Computes each metric twice and compares with yesterday'),
    ('dedup_scan', 'day', '3 hours', '_job_dedup_scan', 'latest', 'Looks for duplicates among changed records'),
    ('verify_history', 'day', '3 hours 30 minutes', '_job_verify_history', 'latest', 'Verifies the history chains of the day'),
    ('journey_watch', 'hour', '15 minutes', '_job_journey_watch', 'latest', 'Customers who stand still on a journey'),
    ('score_accounts', 'day', '4 hours', '_job_score_accounts', 'latest', 'Risk of every open deal and information health of every customer'),
    ('score_models', 'day', '4 hours 15 minutes', '_job_score_models', 'latest', 'Timing of the forecast; win probability, credibility, churn and renewal beside the records'),
    ('access_watch', 'day', '3 hours 15 minutes', '_job_access_watch', 'latest', 'Alerts of what is amiss with roles and rights'),
    ('drift', 'day', '5 hours', '_job_drift', 'all', 'Drift of features, scores and calibration'),
    ('followup_watch', 'day', '7 hours', '_job_followup_watch', 'latest', 'Customers without contact for 7 and 30 days'),
    ('date_rules', 'day', '6 hours 30 minutes', '_job_date_rules', 'latest', 'Rules on days that come: so long after a date of a record, or before it'),
    ('morning_brief', 'day', '8 hours', '_job_morning_brief', 'latest', 'Morning list and personal board'),
    ('director_daily', 'day', '8 hours 15 minutes', '_job_director_daily', 'latest', 'Director''s daily'),
    ('action_heatmap', 'week', '8 hours 30 minutes', '_job_action_heatmap', 'all', 'Action heat map of the week before'),
    ('bottleneck_brief', 'week', '10 hours', '_job_bottleneck_brief', 'latest', 'Monday''s bottleneck brief'),
    ('monthly_snapshot', 'month', '0', '_job_monthly_snapshot', 'all', 'Snapshot of the metrics of the month before'),
    ('forecast_freeze', 'month', '5 minutes', '_job_forecast_freeze', 'all', 'Freezes the forecast of the month that begins'),
    ('team_performance', 'month', '1 hour', '_job_team_performance', 'all', 'Team performance of the month before'),
    ('model_refit', 'month', '2 hours', '_job_model_refit', 'latest', 'Fits the models anew and decides about challengers'),
    ('access_audit', 'month', '3 hours', '_job_access_audit', 'latest', 'Access audit'),
    ('health_report', 'month', '9 hours', '_job_health_report', 'all', 'Five indicators of the CRM''s own health'),
    ('deviation', 'month', '14 days 8 hours', '_job_deviation', 'all', 'Deviation of the forecast, on the 15th'),
    ('consistency_scan', 'day', '2 hours 30 minutes', '_job_consistency_scan', 'latest', 'Compares related records and applies the quality rules'),
    ('rfm_grade', 'day', '4 hours 30 minutes', '_job_rfm_grade', 'latest', 'Grades customers by recency, frequency and money'),
    ('recycle', 'day', '6 hours', '_job_recycle', 'latest', 'Returns neglected customers to the pool, after a notice'),
    ('field_map_check', 'month', '4 days 7 hours', '_job_field_map_check', 'all', 'Cross-system check of the core fields, on the 5th'),
    ('field_review', 'quarter', '9 hours', '_job_field_review', 'latest', 'Use of every field in the quarter before')
) AS v (name, cadence, offset_, procedure, catch_up, description);
