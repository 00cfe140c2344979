-- Transcripts: a follow-up of the meeting and the deal, with objections that can be highlighted, and an alert when no summary comes.
\set VERBOSITY terse
SET client_min_messages = warning;
DO $$ BEGIN CREATE ROLE asr_rep LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT crm_sales TO asr_rep;
INSERT INTO crm_data.member (role_name, full_name, locale) VALUES ('asr_rep', 'Asr Rep', 'zh');
INSERT INTO crm_data.account (code, name, owner_id) SELECT 'ASR-' || n, '转写客户' || n, m.id FROM crm_data.member AS m, generate_series(1, 3) AS n WHERE m.full_name = 'Asr Rep';
INSERT INTO crm_data.opportunity (account_id, code, name, pipeline_id, stage_id, owner_id)
SELECT a.id, v.code, v.code, p.id, s.id, a.owner_id FROM (VALUES ('ASR-1', 'ASR-D1'), ('ASR-1', 'ASR-D2'), ('ASR-2', 'ASR-D3')) AS v (account, code) JOIN crm_data.account AS a ON a.code = v.account, crm_data.pipeline AS p JOIN crm_data.stage AS s ON s.pipeline_id = p.id AND s.code = 'contact' WHERE p.code = 'standard';
-- places are those of the text as it is: Chinese anywhere, English words whole and in any case, the longest; denied is no objection
SELECT o.start, o.upto, o.kind, substr(t.v, o.start + 1, o.upto - o.start) AS said
  FROM (VALUES ('客户说:价格太高了,再看看。It''s TOO   EXPENSIVE, and competitors'' discounting is not a discount; not too expensive at all. 不太贵。😀 担心数据安全')) AS t (v), crm._objections(t.v) AS o ORDER BY 1;
SELECT count(*) AS none FROM unnest(ARRAY['', 'all is well', '很满意', NULL]) AS t (v), crm._objections(t.v);
-- linked to the meeting and so to its deal, or to the deal that it names, or to the only one
INSERT INTO crm_data.interaction (account_id, opportunity_id, kind, occurred_at, duration, client_key)
SELECT a.id, o.id, 'meeting', now() - v.began::interval, v.lasted::interval, v.key
  FROM (VALUES ('ASR-1', 'ASR-D2', '70 minutes', '1 hour', 'asr m1'), ('ASR-1', 'ASR-D1', '8 hours', '30 minutes', 'asr m2'), ('ASR-3', NULL, '70 minutes', '1 hour', 'asr m3'), ('ASR-3', NULL, '30 minutes', '1 hour', 'asr m4')) AS v (account, deal, began, lasted, key)
  JOIN crm_data.account AS a ON a.code = v.account LEFT JOIN crm_data.opportunity AS o ON o.code = v.deal;
SELECT crm.ingest('asr', 'asr 1', 'transcript', '{"account_code": "ASR-1", "summary": "担心价格,要请示", "segments": [{"speaker": "李", "side": "us", "text": "我们给折扣"}, {"speaker": "王", "side": "customer", "text": "还是太贵,别家便宜一点"}, {"text": "no budget"}]}', now() - interval '65 minutes') ->> 'state' AS state,
       crm.ingest('asr', 'asr 2', 'transcript', '{"account_code": "ASR-2", "text": "Too early for us"}') ->> 'state' AS no_summary,
       crm.ingest('asr', 'asr 3', 'meeting', '{"account_code": "ASR-1", "opportunity_code": "ASR-D1", "summary": "ok"}', now() - interval '3 days') ->> 'state' AS named;
SELECT i.summary, i.body, o.code AS deal, m.client_key AS meeting, i.detail - 'meeting' - 'account_code' - 'opportunity_code' AS detail
  FROM crm_data.interaction AS i JOIN crm_data.account AS a ON a.id = i.account_id AND a.code LIKE 'ASR-%' LEFT JOIN crm_data.opportunity AS o ON o.id = i.opportunity_id LEFT JOIN crm_data.interaction AS m ON m.id = (i.detail ->> 'meeting')::bigint
 WHERE i.client_key LIKE 'inbox:%' ORDER BY i.id;
SELECT i.id AS t FROM crm_data.interaction AS i JOIN crm_data.account AS a ON a.id = i.account_id AND a.code = 'ASR-1' WHERE i.summary LIKE '担心%' \gset
SELECT * FROM crm.objections(:t);
SELECT count(*) AS none FROM crm.objections(-1);
-- five minutes after its end, not its beginning: the meeting of ASR-1 whose words came is not late, that of eight hours ago and the first of ASR-3 are
CALL crm.tick();
SELECT m.client_key, a.level, a.state FROM crm_data.alert AS a JOIN crm_data.interaction AS m ON a.dedupe_key = format('rule:transcript_late:account:%s:%s:1', m.account_id, m.id) WHERE m.client_key LIKE 'asr m%' ORDER BY 1;
-- a summary that comes late closes it
SELECT crm.ingest('asr', 'asr 4', 'transcript', '{"account_code": "ASR-3", "summary": "聊完了"}', now() - interval '69 minutes') ->> 'state' AS state;
CALL crm.tick();
SELECT m.client_key, a.state FROM crm_data.alert AS a JOIN crm_data.interaction AS m ON a.dedupe_key = format('rule:transcript_late:account:%s:%s:1', m.account_id, m.id) WHERE m.client_key LIKE 'asr m%' ORDER BY 1;
-- rights are those of the follow-up; bad input is kept with its reason
DO $$ BEGIN CREATE ROLE asr_finance LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT crm_finance TO asr_finance;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('asr_finance', 'Asr Finance');
SET SESSION AUTHORIZATION asr_rep;
SELECT part, start, upto, label, speaker FROM crm.objections(:t);
SET SESSION AUTHORIZATION asr_finance;
SELECT count(*) AS not_his FROM crm.objections(:t);
RESET SESSION AUTHORIZATION;
SELECT crm.ingest('asr', 'asr ' || n, 'transcript', v) - 'inbox' - 'record' AS rejected FROM (VALUES (5, '{"account_code": "ASR-1", "segments": "x"}'::jsonb), (6, '{"account_code": "ASR-1", "segments": [{"text": 1}]}'), (7, '{"account_code": "ASR-1", "segments": [{"text": "x", "side": "both"}]}'), (8, '{"account_code": "ASR-1", "segments": []}'), (9, '{"account_code": "ASR-NONE"}')) AS t (n, v) ORDER BY n;
BEGIN;
UPDATE crm_data.config SET body = body || '{"value": {"odd": ["", "  ", "a.c(", "C++"]}}' WHERE kind = 'setting' AND key = 'objection.keywords' AND status = 'active';
SELECT o.* FROM crm._objections('abc a.c( c++ C++x') AS o;
UPDATE crm_data.config SET body = body || '{"value": {}}' WHERE kind = 'setting' AND key = 'objection.keywords' AND status = 'active';
SELECT count(*) AS none FROM crm._objections('太贵');
ROLLBACK;
UPDATE crm_data.opportunity SET deleted_at = now() WHERE code LIKE 'ASR-D%';
