"""The page over HTTP, to browsers on this machine alone."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from steprule.errors import StepruleError

__all__ = ["Server"]

_HOST = "127.0.0.1"


class Server:
    """Serves one page on the loopback address.

    Args:
        text: the page.
        port: where; 0 for any that is free.

    Raises:
        StepruleError: when the port is taken or not allowed.
    """

    def __init__(self, text: str, port: int) -> None:
        handler = type("_Page", (_Handler,), {"body": text.encode(errors="backslashreplace")})
        try:
            self._server = ThreadingHTTPServer((_HOST, port), handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "there is no such port"
            raise StepruleError(f"cannot serve on port {port}: {reason}. Choose another: --port 0 takes any") from None
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{_HOST}:{self._server.server_address[1]}/"

    def run(self) -> None:
        """Serve until ``close`` is called from another thread, or Ctrl-C."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop, and give the port back."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        # A name that leads here from elsewhere (DNS rebinding) is not ours.
        host = self.headers.get("Host", "").partition(":")[0]
        if host not in (_HOST, "localhost"):
            self.send_error(421, "This page is for 127.0.0.1 alone")
            return
        if self.path.partition("?")[0] not in ("/", "/index.html"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal shows the address."""
