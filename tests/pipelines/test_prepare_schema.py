"""What becomes of rows that break the schema: environments, severity, and what is told of it."""

import json

import pytest
from helpers import dead_letters, examples, job, manifest_of, run_prepare, window_examples, write_csv, write_schema_file

from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.reasons import Note
from penstock.transforms.features.apply import transformed_schema
from penstock.transforms.verify import verify_dataset
from pipelines import fit, relax, replay
from pipelines._jobs import fit as _fit
from pipelines._jobs import prepare as _prepare
from pipelines._jobs import replay as _replay
from pipelines._options.prepare import PrepareOptions
from pipelines._report.result import DONE, WRONG_USAGE

# The shape of a schema that TFDV has inferred, and of rows that have less than it demands.
TRIPS = """
default_environment: "TRAINING"
default_environment: "SERVING"
feature { name: "company" type: BYTES domain: "company" presence { min_fraction: 1 min_count: 1 } }
feature { name: "fare" type: FLOAT value_count { min: 1 max: 1 } presence { min_fraction: 1 min_count: 1 }
          float_domain { min: 0 max: 100 } }
feature { name: "start" type: INT value_count { min: 1 max: 1 } presence { min_fraction: 1 min_count: 1 } }
feature { name: "tract" type: INT presence { min_count: 1 } drift_comparator { infinity_norm { threshold: 0.1 } } }
feature { name: "tips" type: FLOAT value_count { min: 1 max: 1 } presence { min_fraction: 1 min_count: 1 }
          not_in_environment: "SERVING" }
string_domain { name: "company" value: "A" value: "B" }
"""

NAMES = ("company", "fare", "start", "tract", "tips")
ROWS = [
    dict(zip(NAMES, row, strict=True))
    for row in [
        ("A", 5.5, 60, None, 0.5),
        (None, 7.0, 61, None, 0.0),
        ("C", 8.0, 62, None, 1.0),
        ("B", 250.0, 121, None, 0.0),
        ("C", None, 122, None, 2.0),
    ]
]
WARNED = {
    "schema.domain company": 2,
    "schema.domain fare": 1,
    "schema.presence company": 1,
    "schema.presence fare": 1,
}

# Its label enters by itself, and with a feature.
TIPS = """
import tensorflow as tf
import tensorflow_transform as tft

def preprocessing_fn(inputs):
    fare = tft.scale_to_z_score(inputs["fare"])
    tips = tf.sparse.to_dense(inputs["tips"])[:, 0] if isinstance(inputs["tips"], tf.SparseTensor) else inputs["tips"]
    return {
        "fare_xf": fare,
        "start_xf": inputs["start"],
        "tips_xf": tf.cast(tips > tft.mean(tips), tf.int64),
        "tips_list": inputs["tips"],
        "rate_xf": tips - tf.cast(tf.size(inputs["start"]), tf.float32),
    }
"""

UNCHECKED_TEXT = "the schema demands what no row alone can break, and what is not checked"


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "schema.pbtxt"
    path.write_text(TRIPS)
    return path


@pytest.fixture
def trips(tmp_path):
    return write_csv(tmp_path / "trips.csv", ROWS, NAMES)


@pytest.fixture
def serving(tmp_path):
    return write_csv(tmp_path / "serving.csv", ROWS[:1], NAMES[:-1])


@pytest.fixture
def unread(monkeypatch):
    """Fails a job that goes on to its input."""

    def fails(*_):
        raise AssertionError("the input is read")

    for module in (_prepare, _fit):
        monkeypatch.setattr(module, "look_at", fails)


def told(notes, prefix="schema."):
    return {
        f"{note.code} {note.subject}": note.count
        for note in notes
        if note.code.startswith(prefix) and note.code != "schema.unchecked"
    }


def is_good(dataset):
    return list(verify_dataset(str(dataset))) == []


