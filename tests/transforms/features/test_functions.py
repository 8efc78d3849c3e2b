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
    "kind": ("features:\n  text: {ops: [scale_to_z_score]}", "takes FLOAT or INT, got BYTES; to_number makes"),
    "kind_later": ("features:\n  n: {ops: [as_string, log]}", "log: takes FLOAT or INT, got BYTES"),
    "kind_text": ("features:\n  n: {ops: [split]}", "split: takes BYTES, got INT; as_string makes texts"),
    "nan": ("features:\n  float: {ops: [{pow: .nan}]}", "must be a number, got nan"),
    "nan_bound": ("features:\n  float: {ops: [{apply_buckets: [.nan]}]}", "must be a list of ascending numbers"),
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
    "list_combined_by_items": ("features:\n  a: {inputs: [words, words], ops: [join]}", "or lists of a fixed length"),
    "lists_of_two_lengths": (
        "features:\n  a: {inputs: [pair, triple], ops: [add]}",
        "lists of one length, got 2 and 3",
    ),
    "list_with_default": ("features:\n  a: {inputs: [pair, pair], default: 1, ops: [add]}", "give lists no default"),
    "length_is_lost": (
        "features:\n  a: {inputs: [pair, n], ops: [{where: {then: 1}}]}",
        "where: takes features of one value; if these are",
    ),
    "reduce_one": ("features:\n  n: {ops: [list_sum]}", "list_sum: takes a list, got one value"),
    "impute_a_list": ("features:\n  unbounded: {ops: [impute_mean]}", "impute_mean: takes features of one value"),
    "argument_maximum": ("features:\n  n: {ops: [{one_hot: 10001}]}", "depth must be at most 10000, got 10001"),
    "shares": ("features:\n  n: {ops: [clip_by_quantile]}", "clip_by_quantile: give lower, upper or both"),
    "shares_order": (
        "features:\n  n: {ops: [{clip_by_quantile: {lower: 0.9, upper: 0.1}}]}",
        "lower must be less than upper, got 0.9 and 0.1",
    ),
    "share": (
        "features:\n  n: {ops: [{clip_by_quantile: {lower: 0.0001}}]}",
        "lower must be a fraction between 0 and 1 of at most three digits, such as 0.01, got 0.0001",
    ),
    "reserved_twice": (
        "features:\n  text: {ops: [{compute_and_apply_vocabulary: {reserved_tokens: [a, b, a]}}]}",
        "reserved_tokens has 'a' twice: each value has one number",
    ),
    "reserved_empty": (
        "features:\n  text: {ops: [{compute_and_apply_vocabulary: {reserved_tokens: ['']}}]}",
        "reserved_tokens has '', and a text file holds no line breaks .* tfrecord_gzip does",
    ),
    "reserved_lines": (
        'features:\n  n: {ops: [{compute_and_apply_vocabulary: {reserved_tokens: ["a\\nb"]}}]}',
        r"reserved_tokens has 'a\\nb', and a text file",
    ),
    "reserved_text_of_int": (
        "features:\n  n: {ops: [{compute_and_apply_vocabulary: {reserved_tokens: ['5', '<pad>']}}]}",
        "reserved_tokens has '<pad>', and the input is INT: give digits of an int64",
    ),
    "reserved_spelling_of_int": (
        "features:\n  n: {ops: [{compute_and_apply_vocabulary: {reserved_tokens: ['01']}}]}",
        "reserved_tokens has '01', and the input is INT",
    ),
    "reserved_beyond_int64": (
        "features:\n  n: {ops: [{compute_and_apply_vocabulary: {reserved_tokens: ['9223372036854775808']}}]}",
        "reserved_tokens has '9223372036854775808', and the input is INT",
    ),
    "buckets": (
        "features:\n  n: {ops: [{bucketize: 100000000}]}",
        "num_buckets must be at most 1000000, got 100000000",
    ),
    "oov_buckets": (
        "features:\n  n: {ops: [{compute_and_apply_vocabulary: {num_oov_buckets: 9223372036854775807}}]}",
        "num_oov_buckets must be at most 2147483647, got 9223372036854775807",
    ),
    "number_that_is_a_text": (
        "features:\n  float: {ops: [{clip_by_value: {min: 1e-3}}]}",
        "got '1e-3'; YAML takes 1e-3 for a text, write 0.001",
    ),
    "exponent_without_sign": (
        "features:\n  n: {ops: [{apply_buckets: [1, 2.5e40]}]}",
        r"got \[1, '2.5e40'\]; YAML takes 2.5e40 for a text, write 2.5e\+40",
    ),
    "default_that_is_a_text": (
        "features:\n  float: {default: 1e30}",
        r"got '1e30'; YAML takes 1e30 for a text, write 1.0e\+30",
    ),
    "bounds_order": (
        "features:\n  n: {ops: [{clip_by_value: {min: 5, max: 1}}]}",
        "min must not exceed max, got 5 and 1",
    ),
    "most_frequent_float": (
        "features:\n  float: {ops: [impute_most_frequent]}",
        "impute_most_frequent: takes BYTES or INT, got FLOAT",
    ),
    "part": ("features:\n  n: {ops: [{time_part: hours}]}", "part is unknown: 'hours'; did you mean 'hour'"),
    "part_missing": ("features:\n  n: {ops: [time_part]}", "needs the argument part, one of year, quarter, month"),
    "part_number": ("features:\n  n: {ops: [{time_part: 1}]}", "part must be one of year, quarter, .*, got 1"),
    "year_has_no_wave": ("features:\n  n: {ops: [{time_sin: year}]}", "time_sin: part is unknown: 'year'"),
    "unit_missing": (
        "features:\n  n:\n    ops:\n    - {time_part: hour}",
        r"line 4: .* needs the argument unit \(ns, us, ms, s, d\), as its input is INT",
    ),
    "unit_of_text": (
        "features:\n  text: {ops: [{time_part: {part: hour, unit: s}}]}",
        "takes no unit, as its input is a text",
    ),
    "unit_unknown": ("features:\n  text: {ops: [{parse_time: h}]}", "unit is unknown: 'h'; known are ns, us, ms, s, d"),
    "time": ("features:\n  text: {ops: [{days_since: today}]}", "time must be a time such as .*, got 'today'"),
    "time_second": ("features:\n  text: {ops: [days_since]}", r"needs a second input, or an argument \(time\)"),
    "where_one": ("features:\n  n: {ops: [where]}", "needs two values to choose from, .* got 0"),
    "where_three": ("features:\n  a: {inputs: [n, n, n], ops: [{where: {then: 1}}]}", "to choose from, .* got 3"),
    "where_kinds": (
        "features:\n  a: {inputs: [n, text], ops: [{where: {else: 1}}]}",
        "both values must be of one kind: whole numbers, numbers or texts",
    ),
    "where_int_and_float": ("features:\n  a: {inputs: [n, n], ops: [{where: {else: 0.5}}]}", "must be of one kind"),
    "where_constants": ("features:\n  n: {ops: [{where: {then: 1, else: no}}]}", "else must be a number or a text"),
    "where_condition": ("features:\n  text: {ops: [{where: {then: 1, else: 0}}]}", "where: takes INT, got BYTES"),
    "is_in_kind": (
        "features:\n  n: {ops: [{is_in: [a]}]}",
        "is_in: values must be whole numbers, as its input is INT",
    ),
    "is_in_mixed": ("features:\n  text: {ops: [{is_in: [a, 1]}]}", "values must be texts, as its input is BYTES"),
    "is_in_twice": ("features:\n  n: {ops: [{is_in: [1, 1]}]}", "values must be a list of .*, each once, got"),
    "is_in_empty": ("features:\n  n: {ops: [{is_in: []}]}", "values must be a list of numbers or texts"),
    "no_map": ("features:\n  n: {ops: [lookup]}", "lookup: give map .* or file .*, one of both"),
    "map_empty": ("features:\n  n: {ops: [{lookup: {map: {}}}]}", "map must be a mapping of keys to values, got {}"),
    "map_to": ("features:\n  n: {ops: [{lookup: {map: {1: a}, to: int}}]}", "to is for a file of CSV"),
    "map_values": (
        "features:\n  n: {ops: [{lookup: {map: {1: a, 2: 2}}}]}",
        "map: the values must be of one kind: whole numbers, numbers or texts",
    ),
    "map_keys": (
        "features:\n  n: {ops: [{lookup: {map: {a: 1}}}]}",
        "map: the key must be a whole number, as its input is INT, got 'a'",
    ),
    "map_keys_of_text": (
        "features:\n  text: {ops: [{lookup: {map: {7: 1}}}]}",
        r"map: the key must be a text \(in quotes\), as its input is BYTES, got 7",
    ),
    "group": (
        "features:\n  text: {ops: [{regex_extract: {pattern: '(a)', group: 2}}]}",
        r"the pattern '\(a\)' has no group 2",
    ),
    "rewrite": (
        "features:\n  text: {ops: [{regex_replace: {pattern: '(a)', rewrite: '\\2'}}]}",
        r"rewrite '\\\\2' does not fit the pattern '\(a\)'",
    ),
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
    Feature("pair", Kind.INT, multivalued=True, length=2),
    Feature("triple", Kind.INT, multivalued=True, length=3),
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
