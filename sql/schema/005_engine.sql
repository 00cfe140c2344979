-- Engine: configuration, matching and merging, inbox and outbox, operations and history, alerts, models, jobs, reports, imports.
--
-- change is partitioned by month and starts with its default partition only; 003_process.sql says why.

CREATE TABLE crm_data.config (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('setting', 'picklist', 'tag', 'field_policy', 'row_policy', 'permission', 'field_map', 'survivorship', 'authority', 'match_model', 'match_rule', 'quality_rule', 'stage', 'form', 'touch_preset', 'assignment', 'rule', 'risk_signal', 'sla', 'odds', 'credibility', 'metric', 'report', 'attribution', 'journey', 'script', 'approval_flow', 'notification', 'calendar', 'health_model', 'flag', 'receivable_health', 'lifecycle', 'recycle')),
    key text NOT NULL CHECK (key <> ''),
    scope text NOT NULL DEFAULT '*' CHECK (scope <> ''),
    version integer NOT NULL CHECK (version > 0),
    body jsonb NOT NULL,
    status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'proposed', 'canary', 'active', 'retired')),
    rollout_pct numeric(5,2) CHECK (rollout_pct > 0 AND rollout_pct <= 100),
    canary_until timestamptz,
    valid tstzrange,
    author text NOT NULL,
    proposed_at timestamptz,
    activated_at timestamptz,
    approver text,
    note text,
    digest bytea GENERATED ALWAYS AS (sha256(decode(replace(body::text, '\', '\\'), 'escape'))) STORED,
    based_on integer,
    counters jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (kind, key, scope, version),
    CHECK (status NOT IN ('canary', 'active') OR (approver IS NOT NULL AND approver <> author))
);
CREATE UNIQUE INDEX config_one_active_idx ON crm_data.config (kind, key, scope) WHERE status = 'active';
CREATE UNIQUE INDEX config_one_canary_idx ON crm_data.config (kind, key, scope) WHERE status = 'canary';
-- which rules listen to an event is asked for every event
CREATE INDEX config_rule_on_idx ON crm_data.config ((body ->> 'on')) WHERE kind = 'rule' AND status IN ('active', 'canary');
CREATE INDEX config_valid_idx ON crm_data.config USING gist (valid) WHERE valid IS NOT NULL;
COMMENT ON TABLE crm_data.config IS 'Configuration: one row a version of a rule, setting, policy or definition. Versions never change; only the status moves.';
COMMENT ON COLUMN crm_data.config.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.config.kind IS 'What is configured.';
COMMENT ON COLUMN crm_data.config.key IS 'Name of the rule, setting or definition inside its kind.';
COMMENT ON COLUMN crm_data.config.scope IS 'Part of the organisation it holds for: * for all, or a region or team code.';
COMMENT ON COLUMN crm_data.config.version IS 'Version, from 1, gapless for one kind, key and scope.';
COMMENT ON COLUMN crm_data.config.body IS 'The configuration itself; its shape depends on the kind.';
COMMENT ON COLUMN crm_data.config.status IS 'Where the version stands.';
COMMENT ON COLUMN crm_data.config.rollout_pct IS 'Share of the records a canary decides, percent; NULL otherwise.';
COMMENT ON COLUMN crm_data.config.canary_until IS 'When a canary without an anomaly is promoted; NULL otherwise.';
COMMENT ON COLUMN crm_data.config.valid IS 'When the version was or is in force; NULL while it never was.';
COMMENT ON COLUMN crm_data.config.author IS 'Who wrote it.';
COMMENT ON COLUMN crm_data.config.proposed_at IS 'When it was proposed.';
COMMENT ON COLUMN crm_data.config.activated_at IS 'When it came into force; NULL for what was so from the beginning.';
COMMENT ON COLUMN crm_data.config.approver IS 'Who approved it, never the author.';
COMMENT ON COLUMN crm_data.config.note IS 'Why it was written.';
COMMENT ON COLUMN crm_data.config.digest IS 'SHA-256 over the body''s text; written with decode because convert_to is not immutable.';
COMMENT ON COLUMN crm_data.config.based_on IS 'Version it was derived from; a rollback names the version it copies.';
COMMENT ON COLUMN crm_data.config.counters IS 'Canary counters: records decided, hits, decisions other than those of the version in force, anomalies.';
COMMENT ON COLUMN crm_data.config.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.config.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.config.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.config.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.config_trial (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    config_id bigint NOT NULL REFERENCES crm_data.config (id),
    hit boolean NOT NULL DEFAULT true,
    changed boolean NOT NULL DEFAULT false,
    anomaly boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX config_trial_config_id_idx ON crm_data.config_trial (config_id);
COMMENT ON TABLE crm_data.config_trial IS 'What a canary decided, a row a record, so that nobody waits for a counter; the hourly job adds them up into the counters of the version.';
COMMENT ON COLUMN crm_data.config_trial.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.config_trial.config_id IS 'Version on trial.';
COMMENT ON COLUMN crm_data.config_trial.hit IS 'Whether its condition held, or its route took the record.';
COMMENT ON COLUMN crm_data.config_trial.changed IS 'Whether the version in force would have decided otherwise.';
COMMENT ON COLUMN crm_data.config_trial.anomaly IS 'Whether it failed, or left the record without a route.';
COMMENT ON COLUMN crm_data.config_trial.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.config_trial.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.match_state (
    model integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    source regclass NOT NULL,
    id_column name NOT NULL,
    fields jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(fields) = 'object'),
    defined_by name NOT NULL DEFAULT SESSION_USER,
    shipped boolean NOT NULL DEFAULT false,
    indexed boolean NOT NULL DEFAULT false,
    norm_version integer NOT NULL DEFAULT 1,
    params bytea,
    learned jsonb,
    threshold_auto double precision CHECK (threshold_auto BETWEEN 0 AND 1),
    threshold_suggest double precision CHECK (threshold_suggest BETWEEN 0 AND 1),
    rows_seen bigint,
    trained_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.match_state IS 'Match model: which table it reads, what it learned. The parameters are bytes of the engine with a readable copy.';
COMMENT ON COLUMN crm_data.match_state.model IS 'Number of the model, the short key in match_record and match_key.';
COMMENT ON COLUMN crm_data.match_state.name IS 'Name of the model.';
COMMENT ON COLUMN crm_data.match_state.source IS 'Table whose rows are matched.';
COMMENT ON COLUMN crm_data.match_state.id_column IS 'Column of that table that identifies a row.';
COMMENT ON COLUMN crm_data.match_state.fields IS 'Meaning by column: {"company_name": "company", ..}; empty lets the engine guess.';
COMMENT ON COLUMN crm_data.match_state.defined_by IS 'Role that defined the model; outside tables are read with its rights.';
COMMENT ON COLUMN crm_data.match_state.shipped IS 'Whether it is one of the models of the CRM''s own objects, kept as configuration.';
COMMENT ON COLUMN crm_data.match_state.indexed IS 'Whether the keys are persisted in match_key and kept by trigger.';
COMMENT ON COLUMN crm_data.match_state.norm_version IS 'Version of the normalisers the keys were made with.';
COMMENT ON COLUMN crm_data.match_state.params IS 'Trained parameters as the engine reads them; NULL before training.';
COMMENT ON COLUMN crm_data.match_state.learned IS 'The same for people: probabilities of agreement, frequencies, thresholds.';
COMMENT ON COLUMN crm_data.match_state.threshold_auto IS 'Probability from which a pair is the same without a person.';
COMMENT ON COLUMN crm_data.match_state.threshold_suggest IS 'Probability from which a pair is shown to a person.';
COMMENT ON COLUMN crm_data.match_state.rows_seen IS 'Rows of the source at the last training.';
COMMENT ON COLUMN crm_data.match_state.trained_at IS 'When it was trained.';
COMMENT ON COLUMN crm_data.match_state.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.match_state.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.match_state.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.match_state.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.match_record (
    model integer NOT NULL REFERENCES crm_data.match_state (model) ON DELETE CASCADE,
    rec bigint NOT NULL,
    id text NOT NULL,
    PRIMARY KEY (model, rec),
    UNIQUE (model, id)
);
COMMENT ON TABLE crm_data.match_record IS 'Row numbers of a match model: the outside identifier as text and the short one that the keys carry. No bookkeeping columns: there is a row for every record.';
COMMENT ON COLUMN crm_data.match_record.model IS 'Match model.';
COMMENT ON COLUMN crm_data.match_record.rec IS 'Short identifier inside the model.';
COMMENT ON COLUMN crm_data.match_record.id IS 'Identifier in the source table, as text.';

CREATE TABLE crm_data.match_key (
    model integer NOT NULL,
    kind smallint NOT NULL,
    key bigint NOT NULL,
    rec bigint NOT NULL,
    PRIMARY KEY (model, kind, key, rec)
);
COMMENT ON TABLE crm_data.match_key IS 'Blocking keys of a persisted match model. No bookkeeping columns and no foreign keys: there are twenty rows for every record.';
COMMENT ON COLUMN crm_data.match_key.model IS 'Match model.';
COMMENT ON COLUMN crm_data.match_key.kind IS 'Kind of key, a number fixed in the engine.';
COMMENT ON COLUMN crm_data.match_key.key IS 'Hash of the key''s value.';
COMMENT ON COLUMN crm_data.match_key.rec IS 'Record in match_record.';

CREATE TABLE crm_data.merge_op (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object text NOT NULL CHECK (object <> ''),
    survivor_id bigint NOT NULL,
    victim_ids bigint[] NOT NULL CHECK (cardinality(victim_ids) > 0),
    choices jsonb NOT NULL DEFAULT '{}',
    before jsonb NOT NULL,
    after_version integer,
    chosen jsonb NOT NULL DEFAULT '{}',
    actor text NOT NULL,
    reason text,
    confirmation_id bigint REFERENCES crm_data.approval (id),
    state text NOT NULL DEFAULT 'done' CHECK (state IN ('done', 'undone')),
    undone_at timestamptz,
    undone_by text,
    undo_report jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX merge_op_object_survivor_id_idx ON crm_data.merge_op (object, survivor_id);
CREATE INDEX merge_op_victim_ids_idx ON crm_data.merge_op USING gin (victim_ids);
CREATE INDEX merge_op_confirmation_id_idx ON crm_data.merge_op (confirmation_id) WHERE confirmation_id IS NOT NULL;
COMMENT ON TABLE crm_data.merge_op IS 'Merge of records, with everything that an exact undo needs.';
COMMENT ON COLUMN crm_data.merge_op.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.merge_op.object IS 'Business object merged.';
COMMENT ON COLUMN crm_data.merge_op.survivor_id IS 'Record that stays.';
COMMENT ON COLUMN crm_data.merge_op.victim_ids IS 'Records that became redirects, in the order they were merged.';
COMMENT ON COLUMN crm_data.merge_op.choices IS 'Values and rules chosen by the person, confirmation included.';
COMMENT ON COLUMN crm_data.merge_op.before IS 'Images of all records before the merge, by id.';
COMMENT ON COLUMN crm_data.merge_op.after_version IS 'row_version of the survivor after the merge; later edits are told by it.';
COMMENT ON COLUMN crm_data.merge_op.chosen IS 'Which record each field came from and by which rule.';
COMMENT ON COLUMN crm_data.merge_op.actor IS 'Who merged.';
COMMENT ON COLUMN crm_data.merge_op.reason IS 'Why.';
COMMENT ON COLUMN crm_data.merge_op.confirmation_id IS 'Second confirmation that was used.';
COMMENT ON COLUMN crm_data.merge_op.state IS 'Whether it was undone.';
COMMENT ON COLUMN crm_data.merge_op.undone_at IS 'When it was undone.';
COMMENT ON COLUMN crm_data.merge_op.undone_by IS 'Who undid it.';
COMMENT ON COLUMN crm_data.merge_op.undo_report IS 'Edits made since the merge that the undo kept.';
COMMENT ON COLUMN crm_data.merge_op.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.merge_op.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.merge_op.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.merge_op.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.match_link (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model integer NOT NULL REFERENCES crm_data.match_state (model) ON DELETE CASCADE,
    a text NOT NULL,
    b text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('must', 'cannot')),
    reason text,
    merge_id bigint REFERENCES crm_data.merge_op (id),
    actor text NOT NULL DEFAULT SESSION_USER,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (model, a, b),
    CHECK (a COLLATE "C" < b COLLATE "C")
);
CREATE INDEX match_link_merge_id_idx ON crm_data.match_link (merge_id) WHERE merge_id IS NOT NULL;
COMMENT ON TABLE crm_data.match_link IS 'Decision about a pair: must-link or cannot-link, obeyed by every clustering.';
COMMENT ON COLUMN crm_data.match_link.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.match_link.model IS 'Match model.';
COMMENT ON COLUMN crm_data.match_link.a IS 'Identifier of the one row, the smaller in byte order.';
COMMENT ON COLUMN crm_data.match_link.b IS 'Identifier of the other row.';
COMMENT ON COLUMN crm_data.match_link.kind IS 'Whether they are the same or must never be merged.';
COMMENT ON COLUMN crm_data.match_link.reason IS 'Why.';
COMMENT ON COLUMN crm_data.match_link.merge_id IS 'Merge whose undo left this link.';
COMMENT ON COLUMN crm_data.match_link.actor IS 'Who decided.';
COMMENT ON COLUMN crm_data.match_link.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.match_link.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.merge_move (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merge_id bigint NOT NULL REFERENCES crm_data.merge_op (id),
    seq integer NOT NULL CHECK (seq > 0),
    tab text NOT NULL CHECK (tab <> ''),
    columns text[] NOT NULL,
    row_key jsonb NOT NULL,
    old_value jsonb,
    new_value jsonb,
    action text NOT NULL CHECK (action IN ('moved', 'stashed')),
    image jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (merge_id, seq)
);
CREATE INDEX merge_move_tab_row_key_idx ON crm_data.merge_move (tab, row_key);
COMMENT ON TABLE crm_data.merge_move IS 'One change a merge made to a dependent row: a reference moved, or a row put aside because of a unique key.';
COMMENT ON COLUMN crm_data.merge_move.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.merge_move.merge_id IS 'Merge.';
COMMENT ON COLUMN crm_data.merge_move.seq IS 'Order of the change in the merge, from 1; the undo goes backwards.';
COMMENT ON COLUMN crm_data.merge_move.tab IS 'Table changed, without its schema.';
COMMENT ON COLUMN crm_data.merge_move.columns IS 'Columns of the reference.';
COMMENT ON COLUMN crm_data.merge_move.row_key IS 'Primary key of the row changed.';
COMMENT ON COLUMN crm_data.merge_move.old_value IS 'Values of those columns before.';
COMMENT ON COLUMN crm_data.merge_move.new_value IS 'Values after.';
COMMENT ON COLUMN crm_data.merge_move.action IS 'moved: the reference was re-pointed; stashed: the row was taken out and is kept in image.';
COMMENT ON COLUMN crm_data.merge_move.image IS 'Whole row when stashed.';
COMMENT ON COLUMN crm_data.merge_move.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.merge_move.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.duplicate_pair (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_a text NOT NULL CHECK (object_a <> ''),
    a_id bigint NOT NULL,
    object_b text NOT NULL CHECK (object_b <> ''),
    b_id bigint NOT NULL,
    account_id bigint REFERENCES crm_data.account (id),
    score double precision CHECK (score BETWEEN 0 AND 1),
    band text NOT NULL CHECK (band IN ('auto', 'suggest', 'none')),
    rule text,
    evidence jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'merged', 'rejected', 'expired')),
    locks_target boolean NOT NULL DEFAULT false,
    lock_expires_at timestamptz,
    decided_by text,
    decided_at timestamptz,
    reason text,
    merge_id bigint REFERENCES crm_data.merge_op (id),
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (object_a, a_id, object_b, b_id),
    CHECK (object_a <> object_b OR a_id <> b_id),
    CHECK (NOT locks_target OR lock_expires_at IS NOT NULL)
);
CREATE INDEX duplicate_pair_object_b_b_id_idx ON crm_data.duplicate_pair (object_b, b_id);
CREATE INDEX duplicate_pair_locked_idx ON crm_data.duplicate_pair (object_a, a_id) WHERE state = 'open' AND locks_target;
CREATE INDEX duplicate_pair_lock_expires_at_idx ON crm_data.duplicate_pair (lock_expires_at) WHERE state = 'open' AND locks_target;
CREATE INDEX duplicate_pair_account_id_idx ON crm_data.duplicate_pair (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX duplicate_pair_merge_id_idx ON crm_data.duplicate_pair (merge_id) WHERE merge_id IS NOT NULL;
COMMENT ON TABLE crm_data.duplicate_pair IS 'Pair of records that may be the same, with the evidence; a certain one locks the original until a steward decides or the lock expires.';
COMMENT ON COLUMN crm_data.duplicate_pair.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.duplicate_pair.object_a IS 'Business object of the first record, the older one.';
COMMENT ON COLUMN crm_data.duplicate_pair.a_id IS 'First record, the original.';
COMMENT ON COLUMN crm_data.duplicate_pair.object_b IS 'Business object of the second record.';
COMMENT ON COLUMN crm_data.duplicate_pair.b_id IS 'Second record, the newer one.';
COMMENT ON COLUMN crm_data.duplicate_pair.account_id IS 'Customer of the original; NULL when it is none.';
COMMENT ON COLUMN crm_data.duplicate_pair.score IS 'Probability that both are the same, 0 to 1.';
COMMENT ON COLUMN crm_data.duplicate_pair.band IS 'auto, suggest, or none for a pair somebody named.';
COMMENT ON COLUMN crm_data.duplicate_pair.rule IS 'Deterministic rule that hit, R0, R1 or R2; NULL when the model found the pair.';
COMMENT ON COLUMN crm_data.duplicate_pair.evidence IS 'Comparison by field: level and weight, without the values.';
COMMENT ON COLUMN crm_data.duplicate_pair.state IS 'Where the suggestion stands.';
COMMENT ON COLUMN crm_data.duplicate_pair.locks_target IS 'Whether match fields and owner of the original are locked by it.';
COMMENT ON COLUMN crm_data.duplicate_pair.lock_expires_at IS 'When the lock ends by itself.';
COMMENT ON COLUMN crm_data.duplicate_pair.decided_by IS 'Who decided.';
COMMENT ON COLUMN crm_data.duplicate_pair.decided_at IS 'When.';
COMMENT ON COLUMN crm_data.duplicate_pair.reason IS 'Why it was rejected.';
COMMENT ON COLUMN crm_data.duplicate_pair.merge_id IS 'Merge it ended in.';
COMMENT ON COLUMN crm_data.duplicate_pair.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.duplicate_pair.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.duplicate_pair.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.duplicate_pair.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.duplicate_pair.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.duplicate_pair.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.duplicate_pair.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.data_issue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind <> ''),
    object text NOT NULL CHECK (object <> ''),
    record_id bigint,
    account_id bigint REFERENCES crm_data.account (id),
    field text,
    ours text,
    theirs text,
    source_id bigint REFERENCES crm_data.source_system (id),
    steward_id bigint REFERENCES crm_data.member (id),
    severity text NOT NULL DEFAULT 'warning' CHECK (severity IN ('info', 'warning', 'error')),
    detail jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'fixed', 'accepted', 'gone')),
    dedupe_key text,
    resolved_at timestamptz,
    resolved_by text,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
