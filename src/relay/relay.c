/*
 * relay.c
 *		crm-relay: delivers the messages of the outbox.
 *
 * What it does: claims messages from the database (crm.outbox_claim), posts them to WeCom and DingTalk robots, to any HTTP address, or by
 * SMTP, several at once, and reports what became of each (crm.outbox_ack, crm.outbox_fail). Whether and when one is tried again, over which
 * channel, and when a channel is left alone, is decided by the database; here nothing is kept over the end of the program. A message is
 * delivered at least once: if the relay dies between delivery and report, its claim runs out and the message goes out again, with the same
 * Idempotency-Key.
 *
 * What it does not do: it reads nothing else of the database, and writes no payload, address, URL or secret into its log.
 *
 * One thread. It sleeps in curl_multi_poll until a transfer moves, the database sends a NOTIFY, or a second is over. It claims only what it
 * has room to deliver at once, so that no claim runs out while it waits its turn. After SIGTERM or SIGINT it claims nothing more, ends what
 * is under way, reports it and leaves; a second signal leaves at once. Memory of a message is freed when it is reported.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include <curl/curl.h>
#include <libpq-fe.h>

#include "hmac.h"

#define MAX_PARALLEL 256
#define ANSWER_KEPT 4096

typedef enum Kind
{
	KIND_NONE,
	KIND_WECOM,
	KIND_DINGTALK,
	KIND_HTTP,
	KIND_SMTP
} Kind;

/* A section of the configuration: where messages of a channel, perhaps of one topic only, go. */
typedef struct Endpoint
{
	char *channel;
	char *topic; /* NULL: all that have no section of their own */
	Kind kind;
	char *url;
	char *secret;
	char *user;
	char *password;
	char *from;
	char *ca_file;
	bool plain; /* without TLS, said in so many words */
	struct curl_slist *headers;
	struct Endpoint *next;
} Endpoint;

/* A message under way. */
typedef struct Delivery
{
	char *id;
	char *channel;
	char *topic;
	Endpoint *endpoint;
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *recipients;
	char *body;
	size_t body_length;
	size_t body_sent;
	char answer[ANSWER_KEPT + 1];
	size_t answer_length;
	struct timespec began;
	struct Delivery *next;
} Delivery;

/* What became of one, until the database knows it. */
typedef struct Report
{
	char *id;
	bool delivered;
	bool permanent;
	char error[100];
	struct Report *next;
} Report;

static char *relay_name;
static char *conninfo;
static int parallel = 8;
static int timeout_seconds = 20;
static int poll_seconds = 30;
static Endpoint *endpoints;

static PGconn *db;
static CURLM *multi;
static Delivery *deliveries;
static int in_flight;
static Report *reports;
static volatile sig_atomic_t stopping;

/*
 * A line of the log: time, name of the relay, text.
 */
static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	va_list args;
	char at[32];
	time_t now = time(NULL);
	struct tm tm;

	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	fprintf(stderr, "%s %s: ", at, relay_name ? relay_name : "crm-relay");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *format, ...)
{
	va_list args;

	fputs("crm-relay: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static void *
need(void *p)
{
	if (p == NULL)
		die("out of memory");
	return p;
}

static char *
copy(const char *s)
{
	return need(strdup(s));
}

static char *__attribute__((format(printf, 1, 2))) print(const char *format, ...)
{
	va_list args;
	char *out;
	int n;

	va_start(args, format);
	n = vasprintf(&out, format, args);
	va_end(args);
	if (n < 0)
		die("out of memory");
	return out;
}

static long
milliseconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - then->tv_sec) * 1000 + (now.tv_nsec - then->tv_nsec) / 1000000;
}

/* ---------------------------------------------------------------- configuration */

static int
whole_number(const char *file, int line, const char *key, const char *value, int low, int high)
{
	char *end;
	long n = strtol(value, &end, 10);

	if (end == value || *end != '\0' || n < low || n > high)
		die("%s:%d: %s is a whole number from %d to %d", file, line, key, low, high);
	return (int) n;
}

