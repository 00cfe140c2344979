-- What wavering scores, wrong clocks, dying relays, people who left and texts without end must not do to the engine.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
CREATE ROLE brk_ann LOGIN IN ROLE crm_admin;
CREATE ROLE brk_bob LOGIN IN ROLE crm_admin;
CREATE ROLE brk_boss LOGIN IN ROLE crm_manager;
INSERT INTO crm_data.member (role_name, full_name, locale) VALUES ('brk_ann', 'Brk Ann', 'en'), ('brk_bob', 'Brk Bob', 'en'), ('brk_boss', 'Brk Boss', 'en');
INSERT INTO crm_data.member (full_name, manager_id, locale) SELECT 'Brk Lead', id, 'en' FROM crm_data.member WHERE full_name = 'Brk Boss';
INSERT INTO crm_data.member (full_name, manager_id, locale) SELECT 'Brk Rep', id, 'en' FROM crm_data.member WHERE full_name = 'Brk Lead';
SELECT id AS rep FROM crm_data.member WHERE full_name = 'Brk Rep' \gset
INSERT INTO crm_data.account (code, name, owner_id, last_contact_at) VALUES ('BRK', 'Brk', :rep, now()) RETURNING id AS acc \gset

-- each of the 27 signals on the edge of its figure and one step beyond it
CREATE TEMP TABLE edge (signal text PRIMARY KEY, still jsonb, beyond jsonb);
INSERT INTO edge VALUES
    ('technical_contact_silent', '{"contacts": {"by_role": {"technical": {"days_silent": 7}}}}', '{"contacts": {"by_role": {"technical": {"days_silent": 7.1}}}}'),
    ('legal_edits', '{"contract": {"legal_edits": 3}}', '{"contract": {"legal_edits": 4}}'),
    ('approval_stuck', '{"contract": {"approval_stuck_workdays": 5}}', '{"contract": {"approval_stuck_workdays": 6}}'),
    ('quote_unviewed', '{"opportunity": {"quote_unviewed_workdays": 4}}', '{"opportunity": {"quote_unviewed_workdays": 5}}'),
    ('open_questions', '{"contacts": {"by_role": {"technical": {"open_questions": 2}}}}', '{"contacts": {"by_role": {"technical": {"open_questions": 3}}}}'),
    ('budget_waiting', '{"interactions": {"budget_wait_mentions": 2}}', '{"interactions": {"budget_wait_mentions": 3}}'),
    ('negative_words', '{"interactions": {"keyword_hits_7d": 1}}', '{"interactions": {"keyword_hits_7d": 2}}'),
    ('stage_stalled', '{"opportunity": {"stage_age_days": 15}}', '{"opportunity": {"stage_age_days": 15.1}}'),
    ('actions_open', '{"opportunity": {"stage_age_days": 16}, "actions": {"open_mandatory": 1}}', '{"opportunity": {"stage_age_days": 16}, "actions": {"open_mandatory": 2}}'),
    ('action_overdue', '{"actions": {"overdue": 0}}', '{"actions": {"overdue": 1}}'),
    ('silent_week', '{"opportunity": {"days_since_contact": 7}}', '{"opportunity": {"days_since_contact": 7.1}}'),
    ('silent_month', '{"opportunity": {"days_since_contact": 30}}', '{"opportunity": {"days_since_contact": 30.1}}'),
    ('close_date_past', '{"opportunity": {"days_to_close": 0}}', '{"opportunity": {"days_to_close": -1}}'),
    ('close_date_pushed', '{"opportunity": {"slip_count": 1}}', '{"opportunity": {"slip_count": 2}}'),
    ('stage_regressed', '{"opportunity": {"regressions_30d": 0}}', '{"opportunity": {"regressions_30d": 1}}'),
    ('demo_without_signature', '{"opportunity": {"days_since_demo": 30}}', '{"opportunity": {"days_since_demo": 30.1}}'),
    ('no_decision_maker', '{"opportunity": {"stage_seq": 4}, "decision_chain": {"decision_makers": 1}}', '{"opportunity": {"stage_seq": 4}, "decision_chain": {"decision_makers": 0}}'),
    ('single_thread', '{"opportunity": {"stage_seq": 3}, "contacts": {"count": 2}}', '{"opportunity": {"stage_seq": 3}, "contacts": {"count": 1}}'),
    ('key_person_lost', '{"decision_chain": {"lost_30d": 0}}', '{"decision_chain": {"lost_30d": 1}}'),
    ('opponent', '{"decision_chain": {"opponents": 0}}', '{"decision_chain": {"opponents": 1}}'),
    ('competitor_active', '{"interactions": {"competitor_mentions_30d": 1}}', '{"interactions": {"competitor_mentions_30d": 2}}'),
    ('amount_cut', '{"opportunity": {"amount_change_pct_30d": -20}}', '{"opportunity": {"amount_change_pct_30d": -20.1}}'),
    ('discount_pressure', '{"opportunity": {"discount_pct": 15}}', '{"opportunity": {"discount_pct": 15.1}}'),
    ('slow_answers', '{"interactions": {"reply_hours_30d": 48}}', '{"interactions": {"reply_hours_30d": 48.1}}'),
    ('no_next_step', '{"interactions": {"without_next_step_30d": 1}}', '{"interactions": {"without_next_step_30d": 2}}'),
    ('quality_drop', '{"interactions": {"quality_drop": 20}}', '{"interactions": {"quality_drop": 20.1}}'),
    ('account_trouble', '{"account": {"receivable": "yellow", "open_cases": 0}}', '{"account": {"receivable": "green", "open_cases": 1}}');
