"""The product, usable without MCP: submit an edit once, follow it, wait for it, save it."""
