from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tasks.prefect_api import prefect_check


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_): ...


@pytest.fixture
def api():
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def prefect(url):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        return prefect_check()


def test_a_prefect_api_that_answers_passes(api):
    check = prefect(api)
    assert (check.status, check.measured.startswith(f"{api} answers in ")) == ("passed", True)


def test_one_that_does_not_fails(api):
    for url in ("http://127.0.0.1:9/api", api + "/elsewhere"):
        check = prefect(url)
        assert (check.status, "unset PREFECT_API_URL" in check.advice) == ("failed", True)


def test_none_is_needed():
    assert prefect(None).status == "passed"
