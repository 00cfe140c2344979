-- Rules that every object of the engine and the schema keeps. Runs last, so that it sees all of them. Every list below is empty when
-- the rule holds; what stands in it breaks it.
CREATE TEMP VIEW ours AS
SELECT n.oid, n.nspname FROM pg_namespace AS n WHERE n.nspname IN ('crm', 'crm_data');

-- schemas, tables, views, composite types and their columns have a comment (a partition has its parent's)
SELECT n.nspname AS schema_without_comment FROM ours AS n WHERE obj_description(n.oid, 'pg_namespace') IS NULL ORDER BY 1;
SELECT format('%I.%I', n.nspname, c.relname) AS relation_without_comment
  FROM pg_class AS c JOIN ours AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND obj_description(c.oid, 'pg_class') IS NULL
 ORDER BY 1;
SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname) AS column_without_comment
  FROM pg_class AS c JOIN ours AS n ON n.oid = c.relnamespace JOIN pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
   AND col_description(c.oid, a.attnum) IS NULL
 ORDER BY n.nspname, c.relname, a.attnum;
-- functions, procedures, aggregates, operators, types and triggers too
SELECT p.oid::regprocedure AS routine_without_comment
  FROM pg_proc AS p JOIN ours AS n ON n.oid = p.pronamespace
 WHERE obj_description(p.oid, 'pg_proc') IS NULL ORDER BY p.oid::regprocedure::text;
SELECT o.oid::regoperator AS operator_without_comment
  FROM pg_operator AS o JOIN ours AS n ON n.oid = o.oprnamespace
 WHERE obj_description(o.oid, 'pg_operator') IS NULL ORDER BY o.oid::regoperator::text;
SELECT t.oid::regtype AS type_without_comment
  FROM pg_type AS t JOIN ours AS n ON n.oid = t.typnamespace LEFT JOIN pg_class AS c ON c.oid = t.typrelid
 WHERE t.typelem = 0 AND (t.typrelid = 0 OR c.relkind = 'c') AND t.typtype <> 'm' AND obj_description(t.oid, 'pg_type') IS NULL
 ORDER BY t.oid::regtype::text;
SELECT format('%I on %s', t.tgname, t.tgrelid::regclass) AS trigger_without_comment
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN ours AS n ON n.oid = c.relnamespace
 WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND obj_description(t.oid, 'pg_trigger') IS NULL ORDER BY 1;
SELECT format('%I on %s', p.polname, p.polrelid::regclass) AS policy_without_comment
  FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid JOIN ours AS n ON n.oid = c.relnamespace
 WHERE obj_description(p.oid, 'pg_policy') IS NULL ORDER BY 1;

-- nothing is for PUBLIC
SELECT p.oid::regprocedure AS routine_for_public
  FROM pg_proc AS p JOIN ours AS n ON n.oid = p.pronamespace
 WHERE EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0)
 ORDER BY p.oid::regprocedure::text;
SELECT c.oid::regclass AS relation_for_public
  FROM pg_class AS c JOIN ours AS n ON n.oid = c.relnamespace
 WHERE EXISTS (SELECT FROM aclexplode(c.relacl) AS a WHERE a.grantee = 0) ORDER BY c.oid::regclass::text;
SELECT n.nspname AS schema_for_public FROM ours AS n JOIN pg_namespace AS s USING (oid)
 WHERE EXISTS (SELECT FROM aclexplode(s.nspacl) AS a WHERE a.grantee = 0) ORDER BY 1;

-- people have no rights on tables, and tables, views and functions have their owners
SELECT c.oid::regclass AS relation_for_people, r.rolname AS person, a.privilege_type AS privilege
  FROM pg_class AS c JOIN ours AS n ON n.oid = c.relnamespace
       CROSS JOIN LATERAL aclexplode(c.relacl) AS a JOIN pg_roles AS r ON r.oid = a.grantee
 WHERE n.nspname = 'crm_data' AND r.rolname NOT IN ('crm_owner', 'crm_gate', 'crm_backup') AND r.oid <> c.relowner
 ORDER BY c.oid::regclass::text, 2, 3;
