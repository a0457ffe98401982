"""Answers batches of jobs: a network takes a batch in one pass, any other system takes its jobs one after the other."""

import logging
from collections.abc import Sequence
from functools import cached_property

from neuromas.errors import NeuromasError, PromptError
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.network.turns import Ask
from neuromas.serve.faults import Fault, of_error
from neuromas.serve.job import Job
from neuromas.serve.schema import AnswerRequest
from neuromas.types import Message, Question, System

log = logging.getLogger("neuromas.serve")
CACHED_TOKENS = 100_000  # the most tokens of prompts kept encoded; clients seldom repeat a question
_GREEDY_BELOW = 1e-3  # lower temperatures would take logits out of float32's range


class Responder:
    """Any system. `run` is called by one thread at a time.

    pattern: instruction, answer prefix and id of every question, as in `neuromas ask`.
    """

    topology: Topology | None = None
    output = "answer"  # the node that answers
    width = 1  # rows of the widest layer
    batch_rows = Limits.batch_rows  # rows of one batch unless the server's settings say otherwise
    decoding = Decoding()  # the decoding where a request leaves it open
    stops: tuple[str, ...] = ()  # texts that end what the system writes, whatever a request says
    sets_temperature = False  # True if temperature and top_p of a request can be honoured

    def __init__(self, system: System, backbone: Backbone, pattern: Question) -> None:
        self.system, self.backbone, self.pattern = system, backbone, pattern
        backbone.template.cached_tokens = CACHED_TOKENS

    @cached_property
    def max_characters(self) -> int:
        """A longer question cannot fit, whatever it says."""
        return self.backbone.context_window * max(map(len, self.backbone.tokenizer.get_vocab()))

    def check_text(self, text: str) -> None:
        """Raises `Fault` for text that is surely too long, before it is encoded, which would keep others waiting."""
        if len(text) > self.max_characters:
            window = self.backbone.context_window
            message = f"the question has {len(text)} characters, more than fit into {window} tokens; shorten it"
            raise Fault(400, message, "context_length_exceeded", "messages")

    def decoding_for(self, request: AnswerRequest) -> Decoding:
        """The decoding that a request asks for. Raises `Fault` if the system cannot honour it."""
        temperature, top_p = request.temperature, request.top_p
        if temperature is None:
            temperature = self.decoding.temperature if request.choices > 1 or top_p is not None else 0.0
        if temperature < _GREEDY_BELOW:
            return Decoding(greedy=True)
        if not self.sets_temperature and (request.temperature is not None or top_p is not None):
            message = "this system samples at its own temperature; send temperature 0, or neither temperature nor top_p"
            raise Fault(400, message, "unsupported_value", "temperature")
        return Decoding(temperature=temperature, top_p=self.decoding.top_p if top_p is None else top_p)

    def run(self, jobs: Sequence[Job]) -> None:
        """Answer every job, or fail it with the reason. Never raises: one job's error does not affect the others."""
        jobs = [job for job in jobs if self._fits(job)]
        try:
            self._answer(jobs)
        except Exception as error:
            known = isinstance(error, NeuromasError)  # Its message says all; of others the log keeps the place.
            if len(jobs) == 1:
                log.error("a question could not be answered: %s", error, exc_info=not known)
                internal = Fault(500, "the network failed on this question; the server's log says why", "internal")
                jobs[0].fail(of_error(error) if isinstance(error, NeuromasError) else internal)
                return
            log.warning("a batch of %d failed; its questions are asked one by one", len(jobs), exc_info=not known)
            for job in jobs:
                self.run([job])

    def _answer(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            greedy = job.decoding.greedy
            job.finish(self.system.answer([job.question], greedy=greedy, seed=job.seed, rollouts=job.n))

    def _fits(self, job: Job) -> bool:
        """True if the question fits into every prompt; the job is failed if not."""
        return True


class NetworkResponder(Responder):
    """A network."""

    sets_temperature = True

    def __init__(self, network: Network, backbone: Backbone, pattern: Question) -> None:
        super().__init__(network, backbone, pattern)
        self.network, self.topology, self.decoding = network, network.topology, network.decoding
        self.output, self.batch_rows = network.topology.output, network.limits.batch_rows
        self.stops = network.limits.stop
        self.width = max(map(len, network.topology.layers))

    def _answer(self, jobs: Sequence[Job]) -> None:
        if jobs:
            asks = [Ask(job.question, range(job.n), job.seed, job.decoding, listener=job) for job in jobs]
            traces = (rollout.trace() for rollout in self.network.forward(asks))
            for job in jobs:
                job.finish([next(traces) for _ in range(job.n)])

    def _fits(self, job: Job) -> bool:
        try:
            for node in self.network.topology.nodes:
                position = self.network.topology.position(node)
                self.network.prompt(position, job.question, [Message(sender, "") for sender in position.upstream])
        except PromptError as error:
            job.fail(of_error(error))
            return False
        return True


def responder_of(system: System, backbone: Backbone, pattern: Question) -> Responder:
    """The responder for a system; `backbone` tells the window and the vocabulary that bound its questions."""
    if isinstance(system, Network):
        return NetworkResponder(system, backbone, pattern)
    return Responder(system, backbone, pattern)
