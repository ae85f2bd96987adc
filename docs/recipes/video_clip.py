"""Which frames, and where in them? A video network of torchvision on a clip."""

import camkit

# Trained: "torchvision:r3d_18". It takes frames as PIL images, as any film reader gives them.
model = camkit.load_model("torchvision:r3d_18@none")
frames = [camkit.open_photo(f"duo:{7 + number // 4}") for number in range(8)]

clip = model.preprocess(frames)
print("input [N, C, frames, height, width]:", tuple(clip.inputs.shape))

explanation = camkit.explain(model, clip, method="layercam", layers="layer3")
print("explained:", explanation.target.label)
for frame, part in enumerate(explanation.maps[0]):
    print(f"frame {frame}: mean {part.mean():.3f}, strongest {part.max():.3f}")

explanation.save("video.png")  # frame by frame
