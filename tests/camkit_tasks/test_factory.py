"""`file.py:factory`: what the user's code may return, and how its files are imported."""

from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image
from tasks_proof.factory_files import failure
from torch import nn
from torchvision import transforms

from camkit_core import LoadedModel, ModelError
from camkit_tasks import ImagePreprocess
from camkit_tasks.loaders.factory import load

# -- what may be returned ------------------------------------------------------------------------


def test_a_bare_module_gets_imagenet_preprocessing_and_a_note(write):
    spec = (
        write("def build():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout())\n")
        + ":build"
    )
    loaded = load(spec)
    assert loaded.spec == spec
    assert loaded.weights == "as built by net.py:build"
    assert loaded.preprocess == ImagePreprocess()
    assert loaded.class_names == ()
    assert "ASSUMED" in loaded.notes[0]
    assert "256" in loaded.notes[0]
    assert not loaded.model[1].training


def test_gray_networks_get_gray_photos(write):
    loaded = load(write("def build():\n    return nn.Conv2d(1, 4, 3)\n") + ":build")
    prepared = loaded.preprocess(Image.new("RGB", (300, 300), (10, 200, 30)))
    assert prepared.inputs.shape == (1, 1, 224, 224)
    assert "one gray channel" in loaded.notes[0]
    with torch.no_grad():
        assert torch.isfinite(loaded.model(prepared.inputs)).all()


@pytest.mark.parametrize(
    "layer", ["nn.Conv2d(4, 4, 3)", "nn.Conv3d(1, 4, 3)", "nn.Conv1d(3, 4, 3)"]
)
def test_networks_that_take_no_photo_need_preprocessing(write, layer):
    spec = write(f"def build():\n    return {layer}\n") + ":build"
    with pytest.raises(
        ModelError, match=r"Conv.*neither an RGB nor a gray photo.*\(model, preprocess\)"
    ):
        load(spec)


def test_the_size_a_network_declares_is_used(write):
    code = """
    def build():
        from torchvision.models import VisionTransformer
        return VisionTransformer(image_size=64, patch_size=16, num_layers=1, num_heads=2,
                                 hidden_dim=8, mlp_dim=8, num_classes=3)
    """
    loaded = load(write(code) + ":build")
    prepared = loaded.preprocess(Image.new("RGB", (300, 200)))
    with torch.no_grad():
        assert loaded.model(prepared.inputs).shape == (1, 3)
    assert loaded.preprocess.describe()["resize"] == 73  # 64 / (224 / 256), rounded down


