"""Trains the embedded backbone `tiny` from nothing and writes its folder (weights, tokenizer, config, card).

    python tools/pretrain_tiny.py [--out src/neuromas/backbones/tiny] [--steps N] [--seed 0]

The documents are prompts of the `compact` style and what follows them (see `documents`), made of training
expressions of the task `compositional` only. Every choice in them is drawn independently: which part a message is
about has nothing to do with the id, the layer, or the neighbours of the node that says it, so no node is born
with a role; dividing the work is what a network has to learn. One thread, a fixed seed and a fixed number of
steps make the run repeatable on one kind of processor.

Shapes: n documents, k upstream nodes, d downstream nodes, S parts of an expression, T tokens.
"""

import argparse
import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neuromas.tasks.base import SPLITS, Split
from neuromas.tasks.expressions import STATEMENT_WIDTH, Expressions, Space, splits_of

PAD, BOS, EOS, HOLE = 256, 257, 258, 999  # the bytes are 0 … 255; HOLE marks characters that are left out
SPACES = {2: Space(depth=2), 3: Space(depth=3)}
LABEL_SHARES = {2: np.array([0.45, 0.45, 0.10]), 3: np.array([0.15] * 4 + [0.16] * 2 + [0.08])}
EMPTY_SHARE = 0.04  # of the messages in a prompt
CONTEXT = 512
LAYERS, WIDTH = 7, 6  # node ids run from 1.1 to 7.6

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


# -- documents ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Documents padded on the right."""

    ids: Ints  # [n, T]
    weights: Floats  # [n, T], what predicting each token counts; 0 for padding


def expressions(depth: int, n: int, rng: np.random.Generator, split: Split = "train") -> Expressions:
    """n random expressions that belong to `split`."""
    pool = SPACES[depth].sample(int(n * (1.3 if split == "train" else 40)) + 64, rng)
    return pool[np.flatnonzero(splits_of(pool.text) == SPLITS.index(split))[:n]]


def documents(depth: int, n: int, k: int, answers: bool, hidden: bool, rng: np.random.Generator) -> Batch:
    """n documents `{id}<{upstream}>{downstream}:{question}\\n`, k times `{sender}:{statement}\\n`, then either `>`
    and a statement, or `A` and the root's work. Some messages are empty; `hidden` leaves the question out."""
    drawn = expressions(depth, n, rng)
    rows = np.arange(n)[:, None]
    said = drawn.statements[rows, labels_of_messages(depth, n, k, rng)].astype(np.int64)  # [n, k, 7]
    if hidden and k:
        said[:, rng.integers(k)] = drawn.statements[:, -1]
    said[rng.random((n, k)) < EMPTY_SHARE] = HOLE
    own = rng.choice(drawn.values.shape[1], n, p=LABEL_SHARES[depth])
    completion = answer_of(drawn) if answers else drawn.statements[np.arange(n), own].astype(np.int64)
    head, senders = heads(n, k, 0 if answers else int(rng.integers(1, 5)), rng)
    question = drawn.text.astype(np.int64) if not hidden else np.full((n, 0), HOLE)
    return assemble(head, question, senders, said, completion, answers)


def labels_of_messages(depth: int, n: int, k: int, rng: np.random.Generator) -> Ints:
    """The part that each message [n, k] is about: independent draws, with repetition.

    Every document has its own shares, some even and some lopsided, as the messages of one layer of a network may be.
    """
    shares = LABEL_SHARES[depth] * rng.exponential(1.0, (n, len(LABEL_SHARES[depth])))
    limits = np.cumsum(shares / shares.sum(1, keepdims=True), 1)[:, None, :-1]  # [n, 1, S - 1]
    return (rng.random((n, k, 1)) > limits).sum(2)


def answer_of(drawn: Expressions) -> Ints:
    """The root's work without its letter, e.g. "8*4=2" [n, 5]."""
    return drawn.statements[:, -1, 1:-1].astype(np.int64)


