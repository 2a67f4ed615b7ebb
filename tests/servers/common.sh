# Shared by the scripts beside it.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# The port of the server in a folder: the given one, else the one it had, else one that is free.
port_of() { # DIR PORT
    mkdir -p "$1"
    if [ -n "$2" ]; then
        echo "$2" >"$1/port"
    elif [ ! -s "$1/port" ]; then
        free_port >"$1/port"
    fi
    cat "$1/port"
}

free_port() {
    # Below the range from which the system gives ports to those who do not ask for one.
    tries=0
    while [ "$tries" -lt 200 ]; do
        tries=$((tries + 1))
        port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
        # /proc has ports in hexadecimal, of both families.
        if ! grep -qi ":$(printf '%04X' "$port") " /proc/net/tcp /proc/net/tcp6 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    fail "no port is free"
}

# Gives a folder to the user as whom the server runs.
own() { # USER DIR
    if [ "$(id -u)" -eq 0 ]; then chown "$1" "$2" && chmod 755 "$2"; fi
}

# Runs a command as that user when root asks, else as who asks.
as() { # USER COMMAND...
    user=$1
    shift
    if [ "$(id -u)" -eq 0 ]; then
        (cd / && exec setpriv --reuid="$user" --regid="$user" --init-groups env HOME=/nonexistent LC_ALL=C.UTF-8 "$@")
    else
        (cd / && exec env LC_ALL=C.UTF-8 "$@")
    fi
}
