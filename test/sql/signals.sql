-- Each of the 27 risk signals and each rule that listens to an event comes about on made data, the way it does in a company: nothing is a dead letter.
\set VERBOSITY terse
SET client_min_messages = warning;
DELETE FROM crm_data.rule_event;
CREATE ROLE sig_service LOGIN IN ROLE crm_service;
INSERT INTO crm_data.member (full_name, locale) VALUES ('Sig Rep', 'en');
INSERT INTO crm_data.member (role_name, full_name, locale) VALUES ('sig_service', 'Sig Service', 'en');
SELECT id AS rep FROM crm_data.member WHERE full_name = 'Sig Rep' \gset
-- a healthy deal for each signal: two people, spoken to today, its dates ahead
CREATE TEMP TABLE deal AS SELECT c.key AS signal, NULL::bigint AS acc, NULL::bigint AS id, NULL::bigint AS tech, NULL::bigint AS boss FROM crm_data.config AS c WHERE c.kind = 'risk_signal' AND c.status = 'active' UNION ALL SELECT 'none', NULL, NULL, NULL, NULL;
INSERT INTO crm_data.account (name, owner_id, last_contact_at) SELECT 'Sig ' || signal, :rep, now() FROM deal ORDER BY signal;
UPDATE deal SET acc = a.id FROM crm_data.account AS a WHERE a.name = 'Sig ' || signal;
INSERT INTO crm_data.contact (account_id, name, role_in_decision, email, last_contact_at) SELECT acc, 'Tech', 'technical', 'tech@example.com', now() FROM deal UNION ALL SELECT acc, 'Boss', 'decision_maker', 'boss@example.com', now() FROM deal;
UPDATE deal SET tech = t.id, boss = b.id FROM crm_data.contact AS t, crm_data.contact AS b WHERE t.account_id = acc AND t.name = 'Tech' AND b.account_id = acc AND b.name = 'Boss';
BEGIN;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, close_date, last_contact_at, owner_id, competitor)
SELECT d.acc, 'SIG-' || d.signal, 'Sig deal', p.id, s.id, 1000, current_date + 60, now(), :rep, 'Acme' FROM deal AS d, crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'needs' WHERE p.code = 'standard' ORDER BY d.signal;
UPDATE deal SET id = o.id FROM crm_data.opportunity AS o WHERE o.code = 'SIG-' || signal;
-- two of them bring their history along: shown a month ago; worth twice as much then
INSERT INTO crm_data.stage_history (opportunity_id, account_id, to_stage_id, entered_at, amount)
SELECT d.id, d.acc, s.id, now() - v.ago, v.amount FROM (VALUES ('demo_without_signature', 'demo', interval '31 days', 1000), ('amount_cut', 'needs', interval '40 days', 2000)) AS v (signal, stage, ago, amount)
  JOIN deal AS d ON d.signal = v.signal JOIN crm_data.stage AS s ON s.code = v.stage JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id AND p.code = 'standard';
COMMIT;
INSERT INTO crm_data.opportunity_contact (opportunity_id, contact_id, account_id, role, stance) SELECT id, boss, acc, 'decision_maker', 'supporter' FROM deal UNION ALL SELECT id, tech, acc, 'technical', 'neutral' FROM deal;
CREATE FUNCTION pg_temp.id(s text) RETURNS bigint LANGUAGE sql AS 'SELECT d.id FROM deal AS d WHERE d.signal = s';
CREATE FUNCTION pg_temp.acc(s text) RETURNS bigint LANGUAGE sql AS 'SELECT d.acc FROM deal AS d WHERE d.signal = s';
CREATE FUNCTION pg_temp.move(s text, stage text) RETURNS void LANGUAGE sql AS
    'UPDATE crm_data.opportunity AS o SET stage_id = x.id FROM crm_data.stage AS x WHERE x.pipeline_id = o.pipeline_id AND x.code = stage AND o.id = pg_temp.id(s)';
SELECT d.signal, r.signal AS holds FROM deal AS d CROSS JOIN LATERAL crm._risk_signals(d.id, now()) AS r ORDER BY 1, 2;

