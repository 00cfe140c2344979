/*
 * Unicode tables used by the text kernels; unitab.c is generated.
 *
 * Plain data: no locking, no memory.
 */
#ifndef CRM_TEXT_UNITAB_H
#define CRM_TEXT_UNITAB_H

#include <stdint.h>

#define CRM_HAN_FIRST 0x4E00
#define CRM_HAN_LAST 0x9FFF

typedef struct CrmCaseFold
{
	uint32_t from;
	uint32_t to[3];
} CrmCaseFold;

extern const uint16_t crm_simplified[CRM_HAN_LAST - CRM_HAN_FIRST + 1];
extern const uint16_t crm_reading[CRM_HAN_LAST - CRM_HAN_FIRST + 1];
extern const char *const crm_syllable[];
extern const uint16_t crm_syllable_class[];
extern const int crm_syllable_count;
extern const CrmCaseFold crm_casefold[];
extern const int crm_casefold_count;
extern const uint8_t crm_base_a[0x250 - 0xC0];
extern const uint8_t crm_base_b[0x100];

#endif
