-- Organisation and access: teams, members, public pools, the registry of fields, the compiled permissions, approvals and secrets.
--
-- Bookkeeping columns, the same in every table: created_at and created_by everywhere, updated_at and updated_by where rows change, row_version,
-- field_version, last_hash and last_at where the change is versioned and kept in the history. Guarded tables repeat owner_id, team_id and grade of
-- their customer, so that row rules need no join; those copies carry no foreign key, because only the engine writes them. Grades are ranks (smallint)
-- because row rules may only use leakproof comparisons. Row security, triggers and rights are not here: sql/api makes them on every migrate.

CREATE TABLE crm_data.team (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent_id bigint REFERENCES crm_data.team (id),
    code text NOT NULL UNIQUE CHECK (code <> ''),
    name text NOT NULL CHECK (name <> ''),
    region text,
    closed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    CHECK (parent_id <> id)
);
CREATE INDEX team_parent_id_idx ON crm_data.team (parent_id) WHERE parent_id IS NOT NULL;
COMMENT ON TABLE crm_data.team IS 'Team: a node of the organisation''s tree. Rights and quotas follow this tree.';
COMMENT ON COLUMN crm_data.team.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.team.parent_id IS 'Team above this one; NULL for the root of the tree.';
COMMENT ON COLUMN crm_data.team.code IS 'Stable short code by which imports and configuration name the team.';
COMMENT ON COLUMN crm_data.team.name IS 'Name shown to people.';
COMMENT ON COLUMN crm_data.team.region IS 'Sales region the team works in; region scopes compare this text exactly.';
COMMENT ON COLUMN crm_data.team.closed_at IS 'When the team stopped existing; NULL while it works.';
COMMENT ON COLUMN crm_data.team.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.team.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.team.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.team.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.team.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.team.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.team.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.team.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.member (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role_name name UNIQUE,
    employee_no text UNIQUE CHECK (employee_no <> ''),
    full_name text NOT NULL CHECK (full_name <> ''),
    phone text,
    email text,
    team_id bigint REFERENCES crm_data.team (id),
    manager_id bigint REFERENCES crm_data.member (id),
    rank smallint NOT NULL DEFAULT 0 CHECK (rank BETWEEN 0 AND 9),
    hired_at date NOT NULL DEFAULT '-infinity',
    left_at date,
    capacity integer NOT NULL DEFAULT 50 CHECK (capacity >= 0),
    regions text[] NOT NULL DEFAULT '{}',
    industries text[] NOT NULL DEFAULT '{}',
    locale text NOT NULL DEFAULT 'zh' CHECK (locale IN ('en', 'zh')),
    points integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    CHECK (manager_id <> id),
    CHECK (left_at IS NULL OR left_at >= hired_at)
);
CREATE INDEX member_team_id_idx ON crm_data.member (team_id) WHERE team_id IS NOT NULL;
CREATE INDEX member_manager_id_idx ON crm_data.member (manager_id) WHERE manager_id IS NOT NULL;
COMMENT ON TABLE crm_data.member IS 'Member: a person of the organisation who may work in the CRM, tied to a login role.';
COMMENT ON COLUMN crm_data.member.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.member.role_name IS 'Login role of this person; NULL when the person never logs in to the database, as behind a pool without own logins.';
COMMENT ON COLUMN crm_data.member.employee_no IS 'Employee number, asked for at second confirmations.';
COMMENT ON COLUMN crm_data.member.full_name IS 'Full name as shown to colleagues.';
COMMENT ON COLUMN crm_data.member.phone IS 'Telephone number for one-time codes and alerts, as typed.';
COMMENT ON COLUMN crm_data.member.email IS 'E-mail address for reports and fallback messages.';
COMMENT ON COLUMN crm_data.member.team_id IS 'Team the person belongs to; NULL means no team scope at all.';
COMMENT ON COLUMN crm_data.member.manager_id IS 'Direct superior, the first address of an escalation.';
COMMENT ON COLUMN crm_data.member.rank IS 'Seniority, 0 to 9, higher is more senior.';
COMMENT ON COLUMN crm_data.member.hired_at IS 'First working day; the data sandbox counts its days from here.';
COMMENT ON COLUMN crm_data.member.left_at IS 'First day the person no longer belongs to the organisation; NULL while employed.';
COMMENT ON COLUMN crm_data.member.capacity IS 'Open tasks the person can carry; assignment divides the load by it, 0 takes the person out of routing.';
COMMENT ON COLUMN crm_data.member.regions IS 'Regions the person takes leads from; empty means any.';
COMMENT ON COLUMN crm_data.member.industries IS 'Industries the person takes leads from; empty means any.';
COMMENT ON COLUMN crm_data.member.locale IS 'Language of messages and reports for this person: en or zh.';
COMMENT ON COLUMN crm_data.member.points IS 'Points earned by follow-ups and actions done on time, kept by the engine.';
COMMENT ON COLUMN crm_data.member.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.member.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.member.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.member.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.member.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.member.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.member.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.member.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.pool (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    team_id bigint REFERENCES crm_data.team (id),
    daily_views integer NOT NULL DEFAULT 50 CHECK (daily_views >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz
);
CREATE INDEX pool_team_id_idx ON crm_data.pool (team_id) WHERE team_id IS NOT NULL;
COMMENT ON TABLE crm_data.pool IS 'Public pool of customers without an owner, from which members may claim.';
COMMENT ON COLUMN crm_data.pool.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.pool.name IS 'Name of the pool.';
COMMENT ON COLUMN crm_data.pool.team_id IS 'Team whose members may claim from the pool; NULL means everybody.';
COMMENT ON COLUMN crm_data.pool.daily_views IS 'Full records one member may open from the pool in a day.';
COMMENT ON COLUMN crm_data.pool.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.pool.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.pool.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.pool.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.pool.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.pool.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.pool.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.pool.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.field (
    id integer GENERATED BY DEFAULT AS IDENTITY (START WITH 1000000) PRIMARY KEY,
    object text NOT NULL CHECK (object <> ''),
    name text NOT NULL CHECK (name <> ''),
    type text NOT NULL,
    label jsonb NOT NULL CHECK (jsonb_typeof(label) = 'object'),
    purpose text NOT NULL CHECK (purpose <> ''),
    class text NOT NULL CHECK (class IN ('key', 'general', 'contact', 'identity', 'money', 'sales', 'service', 'finance', 'risk', 'people', 'custom', 'engine')),
    write_class text NOT NULL CHECK (write_class IN ('text', 'strict', 'set', 'counter', 'fill', 'keyed', 'fixed', 'engine')),
    guarded boolean NOT NULL DEFAULT true,
    searchable boolean NOT NULL DEFAULT false,
    custom boolean NOT NULL DEFAULT false,
    inputs text[] CHECK (cardinality(inputs) > 0),
    rules jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(rules) = 'object'),
    steward_id bigint REFERENCES crm_data.member (id),
    retired_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    row_version integer NOT NULL DEFAULT 1 CHECK (row_version > 0),
    field_version jsonb NOT NULL DEFAULT '{}',
    last_hash bytea,
    last_at timestamptz,
    UNIQUE (object, name)
);
CREATE INDEX field_steward_id_idx ON crm_data.field (steward_id) WHERE steward_id IS NOT NULL;
COMMENT ON TABLE crm_data.field IS 'Registry of fields: one row for every column of a business object that people can see, and one for every custom key in attrs. Permissions, history, exports and messages all name a field by this row.';
COMMENT ON COLUMN crm_data.field.id IS 'Number of the field: object number * 1000 + position for shipped columns, from 1000000 for custom fields; the same on every database.';
COMMENT ON COLUMN crm_data.field.object IS 'Business object, the name of its table and view.';
COMMENT ON COLUMN crm_data.field.name IS 'Column of the object, or the key in attrs when custom.';
COMMENT ON COLUMN crm_data.field.type IS 'SQL type as shown to people, with its modifier.';
COMMENT ON COLUMN crm_data.field.label IS 'Label by language: {"en": .., "zh": ..}.';
COMMENT ON COLUMN crm_data.field.purpose IS 'The decision or automation the field serves; a field without one is not accepted.';
COMMENT ON COLUMN crm_data.field.class IS 'Access class: field policies give a mode to a class and may differ for single fields.';
COMMENT ON COLUMN crm_data.field.write_class IS 'How two concurrent writes merge: text and strict conflict, set unites, counter adds, fill lets the non-empty value win, keyed merges a document key by key, fixed never changes after insert, engine is kept by the engine and is neither versioned nor in the history.';
COMMENT ON COLUMN crm_data.field.guarded IS 'Whether the view masks the column; false for keys, versions and reference data that every reader of the row may see.';
COMMENT ON COLUMN crm_data.field.searchable IS 'Nearly unique field for which an equality search may use the index even under a row-dependent rule.';
COMMENT ON COLUMN crm_data.field.custom IS 'Whether the field is a key of attrs rather than a column.';
COMMENT ON COLUMN crm_data.field.inputs IS 'Fields of the same object that it is computed from: a role reads and exports it no better than the strictest of them. NULL for a field with a value of its own.';
COMMENT ON COLUMN crm_data.field.rules IS 'Validation of a custom field: type, picklist, minimum, maximum, pattern.';
COMMENT ON COLUMN crm_data.field.steward_id IS 'Data steward answerable for the field.';
COMMENT ON COLUMN crm_data.field.retired_at IS 'When the field was taken out of use; its values stay.';
COMMENT ON COLUMN crm_data.field.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.field.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.field.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.field.updated_by IS 'Member or role that last changed the row.';
COMMENT ON COLUMN crm_data.field.row_version IS 'Version of the row, from 1, gapless; engine columns do not change it.';
COMMENT ON COLUMN crm_data.field.field_version IS 'row_version in which each field was last changed, by field name; absent means the first.';
COMMENT ON COLUMN crm_data.field.last_hash IS 'Hash of the record''s last change, the head of its history chain.';
COMMENT ON COLUMN crm_data.field.last_at IS 'Time of the record''s last change; the next one is never earlier.';

