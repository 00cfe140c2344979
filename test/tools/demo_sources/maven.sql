-- What an administrator tells the import about the source "maven" (a public CRM data set: accounts, products, sales teams, deals): its pipeline, and what its
-- spellings mean. Everything else the import finds by itself.
-- options: {"pipeline": "maven", "engaged_stage": "engaging"}

SELECT crm.pipeline_put('maven', 'Maven', '[
    {"code": "prospecting", "name": "Prospecting", "outcome": "open", "probability": 0.10, "category": "pipeline"},
    {"code": "engaging", "name": "Engaging", "outcome": "open", "probability": 0.50, "category": "best_case"},
    {"code": "won", "name": "Won", "outcome": "won", "category": "closed"},
    {"code": "lost", "name": "Lost", "outcome": "lost", "category": "omitted"}]');
INSERT INTO crm_data.config (kind, key, version, body, status, valid, author, approver, note)
VALUES ('field_map', 'maven:account', 1, '{"values": {"sector": {"technolgy": "technology"}, "office_location": {"Philipines": "Philippines"}}, "scale": {"revenue": 1000000}, "defaults": {"currency": "USD"}}', 'active', '[2016-01-01,)', 'demo', 'release', 'spelling; revenue is in millions'),
       ('field_map', 'maven:opportunity', 1, '{"values": {"product": {"GTXPro": "GTX Pro"}}, "defaults": {"currency": "USD"}}', 'active', '[2016-01-01,)', 'demo', 'release', 'one product, two spellings');
UPDATE crm_data.config SET body = body || '{"value": "USD"}' WHERE kind = 'setting' AND key = 'organisation.currency' AND status = 'active';
