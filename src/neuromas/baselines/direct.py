"""A network without training, and its smallest case: one call to the bare backbone.

Adapters are the untrained ones (B = 0), which change nothing. Behind an endpoint the same calls are a dialogue.
"""

from neuromas.baselines.chat import Baseline, Chat, Dialogue, Request
from neuromas.baselines.endpoint import EndpointChat
from neuromas.network.backbone import Backbone
from neuromas.network.environment import Environment
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.network.wording import Words
from neuromas.types import Question, System


class Direct(Network):
    """The frozen backbone at every node; by default one call, with the prompt that every single-node system gets."""

    def __init__(
        self,
        backbone: Backbone,
        limits: Limits,
        decoding: Decoding | None = None,
        topology: Topology | None = None,
        title: str = "direct",
        words: Words | None = None,
        environment: Environment | None = None,
    ) -> None:
        shape = topology or Topology.parse("single")
        bank = Network.create(shape, backbone, rank=1).adapters
        super().__init__(shape, backbone, bank, limits, decoding, f"{title} ({backbone.name})", words, environment)

    @property
    def trainable_parameters(self) -> int:
        return 0


class NetworkDialogue(Baseline):
    """An untrained network as a dialogue, for endpoints: a stage is a layer, a request says where its node stands."""

    title = "direct"

    def __init__(self, chat: Chat, topology: Topology, title: str = "direct") -> None:
        super().__init__(chat)
        self.topology, self._title = topology, title

    @property
    def name(self) -> str:
        return f"{self._title} ({self.chat.name})"

    def dialogue(self, question: Question) -> Dialogue:
        messages: dict[str, str] = {}
        for layer in self.topology.layers:
            replies = yield [self._request(node, messages) for node in layer]
            messages |= zip(layer, replies, strict=True)
        return messages[self.topology.output]

    def _request(self, node: str, messages: dict[str, str]) -> Request:
        position = self.topology.position(node)
        wording = self.chat.words.at(position, self.chat.limits.of(position.is_output))
        notes = tuple(zip(wording.labels, (messages[u] for u in position.upstream), strict=True))
        return Request(node, wording.ask, notes, answering=position.is_output, sees_question=position.sees_question)


def direct(chat: Chat) -> System:
    """One call to the bare backbone."""
    return _bare(chat, Topology.parse("single"), "direct")


def untrained(chat: Chat, topology: str | int | list[int] = "2") -> System:
    """A network of any shape before training; a lone width may be a number, as in an option of a command."""
    shape = Topology.parse(str(topology) if isinstance(topology, int) else topology)
    return _bare(chat, shape, f"untrained {shape.name}")


def _bare(chat: Chat, topology: Topology, title: str) -> System:
    if isinstance(chat, EndpointChat):
        return NetworkDialogue(chat, topology, title)
    return Direct(chat.backbone, chat.limits, chat.decoding, topology, title, chat.words, chat.environment)
