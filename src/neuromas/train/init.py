"""A node that begins with a LoRA made elsewhere: by supervised fine-tuning, by earlier reinforcement."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neuromas.errors import CheckpointError
from neuromas.files import plain, read_object
from neuromas.network import peft
from neuromas.network.adapters import AdapterBank


@torch.no_grad()
def fill(bank: AdapterBank, name: str, folder: Path) -> None:
    """Let adapter `name` compute what the LoRA in `folder` computes, as `PeftModel.save_pretrained` wrote it.

    The bank may have a higher rank, whose further directions then begin as those of an untrained node, and more target
    layers, which begin as the bare backbone; another scale is worked into B. Raises `CheckpointError` for what does not
    fit, and says what would.
    """
    config, state = _read(folder)
    if bad := [key for key, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(f"the adapter in {folder} holds numbers that are not finite ({bad[0]}); train it again")
    ratio, rank = peft.scale(config, f"the adapter in {folder}") / bank.scale, config["r"]
    if rank > bank.rank:
        raise CheckpointError(
            f"the adapter in {folder} has rank {rank}, and adapter.rank is {bank.rank}; set it to {rank}"
        )
    n, used = bank.names.index(name), set[str]()
    for key, (out, inp) in bank.shapes.items():
        names = [f"{peft.PREFIX}{key}.lora_{x}.weight" for x in "AB"]
        if not state.keys() & set(names):
            continue
        for each, shape in zip(names, [(rank, inp), (out, rank)], strict=True):
            if each not in state or state[each].shape != shape:
                found = tuple(state[each].shape) if each in state else "missing"
                raise CheckpointError(
                    f"the adapter in {folder} was made for another backbone: {each} is {found}, and must be {shape}; "
                    f"name an adapter of this one (that one names {config.get('base_model_name_or_path')!r})"
                )
        A, B = bank.pair(key)
        A[n, :rank] = state[names[0]]
        B[n].zero_()
        B[n, :, :rank] = ratio * state[names[1]].float()
        used |= set(names)
    if not used:
        raise CheckpointError(f"the adapter in {folder} holds no weights; train it again, or name another")
    if odd := sorted(state.keys() - used):
        leaves = sorted({part.split(".lora_")[0].rsplit(".", 1)[-1] for part in odd})
        raise CheckpointError(
            f"the adapter in {folder} changes layers that the nodes' adapters do not ({odd[0]}, {len(odd)} tensors in "
            f"all); add {leaves} to adapter.targets"
        )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of a PEFT folder."""
    try:
        return read_object(folder / peft.CONFIG), load_file(plain(folder / peft.WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"adapter.init_from names {folder}, which cannot be read ({error}); name a folder with {peft.CONFIG} "
            f"and {peft.WEIGHTS}, as PEFT's save_pretrained writes it (a .bin file is not read: it could run code)"
        ) from error
