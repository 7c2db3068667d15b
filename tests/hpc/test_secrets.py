"""Secrets are named in a config. Their values come from the environment or from a file that only its owner can read."""

import dataclasses
import json
import os
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpc import config
from hpc.config import reference, secrets
from hpc.config.secrets import Secret
from hpc.errors import ConfigError
from hpc.plan import plan
from hpc.plan.plan import Science
from hpc.runs import records
from hpc.runs.rundir import RunDir
from tests.conftest import Launch

PLANTED = "https://hooks.example.org/planted-7f3a"


@dataclass(frozen=True)
class Sender:
    to: Secret = field(default_factory=Secret)
    wait_s: float = 1.0


@dataclass(frozen=True)
class Stage:
    alerts: Sender = field(default_factory=Sender)
    tokens: tuple[Secret, ...] = ()
    by_name: dict[str, Secret] = field(default_factory=dict)


def build(**values: Any) -> Stage:
    return config.build(Stage, values, "stage")


# ---- references in configs


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:TOKEN}", "a ${oc.env:TOKEN} b", "${oc.env:NONE,${oc.env:TOKEN}}", "${ oc.env : TOKEN }",
        "${oc.decode:${oc.env:TOKEN}}", "${oc.decode:'\\${oc.env:TOKEN}'}", "${oc.create:{a: 1}}", "${${b}:TOKEN}",
        "${oc.${c}:TOKEN}", "${mine:1}", "${a.${oc.env:TOKEN}}", "${oc.select:b}", "\\\\${oc.env:TOKEN}",
    ],
)  # fmt: skip
def test_what_would_read_the_environment_or_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("TOKEN", "planted")
    path = tmp_path / "a.yaml"
    for values in ({"x": {"y": text}}, {"x": [1, [text]]}, {"presets": {"size": {"tiny": {"x": text}}}}):
        path.write_text(json.dumps(values | {"b": "oc.env", "c": "env"}))
        with pytest.raises(ConfigError, match=r"a.yaml: [\w.\[\]]+ has \$\{.*stands for another value") as refused:
            config.load([path])
        assert "planted" not in str(refused.value)
    (tmp_path / "b.yaml").write_text(json.dumps({"include": text}))
    with pytest.raises(ConfigError, match=r"include has \$\{"):
        config.load([tmp_path / "b.yaml"])
    if "'" not in text and ": " not in text and " : " not in text:  # or it is YAML for something else
        with pytest.raises(ConfigError, match=r"x.y has \$\{"):
            config.apply_words({"b": "oc.env"}, [f"x.y={text}"])


def test_a_site_reads_no_environment_either(launch: Launch) -> None:
    site = launch.folder / "configs/site/mine.yaml"
    site.parent.mkdir(parents=True)
    site.write_text("kind: slurm\ndescription: ${oc.env:HOME}\n")
    done = launch("count", "n=1", "--on", "mine", "--dry-run", code=2)
    assert "mine.yaml: description has ${oc.env:HOME}, but" in done.stderr


@pytest.mark.parametrize("text", ["${", "a${b", "${a", "${a.}"])
def test_half_a_reference_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(json.dumps({"x": text}))
    with pytest.raises(ConfigError, match=r"a.yaml: `\$\{` begins a reference .* write \\\$\{"):
        config.load([tmp_path / "a.yaml"])
    with pytest.raises(ConfigError, match=r"`\$\{` begins a reference"):
        config.apply_words({}, [f"x={text}"])


LITERALS = [
    "${", "${a}", "\\${a}", "\\\\${a}", "x${oc.env:TOKEN}y", "$${a}", "a\\", "'${a}'", "${a}\\", "{${a}}", "\\", "$",
    "${a}\n${b}", "#${a}: ",
]  # fmt: skip


@pytest.mark.parametrize("text", LITERALS)
def test_a_text_that_looks_like_a_reference_survives_the_run_folder(tmp_path: Path, text: str) -> None:
    values: dict[str, Any] = {"a": 1, "x": text, "deep": {"list": [text, {"y": text}], "${k}": 2}}
    path = tmp_path / "config.yaml"
    for _ in range(3):
        path.write_text(config.to_yaml(values))
        assert config.load([path]) == values
        assert config.apply_words(values, ["b=${a}"]) == values | {"b": 1}


