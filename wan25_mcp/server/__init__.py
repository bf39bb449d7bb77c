"""The MCP server: three tools over the editor, their answers, and resources.

Only this package, `hosting` and the demo in `cli` import `mcp`.
"""

from wan25_mcp.server.build import create_server

__all__ = ["create_server"]
