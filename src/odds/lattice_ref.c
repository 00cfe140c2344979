/*
 * lattice_ref.c
 *		Models in memory: crm.lattice as an expanded object, so that a chain of updates neither writes nor reads the stored form.
 *
 * A core holds one parsed model; references are the values that SQL passes around. The references of a core are versions of one model that
 * differ by the outcomes taken since. The model itself is at one version, in general the newest; an undo record for each outcome leads back
 * from there. So m := lattice_update(m, ..) costs one step whatever the size of m: the new value shares the core with the old one, which goes
 * when it is overwritten, and its undo record with it. Reading an older version takes the steps back when nobody is ahead of it (the newer values
 * are gone), and else gives the reader a copy of its own.
 *
 * The last few stored models that were read are kept per backend, known by all their bytes, or within one transaction by their toast pointer. A forged
 * checksum therefore cannot pass one model off as another.
 *
 * What this file does not do: the arithmetic (lattice.c), the stored form (blob.c).
 *
 * No locks: everything is the backend's own. Memory: a core is a context below TopMemoryContext that its last reference deletes; a
 * reference is a context of its own below its owner's, and leaves its core when that context goes, also after an error.
 */
#include "odds/lattice_ref.h"

#include "lib/ilist.h"
#include "odds/lattice_type.h"
#include "storage/proc.h"
#include "utils/expandeddatum.h"

#define CACHED_MODELS 4
#define LARGEST_CACHED ((Size) 16 * 1024 * 1024)

#if PG_VERSION_NUM >= 170000
#define TRANSACTION_NOW() (MyProc->vxid.lxid)
#else
#define TRANSACTION_NOW() (MyProc->lxid)
#endif

typedef struct LatticeCore
{
	MemoryContext context;
	Lattice *model;
	uint64 version; /* of the model; counts outcomes */
	dlist_head refs;
	dlist_head undo; /* newest first */
} LatticeCore;

typedef struct UndoEntry
{
	dlist_node node;
	uint64 version; /* that taking it back leads to */
	LatticeUndo *undo;
} UndoEntry;

struct LatticeRef
{
	ExpandedObjectHeader hdr; /* first */
	LatticeCore *core;
	uint64 version;
	dlist_node node; /* in core->refs */
	MemoryContextCallback on_delete;
};

/* A stored model that this backend has read. */
typedef struct CachedModel
{
	LatticeRef *ref; /* NULL: free */
	char *bytes;
	Size len;
	bool toasted; /* toast is where it was found, in that transaction */
	struct varatt_external toast;
	LocalTransactionId transaction;
	uint64 last_use;
} CachedModel;

static CachedModel cached[CACHED_MODELS];
static uint64 uses;

static Size flat_size(ExpandedObjectHeader *header);
static void flatten_into(ExpandedObjectHeader *header, void *result, Size allocated);

static const ExpandedObjectMethods methods = {flat_size, flatten_into};

/*
 * A core of a model's bytes, which are copied, since the model goes on pointing into them.
 */
static LatticeCore *
create_core(const char *bytes, Size len)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "crm lattice model", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	LatticeCore *core = palloc0(sizeof(LatticeCore));

	core->context = context;
	dlist_init(&core->refs);
	dlist_init(&core->undo);
	core->model = crm_lattice_parse_bytes(bytes, len);
	MemoryContextSwitchTo(old);
	/* an error so far has left it to the caller's context */
	MemoryContextSetParent(context, TopMemoryContext);
	return core;
}

/*
 * The references have changed: delete the core without any, and the steps that nobody can go back to.
 */
static void
trim_core(LatticeCore *core)
{
	uint64 oldest = core->version;
	dlist_iter it;

	if (dlist_is_empty(&core->refs))
	{
		MemoryContextDelete(core->context);
		return;
	}
	dlist_foreach(it, &core->refs)
	{
		oldest = Min(oldest, dlist_container(LatticeRef, node, it.cur)->version);
	}
	while (!dlist_is_empty(&core->undo))
	{
		UndoEntry *entry = dlist_tail_element(UndoEntry, node, &core->undo);

		if (entry->version >= oldest)
			break;
		dlist_delete(&entry->node);
		pfree(entry->undo);
		pfree(entry);
	}
}

/*
 * The context of a reference goes.
 */
static void
leave_core(void *arg)
{
	LatticeRef *ref = arg;

	dlist_delete(&ref->node);
	trim_core(ref->core);
}

/*
 * A further reference to a core, in a context of its own below parent.
 */
static LatticeRef *
create_ref(LatticeCore *core, uint64 version, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "crm lattice reference", ALLOCSET_SMALL_SIZES);
	LatticeRef *ref = MemoryContextAllocZero(context, sizeof(LatticeRef));

	EOH_init_header(&ref->hdr, &methods, context);
	ref->core = core;
	ref->version = version;
	ref->on_delete.func = leave_core;
	ref->on_delete.arg = ref;
	dlist_push_tail(&core->refs, &ref->node);
	MemoryContextRegisterResetCallback(context, &ref->on_delete);
	return ref;
}

