"""The page in a real browser: a question and every node's message, the run's curves, hostile texts, accessibility."""

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import Watched, chromium, faults, scrolls_sideways
from helpers import FirstCharacter, binary_backbone, forward, make_backbone, make_network, run_config
from neuromas.evaluate.report import write_report
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.run.loop import train
from neuromas.serve.app import watch_app
from neuromas.serve.record import Record
from neuromas.tasks.base import Split
from neuromas.types import Question
from served import PATTERN, RESULT, ROW, make_app, running, serving_network

NETWORK = serving_network(max_position_embeddings=2048)
PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "compare_tiny_compositional"
SIZES = {
    "desktop": {"width": 1600, "height": 900},
    "tablet": {"width": 1024, "height": 900},
    "phone": {"width": 390, "height": 844},
}
EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the network's shape, with a report of inspect, test figures, growth, in a comparison."""
    folder = tmp_path_factory.mktemp("comparison") / "runs" / "net"
    train(run_config(topology="2-1", train__silence_questions=2), folder, backbone=binary_backbone())
    worth = {"cost": 0.5, "cost_ci95": [0.4, 0.6], "shapley": 0.3, "shapley_ci95": [0.2, 0.4], "verdict": "needed"}
    values = {"nobody": 0.1, "nodes": {"1.1": worth, "1.2": worth | {"cost": -0.25, "verdict": "harmful"}}}
    findings = {"split": "test", "n": 9, "decodings": {"greedy": {"accuracy": 0.75, "values": values}}}
    (folder / "inspect").mkdir()
    write(folder / "inspect/findings.json", findings)
    result = RESULT | {"checkpoint": "best", "messages_cut": 0.0001, "ambiguous": 0.25}
    write(folder / "final.json", {"steps": 6, "results": [result], "warnings": [EVIL]})
    write(
        folder.parent.parent / "summary.json", [ROW | {"system": EVIL}, ROW | {"reference": True, "answers_cut": 0.5}]
    )
    (folder.parent.parent / "cells.jsonl").touch()
    state = next((folder / "checkpoints").glob("step-000006/state.json"))
    found = json.loads(state.read_text())
    found["progress"]["lineage"] = [{"step": 3, "operators": ["widen layer 1 by 1"], "new": ["1.2"], "init": "fade"}]
    found["progress"]["lineage"][0]["mapping"] = {}
    write(state, found)
    return folder


def write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data))


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    record = Record("net", run, "net", NETWORK.topology, Sums("S"), answering=2)
    with running(make_app(NETWORK, record=record)) as found:
        yield found


class Sums(FirstCharacter):
    """Two questions, whose right answers are the page's to show."""

    def questions(self, split: Split) -> list[Question]:
        return [Question(text, text, answer, instruction="Add.") for text, answer in (("1+1", "2"), ("2+2", "4"))]


def messages(text: str) -> dict[str, str]:
    question = Question("asked", text, "", instruction=PATTERN.instruction, answer_prefix=PATTERN.answer_prefix)
    return {
        call.node: call.text
        for call in forward(NETWORK, [question], rollouts=1, seed=0, decoding=Decoding(greedy=True))[0].calls
    }


@pytest.mark.parametrize("size, scheme", [("desktop", "light"), ("phone", "dark")])
def test_a_question_shows_every_nodes_message_without_errors_or_faults_of_access(
    browser: Any, address: str, size: str, scheme: str
) -> None:
    watched = Watched(browser, address, viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce")
    page = watched.page
    page.get_by_role("button", name="Example").click()
    assert page.get_by_role("textbox", name="Question").input_value() == "1+1"
    page.get_by_role("textbox", name="Question").press("Enter")
    page.locator(".node.done[data-id='out']").wait_for()
    shown = {n.locator(".id").inner_text(): n.locator(".text").text_content() for n in page.locator(".node").all()}
    expected = messages("1+1")
    assert shown == expected | {"out": PATTERN.answer_prefix + expected["out"]}
    assert page.locator("#answer").text_content() == PATTERN.answer_prefix + expected["out"]
    page.get_by_text("Right answer: 2 · graded right").wait_for()  # the prefix begins with an S
    assert page.get_by_text("The answering node is told: Add.").is_visible()
    assert page.locator(".edges path").count() == page.locator(".edges path.sent").count() == 2 + 2 + 1

    page.locator(".node[data-id='1.2']").click()
    panel = page.locator("#node")
    assert panel.locator(".hint").first.inner_text() == "layer 1 · reads the question · read by 2.1"
    assert "1+1" in panel.locator("pre[aria-label=Prompt]").text_content()
    assert panel.locator("pre.message").text_content() == expected["1.2"]
    assert panel.locator(".tokens span").count() > 0
    assert "harmful" in panel.inner_text() and "−25.0" in panel.inner_text()
    assert not scrolls_sideways(page)
    assert faults(page) == []
    assert watched.errors == []
    watched.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["2", "8-3", "16-8-4-2+skip"], ids=["3 nodes", "12 nodes", "31 nodes"])