CREATE UNIQUE INDEX data_issue_dedupe_key_idx ON crm_data.data_issue (dedupe_key) WHERE state = 'open';
CREATE INDEX data_issue_object_record_id_idx ON crm_data.data_issue (object, record_id);
CREATE INDEX data_issue_kind_created_at_idx ON crm_data.data_issue (kind, created_at) WHERE state = 'open';
CREATE INDEX data_issue_account_id_idx ON crm_data.data_issue (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX data_issue_source_id_idx ON crm_data.data_issue (source_id) WHERE source_id IS NOT NULL;
CREATE INDEX data_issue_steward_id_idx ON crm_data.data_issue (steward_id) WHERE steward_id IS NOT NULL;
COMMENT ON TABLE crm_data.data_issue IS 'Something wrong with the data: a difference between systems, a failed quality rule, a message nobody could file.';
COMMENT ON COLUMN crm_data.data_issue.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.data_issue.kind IS 'sync_diff, contact_mismatch, quality, unlinked_message, stale_source, large_file, unmapped_value or another registered kind.';
COMMENT ON COLUMN crm_data.data_issue.object IS 'Business object concerned.';
COMMENT ON COLUMN crm_data.data_issue.record_id IS 'Record concerned; NULL when there is none yet.';
COMMENT ON COLUMN crm_data.data_issue.account_id IS 'Customer of that record.';
COMMENT ON COLUMN crm_data.data_issue.field IS 'Field concerned.';
COMMENT ON COLUMN crm_data.data_issue.ours IS 'Our value; shown under the rule of the field it repeats.';
COMMENT ON COLUMN crm_data.data_issue.theirs IS 'The other system''s value; shown under the rule of the field it repeats.';
COMMENT ON COLUMN crm_data.data_issue.source_id IS 'The other system.';
COMMENT ON COLUMN crm_data.data_issue.steward_id IS 'Member answerable for it.';
COMMENT ON COLUMN crm_data.data_issue.severity IS 'How bad it is.';
COMMENT ON COLUMN crm_data.data_issue.detail IS 'What the check saw.';
COMMENT ON COLUMN crm_data.data_issue.state IS 'open, fixed by somebody, accepted as it is, or gone at the next check.';
COMMENT ON COLUMN crm_data.data_issue.dedupe_key IS 'Key under which the next check finds the same issue again.';
COMMENT ON COLUMN crm_data.data_issue.resolved_at IS 'When it left the state open.';
COMMENT ON COLUMN crm_data.data_issue.resolved_by IS 'Who resolved it.';
COMMENT ON COLUMN crm_data.data_issue.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.data_issue.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.data_issue.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.data_issue.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.data_issue.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.data_issue.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.data_issue.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL REFERENCES crm_data.source_system (id),
    external_id text NOT NULL CHECK (external_id <> ''),
    kind text NOT NULL CHECK (kind <> ''),
    payload jsonb NOT NULL,
    digest bytea NOT NULL,
    source_ts timestamptz,
    ts_assumed boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'received' CHECK (state IN ('received', 'applied', 'rejected', 'conflict', 'parked')),
    reason text,
    object text,
    record_id bigint,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at timestamptz,
    processed_at timestamptz,
    origin text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (source_id, external_id, digest),
    CHECK (state NOT IN ('rejected', 'parked') OR reason IS NOT NULL)
);
CREATE INDEX inbox_next_at_idx ON crm_data.inbox (next_at) WHERE state IN ('received', 'parked');
CREATE INDEX inbox_source_id_created_at_idx ON crm_data.inbox (source_id, created_at);
CREATE INDEX inbox_object_record_id_idx ON crm_data.inbox (object, record_id) WHERE record_id IS NOT NULL;
COMMENT ON TABLE crm_data.inbox IS 'Inbox: every payload that came in, ending in one visible state. Unique across months, so not partitioned; purged in batches.';
COMMENT ON COLUMN crm_data.inbox.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.inbox.source_id IS 'System that sent it.';
COMMENT ON COLUMN crm_data.inbox.external_id IS 'Identifier of the message or record in that system.';
COMMENT ON COLUMN crm_data.inbox.kind IS 'What it is, the name of the handler: form, call, chat_file, meeting, account, finance.payment, legal.sealed and so on.';
COMMENT ON COLUMN crm_data.inbox.payload IS 'The payload as sent.';
COMMENT ON COLUMN crm_data.inbox.digest IS 'SHA-256 over the payload; the same identifier with the same digest is the same message.';
COMMENT ON COLUMN crm_data.inbox.source_ts IS 'Time of the change by the source.';
COMMENT ON COLUMN crm_data.inbox.ts_assumed IS 'Whether the source gave no time and the arrival stands in for it.';
COMMENT ON COLUMN crm_data.inbox.state IS 'Where it stands; received only until the next tick.';
COMMENT ON COLUMN crm_data.inbox.reason IS 'Why it was rejected or parked.';
COMMENT ON COLUMN crm_data.inbox.object IS 'Business object it ended in.';
COMMENT ON COLUMN crm_data.inbox.record_id IS 'Record it ended in.';
COMMENT ON COLUMN crm_data.inbox.attempts IS 'Attempts so far.';
COMMENT ON COLUMN crm_data.inbox.next_at IS 'When the next attempt is due; NULL when none is planned.';
COMMENT ON COLUMN crm_data.inbox.processed_at IS 'When it reached its state.';
COMMENT ON COLUMN crm_data.inbox.origin IS 'Mark of our own change coming back, so that echoes are dropped.';
COMMENT ON COLUMN crm_data.inbox.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.inbox.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.channel (
    name text PRIMARY KEY,
    circuit text NOT NULL DEFAULT 'closed' CHECK (circuit IN ('closed', 'open', 'half_open')),
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    open_until timestamptz,
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.channel IS 'Delivery channel with its circuit breaker.';
COMMENT ON COLUMN crm_data.channel.name IS 'Name: sms, email, app, wecom, dingtalk, webhook, or another one the relay knows.';
COMMENT ON COLUMN crm_data.channel.circuit IS 'closed lets messages through, open holds them, half_open lets one through as a trial.';
COMMENT ON COLUMN crm_data.channel.failures IS 'Failures in a row.';
COMMENT ON COLUMN crm_data.channel.open_until IS 'When the next trial is allowed; NULL while closed.';
COMMENT ON COLUMN crm_data.channel.enabled IS 'Whether the channel is used at all.';
COMMENT ON COLUMN crm_data.channel.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.channel.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.channel.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.channel.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.history_root (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    due_at timestamptz NOT NULL UNIQUE,
    upto timestamptz NOT NULL,
    watermark xid8 NOT NULL,
    changes bigint NOT NULL CHECK (changes >= 0),
    prev_root bytea,
    root bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.history_root IS 'Daily root of the history, chained: the digest over the hashes of all changes since the root before. It leaves the database by the outbox, so that who could rewrite all is found out.';
COMMENT ON COLUMN crm_data.history_root.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.history_root.due_at IS 'When it was due; once a due time.';
COMMENT ON COLUMN crm_data.history_root.upto IS 'Changes recorded after this belong to the next root.';
COMMENT ON COLUMN crm_data.history_root.watermark IS 'Changes of this transaction and later ones belong to the next root: they may not have been committed.';
COMMENT ON COLUMN crm_data.history_root.changes IS 'How many changes it covers.';
COMMENT ON COLUMN crm_data.history_root.prev_root IS 'Root before; NULL for the first.';
COMMENT ON COLUMN crm_data.history_root.root IS 'SHA-256 over prev_root, the digests of the months retired since, and the hashes of the changes, in order of object, record and version.';
COMMENT ON COLUMN crm_data.history_root.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.history_root.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.history_head (
    record_id bigint NOT NULL,
    at timestamptz NOT NULL,
    version integer NOT NULL,
    object text NOT NULL,
    op "char" NOT NULL,
    hash bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    PRIMARY KEY (record_id, object)
);
COMMENT ON TABLE crm_data.history_head IS 'Where the history of a record goes on whose first months are retired: its last change in them.';
COMMENT ON COLUMN crm_data.history_head.record_id IS 'Record.';
COMMENT ON COLUMN crm_data.history_head.at IS 'Time of its last change in the retired months.';
COMMENT ON COLUMN crm_data.history_head.version IS 'Its version: the first change that is still there has the next one.';
COMMENT ON COLUMN crm_data.history_head.object IS 'Business object.';
COMMENT ON COLUMN crm_data.history_head.op IS 'What that change was: i insert, u update, d delete.';
COMMENT ON COLUMN crm_data.history_head.hash IS 'Its hash, which the next change is chained to.';
COMMENT ON COLUMN crm_data.history_head.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.history_head.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.history_month (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    upto timestamptz NOT NULL,
    changes bigint NOT NULL CHECK (changes >= 0),
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.history_month IS 'Month of the history that was retired. Its table stays beside the history until the operator archives or drops it.';
COMMENT ON COLUMN crm_data.history_month.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.history_month.name IS 'Table that held it.';
COMMENT ON COLUMN crm_data.history_month.upto IS 'End of the month: earlier changes are no longer in the history.';
COMMENT ON COLUMN crm_data.history_month.changes IS 'How many changes it held.';
COMMENT ON COLUMN crm_data.history_month.digest IS 'SHA-256 over all heads, as they were when it was retired. The next daily root covers it.';
COMMENT ON COLUMN crm_data.history_month.created_at IS 'When it was retired.';
COMMENT ON COLUMN crm_data.history_month.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL CHECK (topic <> ''),
    channel text NOT NULL REFERENCES crm_data.channel (name),
    fallback text[] NOT NULL DEFAULT '{}',
    recipient_id bigint REFERENCES crm_data.member (id),
    address text,
    account_id bigint REFERENCES crm_data.account (id),
    payload jsonb NOT NULL,
    dedupe_key text NOT NULL UNIQUE CHECK (dedupe_key <> ''),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'claimed', 'held', 'sent', 'failed', 'dead', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at timestamptz NOT NULL DEFAULT now(),
    claimed_by text,
    claimed_until timestamptz,
    sent_at timestamptz,
    last_error text,
    parent_id bigint REFERENCES crm_data.outbox (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX outbox_next_at_id_idx ON crm_data.outbox (next_at, id) WHERE state IN ('pending', 'failed');
CREATE INDEX outbox_claimed_until_idx ON crm_data.outbox (claimed_until) WHERE state = 'claimed';
CREATE INDEX outbox_channel_id_idx ON crm_data.outbox (channel, id) WHERE state = 'held';
CREATE INDEX outbox_channel_idx ON crm_data.outbox (channel);
CREATE INDEX outbox_recipient_id_idx ON crm_data.outbox (recipient_id) WHERE recipient_id IS NOT NULL;
CREATE INDEX outbox_account_id_idx ON crm_data.outbox (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX outbox_parent_id_idx ON crm_data.outbox (parent_id) WHERE parent_id IS NOT NULL;
COMMENT ON TABLE crm_data.outbox IS 'Outbox: messages to people and systems, claimed and delivered by a relay. Unique across months, so not partitioned; purged in batches.';
COMMENT ON COLUMN crm_data.outbox.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.outbox.topic IS 'What it is about: task.overdue, report.bottleneck, sync.erp, sms.code and so on.';
COMMENT ON COLUMN crm_data.outbox.channel IS 'Channel it goes out on.';
COMMENT ON COLUMN crm_data.outbox.fallback IS 'Channels that take over, all of them, when this one fails for good.';
COMMENT ON COLUMN crm_data.outbox.recipient_id IS 'Member it is for; NULL when it is for a system or a customer.';
COMMENT ON COLUMN crm_data.outbox.address IS 'Address on the channel; NULL lets the relay look it up.';
COMMENT ON COLUMN crm_data.outbox.account_id IS 'Customer it is about.';
COMMENT ON COLUMN crm_data.outbox.payload IS 'The message, masked for the recipient when it was written.';
COMMENT ON COLUMN crm_data.outbox.dedupe_key IS 'Key under which the message exists once; the receiver is given it too.';
COMMENT ON COLUMN crm_data.outbox.state IS 'Where it stands; held waits for an open circuit, dead used up its attempts.';
COMMENT ON COLUMN crm_data.outbox.attempts IS 'Attempts so far.';
COMMENT ON COLUMN crm_data.outbox.next_at IS 'When it may be claimed next.';
COMMENT ON COLUMN crm_data.outbox.claimed_by IS 'Relay that holds it.';
COMMENT ON COLUMN crm_data.outbox.claimed_until IS 'When the claim ends by itself.';
COMMENT ON COLUMN crm_data.outbox.sent_at IS 'When the relay reported success.';
COMMENT ON COLUMN crm_data.outbox.last_error IS 'Last error reported, without protected values.';
COMMENT ON COLUMN crm_data.outbox.parent_id IS 'Message this one replaces as a fallback.';
COMMENT ON COLUMN crm_data.outbox.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.outbox.created_by IS 'Member or role that made the row.';

-- The wide columns first, so that no row has gaps.
CREATE TABLE crm_data.operation (
    op_id uuid PRIMARY KEY,
    root_id bigint NOT NULL,
    op_seq bigint NOT NULL,
    record_id bigint,
    client_ts timestamptz,
    applied_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    base_version integer,
    version integer,
    attempts integer NOT NULL DEFAULT 0,
    root_object text NOT NULL,
    object text NOT NULL,
    endpoint text NOT NULL,
    client_version text,
    actor text NOT NULL DEFAULT SESSION_USER,
    patch jsonb NOT NULL,
    mode text NOT NULL DEFAULT 'merge',
    state text NOT NULL,
    result jsonb,
    error text
);
-- what is written to a customer himself and done is in neither, and pays for its key alone: the last number of those stands in his row. That of his
-- contacts, opportunities and so on is found here, so that changing them does not change his row
CREATE INDEX operation_waiting_idx ON crm_data.operation (root_object, root_id, op_seq) WHERE state IN ('pending', 'failed');
CREATE INDEX operation_root_idx ON crm_data.operation (root_id, root_object, op_seq) WHERE root_object <> 'account' OR object <> 'account';
COMMENT ON TABLE crm_data.operation IS 'Operation: one write request by a client, stored once, answered again when repeated. Written by the engine alone and by every write: it has no checks, whose texts the server reads anew for each statement.';
COMMENT ON COLUMN crm_data.operation.op_id IS 'Identifier the client chose; the same one again gets the same answer.';
COMMENT ON COLUMN crm_data.operation.root_object IS 'Object whose row is the lock: account, or the record''s own object when it has no customer.';
COMMENT ON COLUMN crm_data.operation.root_id IS 'Row that is the lock. No foreign key: it may lie in several tables.';
COMMENT ON COLUMN crm_data.operation.op_seq IS 'Number of the operation under that lock, gapless, in the order of acceptance.';
COMMENT ON COLUMN crm_data.operation.object IS 'Business object written.';
COMMENT ON COLUMN crm_data.operation.record_id IS 'Record written; NULL while an insert is pending.';
COMMENT ON COLUMN crm_data.operation.endpoint IS 'Endpoint it came through: web, app, wecom, dingtalk, sql, api.';
COMMENT ON COLUMN crm_data.operation.client_version IS 'Version of the client.';
COMMENT ON COLUMN crm_data.operation.actor IS 'Who asked.';
COMMENT ON COLUMN crm_data.operation.base_version IS 'row_version the client had read; NULL when it had none.';
COMMENT ON COLUMN crm_data.operation.patch IS 'Fields asked for.';
COMMENT ON COLUMN crm_data.operation.client_ts IS 'Time by the client''s clock, used only to order one offline batch.';
COMMENT ON COLUMN crm_data.operation.mode IS 'What to do under another endpoint''s lease: merge, queue or reject.';
COMMENT ON COLUMN crm_data.operation.state IS 'Where it stands: pending, applied, rejected or failed.';
COMMENT ON COLUMN crm_data.operation.version IS 'row_version it produced.';
COMMENT ON COLUMN crm_data.operation.result IS 'Answer given, the one that is repeated; NULL when it was applied without a conflict, which the other columns say.';
COMMENT ON COLUMN crm_data.operation.error IS 'SQLSTATE and message when it was rejected or failed.';
COMMENT ON COLUMN crm_data.operation.attempts IS 'Attempts to apply it so far.';
COMMENT ON COLUMN crm_data.operation.applied_at IS 'When it was applied.';
COMMENT ON COLUMN crm_data.operation.created_at IS 'When the row was made.';

CREATE TABLE crm_data.conflict (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    op_id uuid NOT NULL,
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    account_id bigint REFERENCES crm_data.account (id),
    field text NOT NULL CHECK (field <> ''),
    base jsonb,
    theirs jsonb,
    mine jsonb,
    their_actor text,
    their_version integer,
    base_version integer,
    actor text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'took_mine', 'kept_theirs')),
    resolved_at timestamptz,
    resolved_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX conflict_object_record_id_idx ON crm_data.conflict (object, record_id);
CREATE INDEX conflict_open_idx ON crm_data.conflict (id) WHERE state = 'open';
CREATE INDEX conflict_op_id_idx ON crm_data.conflict (op_id);
CREATE INDEX conflict_account_id_idx ON crm_data.conflict (account_id) WHERE account_id IS NOT NULL;
COMMENT ON TABLE crm_data.conflict IS 'Conflict: a field that two writers changed; the record keeps one value, this row keeps the other.';
COMMENT ON COLUMN crm_data.conflict.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.conflict.op_id IS 'Operation that came second. No foreign key: both are written at once, by the engine alone.';
COMMENT ON COLUMN crm_data.conflict.object IS 'Business object.';
COMMENT ON COLUMN crm_data.conflict.record_id IS 'Record.';
COMMENT ON COLUMN crm_data.conflict.account_id IS 'Customer of the record.';
COMMENT ON COLUMN crm_data.conflict.field IS 'Field; seen under the rule of that field.';
COMMENT ON COLUMN crm_data.conflict.base IS 'Value both had started from, when it is known.';
COMMENT ON COLUMN crm_data.conflict.theirs IS 'Value in the record.';
COMMENT ON COLUMN crm_data.conflict.mine IS 'Value the second writer asked for.';
COMMENT ON COLUMN crm_data.conflict.their_actor IS 'Who had written the value in the record.';
COMMENT ON COLUMN crm_data.conflict.their_version IS 'row_version in which it was written.';
COMMENT ON COLUMN crm_data.conflict.base_version IS 'row_version the second writer had read.';
COMMENT ON COLUMN crm_data.conflict.actor IS 'Who came second.';
COMMENT ON COLUMN crm_data.conflict.state IS 'How it was settled.';
COMMENT ON COLUMN crm_data.conflict.resolved_at IS 'When it was settled.';
COMMENT ON COLUMN crm_data.conflict.resolved_by IS 'Who settled it.';
COMMENT ON COLUMN crm_data.conflict.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.conflict.created_by IS 'Member or role that made the row.';

-- The wide columns first, so that no row has gaps.
CREATE TABLE crm_data.change (
    at timestamptz NOT NULL,
    raw_at timestamptz,
    record_id bigint NOT NULL,
    account_id bigint,
    op_seq bigint,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    version integer NOT NULL,
    op "char" NOT NULL,
    object text NOT NULL,
    fields text NOT NULL,
    actor text NOT NULL,
    session_name text,
    endpoint text,
    client_version text,
    note text,
    salt bytea,
    hash bytea,
    value_hash jsonb
) PARTITION BY RANGE (at);
CREATE TABLE crm_data.change_default PARTITION OF crm_data.change DEFAULT;
-- forgetting a person changes rows: a replica finds them without a key
ALTER TABLE crm_data.change REPLICA IDENTITY FULL;
ALTER TABLE crm_data.change_default REPLICA IDENTITY FULL;
-- one column each: keys that repeat are packed, and a page that splits is logged, which with all different keys costs more than the change itself
CREATE INDEX change_record_id_idx ON crm_data.change (record_id);
CREATE INDEX change_account_id_idx ON crm_data.change (account_id) WHERE account_id IS NOT NULL AND object <> 'account';
-- for whoever reads on from a time, or from a transaction (xid8 has no kind of its own in such an index); the order of recording is the order on disk
CREATE INDEX change_at_idx ON crm_data.change USING brin (at, (xid::text::bigint)) WITH (autosummarize = on);
COMMENT ON TABLE crm_data.change IS 'History: one row a change with only the changed fields, chained by digest. Append-only, partitioned by month of at; nothing refers to it. A change is named by object, record and version. It has no key, which could not be unique without at: the row lock gives versions once, and the chain finds a second one. Every change of every record pays for its indexes.';
COMMENT ON COLUMN crm_data.change.at IS 'When it was recorded; never runs backwards within a record. The partition key.';
COMMENT ON COLUMN crm_data.change.raw_at IS 'What the clock said, when it had gone backwards; NULL when it said the same as at.';
COMMENT ON COLUMN crm_data.change.object IS 'Business object changed.';
COMMENT ON COLUMN crm_data.change.record_id IS 'Record changed.';
COMMENT ON COLUMN crm_data.change.account_id IS 'Customer of the record, the customer itself included.';
COMMENT ON COLUMN crm_data.change.op IS 'What happened to the row: i insert, u update, d delete.';
COMMENT ON COLUMN crm_data.change.version IS 'row_version after the change, gapless within a record.';
COMMENT ON COLUMN crm_data.change.fields IS 'JSON {field: [old, new]} for the changed fields only; emptied when the record is forgotten. As text, which is a third smaller than jsonb: every change of every record pays for it, and few are read.';
COMMENT ON COLUMN crm_data.change.actor IS 'Member or role that changed it.';
COMMENT ON COLUMN crm_data.change.session_name IS 'Login role of the session; NULL when it is the actor.';
COMMENT ON COLUMN crm_data.change.endpoint IS 'Endpoint it came through; NULL: SQL.';
COMMENT ON COLUMN crm_data.change.client_version IS 'Version of the client.';
COMMENT ON COLUMN crm_data.change.op_seq IS 'Operation it belongs to, if any.';
COMMENT ON COLUMN crm_data.change.xid IS 'Transaction.';
COMMENT ON COLUMN crm_data.change.salt IS 'Salt of the value digests, deleted together with the values.';
COMMENT ON COLUMN crm_data.change.value_hash IS 'SHA-256 by field over salt and value, which keeps the chain verifiable after the values are gone.';
COMMENT ON COLUMN crm_data.change.hash IS 'SHA-256 over the hash of the record''s previous change and the canonical text of this one.';
COMMENT ON COLUMN crm_data.change.note IS 'Why, when the writer said so: merge, restore, forget.';

CREATE TABLE crm_data.access_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    session_name text NOT NULL DEFAULT SESSION_USER,
    action text NOT NULL CHECK (action <> ''),
    object text,
    record_id bigint,
    field_id integer REFERENCES crm_data.field (id),
    row_count bigint,
    reason text,
    approval_id bigint REFERENCES crm_data.approval (id),
    endpoint text,
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX access_log_at_idx ON crm_data.access_log (at);
CREATE INDEX access_log_actor_action_at_idx ON crm_data.access_log (actor, action, at);
CREATE INDEX access_log_object_record_id_idx ON crm_data.access_log (object, record_id) WHERE record_id IS NOT NULL;
CREATE INDEX access_log_field_id_idx ON crm_data.access_log (field_id) WHERE field_id IS NOT NULL;
CREATE INDEX access_log_approval_id_idx ON crm_data.access_log (approval_id) WHERE approval_id IS NOT NULL;
COMMENT ON TABLE crm_data.access_log IS 'Access log: values revealed, exports, refusals, large reads, log-ins through a token.';
COMMENT ON COLUMN crm_data.access_log.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.access_log.at IS 'When.';
COMMENT ON COLUMN crm_data.access_log.actor IS 'Who, the member''s or the role''s name.';
COMMENT ON COLUMN crm_data.access_log.session_name IS 'Login role of the session.';
COMMENT ON COLUMN crm_data.access_log.action IS 'login, reveal, export, refused, bulk, challenge, confirm, preview, search, forget.';
COMMENT ON COLUMN crm_data.access_log.object IS 'Business object.';
COMMENT ON COLUMN crm_data.access_log.record_id IS 'Record; NULL for many.';
COMMENT ON COLUMN crm_data.access_log.field_id IS 'Field revealed.';
COMMENT ON COLUMN crm_data.access_log.row_count IS 'Rows read or written.';
COMMENT ON COLUMN crm_data.access_log.reason IS 'Reason given.';
COMMENT ON COLUMN crm_data.access_log.approval_id IS 'Approval that was used.';
COMMENT ON COLUMN crm_data.access_log.endpoint IS 'Endpoint it came through.';
COMMENT ON COLUMN crm_data.access_log.detail IS 'More, never a protected value.';
COMMENT ON COLUMN crm_data.access_log.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.access_log.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind <> ''),
    level text NOT NULL CHECK (level IN ('info', 'yellow', 'orange', 'red')),
    object text,
    record_id bigint,
    account_id bigint REFERENCES crm_data.account (id),
    message text NOT NULL CHECK (message <> ''),
    value double precision,
    factors jsonb NOT NULL DEFAULT '[]',
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'closed')),
    dedupe_key text,
    acknowledged_by text,
    acknowledged_at timestamptz,
    closed_at timestamptz,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
CREATE UNIQUE INDEX alert_dedupe_key_idx ON crm_data.alert (dedupe_key) WHERE state <> 'closed';
CREATE INDEX alert_object_record_id_idx ON crm_data.alert (object, record_id) WHERE record_id IS NOT NULL;
CREATE INDEX alert_kind_created_at_idx ON crm_data.alert (kind, created_at);
CREATE INDEX alert_owner_id_idx ON crm_data.alert (owner_id) WHERE state <> 'closed';
CREATE INDEX alert_account_id_idx ON crm_data.alert (account_id) WHERE account_id IS NOT NULL;
COMMENT ON TABLE crm_data.alert IS 'Alert: something a person must see, with level and reasons.';
COMMENT ON COLUMN crm_data.alert.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.alert.kind IS 'risk, credibility, sla, unrouted, write_conflict, source_silent, drift, quality, security or another registered kind.';
COMMENT ON COLUMN crm_data.alert.level IS 'How grave it is.';
COMMENT ON COLUMN crm_data.alert.object IS 'Business object concerned; NULL when the engine itself is.';
COMMENT ON COLUMN crm_data.alert.record_id IS 'Record concerned.';
COMMENT ON COLUMN crm_data.alert.account_id IS 'Customer of that record.';
COMMENT ON COLUMN crm_data.alert.message IS 'One sentence, without protected values.';
COMMENT ON COLUMN crm_data.alert.value IS 'Number that raised it.';
COMMENT ON COLUMN crm_data.alert.factors IS 'Reasons behind the number, the strongest first.';
COMMENT ON COLUMN crm_data.alert.state IS 'Where it stands.';
COMMENT ON COLUMN crm_data.alert.dedupe_key IS 'Key under which it exists at most once while it is not closed.';
COMMENT ON COLUMN crm_data.alert.acknowledged_by IS 'Who saw it.';
COMMENT ON COLUMN crm_data.alert.acknowledged_at IS 'When it was seen.';
COMMENT ON COLUMN crm_data.alert.closed_at IS 'When it was closed.';
COMMENT ON COLUMN crm_data.alert.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.alert.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.alert.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.alert.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.alert.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.alert.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.alert.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.model (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    version integer NOT NULL CHECK (version > 0),
    kind text NOT NULL DEFAULT 'lattice' CHECK (kind IN ('lattice', 'mixture', 'weights')),
    status text NOT NULL DEFAULT 'challenger' CHECK (status IN ('champion', 'challenger', 'retired')),
    dims text[] NOT NULL DEFAULT '{}',
    options jsonb NOT NULL DEFAULT '{}',
    params bytea,
    as_of timestamptz NOT NULL,
    rows_used bigint NOT NULL DEFAULT 0 CHECK (rows_used >= 0),
    definition_hash bytea,
    config_version integer,
    metrics jsonb NOT NULL DEFAULT '{}',
    online_id bigint NOT NULL DEFAULT 0,
    promoted_at timestamptz,
    retired_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (name, version)
);
CREATE UNIQUE INDEX model_one_champion_idx ON crm_data.model (name) WHERE status = 'champion';
COMMENT ON TABLE crm_data.model IS 'Version of a learned model: champion, challenger or retired.';
COMMENT ON COLUMN crm_data.model.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.model.name IS 'Model: win, timing, churn, renewal, credibility, account_health or one''s own.';
COMMENT ON COLUMN crm_data.model.version IS 'Version, from 1.';
COMMENT ON COLUMN crm_data.model.kind IS 'Form: one lattice, a mixture of lattices, or fixed weights.';
COMMENT ON COLUMN crm_data.model.status IS 'Which version answers; at most one champion a model.';
COMMENT ON COLUMN crm_data.model.dims IS 'Dimensions in their order.';
COMMENT ON COLUMN crm_data.model.options IS 'Options of the fit.';
COMMENT ON COLUMN crm_data.model.params IS 'Parameters, one block of bytes the engine reads and checks.';
COMMENT ON COLUMN crm_data.model.as_of IS 'Up to when facts were known to the fit.';
COMMENT ON COLUMN crm_data.model.rows_used IS 'Rows the fit used.';
COMMENT ON COLUMN crm_data.model.definition_hash IS 'SHA-256 over every feature''s expression and the share of each source.';
COMMENT ON COLUMN crm_data.model.config_version IS 'Version of the configuration of kind odds it was fitted under.';
COMMENT ON COLUMN crm_data.model.metrics IS 'Figures of the fit: log loss, Brier score, calibration.';
COMMENT ON COLUMN crm_data.model.online_id IS 'Last row of model_event that was applied on top of the fit.';
COMMENT ON COLUMN crm_data.model.promoted_at IS 'When it became champion.';
COMMENT ON COLUMN crm_data.model.retired_at IS 'When it ceased to be.';
COMMENT ON COLUMN crm_data.model.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.model.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.model.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.model.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.score (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id bigint NOT NULL REFERENCES crm_data.model (id),
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    account_id bigint REFERENCES crm_data.account (id),
    value double precision NOT NULL,
    low double precision,
    high double precision,
    n double precision,
    status text NOT NULL DEFAULT 'ok' CHECK (status IN ('ok', 'insufficient_history', 'insufficient_confidence')),
    factors jsonb NOT NULL DEFAULT '[]',
    features jsonb NOT NULL DEFAULT '{}',
    as_of timestamptz NOT NULL,
    owner_id bigint,
    team_id bigint,
    grade smallint NOT NULL DEFAULT 0 CHECK (grade BETWEEN 0 AND 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX score_object_record_id_as_of_idx ON crm_data.score (object, record_id, as_of DESC);
CREATE INDEX score_model_id_idx ON crm_data.score (model_id);
CREATE INDEX score_account_id_idx ON crm_data.score (account_id) WHERE account_id IS NOT NULL;
COMMENT ON TABLE crm_data.score IS 'Score of a record by a model version, append-only, with the features it was computed from.';
COMMENT ON COLUMN crm_data.score.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.score.model_id IS 'Model version.';
COMMENT ON COLUMN crm_data.score.object IS 'Business object scored.';
COMMENT ON COLUMN crm_data.score.record_id IS 'Record scored.';
COMMENT ON COLUMN crm_data.score.account_id IS 'Customer of that record.';
COMMENT ON COLUMN crm_data.score.value IS 'Score: a probability 0 to 1, or an index 0 to 100.';
COMMENT ON COLUMN crm_data.score.low IS 'Lower end of the interval.';
COMMENT ON COLUMN crm_data.score.high IS 'Upper end of the interval.';
COMMENT ON COLUMN crm_data.score.n IS 'Cases behind the score.';
COMMENT ON COLUMN crm_data.score.status IS 'Whether the number can be relied on.';
COMMENT ON COLUMN crm_data.score.factors IS 'Strongest reasons with their points.';
COMMENT ON COLUMN crm_data.score.features IS 'Features as they were.';
COMMENT ON COLUMN crm_data.score.as_of IS 'Up to when facts were known to the score.';
COMMENT ON COLUMN crm_data.score.owner_id IS 'Member who owns the record for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.score.team_id IS 'Team for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.score.grade IS 'Customer grade as a rank for row rules, copied from the customer by the engine.';
COMMENT ON COLUMN crm_data.score.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.score.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.model_metric (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id bigint NOT NULL REFERENCES crm_data.model (id),
    metric text NOT NULL CHECK (metric <> ''),
    segment text NOT NULL DEFAULT '*',
    period daterange NOT NULL,
    value double precision NOT NULL,
    n bigint NOT NULL DEFAULT 0 CHECK (n >= 0),
    threshold double precision,
    alarmed boolean NOT NULL DEFAULT false,
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (model_id, metric, segment, period)
);
COMMENT ON TABLE crm_data.model_metric IS 'Measured quality of a model version over time: what alerts on decay read.';
COMMENT ON COLUMN crm_data.model_metric.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.model_metric.model_id IS 'Model version.';
COMMENT ON COLUMN crm_data.model_metric.metric IS 'log_loss, brier, auc, ece, observed_expected, psi, ks, page_hinkley, precision, accuracy.';
COMMENT ON COLUMN crm_data.model_metric.segment IS 'Segment measured; * for all.';
COMMENT ON COLUMN crm_data.model_metric.period IS 'Period measured, lower day included, upper day excluded.';
COMMENT ON COLUMN crm_data.model_metric.value IS 'Value.';
COMMENT ON COLUMN crm_data.model_metric.n IS 'Cases behind it.';
COMMENT ON COLUMN crm_data.model_metric.threshold IS 'Threshold that held when it was measured; NULL for none.';
COMMENT ON COLUMN crm_data.model_metric.alarmed IS 'Whether it raised an alert.';
COMMENT ON COLUMN crm_data.model_metric.detail IS 'Bins or other parts.';
COMMENT ON COLUMN crm_data.model_metric.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.model_metric.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.model_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    dims text[] NOT NULL,
    outcome double precision NOT NULL CHECK (outcome BETWEEN 0 AND 1),
    weight double precision NOT NULL DEFAULT 1 CHECK (weight >= 0),
    at timestamptz NOT NULL,
    known_at timestamptz NOT NULL DEFAULT now(),
    applied_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX model_event_waiting_idx ON crm_data.model_event (name, at, id) WHERE applied_at IS NULL;
CREATE INDEX model_event_object_record_id_idx ON crm_data.model_event (object, record_id);
COMMENT ON TABLE crm_data.model_event IS 'Queue of closed cases for the online step, applied in order by one consumer.';
COMMENT ON COLUMN crm_data.model_event.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.model_event.name IS 'Model the case is for.';
COMMENT ON COLUMN crm_data.model_event.object IS 'Business object of the case.';
COMMENT ON COLUMN crm_data.model_event.record_id IS 'Record of the case.';
COMMENT ON COLUMN crm_data.model_event.dims IS 'Values of the dimensions as they were while the case was open.';
COMMENT ON COLUMN crm_data.model_event.outcome IS 'Outcome, 0 to 1.';
COMMENT ON COLUMN crm_data.model_event.weight IS 'Weight.';
COMMENT ON COLUMN crm_data.model_event.at IS 'When the outcome happened.';
COMMENT ON COLUMN crm_data.model_event.known_at IS 'When the database learned of it.';
COMMENT ON COLUMN crm_data.model_event.applied_at IS 'When the online step took it; NULL while it waits.';
COMMENT ON COLUMN crm_data.model_event.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.model_event.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.odds_override (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL DEFAULT 'win',
    segment jsonb NOT NULL CHECK (jsonb_typeof(segment) = 'object'),
    target double precision NOT NULL CHECK (target > 0 AND target < 1),
    strength integer NOT NULL DEFAULT 20 CHECK (strength BETWEEN 1 AND 200),
    locked boolean NOT NULL DEFAULT false,
    reason text NOT NULL CHECK (reason <> ''),
    expires_on date NOT NULL,
    author text NOT NULL DEFAULT SESSION_USER,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX odds_override_name_expires_on_idx ON crm_data.odds_override (name, expires_on) WHERE revoked_at IS NULL;
COMMENT ON TABLE crm_data.odds_override IS 'Opinion of a person about a segment''s probability, worth some deals, outvoted by data unless locked.';
COMMENT ON COLUMN crm_data.odds_override.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.odds_override.name IS 'Model it applies to.';
COMMENT ON COLUMN crm_data.odds_override.segment IS 'Segment as dimension and value pairs that must all hold.';
COMMENT ON COLUMN crm_data.odds_override.target IS 'Probability stated, between 0 and 1, both excluded.';
COMMENT ON COLUMN crm_data.odds_override.strength IS 'Weight in deals, 1 to 200.';
COMMENT ON COLUMN crm_data.odds_override.locked IS 'Whether data may not outvote it.';
COMMENT ON COLUMN crm_data.odds_override.reason IS 'Why.';
COMMENT ON COLUMN crm_data.odds_override.expires_on IS 'First day it no longer counts.';
COMMENT ON COLUMN crm_data.odds_override.author IS 'Who stated it.';
COMMENT ON COLUMN crm_data.odds_override.revoked_at IS 'When it was taken back.';
COMMENT ON COLUMN crm_data.odds_override.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.odds_override.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.forecast_snapshot (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    period daterange NOT NULL,
    opportunity_id bigint NOT NULL REFERENCES crm_data.opportunity (id),
    account_id bigint NOT NULL REFERENCES crm_data.account (id),
    member_id bigint REFERENCES crm_data.member (id),
    team_id bigint REFERENCES crm_data.team (id),
    stage_id bigint NOT NULL REFERENCES crm_data.stage (id),
    amount numeric(18,2) NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_base numeric(18,2) NOT NULL,
    probability double precision NOT NULL CHECK (probability BETWEEN 0 AND 1),
    adjusted numeric(18,2),
    category text NOT NULL,
    close_date date,
    features jsonb NOT NULL DEFAULT '{}',
    model_version text,
    frozen_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (period, opportunity_id)
);
CREATE INDEX forecast_snapshot_opportunity_id_idx ON crm_data.forecast_snapshot (opportunity_id);
CREATE INDEX forecast_snapshot_account_id_idx ON crm_data.forecast_snapshot (account_id);
CREATE INDEX forecast_snapshot_member_id_idx ON crm_data.forecast_snapshot (member_id) WHERE member_id IS NOT NULL;
CREATE INDEX forecast_snapshot_team_id_idx ON crm_data.forecast_snapshot (team_id) WHERE team_id IS NOT NULL;
CREATE INDEX forecast_snapshot_stage_id_idx ON crm_data.forecast_snapshot (stage_id);
COMMENT ON TABLE crm_data.forecast_snapshot IS 'Deal as it stood when the forecast of a period was frozen; never changes.';
COMMENT ON COLUMN crm_data.forecast_snapshot.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.forecast_snapshot.period IS 'Period frozen, lower day included, upper day excluded.';
COMMENT ON COLUMN crm_data.forecast_snapshot.opportunity_id IS 'Deal.';
COMMENT ON COLUMN crm_data.forecast_snapshot.account_id IS 'Customer of the deal.';
COMMENT ON COLUMN crm_data.forecast_snapshot.member_id IS 'Member who owned it.';
COMMENT ON COLUMN crm_data.forecast_snapshot.team_id IS 'Team that owned it.';
COMMENT ON COLUMN crm_data.forecast_snapshot.stage_id IS 'Stage it was in.';
COMMENT ON COLUMN crm_data.forecast_snapshot.amount IS 'Amount in currency.';
COMMENT ON COLUMN crm_data.forecast_snapshot.currency IS 'ISO 4217 code of the amounts.';
COMMENT ON COLUMN crm_data.forecast_snapshot.amount_base IS 'Amount in the organisation''s own currency at the rate of the day.';
COMMENT ON COLUMN crm_data.forecast_snapshot.probability IS 'Probability that it is won in the period, 0 to 1.';
COMMENT ON COLUMN crm_data.forecast_snapshot.adjusted IS 'Amount stated by a person, in currency; NULL when nobody did.';
COMMENT ON COLUMN crm_data.forecast_snapshot.category IS 'Forecast category.';
COMMENT ON COLUMN crm_data.forecast_snapshot.close_date IS 'Planned close.';
COMMENT ON COLUMN crm_data.forecast_snapshot.features IS 'Features as they were.';
COMMENT ON COLUMN crm_data.forecast_snapshot.model_version IS 'Model and version.';
COMMENT ON COLUMN crm_data.forecast_snapshot.frozen_at IS 'When it was frozen.';
COMMENT ON COLUMN crm_data.forecast_snapshot.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.forecast_snapshot.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    cadence text NOT NULL CHECK (cadence IN ('minute', 'hour', 'day', 'week', 'month', 'quarter')),
    offset_ interval NOT NULL DEFAULT '0' CHECK (offset_ >= interval '0'),
    tz text NOT NULL DEFAULT 'Asia/Shanghai' CHECK (tz <> ''),
    procedure text NOT NULL CHECK (procedure <> ''),
    catch_up text NOT NULL DEFAULT 'all' CHECK (catch_up IN ('all', 'latest', 'skip')),
    max_attempts smallint NOT NULL DEFAULT 3 CHECK (max_attempts > 0),
    enabled boolean NOT NULL DEFAULT true,
    starts_at timestamptz NOT NULL DEFAULT now(),
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.job IS 'Job: what runs when, in which time zone.';
COMMENT ON COLUMN crm_data.job.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.job.name IS 'Name.';
COMMENT ON COLUMN crm_data.job.cadence IS 'Unit of local time at whose start the offset begins to count; weeks start on Monday.';
COMMENT ON COLUMN crm_data.job.offset_ IS 'Time after that start at which it is due.';
COMMENT ON COLUMN crm_data.job.tz IS 'Time zone of the schedule.';
COMMENT ON COLUMN crm_data.job.procedure IS 'Function of the engine''s schema that does the work; it takes the due time.';
COMMENT ON COLUMN crm_data.job.catch_up IS 'What happens to missed runs: all in order, only the latest, none.';
COMMENT ON COLUMN crm_data.job.max_attempts IS 'Attempts before a run is given up with an alert.';
COMMENT ON COLUMN crm_data.job.enabled IS 'Whether it runs.';
COMMENT ON COLUMN crm_data.job.starts_at IS 'Runs due before this are not made up for.';
COMMENT ON COLUMN crm_data.job.description IS 'What it does, in a sentence.';
COMMENT ON COLUMN crm_data.job.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.job.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.job.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.job.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.job_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES crm_data.job (id),
    due_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'running', 'done', 'failed', 'skipped')),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    rows bigint,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (job_id, due_at)
);
CREATE INDEX job_run_next_at_idx ON crm_data.job_run (next_at) WHERE state IN ('ready', 'failed');
COMMENT ON TABLE crm_data.job_run IS 'Run of a job, once for each due time.';
COMMENT ON COLUMN crm_data.job_run.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.job_run.job_id IS 'Job.';
COMMENT ON COLUMN crm_data.job_run.due_at IS 'When it was due.';
COMMENT ON COLUMN crm_data.job_run.state IS 'Where it stands.';
COMMENT ON COLUMN crm_data.job_run.attempts IS 'Attempts so far.';
COMMENT ON COLUMN crm_data.job_run.next_at IS 'When a failed run is tried again.';
COMMENT ON COLUMN crm_data.job_run.started_at IS 'When the last attempt began.';
COMMENT ON COLUMN crm_data.job_run.finished_at IS 'When it ended.';
COMMENT ON COLUMN crm_data.job_run.rows IS 'Rows it wrote or looked at.';
COMMENT ON COLUMN crm_data.job_run.error IS 'SQLSTATE and message of the last failure.';
COMMENT ON COLUMN crm_data.job_run.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.job_run.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.report_snapshot (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    report text NOT NULL CHECK (report <> ''),
    seq integer NOT NULL CHECK (seq > 0),
    period tstzrange NOT NULL,
    due_at timestamptz NOT NULL,
    recipient_id bigint REFERENCES crm_data.member (id),
    body jsonb NOT NULL,
    definitions jsonb NOT NULL DEFAULT '{}',
    data_as_of timestamptz NOT NULL,
    freshness jsonb NOT NULL DEFAULT '{}',
    history_root bytea,
    prev_digest bytea,
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (report, seq)
);
CREATE INDEX report_snapshot_report_due_at_idx ON crm_data.report_snapshot (report, due_at);
CREATE INDEX report_snapshot_recipient_id_idx ON crm_data.report_snapshot (recipient_id) WHERE recipient_id IS NOT NULL;
COMMENT ON TABLE crm_data.report_snapshot IS 'Report as it was delivered; immutable, each one chained to the one before.';
COMMENT ON COLUMN crm_data.report_snapshot.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.report_snapshot.report IS 'Report.';
COMMENT ON COLUMN crm_data.report_snapshot.seq IS 'Number within the report, gapless.';
COMMENT ON COLUMN crm_data.report_snapshot.period IS 'Period reported on.';
COMMENT ON COLUMN crm_data.report_snapshot.due_at IS 'When it was due.';
COMMENT ON COLUMN crm_data.report_snapshot.recipient_id IS 'Member whose view of the data it is; NULL for the organisation''s.';
COMMENT ON COLUMN crm_data.report_snapshot.body IS 'Rows and figures.';
COMMENT ON COLUMN crm_data.report_snapshot.definitions IS 'Definition by metric: version and effective date.';
COMMENT ON COLUMN crm_data.report_snapshot.data_as_of IS 'Up to when facts were known.';
COMMENT ON COLUMN crm_data.report_snapshot.freshness IS 'Last data by source.';
COMMENT ON COLUMN crm_data.report_snapshot.history_root IS 'Daily root of the history when it was made.';
COMMENT ON COLUMN crm_data.report_snapshot.prev_digest IS 'Digest of the snapshot before; NULL for the first.';
COMMENT ON COLUMN crm_data.report_snapshot.digest IS 'SHA-256 over prev_digest and the content.';
COMMENT ON COLUMN crm_data.report_snapshot.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.report_snapshot.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.rule_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind <> ''),
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    event jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(event) = 'object'),
    at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX rule_event_at_id_idx ON crm_data.rule_event (at, id) WHERE attempts < 3;
