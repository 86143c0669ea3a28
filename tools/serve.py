"""Serve a folder on this machine: `python tools/serve.py _build/html`."""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Handler(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".woff2": "font/woff2"}

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A reader who leaves before a page is complete is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(folder, port=0):
    """A server of `folder` on 127.0.0.1, on `port` or, where that is taken, on any free one."""
    handler = partial(Handler, directory=folder)
    try:
        return Server(("127.0.0.1", port), handler)
    except OSError:
        return Server(("127.0.0.1", 0), handler)


if __name__ == "__main__":
    with make_server(sys.argv[1], 8000) as server:
        print(f"The book is at http://127.0.0.1:{server.server_port}/   (Ctrl-C stops)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
