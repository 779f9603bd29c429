#!/usr/bin/env bash
# chosen_at_load_time.sh MIXED [DELTATAPE]: the same programs with AVX-512 and, where glibc is told that there is none,
# without. MIXED says after its checks which library it has; the command does a few gradient checks with each.
set -euo pipefail

without=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD
export LD_BIND_NOW=1  # a function that only one library has is an error at once

# check LEVEL COMMAND...: succeeds and has "instruction_set LEVEL" among its output.
check() {
  local level=$1 out
  shift
  out=$("$@" 2>&1) || { printf '%s\n%s failed\n' "$out" "$*"; exit 1; }
  grep -qE "^instruction_set +$level\$" <<<"$out" || { printf '%s\n%s: expected %s\n' "$out" "$*" "$level"; exit 1; }
}

# check_both LEVEL [NAME=VALUE]: for a processor of this level.
check_both() {
  local level=$1
  shift
  check "$level" env "$@" "$mixed"
  [[ -n $program ]] || return 0
  check "$level" env "$@" "$program" info
  env "$@" "$program" gradcheck --seeds 2 --shape 1,40,1,2,20,12 --impl fused-recurrent,fused-chunk | tail -n 1
}

mixed=$1
program=${2-}
check_both x86-64-v3 GLIBC_TUNABLES=$without
if [[ $(grep -m1 '^flags' /proc/cpuinfo | tr ' ' '\n' | grep -cxE 'avx512(f|vl|bw|dq|cd)') != 5 ]]; then
  echo "x86-64-v3 is right; skipped the rest: this processor has no AVX-512"
  exit 77
fi
check_both x86-64-v4
echo "x86-64-v4 here, x86-64-v3 without AVX-512"