static Kind
kind_of(const char *file, int line, const char *value)
{
	if (strcmp(value, "wecom") == 0)
		return KIND_WECOM;
	if (strcmp(value, "dingtalk") == 0)
		return KIND_DINGTALK;
	if (strcmp(value, "http") == 0)
		return KIND_HTTP;
	if (strcmp(value, "smtp") == 0)
		return KIND_SMTP;
	die("%s:%d: type is wecom, dingtalk, http or smtp", file, line);
}

/*
 * What a section must have, said before anything is claimed.
 */
static void
check_endpoint(const char *file, const Endpoint *e)
{
	const char *scheme = e->kind == KIND_SMTP ? "smtps://" : "https://";
	const char *without = e->kind == KIND_SMTP ? "smtp://" : "http://";

	for (const char *c = e->channel; *c != '\0'; c++)
		if (!isalnum((unsigned char) *c) && *c != '_' && *c != '-' && *c != '.')
			die("%s: a channel is named by letters, digits, _, - and .", file);
	if (e->kind == KIND_NONE || e->url == NULL)
		die("%s: section [%s] has no type or no url", file, e->channel);
	/* smtp:// begins in clear and turns to TLS unless that is switched off */
	if (strncasecmp(e->url, scheme, strlen(scheme)) != 0 &&
		!((e->plain || e->kind == KIND_SMTP) && strncasecmp(e->url, without, strlen(without)) == 0))
		die("%s: the url of section [%s] is %s.., or, with tls = off, %s..", file, e->channel, scheme, without);
	if (e->kind == KIND_SMTP &&
		(e->from == NULL || strchr(e->from, '@') == NULL || strpbrk(e->from, " <>\t\r\n") != NULL))
		die("%s: section [%s] needs from, an address", file, e->channel);
	for (const Endpoint *o = e->next; o != NULL; o = o->next)
		if (strcmp(o->channel, e->channel) == 0 &&
			(o->topic == NULL ? e->topic == NULL : e->topic != NULL && strcmp(o->topic, e->topic) == 0))
			die("%s: section [%s%s%s] stands there twice", file, e->channel, e->topic ? " " : "",
				e->topic ? e->topic : "");
}

static char *
trim(char *s)
{
	char *end;

	while (isspace((unsigned char) *s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char) end[-1]))
		*--end = '\0';
	return s;
}

static void
read_configuration(const char *file)
{
	FILE *f = fopen(file, "r");
	struct stat st;
	char *text = NULL;
	size_t room = 0;
	Endpoint *e = NULL;

	if (f == NULL || fstat(fileno(f), &st) != 0)
		die("%s: %s", file, strerror(errno));
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		die("%s holds secrets: nobody but its owner may have rights on it (chmod 600)", file);
	for (int line = 1; getline(&text, &room, f) >= 0; line++)
	{
		char *s = trim(text);
		char *key;
		char *value;
		char **into = NULL;

		if (*s == '\0' || *s == '#')
			continue;
		if (*s == '[')
		{
			char *close = strchr(s, ']');
			char *topic;

			if (close == NULL || close[1] != '\0')
				die("%s:%d: a section is [channel] or [channel topic]", file, line);
			*close = '\0';
			s = trim(s + 1);
			topic = strpbrk(s, " \t");
			e = need(calloc(1, sizeof(Endpoint)));
			if (topic != NULL)
			{
				*topic = '\0';
				e->topic = copy(trim(topic + 1));
			}
			if (*s == '\0')
				die("%s:%d: a section is [channel] or [channel topic]", file, line);
			e->channel = copy(s);
			e->next = endpoints;
			endpoints = e;
			continue;
		}
		value = strchr(s, '=');
		if (value == NULL)
			die("%s:%d: neither a section nor key = value", file, line);
		*value = '\0';
		key = trim(s);
		value = trim(value + 1);
		if (e == NULL)
		{
			if (strcmp(key, "name") == 0)
				into = &relay_name;
			else if (strcmp(key, "database") == 0)
				into = &conninfo;
			else if (strcmp(key, "parallel") == 0)
				parallel = whole_number(file, line, key, value, 1, MAX_PARALLEL);
			else if (strcmp(key, "timeout") == 0)
				timeout_seconds = whole_number(file, line, key, value, 1, 600);
			else if (strcmp(key, "poll") == 0)
				poll_seconds = whole_number(file, line, key, value, 1, 3600);
			else
				die("%s:%d: there is no key %s here: name, database, parallel, timeout and poll", file, line, key);
		}
		else if (strcmp(key, "type") == 0)
			e->kind = kind_of(file, line, value);
		else if (strcmp(key, "tls") == 0)
		{
			if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
				die("%s:%d: tls is on or off", file, line);
			e->plain = strcmp(value, "off") == 0;
		}
		else if (strcmp(key, "header") == 0)
			e->headers = need(curl_slist_append(e->headers, value));
		else if (strcmp(key, "url") == 0)
			into = &e->url;
		else if (strcmp(key, "secret") == 0)
			into = &e->secret;
		else if (strcmp(key, "user") == 0)
			into = &e->user;
		else if (strcmp(key, "password") == 0)
			into = &e->password;
		else if (strcmp(key, "from") == 0)
			into = &e->from;
		else if (strcmp(key, "ca_file") == 0)
			into = &e->ca_file;
		else
			die("%s:%d: there is no key %s in a section: type, url, tls, secret, header, user, password, from and "
				"ca_file",
				file, line, key);
		if (into != NULL)
		{
			if (*into != NULL || *value == '\0')
				die("%s:%d: %s is empty, or stands there twice", file, line, key);
			*into = copy(value);
		}
	}
	free(text);
	fclose(f);
	if (relay_name == NULL || conninfo == NULL || endpoints == NULL)
		die("%s: it takes a name, a database, and at least one section", file);
	for (e = endpoints; e != NULL; e = e->next)
		check_endpoint(file, e);
}

