"""`python -m wan25_mcp` is the command `wan25-mcp`."""

from wan25_mcp.cli.main import main

if __name__ == "__main__":
    main()