-- what goes wrong
UPDATE crm_data.contact SET last_contact_at = now() - interval '8 days' WHERE name = 'Tech' AND account_id = pg_temp.acc('technical_contact_silent');
INSERT INTO crm_data.contract (account_id, opportunity_id, code, state, legal_edits) VALUES (pg_temp.acc('legal_edits'), pg_temp.id('legal_edits'), 'SIG-C1', 'review', 4);
INSERT INTO crm_data.contract (account_id, opportunity_id, code, state, approval_since) VALUES (pg_temp.acc('approval_stuck'), pg_temp.id('approval_stuck'), 'SIG-C2', 'review', now() - interval '25 days');
UPDATE crm_data.opportunity SET quote_sent_at = now() - interval '25 days' WHERE id = pg_temp.id('quote_unviewed');
UPDATE crm_data.opportunity_contact SET open_questions = 3 WHERE opportunity_id = pg_temp.id('open_questions') AND role = 'technical';
INSERT INTO crm_data.interaction (account_id, opportunity_id, kind, summary) SELECT pg_temp.acc('budget_waiting'), pg_temp.id('budget_waiting'), 'call', '客户在等待年度预算批复' FROM generate_series(1, 3);
INSERT INTO crm_data.interaction (account_id, opportunity_id, kind, summary) SELECT pg_temp.acc('negative_words'), pg_temp.id('negative_words'), 'call', '再看看' FROM generate_series(1, 2);
UPDATE crm_data.opportunity SET stage_entered_at = now() - interval '16 days' WHERE id IN (pg_temp.id('stage_stalled'), pg_temp.id('actions_open'));
UPDATE crm_data.task SET due_at = now() - interval '1 hour' WHERE object = 'opportunity' AND record_id = pg_temp.id('action_overdue') AND kind = 'stage_action';
UPDATE crm_data.opportunity SET last_contact_at = now() - interval '8 days' WHERE id = pg_temp.id('silent_week');
UPDATE crm_data.opportunity SET last_contact_at = now() - interval '31 days' WHERE id = pg_temp.id('silent_month');
UPDATE crm_data.opportunity SET close_date = current_date - 2 WHERE id = pg_temp.id('close_date_past');
-- pushed to later months twice, which the engine counts; within a month it does not
UPDATE crm_data.opportunity SET close_date = current_date + 100 WHERE id = pg_temp.id('close_date_pushed');
UPDATE crm_data.opportunity SET close_date = date_trunc('month', close_date + interval '40 days')::date + 1 WHERE id = pg_temp.id('close_date_pushed');
UPDATE crm_data.opportunity SET close_date = close_date + 1 WHERE id = pg_temp.id('close_date_pushed');
SELECT slip_count FROM crm_data.opportunity WHERE id = pg_temp.id('close_date_pushed');
SELECT pg_temp.move('stage_regressed', 'contact');
SELECT pg_temp.move('no_decision_maker', 'quote'), pg_temp.move('single_thread', 'demo');
UPDATE crm_data.opportunity_contact SET role = 'influencer' WHERE opportunity_id = pg_temp.id('no_decision_maker') AND role = 'decision_maker';
UPDATE crm_data.contact SET deleted_at = now() - interval '40 days' WHERE account_id = pg_temp.acc('single_thread') AND name = 'Tech';
UPDATE crm_data.contact SET attrs = jsonb_build_object('left_on', current_date - 3) WHERE account_id = pg_temp.acc('key_person_lost') AND name = 'Boss';
UPDATE crm_data.opportunity_contact SET stance = 'opponent' WHERE opportunity_id = pg_temp.id('opponent') AND role = 'technical';
INSERT INTO crm_data.interaction (account_id, opportunity_id, kind, summary) SELECT pg_temp.acc('competitor_active'), pg_temp.id('competitor_active'), 'call', 'they compare us with acme again' FROM generate_series(1, 2);
UPDATE crm_data.opportunity SET discount_pct = 20 WHERE id = pg_temp.id('discount_pressure');
-- answered after three days: counted by the engine, from the two messages
INSERT INTO crm_data.interaction (account_id, opportunity_id, kind, direction, occurred_at) VALUES (pg_temp.acc('slow_answers'), pg_temp.id('slow_answers'), 'chat', 'out', now() - interval '80 hours');
SELECT crm.ingest('wecom_archive', 'sig 1', 'chat', '{"email": "boss.slow@example.com", "direction": "in", "body": "sorry"}') ->> 'state' AS no_such_address;
UPDATE crm_data.contact SET email = 'boss.slow@example.com' WHERE account_id = pg_temp.acc('slow_answers') AND name = 'Boss';
SELECT crm.retry_inbox('wecom_archive') >= 1 AS found;
UPDATE crm_data.interaction SET opportunity_id = pg_temp.id('slow_answers') WHERE body = 'sorry' AND account_id = pg_temp.acc('slow_answers');
INSERT INTO crm_data.interaction (account_id, opportunity_id, kind, summary) SELECT pg_temp.acc('no_next_step'), pg_temp.id('no_next_step'), 'meeting', 'talked' FROM generate_series(1, 2);
INSERT INTO crm_data.interaction (account_id, opportunity_id, kind, occurred_at, quality) VALUES (pg_temp.acc('quality_drop'), pg_temp.id('quality_drop'), 'visit', now() - interval '40 days', 90), (pg_temp.acc('quality_drop'), pg_temp.id('quality_drop'), 'note', now(), 30);
INSERT INTO crm_data.task (kind, object, record_id, account_id, title) VALUES ('case', 'account', pg_temp.acc('account_trouble'), pg_temp.acc('account_trouble'), 'broken');
SELECT d.signal AS does_not_come_about FROM deal AS d WHERE d.signal <> 'none' AND NOT EXISTS (SELECT FROM crm._risk_signals(d.id, now()) AS r WHERE r.signal = d.signal) ORDER BY 1;
SELECT count(*) AS come_about FROM deal AS d CROSS JOIN LATERAL crm._risk_signals(d.id, now()) AS r WHERE r.signal = d.signal;
SELECT count(*) AS still_healthy FROM crm._risk_signals(pg_temp.id('none'), now());
-- scored, each deal keeps the decayed quality of its follow-ups
SELECT count(crm._score_risk(d.id, now())) AS scored FROM deal AS d;
SELECT round(touch_quality) BETWEEN 30 AND 60 AS decayed FROM crm_data.opportunity WHERE id = pg_temp.id('quality_drop');

