-- Leads, follow-ups and stages.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE lead_boss LOGIN IN ROLE crm_manager;
CREATE ROLE lead_ann LOGIN IN ROLE crm_sales;
CREATE ROLE lead_bob LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.team (code, name) VALUES ('LEADS', 'Leads');
INSERT INTO crm_data.member (role_name, full_name, team_id, rank) SELECT 'lead_boss', 'Lead Boss', id, 5 FROM crm_data.team WHERE code = 'LEADS';
INSERT INTO crm_data.member (role_name, full_name, team_id, manager_id, regions, industries, locale)
SELECT v.role, v.name, b.team_id, b.id, v.regions, v.industries, 'en' FROM crm_data.member AS b, (VALUES ('lead_ann', 'Lead Ann', '{east}'::text[], '{energy}'::text[]), ('lead_bob', 'Lead Bob', '{north}', '{}')) AS v (role, name, regions, industries) WHERE b.full_name = 'Lead Boss';
SELECT id AS ann FROM crm_data.member WHERE full_name = 'Lead Ann' \gset
SELECT id AS bob FROM crm_data.member WHERE full_name = 'Lead Bob' \gset

-- captured and assigned in one transaction: by place and words, then by load
SELECT crm.capture_lead('{"name": "张三", "company": "杭州光伏储能有限公司", "phone": "13911110001", "need": "光伏电站", "province": "浙江省", "source": "web", "channel": "", "client_key": "lt 1", "context": {"ip": "10.0.0.1", "dwell": 42, "horoscope": "lion"}}') AS l \gset
SELECT :'l'::jsonb - 'lead' - 'owner' AS answer;
SELECT m.full_name AS owner, l.state, l.region, l.industry, l.route, l.channel, l.context, l.attrs, l.ts_assumed, l.first_touch_due_at - l.assigned_at AS to_touch
  FROM crm_data.lead AS l JOIN crm_data.member AS m ON m.id = l.owner_id WHERE l.client_key = 'lt 1';
