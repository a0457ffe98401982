"""Follows a page of the documentation as a person does: in a fresh shell, in a clone, block by block.

- A fenced block with a title is a file of that name.
- The lines of a ```sh block are typed into the shell; after `&` at the end a server's address is waited for.
- A ```python block without a title is typed into `python`, a process of its own for each block.
- `<!-- not run: reason -->` in the line before a block leaves it out.

Numbers are made small before anything runs, by replacements that must each be found on the page.
"""

import os
import re
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import tomllib
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
JOBS = ("for_engineers.md", "for_researchers.md", "for_students.md", "for_maintainers.md")  # followed from the wheel
_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SKIP = re.compile(r"<!-- not run: \S.* -->\n\Z")
_SHOWN = ("text",)  # languages of blocks that only show something


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str  # "" where it is no file
    code: str
    line: int  # of the page, for messages


def blocks(page: str) -> list[Block]:
    """The blocks of a page that are run. Raises AssertionError for a block that is neither run, nor only shown, nor
    left out with a reason."""
    found: list[Block] = []
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        language, title, code = match[1], match[2] or "", match[3]
        if language in _SHOWN or _SKIP.search(page[: match.start()]):
            continue
        assert title or language in ("python", "sh"), (
            f"line {line}: a {language} block is a file with a title, or is left out with <!-- not run: reason -->"
        )
        found.append(Block(language, title, code, line))
    fences = len(re.findall(r"^```", page, re.MULTILINE))
    assert fences == 2 * len(_BLOCK.findall(page)), "a block is not read: it has no language, or its fence is indented"
    return found


def small(page: str, replacements: Mapping[str, str]) -> str:
    """The page with other numbers. Raises AssertionError where one of them is not on it."""
    for old, new in replacements.items():
        assert old in page, f"{old!r} is not on the page"
        page = page.replace(old, new)
    return page


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def copy_repository(target: Path) -> None:
    """A copy of the sources as a clone has them; published results are left out, since no command reads them."""
    left_out = {".git", ".venv", "runs", "build", "dist", "__pycache__"}

    def ignored(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(ROOT).as_posix()
        results = {"results"} if inside in ("docs", "benchmarks") else set[str]()
        return [name for name in names if name in left_out | results or name.endswith(("_cache", ".egg-info"))]

    shutil.copytree(ROOT, target, ignore=ignored)


_PIP = """\
import re, sys, tomllib  # a stand-in: everything is installed; extras must exist in the folder one stands in
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
asked = [name for word in sys.argv for part in re.findall(r"^[.]\\[(.+)\\]$", word) for name in part.split(",")]
sys.exit(f"no extra {asked}" if set(asked) - set(extras) else 0)
"""


def install(clone: Path) -> None:
    """What `make install` leaves in a clone, made of the packages that the tests run with instead of downloads."""
    environment = clone / ".venv"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "neuromas.pth").write_text(f"{clone / 'src'}\n{sysconfig.get_path('purelib')}\n")
    project = tomllib.loads((clone / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    scripts = {
        name: f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        for name, (module, function) in ((name, entry.split(":")) for name, entry in project["scripts"].items())
    }
    for name, code in {"pip": _PIP, **scripts}.items():
        script = environment / "bin" / name
        script.write_text(f"#!{environment / 'bin' / 'python3'}\n{code}")
        script.chmod(0o755)
    (environment / ".run").touch()  # the stamp by which make knows that this is done


_LOOP = """\
set -m  # jobs, as an interactive shell has them
while IFS= read -r line; do eval "$line" </dev/null; printf "\\n@@ended %s@@\\n" $?; done
"""
_ENDED = re.compile(rb"\n@@ended (\d+)@@\n")
_ADDRESS = re.compile(rb"http://\S+.*\n")
# What a shell keeps of this process's environment: how packages are fetched, and fonts, whose cache takes long to build
_PASSED_ON = re.compile(r"PIP_\w+|\w+_proxy|SSL_CERT_FILE|REQUESTS_CA_BUNDLE", re.IGNORECASE)


class Shell:
    """A bash that has read no profile and has nothing of this process's environment. It begins in `folder`."""

    def __init__(self, folder: Path, seconds: float = 600) -> None:
        self._seconds = seconds  # the longest that one command may take
        self.session: list[str] = []  # each command behind "$ ", with what it printed
        home = folder / ".home"
        home.mkdir()
        self._log = home / "shell.log"
        programs = [sysconfig.get_config_var("BINDIR"), "/usr/local/bin", "/usr/bin", "/bin"]
        environment = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        environment |= {"HOME": str(home), "PATH": ":".join(programs), "LANG": "C.UTF-8", "COLUMNS": "100"}
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir()) / "neuromas-tests-matplotlib")
        with self._log.open("wb") as log:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-c", _LOOP],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._read = 0  # bytes of the log

    def run(self, command: str, place: str = "") -> str:
        """Type a command and return what it prints; after `&` at its end, what it prints until it names an address.

        Raises AssertionError where it fails or does not end.
        """
        line = re.sub(r"\\\n\s*", "", command)
        begin = self._read
        self._type(line)
        ended = self._wait_for(_ENDED, begin, place or line)
        last = ended.end()
        if line.split(" #")[0].rstrip().endswith("&"):
            last = max(last, self._wait_for(_ADDRESS, begin, place or line).end())
        self._read = begin + last
        printed = _ENDED.sub(b"", self._log.read_bytes()[begin : self._read]).decode(errors="replace")
        self.session.append(f"$ {command}\n{printed}")
        assert ended[1] == b"0", f"{place}: {line!r} failed: {printed[-4000:]}"
        return printed

    def _type(self, line: str) -> None:
        print(f"$ {line}", flush=True)
        assert self._bash.stdin is not None
        self._bash.stdin.write(line + "\n")
        self._bash.stdin.flush()

    def _wait_for(self, pattern: re.Pattern[bytes], begin: int, place: str) -> re.Match[bytes]:
        """The first match in what is printed from the byte `begin` of the log on."""
        end = time.monotonic() + self._seconds
        while time.monotonic() < end and self._bash.poll() is None:
            if match := pattern.search(self._log.read_bytes()[begin:]):
                return match
            time.sleep(0.02)
        raise AssertionError(f"{place}: no end after {self._seconds} seconds: {self.transcript()[-4000:]}")

    def transcript(self) -> str:
        """All that was printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End what still runs in the background, each job with all its processes, then the shell."""
        if self._bash.poll() is None:
            self._type('for job in $(jobs -p); do kill -- -"$job" 2>/dev/null; done; wait; exit')
        self._bash.communicate(timeout=120)


def follow(shell: Shell, folder: Path, name: str, page: str) -> str:
    """Do what a page says, in order. `folder` is where the shell stands when the page begins.

    Returns what all commands print together. Raises AssertionError at the first one that fails.
    """
    printed: list[str] = []
    for block in blocks(page):
        place = f"{name}:{block.line}"
        if block.title:
            (folder / block.title).write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            script = folder / ".block.py"  # as many empty lines before it as on the page, so that errors name its lines
            script.write_text("\n" * block.line + block.code, encoding="utf-8")
            printed.append(shell.run(f"python - < {script}", place))
        else:
            lines = re.split(r"(?<!\\)\n", block.code)
            commands = [line for line in lines if line.strip() and not line.startswith("#")]
            printed += [shell.run(command, place) for command in commands]
    return "".join(printed)
