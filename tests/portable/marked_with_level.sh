#!/usr/bin/env bash
# marked_with_level.sh BASE BEST PROGRAM...: each says what the processor must have, so that the loader can refuse it.
set -euo pipefail

check() {
  readelf --notes --wide "$2" 2>/dev/null | grep -qE "x86 ISA needed: .*$1(,|\$)" ||
    { echo "$2: not marked with $1"; exit 1; }
}
base=$1
best=$2
shift 2
check x86-64-v3 "$base"
check x86-64-v4 "$best"
for program in "$@"; do
  check x86-64-v3 "$program"
done