/*
 * The section of a message: the one of its topic, else the one of its channel.
 */
static Endpoint *
endpoint_of(const char *channel, const char *topic)
{
	Endpoint *general = NULL;

	for (Endpoint *e = endpoints; e != NULL; e = e->next)
	{
		if (strcmp(e->channel, channel) != 0)
			continue;
		if (e->topic == NULL)
			general = e;
		else if (strcmp(e->topic, topic) == 0)
			return e;
	}
	return general;
}

/* ---------------------------------------------------------------- what became of a message */

static void
report(const char *id, const char *error, bool permanent)
{
	Report *r = need(calloc(1, sizeof(Report)));

	r->id = copy(id);
	r->delivered = error == NULL;
	r->permanent = permanent;
	snprintf(r->error, sizeof(r->error), "%s", error ? error : "");
	r->next = reports;
	reports = r;
}

static void
forget(Delivery *d)
{
	Delivery **p = &deliveries;

	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	if (d->easy != NULL)
	{
		curl_multi_remove_handle(multi, d->easy);
		curl_easy_cleanup(d->easy);
	}
	curl_slist_free_all(d->headers);
	curl_slist_free_all(d->recipients);
	free(d->id);
	free(d->channel);
	free(d->topic);
	free(d->body);
	free(d);
	in_flight--;
}

/*
 * A robot answers 200 whatever happened; what did stands in errcode. False when there is none.
 */
static bool
errcode_of(const char *answer, long *code)
{
	const char *p = strstr(answer, "\"errcode\"");
	char *end;

	if (p == NULL)
		return false;
	p += strlen("\"errcode\"");
	while (isspace((unsigned char) *p) || *p == ':')
		p++;
	*code = strtol(p, &end, 10);
	return end != p;
}

/*
 * A transfer is over: say how it went, without anything of what was sent.
 */
static void
finish(Delivery *d, CURLcode result)
{
	char error[100] = "";
	bool permanent = false;
	long code = 0;

	d->answer[d->answer_length] = '\0';
	curl_easy_getinfo(d->easy, CURLINFO_RESPONSE_CODE, &code);
	if (d->endpoint->kind == KIND_SMTP)
	{
		if (result != CURLE_OK && code >= 400)
			snprintf(error, sizeof(error), "SMTP %ld", code);
		else if (result != CURLE_OK)
			snprintf(error, sizeof(error), "%s", curl_easy_strerror(result));
		/* no such mailbox: another try finds none either */
		permanent = result != CURLE_OK && (code == 550 || code == 551 || code == 553);
	}
	else if (result != CURLE_OK)
		snprintf(error, sizeof(error), "%s", curl_easy_strerror(result));
	else if (code < 200 || code > 299)
	{
		snprintf(error, sizeof(error), "HTTP %ld", code);
		/* what is wrong with the message stays wrong; what is wrong with the address (401, 403, 404) somebody may put right */
		permanent = code == 400 || code == 410 || code == 413 || code == 415 || code == 422;
	}
	else if (d->endpoint->kind == KIND_WECOM || d->endpoint->kind == KIND_DINGTALK)
	{
		if (!errcode_of(d->answer, &code))
			snprintf(error, sizeof(error), "an answer without errcode");
		else if (code != 0)
			snprintf(error, sizeof(error), "errcode %ld", code);
	}
	if (error[0] == '\0')
		say("message %s (%s) delivered on %s in %ld ms", d->id, d->topic, d->channel, milliseconds_since(&d->began));
	else
		say("message %s (%s) not delivered on %s: %s", d->id, d->topic, d->channel, error);
	report(d->id, error[0] == '\0' ? NULL : error, permanent);
	forget(d);
}

