#!/usr/bin/env bash
# Packs the virtual environment into one file, so that a job reads one big file and not 20 000 small ones from the
# shared disk:
#   env/pack.sh env.tar [--venv .venv]         also env.tar.gz or env.tar.zst, by the name
#   ENV_PACK=$PWD/env.tar . env/activate.sh    in the job: unpacks it once per node
#
# A virtual environment remembers where it was made in two places, and both are mended in the pack: the first lines of
# bin/* become relative, and the editable link to this checkout becomes a copy of the code as it is now (a run's own
# snapshot of the code comes before it on PYTHONPATH). The interpreter itself is not packed: the same Python must be at
# the same path on the nodes (a module, or a shared folder).
set -euo pipefail

fail() { printf 'pack: %s\n' "$*" >&2; exit 1; }

usage='usage: env/pack.sh env.tar|env.tar.gz|env.tar.zst [--venv .venv]'
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-}
case $out in *.tar | *.tar.gz | *.tar.zst) ;; *) printf '%s\n' "$usage" "the file's name must say its kind, but got '$out' instead" >&2; exit 2 ;; esac
venv=$repo/.venv
if [ "${2:-}" = --venv ] && [ -n "${3:-}" ]; then venv=$(cd "$3" && pwd) || fail "no folder $3"; fi
[ -x "$venv/bin/python" ] || fail "no environment in $venv: run env/setup.sh first"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
site=${site#"$venv"/}

# bin/: scripts start the python that lies beside them, wherever that is
cp -a "$venv/bin" "$stage/bin.packed"
"$venv/bin/python" - "$stage/bin.packed" <<'PY'
import sys
from pathlib import Path

for script in Path(sys.argv[1]).iterdir():
    if script.is_symlink() or not script.is_file():
        continue
    first, newline, rest = script.read_bytes().partition(b"\n")
    # pip writes `#!/venv/bin/python`, or for a long path `#!/bin/sh` and an exec line with the path in it
    if first == b"#!/bin/sh" and rest.startswith(b"'''exec'"):
        rest = rest.partition(b"\n' '''\n")[2]
    elif not (first.startswith(b"#!") and b"/python" in first):
        continue
    script.write_bytes(b"#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")/python\" \"$0\" \"$@\"\n' '''\n" + rest)
PY
# bin/activate and friends hold the old path and would lead back there; env/activate.sh does their work
rm -f "$stage"/bin.packed/activate* "$stage"/bin.packed/Activate.ps1

# the code: a copy instead of the link
mkdir -p "$stage/$site"
for package in hpc eegdecode; do
  [ -d "$repo/$package" ] && cp -a "$repo/$package" "$stage/$site/"
done
find "$stage/$site" -name __pycache__ -prune -exec rm -rf {} +
"$venv/bin/python" -m compileall -q "$stage/$site" > /dev/null || fail "a file of hpc or eegdecode does not compile"

rm -f "$out.part"
case $out in *.gz) how=-z ;; *.zst) how=--zstd ;; *) how=--no-auto-compress ;; esac
tar -cf "$out.part" "$how" --owner=0 --group=0 \
  --exclude=./bin --exclude=./.setup-stamp --exclude=./.setup-lock --exclude="./$site/__editable__*" --exclude="./$site/__pycache__/__editable__*" \
  --transform='flags=r;s,^\./bin\.packed,./bin,' -C "$venv" . -C "$stage" ./bin.packed "./$site" || fail "tar failed, see above; is there room for $out?"
mv "$out.part" "$out"
printf 'pack: %s, %s; in a job: ENV_PACK=%s . env/activate.sh\n' "$out" "$(du -h "$out" | cut -f1)" "$(realpath "$out")"
