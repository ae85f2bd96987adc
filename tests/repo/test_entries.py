"""What plugins say in their listings is what their classes are."""

from __future__ import annotations

import pytest

from camkit_core import Entry, Registry
from camkit_core.known import KNOWN


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(strict=True)


@pytest.fixture(scope="module")
def ours(registry, distributions) -> list[Entry]:
    return [entry for entry in registry.entries() if entry.distribution in distributions]


def test_every_plugin_is_found_and_works(registry, first_party):
    offering = {d.name for d in first_party.values() if "entry-points" in d.project}
    assert {plugin.distribution for plugin in registry.plugins} >= offering
    assert [plugin for plugin in registry.plugins if plugin.status != "ok"] == []
    assert registry.problems == ()


def test_every_reference_resolves(registry, ours):
    assert ours
    for entry in ours:
        found = registry.resolve(entry.kind, entry.qualified)
        assert getattr(found, "name", entry.name) == entry.name, entry


def test_every_entry_has_a_summary_of_one_line(ours):
    for entry in ours:
        assert entry.summary.strip(), entry
        assert "\n" not in entry.summary
        assert len(entry.summary) <= 100, entry


def test_method_entries_agree_with_their_classes(registry, ours):
    methods = [entry for entry in ours if entry.kind == "method"]
    assert methods
    for entry in methods:
        found = registry.resolve("method", entry.qualified)
        said = (entry.name, entry.needs, entry.runs, entry.class_discriminative)
        declared = (found.name, found.needs.words(), found.runs, found.class_discriminative)
        assert said == declared, entry.ref
        assert found.paper in (None, entry.paper), entry.ref


def test_every_method_option_has_a_description(registry, ours):
    for entry in ours:
        if entry.kind == "method":
            fields = registry.resolve("method", entry.qualified).model_fields
            assert [name for name, field in fields.items() if not field.description] == [], entry


def test_core_knows_the_names_that_packages_offer(ours, distributions):
    extras = dict(distributions["camkit"].project["optional-dependencies"])
    del extras["all"]
    extra_of = {pin.partition("==")[0]: extra for extra, (pin,) in extras.items()}
    offered: dict[str, dict[str, str]] = {}
    for entry in ours:
        if entry.distribution in extra_of:
            offered.setdefault(entry.kind, {})[entry.name] = extra_of[entry.distribution]
    assert {kind: names for kind, names in KNOWN.items() if names} == offered
