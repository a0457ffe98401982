"""The server keeps to its own OpenAPI schema, whatever schemathesis thinks of sending."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import binary_backbone, run_config
from neuromas.run.loop import train
from neuromas.serve.record import Record
from served import make_app, running, serving_network


@pytest.mark.slow
def test_schemathesis_finds_no_failure_and_no_undocumented_answer(tmp_path: Path) -> None:
    """As a program of its own: its pytest plugin does not go with this pytest."""
    train(run_config(train__steps=2), tmp_path / "run", backbone=binary_backbone())
    network = serving_network(tokens=3, max_position_embeddings=8192)
    record = Record("net", tmp_path / "run", "net", network.topology)
    app = make_app(network, record=record, body_bytes=8 << 20)  # it takes a 413 for no refusal
    with running(app) as address:
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json",
                "--phases", "coverage,fuzzing", "--max-examples", "3", "--seed", "1", "--no-color",
                "--request-timeout", "60",
            ],
            capture_output=True, text=True, timeout=600, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested: 10" in done.stdout and "generated" in done.stdout, done.stdout[-2000:]
    answered = {s.labels["status"] for m in app.state.metrics.requests.collect() for s in m.samples}
    assert {"200", "400"} <= answered and not any(status.startswith("5") for status in answered)
