"""A vision transformer: the layer and the grid of its tokens are found."""

import torch
from torchvision.models import VisionTransformer

import camkit
from camkit_core import probe_layers

torch.manual_seed(0)
# torchvision's own class, small. A trained one: camkit.load_model("torchvision:vit_b_16").
model = VisionTransformer(96, 8, 4, 4, 64, 128, num_classes=10).eval()
torch.nn.init.normal_(model.heads[0].weight, std=0.1)  # it starts at zero, where nothing matters
image = torch.rand(1, 3, 96, 96)

# Behind the last block only the class token reaches the answer, so this is the layer before it.
report = probe_layers(model, image)
print(f"default layer: {report.default} ({report.reason})")

explanation = camkit.explain(model, image, method="gradcam")
(layer,) = explanation.provenance.layers
print("read as:", explanation.provenance.reshape[layer])  # one class token, then 12 x 12 patches

# The same by hand, as for a network that camkit cannot read by itself.
by_hand = camkit.explain(model, image, layers=layer, reshape="tokens:prefix=1,grid=12x12")
print("equal to the one by hand:", torch.equal(explanation.maps, by_hand.maps))

explanation.save("vit.png")