SELECT t.kind, t.mandatory, t.state, m.full_name FROM crm_data.task AS t JOIN crm_data.lead AS l ON t.object = 'lead' AND t.record_id = l.id JOIN crm_data.member AS m ON m.id = t.owner_id WHERE l.client_key = 'lt 1';
SELECT topic, channel FROM crm_data.outbox AS o WHERE o.recipient_id = :ann;
-- coordinates; and the same person again, or the same form again, is the same lead
SELECT m.full_name FROM crm.capture_lead('{"name": "Li", "email": "li@example.cn", "client_key": "lt 2", "context": {"longitude": "116.4", "latitude": 39.9}}') AS c JOIN crm_data.member AS m ON m.id = (c ->> 'owner')::bigint;
SELECT c ->> 'duplicate' AS duplicate, (c ->> 'lead')::bigint = (SELECT id FROM crm_data.lead WHERE client_key = 'lt 1') AS same FROM crm.capture_lead('{"name": "张三", "phone": "139 1111 0001", "email": "zhang@example.cn"}') AS c;
SELECT c ->> 'duplicate' AS duplicate FROM crm.capture_lead('{"phone": "1", "client_key": "lt 2"}') AS c;
SELECT email FROM crm_data.lead WHERE client_key = 'lt 1';
-- a backlog of an hour ago is not late
SELECT crm.capture_lead(jsonb_build_object('phone', '13911110003', 'client_key', 'lt 3', 'occurred_at', now() - interval '1 hour')) ->> 'duplicate' AS duplicate;
SELECT l.occurred_at < now() - interval '59 minutes' AS happened_then, l.first_touch_due_at > now() AS clock_starts_now FROM crm_data.lead AS l WHERE l.client_key = 'lt 3';
-- too late: the manager hears of it and somebody else gets it; spoken to: the clock stops
UPDATE crm_data.task SET escalate_at = now() - interval '1 second' WHERE kind = 'first_touch' AND record_id = (SELECT id FROM crm_data.lead WHERE client_key = 'lt 1');
CALL crm.tick();
CALL crm.tick();
SELECT m.full_name AS owner, l.assign_count FROM crm_data.lead AS l JOIN crm_data.member AS m ON m.id = l.owner_id WHERE l.client_key = 'lt 1';
SELECT t.state, t.escalations, m.full_name FROM crm_data.task AS t JOIN crm_data.member AS m ON m.id = t.owner_id WHERE t.kind = 'first_touch' AND t.record_id = (SELECT id FROM crm_data.lead WHERE client_key = 'lt 1') ORDER BY t.id;
SELECT count(*) AS boss_hears FROM crm_data.outbox WHERE dedupe_key LIKE 'first_touch_breach:%' AND recipient_id = (SELECT id FROM crm_data.member WHERE full_name = 'Lead Boss');
SELECT count(*) AS alerts FROM crm_data.alert WHERE kind = 'first_touch' AND record_id = (SELECT id FROM crm_data.lead WHERE client_key = 'lt 1');
SET ROLE lead_bob;
SELECT crm.log_interaction(jsonb_build_object('lead_id', (SELECT id FROM crm.lead WHERE client_key = 'lt 1'), 'kind', 'call', 'direction', 'out', 'duration', '00:02:00')) > 0 AS called;
RESET ROLE;
SELECT l.state, l.first_touch_at IS NOT NULL AS touched, t.state AS task FROM crm_data.lead AS l JOIN crm_data.task AS t ON t.object = 'lead' AND t.record_id = l.id AND t.owner_id = :bob WHERE l.client_key = 'lt 1';
-- nobody to give it to: it waits where it is seen, with one alert
BEGIN;
UPDATE crm_data.member SET capacity = 0;
SELECT c ->> 'owner' IS NULL AS nobody FROM crm.capture_lead('{"phone": "13911110009", "client_key": "lt 9"}') AS c;
SELECT state FROM crm_data.lead WHERE client_key = 'lt 9';
SELECT count(*) FROM crm_data.alert WHERE kind = 'unrouted' AND state = 'open';
ROLLBACK;
SELECT crm.capture_lead('{"name": "nobody"}');
SELECT crm.capture_lead('[]');
SELECT crm.assign_lead(-1);

-- the three buttons
INSERT INTO crm_data.account (name, owner_id, team_id) SELECT 'Lead Customer', id, team_id FROM crm_data.member WHERE full_name = 'Lead Ann';
SELECT id AS acc FROM crm_data.account WHERE name = 'Lead Customer' \gset
SET ROLE lead_ann;
SELECT crm.log_touch(:acc, '刚聊完', 'likes it', NULL, 'touch 1') > 0 AS first;
SELECT crm.log_touch(:acc, 'just_talked', NULL, NULL, 'touch 1') > 0 AS replay;
SELECT crm.log_touch(:acc, 'proposal_sent') > 0 AS second;
SELECT crm.log_touch(:acc, 'dance');
SELECT crm.log_interaction(jsonb_build_object('account_id', :acc, 'kind', 'meeting', 'progress', 'budget_confirmed')) > 0 AS meeting;
SELECT crm.log_interaction(jsonb_build_object('account_id', :acc, 'progress', 'going well'));
SELECT crm.log_interaction(jsonb_build_object('account_id', :acc, 'mood', 'good'));
SELECT crm.log_interaction(jsonb_build_object('account_id', :acc, 'occurred_at', 'soon'));
SELECT crm.log_interaction('{"account_id": -1}');
-- the list holds for what comes by the view or from a device that was offline, too, and all of it has its points
SELECT key, label FROM crm.choices('key_progress');
SELECT label FROM crm.choices('touch_preset');
INSERT INTO crm.interaction (account_id, kind, progress) VALUES (:acc, 'meeting', 'going well');
SELECT s #>> '{error}' IS NOT NULL OR s ->> 'state' = 'rejected' AS refused FROM crm.submit_drafts(ARRAY[jsonb_build_object('object', 'interaction', 'kind', 'create', 'op_id', md5('lead draft')::uuid, 'patch', jsonb_build_object('account_id', :acc, 'kind', 'note', 'progress', 'fine'))]) AS s;
INSERT INTO crm.interaction (account_id, kind, progress, next_step) VALUES (:acc, 'meeting', 'poc_passed', 'the contract') RETURNING quality, progress;
SET ROLE lead_bob;
SELECT crm.log_touch(:acc, 'just_talked');
RESET ROLE;
SELECT i.kind, i.summary, i.preset, i.depth, i.quality, i.progress FROM crm_data.interaction AS i WHERE i.account_id = :acc ORDER BY i.id;
SELECT t.title, round(extract(epoch FROM t.due_at - t.created_at) / 86400) AS days FROM crm_data.task AS t WHERE t.account_id = :acc AND t.kind = 'next_step' ORDER BY t.id;
SELECT last_contact_at IS NOT NULL AS spoken_to FROM crm_data.account WHERE id = :acc;
SELECT crm._touch_quality('chat', NULL, NULL, NULL, 1.9) AS fast, crm._touch_quality('chat', NULL, NULL, NULL, 25) AS slow, crm._touch_quality('meeting', NULL, NULL, NULL, NULL) AS no_next, crm._touch_quality('meeting', NULL, NULL, 'x', NULL) AS next;

