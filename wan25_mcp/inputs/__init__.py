"""From what a caller named to a link that the provider can download."""
