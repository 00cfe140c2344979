-- Watchdog over the sources, in 2004, so that nothing else of the tests is about.
\set VERBOSITY terse
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
-- four Wednesdays with 20 payloads of the web in the ten minutes before noon, 14 of the telephone and 6 of the app; but one Wednesday was a holiday. Other days do not count.
INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, state, created_at)
SELECT s.id, format('watchdog %s %s', d, i), 'x', '{}', sha256('x'), 'applied', '2004-03-10 11:55'::timestamptz - make_interval(days => d) + make_interval(secs => i)
  FROM (VALUES (1), (7), (14), (28)) AS e (d), (VALUES ('web', 20), ('telephony', 14), ('app', 6)) AS v (name, n) JOIN crm_data.source_system AS s ON s.name = v.name, LATERAL generate_series(1, v.n) AS i;
-- today the web sends 6 (70 % are missing), the telephone 5 (64 %), the app nothing
INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, state, created_at)
SELECT s.id, 'watchdog today ' || i, 'x', '{}', sha256('x'), 'applied', '2004-03-10 11:55'::timestamptz + make_interval(secs => i)
  FROM (VALUES ('web', 6), ('telephony', 5)) AS v (name, n) JOIN crm_data.source_system AS s ON s.name = v.name, LATERAL generate_series(1, v.n) AS i;
SELECT source, span, usual, found, silent FROM crm._source_volume('2004-03-10 12:00') WHERE usual > 0 ORDER BY source, span;
-- the alert comes once, and is closed when the source sends again
SELECT crm._job_source_watchdog('2004-03-10 12:00') AS new;
SELECT crm._job_source_watchdog('2004-03-10 12:00') AS new;
SELECT level, message, state FROM crm_data.alert WHERE kind = 'source_silent' ORDER BY message;
INSERT INTO crm_data.inbox (source_id, external_id, kind, payload, digest, state, created_at)
SELECT s.id, 'watchdog again', 'x', '{}', sha256('x'), 'applied', '2004-03-10 11:59' FROM crm_data.source_system AS s WHERE s.name = 'web';
SELECT crm._job_source_watchdog('2004-03-10 12:00') AS new;
SELECT state, closed_at FROM crm_data.alert WHERE kind = 'source_silent' ORDER BY message;
-- on another day of the week, at another time of day, and in a source's first week nothing is usual
SELECT count(*) FILTER (WHERE silent) AS silent FROM crm._source_volume('2004-03-11 12:00');
SELECT count(*) FILTER (WHERE silent) AS silent FROM crm._source_volume('2004-02-15 12:00');
SELECT count(*) FILTER (WHERE silent) AS silent FROM crm._source_volume('2004-03-10 18:00');
DELETE FROM crm_data.inbox WHERE external_id LIKE 'watchdog %';
DELETE FROM crm_data.alert WHERE kind = 'source_silent';
-- the nightly scan for duplicates runs where there is nothing to learn from, and where nothing has changed
SELECT crm._job_dedup_scan(now() + interval '2 days') AS found;
