"""From a result link to a file on this machine."""
