/*
 * The matcher: from rows of any table to pairs with a probability and to clusters.
 *
 * Pure C on plain types; the SQL side (face.c) reads rows and writes results. Memory comes
 * from the current memory context of a backend. Everything is deterministic: no
 * clock, no randomness, and equal rows in another order give the same clusters.
 */
#ifndef CRM_MATCH_MATCH_H
#define CRM_MATCH_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum CrmMeaning
{
	CRM_M_NONE,
	CRM_M_COMPANY,
	CRM_M_PERSON,
	CRM_M_GIVEN,
	CRM_M_FAMILY,
	CRM_M_PHONE,
	CRM_M_EMAIL,
	CRM_M_ADDRESS,
	CRM_M_STREET,
	CRM_M_CITY,
	CRM_M_REGION,
	CRM_M_POSTCODE,
	CRM_M_DATE,
	CRM_M_ID4,
	CRM_M_USCC,
	CRM_M_NATIONAL_ID,
	CRM_M_WEBSITE,
	CRM_M_CATEGORY,
	CRM_M_TEXT,
	CRM_M_ID
} CrmMeaning;

#define CRM_FIELDS_MAX 16 /* a comparison vector is 16 levels of four bits */
#define CRM_LEVELS 16
#define CRM_ATOMS 5

/* Levels: what two values of a field are to each other. 0 means that one of them is missing. */
enum
{
	CRM_L_NULL = 0,
	CRM_L_ELSE = 1,
	CRM_L_EXACT = 8,
	CRM_L_CROSS = 9,
	CRM_L_VETO = 15
};

/* One distinct value of a field. */
typedef struct CrmValue
{
	uint64_t hash;    /* of the normal form; what "equal" means */
	uint64_t letters; /* a bit for each character that occurs, to tell texts apart at a glance */
	uint32_t freq;    /* rows that have it */
	uint32_t text;    /* its units in the pool */
	uint16_t len;
	uint16_t tokens;          /* how many words */
	uint16_t nick[4];         /* groups of given names, 0 at the end */
	uint32_t token;           /* the first of them in the field's token list */
	uint32_t detail;          /* index into the field's details, 0 none */
	uint32_t atom[CRM_ATOMS]; /* blocking hashes, 0 none */
} CrmValue;

typedef struct CrmToken
{
	uint32_t id; /* of the word in the field's vocabulary */
} CrmToken;

typedef struct CrmWord
{
	uint64_t hash;
	uint32_t df;
	uint32_t text;
	uint16_t len;
	uint16_t nick[4]; /* groups of given names, 0 at the end */
	float idf;
} CrmWord;

/* What a meaning knows of a value beside its text; company, address, phone, date use it. */
typedef struct CrmDetail
{
	uint64_t key[6]; /* hashes, 0 none: see record.c */
	uint16_t num[6];
	uint16_t from[3]; /* parts of the text */
	uint16_t len[3];
	uint8_t flag;
} CrmDetail;

typedef struct CrmField
{
	CrmMeaning meaning;
	const char *name;
	uint32_t *val; /* per row: index into value, 0 missing */
	CrmValue *value;
	uint32_t values, values_cap;
	uint32_t *slot; /* hash table over value */
	uint32_t slots;
	CrmDetail *detail;
	uint32_t details, details_cap;
	uint32_t *token;
	uint32_t tokens, tokens_cap;
	CrmWord *word;
	uint32_t words, words_cap;
	uint32_t *wslot;
	uint32_t wslots;
	uint16_t *pool;
	size_t pool_n, pool_cap;
	uint32_t present; /* rows that have a value */
	int partner;      /* field whose values may be swapped with this one's, -1 none */
	bool checked;     /* identifier whose checksum mostly holds */
} CrmField;

typedef struct CrmPair
{
	uint32_t a, b;
} CrmPair;

typedef struct CrmEdge
{
	uint32_t a, b;
	float w; /* log odds, natural */
} CrmEdge;

/* What was learned. */
typedef struct CrmWeights
{
	int fields;
	double m[CRM_FIELDS_MAX][CRM_LEVELS];
	double u[CRM_FIELDS_MAX][CRM_LEVELS];
	double w[CRM_FIELDS_MAX][CRM_LEVELS]; /* log(m / u) after corrections */
	double tf[CRM_FIELDS_MAX];            /* share of the frequency correction, 0 to 1 */
	double prior;                         /* log odds of two rows picked at random */
	double threshold;
} CrmWeights;

typedef struct CrmMatcher
{
	CrmField field[CRM_FIELDS_MAX];
	int fields;
	uint32_t rows, rows_cap;
	struct CrmScratch *scratch;
	/* blocking */
	int kinds;
	CrmPair *pair;
	size_t pairs, pairs_cap;
	uint32_t *keys;            /* row-major: kinds a row */
	uint64_t kind_fields[128]; /* bits of the fields a kind of key uses */
	/* scoring */
	CrmWeights weights;
	bool trained;
	CrmEdge *edge;
	size_t edges, edges_cap;
	/* clustering */
	uint32_t *cluster;
	void (*progress)(const char *phase, double done);
	void (*check)(void);
} CrmMatcher;

extern CrmMeaning crm_meaning_by_name(const char *name);
extern const char *crm_meaning_name(CrmMeaning m);

/* record.c */
extern void crm_matcher_init(CrmMatcher *m, const CrmMeaning *meanings, const char *const *names, int fields);
extern void crm_matcher_free(CrmMatcher *m);
extern uint32_t crm_matcher_add_row(CrmMatcher *m);
extern void crm_matcher_set(CrmMatcher *m, uint32_t row, int field, const char *s, size_t n);
extern void crm_matcher_finish(CrmMatcher *m);

/* compare.c */
extern int crm_compare_values(CrmMatcher *m, int field, uint32_t va, uint32_t vb);
extern int crm_compare_field(CrmMatcher *m, int field, uint32_t a, uint32_t b);
extern uint64_t crm_compare_rows(CrmMatcher *m, uint32_t a, uint32_t b);

extern const char *crm_level_name(CrmMeaning meaning, int level);

/* block.c */
extern void crm_block(CrmMatcher *m);
extern int crm_row_keys(const CrmMatcher *m, uint32_t row, int16_t *kinds, int64_t *keys, int max);

/* score.c */
extern void crm_train(CrmMatcher *m);
extern double crm_score(const CrmMatcher *m, uint32_t a, uint32_t b, uint64_t pattern);
extern void crm_score_all(CrmMatcher *m, double floor);
extern bool crm_is_certain(const CrmMatcher *m, uint32_t a, uint32_t b, uint64_t pattern, double score);

/* cluster.c */
extern int crm_edge_compare(const void *a, const void *b);
extern void crm_cluster(CrmMatcher *m, double threshold);

extern void *crm_huge_alloc(size_t size);
extern void *crm_huge_grow(void *p, size_t old, size_t size);
extern void crm_huge_free(void *p);

#endif
