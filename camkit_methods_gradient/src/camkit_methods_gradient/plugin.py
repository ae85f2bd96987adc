"""What this package offers. Torch-free: listings read it without importing any method."""

from __future__ import annotations

from camkit_core import Entry, Paper, hookimpl

_A = ("activations",)
_AG = ("activations", "gradients")
_PG = ("gradients", "attention")
_BACKWARD = "1F + 1B"

_EIGENCAM = Paper(
    title="Eigen-CAM: Class Activation Map using Principal Components",
    authors=("Muhammad, Mohammed Bany", "Yeasin, Mohammed"),
    year=2020,
    venue="IJCNN",
    arxiv="2008.00299",
)


def _method(
    name: str,
    attribute: str,
    summary: str,
    *,
    needs: tuple[str, ...] = _AG,
    runs: str = _BACKWARD,
    class_discriminative: bool = True,
    paper: Paper | None = None,
    aliases: tuple[str, ...] = (),
) -> Entry:
    return Entry(
        kind="method",
        name=name,
        ref=f"camkit_methods_gradient.{name}:{attribute}",
        summary=summary,
        aliases=aliases,
        needs=needs,
        runs=runs,
        class_discriminative=class_discriminative,
        paper=paper,
    )


def _blind(
    name: str,
    attribute: str,
    summary: str,
    *,
    needs: tuple[str, ...] = _A,
    runs: str = "1F",
    paper: Paper | None = None,
) -> Entry:
    """A method that gives the same map for every class."""
    return _method(
        name, attribute, summary, needs=needs, runs=runs, class_discriminative=False, paper=paper
    )


