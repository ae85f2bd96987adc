"""`python -m camkit_playground.train [cnn|hans|vit|all] [--check]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from camkit_playground.networks import NAMES, load
from camkit_playground.networks.store import FOLDER, save
from camkit_playground.train.cards import Record, write_card
from camkit_playground.train.gates import GATES, measure
from camkit_playground.train.loop import fit
from camkit_playground.train.recipes import RECIPES


def main(arguments: list[str] | None = None) -> int:
    """Train and check, or only check; 0 if every gate holds, else 1."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    names = NAMES if given.network == "all" else (given.network,)
    if not given.check:
        given.out.mkdir(parents=True, exist_ok=True)
        for name in names:
            _train(name, given.out)
    held = [_check(name, given.out) for name in names]
    return 0 if all(held) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m camkit_playground.train",
        description="Train the demo networks on Duo pictures and check them on held-out ones.",
    )
    parser.add_argument("network", nargs="?", default="all", choices=[*NAMES, "all"])
    parser.add_argument("--check", action="store_true", help="check the weights, train nothing")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder of the weights (default: the package's)"
    )
    return parser


def _train(name: str, folder: Path) -> None:
    started = time.process_time()
    model = fit(name, RECIPES[name], _tell)
    minutes = (time.process_time() - started) / 60
    path = save(model, name, folder)
    # The figures are those of the shipped half-precision weights, not of the ones in memory.
    figures = measure(name, load(name, folder))
    write_card(Record.of(name, RECIPES[name], path, figures, minutes), folder)
    _tell(f"{name}: written to {path} after {minutes:.1f} minutes")


def _check(name: str, folder: Path) -> bool:
    figures = measure(name, load(name, folder))
    _tell(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    missed = [gate for gate in GATES[name] if not gate.passes(figures)]
    for gate in missed:
        _tell(f"{name}: MISSED {gate}")
    return not missed


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
