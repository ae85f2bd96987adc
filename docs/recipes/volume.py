"""A network on volumes, as in medical imaging: any number of spatial axes works the same way."""

import torch
from torch import nn

import camkit

torch.manual_seed(0)
# monai.networks.nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2) goes as well.
model = nn.Sequential(
    nn.Conv3d(1, 8, 3, stride=(1, 2, 2), padding=1),
    nn.ReLU(),
    nn.Conv3d(8, 16, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool3d(1),
    nn.Flatten(),
    nn.Linear(16, 2),
).eval()
scan = torch.randn(1, 1, 24, 64, 64)  # [N, C, depth, height, width]

explanation = camkit.explain(model, scan, method="gradcam")
depth, row, column = torch.unravel_index(explanation.maps[0].argmax(), explanation.maps.shape[1:])
print(
    f"map {tuple(explanation.maps.shape)}, strongest at slice {depth}, row {row}, column {column}"
)

explanation.save("volume.npz")  # all slices, for other programs
explanation.save("volume.png")  # the slices side by side
