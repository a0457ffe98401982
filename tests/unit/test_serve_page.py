"""What the page is told: of files that grow, are replaced, are damaged or hostile; and the page's own files."""

import http.client
import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers import FirstCharacter, run_config
from neuromas import errors, serve
from neuromas.network.topology import Topology
from neuromas.results import StepMetrics
from neuromas.serve.app import watch_app
from neuromas.serve.record import GrowingFile, Record, shape
from neuromas.serve.responder import NetworkResponder
from neuromas.tasks import load_task
from served import ROW, make_app, running, serving_network

PAGE = Path(serve.__file__).parent / "page"
KEPT = Path(__file__).parents[2] / "docs" / "results"  # files that earlier builds wrote
LINE = {"step": 1, "reward": 0.5, "nodes": {"1.1": {"gradient_norm": 1.0, "entropy": 0.1, "length": 3.0, "kl": 0.0}}}


def get(address: str, path: str, **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def make_run(folder: Path, lines: list[Any]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(run_config(topology="2-1").model_dump_json())
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_growing_file_is_read_on_from_where_it_was_and_anew_where_it_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = GrowingFile(path, StepMetrics.from_dict)
    steps = lambda: [line.step for line in lines.read()]
    assert steps() == []
    path.write_text('{"step": 0}\n{"step": 1}\n{"st')
    assert steps() == [0, 1]
    with path.open("a") as file:
        file.write('ep": 2}\n')
    assert steps() == [0, 1, 2]
    new = tmp_path / "new"
    new.write_text('{"step": 0}\n{"step": 1}\n{"step": 7}\n')  # as long as before
    new.replace(path)
    assert steps() == [0, 1, 7]
    path.write_text('{"step": 5}\n')
    assert steps() == [5]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"step": "x"}',
        "[" * 100_000,
        '{"step": 9, "nodes": []}',
        "\x00\xff",
        '{"step": 9, "nodes": {"1.1": {"entropy": "<b>"}}}',
    ],
)
def test_what_has_not_the_expected_form_is_left_out(tmp_path: Path, bad: str) -> None:
    run = make_run(tmp_path / "run", [LINE])
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (run / name).open("a", encoding="latin-1") as file:
            file.write(bad + "\n")
    for name in ("final.json", "inspect/findings.json", "summary.json", "cells.jsonl", "checkpoints/step-1/state.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(bad, encoding="latin-1")
    with running(watch_app(Record("run", run))) as address:
        status, body, _ = get(address, "/run/metrics")
        assert (status, [line["step"] for line in json.loads(body)["lines"]]) == (200, [1])
        assert get(address, "/run/samples")[1] == b'{"samples":[]}'
        status, body, _ = get(address, "/run")
    told = json.loads(body)
    assert status == 200 and told["step"] == 1 and not told["finished"]
    assert (told["lineage"], told["worths"], told["results"], told["comparison"]) == ([], [], [], None)


def test_numbers_that_json_cannot_hold_are_told_as_null(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [LINE | {"reward": float("nan"), "accuracy": float("inf")}])
    with running(watch_app(Record("run", run))) as address:
        line = json.loads(get(address, "/run/metrics")[1], parse_constant=lambda name: pytest.fail(name))["lines"][0]
    assert line["reward"] is line["accuracy"] is None and line["nodes"]["1.1"]["entropy"] == 0.1


def test_halves_of_surrogate_pairs_do_no_harm(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [LINE])
    call = {"node": "1.1", "text": "a\ud800😀", "truncated": False}
    trace = {"question_id": "\udfff", "answer": "b", "calls": [call]}
    (run / "samples.jsonl").write_text(json.dumps({"step": 2, "reward": 1.0, "trace": trace}) + "\n")
    (run / "final.json").write_text(json.dumps({"steps": 1, "warnings": ["\ud800"]}))
    with running(watch_app(Record("run", run))) as address:
        (sample,) = json.loads(get(address, "/run/samples")[1])["samples"]
        assert json.loads(get(address, "/run")[1])["warnings"] == ["?"]
    assert (sample["question"], sample["turns"][0]["text"]) == ("?", "a?😀")


def test_only_what_came_after_a_step_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [LINE | {"step": k} for k in range(5)])
    with running(watch_app(Record("run", run))) as address:
        assert [x["step"] for x in json.loads(get(address, "/run/metrics?after=2")[1])["lines"]] == [3, 4]
        status, body, _ = get(address, "/run/metrics?after=x")
    assert status == 400 and json.loads(body)["error"]["param"] == "query.after"