/* ---------------------------------------------------------------- transfers */

static size_t
keep_answer(char *data, size_t size, size_t n, void *arg)
{
	Delivery *d = arg;
	size_t take = size * n;

	if (take > ANSWER_KEPT - d->answer_length)
		take = ANSWER_KEPT - d->answer_length;
	memcpy(d->answer + d->answer_length, data, take);
	d->answer_length += take;
	return size * n;
}

static size_t
give_mail(char *into, size_t size, size_t n, void *arg)
{
	Delivery *d = arg;
	size_t take = d->body_length - d->body_sent;

	if (take > size * n)
		take = size * n;
	memcpy(into, d->body + d->body_sent, take);
	d->body_sent += take;
	return take;
}

/*
 * A dedupe key as the value of a header: whatever is not printable ASCII as %XX.
 */
static char *
header_value(const char *s)
{
	char *out = need(malloc(3 * strlen(s) + 1));
	char *p = out;

	for (; *s != '\0'; s++)
	{
		unsigned char c = *s;

		if (c > 0x20 && c < 0x7f && c != '%')
			*p++ = c;
		else
			p += sprintf(p, "%%%02X", c);
	}
	*p = '\0';
	return out;
}

static void
add_header(Delivery *d, char *line)
{
	d->headers = need(curl_slist_append(d->headers, line));
	free(line);
}

static char *
hexadecimal(const unsigned char *bytes, int n)
{
	char *out = need(malloc(2 * n + 1));

	for (int i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
	return out;
}

static char *
base64(const unsigned char *bytes, int n)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *out = need(malloc((n + 2) / 3 * 4 + 1));
	char *p = out;

	for (int i = 0; i < n; i += 3)
	{
		unsigned v = bytes[i] << 16 | (i + 1 < n ? bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);

		*p++ = digit[v >> 18 & 63];
		*p++ = digit[v >> 12 & 63];
		*p++ = i + 1 < n ? digit[v >> 6 & 63] : '=';
		*p++ = i + 2 < n ? digit[v & 63] : '=';
	}
	*p = '\0';
	return out;
}

/*
 * The address of a DingTalk robot that asks for a signature: the time in milliseconds and the HMAC over it are part of the URL.
 */
static char *
signed_url(CURL *easy, const Endpoint *e)
{
	struct timespec now;
	unsigned char mac[CRM_SHA256_LEN];
	char *text;
	char *encoded;
	char *escaped;
	char *url;
	long long at;

	clock_gettime(CLOCK_REALTIME, &now);
	at = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
	text = print("%lld\n%s", at, e->secret);
	crm_hmac_sha256(e->secret, strlen(e->secret), text, strlen(text), mac);
	free(text);
	encoded = base64(mac, CRM_SHA256_LEN);
	escaped = need(curl_easy_escape(easy, encoded, 0));
	url = print("%s%stimestamp=%lld&sign=%s", e->url, strchr(e->url, '?') ? "&" : "?", at, escaped);
	free(encoded);
	curl_free(escaped);
	return url;
}

/*
 * An address that mail can be sent to, and nothing that could become a header or a second recipient.
 */
static bool
is_mail_address(const char *s)
{
	const char *at = strchr(s, '@');

	if (at == NULL || at == s || at[1] == '\0' || strchr(at + 1, '@') != NULL)
		return false;
	for (; *s != '\0'; s++)
		if ((unsigned char) *s <= 0x20 || *s == 0x7f || strchr("<>,;:\"()[]\\", *s) != NULL)
			return false;
	return true;
}

