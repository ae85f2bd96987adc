"""What this package offers. Torch-free: listings read it without importing any method.

Costs count forward passes F of one image, backward passes B, and runs T of the part of the model
behind the layer; K is the number of channels and S the number of positions of the layer.
"""

from __future__ import annotations

from camkit_core import Entry, Paper, hookimpl

_AT = ("activations", "tail")
_AS = ("activations", "scores")
_AGS = ("activations", "gradients", "scores")
_S = ("scores",)

_POLYCAM = Paper(
    title="Poly-CAM: High resolution class activation map for convolutional neural networks",
    authors=("Englebert, Alexandre", "Cornu, Olivier", "De Vleeschouwer, Christophe"),
    year=2022,
    arxiv="2204.13359",
)


def _method(
    name: str,
    attribute: str,
    summary: str,
    *,
    needs: tuple[str, ...],
    runs: str,
    module: str = "",
    paper: Paper | None = None,
) -> Entry:
    return Entry(
        kind="method",
        name=name,
        ref=f"camkit_methods_perturbation.{module or name}:{attribute}",
        summary=summary,
        needs=needs,
        runs=runs,
        class_discriminative=True,
        paper=paper,
    )


@hookimpl
def camkit_entries() -> list[Entry]:
    """All methods that run the model again."""
    return [*_masked_by_channels(), *_masked_freely(), *_changed_activations()]


def _masked_by_channels() -> list[Entry]:
    return [
        _method(
            "scorecam",
            "ScoreCAM",
            "channels weighted by the score of the image seen through each",
            needs=_AS,
            runs="1F + K F",
            paper=Paper(
                title="Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural "
                "Networks",
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
            ),
        ),
        _method(
            "gscorecam",
            "GScoreCAM",
            "Score-CAM on the channels with the largest gradients; fast",
            needs=_AGS,
            runs="1F + 1B + 300 F",
            paper=Paper(
                title="gScoreCAM: What objects is CLIP looking at?",
                authors=("Chen, Peijie", "Li, Qi", "Biaz, Saad", "Bui, Trung", "Nguyen, Anh"),
                year=2022,
                venue="ACCV",
            ),
        ),
        _method(
            "sscam",
            "SSCAM",
            "Score-CAM averaged over noisy masks",
            needs=_AS,
            runs="1F + 35 K F",
            paper=Paper(
                title="SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization",
                authors=(
                    "Wang, Haofan",
                    "Naidu, Rakshit",
                    "Michael, Joy",
                    "Kundu, Soumya Snigdha",
                ),
                year=2020,
                arxiv="2006.14255",
            ),
        ),
        _method(
            "iscam",
            "ISCAM",
            "Score-CAM averaged over the brightness of the masked image",
            needs=_AS,
            runs="1F + 10 K F",
            paper=Paper(
                title="IS-CAM: Integrated Score-CAM for axiomatic-based explanations",
                authors=(
                    "Naidu, Rakshit",
                    "Ghosh, Ankita",
                    "Maurya, Yash",
                    "Nayak K, Shamanth R",
                    "Kundu, Soumya Snigdha",
                ),
                year=2020,
                arxiv="2010.03023",
            ),
        ),
        _method(
            "groupcam",
            "GroupCAM",
            "groups of gradient-weighted channels scored on a blurred background; fast",
            needs=_AGS,
            runs="1F + 1B + 33 F",
            paper=Paper(
                title="Group-CAM: Group Score-Weighted Visual Explanations for Deep "
                "Convolutional Networks",
                authors=("Zhang, Qinglong", "Rao, Lu", "Yang, Yubin"),
                year=2021,
                arxiv="2103.13859",
            ),
        ),
        _method(
            "clustercam",
            "ClusterCAM",
            "best minus worst cluster of similar channels, each scored once; fast",
            needs=_AS,
            runs="1F + sqrt(K) F",
            paper=Paper(
                title="Cluster-CAM: Cluster-Weighted Visual Interpretation of CNNs' Decision in "
                "Image Classification",
                authors=(
                    "Feng, Zhenpeng",
                    "Ji, Hongbing",
                    "Daković, Miloš",
                    "Cui, Xiyang",
                    "Zhu, Mingzhe",
                    "Stanković, Ljubiša",
                ),
                year=2024,
                venue="Neural Networks",
                doi="10.1016/j.neunet.2024.106473",
                arxiv="2302.01642",
            ),
        ),
        _method(
            "cosinecam",
            "CosineCAM",
            "clusters of channels of equal direction, each scored once; fast",
            needs=_AGS,
            runs="1F + 1B + sqrt(K) F",
        ),
        _method(
            "polycam",
            "PolyCAM",
            "scored channels of several layers, coarse maps refined by fine ones",
            needs=("activations", "scores", "layers"),
            runs="1F + sum(K) F",
            paper=_POLYCAM,
        ),
        _method(
            "polygradcam",
            "PolyGradCAM",
            "Grad-CAM of several layers, coarse maps refined by fine ones",
            needs=("activations", "gradients", "layers"),
            runs="1F + 1B",
            module="polycam",
            paper=_POLYCAM,
        ),
        _method(
            "opticam",
            "OptiCAM",
            "the mixture of channels through which the score is highest",
            needs=_AS,
            runs="1F + 100 (F + B)",
            paper=Paper(
                title="Opti-CAM: Optimizing saliency maps for interpretability",
                authors=(
                    "Zhang, Hanwei",
                    "Torres, Felipe",
                    "Sicre, Ronan",
                    "Avrithis, Yannis",
                    "Ayache, Stephane",
                ),
                year=2023,
                arxiv="2301.07002",
            ),
        ),
    ]


