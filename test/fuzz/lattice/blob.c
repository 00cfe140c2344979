/*
 * blob.c
 *		libFuzzer target: the reader of stored lattice models, and everything that is done with what it accepts.
 *
 * The checksum would stop nearly every input, so the target writes the right one into its input first: what is tested is the
 * checking behind it. A model that is accepted is used, and written back byte by byte.
 */
#include "odds/lattice.h"

#include <math.h>
#include <stdio.h>

/* Everything that one input takes is freed after it, as a memory context would. */
static void **block;
static size_t nblocks;
static size_t room;

void *
crm_lattice_standalone_alloc(size_t size)
{
	void	   *p = calloc(1, size ? size : 1);

	if (!p)
		abort();
	if (nblocks == room)
	{
		room = room ? room * 2 : 1024;
		block = realloc(block, room * sizeof(void *));
	}
	block[nblocks++] = p;
	return p;
}

void *
crm_lattice_standalone_grow(void *p, size_t size)
{
	void	   *q = realloc(p, size);

	if (!q)
		abort();
	for (size_t i = nblocks; i-- > 0;)
		if (block[i] == p)
		{
			block[i] = q;
			break;
		}
	return q;
}

void
crm_lattice_standalone_free(void *p)
{
	for (size_t i = nblocks; i-- > 0;)
		if (block[i] == p)
		{
			block[i] = NULL;
			break;
		}
	free(p);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *bytes = malloc(size + 1);
	Lattice    *m = NULL;

	memcpy(bytes, data, size);
	crm_lattice_blob_seal(bytes, size);
	if (crm_lattice_blob_read(bytes, size, &m) == NULL)
	{
		int32_t		code[LATTICE_MAX_DIMS];
		int32_t		cell[LATTICE_MAX_BLOCKS];
		LatticeText value[LATTICE_MAX_DIMS];
		LatticeUndo *undo[3];
		double		part[LATTICE_MAX_DIMS];
		double		p;
		double		low;
		double		high;
		char	   *again = malloc(crm_lattice_blob_size(m));

		if (crm_lattice_blob_size(m) != size)
			abort();
		crm_lattice_blob_write(m, again);
		if (memcmp(again, bytes, size) != 0)
			abort();

		for (int32_t d = 0; d < m->ndims; d++)
			code[d] = crm_lattice_find_value(m, d, d % 2 ? "a" : NULL, d % 2);
		crm_lattice_cells(m, code, cell);
		crm_lattice_interval(crm_lattice_estimate(m, cell, NULL), m->n, &p, &low, &high);
		if (!(p >= 0 && low >= 0 && low <= p && p <= high && high <= 1))
			abort();
		crm_lattice_contributions(m, cell, part);
		/* three outcomes learned and taken back leave every byte as it was */
		for (int n = 0; n < 3; n++)
		{
			for (int32_t d = 0; d < m->ndims; d++)
				value[d] = (LatticeText) {(d + n) % 3 ? "ab" : NULL, (d + n) % 3};
			undo[n] = crm_lattice_create_undo(m);
			crm_lattice_learn(m, value, n % 2, 1, undo[n]);
		}
		for (int n = 3; n-- > 0;)
			crm_lattice_take_back(m, undo[n]);
		if (crm_lattice_blob_size(m) != size)
			abort();
		crm_lattice_blob_write(m, again);
		if (memcmp(again, bytes, size) != 0)
			abort();
		free(again);
		crm_lattice_learn(m, value, 1, 1, NULL);
		for (int32_t d = 0; d < m->ndims; d++)
			code[d] = crm_lattice_find_value(m, d, value[d].text, value[d].len);
		crm_lattice_cells(m, code, cell);
		crm_lattice_interval(crm_lattice_estimate(m, cell, NULL), m->n, &p, &low, &high);
	}
	for (size_t i = 0; i < nblocks; i++)
		free(block[i]);
	nblocks = 0;
	free(bytes);
	return 0;
}