-- rules, by the ways their events come about
DELETE FROM crm_data.rule_event;
SELECT acc AS a FROM deal WHERE signal = 'none' \gset
UPDATE crm_data.account SET code = 'SIG-A', lifecycle = 'prospect' WHERE id = :a;
CREATE FUNCTION pg_temp.once(r text) RETURNS TABLE (rule text, fired bigint) LANGUAGE sql AS 'SELECT r, count(*) FROM crm_data.rule_match AS m WHERE m.rule = r AND m.fired AND m.record_id IN (SELECT acc FROM deal UNION SELECT id FROM deal UNION SELECT c.id FROM crm_data.contract AS c WHERE c.code LIKE ''SIG-%'')';
-- a meeting whose summary is late; a file; two looks at the price; long in the documents; low balance; the fifth technical ticket; a delivery
INSERT INTO crm_data.interaction (account_id, kind, occurred_at) VALUES (:a, 'meeting', now() - interval '10 minutes');
SELECT crm.ingest('wecom_archive', 'sig f', 'chat_file', '{"account_code": "SIG-A", "file_name": "方案.pdf"}') ->> 'state' AS file;
SELECT crm.ingest('web', 'sig p' || n, 'page_view', '{"account_code": "SIG-A", "page": "/价格/报价", "dwell": 61}') ->> 'state' AS page FROM generate_series(1, 2) AS n;
SELECT crm.ingest('app', 'sig d', 'docs_view', '{"account_code": "SIG-A", "minutes": 16}') ->> 'state' AS docs;
SELECT crm.ingest('app', 'sig b' || n, 'balance', '{"account_code": "SIG-A", "value": 999}') ->> 'state' AS balance FROM generate_series(1, 2) AS n;
SELECT count(crm.ingest('app', 'sig t' || n, 'ticket_opened', '{"account_code": "SIG-A", "category": "technical"}')) AS tickets FROM generate_series(1, 6) AS n;
SELECT crm.ingest('erp', 'sig v', 'delivered', '{"account_code": "SIG-A"}') ->> 'state' AS delivered;
-- competitors named twice in what is said to a customer
INSERT INTO crm_data.interaction (account_id, kind, summary) SELECT pg_temp.acc('competitor_active'), 'call', 'acme';
-- a large contract is signed; a prospect becomes a customer; the life cycle has an order
INSERT INTO crm_data.contract (account_id, opportunity_id, code, state, amount) VALUES (:a, NULL, 'SIG-C3', 'review', 600000);
UPDATE crm_data.contract SET state = 'signed', signed_on = current_date WHERE code = 'SIG-C3';
UPDATE crm_data.account SET lifecycle = 'churned' WHERE id = :a;
\echo :LAST_ERROR_SQLSTATE
UPDATE crm_data.account SET lifecycle = 'customer' WHERE id = :a;
-- two days without the interface after the tutorial
INSERT INTO crm_data.event (account_id, kind, occurred_at) VALUES (pg_temp.acc('opponent'), 'sign_up', now() - interval '5 days'), (pg_temp.acc('opponent'), 'login', now() - interval '4 days'), (pg_temp.acc('opponent'), 'tutorial_done', now() - interval '49 hours');
SELECT crm._job_journey_watch(now()) AS fired, crm._job_journey_watch(now()) AS again;
UPDATE crm_data.task SET notified_at = now() WHERE account_id IN (SELECT acc FROM deal) AND due_at < now();
UPDATE crm_data.task SET due_at = now() - interval '1 second', notified_at = NULL WHERE object = 'opportunity' AND record_id = pg_temp.id('none') AND kind = 'stage_action' AND action_key = (SELECT min(t.action_key) FROM crm_data.task AS t WHERE t.object = 'opportunity' AND t.record_id = pg_temp.id('none') AND t.kind = 'stage_action');
INSERT INTO crm_data.contract (account_id, code, state, signed_on, expires_on) VALUES (:a, 'SIG-C4', 'active', current_date - 300, current_date + 60);
SELECT crm._job_followup_watch(now()) >= 1 AS watched;
CALL crm.tick();
CALL crm.tick();
SELECT kind, error FROM crm_data.rule_event WHERE attempts > 0;
UPDATE crm_data.rule_event SET at = now() WHERE kind LIKE 'rule:%';
CALL crm.tick();
SELECT o.* FROM unnest('{transcript_late,file_sent,high_intent,docs_dwell,balance_low,ticket_architect,revisit_after_delivery,competitor_move,large_order,new_customer,journey_stall,task_overdue,renewal_window}'::text[]) WITH ORDINALITY AS r (rule, n)
 CROSS JOIN LATERAL pg_temp.once(r.rule) AS o WHERE o.fired <> 1 ORDER BY r.n;
