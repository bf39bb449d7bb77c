"""The clients that `wan25-mcp install` knows: a row for each.

The facts come from the clients' own documentation and code, which each row names; what they do with
variables was tried with Claude Code 2.1, Codex 0.169, Gemini CLI 0.61 and opencode 1.18.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wan25_mcp.cli.install.client import NAME, Client, Entry, Server, common


def _typed(server: Server) -> Entry:
    return {"type": "stdio", **common(server)}


def _codex(server: Server) -> Entry:
    return {**common(server), **({"env_vars": list(server.passes)} if server.passes else {})}


def _opencode(server: Server) -> Entry:
    return {
        "type": "local",
        "command": list(server.line),
        "enabled": True,
        **({"environment": dict(server.variables)} if server.variables else {}),
    }


def _goose(server: Server) -> Entry:
    return {
        "type": "stdio",
        "name": NAME,
        "description": "Edit images with wan2.5-image-to-image",
        "enabled": True,
        "cmd": server.command,
        "args": list(server.arguments),
        **({"envs": dict(server.variables)} if server.variables else {}),
        **({"env_keys": list(server.passes)} if server.passes else {}),
        "timeout": 300,
    }


CLIENTS: Final[tuple[Client, ...]] = (
    Client(
        name="claude-desktop",
        title="Claude Desktop",
        file="{app}/Claude/claude_desktop_config.json",
        mark="{app}/Claude",
        source="https://modelcontextprotocol.io/docs/develop/connect-local-servers",
        afterwards="Quit Claude Desktop and start it again.",
    ),
    Client(
        name="claude-code",
        title="Claude Code",
        file="{home}/.claude.json",
        mark="{home}/.claude",
        overrides=("{CLAUDE_CONFIG_DIR}/.claude.json",),
        programs=("claude",),
        source="https://code.claude.com/docs/en/mcp",
        afterwards="Start Claude Code again; /mcp lists the server.",
        entry=_typed,
        reference="${WAN25_API_KEY:-}",
        own_command="claude mcp add --scope user wan25 -- {line}",
    ),
    Client(
        name="cursor",
        title="Cursor",
        file="{home}/.cursor/mcp.json",
        mark="{home}/.cursor",
        programs=("cursor",),
        source="https://cursor.com/docs/context/mcp",
        afterwards="Enable the server in Cursor's settings, under MCP.",
        reference="${env:WAN25_API_KEY}",
        # https://cursor.com/docs/mcp/install-links
        link="cursor://anysphere.cursor-deeplink/mcp/install?name={name}&config={config}",
        web_link="https://cursor.com/en/install-mcp?name={name}&config={config}",
    ),
    Client(
        name="vscode",
        title="VS Code",
        file="{app}/Code/User/mcp.json",
        mark="{app}/Code",
        overrides=("{VSCODE_PORTABLE}/user-data/User/mcp.json",),
        programs=("code",),
        source="https://code.visualstudio.com/docs/copilot/reference/mcp-configuration",
        afterwards="Run `MCP: List Servers` in VS Code and start wan25.",
        section=("servers",),
        entry=_typed,
        asks=True,
        # handleMcpInstallUri in mcpWorkbenchService.ts of github.com/microsoft/vscode
        link="vscode:mcp/install?{config}",
        web_link="https://insiders.vscode.dev/redirect/mcp/install?name={name}&config={config}",
        own_command="code --add-mcp '{json}'",
    ),
    Client(
        name="codex",
        title="Codex",
        file="{home}/.codex/config.toml",
        mark="{home}/.codex",
        overrides=("{CODEX_HOME}/config.toml",),
        programs=("codex",),
        source="https://github.com/openai/codex/blob/main/docs/config.md",
        afterwards="Start Codex again; /mcp lists the server.",
        section=("mcp_servers",),
        format="toml",
        entry=_codex,
        lists_names=True,
        own_command="codex mcp add wan25 -- {line}",
    ),
    Client(
        name="gemini",
        title="Gemini CLI",
        file="{home}/.gemini/settings.json",
        mark="{home}/.gemini",
        overrides=("{GEMINI_CLI_HOME}/.gemini/settings.json",),
        programs=("gemini",),
        source="https://github.com/google-gemini/gemini-cli/blob/main/docs/tools/mcp-server.md",
        afterwards="Start Gemini CLI again; /mcp lists the server.",
        # It hides variables that look like secrets from servers, unless `env` names them.
        reference="${WAN25_API_KEY:-}",
        own_command="gemini mcp add --scope user wan25 {line}",
    ),
    Client(
        name="windsurf",
        title="Windsurf",
        file="{home}/.codeium/windsurf/mcp_config.json",
        mark="{home}/.codeium/windsurf",
        programs=("windsurf",),
        source="https://docs.windsurf.com/windsurf/cascade/mcp",
        afterwards="Refresh the servers in Windsurf's Cascade panel.",
        reference="${env:WAN25_API_KEY}",
    ),
    Client(
        name="zed",
        title="Zed",
        file="{config}/zed/settings.json",
        elsewhere={
            "macos": "{home}/.config/zed/settings.json",
            "windows": "{app}/Zed/settings.json",
        },
        programs=("zed", "zeditor"),
        # crates/paths/src/paths.rs, ContextServerSettingsContent in crates/settings_content
        source="https://zed.dev/docs/ai/mcp",
        afterwards="Zed starts the server at once; the agent panel's settings show it.",
        section=("context_servers",),
    ),
    Client(
        name="cline",
        title="Cline",
        file="{home}/.cline/data/settings/cline_mcp_settings.json",
        mark="{home}/.cline",
        overrides=(
            "{CLINE_MCP_SETTINGS_PATH}",
            "{CLINE_DATA_DIR}/settings/cline_mcp_settings.json",
            "{CLINE_DIR}/data/settings/cline_mcp_settings.json",
        ),
        # Before 2026. A newer Cline takes the servers over from there.
        older="{app}/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        programs=("cline",),
        # getSharedMcpSettingsPath in apps/vscode/src/hosts/vscode of github.com/cline/cline
        source="https://docs.cline.bot/mcp/mcp-overview",
        afterwards="Cline shows the server in its MCP panel.",
        reference="${env:WAN25_API_KEY}",
    ),
    Client(
        name="lmstudio",
        title="LM Studio",
        file="{lmstudio}/mcp.json",
        mark="{lmstudio}",
        programs=("lms",),
        source="https://lmstudio.ai/docs/app/mcp",
        afterwards="Switch on mcp/wan25 in LM Studio's integrations.",
        # https://lmstudio.ai/docs/app/mcp/deeplink
        link="lmstudio://add_mcp?name={name}&config={config}",
        web_link="https://lmstudio.ai/install-mcp?name={name}&config={config}",
    ),
    Client(
        name="goose",
        title="goose",
        file="{config}/goose/config.yaml",
        elsewhere={"windows": "{app}/Block/goose/config/config.yaml"},
        overrides=("{GOOSE_PATH_ROOT}/config/config.yaml",),
        programs=("goose",),
        # crates/goose/src/config/paths.rs of github.com/block/goose
        source="https://block.github.io/goose/docs/guides/config-files",
        afterwards="Start a new goose session.",
        section=("extensions",),
        format="yaml",
        entry=_goose,
        variables="envs",
        lists_names=True,
    ),
    Client(
        name="opencode",
        title="opencode",
        file="{config}/opencode/opencode.json",
        older="{config}/opencode/opencode.jsonc",
        mark="{config}/opencode",
        programs=("opencode",),
        source="https://opencode.ai/docs/mcp-servers",
        afterwards="Start opencode again; `opencode mcp list` shows the server.",
        section=("mcp",),
        entry=_opencode,
        variables="environment",
        reference="{env:WAN25_API_KEY}",
    ),
)
BY_NAME: Final[Mapping[str, Client]] = {client.name: client for client in CLIENTS}
