-- Customers who will not buy again within the horizon, and contracts that will be renewed, learned by the same engine as the win probability; and the
-- nightly job that keeps what the models say beside the records.

CREATE OR REPLACE FUNCTION crm._churn_rows(at timestamptz, config jsonb, accounts bigint[] DEFAULT NULL)
    RETURNS TABLE (account_id bigint, dims text[])
    LANGUAGE plpgsql STABLE -- not STRICT: NULL accounts means all
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' -- days and months are the same whoever asks
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
        SELECT c.account_id FROM crm_data.contract AS c WHERE c.signed_on <= _churn_rows.at::date AND (accounts IS NULL OR c.account_id = ANY (accounts))
        UNION
        SELECT o.account_id FROM crm_data.opportunity AS o WHERE o.outcome = 'won' AND o.closed_at <= _churn_rows.at AND o.deleted_at IS NULL AND (accounts IS NULL OR o.account_id = ANY (accounts))
    ), used AS (
        SELECT e.account_id, count(*) FILTER (WHERE e.occurred_at > _churn_rows.at - interval '90 days') AS now, count(*) FILTER (WHERE e.occurred_at <= _churn_rows.at - interval '90 days') AS before
          FROM crm_data.event AS e
         WHERE e.occurred_at > _churn_rows.at - interval '180 days' AND e.occurred_at <= _churn_rows.at AND (e.channel IS NULL OR sources = '{}' OR e.channel = ANY (sources)) GROUP BY e.account_id
    ), asked AS (
        SELECT t.account_id, count(*) AS n FROM crm_data.task AS t WHERE t.kind = 'case' AND t.created_at > _churn_rows.at - interval '90 days' AND t.created_at <= _churn_rows.at GROUP BY t.account_id
    ), ends AS (
        SELECT c.account_id, min(c.expires_on) FILTER (WHERE c.expires_on >= _churn_rows.at::date) AS next_on, max(c.expires_on) AS last_on FROM crm_data.contract AS c WHERE c.signed_on <= _churn_rows.at::date GROUP BY c.account_id
    )
    SELECT a.id,
           ARRAY(SELECT CASE d.name
                        WHEN 'usage_trend' THEN CASE WHEN u.before IS NULL OR u.before + u.now = 0 THEN NULL WHEN u.now < 0.7 * u.before THEN 'falling' WHEN u.now > 1.3 * u.before THEN 'rising' ELSE 'steady' END
                        WHEN 'usage_depth' THEN width_bucket(coalesce(u.now, 0)::float8, '{1,5,20,100}')::text
                        WHEN 'tickets' THEN least(coalesce(k.n, 0), 3)::text
                        WHEN 'days_to_expiry' THEN CASE WHEN x.last_on IS NULL THEN NULL WHEN x.next_on IS NULL THEN 'overdue' ELSE width_bucket((x.next_on - _churn_rows.at::date)::float8, '{0,30,60,90,180}')::text END
                        WHEN 'account_type' THEN a.type
                        WHEN 'industry' THEN a.industry
                        WHEN 'grade' THEN a.grade::text
                        WHEN 'region' THEN a.region
                        WHEN 'last_contact_age' THEN CASE WHEN m.last_at IS NULL THEN 'never' ELSE width_bucket(extract(epoch FROM _churn_rows.at - m.last_at)::float8 / 86400, '{7,30,90,180}')::text END END
                   FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS d (name, ord) ORDER BY d.ord)
      FROM (SELECT DISTINCT b.account_id FROM bought AS b) AS b
      JOIN crm_data.account AS a ON a.id = b.account_id AND a.deleted_at IS NULL AND a.merged_into IS NULL
      LEFT JOIN used AS u ON u.account_id = a.id
      LEFT JOIN asked AS k ON k.account_id = a.id
      -- (looked up: those who have bought are few of all who were spoken to)
      LEFT JOIN LATERAL (SELECT i.occurred_at AS last_at FROM crm_data.interaction AS i WHERE i.account_id = a.id AND i.occurred_at <= _churn_rows.at AND i.retracted_at IS NULL ORDER BY i.occurred_at DESC LIMIT 1) AS m ON true
      LEFT JOIN ends AS x ON x.account_id = a.id;
