"""What this package offers.

camkit imports this file for every listing, so it names things and imports none of them: no torch,
no NumPy. The entries repeat what the classes say; `camkit plugins check` compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from camkit_core import Entry, hookimpl

if TYPE_CHECKING:
    from camkit_core import Target

CAMKIT_API = 1  # the plugin interface this was written for


@hookimpl
def camkit_entries() -> list[Entry]:
    """One entry per thing that people can name."""
    return [
        Entry(
            kind="method",
            name="example",
            ref="camkit_example.method:Example",
            summary="Grad-CAM whose channel weights ignore extreme gradients",
            needs=("activations", "gradients"),
            runs="1F + 1B",
            class_discriminative=True,
        ),
        Entry(
            kind="target",
            name="example_odds",
            ref="camkit_example.target:LogOdds",
            summary="Log-odds of a class against all the others",
        ),
        Entry(
            kind="reshape",
            name="example_flat",
            ref="camkit_example.reshape:Flat",
            summary="[N, C, P]: positions flattened behind the channels",
        ),
    ]


@hookimpl
def camkit_target_for(request: Any) -> Target | None:
    """`--target example_odds` or `--target example_odds:281`; None for everybody else's words."""
    name, _, index = str(request).partition(":")
    if name != "example_odds":
        return None
    from camkit_example.target import LogOdds

    return LogOdds(int(index) if index else None)