SELECT c.oid::regclass AS relation_of_another_owner, c.relkind, pg_get_userbyid(c.relowner) AS owner
  FROM pg_class AS c JOIN ours AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
   AND pg_get_userbyid(c.relowner) <> CASE WHEN c.relkind = 'v' THEN 'crm_gate' ELSE 'crm_owner' END
   AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY c.oid::regclass::text;
SELECT p.oid::regprocedure AS routine_of_another_owner, pg_get_userbyid(p.proowner) AS owner
  FROM pg_proc AS p JOIN ours AS n ON n.oid = p.pronamespace
 WHERE pg_get_userbyid(p.proowner) NOT IN ('crm_owner', 'crm_gate')
   AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY p.oid::regprocedure::text;

-- Names mean what they meant: SQL functions are bound when they are made or have their search_path, PL/pgSQL and SECURITY DEFINER always have it.
-- The three that commit cannot have it (a SET clause would forbid the commit) and run as the caller.
SELECT p.oid::regprocedure AS routine_without_search_path, l.lanname, p.prosecdef
  FROM pg_proc AS p JOIN ours AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang
 WHERE NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
   AND (p.prosecdef OR l.lanname = 'plpgsql' OR (l.lanname = 'sql' AND p.prosqlbody IS NULL))
   AND (p.prosecdef OR format('%I.%I', n.nspname, p.proname) NOT IN ('crm.migrate', 'crm.tick', 'crm.run_jobs'))
 ORDER BY p.oid::regprocedure::text;
SELECT p.oid::regprocedure AS routine_in_another_language
  FROM pg_proc AS p JOIN ours AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang
 WHERE l.lanname NOT IN ('c', 'sql', 'plpgsql') AND p.prokind <> 'a' ORDER BY p.oid::regprocedure::text;

-- DROP EXTENSION .. CASCADE takes no column: no type, default, generated column or CHECK of a table uses an engine object
SELECT c.oid::regclass AS table_that_needs_the_engine, pg_describe_object(d.classid, d.objid, d.objsubid) AS what
  FROM pg_depend AS d JOIN pg_depend AS e ON e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e'
       JOIN pg_extension AS x ON x.oid = e.refobjid AND e.refclassid = 'pg_extension'::regclass AND x.extname = 'crm'
       LEFT JOIN pg_attrdef AS f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
       LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
       JOIN pg_class AS c ON c.oid = CASE d.classid WHEN 'pg_class'::regclass THEN d.objid ELSE coalesce(f.adrelid, k.conrelid) END
       JOIN ours AS n ON n.oid = c.relnamespace
 WHERE n.nspname = 'crm_data' AND c.relkind IN ('r', 'p') AND d.deptype IN ('n', 'a')
   AND NOT (d.classid = 'pg_class'::regclass AND d.objsubid = 0) ORDER BY c.oid::regclass::text, 2;

-- columns that would not survive pg_upgrade, or whose casts never fold away
SELECT format('%s.%I', c.oid::regclass, a.attname) AS column_of_a_forbidden_type, a.atttypid::regtype
  FROM pg_class AS c JOIN ours AS n ON n.oid = c.relnamespace JOIN pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
   AND a.atttypid IN ('bpchar'::regtype, 'bit'::regtype, 'oid'::regtype, 'regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
                      'regconfig'::regtype, 'regdictionary'::regtype, 'regnamespace'::regtype, 'regcollation'::regtype)
 ORDER BY 1;

-- replication needs a key (or the whole row, as in the history), and so does everybody who points at a row
SELECT c.oid::regclass AS table_without_primary_key
  FROM pg_class AS c JOIN ours AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relreplident <> 'f' AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
 ORDER BY c.oid::regclass::text;

-- the search for what refers to a row, or its deletion, must not read a whole table: a foreign key's first column leads an index
SELECT k.conrelid::regclass AS table_without_index, k.conname AS foreign_key
  FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN ours AS n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.confrelid IN ('crm_data.account'::regclass, 'crm_data.contact'::regclass)
   AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = k.conrelid AND i.indkey[0] = k.conkey[1])
 ORDER BY k.conrelid::regclass::text, 2;
DROP VIEW ours;
