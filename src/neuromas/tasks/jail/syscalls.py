"""The system calls that a sandboxed process may make: a seccomp filter, written as classic BPF by hand.

It is an allow-list. It refuses making processes (`fork`, `execve`), sockets, `ptrace` and reading another process,
mounting, namespaces, shared memory, `io_uring`, `bpf`, changing owners and modes, and whatever a later kernel adds.
Sources: seccomp(2), the kernel's include/uapi/linux/{filter,seccomp}.h, and its system call tables.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

# For each name its number on x86-64 and on arm64; None where it does not exist.
_PLAIN: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436), "open": (2, None),
    "openat": (257, 56), "creat": (85, None), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "pipe": (22, None), "pipe2": (293, 59), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "statfs": (137, 43), "fstatfs": (138, 44), "getdents64": (217, 61),
    "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "readlink": (89, None), "readlinkat": (267, 78),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "ftruncate": (77, 46), "umask": (95, 166), "fsync": (74, 82),
    "fdatasync": (75, 83), "fallocate": (285, 47), "fadvise64": (221, 223), "copy_file_range": (326, 285),
    "sendfile": (40, 71), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216),
    "madvise": (28, 233), "brk": (12, 214), "msync": (26, 227), "futex": (202, 98), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "set_robust_list": (273, 99), "get_robust_list": (274, 100),
    "rseq": (334, 293), "set_tid_address": (218, 96), "arch_prctl": (158, None), "exit": (60, 93),
    "exit_group": (231, 94), "wait4": (61, 260), "waitid": (247, 95), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "pause": (34, None),
    "alarm": (37, None), "setitimer": (38, 103), "getitimer": (36, 102), "restart_syscall": (219, 128),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165),
    "select": (23, None), "poll": (7, None), "ppoll": (271, 73), "pselect6": (270, 72), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158), "getpriority": (140, 141),
    "uname": (63, 160), "sysinfo": (99, 179), "getrandom": (318, 278), "getrlimit": (97, 163),
    "setrlimit": (160, 164), "getcpu": (309, 168),
}  # fmt: skip
_CHECKED = {  # These calls are allowed for some values of one argument only.
    "ioctl": (16, 29), "fcntl": (72, 25), "prctl": (157, 167), "prlimit64": (302, 261), "kill": (62, 129),
    "tgkill": (234, 131), "clone": (56, 220), "clone3": (435, 435),
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # The column above, and AUDIT_ARCH_*.

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # Offsets in struct seccomp_data; low words come first.
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026  # The last two: EPERM, ENOSYS.
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020080
_NEW_CALLS = 440  # From here on ENOSYS is the answer, so that a later C library falls back to older calls.

_IOCTL = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # Is it a terminal, its size, bytes to read, close on exec.
_FCNTL = (0, 1, 2, 3, 4, 1030)  # Duplicating and flags; not F_SETOWN, which has signals sent to others.
_PRCTL = (15, 16)  # A thread's name.

Instruction = tuple[int, int, int, int]  # Code, jump if true, jump if false, operand.


def install() -> None:
    """Restrict this process for good; `PR_SET_NO_NEW_PRIVS` must be set. Raises OSError where that is impossible."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(f"no table of system calls for {machine}")
    column, arch = _ARCHITECTURES[machine]
    code = b"".join(struct.pack("=HBBI", *line) for line in _filter(column, arch, os.getpid()))
    held = ctypes.create_string_buffer(code)
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp filter refused")


def _filter(column: int, arch: int, pid: int) -> list[Instruction]:
    lines = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    for numbers in _PLAIN.values():
        if (number := numbers[column]) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    number = {name: numbers[column] for name, numbers in _CHECKED.items()}
    lines += _only(number["ioctl"], 1, _IOCTL) + _only(number["fcntl"], 1, _FCNTL) + _only(number["prctl"], 0, _PRCTL)
    lines += _only(number["prlimit64"], 0, (0,))
    lines += _only(number["kill"], 0, (pid,)) + _only(number["tgkill"], 0, (pid,))
    lines += [
        (_EQUAL, 0, 5, number["clone"]),  # Threads are allowed, never processes or namespaces.
        (_LOAD, 0, 0, _ARGUMENTS),
        (_ANY_BIT, 2, 0, _CLONE_NEW),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
        (_EQUAL, 0, 1, number["clone3"]),  # A filter cannot see its flags, which lie in memory. Callers try clone next.
        (_RETURN, 0, 0, _UNKNOWN),
        (_AT_LEAST, 0, 1, _NEW_CALLS),
        (_RETURN, 0, 0, _UNKNOWN),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return lines


def _only(number: int, argument: int, values: Iterable[int]) -> list[Instruction]:
    """Allow a call where its argument (counted from 0) is one of `values`; refuse it otherwise."""
    body: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    for value in values:
        body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    body.append((_RETURN, 0, 0, _REFUSE))
    return [(_EQUAL, 0, len(body), number), *body]
