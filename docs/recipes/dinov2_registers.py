"""A self-supervised transformer with register tokens, as DINOv2: no classes, an embedding."""

import timm
import torch

import camkit
from camkit_tasks import SelfSimilarity

torch.manual_seed(0)
# Random weights, and small; with pretrained=True and without img_size and depth it is the real one.
model = timm.create_model(
    "vit_small_patch14_reg4_dinov2", pretrained=False, img_size=(112, 140), depth=3
).eval()
image = torch.rand(1, 3, 112, 140)

# Nothing in [N, 384] says that these are not class scores, so the target is named: what makes the
# embedding what it is. Similarity(reference) compares with another image.
explanation = camkit.explain(model, image, method="gradcam", target=SelfSimilarity())
(layer,) = explanation.provenance.layers
print("explained:", explanation.target.label)
print(f"{layer} is read as {explanation.provenance.reshape[layer]}")  # class token and 4 registers

# A method that looks at the activations only.
eigen = camkit.explain(model, image, method="eigencam")
explanation.save("dinov2.png")
eigen.save("dinov2_eigencam.png")