SELECT count(*) AS signals, count(*) FILTER (WHERE crm._rule_holds(c.body, e.beyond)) AS beyond, count(*) FILTER (WHERE crm._rule_holds(c.body, e.still)) AS at_the_edge, count(*) FILTER (WHERE crm._rule_holds(c.body, '{}')) AS of_nothing
  FROM crm_data.config AS c LEFT JOIN edge AS e ON e.signal = c.key WHERE c.kind = 'risk_signal' AND c.status = 'active';

-- a score that wavers about its thresholds: each level is told of once, and over when it is left; discounts are held from orange on
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, close_date, owner_id)
SELECT :acc, 'BRK', 'Brk deal', p.id, s.id, 1000, current_date + 60, :rep FROM crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'needs' WHERE p.code = 'standard' RETURNING id AS deal \gset
BEGIN;
UPDATE crm_data.opportunity SET last_contact_at = now() WHERE id = :deal;
INSERT INTO crm_data.contact (account_id, name, role_in_decision) SELECT :acc, 'Brk ' || n, 'influencer' FROM generate_series(1, 2) AS n;
-- the score is the weight of one signal
DELETE FROM crm_data.config WHERE kind = 'risk_signal' AND key <> 'discount_pressure';
UPDATE crm_data.opportunity SET discount_pct = 16 WHERE id = :deal;
CREATE FUNCTION pg_temp.at(deal bigint, points int) RETURNS TABLE (score numeric, level text, held boolean, open text, alerts bigint, messages bigint, actions bigint) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE crm_data.config AS c SET body = jsonb_set(c.body, '{weight}', to_jsonb(points)) WHERE c.kind = 'risk_signal' AND c.key = 'discount_pressure';
    PERFORM crm._score_risk(deal, now());
    RETURN QUERY SELECT o.risk_score::numeric, o.risk_level, o.discount_hold, (SELECT string_agg(a.level, ' ' ORDER BY a.id) FROM crm_data.alert AS a WHERE a.record_id = deal AND a.object = 'opportunity' AND a.kind = 'risk' AND a.state = 'open'),
                        (SELECT count(*) FROM crm_data.alert AS a WHERE a.record_id = deal AND a.object = 'opportunity' AND a.kind = 'risk'), (SELECT count(*) FROM crm_data.outbox AS m WHERE m.account_id = o.account_id AND m.topic IN ('alert.yellow', 'alert.orange')),
                        (SELECT count(*) FROM crm_data.task AS t WHERE t.record_id = deal AND t.kind = 'risk_action') FROM crm_data.opportunity AS o WHERE o.id = deal;
