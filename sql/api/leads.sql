-- Leads, follow-ups and stages: capture and assignment in one transaction, the first-touch clock, the three buttons, stage actions with evidence.

-- ---------------------------------------------------------------- stages

CREATE OR REPLACE FUNCTION crm._stage_changes() RETURNS trigger
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s crm_data.stage;
BEGIN
    SELECT * INTO s FROM crm_data.stage AS x WHERE x.id = NEW.stage_id;
    IF s.pipeline_id IS DISTINCT FROM NEW.pipeline_id THEN
        RAISE EXCEPTION 'the stage belongs to another pipeline' USING ERRCODE = 'check_violation', HINT = 'Change pipeline and stage together.';
    END IF;
    NEW.outcome := s.outcome;
    IF TG_OP = 'UPDATE' THEN
        IF NEW.category = OLD.category THEN
            NEW.category := s.category;
        END IF;
        IF NEW.stage_entered_at = OLD.stage_entered_at THEN
            NEW.stage_entered_at := now();
        END IF;
        IF NEW.stage_moves = OLD.stage_moves THEN
            NEW.stage_moves := OLD.stage_moves + 1;
        END IF;
    END IF;
    NEW.closed_at := CASE WHEN s.outcome <> 'open' THEN coalesce(NEW.closed_at, NEW.stage_entered_at) END;
    IF NEW.furthest_stage_id IS NULL OR (s.outcome <> 'lost' AND s.seq > (SELECT f.seq FROM crm_data.stage AS f WHERE f.id = NEW.furthest_stage_id)) THEN
        NEW.furthest_stage_id := NEW.stage_id;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._stage_changes() IS 'Trigger of opportunity: outcome, category, times and counts follow the stage, whoever writes it. Internal.';
DROP TRIGGER IF EXISTS process_stage_insert ON crm_data.opportunity;
CREATE TRIGGER process_stage_insert BEFORE INSERT ON crm_data.opportunity FOR EACH ROW EXECUTE FUNCTION crm._stage_changes();
COMMENT ON TRIGGER process_stage_insert ON crm_data.opportunity IS 'The outcome follows the stage.';
DROP TRIGGER IF EXISTS process_stage_update ON crm_data.opportunity;
CREATE TRIGGER process_stage_update BEFORE UPDATE ON crm_data.opportunity FOR EACH ROW WHEN (NEW.stage_id <> OLD.stage_id OR NEW.outcome <> OLD.outcome) EXECUTE FUNCTION crm._stage_changes();
COMMENT ON TRIGGER process_stage_update ON crm_data.opportunity IS 'Outcome, category and times follow the stage.';

CREATE OR REPLACE FUNCTION crm._close_slips() RETURNS trigger
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.slip_count := OLD.slip_count + 1;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._close_slips() IS 'Trigger of opportunity: counts how often the planned close moves to a later month. Internal.';
DROP TRIGGER IF EXISTS process_close_slips ON crm_data.opportunity;
CREATE TRIGGER process_close_slips BEFORE UPDATE ON crm_data.opportunity FOR EACH ROW
    WHEN (NEW.slip_count = OLD.slip_count AND NEW.outcome = 'open' AND NEW.close_date > OLD.close_date AND to_char(NEW.close_date, 'YYYY-MM') <> to_char(OLD.close_date, 'YYYY-MM')) EXECUTE FUNCTION crm._close_slips();
COMMENT ON TRIGGER process_close_slips ON crm_data.opportunity IS 'Counts how often the planned close moves to a later month.';

CREATE OR REPLACE FUNCTION crm._stage_tasks(deal bigint) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows int;
BEGIN
    INSERT INTO crm_data.task (kind, object, record_id, account_id, stage_id, action_key, title, mandatory, due_at, escalate_at, started_at, dedupe_key, owner_id, team_id, grade)
    SELECT 'stage_action', 'opportunity', o.id, o.account_id, o.stage_id, x.a ->> 'key', coalesce(x.a ->> coalesce(m.locale, 'zh'), x.a ->> 'en', x.a ->> 'key'), coalesce((x.a ->> 'mandatory')::boolean, false),
           -- a deal that comes in late starts its clocks now, not in the past
           greatest(o.stage_entered_at + (x.a ->> 'due')::interval, CASE WHEN o.stage_entered_at < now() - interval '1 hour' THEN now() + (x.a ->> 'due')::interval END),
           greatest(o.stage_entered_at, now()) + coalesce((x.a ->> 'due')::interval, '0') + coalesce((x.a ->> 'escalate')::interval, (x.a ->> 'due')::interval),
           o.stage_entered_at, format('stage_action:%s:%s:%s:%s', o.id, o.stage_id, x.a ->> 'key', o.stage_moves), o.owner_id, o.team_id, o.grade
      FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.id = o.stage_id AND s.outcome = 'open' JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id
      LEFT JOIN crm_data.member AS m ON m.id = o.owner_id
      JOIN crm_data.config AS c ON c.kind = 'stage' AND c.key = p.code || '/' || s.code AND c.scope = '*' AND c.status = 'active'
     CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'actions') AS x (a)
     WHERE o.id = deal AND o.deleted_at IS NULL
       AND NOT EXISTS (SELECT FROM crm_data.task AS t WHERE t.object = 'opportunity' AND t.record_id = o.id AND t.kind = 'stage_action' AND t.stage_id = o.stage_id AND t.state = 'open')
    ON CONFLICT (dedupe_key) DO NOTHING;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
COMMENT ON FUNCTION crm._stage_tasks(bigint) IS 'Internal: makes the tasks of the actions that the stage of a deal has; returns how many.';

CREATE OR REPLACE FUNCTION crm._stage_entered() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- at the end of the transaction: whoever brings the history of a deal along has written it by then
        IF NOT EXISTS (SELECT FROM crm_data.stage_history AS h WHERE h.opportunity_id = NEW.id) THEN
            INSERT INTO crm_data.stage_history (opportunity_id, account_id, to_stage_id, entered_at, amount, currency, close_date, probability, actor, owner_id, team_id, grade)
            VALUES (NEW.id, NEW.account_id, NEW.stage_id, NEW.stage_entered_at, NEW.amount, NEW.currency, NEW.close_date, NEW.probability, crm._actor(), NEW.owner_id, NEW.team_id, NEW.grade);
        END IF;
    ELSE
        UPDATE crm_data.stage_history AS h SET left_at = NEW.stage_entered_at WHERE h.opportunity_id = NEW.id AND h.left_at IS NULL AND (h.entered_at < NEW.stage_entered_at OR h.to_stage_id = OLD.stage_id AND h.entered_at = NEW.stage_entered_at);
        -- unless the history was brought along
        INSERT INTO crm_data.stage_history (opportunity_id, account_id, from_stage_id, to_stage_id, entered_at, amount, currency, close_date, probability, actor, owner_id, team_id, grade)
        SELECT NEW.id, NEW.account_id, OLD.stage_id, NEW.stage_id, NEW.stage_entered_at, NEW.amount, NEW.currency, NEW.close_date, NEW.probability, crm._actor(), NEW.owner_id, NEW.team_id, NEW.grade
         WHERE NOT EXISTS (SELECT FROM crm_data.stage_history AS h WHERE h.opportunity_id = NEW.id AND h.to_stage_id = NEW.stage_id AND h.entered_at = NEW.stage_entered_at);
        UPDATE crm_data.task AS t SET state = 'cancelled', done_at = now(), updated_at = now() WHERE t.object = 'opportunity' AND t.record_id = NEW.id AND t.kind = 'stage_action' AND t.stage_id = OLD.stage_id AND t.state = 'open';
    END IF;
    IF NEW.outcome = 'open' THEN
        PERFORM crm._stage_tasks(NEW.id);
    ELSIF TG_OP = 'UPDATE' THEN
        -- the risk of a deal that is closed is nobody's work any more
        UPDATE crm_data.alert AS a SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = 'stage' WHERE a.object = 'opportunity' AND a.record_id = NEW.id AND a.kind = 'risk' AND a.state <> 'closed';
        UPDATE crm_data.task AS t SET state = 'cancelled', done_at = now(), updated_at = now() WHERE t.object = 'opportunity' AND t.record_id = NEW.id AND t.kind = 'risk_action' AND t.state = 'open';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._stage_entered() IS 'Trigger of opportunity: every entry into a stage is in the stage history, the stay before is closed, and the stage''s actions become tasks; with the deal its alerts and actions about risk are over. Internal.';
DROP TRIGGER IF EXISTS process_stage_first ON crm_data.opportunity;
CREATE CONSTRAINT TRIGGER process_stage_first AFTER INSERT ON crm_data.opportunity DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION crm._stage_entered();
COMMENT ON TRIGGER process_stage_first ON crm_data.opportunity IS 'A deal without a history gets its first entry; its stage''s actions become tasks.';
DROP TRIGGER IF EXISTS process_stage_next ON crm_data.opportunity;
CREATE TRIGGER process_stage_next AFTER UPDATE ON crm_data.opportunity FOR EACH ROW WHEN (NEW.stage_id <> OLD.stage_id) EXECUTE FUNCTION crm._stage_entered();
COMMENT ON TRIGGER process_stage_next ON crm_data.opportunity IS 'Every change of the stage is in the stage history.';

