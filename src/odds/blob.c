/*
 * blob.c
 *		The stored form of a lattice model: writing it, and reading it without trusting it.
 *
 * Little-endian whatever the machine, so that a dump moves between machines. All of it is checked before it is used: the checksum finds
 * damage, the bounds and values are checked besides, since a checksum can be computed by anybody.
 *
 *		u32 magic, u16 version, u16 dims, u64 checksum of all that follows, u64 length of the whole, u32 experts, f64 rows
 *		per dimension: u32 values; per value: i32 length (-1: NULL), f64 rows, bytes
 *		per pair: u32 cells; per cell: u64 key
 *		per expert: i32 order, i32 only, f64 prior, f64 loss, f64 b, f64 variance of b;
 *					per block that it uses: f64 tau; per cell: f64 mean, f64 variance
 *
 * No locks. Memory: the caller's context. The model read keeps pointing into the bytes it was read from.
 */
#include "odds/lattice.h"

#define BLOB_MAGIC 0x4c6d7263 /* "crmL" */
#define BLOB_VERSION 1
#define CHECKSUM_AT 8
#define LENGTH_AT 16
#define HEADER_SIZE 36

typedef struct Reader
{
	const unsigned char *at;
	const unsigned char *end;
	bool short_of; /* ran out of bytes */
} Reader;

static void
put(char **to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		*(*to)++ = (char) (value >> (8 * i));
}

static void
put_double(char **to, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	put(to, bits, 8);
}

static uint64_t
get(Reader *r, int bytes)
{
	uint64_t value = 0;

	if (r->end - r->at < bytes)
	{
		r->short_of = true;
		return 0;
	}
	for (int i = 0; i < bytes; i++)
		value |= (uint64_t) r->at[i] << (8 * i);
	r->at += bytes;
	return value;
}

static double
get_double(Reader *r)
{
	uint64_t bits = get(r, 8);
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/*
 * Checksum of the bytes behind it: eight at a time, multiply and fold.
 */
static uint64_t
checksum(const unsigned char *from, size_t len)
{
	uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ len;
	Reader r = {from, from + len, false};

	while (r.end - r.at >= 8)
	{
		h = (h ^ get(&r, 8)) * UINT64_C(0xbf58476d1ce4e5b9);
		h ^= h >> 29;
	}
	while (r.at < r.end)
	{
		h = (h ^ get(&r, 1)) * UINT64_C(0x94d049bb133111eb);
		h ^= h >> 29;
	}
	return h;
}

/*
 * Bytes that a model takes.
 */
size_t
crm_lattice_blob_size(const Lattice *m)
{
	size_t size = HEADER_SIZE;

	for (int32_t d = 0; d < m->ndims; d++)
	{
		size += 4;
		for (int32_t k = 0; k < m->dict[d].nvalues; k++)
			size += 12 + m->dict[d].value[k].len;
	}
	for (int32_t c = m->ndims; c < m->nblocks; c++)
		size += 4 + (size_t) 8 * m->block[c].ncells;
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		size += 40;
		for (int32_t c = 0; c < m->nblocks; c++)
			if (crm_lattice_uses(&m->expert[e], &m->block[c]))
				size += 8 + (size_t) 16 * m->block[c].ncells;
	}
	return size;
}

/*
 * Write a model into room for crm_lattice_blob_size bytes.
 */
