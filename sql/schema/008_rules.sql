-- Rules and the 27 risk signals, as data.
--
-- A rule is {"on", "when", "settings", "window", "delay", "once", "then", "en", "zh"}:
--   on        what makes the engine look: interaction.insert; account.update (the life cycle moved; event.old has the one before); contract.signed; conflict.insert;
--             task.overdue (a stage action is late); timer.account, timer.contract (a day's silence, an expiry, a stalled journey); timer.interaction (a meeting
--             without a summary); score.risk, score.info_health; inbox.<kind> (in the transaction of the payload), event.<kind> (by the next tick); chain;
--             date.<object>.<field> (every morning: the delay after that day, or the time "before" it, has come; once for each day)
--   when      jsonpath that finds something in the feature document when the rule holds. A missing field is never a match.
--   settings  variables of that path: {"n": "risk.legal_edits"} makes $n the value of that setting, so that a figure stands in one place
--   window    {"count", "within"}: fires at the count-th match within the time; count may be {"setting": key}
--   delay     time from when it happened to the action; once: what the rule fires once for (record, stage, breach, window), so that a repeated tick does nothing
--   then      actions: {"do": "task" | "tag" | "ticket" | "message" | "alert" | "hold_discount" | "assign" | "set" | "interaction" | "signal_tasks" | "chain", ..}; to is
--             owner, manager, director or role:<group role>; content is what a message carries
--
-- A risk signal is such a rule over the feature document of an opportunity with a weight in points. The risk score is 100 * (1 - product of (1 - weight / 100)) over the
-- signals that hold.
--
-- The feature document, made by crm.features(object, id), has the columns of the record under the object's name, and beside them (counts and ages are 0 or null, never
-- absent, where the record exists):
--   opportunity     + stage (code), stage_seq, stage_age_days, days_since_contact, days_since_demo, days_to_close, quote_unviewed_workdays, regressions_30d, amount_change_pct_30d
--   account         + days_since_contact, days_to_renewal, open_opportunities, open_cases, complaints_90d, receivable (green, yellow, red), overdue_days
--   contacts        count, by_role.<decision role>.{count, days_silent, open_questions}
--   decision_chain  decision_makers, champions, opponents, lost_30d (people of the chain who were deleted, or whose attrs.left_on is in the last 30 days)
--   interactions    count, kinds.<kind>, inbound_14d, reply_hours_30d, without_next_step_30d, quality, quality_drop, keyword_hits_7d, budget_wait_mentions, competitor_mentions_30d
--   actions         open_mandatory, overdue, overdue_hours, waived
--   progress        [keys of the picklist key_progress];  forms.<form>.complete;  line_items.{count, discount_pct}
--   attachments     [{kind, name, signed_by_customer, legal_reviewed_at}]
--   contract        + approval_stuck_workdays, days_to_expiry, payment_points, overdue_points; amount_base in the organisation's currency
--   usage           days_since_login, tickets_open, tickets_technical, balance, active_days_30d, trend (active days of the last 30 against the 30 before)
--   journey         node (the next one of journey/onboarding that the customer has not reached), reached, hours since then; null when it is done or never begun
--   owner           left, open_tasks
-- For rules on an event the event itself stands under event: the columns of the follow-up, task or lead with keyword_hits, and objections
-- {kind: how many} of a transcript, or the payload with kind.

INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'risk_signal', v.key, 1,
       jsonb_strip_nulls(jsonb_build_object('on', 'timer.opportunity', 'en', v.en, 'zh', v.zh, 'weight', v.weight, 'when', v.path, 'settings', v.settings::jsonb))
           || jsonb_build_object('then', v.actions::jsonb),
       'active', '(,)', 'crm', 'release'