CREATE TABLE crm_data.field_policy (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role_name name NOT NULL,
    field_id integer NOT NULL REFERENCES crm_data.field (id),
    verb text NOT NULL CHECK (verb IN ('read', 'write', 'export')),
    mode text NOT NULL CHECK (mode IN ('never', 'mask', 'own', 'team', 'always')),
    mask text CHECK (mask IN ('null', 'phone', 'name', 'email', 'text', 'zero')),
    valid_to timestamptz,
    config_version integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (role_name, field_id, verb)
);
CREATE INDEX field_policy_field_id_idx ON crm_data.field_policy (field_id);
COMMENT ON TABLE crm_data.field_policy IS 'Compiled field rights, written only by the policy compiler from the active configuration of kind field_policy.';
COMMENT ON COLUMN crm_data.field_policy.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.field_policy.role_name IS 'Group role the right belongs to.';
COMMENT ON COLUMN crm_data.field_policy.field_id IS 'Field the right is for.';
COMMENT ON COLUMN crm_data.field_policy.verb IS 'What the role does with the field.';
COMMENT ON COLUMN crm_data.field_policy.mode IS 'never gives NULL, mask a masked value, own and team the value on the reader''s or the team''s rows, always the value.';
COMMENT ON COLUMN crm_data.field_policy.mask IS 'Masking function for rows on which the value is not shown; NULL means NULL.';
COMMENT ON COLUMN crm_data.field_policy.valid_to IS 'End of the right; NULL means no end.';
COMMENT ON COLUMN crm_data.field_policy.config_version IS 'Version of the configuration row this was compiled from.';
COMMENT ON COLUMN crm_data.field_policy.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.field_policy.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.row_policy (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role_name name NOT NULL,
    object text NOT NULL,
    verb text NOT NULL CHECK (verb IN ('read', 'write', 'export')),
    scope text NOT NULL CHECK (scope IN ('own', 'team', 'subtree', 'region', 'all')),
    grade_min smallint NOT NULL DEFAULT 0 CHECK (grade_min BETWEEN 0 AND 9),
    grade_max smallint NOT NULL DEFAULT 9 CHECK (grade_max BETWEEN 0 AND 9),
    rank_min smallint NOT NULL DEFAULT 0 CHECK (rank_min BETWEEN 0 AND 9),
    rank_max smallint NOT NULL DEFAULT 9 CHECK (rank_max BETWEEN 0 AND 9),
    valid_to timestamptz,
    config_version integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (role_name, object, verb, scope, grade_min, rank_min),
    CHECK (grade_min <= grade_max),
    CHECK (rank_min <= rank_max)
);
COMMENT ON TABLE crm_data.row_policy IS 'Compiled row scopes, written only by the policy compiler from the active configuration of kind row_policy.';
COMMENT ON COLUMN crm_data.row_policy.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.row_policy.role_name IS 'Group role the scope belongs to.';
COMMENT ON COLUMN crm_data.row_policy.object IS 'Business object; * for every object.';
COMMENT ON COLUMN crm_data.row_policy.verb IS 'What the role does with the rows.';
COMMENT ON COLUMN crm_data.row_policy.scope IS 'Rows reached: the member''s own, the team''s, the team''s and those below it, the region''s, all.';
COMMENT ON COLUMN crm_data.row_policy.grade_min IS 'Lowest customer grade reached (rank, see account.grade).';
COMMENT ON COLUMN crm_data.row_policy.grade_max IS 'Highest customer grade reached (rank, see account.grade).';
COMMENT ON COLUMN crm_data.row_policy.rank_min IS 'Lowest seniority of the members the scope is for.';
COMMENT ON COLUMN crm_data.row_policy.rank_max IS 'Highest seniority of the members the scope is for.';
COMMENT ON COLUMN crm_data.row_policy.valid_to IS 'End of the right; NULL means no end.';
COMMENT ON COLUMN crm_data.row_policy.config_version IS 'Version of the configuration row this was compiled from.';
COMMENT ON COLUMN crm_data.row_policy.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.row_policy.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.permission (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role_name name NOT NULL,
    object text NOT NULL,
    op text NOT NULL CHECK (op <> ''),
    scope text NOT NULL CHECK (scope IN ('own', 'team', 'subtree', 'region', 'all')),
    config_version integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    UNIQUE (role_name, object, op)
);
COMMENT ON TABLE crm_data.permission IS 'Compiled operation and function rights, written only by the policy compiler from the active configuration of kind permission.';
COMMENT ON COLUMN crm_data.permission.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.permission.role_name IS 'Group role the right belongs to.';
COMMENT ON COLUMN crm_data.permission.object IS 'Business object, or function for a right to run something; * for every object.';
COMMENT ON COLUMN crm_data.permission.op IS 'create, read, update, delete or export; for functions the name of what may be run.';
COMMENT ON COLUMN crm_data.permission.scope IS 'Rows the operation reaches; a permission without a scope is refused.';
COMMENT ON COLUMN crm_data.permission.config_version IS 'Version of the configuration row this was compiled from.';
COMMENT ON COLUMN crm_data.permission.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.permission.created_by IS 'Member or role that made the row.';

