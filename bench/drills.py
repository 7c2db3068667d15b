"""Whether every recipe ends the same when its training is broken off: `python -m bench drills [--quick]`.

Each of configs/recipes at its tiny size, made on this machine, then its trainings under faults in the middle: the
walltime ends, a rank is killed. --quick: the walltime only. Half an hour on two cores.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import effects
from bench.compare import Goal, judged

ROOT = Path(__file__).parent.parent


def run(quick: bool) -> bool:
    faults = "signal" if quick else "signal,kill9"
    trained: dict[str, str] = {}
    certificates: set[Path] = set()
    same = tried = 0
    print(f"{'':<36}{'fault':<8}{'ended as':<12}{'steps done twice':>18}  the same to the last bit")
    with tempfile.TemporaryDirectory(prefix="bench-drills-") as folder:
        for path in sorted(effects.FOLDER.glob("*.yaml")):
            after = effects.EFFECTS[path.stem].after
            words = [f"train.start.source={trained[after]}"] if after else []
            _launch(["pipeline"], path, folder, *words)
            for science in effects.sciences(path.stem, words):
                if science.stage != "train":
                    continue
                trained[path.stem] = science.name
                at = len(science.section) + 1
                own = [word[at:] for word in words if word.startswith(f"{science.section}.")]
                _launch(["drill", science.section], path, folder, *own, "--faults", faults)
                (found,) = set(Path(folder).glob(".drill/*/certificate.json")) - certificates
                certificates.add(found)
                for case in json.loads(found.read_text())[1:]:
                    tried, same = tried + 1, same + bool(case["same"])
                    name = f"{path.stem}, {science.section}"
                    verdict = "yes" if case["same"] else f"NO {case['text']}"
                    print(f"{name:<36}{case['fault']:<8}{case['word']:<12}{case['redone']:>18}  {verdict}", flush=True)
    return judged({"ended_the_same": Goal(same / tried, 1.0, at_least=True)})


def _launch(words: list[str], path: Path, folder: str, *more: str) -> None:
    often = [] if words == ["pipeline"] else ["optim.checkpoint_every=20"]  # so small that none would be saved else
    command = [sys.executable, "-m", "hpc.launch", *words, str(path), *often, "--preset", "size=tiny"]
    where = ["--on", "local", "--runs", folder]
    done = subprocess.run([*command, *where, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: a fault did not end as it should, which the certificate says
        raise RuntimeError(
            f"{' '.join(words)} {path.name} gave {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
