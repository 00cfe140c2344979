#!/usr/bin/perl
# Every report as a person sees it: rendered by crm.report_html from generated data in English and Chinese, opened in headless Chromium as wide as a
# phone and as a desk, and measured in the page: nothing sticks out, no text of a drawing runs into another or out of it, none is too small to read, what a
# hostile name says stays text. The screenshot must not be empty; it stays in the folder that CRM_SCREENSHOTS names, if it does.
#
# Chromium is driven over its debugging pipe (file descriptors 3 and 4), which needs nothing but Perl: pages forbid scripts, and so does this test.
use strict;
use warnings;
use utf8;
use Encode qw(decode encode);
use File::Temp qw(tempdir);
use IO::Handle;
use JSON::PP;
use MIME::Base64;
use Compress::Zlib;
use POSIX ();

my ($browser) = grep { -x } map { my $d = $_; map {"$d/$_"} qw(chromium chromium-browser google-chrome) } split /:/, $ENV{PATH};
if (!$browser)
{
	print "chromium is not installed\n";
	exit 77;
}
my $dir = tempdir(CLEANUP => 1);
my $shots = $ENV{CRM_SCREENSHOTS};
my $db = 'crm_report_pages';
my $json = JSON::PP->new->utf8;
binmode STDOUT, ':utf8';

sub psql
{
	my ($database, $sql) = @_;
	open my $out, '>', "$dir/sql" or die $!;
	print $out encode('UTF-8', $sql);
	close $out;
	my $answer = `psql -XAtq -v ON_ERROR_STOP=1 -d $database -f $dir/sql 2>$dir/err`;
	if ($?)
	{
		open my $err, '<', "$dir/err";
		die join '', <$err>;
	}
	return decode('UTF-8', $answer);
}

# ---------------------------------------------------------------- data and pages

psql('postgres', "DROP DATABASE IF EXISTS $db");
psql('postgres', "CREATE DATABASE $db");
END { my $rc = $?; system("psql -Xq -d postgres -c 'DROP DATABASE IF EXISTS $db WITH (FORCE)' >/dev/null 2>&1") if $db && -d $dir; $? = $rc }
psql($db, <<'SQL');
SET client_min_messages = warning;
SET timezone = 'Asia/Shanghai';
CREATE EXTENSION crm;
CALL crm.migrate();
SELECT count(*) FROM crm.demo_data(120, 7);
-- names that want to be more than names
UPDATE crm_data.account AS a SET name = h.name FROM (VALUES (1, '<script>window.hit=1</script>'), (2, '"><img src=x onerror=window.hit=1>'), (3, '</text></svg><b onclick=1>&amp;'), (4, E'\u202Eesrever \u2067and\u200F more'), (5, repeat('很长的公司名称', 12)), (6, repeat('unbreakable', 15))) AS h (n, name),
       (SELECT x.id, row_number() OVER (ORDER BY x.amount DESC NULLS LAST, x.id) AS n FROM (SELECT o.account_id AS id, max(o.amount) AS amount FROM crm_data.opportunity AS o WHERE o.outcome = 'open' GROUP BY 1) AS x) AS b WHERE b.id = a.id AND b.n = h.n;
UPDATE crm_data.team SET name = '<script>window.hit=1</script> & "team"' WHERE id = (SELECT team_id FROM crm_data.account WHERE name LIKE '<script>%' LIMIT 1);
UPDATE crm_data.member SET full_name = E'\u202Eemoc \'"><svg onload=window.hit=1>' WHERE id = (SELECT owner_id FROM crm_data.account WHERE name LIKE '<script>%' LIMIT 1);
-- other systems' copies: most as ours, some not
DO $$
BEGIN
    PERFORM crm.stage_external('erp', 'E' || a.id, jsonb_build_object('customer_no', a.code, 'customer_name', a.name, 'tax_no', a.uscc, 'tel', CASE WHEN a.id % 5 = 0 THEN '13899990000' ELSE a.phone END, 'trade', a.industry, 'city', CASE WHEN a.id % 30 = 0 THEN 'Elsewhere' ELSE a.city END, 'email', a.email))
       FROM crm_data.account AS a WHERE a.code IS NOT NULL;
    PERFORM crm.stage_external('marketing', 'M' || a.id, jsonb_build_object('customer_code', a.code, 'company', a.name, 'phone', a.phone, 'industry', CASE WHEN a.id % 4 = 0 THEN 'other' ELSE a.industry END)) FROM crm_data.account AS a WHERE a.code IS NOT NULL;
    PERFORM crm.stage_external('erp', 'NOBODY', '{"customer_no": "NOBODY"}');
