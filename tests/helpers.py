"""Fakes that tests share: a byte-level tokenizer, tiny random models of every architecture, a toy task."""

import copy
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from neuromas.config import RunConfig
from neuromas.evaluate.run import Evaluation
from neuromas.network.adapters import ATTENTION_TARGETS
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.packed import Group
from neuromas.network.prompt import Style
from neuromas.network.turns import asks_of
from neuromas.results import Result, TopAnswer
from neuromas.tasks.base import Split, Task
from neuromas.types import Floors, Grade, Question, Trace

SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|bos|>"]
PAD, IM_START, IM_END, BOS = 256, 257, 258, 259
VOCABULARY = 260  # not a multiple of the sampler's block

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": BOS,
    "eos_token_id": IM_END,
    "pad_token_id": PAD,
}
_WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama-mha": {"model_type": "llama", "num_key_value_heads": 4, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2"},
    "qwen2-window": {"model_type": "qwen2", "use_sliding_window": True, **_WINDOW},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "mistral": {"model_type": "mistral", "sliding_window": 8},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 16, "query_pre_attn_scalar": 4, **_WINDOW},
    "gemma3-softcap": {"model_type": "gemma3_text", "head_dim": 8, "final_logit_softcapping": 2.0, **_WINDOW},
}


def tool(name: str) -> Any:
    """The script tools/`name`.py, as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def byte_tokenizer(
    template: str | None = None, special: Sequence[str] = SPECIAL, added: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """One token per byte (id = byte), then the special ones, then those added that are not special."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [b for b in range(256) if b not in printable]
    alphabet = [chr(b) if b in printable else chr(0x100 + others.index(b)) for b in range(256)]
    core = Tokenizer(models.BPE(vocab={c: b for b, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in special])
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in added])
    named = {"pad_token": "<|pad|>", "bos_token": "<|bos|>", "eos_token": "<|im_end|>"}
    known = {role: token for role, token in named.items() if token in special}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **known)
    tokenizer.chat_template = template
    return tokenizer