void
crm_lattice_blob_write(const Lattice *m, char *to)
{
	char *start = to;
	size_t size = crm_lattice_blob_size(m);

	put(&to, BLOB_MAGIC, 4);
	put(&to, BLOB_VERSION, 2);
	put(&to, m->ndims, 2);
	put(&to, 0, 8);
	put(&to, size, 8);
	put(&to, m->nexperts, 4);
	put_double(&to, m->n);
	for (int32_t d = 0; d < m->ndims; d++)
	{
		put(&to, m->dict[d].nvalues, 4);
		for (int32_t k = 0; k < m->dict[d].nvalues; k++)
		{
			const LatticeValue *v = &m->dict[d].value[k];

			put(&to, v->text ? (uint32_t) v->len : UINT32_MAX, 4);
			put_double(&to, v->n);
			if (v->len > 0)
				memcpy(to, v->text, v->len);
			to += v->len;
		}
	}
	for (int32_t c = m->ndims; c < m->nblocks; c++)
	{
		put(&to, m->block[c].ncells, 4);
		for (int32_t k = 0; k < m->block[c].ncells; k++)
			put(&to, m->block[c].key[k], 8);
	}
	for (int32_t e = 0; e < m->nexperts; e++)
	{
		const LatticeExpert *x = &m->expert[e];

		put(&to, x->order, 4);
		put(&to, (uint32_t) x->only, 4);
		put_double(&to, x->prior);
		put_double(&to, x->loss);
		put_double(&to, x->b);
		put_double(&to, x->bvar);
		for (int32_t c = 0; c < m->nblocks; c++)
		{
			if (!crm_lattice_uses(x, &m->block[c]))
				continue;
			put_double(&to, x->tau[c]);
			for (int32_t k = 0; k < m->block[c].ncells; k++)
			{
				put_double(&to, k < x->ncells[c] ? x->cell[c][k].mu : 0);
				put_double(&to, k < x->ncells[c] ? x->cell[c][k].var : x->tau[c]);
			}
		}
	}
	crm_lattice_blob_seal(start, size);
}

/*
 * Write the checksum of a blob into it.
 */
void
crm_lattice_blob_seal(char *blob, size_t len)
{
	char *at = blob + CHECKSUM_AT;

	if (len >= HEADER_SIZE)
		put(&at, checksum((const unsigned char *) blob + LENGTH_AT, len - LENGTH_AT), 8);
}

/*
 * Bounds that no fitted model comes near: within them no sum or exponential of the model's numbers overflows.
 */
static bool
is_effect(double x)
{
	return x >= -1e6 && x <= 1e6;
}

static bool
is_variance(double x)
{
	return x >= 0 && x <= 1e6;
}

static bool
is_weight(double x)
{
	return x >= 0 && x <= 1e24;
}

static const char *
read_dict(Reader *r, Lattice *m, int32_t dim)
{
	uint32_t nvalues = (uint32_t) get(r, 4);

	for (uint32_t k = 0; k < nvalues; k++)
	{
		uint32_t len = (uint32_t) get(r, 4);
		double n = get_double(r);
		const char *text = (const char *) r->at;
		int32_t code;

		LATTICE_TICK();
		if (r->short_of)
			return "it ends within a dimension";
		if (len == UINT32_MAX)
			text = NULL;
		else if (len > LATTICE_MAX_VALUES || (size_t) (r->end - r->at) < len)
			return "a value is longer than the whole";
		else
			r->at += len;
		if (!is_weight(n))
			return "a value's weight is no number";
		code = crm_lattice_add_value(m, dim, text, text ? (int32_t) len : 0, false);
		if (code != (int32_t) k)
			return "a dimension has a value twice";
		m->dict[dim].value[code].n = n;
	}
	return r->short_of ? "it ends within a dimension" : NULL;
}

static const char *
read_pair(Reader *r, Lattice *m, int32_t block)
{
	const LatticeBlock *b = &m->block[block];
	uint32_t ncells = (uint32_t) get(r, 4);

	if (r->short_of || (size_t) (r->end - r->at) / 8 < ncells)
		return "it ends within a pair of dimensions";
	for (uint32_t k = 0; k < ncells; k++)
	{
		uint64_t key = get(r, 8);
		int32_t code[LATTICE_MAX_DIMS];

		LATTICE_TICK();
		if (key >> 32 >= (uint64_t) m->dict[b->first].nvalues ||
			(key & UINT32_MAX) >= (uint64_t) m->dict[b->second].nvalues)
			return "a cell is of a value that no dimension has";
		code[b->first] = (int32_t) (key >> 32);
		code[b->second] = (int32_t) (key & UINT32_MAX);
		if (crm_lattice_add_cell(m, block, code) != (int32_t) k)
			return "a pair of dimensions has a cell twice";
	}
	return NULL;
}

