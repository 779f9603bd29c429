#!/usr/bin/env bash
# libraries_are_closed.sh LIBRARY...: nothing outside can take the place of what a library defines. A dynamic linker binds
# by relocations only, so none of a library's may name a symbol that the library defines itself.
set -euo pipefail

for library in "$@"; do
  wanted=$(readelf --relocs --wide "$library" | awk 'NF >= 5 {sub(/@.*/, "", $5); print $5}' | sort -u)
  defined=$(readelf --dyn-syms --wide "$library" | awk '$7 != "UND" && $4 ~ /FUNC|OBJECT|TLS/ {print $8}' |
    sed 's/@.*//' | sort -u)
  # Both lists must be what they should, or an empty intersection means nothing.
  grep -qx cblas_sgemm <<<"$wanted" || { echo "$library: cblas_sgemm is not among what it wants"; exit 1; }
  grep -q '^_ZN9deltatape.*3VecI' <<<"$defined" || { echo "$library: no function of Vec among what it defines"; exit 1; }
  open=$(comm -12 <(echo "$wanted") <(echo "$defined"))
  if [[ -n $open ]]; then
    echo "$library: others may replace these:"
    c++filt <<<"$open" | head -n 20
    exit 1
  fi
  echo "$library: closed"
done
