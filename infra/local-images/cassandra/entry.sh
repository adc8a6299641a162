#!/bin/sh
# Runs Cassandra in the foreground. Of the public image's variables it honours:
#   CASSANDRA_BROADCAST_RPC_ADDRESS (127.0.0.1)   the address that drivers are told to dial
#   MAX_HEAP_SIZE (512M)                          the heap
#   JVM_EXTRA_OPTS                                more options of the JVM, split at blanks
set -eu
: "${CASSANDRA_BROADCAST_RPC_ADDRESS:=127.0.0.1}" "${MAX_HEAP_SIZE:=512M}" "${JVM_EXTRA_OPTS:=}"
settings=/var/lib/cassandra/cassandra.yaml
sed "s/^broadcast_rpc_address:.*/broadcast_rpc_address: $CASSANDRA_BROADCAST_RPC_ADDRESS/" /etc/cassandra/cassandra.yaml >"$settings"
# shellcheck disable=SC2086 # the options are words
exec java @/etc/cassandra/jvm.options "-Xms$MAX_HEAP_SIZE" "-Xmx$MAX_HEAP_SIZE" \
    "-Dcassandra.config=file://$settings" $JVM_EXTRA_OPTS \
    -cp "/opt/cassandra/lib/*:/etc/cassandra" org.apache.cassandra.service.CassandraDaemon