static const char *
read_expert(Reader *r, Lattice *m)
{
	int32_t order = (int32_t) get(r, 4);
	int32_t only = (int32_t) get(r, 4);
	LatticeExpert *x;
	size_t need = 32;

	if (r->short_of || order < 1 || order > 2 || only < -1 || only >= m->ndims)
		return "an expert is of no known kind";

	/* before any memory is taken for it */
	for (int32_t c = 0; c < m->nblocks; c++)
		if (crm_lattice_uses(&(LatticeExpert){.order = order, .only = only}, &m->block[c]))
			need += 8 + (size_t) 16 * m->block[c].ncells;
	if ((size_t) (r->end - r->at) < need)
		return "it ends within an expert";

	x = crm_lattice_add_expert(m, order, only);
	x->prior = get_double(r);
	x->loss = get_double(r);
	x->b = get_double(r);
	x->bvar = get_double(r);
	if (!is_variance(x->prior) || !is_weight(x->loss) || !is_effect(x->b) || !is_variance(x->bvar))
		return "an expert's numbers are out of range";
	for (int32_t c = 0; c < m->nblocks; c++)
	{
		if (!x->cell[c])
			continue;
		LATTICE_TICK();
		x->tau[c] = get_double(r);
		if (!is_variance(x->tau[c]))
			return "a variance is out of range";
		for (int32_t k = 0; k < m->block[c].ncells; k++)
		{
			x->cell[c][k].mu = get_double(r);
			x->cell[c][k].var = get_double(r);
			if (!is_effect(x->cell[c][k].mu) || !is_variance(x->cell[c][k].var))
				return "an effect is out of range";
		}
	}
	return NULL;
}

/*
 * Read a model. Answers NULL and sets *m, or answers what is wrong, as the end of a sentence.
 */
const char *
crm_lattice_blob_read(const char *from, size_t len, Lattice **m)
{
	Reader r = {(const unsigned char *) from, (const unsigned char *) from + len, false};
	Lattice *read;
	const char *wrong;
	uint32_t ndims;
	uint64_t sum;
	uint32_t nexperts;
	double n;
	double pool = 0;

	if (len < HEADER_SIZE || get(&r, 4) != BLOB_MAGIC)
		return "it does not begin as one";
	if (get(&r, 2) != BLOB_VERSION)
		return "its format is of another version";
	ndims = (uint32_t) get(&r, 2);
	sum = get(&r, 8);
	if (sum != checksum((const unsigned char *) from + LENGTH_AT, len - LENGTH_AT) || get(&r, 8) != len)
		return "its checksum is wrong";
	nexperts = (uint32_t) get(&r, 4);
	n = get_double(&r);
	if (ndims < 1 || ndims > LATTICE_MAX_DIMS || nexperts < 1 || nexperts > LATTICE_MAX_EXPERTS || !is_weight(n))
		return "its header is out of range";

	read = crm_lattice_create((int32_t) ndims);
	read->n = n;
	for (int32_t d = 0; d < read->ndims; d++)
		if ((wrong = read_dict(&r, read, d)) != NULL)
			return wrong;
	for (int32_t c = read->ndims; c < read->nblocks; c++)
		if ((wrong = read_pair(&r, read, c)) != NULL)
			return wrong;
	for (uint32_t e = 0; e < nexperts; e++)
	{
		if ((wrong = read_expert(&r, read)) != NULL)
			return wrong;
		pool += read->expert[e].prior;
	}
	if (r.at != r.end)
		return "it goes on after its end";
	if (!(pool > 0))
		return "no expert has a weight";
	*m = read;
	return NULL;
}
