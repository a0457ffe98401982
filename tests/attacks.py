"""Programs that try to get out of the sandbox, or to be graded right without being right.

The task is always the same: `double(x)`. BREAKOUTS do something forbidden and only then define a right solution, so
one of them passes the tests exactly when it got what it wanted. FORGERIES define a wrong solution and try to be graded
right all the same, or to take the evaluator down. `$NAME` stands for what a test fills in.
"""

import textwrap
from string import Template

from neuromas.tasks.sandbox import Submission

RIGHT = "def double(x):\n    return 2 * x\n"
WRONG = "def double(x):\n    return 3 * x\n"
TESTS = "assert double(4) == 8\nassert double(-1) == -2\n"
_LIBC = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"

BREAKOUTS = {
    "read the home folder": "import os; assert os.listdir('$HOME')",
    "find a home folder": "import os; assert os.listdir(os.path.expanduser('~')) or os.listdir('/root')",
    "read a file": "assert 'bird' in open('$CANARY').read()",
    "overwrite a file": "open('$CANARY', 'w').write('eaten')",
    "append to a file": "open('$CANARY', 'a').write('eaten')",
    "truncate a file": "import os; os.truncate('$CANARY', 0)",
    "delete a file": "import os; os.unlink('$CANARY')",
    "rename a file": "import os; os.rename('$CANARY', '$CANARY.gone')",
    "make a file readable": "import os; os.chmod('$CANARY', 0o777)",
    "date a file": "import os; os.utime('$CANARY', (0, 0))",
    "create a file beside it": "open('$CANARY.new', 'w').write('x')",
    "symbolic link": "import os; os.symlink('$CANARY', 'l'); assert 'bird' in open('l').read()",
    "hard link": "import os; os.link('$CANARY', 'l'); assert 'bird' in open('l').read()",
    "dots": "assert 'bird' in open('../../../../../../../../..$CANARY').read()",
    "passwords": "assert 'root' in open('/etc/passwd').read()",
    "write to /etc": "open('/etc/neuromas-attack', 'w').write('x')",
    "write to the libraries": "open('/usr/lib/neuromas-attack', 'w').write('x')",
    "spoil the standard library": "import this; open(this.__file__, 'a').write('#')",
    "read the project": "assert open('$SOURCE').read()",
    "environment": "import os; assert '$SECRET' in str(os.environ)",
    "environment by /proc": "assert '$SECRET' in open('/proc/self/environ').read()",
    "parent's environment": "assert '$SECRET' in open('/proc/$PID/environ').read()",
    "parent's memory": "open('/proc/$PID/mem', 'rb').seek(4096)",
    "parent's command": "assert open('/proc/$PID/cmdline').read()",
    "other processes": "import os; assert [p for p in os.listdir('/proc') if p.isdigit()][1:]",
    "TCP": "import socket; socket.create_connection(('127.0.0.1', int('$PORT')), 1)",
    "a TCP socket": "import socket; socket.socket()",
    "a UDP socket": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a Unix socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a netlink socket": "import socket; socket.socket(16, socket.SOCK_RAW)",
    "a listening socket": "import socket; socket.create_server(('', 0))",
    "web": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$PORT', timeout=1)",
    "fork": "import os; os.fork()",
    "fork bomb": "import os\nfor _ in range(100):\n    os.fork()",
    "fork by system call": f"{_LIBC}assert libc.syscall(57 if libc.syscall(39) > 0 else 1079) >= 0",
    "a daemon": "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: pass",
    "another session": "import os; os.setsid()",
    "a program": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "a shell": "import os; assert os.system('true') == 0",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "spawn": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "multiprocessing": "import multiprocessing as m; p = m.Process(target=print); p.start(); p.join()",
    "kill the evaluator": "import os; os.kill(int('$PID'), 9)",
    "kill the parent": "import os; os.kill(os.getppid(), 9)",
    "kill everything": "import os; os.kill(-1, 9)",
    "kill the group": "import os; os.kill(0, 9)",
    "kill a group": "import os; os.killpg(os.getpgrp(), 9)",
    "signal by descriptor": "import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, int('$PID'))",
    "starve the evaluator": "import resource; resource.prlimit(int('$PID'), resource.RLIMIT_CPU, (0, 0))",
    "trace the evaluator": f"{_LIBC}assert libc.ptrace(16, $PID, 0, 0) == 0",
    "read the evaluator": f"{_LIBC}assert libc.process_vm_readv($PID, 0, 0, 0, 0, 0) >= 0",
    "a descriptor of the evaluator": f"{_LIBC}assert libc.syscall(434, $PID, 0) >= 0",
    "become root": "import os; os.setresuid(0, 0, 0); assert os.listdir('/root')",
    "namespaces": f"{_LIBC}assert libc.unshare(0x10000000) == 0",
    "mount": f"{_LIBC}assert libc.mount(b'proc', b'/tmp', b'proc', 0, None) == 0",
    "another root": "import os; os.chroot('.')",
    "unmount": f"{_LIBC}assert libc.umount2(b'/usr/lib', 2) == 0",
    "a device": "import os; os.mknod('d', 0o60666, os.makedev(254, 0))",
    "io_uring": f"{_LIBC}assert libc.syscall(425, 1, ctypes.create_string_buffer(256)) >= 0",
    "bpf": f"{_LIBC}assert libc.syscall(321, 0, 0, 0) >= 0",
    "keys": f"{_LIBC}assert libc.syscall(250, 0, -3, 1) >= 0",
    "page faults": f"{_LIBC}assert libc.syscall(323, 0) >= 0",
    "memory files": "import os; os.memfd_create('x')",
    "shared memory": f"{_LIBC}assert libc.shmget(0, 4096, 0o1600) >= 0",
    "the 32-bit door": f"{_LIBC}assert libc.syscall(0x40000000 + 41, 2, 1, 0) >= 0",
    "higher limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (60, 60))",
    "memory bomb": "x = bytearray(1 << 30); x[::4096] = bytes([1]) * len(x[::4096])",
    "memory bomb of lists": "x = []\nwhile len(x) < 1 << 27: x += [0] * (1 << 20)",
    "memory bomb by mmap": "import mmap; x = [mmap.mmap(-1, 1 << 28) for _ in range(8)]",
    "a large file": "open('f', 'wb').write(bytes(4 << 20)); import os; assert os.path.getsize('f') == 4 << 20",
    "fill the disk": "for i in range(100): open(f'f{i}', 'wb').write(bytes(1 << 20))",
    "many files": "import os\nfor i in range(5000): os.mkdir(f'd{i}')",
    "many descriptors": "import os; x = [os.pipe() for _ in range(100)]",
    "thread bomb": (
        "import threading, time\n"
        "for _ in range(200): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    ),
    "priority": "import os; os.nice(-5)",
}  # fmt: skip

_PASS = '{"outcome": "passed", "why": "", "layers": []}'
_ANY = "type('Any', (int,), {'__eq__': lambda s, o: True, '__hash__': int.__hash__})"
_JAIL = "import sys; wire = sys.modules['neuromas.tasks.jail.wire']\n"

FORGERIES = {
    "print a pass": f"print('OK'); print('passed'); print('''{_PASS}''')",
    "leave early": "import os; os._exit(0)",
    "exit": "import sys; sys.exit(0)",
    "raise SystemExit": "raise SystemExit",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "atexit": "import atexit, os; atexit.register(os._exit, 0); raise SystemExit(0)",
    "abort": "import os; os.abort()",
    "kill oneself": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "write to every descriptor": f"import os\nfor fd in range(64):\n    try: os.write(fd, b'''{_PASS}\\n''')\n    except OSError: pass",
    "close every descriptor": "import os; os.closerange(0, 1000)",
    "read every descriptor": (
        "import os\n"
        "for fd in range(64):\n"
        "    try: os.set_blocking(fd, False); os.read(fd, 9999)\n"
        "    except OSError: pass"
    ),
    "always equal": "class Yes:\n    def __eq__(self, o): return True\ndef double(x): return Yes()",
    "an equal integer": f"Any = {_ANY}\ndef double(x): return Any(1)",
    "an equal list": "class L(list):\n    def __eq__(self, o): return True\ndef double(x): return L()",
    "numbers that compare": "class N:\n    __eq__ = __lt__ = __gt__ = __ne__ = lambda s, o: True\ndef double(x): return N()",
    "a lying class": "class N:\n    __class__ = int\n    __eq__ = lambda s, o: True\ndef double(x): return N()",
    "patch builtins": "import builtins; builtins.AssertionError = Warning; builtins.exec = print; builtins.open = None",
    "remove builtins": "import builtins\nfor name in dir(builtins): name[:1] != '_' and delattr(builtins, name)",
    "patch the checker": "import sys; sys.modules['neuromas.tasks.jail.checker'].check = lambda *a: ('passed', '')",
    "patch the report": f"{_JAIL}import sys; sys.modules['neuromas.tasks.jail.checker'].report(4, 'passed', '', [])",
    "patch the supervisor": "import sys; s = sys.modules['neuromas.tasks.jail.supervisor']; s.missing = s._read = lambda *a: ''",
    "patch JSON": "import json; json.dumps = lambda *a, **k: '{\"outcome\": \"passed\"}'",
    "answer everything": f"{_JAIL}wire.encode = lambda v, h: True",
    "answer with nothing": f"{_JAIL}wire.encode = lambda v, h: None",
    "answer with a pass": f"{_JAIL}wire.send = lambda fd, m, send=wire.send: send(fd, {{'outcome': 'passed'}})",
    "answer in advance": f"{_JAIL}[wire.send(4, {{'value': True}}) for _ in range(50)]",
    "answer with errors": f"{_JAIL}wire.send = lambda fd, m, s=wire.send: s(fd, {{'error': ['SystemExit', '0']}})",
    "answer without end": f"{_JAIL}import os\nos.write(4, b'\\x00\\x7f\\xff\\xff')\nwhile True: os.write(4, bytes(65536))",
    "a false length": "import os; os.write(4, b'\\xff\\xff\\xff\\xff')",
    "half an answer": "import os, time; os.write(4, b'\\x00\\x00\\x00\\x09{'); time.sleep(99)",
    "bad JSON": "import os; os.write(4, b'\\x00\\x00\\x00\\x05{oops')",
    "deep JSON": "import os; d = b'[' * 200000; os.write(4, len(d).to_bytes(4, 'big') + d)",
    "a long number": "import os; d = b'{\"value\": ' + b'9' * 300000 + b'}'; os.write(4, len(d).to_bytes(4, 'big') + d)",
    "a false handle": f"{_JAIL}wire.encode = lambda v, h: {{'h': 0}}",
    "a kind that is none": f"{_JAIL}wire.encode = lambda v, h: {{'z': [1]}}",
    "a range without end": f"{_JAIL}wire.encode = lambda v, h: {{'r': [0, 1 << 62, 1]}}",
    "search for the tests": (
        "import gc\n"
        "secret = lambda: ''.join(map(chr, (97, 115, 115, 101, 114, 116, 32, 100)))  # how the tests begin\n"
        "found = [o for o in gc.get_objects() if isinstance(o, (dict, list, tuple)) and secret() in str(o)]\n"
        "def double(x): return 2 * x if found else 0"
    ),
    "search the frames": (
        "import sys\n"
        "def double(x):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        for v in list(frame.f_locals.values()):\n"
        "            if isinstance(v, dict) and 'tests' in v: return 2 * x\n"
        "        frame = frame.f_back\n"
        "    return 0"
    ),
    "trace": "import sys; sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
    "infinite loop": "while True: pass",
    "infinite loop without signals": (
        "import signal\n"
        "for s in range(1, 65):\n"
        "    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True:\n"
        "    try: pass\n"
        "    except BaseException: pass"
    ),
    "sleep": "import time; time.sleep(1000)",
    "stop": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: signal.pause()",
    "alarm": "import signal, time; signal.alarm(1); time.sleep(1000)",
    "spinning threads": (
        "import threading\n"
        "def spin():\n    while True: pass\n"
        "for _ in range(8): threading.Thread(target=spin).start()"
    ),
    "output flood": "while True: print('x' * 100000)",
    "error flood": "import sys\nwhile True: sys.stderr.write('x' * 100000)",
    "a huge traceback": "raise ValueError('x' * 50_000_000)",
    "an error without words": "class E(BaseException):\n    def __str__(self): raise self\nraise E",
    "a class named like success": "class passed(BaseException): pass\nraise passed('passed')",
    "recursion": "def double(x): return double(x)",
    "deep recursion": "import sys; sys.setrecursionlimit(10**9)\ndef double(x): return double(x) + 1",
    "recursion in C": "import sys; sys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "crash": "import ctypes; ctypes.string_at(0)",
    "crash by code": "import types; exec((lambda: 0).__code__.replace(co_code=b'\\xff' * 40))",
    "remove the folder": "import os, shutil; shutil.rmtree('/tmp', ignore_errors=True); os.listdir('.')",
    "a cycle": "def double(x):\n    y = []; y.append(y); return y",
    "a deep list": "def double(x):\n    y = []\n    for _ in range(100000): y = [y]\n    return y",
    "a long text": "def double(x): return 'x' * 100_000_000",
    "a long list": "def double(x): return [0] * 10_000_000",
    "a huge integer": "def double(x): return 1 << 400_000_000",
    "a huge power": "def double(x): return 9 ** 9 ** 9",
    "an endless list": "class L(list):\n    def __iter__(self):\n        while True: yield 0\ndef double(x): return L()",
    "a generator": "def double(x):\n    while True: yield 8",
    "not a number": "def double(x): return float('nan')",
    "no function": "double = 8",
    "a module": "import sys as double",
    "only once": "calls = []\ndef double(x):\n    calls.append(x)\n    return 8",
    "wait and change": "import threading\nthreading.Timer(0.01, lambda: globals().update(double=lambda x: 8)).start()",
    "no syntax": "def double(x) return 2 * x",
    "deep syntax": "x = " + "(" * 5000 + ")" * 5000,
    "deep syntax of signs": "x = " + "-" * 200000 + "1",
    "null bytes": "x = '\x00'",
    "lone surrogates": "x = '\ud800'",
    "a bad import": "import neuromas_no_such_module",
    "the library": "import neuromas.tasks.sandbox",
    "a hanging expression": "import re; re.match('(a+)+$', 'a' * 40 + 'b')",
    "garbage collector": "import gc; gc.disable(); [o.clear() for o in gc.get_objects() if isinstance(o, (dict, list))]",
}  # fmt: skip


def job(program: str) -> Submission:
    return Submission(program, TESTS, ("double",))


def breakouts(**names: object) -> dict[str, str]:
    """Name → program. In three places each: when loaded, when called, and in a thread."""
    found: dict[str, str] = {}
    for name, source in BREAKOUTS.items():
        code = Template(source).safe_substitute({key: str(value) for key, value in names.items()})
        inside = textwrap.indent(code, "    ")
        found[name] = f"{code}\n{RIGHT}"
        found[f"{name}, when called"] = f"def double(x):\n{inside}\n    return 2 * x\n"
        found[f"{name}, in a thread"] = (
            f"import threading\ndone = []\ndef attack():\n{inside}\n    done.append(1)\n"
            f"t = threading.Thread(target=attack, daemon=True); t.start(); t.join()\nassert done\n{RIGHT}"
        )
    return found


def forgeries() -> dict[str, str]:
    """Name → program: with a wrong solution before the trick, so that whatever comes of it is wrong."""
    return {name: f"{WRONG}{code}\n" for name, code in FORGERIES.items()}
