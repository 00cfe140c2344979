#!/usr/bin/env python3
"""The relay: messages of the outbox to robots, HTTP and mail, several at once, at least once.

A small HTTP server and a small SMTP sink stand in for the world; they fail when told to. The relay is killed in the middle and nothing is lost; its
log holds nothing of what it carries. Uses the private server of this checkout and a database of its own; prints TAP."""
import base64
import collections
import email
import email.header
import hashlib
import hmac
import http.server
import json
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DB = 'crm_relay'
RELAY = os.path.join(TOP, 'src', 'relay', 'crm-relay')
failed = 0


def ok(passed, what, *why):
    global failed
    print(('ok - ' if passed else 'not ok - ') + what, flush=True)
    if not passed:
        failed += 1
        for w in why:
            print('#   ' + str(w).replace('\n', '\n#   '), flush=True)


def sql(statement, db=DB):
    done = subprocess.run(['psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', db, '-c', statement], capture_output=True, text=True,
                          env=dict(os.environ, PGOPTIONS='-c client_min_messages=warning'))
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


# ---------------------------------------------------------------- the world

class World:
    """What was received, and how to answer."""
    def __init__(self):
        self.lock = threading.Lock()
        self.posts = []           # (path with query, headers, body)
        self.mails = []           # (recipients, text)
        self.busy = self.most_busy = 0
        self.forget()

    def forget(self):
        with self.lock:
            self.posts, self.mails, self.most_busy = [], [], 0
            self.answer = lambda path, n: (200, '{"errcode":0,"errmsg":"ok"}')
            self.delay = 0

    def keys(self):
        with self.lock:
            return [h['Idempotency-Key'] for _, h, _ in self.posts]


world = World()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        with world.lock:
            world.busy += 1
            world.most_busy = max(world.most_busy, world.busy)
        time.sleep(world.delay)
        with world.lock:
            world.posts.append((self.path, dict(self.headers.items()), body))
            status, text = world.answer(self.path, len(world.posts))
            world.busy -= 1
        try:
            self.send_response(status)
            self.send_header('Content-Length', str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())
        except OSError:
            pass        # the relay was killed

    def log_message(self, *args):
        pass


