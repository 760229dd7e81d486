#!/bin/sh
# The first start makes the home; every start brings its folders and its ledger up to date. The data lies in a volume,
# thau.toml in the container: configure by the environment (THAU_SIZE=1.5b, THAU_TRAINING__MIN_NEW_EXAMPLES=10).
set -eu

if [ "${1:-thaud}" = thaud ]; then
    thau init
fi
exec "$@"
