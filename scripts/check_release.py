"""Checks that everything that states the version states the same one.

    python scripts/check_release.py [FILE...]               what is committed, and built files
    python scripts/check_release.py --tag v0.2.0 [FILE...]  also that it may be released as this tag

FILE is a wheel, a source archive or a bundle (.mcpb). A release needs a section of its own in
CHANGELOG.md, `## [0.2.0] - 2026-12-01`, with nothing left under "Unreleased".
"""

from __future__ import annotations

import argparse
import email
import json
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_SECTION: Final = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?$", re.M)


def problems(root: Path, tag: str | None, files: Sequence[Path] = ()) -> Iterator[str]:
    """What disagrees, a sentence each."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    server = json.loads((root / "server.json").read_text(encoding="utf-8"))
    stated = {"server.json": server["version"]}
    for package in server.get("packages", []):
        stated[f"server.json, the {package['registryType']} package"] = package["version"]
    stated |= {file.name: _version_in(file) for file in files}
    for where, other in stated.items():
        if other != version:
            yield f"{where} says {other}, pyproject.toml says {version}."
    if tag is not None:
        if tag != f"v{version}":
            yield f"The tag is {tag}, but pyproject.toml says {version}, so it must be v{version}."
        yield from _changelog((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)


def _changelog(text: str, version: str) -> Iterator[str]:
    sections = list(_SECTION.finditer(text))
    ends = [section.start() for section in sections[1:]] + [len(text)]
    bodies = {
        section["name"]: text[section.end() : end]
        for section, end in zip(sections, ends, strict=True)
    }
    dates = {section["name"]: section["date"] for section in sections}
    if re.search(r"^[-*] ", bodies.get("Unreleased", ""), re.M):
        yield f"CHANGELOG.md has lines under Unreleased: move them below ## [{version}] - DATE."
    if not dates.get(version):
        yield f"CHANGELOG.md has no section ## [{version}] with a date."
    elif not re.search(r"^[-*] ", bodies[version], re.M):
        yield f"CHANGELOG.md says nothing about {version}."


def _version_in(file: Path) -> str:
    if file.suffix == ".mcpb":
        with zipfile.ZipFile(file) as bundle:
            return str(json.loads(bundle.read("manifest.json"))["version"])
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            (name,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
            return _metadata_version(wheel.read(name))
    with tarfile.open(file) as archive:
        (name,) = (one for one in archive.getnames() if re.fullmatch(r"[^/]+/PKG-INFO", one))
        found = archive.extractfile(name)
        return _metadata_version(found.read() if found else b"")


def _metadata_version(metadata: bytes) -> str:
    return str(email.message_from_bytes(metadata)["Version"])


def run(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--tag", help="the tag of the release, such as v0.2.0")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    found = list(problems(root, given.tag, given.files))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