static void
make_mail(Delivery *d, const char *address, const char *key, const char *subject, const char *text)
{
	const Endpoint *e = d->endpoint;
	unsigned char hash[CRM_SHA256_LEN];
	char *id;
	char *safe = header_value(key);
	char date[64];
	time_t now = time(NULL);
	struct tm tm;
	static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
										 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

	gmtime_r(&now, &tm);
	snprintf(date, sizeof(date), "%s, %02d %s %d %02d:%02d:%02d +0000", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
			 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	/* the same message tried again is the same mail */
	crm_sha256(key, strlen(key), hash);
	id = hexadecimal(hash, 16);
	d->body = print(
		"Date: %s\nFrom: <%s>\nTo: <%s>\nSubject: %s\nMessage-ID: <crm-%s@%s>\nIdempotency-Key: %s\nMIME-Version: 1.0\n"
		"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: base64\n\n%s\n",
		date, e->from, address, subject, id, strchr(e->from, '@') + 1, safe, text);
	d->body_length = strlen(d->body);
	free(id);
	free(safe);
}

/*
 * Begin to deliver a claimed message. The columns are those of the claim.
 */
static void
deliver(char *id, char *channel, char *topic, const char *key, const char *address, const char *generic,
		const char *wecom, const char *dingtalk, const char *subject, const char *text)
{
	Endpoint *e = endpoint_of(channel, topic);
	Delivery *d;
	CURL *easy;

	if (e == NULL)
	{
		say("message %s (%s) not delivered on %s: no section takes this topic", id, topic, channel);
		report(id, "no section of the relay takes this topic", true);
		return;
	}
	if (e->kind == KIND_SMTP && !is_mail_address(address))
	{
		say("message %s (%s) not delivered on %s: no address", id, topic, channel);
		report(id, "no address to send mail to", true);
		return;
	}
	d = need(calloc(1, sizeof(Delivery)));
	d->id = copy(id);
	d->channel = copy(channel);
	d->topic = copy(topic);
	d->endpoint = e;
	easy = d->easy = need(curl_easy_init());
	d->next = deliveries;
	deliveries = d;
	in_flight++;
	clock_gettime(CLOCK_MONOTONIC, &d->began);

	curl_easy_setopt(easy, CURLOPT_PRIVATE, d);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long) timeout_seconds);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_answer);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, d);
	/* nothing but what the section says: no other protocol, no redirection that would carry the message elsewhere */
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, e->kind == KIND_SMTP ? "smtp,smtps" : "http,https");
#else
	curl_easy_setopt(
		easy, CURLOPT_PROTOCOLS,
		(long) (e->kind == KIND_SMTP ? CURLPROTO_SMTP | CURLPROTO_SMTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	if (e->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, e->ca_file);
	if (e->user != NULL)
		curl_easy_setopt(easy, CURLOPT_USERNAME, e->user);
	if (e->password != NULL)
		curl_easy_setopt(easy, CURLOPT_PASSWORD, e->password);

	if (e->kind == KIND_SMTP)
	{
		char *sender = print("<%s>", e->from);
		char *recipient = print("<%s>", address);

		make_mail(d, address, key, subject, text);
		d->recipients = need(curl_slist_append(NULL, recipient));
		curl_easy_setopt(easy, CURLOPT_URL, e->url);
		curl_easy_setopt(easy, CURLOPT_USE_SSL, (long) (e->plain ? CURLUSESSL_NONE : CURLUSESSL_ALL));
		curl_easy_setopt(easy, CURLOPT_MAIL_FROM, sender);
		curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, d->recipients);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_mail);
		curl_easy_setopt(easy, CURLOPT_READDATA, d);
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_CRLF, 1L);
		free(sender);
		free(recipient);
	}
	else
	{
		char *url = e->kind == KIND_DINGTALK && e->secret != NULL ? signed_url(easy, e) : copy(e->url);
		char *safe = header_value(key);

		d->body = copy(e->kind == KIND_WECOM ? wecom : e->kind == KIND_DINGTALK ? dingtalk : generic);
		d->body_length = strlen(d->body);
		for (struct curl_slist *h = e->headers; h != NULL; h = h->next)
			d->headers = need(curl_slist_append(d->headers, h->data));
		add_header(d, copy("Content-Type: application/json; charset=utf-8"));
		add_header(d, copy("Expect:"));
		add_header(d, print("Idempotency-Key: %s", safe));
		if (e->kind == KIND_HTTP && e->secret != NULL)
		{
			unsigned char mac[CRM_SHA256_LEN];
			char *hex;

			crm_hmac_sha256(e->secret, strlen(e->secret), d->body, d->body_length, mac);
			hex = hexadecimal(mac, CRM_SHA256_LEN);
			add_header(d, print("X-Crm-Signature: sha256=%s", hex));
			free(hex);
		}
		curl_easy_setopt(easy, CURLOPT_URL, url);
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, d->headers);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, d->body);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) d->body_length);
		free(url);
		free(safe);
	}
	if (curl_multi_add_handle(multi, easy) != CURLM_OK)
		die("libcurl took no transfer");
}

