"""A chat host of others, installed with `wan25-mcp install`: its own listing shows the server.

    with_host.py CLIENT COMMAND...        COMMAND lists the host's servers

Before, a key is kept (`wan25-mcp key set`) for the played provider, which is a provider to all of
them, and no emulator. Claude Code then edits a photo from the disk, with a played model: saved, and
charged once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import model
from provider import Provider, picture

PHOTO_PROMPT = "Put a red hat on the person"
MOVING = (
    "XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "OPENCODE_CONFIG",
    "OPENCODE_CONFIG_DIR",
)  # fmt: skip
PRICE = 1.5
KEY = "sk-played-0123456789"
KINDS = (".json", ".jsonc", ".toml", ".yaml")
LIST_SECONDS, EDIT_SECONDS = 40, 80
TRIES = 3
"""Hosts give a server a few seconds to start, and machines are busy."""

TROUBLE = ("Failed", "✗", "Disconnected", "Disabled", "invalid")
FAILED: list[str] = []


def main(client: str, listing: Sequence[str]) -> int:
    """Returns how many checks failed."""
    home = Path(os.environ["HOME"]) / client
    home.mkdir()
    environ = {**os.environ, "HOME": str(home), "WAN25_INPUT_DIRS": str(home)}
    environ["WAN25_BASE_URL"] = environ.pop("WAN25_EMULATOR")
    for name in MOVING:  # this user's own configuration is not touched
        environ.pop(name, None)
    environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    kept = wan25(environ, "key", "set", piped=KEY)
    step(f"{client}: a key is tried and kept", kept.returncode == 0, kept)
    installed = wan25(environ, "install", client, "--force")
    step(f"{client}: install ends well", installed.returncode == 0, installed)
    written = "".join(
        path.read_text()
        for path in home.rglob("*")
        if path.suffix in KINDS and path.name != "key.json"
    )
    step(f"{client}: its files have no key", KEY not in written and "wan25" in written, installed)
    for _ in range(TRIES):
        shown = run(environ, *listing)
        is_well = shown.returncode == 0 and not any(word in told(shown) for word in TROUBLE)
        if is_well:
            break
    step(f"{client}: its own listing shows the server", "wan25" in told(shown), shown)
    step(f"{client}: its own listing has no complaint", is_well, shown)
    if client == "claude-code":
        edit(environ, listing[0], home)
    removed = wan25(environ, "uninstall", client)
    step(f"{client}: uninstall ends well", removed.returncode == 0, removed)
    shown = run(environ, *listing)
    step(f"{client}: its own listing shows it no more", "wan25" not in told(shown), shown)
    return len(FAILED)


def edit(environ: dict[str, str], claude: str, home: Path) -> None:
    """A person has a photo from the disk edited."""
    provider = Provider(os.environ["WAN25_EMULATOR"])
    photo = home / "holiday photo.png"
    photo.write_bytes(picture())
    with model.played(str(photo), PHOTO_PROMPT) as played:
        asked = environ | {
            "ANTHROPIC_BASE_URL": played.url,
            "ANTHROPIC_API_KEY": "played",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "ENABLE_TOOL_SEARCH": "false",  # all tools are listed, as by hosts without a search
        }
        tools = "mcp__wan25__edit_image,mcp__wan25__wait_for_task"
        line = (claude, "-p", f"Edit {photo}", "--allowedTools", tools, "--output-format", "json")
        said = run(asked, *line, seconds=EDIT_SECONDS)
    step("claude-code: the edit is completed", "completed" in "".join(played.shown[-1:]), said)
    state = provider.state()
    sent = [one["task_id"] for one in state["submits"] if PHOTO_PROMPT in json.dumps(one["body"])]
    charges = [e["charged"] for e in state["ledger"]["entries"] if e["task_id"] in sent]
    step(
        "claude-code: the photo is sent and charged once",
        (len(sent), charges) == (1, [PRICE]),
        said,
    )
    saved = list(Path(os.environ["WAN25_OUTPUT_DIR"]).glob("*red-hat-on-the*"))
    is_picture = bool(saved) and saved[0].read_bytes().startswith(b"\x89PNG")
    step("claude-code: the result is on the disk", is_picture and len(saved) == 1, said)


def wan25(
    environ: dict[str, str], *arguments: str, piped: str = ""
) -> subprocess.CompletedProcess[str]:
    return run(environ, sys.executable, "-m", "wan25_mcp", *arguments, piped=piped)


def run(
    environ: dict[str, str], *line: str, seconds: float = LIST_SECONDS, piped: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, env=environ, cwd=environ["HOME"], capture_output=True, text=True, timeout=seconds,
        input=piped, check=False,
    )  # fmt: skip


def told(ran: subprocess.CompletedProcess[str]) -> str:
    return ran.stdout + ran.stderr


def step(what: str, is_so: bool, ran: subprocess.CompletedProcess[str]) -> None:
    sys.stdout.write(f"{'ok  ' if is_so else 'FAIL'}  {what}\n")
    if not is_so:
        FAILED.append(what)
        sys.stdout.write(f"       {ran.stdout[-1500:]}\n       {ran.stderr[-1500:]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
