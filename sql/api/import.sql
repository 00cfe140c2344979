-- Import: staged, validated, rehearsed, applied in chunks by value, undoable. Nothing enters the core tables unchecked, no row is dropped silently.
--
-- A file comes in as raw lines (COPY into the view crm.import_line, or crm.import_load); crm.import_validate cuts them into records, maps columns to fields,
-- resolves references and decides for every row what applying it would do; crm.import_apply does it. All of it is set-based: the statements are built from the
-- catalog (column types, checks, foreign keys), so that a custom column or a new table needs no new import code.

CREATE OR REPLACE FUNCTION crm.import_fields(object text)
    RETURNS TABLE (field text, col name, type text, kind text, refers_to text, required boolean, meaning text)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF object NOT IN ('team', 'member', 'product', 'account', 'contact', 'campaign', 'lead', 'opportunity', 'contract', 'interaction') THEN
        RAISE EXCEPTION 'object "%" cannot be imported', object
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Import into team, member, product, account, contact, campaign, lead, opportunity, contract or interaction.';
    END IF;
    RETURN QUERY
    SELECT CASE WHEN f.target IS NULL THEN f.attname::text ELSE regexp_replace(f.attname, '_id$', '') END,
           f.attname,
           format_type(f.atttypid, f.atttypmod),
           CASE WHEN f.target IS NOT NULL THEN 'reference' WHEN f.atttypid = 'jsonb'::regtype THEN 'json' ELSE 'value' END,
           f.target,
           f.attnotnull AND NOT f.atthasdef AND f.attidentity = '',
           f.meaning
      FROM (SELECT a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef, a.attidentity, a.attnum,
                   col_description(a.attrelid, a.attnum) AS meaning,
                   (SELECT t.relname::text FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.confrelid
                     WHERE c.conrelid = a.attrelid AND c.contype = 'f' AND c.conkey = ARRAY[a.attnum]) AS target
              FROM pg_attribute AS a
              LEFT JOIN crm_data.field AS r ON r.object = import_fields.object AND r.name = a.attname
             WHERE a.attrelid = format('crm_data.%I', import_fields.object)::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
               -- what is set once, when a lead comes, may come by a file too
               AND (coalesce(r.write_class, 'text') NOT IN ('engine', 'fixed') OR (import_fields.object = 'lead' AND a.attname IN ('source', 'channel', 'occurred_at')))
               AND a.attname NOT IN ('id', 'merged_into', 'created_at', 'created_by', 'updated_at', 'updated_by', 'row_version', 'field_version', 'last_hash', 'last_at',
                                     'deleted_at', 'op_seq', 'source_id', 'pipeline_id', 'furthest_stage_id', 'role_name')
           ) AS f
     WHERE (f.attname NOT LIKE '%\_id' OR f.target IS NOT NULL)
       AND (f.atttypid IN ('text'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'float8'::regtype, 'date'::regtype,
                           'timestamptz'::regtype, 'bool'::regtype, 'text[]'::regtype)
            OR (f.atttypid = 'jsonb'::regtype AND f.attname IN ('attrs', 'context', 'detail')))
     ORDER BY f.attnum;
    RETURN QUERY SELECT 'external_id', NULL::name, 'text', 'special', NULL::text, false, 'Identifier of the row in its source: the same identifier is the same record in every later import.';
    IF object = 'opportunity' THEN
        RETURN QUERY VALUES
            ('product', NULL::name, 'text', 'special', 'product', false, 'Product sold: becomes a line of the deal and its product line.'),
            ('quantity', NULL::name, 'numeric', 'special', NULL::text, false, 'Quantity of the product, 1 if absent.'),
            ('engaged_at', NULL::name, 'date', 'special', NULL::text, false, 'Day on which work on the deal began: its first entry in the stage history.');
    END IF;
END
$$;
COMMENT ON FUNCTION crm.import_fields(text) IS
'The fields that an import of an object can fill: name to use in a mapping, column, type, kind (value, reference by name or number, json for free keys written as "attrs.key", special), what a reference refers to, whether it must be mapped, and what it means.
object: team, member, product, account, contact, campaign, lead, opportunity, contract or interaction. Errors: 22023 another object.';

CREATE OR REPLACE FUNCTION crm._import_may(object text) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT crm.row_visible(object, 'create', NULL, NULL, NULL) AND crm.row_visible(object, 'update', NULL, NULL, NULL)
$$;
COMMENT ON FUNCTION crm._import_may(text) IS 'Internal: whether the caller may add and change all records of an object, as an import does.';

CREATE OR REPLACE FUNCTION crm._import_require(batch bigint) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT (SELECT crm._import_may(b.object) FROM crm_data.import_batch AS b WHERE b.id = batch) THEN
        RAISE EXCEPTION 'permission denied for import %', batch USING ERRCODE = 'insufficient_privilege', HINT = 'It is for those who may add and change all records of its object.';
    END IF;
END
$$;
COMMENT ON FUNCTION crm._import_require(bigint) IS 'Internal: raises 42501 unless the caller may import the object of a batch; an unknown batch is its caller''s to refuse.';

CREATE OR REPLACE FUNCTION crm._import_synonyms()
    RETURNS TABLE (object text, field text, labels text[])
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    VALUES ('account', 'external_id', ARRAY['account_id', 'customer_id', '客户编号', '客户ID']),
           ('account', 'name', ARRAY['account', 'account_name', 'company', 'company_name', 'customer', 'customer_name', '客户', '客户名称', '公司', '公司名称', '企业名称']),
           ('account', 'industry', ARRAY['sector', '行业', '所属行业']),
           ('account', 'region', ARRAY['office_location', 'location', 'country', '区域', '地区', '国家']),
           ('account', 'parent', ARRAY['subsidiary_of', 'parent_company', '上级公司', '母公司']),
           ('account', 'employees', ARRAY['headcount', 'number_of_employees', '员工人数', '人数']),
           ('account', 'annual_revenue', ARRAY['revenue', 'turnover', '年营业额', '营业额']),
           ('account', 'founded_year', ARRAY['year_established', 'founded', '成立年份']),
           ('account', 'phone', ARRAY['telephone', 'tel', 'mobile', '电话', '手机', '手机号', '联系电话']),
           ('account', 'email', ARRAY['e-mail', 'mail', '邮箱', '电子邮件']),
           ('account', 'address', ARRAY['地址', '公司地址']),
           ('account', 'uscc', ARRAY['统一社会信用代码', '信用代码']),
           ('account', 'legal_person', ARRAY['法人', '法定代表人']),
           ('account', 'legal_id4', ARRAY['法人身份证后4位']),
           ('account', 'owner', ARRAY['account_owner', 'sales_agent', 'sales_rep', '负责人', '销售']),
           ('account', 'grade', ARRAY['客户等级', '等级']),
           ('account', 'type', ARRAY['customer_type', '客户类型']),
           ('account', 'website', ARRAY['url', '网站']),
           ('product', 'name', ARRAY['product', 'product_name', '产品', '产品名称']),
           ('product', 'code', ARRAY['sku', 'product_code', '产品编码']),
           ('product', 'line', ARRAY['series', 'product_line', '产品线', '系列']),
           ('product', 'unit_price', ARRAY['sales_price', 'price', 'list_price', '单价', '价格']),
           ('member', 'full_name', ARRAY['sales_agent', 'name', 'employee', 'sales_rep', '姓名', '员工']),
           ('member', 'manager', ARRAY['supervisor', '经理', '上级']),
           ('member', 'team', ARRAY['regional_office', 'department', 'office', '部门', '团队']),
           ('member', 'employee_no', ARRAY['employee_id', 'employee_number', '工号']),
           ('member', 'phone', ARRAY['mobile', '手机', '电话']),
           ('member', 'email', ARRAY['mail', '邮箱']),
           ('member', 'hired_at', ARRAY['hire_date', '入职日期']),
           ('opportunity', 'external_id', ARRAY['opportunity_id', 'deal_id', '商机编号', '商机ID']),
           ('opportunity', 'name', ARRAY['opportunity', 'opportunity_name', 'deal_name', '商机', '商机名称']),
           ('opportunity', 'owner', ARRAY['sales_agent', 'sales_rep', 'opportunity_owner', '负责人', '销售']),
           ('opportunity', 'account', ARRAY['account_name', 'company', 'customer', '客户', '客户名称']),
           ('opportunity', 'stage', ARRAY['deal_stage', 'sales_stage', '阶段', '销售阶段']),
           ('opportunity', 'amount', ARRAY['close_value', 'value', 'deal_value', '金额', '预计金额']),
           ('opportunity', 'close_date', ARRAY['closing_date', 'expected_close', '成交日期', '预计成交日期']),
           ('opportunity', 'engaged_at', ARRAY['engage_date', 'opened', 'open_date', 'start_date', '开始日期']),
           ('opportunity', 'product', ARRAY['product_name', '产品']),
           ('contact', 'external_id', ARRAY['contact_id', '联系人编号']),
           ('contact', 'name', ARRAY['contact', 'contact_name', 'full_name', '联系人', '姓名']),
           ('contact', 'account', ARRAY['account_name', 'company', 'customer', '客户', '客户名称', '公司']),
           ('contact', 'title', ARRAY['job_title', 'position', '职位']),
           ('contact', 'phone', ARRAY['mobile', 'telephone', '手机', '电话']),
           ('contact', 'email', ARRAY['mail', '邮箱']),
           ('lead', 'external_id', ARRAY['lead_id', '线索编号']),
           ('lead', 'need', ARRAY['description', 'requirement', '需求', '需求描述']),
           ('lead', 'occurred_at', ARRAY['created', 'submitted_at', '提交时间']),
           ('lead', 'phone', ARRAY['mobile', '手机', '电话']),
           ('lead', 'name', ARRAY['lead_name', 'contact', 'contact_name', '姓名', '线索', '联系人']),
           ('lead', 'company', ARRAY['公司', '公司名称']),
           ('lead', 'source', ARRAY['lead_source', '来源']),
           ('contract', 'code', ARRAY['contract_no', 'contract_number', '合同编号']),
           ('contract', 'account', ARRAY['account_name', 'customer', '客户', '客户名称']),
           ('contract', 'signed_on', ARRAY['signed', 'sign_date', '签订日期']),
           ('contract', 'amount', ARRAY['contract_amount', '合同金额']),
           ('interaction', 'account', ARRAY['account_name', 'customer', '客户', '客户名称']),
           ('interaction', 'summary', ARRAY['note', 'notes', '跟进内容', '备注']),
           ('interaction', 'occurred_at', ARRAY['date', 'time', '跟进时间']),
           ('interaction', 'author', ARRAY['sales_agent', '跟进人']),
           ('interaction', 'kind', ARRAY['type', '跟进方式']),
           ('team', 'name', ARRAY['team', 'department', '团队', '部门']),
           ('campaign', 'name', ARRAY['campaign', 'campaign_name', '活动', '活动名称']);
END;
COMMENT ON FUNCTION crm._import_synonyms() IS 'Internal: the headings by which an import recognises a field besides its own name, English and Chinese.';

