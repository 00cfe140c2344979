# ODBC: see access_clients.sh
import sys

import pyodbc

c = pyodbc.connect(sys.argv[1], autocommit=True)
q = c.cursor()
n = len([t for t in q.tables(schema="crm") if t.table_type == "VIEW"])
print("views", "enough" if n >= 30 else "few")
for person in ("agent", "rep"):
    q.execute(f"SET ROLE clients_{person}")
    row = q.execute("SELECT name, phone, annual_revenue FROM crm.account WHERE code = ?", "C1").fetchone()
    print(person, *("null" if v is None else v for v in row))
seen = []
for person in ("agent", "rep", "agent"):
    c.cursor().execute(f"SET ROLE clients_{person}")
    seen.append(q.execute("SELECT phone FROM crm.account WHERE code = ?", "C1").fetchone()[0])
print("prepared", *seen)
q.execute("SET ROLE clients_rep")
print("write", q.execute("UPDATE crm.account SET phone = ? WHERE code = ? RETURNING phone", "13900139000", "C1").fetchone()[0])
try:
    q.execute("SELECT id FROM crm_data.account")
except pyodbc.Error as e:
    print("refused", e.args[0])
