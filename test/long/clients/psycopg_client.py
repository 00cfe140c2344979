# psycopg 3: see access_clients.sh
import sys

import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as c:
    c.prepare_threshold = 0
    n = c.execute("SELECT count(*) FROM information_schema.views WHERE table_schema = 'crm'").fetchone()[0]
    print("views", "enough" if n >= 30 else "few")
    for person in ("agent", "rep"):
        c.execute(f"SET ROLE clients_{person}")
        row = c.execute("SELECT name, phone, annual_revenue FROM crm.account WHERE code = %s", ("C1",)).fetchone()
        print(person, *("null" if v is None else v for v in row))
    seen = []
    for person in ("agent", "rep", "agent"):
        c.execute(f"SET ROLE clients_{person}")
        seen.append(c.execute("SELECT phone FROM crm.account WHERE code = %s", ("C1",), prepare=True).fetchone()[0])
    print("prepared", *seen)
    c.execute("SET ROLE clients_rep")
    print("write", c.execute("UPDATE crm.account SET phone = %s WHERE code = %s RETURNING phone", ("13900139000", "C1")).fetchone()[0])
    try:
        c.execute("SELECT FROM crm_data.account")
    except psycopg.Error as e:
        print("refused", e.sqlstate)
