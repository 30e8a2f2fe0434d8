"""A metadata server on loopback says what the cloud's would."""

import http.server
import threading
import time

import pytest

from cloob_jax import notices
from cloob_jax.interruption import Stop
from cloob_jax.notices import Notices


@pytest.fixture
def cloud(monkeypatch):
    """What the server says, by key; and whether it answers."""
    values = {"maintenance-event": "NONE", "preempted": "FALSE"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            root, _, key = self.path.rpartition("/")
            assert root == "/computeMetadata/v1/instance"
            assert self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if key in values else 503)
            self.end_headers()
            self.wfile.write(values.get(key, "TRUE").encode() + b"\n")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
        monkeypatch.setattr(notices, "_PERIOD_SECONDS", 0.01)
        yield values
        server.shutdown()


@pytest.mark.parametrize(
    ("key", "harmless", "fatal"),
    [
        ("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE", None),
        ("maintenance-event", "NONE", "TERMINATE_ON_HOST_MAINTENANCE"),
        ("preempted", "FALSE", "TRUE"),
    ],
)
def test_only_the_end_of_the_machine_is_told_and_once(cloud, key, harmless, fatal):
    told = []
    with Notices(told.append):
        cloud[key] = harmless
        time.sleep(0.3)
        assert told == []
        del cloud["preempted" if key != "preempted" else "maintenance-event"]
        time.sleep(0.1)  # an answer that is an error says nothing
        assert told == []
        if fatal is not None:
            cloud[key] = fatal
            deadline = time.monotonic() + 20
            while not told:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.1)
            assert told == [f"the cloud says {key} {fatal}"]


def test_a_notice_is_a_wish_to_stop(cloud):
    with Stop() as stop, Notices(lambda _: stop.request()):
        assert not stop.requested
        cloud["preempted"] = "TRUE"
        deadline = time.monotonic() + 20
        while not stop.requested:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_elsewhere_nobody_is_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    for text, host in (
        ("Google Compute Engine\n", "metadata.google.internal"),
        ("PC", None),
    ):
        (tmp_path / "name").write_text(text)
        monkeypatch.setattr(notices, "_PRODUCT", tmp_path / "name")
        assert notices._host() == host
    monkeypatch.setattr(notices, "_PRODUCT", tmp_path / "nowhere")
    with Notices(print) as asked:
        assert not asked._thread.is_alive()


def test_a_server_that_is_not_there_is_no_notice(monkeypatch):
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    assert Notices(print)._ask("preempted") is None
