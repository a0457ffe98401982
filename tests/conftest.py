"""What all tests share: one thread, fixed seeds, no network."""

import os
import random
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # the settings above must come first
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("neuromas", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("neuromas")


@pytest.fixture(autouse=True)
def _seeded() -> None:  # pyright: ignore[reportUnusedFunction]
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def benchmark_data() -> Path:
    """The folder named by NEUROMAS_DATA; the test is skipped where there is none."""
    folder = os.environ.get("NEUROMAS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set NEUROMAS_DATA to a folder with the benchmarks' files")
    return Path(folder)
