"""What goes into the model, and which part of it is the image."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core.errors import CaptureError, InputError, NonFiniteError
from camkit_core.tree import map_tensors, take, tensors


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """Positional and keyword arguments of one call, with the image marked."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: int | str

    @classmethod
    def of(cls, inputs: Any, image: int | str | None = None) -> ModelInputs:
        """Arguments from a tensor, a tuple (positional) or a dict (keywords).

        Raises:
            InputError: another type, no image in it, or an image that cannot be explained.
        """
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        if isinstance(inputs, Tensor):
            args = (inputs,)
        elif isinstance(inputs, tuple):
            args = inputs
        elif isinstance(inputs, Mapping):
            kwargs = dict(inputs)
        else:
            raise InputError(
                f"inputs must be a float tensor [N, C, *S], a tuple or a dict of model arguments, "
                f"got {type(inputs).__module__}.{type(inputs).__name__}; for a photo use "
                "camkit.load_model(...).preprocess(camkit.open_photo(path))"
            )
        whole = cls(args, kwargs, _locate(args, kwargs, image))
        _check(whole.image)
        return whole

    @property
    def image(self) -> Tensor:
        """The tensor that is explained, `[N, C, *S]`."""
        found = self.args[self.key] if isinstance(self.key, int) else self.kwargs[self.key]
        assert isinstance(found, Tensor)
        return found

    def with_image(self, image: Tensor) -> ModelInputs:
        """The same arguments with another image of the same batch size."""
        return self._replace(image, self.args, self.kwargs)

    def rows(self, image: Tensor, owner: Tensor, common: Collection[int | str] = ()) -> ModelInputs:
        """M perturbed images; every batched argument that is not `common` follows its owner."""

        def rows_of(key: int | str, value: Any) -> Any:
            return value if key in common else take(value, owner, len(self.image))

        args = tuple(rows_of(key, value) for key, value in enumerate(self.args))
        kwargs = {name: rows_of(name, value) for name, value in self.kwargs.items()}
        return self._replace(image, args, kwargs)

    def usable(self) -> ModelInputs:
        """Without inference tensors, which autograd cannot use."""

        def change(tensor: Tensor) -> Tensor:
            return tensor.clone() if tensor.is_inference() else tensor

        with torch.inference_mode(False):
            args, kwargs = map_tensors(change, self.args), map_tensors(change, self.kwargs)
        return ModelInputs(args, kwargs, self.key)

    def fresh(self) -> ModelInputs:
        """A copy to call the model with: some models normalize their input in place."""
        with torch.inference_mode(False):
            args, kwargs = (
                map_tensors(Tensor.clone, self.args),
                map_tensors(Tensor.clone, self.kwargs),
            )
        return ModelInputs(args, kwargs, self.key)

    def call(self, model: nn.Module) -> Any:
        """The model's output."""
        return model(*self.args, **self.kwargs)

    def _replace(self, image: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelInputs:
        if isinstance(self.key, int):
            return ModelInputs((*args[: self.key], image, *args[self.key + 1 :]), kwargs, self.key)
        return ModelInputs(args, {**kwargs, self.key: image}, self.key)


def _locate(args: tuple[Any, ...], kwargs: dict[str, Any], image: int | str | None) -> int | str:
    named: dict[int | str, Any] = dict(enumerate(args))
    named.update(kwargs)
    if image is not None:
        if not isinstance(named.get(image), Tensor):
            raise InputError(f"image={image!r} names no tensor among the inputs {list(named)}")
        return image
    for key, value in named.items():
        if isinstance(value, Tensor) and value.ndim >= 3:
            return key
    shapes = {key: list(value.shape) for key, value in named.items() if isinstance(value, Tensor)}
    raise InputError(
        f"no image among the inputs: expected a tensor [N, C, *S] with at least three dimensions, "
        f"got {shapes or list(named)}"
    )


def _check(image: Tensor) -> None:
    if 0 in image.shape[1:]:
        raise InputError(f"the image has shape {list(image.shape)}: there is nothing to look at")
    if not torch.is_floating_point(image):
        raise InputError(
            f"the image is {str(image.dtype).removeprefix('torch.')} {list(image.shape)}, but a "
            "float tensor is needed: gradients need it, and models expect normalized values; "
            "convert with x.float() / 255 and apply the model's normalization"
        )
    # One NaN or infinity makes the sum non-finite, and a sum is many times cheaper than a test.
    if math.isfinite(image.detach().sum()):
        return
    wrong = (~torch.isfinite(image)).nonzero()
    if len(wrong):
        raise NonFiniteError(
            f"the image has {len(wrong)} NaN or infinite values, the first at index "
            f"{wrong[0].tolist()}; every map computed from it would be meaningless"
        )


def diagnose(error: Exception, model: nn.Module, inputs: ModelInputs) -> Exception:
    """A clearer error for a failed forward pass, or the original one."""
    if not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError):
        return error
    if "Inference tensors" in str(error):
        return CaptureError(
            "the model's parameters were created under torch.inference_mode(), or it cached "
            "tensors there, and autograd cannot use them; build, load and first run the model "
            "outside inference_mode (calling camkit inside it is fine)"
        )
    if not re.search("size|shape|dim|type|device|expected|same", str(error), re.IGNORECASE):
        return error
    image = inputs.image
    parameter = next((p for p in model.parameters() if torch.is_floating_point(p)), None)
    if parameter is not None and parameter.device != image.device:
        return InputError(
            f"the image is on {image.device}, the model on {parameter.device}; move one of them"
        )
    autocast = torch.is_autocast_enabled(image.device.type)
    if parameter is not None and parameter.dtype != image.dtype and not autocast:
        return InputError(
            f"the image is {image.dtype}, the model {parameter.dtype}; convert one of them"
        )
    wanted = _expected_ndim(model)
    if wanted and image.ndim != wanted:
        return InputError(unbatched(image, wanted))
    return error


def unbatched(image: Tensor, wanted: int) -> str:
    """What to say about an image of the wrong rank."""
    hint = "; add the batch axis: x[None]" if image.ndim == wanted - 1 else ""
    return (
        f"the image has shape {list(image.shape)} ({image.ndim} axes), but the model's first "
        f"convolution works on {wanted} axes [N, C, *S]{hint}"
    )


def check_batch(model: nn.Module, inputs: ModelInputs, output: Any) -> None:
    """An unbatched image may run silently; the number of output rows gives it away.

    Raises:
        InputError: the image has one axis less than the model's convolutions expect.
    """
    image, found = inputs.image, tensors(output)
    if found and found[0].ndim and len(found[0]) == len(image):
        return
    wanted = _expected_ndim(model)
    if not wanted or image.ndim != wanted - 1:
        return
    if found and (found[0].ndim == 0 or len(found[0]) != len(image)):
        raise InputError(unbatched(image, wanted))


def _expected_ndim(model: nn.Module) -> int:
    for module in model.modules():
        for ndim, kind in ((3, nn.Conv1d), (4, nn.Conv2d), (5, nn.Conv3d)):
            if isinstance(module, kind):
                return ndim
    return 0