def test_a_topology_is_told_with_its_layers_and_who_reads_what() -> None:
    told = shape(Topology.parse("2-1@first"))
    assert [(n.id, n.layer, n.upstream, n.sees_question) for n in told.nodes] == [
        ("1.1", 1, [], True),
        ("1.2", 1, [], True),
        ("2.1", 2, ["1.1", "1.2"], False),
        ("out", 3, ["2.1"], False),
    ]
    assert told.output == "out"


def test_examples_come_with_their_right_answers_and_are_graded_by_the_task() -> None:
    task = FirstCharacter("a", size=9)
    record = Record("run", None, "run", Topology.parse("2"), task)
    with running(make_app(serving_network(), record=record)) as address:
        examples = json.loads(get(address, "/run")[1])["examples"]
        assert examples == [{"text": q.text, "instruction": "", "answer": q.answer} for q in task.questions("test")[:8]]
        for answer, reward in (("ab", 1.0), ("b", 0.0)):
            status, body, _ = get(address, f"/run/grade?example=7&answer={answer}")
            told = {"reward": reward, "parsed": answer[0], "ambiguous": False}
            assert (status, json.loads(body)) == (200, told)
        for number, wanted in (("8", 404), ("-1", 400), ("x", 400)):
            assert get(address, f"/run/grade?example={number}&answer=a")[0] == wanted


ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.NeuromasError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_that_a_person_can_mend_is_told_by_every_route_and_is_no_500(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise kind("the value 7 is wrong; choose another")

    record = Record("run", None, "run", Topology.parse("2"), FirstCharacter("a", size=9))
    app = make_app(serving_network(), record=record)
    for name in ("run", "lines", "samples", "grade"):
        monkeypatch.setattr(record, name, fail)
    monkeypatch.setattr(NetworkResponder, "_answer", fail)
    with running(app) as address:
        for path in ("/run", "/run/metrics", "/run/samples", "/run/grade?example=1&answer=a"):
            status, body, _ = get(address, path)
            assert status in (400, 503) and json.loads(body)["error"]["message"].startswith("the value 7 is wrong")
        for path, body in ASKED.items():
            for more in ({}, {"stream": True}):
                answer = post(address, path, body | {"model": "net"} | more)
                assert "the value 7 is wrong; choose another" in answer and "internal" not in answer
        assert get(address, "/healthz")[0] == 200
    assert "Traceback" not in caplog.text and not any(line.exc_info for line in caplog.records)


ASKED = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "1+1"}]},
    "/v1/completions": {"prompt": ["1+1", "2+2"]},
    "/v1/responses": {"input": "1+1"},
}


def post(address: str, path: str, body: dict[str, Any]) -> str:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    said = connection.getresponse().read().decode()
    connection.close()
    return said


REWARDS = {
    "raises": ("raise ValueError('no service')", "no service"),
    "refuses": (
        "from neuromas.errors import TaskError; raise TaskError('the judge is away; start it')",
        "the judge is away",
    ),
    "dies": ("import os; os._exit(3)", "ended its process"),
    "exits": ("raise SystemExit(1)", "SystemExit"),
    "hangs": ("import time; time.sleep(60)", "took more than 1 s"),
    "nonsense": ("return 'much'", "'much'"),
}


