"""Similarity of embeddings: formulas, references of every kind, and the words for them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from camkit_core import LoadedModel, Prepared, TargetContext, TargetError, class_scores
from camkit_core.testing import check_target
from camkit_tasks import ImagePreprocess, SelfSimilarity, Similarity
from camkit_tasks.targets.embedding import embedding, is_embedding
from camkit_tasks.targets.similarity import from_words

SMALL = ImagePreprocess(resize=(8, 8), crop=None)
TEXTS = {"a dog": [1.0, 0.0, 2.0], "a cat": [0.0, 1.0, -1.0]}


class Embedder(nn.Module):
    """`[N, 3, 8, 8]` to `{"image_embeds": [N, 3]}`; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 192, generator=generator))
        self.calls = 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        return {"image_embeds": torch.tanh(x.flatten(1) @ self.weight.T / 10)}


def encode(texts: Sequence[str]) -> Tensor:
    return torch.tensor([TEXTS[text] for text in texts])


@pytest.fixture
def net():
    return Embedder()


@pytest.fixture
def loaded(net):
    return LoadedModel(model=net, spec="x", weights="random", preprocess=SMALL, encode_text=encode)


@pytest.fixture
def photo(tmp_path):
    def save(name: str, seed: int) -> str:
        values = torch.randint(0, 256, (3 * 9 * 7,), generator=torch.Generator().manual_seed(seed))
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.frombytes("RGB", (9, 7), bytes(values.tolist())).save(path)
        return str(path)

    return save


def rows(count: int = 4, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64)


def forbidden(inputs):
    raise AssertionError("the model ran")


def in_context(loaded: LoadedModel | None, net: nn.Module | None = None) -> TargetContext:
    model = loaded.model if loaded else net
    assert model is not None
    return TargetContext(model=model, image=torch.zeros(2, 3, 8, 8), loaded=loaded)


# -- formulas --------------------------------------------------------------------------------------


def products(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a[i] * b[i] for i in range(len(a))]).sum()


FORMULAS = {
    "cosine": lambda e, r: products(e, r) / (products(e, e) * products(r, r)).sqrt(),
    "dot": products,
    "l2": lambda e, r: -products(e - r, e - r).sqrt(),
}


@pytest.mark.parametrize("metric", FORMULAS)
def test_scores_are_the_mean_of_the_formula_over_the_references(metric):
    e, references, against = rows(), rows(2, 5), rows(3, 6)
    one = FORMULAS[metric]
    to = torch.stack([torch.stack([one(a, r) for r in references]).mean() for a in e])
    other = torch.stack([torch.stack([one(a, r) for r in against]).mean() for a in e])
    owner = torch.arange(4)
    plain = Similarity(references, metric=metric).bind(e, forbidden)
    torch.testing.assert_close(plain(e, owner), to, rtol=0, atol=1e-12)
    difference = Similarity(references, against, metric).bind(e, forbidden)
    torch.testing.assert_close(difference(e, owner), to - other, rtol=0, atol=1e-12)
    unlike = Similarity(references, metric=metric, sign=-1).bind(e, forbidden)
    torch.testing.assert_close(unlike(e, owner), -to, rtol=0, atol=1e-12)


def test_references_are_detached_and_half_precision_embeddings_are_scored_in_float32():
    reference = rows(1).float().requires_grad_()
    bound = Similarity(reference).bind(rows().bfloat16(), forbidden)
    scores = bound(rows().bfloat16().requires_grad_(), torch.arange(4))
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert reference.grad is None


