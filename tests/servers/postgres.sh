#!/bin/sh
# A private PostgreSQL server for tests, on loopback, without systemd.
#   postgres.sh start DIR [PORT]   makes or starts the one that lives in DIR and prints its URL; without PORT a free one
#   postgres.sh stop DIR           ends it in order
#   postgres.sh kill DIR           ends it with SIGKILL; what was committed is there after the next start
# PostgreSQL refuses to run as root: root calls this, the server runs as the package's user. Anybody else runs it as himself.
# A commit is handed to the system and not flushed to the disk: it survives the death of the server, which is what is tested.
set -eu
. "$(dirname "$0")/common.sh"

command=${1:?start, stop or kill}
dir=${2:?a folder}
bin=
for candidate in /usr/lib/postgresql/*/bin "$(dirname "$(command -v pg_ctl 2>/dev/null || echo /)")"; do
    if [ -x "$candidate/pg_ctl" ] && [ -x "$candidate/initdb" ]; then bin=$candidate; fi
done
[ -n "$bin" ] || fail "PostgreSQL is not installed (Debian: postgresql)"

case $command in
start)
    port=$(port_of "$dir" "${3:-}")
    own postgres "$dir"
    if [ ! -f "$dir/data/PG_VERSION" ]; then
        as postgres "$bin/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >"$dir.log" 2>&1 ||
            { cat "$dir.log" >&2; fail "the cluster cannot be made"; }
    fi
    # A server that was killed leaves its file behind, and another process may have its number by now.
    as postgres "$bin/pg_ctl" -w -t 90 -D "$dir/data" -l "$dir/log" -o "-c listen_addresses=127.0.0.1 -c port=$port \
        -c unix_socket_directories= -c fsync=off -c full_page_writes=off -c max_connections=400 -c shared_buffers=64MB" \
        start >>"$dir.log" 2>&1 || { cat "$dir.log" "$dir/log" >&2; fail "the server does not start"; }
    echo "postgres://postgres@127.0.0.1:$port/postgres"
    ;;
stop) as postgres "$bin/pg_ctl" -w -m fast -D "$dir/data" stop >/dev/null ;;
kill)
    # The postmaster first, or it would restart what is killed; its children then, or they would keep the folder.
    main=$(head -n 1 "$dir/data/postmaster.pid")
    children=$(ps -o pid= --ppid "$main" || true)
    kill -KILL "$main" $children
    # Whoever adopted it may be slow to bury it, and a number that is still known would forbid the next start.
    rm -f "$dir/data/postmaster.pid"
    ;;
*) fail "$command: start, stop or kill" ;;
esac