-- stages: the history writes itself, actions become tasks, evidence closes them, open ones hold the deal back
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, owner_id, team_id)
SELECT :acc, 'LEAD1', 'Lead deal', p.id, s.id, 1000, m.id, m.team_id FROM crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'contact', crm_data.member AS m WHERE p.code = 'standard' AND m.full_name = 'Lead Ann';
SELECT id AS deal FROM crm_data.opportunity WHERE code = 'LEAD1' \gset
SELECT s.code, h.left_at IS NULL AS open FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id WHERE h.opportunity_id = :deal;
SELECT action_key, title, mandatory, state FROM crm_data.task WHERE object = 'opportunity' AND record_id = :deal AND kind = 'stage_action' ORDER BY id;
SET ROLE lead_ann;
SELECT crm.advance_stage(:deal, 'needs');
\echo :LAST_ERROR_SQLSTATE
-- nor past it: by the view, by a write, or by ticking the actions off
UPDATE crm.opportunity SET stage_id = (SELECT s.id FROM crm.stage AS s WHERE s.pipeline_id = opportunity.pipeline_id AND s.code = 'needs') WHERE id = :deal;
\echo :LAST_ERROR_SQLSTATE
SELECT crm.write('opportunity', :deal, md5('lead deal')::uuid, 'web', (SELECT o.row_version FROM crm.opportunity AS o WHERE o.id = :deal),
                 (SELECT jsonb_build_object('stage_id', s.id) FROM crm.stage AS s JOIN crm.opportunity AS o ON o.pipeline_id = s.pipeline_id WHERE o.id = :deal AND s.code = 'needs'));