END $$;
SELECT r.* FROM unnest('{60,61,58,61,56,55,61,80,81,79,82,76,81,75,95,96,94,97,91,90,81,75,50}'::int[]) WITH ORDINALITY AS s (points, n) CROSS JOIN LATERAL pg_temp.at(:deal, s.points) AS r ORDER BY s.n;
ROLLBACK;

-- and with the deal its risk is over, as silence is with a follow-up
INSERT INTO crm_data.alert (kind, level, object, record_id, account_id, message, dedupe_key) VALUES ('risk', 'red', 'opportunity', :deal, :acc, 'Brk', 'brk risk'), ('silent', 'yellow', 'account', :acc, :acc, 'Brk', 'brk silent');
INSERT INTO crm_data.task (kind, object, record_id, account_id, title, owner_id) VALUES ('risk_action', 'opportunity', :deal, :acc, 'Brk action', :rep);
INSERT INTO crm_data.rule_match (rule, version, object, record_id, key, at, fired) VALUES ('followup_alert', 1, 'account', :acc, 'brk silent', now() - interval '1 hour', true);
UPDATE crm_data.opportunity AS o SET stage_id = s.id FROM crm_data.stage AS s WHERE s.pipeline_id = o.pipeline_id AND s.code = 'lost' AND o.id = :deal;
INSERT INTO crm_data.interaction (account_id, kind, summary) VALUES (:acc, 'call', 'spoken to');
SELECT kind, state, updated_by FROM crm_data.alert WHERE dedupe_key LIKE 'brk %' ORDER BY 1;
SELECT state FROM crm_data.task WHERE title = 'Brk action';

-- as lateness is with the action, and a missed first touch with the first word
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, owner_id) SELECT :acc, 'BRK2', 'Brk late', p.id, s.id, 1000, :rep FROM crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'needs' WHERE p.code = 'standard';
SELECT min(t.id) AS late FROM crm_data.task AS t JOIN crm_data.opportunity AS o ON o.id = t.record_id AND t.object = 'opportunity' WHERE o.code = 'BRK2' AND t.kind = 'stage_action' \gset
UPDATE crm_data.task SET due_at = now() - interval '1 minute' WHERE id = :late;
CALL crm.tick();
CALL crm.tick();
SELECT a.kind, a.state FROM crm_data.alert AS a JOIN crm_data.opportunity AS o ON o.id = a.record_id AND a.object = 'opportunity' WHERE o.code = 'BRK2';
SELECT crm.waive_task(:late, 'Brk');
INSERT INTO crm_data.lead (source, name, phone, owner_id) VALUES ('web', 'Brk missed', '13900002222', :rep) RETURNING id AS missed \gset
INSERT INTO crm_data.alert (kind, level, object, record_id, message, dedupe_key) VALUES ('first_touch', 'orange', 'lead', :missed, 'Brk', 'brk missed');
INSERT INTO crm_data.interaction (lead_id, kind, direction, summary) VALUES (:missed, 'call', 'out', 'at last');
SELECT a.kind, a.state, a.updated_by FROM crm_data.alert AS a LEFT JOIN crm_data.opportunity AS o ON o.id = a.record_id AND a.object = 'opportunity' WHERE o.code = 'BRK2' OR a.dedupe_key = 'brk missed' ORDER BY 1;
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code = 'BRK2';
UPDATE crm_data.lead SET deleted_at = now() WHERE id = :missed;

