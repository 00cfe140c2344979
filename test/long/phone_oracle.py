#!/usr/bin/python3
"""Telephone numbers of 20 countries, as python3-phonenumbers writes them, against crm.phone_key and crm.phone_parse.

Valid numbers of each country are made from the library's examples by a fixed arithmetic, and written in ten ways: as at home, with the country
code, with 00, with points, hyphens, brackets, full-width digits, an extension. The key must be the library's E.164 form. What is too short or too long for the
library must not be valid. The test fails if less
than the share LEAST agrees, of all or of any country. Arguments are taken to be numbers of China by the engine unless the country is given, which it
is here.

Needs a server (PGHOST, PGPORT, PGUSER) and the package python3-phonenumbers; without the latter it is skipped.
"""
import json
import os
import subprocess
import sys

try:
    import phonenumbers
    from phonenumbers import PhoneNumberFormat as F, PhoneNumberType as T
except ImportError:
    print("no python3-phonenumbers")
    sys.exit(77)

COUNTRIES = "CN HK TW US CA GB DE FR IT ES NL CH AT SE PL JP KR IN SG AU".split()
EACH = 60
LEAST = 0.99
LEAST_OF_COUNTRY = 0.97


def numbers(country):
    """Valid numbers: the examples of fixed and mobile lines with other digits behind the first."""
    state = 12345
    found = {}
    for kind in (T.FIXED_LINE, T.MOBILE):
        example = phonenumbers.example_number_for_type(country, kind)
        if example is None:
            continue
        digits = phonenumbers.national_significant_number(example)
        here = 0
        for _ in range(20000):
            state = (state * 1103515245 + 12345) % 2**31
            text = digits[:1] + str(state * 7919 + 10**11)[-(len(digits) - 1):]
            n = phonenumbers.PhoneNumber(country_code=example.country_code, national_number=int(text), italian_leading_zero=text.startswith("0") or None)
            # no line of China begins with 0 behind its area code, though the library's plan has room for it
            if country == "CN" and kind == T.FIXED_LINE and text[2 if text[0] in "12" else 3] == "0":
                continue
            if phonenumbers.is_valid_number(n) and phonenumbers.region_code_for_number(n) == country:
                e164 = phonenumbers.format_number(n, F.E164)
                if e164 not in found:
                    found[e164] = n
                    here += 1
            if here == EACH // 2:
                break
    return found


def spellings(n):
    national = phonenumbers.format_number(n, F.NATIONAL)
    international = phonenumbers.format_number(n, F.INTERNATIONAL)
    e164 = phonenumbers.format_number(n, F.E164)
    wide = str.maketrans("0123456789+", "".join(chr(0xFF10 + i) for i in range(10)) + "\uff0b")
    return {
        "national": national,
        "national, digits": "".join(c for c in national if c.isdigit()),
        "national, points": national.replace(" ", ".").replace("-", "."),
        "international": international,
        "E.164": e164,
        "00": "00" + e164[1:],
        "hyphens": international.replace(" ", "-"),
        "full width": e164.translate(wide),
        "extension": international + " ext. 123",
        "words around": "Tel: " + international,
    }


def main():
    cases = []
    for country in COUNTRIES:
        for e164, n in numbers(country).items():
            for way, text in spellings(n).items():
                cases.append({"country": country, "way": way, "v": text, "e164": e164})
            digits = phonenumbers.national_significant_number(n)
            for text in ("+%d %s" % (n.country_code, digits[:4]), "+%d %s" % (n.country_code, digits + "123456")):
                if not phonenumbers.is_possible_number(phonenumbers.parse(text)):
                    cases.append({"country": country, "way": "too short or too long", "v": text, "e164": None})
    database = "crm_phone_oracle_%d" % os.getpid()

    def sql(text, db=database):
        return subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db], input=text, text=True, check=True, stdout=subprocess.PIPE).stdout

    sql("CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE template0" % database, "postgres")
    try:
        sql("CREATE EXTENSION crm")
        quoted = json.dumps(cases).replace("'", "''")
        rows = json.loads(sql(
            "SELECT json_agg(json_build_object('key', crm.phone_key(c.v, c.country), 'valid', (SELECT bool_or(p.valid) FROM crm.phone_parse(c.v, c.country) AS p)) ORDER BY c.o)"
            " FROM ROWS FROM (json_to_recordset('%s') AS (country text, v text)) WITH ORDINALITY AS c (country, v, o);" % quoted))
    finally:
        sql("DROP DATABASE %s" % database, "postgres")
    agreed = {}
    wrong = []
    for case, row in zip(cases, rows):
        ok = row["key"] == case["e164"] and row["valid"] if case["e164"] else not row["valid"]
        for group in (case["country"], "way: " + case["way"], "all"):
            a, b = agreed.get(group, (0, 0))
            agreed[group] = (a + ok, b + 1)
        if not ok:
            wrong.append((case, row))
    shown = set()
    for case, row in wrong:
        if (case["country"], case["way"]) not in shown:
            shown.add((case["country"], case["way"]))
            print("# %s, %s: %s is %s for the library, %s (valid: %s) here" % (case["country"], case["way"], case["v"], case["e164"], row["key"], row["valid"]))
    failed = 0
    for group, (a, b) in agreed.items():
        if group.startswith("way"):
            print("# %s: %d of %d" % (group, a, b))
            continue
        least = LEAST if group == "all" else LEAST_OF_COUNTRY
        ok = b >= EACH // 2 * 10 and a >= b * least
        failed += not ok
        print("%s - phones of %s: %.4f of %d agree, at least %.2f must" % ("ok" if ok else "not ok", group, a / b, b, least))
    return 1 if failed else 0


sys.exit(main())