/* ---------------------------------------------------------------- database */

/*
 * What a message looks like on each kind of channel is made where its JSON is: in the database. t is its text for people.
 */
static const char claim_statement[] =
	"WITH c AS MATERIALIZED (SELECT * FROM crm.outbox_claim($1, $2::int, $3::text[]))"
	" SELECT c.id, c.channel, c.topic, c.dedupe_key, coalesce(c.address, ''),"
	" jsonb_build_object('id', c.id, 'topic', c.topic, 'dedupe_key', c.dedupe_key, 'attempt', c.attempts, 'recipient', "
	"c.recipient,"
	" 'address', c.address, 'payload', c.payload),"
	/* a robot of WeCom takes 2048 bytes, one of DingTalk 20000 */
	" jsonb_build_object('msgtype', 'text', 'text', jsonb_build_object('content', left(t.text, 500))"
	" || CASE WHEN c.address IS NULL THEN '{}' ELSE jsonb_build_object('mentioned_list', jsonb_build_array(c.address)) "
	"END),"
	" jsonb_build_object('msgtype', 'text', 'text', jsonb_build_object('content', left(t.text, 5000)),"
	" 'at', jsonb_build_object('atUserIds', CASE WHEN c.address IS NULL THEN '[]' ELSE jsonb_build_array(c.address) "
	"END)),"
	/* encoded words of RFC 2047: at most ten characters each, folded */
	" (SELECT string_agg('=?UTF-8?B?' || encode(convert_to(substr(t.title, n, 10), 'UTF8'), 'base64') || '?=', E'\\n ' "
	"ORDER BY n)"
	" FROM generate_series(1, greatest(length(t.title), 1), 10) AS n),"
	/* a mail is for one person: it shows the customer as he may see him, where a robot speaks to a group */
	" encode(convert_to(concat_ws(E'\n', t.text, (SELECT string_agg(k.name || ': ' || (s.card ->> k.name), E'\n' ORDER "
	"BY k.n)"
	" FROM (SELECT coalesce(o.p #> '{customer,account}', o.p -> 'lead_card') AS card) AS s, "
	"unnest('{name,company,industry,city,phone,need,grade,next_renewal_on,last_contact_at}'::text[]) WITH ORDINALITY "
	"AS k "
	"(name, n)"
	" WHERE s.card ->> k.name IS NOT NULL)), 'UTF8'), 'base64')"
	" FROM c CROSS JOIN LATERAL (SELECT CASE jsonb_typeof(c.payload) WHEN 'object' THEN c.payload ELSE "
	"jsonb_build_object('content', c.payload) END AS p) AS o"
	" CROSS JOIN LATERAL (SELECT left(coalesce(nullif(o.p ->> 'title', ''), c.topic), 120) AS title,"
	" concat_ws(E'\\n', coalesce(nullif(o.p ->> 'title', ''), c.topic), o.p ->> 'content', (SELECT string_agg(e.key || "
	"': ' || (e.value #>> '{}'), E'\\n' ORDER BY e.key)"
	" FROM jsonb_each(o.p) AS e WHERE e.key NOT IN ('title', 'content') AND jsonb_typeof(e.value) IN ('string', "
	"'number', 'boolean'))) AS text) AS t"
	" ORDER BY c.id";

