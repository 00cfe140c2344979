-- Jobs: due times, planning, catching up, each due time once, failures, the clock.
\set VERBOSITY terse
SET client_min_messages = notice;
SET timezone = 'Asia/Shanghai';
SET datestyle = 'ISO';

-- no enabled job is without its function
SELECT j.name FROM crm_data.job AS j WHERE j.enabled AND to_regprocedure(format('crm.%I(timestamptz)', j.procedure)) IS NULL ORDER BY j.name;
SELECT j.name FROM crm_data.job AS j WHERE NOT j.enabled ORDER BY j.name;
-- due times: local days and weeks, offsets beyond the start, daylight saving, time zones of half an hour
SELECT * FROM crm.job_due('week', '10 hours', 'Asia/Shanghai', '2026-11-01', '2026-11-21');
SELECT * FROM crm.job_due('month', '14 days 8 hours', 'Asia/Shanghai', '2026-09-01', '2026-11-21');
SELECT * FROM crm.job_due('month', '0', 'Asia/Shanghai', '2026-10-15', '2026-12-01');
SELECT * FROM crm.job_due('quarter', '9 hours', 'Asia/Shanghai', '2026-01-01', '2026-12-31');
SELECT * FROM crm.job_due('hour', '5 minutes', 'Asia/Kolkata', '2026-11-01 00:00+00', '2026-11-01 02:00+00');
SELECT d AT TIME ZONE 'America/New_York' AS local FROM crm.job_due('day', '2 hours 30 minutes', 'America/New_York', '2026-03-07 12:00+00', '2026-03-10 12:00+00') AS d;
SELECT * FROM crm.job_due('day', '0', 'Asia/Shanghai', '2026-11-01', '2026-11-01');
SELECT crm.job_due('fortnight', '0', 'Asia/Shanghai', now(), now());
SELECT crm.job_put('bottleneck_brief', 'week', '10 hours', 'latest', 'Asia/Atlantis');
SELECT crm.job_put('no such job', 'week', '10 hours');
SELECT crm.job_put('bottleneck_brief', 'week', '10 hours', 'sometimes');

-- only the jobs of this test
CREATE TEMP TABLE was AS SELECT id FROM crm_data.job WHERE enabled;
UPDATE crm_data.job SET enabled = false;
INSERT INTO crm_data.job (name, cadence, offset_, procedure, catch_up, starts_at, max_attempts) VALUES
    ('test all', 'day', '8 hours', '_job_test_ok', 'all', '2026-11-01', 3),
    ('test latest', 'day', '8 hours', '_job_test_ok', 'latest', '2026-11-01', 3),
    ('test skip', 'day', '8 hours', '_job_test_ok', 'skip', '2026-11-01', 3),
    ('test minute', 'minute', '0', '_job_test_ok', 'skip', '2026-11-01', 3);
