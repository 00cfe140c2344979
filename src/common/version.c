/*
 * version.c
 *		Version of the loaded library, as the control file had it when the library was built.
 */
#include "crm.h"

#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(crm_version);

/*
 * Answer the library's version: after a package upgrade it may be newer than the extension's and the schema's.
 */
Datum
crm_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CRM_VERSION));
}