def test_what_is_escaped_once_is_resolved_once(launch: Launch) -> None:
    launch.environ |= {"TOKEN": "planted"}
    launch("count", "n=2", "kill_on=\\${oc.env:TOKEN}", "--name", "mine")
    (run,) = launch.runs()
    assert config.load([run / "config.yaml"])["kill_on"] == "${oc.env:TOKEN}"
    assert plan.of_run(RunDir(run)).name == run.name
    (run / "result.json").unlink()
    assert f"count: {run.name}" in launch("resume", run.name).stdout
    assert "planted" not in "".join(path.read_text(errors="replace") for path in run.glob("*.*"))


@pytest.mark.parametrize(
    ("key", "line", "refused"),
    [
        ("env", "{WANDB_API_KEY: planted}", True), ("env", "{HF_TOKEN: planted}", True),
        ("env", "{https_proxy: 'http://me:planted@proxy:3128'}", True), ("prologue", "[export HF_TOKEN=planted]", True),
        ("prologue", "['export DB_PASSWORD=\"planted\"']", True), ("env", "{HF_TOKEN_PATH: /home/me/token}", False),
        ("prologue", "['export HF_TOKEN=$(cat ~/.hf)']", False), ("env", "{https_proxy: 'http://proxy:3128'}", False),
        ("prologue", "['export HF_TOKEN=\"$(cat ~/.hf)\"']", False),
    ],
)  # fmt: skip
def test_a_site_with_a_secret_in_it_is_refused(launch: Launch, key: str, line: str, refused: bool) -> None:
    site = launch.folder / "configs/site/mine.yaml"
    site.parent.mkdir(parents=True)
    site.write_text(f"kind: slurm\n{key}: {line}\n")
    done = launch("count", "n=1", "--on", "mine", "--dry-run", code=2 if refused else 0)
    assert (f"site mine: {key}" in done.stderr) == refused and "planted" not in done.stdout + done.stderr


# ---- the type


def test_a_secret_is_named_and_its_value_is_in_no_text() -> None:
    cfg = build(alerts={"to": "LAB_HOOK"}, tokens=["A", None], by_name={"x": "B"})
    assert cfg.alerts.to == Secret("LAB_HOOK") and cfg.alerts.to.name == "LAB_HOOK" and not cfg.tokens[1]
    assert {at: secret.name for at, secret in config.secrets_of(cfg).items()} == {
        "alerts.to": "LAB_HOOK", "tokens.0": "A", "by_name.x": "B",
    }  # fmt: skip
    assert config.build(Stage, config.plain(cfg), "stage") == cfg == pickle.loads(pickle.dumps(cfg))
    assert not config.secrets_of(build()) and config.plain(build())["alerts"]["to"] == ""


@pytest.mark.parametrize("text", [PLANTED, "hunter2planted", "planted", "1planted", "A" * 99 + "planted", "A-planted"])
def test_a_secret_itself_is_shown_by_nothing(text: str) -> None:
    cfg = build(alerts={"to": text})
    assert cfg.alerts.to.is_literal and cfg.alerts.to.value({}) == text
    shown = [repr(cfg), str(cfg.alerts.to), f"{cfg}", json.dumps(config.plain(cfg)), config.to_yaml(config.plain(cfg))]
    shown.append(repr(config.blanked(dataclasses.asdict(cfg), [])))
    assert "planted" not in " ".join(shown)


@pytest.mark.parametrize("value", [True, ["planted"], {"env": "planted"}])
def test_what_is_no_name_at_all_is_refused_without_showing_it(value: object) -> None:
    with pytest.raises(ConfigError, match=r"stage.alerts.to needs the name of a secret, in capitals$"):
        build(alerts={"to": value})


