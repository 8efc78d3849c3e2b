"""`penstock show`: the first records, sizes, columns, and lines that load the dataset; `prepare` ends with the same."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys

import pytest

from penstock.io.errors import ConfigError
from pipelines import prepare, show
from pipelines._cli.named import statistics_files
from pipelines._inspect import show as _show

ROWS = [{"id": number, "fare": number / 4 if number % 2 else None, "name": f"n{number}" * 20} for number in range(90)]


@pytest.fixture(scope="module")
def rides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rides")
    (folder / "rides.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return folder


@pytest.fixture(scope="module", params=["tfrecord", "parquet"])
def dataset(request, rides):
    """Where a dataset is, and what `prepare` said in the end."""
    output = rides / request.param
    flags = ["--input", str(rides / "rides.jsonl"), "--output", str(output), "--output_format", request.param]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert prepare.run([*flags, "--split", "train=0.7,eval=0.3"]) == 0
    return str(output), printed.getvalue()


def lines_of(text: str) -> list[str]:
    found = re.search(r"how to load it\n((?:  .*\n)+)", text)
    return [line[2:] for line in found[1].splitlines()]


def shown(capsys, *arguments: str) -> str:
    assert show.run(list(arguments)) == 0
    return capsys.readouterr().out


def test_records_columns_and_sizes_are_shown(dataset, capsys):
    text = shown(capsys, dataset[0], "--rows", "2")
    assert re.search(r"train +\d+ +1 +[\d.]+ KiB", text)
    assert re.search(r"eval +\d+ +1 +[\d.]+ (KiB|B)", text)
    assert re.search(r"column +type +train 1 +train 2\n", text)
    assert re.search(r"id +int64 +\d+ +\d+\n", text)
    assert re.search(r"name +(binary|string) +n\d[n\d]+\.\.\.", text)


def test_statistics_are_shown_that_the_dataset_has(dataset, capsys, tmp_path):
    path = dataset[0]
    assert re.search(
        r"statistics of eval\n\n +column +type +missing +distinct .* +most frequent\n +fare +FLOAT +[\d.]+%",
        shown(capsys, path, "--split", "eval"),
    )
    found = json.loads(shown(capsys, path, "--json"))
    ids, fares, names = (
        next(one for one in found["statistics"] if one["column"] == name) for name in ("id", "fare", "name")
    )
    assert ids["rows"] == found["splits"]["train"]["rows"]
    assert (ids["missing"], ids["avg_values"], names["avg_length"] > 40) == (0, None, True)
    assert 0 < fares["missing"] < 1
    shutil.copytree(path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "statistics")
    text = shown(capsys, str(tmp_path / "copy"))
    assert "statistics of train" not in text
    assert "how to load it" in text


def test_statistics_of_spans_that_cannot_be_merged_are_told_of(dataset, capsys, caplog, monkeypatch):
    def refuse(_):
        raise ConfigError("b.pb, beside a.pb: other options")

    path = statistics_files(dataset[0])[0]
    monkeypatch.setattr(_show, "statistics_files", lambda _: [path, path])
    monkeypatch.setattr(_show, "read_statistics", refuse)
    assert "statistics of train" not in shown(capsys, dataset[0])
    assert "statistics are not shown, since those of the spans cannot be merged: b.pb, beside a.pb" in caplog.text


def test_json_has_all_of_the_records(dataset, capsys):
    found = json.loads(shown(capsys, dataset[0], "--split", "eval", "--rows", "1000", "--json"))
    assert found["split"] == "eval"
    assert len(found["rows"]) == found["splits"]["eval"]["rows"]
    assert all(row == {**ROWS[row["id"]]} for row in found["rows"])
    assert [column["name"] for column in found["columns"]] == list(found["rows"][0])


def test_the_lines_load_what_is_shown_and_prepare_ends_with_them(dataset, capsys):
    path, said = dataset
    lines = lines_of(shown(capsys, path))
    assert lines_of(said) == lines
    rows = json.loads(shown(capsys, path, "--json"))["splits"]["train"]["rows"]
    exec("\n".join(lines), own := {})
    assert sum(len(batch["id"]) for batch in own["batches"]) == rows


def test_it_takes_neither_beam_nor_tensorflow(dataset):
    program = (
        f"import sys\nfrom pipelines import show\nshow.run([{dataset[0]!r}])\n"
        "print(sorted({'apache_beam', 'tensorflow', 'torch', 'grpc', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


WRONG = {
    "none": ([], "DATASET is required, one folder that a job wrote: got 0"),
    "two": (["a", "b"], "DATASET is required, .*: got 2"),
    "missing": (["nowhere"], "nowhere: no such folder, or it is empty"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(arguments, message):
    with pytest.raises(ConfigError, match=message):
        show.run(arguments)


def test_a_split_that_is_not_there_is_named(dataset):
    with pytest.raises(ConfigError, match="there is no split 'test'; the splits are train, eval"):
        show.run([dataset[0], "--split", "test"])
