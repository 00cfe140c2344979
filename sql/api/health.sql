-- Customers by themselves: health score, grade by recency, frequency and money, return to the pool of those nobody cares for, and claims from it.

CREATE OR REPLACE FUNCTION crm._account_health(only_account bigint, at timestamptz)
    RETURNS TABLE (account_id bigint, score int, follow_up_gap numeric, contract_expiry numeric, sentiment numeric)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    -- one customer is looked up, all are read
    SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- (materialized: read once, not once a customer)
    WITH m AS MATERIALIZED (SELECT (h.body #>> '{weights,follow_up_gap}')::float8 AS w1, (h.body #>> '{weights,contract_expiry}')::float8 AS w2, (h.body #>> '{weights,sentiment}')::float8 AS w3,
                      extract(epoch FROM (h.body #>> '{follow_up_gap,full}')::interval)::float8 AS gap_full, extract(epoch FROM (h.body #>> '{follow_up_gap,zero}')::interval)::float8 AS gap_zero,
                      extract(epoch FROM (h.body #>> '{contract_expiry,full}')::interval)::float8 AS end_full, extract(epoch FROM (h.body #>> '{contract_expiry,zero}')::interval)::float8 AS end_zero,
                      coalesce((h.body #>> '{sentiment,neutral}')::float8, 50) AS neutral, coalesce((h.body #>> '{sentiment,window}')::interval, '90 days') AS span
                 FROM crm_data.config AS h WHERE h.kind = 'health_model' AND h.key = 'account' AND h.scope = '*' AND h.status = 'active'),
    -- a day lasts until its end where the organisation is
    z AS MATERIALIZED (SELECT (_account_health.at AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date AS day),
    k AS (SELECT c.account_id, max(c.expires_on) AS expires_on FROM crm_data.contract AS c WHERE c.deleted_at IS NULL AND c.state IN ('signed', 'active') AND (only_account IS NULL OR c.account_id = only_account) GROUP BY 1),
    e AS (SELECT DISTINCT ON (v.account_id) v.account_id, v.value FROM m, crm_data.event AS v
           WHERE v.kind = 'sentiment' AND v.occurred_at > _account_health.at - m.span AND v.occurred_at <= _account_health.at AND v.value BETWEEN 0 AND 100 AND v.account_id IS NOT NULL AND (only_account IS NULL OR v.account_id = only_account) ORDER BY v.account_id, v.occurred_at DESC, v.id DESC),
    p AS (SELECT a.id, crm._between(-extract(epoch FROM _account_health.at - coalesce(a.last_contact_at, a.created_at))::float8, -m.gap_zero, -m.gap_full) AS s1,
                 crm._between((k.expires_on - z.day) * 86400::float8, m.end_zero, m.end_full) AS s2, coalesce(e.value, m.neutral) AS s3, m.w1, m.w2, m.w3
            FROM m CROSS JOIN z CROSS JOIN crm_data.account AS a LEFT JOIN k ON k.account_id = a.id LEFT JOIN e ON e.account_id = a.id
           WHERE a.deleted_at IS NULL AND a.merged_into IS NULL AND (only_account IS NULL OR a.id = only_account))
    -- who has no contract is judged by the other two
    SELECT p.id, round((p.w1 * p.s1 + coalesce(p.w2 * p.s2, 0) + p.w3 * p.s3) / (p.w1 + CASE WHEN p.s2 IS NULL THEN 0 ELSE p.w2 END + p.w3))::int, round(p.s1::numeric, 1), round(p.s2::numeric, 1), round(p.s3::numeric, 1)
      FROM p;
END
$$;
COMMENT ON FUNCTION crm._account_health(bigint, timestamptz) IS
'Internal: health of a customer, or of all (NULL), 0 to 100, by the active health_model/account, with its parts: days since the last contact, days to the end of the last current contract (NULL without one), and the latest value of the sentiment watch (event of kind sentiment, 0 to 100).';

CREATE OR REPLACE FUNCTION crm.account_health(account bigint) RETURNS TABLE (score int, part text, points numeric, weight numeric)
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM crm.account AS a WHERE a.id = account) THEN
        RAISE EXCEPTION 'there is no account % that you may see', account USING ERRCODE = 'no_data_found', HINT = 'Look it up in the view crm.account.';
    END IF;
    RETURN QUERY
    SELECT h.score, v.part, v.points, (m.body #>> ARRAY['weights', v.part])::numeric
      FROM crm._account_health(account, now()) AS h JOIN crm_data.config AS m ON m.kind = 'health_model' AND m.key = 'account' AND m.scope = '*' AND m.status = 'active'
     CROSS JOIN LATERAL (VALUES ('follow_up_gap', h.follow_up_gap), ('contract_expiry', h.contract_expiry), ('sentiment', h.sentiment)) AS v (part, points)
     ORDER BY 4 DESC, 2;
END
$$;
COMMENT ON FUNCTION crm.account_health(bigint) IS
'The health of a customer now, 0 to 100, and the points of its parts with their weights: follow_up_gap (full within 7 days, none after 30), contract_expiry (full 180 days before the end, none from 30; NULL without a current contract, and then it takes no part), sentiment (latest value of the sentiment watch, 50 without one). Weights and bounds: configuration health_model/account. Errors: P0002 no such customer within the caller''s view.';

CREATE OR REPLACE FUNCTION crm._score_health(at timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_n bigint;
BEGIN
    UPDATE crm_data.account AS a SET health = h.score FROM crm._account_health(NULL, at) AS h WHERE h.account_id = a.id AND a.health IS DISTINCT FROM h.score;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._score_health(timestamptz) IS 'Internal: keeps the health of every customer; answers how many changed.';

-- ---------------------------------------------------------------- grade

CREATE OR REPLACE FUNCTION crm._rfm(at timestamptz)
    RETURNS TABLE (account_id bigint, last_on date, purchases bigint, money numeric, recency int, frequency int, volume int, grade smallint)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH m AS MATERIALIZED (SELECT h.body, (at AT TIME ZONE crm._setting('organisation.timezone', 'Asia/Shanghai'))::date AS day FROM crm_data.config AS h WHERE h.kind = 'health_model' AND h.key = 'rfm' AND h.scope = '*' AND h.status = 'active'),
    w AS MATERIALIZED (SELECT m.*, (m.day - (m.body ->> 'window')::interval)::date AS from_on FROM m),
    -- whoever ever bought; how often and when by contracts, how much by what was paid
    k AS (SELECT c.account_id, max(c.signed_on) AS last_on, count(*) FILTER (WHERE c.signed_on > w.from_on) AS n FROM w, crm_data.contract AS c WHERE c.signed_on <= w.day AND c.state IN ('signed', 'active', 'finished') AND c.deleted_at IS NULL GROUP BY 1),
    e AS (SELECT r.account_id, r.currency, r.occurred_on, sum(CASE r.kind WHEN 'refund' THEN -r.amount ELSE r.amount END) AS amount FROM w, crm_data.receivable_entry AS r WHERE r.kind IN ('payment', 'refund') AND r.occurred_on > w.from_on AND r.occurred_on <= w.day GROUP BY 1, 2, 3),
    fx AS MATERIALIZED (SELECT x.currency, x.occurred_on, y.rate FROM (SELECT DISTINCT e.currency, e.occurred_on FROM e) AS x CROSS JOIN LATERAL crm._fx_rate(x.currency, x.occurred_on) AS y),
    p AS (SELECT e.account_id, sum(e.amount * fx.rate) AS money FROM e JOIN fx ON fx.currency = e.currency AND fx.occurred_on = e.occurred_on GROUP BY 1),
    s AS (SELECT k.account_id, k.last_on, k.n, coalesce(p.money, 0) AS money,
                 -- one point, and one more for every bound that is met
                 1 + (SELECT count(*)::int FROM jsonb_array_elements_text(w.body -> 'recency') AS b WHERE k.last_on >= w.day - b::interval) AS r,
                 1 + (SELECT count(*)::int FROM jsonb_array_elements_text(w.body -> 'frequency') AS b WHERE k.n >= b::int) AS f,
                 1 + (SELECT count(*)::int FROM jsonb_array_elements_text(w.body -> 'money') AS b WHERE coalesce(p.money, 0) >= b::numeric) AS v, w.body
            FROM w CROSS JOIN k LEFT JOIN p ON p.account_id = k.account_id)
    SELECT s.account_id, s.last_on, s.n, round(s.money, 2), s.r, s.f, s.v,
           CASE WHEN s.r + s.f + s.v >= (s.body #>> '{grades,A}')::int THEN 4 WHEN s.r + s.f + s.v >= (s.body #>> '{grades,B}')::int THEN 3 WHEN s.r + s.f + s.v >= (s.body #>> '{grades,C}')::int THEN 2 WHEN s.r + s.f + s.v >= (s.body #>> '{grades,D}')::int THEN 1 ELSE 0 END::smallint
      FROM s
$$;
COMMENT ON FUNCTION crm._rfm(timestamptz) IS
'Internal: recency, frequency and money of every customer who ever signed a contract, 1 to 5 points each by the active health_model/rfm, and the grade of their sum (4 is A).
Method: RFM, after Bult and Wansbeek, Optimal Selection for Direct Mail (1995).';

CREATE OR REPLACE FUNCTION crm._job_rfm_grade(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_n bigint;
BEGIN
    PERFORM crm._engine_write('none', 'job', 'rfm_grade');
    -- a grade that a person gave stays his: the job changes what it wrote itself, and what nobody has changed yet. So many a night, since each goes down to
    -- all that hangs on the customer
    UPDATE crm_data.account AS a SET grade = x.grade
      FROM (SELECT r.account_id, r.grade FROM crm._rfm(due) AS r JOIN crm_data.account AS b ON b.id = r.account_id
             WHERE b.grade <> r.grade AND b.deleted_at IS NULL AND b.merged_into IS NULL
               AND (NOT b.field_version ? 'grade' OR EXISTS (SELECT FROM crm_data.change AS h WHERE h.record_id = b.id AND h.object = 'account' AND h.version = (b.field_version ->> 'grade')::int AND h.note = 'rfm_grade'))
             ORDER BY abs(b.grade - r.grade) DESC, r.account_id LIMIT 20000) AS x
     WHERE a.id = x.account_id;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    PERFORM crm._engine_write('none');
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_rfm_grade(timestamptz) IS 'Job: the grade of every customer who ever bought, by recency, frequency and money; grades that a person gave stay. Answers how many changed, at most 20000 a night. Internal.';

-- ---------------------------------------------------------------- pool

CREATE OR REPLACE FUNCTION crm._recycle_due(at timestamptz) RETURNS TABLE (account_id bigint, pool_id bigint)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH rule AS (SELECT r.value ->> 'when' AS condition, p.id AS pool_id, r.o FROM crm_data.config AS c CROSS JOIN LATERAL jsonb_array_elements(c.body -> 'rules') WITH ORDINALITY AS r (value, o)
                    JOIN crm_data.pool AS p ON p.name = r.value ->> 'pool' WHERE c.kind = 'recycle' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active')
    SELECT DISTINCT ON (a.id) a.id, rule.pool_id
      FROM crm_data.account AS a
     CROSS JOIN LATERAL (SELECT jsonb_build_object('grade', a.grade, 'type', a.type, 'industry', a.industry, 'region', a.region, 'lifecycle', a.lifecycle, 'tags', to_jsonb(a.tags),
                                    'days_since_contact', floor(extract(epoch FROM at - greatest(a.last_contact_at, (SELECT h.at FROM crm_data.change AS h WHERE h.record_id = a.id AND h.object = 'account' AND h.version = (a.field_version ->> 'owner_id')::int), a.created_at)) / 86400),
                                    'open_opportunities', (SELECT count(*) FROM crm_data.opportunity AS o WHERE o.account_id = a.id AND o.outcome = 'open' AND o.deleted_at IS NULL),
                                    'current_contracts', (SELECT count(*) FROM crm_data.contract AS k WHERE k.account_id = a.id AND k.deleted_at IS NULL AND k.state IN ('signed', 'active') AND (k.expires_on IS NULL OR k.expires_on >= at::date))) AS doc OFFSET 0) AS d
      JOIN rule ON jsonb_path_exists(d.doc, rule.condition::jsonpath, '{}', true)
     WHERE a.owner_id IS NOT NULL AND a.deleted_at IS NULL AND a.merged_into IS NULL AND coalesce(a.last_contact_at, a.created_at) < at - interval '7 days'
     ORDER BY a.id, rule.o
$$;
COMMENT ON FUNCTION crm._recycle_due(timestamptz) IS
'Internal: customers who by the active configuration of kind recycle belong into a pool, and into which. Their conditions see grade, type, industry, region, lifecycle, tags, days_since_contact (days since the last contact or change of owner), open_opportunities and current_contracts; nobody is looked at within a week of a contact.';

CREATE OR REPLACE FUNCTION crm._job_recycle(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_notice interval := coalesce((SELECT (c.body ->> 'notice')::interval FROM crm_data.config AS c WHERE c.kind = 'recycle' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active'), '7 days');
    x record;
    v_n bigint := 0;
BEGIN
    -- who was spoken to meanwhile, or changed hands, stays
    UPDATE crm_data.task AS t SET state = 'cancelled', done_at = now()
     WHERE t.kind = 'recycle' AND t.state = 'open' AND NOT EXISTS (SELECT FROM crm._recycle_due(due) AS r JOIN crm_data.account AS a ON a.id = r.account_id AND a.owner_id = t.owner_id WHERE r.account_id = t.record_id);
    PERFORM crm._engine_write('none', 'job', 'recycle');
    FOR x IN SELECT r.account_id, r.pool_id, a.owner_id, a.name, t.id AS task, t.due_at FROM crm._recycle_due(due) AS r JOIN crm_data.account AS a ON a.id = r.account_id
               LEFT JOIN crm_data.task AS t ON t.kind = 'recycle' AND t.state = 'open' AND t.object = 'account' AND t.record_id = a.id
              WHERE t.id IS NULL OR t.due_at <= due
              ORDER BY r.account_id LIMIT 5000 LOOP
        IF x.task IS NULL THEN
            -- first a notice, as a task of the owner
            INSERT INTO crm_data.task (kind, object, record_id, account_id, title, due_at, owner_id, dedupe_key)
            VALUES ('recycle', 'account', x.account_id, x.account_id, 'Speak to this customer, or he goes back to the pool', due + v_notice, x.owner_id, format('recycle:%s:%s', x.account_id, extract(epoch FROM due)))
            ON CONFLICT (dedupe_key) DO NOTHING;
            PERFORM crm._notify('recycle.notice', format('recycle:%s:%s', x.account_id, extract(epoch FROM due)), jsonb_build_object('account', x.account_id, 'until', due + v_notice), ARRAY[x.owner_id], x.account_id);
        ELSE
            UPDATE crm_data.account AS a SET pool_id = x.pool_id, owner_id = NULL, team_id = (SELECT p.team_id FROM crm_data.pool AS p WHERE p.id = x.pool_id) WHERE a.id = x.account_id AND a.owner_id = x.owner_id;
            UPDATE crm_data.task AS t SET state = 'done', done_at = now() WHERE t.id = x.task;
            PERFORM crm._notify('recycle.returned', format('recycled:%s:%s', x.account_id, extract(epoch FROM due)), jsonb_build_object('account', x.account_id), array_remove(ARRAY[x.owner_id, crm._manager_of(x.owner_id)], NULL), x.account_id);
        END IF;
        v_n := v_n + 1;
    END LOOP;
    PERFORM crm._engine_write('none');
    RETURN v_n;
END
$$;
COMMENT ON FUNCTION crm._job_recycle(timestamptz) IS 'Job: customers nobody cares for: the owner gets a notice as a task, and when it is over and nothing happened the customer goes back to the pool; a contact meanwhile takes the notice back. At most 5000 a day. Internal.';

CREATE OR REPLACE FUNCTION crm.claim_account(account bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '3s'
AS $$
DECLARE
    v_me bigint := crm.me();
    v_limit int := coalesce((SELECT (c.body ->> 'claim_limit')::int FROM crm_data.config AS c WHERE c.kind = 'recycle' AND c.key = 'default' AND c.scope = '*' AND c.status = 'active'), 20);
    m crm_data.member;
    a crm_data.account;
BEGIN
    -- the member's row keeps two claims of his apart: both count
    SELECT * INTO m FROM crm_data.member AS x WHERE x.id = v_me AND (x.left_at IS NULL OR x.left_at > current_date) FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT (crm.has_role('crm_sales') OR crm.has_role('crm_manager')) THEN
        RAISE EXCEPTION 'only sales and their managers take customers from a pool' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO a FROM crm_data.account AS x WHERE x.id = account AND x.deleted_at IS NULL AND x.merged_into IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND OR a.pool_id IS NULL OR a.owner_id IS NOT NULL
       OR NOT EXISTS (SELECT FROM crm_data.pool AS p WHERE p.id = a.pool_id AND (p.team_id IS NULL OR p.team_id = ANY (crm.my_teams('region')))) THEN
        RAISE EXCEPTION 'this account is in no pool of yours' USING ERRCODE = 'no_data_found', HINT = 'Somebody else may have been quicker.';
    END IF;
    -- also what is rolled back counts: he has seen the customer as his own
    IF NOT crm._count_today('claim', v_limit) THEN
        RAISE EXCEPTION 'no more than % customers a day from the pools', v_limit USING ERRCODE = 'program_limit_exceeded', HINT = 'Go on tomorrow.';
    END IF;
    PERFORM crm._log_access('claim', 'account', account, NULL, 1, NULL, NULL);
    UPDATE crm_data.account AS x SET owner_id = v_me, team_id = coalesce(m.team_id, x.team_id), pool_id = NULL WHERE x.id = account;
END
$$;
COMMENT ON FUNCTION crm.claim_account(bigint) IS
'Takes a customer out of a pool: he becomes the caller''s, with all that hangs on him. For sales and managers, from pools without a team or of a team of their region.
Errors: 42501 others; P0002 in no pool of the caller''s, or claimed by somebody else meanwhile; 54000 more than claim_limit (20) today, those rolled back included; 55P03 the customer is busy.';
