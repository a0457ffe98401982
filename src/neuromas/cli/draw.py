"""`neuromas draw`: a topology as text, Mermaid, or a picture."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from neuromas.markup import say


def main(
    topology: Annotated[str, tyro.conf.Positional],
    format: Literal["text", "mermaid"] = "text",
    out: Path | None = None,
) -> None:
    """Draw a topology.

    Args:
        topology: Hidden widths such as 2-2, 2-2@first, 1-1+skip or 8-4/2, a paper name such as NeuroMAS-5, or a file.
        format: What to print.
        out: Write a picture here instead of printing: .svg, .png, .pdf, .mmd (Mermaid) or .txt.
    """
    from neuromas.network.drawing import save, to_mermaid, to_text
    from neuromas.network.topology import Topology

    network = Topology.parse(topology)
    if out is not None:
        say(f"wrote {save(network, out)}")
        return
    if format == "mermaid":
        say(to_mermaid(network))
        return
    say(to_text(network))
    say(f"{network.name}: {network.calls} calls a question, {len(network.layers)} one after the other")
