#!/bin/sh
# A private MariaDB server for tests, on loopback, without systemd.
#   mariadb.sh start DIR [PORT]   makes or starts the one that lives in DIR and prints its URL; without PORT a free one
#   mariadb.sh stop DIR           ends it in order
#   mariadb.sh kill DIR           ends it with SIGKILL; what was committed is there after the next start
# Called by root, the server runs as the package's user; called by anybody else, as himself.
# A commit is handed to the system and flushed once a second: it survives the death of the server, which is what is tested.
set -eu
. "$(dirname "$0")/common.sh"

command=${1:?start, stop or kill}
dir=${2:?a folder}
PATH=$PATH:/usr/sbin:/usr/local/sbin
command -v mariadbd >/dev/null 2>&1 || fail "MariaDB is not installed (Debian: mariadb-server)"

case $command in
start)
    port=$(port_of "$dir" "${3:-}")
    own mysql "$dir"
    # A server that starts clears away the temporary tables that it finds: in a folder of its own, not those of others.
    as mysql mkdir -p "$dir/tmp"
    if [ ! -d "$dir/data/mysql" ]; then
        as mysql mariadb-install-db --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" \
            --auth-root-authentication-method=normal --skip-test-db >"$dir.log" 2>&1 || { cat "$dir.log" >&2; fail "the data folder cannot be made"; }
    fi
    # A shell of its own without the caller's output: whoever reads the URL from a pipe waits until nobody holds it.
    (exec >/dev/null 2>&1 </dev/null
    as mysql setsid mariadbd --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" --port="$port" \
        --bind-address=127.0.0.1 --socket="$dir/socket" --pid-file="$dir/pid" --log-error="$dir/log" --skip-name-resolve --max-connections=400 \
        --innodb-flush-log-at-trx-commit=2 --innodb-flush-method=nosync --innodb-log-file-size=64M --debug-no-sync \
        ) &
    tries=0
    until mariadb-admin --no-defaults --user=root --host=127.0.0.1 --port="$port" ping >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -le 900 ] || { cat "$dir/log" >&2; fail "the server does not start"; }
        sleep 0.1
    done
    echo "mysql://root@127.0.0.1:$port/mysql"
    ;;
stop) mariadb-admin --no-defaults --user=root --host=127.0.0.1 --port="$(cat "$dir/port")" shutdown ;;
kill) kill -KILL "$(cat "$dir/pid")" ;;
*) fail "$command: start, stop or kill" ;;
esac