static void
delete_ref(LatticeRef *ref)
{
	MemoryContextDelete(ref->hdr.eoh_context);
}

/*
 * Give a reference that others have gone on from a core of its own: a copy of the model, with their steps taken back in it.
 */
static void
part_from_core(LatticeRef *ref)
{
	LatticeCore *from = ref->core;
	bytea *flat = crm_lattice_flatten(from->model);
	LatticeCore *own = create_core(VARDATA(flat), VARSIZE(flat) - VARHDRSZ);
	dlist_iter it;

	pfree(flat);
	dlist_foreach(it, &from->undo)
	{
		UndoEntry *entry = dlist_container(UndoEntry, node, it.cur);

		if (entry->version < ref->version)
			break;
		crm_lattice_take_back(own->model, entry->undo);
	}
	own->version = ref->version;
	dlist_delete(&ref->node);
	dlist_push_tail(&own->refs, &ref->node);
	ref->core = own;
	trim_core(from);
}

/*
 * The model of a reference, to be read until the next call of this file.
 */
Lattice *
crm_lattice_ref_model(LatticeRef *ref)
{
	LatticeCore *core = ref->core;
	dlist_iter it;

	if (ref->version == core->version)
		return core->model;
	dlist_foreach(it, &core->refs)
	{
		if (dlist_container(LatticeRef, node, it.cur)->version > ref->version)
		{
			part_from_core(ref);
			return ref->core->model;
		}
	}
	while (core->version > ref->version)
	{
		UndoEntry *entry = dlist_head_element(UndoEntry, node, &core->undo);

		crm_lattice_take_back(core->model, entry->undo);
		core->version = entry->version;
		dlist_delete(&entry->node);
		pfree(entry->undo);
		pfree(entry);
	}
	return core->model;
}

/*
 * The value after one more outcome: in_place the reference itself, else a new one in the current context, the old one staying as it
 * is. Values and numbers were checked.
 */
Datum
crm_lattice_ref_learn(LatticeRef *ref, bool in_place, const LatticeText *value, double outcome, double weight)
{
	Lattice *m = crm_lattice_ref_model(ref);
	LatticeCore *core = ref->core;
	LatticeRef *after = in_place ? ref : create_ref(core, ref->version, CurrentMemoryContext);
	MemoryContext old = MemoryContextSwitchTo(core->context);
	UndoEntry *entry = NULL;

	if (!in_place || dlist_head_node(&core->refs) != dlist_tail_node(&core->refs))
	{
		entry = palloc(sizeof(UndoEntry));
		entry->version = core->version;
		entry->undo = crm_lattice_create_undo(m);
	}
	crm_lattice_learn(m, value, outcome, weight, entry ? entry->undo : NULL);
	MemoryContextSwitchTo(old);
	if (entry)
		dlist_push_head(&core->undo, &entry->node);
	core->version++;
	after->version = core->version;
	return EOHPGetRWDatum(&after->hdr);
}

/*
 * Stored size of an expanded model.
 */
static Size
flat_size(ExpandedObjectHeader *header)
{
	return crm_lattice_flat_size(crm_lattice_ref_model((LatticeRef *) header));
}

/*
 * Stored form of an expanded model.
 */
static void
flatten_into(ExpandedObjectHeader *header, void *result, Size allocated)
{
	SET_VARSIZE(result, allocated);
	crm_lattice_blob_write(crm_lattice_ref_model((LatticeRef *) header), VARDATA(result));
}

/*
 * Is this what the call site used last?
 */
static bool
is_last(const LatticeRefKey *last, const struct varatt_external *toast, const struct varlena *flat)
{
	if (!last->ref || last->toasted != (toast != NULL))
		return false;
	if (toast)
		return last->toast.va_valueid == toast->va_valueid && last->toast.va_toastrelid == toast->va_toastrelid;
	return VARSIZE_ANY_EXHDR(flat) >= LATTICE_HEAD_SIZE &&
		   memcmp(last->head, VARDATA_ANY(flat), LATTICE_HEAD_SIZE) == 0;
}

/*
 * The kept model with this toast pointer, or NULL. A pointer means the same value as long as the transaction that read it lasts.
 */
static CachedModel *
find_toasted(const struct varatt_external *toast)
{
	for (int i = 0; i < CACHED_MODELS; i++)
		if (cached[i].ref && cached[i].toasted && cached[i].transaction == TRANSACTION_NOW() &&
			cached[i].toast.va_valueid == toast->va_valueid && cached[i].toast.va_toastrelid == toast->va_toastrelid)
			return &cached[i];
	return NULL;
}