def test_an_image_is_compared_with_its_own_embedding_by_the_dot_product():
    own = rows(3)
    bound = SelfSimilarity().bind({"image_embeds": own}, forbidden)
    owner = torch.tensor([2, 0, 0, 1])
    other = rows(4, 9).requires_grad_()
    scores = bound({"image_embeds": other}, owner)
    torch.testing.assert_close(scores, (other * own[owner]).sum(1), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(scores.sum(), other)
    torch.testing.assert_close(gradient, own[owner], rtol=0, atol=1e-12)


def test_the_cosine_with_the_own_embedding_would_have_no_gradient():
    e = rows(1).requires_grad_()
    score = Similarity(e.detach()).bind(e, forbidden)(e, torch.zeros(1, dtype=torch.long))
    (gradient,) = torch.autograd.grad(score.sum(), e)
    assert gradient.abs().max() < 1e-12


def test_conformance_on_embeddings_of_a_container():
    output = {"image_embeds": rows(3), "hidden": None}
    for target in (SelfSimilarity(), Similarity(rows(2, 5)), Similarity(rows(1), rows(2, 7), "l2")):
        assert check_target(target, output=output).count("passed") >= 7


# -- references ------------------------------------------------------------------------------------


def test_references_of_every_kind_give_the_same_score(net, loaded, photo):
    path = photo("ref.png", 1)
    image = SMALL(Image.open(path)).inputs
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    output, owner = net(x), torch.arange(2)
    wanted = cosine_similarity(output["image_embeds"], net(image)["image_embeds"]).detach()
    kinds = [
        Similarity(image),
        Similarity(image[0]),
        Similarity([image]),
        Similarity({"x": image}),
        Similarity((image,)),
        Similarity(Prepared(image, ())),
        Similarity(path, preprocess=SMALL),
        Similarity(Image.open(path), preprocess=SMALL),
        Similarity(net(image)["image_embeds"]),
        Similarity(net(image)["image_embeds"][0]),
        from_words(f"like:{path}", output, in_context(loaded)),
    ]

    def run(inputs):
        if isinstance(inputs, dict):
            return net(**inputs)
        return net(*inputs) if isinstance(inputs, tuple) else net(inputs)

    for target in kinds:
        found = target.bind(output, run)(output, owner).detach()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_references_run_once_when_bound_and_never_again(net, photo):
    target = Similarity([photo("a.png", 1), photo("b.png", 2)], preprocess=SMALL)
    output = net(torch.zeros(1, 3, 8, 8))
    net.calls = 0
    bound = target.bind(output, net)
    assert net.calls == 2
    for _ in range(3):
        bound(output, torch.zeros(1, dtype=torch.long))
    assert net.calls == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Similarity(torch.zeros(1, 4)), r"4 dimensions.*embeddings 3"),
        (lambda: Similarity([]), "is empty"),
        (lambda: Similarity("nowhere.jpg"), r"'nowhere\.jpg' is a photo: pass preprocess="),
        (lambda: Similarity(torch.zeros(3), metric="angle"), "cosine, dot, l2"),
        (lambda: Similarity(torch.zeros(3), sign=0), "1 or -1"),
    ],
)
def test_references_that_cannot_be_used(make, words):
    with pytest.raises(TargetError, match=words):
        make().bind(rows(), forbidden)


def test_a_photo_that_is_none(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no picture")
    with pytest.raises(TargetError, match=r"broken\.jpg' cannot be read as a photo"):
        Similarity(path, preprocess=SMALL).bind(rows(), forbidden)


def test_targets_can_be_pickled(net):
    target = pickle.loads(pickle.dumps(Similarity(rows(2), preprocess=SMALL)))
    bound = pickle.loads(pickle.dumps(target.bind(rows(), forbidden)))
    assert bound(rows(), torch.arange(4)).shape == (4,)


# -- which part of an output is the embedding ------------------------------------------------------


def test_embeddings_are_found_by_name_before_class_scores():
    vector, hidden = rows(2), torch.zeros(2, 5, 3)
    pooled = {"last_hidden_state": hidden, "pooler_output": vector[:, :, None, None]}
    assert torch.equal(embedding(pooled), vector)
    assert torch.equal(embedding({"pooler_output": -vector, "image_embeds": vector}), vector)
    assert torch.equal(embedding({"logits": vector}), vector)
    assert torch.equal(embedding(vector), vector)
    assert is_embedding(pooled)
    assert not is_embedding({"logits": vector, "pooler_output": vector})
    assert not is_embedding(vector)


def test_an_embedding_is_not_taken_for_class_scores():
    with pytest.raises(TargetError, match=r"pooler_output is an embedding, not class scores"):
        class_scores({"pooler_output": rows(2), "last_hidden_state": torch.zeros(2, 5, 3)})
    assert class_scores({"pooler_output": rows(2), "logits": rows(2, 8)}).equal(rows(2, 8))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"last_hidden_state": torch.zeros(2, 5, 3), "x": torch.zeros(1)}, r"last_hidden_state\[:"),
        (torch.zeros(2, 3, 4, 4), r"an embedding is \[N, D\].*\[2, 3, 4, 4\]"),
        ("text", "returned str"),
    ],
)
def test_outputs_without_an_embedding(output, words):
    with pytest.raises(TargetError, match=words):
        embedding(output)