END
$$;
UPDATE crm_data.stage_history SET recorded_at = entered_at;
SELECT crm.odds_refit('2026-09-01'), crm.freeze_forecast('[2026-10-01,2026-11-01)', '2026-10-01');
INSERT INTO crm_data.alert (kind, level, message, account_id, owner_id) SELECT 'risk', CASE WHEN a.id % 2 = 0 THEN 'red' ELSE 'orange' END, 'Risk of ' || left(a.name, 60), a.id, a.owner_id FROM crm_data.account AS a ORDER BY a.id LIMIT 5;
SELECT crm._score_health('2026-11-20 18:00');
SELECT crm._job_consistency_scan('2026-11-20 02:30'), crm._job_report_check('2026-11-19 01:30'), crm._job_report_check('2026-11-20 01:30'), crm._job_field_map_check(now()), crm._job_field_review('2026-10-01 09:00'), crm._job_morning_brief('2026-11-20 08:00'), crm._job_director_daily('2026-11-20 08:15'),
       crm._job_action_heatmap('2026-11-16 08:30'), crm._job_bottleneck_brief('2026-11-16 10:00'), crm._job_monthly_snapshot('2026-11-01'), crm._job_team_performance('2026-11-01 01:00'), crm._job_access_audit('2026-11-01 03:00'), crm._job_health_report('2026-11-01 09:00'), crm._job_deviation('2026-11-15 08:00');
SQL

# each stored report, the fullest copy of it; and what people ask for themselves
my %body = map { split /\t/, $_, 2 } split /\n/, psql($db, <<'SQL');
SELECT DISTINCT ON (s.report) s.report || E'\t' || crm.report_body(s.id)::text FROM crm_data.report_snapshot AS s ORDER BY s.report, jsonb_array_length(s.body -> 'rows') DESC, s.seq DESC;
SELECT E'my_board\t' || (jsonb_build_object('part', 'part', 'columns', '["account", "title", "due_at", "days", "level", "score", "deals", "amount", "currency", "won_rate"]'::jsonb, 'say', '["level"]'::jsonb, 'rows', (SELECT jsonb_agg(to_jsonb(b)) FROM (
    SELECT 'todo' AS part, a.name AS account, 'Send the quote' AS title, now() AS due_at, -3 AS days, NULL AS level, NULL::int AS score, NULL::int AS deals, NULL::numeric AS amount, NULL AS currency, NULL::numeric AS won_rate FROM (SELECT * FROM crm_data.account ORDER BY name LIMIT 3) AS a
    UNION ALL SELECT 'risk', a.name, NULL, NULL, NULL, 'red', 97, 3, 1234567.89, 'CNY', NULL FROM (SELECT * FROM crm_data.account ORDER BY name LIMIT 3) AS a) AS b)))::text;
SELECT E'receivable_health\t' || coalesce((SELECT jsonb_agg(to_jsonb(r)) FROM (SELECT * FROM crm.receivable_health('2026-11-20') LIMIT 30) AS r), '[]')::text;
SELECT E'followup_watch\t' || coalesce((SELECT jsonb_agg(to_jsonb(r)) FROM (SELECT * FROM crm.followup_watch('2026-11-20') LIMIT 30) AS r), '[]')::text;
SELECT E'funnel\t' || (jsonb_build_object('rows', (SELECT jsonb_agg(to_jsonb(f)) FROM crm.funnel('[2025-01-01,2026-12-01)') AS f), 'columns', '["label", "deals", "amount", "currency", "of_first_rate", "of_before_rate"]'::jsonb, 'chart', '{"kind": "funnel", "label": "label", "value": "deals"}'::jsonb))::text;
SELECT E'waterfall_wide\t' || (jsonb_build_object('rows', (SELECT jsonb_agg(jsonb_build_object('step', repeat('A long step ', n), 'amount', (CASE n % 3 WHEN 0 THEN -1 ELSE 1 END) * 98765432109.87 * n)) FROM generate_series(1, 12) AS n), 'chart', '{"kind": "waterfall", "label": "step", "value": "amount"}'::jsonb))::text;
SELECT E'heat_wide\t' || (jsonb_build_object('rows', (SELECT jsonb_agg(jsonb_build_object('team', 'Team 第' || c || '销售团队 <b>', 'action', repeat('动作 action ', r), 'done_rate', ((r * c) % 11) / 10.0)) FROM generate_series(1, 9) AS r, generate_series(1, 12) AS c), 'chart', '{"kind": "heat", "label": "action", "column": "team", "value": "done_rate"}'::jsonb))::text;
SELECT E'trend_long\t' || (jsonb_build_object('rows', (SELECT jsonb_agg(jsonb_build_object('month', to_char(date '2023-01-01' + make_interval(months => n), 'YYYY-MM'), 'amount', 1e9 * abs(sin(n)))) FROM generate_series(0, 35) AS n), 'chart', '{"kind": "trend", "label": "month", "value": "amount"}'::jsonb))::text;
SQL

