"""The command `wan25-mcp`, also `python -m wan25_mcp`."""

import sys


def main() -> None:
    """Run the command. Ctrl-C during its import leaves no traceback."""
    try:
        from wan25_mcp.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
