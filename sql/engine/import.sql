-- Import: reading delimited text, dates and numbers as people and spreadsheets write them; the procedures that work in chunks.

CREATE FUNCTION crm.csv_fields(line text, delimiter text DEFAULT ',') RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_csv_fields';
COMMENT ON FUNCTION crm.csv_fields(text, text) IS
'The fields of one record of delimited text (RFC 4180), without quotes and without blanks at their ends; an empty field is NULL.
line: the record, which may hold line ends between quotes. delimiter: one ASCII character. Errors: 22P04 a quote is not closed or text follows one; 22023 no delimiter.';

CREATE FUNCTION crm.parse_number(value text) RETURNS numeric
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_parse_number';
COMMENT ON FUNCTION crm.parse_number(text) IS
'The number that a text stands for, or NULL if it is none or could be two: thousands separators, decimal comma, currency signs, brackets for negative amounts, full-width digits, exponents and the Chinese units for ten thousand and a hundred million are understood. Raises nothing.';

CREATE FUNCTION crm.parse_date(value text, day_first boolean DEFAULT false) RETURNS date
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_parse_date';
COMMENT ON FUNCTION crm.parse_date(text, boolean) IS
'The date that a text stands for, or NULL: ISO 8601, year first with slashes, points or Chinese words, eight digits, month/day/year, day.month.year, English month names; the year has four digits. A time behind it is ignored.
day_first: read 3/4/2017 as the third of April. Raises nothing.';

CREATE FUNCTION crm.parse_time(value text, day_first boolean DEFAULT false, tz text DEFAULT 'Asia/Shanghai') RETURNS timestamptz
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_parse_time';
COMMENT ON FUNCTION crm.parse_time(text, boolean, text) IS
'The instant that a text stands for, or NULL: a date as crm.parse_date reads it, with or without a time, with or without Z or an offset.
tz: time zone of a text without one. Errors: 22023 unknown time zone.';

CREATE FUNCTION crm.label_key(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_label_key';
COMMENT ON FUNCTION crm.label_key(text) IS
'What two spellings of one label share: the letters and digits of the folded text (crm.fold), so that "GTX Pro", "gtxpro" and "GTX-Pro" are one. NULL if there is none. Raises nothing.';

CREATE FUNCTION crm._import_records(batch bigint, delimiter text, columns int,
                                    OUT line_no bigint, OUT lines int, OUT fields text[], OUT raw text, OUT problem text)
    RETURNS SETOF record
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 10000
    AS 'MODULE_PATHNAME', 'crm_import_records';
COMMENT ON FUNCTION crm._import_records(bigint, text, int) IS
'Internal: the staged lines of an import cut into records, with the number of the first line of each; for a bad record the text and what is wrong with it. columns: how many fields a record must have, 0 for any.';

CREATE PROCEDURE crm.import_apply(batch bigint, chunk int DEFAULT 10000, order_by_value boolean DEFAULT true)
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_import_apply';
COMMENT ON PROCEDURE crm.import_apply(bigint, int, boolean) IS
'Applies a validated import in chunks, each committed on its own, so that an interrupted run goes on where it stopped; inside a transaction block everything is that transaction. Reports each chunk as a NOTICE.
chunk: rows a transaction, 1 to 100000. order_by_value: rows of the highest value first, else in the order of the file.
Errors: RM510 not validated, or undone; RM511 the distribution of a field has shifted and nobody has confirmed it (crm.import_confirm); 55P03 another session applies it.';

CREATE PROCEDURE crm.import_undo(batch bigint, chunk int DEFAULT 10000)
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'crm_import_undo';
COMMENT ON PROCEDURE crm.import_undo(bigint, int) IS
'Takes an applied import back in chunks, last row first: what it inserted goes, what it changed gets its old values. Records and fields that were edited since are kept and reported in the batch. Reports each chunk as a NOTICE.
Errors: RM510 nothing applied; 55P03 another session works on it.';
