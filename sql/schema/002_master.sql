-- Master data: source systems, accounts, contacts, campaigns, leads, products, references to other systems, attachments.

CREATE TABLE crm_data.source_system (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    kind text NOT NULL DEFAULT 'generic',
    label jsonb NOT NULL DEFAULT '{}',
    mode text NOT NULL DEFAULT 'push' CHECK (mode IN ('push', 'pull')),
    enabled boolean NOT NULL DEFAULT true,
    priority smallint NOT NULL DEFAULT 0,
    cadence interval,
    steward_id bigint REFERENCES crm_data.member (id),
    last_seen_at timestamptz,
    last_applied_at timestamptz,
    secret_name text REFERENCES crm_data.secret (name),
    config jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX source_system_steward_id_idx ON crm_data.source_system (steward_id) WHERE steward_id IS NOT NULL;
CREATE INDEX source_system_secret_name_idx ON crm_data.source_system (secret_name) WHERE secret_name IS NOT NULL;
COMMENT ON TABLE crm_data.source_system IS 'A system that sends records in or takes them: web forms, chat tools, ERP, telephony.';
COMMENT ON COLUMN crm_data.source_system.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.source_system.name IS 'Name used in crm.ingest and in the mapping.';
COMMENT ON COLUMN crm_data.source_system.kind IS 'What it is: web, chat, erp, finance, telephony, marketing, legal, asr, file, generic.';
COMMENT ON COLUMN crm_data.source_system.label IS 'Label by language: {"en": .., "zh": ..}.';
COMMENT ON COLUMN crm_data.source_system.mode IS 'push handles a payload in the sender''s transaction, pull leaves it to the next tick.';
COMMENT ON COLUMN crm_data.source_system.enabled IS 'Whether payloads are taken in; refused ones are kept as parked.';
COMMENT ON COLUMN crm_data.source_system.priority IS 'Rank among the sources when authority and survivorship compare them, higher wins.';
COMMENT ON COLUMN crm_data.source_system.cadence IS 'How often new data is promised; NULL means no promise. Freshness is measured against it.';
COMMENT ON COLUMN crm_data.source_system.steward_id IS 'Member answerable for the data of this source.';
COMMENT ON COLUMN crm_data.source_system.last_seen_at IS 'When the last payload came in.';
COMMENT ON COLUMN crm_data.source_system.last_applied_at IS 'When the last payload was applied.';
COMMENT ON COLUMN crm_data.source_system.secret_name IS 'Key with which its payloads are signed; NULL when the caller''s login is the proof.';
COMMENT ON COLUMN crm_data.source_system.config IS 'Settings of the connector that are no secrets.';
COMMENT ON COLUMN crm_data.source_system.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.source_system.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.source_system.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.source_system.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.sync_cursor (
    source_id bigint PRIMARY KEY REFERENCES crm_data.source_system (id),
    channel text NOT NULL CHECK (channel <> ''),
    address text,
    objects jsonb NOT NULL CHECK (jsonb_typeof(objects) = 'object'),
    done_at timestamptz NOT NULL,
    done_xid xid8 NOT NULL,
    from_at timestamptz NOT NULL,
    mark_at timestamptz NOT NULL,
    mark_xid xid8 NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.sync_cursor IS 'What another system is told of our changes, and up to where of the history it was told.';
COMMENT ON COLUMN crm_data.sync_cursor.source_id IS 'The other system.';
COMMENT ON COLUMN crm_data.sync_cursor.channel IS 'Channel on which it is told.';
COMMENT ON COLUMN crm_data.sync_cursor.address IS 'Address on the channel; NULL leaves it to the relay.';
COMMENT ON COLUMN crm_data.sync_cursor.objects IS 'Fields that it is told of, by object: {"contract": ["state", "amount"]}.';
COMMENT ON COLUMN crm_data.sync_cursor.done_at IS 'Changes up to this time of transactions below done_xid are told.';
COMMENT ON COLUMN crm_data.sync_cursor.done_xid IS 'Oldest transaction that was running then: its changes, and those of later ones, may be missing.';
COMMENT ON COLUMN crm_data.sync_cursor.from_at IS 'No change that is missing is older: where reading begins.';
COMMENT ON COLUMN crm_data.sync_cursor.mark_at IS 'Where reading will begin once all transactions below mark_xid are over.';
COMMENT ON COLUMN crm_data.sync_cursor.mark_xid IS 'Transactions after this one began after mark_at.';
COMMENT ON COLUMN crm_data.sync_cursor.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.sync_cursor.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.sync_cursor.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.sync_cursor.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deleted_at timestamptz,
    code text UNIQUE CHECK (code <> ''),
    name text NOT NULL CHECK (name <> ''),
    name_core text,
    uscc text,
    phone text,
    phone_norm text,
    email text,
    email_norm text,
    website text,
    address text,
    legal_person text,
    legal_id4 text CHECK (legal_id4 ~ '^[0-9]{3}[0-9Xx]$'),
    type text,
    industry text,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    region text,
    province text,
    city text,
    district text,
    geo point,
    employees integer CHECK (employees >= 0),
    annual_revenue numeric(18,2) CHECK (annual_revenue >= 0),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    founded_year smallint,
    source_id bigint REFERENCES crm_data.source_system (id),
    owner_id bigint REFERENCES crm_data.member (id),
    team_id bigint REFERENCES crm_data.team (id),
    pool_id bigint REFERENCES crm_data.pool (id),
    credit_rating text,
    tags text[] NOT NULL DEFAULT '{}',
    complaint_tags text[] NOT NULL DEFAULT '{}',
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    sync_off text[] NOT NULL DEFAULT '{}',
    last_contact_at timestamptz,
    parent_id bigint REFERENCES crm_data.account (id),
    merged_into bigint REFERENCES crm_data.account (id),
    steward_id bigint REFERENCES crm_data.member (id),
    lifecycle text NOT NULL DEFAULT 'prospect' CHECK (lifecycle <> ''),
    next_renewal_on date,
    health smallint CHECK (health BETWEEN 0 AND 100),
    info_health smallint CHECK (info_health BETWEEN 0 AND 100),
    risk_score smallint CHECK (risk_score BETWEEN 0 AND 100),
    churn_probability double precision CHECK (churn_probability BETWEEN 0 AND 1),
    draft_problems jsonb,
    lease_endpoint text,
    lease_until timestamptz,
    op_seq bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    op_apart boolean NOT NULL DEFAULT false,
    CHECK (parent_id <> id),
    CHECK (merged_into <> id)
);
-- room for the next version of a row on its page: most updates then touch no index
ALTER TABLE crm_data.account SET (fillfactor = 90);
CREATE INDEX account_phone_norm_idx ON crm_data.account (phone_norm) WHERE phone_norm IS NOT NULL;
CREATE INDEX account_email_norm_idx ON crm_data.account (email_norm) WHERE email_norm IS NOT NULL;
CREATE INDEX account_uscc_idx ON crm_data.account (uscc) WHERE uscc IS NOT NULL;
CREATE INDEX account_name_idx ON crm_data.account (name);
CREATE INDEX account_name_core_idx ON crm_data.account (name_core) WHERE name_core IS NOT NULL;
-- (of all customers: before the first ANALYZE the planner takes an index of what IS NULL for nearly empty, and walks it for every row)
CREATE INDEX account_last_contact_at_idx ON crm_data.account (last_contact_at);
CREATE INDEX account_next_renewal_on_idx ON crm_data.account (next_renewal_on) WHERE next_renewal_on IS NOT NULL;
CREATE INDEX account_region_idx ON crm_data.account (region);
CREATE INDEX account_tags_idx ON crm_data.account USING gin (tags);
CREATE INDEX account_source_id_idx ON crm_data.account (source_id) WHERE source_id IS NOT NULL;
-- whom nobody has spoken to, of one person's customers, the longest silence first
CREATE INDEX account_owner_id_idx ON crm_data.account (owner_id, last_contact_at) WHERE owner_id IS NOT NULL;
CREATE INDEX account_team_id_idx ON crm_data.account (team_id) WHERE team_id IS NOT NULL;
CREATE INDEX account_pool_id_idx ON crm_data.account (pool_id) WHERE pool_id IS NOT NULL;
CREATE INDEX account_parent_id_idx ON crm_data.account (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX account_merged_into_idx ON crm_data.account (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX account_steward_id_idx ON crm_data.account (steward_id) WHERE steward_id IS NOT NULL;
COMMENT ON TABLE crm_data.account IS 'Customer: an organisation or person we sell to. The row is also the lock under which everything of this customer is written in order.';
COMMENT ON COLUMN crm_data.account.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.account.code IS 'Unique customer code shared with other systems.';
COMMENT ON COLUMN crm_data.account.name IS 'Full name as on the business licence, or the person''s name.';
COMMENT ON COLUMN crm_data.account.name_core IS 'Normalised core of the name, kept by the engine, for search and duplicates.';
COMMENT ON COLUMN crm_data.account.uscc IS 'Unified social credit code, 18 characters, as sent; checked by the quality rules.';
COMMENT ON COLUMN crm_data.account.phone IS 'Main telephone number as typed.';
COMMENT ON COLUMN crm_data.account.phone_norm IS 'Main telephone number in E.164 form, kept by the engine.';
COMMENT ON COLUMN crm_data.account.email IS 'Main e-mail address as typed.';
COMMENT ON COLUMN crm_data.account.email_norm IS 'E-mail address in canonical form, kept by the engine.';
COMMENT ON COLUMN crm_data.account.website IS 'Address of the website.';
COMMENT ON COLUMN crm_data.account.address IS 'Street address in one line, as typed.';
COMMENT ON COLUMN crm_data.account.legal_person IS 'Name of the legal representative.';
COMMENT ON COLUMN crm_data.account.legal_id4 IS 'Last four characters of the legal representative''s identity number; never more is stored.';
COMMENT ON COLUMN crm_data.account.type IS 'Kind of customer, a value of the picklist account_type: enterprise, smb, government, education, person.';
COMMENT ON COLUMN crm_data.account.industry IS 'Industry, a value of the picklist industry.';
COMMENT ON COLUMN crm_data.account.grade IS 'Customer grade as a rank: 0 not graded, 1 D, 2 C, 3 B, 4 A, higher ranks free; a rank because row rules must compare it leakproof.';
COMMENT ON COLUMN crm_data.account.region IS 'Sales region of the customer.';
COMMENT ON COLUMN crm_data.account.province IS 'Province or state.';
COMMENT ON COLUMN crm_data.account.city IS 'City.';
COMMENT ON COLUMN crm_data.account.district IS 'District or county.';
COMMENT ON COLUMN crm_data.account.geo IS 'Position as (longitude, latitude) in degrees.';
COMMENT ON COLUMN crm_data.account.employees IS 'Number of employees.';
COMMENT ON COLUMN crm_data.account.annual_revenue IS 'Yearly turnover of the customer in currency.';
COMMENT ON COLUMN crm_data.account.currency IS 'ISO 4217 code of the amounts in this row.';
COMMENT ON COLUMN crm_data.account.founded_year IS 'Year of foundation.';
COMMENT ON COLUMN crm_data.account.source_id IS 'Source system the customer first came from.';
COMMENT ON COLUMN crm_data.account.owner_id IS 'Member who owns the customer; NULL while it lies in a pool.';
COMMENT ON COLUMN crm_data.account.team_id IS 'Team of the owner.';
COMMENT ON COLUMN crm_data.account.pool_id IS 'Public pool the customer lies in; NULL while owned.';
COMMENT ON COLUMN crm_data.account.credit_rating IS 'Credit rating, A to D, one dimension of the receivable health.';
COMMENT ON COLUMN crm_data.account.tags IS 'Tags from the tag dictionary, free of duplicates.';
COMMENT ON COLUMN crm_data.account.complaint_tags IS 'Complaint tags seen by the service desk.';
COMMENT ON COLUMN crm_data.account.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.account.sync_off IS 'Names of the source systems that may neither write nor receive this customer.';
COMMENT ON COLUMN crm_data.account.last_contact_at IS 'When the customer was last contacted, kept by the engine.';
COMMENT ON COLUMN crm_data.account.parent_id IS 'Parent company.';
COMMENT ON COLUMN crm_data.account.merged_into IS 'Survivor this customer was merged into; the row stays as a redirect.';
COMMENT ON COLUMN crm_data.account.steward_id IS 'Data steward of the record.';
COMMENT ON COLUMN crm_data.account.lifecycle IS 'State of the customer''s life, moved only along the configured life cycle.';
COMMENT ON COLUMN crm_data.account.next_renewal_on IS 'Date of the next renewal or expiry.';
COMMENT ON COLUMN crm_data.account.health IS 'Account health, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.account.info_health IS 'Completeness and freshness of the record, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.account.risk_score IS 'Risk score, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.account.churn_probability IS 'Probability of churn, 0 to 1, kept by the engine.';
COMMENT ON COLUMN crm_data.account.draft_problems IS 'Draft: fields that were refused when the record was saved, {field: SQLSTATE}; NULL when it is complete. A field that gets another value leaves it.';
COMMENT ON COLUMN crm_data.account.lease_endpoint IS 'Endpoint holding the edit lease; worth something only while lease_until lies in the next 30 seconds.';
COMMENT ON COLUMN crm_data.account.lease_until IS 'End of the edit lease.';
COMMENT ON COLUMN crm_data.account.op_seq IS 'Number of the last operation on the customer''s own row. Numbers are gapless over the customer and all that belongs to him, and assigned under this row''s lock.';
COMMENT ON COLUMN crm_data.account.op_apart IS 'Whether there are operations on what belongs to him, whose numbers stand in crm_data.operation alone, so that writing it does not write the customer each time.';
COMMENT ON COLUMN crm_data.account.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.account.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.account.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.account.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.account.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.account.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.account.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.account.last_at IS 'Time of the record''s last change; the next one is never earlier.';
COMMENT ON COLUMN crm_data.account.deleted_at IS 'When the record was deleted; deletion is soft and goes through functions.';

CREATE TABLE crm_data.contact (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deleted_at timestamptz,
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    name text NOT NULL CHECK (name <> ''),
    title text,
    department text,
    role_in_decision text,
    phone text,
    phone_norm text,
    email text,
    email_norm text,
    wechat text,
    reports_to bigint REFERENCES crm_data.contact (id),
    birthday date,
    preferred_channel text,
    opt_out text[] NOT NULL DEFAULT '{}',
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    last_contact_at timestamptz,
    merged_into bigint REFERENCES crm_data.contact (id),
    forgotten_at timestamptz,
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
    CHECK (reports_to <> id),
    CHECK (merged_into <> id)
);
CREATE INDEX contact_phone_norm_idx ON crm_data.contact (phone_norm) WHERE phone_norm IS NOT NULL;
CREATE INDEX contact_email_norm_idx ON crm_data.contact (email_norm) WHERE email_norm IS NOT NULL;
CREATE INDEX contact_owner_id_idx ON crm_data.contact (owner_id);
CREATE INDEX contact_team_id_idx ON crm_data.contact (team_id);
CREATE INDEX contact_account_id_idx ON crm_data.contact (account_id);
CREATE INDEX contact_reports_to_idx ON crm_data.contact (reports_to) WHERE reports_to IS NOT NULL;
CREATE INDEX contact_merged_into_idx ON crm_data.contact (merged_into) WHERE merged_into IS NOT NULL;
COMMENT ON TABLE crm_data.contact IS 'Contact: a person at a customer.';
COMMENT ON COLUMN crm_data.contact.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.contact.account_id IS 'Customer the person works for.';
COMMENT ON COLUMN crm_data.contact.name IS 'Full name.';
COMMENT ON COLUMN crm_data.contact.title IS 'Job title.';
COMMENT ON COLUMN crm_data.contact.department IS 'Department at the customer.';
COMMENT ON COLUMN crm_data.contact.role_in_decision IS 'Part in decisions: decision_maker, influencer, technical, procurement, legal, finance, user, gatekeeper.';
COMMENT ON COLUMN crm_data.contact.phone IS 'Telephone number as typed.';
COMMENT ON COLUMN crm_data.contact.phone_norm IS 'Telephone number in E.164 form, kept by the engine.';
COMMENT ON COLUMN crm_data.contact.email IS 'E-mail address as typed.';
COMMENT ON COLUMN crm_data.contact.email_norm IS 'E-mail address in canonical form, kept by the engine.';
COMMENT ON COLUMN crm_data.contact.wechat IS 'Identifier in the chat tool.';
COMMENT ON COLUMN crm_data.contact.reports_to IS 'Contact this person reports to.';
COMMENT ON COLUMN crm_data.contact.birthday IS 'Date of birth.';
COMMENT ON COLUMN crm_data.contact.preferred_channel IS 'Channel the person prefers: phone, email, chat, visit.';
COMMENT ON COLUMN crm_data.contact.opt_out IS 'Channels on which the person refused messages.';
COMMENT ON COLUMN crm_data.contact.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.contact.last_contact_at IS 'When the person was last contacted, kept by the engine.';
COMMENT ON COLUMN crm_data.contact.merged_into IS 'Survivor this contact was merged into.';
COMMENT ON COLUMN crm_data.contact.forgotten_at IS 'When the personal values were erased on request; NULL otherwise.';
COMMENT ON COLUMN crm_data.contact.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.contact.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.contact.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.contact.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.contact.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.contact.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.contact.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.contact.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.contact.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.contact.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.contact.last_at IS 'Time of the record''s last change; the next one is never earlier.';
COMMENT ON COLUMN crm_data.contact.deleted_at IS 'When the record was deleted; deletion is soft and goes through functions.';

CREATE TABLE crm_data.campaign (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deleted_at timestamptz,
    code text NOT NULL UNIQUE CHECK (code <> ''),
    name text NOT NULL CHECK (name <> ''),
    channel text,
    starts_on date,
    ends_on date,
    budget numeric(18,2) CHECK (budget >= 0),
    cost numeric(18,2) NOT NULL DEFAULT 0 CHECK (cost >= 0),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    filter jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'running', 'paused', 'finished', 'cancelled')),
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    op_seq bigint NOT NULL DEFAULT 0,
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
    CHECK (ends_on >= starts_on)
);
CREATE INDEX campaign_owner_id_idx ON crm_data.campaign (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX campaign_team_id_idx ON crm_data.campaign (team_id) WHERE team_id IS NOT NULL;
COMMENT ON TABLE crm_data.campaign IS 'Marketing campaign with its cost, its filter and its members.';
COMMENT ON COLUMN crm_data.campaign.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.campaign.code IS 'Unique campaign code.';
COMMENT ON COLUMN crm_data.campaign.name IS 'Name of the campaign.';
COMMENT ON COLUMN crm_data.campaign.channel IS 'Main channel, a value of the picklist channel.';
COMMENT ON COLUMN crm_data.campaign.starts_on IS 'First day.';
COMMENT ON COLUMN crm_data.campaign.ends_on IS 'Last day.';
COMMENT ON COLUMN crm_data.campaign.budget IS 'Planned cost in currency.';
COMMENT ON COLUMN crm_data.campaign.cost IS 'Cost so far in currency, the base of the return on investment.';
COMMENT ON COLUMN crm_data.campaign.currency IS 'ISO 4217 code of the amounts in this row.';
COMMENT ON COLUMN crm_data.campaign.filter IS 'Customer filter as a document: jsonpath over the feature document.';
COMMENT ON COLUMN crm_data.campaign.state IS 'Where the campaign stands.';
COMMENT ON COLUMN crm_data.campaign.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.campaign.op_seq IS 'Number of the last operation accepted for this record.';
COMMENT ON COLUMN crm_data.campaign.owner_id IS 'Member who owns the record.';
COMMENT ON COLUMN crm_data.campaign.team_id IS 'Team for row rules: the owner''s, or the customer''s.';
COMMENT ON COLUMN crm_data.campaign.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine; 0 without one.';
COMMENT ON COLUMN crm_data.campaign.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.campaign.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.campaign.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.campaign.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.campaign.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.campaign.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.campaign.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.campaign.last_at IS 'Time of the record''s last change; the next one is never earlier.';
COMMENT ON COLUMN crm_data.campaign.deleted_at IS 'When the record was deleted; deletion is soft and goes through functions.';

CREATE TABLE crm_data.lead (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deleted_at timestamptz,
    source text NOT NULL DEFAULT 'manual' CHECK (source <> ''),
    source_id bigint REFERENCES crm_data.source_system (id),
    channel text,
    campaign_id bigint REFERENCES crm_data.campaign (id),
    context jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(context) = 'object'),
    client_key text UNIQUE,
    name text,
    company text,
    title text,
    phone text,
    phone_norm text,
    email text,
    email_norm text,
    legal_id4 text CHECK (legal_id4 ~ '^[0-9]{3}[0-9Xx]$'),
    need text,
    industry text,
    region text,
    province text,
    city text,
    district text,
    geo point,
    account_id bigint REFERENCES crm_data.account (id),
    state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'unrouted', 'assigned', 'working', 'converted', 'disqualified', 'recycled')),
    disqualified_reason text,
    route text,
    route_version integer,
    assigned_at timestamptz,
    assign_count integer NOT NULL DEFAULT 0 CHECK (assign_count >= 0),
    first_touch_due_at timestamptz,
    first_touch_at timestamptz,
    score smallint CHECK (score BETWEEN 0 AND 100),
    converted_account_id bigint REFERENCES crm_data.account (id),
    converted_contact_id bigint REFERENCES crm_data.contact (id),
    converted_opportunity_id bigint,
    converted_at timestamptz,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    ts_assumed boolean NOT NULL DEFAULT false,
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    merged_into bigint REFERENCES crm_data.lead (id),
    op_seq bigint NOT NULL DEFAULT 0,
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
    CHECK (merged_into <> id)
);
CREATE INDEX lead_first_touch_due_at_idx ON crm_data.lead (first_touch_due_at) WHERE first_touch_at IS NULL AND state IN ('new', 'unrouted', 'assigned');
CREATE INDEX lead_phone_norm_idx ON crm_data.lead (phone_norm) WHERE phone_norm IS NOT NULL;
CREATE INDEX lead_email_norm_idx ON crm_data.lead (email_norm) WHERE email_norm IS NOT NULL;
CREATE INDEX lead_recorded_at_idx ON crm_data.lead (recorded_at);
CREATE INDEX lead_unrouted_idx ON crm_data.lead (id) WHERE state = 'unrouted';
CREATE INDEX lead_source_id_idx ON crm_data.lead (source_id) WHERE source_id IS NOT NULL;
CREATE INDEX lead_campaign_id_idx ON crm_data.lead (campaign_id) WHERE campaign_id IS NOT NULL;
CREATE INDEX lead_account_id_idx ON crm_data.lead (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX lead_converted_account_id_idx ON crm_data.lead (converted_account_id) WHERE converted_account_id IS NOT NULL;
CREATE INDEX lead_converted_contact_id_idx ON crm_data.lead (converted_contact_id) WHERE converted_contact_id IS NOT NULL;
CREATE INDEX lead_merged_into_idx ON crm_data.lead (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX lead_owner_id_idx ON crm_data.lead (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX lead_team_id_idx ON crm_data.lead (team_id) WHERE team_id IS NOT NULL;
COMMENT ON TABLE crm_data.lead IS 'Lead: interest that is not yet a customer, with the context it came in.';
COMMENT ON COLUMN crm_data.lead.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.lead.source IS 'Where the lead came from: web, tradeshow, phone, import, or another value of the picklist lead_source.';
COMMENT ON COLUMN crm_data.lead.source_id IS 'Source system that delivered the lead.';
COMMENT ON COLUMN crm_data.lead.channel IS 'Channel, a value of the picklist channel.';
COMMENT ON COLUMN crm_data.lead.campaign_id IS 'Campaign that brought the lead.';
COMMENT ON COLUMN crm_data.lead.context IS 'Context of the capture, twelve registered keys such as ip, page, dwell, latitude and longitude.';
COMMENT ON COLUMN crm_data.lead.client_key IS 'Key of the sender; the same key again is the same lead.';
COMMENT ON COLUMN crm_data.lead.name IS 'Name of the person.';
COMMENT ON COLUMN crm_data.lead.company IS 'Name of the organisation as typed.';
COMMENT ON COLUMN crm_data.lead.title IS 'Job title.';
COMMENT ON COLUMN crm_data.lead.phone IS 'Telephone number as typed.';
COMMENT ON COLUMN crm_data.lead.phone_norm IS 'Telephone number in E.164 form, kept by the engine.';
COMMENT ON COLUMN crm_data.lead.email IS 'E-mail address as typed.';
COMMENT ON COLUMN crm_data.lead.email_norm IS 'E-mail address in canonical form, kept by the engine.';
COMMENT ON COLUMN crm_data.lead.legal_id4 IS 'Last four characters of the legal representative''s identity number.';
COMMENT ON COLUMN crm_data.lead.need IS 'What the person asked for, the text that the industry dictionary reads.';
COMMENT ON COLUMN crm_data.lead.industry IS 'Industry found or given.';
COMMENT ON COLUMN crm_data.lead.region IS 'Region found or given.';
COMMENT ON COLUMN crm_data.lead.province IS 'Province or state.';
COMMENT ON COLUMN crm_data.lead.city IS 'City.';
COMMENT ON COLUMN crm_data.lead.district IS 'District or county.';
COMMENT ON COLUMN crm_data.lead.geo IS 'Position as (longitude, latitude) in degrees.';
COMMENT ON COLUMN crm_data.lead.account_id IS 'Existing customer the lead was recognised as; NULL while unknown.';
COMMENT ON COLUMN crm_data.lead.state IS 'Where the lead stands; unrouted means that no rule matched and a person must look.';
COMMENT ON COLUMN crm_data.lead.disqualified_reason IS 'Why the lead was given up.';
COMMENT ON COLUMN crm_data.lead.route IS 'Assignment rule that routed the lead.';
COMMENT ON COLUMN crm_data.lead.route_version IS 'Version of that rule.';
COMMENT ON COLUMN crm_data.lead.assigned_at IS 'When it was last assigned.';
COMMENT ON COLUMN crm_data.lead.assign_count IS 'How often it was assigned, the first time included.';
COMMENT ON COLUMN crm_data.lead.first_touch_due_at IS 'Until when the first touch is promised.';
COMMENT ON COLUMN crm_data.lead.first_touch_at IS 'When somebody first touched the lead.';
COMMENT ON COLUMN crm_data.lead.score IS 'Lead score, 0 to 100, kept by the engine.';
COMMENT ON COLUMN crm_data.lead.converted_account_id IS 'Customer made from the lead.';
COMMENT ON COLUMN crm_data.lead.converted_contact_id IS 'Contact made from the lead.';
COMMENT ON COLUMN crm_data.lead.converted_opportunity_id IS 'Opportunity made from the lead.';
COMMENT ON COLUMN crm_data.lead.converted_at IS 'When it was converted.';
COMMENT ON COLUMN crm_data.lead.occurred_at IS 'When the interest was shown, by the source.';
COMMENT ON COLUMN crm_data.lead.recorded_at IS 'When the lead reached the database; promised times count from here.';
COMMENT ON COLUMN crm_data.lead.ts_assumed IS 'Whether occurred_at was missing and recorded_at stands in for it.';
COMMENT ON COLUMN crm_data.lead.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.lead.merged_into IS 'Survivor this lead was merged into.';
COMMENT ON COLUMN crm_data.lead.op_seq IS 'Number of the last operation accepted for this record.';
COMMENT ON COLUMN crm_data.lead.owner_id IS 'Member who owns the record.';
COMMENT ON COLUMN crm_data.lead.team_id IS 'Team for row rules: the owner''s, or the customer''s.';
COMMENT ON COLUMN crm_data.lead.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine; 0 without one.';
COMMENT ON COLUMN crm_data.lead.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.lead.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.lead.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.lead.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.lead.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.lead.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.lead.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.lead.last_at IS 'Time of the record''s last change; the next one is never earlier.';
COMMENT ON COLUMN crm_data.lead.deleted_at IS 'When the record was deleted; deletion is soft and goes through functions.';

CREATE TABLE crm_data.product (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deleted_at timestamptz,
    code text NOT NULL UNIQUE CHECK (code <> ''),
    name text NOT NULL CHECK (name <> ''),
    line text,
    unit text,
    unit_price numeric(18,2) CHECK (unit_price >= 0),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    tax_rate numeric(5,4) NOT NULL DEFAULT 0 CHECK (tax_rate BETWEEN 0 AND 1),
    retired_on date,
    attrs jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attrs) = 'object'),
    op_seq bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz
);
CREATE INDEX product_line_idx ON crm_data.product (line);
COMMENT ON TABLE crm_data.product IS 'Product or service that is sold.';
COMMENT ON COLUMN crm_data.product.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.product.code IS 'Unique product code (SKU).';
COMMENT ON COLUMN crm_data.product.name IS 'Name of the product.';
COMMENT ON COLUMN crm_data.product.line IS 'Product line, a dimension of the win probability.';
COMMENT ON COLUMN crm_data.product.unit IS 'Unit of the quantity.';
COMMENT ON COLUMN crm_data.product.unit_price IS 'List price of one unit in currency, without tax.';
COMMENT ON COLUMN crm_data.product.currency IS 'ISO 4217 code of the price.';
COMMENT ON COLUMN crm_data.product.tax_rate IS 'Tax rate as a fraction, 0.13 for 13 percent.';
COMMENT ON COLUMN crm_data.product.retired_on IS 'First day on which it is no longer sold.';
COMMENT ON COLUMN crm_data.product.attrs IS 'Custom fields by key, each registered in field with custom = true.';
COMMENT ON COLUMN crm_data.product.op_seq IS 'Number of the last operation accepted for this record.';
COMMENT ON COLUMN crm_data.product.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.product.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.product.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.product.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.product.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.product.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.product.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.product.last_at IS 'Time of the record''s last change; the next one is never earlier.';
COMMENT ON COLUMN crm_data.product.deleted_at IS 'When the record was deleted; deletion is soft and goes through functions.';

CREATE TABLE crm_data.external_ref (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL REFERENCES crm_data.source_system (id),
    external_id text NOT NULL CHECK (external_id <> ''),
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    digest bytea,
    source_ts timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (source_id, object, external_id)
);
CREATE INDEX external_ref_object_record_id_idx ON crm_data.external_ref (object, record_id);
COMMENT ON TABLE crm_data.external_ref IS 'Crosswalk: the identifier of one of our records in another system.';
COMMENT ON COLUMN crm_data.external_ref.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.external_ref.source_id IS 'System that knows the record by external_id.';
COMMENT ON COLUMN crm_data.external_ref.external_id IS 'Identifier in that system, as sent.';
COMMENT ON COLUMN crm_data.external_ref.object IS 'Business object of our record.';
COMMENT ON COLUMN crm_data.external_ref.record_id IS 'Our record; no foreign key because it may lie in any object''s table.';
COMMENT ON COLUMN crm_data.external_ref.digest IS 'SHA-256 of the last payload seen, so that an unchanged record is skipped.';
COMMENT ON COLUMN crm_data.external_ref.source_ts IS 'When the source says it changed the record last.';
COMMENT ON COLUMN crm_data.external_ref.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.external_ref.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.external_ref.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.external_ref.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.attachment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    account_id bigint REFERENCES crm_data.account (id),
    kind text NOT NULL CHECK (kind <> ''),
    name text NOT NULL CHECK (name <> ''),
    url text,
    sha256 bytea CHECK (length(sha256) = 32),
    bytes bigint CHECK (bytes >= 0),
    mime text,
    signed_by_customer boolean NOT NULL DEFAULT false,
    legal_reviewed_at timestamptz,
    extracted jsonb,
    retracted_at timestamptz,
    purge_after timestamptz,
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
CREATE INDEX attachment_object_record_id_idx ON crm_data.attachment (object, record_id);
CREATE INDEX attachment_purge_after_idx ON crm_data.attachment (purge_after) WHERE purge_after IS NOT NULL;
CREATE INDEX attachment_account_id_idx ON crm_data.attachment (account_id) WHERE account_id IS NOT NULL;
COMMENT ON TABLE crm_data.attachment IS 'Attachment: name, place and digest of a file kept elsewhere; the database never holds the bytes.';
COMMENT ON COLUMN crm_data.attachment.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.attachment.object IS 'Business object the file belongs to.';
COMMENT ON COLUMN crm_data.attachment.record_id IS 'Record the file belongs to.';
COMMENT ON COLUMN crm_data.attachment.account_id IS 'Customer of that record; NULL when there is none.';
COMMENT ON COLUMN crm_data.attachment.kind IS 'What it is: contract, quote, deck, requirement_confirmation, award_notice, invoice, recording, photo, other.';
COMMENT ON COLUMN crm_data.attachment.name IS 'File name shown to people.';
COMMENT ON COLUMN crm_data.attachment.url IS 'Where the object store keeps it.';
COMMENT ON COLUMN crm_data.attachment.sha256 IS 'SHA-256 of the content, the evidence that it did not change.';
COMMENT ON COLUMN crm_data.attachment.bytes IS 'Size in bytes.';
COMMENT ON COLUMN crm_data.attachment.mime IS 'Media type.';
COMMENT ON COLUMN crm_data.attachment.signed_by_customer IS 'Whether the customer signed it, as a requirement confirmation must be.';
COMMENT ON COLUMN crm_data.attachment.legal_reviewed_at IS 'When legal finished the first review of it.';
COMMENT ON COLUMN crm_data.attachment.extracted IS 'Fields read out of the file by an outside service, proposals until somebody accepts them.';
COMMENT ON COLUMN crm_data.attachment.retracted_at IS 'When it was deleted for people.';
COMMENT ON COLUMN crm_data.attachment.purge_after IS 'From when on the object store may delete the bytes.';
COMMENT ON COLUMN crm_data.attachment.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.attachment.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.attachment.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.attachment.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.attachment.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.attachment.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.attachment.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.attachment.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.attachment.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.attachment.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.attachment.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.campaign_member (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id bigint NOT NULL REFERENCES crm_data.campaign (id),
    account_id bigint REFERENCES crm_data.account (id),
    contact_id bigint REFERENCES crm_data.contact (id),
    lead_id bigint REFERENCES crm_data.lead (id),
    state text NOT NULL DEFAULT 'selected' CHECK (state IN ('selected', 'sent', 'responded', 'claimed', 'redeemed', 'refused')),
    sent_at timestamptz,
    claimed_at timestamptz,
    redeemed_at timestamptz,
    amount numeric(18,2),
    currency text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
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
    CHECK (account_id IS NOT NULL OR contact_id IS NOT NULL OR lead_id IS NOT NULL),
    UNIQUE (campaign_id, account_id, contact_id, lead_id)
);
CREATE INDEX campaign_member_account_id_idx ON crm_data.campaign_member (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX campaign_member_contact_id_idx ON crm_data.campaign_member (contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX campaign_member_lead_id_idx ON crm_data.campaign_member (lead_id) WHERE lead_id IS NOT NULL;
COMMENT ON TABLE crm_data.campaign_member IS 'One addressee of a campaign and how far it came with him.';
COMMENT ON COLUMN crm_data.campaign_member.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.campaign_member.campaign_id IS 'Campaign.';
COMMENT ON COLUMN crm_data.campaign_member.account_id IS 'Customer addressed.';
COMMENT ON COLUMN crm_data.campaign_member.contact_id IS 'Contact addressed.';
COMMENT ON COLUMN crm_data.campaign_member.lead_id IS 'Lead addressed.';
COMMENT ON COLUMN crm_data.campaign_member.state IS 'How far it came.';
COMMENT ON COLUMN crm_data.campaign_member.sent_at IS 'When the message went out.';
COMMENT ON COLUMN crm_data.campaign_member.claimed_at IS 'When the offer was claimed.';
COMMENT ON COLUMN crm_data.campaign_member.redeemed_at IS 'When it was redeemed.';
COMMENT ON COLUMN crm_data.campaign_member.amount IS 'Amount redeemed in currency.';
COMMENT ON COLUMN crm_data.campaign_member.currency IS 'ISO 4217 code of the amount.';
COMMENT ON COLUMN crm_data.campaign_member.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.campaign_member.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.campaign_member.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.campaign_member.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.campaign_member.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.campaign_member.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.campaign_member.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.campaign_member.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.campaign_member.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.campaign_member.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.campaign_member.last_at IS 'Time of the record''s last change; the next one is never earlier.';
