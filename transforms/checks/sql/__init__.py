"""Rules as SQL expressions: which may run, and how."""
