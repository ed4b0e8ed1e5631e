"""The notebooks run from the first cell to the last, and are kept without outputs."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from tables import write_table

import lightning_nas

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

WORSE = {"quickstart": 95, "comparing_on_a_table": 45, "searching_with_ray": 50}  # of the test's own table 60 is best
SHORTER = {"comparing_on_a_table": ("range(10)", "range(2)")}  # seeds
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_it_runs_and_shows_its_figures_and_is_kept_without_outputs(
    file: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file.stem.endswith("with_ray") and find_spec("ray") is None:  # not imported here: the notebook does that
        pytest.skip("Ray is not installed: pip install lightning_nas[ray]")
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    if instead := SHORTER.get(file.stem):
        [longer] = [cell for cell in code if instead[0] in cell.source]
        longer.source = longer.source.replace(*instead)
    package = str(Path(lightning_nas.__file__).parents[1])
    if not os.environ.get("LIGHTNING_NAS_DATA"):
        monkeypatch.setenv("LIGHTNING_NAS_DATA", str(write_table(tmp_path_factory.mktemp("data")).parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]))
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    text = "".join(output.get("text", "") for output in outputs)
    (accuracy,) = re.findall(r"(?:test|validation) accuracy +([\d.]+)%", text)
    assert float(accuracy) > WORSE[file.stem]
    assert list(tmp_path.iterdir()) == []


CELL = """
import lightning_nas as ln
from hydra import compose, initialize_config_module
from lightning_nas.bars import tracked
initialize_config_module("lightning_nas.conf", version_base="1.3")
short = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}
run = ln.Run("here", space="fbnet_small", strategy="random_ws", trainer=short, latency_table="macs", logger="none",
             callbacks={"rank_check": None, "search_health": None}, stages=["search"])
run.search()
print(compose("config", ["strategy=darts"]).strategy._target_, *tracked(range(3), "three steps"))
run"""


def test_a_run_in_a_kernel_shows_its_progress_and_no_more_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = str(Path(lightning_nas.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    texts = [output.data["text/plain"] for output in outputs if output.output_type != "stream"]
    assert re.match(r"search · epoch 2/2 · \d+ s", texts[0])
    assert texts[1:] == ["", "Run('here', data='digits', space='fbnet_small', strategy='random_ws', seed=0)"]
    printed = [output.text for output in outputs if output.output_type == "stream"]
    assert [re.sub(r"in about .*", "", text) for text in printed] == [
        "each option was trained \n",  # four steps are few
        "lightning_nas.strategies.differentiable.darts.DARTS 0 1 2\n",
    ]
    assert (tmp_path / "here" / "architecture.json").is_file()
