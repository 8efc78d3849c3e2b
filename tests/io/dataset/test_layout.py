import os

import pytest

from penstock.io.dataset.layout import Staging, check_output, new_run_id, part_name, staging_folders
from penstock.io.errors import ConfigError
from penstock.io.files.folders import list_files
from penstock.io.files.owned import owning


def test_names_of_files_to_come():
    staging = Staging("out", "r1")
    assert staging.path("train", "x") == "out/.tmp-r1/train/x"
    assert staging.temporary("chunks", "x") == "out/.tmp-r1/chunks/x"
    assert staging.final_name(staging.path("train", "x")) is None
    staging = Staging("s3://b/out", "r1")
    assert staging.path("train", "x") == "s3://b/out/run-r1/train/x"
    assert staging.temporary("chunks", "x") == "s3://b/out/.tmp-r1/chunks/x"
    assert staging.final_name("s3://b/out/run-r0/train/x") == "run-r0/train/x"
    assert staging.final_name("s3://b/other/run-r1/x") is None
    assert new_run_id() != new_run_id()


@pytest.mark.parametrize("index", [-1, 2])
def test_part_index_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match=rf"index must be in \[0, 2\), got {index}"):
        part_name(index, 2, ".tfrecord")


def test_empty_or_new_output_is_fine_and_left_empty(tmp_path):
    check_output(str(tmp_path), overwrite=False)
    check_output(str(tmp_path / "new" / "folder"), overwrite=False)
    assert list_files(str(tmp_path)) == {}


def test_output_that_is_a_file_or_not_empty_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output .*file: is a file; name a folder"):
        check_output(str(tmp_path / "file"), overwrite=True)
    with pytest.raises(ConfigError, match=r"is not empty \(file\); pass --overwrite"):
        check_output(str(tmp_path), overwrite=False)


def test_the_rest_of_a_killed_run_is_named_once(tmp_path):
    for name in ("schema.pbtxt", "runs/a.run"):
        path = tmp_path / ".tmp-r1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    with pytest.raises(ConfigError, match=r"is not empty \(\.tmp-r1\); pass --overwrite"):
        check_output(str(tmp_path), overwrite=False)


def test_what_killed_runs_left_does_not_fill_an_output(tmp_path):
    staging = tmp_path / ".tmp-r1"
    with owning(str(staging)):
        (staging / "a.run").write_text("")
        with pytest.raises(ConfigError, match=r"is not empty \(\.tmp-r1\)"):
            check_output(str(tmp_path), overwrite=False)
        content = (staging / "owner.lock").read_bytes()
    (staging / "owner.lock").write_bytes(content)  # as a kill leaves it
    (tmp_path / ".tmp-probe-1a2b3c4d").write_text("")
    check_output(str(tmp_path), overwrite=False)
    assert staging_folders(str(tmp_path), "ended") == [".tmp-r1"]
    assert staging.exists()


def test_overwrite_spares_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"no part of a dataset \(thesis\.tex\).*move them away"):
        check_output(str(tmp_path), overwrite=True)


def test_output_that_cannot_be_written_is_refused():
    with pytest.raises(ConfigError, match=r"--output /proc/nothing: cannot be written"):
        check_output("/proc/nothing", overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_output_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be written"):
        check_output(str(tmp_path), overwrite=False)
