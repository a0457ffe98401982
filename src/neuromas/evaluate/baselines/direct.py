"""Direct: the bare backbone, one call. The adapter is the untrained one (B = 0), which changes nothing."""

from neuromas.evaluate.baselines.chat import Chat
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology


class Direct(Network):
    """One call to the frozen backbone, with the prompt that every single-node system gets."""

    def __init__(self, backbone: Backbone, limits: Limits, decoding: Decoding | None = None) -> None:
        bank = Network.create("single", backbone, rank=1).adapters
        name = f"direct ({backbone.name})"
        super().__init__(Topology.parse("single"), backbone, bank, limits, decoding, name)

    @property
    def trainable_parameters(self) -> int:
        return 0


def direct(chat: Chat) -> Direct:
    """The baseline as `load_baseline` makes it."""
    return Direct(chat.backbone, chat.limits, chat.decoding)
