"""What this package offers. Torch-free: listings read it without importing any metric."""

from __future__ import annotations

from camkit_core import Entry, Paper, hookimpl

_ENERGY = Paper(
    title="Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
    authors=(
        "Wang, Haofan",
        "Wang, Zifan",
        "Du, Mengnan",
        "Yang, Fan",
        "Zhang, Zijian",
        "Ding, Sirui",
        "Mardziel, Piotr",
        "Hu, Xia",
    ),
    year=2020,
    venue="CVPR Workshops",
    arxiv="1910.01279",
)
_GRID = Paper(
    title="Towards Better Understanding Attribution Methods",
    authors=("Rao, Sukrut", "Böhle, Moritz", "Schiele, Bernt"),
    year=2022,
    venue="CVPR",
    arxiv="2205.10435",
)
_POINTING = Paper(
    title="Top-down Neural Attention by Excitation Backprop",
    authors=(
        "Zhang, Jianming",
        "Lin, Zhe",
        "Brandt, Jonathan",
        "Shen, Xiaohui",
        "Sclaroff, Stan",
    ),
    year=2016,
    venue="ECCV",
    arxiv="1608.00507",
)
_THRESHOLD = Paper(
    title="Evaluating Weakly Supervised Object Localization Methods Right",
    authors=(
        "Choe, Junsuk",
        "Oh, Seong Joon",
        "Lee, Seungho",
        "Chun, Sanghyuk",
        "Akata, Zeynep",
        "Shim, Hyunjung",
    ),
    year=2020,
    venue="CVPR",
    arxiv="2001.07437",
)
_RANK = Paper(
    title="CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural Network "
    "Explanations",
    authors=("Arras, Leila", "Osman, Ahmed", "Samek, Wojciech"),
    year=2022,
    venue="Information Fusion",
    doi="10.1016/j.inffus.2021.11.008",
    arxiv="2003.07258",
)


def _metric(name: str, attribute: str, summary: str, paper: Paper | None = None) -> Entry:
    ref = f"camkit_metrics.{name}:{attribute}"
    return Entry(kind="metric", name=name, ref=ref, summary=summary, paper=paper)


def _control(name: str, attribute: str, summary: str) -> Entry:
    ref = f"camkit_metrics.controls:{attribute}"
    return Entry(kind="control", name=name, ref=ref, summary=summary)


@hookimpl
def camkit_entries() -> list[Entry]:
    """Localisation metrics, and the controls they are read against."""
    return [
        _metric("energy", "Energy", "share of the map's relevance on the object", _ENERGY),
        _metric("contrast", "Contrast", "the object against the others; 0.5 is class-blind"),
        _metric("gridpg", "GridPG", "share of relevance in the right picture of a mosaic", _GRID),
        _metric("pointing", "Pointing", "whether the strongest place is on the object", _POINTING),
        _metric("iou", "IoU", "overlap with the object at the map's best threshold", _THRESHOLD),
        _metric(
            "rankaccuracy", "RankAccuracy", "share of the strongest places on the object", _RANK
        ),
        _control("random", "Random", "uniform noise: what luck gets"),
        _control("center", "Center", "a Gaussian in the middle: what habit gets"),
        _control("sobel", "Sobel", "edges of the input: what never saw the model"),
        _control("oracle", "Oracle", "the object's mask: the perfect answer"),
    ]
