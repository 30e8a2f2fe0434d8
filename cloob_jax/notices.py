"""Notices of Google's cloud that this machine is about to be taken away.

Asked of the machine's metadata server, as its keys are described for Compute Engine
("Query metadata server for maintenance event notices", and "Preemptible VM instances"),
which hold for Cloud TPU VMs: `maintenance-event` says TERMINATE_ON_HOST_MAINTENANCE
about a minute before, `preempted` says TRUE when a spot machine has some 30 seconds
left.
"""

import http.client
import os
import threading
from collections.abc import Callable
from pathlib import Path

_PRODUCT = Path("/sys/class/dmi/id/product_name")
_PERIOD_SECONDS = 2.0
_TIMEOUT_SECONDS = 5.0
_FATAL = {
    "maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE",
    "preempted": "TRUE",
}


class Notices:
    """A thread that asks while entered, where there is such a server."""

    def __init__(self, tell: Callable[[str], None]):
        """Prepares to ask.

        Args:
          tell: is given the first notice, once, from the thread.
        """
        self._tell, self._host = tell, _host()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Notices":
        if self._host is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(_PERIOD_SECONDS):
            for key, fatal in _FATAL.items():
                if self._ask(key) == fatal:
                    self._tell(f"the cloud says {key} {fatal}")
                    return

    def _ask(self, key: str) -> str | None:
        """A key's value; None where nobody answers, as when the server restarts."""
        assert self._host is not None
        connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT_SECONDS)
        path, header = (
            f"/computeMetadata/v1/instance/{key}",
            {"Metadata-Flavor": "Google"},
        )
        try:
            connection.request("GET", path, headers=header)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace").strip()
            return text if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def _host() -> str | None:
    """Where the server is, by the name that Google's own libraries use."""
    if host := os.environ.get("GCE_METADATA_HOST"):
        return host
    try:
        product = _PRODUCT.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return "metadata.google.internal" if product.startswith("Google") else None
