"""One thread for tiny networks, shared helpers on the path, and files of user code."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)

HEAD = "import torch\nfrom torch import nn\n"


@pytest.fixture
def write(tmp_path):
    def to_file(code: str, name: str = "net.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(code))
        return str(path)

    return to_file
