"""An image gets an address: from the provider's file service, or from the user's own bucket."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from tests.inputs.corpus import picture, quarters, saved
from tests.stage import KEY, T0, virtual
from wan25_mcp.errors import NotPublished, SettingsError, Wan25Error
from wan25_mcp.inputs.bucket import Bucket
from wan25_mcp.inputs.conform import Conformed, conform
from wan25_mcp.inputs.file_service import FileService
from wan25_mcp.inputs.publisher import (
    Published,
    Publisher,
    published_name,
)
from wan25_mcp.provider.exchange import USER_AGENT

IMAGE: Final = conform(picture(saved(quarters(), "JPEG")))
NAME: Final = "passport of Jane.jpg"
HASHED: Final = hashlib.sha256(IMAGE.content).hexdigest()[:40] + ".jpg"
FREE: Final = "Nothing was charged."


def words(error: Wan25Error) -> tuple[str, str, bool]:
    assert error.charged == "no"
    assert error.fix.endswith(FREE)
    assert KEY not in f"{error.message} {error.fix}"
    return error.code, error.message, error.retryable


def test_without_a_place_the_answer_names_both_settings_and_the_public_link() -> None:
    error = SettingsError(code="no_image_host")
    assert (error.code, error.charged) == ("no_image_host", "no")
    for said in ("WAN25_FILES_URL", "WAN25_BUCKET_URL", "public https:// link"):
        assert said in error.fix


# --- the file service -----------------------------------------------------------------------

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Virtual time; a test with sockets asks for its own."""
    return virtual(request.param) if request.param in ("asyncio", "trio") else request.param[:-5]


real_time = pytest.mark.parametrize("anyio_backend", ["asyncio-real"], indirect=True)
both_real = pytest.mark.parametrize("anyio_backend", ["asyncio-real", "trio-real"], indirect=True)


@asynccontextmanager
async def service(
    answer: Callable[[httpx2.Request], httpx2.Response] | None = None,
    *,
    key: str = KEY,
    **switches: Any,
) -> Any:
    """The file service over an emulator in memory, or over answers of a test's own."""
    began = anyio.current_time()

    def clock() -> float:
        return T0 + anyio.current_time() - began

    emulator = Emulator(clock=clock, **switches)
    transport = httpx2.MockTransport(answer) if answer else emulator.transport()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(emulator.running())
        http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport))
        files = FileService(http, url=emulator.files_url + "/", key=SecretStr(key), clock=clock)
        yield files, emulator


@pytest.mark.usefixtures("no_blocking")
async def test_an_image_is_uploaded_and_its_link_is_valid_for_three_days() -> None:
    async with service() as (files, emulator):
        published = await files.publish(IMAGE, NAME)
        file_id = next(iter(emulator.files._files))
        assert published == Published(
            f"http://emulator.test/files/{file_id}/{HASHED}", T0 + 72 * 3600 - 3600
        )
        assert emulator.files.find(file_id).content == IMAGE.content
        publisher: Publisher = files
        assert publisher.place == "file service http://emulator.test"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
async def test_every_image_that_conforms_can_be_uploaded(kind: str) -> None:
    async with service() as (files, emulator):
        await files.publish(conform(picture(saved(quarters(), kind))), NAME)
        assert len(emulator.files) == 1


async def test_the_product_names_itself_and_sends_its_key_to_the_service_only() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if request.url.host == "emulator.test":
            return httpx2.Response(307, headers={"location": "https://elsewhere.example/"})
        return httpx2.Response(200)

    async with service(answer) as (files, _):
        with pytest.raises(NotPublished) as refusal:
            await files.publish(IMAGE, NAME)
    assert words(refusal.value) == (
        "upload_unreadable",
        f'The file service did not accept the image "{NAME}" (HTTP 307).',
        False,
    )
    assert [str(request.url) for request in seen] == [
        "http://emulator.test/api/v1/files/upload/stream"
    ]
    assert seen[0].headers["user-agent"] == USER_AGENT
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert NAME.encode() not in seen[0].read()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "refuse"},
        {"kind": "drop_before"},
        {"kind": "drop_after"},
        {"kind": "truncate"},
        {"kind": "status", "code": 429, "retry_after": 3},
        {"kind": "status", "code": 503},
        {"kind": "html", "code": 502},
    ],
    ids=lambda fault: fault["kind"] + str(fault.get("code", "")),
)
async def test_what_fails_for_no_fault_of_ours_is_sent_again_twice(fault: dict[str, Any]) -> None:
    async with service() as (files, emulator):
        emulator.fault(endpoint="upload", times=2, **fault)
        began = anyio.current_time()
        published = await files.publish(IMAGE, NAME)
        assert published.url.startswith("http://emulator.test/files/")
        waited = round(anyio.current_time() - began, 3)
        assert waited == (6.0 if "retry_after" in fault else 2.5)


