"""Where a `preprocessing_fn` is imported from, and what is bound to it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apache_beam.internal import pickler
from apache_beam.io.localfilesystem import LocalFileSystem

from penstock.io.errors import ConfigError
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.functions import load_features


def write(folder: Path, **modules: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def call(features: object, config: str | None = None, inputs: object = 1) -> object:
    function = load_features(str(features), config)
    assert isinstance(function, FeatureFunction)
    return function.load()(inputs)


def test_a_file_has_a_preprocessing_fn_unless_another_function_is_named(tmp_path) -> None:
    write(tmp_path, two="def preprocessing_fn(inputs):\n    return 'tfx'\ndef mine(inputs):\n    return 'mine'\n")
    assert call(tmp_path / "two.py") == "tfx"
    assert call(f"{tmp_path}/two.py:mine") == "mine"


def test_a_file_imports_what_lies_beside_it_when_imported_and_when_called(tmp_path) -> None:
    write(
        tmp_path,
        names="NAME = 'beside'\n",
        later="NAME = 'later'\n",
        mine="import names\ndef preprocessing_fn(inputs):\n    import later\n    return names.NAME, later.NAME\n",
    )
    assert call(tmp_path / "mine.py") == ("beside", "later")


def test_modules_of_two_folders_may_have_the_same_names(tmp_path) -> None:
    main = "import constants\ndef preprocessing_fn(inputs):\n    return constants.VALUE\n"
    one = write(tmp_path / "one", main=main, constants="VALUE = 1\n")
    two = write(tmp_path / "two", main=main, constants="VALUE = 2\n")
    functions = [load_features(str(folder / "main.py")).load() for folder in (one, two)]
    assert [function({}) for function in functions] == [1, 2]
    assert not {"main", "constants"} & sys.modules.keys(), "they are in nobody's way"


def test_names_of_python_are_not_hidden_by_a_file(tmp_path) -> None:
    write(tmp_path, types="import dataclasses, types\ndef preprocessing_fn(inputs):\n    return types.__file__\n")
    assert not str(call(tmp_path / "types.py")).startswith(str(tmp_path))


def test_a_changed_file_is_imported_again_and_an_unchanged_one_once(tmp_path) -> None:
    text = (
        "import beside\nruns = []\ndef preprocessing_fn(inputs):\n    runs.append(1)\n    return len(runs), beside.A\n"
    )
    write(tmp_path, main=text, beside="A = 1\n")
    assert [call(tmp_path / "main.py"), call(tmp_path / "main.py")] == [(1, 1), (2, 1)]
    write(tmp_path, beside="A = 22\n")
    assert call(tmp_path / "main.py") == (1, 22)


def test_the_sources_of_a_file_go_to_workers(tmp_path) -> None:
    package = (
        write(tmp_path / "job" / "parts", __init__="", deep="B = 5\n") if (tmp_path / "job").mkdir() is None else ""
    )
    write(
        package.parent,
        main="import beside\nfrom parts import deep\n\ndef preprocessing_fn(inputs, custom_config):\n"
        "    import late\n    return inputs + beside.A + deep.B + late.C + custom_config['d']\n",
        beside="A = 10\n",
        late="C = 100\n",
        unused="raise ValueError\n",
    )
    function = load_features(str(package.parent / "main.py"), '{"d": 1000}').load()
    assert function(1) == 1116
    pickled = pickler.dumps(function)
    assert pickler.loads(pickled).file is function.file, "in this process there is one module"
    for path in package.parent.rglob("*.py"):
        path.unlink()
    code = (
        "import sys; from apache_beam.internal import pickler; f = pickler.loads(sys.stdin.buffer.read());"
        "print(f(1), sorted(n for n in sys.modules if n in ('main', 'beside', 'late')))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=False, cwd=tmp_path)
    assert done.stdout.decode().strip() == "1116 []", done.stderr.decode()


CONFIGS = {
    "given": ("inputs, custom_config", '{"a": [1, 2.5]}', {"a": [1, 2.5]}),
    "by_name_only": ("inputs, *, custom_config", '{"a": 1}', {"a": 1}),
    "any_names": ("inputs, **custom_config", '{"a": 1}', {"custom_config": {"a": 1}}),
    "any_names_none_given": ("inputs, **custom_config", None, {}),
    "none_given_as_of_tfx": ("inputs, custom_config=None", None, {}),
    "another_default": ("inputs, custom_config={'a': 3}", None, {"a": 3}),
    "another_default_given": ("inputs, custom_config={'a': 3}", "{}", {}),
}


@pytest.mark.parametrize(("parameters", "given", "expected"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_function_gets_its_custom_config(tmp_path, parameters: str, given: str | None, expected: object) -> None:
    write(tmp_path, main=f"def preprocessing_fn({parameters}):\n    return custom_config\n")
    assert call(tmp_path / "main.py", given) == expected


def test_a_custom_config_may_be_a_file_and_go_to_a_module(tmp_path, monkeypatch) -> None:
    write(tmp_path, my_config_module="def f(inputs, custom_config):\n    return inputs, custom_config\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "c.json").write_text('{"größe": 1}', encoding="utf-8")
    assert call("my_config_module:f", str(tmp_path / "c.json")) == (1, {"größe": 1})


CONFIG_FAULTS = {
    "takes_none": ("def preprocessing_fn(inputs): ...", "{}", r"main\.py:preprocessing_fn: takes no custom_config"),
    "needs_one": (
        "def preprocessing_fn(inputs, custom_config): ...",
        None,
        r"main\.py:preprocessing_fn: needs a custom_config; pass --custom_config, '\{\}' for an empty one",
    ),
    "no_json": ("", '{"a": 1', r"--custom_config: must be an object in JSON, or a file that holds one: Expecting"),
    "repeated": ("", '{"a": 1, "a": 2}', r"--custom_config: .*'a' stands twice"),
    "nan": ("", '{"a": NaN}', "--custom_config: .*NaN is no number of JSON"),
    "no_file": ("", "none.json", "--custom_config none.json: cannot be read: .*give a JSON file, or an object in JSON"),
}


@pytest.mark.parametrize(("text", "config", "message"), CONFIG_FAULTS.values(), ids=CONFIG_FAULTS.keys())
def test_a_custom_config_that_does_not_fit_is_refused(tmp_path, text: str, config: str | None, message: str) -> None:
    write(tmp_path, main=text)
    with pytest.raises(ConfigError, match=message):
        load_features(str(tmp_path / "main.py"), config)


def test_a_custom_config_is_an_object_and_for_a_function(tmp_path) -> None:
    (tmp_path / "c.json").write_text("[1]")
    write(tmp_path, main="")
    with pytest.raises(ConfigError, match=r"--custom_config .*c\.json: must be an object in JSON, .* got \[1\]"):
        load_features(str(tmp_path / "main.py"), str(tmp_path / "c.json"))
    with pytest.raises(ConfigError, match=r"--custom_config is for a function .*, and f\.yaml is a YAML file"):
        load_features("f.yaml", "{}")


FILE_FAULTS = {
    "no_file": ("", "none.py", r"none\.py:preprocessing_fn: cannot be read: .*module\.py"),
    "no_function": ("def fn(inputs): ...", "main.py", "has no function 'preprocessing_fn'"),
    "syntax": ("def f(:", "main.py", r"main\.py' fails when imported: SyntaxError: .*line 1"),
    "raises": ("1 / 0", "main.py", r"main\.py' fails when imported: ZeroDivisionError"),
    "not_installed": ("import no_such_package_c", "main.py", "install 'no_such_package_c', or put the function into"),
    "relative": ("from . import constants", "main.py", "by its plain name; docs/tfx.md says"),
}


@pytest.mark.parametrize(("text", "name", "message"), FILE_FAULTS.values(), ids=FILE_FAULTS.keys())
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text: str, name: str, message: str) -> None:
    write(tmp_path, main=text)
    with pytest.raises(ConfigError, match=f"--features .*{message}"):
        load_features(str(tmp_path / name))


def test_a_module_names_what_it_lacks(tmp_path, monkeypatch) -> None:
    write(tmp_path, my_lacking_module="import no_such_package_d\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"my_lacking_module:f: .*install 'no_such_package_d'"):
        load_features("my_lacking_module:f")


class _Store(LocalFileSystem):
    """Files of this machine under another scheme."""

    @classmethod
    def scheme(cls) -> str:
        return "module-store"

    def open(self, path: str, *arguments: Any, **options: Any) -> Any:
        return super().open(path.removeprefix("module-store://"), *arguments, **options)


def test_a_file_in_a_store_is_fetched(tmp_path) -> None:
    write(tmp_path, main="def preprocessing_fn(inputs):\n    return __file__\n")
    loaded = str(call(f"module-store://{tmp_path}/main.py"))
    assert loaded.endswith("main.py")
    assert not loaded.startswith(str(tmp_path))


ANNOTATED = """
from typing import List, Optional
import tfx.components
from tfx import v1 as tfx_v1
from tfx.components.trainer.fn_args_utils import DataAccessor, FnArgs

