"""The checks tell the released peers' right answers from their wrong ones, and are fair to them."""

from __future__ import annotations

import pytest

from .conformance_peers import ANY_SIGN, EXPLAINED, PEERS, Peer, verdicts, wrong


def found(library: str, name: str):
    (peer,) = [peer for peer in PEERS if (peer.library, peer.name) == (library, name)]
    return verdicts()[peer]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.library}-{peer.name}")
def test_what_the_peers_do_well_passes(peer: Peer) -> None:
    """Most checks; and none fails because this adapter claimed too little."""
    verdict = verdicts()[peer]
    failed = len(verdict.wrong) + len(verdict.small) + len(verdict.stops)
    assert verdict.passed > 2 * failed
    assert not [row.check for row in peer.report().failed if "add Claim" in row.message]


@pytest.mark.parametrize(
    ("library", "name"),
    [
        *(("grad-cam", name) for name in ("GradCAM", "HiResCAM", "LayerCAM", "GradCAMElementWise")),
        *(("torchcam", name) for name in ("GradCAM", "LayerCAM")),
    ],
)
def test_equations_that_the_peers_have_right(library: str, name: str) -> None:
    verdict = found(library, name)
    assert not {"reference", "batch_independence", "flip", "shift"} & {
        *verdict.wrong,
        *verdict.small,
        *verdict.stops,
    }


def test_known_faults_of_the_peers_are_noticed() -> None:
    assert "reference" in found("grad-cam", "GradCAMPlusPlus").wrong
    assert "reference" in found("torchcam", "GradCAMpp").wrong
    assert ANY_SIGN in found("grad-cam", "EigenCAM").wrong
    assert "inplace_network" in found("grad-cam", "FEM").wrong
    assert "inplace_network" in found("torchcam", "GradCAM").wrong
    assert "model_untouched" in found("grad-cam", "GradCAM").wrong
    assert "bad_targets" in found("grad-cam", "GradCAM").wrong
    assert "non_finite_inside" in found("torchcam", "LayerCAM").wrong


def test_every_wrong_answer_is_explained_and_nothing_else() -> None:
    assert wrong() == set(EXPLAINED)


def test_differences_near_rounding_are_not_called_wrong() -> None:
    verdict = found("grad-cam", "XGradCAM")
    assert "reference" in verdict.small
    assert not {"reference", "gap_is_cam", "conservation"} & set(verdict.wrong)