class Sink(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda s: self.wfile.write(s.encode() + b'\r\n')
        to = []
        say('220 sink')
        while True:
            line = self.rfile.readline().decode().strip()
            verb = line.upper()
            if verb.startswith(('EHLO', 'HELO')):
                say('250 sink')
            elif verb.startswith('RCPT'):
                if 'nobody@' in line:
                    say('550 no such mailbox')
                elif 'later@' in line:
                    say('451 try again')
                else:
                    to.append(re.search('<(.*?)>', line).group(1))
                    say('250 ok')
            elif verb == 'DATA':
                say('354 go on')
                lines = []
                while (text := self.rfile.readline()) not in (b'.\r\n', b''):
                    lines.append(text[1:] if text.startswith(b'..') else text)
                with world.lock:
                    world.mails.append((to, b''.join(lines).decode()))
                to = []
                say('250 taken')
            elif verb == 'QUIT' or not line:
                say('221 bye')
                return
            else:
                say('250 ok')


class Mail(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


# ---------------------------------------------------------------- the relay

def configuration(dir, name, http_port, mail_port, **more):
    head = dict(name=name, database='host=%s port=%s dbname=%s user=crm_relay_login' % (os.environ['PGHOST'], os.environ['PGPORT'], DB), poll=1, parallel=8, timeout=10)
    head.update(more)
    text = ''.join('%s = %s\n' % x for x in head.items()) + '''
# robots
[wecom]
type = wecom
url = http://127.0.0.1:%(http)d/wecom?key=TOKEN-ONE
tls = off

[dingtalk]
type = dingtalk
url = http://127.0.0.1:%(http)d/dingtalk?access_token=TOKEN-TWO
secret = SEC-of-the-robot
tls = off

[webhook]
type = http
url = http://127.0.0.1:%(http)d/hook
secret = shared-secret
header = Authorization: Bearer TOKEN-THREE
tls = off

[webhook sync.erp]
type = http
url = http://127.0.0.1:%(http)d/erp
tls = off

[email]
type = smtp
url = smtp://127.0.0.1:%(mail)d
from = crm@example.com
tls = off
''' % dict(http=http_port, mail=mail_port)
    path = os.path.join(dir, name + '.conf')
    with open(path, 'w') as f:
        f.write(text)
    os.chmod(path, 0o600)
    return path


class Relay:
    logs = []

    def __init__(self, path, *args):
        self.log = path + '.log'
        Relay.logs.append(self.log)
        with open(self.log, 'a') as f:
            self.process = subprocess.Popen([RELAY, *args, path], stderr=f)

    def wait(self, seconds=30):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return 'had to be killed'

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


def message(channel, key, payload='{"title": "t"}', topic='test', fallback='{}', member="NULL", address='NULL'):
    sql("INSERT INTO crm_data.outbox (topic, channel, fallback, recipient_id, address, payload, dedupe_key) VALUES ('%s', '%s', '%s', %s, %s, $$%s$$, '%s')"
        % (topic, channel, fallback, member, address, payload, key))


def many(channel, prefix, n, fallback='{}', member='NULL'):
    sql("INSERT INTO crm_data.outbox (topic, channel, fallback, recipient_id, payload, dedupe_key) SELECT 'test', '%s', '%s', %s, '{}', '%s ' || i FROM generate_series(1, %d) AS i"
        % (channel, fallback, member, prefix, n))


def states(prefix):
    return sql("SELECT coalesce(string_agg(s.state || ' ' || s.n, ', ' ORDER BY s.state), 'none') FROM (SELECT o.state, count(*) AS n FROM crm_data.outbox AS o WHERE o.dedupe_key LIKE '%s%%' GROUP BY 1) AS s" % prefix)


def setting(key, value):
    sql("UPDATE crm_data.config SET body = jsonb_set(body, '{value}', '%s') WHERE kind = 'setting' AND key = '%s'" % (value, key))


def formats(conf):
    world.forget()
    one = "(SELECT id FROM crm_data.member WHERE employee_no = 'E-1')"
    message('wecom', 'f wecom', '{"title": "\u903e\u671f\u52a8\u4f5c", "content": "\u8bf7\u4eca\u5929\u53d1\u9001\u62a5\u4ef7", "deal": 7}', member=one)
    message('dingtalk', 'f dingtalk', '{"title": "ding", "note": "line"}', member=one)
    message('webhook', 'f hook %d\u00e9', '{"title": "hook", "deep": {"a": [1, 2]}}')
    message('webhook', 'f erp', '{"origin": "crm:contract:1:2"}', topic='sync.erp')
    message('email', 'f mail', '{"title": "\u56e2\u961f\u74f6\u9888\u8bca\u65ad\u7b80\u62a5\uff0c\u6bcf\u5468\u4e00\u4e0a\u5348\u5341\u70b9", "content": "\u4e0a\u5468\u5361\u70b9\\n.\\nthree"}', member=one)
    message('email', 'f many', '{"title": "x"}', address="'a@example.com>,<b@example.com'")
    message('email', 'f none', '{"title": "x"}')
    ok(Relay(conf, '--once').wait() == 0, 'a relay that runs once ends by itself')
    by_key = {urllib.parse.unquote(h['Idempotency-Key']): (p, h, b) for p, h, b in world.posts}
    ok(states('f ') == 'dead 2, sent 5', 'what was delivered is sent; what has no proper address is dead', states('f '))
    path, _, body = by_key.get('f wecom', ('', {}, b'{}'))
    j = json.loads(body)
    ok(path == '/wecom?key=TOKEN-ONE' and j.get('msgtype') == 'text' and j['text']['mentioned_list'] == ['E-1'] and j['text']['content'] == '\u903e\u671f\u52a8\u4f5c\n\u8bf7\u4eca\u5929\u53d1\u9001\u62a5\u4ef7\ndeal: 7', 'a robot of WeCom gets text, and who is meant', path, body.decode())
    path, _, body = by_key.get('f dingtalk', ('', {}, b'{}'))
    j, q = json.loads(body), dict(urllib.parse.parse_qsl(path.partition('?')[2]))
    mac = base64.b64encode(hmac.new(b'SEC-of-the-robot', (q.get('timestamp', '') + '\nSEC-of-the-robot').encode(), hashlib.sha256).digest()).decode()
    ok(q.get('sign') == mac and q.get('access_token') == 'TOKEN-TWO' and abs(int(q.get('timestamp', 0)) / 1000 - time.time()) < 60 and j.get('at') == {'atUserIds': ['E-1']} and j['text']['content'] == 'ding\nnote: line', 'a robot of DingTalk gets its signature', path, body.decode())
    path, headers, body = by_key.get('f hook %d\u00e9', ('', {}, b'{}'))
    j = json.loads(body)
    ok(path == '/hook' and j.get('payload') == {'title': 'hook', 'deep': {'a': [1, 2]}} and j['dedupe_key'] == 'f hook %d\u00e9' and j['attempt'] == 1 and headers['Authorization'] == 'Bearer TOKEN-THREE'
       and headers['X-Crm-Signature'] == 'sha256=' + hmac.new(b'shared-secret', body, hashlib.sha256).hexdigest(), 'any other address gets the payload, signed', path, headers, body.decode())
    ok(by_key.get('f erp', ('',))[0] == '/erp', 'a topic may have an address of its own')
    mail = email.message_from_string(world.mails[0][1]) if len(world.mails) == 1 else email.message_from_string('')
    subject = str(email.header.make_header(email.header.decode_header(mail['Subject'] or '')))
    text = (mail.get_payload(decode=True) or b'').decode()
    ok(len(world.mails) == 1 and world.mails[0][0] == ['one@example.com'] and mail['To'] == '<one@example.com>' and subject == '\u56e2\u961f\u74f6\u9888\u8bca\u65ad\u7b80\u62a5\uff0c\u6bcf\u5468\u4e00\u4e0a\u5348\u5341\u70b9'
       and text.endswith('\u4e0a\u5468\u5361\u70b9\n.\nthree') and urllib.parse.unquote(mail['Idempotency-Key']) == 'f mail' and re.match(r'<crm-[0-9a-f]{32}@example\.com>$', mail['Message-ID']), 'mail arrives whole', world.mails, subject, text)


def at_once(conf):
    world.forget()
    world.delay = 1
    many('webhook', 'a', 24)
    began = time.monotonic()
    Relay(conf, '--once').wait()
    took = time.monotonic() - began
    ok(states('a ') == 'sent 24' and 4 <= world.most_busy <= 8 and took < 12, 'several at once, and no more than allowed', states('a '), world.most_busy, took)


def woken(dir, ports):
    world.forget()
    r = Relay(configuration(dir, 'sleeper', *ports, poll=3600))
    wait_for(lambda: 'connected' in open(r.log).read())
    time.sleep(0.5)
    message('webhook', 'w 1')
    time.sleep(1.5)
    before = states('w ')
    sql('CALL crm.tick()')
    ok(before == 'pending 1' and wait_for(lambda: states('w ') == 'sent 1'), 'the clock wakes it', before, states('w '))
    # a lost connection is made again, and what became of messages meanwhile is reported then
    world.delay = 1.5
    many('webhook', 'l', 4)
    sql('CALL crm.tick()')
    wait_for(lambda: world.busy == 4)
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crm-relay'")
    ok(wait_for(lambda: states('l ') == 'sent 4') and collections.Counter(world.keys())['l%201'] == 1, 'a lost connection loses and repeats nothing', states('l '), world.keys())
    ok(r.stop() == 0, 'and SIGTERM ends it')


def refused(conf):
    setting('outbox.backoff', '{"first": "1 second", "factor": 1, "max": "1 second", "attempts": 4}')
    world.forget()
    # twice unwilling, then well: the same key each time
    world.answer = lambda path, n: (503, 'busy') if n < 3 else (200, '{}')
    message('webhook', 'r twice')
    r = Relay(conf)
    ok(wait_for(lambda: states('r twice') == 'sent 1') and world.keys() == ['r%20twice'] * 3, 'what fails is tried again when the database says so', states('r twice'), world.keys())
    ok(sql("SELECT attempts FROM crm_data.outbox WHERE dedupe_key = 'r twice'") == '3', 'with its attempts counted')
    world.answer = lambda path, n: (422, 'no')
    message('webhook', 'r wrong')
    ok(wait_for(lambda: states('r wrong') == 'dead 1'), 'what is wrong with the message is not tried again', states('r wrong'))
    # a robot that answers 200 and does not mean it
    world.answer = lambda path, n: (200, '{"errmsg":"api freq out of limit", "errcode" : 45009}')
    message('wecom', 'r robot', fallback='{email}', member="(SELECT id FROM crm_data.member WHERE employee_no = 'E-1')")
    ok(wait_for(lambda: states('r robot') == 'cancelled 1, sent 1'), 'after its attempts a message takes the other channel', states('r robot'))
    ok(sql("SELECT last_error FROM crm_data.outbox WHERE dedupe_key = 'r robot'").startswith('errcode 45009'), 'and says what the robot said')
    message('email', 'r nobody', member='NULL', address="'nobody@example.com'")
    message('email', 'r later', member='NULL', address="'later@example.com'")
    ok(wait_for(lambda: states('r nobody') == 'dead 1' and states('r later') == 'dead 1'), 'a mailbox that does not exist, and one that never opens', states('r nobody'), states('r later'))
    ok(sql("SELECT string_agg(attempts || ' ' || last_error, ', ' ORDER BY id) FROM crm_data.outbox WHERE dedupe_key IN ('r nobody', 'r later')").startswith('1 SMTP 550') , 'are told apart', sql("SELECT string_agg(attempts || ' ' || last_error, ', ' ORDER BY id) FROM crm_data.outbox WHERE dedupe_key IN ('r nobody', 'r later')"))
    r.stop()


def circuit(conf):
    sql("UPDATE crm_data.channel SET failures = 0, circuit = 'closed', open_until = NULL")
    world.forget()
    world.answer = lambda path, n: (500, 'down')
    many('dingtalk', 'c', 12, fallback='{email}', member="(SELECT id FROM crm_data.member WHERE employee_no = 'E-1')")
    r = Relay(conf)
    wait_for(lambda: sql("SELECT circuit FROM crm_data.channel WHERE name = 'dingtalk'") == 'open')
    asked = len(world.posts)
    ok(wait_for(lambda: sql('CALL crm.tick()') == '' and states('c ') == 'cancelled 12, sent 12'), 'a channel that is down: its messages take the other one, each once', states('c '))
    ok(8 <= asked <= 12 and len(world.mails) == 12 and len(set(m[1].split('Message-ID: ')[1].split('\r')[0] for m in world.mails)) == 12, 'and it is left alone', asked, len(world.mails))
    # nothing is asked of it until its pause is over; then one message is the trial
    many('dingtalk', 'd', 3)
    time.sleep(2.5)
    still = len(world.posts)
    world.answer = lambda path, n: (200, '{"errcode":0}')
    sql("UPDATE crm_data.channel SET open_until = now() WHERE name = 'dingtalk'")
    ok(still == len([k for k in world.keys() if k.startswith('c')]) and wait_for(lambda: states('d ') == 'sent 3') and sql("SELECT circuit FROM crm_data.channel WHERE name = 'dingtalk'") == 'closed', 'until it works again', still, states('d '))
    r.stop()


def killed(dir, ports):
    setting('outbox.claim', '3')
    world.forget()
    world.delay = 0.3
    many('webhook', 'k', 40)
    first = Relay(configuration(dir, 'first', *ports, parallel=4))
    wait_for(lambda: len(world.posts) >= 10)
    first.process.kill()
    first.wait()
    before = states('k ')
    second = Relay(configuration(dir, 'second', *ports, parallel=4))
    done = wait_for(lambda: states('k ') == 'sent 40', 40)
    second.stop()
    count = collections.Counter(world.keys())
    ok('claimed' in before and done and len(count) == 40, 'killed in the middle: every message arrives', before, states('k '), len(count))
    ok(40 <= sum(count.values()) <= 44, 'and only those that were under way arrive twice', count.most_common(6))
    setting('outbox.claim', '60')


def stopped(dir, ports):
    world.forget()
    world.delay = 1
    many('webhook', 's', 12)
    r = Relay(configuration(dir, 'stopped', *ports, parallel=4))
    wait_for(lambda: world.busy == 4)
    began = time.monotonic()
    code = r.stop()
    ok(code == 0 and time.monotonic() - began < 30 and states('s ') == 'pending 8, sent 4' and len(world.posts) == 4, 'SIGTERM: what is under way is ended and reported, nothing more is taken', code, states('s '))
    world.delay = 0
    a, b = Relay(configuration(dir, 'left', *ports)), Relay(configuration(dir, 'right', *ports))
    many('webhook', 'both', 60)
    ok(wait_for(lambda: states('both ') == 'sent 60') and max(collections.Counter(world.keys()).values()) == 1, 'two relays share the work and none of the messages', states('both '))
    a.stop(), b.stop()


def bad_input(dir, ports):
    def answer(change, mode=0o600, args=()):
        path = configuration(dir, 'bad', *ports)
        text = change(open(path).read())
        with open(path, 'w') as f:
            f.write(text)
        os.chmod(path, mode)
        done = subprocess.run([RELAY, *args, path], capture_output=True, text=True, timeout=20)
        return done.returncode, done.stderr
    for what, change, mode, words in (
            ('one that others may read', lambda t: t, 0o640, 'chmod 600'),
            ('an unknown key', lambda t: 'colour = red\n' + t, 0o600, 'colour'),
            ('a number that is none', lambda t: t.replace('parallel = 8', 'parallel = many'), 0o600, 'parallel is a whole number'),
            ('an address without TLS', lambda t: t.replace('tls = off', '', 1), 0o600, 'tls = off'),
            ('an unknown type', lambda t: t.replace('type = wecom', 'type = pigeon'), 0o600, 'type is'),
            ('a channel that is none', lambda t: t.replace('[webhook]', '[web"hook]'), 0o600, 'channel'),
            ('a section twice', lambda t: t + '[wecom]\ntype = wecom\nurl = https://example.com/\n', 0o600, 'twice'),
            ('mail without a sender', lambda t: t.replace('from = crm@example.com', ''), 0o600, 'from'),
            ('no section', lambda t: t[:t.index('# robots')], 0o600, 'at least one section')):
        code, text = answer(change, mode)
        ok(code == 2 and words in text and 'TOKEN' not in text and 'SEC-' not in text, 'a configuration is refused: ' + what, code, text)
    code, text = answer(lambda t: t.replace('dbname=' + DB, 'dbname=nowhere'), args=('--once',))
    ok(code == 2 and 'no database' in text, 'no database: said, and given up when it runs once', code, text)
    sql('DROP ROLE IF EXISTS crm_relay_stranger')
    sql('CREATE ROLE crm_relay_stranger LOGIN')
    code, text = answer(lambda t: t.replace('crm_relay_login', 'crm_relay_stranger'), args=('--once',))
    sql('DROP ROLE crm_relay_stranger')
    ok(code == 1 and 'cannot claim' in text, 'a role that may not claim: said, and no success', code, text)
    done = subprocess.run([RELAY], capture_output=True, text=True)
    ok(done.returncode == 2 and 'usage' in done.stderr, 'no configuration: how it is used')


def main():
    if shutil.which('curl-config') is None:
        print('libcurl4-openssl-dev is not installed')
        return 77
    made = subprocess.run(['make', '--no-print-directory', '-s', '-C', TOP, 'relay', 'PG_CONFIG=' + os.environ.get('PG_CONFIG', 'pg_config'), 'WERROR=1'], capture_output=True, text=True)
    ok(made.returncode == 0, 'make relay', made.stdout + made.stderr)
    if made.returncode != 0:
        return 1
    dir = tempfile.mkdtemp()
    web = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Receiver)
    web.daemon_threads = True
    mail = Mail(('127.0.0.1', 0), Sink)
    for server in (web, mail):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = (web.server_address[1], mail.server_address[1])
    drop = lambda: subprocess.run(['psql', '-Xq', '-d', 'postgres', '-c', 'DROP DATABASE IF EXISTS %s WITH (FORCE)' % DB, '-c', 'DROP ROLE IF EXISTS crm_relay_login'], capture_output=True)
    drop()
    try:
        sql("CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE template0" % DB, 'postgres')
        sql('CREATE EXTENSION crm')
        sql('CALL crm.migrate()')
        sql('CREATE ROLE crm_relay_login LOGIN IN ROLE crm_sync')
        sql("INSERT INTO crm_data.member (full_name, employee_no, email) VALUES ('One', 'E-1', 'one@example.com')")
        conf = configuration(dir, 'relay', *ports)
        formats(conf)
        at_once(conf)
        woken(dir, ports)
        killed(dir, ports)
        stopped(dir, ports)
        refused(conf)
        circuit(conf)
        bad_input(dir, ports)
        log = ''.join(open(f).read() for f in set(Relay.logs))
        found = [s for s in ('TOKEN', 'SEC-', 'shared-secret', '127.0.0.1:%d' % ports[0], 'example.com', 'E-1', '\u62a5\u4ef7', 'hook %d') if s in log]
        ok(len(log) > 5000 and not found, 'no address, secret or payload in the log', found)
    finally:
        drop()
        shutil.rmtree(dir, ignore_errors=True)
    return 1 if failed else 0


sys.exit(main())
