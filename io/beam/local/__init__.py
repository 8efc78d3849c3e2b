"""Streams on this machine: Prism as a process, and how a stream stops in order."""