END
$$;
COMMENT ON FUNCTION crm._churn_rows(timestamptz, jsonb, bigint[]) IS 'Customers (accounts that have bought) as the churn model sees them at a time; accounts: NULL for all. Internal.';

-- Contracts as the renewal model sees them: those that run out within its window and that nothing has followed yet.
CREATE OR REPLACE FUNCTION crm._renewal_rows(at timestamptz, config jsonb, contracts bigint[] DEFAULT NULL)
    RETURNS TABLE (contract_id bigint, account_id bigint, expires_on date, dims text[])
    LANGUAGE plpgsql STABLE -- not STRICT: NULL contracts means all
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' -- days and months are the same whoever asks
AS $$
#variable_conflict use_column
DECLARE
    sources text[] := ARRAY(SELECT s FROM jsonb_array_elements_text(config -> 'sources') AS s);
    activity interval := (config ->> 'window')::interval;
    today date := (_renewal_rows.at AT TIME ZONE (crm._odds_setting('organisation.timezone') #>> '{}'))::date;
    ahead int := coalesce((crm._odds_setting('renewal.window') #>> '{}')::int, 90);
    amounts float8[] := ARRAY(SELECT x::float8 FROM jsonb_array_elements_text(crm._odds_config('win') #> '{buckets,amount}') AS x);
    wrong text;
BEGIN
    SELECT d INTO wrong FROM jsonb_array_elements_text(config -> 'dims') AS d
     WHERE d NOT IN ('dau_mau', 'support_response', 'last_activity', 'days_to_expiry', 'account_type', 'industry', 'grade', 'amount_bucket', 'receivable_health') LIMIT 1;
    IF FOUND OR jsonb_typeof(config -> 'dims') IS DISTINCT FROM 'array' OR activity IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown dimension "%s" in the configuration odds/renewal, or no window', coalesce(wrong, 'none')),
            HINT = 'Known are dau_mau, support_response, last_activity, days_to_expiry, account_type, industry, grade, amount_bucket and receivable_health; window is an interval.';
    END IF;
    RETURN QUERY
    WITH due AS (
        SELECT c.id, c.account_id, c.expires_on, c.amount, c.currency FROM crm_data.contract AS c
         WHERE c.signed_on <= today AND c.expires_on >= today AND c.expires_on < today + ahead AND c.state IN ('signed', 'active', 'finished') AND (c.deleted_at IS NULL OR c.deleted_at > _renewal_rows.at)
           AND (contracts IS NULL OR c.id = ANY (contracts))
           AND NOT EXISTS (SELECT FROM crm_data.contract AS l WHERE l.account_id = c.account_id AND l.id <> c.id AND l.signed_on <= today AND l.expires_on > c.expires_on)
    )
    SELECT d.id, d.account_id, d.expires_on,
           ARRAY(SELECT CASE n.name
                        WHEN 'dau_mau' THEN CASE WHEN u.users > 0 THEN width_bucket(u.user_days / extract(epoch FROM activity)::float8 * 86400 / u.users, '{0.05,0.1,0.2,0.4}')::text END
                        WHEN 'support_response' THEN width_bucket(k.hours, '{4,24,72}')::text
                        WHEN 'last_activity' THEN CASE WHEN m.last_at IS NULL THEN 'never' ELSE width_bucket(extract(epoch FROM _renewal_rows.at - m.last_at)::float8 / 86400, '{7,30,90}')::text END
                        WHEN 'days_to_expiry' THEN width_bucket((d.expires_on - today)::float8, '{30,60}')::text
                        WHEN 'account_type' THEN a.type
                        WHEN 'industry' THEN a.industry
                        WHEN 'grade' THEN a.grade::text
                        WHEN 'amount_bucket' THEN width_bucket(crm._to_base(d.amount, d.currency, today)::float8, amounts)::text
                        WHEN 'receivable_health' THEN CASE WHEN o.days IS NULL THEN 'green' WHEN o.days <= 30 THEN 'yellow' ELSE 'red' END END
                   FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS n (name, ord) ORDER BY n.ord)
      FROM due AS d
      JOIN crm_data.account AS a ON a.id = d.account_id AND a.deleted_at IS NULL AND a.merged_into IS NULL
     CROSS JOIN LATERAL (SELECT count(DISTINCT coalesce(e.contact_id, 0))::float8 AS users, count(DISTINCT (coalesce(e.contact_id, 0), e.occurred_at::date))::float8 AS user_days
                           FROM crm_data.event AS e
                          WHERE e.account_id = d.account_id AND e.occurred_at > _renewal_rows.at - activity AND e.occurred_at <= _renewal_rows.at AND (e.channel IS NULL OR sources = '{}' OR e.channel = ANY (sources))) AS u
     CROSS JOIN LATERAL (SELECT avg(extract(epoch FROM least(t.done_at, _renewal_rows.at) - t.created_at)::float8 / 3600) AS hours
                           FROM crm_data.task AS t WHERE t.account_id = d.account_id AND t.kind = 'case' AND t.created_at > _renewal_rows.at - interval '90 days' AND t.created_at <= _renewal_rows.at) AS k
     CROSS JOIN LATERAL (SELECT max(i.occurred_at) AS last_at FROM crm_data.interaction AS i WHERE i.account_id = d.account_id AND i.occurred_at <= _renewal_rows.at AND i.retracted_at IS NULL) AS m
     CROSS JOIN LATERAL (SELECT max(today - p.due_on) AS days FROM crm_data.payment_plan AS p WHERE p.account_id = d.account_id AND p.due_on < today AND (p.paid_on IS NULL OR p.paid_on > today)) AS o;
END
$$;
COMMENT ON FUNCTION crm._renewal_rows(timestamptz, jsonb, bigint[]) IS
'Contracts that run out within renewal.window days of a time and that no later contract has followed by then, as the renewal model sees them; contracts: NULL for all. Internal.';

-- A fitted model of customers becomes the champion of its name.
CREATE OR REPLACE FUNCTION crm._store_model(name text, config jsonb, fitted crm.lattice, as_of timestamptz, cases bigint, positive bigint) RETURNS int
    LANGUAGE plpgsql VOLATILE -- not STRICT: without cases there is nothing fitted
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    next_version int := (SELECT coalesce(max(m.version), 0) + 1 FROM crm_data.model AS m WHERE m.name = _store_model.name);
    is_newest boolean := NOT EXISTS (SELECT FROM crm_data.model AS m WHERE m.name = _store_model.name AND m.status = 'champion' AND m.as_of > _store_model.as_of);
BEGIN
    IF is_newest THEN
        UPDATE crm_data.model AS m SET status = 'retired', retired_at = now(), updated_at = now() WHERE m.name = _store_model.name AND m.status = 'champion';
    END IF;
    INSERT INTO crm_data.model (name, version, kind, status, dims, options, params, as_of, rows_used, definition_hash, metrics, promoted_at)
    VALUES (name, next_version, 'lattice', CASE WHEN is_newest THEN 'champion' ELSE 'retired' END, ARRAY(SELECT d FROM jsonb_array_elements_text(config -> 'dims') WITH ORDINALITY AS x (d, ord) ORDER BY ord),
            jsonb_build_object('config', config, 'status', CASE WHEN cases >= coalesce((config ->> 'min_cases')::int, 30) AND positive BETWEEN 1 AND cases - 1 THEN 'ok' ELSE 'insufficient_history' END),
            fitted::bytea, as_of, cases, crm._customer_definition(name, config), jsonb_build_object('positive', positive), CASE WHEN is_newest THEN now() END);
    RETURN next_version;
END
$$;
COMMENT ON FUNCTION crm._store_model(text, jsonb, crm.lattice, timestamptz, bigint, bigint) IS
'Keeps a fitted churn or renewal model as its next version, the champion unless a newer one is. cases: records behind it; positive: those with the outcome. Answers the version. Internal.';

CREATE OR REPLACE FUNCTION crm._customer_definition(name text, config jsonb) RETURNS bytea
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN sha256(convert_to(config::text || (SELECT p.prosrc FROM pg_proc AS p
                                               WHERE p.oid = CASE name WHEN 'churn' THEN 'crm._churn_rows(timestamptz, jsonb, bigint[])'::regprocedure ELSE 'crm._renewal_rows(timestamptz, jsonb, bigint[])'::regprocedure END), 'UTF8'));
END
$$;
COMMENT ON FUNCTION crm._customer_definition(text, jsonb) IS 'SHA-256 over the configuration and the expressions of the features of the churn or the renewal model. Internal.';

CREATE OR REPLACE FUNCTION crm._has_bought(account bigint, after timestamptz, until timestamptz) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM crm_data.contract AS c WHERE c.account_id = _has_bought.account AND c.signed_on > _has_bought.after::date AND c.signed_on <= _has_bought.until::date)
        OR EXISTS (SELECT FROM crm_data.opportunity AS o WHERE o.account_id = _has_bought.account AND o.outcome = 'won' AND o.deleted_at IS NULL AND o.closed_at > _has_bought.after AND o.closed_at <= _has_bought.until);
END;
COMMENT ON FUNCTION crm._has_bought(bigint, timestamptz, timestamptz) IS 'Whether a customer signed a contract or won a deal for us within a span. Internal.';

CREATE OR REPLACE FUNCTION crm.churn_refit(as_of timestamptz DEFAULT now()) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' -- days and months are the same whoever asks
AS $$
DECLARE
    config jsonb := crm._odds_config('churn');
    horizon interval := (config ->> 'horizon')::interval;
    fitted crm.lattice;
    cases bigint;
    lost bigint;
BEGIN
    PERFORM crm._begin_fit(as_of);
    -- customers as they were at twelve month starts whose horizon is over; the same customer counts as one over them
    SELECT crm.lattice_fit(r.dims, (NOT f.bought)::int, 1 / 12.0), count(DISTINCT r.account_id), count(DISTINCT r.account_id) FILTER (WHERE NOT f.bought)
      INTO fitted, cases, lost
      FROM generate_series(0, 11) AS k
     CROSS JOIN LATERAL (SELECT as_of - horizon - k * interval '1 month' AS at) AS t
     CROSS JOIN LATERAL crm._churn_rows(t.at, config) AS r
     CROSS JOIN LATERAL (SELECT crm._has_bought(r.account_id, t.at, t.at + horizon) AS bought) AS f;
    RETURN crm._store_model('churn', config, fitted, as_of, cases, lost);
END
$$;
COMMENT ON FUNCTION crm.churn_refit(timestamptz) IS
'Learns which customers do not buy again within the horizon of the configuration odds/churn, from how they stood at twelve past month starts.
as_of: instant, not after now. Answers the version. Errors: 22023 as_of in the future, or a configuration that cannot be used.';

CREATE OR REPLACE FUNCTION crm.renewal_refit(as_of timestamptz DEFAULT now()) RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER -- not STRICT: NULL is refused
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' -- days and months are the same whoever asks
AS $$
DECLARE
    config jsonb := crm._odds_config('renewal');
    activity interval := (config ->> 'window')::interval;
    fitted crm.lattice;
    cases bigint;
    renewed bigint;
BEGIN
    PERFORM crm._begin_fit(as_of);
    -- contracts as they were at past month starts and that have run out since, with as long again as the activity is read for to sign late; the
    -- same contract counts as one over them
    SELECT crm.lattice_fit(x.dims, x.bought::int, x.share), count(DISTINCT x.contract_id), count(DISTINCT x.contract_id) FILTER (WHERE x.bought)
      INTO fitted, cases, renewed
      FROM (SELECT r.contract_id, r.dims, crm._has_bought(r.account_id, t.at, r.expires_on + activity) AS bought, 1.0 / count(*) OVER (PARTITION BY r.contract_id) AS share
              FROM generate_series(1, 36) AS k
             CROSS JOIN LATERAL (SELECT as_of - k * interval '1 month' AS at) AS t
             CROSS JOIN LATERAL crm._renewal_rows(t.at, config) AS r
             WHERE r.expires_on + activity <= as_of) AS x;
    RETURN crm._store_model('renewal', config, fitted, as_of, cases, renewed);
END
$$;
COMMENT ON FUNCTION crm.renewal_refit(timestamptz) IS
'Learns which contracts are renewed: followed by another contract or a won deal of the customer before they run out, or within the window of the configuration odds/renewal after it; from how they stood at 36 past month starts within renewal.window days of their end.
as_of: instant, not after now. Answers the version. Errors: 22023 as_of in the future, or a configuration that cannot be used.';

-- What a churn or renewal model says of records, all or some.
CREATE OR REPLACE FUNCTION crm._customer_scores(name text, at timestamptz, records bigint[] DEFAULT NULL)
    RETURNS TABLE (record_id bigint, account_id bigint, p float8, low float8, high float8, model bigint, dims text[])
    LANGUAGE plpgsql STABLE -- not STRICT: NULL records means all
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    m record;
BEGIN
    SELECT x.id, x.options -> 'config' AS config, x.params::crm.lattice AS lattice INTO m FROM crm_data.model AS x WHERE x.id = crm._customer_model(_customer_scores.name, at) AND x.options ->> 'status' = 'ok';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF _customer_scores.name = 'churn' THEN
        RETURN QUERY
        SELECT r.account_id, r.account_id, least(greatest(x.p, 0.01), 0.99), least(greatest(x.low, 0.01), 0.99), least(greatest(x.high, 0.01), 0.99), m.id, r.dims
          FROM crm._churn_rows(at, m.config, records) AS r, crm.lattice_predict(m.lattice, r.dims) AS x;
    ELSE
        RETURN QUERY
        SELECT r.contract_id, r.account_id, least(greatest(x.p, 0.01), 0.99), least(greatest(x.low, 0.01), 0.99), least(greatest(x.high, 0.01), 0.99), m.id, r.dims
          FROM crm._renewal_rows(at, m.config, records) AS r, crm.lattice_predict(m.lattice, r.dims) AS x;
    END IF;
END
$$;
COMMENT ON FUNCTION crm._customer_scores(text, timestamptz, bigint[]) IS 'Probabilities by the churn model of customers, or by the renewal model of contracts, from how they stood at a time; no rows without enough history. Internal.';

CREATE OR REPLACE FUNCTION crm._customer_model(name text, at timestamptz) RETURNS bigint
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT m.id FROM crm_data.model AS m
     WHERE m.name = _customer_model.name AND m.status <> 'challenger' AND m.as_of <= _customer_model.at AND m.params IS NOT NULL
     ORDER BY m.status = 'champion' DESC, m.as_of DESC, m.version DESC LIMIT 1;
END;
COMMENT ON FUNCTION crm._customer_model(text, timestamptz) IS 'Version of the churn or renewal model that answers at a time; NULL before the first. Internal.';

CREATE OR REPLACE FUNCTION crm._customer_answer(name text, record bigint, at timestamptz, OUT p float8, OUT low float8, OUT high float8, OUT n bigint, OUT status text, OUT model_version int, OUT factors jsonb)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    row_dims text[];
BEGIN
    n := 0;
    status := 'insufficient_history';
    factors := '[]';
    SELECT x.version, x.rows_used, x.dims, x.options ->> 'status' AS status, x.params::crm.lattice AS lattice INTO m FROM crm_data.model AS x WHERE x.id = crm._customer_model(_customer_answer.name, at);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    n := m.rows_used;
    model_version := m.version;
    IF m.status <> 'ok' THEN
        RETURN;
    END IF;
    SELECT s.p, s.low, s.high, s.dims INTO p, low, high, row_dims FROM crm._customer_scores(_customer_answer.name, at, ARRAY[record]) AS s;
    IF NOT FOUND THEN
        status := 'not_asked';
        RETURN;
    END IF;
    status := CASE WHEN crm._is_decayed(_customer_answer.name, at) THEN 'insufficient_confidence' ELSE 'ok' END;
    SELECT coalesce(jsonb_agg(jsonb_build_object('dimension', f.name, 'value', f.value, 'points', round(f.points::numeric, 1), 'n', round(f.n)) ORDER BY abs(f.points) DESC, f.name), '[]') INTO factors
      FROM (SELECT m.dims[e.dim] AS name, e.value, e.points, e.n FROM crm.lattice_explain(m.lattice, row_dims) AS e WHERE e.dim > 0 ORDER BY abs(e.points) DESC, e.dim LIMIT 5) AS f;
END
$$;
COMMENT ON FUNCTION crm._customer_answer(text, bigint, timestamptz) IS 'What the churn or the renewal model says of one record; status not_asked for a record that the model is not about. Internal.';

CREATE OR REPLACE FUNCTION crm.churn_probability(account bigint, at timestamptz DEFAULT now(), OUT p float8, OUT low float8, OUT high float8, OUT n bigint, OUT status text, OUT model_version int, OUT factors jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is no customer
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF at IS NULL OR NOT isfinite(at) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a probability needs an instant';
    END IF;
    IF NOT EXISTS (SELECT FROM crm_data.account AS a WHERE a.id = account AND a.deleted_at IS NULL AND crm.row_visible('account', 'read', a.owner_id, a.team_id, a.grade)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'no such account', HINT = 'It does not exist, or you have no right to read it.';
    END IF;
    SELECT x.p, x.low, x.high, x.n, CASE x.status WHEN 'not_asked' THEN 'no_customer' ELSE x.status END, x.model_version, x.factors INTO p, low, high, n, status, model_version, factors
      FROM crm._customer_answer('churn', account, at) AS x;
END
$$;
COMMENT ON FUNCTION crm.churn_probability(bigint, timestamptz) IS
'Probability that a customer does not buy again within the configured horizon (odds/churn, 180 days), from how it stood at an instant.
account: id; at: instant. p: 0.01 to 0.99; low, high: its 90 % interval; n: customers behind it; status: ok, insufficient_history, insufficient_confidence (the drift monitor found the model wrong lately, see crm.drift), or no_customer (has never bought; p is NULL); factors: the five strongest reasons with their percentage points.
Errors: P0002 no such account for the caller; 22023 no instant.';

CREATE OR REPLACE FUNCTION crm.renewal_probability(contract bigint, at timestamptz DEFAULT now(), OUT p float8, OUT low float8, OUT high float8, OUT n bigint, OUT status text, OUT model_version int, OUT factors jsonb, OUT actions jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER -- not STRICT: NULL is no contract
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF at IS NULL OR NOT isfinite(at) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a probability needs an instant';
    END IF;
    IF NOT EXISTS (SELECT FROM crm_data.contract AS c WHERE c.id = contract AND c.deleted_at IS NULL AND crm.row_visible('contract', 'read', c.owner_id, c.team_id, c.grade)) THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'no such contract', HINT = 'It does not exist, or you have no right to read it.';
    END IF;
    SELECT x.p, x.low, x.high, x.n, CASE x.status WHEN 'not_asked' THEN 'not_due' ELSE x.status END, x.model_version, x.factors INTO p, low, high, n, status, model_version, factors
      FROM crm._customer_answer('renewal', contract, at) AS x;
    -- what is to be done about the contract, the next first
    SELECT coalesce(jsonb_agg(jsonb_build_object('task_id', t.id, 'kind', t.kind, 'title', t.title, 'due_at', t.due_at) ORDER BY t.due_at, t.id), '[]') INTO actions
      FROM (SELECT k.* FROM crm_data.task AS k JOIN crm_data.contract AS c ON c.id = contract
             WHERE k.state = 'open' AND (k.object = 'contract' AND k.record_id = contract OR k.account_id = c.account_id AND k.kind = 'renewal') AND crm.row_visible('task', 'read', k.owner_id, k.team_id, k.grade)
             ORDER BY k.due_at, k.id LIMIT 5) AS t;
END
$$;
COMMENT ON FUNCTION crm.renewal_probability(bigint, timestamptz) IS
'Probability that a contract which runs out within renewal.window days is renewed, from how it and its customer stood at an instant: use in the last 30 days, how fast support answered, activity, money overdue.
contract: id; at: instant. p: 0.01 to 0.99; low, high: its 90 % interval; n: contracts behind it; status: ok, insufficient_history, insufficient_confidence (the drift monitor found the model wrong lately, see crm.drift), or not_due (runs out later, has run out, or a later contract is signed; p is NULL); factors: the five strongest reasons with their percentage points; actions: the next five open tasks of the renewal that the caller may read.
Errors: P0002 no such contract for the caller; 22023 no instant.';

-- Once a night: what the models say, beside the records. These columns are the engine's: they change no version and no history.
CREATE OR REPLACE FUNCTION crm._store_scores(name text, at timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    n bigint;
BEGIN
    WITH said AS MATERIALIZED (
        SELECT s.*, round(s.p::numeric, 4)::float8 AS stored FROM crm._customer_scores(_store_scores.name, at) AS s
    ), accounts AS (
        UPDATE crm_data.account AS a SET churn_probability = s.stored FROM said AS s
         WHERE _store_scores.name = 'churn' AND a.id = s.record_id AND a.churn_probability IS DISTINCT FROM s.stored
        RETURNING a.id, a.owner_id, a.team_id, a.grade
    ), contracts AS (
        UPDATE crm_data.contract AS c SET renewal_probability = s.stored FROM said AS s
         WHERE _store_scores.name = 'renewal' AND c.id = s.record_id AND c.renewal_probability IS DISTINCT FROM s.stored
        RETURNING c.id, c.owner_id, c.team_id, c.grade
    )
    INSERT INTO crm_data.score (model_id, object, record_id, account_id, value, low, high, n, features, as_of, owner_id, team_id, grade)
    SELECT s.model, CASE _store_scores.name WHEN 'churn' THEN 'account' ELSE 'contract' END, s.record_id, s.account_id, s.p, s.low, s.high, m.rows_used, jsonb_object(m.dims, s.dims), at, c.owner_id, c.team_id, c.grade
      FROM (SELECT * FROM accounts UNION ALL SELECT * FROM contracts) AS c JOIN said AS s ON s.record_id = c.id JOIN crm_data.model AS m ON m.id = s.model;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
COMMENT ON FUNCTION crm._store_scores(text, timestamptz) IS
'Writes the churn probability into customers, or the renewal probability into contracts, where it has changed, each with a score row: model version and values of the features. Answers how many. Internal.';

CREATE OR REPLACE FUNCTION crm._store_credibility(at timestamptz) RETURNS bigint
    LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
    WITH changed AS (
        UPDATE crm_data.opportunity AS o SET credibility = round(c.credibility), credibility_flag = c.flag
          FROM crm._credibility(_store_credibility.at) AS c
         WHERE o.id = c.opportunity_id AND o.outcome = 'open' AND (o.credibility, o.credibility_flag) IS DISTINCT FROM (round(c.credibility)::smallint, c.flag)
        RETURNING o.id)
    SELECT count(*) FROM changed;
END;
COMMENT ON FUNCTION crm._store_credibility(timestamptz) IS 'Writes credibility and flag into the open deals whose stored ones differ; answers how many. Internal.';

CREATE OR REPLACE FUNCTION crm._job_score_models(due timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz := least(due, now());
BEGIN
    PERFORM crm.timing_refit(at);
    RETURN crm._store_probabilities(at) + crm._store_credibility(at) + crm._store_scores('churn', at) + crm._store_scores('renewal', at);
END
$$;
COMMENT ON FUNCTION crm._job_score_models(timestamptz) IS
'Job: stores the timing models of the forecast, and writes win probability, credibility, churn and renewal probability beside the records; answers how many values changed. Internal.';
