"""Which links certainly lead to no image that a model takes, as their text alone shows.

Without this the provider downloads the page or the file and fails, which takes a while, and may
cost. Nothing is fetched here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

_NOT_TAKEN: Final = (
    "gif", "svg", "svgz", "pdf", "heic", "heif", "avif", "tif", "tiff", "ico", "psd",
    "mp4", "mov", "webm", "zip",
)  # fmt: skip
_TAKEN: Final = re.compile(r"jpe?g|png|webp|bmp", re.IGNORECASE)
"""In the query of a link, such as `?format=jpg`: the server converts the file."""


@dataclass(frozen=True, slots=True)
class _Viewer:
    """A site whose links lead to a page around a picture.

    Args:
        host: Its host; hosts below it count too.
        path: What the paths of such pages begin with.
        instead: What to give instead. `{id}` is the group of that name in `path`.
    """

    name: str
    host: str
    path: str
    instead: str


_OPEN_IT: Final = "open the picture there and give the picture's own link"
_VIEWERS: Final = (
    _Viewer("Wikipedia", "wikipedia.org", "/(wiki|w)/", f"{_OPEN_IT} (upload.wikimedia.org)"),
    _Viewer("Wikimedia", "wikimedia.org", "/(wiki|w)/", f"{_OPEN_IT} (upload.wikimedia.org)"),
    _Viewer(
        "Google Drive",
        "drive.google.com",
        r"/file/d/(?P<id>[\w-]+)",
        "if anyone with the link may see it, give "
        "https://drive.google.com/uc?export=download&id={id}",
    ),
    _Viewer("Google Drive", "drive.google.com", "/(open|drive|folderview)", _OPEN_IT),
    _Viewer("Google Docs", "docs.google.com", "/", "download the picture and give that file"),
    _Viewer("Google Photos", "photos.google.com", "/", "download the picture and give that file"),
    _Viewer("Google Photos", "photos.app.goo.gl", "/", "download the picture and give that file"),
    _Viewer("Instagram", "instagram.com", "/(p|reel)/", "download the picture and give that file"),
    _Viewer("Pinterest", "pinterest.com", "/pin/", f"{_OPEN_IT} (i.pinimg.com)"),
    _Viewer("Flickr", "flickr.com", "/photos/", f"{_OPEN_IT} (live.staticflickr.com)"),
    _Viewer("Unsplash", "unsplash.com", "/photos/[^/]+/?$", f"{_OPEN_IT} (images.unsplash.com)"),
    _Viewer("Imgur", "imgur.com", r"/(a|gallery)/", f"{_OPEN_IT} (i.imgur.com)"),
    _Viewer("GitHub", "github.com", "/[^/]+/[^/]+/blob/", "give the link of its button Raw"),
)


def why_no_image(link: str) -> str | None:
    """Why a link leads to no image, and what to give instead: completes "image_urls[0] …". None if
    it may lead to one."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    host, path = (parts.hostname or "").lower().rstrip("."), parts.path
    for viewer in _VIEWERS:
        if host == viewer.host or host.endswith(f".{viewer.host}"):
            found = re.match(viewer.path, path)
            if found and not _is_raw(host, parts.query):
                instead = viewer.instead.format_map(found.groupdict())
                return f"is a page of {viewer.name}, not an image: {instead}"
    ending = path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path else ""
    if ending in _NOT_TAKEN and not _TAKEN.search(parts.query):
        return (
            f"is a .{ending} file, which the model does not take: give a link to a JPEG, PNG or "
            "WebP, or download it and give the path of that file, converted to one of them"
        )
    return None


def _is_raw(host: str, query: str) -> bool:
    """Whether the query asks GitHub for the file itself."""
    return host == "github.com" and parse_qs(query).get("raw") in (["1"], ["true"])