CREATE TABLE test_runs (due timestamptz);
GRANT ALL ON test_runs TO crm_owner;
CREATE FUNCTION crm._job_test_ok(due timestamptz) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'INSERT INTO public.test_runs VALUES (due); SELECT 1::bigint';
CREATE FUNCTION crm._job_test_fail(due timestamptz) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'BEGIN INSERT INTO public.test_runs VALUES (due); RAISE EXCEPTION ''no luck''; END';
GRANT EXECUTE ON FUNCTION crm._job_test_ok(timestamptz), crm._job_test_fail(timestamptz) TO crm_owner;
-- planned twice is planned once; after a pause each job catches up in its own way
SELECT crm._plan_jobs('2026-11-02 07:59') AS new_runs;
SELECT crm._plan_jobs('2026-11-02 07:59') AS new_runs;
DELETE FROM crm_data.job_run WHERE job_id IN (SELECT id FROM crm_data.job WHERE name = 'test minute');
UPDATE crm_data.job SET enabled = false WHERE name = 'test minute';
SELECT crm._plan_jobs('2026-11-04 07:00') AS new_runs;
SELECT crm._plan_jobs('2026-11-06 09:00') AS new_runs;
SELECT j.name, r.due_at FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name LIKE 'test %' ORDER BY 1, 2;
UPDATE crm_data.job SET starts_at = now() + interval '1 year', enabled = false WHERE name LIKE 'test %' AND name <> 'test all';
-- all of them run, in order, and again none
UPDATE crm_data.job SET catch_up = 'skip', cadence = 'quarter' WHERE name = 'test all';
CALL crm.run_jobs();
CALL crm.run_jobs();
SELECT * FROM test_runs ORDER BY ctid;
-- a failure leaves nothing behind, is tried again later, three times, and then raises an alert
UPDATE crm_data.job SET procedure = '_job_test_fail' WHERE name = 'test all';
INSERT INTO crm_data.job_run (job_id, due_at) SELECT id, '2026-11-07 08:00+08' FROM crm_data.job WHERE name = 'test all';
CALL crm.run_jobs();
CALL crm.run_jobs();
UPDATE crm_data.job_run SET next_at = now() WHERE state = 'failed';
CALL crm.run_jobs();
UPDATE crm_data.job_run SET next_at = now() WHERE state = 'failed';
CALL crm.run_jobs();
UPDATE crm_data.job_run SET next_at = now() WHERE state = 'failed';
CALL crm.run_jobs();
SELECT r.state, r.attempts, r.error FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.name = 'test all' AND r.due_at = '2026-11-07 08:00+08';
SELECT level, message, state FROM crm_data.alert WHERE kind = 'job_failed';
SELECT count(*) FROM test_runs;
-- what is no job function is never called
UPDATE crm_data.job SET procedure = 'doctor' WHERE name = 'test all';
INSERT INTO crm_data.job_run (job_id, due_at) SELECT id, '2026-11-08 08:00+08' FROM crm_data.job WHERE name = 'test all';
CALL crm.run_jobs();
-- the clock works without pg_cron, inside a transaction block too
BEGIN;
CALL crm.tick();
CALL crm.run_jobs();
COMMIT;
SET client_min_messages = warning;
CALL crm.maintenance();
SELECT count(*) > 0 AS months_ahead FROM pg_inherits WHERE inhparent = 'crm_data.change'::regclass;
DO $$ BEGIN IF to_regclass('cron.job') IS NULL THEN PERFORM crm.schedule(); RAISE 'should have failed'; END IF; EXCEPTION WHEN feature_not_supported THEN NULL; END $$;
-- overdue tasks are announced once
INSERT INTO crm_data.member (full_name) VALUES ('Job Boss');
INSERT INTO crm_data.member (full_name, manager_id) SELECT 'Job Rep', id FROM crm_data.member WHERE full_name = 'Job Boss';
INSERT INTO crm_data.task (kind, object, record_id, title, due_at, owner_id) SELECT 'todo', 'opportunity', 1, 'Send the quote', now() - interval '1 hour', id FROM crm_data.member WHERE full_name = 'Job Rep';
CALL crm.tick();
CALL crm.tick();
SELECT o.topic, o.channel, m.full_name, o.payload ->> 'title' AS title FROM crm_data.outbox AS o JOIN crm_data.member AS m ON m.id = o.recipient_id WHERE o.topic = 'task.overdue' AND m.full_name LIKE 'Job %' ORDER BY 3;
SELECT name, last_state FROM crm.job_list() WHERE name = 'test all';
-- leave as found
UPDATE crm_data.task SET state = 'cancelled', done_at = now() WHERE title = 'Send the quote' AND kind = 'todo';
DELETE FROM crm_data.job_run WHERE job_id IN (SELECT id FROM crm_data.job WHERE name LIKE 'test %');
DELETE FROM crm_data.job WHERE name LIKE 'test %';
UPDATE crm_data.job SET enabled = true WHERE id IN (SELECT id FROM was);
DELETE FROM crm_data.alert WHERE kind = 'job_failed';
DROP FUNCTION crm._job_test_ok(timestamptz), crm._job_test_fail(timestamptz);
DROP TABLE test_runs;
