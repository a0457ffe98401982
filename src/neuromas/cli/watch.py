"""`neuromas watch`: a run that is still training, in the browser."""

from pathlib import Path
from typing import Annotated

import tyro

from neuromas.serve.config import WatchConfig, require_packages


def main(run: Annotated[Path, tyro.conf.Positional], config: Annotated[WatchConfig, tyro.conf.arg(name="")]) -> None:
    """The page of a run: network, curves, samples, growth. It follows the run's files and loads no model.

    Args:
        run: A run folder; it may be one that has only just begun.
        config: Options of the server.
    """
    require_packages()
    from neuromas.run.folder import saved_config
    from neuromas.serve.app import watch_app
    from neuromas.serve.record import Record
    from neuromas.serve.server import announce, listen, open_page
    from neuromas.serve.server import run as serve

    saved_config(run)
    name = run.resolve().name
    bound = listen(config)
    announce(bound, f"{name}: {{0}}/ (page)", config)
    if config.browser:
        open_page(bound)
    serve(watch_app(Record(name, run), config), bound, config)