CREATE OR REPLACE FUNCTION crm._may_work_on(owner_id bigint, team_id bigint) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT crm.has_role('crm_admin') OR owner_id = crm.me() OR (crm.has_role('crm_manager') AND team_id = ANY (crm.my_teams('subtree')))
$$;
COMMENT ON FUNCTION crm._may_work_on(bigint, bigint) IS 'Internal: whether the caller may act on a record of an owner and a team: the owner, his managers, administrators.';

-- Actions whose evidence is there are done without anybody ticking them off.
CREATE OR REPLACE FUNCTION crm._settle_actions(deal bigint) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    doc jsonb := crm._features('opportunity', deal, now());
    v_rows int;
BEGIN
    UPDATE crm_data.task AS t SET state = 'done', done_at = now(), done_by = crm.me(), evidence = coalesce(t.evidence, '{}') || jsonb_build_object('rule', x.a ->> 'evidence'), updated_at = now(), updated_by = session_user
      FROM crm_data.stage AS s JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id
      JOIN crm_data.config AS c ON c.kind = 'stage' AND c.key = p.code || '/' || s.code AND c.scope = '*' AND c.status = 'active'
     CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'actions') AS x (a)
     WHERE t.object = 'opportunity' AND t.record_id = deal AND t.kind = 'stage_action' AND t.state = 'open' AND t.stage_id = s.id AND x.a ->> 'key' = t.action_key
       AND x.a ? 'evidence' AND jsonb_path_exists(doc, (x.a ->> 'evidence')::jsonpath, '{}', true);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
COMMENT ON FUNCTION crm._settle_actions(bigint) IS 'Internal: closes the open stage actions of a deal whose evidence the feature document holds; returns how many.';

CREATE OR REPLACE FUNCTION crm._check_stage(deal jsonb, f crm_data.stage, t crm_data.stage) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_open text;
    v_n int;
BEGIN
    IF f.allowed_next IS NOT NULL AND t.seq > f.seq AND t.outcome <> 'lost' AND t.seq <> ALL (f.allowed_next) THEN
        RAISE EXCEPTION 'from "%" a deal does not go to "%"', f.code, t.code USING ERRCODE = 'invalid_parameter_value', HINT = 'The stage lists which may follow it.';
    END IF;
    -- forward only with the actions done; back, and out as lost, always: customers compare again, and deals die
    IF t.seq > f.seq AND t.outcome <> 'lost' THEN
        PERFORM crm._settle_actions((deal ->> 'id')::bigint);
        SELECT count(*), string_agg(k.title, '; ' ORDER BY k.id) INTO v_n, v_open FROM crm_data.task AS k
         WHERE k.object = 'opportunity' AND k.record_id = (deal ->> 'id')::bigint AND k.kind = 'stage_action' AND k.mandatory AND k.state = 'open' AND k.stage_id = f.id;
        IF v_n > 0 THEN
            RAISE EXCEPTION '% mandatory actions of stage "%" are open', v_n, f.code USING ERRCODE = 'RM520', DETAIL = v_open, HINT = 'Do them, or waive each with a reason: crm.waive_task(task, reason).';
        END IF;
    END IF;
    -- what a form asks for in the stage that is entered, a loss too: its form may ask for the reason
    IF t.seq > f.seq THEN
        PERFORM crm._check_form(deal, t);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._check_stage(jsonb, crm_data.stage, crm_data.stage) IS 'Internal: refuses a move of a deal, given as it will be, from one stage to another that may not follow it, with mandatory actions of the one it leaves open, or with fields empty that the form asks for in the one it enters. Errors: RM520, RM523, 22023.';

CREATE OR REPLACE FUNCTION crm._stage_gate() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f crm_data.stage;
    t crm_data.stage;
BEGIN
    -- what other systems say of their deals is so; administrators repair
    IF NOT (crm.has_role('crm_admin') OR crm.has_role('crm_sync')) THEN
        SELECT * INTO f FROM crm_data.stage AS s WHERE s.id = OLD.stage_id;
        SELECT * INTO t FROM crm_data.stage AS s WHERE s.id = NEW.stage_id;
        PERFORM crm._check_stage(to_jsonb(NEW), f, t);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._stage_gate() IS 'Trigger of opportunity: a person moves a deal by whatever way as crm.advance_stage does, with the mandatory actions done or waived and what the form asks for filled in. Internal. Errors: RM520, RM523, 22023.';
DROP TRIGGER IF EXISTS process_stage_gate ON crm_data.opportunity;
CREATE TRIGGER process_stage_gate BEFORE UPDATE ON crm_data.opportunity FOR EACH ROW WHEN (NEW.stage_id <> OLD.stage_id AND NEW.pipeline_id = OLD.pipeline_id) EXECUTE FUNCTION crm._stage_gate();
COMMENT ON TRIGGER process_stage_gate ON crm_data.opportunity IS 'Mandatory actions hold a deal back, whichever way it is moved.';

CREATE OR REPLACE FUNCTION crm._action_over() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- (the key that the rule left: so one look into an index finds it)
    UPDATE crm_data.alert AS a SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = 'task'
     WHERE a.dedupe_key = format('rule:task_overdue:%s:%s:%s:1', NEW.object, NEW.record_id, NEW.id) AND a.state <> 'closed';
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._action_over() IS 'Trigger of task: the alert that a stage action is late ends with the action, done, waived or cancelled. Internal.';
DROP TRIGGER IF EXISTS process_action_over ON crm_data.task;
CREATE TRIGGER process_action_over AFTER UPDATE ON crm_data.task FOR EACH ROW WHEN (OLD.state = 'open' AND NEW.state <> 'open' AND NEW.kind = 'stage_action' AND NEW.notified_at IS NOT NULL) EXECUTE FUNCTION crm._action_over();
COMMENT ON TRIGGER process_action_over ON crm_data.task IS 'The alert about a late action ends with it.';

CREATE OR REPLACE FUNCTION crm.complete_task(task bigint, note text DEFAULT NULL, attachments bigint[] DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    t crm_data.task;
    v_path text;
BEGIN
    SELECT * INTO t FROM crm_data.task AS x WHERE x.id = task FOR UPDATE;
    -- the desk works on its cases together
    IF NOT FOUND OR NOT (coalesce(crm._may_work_on(t.owner_id, t.team_id), false) OR (t.kind = 'case' AND crm.has_role('crm_service'))) THEN
        RAISE EXCEPTION 'there is no such task that you may close' USING ERRCODE = 'no_data_found', HINT = 'Tasks are closed by their owner or his managers, cases by anybody of the service desk.';
    END IF;
    IF t.state <> 'open' THEN
        RETURN t.state;
    END IF;
    IF t.kind = 'stage_action' THEN
        SELECT x.a ->> 'evidence' INTO v_path FROM crm_data.stage AS s JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id
          JOIN crm_data.config AS c ON c.kind = 'stage' AND c.key = p.code || '/' || s.code AND c.scope = '*' AND c.status = 'active' CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'actions') AS x (a)
         WHERE s.id = t.stage_id AND x.a ->> 'key' = t.action_key;
        IF v_path IS NOT NULL AND NOT jsonb_path_exists(crm._features('opportunity', t.record_id, now()), v_path::jsonpath, '{}', true) THEN
            RAISE EXCEPTION 'the evidence for "%" is missing', t.title USING ERRCODE = 'RM521', DETAIL = 'Asked for: ' || v_path, HINT = 'Add it to the deal; or waive the action with crm.waive_task and a reason.';
        END IF;
    END IF;
    UPDATE crm_data.task AS x SET state = 'done', done_at = now(), done_by = crm.me(), updated_at = now(), updated_by = session_user,
           evidence = nullif(jsonb_strip_nulls(jsonb_build_object('note', note, 'attachments', to_jsonb(attachments), 'rule', v_path)), '{}') WHERE x.id = task;
    RETURN 'done';
END
$$;
COMMENT ON FUNCTION crm.complete_task(bigint, text, bigint[]) IS
'Closes a task; a stage action only when the deal holds the evidence that the stage asks for. Returns the state. note, attachments: kept with it. Errors: RM521 the evidence is missing; P0002 no such task of the caller''s.';