-- configuration: a trial that was taken back was never in force; two beginnings of one key are two versions
SET ROLE brk_ann;
SELECT crm.config_put('assignment', 'brk', '{"routes": [{"name": "all", "to": {"match": []}}]}') AS version;
SELECT crm.config_propose('assignment', 'brk', 1);
SET ROLE brk_bob;
SELECT crm.config_canary('assignment', 'brk', 1) > now() AS until;
RESET ROLE;
SELECT crm._config_count(id, true) FROM crm_data.config WHERE kind = 'assignment' AND key = 'brk';
SELECT crm._job_config_canary(now()) AS taken_back;
SET ROLE brk_ann;
SELECT crm.config_rollback('assignment', 'brk', 1);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.config_put('flag', repeat('k', 201), '{"on": true}');
-- two changes of one version: the second would undo the first unseen
DO $$ BEGIN PERFORM crm.config_put('flag', 'brk', '{"on": false}'), crm.config_propose('flag', 'brk', 1); END $$;
SET ROLE brk_bob;
SELECT crm.config_approve('flag', 'brk', 1) IS NOT NULL AS approved;
SET ROLE brk_ann;
DO $$ BEGIN FOR v IN 2 .. 3 LOOP PERFORM crm.config_put('flag', 'brk', jsonb_build_object('on', true, 'n', v)), crm.config_propose('flag', 'brk', v); END LOOP; END $$;
SET ROLE brk_bob;
SELECT crm.config_approve('flag', 'brk', 2) IS NOT NULL AS approved;
SELECT crm.config_approve('flag', 'brk', 3);
\echo :LAST_ERROR_SQLSTATE
SET ROLE brk_ann;
SELECT version, status, body FROM crm.config_list('flag') AS l JOIN LATERAL (SELECT c.body FROM crm.config_as_of(now()) AS c WHERE c.kind = 'flag' AND c.key = 'brk') AS b ON true WHERE l.key = 'brk' ORDER BY version;
RESET ROLE;

-- a clock that ran years ahead and came back: what it planned waits, what is due by now is done
BEGIN;
UPDATE crm_data.job SET enabled = false;
INSERT INTO crm_data.job (name, cadence, offset_, procedure, catch_up, starts_at, tz) VALUES ('brk job', 'day', '0', '_job_brk', 'latest', now() - interval '3 days', 'Asia/Shanghai');
CREATE FUNCTION crm._job_brk(due timestamptz) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1::bigint';
GRANT EXECUTE ON FUNCTION crm._job_brk(timestamptz) TO crm_owner;
SELECT crm._plan_jobs(now() + interval '20 years') AS ahead, crm._plan_jobs(now()) AS now, crm._plan_jobs(now()) AS again;
SELECT crm._run_jobs_step() IS NOT NULL AS step;
SELECT crm._run_jobs_step() IS NOT NULL AS step;
SELECT r.state, r.due_at > now() AS ahead FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name = 'brk job' ORDER BY r.due_at;
-- a failed run whose next attempt that clock put off for years
UPDATE crm_data.job_run AS r SET state = 'failed', attempts = 1, next_at = now() + interval '20 years' FROM crm_data.job AS j WHERE j.id = r.job_id AND j.name = 'brk job' AND r.due_at <= now();
SELECT crm._run_jobs_step() IS NOT NULL AS step;
SELECT r.state FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name = 'brk job' AND r.due_at <= now();
ROLLBACK;
-- due times where days have 23 and 25 hours, in zones of quarters of an hour, at the end of months and in leap years: every one once, in order
SELECT z.tz, j.cadence, count(*) AS due, count(DISTINCT d) AS times, bool_and(lag IS NULL OR d > lag) AS in_order, max(d - lag) AS longest, min(d - lag) AS shortest
  FROM (VALUES ('Asia/Shanghai'), ('America/New_York'), ('Australia/Lord_Howe'), ('Asia/Kathmandu')) AS z (tz) CROSS JOIN (VALUES ('hour', interval '30 minutes'), ('day', interval '2 hours 30 minutes')) AS j (cadence, offset_)
 CROSS JOIN LATERAL (SELECT d, lag(d) OVER (ORDER BY d) AS lag FROM crm.job_due(j.cadence, j.offset_, z.tz, '2027-01-01 00:00+00', '2028-01-01 00:00+00') AS d) AS x GROUP BY 1, 2 ORDER BY 1, 2;