class TestEnvironment:
    def test_rows_without_a_label_are_prepared_with_the_training_schema(self, tmp_path, schema, serving):
        out = tmp_path / "out"
        flags = ("--input", serving, "--schema", schema, "--output")
        assert "column 'tips' is required by the schema" in job(*flags, tmp_path / "all")[1]
        assert run_prepare(*flags, out, "--environment=SERVING") == DONE
        assert examples(out) == [{"company": ["A"], "fare": [5.5], "start": [60]}]
        assert "tips" not in (out / "schema.pbtxt").read_text()
        assert told(manifest_of(out).notes) == {}
        assert is_good(out)

    def test_a_label_that_is_there_is_left_out_and_told(self, tmp_path, schema, trips, capsys):
        out = tmp_path / "out"
        flags = ("--environment=SERVING", "--schema_mode=warn")
        assert run_prepare("--input", trips, "--schema", schema, "--output", out, *flags) == DONE
        assert all("tips" not in row for row in examples(out))
        note = next(note for note in manifest_of(out).notes if note.code == "schema.environment")
        assert (note.subject, note.count) == ("tips", 5)
        assert note.detail.startswith("has a value, which the schema does not expect in the environment SERVING; it is")
        shown = capsys.readouterr().out
        title = shown.index("passed with a warning (a row may have several)")
        assert "schema.environment tips   5\n    has a value" in shown[title:]
        assert "schema.presence company   1\n    company is null, the schema demands a value" in shown[title:]
        assert "schema.unchecked" not in shown

    def test_the_split_of_a_row_does_not_depend_on_the_label(self, tmp_path, schema, trips, serving):
        flags = ("--schema", schema, "--environment=SERVING", "--schema_mode=off", "--split=a=0.5,b=0.5")
        assert run_prepare("--input", trips, "--output", tmp_path / "with", *flags) == DONE
        assert run_prepare("--input", serving, "--output", tmp_path / "without", *flags) == DONE
        row = {"company": ["A"], "fare": [5.5], "start": [60]}
        split = "a" if manifest_of(tmp_path / "without").splits["a"] else "b"
        assert row in examples(tmp_path / "with", split)

    def test_outputs_of_a_graph_that_need_the_label_are_left_out_where_it_serves(
        self, tmp_path, schema, trips, serving, capsys
    ):
        tft = pytest.importorskip("tensorflow_transform")
        (tmp_path / "module.py").write_text(TIPS)
        features = ("--features", tmp_path / "module.py", "--schema_warn=company.presence,*.domain")
        flags = ("--schema", schema, "--output")
        assert run_prepare("--input", trips, *flags, tmp_path / "trained", "--max_reject_fraction=1", *features) == DONE
        graph, out = ("--transform", tmp_path / "trained" / "transform"), tmp_path / "out"
        assert "column 'tips' is required" in job("--input", serving, *flags, tmp_path / "all", *graph)[1]
        capsys.readouterr()
        assert run_prepare("--input", serving, *flags, out, *graph, "--environment=SERVING") == DONE
        trained = next(row for row in examples(tmp_path / "trained") if row["start_xf"] == [60])
        kept = {name: values for name, values in trained.items() if name in ("fare_xf", "start_xf")}
        assert examples(out) == [kept]
        assert is_good(out)
        note = Note(
            "transform.left_out",
            "rate_xf, tips_list, tips_xf",
            3,
            "needs what the environment SERVING does not expect; it is not computed",
        )
        assert note in manifest_of(out).notes
        assert (
            f"features that are left out\n  {note.code} {note.subject}   3\n    needs what" in capsys.readouterr().out
        )
        published = tft.TFTransformOutput(str(out / "transform"))
        assert set(published.transformed_feature_spec()) == kept.keys()
        # A dataset of the graph of a dataset, whose schema does not have the label.
        again = ("--schema", out / "schema.pbtxt", "--transform", out / "transform", "--output", tmp_path / "again")
        assert run_prepare("--input", serving, *again) == DONE
        assert examples(tmp_path / "again") == [kept]
        found = next(note for note in manifest_of(tmp_path / "again").notes if note.code == "transform.left_out")
        assert found.detail == "was left out of the graph before; it is not computed"

    @pytest.mark.parametrize(
        "body", ["{'a': inputs['tips']}", "{'a': inputs['start'], 'b': checked(inputs['tips'])}"], ids=["all", "check"]
    )
    def test_a_graph_that_cannot_do_without_the_label_is_refused(self, tmp_path, schema, trips, serving, body):
        pytest.importorskip("tensorflow_transform")
        checked = "    tf.debugging.assert_non_negative(x.values)\n    return x"
        function = f"def preprocessing_fn(inputs):\n    return {body}\n"
        (tmp_path / "module.py").write_text(f"import tensorflow as tf\ndef checked(x):\n{checked}\n{function}")
        flags = ("--schema", schema, "--schema_warn=company.presence,*.domain", "--output", tmp_path / "graph")
        assert job("--input", trips, *flags, "--features", tmp_path / "module.py", run=fit.run) == (DONE, "")
        given = ("--schema", schema, "--output", tmp_path / "out", "--transform", tmp_path / "graph")
        code, told_of = job("--input", serving, *given, "--environment=SERVING")
        message = (
            "each output of the graph, or a check on which all of them depend, needs 'tips', which the environment "
            "does not expect; fit a graph without it"
        )
        assert (code, message in told_of) == (WRONG_USAGE, True), told_of

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (
                ["--environment=SERVNG"],
                "environment 'SERVNG' is not in the schema; did you mean 'SERVING'? it names SERVI",
            ),
            (["--environment=SERVING", "--label=tips"], "label 'tips' is not a feature of the schema"),
            (
                ["--schema_warn=compny"],
                "schema_warn 'compny': 'compny' is not a feature of the schema; did you mean 'com",
            ),
            (
                ["--schema_warn=company.domain,fare.domian"],
                "'domian' is no reason of the schema; did you mean 'domain'?",
            ),
            (["--schema_mode=warn", "--schema_warn=fare"], "schema_mode warn lets all of the schema warn"),
            (["--schema_mode=loud"], "invalid choice: 'loud'"),
        ],
    )
    @pytest.mark.parametrize("run", [None, fit.run, replay.run])
    def test_what_does_not_fit_is_refused_before_the_input_is_read(
        self, tmp_path, schema, trips, unread, flags, message, run
    ):
        given = ["--input", trips, "--schema", schema, "--output", tmp_path / "out", *flags]
        if run is fit.run:
            pytest.importorskip("tensorflow")
            (tmp_path / "f.yaml").write_text("features:\n  fare: {input: fare}\n")
            given += ["--features", tmp_path / "f.yaml"]
        if run is replay.run:
            letters = tmp_path / "letters.jsonl"
            letters.write_text("")
            given = ["--dead_letters", letters, *given[2:]]
        code, stderr = job(*given) if run is None else job(*given, run=run)
        assert (code, message in stderr) == (WRONG_USAGE, True), stderr

    @pytest.mark.parametrize("flag", ["--environment=SERVING", "--schema_mode=warn", "--schema_warn=fare"])
    def test_without_a_schema_there_is_nothing_to_say_of_it(self, tmp_path, trips, unread, flag):
        code, stderr = job("--input", trips, "--output", tmp_path / "out", flag)
        assert code == WRONG_USAGE
        assert f"{flag.partition('=')[0]} is about a schema that is given" in stderr


