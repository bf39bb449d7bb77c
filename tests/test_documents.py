"""What README and docs say of names and places: links, anchors, settings, commands, pictures."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import pytest

from scripts.badges import badges
from wan25_mcp.cli.main import main as command
from wan25_mcp.settings import SETTINGS

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENTS: Final = {
    path: path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
README: Final = DOCUMENTS[ROOT / "README.md"]
README_LINES: Final = 250
PICTURE_BYTES: Final = 250_000
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<(https?://[^>]+)>")
MADE_UP_HOSTS: Final = {"example.com", "cdn.example.com", "127.0.0.1:8000"}


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]+`", "", text, flags=re.DOTALL)


def _links(path: Path) -> Iterator[str]:
    for found in LINK.finditer(_without_code(DOCUMENTS[path])):
        yield found[1] or found[2]


def _anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", DOCUMENTS[path], flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_project_lead_to_a_file_and_a_heading(path: Path) -> None:
    for link in _links(path):
        if urlsplit(link).scheme:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_other_hosts_are_whole_https_links(path: Path) -> None:
    for link in filter(lambda link: urlsplit(link).scheme, _links(path)):
        parts = urlsplit(link)
        assert parts.netloc in MADE_UP_HOSTS or (parts.scheme == "https" and "." in parts.netloc)
        assert not parts.username, link
        assert re.fullmatch(r"[\x21-\x7e]+", link), link


def test_docs_link_to_docs_only_so_that_the_site_is_complete() -> None:
    for path in (ROOT / "docs").glob("*.md"):
        assert not [link for link in _links(path) if link.startswith("..")], path.name


def test_every_page_has_its_place_in_the_sites_navigation() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    named = list(_pages(site["nav"]))
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def _pages(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else _pages(target)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    if path.name in ("CONTRIBUTING.md", "CHANGELOG.md"):  # the first has those of tests/live
        return
    named = set(re.findall(r"WAN25_[A-Z_]*[A-Z]", DOCUMENTS[path]))
    assert named <= {setting.name for setting in SETTINGS}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_shown_exists_with_its_options(path: Path) -> None:
    shown = re.findall(
        r"^(?:.*&& )?wan25-mcp ([^#\n|]+)|`wan25-mcp ([^`]+)`", DOCUMENTS[path], re.M
    )
    for words in ((line or span).split() for line, span in shown):
        assert _is_known(words), " ".join(["wan25-mcp", *words])


def _is_known(words: list[str]) -> bool:
    at: click.Command = command
    while isinstance(at, click.Group) and words and words[0] in at.commands:
        at, words = at.commands[words[0]], words[1:]
    if at is command:
        return words[0] in ("--version", "COMMAND", "--help")
    known = {flag for parameter in at.params for flag in parameter.opts} | {"--help", "-h"}
    return {word.strip("[],") for word in words if re.match(r"\[?-{1,2}[a-z]", word)} <= known


def test_the_readme_fits_on_a_few_pages() -> None:
    assert len(README.splitlines()) <= README_LINES


def test_the_badges_say_what_the_project_file_says() -> None:
    for path, badge in badges().items():
        assert path.read_text(encoding="utf-8") == badge, "run: python -m scripts.pictures"


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        name for text in DOCUMENTS.values() for name in re.findall(r"pictures/([\w.-]+)", text)
    }
    assert {path.name for path in (ROOT / "docs" / "pictures").iterdir()} <= shown


def test_the_readmes_pictures_are_small_files_that_name_no_machine() -> None:
    folder = ROOT / "docs" / "pictures"
    names = set(re.findall(r"docs/pictures/([\w.-]+)", README))
    assert sum((folder / name).stat().st_size for name in names) < PICTURE_BYTES
    terminal = (folder / "terminal.svg").read_text(encoding="utf-8")
    assert "/home/me/Pictures/wan25/" in terminal
    assert not re.search(r"/tmp/|/root/|/work/|https?://(?!127\.0\.0\.1|www\.w3\.org)", terminal)
    assert "EMULATOR" in terminal


def test_every_field_of_an_answer_is_documented() -> None:
    contract = ROOT / "tests" / "contracts" / "tools" / "get_task.json"
    schema = json.loads(contract.read_text(encoding="utf-8"))["outputSchema"]
    named = set(re.findall(r"`(\w+)`", DOCUMENTS[ROOT / "docs" / "tools.md"]))
    inner = [
        rule["description"].split(", ")
        for rule in schema["properties"].values()
        if "object" in rule.get("type", ())
    ]
    assert len(inner) == 2
    assert {*schema["properties"], *itertools.chain(*inner)} <= named
