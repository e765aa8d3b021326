#!/bin/sh
# `keep COMMAND…` runs a command, and again whenever it ends by itself; TERM ends both.
#
# For the builder: a container goes with its first process, and builds are processes in the builder's container. With
# this one in front, a worker that dies is replaced and its builds go on.
stopping=
stop() {
    stopping=yes
    kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT
until [ "$stopping" ]; do
    "$@" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child"
    wait "$child"
    [ "$stopping" ] || sleep 1
done
wait "$child" || true
