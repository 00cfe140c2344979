-- Forms: what is shown, asked for and editable, by person and stage; what a stage asks for holds a deal back when it enters the stage, and never when it is saved.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE form_ann LOGIN IN ROLE crm_sales;
CREATE ROLE form_bob LOGIN IN ROLE crm_sales;
CREATE ROLE form_sue LOGIN IN ROLE crm_service;
CREATE ROLE form_fin LOGIN IN ROLE crm_director;
CREATE ROLE form_adm LOGIN IN ROLE crm_admin;
CREATE ROLE form_two LOGIN IN ROLE crm_admin;
INSERT INTO crm_data.team (code, name) VALUES ('FORMS', 'Forms');
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT v.r, v.n, t.id FROM crm_data.team AS t, (VALUES ('form_ann', 'Form Ann'), ('form_bob', 'Form Bob'), ('form_sue', 'Form Sue'), ('form_fin', 'Form Fin'), ('form_adm', 'Form Adm'), ('form_two', 'Form Two')) AS v (r, n) WHERE t.code = 'FORMS';
INSERT INTO crm_data.account (code, name, phone, industry, owner_id, team_id) SELECT 'FORM-1', 'Form Customer', '13912340099', 'energy', id, team_id FROM crm_data.member WHERE full_name = 'Form Ann' RETURNING id AS acc \gset
INSERT INTO crm_data.opportunity (account_id, name, pipeline_id, stage_id, owner_id, team_id, deal_type)
SELECT :acc, 'Form Deal', s.pipeline_id, s.id, a.owner_id, a.team_id, 'renewal' FROM crm_data.account AS a, crm_data.stage AS s WHERE a.id = :acc AND s.code = 'contact' RETURNING id AS deal \gset
INSERT INTO crm_data.field (object, name, type, label, purpose, class, write_class, custom) VALUES ('opportunity', 'form_site', 'text', '{"en": "Site", "zh": "站点"}', 'test of forms', 'custom', 'text', true);

-- her deal as it is, and as the stage quote will ask for it
SET ROLE form_ann;
SELECT seq, field, type, visible, required, editable, masked, missing FROM crm.form_spec('opportunity', :deal);
SELECT a.field, a.visible, b.visible AS at_quote, a.required, b.required AS at_quote, b.missing FROM crm.form_spec('opportunity', :deal) AS a JOIN crm.form_spec('opportunity', :deal, 'quote') AS b USING (field)
 WHERE (a.visible, a.required) <> (b.visible, b.required) ORDER BY b.seq;
-- a new one: the stage it starts in, and what she may set then
SELECT string_agg(field, ' ' ORDER BY seq) FILTER (WHERE required) AS asked_for, bool_and(editable) FILTER (WHERE field IN ('name', 'account_id', 'amount')) AS editable, bool_or(editable) FILTER (WHERE NOT visible) AS hidden_but_editable FROM crm.form_spec('opportunity');
-- another form, and an object without one: all its fields
SELECT seq, field, visible, required, editable, masked FROM crm.form_spec('account', :acc, form => 'account.light');
SELECT count(*) > 10 AS all_fields, bool_or(required) AS asked_for FROM crm.form_spec('contact');
-- another person's rights: a colleague does not see it, the service desk sees the customer with a mask and changes nothing of it, a director reads all
SET ROLE form_bob;
SELECT * FROM crm.form_spec('opportunity', :deal);
SET ROLE form_sue;
SELECT field, visible, editable, masked, missing FROM crm.form_spec('account', :acc, form => 'account.light');
SET ROLE form_fin;
SELECT field, visible, editable, missing FROM crm.form_spec('opportunity', :deal, 'quote') WHERE field IN ('name', 'amount', 'quote_sent_at') ORDER BY seq;
RESET ROLE;

