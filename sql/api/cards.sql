-- What each desk sees of a customer in one row, and the matrix of permissions. Made on the guarded views, so nothing more is shown than there.
-- runs as: crm_gate

CREATE OR REPLACE VIEW crm.sales_card AS
SELECT o.id AS opportunity_id, o.account_id, a.name AS account, o.name AS opportunity, s.name AS stage, o.budget_low, o.budget_high, o.currency,
       (SELECT jsonb_agg(jsonb_build_object('contact_id', p.contact_id, 'name', c.name, 'role', p.role, 'influence', p.influence, 'reports_to', p.reports_to) ORDER BY p.influence DESC NULLS LAST, p.id)
          FROM crm.opportunity_contact AS p LEFT JOIN crm.contact AS c ON c.id = p.contact_id
         WHERE p.opportunity_id = o.id) AS decision_chain
  FROM crm.opportunity AS o
       JOIN crm.account AS a ON a.id = o.account_id
       JOIN crm.stage AS s ON s.id = o.stage_id
 WHERE s.outcome = 'open';
COMMENT ON VIEW crm.sales_card IS 'Sales: an open opportunity with its stage, budget range and decision chain.';
COMMENT ON COLUMN crm.sales_card.opportunity_id IS 'Opportunity.';
COMMENT ON COLUMN crm.sales_card.account_id IS 'Customer.';
COMMENT ON COLUMN crm.sales_card.account IS 'Name of the customer.';
COMMENT ON COLUMN crm.sales_card.opportunity IS 'Name of the opportunity.';
COMMENT ON COLUMN crm.sales_card.stage IS 'Stage that it is in.';
COMMENT ON COLUMN crm.sales_card.budget_low IS 'Lower end of the budget range.';
COMMENT ON COLUMN crm.sales_card.budget_high IS 'Upper end of the budget range.';
COMMENT ON COLUMN crm.sales_card.currency IS 'Currency of the budget.';
COMMENT ON COLUMN crm.sales_card.decision_chain IS 'People in the decision: [{contact_id, name, role, influence, reports_to}], the most influential first.';

CREATE OR REPLACE VIEW crm.service_card AS
SELECT a.id AS account_id, a.name AS account, a.complaint_tags, crm._recent_summaries(a.id) AS recent_summaries, t.title AS next_task, t.due_at, t.due_at - now() AS sla_remaining
  FROM crm.account AS a
       LEFT JOIN LATERAL (SELECT k.title, k.due_at FROM crm.task AS k
                           WHERE k.account_id = a.id AND k.state = 'open' AND k.due_at IS NOT NULL ORDER BY k.due_at, k.id LIMIT 1) AS t ON true;
COMMENT ON VIEW crm.service_card IS 'Service: a customer with the latest summaries, the complaint tags and the time left of the most urgent task.';
COMMENT ON COLUMN crm.service_card.account_id IS 'Customer.';
COMMENT ON COLUMN crm.service_card.account IS 'Name of the customer.';
COMMENT ON COLUMN crm.service_card.complaint_tags IS 'What the customer complained of.';
COMMENT ON COLUMN crm.service_card.recent_summaries IS 'The latest follow-ups (setting service.recent_summaries, 3): [{at, kind, summary}], the newest first.';
COMMENT ON COLUMN crm.service_card.next_task IS 'Most urgent open task.';
COMMENT ON COLUMN crm.service_card.due_at IS 'When it is due.';
COMMENT ON COLUMN crm.service_card.sla_remaining IS 'Time left until then; negative when it is overdue.';

CREATE OR REPLACE VIEW crm.finance_card AS
SELECT c.id AS contract_id, c.account_id, c.code AS contract_no, c.invoice_state, c.receipt_state,
       (SELECT jsonb_agg(jsonb_build_object('seq', p.seq, 'name', p.name, 'due_on', p.due_on, 'amount', p.amount, 'currency', p.currency, 'paid_on', p.paid_on) ORDER BY p.seq)
          FROM crm.payment_plan AS p WHERE p.contract_id = c.id) AS payment_plan
  FROM crm.contract AS c;
COMMENT ON VIEW crm.finance_card IS 'Finance: a contract with its number, the state of invoices and receipts, and the payment plan.';
COMMENT ON COLUMN crm.finance_card.contract_id IS 'Contract.';
COMMENT ON COLUMN crm.finance_card.account_id IS 'Customer.';
COMMENT ON COLUMN crm.finance_card.contract_no IS 'Number of the contract.';
COMMENT ON COLUMN crm.finance_card.invoice_state IS 'How far it is invoiced.';
COMMENT ON COLUMN crm.finance_card.receipt_state IS 'How far it is paid.';
COMMENT ON COLUMN crm.finance_card.payment_plan IS 'Agreed instalments: [{seq, name, due_on, amount, currency, paid_on}].';

CREATE OR REPLACE VIEW crm.regional_results AS
SELECT r.region, r.month, r.outcome, r.deals, r.customers, r.amount FROM crm._regional_results() AS r;
COMMENT ON VIEW crm.regional_results IS 'What deals came to, by region of their team, month of closing and outcome, for whoever may read them or has the operation summary on opportunity. A group stands here when deals of enough customers are behind it (setting access.min_group, 5), when its month is over, and when the person''s scope takes in the whole region; there are no totals over groups, since the difference would be the group that is left out.';
COMMENT ON COLUMN crm.regional_results.region IS 'Region of the team; NULL for deals without one, shown to whoever reaches all.';
COMMENT ON COLUMN crm.regional_results.month IS 'First day of the month in which they were closed, in the organisation''s time zone whatever the session says.';
COMMENT ON COLUMN crm.regional_results.outcome IS 'won or lost.';
COMMENT ON COLUMN crm.regional_results.deals IS 'How many deals.';
COMMENT ON COLUMN crm.regional_results.customers IS 'Of how many customers.';
COMMENT ON COLUMN crm.regional_results.amount IS 'Sum of their amounts in the organisation''s currency; NULL where too few customers'' deals have an amount and a rate, or the person may not read the amount of a deal.';

CREATE OR REPLACE VIEW crm.permission_matrix AS
SELECT m.role_name, m.object, m.may_create, m.may_read, m.may_update, m.may_delete, m.may_export, m.may_summarize FROM crm._permission_matrix() AS m;
COMMENT ON VIEW crm.permission_matrix IS 'Who may do what: for each role and object the rows that each operation reaches, from the compiled policies and the rights of the catalog. Administrators and risk see all roles, others their own.';
COMMENT ON COLUMN crm.permission_matrix.role_name IS 'Role.';
COMMENT ON COLUMN crm.permission_matrix.object IS 'Business object.';
COMMENT ON COLUMN crm.permission_matrix.may_create IS 'Rows that it may add: own, team, subtree, region or all, with bounds of grade or rank; NULL for none.';
COMMENT ON COLUMN crm.permission_matrix.may_read IS 'Rows that it may read.';
COMMENT ON COLUMN crm.permission_matrix.may_update IS 'Rows that it may change.';
COMMENT ON COLUMN crm.permission_matrix.may_delete IS 'Rows that it may delete, or ask to.';
COMMENT ON COLUMN crm.permission_matrix.may_export IS 'Rows that it may export once somebody approved.';
COMMENT ON COLUMN crm.permission_matrix.may_summarize IS 'Rows that count for it in crm.regional_results.';