my @wanted = qw(access_audit action_heatmap bottleneck_brief consistency_scan deviation director_daily field_map_check field_review health_report monthly_snapshot morning_brief report_check team_performance);
my ($passed, $failed) = (0, 0);

sub ok
{
	my ($good, $what, @why) = @_;
	print +($good ? 'ok' : 'not ok'), " - $what\n";
	print "#   $_\n" for $good ? () : @why;
	$good ? $passed++ : $failed++;
}
for my $report (@wanted)
{
	ok(exists $body{$report} && @{ $json->decode(encode('UTF-8', $body{$report}))->{rows} } > 0, "$report: the generated data give it rows");
}

# ---------------------------------------------------------------- the browser

pipe(my $from_test, my $to_browser) or die $!;
pipe(my $from_browser, my $to_test) or die $!;
my $pid = fork() // die $!;
if (!$pid)
{
	# out of the way first: 3 and 4 may be the very pipes
	my $in = POSIX::dup(fileno $from_test);
	my $out = POSIX::dup(fileno $to_test);
	my $i = $in;
	$i = POSIX::dup($i) while $i < 10;
	my $o = $out;
	$o = POSIX::dup($o) while $o < 10;
	POSIX::dup2($i, 3);
	POSIX::dup2($o, 4);
	open STDERR, '>', "$dir/browser.log";
	open STDOUT, '>', '/dev/null';
	{ no warnings; exec {$browser} $browser, qw(--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run --disable-extensions --remote-debugging-pipe), "--user-data-dir=$dir/profile", 'about:blank' }
	POSIX::_exit(127);
}
close $from_test;
close $to_test;
END { if ($pid) { my $rc = $?; kill 'TERM', $pid; waitpid $pid, 0; $? = $rc } }
$to_browser->autoflush(1);
binmode $_ for $to_browser, $from_browser;
$SIG{ALRM} = sub { print "not ok - the browser answers\n"; exit 1 };
my ($number, $session, $buffer) = (0, undef, '');

sub message
{
	alarm 60;
	while ((my $end = index $buffer, "\0") < 0)
	{
		sysread($from_browser, $buffer, 1 << 20, length $buffer) or die "the browser is gone: " . `tail -n 5 $dir/browser.log`;
	}
	alarm 0;
	my $end = index $buffer, "\0";
	my $text = substr $buffer, 0, $end, '';
	substr $buffer, 0, 1, '';
	# a picture is long, and a JSON parser in Perl is slow
	return { id => $1, result => { data => $2 } } if length $text > 20000 && $text =~ /^\{"id":(\d+),"result":\{"data":"([^"]+)"/;
	return $json->decode($text);
}

sub call
{
	my ($method, $params, $event) = @_;
	my $id = ++$number;
	print $to_browser $json->encode({ id => $id, method => $method, params => $params || {}, $session ? (sessionId => $session) : () }), "\0";
	my ($answer, $happened);
	while (!$answer || ($event && !$happened))
	{
		my $m = message();
		$answer = $m if ($m->{id} // 0) == $id;
		$happened = 1 if $event && ($m->{method} // '') eq $event;
		die "$method: $m->{error}{message}" if $answer && $answer->{error};
	}
	return $answer->{result};
}
my $target = call('Target.createTarget', { url => 'about:blank' });
$session = call('Target.attachToTarget', { targetId => $target->{targetId}, flatten => JSON::PP::true })->{sessionId};
call('Page.enable');

# What is wrong with the page, as a list of sentences. A text of a drawing is the four corners of its box where they really are, slanted ones too; two run
# into each other unless some line keeps them apart (separating axes).
my $measure = <<'JS';
(() => {
	const bad = [], width = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth > width) bad.push(`${document.documentElement.scrollWidth} wide on a screen of ${width}`);
	if (document.scripts.length || window.hit) bad.push('a script');
	if (document.querySelector('img,iframe,object,embed,link,form,b,audio,video,base')) bad.push('an element that no report has');
	for (const e of document.querySelectorAll('*')) for (const a of e.attributes)
		if (/^on/i.test(a.name) || (/^(href|src|xlink:href|action)$/i.test(a.name))) bad.push(`an attribute ${a.name}`);
	if (/[\u202a-\u202e\u2066-\u2069\u200e\u200f]/.test(document.documentElement.outerHTML)) bad.push('a mark that turns the direction of the text');
	for (const e of document.querySelectorAll('h1,h2,h3,p,td,th,li,footer,section'))
		{ const r = e.getBoundingClientRect(); if (!e.closest('.scroll') && (r.right > width + 1 || r.left < -1)) bad.push(`${e.tagName} sticks out: ${e.textContent.slice(0, 40)}`);
		  if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && !/^(TD|TH)$/.test(e.tagName) && !e.querySelector('.scroll')) bad.push(`${e.tagName} holds more than fits: ${e.textContent.slice(0, 40)}`); }
	const corners = (t) => { const b = t.getBBox(), m = t.getScreenCTM(), pad = Math.min(3, b.height / 6);
		return [[b.x, b.y + pad], [b.x + b.width, b.y + pad], [b.x + b.width, b.y + b.height - pad], [b.x, b.y + b.height - pad]].map(([x, y]) => [m.a * x + m.c * y + m.e, m.b * x + m.d * y + m.f]); };
	const apart = (p, q) => [p, q].some(k => k.some((c, i) => { const d = k[(i + 1) % 4], n = [d[1] - c[1], c[0] - d[0]];
		const s = p.map(v => v[0] * n[0] + v[1] * n[1]), t = q.map(v => v[0] * n[0] + v[1] * n[1]), len = Math.hypot(...n) || 1;
		return Math.max(...s) <= Math.min(...t) + 0.5 * len || Math.max(...t) <= Math.min(...s) + 0.5 * len; }));
	let drawings = 0;
	for (const svg of document.querySelectorAll('svg')) {
		drawings++;
		const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim()), box = svg.getBoundingClientRect(), at = texts.map(corners);
		texts.forEach((t, i) => {
			const size = parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b);
			if (size < 10.5) bad.push(`text of ${size.toFixed(1)} pixels: ${t.textContent}`);
			if (at[i].some(([x, y]) => x < box.left - 2 || x > box.right + 2 || y < box.top - 2 || y > box.bottom + 2)) bad.push(`out of its drawing: ${t.textContent}`);
			for (let j = 0; j < i; j++) if (!apart(at[i], at[j])) bad.push(`"${texts[j].textContent}" runs into "${t.textContent}"`);
		});
	}
	return JSON.stringify({ bad: bad.slice(0, 8), drawings, height: document.documentElement.scrollHeight, text: document.body.innerText.length });
})()
JS

