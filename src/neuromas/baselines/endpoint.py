"""Dialogues with a model behind an OpenAI-compatible endpoint, in the words of a chat prompt.

The answer prefix is left out: no word can be put into the model's mouth, and every grader reads a reply without it.
"""

from collections.abc import Sequence

from neuromas.baselines.chat import Asked, Chat, Request, place
from neuromas.network.endpoint import Call, Endpoint
from neuromas.network.forward import Limits
from neuromas.network.prompt import words
from neuromas.network.sampling import Decoding, stream_key
from neuromas.network.wording import Words
from neuromas.types import NodeCall, Question


class EndpointChat(Chat):
    """An endpoint, as baselines call it. It has no `backbone`: what needs token ids or logits cannot be built on it."""

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits | None = None,
        decoding: Decoding | None = None,
        words: Words | None = None,
    ) -> None:
        self.name, self.endpoint = endpoint.name, endpoint
        self.limits, self.decoding = limits or Limits(), decoding or Decoding()
        self.words = words or Words.of(None, "chat")

    def ask(self, asked: Sequence[Asked], *, greedy: bool, seed: int) -> list[NodeCall]:
        """One call for each request, in order; its seed is a function of (seed, question id, rollout, stage)."""
        replies = self.endpoint.complete([self._call(a, greedy and not a.request.sampled, seed) for a in asked])
        return [
            NodeCall(
                node=a.request.stage,
                prefix_ids=[],
                own_ids=[],
                completion_ids=[],
                logprobs=[],
                entropies=[],
                text=reply.text,
                truncated=reply.truncated,
                counted=(reply.prompt_tokens, reply.generated_tokens),
            )
            for a, reply in zip(asked, replies, strict=True)
        ]

    def heard(self, question: Question, request: Request, call: NodeCall) -> str:
        """The reply as it is."""
        return call.text

    def _call(self, asked: Asked, greedy: bool, seed: int) -> Call:
        question, rollout, request = asked
        return Call(
            system=request.ask,
            user=words(place(request), question, [text for _, text in request.notes], self.wording(request)),
            tokens=self.limit(request),
            temperature=0.0 if greedy else self.decoding.temperature,
            top_p=self.decoding.top_p,
            seed=stream_key(seed, 0, question.id, rollout, request.stage) >> 33,  # 31 bits: no API takes fewer
            stop=self.limits.stop,
        )
