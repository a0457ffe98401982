"""What answers a batch of jobs: a network, all of them in one pass; or any other system, one after the other."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from neuromas.errors import PromptError
from neuromas.network.asks import Ask
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.sampling import Decoding
from neuromas.serve.faults import Fault
from neuromas.serve.job import Job
from neuromas.types import Message, Question, System, Trace

log = logging.getLogger("neuromas.serve")


@dataclass(frozen=True)
class Engine:
    """A system with what the server must know of it. `run` is called by one thread at a time."""

    system: System
    backbone: Backbone
    pattern: Question  # instruction and answer prefix of every question, and its id, as in `neuromas ask`

    @property
    def network(self) -> Network | None:
        return self.system if isinstance(self.system, Network) else None

    @property
    def decoding(self) -> Decoding:
        """How it samples when it is not asked for more."""
        return self.network.decoding if self.network else Decoding()

    @property
    def output(self) -> str:
        return self.network.topology.output if self.network else "answer"

    def weight(self, job: Job) -> int:
        """Rows of the widest layer."""
        return job.n * (max(map(len, self.network.topology.layers)) if self.network else 1)

    @cached_property
    def most_characters(self) -> int:
        """A longer question cannot fit, whatever it says."""
        return self.backbone.context_window * max(map(len, self.backbone.tokenizer.get_vocab()))

    def check_text(self, text: str) -> None:
        """Refuse what is no text, or surely too long, before it is encoded, which would keep others waiting."""
        if any("\ud800" <= c <= "\udfff" for c in text):
            message = "the question holds half of a surrogate pair, which is no character; send valid Unicode"
            raise Fault(400, message, "invalid_value", "messages")
        if len(text) > self.most_characters:
            window = self.backbone.context_window
            message = f"the question has {len(text)} characters, more than fit into {window} tokens; shorten it"
            raise Fault(400, message, "context_length_exceeded", "messages")

    def run(self, jobs: Sequence[Job]) -> None:
        """Answer every job, or tell it why not. Never raises: what goes wrong with one job is that job's alone."""
        able = [job for job in jobs if self._fits(job)]
        try:
            self._answer(able)
        except Exception:
            if len(able) == 1:
                log.exception("a question could not be answered")
                able[0].fail(Fault(500, "the network failed on this question; the server's log says why", "internal"))
                return
            log.warning("a batch of %d failed; its questions are asked one by one", len(able), exc_info=True)
            for job in able:
                self.run([job])

    def _answer(self, jobs: Sequence[Job]) -> None:
        if self.network is None:
            for job in jobs:
                greedy = job.decoding.greedy
                job.finish(self.system.answer([job.question], greedy=greedy, seed=job.seed, rollouts=job.n))
        elif jobs:
            traces = self.network.run([Ask(j.question, range(j.n), j.seed, j.decoding, j) for j in jobs])
            for job in jobs:
                mine, traces = traces[: job.n], traces[job.n :]
                job.finish(mine)

    def _fits(self, job: Job) -> bool:
        """Whether the question fits into every node's prompt; the job is told where it does not."""
        try:
            for node in self.network.topology.nodes if self.network else ():
                self._render(job.question, node)
        except PromptError as error:
            job.fail(Fault(400, str(error), "context_length_exceeded", "messages"))
            return False
        return True

    def _render(self, question: Question, node: str) -> None:
        assert self.network is not None
        at, limits = self.network.topology.position(node), self.network.limits
        reserve = limits.answer_tokens if node == self.output else limits.message_tokens
        self.backbone.template.render(at, question, [Message(u, "") for u in at.upstream], reserve)


def usage(traces: Sequence[Trace]) -> tuple[int, int, int]:
    """Tokens of all prompts, of all that was generated, and of what only other nodes read."""
    prompt = sum(trace.prompt_tokens for trace in traces)
    generated = sum(trace.generated_tokens for trace in traces)
    return prompt, generated, generated - sum(len(trace.calls[-1].completion_ids) for trace in traces)