CREATE OR REPLACE FUNCTION crm.import_guess(columns text[], object text DEFAULT NULL)
    RETURNS TABLE (for_object text, mapping jsonb, matched int, unknown text[], missing text[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF columns IS NULL OR cardinality(columns) = 0 THEN
        RAISE EXCEPTION 'no columns given' USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the fields of the header, for example crm.csv_fields(''name,phone'').';
    END IF;
    RETURN QUERY
    WITH objects AS (
        SELECT o.name, o.ord FROM unnest(ARRAY['opportunity', 'account', 'contact', 'lead', 'product', 'member', 'contract', 'interaction', 'campaign', 'team'])
               WITH ORDINALITY AS o (name, ord)
         WHERE import_guess.object IS NULL OR o.name = import_guess.object
    ), fields AS (
        SELECT o.name AS obj, f.field, f.required, crm.label_key(l.label) AS label, l.pref
          FROM objects AS o
          CROSS JOIN LATERAL crm.import_fields(o.name) AS f
          LEFT JOIN crm._import_synonyms() AS s ON s.object = o.name AND s.field = f.field
          CROSS JOIN LATERAL unnest(ARRAY[f.field] || coalesce(s.labels, '{}')) WITH ORDINALITY AS l (label, pref)
         WHERE f.kind <> 'json'
    ), best AS (
        SELECT DISTINCT ON (f.obj, c.ord) f.obj, c.name, c.ord, f.field
          FROM unnest(columns) WITH ORDINALITY AS c (name, ord)
          JOIN fields AS f ON f.label = crm.label_key(c.name)
         ORDER BY f.obj, c.ord, f.pref, f.field
    ), once AS (        -- a field is filled from one column, the first that fits
        SELECT DISTINCT ON (b.obj, b.field) b.obj, b.field, b.name, b.ord FROM best AS b ORDER BY b.obj, b.field, b.ord
    ), scored AS (
        SELECT o.name AS obj, o.ord,
               (SELECT coalesce(jsonb_object_agg(x.name, x.field), '{}') FROM once AS x WHERE x.obj = o.name) AS map,
               (SELECT count(*)::int FROM once AS x WHERE x.obj = o.name) AS n,
               ARRAY(SELECT c.name FROM unnest(columns) WITH ORDINALITY AS c (name, ord)
                      WHERE NOT EXISTS (SELECT FROM once AS x WHERE x.obj = o.name AND x.ord = c.ord) AND c.name IS NOT NULL ORDER BY c.ord) AS unknown,
               ARRAY(SELECT DISTINCT f.field FROM fields AS f
                      WHERE f.obj = o.name AND NOT EXISTS (SELECT FROM once AS x WHERE x.obj = o.name AND x.field = f.field)
                        AND (f.required OR (f.obj = 'opportunity' AND f.field = 'stage'))
                        AND NOT (f.field = 'code' AND f.obj <> 'contract') AND NOT (f.field = 'name' AND f.obj = 'opportunity') ORDER BY 1) AS missing
          FROM objects AS o
    )
    SELECT s.obj, jsonb_build_object('columns', s.map), s.n, s.unknown, s.missing
      FROM scored AS s
     WHERE s.n > 0 OR import_guess.object IS NOT NULL
     ORDER BY cardinality(s.missing) = 0 DESC, s.n - 2 * cardinality(s.missing) DESC, s.ord
     LIMIT CASE WHEN import_guess.object IS NULL THEN 3 ELSE 1 END;
END
$$;
COMMENT ON FUNCTION crm.import_guess(text[], text) IS
'What a file may hold, from its header: the likeliest objects, best first, with the mapping of columns to fields, how many columns fit, columns that fit nothing and required fields that no column fills. Headings are compared without regard to case, blanks and width, in English and Chinese.
columns: fields of the header. object: only this one. No row: nothing fits. Errors: 22023 no columns.';

CREATE OR REPLACE FUNCTION crm.import_begin(object text, source text, mapping jsonb DEFAULT NULL, options jsonb DEFAULT '{}', file_name text DEFAULT NULL)
    RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_source bigint;
    v_batch bigint;
    v_bad text;
BEGIN
    PERFORM FROM crm.import_fields(import_begin.object);
    IF NOT crm._import_may(object) THEN
        RAISE EXCEPTION 'permission denied to import %', object USING ERRCODE = 'insufficient_privilege', HINT = 'An import is for those who may add and change all records of its object.';
    END IF;
    IF object IS NULL OR coalesce(source, '') = '' THEN
        RAISE EXCEPTION 'an import needs an object and a source' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'For example crm.import_begin(''account'', ''erp'').';
    END IF;
    IF mapping IS NOT NULL AND (jsonb_typeof(mapping) <> 'object' OR jsonb_typeof(coalesce(mapping -> 'columns', '{}')) <> 'object') THEN
        RAISE EXCEPTION 'the mapping is not an object of the form {"columns": {"heading": "field"}}' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'SELECT * FROM crm.import_guess(crm.csv_fields(''the header'')) proposes one.';
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO v_bad FROM jsonb_object_keys(coalesce(mapping, '{}')) AS k
     WHERE k NOT IN ('columns', 'values', 'defaults', 'scale');
    IF v_bad IS NOT NULL THEN
        RAISE EXCEPTION 'unknown part of a mapping: %', v_bad USING ERRCODE = 'invalid_parameter_value', HINT = 'A mapping has columns, values, defaults and scale.';
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO v_bad FROM jsonb_object_keys(coalesce(options, '{}')) AS k
     WHERE k NOT IN ('delimiter', 'date_order', 'unknown', 'unresolved', 'create_missing', 'on_duplicate', 'pipeline', 'engaged_stage', 'as_of', 'shift_days', 'rank', 'assign');
    IF v_bad IS NOT NULL THEN
        RAISE EXCEPTION 'unknown import option: %', v_bad USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Options: delimiter, date_order, unknown, unresolved, create_missing, on_duplicate, pipeline, engaged_stage, as_of, shift_days, rank, assign.';
    END IF;
    IF coalesce(options ->> 'date_order', 'MDY') NOT IN ('MDY', 'DMY') OR coalesce(options ->> 'unknown', 'report') NOT IN ('report', 'attrs', 'refuse')
       OR coalesce(options ->> 'unresolved', 'reject') NOT IN ('reject', 'null') OR coalesce(options ->> 'on_duplicate', 'merge') NOT IN ('merge', 'skip', 'insert')
       OR jsonb_typeof(coalesce(options -> 'create_missing', '[]')) <> 'array' OR jsonb_typeof(coalesce(options -> 'assign', 'true')) <> 'boolean' THEN
        RAISE EXCEPTION 'an import option has a value it cannot have' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'date_order: MDY, DMY. unknown: report, attrs, refuse. unresolved: reject, null. on_duplicate: merge, skip, insert. create_missing: a list of fields.';
    END IF;

    SELECT s.id INTO v_source FROM crm_data.source_system AS s WHERE s.name = source;
    IF v_source IS NULL THEN
        INSERT INTO crm_data.source_system (name, kind, label, mode) VALUES (source, 'file', jsonb_build_object('en', source, 'zh', source), 'pull')
        ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name RETURNING id INTO v_source;
    END IF;
    -- a load that this session began and left is not the one that COPY means
    UPDATE crm_data.import_batch SET loader_pid = NULL WHERE loader_pid = pg_backend_pid() AND state = 'staged';
    INSERT INTO crm_data.import_batch (object, source_id, file_name, loader_pid, mapping, options)
    VALUES (object, v_source, file_name, pg_backend_pid(), coalesce(mapping, '{}'), coalesce(options, '{}'))
    RETURNING id INTO v_batch;
    RETURN v_batch;
END
$$;
COMMENT ON FUNCTION crm.import_begin(text, text, jsonb, jsonb, text) IS
'Opens an import and returns its number. After it, in the same session: \copy crm.import_line (line) FROM ''file'' WITH (FORMAT csv, DELIMITER E''\x01'', QUOTE E''\x02''), or crm.import_load; the first line is the header.
object: see crm.import_fields. source: name of the system the rows come from, made when new; its identifiers make later imports of the same rows updates.
mapping: {"columns": {"heading": "field", "heading": null to ignore}, "values": {"heading": {"found": "meant"}}, "defaults": {"field": "value when empty"}, "scale": {"heading": factor}}; NULL: the active configuration field_map/<source>:<object>, else by the headings.
options: delimiter (found by itself); date_order MDY or DMY (found by itself where the file tells); unknown columns: report (default), attrs (kept there) or refuse; unresolved references: reject (default) or null; create_missing: reference fields whose missing records are made; on_duplicate of a record of another source: merge (default; fields survive as the configuration survivorship says), skip or insert; pipeline and engaged_stage (codes) for deals; as_of: day the file describes; shift_days: added to all dates; rank: field by whose value rows are applied first; assign: leads without an owner that are not older than 30 days are given to somebody, their clocks start then (default true).
Errors: 42501 not the caller''s to add and change; 22023 unknown object, mapping part or option; 22004 no source.';

CREATE OR REPLACE FUNCTION crm._import_line_insert() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_batch bigint;
BEGIN
    SELECT max(b.id) INTO v_batch FROM crm_data.import_batch AS b WHERE b.loader_pid = pg_backend_pid() AND b.state = 'staged';
    IF v_batch IS NULL THEN
        RAISE EXCEPTION 'no import is open in this session' USING ERRCODE = 'RM510',
            HINT = 'Call crm.import_begin(object, source) first; behind a connection pool, in the same transaction.';
    END IF;
    INSERT INTO crm_data.import_line (batch_id, line) VALUES (v_batch, coalesce(NEW.line, ''));
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm._import_line_insert() IS 'Internal: files a line that was copied into crm.import_line under the import that this session has open.';
GRANT EXECUTE ON FUNCTION crm._import_line_insert() TO crm_gate;    -- which owns the view

CREATE OR REPLACE FUNCTION crm.import_load(batch bigint, content text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rows bigint;
BEGIN
    PERFORM crm._import_require(batch);
    PERFORM FROM crm_data.import_batch AS b WHERE b.id = batch AND b.state IN ('staged', 'validated');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'import % takes no lines', batch USING ERRCODE = 'RM510', HINT = 'Open a new one with crm.import_begin(object, source).';
    END IF;
    INSERT INTO crm_data.import_line (batch_id, line)
    SELECT batch, rtrim(x.line, E'\r') FROM regexp_split_to_table(regexp_replace(content, E'\r?\n$', ''), E'\n') WITH ORDINALITY AS x (line, ord) ORDER BY x.ord;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
COMMENT ON FUNCTION crm.import_load(bigint, text) IS
'Adds lines to an open import, for programs that hold a file in memory; large files come by COPY (crm.import_begin). content: delimited text, the header first. Returns the number of lines. Errors: RM510 the import takes no lines.';

-- SQL of a query (k, id, n): the labels by which rows of a table are referred to, with the record and how many records have the label.
CREATE OR REPLACE FUNCTION crm._import_labels(target text, source_id bigint, pipeline_id bigint) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_columns text[];
    v_where text;
    v_parts text;
BEGIN
    SELECT array_agg(a.attname::text) INTO v_columns FROM pg_attribute AS a
     WHERE a.attrelid = format('crm_data.%I', target)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
    v_where := concat_ws(' AND ', 'true', CASE WHEN 'merged_into' = ANY (v_columns) THEN 't.merged_into IS NULL' END,
                         CASE WHEN 'deleted_at' = ANY (v_columns) THEN 't.deleted_at IS NULL' END,
                         CASE WHEN target = 'stage' THEN format('t.pipeline_id = %s', pipeline_id) END);
    SELECT string_agg(format('SELECT crm.label_key(t.%1$I::text) AS k, t.id FROM crm_data.%2$I AS t WHERE %3$s AND t.%1$I IS NOT NULL', c, target, v_where), ' UNION ALL ')
      INTO v_parts FROM unnest(ARRAY['code', 'name', 'full_name', 'employee_no']) AS c WHERE c = ANY (v_columns);
    IF target = 'stage' THEN
        v_parts := v_parts || format(' UNION ALL SELECT crm.label_key(l.value), t.id FROM crm_data.stage AS t, jsonb_each_text(t.label) AS l WHERE %s', v_where);
    ELSE
        v_parts := v_parts || format(' UNION ALL SELECT crm.label_key(x.external_id), t.id FROM crm_data.external_ref AS x JOIN crm_data.%I AS t ON t.id = x.record_id WHERE x.source_id = %s AND x.object = %L AND %s',
                                     target, source_id, target, v_where);
    END IF;
    RETURN format('SELECT y.k, min(y.id) AS id, count(DISTINCT y.id) AS n FROM (%s) AS y WHERE y.k IS NOT NULL GROUP BY y.k', v_parts);
END
$$;
COMMENT ON FUNCTION crm._import_labels(text, bigint, bigint) IS 'Internal: text of the query that resolves references to a table by code, name, number or identifier in the source.';

-- SQL that is true where the file's value (p) of a field survives beside the record's (t) when a row of another source is merged into a record.
CREATE OR REPLACE FUNCTION crm._import_survives(b crm_data.import_batch, col text) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rules jsonb := (SELECT c.body FROM crm_data.config AS c WHERE c.kind = 'survivorship' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active');
    v_rule text := coalesce(v_rules -> 'fields' ->> (b.object || '.' || col),
                            CASE WHEN EXISTS (SELECT FROM crm_data.config AS c WHERE c.kind = 'authority' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active' AND c.body -> 'fields' ? (b.object || '.' || col)) THEN 'source_priority' END,
                            v_rules ->> 'default', 'non_empty_first');
BEGIN
    RETURN format('p.%1$I IS NOT NULL AND (t.%1$I IS NULL%2$s)', col, CASE
        WHEN v_rule = 'longest' THEN format(' OR length(p.%1$I::text) > length(t.%1$I::text)', col)
        -- a file that does not say of which day it is has no age
        WHEN v_rule = 'most_recent' AND b.options ? 'as_of' THEN format(' OR p.%1$I <> t.%1$I AND %2$L::date > t.updated_at::date', col, b.options ->> 'as_of')
        WHEN v_rule = 'source_priority' THEN
            format(' OR p.%1$I <> t.%1$I AND %2$s > crm._source_rank(%3$L, %1$L, %4$s)', col, crm._source_rank(b.object, col, b.source_id), b.object,
                   CASE WHEN EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = format('crm_data.%I', b.object)::regclass AND a.attname = 'source_id') THEN 't.source_id' ELSE 'NULL' END)
        WHEN v_rule = 'validated_first' AND col = 'uscc' THEN ' OR crm.uscc_valid(p.uscc) AND NOT crm.uscc_valid(t.uscc)'
        WHEN v_rule = 'validated_first' AND col IN ('phone', 'email') THEN format(' OR crm.%1$s_key(p.%1$I) IS NOT NULL AND crm.%1$s_key(t.%1$I) IS NULL', col)
        ELSE '' END);
END
$$;
COMMENT ON FUNCTION crm._import_survives(crm_data.import_batch, text) IS 'Internal: the configured survivorship of a field as a condition on the file''s row p and the record t.';

-- SQL of the fields that a row of the file (p) changes in a record (t), with their old values. known: whether the row is the record's own, by its identifier.
CREATE OR REPLACE FUNCTION crm._import_changes(b crm_data.import_batch, cols text[], known text) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT '(SELECT coalesce(jsonb_object_agg(d.f, d.old), ''{}'') FROM (VALUES ' ||
                            string_agg(format('(%1$L, to_jsonb(t.%1$I), CASE WHEN %2$s THEN p.%1$I IS NOT NULL AND p.%1$I IS DISTINCT FROM t.%1$I ELSE %3$s END)', x, known, crm._import_survives(b, x)), ', ') ||
                            ') AS d (f, old, changed) WHERE d.changed)'
                       FROM unnest(cols) AS x WHERE x <> 'pipeline_id'), '''{}''::jsonb')
$$;
COMMENT ON FUNCTION crm._import_changes(crm_data.import_batch, text[], text) IS 'Internal: SQL for what a row of an import changes in the record that it is.';

CREATE OR REPLACE FUNCTION crm._import_match(b crm_data.import_batch, cols text[], OUT possible bigint, OUT not_compared bigint)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    v_do CONSTANT text := coalesce(b.options ->> 'on_duplicate', 'merge');
    m record;
    k record;
    v_line bigint := 0;
    v_rows bigint;
BEGIN
    possible := 0;
    SELECT count(*) INTO v_rows FROM crm_data.import_row AS r WHERE r.batch_id = b.id AND r.state = 'valid' AND r.action = 'insert';
    IF v_rows > 50000 THEN
        not_compared := v_rows;
    END IF;
    IF v_rows = 0 OR v_rows > 50000 THEN
        RETURN;
    END IF;
    SELECT * INTO m FROM crm._object_model(b.object, false);

    -- With the records that are there, a thousand rows at a time.
    LOOP
        SELECT array_agg(r.id) AS rows, array_agg(r.doc) AS docs, max(r.line_no) AS line, array_agg(crm.phone_key(r.doc ->> 'phone')) AS phones, array_agg(crm.email_key(r.doc ->> 'email')) AS emails,
               array_agg(CASE b.object WHEN 'account' THEN crm.company_key(r.doc ->> 'name') END) AS cores, array_agg(upper(r.doc ->> 'uscc')) AS usccs,
               array_agg((r.doc ->> 'account_id')::bigint) AS accounts, array_agg(NULL::bigint) AS skips
          INTO k
          FROM (SELECT x.id, x.doc, x.line_no FROM crm_data.import_row AS x
                 WHERE x.batch_id = b.id AND x.line_no > v_line AND x.state = 'valid' AND x.action = 'insert' ORDER BY x.line_no LIMIT 1000) AS r;
        EXIT WHEN k.rows IS NULL;
        v_line := k.line;
        EXECUTE format($q$
            UPDATE crm_data.import_row AS r
               SET action = CASE WHEN h.sure THEN CASE %3$L WHEN 'skip' THEN 'skip' ELSE 'merge' END ELSE r.action END,
                   record_id = CASE WHEN h.sure THEN h.id END,
                   reason = CASE WHEN h.sure THEN h.said END,
                   before = CASE WHEN h.sure AND %3$L = 'merge' THEN h.before END,
                   problems = CASE WHEN h.sure THEN r.problems ELSE coalesce(r.problems, '[]') || to_jsonb('perhaps ' || h.said) END
              FROM (SELECT g.n, g.id, g.band = 'auto' AND %3$L <> 'insert' AS sure,
                           format('the same as %1$s %%s: %%s, probability %%s', g.id, coalesce('rule ' || g.rule, 'all fields together'), round(g.score::numeric, 3)) AS said,
                           nullif((SELECT %2$s FROM jsonb_populate_record(NULL::crm_data.%1$I, $1[g.n]) AS p, crm_data.%1$I AS t WHERE t.id = g.id), '{}') AS before
                      FROM (SELECT DISTINCT ON (c.n) c.n, c.id, j.score, j.band, j.rule
                              FROM crm._match_near(%1$L, $3, $4, $5, $6, $7, $8) AS c
                                   CROSS JOIN LATERAL crm._match_doc(%1$L, c.id) AS o (doc)
                                   CROSS JOIN LATERAL crm._match_compare($9, $10, $1[c.n], o.doc) AS e
                                   CROSS JOIN LATERAL crm._match_judge(%1$L, $9, e.evidence, o.doc, e.probability, e.band) AS j
                             WHERE o.doc IS NOT NULL AND (j.rule IS NOT NULL OR j.band <> 'none')
                             ORDER BY c.n, j.band = 'auto' DESC, j.score DESC, c.id) AS g) AS h
             WHERE r.id = $2[h.n]$q$, b.object, crm._import_changes(b, cols, 'false'), v_do)
            USING k.docs, k.rows, k.phones, k.emails, k.cores, k.usccs, k.accounts, k.skips, m.fields, m.params;
    END LOOP;

    -- Among themselves: the first line of those that are certainly one takes from the others what it lacks. Of a key that very many rows share nothing is said.
    WITH RECURSIVE r AS MATERIALIZED (
        SELECT x.id, x.line_no, x.doc FROM crm_data.import_row AS x WHERE x.batch_id = b.id AND x.state = 'valid' AND x.action = 'insert'
    ), key AS MATERIALIZED (
        SELECT r.id, r.line_no, v.key
          FROM r CROSS JOIN LATERAL (VALUES ('p' || crm.phone_key(r.doc ->> 'phone')), ('e' || crm.email_key(r.doc ->> 'email')), ('u' || upper(r.doc ->> 'uscc')),
                                            (CASE b.object WHEN 'account' THEN 'c' || crm.company_key(r.doc ->> 'name') ELSE 'n' || (r.doc ->> 'account_id') || ' ' || crm.label_key(r.doc ->> 'name') END)) AS v (key)
         WHERE v.key IS NOT NULL
    ), near AS (
        SELECT DISTINCT y.id AS later, x.id AS first
          FROM (SELECT key.key FROM key GROUP BY key.key HAVING count(*) BETWEEN 2 AND 50) AS g JOIN key AS x ON x.key = g.key JOIN key AS y ON y.key = g.key AND y.line_no > x.line_no
    ), hit AS MATERIALIZED (
        SELECT DISTINCT ON (near.later, j.band = 'auto') near.later, near.first, f.line_no, j.band = 'auto' AND v_do <> 'insert' AS sure,
               format('the same as line %s: %s, probability %s', f.line_no, coalesce('rule ' || j.rule, 'all fields together'), round(j.score::numeric, 3)) AS said
          FROM near JOIN r AS l ON l.id = near.later JOIN r AS f ON f.id = near.first
               CROSS JOIN LATERAL crm._match_compare(m.fields, m.params, l.doc, f.doc) AS e
               CROSS JOIN LATERAL crm._match_judge(b.object, m.fields, e.evidence, f.doc, e.probability, e.band) AS j
         WHERE j.rule IS NOT NULL OR j.band <> 'none'
         ORDER BY near.later, j.band = 'auto', f.line_no
    ), root (id, root) AS (
        SELECT r.id, r.id FROM r WHERE NOT EXISTS (SELECT FROM hit WHERE hit.later = r.id AND hit.sure)
        UNION ALL
        SELECT hit.later, root.root FROM root JOIN hit ON hit.first = root.id AND hit.sure
    ), folded AS (
        SELECT root.root, jsonb_object_agg(e.key, e.value ORDER BY x.line_no DESC) FILTER (WHERE e.key <> '_key') AS doc, max(x.rank) AS rank,
               jsonb_agg(DISTINCT x.doc -> '_key') FILTER (WHERE x.id <> root.root) AS also
          FROM root JOIN crm_data.import_row AS x ON x.id = root.id CROSS JOIN LATERAL jsonb_each(x.doc) AS e
         WHERE v_do = 'merge' AND root.root IN (SELECT o.root FROM root AS o WHERE o.id <> o.root)
         GROUP BY root.root
    )
    UPDATE crm_data.import_row AS r
       SET doc = CASE WHEN fo.root IS NOT NULL THEN r.doc || fo.doc || jsonb_build_object('_also', fo.also) ELSE r.doc END,
           rank = coalesce(fo.rank, r.rank),
           action = CASE WHEN s.later IS NOT NULL THEN 'skip' ELSE r.action END,
           reason = CASE WHEN s.later IS NOT NULL THEN s.said ELSE r.reason END,
           problems = CASE WHEN s.later IS NULL AND n.later IS NOT NULL THEN coalesce(r.problems, '[]') || to_jsonb('perhaps ' || n.said) ELSE r.problems END
      FROM (SELECT hit.later AS id FROM hit UNION SELECT folded.root FROM folded) AS c
           LEFT JOIN folded AS fo ON fo.root = c.id
           LEFT JOIN hit AS s ON s.later = c.id AND s.sure
           LEFT JOIN hit AS n ON n.later = c.id AND NOT n.sure
     WHERE r.id = c.id;
    SELECT count(*) INTO possible FROM crm_data.import_row AS r
     WHERE r.batch_id = b.id AND r.state = 'valid' AND EXISTS (SELECT FROM jsonb_array_elements_text(r.problems) AS x WHERE x LIKE 'perhaps the same as %');
END
$$;
COMMENT ON FUNCTION crm._import_match(crm_data.import_batch, text[]) IS
'Internal: compares the new rows of a validated import with the records that are there and with each other, by the rules and the model of the object. What is certainly known is merged or skipped as the import says, what is possibly known is noted. cols: fields that a merge may fill. Above 50,000 new rows nothing is compared (not_compared).';

CREATE OR REPLACE FUNCTION crm.import_validate(batch bigint)
    RETURNS TABLE (item text, row_count bigint, detail text)
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET enable_nestloop = off SET jit = off     -- whole tables are joined, of which a fresh one has no statistics yet
AS $$
#variable_conflict use_variable
DECLARE
    b crm_data.import_batch;
    v_header text[];
    v_delimiter text;
    v_given jsonb;                  -- mapping as given or configured; NULL when guessed
    v_map jsonb;                    -- heading -> field
    v_values jsonb;
    v_defaults jsonb;
    v_scale jsonb;
    v_unknown text[] := '{}';
    v_missing text[];
    v_problem text;
    v_header_no bigint;
    v_tz text;
    v_day_first boolean;
    v_shift int;
    v_pipeline bigint;
    v_as_of date;
    v_explicit text[];              -- fields the caller mapped himself: even steward-owned ones may be overwritten
    v_create text[];
    f record;
    v_src text;
    v_expr text;
    v_name text;
    v_raws text[] := '{}';          -- layer v: texts
    v_cols text[] := '{}';          -- layer p: typed columns
    v_joins text := '';
    v_bads text[] := '{}';          -- problems that reject the row
    v_checks text[] := '{}';        -- the same, from the table's own checks
    v_notes text[] := '{}';         -- problems that do not
    v_doc text[] := '{}';
    v_doc_cols text[] := '{}';      -- columns of the table that the document fills
    v_cmp text[] := '{}';
    v_n int := 0;
    v_raw_of jsonb := '{}';         -- field -> number of its text
    v_key text;
    v_nat text;
    v_living text;
    v_rank text;
    v_has_merged boolean;
    v_has_deleted boolean;
    v_sql text;
    v_total bigint;
    v_large boolean;                -- worth telling how far we are
    v_shifts jsonb := '[]';
    v_counts jsonb;
    v_sep int[];
    v_match record;
    v_derived text[] := '{}';       -- columns that are read out of others
    c record;
BEGIN
    PERFORM crm._import_require(batch);
    SELECT * INTO b FROM crm_data.import_batch AS x WHERE x.id = batch FOR UPDATE;
    IF NOT FOUND OR b.state NOT IN ('staged', 'validated') THEN
        RAISE EXCEPTION 'import % cannot be validated', batch
            USING ERRCODE = 'RM510', DETAIL = coalesce('It is ' || b.state || '.', 'There is no such import.'), HINT = 'Open an import with crm.import_begin(object, source) and load its lines.';
    END IF;

    -- 1. The header.
    SELECT l.line INTO v_problem FROM crm_data.import_line AS l WHERE l.batch_id = batch ORDER BY l.id LIMIT 1;
    IF v_problem IS NULL THEN
        RAISE EXCEPTION 'import % has no lines', batch USING ERRCODE = 'RM512',
            HINT = 'Load the file: \copy crm.import_line (line) FROM ''file.csv'' WITH (FORMAT csv, DELIMITER E''\x01'', QUOTE E''\x02''). After a crash of the server it has to be loaded again.';
    END IF;
    v_delimiter := b.options ->> 'delimiter';
    IF v_delimiter IS NULL THEN
        SELECT d INTO v_delimiter FROM unnest(ARRAY[',', E'\t', ';', '|']) WITH ORDINALITY AS u (d, ord)
         ORDER BY length(v_problem) - length(replace(v_problem, d, '')) DESC, ord LIMIT 1;
    END IF;
    SELECT r.fields, r.problem, r.line_no + r.lines - 1 INTO v_header, v_problem, v_header_no
      FROM (SELECT * FROM crm._import_records(batch, v_delimiter, 0) LIMIT 1) AS r;
    IF v_header IS NULL THEN
        RAISE EXCEPTION 'the header of import % cannot be read: %', batch, v_problem USING ERRCODE = 'RM512', HINT = 'The first line must hold the headings of the columns.';
    END IF;
    v_header := ARRAY(SELECT coalesce(h.name, 'column_' || h.ord) FROM unnest(v_header) WITH ORDINALITY AS h (name, ord) ORDER BY h.ord);
    SELECT string_agg(DISTINCT h.name, ', ') INTO v_problem FROM (SELECT x.name, count(*) OVER (PARTITION BY crm.label_key(x.name)) AS n FROM unnest(v_header) AS x (name)) AS h WHERE h.n > 1;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'the header of import % has a heading twice: %', batch, v_problem USING ERRCODE = 'RM512', HINT = 'Rename one of the columns.';
    END IF;

    -- 2. The mapping: given, configured, or guessed from the headings.
    v_given := nullif(b.mapping, '{}');
    IF v_given IS NULL OR v_given -> 'columns' IS NULL THEN
        v_given := coalesce((SELECT x.body FROM crm_data.config AS x JOIN crm_data.source_system AS s ON s.id = b.source_id
                              WHERE x.kind = 'field_map' AND x.key = s.name || ':' || b.object AND x.scope = '*' AND x.status = 'active') || coalesce(v_given, '{}'), v_given);
    END IF;
    IF v_given -> 'columns' IS NOT NULL THEN
        SELECT coalesce(jsonb_object_agg(h.name, m.value), '{}') INTO v_map
          FROM unnest(v_header) AS h (name) JOIN jsonb_each(v_given -> 'columns') AS m ON crm.label_key(m.key) = crm.label_key(h.name);
        SELECT string_agg(m.key, ', ' ORDER BY m.key) INTO v_problem FROM jsonb_each(v_given -> 'columns') AS m
         WHERE NOT EXISTS (SELECT FROM unnest(v_header) AS h (name) WHERE crm.label_key(h.name) = crm.label_key(m.key));
        IF v_problem IS NOT NULL THEN
            RAISE EXCEPTION 'the mapping names columns that the file of import % does not have: %', batch, v_problem USING ERRCODE = 'RM512',
                DETAIL = 'The file has: ' || array_to_string(v_header, ', ') || '.', HINT = 'Correct the mapping, or check that it is the right file.';
        END IF;
        v_explicit := ARRAY(SELECT m.value #>> '{}' FROM jsonb_each(v_map) AS m WHERE m.value <> 'null');
        SELECT array_agg(h.name ORDER BY h.ord) INTO v_unknown FROM unnest(v_header) WITH ORDINALITY AS h (name, ord) WHERE NOT v_map ? h.name;
    ELSE
        SELECT g.mapping -> 'columns', g.unknown INTO v_map, v_unknown FROM crm.import_guess(v_header, b.object) AS g;
        v_explicit := '{}';
    END IF;
    v_unknown := coalesce(v_unknown, '{}');
    v_map := coalesce(v_map, '{}');
    v_values := coalesce(v_given -> 'values', '{}');
    v_defaults := coalesce(v_given -> 'defaults', '{}');
    v_scale := coalesce(v_given -> 'scale', '{}');
    SELECT string_agg(m.value #>> '{}', ', ') INTO v_problem FROM jsonb_each(v_map) AS m
     WHERE m.value <> 'null' AND NOT EXISTS (SELECT FROM crm.import_fields(b.object) AS x WHERE x.field = m.value #>> '{}' OR (x.kind = 'json' AND m.value #>> '{}' LIKE x.field || '.%'));
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'the mapping of import % names unknown fields of %: %', batch, b.object, v_problem USING ERRCODE = 'RM512',
            HINT = format('SELECT field, meaning FROM crm.import_fields(%L) lists the fields.', b.object);
    END IF;
    IF v_map = '{}' THEN
        RAISE EXCEPTION 'no column of import % is a field of %', batch, b.object USING ERRCODE = 'RM512', DETAIL = 'The file has: ' || array_to_string(v_header, ', ') || '.',
            HINT = format('Give a mapping; SELECT field, meaning FROM crm.import_fields(%L) lists the fields.', b.object);
    END IF;
    IF v_unknown <> '{}' AND b.options ->> 'unknown' = 'refuse' THEN
        RAISE EXCEPTION 'the file of import % has unknown columns: %', batch, array_to_string(v_unknown, ', ') USING ERRCODE = 'RM512',
            HINT = 'Map them to fields, to "attrs.key", or to null.';
    END IF;
    IF b.options ->> 'unknown' = 'attrs' AND EXISTS (SELECT FROM crm.import_fields(b.object) AS x WHERE x.field = 'attrs') THEN
        SELECT v_map || coalesce(jsonb_object_agg(u, 'attrs.' || u), '{}') INTO v_map FROM unnest(v_unknown) AS u;
    END IF;
    SELECT array_agg(x.field) INTO v_missing FROM crm.import_fields(b.object) AS x
     WHERE (x.required OR (b.object = 'opportunity' AND x.field = 'stage'))
       AND NOT (x.field = 'code' AND b.object <> 'contract') AND NOT (x.field = 'name' AND b.object = 'opportunity')
       AND NOT v_defaults ? x.field AND NOT EXISTS (SELECT FROM jsonb_each_text(v_map) AS m WHERE m.value = x.field);
    IF v_missing IS NOT NULL THEN
        RAISE EXCEPTION 'import % fills no %', batch, array_to_string(v_missing, ', ') USING ERRCODE = 'RM512', DETAIL = 'The file has: ' || array_to_string(v_header, ', ') || '.',
            HINT = 'Map a column to it, or give a default: {"columns": {"heading": "field"}, "defaults": {"field": "value"}}.';
    END IF;

    v_tz := coalesce((SELECT x.body ->> 'value' FROM crm_data.config AS x WHERE x.kind = 'setting' AND x.key = 'organisation.timezone' AND x.scope = '*' AND x.status = 'active'), 'Asia/Shanghai');
    v_shift := coalesce((b.options ->> 'shift_days')::int, 0);
    v_create := ARRAY(SELECT jsonb_array_elements_text(coalesce(b.options -> 'create_missing', CASE WHEN b.object = 'member' THEN '["team", "manager"]' ELSE '[]' END::jsonb)));
    -- an import writes nothing that its caller could not write row by row
    SELECT string_agg(x.field, ', ' ORDER BY x.field) INTO v_problem
      FROM crm.import_fields(b.object) AS x LEFT JOIN crm_data.field AS r ON r.object = b.object AND r.name = x.col AND NOT r.custom
     WHERE (v_defaults ? x.field OR EXISTS (SELECT FROM jsonb_each_text(v_map) AS m WHERE m.value = x.field OR (x.kind = 'json' AND m.value LIKE x.field || '.%'))) AND NOT crm._field_allowed('write', r.id, NULL, NULL) AND r.id IS NOT NULL
        OR x.field = ANY (v_create) AND NOT crm.row_visible(x.refers_to, 'create', NULL, NULL, NULL);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'permission denied for fields of import %: %', batch, v_problem USING ERRCODE = 'insufficient_privilege',
            HINT = 'Map their columns to null and leave them out of create_missing, or let somebody import who may write them.';
    END IF;
    IF b.object = 'opportunity' THEN
        SELECT p.id INTO v_pipeline FROM crm_data.pipeline AS p WHERE CASE WHEN b.options ? 'pipeline' THEN p.code = b.options ->> 'pipeline' ELSE p.is_default END;
        IF v_pipeline IS NULL THEN
            RAISE EXCEPTION 'there is no pipeline %', coalesce('"' || (b.options ->> 'pipeline') || '"', 'marked as the default') USING ERRCODE = 'RM512',
                HINT = 'Make it with crm.pipeline_put(code, name, stages), or name another in the option "pipeline".';
        END IF;
    END IF;

    -- 3. Day or month first: the file tells as soon as one number is above 12.
    v_day_first := (b.options ->> 'date_order' = 'DMY');
    IF NOT b.options ? 'date_order' THEN
        SELECT array_agg(h.ord::int) INTO v_sep FROM unnest(v_header) WITH ORDINALITY AS h (name, ord)
          JOIN crm.import_fields(b.object) AS x ON x.field = v_map ->> h.name AND x.type IN ('date', 'timestamp with time zone');
        IF v_sep IS NOT NULL THEN
            SELECT coalesce(sum((s.m[1]::int > 12)::int), 0) > 0 AND coalesce(sum((s.m[2]::int > 12)::int), 0) = 0 INTO v_day_first
              FROM crm._import_records(batch, v_delimiter, cardinality(v_header)) AS r
              CROSS JOIN LATERAL unnest(v_sep) AS i
              CROSS JOIN LATERAL regexp_match(r.fields[i], '^\s*(\d{1,2})[/-](\d{1,2})[/-]\d{4}') AS s (m)
             WHERE r.line_no > v_header_no AND s.m IS NOT NULL;
        END IF;
    END IF;
    v_day_first := coalesce(v_day_first, false);

    -- 4. One expression a field: its text, its value, what can be wrong with it.
    SELECT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = format('crm_data.%I', b.object)::regclass AND a.attname = 'merged_into'),
           EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = format('crm_data.%I', b.object)::regclass AND a.attname = 'deleted_at')
      INTO v_has_merged, v_has_deleted;
    FOR f IN
        SELECT x.field, x.col, x.type, x.kind, x.refers_to, x.required, h.ord, h.name AS heading, v_map ->> h.name AS target
          FROM crm.import_fields(b.object) AS x
          LEFT JOIN unnest(v_header) WITH ORDINALITY AS h (name, ord) ON v_map ->> h.name = x.field OR (x.kind = 'json' AND v_map ->> h.name LIKE x.field || '.%')
         WHERE h.ord IS NOT NULL OR v_defaults ? x.field
         ORDER BY x.kind = 'json', x.field, h.ord
    LOOP
        v_n := v_n + 1;
        v_name := '_v' || v_n;
        v_raw_of := v_raw_of || jsonb_build_object(f.field, v_n);
        v_src := CASE WHEN f.ord IS NULL THEN 'NULL::text' ELSE format('r.fields[%s]', f.ord) END;
        IF f.ord IS NOT NULL THEN
            v_src := format('CASE WHEN %1$s IN (''NULL'', ''null'', ''N/A'', ''n/a'', ''#N/A'', ''\N'', ''-'', ''--'') THEN NULL ELSE %1$s END', v_src);
            SELECT m.value::text INTO v_expr FROM jsonb_each(v_values) AS m WHERE crm.label_key(m.key) = crm.label_key(f.heading);
            IF v_expr IS NOT NULL THEN
                v_src := format('coalesce(%L::jsonb ->> (%s), %s)', v_expr, v_src, v_src);
            END IF;
        END IF;
        IF v_defaults ? f.field THEN
            v_src := format('coalesce(%s, %L)', v_src, v_defaults ->> f.field);
        END IF;
        v_raws := v_raws || format('%s AS %I', v_src, v_name);
        v_src := format('v.%I', v_name);

        IF f.kind = 'json' THEN
            v_doc := v_doc || format('%L, p.%I', '_json.' || f.target, v_name);
            CONTINUE;
        END IF;
        IF f.kind = 'reference' OR (f.kind = 'special' AND f.refers_to IS NOT NULL) THEN
            v_joins := v_joins || format(' LEFT JOIN (%s) AS l%s ON l%2$s.k = crm.label_key(%s)', crm._import_labels(f.refers_to, b.source_id, v_pipeline), v_n, v_src);
            v_cols := v_cols || format('CASE WHEN l%1$s.n = 1 THEN l%1$s.id END AS %2$I', v_n, coalesce(f.col, '_' || f.field || '_id')) || format('l%1$s.n AS _n%1$s', v_n);
            v_doc := v_doc || format('%L, p.%I', coalesce(f.col, '_' || f.field || '_id'), coalesce(f.col, '_' || f.field || '_id'));
            IF f.col IS NOT NULL THEN
                v_doc_cols := v_doc_cols || f.col::text;
                v_cmp := v_cmp || f.col::text;
            END IF;
            v_bads := v_bads || format('CASE WHEN p._n%1$s > 1 THEN %2$L || p.%3$I || %4$L || p._n%1$s || %5$L END', v_n, f.field || ': "', v_name, '" fits ', ' records');
            IF f.refers_to = b.object THEN
                -- the record it refers to may be another row of this file: linked at the end
                v_joins := v_joins || format(' LEFT JOIN (SELECT DISTINCT crm.label_key(s.__name__) AS k FROM v AS s) AS s%s ON s%1$s.k = crm.label_key(%s)', v_n, v_src);
                v_cols := v_cols || format('s%1$s.k AS _s%1$s', v_n);
                v_doc := v_doc || format('%L, CASE WHEN p._n%s IS NULL THEN p.%I END', '_self.' || f.col, v_n, v_name);
                v_expr := format('p.%I IS NOT NULL AND p._n%s IS NULL AND p._s%2$s IS NULL', v_name, v_n);
            ELSE
                v_expr := format('p.%I IS NOT NULL AND p._n%s IS NULL', v_name, v_n);
            END IF;
            IF f.field = ANY (v_create) THEN
                v_doc := v_doc || format('%L, CASE WHEN %s THEN p.%I END', '_new.' || f.refers_to || '.' || coalesce(f.col, '_' || f.field || '_id'), v_expr, v_name);
            ELSIF b.options ->> 'unresolved' = 'null' AND NOT f.required AND f.field <> 'stage' THEN
                v_notes := v_notes || format('CASE WHEN %s THEN %L || p.%I || %L END', v_expr, f.field || ': no ' || f.refers_to || ' "', v_name, '", left empty');
            ELSE
                v_bads := v_bads || format('CASE WHEN %s THEN %L || p.%I || %L END', v_expr, f.field || ': no ' || f.refers_to || ' "', v_name, '"');
            END IF;
            IF f.required OR f.field = 'stage' THEN
                v_bads := v_bads || format('CASE WHEN p.%I IS NULL THEN %L END', v_name, f.field || ': empty');
            END IF;
            CONTINUE;
        END IF;

        IF v_scale <> '{}' AND f.heading IS NOT NULL THEN
            SELECT m.value #>> '{}' INTO v_expr FROM jsonb_each(v_scale) AS m WHERE crm.label_key(m.key) = crm.label_key(f.heading);
        ELSE
            v_expr := NULL;
        END IF;
        v_expr := CASE
            WHEN f.type = 'text' THEN v_src
            WHEN f.type = 'text[]' THEN format('nullif(regexp_split_to_array(%s, ''\s*[;|、,，；]\s*''), ''{}'')', v_src)
            WHEN f.type IN ('smallint', 'integer', 'bigint') THEN
                format('CASE WHEN crm.parse_number(%1$s)%2$s BETWEEN %3$s AND %4$s AND (crm.parse_number(%1$s)%2$s) %% 1 = 0 THEN (crm.parse_number(%1$s)%2$s)::%5$s END', v_src,
                       CASE WHEN v_expr IS NULL THEN '' ELSE format(' * %L::numeric', v_expr) END,
                       CASE f.type WHEN 'smallint' THEN '-32768' WHEN 'integer' THEN '-2147483648' ELSE '-9223372036854775808' END,
                       CASE f.type WHEN 'smallint' THEN '32767' WHEN 'integer' THEN '2147483647' ELSE '9223372036854775807' END, f.type)
            WHEN f.type LIKE 'numeric%' OR f.type = 'double precision' THEN
                format('CASE WHEN abs(round(crm.parse_number(%1$s)%2$s, 4)) < %3$s THEN (crm.parse_number(%1$s)%2$s)::%4$s END', v_src,
                       CASE WHEN v_expr IS NULL THEN '' ELSE format(' * %L::numeric', v_expr) END,
                       CASE WHEN f.type ~ '\(\d+,\d+\)' THEN '1e' || ((regexp_match(f.type, '\((\d+),(\d+)\)'))[1]::int - (regexp_match(f.type, '\((\d+),(\d+)\)'))[2]::int) ELSE '1e300' END, f.type)
            WHEN f.type = 'date' THEN format('crm.parse_date(%s, %L)', v_src, v_day_first) || CASE WHEN v_shift <> 0 THEN format(' + %s', v_shift) ELSE '' END
            WHEN f.type = 'timestamp with time zone' THEN format('crm.parse_time(%s, %L, %L)', v_src, v_day_first, v_tz) || CASE WHEN v_shift <> 0 THEN format(' + interval ''%s days''', v_shift) ELSE '' END
            WHEN f.type = 'boolean' THEN format('CASE WHEN lower(%1$s) IN (''1'', ''t'', ''true'', ''y'', ''yes'', ''是'') THEN true WHEN lower(%1$s) IN (''0'', ''f'', ''false'', ''n'', ''no'', ''否'') THEN false END', v_src)
            END;
        v_name := coalesce(f.col, '_' || f.field);
        IF b.object = 'opportunity' AND f.field = 'amount' THEN
            -- a deal that is not won and worth nothing is a deal whose amount nobody wrote down
            v_expr := format('CASE WHEN (%s) = 0 AND (SELECT s.outcome FROM crm_data.stage AS s WHERE s.id = __stage__) IS DISTINCT FROM ''won'' THEN NULL ELSE %1$s END', v_expr);
        END IF;
        v_cols := v_cols || format('%s AS %I', v_expr, v_name);
        IF f.type <> 'text' THEN
            v_bads := v_bads || format('CASE WHEN p._v%1$s IS NOT NULL AND p.%2$I IS NULL' || CASE WHEN b.object = 'opportunity' AND f.field = 'amount' THEN ' AND crm.parse_number(p._v%1$s) IS DISTINCT FROM 0' ELSE '' END || ' THEN %3$L || left(p._v%1$s, 40) || %4$L END', v_n, v_name, f.field || ': "',
                CASE WHEN f.type IN ('date', 'timestamp with time zone') THEN '" is no date' WHEN f.type = 'boolean' THEN '" is neither yes nor no'
                     WHEN f.type IN ('smallint', 'integer', 'bigint') THEN '" is no whole number that fits' ELSE '" is no number that fits' END);
        END IF;
        IF f.required THEN
            v_bads := v_bads || format('CASE WHEN p._v%s IS NULL THEN %L END', v_n, f.field || ': empty');
        END IF;
        IF f.kind = 'special' THEN
            CONTINUE WHEN f.field = 'external_id';
            v_doc := v_doc || format('%L, p.%I', v_name, v_name);
        ELSE
            v_doc := v_doc || format('%L, p.%I', v_name, v_name);
            v_doc_cols := v_doc_cols || v_name;
            -- an import does not overwrite what stewards own unless the mapping says so
            IF NOT f.field IN ('grade', 'lifecycle', 'credit_rating') OR f.field = ANY (v_explicit) THEN
                v_cmp := v_cmp || v_name;
            END IF;
        END IF;
    END LOOP;
    SELECT array_agg(x) INTO v_cmp FROM unnest(v_cmp) AS x WHERE (x NOT IN ('owner_id', 'steward_id', 'team_id', 'pool_id') OR regexp_replace(x, '_id$', '') = ANY (v_explicit))
       AND NOT EXISTS (SELECT FROM crm_data.field AS once WHERE once.object = b.object AND once.name = x AND once.write_class = 'fixed');

    -- the table's own checks, on the columns that the file fills
    FOR c IN
        SELECT pg_get_expr(x.conbin, x.conrelid) AS expr, x.conname,
               (SELECT string_agg(a.attname, ', ') FROM pg_attribute AS a WHERE a.attrelid = x.conrelid AND a.attnum = ANY (x.conkey)) AS names
          FROM pg_constraint AS x
         WHERE x.conrelid = format('crm_data.%I', b.object)::regclass AND x.contype = 'c'
           AND NOT EXISTS (SELECT FROM unnest(x.conkey) AS k JOIN pg_attribute AS a ON a.attrelid = x.conrelid AND a.attnum = k WHERE a.attname <> ALL (v_doc_cols))
         ORDER BY x.conname
    LOOP
        v_checks := v_checks || format('CASE WHEN (%s) IS FALSE THEN %L END', c.expr, c.names || ': value not allowed');
    END LOOP;

    -- 5. What only some objects have.
    v_name := coalesce('_v' || (v_raw_of ->> CASE b.object WHEN 'member' THEN 'full_name' ELSE 'name' END), '_row');
    v_joins := replace(v_joins, '__name__', v_name);
    IF v_raw_of ? 'external_id' THEN
        v_key := 'v._v' || (v_raw_of ->> 'external_id');
    ELSIF b.object IN ('account', 'product', 'member', 'team', 'campaign') THEN
        -- two with one name and two codes are two
        v_key := format('coalesce(%s, crm.label_key(v.%I))', coalesce('v._v' || (v_raw_of ->> 'code'), 'NULL'), v_name);
    ELSIF v_raw_of ? 'code' THEN
        v_key := 'v._v' || (v_raw_of ->> 'code');
    ELSE
        v_key := '''row '' || md5(v._row)';
    END IF;
    -- the record that is there already, from another source or typed in: by its code; by its name if one of the two has no code, or one made of its name
    v_living := concat_ws(' AND ', 'true', CASE WHEN v_has_merged THEN 't.merged_into IS NULL' END, CASE WHEN v_has_deleted THEN 't.deleted_at IS NULL' END);
    v_nat := CASE
        WHEN b.object NOT IN ('account', 'product', 'member', 'team', 'campaign') OR b.options ->> 'on_duplicate' = 'insert' THEN 'CROSS JOIN (SELECT NULL::bigint AS id) AS n'
        WHEN v_raw_of ? 'code' THEN format($q$
              LEFT JOIN (SELECT t.id, t.code FROM crm_data.%1$I AS t WHERE %2$s) AS c ON e.id IS NULL AND c.code = p.code
              LEFT JOIN (SELECT crm.label_key(t.name) AS k, min(t.id) AS id, min(t.id) FILTER (WHERE t.code IS NULL OR t.code = upper(regexp_replace(t.name, '\s+', '-', 'g'))) AS uncoded
                           FROM crm_data.%1$I AS t WHERE %2$s GROUP BY 1) AS m ON e.id IS NULL AND c.id IS NULL AND m.k = crm.label_key(p.%3$I)
              CROSS JOIN LATERAL (SELECT coalesce(c.id, CASE WHEN p.code IS NULL THEN m.id ELSE m.uncoded END) AS id) AS n
            $q$, b.object, v_living, v_name)
        ELSE format('LEFT JOIN (SELECT crm.label_key(t.%3$I) AS k, min(t.id) AS id FROM crm_data.%1$I AS t WHERE %2$s GROUP BY 1) AS n ON e.id IS NULL AND n.k = crm.label_key(p.%4$I)',
                    b.object, v_living, CASE b.object WHEN 'member' THEN 'full_name' ELSE 'name' END, v_name) END;
    IF b.object IN ('product', 'team', 'campaign') AND NOT 'code' = ANY (v_doc_cols) THEN
        v_doc := v_doc || format('''code'', upper(regexp_replace(p.%I, ''\s+'', ''-'', ''g''))', v_name);
        v_doc_cols := v_doc_cols || 'code'::text;
    END IF;
    IF b.object = 'account' AND 'address' = ANY (v_doc_cols) THEN
        FOREACH v_expr IN ARRAY ARRAY['province', 'city', 'district'] LOOP
            CONTINUE WHEN v_expr = ANY (v_doc_cols);
            v_doc := v_doc || format('%1$L, (crm.address_parse(p.address)).%1$I', v_expr);
            v_derived := v_derived || v_expr;
        END LOOP;
    END IF;
    IF b.object = 'opportunity' THEN
        v_as_of := (b.options ->> 'as_of')::date + v_shift;
        v_doc := v_doc || format('''pipeline_id'', %s', v_pipeline);
        v_doc_cols := v_doc_cols || 'pipeline_id'::text;
        IF NOT 'name' = ANY (v_doc_cols) THEN
            v_doc := v_doc || format('''name'', concat_ws('' · '', %s, %s, p._key)', coalesce('p._v' || (v_raw_of ->> 'account'), 'NULL'), coalesce('p._v' || (v_raw_of ->> 'product'), 'NULL'));
            v_doc_cols := v_doc_cols || 'name'::text;
        END IF;
        IF EXISTS (SELECT FROM unnest(v_cols) AS x WHERE x LIKE '% AS _engaged_at') AND 'close_date' = ANY (v_doc_cols) THEN
            v_bads := v_bads || 'CASE WHEN p.close_date < p._engaged_at AND (SELECT s.outcome FROM crm_data.stage AS s WHERE s.id = p.stage_id) <> ''open'' THEN ''close_date: before engaged_at'' END'::text;
        END IF;
    END IF;
    v_rank := CASE WHEN b.options ? 'rank' THEN b.options ->> 'rank' WHEN 'amount' = ANY (v_doc_cols) THEN 'amount' WHEN 'annual_revenue' = ANY (v_doc_cols) THEN 'annual_revenue' END;
    IF v_rank IS NOT NULL AND NOT EXISTS (SELECT FROM crm.import_fields(b.object) AS x
                                          WHERE x.field = v_rank AND x.col = ANY (v_doc_cols) AND (x.type LIKE 'numeric%' OR x.type IN ('smallint', 'integer', 'bigint', 'double precision'))) THEN
        RAISE EXCEPTION 'rows cannot be ranked by "%"', v_rank USING ERRCODE = 'invalid_parameter_value', HINT = 'Name a mapped field that holds a number.';
    END IF;

    -- 6. One pass over the file.
    SELECT count(*) INTO v_total FROM crm_data.import_line AS l WHERE l.batch_id = batch;
    v_large := v_total >= 50000;
    IF v_large THEN
        RAISE NOTICE 'import %: checking % lines', batch, v_total;
    END IF;
    DELETE FROM crm_data.import_row AS x WHERE x.batch_id = batch;
    v_sql := format($q$
        WITH v AS MATERIALIZED (
            SELECT r.line_no AS _line, r.raw AS _raw, r.problem AS _problem, r.fields AS _fields, array_to_string(r.fields, E'\x1f', '') AS _row, %1$s
              FROM crm._import_records($1, $2, $3) AS r
             WHERE r.line_no > $4 AND r.problem IS DISTINCT FROM 'the line is empty'
        ), k AS (
            SELECT min(v._line) AS line, %3$s AS key, count(DISTINCT v._row) > 1 AS differ FROM v WHERE v._problem IS NULL GROUP BY 2 HAVING count(*) > 1
        ), p AS (
            SELECT q.*, array_to_string(ARRAY[%14$s]::text[], '; ') AS _checks FROM (SELECT v.*, %3$s AS _key%2$s FROM v%4$s) AS q
        )
        INSERT INTO crm_data.import_row (batch_id, line_no, raw, doc, rank, state, action, reason, problems, record_id, before)
        SELECT $1, x._line, x.raw, x.doc, x.rank,
               CASE WHEN x.reason IS NULL OR x.twin THEN 'valid' ELSE 'rejected' END,
               CASE WHEN x.reason IS NOT NULL AND NOT x.twin THEN NULL
                    WHEN x.twin THEN 'skip'
                    WHEN x.tid IS NULL THEN 'insert'
                    WHEN x.by_name AND $6 = 'skip' THEN 'skip'
                    WHEN x.before = '{}' AND NOT x.by_name THEN 'skip'
                    WHEN x.by_name THEN 'merge' ELSE 'update' END,
               coalesce(x.reason, CASE WHEN x.tid IS NOT NULL AND x.by_name THEN 'the same ' || $8 || ' is there from another source'
                                       WHEN x.tid IS NOT NULL AND x.before = '{}' THEN 'nothing new' END),
               x.notes, x.tid, nullif(x.before, '{}')
          FROM (
            SELECT p._line,
                   CASE WHEN p._problem IS NULL THEN jsonb_object($5, p._fields) ELSE to_jsonb(p._raw) END AS raw,
                   CASE WHEN p._problem IS NULL THEN jsonb_strip_nulls(jsonb_build_object('_key', p._key, %5$s)) END AS doc,
                   %6$s AS rank,
                   k.line IS NOT NULL AND k.line < p._line AND NOT k.differ AS twin,
                   CASE WHEN p._problem IS NOT NULL THEN p._problem
                        WHEN k.line IS NOT NULL AND k.line < p._line AND NOT k.differ THEN 'the same row as line ' || k.line
                        WHEN k.line IS NOT NULL AND k.line < p._line THEN 'the same identifier as line ' || k.line || ', with other values'
                        WHEN p._key IS NULL THEN 'the identifying column is empty'
                        ELSE nullif(concat_ws('; ', nullif(array_to_string(ARRAY[%7$s]::text[], '; '), ''), nullif(p._checks, '')), '') END AS reason,
                   CASE WHEN p._problem IS NULL THEN to_jsonb(nullif(array_remove(ARRAY[%8$s]::text[], NULL), '{}')) END AS notes,
                   t.id AS tid, e.id IS NULL AND t.id IS NOT NULL AS by_name,
                   CASE WHEN t.id IS NOT NULL THEN %9$s ELSE '{}' END AS before
              FROM p
              LEFT JOIN k ON k.key = p._key
              LEFT JOIN (SELECT er.external_id, %10$s AS id FROM crm_data.external_ref AS er JOIN crm_data.%11$I AS t0 ON t0.id = er.record_id
                          WHERE er.source_id = $7 AND er.object = $8%12$s) AS e ON e.external_id = p._key
              %13$s
              LEFT JOIN crm_data.%11$I AS t ON t.id = coalesce(e.id, n.id)
          ) AS x
        $q$,
        array_to_string(v_raws, ', '),
        CASE WHEN v_cols = '{}' THEN '' ELSE ', ' || array_to_string(v_cols, ', ') END,
        v_key, v_joins,
        array_to_string(v_doc, ', '),
        CASE WHEN v_rank IS NULL THEN '0' ELSE format('coalesce(p.%I, 0)', v_rank) END,
        array_to_string(v_bads, ', '), array_to_string(v_notes, ', '),
        crm._import_changes(b, v_cmp, 'e.id IS NOT NULL'),
        CASE WHEN v_has_merged THEN 'coalesce(t0.merged_into, t0.id)' ELSE 't0.id' END,
        b.object,
        CASE WHEN v_has_deleted THEN ' AND t0.deleted_at IS NULL' ELSE '' END,
        v_nat, array_to_string(v_checks, ', '));
    v_sql := replace(v_sql, '__stage__', CASE WHEN v_raw_of ? 'stage' THEN format('l%s.id', v_raw_of ->> 'stage') ELSE 'NULL' END);
    EXECUTE v_sql USING batch, v_delimiter, cardinality(v_header), v_header_no, v_header, coalesce(b.options ->> 'on_duplicate', 'merge'), b.source_id, b.object;
    GET DIAGNOSTICS v_total = ROW_COUNT;

    IF v_large THEN
        RAISE NOTICE 'import %: % rows read, comparing with what is there', batch, v_total;
    END IF;

    -- 7. Unique columns: taken by another record, or twice in the file.
    FOR c IN
        SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = format('crm_data.%I', b.object)::regclass AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = ANY (v_doc_cols)
    LOOP
        EXECUTE format($q$
            UPDATE crm_data.import_row AS r SET state = 'rejected', action = NULL, reason = %2$L || (r.doc ->> %1$L) || '" belongs to another record'
              FROM crm_data.%3$I AS t
             WHERE r.batch_id = $1 AND r.state = 'valid' AND r.action <> 'skip' AND t.%1$I::text = r.doc ->> %1$L AND t.id IS DISTINCT FROM r.record_id
        $q$, c.attname, c.attname || ': "', b.object) USING batch;
        EXECUTE format($q$
            UPDATE crm_data.import_row AS r SET state = 'rejected', action = NULL, reason = %2$L || (r.doc ->> %1$L) || '" is also in line ' || d.line
              FROM (SELECT y.doc ->> %1$L AS v, min(y.line_no) AS line FROM crm_data.import_row AS y
                     WHERE y.batch_id = $1 AND y.state = 'valid' AND y.action <> 'skip' AND y.doc ? %1$L GROUP BY 1 HAVING count(*) > 1) AS d
             WHERE r.batch_id = $1 AND r.state = 'valid' AND r.action <> 'skip' AND r.doc ->> %1$L = d.v AND r.line_no > d.line
        $q$, c.attname, c.attname || ': "') USING batch;
    END LOOP;

    -- 8. One record once, by the first of its lines, and another code is another record; then what the matcher knows of the new rows.
    UPDATE crm_data.import_row AS r SET action = 'insert', before = NULL, record_id = NULL, reason = NULL
      FROM (SELECT DISTINCT ON (x.record_id) x.record_id, x.line_no, x.doc ->> 'code' AS code FROM crm_data.import_row AS x
             WHERE x.batch_id = batch AND x.state = 'valid' AND x.action = 'merge' AND x.doc ? 'code' ORDER BY x.record_id, x.line_no) AS d
     WHERE r.batch_id = batch AND r.state = 'valid' AND r.action = 'merge' AND r.record_id = d.record_id AND r.line_no > d.line_no AND r.doc ->> 'code' <> d.code;
    UPDATE crm_data.import_row AS r SET action = 'skip', before = NULL, reason = 'the same as line ' || d.line || ', which is the same record'
      FROM (SELECT x.record_id, min(x.line_no) AS line FROM crm_data.import_row AS x WHERE x.batch_id = batch AND x.state = 'valid' AND x.record_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1) AS d
     WHERE r.batch_id = batch AND r.state = 'valid' AND r.action IN ('update', 'merge') AND r.record_id = d.record_id AND r.line_no > d.line;
    IF b.object IN ('account', 'contact') THEN
        SELECT * INTO v_match FROM crm._import_match(b, v_cmp);
    ELSE
        SELECT 0::bigint AS possible, NULL::bigint AS not_compared INTO v_match;
    END IF;

    -- 9. Does the file look like the records that are there? Population stability over the values of each field, at least 50 rows against 200.
    FOR c IN SELECT x.col, x.field, x.type FROM crm.import_fields(b.object) AS x
              WHERE x.col = ANY (v_doc_cols) AND x.kind <> 'json' AND x.field NOT IN ('name', 'code', 'phone', 'email', 'uscc', 'address', 'website', 'currency', 'account', 'parent')
                AND x.type <> 'text[]' AND x.type NOT LIKE 'timestamp%' AND x.type <> 'date'
    LOOP
        EXECUTE format($q$
            WITH old AS (%3$s),
                 new AS (SELECT r.doc ->> %1$L AS v FROM crm_data.import_row AS r WHERE r.batch_id = $1 AND r.state = 'valid' AND r.doc ? %1$L),
                 size AS (SELECT (SELECT count(*) FROM old) AS n_old, (SELECT count(*) FROM new) AS n_new),
                 cut AS (SELECT %4$s),
                 bin AS (SELECT %5$s AS b, count(*)::float8 AS o, 0::float8 AS i FROM old CROSS JOIN cut GROUP BY 1
                         UNION ALL SELECT %5$s, 0, count(*) FROM new AS old CROSS JOIN cut GROUP BY 1),
                 both_ AS (SELECT b, sum(o) AS o, sum(i) AS i FROM bin GROUP BY b),
                 k AS (SELECT count(*) AS k FROM both_)
            SELECT CASE WHEN max(k.k) > 60 OR max(size.n_old) < 200 OR max(size.n_new) < 50 THEN NULL
                        ELSE sum(((i + 0.5) / (n_new + 0.5 * k.k) - (o + 0.5) / (n_old + 0.5 * k.k)) * ln(((i + 0.5) / (n_new + 0.5 * k.k)) / ((o + 0.5) / (n_old + 0.5 * k.k)))) END
              FROM both_, size, k
        $q$, c.col, b.object,
            format('SELECT t.%1$I::text AS v FROM crm_data.%2$I AS t WHERE t.%1$I IS NOT NULL%3$s%4$s', c.col, b.object,
                   CASE WHEN v_has_merged THEN ' AND t.merged_into IS NULL' ELSE '' END, CASE WHEN v_has_deleted THEN ' AND t.deleted_at IS NULL' ELSE '' END),
            CASE WHEN c.type LIKE 'numeric%' OR c.type IN ('integer', 'bigint', 'double precision') THEN 'percentile_disc(ARRAY[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9]) WITHIN GROUP (ORDER BY old.v::numeric) AS at FROM old' ELSE 'NULL::numeric[] AS at' END,
            CASE WHEN c.type LIKE 'numeric%' OR c.type IN ('integer', 'bigint', 'double precision') THEN 'width_bucket(old.v::numeric, coalesce(cut.at, ''{0}''))::text' ELSE 'old.v' END)
        INTO v_expr USING batch;
        IF v_expr::float8 > 0.25 THEN
            v_shifts := v_shifts || jsonb_build_object('field', c.field, 'psi', round(v_expr::numeric, 3));
        END IF;
    END LOOP;

    SELECT jsonb_build_object('insert', count(*) FILTER (WHERE r.action = 'insert'), 'update', count(*) FILTER (WHERE r.action = 'update'),
                              'merge', count(*) FILTER (WHERE r.action = 'merge'), 'skip', count(*) FILTER (WHERE r.action = 'skip'),
                              'bad', count(*) FILTER (WHERE r.state = 'rejected'), 'noted', count(*) FILTER (WHERE r.problems IS NOT NULL AND r.state <> 'rejected'))
      INTO v_counts FROM crm_data.import_row AS r WHERE r.batch_id = batch;
    UPDATE crm_data.import_batch AS x
       SET state = 'validated', validated_at = now(), loader_pid = NULL, updated_at = now(), updated_by = session_user, rows_total = v_total,
           rows_valid = v_total - (v_counts ->> 'bad')::bigint, rows_rejected = (v_counts ->> 'bad')::bigint,
           report = jsonb_build_object('header', v_header, 'delimiter', v_delimiter, 'columns', v_map, 'filled', to_jsonb(v_doc_cols || v_derived), 'compared', to_jsonb(coalesce(v_cmp, '{}')),
                                       'unknown', to_jsonb(v_unknown), 'day_first', v_day_first, 'counts', v_counts, 'shifts', v_shifts, 'tz', v_tz, 'as_of', v_as_of)
     WHERE x.id = batch;

    RETURN QUERY
    SELECT y.item, y.n, y.detail FROM (
        SELECT 1 AS o, 'rows' AS item, v_total AS n, format('%s, import %s, %s', b.object, batch, (SELECT string_agg(m.key || ' -> ' || coalesce(m.value, 'ignored'), ', ' ORDER BY array_position(v_header, m.key)) FROM jsonb_each_text(v_map) AS m)) AS detail
        UNION ALL SELECT 2, 'insert', (v_counts ->> 'insert')::bigint, 'new records'
        UNION ALL SELECT 3, 'update', (v_counts ->> 'update')::bigint, 'known records that change'
        UNION ALL SELECT 4, 'merge', (v_counts ->> 'merge')::bigint, 'records there from another source: linked, fields survive as configured'
        UNION ALL SELECT 5, 'duplicate', (v_counts ->> 'skip')::bigint, 'the same again: nothing to do'
        UNION ALL SELECT 6, 'bad', (v_counts ->> 'bad')::bigint, coalesce('kept with line and reason: see crm.import_report(' || batch || ')', '')
        UNION ALL SELECT 7, 'possible duplicate', v_match.possible, 'new all the same; noted, and suggested to the data stewards after the import'
        UNION ALL SELECT 8, 'not compared', v_match.not_compared, format('too many to be compared beforehand: after the import run crm.scan_duplicates(%L)', b.object)
        UNION ALL SELECT 9, 'unknown column', 1, u || CASE WHEN v_map ? u THEN ', kept in attrs' ELSE ', not imported' END FROM unnest(v_unknown) AS u
        UNION ALL SELECT 10, 'shifted field', 1, format('%s: population stability %s > 0.25, to be confirmed with crm.import_confirm(%s, reason)', s ->> 'field', s ->> 'psi', batch) FROM jsonb_array_elements(v_shifts) AS s
    ) AS y WHERE y.o < 4 OR y.n > 0 ORDER BY y.o, y.detail;
END
$$;
COMMENT ON FUNCTION crm.import_validate(bigint) IS
'Rehearses an import: cuts the loaded lines into records, maps, converts and checks every row against types, checks, references, unique columns and what is there already, and says what applying it would do, changing nothing but the import itself. May be called again after more lines or another mapping.
New accounts and contacts, up to 50,000, are compared with the records that are there and with each other by the rules and the model of crm.find_duplicates: a certain one becomes a merge (or is skipped, option on_duplicate), with the record, the rule and the probability as its reason; a possible one is noted.
Returns counts of inserts, updates, merges, duplicates and bad rows, unknown columns, and fields whose distribution shifts (population stability index above 0.25: to be confirmed). Row by row: crm.import_report.
Errors: RM512 no lines, unreadable header, unknown column or field in the mapping, required field missing; RM510 already applied.';

CREATE OR REPLACE FUNCTION crm.import_report(batch bigint, verdicts text[] DEFAULT '{bad}')
    RETURNS TABLE (line_no bigint, verdict text, reason text, record_id bigint, changes jsonb, source jsonb)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM crm._import_require(batch);
    PERFORM FROM crm_data.import_batch AS b WHERE b.id = import_report.batch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no import %', import_report.batch USING ERRCODE = 'RM510', HINT = 'crm.import_begin returned the number.';
    END IF;
    RETURN QUERY
    SELECT r.line_no, w.verdict, concat_ws('; ', r.reason, (SELECT string_agg(n, '; ') FROM jsonb_array_elements_text(r.problems) AS n)), r.record_id,
           (SELECT jsonb_object_agg(c.key, jsonb_build_array(c.value, r.doc -> c.key)) FROM jsonb_each(r.before) AS c), r.raw
      FROM crm_data.import_row AS r
     CROSS JOIN LATERAL (SELECT CASE WHEN r.state = 'rejected' THEN 'bad' WHEN r.action = 'skip' THEN 'duplicate' ELSE r.action END) AS w (verdict)
     WHERE r.batch_id = import_report.batch AND w.verdict = ANY (verdicts)
     ORDER BY r.line_no;
END
$$;
COMMENT ON FUNCTION crm.import_report(bigint, text[]) IS
'Row by row what an import does or did: line of the file, verdict (insert, update, merge, duplicate, bad), reason, record, changes {field: [old, new]}, and the row as it came. Bad rows stay here; correct them in the source and import them again.
verdicts: which to show, by default the bad ones. Errors: RM510 no such import.';

CREATE OR REPLACE FUNCTION crm.import_confirm(batch bigint, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM crm._import_require(batch);
    IF btrim(reason) = '' THEN
        RAISE EXCEPTION 'a confirmation needs a reason' USING ERRCODE = 'invalid_parameter_value', HINT = 'Say why the distribution may change.';
    END IF;
    UPDATE crm_data.import_batch AS b
       SET report = b.report || jsonb_build_object('confirmed', jsonb_build_object('by', session_user, 'at', now(), 'reason', reason)), updated_at = now(), updated_by = session_user
     WHERE b.id = batch AND b.state = 'validated';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'import % has nothing to confirm', batch USING ERRCODE = 'RM510', HINT = 'Validate it first: crm.import_validate(batch).';
    END IF;
END
$$;
COMMENT ON FUNCTION crm.import_confirm(bigint, text) IS
'Confirms that the shifted distributions of a validated import are meant, with a reason that is kept. Errors: RM510 not validated; 22023 no reason.';

CREATE OR REPLACE FUNCTION crm._import_create_missing(batch bigint) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET enable_nestloop = off SET jit = off     -- whole tables are joined, of which a fresh one has no statistics yet
AS $$
DECLARE
    k record;
    m record;
    v_id bigint;
    v_team bigint;
    v_made jsonb := '{}';
BEGIN
    FOR k IN
        SELECT x.key, split_part(x.key, '.', 2) AS target, split_part(x.key, '.', 3) AS col
          FROM (SELECT DISTINCT jsonb_object_keys(r.doc) AS key FROM crm_data.import_row AS r WHERE r.batch_id = batch AND r.state = 'valid' AND r.action IN ('insert', 'update', 'merge')) AS x
         WHERE x.key LIKE '\_new.%' ORDER BY split_part(x.key, '.', 2) <> 'team', x.key
    LOOP
        FOR m IN
            SELECT crm.label_key(r.doc ->> k.key) AS label, min(r.doc ->> k.key) AS name, min(r.line_no) AS line, min(r.doc ->> 'team_id') AS team
              FROM crm_data.import_row AS r
             WHERE r.batch_id = batch AND r.state = 'valid' AND r.action IN ('insert', 'update', 'merge') AND r.doc ? k.key
             GROUP BY 1 ORDER BY 3
        LOOP
            v_team := CASE WHEN k.target = 'member' THEN m.team::bigint END;
            IF k.target = 'team' THEN
                INSERT INTO crm_data.team (code, name, region) VALUES (upper(regexp_replace(m.name, '\s+', '-', 'g')), m.name, m.name) RETURNING id INTO v_id;
            ELSIF k.target = 'member' THEN
                INSERT INTO crm_data.member (full_name, team_id, rank) VALUES (m.name, v_team, CASE WHEN k.col = 'manager_id' THEN 5 ELSE 0 END) RETURNING id INTO v_id;
            ELSIF k.target IN ('product', 'campaign') THEN
                EXECUTE format('INSERT INTO crm_data.%I (code, name) VALUES (upper(regexp_replace($1, ''\s+'', ''-'', ''g'')), $1) RETURNING id', k.target) INTO v_id USING m.name;
            ELSIF k.target = 'account' THEN
                INSERT INTO crm_data.account (name) VALUES (m.name) RETURNING id INTO v_id;
            ELSE
                RAISE EXCEPTION 'a missing % cannot be made by an import', k.target USING ERRCODE = 'invalid_parameter_value',
                    HINT = 'create_missing knows references to team, member, product, campaign and account.';
            END IF;
            UPDATE crm_data.import_row AS r SET doc = (r.doc - k.key) || jsonb_build_object(k.col, v_id)
             WHERE r.batch_id = batch AND r.state = 'valid' AND crm.label_key(r.doc ->> k.key) = m.label;
            v_made := jsonb_set(v_made, ARRAY[k.target], coalesce(v_made -> k.target, '[]') || to_jsonb(v_id));
        END LOOP;
    END LOOP;
    RETURN v_made;
END
$$;
COMMENT ON FUNCTION crm._import_create_missing(bigint) IS 'Internal: makes the records that the rows of an import refer to and that are nowhere, as far as the import may; returns their numbers by object.';

-- The batch that a chunk works on, for this session alone.
CREATE OR REPLACE FUNCTION crm._import_take(batch bigint, chunk int) RETURNS crm_data.import_batch
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    b crm_data.import_batch;
BEGIN
    IF chunk NOT BETWEEN 1 AND 100000 THEN
        RAISE EXCEPTION 'a chunk has 1 to 100000 rows, not %', chunk USING ERRCODE = 'invalid_parameter_value', HINT = 'Take the default of 10000.';
    END IF;
    PERFORM crm._import_require(batch);
    SELECT * INTO b FROM crm_data.import_batch AS x WHERE x.id = batch FOR UPDATE NOWAIT;
    RETURN b;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'import % is being worked on by another session', batch USING ERRCODE = 'lock_not_available', HINT = 'Wait for it to end; a second one would gain nothing.';
END
$$;
COMMENT ON FUNCTION crm._import_take(bigint, int) IS 'Internal: locks the batch of a chunk; NULL if there is none. Errors: 22023 the size of the chunk; 42501 not the caller''s to import; 55P03 another session works on it.';

CREATE OR REPLACE FUNCTION crm._import_apply_chunk(batch bigint, chunk int, order_by_value boolean, OUT more boolean, OUT note text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET enable_nestloop = off SET jit = off     -- whole tables are joined, of which a fresh one has no statistics yet
AS $$
#variable_conflict use_variable
DECLARE
    b crm_data.import_batch;
    v_ids bigint[];
    v_cols text[];
    v_table_cols text[];
    v_insert text[];
    v_values text[];
    v_json text[];
    v_sql text;
    v_n bigint;
    v_done bigint;
    v_self text;
    v_tz text;
    v_asof timestamptz;
    v_first bigint;
    v_col text;
    v_found bigint;
BEGIN
    b := crm._import_take(batch, chunk);
    IF b.id IS NULL OR b.state NOT IN ('validated', 'applying', 'applied') THEN
        RAISE EXCEPTION 'import % cannot be applied', batch
            USING ERRCODE = 'RM510', DETAIL = coalesce('It is ' || b.state || '.', 'There is no such import.'), HINT = 'Validate it first: SELECT * FROM crm.import_validate(batch).';
    END IF;
    IF b.state = 'applied' THEN
        more := false;
        note := format('import %s: already applied', batch);
        RETURN;
    END IF;
    IF b.state = 'validated' THEN
        IF b.report -> 'shifts' <> '[]' AND NOT b.report ? 'confirmed' THEN
            RAISE EXCEPTION 'import % shifts the distribution of %', batch, (SELECT string_agg(s ->> 'field', ', ') FROM jsonb_array_elements(b.report -> 'shifts') AS s)
                USING ERRCODE = 'RM511', DETAIL = 'Files that were cleaned badly show up this way.', HINT = format('Look at SELECT * FROM crm.import_validate(%s); if it is meant, SELECT crm.import_confirm(%1$s, ''why'').', batch);
        END IF;
        b.report := b.report || jsonb_build_object('created', crm._import_create_missing(batch));
        UPDATE crm_data.import_batch AS x SET state = 'applying', report = b.report, updated_at = now(), updated_by = session_user WHERE x.id = batch;
    END IF;

    v_tz := b.report ->> 'tz';
    v_cols := ARRAY(SELECT jsonb_array_elements_text(b.report -> 'filled'));
    -- references whose records were only just made are columns like any other
    v_table_cols := ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = format('crm_data.%I', b.object)::regclass AND a.attnum > 0 AND NOT a.attisdropped);
    IF order_by_value THEN
        v_ids := ARRAY(SELECT r.id FROM crm_data.import_row AS r WHERE r.batch_id = batch AND r.state = 'valid' AND r.action IN ('insert', 'update', 'merge') ORDER BY r.rank DESC, r.line_no LIMIT chunk);
    ELSE
        v_ids := ARRAY(SELECT r.id FROM crm_data.import_row AS r WHERE r.batch_id = batch AND r.state = 'valid' AND r.action IN ('insert', 'update', 'merge') ORDER BY r.line_no LIMIT chunk);
    END IF;
    more := cardinality(v_ids) > 0;

    IF more THEN
        -- a file is compared as a whole, not row by row
        PERFORM crm._match_pause(true);
        -- numbers first, so that rows and records correspond whatever the order of execution
        EXECUTE format('UPDATE crm_data.import_row AS r SET state = ''applied'', record_id = CASE WHEN r.action = ''insert'' THEN nextval(%L) ELSE r.record_id END,
                               after_version = CASE WHEN r.action = ''insert'' THEN 1 END WHERE r.id = ANY ($1)', pg_get_serial_sequence('crm_data.' || b.object, 'id')) USING v_ids;

        -- columns of the insert and their expressions; p is the document, m its owner, a its customer
        FOREACH v_col IN ARRAY v_cols LOOP
            v_insert := v_insert || v_col;
            v_values := v_values || CASE
                WHEN EXISTS (SELECT FROM pg_attribute AS x JOIN pg_attrdef AS d ON d.adrelid = x.attrelid AND d.adnum = x.attnum WHERE x.attrelid = format('crm_data.%I', b.object)::regclass AND x.attname = v_col)
                THEN format('coalesce(p.%I, %s)', v_col, (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute AS x JOIN pg_attrdef AS d ON d.adrelid = x.attrelid AND d.adnum = x.attnum
                                                         WHERE x.attrelid = format('crm_data.%I', b.object)::regclass AND x.attname = v_col))
                ELSE format('p.%I', v_col) END;
        END LOOP;
        FOR v_col IN SELECT DISTINCT split_part(x.k, '.', 1) FROM (SELECT jsonb_object_keys(b.report -> 'columns') AS h) AS y, LATERAL (SELECT b.report -> 'columns' ->> y.h AS k) AS x
                      WHERE x.k LIKE '%.%' AND split_part(x.k, '.', 1) = ANY (v_table_cols) LOOP
            v_insert := v_insert || v_col;
            v_values := v_values || format('(SELECT coalesce(jsonb_object_agg(substr(j.key, %s), j.value), ''{}'') FROM jsonb_each(r.doc) AS j WHERE j.key LIKE %L)',
                                           length('_json.' || v_col || '.') + 1, '\_json.' || v_col || '.%');
        END LOOP;
        IF b.object NOT IN ('member', 'team') AND 'team_id' = ANY (v_table_cols) THEN
            v_insert := array_remove(v_insert, 'team_id') || 'team_id'::text;
            v_values := ARRAY(SELECT v FROM unnest(v_values) AS v WHERE v NOT IN ('p.team_id')) || 'coalesce(p.team_id, m.team_id, a.team_id)'::text;
        END IF;
        IF 'account_id' = ANY (v_table_cols) THEN
            IF NOT 'grade' = ANY (v_insert) AND 'grade' = ANY (v_table_cols) THEN
                v_insert := v_insert || 'grade'::text;
                v_values := v_values || 'coalesce(a.grade, 0)'::text;
            END IF;
            IF NOT 'owner_id' = ANY (v_insert) AND 'owner_id' = ANY (v_table_cols) THEN
                v_insert := v_insert || 'owner_id'::text;
                v_values := v_values || 'a.owner_id'::text;
            END IF;
        END IF;
        IF 'source_id' = ANY (v_table_cols) THEN
            v_insert := v_insert || 'source_id'::text;
            v_values := v_values || format('%s::bigint', b.source_id);
        END IF;
        IF 'ts_assumed' = ANY (v_table_cols) AND 'occurred_at' = ANY (v_cols) THEN
            v_insert := v_insert || 'ts_assumed'::text;
            v_values := v_values || 'p.occurred_at IS NULL'::text;
        END IF;

        IF b.object = 'opportunity' THEN
            v_asof := coalesce((b.report ->> 'as_of')::date, least(current_date,
                               (SELECT max(greatest((r.doc ->> 'close_date')::date, (r.doc ->> '_engaged_at')::date)) FROM crm_data.import_row AS r WHERE r.batch_id = batch AND r.doc IS NOT NULL)))::timestamp AT TIME ZONE v_tz;
            v_asof := coalesce(v_asof, now());
            SELECT s.id INTO v_first FROM crm_data.stage AS s, crm_data.pipeline AS pl
             WHERE s.pipeline_id = pl.id AND s.outcome = 'open' AND CASE WHEN b.options ? 'pipeline' THEN pl.code = b.options ->> 'pipeline' ELSE pl.is_default END
             ORDER BY s.code = b.options ->> 'engaged_stage' DESC NULLS LAST, s.seq LIMIT 1;
            v_values := ARRAY(SELECT CASE v_insert[i] WHEN 'amount' THEN 'CASE WHEN g.outcome = ''won'' THEN coalesce(p.amount, d.list) ELSE coalesce(nullif(p.amount, 0), d.list) END' ELSE v_values[i] END
                                FROM generate_subscripts(v_values, 1) AS i ORDER BY i);
            IF NOT 'amount' = ANY (v_insert) THEN
                v_insert := v_insert || 'amount'::text;
                v_values := v_values || 'd.list'::text;
            END IF;
            IF NOT 'product_line' = ANY (v_insert) THEN
                v_insert := v_insert || 'product_line'::text;
                v_values := v_values || 'd.line'::text;
            END IF;
            IF NOT 'category' = ANY (v_insert) THEN
                v_insert := v_insert || 'category'::text;
                v_values := v_values || 'g.category'::text;
            END IF;
            v_insert := ARRAY(SELECT x FROM unnest(v_insert) AS x);
            FOREACH v_col IN ARRAY ARRAY['outcome', 'closed_at', 'stage_entered_at', 'created_at', 'stage_moves', 'furthest_stage_id'] LOOP
                v_values := ARRAY(SELECT v_values[i] FROM generate_subscripts(v_values, 1) AS i WHERE v_insert[i] <> v_col ORDER BY i);
                v_insert := array_remove(v_insert, v_col);
            END LOOP;
            v_insert := v_insert || ARRAY['outcome', 'closed_at', 'stage_entered_at', 'created_at', 'stage_moves', 'furthest_stage_id'];
            v_values := v_values || ARRAY['g.outcome', 'CASE WHEN g.outcome <> ''open'' THEN d.closed END',
                                          'CASE WHEN g.outcome <> ''open'' THEN d.closed ELSE d.opened END', 'd.opened',
                                          'CASE WHEN g.outcome <> ''open'' THEN 1 ELSE 0 END', 'CASE WHEN g.outcome = ''open'' THEN g.id ELSE $3 END'];
            v_sql := format($q$
                WITH src AS MATERIALIZED (
                    SELECT r.id AS row_id, r.record_id, r.doc, z.opened, greatest(coalesce((r.doc ->> 'close_date')::date::timestamp AT TIME ZONE %1$L, $4), z.opened) AS closed,
                           pr.id AS product_id, pr.line, round(pr.unit_price * coalesce((r.doc ->> '_quantity')::numeric, 1), 2) AS list, pr.unit_price,
                           coalesce((r.doc ->> '_quantity')::numeric, 1) AS quantity, r.doc ? '_engaged_at' AS has_start
                      FROM crm_data.import_row AS r
                     CROSS JOIN LATERAL (SELECT coalesce((r.doc ->> '_engaged_at')::date::timestamp AT TIME ZONE %1$L,
                                                         least((r.doc ->> 'close_date')::date::timestamp AT TIME ZONE %1$L, $4)) AS opened) AS z
                      LEFT JOIN crm_data.product AS pr ON pr.id = (r.doc ->> '_product_id')::bigint
                     WHERE r.id = ANY ($1) AND r.action = 'insert'
                ), ins AS (
                    INSERT INTO crm_data.opportunity (id, %2$s) OVERRIDING SYSTEM VALUE
                    SELECT d.record_id, %3$s
                      FROM src AS d JOIN crm_data.import_row AS r ON r.id = d.row_id
                     CROSS JOIN LATERAL jsonb_populate_record(NULL::crm_data.opportunity, r.doc) AS p
                      JOIN crm_data.stage AS g ON g.id = p.stage_id
                      JOIN crm_data.account AS a ON a.id = p.account_id
                      LEFT JOIN crm_data.member AS m ON m.id = p.owner_id
                    RETURNING id, account_id, stage_id, outcome, amount, currency, close_date, owner_id, team_id, grade
                ), lines AS (
                    INSERT INTO crm_data.line_item (opportunity_id, account_id, product_id, quantity, unit_price, currency, sold_on, owner_id, team_id, grade)
                    SELECT o.id, o.account_id, d.product_id, d.quantity, coalesce(round(o.amount / d.quantity, 2), d.unit_price, 0), o.currency,
                           CASE WHEN o.outcome = 'won' THEN o.close_date END, o.owner_id, o.team_id, o.grade
                      FROM ins AS o JOIN src AS d ON d.record_id = o.id WHERE d.product_id IS NOT NULL
                )
                INSERT INTO crm_data.stage_history (opportunity_id, account_id, from_stage_id, to_stage_id, entered_at, left_at, recorded_at, ts_assumed, amount, currency, close_date, actor, owner_id, team_id, grade)
                SELECT o.id, o.account_id, h.from_stage, h.to_stage, h.entered, h.left_at, h.entered, true, h.amount, o.currency, h.close_date, 'import', o.owner_id, o.team_id, o.grade
                  FROM ins AS o JOIN src AS d ON d.record_id = o.id
                 CROSS JOIN LATERAL (
                     SELECT NULL::bigint AS from_stage, CASE WHEN o.outcome = 'open' THEN o.stage_id ELSE $3 END AS to_stage, d.opened AS entered,
                            CASE WHEN o.outcome <> 'open' THEN d.closed END AS left_at, coalesce(d.list, o.amount) AS amount,
                            CASE WHEN o.outcome = 'open' THEN o.close_date END AS close_date
                     UNION ALL
                     SELECT $3, o.stage_id, d.closed, NULL, o.amount, o.close_date WHERE o.outcome <> 'open') AS h
                $q$, v_tz,
                (SELECT string_agg(quote_ident(x), ', ' ORDER BY ord) FROM unnest(v_insert) WITH ORDINALITY AS u (x, ord)), array_to_string(v_values, ', '));
            EXECUTE v_sql USING v_ids, batch, v_first, v_asof;
        ELSE
            v_sql := format($q$
                INSERT INTO crm_data.%1$I (id, %2$s) OVERRIDING SYSTEM VALUE
                SELECT r.record_id, %3$s
                  FROM crm_data.import_row AS r
                 CROSS JOIN LATERAL jsonb_populate_record(NULL::crm_data.%1$I, r.doc) AS p%4$s%5$s
                 WHERE r.id = ANY ($1) AND r.action = 'insert'
                $q$, b.object,
                (SELECT string_agg(quote_ident(x), ', ' ORDER BY ord) FROM unnest(v_insert) WITH ORDINALITY AS u (x, ord)), array_to_string(v_values, ', '),
                CASE WHEN 'owner_id' = ANY (v_table_cols) THEN ' LEFT JOIN crm_data.member AS m ON m.id = p.owner_id' ELSE ' CROSS JOIN (SELECT NULL::bigint AS team_id) AS m' END,
                CASE WHEN 'account_id' = ANY (v_table_cols) THEN ' LEFT JOIN crm_data.account AS a ON a.id = p.account_id' ELSE ' CROSS JOIN (SELECT NULL::bigint AS team_id, NULL::smallint AS grade) AS a' END);
            EXECUTE v_sql USING v_ids;
        END IF;

        -- changes: a field that somebody has edited since the rehearsal keeps the edit
        IF EXISTS (SELECT FROM crm_data.import_row AS r WHERE r.id = ANY (v_ids) AND r.before IS NOT NULL) THEN
            SELECT string_agg(format('%1$I = CASE WHEN r.before ? %1$L AND coalesce(to_jsonb(t.%1$I), ''null'') = r.before -> %1$L THEN p.%1$I ELSE t.%1$I END', x), ', ')
              INTO v_sql FROM jsonb_array_elements_text(b.report -> 'compared') AS x;
            IF b.object = 'opportunity' THEN
                -- a deal that the file says is closed was so on the day that the file says
                v_sql := v_sql || format(', stage_entered_at = CASE WHEN r.before ? ''stage_id'' AND (SELECT s.outcome FROM crm_data.stage AS s WHERE s.id = p.stage_id) <> ''open'' AND p.close_date IS NOT NULL
                                               THEN greatest(t.stage_entered_at, p.close_date::timestamp AT TIME ZONE %L) ELSE t.stage_entered_at END', v_tz);
            END IF;
            EXECUTE format($q$
                WITH u AS (
                    UPDATE crm_data.%1$I AS t SET %2$s
                      FROM crm_data.import_row AS r CROSS JOIN LATERAL jsonb_populate_record(NULL::crm_data.%1$I, r.doc) AS p
                     WHERE r.id = ANY ($1) AND r.before IS NOT NULL AND t.id = r.record_id
                    RETURNING r.id, t.row_version
                )
                UPDATE crm_data.import_row AS r SET after_version = u.row_version FROM u WHERE r.id = u.id
                $q$, b.object, v_sql) USING v_ids;
        END IF;

        INSERT INTO crm_data.external_ref (source_id, external_id, object, record_id, digest)
        SELECT b.source_id, y.key, b.object, r.record_id, sha256(convert_to(r.raw::text, 'UTF8'))
          FROM crm_data.import_row AS r CROSS JOIN LATERAL (SELECT r.doc ->> '_key' AS key UNION SELECT jsonb_array_elements_text(r.doc -> '_also')) AS y WHERE r.id = ANY (v_ids)
        ON CONFLICT (source_id, object, external_id) DO UPDATE SET record_id = EXCLUDED.record_id, digest = EXCLUDED.digest, updated_at = now(), updated_by = session_user;

        -- a backlog of leads finds its people like any other lead, the oldest first; its clocks start now. What is old is history.
        IF b.object = 'lead' AND coalesce((b.options ->> 'assign')::boolean, true) THEN
            PERFORM crm.assign_lead(l.id) FROM crm_data.lead AS l JOIN crm_data.import_row AS r ON r.record_id = l.id
              WHERE r.id = ANY (v_ids) AND r.action = 'insert' AND l.state = 'new' AND l.owner_id IS NULL AND l.occurred_at > now() - interval '30 days' ORDER BY l.occurred_at, l.id;
            UPDATE crm_data.import_row AS r SET after_version = l.row_version FROM crm_data.lead AS l WHERE r.id = ANY (v_ids) AND r.action = 'insert' AND l.id = r.record_id;
        END IF;

        v_n := cardinality(v_ids);
        UPDATE crm_data.import_batch AS x SET rows_applied = x.rows_applied + v_n, applied_at = now(), updated_at = now(), updated_by = session_user
         WHERE x.id = batch RETURNING x.rows_applied INTO v_done;
        PERFORM crm._match_pause(false);
        note := format('import %s: %s of %s rows applied', batch, v_done,
                       (b.report #>> '{counts,insert}')::bigint + (b.report #>> '{counts,update}')::bigint + (b.report #>> '{counts,merge}')::bigint);
        RETURN;
    END IF;

    -- Everything is in: link rows that refer to rows of the same file, and close.
    FOR v_self IN SELECT x.col::text FROM crm.import_fields(b.object) AS x WHERE x.refers_to = b.object AND x.col = ANY (v_cols) LOOP
        EXECUTE format($q$
            UPDATE crm_data.%1$I AS t SET %2$I = l.id
              FROM crm_data.import_row AS r JOIN (%3$s) AS l ON l.k = crm.label_key(r.doc ->> %4$L) AND l.n = 1
             WHERE r.batch_id = $1 AND r.state = 'applied' AND r.action = 'insert' AND r.doc ? %4$L AND t.id = r.record_id AND t.id <> l.id AND t.%2$I IS DISTINCT FROM l.id
            $q$, b.object, v_self, crm._import_labels(b.object, b.source_id, NULL), '_self.' || v_self) USING batch;
        EXECUTE format('UPDATE crm_data.import_row AS r SET after_version = t.row_version FROM crm_data.%I AS t WHERE r.batch_id = $1 AND r.state = ''applied'' AND r.action = ''insert'' AND r.doc ? %L AND t.id = r.record_id',
                       b.object, '_self.' || v_self) USING batch;
    END LOOP;
    DELETE FROM crm_data.import_line AS l WHERE l.batch_id = batch;
    IF b.object IN ('account', 'contact', 'lead') THEN
        v_ids := ARRAY(SELECT r.record_id FROM crm_data.import_row AS r WHERE r.batch_id = batch AND r.state = 'applied' AND r.action = 'insert' ORDER BY 1);
        IF cardinality(v_ids) <= 20000 THEN
            v_found := crm._match_records(b.object, v_ids);
        END IF;
    END IF;
    IF b.rows_applied >= 10000 THEN
        EXECUTE format('ANALYZE crm_data.%I, crm_data.external_ref', b.object);
    END IF;
    UPDATE crm_data.import_batch AS x SET state = 'applied', applied_at = now(), updated_at = now(), updated_by = session_user WHERE x.id = batch RETURNING x.rows_applied INTO v_done;
    note := format('import %s: done, %s rows applied, %s bad rows kept', batch, v_done, b.rows_rejected) ||
            CASE WHEN v_found > 0 THEN format(', possible duplicates suggested: %s', v_found)
                 WHEN v_found IS NULL AND b.object IN ('account', 'contact', 'lead') THEN format('; look for duplicates with crm.scan_duplicates(%L)', b.object) ELSE '' END;
END
$$;
COMMENT ON FUNCTION crm._import_apply_chunk(bigint, int, boolean) IS 'Internal: one transaction''s worth of crm.import_apply; whether there is more, and what to tell.';

CREATE OR REPLACE FUNCTION crm.pipeline_put(code text, name text, stages jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v_pipeline bigint;
    v_problem text;
BEGIN
    IF jsonb_typeof(stages) <> 'array' OR jsonb_array_length(stages) = 0 THEN
        RAISE EXCEPTION 'stages is not a list' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give [{"code": "demo", "name": "Demo", "probability": 0.4}, {"code": "won", "name": "Won", "outcome": "won"}].';
    END IF;
    SELECT coalesce(s ->> 'code', s ->> 'name', '?') INTO v_problem FROM jsonb_array_elements(stages) AS s
     WHERE coalesce(s ->> 'code', '') = '' OR coalesce(s ->> 'outcome', 'open') NOT IN ('open', 'won', 'lost')
        OR (coalesce(s ->> 'outcome', 'open') = 'open' AND coalesce((s ->> 'probability')::float8 NOT BETWEEN 0 AND 1, true)) LIMIT 1;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION 'stage "%" is not complete', v_problem USING ERRCODE = 'invalid_parameter_value', HINT = 'A stage has a code; outcome open (default), won or lost; and, if open, a probability from 0 to 1.';
    END IF;
    INSERT INTO crm_data.pipeline AS p (code, name, label) VALUES (code, name, jsonb_build_object('en', name, 'zh', name))
    ON CONFLICT ON CONSTRAINT pipeline_code_key DO UPDATE SET name = EXCLUDED.name RETURNING p.id INTO v_pipeline;
    INSERT INTO crm_data.stage AS x (pipeline_id, seq, code, name, label, outcome, default_probability, category)
    SELECT v_pipeline, s.ord, s.body ->> 'code', coalesce(s.body ->> 'name', s.body ->> 'code'),
           coalesce(s.body -> 'label', jsonb_build_object('en', coalesce(s.body ->> 'name', s.body ->> 'code'), 'zh', coalesce(s.body ->> 'name', s.body ->> 'code'))),
           coalesce(s.body ->> 'outcome', 'open'),
           CASE s.body ->> 'outcome' WHEN 'won' THEN 1 WHEN 'lost' THEN 0 ELSE (s.body ->> 'probability')::float8 END,
           coalesce(s.body ->> 'category', CASE s.body ->> 'outcome' WHEN 'won' THEN 'closed' WHEN 'lost' THEN 'omitted' ELSE 'pipeline' END)
      FROM jsonb_array_elements(stages) WITH ORDINALITY AS s (body, ord)
    ON CONFLICT ON CONSTRAINT stage_pipeline_id_code_key DO UPDATE
        SET name = EXCLUDED.name, label = EXCLUDED.label, outcome = EXCLUDED.outcome, default_probability = EXCLUDED.default_probability, category = EXCLUDED.category;
    RETURN v_pipeline;
END
$$;
COMMENT ON FUNCTION crm.pipeline_put(text, text, jsonb) IS
'Makes a pipeline with its stages, or changes the names and percentages of its stages; returns its number.
stages: in order, [{"code", "name", "outcome": open, won or lost, "probability": 0 to 1 for an open stage, "category", "label"}]. Errors: 22023 an incomplete stage.';

CREATE OR REPLACE FUNCTION crm._import_undo_chunk(batch bigint, chunk int, OUT more boolean, OUT note text)
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET enable_nestloop = off SET jit = off     -- whole tables are joined, of which a fresh one has no statistics yet
AS $$
#variable_conflict use_variable
DECLARE
    b crm_data.import_batch;
    v_ids bigint[];
    v_gone text;
    v_sets text;
    v_done bigint;
    v_kept bigint;
BEGIN
    b := crm._import_take(batch, chunk);
    IF b.id IS NULL OR b.state NOT IN ('applying', 'applied', 'undoing') THEN
        RAISE EXCEPTION 'import % has nothing to undo', batch
            USING ERRCODE = 'RM510', DETAIL = coalesce('It is ' || b.state || '.', 'There is no such import.'), HINT = 'SELECT id, state FROM crm.import_list() shows the imports.';
    END IF;
    UPDATE crm_data.import_batch AS x SET state = 'undoing', updated_at = now(), updated_by = session_user WHERE x.id = batch AND x.state <> 'undoing';

    -- the last line first: rows that refer to others go before them
    v_ids := ARRAY(SELECT r.id FROM crm_data.import_row AS r WHERE r.batch_id = batch AND r.state = 'applied' ORDER BY r.line_no DESC LIMIT chunk);
    more := cardinality(v_ids) > 0;
    IF more THEN
        -- how a row of this table goes: nothing is deleted physically, and its unique values become free again
        SELECT CASE WHEN bool_or(a.attname = 'deleted_at') THEN 'deleted_at = now()' WHEN bool_or(a.attname = 'retracted_at') THEN 'retracted_at = now(), retracted_reason = ''import undone'''
                    WHEN bool_or(a.attname = 'left_at') THEN 'left_at = greatest(t.hired_at, current_date)' ELSE 'closed_at = now()' END
          INTO v_gone FROM pg_attribute AS a WHERE a.attrelid = format('crm_data.%I', b.object)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
        SELECT string_agg(format(CASE WHEN a.attnotnull THEN ', %1$I = t.%1$I || ''#'' || t.id' ELSE ', %1$I = NULL' END, a.attname), '')
          INTO v_sets FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = format('crm_data.%I', b.object)::regclass AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.atttypid = 'text'::regtype;
        EXECUTE format($q$
            WITH u AS (
                UPDATE crm_data.%1$I AS t SET %2$s%3$s FROM crm_data.import_row AS r
                 WHERE r.id = ANY ($1) AND r.action = 'insert' AND t.id = r.record_id AND t.row_version = r.after_version
                RETURNING r.id
            ), x AS (
                DELETE FROM crm_data.external_ref AS e USING crm_data.import_row AS r, u
                 WHERE r.id = u.id AND e.source_id = $2 AND e.object = $3 AND (e.external_id = r.doc ->> '_key' OR r.doc -> '_also' ? e.external_id) AND e.record_id = r.record_id
            )
            UPDATE crm_data.import_row AS r SET state = 'undone' FROM u WHERE r.id = u.id
            $q$, b.object, v_gone, coalesce(v_sets, '')) USING v_ids, b.source_id, b.object;
        -- what was changed gets its old value, unless somebody has changed it since
        IF EXISTS (SELECT FROM crm_data.import_row AS r WHERE r.id = ANY (v_ids) AND r.before IS NOT NULL AND r.action <> 'insert') THEN
            SELECT string_agg(format('%1$I = CASE WHEN r.before ? %1$L AND to_jsonb(t.%1$I) IS NOT DISTINCT FROM to_jsonb(p.%1$I) THEN o.%1$I ELSE t.%1$I END', x), ', ')
              INTO v_sets FROM jsonb_array_elements_text(b.report -> 'compared') AS x;
            -- an earlier import that made the record may be undone after this one, if nobody touched it in between
            EXECUTE format($q$
                WITH u AS (
                    UPDATE crm_data.%1$I AS t SET %2$s
                      FROM crm_data.import_row AS r
                     CROSS JOIN LATERAL jsonb_populate_record(NULL::crm_data.%1$I, r.doc) AS p
                     CROSS JOIN LATERAL jsonb_populate_record(NULL::crm_data.%1$I, r.before) AS o
                     WHERE r.id = ANY ($1) AND r.before IS NOT NULL AND r.action <> 'insert' AND t.id = r.record_id
                    RETURNING r.id, r.record_id, r.after_version, t.row_version
                )
                UPDATE crm_data.import_row AS e SET after_version = u.row_version
                  FROM u, crm_data.import_batch AS eb
                 WHERE e.record_id = u.record_id AND e.id <> u.id AND e.state = 'applied' AND e.after_version = u.after_version - 1 AND u.row_version = u.after_version + 1
                   AND eb.id = e.batch_id AND eb.object = %3$L
                $q$, b.object, v_sets, b.object) USING v_ids;
        END IF;
        DELETE FROM crm_data.external_ref AS e USING crm_data.import_row AS r
         WHERE r.id = ANY (v_ids) AND r.action = 'merge' AND e.source_id = b.source_id AND e.object = b.object AND e.external_id = r.doc ->> '_key';
        UPDATE crm_data.import_row AS r SET state = 'undone',
               reason = CASE WHEN r.action = 'insert' THEN 'kept: edited since the import' ELSE r.reason END
         WHERE r.id = ANY (v_ids) AND r.state = 'applied';
        SELECT count(*) FILTER (WHERE r.state = 'undone'), count(*) FILTER (WHERE r.state = 'undone' AND r.reason = 'kept: edited since the import') INTO v_done, v_kept
          FROM crm_data.import_row AS r WHERE r.batch_id = batch;
        note := format('import %s: %s rows taken back, %s kept because they were edited since', batch, v_done - v_kept, v_kept);
        RETURN;
    END IF;
    UPDATE crm_data.import_batch AS x SET state = 'undone', undone_at = now(), updated_at = now(), updated_by = session_user WHERE x.id = batch;
    note := format('import %s: undone', batch);
END
$$;
COMMENT ON FUNCTION crm._import_undo_chunk(bigint, int) IS 'Internal: one transaction''s worth of crm.import_undo; whether there is more, and what to tell.';

CREATE OR REPLACE FUNCTION crm.import_list()
    RETURNS TABLE (id bigint, object text, source text, file_name text, state text, rows_total bigint, rows_valid bigint, rows_rejected bigint, rows_applied bigint, created_at timestamptz, created_by text)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT b.id, b.object, s.name, b.file_name, b.state, b.rows_total, b.rows_valid, b.rows_rejected, b.rows_applied, b.created_at, b.created_by
      FROM crm_data.import_batch AS b LEFT JOIN crm_data.source_system AS s ON s.id = b.source_id WHERE crm._import_may(b.object) ORDER BY b.id
$$;
COMMENT ON FUNCTION crm.import_list() IS 'The imports so far, oldest first: number, object, source, file, state and counts of rows.';
