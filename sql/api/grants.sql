-- All rights of people and tools, in one place. Nothing is for PUBLIC; the engine's roles have what they need by ownership.
-- runs as: caller

-- Views: everybody may ask for everything. The policies and guards behind a view decide what is shown and changed.
-- crm_pool is for the login role of a connection pool: it has the rights to call, and, until crm.login() names a member, nothing to see. So a
-- routine that is not for everybody checks the person itself (crm.may, crm.has_role): a grant here cannot tell who is behind a pool.
DO $grants$
DECLARE
    everybody CONSTANT text := 'crm_admin, crm_steward, crm_sales, crm_manager, crm_director, crm_service, crm_finance, crm_legal, crm_marketing, crm_risk, crm_sync, crm_bi, crm_pool';
    object text;
    rule record;
BEGIN
    EXECUTE 'GRANT USAGE ON SCHEMA crm TO ' || everybody;
    FOR object IN SELECT DISTINCT f.object FROM crm_data.field AS f WHERE NOT f.custom ORDER BY 1 LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON crm.%I TO %s', object, everybody);
        EXECUTE format('GRANT SELECT ON crm.%I TO crm_owner', object);
    END LOOP;

    FOREACH object IN ARRAY ARRAY['sales_card', 'service_card', 'finance_card', 'permission_matrix'] LOOP
        EXECUTE format('GRANT SELECT ON crm.%I TO %s', object, everybody);
    END LOOP;

    -- One line a routine, by subject: * is everybody, else the roles.
    FOR rule IN SELECT v.routine, v.people FROM (VALUES
        ('crm.version()', '*'),
        ('crm.doctor()', 'crm_admin'),
        ('crm.verify_views()', 'crm_admin'),
        -- configuration: who may change it is asked inside
        ('crm.config_validate(text, jsonb)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_put(text, text, jsonb, text, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_simulate(text, text, int, interval, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_impact(text, text, int, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_propose(text, text, int, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_approve(text, text, int, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_canary(text, text, int, numeric, interval, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_rollback(text, text, int, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_rollback_to(timestamptz, text[])', 'crm_admin'),
        ('crm.config_as_of(timestamptz)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_diff(text, text, int, int, text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_list(text)', 'crm_admin, crm_manager, crm_steward'),
        ('crm.config_export(text[])', 'crm_admin'),
        ('crm.config_import(jsonb, text)', 'crm_admin'),
        -- leads, follow-ups, stages: whose records they are is asked inside
        ('crm.capture_lead(jsonb)', 'crm_admin, crm_sales, crm_manager, crm_marketing, crm_sync, crm_service'),
        ('crm.assign_lead(bigint, bigint[])', 'crm_admin, crm_manager, crm_marketing'),
        ('crm.log_interaction(jsonb)', 'crm_admin, crm_sales, crm_manager, crm_service'),
        ('crm.log_touch(bigint, text, text, bigint, text)', 'crm_admin, crm_sales, crm_manager'),
        ('crm.advance_stage(bigint, text, int, text)', 'crm_admin, crm_sales, crm_manager'),
        ('crm.complete_task(bigint, text, bigint[])', 'crm_admin, crm_sales, crm_manager, crm_service'),
        ('crm.waive_task(bigint, text)', 'crm_admin, crm_sales, crm_manager, crm_service'),
        ('crm.features(text, bigint)', 'crm_admin'),
        ('crm.risk(bigint)', 'crm_admin, crm_sales, crm_manager, crm_director, crm_risk'),
        -- jobs, messages and reports
        ('crm.tick()', 'crm_admin'),
        ('crm._tick_step()', 'crm_admin'),
        ('crm.run_jobs()', 'crm_admin'),
        ('crm._run_jobs_step()', 'crm_admin'),
        ('crm.maintenance()', 'crm_admin'),
        ('crm._maintenance_step()', 'crm_admin'),
        ('crm.schedule()', 'crm_admin'),
        ('crm.unschedule()', 'crm_admin'),
        ('crm.job_due(text, interval, text, timestamptz, timestamptz)', 'crm_admin'),
        ('crm.job_put(text, text, interval, text, text, boolean)', 'crm_admin'),
        ('crm.job_list()', 'crm_admin'),
        ('crm.outbox_claim(text, int, text[])', 'crm_sync'),
        ('crm.outbox_ack(bigint[], text)', 'crm_sync'),
        ('crm.outbox_fail(bigint, text, text, boolean)', 'crm_sync'),
        ('crm.bottleneck_brief(timestamptz, bigint)', 'crm_admin, crm_manager, crm_director, crm_risk'),
        ('crm.similar_cases(text, bigint, int)', 'crm_admin, crm_sales, crm_manager, crm_director'),
        ('crm.report_list(text)', '*'),
        ('crm.report_body(bigint)', '*'),
        ('crm.report_html(bigint, text)', '*'),
        ('crm.report_html(text, jsonb, text)', '*'),
        ('crm.action_heatmap(date)', 'crm_admin, crm_manager, crm_director'),
        ('crm.morning_brief(timestamptz)', '*'),
        -- whose they are is asked inside
        ('crm.my_board(timestamptz)', '*'),
        ('crm.today_focus(date)', '*'),
        ('crm.receivable_health(date)', '*'),
        ('crm.followup_watch(timestamptz)', '*'),
        ('crm.director_daily(timestamptz)', '*'),
        ('crm.team_performance(date)', '*'),
        ('crm.monthly_snapshot(date)', '*'),
        ('crm.health_report(date)', '*'),
        ('crm.report_check(date)', '*'),
        ('crm.verify_reports()', 'crm_admin, crm_director, crm_risk'),
        -- import: for those who answer for the data
        ('crm.csv_fields(text, text)', '*'),
        ('crm.parse_number(text)', '*'),
        ('crm.parse_date(text, boolean)', '*'),
        ('crm.parse_time(text, boolean, text)', '*'),
        ('crm.label_key(text)', '*'),
        ('crm.import_fields(text)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.import_guess(text[], text)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.import_begin(text, text, jsonb, jsonb, text)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.import_load(bigint, text)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.import_validate(bigint)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.import_report(bigint, text[])', 'crm_admin, crm_steward, crm_sync'),
        ('crm.import_confirm(bigint, text)', 'crm_admin, crm_steward'),
        ('crm.import_apply(bigint, int, boolean)', 'crm_admin, crm_steward, crm_sync'),
        ('crm._import_apply_chunk(bigint, int, boolean)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.import_undo(bigint, int)', 'crm_admin, crm_steward'),
        ('crm._import_undo_chunk(bigint, int)', 'crm_admin, crm_steward'),
        ('crm.import_list()', 'crm_admin, crm_steward, crm_sync'),
        ('crm.pipeline_put(text, text, jsonb)', 'crm_admin'),
        ('crm.demo_data(int, int, date)', 'crm_admin'),
        -- access
        ('crm.guard(anyelement, int, bigint, bigint)', '*'),
        ('crm.row_visible(text, text, bigint, bigint, smallint)', '*'),
        ('crm.me()', '*'),
        ('crm.my_teams(text)', '*'),
        ('crm.has_role(text)', '*'),
        ('crm.may(text)', '*'),
        ('crm.login(text)', 'crm_pool'),
        ('crm.mint_token(bigint, interval)', 'crm_admin'),
        ('crm._recent_summaries(bigint)', '*'),
        ('crm._permission_matrix()', '*'),
        ('crm.request_approval(text, text, jsonb, text, bigint)', '*'),
        ('crm.decide(bigint, boolean, text)', '*'),
        ('crm.requests()', '*'),
        ('crm.request_delete(text, bigint, text, bigint)', '*'),
        ('crm.challenge(text, text, bigint)', '*'),
        ('crm.confirm(bigint, text, text)', '*'),
        ('crm.reveal(text, bigint, text, text)', '*'),
        ('crm.find_by_phone(text)', '*'),
        ('crm.export(bigint)', '*'),
        ('crm.effective_roles(bigint)', '*'),
        ('crm.preview_as(text, text, bigint)', '*'),
        ('crm.access_audit()', '*'),
        ('crm.role_cleanup(text, text)', '*'),
        ('crm.offboard(bigint, bigint)', '*'),
        -- history: what they show is masked as the fields are
        ('crm.history(text, bigint)', '*'),
        ('crm.account_trail(bigint, timestamptz)', '*'),
        ('crm.as_of(text, bigint, timestamptz)', '*'),
        ('crm.verify_history(timestamptz, timestamptz)', 'crm_admin, crm_risk'),
        -- a customer's page: reads the views
        ('crm.account_card(bigint)', '*'),
        ('crm.account_related(bigint, text, bigint, int)', '*'),
        -- writes: each asks the row and field rules itself
        ('crm.write(text, bigint, uuid, text, int, jsonb, timestamptz, text)', '*'),
        ('crm.begin_edit(bigint, text, interval)', '*'),
        ('crm.end_edit(bigint, text)', '*'),
        ('crm.remove(text, bigint, int)', '*'),
        ('crm.apply_operations(bigint, int)', '*'),
        ('crm.save_account(jsonb, int)', '*'),
        ('crm.submit_drafts(jsonb[])', '*'),
        ('crm.restore(text, bigint, int, text[])', '*'),
        ('crm.restore_row(bigint)', 'crm_admin, crm_steward'),
        ('crm.forget(bigint, text)', 'crm_admin, crm_legal'),
        ('crm.history_root()', '*'),
        ('crm.verify_roots()', 'crm_admin, crm_risk'),
        ('crm.integrity_check()', 'crm_admin, crm_risk'),
        ('crm.retry_failed(int)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.locks()', 'crm_admin, crm_steward, crm_manager, crm_director'),
        -- text and match
        ('crm.fold(text)', '*'),
        ('crm.phone_key(text, text)', '*'),
        ('crm.phone_parse(text, text)', '*'),
        ('crm.company_parse(text)', '*'),
        ('crm.company_key(text)', '*'),
        ('crm.person_key(text)', '*'),
        ('crm.email_key(text)', '*'),
        ('crm.address_parse(text)', '*'),
        ('crm.uscc_valid(text)', '*'),
        ('crm.id_valid(text)', '*'),
        ('crm.mask_phone(text)', '*'),
        ('crm.mask_name(text)', '*'),
        ('crm._caller()', '*'),
        ('crm._match_train(regclass, name, jsonb, boolean, int)', '*'),
        ('crm._match_clusters(regclass, name, jsonb, boolean, bytea, float8)', '*'),
        ('crm._match_pairs(regclass, name, jsonb, boolean, bytea, float8)', '*'),
        ('crm._match_check_fields(regclass, name, jsonb)', '*'),
        ('crm._match_model(text)', '*'),
        ('crm._match_store(text, regclass, name, jsonb)', '*'),
        ('crm._match_save(text, bytea, jsonb, bigint)', '*'),
        ('crm._match_guess(regclass, name)', '*'),
        ('crm.match_define(text, regclass, name, jsonb)', '*'),
        ('crm.match_train(text)', '*'),
        ('crm.match_clusters(text, float8)', '*'),
        ('crm.match_pairs(text, float8)', '*'),
        ('crm._match_put(int, text[], jsonb[])', '*'),
        ('crm._match_keep()', '*'),
        ('crm._match_indexed(text, boolean)', '*'),
        ('crm._match_candidates(text, jsonb)', '*'),
        ('crm._match_probe(regclass, name, jsonb, bytea, jsonb, text[], int)', '*'),
        ('crm.match_index(text)', '*'),
        ('crm.match_probe(text, jsonb, int)', '*'),
        ('crm.find_duplicates(text, jsonb, text)', '*'),
        ('crm.check_duplicate(jsonb)', '*'),
        ('crm.scan_duplicates(text, timestamptz)', 'crm_admin, crm_steward, crm_sync'),
        ('crm.reject_duplicate(bigint, text)', 'crm_admin, crm_steward'),
        ('crm.merge_preview(text, bigint, bigint[])', 'crm_admin, crm_steward'),
        ('crm.merge(text, bigint, bigint[], jsonb)', 'crm_admin, crm_steward'),
        ('crm.unmerge(bigint)', 'crm_admin, crm_steward'),
        ('crm.current_id(text, bigint)', '*'),
        -- odds: the lattice model works on whatever its caller may read
        ('crm.lattice_fit(text[], float8, float8)', '*'),
        ('crm.lattice_fit(text[], float8, float8, jsonb)', '*'),
        ('crm._lattice_fit_trans(internal, text[], float8, float8)', '*'),
        ('crm._lattice_fit_trans(internal, text[], float8, float8, jsonb)', '*'),
        ('crm._lattice_fit_final(internal)', '*'),
        ('crm.lattice_learn(crm.lattice, text[], float8, float8)', '*'),
        ('crm._lattice_learn_trans(internal, crm.lattice, text[], float8, float8)', '*'),
        ('crm._lattice_learn_final(internal)', '*'),
        ('crm.lattice_predict(crm.lattice, text[])', '*'),
        ('crm.lattice_update(crm.lattice, text[], float8, float8)', '*'),
        ('crm.lattice_explain(crm.lattice, text[])', '*'),
        ('crm.lattice_monotone(crm.lattice, int, text[])', '*'),
        ('crm.lattice(bytea)', '*'),
        ('crm.credibility_refit(timestamptz)', 'crm_admin'),
        ('crm.lattice_send(crm.lattice)', '*'),
        ('crm.odds_backtest(regclass, name, name[], name, name, name, name, name)', '*'),
        ('crm.win_probability(bigint, timestamptz)', '*'),
        ('crm.win_explain(bigint, timestamptz)', '*'),
        ('crm.win_whatif(bigint, jsonb)', '*'),
        ('crm.forecast(daterange, text, timestamptz)', '*'),
        ('crm.credibility(bigint, timestamptz)', '*'),
        ('crm.forecast_adjust(bigint, daterange, numeric, text, text, bigint)', '*'),
        ('crm.freeze_forecast(daterange, timestamptz)', 'crm_admin, crm_director'),
        ('crm.deviation(daterange)', 'crm_admin, crm_director, crm_manager, crm_sales, crm_finance'),
        ('crm.forecast_vs_cash(daterange, timestamptz)', 'crm_admin, crm_director, crm_manager, crm_finance'),
        ('crm.simulate(bigint[], jsonb)', 'crm_admin, crm_director, crm_manager, crm_sales'),
        ('crm.forecast_distribution(float8, float8, float8)', '*'),
        ('crm._forecast_trans(internal, float8, float8, float8)', '*'),
        ('crm._forecast_final(internal)', '*'),
        ('crm.odds_override(jsonb, numeric, int, text, date, boolean)', 'crm_admin, crm_director'),
        ('crm.odds_override_revoke(bigint)', 'crm_admin, crm_director'),
        ('crm.odds_refit(timestamptz)', 'crm_admin'),
        ('crm.odds_apply(int)', 'crm_admin'),
        ('crm.odds_score(timestamptz, timestamptz)', 'crm_admin, crm_director'),
        ('crm.odds_challenge(text[], int)', 'crm_admin, crm_director'),
        ('crm.psi(float8[], float8[])', '*'),
        ('crm.ks_test(float8[], float8[])', '*'),
        ('crm.page_hinkley(float8, float8, float8, float8)', '*'),
        ('crm._page_hinkley_trans(internal, float8, float8, float8, float8)', '*'),
        ('crm._page_hinkley_final(internal)', '*'),
        ('crm.drift(timestamptz, timestamptz)', 'crm_admin, crm_director, crm_risk'),
        ('crm.model_rollback(text)', 'crm_admin, crm_director')
        -- end of routines
    ) AS v (routine, people) LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %s', rule.routine, CASE rule.people WHEN '*' THEN everybody ELSE rule.people END);
    END LOOP;
END
$grants$;

-- Target of COPY for imports
GRANT INSERT ON crm.import_line TO crm_admin, crm_steward, crm_sync;

-- Dumps read everything and change nothing.
GRANT USAGE ON SCHEMA crm, crm_data TO crm_backup;
GRANT SELECT ON ALL TABLES IN SCHEMA crm_data TO crm_backup;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA crm_data TO crm_backup;
