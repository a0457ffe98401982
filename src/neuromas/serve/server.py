"""Runs an app until the process is told to stop; what was accepted by then is finished."""

import signal
import socket
import threading
import webbrowser

from fastapi import FastAPI

from neuromas.errors import ConfigError
from neuromas.markup import say
from neuromas.serve.config import ListenConfig, ServeConfig
from neuromas.serve.connections import BoundedServer


def listen(config: ListenConfig) -> socket.socket:
    """A listening socket. Raises ConfigError if the address is in use."""
    host, port = config.host, config.port
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port") from error
    bound.listen(1024)
    return bound


def announce(bound: socket.socket, text: str, config: ListenConfig) -> None:
    """Print `text`, in which {0} stands for the server's URL, once the server can be reached."""
    lock = "a key is needed" if config.key else "no key is needed"
    say(f"{text.format(_url(bound))}; {lock}. Ctrl-C ends it.")


def open_page(bound: socket.socket) -> None:
    """Show the page in a browser, if there is one; late enough that the server answers."""
    threading.Timer(0.5, webbrowser.open, (_url(bound) + "/",)).start()


def run(app: FastAPI, bound: socket.socket, config: ListenConfig) -> None:
    """Serve until SIGTERM or Ctrl-C. Requests that were read are answered before this returns."""
    seconds = config.seconds if isinstance(config, ServeConfig) else 0.0
    server = BoundedServer(app, config.connections, seconds)
    for name in (signal.SIGTERM, signal.SIGINT):  # told before uvicorn listens to them, and again when it is done
        signal.signal(name, lambda *_: setattr(server, "should_exit", True))
    server.run(sockets=[bound])


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
