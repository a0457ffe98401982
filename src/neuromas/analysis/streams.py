"""Random streams of the analysis, apart from those that tasks draw their questions from."""

import numpy as np


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """The generator of one purpose. A spawn key, unlike a longer list of seeds, meets no stream made of seeds alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))
