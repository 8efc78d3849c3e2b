"""Inventories of buckets as S3, Google and Azure write them."""

import pytest

from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile
from penstock.io.sources.inputs import find_named
from penstock.io.sources.lists.inventory import read_inventory

S3 = """"b","in/day%3D1/a+b%2Bc.csv","12","2026-05-01T10:00:00.000Z","d41d8cd98f00b204e9800998ecf8427e"
"b","in/d%C3%A9.csv","0","2026-05-02T10:00:00.000Z","x-2"
"""
S3_NAMES = ("Bucket", "Key", "Size", "LastModifiedDate", "ETag")
S3_FILES = [
    InputFile("s3://b/in/day=1/a b+c.csv", 12, 1777629600.0, '"d41d8cd98f00b204e9800998ecf8427e"'),
    InputFile("s3://b/in/dé.csv", 0, 1777716000.0, '"x-2"'),
]
GOOGLE = """project,bucket,name,location,size,timeDeleted,updated,generation
p,b,in/a+b%20c.csv,EU,12,,2026-05-01T10:00:00Z,1777629600000001
p,b,in/old.csv,EU,12,2026-05-02T00:00:00Z,2026-05-01T10:00:00Z,1777629600000002
p,b,in/,EU,0,,2026-05-01T10:00:00Z,1777629600000003
"""
AZURE = """Name,Creation-Time,Last-Modified,Content-Length,Etag,hdi_isfolder,IsCurrentVersion,Snapshot
c/in/a.csv,2026-05-01T09:00:00Z,2026-05-01T10:00:00,12,0x8D,false,true,
c/in/b.csv,2026-05-01T09:00:00Z,2026-05-01T10:00:00,12,0x8D,,,
c/in,2026-05-01T09:00:00Z,2026-05-01T10:00:00,0,0x8D,true,,
c/in/a.csv,2026-05-01T09:00:00Z,2026-05-01T10:00:00,11,0x8C,,false,
c/in/a.csv,2026-05-01T09:00:00Z,2026-05-01T10:00:00,11,0x8C,,,2026-05-01T10:00:00Z
"""


def read(text, names=()):
    return read_inventory(text.encode(), "i.csv", names)


def test_s3_with_names_with_a_header_and_with_both():
    assert read(S3, S3_NAMES) == S3_FILES
    assert read(",".join(S3_NAMES) + "\n" + S3) == S3_FILES
    assert read(",".join(S3_NAMES) + "\n" + S3, ("bucket", "key", "size", "last modified", "etag")) != []


def test_of_versions_the_newest():
    names = ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size")
    text = "b,a.csv,2,true,false,5\nb,a.csv,1,false,false,4\nb,gone.csv,3,true,true,\n"
    assert read(text, names) == [InputFile("s3://b/a.csv", 5, 0.0)]


def test_google_and_azure():
    assert read(GOOGLE) == [InputFile("gs://b/in/a+b%20c.csv", 12, 1777629600.0, "1777629600000001")]
    assert read(AZURE) == [InputFile(f"az://c/in/{name}.csv", 12, 1777629600.0, '"0x8D"') for name in "ab"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "b,a.csv,1\n",
            r"^i\.csv:1: the first line does not name the columns .* pass --inventory_columns, or, .*\.txt$",
        ),
        ("Bucket,Key,Size\nb,a.csv\n", r"^i\.csv:2: must have 3 fields, as there are columns, got 2$"),
        (
            "Bucket,Key,Size\nb,a.csv,big\n",
            r"^i\.csv:2: the size must be a number of bytes, got 'big'; check the order",
        ),
        ('Bucket,Key,Size\nb,"a\nb",1\nb,%ff,1\n', r"^i\.csv:4: the key '%ff' is not URL-encoded UTF-8$"),
        ("Bucket,Key,Size\n,a.csv,1\n", r"^i\.csv:2: the line names no object; check the order of the columns$"),
        ("Bucket,Key,Size\nb,a//b.csv,1\n", r"^i\.csv:2: s3://b/a//b\.csv has an empty part, which no path here"),
        ("Bucket,Key,Size\nb,a.csv,1\nb,a.csv,2\n", r"^i\.csv:3: s3://b/a\.csv stands in the inventory with another"),
        ('Bucket,Key,Size\nb,"a.csv,1\n', r"^i\.csv:2: the line is not CSV: "),
        ("Bucket,Key,Size,ETag,IsLatest\nb,a,1,x,maybe\n", r"^i\.csv:2: must be true or false, got 'maybe'; check"),
        ("bucket,name,size,updated\nb,a,1,yesterday\n", r"^i\.csv:2: the time must be ISO 8601, got 'yesterday'; "),
        ("bucket,name,size,generation\nb,a,1,x\n", r"^i\.csv:2: the generation must be a number, got 'x'; "),
    ],
)
def test_lines_that_are_no_objects(text, message):
    with pytest.raises(InputError, match=message):
        read(text)


def test_names_that_do_not_tell_an_object():
    with pytest.raises(
        ConfigError, match=r"^--inventory_columns Bucket,Size: must name Bucket,Key,Size \(S3\), bucket"
    ):
        read(S3, ("Bucket", "Size"))


def test_an_inventory_is_read_as_a_folder_is(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    names = ("in/a.csv", "in/_SUCCESS", "in/.tmp/b.csv", "README.md")
    text = "Bucket,Key,Size\n" + "".join(f"b,{name},1\n" for name in names)
    (tmp_path / "i.csv").write_text(text)
    found = find_named(["@i.csv"])
    assert [file.uri for file in found.files] == ["s3://b/in/a.csv"]
    assert [each.describe() for each in found.lists] == [
        {"uri": "i.csv", "kind": "inventory", "files": 2, "sha256": found.lists[0].sha256}
    ]
    assert "left out s3://b/in/.tmp/b.csv and 1 more, whose names begin with _ or ." in caplog.text
    assert "left out s3://b/README.md, whose suffixes tell no format" in caplog.text
    (tmp_path / "i.csv").write_text(text + "b,x.jsonl,1\n")
    with pytest.raises(InputError, match="files of several formats"):
        find_named(["@i.csv"])
    (tmp_path / "i.csv").write_text("Bucket,Key,Size\n")
    with pytest.raises(InputError, match=r"^@i\.csv: the inventory names no object that is there$"):
        find_named(["@i.csv"])