\echo :LAST_ERROR_SQLSTATE
UPDATE crm.task SET state = 'done' WHERE record_id = :deal AND action_key = 'identify_contact';
UPDATE crm.task SET mandatory = false WHERE record_id = :deal AND action_key = 'identify_contact';
SELECT crm.complete_task((SELECT id FROM crm.task WHERE record_id = :deal AND action_key = 'identify_contact'));
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
INSERT INTO crm_data.contact (account_id, name) VALUES (:acc, 'Lead Contact');
SET ROLE lead_ann;
SELECT crm.complete_task((SELECT id FROM crm.task WHERE record_id = :deal AND action_key = 'identify_contact'), 'found him');
SELECT crm.log_interaction(jsonb_build_object('opportunity_id', :deal, 'kind', 'call')) > 0 AS called;
SELECT crm.waive_task((SELECT id FROM crm.task WHERE record_id = :deal AND action_key = 'qualify_need'), '');
SELECT crm.waive_task((SELECT id FROM crm.task WHERE record_id = :deal AND action_key = 'qualify_need'), 'an old customer, the need is known');
SELECT crm.advance_stage(:deal, 'needs', 99);
\echo :LAST_ERROR_SQLSTATE
SELECT crm.advance_stage(:deal, 'moon');
SELECT crm.advance_stage(:deal, 'needs') - 'version' AS moved;
SELECT crm.advance_stage(:deal, 'contact') - 'version' AS back;
SELECT crm.advance_stage(:deal, 'lost', NULL, 'price') - 'version' AS lost;
SET ROLE lead_bob;
SELECT crm.advance_stage(:deal, 'contact');
-- a follow-up on his own customer does not reach a deal, a contact or a lead that he does not see; nor does its key tell of another's
RESET ROLE;
INSERT INTO crm_data.account (name, owner_id, team_id) SELECT 'Lead Own', id, team_id FROM crm_data.member WHERE full_name = 'Lead Bob' RETURNING id AS own \gset
SELECT id AS contact FROM crm_data.contact WHERE name = 'Lead Contact' \gset
INSERT INTO crm_data.lead (source, name, phone, owner_id) VALUES ('web', 'Lead Other', '13911110077', :ann) RETURNING id AS other_lead \gset
SET ROLE lead_bob;
SELECT crm.log_interaction(jsonb_build_object('account_id', :own, 'opportunity_id', :deal, 'next_step', 'mine now'));
SELECT crm.log_interaction(jsonb_build_object('account_id', :own, 'contact_id', :contact));
SELECT crm.log_interaction(jsonb_build_object('account_id', :own, 'lead_id', :other_lead));
SELECT crm.log_interaction(jsonb_build_object('account_id', :own, 'client_key', 'touch 1'));
RESET ROLE;
SELECT o.next_step, l.first_touch_at FROM crm_data.opportunity AS o, crm_data.lead AS l WHERE o.id = :deal AND l.id = :other_lead;
CREATE ROLE lead_far LOGIN IN ROLE crm_manager;
INSERT INTO crm_data.team (code, name, region) VALUES ('LEADS-FAR', 'Far', 'far');
INSERT INTO crm_data.member (role_name, full_name, team_id, capacity) SELECT 'lead_far', 'Lead Far', id, 0 FROM crm_data.team WHERE code = 'LEADS-FAR';
SET ROLE lead_far;
\set VERBOSITY sqlstate
SELECT crm.assign_lead(:other_lead);
\set VERBOSITY terse
RESET ROLE;
UPDATE crm_data.lead SET deleted_at = now() WHERE id = :other_lead;
SET ROLE lead_boss;
SELECT crm.advance_stage(:deal, 'quote') ->> 'stage' AS reopened_by_the_manager;
RESET ROLE;
SELECT f.code AS from_stage, s.code AS to_stage, h.left_at IS NULL AS open, h.actor FROM crm_data.stage_history AS h JOIN crm_data.stage AS s ON s.id = h.to_stage_id LEFT JOIN crm_data.stage AS f ON f.id = h.from_stage_id WHERE h.opportunity_id = :deal ORDER BY h.id;
SELECT s.code AS stage, o.outcome, o.category, o.stage_moves, o.closed_at IS NULL AS open, f.code AS furthest, o.lost_reason FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id JOIN crm_data.stage AS f ON f.id = o.furthest_stage_id WHERE o.id = :deal;
SELECT action_key, state, evidence ->> 'note' AS note, waived_reason FROM crm_data.task WHERE object = 'opportunity' AND record_id = :deal AND kind = 'stage_action' AND stage_id = (SELECT s.id FROM crm_data.stage AS s JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id WHERE p.code = 'standard' AND s.code = 'contact') AND state IN ('done', 'waived') ORDER BY id;
SELECT f #> '{contacts,count}' AS contacts, f #>> '{opportunity,stage}' AS stage, f #> '{interactions,kinds}' AS kinds, f #> '{actions,open_mandatory}' AS open_mandatory, f #> '{progress}' AS progress FROM crm.features('opportunity', :deal) AS f;
SELECT crm.features('planet', 1);
SELECT crm._workdays('2026-09-30 12:00+08', '2026-10-11 12:00+08') AS golden_week_with_its_working_saturday;
-- the short way of a new lead leaves what the long way leaves; a transaction with one snapshot takes the long one
CREATE TABLE lead_capacity AS SELECT id, capacity FROM crm_data.member;
UPDATE crm_data.member SET capacity = CASE full_name WHEN 'Lead Ann' THEN 40 ELSE 0 END;
SELECT crm._capture_new(d) - 'lead' = jsonb_build_object('owner', :ann, 'account', NULL, 'duplicate', false) AS short
  FROM (VALUES ('{"client_key": "lt way 1", "name": "Wei", "phone": "139 2222 0001", "email": " ", "company": "Way", "province": "浙江省", "city": "杭州", "need": "储能 Solar", "source": "web", "occurred_at": "2026-01-02 03:04:05", "context": {"page": "/a", "odd": [1, null]}}'::jsonb)) AS v (d);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT crm._capture_new('{"phone": "13922220009"}') AS nothing;
