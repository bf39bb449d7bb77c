"""How a local image may be spelt: every form to the path or the refusal that is documented."""

from __future__ import annotations

import base64
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.errors.codes import CODES
from wan25_mcp.inputs.read import is_link
from wan25_mcp.inputs.sources import MAX_DATA_BYTES, data_of, path_of


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("/pictures/cat.png", "/pictures/cat.png"),
        ("//pictures//cat.png", "/pictures/cat.png"),
        ("/pictures/./a/../cat.png", "/pictures/cat.png"),
        ("/../../cat.png", "/cat.png"),
        ("~/cat.png", "/home/ann/cat.png"),
        ("~", "/home/ann"),
        ("~/../ben/cat.png", "/home/ben/cat.png"),
        ("file:///pictures/cat.png", "/pictures/cat.png"),
        ("FILE://LocalHost/pictures/cat.png", "/pictures/cat.png"),
        ("file:/pictures/cat.png", "/pictures/cat.png"),
        ("file:///my%20pictures/K%C3%A4tzchen%3F.png", "/my pictures/Kätzchen?.png"),
        ("file:///pictures/100%.png", "/pictures/100%.png"),
        ("file:///a/%2e%2e/etc/passwd", "/etc/passwd"),
        ("/pictures/ cat.png", "/pictures/ cat.png"),
        ("/pictures/猫\n.png", "/pictures/猫\n.png"),
        ("/pictures/a:b.png", "/pictures/a:b.png"),
    ],
)
def test_a_path_is_read_as_posix_means_it(source: str, path: str) -> None:
    assert path_of(source, home="/home/ann", windows=False) == path


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("C:\\Pictures\\cat.png", "C:\\Pictures\\cat.png"),
        ("c:/Pictures/cat.png", "c:\\Pictures\\cat.png"),
        ("C:\\Pictures\\..\\cat.png", "C:\\cat.png"),
        ("~\\cat.png", "C:\\Users\\Ann\\cat.png"),
        ("~/cat.png", "C:\\Users\\Ann\\cat.png"),
        ("file:///C:/My%20Pictures/cat.png", "C:\\My Pictures\\cat.png"),
        ("file://localhost/C:/cat.png", "C:\\cat.png"),
    ],
)
def test_a_path_is_read_as_windows_means_it(source: str, path: str) -> None:
    assert path_of(source, home="C:\\Users\\Ann", windows=True) == path


RELATIVE = (
    "The image is neither a link nor an absolute path. Relative paths are not accepted: the "
    "server does not know your working directory."
)
ANOTHER_COMPUTER = "The file: URI names another computer; network shares are not read."
ELSEWHERE = CODES["image_on_another_machine"].sentence + "."
WINDOWS = f"The image is a Windows path, but this server does not run on Windows. {ELSEWHERE}"
SHARE = "The image is a network share or a device. Neither is read."
DEVICE = "The path names a device or a file stream."


