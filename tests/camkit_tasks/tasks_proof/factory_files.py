"""For the tests of `file.py:factory`."""

from __future__ import annotations

import pytest

from camkit_core import ModelError
from camkit_tasks.loaders.factory import load


def failure(spec: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(spec)
    assert "\n" not in str(caught.value)
    assert spec in str(caught.value)
    return caught.value