-- asked for piece by piece or at once it is the same
SELECT z.tz, bool_and(whole.d = parts.d) AS same FROM (VALUES ('America/New_York'), ('Australia/Lord_Howe')) AS z (tz)
 CROSS JOIN LATERAL (SELECT array_agg(d ORDER BY d) AS d FROM crm.job_due('day', '1 hour 30 minutes', z.tz, '2026-10-20 00:00+00', '2026-11-20 00:00+00') AS d) AS whole
 CROSS JOIN LATERAL (SELECT array_agg(d ORDER BY d) AS d FROM generate_series(timestamptz '2026-10-20 00:00+00', '2026-11-19 23:00+00', interval '1 hour') AS h CROSS JOIN LATERAL crm.job_due('day', '1 hour 30 minutes', z.tz, h, h + interval '1 hour') AS d) AS parts GROUP BY 1 ORDER BY 1;
SELECT d AT TIME ZONE 'Asia/Shanghai' AS month_starts FROM crm.job_due('month', '0', 'Asia/Shanghai', '2028-01-15 00:00+08', '2028-04-15 00:00+08') AS d;
SELECT d AT TIME ZONE 'Asia/Shanghai' AS leap_day FROM crm.job_due('month', '28 days 8 hours', 'Asia/Shanghai', '2028-02-01 00:00+08', '2028-03-01 00:00+08') AS d;

-- the clock lives in the organisation's days wherever its session does, and a zone that nobody knows cannot be set
SET timezone = 'Pacific/Honolulu';
CREATE FUNCTION crm._job_brk(due timestamptz) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN CASE current_setting(''TimeZone'') WHEN ''Asia/Shanghai'' THEN 8 END; END';
GRANT EXECUTE ON FUNCTION crm._job_brk(timestamptz) TO crm_owner;
INSERT INTO crm_data.job (name, cadence, offset_, procedure, catch_up, starts_at) VALUES ('brk job', 'day', '0', '_job_brk', 'latest', now() - interval '2 days');
CREATE TEMP TABLE was AS SELECT id FROM crm_data.job WHERE enabled AND name <> 'brk job';
UPDATE crm_data.job SET enabled = false WHERE id IN (SELECT id FROM was);
CALL crm.run_jobs();
SELECT r.state, r.rows, current_setting('TimeZone') AS here FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name = 'brk job';
UPDATE crm_data.job SET enabled = true WHERE id IN (SELECT id FROM was);
DELETE FROM crm_data.job_run WHERE job_id = (SELECT id FROM crm_data.job WHERE name = 'brk job');
DELETE FROM crm_data.job WHERE name = 'brk job';
DROP FUNCTION crm._job_brk(timestamptz);
DROP TABLE was;
SET timezone = 'Asia/Shanghai';
SET ROLE brk_ann;
SELECT crm.config_put('setting', 'organisation.timezone', '{"value": "Mars/Olympus"}') AS version;
SELECT crm.config_propose('setting', 'organisation.timezone', 2);
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
DELETE FROM crm_data.config WHERE kind = 'setting' AND key = 'organisation.timezone' AND version = 2;

-- a message that ends every relay which takes it, a chain whose other channels are all off: given up, and somebody knows
UPDATE crm_data.outbox SET state = 'cancelled' WHERE state IN ('pending', 'failed', 'claimed');
SELECT crm._notify('task.first_touch', 'brk poison', '{}', ARRAY[:rep]) AS sent;
SELECT count(*) AS taken FROM crm.outbox_claim('brk dies', 10, '{sms}');
UPDATE crm_data.outbox SET claimed_until = now() - interval '1 second' WHERE dedupe_key LIKE 'brk poison:%';
SELECT attempts FROM crm.outbox_claim('brk next', 10, '{sms}');
SELECT crm.outbox_ack(ARRAY(SELECT id FROM crm_data.outbox WHERE dedupe_key LIKE 'brk poison:%'), 'brk dies') AS too_late;
UPDATE crm_data.outbox SET claimed_until = now() - interval '1 second', attempts = 8 WHERE dedupe_key LIKE 'brk poison:%';
SELECT count(*) AS taken FROM crm.outbox_claim('brk again', 10, '{sms}');
CALL crm.tick();
SELECT channel, state FROM crm_data.outbox WHERE dedupe_key LIKE 'brk poison:%' ORDER BY channel;
BEGIN;
UPDATE crm_data.channel SET enabled = false WHERE name IN ('app', 'email');
SELECT crm._notify('task.first_touch', 'brk nowhere ' || n, '{}', ARRAY[:rep]) AS sent FROM generate_series(1, 2) AS n;
SELECT crm.outbox_fail(id, 'brk', 'unknown number', true) AS answer FROM crm.outbox_claim('brk', 10, '{sms}');
SELECT state, count(*) FROM crm_data.outbox WHERE dedupe_key LIKE 'brk nowhere%' GROUP BY 1;
SELECT level, message, value FROM crm_data.alert WHERE kind = 'undelivered' AND state = 'open';
ROLLBACK;

