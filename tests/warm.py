"""A process that has imported the library and forks for each command, so that a command starts at once.

Importing torch and transformers takes several seconds, and the pages of the documentation hold dozens of commands. So
in `make test` the programs `neuromas` and `python` of a page's environment are clients of this process: they send it
their arguments, folder, environment and streams. `make test-slow` follows the same pages without it.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CLIENT = """\
#!{python} -IS
import json, os, socket, sys
request = {{"argv": ["{name}", *sys.argv[1:]], "group": os.getpgrp(), "folder": os.getcwd()}}
connection = socket.socket(socket.AF_UNIX)
connection.connect("{address}")
request |= {{"environment": dict(os.environ), "python": "{python}"}}
socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
sys.exit(int(connection.recv(8) or 1))
"""
_IMPORTED = ("cli.show", "cli.systems", "run.final", "run.loop", "run.grow", "analysis.study", "serve.app")


@contextmanager
def serving(folder: Path, sources: Path) -> Iterator[Path]:
    """A warm process that has the library of `sources`; its address is a file in `folder`."""
    address = folder / "warm"
    command = [sys.executable, __file__, str(address), str(sources)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield address
    finally:
        process.kill()
        process.communicate()


def use(environment: Path, address: Path) -> None:
    """Let `neuromas` and `python` of a virtual environment be clients of the warm process at `address`."""
    python = environment / "bin" / "python3"
    python.unlink()
    python.symlink_to((environment / "bin" / "python").resolve())
    for name in ("neuromas", "python"):
        script = environment / "bin" / name
        script.unlink()
        script.write_text(_CLIENT.format(python=python, name=name, address=address))
        script.chmod(0o755)


def serve(address: str, sources: str) -> None:
    """Fork for each request until the process that has started this one is gone, and the pipe from it is closed."""
    sys.path[0] = sources
    for module in _IMPORTED:
        importlib.import_module(f"neuromas.{module}")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that children need not be waited for
    print("ready", flush=True)
    while select.select([listening, sys.stdin], [], [])[0] == [listening]:
        connection, _ = listening.accept()
        message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if os.fork() == 0:
            _run(json.loads(message), streams, connection)
        for opened in streams:
            os.close(opened)
        connection.close()


def _run(request: dict[str, Any], streams: list[int], connection: socket.socket) -> None:
    """Do a command in this forked process, which ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, request["group"])  # the job of the shell, so that `kill %1` reaches it
    for number, opened in enumerate(streams):
        os.dup2(opened, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable = request["python"]
    status = 1
    try:
        _command(request["argv"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(str(status).encode())
    os._exit(status)


def _command(argv: list[str]) -> None:
    program, *sys.argv = argv
    if program == "neuromas":
        from neuromas.cli import main

        main(sys.argv)
    elif sys.argv == ["-"]:
        sys.path[0] = ""
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(*sys.argv[1:])
