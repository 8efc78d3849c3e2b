"""Decoding the bytes of messages, whichever source they come from."""