CREATE OR REPLACE FUNCTION crm.waive_task(task bigint, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    t crm_data.task;
BEGIN
    SELECT * INTO t FROM crm_data.task AS x WHERE x.id = task FOR UPDATE;
    IF NOT FOUND OR NOT coalesce(crm._may_work_on(t.owner_id, t.team_id), false) THEN
        RAISE EXCEPTION 'there is no such task that you may waive' USING ERRCODE = 'no_data_found', HINT = 'Tasks are waived by their owner or his managers.';
    END IF;
    IF btrim(reason) = '' OR t.state <> 'open' THEN
        RAISE EXCEPTION 'an open task is waived with a reason' USING ERRCODE = 'invalid_parameter_value', HINT = 'Say why it is not needed.';
    END IF;
    UPDATE crm_data.task AS x SET state = 'waived', waived_reason = reason, done_at = now(), done_by = crm.me(), updated_at = now(), updated_by = session_user WHERE x.id = task;
END
$$;
COMMENT ON FUNCTION crm.waive_task(bigint, text) IS 'Lets an open task go without being done, with a reason that is kept. Errors: P0002 no such task of the caller''s; 22023 no reason, or not open.';

CREATE OR REPLACE FUNCTION crm.advance_stage(opp bigint, to_stage text, expected_version int DEFAULT NULL, reason text DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    o crm_data.opportunity;
    f crm_data.stage;
    t crm_data.stage;
    v_n int;
BEGIN
    -- the customer first, then the deal: the order of every write
    PERFORM FROM crm_data.account AS a WHERE a.id = (SELECT x.account_id FROM crm_data.opportunity AS x WHERE x.id = opp) FOR NO KEY UPDATE;
    SELECT * INTO o FROM crm_data.opportunity AS x WHERE x.id = opp AND x.deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT coalesce(crm._may_work_on(o.owner_id, o.team_id), false) THEN
        RAISE EXCEPTION 'there is no such opportunity that you may move' USING ERRCODE = 'no_data_found', HINT = 'Deals are moved by their owner or his managers.';
    END IF;
    IF expected_version IS NOT NULL AND expected_version <> o.row_version THEN
        RAISE EXCEPTION 'the deal has changed since you read it' USING ERRCODE = 'serialization_failure', DETAIL = format('You read version %s, it is at %s.', expected_version, o.row_version), HINT = 'Read it again.';
    END IF;
    SELECT * INTO f FROM crm_data.stage AS s WHERE s.id = o.stage_id;
    SELECT * INTO t FROM crm_data.stage AS s WHERE s.pipeline_id = o.pipeline_id AND s.code = to_stage;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no stage "%" in this pipeline', to_stage USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Its stages: ' || (SELECT string_agg(s.code, ', ' ORDER BY s.seq) FROM crm_data.stage AS s WHERE s.pipeline_id = o.pipeline_id) || '.';
    END IF;
    IF t.id = f.id THEN
        RETURN jsonb_build_object('stage', t.code, 'version', o.row_version);
    END IF;
    PERFORM crm._check_stage(to_jsonb(o) || CASE WHEN t.outcome = 'lost' AND reason IS NOT NULL THEN jsonb_build_object('lost_reason', reason) ELSE '{}' END, f, t);
    UPDATE crm_data.opportunity AS x SET stage_id = t.id, lost_reason = CASE WHEN t.outcome = 'lost' THEN coalesce(reason, x.lost_reason) ELSE x.lost_reason END, updated_at = now(), updated_by = session_user
     WHERE x.id = opp RETURNING x.row_version INTO v_n;
    RETURN jsonb_build_object('stage', t.code, 'version', v_n, 'tasks', (SELECT count(*) FROM crm_data.task AS k WHERE k.object = 'opportunity' AND k.record_id = opp AND k.kind = 'stage_action' AND k.state = 'open'));
END
$$;
COMMENT ON FUNCTION crm.advance_stage(bigint, text, int, text) IS
'Moves a deal to another stage of its pipeline. Forward, the mandatory actions of the stage it leaves must be done (those whose evidence is there close by themselves) or waived with a reason, and what the form opportunity asks for in the stage it enters must be filled in (crm.form_spec shows it); back, and to lost, it may go with actions open. Writes the stage history and makes the tasks of the new stage.
to_stage: code of the stage. expected_version: row version that was read. reason: kept as the reason of a loss.
Errors: RM520 mandatory actions are open; RM523 fields are empty that the stage asks for; 40001 changed since; 22023 no such stage, or not after this one; P0002 no such deal of the caller''s.';

-- ---------------------------------------------------------------- follow-ups

CREATE OR REPLACE FUNCTION crm._touch_quality(kind text, duration interval, depth text, next_step text, reply_hours numeric) RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(0, least(100, round(
               CASE WHEN reply_hours IS NULL THEN coalesce((q.body -> 'base' ->> _touch_quality.kind)::numeric, 50)
                    WHEN reply_hours < extract(epoch FROM (q.body #>> '{reply,full_under}')::interval) / 3600 THEN 100
                    ELSE 100 * greatest(0, 1 - (reply_hours - extract(epoch FROM (q.body #>> '{reply,full_under}')::interval) / 3600)
                                               / nullif(extract(epoch FROM (q.body #>> '{reply,zero_after}')::interval - (q.body #>> '{reply,full_under}')::interval) / 3600, 0)) END
               + CASE WHEN _touch_quality.kind = 'meeting' AND next_step IS NULL THEN coalesce((q.body ->> 'meeting_without_next_step')::numeric, 0) ELSE 0 END
               + CASE WHEN depth = 'deep' THEN coalesce((q.body ->> 'deep')::numeric, 0) ELSE 0 END)))::int
      FROM crm_data.config AS q WHERE q.kind = 'health_model' AND q.key = 'touch_quality' AND q.scope = '*' AND q.status = 'active'
$$;
COMMENT ON FUNCTION crm._touch_quality(text, interval, text, text, numeric) IS
'Internal: points of a follow-up by the active health_model/touch_quality: by its kind, an answer by how fast it came (full marks under two hours), less for a meeting without a next step, more in depth.';

CREATE OR REPLACE FUNCTION crm._reply_hours(account bigint, kind text, direction text, at timestamptz) RETURNS numeric
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    l record;
BEGIN
    IF kind NOT IN ('chat', 'email', 'call') OR direction NOT IN ('in', 'out') OR direction IS NULL OR account IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT i.direction, i.occurred_at INTO l FROM crm_data.interaction AS i
     WHERE i.account_id = account AND i.occurred_at < at AND i.kind IN ('chat', 'email', 'call') AND i.direction IN ('in', 'out') AND i.retracted_at IS NULL ORDER BY i.occurred_at DESC, i.id DESC LIMIT 1;
    RETURN CASE WHEN l.direction <> direction THEN round(extract(epoch FROM at - l.occurred_at) / 3600, 2) END;
END
$$;
COMMENT ON FUNCTION crm._reply_hours(bigint, text, text, timestamptz) IS 'Internal: hours between the other side''s last word and this one, which answers it; NULL when it answers nothing.';

CREATE OR REPLACE FUNCTION crm._interaction_scored() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.progress IS NOT NULL AND NOT EXISTS (SELECT FROM crm.choices('key_progress') AS c WHERE c.key = NEW.progress) THEN
        RAISE EXCEPTION 'key progress is one of a list, not "%"', NEW.progress USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Values: ' || (SELECT string_agg(format('%s (%s)', c.key, c.label), ', ') FROM crm.choices('key_progress') AS c) || '.';
    END IF;
    IF TG_OP = 'INSERT' AND NEW.quality IS NULL THEN
        IF NOT NEW.detail ? 'reply_hours' THEN
            NEW.detail := NEW.detail || jsonb_strip_nulls(jsonb_build_object('reply_hours', crm._reply_hours(NEW.account_id, NEW.kind, NEW.direction, NEW.occurred_at)));
        END IF;
        NEW.quality := crm._touch_quality(NEW.kind, NEW.duration, NEW.depth, NEW.next_step, CASE WHEN NEW.direction IS DISTINCT FROM 'in' THEN crm.parse_number(NEW.detail ->> 'reply_hours') END);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._interaction_scored() IS 'Trigger of interaction: key progress is one of its picklist, and a person''s follow-up has its points of quality, whichever way it came. Internal.';
DROP TRIGGER IF EXISTS process_interaction_scored ON crm_data.interaction;
CREATE TRIGGER process_interaction_scored BEFORE INSERT ON crm_data.interaction FOR EACH ROW
    WHEN (NEW.progress IS NOT NULL OR (NEW.quality IS NULL AND NEW.author_id IS NOT NULL)) EXECUTE FUNCTION crm._interaction_scored();
COMMENT ON TRIGGER process_interaction_scored ON crm_data.interaction IS 'Key progress is one of its picklist; follow-ups of people have points.';
DROP TRIGGER IF EXISTS process_interaction_progress ON crm_data.interaction;
CREATE TRIGGER process_interaction_progress BEFORE UPDATE ON crm_data.interaction FOR EACH ROW
    WHEN (NEW.progress IS NOT NULL AND NEW.progress IS DISTINCT FROM OLD.progress) EXECUTE FUNCTION crm._interaction_scored();
COMMENT ON TRIGGER process_interaction_progress ON crm_data.interaction IS 'Key progress is one of its picklist.';

CREATE OR REPLACE FUNCTION crm._interaction_added() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE crm_data.account AS a SET last_contact_at = n.at
      FROM (SELECT r.account_id, max(least(r.occurred_at, now())) AS at FROM new_rows AS r WHERE r.account_id IS NOT NULL AND isfinite(r.occurred_at) AND r.retracted_at IS NULL GROUP BY 1) AS n
     WHERE a.id = n.account_id AND (a.last_contact_at IS NULL OR a.last_contact_at < n.at);
    UPDATE crm_data.contact AS c SET last_contact_at = n.at
      FROM (SELECT r.contact_id, max(least(r.occurred_at, now())) AS at FROM new_rows AS r WHERE r.contact_id IS NOT NULL AND isfinite(r.occurred_at) AND r.retracted_at IS NULL GROUP BY 1) AS n
     WHERE c.id = n.contact_id AND (c.last_contact_at IS NULL OR c.last_contact_at < n.at);
    UPDATE crm_data.opportunity AS o SET last_contact_at = n.at
      FROM (SELECT r.opportunity_id, max(least(r.occurred_at, now())) AS at FROM new_rows AS r WHERE r.opportunity_id IS NOT NULL AND isfinite(r.occurred_at) AND r.retracted_at IS NULL GROUP BY 1) AS n
     WHERE o.id = n.opportunity_id AND (o.last_contact_at IS NULL OR o.last_contact_at < n.at);
    IF EXISTS (SELECT FROM new_rows AS r WHERE r.lead_id IS NOT NULL) THEN
        -- the first word with a lead stops its clock
        UPDATE crm_data.lead AS l SET first_touch_at = n.at, state = CASE WHEN l.state IN ('new', 'assigned') THEN 'working' ELSE l.state END
          FROM (SELECT r.lead_id, min(r.occurred_at) AS at FROM new_rows AS r WHERE r.lead_id IS NOT NULL AND r.direction IS DISTINCT FROM 'in' AND r.kind NOT IN ('form', 'system') GROUP BY 1) AS n
         WHERE l.id = n.lead_id AND l.first_touch_at IS NULL;
        UPDATE crm_data.task AS t SET state = 'done', done_at = now(), done_by = crm.me(), updated_at = now()
          FROM (SELECT DISTINCT r.lead_id FROM new_rows AS r WHERE r.lead_id IS NOT NULL AND r.direction IS DISTINCT FROM 'in' AND r.kind NOT IN ('form', 'system')) AS n
         WHERE t.object = 'lead' AND t.record_id = n.lead_id AND t.kind = 'first_touch' AND t.state = 'open';
        UPDATE crm_data.alert AS x SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = 'follow-up'
          FROM (SELECT DISTINCT r.lead_id FROM new_rows AS r WHERE r.lead_id IS NOT NULL AND r.direction IS DISTINCT FROM 'in' AND r.kind NOT IN ('form', 'system')) AS n
         WHERE x.object = 'lead' AND x.record_id = n.lead_id AND x.kind = 'first_touch' AND x.state <> 'closed';
    END IF;
    -- the rules look at what happened lately; an old file that comes in is no news
    INSERT INTO crm_data.rule_event (kind, object, record_id, event)
    SELECT 'interaction.insert', 'account', r.account_id,
           jsonb_strip_nulls(jsonb_build_object('id', r.id, 'kind', r.kind, 'channel', r.channel, 'direction', r.direction, 'satisfaction', r.satisfaction, 'progress', r.progress, 'objections', r.detail -> 'objections', 'keyword_hits', crm._keyword_hits(concat_ws(' ', r.summary, r.body))))
      FROM new_rows AS r WHERE r.account_id IS NOT NULL AND r.occurred_at > now() - interval '7 days' AND NOT r.auto;
    -- whoever is spoken to is not silent any more
    WITH over AS (
        UPDATE crm_data.rule_match AS m SET cleared_at = now() FROM new_rows AS r
         WHERE m.object = 'account' AND m.record_id = r.account_id AND m.rule IN ('followup_manager', 'followup_alert') AND m.fired AND m.cleared_at IS NULL AND r.occurred_at > m.at
        RETURNING m.record_id)
    UPDATE crm_data.alert AS a SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = 'follow-up' FROM over AS o
     WHERE a.object = 'account' AND a.record_id = o.record_id AND a.kind = 'silent' AND a.state <> 'closed';
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._interaction_added() IS 'Trigger of interaction: keeps when customers, contacts and deals were last spoken to, and stops the first-touch clock of leads. Internal.';
DROP TRIGGER IF EXISTS process_interaction_added ON crm_data.interaction;
CREATE TRIGGER process_interaction_added AFTER INSERT ON crm_data.interaction REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION crm._interaction_added();
COMMENT ON TRIGGER process_interaction_added ON crm_data.interaction IS 'Keeps when customers were last spoken to.';

CREATE OR REPLACE FUNCTION crm.log_interaction(doc jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i crm_data.interaction;
    v_id bigint;
    v_owner bigint;
    v_team bigint;
    v_bad text;
BEGIN
    IF length(doc ->> 'client_key') > 500 OR pg_column_size(doc) > 20000000 THEN
        RAISE EXCEPTION 'a follow-up has up to twenty million bytes, its client_key up to 500 characters' USING ERRCODE = 'invalid_parameter_value', HINT = 'Files are attachments; a client key is a number or a digest.';
    END IF;
    IF jsonb_typeof(doc) <> 'object' THEN
        RAISE EXCEPTION 'a follow-up is an object' USING ERRCODE = 'invalid_parameter_value', HINT = '{"account_id": 1, "kind": "call", "summary": "..."}';
    END IF;
    SELECT string_agg(k, ', ') INTO v_bad FROM jsonb_object_keys(doc) AS k
     WHERE k NOT IN ('account_id', 'contact_id', 'opportunity_id', 'lead_id', 'campaign_id', 'kind', 'channel', 'direction', 'occurred_at', 'summary', 'body', 'progress', 'next_step', 'next_step_at', 'duration', 'depth',
                     'satisfaction', 'auto', 'preset', 'client_key', 'endpoint', 'detail');
    IF v_bad IS NOT NULL THEN
        RAISE EXCEPTION 'a follow-up has no field %', v_bad USING ERRCODE = 'undefined_column', HINT = 'Other facts go into detail.';
    END IF;
    IF doc ? 'client_key' THEN
        SELECT * INTO i FROM crm_data.interaction AS x WHERE x.client_key = doc ->> 'client_key';
        IF FOUND THEN
            IF i.author_id IS DISTINCT FROM crm.me() AND NOT crm._row_readable('interaction', to_jsonb(i)) THEN
                RAISE EXCEPTION 'the client key belongs to another follow-up' USING ERRCODE = 'unique_violation', HINT = 'Give every follow-up a key of its own.';
            END IF;
            RETURN i.id;
        END IF;
    END IF;
    BEGIN
        i := jsonb_populate_record(NULL::crm_data.interaction, doc);
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'a value of the follow-up has the wrong form: %', SQLERRM USING ERRCODE = 'invalid_parameter_value', HINT = 'Times are ISO 8601, durations like "00:01:30".';
    END;
    IF i.direction NOT IN ('in', 'out', 'internal') OR i.depth NOT IN ('light', 'normal', 'deep') OR i.satisfaction NOT BETWEEN 0 AND 10 OR i.duration < interval '0' OR i.kind = '' THEN
        RAISE EXCEPTION 'a value of the follow-up is not possible' USING ERRCODE = 'invalid_parameter_value', HINT = 'direction: in, out, internal; depth: light, normal, deep; satisfaction: 0 to 10; a duration is not negative; a kind is not empty.';
    END IF;
    IF i.opportunity_id IS NOT NULL AND i.account_id IS NULL THEN
        SELECT o.account_id INTO i.account_id FROM crm_data.opportunity AS o WHERE o.id = i.opportunity_id;
    END IF;
    SELECT a.owner_id, a.team_id INTO v_owner, v_team FROM crm_data.account AS a WHERE a.id = i.account_id AND a.deleted_at IS NULL;
    IF NOT FOUND THEN
        SELECT l.owner_id, l.team_id INTO v_owner, v_team FROM crm_data.lead AS l WHERE l.id = i.lead_id AND l.deleted_at IS NULL;
    END IF;
    IF NOT FOUND OR NOT coalesce(crm._may_work_on(v_owner, v_team) OR crm.has_role('crm_service'), false) THEN
        RAISE EXCEPTION 'there is no such customer or lead that you may follow up' USING ERRCODE = 'no_data_found', HINT = 'Give account_id or lead_id of a record of yours.';
    END IF;
    -- the service desk speaks with leads, too, which it does not see
    IF NOT crm._may_mention(i.contact_id, i.opportunity_id, CASE WHEN NOT crm.has_role('crm_service') THEN i.lead_id END) THEN
        RAISE EXCEPTION 'there is no such contact, opportunity or lead' USING ERRCODE = 'no_data_found', HINT = 'A follow-up names records that you see.';
    END IF;
    IF NOT isfinite(i.occurred_at) OR i.occurred_at > now() + interval '1 day' OR i.occurred_at < '1900-01-01' THEN
        RAISE EXCEPTION 'a follow-up is about something that happened' USING ERRCODE = 'invalid_parameter_value', HINT = 'occurred_at lies ahead, or is no time; what is to come is next_step_at.';
    END IF;
    -- a long call is a talk in depth, and counts as one
    i.depth := coalesce(i.depth, CASE WHEN i.kind = 'call' AND i.duration > make_interval(secs => crm._setting('call.auto_log_over', '90')::int) THEN 'deep' END);
    i.detail := coalesce(i.detail, '{}');
    IF jsonb_typeof(i.detail) <> 'object' THEN
        RAISE EXCEPTION 'the detail of a follow-up is an object' USING ERRCODE = 'invalid_parameter_value', HINT = '{"detail": {"room": "A1"}}';
    END IF;
    IF NOT i.detail ? 'reply_hours' THEN
        i.detail := i.detail || jsonb_strip_nulls(jsonb_build_object('reply_hours', crm._reply_hours(i.account_id, i.kind, i.direction, coalesce(i.occurred_at, now()))));
    END IF;
    INSERT INTO crm_data.interaction (account_id, contact_id, opportunity_id, lead_id, campaign_id, kind, channel, direction, occurred_at, author_id, summary, body, progress, next_step, next_step_at, duration, depth, quality,
                                      satisfaction, auto, preset, client_key, endpoint, detail, owner_id, team_id)
    VALUES (i.account_id, i.contact_id, i.opportunity_id, i.lead_id, i.campaign_id, coalesce(i.kind, 'note'), i.channel, i.direction, coalesce(i.occurred_at, now()), crm.me(), i.summary, i.body, i.progress, i.next_step, i.next_step_at,
            i.duration, i.depth,
            crm._touch_quality(coalesce(i.kind, 'note'), i.duration, i.depth, i.next_step, CASE WHEN i.direction IS DISTINCT FROM 'in' THEN crm.parse_number(i.detail ->> 'reply_hours') END), i.satisfaction, coalesce(i.auto, false), i.preset, i.client_key, i.endpoint, i.detail, v_owner, v_team)
    ON CONFLICT (client_key) DO NOTHING
    RETURNING id INTO v_id;
    IF v_id IS NULL THEN       -- the same replay was faster
        SELECT x.id INTO v_id FROM crm_data.interaction AS x WHERE x.client_key = doc ->> 'client_key';
        RETURN v_id;
    END IF;
    IF i.next_step IS NOT NULL THEN
        INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, interaction_id, dedupe_key, owner_id, team_id)
        VALUES ('next_step', CASE WHEN i.opportunity_id IS NOT NULL THEN 'opportunity' WHEN i.account_id IS NOT NULL THEN 'account' ELSE 'lead' END, coalesce(i.opportunity_id, i.account_id, i.lead_id), i.account_id,
                i.next_step, i.next_step_at, v_id, 'next_step:' || v_id, coalesce(crm.me(), v_owner), v_team)
        ON CONFLICT (dedupe_key) DO NOTHING;
        IF i.opportunity_id IS NOT NULL THEN
            UPDATE crm_data.opportunity AS o SET next_step = i.next_step, next_step_at = i.next_step_at WHERE o.id = i.opportunity_id AND coalesce(crm._may_work_on(o.owner_id, o.team_id), false);
        END IF;
    END IF;
    RETURN v_id;
END
$$;
COMMENT ON FUNCTION crm.log_interaction(jsonb) IS
'Writes a follow-up and returns its number; the same client_key again returns the same one. A next step becomes a task of the author. Its points of quality are computed at once.
doc: account_id, opportunity_id or lead_id; kind, channel, direction, occurred_at, summary, body, progress (picklist key_progress), next_step, next_step_at, duration, depth, satisfaction, contact_id, campaign_id, preset, client_key, endpoint, detail.
Errors: 22023 a value of the wrong form or outside its list, or too long; 42703 an unknown field; P0002 no such customer of the caller''s, or a contact, opportunity or lead that he does not see; 23505 the client key is another''s.';

CREATE OR REPLACE FUNCTION crm.log_touch(account bigint, preset text, note text DEFAULT NULL, opportunity bigint DEFAULT NULL, client_key text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    p jsonb;
    v_key text;
    v_locale text := coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'zh');
    v_new boolean;
    v_id bigint;
BEGIN
    SELECT c.body, c.key INTO p, v_key FROM crm_data.config AS c
     WHERE c.kind = 'touch_preset' AND c.scope = '*' AND c.status = 'active' AND (c.key = preset OR c.body #>> '{label,zh}' = preset OR c.body #>> '{label,en}' = preset);
    IF p IS NULL THEN
        RAISE EXCEPTION 'there is no button "%"', preset USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Buttons: ' || (SELECT string_agg(c.key, ', ' ORDER BY c.key) FROM crm_data.config AS c WHERE c.kind = 'touch_preset' AND c.scope = '*' AND c.status = 'active') || '.';
    END IF;
    v_new := client_key IS NULL OR NOT EXISTS (SELECT FROM crm_data.interaction AS i WHERE i.client_key = client_key);
    v_id := crm.log_interaction(jsonb_strip_nulls(jsonb_build_object('account_id', account, 'opportunity_id', opportunity, 'kind', p ->> 'kind', 'channel', p ->> 'channel', 'direction', p ->> 'direction',
        'summary', coalesce(p #>> ARRAY['text', v_locale], p #>> '{text,en}'), 'body', note, 'next_step', coalesce(p #>> ARRAY['next_step', v_locale], p #>> '{next_step,en}'),
        'next_step_at', now() + (p ->> 'next_after')::interval, 'preset', v_key, 'client_key', client_key)));
    IF opportunity IS NOT NULL AND v_new THEN
        IF p ->> 'kind' = 'quote' THEN
            UPDATE crm_data.opportunity AS o SET quote_sent_at = now(), quote_viewed_at = NULL, updated_at = now(), updated_by = session_user WHERE o.id = opportunity AND o.outcome = 'open' AND crm._may_work_on(o.owner_id, o.team_id);
        END IF;
        -- nobody picks a stage: what was done says where the deal is, forward or, when a customer compares again, back. What holds it back is on the list of its actions.
        IF EXISTS (SELECT FROM crm_data.opportunity AS o JOIN crm_data.stage AS s ON s.pipeline_id = o.pipeline_id AND s.code = p ->> 'stage' WHERE o.id = opportunity AND o.outcome = 'open' AND o.stage_id <> s.id AND crm._may_work_on(o.owner_id, o.team_id)) THEN
            BEGIN
                PERFORM crm.advance_stage(opportunity, p ->> 'stage');
            EXCEPTION WHEN SQLSTATE 'RM520' OR SQLSTATE 'RM523' OR invalid_parameter_value THEN
                NULL;
            END;
        END IF;
    END IF;
    RETURN v_id;
END
$$;
COMMENT ON FUNCTION crm.log_touch(bigint, text, text, bigint, text) IS
'One of the buttons after a conversation: writes a standard follow-up with the next step and its time. With a deal, the stage is inferred: a button that names one (proposal_sent: quote) notes that the quote is out and takes the deal there, forward if its mandatory actions allow, or back. Returns the follow-up.
preset: just_talked, proposal_sent, waiting or what the configuration touch_preset has, by key or label. note: in one''s own words. Errors: 22023 no such button; P0002 no such customer of the caller''s.';

-- ---------------------------------------------------------------- leads

-- Whom a lead goes to, and by which route; the lead need not be written yet.
CREATE OR REPLACE FUNCTION crm._route_lead(INOUT l crm_data.lead, exclude bigint[], OUT member bigint, OUT config_id bigint, OUT canary boolean, OUT changed boolean)
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    r jsonb;
    v_place text := concat_ws(' ', l.province, l.city);
    v_words text := lower(concat_ws(' ', l.company, l.need));
    v_sales bigint[];
    v_region int;
    v_industry int;
BEGIN
    SELECT x.body, x.version, x.id, x.canary INTO c FROM crm._config_for('assignment', 'default', l.id::text) AS x;
    config_id := c.id;
    canary := c.canary;
    -- what the record does not say, its place, its words and its customer may
    IF l.region IS NULL AND v_place <> '' THEN
        SELECT x.key INTO l.region FROM jsonb_each(c.body -> 'regions') AS x, jsonb_array_elements_text(x.value) AS v WHERE position(v IN v_place) > 0 ORDER BY length(v) DESC, x.key LIMIT 1;
    END IF;
    IF l.region IS NULL AND l.geo IS NOT NULL THEN
        SELECT x.key INTO l.region FROM jsonb_each(c.body -> 'boxes') AS x
         WHERE CASE WHEN jsonb_array_length(x.value) = 2 THEN l.geo <@ box(point((x.value #>> '{0,0}')::float8, (x.value #>> '{0,1}')::float8), point((x.value #>> '{1,0}')::float8, (x.value #>> '{1,1}')::float8))
                    -- more than two corners are a polygon
                    ELSE l.geo <@ (SELECT string_agg(format('(%s,%s)', p.value ->> 0, p.value ->> 1), ',' ORDER BY p.n) FROM jsonb_array_elements(x.value) WITH ORDINALITY AS p (value, n))::polygon END
         ORDER BY x.key LIMIT 1;
    END IF;
    IF l.industry IS NULL AND v_words <> '' THEN
        SELECT x.key INTO l.industry FROM jsonb_each(c.body -> 'industries') AS x, jsonb_array_elements_text(x.value) AS v WHERE position(lower(v) IN v_words) > 0 ORDER BY length(v) DESC, x.key LIMIT 1;
    END IF;
    r := crm._route(c.body, crm._lead_document(l));
    l.route := r ->> 'route';
    IF canary THEN
        changed := l.route IS DISTINCT FROM (SELECT crm._route(k.body, crm._lead_document(l)) ->> 'route' FROM crm_data.config AS k WHERE k.kind = 'assignment' AND k.key = 'default' AND k.scope = '*' AND k.status = 'active');
    END IF;
    l.route_version := c.version;

    IF r #>> '{to,owner}' = 'account_owner' THEN
        SELECT a.owner_id INTO member FROM crm_data.account AS a JOIN crm_data.member AS m ON m.id = a.owner_id AND (m.left_at IS NULL OR m.left_at > current_date) WHERE a.id = l.account_id AND a.owner_id <> ALL (exclude);
    END IF;
    IF member IS NULL AND r IS NOT NULL THEN
        -- the fewest open tasks for his capacity; what cannot be matched by region or industry is still somebody's.
        -- Of more than four who fit equally well two are drawn by the number of the lead, so that the cost does not grow with the organisation; and who has as
        -- much as he can carry is full, however much more it is. crm._capture_new chooses by the same rules.
        v_sales := crm._members_with('{crm_sales}');
        v_region := CASE WHEN r #> '{to,match}' ? 'region' THEN coalesce((c.body #>> '{weights,region}')::int, 3) ELSE 0 END;
        v_industry := CASE WHEN r #> '{to,match}' ? 'industry' THEN coalesce((c.body #>> '{weights,industry}')::int, 2) ELSE 0 END;
        SELECT f.id INTO member
          FROM (SELECT q.*, count(*) OVER (PARTITION BY q.fit) AS fitting, row_number() OVER (PARTITION BY q.fit ORDER BY q.draw) AS nth FROM (
                SELECT m.id, m.capacity, hashint8extended(m.id, l.id) AS draw, coalesce((l.region = ANY (m.regions))::int * v_region, 0) + coalesce((l.industry = ANY (m.industries))::int * v_industry, 0) AS fit
                  FROM crm_data.member AS m
                 WHERE (m.left_at IS NULL OR m.left_at > current_date) AND m.capacity > 0 AND m.id <> ALL (exclude) AND CASE WHEN v_sales <> '{}' THEN m.id = ANY (v_sales) ELSE m.rank < 5 END) AS q
                 ORDER BY q.fit DESC, q.draw LIMIT 4) AS f
          CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM crm_data.task AS t WHERE t.owner_id = f.id AND t.state = 'open' LIMIT f.capacity) AS t) AS k
         WHERE f.fitting <= 4 OR f.nth <= 2
         ORDER BY f.fit DESC, k.n::float8 / f.capacity, CASE WHEN k.n >= f.capacity THEN f.draw END, f.id
         LIMIT 1;
    END IF;
END
$$;
COMMENT ON FUNCTION crm._route_lead(crm_data.lead, bigint[]) IS 'Internal: a lead with region, industry and route filled in, and the member it goes to by the assignment that decides about it; NULL for nobody. changed: a canary decided, and the version in force takes another route.';

CREATE OR REPLACE FUNCTION crm._lead_routed(l crm_data.lead) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_alert bigint;
BEGIN
    IF l.state = 'unrouted' THEN
        -- the first one is told of at once, the others wait beside it
        INSERT INTO crm_data.alert (kind, level, object, record_id, message, dedupe_key)
        VALUES ('unrouted', 'orange', 'lead', l.id, 'A lead found nobody: it waits in the queue of unrouted leads.', 'unrouted') ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING
        RETURNING id INTO v_alert;
        IF FOUND THEN
            PERFORM crm._notify('lead.unrouted', 'lead_unrouted:' || v_alert, jsonb_build_object('lead', l.id), crm._members_with('{crm_admin}'));
        END IF;
        RETURN;
    END IF;
    -- the clock runs from now, whenever the lead happened: a backlog is not late before anybody had it
    INSERT INTO crm_data.task (kind, object, record_id, account_id, title, mandatory, due_at, escalate_at, priority, dedupe_key, owner_id, team_id)
    VALUES ('first_touch', 'lead', l.id, l.account_id, '首次联系: ' || coalesce(l.company, l.name, l.id::text), true, l.first_touch_due_at, l.first_touch_due_at, 8, format('first_touch:%s:%s', l.id, l.assign_count), l.owner_id, l.team_id);
    PERFORM crm._notify('task.first_touch', format('first_touch:%s:%s', l.id, l.assign_count), jsonb_build_object('lead', l.id, 'company', l.company, 'need', left(l.need, 200), 'due', l.first_touch_due_at), ARRAY[l.owner_id], l.account_id);
END
$$;
COMMENT ON FUNCTION crm._lead_routed(crm_data.lead) IS 'Internal: what follows when a lead has found somebody or nobody: the first-touch task and its message, or the alert.';

CREATE OR REPLACE FUNCTION crm.assign_lead(lead bigint, exclude bigint[] DEFAULT '{}') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    l crm_data.lead;
    r record;
BEGIN
    SELECT * INTO l FROM crm_data.lead AS x WHERE x.id = lead AND x.deleted_at IS NULL AND x.merged_into IS NULL FOR UPDATE;
    IF NOT FOUND OR NOT crm._row_readable('lead', to_jsonb(l)) THEN
        RAISE EXCEPTION 'there is no lead %', lead USING ERRCODE = 'no_data_found', HINT = 'It may have been merged.';
    END IF;
    SELECT * INTO r FROM crm._route_lead(l, coalesce(exclude, '{}'));
    IF r.canary THEN
        PERFORM crm._config_count(r.config_id, (r.l).route IS NULL, r.member IS NOT NULL, r.changed);
    END IF;
    UPDATE crm_data.lead AS x
       SET region = (r.l).region, industry = (r.l).industry, route = (r.l).route, route_version = (r.l).route_version, updated_at = now(),
           state = CASE WHEN r.member IS NULL THEN 'unrouted' WHEN x.state IN ('new', 'unrouted', 'assigned', 'recycled') THEN 'assigned' ELSE x.state END,
           owner_id = coalesce(r.member, x.owner_id), team_id = CASE WHEN r.member IS NULL THEN x.team_id ELSE (SELECT m.team_id FROM crm_data.member AS m WHERE m.id = r.member) END,
           assigned_at = CASE WHEN r.member IS NULL THEN x.assigned_at ELSE now() END, assign_count = x.assign_count + (r.member IS NOT NULL)::int,
           first_touch_due_at = CASE WHEN r.member IS NULL THEN x.first_touch_due_at ELSE now() + make_interval(mins => crm._setting('lead.first_touch', '5')::int) END
     WHERE x.id = lead RETURNING * INTO l;
    PERFORM crm._lead_routed(l);
    RETURN r.member;
END
$$;
COMMENT ON FUNCTION crm.assign_lead(bigint, bigint[]) IS
'Gives a lead to somebody: by the routes of the active assignment (the owner of the same customer, region, industry, load), where the region comes from the place (province or coordinates) and the industry from the words if the lead does not say. Makes the first-touch task, due in lead.first_touch, and the message. Returns the member; NULL if there is nobody: then the lead is unrouted, with an alert.
exclude: not these. Errors: P0002 no such lead, or hidden.';

CREATE OR REPLACE FUNCTION crm.capture_lead(doc jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys text[];
    v_context jsonb;
    v_attrs jsonb;
    v_id bigint;
    v_owner bigint;
    v_phone text;
    v_email text;
    v_company text;
    v_account bigint;
    v_at timestamptz;
    v_done jsonb;
    l crm_data.lead;
    r record;
BEGIN
    -- somebody nobody knows yet, as most are, has a short way
    IF length(doc ->> 'client_key') > 500 OR pg_column_size(doc) > 1000000 THEN
        RAISE EXCEPTION 'a lead has up to a million bytes, its client_key up to 500 characters' USING ERRCODE = 'invalid_parameter_value', HINT = 'Files are attachments; a client key is a number or a digest.';
    END IF;
    IF pg_column_size(doc) < 4000 THEN
        v_done := crm._capture_new(doc);
    END IF;
    IF v_done IS NOT NULL THEN
        RETURN v_done;
    END IF;
    IF jsonb_typeof(doc) <> 'object' THEN
        RAISE EXCEPTION 'a lead is an object' USING ERRCODE = 'invalid_parameter_value', HINT = '{"name": "..", "phone": "..", "source": "web", "context": {}}';
    END IF;
    -- an empty text says nothing
    SELECT coalesce(jsonb_object_agg(e.key, CASE WHEN jsonb_typeof(e.value) = 'string' AND length(e.value #>> '{}') > 4000 THEN to_jsonb(left(e.value #>> '{}', 4000)) ELSE e.value END), '{}') INTO doc
      FROM jsonb_each(doc) AS e WHERE e.value <> 'null' AND e.value <> '""' AND btrim(e.value #>> '{}') <> '';
    v_phone := crm.phone_key(doc ->> 'phone');
    v_email := crm.email_key(doc ->> 'email');
    v_company := crm.company_key(doc ->> 'company');
    IF v_phone IS NULL AND v_email IS NULL AND NOT doc ?| ARRAY['phone', 'email'] THEN
        RAISE EXCEPTION 'a lead needs a telephone number or an e-mail address' USING ERRCODE = 'invalid_parameter_value', HINT = 'Everything else may come later.';
    END IF;
    SELECT x.id, x.owner_id INTO v_id, v_owner FROM crm_data.lead AS x WHERE x.client_key = doc ->> 'client_key';
    IF FOUND THEN
        RETURN jsonb_build_object('lead', v_id, 'owner', v_owner, 'duplicate', true);
    END IF;
    SELECT ARRAY(SELECT jsonb_array_elements_text(c.body -> 'context')) INTO v_keys FROM crm_data.config AS c WHERE c.kind = 'form' AND c.key = 'lead.capture' AND c.scope = '*' AND c.status = 'active';
    SELECT coalesce(jsonb_object_agg(e.key, e.value) FILTER (WHERE e.key = ANY (v_keys)), '{}'), coalesce(jsonb_object_agg(e.key, e.value) FILTER (WHERE e.key <> ALL (v_keys)), '{}') INTO v_context, v_attrs
      FROM jsonb_each(CASE WHEN jsonb_typeof(doc -> 'context') = 'object' THEN doc -> 'context' ELSE '{}' END) AS e;
    -- the same person again within a month is the same lead
    SELECT x.* INTO l FROM crm_data.lead AS x
     WHERE x.state IN ('new', 'unrouted', 'assigned', 'working') AND x.deleted_at IS NULL AND x.merged_into IS NULL AND x.recorded_at > now() - interval '30 days' AND (x.phone_norm = v_phone OR x.email_norm = v_email)
     ORDER BY x.id LIMIT 1 FOR UPDATE;
    IF FOUND THEN
        UPDATE crm_data.lead AS x SET name = coalesce(x.name, doc ->> 'name'), company = coalesce(x.company, doc ->> 'company'), phone = coalesce(x.phone, doc ->> 'phone'), email = coalesce(x.email, doc ->> 'email'),
               need = CASE WHEN x.need IS NULL THEN doc ->> 'need' WHEN doc ->> 'need' IS NULL OR x.need = doc ->> 'need' THEN x.need ELSE left(x.need || E'\n' || (doc ->> 'need'), 4000) END, context = v_context || x.context, updated_at = now() WHERE x.id = l.id;
        RETURN jsonb_build_object('lead', l.id, 'owner', l.owner_id, 'duplicate', true);
    END IF;
    SELECT a.id INTO v_account FROM crm_data.account AS a
     WHERE a.merged_into IS NULL AND a.deleted_at IS NULL AND (a.phone_norm = v_phone OR a.email_norm = v_email OR (v_company IS NOT NULL AND a.name_core = v_company))
     ORDER BY (a.phone_norm IS NOT DISTINCT FROM v_phone) DESC, a.id LIMIT 1;
    -- assigned before it is written, so that it is written once
    l.id := nextval('crm_data.lead_id_seq');
    l.context := v_context;
    l.name := doc ->> 'name';
    l.company := doc ->> 'company';
    l.need := doc ->> 'need';
    l.industry := doc ->> 'industry';
    l.region := doc ->> 'region';
    l.province := doc ->> 'province';
    l.city := doc ->> 'city';
    l.district := doc ->> 'district';
    l.source := coalesce(doc ->> 'source', 'web');
    l.channel := doc ->> 'channel';
    l.title := doc ->> 'title';
    IF v_context ? 'longitude' AND v_context ? 'latitude' THEN
        l.geo := point(crm.parse_number(v_context ->> 'longitude')::float8, crm.parse_number(v_context ->> 'latitude')::float8);
    END IF;
    l.account_id := v_account;
    SELECT * INTO r FROM crm._route_lead(l, '{}');
    v_at := crm.parse_time(doc ->> 'occurred_at', false, crm._setting('organisation.timezone', 'Asia/Shanghai'));
    IF NOT isfinite(v_at) OR v_at > now() + interval '1 day' OR v_at < '1900-01-01' THEN
        v_at := NULL;
    END IF;
    INSERT INTO crm_data.lead (id, source, source_id, channel, campaign_id, context, attrs, client_key, name, company, title, phone, phone_norm, email, email_norm, legal_id4, need, industry, region, province, city, district, geo, account_id,
                               occurred_at, ts_assumed, state, route, route_version, owner_id, team_id, assigned_at, assign_count, first_touch_due_at) OVERRIDING SYSTEM VALUE
    VALUES (l.id, l.source, (SELECT s.id FROM crm_data.source_system AS s WHERE s.name = doc ->> 'source'), l.channel, CASE WHEN doc ? 'campaign' THEN (SELECT k.id FROM crm_data.campaign AS k WHERE k.code = doc ->> 'campaign') END,
            v_context, v_attrs, doc ->> 'client_key', l.name, l.company, l.title, doc ->> 'phone', v_phone, doc ->> 'email', v_email, CASE WHEN doc ->> 'legal_id4' ~ '^[0-9]{3}[0-9Xx]$' THEN doc ->> 'legal_id4' END,
            l.need, (r.l).industry, (r.l).region, l.province, l.city, l.district, l.geo, v_account,
            coalesce(v_at, now()), v_at IS NULL, CASE WHEN r.member IS NULL THEN 'unrouted' ELSE 'assigned' END, (r.l).route, (r.l).route_version,
            r.member, CASE WHEN r.member IS NOT NULL THEN (SELECT m.team_id FROM crm_data.member AS m WHERE m.id = r.member) END, CASE WHEN r.member IS NOT NULL THEN now() END, (r.member IS NOT NULL)::int,
            CASE WHEN r.member IS NOT NULL THEN now() + make_interval(mins => crm._setting('lead.first_touch', '5')::int) END)
    ON CONFLICT (client_key) DO NOTHING
    RETURNING * INTO l;
    IF NOT FOUND THEN
        SELECT x.id, x.owner_id INTO v_id, v_owner FROM crm_data.lead AS x WHERE x.client_key = doc ->> 'client_key';
        RETURN jsonb_build_object('lead', v_id, 'owner', v_owner, 'duplicate', true);
    END IF;
    IF r.canary THEN
        PERFORM crm._config_count(r.config_id, l.route IS NULL, r.member IS NOT NULL, r.changed);
    END IF;
    PERFORM crm._lead_routed(l);
    RETURN jsonb_build_object('lead', l.id, 'owner', l.owner_id, 'account', v_account, 'duplicate', false);
END
$$;
COMMENT ON FUNCTION crm.capture_lead(jsonb) IS
'Takes a lead in and assigns it in the same transaction. The same client_key, telephone number or address again within thirty days is the same lead, completed where it was empty. Returns {lead, owner, account it belongs to, duplicate}.
doc: name, company, title, phone, email, need, industry, region, province, city, district, source, channel, campaign (code), client_key, occurred_at (when it happened; clocks start now), context with the keys that the form lead.capture lists, others are kept in attrs. Empty texts are as if absent, long ones are cut at 4,000 characters.
Errors: 22023 neither a telephone number nor an address, or more than a million bytes.';

CREATE OR REPLACE FUNCTION crm._unrouted_leads(lim int) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a crm_data.alert;
    l crm_data.lead;
    v_waiting bigint;
    v_n bigint := 0;
BEGIN
    -- one clock looks at the queue at a time, and only while there is one
    SELECT * INTO a FROM crm_data.alert AS x WHERE x.dedupe_key = 'unrouted' AND x.state <> 'closed' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- as soon as somebody can take the oldest he and the others do
    FOR l IN SELECT x.* FROM crm_data.lead AS x WHERE x.state = 'unrouted' AND x.deleted_at IS NULL AND x.merged_into IS NULL ORDER BY x.id LIMIT lim FOR UPDATE SKIP LOCKED LOOP
        EXIT WHEN (SELECT r.member IS NULL FROM crm._route_lead(l, '{}') AS r);
        PERFORM crm.assign_lead(l.id);
        v_n := v_n + 1;
    END LOOP;
    SELECT count(*) INTO v_waiting FROM crm_data.lead AS x WHERE x.state = 'unrouted' AND x.deleted_at IS NULL AND x.merged_into IS NULL;
    IF v_waiting = 0 THEN
        UPDATE crm_data.alert AS x SET state = 'closed', closed_at = now(), updated_at = now(), updated_by = 'tick' WHERE x.id = a.id;
    ELSIF a.level = 'orange' AND a.created_at < now() - make_interval(mins => crm._setting('lead.first_touch', '5')::int) THEN
        -- nobody has helped for as long as a first touch may take
        UPDATE crm_data.alert AS x SET level = 'red', value = v_waiting, message = format('%s leads wait in the queue of unrouted leads, longer than a first touch may take.', v_waiting), updated_at = now(), updated_by = 'tick' WHERE x.id = a.id;
        PERFORM crm._notify('lead.unrouted', 'lead_unrouted_late:' || a.id, jsonb_build_object('leads', v_waiting), crm._members_with('{crm_admin,crm_director}'));
    END IF;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._unrouted_leads(int) IS 'Internal: gives leads that found nobody to somebody as soon as one can take them; while they wait longer than lead.first_touch the alert is red and administrators and directors hear of it; it is closed with the last of them. Returns how many found somebody.';

CREATE OR REPLACE FUNCTION crm._first_touch_breaches(lim int) RETURNS int
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    v_n int := 0;
BEGIN
    FOR t IN SELECT k.id, k.record_id, k.owner_id, k.account_id, crm._manager_of(k.owner_id) AS manager_id, l.deleted_at IS NULL AND l.merged_into IS NULL AND l.state NOT IN ('converted', 'disqualified') AS waits FROM crm_data.task AS k JOIN crm_data.lead AS l ON l.id = k.record_id
              WHERE k.kind = 'first_touch' AND k.object = 'lead' AND k.state = 'open' AND k.escalated_at IS NULL AND k.escalate_at < now() AND l.first_touch_at IS NULL
              ORDER BY k.escalate_at LIMIT lim FOR UPDATE OF k SKIP LOCKED LOOP
        UPDATE crm_data.task AS k SET state = 'cancelled', done_at = now(), escalated_at = now(), notified_at = coalesce(k.notified_at, now()), escalations = k.escalations + t.waits::int, updated_at = now() WHERE k.id = t.id;
        -- nobody waits who is gone, merged or done with
        CONTINUE WHEN NOT t.waits;
        INSERT INTO crm_data.alert (kind, level, object, record_id, account_id, message, owner_id, dedupe_key)
        VALUES ('first_touch', 'orange', 'lead', t.record_id, t.account_id, 'A new lead was not spoken to in time; it goes to somebody else.', t.owner_id, 'first_touch:' || t.id) ON CONFLICT (dedupe_key) WHERE state <> 'closed' DO NOTHING;
        PERFORM crm._notify('task.first_touch', 'first_touch_breach:' || t.id, jsonb_build_object('lead', t.record_id, 'missed_by', t.owner_id), array_remove(ARRAY[t.manager_id], NULL), t.account_id);
        PERFORM crm.assign_lead(t.record_id, array_remove(ARRAY[t.owner_id], NULL));
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._first_touch_breaches(int) IS 'Internal: leads whose first touch is overdue: the manager hears of it and somebody else gets the lead. Returns how many.';

-- ---------------------------------------------------------------- what to say

CREATE OR REPLACE FUNCTION crm.scripts(object text, id bigint) RETURNS TABLE (script text, words text, won_share numeric, cases bigint)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_row jsonb;
    v_account crm_data.account;
    v_industry text;
    v_locale text := coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'zh');
    d jsonb;
    c record;
    n record;
    p record;
BEGIN
    IF object = 'lead' THEN
        SELECT to_jsonb(l) INTO v_row FROM crm_data.lead AS l WHERE l.id = id AND l.deleted_at IS NULL;
    ELSIF object = 'opportunity' THEN
        SELECT to_jsonb(o) INTO v_row FROM crm_data.opportunity AS o WHERE o.id = id AND o.deleted_at IS NULL;
    ELSE
        RAISE EXCEPTION 'there are words for leads and opportunities, not for %', object USING ERRCODE = 'invalid_parameter_value', HINT = 'crm.scripts(''lead'', id).';
    END IF;
    IF v_row IS NULL OR NOT crm._row_readable(object, v_row) THEN
        RAISE EXCEPTION 'there is no such % that you may see', object USING ERRCODE = 'no_data_found', HINT = 'Look it up in its view.';
    END IF;
    SELECT * INTO v_account FROM crm_data.account AS a WHERE a.id = (v_row ->> 'account_id')::bigint;
    v_industry := coalesce(v_row ->> 'industry', v_account.industry);
    -- how it went with the latest 500 of that trade, and one of them to tell of, among those whose customer the caller sees
    SELECT count(*) AS n, avg((x.outcome = 'won')::int) AS won, (array_agg(x.name ORDER BY x.closed_at DESC, x.id) FILTER (WHERE x.outcome = 'won' AND x.told))[1] AS told, mode() WITHIN GROUP (ORDER BY x.product_line) FILTER (WHERE x.outcome = 'won') AS product INTO n
      FROM (SELECT o.id, o.outcome, o.closed_at, o.product_line, a.name, a.id IS DISTINCT FROM v_account.id AND crm.row_visible('account', 'read', a.owner_id, a.team_id, a.grade) AS told
              FROM crm_data.opportunity AS o JOIN crm_data.account AS a ON a.id = o.account_id AND a.industry = v_industry WHERE o.outcome IN ('won', 'lost') AND o.deleted_at IS NULL ORDER BY o.closed_at DESC, o.id LIMIT 500) AS x;
    d := v_row || jsonb_strip_nulls(jsonb_build_object(
        'industry', (SELECT x.value ->> v_locale FROM crm_data.config AS k, jsonb_array_elements(k.body -> 'values') AS x WHERE k.kind = 'picklist' AND k.key = 'industry' AND k.scope = '*' AND k.status = 'active' AND x.value ->> 'key' = v_industry),
        'competitor', coalesce(v_row ->> 'competitor', v_row #>> '{attrs,competitor}', v_row #>> '{context,competitor}'), 'product', coalesce(v_row ->> 'product_line', v_row #>> '{attrs,product}', n.product),
        'need', left(coalesce(v_row ->> 'need', v_row #>> '{attrs,forms,key_need,need}'), 60), 'similar_case', n.told));
    FOR c IN SELECT k.key, coalesce(k.body ->> v_locale, k.body ->> 'en') AS words FROM crm_data.config AS k
              WHERE k.kind = 'script' AND k.scope = '*' AND k.status = 'active' AND jsonb_path_exists(jsonb_strip_nulls(d), coalesce(k.body ->> 'when', '$')::jsonpath, '{}', true)
              ORDER BY coalesce(k.body ->> 'when', '$') = '$', k.key LIMIT crm._setting('scripts.count', '3')::int LOOP
        script := c.key;
        words := c.words;
        -- what is not known is said in general
        FOR p IN SELECT v.name, v.en, v.zh FROM (VALUES ('product', 'our product', '我们的产品'), ('industry', 'your field', '贵'), ('need', 'their most urgent need', '最紧迫的需求'), ('competitor', 'others', '其他厂商'), ('similar_case', 'a customer like you', '同类客户')) AS v (name, en, zh) LOOP
            words := replace(words, '{' || p.name || '}', coalesce(d ->> p.name, CASE v_locale WHEN 'zh' THEN p.zh ELSE p.en END));
        END LOOP;
        won_share := round(n.won, 2);
        cases := n.n;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm.scripts(text, bigint) IS
'What one may open a conversation with, at most scripts.count (3): the texts of kind script whose condition the lead or deal meets, the special ones first (a comparison where a competitor is named, a reference where the caller sees a customer of the same trade who bought), filled in; beside them how many of the latest closed deals of that trade were won.
object: lead or opportunity. Errors: 22023 another object; P0002 no such record within the caller''s view.';

CREATE OR REPLACE FUNCTION crm.recommend_content(account bigint, k int DEFAULT 3) RETURNS TABLE (touchpoint text, label text, customers bigint, won_share numeric, usual_share numeric)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    a crm_data.account;
BEGIN
    SELECT * INTO a FROM crm_data.account AS x WHERE x.id = account AND x.deleted_at IS NULL AND x.merged_into IS NULL;
    IF NOT FOUND OR NOT crm._row_readable('account', to_jsonb(a)) THEN
        RAISE EXCEPTION 'there is no such customer that you may see' USING ERRCODE = 'no_data_found', HINT = 'Look it up in the view crm.account.';
    END IF;
    IF k NOT BETWEEN 1 AND 20 THEN
        RAISE EXCEPTION 'one to twenty touchpoints, not %', k USING ERRCODE = 'invalid_parameter_value', HINT = 'crm.recommend_content(account, 3).';
    END IF;
    RETURN QUERY
    WITH point AS (
        SELECT x.value ->> 'key' AS key, coalesce(x.value ->> l.locale, x.value ->> 'en', x.value ->> 'zh', x.value ->> 'key') AS label
          FROM crm_data.config AS c CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'touchpoints') AS x CROSS JOIN (SELECT coalesce((SELECT m.locale FROM crm_data.member AS m WHERE m.id = crm.me()), 'en') AS locale) AS l
         WHERE c.kind = 'attribution' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active'
    ), peer AS MATERIALIZED (      -- customers of the same trade and kind whose deals have ended: when the first was won
        SELECT o.account_id AS id, min(o.closed_at) FILTER (WHERE o.outcome = 'won') AS won_at FROM crm_data.opportunity AS o JOIN crm_data.account AS x ON x.id = o.account_id
         WHERE x.industry = a.industry AND x.type = a.type AND x.id <> a.id AND o.outcome IN ('won', 'lost') AND o.deleted_at IS NULL GROUP BY o.account_id
    ), reached AS (
        SELECT DISTINCT e.account_id AS id, e.kind FROM crm_data.event AS e JOIN peer AS p ON p.id = e.account_id JOIN point AS t ON t.key = e.kind WHERE e.occurred_at < coalesce(p.won_at, 'infinity')
        UNION SELECT i.account_id, i.kind FROM crm_data.interaction AS i JOIN peer AS p ON p.id = i.account_id JOIN point AS t ON t.key = i.kind WHERE i.occurred_at < coalesce(p.won_at, 'infinity') AND i.retracted_at IS NULL
    ), usual AS (SELECT count(*) AS n, count(p.won_at)::numeric / nullif(count(*), 0) AS share FROM peer AS p)
    SELECT t.key, t.label, r.n, round(r.won::numeric / r.n, 2), round(u.share, 2)
      FROM usual AS u CROSS JOIN point AS t JOIN (SELECT x.kind, count(*) AS n, count(p.won_at) AS won FROM reached AS x JOIN peer AS p ON p.id = x.id GROUP BY x.kind) AS r ON r.kind = t.key
     WHERE NOT EXISTS (SELECT FROM crm_data.event AS e WHERE e.account_id = a.id AND e.kind = t.key) AND NOT EXISTS (SELECT FROM crm_data.interaction AS i WHERE i.account_id = a.id AND i.kind = t.key AND i.retracted_at IS NULL)
     -- a share of few is drawn to the usual one, as if five more had done as all do
     ORDER BY (r.won + 5 * u.share) / (r.n + 5) DESC, t.key COLLATE "C" LIMIT k;
END
$$;
COMMENT ON FUNCTION crm.recommend_content(bigint, int) IS
'What to offer a customer next: touchpoints of the attribution (whitepaper, webinar, demo ..) that it had none of yet, ranked by how many customers of the same trade and kind who had it bought (won_share of customers), against all of them (usual_share); small numbers are drawn to the usual share. No row: nobody like it, or it had everything.
k: 1 to 20. Errors: P0002 no such customer within the caller''s view; 22023 another k.';
