"""The card in the folder of a dataset: written with each publication, never over what a user wrote."""

import glob
import pathlib

import pyarrow.parquet as pq
import pytest
import yaml
from helpers import manifest_of, run_prepare

from penstock.io.dataset.layout import check_output
from penstock.transforms.verify import verify_dataset
from pipelines import spans
from pipelines._report.card.text import MARKER
from pipelines._report.card.write import write_card


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset of Parquet of two spans, and its card after each of them."""
    folder = tmp_path_factory.mktemp("card")
    cards = []
    for day in (1, 2):
        rows = [f"{day * 100 + row},{row}.5" for row in range(20)]
        (folder / f"day{day}.csv").write_text("\n".join(["id,fare", *rows]) + "\n")
        flags = ["--split=train=0.5,eval=0.5", "--split_key=id", "--output_format=parquet"] if day == 1 else []
        assert run_prepare(f"--input={folder}/day*.csv", f"--output={folder}/out", "--append", *flags) == 0
        cards.append((folder / "out/README.md").read_text())
    return folder / "out", cards


def test_its_patterns_are_the_splits_that_pyarrow_reads(made):
    dataset, cards = made
    (config,) = yaml.safe_load(cards[1].split("---\n")[1])["configs"]
    rows = {}
    for one in config["data_files"]:
        patterns = [one["path"]] if isinstance(one["path"], str) else one["path"]
        files = [path for pattern in patterns for path in glob.glob(f"{dataset}/{pattern}")]
        rows[one["split"]] = sum(pq.read_table(path).num_rows for path in files)
    assert rows == manifest_of(dataset).splits


def test_it_follows_what_is_published(made):
    dataset, cards = made
    assert ["20 rows" in cards[0], "40 rows" in cards[1]] == [True, True]
    assert list(verify_dataset(str(dataset))) == []
    assert spans.drop_span([str(dataset), "2"]) == 0
    after = (dataset / "README.md").read_text()
    assert "20 rows" in after
    assert "version 3" in after


def test_one_of_a_user_stays_and_that_is_told(made, tmp_path, caplog):
    dataset = tmp_path / "out"
    dataset.mkdir()
    (dataset / "README.md").write_text("mine")
    check_output(str(dataset), overwrite=False)  # it does not fill the folder
    (dataset / "manifest.json").write_bytes((made[0] / "manifest.json").read_bytes())
    write_card(str(dataset))
    assert (dataset / "README.md").read_text() == "mine"
    assert "is left as it is" in caplog.text


def test_what_stands_in_its_way_is_a_warning(tmp_path, caplog):
    write_card(str(tmp_path / "nothing"))
    assert "could not be written: DataError: nothing is published" in caplog.text
    assert not pathlib.Path(tmp_path, "nothing", "README.md").exists()


def test_the_same_is_not_written_again(made):
    card = made[0] / "README.md"
    write_card(str(made[0]))
    before = card.stat().st_mtime_ns
    write_card(str(made[0]))
    assert card.stat().st_mtime_ns == before
    assert MARKER in card.read_text()


def test_one_of_a_user_outlives_what_is_overwritten(tmp_path):
    (tmp_path / "in.csv").write_text("id\n1\n2\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    for more in ([], ["--overwrite"]):
        assert run_prepare(f"--input={tmp_path}/in.csv", f"--output={tmp_path}/out", *more) == 0
        assert (tmp_path / "out" / "README.md").read_text() == "mine"
        assert list(verify_dataset(f"{tmp_path}/out")) == []
