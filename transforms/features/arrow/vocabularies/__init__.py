"""Vocabularies: their terms counted, ordered, kept and looked up, with the values of tensorflow-transform."""
