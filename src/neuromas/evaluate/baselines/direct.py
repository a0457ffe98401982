"""Direct: the bare backbone, one call. The adapter is the untrained one (B = 0), which changes nothing."""

from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.topology import Topology


class Direct(Network):
    """One call to the frozen backbone, with the prompt that every single-node system gets."""

    def __init__(self, backbone: Backbone, limits: Limits) -> None:
        bare = Network.create("single", backbone, rank=1, limits=limits)
        super().__init__(Topology.parse("single"), backbone, bare.adapters, limits, name=f"direct ({backbone.name})")

    @property
    def trainable_parameters(self) -> int:
        return 0
