import json
import subprocess
import sys
from pathlib import Path

import pytest

from reszoo.training import read_config
from reszoo.training.config import flat
from reszoo.training.config_file import recipes

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs" / "digits_resnet18.py")

GOOD = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.data = ConfigDict({"name": "digits"})
    config.model = ConfigDict({"name": "resnet18"})
    config.optimizer = ConfigDict({"learning_rate": 0.1})
    return config
"""


@pytest.fixture
def write(tmp_path):
    def write(source, name="run.py"):
        path = tmp_path / name
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            path.write_text(source, encoding="utf-8")
        return str(path)

    return write


def refused(source, assignments=()):
    with pytest.raises(ValueError, match=r".") as error:
        read_config(source, assignments)
    assert "\n" not in str(error.value)
    return str(error.value)


IN_FUNCTION = "def get_config():\n    {}\n"
DEEP = "(" * 500 + ")" * 500

BROKEN = {
    "syntax": ("x = 1\ny = = 2\n", ", line 2: not valid Python (invalid syntax). Mend that."),
    "indentation": ("x = 1\n  y = 2\n", ", line 2: not valid Python (unexpected indent)"),
    "a tab": ("if 1:\n        x = 1\n\ty = 2\n", ", line 3: not valid Python (inconsistent use"),
    "an open bracket": ("x = (1,\n", ", line 1: not valid Python ('(' was never closed)"),
    "a text without end": ('x = "a\n', ", line 1: not valid Python (unterminated string"),
    "nested too deeply": (f"x = {DEEP}\n", "not valid Python (too many nested parentheses)"),
    "another language": ("epochs: 3\ndata: {name}\nfoo bar\n", ", line 3: not valid Python"),
    "return outside": ("return 3\n", ", line 1: not valid Python ('return' outside function)"),
    "encoding": (b"x = '\xff\xfe'\n", "not valid Python ((unicode error) 'utf-8' codec"),
    "no such encoding": (b"# coding: nosuch\n", "not valid Python (unknown encoding: nosuch)"),
    "binary": (bytes(range(256)), "not valid Python"),
    "zeros": (b"x = 1\0\n", "null bytes"),
    "utf-16": ("x = 1".encode("utf-16"), "not valid Python"),
    "a name": ("x = 1\nepochs = epoch\n", ", line 2: NameError: name 'epoch' is not defined"),
    "a module": ("import nosuch\n", ", line 1: No module named 'nosuch'. Install it, or leave out"),
    "a name of a module": ("from json import nosuch\n", ", line 1: ImportError: cannot import"),
    "the end": ("import sys\nsys.exit(3)\n", ", line 2: it ends the program"),
    "the end in it": (IN_FUNCTION.format("raise SystemExit"), ", line 2: it ends the program"),
    "nothing": ("", " must have a function get_config() that returns an ml_collections.ConfigDict"),
    "no function": ("get_config = 3\n", " must have a function get_config() that returns"),
    "a name in it": (IN_FUNCTION.format("return epoch"), ", line 2: NameError: name 'epoch'"),
    "an error in it": (IN_FUNCTION.format("1 / 0"), ", line 2: ZeroDivisionError: division by"),
    "no text": (IN_FUNCTION.format("raise OSError"), ", line 2: OSError"),
    "lines": (IN_FUNCTION.format(r"raise OSError('a\nb')"), ", line 2: OSError: a"),
    "a file": (IN_FUNCTION.format("open('/nosuch')"), ", line 2: FileNotFoundError: [Errno 2]"),
    "without end": (IN_FUNCTION.format("return get_config()"), ", line 2: RecursionError: maximum"),
    "memory": (IN_FUNCTION.format("raise MemoryError"), ", line 2: MemoryError"),
    "an assertion": (IN_FUNCTION.format("assert 0, 'no'"), ", line 2: AssertionError: no"),
    "another type": (
        GOOD.replace("return", "config.epochs = 3; config.epochs = 'x'; return"),
        ", line 9: TypeError: Could not override field 'epochs'",
    ),
    "no field of it": (GOOD.replace("return", "config.crop.min_area = 1; return"), ", line 9: "),
    "no text of it": (
        "class Wordless(Exception):\n    def __str__(self):\n        return 1 / 0\n"
        + IN_FUNCTION.format("raise Wordless"),
        ", line 5: Wordless",
    ),
    "long": (IN_FUNCTION.format("raise OSError('a b ' * 1000)"), " ..."),
    "no signature": ("get_config = dict\n", "but returned {}. Return ConfigDict(...)"),
    "code in it": (IN_FUNCTION.format("exec('1 +')"), ", line 2: not valid Python in <string>"),
    "none": (IN_FUNCTION.format("pass"), ": get_config() must return an ml_collections.ConfigDict, "
             "but returned None. Is there a `return config` at its end?"),
    "a dictionary": (IN_FUNCTION.format("return {'epochs': 3}"), "but returned {'epochs': 3}. "
                     "Return ConfigDict(...) of a dictionary with the fields."),
    "a number": (IN_FUNCTION.format("return 3"), "but returned 3. Return ConfigDict(...)"),
    "a generator": (IN_FUNCTION.format("yield 3"), "but returned <generator ob"),
    "an argument": ("def get_config(depth):\n    pass\n", ": get_config() must be given an "
                    "argument; it follows a colon: --config="),
    "two": ("def get_config(a, b):\n    pass\n", ": get_config() must be given an argument"),
    "a field": (GOOD.replace("return", "config.epochs = 0; return"), ": epochs must be a whole"),
    "no such field": (GOOD.replace("return", "config.epoch = 3; return"), ": There is no field "
                      "'epoch'. Did you mean 'epochs'?"),
    "no data": (GOOD.replace('{"name": "digits"}', "{}"), ": data.name must be given"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_an_error_in_a_file_is_a_line_with_its_name_and_the_line_in_it(kind, write):
    source, message = BROKEN[kind]
    path = write(source)
    text = refused(path)
    assert text.startswith(path), text
    assert message in text
    assert "Traceback" not in text


def test_an_error_in_what_a_file_imports_names_both(write, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    other = write("y = = 2\n", "imported_by_a_configuration.py")
    path = write("\nimport imported_by_a_configuration\n")
    assert refused(path) == (
        f"{path}, line 2: not valid Python in {other}, line 1 (invalid syntax). Mend that."
    )


def test_files_that_are_none(tmp_path, write):
    path = write(GOOD)
    (tmp_path / "folder.py").mkdir()
    assert refused(f"{tmp_path}/rum.py") == (
        f"There is no configuration file {tmp_path}/rum.py. Did you mean {path}?"
    )
    assert f"Did you mean {path}?" in refused(f"{tmp_path}/run")
    assert refused(f"{tmp_path}/nosuch/x.py").endswith("nosuch/x.py.")
    assert f"must be a Python file, but is a directory. Give one of {path}" in refused(
        str(tmp_path)
    )
    assert "folder.py must be a Python file, but is a directory." in refused(
        f"{tmp_path}/folder.py"
    )
    other = write("{}", "config.json")
    assert refused(other).endswith(f"a Python file, whose name ends in .py, but got {other}.")
    assert "whose name ends in .py" in refused("/dev/null")
    assert refused("a\0b.py")
    assert refused("a" * 5000).startswith("There can be no configuration file 'aaa")


def test_an_argument_follows_a_colon(write):
    path = write(GOOD)
    assert refused(f"{path}:56") == (
        f"{path}: get_config() takes no argument of the command line, but got '56'. "
        f"Give --config={path}."
    )
    depth = str(ROOT / "configs" / "cifar10_resnet.py")
    assert read_config(f"{depth}:56").model.name == "resnet56"
    assert refused(f"{depth}:19").endswith(
        "ValueError: The depth must be one of 20, 32, 44, 56, 110, but got '19'."
    )
    with_colon = write(GOOD, "a:b.py")
    assert read_config(with_colon).model.name == "resnet18"


def test_a_file_is_run_once_and_may_print_and_have_dataclasses(write, capsys):
    path = write(
        "from __future__ import annotations\nimport dataclasses\nprint('hello')\n"
        "@dataclasses.dataclass\nclass Sizes:\n    width: int = 4\n"
        + GOOD.replace("return", "config.model.width = Sizes().width; return")
        + "print(__file__)\n"
    )
    assert read_config(path).model.width == 4
    assert capsys.readouterr().out == f"hello\n{path}\n"
    assert not (Path(path).parent / "__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("epochs", "1_000", 1000),
        ("optimizer.warmup_epochs", "1", 1.0),
        ("optimizer.learning_rate", "1e-3", 0.001),
        ("jit_compile", "true", True),
        ("jit_compile", "False", False),
        ("jit_compile", "1", True),
        ("data.image_size", "None", None),
        ("data.image_size", "24", 24),
        ("data.name", "folder:a b=c,d", "folder:a b=c,d"),
        ("model.weights", "123", "123"),
        ("model.norm", "None", None),
        ("model.gate", "stop_skip", "stop_skip"),
        ("model.blocks", "(1, 2)", (1, 2)),
        ("loggers", "wandb", ("wandb",)),
        ("loggers", "('wandb', 'mlflow')", ("wandb", "mlflow")),
        ("loggers", "()", ()),
        ("tensorboard.profile_steps", "(30, 40)", (30, 40)),
        ("tensorboard.profile_steps", "30, 40", (30, 40)),
        ("loss.class_weights", "balanced", ("balanced",)),
        ("loss.class_weights", '("balanced",)', ("balanced",)),
        ("loss.class_weights", "[1, 2]", (1.0, 2.0)),
        ("recording.statistics", "paths", ("paths",)),
        ("recording.alarms.vanishing", "1e-5", 1e-5),
        ("recording.alarms.nonfinite", "false", False),
    ],
)
def test_the_command_line_sets_a_field_in_the_type_of_the_field(name, text, value, write):
    found = read_config(write(GOOD), [(name, text)])
    assert flat(found.to_dict())[name] == value


def test_a_tuple_may_be_given_by_its_elements_and_of_others_the_last_counts(write):
    given = [("loggers", "wandb"), ("epochs", "3"), ("loggers", "mlflow"), ("epochs", "4")]
    found = read_config(write(GOOD), given)
    assert (found.loggers, found.epochs) == (("wandb", "mlflow"), 4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("epochs", "abc", "--config.epochs: epochs must be a whole number of at least 1 and at "
         "most 999,999, but got 'abc'."),
        ("epochs", "3.5", "but got 3.5."),
        ("epochs", "", "but got ''."),
        ("epochs", "nan", "but got 'nan'."),
        ("epochs", "-1", "but got -1."),
        ("epochs", "True", "but got True."),
        ("epochs", "__import__('os')", "but got \"__import__('os')\"."),
        ("epochs", "(" * 5000, "but got '((("),
        ("jit_compile", "1.5", "jit_compile must be True or False, but got '1.5'."),
        ("optimizer.learning_rate", "(0.1,)", "but got (0.1,)."),
        ("data.mean", "0.5", "must have as many numbers, one a channel, but got (0.5,) and ()."),
        ("data.mean", "a", "but got ('a',) (see element 0, 'a')."),
        ("nosuch", "1", "There is no field 'nosuch'."),
        ("optimizer", "3", "optimizer must be a section of fields, but got '3'."),
        ("optimizer", "{'name': 'sgd'}", "optimizer must be a section of fields"),
        ("optimizer.", "3", "There is no field 'optimizer.'. optimizer has name, learning_rate"),
        ("", "3", "There is no field ''."),
        ("epochs.more", "3", "There is no field 'epochs.more'. Did you mean 'epochs'"),
        ("data.name", "", 'data.name must be a string that is not empty, such as "digits"'),
        ("model.name", "None", "Did you mean" * 0 + "but got 'None'."),
    ],
)  # fmt: skip
def test_what_the_command_line_cannot_set(name, text, message, write):
    assert message in refused(write(GOOD), [(name, text)])


def flags(*arguments):
    """The fields that `train.py` finds in its arguments, without TensorFlow."""
    code = (
        "import json, runpy, sys\n"
        "train = runpy.run_path('reszoo/train.py')\n"
        "print(json.dumps(train['parse_flags'](['train.py', *sys.argv[1:]])[1:]))\n"
        "assert 'tensorflow' not in sys.modules"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_fields_are_taken_out_of_the_command_line(tmp_path):
    (tmp_path / "flags").write_text("--config.seed=3\n--config.data.flip\n")
    done = flags(
        f"--config={DIGITS}", "--config.epochs=3", "-config.batch_size", "-8", "--workdir=a",
        "--config.jit_compile", f"--flagfile={tmp_path}/flags", "--noconfig.data.crop",
        "--config.data.name=folder:a=b", "--config.optimizer.momentum", "0.5", "--mode=eval",
    )  # fmt: skip
    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        "epochs=3", "batch_size=-8", "jit_compile=True", "seed=3", "data.flip=True",
        "data.crop=False", "data.name=folder:a=b", "optimizer.momentum=0.5",
    ]  # fmt: skip


RUN = [f"--config={DIGITS}", "--workdir=a"]


def test_options_are_taken_with_their_mode_and_without_a_wish():
    assert flags(*RUN, "--mode=export", "--fold", "--format=onnx").stderr == ""
    assert flags(*RUN, "--mode=predict", "--images=a.png", "--nofold").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "train.py: --config must be given, such as --config=configs/digits_resnet18.py."),
        (["--config=", "--workdir=a"], "train.py: --config must be given"),
        ([f"--config={DIGITS}"], "train.py: --workdir must be given, the directory of the run"),
        ([f"--config={DIGITS}", "--workdir=a", "stray"], "there is no argument 'stray'"),
        (["--workdr=a"], "train.py: there is no option --workdr. Did you mean --workdir?\n"),
        (["--epochs=3"], "train.py: there is no option --epochs. Did you mean --config.epochs?\n"),
        (["--nosuch=3"], "train.py: there is no option --nosuch. See --help.\n"),
        (["--mode=test"], "--mode must be train, eval, export or predict, but got 'test'.\n"),
        (["--verbosity=low"], "train.py: --verbosity must be a whole number, but got 'low'.\n"),
        (["--images"], "train.py: --images must have a value.\n"),
        ([*RUN, "--fold"], "train.py: --fold needs --mode=export.\n"),
        ([*RUN, "--fold", "--mode=eval"], "train.py: --fold needs --mode=export.\n"),
        ([*RUN, "--format=savedmodel"], "train.py: --format needs --mode=export.\n"),
        ([*RUN, "--mode=export", "--images=a.png"], "--images needs --mode=predict.\n"),
        (["--stderrthreshold=low"], "train.py: --stderrthreshold must be one of "),
        (["--flagfile=/nosuch"], "Unable to open flagfile: [Errno 2] No such file"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line_and_waits_for_nothing(arguments, message):
    done = flags(*arguments)
    assert done.returncode == 1
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith("train.py: ")
    assert message in done.stderr


def test_a_recipe_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_config("digits_resnet18").model.name == "resnet18"
    assert read_config("cifar10_resnet:56", [("epochs", "3")]).model.name == "resnet56"
    assert refused("digits_resnet8").startswith(
        "There is no configuration file digits_resnet8. Did you mean digits_resnet18 or "
    )


def test_a_file_goes_before_a_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits_resnet18").write_text(GOOD)
    assert "whose name ends in .py" in refused("digits_resnet18")


def test_every_configuration_is_a_recipe():
    assert set(recipes().values()) == set((ROOT / "configs").glob("*.py"))
