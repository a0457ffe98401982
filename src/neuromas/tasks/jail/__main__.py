"""Entry point, run as a file by a bare interpreter: `python -S -s -P jail/__main__.py OPTIONS`."""

import sys
import types
from pathlib import Path

# The packages above this one would load code that no sandboxed process needs; empty stand-ins take their place.
_tasks = Path(__file__).parent.parent
for _name, _folder in (("neuromas", _tasks.parent), ("neuromas.tasks", _tasks)):
    _package = types.ModuleType(_name)
    _package.__path__ = [str(_folder)]
    sys.modules[_name] = _package

if __name__ == "__main__":
    from neuromas.tasks.jail.supervisor import main

    main(sys.argv[1])