static void
drop_connection(const char *what)
{
	/* the library's message may name host and user, never a password */
	say("%s: %.*s", what, (int) strcspn(PQerrorMessage(db), "\n"), PQerrorMessage(db));
	PQfinish(db);
	db = NULL;
}

static void
ignore_notice(void *arg, const PGresult *res)
{
	(void) arg;
	(void) res;
}

/*
 * Connect and listen; false when the database is not there.
 */
static bool
connect_database(void)
{
	static const char *const keywords[] = {"application_name", "connect_timeout", "client_encoding", "dbname", NULL};
	const char *values[] = {"crm-relay", "5", "UTF8", conninfo, NULL};
	PGresult *res;
	bool ok;

	db = need(PQconnectdbParams(keywords, values, 1));
	if (PQstatus(db) != CONNECTION_OK)
	{
		drop_connection("no connection");
		return false;
	}
	PQsetNoticeReceiver(db, ignore_notice, NULL);
	res = PQexec(db, "SET search_path = pg_catalog, pg_temp; SET idle_session_timeout = 0; LISTEN crm_outbox");
	ok = PQresultStatus(res) == PGRES_COMMAND_OK;
	PQclear(res);
	if (!ok)
		drop_connection("cannot listen");
	else
		say("connected");
	return ok;
}

/*
 * Run a statement; NULL when the connection is gone. An error of the statement itself is fatal for the relay's work, not for what is under
 * way: it is told and tried again later.
 */
static PGresult *
query(const char *what, const char *statement, int n, const char *const *values)
{
	PGresult *res = PQexecParams(db, statement, n, NULL, values, NULL, NULL, 0);

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		return res;
	PQclear(res);
	drop_connection(what);
	return NULL;
}

static void
drop_report(Report **p)
{
	Report *r = *p;

	*p = r->next;
	free(r->id);
	free(r);
}

/*
 * Tell the database what became of messages; what it could not be told stays for later.
 */
static void
send_reports(void)
{
	char *ids = copy("{");
	int n = 0;

	for (Report *r = reports; r != NULL; r = r->next)
		if (r->delivered)
		{
			char *more = print("%s%s%s", ids, n++ > 0 ? "," : "", r->id);

			free(ids);
			ids = more;
		}
	if (n > 0)
	{
		char *all = print("%s}", ids);
		const char *values[] = {all, relay_name};
		PGresult *res = query("cannot report", "SELECT crm.outbox_ack($1, $2)", 2, values);

		free(all);
		if (res == NULL)
		{
			free(ids);
			return;
		}
		if (atoi(PQgetvalue(res, 0, 0)) != n)
			say("%d of %d deliveries were reported too late: their claim had run out, and they go out again",
				n - atoi(PQgetvalue(res, 0, 0)), n);
		PQclear(res);
		for (Report **p = &reports; *p != NULL;)
			if ((*p)->delivered)
				drop_report(p);
			else
				p = &(*p)->next;
	}
	free(ids);
	while (reports != NULL)
	{
		const char *values[] = {reports->id, relay_name, reports->error, reports->permanent ? "true" : "false"};
		PGresult *res = query("cannot report", "SELECT crm.outbox_fail($1, $2, $3, $4)", 4, values);

		if (res == NULL)
			return;
		say("message %s: %s", reports->id, PQgetvalue(res, 0, 0));
		PQclear(res);
		drop_report(&reports);
	}
}

/*
 * Claim as many messages as there is room for; how many came, -1 when the database did not answer.
 */
static int
claim(int room)
{
	static char *channels;
	char number[16];
	const char *values[3];
	PGresult *res;
	int n;

	if (channels == NULL)
	{
		char *list = copy("");

		for (Endpoint *e = endpoints; e != NULL; e = e->next)
		{
			char *literal;
			char *more;

			literal = print("\"%s\"", e->channel);
			more = print("%s%s%s", list, *list ? "," : "", literal);
			free(literal);
			free(list);
			list = more;
		}
		channels = print("{%s}", list);
		free(list);
	}
	snprintf(number, sizeof(number), "%d", room);
	values[0] = relay_name;
	values[1] = number;
	values[2] = channels;
	res = query("cannot claim", claim_statement, 3, values);
	if (res == NULL)
		return -1;
	n = PQntuples(res);
	for (int i = 0; i < n; i++)
		deliver(PQgetvalue(res, i, 0), PQgetvalue(res, i, 1), PQgetvalue(res, i, 2), PQgetvalue(res, i, 3),
				PQgetvalue(res, i, 4), PQgetvalue(res, i, 5), PQgetvalue(res, i, 6), PQgetvalue(res, i, 7),
				PQgetvalue(res, i, 8), PQgetvalue(res, i, 9));
	PQclear(res);
	return n;
}

