"""`file.py:factory`: one clear line for whatever the user's code does wrong."""

from __future__ import annotations

import re
import sys

import pytest
from tasks_proof.factory_files import failure

from camkit_core import ModelError
from camkit_tasks.loaders.factory import load


def test_missing_file_with_near_miss(write):
    path = write("", "resnet_mine.py")
    text = str(failure(path.replace("resnet_mine", "resnet_mien") + ":build"))
    assert "there is no file" in text
    assert "'resnet_mine.py'" in text


def test_missing_factory_with_near_miss_or_list(write):
    path = write("def build_model(): pass\ndef _private(): pass\n")
    assert "has no 'build_modle'; did you mean 'build_model'?" in str(
        failure(path + ":build_modle")
    )
    assert "has no 'zzz'; it has build_model" in str(failure(path + ":zzz"))
    assert "it has no functions" in str(failure(write("x = 1\n", "empty.py") + ":zzz"))


def test_a_file_without_factory_says_how_to_name_one(write):
    path = write("def build(): pass\n")
    for spec in (path, f"{path}:", f"{path}:build()"):
        assert f"e.g. {path}:build" in str(failure(spec))


@pytest.mark.parametrize(
    ("code", "name", "words", "line"),
    [
        ("def build():\n    return 1 / 0\n", "build", "ZeroDivisionError: division by zero", 4),
        ("import camkit_no_such_module\ndef build(): pass\n", "build", "No module named", 3),
        ("x = = 1\n", "build", "SyntaxError", 3),
        ("import sys\nsys.exit(3)\n", "build", "SystemExit: 3", 4),
        ("def build():\n    return torch.nn.Linear(-1, 2)\n", "build", "RuntimeError", 4),
        ("def build():\n    raise KeyError('two\\nlines')\n", "build", "KeyError", 4),
    ],
)
def test_code_that_raises_is_quoted_with_its_place(write, code, name, words, line):
    path = write(code)
    error = failure(f"{path}:{name}")
    assert words in str(error)
    assert f"failed at {path}:{line}" in str(error)
    assert error.__cause__ is not None
    assert type(error.__cause__).__name__ in str(error)


def test_a_failed_import_leaves_no_half_module(write):
    before = set(sys.modules)
    failure(write("raise RuntimeError('early')\n") + ":build")
    assert not {name for name in set(sys.modules) - before if "camkit_user" in name}


def test_ctrl_c_is_not_swallowed(write):
    with pytest.raises(KeyboardInterrupt):
        load(write("def build(): raise KeyboardInterrupt\n") + ":build")


def test_factories_with_arguments(write):
    path = write("def build(classes, width=3): pass\nnumber = 5\n")
    text = str(failure(path + ":build"))
    assert "build(classes, width=3) is called without arguments" in text
    assert "'classes'" in text
    assert "number is a int, not a function" in str(failure(path + ":number"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("None", "returned None, expected an nn.Module"),
        ("nn.Conv2d", "returned a type"),
        ("[nn.Conv2d(3, 2, 3)]", "returned a list"),
        ("(1, 2)", "returned a tuple of int, int"),
        ("(nn.Conv2d(3, 2, 3),)", "returned a tuple of Conv2d"),
        ("(nn.Conv2d(3, 2, 3), None, None, 1)", "returned a tuple of Conv2d"),
        ("{'net': 1}", "keys ['net'], expected model"),
        (
            "{'model': nn.Conv2d(3, 2, 3), 'transform': 1}",
            "expected model and optionally preprocess",
        ),
        ("{'model': 3}", "returned a dict"),
        ("(nn.Conv2d(3, 2, 3), lambda photo: photo)", "preprocess is a function"),
        ("(nn.Conv2d(3, 2, 3), None, 'cat')", "class_names is a str"),
        ("(nn.Conv2d(3, 2, 3), None, [1, 2])", "class_names is a list"),
    ],
)
def test_other_return_values(write, value, words):
    spec = write(f"def build():\n    return {value}\n") + ":build"
    assert re.search(re.escape(words), str(failure(spec)))


def test_steps_of_unknown_geometry_are_named(write):
    code = """
    from torchvision import transforms as T
    def build(): return nn.Conv2d(3, 2, 3), T.Compose([T.RandomCrop(32), T.ToTensor()])
    """
    with pytest.raises(
        ModelError, match=r"RandomCrop.*every step must be known: .*Resize, CenterCrop"
    ):
        load(write(code) + ":build")


@pytest.mark.parametrize(
    "spec", ["timm:resnet18", "demo:cnn", "hf:org/name", "resnet50", "", ":", "a:b:c"]
)
def test_other_specifications_are_left_to_others(spec):
    assert load(spec) is None
