"""A Swin transformer: channels come last, and inside attention the picture is cut into windows."""

import torch
from torchvision.models import SwinTransformer

import camkit

torch.manual_seed(0)
# torchvision's own class, small. A trained one: camkit.load_model("torchvision:swin_t").
model = SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=10).eval()
image = torch.rand(1, 3, 128, 160)  # pictures need not be square

explanation = camkit.explain(model, image, method="gradcam")
(layer,) = explanation.provenance.layers
print(f"{layer} is read as {explanation.provenance.reshape[layer]}")
print("raw map:", tuple(explanation.raw[layer].shape))

# An earlier block has more places; several layers are averaged.
finer = camkit.explain(model, image, method="layercam", layers=["features.1.1", "features.3.1"])
print("raw maps:", [tuple(raw.shape) for raw in finer.raw.values()])

explanation.save("swin.png")
finer.save("swin_finer.png")
