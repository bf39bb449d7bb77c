"""Puts this server into the configuration of other programs, and takes it out again."""