SELECT tags FROM crm_data.account WHERE id = :a;
SELECT t.kind, t.title, m.full_name FROM crm_data.task AS t JOIN crm_data.member AS m ON m.id = t.owner_id WHERE t.account_id = :a AND t.rule_key IS NOT NULL ORDER BY t.rule_key, t.title;
SELECT o.topic, o.address FROM crm_data.outbox AS o WHERE o.account_id = :a AND o.address IS NOT NULL ORDER BY 1;
SELECT f -> 'usage' ->> 'tickets_technical' AS tickets, f -> 'usage' ->> 'balance' AS balance, f -> 'usage' ->> 'active_days_30d' AS days FROM crm.features('account', :a) AS f;
SELECT f -> 'journey' ->> 'node' AS node, f -> 'journey' ->> 'reached' AS reached, round((f -> 'journey' ->> 'hours')::numeric) AS hours FROM crm.features('account', pg_temp.acc('opponent')) AS f;
-- the nightly scores of all are what each record's own are, and what rules have nothing to do with is not asked again
BEGIN;
UPDATE crm_data.opportunity SET close_date = current_date - 10, slip_count = 3, stage_entered_at = now() - interval '40 days', last_contact_at = now() - interval '40 days' WHERE id IN (SELECT d.id FROM deal AS d WHERE d.id % 2 = 0);
SELECT crm._job_score_accounts(now()) > 0 AS scored;
SELECT count(*) > 0 AS deals, count(*) FILTER (WHERE o.risk_score IS DISTINCT FROM (SELECT crm._risk_score(array_agg(s.weight)) FROM crm._risk_signals(o.id, now()) AS s)) AS other_scores, count(DISTINCT o.risk_level) > 1 AS levels,
       count(*) FILTER (WHERE o.risk_level <> crm._risk_level(o.risk_score, o.risk_level)) AS other_levels
  FROM crm_data.opportunity AS o WHERE o.outcome = 'open' AND o.deleted_at IS NULL;
SELECT count(*) > 0 AS customers, count(*) FILTER (WHERE a.health IS DISTINCT FROM h.score) AS other_health
  FROM crm_data.account AS a CROSS JOIN LATERAL crm._account_health(a.id, now()) AS h WHERE a.id IN (SELECT x.id FROM crm_data.account AS x WHERE x.deleted_at IS NULL AND x.merged_into IS NULL ORDER BY x.id LIMIT 50);
