#!/usr/bin/env bash
# The kernel under AddressSanitizer and UBSan, built in a copy: its tests, and SECONDS of fuzzing beside them. Needs gcc.
# With the PROFILE full the tests make up five times as much input as with quick.
#
#   tests/fuzz/sanitize.sh [PYTHON] [PROFILE] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(realpath -s "${1:-.venv/bin/python}")
profile=${2:-quick}
seconds=${3:-45}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

tar -c --exclude='*.so' --exclude='__pycache__' \
    pyproject.toml setup.py README.md io transforms pipelines src tests | tar -x -C "$copy"
cd "$copy"
flags="-fsanitize=address,undefined -fno-sanitize-recover=all"
CC=gcc PENSTOCK_CFLAGS="$flags -fno-omit-frame-pointer -g -O1" LDFLAGS="$flags" \
    "$python" setup.py -q build_ext --inplace --parallel 2

# Python's own allocator would put objects where the sanitizer does not look.
export ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH="$copy/src:$copy/tests"
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
export LD_PRELOAD
"$python" -c 'from penstock.io.kernel import native; assert native.ENABLED, "the kernel was not built"
assert native.__file__.startswith("'"$copy"'"), native.__file__'
"$python" tests/fuzz/fuzz_decode.py --seed "$(date +%s)" --seconds "$seconds" & fuzz=$!
trap 'kill "$fuzz" 2>/dev/null || true; rm -rf "$copy"' EXIT
mapfile -t tests < <(grep -rlE "import twins|io\.kernel" tests/fuzz tests/io --include="test_*.py" --exclude-dir=kafka)
# Of a process with threads a fork may hang in the sanitizer's own allocator, whose locks no fork waits for (gcc 12).
forks=tests/io/kernel/test_decode.py::test_a_fork_decodes_whatever_other_threads_were_doing
"$python" -m pytest -q -n 2 -p no:cacheprovider --hypothesis-profile="$profile" --deselect "$forks" "${tests[@]}"
wait "$fuzz"
