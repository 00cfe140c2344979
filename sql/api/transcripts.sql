-- Transcripts: what a speech recogniser wrote of a meeting becomes a follow-up of the deal, and the objections in it can be highlighted.

CREATE OR REPLACE FUNCTION crm._objections(value text) RETURNS TABLE (start int, upto int, kind text)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_words jsonb;
    v_pattern text;
    v_before text[];
    v_found text[];
    v_word text;
    v_at int := 0;
BEGIN
    SELECT jsonb_object_agg(regexp_replace(lower(btrim(w.word)), '\s+', ' ', 'g'), k.key ORDER BY k.key DESC), string_agg(regexp_replace(regexp_replace(btrim(w.word), '([].*+?^${}()|\\[])', '\\\1', 'g'), '\s+', '\\s+', 'g'), '|')
      INTO v_words, v_pattern
      FROM jsonb_each(crm._setting('objection.keywords', '{}')::jsonb) AS k CROSS JOIN LATERAL jsonb_array_elements_text(k.value) AS w (word) WHERE btrim(w.word) <> '';
    IF v_pattern IS NULL OR value !~* v_pattern THEN
        RETURN;
    END IF;
    -- the longest word at the leftmost place, what stands between two of them, and so the place of each; lengths are those of the text as it is
    v_before := regexp_split_to_array(value, v_pattern, 'i');
    v_found := ARRAY(SELECT m[1] FROM regexp_matches(value, '(' || v_pattern || ')', 'gi') AS m);
    FOR i IN 1 .. cardinality(v_found) LOOP
        v_at := v_at + length(v_before[i]);
        start := v_at;
        v_at := v_at + length(v_found[i]);
        upto := v_at;
        v_word := regexp_replace(lower(v_found[i]), '\s+', ' ', 'g');
        kind := v_words ->> v_word;
        -- English words are whole ones; what is denied is no objection
        CONTINUE WHEN v_word ~ '^[a-z0-9]' AND v_before[i] ~* '[a-z0-9]$' OR v_word ~ '[a-z0-9]$' AND v_before[i + 1] ~* '^[a-z0-9]'
            OR v_before[i] ~* '(\mnot|n''t|n’t|\mnever|不|没|没有|不是|不算|并非)(\s+(really|at all|that))?\s*$';
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION crm._objections(text) IS 'Internal: the objections in a text, by the words of the setting objection.keywords: the place of the first character, from 0, the place after the last, and the kind. Chinese words count anywhere, English ones as whole words in whatever case; what is denied does not count.';