SELECT count(*) > 0 AS customers, count(*) FILTER (WHERE s.score IS DISTINCT FROM s.before) AS not_kept, count(*) FILTER (WHERE s.score IS DISTINCT FROM (SELECT h.score FROM crm._info_health(s.account_id, now()) AS h)) AS others FROM crm._info_scores(now()) AS s;
SELECT coalesce(sum(crm._run_rules('score.risk', 'opportunity', o.id, '{}', now())), 0) AS deals_left FROM crm_data.opportunity AS o WHERE o.outcome = 'open' AND o.deleted_at IS NULL AND o.risk_level <> 'green';
SELECT coalesce(sum(crm._run_rules('score.info_health', 'account', s.account_id, '{}', now())), 0) AS customers_left FROM crm._info_scores(now()) AS s WHERE s.score < 80;
CREATE TEMP TABLE night AS SELECT (SELECT count(*) FROM crm_data.task) AS tasks, (SELECT count(*) FROM crm_data.alert) AS alerts, (SELECT count(*) FROM crm_data.outbox) AS messages, (SELECT count(*) FROM crm_data.rule_match) AS matches;
SELECT crm._job_score_accounts(now()) > 0 AS scored_again;
SELECT count(*) AS same FROM night WHERE tasks = (SELECT count(*) FROM crm_data.task) AND alerts = (SELECT count(*) FROM crm_data.alert) AND messages = (SELECT count(*) FROM crm_data.outbox) AND matches = (SELECT count(*) FROM crm_data.rule_match);
-- what is right again closes its breach
SELECT s.account_id AS low FROM crm._info_scores(now()) AS s WHERE s.score < 80 ORDER BY 1 LIMIT 1 \gset
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '0') WHERE kind = 'setting' AND key = 'info_health.task_below' AND status = 'active';
SELECT crm._job_score_accounts(now()) > 0 AS scored;
SELECT count(*) FILTER (WHERE cleared_at IS NULL) AS standing, count(*) AS breaches FROM crm_data.rule_match WHERE rule = 'info_health_low' AND record_id = :low AND fired;
UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '80') WHERE kind = 'setting' AND key = 'info_health.task_below' AND status = 'active';
-- a rule that sees more than the score is asked for every customer
UPDATE crm_data.config SET body = jsonb_set(body, '{when}', '"$.account ? (@.info_health < $n && @.open_cases >= 0)"') WHERE kind = 'rule' AND key = 'info_health_low' AND status = 'active';
SELECT crm._job_score_accounts(now()) > 0 AS scored;
SELECT count(*) FILTER (WHERE cleared_at IS NULL) AS standing, count(*) AS breaches FROM crm_data.rule_match WHERE rule = 'info_health_low' AND record_id = :low AND fired;
ROLLBACK;
SELECT v.n, crm._plain_rule('opportunity', v.body) FROM (VALUES (1, '{"once": "breach", "when": "$.opportunity ? (@.risk_score > $n && @.risk_level == \"yellow\")"}'::jsonb), (2, '{"once": "breach", "when": "$.opportunity ? (@.stage_age_days > 3)"}'), (3, '{"once": "record", "when": "$.opportunity ? (@.amount > 3)"}'),
    (4, '{"once": "breach", "delay": "1 day", "when": "$.opportunity ? (@.amount > 3)"}'), (5, '{"once": "breach", "when": "$ ? (@.opportunity.amount > 3)"}'), (6, '{"once": "breach", "when": "$.opportunity ? (@.* > 3)"}'), (7, '{"once": "breach", "when": "$.opportunity ? (@.amount > 3 && exists ($.account))"}'),
    (8, '{"once": "breach", "when": "$.opportunity ? (@.last_hash == null)"}'), (9, '{"when": "$.opportunity ? (@.amount > 3)"}'), (10, '{"once": "breach", "when": "$.opportunity ? (@.competitor == \") ? ($.x\" || !(@.amount < -3.5))"}')) AS v (n, body);
-- leave as found
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE state = 'open' AND account_id IN (SELECT acc FROM deal);
UPDATE crm_data.opportunity SET deleted_at = now() WHERE name = 'Sig deal';
UPDATE crm_data.contract SET deleted_at = now() WHERE code LIKE 'SIG-%';
UPDATE crm_data.account SET deleted_at = now() WHERE id IN (SELECT acc FROM deal);
UPDATE crm_data.alert SET state = 'closed', closed_at = now() WHERE account_id IN (SELECT acc FROM deal);
DELETE FROM crm_data.rule_event;
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Sig %';
DROP TABLE deal CASCADE;
DROP ROLE sig_service;
