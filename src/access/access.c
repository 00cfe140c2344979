/*
 * access.c
 *		Entry of the access engine: puts its parts in place when the library is loaded.
 */
#include "access/access.h"

/*
 * Called from _PG_init. Raises no error and reads no catalog.
 */
void
crm_access_init(void)
{
	crm_identity_init();
	crm_profile_init();
	crm_guard_init();
	crm_plan_init();
	crm_write_init();
	crm_message_init();
}
