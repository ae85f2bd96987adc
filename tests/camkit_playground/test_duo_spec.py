"""`duo:7` and its relatives, as the registry opens them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from camkit_core import InputError, Registry
from camkit_playground.duo import mosaic, scene


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(allow=["camkit-playground"])


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("duo:7", scene(7).image),
        ("duo: 7 ", scene(7).image),
        ("duo:7@tag", scene(7, tag=True).image),
        ("duo:7@128", scene(7, size=128).image),
        ("duo:7@128@tag", scene(7, size=128, tag=True).image),
        ("duo:7@tag@96", scene(7, size=96, tag=True).image),
        ("duo:7@grid", mosaic(7).image),
        ("duo:123456789012345678", scene(123456789012345678).image),
    ],
)
def test_a_picture_by_its_seed(registry: Registry, spec: str, wanted: np.ndarray) -> None:
    photo = registry.open_photo(spec)
    assert photo is not None
    assert photo.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(photo), wanted)


@pytest.mark.parametrize("spec", ["duo", "cat.jpg", "dou:7", "demo:cnn", "C:photo.png"])
def test_other_names_are_left_to_others(registry: Registry, spec: str) -> None:
    assert registry.open_photo(spec) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("duo:", "'' is not a seed"),
        ("duo:seven", r"'seven' is not a seed \(0, 1, 2, ...\); expected duo:SEED"),
        ("duo:-1", "'-1' is not a seed"),
        ("duo:1.5", "'1.5' is not a seed"),
        ("duo:²", "'²' is not a seed"),
        ("duo:" + "9" * 5000, "is not a seed"),
        ("duo:7@tga", "unknown option 'tga'; did you mean 'tag'"),
        ("duo:7@", "unknown option ''; expected duo:SEED"),
        ("duo:7@blue", "unknown option 'blue'; expected duo:SEED"),
        ("duo:7@tag@tag", "gives an option twice"),
        ("duo:7@64@128", "gives an option twice"),
        ("duo:7@tag@grid", "mosaics have no tag"),
        ("duo:7@5", r"size 5 of a Duo picture is not in 32\.\.1024"),
    ],
)
def test_what_is_wrong_with_a_name(registry: Registry, spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        registry.open_photo(spec)
    assert "\n" not in str(raised.value)


def test_listings_stay_free_of_torch_and_numpy() -> None:
    code = (
        "import sys; from camkit_core import Registry; "
        "registry = Registry(allow=['camkit-playground']); "
        "print(registry.find('model family', 'demo').summary); "
        "registry.open_photo('cat.jpg'); "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["demo:cnn | demo:hans | demo:vit", "[]"]


def test_pictures_need_no_torch() -> None:
    code = (
        "import sys; from camkit_core import Registry; "
        "print(Registry(allow=['camkit-playground']).open_photo('duo:7@grid').size, "
        "'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(128, 128) False"