def test_a_network_of_any_size_is_shown_without_faults_of_access(browser: Any, topology: str) -> None:
    network = make_network(topology, make_backbone(style="plain", max_position_embeddings=2048), tokens=6)
    with running(make_app(network)) as at:
        for width, scheme in product((390, 1024, 1600), ("light", "dark")):
            viewport = {"width": width, "height": 900}
            watched = Watched(browser, at, viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
            page = watched.page
            page.get_by_role("textbox", name="Question").fill("1+1")
            page.get_by_role("button", name="Ask").click()
            page.locator(".node.done[data-id='out']").wait_for()
            page.locator(".node").first.click()
            assert page.locator(".node").count() == len(network.topology.nodes)
            assert [*faults(page), *watched.errors] == [], (width, scheme)
            assert not scrolls_sideways(page)
            watched.context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a published comparison's report, as it lies on the disk."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("cells.jsonl", "answers.jsonl.gz"):
        shutil.copy(PUBLISHED / name, folder)
    write_report(folder)
    return (folder / "report.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_report_of_a_comparison_is_read_at_any_size_and_by_keyboard(
    browser: Any, report: str, size: str, scheme: str
) -> None:
    watched = Watched(browser, report, viewport=SIZES[size], color_scheme=scheme)
    page = watched.page
    assert page.locator("table").count() > 1
    assert not scrolls_sideways(page)
    assert faults(page) == []
    assert watched.errors == []
    watched.context.close()


def test_the_runs_curves_samples_growth_worth_and_comparison_are_shown(browser: Any, address: str) -> None:
    watched = Watched(browser, address, viewport=SIZES["desktop"])
    page = watched.page
    page.get_by_role("heading", name="Comparison").wait_for()
    titles = page.locator(".chart:visible figcaption b").all_inner_texts()
    assert titles == ["Reward and accuracy", "Gradient norm", "Entropy", "Length", "Cost of silencing"]
    slider = page.get_by_role("slider", name="Entropy")
    slider.press("Home")
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "3"
    line = json.loads(page.request.get(f"{address}/run/metrics?after=2").text())["lines"][0]
    assert line["step"] == 3
    for node, figures in line["nodes"].items():
        assert f"{node} {float(format(figures['entropy'], '.3g')):g}" in slider.get_attribute("aria-valuetext")
    assert page.get_by_role("slider", name="Length").get_attribute("aria-valuenow") == "3", "one cursor for all charts"
    box = slider.bounding_box()
    slider.hover(position={"x": box["width"] - 2, "y": 60})
    page.wait_for_function("e => e.getAttribute('aria-valuenow') === '6'", arg=slider.element_handle())

    page.locator(".node[data-id='1.2']").click()
    assert page.get_by_label("Node", exact=True).input_value() == "1.2"
    rows = page.locator("#sample-table tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["0", "2", "4", "6"]
    assert "after step 3: widen layer 1 by 1 · new: 1.2" in page.locator("#lineage").inner_text()
    assert "net (reference)" in page.locator("#comparison").inner_text()
    assert "net: 50.0 % of the answers were cut by the token limit" in page.locator("#comparison").inner_text()
    told = page.locator("#results").inner_text()
    assert "best, greedy: under 0.1 % of the messages were cut by the token limit, 25.0 % commit to several" in told
    calls = page.locator("#result-table tbody td:nth-of-type(7), #comparison-table tbody td:nth-of-type(7)")
    assert calls.all_inner_texts() == ["4.01"] * 3
    assert page.locator("#progress").inner_text() == "trained, 6 steps · the network of step 2 answers"
    assert watched.errors == []
    watched.context.close()


def test_a_table_shows_towards_which_end_it_scrolls(browser: Any, address: str) -> None:
    watched = Watched(browser, address, viewport=SIZES["phone"], reduced_motion="reduce")
    page = watched.page
    table = page.locator("#comparison-table .wide").first
    table.scroll_into_view_if_needed()
    assert table.evaluate("e => e.scrollWidth > e.clientWidth")
    table.evaluate("e => { e.firstElementChild.style.visibility = 'hidden' }")  # the ground alone is looked at
    seen = []
    for left in (0, 40, 10_000):
        table.evaluate("(e, left) => { e.scrollLeft = left }", left)
        picture = Image.open(BytesIO(table.screenshot())).convert("RGB")
        ground, first, last = (picture.getpixel((x, picture.height // 3)) for x in (picture.width // 2, 1, -2))
        seen.append((first != ground, last != ground))
    assert seen == [(False, True), (True, True), (True, False)], "shaded where more lies, and nowhere else"
    watched.context.close()


def test_long_messages_push_no_node_out_of_sight(browser: Any) -> None:
    network = make_network("2-2-2", make_backbone(style="plain", max_position_embeddings=2048), tokens=40)
    with running(make_app(network)) as at:
        watched = Watched(browser, at, viewport=SIZES["desktop"])
        page = watched.page
        page.get_by_role("textbox", name="Question").fill("1+1 " * 20)
        page.get_by_role("button", name="Ask").click()
        page.locator(".node.done[data-id='out']").wait_for()
        right = page.locator("#graph").evaluate("e => e.getBoundingClientRect().right")
        boxes = [node.bounding_box() for node in page.locator(".node").all()]
        assert all(box["x"] + box["width"] <= right for box in boxes)
        watched.context.close()


def test_texts_from_outside_are_text(browser: Any, address: str) -> None:
    watched = Watched(browser, address)
    page = watched.page
    page.get_by_role("textbox", name="Question").fill(EVIL)
    page.get_by_role("button", name="Ask").click()
    page.locator(".node.done[data-id='out']").wait_for()
    page.locator(".node[data-id='1.1']").click()
    assert EVIL in page.locator("pre[aria-label=Prompt]").text_content()
    assert EVIL in page.locator("#warnings").text_content() and EVIL in page.locator("#comparison").text_content()
    assert page.title() == "net · neuromas" and page.locator("img, main script").count() == 0
    assert watched.errors == []
    watched.context.close()


def test_nodes_are_reached_and_chosen_by_keyboard(browser: Any, address: str) -> None:
    watched = Watched(browser, address, viewport=SIZES["desktop"])
    page = watched.page
    page.locator(".node").first.focus()
    for key, node in (("ArrowDown", "1.2"), ("ArrowRight", "2.1"), ("ArrowRight", "out"), ("ArrowLeft", "2.1")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.querySelector('.id').textContent") == node
    page.keyboard.press("Enter")
    assert page.locator("#node-title").inner_text() == "Node 2.1"
    watched.context.close()


def test_an_answer_that_fails_is_told_and_the_next_question_works(browser: Any, address: str) -> None:
    watched = Watched(browser, address)
    page = watched.page
    page.get_by_role("textbox", name="Question").fill("1" * 2100)
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("context window").wait_for()
    page.get_by_role("textbox", name="Question").fill("1+1")
    page.get_by_role("button", name="Ask").click()
    page.locator(".node.done[data-id='out']").wait_for()
    assert page.locator("#ask-error").inner_text() == ""
    watched.context.close()


def test_a_locked_server_shows_nothing_before_it_is_given_its_key(browser: Any, run: Path) -> None:
    with running(make_app(NETWORK, record=Record("net", run, "net", NETWORK.topology), api_key="secret")) as at:
        watched = Watched(browser, at)
        page = watched.page
        field = page.get_by_label("This server needs its key")
        field.fill("wrong")
        page.get_by_role("button", name="Unlock").click()
        page.get_by_text("That key is wrong.").wait_for()
        assert page.locator(".node").count() == 0
        field.fill("secret")
        page.get_by_role("button", name="Unlock").click()
        page.get_by_role("textbox", name="Question").fill("1+1")
        page.get_by_role("button", name="Ask").click()
        page.locator(".node.done[data-id='out']").wait_for()
        watched.context.close()


def test_watching_follows_a_run_that_goes_on_and_grows(browser: Any, run: Path, tmp_path: Path) -> None:
    young = tmp_path / "young"
    shutil.copytree(run, young, symlinks=True)
    lines = (young / "metrics.jsonl").read_text().splitlines(keepends=True)
    (young / "metrics.jsonl").write_text("".join(lines[:3]))
    for name in ("final.json", "best", "checkpoints"):
        shutil.rmtree(young / name) if (young / name).is_dir() and name != "best" else (young / name).unlink()
    with running(watch_app(Record("young", young))) as at:
        watched = Watched(browser, at)
        page = watched.page
        page.get_by_text("step 2 of 6").wait_for()
        assert page.locator("#ask").is_hidden(), "nobody answers here"
        assert page.locator(".node .id").all_inner_texts() == ["1.1", "1.2", "2.1", "out"]
        with (young / "metrics.jsonl").open("a") as file:
            file.writelines(lines[3:])
        call = {"node": "1.3", "text": "new", "truncated": False}
        sample = {
            "step": 7,
            "split": "validation",
            "question": "q",
            "reward": 1.0,
            "trace": {"answer": "", "calls": [call]},
        }
        with (young / "samples.jsonl").open("a") as file:
            file.write(json.dumps(sample) + "\n")
        grown = young / "checkpoints/step-000006"
        grown.mkdir(parents=True)
        write(grown / "topology.json", Topology.parse("3-1").to_dict())
        page.get_by_text("trained, 6 steps").wait_for(timeout=10_000)
        assert page.locator(".node .id").all_inner_texts() == ["1.1", "1.2", "1.3", "2.1", "out"]
        assert page.get_by_role("slider", name="Entropy").get_attribute("aria-valuemax") == "6"
        assert page.locator("#sample-node option").all_inner_texts() == ["all nodes", "1.1", "1.2", "1.3", "2.1", "out"]
        assert watched.errors == []
        watched.context.close()
