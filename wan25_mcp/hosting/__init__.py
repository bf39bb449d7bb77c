"""The server over HTTP: who may call it, how it stops, and how the provider calls back."""

from wan25_mcp.hosting.app import create_app
from wan25_mcp.hosting.serving import serve_http

__all__ = ["create_app", "serve_http"]