class TestSeverity:
    def test_rows_that_only_warn_pass_and_are_counted(self, tmp_path, schema, trips, capsys, caplog):
        out = tmp_path / "out"
        flags = ("--input", trips, "--schema", schema, "--output")
        assert job(*flags, tmp_path / "strict")[0] == 1
        capsys.readouterr()
        caplog.clear()
        assert run_prepare(*flags, out, "--schema_mode=warn", "--json") == DONE
        manifest = manifest_of(out)
        assert (manifest.rows_out, manifest.rejected_by_reason) == (5, {})
        assert told(manifest.notes) == WARNED
        assert (
            Note("schema.domain", "fare", 1, "fare is 250.0, above 100, the greatest value of float_domain")
            in manifest.notes
        )
        assert {note.subject for note in manifest.notes if note.code == "schema.unchecked"} == {
            "drift_comparator",
            "presence.min_count",
        }
        said = [record.getMessage() for record in caplog.records if "not checked" in record.getMessage()]
        assert said == [f"{UNCHECKED_TEXT}: drift_comparator of tract; presence.min_count of tract"]
        printed = json.loads(capsys.readouterr().out)
        assert {
            f"{note['code']} {note['subject']}": note["count"] for note in printed["notes"]
        }.items() >= WARNED.items()
        assert is_good(out)

    def test_single_features_and_reasons_by_a_config_file(self, tmp_path, schema, trips):
        out, config = tmp_path / "out", tmp_path / "job.yaml"
        config.write_text("schema_warn: [company.presence, '*.domain']\nmax_reject_fraction: 1\n")
        assert run_prepare("--config", config, "--input", trips, "--schema", schema, "--output", out) == DONE
        assert told(manifest_of(out).notes) == {
            "schema.presence company": 1,
            "schema.domain company": 1,
            "schema.domain fare": 1,
        }
        assert manifest_of(out).rejected_by_reason == {"schema.presence": 1}, "the row without a fare"
        assert is_good(out)

    def test_the_flag_may_be_repeated(self):
        flags = ["--schema_warn=a.presence,b", "--schema_warn", "c.domain", "--input=i", "--output=o"]
        assert PrepareOptions.parse(flags).checks.schema_warn == ("a.presence", "b", "c.domain")

    def test_off_looks_for_nothing_but_what_cannot_be_encoded(self, tmp_path, schema):
        rows = write_csv(tmp_path / "in.csv", [*ROWS, dict(ROWS[0], start="soon")], NAMES)
        out = tmp_path / "out"
        flags = ("--schema_mode=off", "--max_reject_fraction=0.5")
        assert run_prepare("--input", rows, "--schema", schema, "--output", out, *flags) == DONE
        assert (manifest_of(out).rows_out, manifest_of(out).rejected_by_reason) == (5, {"schema.type": 1})
        assert told(manifest_of(out).notes) == {}
        assert is_good(out)

    def test_each_window_counts_its_own(self, tmp_path, schema, trips):
        out = tmp_path / "out"
        flags = ("--event_time=start:s", "--window=fixed:60s", "--num_shards=1", "--schema_mode=warn")
        assert run_prepare("--input", trips, "--schema", schema, "--output", out, *flags) == DONE
        first, second = read_window_manifests(str(out))
        assert told(first.notes) == {"schema.domain company": 1, "schema.presence company": 1}
        assert told(second.notes) == {"schema.domain company": 1, "schema.domain fare": 1, "schema.presence fare": 1}
        assert len(window_examples(out, first)) == 3
        assert is_good(out)

    def test_rows_that_are_rejected_later_are_not_among_the_warned(self, tmp_path, schema, trips):
        rules, rolling, out = tmp_path / "rules.yaml", tmp_path / "rolling.yaml", tmp_path / "out"
        rules.write_text("unique: [company]\nrules:\n- {name: cheap, sql: fare < 8, severity: warn}\n")
        rolling.write_text("rolling: {key: company, window: 1h, features: {seen: {op: count}}}\n")
        flags = ("--event_time=start:s", "--rules", rules, "--rolling", rolling, "--max_reject_fraction=1")
        code, stderr = job("--input", trips, "--schema", schema, "--output", out, *flags, "--schema_mode=warn")
        assert code == DONE, stderr
        manifest = manifest_of(out)
        assert manifest.rejected_by_reason == {"unique.company": 1}
        assert told(manifest.notes) == {
            "schema.domain company": 1,
            "schema.domain fare": 1,
            "schema.presence company": 1,
        }
        assert told(manifest.notes, "rule.") == {"rule.cheap fare": 2}

    def test_a_replay_takes_the_severity_and_the_schema_of_the_run(self, tmp_path, schema):
        rows = write_csv(tmp_path / "in.csv", [*ROWS, dict(ROWS[1], fare="free")], NAMES)
        out, again = tmp_path / "out", tmp_path / "again"
        flags = ("--schema_mode=warn", "--environment=SERVING", "--max_reject_fraction=1")
        assert run_prepare("--input", rows, "--schema", schema, "--output", out, *flags) == DONE
        given = ["--dead_letters", str(out / "dead_letters" / "*.jsonl"), "--output", str(again)]
        assert replay.run(given) == DONE
        options = manifest_of(again).provenance["options"]
        assert (options["schema_mode"], options["environment"]) == ("warn", None)
        assert [letter["reason"] for letter in dead_letters(again)] == ["schema.type"]
        assert _replay.inherited_flags(_replay.letter_files(given[1:2]), {"schema"})["environment"] == "SERVING"