FROM (VALUES
    ('technical_contact_silent', 30, 'Technical contact silent', '技术联系人失联', '$.contacts.by_role.technical ? (@.days_silent > $n)', '{"n": "risk.contact_silent"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Call the technical contact, or find a second one", "zh": "联系技术负责人或建立第二联系人"}]'),
    ('legal_edits', 30, 'Many places changed by the customer''s lawyers', '法务条款修改过多', '$.contract ? (@.legal_edits > $n)', '{"n": "risk.legal_edits"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Go through the changed terms with legal", "zh": "与法务逐条确认修改条款"}]'),
    ('approval_stuck', 40, 'Stuck at the final approval', '采购终审停滞', '$.contract ? (@.approval_stuck_workdays > $n)', '{"n": "risk.approval_stuck"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Visit the final approver", "zh": "拜访终审人"}]'),
    ('quote_unviewed', 25, 'Quote not opened by procurement', '采购未查看报价', '$.opportunity ? (@.quote_unviewed_workdays >= $n)', '{"n": "quote.unviewed"}',
     '[{"do": "message", "topic": "content.procurement", "to": "contact:procurement", "content": "采购流程图解"}, {"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Walk procurement through the quote", "zh": "向采购讲解报价"}]'),
    ('open_questions', 20, 'Unanswered technical questions', '技术问题未解答', '$.contacts.by_role.technical ? (@.open_questions >= $n)', '{"n": "tech.open_questions"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Book an expert for a talk in person", "zh": "预约专家1对1答疑"}]'),
    ('budget_waiting', 25, 'Budget still waits for approval', '等待年度预算批复', '$.interactions ? (@.budget_wait_mentions > $n)', '{"n": "budget.wait_mentions"}',
     '[{"do": "message", "topic": "content.finance", "to": "contact:decision_maker", "content": "分阶段付款方案"}, {"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Offer payment in phases", "zh": "沟通分阶段付款方案"}]'),
    ('negative_words', 30, 'Words of doubt in follow-ups', '跟进出现负面表述', '$.interactions ? (@.keyword_hits_7d >= $n)', '{"n": "emotion.threshold"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Ask openly what holds the customer back", "zh": "直接了解客户顾虑"}]'),
    ('stage_stalled', 25, 'Too long in one stage', '阶段停滞', '$.opportunity ? (@.stage_age_days > $n)', '{"n": "stage.stall_days"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Agree on the next step with a date", "zh": "与客户约定下一步及日期"}]'),
    ('actions_open', 20, 'Open mandatory actions in a stalled stage', '停滞阶段存在未完成动作', '$ ? (@.opportunity.stage_age_days > $d && @.actions.open_mandatory >= $n)', '{"d": "stage.stall_days", "n": "stalled.open_actions"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Finish the open actions of the stage", "zh": "完成阶段未完成动作"}]'),
    ('action_overdue', 15, 'Stage action overdue', '阶段动作超时', '$.actions ? (@.overdue >= 1)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Do the overdue action today", "zh": "今日完成超时动作"}]'),
    ('silent_week', 15, 'No contact for a week', '7天未跟进', '$.opportunity ? (@.days_since_contact > $n)', '{"n": "followup.manager_days"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Follow up", "zh": "立即跟进"}]'),
    ('silent_month', 35, 'No contact for a month', '30天未跟进', '$.opportunity ? (@.days_since_contact > $n)', '{"n": "followup.alert_days"}',
     '[{"do": "task", "kind": "risk_action", "to": "manager", "due": "48 hours", "en": "Decide whether to go on", "zh": "主管判断是否继续"}]'),
    ('close_date_past', 25, 'Planned close has passed', '预计成交日已过', '$.opportunity ? (@.days_to_close < 0)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Confirm a new date with the customer", "zh": "与客户确认新的成交日期"}]'),
    ('close_date_pushed', 20, 'Planned close pushed twice', '成交日多次延期', '$.opportunity ? (@.slip_count >= 2)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Find out what really decides the date", "zh": "查明延期真实原因"}]'),
    ('stage_regressed', 15, 'Moved back a stage', '阶段回退', '$.opportunity ? (@.regressions_30d >= 1)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Confirm the requirements again", "zh": "重新确认需求"}]'),
    ('demo_without_signature', 20, 'Long after the demo and not signed', '演示后超期未签约', '$.opportunity ? (@.days_since_demo > $n)', '{"n": "demo.no_sign_days"}',
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Show the result the demo promised", "zh": "用客户数据验证演示效果"}]'),
    ('no_decision_maker', 30, 'Late stage without a decision maker', '后期缺少决策人', '$ ? (@.opportunity.stage_seq >= 4 && @.decision_chain.decision_makers == 0)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Get a meeting with the decision maker", "zh": "约见决策人"}]'),
    ('single_thread', 15, 'Only one contact', '单线联系', '$ ? (@.opportunity.stage_seq >= 3 && @.contacts.count <= 1)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Win a second contact", "zh": "拓展第二联系人"}]'),
    ('key_person_lost', 40, 'Key person left', '关键人离职', '$.decision_chain ? (@.lost_30d >= 1)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Find the successor", "zh": "对接接任者"}]'),
    ('opponent', 20, 'An opponent in the decision chain', '决策链存在反对者', '$.decision_chain ? (@.opponents >= 1)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Understand and answer the objections", "zh": "化解反对意见"}]'),
    ('competitor_active', 20, 'Competitor named again and again', '竞争对手频繁出现', '$.interactions ? (@.competitor_mentions_30d >= 2)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Bring the competitor matrix", "zh": "准备竞品对比"}]'),
    ('amount_cut', 20, 'Amount cut', '金额大幅下调', '$.opportunity ? (@.amount_change_pct_30d < -20)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Ask why the scope shrank", "zh": "了解范围缩减原因"}]'),
    ('discount_pressure', 15, 'High discount', '折扣压力', '$.opportunity ? (@.discount_pct > 15)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Trade the discount for a commitment", "zh": "以承诺换折扣"}]'),
    ('slow_answers', 15, 'Customer answers slowly', '客户回复变慢', '$.interactions ? (@.reply_hours_30d > 48)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Change the channel, call", "zh": "更换沟通渠道"}]'),
    ('no_next_step', 15, 'Meetings without a next step', '会议缺少下一步', '$.interactions ? (@.without_next_step_30d >= 2)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Send the agreed next steps in writing", "zh": "书面确认下一步"}]'),
    ('quality_drop', 20, 'Quality of the contact drops', '触点质量下降', '$.interactions ? (@.quality_drop > 20)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Meet in person", "zh": "安排面谈"}]'),
    ('account_trouble', 30, 'Overdue payments or an open complaint', '回款异常或投诉未结', '$.account ? (@.receivable == "red" || @.open_cases >= 1)', NULL,
     '[{"do": "task", "kind": "risk_action", "to": "owner", "due": "48 hours", "en": "Settle the open matter first", "zh": "先解决遗留问题"}]')
) AS v (key, weight, en, zh, path, settings, actions);

-- Figures of other systems may come as texts: .double() reads both.
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver)
SELECT 'rule', v.key, 1, v.body::jsonb || jsonb_build_object('en', v.en, 'zh', v.zh), 'active', '(,)', 'crm', 'release'
FROM (VALUES
    -- follow-ups
    ('emotion_escalation', 'Customer turns away', '情绪预警升级', '{"on": "interaction.insert", "when": "$.event ? (@.keyword_hits > 0)", "window": {"count": {"setting": "emotion.threshold"}, "within": "7 days"}, "once": "window", "then": [{"do": "task", "kind": "escalation", "to": "manager", "due": "24 hours", "priority": 7, "en": "Customer turns away: step in", "zh": "客户流失征兆,请介入"}, {"do": "message", "topic": "alert.emotion", "to": "manager"}]}'),
    ('call_auto_log', 'Long call writes its own follow-up', '通话自动记录', '{"on": "inbox.call", "when": "$.event ? ((@.connected == true || @.connected == \"true\") && @.seconds.double() > $n)", "settings": {"n": "call.auto_log_over"}, "once": "record", "then": [{"do": "interaction", "kind": "call", "depth": "deep", "auto": true, "en": "In-depth talk", "zh": "深度沟通"}]}'),
    ('file_sent', 'File sent in chat becomes a follow-up', '聊天文件自动留痕', '{"on": "inbox.chat_file", "when": "$.event ? (@.file_name != null)", "once": "record", "then": [{"do": "interaction", "kind": "file", "auto": true, "en": "File sent", "zh": "已发送文件"}]}'),
    ('transcript_late', 'Meeting without a summary', '会议纪要超时', '{"on": "timer.interaction", "when": "$.event ? (@.kind == \"meeting\" && @.summary == null && @.age_minutes > $n)", "settings": {"n": "transcript.sla"}, "once": "record", "then": [{"do": "alert", "kind": "sla", "level": "yellow"}]}'),
    ('followup_manager', 'No follow-up for a week', '7天未跟进', '{"on": "timer.account", "when": "$.account ? (@.days_since_contact > $n && @.owner_id != null)", "settings": {"n": "followup.manager_days"}, "once": "breach", "then": [{"do": "message", "topic": "followup.manager", "to": "manager"}, {"do": "task", "kind": "follow_up", "to": "owner", "due": "24 hours", "en": "Follow up", "zh": "跟进客户"}]}'),
    ('followup_alert', 'No follow-up for a month', '30天未跟进', '{"on": "timer.account", "when": "$.account ? (@.days_since_contact > $n)", "settings": {"n": "followup.alert_days"}, "once": "breach", "then": [{"do": "alert", "kind": "silent", "level": "yellow"}]}'),
    ('competitor_move', 'Competitor mentioned', '竞品动态', '{"on": "interaction.insert", "when": "$.interactions ? (@.competitor_mentions_30d >= 2)", "once": "window", "window": {"count": 1, "within": "7 days"}, "then": [{"do": "alert", "kind": "competitor", "level": "info"}]}'),
    ('csat_case', 'Dissatisfied customer', '满意度过低自动建单', '{"on": "interaction.insert", "when": "$.event ? (@.kind == \"survey\" && @.satisfaction < $n)", "settings": {"n": "csat.case_below"}, "once": "record", "then": [{"do": "ticket", "kind": "case", "to": "role:crm_service", "due": "8 hours", "raise_priority": 1, "en": "Complaint: satisfaction too low", "zh": "投诉工单:满意度过低"}]}'),
    -- deadlines
    ('task_overdue', 'Stage action overdue', '阶段动作超时', '{"on": "task.overdue", "when": "$.event ? (@.kind == \"stage_action\")", "once": "record", "then": [{"do": "alert", "kind": "sla", "level": "yellow"}]}'),
    ('revisit_after_event', 'Ask after a treatment', '术后回访', '{"on": "event.treatment", "when": "$", "delay": {"setting": "revisit.after_event"}, "once": "record", "then": [{"do": "task", "kind": "follow_up", "to": "owner", "due": "24 hours", "en": "Ask how the customer is", "zh": "回访客户"}]}'),
    ('revisit_after_delivery', 'Ask after a delivery', '交付后回访', '{"on": "event.delivered", "when": "$", "delay": {"setting": "revisit.after_event"}, "once": "record", "then": [{"do": "task", "kind": "follow_up", "to": "owner", "due": "24 hours", "en": "Ask how the customer is", "zh": "回访客户"}]}'),
    ('renewal_window', 'Contract is about to expire', '续约窗口', '{"on": "timer.contract", "when": "$.contract ? (@.days_to_expiry >= 0 && @.days_to_expiry <= $n)", "settings": {"n": "renewal.window"}, "once": "record", "then": [{"do": "task", "kind": "renewal", "to": "owner", "due": "7 days", "en": "Prepare the renewal", "zh": "准备续约"}]}'),
    -- leads and money
    ('high_intent', 'High intent', '高意向识别', '{"on": "event.page_view", "when": "$.event ? (@.page like_regex \"price|quote|报价\" && @.dwell.double() > 60)", "window": {"count": 2, "within": "7 days"}, "once": "window", "then": [{"do": "tag", "tag": "高意向"}]}'),
    ('large_order', 'Large order signed', '大单签约', '{"on": "contract.signed", "when": "$.contract ? (@.amount_base >= $n)", "settings": {"n": "delivery.large_order"}, "once": "record", "then": [{"do": "task", "kind": "delivery", "to": "role:crm_service", "due": "24 hours", "en": "Start the delivery", "zh": "启动交付流程"}, {"do": "message", "topic": "order.signed", "to": "role:crm_service"}]}'),
    ('new_customer', 'Welcome a new customer', '新客户欢迎', '{"on": "account.update", "when": "$ ? (@.account.lifecycle == \"customer\" && @.event.old.lifecycle == \"prospect\")", "once": "record", "then": [{"do": "task", "kind": "follow_up", "to": "role:crm_service", "due": "24 hours", "en": "Dedicated advisor: introduce yourself", "zh": "专属顾问:首次联系"}, {"do": "chain", "rule": "welcome_gift"}]}'),
    ('welcome_gift', 'Welcome gift', '欢迎礼包', '{"on": "chain", "when": "$", "once": "record", "then": [{"do": "message", "topic": "welcome", "to": "contact:decision_maker", "content": "欢迎礼包"}]}'),
    -- risk: the level, and not the score, so that a score that wavers about a threshold tells nobody twice
    ('risk_yellow', 'Risk yellow', '黄色预警', '{"on": "score.risk", "when": "$.opportunity ? (@.risk_level == \"yellow\")", "once": "breach", "then": [{"do": "alert", "kind": "risk", "level": "yellow"}, {"do": "message", "topic": "alert.yellow", "to": "owner"}]}'),
    ('risk_orange', 'Risk orange: discounts frozen', '橙色预警,冻结折扣', '{"on": "score.risk", "when": "$.opportunity ? (@.risk_level == \"orange\")", "once": "breach", "then": [{"do": "alert", "kind": "risk", "level": "orange"}, {"do": "message", "topic": "alert.orange", "to": "manager"}, {"do": "hold_discount", "hold": true}, {"do": "signal_tasks", "count": {"setting": "risk.actions"}, "hours": {"setting": "risk.hours"}}]}'),
    ('risk_red', 'Risk red: executives involved', '红色预警,高管介入', '{"on": "score.risk", "when": "$.opportunity ? (@.risk_level == \"red\")", "once": "breach", "then": [{"do": "alert", "kind": "risk", "level": "red"}, {"do": "message", "topic": "exec.alert", "to": "director"}, {"do": "hold_discount", "hold": true}, {"do": "signal_tasks", "count": {"setting": "risk.actions"}, "hours": {"setting": "risk.hours"}}]}'),
    ('risk_over', 'Risk is over: discounts free again', '风险解除', '{"on": "score.risk", "when": "$.opportunity ? (@.discount_hold == true && (@.risk_level == \"green\" || @.risk_level == \"yellow\"))", "once": "breach", "then": [{"do": "hold_discount", "hold": false}]}'),
    ('info_health_low', 'Record is incomplete', '信息健康度不足', '{"on": "score.info_health", "when": "$.account ? (@.info_health < $n)", "settings": {"n": "info_health.task_below"}, "once": "breach", "then": [{"do": "task", "kind": "data_completion", "to": "owner", "due": "7 days", "en": "Complete the record", "zh": "补全客户信息"}]}'),
    -- journeys and use
    ('journey_stall', 'Stuck on the way to the interface', 'API接入停滞', '{"on": "timer.account", "when": "$.journey ? (@.node == \"api\" && @.hours > $n)", "settings": {"n": "journey.stall"}, "once": "stage", "then": [{"do": "task", "kind": "follow_up", "to": "role:crm_service", "due": "24 hours", "en": "Call and help with the interface", "zh": "致电协助API接入"}, {"do": "message", "topic": "journey.guide", "to": "contact:technical", "content": "API接入指南"}]}'),
    ('docs_dwell', 'Long in the interface documents', '长时间浏览API文档', '{"on": "event.docs_view", "when": "$.event ? (@.minutes.double() > $n)", "settings": {"n": "docs.dwell"}, "once": "window", "window": {"count": 1, "within": "7 days"}, "then": [{"do": "task", "kind": "follow_up", "to": "role:crm_service", "due": "24 hours", "en": "Offer help with the interface", "zh": "客户成功跟进"}]}'),
    ('balance_low', 'Prepaid balance low', '余额不足', '{"on": "event.balance", "when": "$.event ? (@.value.double() < $n)", "settings": {"n": "balance.low"}, "once": "breach", "then": [{"do": "message", "topic": "renewal.reminder", "to": "contact:decision_maker", "content": "续费提醒及优惠券"}]}'),
    ('ticket_architect', 'Many technical tickets', '专属架构师', '{"on": "event.ticket_opened", "when": "$.usage ? (@.tickets_technical >= $n)", "settings": {"n": "tickets.architect_at"}, "once": "breach", "then": [{"do": "task", "kind": "follow_up", "to": "role:crm_service", "due": "24 hours", "priority": 6, "en": "Name a dedicated architect", "zh": "指派专属架构师"}]}'),
    -- the engine's own health
    ('write_conflict', 'Two wrote the same field', '写入冲突', '{"on": "conflict.insert", "when": "$", "once": "record", "then": [{"do": "alert", "kind": "write_conflict", "level": "yellow"}]}')
) AS v (key, en, zh, body);
