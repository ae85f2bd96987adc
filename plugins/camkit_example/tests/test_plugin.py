"""What the listings say is what there is."""

from __future__ import annotations

from camkit_core import Registry
from camkit_example import plugin


def test_every_name_leads_somewhere() -> None:
    registry = Registry(plugins=[("camkit-example", plugin)], discover=False, strict=True)
    assert registry.entries()
    for entry in registry.entries():
        assert registry.resolve(entry.kind, entry.name)
