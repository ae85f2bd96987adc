"""What words mean, what they do not, and what is said then."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tasks_proof.slope import Slope
from torch import nn

from camkit_core import (
    ClassTarget,
    LoadedModel,
    PerImageTarget,
    Registry,
    TargetContext,
    TargetError,
    compare,
    explain,
)
from camkit_tasks import (
    Binary,
    ClassMask,
    Counterfactual,
    Finer,
    ImagePreprocess,
    Labels,
    LogProbability,
    Margin,
    Pixel,
    Probability,
    Raw,
    Region,
    Rest,
    Value,
    plugin,
)
from camkit_tasks.targets.grammar import target_from_words
from camkit_tasks.targets.names import class_index

NAMES = ("tabby, tabby cat", "tiger cat", "Egyptian cat", "polar bear, ice bear", "crane", "crane")
IDS = ("n02123045", "n02123159", "n02124075", "n02134084", "n02012849", "n03126707")
IMAGE = torch.zeros(2, 3, 12, 16)
SCORES = torch.tensor([[0.0, 3.0, 1.0, -1.0, 2.0, 0.5], [4.0, 0.0, 1.0, 2.0, -2.0, 3.0]])
MAPS = SCORES[:, :, None, None].expand(2, 6, 3, 4)


def loaded(**words) -> LoadedModel:
    words = {"class_names": NAMES, "class_ids": IDS, **words}
    return LoadedModel(model=nn.Identity(), spec="mine", weights="random", preprocess=None, **words)


def context(model: LoadedModel | None = None, **words) -> TargetContext:
    model = model or loaded()
    return TargetContext(
        model=model.model, image=IMAGE, class_names=model.class_names, loaded=model, **words
    )


def meant(request, output=SCORES, **words):
    return target_from_words(request, output, context(**words))


OF_SCORES = {
    "3": ClassTarget(3),
    " 3 ": ClassTarget(3),
    "tabby cat": ClassTarget(0),
    "n02124075": ClassTarget(2),
    "logit": ClassTarget(),
    "logit:egyptian cat": ClassTarget(2),
    "logit:pred": ClassTarget(),
    "probability": Probability(),
    "probability:pred": Probability(),
    "probability:3": Probability(3),
    "probability: ice bear": Probability(3),
    "probability:class_index=3": Probability(3),
    "log_probability:n02123045": LogProbability(0),
    "rest:3": Rest(3),
    "margin:tiger cat": Margin(1),
    "margin": Margin(),
    "counterfactual:3": Counterfactual(3),
    "counterfactual": Counterfactual(),
    "1-vs-2": Finer(1, against=(2,)),
    "1-vs-2,3": Finer(1, against=(2, 3)),
    "pred-vs-tabby": Finer(None, against=(0,)),
    "tiger cat-vs-tabby cat, ice bear": Finer(1, against=(0, 3)),
    "n02123159-vs-n02123045": Finer(1, against=(0,)),
    "1-vs-2,strength=1": Finer(1, against=(2,), strength=1.0),
    "1-vs-2,3,variant=grad-cam": Finer(1, against=(2, 3), variant="grad-cam"),
    "finer": Finer(),
    "finer:tiger": Finer(1),
    "finer:1-vs-2": Finer(1, against=(2,)),
    "finer:1,variant=grad-cam,strength=0.5,nearest=2": Finer(
        1, variant="grad-cam", strength=0.5, nearest=2
    ),
    "finer:variant=grad-cam": Finer(variant="grad-cam"),
    "labels": Labels(),
    "labels:2,tabby": Labels((2, 0)),
    "binary": Binary(),
    "binary:positive": Binary(positive=True),
    "binary:1": Binary(positive=True),
    "binary:negative": Binary(positive=False),
    "binary:0": Binary(positive=False),
    "value": Value(),
    "value:3": Value(3),
    "value:3,at=-0.5": Value(3, at=-0.5),
    "raw": Raw(),
    "raw:3": Raw((3,)),
    "raw:3, 4,0": Raw((3, 4, 0)),
}


@pytest.mark.parametrize("request_", OF_SCORES)
def test_words_for_class_scores(request_):
    assert meant(request_) == OF_SCORES[request_]


@pytest.mark.parametrize("name", ["probability", "log_probability", "rest"])
def test_in_a_multi_label_model_every_class_is_a_question(name):
    kind = type(OF_SCORES[f"{name}:n02123045" if name == "log_probability" else f"{name}:3"])
    model = loaded(multi_label=True)
    assert target_from_words(f"{name}:1", SCORES, context(model)) == kind(1, multi_label=True)


OF_MAPS = {
    "pred": ClassMask(class_names=NAMES),
    "pred:2": ClassMask(rank=2, class_names=NAMES),
    "3": ClassMask(3, class_names=NAMES),
    "ice bear": ClassMask(3, class_names=NAMES),
    "mask": ClassMask(class_names=NAMES),
    "mask:tiger cat": ClassMask(1, class_names=NAMES),
    "mask:1,of=probability,reduce=mean": ClassMask(
        1, of="probability", reduce="mean", class_names=NAMES
    ),
    "pixel:15,0": Pixel(at=(15, 0), size=(12, 16)),
    "pixel: 15 , 0.5 ,class=tabby": Pixel(0, at=(15, 0.5), size=(12, 16)),
    "pixel:15,0,of=probability": Pixel(at=(15, 0), size=(12, 16), of="probability"),
}


@pytest.mark.parametrize("request_", OF_MAPS)
@pytest.mark.parametrize("boxed", [False, True], ids=["tensor", "dict"])
def test_words_for_dense_predictions(request_, boxed):
    output = {"out": MAPS, "aux": MAPS} if boxed else MAPS
    assert meant(request_, output) == OF_MAPS[request_]


def test_an_index_that_is_no_string_is_understood_as_well():
    assert meant(3, MAPS) == ClassMask(3, class_names=NAMES)
    assert meant(0, SCORES[:, 0]) == Value(0)
    assert meant(True, MAPS) is None
    assert meant(2.0, MAPS) is None


@pytest.mark.parametrize("request_", ["pred", "pred:1", "3"])
@pytest.mark.parametrize(
    "output", [torch.zeros(2, 5, 7), {"a": None}, (SCORES, SCORES)], ids=["tokens", "none", "two"]
)
def test_outputs_of_other_kinds_are_left_to_others(request_, output):
    assert meant(request_, output) is None


@pytest.mark.parametrize("request_", ["sofa", "", " ", "mask_of:3", "vs", "1-vs", "é"])
def test_words_that_mean_nothing_are_left_to_others(request_):
    assert meant(request_) is None


FOUND = {
    "0": 0,
    "17": 17,
    "n02134084": 3,
    "TABBY": 0,
    "tabby,  Tabby Cat": 0,
    "tiger_cat": 1,
    "tiger": 1,
    "egyptian": 2,
    "bear": 3,
    "tiger cat from the zoo": 1,
    "white polar bear": 3,
    "sofa": None,
    "abby": None,
    "cats": None,
    "": None,
    "-": None,
}


@pytest.mark.parametrize("written", FOUND)
def test_a_class_is_found_by_what_people_call_it(written):
    assert class_index(written, context()) == FOUND[written]


def test_whole_names_go_before_synonyms_and_those_before_parts():
    names = ("heron, crane", "crane", "crane fly, harvestman", "tall crane fly")
    model = loaded(class_names=names)
    assert class_index("crane", context(model)) == 1
    assert class_index("crane fly", context(model)) == 2
    assert class_index("tall crane fly", context(model)) == 3
    assert class_index("harvestman", context(model)) == 2


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("cat", r"class 'cat' could be 0 \(tabby, tabby cat\) or 1 .* or 2 .*; pass the index"),
        ("crane", r"could be 4 \(crane\) or 5 \(crane\)"),
        ("tabby or tiger cat", r"could be 0 .* or 1 "),
        ("n00000000", "has no class of that id; pass an index"),
    ],
)
def test_a_class_that_is_not_clear_is_refused_with_the_candidates(written, said):
    if written == "tabby or tiger cat":
        model = loaded(class_names=("tabby cat", "tiger cat"))
        with pytest.raises(TargetError, match=said):
            class_index("tabby cat tiger cat", context(model))
        return
    with pytest.raises(TargetError, match=said):
        meant(written)


def test_a_number_is_no_class_by_the_digits_in_it():
    """Of names that are digits, as those of handwriting are."""
    model = loaded(class_names=("0", "1", "2", "-2"))
    assert class_index("1", context(model)) == 1
    assert class_index("-2", context(model)) == 3
    for written in ("-1", "+1", "1.5", ".5"):
        with pytest.raises(TargetError, match=r"counted from the first, 0\.\.3, not"):
            class_index(written, context(model))


def test_more_than_six_candidates_are_counted():
    model = loaded(class_names=tuple(f"cat number {n}" for n in range(9)))
    with pytest.raises(TargetError, match=r"5 \(cat number 5\) or one of 3 more"):
        class_index("cat", context(model))


@pytest.mark.parametrize("ids", [(), None], ids=["none", "not loaded"])
def test_wordnet_ids_that_are_not_known_are_said_to_be(ids):
    plain = TargetContext(model=nn.Identity(), image=IMAGE, class_names=NAMES)
    chosen = plain if ids is None else context(loaded(class_ids=ids))
    with pytest.raises(TargetError, match=r"n02123045.*does not come with WordNet ids"):
        target_from_words("n02123045", SCORES, chosen)


WRONG = {
    "probability:tabi": r"no class is called 'tabi'; did you mean 'tabby'.*index, a name, a Word",
    "margin:-1": "no class is called '-1'",
    "margin:1.5": "no class is called '1.5'",
    "margin:3,rival=2": "margin has no option 'rival'; it has class_index",
    "margin:class_index=two": "class_index='two' is not understood",
    "finer:1,variat=paper": "finer has no option 'variat'; did you mean 'variant'",
    "finer:1,variant=best": "choose paper or grad-cam",
    "finer:1,strength=nan": "strength='nan' is not understood: it must be finite",
    "finer:1,nearest=0": "at least one reference",
    "1-vs-pred": "each of 'pred' must be a class",
    "1-vs-2,,3": "each of '2,,3' must be a class",
    "1-vs-sofa": "no class is called 'sofa'",
    "1-vs-": r"-vs- compares a class with others, but none is behind it; say 281-vs-282",
    "-vs-2": r"-vs- compares a class with others, but none is before it; say 281-vs-282",
    "-vs-": "none is behind it",
    "1-vs-,strength=1": r"target='1-vs-,strength=1': -vs- .* none is behind it",
    "finer:1-vs-": r"target='finer:1-vs-': -vs- .* none is behind it",
    "-1": r"no class is called '-1', and classes .* from the first, 0\.\.5, not from the last",
    "1.5": "no class is called '1.5', and classes are counted from the first",
    "mask:-1": "no class is called '-1', and classes are counted",
    "box:-1": "no class is called '-1', and classes are counted",
    "labels:1,": "each of '1,' must be a class",
    "binary:maybe": "a side is positive or negative",
    "binary:1,strict=yes": "binary has no option 'strict'; it has none",
    "value:first": "after value: comes the index of an output",
    "value:1,2": "after value: comes the index",
    "value:1,at=high": "at='high' is not understood",
    "raw:-1": "after raw: comes indices between commas",
    "raw:1,,2": "after raw: comes indices",
    "mask:sofa": "no class is called 'sofa'",
    "mask:1,reduce=max": "choose sum or mean",
    "pixel": "after pixel: come its coordinates, x first: pixel:120,88",
    "pixel:left": "after pixel: come its coordinates",
    "pixel:1,2,class=sofa": "no class is called 'sofa'",
    "region": "after region: comes an image file",
    "region:nowhere.png": r"nowhere\.png does not exist",
}


@pytest.mark.parametrize("request_", WRONG)
def test_words_that_are_understood_but_wrong_are_refused_with_help(request_):
    with pytest.raises(TargetError, match=WRONG[request_]):
        meant(request_, MAPS)


def test_without_names_a_name_is_refused_for_that():
    with pytest.raises(TargetError, match="'tabby'; this model's class names are not known"):
        target_from_words("margin:tabby", SCORES, context(loaded(class_names=())))


# --- places on photos ------------------------------------------------------------------------


def paint(folder, size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    image = Image.new("L", size)
    image.paste(255, box)
    image.save(folder / "a,b.png")
    return str(folder / "a,b.png")


def test_a_region_is_read_from_a_file(tmp_path):
    file = paint(tmp_path, (16, 12), (4, 3, 9, 6))
    found = meant(f"region:{file},class=tiger cat,reduce=mean", MAPS)
    assert isinstance(found, Region)
    wanted = torch.zeros(12, 16, dtype=torch.bool)
    wanted[3:6, 4:9] = True
    assert torch.equal(found.mask, wanted)
    assert (found.class_index, found.reduce, found.called) == (1, "mean", '"a,b.png"')
    assert meant(f"region:{file}", MAPS).class_index is None


def photos(*sizes: tuple[int, int]):
    prepare = ImagePreprocess(resize=12, crop=(12, 16))
    return tuple(picture for size in sizes for picture in prepare(Image.new("RGB", size)).pictures)


def test_regions_and_pixels_are_those_of_the_photos_where_these_are_known(tmp_path):
    alike, other = photos((32, 24), (32, 24)), photos((32, 24), (64, 48))
    file = paint(tmp_path, (32, 24), (8, 6, 18, 12))
    found = meant(f"region:{file}", MAPS, pictures=alike).mask
    wanted = torch.zeros(12, 16, dtype=torch.bool)
    wanted[3:6, 4:9] = True
    assert torch.equal(found, wanted.expand(2, 12, 16))
    one = meant("pixel:21,7,class=3", MAPS, pictures=alike)
    assert one == Pixel(3, at=(10.25, 3.25), size=(12, 16), said=(21, 7))
    assert one.bind(MAPS, None).describe().label == "class 3 at pixel (21, 7)"
    two = meant("pixel:21,7,class=3", MAPS, pictures=other)
    smaller = Pixel(3, at=(4.875, 1.375), size=(12, 16), said=(21, 7))
    assert two == PerImageTarget((one, smaller))


# --- through the front ------------------------------------------------------------------------


def registry() -> Registry:
    return Registry(discover=False, plugins=[("camkit-tasks", plugin)], strict=True)


def network(dense: bool) -> LoadedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Conv2d(5, 6, 1) if dense else nn.Sequential(nn.Flatten(), nn.Linear(5 * 70, 6))
        net = nn.Sequential(nn.Conv2d(3, 5, 3, 1), nn.Tanh(), nn.AvgPool2d((2, 1)), head)
    model = loaded()
    return LoadedModel(
        model=net.eval(),
        spec="mine",
        weights="random",
        preprocess=None,
        class_names=model.class_names,
        class_ids=model.class_ids,
    )


def asked(target, *, dense: bool):
    x = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    return explain(network(dense), x, Slope(), target, "1", registry=registry())


LABELED = {
    "tabby cat": ("tabby, tabby cat",) * 2,
    "probability:tabby cat": ("probability of tabby",) * 2,
    "tiger-vs-tabby": ("tiger cat vs tabby",) * 2,
    "labels:1,3": ("tiger cat + polar bear",) * 2,
    "raw:2": (),
    "raw:2 ": (),
}


@pytest.mark.parametrize("target", LABELED)
def test_labels_have_names_in_results_and_provenance(target):
    found = asked(target, dense=False)
    assert found.target.labels == LABELED[target]
    joined = LABELED[target][0] if LABELED[target] else "raw output [2]"
    assert found.target.label == found.provenance.target == joined


def test_one_target_per_image_is_bound_on_that_image_alone():
    both = asked(["pred", "pixel:2,3"], dense=True)
    output = both.output
    first = output[0].argmax(0).flatten().mode().values.item()
    there = output[1, :, 1, 1].argmax().item()
    named = [name.partition(",")[0] for name in NAMES]
    assert both.target.labels == (
        f"{named[first]} where predicted", f"{named[there]} at pixel (2, 3)"
    )  # fmt: skip
    for row, word in enumerate(["pred", "pixel:2,3"]):
        alone = asked(word, dense=True)
        torch.testing.assert_close(both.raw["1"][row], alone.raw["1"][row])


def test_top_k_of_a_segmentation_are_its_most_frequent_classes():
    x = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    found = compare(network(True), x, [Slope()], "top2", "1", registry=registry())
    for rank, one in enumerate(found.values()):
        winners = one.output.argmax(1).flatten(1)
        counts = torch.stack([(winners == c).sum(1) for c in range(6)], 1)
        order = counts.sort(dim=1, descending=True, stable=True).indices
        assert torch.equal(one.target.classes, order[:, rank])


def test_unknown_words_list_what_there_is():
    with pytest.raises(
        TargetError,
        match=r"no class is called 'abby'; did you mean 'tabby, tabby cat'.*binary, box, c",
    ):
        asked("abby", dense=False)
    with pytest.raises(TargetError, match="'porbability:3'; did you mean 'probability'"):
        asked("porbability:3", dense=False)
