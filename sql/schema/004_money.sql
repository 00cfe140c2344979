-- Money and forecast: contracts, payment plans, invoices and payments, exchange rates, quotas, splits, forecasts, deviations.

CREATE TABLE crm_data.contract (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deleted_at timestamptz,
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    opportunity_id bigint REFERENCES crm_data.opportunity (id),
    code text NOT NULL UNIQUE CHECK (code <> ''),
    name text,
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'review', 'signed', 'active', 'finished', 'terminated')),
    amount numeric(18,2) CHECK (amount >= 0),
    tax_rate numeric(5,4) NOT NULL DEFAULT 0 CHECK (tax_rate BETWEEN 0 AND 1),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    signed_on date,
    starts_on date,
    expires_on date,
    legal_reviewed_at timestamptz,
    legal_edits integer NOT NULL DEFAULT 0 CHECK (legal_edits >= 0),
    approval_since timestamptz,
    final_url text,
    invoice_state text NOT NULL DEFAULT 'none' CHECK (invoice_state IN ('none', 'partial', 'full')),
    receipt_state text NOT NULL DEFAULT 'none' CHECK (receipt_state IN ('none', 'partial', 'full', 'overdue')),
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    renewal_probability double precision CHECK (renewal_probability BETWEEN 0 AND 1),
    CHECK (expires_on >= starts_on)
);
CREATE INDEX contract_expires_on_idx ON crm_data.contract (expires_on) WHERE deleted_at IS NULL;
CREATE INDEX contract_signed_on_idx ON crm_data.contract (signed_on);
CREATE INDEX contract_owner_id_idx ON crm_data.contract (owner_id);
CREATE INDEX contract_account_id_idx ON crm_data.contract (account_id);
CREATE INDEX contract_opportunity_id_idx ON crm_data.contract (opportunity_id) WHERE opportunity_id IS NOT NULL;
COMMENT ON TABLE crm_data.contract IS 'Contract with a customer. Deleted only after legal''s approval, and then softly.';
COMMENT ON COLUMN crm_data.contract.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.contract.account_id IS 'Customer.';
COMMENT ON COLUMN crm_data.contract.opportunity_id IS 'Deal it came from.';
COMMENT ON COLUMN crm_data.contract.code IS 'Contract number.';
COMMENT ON COLUMN crm_data.contract.name IS 'Title.';
COMMENT ON COLUMN crm_data.contract.state IS 'Where it stands.';
COMMENT ON COLUMN crm_data.contract.amount IS 'Amount in currency, tax included.';
COMMENT ON COLUMN crm_data.contract.tax_rate IS 'Tax rate as a fraction.';
COMMENT ON COLUMN crm_data.contract.currency IS 'ISO 4217 code of the amount.';
COMMENT ON COLUMN crm_data.contract.signed_on IS 'Day of the signature.';
COMMENT ON COLUMN crm_data.contract.starts_on IS 'First day.';
COMMENT ON COLUMN crm_data.contract.expires_on IS 'Last day.';
COMMENT ON COLUMN crm_data.contract.legal_reviewed_at IS 'When legal finished its first review.';
COMMENT ON COLUMN crm_data.contract.legal_edits IS 'Places the customer''s lawyers changed.';
COMMENT ON COLUMN crm_data.contract.approval_since IS 'Since when it waits at the customer''s final approval; NULL when it does not.';
COMMENT ON COLUMN crm_data.contract.final_url IS 'Where the sealed final version lies.';
COMMENT ON COLUMN crm_data.contract.invoice_state IS 'How much of it is invoiced, kept by the engine.';
COMMENT ON COLUMN crm_data.contract.receipt_state IS 'How much of it is paid, kept by the engine.';
COMMENT ON COLUMN crm_data.contract.renewal_probability IS 'Probability that it is renewed, 0 to 1, kept by the engine.';
COMMENT ON COLUMN crm_data.contract.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.contract.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.contract.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.contract.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.contract.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.contract.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.contract.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.contract.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.contract.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.contract.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.contract.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.contract.last_at IS 'Time of the record''s last change; the next one is never earlier.';
COMMENT ON COLUMN crm_data.contract.deleted_at IS 'When the record was deleted; deletion is soft and goes through functions.';