def input_fn(files: List[str], accessor: DataAccessor, other: Optional[FnArgs], third: tfx_v1.components.FnArgs | None):
    return tfx_v1.components.DataAccessor()

def run_fn(fn_args: tfx.components.FnArgs):
    ...
"""


def test_names_of_tfx_may_be_annotations_where_it_is_not_installed(tmp_path) -> None:
    write(tmp_path, main=ANNOTATED + "def preprocessing_fn(inputs):\n    return inputs\n")
    assert call(tmp_path / "main.py") == 1
    assert "tfx" not in sys.modules
    with pytest.raises(ImportError):
        import tfx  # noqa: F401


def test_a_folder_of_that_name_is_no_tfx(tmp_path, monkeypatch) -> None:
    write(tmp_path / "site" / "tfx", own="NAME = 'own'\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    write(tmp_path, main=ANNOTATED + "from tfx import own\ndef preprocessing_fn(inputs):\n    return own.NAME\n")
    assert call(tmp_path / "main.py") == "own"
    monkeypatch.delitem(sys.modules, "tfx.own")
    assert not hasattr(sys.modules.pop("tfx"), "components")


TFX_USES = {
    "called": ("", "return input_fn([], None, None, None)", r"tfx\.v1\.components\.DataAccessor is used"),
    "imported_code": (
        "from tfx.examples import names",
        "return names.KEYS + [1]",
        r"tfx\.examples\.names\.KEYS is used",
    ),
    "iterated": ("from tfx.examples import names", "return list(names.KEYS)", r"tfx\.examples\.names\.KEYS is used"),
}


@pytest.mark.parametrize(("imports", "body", "message"), TFX_USES.values(), ids=TFX_USES.keys())
def test_names_of_tfx_fail_where_they_are_used(tmp_path, imports: str, body: str, message: str) -> None:
    write(tmp_path, main=f"{imports}\n{ANNOTATED}\ndef preprocessing_fn(inputs):\n    {body}\n")
    with pytest.raises(ConfigError, match=f"{message}, and TFX is not installed.*docs/tfx.md"):
        call(tmp_path / "main.py")


def test_a_use_of_tfx_is_told_when_the_module_is_imported(tmp_path) -> None:
    write(
        tmp_path, main="from tfx import v1\nx = v1.components.FnArgs()\n", borrowed="from tfx import preprocessing_fn\n"
    )
    with pytest.raises(
        ConfigError, match=r"--features .*main\.py:.*cannot be imported: tfx\.v1\.components\.FnArgs is"
    ):
        load_features(str(tmp_path / "main.py"))
    with pytest.raises(ConfigError, match=r"borrowed\.py:.*: is tfx\.preprocessing_fn, .* copy the file"):
        load_features(str(tmp_path / "borrowed.py"))


def test_an_installed_tfx_is_used(tmp_path, monkeypatch) -> None:
    write(tmp_path / "site", tfx="NAME = 'installed'\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    write(tmp_path, main="import tfx\ndef preprocessing_fn(inputs):\n    return tfx.NAME\n")
    assert call(tmp_path / "main.py") == "installed"
    sys.modules.pop("tfx")
    write(tmp_path, main="import tfx.v1\n")
    with pytest.raises(ConfigError, match=r"No module named 'tfx\.v1'.*; docs/tfx.md says"):
        load_features(os.fspath(tmp_path / "main.py"))
    sys.modules.pop("tfx", None)


def called_elsewhere(function: object, *folders: Path) -> list[str]:
    """What comes of a call with 1 in each folder, in a process that has not the Python path of this one."""
    code = (
        "import os, sys\n"
        "from apache_beam.internal import pickler\n"
        "pickled = sys.stdin.buffer.read()\n"
        "for folder in sys.argv[1:]:\n"
        "    os.chdir(folder)\n"
        "    try:\n"
        "        print('called', pickler.loads(pickled)(1))\n"
        "    except Exception as error:\n"
        "        print(f'{type(error).__name__}: {error}')\n"
    )
    command = [sys.executable, "-c", code, *map(str, folders)]
    done = subprocess.run(command, input=pickler.dumps(function), capture_output=True, check=True, cwd=folders[0])
    return done.stdout.decode().splitlines()


def test_a_worker_without_the_module_says_what_is_carried(tmp_path, monkeypatch) -> None:
    write(tmp_path / "here", only_here_module="def f(inputs, custom_config):\n    return inputs + custom_config['a']\n")
    (tmp_path / "there").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "here")
    function = load_features("only_here_module:f", '{"a": 1}').load()
    assert function(1) == 2
    there, here = called_elsewhere(function, tmp_path / "there", tmp_path / "here")
    assert there == (
        "ConfigError: on a worker, --features only_here_module:f: cannot import 'only_here_module': No module named "
        "'only_here_module'; the module must be in the working directory or on the Python path (PYTHONPATH); or pass "
        "the file, only_here_module.py:f, whose source is carried to the workers"
    )
    assert here == "called 2", "it is in the working directory there"


def test_a_worker_without_what_a_file_imports_says_so(tmp_path, monkeypatch) -> None:
    write(tmp_path / "installed", only_here_package="A = 1\n")
    write(tmp_path, main="import only_here_package\ndef preprocessing_fn(inputs):\n    return inputs\n")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    (told,) = called_elsewhere(load_features(str(tmp_path / "main.py")).load(), tmp_path)
    assert told == (
        "ConfigError: on a worker, --features main.py:preprocessing_fn: cannot be imported: No module named "
        "'only_here_package'; the modules beside the file are carried there, and what else it imports must be "
        "installed there"
    )
