"""Writes what is derived from the code, so that it cannot disagree with it.

    python scripts/generate.py           write
    python scripts/generate.py --check   write nothing; exit 1 and name what has drifted

Derived are the tool contracts in tests/contracts/tools, `server.json`, and the regions of
README.md and docs/ between `<!-- generated: NAME -->` and `<!-- end: NAME -->`.
"""

from __future__ import annotations

import ast
import json
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where this checkout is

import anyio
import click
from mcp.client import Client
from mcp_types import Tool

from scripts import install_pages
from scripts.markdown import table
from scripts.project import ROOT, project, repository
from wan25_mcp.cli.main import main as command
from wan25_mcp.editing.answers import answer_of, text_of
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import STATUSES as ERROR_STATUSES
from wan25_mcp.errors import SettingsError
from wan25_mcp.errors.codes import OWN_ROWS
from wan25_mcp.errors.provider_rows import HTTP_ROWS, TASK_ROWS
from wan25_mcp.errors.rows import ErrorCode
from wan25_mcp.journal.stages import STAGES
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.charging import BY_STATUS, MAX_RESENDS, OWN_ERRORS, Verdict, verdict
from wan25_mcp.provider.models import Usage
from wan25_mcp.provider.statuses import STATUSES
from wan25_mcp.server import create_server
from wan25_mcp.setting_parsers import Setting
from wan25_mcp.settings import SETTINGS, Settings

NAME: Final = "io.github.wan25-mcp/wan25-mcp"
"""The server's name in the MCP registry; the README repeats it to prove who published it."""

SCHEMA: Final = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"


def outputs() -> dict[Path, str]:
    """Every generated file, with what it should hold."""
    tools = listed_tools()
    return {
        **{
            ROOT / "tests" / "contracts" / "tools" / f"{tool.name}.json": _json(contract(tool))
            for tool in tools
        },
        ROOT / "server.json": _json(server_json()),
        **documents(tools),
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# --- the tools ------------------------------------------------------------------------------


def listed_tools() -> list[Tool]:
    """The tools as a client gets them over MCP."""

    async def ask() -> list[Tool]:
        async with (
            open_configured_editor(Settings()) as editor,
            Client(create_server(editor)) as client,
        ):
            return (await client.list_tools()).tools

    return anyio.run(ask)


def contract(tool: Tool) -> dict[str, Any]:
    """What a client sees of a tool."""
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True)


def server_json() -> dict[str, Any]:
    """How the MCP registry lists this server."""
    about = project()
    address, website = repository(), about.get("urls", {}).get("Homepage")
    return {
        "$schema": SCHEMA,
        "name": NAME,
        "title": "Wan 2.5 image editing",
        "description": (
            f"Edit images with {MODEL}. A repeated call is deduplicated and costs nothing."
        ),
        **({"repository": {"url": address, "source": "github"}} if address else {}),
        **({"websiteUrl": website} if website else {}),
        "version": about["version"],
        "packages": [
            _package(
                about, {"type": "stdio"}, ["serve"], [row for row in SETTINGS if _is_for_stdio(row)]
            ),
            _package(
                about,
                {"type": "streamable-http", "url": "http://127.0.0.1:{port}/mcp"},
                ["serve", "--transport", "streamable-http", "--port", PORT],
                SETTINGS,
            ),
        ],
    }


PORT: Final = {
    "valueHint": "port",
    "description": "Port to listen on, on this machine only.",
    "isRequired": True,
    "format": "number",
    "default": "8000",
}


def _package(
    about: Mapping[str, Any],
    transport: Mapping[str, Any],
    arguments: Sequence[str | Mapping[str, Any]],
    variables: Sequence[Setting],
) -> dict[str, Any]:
    return {
        "registryType": "pypi",
        "identifier": about["name"],
        "version": about["version"],
        "runtimeHint": "uvx",
        "transport": transport,
        "packageArguments": [
            {"type": "positional", **({"value": one} if isinstance(one, str) else one)}
            for one in arguments
        ],
        "environmentVariables": [_published(variable) for variable in variables],
    }


