#!/usr/bin/env bash
# Clients of four kinds: psql, psycopg, JDBC and ODBC each list the views, read masked rows, run a prepared statement across a change of role,
# write through a view, and are refused what the person may not do. One that is not installed is skipped, with a word.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/clients
db=crm_access_clients
dir=$(mktemp -d)
failed=0
export PGOPTIONS='-c client_min_messages=warning'
clean() { psql -Xq -d postgres -c "DROP DATABASE IF EXISTS $db WITH (FORCE)" -c 'DROP ROLE IF EXISTS clients_agent, clients_rep'; }
trap 'clean; rm -rf "$dir"' EXIT
clean
psql -Xq -v ON_ERROR_STOP=1 -d postgres -c "CREATE DATABASE $db ENCODING 'UTF8' TEMPLATE template0"
psql -Xq -v ON_ERROR_STOP=1 -d "$db" <<'SQL'
CREATE EXTENSION crm;
CALL crm.migrate();
CREATE ROLE clients_agent LOGIN IN ROLE crm_service;
CREATE ROLE clients_rep LOGIN IN ROLE crm_sales;
INSERT INTO crm_data.member (role_name, full_name) VALUES ('clients_agent', 'agent'), ('clients_rep', 'rep');
INSERT INTO crm_data.account (code, name, phone, annual_revenue, owner_id) SELECT 'C1', '客户一', '13800138000', 1000, id FROM crm_data.member WHERE role_name = 'clients_rep';
SQL

# what every client must say
cat > "$dir/expected" <<'TEXT'
views enough
agent 客户一 138****8000 null
rep 客户一 13800138000 1000.00
prepared 138****8000 13800138000 138****8000
write 13900139000
refused 42501
TEXT
# client NAME COMMAND ..
client()
{
    local name=$1
    shift
    if "$@" > "$dir/$name" 2> "$dir/$name.err" && diff "$dir/expected" "$dir/$name" > "$dir/diff"; then
        echo "ok - $name"
    else
        echo "not ok - $name"
        cat "$dir/diff" "$dir/$name.err" 2> /dev/null | sed 's/^/# /'
        failed=1
    fi
    psql -Xq -d "$db" -c "UPDATE crm_data.account SET phone = '13800138000' WHERE code = 'C1'"
}

client psql psql -XAtq -F ' ' -d "$db" -v VERBOSITY=sqlstate -f "$here/psql.sql"
if /usr/bin/python3 -c 'import psycopg' 2> /dev/null; then
    client psycopg /usr/bin/python3 "$here/psycopg_client.py" "dbname=$db"
else
    echo "ok - psycopg # SKIP python3-psycopg is not installed"
fi
if command -v java > /dev/null && [ -e /usr/share/java/postgresql.jar ]; then
    client jdbc env -u PGOPTIONS java -cp /usr/share/java/postgresql.jar "$here/JdbcClient.java" "jdbc:postgresql://127.0.0.1:$PGPORT/$db?user=$PGUSER"
else
    echo "ok - jdbc # SKIP libpostgresql-jdbc-java or java is not installed"
fi
if /usr/bin/python3 -c 'import pyodbc' 2> /dev/null && grep -q 'PostgreSQL Unicode' /etc/odbcinst.ini 2> /dev/null; then
    client odbc env -u PGOPTIONS /usr/bin/python3 "$here/odbc_client.py" "DRIVER={PostgreSQL Unicode};SERVER=127.0.0.1;PORT=$PGPORT;DATABASE=$db;UID=$PGUSER"
else
    echo "ok - odbc # SKIP odbc-postgresql or python3-pyodbc is not installed"
fi
exit $failed