@pytest.mark.parametrize(
    ("fault", "code", "message", "sent"),
    [
        ({"kind": "refuse"}, "upload_failed",
         "was not uploaded: the file service could not be reached, or closed the connection.", 3),
        ({"kind": "html", "code": 502}, "upload_failed", "(HTTP 502).", 3),
        ({"kind": "status", "code": 429, "retry_after": 60}, "upload_failed", "(HTTP 429).", 1),
    ],
    ids=["refuse", "html", "long wait"],
)  # fmt: skip
async def test_what_goes_on_failing_is_said_and_may_be_tried_later(
    fault: dict[str, Any], code: str, message: str, sent: int
) -> None:
    async with service() as (files, emulator):
        emulator.fault(endpoint="upload", times=3, **fault)
        with pytest.raises(NotPublished) as refusal:
            await files.publish(IMAGE, NAME)
        found, said, retryable = words(refusal.value)
        assert (found, retryable) == (code, True)
        assert said.startswith(("The image", "The file service did not accept the image"))
        assert said.endswith(message)
        assert refusal.value.retry_after_seconds == (60.0 if sent == 1 else None)
        assert 3 - sum(line.left or 0 for line in emulator.faults._lines) == sent


async def test_an_upload_that_drips_for_ever_ends() -> None:
    async with service() as (files, emulator):
        emulator.fault(endpoint="upload", kind="delay", seconds=10_000, times=3)
        with pytest.raises(NotPublished) as refusal:
            await files.publish(IMAGE, NAME)
        assert refusal.value.message.endswith("the file service took too long.")


def body(success: bool = True, code: int = 200, msg: str = "", **described: Any) -> dict[str, Any]:
    return {"success": success, "code": code, "msg": msg, "data": described}


@pytest.mark.parametrize(
    ("status", "content", "code", "message", "requests"),
    [
        (200, body(False, 401, "Invalid key."), "authentication", " (HTTP 401): Invalid key.", 1),
        (401, body(False, 401, "Invalid key"), "authentication", " (HTTP 401): Invalid key.", 1),
        (200, body(False, 400, "Unsupported  file\ntype"), "upload_refused",
         " (HTTP 400): Unsupported file type.", 1),
        (413, body(False, 413, "File too large"), "upload_refused",
         " (HTTP 413): File too large.", 1),
        (200, body(False, 500, "Oops"), "upload_failed", " (HTTP 500): Oops.", 3),
        (404, {"detail": "Not Found"}, "upload_refused", " (HTTP 404).", 1),
        (200, {"success": False}, "upload_unreadable", " (HTTP 200).", 1),
        (200, {}, "upload_unreadable", " (HTTP 200).", 1),
        (200, [1], "upload_unreadable", " (HTTP 200).", 1),
        (200, body(msg="x" * 500) | {"success": "yes"}, "upload_unreadable",
         f" (HTTP 200): {200 * 'x'}.", 1),
    ],
)  # fmt: skip
async def test_a_refusal_is_reported_in_the_services_words_whatever_its_status(
    status: int, content: Any, code: str, message: str, requests: int
) -> None:
    seen = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal seen
        seen += 1
        return httpx2.Response(status, json=content, headers={"x-request-id": "r1"})

    async with service(answer) as (files, _):
        with pytest.raises(NotPublished) as refusal:
            await files.publish(IMAGE, NAME)
    said = f'The file service did not accept the image "{NAME}"{message}'
    assert words(refusal.value) == (code, said, code == "upload_failed")
    assert refusal.value.request_id == "r1"
    assert seen == requests


