"""The script for a GPU, with the small sizes that it takes without one."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "device.sh"


@pytest.mark.skipif(torch.cuda.is_available(), reason="takes minutes on a GPU")
def test_the_script_runs_whole_on_a_cpu_and_writes_what_it_found(tmp_path: Path) -> None:
    command = ["bash", SCRIPT, "--out", tmp_path / "device.json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    told = json.loads((tmp_path / "device.json").read_text())
    assert told["device"] == "cpu"
    assert all(found == {"loss": 0, "gradients": 0, "equal": True} for found in told["equal"].values())
    rows = told["steps"]["milliseconds"]
    assert set(rows) == {"ours, eager", "ours, compiled"}
    assert 0 < rows["ours, compiled"]["weights_apart"] < 1e-2  # another order of sums
    assert told["steps"]["skipped"] == dict.fromkeys(("captured", "bfloat16"), "needs a CUDA device")
