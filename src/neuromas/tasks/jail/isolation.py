"""The layers between a sandboxed process and the machine. Each is tried; `seal` returns those that hold.

Sources: the manual pages namespaces(7), mount_namespaces(7), pivot_root(2), landlock(7), capabilities(7), getrlimit(2),
prctl(2), and the kernel's include/uapi/linux/landlock.h.
"""

import _thread
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
_WORK = "/tmp"  # The one folder of its private root in which a program may write.

_PACKAGES = ("site-packages", "dist-packages")  # Folders of installed packages within a Python's library.

libc: Any = ctypes.CDLL(None, use_errno=True)


class Unsealed(Exception):
    """This machine cannot give a process what every program is promised; says what, and the remedy."""


@dataclass(frozen=True)
class Bounds:
    """The resources and layers of one process."""

    memory: int  # Bytes of address space.
    cpu: int  # Seconds of computing time.
    file: int = 1 << 20  # Bytes of one file.
    disk: int = 16 << 20  # Bytes of the private root, held in memory.
    descriptors: int = 32
    threads: int = 16
    without: list[str] = field(default_factory=list[str])  # Layers to leave out, to test the others.

    def limits(self) -> dict[str, int]:
        """The limits of getrlimit(2) but that of threads, which counts a user's and so comes with the user."""
        limits = {"AS": self.memory, "CPU": self.cpu, "FSIZE": self.file, "NOFILE": self.descriptors}
        return limits | {"STACK": 8 << 20, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0}


def _call(name: str, *args: Any) -> int:
    """The result of a C library function. Raises OSError where it is -1."""
    result = getattr(libc, name)(*args)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


# -- the supervisor, for both of its children ------------------------------------------------------------------


