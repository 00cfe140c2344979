#!/usr/bin/env bash
# 500 random merges of the customers, contacts and leads of a demonstration company, then all their undos: once in reverse, once in
# random order, where an undo that names a later merge gives way to it. After each, every row of every table is what it was, but for
# row_version, field_version, updated_*, the hash of the history and the tables merge_*, change, access_log and match_link.
# MERGES: how many, default 500.
set -eu
db=crm_merge_property
psql -Xq -d postgres -c "DROP DATABASE IF EXISTS $db" -c "CREATE DATABASE $db TEMPLATE template0 ENCODING 'UTF8'" 2> /dev/null
trap 'psql -Xq -d postgres -c "DROP DATABASE $db WITH (FORCE)"' EXIT
psql -Xq -v ON_ERROR_STOP=1 -d "$db" -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION crm' -c 'CALL crm.migrate()' -c "SELECT count(*) FROM crm.demo_data(150, 11)" > /dev/null
psql -XAtq -v ON_ERROR_STOP=1 -v merges="${MERGES:-500}" -d "$db" <<'SQL'
SET client_min_messages = warning;
CREATE FUNCTION public.everything() RETURNS TABLE (tab text, rows bigint, digest text) LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT c.oid::regclass AS name, c.relname FROM pg_class AS c
              WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                AND c.relname NOT IN ('merge_op', 'merge_move', 'change', 'access_log', 'match_link')
              ORDER BY c.relname LOOP
        RETURN QUERY EXECUTE format('SELECT %L::text, count(*), md5(coalesce(string_agg(x.v, '','' ORDER BY x.v COLLATE "C"), ''''))
            FROM (SELECT (to_jsonb(t) - ''{row_version,field_version,last_hash,last_at,updated_at,updated_by}''::text[])::text AS v FROM %s AS t) AS x', t.relname, t.name);
    END LOOP;
END
$$;
CREATE TABLE public.ops (run int, n int, op bigint);
CREATE FUNCTION public.merge_at_random(run int, merges int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    live bigint[];
    object text;
    n int := 0;
    tries int := 0;
BEGIN
    WHILE n < merges LOOP
        tries := tries + 1;
        object := CASE WHEN tries % 10 < 5 THEN 'account' WHEN tries % 10 < 9 THEN 'contact' ELSE 'lead' END;
        EXECUTE format('SELECT array_agg(x.id) FROM (SELECT t.id FROM crm_data.%I AS t WHERE t.merged_into IS NULL AND t.deleted_at IS NULL ORDER BY md5(t.id::text || $1 || $2) LIMIT 2 + $1 %% 3) AS x', object)
            INTO live USING tries, run;
        IF coalesce(cardinality(live), 0) < 2 AND object = 'account' THEN
            -- When few are left, the last ones are undone, and it goes on.
            PERFORM crm.unmerge(o.id) FROM (SELECT m.id FROM crm_data.merge_op AS m WHERE m.state = 'done' ORDER BY m.id DESC LIMIT 40) AS o;
        ELSIF cardinality(live) >= 2 THEN
            n := n + 1;
            INSERT INTO public.ops SELECT run, n, crm.merge(object, live[1], live[2:]);
        END IF;
    END LOOP;
END
$$;
-- rows of which two cannot stand beside each other
INSERT INTO crm_data.campaign (code, name) VALUES ('mp', 'Merge property');
INSERT INTO crm_data.campaign_member (campaign_id, account_id) SELECT k.id, a.id FROM crm_data.campaign AS k, crm_data.account AS a WHERE k.code = 'mp' AND a.id % 3 > 0;
INSERT INTO crm_data.campaign_member (campaign_id, contact_id) SELECT k.id, c.id FROM crm_data.campaign AS k, crm_data.contact AS c WHERE k.code = 'mp' AND c.id % 3 > 0;
INSERT INTO crm_data.opportunity_contact (opportunity_id, contact_id, account_id) SELECT o.id, c.id, o.account_id FROM crm_data.opportunity AS o JOIN crm_data.contact AS c ON c.account_id = o.account_id AND c.id % 2 = 0 ON CONFLICT DO NOTHING;
INSERT INTO crm_data.duplicate_pair (object_a, a_id, object_b, b_id, band, score)
SELECT 'account', a.id, 'account', b.id, 'suggest', 0.9 FROM crm_data.account AS a JOIN crm_data.account AS b ON b.id > a.id AND (a.id * 7 + b.id) % 11 = 0 ON CONFLICT DO NOTHING;
CREATE TEMP TABLE start_ AS SELECT * FROM public.everything();

SELECT public.merge_at_random(1, :merges);
SELECT format('# %s merges (%s undone on the way), %s rows moved, %s put aside, in %s tables', (SELECT count(*) FROM public.ops), (SELECT count(*) FROM crm_data.merge_op WHERE state = 'undone'),
              count(*) FILTER (WHERE action = 'moved'), count(*) FILTER (WHERE action = 'stashed'), count(DISTINCT tab)) FROM crm_data.merge_move;
SELECT count(*) = 0 AS same FROM (SELECT * FROM public.everything() EXCEPT SELECT * FROM start_) AS x \gset
\if :same
\echo not ok - the merges changed something
\endif
SELECT coalesce(sum(jsonb_array_length(crm.unmerge(o.id)->'conflicts')), 0) AS conflicts FROM (SELECT m.id FROM crm_data.merge_op AS m WHERE m.state = 'done' ORDER BY m.id DESC) AS o \gset
SELECT coalesce(string_agg(x.tab, ', ' ORDER BY x.tab), 'nothing') AS differ FROM (SELECT * FROM public.everything() EXCEPT SELECT * FROM start_) AS x \gset
SELECT format('%s - undone in reverse: %s conflicts, different: %s', CASE WHEN :conflicts = 0 AND 'nothing' = :'differ' THEN 'ok' ELSE 'not ok' END, :conflicts, :'differ');

SELECT public.merge_at_random(2, :merges);
CREATE FUNCTION public.unmerge_at_random(OUT conflicts int, OUT refused int) LANGUAGE plpgsql AS $$
DECLARE
    op bigint;
    later text;
BEGIN
    conflicts := 0;
    refused := 0;
    LOOP
        SELECT m.id INTO op FROM crm_data.merge_op AS m WHERE m.state = 'done' ORDER BY md5(m.id::text) LIMIT 1;
        EXIT WHEN op IS NULL;
        LOOP
            BEGIN
                conflicts := conflicts + jsonb_array_length(crm.unmerge(op)->'conflicts');
                EXIT;
            EXCEPTION WHEN SQLSTATE 'RM303' THEN
                GET STACKED DIAGNOSTICS later = MESSAGE_TEXT;
                refused := refused + 1;
                op := substring(later FROM '^merge ([0-9]+) ')::bigint;
            END;
        END LOOP;
    END LOOP;
END
$$;
SELECT conflicts, refused FROM public.unmerge_at_random() \gset
SELECT coalesce(string_agg(x.tab, ', ' ORDER BY x.tab), 'nothing') AS differ FROM (SELECT * FROM public.everything() EXCEPT SELECT * FROM start_) AS x \gset
SELECT format('%s - undone in random order: %s refused because of a later merge, %s conflicts, different: %s', CASE WHEN :conflicts = 0 AND :refused > 0 AND 'nothing' = :'differ' THEN 'ok' ELSE 'not ok' END,
              :refused, :conflicts, :'differ');
SQL