-- a queue longer than one transaction takes is done in one call of the clock
SELECT count(crm._emit('event.docs_view', 'account', :acc, jsonb_build_object('id', 'brk ' || n, 'minutes', 1))) AS events FROM generate_series(1, 450) AS n;
INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, owner_id, team_id) SELECT 'follow_up', 'account', :acc, :acc, 'Brk late ' || n, now() - interval '1 minute', :rep, NULL FROM generate_series(1, 501) AS n;
CALL crm.tick();
SELECT count(*) AS still_waiting FROM crm_data.rule_event WHERE kind = 'event.docs_view' AND record_id = :acc;
SELECT count(*) AS told FROM crm_data.outbox AS o WHERE o.topic = 'task.overdue' AND o.recipient_id = :rep AND o.payload ->> 'title' LIKE 'Brk late %';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE account_id = :acc AND title LIKE 'Brk late %';
-- a call over ninety seconds is a talk in depth, and has the points of one
SET ROLE brk_ann;
SELECT crm.log_interaction(jsonb_build_object('account_id', :acc, 'kind', 'call', 'duration', d, 'direction', 'out', 'client_key', 'brk call ' || d)) > 0 AS logged FROM unnest('{00:01:30,00:01:31}'::text[]) AS d;
RESET ROLE;
SELECT b.depth, a.depth AS plain, b.quality > a.quality AS more FROM crm_data.interaction AS a JOIN crm_data.interaction AS b ON b.client_key = 'brk call 00:01:31' WHERE a.client_key = 'brk call 00:01:30';

-- the accident from end to end: 217 leads of three hours find nobody; the first is told of, then that they wait; as soon as somebody can take them they are his, with their own times and clocks that start now
BEGIN;
UPDATE crm_data.alert SET state = 'closed', closed_at = now() WHERE dedupe_key = 'unrouted' AND state <> 'closed';
UPDATE crm_data.lead SET deleted_at = now() WHERE state = 'unrouted';
UPDATE crm_data.member SET capacity = 0;
SELECT count(crm.ingest('web', 'brk 217 ' || n, 'form', jsonb_build_object('phone', '1390011' || (1000 + n), 'province', '浙江省', 'city', '杭州市'), now() - interval '3 hours')) AS leads FROM generate_series(1, 217) AS n;
SELECT state, count(*) FROM crm_data.lead WHERE client_key LIKE 'web:brk 217 %' GROUP BY 1;
SELECT level, message FROM crm_data.alert WHERE dedupe_key = 'unrouted' AND state = 'open';
SELECT count(*) AS word FROM crm_data.outbox WHERE topic = 'lead.unrouted' AND recipient_id = (SELECT id FROM crm_data.member WHERE full_name = 'Brk Ann');
CALL crm.tick();
UPDATE crm_data.alert SET created_at = now() - interval '6 minutes' WHERE dedupe_key = 'unrouted' AND state = 'open';
CALL crm.tick();
CALL crm.tick();
SELECT level, message FROM crm_data.alert WHERE dedupe_key = 'unrouted' AND state = 'open';
SELECT count(*) AS word FROM crm_data.outbox WHERE topic = 'lead.unrouted' AND recipient_id = (SELECT id FROM crm_data.member WHERE full_name = 'Brk Ann');
CREATE ROLE brk_one LOGIN IN ROLE crm_sales;
CREATE ROLE brk_two LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.member (role_name, full_name, capacity) VALUES ('brk_one', 'Brk One', 500), ('brk_two', 'Brk Two', 500);
CALL crm.tick();
SELECT count(*) AS assigned, bool_and(l.occurred_at = now() - interval '3 hours' AND l.recorded_at = now()) AS own_times, bool_and(l.first_touch_due_at = now() + interval '5 minutes') AS clocks_start_now FROM crm_data.lead AS l WHERE l.client_key LIKE 'web:brk 217 %' AND l.state = 'assigned';
SELECT count(*) AS tasks, count(*) FILTER (WHERE t.escalations > 0) AS breaches FROM crm_data.task AS t JOIN crm_data.lead AS l ON t.object = 'lead' AND t.record_id = l.id WHERE t.kind = 'first_touch' AND l.client_key LIKE 'web:brk 217 %';
SELECT count(*) AS open_alerts FROM crm_data.alert WHERE dedupe_key = 'unrouted' AND state = 'open';
-- and 217 that are not spoken to in time go to somebody else in one call of the clock
UPDATE crm_data.task SET escalate_at = now() - interval '1 second' WHERE kind = 'first_touch' AND state = 'open';
CALL crm.tick();
SELECT count(*) AS reassigned, bool_and(l.owner_id IS DISTINCT FROM t.owner_id) AS to_another FROM crm_data.lead AS l JOIN crm_data.task AS t ON t.object = 'lead' AND t.record_id = l.id AND t.escalations = 1 WHERE l.client_key LIKE 'web:brk 217 %' AND l.assign_count = 2;
ROLLBACK;

