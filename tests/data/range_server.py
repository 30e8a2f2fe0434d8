"""A store far away, on loopback: files over HTTP with ranges, a latency, and a log."""

import argparse
import collections
import contextlib
import http.server
import re
import threading
import time
from pathlib import Path


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
      log: `(name, start, end)` of each range that was asked for.
      fail: how many of the next requests are answered with an error.
      knows_ranges: whether a range is answered as one.
    """

    daemon_threads = True

    def __init__(self, folder, latency=0.0):
        """On a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.latency = Path(folder), latency
        self.log, self.fail, self.knows_ranges = [], 0, True
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def num_bytes(self):
        """Of all ranges that were asked for."""
        return sum(end - start for _, start, end in self.log)

    def times_read(self, name):
        """How often the most and the least read byte was asked for."""
        changes = collections.Counter()
        for file, start, end in self.log:
            if file == name:
                changes[start] += 1
                changes[end] -= 1
        level, levels = 0, []
        for place in sorted(changes):
            level += changes[place]
            levels.append(level)
        return max(levels, default=0)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_content=False)

    def do_GET(self):
        self._answer(with_content=True)

    def _answer(self, with_content):
        time.sleep(self.server.latency)
        path = self.server.folder / self.path.strip("/")
        if self.server.fail > 0 and with_content:
            self.server.fail -= 1
            self._send(503, b"")
        elif path.is_dir():
            names = sorted(entry.name for entry in path.iterdir())
            links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
            self._send(200, links.encode(), with_content, {"Content-Type": "text/html"})
        elif path.is_file():
            self._send_file(path, with_content)
        else:
            self._send(404, b"")

    def _send_file(self, path, with_content):
        size = path.stat().st_size
        headers = {"ETag": f'"{path.stat().st_mtime_ns}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not (asked and self.server.knows_ranges):
            content = path.read_bytes() if with_content else b""
            return self._send(200, content, with_content, headers, size)
        start, end = int(asked[1]), min(int(asked[2] or size) + 1, size)
        if with_content:
            self.server.log.append((path.name, start, end))
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(end - start)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._send(206, content, with_content, headers, end - start)

    def _send(self, status, content, with_content=True, headers=None, size=None):
        self.send_response(status)
        length = len(content) if size is None else size
        for name, value in {**(headers or {}), "Content-Length": length}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Nothing on the terminal."""


@contextlib.contextmanager
def serving(folder, latency=0.0):
    """A server that runs in a thread."""
    server = Server(folder, latency)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    given = parser.parse_args()
    server = Server(given.folder, given.latency)
    print(server.url, flush=True)
    server.serve_forever()
