/*
 * Text kernels: folding, names, companies, phones, addresses, identifiers.
 *
 * Pure C on plain types: no catalogs, no SPI. Growing buffers take their memory
 * from the current memory context in a backend and from malloc where
 * CRM_STANDALONE is defined (unit tests and fuzzers). Nothing here depends on the
 * locale of the database or of the process. No locks.
 *
 * Text is handled as code points ("cp"), already folded unless said otherwise.
 */
#ifndef CRM_TEXT_TEXT_H
#define CRM_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct CrmText
{
	uint32_t *v;
	size_t n;
	size_t cap;
} CrmText;

extern void crm_text_reserve(CrmText *t, size_t n);
extern void crm_text_free(CrmText *t);
extern void *crm_text_alloc(size_t size);
extern void crm_text_release(void *p);

/* fold.c */
extern size_t crm_utf8_next(const char *s, size_t n, uint32_t *cp);
extern size_t crm_utf8_put(uint32_t cp, char *out);
extern void crm_fold(const char *s, size_t n, CrmText *out);
extern size_t crm_strip_marks(uint32_t *v, size_t n);
extern bool crm_is_han(uint32_t cp);
extern bool crm_is_word(uint32_t cp);
extern uint64_t crm_text_hash(const uint32_t *v, size_t n, uint64_t seed);

/* phone.c */
typedef enum CrmPhoneKind
{
	CRM_PHONE_UNKNOWN,
	CRM_PHONE_MOBILE,
	CRM_PHONE_FIXED,
	CRM_PHONE_LOCAL,
	CRM_PHONE_SERVICE,
	CRM_PHONE_FOREIGN
} CrmPhoneKind;

typedef struct CrmPhone
{
	CrmPhoneKind kind;
	bool valid;
	char e164[20];     /* "" where the number cannot be written so */
	char national[20]; /* digits as dialled inside the country, without prefixes */
	char ext[8];
} CrmPhone;

#define CRM_PHONES_MAX 8
extern int crm_phone_scan(const uint32_t *v, size_t n, const char *country, CrmPhone *out, int max);
extern const char *crm_phone_kind_name(CrmPhoneKind kind);

/* company.c */
typedef struct CrmSpan
{
	const uint32_t *v;
	size_t n;
} CrmSpan;

typedef struct CrmCompany
{
	CrmText work; /* owns the text the spans point into */
	CrmSpan region;
	CrmSpan brand;
	CrmSpan trade;
	CrmSpan form;
	CrmSpan branch;
	CrmSpan core;   /* brand and trade */
	int province;   /* 0 unknown */
	int form_class; /* 0 none */
	int ordinal;    /* 0 none */
	bool is_han;
} CrmCompany;

extern void crm_company_scan(const uint32_t *v, size_t n, CrmCompany *out);
extern void crm_company_free(CrmCompany *c);

/* person.c */
extern size_t crm_pinyin(const uint32_t *v, size_t n, bool is_name, uint16_t *out, size_t max);
extern size_t crm_person_key(const uint32_t *v, size_t n, uint32_t *out, size_t max);
extern size_t crm_surname_len(const uint32_t *v, size_t n);
extern int crm_nick_groups(const uint32_t *v, size_t n, int *groups, int max);

/* address.c */
typedef struct CrmAddress
{
	CrmText work;
	int province;
	CrmSpan city;
	CrmSpan district;
	CrmSpan road;
	CrmSpan number;
	CrmSpan building;
	CrmSpan unit;
	CrmSpan room;
	CrmSpan rest;
	bool is_han;
} CrmAddress;

extern void crm_address_scan(const uint32_t *v, size_t n, CrmAddress *out);
extern void crm_address_free(CrmAddress *a);
extern const char *crm_province_name(int province, size_t *len);

/* kind.c */
typedef enum CrmValueKind
{
	CRM_VALUE_NONE,
	CRM_VALUE_EMAIL,
	CRM_VALUE_WEBSITE,
	CRM_VALUE_USCC,
	CRM_VALUE_NATIONAL_ID,
	CRM_VALUE_ID4,
	CRM_VALUE_DATE,
	CRM_VALUE_POSTCODE,
	CRM_VALUE_PHONE,
	CRM_VALUE_NUMBER,
	CRM_VALUE_COMPANY,
	CRM_VALUE_PERSON,
	CRM_VALUE_GIVEN,
	CRM_VALUE_ADDRESS,
	CRM_VALUE_STREET,
	CRM_VALUE_CITY,
	CRM_VALUE_REGION,
	CRM_VALUE_WORD,
	CRM_VALUE_WORDS,
	CRM_VALUE_CODE,
	CRM_VALUE_OTHER
} CrmValueKind;

extern CrmValueKind crm_value_kind(const uint32_t *v, size_t n);
extern const char *crm_value_kind_name(CrmValueKind kind);

/* ident.c */
extern bool crm_uscc_check(const uint32_t *v, size_t n);
extern bool crm_resident_check(const uint32_t *v, size_t n);
extern size_t crm_email_scan(const uint32_t *v, size_t n, uint32_t *out, size_t *at);
extern bool crm_email_is_free(const uint32_t *v, size_t n, size_t at);

#endif