@pytest.mark.parametrize("what", REWARDS)
def test_a_reward_that_fails_is_told_by_the_page_and_the_server_stays(what: str, tmp_path: Path) -> None:
    code, told = REWARDS[what]
    rows = [{"question": f"Q{n}", "answer": "x"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "reward.py").write_text(
        f"def score(question, reply):\n    if reply == 'fine':\n        return 1\n    {code}\n"
    )
    text = 'data = "rows.jsonl"\ngrader = "reward.py:score"\ntest_size = 3\nvalidation_size = 3\nreward_seconds = 1\n'
    (tmp_path / "own.toml").write_text(text)
    record = Record("run", None, "run", Topology.parse("2"), load_task(str(tmp_path / "own.toml")))
    with running(watch_app(record)) as address:
        for _ in range(2):
            status, body, _ = get(address, "/run/grade?example=1&answer=a")
            error = json.loads(body)["error"]
            assert status == 400 and error["code"] == "not_graded"
            assert told in error["message"] and "\n" not in error["message"]
            assert get(address, "/run/grade?example=1&answer=fine")[0] == 200


def test_before_the_first_checkpoint_the_topology_is_the_recipes(tmp_path: Path) -> None:
    told = Record("run", make_run(tmp_path / "run", [])).run()
    assert told.shape == shape(Topology.parse("2-1")) and told.step == -1


def test_a_run_is_told_the_comparison_that_it_is_a_part_of_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps([ROW]))
    (tmp_path / "runs/net/t").mkdir(parents=True)
    record = Record("run", make_run(tmp_path / "runs/net/t/lr_s0", []))
    assert record.run().comparison is None, "a summary.json without cells.jsonl is something else"
    (tmp_path / "cells.jsonl").touch()
    found = record.run().comparison
    assert found is not None and (found.title, [r.system for r in found.rows]) == ("All", ["net"])


def test_the_files_of_older_runs_and_comparisons_are_shown_whole() -> None:
    runs = [path.parent for path in KEPT.glob("**/metrics.jsonl")]
    comparisons = [path.parent for path in KEPT.glob("**/summary.json") if (path.parent / "cells.jsonl").is_file()]
    assert runs
    assert comparisons
    for folder in runs:
        record, lines = Record("run", folder), (folder / "metrics.jsonl").read_text().splitlines()
        assert [line.step for line in record.lines(-1).lines] == [json.loads(line)["step"] for line in lines]
        if (folder / "final.json").is_file():
            results = json.loads((folder / "final.json").read_text())["results"]
            assert [result.accuracy for result in record.run().results] == [entry["accuracy"] for entry in results]
    for folder in comparisons:
        found = Record("comparison", folder).run().comparison
        assert found is not None
        rows = json.loads((folder / "summary.json").read_text())
        assert [row.system for row in found.rows] == [row["system"] for row in rows]


def test_the_page_asks_nothing_of_other_hosts_and_makes_no_markup_of_text() -> None:
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, f"{path.name} names a host"
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="):
            assert word not in text, f"{path.name} uses {word}"


def test_every_file_that_the_page_names_is_served_with_its_type_and_a_policy() -> None:
    named = {n for p in PAGE.iterdir() for n in re.findall(r'"(?:/page/|\./)([\w.]+)"', p.read_text(encoding="utf-8"))}
    assert named == {p.name for p in PAGE.iterdir()} - {"index.html"}
    with running(make_app(serving_network(), api_key="secret")) as address:
        for path in ("/", *(f"/page/{name}" for name in named)):
            status, _, headers = get(address, path)
            assert status == 200, f"{path} needs a key"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert headers["Content-Type"].split(";")[0] in (
                "text/html",
                "text/css",
                "text/javascript",
                "image/svg+xml",
            )
        for path in ("/page/../app.py", "/page/..%2fapp.py", "/page/nothing.js"):
            assert get(address, path)[0] == 404
        for path in ("/run", "/run/metrics", "/run/samples"):
            assert get(address, path)[0] == 401
            assert get(address, path, Authorization="Bearer secret")[0] == 200
