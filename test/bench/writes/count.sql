-- What is there of what was acknowledged: increments, or for crm.write each operation in the history or among the conflicts.
SELECT :'script' = 'crm_write' AS engine \gset
\if :engine
SELECT count(*) FROM crm_data.operation AS o
 WHERE EXISTS (SELECT FROM crm_data.change AS h WHERE h.object = o.object AND h.record_id = o.record_id AND h.version = o.version)
   AND (o.result IS NULL OR EXISTS (SELECT FROM crm_data.conflict AS c WHERE c.op_id = o.op_id));
\else
SELECT sum(n) FROM bench.plain;
\endif
