"""Running an app until it is told to stop; then what was accepted is finished."""

import logging
import signal
import socket

import uvicorn
from fastapi import FastAPI

from neuromas.errors import ConfigError

log = logging.getLogger("neuromas.serve")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a port in use is a mistake with a remedy. port 0: any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port") from error
    bound.listen(1024)
    return bound


def run(app: FastAPI, bound: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C. Requests that were read are answered before this returns."""
    for name in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again when it is done; that ends nothing
        signal.signal(name, lambda *_: None)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=30)
    uvicorn.Server(config).run(sockets=[bound])