class TestInferred:
    def test_an_inferred_schema_holds_by_itself(self, tmp_path, trips, caplog):
        assert run_prepare("--input", trips, "--output", tmp_path / "out") == DONE
        assert not [record for record in caplog.records if "not checked" in record.getMessage()]
        assert not [note for note in manifest_of(tmp_path / "out").notes if note.code == "schema.unchecked"]


def test_a_fit_leaves_out_the_rows_that_its_graph_cannot_take(tmp_path, schema, trips, capsys):
    pytest.importorskip("tensorflow_transform")
    (tmp_path / "f.yaml").write_text("features:\n  fare: {ops: [scale_to_0_1]}\n  where: {input: company}\n")
    flags = ("--schema_mode=warn", "--features", tmp_path / "f.yaml", "--max_reject_fraction=0.5")
    assert run_prepare("--input", trips, "--schema", schema, "--output", tmp_path / "out", *flags) == DONE
    manifest = manifest_of(tmp_path / "out")
    assert manifest.rejected_by_reason == {"transform.error": 1}, "the row without a fare"
    assert told(manifest.notes) == {"schema.domain company": 1, "schema.domain fare": 1, "schema.presence company": 1}
    assert is_good(tmp_path / "out")


@pytest.mark.slow
def test_a_row_that_a_function_can_take_is_fitted_on_though_the_schema_warns(tmp_path):
    """TFX's taxi module fills what is missing: a mean without these rows is none of tensorflow-transform's."""
    pytest.importorskip("tensorflow_transform")
    rows = write_csv(tmp_path / "in.csv", [{"n": n, "x": x} for n, x in enumerate((1, None, 3, None))], ("n", "x"))
    one = "value_count { min: 1 max: 1 } presence { min_fraction: 1 }"
    schema = write_schema_file(tmp_path / "schema.pbtxt", n=f"INT {one}", x=f"FLOAT {one}")
    (tmp_path / "module.py").write_text(
        "import tensorflow as tf\nimport tensorflow_transform as tft\n"
        "def preprocessing_fn(inputs):\n"
        "    x = inputs['x']\n"
        "    x = tf.sparse.to_dense(tf.SparseTensor(x.indices, x.values, [x.dense_shape[0], 1]), default_value=0.0)\n"
        "    return {'x': tft.mean(x) + 0 * x, 'n': inputs['n']}\n"
    )
    flags = ("--input", rows, "--schema", schema, "--schema_mode=warn", "--features", tmp_path / "module.py")
    assert run_prepare(*flags, "--output", tmp_path / "out", "--max_reject_fraction=0") == DONE
    assert [row["x"] for row in examples(tmp_path / "out")] == [[1.0]] * 4
    assert told(manifest_of(tmp_path / "out").notes) == {"schema.presence x": 2}


