"""A self-supervised transformer with register tokens, as DINOv2: no classes, an embedding."""

import timm
import torch

import camkit

torch.manual_seed(0)
# Random weights, and small. Trained: timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=True).
model = timm.create_model(
    "vit_small_patch14_reg4_dinov2", pretrained=False, img_size=(112, 140), depth=3
).eval()
image = torch.rand(1, 3, 112, 140)

# Without classes the answer is the embedding, and what is explained is what makes it what it is.
explanation = camkit.explain(model, image, method="gradcam")
(layer,) = explanation.provenance.layers
print("explained:", explanation.target.label)
print(f"{layer} is read as {explanation.provenance.reshape[layer]}")  # class token and 4 registers

# A method that looks at the activations only.
eigen = camkit.explain(model, image, method="eigencam")
explanation.save("dinov2.png")
eigen.save("dinov2_eigencam.png")
