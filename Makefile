# crm: a CRM engine inside PostgreSQL
#
# Two commands for a person:  make demo   and   make test
# On an existing server:      make && make install, then CREATE EXTENSION crm; CALL crm.migrate();
#
#   make demo [DATA=dir]   private server under .pg/, sample or given CSV files, readable tables
#   make test              regress, isolation and short TAP tests on that private server
#   make test-all          adds the long tests: crash, pooling, standby, fuzzing, large data
#   make bench [BENCH=x]   benchmarks as ratios against their rivals
#   make start stop psql   the private server
#   make relay             crm-relay, which delivers the messages of the outbox (src/relay, needs libcurl)
#   make format            clang-format over the C sources

EXTENSION = crm
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" crm.control)
MODULE_big = crm

# Sorted, so that the order is the same with every make.
# The relay is a program of its own; it shares the digest with the module.
RELAY_SOURCES := $(sort $(wildcard src/relay/*.c))
RELAY_HEADERS := $(sort $(wildcard src/relay/*.h))
SHARED = src/common/sha256
SOURCES := $(filter-out $(RELAY_SOURCES), $(sort $(wildcard src/*.c src/*/*.c)))
# (PGXS installs what HEADERS names; these are nobody else's)
OWN_HEADERS := $(filter-out $(RELAY_HEADERS), $(sort $(wildcard src/*.h src/*/*.h)))
OBJS = $(SOURCES:.c=.o)

# The extension script: SQL faces of the C code, in this order.
ENGINE_SQL = \
	sql/engine/core.sql \
	sql/engine/access.sql \
	sql/engine/text.sql \
	sql/engine/match.sql \
	sql/engine/odds.sql \
	sql/engine/forecast.sql \
	sql/engine/drift.sql \
	sql/engine/history.sql \
	sql/engine/writes.sql \
	sql/engine/import.sql \
	sql/engine/inbox.sql \
	sql/engine/jobs.sql

# Forward-only migrations, by number; then the re-runnable files, in this order.
SCHEMA_SQL := $(sort $(wildcard sql/schema/*.sql))
API_SQL = \
	sql/api/access.sql \
	sql/api/match.sql \
	sql/api/merge.sql \
	sql/api/history.sql \
	sql/api/writes.sql \
	sql/api/clients.sql \
	sql/api/policies.sql \
	sql/api/views.sql \
	sql/api/customer.sql \
	sql/api/manage.sql \
	sql/api/cards.sql \
	sql/api/config.sql \
	sql/api/import.sql \
	sql/api/import_line.sql \
	sql/api/outbox.sql \
	sql/api/features.sql \
	sql/api/forms.sql \
	sql/api/leads.sql \
	sql/api/rules.sql \
	sql/api/simulate.sql \
	sql/api/transcripts.sql \
	sql/api/inbox.sql \
	sql/api/sync.sql \
	sql/api/jobs.sql \
	sql/api/report_html.sql \
	sql/api/reports.sql \
	sql/api/metric.sql \
	sql/api/journey.sql \
	sql/api/report_board.sql \
	sql/api/report_period.sql \
	sql/api/consistency.sql \
	sql/api/health.sql \
	sql/api/source_watchdog.sql \
	sql/api/demo_data.sql \
	sql/api/odds.sql \
	sql/api/forecast.sql \
	sql/api/drift.sql \
	sql/api/churn.sql \
	sql/api/doctor.sql \
	sql/api/watch_views.sql \
	sql/api/grants.sql

DATA_built = crm--$(EXTVERSION).sql
DATA = $(sort $(wildcard sql/upgrade/*.sql))

PG_CPPFLAGS = -I$(CURDIR)/src -DCRM_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-declaration-after-statement
ifdef WERROR
PG_CFLAGS += -Werror
endif

# The first test makes the extension and its schema; the others share them.
REGRESS ?= \
	migrate \
	schema \
	defaults \
	rules \
	import \
	demo_data \
	access \
	access_write \
	access_direct \
	access_identity \
	access_manage \
	access_summary \
	access_attack \
	text \
	match \
	merge \
	odds \
	forecast \
	drift \
	churn \
	history \
	writes \
	clients \
	doctor \
	config \
	leads \
	forms \
	rule_engine \
	signals \
	simulate \
	inbox \
	transcripts \
	sync \
	outbox \
	jobs \
	reports \
	report_html \
	report_board \
	metric \
	journey \
	report_period \
	consistency \
	health \
	source_watchdog \
	process_break \
	process_input
# and this one looks at all that they made
REGRESS += catalog

# Likewise the first spec, on a database of its own.
ISOLATION ?= \
	migrate_lock \
	match_insert \
	match_update \
	merge_busy \
	access_conflict \
	writes_stale \
	writes_lease \
	writes_delete \
	writes_merge \
	writes_drain \
	writes_restore \
	writes_busy \
	writes_tick \
	writes_sql \
	writes_months \
	odds_queue \
	take_in \
	take_in_reference \
	sync_log \
	claim \
	config_race

REGRESS_OPTS = --inputdir=. --outputdir=test
ISOLATION_OPTS = --inputdir=. --outputdir=test --load-extension=crm

EXTRA_CLEAN = src/relay/crm-relay test/results test/log test/output_iso test/regression.diffs test/regression.out crm--*.sql

# Without an explicit PG_CONFIG: the newest server that has development files.
PG_CONFIG ?= $(lastword $(sort $(wildcard /usr/lib/postgresql/*/bin/pg_config)))
PGXS := $(if $(PG_CONFIG),$(shell test -x "$$(command -v $(PG_CONFIG))" && $(PG_CONFIG) --pgxs))