# Rows of pixels that differ: a page of one colour has one or two, whatever the filter of its rows.
sub rows_of
{
	my ($png) = @_;
	my ($pos, $data, $stride) = (8, '', 0);
	while ($pos < length $png)
	{
		my ($length, $type) = unpack 'NA4', substr $png, $pos, 8;
		if ($type eq 'IHDR')
		{
			my ($w, $h, $depth, $colour) = unpack 'NNCC', substr $png, $pos + 8, 10;
			$stride = 1 + $w * ($colour == 6 ? 4 : $colour == 2 ? 3 : 1) * $depth / 8;
		}
		$data .= substr $png, $pos + 8, $length if $type eq 'IDAT';
		$pos += 12 + $length;
	}
	my $raw = uncompress($data);
	my %seen;
	$seen{ substr $raw, $_ * $stride, $stride }++ for 0 .. length($raw) / $stride - 1;
	return scalar keys %seen;
}

for my $report (sort keys %body)
{
	for my $locale (qw(en zh))
	{
		(my $quoted = $body{$report}) =~ s/'/''/g;
		my $page = psql($db, "SELECT crm.report_html('$report', '$quoted'::jsonb, '$locale')");
		my $file = "$dir/$report.$locale.html";
		open my $out, '>', $file or die $!;
		print $out encode('UTF-8', $page);
		close $out;
		for my $screen ([ 'phone', 390, 844, 2 ], [ 'desk', 1280, 900, 1 ])
		{
			my ($name, $width, $height, $scale) = @$screen;
			call('Emulation.setDeviceMetricsOverride', { width => $width, height => $height, deviceScaleFactor => $shots ? $scale : 1, mobile => $name eq 'phone' ? JSON::PP::true : JSON::PP::false });
			call('Page.navigate', { url => "file://$file" }, 'Page.loadEventFired');
			my $answer = call('Runtime.evaluate', { expression => $measure, returnByValue => JSON::PP::true });
			my $seen = $answer->{exceptionDetails} ? { bad => [ $answer->{exceptionDetails}{exception}{description} ], text => 0, height => 1 } : $json->decode(encode('UTF-8', $answer->{result}{value}));
			my $long = $seen->{height} < 6000 ? $seen->{height} : 6000;
			my $shot = decode_base64(call('Page.captureScreenshot', { format => 'png', captureBeyondViewport => JSON::PP::true, clip => { x => 0, y => 0, width => $width, height => $long, scale => 1 } })->{data});
			if ($shots)
			{
				mkdir $shots;
				open my $png, '>:raw', "$shots/$report.$locale.$name.png" or die $!;
				print $png $shot;
				close $png;
			}
			my $rows = rows_of($shot);
			ok(!@{ $seen->{bad} } && $seen->{text} > 20 && $rows > 20, "$report in $locale on a $name", @{ $seen->{bad} }, $rows > 20 ? () : "the picture has $rows different rows");
		}
	}
}
print "# $passed passed, $failed failed\n";
exit($failed ? 1 : 0);
