"""The layers between a sandboxed process and the machine. Each is tried; `seal` says which ones hold.

Sources: the manual pages namespaces(7), mount_namespaces(7), pivot_root(2), landlock(7), capabilities(7), getrlimit(2),
prctl(2), and the kernel's include/uapi/linux/landlock.h.
"""

import contextlib
import ctypes
import os
import resource
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuromas.tasks.jail import syscalls

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MS_READ_ONLY, _MS_NO_SUID, _MS_NO_DEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_DUMPABLE, _DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SIGKILL = 4, 1, 38, 9
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_WORK = "/tmp"  # the one place where a program may write, in its private root

libc: Any = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Bounds:
    """What one process may use."""

    memory: int  # bytes of address space
    cpu: int  # seconds
    file: int = 1 << 20  # bytes of one file
    disk: int = 16 << 20  # bytes of the private root, held in memory
    descriptors: int = 32
    threads: int = 16
    without: list[str] = field(default_factory=list[str])  # layers to leave out; for tests of the others


def _call(name: str, *args: Any) -> int:
    """A C library function that returns -1 on failure; raises OSError then."""
    result = getattr(libc, name)(*args)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


# -- what the supervisor does, for both of its children --------------------------------------------------------


def detach(without: list[str]) -> list[str]:
    """Leave the network and the machine's shared memory; become root of a user namespace where that takes one."""
    if "namespaces" in without:
        return []
    outside = os.geteuid(), os.getegid()
    wanted = _NEW_NET | _NEW_IPC | _NEW_UTS
    if outside[0] == 0:
        with contextlib.suppress(OSError):
            _call("unshare", wanted)
            return ["network"]
    try:
        _call("unshare", wanted | _NEW_USER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {outside[0]} 1"), ("gid_map", f"0 {outside[1]} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except OSError:
        return []
    return ["network", "user namespace"]


def new_process_tree(without: list[str]) -> list[str]:
    """The next child sees no process but its own, and all of these die with it."""
    if "namespaces" in without:
        return []
    try:
        _call("unshare", _NEW_PID)
    except OSError:
        return []
    return ["processes"]


# -- what each child does to itself ----------------------------------------------------------------------------


def seal(bounds: Bounds, identity: int, layers: list[str]) -> list[str]:
    """Give up for good everything but computing; returns `layers` with those that were added.

    identity: a user id that nothing else on the machine uses, taken where this process may change it.
    """
    without, done = bounds.without, list(layers)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # memory short: these go first
    libraries = _libraries()
    private = "namespaces" not in without and _private_root(bounds, libraries)
    _limit(bounds)
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done += ["root"] if private else []
    if "landlock" not in without and _landlock(libraries, [_WORK] if private else []):
        done.append("landlock")
    if (private or _open_to_all(libraries[0])) and _become(identity):
        done.append("uid")
    if _drop_capabilities():
        done.append("capabilities")
    _call("prctl", _DUMPABLE, 0, 0, 0, 0)
    _call("prctl", _DEATH_SIGNAL, _SIGKILL, 0, 0, 0)
    if "syscalls" not in without:
        with contextlib.suppress(OSError):
            syscalls.install()
            done.append("syscalls")
    return [*done, "limits"]


def _libraries() -> list[str]:
    """Folders that hold the standard library and the shared libraries it loads; the first is Python's own."""
    own = str(Path(os.__file__).parent)
    base = f"{sys.base_prefix}/lib"
    found = [own if sys.base_prefix in ("/", "/usr") or not own.startswith(base) else base]
    return found + [d for d in ("/lib", "/lib64", "/usr/lib", "/usr/lib64") if Path(d).is_dir()]


def _private_root(bounds: Bounds, libraries: list[str]) -> bool:
    """Move to a small root in memory that holds the libraries, read-only, and an empty folder; the rest is gone."""
    root = str(Path.cwd())
    try:
        _call("unshare", _NEW_NS)
        _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        _mount("none", root, "tmpfs", _MS_NO_SUID | _MS_NO_DEV, f"size={bounds.disk},nr_inodes=1000,mode=0755")
        for folder in libraries:
            _show(folder, root)
        work = Path(root + _WORK)
        work.mkdir(exist_ok=True)
        work.chmod(0o777)
        os.chdir(root)
        _call("syscall", _PIVOT_ROOT[os.uname().machine], b".", b".")
        _call("umount2", b".", _DETACH)
        os.chdir(_WORK)
    except (OSError, KeyError):
        return False
    return True


def _show(folder: str, root: str) -> None:
    """Let a folder be read, not written, at its own path below `root`."""
    place = Path(root + folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    if Path(folder).is_symlink():
        place.symlink_to(Path(folder).readlink())
    elif not place.exists():  # a folder inside one that is shown already
        place.mkdir()
        _mount(folder, str(place), None, _MS_BIND | _MS_REC)
        kept = os.statvfs(folder).f_flag & 8  # noexec, where it is set, must stay
        _mount(None, str(place), None, _MS_BIND | _MS_REMOUNT | _MS_READ_ONLY | _MS_NO_SUID | _MS_NO_DEV | kept)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    text = [None if part is None else part.encode() for part in (source, target, kind, options)]
    _call("mount", text[0], text[1], text[2], ctypes.c_ulong(flags), text[3])


def _limit(bounds: Bounds) -> None:
    for what, most in (
        (resource.RLIMIT_AS, bounds.memory),
        (resource.RLIMIT_CPU, bounds.cpu),
        (resource.RLIMIT_FSIZE, bounds.file),
        (resource.RLIMIT_NOFILE, bounds.descriptors),
        (resource.RLIMIT_NPROC, bounds.threads),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_STACK, 8 << 20),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


_LANDLOCK = 444, 445, 446  # create a rule set, add a rule, restrict oneself; the same on all machines
_FILE_RIGHTS = 0x7FFF  # all of the third version of the interface, truncation included
_READ = 1 << 2 | 1 << 3  # files and folders
_DEVICE_IOCTL = 1 << 15


def _landlock(readable: list[str], writable: list[str]) -> bool:
    """Read `readable`, and write `writable`, and nothing else; no TCP, no signals to the outside where known."""
    version = libc.syscall(_LANDLOCK[0], None, ctypes.c_size_t(0), 1)
    if version < 3:  # earlier ones cannot stop a file from being truncated
        return False
    rights = _FILE_RIGHTS | (_DEVICE_IOCTL if version >= 5 else 0)
    parts = (rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)  # files, bind and connect, scopes
    wanted = struct.pack("=QQQ", *parts)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = -1
    try:
        rules = _call("syscall", _LANDLOCK[0], wanted, ctypes.c_size_t(len(wanted)), 0)
        for folder, allowed in [(f, _READ) for f in readable] + [(f, rights & ~1) for f in writable]:  # never execute
            place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            _call("syscall", _LANDLOCK[1], rules, 1, struct.pack("=Qi", allowed, place), 0)
            os.close(place)
        _call("syscall", _LANDLOCK[2], rules, 0)
    except OSError:
        return False
    finally:
        if rules >= 0:
            os.close(rules)
    return True


def _open_to_all(folder: str) -> bool:
    """Whether another user could still read the standard library there."""
    return all(place.stat().st_mode & 0o001 for place in (Path(folder), *Path(folder).parents))


def _become(identity: int) -> bool:
    """Another user without groups, where this process may; `nobody` where ids are few."""
    for user in (identity, 65534):
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            return True
    return False


def _drop_capabilities() -> bool:
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    try:
        _call("capset", header, none)
    except OSError:
        return False
    return True
