"""Edits of 60 s and of 150 s in clients that nobody here wrote: does the link reach the model?

The clients have their default settings, and a scripted stand-in for their model.

    python tests/foreign/waiting/run.py [CLIENT…]

Takes about 5 minutes; a package that changes meanwhile breaks it. Writes the table of
docs/clients.md when all clients were run. Needs the npm and Python registries and node.
`WAN25_FOREIGN_CACHE` names a folder to keep the clients in; what is there already is not installed
again.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent)]
sys.path.append(str(ROOT))  # last, so that the package under test is the installed one

from provider import Provider, picture  # noqa: E402

SECONDS = (60, 150)
Server = dict[str, Any]
"""How a host is told of our server."""
MARKS = "<!-- measured: waits -->", "<!-- end: waits -->"
PROMPT = "Edit the picture."


@dataclass(frozen=True)
class Foreign:
    """A client.

    Args:
        gives_up: After how long it gives up a call, by its documentation or code.
        packages: What pip or npm installs for it.
        program: The command, for those of npm.
        arrives: Whether the client's own limits allow that a link arrives.
    """

    name: str
    label: str
    gives_up: str
    packages: tuple[str, ...]
    program: str = ""
    arrives: bool = True


CLIENTS = (
    Foreign(
        "claude", "Claude Code 2.1", "30 min", ("@anthropic-ai/claude-code@2.1",), program="claude"
    ),
    Foreign("codex", "Codex 0.169", "5 min", ("@openai/codex@0.169",), program="codex"),
    Foreign("gemini", "Gemini CLI 0.61", "10 min", ("@google/gemini-cli@0.61",), program="gemini"),
    Foreign("agno", "agno 3.1", "10 s", ("agno==3.1.*", "fastmcp>=4,<5", "openai<4")),
    Foreign("adk", "Google ADK 2.13, stdio", "5 s", ("google-adk==2.13.*", "litellm<2", "mcp<3")),
    Foreign(
        "autogen",
        "AutoGen 0.7, stdio, in a team",
        "5 s",
        ("autogen-ext[openai]==0.7.*", "autogen-agentchat==0.7.*", "mcp>=1.24,<2"),
    ),
    Foreign(
        "openai_agents",
        "openai-agents 0.24, `Runner`",
        "5 s",
        ("openai-agents==0.24.*",),
        arrives=False,
    ),
)


@dataclass
class Run:
    """What came of one edit in one client."""

    client: Foreign
    seconds: int
    waits: int = 0
    has_arrived: bool = False
    charges: int = 0

    @property
    def is_right(self) -> bool:
        return self.has_arrived == self.client.arrives and self.charges == 1


def main(names: list[str]) -> int:
    chosen = [client for client in CLIENTS if not names or client.name in names]
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(os.environ.get("WAN25_FOREIGN_CACHE", f"{scratch}/clients")).resolve()
        for client in chosen:
            _install(client, cache / client.name)
        runs = asyncio.run(_run_all(chosen, cache, Path(scratch)))
    table = _table({client: [run for run in runs if run.client is client] for client in chosen})
    sys.stdout.write(f"{table}\n")
    if not names:
        page = ROOT / "docs" / "clients.md"
        text = page.read_text(encoding="utf-8")
        before, after = text.partition(MARKS[0])[0], text.partition(MARKS[1])[2]
        page.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}", encoding="utf-8")
    wrong = [run for run in runs if not run.is_right]
    for run in wrong:
        sys.stdout.write(f"FAIL  {run}\n")
    return len(wrong)


async def _run_all(clients: list[Foreign], cache: Path, scratch: Path) -> list[Run]:
    jobs = []
    for seconds in SECONDS:
        for client in clients:
            jobs.append(asyncio.create_task(_run(client, seconds, cache, scratch)))
            await asyncio.sleep(5)  # starting one takes a processor
    return await asyncio.gather(*jobs)


def _table(runs: dict[Foreign, list[Run]]) -> str:
    head = "| Client | Gives up a call after | 60 s | 150 s | Waits for 60 s, 150 s |"
    return "\n".join(
        [head, "| --- | --- | --- | --- | --- |", *(_row(*one) for one in runs.items())]
    )


def _row(client: Foreign, runs: list[Run]) -> str:
    ends = " | ".join("arrives" if run.has_arrived else "ends before" for run in runs)
    waits = ", ".join(str(run.waits) if run.has_arrived else "-" for run in runs)
    return f"| {client.label} | {client.gives_up} | {ends} | {waits} |"


def _install(client: Foreign, place: Path) -> None:
    if place.exists():
        return
    if client.program:
        place.mkdir(parents=True)
        commands = [["npm", "install", "--prefix", str(place), *client.packages]]
    else:
        pip = str(place / "bin" / "pip")
        commands = [
            [sys.executable, "-m", "venv", str(place)],
            [pip, "install", "--quiet", *client.packages],
        ]
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


async def _run(client: Foreign, seconds: int, cache: Path, scratch: Path) -> Run:
    home = scratch / f"{client.name}-{seconds}"
    home.mkdir()
    log, prompt = home / "log", f"A red hat, in {client.name}"
    async with _started(sys.executable, str(HERE / "emulate.py"), str(seconds)) as api:
        provider = Provider(api)
        link = await asyncio.to_thread(provider.upload, picture())
        model = HERE / "model.py"
        async with _started(sys.executable, str(model), link, prompt, str(log)) as port:
            ours = {
                "WAN25_EMULATOR": api,
                "WAN25_DATA_DIR": str(home / "data"),
                "WAN25_OUTPUT_DIR": str(home / "out"),
            }
            kept = {k: v for k, v in os.environ.items() if not k.startswith("WAN25_")}
            environ = kept | ours | {"PYTHON": sys.executable, "HOME": str(home)}
            address = f"http://127.0.0.1:{port}"
            command = _command(client, cache / client.name, home, environ, address)
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environ,
                cwd=home,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=(home / "err").open("w"),
            )
            await asyncio.wait_for(process.wait(), 4 * seconds + 120)
        submits = (await asyncio.to_thread(provider.state))["submits"]
    lines = [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()]
    said = [json.loads(what) for _, kind, what in lines if kind == "said"]
    waits = sum(isinstance(one, list) and one[0].endswith("wait_for_task") for one in said)
    has_arrived = any(isinstance(one, str) and one.startswith("DONE") for one in said)
    return Run(client, seconds, waits, has_arrived, len(submits))


def _command(
    client: Foreign, place: Path, home: Path, environ: dict[str, str], address: str
) -> list[str]:
    """The client's command. Adds to its environment, and writes its configuration."""
    if not client.program:
        environ["MODEL"] = f"{address}/v1"
        return [str(place / "bin" / "python"), str(HERE / f"with_{client.name}.py")]
    ours = {name: value for name, value in environ.items() if name.startswith("WAN25_")}
    server = {"command": sys.executable, "args": ["-m", "wan25_mcp"], "env": ours}
    program = str(place / "node_modules" / ".bin" / client.program)
    return [program, *HOSTS[client.name](server, home, environ, address)]


