/*
 * Word lists of the text kernels: see lexicon.c.
 */
#ifndef CRM_TEXT_LEXICON_H
#define CRM_TEXT_LEXICON_H

#include <stddef.h>
#include <stdint.h>

/* What a word of a list is; the value beside it is its group or its order. */
typedef enum CrmLexKind
{
	CRM_LEX_PROVINCE = 1, /* value: number of the province */
	CRM_LEX_CITY,         /* value: number of its province */
	CRM_LEX_FORM,         /* Chinese legal form; value: class of forms */
	CRM_LEX_TRADE,        /* Chinese line of business */
	CRM_LEX_BRANCH,       /* Chinese mark of a branch */
	CRM_LEX_SURNAME,      /* Chinese surname of two characters */
	CRM_LEX_LEGAL,        /* Latin legal form; value: class of forms */
	CRM_LEX_ABBREV,       /* Latin abbreviation; value: group */
	CRM_LEX_NICK,         /* Latin given name; value: group */
	CRM_LEX_TITLE,        /* title before or after a person's name */
	CRM_LEX_FREEMAIL,     /* mail domain open to everybody */
	CRM_LEX_STOP,         /* word of no weight in a company name */
	CRM_LEX_READING       /* surname read unlike its usual reading; value: syllable id */
} CrmLexKind;

extern int crm_lex_find(CrmLexKind kind, const uint32_t *word, size_t len);
extern int crm_lex_find_all(CrmLexKind kind, const uint32_t *word, size_t len, int *values, int max);
extern const char *crm_lex_group_head(CrmLexKind kind, int group);

#endif
