"""The command `wan25-mcp`."""
