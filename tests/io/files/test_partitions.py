"""Columns from the names of folders."""

import pytest

from penstock.io.errors import InputError
from penstock.io.files.partitions import partition_columns, partition_values, unused_partition

VALUES = {
    "none": ("data/a.csv", {}),
    "file alone": ("a=b.csv", {}),
    "one": ("w/year=2014/a.csv", {"year": "2014"}),
    "several, outermost first": ("w/year=2014/month=02/a.csv", {"year": "2014", "month": "02"}),
    "the first folder": ("year=2014/a.csv", {"year": "2014"}),
    "absolute": ("/year=2014/a.csv", {"year": "2014"}),
    "far above": ("/srv/run=7/data/a.csv", {}),
    "below others": ("/srv/run=7/data/year=1/a.csv", {"year": "1"}),
    "null": ("w/city=__HIVE_DEFAULT_PARTITION__/a.csv", {"city": None}),
    "empty": ("w/city=/a.csv", {"city": ""}),
    "no name": ("w/=x/a.csv", {}),
    "second sign": ("w/eq=a=b/a.csv", {"eq": "a=b"}),
    "escapes": ("w/a%20b=S%C3%A3o%2FRio%3D1/a.csv", {"a b": "São/Rio=1"}),
    "a plus is a plus": ("w/x=1+1/a.csv", {"x": "1+1"}),
    "no escape": ("w/x=100%/a.csv", {"x": "100%"}),
    "not ASCII": ("w/größe=äöü/a.csv", {"größe": "äöü"}),
    "store": ("gs://bucket/w/year=2014/a.csv", {"year": "2014"}),
    "a bucket is no folder": ("gs://a=b/x.csv", {}),
}


@pytest.mark.parametrize("case", VALUES)
def test_values(case):
    uri, values = VALUES[case]
    found = partition_values(uri)
    assert found == values
    assert list(found) == list(values)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("w/_split=train/a.csv", r"w/_split=train/a\.csv: the folder '_split=train' gives a column name that Penstock"),
        ("w/a=1/a=2/x.csv", r"two folders give the column 'a'; rename the folder, or pass --partitioning none"),
        ("w/a=%FF/x.csv", r"the escapes of the folder 'a=%FF' are not UTF-8"),
    ],
)
def test_folders_that_cannot_be_columns(uri, message):
    with pytest.raises(InputError, match=message):
        partition_values(uri)


FORMS = {
    "whole": (["2014", "-1", "0"], "whole numbers"),
    "beyond int64": (["9223372036854775807", "9223372036854775808"], "texts"),
    "padded": (["02", "11"], "texts, since 02 has a leading zero; a schema with INT reads numbers"),
    "fractions": (["0.5", "1"], "texts"),
    "texts": (["a", "1"], "texts"),
    "null among numbers": (["1", "__HIVE_DEFAULT_PARTITION__"], "whole numbers"),
    "null alone": (["__HIVE_DEFAULT_PARTITION__"], "texts"),
    "empty": ([""], "texts"),
}


@pytest.mark.parametrize("case", FORMS)
def test_the_form_follows_from_all_files(case):
    values, form = FORMS[case]
    assert partition_columns(f"w/k={value}/a.csv" for value in values) == {"k": form}


def test_the_order_of_folders_does_not_matter():
    assert partition_columns(["a=1/b=x/f", "b=y/a=2/f"]) == {"a": "whole numbers", "b": "texts"}
    assert partition_columns([]) == partition_columns(["x/a.csv", "b.csv"]) == {}


@pytest.mark.parametrize(
    ("uris", "message"),
    [
        (["y=1/a.csv", "b.csv"], r"y=1/a\.csv has y, b\.csv has no columns; name files of folders that are alike, or"),
        (["y=1/m=2/a.csv", "y=1/a.csv"], r"y=1/m=2/a\.csv has y, m, y=1/a\.csv has y;"),
        (["y=1/a.csv", "Y=1/a.csv"], r"has y, Y=1/a\.csv has Y;.* pass --partitioning none"),
    ],
)
def test_files_with_different_columns_are_refused(uris, message):
    with pytest.raises(InputError, match=message):
        partition_columns(uris)


def test_a_folder_that_is_no_column_is_found():
    assert unused_partition(["a.csv", "y=1/b.csv"]) is None
    assert unused_partition(["a.csv", "/srv/run=7/data/a.csv"]) == ("/srv/run=7/data/a.csv", "run=7")
