"""The API key that is kept on this machine for this user."""
