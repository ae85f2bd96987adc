"""A network with several inputs and several answers."""

import torch
from torch import nn

import camkit


class Scanner(nn.Module):
    """A photo and two numbers about the patient; a diagnosis and an age."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1)
        )
        self.diagnosis, self.age = nn.Linear(16 + 2, 4), nn.Linear(16, 1)

    def forward(self, about, photo, *, scale=1.0):
        """Both answers, by name."""
        seen = self.features(photo).relu().mean((2, 3))
        return {
            "diagnosis": self.diagnosis(torch.cat([seen, about], 1)) * scale,
            "age": self.age(seen),
        }


torch.manual_seed(0)
model = Scanner().eval()
inputs = {"about": torch.tensor([[0.3, -1.2]]), "photo": torch.rand(1, 3, 64, 64), "scale": 2.0}

# A dict holds keyword arguments, a tuple positional ones. The image is the first tensor with three
# or more axes unless image= names it; output= names the part of the answer that is explained.
diagnosis = camkit.explain(model, inputs, image="photo", output="diagnosis", target=2)
age = camkit.explain(model, inputs, image="photo", output="age", target=lambda years: years[0])
print("diagnosis:", diagnosis.target.label, f"score {diagnosis.score[0]:.3f}")
print(f"age: score {age.score[0]:.3f}")

diagnosis.save("several_inputs.png")
