-- A customer's page: the header with counts in one round trip, what hangs on it on demand, page by page.

CREATE OR REPLACE FUNCTION crm.account_card(account bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    card jsonb;
BEGIN
    -- the views answer what the caller may see, so nothing is asked here
    SELECT to_jsonb(a) INTO card FROM crm.account AS a WHERE a.id = account;
    IF card IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object('account', card, 'counts', jsonb_build_object(
        'contact', (SELECT count(*) FROM crm.contact AS x WHERE x.account_id = account),
        'opportunity', (SELECT count(*) FROM crm.opportunity AS x WHERE x.account_id = account),
        'interaction', (SELECT count(*) FROM crm.interaction AS x WHERE x.account_id = account),
        'task', (SELECT count(*) FROM crm.task AS x WHERE x.account_id = account),
        'contract', (SELECT count(*) FROM crm.contract AS x WHERE x.account_id = account),
        'attachment', (SELECT count(*) FROM crm.attachment AS x WHERE x.account_id = account)));
END
$function$;
COMMENT ON FUNCTION crm.account_card(bigint) IS
'Header of a customer''s page in one round trip: {account: the row as the caller sees it, counts: {contact, opportunity, interaction, task, contract, attachment}}. The rest is loaded on demand by crm.account_related.
account: the customer; NULL comes back for one that does not exist or is hidden.';

CREATE OR REPLACE FUNCTION crm.account_related(account bigint, what text, before bigint DEFAULT NULL, lim int DEFAULT 20) RETURNS SETOF jsonb
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF what IS NULL OR what <> ALL ('{contact,opportunity,interaction,task,contract,attachment}') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('nothing called "%s" hangs on a customer', what),
            HINT = 'Use contact, opportunity, interaction, task, contract or attachment.';
    END IF;
    IF lim IS NULL OR lim NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'lim must be from 1 to 200';
    END IF;
    RETURN QUERY EXECUTE format('SELECT to_jsonb(x) FROM crm.%I AS x WHERE x.account_id = $1 AND ($2 IS NULL OR x.id < $2) ORDER BY x.id DESC LIMIT $3', what)
        USING account, before, lim;
END
$function$;
COMMENT ON FUNCTION crm.account_related(bigint, text, bigint, int) IS
'One page of what hangs on a customer, the newest first, as the caller sees it.
account: the customer; what: contact, opportunity, interaction, task, contract or attachment; before: the smallest id of the page before, NULL for the first; lim: rows of a page, 1 to 200. Not STRICT: before may be NULL.
Errors: 22023 unknown kind, or lim out of range.';
