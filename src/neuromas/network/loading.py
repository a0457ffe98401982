"""From a backbone's name to a model and its tokenizer, or to one clear error, in which libraries are quoted whole."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import safe_open

from neuromas.errors import BackboneError, ConfigError, NeuromasError
from neuromas.network.builtin import BUILT_IN, TINY_FOLDER, cache_folder, smollm2_folder
from neuromas.network.conversion import converted, gguf_in
from neuromas.network.folders import check_folder, check_sizes
from neuromas.network.wording import Style

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_OTHER_PARTS = re.compile(r"vision|visual|audio|image|mtp")
_CHOICES = ("index_topk", "keep_window_size")
_UNLIMITED = 1 << 20  # tokens, where neither the model nor its tokenizer tells a limit


@contextmanager
def quoting(name: str, source: str, part: str = "") -> Iterator[None]:
    """Turn any error of a library, while a backbone is loaded and tried, into a `BackboneError` with its whole text.

    part: of the backbone, such as "the tokenizer of ".
    """
    try:
        yield
    except (NeuromasError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise BackboneError(
            f"{part}backbone {name!r}{_kind_of(source)} could not be loaded ({type(error).__name__}: {said}); give one "
            f"of {', '.join(BUILT_IN)}, a folder with a Hugging Face model, or a hub id that this machine can reach"
        ) from error


def _kind_of(source: str) -> str:
    """The model type that a folder's config tells, in brackets; empty where it tells none."""
    try:
        return f" ({json.loads((Path(source) / 'config.json').read_text())['model_type']})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def read(name: str, source: str, dtype: torch.dtype, device: torch.device, trust_remote_code: bool) -> tuple[Any, Any]:
    """Model, on `device`, and tokenizer of a folder or hub id. Raises `BackboneError` where weights do not fit."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    if (Path(source) / "adapter_config.json").is_file():
        raise BackboneError(f"backbone {name!r} is a PEFT adapter, not a model; name the model that it was made for")
    check_folder(name, Path(source))
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quoting(name, source, "the config.json of "):
            config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
        check_sizes(name, config)
        with quoting(name, source, "the tokenizer of "):
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        quantised = getattr(config, "quantization_config", None) is not None
        place = {"device_map": {"": device}} if quantised else {}  # some such weights cannot be moved later
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True, **place
            )
        except RuntimeError:
            _check_shapes(name, Path(source), config, trust_remote_code)
            raise
        model, report = loaded
        model = model if quantised else model.to(device)
    finally:
        if bars:
            logging.enable_progress_bar()
    _check_weights(name, model, report)
    if not quantised:
        _check_numbers(name, model)
    _check_vocabulary(name, model, tokenizer)
    return model, tokenizer


def take_memory(model: Any) -> None:
    """Give a model memory of its own: what safetensors hands over may be a live view of its file."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def _check_shapes(name: str, folder: Path, config: Any, trust_remote_code: bool) -> None:
    """Name a weight that has another shape in the folder's files than in the model; the library's error does not."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    wanted = {key: list(weight.shape) for key, weight in model.state_dict().items()}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for key in sorted(weights.keys() & wanted.keys()):
                if (shape := weights.get_slice(key).get_shape()) != wanted[key]:
                    raise BackboneError(
                        f"backbone {name!r}: {key} in {file.name} has the shape {shape}, and by config.json it has "
                        f"{wanted[key]}; one of the two files is that of another model"
                    )


def _check_weights(name: str, model: Any, report: dict[str, Any]) -> None:
    """Refuse weights that are missing, which would be drawn at random, and weights of layers beyond the config's."""
    if missing := sorted(report["missing_keys"]):
        raise BackboneError(
            f"backbone {name!r}: its files lack {len(missing)} of the model's weights, for instance {missing[0]}, "
            "which would be drawn at random; complete the folder"
        )
    layers = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", 0)
    numbered = ((key, re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.", key)) for key in report["unexpected_keys"])
    beyond = [key for key, at in numbered if at and int(at[1]) >= layers and not _OTHER_PARTS.search(key)]
    if beyond:
        raise BackboneError(
            f"backbone {name!r}: its files hold weights of more layers than the {layers} of its config.json, for "
            f"instance {sorted(beyond)[0]}; the config is that of another model"
        )
    if unused := sorted(key for key in report["unexpected_keys"] if _belongs(model, key)):
        raise BackboneError(
            f"backbone {name!r}: its files hold {unused[0]}, and by config.json that layer has no such weight; one of "
            "the two is that of another model"
        )


def _belongs(model: Any, key: str) -> bool:
    """True for a weight, such as a bias, of a layer that the model has with other weights."""
    layer, _, leaf = key.rpartition(".")
    found = dict(model.named_modules()).get(layer)
    return hasattr(found, "weight") and leaf in ("weight", "bias")


def _check_numbers(name: str, model: Any) -> None:
    """Refuse weights that are not finite."""
    for key, weight in model.named_parameters():
        if weight.dtype in DTYPES.values() and weight.numel() and not torch.stack(weight.aminmax()).isfinite().all():
            raise BackboneError(
                f"backbone {name!r}: its weight {key} holds a number that is not finite in {weight.dtype}; load it in "
                "another dtype, or put a whole copy of its file in place"
            )


def _check_vocabulary(name: str, model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer with tokens for which the model has no embedding; markers that it adds may be such."""
    rows = _rows(model)
    added = tokenizer.get_added_vocab()
    text = {token: id for token, id in tokenizer.get_vocab().items() if token not in added}
    if not text:
        raise BackboneError(f"backbone {name!r}: its tokenizer has no tokens but markers; complete its files")
    beyond = {token: id for token, id in text.items() if id >= rows}
    if beyond:
        token, id = min(beyond.items(), key=lambda item: item[1])
        raise BackboneError(
            f"backbone {name!r}: its tokenizer has {len(beyond)} tokens beyond the {rows} of its model, for instance "
            f"{token!r} with id {id}; it is the tokenizer of another model"
        )


def _rows(model: Any) -> int:
    """The number of tokens that a model has embeddings for."""
    embeddings = model.get_input_embeddings()
    return getattr(embeddings, "num_embeddings", None) or embeddings.weight.shape[0]  # weights may be packed


def context_of(config: Any, tokenizer: Any) -> int:
    """Tokens of the longest row: as the config tells, else the tokenizer, else as good as unlimited.

    Models that attend to so many tokens of their choice are run up to that many: in longer rows transformers' own
    forward pass lets tokens see later ones.
    """
    told = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len", "n_positions"))
    limits = [n for n in (*told, getattr(tokenizer, "model_max_length", None)) if isinstance(n, int)]
    longest = next((n for n in limits if 0 < n < 1 << 30), _UNLIMITED)
    return min(longest, *(getattr(config, name, None) or longest for name in _CHOICES))


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a completion: the tokenizer's and those of the model's generation config."""
    ends: list[Any] = []
    for source in (tokenizer.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
        ends += source if isinstance(source, list) else [] if source is None else [source]
    if not ends:
        raise BackboneError("the backbone names no end-of-sequence token, so no message could ever end")
    if wrong := [end for end in ends if not isinstance(end, int)]:
        raise BackboneError(f"generation_config.json names {wrong[0]!r} as eos_token_id; it must be a number")
    if not any(0 <= end < _rows(model) for end in ends):
        raise BackboneError(
            f"the end-of-sequence token has the id {min(ends)}, which the model does not have; correct it"
        )
    return frozenset(ends)


def pick_device(device: str) -> torch.device:
    """The device named, or the best there is for "auto". Raises `ConfigError` for one that cannot be used here."""
    if device != "auto":
        try:
            found = torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:1") from error
        try:
            torch.zeros(1, device=found).item()  # "meta" has no values
        except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:120]
            raise ConfigError(f"device {device!r} cannot be used here ({reason}); use auto or cpu") from error
        return found
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; use auto or one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def locate(name: str) -> str:
    """The folder, or the hub id, that a backbone's name stands for."""
    if name == "tiny":
        return str(TINY_FOLDER)
    if name == "smollm2-135m":
        return str(smollm2_folder())
    if gguf := gguf_in(name):
        with quoting(name, name):
            return str(converted(gguf, cache_folder()))
    if Path(name).is_dir():
        return name
    if name.startswith((".", os.sep)):
        raise BackboneError(f"backbone {name!r} is not a folder with a Hugging Face model; check the path")
    return name


@dataclass(frozen=True)
class Declared:
    """The content of `neuromas.json`, which a folder may hold beside its model."""

    style: Style | None = None  # The prompt style that the model was trained on.
    targets: tuple[str, ...] | None = None  # The linear layers that get adapters where no recipe names any.


def declared(source: str) -> Declared:
    """Read `neuromas.json`; nothing is declared by a folder without it, nor by a hub id.

    Raises `BackboneError` for a damaged file and for an unknown style.
    """
    file = Path(source) / "neuromas.json"
    if not file.is_file():
        return Declared()
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        style, targets = said["prompt_style"], said.get("adapter_targets")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackboneError(f'{file} is damaged ({error}); write {{"prompt_style": "chat"}}, or remove it') from error
    if style not in get_args(Style):
        raise BackboneError(f"{file}: prompt_style {style!r} is unknown; use one of {', '.join(get_args(Style))}")
    if targets is None:
        return Declared(style)
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) for name in targets):
        raise BackboneError(
            f"{file}: adapter_targets {targets!r} is no list of names; write one such as "
            '["q_proj", "v_proj"], or leave it out'
        )
    return Declared(style, tuple(targets))
