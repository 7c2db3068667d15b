"""The page of all runs: what it shows, that nothing hides or marks up anything, who keeps it fresh, and who gets it."""

import http.client
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.page import make_runs
from hpc.book.entries import Book
from hpc.overview import curves, groups, page, page_writer, row, server
from hpc.runs import records, status
from hpc.runs.rundir import RunDir, append_line, read_json, write_json
from hpc.slurm.squeue import Queue
from tests.conftest import Launch
from tests.eegdecode.browser import ASK, CHROMIUM, Browser, audited
from tests.hpc.test_media import HOSTILE
from tests.waiting import LONG_S

MANY = 1000


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Twelve runs, of which the second to last is damaged."""
    folder = tmp_path / "runs"
    folder.mkdir()
    make_runs(folder, 12, n_lines=30)
    (folder / "train-00000010/plan.json").write_text('{"schema": 3, "stage": 7}')
    return folder


def shown(runs: Path) -> dict[str, dict[str, Any]]:
    """The rows of the page that is there, by their runs."""
    text = (runs / page.PAGE).read_text()
    content = json.loads(text.partition('type="application/json" id="data">')[2].partition("</script>")[0])
    return {each["run"]: each for each in content["rows"]}


# ------------------------------------------------------------------------------------------------------------ its rows


def test_a_row_has_what_one_asks_about_a_run(runs: Path) -> None:
    page.write(str(runs))
    done = shown(runs)["train-00000001"]
    assert (done["word"], done["stage"], done["settings"]) == ("finished", "train", "optim.lr=0.001 seed=0")
    assert done["headline"] == "val_accuracy" and done["chance"] == 0.5 and 0.5 < done["value"] <= 0.9
    assert (done["hours"], done["node_hours"]) == (round(500 / 3600, 4), round(1000 / 3600, 4))
    assert done["gpu_hours"] == round(500 * 2 * 4 / 3600, 4) and done["cpu_hours"] == round(500 * 8 * 8 / 3600, 4)
    assert list(done["curves"]) == ["val_loss", "loss", "val_accuracy", "accuracy"], "as the stage declares"
    assert done["pages"] == [["report.html", "./train-00000001/out/report.html"]]
    assert done["pictures"] == [["curve.png", "./train-00000001/out/curve.png"]]
    assert done["logs"] == [["log", "./train-00000001/jobs/attempt-0001/rank-0000.log"]]
    assert done["since"] == done["ended"] and done["submitted"] < done["began"] < done["ended"]
    failed = shown(runs)["train-00000003"]
    assert (failed["word"], failed["text"], failed["value"]) == ("failed", "rank 3: CUDA error", None)


def test_its_hours_are_those_of_the_book(runs: Path) -> None:
    """A job that waits for nodes between two attempts is paid for too."""
    run = RunDir(runs / "train-00000001")
    began = records.attempts(run)[0]["started"] - 300
    had = {"job": "7", "restarts": 0, "nodes": 2, "cpus": 128, "gpus": 8}
    append_line(run.allocations, {**had, "began": began})
    append_line(run.allocations, {"job": "7", "restarts": 0, "ended": began + 1800})
    page.write(str(runs))
    row_, (sum_,) = shown(runs)["train-00000001"], Book([run]).sums("run")
    assert (row_["hours"], row_["node_hours"], row_["cpu_hours"], row_["gpu_hours"]) == (0.5, 1.0, 64.0, 4.0)
    assert sum(sum_.hours.values()) == pytest.approx(0.5) and sum(sum_.gpu_hours.values()) == pytest.approx(4.0)


def test_a_damaged_run_is_a_row_with_the_reason_and_hides_no_other(runs: Path) -> None:
    (runs / "train-00000002/metrics.jsonl").unlink()
    (runs / "train-00000002/metrics.jsonl").mkdir()
    (runs / "train-00000004/events.jsonl").write_bytes(b"\0" * 99)
    made = page.write(str(runs))
    rows = shown(runs)
    assert (made.n_runs, len(rows)) == (12, 12) and made.n_damaged >= 1
    assert "plan.json is damaged: stage is 7" in rows["train-00000010"]["text"]
    assert "IsADirectoryError" in rows["train-00000002"]["text"] and rows["train-00000002"]["word"] == "finished"
    assert rows["train-00000004"]["word"] == "finished"
    assert all(rows[f"train-{number:08d}"]["curves"] for number in (0, 1, 5))


def test_what_has_not_changed_is_not_read_again(runs: Path) -> None:
    run = RunDir(runs / "train-00000001")
    state = status.look(run, Queue())
    first, kept = row.of(state, run, str(runs), None)
    kept_on_disk = json.loads(json.dumps(kept))
    again, same = row.of(state, run, str(runs), kept_on_disk)
    assert same is kept_on_disk and again == json.loads(json.dumps(first))
    append_line(run.metrics, {"step": 31, "val_loss": 9.0})
    later, other = row.of(state, run, str(runs), kept_on_disk)
    assert other is not kept_on_disk and later["curves"]["val_loss"][1][-1] == 9.0


def test_what_was_kept_may_be_damaged_or_of_another_form(runs: Path) -> None:
    page.write(str(runs))
    whole = shown(runs)
    for content in ("", "[]", '{"form": 99, "rows": {}}', '{"form": 1, "rows": {"train-00000001": 7}}'):
        (runs / ".page/rows.json").write_text(content)
        page.write(str(runs))
        assert shown(runs) == whole


def test_runs_that_belong_together_are_one_group(runs: Path) -> None:
    searched = {"name": "search-k3f9", "folds": [{"jobs": [{"run": "train-00000005"}, {"run": "train-00000008"}]}]}
    (runs / ".searches").mkdir()
    write_json(runs / ".searches/search-k3f9.json", searched)
    (runs / ".searches/search-bad.json").write_text('{"folds": 3}')
    page.write(str(runs))
    rows = shown(runs)
    assert {rows["train-00000005"]["group"], rows["train-00000008"]["group"]} == {"search-k3f9"}
    assert rows["train-00000000"]["group"] == rows["train-00000007"]["group"] == "pilot"
    assert rows["train-00000001"]["group"] == "train optim.lr, seed (configs/demo.yaml)"
    alone = [{"run": "a", "name": "", "stage": "train", "settings": "seed=1"}]
    groups.put(alone, str(runs))
    assert alone[0]["group"] == ""


def test_a_page_is_read_by_nobody_who_may_not_read_a_run_on_it(runs: Path) -> None:
    page.write(str(runs))
    before = (runs / page.PAGE).stat().st_mode & 0o077
    os.chmod(runs / "train-00000001", 0o700)
    page.write(str(runs))
    assert before and (runs / page.PAGE).stat().st_mode & 0o777 == 0o600


def test_a_run_on_a_cluster_is_a_row_too(runs: Path) -> None:
    state = status.State("train-far")
    state.site, state.word, state.figures = "helios", "running", {"val_loss": 0.5}
    shutil.copytree(runs / "train-00000001", runs / "helios/train-far")  # what was fetched of it
    page.write(str(runs), [state])
    far = shown(runs)["train-far"]
    assert (far["site"], far["word"]) == ("helios", "running")
    assert far["pages"] == [["report.html", "./helios/train-far/out/report.html"]]


# ---------------------------------------------------------------------------------------------------------- its curves


def test_a_curve_has_the_few_lines_of_a_validation_among_many(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1 / step} | ({"val_loss": 2 / step} if step % 500 == 0 else {})
             for step in range(1, 20_001)]  # fmt: skip
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    drawn = curves.read(str(path), ("val_*", "loss"))
    assert list(drawn) == ["val_loss", "loss"]
    assert drawn["val_loss"][0] == list(range(500, 20_001, 500))
    assert len(drawn["loss"][0]) == curves.POINTS and (drawn["loss"][0][0], drawn["loss"][0][-1]) == (1, 20_000)


def test_a_long_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "loss": {1 / step}}}\n' for step in range(1, 50_001)))
    monkeypatch.setattr(curves, "WHOLE_B", 100_000)
    monkeypatch.setattr(curves, "BLOCK_B", 4_000)
    steps, values = curves.read(str(path), ())["loss"]
    assert len(steps) == curves.POINTS and steps == sorted(steps) and steps[0] < 10 and steps[-1] > 49_900
    assert values[-1] == float(f"{1 / steps[-1]:.4g}")


def test_a_damaged_line_is_no_point_and_what_is_no_number_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "loss": 1.0}\n\0\0\0\n{"step": 2, "loss": NaN}\n{"step": "3", "loss": 1}\n[1]\n'
        b'{"step": 4, "loss": "x"}\n{"step": 5, "loss": 1e999}\n{"step": 6, "loss": 0.5}\n{"step": 7, "lo'
    )
    assert curves.read(str(path), ()) == {"loss": [[1, 2, 5, 6], [1.0, None, None, 0.5]]}
    os.mkfifo(tmp_path / "pipe")
    assert curves.read(str(tmp_path / "pipe"), ()) == {} == curves.read(str(tmp_path / "none"), ())


# ----------------------------------------------------------------------------------------------------------- no markup


def name_it(run: RunDir, name: str) -> None:
    """Plant a name wherever one comes from outside."""
    plan = read_json(run.plan)
    assert plan is not None
    texts = {key: name for key in ("label", "settings", "stage")}
    write_json(run.plan, plan | texts | {"inputs": {name: name}, "sources": [name]})
    write_json(run.result, {"metrics": {name: 0.5, f"{name}2": name}, "attempts": 1, "seconds": 1.0, "ended": 1.7e9})
    append_line(run.metrics, {"step": 31, name: 1.0}, {"step": 32, name: 2.0})
    (run.out / f"{media_safe(name)}.png").write_bytes(b"")
    (run.out / f"{media_safe(name)}.html").write_bytes(b"")


def media_safe(name: str) -> str:
    return name.replace("/", ":")


def tags(text: str) -> list[str]:
    return re.findall(r"<[^>]*>", re.sub(r'(?s)(<script type="application/json"[^>]*>).*?(</script>)', r"\1\2", text))


def test_no_name_is_markup_or_ends_the_data(runs: Path) -> None:
    page.write(str(runs))
    harmless = tags((runs / page.PAGE).read_text())
    name_it(RunDir(runs / "train-00000001"), f"</script><script>alert(1)</script>{HOSTILE}")
    shutil.move(runs / "train-00000002", runs / f"train-{media_safe(HOSTILE)}")
    page.write(str(runs))
    text = (runs / page.PAGE).read_text()
    assert tags(text) == harmless and "alert(1)" in text
    nasty = shown(runs)["train-00000001"]
    assert all(letter.isprintable() for letter in json.dumps(nasty, ensure_ascii=False))
    for _, link in nasty["pages"] + nasty["pictures"]:
        assert re.fullmatch(r"\./[\w./%~-]+", link, re.ASCII) and ".." not in link.split("/")


def test_nothing_of_the_page_comes_from_a_network(runs: Path) -> None:
    text = (Path(page.__file__).parent / "page.html.jinja").read_text()
    assert re.findall(r"https?://[^\"')\s]+", text) == ["http://www.w3.org/2000/svg"], "the name of SVG, no address"
    assert not re.search(r"fetch\(|XMLHttpRequest|<link|@import|src=\"http|innerHTML|insertAdjacentHTML", text)
    assert "default-src 'none'" in text


# ---------------------------------------------------------------------------------------------------------- kept fresh


def test_a_supervisor_has_it_written_when_it_is_old_or_nobody_else_will(runs: Path) -> None:
    due = lambda at_end: page.is_due(str(runs), "train-00000001", at_end=at_end)  # noqa: E731
    assert not due(True) and not due(False), "who has made no page gets none"
    page.write(str(runs))
    assert due(True) and not due(False), "it is new, but the last run that has ended would never be on it"
    other = RunDir(runs / "train-00000003")
    kept = read_json(runs / ".page/rows.json")
    assert kept is not None
    write_json(runs / ".page/rows.json", kept | {"going": ["train-00000001", other.name]})
    assert not due(True), "the other one will have it written"
    os.utime(other.supervisor, (1.7e9, 1.7e9))
    assert due(True), "the other one is gone"
    for age_s, expected in ((90.0, (True, False)), (700.0, (True, True))):
        now = time.time()
        os.utime(runs / page.PAGE, (now - age_s, now - age_s))
        os.utime(other.supervisor)
        assert (due(True), due(False)) == expected
    (runs / page.PAGE).unlink()
    assert not due(True), "who deletes it has no page any more"


def test_while_a_run_goes_on_an_old_page_is_written_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.write(str(runs))
    monkeypatch.setattr(page_writer, "LOOK_S", 0.0)
    writer = page_writer.PageWriter(RunDir(runs / "train-00000001"), os.environ)
    writer.look()
    assert writer._process is None, "it is new"
    os.utime(runs / page.PAGE, (1.7e9, 1.7e9))
    writer.look()
    assert writer._process is not None and writer._process.wait(LONG_S) == 0
    assert (runs / page.PAGE).stat().st_mtime > 1.7e9 and len(shown(runs)) == 12


def test_a_run_that_has_ended_is_on_the_page_that_was_there_before(launch: Launch) -> None:
    launch("count", "n=1")
    assert not (launch.folder / "runs" / page.PAGE).exists()
    done = launch("page")
    assert "runs/page.html   1 run; from now on supervisors keep it fresh" in done.stdout
    launch("count", "n=2", "--name", "second")
    (second,) = (path.name for path in launch.runs() if '"label": "second"' in (path / "plan.json").read_text())
    is_shown = lambda: shown(launch.folder / "runs").get(second, {}).get("word") == "finished"  # noqa: E731
    launch.wait_for(is_shown, "its supervisor has the page written")


def test_where_nothing_has_run_yet_there_is_no_page_and_no_error(launch: Launch) -> None:
    assert launch("page").stdout == "no runs here yet\n"
    assert not (launch.folder / "runs").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("page", "train"), "page shows all runs, and takes no 'train'"),
        (("page", "--port", "8000"), "--port is for page --serve"),
        (("page", "--runs", "nowhere"), "there is no folder nowhere"),
        (("page", "--serve", "--port", "99999"), "--port needs a number from 1 to 65535, but got '99999'"),
        (("status", "--serve"), "--serve is for page, not for status"),
    ],
)
def test_a_wrong_line_says_what_would_be_right(launch: Launch, words: tuple[str, ...], error: str) -> None:
    assert error in launch(*words, code=2).stderr


# -------------------------------------------------------------------------------------------------------------- served


@pytest.fixture
def served(runs: Path) -> Iterator[server.Server]:
    (runs.parent / "outside.html").write_text("a secret")
    os.symlink(runs.parent / "outside.html", runs / "train-00000001/out/link.html")
    (runs / "train-00000001/jobs/attempt-0001/rendezvous.json").write_text("a secret")
    with server.Server(str(runs)) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def ask(served: server.Server, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*served.server_address[:2])
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_page_and_what_it_links_to_are_sent_and_nothing_else(served: server.Server) -> None:
    at = f"/{served.word}"
    assert served.server_address[0] == "127.0.0.1"
    code, text = ask(served, f"{at}/")
    assert code == 200 and "train-00000001" in text and not Path(served.runs, page.PAGE).exists()
    assert ask(served, f"{at}/train-00000001/out/report.html")[0] == 200
    assert ask(served, f"{at}/train-00000001/jobs/attempt-0001/rank-0000.log") == (200, "step 200: loss 0.4\n")
    run = f"{at}/train-00000001"
    for path in (
        "/", "/x/", "/page.html", "/train-00000001/out/report.html", f"{at}/none/out/report.html", f"{at}//etc/passwd",
        f"{at}/../outside.html", f"{at}/%2e%2e/outside.html", f"{run}/out/../../../outside.html",
        f"{run}/out/link.html",
        f"{run}/jobs/attempt-0001/rendezvous.json", f"{run}/plan.json", f"{run}/out", f"{run}/out/%00",
        f"{at}/.page/rows.json",
    ):  # fmt: skip
        code, text = ask(served, path)
        assert (code, "secret" in text) == (404, False), path


def test_only_get_is_answered_and_only_to_this_machine(served: server.Server) -> None:
    for method in ("POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert ask(served, f"/{served.word}/", method)[0] == 405
    assert ask(served, f"/{served.word}/", Host="evil.example:80")[0] == 403
    assert ask(served, f"/{served.word}/", Host="localhost:8000")[0] == 200, "behind ssh -L"
    with pytest.raises(Exception, match="is taken by another program: say another one, or none"):
        server.Server(served.runs, served.server_address[1])


# --------------------------------------------------------------------------------------------------------- in Chromium


class Opened:
    """A page in a browser that stays open."""

    def __init__(self, chromium: Browser, address: str) -> None:
        self.chromium = chromium
        for domain in ("Network", "Runtime", "Log", "Page"):
            chromium.say(f"{domain}.enable")
        self.go(address)

    def go(self, address: str) -> None:
        self.chromium.heard.clear()
        self.chromium.say("Page.navigate", url=address)
        self.chromium.until("Page.loadEventFired")

    def screen(self, width: int, dark: bool) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.chromium.say("Emulation.setDeviceMetricsOverride", **size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.chromium.say("Emulation.setEmulatedMedia", features=[theme])

    def __call__(self, script: str) -> Any:
        answer = self.chromium.say("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def names(self) -> list[str]:
        return self("[...document.querySelectorAll('tr.run .name')].map(name => name.textContent)")

    def problems(self) -> list[str]:
        told = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [str(params) for method, params in self.chromium.heard if method in told]

    def requests(self) -> list[str]:
        asked = (params for method, params in self.chromium.heard if method == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in asked]


SET = """(([id, value]) => {{
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event(field.tagName === "INPUT" ? "input" : "change", {{bubbles: true}}));
}})({})"""


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed here")
def test_a_thousand_runs_are_searched_sorted_and_grouped(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    make_runs(runs, MANY, n_lines=20)
    name_it(RunDir(runs / "train-00000995"), f"</script><b>bold</b>{HOSTILE}")
    page.write(str(runs))
    with Browser(tmp_path / "profile") as chromium:
        opened = Opened(chromium, (runs / page.PAGE).as_uri())
        assert opened("document.getElementById('count').textContent").startswith(f"{MANY} runs")
        assert 0 < len(opened.names()) < 300, "rows are made as far as one scrolls"
        opened("new Promise(go => { scrollTo(0, 1e9); setTimeout(go, 300); })")
        assert len(opened.names()) > 60
        assert opened.problems() == []
        assert all(url.startswith("file://") for url in opened.requests())

        opened(SET.format(json.dumps(["search", "lr=0.01 failed"])))
        assert {row["word"] for row in _of(runs, opened.names())} == {"failed"} and opened.names()
        opened(SET.format(json.dumps(["search", ""])))
        opened(SET.format(json.dumps(["group", "none"])))
        for word, order in (("-figure", True), ("figure", False)):
            opened(SET.format(json.dumps(["sort", word])))
            values = [row["value"] for row in _of(runs, opened.names()) if row["value"] is not None]
            assert len(values) > 20 and values == sorted(values, reverse=order)
        opened(SET.format(json.dumps(["group", "sweep"])))
        heads = opened("[...document.querySelectorAll('tr.group .name')].map(name => name.textContent)")
        assert "train optim.lr, seed (configs/demo.yaml)" in heads or "pilot" in heads

        opened(SET.format(json.dumps(["search", "train-00000995"])))
        opened("document.querySelector('tr.run .name').click()")
        assert opened("document.querySelectorAll('b, img[onerror], .details iframe').length") == 1, "only the report"
        assert opened("document.querySelectorAll('tr.run svg polyline').length") == 2
        assert opened("document.querySelector('.details img').getAttribute('src')").startswith("./train-00000995/out/")
        address = opened("location.href")
        for width, dark in ((1280, False), (390, True)):
            opened.screen(width, dark)
            opened.go("about:blank")
            opened.go(address)
            assert opened.names() == ["train-00000995"], "what one has chosen is in the address"
            seen = opened(ASK)
            assert seen["scrolls_to"] <= seen["width"], f"scrolls sideways at {width}"
            assert seen["contrasts"][0][0] >= 4.5, seen["contrasts"]
            assert opened.problems() == []
            assert (seen["background"] != "rgb(251, 251, 249)") == dark


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed here")
def test_the_page_of_all_runs_can_be_used_by_all(runs: Path, tmp_path: Path) -> None:
    """By the rules of axe-core, in light and dark, with all runs and with one of them open."""
    page.write(str(runs))
    address = (runs / page.PAGE).as_uri()
    with Browser(tmp_path / "clicked") as chromium:
        opened = Opened(chromium, address)
        opened("document.querySelector('tr.run .name').click()")
        assert opened("document.querySelectorAll('.details').length") == 1
        of_one = opened("location.href")
    found = audited({"all": address, "one": of_one}, tmp_path / "audited")
    assert of_one != address
    assert {which: (seen.light, seen.dark) for which, seen in found.items()} == {"all": ([], []), "one": ([], [])}


def _of(runs: Path, names: list[str]) -> list[dict[str, Any]]:
    rows = shown(runs)
    return [rows[name] for name in names]
