"""What makes two images alike? A network without classes, and a reference image."""

import torch
from torch import nn
from torchvision.models import resnet18

import camkit
from camkit_tasks import Similarity

torch.manual_seed(0)
model = resnet18(weights=None).eval()
model.fc = nn.Identity()  # the embedding [N, 512] is the answer now

image, same, other = torch.rand(1, 3, 96, 96), torch.rand(1, 3, 96, 96), torch.rand(1, 3, 96, 96)
same[..., :48] = image[..., :48]  # the left half of the first reference is that of the image

alike = camkit.explain(model, image, method="gradcam", target=Similarity(same))
print(f"{alike.target.label}: {alike.score[0]:.3f}")

# What makes it more like the one than like the other.
rather = camkit.explain(model, image, method="gradcam", target=Similarity(same, against=other))
print(f"{rather.target.label}: {rather.score[0]:.3f}")

# With photos the command line can do it: camkit explain a.jpg --model ... --target like:b.jpg
alike.save("embeddings.png")