COMMENT ON TABLE crm_data.rule_event IS 'Queue of what the rules are to look at: taken by the tick, oldest first, and then gone.';
COMMENT ON COLUMN crm_data.rule_event.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.rule_event.kind IS 'What happened, as rules name it in "on"; rule:<key> for a rule whose delay is over.';
COMMENT ON COLUMN crm_data.rule_event.object IS 'Kind of record it happened to.';
COMMENT ON COLUMN crm_data.rule_event.record_id IS 'That record.';
COMMENT ON COLUMN crm_data.rule_event.event IS 'What conditions see under event.';
COMMENT ON COLUMN crm_data.rule_event.at IS 'When it is to be looked at.';
COMMENT ON COLUMN crm_data.rule_event.attempts IS 'How often the engine has failed at it; after three it stays here for a person.';
COMMENT ON COLUMN crm_data.rule_event.error IS 'Why it failed.';
COMMENT ON COLUMN crm_data.rule_event.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.rule_event.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.rule_match (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule text NOT NULL CHECK (rule <> ''),
    version integer NOT NULL,
    object text NOT NULL CHECK (object <> ''),
    record_id bigint NOT NULL,
    key text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    fired boolean NOT NULL DEFAULT false,
    cleared_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
CREATE UNIQUE INDEX rule_match_key_idx ON crm_data.rule_match (key) WHERE fired AND cleared_at IS NULL;
CREATE INDEX rule_match_object_record_id_idx ON crm_data.rule_match (object, record_id, rule, at);
COMMENT ON TABLE crm_data.rule_match IS 'Every time a rule''s condition held: what windows count, and why a rule that fired does not fire again.';
COMMENT ON COLUMN crm_data.rule_match.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.rule_match.rule IS 'Key of the rule.';
COMMENT ON COLUMN crm_data.rule_match.version IS 'Version of the rule.';
COMMENT ON COLUMN crm_data.rule_match.object IS 'Kind of record.';
COMMENT ON COLUMN crm_data.rule_match.record_id IS 'That record.';
COMMENT ON COLUMN crm_data.rule_match.key IS 'What it fires once for: the event, the stage, the breach or the window.';
COMMENT ON COLUMN crm_data.rule_match.at IS 'When the condition held.';
COMMENT ON COLUMN crm_data.rule_match.fired IS 'Whether the actions ran.';
COMMENT ON COLUMN crm_data.rule_match.cleared_at IS 'When the breach was over, so that the next one fires again.';
COMMENT ON COLUMN crm_data.rule_match.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.rule_match.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.import_batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object text NOT NULL CHECK (object <> ''),
    source_id bigint REFERENCES crm_data.source_system (id),
    file_name text,
    file_sha256 bytea,
    loader_pid integer,
    mapping jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(mapping) = 'object'),
    options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
    state text NOT NULL DEFAULT 'staged' CHECK (state IN ('staged', 'validated', 'applying', 'applied', 'undoing', 'undone', 'failed')),
    rows_total bigint NOT NULL DEFAULT 0 CHECK (rows_total >= 0),
    rows_valid bigint NOT NULL DEFAULT 0 CHECK (rows_valid >= 0),
    rows_rejected bigint NOT NULL DEFAULT 0 CHECK (rows_rejected >= 0),
    rows_applied bigint NOT NULL DEFAULT 0 CHECK (rows_applied >= 0),
    report jsonb NOT NULL DEFAULT '{}',
    validated_at timestamptz,
    applied_at timestamptz,
    undone_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER
);
CREATE INDEX import_batch_source_id_idx ON crm_data.import_batch (source_id) WHERE source_id IS NOT NULL;
CREATE INDEX import_batch_loader_pid_idx ON crm_data.import_batch (loader_pid) WHERE state = 'staged' AND loader_pid IS NOT NULL;
COMMENT ON TABLE crm_data.import_batch IS 'Import of a file or table: staged, validated, rehearsed, applied in chunks, undoable.';
COMMENT ON COLUMN crm_data.import_batch.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.import_batch.object IS 'Business object the rows become.';
COMMENT ON COLUMN crm_data.import_batch.source_id IS 'Source system the rows come from.';
COMMENT ON COLUMN crm_data.import_batch.file_name IS 'Name of the file.';
COMMENT ON COLUMN crm_data.import_batch.file_sha256 IS 'SHA-256 of the file.';
COMMENT ON COLUMN crm_data.import_batch.loader_pid IS 'Server process whose COPY into crm.import_line goes into this import.';
COMMENT ON COLUMN crm_data.import_batch.mapping IS 'Column of the file to field of the object.';
COMMENT ON COLUMN crm_data.import_batch.options IS 'Options: date format, order by value, steward-owned fields allowed, confirmation of a changed distribution.';
COMMENT ON COLUMN crm_data.import_batch.state IS 'Where it stands.';
COMMENT ON COLUMN crm_data.import_batch.rows_total IS 'Rows staged.';
COMMENT ON COLUMN crm_data.import_batch.rows_valid IS 'Rows that can be applied.';
COMMENT ON COLUMN crm_data.import_batch.rows_rejected IS 'Rows kept aside with a reason.';
COMMENT ON COLUMN crm_data.import_batch.rows_applied IS 'Rows applied.';
COMMENT ON COLUMN crm_data.import_batch.report IS 'Result of the rehearsal: inserts, updates, merges, distributions.';
COMMENT ON COLUMN crm_data.import_batch.validated_at IS 'When the rehearsal ended.';
COMMENT ON COLUMN crm_data.import_batch.applied_at IS 'When the last chunk was applied.';
COMMENT ON COLUMN crm_data.import_batch.undone_at IS 'When it was undone.';
COMMENT ON COLUMN crm_data.import_batch.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.import_batch.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.import_batch.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.import_batch.updated_by IS 'Member or role that last changed the row.';