CREATE OR REPLACE FUNCTION crm._objections_of(summary text, body text, detail jsonb) RETURNS TABLE (part text, start int, upto int, kind text, said text, speaker text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.part, o.start, o.upto, o.kind, substr(p.value, o.start + 1, o.upto - o.start), g.value ->> 'speaker'
      FROM (VALUES (1, 'summary', summary), (2, 'body', body)) AS p (n, part, value) CROSS JOIN LATERAL crm._objections(p.value) AS o
      LEFT JOIN LATERAL (SELECT s.value FROM jsonb_array_elements(CASE WHEN p.part = 'body' AND jsonb_typeof(detail -> 'segments') = 'array' THEN detail -> 'segments' ELSE '[]' END) AS s
                          WHERE CASE WHEN jsonb_typeof(s.value -> 'start') = 'number' AND jsonb_typeof(s.value -> 'upto') = 'number' THEN o.start >= (s.value ->> 'start')::numeric AND o.start < (s.value ->> 'upto')::numeric END LIMIT 1) AS g ON true
     WHERE coalesce(g.value ->> 'side', '') <> 'us'
     ORDER BY p.n, o.start
$$;
COMMENT ON FUNCTION crm._objections_of(text, text, jsonb) IS 'Internal: the objections in the summary and body of a follow-up, without what our own side said by the segments in detail. Not STRICT: each may be NULL.';

CREATE OR REPLACE FUNCTION crm.objections(interaction bigint)
    RETURNS TABLE (part text, start int, upto int, kind text, label text, said text, speaker text)
    LANGUAGE sql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    -- the view answers what the caller may read of it
    SELECT o.part, o.start, o.upto, o.kind, (SELECT c.label FROM crm.choices('objection') AS c WHERE c.key = o.kind), o.said, o.speaker
      FROM crm.interaction AS i CROSS JOIN LATERAL crm._objections_of(i.summary, i.body, i.detail) WITH ORDINALITY AS o
     WHERE i.id = interaction ORDER BY o.ordinality
$$;
COMMENT ON FUNCTION crm.objections(bigint) IS
'The objections in the summary and the body of a follow-up, above all of a transcript, to be highlighted: part (summary or body), the place of the first character, from 0, and the place after the last, counted in characters of that text, kind and its label (picklist objection) in the caller''s language, what was said, and by whom where the transcript tells. Found by the words of the setting objection.keywords, Chinese and English; what our own side said (side us) and what is denied does not count.
interaction: its id. No row: none, or not the caller''s to read.';

CREATE OR REPLACE FUNCTION crm._transcript(d jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s jsonb;
    v_line text;
    v_body text := '';
    v_segments jsonb := '[]';
BEGIN
    IF d ? 'segments' AND (jsonb_typeof(d -> 'segments') <> 'array' OR EXISTS (SELECT FROM jsonb_array_elements(d -> 'segments') AS x WHERE jsonb_typeof(x) <> 'object' OR jsonb_typeof(x -> 'text') IS DISTINCT FROM 'string' OR coalesce(x ->> 'side', 'us') NOT IN ('us', 'customer'))) THEN
        RAISE EXCEPTION 'segments are a list of objects with a text, and perhaps a speaker and a side, us or customer' USING ERRCODE = 'invalid_parameter_value', HINT = '{"segments": [{"speaker": "Li", "side": "customer", "text": ".."}]}';
    END IF;
    IF NOT d ? 'segments' THEN
        RETURN (d - 'text') || jsonb_strip_nulls(jsonb_build_object('body', coalesce(d ->> 'body', d ->> 'text')));
    END IF;
    FOR s IN SELECT x FROM jsonb_array_elements(d -> 'segments') AS x LOOP
        v_line := concat(left(s ->> 'speaker', 100) || ': ', s ->> 'text', E'\n');
        v_segments := v_segments || jsonb_strip_nulls(jsonb_build_object('start', length(v_body), 'upto', length(v_body) + length(v_line), 'speaker', left(s ->> 'speaker', 100), 'side', s ->> 'side'));
        v_body := v_body || v_line;
    END LOOP;
    RETURN (d - 'text') || jsonb_build_object('body', rtrim(v_body, E'\n'), 'segments', v_segments);
END
$$;
COMMENT ON FUNCTION crm._transcript(jsonb) IS 'Internal: what a speech recogniser sent, with body: its text, or one line for each of its segments, whose places are kept instead of their text. Errors: 22023 segments of another form.';

CREATE OR REPLACE FUNCTION crm._transcript_of(account bigint, at timestamptz, INOUT deal bigint, OUT meeting bigint)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_deal bigint;
BEGIN
    -- the meeting that has no words yet: from a quarter of an hour before it began to four hours after its end
    SELECT i.id, i.opportunity_id INTO meeting, v_deal FROM crm_data.interaction AS i
     WHERE i.account_id = account AND i.kind = 'meeting' AND i.summary IS NULL AND i.retracted_at IS NULL AND NOT i.detail ? 'meeting' AND i.body IS NULL
       AND at BETWEEN i.occurred_at - interval '15 minutes' AND i.occurred_at + coalesce(i.duration, '0') + interval '4 hours' AND (deal IS NULL OR coalesce(i.opportunity_id, deal) = deal)
     ORDER BY abs(extract(epoch FROM at - i.occurred_at)), i.id LIMIT 1;
    -- else the only deal that there is to talk about
    deal := coalesce(deal, v_deal, (SELECT min(o.id) FROM crm_data.opportunity AS o WHERE o.account_id = account AND o.outcome = 'open' AND o.deleted_at IS NULL HAVING count(*) = 1));
END
$$;
COMMENT ON FUNCTION crm._transcript_of(bigint, timestamptz, bigint) IS 'Internal: the meeting that a transcript belongs to, and its deal: the one that it names (deal), else the meeting''s, else the only open one of the customer.';
