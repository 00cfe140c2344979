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
	uint16_t tokens;  /* how many words */
	uint16_t nick[4]; /* groups of given names, 0 at the end */
	uint32_t token;   /* the first of them in the field's token list */
	uint32_t detail;  /* index into the field's details, 0 none */
	float equal;      /* what it says that two rows share it, once that was learned */
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
	CrmValue *value;
	uint32_t (*atom)[CRM_ATOMS]; /* blocking hashes of each value, 0 none */
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

typedef struct CrmEdge
{
	uint32_t a, b;
	float w; /* log odds, natural */
} CrmEdge;

/* What a person decided of two rows: they are one, or they are two. */
typedef struct CrmLink
{
	uint32_t a, b;
	bool same;
} CrmLink;

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

/* Candidate pairs lie in pieces, so that several processes can find them at once; a pair's edge takes its place. */
typedef struct CrmPiece
{
	uint64_t where; /* its edges */
	uint32_t kind;  /* of key that found them; pairs are in the order of kinds, and in each of its pieces */
	uint32_t piece;
	uint32_t n;
} CrmPiece;

/* Two candidates that learning looked at: how they agree, and which kinds of key they share. */
typedef struct CrmSample
{
	uint64_t pattern;
	uint64_t kinds[2];
} CrmSample;

#define CRM_KINDS_MAX 120
#define CRM_ARRAYS (6 * CRM_FIELDS_MAX + 4)

typedef struct CrmMatcher
{
	CrmField field[CRM_FIELDS_MAX];
	int fields;
	uint32_t *val; /* row-major: index into the field's values, 0 missing */
	uint32_t rows, rows_cap;
	struct CrmScratch *scratch;
	/* blocking */
	int kinds;
	struct CrmKind
	{
		int8_t f, g; /* the fields whose hashes make the key; g -1: one alone */
		int8_t i, j; /* which of their hashes */
	} kind[CRM_KINDS_MAX];
	uint32_t *keys; /* row-major: kinds a row */
	CrmPiece *piece;
	uint32_t pieces, pieces_cap;
	uint32_t piece_size; /* pairs in a full one */
	size_t pairs, pairs_max;
	size_t per_kind; /* pairs that one kind of key may bring */
	/* scoring */
	CrmWeights weights;
	bool trained;
	CrmSample *sample;
	size_t samples, step; /* every step-th pair is one */
	double floor;         /* of the log odds worth keeping */
	CrmEdge *edge;
	size_t edges;
	/* clustering */
	struct CrmLink *link; /* decisions of people */
	size_t links;
	uint32_t *cluster;
	/* work in parts, see team.c */
	struct CrmTeam *team;
	struct CrmShared *shared;
	uint64_t shared_at; /* where the team finds it */
	void *work[2];      /* buffers of this process */
	void (*check)(void);
} CrmMatcher;

/* What can be done in parts, by several processes: each part by one of them, in any order. */
typedef enum CrmJob
{
	CRM_JOB_SIZE,  /* by kind of key: its blocks */
	CRM_JOB_PAIRS, /* by kind of key: its pairs */
	CRM_JOB_LEARN, /* by part of the random pairs, then by piece: how they agree */
	CRM_JOB_SCORE  /* by piece: its edges */
} CrmJob;

/* What all processes of a job see and write. */
typedef struct CrmShared
{
	CrmMatcher image; /* of the leader's; its pointers are the leader's */
	uint64_t array[CRM_ARRAYS];
	uint32_t part, parts; /* the next to be done, and how many there are */
	uint32_t pieces;
	uint64_t pairs;
	bool exact;        /* one process finds the pairs and stops at the last allowed */
	uint32_t overflow; /* several did, and there are more: which of them depends on who was first */
	uint32_t limit[CRM_KINDS_MAX];
	uint64_t blocks[CRM_KINDS_MAX]; /* of each kind: sizes and rows */
	uint64_t blocks_n[CRM_KINDS_MAX];
	uint64_t seen[CRM_FIELDS_MAX][CRM_LEVELS]; /* levels of random pairs */
	uint64_t bytes, bytes_most;                /* of shared memory */
} CrmShared;

/*
 * Who works: this process alone (crm_alone), or others with it. Memory that all see is known
 * by a number, which each of them makes an address of.
 */
typedef struct CrmTeam
{
	bool alone;
	uint64_t (*alloc)(struct CrmTeam *team, size_t size);
	void *(*at)(struct CrmTeam *team, uint64_t where);
	void (*release)(struct CrmTeam *team, uint64_t where);
	void (*run)(struct CrmTeam *team, CrmMatcher *m, CrmJob job); /* all parts; comes back when they are done */
} CrmTeam;

/* The value that a row has of a field, 0 none. */
static inline uint32_t
crm_value_of(const CrmMatcher *m, int field, uint32_t row)
{
	return m->val[(size_t) row * m->fields + field];
}

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

/* team.c */
extern CrmTeam crm_alone;
extern void crm_share(CrmMatcher *m, CrmTeam *team);
extern void crm_unshare(CrmMatcher *m);
extern void crm_adopt(CrmMatcher *m, CrmTeam *team, CrmShared *shared);
extern void crm_run(CrmMatcher *m, CrmJob job, uint32_t parts);
extern void crm_work(CrmMatcher *m, CrmJob job);
extern void *crm_shared_array(CrmMatcher *m, int array, size_t size);
extern void crm_shared_drop(CrmMatcher *m, int array, size_t size);
extern uint64_t crm_shared_alloc(CrmMatcher *m, size_t size);
extern void crm_shared_free(CrmMatcher *m, uint64_t where, size_t size);
extern size_t crm_shared_need(const CrmMatcher *m);

/* Places of the arrays that come and go in CrmShared.array; those of the fields are before them. */
enum
{
	CRM_ARRAY_VAL = 6 * CRM_FIELDS_MAX,
	CRM_ARRAY_KEYS,
	CRM_ARRAY_PIECES,
	CRM_ARRAY_SAMPLE
};

/* block.c */
extern void crm_block(CrmMatcher *m);
extern void crm_block_size(CrmMatcher *m, uint32_t kind);
extern void crm_block_pairs(CrmMatcher *m, uint32_t kind);
extern void crm_block_free(CrmMatcher *m);
extern size_t crm_block_need(size_t rows);
extern int crm_row_keys(const CrmMatcher *m, uint32_t row, int16_t *kinds, int64_t *keys, int max);

/* score.c */
extern void crm_train(CrmMatcher *m);
extern void crm_learn_part(CrmMatcher *m, uint32_t part);
extern void crm_score_piece(CrmMatcher *m, uint32_t piece);
extern double crm_score(const CrmMatcher *m, uint32_t a, uint32_t b, uint64_t pattern);
extern void crm_score_all(CrmMatcher *m, double floor);
extern bool crm_is_apart(const CrmMatcher *m, uint64_t pattern);
extern bool crm_is_certain(const CrmMatcher *m, uint32_t a, uint32_t b, uint64_t pattern, double score);

/* cluster.c */
extern int crm_edge_compare(const void *a, const void *b);
extern void crm_cluster(CrmMatcher *m, double threshold);

extern void *crm_huge_alloc(size_t size);
extern void *crm_huge_grow(void *p, size_t old, size_t size);
extern void crm_huge_free(void *p);

#endif