.DEFAULT_GOAL := all
PERSONAL = demo test test-all bench start stop psql regress isolation reference relay format
.PHONY: $(PERSONAL)

ifneq ($(PGXS),)
include $(PGXS)
$(OBJS): $(OWN_HEADERS)
src/common/version.o: crm.control
else
ifeq ($(filter $(PERSONAL),$(MAKECMDGOALS)),)
$(error no pg_config found: run "make demo", which installs what it needs, or install postgresql-server-dev-NN, or pass PG_CONFIG=/path/to/pg_config)
endif
endif

crm--$(EXTVERSION).sql: sql/embed.sh $(ENGINE_SQL) $(SCHEMA_SQL) $(API_SQL)
	@sh sql/embed.sh '$(EXTVERSION)' '$(ENGINE_SQL)' '$(SCHEMA_SQL)' '$(API_SQL)' > $@.tmp && mv $@.tmp $@

# The relay: a client of libpq and libcurl, not part of the module
RELAY_CFLAGS = -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -fstack-protector-strong -D_FORTIFY_SOURCE=2
relay: src/relay/crm-relay
src/relay/crm-relay: $(RELAY_SOURCES) $(RELAY_HEADERS) $(SHARED).c $(SHARED).h
	$(CC) $(RELAY_CFLAGS) $(if $(WERROR),-Werror) -Isrc -I"$$($(PG_CONFIG) --includedir)" $$(curl-config --cflags) -o $@ $(RELAY_SOURCES) $(SHARED).c -L"$$($(PG_CONFIG) --libdir)" -lpq $$(curl-config --libs)

# REFERENCE.md from the comments of the database's own objects
reference: start
	@bash test/tools/reference.sh

start stop psql:
	@bash test/tools/server.sh $@

# Regress tests on the private server, all or some: make regress TESTS="migrate access"
regress:
	@bash test/tools/server.sh start && . .pg/env && $(MAKE) --no-print-directory installcheck PG_CONFIG="$$PG_CONFIG" ISOLATION= $(if $(TESTS),REGRESS="$(TESTS)")

# Isolation tests likewise: make isolation TESTS="writes_conflict"
isolation:
	@bash test/tools/server.sh start && . .pg/env && $(MAKE) --no-print-directory installcheck PG_CONFIG="$$PG_CONFIG" REGRESS= $(if $(TESTS),ISOLATION="$(firstword $(ISOLATION)) $(filter-out $(firstword $(ISOLATION)),$(TESTS))")

# A private server, a company, and what the engine makes of it: make demo, make demo DATA=dir
# (DATA is also a variable of PGXS: the build that the demo runs must not see it)
demo:
	@env -u MAKEFLAGS -u DATA bash test/tools/demo.sh $(DATA)

# All tests, or one file of test/t, test/long or a fuzzer: make test TESTS=test/t/010_dump.pl
test:
	@bash test/tools/test.sh $(if $(TESTS),only $(TESTS))

test-all:
	@bash test/tools/test.sh all

# Every executable test/bench/NAME/run, or one of them: make bench BENCH=access
bench:
	@bash test/tools/bench.sh $(BENCH)

format:
	@clang-format -i $(SOURCES) $(OWN_HEADERS) $(RELAY_SOURCES) $(RELAY_HEADERS)