def test_which_secret_is_named_is_no_part_of_the_name_of_a_run() -> None:
    def science(cfg: Stage) -> Science:
        names = {at: secret.name for at, secret in config.secrets_of(cfg).items()}
        return Science("stage", "mine:stage", config.plain(cfg), {}, secrets=names)

    one, other, none = (science(build(alerts={"to": name})) for name in ("LAB_HOOK", "MY_HOOK", ""))
    assert one.name == other.name == none.name == Science("stage", "mine:stage", config.plain(build()), {}).name
    assert one.config["alerts"]["to"] == "LAB_HOOK"
    assert science(build(alerts={"wait_s": 2.0})).name != none.name


def test_the_reference_tells_that_a_setting_takes_a_name() -> None:
    row = next(row for row in reference.settings(Stage) if row.path == "alerts.to")
    assert (row.kind, row.default) == ("name of a secret", "''")


# ---- the value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.write_text(f"# of the lab\n\nLAB_HOOK = {PLANTED}?a=b#c \nLAB_MAIL=a@b.org\r\nNOTHING=\n")
    path.chmod(0o600)
    return path


def test_the_environment_goes_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HPC_SECRETS": str(file)}
    assert Secret("LAB_HOOK").value(environ) == f"{PLANTED}?a=b#c"
    assert Secret("LAB_MAIL").value(environ) == "a@b.org"
    assert Secret("LAB_HOOK").value(environ | {"LAB_HOOK": "other"}) == "other"
    assert Secret("LAB_HOOK").value(environ | {"LAB_HOOK": ""}) == f"{PLANTED}?a=b#c"
    for name in ("OTHER", "NOTHING"):
        with pytest.raises(
            ConfigError, match=rf"no secret {name}: set {name} in the environment, or write .*chmod 600"
        ):
            Secret(name).value(environ)
    monkeypatch.setenv("HOME", str(file.parent))
    (file.parent / ".config/hpc").mkdir(parents=True)
    file.rename(file.parent / ".config/hpc/secrets")
    assert Secret("LAB_MAIL").value({}) == "a@b.org"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_can_open_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"is open to others \(mode {mode:04o}\): chmod 600 {file}"):
        secrets.find("LAB_HOOK", {"HPC_SECRETS": str(file)})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to user 12345, and you are 0"):
        secrets.find("LAB_HOOK", {"HPC_SECRETS": str(file)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"planted", "line 1, must be NAME=value"),
        (b"A=1\nplanted=2", "line 2, must be NAME=value"),
        (b"A=planted\nA=2\n", "line 2: A is there twice"),
        (b"A=\xff\xfe", "is not text in UTF-8"),
        (b"A=" + b"planted" * 10_000, "has more than 65536 bytes"),
    ],
)
def test_a_file_that_is_none_of_secrets_is_refused_without_showing_it(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refused:
        secrets.find("B", {"HPC_SECRETS": str(file)})
    assert "planted" not in str(refused.value)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, message in (
        (str(tmp_path / "pipe"), "must be a file"), (str(tmp_path), "must be a file"),
        (str(tmp_path / "none"), "there is no such file"), ("secrets", "must be a whole path"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            secrets.find("A", {"HPC_SECRETS": name})


# ---- plans


ALERTED = ["train", "--dry-run", "watch.alerts.webhook="]


@pytest.mark.parametrize("value", [PLANTED, "hunter2planted", "file:///planted", "xoxb-12-planted"])
def test_a_secret_on_the_line_or_in_a_file_is_refused_with_how_to_name_it(launch: Launch, value: str) -> None:
    sentence = (
        "error: train.watch.alerts.webhook needs the name of a secret, in capitals, and not the secret itself, which "
        "would be stored with the run: say webhook=MY_WEBHOOK and set MY_WEBHOOK in the environment, or write the "
        "line MY_WEBHOOK=… to "
    )
    (launch.folder / "a.yaml").write_text(f"train: {{watch: {{alerts: {{webhook: '{value}'}}}}}}\n")
    *words, webhook = ALERTED
    for more in ([f"{webhook}{value}"], ["a.yaml", "data=./store"]):
        refused = launch(*words, *more, code=2)
        assert sentence in refused.stderr and "planted" not in refused.stderr + refused.stdout
    assert not (launch.folder / "runs").exists()


TEXTS = {
    "ghp_0123456789plantedplantedplanted": True, "xoxb-123-planted-planted": True, "HF_TOKEN=planted": True,
    "https://me:planted@example.org/study": True, "https://hooks.slack.com/services/T0/B0/planted": True,
    "Bearer planted.planted": True, "AKIAPLANTED123456789": True, "-----BEGIN RSA PRIVATE KEY-----": True,
    "sub-01_task-music_run-01_desc-clean": False, "https://example.org/study": False, "hf_gamma_power": False,
    "me@example.org": False, "8 tokens": False, "n=3": False,
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_free_text_that_looks_like_a_secret_is_refused_without_showing_it(launch: Launch, text: str) -> None:
    assert secrets.looks_like_one(text) is TEXTS[text]
    if not TEXTS[text]:
        return
    (launch.folder / "a.yaml").write_text(f"count: {{n: 1, kill_on: '{text}'}}\n")
    lines = {
        "--comment": ["count", "n=1", "--on", "bed", "--comment", text],
        "--mail": ["count", "n=1", "--on", "bed", "--mail", text],
        "--runs": ["count", "n=1", "--runs", text],
        "count.kill_on": ["count", "a.yaml"],
        **({"--name": ["count", "n=1", "--name", text]} if text.startswith("ghp_") else {}),
    }  # fmt: skip
    for at, line in lines.items():
        refused = launch(*line, "--dry-run", code=2)
        assert f"error: {at} looks like a secret, which would be stored with the run: leave it out" in refused.stderr
        assert text not in refused.stderr + refused.stdout
    for word in ("sweep", "drill"):
        refused = launch(word, "count", "n=1", f"kill_on='{text}'", code=2)
        assert text not in refused.stderr + refused.stdout
    assert not (launch.folder / "runs").exists()


def test_a_plan_warns_of_a_secret_that_is_not_there(launch: Launch) -> None:
    launch.environ["HOME"] = str(launch.folder)
    *words, webhook = ALERTED
    warning = "note    train.watch.alerts.webhook: there is no secret LAB_HOOK: set LAB_HOOK in the environment, or"
    assert warning in launch(*words, f"{webhook}LAB_HOOK").stdout
    file = launch.folder / ".config/hpc/secrets"
    file.parent.mkdir(parents=True)
    file.write_text(f"LAB_HOOK={PLANTED}\n")
    file.chmod(0o600)
    there = launch(*words, f"{webhook}LAB_HOOK").stdout
    assert "note" not in there and "planted" not in there
    file.chmod(0o644)
    assert "is open to others (mode 0644)" in launch(*words, f"{webhook}LAB_HOOK", code=2).stderr
    file.unlink()
    launch.environ["LAB_HOOK"] = PLANTED
    given = launch(*words, f"{webhook}LAB_HOOK").stdout
    assert "no secret" not in given
    names = {re.search(r"^run +(\S+)", text, re.MULTILINE)[1] for text in (there, given, launch(*words).stdout)}  # type: ignore[index]
    assert len(names) == 1


def test_a_job_without_the_environment_needs_the_file(launch: Launch, file: Path) -> None:
    launch.environ |= {"LAB_HOOK": PLANTED, "SBATCH_EXPORT": "NONE", "HOME": str(launch.folder)}
    *words, webhook = ALERTED
    shown = launch(*words, f"{webhook}LAB_HOOK", "--on", "bed").stdout
    assert "LAB_HOOK is in the environment, but the job does not get all of it (--export): write" in shown
    launch.environ["HPC_SECRETS"] = str(file)
    shown = launch(*words, f"{webhook}LAB_HOOK", "--on", "bed").stdout
    assert "does not get all of it" not in shown and f"export HPC_SECRETS={file}\n" in shown
    assert "planted" not in shown


def test_what_earlier_versions_typed_is_masked() -> None:
    typed = f"lr=1 watch.alerts.webhook={PLANTED} watch.alerts.email=planted@example.org data=a@b files=**/x.edf"
    shown = "lr=1 watch.alerts.webhook=https://… watch.alerts.email=… data=a@b files=**/x.edf"
    assert records.masked(typed) == shown and records.masked([typed, "x=1"]) == [shown, "x=1"]