@hookimpl
def camkit_entries() -> list[Entry]:
    """All methods of one capture."""
    return [
        _method(
            "cam",
            "CAM",
            "class weights of the last linear layer, mapped back (needs average pooling before it)",
            needs=("activations", "head"),
            runs="1F",
            paper=Paper(
                title="Learning Deep Features for Discriminative Localization",
                authors=(
                    "Zhou, Bolei",
                    "Khosla, Aditya",
                    "Lapedriza, Agata",
                    "Oliva, Aude",
                    "Torralba, Antonio",
                ),
                year=2016,
                venue="CVPR",
                arxiv="1512.04150",
            ),
        ),
        _method(
            "gradcam",
            "GradCAM",
            "average gradients as channel weights",
            aliases=("grad_cam",),
            paper=Paper(
                title="Grad-CAM: Visual Explanations from Deep Networks via Gradient-based "
                "Localization",
                authors=(
                    "Selvaraju, Ramprasaath R.",
                    "Cogswell, Michael",
                    "Das, Abhishek",
                    "Vedantam, Ramakrishna",
                    "Parikh, Devi",
                    "Batra, Dhruv",
                ),
                year=2017,
                venue="ICCV",
                arxiv="1610.02391",
            ),
        ),
        _method(
            "gradcampp",
            "GradCAMPlusPlus",
            "positive gradients weighted by their curvature",
            aliases=("gradcamplusplus",),
            paper=Paper(
                title="Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep "
                "Convolutional Networks",
                authors=(
                    "Chattopadhay, Aditya",
                    "Sarkar, Anirban",
                    "Howlader, Prantik",
                    "Balasubramanian, Vineeth N.",
                ),
                year=2018,
                venue="WACV",
                arxiv="1710.11063",
            ),
        ),
        _method(
            "xgradcam",
            "XGradCAM",
            "gradients weighted by activations, so that the map conserves the score",
            paper=Paper(
                title="Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of "
                "CNNs",
                authors=(
                    "Fu, Ruigang",
                    "Hu, Qingyong",
                    "Dong, Xiaohu",
                    "Guo, Yulan",
                    "Gao, Yinghui",
                    "Li, Biao",
                ),
                year=2020,
                venue="BMVC",
                arxiv="2008.02312",
            ),
        ),
        _method(
            "hirescam",
            "HiResCAM",
            "gradient times activation, position by position",
            paper=Paper(
                title="Use HiResCAM instead of Grad-CAM for faithful explanations of "
                "convolutional neural networks",
                authors=("Draelos, Rachel Lea", "Carin, Lawrence"),
                year=2020,
                arxiv="2011.08891",
            ),
        ),
        _method(
            "gradcamelementwise",
            "GradCAMElementWise",
            "positive products of gradient and activation",
        ),
        _method(
            "layercam",
            "LayerCAM",
            "positive gradients, position by position; for early layers too",
            paper=Paper(
                title="LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
                authors=(
                    "Jiang, Peng-Tao",
                    "Zhang, Chang-Bin",
                    "Hou, Qibin",
                    "Cheng, Ming-Ming",
                    "Wei, Yunchao",
                ),
                year=2021,
                venue="IEEE Transactions on Image Processing",
                doi="10.1109/TIP.2021.3089943",
            ),
        ),
        _method(
            "shapleycam",
            "ShapleyCAM",
            "channel weights from the second-order expansion of the score",
            needs=(*_AG, "second_order"),
            runs="1F + 2B",
            paper=Paper(
                title="CAMs as Shapley Value-based Explainers",
                authors=("Cai, Huaiguang",),
                year=2025,
                arxiv="2501.06261",
            ),
        ),
        _method(
            "ssgradcam",
            "SSGradCAM",
            "Grad-CAM times where its gradient is large; for detectors",
            paper=Paper(
                title="Spatial Sensitive Grad-CAM: Visual Explanations for Object Detection by "
                "Incorporating Spatial Sensitivity",
                authors=("Yamauchi, Toshinori", "Ishikawa, Masayoshi"),
                year=2022,
                venue="ICIP",
                doi="10.1109/ICIP46576.2022.9897350",
            ),
        ),
        _method(
            "segeigencam",
            "SegEigenCAM",
            "first principal component of absolute gradients times activations",
            paper=Paper(
                title="Seg-Eigen-CAM: Eigen-Value-Based Visual Explanations for Semantic "
                "Segmentation Models",
                authors=("Chung, Ching-Ting", "Ying, Josh Jia-Ching"),
                year=2025,
                venue="Applied Sciences",
                doi="10.3390/app15137562",
            ),
        ),
        _method(
            "eigengradcam",
            "EigenGradCAM",
            "first principal component of gradients times activations",
            paper=_EIGENCAM,
        ),
        _blind(
            "eigencam",
            "EigenCAM",
            "first principal component of the activations",
            paper=_EIGENCAM,
        ),
        _blind(
            "kpcacam",
            "KPCACAM",
            "first kernel principal component of the positions",
            paper=Paper(
                title="KPCA-CAM: Visual Explainability of Deep Computer Vision Models using "
                "Kernel PCA",
                authors=(
                    "Karmani, Sachin",
                    "Sivakaran, Thanushon",
                    "Prasad, Gaurav",
                    "Ali, Mehmet",
                    "Yang, Wenbo",
                    "Tang, Sheyang",
                ),
                year=2024,
                venue="MMSP",
                arxiv="2410.00267",
            ),
        ),
        _blind(
            "fem",
            "FEM",
            "channels that have rare strong activations",
            paper=Paper(
                title="Features Understanding in 3D CNNs for Actions Recognition in Video",
                authors=(
                    "Fuad, Kazi Ahmed Asif",
                    "Martin, Pierre-Etienne",
                    "Giot, Romain",
                    "Bourqui, Romain",
                    "Benois-Pineau, Jenny",
                    "Zemmari, Akka",
                ),
                year=2020,
                venue="IPTA",
            ),
        ),
        _blind(
            "lafam",
            "LaFAM",
            "average activation, without any label",
            paper=Paper(
                title="LaFAM: Unsupervised Feature Attribution with Label-free Activation Maps",
                authors=("Karjauv, Aray", "Albayrak, Sahin"),
                year=2024,
                arxiv="2407.06059",
            ),
        ),
        _blind(
            "rollout",
            "Rollout",
            "attention weights multiplied through all blocks of a transformer",
            needs=("attention",),
            runs=_BACKWARD,
            paper=Paper(
                title="Quantifying Attention Flow in Transformers",
                authors=("Abnar, Samira", "Zuidema, Willem"),
                year=2020,
                venue="ACL",
                arxiv="2005.00928",
            ),
        ),
        _method(
            "chefer",
            "Chefer",
            "gradient times attention, handed through all blocks of a transformer",
            needs=_PG,
            paper=Paper(
                title="Generic Attention-model Explainability for Interpreting Bi-Modal and "
                "Encoder-Decoder Transformers",
                authors=("Chefer, Hila", "Gur, Shir", "Wolf, Lior"),
                year=2021,
                venue="ICCV",
                arxiv="2103.15679",
            ),
        ),
        _method(
            "legrad",
            "LeGrad",
            "how the attention of each block could raise the score of that block's tokens",
            needs=_PG,
            runs="1F + 2B per block",
            paper=Paper(
                title="LeGrad: An Explainability Method for Vision Transformers via Feature "
                "Formation Sensitivity",
                authors=(
                    "Bousselham, Walid",
                    "Boggust, Angie",
                    "Chaybouti, Sofian",
                    "Strobelt, Hendrik",
                    "Kuehne, Hilde",
                ),
                year=2025,
                venue="ICCV",
                arxiv="2404.03214",
            ),
        ),
        _method(
            "gradeclip",
            "GradECLIP",
            "gradient times value, weighted by how alike the query and the keys are",
            needs=_PG,
            aliases=("grad_eclip",),
            paper=Paper(
                title="Gradient-based Visual Explanation for Transformer-based CLIP",
                authors=(
                    "Zhao, Chenyang",
                    "Wang, Kun",
                    "Zeng, Xingyu",
                    "Zhao, Rui",
                    "Chan, Antoni B.",
                ),
                year=2024,
                venue="ICML",
                arxiv="2502.18816",
            ),
        ),
        _method(
            "attcat",
            "AttCAT",
            "gradient times token, weighted by the attention that the token gets",
            needs=_PG,
            paper=Paper(
                title="AttCAT: Explaining Transformers via Attentive Class Activation Tokens",
                authors=(
                    "Qiang, Yao",
                    "Pan, Deng",
                    "Li, Chengyin",
                    "Li, Xin",
                    "Jang, Rhongho",
                    "Zhu, Dongxiao",
                ),
                year=2022,
                venue="NeurIPS",
            ),
        ),
        _blind("dummycam", "DummyCAM", "control: average activation above its median"),
        _blind(
            "fakecam",
            "FakeCAM",
            "control: everything but one cell",
            paper=Paper(
                title="Revisiting the Evaluation of Class Activation Mapping for Explainability: "
                "A Novel Metric and Experimental Analysis",
                authors=(
                    "Poppi, Samuele",
                    "Cornia, Marcella",
                    "Baraldi, Lorenzo",
                    "Cucchiara, Rita",
                ),
                year=2021,
                venue="CVPR Workshops",
                arxiv="2104.10252",
            ),
        ),
        _blind("random", "RandomCAM", "control: random channel weights"),
        _blind(
            "gaussian",
            "CenterGaussian",
            "control: a Gaussian at the center of the picture",
            needs=(),
        ),
        _blind("sobel", "SobelEdges", "control: edges of the input", needs=()),
    ]
