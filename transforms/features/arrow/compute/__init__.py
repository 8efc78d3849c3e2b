"""Columns, and what each operation computes of them, and an analysis of the rows of a fit."""
