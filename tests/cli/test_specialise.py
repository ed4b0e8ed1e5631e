import csv
import json
import shutil
from pathlib import Path

import pytest
from commands import Commands, Ended

import lightning_nas as ln
from lightning_nas.cli.evaluate import evaluate
from lightning_nas.cli.main import main
from lightning_nas.export.trained import Trained
from lightning_nas.ops.counts import count_macs, count_params


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "specialised.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_network_keeps_its_target_and_leaves_with_the_weights_of_the_supernet(
    undisturbed: tuple[Path, Ended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = undisturbed[0]
    before = {file: file.stat().st_mtime_ns for file in source.rglob("*") if file.is_file()}
    out = tmp_path / "out"
    targets = {"macs-2500": 2500, "macs-100000": 100_000}
    assert main(["specialise", str(source), "targets_macs=[2500,1e5]", "formats=[py]", f"out={out}"]) == 0
    assert str(out / "macs-2500") in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in source.rglob("*") if file.is_file()}
    there = rows(out)
    assert [row["name"] for row in there] == list(targets), "operations have no order, so no network is uniform"
    for row in there:
        network = ln.load(row["folder"])
        assert count_macs(network, (1, 8, 8)) == int(row["macs"]) == float(row["cost"]) <= targets[row["name"]]
        assert count_params(network) == int(row["params"])
        figures, _ = evaluate(Path(row["folder"]), Trained.load(row["folder"]), [])
        assert figures["test_acc"] == float(row["figure"])
        result = json.loads((Path(row["folder"]) / "result.json").read_text())
        assert result["targets"][0]["cost"] <= result["targets"][0]["asked"] == targets[row["name"]]
        assert result["test_acc"] == float(row["figure"])
        assert not result["warnings"]
        assert (Path(row["folder"]) / "export" / "network.py").exists()
    answer = json.loads((source / "architecture.json").read_text())["choices"]
    assert json.loads((out / "macs-100000" / "architecture.json").read_text())["choices"] == answer, (
        "nothing is excluded"
    )
    assert "macs-2500" in (out / "specialised.html").read_text()

    assert main(["specialise", str(source), "targets_macs=[2500]", f"out={out}"]) == 2
    assert "holds networks already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "specialise takes targets"),
        (["targets=[0]"], "targets: got '0'; legal: positive numbers"),
        (["targets_macs=[5,5]"], "targets_macs: 5 is given twice"),
        (["targets=[5]", "targets=[6]"], "targets is given twice"),
        (["target=5"], "'target=5': specialise takes targets"),
        (["targets_macs=[1]"], "the cheapest architecture of fbnet_small costs"),
        (["targets_ms=[1]"], "target_ms"),
        (["targets=[1e5]", "formats=[exe]"], "exe"),
        (["targets=[1e5]", "latency_table=none.json"], "none.json"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str],
    message: str,
    undisturbed: tuple[Path, Ended],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["specialise", str(undisturbed[0]), f"out={tmp_path / 'out'}", *arguments]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line


def test_a_search_without_shared_weights_or_without_an_end_is_refused(
    cli: Commands, undisturbed: tuple[Path, Ended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["specialise", str(tmp_path / "nowhere"), "targets=[1]"]) == 2
    assert "cannot read" in capsys.readouterr().err

    trials, table = tmp_path / "trials", ["strategy=random", "search_space=tiny", "dataset=digits", "engine=table"]
    assert cli.run(*table, "strategy.trials=3", "logger=none", f"hydra.run.dir={trials}").code == 0
    assert main(["specialise", str(trials), "targets_macs=[1e9]"]) == 2
    assert "specialise: results are looked up, so no network has weights" in capsys.readouterr().err

    cut = tmp_path / "cut"
    shutil.copytree(undisturbed[0], cut)
    planned = (cut / "config.yaml").read_text()
    (cut / "config.yaml").write_text(planned.replace("max_epochs: 3", "max_epochs: 5"))
    assert main(["specialise", str(cut), "targets_macs=[1e5]"]) == 2
    assert "ended after 3 of 5 epochs" in capsys.readouterr().err
    (cut / "architecture.json").unlink()
    assert main(["specialise", str(cut), "targets_macs=[1e5]"]) == 2
    assert "holds no finished search" in capsys.readouterr().err


def test_uniform_networks_stand_beside_those_of_an_elastic_supernet(cli: Commands, tmp_path: Path) -> None:
    source, out = tmp_path / "run", tmp_path / "out"
    elastic = ["strategy=spos", "strategy.sampling=sandwich", "search_space=attentive_nas_small", "latency_table=macs"]
    small = ["strategy.population=4", "strategy.generations=1", "callbacks=none", "logger=none", "stages=[search]"]
    ended = cli.run(*elastic, *small, "trainer.max_epochs=1", f"hydra.run.dir={source}")
    assert ended.code == 0, ended.err
    assert main(["specialise", str(source), "targets=[1e6]", "formats=[py]", f"out={out}"]) == 0
    there = rows(out)
    assert [row["kind"] for row in there] == ["specialised", "uniform", "uniform"], "two options of each decision"
    small, large = (row["architecture"].partition(" ")[2] for row in there[1:])
    assert (small, large) == ("8 8 1 3 16 1 3 3 16 1 3 3 64", "16 16 2 5 24 2 5 4 24 2 5 4 96")
    assert "Uniform networks" in (out / "specialised.html").read_text()
