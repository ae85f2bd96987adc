"""Several classes by several methods, from one forward pass, in one picture."""

import camkit

model = camkit.load_model("demo:cnn")
prepared = model.preprocess(camkit.open_photo("duo:7"))

# "topK" stands for the K best classes; indices, names and "gold heart-vs-teal disk" go as well.
comparison = camkit.compare(
    model, prepared, methods=["gradcam", "layercam", "hirescam"], targets="top3"
)

for (method, position), explanation in comparison.items():
    score = float(explanation.score[0])
    print(f"{position + 1}. {explanation.target.label:14} {method:9} score {score:6.2f}")

comparison.show().save("several_classes.png")