def _claude(server: Server, home: Path, environ: dict[str, str], address: str) -> list[str]:
    environ |= {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "x"}
    environ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
    _write(home / "mcp.json", json.dumps({"mcpServers": {"wan25": server}}))
    allowed = ["Bash", *(f"mcp__wan25__{tool}" for tool in ("edit_image", "wait_for_task"))]
    return ["-p", PROMPT, "--mcp-config", "mcp.json", "--allowedTools", ",".join(allowed)]


def _codex(server: Server, home: Path, environ: dict[str, str], address: str) -> list[str]:
    environ["SCRIPTED_KEY"] = "x"
    provider = {"name": "scripted", "base_url": f"{address}/v1", "env_key": "SCRIPTED_KEY"}
    wanted = {
        "model": "gpt-5",  # decides which tools it offers
        "model_provider": "scripted",
        "model_providers.scripted": {**provider, "wire_api": "responses"},
        "mcp_servers.wan25": server,
    }
    given = [f"{name}={_toml(value)}" for name, value in wanted.items()]
    options = [word for one in given for word in ("-c", one)]
    yes = "--dangerously-bypass-approvals-and-sandbox"  # for one server, against an emulator
    return ["exec", "--skip-git-repo-check", yes, *options, PROMPT]


def _gemini(server: Server, home: Path, environ: dict[str, str], address: str) -> list[str]:
    environ |= {"GEMINI_API_KEY": "x", "GOOGLE_GEMINI_BASE_URL": address}
    environ["GEMINI_CLI_TRUST_WORKSPACE"] = "true"
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "mcpServers": {"wan25": {**server, "trust": True}},
    }
    _write(home / ".gemini" / "settings.json", json.dumps(settings))
    return ["-y", "-m", "gemini-2.5-pro", "-p", PROMPT]


HOSTS = {"claude": _claude, "codex": _codex, "gemini": _gemini}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _toml(value: object) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


@asynccontextmanager
async def _started(*command: str) -> AsyncIterator[str]:
    """A process that prints one line when it is ready: that line."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            ready = (await process.stdout.readline()).decode().strip()
        yield ready
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