# -- words -----------------------------------------------------------------------------------------


def test_pred_is_the_similarity_to_itself_on_embeddings_only(loaded):
    context = in_context(loaded)
    assert isinstance(from_words("pred", {"pooler_output": rows()}, context), SelfSimilarity)
    assert isinstance(from_words("like:self", rows(), context), SelfSimilarity)
    assert from_words("pred", rows(), context) is None
    assert from_words("pred", {"logits": rows()}, context) is None
    assert from_words("margin:2", rows(), context) is None
    assert from_words("281", rows(), context) is None


@pytest.mark.parametrize(
    ("form", "metric", "sign"),
    [("like", "cosine", 1), ("like_dot", "dot", 1), ("like_l2", "l2", 1), ("unlike", "cosine", -1)],
)
def test_forms(form, metric, sign, loaded, photo):
    target = from_words(f"{form}:{photo('a.png', 1)}", rows(), in_context(loaded))
    assert (target.metric, target.sign, len(target.references)) == (metric, sign, 1)
    assert target.against is None


def test_photos_are_given_to_the_model_in_its_own_precision(net, loaded, photo):
    context = TargetContext(
        model=net, image=torch.zeros(1, 3, 8, 8, dtype=torch.float64), loaded=loaded
    )
    target = from_words(f"like:{photo('a.png', 1)}", rows(), context)
    output = net.double()(context.image)
    assert target.bind(output, net)(output, torch.zeros(1, dtype=torch.long)).dtype == torch.float64


def test_several_references_a_difference_and_names_that_look_like_one(loaded, photo):
    a, b, odd = photo("a.png", 1), photo("b.png", 2), photo("c-vs-d, e.png", 3)
    context = in_context(loaded)
    assert len(from_words(f"like:{a}, {b}", rows(), context).references) == 2
    difference = from_words(f"like:{a},{a}-vs-{b}", rows(), context)
    assert (len(difference.references), len(difference.against)) == (2, 1)
    whole = from_words(f"like:{odd}", rows(), context)
    assert (len(whole.references), whole.against) == (1, None)


def test_texts_are_embedded_by_the_model_itself(net, loaded):
    output, owner = net(torch.ones(2, 3, 8, 8)), torch.arange(2)
    e = output["image_embeds"].detach()
    dog, cat = (cosine_similarity(e, torch.tensor([TEXTS[text]])) for text in ("a dog", "a cat"))
    context = in_context(loaded)
    one = from_words("text:a dog", output, context).bind(output, forbidden)
    torch.testing.assert_close(one(output, owner).detach(), dog)
    assert one.describe().label == 'cosine similarity to "a dog"'
    both = from_words("text: a dog -vs- a cat", output, context).bind(output, forbidden)
    torch.testing.assert_close(both(output, owner).detach(), dog - cat)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("like:", r"after the colon comes a photo, e\.g\. like:ref\.jpg"),
        ("like", "after the colon comes a photo"),
        ("text:", r"after the colon comes a text, e\.g\. text:a dog"),
        ("like: -vs- ", "names no photo"),
    ],
)
def test_words_that_name_nothing(request_, words, loaded):
    with pytest.raises(TargetError, match=words):
        from_words(request_, rows(), in_context(loaded))


def test_a_missing_photo_and_its_neighbour(loaded, photo):
    path = photo("kitten.png", 1)
    with pytest.raises(
        TargetError, match=r"kiten\.png' does not exist; did you mean 'kitten\.png'"
    ):
        from_words(f"like:{path.replace('kitten', 'kiten')}", rows(), in_context(loaded))


def test_a_model_that_came_without_preprocessing_or_without_words(net):
    with pytest.raises(TargetError, match=r"camkit\.load_model.*Similarity\(tensor\)"):
        from_words("like:ref.jpg", rows(), in_context(None, net))
    with pytest.raises(TargetError, match=r"cannot read texts.*image-text model"):
        from_words("text:a dog", rows(), in_context(None, net))
