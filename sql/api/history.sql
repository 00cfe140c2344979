-- History: triggers of the protected tables, reading it, verifying it, going back, and the months that hold it.

-- The registry says which columns the engine keeps; everything else of a versioned table is versioned.
CREATE OR REPLACE FUNCTION crm._protected_tables() RETURNS TABLE (object text, relid regclass, engine_columns text[], versioned_columns text[])
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN QUERY
    SELECT c.relname::text, c.oid::regclass,
           coalesce(array_agg(a.attname::text ORDER BY a.attname) FILTER (WHERE f.write_class = 'engine' AND a.attname <> ALL (b.names)), '{}'),
           coalesce(array_agg(a.attname::text ORDER BY a.attname) FILTER (WHERE f.write_class IS DISTINCT FROM 'engine' AND a.attgenerated = '' AND a.attname <> ALL (b.names)), '{}')
      FROM pg_class AS c
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      CROSS JOIN (VALUES (ARRAY['id', 'row_version', 'field_version', 'last_hash', 'last_at', 'updated_at', 'updated_by'])) AS b (names)
      LEFT JOIN crm_data.field AS f ON f.object = c.relname AND f.name = a.attname AND NOT f.custom
     WHERE c.relnamespace = 'crm_data'::regnamespace AND c.relkind = 'r'
       AND EXISTS (SELECT FROM pg_attribute AS v WHERE v.attrelid = c.oid AND v.attname = 'row_version' AND NOT v.attisdropped)
       AND EXISTS (SELECT FROM pg_attribute AS v WHERE v.attrelid = c.oid AND v.attname = 'id' AND v.atttypid IN ('int8'::regtype, 'int4'::regtype))
     GROUP BY c.oid, c.relname
     ORDER BY c.relname;
END
$function$;
COMMENT ON FUNCTION crm._protected_tables() IS
'Tables whose records have versions and a history, with the columns that the engine keeps (no version, no history) and those that are versioned.';

-- Facts: rows that never change. What is listed may: copies that the engine keeps, and what is filled in once.
CREATE OR REPLACE FUNCTION crm._fact_tables() RETURNS TABLE (object text, relid regclass, engine_columns text[])
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN QUERY
    SELECT c.relname::text, c.oid::regclass, v.columns
      FROM (VALUES ('stage_history', '{owner_id,team_id,grade,left_at}'::text[]), ('receivable_entry', '{owner_id,team_id,grade}'),
                   ('forecast', '{owner_id,team_id,grade}'), ('event', '{owner_id,team_id,grade}'), ('report_snapshot', '{}'),
                   ('change', '{}'), ('history_root', '{}'), ('history_month', '{}'), ('access_log', '{}')) AS v (name, columns)
      JOIN pg_class AS c ON c.relnamespace = 'crm_data'::regnamespace AND c.relname = v.name
     ORDER BY c.relname;
END
$function$;
COMMENT ON FUNCTION crm._fact_tables() IS
'Tables whose rows are facts and never change, with the columns that may: copies that the engine keeps, and what is filled in once.';

CREATE OR REPLACE FUNCTION crm._attach_history() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $function$
DECLARE
    t record;
    part regclass;
    args text;
BEGIN
    FOR t IN SELECT p.object, p.relid, p.engine_columns FROM crm._protected_tables() AS p LOOP
        SELECT string_agg(quote_literal(x.arg), ', ' ORDER BY x.n) INTO args
          FROM unnest(t.object || t.engine_columns) WITH ORDINALITY AS x (arg, n);
        EXECUTE format('DROP TRIGGER IF EXISTS zzz_crm_version ON %s', t.relid);
        EXECUTE format('DROP TRIGGER IF EXISTS crm_history ON %s', t.relid);
        EXECUTE format('DROP TRIGGER IF EXISTS crm_history_insert ON %s', t.relid);
        EXECUTE format('DROP TRIGGER IF EXISTS crm_history_truncate ON %s', t.relid);
        EXECUTE format('CREATE TRIGGER zzz_crm_version BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION crm._version_row(%s)', t.relid, args);
        EXECUTE format('CREATE TRIGGER crm_history AFTER UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION crm._record_change(%s)', t.relid, args);
        EXECUTE format('CREATE TRIGGER crm_history_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION crm._record_change(%s)', t.relid, args);
        EXECUTE format('CREATE TRIGGER crm_history_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION crm._record_change(%s)', t.relid, args);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zzz_crm_version, ENABLE ALWAYS TRIGGER crm_history, ENABLE ALWAYS TRIGGER crm_history_insert, ENABLE ALWAYS TRIGGER crm_history_truncate', t.relid);
        EXECUTE format('COMMENT ON TRIGGER zzz_crm_version ON %s IS %L', t.relid, 'Makes the next version of a record; fires last.');
        EXECUTE format('COMMENT ON TRIGGER crm_history ON %s IS %L', t.relid, 'Writes the history of updates and deletes.');
        EXECUTE format('COMMENT ON TRIGGER crm_history_insert ON %s IS %L', t.relid, 'Writes the history of inserts.');
        EXECUTE format('COMMENT ON TRIGGER crm_history_truncate ON %s IS %L', t.relid, 'Refuses TRUNCATE.');
    END LOOP;

    FOR t IN SELECT p.object, p.relid, p.engine_columns FROM crm._fact_tables() AS p LOOP
        SELECT string_agg(quote_literal(x.arg), ', ' ORDER BY x.n) INTO args
          FROM unnest(t.object || t.engine_columns) WITH ORDINALITY AS x (arg, n);
        EXECUTE format('DROP TRIGGER IF EXISTS zzz_crm_fact ON %s', t.relid);
        EXECUTE format('CREATE TRIGGER zzz_crm_fact BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION crm._append_only(%s)', t.relid, args);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zzz_crm_fact', t.relid);
        EXECUTE format('COMMENT ON TRIGGER zzz_crm_fact ON %s IS %L', t.relid, 'Facts never change.');
        -- a statement trigger does not pass on to partitions
        FOR part IN SELECT t.relid UNION ALL SELECT i.inhrelid::regclass FROM pg_inherits AS i WHERE i.inhparent = t.relid LOOP
            PERFORM crm._refuse_truncate(part, t.object);
        END LOOP;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION crm._attach_history() IS
