"""The server over HTTP: access, limits, shutdown, and the provider's callbacks."""

from wan25_mcp.hosting.app import create_app
from wan25_mcp.hosting.serving import serve_http

__all__ = ["create_app", "serve_http"]
