#!/usr/bin/env bash
# numpy.sh PROGRAM SOURCE_DIR WORK_DIR: cases go to numpy and come back, in both formats; then a fault is planted.
# Ends with 77 where there is no python3 with numpy.
set -euo pipefail

program=$1 scripts=$2/examples/interop here=$2/tests/interop work=$3
export PYTHONDONTWRITEBYTECODE=1

if ! python3 -c 'import numpy' 2>/dev/null; then
  echo "skipped: python3 with numpy is not here (Debian: python3 python3-numpy)"
  exit 77
fi

fail() {
  echo "FAILED: $*"
  exit 1
}

rm -rf "$work"
mkdir -p "$work"
for format in npy safetensors; do
  cases=$work/$format
  "$program" cases make --space T=0..70,K=1..20,V=1..20,B=1..2 --count 12 --dtype f32,f64 --format "$format" \
    --out "$cases"
  python3 "$scripts/check_numpy.py" "$cases"
  "$program" cases check "$cases" --json "$work/$format.json" || fail "the numpy kernel does not pass ($format)"

  python3 "$here/spoil.py" "$cases" dk 1.01
  status=0
  "$program" cases check "$cases" >"$work/spoiled.txt" || status=$?
  [[ $status == 1 ]] || fail "dk times 1.01 ends with $status, expected 1 ($format)"
  grep -qE '^ *tensor +dk$' "$work/spoiled.txt" || fail "dk is not named: $(cat "$work/spoiled.txt")"
done