CREATE UNLOGGED TABLE crm_data.import_line (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint NOT NULL REFERENCES crm_data.import_batch (id),
    line text NOT NULL
);
CREATE INDEX import_line_batch_id_id_idx ON crm_data.import_line (batch_id, id);
COMMENT ON TABLE crm_data.import_line IS 'Lines of a file that is being imported, as they came, until the import is applied. Unlogged and without bookkeeping columns: after a crash the file is loaded again.';
COMMENT ON COLUMN crm_data.import_line.id IS 'Identifier, in the order of the file.';
COMMENT ON COLUMN crm_data.import_line.batch_id IS 'Import.';
COMMENT ON COLUMN crm_data.import_line.line IS 'Line without its end.';

CREATE TABLE crm_data.import_row (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id bigint NOT NULL REFERENCES crm_data.import_batch (id),
    line_no bigint NOT NULL CHECK (line_no > 0),
    raw jsonb NOT NULL,
    doc jsonb,
    rank double precision,
    state text NOT NULL DEFAULT 'staged' CHECK (state IN ('staged', 'valid', 'rejected', 'applied', 'undone')),
    action text CHECK (action IN ('insert', 'update', 'merge', 'skip')),
    reason text,
    problems jsonb,
    record_id bigint,
    before jsonb,
    after_version integer,
    UNIQUE (batch_id, line_no),
    CHECK (state <> 'rejected' OR reason IS NOT NULL)
);
CREATE INDEX import_row_batch_id_state_rank_idx ON crm_data.import_row (batch_id, state, rank DESC);
CREATE INDEX import_row_record_id_idx ON crm_data.import_row (record_id) WHERE record_id IS NOT NULL;
COMMENT ON TABLE crm_data.import_row IS 'Row of an import as it came, what became of it and why. No bookkeeping columns besides: there is a row for every line.';
COMMENT ON COLUMN crm_data.import_row.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.import_row.batch_id IS 'Import.';
COMMENT ON COLUMN crm_data.import_row.line_no IS 'Line of the file, from 1, the header included.';
COMMENT ON COLUMN crm_data.import_row.raw IS 'The line by column, as it came.';
COMMENT ON COLUMN crm_data.import_row.doc IS 'The document it maps to.';
COMMENT ON COLUMN crm_data.import_row.rank IS 'Value by which rows are applied first, high to low.';
COMMENT ON COLUMN crm_data.import_row.state IS 'Where it stands.';
COMMENT ON COLUMN crm_data.import_row.action IS 'What applying it does or did.';
COMMENT ON COLUMN crm_data.import_row.reason IS 'Why it was rejected or skipped.';
COMMENT ON COLUMN crm_data.import_row.problems IS 'Problems by field that did not prevent it.';
COMMENT ON COLUMN crm_data.import_row.record_id IS 'Record it became or changed.';
COMMENT ON COLUMN crm_data.import_row.before IS 'Values before an update, for the undo.';
COMMENT ON COLUMN crm_data.import_row.after_version IS 'row_version after it was applied; the undo tells later edits by it.';

