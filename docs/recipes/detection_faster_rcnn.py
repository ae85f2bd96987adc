"""Why did a detector draw this box? Faster R-CNN with random weights."""

import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

import camkit

torch.manual_seed(0)
# With random weights every score is low, so that nothing may be thrown away.
# A trained one: fasterrcnn_mobilenet_v3_large_320_fpn(weights="DEFAULT").
model = fasterrcnn_mobilenet_v3_large_320_fpn(
    weights=None, weights_backbone=None, num_classes=5, box_score_thresh=0.0, min_size=160
).eval()
image = torch.rand(1, 3, 160, 224)

# The detection with the highest score: its class score, and how well a box overlaps with it.
best = camkit.explain(model, image, method="gradcam")
print("explained:", best.target.label)

# Any other detection by its rank, and methods that need no gradient.
second = camkit.explain(model, image, method="eigencam", target="box:1")
print("explained:", second.target.label)

best.save("detection_best.png")
second.save("detection_second.png")