@pytest.mark.parametrize("severity", ["--schema_mode=off", "--schema_warn=x.nan"])
def test_a_nan_that_only_warns_becomes_the_feature_that_tensorflow_transform_gives(tmp_path, severity):
    """Its own statistics of 1, 2, 3 and 6, without the NaN: mean 3, variance 3.5."""
    pytest.importorskip("tensorflow_transform")
    rows = write_csv(tmp_path / "in.csv", [{"x": x, "y": 1} for x in (1, 2, 3, "nan", 6)], ("x", "y"))
    one = "value_count { min: 1 max: 1 } presence { min_fraction: 1 }"
    schema = write_schema_file(tmp_path / "schema.pbtxt", x=f"FLOAT {one}", y=f"FLOAT {one}")
    ops = "x: {ops: [scale_to_z_score]}\n  b: {input: x, ops: [{bucketize: 4}]}\n  y: {}\n"
    (tmp_path / "f.yaml").write_text(f"features:\n  {ops}")
    flags = ("--input", rows, "--schema", schema, "--features", tmp_path / "f.yaml", "--max_reject_fraction=0")
    assert run_prepare(*flags, "--output", tmp_path / "out", severity) == DONE
    found = {row["b"][0]: row["x"][0] for row in examples(tmp_path / "out") if row["x"][0] == row["x"][0]}
    wanted = {bucket: (x - 3) / 3.5**0.5 for bucket, x in enumerate((1, 2, 3, 6))}
    assert found == pytest.approx(wanted, rel=1e-6)
    assert manifest_of(tmp_path / "out").rows_out == 5
    domains = {
        feature.name: feature.float_domain for feature in transformed_schema(f"{tmp_path}/out/transform").feature
    }
    assert (domains["x"].HasField("disallow_nan"), domains["x"].disallow_nan) == (True, False)
    assert domains["y"].HasField("disallow_nan") is (severity != "--schema_warn=x.nan"), "there it may not be"
    assert is_good(tmp_path / "out")


