"""The work of an item as plain data, which any environment can read, whatever is installed there.

Legend: N node, P question, G rollout.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NodeWork:
    """One node's turn in every rollout: it reads `prefix_ids[p] + own_ids[p * G + g]` and writes `tokens` tokens."""

    id: str
    layer: int  # 1-based; a node runs after all nodes of earlier layers
    tokens: int  # sampled in every rollout, neither fewer nor more
    prefix_ids: list[list[int]]  # [P]: the part of the prompt that all rollouts of a question share
    own_ids: list[list[int]]  # [P * G]: messages of earlier layers and what follows them; empty in the first layer


@dataclass(frozen=True)
class Work:
    """One rollout of all nodes and one joint update of their adapters."""

    name: str
    model: str  # folder with a Hugging Face model
    backbone: str  # its name in this project
    dtype: str
    topology: str  # of the network; "layer" when the nodes stand side by side and nobody reads them
    rollouts: int  # G
    rank: int
    targets: list[str]  # linear layers with adapters
    spec: dict[str, Any]  # the `workloads.Spec` that it was made from
    nodes: list[NodeWork] = field(default_factory=list[NodeWork])

    @property
    def questions(self) -> int:
        return len(self.nodes[0].prefix_ids)

    @property
    def rows(self) -> int:
        """Sequences sampled and trained: nodes × questions × rollouts."""
        return len(self.nodes) * self.questions * self.rollouts

    @property
    def prompt_tokens(self) -> int:
        """Unique prompt tokens: a prefix counts once for all rollouts that share it."""
        return sum(len(ids) for node in self.nodes for ids in [*node.prefix_ids, *node.own_ids])

    @property
    def sampled_tokens(self) -> int:
        return sum(node.tokens for node in self.nodes) * self.questions * self.rollouts

    def prompts(self, node: NodeWork) -> list[list[int]]:
        """The whole prompt of each rollout, question-major [P * G]."""
        return [node.prefix_ids[row // self.rollouts] + ids for row, ids in enumerate(node.own_ids)]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Work":
        data = json.loads(path.read_text(encoding="utf-8"))
        fields: dict[str, Any] = {**data, "nodes": [NodeWork(**node) for node in data["nodes"]]}
        return cls(**fields)
