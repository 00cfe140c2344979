-- What does not fit between what the clients were told (crash_ack) and what is there; nothing when all is well.
WITH op AS (
    SELECT a.*, o.op_seq AS real_seq, o.version AS real_version, o.state AS real_state, coalesce(o.result ->> 'state', o.state) AS result, o.root_id
      FROM crash_ack AS a LEFT JOIN crm_data.operation AS o ON o.op_id = a.op
)
SELECT 'acknowledged and not there', count(*) FROM op WHERE real_seq IS NULL HAVING count(*) > 0
UNION ALL
SELECT 'acknowledged with another number', count(*) FROM op WHERE real_seq <> op_seq HAVING count(*) > 0
UNION ALL
SELECT 'acknowledged with another version', count(*) FROM op WHERE state <> 'pending' AND (real_version <> version OR result <> state) HAVING count(*) > 0
UNION ALL
SELECT 'still waiting or failed', count(*) FROM op WHERE real_state IN ('pending', 'failed') HAVING count(*) > 0
UNION ALL
SELECT 'value neither in the history nor in a conflict', count(*) FROM op
 WHERE real_seq IS NOT NULL
   AND NOT EXISTS (SELECT FROM crm_data.change AS h WHERE h.object = 'account' AND h.record_id = op.root_id AND h.version = op.real_version AND h.op_seq = op.real_seq AND h.fields::jsonb -> op.field ->> 1 = op.value)
   AND NOT EXISTS (SELECT FROM crm_data.conflict AS c WHERE c.op_id = op.op AND c.field = op.field AND c.mine #>> '{}' = op.value)
HAVING count(*) > 0
UNION ALL
SELECT 'began after another was acknowledged and has a smaller number', count(*)
  FROM (SELECT t.kind, t.op_seq, max(t.op_seq) FILTER (WHERE t.kind = 'acknowledged') OVER (PARTITION BY t.account ORDER BY t.at, t.kind DESC ROWS UNBOUNDED PRECEDING) AS known
          FROM (SELECT account, op_seq, acknowledged AS at, 'acknowledged' AS kind FROM crash_ack UNION ALL SELECT account, op_seq, invoked, 'invoked' FROM crash_ack) AS t) AS x
 WHERE x.kind = 'invoked' AND x.op_seq < x.known
HAVING count(*) > 0
UNION ALL
SELECT 'numbers with a gap', count(*) FROM (SELECT FROM crm_data.operation AS o JOIN crm_data.account AS a ON a.id = o.root_id AND o.root_object = 'account'
 GROUP BY a.id HAVING count(*) <> max(o.op_seq) OR max(o.op_seq) <> max(a.op_seq)) AS g HAVING count(*) > 0
UNION ALL
SELECT 'versions with a gap', count(*) FROM (SELECT FROM crm_data.change AS h JOIN crm_data.account AS a ON a.id = h.record_id AND h.object = 'account'
 GROUP BY a.id HAVING count(*) <> max(h.version) OR max(h.version) <> max(a.row_version)) AS g HAVING count(*) > 0
UNION ALL
SELECT 'integrity: ' || i.check_name || ' ' || coalesce(i.object, '') || ' ' || i.sample, i.problems FROM crm.integrity_check() AS i
ORDER BY 1;