def plain_model(architecture: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """The unmodified Hugging Face model, eager attention, float32."""
    settings = {**_COMMON, **ARCHITECTURES[architecture], **changes}
    config = AutoConfig.for_model(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def make_backbone(
    architecture: str = "llama",
    seed: int = 0,
    style: Style | None = "compact",
    template: str | None = None,
    **changes: Any,
) -> Backbone:
    return Backbone(f"fake-{architecture}", plain_model(architecture, seed, **changes), byte_tokenizer(template), style)


def binary_backbone(seed: int = 0) -> Backbone:
    """Says 0 or 1 or nothing, so that answers to `compositional` modulo 2 are right about every other time."""
    model = plain_model(seed=seed)
    head = torch.nn.Linear(32, VOCABULARY)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.fill_(-8.0)
        head.bias[[ord("0"), ord("1"), IM_END]] = 0.0
    model.lm_head = head.requires_grad_(False)
    return Backbone("fake-binary", model, byte_tokenizer(), "compact")


def make_network(
    topology: Any = "2", backbone: Backbone | None = None, *, noise: float = 0.3, tokens: int = 5, **options: Any
) -> Network:
    """A network whose nodes differ: B is filled with noise (0 leaves it untrained)."""
    network = Network.create(
        topology, backbone or make_backbone(), rank=options.pop("rank", 3), limits=Limits(tokens, tokens, 64), **options
    )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for stack in network.adapters.B.values():
            stack.copy_(torch.randn(stack.shape, generator=generator) * noise)
    return network


def forward(
    network: Network, asked: Sequence[Question], *, rollouts: int, seed: int, step: int = 0, **how: Any
) -> list[Trace]:
    """Traces of one pass in which all questions are asked alike, question-major."""
    decoding = how.pop("decoding", network.decoding)
    asks = asks_of(asked, rollouts, seed, decoding, step)
    return [rollout.trace() for rollout in network.forward(asks, **how)]


def merged(network: Network, adapter: int, model: Any) -> dict[str, Tensor]:
    """The target weights of plain `model` with one adapter added in; differentiable in the bank."""
    bank = network.adapters
    weights: dict[str, Tensor] = {}
    for key in bank.shapes:
        low_rank = bank.B[key.replace(".", "|")][adapter] @ bank.A[key.replace(".", "|")][adapter]
        weight: Any = model.get_submodule(key).weight
        low_rank = low_rank if isinstance(model.get_submodule(key), torch.nn.Linear) else low_rank.T  # Conv1D
        weights[f"{key}.weight"] = weight + bank.alpha / bank.rank * low_rank
    return weights


def plain_logits(model: Any, ids: Sequence[int], weights: dict[str, Tensor] | None = None) -> Tensor:
    """Logits [T, V] of one sequence alone, by the unmodified model (with other weights)."""
    args, options = (), {"input_ids": torch.tensor([list(ids)]), "use_cache": False}
    if weights is None:
        return model(**options).logits[0]
    return torch.func.functional_call(model, weights, args, options, tie_weights=False).logits[0]


def ragged_groups(adapters: Sequence[int] = (0, 0, 1), seed: int = 0) -> list[Group]:
    """Groups with different prefix lengths, and rows whose own parts are long, short, one token or empty."""
    generator = torch.Generator().manual_seed(seed)
    ids = lambda n: torch.randint(0, 256, (n,), generator=generator).tolist()
    prefixes, owns = (13, 1, 21, 6), ((3, 0, 11), (0,), (1, 9), (0, 0))
    return [Group(a, ids(prefixes[i % 4]), [ids(n) for n in owns[i % 4]]) for i, a in enumerate(adapters)]


def questions(n: int, length: int = 4) -> list[Question]:
    return [Question(f"q{i}", f"{i}" + "+1" * (i % length), str(i)) for i in range(n)]


def measured(accuracy: float, n: int = 1) -> Evaluation:
    """An evaluation that nobody made."""
    top, floors = TopAnswer("7", 0.5), Floors(0.0, 0.0, 0.0, "7")
    result = Result(
        task="sums",
        task_version=1,
        split="validation",
        decoding="greedy",
        system="a network",
        n=n,
        seeds=1,
        accuracy=accuracy,
        ci95=(0.0, 1.0),
        parse_rate=1.0,
        top_answer=top,
        calls=1.0,
        sequential_calls=1.0,
        generated_tokens=1.0,
        prompt_tokens=1.0,
        trainable_parameters=0,
        floors=floors,
    )
    return Evaluation(result, [], [])


class FirstCharacter(Task):
    """Reward 1 when the reply's first character is one of `good`; learnable by any backbone."""

    name, version, max_answer_tokens = "first-character", 1, 4

    def __init__(self, good: str, size: int = 8) -> None:
        self.good, self.asked = good, questions(size)

    def questions(self, split: Split) -> list[Question]:
        return self.asked

    def grade(self, question: Question, text: str) -> Grade:
        return Grade(float(text[:1] != "" and text[:1] in self.good), text[:1] or None)


def as_saved(config: RunConfig) -> RunConfig:
    """The settings as a run of `binary_backbone` keeps them: with the layers that have adapters."""
    return config.with_settings("adapter", targets=ATTENTION_TARGETS)


def run_config(**changes: Any) -> RunConfig:
    """A run of a second for `binary_backbone`. changes: dotted names with __ for the dot."""
    data: dict[str, Any] = {
        "topology": "1",
        "seed": 3,
        "task": {
            "name": "compositional",
            "options": {"depth": 2, "modulus": 2, "train_size": 64, "validation_size": 16, "test_size": 16},
        },
        "adapter": {"rank": 2},
        "sampling": {"message_tokens": 3, "answer_tokens": 2, "batch_rows": 64},
        "train": {
            "steps": 6, "questions": 4, "rollouts": 4, "learning_rate": 3e-2, "warmup": 2, "validate_every": 2,
            "validation_questions": 8,
        },
    }  # fmt: skip
    data = copy.deepcopy(data)
    if "method" in changes:
        del data["topology"]  # a baseline has a shape of its own
    for name, value in changes.items():
        *path, leaf = name.split("__")
        place = data
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value
    return RunConfig.make(data)


@contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Fails when any byte of the model's weights or buffers differs at the end."""
    before = {k: v.clone() for k, v in model.state_dict().items()}
    yield
    after = model.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key]), f"{key} changed"
