-- Churn: which customers will not buy again within the horizon, learned by the same engine as the win probability.

CREATE OR REPLACE FUNCTION crm._churn_rows(at timestamptz, config jsonb, accounts bigint[] DEFAULT NULL)
    RETURNS TABLE (account_id bigint, dims text[])
    LANGUAGE plpgsql STABLE -- not STRICT: NULL accounts means all
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    sources text[] := ARRAY(SELECT s FROM jsonb_array_elements_text(config -> 'sources') AS s);
    wrong text;
BEGIN
    SELECT d INTO wrong FROM jsonb_array_elements_text(config -> 'dims') AS d
     WHERE d NOT IN ('usage_trend', 'usage_depth', 'tickets', 'days_to_expiry', 'account_type', 'industry', 'grade', 'region', 'last_contact_age') LIMIT 1;
    IF FOUND OR jsonb_typeof(config -> 'dims') IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown dimension "%s" in the configuration odds/churn', coalesce(wrong, 'none')),
            HINT = 'Known are usage_trend, usage_depth, tickets, days_to_expiry, account_type, industry, grade, region and last_contact_age.';
    END IF;
    RETURN QUERY
    WITH bought AS (
        SELECT c.account_id FROM crm_data.contract AS c WHERE c.signed_on <= at::date AND (accounts IS NULL OR c.account_id = ANY (accounts))
        UNION
        SELECT o.account_id FROM crm_data.opportunity AS o WHERE o.outcome = 'won' AND o.closed_at <= at AND o.deleted_at IS NULL AND (accounts IS NULL OR o.account_id = ANY (accounts))
    ), used AS (
        SELECT e.account_id, count(*) FILTER (WHERE e.occurred_at > at - interval '90 days') AS now, count(*) FILTER (WHERE e.occurred_at <= at - interval '90 days') AS before
          FROM crm_data.event AS e
         WHERE e.occurred_at > at - interval '180 days' AND e.occurred_at <= at AND (e.channel IS NULL OR sources = '{}' OR e.channel = ANY (sources)) GROUP BY e.account_id
    ), asked AS (
        SELECT t.account_id, count(*) AS n FROM crm_data.task AS t WHERE t.kind = 'case' AND t.created_at > at - interval '90 days' AND t.created_at <= at GROUP BY t.account_id
    ), met AS (
        SELECT i.account_id, max(i.occurred_at) AS last_at FROM crm_data.interaction AS i WHERE i.occurred_at <= at AND i.retracted_at IS NULL GROUP BY i.account_id
    ), ends AS (
        SELECT c.account_id, min(c.expires_on) FILTER (WHERE c.expires_on >= at::date) AS next_on, max(c.expires_on) AS last_on FROM crm_data.contract AS c WHERE c.signed_on <= at::date GROUP BY c.account_id
    )
    SELECT a.id,
           ARRAY(SELECT CASE d.name
                        WHEN 'usage_trend' THEN CASE WHEN u.before IS NULL OR u.before + u.now = 0 THEN NULL WHEN u.now < 0.7 * u.before THEN 'falling' WHEN u.now > 1.3 * u.before THEN 'rising' ELSE 'steady' END
                        WHEN 'usage_depth' THEN width_bucket(coalesce(u.now, 0)::float8, '{1,5,20,100}')::text
                        WHEN 'tickets' THEN least(coalesce(k.n, 0), 3)::text
                        WHEN 'days_to_expiry' THEN CASE WHEN x.last_on IS NULL THEN NULL WHEN x.next_on IS NULL THEN 'overdue' ELSE width_bucket((x.next_on - at::date)::float8, '{0,30,60,90,180}')::text END
                        WHEN 'account_type' THEN a.type
                        WHEN 'industry' THEN a.industry
                        WHEN 'grade' THEN a.grade::text
                        WHEN 'region' THEN a.region
                        WHEN 'last_contact_age' THEN CASE WHEN m.last_at IS NULL THEN 'never' ELSE width_bucket(extract(epoch FROM at - m.last_at)::float8 / 86400, '{7,30,90,180}')::text END END
                   FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS d (name, ord) ORDER BY d.ord)
      FROM (SELECT DISTINCT b.account_id FROM bought AS b) AS b
      JOIN crm_data.account AS a ON a.id = b.account_id AND a.deleted_at IS NULL AND a.merged_into IS NULL
      LEFT JOIN used AS u ON u.account_id = a.id
      LEFT JOIN asked AS k ON k.account_id = a.id
      LEFT JOIN met AS m ON m.account_id = a.id
      LEFT JOIN ends AS x ON x.account_id = a.id;
END
$$;
COMMENT ON FUNCTION crm._churn_rows(timestamptz, jsonb, bigint[]) IS 'Customers (accounts that have bought) as the churn model sees them at a time; accounts: NULL for all. Internal.';

CREATE OR REPLACE FUNCTION crm.churn_refit(as_of timestamptz DEFAULT now()) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    config jsonb := crm._odds_config('churn');
    horizon interval := (config ->> 'horizon')::interval;
    fitted crm.lattice;
    cases bigint;
    lost bigint;
    next_version int;