-- figures of other systems that come as texts are figures; exactly ninety seconds are not more than ninety
SELECT count(crm.ingest('telephony', 'brk call ' || v.n, 'call', jsonb_build_object('account_code', 'BRK') || v.detail)) AS calls
  FROM (VALUES (1, '{"connected": true, "seconds": 91}'::jsonb), (2, '{"connected": "true", "seconds": "91"}'), (3, '{"connected": true, "seconds": "90"}'), (4, '{"connected": false, "seconds": "300"}'), (5, '{"connected": true, "seconds": "long"}'), (6, '{"connected": true}')) AS v (n, detail);
SELECT i.detail ->> 'id' = x.id::text AS of_the_call, i.depth, i.auto FROM crm_data.interaction AS i JOIN crm_data.inbox AS x ON x.id::text = i.detail ->> 'id' WHERE i.account_id = :acc AND i.auto AND i.kind = 'call' ORDER BY i.id;
-- how complete a record is, for whoever sees it
SELECT score, contact_freshness, contract_scans, recent_summaries, to_do FROM crm.info_health(:acc);
SET ROLE brk_boss;
SELECT * FROM crm.info_health(:acc);
RESET ROLE;
-- rights that only the background needs are missed by somebody
BEGIN;
REVOKE EXECUTE ON FUNCTION crm.outbox_claim(text, int, text[]) FROM crm_sync;
SELECT crm._job_access_watch(now()) >= 1 AS found;
SELECT level, message FROM crm_data.alert WHERE kind = 'access.background_rights';
ROLLBACK;

-- whoever has left gets nothing more to do: his manager does, or the manager's
UPDATE crm_data.member SET left_at = current_date WHERE full_name IN ('Brk Rep', 'Brk Lead');
SELECT m.full_name FROM crm_data.member AS m WHERE m.id = crm._stand_in(:rep);
INSERT INTO crm_data.interaction (account_id, kind, satisfaction, summary) VALUES (:acc, 'call', NULL, '不考虑'), (:acc, 'call', NULL, '价格太高');
SELECT crm._emit('event.delivered', 'account', :acc, '{"id": "brk"}');
CALL crm.tick();
UPDATE crm_data.rule_event SET at = now() WHERE kind = 'rule:revisit_after_delivery';
CALL crm.tick();
SELECT t.kind, t.title, m.full_name FROM crm_data.task AS t JOIN crm_data.member AS m ON m.id = t.owner_id WHERE t.account_id = :acc AND t.rule_key IS NOT NULL ORDER BY t.kind;
-- a circle of managers has an end
BEGIN;
UPDATE crm_data.member SET left_at = current_date, manager_id = :rep WHERE full_name = 'Brk Boss';
SELECT crm._stand_in(:rep) IS NULL AS nobody, crm._manager_of(:rep) IS NULL AS no_manager;
ROLLBACK;
-- what the rules cannot do is known after the third time
INSERT INTO crm_data.rule_event (kind, object, record_id, event, attempts) VALUES ('event.delivered', 'account', :acc, '{"id": "brk bad", "occurred_at": "never"}', 2);
SELECT crm._take_rule_events(10) >= 1 AS taken;
SELECT level, message FROM crm_data.alert WHERE kind = 'rule_failed' AND record_id = :acc;

