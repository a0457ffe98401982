"""Bytes that a training run holds at once, by arithmetic on shapes. Pure functions.

These are counted; on the right stands where they are allocated:

    weights     the backbone, once                                              network/backbone.py
    adapters    parameter, gradient and AdamW's two moments: 4 × 4 bytes        network/adapters.py, train/optimizer.py
    load        the file's pages, while weights are cast to another dtype       Backbone.load
    sample      keys and values of the widest layer's rows, its first pass,
                logits of one token a row, prepacked weights                    network/generate.py, cpu.py
    update      the tensors that autograd keeps of a micro-batch, one layer's
                work, one chunk of logits                                       network/packed.py, head.py
    measure     one question's rollouts under the bare backbone                 train/step.py

The first two are held throughout; of the others the largest counts. On a CPU attention over whole prompts computes in
float32 whatever the model's dtype; what it caches has that dtype. tests/unit/test_plan.py holds `kept`
against what autograd really keeps, benchmarks/plan.py the whole against the peak of a process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from neuromas.network.cpu import PREPACKING_PAYS
from neuromas.network.head import CHUNK
from neuromas.network.packed import SHORT
from neuromas.plan.model import ModelSizes
from neuromas.plan.work import BYTES, PassWork, Work
from neuromas.results.record import JsonRecord

STATE_BYTES = 16  # A trainable parameter, its gradient and two moments, in float32.
DRAWN = 1 << 19  # Logits drawn from at once on a CPU (network/sampling.py).
# Bytes that an allocator holds for each byte in use. On a CPU the C library's heap, which temporary tensors leave with
# holes and which keeps what sampling took while the update asks for other sizes: fitted to ten runs, see docs/scale.md.
# On an accelerator torch's caching allocator, which gives blocks from one to the other: assumed.
HOLES = {"cpu": 1.6, "cuda": 1.15}
_SAME_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}


@dataclass(frozen=True)
class Memory(JsonRecord):
    """The bytes of a step's parts."""

    base: int  # The interpreter and its libraries, or the accelerator's context.
    weights: int
    adapters: int
    load: int
    sample: int
    update: int  # On a CPU with what sampling has left in the heap.
    measure: int

    @property
    def phase(self) -> str:
        """The phase that takes most on top of what is always held."""
        return max(("load", "sample", "update", "measure"), key=lambda name: getattr(self, name))

    @property
    def peak(self) -> int:
        return self.base + self.weights + self.adapters + getattr(self, self.phase)


def memory(model: ModelSizes, work: Work, base: int, *, most: bool = False) -> Memory:
    """The bytes that one step of `work` needs on its device.

    most: whatever rows the update leaves out. Rows of no advantage are skipped, so a group can have fewer rows, and
    batches of smaller groups can hold more; then more rollouts never need less. Raises `ConfigError` for a target of
    adapters that the model does not have.
    """
    slack, on_cpu = HOLES[work.device], work.device == "cpu"
    trained = work.adapters * model.adapter_parameters(work.targets, work.rank)
    sample = max(sampling(model, work, n) for n in range(len(work.layers())))
    sizes = [replace(work, rollouts=g) for g in group_sizes(work.rollouts)] if most else [work]
    update = max(updating(model, step, replay) for step in sizes for replay in set(step.replays()))
    measured = work.measured()
    return Memory(
        base=base,
        weights=model.parameters * work.value_bytes,
        adapters=STATE_BYTES * trained,
        load=model.parameters * BYTES[model.stored] if on_cpu and model.stored != work.dtype else 0,
        sample=round(slack * sample) + prepacked_bytes(model, work),
        update=round(slack * (update + (sample if on_cpu else 0))),
        measure=round(slack * (scratch(model, work, measured) + head(model, work, measured.scored, gradient=False))),
    )


def group_sizes(rollouts: int) -> Iterator[int]:
    """Sizes that stand for all up to `rollouts`: each to 16, then powers of two and the middles between them."""
    size = 1
    while True:
        yield size
        if size >= rollouts:
            return
        size += 1 if size < 16 else 1 << (size.bit_length() - 2)


