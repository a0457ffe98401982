"""A pretend accelerator: tests of what a real card would refuse or wait for, on a machine that has none.

Inside `Accelerator()` the device `xpu` seems to be there. Its tensors live in the host's memory, and every storage
knows where it would be. An operation on tensors of both places fails as it would on a card, with the line of the
library that did it; so does reading a device tensor on the host inside `decoding()`, where a card would have to be
waited for. What C makes in a backward pass stands where the tensors do that it meets.

Not seen: what happens inside one call of C (a fused kernel that waits), threads that have not entered, streams.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import neuromas

DEVICE = torch.device("xpu:0")
LIBRARY = str(Path(neuromas.__file__).parent)  # a checkout may be called neuromas, too
_autograd: Any = torch.autograd
_HOST = torch.device("cpu")
_READS = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__contains__", "cpu", "is_nonzero"}
_READS |= {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "equal", "allclose", "bincount"}
_MAY_MIX = {"copy_", "to", "type_as", "__set__", "__get__", "backward", "grad", "_has_compatible_shallow_copy_type"}
_INDEX = {"__getitem__", "__setitem__", "index_put_", "index_put"}


class WrongPlace(AssertionError):
    """An operation that a card would refuse, or would have to be waited for."""


class Accelerator(TorchFunctionMode):
    """See the module. `faults` keeps what was found, even where the library caught the error."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._decoding = self._backward = self._depth = 0

    def __enter__(self) -> "Accelerator":
        if not self._depth:
            self._engine = _autograd._engine_run_backward
            _autograd._engine_run_backward = self._run_backward
        self._depth += 1
        return super().__enter__()

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        super().__exit__(kind, value, trace)
        self._depth -= 1
        if not self._depth:
            _autograd._engine_run_backward = self._engine

    def _run_backward(self, *args: Any, **kwargs: Any) -> Any:
        """The backward pass, in which what Python computes is seen too."""
        self._backward += 1
        try:
            with self:
                return self._engine(*args, **kwargs)
        finally:
            self._backward -= 1

    @contextmanager
    def decoding(self, on: bool = True) -> Iterator[None]:
        """Reading a device tensor on the host is a fault in here; with on=False it is none again."""
        before, self._decoding = self._decoding, on
        try:
            yield
        finally:
            self._decoding = before

    def place(self, x: Tensor) -> torch.device | None:
        """Where a tensor would be; None where C made it in a backward pass, so that what it meets decides."""
        unknown = None if self._backward else _HOST
        return getattr(x.untyped_storage(), "place", unknown)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        attribute = getattr(getattr(func, "__self__", None), "__name__", None)  # of a getter or setter
        if name == "__get__" and attribute in ("device", "is_cuda", "is_cpu", "is_xpu"):
            place = self.place(args[0]) or DEVICE
            return place if attribute == "device" else place.type == attribute.removeprefix("is_")
        tensors = list(_tensors((args, kwargs)))
        self._check(name, args, tensors)
        args, kwargs, target = _without_device(name, args, kwargs)
        result = func(*args, **kwargs)
        if name == "__set__":
            return result
        places = [self.place(x) for x in tensors]
        place = target or next((p for p in places if p == DEVICE), places[0] if places else _HOST)
        if name == "copy_" or attribute == "grad":
            place = places[0]
        elif name == "type_as":
            place = places[1]
        elif name in ("cpu", "numpy"):
            place = _HOST
        moved = isinstance(result, Tensor) and places and place not in (None, places[0])
        if moved and result.data_ptr() == tensors[0].data_ptr():
            result = result.clone()
        for x in _tensors(result):
            storage: Any = x.untyped_storage()
            if place is not None and (attribute == "grad" or getattr(storage, "place", None) is None):
                storage.place = place
        return result

    def _check(self, name: str, args: Any, tensors: list[Tensor]) -> None:
        places = [self.place(x) for x in tensors]
        if DEVICE not in places:
            return
        if name in ("numpy", "__array__"):
            self._fault("numpy() of a tensor of the device; call cpu() first")
        masks = name in _INDEX and any(x.dtype == torch.bool and x.ndim for x in tensors[1:])
        to_host = name == "to" and any(a in ("cpu", _HOST) for a in args[1:] if isinstance(a, str | torch.device))
        if self._decoding and (name in _READS or masks or to_host):
            self._fault(f"{name} reads a tensor of the device on the host, which waits for the device")
        copied = name in _MAY_MIX or (name in _INDEX and places[0] == DEVICE)  # indices of the host are
        if not copied and any(x.ndim for x, p in zip(tensors, places, strict=True) if p == _HOST):
            self._fault(f"{name} mixes tensors of the device and of the host")

    def _fault(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack()[:-1] if f.filename != __file__ and "/torch/" not in f.filename]
        own = [f for f in frames if f.filename.startswith(LIBRARY)] or frames
        where = own[-1]
        self.faults.append(f"{what}: {where.filename}:{where.lineno}: {where.line}")
        raise WrongPlace(self.faults[-1])


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for x in tree:
            yield from _tensors(x)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


def _without_device(name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], torch.device | None]:
    """The arguments for the host, and the place that they named."""
    target: torch.device | None = None
    if kwargs.get("device") is not None:
        target = torch.device(kwargs["device"])
        kwargs["device"] = "cpu"
    elif name == "xpu":
        target = DEVICE
    elif name == "to":
        found = [a for a in args[1:] if isinstance(a, str | torch.device)]
        if found:
            target = torch.device(found[0])
            args = tuple(_HOST if a is found[0] else a for a in args)
    if target is not None and target.type == DEVICE.type:
        target = DEVICE
    return args, kwargs, target
