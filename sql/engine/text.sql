-- Text: one spelling, names, companies, phones, addresses, identifiers. Pure functions, independent of the locale.

CREATE FUNCTION crm.fold(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_fold_sql';
COMMENT ON FUNCTION crm.fold(text) IS
'One spelling for texts that people take for the same: NFKC (Unicode Standard Annex 15), full case folding, simplified characters, one kind of bracket, dash, quote and blank, no control or zero-width characters, no blank inside Chinese text. Latin diacritics stay.
value: any text. Returns the folded text, possibly empty. Raises nothing.';

CREATE FUNCTION crm.phone_key(value text, country text DEFAULT 'CN') RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_phone_key';
COMMENT ON FUNCTION crm.phone_key(text, text) IS
'The first telephone number in a text that may be real, in E.164 form, or as dialled where the area code is missing; NULL if there is none (placeholders such as 13800138000 are none).
country: ISO 3166-1 code assumed where none is written. Errors: 22023 the country is not two capital letters.';

CREATE FUNCTION crm.phone_parse(value text, country text DEFAULT 'CN', OUT e164 text, OUT ext text, OUT kind text, OUT valid boolean)
    RETURNS SETOF record
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 2
    AS 'MODULE_PATHNAME', 'crm_phone_parse';
COMMENT ON FUNCTION crm.phone_parse(text, text) IS
'The telephone numbers in a text, at most eight, in order: number (E.164, or as dialled where that cannot be known), extension, kind (mobile, fixed, local, service, foreign, unknown), and whether it can be real by the numbering plan and is no placeholder.
country: ISO 3166-1 code assumed where none is written. Errors: 22023 the country is not two capital letters.';

CREATE FUNCTION crm.company_parse(value text, OUT region text, OUT brand text, OUT trade text, OUT form text, OUT branch text, OUT core text)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_company_parse';
COMMENT ON FUNCTION crm.company_parse(text) IS
'A company name taken apart, folded: region, brand, trade (line of business), legal form, branch, and the core (brand and trade), which is what two spellings of one company share. Parts that are missing are NULL. Raises nothing.';

CREATE FUNCTION crm.company_key(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_company_key';
COMMENT ON FUNCTION crm.company_key(text) IS 'The core of a company name as crm.company_parse gives it; NULL if nothing is left of the name. Raises nothing.';

CREATE FUNCTION crm.person_key(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_person_key_sql';
COMMENT ON FUNCTION crm.person_key(text) IS
'A key by sound of a person''s name: pinyin without tones of a Chinese name, full forms of Latin given names, titles dropped, words sorted, so that a Chinese name, its pinyin and its pinyin with the given name first give one key. NULL if the text has no name in it. Raises nothing.';

CREATE FUNCTION crm.email_key(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_email_key';
COMMENT ON FUNCTION crm.email_key(text) IS
'The mail address in one spelling: folded, without a tag behind the plus sign, Gmail addresses without dots; NULL if the text is no single address. Raises nothing.';

CREATE FUNCTION crm.address_parse(value text, OUT province text, OUT city text, OUT district text, OUT road text, OUT number text, OUT building text, OUT unit text, OUT room text, OUT rest text)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_address_parse';
COMMENT ON FUNCTION crm.address_parse(text) IS
'An address taken apart, folded. Chinese addresses: province, city, district, road, number, building, unit, room, with written numerals as digits and a missing province filled in from the city. Others: number and room, and all words in one spelling in rest. Parts that are missing are NULL. Raises nothing.';

CREATE FUNCTION crm.uscc_valid(value text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_uscc_valid';
COMMENT ON FUNCTION crm.uscc_valid(text) IS 'True if the text is a unified social credit code by form and checksum (GB 32100-2015). Raises nothing.';

CREATE FUNCTION crm.id_valid(value text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_id_valid';
COMMENT ON FUNCTION crm.id_valid(text) IS 'True if the text is a resident identity number by form, date and checksum (GB 11643-1999). Raises nothing.';

CREATE FUNCTION crm.mask_phone(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_mask_phone';
COMMENT ON FUNCTION crm.mask_phone(text) IS 'A telephone number with its middle hidden: 138****1234; shorter numbers keep their last two digits. Raises nothing.';

CREATE FUNCTION crm.mask_name(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_mask_name';
COMMENT ON FUNCTION crm.mask_name(text) IS 'A person''s name with only its surname or first letter left, then two stars. Raises nothing.';

CREATE FUNCTION crm._value_kind(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'crm_value_kind_sql';
COMMENT ON FUNCTION crm._value_kind(text) IS 'What a value looks like by its form and its words: none, email, website, uscc, national_id, id4, date, postcode, phone, number, company, person_name, given_name, address, street, city, region, word, words, code (a word of up to three letters), other. For guessing what a column means. Internal.';
