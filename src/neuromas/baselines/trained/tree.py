"""MALT's search trees: the value of each output, and what SFT and DPO learn from them. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neuromas.types import Utterance

Pair = tuple[Utterance, Utterance]  # a good output and a bad one with the same parent


@dataclass(frozen=True)
class Node:
    """One output in a tree."""

    example: Utterance
    value: float  # mean of its children; of a leaf, its reward
    parent: int | None  # place in the level above

    @property
    def good(self) -> bool:
        """The label: worth more than one half."""
        return self.value > 0.5


def levels(examples: Sequence[Utterance], rewards: Sequence[float], branching: int) -> list[list[Node]]:
    """The tree's nodes with their values: generations, verifications, refinements.

    examples: in the order of the calls, level by level. rewards: of the leaves. The tree is regular, so the mean of a
    node's children is the mean of its leaves.
    """
    b = branching
    assert len(rewards) == b**3 and len(examples) == b + b**2 + b**3
    leaves = torch.tensor(rewards, dtype=torch.float64)
    out: list[list[Node]] = []
    start = 0
    for depth in (1, 2, 3):
        values = leaves.view(b**depth, -1).mean(1).tolist()
        nodes = [Node(examples[start + i], v, i // b if depth > 1 else None) for i, v in enumerate(values)]
        out.append(nodes)
        start += len(nodes)
    return out


def good_examples(nodes: Sequence[Node]) -> list[Utterance]:
    """The outputs that SFT imitates."""
    return [node.example for node in nodes if node.good]


def preference_pairs(nodes: Sequence[Node]) -> list[Pair]:
    """The pairs that DPO compares: every good node with every bad one of the same parent.

    Two nodes with the same words differ in their value by luck alone, so they make no pair (our choice).
    """
    return [
        (one.example, other.example)
        for one in nodes
        for other in nodes
        if one.parent == other.parent and one.good and not other.good
        if one.example.completion_ids != other.example.completion_ids
    ]
