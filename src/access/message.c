/*
 * message.c
 *		What the server tells of its own work stays in the server while the engine works.
 *
 * debug_print_plan and its like are anybody's to switch on, and whoever sets client_min_messages to log or debug has what they print sent to
 * himself: trees with every constant, and in a plan that is made for the values of the moment those are the values. In a function with its
 * owner's rights they are the engine's, such as a record with the fields that the caller may not read. So what is below a notice goes to the
 * server's log alone then. Errors, warnings and notices, which are for the caller, pass as they are.
 *
 * The core asks before it sends what it also logs. With log_min_messages at fatal or panic it does not log, and does not ask: the README
 * says so.
 *
 * No locks, no memory.
 */
#include "access/access.h"

#include "miscadmin.h"
#include "utils/elog.h"

static emit_log_hook_type previous_emit_log = NULL;

/*
 * emit_log_hook
 */
static void
keep_to_ourselves(ErrorData *message)
{
	if (message->output_to_client && message->elevel < INFO &&
		(InLocalUserIdChange() || GetUserId() != GetOuterUserId()))
		message->output_to_client = false;
	if (previous_emit_log)
		previous_emit_log(message);
}

/*
 * Put the hook in place.
 */
void
crm_message_init(void)
{
	previous_emit_log = emit_log_hook;
	emit_log_hook = keep_to_ourselves;
}