CREATE TABLE crm_data.client (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    saves bigint NOT NULL DEFAULT 0 CHECK (saves >= 0),
    failures bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.client IS 'Client version that saves customers. What it tried and what failed is counted in two sequences of its own, which no rollback touches; the job client_watch reads them.';
COMMENT ON COLUMN crm_data.client.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.client.name IS 'Its application_name, mostly name/version; * counts for all that are not known yet, or have no name that could be kept.';
COMMENT ON COLUMN crm_data.client.saves IS 'Saves it had tried when the job last looked.';
COMMENT ON COLUMN crm_data.client.failures IS 'Saves of these that failed, as a whole or for a field.';
COMMENT ON COLUMN crm_data.client.created_at IS 'When it was first seen.';
COMMENT ON COLUMN crm_data.client.created_by IS 'Login role that it was seen with first.';
INSERT INTO crm_data.client (name) VALUES ('*');

CREATE TABLE crm_data.client_count (
    client_id bigint NOT NULL REFERENCES crm_data.client (id),
    at timestamptz NOT NULL,
    saves bigint NOT NULL CHECK (saves >= 0),
    failures bigint NOT NULL CHECK (failures >= 0),
    PRIMARY KEY (client_id, at)
);
CREATE INDEX client_count_at_idx ON crm_data.client_count (at);
COMMENT ON TABLE crm_data.client_count IS 'Saves of a client version in ten minutes, and how many of them failed.';
COMMENT ON COLUMN crm_data.client_count.client_id IS 'Client version.';
COMMENT ON COLUMN crm_data.client_count.at IS 'Start of the ten minutes.';
COMMENT ON COLUMN crm_data.client_count.saves IS 'Saves tried.';
COMMENT ON COLUMN crm_data.client_count.failures IS 'Saves of these that failed, as a whole or for a field.';

CREATE TABLE crm_data.view_version (
    name name PRIMARY KEY,
    digest text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.view_version IS 'What each view of schema crm was when it was last made, so that a replaced definition shows.';
COMMENT ON COLUMN crm_data.view_version.name IS 'Name of the view.';
COMMENT ON COLUMN crm_data.view_version.digest IS 'SHA-256 of its definition as pg_get_viewdef prints it, hexadecimal.';
COMMENT ON COLUMN crm_data.view_version.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.view_version.created_by IS 'Member or role that made the row.';
