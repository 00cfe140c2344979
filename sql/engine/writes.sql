CREATE FUNCTION crm._row_readable(object text, image jsonb) RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_row_readable';
COMMENT ON FUNCTION crm._row_readable(text, jsonb) IS
'May the person (not the definer) read this record? image: the record as JSON; NULL: one that is gone, which only those who read all may see. Not STRICT because of that.';

CREATE FUNCTION crm._shown(field int, image jsonb, value jsonb) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'crm_shown';
COMMENT ON FUNCTION crm._shown(int, jsonb, jsonb) IS
'A value of a field as the person (not the definer) may see it: itself, masked, or NULL. field: its number, NULL for a column that is not registered, which nobody but the engine sees; image: the record it belongs to, as JSON. Not STRICT: these may be NULL.';
