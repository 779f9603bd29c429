#!/usr/bin/env bash
# What the comparisons do where no peer can be had: say so in one line and end with exit code 3.
# Usage: without_network.sh SOURCE_DIR WORK_DIR. Exit code 77: no Python here.
set -euo pipefail

source_dir=$1
work_dir=$2

command -v python3 >/dev/null || { echo "no python3: skipped"; exit 77; }

fail() {
  echo "$*" >&2
  exit 1
}

# expect CODE TEXT COMMAND...: the exit code, and what standard error contains.
expect() {
  local code=$1 text=$2 status=0
  shift 2
  "$@" 2>"$work_dir/stderr" || status=$?
  [[ $status == "$code" ]] || fail "exit code $status, expected $code: $*"
  grep -qF -- "$text" "$work_dir/stderr" || fail "no '$text' in: $(<"$work_dir/stderr")"
  [[ $code != 3 || $(grep -c '^peers: ' "$work_dir/stderr") == 1 ]] || fail "more than one line: $*"
}

rm -rf "$work_dir"
mkdir -p "$work_dir"
# A registry that is not there, whatever the machine's settings of pip are.
export PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL=http://127.0.0.1:9/simple PIP_RETRIES=0
unset PIP_EXTRA_INDEX_URL PIP_FIND_LINKS

peers=(python3 "$source_dir/benchmarks/peers/peers.py")
expect 1 "the peer is 'nonsense'" "$source_dir/dev" peers nonsense
expect 1 "the peer is ''" "$source_dir/dev" peers
expect 2 "invalid choice" "${peers[@]}" nonsense
for name in ggml torch fla model; do
  expect 3 "peers: $name cannot be installed here: " "${peers[@]}" "$name" --quick --scratch "$work_dir/scratch"
done
# An installation that was given and lacks the peer is an error, not a reason to install anything.
expect 1 "peers: torch failed: " "${peers[@]}" torch --quick --scratch "$work_dir/scratch" --python /bin/false
