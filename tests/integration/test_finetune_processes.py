"""One fine-tuning shared by several processes, as torchrun starts them, over a store on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from obstore.store import LocalStore
from tests.servers import ROOT
from tests.shapes import put_version, real_rows
from tests.tiny_base import write_tiny_base
from tests.unit.generation.conftest import World

from genaug.shared.store import Store

# What each process does: the same as one alone.
PROGRAM = """
import sys, torch
from pathlib import Path
from obstore.store import LocalStore
from tests.unit.generation.conftest import World
from genaug.shared.store import Store

torch.set_num_threads(1)
folder, base = sys.argv[1:]
backend = LocalStore(folder)
world = World(lambda role: Store(backend, role, url=f"file://{folder}"), [])
world.finetune_base(base, learning_rate=0.0005, sample_grids=1, accumulation=2, method="METHOD_DREAMBOOTH",
                    dreambooth={"prior_images": 2})
# Two channels in each group of a norm: of one alone, what is added before it has no gradient but rounding's.
world.finetune(learning_rate=0.0005, sample_grids=1, base_channels=16)
"""


def filled(folder: Path) -> World:
    """A dataset version in a store on disk."""
    folder.mkdir()
    backend = LocalStore(folder)
    world = World(lambda role: Store(backend, role, url=f"file://{folder}"), [])
    store = world.stores("assembly")
    put_version(store, real_rows(store, {"lies": 6, "stands": 6}))
    return world


def run(command: list[str], folder: Path, base: Path) -> None:
    program = folder.parent / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'services'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, program, folder, base], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base")
    worlds = [filled(tmp_path / name) for name in ("alone", "both")]
    run([], tmp_path / "alone", base)
    run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"], tmp_path / "both", base)
    stores = [world.stores("generation") for world in worlds]
    names = [f"generators/{one}" for one in stores[0].children("generators/")]
    assert len(names) == 2
    for name in names:
        one, other = (safetensors.torch.load(store.get(f"{name}/model.safetensors")) for store in stores)
        assert one.keys() == other.keys()
        for key in one:
            torch.testing.assert_close(one[key], other[key], atol=1e-5, rtol=0)
        records = [store.get_json(f"{name}/generator.json") for store in stores]
        assert records[0]["losses"] == pytest.approx(records[1]["losses"], abs=1e-5)
        kept = [{key for key, _ in store.list(f"{name}/")} for store in stores]
        assert kept[0] == kept[1], "one process writes, and clears up"
        assert not any("checkpoint" in key or "prior" in key for key in kept[1])