async def test_a_wrong_key_is_refused_by_the_emulator_too() -> None:
    async with service(key="wrong") as (files, _):
        with pytest.raises(NotPublished) as refusal:
            await files.publish(IMAGE, NAME)
        assert words(refusal.value)[0] == "authentication"


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (None, "is not an absolute URL with a host"),
        (7, "is not an absolute URL with a host"),
        ("/files/1", "is not an absolute URL with a host"),
        ("file:///etc/passwd", "is not an absolute URL with a host"),
        ("javascript://a.example/%0aalert(1)", "must start with http:// or https://"),
        ("http://127.0.0.1/1", "points to an internal or reserved address"),
        ("http://emulator.test:8080@10.0.0.1/", "carries a user name or password"),
        ("https://a.example/" + 9000 * "a", "is not an absolute URL with a host"),
    ],
)
async def test_a_link_that_nobody_could_download_from_is_not_handed_on(link: Any, why: str) -> None:
    answer = partial(httpx2.Response, 200, json=body(file_url=link))
    async with service(lambda request: answer()) as (files, _):
        with pytest.raises(NotPublished) as refusal:
            await files.publish(IMAGE, NAME)
    code, message, retryable = words(refusal.value)
    assert (code, retryable) == ("upload_unreadable", False)
    assert f"but its link {why}" in message


DAYS_3: Final = T0 + 72 * 3600


@pytest.mark.parametrize(
    ("said", "dies"),
    [
        ("2027-01-15T09:00:00+00:00", T0 + 3600),
        ("2027-01-15T09:00:00Z", T0 + 3600),
        ("2027-01-15T17:00:00+08:00", T0 + 3600),
        ("2027-01-15 09:00:00", T0 + 3600),
        (T0 + 3600, T0 + 3600),
        ((T0 + 3600) * 1000, T0 + 3600),
        ("2030-01-01T00:00:00Z", DAYS_3),
        ("2020-01-01T00:00:00Z", 1577836800),
        (None, DAYS_3),
        ("soon", DAYS_3),
        (True, DAYS_3),
        pytest.param(10**400, DAYS_3, id="too large a number"),
        ({}, DAYS_3),
        ("0001-01-01T00:00:00+14:00", -62135647200),
    ],
)
async def test_a_link_is_valid_as_long_as_is_said_and_never_longer_than_documented(
    said: Any, dies: float
) -> None:
    answer = partial(
        httpx2.Response, 200, json=body(file_url="https://a.example/1", expires_at=said)
    )
    async with service(lambda request: answer()) as (files, _):
        published = await files.publish(IMAGE, NAME)
    assert published == Published("https://a.example/1", dies - 3600)


@pytest.mark.parametrize("content", [b"", b"<html>", b"{" * 200_000, b"[" * 90_000, b"\xff"])
async def test_an_answer_nobody_can_read_is_an_error_of_ours(content: bytes) -> None:
    async with service(lambda request: httpx2.Response(200, content=content)) as (files, _):
        with pytest.raises(NotPublished):
            await files.publish(IMAGE, NAME)


@pytest.mark.parametrize("url", ["http://a b", "ftp://a.example", "http://[", "http://\u2603" * 40])
async def test_an_address_that_cannot_be_used_is_an_error_of_ours(url: str) -> None:
    async with httpx2.AsyncClient() as http:
        files = FileService(http, url=url, key=SecretStr(KEY), clock=time.time)
        with pytest.raises(NotPublished):
            await files.publish(IMAGE, NAME)


@real_time
async def test_over_real_sockets_the_link_gives_back_the_image() -> None:
    async with Emulator().serving() as emulator, httpx2.AsyncClient() as http:
        files = FileService(http, url=emulator.files_url, key=SecretStr(KEY), clock=time.time)
        published = await files.publish(IMAGE, NAME)
        fetched = await http.get(published.url)
        assert fetched.content == IMAGE.content
        assert fetched.headers["content-type"] == "image/jpeg"


