# Every function that a person may call is called about records that are hidden from him, with eight sets of arguments: nothing of them comes back
# in an answer, a message, a detail or a hint, and a hidden record is answered as one that does not exist.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use CrmTest;

my $node = new_server('functions');
install_crm($node, 'crm');
$node->safe_psql('crm', <<'SQL');
SET client_min_messages = warning;
CREATE ROLE rep LOGIN IN ROLE crm_sales;
CREATE ROLE boss LOGIN IN ROLE crm_manager;
CREATE ROLE agent LOGIN IN ROLE crm_service;
CREATE ROLE clerk LOGIN IN ROLE crm_finance;
CREATE ROLE writer LOGIN IN ROLE crm_marketing;
-- a number is of one object only
SELECT setval(format('crm_data.%s_id_seq', t)::regclass, 10000 * n) FROM unnest('{account,contact,opportunity,interaction,contract,lead,task}'::text[]) WITH ORDINALITY AS u (t, n);
INSERT INTO crm_data.team (code, name) VALUES ('here', 'Here'), ('there', 'There');
INSERT INTO crm_data.member (role_name, full_name, team_id) SELECT r, r, t.id FROM unnest('{rep,boss,agent,clerk,writer}'::text[]) AS r, crm_data.team AS t WHERE t.code = 'here';
INSERT INTO crm_data.member (full_name, team_id, phone, email) SELECT 'owner', id, '13955550000', 'hidden@o.cn' FROM crm_data.team WHERE code = 'there';
CREATE TABLE public.ids AS SELECT 'owner' AS what, id FROM crm_data.member WHERE full_name = 'owner';
WITH a AS (INSERT INTO crm_data.account (code, name, phone, email, annual_revenue, owner_id, team_id, tags, complaint_tags, city, attrs)
           SELECT 'HIDDEN-1', 'SECRET customer', '13866667777', 'SECRET@a.cn', 98765431, m.id, m.team_id, '{SECRETtag}', '{SECRETcomplaint}', 'SECRETcity', '{"x": "SECRETattr"}' FROM crm_data.member AS m WHERE m.full_name = 'owner' RETURNING id)
INSERT INTO public.ids SELECT 'account', id FROM a;
WITH c AS (INSERT INTO crm_data.contact (account_id, name, phone, email, wechat, title) SELECT id, 'SECRETcontact', '13866667778', 'SECRET@b.cn', 'SECRETwx', 'SECRETboss' FROM public.ids WHERE what = 'account' RETURNING id)
INSERT INTO public.ids SELECT 'contact', id FROM c;
WITH o AS (INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, amount, competitor, next_step)
           SELECT i.id, 'SECRET-O', 'SECRETdeal', s.pipeline_id, s.id, 98765432, 'SECRETrival', 'SECRETstep' FROM public.ids AS i, crm_data.stage AS s JOIN crm_data.pipeline AS p ON p.id = s.pipeline_id AND p.code = 'standard' WHERE i.what = 'account' AND s.code = 'needs' RETURNING id)
INSERT INTO public.ids SELECT 'opportunity', id FROM o;
WITH i AS (INSERT INTO crm_data.interaction (account_id, kind, channel, direction, occurred_at, summary, body) SELECT id, 'call', 'phone', 'out', now(), 'SECRETsummary', 'SECRETbody' FROM public.ids WHERE what = 'account' RETURNING id)
INSERT INTO public.ids SELECT 'interaction', id FROM i;
WITH c AS (INSERT INTO crm_data.contract (account_id, code, name, amount, invoice_state) SELECT id, 'SECRET-C', 'SECRETcontract', 98765433, 'partial' FROM public.ids WHERE what = 'account' RETURNING id)
INSERT INTO public.ids SELECT 'contract', id FROM c;
WITH l AS (INSERT INTO crm_data.lead (name, phone, company, owner_id, team_id) SELECT 'SECRETlead', '13866667779', 'SECRETcompany', m.id, m.team_id FROM crm_data.member AS m WHERE m.full_name = 'owner' RETURNING id)
INSERT INTO public.ids SELECT 'lead', id FROM l;
WITH t AS (INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at) SELECT 'follow_up', 'account', id, id, 'SECRETtask', now() - interval '1 day' FROM public.ids WHERE what = 'account' RETURNING id)
INSERT INTO public.ids SELECT 'task', id FROM t;
UPDATE crm_data.account SET name = 'SECRET renamed' WHERE code = 'HIDDEN-1';
CREATE TABLE public.found (who text, call text, answer text);
CREATE FUNCTION public.answer_to(call text, OUT answer text) LANGUAGE plpgsql AS $$
DECLARE d text; m text; h text;
BEGIN
    EXECUTE call INTO answer;
    RAISE EXCEPTION 'undo' USING ERRCODE = 'XX999';
