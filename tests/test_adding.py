"""What it takes to add a setting or a model, shown by doing it in a copy of the sources."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.stage import environment

ROOT: Final = Path(__file__).resolve().parent.parent
COPIED: Final = (
    "wan25_mcp", "scripts", "docs", "README.md", "pyproject.toml", "server.json", "tests/contracts",
    "tests/test_architecture.py",
)  # fmt: skip
SETTING: Final = """    greeting_count: int = setting(
        "WAN25_GREETING_COUNT", "Greetings to say.", parse.count, 3
    )
"""
CONSUMER: Final = '''"""A consumer."""

import os

from wan25_mcp.settings import Settings

print("Hello! " * Settings.from_mapping(os.environ).greeting_count)
'''
MODEL: Final = """    Model(
        name="small-edit",
        max_prompt_characters=100,
        max_images_in=1,
        max_images_out=2,
        min_side=256,
        max_side=512,
        max_bytes=1_000_000,
        formats=("JPEG", "BMP"),
        takes_transparency=False,
        typical_seconds=(5, 10),
        estimated_seconds=6.0,
        link_life_seconds=3600,
        credits_per_image=0.5,
    ),
"""
INSERTED: Final = (
    ("wan25_mcp/settings.py", "    log_level: LogLevel = setting(", SETTING),
    ("wan25_mcp/provider/catalogue.py", "]\n\n\n@dataclass", ', "small-edit"'),
    ("wan25_mcp/provider/catalogue.py", ")\n\nMODELS: Final", MODEL),
)
"""Into which file, before what, and what."""

PREPARE: Final = '''"""What becomes of a picture, and of requests, for each model."""

import io
import json

import anyio
import PIL.Image

from wan25_mcp.editing.arguments import EditArguments
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.editing import arguments
from wan25_mcp.inputs.conform import conform
from wan25_mcp.inputs.read import Picture
from wan25_mcp.provider.catalogue import MODELS

content = io.BytesIO()
PIL.Image.new("RGB", (1000, 800), "teal").save(content, "PNG")
picture = Picture.of(content.getvalue(), "teal.png")


def asked(**given):
    links = ["https://a.example/1.png"]
    try:
        return arguments.read(EditArguments, {"image_urls": links, **given}).model
    except InvalidRequest as error:
        return error.message


small = {"model": "small-edit"}
print(json.dumps({
    "sizes": [
        [made.mime_type, made.width, made.height]
        for made in (conform(picture, model) for model in MODELS.values())
    ],
    "fits": [asked(prompt="p" * 100, **small), asked(prompt="p" * 101)],
    "prompt": asked(prompt="p" * 101, **small),
    "n": asked(prompt="p", n=3, **small),
    "images": asked(prompt="p", image_urls=["https://a.example/1.png"] * 2, **small),
}))
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with one more setting and one more model."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        (root / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    for name, before, what in INSERTED:
        source = (root / name).read_text(encoding="utf-8")
        assert source.count(before) == 1
        (root / name).write_text(source.replace(before, what + before), encoding="utf-8")
    (root / "greet.py").write_text(CONSUMER, encoding="utf-8")
    (root / "prepare.py").write_text(PREPARE, encoding="utf-8")
    ran(root, "scripts/generate.py")
    return root


def ran(root: Path, *command: str, **values: str) -> subprocess.CompletedProcess[str]:
    """A command run over the copy."""
    environ = environment(PYTHONPATH=str(root), WAN25_DATA_DIR=str(root / "data"), **values)
    return subprocess.run(
        [sys.executable, *command], cwd=root, env=environ, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


# --- a setting -------------------------------------------------------------------------------


def test_its_consumer_reads_it_or_its_default(copy: Path) -> None:
    assert ran(copy, "greet.py").stdout == "Hello! Hello! Hello! \n"
    assert ran(copy, "greet.py", WAN25_GREETING_COUNT="1").stdout == "Hello! \n"


def test_a_wrong_value_is_reported_by_its_name_and_with_its_default(copy: Path) -> None:
    refused = ran(copy, "-m", "wan25_mcp", "doctor", WAN25_GREETING_COUNT="many")
    assert refused.returncode != 0
    assert "WAN25_GREETING_COUNT is not a whole number" in refused.stdout + refused.stderr
    assert "default 3" in refused.stdout + refused.stderr


def test_it_is_documented_by_the_generator(copy: Path) -> None:
    listed = (copy / "docs" / "settings.md").read_text(encoding="utf-8")
    assert "| `WAN25_GREETING_COUNT` | Greetings to say. | `3` |" in listed
    package, _ = json.loads((copy / "server.json").read_text(encoding="utf-8"))["packages"]
    assert {
        "name": "WAN25_GREETING_COUNT",
        "description": "Greetings to say.",
        "isRequired": False,
        "isSecret": False,
        "format": "number",
        "default": "3",
    } in package["environmentVariables"]
    assert ran(copy, "scripts/generate.py", "--check").returncode == 0


def test_it_is_no_unknown_setting_and_a_misspelt_one_leads_to_it(copy: Path) -> None:
    known = ran(copy, "-m", "wan25_mcp", "doctor", WAN25_EMULATOR="1", WAN25_GREETING_COUNT="2")
    assert "WAN25_GREETING" not in known.stdout + known.stderr
    values = {"WAN25_EMULATOR": "1", "WAN25_GREETING_CONUT": "2"}
    misspelt = ran(copy, "-m", "wan25_mcp", "doctor", **values)
    assert "Unknown setting WAN25_GREETING_CONUT" in misspelt.stdout + misspelt.stderr
    assert "WAN25_GREETING_COUNT" in misspelt.stdout + misspelt.stderr


# --- a model ---------------------------------------------------------------------------------


def test_images_and_requests_are_held_to_the_limits_of_the_model_they_are_for(copy: Path) -> None:
    ended = ran(copy, "prepare.py")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["sizes"] == [["image/png", 1000, 800], ["image/jpeg", 512, 410]]
    assert told["fits"] == ["small-edit", "wan2.5-image-to-image"]
    for name, most in (("prompt", "100"), ("n", "2"), ("images", "1")):
        assert f"the limit of small-edit is {most}" in told[name]


def test_the_schema_of_the_tool_offers_it(copy: Path) -> None:
    contract = copy / "tests" / "contracts" / "tools" / "edit_image.json"
    rules = json.loads(contract.read_text(encoding="utf-8"))["inputSchema"]["properties"]
    assert set(rules["model"]["anyOf"][0]["enum"]) == {"small-edit", "wan2.5-image-to-image"}
    assert rules["model"]["description"] == "Default wan2.5-image-to-image."
    assert "2000 characters" in rules["prompt"]["description"]
    assert rules["n"]["anyOf"][0]["maximum"] == 4