def heads(n: int, k: int, d: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Random positions: `{id}<{upstream}>{downstream}:` [n, 4k + 4d + …] and the upstream ids [n, k, 3]."""
    layer = rng.integers(2 if k else 1, LAYERS if d else LAYERS + 1, n)
    own = _ids((layer - 1) * WIDTH + rng.integers(0, WIDTH, n))
    upstream = _neighbours(layer, k, -1, rng)
    downstream = _neighbours(layer, d, +1, rng)
    return _columns(n, own, "<", _listed(upstream), ">", _listed(downstream), ":"), upstream


def _neighbours(layer: Ints, count: int, side: int, rng: np.random.Generator) -> Ints:
    """`count` distinct node ids in reading order [n, count, 3], before (side -1) or after `layer`: in a third of
    the rows the first ones of the next layer, in a third any of that layer, in a third any that far."""
    cells = np.arange(LAYERS * WIDTH)
    distance = side * (cells // WIDTH + 1 - layer[:, None])  # [n, cells], positive on the right side
    style = rng.integers(0, 3, (len(layer), 1))
    key = np.where(style == 0, cells % WIDTH / WIDTH, rng.random(distance.shape))
    key = key + np.where(style == 2, 0, 10 * np.abs(distance - 1)) + np.where(distance < 1, 1e6, 0)
    return _ids(np.sort(np.argsort(key, 1)[:, :count], 1))


def _ids(cells: Ints) -> Ints:
    """Cell numbers [...] → the characters of "layer.index" [..., 3]."""
    dots = np.full_like(cells, ord("."))
    return np.stack([cells // WIDTH + ord("1"), dots, cells % WIDTH + ord("1")], -1)


def _listed(ids: Ints) -> Ints:
    """[n, k, 3] → the same joined by commas [n, 4k - 1]; [n, 0] for none."""
    commas = np.full((*ids.shape[:2], 1), ord(","))
    return np.concatenate([ids, commas], 2).reshape(len(ids), -1)[:, : max(0, 4 * ids.shape[1] - 1)]


def _columns(n: int, *parts: Ints | str) -> Ints:
    wide = [np.tile(np.frombuffer(p.encode(), np.uint8), (n, 1)) if isinstance(p, str) else p for p in parts]
    return np.concatenate(wide, 1).astype(np.int64)


def assemble(head: Ints, question: Ints, senders: Ints, said: Ints, completion: Ints, answers: bool) -> Batch:
    """Joins the pieces, closes the holes, and weighs: prompt little, completion fully."""
    n, k = said.shape[:2]
    ends = np.full((n, k, 1), ord("\n"))
    messages = np.concatenate([senders, np.full((n, k, 1), ord(":")), said, ends], 2).reshape(n, -1)
    before = _columns(n, head, question, "\n")
    after = np.concatenate([completion, np.full((n, 1), EOS)], 1)
    ids = np.concatenate([before, messages, _columns(n, "A" if answers else ">"), after], 1)
    shares = [np.full(before.shape[1], 0.05), np.full(messages.shape[1] + 1, 0.2), np.ones(after.shape[1])]
    weights = np.where(ids == HOLE, 0, np.concatenate(shares)).astype(np.float32)
    order = np.argsort(ids == HOLE, 1, kind="stable")
    ids, weights = np.take_along_axis(ids, order, 1), np.take_along_axis(weights, order, 1)
    return Batch(np.where(ids == HOLE, PAD, ids), weights)


def facts(n: int, count: int, rng: np.random.Generator) -> Batch:
    """n lists of `count` single operations `3+5=8;`: the tables, without a network around them."""
    drawn = Space(depth=1).sample(n * count, rng).statements[:, 0, 1:].astype(np.int64)
    ids = drawn.reshape(n, -1)
    return Batch(ids, np.ones(ids.shape, np.float32))


def training_batch(progress: float, rng: np.random.Generator) -> Batch:
    """Four leaves first, then both sizes; `progress` runs from 0 to 1."""
    if rng.random() < (0.25 if progress < 0.2 else 0.05):
        return facts(32, 10, rng)
    depth = 2 if progress < 0.3 or rng.random() < 0.35 else 3
    k = 0 if rng.random() < 0.15 else int(rng.integers(1, 4 if depth == 2 else 7))
    hidden = k > 0 and rng.random() < 0.015
    answers = hidden or rng.random() < (0.4 if k else 0.3)
    return documents(depth, 48 if depth == 2 else 32, k, answers, hidden, rng)


# -- model and training ------------------------------------------------------------------------------------


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, id = byte, and three special tokens."""
    alphabet = _byte_characters()
    core = Tokenizer(models.BPE(vocab={alphabet[b]: b for b in range(256)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in ("<|pad|>", "<|bos|>", "<|eos|>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _byte_characters() -> list[str]:
    """The printable stand-in that ByteLevel uses for each byte: itself where printable, else U+0100 onwards."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [b for b in range(256) if b not in printable]
    return [chr(b) if b in printable else chr(0x100 + others.index(b)) for b in range(256)]


def build_model(seed: int) -> LlamaForCausalLM:
    """A fresh model in float32, initialised by our own generator so that the result depends on the seed only."""
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        attn_implementation="eager",  # the fastest for training on a processor at this size
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2:
                scale = 0.05 if "embed" in name else (0.5 if _writes(name) else 1.0) / math.sqrt(p.shape[1])
                p.copy_(torch.randn(p.shape, generator=generator) * scale)
    return model


def _writes(name: str) -> bool:
    """True of a matrix that writes into the residual stream."""
    return "o_proj" in name or "down_proj" in name


class Muon:
    """Momentum whose update of a matrix is orthogonalised by five Newton–Schulz steps (Jordan et al., 2024)."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        shapes = sorted({tuple(p.shape) for p in parameters})
        self.groups = [[p for p in parameters if tuple(p.shape) == shape] for shape in shapes]
        self.momenta = [torch.zeros(len(g), *g[0].shape) for g in self.groups]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for group, momentum in zip(self.groups, self.momenta, strict=True):
            gradient = torch.stack([p.grad for p in group if p.grad is not None])
            momentum.mul_(0.95).add_(gradient)
            update = orthogonalise(gradient + 0.95 * momentum)
            rows, columns = group[0].shape
            for p, u in zip(group, update, strict=True):
                p.mul_(1 - 0.02 * rate).add_(u, alpha=-rate * max(1.0, rows / columns) ** 0.5)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """[m, rows, columns] → roughly the nearest matrices with singular values near 1."""
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = (x.mT if tall else x).bfloat16()
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Weighted cross-entropy in nats per unit of weight."""
    ids, weights = torch.from_numpy(batch.ids), torch.from_numpy(batch.weights)[:, 1:]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses.view(weights.shape) * weights).sum() / weights.sum()


def train(steps: int, seed: int, report_every: int = 250) -> tuple[LlamaForCausalLM, dict[str, float]]:
    """The trained model in float32, and figures of the run for the card."""
    model, rng = build_model(seed), np.random.default_rng([seed, 1])
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or "embed" in name]
    muon, adam = Muon(matrices), torch.optim.Adam(others, lr=3e-3, betas=(0.9, 0.98))
    began, losses, tokens = time.time(), [], 0
    for step in range(steps):
        progress = step / steps
        scale = min(1.0, step / 50) * min(1.0, (1 - progress) / 0.5)
        batch = training_batch(progress, rng)
        tokens += int((batch.weights > 0).sum())
        loss = loss_of(model, batch)
        model.zero_grad()
        loss.backward()
        muon.step(0.02 * scale)
        adam.param_groups[0]["lr"] = 3e-3 * scale
        adam.step()
        losses.append(loss.item())
        if (step + 1) % report_every == 0:
            table = "  ".join(f"{row.key} {row.accuracy:.2f}" for row in evaluate(model, 64))
            mean, seconds = float(np.mean(losses[-report_every:])), time.time() - began
            print(f"step {step + 1}/{steps} {seconds:.0f}s {tokens / 1e6:.1f}M tokens loss {mean:.3f}")
            print(f"  {table}", flush=True)
    return model, {"tokens": tokens, "loss": float(np.mean(losses[-250:])), "seconds": time.time() - began}


# -- evaluation --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Skill:
    """One line of the evaluation: greedy completions on held-out expressions."""

    depth: int
    part: str  # the part to state (its letter is given), or "answer"
    shown: str  # letters of the messages in the prompt, in this order; "??" is two random bottom parts
    accuracy: float = 0.0  # in [0, 1]; the whole statement, or the answer's final digit

    @property
    def key(self) -> str:
        return f"{2**self.depth}{'A' if self.part == 'answer' else self.part}|{self.shown}"


SKILLS = [
    *(Skill(2, part, "") for part in "ab"),
    *(Skill(2, "answer", shown) for shown in ("", "a", "b", "??", "ab", "ba")),
    *(Skill(3, part, "") for part in "abcde"),
    *(Skill(3, *case) for case in (("e", "ab"), ("e", "ba"), ("e", "abcd"), ("f", "dc"), ("f", "acbd"))),
    *(Skill(3, "answer", shown) for shown in ("", "abcd", "e", "ef", "fe", "abcdef")),
]


def evaluate(model: LlamaForCausalLM, n: int, split: Split = "validation", seed: int = 7) -> list[Skill]:
    """Every skill with its accuracy on n expressions of a held-out split."""
    rng = np.random.default_rng(seed)
    return [Skill(s.depth, s.part, s.shown, _accuracy(model, s, n, split, rng)) for s in SKILLS]


@torch.no_grad()
def _accuracy(model: LlamaForCausalLM, skill: Skill, n: int, split: Split, rng: np.random.Generator) -> float:
    drawn = expressions(skill.depth, n, rng, split)
    labels = SPACES[skill.depth].labels
    shown = np.tile(np.array([labels.find(c) for c in skill.shown], np.int64), (n, 1))
    shown = np.where(shown < 0, rng.integers(0, 2, shown.shape), shown)
    answers = skill.part == "answer"
    prompt = prompts(drawn, shown, answers, rng)
    if answers:
        got = complete(model, prompt, 5)
        return float((got[:, 4] == answer_of(drawn)[:, 4]).mean())
    want = np.concatenate([drawn.statements[:, labels.index(skill.part)].astype(np.int64), np.full((n, 1), EOS)], 1)
    ids = torch.from_numpy(np.concatenate([prompt, want[:, :-1]], 1))
    got = model(input_ids=ids, use_cache=False, logits_to_keep=STATEMENT_WIDTH).logits.argmax(-1).numpy()
    return float((got == want[:, 1:]).all(1).mean())  # all likeliest given those before = what greedy decoding says


def prompts(drawn: Expressions, shown: Ints, answers: bool, rng: np.random.Generator) -> Ints:
    """Prompts [n, T] of nodes that read the true statements about the parts `shown` [n, k]."""
    n, k = shown.shape
    said = drawn.statements[np.arange(n)[:, None], shown].astype(np.int64)
    head, senders = heads(n, k, 0 if answers else 1, rng)
    batch = assemble(head, drawn.text.astype(np.int64), senders, said, np.zeros((n, 0), np.int64), answers)
    return batch.ids[:, :-1]


@torch.no_grad()
def complete(model: LlamaForCausalLM, prompt: Ints, count: int) -> Ints:
    """The next `count` tokens [n, count], greedily."""
    ids = torch.from_numpy(prompt)
    for _ in range(count):
        ids = torch.cat([ids, model(input_ids=ids, use_cache=False, logits_to_keep=1).logits.argmax(-1)], 1)
    return ids[:, -count:].numpy()


@torch.no_grad()
def first_words(model: LlamaForCausalLM, depth: int, n: int, seed: int = 7) -> dict[str, float]:
    """Mean probability of each letter as the part that an untrained node speaks about, without messages."""
    rng = np.random.default_rng(seed)
    drawn = expressions(depth, n, rng, "validation")
    ids = torch.from_numpy(prompts(drawn, np.zeros((n, 0), np.int64), False, rng))
    p = model(input_ids=ids).logits[:, -1].float().softmax(-1).mean(0)
    return {label: round(float(p[ord(label)]), 3) for label in SPACES[depth].labels}


# -- the folder --------------------------------------------------------------------------------------------

CARD = """# tiny: the embedded backbone

A Llama of 4 layers, width 128, 4 heads ({parameters:,} parameters, tied embeddings, bfloat16, {megabytes:.2f} MB), with
one token per byte and a context of {context} tokens. It exists so that everything in this project runs, trains and is tested
with a real language model, in minutes, without a download. It can read expressions of the task `compositional`
(modulo 10, operators + and *, 4 or 8 leaves), work out one part of them per turn, and use what others worked out.
It knows nothing else.

## Training
From nothing, on {tokens:.1f} million tokens of synthetic text in {steps:,} steps; final loss {loss:.3f} nats per unit
of weight (a completion's token weighs 1, a message's 0.2, the rest of a prompt 0.05). The documents are prompts of
the `compact` style over training expressions, followed by one statement (`a3+5=8;`) or by the root's work (`8*4=2`).
Node ids, layers and neighbours are random, and which part is stated is independent of them: no role is built in.
Messages are independent random statements, with repetition, {empty:.0%} of them empty; whole derivations in order never
occur on purpose. The first 30% of the steps have 4-leaf expressions only. One batch in twenty (one in four at first)
lists single operations (`3+5=8;`), over all operands; about one in a hundred hides the question.

The training is short on purpose. A stronger recipe (more weight on messages, 5,500 steps) gave a model that worked
out two levels in its head and answered 4-leaf questions alone, which leaves a team nothing to do.

## Evaluation
Greedy, {n} held-out expressions (test split) per line. "Parts shown" are those in the upstream messages, in order;
`??` is two messages about random bottom parts. A statement counts when all of it is right and it ends there.

| leaves | asked for | parts shown | accuracy |
|---|---|---|---|
{rows}

What an untrained node speaks about without messages (mean probability of the letter):
4 leaves {first2}; 8 leaves {first3}.

## Rebuilding
`python tools/pretrain_tiny.py --steps {steps} --seed {seed}` takes about {minutes:.0f} minutes on one core. It is repeatable bit
for bit on one kind of processor and version of torch (here {torch}); elsewhere expect the same figures, not the same bytes.

sha256 of `model.safetensors`: `{sha256}`
"""


def write_folder(out: Path, model: LlamaForCausalLM, run: dict[str, float], steps: int, seed: int) -> None:
    """Weights in bfloat16, tokenizer, config, and the card with the figures of the weights as stored."""
    model = model.to(torch.bfloat16)
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    build_tokenizer().save_pretrained(out)
    (out / "neuromas.json").write_text('{"prompt_style": "compact"}\n')
    weights = (out / "model.safetensors").read_bytes()
    table = evaluate(model, 512, "test")
    shares = [", ".join(f"{k} {v:.2f}" for k, v in first_words(model, depth, 512).items()) for depth in (2, 3)]
    card = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()),
        megabytes=len(weights) / 1e6,
        context=CONTEXT,
        tokens=run["tokens"] / 1e6,
        steps=steps,
        loss=run["loss"],
        empty=EMPTY_SHARE,
        n=512,
        rows="\n".join(f"| {2**s.depth} | {s.part} | {s.shown or '–'} | {s.accuracy:.3f} |" for s in table),
        first2=shares[0],
        first3=shares[1],
        seed=seed,
        minutes=run["seconds"] / 60,
        torch=torch.__version__,
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    (out / "CARD.md").write_text(card)
    print(card)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded backbone `tiny` and write its folder.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "src/neuromas/backbones/tiny")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, run = train(options.steps, options.seed)
    write_folder(options.out, model, run, options.steps, options.seed)


if __name__ == "__main__":
    main()
