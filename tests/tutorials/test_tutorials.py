"""The tutorials print what they say; docs/tutorials/stream.md runs in tests/integration, on a runner of streams."""

import pathlib
import subprocess
import sys

import pytest
from tutorials.page import agrees, blocks, check, update

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_a_first_model(tmp_path):
    pytest.importorskip("tensorflow_transform")
    page = ROOT / "docs" / "tutorials" / "first_model.md"
    # A process of its own: TensorFlow, and the warnings of others, have nothing to do with the other tests.
    command = [sys.executable, str(ROOT / "tests" / "tutorials" / "page.py"), str(page)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_pipelines_of_your_own(tmp_path):
    """Dicts, lines, rows, a database, messages, Beam YAML: each on Beam's default runner."""
    pytest.importorskip("apache_beam.yaml.yaml_transform", reason="needs the extra yaml")
    page = ROOT / "docs" / "pipelines.md"
    command = [sys.executable, str(ROOT / "tests" / "tutorials" / "page.py"), str(page)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PAGE = """Text.

```python
x = 1 + 1
```

```sh
echo 'in 2.5 s'
```

```text
in 9.1 s
```

```python
print(x, "rows")
```

```text
2 rows
```
"""


@pytest.fixture
def page(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path / "page.md"


def test_blocks_run_in_order_and_share_their_names(page):
    assert [(block.language, block.line, block.printed) for block in blocks(PAGE)] == [
        ("python", 4, None),
        ("sh", 8, "in 9.1 s\n"),
        ("python", 16, "2 rows\n"),
    ]
    check(page)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 rows\n", "3 rows\n", "page.md:16 prints\n2 rows"),
        ("echo", "exit 3; echo", "page.md:8: exit code 3"),
        ("echo", "ls nowhere;", "nowhere"),
        ("print(x", "print(y", "name 'y' is not defined"),
    ],
)
def test_a_page_that_is_not_true_fails(page, old, new, message):
    page.write_text(PAGE.replace(old, new))
    with pytest.raises((AssertionError, RuntimeError, NameError)) as failed:
        check(page)
    assert message in str(failed.value)


def test_update_writes_what_differs_and_leaves_what_the_machine_decides(page):
    page.write_text(PAGE.replace("2 rows\n", "3 rows\nand more\n"))
    update(page)
    assert page.read_text() == PAGE


@pytest.mark.parametrize("said", ["8,003 rows 0.02%", "8,002 rows 0.03%"])
def test_counts_must_be_right(said):
    assert agrees("8,002  rows   0.02%", "8,002 rows 0.02%")
    assert not agrees("8,002 rows 0.02%", said)