CREATE TABLE crm_data.access_profile (
    role_name name PRIMARY KEY,
    least_privilege boolean NOT NULL DEFAULT true,
    max_depth smallint NOT NULL DEFAULT 2 CHECK (max_depth BETWEEN 0 AND 9),
    sandbox_days smallint NOT NULL DEFAULT 7 CHECK (sandbox_days BETWEEN 0 AND 3650),
    read_fields text[] NOT NULL DEFAULT '{}',
    write_fields text[] NOT NULL DEFAULT '{}',
    export_fields text[] NOT NULL DEFAULT '{}',
    key_rules text[] NOT NULL DEFAULT '{}',
    row_rules text[] NOT NULL DEFAULT '{}',
    valid_to timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.access_profile IS 'Compiled access profile, one row a group role: what the planner support functions read. Written only by the policy compiler.';
COMMENT ON COLUMN crm_data.access_profile.role_name IS 'Role the profile is for.';
COMMENT ON COLUMN crm_data.access_profile.least_privilege IS 'Whether with several roles the stricter explicit rule wins, else the wider.';
COMMENT ON COLUMN crm_data.access_profile.max_depth IS 'Steps of inheritance over which a role counts (setting role.max_inherit_depth).';
COMMENT ON COLUMN crm_data.access_profile.sandbox_days IS 'First days of a member in which he sees only his own rows unmasked (setting sandbox.days).';
COMMENT ON COLUMN crm_data.access_profile.read_fields IS 'One text for each object number, in it a pair of letters for each field position: mode (n never, m mask, o own, t team, a always, - no rule; upper case for a default that gives way to the rules of other roles) and mask (- null, p phone, n name, e email, t text, z zero).';
COMMENT ON COLUMN crm_data.access_profile.write_fields IS 'The same for changing a field.';
COMMENT ON COLUMN crm_data.access_profile.export_fields IS 'The same for exporting a field.';
COMMENT ON COLUMN crm_data.access_profile.key_rules IS 'Custom fields that the role reads otherwise than their column, as field of the column|key|pair of letters.';
COMMENT ON COLUMN crm_data.access_profile.row_rules IS 'Rows reached, as object|verbs|scope|grade_min|grade_max|rank_min|rank_max with the verbs r c u d e s (summary); function:name for a right to run something.';
COMMENT ON COLUMN crm_data.access_profile.valid_to IS 'First end of a right in this row: from then on the row gives nothing until it is compiled again.';
COMMENT ON COLUMN crm_data.access_profile.created_at IS 'When the row was compiled.';
COMMENT ON COLUMN crm_data.access_profile.created_by IS 'Member or role that caused it.';

CREATE TABLE crm_data.approval (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind <> ''),
    object text NOT NULL,
    record_id bigint,
    payload jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(payload) = 'object'),
    requested_by bigint REFERENCES crm_data.member (id),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'rejected', 'used', 'expired', 'cancelled')),
    approver_role name,
    decided_by bigint REFERENCES crm_data.member (id),
    decided_at timestamptz,
    decision_note text,
    expires_at timestamptz NOT NULL,
    uses_left integer NOT NULL DEFAULT 1 CHECK (uses_left >= 0),
    code_hash bytea,
    code_salt bytea,
    attempts_left integer NOT NULL DEFAULT 5 CHECK (attempts_left >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT SESSION_USER,
    CHECK (kind = 'challenge' OR decided_by <> requested_by)
);
CREATE INDEX approval_object_record_id_idx ON crm_data.approval (object, record_id) WHERE state IN ('open', 'approved');
CREATE INDEX approval_expires_at_idx ON crm_data.approval (expires_at) WHERE state IN ('open', 'approved');
CREATE INDEX approval_requested_by_idx ON crm_data.approval (requested_by) WHERE requested_by IS NOT NULL;
CREATE INDEX approval_decided_by_idx ON crm_data.approval (decided_by) WHERE decided_by IS NOT NULL;
COMMENT ON TABLE crm_data.approval IS 'Request that needs a second person, or a second proof of the same person: exports, deletions, bulk changes, permission changes, challenges.';
COMMENT ON COLUMN crm_data.approval.id IS 'Identifier.';
COMMENT ON COLUMN crm_data.approval.kind IS 'What is asked: export, delete, bulk, challenge, config, transfer or another registered kind.';
COMMENT ON COLUMN crm_data.approval.object IS 'Business object concerned.';
COMMENT ON COLUMN crm_data.approval.record_id IS 'Record concerned; NULL when the request is about many.';
COMMENT ON COLUMN crm_data.approval.payload IS 'The request itself: filter, columns, row limit, reason.';
COMMENT ON COLUMN crm_data.approval.requested_by IS 'Member who asks; NULL when an administrator without a member row does.';
COMMENT ON COLUMN crm_data.approval.state IS 'Where the request stands.';
COMMENT ON COLUMN crm_data.approval.approver_role IS 'Group role one of whose members must decide, such as crm_legal for a contract.';
COMMENT ON COLUMN crm_data.approval.decided_by IS 'Member who decided; never the one who asked, except for a challenge.';
COMMENT ON COLUMN crm_data.approval.decided_at IS 'When it was decided.';
COMMENT ON COLUMN crm_data.approval.decision_note IS 'Why it was decided so.';
COMMENT ON COLUMN crm_data.approval.expires_at IS 'From when on the approval is worthless.';
COMMENT ON COLUMN crm_data.approval.uses_left IS 'How many times the approved operation may still run.';
COMMENT ON COLUMN crm_data.approval.code_hash IS 'For challenges: SHA-256 of salt and one-time code; the code itself is never stored.';
COMMENT ON COLUMN crm_data.approval.code_salt IS 'For challenges: random salt of the code.';
COMMENT ON COLUMN crm_data.approval.attempts_left IS 'For challenges: wrong codes still accepted.';
COMMENT ON COLUMN crm_data.approval.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.approval.created_by IS 'Member or role that made the row.';
COMMENT ON COLUMN crm_data.approval.updated_at IS 'When the row was last changed.';
COMMENT ON COLUMN crm_data.approval.updated_by IS 'Member or role that last changed the row.';

CREATE TABLE crm_data.secret (
    name text PRIMARY KEY,
    value bytea NOT NULL CHECK (length(value) >= 32),
    valid_to timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE crm_data.secret IS 'Keys the engine signs with. Read by no role but the owner of the schema.';
COMMENT ON COLUMN crm_data.secret.name IS 'What the key is for, such as token.';
COMMENT ON COLUMN crm_data.secret.value IS 'Key material, at least 32 bytes.';
COMMENT ON COLUMN crm_data.secret.valid_to IS 'Until when signatures of this key are accepted; NULL while it is the current one.';
COMMENT ON COLUMN crm_data.secret.created_at IS 'When the row was made.';
COMMENT ON COLUMN crm_data.secret.created_by IS 'Member or role that made the row.';
