"""Image-text models (CLIP, SigLIP and their kin) as networks of an image alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camkit_core import ModelError
from camkit_tasks.words import one_line

_TEXT_PARTS = ("text_model", "text_projection")
_OLD_END = 2

STAND_IN_NOTE = (
    "there is no tokenizer: texts are read byte by byte, which is as good as any for random weights"
)

Tokenizer = Callable[[list[str]], Mapping[str, Tensor]]
"""Texts to `input_ids` and, where the model looks at it, `attention_mask`, each `[T, L]`."""


class ImageEmbeddings(nn.Module):
    """The image half of an image-text model; parameters are shared with it.

    The forward takes `pixel_values [N, 3, H, W]` and returns `{"image_embeds": [N, D]}`, not
    normalised.
    """

    def __init__(self, image_text: nn.Module) -> None:
        """Leave out the text tower, which never runs here."""
        super().__init__()
        half = copy.copy(image_text)
        half._modules = {k: m for k, m in image_text._modules.items() if k not in _TEXT_PARTS}
        self.image_text = half
        self.training = image_text.training

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Embeddings of the images."""
        half: Any = self.image_text
        return {"image_embeds": _vector(half.get_image_features(pixel_values=pixel_values))}


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """`encode(texts) -> [T, D]`: embeddings of texts, not normalised, without gradients."""

    image_text: nn.Module
    tokenize: Tokenizer

    def __call__(self, texts: Sequence[str], /) -> Tensor:
        """One row per text, on the device of the text half."""
        model: Any = self.image_text
        # The image half may have been moved elsewhere since.
        tower: nn.Module = getattr(model, _TEXT_PARTS[0], model)
        device = next(tower.parameters()).device
        words = {name: ids.to(device) for name, ids in self.tokenize(list(texts)).items()}
        with torch.no_grad():
            return _vector(model.get_text_features(**words))


@dataclass(frozen=True, eq=False)
class SavedTokenizer:
    """The tokenizer that came with the weights."""

    tokenizer: Any
    length: int
    reads_last: bool  # SigLIP was trained on padded texts and reads the last position

    @classmethod
    def of(cls, folder: str | Path, config: Any, *, local: bool) -> SavedTokenizer:
        """Read it from a folder or from transformers' cache.

        Raises:
            ModelError: there is none, or it cannot be loaded.
        """
        from transformers import AutoTokenizer

        try:
            # Without its files transformers makes up an empty one, in which all texts are equal.
            if not has_tokenizer(folder):
                raise FileNotFoundError("no vocabulary in that folder")
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=local, trust_remote_code=False
            )
        except Exception as error:  # damaged files fail in the tokenizers package's own ways
            raise ModelError(
                f"the tokenizer of {folder} cannot be loaded ({one_line(error)}), but texts are to "
                "be compared with images; put its files beside the weights"
            ) from error
        length = config.text_config.max_position_embeddings
        return cls(tokenizer, length, str(config.model_type).startswith("siglip"))

    def __call__(self, texts: list[str], /) -> Mapping[str, Tensor]:
        """Token ids, and which of them are padding."""
        found = self.tokenizer(
            texts,
            padding="max_length" if self.reads_last else True,
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        )
        names = ("input_ids",) if self.reads_last else ("input_ids", "attention_mask")
        return {name: found[name] for name in names if name in found}


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a folder has a vocabulary; names of published weights are believed to have one."""
    place = Path(folder)
    names = ("tokenizer.json", "vocab.*", "*.model")
    return not place.is_dir() or any(file for name in names for file in place.glob(name))


@dataclass(frozen=True)
class ByteTokenizer:
    """Texts as their UTF-8 bytes, for networks with random weights."""

    length: int
    words: int
    end: int
    pad: int

    @classmethod
    def of(cls, config: Any) -> ByteTokenizer:
        """One that fits the vocabulary and the positions of the text half."""
        text = config.text_config
        known = range(text.vocab_size)
        # Old CLIP configurations say 2 where the highest id ends a text.
        named = text.eos_token_id in known and text.eos_token_id != _OLD_END
        end = text.eos_token_id if named else text.vocab_size - 1
        pad = text.pad_token_id if text.pad_token_id in known else 0
        return cls(text.max_position_embeddings, text.vocab_size, end, pad)

    def __call__(self, texts: list[str], /) -> Mapping[str, Tensor]:
        """Token ids `[T, length]`, each text closed by the end token."""
        free = [word for word in range(self.words) if word not in (self.end, self.pad)]
        rows = [
            [free[byte % len(free)] for byte in written.encode()][: self.length - 1]
            for written in texts
        ]
        padded = [[*row, self.end, *[self.pad] * (self.length - 1 - len(row))] for row in rows]
        return {"input_ids": torch.tensor(padded)}


def _vector(features: Any) -> Tensor:
    """Embeddings `[N, D]`, which some releases of transformers return inside a container."""
    found = features if isinstance(features, Tensor) else features.pooler_output
    assert isinstance(found, Tensor)
    return found
