"""A loss on the map itself: teach a network to look where it should."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import camkit

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)


def batch(n=16):
    """Stripes across (0) or down (1) in the left half; a tag on the right gives the class away."""
    labels = torch.randint(2, (n,))
    images = 0.1 * torch.randn(n, 1, 16, 16)
    for image, label in zip(images, labels, strict=True):
        stripes = image[0, :, :8] if label == 0 else image[0, :, :8].T
        stripes[::2] += 1
        image[0, 4:8, 12:16] += 3.0 * label
    return images, labels


for step in range(31):
    images, labels = batch()
    # With differentiable=True the map keeps its graph down to the model's parameters.
    seen = camkit.explain(
        model,
        images,
        method="layercam",
        target=labels.tolist(),
        layers="1",
        post="raw",
        differentiable=True,
    ).maps.relu()
    # The share of the map that lies on the tag's side.
    outside = seen[..., 8:].sum((1, 2)) / (seen.sum((1, 2)) + 1e-6)
    loss = cross_entropy(model(images), labels) + 2 * outside.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step:2}: loss {loss.item():.3f}, outside {outside.mean().item():.2f}")
