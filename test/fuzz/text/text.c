/*
 * text.c
 *		libFuzzer target: every text kernel on any bytes.
 *
 * Besides memory errors it looks for broken promises: folding is stable, results fit their buffers, and what a parser
 * points to lies in its own buffer.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "match/sim.h"
#include "text/text.h"

#define REQUIRE(x) \
	do { if (!(x)) { fprintf(stderr, "broken: %s, line %d\n", #x, __LINE__); abort(); } } while (0)

static void
inside(CrmSpan s, const CrmText *t)
{
	REQUIRE(s.n == 0 || (s.v >= t->v && s.v + s.n <= t->v + t->cap));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CrmText		a = {0};
	CrmText		b = {0};
	CrmCompany	c = {0};
	CrmAddress	d = {0};
	CrmPhone	p[CRM_PHONES_MAX];
	uint32_t	key[256];
	uint16_t	py[64];
	char	   *again;
	size_t		n = 0;
	size_t		at = 0;
	uint32_t   *mail;
	int			k;

	crm_fold((const char *) data, size, &a);
	again = malloc(a.n * 4 + 1);
	for (size_t i = 0; i < a.n; i++)
		n += crm_utf8_put(a.v[i], again + n);
	crm_fold(again, n, &b);
	/* A text that holds malformed bytes may fold further: they are U+FFFD by then. */
	REQUIRE(a.n == b.n && memcmp(a.v, b.v, a.n * sizeof(uint32_t)) == 0);
	free(again);

	REQUIRE(*crm_value_kind_name(crm_value_kind(a.v, a.n)) != '\0');
	crm_company_scan(a.v, a.n, &c);
	inside(c.region, &c.work);
	inside(c.brand, &c.work);
	inside(c.trade, &c.work);
	inside(c.form, &c.work);
	inside(c.branch, &c.work);
	inside(c.core, &c.work);
	crm_company_free(&c);
	crm_address_scan(a.v, a.n, &d);
	inside(d.city, &d.work);
	inside(d.district, &d.work);
	inside(d.road, &d.work);
	inside(d.number, &d.work);
	inside(d.building, &d.work);
	inside(d.unit, &d.work);
	inside(d.room, &d.work);
	inside(d.rest, &d.work);
	crm_address_free(&d);
	for (int country = 0; country < 3; country++)
	{
		k = crm_phone_scan(a.v, a.n, country == 0 ? "CN" : country == 1 ? "US" : "", p, CRM_PHONES_MAX);
		REQUIRE(k >= 0 && k <= CRM_PHONES_MAX);
		for (int i = 0; i < k; i++)
			REQUIRE(strlen(p[i].e164) < sizeof(p[i].e164) && strlen(p[i].national) < sizeof(p[i].national) && strlen(p[i].ext) < sizeof(p[i].ext));
	}
	REQUIRE(crm_person_key(a.v, a.n, key, 256) <= 256);
	REQUIRE(crm_pinyin(a.v, a.n, size % 2, py, 64) <= 64);
	mail = malloc((a.n + 16) * sizeof(uint32_t));
	n = crm_email_scan(a.v, a.n, mail, &at);
	REQUIRE(n == 0 || (n <= a.n + 8 && at < n && mail[at] == '@'));
	if (n > 0)
		crm_email_is_free(mail, n, at);
	free(mail);
	crm_uscc_check(a.v, a.n);
	crm_resident_check(a.v, a.n);
	REQUIRE(crm_strip_marks(a.v, a.n) <= a.n);

	/* Two halves as texts to compare: both kernels are symmetric and know equality. */
	{
		uint16_t	x[128];
		uint16_t	y[128];
		size_t		m = size / 4 < 128 ? size / 4 : 128;
		size_t		l = m > 0 ? data[0] % (m + 1) : 0;

		for (size_t i = 0; i < m; i++)
		{
			x[i] = (uint16_t) (data[2 * i] | data[2 * i + 1] << 8);
			y[i] = (uint16_t) (data[size / 2 + 2 * i] | data[size / 2 + 2 * i + 1] << 8);
		}
		REQUIRE(crm_osa_distance(x, m, y, l) == crm_osa_distance(y, l, x, m));
		REQUIRE(crm_osa_distance(x, m, x, m) == 0);
		REQUIRE(m == 0 || crm_jaro_winkler(x, m, x, m) > 0.9999);
		REQUIRE(crm_jaro_winkler(x, m, y, l) >= 0 && crm_jaro_winkler(x, m, y, l) < 1.0001);
	}
	crm_text_free(&a);
	crm_text_free(&b);
	return 0;
}