def _masked_freely() -> list[Entry]:
    return [
        _method(
            "rise",
            "RISE",
            "random masks weighted by the score of the image seen through each; any model",
            needs=_S,
            runs="1F + 4000 F",
            paper=Paper(
                title="RISE: Randomized Input Sampling for Explanation of Black-box Models",
                authors=("Petsiuk, Vitali", "Das, Abir", "Saenko, Kate"),
                year=2018,
                venue="BMVC",
                arxiv="1806.07421",
            ),
        ),
        _method(
            "drise",
            "DRISE",
            "random masks weighted by how well the box is still detected; any detector",
            needs=_S,
            runs="1F + 5000 F",
            paper=Paper(
                title="Black-box Explanation of Object Detectors via Saliency Maps",
                authors=(
                    "Petsiuk, Vitali",
                    "Jain, Rajiv",
                    "Manjunatha, Varun",
                    "Morariu, Vlad I.",
                    "Mehra, Ashutosh",
                    "Ordonez, Vicente",
                    "Saenko, Kate",
                ),
                year=2021,
                venue="CVPR",
                arxiv="2006.03204",
            ),
        ),
        _method(
            "occlusion",
            "Occlusion",
            "what the score loses when a sliding window is covered; any model",
            needs=_S,
            runs="1F + 225 F",
            paper=Paper(
                title="Visualizing and Understanding Convolutional Networks",
                authors=("Zeiler, Matthew D.", "Fergus, Rob"),
                year=2014,
                venue="ECCV",
                arxiv="1311.2901",
            ),
        ),
        _method(
            "lime",
            "LIME",
            "linear model of the score on superpixels (needs scikit-image); any model",
            needs=_S,
            runs="1F + 1000 F",
            paper=Paper(
                title='"Why Should I Trust You?": Explaining the Predictions of Any Classifier',
                authors=("Ribeiro, Marco Tulio", "Singh, Sameer", "Guestrin, Carlos"),
                year=2016,
                venue="KDD",
                arxiv="1602.04938",
            ),
        ),
        _method(
            "kernelshap",
            "KernelSHAP",
            "Shapley values of superpixels (needs scikit-image); any model",
            needs=_S,
            runs="1F + 1000 F",
            paper=Paper(
                title="A Unified Approach to Interpreting Model Predictions",
                authors=("Lundberg, Scott M.", "Lee, Su-In"),
                year=2017,
                venue="NeurIPS",
                arxiv="1705.07874",
            ),
        ),
    ]


def _changed_activations() -> list[Entry]:
    return [
        _method(
            "ablationcam",
            "AblationCAM",
            "channels weighted by what the score loses without each",
            needs=_AT,
            runs="1F + K T",
            paper=Paper(
                title="Ablation-CAM: Visual Explanations for Deep Convolutional Network via "
                "Gradient-free Localization",
                authors=("Desai, Saurabh", "Ramaswamy, Harish G."),
                year=2020,
                venue="WACV",
                doi="10.1109/WACV45572.2020.9093360",
            ),
        ),
        _method(
            "reciprocam",
            "ReciproCAM",
            "score of the activations that are left alone at each position",
            needs=_AT,
            runs="1F + S T",
            paper=Paper(
                title="Recipro-CAM: Fast gradient-free visual explanations for convolutional "
                "neural networks",
                authors=("Byun, Seok-Yong", "Lee, Wonju"),
                year=2022,
                arxiv="2209.14074",
            ),
        ),
        _method(
            "vitreciprocam",
            "ViTReciproCAM",
            "score of the class token with one token and its neighbors left alone",
            needs=_AT,
            runs="1F + S T",
            paper=Paper(
                title="ViT-ReciproCAM: Gradient and Attention-Free Visual Explanations for "
                "Vision Transformer",
                authors=("Byun, Seok-Yong", "Lee, Wonju"),
                year=2023,
                arxiv="2310.02588",
            ),
        ),
        _method(
            "liftcam",
            "LiftCAM",
            "channels weighted by their DeepLIFT contribution to the score",
            needs=_AT,
            runs="1F + 2T + 1B",
            paper=Paper(
                title="Towards Better Explanations of Class Activation Mapping",
                authors=("Jung, Hyungsik", "Oh, Youngrock"),
                year=2021,
                venue="ICCV",
                arxiv="2102.05228",
            ),
        ),
        _method(
            "channelshapley",
            "ChannelShapley",
            "channels weighted by their Shapley value, exact for few of them",
            needs=_AT,
            runs="1F + 20 K T",
            paper=Paper(
                title="Polynomial calculation of the Shapley value based on sampling",
                authors=("Castro, Javier", "Gómez, Daniel", "Tejada, Juan"),
                year=2009,
                venue="Computers and Operations Research",
                doi="10.1016/j.cor.2008.04.004",
            ),
        ),
    ]
