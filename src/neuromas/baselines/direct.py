"""A network without training, and its smallest case: one call to the bare backbone.

Adapters are the untrained ones (B = 0), which change nothing. Behind an endpoint the same calls are a dialogue.
"""

from neuromas.baselines.chat import Baseline, Chat, Dialogue, Request
from neuromas.baselines.endpoint import EndpointChat
from neuromas.network.forward import Network
from neuromas.network.topology import Topology
from neuromas.types import Question, System


class Direct(Network):
    """The frozen backbone at every node, with the prompts that every network gets."""

    @property
    def trainable_parameters(self) -> int:
        return 0


class NetworkDialogue(Baseline):
    """An untrained network as a dialogue, for endpoints: a stage is a layer, a request says where its node stands."""

    title = "direct"

    def __init__(self, chat: Chat, topology: Topology, name: str) -> None:
        super().__init__(chat)
        self.topology, self.name = topology, name

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
    name = f"{title} ({chat.name})"
    if isinstance(chat, EndpointChat):
        return NetworkDialogue(chat, topology, name)
    return Direct.create(
        topology,
        chat.backbone,
        rank=1,
        limits=chat.limits,
        decoding=chat.decoding,
        name=name,
        words=chat.words,
        environment=chat.environment,
    )