def _is_for_stdio(row: Setting) -> bool:
    return row.attribute not in ("callback_url", "server_token", "allowed_hosts")


def _published(variable: Setting) -> dict[str, Any]:
    choices = _choices(variable)
    entry: dict[str, Any] = {
        "name": variable.name,
        "description": _plain(variable.meaning),
        # Without it the server starts, and says how to set it. But who installs from a registry
        # has nothing to keep a key with, and should be asked.
        "isRequired": variable.attribute == "key",
        "isSecret": variable.secret,
        "format": _format(variable),
        **({"choices": choices} if choices else {}),
    }
    if _can_be_set(variable):
        entry["default"] = variable.default
    return entry


def _choices(variable: Setting) -> list[str]:
    kind = typing.get_type_hints(Settings)[variable.attribute]
    if variable.attribute == "save":
        return ["auto", "off"]
    return list(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else []


def _format(variable: Setting) -> str:
    kinds = typing.get_type_hints(Settings)[variable.attribute]
    kinds = typing.get_args(kinds) or (kinds,)
    if Path in kinds or variable.attribute == "key_file":
        return "filepath"
    return "number" if {int, float} & set(kinds) else "string"


def _can_be_set(variable: Setting) -> bool:
    """Whether the default as documented is a value, and not a description of one."""
    try:
        Settings.from_mapping({variable.name: variable.default})
    except SettingsError:
        return False
    return bool(variable.default)


def _plain(text: str) -> str:
    return text.replace("`", "")


# --- the documents --------------------------------------------------------------------------


def documents(tools: list[Tool]) -> dict[Path, str]:
    """README.md and docs/*.md with their generated regions as they should be."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    regions = {
        "answer": _example_answer(),
        "tools": "\n\n".join(_tool(tool) for tool in tools),
        "install": install_pages.install(),
        "clients": install_pages.clients(),
        "settings": _settings(),
        "commands": _commands(),
        "options": _options(),
        "money": _money(),
        "errors": _errors(),
        "rooms": _rooms(),
        "statuses": _text(drawn(STATUSES)),
        "stages": _text(drawn(STAGES)),
    }
    for name, content in regions.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        holders = [path for path, text in texts.items() if begin in text]
        if len(holders) != 1 or [texts[holders[0]].count(mark) for mark in (begin, end)] != [1, 1]:
            raise SystemExit(f"One document must hold {begin} and {end}, once each.")
        before, _, rest = texts[holders[0]].partition(begin)
        texts[holders[0]] = f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"
    return texts


def _example_answer() -> str:
    completed = Edit(
        task_id="task-unified-1757156493-imcg5zqt",
        status="completed",
        charged="yes",
        progress=100,
        image_urls=("https://cdn.example.com/task-unified-1757156493-imcg5zqt_0.png",),
        expires_at=datetime(2025, 9, 7, 11, 2, tzinfo=UTC),
        saved=("/home/me/Pictures/wan25/2025-09-06-put-a-starry-sky-behind-cg5zqt-1.png",),
        usage=Usage(credits_used=1.5),
    )
    return _text(text_of(answer_of(completed)))


def _tool(tool: Tool) -> str:
    rules = tool.input_schema
    required = rules.get("required", [])
    rows = [
        (f"`{name}`", _must_be(rule, required=name in required), rule.get("description", ""))
        for name, rule in rules["properties"].items()
    ]
    return "\n\n".join(
        [
            f"#### `{tool.name}`",
            tool.description or "",
            table(("Argument", "What it must be", "Meaning"), rows),
        ]
    )


def _must_be(rule: dict[str, Any], *, required: bool) -> str:
    if required:
        return f"required; {_words(rule)}"
    return f"{_words(rule['anyOf'][0])}, or null"


def _words(rule: dict[str, Any]) -> str:
    """A rule of a JSON schema, in words."""
    if "enum" in rule:
        return " or ".join(f"`{json.dumps(value)}`" for value in rule["enum"])
    match rule["type"]:
        case "array":
            low, high = rule["minItems"], rule["maxItems"]
            return f"list of {low} to {high}, each {_words(rule['items'])}"
        case "string":
            return "text"
        case "boolean":
            return "true or false"
    kind = "whole number" if rule["type"] == "integer" else "number"
    most = f" to {rule['maximum']:g}" if "maximum" in rule else " up"
    return f"{kind} from {rule['minimum']:g}{most}"


def _settings() -> str:
    rows = [
        (
            f"`{variable.name}`",
            variable.meaning,
            f"`{variable.default}`" if _can_be_set(variable) else variable.default,
        )
        for variable in SETTINGS
    ]
    return table(("Variable", "Meaning", "Default"), rows)


def _commands() -> str:
    """Each command with its synopsis and the first paragraph of its `--help`.

    The commands of a group share a row.
    """
    rows = [
        (_forms(f"wan25-mcp {name}", sub), _help(sub))
        for name, sub in command.commands.items()
        if not sub.hidden
    ]
    return table(("Command", "What it does"), rows)


def _forms(name: str, sub: click.Command) -> str:
    if isinstance(sub, click.Group):
        return ", ".join(_forms(f"{name} {each}", one) for each, one in sub.commands.items())
    return f"`{' '.join([name, *_synopsis(sub)])}`"


def _synopsis(sub: click.Command) -> Iterator[str]:
    """The arguments, and the options where they are few."""
    for parameter in sub.params:
        if isinstance(parameter, click.Argument):
            name = parameter.metavar or (parameter.name or "").upper()
            yield name if parameter.required or parameter.metavar else f"[{name}]"
    options = [one for one in sub.params if isinstance(one, click.Option)]
    if len(options) > _FEW:
        yield "[OPTIONS]"
        return
    for option in options:
        yield f"[{_flag(option)}]"


_FEW: Final = 2
"""A synopsis with more options would make the column wider than the text beside it."""


def _flag(option: click.Option) -> str:
    flag = max(option.opts, key=len)
    return flag if option.is_flag or option.count else f"{flag} {_placeholder(option)}"


def _placeholder(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        # No pipes: generators of sites differ in how a table's cell escapes them.
        return f"{{{','.join(str(choice) for choice in option.type.choices)}}}"
    return (option.name or "").upper()


def _options() -> str:
    """The options of every command that has some, as `--help` lists them."""
    found = []
    for name, sub in command.commands.items():
        subs = sub.commands if isinstance(sub, click.Group) else {"": sub}
        for below, one in subs.items():
            rows = [_option(each) for each in one.params if isinstance(each, click.Option)]
            if rows:
                title = f"### `wan25-mcp {name} {below}".rstrip() + "`"
                found.append(f"{title}\n\n{table(('Option', 'What it does'), rows)}")
    return "\n\n".join(found)


def _option(option: click.Option) -> tuple[str, str]:
    short = next((f"{one}, " for one in option.opts if not one.startswith("--")), "")
    has_default = option.show_default and not option.is_flag
    default = f" Default: {option.default}." if has_default else ""
    only_short = short.removesuffix(", ") == max(option.opts, key=len)
    return f"`{'' if only_short else short}{_flag(option)}`", f"{option.help or ''}{default}"


def _help(sub: click.Command) -> str:
    return " ".join((sub.help or "").split("\n\n")[0].split())


def _rooms() -> str:
    """The parts from the top down, as `tests/test_architecture.py` lists them."""
    source = (ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8")
    [layers] = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "LAYERS" and node.value
    ]
    rows = [list(layer.items()) for layer in layers if "__main__" not in layer]
    lines = [
        f"{'+ ' if place else ''}{name}".ljust(17) + meaning
        for row in rows
        for place, (name, meaning) in enumerate(row)
    ]
    return _text("\n".join([*lines, f"{'emulator':<17}{_EMULATOR}"]))


_EMULATOR: Final = "plays the provider; imports no other part"


def drawn(following: Mapping[Any, frozenset[Any]]) -> str:
    """A transition table as text; states with the same successors share a line."""
    order = list(following)
    lines: dict[tuple[str, ...], list[str]] = {}
    for name, after in following.items():
        lines.setdefault(tuple(sorted(after, key=order.index)), []).append(name)
    return "\n".join(
        f"{' | '.join(names)}\n  ─→ {' | '.join(after) or '(final)'}"
        for after, names in lines.items()
    )


def _text(lines: str) -> str:
    return f"```text\n{lines}\n```"


def _money() -> str:
    asked = sorted(OWN_ERRORS)
    cut = sorted(BY_STATUS.keys() - OWN_ERRORS)
    refused = sorted(
        status
        for status in ERROR_STATUSES
        if status not in BY_STATUS and verdict(sent=True, status=status).charged == "no"
    )
    broken = sorted(
        status
        for status in ERROR_STATUSES
        if status not in BY_STATUS and verdict(sent=True, status=status).charged == "unknown"
    )
    rows = [
        _end("no byte left this machine (DNS, connect, TLS)", verdict(sent=False, status=None)),
        _end(
            f"{_statuses(asked)} whose body is the API's own JSON error",
            verdict(sent=True, status=asked[0], own_error=True),
        ),
        _end(f"{_statuses(refused)}, other 3xx and 4xx", verdict(sent=True, status=refused[0])),
        _end(f"any other {_statuses(asked)} (a gateway's)", verdict(sent=True, status=asked[0])),
        _end(_statuses(cut), verdict(sent=True, status=cut[0])),
        _end(
            f"{_statuses(broken)}, other 5xx; a 2xx with no readable task or another edit's id",
            verdict(sent=True, status=broken[0]),
        ),
        _end(
            "no answer: time-out, reset, this server stopped or crashed",
            verdict(sent=True, status=None),
        ),
    ]
    return table(("How the submit ended", "Sent again?", "Charged"), rows)


def _errors() -> str:
    """Every error code, by who decides it."""
    groups = (
        ("The provider refuses a request", HTTP_ROWS),
        ("The provider accepts an edit and then fails it", TASK_ROWS),
        ("wan25-mcp decides", OWN_ROWS),
    )
    return "\n\n".join(f"## {title}\n\n{_codes(rows)}" for title, rows in groups)


def _codes(rows: Sequence[ErrorCode]) -> str:
    head = ("Code", "What happened", "What to do", "Retry?", "Charged?")
    lines = [
        (
            f"`{row.code}`",
            f"{row.sentence}.",
            row.fix,
            "yes" if row.retryable else "no",
            row.charged,
        )
        for row in rows
    ]
    return table(head, lines)


def _statuses(numbers: list[int]) -> str:
    return "HTTP " + ", ".join(str(number) for number in numbers)


def _end(what: str, judged: Verdict) -> tuple[str, str, str]:
    again = f"at most {MAX_RESENDS} times, after the requested wait" if judged.resend else "never"
    return what, again, judged.charged


# --- the command ----------------------------------------------------------------------------


def drifted() -> dict[Path, str]:
    """The generated files that are not as they should be, with what they should hold."""
    return {
        path: content
        for path, content in outputs().items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    }


def stray_contracts() -> list[Path]:
    """Committed contracts of tools that no longer exist."""
    return sorted(set((ROOT / "tests/contracts/tools").glob("*.json")) - set(outputs()))


def run(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    imported = Path(sys.modules["wan25_mcp"].__file__ or "").resolve()
    if ROOT not in imported.parents:
        print(f"This Python imports another checkout: {imported.parent}", file=sys.stderr)
        return 2
    wrong, strays = drifted(), stray_contracts()
    for path in [*wrong, *strays]:
        print(path.relative_to(ROOT))
    if arguments:
        if wrong or strays:
            print("drifted; run: python scripts/generate.py", file=sys.stderr)
        return 1 if wrong or strays else 0
    for path, content in wrong.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for path in strays:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