def detach(without: list[str]) -> list[str]:
    """Leave the network and the machine's shared memory, by a user namespace where that is needed. Returns layers."""
    if "namespaces" in without:
        return []
    user, group = os.geteuid(), os.getegid()
    namespaces = _NEW_NET | _NEW_IPC | _NEW_UTS
    if user == 0:
        with contextlib.suppress(OSError):
            _call("unshare", namespaces)
            return ["network"]
    try:
        _call("unshare", namespaces | _NEW_USER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except OSError:
        return []
    return ["network", "user namespace"]


def new_process_tree(without: list[str]) -> list[str]:
    """Let the next child see no processes but its own, which all die with it. Returns the layers that hold."""
    if "namespaces" in without:
        return []
    try:
        _call("unshare", _NEW_PID)
    except OSError:
        return []
    return ["processes"]


# -- each child, to itself -------------------------------------------------------------------------------------


def seal(bounds: Bounds, identity: int, layers: list[str]) -> list[str]:
    """Give up for good everything but computing. Returns `layers` and those that were added.

    identity: a user id that nothing else on the machine uses; this process takes it where it may.
    Raises `Unsealed` where the resources of `bounds` cannot be had.
    """
    without, done = bounds.without, list(layers)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # When memory is short, these processes go first.
    libraries = _libraries()
    private = "namespaces" not in without and _private_root(bounds, libraries)
    for name, most in bounds.limits().items():
        _set_limit(name, most)
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done += ["root"] if private else []
    if "landlock" not in without and _landlock(libraries, [_WORK] if private else []):
        done.append("landlock")
    user = _become(identity) if _open_to_all(libraries[0], private) else None
    done += ["uid"] if user is not None else []
    if user == identity or "user namespace" in layers:  # Else the threads of others would count too.
        _set_limit("NPROC", bounds.threads)
    if _drop_capabilities():
        done.append("capabilities")
    _call("prctl", _DUMPABLE, 0, 0, 0, 0)
    _call("prctl", _DEATH_SIGNAL, _SIGKILL, 0, 0, 0)
    if "syscalls" not in without:
        with contextlib.suppress(OSError):
            syscalls.install()
            done.append("syscalls")
    _prove()
    return [*done, "limits"]


def _prove() -> None:
    """Do what programs do: import what nothing has imported yet, and start a thread. Raises `Unsealed`."""
    try:
        import heapq  # noqa: F401  # pyright: ignore[reportUnusedImport]

        lock = _thread.allocate_lock()
        lock.acquire()
        _thread.start_new_thread(lock.release, ())
        lock.acquire()
    except (ImportError, OSError, RuntimeError, MemoryError) as error:
        raise Unsealed(
            f"a sandboxed program fails at what every program may do ({type(error).__name__}: {error}); check that "
            f"{Path(os.__file__).parent} can be read, and that processes and memory are left"
        ) from error


def _libraries() -> list[str]:
    """The folders of the standard library and of the shared libraries that it loads; the first is Python's own."""
    standard = str(Path(os.__file__).parent)
    base = f"{sys.base_prefix}/lib"
    python = standard if sys.base_prefix in ("/", "/usr") or not standard.startswith(base) else base
    return [python] + [d for d in ("/lib", "/lib64", "/usr/lib", "/usr/lib64") if Path(d).is_dir()]


def _private_root(bounds: Bounds, libraries: list[str]) -> bool:
    """Move to a small root in memory that holds only the libraries, read-only, and an empty folder. True: it worked."""
    root = str(Path.cwd())
    try:
        _call("unshare", _NEW_NS)
        _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        _mount("none", root, "tmpfs", _MS_NO_SUID | _MS_NO_DEV, f"size={bounds.disk},nr_inodes=1000,mode=0755")
        for folder in sorted(libraries, key=len):  # One that lies in another is shown with it.
            _show(folder, root)
        for folder in _packages(libraries):
            _mount("none", root + folder, "tmpfs", _MS_READ_ONLY | _MS_NO_SUID | _MS_NO_DEV, "nr_inodes=1,mode=0555")
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
    """Make a folder readable, not writable, at its own path below `root`."""
    place = Path(root + folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    if Path(folder).is_symlink():
        place.symlink_to(Path(folder).readlink())
    elif not place.exists():  # It exists inside a folder that is shown already.
        place.mkdir()
        _mount(folder, str(place), None, _MS_BIND | _MS_REC)
        kept = os.statvfs(folder).f_flag & 8  # The flag noexec must stay where it is set.
        _mount(None, str(place), None, _MS_BIND | _MS_REMOUNT | _MS_READ_ONLY | _MS_NO_SUID | _MS_NO_DEV | kept)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    text = [None if part is None else part.encode() for part in (source, target, kind, options)]
    _call("mount", text[0], text[1], text[2], ctypes.c_ulong(flags), text[3])


def _packages(libraries: list[str]) -> list[str]:
    """The folders of installed packages that lie in `libraries`: of this Python, and of the system's."""
    folders = [Path(folder) for folder in libraries if not Path(folder).is_symlink()]
    pythons = {*folders, *(place for folder in folders for place in folder.glob("python*"))}
    return [str(place / name) for place in sorted(pythons) for name in _PACKAGES if (place / name).is_dir()]


def _set_limit(name: str, most: int) -> None:
    """Allow `most` of a resource, no more and no less. Raises `Unsealed`."""
    kind = getattr(resource, f"RLIMIT_{name}")
    try:
        resource.setrlimit(kind, (most, most))
    except (OSError, ValueError) as error:
        hard = resource.getrlimit(kind)[1]
        raise Unsealed(f"RLIMIT_{name} is at most {hard} here and a program needs {most}; raise it (ulimit)") from error


_LANDLOCK = 444, 445, 446  # Create a rule set, add a rule, restrict oneself; the same on all machines.
_FILE_RIGHTS = 0x7FFF  # All rights of the third version of the interface, truncation included.
_READ_FOLDERS = 1 << 3
_READ = 1 << 2 | _READ_FOLDERS  # Files and folders.
_DEVICE_IOCTL = 1 << 15


def _landlock(libraries: list[str], writable: list[str]) -> bool:
    """Allow reading `libraries` without installed packages, and writing `writable`, alone.

    No TCP and no signals out where the kernel knows these.
    """
    version = libc.syscall(_LANDLOCK[0], None, ctypes.c_size_t(0), 1)
    if version < 3:  # Earlier ones cannot stop a file from being truncated.
        return False
    rights = _FILE_RIGHTS | (_DEVICE_IOCTL if version >= 5 else 0)
    parts = (rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)  # Files, bind and connect, scopes.
    wanted = struct.pack("=QQQ", *parts)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = -1
    try:
        rules = _call("syscall", _LANDLOCK[0], wanted, ctypes.c_size_t(len(wanted)), 0)
        for folder, allowed in [*_readable(libraries), *((f, rights & ~1) for f in writable)]:  # Never execution.
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


def _readable(libraries: list[str]) -> list[tuple[str, int]]:
    """Paths and rights for reading `libraries`. A rule holds for all below it, so folders of packages get none.

    The names in the folders around them can be listed, since Python looks for modules so.
    """
    packages, rules = {Path(place).resolve() for place in _packages(libraries)}, list[tuple[str, int]]()
    apart = {parent for place in packages for parent in place.parents}

    def add(place: Path) -> None:
        if place not in apart:
            rules.append((str(place), _READ if place.is_dir() else _READ & ~_READ_FOLDERS))
            return
        rules.append((str(place), _READ_FOLDERS))
        for entry in place.iterdir():
            if entry not in packages and not entry.is_symlink():
                add(entry)

    for folder in {Path(folder).resolve() for folder in libraries}:
        add(folder)
    return rules


def _open_to_all(folder: str, private: bool) -> bool:
    """True where another user could still read the standard library there. private: in a root of its own."""
    standard = Path(os.__file__).parent
    above = {Path(folder), standard} if private else {standard, *standard.parents}
    read = standard / "heapq.py"
    return bool(read.stat().st_mode & 0o004) and all(place.stat().st_mode & 0o001 for place in above)


def _become(identity: int) -> int | None:
    """Become another user without groups, or `nobody` where ids are few. Returns the user; None where it may not."""
    for user in (identity, 65534):
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            return user
    return None


def _drop_capabilities() -> bool:
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    try:
        _call("capset", header, none)
    except OSError:
        return False
    return True
