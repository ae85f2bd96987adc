"""Which part of an image goes with a text? A model in the shape of CLIP, with random weights."""

import torch
from torch import nn

import camkit
from camkit_core import LoadedModel
from camkit_tasks import ImagePreprocess


class ImageTower(nn.Module):
    """Images to embeddings `[N, 32]`."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 7, 4, 3), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1)
        )
        self.project = nn.Linear(32, 32)

    def forward(self, pixels):
        """Embeddings of images `[N, 3, H, W]`."""
        return self.project(self.features(pixels).mean((2, 3)))


class TextTower(nn.Module):
    """Texts to embeddings `[T, 32]`; a real one has a tokenizer and a transformer."""

    def __init__(self):
        super().__init__()
        self.letters = nn.EmbeddingBag(256, 32)

    def forward(self, texts):
        """Embeddings of strings."""
        return torch.cat([self.letters(torch.tensor([list(text.encode())])) for text in texts])


torch.manual_seed(0)
images, texts = ImageTower().eval(), TextTower().eval()
# With transformers installed all of this is camkit.load_model("hf:openai/clip-vit-base-patch32").
model = LoadedModel(
    model=images,
    spec="mine",
    weights="random",
    preprocess=ImagePreprocess(resize=64, crop=(64, 64)),
    encode_text=texts,
)

prepared = model.preprocess(camkit.open_photo("duo:7"))
one = camkit.explain(model, prepared, method="gradcam", target="text:a gold heart")
print(f"{one.target.label}: {one.score[0]:.3f}")

rather = camkit.explain(model, prepared, target="text:a gold heart-vs-a teal disk")
print(f"{rather.target.label}: {rather.score[0]:.3f}")
one.save("image_text.png")