/* ---------------------------------------------------------------- the loop */

static void
stop(int signal)
{
	(void) signal;
	stopping++;
}

/*
 * Work until told to stop, or, if once, until nothing is due. False when the database could not be asked.
 */
static bool
work(bool once)
{
	bool due = true;
	bool asked = true;
	long retry_after = 0;
	struct timespec last_try;
	struct timespec last_claim;

	clock_gettime(CLOCK_MONOTONIC, &last_try);
	clock_gettime(CLOCK_MONOTONIC, &last_claim);
	for (;;)
	{
		int running;
		int left;
		CURLMsg *message;
		struct curl_waitfd wait = {0};

		if (stopping > 1)
			break;
		if (db == NULL && milliseconds_since(&last_try) >= retry_after)
		{
			if (connect_database())
			{
				retry_after = 0;
				due = true;
			}
			else
			{
				if (once)
					die("no database");
				retry_after = retry_after == 0 ? 1000 : retry_after < 16000 ? 2 * retry_after : 30000;
			}
			clock_gettime(CLOCK_MONOTONIC, &last_try);
		}
		if (db != NULL && reports != NULL)
			send_reports();
		if (!stopping && db != NULL && in_flight < parallel &&
			(due || milliseconds_since(&last_claim) >= poll_seconds * 1000L))
		{
			int room = parallel - in_flight;
			int n = claim(room);

			clock_gettime(CLOCK_MONOTONIC, &last_claim);
			/* a full hand means that there may be more */
			due = n == room;
			asked = n >= 0;
			if (n >= 0 && reports != NULL)
				send_reports();
		}
		if (db == NULL && retry_after == 0)
			retry_after = 1000;
		if (in_flight == 0 && (reports == NULL || db == NULL) && (stopping || (once && !due)))
			break;

		curl_multi_perform(multi, &running);
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
			if (message->msg == CURLMSG_DONE)
			{
				char *d;
				CURLcode result = message->data.result;

				curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &d);
				finish((Delivery *) d, result);
			}
		if (reports != NULL && db != NULL)
			continue;
		if (db != NULL)
		{
			wait.fd = PQsocket(db);
			wait.events = CURL_WAIT_POLLIN;
		}
		curl_multi_poll(multi, &wait, db != NULL ? 1 : 0, 1000, NULL);
		if (db != NULL)
		{
			PGnotify *notify;

			if (!PQconsumeInput(db))
			{
				drop_connection("connection lost");
				continue;
			}
			while ((notify = PQnotifies(db)) != NULL)
			{
				due = true;
				PQfreemem(notify);
			}
		}
	}
	return asked;
}

int
main(int argc, char **argv)
{
	struct sigaction action = {0};
	bool once = false;
	bool asked;
	const char *file = NULL;
	int left = 0;

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--once") == 0)
			once = true;
		else if (argv[i][0] == '-' || file != NULL)
			die("usage: crm-relay [--once] CONFIGURATION");
		else
			file = argv[i];
	}
	if (file == NULL)
		die("usage: crm-relay [--once] CONFIGURATION");
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		die("libcurl cannot start");
	read_configuration(file);
	setvbuf(stderr, NULL, _IOLBF, 0);
	action.sa_handler = stop;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	multi = need(curl_multi_init());

	asked = work(once);

	for (; deliveries != NULL; left++)
		forget(deliveries);
	for (; reports != NULL; reports = reports->next)
		left++;
	if (left > 0)
		say("stopped; %d messages go out again when their claim runs out", left);
	else
		say("stopped");
	if (db != NULL)
		PQfinish(db);
	curl_multi_cleanup(multi);
	curl_global_cleanup();
	return left > 0 || !asked ? 1 : 0;
}
