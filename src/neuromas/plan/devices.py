"""Memory and speed of a device: stated by a person, read from this machine, or published for an accelerator."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from neuromas.errors import ConfigError
from neuromas.plan.model import ModelSizes
from neuromas.plan.seconds import Rates
from neuromas.plan.work import BYTES

# Published peaks: memory in 10^9 bytes, dense bf16 FLOP/s, memory bytes/s. From the makers' data sheets: NVIDIA's "T4"
# (fp16; no bf16), "L4", "RTX 4090" (Ada whitepaper, fp32 accumulation), "A100", "H100 SXM" and "H200".
DEVICES: dict[str, tuple[float, float, float]] = {
    "t4": (16e9, 65e12, 320e9),
    "l4": (24e9, 121e12, 300e9),
    "rtx4090": (24e9, 165e12, 1008e9),
    "a100-40gb": (40e9, 312e12, 1555e9),
    "a100-80gb": (80e9, 312e12, 2039e9),
    "h100": (80e9, 989e12, 3350e9),
    "h200": (141e9, 989e12, 4800e9),
}
CONTEXT_BYTES = 600_000_000  # assumed: CUDA context and libraries on an accelerator
RUNTIME_BYTES = 520_000_000  # interpreter, torch and transformers on a CPU, measured here
SHARE = 0.4  # assumed: of the published FLOP/s that products reach
PASS_LAYER = 4e-4  # assumed: seconds a pass spends on launching one decoder layer's kernels without CUDA graphs
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Device:
    """The machine or accelerator that a run is planned for."""

    name: str
    kind: str  # "cpu" or "cuda"
    memory: int  # bytes
    flops: float | None = None  # peak FLOP/s; None: unknown
    bandwidth: float | None = None  # peak bytes/s of its memory


def device_of(gpu: str | None, flops: float | None = None, bandwidth: float | None = None) -> Device:
    """An accelerator by name or size ("24GB"); without one this machine. flops and bandwidth replace what is known."""
    for label, value in (("flops", flops), ("bandwidth", bandwidth)):
        if value is not None and (gpu is None or not value > 0):
            raise ConfigError(f"--{label} {value}: give a number above 0, and a device with --gpu; a CPU is calibrated")
    if gpu is None:
        return Device("this machine", "cpu", machine_memory())
    known = DEVICES.get(gpu.lower())
    memory, known_flops, known_bandwidth = known or (parse_bytes(gpu), None, None)
    return Device(gpu, "cuda", int(memory), flops or known_flops, bandwidth or known_bandwidth)


def parse_bytes(text: str) -> int:
    """ "24GB" or "24 GiB" as bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?\s*", text.lower())
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"--gpu {text!r} is neither a size such as 24GB nor one of {', '.join(DEVICES)}")
    return int(float(match[1]) * _UNITS[match[2]])


def machine_memory() -> int:
    """Bytes of this machine's RAM, or of the container's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total


def stated_rates(model: ModelSizes, device: Device, dtype: str) -> Rates | None:
    """Rates from published peaks; None where a device states none. An estimate: nothing was measured."""
    if device.flops is None or device.bandwidth is None:
        return None
    reading = model.parameters * BYTES[dtype] / device.bandwidth
    reached = SHARE * device.flops * (0.5 if dtype == "float32" else 1)
    launching = PASS_LAYER * model.layers
    return Rates(reading + launching, reached, 3 * (reading + launching), reached)
