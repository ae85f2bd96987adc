"""The code in the READMEs runs and does what the text around it says."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest
import torch
import torchvision

import camkit
from camkit_core import Registry


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("file", ["README.md", "camkit/README.md"])
def test_python_of_the_readme(root, file, network, photos):
    namespace = {"model": network, "images": photos}
    exec(_code(root / file), namespace)
    explanation = namespace["explanation"]
    assert explanation.maps.shape == (2, 64, 96)
    assert 0 <= explanation.maps.min() < explanation.maps.max() <= 1
    assert explanation.raw["layer4"].shape == (2, 2, 3)
    with torch.inference_mode():
        torch.testing.assert_close(explanation.output, network(photos))


def test_comparison_of_the_readme_has_one_explanation_per_method_and_target(root, network, photos):
    namespace = {"model": network, "images": photos}
    exec(_code(root / "README.md"), namespace)
    alone = camkit.explain(network, photos, method="layercam", target=281, layers="layer4")
    found = namespace["comparison"]["layercam", 1]
    assert alone.raw["layer4"].std() > 0
    torch.testing.assert_close(found.raw["layer4"], alone.raw["layer4"])


def test_third_party_method_of_the_core_readme(root, network, photos):
    code = _code(root / "camkit_core" / "README.md")
    written = [line for line in code.splitlines() if line and not line.startswith("#")]
    assert len(written) <= 25
    plugin = types.ModuleType("camkit_powercam")
    plugin.__dict__["__name__"] = "camkit_powercam"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "camkit_powercam", plugin)
        exec(compile(code, "camkit_powercam.py", "exec", dont_inherit=True), plugin.__dict__)
        registry = Registry(plugins=[("camkit-powercam", plugin)])
        plain, squared = (
            camkit.explain(
                network, photos, method="powercam", layers="layer4", registry=registry, power=power
            )
            for power in (1.0, 2.0)
        )
    layercam = camkit.explain(network, photos, method="layercam", layers="layer4")
    torch.testing.assert_close(plain.maps, layercam.maps, atol=1e-5, rtol=0)
    assert (squared.maps - plain.maps).abs().max() > 1e-3


def _code(file: Path) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", file.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 1, file
    return blocks[0]
