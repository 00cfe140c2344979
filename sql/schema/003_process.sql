-- Process: pipelines and stages, opportunities with their decision chain and lines, stage history, follow-ups, the behaviour log, tasks.
--
-- event, like change in the engine's file, is partitioned by month, but only its default partition is made here: a migration that read the clock
-- would leave different tables behind on every database, and a fresh install could not be compared with an upgraded one. The default partition
-- catches everything until maintenance has made the months ahead.

CREATE TABLE crm_data.pipeline (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (code <> ''),
    name text NOT NULL CHECK (name <> ''),
    label jsonb NOT NULL DEFAULT '{}',
    is_default boolean NOT NULL DEFAULT false,
    retired_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz
);
CREATE UNIQUE INDEX pipeline_is_default_idx ON crm_data.pipeline (is_default) WHERE is_default;
COMMENT ON TABLE crm_data.pipeline IS 'Sales pipeline: an ordered set of stages.';
COMMENT ON COLUMN crm_data.pipeline.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.pipeline.code IS 'Stable short code.';
COMMENT ON COLUMN crm_data.pipeline.name IS 'Name in English.';
COMMENT ON COLUMN crm_data.pipeline.label IS 'Label by language: {"en": .., "zh": ..}.';
COMMENT ON COLUMN crm_data.pipeline.is_default IS 'Whether new opportunities start here; at most one pipeline.';
COMMENT ON COLUMN crm_data.pipeline.retired_at IS 'When it was taken out of use.';
COMMENT ON COLUMN crm_data.pipeline.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.pipeline.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.pipeline.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.pipeline.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.pipeline.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.pipeline.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.pipeline.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.pipeline.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.stage (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline_id bigint NOT NULL REFERENCES crm_data.pipeline (id),
    seq smallint NOT NULL CHECK (seq > 0),
    code text NOT NULL CHECK (code <> ''),
    name text NOT NULL CHECK (name <> ''),
    label jsonb NOT NULL DEFAULT '{}',
    outcome text NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'won', 'lost')),
    default_probability double precision NOT NULL CHECK (default_probability BETWEEN 0 AND 1),
    category text NOT NULL DEFAULT 'pipeline' CHECK (category IN ('omitted', 'pipeline', 'best_case', 'commit', 'closed')),
    allowed_next smallint[],
    sla interval CHECK (sla > interval '0'),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    UNIQUE (pipeline_id, seq),
    UNIQUE (pipeline_id, code),
    CHECK (outcome = 'open' OR default_probability IN (0, 1))
);
COMMENT ON TABLE crm_data.stage IS 'Stage of a pipeline. Its actions with their evidence stand in the configuration of kind stage.';
COMMENT ON COLUMN crm_data.stage.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.stage.pipeline_id IS 'Pipeline of the stage.';
COMMENT ON COLUMN crm_data.stage.seq IS 'Position in the pipeline, from 1.';
COMMENT ON COLUMN crm_data.stage.code IS 'Stable short code, unique in the pipeline.';
COMMENT ON COLUMN crm_data.stage.name IS 'Name in English.';
COMMENT ON COLUMN crm_data.stage.label IS 'Label by language: {"en": .., "zh": ..}.';
COMMENT ON COLUMN crm_data.stage.outcome IS 'Whether a deal in this stage is open, won or lost.';
COMMENT ON COLUMN crm_data.stage.default_probability IS 'Configured win probability, 0 to 1: the prior of the learned one, never the answer.';
COMMENT ON COLUMN crm_data.stage.category IS 'Forecast category that a deal takes when it enters the stage.';
COMMENT ON COLUMN crm_data.stage.allowed_next IS 'Positions that may follow; NULL means any, since deals also move back.';
COMMENT ON COLUMN crm_data.stage.sla IS 'Longest planned stay; NULL means none.';
COMMENT ON COLUMN crm_data.stage.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.stage.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.stage.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.stage.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.stage.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.stage.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.stage.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.stage.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.opportunity (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deleted_at timestamptz,
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    code text UNIQUE CHECK (code <> ''),
    name text NOT NULL CHECK (name <> ''),
    pipeline_id bigint NOT NULL REFERENCES crm_data.pipeline (id),
    stage_id bigint NOT NULL REFERENCES crm_data.stage (id),
    outcome text NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'won', 'lost')),
    amount numeric(18,2) CHECK (amount >= 0),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    budget_low numeric(18,2) CHECK (budget_low >= 0),
    budget_high numeric(18,2) CHECK (budget_high >= 0),
    close_date date,
    closed_at timestamptz,
    product_line text,
    deal_type text NOT NULL DEFAULT 'new' CHECK (deal_type <> ''),
    source text,
    expires_on date,
    category text NOT NULL DEFAULT 'pipeline' CHECK (category IN ('omitted', 'pipeline', 'best_case', 'commit', 'closed')),
    probability_auto double precision CHECK (probability_auto BETWEEN 0 AND 1),
    probability_manual double precision CHECK (probability_manual BETWEEN 0 AND 1),
    probability double precision GENERATED ALWAYS AS (coalesce(probability_manual, probability_auto)) STORED,
    furthest_stage_id bigint REFERENCES crm_data.stage (id),
    stage_entered_at timestamptz NOT NULL DEFAULT now(),
    stage_moves integer NOT NULL DEFAULT 0 CHECK (stage_moves >= 0),
    slip_count integer NOT NULL DEFAULT 0 CHECK (slip_count >= 0),
    lead_id bigint REFERENCES crm_data.lead (id),
    campaign_id bigint REFERENCES crm_data.campaign (id),
    competitor text,
    lost_reason text,
    next_step text,
    next_step_at timestamptz,
    quote_sent_at timestamptz,
    quote_viewed_at timestamptz,
    discount_hold boolean NOT NULL DEFAULT false,
    discount_pct numeric(5,2) NOT NULL DEFAULT 0 CHECK (discount_pct BETWEEN 0 AND 100),
    credibility smallint CHECK (credibility BETWEEN 0 AND 100),
    credibility_flag text CHECK (credibility_flag IN ('green', 'yellow', 'orange', 'red')),
    risk_score smallint CHECK (risk_score BETWEEN 0 AND 100),
    risk_level text CHECK (risk_level IN ('green', 'yellow', 'orange', 'red')),
    touch_quality double precision,
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    last_contact_at timestamptz,
    owner_id bigint REFERENCES crm_data.member (id),
    team_id bigint REFERENCES crm_data.team (id),
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    CHECK (budget_high >= budget_low)
);
CREATE INDEX opportunity_close_date_idx ON crm_data.opportunity (close_date) WHERE outcome = 'open';
CREATE INDEX opportunity_stage_entered_at_idx ON crm_data.opportunity (stage_entered_at) WHERE outcome = 'open';
CREATE INDEX opportunity_closed_at_idx ON crm_data.opportunity (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX opportunity_account_id_idx ON crm_data.opportunity (account_id);
CREATE INDEX opportunity_pipeline_id_idx ON crm_data.opportunity (pipeline_id);
CREATE INDEX opportunity_stage_id_idx ON crm_data.opportunity (stage_id);
CREATE INDEX opportunity_furthest_stage_id_idx ON crm_data.opportunity (furthest_stage_id) WHERE furthest_stage_id IS NOT NULL;
CREATE INDEX opportunity_lead_id_idx ON crm_data.opportunity (lead_id) WHERE lead_id IS NOT NULL;
CREATE INDEX opportunity_campaign_id_idx ON crm_data.opportunity (campaign_id) WHERE campaign_id IS NOT NULL;
CREATE INDEX opportunity_owner_id_idx ON crm_data.opportunity (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX opportunity_team_id_idx ON crm_data.opportunity (team_id) WHERE team_id IS NOT NULL;
COMMENT ON TABLE crm_data.opportunity IS 'Opportunity: a possible sale to a customer, with amount, stage and planned close.';
COMMENT ON COLUMN crm_data.opportunity.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.opportunity.account_id IS 'Customer who may buy.';
COMMENT ON COLUMN crm_data.opportunity.code IS 'Unique code shared with other systems.';
COMMENT ON COLUMN crm_data.opportunity.name IS 'Name of the deal.';
COMMENT ON COLUMN crm_data.opportunity.pipeline_id IS 'Pipeline the deal runs in.';
COMMENT ON COLUMN crm_data.opportunity.stage_id IS 'Present stage.';
COMMENT ON COLUMN crm_data.opportunity.outcome IS 'Outcome of the present stage, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.amount IS 'Expected amount in currency, tax included.';
COMMENT ON COLUMN crm_data.opportunity.currency IS 'ISO 4217 code of the amounts in this row.';
COMMENT ON COLUMN crm_data.opportunity.budget_low IS 'Lower end of the customer''s budget in currency.';
COMMENT ON COLUMN crm_data.opportunity.budget_high IS 'Upper end of the customer''s budget in currency.';
COMMENT ON COLUMN crm_data.opportunity.close_date IS 'Planned day of the close.';
COMMENT ON COLUMN crm_data.opportunity.closed_at IS 'When it was won or lost; NULL while open.';
COMMENT ON COLUMN crm_data.opportunity.product_line IS 'Product line, a dimension of the win probability.';
COMMENT ON COLUMN crm_data.opportunity.deal_type IS 'new, expansion, renewal or another value of the picklist deal_type.';
COMMENT ON COLUMN crm_data.opportunity.source IS 'Where the deal came from.';
COMMENT ON COLUMN crm_data.opportunity.expires_on IS 'Expiry of the contract that a renewal is about.';
COMMENT ON COLUMN crm_data.opportunity.category IS 'Forecast category, free of the stage once a person sets it.';
COMMENT ON COLUMN crm_data.opportunity.probability_auto IS 'Win probability of the model, 0 to 1, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.probability_manual IS 'Win probability stated by a person, 0 to 1; stage changes leave it alone.';
COMMENT ON COLUMN crm_data.opportunity.probability IS 'Stated probability where there is one, else the model''s.';
COMMENT ON COLUMN crm_data.opportunity.furthest_stage_id IS 'Furthest stage ever reached.';
COMMENT ON COLUMN crm_data.opportunity.stage_entered_at IS 'When the present stage was entered.';
COMMENT ON COLUMN crm_data.opportunity.stage_moves IS 'How often the stage changed.';
COMMENT ON COLUMN crm_data.opportunity.slip_count IS 'How often the planned close moved to a later month.';
COMMENT ON COLUMN crm_data.opportunity.lead_id IS 'Lead it was made from.';
COMMENT ON COLUMN crm_data.opportunity.campaign_id IS 'Campaign it is credited to first.';
COMMENT ON COLUMN crm_data.opportunity.competitor IS 'Main competitor.';
COMMENT ON COLUMN crm_data.opportunity.lost_reason IS 'Why it was lost, a value of the picklist lost_reason.';
COMMENT ON COLUMN crm_data.opportunity.next_step IS 'What comes next.';
COMMENT ON COLUMN crm_data.opportunity.next_step_at IS 'When that is due.';
COMMENT ON COLUMN crm_data.opportunity.quote_sent_at IS 'When the last quote was sent.';
COMMENT ON COLUMN crm_data.opportunity.quote_viewed_at IS 'When the customer last opened the quote.';
COMMENT ON COLUMN crm_data.opportunity.discount_hold IS 'Whether discounts are frozen by an orange alert.';
COMMENT ON COLUMN crm_data.opportunity.discount_pct IS 'Discount granted, percent of the list price.';
COMMENT ON COLUMN crm_data.opportunity.credibility IS 'Forecast credibility, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.credibility_flag IS 'Colour of the credibility with its hysteresis, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.risk_score IS 'Risk score, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.risk_level IS 'Alert level of the risk score with its hysteresis, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.touch_quality IS 'Decayed mean quality of the follow-ups, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.opportunity.last_contact_at IS 'When the deal was last worked on, kept by the engine.';
COMMENT ON COLUMN crm_data.opportunity.owner_id IS 'Member who owns the record.';
COMMENT ON COLUMN crm_data.opportunity.team_id IS 'Team for row rules: the owner''s, or the customer''s.';
COMMENT ON COLUMN crm_data.opportunity.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine; 0 without one.';
COMMENT ON COLUMN crm_data.opportunity.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.opportunity.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.opportunity.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.opportunity.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.opportunity.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.opportunity.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.opportunity.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.opportunity.last_at IS 'Time of the record''s last change; the next one is never earlier.';
COMMENT ON COLUMN crm_data.opportunity.deleted_at IS 'When the record was deleted; deletion is soft and goes through functions.';

CREATE TABLE crm_data.opportunity_contact (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opportunity_id bigint NOT NULL REFERENCES crm_data.opportunity (id),
    contact_id bigint NOT NULL REFERENCES crm_data.contact (id),
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    role text NOT NULL DEFAULT 'influencer' CHECK (role <> ''),
    influence smallint CHECK (influence BETWEEN 0 AND 10),
    stance text CHECK (stance IN ('champion', 'supporter', 'neutral', 'sceptic', 'opponent')),
    reports_to bigint REFERENCES crm_data.contact (id),
    open_questions integer NOT NULL DEFAULT 0 CHECK (open_questions >= 0),
    last_contact_at timestamptz,
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
    UNIQUE (opportunity_id, contact_id)
);
CREATE INDEX opportunity_contact_contact_id_idx ON crm_data.opportunity_contact (contact_id);
CREATE INDEX opportunity_contact_account_id_idx ON crm_data.opportunity_contact (account_id);
CREATE INDEX opportunity_contact_reports_to_idx ON crm_data.opportunity_contact (reports_to) WHERE reports_to IS NOT NULL;
COMMENT ON TABLE crm_data.opportunity_contact IS 'Decision chain: the part a contact plays in a deal.';
COMMENT ON COLUMN crm_data.opportunity_contact.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.opportunity_contact.opportunity_id IS 'Deal.';
COMMENT ON COLUMN crm_data.opportunity_contact.contact_id IS 'Contact.';
COMMENT ON COLUMN crm_data.opportunity_contact.account_id IS 'Customer of the deal.';
COMMENT ON COLUMN crm_data.opportunity_contact.role IS 'Part in the decision: decision_maker, influencer, technical, procurement, legal, finance, user, gatekeeper.';
COMMENT ON COLUMN crm_data.opportunity_contact.influence IS 'Weight in the decision, 0 to 10.';
COMMENT ON COLUMN crm_data.opportunity_contact.stance IS 'Attitude towards us.';
COMMENT ON COLUMN crm_data.opportunity_contact.reports_to IS 'Contact this one answers to in this decision.';
COMMENT ON COLUMN crm_data.opportunity_contact.open_questions IS 'Questions of this contact that are still open.';
COMMENT ON COLUMN crm_data.opportunity_contact.last_contact_at IS 'When this contact was last heard in the deal.';
COMMENT ON COLUMN crm_data.opportunity_contact.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.opportunity_contact.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.opportunity_contact.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.opportunity_contact.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.opportunity_contact.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.opportunity_contact.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.opportunity_contact.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.opportunity_contact.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.opportunity_contact.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.opportunity_contact.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.opportunity_contact.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.line_item (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opportunity_id bigint NOT NULL REFERENCES crm_data.opportunity (id),
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    product_id bigint NOT NULL REFERENCES crm_data.product (id),
    quantity numeric(18,3) NOT NULL DEFAULT 1 CHECK (quantity > 0),
    unit_price numeric(18,2) NOT NULL CHECK (unit_price >= 0),
    discount_pct numeric(5,2) NOT NULL DEFAULT 0 CHECK (discount_pct BETWEEN 0 AND 100),
    tax_rate numeric(5,4) NOT NULL DEFAULT 0 CHECK (tax_rate BETWEEN 0 AND 1),
    amount numeric(18,2) GENERATED ALWAYS AS (round(quantity * unit_price * (1 - discount_pct / 100), 2)) STORED,
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    sold_on date,
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
    last_at timestamptz
);
CREATE INDEX line_item_opportunity_id_idx ON crm_data.line_item (opportunity_id);
CREATE INDEX line_item_account_id_idx ON crm_data.line_item (account_id);
CREATE INDEX line_item_product_id_idx ON crm_data.line_item (product_id);
COMMENT ON TABLE crm_data.line_item IS 'Line of a deal: product, quantity, price.';
COMMENT ON COLUMN crm_data.line_item.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.line_item.opportunity_id IS 'Deal.';
COMMENT ON COLUMN crm_data.line_item.account_id IS 'Customer of the deal.';
COMMENT ON COLUMN crm_data.line_item.product_id IS 'Product.';
COMMENT ON COLUMN crm_data.line_item.quantity IS 'Quantity in the product''s unit.';
COMMENT ON COLUMN crm_data.line_item.unit_price IS 'Price of one unit in currency, without tax.';
COMMENT ON COLUMN crm_data.line_item.discount_pct IS 'Discount, percent.';
COMMENT ON COLUMN crm_data.line_item.tax_rate IS 'Tax rate as a fraction.';
COMMENT ON COLUMN crm_data.line_item.amount IS 'Net amount in currency: quantity times price less discount.';
COMMENT ON COLUMN crm_data.line_item.currency IS 'ISO 4217 code of the amounts in this row.';
COMMENT ON COLUMN crm_data.line_item.sold_on IS 'Day that statistics count the line on.';
COMMENT ON COLUMN crm_data.line_item.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.line_item.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.line_item.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.line_item.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.line_item.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.line_item.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.line_item.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.line_item.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.line_item.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.line_item.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.line_item.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.stage_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opportunity_id bigint NOT NULL REFERENCES crm_data.opportunity (id),
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    from_stage_id bigint REFERENCES crm_data.stage (id),
    to_stage_id bigint NOT NULL REFERENCES crm_data.stage (id),
    entered_at timestamptz NOT NULL,
    left_at timestamptz,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    ts_assumed boolean NOT NULL DEFAULT false,
    amount numeric(18,2),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    close_date date,
    probability double precision,
    actor text,
    reason text,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    CHECK (left_at >= entered_at)
);
CREATE INDEX stage_history_to_stage_id_entered_at_idx ON crm_data.stage_history (to_stage_id, entered_at);
CREATE INDEX stage_history_entered_at_idx ON crm_data.stage_history (entered_at);
CREATE INDEX stage_history_opportunity_id_idx ON crm_data.stage_history (opportunity_id);
CREATE INDEX stage_history_account_id_idx ON crm_data.stage_history (account_id);
CREATE INDEX stage_history_from_stage_id_idx ON crm_data.stage_history (from_stage_id) WHERE from_stage_id IS NOT NULL;
COMMENT ON TABLE crm_data.stage_history IS 'Stage history: every entry of a deal into a stage. Rows never change except that the stay is closed once.';
COMMENT ON COLUMN crm_data.stage_history.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.stage_history.opportunity_id IS 'Deal.';
COMMENT ON COLUMN crm_data.stage_history.account_id IS 'Customer of the deal.';
COMMENT ON COLUMN crm_data.stage_history.from_stage_id IS 'Stage left; NULL for the first entry.';
COMMENT ON COLUMN crm_data.stage_history.to_stage_id IS 'Stage entered.';
COMMENT ON COLUMN crm_data.stage_history.entered_at IS 'When it was entered.';
COMMENT ON COLUMN crm_data.stage_history.left_at IS 'When it was left; NULL while the deal is there. Set once.';
COMMENT ON COLUMN crm_data.stage_history.recorded_at IS 'When the entry became known to the database.';
COMMENT ON COLUMN crm_data.stage_history.ts_assumed IS 'Whether recorded_at of an imported entry was taken from the source''s own times.';
COMMENT ON COLUMN crm_data.stage_history.amount IS 'Amount of the deal at the entry.';
COMMENT ON COLUMN crm_data.stage_history.currency IS 'ISO 4217 code of the amount.';
COMMENT ON COLUMN crm_data.stage_history.close_date IS 'Planned close at the entry.';
COMMENT ON COLUMN crm_data.stage_history.probability IS 'Probability at the entry, 0 to 1.';
COMMENT ON COLUMN crm_data.stage_history.actor IS 'Who moved the deal.';
COMMENT ON COLUMN crm_data.stage_history.reason IS 'Why it was moved, asked for when it moves back.';
COMMENT ON COLUMN crm_data.stage_history.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.stage_history.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.stage_history.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.stage_history.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.stage_history.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.interaction (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint REFERENCES crm_data.account (id),
    contact_id bigint REFERENCES crm_data.contact (id),
    opportunity_id bigint REFERENCES crm_data.opportunity (id),
    lead_id bigint REFERENCES crm_data.lead (id),
    campaign_id bigint REFERENCES crm_data.campaign (id),
    kind text NOT NULL CHECK (kind <> ''),
    channel text,
    direction text CHECK (direction IN ('in', 'out', 'internal')),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    author_id bigint REFERENCES crm_data.member (id),
    summary text,
    body text,
    progress text,
    next_step text,
    next_step_at timestamptz,
    duration interval CHECK (duration >= interval '0'),
    depth text CHECK (depth IN ('light', 'normal', 'deep')),
    quality smallint CHECK (quality BETWEEN 0 AND 100),
    satisfaction numeric(3,1) CHECK (satisfaction BETWEEN 0 AND 10),
    auto boolean NOT NULL DEFAULT false,
    preset text,
    client_key text UNIQUE,
    endpoint text,
    detail jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(detail) = 'object'),
    retracted_at timestamptz,
    retracted_reason text,
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
    CHECK (account_id IS NOT NULL OR lead_id IS NOT NULL)
);
CREATE INDEX interaction_account_id_occurred_at_idx ON crm_data.interaction (account_id, occurred_at DESC);
CREATE INDEX interaction_no_summary_idx ON crm_data.interaction (occurred_at) WHERE kind = 'meeting' AND summary IS NULL AND retracted_at IS NULL;
CREATE INDEX interaction_author_id_occurred_at_idx ON crm_data.interaction (author_id, occurred_at DESC);
-- what reports of a period count is in the index; the order of recording is the order on disk
CREATE INDEX interaction_occurred_at_idx ON crm_data.interaction (occurred_at) INCLUDE (team_id, retracted_at);
CREATE INDEX interaction_recorded_at_idx ON crm_data.interaction USING brin (recorded_at);
CREATE INDEX interaction_owner_id_idx ON crm_data.interaction (owner_id);
CREATE INDEX interaction_team_id_idx ON crm_data.interaction (team_id);
CREATE INDEX interaction_contact_id_idx ON crm_data.interaction (contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX interaction_opportunity_id_idx ON crm_data.interaction (opportunity_id) WHERE opportunity_id IS NOT NULL;
CREATE INDEX interaction_lead_id_idx ON crm_data.interaction (lead_id) WHERE lead_id IS NOT NULL;
CREATE INDEX interaction_campaign_id_idx ON crm_data.interaction (campaign_id) WHERE campaign_id IS NOT NULL;
COMMENT ON TABLE crm_data.interaction IS 'Follow-up: something that happened with a customer. Append-only; its author may correct it for 72 hours, nobody deletes it.';
COMMENT ON COLUMN crm_data.interaction.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.interaction.account_id IS 'Customer; NULL only while it belongs to a lead.';
COMMENT ON COLUMN crm_data.interaction.contact_id IS 'Contact.';
COMMENT ON COLUMN crm_data.interaction.opportunity_id IS 'Deal it is about.';
COMMENT ON COLUMN crm_data.interaction.lead_id IS 'Lead it is about.';
COMMENT ON COLUMN crm_data.interaction.campaign_id IS 'Campaign it belongs to, for attribution.';
COMMENT ON COLUMN crm_data.interaction.kind IS 'call, visit, meeting, demo, objection, chat, email, quote, file, survey, form, ticket, note, system.';
COMMENT ON COLUMN crm_data.interaction.channel IS 'Channel, a value of the picklist channel.';
COMMENT ON COLUMN crm_data.interaction.direction IS 'Who spoke: in from the customer, out to him, internal among ourselves.';
COMMENT ON COLUMN crm_data.interaction.occurred_at IS 'When it happened, by the source.';
COMMENT ON COLUMN crm_data.interaction.recorded_at IS 'When the database learned of it; the 72 hours count from here.';
COMMENT ON COLUMN crm_data.interaction.author_id IS 'Member who wrote it; NULL when the engine did.';
COMMENT ON COLUMN crm_data.interaction.summary IS 'One or two sentences.';
COMMENT ON COLUMN crm_data.interaction.body IS 'Full text.';
COMMENT ON COLUMN crm_data.interaction.progress IS 'Key progress, a value of the picklist key_progress; free text is not taken.';
COMMENT ON COLUMN crm_data.interaction.next_step IS 'What was agreed to come next.';
COMMENT ON COLUMN crm_data.interaction.next_step_at IS 'When that is due.';
COMMENT ON COLUMN crm_data.interaction.duration IS 'How long it lasted.';
COMMENT ON COLUMN crm_data.interaction.depth IS 'How deep it went; a call above 90 seconds is deep.';
COMMENT ON COLUMN crm_data.interaction.quality IS 'Touchpoint quality, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.interaction.satisfaction IS 'Answer of a survey: satisfaction 1 to 5, or 0 to 10 for a recommendation score.';
COMMENT ON COLUMN crm_data.interaction.auto IS 'Whether the engine wrote it from an event.';
COMMENT ON COLUMN crm_data.interaction.preset IS 'Button it was written with, a key of the configuration of kind touch_preset.';
COMMENT ON COLUMN crm_data.interaction.client_key IS 'Key of the sender; the same key again is the same follow-up.';
COMMENT ON COLUMN crm_data.interaction.endpoint IS 'Endpoint it came through: web, app, wecom, dingtalk, sql, api.';
COMMENT ON COLUMN crm_data.interaction.detail IS 'Facts of the kind, such as file names, dwell, questions, hot zones.';
COMMENT ON COLUMN crm_data.interaction.retracted_at IS 'When it was retracted; it stays readable to those who may see history.';
COMMENT ON COLUMN crm_data.interaction.retracted_reason IS 'Why it was retracted.';
COMMENT ON COLUMN crm_data.interaction.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.interaction.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.interaction.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.interaction.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.interaction.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.interaction.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.interaction.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.interaction.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.interaction.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.interaction.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.interaction.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.event (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    account_id bigint REFERENCES crm_data.account (id),
    contact_id bigint REFERENCES crm_data.contact (id),
    lead_id bigint REFERENCES crm_data.lead (id),
    source_id bigint REFERENCES crm_data.source_system (id),
    kind text NOT NULL CHECK (kind <> ''),
    channel text,
    value double precision,
    detail jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(detail) = 'object'),
    session_key text,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE crm_data.event_default PARTITION OF crm_data.event DEFAULT;
CREATE INDEX event_account_id_occurred_at_idx ON crm_data.event (account_id, occurred_at);
CREATE INDEX event_kind_occurred_at_idx ON crm_data.event (kind, occurred_at);
CREATE INDEX event_contact_id_idx ON crm_data.event (contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX event_lead_id_idx ON crm_data.event (lead_id) WHERE lead_id IS NOT NULL;
CREATE INDEX event_source_id_idx ON crm_data.event (source_id) WHERE source_id IS NOT NULL;
COMMENT ON TABLE crm_data.event IS 'Behaviour log: page views, downloads, log-ins, product use. Append-only, partitioned by month of at.';
COMMENT ON COLUMN crm_data.event.id IS 'Identifier, unique over all partitions.';
COMMENT ON COLUMN crm_data.event.at IS 'When the database learned of it; the partition key.';
COMMENT ON COLUMN crm_data.event.occurred_at IS 'When it happened, by the source.';
COMMENT ON COLUMN crm_data.event.account_id IS 'Customer.';
COMMENT ON COLUMN crm_data.event.contact_id IS 'Contact.';
COMMENT ON COLUMN crm_data.event.lead_id IS 'Lead.';
COMMENT ON COLUMN crm_data.event.source_id IS 'Source system that reported it.';
COMMENT ON COLUMN crm_data.event.kind IS 'What happened, such as page_view, download, login, api_call, ticket_opened.';
COMMENT ON COLUMN crm_data.event.channel IS 'Channel, such as web or app; drift watches its share.';
COMMENT ON COLUMN crm_data.event.value IS 'Number that belongs to the kind, such as seconds of dwell or a balance.';
COMMENT ON COLUMN crm_data.event.detail IS 'Facts of the kind.';
COMMENT ON COLUMN crm_data.event.session_key IS 'Visitor''s session by the source.';
COMMENT ON COLUMN crm_data.event.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.event.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.event.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.event.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.event.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.task (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind <> ''),
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    account_id bigint REFERENCES crm_data.account (id),
    stage_id bigint REFERENCES crm_data.stage (id),
    action_key text,
    title text NOT NULL CHECK (title <> ''),
    body text,
    mandatory boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'waived', 'cancelled')),
    due_at timestamptz,
    notified_at timestamptz,
    escalate_at timestamptz,
    escalated_at timestamptz,
    escalations smallint NOT NULL DEFAULT 0 CHECK (escalations >= 0),
    started_at timestamptz,
    done_at timestamptz,
    done_by bigint REFERENCES crm_data.member (id),
    evidence jsonb,
    waived_reason text,
    priority smallint NOT NULL DEFAULT 3 CHECK (priority BETWEEN 0 AND 9),
    reopened integer NOT NULL DEFAULT 0 CHECK (reopened >= 0),
    rule_key text,
    rule_version integer,
    dedupe_key text UNIQUE,
    interaction_id bigint REFERENCES crm_data.interaction (id),
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    owner_id bigint REFERENCES crm_data.member (id),
    team_id bigint REFERENCES crm_data.team (id),
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    CHECK (state <> 'waived' OR (waived_reason IS NOT NULL AND waived_reason <> '')),
    CHECK (state = 'open' OR done_at IS NOT NULL)
);
CREATE INDEX task_due_at_idx ON crm_data.task (due_at) WHERE state = 'open' AND notified_at IS NULL;
CREATE INDEX task_escalate_at_idx ON crm_data.task (escalate_at) WHERE state = 'open' AND escalated_at IS NULL;
CREATE INDEX task_object_record_id_idx ON crm_data.task (object, record_id);
-- in the order of a person's list
CREATE INDEX task_owner_open_idx ON crm_data.task (owner_id, priority DESC, due_at, id) WHERE state = 'open';
CREATE INDEX task_account_id_idx ON crm_data.task (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX task_stage_id_idx ON crm_data.task (stage_id) WHERE stage_id IS NOT NULL;
CREATE INDEX task_done_by_idx ON crm_data.task (done_by) WHERE done_by IS NOT NULL;
CREATE INDEX task_interaction_id_idx ON crm_data.task (interaction_id) WHERE interaction_id IS NOT NULL;
CREATE INDEX task_owner_id_idx ON crm_data.task (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX task_team_id_idx ON crm_data.task (team_id) WHERE team_id IS NOT NULL;
COMMENT ON TABLE crm_data.task IS 'Task: something that is owed, with a deadline and, for stage actions, evidence.';
COMMENT ON COLUMN crm_data.task.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.task.kind IS 'stage_action, first_touch, follow_up, escalation, case, data_completion, risk_action, delivery, renewal, or another kind that a rule names.';
COMMENT ON COLUMN crm_data.task.object IS 'Business object the task is about.';
COMMENT ON COLUMN crm_data.task.record_id IS 'Record the task is about.';
COMMENT ON COLUMN crm_data.task.account_id IS 'Customer of that record; NULL when there is none.';
COMMENT ON COLUMN crm_data.task.stage_id IS 'Stage whose action it is; NULL for other kinds.';
COMMENT ON COLUMN crm_data.task.action_key IS 'Key of the stage action or of the rule''s action.';
COMMENT ON COLUMN crm_data.task.title IS 'What is to be done.';
COMMENT ON COLUMN crm_data.task.body IS 'Details.';
COMMENT ON COLUMN crm_data.task.mandatory IS 'Whether it blocks the stage while open.';
COMMENT ON COLUMN crm_data.task.state IS 'Where it stands.';
COMMENT ON COLUMN crm_data.task.due_at IS 'When it is owed.';
COMMENT ON COLUMN crm_data.task.notified_at IS 'When the overdue message went out; NULL while none did.';
COMMENT ON COLUMN crm_data.task.escalate_at IS 'When it goes to the superior.';
COMMENT ON COLUMN crm_data.task.escalated_at IS 'When it was escalated; NULL while it was not.';
COMMENT ON COLUMN crm_data.task.escalations IS 'How often it was escalated.';
COMMENT ON COLUMN crm_data.task.started_at IS 'When the clock began to run.';
COMMENT ON COLUMN crm_data.task.done_at IS 'When it was done or waived.';
COMMENT ON COLUMN crm_data.task.done_by IS 'Member who did or waived it.';
COMMENT ON COLUMN crm_data.task.evidence IS 'What proves it: attachment ids, forms, notes.';
COMMENT ON COLUMN crm_data.task.waived_reason IS 'Why it was waived.';
COMMENT ON COLUMN crm_data.task.priority IS 'Priority, 0 to 9, higher is more urgent.';
COMMENT ON COLUMN crm_data.task.reopened IS 'How often it was reopened; a first pass has 0.';
COMMENT ON COLUMN crm_data.task.rule_key IS 'Rule that made it; NULL when a person or a stage did.';
COMMENT ON COLUMN crm_data.task.rule_version IS 'Version of that rule.';
COMMENT ON COLUMN crm_data.task.dedupe_key IS 'Key that makes a repeated rule run harmless.';
COMMENT ON COLUMN crm_data.task.interaction_id IS 'Follow-up it came out of.';
COMMENT ON COLUMN crm_data.task.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.task.owner_id IS 'Member who owns the record.';
COMMENT ON COLUMN crm_data.task.team_id IS 'Team for row rules: the owner''s, or the customer''s.';
COMMENT ON COLUMN crm_data.task.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine; 0 without one.';
COMMENT ON COLUMN crm_data.task.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.task.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.task.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.task.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.task.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.task.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.task.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.task.last_at IS 'Time of the record''s last change; the next one is never earlier.';

ALTER TABLE crm_data.lead

    ADD CONSTRAINT lead_converted_opportunity_id_fkey FOREIGN KEY (converted_opportunity_id) REFERENCES crm_data.opportunity (id);

CREATE INDEX lead_converted_opportunity_id_idx ON crm_data.lead (converted_opportunity_id) WHERE converted_opportunity_id IS NOT NULL;
