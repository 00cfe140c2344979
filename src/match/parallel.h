/* Parallel workers for the matcher's jobs. */
#ifndef CRM_MATCH_PARALLEL_H
#define CRM_MATCH_PARALLEL_H

#include "match/match.h"

extern CrmTeam *crm_team_begin(const CrmMatcher *m);
extern void crm_team_end(CrmTeam *team);

#endif
