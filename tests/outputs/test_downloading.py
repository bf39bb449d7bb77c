"""Downloads against a server that plays the whole internet: only whole images come back."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

import anyio
import anyio.abc
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator_lab import Emulator
from tests.outputs.internet import PNG, PUBLIC, Answer, Stream, answer, moved, picture, world
from tests.stage import virtual
from wan25_mcp.outputs.download import NotDownloaded, download, extension_of, open_downloads
from wan25_mcp.provider.exchange import USER_AGENT
from wan25_mcp.url_safety import is_public

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: these connections are real."""
    return str(request.param)


# --- what comes back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "ending"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("BMP", ".bmp")]
)
async def test_an_image_comes_back_byte_for_byte(kind: str, ending: str) -> None:
    body = picture(kind)
    async with world(answer(body)) as internet:
        assert await internet.get("http://cdn.example/") == body
    assert extension_of(body) == ending
    assert internet.dialled == [PUBLIC]


async def test_a_download_names_the_product_and_carries_no_key_and_no_cookie() -> None:
    redirect = moved("/b", "302 Found").replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n")
    async with world({"/": redirect, "/b": answer()}) as internet:
        await internet.get("http://cdn.example/")
    for head in internet.heard:
        lines = dict(line.lower().split(": ", 1) for line in head.strip().split("\r\n")[1:])
        assert lines == {
            "host": "cdn.example",
            "user-agent": USER_AGENT,
            "accept": "image/*",
            "accept-encoding": "identity",
            "connection": "keep-alive",
        }


@pytest.mark.parametrize(
    ("body", "named", "retryable"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page", True),
        (b"\n <p>ok</p><html>", "a web page", True),
        (b"<?xml version='1.0'?><Error/>", "an error message", True),
        (b'{"error": "later"}', "an error message", True),
        (b"", "an empty body", True),
        (b"GIF89a" + bytes(50), "a GIF, AVIF, HEIC or video", False),
        (b"\0\0\0\x1cftypavif" + bytes(50), "a GIF, AVIF, HEIC or video", False),
        (b"BMW is a car, not a bitmap" + bytes(99), "data of an unknown format", False),
        (b"\x7fELF" + bytes(99), "data of an unknown format", False),
    ],
)
async def test_what_is_no_image_is_named(body: bytes, named: str, retryable: bool) -> None:
    async with world(answer(body, "Content-Type: image/png")) as internet:
        error = await internet.fails()
    assert error.message == f"The link returned {named}, not an image."
    assert error.retryable is retryable


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("left", [0.3, 0.999])
async def test_an_image_without_its_end_is_incomplete(kind: str, left: float) -> None:
    body = picture(kind)
    async with world(answer(body[: int(len(body) * left)])) as internet:
        error = await internet.fails()
    assert error.message == "The image arrived incomplete: its end is missing."
    assert error.retryable


