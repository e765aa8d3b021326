#!/bin/sh
# Makes the namespace with its retention and search attributes. May run again: what is there stays, retention is set anew.
# TEMPORAL_ADDRESS is read by the command itself.
set -eu
: "${TEMPORAL_ADDRESS:?}" "${TEMPORAL_NAMESPACE:?}"

ask() {
    temporal operator "$@" --namespace "$TEMPORAL_NAMESPACE"
}

ask namespace describe >/dev/null 2>&1 || ask namespace create --retention 30d
tries=30
until ask namespace update --retention 30d; do # a new namespace is known everywhere after some seconds
    tries=$((tries - 1))
    [ "$tries" -gt 0 ]
    sleep 1
done
# One by one: of several in one call, only one is made.
for name in HeadwayProject HeadwayEnvironment HeadwayProvider HeadwayStatus HeadwayTrigger; do
    ask search-attribute create --type Keyword --name "$name"
done
