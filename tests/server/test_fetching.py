"""Images by their address: from allowed hosts, and from nowhere else."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest

from regionclip.server.fetching import fetch
from regionclip.server.problems import RequestError
from regionclip.server.settings import ServiceSettings
from tests.file_server import file_server


def fetched(url: str, *hosts: str, max_bytes: int = 100) -> bytes:
    return fetch(url, hosts=hosts, max_bytes=max_bytes, timeout_seconds=5.0)


def test_a_file_of_an_allowed_host_arrives_as_it_is() -> None:
    with file_server("a.png", b"content") as server:
        assert fetched(server.url, urlsplit(server.url).netloc) == b"content"


@pytest.mark.parametrize(
    ("url", "hosts", "sentence"),
    [
        ("http://a.test/x.png", (), "fetches nothing"),
        ("http://b.test/x.png", ("a.test",), "not fetched from b.test"),
        ("http://a.test:81/x.png", ("a.test",), "not fetched from a.test:81"),
        ("http://a.test@b.test/x.png", ("a.test",), "must be http"),
        ("http://a.test.b.test/x.png", ("a.test",), "not fetched from a.test.b.test"),
        ("file://a.test/x.png", ("a.test",), "must be http"),
        ("ftp://a.test/x.png", ("a.test",), "must be http"),
        ("http://a.test:port/x.png", ("a.test",), "is no URL"),
        ("//a.test/x.png", ("a.test",), "must be http"),
        ("http://[a.test/x.png", ("a.test",), "is no URL"),
        ("http://[::1]:1/x.png", ("[::1]",), "not fetched from"),
        ("http://[::1]:1/x.png", ("[::1]:1",), "out of reach"),
    ],
)
def test_no_other_host_is_asked(url: str, hosts: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as error:
        fetched(url, *hosts)
    assert error.value.status_code == 400


@pytest.mark.parametrize("host", ["a.test", "A.test:81", "bücher.example", "127.0.0.1", "[::1]:80"])
def test_hosts_that_addresses_can_name_are_allowed(host: str) -> None:
    assert ServiceSettings(url_hosts=(host,)).url_hosts == (host,)


@pytest.mark.parametrize(
    "host",
    [
        *("https://a.test", "*.a.test", "a.test/images", "a.test:", "a.test:port", "u@a.test"),
        *("::1", "a.test b.test", ""),
    ],
)
def test_what_no_address_can_name_is_no_host(host: str) -> None:
    with pytest.raises(ValueError, match=r"nothing can be fetched from .* allow hosts as 'example"):
        ServiceSettings(url_hosts=("b.test", host))


def test_an_answer_that_is_too_long_or_missing_is_refused() -> None:
    with file_server("a.png", b"x" * 101) as server:
        host = urlsplit(server.url).netloc
        with pytest.raises(RequestError, match="more than 100 bytes"):
            fetched(server.url, host)
        assert len(fetched(server.url, host, max_bytes=101)) == 101
        with pytest.raises(RequestError, match="answered with '404"):
            fetched(server.url.replace("a.png", "b.png"), host)
    with pytest.raises(RequestError, match="out of reach"):
        fetched(server.url, host)


def test_an_allowed_host_cannot_send_us_to_another() -> None:
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        with pytest.raises(RequestError, match="answered with '302"):
            fetched(f"http://{host}/a.png", host)
        server.shutdown()
    assert asked == ["/a.png"]