SELECT crm.capture_lead(d) - 'lead' = jsonb_build_object('owner', :ann, 'account', NULL, 'duplicate', false) AS long
  FROM (VALUES ('{"client_key": "lt way 2", "name": "Wei", "phone": "139 2222 0002", "email": " ", "company": "Way", "province": "浙江省", "city": "杭州", "need": "储能 Solar", "source": "web", "occurred_at": "2026-01-02 03:04:05", "context": {"page": "/a", "odd": [1, null]}}'::jsonb)) AS v (d);
COMMIT;
CREATE TABLE lead_ways AS SELECT l.id, l.client_key FROM crm_data.lead AS l WHERE l.client_key LIKE 'lt way _';
SELECT count(*), count(DISTINCT to_jsonb(l) - '{id,client_key,phone,phone_norm,last_hash,last_at,created_at,updated_at,recorded_at,assigned_at,first_touch_due_at}'::text[]) AS alike, count(DISTINCT l.first_touch_due_at - l.assigned_at) AS clocks FROM crm_data.lead AS l JOIN lead_ways USING (id);
SELECT l.state, l.route, l.region, l.industry, l.context, l.attrs, l.phone_norm, l.occurred_at = '2026-01-02 03:04:05+08' AS its_time FROM crm_data.lead AS l JOIN lead_ways USING (id) ORDER BY l.id;
SELECT count(*), count(DISTINCT to_jsonb(t) - '{id,record_id,dedupe_key,last_hash,last_at,created_at,updated_at,due_at,escalate_at}'::text[]) AS alike, count(DISTINCT t.due_at - t.created_at) AS clocks FROM crm_data.task AS t JOIN lead_ways AS w ON t.object = 'lead' AND t.record_id = w.id;
SELECT count(*), count(DISTINCT o.topic || o.channel || o.fallback::text || o.recipient_id || (o.payload - 'lead' - 'due')::text) AS alike FROM crm_data.outbox AS o JOIN lead_ways AS w ON o.payload ->> 'lead' = w.id::text;
SELECT count(*) FROM crm_data.change AS c JOIN lead_ways AS w ON c.object = 'lead' AND c.record_id = w.id AND c.op = 'insert';
-- and is not for whom somebody knows
SELECT crm._capture_new(d::jsonb) AS nothing FROM (VALUES ('[]'), ('{}'), ('{"phone": "13922220001"}'), ('{"phone": "13922220003", "client_key": "lt way 1"}'), ('{"phone": "13922220003", "campaign": "x"}'), ('{"phone": "13922220003", "context": {"longitude": 120, "latitude": 30}}'),
    ('{"phone": ["13922220003"]}'), ('{"name": "Wei"}'), ('{"phone": "13922220003", "occurred_at": "2999-01-01"}')) AS v (d) GROUP BY 1;
