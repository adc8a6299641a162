#!/bin/sh
# Redis as a cache: nothing on disk, the least recently used key goes first.
#
#   entry.sh single [ARGS]    one node on REDIS_PORT (6379)
#   entry.sh cluster [ARGS]   one node per port of REDIS_CLUSTER_PORTS ("7001 7002 7003"), slots dealt out
#   entry.sh node PORT [ARGS] one node of the cluster again, after it was killed (docker exec -d)
#
# ARGS go to each redis-server. REDIS_CLUSTER_REPLICAS (0): replicas of each master, out of those ports.
# Publish each port under its own number (-p 127.0.0.1:7001:7001): nodes tell clients "127.0.0.1" and
# that port, which so means the same node inside the container and outside.
#
# Needs only redis-server, redis-cli and sh, so that it also runs in the public image, as the text of
# `sh -c`, whose next argument is $0: docker run IMAGE sh -c "$(cat entry.sh)" entry.sh cluster
set -eu
: "${REDIS_PORT:=6379}" "${REDIS_CLUSTER_PORTS:=7001 7002 7003}" "${REDIS_CLUSTER_REPLICAS:=0}"
FORM_TRIES=150 # of 0.1 s each, for the nodes to start and again for them to agree; 2 s were seen

die() { echo "chirp-redis: $*" >&2; exit 1; }

# Unprotected inside: the host publishes it on its loopback only.
server() {
    port=$1
    shift
    exec redis-server --port "$port" --bind 0.0.0.0 --protected-mode no --save '' --appendonly no \
        --maxmemory-policy allkeys-lru "$@"
}

# The nodes' own bus needs a second port each. Redis adds 10000, which overflows for ports above 55535,
# where hosts pick free ones; these are in nobody's way but a data port's.
bus_port() {
    bus=16001
    for each in $REDIS_CLUSTER_PORTS; do
        while taken "$bus"; do bus=$((bus + 1)); done
        [ "$each" = "$1" ] && echo "$bus" && return
        bus=$((bus + 1))
    done
    die "$1 is not among REDIS_CLUSTER_PORTS ($REDIS_CLUSTER_PORTS)"
}

taken() { case " $REDIS_CLUSTER_PORTS " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

node() {
    port=$1
    shift
    bus=$(bus_port "$port")
    mkdir -p "/data/$port"
    cd "/data/$port"
    # A dead master must be noticed in a test's patience; the others go on answering for their slots.
    server "$port" --cluster-enabled yes --cluster-config-file nodes.conf --cluster-port "$bus" \
        --cluster-announce-ip 127.0.0.1 --cluster-announce-port "$port" --cluster-announce-bus-port "$bus" \
        --cluster-node-timeout 2000 --cluster-require-full-coverage no "$@"
}

# Tries "$@" until it succeeds.
until_true() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt "$FORM_TRIES" ] || return 1
        sleep 0.1
    done
}

ask() { port=$1; shift; redis-cli -p "$port" "$@" 2>/dev/null; }
answers() { [ "$(ask "$1" ping)" = PONG ]; }
agrees() { ask "$1" cluster info | grep -q '^cluster_state:ok' && [ "$(ask "$1" cluster nodes | wc -l)" = "$count" ]; }

form() {
    set --
    for port in $REDIS_CLUSTER_PORTS; do
        until_true answers "$port" || die "the node on port $port does not answer"
        set -- "$@" "127.0.0.1:$port"
    done
    count=$#
    # After a restart the nodes know their slots from nodes.conf.
    if ! grep -q 'myself.* connected [0-9]' /data/*/nodes.conf; then
        redis-cli --cluster create "$@" --cluster-replicas "$REDIS_CLUSTER_REPLICAS" --cluster-yes >/tmp/create.log 2>&1 ||
            { cat /tmp/create.log >&2; die "redis-cli could not form the cluster"; }
    fi
    for port in $REDIS_CLUSTER_PORTS; do
        until_true agrees "$port" || die "the node on port $port does not see the whole cluster"
    done
    echo "chirp-redis: cluster of $count nodes is ready on $REDIS_CLUSTER_PORTS"
}

# A node that dies is not mourned: killing one is what tests do. The container ends with the last one.
cluster() {
    nodes=
    for port in $REDIS_CLUSTER_PORTS; do
        (node "$port" "$@") &
        nodes="$nodes $!"
    done
    # shellcheck disable=SC2086,SC2064 # the ids are words, and known now
    trap "kill -TERM $nodes 2>/dev/null || true" TERM INT
    # shellcheck disable=SC2086
    (form) || { kill -KILL $nodes 2>/dev/null; exit 1; }
    for id in $nodes; do
        # A trapped signal ends `wait` before the node has ended.
        while kill -0 "$id" 2>/dev/null; do wait "$id" || true; done
    done
}

mode=${1:-single}
[ $# -eq 0 ] || shift
case $mode in
    single) server "$REDIS_PORT" "$@" ;;
    cluster) cluster "$@" ;;
    node) [ $# -gt 0 ] || die "node: which port?"; node "$@" ;;
    *) die "unknown mode $mode: single, cluster or node" ;;
esac