def test_a_declared_pretrained_cfg_is_used(write):
    code = """
    def build(mode="center", size=(3, 112, 112)):
        model = nn.Conv2d(size[0], 4, 3)
        model.pretrained_cfg = dict(input_size=size, crop_pct=0.9, crop_mode=mode,
                                    interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
        return model
    def squash(): return build("squash", (3, 112, 90))
    def border(): return build("border")
    def oblong(): return build("center", (3, 112, 90))
    """
    path = write(code)
    expected = ImagePreprocess(
        resize=124, crop=(112, 112), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    loaded = load(f"{path}:build")
    assert loaded.preprocess == expected
    assert "pretrained_cfg" in loaded.notes[0]
    assert load(f"{path}:squash").preprocess.resize == (124, 100)
    for name in ("border", "oblong"):
        with pytest.raises(ModelError, match="pretrained_cfg cannot be used"):
            load(f"{path}:{name}")


PARTS = """
from camkit_tasks import ImagePreprocess
pre = ImagePreprocess(resize=40, crop=(32, 32))
net = nn.Conv2d(3, 2, 3)
names = ["cat", "dog"]
def pair(): return net, pre
def triple(): return net, pre, names
def table(): return {"model": net, "class_names": tuple(names), "preprocess": pre}
def only_names(): return {"model": net, "class_names": names}
def none(): return net, None, None
"""


@pytest.mark.parametrize(
    ("name", "with_preprocess", "with_names"),
    [
        ("pair", True, False),
        ("triple", True, True),
        ("table", True, True),
        ("only_names", False, True),
        ("none", False, False),
    ],
)
def test_tuples_and_dicts(write, name, with_preprocess, with_names):
    loaded = load(f"{write(PARTS)}:{name}")
    assert isinstance(loaded.model, nn.Conv2d)
    expected = ImagePreprocess(resize=40, crop=(32, 32)) if with_preprocess else ImagePreprocess()
    assert loaded.preprocess == expected
    assert loaded.class_names == (("cat", "dog") if with_names else ())
    assert bool(loaded.notes) != with_preprocess


def test_torchvision_transforms_are_converted(write):
    code = """
    from torchvision import transforms as T
    def build():
        normalize = T.Normalize([.5] * 3, [.2] * 3)
        steps = [T.Resize(40), T.CenterCrop(32), T.ToTensor(), normalize]
        return nn.Conv2d(3, 2, 3), T.Compose(steps)
    """
    loaded = load(write(code) + ":build")
    assert loaded.preprocess == ImagePreprocess(
        resize=40, crop=(32, 32), mean=(0.5,) * 3, std=(0.2,) * 3
    )
    photo = Image.effect_mandelbrot((90, 70), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    chain = transforms.Compose(
        [transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()]
    )
    expected = (chain(photo) - 0.5) / 0.2
    torch.testing.assert_close(loaded.preprocess(photo).inputs[0], expected, rtol=0, atol=1e-6)


def test_a_preprocess_of_ones_own_is_taken_if_it_describes_itself(write):
    code = """
    class Mine:
        def __call__(self, photo): raise NotImplementedError
        def describe(self): return {"kind": "mine"}
    def build(): return nn.Conv2d(7, 2, 3), Mine()
    """
    assert load(write(code) + ":build").preprocess.describe() == {"kind": "mine"}


def test_a_loaded_model_passes_through_with_the_specification(write):
    code = """
    from camkit_core import LoadedModel
    from camkit_tasks import ImagePreprocess
    def build():
        return LoadedModel(model=nn.Conv2d(3, 2, 3), spec="?", weights="w",
                           preprocess=ImagePreprocess(), class_names=("a", "b"), notes=("n",))
    """
    spec = write(code) + ":build"
    loaded = load(spec)
    assert isinstance(loaded, LoadedModel)
    assert (loaded.spec, loaded.weights, loaded.class_names, loaded.notes) == (
        spec,
        "w",
        ("a", "b"),
        ("n",),
    )


def test_classes_methods_and_ready_models(write):
    code = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
        @classmethod
        def small(cls, width=3): return cls()
    ready = Net()
    """
    path = write(code)
    for name in ("Net", "Net.small", "ready"):
        assert type(load(f"{path}:{name}").model).__name__ == "Net"
    assert load(f"{path}:ready").model is not load(f"{path}:Net").model


def test_a_module_by_dotted_name(write, tmp_path, monkeypatch):
    write("def build():\n    return nn.Conv2d(3, 2, 3)\n", "camkit_probe_pkg/nets.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = load("camkit_probe_pkg.nets:build")
    assert isinstance(loaded.model, nn.Conv2d)
    assert "camkit_probe_pkg.nets" in failure("camkit_probe_pkg.nets:bulid").args[0]
    assert "No module named" in failure("camkit_probe_pkg.missing:build").args[0]


def test_a_relative_path_and_a_prefix(write, tmp_path, monkeypatch):
    write("def build():\n    return nn.Conv2d(3, 2, 3)\n", "sub/net.py")
    monkeypatch.chdir(tmp_path)
    assert load("sub/net.py:build").spec == "sub/net.py:build"
    assert isinstance(load("file:sub/net.py:build").model, nn.Conv2d)


# -- the user's other files ------------------------------------------------------------------------


def test_sibling_imports_work_and_leave_no_trace_on_the_path(write):
    write("WIDTH = 6\n", "camkit_probe_sizes.py")
    write("OUT = 5\n", "camkit_probe_late.py")
    code = """
    from camkit_probe_sizes import WIDTH
    def build():
        from camkit_probe_late import OUT
        return nn.Conv2d(3, WIDTH * OUT, 3)
    """
    spec = write(code) + ":build"
    before = list(sys.path)
    assert load(spec).model.out_channels == 30
    assert sys.path == before


def test_two_projects_with_the_same_file_names_are_kept_apart(write):
    for folder, width in (("one", 4), ("two", 8)):
        write(f"WIDTH = {width}\n", f"{folder}/camkit_probe_shared.py")
        code = "from camkit_probe_shared import WIDTH\ndef build(): return nn.Conv2d(3, WIDTH, 3)\n"
        spec = write(code, f"{folder}/net.py") + ":build"
        assert load(spec).model.out_channels == width
    assert load(spec.replace("/two/", "/one/")).model.out_channels == 4


def test_an_edited_file_is_read_again(write):
    for width in (2, 33):
        spec = write(f"def build(): return nn.Conv2d(3, {width}, 3)  # {'x' * width}\n") + ":build"
        assert load(spec).model.out_channels == width


def test_dataclasses_and_annotations_in_the_file_work(write):
    code = """
    from dataclasses import dataclass
    @dataclass
    class Config:
        width: "int" = 3
    def build() -> "nn.Module": return nn.Conv2d(3, Config().width, 3)
    """
    assert load(write(code) + ":build").model.out_channels == 3


def test_random_numbers_of_the_factory_do_not_disturb_the_callers(write):
    spec = (
        write("def build():\n    torch.manual_seed(1)\n    return nn.Conv2d(3, 9, 3)\n") + ":build"
    )
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = load(spec).model.weight
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, load(spec).model.weight)