-- texts without end, and texts that are more than texts
SELECT crm.capture_lead(jsonb_build_object('phone', '13900001111', 'client_key', repeat('k', 501)));
SELECT crm.capture_lead(jsonb_build_object('phone', '13900001111', 'need', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 32000) AS n)));
SELECT crm.ingest('web', repeat('k', 501), 'page_view', '{}');
SELECT crm.ingest('web', 'brk kind', repeat('k', 101), '{}');
SELECT crm.log_interaction(jsonb_build_object('account_id', :acc, 'client_key', repeat('k', 501)));
SELECT crm.capture_lead(jsonb_build_object('phone', '13900001112', 'client_key', 'brk long', 'company', repeat('长', 100000), 'need', repeat('<b>', 100000))) -> 'duplicate' AS duplicate;
SELECT length(company) AS company, length(need) AS need FROM crm_data.lead WHERE client_key = 'brk long';
SELECT crm.capture_lead(jsonb_build_object('phone', '13900001113', 'client_key', 'brk odd', 'name', E'\u202Eevil\u0001\u001b[31m', 'company', '<script>alert(1)</script>''; DROP TABLE x; --', 'need', E'\u0007$(rm -rf /)', 'context', jsonb_build_object('ip', E'\u202E'))) -> 'duplicate' AS duplicate;
SELECT name = E'\u202Eevil\u0001\u001b[31m' AS kept_as_it_came, company FROM crm_data.lead WHERE client_key = 'brk odd';
SELECT length(crm.report_html('my_board', jsonb_build_array(jsonb_build_object('account', repeat('长', 1000000))), 'zh')) < 10000 AS a_page_stays_a_page, crm.report_html('my_board', jsonb_build_array(jsonb_build_object('account', E'\u202Ea\u0001<b>')), 'en') LIKE '%<td data-l="Customer">a&lt;b&gt;</td>%' AS harmless;
-- what a figure is called depends on the section it stands in
SELECT ARRAY(SELECT (regexp_matches(crm.report_html('morning_brief', '[{"kind": "todo", "account": "A", "title": "T", "due_at": "2026-11-01T08:00:00+08", "days": -1}, {"kind": "silent", "account": "B", "due_at": "2026-10-01T00:00:00+08", "days": 31}, {"kind": "expiring", "account": "C", "title": "C-1", "due_at": "2026-12-01T00:00:00+08", "days": 30}]', 'en'), '<th[^>]*>([^<]+)', 'g'))[1]) AS headings;
-- leave as found
DELETE FROM crm_data.rule_event WHERE record_id = :acc;
DELETE FROM crm_data.outbox WHERE parent_id IS NOT NULL AND recipient_id = :rep;
DELETE FROM crm_data.outbox WHERE recipient_id IN (SELECT id FROM crm_data.member WHERE full_name LIKE 'Brk %');
DELETE FROM crm_data.config_trial AS t USING crm_data.config AS c WHERE c.id = t.config_id AND c.key = 'brk';
DELETE FROM crm_data.config WHERE key = 'brk';
DELETE FROM crm_data.alert WHERE kind IN ('canary_failed', 'undelivered', 'rule_failed');
UPDATE crm_data.lead SET deleted_at = now() WHERE client_key LIKE 'brk %';
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE state = 'open' AND (account_id = :acc OR kind = 'first_touch');
UPDATE crm_data.opportunity SET deleted_at = now() WHERE id = :deal;
UPDATE crm_data.account SET deleted_at = now() WHERE id = :acc;
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Brk %';
DROP TABLE edge;
DROP ROLE brk_ann, brk_bob, brk_boss;