def _chunked(body: bytes, end: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n" + end


@pytest.mark.parametrize(
    "said",
    [
        answer(length=len(PNG) + 1),
        answer(PNG[:100], length=len(PNG)),
        answer(length=len(PNG) - 1),
        _chunked(PNG, b""),
        _chunked(PNG, b"zz\r\n"),
        b"HTTP/1.1 200 OK\r\n\r\n" + PNG[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"HTTP/1.1 200",
        b"",
        b"SSH-2.0-OpenSSH_9\r\n",
    ],
)
async def test_a_body_that_breaks_off_or_lies_about_its_length_may_be_tried_again(
    said: bytes,
) -> None:
    async with world(said) as internet:
        assert (await internet.fails()).retryable


async def test_a_chunked_body_and_one_that_ends_with_the_connection_are_read_whole() -> None:
    plain = b"HTTP/1.1 200 OK\r\n\r\n" + PNG
    async with world({"/a": _chunked(PNG, b"0\r\n\r\n"), "/b": plain}) as internet:
        assert await internet.get("http://cdn.example/a") == PNG
        assert await internet.get("http://cdn.example/b") == PNG


async def test_a_body_that_dies_halfway_may_be_tried_again() -> None:
    async def die(stream: Stream) -> None:
        await stream.send(answer(PNG[:500], length=len(PNG)))
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: a reset, not a close

    async with world(die) as internet:
        assert (await internet.fails()).retryable


@pytest.mark.parametrize("length", [2001, 10**15, None])
async def test_a_huge_body_is_refused_without_being_read(length: int | None) -> None:
    sent = 0

    async def pour(stream: Stream) -> None:
        nonlocal sent
        said = f"Content-Length: {length}" if length else "Connection: close"
        await stream.send(f"HTTP/1.1 200 OK\r\n{said}\r\n\r\n".encode())
        for _ in range(2000):
            await stream.send(bytes(65536))
            sent += 65536

    async with world(pour) as internet:
        error = await internet.fails(max_bytes=2000)
    assert error.message.endswith("larger than any result of this model.")
    assert not error.retryable
    assert sent < 50_000_000


async def test_what_is_compressed_is_never_unpacked() -> None:
    async with world(answer(b"\x1f\x8b" + bytes(99), "Content-Encoding: gzip")) as internet:
        error = await internet.fails()
    assert (error.message.endswith("not requested."), error.retryable) == (True, False)


@pytest.mark.parametrize("at", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", answer()[:500]])
async def test_a_server_that_falls_silent_is_given_up(at: bytes) -> None:
    async def stall(stream: Stream) -> None:
        await stream.send(at)
        await anyio.sleep_forever()

    async with world(stall) as internet:
        error = await internet.fails(read=0.1)
    assert error.message == "The image could not be downloaded: it took too long to answer."
    assert error.retryable


async def test_a_drip_ends_in_time() -> None:
    async def drip(stream: Stream) -> None:
        await stream.send(answer(b"", length=len(PNG)))
        for byte in PNG:
            await stream.send(bytes([byte]))
            await anyio.sleep(0.02)

    async with world(drip) as internet:
        error = await internet.fails(read=1, seconds=0.3)
    assert (error.message, error.retryable) == ("Downloading the image took too long.", True)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (403, "link_gone", False),
        (404, "link_gone", False),
        (410, "link_gone", False),
        (401, "not_downloaded", False),
        (418, "not_downloaded", False),
        (204, "not_downloaded", False),
        (302, "not_downloaded", False),
        (408, "not_downloaded", True),
        (429, "not_downloaded", True),
        (500, "not_downloaded", True),
        (503, "not_downloaded", True),
    ],
)
async def test_each_status_says_whether_to_try_again(
    status: int, code: str, retryable: bool
) -> None:
    body = b"" if status == 204 else PNG
    async with world(answer(body, "Retry-After: 7", status=f"{status} So")) as internet:
        error = await internet.fails()
    assert (error.code, error.retryable) == (code, retryable)
    assert error.retry_after_seconds == (None if code == "link_gone" else 7)
    assert str(status) in error.message


async def test_a_cdn_that_refuses_library_names_gives_us_the_image() -> None:
    emulator = Emulator(check_images=False, run_seconds=0.0)
    async with (
        emulator.running(),
        open_downloads(emulator.transport()) as http,
        httpx2.AsyncClient(transport=emulator.transport(), base_url=emulator.base_url) as api,
    ):
        asked = {"model": "wan2.5-image-to-image", "prompt": "p", "n": 1}
        key = {"authorization": "Bearer emulator-key"}
        links = {"image_urls": ["https://example.com/a.png"]}
        task = await api.post("v1/images/generations", json=asked | links, headers=key)
        await anyio.sleep(0.05)
        found = await api.get(f"v1/tasks/{task.json()['id']}", headers=key)
        (link,) = found.json()["results"]
        trusted = {"http://emulator.test:80"}
        assert extension_of(await download(link, http=http, trusted=trusted)) == ".png"
        assert emulator.leaked_keys == []
        assert (await api.get(link, headers={"user-agent": "python-httpx2/2"})).status_code == 403


# --- whom we speak to -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.1:{port}/secret",
        "http://127.0.0.1/secret",
        "http://127.0.0.1:1/secret",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:{port}/secret",
        "http://[::ffff:127.0.0.1]:{port}/secret",
        "http://localhost:{port}/secret",
        "http://localhost.:{port}/secret",
        "http://0x7f000001:{port}/secret",
        "http://2130706433:{port}/secret",
        "http://127.1:{port}/secret",
        "http://0:{port}/secret",
        "http://inside.example:{port}/secret",
        "//10.0.0.1/secret",
        "http://user:word@cdn.example/secret",
        "http:\\\\127.0.0.1:{port}/secret",
        "http://cdn.example\\@127.0.0.1:{port}/secret",
        "http://cdn.example#@127.0.0.1:{port}/secret",
        "ftp://cdn.example/secret",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://[zz]/",
        "http://a.example:99999/",
        "http://" + "a" * 300 + ".example/",
    ],
)
async def test_a_redirect_inward_is_not_followed(to: str) -> None:
    known = {"inside.example": [["127.0.0.1"]]}
    async with world({"/": b"", "/secret": answer()}, names=known) as internet:
        internet.answers["/"] = moved(to.format(port=internet.port))
        if to.startswith("http://cdn.example#"):  # a fragment: it leads to the public root again
            internet.answers["/"] = moved("http://127.0.0.1/#@cdn.example")
        await internet.fails()
    assert internet.paths == ["/"]
    assert internet.dialled == [PUBLIC]


async def test_the_trusted_origin_is_reached_wherever_it_is() -> None:
    routes: dict[str, Answer] = {"/": moved("/b"), "/b": answer()}
    async with world(routes) as internet:
        assert await internet.get(internet.here + "/", trusted={internet.here}) == PNG
        other = {f"http://127.0.0.1:{internet.port + 1}"}
        await internet.fails(internet.here + "/", trusted=other)
        await internet.fails(internet.here + "/", trusted={internet.here.replace("http", "https")})
        await internet.fails(f"http://localhost:{internet.port}/", trusted={internet.here})
    assert internet.paths == ["/", "/b"]


