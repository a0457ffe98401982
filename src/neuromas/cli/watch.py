"""`neuromas watch`: a run that is still training, in the browser."""

import os
from pathlib import Path
from typing import Annotated

import tyro


def main(
    run: Annotated[Path, tyro.conf.Positional],
    host: str = "127.0.0.1",
    port: int = 8001,
    api_key: str | None = None,
    browser: bool = True,
) -> None:
    """The page of a run: network, curves, samples, growth. It follows the run's files and loads no model.

    Args:
        run: A run folder; it may be one that has only just begun.
        host: Where to listen; other than a loopback address only with a key.
        port: 0 takes any that is free.
        api_key: What the page must send. Better in NEUROMAS_API_KEY, which others cannot see.
        browser: Open the page.
    """
    from neuromas.cli.serving import check_address, need_server, open_page, show_page

    need_server()
    key = api_key or os.environ.get("NEUROMAS_API_KEY") or None
    check_address(host, key)
    from neuromas.run.folder import saved_config
    from neuromas.serve.app import watch_app
    from neuromas.serve.record import Record
    from neuromas.serve.server import listen
    from neuromas.serve.server import run as serve

    saved_config(run)
    bound = listen(host, port)
    app = watch_app(Record(run.resolve().name, run), key=key, local=key is None)
    page = show_page(bound, run.resolve().name, key)
    if browser:
        open_page(page)
    serve(app, bound)