# --- buckets --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A real S3 protocol server on loopback, with one bucket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while True:
            try:
                assert httpx2.put(f"{url}/pictures").status_code == 200
                break
            except httpx2.TransportError:
                assert time.monotonic() < until, "the S3 server did not start"
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def credentials(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    return s3


@both_real
async def test_a_bucket_gives_a_signed_link_of_a_day(credentials: str) -> None:
    bucket = Bucket("s3://pictures/some/prefix/", clock=lambda: T0)
    published = await bucket.publish(IMAGE, NAME)
    assert published.expires_at == T0 + 23 * 3600
    parts = urlsplit(published.url)
    assert parts.path == f"/pictures/some/prefix/{HASHED}"
    query = parse_qs(parts.query)
    assert query["X-Amz-Expires"] == ["86400"]
    assert query["X-Amz-Signature"]
    assert "a-secret" not in published.url
    async with httpx2.AsyncClient() as http:
        fetched = await http.get(published.url)
    assert fetched.content == IMAGE.content
    assert fetched.headers["content-type"] == "image/jpeg"
    publisher: Publisher = bucket
    assert publisher.place == "bucket s3://pictures/some/prefix"


@real_time
@pytest.mark.usefixtures("no_blocking")
async def test_the_same_image_is_the_same_object_and_the_event_loop_goes_on(
    credentials: str,
) -> None:
    bucket = Bucket("s3://pictures/same", clock=lambda: T0)
    for _ in range(3):
        await bucket.publish(IMAGE, NAME)
    async with httpx2.AsyncClient() as http:
        listed = (await http.get(f"{credentials}/pictures?list-type=2&prefix=same/")).text
    assert re.findall("<Key>(.*?)</Key>", listed) == [f"same/{HASHED}"]


@real_time
async def test_a_bucket_that_does_not_exist_is_said_so(credentials: str) -> None:
    with pytest.raises(NotPublished) as refusal:
        await Bucket("s3://absent", clock=lambda: T0).publish(IMAGE, NAME)
    assert words(refusal.value) == (
        "upload_refused",
        f'The image "{NAME}" was not uploaded to the bucket: there is no such bucket.',
        False,
    )


class _Clerk(BaseHTTPRequestHandler):
    """Answers every request with one status."""

    status = 403

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.send_header("etag", '"1"')
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called
        pass


@pytest.fixture
def clerk() -> Iterator[Callable[[int], str]]:
    servers: list[ThreadingHTTPServer] = []

    def start(status: int) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Clerk", (_Clerk,), {"status": status}))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@real_time
@pytest.mark.parametrize(
    ("status", "why", "retryable"),
    [
        (403, "the credentials may not write there", False),
        (401, "the credentials are not accepted", False),
        (500, "it could not be reached, or its credentials are not set", True),
    ],
)
async def test_a_bucket_that_refuses_is_reported_without_the_clouds_own_words(
    status: int,
    why: str,
    retryable: bool,
    credentials: str,
    clerk: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", clerk(status))
    with pytest.raises(NotPublished) as refusal:
        await Bucket("s3://pictures", clock=lambda: T0).publish(IMAGE, NAME)
    code, message, may_retry = words(refusal.value)
    assert (message, may_retry) == (
        f'The image "{NAME}" was not uploaded to the bucket: {why}.',
        retryable,
    )
    assert code == ("upload_failed" if retryable else "upload_refused")
    assert "an-id" not in message


@real_time
async def test_azure_signs_links_too(
    clerk: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = clerk(201)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    published = await Bucket("az://pictures/prefix", clock=lambda: T0).publish(IMAGE, NAME)
    parts = urlsplit(published.url)
    assert parts.path.endswith(f"/prefix/{HASHED}")
    assert parse_qs(parts.query)["sig"]


@real_time
async def test_without_the_extra_the_answer_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(NotPublished) as refusal:
        await Bucket("s3://pictures", clock=lambda: T0).publish(IMAGE, NAME)
    assert words(refusal.value)[0] == "missing_extra"
    assert "[buckets]" in refusal.value.fix


@pytest.mark.parametrize(
    "url",
    ["", "pictures", "https://a.example", "file:///a", "memory:///", "s3://", "s3:///prefix",
     "s3://id:secret@pictures", "s3://pictures?region=x", "s3://pictures#x", "s3://[", "s3://a\n"],
)  # fmt: skip
def test_what_is_no_buckets_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Bucket(url, clock=lambda: T0)
    assert "secret" not in refusal.value.message + refusal.value.fix


def test_what_is_published_is_named_by_its_content_only() -> None:
    other = Conformed(b"other", "image/png", ".png", 400, 400, ())
    assert published_name(IMAGE) == HASHED
    assert published_name(other).endswith(".png")
