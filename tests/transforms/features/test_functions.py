import pickle

import pytest

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, Kind
from penstock.transforms.features import functions as features_module
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.functions import load_features, parse_features
from penstock.transforms.features.operations import OPERATIONS

CASES = {
    "empty": ("", "has no entry 'features'"),
    "no_entries": ("features: {}", "line 1: features must name at least one output feature"),
    "null_features": ("features:", "line 1: features: must be a mapping of names, got None"),
    "list": ("features: [a]", "must be a mapping of names, got a list"),
    "yaml": ("features: {a: {", "line 1, column 16: is not valid YAML"),
    "top_key": ("featurs: {a: }", "line 1: unknown key 'featurs'; did you mean 'features'"),
    "entry_key": ("features:\n  n: {oops: b}", "line 2: feature 'n': unknown key 'oops'; did you mean 'ops'"),
    "twice": ("features:\n  n:\n  n:\n", "line 3: 'n' appears twice"),
    "not_a_name": ("features:\n  on:\n", "line 2: features: a name must be a text, got True; put it in quotes"),
    "reserved": ("features:\n  _split:\n", "feature '_split': the name is reserved"),
    "input_and_inputs": ("features:\n  a: {input: n, inputs: [n, x]}", "not both"),
    "one_of_several": ("features:\n  a: {inputs: [n]}", r"at least two columns, got \['n'\]; for one, use input"),
    "input_number": ("features:\n  a: {input: 7}", "a column must be a name, got 7"),
    "unknown_column": ("features:\n  a: {input: flot}", "'flot' is not a feature of the schema; did you mean 'float'"),
    "defaults": ("features:\n  n: {default: [1, 2]}", "a list of one for each of 1 inputs"),
    "default_text": ("features:\n  n: {default: x}", "default must be a whole number, as 'n' is INT, got 'x'"),
    "default_float": ("features:\n  n: {default: 0.5}", "default must be a whole number"),
    "default_bool": ("features:\n  n: {default: true}", "default must be a whole number"),
    "default_too_large": ("features:\n  n: {default: 9223372036854775808}", "default must be a whole number"),
    "default_number": ("features:\n  text: {default: 0}", "default must be a text .*'text' is BYTES, got 0"),
    "ops_text": ("features:\n  n: {ops: log}", "ops must be a list of operations, got 'log'"),
    "op_number": ("features:\n  n: {ops: [1]}", "an operation must be a name, or a name with arguments, got 1"),
    "op_two_names": ("features:\n  n: {ops: [{log: , abs: }]}", "one name with its arguments, got 2 names"),
    "unknown_op": (
        "features:\n  n:\n    ops:\n    - abs\n    - logg\n",
        "line 5: feature 'n': unknown operation 'logg'",
    ),
    "nearest_op": ("features:\n  n: {ops: [scale_z_score]}", "did you mean 'scale_to_z_score'"),
    "no_argument": ("features:\n  n: {ops: [{log: 1}]}", "log: takes no argument, got 1"),
    "no_arguments": ("features:\n  n: {ops: [{log: {x: 1}}]}", "log: takes no argument"),
    "unknown_argument": (
        "features:\n  text:\n    ops:\n    - compute_and_apply_vocabulary:\n        topk: 3\n",
        "line 5: feature 'text': compute_and_apply_vocabulary: unknown key 'topk'; did you mean 'top_k'",
    ),
    "which_argument": ("features:\n  n: {ops: [{clip_by_value: 3}]}", r"name its arguments \(min, max\), got 3"),
    "argument_type": ("features:\n  n: {ops: [{bucketize: ten}]}", "num_buckets must be a whole number, got 'ten'"),
    "argument_minimum": ("features:\n  n: {ops: [{bucketize: 0}]}", "num_buckets must be at least 1, got 0"),
    "argument_missing": ("features:\n  n: {ops: [bucketize]}", "needs the argument num_buckets, a whole number"),
    "argument_zero": ("features:\n  n: {ops: [{floordiv: 0}]}", "value must not be 0"),
    "argument_kind": (
        "features:\n  n: {ops: [{add: 0.5}]}",
        "value must be a whole number, as its input is INT, got 0.5",
    ),
    "boundaries": (
        "features:\n  n: {ops: [{apply_buckets: [3, 1]}]}",
        "boundaries must be a list of ascending numbers",
    ),
    "ngram_range": ("features:\n  words: {ops: [{ngrams: [2, 1]}]}", "ngram_range must be two whole numbers"),
    "cast_to": ("features:\n  n: {ops: [{cast: text}]}", "to must be int or float, got 'text'"),
    "pattern": (
        "features:\n  text: {ops: [{regex_replace: {pattern: '(', rewrite: ''}}]}",
        "pattern '\\(' is not a regular expression",
    ),
    "kind": ("features:\n  text: {ops: [scale_to_z_score]}", "scale_to_z_score: takes FLOAT or INT, got BYTES"),
    "kind_later": ("features:\n  n: {ops: [as_string, log]}", "log: takes FLOAT or INT, got BYTES"),
    "kind_second": ("features:\n  a: {inputs: [n, text], ops: [add]}", "add: takes INT as input 2, got BYTES"),
    "no_second": ("features:\n  n: {ops: [add]}", "add: needs a second input, or an argument"),
    "both_seconds": ("features:\n  a: {inputs: [n, m], ops: [{add: 1}]}", "has two inputs, so it takes no argument"),
    "not_combined": (
        "features:\n  a: {inputs: [n, m], ops: [log]}",
        "has 2 inputs, so its first operation must combine",
    ),
    "no_ops": ("features:\n  a: {inputs: [n, m]}", "has 2 inputs, so its first operation must combine"),
    "too_many": ("features:\n  a: {inputs: [n, m, n], ops: [add]}", "add: takes 2 inputs, got 3"),
    "too_few": ("features:\n  text: {ops: [join]}", "join: needs 2 inputs, got 1"),
    "key_missing": (
        "features:\n  a: {inputs: [float, text], ops: [scale_to_z_score_per_key]}",
        "cannot carry missing values; give the entry a default for each input",
    ),
    "list_combined": ("features:\n  a: {inputs: [words, text], ops: [join]}", "value_count { min: 1 max: 1 }"),
    "list_split": ("features:\n  words: {ops: [split]}", "split: takes features of one value"),
    "ngrams_of_one": ("features:\n  text: {ops: [{ngrams: [1, 2]}]}", "takes a list of tokens, got one text; split it"),
    "two_vocabularies": (
        "features:\n  text: {ops: [compute_and_apply_vocabulary, compute_and_apply_vocabulary]}",
        "compute_and_apply_vocabulary may occur once in an entry",
    ),
}