EXCEPTION WHEN SQLSTATE 'XX999' THEN
    answer := coalesce(answer, 'nothing');
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
    answer := concat_ws(' | ', SQLSTATE, m, d, h);
END $$;
-- what people may call; the arguments of round v, about the records or about some that do not exist
CREATE FUNCTION public.call_of(f oid, v int, missing boolean) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('SELECT string_agg(to_jsonb(r)::text, E''\n'') FROM crm.%I(%s) AS r', p.proname, coalesce(string_agg(
        CASE format_type(a.t, NULL)
            WHEN 'bigint' THEN (i.id + CASE WHEN missing THEN 900000000 ELSE 0 END) || '::bigint'
            WHEN 'bigint[]' THEN format('ARRAY[%s]::bigint[]', i.id + CASE WHEN missing THEN 900000000 ELSE 0 END)
            WHEN 'text' THEN quote_literal(CASE WHEN a.name ~ 'object|entity' THEN o.object WHEN a.name ~ 'field' THEN (ARRAY['phone', 'phone', 'amount', 'summary', 'amount', 'phone', 'title', 'annual_revenue'])[v] WHEN a.name ~ 'phone' THEN '13866660000'
                                                WHEN a.name ~ 'reason|note' THEN 'because' ELSE (ARRAY['account', 'contact', 'opportunity', 'HIDDEN-1', 'contract', 'lead', 'x', 'renewal'])[v] END)
            WHEN 'jsonb' THEN quote_literal((ARRAY['{}', format('{"account_id": %s, "kind": "call"}', i.id + CASE WHEN missing THEN 900000000 ELSE 0 END), '{"name": "Nobody"}', '{"phone": "13866660000", "name": "x"}'])[v % 4 + 1]) || '::jsonb'
            WHEN 'timestamp with time zone' THEN CASE WHEN a.name ~ 'from|since' THEN '''2020-01-01''' ELSE 'clock_timestamp()' END || '::timestamptz'
            WHEN 'date' THEN 'current_date' WHEN 'integer' THEN (v % 4 + 1)::text WHEN 'smallint' THEN '1::smallint' WHEN 'boolean' THEN 'true' WHEN 'interval' THEN '''1 day''::interval' WHEN 'numeric' THEN '0.5' WHEN 'double precision' THEN '0.5'
            WHEN 'uuid' THEN '''00000000-0000-4000-8000-00000000000' || v || '''::uuid' WHEN 'daterange' THEN 'daterange(date_trunc(''month'', current_date)::date, current_date + 1)' WHEN 'text[]' THEN '''{account,phone}''::text[]' WHEN 'anyelement' THEN '''x''::text'
            ELSE 'NULL::' || format_type(a.t, NULL) END, ', ' ORDER BY a.n), ''))
      FROM pg_proc AS p LEFT JOIN LATERAL (SELECT x.t, x.n, coalesce(p.proargnames[x.n], '') AS name FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS x (t, n)) AS a ON true
     CROSS JOIN LATERAL (SELECT (ARRAY['account', 'contact', 'opportunity', 'interaction', 'contract', 'lead', 'task', 'account'])[v] AS object) AS o
      LEFT JOIN public.ids AS i ON i.what = CASE WHEN a.name ~ 'contact' THEN 'contact' WHEN a.name ~ 'opp|deal' THEN 'opportunity' WHEN a.name ~ 'task' THEN 'task' WHEN a.name ~ 'lead' THEN 'lead' WHEN a.name ~ 'member' THEN 'owner' WHEN a.name ~ 'account' THEN 'account' ELSE o.object END
     WHERE p.oid = f GROUP BY p.oid, p.proname
