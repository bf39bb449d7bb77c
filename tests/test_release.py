"""The check before a release: whatever states the version states the same one."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from scripts.check_release import ROOT, problems, run

CHANGELOG: Final = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Added

- Something new.

## [0.1.0] - 2026-11-01

- The beginning.
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that may be released as v0.2.0."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "0.2.0"\n')
    package = {"registryType": "pypi", "version": "0.2.0"}
    (tmp_path / "server.json").write_text(json.dumps({"version": "0.2.0", "packages": [package]}))
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def built(folder: Path, version: str) -> list[Path]:
    """A wheel, a source archive and a bundle, as far as they state the version."""
    metadata = f"Metadata-Version: 2.4\nName: p\nVersion: {version}\n\nText\n".encode()
    wheel, source, bundle = (folder / name for name in ("p.whl", "p.tar.gz", "p.mcpb"))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"p-{version}.dist-info/METADATA", metadata)
    with tarfile.open(source, "w:gz") as archive:
        entry = tarfile.TarInfo(f"p-{version}/PKG-INFO")
        entry.size = len(metadata)
        archive.addfile(entry, io.BytesIO(metadata))
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("manifest.json", json.dumps({"version": version}))
    return [wheel, source, bundle]


def test_what_is_committed_here_agrees() -> None:
    assert not list(problems(ROOT, None))


def test_a_release_whose_parts_agree_passes(project: Path) -> None:
    files = [str(file) for file in built(project, "0.2.0")]
    assert run(["--tag", "v0.2.0", *files], project) == 0


@pytest.mark.parametrize("tag", ["0.2.0", "v0.2.1", "v0.2.0rc1"])
def test_another_tag_is_refused(project: Path, tag: str) -> None:
    (problem,) = problems(project, tag)
    assert tag in problem


def test_a_registry_entry_of_another_version_is_refused(project: Path) -> None:
    (project / "server.json").write_text(json.dumps({"version": "0.1.0", "packages": []}))
    (problem,) = problems(project, None)
    assert "server.json" in problem


def test_built_files_of_another_version_are_each_named(project: Path) -> None:
    files = built(project, "0.1.9")
    found = list(problems(project, None, files))
    assert [problem.split()[0] for problem in found] == [file.name for file in files]


@pytest.mark.parametrize(
    "changelog",
    [
        CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n- Not moved yet.\n"),
        CHANGELOG.replace("## [0.2.0] - 2026-12-01", "## [0.2.0]"),
        CHANGELOG.replace("0.2.0", "0.3.0"),
        CHANGELOG.replace("- Something new.", ""),
    ],
    ids=["unreleased lines", "no date", "no section", "empty section"],
)
def test_a_changelog_that_is_not_ready_is_refused(project: Path, changelog: str) -> None:
    (project / "CHANGELOG.md").write_text(changelog)
    assert run(["--tag", "v0.2.0"], project) == 1
    assert run([], project) == 0
