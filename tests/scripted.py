"""A scripted backbone for baselines: real prompts, real token ids, but replies from a script instead of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from helpers import CHATML, IM_END, byte_tokenizer
from neuromas.baselines.chat import Baseline, Chat
from neuromas.network.forward import Limits
from neuromas.network.generate import Completion
from neuromas.network.packed import Group
from neuromas.network.prompt import PromptTemplate, Style
from neuromas.network.sampling import Decoding, stream_key
from neuromas.types import Question, Trace

QUESTION = Question("q", "What is 1+1?", "2", instruction="Reply with a number.", answer_prefix="It is ")
ASKED = "What is 1+1?\nReply with a number."  # what an answering call reads of it …
SHOWN = "What is 1+1?"  # … and any other call


@dataclass(frozen=True)
class Heard:
    """One call as the backbone saw it."""

    stage: str
    ask: str  # the system's words
    user: str  # the user's words
    begun: str = ""  # what is put into the model's mouth
    role: str = ""  # whose adapter spoke; "" for the bare backbone


@dataclass(frozen=True)
class Pass:
    """One call of `generate`."""

    groups: list[Group]
    limit: int
    greedy: bool


class Script:
    """Replies by stage, or by a function of the whole prompt. A stage that is not in the script fails.

    Stages are known by their random streams, so a call under another address fails too.
    """

    def __init__(
        self, replies: Mapping[str, str] | Callable[[str], str], question: Question = QUESTION, bank: Any = None
    ) -> None:
        self.bank = bank  # where the roles have adapters
        self.replies, self.heard, self.passes = replies, [], []
        stages = replies if isinstance(replies, Mapping) else {}
        self._stage = {stream_key(0, 0, question.id, 0, stage): stage for stage in stages}

    def chat(self, limits: Limits | None = None, style: Style = "chat", window: int = 20_000) -> Chat:
        self.template = PromptTemplate(byte_tokenizer(CHATML), style, window)
        backbone: Any = SimpleNamespace(name="scripted", template=self.template)
        return Chat(backbone, limits or Limits(200, 200), Decoding(), self._generate, self.bank)

    def _generate(
        self, backbone: Any, bank: Any, groups: Sequence[Group], keys: Sequence[int], limit: int, how: Decoding
    ) -> list[Completion]:
        assert bank is self.bank
        self.passes.append(Pass(list(groups), limit, how.greedy))
        prompts = [(group.prefix_ids + own, group.adapter) for group in groups for own in group.own_ids]
        names = {0: ""} if bank is None else {n: role for role, n in bank.index.items()}
        decode = self.template.tokenizer.decode
        return [self._reply(decode(p), k, limit, names[n]) for (p, n), k in zip(prompts, keys, strict=True)]

    def _reply(self, prompt: str, key: int, limit: int, role: str) -> Completion:
        if isinstance(self.replies, Mapping):
            stage = self._stage[key]
            reply = self.replies[stage]
        else:
            stage, reply = "", self.replies(prompt)
        system, user, begun = (part.split("\n", 1)[1] for part in prompt.split("<|im_start|>")[1:4])
        ends = "<|im_end|>\n"
        self.heard.append(Heard(stage, system.removesuffix(ends), user.removesuffix(ends), begun, role))
        ids = [*reply.encode(), IM_END]
        return Completion(ids[:limit], [0.0] * len(ids[:limit]), [0.0] * len(ids[:limit]), len(ids) > limit)


def solve(baseline: Baseline, question: Question = QUESTION, **how: Any) -> Trace:
    """The baseline's trace for one question; every call it made was recorded and none has a name twice."""
    (trace,) = baseline.answer([question], **how)
    assert len({call.node for call in trace.calls}) == len(trace.calls)
    return trace


def parse(question: Question, text: str) -> str | None:
    """The last word of a reply; "?" cannot be read."""
    word = (text.split() or ["?"])[-1]
    return None if word == "?" else word