$$;
GRANT SELECT ON public.ids TO PUBLIC;
GRANT SELECT, INSERT ON public.found TO PUBLIC;
CREATE FUNCTION public.sweep(hidden text, compare boolean) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    f record;
    v int;
    one text;
    x text;
    y text;
    n int := 0;
BEGIN
    FOR f IN SELECT p.oid, p.proname, p.pronargs FROM pg_proc AS p WHERE p.pronamespace = 'crm'::regnamespace AND p.prokind = 'f' AND p.prorettype NOT IN ('trigger'::regtype, 'internal'::regtype, 'event_trigger'::regtype)
                AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY p.proname, p.oid LOOP
        FOR v IN 1 .. CASE WHEN f.pronargs = 0 THEN 1 ELSE 8 END LOOP
            one := public.call_of(f.oid, v, false);
            x := public.answer_to(one);
            n := n + 1;
            IF x ~ hidden THEN
                INSERT INTO public.found VALUES (current_user, one, x);
            END IF;
            -- a member is no secret; a lead that is taken in has another number each time
            CONTINUE WHEN NOT compare OR f.proname = 'capture_lead' OR one = public.call_of(f.oid, v, true);
            y := public.answer_to(public.call_of(f.oid, v, true));
            -- the numbers, and what is never the same twice
            x := regexp_replace(regexp_replace(x, '\m(9000)?\d+\M', 'N', 'g'), '[0-9a-f]{8}-[0-9a-f-]{27}', 'UUID', 'g');
            y := regexp_replace(regexp_replace(y, '\m(9000)?\d+\M', 'N', 'g'), '[0-9a-f]{8}-[0-9a-f-]{27}', 'UUID', 'g');
            IF x <> y AND one NOT LIKE '%' || (SELECT i.id FROM public.ids AS i WHERE i.what = 'owner') || '::bigint%' THEN
                INSERT INTO public.found VALUES (current_user, one, format('hidden: %s, missing: %s', x, y));
            END IF;
        END LOOP;
    END LOOP;
    RETURN n;
END $$;
SQL

# rep and manager see nothing of it; the desks see the customer, but not these of its fields
my %hidden = (
	rep => 'SECRET|98765|1386666777|13955550000',
	boss => 'SECRET|98765|1386666777|13955550000',
	agent => '98765431|98765432|98765433|13955550000',
	clerk => '13955550000|SECRETsummary|SECRETbody',
	writer => '98765432|98765433|13955550000');
foreach my $who (sort keys %hidden)
{
	my $compare = $who eq 'rep' || $who eq 'boss' ? 'true' : 'false';
	my $n = $node->safe_psql('crm', "SELECT public.sweep('$hidden{$who}', $compare)", extra_params => [ '-U', $who ]);
	is($node->safe_psql('crm', "SELECT left(call, 300) || ' answers ' || left(answer, 300) FROM public.found WHERE who = '$who' ORDER BY 1"), '', "$who calls $n times and is told nothing");
	cmp_ok($n, '>', 200, "$who may call functions");
}
# nor with what plpgsql says of its variables to whoever asks for it
{
	local $ENV{PGOPTIONS} = '-c plpgsql.extra_errors=all -c plpgsql.print_strict_params=on';
	$node->safe_psql('crm', "TRUNCATE public.found");
	$node->safe_psql('crm', "SELECT public.sweep('$hidden{rep}|parameters: ', false)", extra_params => [ '-U', 'rep' ]);
	is($node->safe_psql('crm', "SELECT left(call, 300) || ' answers ' || left(answer, 300) FROM public.found ORDER BY 1"), '', 'no parameter of a statement of the engine is told');
}
done_testing();
