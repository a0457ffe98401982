"""Measures a server under load: python -m benchmarks.serving RUN. Every answer is checked against an offline trace.

Phases, one JSON line each: `one at a time` (one client), `unbatched` (all clients, batches of one question), `batched`
(all clients), `queue full` (a queue of 4), `terminated` (SIGTERM under load).
"""

import argparse
import asyncio
import json
import platform
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.load import Probe, Tally, load, serving
from benchmarks.report import emit
from neuromas.network.forward import Network
from neuromas.run.build import load_run

_CPU = "process_cpu_seconds_total"


def make_probes(run: Path, questions: int) -> list[Probe]:
    """Requests, in turn greedy, greedy and streamed, sampled with a seed; each with its offline answer, asked alone."""
    network, task, _ = load_run(run)
    assert isinstance(network, Network)
    probes: list[Probe] = []
    temperature = network.decoding.temperature
    for k, item in enumerate(task.questions("test")[:questions]):
        question = replace(item, id="asked", answer="", metadata={})
        sampled = k % 3 == 2
        n = 1 + (k % 2 if sampled else 0)
        traces = network.answer([question], greedy=not sampled, seed=k, rollouts=n)
        body: dict[str, Any] = {"model": run.name, "messages": [{"role": "user", "content": item.text}]}
        body |= {"temperature": temperature, "seed": k, "n": n} if sampled else {"temperature": 0, "stream": k % 3 == 1}
        probes.append(Probe(body, [trace.answer for trace in traces]))
    return probes


def phase(
    args: argparse.Namespace, name: str, probes: list[Probe], clients: int, seconds: float, *options: str
) -> Tally:
    """Start a server, load it, and emit one line."""
    with serving(str(args.run), "--threads", str(args.threads), *options) as server:
        warm = asyncio.run(load(server.port, probes, clients, min(2.0, seconds)))
        memory: list[float] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(2.0):
                memory.append(server.metric("process_resident_memory_bytes") / 2**20)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start, busy = time.perf_counter(), server.metric(_CPU)
        if name == "terminated":
            threading.Timer(seconds / 2, server.process.terminate).start()
            stop.set()
        tally = asyncio.run(load(server.port, probes, clients, seconds))
        took = time.perf_counter() - start
        busy = server.metric(_CPU) - busy if name != "terminated" else None
        stop.set()
        watcher.join()
        farewell = server.terminate() if server.process.poll() is None else server.process.communicate()[0].strip()
    line = {"phase": name, "run": args.run.name, "clients": clients, "seconds": round(took, 1), **tally.to_dict()}
    line["answers_a_second"] = round(len(tally.seconds) / took, 1)
    if busy:  # of the server alone, so other work on the machine hardly changes it
        line["answers_a_cpu_second"] = round(len(tally.seconds) / busy, 1)
    if memory:
        line["rss_mib"] = [round(x) for x in memory[:: max(1, len(memory) // 12)]]  # over the load, evenly
    farewell = farewell.splitlines()[-1]
    accepted = int(farewell.split()[1])  # "questions: 12 accepted, …"
    line["lost"] = accepted - sum(len(t.seconds) + len(t.wrong) for t in (warm, tally))  # no client got their answer
    line |= {"farewell": farewell, "threads": args.threads, "machine": platform.machine()}
    line["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    emit(line, args.out)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the phase `batched`; others take a quarter")
    parser.add_argument("--questions", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--phases", nargs="+", default=["one at a time", "unbatched", "batched", "queue full", "terminated"]
    )
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file too")
    args = parser.parse_args()
    probes = make_probes(args.run, args.questions)
    short = args.seconds / 4
    plans: dict[str, tuple[int, float, tuple[str, ...]]] = {
        "one at a time": (1, short, ()),
        "unbatched": (args.clients, short, ("--batch-rows", "1")),
        "batched": (args.clients, args.seconds, ()),
        "queue full": (args.clients, short, ("--queue", "4")),
        "terminated": (args.clients, short, ()),
    }
    for name in args.phases:
        clients, seconds, options = plans[name]
        tally = phase(args, name, probes, clients, seconds, *options)
        for probe, answers in tally.wrong[:3]:
            print(json.dumps({"wrong": answers, "should_be": probe.answers, "body": probe.body}))


if __name__ == "__main__":
    main()
