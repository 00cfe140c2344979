/*
 * locks.h
 *		Advisory locks of our own.
 *
 * The core's SQL functions use field4 1 and 2 of an advisory lock tag, so no lock that a user takes with them, by whatever key, can
 * meet ours: each class here is a field4 of 64 and up. All are transaction-level. A key is a plain 64-bit id, never
 * a 32-bit hash (two customers would share a lock once in some 65,000).
 */
#ifndef CRM_LOCKS_H
#define CRM_LOCKS_H

#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"

typedef enum CrmLockClass
{
	CRM_LOCK_MIGRATE = 64,    /* key 0: one migration at a time */
	CRM_LOCK_ACCOUNT = 65,    /* key = account id: the gate of crm.write */
	CRM_LOCK_MATCH_KEY = 66,  /* key = hash of a strong match key, or of a name that engine functions queue at */
	CRM_LOCK_JOB = 67,        /* key = job id */
	CRM_LOCK_QUEUE = 68,      /* key = queue: the single consumer of an event queue */
	CRM_LOCK_MATCH_MODEL = 69 /* key = match model: shared by who holds keys, held alone by a set */
} CrmLockClass;

#define SET_LOCKTAG_CRM(tag, class, key)                                                                               \
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) ((uint64) (key) >> 32), (uint32) (key), (class))

#endif /* CRM_LOCKS_H */
