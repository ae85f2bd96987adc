"""The committed pages about conformance are what the commands make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from camkit_core.testing import table

from . import conformance_peers as peers

DOCS = Path(__file__).parents[2] / "docs"


def test_every_mutant_is_caught_and_the_table_is_current() -> None:
    made = table.markdown()
    assert "**nothing**" not in made
    assert (DOCS / "conformance.md").read_text("utf-8") == made, (
        "run: python -m camkit_core.testing.table > docs/conformance.md"
    )


def test_the_page_about_the_peers_is_current() -> None:
    def comparable(text: str) -> str:
        return re.sub(r"(?m)^Made with .*$", "", text)

    written = (DOCS / "conformance-peers.md").read_text("utf-8")
    assert comparable(written) == comparable(peers.markdown()), (
        "run: python tests/integration/conformance_peers.py > docs/conformance-peers.md"
    )


@pytest.mark.parametrize("library", peers.PINNED)
def test_the_page_is_about_the_pinned_releases(library: str) -> None:
    assert peers.version(library) == peers.PINNED[library]
    assert f"{library} {peers.PINNED[library]}" in (DOCS / "conformance-peers.md").read_text(
        "utf-8"
    )
