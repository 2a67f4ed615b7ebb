#!/bin/sh
# A private RabbitMQ node for tests, on loopback, without systemd.
#   rabbitmq.sh start DIR [PORT]   makes or starts the one that lives in DIR and prints its URL; without PORT a free one. Where
#                                  certificate.sh has been there, it speaks TLS too, at the port in DIR/tls/port
#   rabbitmq.sh stop DIR           ends it in order
#   rabbitmq.sh kill DIR           ends it with SIGKILL; what was confirmed is there after the next start
#   rabbitmq.sh ctl DIR ...        rabbitmqctl
# The packaged rabbitmq-server changes user and folder; the scripts below /usr/lib take everything from the environment and run
# as whoever calls them.
set -eu
. "$(dirname "$0")/common.sh"

command=${1:?start, stop, kill or ctl}
dir=${2:?a folder}
shift 2
bin=
for candidate in /usr/lib/rabbitmq/bin "$(dirname "$(command -v rabbitmq-server 2>/dev/null || echo /)")"; do
    if [ -z "$bin" ] && [ -x "$candidate/rabbitmq-server" ]; then bin=$candidate; fi
done
[ -n "$bin" ] || fail "RabbitMQ is not installed (Debian: rabbitmq-server)"

# Three ports of its own: AMQP, the distribution of Erlang, and the mapper of names, which outlives the node.
side_port() { # NAME
    [ -s "$dir/$1" ] || free_port >"$dir/$1"
    cat "$dir/$1"
}

case $command in
start) port=$(port_of "$dir" "${1:-}") ;;
*) port=$(cat "$dir/port") ;;
esac
# The cookie, and a name that no other node has.
export HOME="$dir/home" LANG=C.UTF-8
# Else a broker that is killed while it starts leaves one in the folder of whoever called.
export ERL_CRASH_DUMP="$dir/erl_crash.dump"
export RABBITMQ_NODENAME="test$port@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
RABBITMQ_DIST_PORT=$(side_port distribution)
ERL_EPMD_PORT=$(side_port mapper)
export RABBITMQ_DIST_PORT ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_BASE="$dir" RABBITMQ_MNESIA_BASE="$dir/mnesia" RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_PID_FILE="$dir/pid"
export RABBITMQ_CONF_ENV_FILE="$dir/environment" RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" RABBITMQ_CTL_ERL_ARGS=
export RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins"
# The distribution listens on loopback too; schedulers that have nothing to do sleep at once instead of spinning.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"

answers() { # True when AMQP is spoken: the answer to the protocol header begins with a method frame.
    bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "AMQP\0\0\11\1" >&3 && [ "$(head -c 1 <&3 | od -An -tu1)" -eq 1 ]' \
        bash "$port" 2>/dev/null
}

case $command in
start)
    mkdir -p "$HOME" "$dir/mnesia" "$dir/log"
    : >"$dir/environment"
    echo '[].' >"$dir/plugins"
    cat >"$dir/rabbitmq.conf" <<END
listeners.tcp.1 = 127.0.0.1:$port
log.file.level = warning
log.console = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 100MB
END
    if [ -f "$dir/tls/root.pem" ]; then
        [ -s "$dir/tls/port" ] || (free_port) >"$dir/tls/port"
        cat >>"$dir/rabbitmq.conf" <<END
listeners.ssl.1 = 127.0.0.1:$(cat "$dir/tls/port")
ssl_options.cacertfile = $dir/tls/root.pem
ssl_options.certfile = $dir/tls/certificate.pem
ssl_options.keyfile = $dir/tls/key.pem
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
END
    fi
    # A shell of its own without the caller's output: whoever reads the URL from a pipe waits until nobody holds it.
    (exec >"$dir/out" 2>&1 </dev/null; exec setsid "$bin/rabbitmq-server") &
    # Erlang starts in seconds, and in minutes on a machine that is busy with much else.
    tries=0
    until answers; do
        tries=$((tries + 1))
        [ "$tries" -le 3000 ] || { cat "$dir/out" >&2; fail "the node does not start"; }
        sleep 0.1
    done
    echo "amqp://guest:guest@127.0.0.1:$port/%2f"
    ;;
stop)
    node=$(cat "$dir/pid")
    kill -TERM "$node" 2>/dev/null || true
    while kill -0 "$node" 2>/dev/null; do sleep 0.1; done
    epmd -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1 || true
    ;;
kill) kill -KILL "$(cat "$dir/pid")" ;;
ctl) exec "$bin/rabbitmqctl" --node "$RABBITMQ_NODENAME" "$@" ;;
*) fail "$command: start, stop, kill or ctl" ;;
esac
