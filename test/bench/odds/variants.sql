-- The same cases otherwise: columns in another order, under other names, with columns of noise, few columns, few cases. Figure, log loss, bar: the rate of all, learned
-- again at every block's start, and 0.001.
CREATE VIEW variant_all AS
SELECT id, "case", entered, labelled, block, won, stage AS a, amount AS b, res AS c, nsent AS d, elapsed AS e, hour AS f, dow AS g, round AS h,
       (hashint4(id) % 5)::text AS noise, (hashint4(id + 7) % 40)::text AS more_noise, 'k'::text AS constant, md5("case") AS one_a_case FROM deal;
CREATE FUNCTION variant(what text, dims text, part int DEFAULT 1) RETURNS TABLE (figure text, loss numeric, bar numeric) LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS few;
    -- every so-many-th case; blocks numbered anew without gaps
    EXECUTE format('CREATE TABLE few AS SELECT x.*, dense_rank() OVER (ORDER BY block) - 1 AS part FROM variant_all AS x WHERE abs(hashtext("case")) %% %s = 0', part);
    RETURN QUERY
    WITH start AS (SELECT f.part, min(f.entered) AS at FROM few AS f WHERE f.part > 0 GROUP BY f.part),
         rate AS (SELECT s.part, (sum(k.won) + 0.5) / (count(*) + 1.0) AS p FROM start AS s JOIN few AS k ON k.labelled < s.at GROUP BY s.part)
    SELECT 'BPI ' || what || ' log loss', round(avg(-ln(CASE WHEN f.won = 1 THEN b.p ELSE 1 - b.p END))::numeric, 4), round(avg(-ln(CASE WHEN f.won = 1 THEN r.p ELSE 1 - r.p END))::numeric, 4) + 0.001
      FROM crm.odds_backtest('few', 'id', string_to_array(dims, ',')::name[], 'won', 'entered', 'labelled', 'part', 'case') AS b JOIN few AS f ON f.id = b.id::int JOIN rate AS r ON r.part = f.part;
END
$$;
SELECT * FROM variant('columns reversed and renamed', 'h,g,f,e,d,c,b,a');
SELECT * FROM variant('with three columns of noise', 'a,b,c,d,e,f,g,h,noise,more_noise,constant');
SELECT * FROM variant('with a column of single values', 'a,b,c,d,e,f,g,h,one_a_case');
SELECT * FROM variant('three columns', 'a,b,e');
SELECT * FROM variant('three weak columns', 'f,g,b');
SELECT * FROM variant('one case in ten', 'a,b,c,d,e,f,g,h', 10);
SELECT * FROM variant('one case in forty', 'a,b,c,d,e,f,g,h', 40);
SELECT * FROM variant('one case in forty, noise', 'noise,more_noise,constant', 40);
