"""Prism is built with Go, once; a program in Go's place says what it was asked for."""

import importlib.metadata
import os

import pytest
from deploy.prism import prism_binary

VERSION = importlib.metadata.version("apache-beam")


def go(folder, script: str) -> None:
    """Puts a program into a folder that is called go."""
    folder.mkdir()
    (folder / "go").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "go").chmod(0o755)


def test_it_is_built_once_with_the_version_of_beam(tmp_path, monkeypatch):
    go(tmp_path / "bin", 'echo "$@" > "$GOBIN/prism"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    said = []
    binary = prism_binary(tmp_path / "cache", says=said.append)
    assert binary.read_text() == f"install github.com/apache/beam/sdks/v2/go/cmd/prism@v{VERSION}\n"
    assert said == [f"Building Prism {VERSION}, once: takes about two minutes ..."]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prism_binary(tmp_path / "cache") == binary
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [binary.name]


def test_go_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="Prism is built with Go: install Go so that go is in the PATH"):
        prism_binary(tmp_path)


def test_what_go_complains_about_is_told(tmp_path, monkeypatch):
    go(tmp_path / "bin", "echo no such module; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(RuntimeError, match=r"go install .*failed:\nno such module"):
        prism_binary(tmp_path / "cache")