UPDATE crm_data.member SET capacity = 0;
SELECT crm._capture_new('{"phone": "13922220003"}') AS nobody_to_give_it_to;
UPDATE crm_data.member AS m SET capacity = c.capacity FROM lead_capacity AS c WHERE c.id = m.id;
DROP TABLE lead_ways, lead_capacity;
-- a version that a superuser repairs is another at once; a stop is heard by whoever waits for it, and the transaction goes on
BEGIN;
UPDATE crm_data.config SET body = jsonb_set(body, '{routes}', '[{"name": "repaired", "when": "$", "to": {}}]') WHERE kind = 'assignment' AND key = 'default' AND status = 'active';
SELECT crm._capture_new('{"phone": "13922220004", "client_key": "lt repaired"}') IS NOT NULL AS short;
SELECT route FROM crm_data.lead WHERE client_key = 'lt repaired';
-- a policy that somebody lays on the engine is for a statement to ask
SAVEPOINT s;
CREATE POLICY not_her ON crm_data.account AS RESTRICTIVE USING (name <> 'her') WITH CHECK (name <> 'her');
SELECT crm._capture_new('{"phone": "13922220008"}') AS nothing;
SELECT crm.capture_lead('{"phone": "13922220008"}') -> 'owner' IS NOT NULL AS given;
ROLLBACK TO s;
-- what a lead needs while it is taken in is let go before the transaction ends
SELECT count(crm._capture_new(jsonb_build_object('phone', '1392223000' || n))) AS short FROM generate_series(0, 9) AS n;
SELECT count(*) < 2 AS let_go FROM pg_backend_memory_contexts WHERE name = 'CurTransactionContext';
CREATE FUNCTION pg_temp.stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''stop'' USING ERRCODE = ''query_canceled''; END';
CREATE TRIGGER stop BEFORE INSERT ON crm_data.lead FOR EACH ROW WHEN (NEW.name = 'stop') EXECUTE FUNCTION pg_temp.stop();
DO $$BEGIN PERFORM crm.capture_lead('{"phone": "13922220005", "name": "stop"}'); EXCEPTION WHEN query_canceled THEN RAISE WARNING 'stopped'; END$$;
SELECT count(*) AS none FROM crm_data.lead WHERE name = 'stop';
-- a trigger of the lead changes its owner's row and takes another lead in: each keeps its own
CREATE FUNCTION pg_temp.again() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE crm_data.member SET capacity = capacity + 1 WHERE id = NEW.owner_id; PERFORM crm.capture_lead('{"phone": "13922220006", "name": "inner"}'); RETURN NULL; END$$;
CREATE TRIGGER again AFTER INSERT ON crm_data.lead FOR EACH ROW WHEN (NEW.name = 'outer') EXECUTE FUNCTION pg_temp.again();
UPDATE crm_data.member SET capacity = CASE full_name WHEN 'Lead Ann' THEN 40 ELSE 0 END;
SELECT crm._capture_new('{"phone": "13922220007", "name": "outer"}') -> 'owner' = to_jsonb(:ann) AS hers;
SELECT count(*) AS leads, count(*) FILTER (WHERE t.owner_id = :ann AND l.owner_id = :ann) AS hers FROM crm_data.lead AS l JOIN crm_data.task AS t ON t.object = 'lead' AND t.record_id = l.id WHERE l.name IN ('outer', 'inner');
ROLLBACK;
-- a server whose system indexes are not trusted reads the settings that hold, too
\setenv PGOPTIONS '-c ignore_system_indexes=on'
\c -
SET client_min_messages = error;
BEGIN;
UPDATE crm_data.config SET status = 'retired' WHERE kind = 'assignment' AND key = 'default' AND status = 'active';
INSERT INTO crm_data.config (kind, key, version, body, status, author, approver)
SELECT kind, key, 100, jsonb_set(body, '{routes}', '[{"name": "trusted", "when": "$", "to": {}}]'), 'active', 'a', 'b' FROM crm_data.config WHERE kind = 'assignment' AND key = 'default' AND status = 'retired' ORDER BY version DESC LIMIT 1;
SELECT crm._capture_new('{"phone": "13922220010", "client_key": "lt trusted"}') IS NOT NULL AS short;
SELECT route FROM crm_data.lead WHERE client_key = 'lt trusted';
ROLLBACK;
\setenv PGOPTIONS
\c -
SET client_min_messages = warning;
-- what a lead refers to is looked up as the core looks it up: there, not there, not asked for, and locked against who takes it away
CREATE TABLE lead_need (need text PRIMARY KEY);
INSERT INTO lead_need VALUES ('known');
ALTER TABLE crm_data.lead ADD CONSTRAINT lead_need_fkey FOREIGN KEY (need) REFERENCES lead_need NOT VALID;
BEGIN;
UPDATE crm_data.member SET capacity = CASE full_name WHEN 'Lead Ann' THEN 40 ELSE 0 END;
SELECT crm._capture_new('{"phone": "13922220011", "need": "known"}') IS NOT NULL AS short, crm._capture_new('{"phone": "13922220012"}') IS NOT NULL AS nothing_asked, crm._capture_new('{"phone": "13922220013", "need": "unknown"}') IS NULL AS refused;
SAVEPOINT s;
SELECT crm.capture_lead('{"phone": "13922220013", "need": "unknown"}');
ROLLBACK TO s;
DELETE FROM lead_need;
ROLLBACK TO s;
-- a row that the lead's own trigger makes is there in time
CREATE FUNCTION pg_temp.known() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.lead_need VALUES (NEW.need) ON CONFLICT DO NOTHING; RETURN NULL; END$$;
CREATE TRIGGER "A known" AFTER INSERT ON crm_data.lead FOR EACH ROW WHEN (NEW.need IS NOT NULL) EXECUTE FUNCTION pg_temp.known();
SELECT crm._capture_new('{"phone": "13922220013", "need": "made"}') IS NOT NULL AS short;
ROLLBACK TO s;
ALTER TABLE crm_data.lead DISABLE TRIGGER ALL;
SELECT crm._capture_new('{"phone": "13922220013", "need": "unknown"}') IS NOT NULL AS not_asked_for;
ROLLBACK TO s;
SELECT crm._capture_new('{"phone": "13922220013", "need": "unknown"}') IS NULL AS refused_again;
ALTER TABLE crm_data.lead ALTER CONSTRAINT lead_need_fkey DEFERRABLE INITIALLY DEFERRED;
SELECT crm._capture_new('{"phone": "13922220013", "need": "unknown"}') IS NOT NULL AS later;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
ALTER TABLE crm_data.lead DROP CONSTRAINT lead_need_fkey;
DROP TABLE lead_need;
-- the stage is inferred from what was done: held back while actions are open, forward when they are not, back when a customer compares again; a replay does nothing
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, product_line, competitor, next_step, owner_id, team_id)
SELECT :acc, 'LEAD2', 'Lead deal 2', p.id, s.id, 1000, 'platform', 'Rival Co', 'a proof of concept', m.id, m.team_id FROM crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'needs', crm_data.member AS m WHERE p.code = 'standard' AND m.full_name = 'Lead Ann';
SELECT id AS deal2 FROM crm_data.opportunity WHERE code = 'LEAD2' \gset
CREATE VIEW pg_temp.deal2 AS SELECT s.code AS stage, o.quote_sent_at IS NOT NULL AS quoted, o.stage_moves FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id WHERE o.code = 'LEAD2';
SET ROLE lead_ann;
SELECT crm.log_touch(:acc, '已发方案', NULL, :deal2) > 0 AS sent;
RESET ROLE;
TABLE pg_temp.deal2;
UPDATE crm_data.task SET state = 'waived', waived_reason = 'x', done_at = now() WHERE object = 'opportunity' AND record_id = :deal2 AND state = 'open';
SET ROLE lead_ann;
SELECT crm.log_touch(:acc, 'just_talked', NULL, :deal2) > 0 AS says_nothing_of_a_stage, crm.log_touch(:acc, 'proposal_sent', NULL, :deal2, 'touch 2') > 0 AS sent;
RESET ROLE;
TABLE pg_temp.deal2;
UPDATE crm_data.opportunity SET stage_id = (SELECT s.id FROM crm_data.stage AS s WHERE s.pipeline_id = opportunity.pipeline_id AND s.code = 'negotiation') WHERE id = :deal2;
SET ROLE lead_ann;
SELECT crm.log_touch(:acc, 'proposal_sent', NULL, :deal2, 'touch 2') > 0 AS replay;
RESET ROLE;
TABLE pg_temp.deal2;
SET ROLE lead_ann;
SELECT crm.log_touch(:acc, 'proposal_sent', 'they compare again', :deal2, 'touch 3') > 0 AS again;
RESET ROLE;
TABLE pg_temp.deal2;
-- what to open a conversation with: filled in, the special ones first; and what to offer next, by what those bought who had it
INSERT INTO crm_data.account (code, name, industry, type, owner_id, team_id) SELECT 'LEAD-P' || n, 'Peer ' || n, 'telecom', 'smb', CASE WHEN n = 1 THEN :ann ELSE :bob END, (SELECT team_id FROM crm_data.member WHERE id = :ann) FROM generate_series(1, 6) AS n;
UPDATE crm_data.account SET industry = 'telecom', type = 'smb' WHERE id = :acc;
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, product_line, created_at, stage_entered_at, owner_id, team_id)
SELECT a.id, 'LEAD-PD' || right(a.code, 1), 'd', p.id, s.id, 'platform', now() - interval '30 days', now() - right(a.code, 1)::int * interval '1 day', a.owner_id, a.team_id FROM crm_data.account AS a, crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id
 WHERE p.code = 'standard' AND a.code LIKE 'LEAD-P%' AND s.code = CASE WHEN right(a.code, 1) <= '3' THEN 'won' ELSE 'lost' END;
