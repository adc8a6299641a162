#!/bin/sh
# First start: makes the database and its superuser; every start: runs the server in the foreground.
# POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB as in the public image; arguments go to the server.
set -eu
bin=/usr/lib/postgresql/15/bin
: "${POSTGRES_USER:=chirp}" "${POSTGRES_PASSWORD:=chirp}" "${POSTGRES_DB:=$POSTGRES_USER}"

# Beside its place, then renamed: one killed halfway leaves no half database that looks whole.
make_database() {
    new=$PGDATA.new
    rm -rf "$new"
    password=$(mktemp)
    printf '%s' "$POSTGRES_PASSWORD" >"$password"
    "$bin/initdb" -D "$new" -U "$POSTGRES_USER" --pwfile="$password" --no-sync \
        --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=C.UTF-8 >/dev/null
    rm -f "$password"
    echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
    # In single-user mode: a server started only for this would cost half a second more.
    if [ "$POSTGRES_DB" != postgres ]; then
        printf 'CREATE DATABASE "%s"\n' "$POSTGRES_DB" | "$bin/postgres" --single -j -D "$new" postgres >/dev/null
    fi
    mv "$new" "$PGDATA"
}

[ -s "$PGDATA/PG_VERSION" ] || make_database
exec "$bin/postgres" -D "$PGDATA" -c listen_addresses='*' -k /tmp "$@"
