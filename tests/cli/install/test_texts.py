"""One entry of a configuration changes, and every other byte stays."""

from __future__ import annotations

import json
import tomllib
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.cli.install.texts import CannotEdit, Edit, changed

ENTRY: Final[dict[str, Any]] = {"command": "/x/wan25-mcp", "args": ["serve"], "env": {"A": 'é"b'}}
SECTION: Final = {"json": "mcpServers", "toml": "mcp_servers", "yaml": "extensions"}

JSONC: Final = """\
{
  // the editor's, "quoted", with a brace {
  "theme": "dark", /* and
  a comma, */ "size": 12,
  "mcpServers": {
    "a": { "command": "x", "env": { "TOKEN": "t//t" }, }, // not ours
    "b": {
      "url": "https://example.com/*", // nor this
    } // the last, really
  },
}
"""
TABS: Final = '{\r\n\t"mcpServers": {\r\n\t\t"a": {\r\n\t\t\t"x": 1\r\n\t\t}\r\n\t}\r\n}\r\n'
ONE_LINE: Final = '{"mcpServers": {"a": {"command": "x"}}, "z": [1, {"mcpServers": 2}]}'
TOML: Final = """\
# settings
model = "m" # the best

[mcp_servers.a] # not ours
command = "x"
args = [
  "[mcp_servers.no]",
  "y",
]

# about profiles
[profiles.p]
model = '''
[b]
'''
"""
YAML: Final = """\
# settings
MODEL: "m"   # the best
extensions:
    a:   # not ours
        cmd: x
        args:
        - '#y'

    # about b
    b: {enabled: false, cmd: "x: y"}
OTHER: |
  extensions:
    wan25: no
"""
KEPT: Final = [
    ("json", JSONC),
    ("json", TABS),
    ("json", ONE_LINE),
    ("json", '{\n  "mcpServers": {}\n}'),
    ("json", '\ufeff{\n  "mcpServers": {\n    // none yet\n  }\n}\n'),
    ("toml", TOML),
    ("toml", TOML.replace("\n", "\r\n")),
    ("toml", 'a = 1\n[mcp_servers.other]\ncommand = "x"\n'),
    ("yaml", YAML),
    ("yaml", YAML.replace("\n", "\r\n")),
]


def put(kind: str, text: str, value: Any = ENTRY) -> str:
    return changed(text, Edit((SECTION[kind], "wan25"), value), kind)


def take(kind: str, text: str) -> str:
    return changed(text, Edit((SECTION[kind], "wan25"), None), kind)


@pytest.mark.parametrize(("kind", "text"), KEPT)
def test_what_was_added_leaves_no_trace_when_it_is_removed(kind: str, text: str) -> None:
    added = put(kind, text)
    assert "wan25-mcp" in added
    assert take(kind, added) == text


@pytest.mark.parametrize(("kind", "text"), KEPT)
def test_adding_only_adds_lines_and_at_most_a_comma(kind: str, text: str) -> None:
    added = put(kind, text)
    rest = iter(added)
    assert all(character in rest for character in text.replace("{}", "{"))
    new = added.replace(",", "").splitlines()
    gone = [line for line in text.replace(",", "").splitlines() if line not in new]
    assert len(gone) <= (1 if "{}" in text or text == ONE_LINE else 0)


def test_the_new_entry_is_as_its_neighbours_are() -> None:
    added = put("json", JSONC)
    assert "    } // the last, really\n" not in added
    assert '    }, // the last, really\n    "wan25": {\n      "command": ' in added
    assert '\r\n\t\t"wan25": {\r\n\t\t\t"command": ' in put("json", TABS)
    assert "\n" not in put("json", ONE_LINE)
    assert '\n    wan25:\n      command: "/x/wan25-mcp"\n' in put("yaml", YAML)


@pytest.mark.parametrize("text", ["", "\n", "{}", "{\n}\n", "// only a comment\n", '{"a": {}}'])
def test_a_file_without_the_section_gets_one(text: str) -> None:
    added = put("json", text)
    assert json.loads(added.removeprefix("// only a comment\n"))["mcpServers"] == {"wan25": ENTRY}
    assert added.startswith(text.rstrip().removesuffix("}").rstrip())


@pytest.mark.parametrize("text", ["", "A: 1", "extensions:\nB: 1\n", "extensions: {}\n"])
def test_a_yaml_file_without_extensions_gets_them(text: str) -> None:
    read = yaml.safe_load(put("yaml", text))
    assert read.pop("extensions") == {"wan25": ENTRY}
    before = yaml.safe_load(text) or {}
    assert read == {name: value for name, value in before.items() if name != "extensions"}


@pytest.mark.parametrize("kind", SECTION)
def test_an_entry_is_replaced_where_it_is(kind: str) -> None:
    text = {"json": JSONC, "toml": TOML, "yaml": YAML}[kind]
    once = put(kind, text, {"command": "old", "args": ["a"], "env": {"B": "b"}})
    assert put(kind, once) == put(kind, text)


def test_toml_tables_of_the_entry_go_with_it() -> None:
    text = (
        '[mcp_servers.wan25]\ncommand = "old"\n\n[mcp_servers.wan25.env]\nB = "b"\n\n'
        '# about x\n[x]\ny = 1\n\n[mcp_servers."wan25".tools.edit_image]\napproval = "auto"\n'
    )
    assert take("toml", text) == "# about x\n[x]\ny = 1\n"
    assert tomllib.loads(put("toml", text)) == {"x": {"y": 1}, "mcp_servers": {"wan25": ENTRY}}


@pytest.mark.parametrize(
    ("kind", "text", "word"),
    [
        ("json", '{"a": 1', "line 1"),
        ("json", '{\n"a": 1\n"b": 2}', "line 3"),
        ("json", "[1]", "object"),
        ("json", '{"mcpServers": []}', "mcpServers"),
        ("json", '{"mcpServers": {}, "mcpServers": {"a": {}}}', "twice"),
        ("json", "[" * 100_000, "nested"),
        ("toml", "a = ", "TOML"),
        ("toml", 'mcp_servers = { wan25 = { command = "x" } }', "safely"),
        ("toml", "mcp_servers = 1", "mcp_servers"),
        ("yaml", "a: [", "YAML"),
        ("yaml", "- 1", "mapping"),
        ("yaml", "extensions: {a: {cmd: x}}", "one line"),
        ("yaml", "--- 1\n--- 2\n", "YAML"),
        ("yaml", "a: !!python/object:os.system {}", "YAML"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(kind: str, text: str, word: str) -> None:
    with pytest.raises(CannotEdit, match=word):
        put(kind, text)


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    before=st.dictionaries(st.text(max_size=6), JSON, max_size=4),
    servers=st.dictionaries(st.text(max_size=6), JSON, max_size=3),
    indent=st.sampled_from([None, 1, 2, 4, "\t"]),
    plain=st.booleans(),
)
def test_any_json_keeps_its_other_values(
    before: dict[str, Any], servers: dict[str, Any], indent: int | str | None, plain: bool
) -> None:
    whole = {**before, "mcpServers": {**servers}}
    whole["mcpServers"].pop("wan25", None)
    text = json.dumps(whole, indent=indent, ensure_ascii=plain)
    added = put("json", text)
    assert json.loads(added) == {**whole, "mcpServers": {**whole["mcpServers"], "wan25": ENTRY}}
    assert take("json", added) == text