class TestRelax:
    def flags(self, tmp_path, schema, trips, *more):
        return [*map(str, ("--input", trips, "--schema", schema, "--output", tmp_path / "relaxed.pbtxt", *more))]

    def test_the_relaxed_schema_accepts_all_rows(self, tmp_path, schema, trips, capsys):
        assert relax.run(self.flags(tmp_path, schema, trips)) == DONE
        shown = capsys.readouterr().out
        assert "schema.presence company   1 of 5 rows\n    company is null, the schema demands" in shown
        difference = shown[shown.index("difference") :]
        assert "\n  feature fare\n  -   max: 100.0\n  +   max: 250.0\n  -   min_fraction: 1.0\n" in difference
        out = tmp_path / "out"
        assert run_prepare("--input", trips, "--schema", tmp_path / "relaxed.pbtxt", "--output", out) == DONE
        assert (manifest_of(out).rows_out, manifest_of(out).rows_rejected) == (5, 0)
        assert relax.run(self.flags(tmp_path, tmp_path / "relaxed.pbtxt", trips, "--overwrite")) == DONE
        assert "5 rows meet" in capsys.readouterr().out

    def test_as_json(self, tmp_path, schema, serving, capsys):
        with serving.open("a") as file:
            file.write("A,1,2\n")
        assert relax.run(self.flags(tmp_path, schema, serving, "--json")) == DONE
        found = json.loads(capsys.readouterr().out)
        assert list(found)[5:] == ["schema", "output", "rows_in", "rows_unread", "changes", "difference"]
        assert (found["job"], found["rows_in"], found["rows_unread"]) == ("relax", 2, 1)
        assert found["changes"] == [
            {
                "subject": "tips",
                "code": "schema.presence",
                "rows": 1,
                "example": "tips is null, the schema demands a value in every row",
                "change": "no row must have a value",
            }
        ]
        assert found["difference"][0] == "feature tips"
        assert (
            relax.run(self.flags(tmp_path, schema, serving, "--json", "--environment=SERVING", "--overwrite")) == DONE
        )
        assert json.loads(capsys.readouterr().out)["changes"] == []

    def test_a_file_is_not_replaced_unasked(self, tmp_path, schema, trips):
        given = ["--input", trips, "--schema", schema, "--output", schema]
        code, stderr = job(*given, run=relax.run)
        assert (code, "is there already; pass --overwrite to replace it" in stderr) == (WRONG_USAGE, True), stderr
        assert schema.read_text() == TRIPS
        assert job(*given, "--overwrite", run=relax.run)[0] == DONE
        assert "min_fraction" not in schema.read_text().partition("start")[0]

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--schema=s", "--input=i"], "--output is required: the file of the relaxed schema"),
            (["--output=o", "--input=i"], "--schema is required: the schema to relax; prepare infers one"),
            (["--output=o", "--schema=s"], "--input is required"),
        ],
    )
    def test_flags_that_are_missing(self, flags, message):
        code, stderr = job(*flags, run=relax.run)
        assert (code, message in stderr) == (WRONG_USAGE, True), stderr

    def test_wrong_flags_are_found_before_the_input_is_read(self, tmp_path, schema, trips, unread):
        code, stderr = job(*self.flags(tmp_path, schema, trips, "--environment=X"), run=relax.run)
        assert (code, "environment 'X' is not in the schema" in stderr) == (WRONG_USAGE, True), stderr
        folder = tmp_path / "folder"
        folder.mkdir()
        code, stderr = job("--input", trips, "--schema", schema, "--output", folder, run=relax.run)
        assert (code, "is a folder; name the file of the relaxed schema" in stderr) == (WRONG_USAGE, True), stderr

    def test_no_rows_leave_no_schema(self, tmp_path, schema):
        code, stderr = job(*self.flags(tmp_path, schema, write_csv(tmp_path / "no.csv", [], NAMES)), run=relax.run)
        assert (code, "no rows" in stderr) == (1, True), stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["no.csv", "schema.pbtxt"]

    def test_a_dry_run_writes_nothing(self, tmp_path, schema, trips, capsys):
        assert relax.run(self.flags(tmp_path, schema, trips, "--dry_run")) == DONE
        assert "hold them against the schema" in capsys.readouterr().out
        assert not (tmp_path / "relaxed.pbtxt").exists()
