#!/bin/sh
# Brings Temporal's schema up to the version of this image. May run again, so that it is the upgrade's first step, too:
# one minor version at a time, this before the server.
set -eu

bring_up() { # database, directory of its schema
    temporal-sql-tool --plugin postgres12 --ep postgres -p 5432 -u temporal --db "$1" setup-schema -v 0.0
    temporal-sql-tool --plugin postgres12 --ep postgres -p 5432 -u temporal --db "$1" update-schema \
        -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

bring_up temporal temporal
bring_up temporal_visibility visibility
