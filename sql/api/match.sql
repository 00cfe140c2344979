-- Match: models over any table, duplicates of the CRM's own records, suggestions and the lock on the original.

-- Keys kept beside the values they come from

DROP TRIGGER IF EXISTS match_normalize ON crm_data.account;
CREATE TRIGGER match_normalize BEFORE INSERT OR UPDATE OF name, phone, email ON crm_data.account
    FOR EACH ROW EXECUTE FUNCTION crm._match_normalize('account');
COMMENT ON TRIGGER match_normalize ON crm_data.account IS 'Keeps the normal forms that duplicates are found by.';
DROP TRIGGER IF EXISTS match_normalize ON crm_data.contact;
CREATE TRIGGER match_normalize BEFORE INSERT OR UPDATE OF phone, email ON crm_data.contact
    FOR EACH ROW EXECUTE FUNCTION crm._match_normalize('contact');
COMMENT ON TRIGGER match_normalize ON crm_data.contact IS 'Keeps the normal forms that duplicates are found by.';
DROP TRIGGER IF EXISTS match_normalize ON crm_data.lead;
CREATE TRIGGER match_normalize BEFORE INSERT OR UPDATE OF phone, email ON crm_data.lead
    FOR EACH ROW EXECUTE FUNCTION crm._match_normalize('lead');
COMMENT ON TRIGGER match_normalize ON crm_data.lead IS 'Keeps the normal forms that duplicates are found by.';

-- Models

CREATE OR REPLACE FUNCTION crm._caller() RETURNS name
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN current_setting('role') = 'none' THEN SESSION_USER ELSE current_setting('role')::name END;
END;
COMMENT ON FUNCTION crm._caller() IS 'The role that is asking, the same inside SECURITY DEFINER functions: the session''s or the one of SET ROLE. Internal.';