INSERT INTO crm_data.event (account_id, kind, occurred_at) SELECT a.id, v.kind, now() - interval '10 days' FROM crm_data.account AS a, (VALUES ('webinar', 1, 4), ('whitepaper', 1, 3), ('search_ad', 3, 6)) AS v (kind, lo, hi) WHERE a.code LIKE 'LEAD-P%' AND right(a.code, 1)::int BETWEEN v.lo AND v.hi;
SET ROLE lead_ann;
SELECT * FROM crm.scripts('opportunity', :deal2);
SELECT * FROM crm.recommend_content(:acc);
SELECT crm.recommend_content(:acc, 0);
SELECT crm.scripts('account', :acc);
SET ROLE lead_bob;
SELECT crm.scripts('opportunity', :deal2);
SELECT crm.recommend_content(:acc);
RESET ROLE;
INSERT INTO crm_data.event (account_id, kind) VALUES (:acc, 'whitepaper');
SELECT touchpoint FROM crm.recommend_content(:acc);
SELECT crm.capture_lead('{"phone": "13911110066", "client_key": "lt 66", "industry": "telecom", "need": "5G 专网"}') ->> 'lead' AS l66 \gset
SELECT script, words FROM crm.scripts('lead', :l66);
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code LIKE 'LEAD-PD%' OR id = :deal2;
UPDATE crm_data.account SET deleted_at = now() WHERE code LIKE 'LEAD-P%';
DROP VIEW pg_temp.deal2;
-- leave as found
UPDATE crm_data.opportunity SET deleted_at = now() WHERE id = :deal;
UPDATE crm_data.account SET deleted_at = now() WHERE id IN (:acc, :own);
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE owner_id IN (:ann, :bob) AND state = 'open';
UPDATE crm_data.lead SET deleted_at = now() WHERE client_key LIKE 'lt %';
DELETE FROM crm_data.alert WHERE kind = 'first_touch';
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Lead %';
DROP ROLE lead_boss, lead_ann, lead_bob, lead_far;