-- the stage holds it back, saving does not
UPDATE crm_data.task SET state = 'waived', waived_reason = 'test', done_at = now() WHERE object = 'opportunity' AND record_id = :deal AND state = 'open';
SET ROLE form_ann;
UPDATE crm.opportunity SET competitor = 'nobody' WHERE id = :deal;
SELECT crm.advance_stage(:deal, 'quote');
\echo :LAST_ERROR_SQLSTATE
SELECT set_config('test.deal', :'deal', false) <> '' AS ok;
DO $$ DECLARE d text; BEGIN PERFORM crm.advance_stage(current_setting('test.deal')::bigint, 'quote'); EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL; RAISE WARNING 'what is empty: %', d; END $$;
RESET ROLE;
-- it names nothing that she may not read, nor what is asked for because of it
BEGIN;
UPDATE crm_data.config SET body = jsonb_set(body, '{read,fields}', coalesce(body #> '{read,fields}', '{}') || '{"opportunity.amount": "never", "account.industry": "never"}') WHERE kind = 'field_policy' AND key = 'crm_sales' AND status = 'active';
CREATE FUNCTION pg_temp.said(deal bigint, stage text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE d text; h text; BEGIN PERFORM crm.advance_stage(deal, stage); EXCEPTION WHEN SQLSTATE 'RM523' THEN GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT; RAISE WARNING '% | %', d, regexp_replace(h, '\d+', 'N'); END $$;
SAVEPOINT s;
SET LOCAL ROLE form_ann;
SELECT pg_temp.said(:deal, 'quote');
RESET ROLE;
UPDATE crm_data.config SET body = '{"object": "opportunity", "fields": [{"field": "source", "required": "$ ? (@.account.industry == \"energy\")"}, {"field": "amount", "required": true}, {"field": "competitor", "required": true}, {"field": "form_site", "required": true}]}' WHERE kind = 'form' AND key = 'opportunity' AND status = 'active';
UPDATE crm_data.opportunity SET competitor = NULL WHERE id = :deal;
SET LOCAL ROLE form_ann;
SELECT pg_temp.said(:deal, 'quote');
ROLLBACK TO s;
-- what she may read is named as before
UPDATE crm_data.config SET body = '{"object": "opportunity", "fields": [{"field": "competitor", "required": true}]}' WHERE kind = 'form' AND key = 'opportunity' AND status = 'active';
UPDATE crm_data.opportunity SET competitor = NULL WHERE id = :deal;
SET LOCAL ROLE form_ann;
SELECT pg_temp.said(:deal, 'quote');
ROLLBACK;
SET ROLE form_ann;
UPDATE crm.opportunity SET stage_id = (SELECT id FROM crm.stage WHERE code = 'quote') WHERE id = :deal;
\echo :LAST_ERROR_SQLSTATE
SELECT crm.advance_stage(:deal, 'demo') ->> 'stage' AS not_asked_there;
UPDATE crm.opportunity SET amount = 1000 WHERE id = :deal;
SELECT crm.advance_stage(:deal, 'contact') ->> 'stage' AS back;
RESET ROLE;
UPDATE crm_data.task SET state = 'waived', waived_reason = 'test', done_at = now() WHERE object = 'opportunity' AND record_id = :deal AND state = 'open';
SET ROLE form_ann;
SELECT crm.advance_stage(:deal, 'quote') ->> 'stage' AS with_its_amount;
-- in the stage it may be emptied again: a save is a save
UPDATE crm.opportunity SET amount = NULL WHERE id = :deal;
SELECT field, required, missing FROM crm.form_spec('opportunity', :deal) WHERE missing;
UPDATE crm.opportunity SET amount = 1000 WHERE id = :deal;
RESET ROLE;

-- the configuration: what is wrong with it
SELECT * FROM crm.config_validate('form', '{"object": "moon", "fields": ["name"]}');
SELECT * FROM crm.config_validate('form', '{"object": "fx_rate", "fields": ["rate"]}');
SELECT * FROM crm.config_validate('form', '{"object": "opportunity"}');
SELECT path, regexp_replace(message, 'syntax error.*', 'syntax error') AS message FROM crm.config_validate('form', '{"object": "opportunity", "colour": 1, "required": ["amount", "phone"], "required_any": ["name"], "fields": ["name", "name", "nothing", 7, {"visible": true}, "last_hash",
    {"field": "amount", "visible": "$ ? (@.opportunity.stgae == \"quote\")"}, {"field": "close_date", "required": "$ ? ("}, {"field": "source", "required": 3, "color": "red"}, {"field": "competitor", "visible": "$ ? (@.opportunity.amount > $least)"},
    {"field": "risk_score", "required": true}, {"field": "next_step", "visible": "$ ? (@.phase == 1)"}, {"field": "category", "visible": "$ ? (@.contact.name == \"x\")"}]}');
-- methods, filters below a part, and custom fields are no mistakes
SELECT * FROM crm.config_validate('form', '{"object": "opportunity", "fields": ["form_site", {"field": "amount", "visible": "$.opportunity ? (@.stage_seq > 3 && @.name.type() == \"string\" && @.attrs.form_site != null)", "required": "$.account.grade ? (@ >= 3)", "editable": "$ ? (exists(@.account.tags[*] ? (@ == \"vip.gold\")))"}]}');
SELECT * FROM crm.config_validate('form', '{"object": "opportunity", "store": "elsewhere", "fields": [{"key": "a", "type": "text", "required": "yes"}, {"key": "b"}, "c", {"key": "a", "type": "date", "visible": true}]}');

-- a reason for every loss, a custom field for large customers: rehearsed, and in force from its approval on
SET ROLE form_adm;
SELECT crm.config_put('form', 'opportunity', '{"object": "opportunity", "fields": [{"field": "name", "required": true}, {"field": "lost_reason", "visible": "$ ? (@.opportunity.outcome == \"lost\")", "required": true}, {"field": "form_site", "required": "$ ? (@.account.industry == \"energy\" && @.opportunity.stage_seq >= 4)", "en": "Where", "zh": "地点"}, {"field": "amount", "editable": "$ ? (@.opportunity.stage_seq < 4)"}]}') AS version;
SELECT s -> 'records' > '0' AS records, s #> '{fields,form_site}' > '0' AS lacking, s -> 'newly' @> to_jsonb(ARRAY[:deal]) AS newly, s -> 'blocked' AS blocked FROM crm.config_simulate('form', 'opportunity', 2) AS s;
SELECT i -> 'fields' AS fields, i -> 'views' AS views, (i #>> '{records,opportunity}')::int > 0 AS records FROM crm.config_impact('form', 'opportunity', 2) AS i;
SELECT crm.config_propose('form', 'opportunity', 2);
SET ROLE form_two;
SELECT crm.config_approve('form', 'opportunity', 2);
SET ROLE form_ann;
SELECT field, label, visible, required, editable, missing FROM crm.form_spec('opportunity', :deal);
SELECT field, required FROM crm.form_spec('opportunity', :deal, 'lost') WHERE field = 'lost_reason';
SELECT crm.advance_stage(:deal, 'lost');
\echo :LAST_ERROR_SQLSTATE
UPDATE crm.opportunity SET attrs = '{"form_site": "Ningbo"}' WHERE id = :deal;
SELECT field, missing FROM crm.form_spec('opportunity', :deal, 'lost') WHERE required ORDER BY seq;
SELECT crm.advance_stage(:deal, 'lost', NULL, 'price') ->> 'stage' AS with_a_reason;

-- bad input
SELECT * FROM crm.form_spec('moon');
SELECT * FROM crm.form_spec('opportunity', -1);
SELECT * FROM crm.form_spec('opportunity', :deal, 'nowhere');
SELECT * FROM crm.form_spec('account', :acc, 'quote');
SELECT * FROM crm.form_spec('opportunity', :deal, form => 'key_need');
SELECT * FROM crm.form_spec(NULL);
RESET ROLE;
-- leave as found
DELETE FROM crm_data.config WHERE kind = 'form' AND key = 'opportunity' AND version = 2;
UPDATE crm_data.config SET status = 'active', valid = '(,)' WHERE kind = 'form' AND key = 'opportunity' AND version = 1;
UPDATE crm_data.field SET retired_at = now() WHERE object = 'opportunity' AND name = 'form_site';
UPDATE crm_data.opportunity SET deleted_at = now() WHERE id = :deal;
UPDATE crm_data.account SET deleted_at = now() WHERE id = :acc;
UPDATE crm_data.member SET left_at = current_date, role_name = NULL WHERE full_name LIKE 'Form %';
DROP ROLE form_ann, form_bob, form_sue, form_fin, form_adm, form_two;