COLUMNS = [
    Feature("n", Kind.INT, multivalued=False),
    Feature("m", Kind.INT, multivalued=False, required=True, complete=True),
    Feature("float", Kind.FLOAT, multivalued=False),
    Feature("text", Kind.BYTES, multivalued=False),
    Feature("words", Kind.BYTES, multivalued=True),
    Feature("unbounded", Kind.INT),
]


@pytest.mark.parametrize(("text", "message"), CASES.values(), ids=CASES.keys())
def test_mistakes_are_named_with_line_and_entry(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="(?s)^features.yaml.*" + message):
        parse_features(text, "features.yaml").bind(COLUMNS)


def test_the_example_of_the_docs_binds() -> None:
    doc = str(features_module.__doc__)
    lines = doc[doc.index("    features:\n") : doc.index("Nothing else goes out")].splitlines()
    floats, texts = ("distance", "dep_delay"), ("carrier", "origin", "dest")
    columns = [Feature(name, Kind.FLOAT, multivalued=False) for name in floats]
    columns += [Feature(name, Kind.BYTES, multivalued=False) for name in texts]
    columns += [Feature(name, Kind.INT, multivalued=False) for name in ("sched_dep_time", "arr_delay")]
    preprocessing = parse_features("\n".join(line[4:] for line in lines)).bind(columns)
    assert [output.entry.name for output in preprocessing.outputs] == [
        *("distance", "carrier", "dep_hour", "route", "delay_by_carrier", "arr_delay")
    ]
    assert preprocessing.single == {output.entry.name for output in preprocessing.outputs}


def test_inputs_are_dense_only_where_every_row_has_exactly_one_value() -> None:
    preprocessing = parse_features("features: {n: , m: , words: , unbounded: }").bind(COLUMNS)
    assert {column.name: column.dense for column in preprocessing.inputs} == {
        **{"m": True, "n": False, "unbounded": False, "words": False}
    }
    assert preprocessing.single == {"m", "n"}


def test_a_list_with_a_default_stays_a_list() -> None:
    preprocessing = parse_features("features: {words: {default: '', ops: [lower]}}").bind(COLUMNS)
    assert preprocessing.single == frozenset()


def test_preprocessing_pickles_to_an_equal_one() -> None:
    entries = "features: {z: {inputs: [float, text], default: [0, ''], ops: [scale_to_z_score_per_key, {add: 1}]}}"
    preprocessing = parse_features(entries).bind(COLUMNS)
    assert pickle.loads(pickle.dumps(preprocessing)) == preprocessing


def test_every_operation_has_parameters_that_it_can_use() -> None:
    for operation in OPERATIONS.values():
        assert operation.main is None or operation.main in operation.parameters, operation.name
        assert operation.second is None or operation.second in operation.parameters, operation.name
        assert operation.min_inputs <= operation.max_inputs, operation.name


def test_load_features_reads_a_file(tmp_path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("features:\n  größe: {input: n}\n", encoding="utf-8")
    preprocessing = load_features(str(path)).bind(COLUMNS)
    assert [output.entry.name for output in preprocessing.outputs] == ["größe"]


def test_load_features_names_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"--features .*none\.yaml: cannot be read: .*module:function"):
        load_features(str(tmp_path / "none.yaml"))


def test_load_features_imports_a_function(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_features_a.py").write_text("def preprocessing_fn(inputs):\n    return inputs\n")
    loaded = load_features("my_features_a:preprocessing_fn")
    assert loaded == FeatureFunction("my_features_a", "preprocessing_fn")
    assert loaded.load()({"a": 1}) == {"a": 1}


FUNCTION_CASES = {
    "no_module": ("no_such_module_b:f", "cannot import 'no_such_module_b': .*PYTHONPATH"),
    "no_function": (
        "my_features_b:preprocesing_fn",
        "has no function 'preprocesing_fn'; did you mean 'preprocessing_fn'",
    ),
    "not_callable": ("my_features_b:constant", "has no function 'constant'"),
    "raises": ("my_broken_b:f", "'my_broken_b' fails when imported: ZeroDivisionError: division by zero"),
    "relative": ("..:f", "cannot be read"),
}


@pytest.mark.parametrize(("name", "message"), FUNCTION_CASES.values(), ids=FUNCTION_CASES.keys())
def test_load_features_names_a_function_that_cannot_be_used(tmp_path, monkeypatch, name: str, message: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_features_b.py").write_text("constant = 1\ndef preprocessing_fn(inputs):\n    return inputs\n")
    (tmp_path / "my_broken_b.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=f"--features {name}: .*{message}"):
        load_features(name)