@pytest.mark.parametrize(
    ("source", "windows", "code", "message"),
    [
        ("", False, "image_not_found", "The image is an empty string."),
        (" \n", False, "image_not_found", "The image is an empty string."),
        ("cat.png", False, "image_not_found", RELATIVE),
        ("./cat.png", False, "image_not_found", RELATIVE),
        ("~ann/cat.png", False, "image_not_found", RELATIVE),
        ("file:cat.png", False, "image_not_found", RELATIVE),
        ("file://", False, "image_not_found", "The image is an empty string."),
        ("file://nas/share/cat.png", False, "image_not_allowed", ANOTHER_COMPUTER),
        ("ftp://a.example/cat.png", False, "image_not_allowed",
         "Images cannot be read from that kind of address."),
        ("blob:https://a.example/1", False, "image_not_allowed",
         "Images cannot be read from that kind of address."),
        ("C:\\cat.png", False, "image_on_another_machine", WINDOWS),
        ("C:/cat.png", False, "image_on_another_machine", WINDOWS),
        ("\\\\nas\\cat.png", False, "image_on_another_machine", WINDOWS),
        ("file:///C:/cat.png", False, "image_on_another_machine", WINDOWS),
        ("sandbox:/mnt/data/cat.png", False, "image_on_another_machine", ELSEWHERE),
        ("/mnt/data/cat.png", True, "image_on_another_machine", ELSEWHERE),
        ("/a\0b", False, "image_not_found", "The image's path cannot exist on this system."),
        ("file:///a%00b", False, "image_not_found",
         "The image's path cannot exist on this system."),
        ("/" + 40_000 * "a", False, "image_not_found",
         "The image's path cannot exist on this system."),
        ("/\ud800", False, "image_not_found", "The image's path is not valid text."),
        ("\\\\nas\\share\\cat.png", True, "image_not_allowed", SHARE),
        ("//nas/share/cat.png", True, "image_not_allowed", SHARE),
        ("\\\\?\\C:\\cat.png", True, "image_not_allowed", SHARE),
        ("\\\\.\\PhysicalDrive0", True, "image_not_allowed", SHARE),
        ("file:////nas/share/cat.png", True, "image_not_allowed", SHARE),
        ("file://nas/share/cat.png", True, "image_not_allowed", ANOTHER_COMPUTER),
        ("C:\\a\\NUL", True, "image_not_allowed", DEVICE),
        ("C:\\con.png", True, "image_not_allowed", DEVICE),
        ("C:\\cat.png:hidden", True, "image_not_allowed", DEVICE),
        ("C:cat.png", True, "image_not_found", RELATIVE),
        ("\\cat.png", True, "image_not_found", RELATIVE),
        ("/cat.png", True, "image_not_found", RELATIVE),
    ],
)  # fmt: skip
def test_another_spelling_is_refused_with_the_reason(
    source: str, windows: bool, code: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        path_of(source, home="/home/ann", windows=windows)
    assert (refusal.value.code, refusal.value.message) == (code, message)
    assert refusal.value.fix.endswith("Nothing was sent or charged.")


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    ("source", "host"),
    [
        ("example.com/cat.png", "example.com"),
        ("www.example.com/cat.png?size=1", "www.example.com"),
        ("www.example.com", "www.example.com"),
        ("WWW.Example.com:8080/a/b", "WWW.Example.com:8080"),
        ("cdn-1.example.co.uk/cat.png", "cdn-1.example.co.uk"),
    ],
)
def test_a_link_without_its_scheme_is_recognised(source: str, host: str, windows: bool) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        path_of(source, windows=windows)
    assert refusal.value.code == "image_not_found"
    assert f"Did you mean https://{host}/" in refusal.value.fix


@pytest.mark.parametrize(
    "source", ["cat.png", "./a.b/cat.png", "../cat.png", "a/b.c/cat.png", "www"]
)
def test_a_relative_path_is_not_taken_for_a_link(source: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        path_of(source, windows=False)
    assert (refusal.value.message, "Did you mean" in refusal.value.fix) == (RELATIVE, False)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    ("content", "begins"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "data:image/jpeg;base64,"),
        (b"\x89PNG\r\n\x1a\n", "data:image/png;base64,"),
        (b"GIF89a", "data:image/gif;base64,"),
        (b"RIFF", "data:image/webp;base64,"),
        (b"something else", "data:image/png;base64,"),
    ],
)
def test_base64_alone_is_answered_with_how_a_data_uri_begins(
    content: bytes, begins: str, windows: bool
) -> None:
    source = base64.b64encode(content + bytes(range(256)) * 200).decode()
    with pytest.raises(InvalidRequest) as refusal:
        path_of(source, windows=windows)
    assert refusal.value.code == "image_unreadable"
    assert begins in refusal.value.fix
    assert source[:40] not in f"{refusal.value.message} {refusal.value.fix}"


