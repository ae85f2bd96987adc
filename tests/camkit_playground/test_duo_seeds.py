"""A picture is a function of its seed, and training pictures are no test pictures."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camkit_playground.duo import KINDS, scene
from camkit_playground.duo.drawing import stream

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)

PINNED = [((0, 29, 33, 46, 50), (7, 1, 14, 23, 37)), ((3, 8, 9, 30, 31), (6, 43, 40, 59, 57))]
PINNED_TRAIN = ((1, 20, 40, 38, 58), (2, 16, 10, 32, 25))

DIGEST = """
import hashlib
from camkit_playground.duo import mosaic, scene
digest = hashlib.sha256()
for seed in range(8):
    for kind in ("test", "train"):
        drawn = scene(seed, objects=1 + seed % 3, tag=seed % 2 == 0, kind=kind, size=64 + 8 * seed)
        digest.update(drawn.image.tobytes() + drawn.masks.tobytes() + repr(drawn.boxes).encode())
digest.update(mosaic(3).image.tobytes())
print(digest.hexdigest())
"""


def digest_here(capsys: pytest.CaptureFixture[str]) -> str:
    exec(DIGEST, {})
    return capsys.readouterr().out.strip()


def digest_elsewhere(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", DIGEST]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_the_same_seed_gives_the_same_bytes_again_and_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.random.seed(5)
    state = np.random.get_state(legacy=False)["state"]["key"].copy()  # type: ignore[call-overload]
    here = digest_here(capsys)
    assert len(here) == 64
    assert {here, digest_here(capsys), digest_elsewhere("1"), digest_elsewhere("2")} == {here}
    after = np.random.get_state(legacy=False)["state"]["key"]  # type: ignore[call-overload]
    np.testing.assert_array_equal(after, state)


def test_the_layout_of_a_few_seeds_is_pinned() -> None:
    # Whoever changes the generator retrains the networks and says so: published seeds move.
    assert [scene(seed).boxes for seed in (0, 7)] == PINNED
    assert scene(7, kind="train").boxes == PINNED_TRAIN


@EXAMPLES
@given(seed=st.integers(0, 2**62))
def test_different_seeds_and_kinds_are_different_pictures(seed: int) -> None:
    pictures = [scene(seed), scene(seed + 1), scene(seed, kind="train")]
    assert len({picture.image.tobytes() for picture in pictures}) == 3
    assert len({picture.boxes for picture in pictures}) == 3


def test_training_and_test_streams_are_disjoint_for_every_pair_of_seeds() -> None:
    """No stream of the first 3000 seeds of one kind starts like one of the other kind."""
    starts = {
        kind: {
            stream(seed, kind, part).integers(2**63) for seed in range(3000) for part in range(3)
        }
        for kind in KINDS
    }
    assert all(len(found) == 9000 for found in starts.values())
    assert not starts["train"] & starts["test"]


def test_a_picture_takes_at_most_three_milliseconds() -> None:
    scene(0)
    rounds = []
    for first in range(0, 60, 10):
        started = time.process_time()
        for seed in range(first, first + 10):
            scene(seed, objects=3, tag=True)
        rounds.append((time.process_time() - started) / 10)
    assert min(rounds) <= 3e-3