def sampling(model: ModelSizes, work: Work, layer: int) -> int:
    """Of one layer of the network: the first pass, or the later ones with their logits; keys and values in both."""
    turns, first = work.layers()[layer], work.prefills()[layer]
    rows, longest = len(turns) * work.rows, max(turn.writes for turn in turns)
    own = first.rows * (first.own + longest)
    cache = 2 * model.layers * first.groups * (first.prefix + own) * model.keys * work.value_bytes
    drawn = min(rows * model.vocabulary, DRAWN) if work.device == "cpu" else rows * model.vocabulary
    logits = rows * model.vocabulary * work.value_bytes + 2 * 4 * drawn
    return cache + max(scratch(model, work, first), logits)


def prepacked_bytes(model: ModelSizes, work: Work) -> int:
    """A second copy of the weights while completions are sampled, where network/cpu.py makes one."""
    tokens = sum(turn.writes for turn in work.turns)
    if work.device != "cpu" or work.dtype == "float16" or work.rows * tokens < PREPACKING_PAYS:
        return 0
    return (model.layers * model.layer_weights + model.head_weights) * work.value_bytes


def updating(model: ModelSizes, work: Work, replay: PassWork) -> int:
    """Forward and backward of one micro-batch."""
    layers = 1 if work.checkpointing else model.layers
    inputs = model.layers * replay.tokens * model.width * work.value_bytes if work.checkpointing else 0
    last = replay.tokens * model.width * 4
    held = layers * kept(model, work, replay) + inputs + last
    return held + scratch(model, work, replay) + head(model, work, replay.scored, gradient=True)


def kept(model: ModelSizes, work: Work, p: PassWork) -> int:
    """The bytes that autograd keeps of one decoder layer, whose frozen weights ask for no inputs of their own.

    A norm keeps its input in float32; a gated product its three factors; an adapter its layer's input (once for layers
    that read the same) and its own `rank` values; attention queries, keys, values and the softmax of its scores.
    """
    inputs = {_SAME_INPUT.get(target, target): model.linear[target][1] for target in work.targets}
    products = 3 * model.inner + sum(inputs.values()) + work.rank * len(work.targets)
    each = 4 * model.normed + work.value_bytes * products
    attention = p.slots * (model.queries + 2 * model.keys) + _scores(model, p)
    return p.tokens * each + _attention_bytes(work) * attention


def scratch(model: ModelSizes, work: Work, p: PassWork) -> int:
    """One decoder layer at work: three values of the gated product, or queries, keys, values and thrice the scores."""
    stream = 2 * p.tokens * model.width * work.value_bytes
    gated = 3 * p.tokens * model.inner * work.value_bytes
    rectangles = 2 * p.slots * (model.queries + model.keys)
    return stream + max(gated, _attention_bytes(work) * (rectangles + 3 * _scores(model, p)))


def head(model: ModelSizes, work: Work, scored: int, *, gradient: bool) -> int:
    """One chunk of logits, and for each scored token its state and what its log-probability says of it."""
    rows = min(scored, max(1, CHUNK // model.vocabulary))
    chunks = 2 if gradient and work.entropy else 1
    chunk = chunks * rows * model.vocabulary * work.value_bytes
    if work.device != "cpu":  # There a chunk is worked on as a whole, in float32.
        chunk += 3 * rows * model.vocabulary * 4
    states = (1 + chunks * gradient) * scored * model.width * work.value_bytes
    return chunk + states


def _scores(model: ModelSizes, p: PassWork) -> int:
    """Scores of all heads; those of long prefixes never exist at once."""
    return model.heads * (p.scores if p.prefix <= SHORT else p.scores - p.groups * p.prefix**2)


def _attention_bytes(work: Work) -> int:
    return 4 if work.device == "cpu" else work.value_bytes
