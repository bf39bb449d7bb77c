"""The server over HTTP: who may call it, how it stops, and how the provider calls back."""

from wan25_mcp.hosting.app import create_app
from wan25_mcp.hosting.listening import receive_callbacks
from wan25_mcp.hosting.serving import serve_http

__all__ = ["create_app", "receive_callbacks", "serve_http"]
