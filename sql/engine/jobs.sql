-- Jobs: the three procedures that a scheduler calls. They commit as they go, so they have neither SET nor SECURITY DEFINER.

CREATE PROCEDURE crm.tick()
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_tick';
COMMENT ON PROCEDURE crm.tick() IS
'The short clock, to be called every minute or more often: overdue tasks are announced and escalated, first touches that were missed go to somebody else, expired locks and approvals fall, writes that waited for a lease are applied, the queue of closed cases moves on, relays are woken. Each piece is bounded and a transaction of its own; calling it twice at once is harmless.';

CREATE PROCEDURE crm.run_jobs()
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_run_jobs';
COMMENT ON PROCEDURE crm.run_jobs() IS
'Runs the jobs that are due (rows of job), to be called every minute: each due time once, missed ones caught up in order as the job says, a failure noted and tried again later. Each run is a transaction of its own; any number of sessions may call it at once.';

CREATE PROCEDURE crm.maintenance()
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_maintenance';
COMMENT ON PROCEDURE crm.maintenance() IS
'The nightly work on storage: monthly partitions made ahead, finished messages, payloads and runs purged in batches as the settings keep.* say; and what pg_cron noted of these entries more than a week ago.';
