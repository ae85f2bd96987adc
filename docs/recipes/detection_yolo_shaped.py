"""A detector in the shape of YOLO: `[N, 4 + classes, anchors]` before non-maximum suppression."""

import torch
from torch import nn

import camkit


class Detector(nn.Module):
    """Boxes as center and size in pixels, then a probability per class, for every cell."""

    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU()
        )
        self.box, self.cls = nn.Conv2d(32, 4, 1), nn.Conv2d(32, classes, 1)

    def forward(self, x):
        """One column per cell."""
        features = self.backbone(x)
        rows, columns = features.shape[2:]
        centers = torch.stack(
            torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        )
        center = 4 * (centers.flip(0) + 0.5) + self.box(features)[:, :2].tanh()
        size = 24 * self.box(features)[:, 2:].sigmoid()
        return torch.cat([center, size, self.cls(features).sigmoid()], 1).flatten(2)


torch.manual_seed(0)
model, image = Detector().eval(), torch.rand(1, 3, 96, 128)

# Found by its shape; no library is asked. The best prediction of all cells is explained.
explanation = camkit.explain(model, image, method="gradcam", layers="backbone")
print("explained:", explanation.target.label)

# One prediction by its number and class, before anything is suppressed.
number = int(model(image)[0, 4].argmax())
other = camkit.explain(model, image, "hirescam", f"prediction:{number}:0", layers="backbone")
print("explained:", other.target.label)

explanation.save("detection_yolo.png")
