"""Why are these pixels of this class? LR-ASPP with random weights; any network `[N, K, H, W]`."""

import torch

import camkit

torch.manual_seed(0)
# Trained: camkit.load_model("torchvision:lraspp_mobilenet_v3_large").
model = camkit.load_model("torchvision:lraspp_mobilenet_v3_large@none")
image = torch.rand(1, 3, 128, 160)

# Without a target: the class that fills most of the picture, where it is predicted.
whole = camkit.explain(model, image, method="layercam")
print("explained:", whole.target.label)

# One pixel (x, y), or a class of your own choice in a region of your own.
pixel = camkit.explain(model, image, method="layercam", target="pixel:20,30")
print("explained:", pixel.target.label)

whole.save("segmentation.png")
pixel.save("segmentation_pixel.png")
