#!/usr/bin/env bash
# Makes the virtual environment and installs this repository in it, editable, with pinned versions.
#   env/setup.sh cpu|cuda [--venv .venv] [--extras test,mpi,audio,wandb]
# Run it as often as you like: nothing is done while setup.cfg, the pins and this script are unchanged.
# PYTHON=/path/to/python3.12 chooses the interpreter.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit "${2:-1}"; }

usage='usage: env/setup.sh cpu|cuda [--venv .venv] [--extras test,mpi,audio,wandb]'
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kind=${1:-}
case $kind in
  cpu | cuda) shift ;;
  *) printf '%s\n' "$usage" "the first word is cpu or cuda, but got '$kind' instead" >&2; exit 2 ;;
esac
venv=$repo/.venv extras=test
while [ $# -gt 0 ]; do
  if [ $# -lt 2 ]; then printf '%s\n' "$usage" "$1 needs a value" >&2; exit 2; fi
  case $1 in
    --venv) case $2 in /*) venv=$2 ;; *) venv=$PWD/$2 ;; esac ;;
    --extras) extras=$2 ;;
    *) printf '%s\n' "$usage" "unknown option '$1'" >&2; exit 2 ;;
  esac
  shift 2
done
constraints=$repo/env/constraints-$kind.txt

# ---- nothing to do? The hash is of all that decides what gets installed.
stamp=$venv/.setup-stamp
wanted="$kind [$extras] $(cat "$repo/setup.cfg" "$repo/pyproject.toml" "$constraints" "${BASH_SOURCE[0]}" | cksum)"
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  say "$venv is up to date"
  exit 0
fi

# ---- an interpreter
if [ ! -x "$venv/bin/python" ]; then
  python=
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    # run it: a pyenv shim exists also for versions that are not there
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  [ -n "$python" ] || fail "no Python 3.11 or newer found: install one (Debian: apt-get install python3 python3-venv; a cluster: module avail python) or set PYTHON=/path/to/python3"
  "$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "$(command -v "$python") has no venv module: apt-get install python3-venv, or set PYTHON=/path/to/another/python3"
  say "making $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi
rm -f "$stamp"
py=$venv/bin/python

# ---- the packages. The environment variables carry the pins into the isolated builds of source packages too.
count=$(grep -c '==' "$constraints")
say "installing [$extras] with the pins of env/constraints-$kind.txt (up to $count packages, minutes the first time)"
unset PYTHONPATH
# As URLs: pip splits its environment variables at spaces, and a path may hold one.
url="file://${constraints// /%20}"
export PIP_CONSTRAINT=$url PIP_BUILD_CONSTRAINT=$url PIP_DISABLE_PIP_VERSION_CHECK=1
# compat: a line in a .pth file. The default, an import hook, costs every Python that starts here 10 ms.
"$py" -m pip install -qq -c "$constraints" --config-settings editable_mode=compat -e "${repo}[$extras]" \
  || fail "pip failed, see above; no network on this machine? Run this on a login node"

# ---- torchaudio. Its compiled part is linked against CUDA and one torch; the transforms are plain torch and need none
# of it. So where it cannot be loaded, the compiled part goes and the transforms stay.
audio='import torchaudio'
if ! "$py" -c "$audio" 2>/dev/null; then
  lib=$("$py" -c 'import importlib.util as u; print(u.find_spec("torchaudio").submodule_search_locations[0])')/lib
  case $lib in "$venv"/*/torchaudio/lib) ;; *) fail "torchaudio does not import and is not in $venv but in $lib" ;; esac
  find "$lib" -name '*.so' -delete
  say "removed torchaudio's compiled libraries: linked against another torch, and the transforms do not need them"
fi

# ---- a look that all of it works together
"$py" - "$kind" <<'PY' || fail "the installed packages do not work together, see above; remove $venv and try again"
import sys
import h5py, mne, submitit, torch, torchaudio

mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, n_mels=40)(torch.zeros(1, 16000))
assert mel.shape == (1, 40, 81), mel.shape
print(f"setup: torch {torch.__version__}, torchaudio {torchaudio.__version__}, mne {mne.__version__}, h5py {h5py.__version__}")
if sys.argv[1] == "cuda" and torch.version.cuda is None:
    sys.exit("this torch was built without CUDA: on this platform PyPI has no CUDA build, see env/README.md")
if sys.argv[1] == "cuda":
    print(f"setup: CUDA {torch.version.cuda}, {torch.cuda.device_count()} GPUs visible here")
PY
printf '%s\n' "$wanted" > "$stamp"
say "done; next: . env/activate.sh"