BEGIN
    IF as_of IS NULL OR as_of > now() + interval '1 minute' OR NOT isfinite(as_of) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a model is fitted to the past', HINT = 'Give an instant that is not after now.';
    END IF;
    LOCK TABLE crm_data.model IN SHARE ROW EXCLUSIVE MODE;
    -- customers as they were at twelve month starts whose horizon is over; the same customer counts as one over them
    SELECT crm.lattice_fit(r.dims, (NOT f.bought)::int, 1 / 12.0), count(DISTINCT r.account_id), count(DISTINCT r.account_id) FILTER (WHERE NOT f.bought)
      INTO fitted, cases, lost
      FROM generate_series(0, 11) AS k
     CROSS JOIN LATERAL (SELECT as_of - horizon - k * interval '1 month' AS at) AS t
     CROSS JOIN LATERAL crm._churn_rows(t.at, config) AS r
     CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM crm_data.contract AS c WHERE c.account_id = r.account_id AND c.signed_on > t.at::date AND c.signed_on <= (t.at + horizon)::date)
                             OR EXISTS (SELECT FROM crm_data.opportunity AS o WHERE o.account_id = r.account_id AND o.outcome = 'won' AND o.deleted_at IS NULL AND o.closed_at > t.at AND o.closed_at <= t.at + horizon) AS bought) AS f;
    SELECT coalesce(max(m.version), 0) + 1 INTO next_version FROM crm_data.model AS m WHERE m.name = 'churn';
    UPDATE crm_data.model AS m SET status = 'retired', retired_at = now(), updated_at = now() WHERE m.name = 'churn' AND m.status = 'champion';
    INSERT INTO crm_data.model (name, version, kind, status, dims, options, params, as_of, rows_used, metrics, promoted_at)
    VALUES ('churn', next_version, 'lattice', 'champion', ARRAY(SELECT d FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS x (d, ord) ORDER BY ord),
            jsonb_build_object('config', config, 'status', CASE WHEN cases >= coalesce((config ->> 'min_cases')::int, 30) AND lost BETWEEN 1 AND cases - 1 THEN 'ok' ELSE 'insufficient_history' END),
            fitted::bytea, as_of, cases, jsonb_build_object('lost', lost), now());
    RETURN next_version;
END
$$;
COMMENT ON FUNCTION crm.churn_refit(timestamptz) IS
'Learns which customers do not buy again within the horizon of the configuration odds/churn, from how they stood at twelve past month starts.
as_of: instant, not after now. Answers the version. Errors: 22023 as_of in the future, or a configuration that cannot be used.';

CREATE OR REPLACE FUNCTION crm.churn_probability(account bigint, at timestamptz DEFAULT now(), OUT p float8, OUT low float8, OUT high float8, OUT n bigint, OUT status text, OUT model_version int, OUT factors jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is no customer
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    dims text[];
BEGIN
    IF NOT EXISTS (SELECT FROM crm_data.account AS a WHERE a.id = account AND a.deleted_at IS NULL AND crm.row_visible('account', 'read', a.owner_id, a.team_id, a.grade)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'no such account', HINT = 'It does not exist, or you have no right to read it.';
    END IF;
    n := 0;
    status := 'insufficient_history';
    factors := '[]';
    SELECT x.version, x.rows_used, x.dims, x.options, x.params::crm.lattice AS lattice INTO m FROM crm_data.model AS x
     WHERE x.name = 'churn' AND x.status <> 'challenger' AND x.as_of <= at AND x.params IS NOT NULL ORDER BY x.status = 'champion' DESC, x.as_of DESC, x.version DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    n := m.rows_used;
    model_version := m.version;
    IF m.options ->> 'status' <> 'ok' THEN
        RETURN;
    END IF;
    SELECT r.dims INTO dims FROM crm._churn_rows(at, m.options -> 'config', ARRAY[account]) AS r;
    IF NOT FOUND THEN
        status := 'no_customer';
        RETURN;
    END IF;
    status := 'ok';
    SELECT least(greatest(x.p, 0.01), 0.99), least(greatest(x.low, 0.01), 0.99), least(greatest(x.high, 0.01), 0.99) INTO p, low, high FROM crm.lattice_predict(m.lattice, dims) AS x;
    SELECT coalesce(jsonb_agg(jsonb_build_object('dimension', f.name, 'value', f.value, 'points', round(f.points::numeric, 1), 'n', round(f.n)) ORDER BY abs(f.points) DESC, f.name), '[]') INTO factors
      FROM (SELECT m.dims[e.dim] AS name, e.value, e.points, e.n FROM crm.lattice_explain(m.lattice, dims) AS e WHERE e.dim > 0 ORDER BY abs(e.points) DESC, e.dim LIMIT 5) AS f;
END
$$;
COMMENT ON FUNCTION crm.churn_probability(bigint, timestamptz) IS
'Probability that a customer does not buy again within the configured horizon (odds/churn, 180 days), from how it stood at an instant.
account: id; at: instant. p: 0.01 to 0.99; low, high: its 90 % interval; n: customers behind it; status: ok, insufficient_history, or no_customer (has never bought; p is NULL); factors: the five strongest reasons with their percentage points.
Errors: P0002 no such account for the caller.';