CREATE OR REPLACE FUNCTION crm._match_model(name text, trained boolean DEFAULT false, OUT model int, OUT source regclass, OUT id_column name, OUT fields jsonb, OUT params bytea, OUT shipped boolean, OUT links text[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT s.model, s.source, s.id_column, s.fields, s.params, s.shipped
      INTO _match_model.model, _match_model.source, _match_model.id_column, _match_model.fields, _match_model.params, _match_model.shipped
      FROM crm_data.match_state AS s WHERE s.name = _match_model.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('match model "%s" does not exist', name),
            HINT = 'Define it with crm.match_define().';
    END IF;
    IF trained AND params IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('match model "%s" is not trained', name),
            HINT = 'Run crm.match_train() first, or learn and cluster in one pass: crm.match_clusters(name, learn => true).';
    END IF;
    SELECT array_agg(ARRAY[l.a, l.b, l.kind] ORDER BY l.a, l.b) INTO _match_model.links FROM crm_data.match_link AS l WHERE l.model = _match_model.model;
END
$$;
COMMENT ON FUNCTION crm._match_model(text, boolean) IS 'Definition, trained weights and people''s decisions of a match model; the rows of its table are read by the caller, with the caller''s rights. trained: it must be. Internal. Errors: 42704 no such model; 55000 it is not trained.';

CREATE OR REPLACE FUNCTION crm._match_store(name text, source regclass, id_column name, fields jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner name;
BEGIN
    SELECT s.defined_by INTO owner FROM crm_data.match_state AS s WHERE s.name = _match_store.name AND s.shipped;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('match model "%s" belongs to the CRM', name),
            HINT = 'Change it as configuration of kind match_model.';
    END IF;
    SELECT s.defined_by INTO owner FROM crm_data.match_state AS s WHERE s.name = _match_store.name FOR UPDATE;
    IF FOUND AND owner <> crm._caller() AND NOT crm.has_role('crm_admin') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('match model "%s" was defined by somebody else', name),
            HINT = 'Choose another name.';
    END IF;
    INSERT INTO crm_data.match_state AS s (name, source, id_column, fields, defined_by)
    VALUES (_match_store.name, _match_store.source, _match_store.id_column, _match_store.fields, crm._caller())
    ON CONFLICT ON CONSTRAINT match_state_name_key DO UPDATE
       SET source = excluded.source, id_column = excluded.id_column, fields = excluded.fields, defined_by = excluded.defined_by,
           params = NULL, learned = NULL, rows_seen = NULL, trained_at = NULL, indexed = false, updated_at = now(), updated_by = crm._caller();
    DELETE FROM crm_data.match_key AS k USING crm_data.match_state AS s WHERE s.name = _match_store.name AND k.model = s.model;
    DELETE FROM crm_data.match_record AS r USING crm_data.match_state AS s WHERE s.name = _match_store.name AND r.model = s.model;
END
$$;
COMMENT ON FUNCTION crm._match_store(text, regclass, name, jsonb) IS 'Stores a definition that crm.match_define has checked. Internal. Errors: 42501 the name belongs to the CRM or to somebody else.';

CREATE OR REPLACE FUNCTION crm._match_save(name text, params bytea, learned jsonb, rows bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE crm_data.match_state AS s
       SET params = _match_save.params, learned = _match_save.learned, rows_seen = _match_save.rows, trained_at = now(),
           threshold_suggest = (_match_save.learned->>'threshold')::float8, threshold_auto = 0.999, updated_at = now(), updated_by = crm._caller()
     WHERE s.name = _match_save.name AND (s.defined_by = crm._caller() OR crm.has_role('crm_admin'));
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('match model "%s" was defined by somebody else', name),
            HINT = 'Define a model of your own with crm.match_define().';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._match_save(text, bytea, jsonb, bigint) IS 'Keeps what crm.match_train learned. Internal. Errors: 42501 the model is somebody else''s.';

CREATE OR REPLACE FUNCTION crm._match_guess(source regclass, id_column name) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    col record;
    found text;
    by_name text;
    result jsonb := '{}';
    p jsonb;
    n bigint;
    d bigint;
    few boolean;
    word float8;
    given text;
    names text[] := '{}';    -- the columns
    single text[] := '{}';   -- of one word each, meaning open
    long text[] := '{}';     -- of several
    distinct_of jsonb := '{}';
    neighbour text;
    x text;
    part record;
BEGIN
    FOR col IN
        SELECT a.attname::text AS name, lower(a.attname) AS low
          FROM pg_attribute AS a
         WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> id_column
         ORDER BY a.attnum
    LOOP
        -- shares of the kinds of values among up to 2,000
        EXECUTE format('SELECT coalesce(sum(k.n), 0), coalesce(sum(k.d), 0), jsonb_object_agg(k.kind, k.n / k.all_n)
                          FROM (SELECT crm._value_kind(s.v) AS kind, count(*) AS n, count(DISTINCT s.v) AS d, sum(count(*)) OVER () AS all_n
                                  FROM (SELECT nullif(btrim(left(x.%I::text, 400)), '''') AS v FROM (SELECT t.%I FROM %s AS t LIMIT 2000) AS x) AS s
                                 WHERE s.v IS NOT NULL GROUP BY 1) AS k', col.name, col.name, source::text) INTO n, d, p;
        CONTINUE WHEN n = 0;
        names := names || col.name;
        distinct_of := distinct_of || jsonb_build_object(col.name, d);
        few := d <= CASE WHEN n < 100 THEN n / 10 ELSE greatest(20, n / 50) END;
        word := coalesce((p->>'word')::float8, 0) + coalesce((p->>'given_name')::float8, 0) + coalesce((p->>'code')::float8, 0);
        by_name := CASE
            WHEN col.low ~ 'ssn|soc_?sec|national_?id|passport|licen|tax_?id|vat|resident|id_?card|identity' OR col.low LIKE U&'%\8EAB\4EFD%' THEN 'national_id'
            -- A column made of others says nothing new.
            WHEN col.low ~ '(first|given).*(sur|last|family)|(sur|last|family).*(first|given)' THEN 'none'
            WHEN col.low ~ '(^|_)(cluster|entity|group|source|row|rec|record|batch|version|created|updated|modified|loaded)(_|$)|_id$|^id$|_at$' THEN 'none'
            WHEN col.low ~ 'e_?mail' OR col.low LIKE U&'%\90AE\7BB1%' THEN 'email'
            WHEN col.low ~ 'uscc|credit_?code' OR col.low LIKE U&'%\4FE1\7528\4EE3\7801%' THEN 'uscc'
            WHEN col.low ~ 'id_?4|last_?4' THEN 'id4'
            WHEN col.low ~ '(^|_)dob|birth_?da|birthday|date_?of_?birth|^birth$|^born|_date$|^date' OR col.low LIKE U&'%\751F\65E5%' OR col.low LIKE U&'%\51FA\751F%' THEN 'date'
            WHEN col.low ~ 'phone|mobile|(^|_)tel(_|$)|telefon|(^|_)cell|fax|whatsapp' OR col.low LIKE U&'%\7535\8BDD%' OR col.low LIKE U&'%\624B\673A%' THEN 'phone'
            WHEN col.low ~ 'zip|post_?c|postal|^plz$' OR col.low LIKE U&'%\90AE\7F16%' OR col.low LIKE U&'%\90AE\653F%' THEN 'postcode'
            WHEN col.low ~ 'given|first_?n|fore_?n|^first$|^fname|vorname|prenom' THEN 'given_name'
            WHEN col.low ~ 'sur_?name|last_?n|family|^last$|^lname|nachname|apellido' THEN 'family_name'
            WHEN col.low ~ 'compan|organi[sz]|(^|_)org(_|$)|firm|employer|business|site_name|vendor|supplier|merchant|enterprise' OR col.low LIKE U&'%\516C\53F8%' OR col.low LIKE U&'%\4F01\4E1A%' OR col.low LIKE U&'%\5355\4F4D%' THEN 'company'
            WHEN col.low ~ 'web|url|domain|homepage' THEN 'website'
            WHEN col.low ~ 'street_?n(o|um)|house_?n(o|um)|unit|building' THEN 'text'
            WHEN col.low ~ 'street|address_?[0-9]|addr_?[0-9]|addr_line|address_line' THEN 'street'
            WHEN col.low ~ 'addr|location' OR col.low LIKE U&'%\5730\5740%' THEN 'address'
            WHEN col.low ~ 'city|town|suburb|locality|place|village|municip' OR col.low LIKE U&'%\57CE\5E02%' THEN 'city'
            WHEN col.low ~ 'state|province|region|county|country|district' OR col.low LIKE U&'%\7701%' THEN 'region'
            WHEN col.low ~ 'name|person|contact|customer|client|owner|legal' OR col.low LIKE U&'%\59D3\540D%' OR col.low LIKE U&'%\8054\7CFB\4EBA%' OR col.low LIKE U&'%\6CD5\4EBA%' THEN 'person_name'
        END;
        found := CASE
            -- what the form of the values leaves no doubt about
            WHEN (p->>'email')::float8 > 0.5 THEN 'email'
            WHEN (p->>'uscc')::float8 > 0.5 THEN 'uscc'
            WHEN by_name = 'person_name' AND NOT few AND ((p->>'company')::float8 > 0.3 OR (p->>'company')::float8 > coalesce((p->>'person_name')::float8, 0)) THEN 'company'
            WHEN by_name = 'person_name' AND ((p->>'number')::float8 > 0.5 OR few) THEN 'category'
            WHEN by_name IS NOT NULL THEN by_name
            -- by the values alone
            WHEN (p->>'website')::float8 > 0.5 THEN 'website'
            WHEN (p->>'national_id')::float8 > 0.5 THEN 'national_id'
            WHEN (p->>'id4')::float8 > 0.02 AND (p->>'id4')::float8 + coalesce((p->>'postcode')::float8, 0) > 0.9 THEN 'id4'
            WHEN (p->>'date')::float8 > 0.5 THEN 'date'
            WHEN (p->>'phone')::float8 > 0.5 THEN 'phone'
            WHEN (p->>'postcode')::float8 > 0.6 THEN CASE WHEN d > n * 0.95 AND n > 200 THEN 'id' ELSE 'postcode' END
            WHEN few THEN 'category'
            WHEN (p->>'company')::float8 > 0.3 THEN 'company'
            WHEN (p->>'address')::float8 > 0.5 THEN 'address'
            WHEN (p->>'street')::float8 > 0.4 THEN 'street'
            WHEN (p->>'city')::float8 > 0.5 THEN 'city'
            WHEN (p->>'region')::float8 > 0.5 THEN 'region'
            WHEN (p->>'person_name')::float8 > 0.5 THEN 'person_name'
            WHEN (p->>'given_name')::float8 > 0.25 AND word > 0.7 AND given IS NULL THEN 'given_name'
            WHEN (p->>'number')::float8 > 0.5 AND d > n * 0.98 AND n > 100 THEN 'none'
            WHEN (p->>'other')::float8 > 0.5 AND d > n * 0.9 AND n > 100 THEN 'none'
            ELSE 'text'
        END;
        IF by_name IS NULL THEN
            IF found = 'given_name' THEN
                given := col.name;
            END IF;
            IF found IN ('text', 'given_name') AND word > 0.7 THEN
                single := single || col.name;
            ELSIF found = 'text' AND word + coalesce((p->>'words')::float8, 0) > 0.6 AND d < n * 0.5 THEN
                found := 'city';
            ELSIF found IN ('text', 'person_name') AND coalesce((p->>'words')::float8, 0) + coalesce((p->>'person_name')::float8, 0) > 0.3 THEN
                long := long || col.name;
            END IF;
        END IF;
        result := result || jsonb_build_object(col.name, found);
    END LOOP;
    -- Whole names and their parts: a column that holds the words of two others. If it is nothing but them it says nothing new.
    FOREACH x IN ARRAY long LOOP
        EXIT WHEN cardinality(single) < 2;
        FOR part IN EXECUTE (SELECT string_agg(format('(SELECT %L::text AS a, %L::text AS b, avg((%s LIKE ''%% '' || %s || '' %%'' AND %s LIKE ''%% '' || %s || '' %%'')::int) AS holds, avg((position(%s IN %s) < position(%s IN %s))::int) AS before, avg((length(%s) = length(%s) + length(%s) + 3)::int) AS only
                                         FROM (SELECT t.* FROM %s AS t WHERE t.%I <> '''' AND t.%I <> '''' LIMIT 1000) AS t)',
                                    a, b, xx, aa, xx, bb, aa, xx, bb, xx, xx, aa, bb, source::text, a, b), ' UNION ALL ')
                              FROM unnest(single) AS a, unnest(single) AS b,
                                   LATERAL (SELECT format('('' '' || lower(t.%I::text) || '' '')', x) AS xx, format('lower(t.%I::text)', a) AS aa, format('lower(t.%I::text)', b) AS bb) AS e
                             WHERE array_position(names, a) < array_position(names, b)) LOOP
            CONTINUE WHEN part.holds IS NULL OR part.holds < 0.5;
            result := result || jsonb_build_object(x, CASE WHEN part.only > 0.5 THEN 'none' ELSE 'person_name' END,
                                                   CASE WHEN part.before >= 0.5 THEN part.a ELSE part.b END, 'given_name',
                                                   CASE WHEN part.before >= 0.5 THEN part.b ELSE part.a END, 'family_name');
            EXIT;
        END LOOP;
    END LOOP;
    -- Beside given names stand family names; other words that repeat are places.
    IF given IS NOT NULL AND NOT result @? '$.* ? (@ == "family_name")' THEN
        SELECT s INTO neighbour FROM unnest(single) AS s
         WHERE abs(array_position(names, s) - array_position(names, given)) = 1 AND result->>s = 'text'
         ORDER BY (distinct_of->>s)::bigint DESC, array_position(names, s) DESC LIMIT 1;
        IF neighbour IS NOT NULL THEN
            result := result || jsonb_build_object(neighbour, 'family_name');
        END IF;
    END IF;
    FOREACH x IN ARRAY single LOOP
        IF result->>x = 'text' AND (distinct_of->>x)::bigint < 1000 THEN
            result := result || jsonb_build_object(x, 'city');
        END IF;
    END LOOP;
    SELECT coalesce(jsonb_object_agg(k.key, k.value), '{}') INTO result
      FROM (SELECT e.key, e.value FROM jsonb_each_text(result) AS e WHERE e.value <> 'none' ORDER BY array_position(names, e.key) LIMIT 16) AS k;
    IF result = '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('no column of %s has a meaning that could be guessed', source),
            HINT = 'Give the meanings, for example {"company_name": "company"}.';
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION crm._match_guess(regclass, name) IS 'Meanings of a table''s columns by their names, and where these say nothing by the forms and words of up to 2,000 values each; columns made of others are left out. Internal. Errors: 22023 none has any.';

CREATE OR REPLACE FUNCTION crm.match_define(name text, source regclass, id_column name, fields jsonb DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    guessed jsonb := fields;
BEGIN
    IF name IS NULL OR name = '' OR source IS NULL OR id_column IS NULL OR fields IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'name, source, id column and fields of a match model must be given';
    END IF;
    IF NOT has_table_privilege(source, 'SELECT') AND NOT has_any_column_privilege(source, 'SELECT') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for table %s', source);
    END IF;
    IF fields = '{}' THEN
        guessed := crm._match_guess(source, id_column);
        RAISE NOTICE 'match: meanings guessed: %', guessed;
    END IF;
    PERFORM crm._match_check_fields(source, id_column, guessed);
    PERFORM crm._match_store(name, source, id_column, guessed);
END
$$;
COMMENT ON FUNCTION crm.match_define(text, regclass, name, jsonb) IS
'Defines a match model over a table of the caller''s own, or over any that the caller may read; it is active at once and replaces the caller''s model of that name, with what it learned.
name: of the model. source: table or view. id_column: column that identifies a row. fields: meaning by column, at most 16: company, person_name, given_name, family_name, phone, email, address, street, city, region, postcode, date, id4, uscc, national_id, website, category, text, id; {} lets them be guessed and reported as a NOTICE.
Errors: 42P01, 42703 no such table or column; 22023 unknown meaning; 54000 more than 16 fields; 42501 no right to read, or the name is taken.';

CREATE OR REPLACE FUNCTION crm.match_train(name text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    t record;
BEGIN
    SELECT * INTO m FROM crm._match_model(name);
    SELECT * INTO t FROM crm._match_train(m.source, m.id_column, m.fields, m.shipped, NULL);
    PERFORM crm._match_save(name, t.params, t.learned, t.rows);
    RETURN t.learned;
END
$$;
COMMENT ON FUNCTION crm.match_train(text) IS
'Learns a match model from the rows of its table, without examples and always the same from the same rows. Returns what it learned: for each field and kind of agreement its chance among true pairs (m), among random pairs (u) and its weight (natural logarithm of m/u).
Method: Fellegi and Sunter 1969; u from random pairs, m by expectation-maximisation over counts of agreement patterns of blocked pairs. Errors: 42704 no such model; 42703 a column is gone; 23505, 23502 the id column repeats or is null; 42501 no right.';

CREATE OR REPLACE FUNCTION crm.match_clusters(name text, threshold float8 DEFAULT NULL, learn boolean DEFAULT false) RETURNS TABLE (id text, cluster bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    m record;
BEGIN
    SELECT * INTO m FROM crm._match_model(match_clusters.name, learn IS NOT TRUE);
    RETURN QUERY SELECT c.id, c.cluster
                   FROM crm._match_clusters(m.source, m.id_column, m.fields, m.shipped, CASE WHEN learn IS NOT TRUE THEN m.params END, threshold, m.links,
                                            CASE WHEN learn THEN match_clusters.name END) AS c;
END
$$;
COMMENT ON FUNCTION crm.match_clusters(text, float8, boolean) IS
'One row for each row of the model''s table: its id and the number of its cluster; rows of one cluster are one person or company. What people decided (crm.match_link, crm.reject_duplicate, crm.unmerge) holds, by any chain of rows.
threshold: probability above 0 and below 1 from which two groups are one, NULL for the model''s own. learn: learns first, from the same reading of the table, and keeps that as crm.match_train does. Given one trained state, the same rows give the same clusters in any order and with any number of parallel workers. Method: greedy correlation clustering on log odds.
Errors: 42704 no such model; 55000 it is not trained; 22023 the threshold; with learn those of crm.match_train.';

CREATE OR REPLACE FUNCTION crm.match_pairs(name text, threshold float8 DEFAULT NULL)
    RETURNS TABLE (a text, b text, probability float8, band text, evidence jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    m record;
BEGIN
    SELECT * INTO m FROM crm._match_model(match_pairs.name, true);
    RETURN QUERY SELECT p.a, p.b, p.probability, p.band, p.evidence
                   FROM crm._match_pairs(m.source, m.id_column, m.fields, m.shipped, m.params, threshold, m.links) AS p;
END
$$;
COMMENT ON FUNCTION crm.match_pairs(text, float8) IS
'Pairs of rows of the model''s table that are likely one, the surest first: ids, probability, band (auto: may be merged without a person; suggest: shown to one) and the evidence by field, without values.
threshold: least probability, above 0 and below 1, NULL for the model''s own. Errors: 42704 no such model; 55000 it is not trained; 22023 the threshold.';

CREATE OR REPLACE FUNCTION crm.match_link(name text, a text, b text, same boolean, reason text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s crm_data.match_state;
    x text := CASE WHEN a COLLATE "C" < b THEN a ELSE b END;
    y text := CASE WHEN a COLLATE "C" < b THEN b ELSE a END;
BEGIN
    IF name IS NULL OR a IS NULL OR b IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'model and both ids of a link must be given';
    END IF;
    SELECT * INTO s FROM crm_data.match_state AS m WHERE m.name = match_link.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('match model "%s" does not exist', name),
            HINT = 'Define it with crm.match_define().';
    END IF;
    IF s.shipped THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('match model "%s" belongs to the CRM', name),
            HINT = 'Decide about its records with crm.merge() and crm.reject_duplicate().';
    END IF;
    IF s.defined_by <> crm._caller() AND NOT crm.has_role('crm_admin') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('match model "%s" was defined by somebody else', name),
            HINT = 'Define a model of your own with crm.match_define().';
    END IF;
    IF a = b THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a link needs two different rows';
    END IF;
    IF same IS NULL THEN
        DELETE FROM crm_data.match_link AS l WHERE l.model = s.model AND l.a = x AND l.b = y;
        RETURN;
    END IF;
    INSERT INTO crm_data.match_link AS l (model, a, b, kind, reason, actor)
    VALUES (s.model, x, y, CASE WHEN same THEN 'must' ELSE 'cannot' END, match_link.reason, crm._caller())
    ON CONFLICT ON CONSTRAINT match_link_model_a_b_key DO UPDATE SET kind = excluded.kind, reason = excluded.reason, actor = excluded.actor;
END
$$;
COMMENT ON FUNCTION crm.match_link(text, text, text, boolean, text) IS
'Decides about two rows of a match model of the caller''s own: they are one, or they are two; crm.match_clusters and crm.match_pairs obey. The last decision about a pair holds; where a chain of rows that are one meets a pair that is two, what keeps apart holds.
a, b: ids of the rows as text, in any order; they need not exist yet. same: true one, false two, NULL takes the decision back. reason: why, for people. Errors: 42704 no such model; 42501 it is the CRM''s or somebody else''s; 22004 a name or id is null; 22023 both ids are the same.';

-- A persisted index, for single documents against large tables

CREATE OR REPLACE FUNCTION crm._match_put(model int, ids text[], kinds smallint[], keys bigint[], recs bigint[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s crm_data.match_state;
BEGIN
    SELECT * INTO s FROM crm_data.match_state AS x WHERE x.model = _match_put.model;
    IF NOT FOUND OR (s.defined_by <> crm._caller() AND NOT crm.has_role('crm_admin')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'the match model was defined by somebody else';
    END IF;
    INSERT INTO crm_data.match_record (model, rec, id)
    SELECT s.model, hashtextextended(i, 0), i FROM unnest(ids) AS i ON CONFLICT DO NOTHING;
    INSERT INTO crm_data.match_key (model, kind, key, rec)
    SELECT s.model, k.kind, k.key, k.rec FROM unnest(kinds, keys, recs) AS k (kind, key, rec)
    ON CONFLICT ON CONSTRAINT match_key_pkey DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm._match_put(int, text[], smallint[], bigint[], bigint[]) IS 'Writes records and keys of a match model, as crm.match_index read them. Internal. Errors: 42501 the model is somebody else''s.';

CREATE OR REPLACE FUNCTION crm._match_keep() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s crm_data.match_state;
    document text;
    old_doc jsonb;
    new_doc jsonb;
    old_id text;
    new_id text;
BEGIN
    SELECT * INTO s FROM crm_data.match_state AS x WHERE x.name = TG_ARGV[0] AND x.indexed AND x.source = TG_RELID::regclass;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- The engine reads a row of somebody's table here. A type of his own may have a cast to json, which is his code and would run with the engine's
    -- rights: of such types only the text is taken, by their output functions, which are the server's.
    SELECT format('SELECT jsonb_build_object(%s)', string_agg(format(CASE WHEN a.atttypid < 16384 THEN '%L, to_jsonb(($1).%I)' ELSE '%L, nullif(concat(($1).%I), '''')' END, a.attname, a.attname), ', '))
      INTO document
      FROM pg_attribute AS a
     WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped AND (a.attname = s.id_column OR s.fields ? a.attname::text);
    -- Keys follow from the row: those that the old one had go, without an index by record.
    IF TG_OP <> 'INSERT' THEN
        EXECUTE document INTO old_doc USING OLD;
        old_id := old_doc->>s.id_column;
        DELETE FROM crm_data.match_key AS k USING crm._match_keys(s.fields, old_doc) AS o
         WHERE k.model = s.model AND k.kind = o.kind AND k.key = o.key AND k.rec = hashtextextended(old_id, 0);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE document INTO new_doc USING NEW;
        new_id := new_doc->>s.id_column;
        INSERT INTO crm_data.match_key (model, kind, key, rec)
        SELECT DISTINCT s.model, k.kind, k.key, hashtextextended(new_id, 0) FROM crm._match_keys(s.fields, new_doc) AS k WHERE new_id IS NOT NULL
        ON CONFLICT ON CONSTRAINT match_key_pkey DO NOTHING;
    END IF;
    IF old_id IS DISTINCT FROM new_id THEN
        DELETE FROM crm_data.match_record AS r WHERE r.model = s.model AND r.id = old_id;
        INSERT INTO crm_data.match_record (model, rec, id) SELECT s.model, hashtextextended(new_id, 0), new_id WHERE new_id IS NOT NULL ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._match_keep() IS 'Trigger on the table of an indexed match model that keeps its keys. Argument: name of the model. Internal.';

CREATE OR REPLACE FUNCTION crm._match_indexed(name text, on_ boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m int;
BEGIN
    UPDATE crm_data.match_state AS s SET indexed = on_, updated_at = now(), updated_by = crm._caller()
     WHERE s.name = _match_indexed.name AND NOT s.shipped AND (s.defined_by = crm._caller() OR crm.has_role('crm_admin')) RETURNING s.model INTO m;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('match model "%s" was defined by somebody else', name);
    END IF;
    IF NOT on_ THEN
        DELETE FROM crm_data.match_key AS k WHERE k.model = m;
        DELETE FROM crm_data.match_record AS r WHERE r.model = m;
    END IF;
END
$$;
COMMENT ON FUNCTION crm._match_indexed(text, boolean) IS 'Marks a match model as indexed, or empties its index. Internal. Errors: 42501 the model is somebody else''s.';

CREATE OR REPLACE FUNCTION crm.match_index(name text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    n bigint := 0;
    batch record;
    trigger_name CONSTANT text := 'crm_match_' || md5(name);
BEGIN
    SELECT * INTO m FROM crm._match_model(name);
    PERFORM crm._match_check_fields(m.source, m.id_column, m.fields);
    PERFORM crm._match_indexed(name, false);
    -- The trigger first: who creates it must own the table, and it locks writers out until the keys are there.
    EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', trigger_name, m.source);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION crm._match_keep(%L)', trigger_name, m.source, name);
    FOR batch IN EXECUTE format('SELECT array_agg(x.id) AS ids FROM (SELECT t.%I::text AS id, row_number() OVER () / 50000 AS part FROM %s AS t) AS x GROUP BY x.part',
                                m.id_column, m.source) LOOP
        IF array_position(batch.ids, NULL) IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'not_null_violation', MESSAGE = 'the id column holds a null value';
        END IF;
        PERFORM crm._match_put(m.model, batch.ids, '{}', '{}', '{}');
        n := n + cardinality(batch.ids);
    END LOOP;
    FOR batch IN SELECT k.kinds, k.keys, k.recs FROM crm._match_index_keys(m.source, m.id_column, m.fields) AS k LOOP
        PERFORM crm._match_put(m.model, '{}', batch.kinds, batch.keys, batch.recs);
    END LOOP;
    PERFORM crm._match_indexed(name, true);
    RETURN n;
END
$$;
COMMENT ON FUNCTION crm.match_index(text) IS
'Persists the keys of a match model''s rows and keeps them by a trigger on its table, for crm.match_probe. Returns how many rows it read. The caller must own the table. Called again it makes the index anew; crm.match_define empties it.
Errors: 42704 no such model; 42501 not the table''s owner, or the model is somebody else''s or the CRM''s.';

CREATE OR REPLACE FUNCTION crm._match_candidates(name text, doc jsonb) RETURNS text[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s crm_data.match_state;
    result text[];
BEGIN
    SELECT * INTO s FROM crm_data.match_state AS x WHERE x.name = _match_candidates.name;
    IF NOT s.indexed THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('match model "%s" has no index', name),
            HINT = 'Make one with crm.match_index().';
    END IF;
    -- which rows share a key is told only to those who may read them all
    IF NOT has_table_privilege(crm._caller(), s.source, 'SELECT') OR (s.defined_by <> crm._caller() AND (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = s.source)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for the table of match model "%s"', name);
    END IF;
    -- A key says the less the more rows share it; of a key that very many share any hundred rows do, since others bring the right ones.
    SELECT array_agg(r.id) INTO result
      FROM (SELECT c.rec FROM crm._match_keys(s.fields, doc) AS k,
                   LATERAL (SELECT y.rec, 1::float8 / count(*) OVER () AS share
                              FROM (SELECT x.rec FROM crm_data.match_key AS x WHERE x.model = s.model AND x.kind = k.kind AND x.key = k.key LIMIT 100) AS y) AS c
             GROUP BY c.rec ORDER BY sum(c.share) DESC, c.rec LIMIT 30) AS best
           JOIN crm_data.match_record AS r ON r.model = s.model AND r.rec = best.rec;
    RETURN coalesce(result, '{}');
END
$$;
COMMENT ON FUNCTION crm._match_candidates(text, jsonb) IS 'Ids of the rows of an indexed match model that share the rarest keys with a document, at most 30. Internal. Errors: 55000 the model has no index; 42501 its table is not the caller''s to read.';

CREATE OR REPLACE FUNCTION crm.match_probe(name text, doc jsonb, lim int DEFAULT 10)
    RETURNS TABLE (id text, probability float8, band text, evidence jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    m record;
BEGIN
    IF doc IS NULL OR jsonb_typeof(doc) <> 'object' OR lim IS NULL OR lim < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a probe needs a document and a positive number of answers';
    END IF;
    SELECT * INTO m FROM crm._match_model(match_probe.name, true);
    RETURN QUERY SELECT p.id, p.probability, p.band, p.evidence
                   FROM crm._match_probe(m.source, m.id_column, m.fields, m.params, doc, crm._match_candidates(match_probe.name, doc), lim) AS p;
END
$$;
COMMENT ON FUNCTION crm.match_probe(text, jsonb, int) IS
'Rows of an indexed and trained match model that a document may be, the likeliest first: id, probability, band (auto, suggest, none) and evidence by field, without values. The table is read with the caller''s rights.
doc: the fields by column name. lim: most answers, from 1. Errors: 42704 no such model; 55000 it is not trained or has no index; 22023 no document.';

-- The CRM's own models

INSERT INTO crm_data.match_state (name, source, id_column, fields, shipped, defined_by)
SELECT v.name, v.source::regclass, 'id', '{}', true, 'crm_owner'
  FROM (VALUES ('account', 'crm_data.account'), ('contact', 'crm_data.contact'), ('lead', 'crm_data.lead')) AS v (name, source)
ON CONFLICT (name) DO NOTHING;

CREATE OR REPLACE FUNCTION crm._object_model(object text, whole boolean, OUT source regclass, OUT fields jsonb, OUT params bytea)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state crm_data.match_state;
    body jsonb;
    t record;
    live float8;
BEGIN
    SELECT c.body->'fields' INTO body FROM crm_data.config AS c
     WHERE c.kind = 'match_model' AND c.key = object AND c.scope = '*' AND c.status = 'active';
    SELECT * INTO state FROM crm_data.match_state AS s WHERE s.name = object AND s.shipped;
    IF body IS NULL OR state.name IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('no match model for object "%s"', object),
            HINT = 'Objects with one are account, contact and lead.';
    END IF;
    source := state.source;
    fields := body;
    -- Learned at first use, when the configuration changed, and again whenever the table has doubled; who only types a
    -- record does not wait for a large table.
    SELECT c.reltuples INTO live FROM pg_class AS c WHERE c.oid = state.source;
    IF state.params IS NULL OR state.fields <> body OR live > 2 * greatest(state.rows_seen, 1000) AND (whole OR state.rows_seen < 20000) THEN
        SELECT * INTO t FROM crm._match_train(state.source, 'id', body, true, CASE WHEN NOT whole THEN 20000 END);
        UPDATE crm_data.match_state AS s
           SET fields = body, params = t.params, learned = t.learned, rows_seen = t.rows, trained_at = now(),
               threshold_suggest = (t.learned->>'threshold')::float8, threshold_auto = 0.999, updated_at = now(), updated_by = crm._caller()
         WHERE s.name = object;
        params := t.params;
    ELSE
        params := state.params;
    END IF;
END
$$;
COMMENT ON FUNCTION crm._object_model(text, boolean) IS 'The model of a CRM object by the active configuration, with trained weights; learns them at first use and whenever the table has doubled, from the whole table or from 20,000 rows of it. Internal. Errors: 22023 the object has no model.';

CREATE OR REPLACE FUNCTION crm._match_judge(object text, fields jsonb, evidence jsonb, doc jsonb, probability float8, model_band text,
                                            OUT score float8, OUT band text, OUT rule text, OUT locks boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Meanings that the two records have equal; a missing value is no match.
    hits CONSTANT text[] := ARRAY(SELECT DISTINCT f.value FROM jsonb_each_text(fields) AS f
                                   WHERE evidence->'fields'->f.key->>'level' IN ('equal', 'region missing', 'equal without area code'));
BEGIN
    IF hits <> '{}' THEN
        SELECT c.key, c.body->>'band', coalesce((c.body->>'locks_target')::boolean, false) INTO rule, band, locks
          FROM crm_data.config AS c
         WHERE c.kind = 'match_rule' AND c.scope = '*' AND c.status = 'active' AND c.body->'objects' ? object
           AND (c.body ? 'all' OR c.body ? 'any')
           AND (NOT c.body ? 'all' OR c.body->'all' <@ to_jsonb(hits))
           AND (NOT c.body ? 'any' OR (SELECT count(*) FROM jsonb_array_elements_text(c.body->'any') AS x WHERE x = ANY (hits)) >= coalesce((c.body->>'at_least')::int, 1))
           AND (NOT coalesce((c.body->>'require_valid')::boolean, false)
                OR EXISTS (SELECT FROM jsonb_each_text(fields) AS f WHERE f.value = 'uscc' AND crm.uscc_valid(doc->>f.key)))
         ORDER BY c.key
         LIMIT 1;
    END IF;
    score := least(greatest(probability, CASE band WHEN 'auto' THEN 0.999 WHEN 'suggest' THEN 0.9 ELSE 0 END), 1);
    band := coalesce(band, model_band);
    locks := coalesce(locks, false);
END
$$;
COMMENT ON FUNCTION crm._match_judge(text, jsonb, jsonb, jsonb, float8, text) IS
'What is said of a pair: band, score and lock of the first of the configured deterministic rules that the comparison meets, else the model''s. object: the newer record''s. doc: the older record. Internal.';

CREATE OR REPLACE FUNCTION crm._match_target(object text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE object WHEN 'lead' THEN 'account' ELSE object END;
END;
COMMENT ON FUNCTION crm._match_target(text) IS 'Object among whose records those of an object are looked for: leads among the accounts. Internal.';

CREATE OR REPLACE FUNCTION crm._match_doc_of_lead(doc jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- Its company is the customer's name, its person the legal person or nobody.
    SELECT jsonb_strip_nulls(doc || jsonb_build_object('name', coalesce(nullif(doc->>'company', ''), doc->>'name'), 'legal_person', doc->>'name'));
END;
COMMENT ON FUNCTION crm._match_doc_of_lead(jsonb) IS 'A lead as the customer that it may be. Internal.';

CREATE OR REPLACE FUNCTION crm._match_doc(object text, id bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    doc jsonb;
BEGIN
    CASE object
        WHEN 'account' THEN
            SELECT to_jsonb(t) INTO doc FROM crm_data.account AS t WHERE t.id = _match_doc.id AND t.merged_into IS NULL AND t.deleted_at IS NULL;
        WHEN 'contact' THEN
            SELECT to_jsonb(t) INTO doc FROM crm_data.contact AS t WHERE t.id = _match_doc.id AND t.merged_into IS NULL AND t.deleted_at IS NULL;
        WHEN 'lead' THEN
            SELECT crm._match_doc_of_lead(to_jsonb(t)) INTO doc FROM crm_data.lead AS t
             WHERE t.id = _match_doc.id AND t.merged_into IS NULL AND t.deleted_at IS NULL AND t.converted_account_id IS NULL;
    END CASE;
    RETURN doc;
END
$$;
COMMENT ON FUNCTION crm._match_doc(text, bigint) IS 'A record as the document that is compared; NULL when it is merged, deleted, a converted lead or none. Internal.';

CREATE OR REPLACE FUNCTION crm._match_near(object text, phones text[], emails text[], cores text[], usccs text[], accounts bigint[], skips bigint[])
    RETURNS TABLE (n int, id bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off SET enable_seqscan = off     -- a fresh table has no statistics yet
AS $$
BEGIN
    -- Of a key that very many share the oldest 200: they say little. (+ 0: not by a walk through the primary key.)
    IF object = 'contact' THEN
        RETURN QUERY
            SELECT p.n::int, c.id
              FROM unnest(phones, emails, accounts, skips) WITH ORDINALITY AS p (phone, email, account, skip, n)
                   CROSS JOIN LATERAL (
                        (SELECT b.id FROM crm_data.contact AS b WHERE b.phone_norm = p.phone AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)
                        UNION (SELECT b.id FROM crm_data.contact AS b WHERE b.email_norm = p.email AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)
                        UNION (SELECT b.id FROM crm_data.contact AS b WHERE b.account_id = p.account AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)) AS c
             WHERE c.id IS DISTINCT FROM p.skip;
    ELSE
        RETURN QUERY
            SELECT p.n::int, c.id
              FROM unnest(phones, emails, cores, usccs, skips) WITH ORDINALITY AS p (phone, email, core, uscc, skip, n)
                   CROSS JOIN LATERAL (
                        (SELECT b.id FROM crm_data.account AS b WHERE b.phone_norm = p.phone AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)
                        UNION (SELECT b.id FROM crm_data.account AS b WHERE b.email_norm = p.email AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)
                        UNION (SELECT b.id FROM crm_data.account AS b WHERE b.name_core = p.core AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)
                        UNION (SELECT b.id FROM crm_data.account AS b WHERE b.uscc = p.uscc AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)
                        -- the person who asks may be one of a customer's
                        UNION (SELECT b.account_id FROM crm_data.contact AS b WHERE object = 'lead' AND b.phone_norm = p.phone AND b.merged_into IS NULL AND b.deleted_at IS NULL ORDER BY b.id + 0 LIMIT 200)) AS c
             WHERE c.id IS DISTINCT FROM (CASE WHEN object <> 'lead' THEN p.skip END);
    END IF;
END
$$;
COMMENT ON FUNCTION crm._match_near(text, text[], text[], text[], text[], bigint[], bigint[]) IS
'Records that share a key with the n-th of some documents. object: of the documents. phones, emails, cores, usccs: their normal forms; accounts: of contacts; skips: id of the document itself. Internal.';

CREATE OR REPLACE FUNCTION crm._find_duplicates(object text, doc jsonb)
    RETURNS TABLE (target text, id bigint, score float8, band text, rule text, locks boolean, evidence jsonb)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    m record;
    d CONSTANT jsonb := CASE object WHEN 'lead' THEN crm._match_doc_of_lead(doc) ELSE doc END;
BEGIN
    target := crm._match_target(object);
    SELECT * INTO m FROM crm._object_model(target, false);
    RETURN QUERY
        SELECT _find_duplicates.target, c.id, j.score, j.band, j.rule, j.locks, k.evidence
          FROM crm._match_near(object, ARRAY[crm.phone_key(d->>'phone')], ARRAY[crm.email_key(d->>'email')], ARRAY[crm.company_key(d->>'name')], ARRAY[upper(d->>'uscc')],
                               ARRAY[CASE WHEN jsonb_typeof(d->'account_id') = 'number' THEN (d->>'account_id')::bigint END], ARRAY[NULL::bigint]) AS c
               CROSS JOIN LATERAL crm._match_doc(_find_duplicates.target, c.id) AS o (doc)
               CROSS JOIN LATERAL crm._match_compare(m.fields, m.params, d, o.doc) AS k
               CROSS JOIN LATERAL crm._match_judge(object, m.fields, k.evidence, o.doc, k.probability, k.band) AS j
         WHERE o.doc IS NOT NULL AND (j.rule IS NOT NULL OR j.band <> 'none')
         ORDER BY j.score DESC, c.id;
END
$$;
COMMENT ON FUNCTION crm._find_duplicates(text, jsonb) IS
'Records that a document may be a duplicate of, with score, band, the deterministic rule that hit, whether it locks the original, and the evidence. Not filtered by what the caller may see. Internal. Errors: 22023 the object has no model.';

CREATE OR REPLACE FUNCTION crm._askable(object text, doc jsonb) RETURNS jsonb
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT doc - coalesce(array_agg(f.name), '{}')
      FROM crm_data.field AS f
     WHERE f.object = CASE _askable.object WHEN 'lead' THEN 'account' ELSE _askable.object END AND f.class = 'identity' AND NOT f.custom AND NOT crm._field_allowed('read', f.id, crm.me(), NULL)
$$;
COMMENT ON FUNCTION crm._askable(text, jsonb) IS 'A document without the identity fields that the caller may not read even of his own records: four digits are soon guessed by asking. Internal.';

CREATE OR REPLACE FUNCTION crm.find_duplicates(object text, doc jsonb, band text DEFAULT 'suggest')
    RETURNS TABLE (id bigint, score numeric, rule text, evidence jsonb)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF doc IS NULL OR jsonb_typeof(doc) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the document must be an object',
            HINT = 'Give the fields as {"name": .., "phone": ..}.';
    END IF;
    IF band IS NULL OR find_duplicates.band NOT IN ('auto', 'suggest') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the band must be auto or suggest';
    END IF;
    RETURN QUERY
        SELECT f.id, round(f.score::numeric, 4), f.rule, f.evidence
          FROM crm._find_duplicates(object, crm._askable(object, doc)) AS f
         WHERE find_duplicates.band = 'suggest' OR f.band = 'auto'
         ORDER BY f.score DESC, f.id;
END
$$;
COMMENT ON FUNCTION crm.find_duplicates(text, jsonb, text) IS
'Records that a document may be a duplicate of, the surest first: id, probability, the deterministic rule that hit (NULL when the model found it) and the evidence by field, without values. A lead is looked for among the accounts.
object: account, contact or lead. doc: the fields as {"name": .., "phone": ..}. band: auto for the certain ones only. Runs as the owner, so that a duplicate is found although the caller may not see it; it tells no value of it, and identity fields that the caller may not read do not count. Errors: 22023 an object without a model, a document that is none, an unknown band.';

CREATE OR REPLACE FUNCTION crm.check_duplicate(doc jsonb) RETURNS TABLE (verdict text, owner text, masked_name text, rule text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF doc IS NULL OR jsonb_typeof(doc) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the document must be an object',
            HINT = 'Give the fields as {"name": .., "phone": ..}.';
    END IF;
    RETURN QUERY
        SELECT CASE f.band WHEN 'auto' THEN 'certain' ELSE 'possible' END, o.full_name, crm.mask_name(a.name), f.rule
          FROM crm._find_duplicates('account', crm._askable('account', doc)) AS f
               JOIN crm_data.account AS a ON a.id = f.id
               LEFT JOIN crm_data.member AS o ON o.id = a.owner_id
         ORDER BY f.score DESC, f.id
         LIMIT 1;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'new'::text, NULL::text, NULL::text, NULL::text;
    END IF;
END
$$;
COMMENT ON FUNCTION crm.check_duplicate(jsonb) IS
'Whether a customer is known already, without showing the record: verdict certain, possible or new, the member who owns it, its masked name and the rule that hit.
doc: the fields of an account as {"name": .., "phone": ..}. Always one row. Errors: 22023 the document is no object.';

CREATE OR REPLACE FUNCTION crm._record_pairs(object_a text, a bigint[], object_b text, b bigint[], scores float8[], bands text[], rules text[], locks boolean[], evidence jsonb[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    ttl CONSTANT interval := make_interval(secs => 3600 * coalesce((SELECT (c.body->>'value')::float8 FROM crm_data.config AS c
                                  WHERE c.kind = 'setting' AND c.key = 'dedup.lock_ttl' AND c.scope = '*' AND c.status = 'active'), 24));
    lock_on CONSTANT boolean := coalesce((SELECT (c.body->>'on')::boolean FROM crm_data.config AS c
                                  WHERE c.kind = 'flag' AND c.key = 'lock_original' AND c.scope = '*' AND c.status = 'active'), true);
    changed bigint;
BEGIN
    INSERT INTO crm_data.duplicate_pair AS d (object_a, a_id, object_b, b_id, account_id, score, band, rule, evidence, locks_target, lock_expires_at, owner_id, team_id, grade)
    SELECT _record_pairs.object_a, p.a, _record_pairs.object_b, p.b, t.id, p.score, p.band, p.rule, p.evidence,
           p.locks AND NOT coalesce(h.ran_out, false), CASE WHEN p.locks AND NOT coalesce(h.ran_out, false) THEN coalesce(h.until, now() + ttl) END,
           t.owner_id, t.team_id, coalesce(t.grade, 0)
      FROM (SELECT DISTINCT ON (x.a, x.b) x.a, x.b, x.score, x.band, x.rule, x.locks AND lock_on AS locks, x.evidence
              FROM unnest(a, b, scores, bands, rules, _record_pairs.locks, _record_pairs.evidence) AS x (a, b, score, band, rule, locks, evidence)
             ORDER BY x.a, x.b, x.score DESC) AS p
           LEFT JOIN crm_data.account AS t
                  ON t.id = CASE _record_pairs.object_a WHEN 'account' THEN p.a WHEN 'contact' THEN (SELECT c.account_id FROM crm_data.contact AS c WHERE c.id = p.a) END
           -- A lock has one end, whoever asks again; and one that ran out undecided is not set anew before a steward has decided: else a
           -- form that is sent every day would freeze a key account for good.
           LEFT JOIN LATERAL (SELECT min(q.lock_expires_at) AS until, bool_or(q.lock_expires_at <= now()) AS ran_out
                                FROM crm_data.duplicate_pair AS q
                               WHERE p.locks AND q.object_a = _record_pairs.object_a AND q.a_id = p.a AND q.state IN ('open', 'expired') AND q.lock_expires_at IS NOT NULL) AS h ON true
     -- What somebody has called two, or un-merged, is not suggested again.
     WHERE _record_pairs.object_a <> _record_pairs.object_b OR NOT EXISTS (
               SELECT FROM crm_data.match_link AS l JOIN crm_data.match_state AS s ON s.model = l.model AND s.name = _record_pairs.object_a
                WHERE l.kind = 'cannot' AND (l.a, l.b) IN ((p.a::text, p.b::text), (p.b::text, p.a::text)))
     ORDER BY p.a, p.b
    ON CONFLICT ON CONSTRAINT duplicate_pair_object_a_a_id_object_b_b_id_key DO UPDATE
       SET score = excluded.score, band = excluded.band, rule = excluded.rule, evidence = excluded.evidence, updated_at = now(), updated_by = crm._caller(),
           state = 'open', reason = NULL, decided_by = NULL, decided_at = NULL,
           locks_target = excluded.locks_target, lock_expires_at = coalesce(d.lock_expires_at, excluded.lock_expires_at)
     WHERE d.state = 'expired' OR d.state = 'open' AND (d.score, d.band, d.rule, d.evidence) IS DISTINCT FROM (excluded.score, excluded.band, excluded.rule, excluded.evidence);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION crm._record_pairs(text, bigint[], text, bigint[], float8[], text[], text[], boolean[], jsonb[]) IS
'Records suggestions; a pair that was decided stays decided, one whose evidence had gone opens again. locks: the original''s match fields and owner are locked until dedup.lock_ttl has passed since the first lock. Returns how many are new or changed. Internal.';

CREATE OR REPLACE FUNCTION crm._match_keys_of(object text, ids bigint[]) RETURNS TABLE (id bigint, phone text, email text, core text, uscc text, account bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
BEGIN
    CASE object
        WHEN 'account' THEN
            RETURN QUERY SELECT t.id, t.phone_norm, t.email_norm, t.name_core, upper(t.uscc), NULL::bigint
                           FROM unnest(ids) AS i (id) JOIN crm_data.account AS t ON t.id = i.id WHERE t.merged_into IS NULL AND t.deleted_at IS NULL ORDER BY t.id;
        WHEN 'contact' THEN
            RETURN QUERY SELECT t.id, t.phone_norm, t.email_norm, NULL, NULL, t.account_id
                           FROM unnest(ids) AS i (id) JOIN crm_data.contact AS t ON t.id = i.id WHERE t.merged_into IS NULL AND t.deleted_at IS NULL ORDER BY t.id;
        WHEN 'lead' THEN
            RETURN QUERY SELECT t.id, t.phone_norm, t.email_norm, crm.company_key(coalesce(nullif(t.company, ''), t.name)), NULL, NULL::bigint
                           FROM unnest(ids) AS i (id) JOIN crm_data.lead AS t ON t.id = i.id WHERE t.merged_into IS NULL AND t.deleted_at IS NULL AND t.converted_account_id IS NULL ORDER BY t.id;
    END CASE;
END
$$;
COMMENT ON FUNCTION crm._match_keys_of(text, bigint[]) IS 'The keys that records are found by, of those that are neither merged, deleted nor converted. Internal.';

CREATE OR REPLACE FUNCTION crm._match_records(object text, ids bigint[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    target CONSTANT text := crm._match_target(object);
    m record;
    k record;
    f record;
    keys text[];
    hashes bigint[];
    changed bigint := 0;
BEGIN
    SELECT * INTO m FROM crm._object_model(target, false);
    -- Two simultaneous writers of one customer: the second waits for the first and then sees it.
    keys := ARRAY(SELECT DISTINCT v FROM crm._match_keys_of(object, ids) AS x, unnest(ARRAY[x.phone, x.email, x.core, x.uscc]) AS v WHERE v IS NOT NULL);
    hashes := ARRAY(SELECT hashtextextended(v, 0) FROM unnest(keys) AS v);
    -- Very many keys would fill the server's table of locks, which all sessions share: the model as a whole is one.
    PERFORM crm._match_lock(CASE target WHEN 'account' THEN 1 ELSE 2 END, CASE WHEN cardinality(hashes) <= 1000 THEN hashes END);
    IF crm._match_unseen(m.source, CASE target WHEN 'account' THEN '{phone_norm,email_norm,name_core,uscc}' ELSE '{phone_norm,email_norm}'::text[] END, keys) THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = 'could not look for duplicates: a record like this one was written at the same time',
            HINT = 'Begin the transaction again.';
    END IF;
    -- A thousand at a time, each under a snapshot taken after the locks.
    FOR part IN 0 .. (cardinality(ids) - 1) / 1000 LOOP
        SELECT array_agg(x.phone) AS phones, array_agg(x.email) AS emails, array_agg(x.core) AS cores, array_agg(x.uscc) AS usccs, array_agg(x.account) AS accounts, array_agg(x.id) AS ids
          INTO k FROM crm._match_keys_of(object, ids[part * 1000 + 1 : part * 1000 + 1000]) AS x;
        CONTINUE WHEN k.ids IS NULL;
        SELECT array_agg(CASE WHEN target = object THEN least(c.id, k.ids[c.n]) ELSE c.id END) AS a, array_agg(CASE WHEN target = object THEN greatest(c.id, k.ids[c.n]) ELSE k.ids[c.n] END) AS b,
               array_agg(j.score) AS scores, array_agg(j.band) AS bands, array_agg(j.rule) AS rules, array_agg(j.locks) AS locks, array_agg(e.evidence) AS evidence
          INTO f
          FROM crm._match_near(object, k.phones, k.emails, k.cores, k.usccs, k.accounts, k.ids) AS c
               CROSS JOIN LATERAL crm._match_doc(target, c.id) AS o (doc)
               CROSS JOIN LATERAL crm._match_compare(m.fields, m.params, crm._match_doc(object, k.ids[c.n]), o.doc) AS e
               CROSS JOIN LATERAL crm._match_judge(object, m.fields, e.evidence, o.doc, e.probability, e.band) AS j
         WHERE o.doc IS NOT NULL AND (j.rule IS NOT NULL OR j.band <> 'none');
        IF f.a IS NOT NULL THEN
            changed := changed + crm._record_pairs(target, f.a, object, f.b, f.scores, f.bands, f.rules, f.locks, f.evidence);
        END IF;
    END LOOP;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION crm._match_records(text, bigint[]) IS
'Looks for duplicates of some records and records suggestions, after the locks of their keys; above 1,000 keys one lock of the model instead. Returns how many suggestions are new or changed. Internal. Errors: 40001 under REPEATABLE READ, a record with the same key was written that this transaction cannot see.';

CREATE OR REPLACE FUNCTION crm._match_withdraw(object text, ids bigint[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    gone bigint[];
    m record;
BEGIN
    IF NOT EXISTS (SELECT FROM crm_data.duplicate_pair AS d WHERE d.state = 'open' AND (d.object_a = object AND d.a_id = ANY (ids) OR d.object_b = object AND d.b_id = ANY (ids))) THEN
        RETURN 0;
    END IF;
    SELECT * INTO m FROM crm._object_model(crm._match_target(object), false);
    -- Records that are gone; and pairs that agree in other fields than when they were suggested, and now in too few. What a person
    -- named (band none) stays.
    SELECT array_agg(d.id) INTO gone
      FROM crm_data.duplicate_pair AS d
           CROSS JOIN LATERAL (SELECT crm._match_doc(d.object_a, d.a_id) AS a, crm._match_doc(d.object_b, d.b_id) AS b) AS o
           LEFT JOIN LATERAL crm._match_compare(m.fields, m.params, o.b, o.a) AS k ON true
           LEFT JOIN LATERAL crm._match_judge(d.object_b, m.fields, k.evidence, o.a, k.probability, k.band) AS j ON k.evidence IS NOT NULL
     WHERE d.state = 'open' AND d.band <> 'none' AND (d.object_a = object AND d.a_id = ANY (ids) OR d.object_b = object AND d.b_id = ANY (ids))
       AND (o.a IS NULL OR o.b IS NULL
            OR j.rule IS NULL AND j.band = 'none'
               AND EXISTS (SELECT FROM jsonb_each(k.evidence->'fields') AS e WHERE e.value->'level' IS DISTINCT FROM d.evidence->'fields'->e.key->'level'));
    UPDATE crm_data.duplicate_pair AS d
       SET state = 'expired', locks_target = false, reason = 'the evidence is gone', decided_by = crm._caller(), decided_at = now(), updated_at = now(), updated_by = crm._caller()
     WHERE d.id = ANY (gone);
    RETURN coalesce(cardinality(gone), 0);
END
$$;
COMMENT ON FUNCTION crm._match_withdraw(text, bigint[]) IS 'Ends the open suggestions of records for which nothing speaks any more, with their locks: a changed field, a deleted record, a converted lead. Returns how many. Internal.';

CREATE OR REPLACE FUNCTION crm.scan_duplicates(object text, since timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    f record;
    n bigint;
BEGIN
    PERFORM crm._require_role('crm_admin', 'crm_steward', 'crm_sync');
    IF object = 'lead' THEN
        PERFORM FROM crm._object_model('account', true);
        RETURN crm._match_records('lead', coalesce((SELECT array_agg(l.id ORDER BY l.id) FROM crm_data.lead AS l
                                                     WHERE l.merged_into IS NULL AND l.deleted_at IS NULL AND l.converted_account_id IS NULL AND (since IS NULL OR l.updated_at >= since)), '{}'));
    END IF;
    SELECT * INTO m FROM crm._object_model(object, true);
    EXECUTE format(
        'SELECT array_agg(least(x.a::bigint, x.b::bigint)) AS a, array_agg(greatest(x.a::bigint, x.b::bigint)) AS b, array_agg(x.evidence) AS evidence,
                array_agg(j.score) AS scores, array_agg(j.band) AS bands, array_agg(j.rule) AS rules, array_agg(j.locks) AS locks
           FROM crm._match_pairs(%L::regclass, ''id'', $1, true, $2, NULL, (SELECT o.links FROM crm._match_model($3) AS o)) AS x
                JOIN %s AS ta ON ta.id = x.a::bigint JOIN %s AS tb ON tb.id = x.b::bigint
                CROSS JOIN LATERAL crm._match_judge($3, $1, x.evidence, CASE WHEN ta.id < tb.id THEN to_jsonb(ta) ELSE to_jsonb(tb) END, x.probability, x.band) AS j
          WHERE $4 IS NULL OR ta.updated_at >= $4 OR tb.updated_at >= $4', m.source, m.source, m.source)
        INTO f USING m.fields, m.params, object, since;
    n := CASE WHEN f.a IS NULL THEN 0 ELSE crm._record_pairs(object, f.a, object, f.b, f.scores, f.bands, f.rules, f.locks, f.evidence) END;
    RETURN n;
END
$$;
COMMENT ON FUNCTION crm.scan_duplicates(text, timestamptz) IS
'Looks for duplicates in a whole object and records what it finds as suggestions (duplicate_pair), with rule, band, probability and evidence; pairs that were decided stay decided. Leads are looked for among the accounts.
object: account, contact or lead. since: only pairs of which a record changed at or after that instant; NULL for all. Returns how many suggestions are new or changed. Errors: 22023 the object has no model.';

CREATE OR REPLACE FUNCTION crm._job_dedup_scan(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- what changed since the last scan that went through
    v_since timestamptz := coalesce((SELECT max(r.due_at) FROM crm_data.job_run AS r JOIN crm_data.job AS j ON j.id = r.job_id WHERE j.procedure = '_job_dedup_scan' AND r.state = 'done' AND r.due_at < due), due - interval '1 day');
    v_n bigint := 0;
    v_object text;
BEGIN
    FOREACH v_object IN ARRAY ARRAY['account', 'contact', 'lead'] LOOP
        v_n := v_n + crm.scan_duplicates(v_object, v_since);
    END LOOP;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_dedup_scan(timestamptz) IS 'Job: looks for duplicates among the customers, contacts and leads that changed since the last scan. Internal.';

CREATE OR REPLACE FUNCTION crm.reject_duplicate(pair bigint, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d crm_data.duplicate_pair;
BEGIN
    IF NOT crm.may('merge') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to decide about duplicates',
            HINT = 'A data steward may.';
    END IF;
    IF reason IS NULL OR btrim(reason) = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a rejection needs a reason';
    END IF;
    SELECT * INTO d FROM crm_data.duplicate_pair AS x WHERE x.id = pair FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('suggestion %s does not exist', pair);
    END IF;
    IF d.state <> 'open' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('the suggestion is %s already', d.state);
    END IF;
    UPDATE crm_data.duplicate_pair AS x
       SET state = 'rejected', locks_target = false, reason = btrim(reject_duplicate.reason), decided_by = crm._caller(), decided_at = now(), updated_at = now(), updated_by = crm._caller()
     WHERE x.id = pair;
    IF d.object_a = d.object_b THEN
        INSERT INTO crm_data.match_link (model, a, b, kind, reason, actor)
        SELECT s.model, CASE WHEN d.a_id::text COLLATE "C" < d.b_id::text THEN d.a_id ELSE d.b_id END::text,
               CASE WHEN d.a_id::text COLLATE "C" < d.b_id::text THEN d.b_id ELSE d.a_id END::text, 'cannot', btrim(reject_duplicate.reason), crm._caller()
          FROM crm_data.match_state AS s WHERE s.name = d.object_a
        ON CONFLICT (model, a, b) DO UPDATE SET kind = 'cannot', reason = excluded.reason;
    END IF;
END
$$;
COMMENT ON FUNCTION crm.reject_duplicate(bigint, text) IS
'Decides that a suggested pair is two: lifts its lock and keeps it from being suggested again.
pair: id of the suggestion. reason: why, not empty. Errors: 42501 no right to merge; P0002 no such suggestion; 55000 it was decided already; 22023 no reason.';

-- Found as they are typed

DROP TRIGGER IF EXISTS match_probe ON crm_data.account;
DROP TRIGGER IF EXISTS match_probe ON crm_data.contact;
DROP TRIGGER IF EXISTS match_probe ON crm_data.lead;

CREATE OR REPLACE FUNCTION crm._match_on_insert() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ids bigint[];
BEGIN
    IF NOT crm._match_paused() THEN
        SELECT array_agg(f.id ORDER BY f.id) INTO ids FROM fresh AS f;
        IF ids IS NOT NULL THEN
            PERFORM crm._match_records(TG_ARGV[0], ids);
        END IF;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._match_on_insert() IS
'Trigger that looks for duplicates of new records and records suggestions; a certain hit locks the original. Argument: the object. Internal. Errors: 40001 as in crm._match_records.';

CREATE OR REPLACE FUNCTION crm._match_on_update() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ids CONSTANT bigint[] := crm._match_noted(('crm_data.' || TG_ARGV[0])::regclass);
BEGIN
    IF ids <> '{}' THEN
        PERFORM crm._match_records(TG_ARGV[0], ids), crm._match_withdraw(TG_ARGV[0], ids);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm._match_on_update() IS
'Trigger that looks again for duplicates of the records whose match fields a statement changed, all of them when it fires for the first, or, for a statement on a view, after its last, and withdraws suggestions for which nothing speaks any more. Argument: the object. Internal. Errors: 40001 as in crm._match_records.';

GRANT EXECUTE ON FUNCTION crm._match_on_update() TO crm_gate;

DROP TRIGGER IF EXISTS match_insert ON crm_data.account;
CREATE TRIGGER match_insert AFTER INSERT ON crm_data.account REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION crm._match_on_insert('account');
COMMENT ON TRIGGER match_insert ON crm_data.account IS 'Finds duplicates of a new customer as it is typed.';
DROP TRIGGER IF EXISTS match_note ON crm_data.account;
CREATE TRIGGER match_note BEFORE UPDATE OF name, uscc, legal_person, legal_id4, phone, email, address, website, merged_into, deleted_at ON crm_data.account
    FOR EACH ROW WHEN ((OLD.name, OLD.uscc, OLD.legal_person, OLD.legal_id4, OLD.phone, OLD.email, OLD.address, OLD.website, OLD.merged_into, OLD.deleted_at)
                       IS DISTINCT FROM (NEW.name, NEW.uscc, NEW.legal_person, NEW.legal_id4, NEW.phone, NEW.email, NEW.address, NEW.website, NEW.merged_into, NEW.deleted_at))
    EXECUTE FUNCTION crm._match_note();
COMMENT ON TRIGGER match_note ON crm_data.account IS 'Notes customers whose match fields change.';
DROP TRIGGER IF EXISTS match_update ON crm_data.account;
CREATE TRIGGER match_update AFTER UPDATE OF name, uscc, legal_person, legal_id4, phone, email, address, website, merged_into, deleted_at ON crm_data.account
    FOR EACH ROW WHEN ((OLD.name, OLD.uscc, OLD.legal_person, OLD.legal_id4, OLD.phone, OLD.email, OLD.address, OLD.website, OLD.merged_into, OLD.deleted_at)
                       IS DISTINCT FROM (NEW.name, NEW.uscc, NEW.legal_person, NEW.legal_id4, NEW.phone, NEW.email, NEW.address, NEW.website, NEW.merged_into, NEW.deleted_at))
    EXECUTE FUNCTION crm._match_on_update('account');
COMMENT ON TRIGGER match_update ON crm_data.account IS 'Looks again for duplicates of the customers that were noted.';

DROP TRIGGER IF EXISTS match_insert ON crm_data.contact;
CREATE TRIGGER match_insert AFTER INSERT ON crm_data.contact REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION crm._match_on_insert('contact');
COMMENT ON TRIGGER match_insert ON crm_data.contact IS 'Finds duplicates of a new contact as it is typed.';
DROP TRIGGER IF EXISTS match_note ON crm_data.contact;
CREATE TRIGGER match_note BEFORE UPDATE OF name, phone, email, account_id, merged_into, deleted_at ON crm_data.contact
    FOR EACH ROW WHEN ((OLD.name, OLD.phone, OLD.email, OLD.account_id, OLD.merged_into, OLD.deleted_at) IS DISTINCT FROM (NEW.name, NEW.phone, NEW.email, NEW.account_id, NEW.merged_into, NEW.deleted_at))
    EXECUTE FUNCTION crm._match_note();
COMMENT ON TRIGGER match_note ON crm_data.contact IS 'Notes contacts whose match fields change.';
DROP TRIGGER IF EXISTS match_update ON crm_data.contact;
CREATE TRIGGER match_update AFTER UPDATE OF name, phone, email, account_id, merged_into, deleted_at ON crm_data.contact
    FOR EACH ROW WHEN ((OLD.name, OLD.phone, OLD.email, OLD.account_id, OLD.merged_into, OLD.deleted_at) IS DISTINCT FROM (NEW.name, NEW.phone, NEW.email, NEW.account_id, NEW.merged_into, NEW.deleted_at))
    EXECUTE FUNCTION crm._match_on_update('contact');
COMMENT ON TRIGGER match_update ON crm_data.contact IS 'Looks again for duplicates of the contacts that were noted.';

DROP TRIGGER IF EXISTS match_insert ON crm_data.lead;
CREATE TRIGGER match_insert AFTER INSERT ON crm_data.lead REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION crm._match_on_insert('lead');
COMMENT ON TRIGGER match_insert ON crm_data.lead IS 'Finds the customer that a new lead is.';
DROP TRIGGER IF EXISTS match_note ON crm_data.lead;
CREATE TRIGGER match_note BEFORE UPDATE OF name, company, phone, email, legal_id4, converted_account_id, merged_into, deleted_at ON crm_data.lead
    FOR EACH ROW WHEN ((OLD.name, OLD.company, OLD.phone, OLD.email, OLD.legal_id4, OLD.converted_account_id, OLD.merged_into, OLD.deleted_at)
                       IS DISTINCT FROM (NEW.name, NEW.company, NEW.phone, NEW.email, NEW.legal_id4, NEW.converted_account_id, NEW.merged_into, NEW.deleted_at))
    EXECUTE FUNCTION crm._match_note();
COMMENT ON TRIGGER match_note ON crm_data.lead IS 'Notes leads whose match fields change.';
DROP TRIGGER IF EXISTS match_update ON crm_data.lead;
CREATE TRIGGER match_update AFTER UPDATE OF name, company, phone, email, legal_id4, converted_account_id, merged_into, deleted_at ON crm_data.lead
    FOR EACH ROW WHEN ((OLD.name, OLD.company, OLD.phone, OLD.email, OLD.legal_id4, OLD.converted_account_id, OLD.merged_into, OLD.deleted_at)
                       IS DISTINCT FROM (NEW.name, NEW.company, NEW.phone, NEW.email, NEW.legal_id4, NEW.converted_account_id, NEW.merged_into, NEW.deleted_at))
    EXECUTE FUNCTION crm._match_on_update('lead');
COMMENT ON TRIGGER match_update ON crm_data.lead IS 'Looks again for the customers that the noted leads are.';

CREATE OR REPLACE FUNCTION crm._match_guard() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz;
BEGIN
    SELECT max(d.lock_expires_at) INTO until FROM crm_data.duplicate_pair AS d
     WHERE d.object_a = 'account' AND d.a_id = OLD.id AND d.state = 'open' AND d.locks_target AND d.lock_expires_at > clock_timestamp();
    IF until IS NOT NULL AND NOT crm.has_role('crm_steward') AND NOT crm.has_role('crm_admin') THEN
        RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = 'match fields and owner of the account are locked by a suspected duplicate',
            DETAIL = format('The lock ends by itself at %s.', until),
            HINT = 'A data steward decides with crm.merge() or crm.reject_duplicate().';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._match_guard() IS 'Trigger that keeps match fields and owner of an original while a certain duplicate waits for a decision; stewards and administrators may change them. Internal. Errors: 55P03 locked.';

DROP TRIGGER IF EXISTS match_guard ON crm_data.account;
CREATE TRIGGER match_guard BEFORE UPDATE OF name, phone, uscc, legal_id4, owner_id ON crm_data.account
    FOR EACH ROW WHEN ((OLD.name, OLD.phone, OLD.uscc, OLD.legal_id4, OLD.owner_id) IS DISTINCT FROM (NEW.name, NEW.phone, NEW.uscc, NEW.legal_id4, NEW.owner_id))
    EXECUTE FUNCTION crm._match_guard();
COMMENT ON TRIGGER match_guard ON crm_data.account IS 'Match fields and owner of an original stay while a certain duplicate waits for a decision.';