/*
 * The kept model with these bytes, or NULL.
 */
static CachedModel *
find_bytes(const char *bytes, Size len)
{
	for (int i = 0; i < CACHED_MODELS; i++)
		if (cached[i].ref && cached[i].len == len && memcmp(cached[i].bytes, bytes, len) == 0)
			return &cached[i];
	return NULL;
}

/*
 * The kept model with these bytes, read and kept if there is none. NULL for one that is too large to be kept.
 */
static CachedModel *
find_or_keep(const char *bytes, Size len)
{
	CachedModel *entry = find_bytes(bytes, len);
	LatticeCore *core;
	LatticeRef *ref;

	if (entry || len > LARGEST_CACHED)
		return entry;
	entry = &cached[0];
	for (int i = 0; i < CACHED_MODELS; i++)
	{
		if (!cached[i].ref || (entry->ref && cached[i].last_use < entry->last_use))
			entry = &cached[i];
	}
	core = create_core(bytes, len);
	if (entry->ref)
	{
		delete_ref(entry->ref); /* and the bytes with it */
		memset(entry, 0, sizeof(CachedModel));
	}
	ref = create_ref(core, 0, TopMemoryContext);
	entry->bytes = memcpy(MemoryContextAlloc(ref->hdr.eoh_context, len), bytes, len);
	entry->len = len;
	entry->ref = ref;
	return entry;
}

/*
 * Remember when a kept model was used last, and where it was found.
 */
static void
touch(CachedModel *entry, const struct varatt_external *toast)
{
	entry->last_use = ++uses;
	if (toast)
	{
		entry->toasted = true;
		entry->toast = *toast;
		entry->transaction = TRANSACTION_NOW();
	}
}

/*
 * A reference, in the current context, to the kept model whose bytes a stored value has, or NULL when none is kept. The value may be a bytea.
 */
LatticeRef *
crm_lattice_ref_known(Datum value)
{
	struct varlena *raw = (struct varlena *) DatumGetPointer(value);
	struct varatt_external pointer;
	struct varatt_external *toast = NULL;
	CachedModel *entry = NULL;

	if (VARATT_IS_EXTERNAL_EXPANDED(raw))
		return NULL;
	if (VARATT_IS_EXTERNAL_ONDISK(raw))
	{
		VARATT_EXTERNAL_GET_POINTER(pointer, raw);
		toast = &pointer;
		entry = find_toasted(toast);
	}
	if (!entry)
	{
		struct varlena *flat = pg_detoast_datum_packed(raw);

		entry = find_bytes(VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat));
		if (flat != raw)
			pfree(flat);
		if (!entry)
			return NULL;
	}
	touch(entry, toast);
	return create_ref(entry->ref->core, entry->ref->version, CurrentMemoryContext);
}

/*
 * The value that a reference is.
 */
Datum
crm_lattice_ref_datum(LatticeRef *ref)
{
	return EOHPGetRWDatum(&ref->hdr);
}

/*
 * The reference behind a value. One that is expanded already is its own; for a stored one a reference is made in keep, and remembered in last for
 * the call site's next call.
 */
LatticeRef *
crm_lattice_ref_get(Datum value, LatticeRefKey *last, MemoryContext keep)
{
	struct varlena *raw = (struct varlena *) DatumGetPointer(value);
	struct varlena *flat = NULL;
	struct varatt_external pointer;
	struct varatt_external *toast = NULL;
	CachedModel *entry = NULL;

	if (VARATT_IS_EXTERNAL_EXPANDED(raw))
	{
		ExpandedObjectHeader *header = DatumGetEOHP(value);

		if (header->eoh_methods != &methods)
			elog(ERROR, "expanded object is no lattice model");
		return (LatticeRef *) header;
	}
	if (VARATT_IS_EXTERNAL_ONDISK(raw))
	{
		VARATT_EXTERNAL_GET_POINTER(pointer, raw);
		toast = &pointer;
		if (is_last(last, toast, NULL))
			return last->ref;
		entry = find_toasted(toast);
	}
	if (!entry)
	{
		flat = pg_detoast_datum_packed(raw);
		if (!toast && is_last(last, NULL, flat))
			return last->ref;
		entry = find_or_keep(VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat));
	}
	if (last->ref)
	{
		delete_ref(last->ref);
		memset(last, 0, sizeof(LatticeRefKey));
	}
	if (entry)
	{
		touch(entry, toast);
		last->ref = create_ref(entry->ref->core, entry->ref->version, keep);
	}
	else
		last->ref = create_ref(create_core(VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat)), 0, keep);
	last->toasted = toast != NULL;
	if (toast)
		last->toast = *toast;
	else
		memcpy(last->head, VARDATA_ANY(flat), LATTICE_HEAD_SIZE);
	if (flat && flat != raw)
		pfree(flat);
	return last->ref;
}
