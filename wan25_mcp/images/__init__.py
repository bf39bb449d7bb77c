"""Images on this machine: results are saved before their links die."""

from wan25_mcp.images.saving import NotSaved, default_directory, save_images, stem_of

__all__ = ["NotSaved", "default_directory", "save_images", "stem_of"]
