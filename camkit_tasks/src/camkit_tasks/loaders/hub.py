"""Keeps the libraries that download weights from trying for a minute where there is no network."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit


def reachable() -> bool:
    """Whether the name of the server that weights come from can be resolved.

    Behind a proxy the name need not be known here; then the answer is yes.
    """
    if urllib.request.getproxies():
        return True
    try:
        from huggingface_hub import constants
    except ImportError:
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def cached_only(when: bool) -> Iterator[None]:
    """Files from the cache only, inside the block, for libraries that cannot be told otherwise."""
    if not when:
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