def test_a_short_or_usual_path_is_not_taken_for_base64() -> None:
    for source in ("/9j/cat", "/" + "a/" * 600, "/home/ann/iVBORw0KGgo"):
        assert path_of(source, windows=False) == source.rstrip("/")


@given(st.text() | st.text("\\/:.~%fileCON0 \0é", max_size=30), st.booleans())
@example("file:", False)
@example("C:\\" + "\ud800", True)
def test_any_text_is_an_absolute_path_or_a_refusal(source: str, windows: bool) -> None:
    try:
        path = path_of(source, home="C:\\a" if windows else "/a", windows=windows)
    except InvalidRequest:
        return
    assert "\0" not in path
    assert ".." not in path.replace("\\", "/").split("/")
    assert path[1:3] == ":\\" if windows else path[:1] == "/" != path[1:2]


@pytest.mark.parametrize(
    "source", ["https://a.example/b.png", "HTTP://a.example", "https://", "hTtPs://[::1]"]
)
def test_http_links_are_the_providers_to_download(source: str) -> None:
    assert is_link(source)


@pytest.mark.parametrize(
    "source", ["http:/a", "file:///a", "/https://", "data:,a", "", "httpsx://"]
)
def test_nothing_else_is_a_link(source: str) -> None:
    assert not is_link(source)


# --- data: URIs -----------------------------------------------------------------------------

BYTES = bytes(range(256))


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64," + base64.b64encode(BYTES).decode(),
        "DATA:;base64," + base64.b64encode(BYTES).decode(),
        "data:image/png;name=a;BASE64," + base64.b64encode(BYTES).decode().rstrip("="),
        "data:image/png;base64," + base64.urlsafe_b64encode(BYTES).decode(),
        "data:image/png;base64," + base64.encodebytes(BYTES).decode(),
        "data:image/png;base64," + quote(base64.b64encode(BYTES).decode(), safe=""),
        "data:application/octet-stream," + quote(BYTES),
    ],
)
def test_a_data_uri_is_read_in_every_usual_form(uri: str) -> None:
    assert data_of(uri) == BYTES


NOT_BASE64 = "The content of the data: URI is not base64."
TOO_LONG = "The data: URI is larger than the limit of 20 MB."


@pytest.mark.parametrize(
    ("uri", "code", "message"),
    [
        ("data:", "image_unreadable", "The data: URI has no comma before its content."),
        ("data:image/png;base64", "image_unreadable",
         "The data: URI has no comma before its content."),
        ("data:" + 2000 * "a" + ",", "image_unreadable",
         "The data: URI has no comma before its content."),
        ("data:;base64,????", "image_unreadable", NOT_BASE64),
        ("data:;base64,A", "image_unreadable", NOT_BASE64),
        ("data:;base64,AA==AA", "image_unreadable", NOT_BASE64),
        ("data:;base64,é", "image_unreadable", NOT_BASE64),
        ("data:;base64," + (MAX_DATA_BYTES // 3 * 4 + 2000) * "A", "image_unusable", TOO_LONG),
        ("data:," + (MAX_DATA_BYTES + 2000) * "A", "image_unusable", TOO_LONG),
        ("data:," + (3 * MAX_DATA_BYTES + 2000) * "%", "image_unusable", TOO_LONG),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)  # fmt: skip
def test_a_data_uri_that_cannot_be_read_is_refused(uri: str, code: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        data_of(uri)
    assert (refusal.value.code, refusal.value.message) == (code, message)


@given(st.binary(max_size=200), st.booleans())
def test_a_data_uri_gives_back_what_was_put_in(content: bytes, as_base64: bool) -> None:
    body = base64.b64encode(content).decode() if as_base64 else quote(content)
    assert data_of(f"data:image/png{';base64' if as_base64 else ''},{body}") == content


@given(st.text())
def test_any_data_uri_is_bytes_or_a_refusal(rest: str) -> None:
    for start in ("data:", "data:,", "data:;base64,"):
        with suppress(InvalidRequest):
            assert isinstance(data_of(start + rest), bytes)
