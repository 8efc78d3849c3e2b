"""Measures Penstock beside its peers; see README.md here."""
