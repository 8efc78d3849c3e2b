"""Rejected rows: their record, what they held, and how they are written."""
