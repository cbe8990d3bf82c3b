"""Tallyho from outside: `client.Tallyho` for programs, `command_line` for people."""
