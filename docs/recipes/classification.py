"""What did a classifier look at? One photo, one class, one picture."""

import camkit

# Any nn.Module works; a loaded model also knows its preprocessing and the names of its classes.
# With a photo of yours: camkit.load_model("torchvision:resnet50"), camkit.open_photo("cat.jpg").
model = camkit.load_model("demo:cnn")
photo = camkit.open_photo("duo:7")

prepared = model.preprocess(photo)
explanation = camkit.explain(model, prepared, method="gradcam")

print(f"{explanation.target.label}: score {explanation.score[0]:.2f}")
print(f"explained at {explanation.provenance.layers[0]}, map {tuple(explanation.maps.shape)}")
for issue in explanation.issues:  # empty maps and the like are said, not hidden
    print("note:", issue.message)

explanation.save("classification.png")