'Gives every protected table and every table of facts its triggers, anew; run by each migrate.';

CREATE OR REPLACE FUNCTION crm._refuse_truncate(tab regclass, object text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $function$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS crm_fact_truncate ON %s', tab);
    EXECUTE format('CREATE TRIGGER crm_fact_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION crm._append_only(%L)', tab, object);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER crm_fact_truncate', tab);
    EXECUTE format('COMMENT ON TRIGGER crm_fact_truncate ON %s IS %L', tab, 'Refuses TRUNCATE.');
END
$function$;
COMMENT ON FUNCTION crm._refuse_truncate(regclass, text) IS
'Gives a table of facts, or a partition of one, the trigger that refuses TRUNCATE.';

SELECT crm._attach_history();

-- ---------------------------------------------------------------- months

CREATE OR REPLACE FUNCTION crm._make_months(parent regclass, upto date) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $function$
DECLARE
    base text;
    first_day date;
    month date;
    name text;
    made int := 0;
    moved bigint;
BEGIN
    SELECT c.relname INTO base FROM pg_class AS c WHERE c.oid = parent;
    -- months are cut at midnight UTC, whatever the session's time zone: two sessions must not disagree about the bounds
    EXECUTE format('SELECT date_trunc(''month'', least(min(at), now()) AT TIME ZONE ''UTC'')::date FROM crm_data.%I', base || '_default') INTO first_day;
    month := coalesce(first_day, date_trunc('month', now() AT TIME ZONE 'UTC')::date);
    -- nobody writes between the moving of the rows that came too early and the attaching of their month, and nobody else makes it
    IF EXISTS (SELECT FROM generate_series(month::timestamp, upto, interval '1 month') AS m (month) WHERE to_regclass(format('crm_data.%I', base || '_' || to_char(m.month, 'YYYY_MM'))) IS NULL) THEN
        EXECUTE format('LOCK TABLE crm_data.%I IN ACCESS EXCLUSIVE MODE', base || '_default');
        EXECUTE format('SELECT date_trunc(''month'', least(min(at), now()) AT TIME ZONE ''UTC'')::date FROM crm_data.%I', base || '_default') INTO month;
    END IF;
    WHILE month <= upto LOOP
        name := base || '_' || to_char(month, 'YYYY_MM');
        IF to_regclass(format('crm_data.%I', name)) IS NULL THEN
            EXECUTE format('CREATE TABLE crm_data.%I (LIKE crm_data.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)', name, base);
            EXECUTE format('COMMENT ON TABLE crm_data.%I IS %L', name, format('Rows of %s in %s, by UTC.', base, to_char(month, 'YYYY-MM')));
            IF base = 'change' THEN
                EXECUTE format('ALTER TABLE crm_data.%I REPLICA IDENTITY FULL', name);
            END IF;
            -- rows that came before their month was made
            PERFORM crm._engine_write('erase');
            EXECUTE format('WITH gone AS (DELETE FROM crm_data.%I WHERE at >= %L AND at < %L RETURNING *) INSERT INTO crm_data.%I SELECT * FROM gone',
                           base || '_default', month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC', name);
            GET DIAGNOSTICS moved = ROW_COUNT;
            PERFORM crm._engine_write('none');
            EXECUTE format('ALTER TABLE crm_data.%I ATTACH PARTITION crm_data.%I FOR VALUES FROM (%L) TO (%L)',
                           base, name, month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            PERFORM crm._refuse_truncate(format('crm_data.%I', name)::regclass, base);
            PERFORM crm._secure_table(format('crm_data.%I', name)::regclass);
            made := made + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END
$function$;
COMMENT ON FUNCTION crm._make_months(regclass, date) IS
'Makes the monthly partitions of change or event from the oldest row of the default partition, or this month, to the month of a date, moves waiting rows into them and gives each its row security and triggers. Answers how many were made.';

CREATE OR REPLACE FUNCTION crm._heads_digest() RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT sha256(coalesce(string_agg(b.digest, '' ORDER BY b.object COLLATE "C", b.bucket), ''))
      FROM (SELECT h.object, h.record_id / 100000 AS bucket,
                   sha256(string_agg(convert_to(concat_ws(':', h.object, h.record_id, h.version, h.op, extract(epoch FROM h.at), ''), 'UTF8') || coalesce(h.hash, ''), '' ORDER BY h.record_id)) AS digest
              FROM crm_data.history_head AS h GROUP BY h.object, h.record_id / 100000) AS b;
END;
COMMENT ON FUNCTION crm._heads_digest() IS
'SHA-256 over all heads of retired months, in order of object and record.';

CREATE OR REPLACE FUNCTION crm._retire_month(part regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    name text := (SELECT c.relname FROM pg_class AS c WHERE c.oid = part);
    n bigint;
BEGIN
    -- where each record's history goes on: nobody may say later that it began there
    EXECUTE format($query$
        INSERT INTO crm_data.history_head AS o (record_id, at, version, object, op, hash)
        SELECT DISTINCT ON (h.record_id, h.object) h.record_id, h.at, h.version, h.object, h.op, h.hash FROM %s AS h
         ORDER BY h.record_id, h.object, h.version DESC
        ON CONFLICT (record_id, object) DO UPDATE SET at = excluded.at, version = excluded.version, op = excluded.op, hash = excluded.hash
         WHERE excluded.version > o.version$query$, part);
    EXECUTE format('SELECT count(*) FROM %s', part) INTO n;
    EXECUTE format('ALTER TABLE crm_data.change DETACH PARTITION %s', part);
    -- between two roots: the next one covers it
    LOCK TABLE crm_data.history_root IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO crm_data.history_month (name, upto, changes, digest, created_at)
    VALUES (name, (to_date(right(name, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC', n, crm._heads_digest(), clock_timestamp());
END
$function$;
COMMENT ON FUNCTION crm._retire_month(regclass) IS
'Takes a month out of the history, with a head for each record in it, so that crm.verify_history still finds a change that is missing after it. part: its table, which stays.';

CREATE OR REPLACE FUNCTION crm._maintain_history(months_ahead int DEFAULT 3) RETURNS int
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    m record;
BEGIN
    -- an old month leaves the table and stays beside it, for the operator to archive or drop
    FOR m IN SELECT p.relname AS parent, c.oid::regclass AS part
               FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_class AS p ON p.oid = i.inhparent
              WHERE i.inhparent IN ('crm_data.change'::regclass, 'crm_data.event'::regclass) AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
                AND to_date(right(c.relname, 7), 'YYYY_MM') < (now() AT TIME ZONE 'UTC')::date
                    - make_interval(months => crm._setting('keep.' || p.relname, CASE p.relname WHEN 'event' THEN '25' ELSE '120' END)::int + 1)
              ORDER BY c.relname LOOP
        IF m.parent = 'change' THEN
            PERFORM crm._retire_month(m.part);
        ELSE
            EXECUTE format('ALTER TABLE crm_data.%I DETACH PARTITION %s', m.parent, m.part);
        END IF;
    END LOOP;
    RETURN crm._make_months('crm_data.change', ((now() AT TIME ZONE 'UTC') + make_interval(months => months_ahead))::date)
         + crm._make_months('crm_data.event', ((now() AT TIME ZONE 'UTC') + make_interval(months => months_ahead))::date);
END
$function$;
COMMENT ON FUNCTION crm._maintain_history(int) IS
'The history''s part of crm.maintenance: makes the months ahead of change and event, and detaches those older than the settings keep.change and keep.event; their tables stay for the operator. months_ahead: 0 and up. Answers how many partitions were made.';

-- ---------------------------------------------------------------- reading

CREATE OR REPLACE FUNCTION crm._protected_table(object text) RETURNS regclass
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    tab regclass;
BEGIN
    SELECT p.relid INTO tab FROM crm._protected_tables() AS p WHERE p.object = _protected_table.object;
    IF tab IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no object "%s" with a history', object),
            HINT = 'Use the name of its view, for example account, contact or opportunity.';
    END IF;
    RETURN tab;
END
$function$;
COMMENT ON FUNCTION crm._protected_table(text) IS
'Table of a business object that has a history.
Errors: 42704 there is none of that name.';

CREATE OR REPLACE FUNCTION crm._image(object text, id bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    image jsonb;
BEGIN
    EXECUTE format('SELECT to_jsonb(t) FROM %s AS t WHERE t.id = $1', crm._protected_table(object)) INTO image USING id;
    RETURN image;
END
$function$;
COMMENT ON FUNCTION crm._image(text, bigint) IS
'A record as it is now, all columns; NULL when there is none.';

CREATE OR REPLACE FUNCTION crm._image_at(object text, id bigint, version int) RETURNS jsonb
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    tab regclass := crm._protected_table(object);
    versioned text[];
    image jsonb;
    start int;
    c record;
BEGIN
    SELECT p.versioned_columns INTO versioned FROM crm._protected_tables() AS p WHERE p.object = _image_at.object;
    SELECT max(h.version) INTO start FROM crm_data.change AS h
     WHERE h.object = _image_at.object AND h.record_id = _image_at.id AND h.op = 'i' AND h.version <= _image_at.version;
    IF start IS NOT NULL THEN
        -- forwards from the insert, which has all values
        FOR c IN SELECT h.op, h.fields FROM crm_data.change AS h
                  WHERE h.object = _image_at.object AND h.record_id = _image_at.id AND h.version BETWEEN start AND _image_at.version ORDER BY h.version LOOP
            IF c.op = 'd' THEN
                image := NULL;
            ELSE
                image := coalesce(image, '{}') || (SELECT coalesce(jsonb_object_agg(e.key, e.value -> 1), '{}') FROM jsonb_each(c.fields::jsonb) AS e);
            END IF;
        END LOOP;
    ELSE
        -- its months are retired: backwards from what is there
        image := crm._image(object, id);
        FOR c IN SELECT h.op, h.fields FROM crm_data.change AS h
                  WHERE h.object = _image_at.object AND h.record_id = _image_at.id AND h.version > _image_at.version ORDER BY h.version DESC LOOP
            IF c.op = 'i' THEN
                image := NULL;
            ELSE
                image := coalesce(image, '{}') || (SELECT coalesce(jsonb_object_agg(e.key, e.value -> 0), '{}') FROM jsonb_each(c.fields::jsonb) AS e);
            END IF;
        END LOOP;
    END IF;
    IF image IS NULL THEN
        RETURN NULL;
    END IF;
    -- in the forms of this session, and without what has no history
    EXECUTE format('SELECT to_jsonb(jsonb_populate_record(NULL::%s, $1))', tab) INTO image USING image || jsonb_build_object('id', id);
    RETURN (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(image) AS e WHERE e.key = 'id' OR e.key = ANY (versioned));
END
$function$;
COMMENT ON FUNCTION crm._image_at(text, bigint, int) IS
'The versioned columns of a record at a version, folded from its history; NULL when it did not exist then. Where the month of its insert is retired, from what is there now, backwards.';

CREATE OR REPLACE FUNCTION crm._version_at(object text, id bigint, at timestamptz) RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT max(h.version) FROM crm_data.change AS h WHERE h.object = _version_at.object AND h.record_id = _version_at.id AND h.at <= _version_at.at;
END;
COMMENT ON FUNCTION crm._version_at(text, bigint, timestamptz) IS
'Version that a record had at a time; NULL when it has no history by then.';

CREATE OR REPLACE FUNCTION crm._op_name(op "char") RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE op WHEN 'i' THEN 'insert' WHEN 'u' THEN 'update' ELSE 'delete' END;
END;
COMMENT ON FUNCTION crm._op_name("char") IS
'What change.op stands for.';

CREATE OR REPLACE FUNCTION crm.history(object text, id bigint)
    RETURNS TABLE (at timestamptz, actor text, endpoint text, op text, field text, old jsonb, new jsonb, change_id text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    tab regclass := crm._protected_table(object);
    image jsonb := crm._image(object, id);
BEGIN
    IF NOT crm._row_readable(object, image) THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT h.at, h.actor, coalesce(h.endpoint, 'sql'), crm._op_name(h.op), f.key, crm._shown(d.id, image, f.value -> 0), crm._shown(d.id, image, f.value -> 1), concat_ws('/', h.object, h.record_id, h.version)
      FROM crm_data.change AS h
      LEFT JOIN LATERAL jsonb_each(h.fields::jsonb) AS f ON true
      LEFT JOIN crm_data.field AS d ON d.object = h.object AND d.name = f.key AND NOT d.custom
     WHERE h.object = history.object AND h.record_id = history.id
     ORDER BY h.version, f.key COLLATE "C";
END
$function$;
COMMENT ON FUNCTION crm.history(text, bigint) IS
'Every change of a record, one row a field: when, who, through which endpoint, what it was and what it became, in order.
object: name of its view; id: the record. Values are shown, masked or NULL as the field itself is for the caller; no rows when the record is not the caller''s to see or does not exist. For one instant see crm.as_of, for a customer and all its records crm.account_trail.
Errors: 42704 no such object.';

CREATE OR REPLACE FUNCTION crm.account_trail(account bigint, since timestamptz DEFAULT '-infinity')
    RETURNS TABLE (at timestamptz, actor text, endpoint text, object text, id bigint, op text, field text, old jsonb, new jsonb, change_id text)
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    r record;
    image jsonb;
BEGIN
    IF NOT crm._row_readable('account', crm._image('account', account)) THEN
        RETURN;
    END IF;
    FOR r IN
        WITH RECURSIVE merged (account_id) AS (
            SELECT account_trail.account
            UNION
            SELECT a.id FROM crm_data.account AS a JOIN merged AS m ON a.merged_into = m.account_id
        )
        SELECT h.object, h.record_id
          FROM crm_data.change AS h
         WHERE h.at >= account_trail.since AND h.account_id IN (SELECT m.account_id FROM merged AS m) AND h.object <> 'account'
         GROUP BY h.object, h.record_id
        UNION ALL
        SELECT 'account', m.account_id FROM merged AS m
        ORDER BY 1, 2
    LOOP
        image := crm._image(r.object, r.record_id);
        CONTINUE WHEN NOT crm._row_readable(r.object, image);
        RETURN QUERY
        SELECT h.at, h.actor, coalesce(h.endpoint, 'sql'), h.object, h.record_id, crm._op_name(h.op), f.key, crm._shown(d.id, image, f.value -> 0), crm._shown(d.id, image, f.value -> 1), concat_ws('/', h.object, h.record_id, h.version)
          FROM crm_data.change AS h
          LEFT JOIN LATERAL jsonb_each(h.fields::jsonb) AS f ON true
          LEFT JOIN crm_data.field AS d ON d.object = h.object AND d.name = f.key AND NOT d.custom
         WHERE h.object = r.object AND h.record_id = r.record_id AND h.at >= account_trail.since
         ORDER BY h.version, f.key COLLATE "C";
    END LOOP;
END
$function$;
COMMENT ON FUNCTION crm.account_trail(bigint, timestamptz) IS
'Every change of a customer and of all records under it (contacts, opportunities, follow-ups, contracts and so on), customers merged into it included, by record and version.
account: the customer; since: from when. Values are shown, masked or NULL as for the caller; records that are not the caller''s to see are left out.';

CREATE OR REPLACE FUNCTION crm.as_of(object text, id bigint, at timestamptz) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    tab regclass := crm._protected_table(object);
    now_image jsonb := crm._image(object, id);
    version int := crm._version_at(object, id, at);
    image jsonb;
BEGIN
    IF version IS NULL OR NOT crm._row_readable(object, now_image) THEN
        RETURN NULL;
    END IF;
    image := crm._image_at(object, id, version);
    RETURN (SELECT jsonb_object_agg(e.key, crm._shown(d.id, now_image, e.value)) || jsonb_build_object('row_version', version)
              FROM jsonb_each(image) AS e LEFT JOIN crm_data.field AS d ON d.object = as_of.object AND d.name = e.key AND NOT d.custom);
END
$function$;
COMMENT ON FUNCTION crm.as_of(text, bigint, timestamptz) IS
'A record as it was at a time: its versioned columns and its row_version. Columns that the engine keeps (scores, leases) have no history and are left out.
NULL when it did not exist then, or is not the caller''s to see; values are masked as the fields are now.
Errors: 42704 no such object.';

-- ---------------------------------------------------------------- verifying

CREATE OR REPLACE FUNCTION crm.verify_history(from_at timestamptz DEFAULT '-infinity', to_at timestamptz DEFAULT 'infinity')
    RETURNS TABLE (object text, record_id bigint, version int, change_id text, problem text)
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    t record;
    changed text[];
BEGIN
    -- rows of the period: their own hash, and the link to the row before
    BEGIN
        RETURN QUERY
        WITH c AS (
            SELECT h.*, lag(h.version) OVER w AS before_version, lag(h.hash) OVER w AS before_hash
              FROM crm_data.change AS h
             WHERE h.at >= from_at AND h.at < to_at
            WINDOW w AS (PARTITION BY h.object, h.record_id ORDER BY h.version, h.at, h.hash)
        ), linked AS (
            SELECT c.*, coalesce(c.before_version, p.version, o.version, 0) AS prior_version, coalesce(c.before_hash, p.hash, o.hash) AS prior_hash
              FROM c
              LEFT JOIN LATERAL (SELECT h.version, h.hash FROM crm_data.change AS h
                                  WHERE c.before_version IS NULL AND h.object = c.object AND h.record_id = c.record_id AND h.at < from_at
                                  ORDER BY h.version DESC LIMIT 1) AS p ON true
              -- the months before are retired
              LEFT JOIN crm_data.history_head AS o ON c.before_version IS NULL AND p.version IS NULL AND o.object = c.object AND o.record_id = c.record_id AND o.version < c.version
        )
        SELECT l.object, l.record_id, l.version, concat_ws('/', l.object, l.record_id, l.version),
               CASE WHEN l.version = l.prior_version THEN 'inserted: a second row of this version'
                    WHEN l.version <> l.prior_version + 1 THEN format('missing: version %s is followed by %s', l.prior_version, l.version)
                    ELSE 'changed: it, or the row before, is not what its hash was made of' END
          FROM linked AS l
         WHERE l.version <> l.prior_version + 1
            OR (l.hash IS NOT NULL AND l.hash IS DISTINCT FROM
                crm._change_hash(l.prior_hash, l.object, l.record_id, l.account_id, l.version, l.op, l.at, l.actor, l.session_name, l.endpoint,
                                 l.client_version, l.op_seq, l.note, l.fields, l.salt, l.value_hash))
         ORDER BY l.object, l.record_id, l.version, l.at, l.hash;
    EXCEPTION WHEN data_exception THEN
        -- values that are no JSON: those first, one by one, and the rest when they are mended
        FOR t IN SELECT h.object, h.record_id, h.version, h.fields FROM crm_data.change AS h WHERE h.at >= from_at AND h.at < to_at ORDER BY h.object, h.record_id, h.version, h.at, h.hash LOOP
            BEGIN
                PERFORM t.fields::jsonb;
            EXCEPTION WHEN data_exception THEN
                RETURN QUERY SELECT t.object, t.record_id, t.version, concat_ws('/', t.object, t.record_id, t.version), 'changed: its values are no JSON'::text;
            END;
        END LOOP;
    END;

    changed := ARRAY(SELECT DISTINCT h.object FROM crm_data.change AS h WHERE h.at >= from_at AND h.at < to_at UNION SELECT DISTINCT o.object FROM crm_data.history_head AS o WHERE o.at >= from_at AND o.at < to_at);
    -- records whose last change lies in the period: they end the chain
    FOR t IN SELECT p.object, p.relid FROM crm._protected_tables() AS p LOOP
        RETURN QUERY EXECUTE format($query$
            SELECT %L::text, r.id::bigint, r.row_version, concat_ws('/', %1$L, r.id, h.version),
                   CASE WHEN h.version IS NULL THEN 'missing: the record has no history'
                        WHEN h.version < r.row_version THEN format('missing: version %%s of the record has no row', h.version + 1)
                        WHEN h.version > r.row_version THEN 'changed: the history is ahead of the record'
                        ELSE 'changed: the record does not end its chain' END
              FROM %s AS r
              LEFT JOIN LATERAL (SELECT c.version, c.hash FROM crm_data.change AS c WHERE c.object = %1$L AND c.record_id = r.id
                                  UNION ALL
                                 SELECT o.version, o.hash FROM crm_data.history_head AS o WHERE o.object = %1$L AND o.record_id = r.id
                                  ORDER BY 1 DESC LIMIT 1) AS h ON true
             WHERE r.last_at >= $1 AND r.last_at < $2
               AND (h.version IS DISTINCT FROM r.row_version OR h.hash IS DISTINCT FROM r.last_hash)
             ORDER BY r.id$query$, t.object, t.relid) USING from_at, to_at;
        -- of what changed in the period: records that are gone, and for those their last change
        CONTINUE WHEN t.object <> ALL (changed);
        RETURN QUERY EXECUTE format($query$
            SELECT %L::text, h.record_id, h.version, concat_ws('/', %1$L, h.record_id, h.version), 'lost: the record is gone without a delete'
              FROM (SELECT DISTINCT ON (c.record_id) c.record_id, c.version, c.op
                      FROM (SELECT x.record_id, x.version, x.op FROM crm_data.change AS x WHERE x.object = %1$L AND x.at >= $1 AND x.at < $2
                             UNION ALL
                            SELECT o.record_id, o.version, o.op FROM crm_data.history_head AS o WHERE o.object = %1$L AND o.at >= $1 AND o.at < $2) AS c
                     WHERE NOT EXISTS (SELECT FROM %2$s AS r WHERE r.id = c.record_id)
                     ORDER BY c.record_id, c.version DESC) AS h
             WHERE h.op <> 'd'
               AND NOT EXISTS (SELECT FROM crm_data.change AS y WHERE y.object = %1$L AND y.record_id = h.record_id AND y.version > h.version)
               AND NOT EXISTS (SELECT FROM crm_data.history_head AS y WHERE y.object = %1$L AND y.record_id = h.record_id AND y.version > h.version)
             ORDER BY h.record_id$query$, t.object, t.relid) USING from_at, to_at;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION crm.verify_history(timestamptz, timestamptz) IS
'Recomputes the digest chain of all changes of a period and answers what does not fit: a changed, missing or inserted row of the history, a record changed or removed behind its back. No rows: nothing was found.
from_at, to_at: half-open period of change.at. A record whose first months are retired begins at its last change in them, which was kept.';

-- ---------------------------------------------------------------- daily roots

CREATE OR REPLACE FUNCTION crm._root_of(prev bytea, from_at timestamptz, from_xid xid8, upto timestamptz, watermark xid8, OUT changes bigint, OUT root bytea)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_custom_plan
    SET enable_seqscan = on
AS $function$
BEGIN
    -- every root but the first reads its own changes, not all there are: by the index of time and transaction, also before that has figures
    IF from_xid IS NOT NULL THEN
        PERFORM set_config('enable_seqscan', 'off', true);
    END IF;
    -- by hundred thousand records, then over those: no digest is taken over more than a hundred megabytes
    SELECT coalesce(sum(b.n), 0), sha256(coalesce(prev, '')
               || coalesce((SELECT string_agg(m.digest, '' ORDER BY m.id) FROM crm_data.history_month AS m
                             WHERE m.created_at <= _root_of.upto AND (from_at IS NULL OR m.created_at > from_at)), '')
               || coalesce(string_agg(b.digest, '' ORDER BY b.object COLLATE "C", b.bucket), ''))
      INTO changes, root
      FROM (SELECT h.object, h.record_id / 100000 AS bucket, count(*) AS n,
                   sha256(string_agg(convert_to(h.object || ':' || h.record_id || ':' || h.version || ':', 'UTF8') || coalesce(h.hash, ''), '' ORDER BY h.record_id, h.version, h.hash)) AS digest
              FROM crm_data.change AS h
             WHERE h.at <= _root_of.upto AND h.xid < watermark
               -- not before the root before: later, or by a transaction that was not over then (in the words of the index)
               AND (from_xid IS NULL OR h.at > from_at OR h.xid::text::bigint >= from_xid::text::bigint)
             GROUP BY h.object, h.record_id / 100000) AS b;
END
$function$;
COMMENT ON FUNCTION crm._root_of(bytea, timestamptz, xid8, timestamptz, xid8) IS
'Count and digest of the changes that belong to a root: those up to its time and below its watermark that belong to none before. prev: the root before; from_at, from_xid: its time and watermark, NULL for the first root; therefore not STRICT.';

CREATE OR REPLACE FUNCTION crm._job_history_root(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    last crm_data.history_root;
    mark xid8 := pg_snapshot_xmin(pg_current_snapshot());
    upto timestamptz := clock_timestamp();
    n bigint;
    digest bytea;
BEGIN
    LOCK TABLE crm_data.history_root IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM crm_data.history_root AS r WHERE r.due_at = due) THEN
        RETURN 0;
    END IF;
    SELECT * INTO last FROM crm_data.history_root AS r ORDER BY r.id DESC LIMIT 1;
    SELECT x.changes, x.root INTO n, digest FROM crm._root_of(last.root, last.upto, last.watermark, upto, mark) AS x;
    INSERT INTO crm_data.history_root (due_at, upto, watermark, changes, prev_root, root) VALUES (due, upto, mark, n, last.root, digest);
    INSERT INTO crm_data.outbox (topic, channel, payload, dedupe_key)
    VALUES ('history.root', 'email', jsonb_build_object('due', due, 'changes', n, 'root', encode(digest, 'hex'), 'previous', encode(last.root, 'hex')),
            'history.root:' || extract(epoch FROM due));
    RETURN n;
END
$function$;
COMMENT ON FUNCTION crm._job_history_root(timestamptz) IS
'Job: chains the daily root over all changes since the last one, keeps it and sends it out; once a due time. Answers how many changes it covers.';

CREATE OR REPLACE FUNCTION crm.history_root() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT encode(r.root, 'hex') FROM crm_data.history_root AS r ORDER BY r.id DESC LIMIT 1
$function$;
COMMENT ON FUNCTION crm.history_root() IS
'The last daily root of the history, hexadecimal, for report footers; NULL before the first. Whoever has it on paper can prove later that nothing before it was rewritten: crm.verify_roots computes it again.';

CREATE OR REPLACE FUNCTION crm.verify_roots() RETURNS TABLE (due_at timestamptz, problem text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    r crm_data.history_root;
    before crm_data.history_root;
    retired timestamptz := (SELECT max(m.upto) FROM crm_data.history_month AS m);
    x record;
BEGIN
    FOR r IN SELECT * FROM crm_data.history_root AS h ORDER BY h.id LOOP
        IF r.prev_root IS DISTINCT FROM before.root THEN
            due_at := r.due_at;
            problem := 'it does not follow from the root before';
            RETURN NEXT;
        -- what a root covered is computed again as long as none of it is retired
        ELSIF retired IS NULL OR before.upto >= retired THEN
            SELECT * INTO x FROM crm._root_of(r.prev_root, before.upto, before.watermark, r.upto, r.watermark);
            IF x.root <> r.root THEN
                due_at := r.due_at;
                problem := format('the history is not what it was: %s changes then, %s now', r.changes, x.changes);
                RETURN NEXT;
            END IF;
        END IF;
        before := r;
    END LOOP;
    IF (SELECT m.digest FROM crm_data.history_month AS m ORDER BY m.id DESC LIMIT 1) <> crm._heads_digest() THEN
        due_at := retired;
        problem := 'the heads of the retired months are not what they were';
        RETURN NEXT;
    END IF;
END
$function$;
COMMENT ON FUNCTION crm.verify_roots() IS
'Computes every daily root again and answers those that no longer hold: part of the history was rewritten, with its chain, since. Of roots over retired months only their order is checked. Compare the roots themselves with those that left the database.';

CREATE OR REPLACE FUNCTION crm._job_verify_history(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    n bigint;
BEGIN
    SELECT (SELECT count(*) FROM crm.verify_history(due - interval '2 days', 'infinity')) + (SELECT count(*) FROM crm.verify_roots()) INTO n;
    IF n > 0 THEN
        INSERT INTO crm_data.alert (kind, level, message, value, dedupe_key)
        VALUES ('security', 'red', 'The history does not verify: part of it was changed behind its back. See crm.verify_history and crm.verify_roots.', n, 'verify_history')
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN n;
END
$function$;
COMMENT ON FUNCTION crm._job_verify_history(timestamptz) IS
'Job: verifies the chains of the last two days and all roots, and raises a red alert when something does not fit. Answers how many problems there are.';

-- ---------------------------------------------------------------- the state behind the history

CREATE OR REPLACE FUNCTION crm.integrity_check() RETURNS TABLE (check_name text, object text, problems bigint, sample text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    -- the forms of values in the history
    SET timezone = 'UTC'
    SET datestyle = 'ISO, YMD'
    SET intervalstyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
AS $function$
DECLARE
    t record;
BEGIN
    RETURN QUERY
    SELECT 'history', v.object, count(*), min(format('%s %s version %s: %s', v.object, v.record_id, v.version, v.problem)) FROM crm.verify_history() AS v GROUP BY v.object ORDER BY v.object;
    RETURN QUERY
    SELECT 'roots', NULL::text, count(*), min(v.problem) FROM crm.verify_roots() AS v HAVING count(*) > 0;

    -- what the record says is what its history says
    FOR t IN SELECT p.object, p.relid, p.versioned_columns FROM crm._protected_tables() AS p LOOP
        RETURN QUERY EXECUTE format($query$
            SELECT 'state', %L::text, count(*), min(format('%%s %%s: %%s', %1$L, x.record_id, x.field))
              FROM (SELECT DISTINCT ON (h.record_id, e.key) h.record_id, e.key AS field, e.value -> 1 AS value
                      FROM crm_data.change AS h, jsonb_each(h.fields::jsonb) AS e
                     WHERE h.object = %1$L AND h.value_hash IS NULL ORDER BY h.record_id, e.key, h.version DESC) AS x
              JOIN %2$s AS r ON r.id = x.record_id
             WHERE x.field = ANY ($1) AND x.value IS DISTINCT FROM coalesce(to_jsonb(r) -> x.field, 'null')
               AND NOT (jsonb_typeof(x.value) = 'string' AND (to_jsonb(r) ->> x.field) IS NOT NULL AND x.value #>> '{}' = to_jsonb(r) ->> x.field)
            HAVING count(*) > 0$query$, t.object, t.relid) USING t.versioned_columns;
        RETURN QUERY EXECUTE format($query$
            SELECT 'triggers', %L::text, 4 - count(*), 'a trigger of the history is missing or not ENABLE ALWAYS: run CALL crm.migrate()'
              FROM pg_trigger AS g WHERE g.tgrelid = $1 AND g.tgenabled = 'A'
               AND g.tgname IN ('zzz_crm_version', 'crm_history', 'crm_history_insert', 'crm_history_truncate')
            HAVING count(*) < 4$query$, t.object) USING t.relid;
    END LOOP;

    -- every operation has its number, under its lock
    RETURN QUERY
    SELECT 'operations', o.root_object, count(*), min(format('%s %s has %s operations and the last is number %s', o.root_object, o.root_id, o.n, o.last))
      FROM (SELECT p.root_object, p.root_id, count(*) AS n, max(p.op_seq) AS last FROM crm_data.operation AS p GROUP BY p.root_object, p.root_id) AS o
     WHERE o.n <> o.last GROUP BY o.root_object ORDER BY o.root_object;
END
$function$;
COMMENT ON FUNCTION crm.integrity_check() IS
'Compares the records with their history and answers what does not fit, one row a kind of problem and object with a sample: history (crm.verify_history over all time), roots, state (a value in a record that its last change did not give it), triggers, operations (a number missing). No rows: nothing was found. Reads everything: for the night.';