CREATE TABLE crm_data.payment_plan (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract_id bigint NOT NULL REFERENCES crm_data.contract (id),
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    seq smallint NOT NULL CHECK (seq > 0),
    name text,
    condition text,
    due_on date NOT NULL,
    amount numeric(18,2) NOT NULL CHECK (amount >= 0),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    paid_on date,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    UNIQUE (contract_id, seq)
);
CREATE INDEX payment_plan_due_on_idx ON crm_data.payment_plan (due_on) WHERE paid_on IS NULL;
CREATE INDEX payment_plan_account_id_idx ON crm_data.payment_plan (account_id);
COMMENT ON TABLE crm_data.payment_plan IS 'Payment point of a contract: what is owed when, and on what condition.';
COMMENT ON COLUMN crm_data.payment_plan.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.payment_plan.contract_id IS 'Contract.';
COMMENT ON COLUMN crm_data.payment_plan.account_id IS 'Customer of the contract.';
COMMENT ON COLUMN crm_data.payment_plan.seq IS 'Number of the payment point in the contract, from 1.';
COMMENT ON COLUMN crm_data.payment_plan.name IS 'Name, such as advance payment or acceptance.';
COMMENT ON COLUMN crm_data.payment_plan.condition IS 'What must have happened before it is owed.';
COMMENT ON COLUMN crm_data.payment_plan.due_on IS 'Day it is owed.';
COMMENT ON COLUMN crm_data.payment_plan.amount IS 'Amount in currency, tax included.';
COMMENT ON COLUMN crm_data.payment_plan.currency IS 'ISO 4217 code of the amount.';
COMMENT ON COLUMN crm_data.payment_plan.paid_on IS 'Day it was fully paid, kept by the engine; NULL before.';
COMMENT ON COLUMN crm_data.payment_plan.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.payment_plan.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.payment_plan.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.payment_plan.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.payment_plan.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.payment_plan.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.payment_plan.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.payment_plan.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.payment_plan.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.payment_plan.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.payment_plan.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.receivable_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('invoice', 'payment', 'refund')),
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    contract_id bigint REFERENCES crm_data.contract (id),
    payment_plan_id bigint REFERENCES crm_data.payment_plan (id),
    number text,
    amount numeric(18,2) NOT NULL CHECK (amount >= 0),
    tax_rate numeric(5,4) NOT NULL DEFAULT 0 CHECK (tax_rate BETWEEN 0 AND 1),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    occurred_on date NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    source_id bigint REFERENCES crm_data.source_system (id),
    external_id text,
    note text,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (source_id, external_id)
);
CREATE INDEX receivable_entry_occurred_on_idx ON crm_data.receivable_entry (occurred_on);
CREATE INDEX receivable_entry_account_id_idx ON crm_data.receivable_entry (account_id);
CREATE INDEX receivable_entry_contract_id_idx ON crm_data.receivable_entry (contract_id) WHERE contract_id IS NOT NULL;
CREATE INDEX receivable_entry_payment_plan_id_idx ON crm_data.receivable_entry (payment_plan_id) WHERE payment_plan_id IS NOT NULL;
COMMENT ON TABLE crm_data.receivable_entry IS 'Invoice, payment or refund. Append-only: a correction is a new entry.';
COMMENT ON COLUMN crm_data.receivable_entry.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.receivable_entry.kind IS 'What it is; refunds carry positive amounts that count against the payments.';
COMMENT ON COLUMN crm_data.receivable_entry.account_id IS 'Customer.';
COMMENT ON COLUMN crm_data.receivable_entry.contract_id IS 'Contract it belongs to.';
COMMENT ON COLUMN crm_data.receivable_entry.payment_plan_id IS 'Payment point it settles.';
COMMENT ON COLUMN crm_data.receivable_entry.number IS 'Number of the invoice or voucher.';
COMMENT ON COLUMN crm_data.receivable_entry.amount IS 'Amount in currency, tax included.';
COMMENT ON COLUMN crm_data.receivable_entry.tax_rate IS 'Tax rate as a fraction.';
COMMENT ON COLUMN crm_data.receivable_entry.currency IS 'ISO 4217 code of the amount.';
COMMENT ON COLUMN crm_data.receivable_entry.occurred_on IS 'Day of the fact, by the finance system.';
COMMENT ON COLUMN crm_data.receivable_entry.recorded_at IS 'When the database learned of it; a late entry shows as a restatement.';
COMMENT ON COLUMN crm_data.receivable_entry.source_id IS 'Finance system that sent it.';
COMMENT ON COLUMN crm_data.receivable_entry.external_id IS 'Identifier in that system.';
COMMENT ON COLUMN crm_data.receivable_entry.note IS 'Remark.';
COMMENT ON COLUMN crm_data.receivable_entry.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.receivable_entry.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.receivable_entry.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.receivable_entry.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.receivable_entry.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.fx_rate (
    rate_date date NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    base_currency text NOT NULL DEFAULT 'CNY' CHECK (base_currency ~ '^[A-Z]{3}$'),
    rate numeric(18,8) NOT NULL CHECK (rate > 0),
    source text NOT NULL CHECK (source <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    PRIMARY KEY (rate_date, currency, base_currency),
    CHECK (currency <> base_currency)
);
COMMENT ON TABLE crm_data.fx_rate IS 'Exchange rate of a day with its source.';
COMMENT ON COLUMN crm_data.fx_rate.rate_date IS 'Day of the rate.';
COMMENT ON COLUMN crm_data.fx_rate.currency IS 'ISO 4217 code of the currency that is priced.';
COMMENT ON COLUMN crm_data.fx_rate.base_currency IS 'ISO 4217 code of the currency it is priced in.';
COMMENT ON COLUMN crm_data.fx_rate.rate IS 'Units of base_currency for one unit of currency, the mid rate.';
COMMENT ON COLUMN crm_data.fx_rate.source IS 'Who published it.';
COMMENT ON COLUMN crm_data.fx_rate.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.fx_rate.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.quota (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id bigint REFERENCES crm_data.member (id),
    team_id bigint REFERENCES crm_data.team (id),
    owner_id bigint,
    grade smallint NOT NULL DEFAULT 0,
    period daterange NOT NULL CHECK (NOT isempty(period) AND lower(period) IS NOT NULL AND upper(period) IS NOT NULL),
    product_line text NOT NULL DEFAULT '*',
    basis text NOT NULL DEFAULT 'bookings' CHECK (basis IN ('bookings', 'billings', 'receipts')),
    amount numeric(18,2) NOT NULL CHECK (amount >= 0),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    CHECK (member_id IS NOT NULL OR team_id IS NOT NULL),
    UNIQUE NULLS NOT DISTINCT (member_id, team_id, period, product_line, basis)
);
CREATE INDEX quota_team_id_idx ON crm_data.quota (team_id) WHERE team_id IS NOT NULL;
COMMENT ON TABLE crm_data.quota IS 'Quota: the target of a member or a team for a period.';
COMMENT ON COLUMN crm_data.quota.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.quota.member_id IS 'Member the target is for; NULL for a team''s.';
COMMENT ON COLUMN crm_data.quota.team_id IS 'Team the target is for, or the member''s team.';
COMMENT ON COLUMN crm_data.quota.owner_id IS 'The member again, so that row rules read one column.';
COMMENT ON COLUMN crm_data.quota.grade IS 'Always 0: quotas have no customer grade.';
COMMENT ON COLUMN crm_data.quota.period IS 'Period, lower day included, upper day excluded.';
COMMENT ON COLUMN crm_data.quota.product_line IS 'Product line; * for all.';
COMMENT ON COLUMN crm_data.quota.basis IS 'What counts: signed, invoiced or received amounts.';
COMMENT ON COLUMN crm_data.quota.amount IS 'Target in currency.';
COMMENT ON COLUMN crm_data.quota.currency IS 'ISO 4217 code of the amount.';
COMMENT ON COLUMN crm_data.quota.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.quota.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.quota.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.quota.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.quota.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.quota.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.quota.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.quota.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.split (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opportunity_id bigint NOT NULL REFERENCES crm_data.opportunity (id),
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    member_id bigint NOT NULL REFERENCES crm_data.member (id),
    kind text NOT NULL DEFAULT 'revenue' CHECK (kind IN ('revenue', 'overlay')),
    percent numeric(5,2) NOT NULL CHECK (percent > 0 AND percent <= 100),
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    UNIQUE (opportunity_id, member_id, kind)
);
CREATE INDEX split_account_id_idx ON crm_data.split (account_id);
CREATE INDEX split_member_id_idx ON crm_data.split (member_id);
COMMENT ON TABLE crm_data.split IS 'Credit of a member for a deal.';
COMMENT ON COLUMN crm_data.split.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.split.opportunity_id IS 'Deal.';
COMMENT ON COLUMN crm_data.split.account_id IS 'Customer of the deal.';
COMMENT ON COLUMN crm_data.split.member_id IS 'Member credited.';
COMMENT ON COLUMN crm_data.split.kind IS 'revenue shares add up to 100 percent, overlay shares are credit on top.';
COMMENT ON COLUMN crm_data.split.percent IS 'Share in percent.';
COMMENT ON COLUMN crm_data.split.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.split.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.split.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.split.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.split.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.split.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.split.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.split.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.split.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.split.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.split.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.forecast (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('base', 'adjusted', 'submitted')),
    period daterange NOT NULL CHECK (NOT isempty(period) AND lower(period) IS NOT NULL AND upper(period) IS NOT NULL),
    opportunity_id bigint REFERENCES crm_data.opportunity (id),
    account_id bigint REFERENCES crm_data.account (id),
    member_id bigint REFERENCES crm_data.member (id),
    amount numeric(18,2) NOT NULL CHECK (amount >= 0),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    low numeric(18,2),
    mid numeric(18,2),
    high numeric(18,2),
    probability double precision CHECK (probability BETWEEN 0 AND 1),
    close_date date,
    category text CHECK (category IN ('omitted', 'pipeline', 'best_case', 'commit', 'closed')),
    reason_code text,
    reason text,
    evidence_id bigint REFERENCES crm_data.attachment (id),
    evidence_sha256 bytea,
    model_version text,
    credibility smallint CHECK (credibility BETWEEN 0 AND 100),
    as_of timestamptz NOT NULL,
    author_id bigint REFERENCES crm_data.member (id),
    supersedes_id bigint REFERENCES crm_data.forecast (id),
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    CHECK (kind <> 'adjusted' OR (reason_code <> '' AND reason <> '' AND reason_code IS NOT NULL AND reason IS NOT NULL))
);
CREATE INDEX forecast_period_idx ON crm_data.forecast (lower(period), member_id);
CREATE INDEX forecast_opportunity_id_idx ON crm_data.forecast (opportunity_id) WHERE opportunity_id IS NOT NULL;
CREATE INDEX forecast_account_id_idx ON crm_data.forecast (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX forecast_member_id_idx ON crm_data.forecast (member_id) WHERE member_id IS NOT NULL;
CREATE INDEX forecast_evidence_id_idx ON crm_data.forecast (evidence_id) WHERE evidence_id IS NOT NULL;
CREATE INDEX forecast_author_id_idx ON crm_data.forecast (author_id) WHERE author_id IS NOT NULL;
CREATE INDEX forecast_supersedes_id_idx ON crm_data.forecast (supersedes_id) WHERE supersedes_id IS NOT NULL;
COMMENT ON TABLE crm_data.forecast IS 'Forecast statement, append-only: what the engine computed, what a person changed and why, what was submitted.';
COMMENT ON COLUMN crm_data.forecast.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.forecast.kind IS 'base is computed, adjusted is a person''s change with its reason, submitted is the roll-up sent upwards.';
COMMENT ON COLUMN crm_data.forecast.period IS 'Period, lower day included, upper day excluded.';
COMMENT ON COLUMN crm_data.forecast.opportunity_id IS 'Deal; NULL for the statement of a member or a team.';
COMMENT ON COLUMN crm_data.forecast.account_id IS 'Customer of the deal.';
COMMENT ON COLUMN crm_data.forecast.member_id IS 'Member whose forecast it is.';
COMMENT ON COLUMN crm_data.forecast.amount IS 'Amount forecast in currency.';
COMMENT ON COLUMN crm_data.forecast.currency IS 'ISO 4217 code of the amounts in this row.';
COMMENT ON COLUMN crm_data.forecast.low IS 'P10 of the amount in currency.';
COMMENT ON COLUMN crm_data.forecast.mid IS 'P50 of the amount in currency.';
COMMENT ON COLUMN crm_data.forecast.high IS 'P90 of the amount in currency.';
COMMENT ON COLUMN crm_data.forecast.probability IS 'Probability stated or computed, 0 to 1.';
COMMENT ON COLUMN crm_data.forecast.close_date IS 'Planned close stated.';
COMMENT ON COLUMN crm_data.forecast.category IS 'Forecast category stated.';
COMMENT ON COLUMN crm_data.forecast.reason_code IS 'Reason of an adjustment, a value of the picklist adjust_reason.';
COMMENT ON COLUMN crm_data.forecast.reason IS 'Reason in words.';
COMMENT ON COLUMN crm_data.forecast.evidence_id IS 'Attachment that proves the reason; asked for above the configured threshold.';
COMMENT ON COLUMN crm_data.forecast.evidence_sha256 IS 'Digest of that attachment when it was given.';
COMMENT ON COLUMN crm_data.forecast.model_version IS 'Model and version behind a base statement.';
COMMENT ON COLUMN crm_data.forecast.credibility IS 'Credibility at that time, 0 to 100.';
COMMENT ON COLUMN crm_data.forecast.as_of IS 'Up to when facts were known to the statement.';
COMMENT ON COLUMN crm_data.forecast.author_id IS 'Member who stated it; NULL for the engine.';
COMMENT ON COLUMN crm_data.forecast.supersedes_id IS 'Statement it replaces.';
COMMENT ON COLUMN crm_data.forecast.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.forecast.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.forecast.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.forecast.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.forecast.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.deviation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    period daterange NOT NULL,
    opportunity_id bigint REFERENCES crm_data.opportunity (id),
    account_id bigint REFERENCES crm_data.account (id),
    item text NOT NULL CHECK (item IN ('amount', 'won', 'lost', 'slipped', 'new')),
    amount numeric(18,2) NOT NULL,
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    cause text NOT NULL CHECK (cause IN ('system', 'sales', 'customer', 'chance')),
    rule text NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}',
    similar_cases jsonb NOT NULL DEFAULT '[]',
    beyond_band boolean NOT NULL DEFAULT false,
    note text,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (period, opportunity_id, item)
);
CREATE INDEX deviation_opportunity_id_idx ON crm_data.deviation (opportunity_id) WHERE opportunity_id IS NOT NULL;
CREATE INDEX deviation_account_id_idx ON crm_data.deviation (account_id) WHERE account_id IS NOT NULL;
COMMENT ON TABLE crm_data.deviation IS 'Item of the deviation between forecast and result: exact, additive, every cent on one deal.';
COMMENT ON COLUMN crm_data.deviation.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.deviation.period IS 'Period compared, lower day included, upper day excluded.';
COMMENT ON COLUMN crm_data.deviation.opportunity_id IS 'Deal.';
COMMENT ON COLUMN crm_data.deviation.account_id IS 'Customer of the deal.';
COMMENT ON COLUMN crm_data.deviation.item IS 'Kind of difference: amount changed, won below certainty, lost, slipped, not in the snapshot.';
COMMENT ON COLUMN crm_data.deviation.amount IS 'Result less forecast in currency; the items of a period add up to the whole difference.';
COMMENT ON COLUMN crm_data.deviation.currency IS 'ISO 4217 code of the amount.';
COMMENT ON COLUMN crm_data.deviation.cause IS 'Cause by the first rule that fires.';
COMMENT ON COLUMN crm_data.deviation.rule IS 'Rule that fired.';
COMMENT ON COLUMN crm_data.deviation.evidence IS 'Facts the rule read.';
COMMENT ON COLUMN crm_data.deviation.similar_cases IS 'Similar past cases.';
COMMENT ON COLUMN crm_data.deviation.beyond_band IS 'Whether the difference lies beyond the 80 percent interval and so asks for action.';
COMMENT ON COLUMN crm_data.deviation.note IS 'What a person added.';
COMMENT ON COLUMN crm_data.deviation.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.deviation.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.deviation.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.deviation.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.deviation.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.deviation.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.deviation.updated_by IS 'Member or role that last changed the row.';