async def test_trust_ends_where_a_redirect_leaves_the_origin() -> None:
    async with world({"/secret": answer(), "/open": answer()}) as internet:
        second = f"http://localhost:{internet.port}"
        trusted = {internet.here, second}
        internet.answers |= {
            "/to-other-trusted": moved(f"{second}/secret"),
            "/to-internal": moved("http://10.0.0.1/secret"),
            "/to-trusted": moved(f"{internet.here}/secret"),
            "/to-public": moved("http://cdn.example/open"),
            "/away": moved("http://cdn.example/to-trusted"),
        }
        await internet.fails(f"{internet.here}/to-other-trusted", trusted=trusted)
        await internet.fails(f"{internet.here}/to-internal", trusted=trusted)
        await internet.fails("http://cdn.example/to-trusted", trusted=trusted)
        await internet.fails(f"{internet.here}/away", trusted=trusted)
        assert await internet.get(f"{internet.here}/to-public", trusted=trusted) == PNG
    assert "/secret" not in internet.paths


async def test_redirects_have_an_end() -> None:
    steps: dict[str, Answer] = {f"/{n}": moved(f"/{n + 1}") for n in range(5)}
    async with world({"/": moved("/"), **steps, "/5": answer()}) as internet:
        assert await internet.get("http://a.example/1") == PNG  # four redirects
        error = await internet.fails("http://a.example/0")  # five
        assert not error.retryable
        internet.heard.clear()
        await internet.fails("http://a.example/")
    assert len(internet.heard) == 5


# --- without a network ------------------------------------------------------------------------


def told(reply: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.AsyncClient:
    return open_downloads(httpx2.MockTransport(reply))


async def test_https_does_not_lead_to_http() -> None:
    def reply(request: httpx2.Request) -> httpx2.Response:
        to = {"location": "http://cdn.example/"}
        return httpx2.Response(302, headers=to) if request.url.scheme == "https" else _fine()

    async with told(reply) as http:
        with pytest.raises(NotDownloaded, match="from https to http"):
            await download("https://cdn.example/", http=http)
        assert await download("http://cdn.example/", http=http) == PNG


@pytest.mark.parametrize("length", [len(PNG) - 1, len(PNG) + 1])
async def test_the_length_is_checked_whatever_carries_the_body(length: int) -> None:
    said = {"content-length": str(length)}
    body = httpx2.ByteStream(PNG)
    async with told(lambda _: httpx2.Response(200, headers=said, stream=body)) as http:
        with pytest.raises(NotDownloaded, match="its end is missing"):
            await download("https://cdn.example/", http=http)


def _fine() -> httpx2.Response:
    return httpx2.Response(200, stream=httpx2.ByteStream(PNG))


@pytest.mark.parametrize("anyio_backend", [virtual("asyncio"), virtual("trio")], indirect=False)
async def test_an_in_memory_server_that_never_answers_ends_in_two_minutes() -> None:
    async def never(request: httpx2.Request) -> httpx2.Response:
        await anyio.sleep_forever()
        raise AssertionError

    began = anyio.current_time()
    async with open_downloads(httpx2.MockTransport(never)) as http:
        with pytest.raises(NotDownloaded, match="too long"):
            await download("https://cdn.example/", http=http)
    assert anyio.current_time() - began == pytest.approx(120)


WORDS: Final = st.one_of(
    st.text(max_size=60),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    "http:",
                    "https:",
                    "//",
                    "/",
                    "\\",
                    "@",
                    ":",
                    "#",
                    "?",
                    "[",
                    "]",
                    "::1",
                    "127.1",
                    "localhost",
                    "cdn.example",
                    "%31",
                    "\t",
                    "\x00",
                    "８",
                    "。",
                    "..",
                    "ß",
                    "0x7f.1",
                ]
            ),
            max_size=8,
        ),
    ),
)


@given(first=WORDS, then=WORDS)
@settings(max_examples=150)
def test_whatever_a_link_or_a_redirect_says_only_public_hosts_are_asked(
    first: str, then: str
) -> None:
    asked: list[httpx2.URL] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url)
        location = then.encode("utf-8", "surrogatepass")
        return httpx2.Response(302, headers=[(b"location", location)])

    async def both() -> None:
        async with told(reply) as http:
            for link in (first, "https://cdn.example/"):
                with pytest.raises(NotDownloaded):
                    await download(link, http=http)

    anyio.run(both)
    for url in asked:
        host = url.host
        assert host == "cdn.example" or not {"localhost", "127.1", "::1"} & {host}, url
        try:
            address = ip_address(host)
        except ValueError:
            assert "." in host
        else:
            assert is_public(address)
