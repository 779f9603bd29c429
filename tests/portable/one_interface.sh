#!/usr/bin/env bash
# one_interface.sh LIBRARY OTHER: both define the same functions and data outside of headers under the same name of a
# library, and none of them has a SIMD register in its signature.
set -euo pipefail

soname() { readelf --dynamic --wide "$1" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p'; }
# Strong symbols. Those of inline functions and templates are weak; a program brings its own.
interface() { readelf --dyn-syms --wide "$1" | awk '$5 == "GLOBAL" && $7 != "UND" {print $4, $8}' | LC_ALL=C sort; }

[[ $(soname "$1") == "$(soname "$2")" ]] || { echo "'$(soname "$1")' and '$(soname "$2")' are two names"; exit 1; }
[[ $(soname "$1") == libdeltatape.so.* ]] || { echo "'$(soname "$1")', expected libdeltatape.so.VERSION"; exit 1; }
interface "$1" | grep -q ' _ZN9deltatape7versionEv$' || { echo "$1: version() is not in its interface"; exit 1; }
diff <(interface "$1") <(interface "$2") || { echo "the interfaces differ"; exit 1; }
if interface "$1" | grep -E '5xsimd|3cpu3VecI|Dv[0-9]+_[fd]'; then
  echo "these mean something else in each library"
  exit 1
fi
echo "$(interface "$1" | wc -l) functions and data in both"
