"""Command lines: flags, what they name, and jobs as commands."""
