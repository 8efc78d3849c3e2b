"""Checks of rows: schema, domains and rules."""
