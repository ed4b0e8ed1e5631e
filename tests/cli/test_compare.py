"""The command that compares strategies: searches in a table, shared weights, and what it refuses."""

import csv
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import pytest
from tables import write_table

import lightning_nas as ln
from lightning_nas.cli.compare import main, read
from lightning_nas.errors import ConfigError, InputError
from lightning_nas.experiment.comparison.on_ray import Cluster
from lightning_nas.experiment.comparison.plan import Method
from lightning_nas.experiment.comparison.runs import Job

SMALL = ("search_space=nasbench201_small", "search_space.channels=2", "search_space.cells=[1,1,1]", "engine=table")
NEEDED = ("strategies=[evolution]", "seeds=3", "budget.trials=5")
NETWORKS = ["random_sampling", "most_params", "most_macs", "hand_made"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def compared(
    table: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], list[dict[str, str]], str]:
    """The folder of a comparison in which one strategy fails, its overrides, its rows, and what was printed."""
    out = tmp_path_factory.mktemp("compared") / "out"
    overrides = [*SMALL, f"engine.path={table}", "evolution.population=3", "mnasnet.latency_table=none"]
    with redirect_stdout(io.StringIO()) as said:
        main(["strategies=[evolution,mnasnet]", "seeds=3", "budget.trials=5", *overrides, f"out={out}"])
    return out, overrides, rows(out), said.getvalue()


def test_a_table_judges_answers(compared: tuple[Path, list[str], list[dict[str, str]], str]) -> None:
    """By this table a cell's accuracy is a tenth of its number of 3x3 convolutions, as it is its size."""
    out, _, found, said = compared
    assert len(found) == 3 * 7
    assert {row["method"] for row in found} == {"random", "evolution", "mnasnet", *NETWORKS}
    ended = [row for row in found if not row["failed"]]
    for row in ended:
        assert float(row["figure"]) == pytest.approx(row["architecture"].split().count("nor_conv_3x3") / 10)
        assert (out / row["folder"] / "result.json").is_file()
        assert (out / row["folder"] / "config.yaml").is_file()
    assert {row["figure"] for row in found if row["method"].startswith("most_")} == {"0.6"}
    assert {row["trials"] for row in found if row["method"] == "evolution"} == {"5"}
    content = json.loads((out / "comparison.json").read_text())
    assert content["best"] == {"nasbench201_small": 0.6}
    assert content["figure"] == "CIFAR-10, 200 epochs, read from NAS-Bench-201"
    assert "No difference to random is shown of evolution." in said
    assert "3 pairs cannot show a difference" in said
    assert f"out={out}" in (out / "comparison.html").read_text()


def test_a_strategy_that_fails_is_counted_and_the_others_go_on(
    compared: tuple[Path, list[str], list[dict[str, str]], str],
) -> None:
    _, _, found, said = compared
    assert [(row["method"], row["seed"]) for row in found if row["failed"]] == [("mnasnet", n) for n in "012"]
    assert all("needs a latency table" in row["failed"] for row in found if row["failed"])
    assert re.search(r"mnasnet .* 3/3 *\n", said)
    assert "3 of 21 runs failed (mnasnet)" in said


def test_a_search_in_a_comparison_is_that_of_its_seed(
    compared: tuple[Path, list[str], list[dict[str, str]], str],
) -> None:
    space = ln.NASBench201Space("nasbench201_small", image_size=32, channels=2, cells=(1, 1, 1))
    for row in compared[2]:
        if row["method"] == "random":
            alone = ln.RandomSearch(space, seed=int(row["seed"]), trials=5)
            drawn = [str(alone.propose(number)) for number in range(5)]
            assert row["architecture"] == max(drawn, key=lambda cell: cell.split().count("nor_conv_3x3"))


def test_a_comparison_goes_on_from_python_too(compared: tuple[Path, list[str], list[dict[str, str]], str]) -> None:
    out, overrides, found, _ = compared
    searched = {row["seed"]: row for row in found if row["method"] == "evolution"}
    lost, kept = (out / searched[seed]["folder"] / "result.json" for seed in ("1", "2"))
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    made = ln.compare(["evolution"], seeds=3, budget={"trials": 5}, folder=out, overrides=overrides[:-1])
    assert kept.stat().st_mtime_ns == stamp
    assert lost.is_file()
    again = {row.seed: row for row in made.rows if row.method == "evolution"}
    assert again[1].architecture == searched["1"]["architecture"]
    assert made.findings.methods[1].name == "evolution"
    changed = [text.replace("population=3", "population=4") for text in overrides]
    with pytest.raises(ConfigError, match=r"other settings: of nasbench201_small/evolution, strategy\.population was"):
        ln.compare(["evolution"], seeds=3, budget={"trials": 5}, folder=out, overrides=changed[:-1])


def test_on_a_ray_cluster_the_rows_are_the_same(
    compared: tuple[Path, list[str], list[dict[str, str]], str], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install lightning_nas[ray]")
    said: list[str] = []
    made = ln.compare(
        ["evolution", "mnasnet"],
        seeds=2,
        budget={"trials": 5},
        folder=tmp_path / "away",
        overrides=compared[1],
        ray="local",
        say=said.append,
    )

    def told(row: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in row.items() if not key.endswith("seconds")}

    assert [told(row) for row in rows(made.folder)] == [told(row) for row in compared[2] if row["seed"] in "01"]
    away = [line for line in said if "on Ray" in line]
    assert len(away) == len({line.split(": ", 1)[1] for line in away}) == 11  # those without a seed once
    assert sum("mnasnet" in line and "failed: " in line for line in away) == 2


def test_an_address_without_a_cluster_is_one_error(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install lightning_nas[ray]")
    with pytest.raises(ConfigError, match=r"^ray='nowhere': no Ray cluster can be used there"):
        main([*NEEDED, *SMALL, f"engine.path={table}", "ray=nowhere", f"out={tmp_path / 'out'}"])


def test_a_run_whose_process_dies_has_failed(tmp_path: Path) -> None:
    class Died(Exception):
        cause = None

    class Ray:
        """In this process; the first run dies."""

        exceptions = SimpleNamespace(RayError=Died)
        gone: ClassVar[list[object]] = []

        def nodes(self) -> list[dict[str, object]]:
            return [{"Alive": True, "Resources": {"CPU": 1.0}}]

        def remote(self, **_: object) -> Any:
            return lambda _: SimpleNamespace(remote=lambda _, job: job)

        def put(self, value: object) -> object:
            return value

        def wait(self, running: list[Job], **_: object) -> tuple[list[Job], list[Job]]:
            return running[:1], running[1:]

        def get(self, job: Job) -> str | None:
            if job.seed == 0:
                raise Died("a node is gone")
            return None

        def cancel(self, reference: object, *, force: bool) -> None:
            self.gone.append((reference, force))

    jobs = [Job("toys", seed, Method("random")) for seed in range(3)]
    plan: Any = SimpleNamespace(folder=tmp_path)
    with mock.patch("lightning_nas.experiment.comparison.on_ray.connected", return_value=(Ray(), False)):
        made = dict(Cluster("auto").make(plan, SimpleNamespace(), jobs))  # type: ignore[arg-type]
        assert made == {jobs[0]: "Died: a node is gone", jobs[1]: None, jobs[2]: None}
        begun = Cluster("auto").make(plan, SimpleNamespace(), jobs)  # type: ignore[arg-type]
        next(begun)
        begun.close()  # as Ctrl-C does
        assert Ray.gone == [(jobs[1], True), (jobs[2], True)]
        with pytest.raises(ConfigError, match="cpus=2, gpus=0: no machine"):
            list(Cluster("auto", cpus=2).make(plan, SimpleNamespace(), jobs))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*NEEDED, "cpus=2"], "cpus: it goes with ray=local"),
        ([*NEEDED, "ray=auto", "gpus=1.5"], "gpus=1.5: legal: a fraction"),
        ([*NEEDED, "ray=auto", "cpus=0"], "cpus: got 0"),
        (["seeds=3", "budget.trials=5"], "strategies: it is missing"),
        (["strategies=[evolution]", "budget.trials=5"], "seeds: it is missing"),
        (["strategies=[evolution]", "seeds=3"], "budget: it is missing"),
        (["strategies=[evolutoin]", "seeds=3", "budget.trials=5"], "did you mean 'evolution'"),
        (["strategies=evolution", "seeds=3", "budget.trials=5"], r"legal: a list, strategies=\["),
        (["strategies=[evolution]", "seeds=1", "budget.trials=5"], "seeds: got 1"),
        (["strategies=[evolution]", "seeds=few", "budget.trials=5"], "seeds: got 'few'"),
        ([*NEEDED, "budget.epochs=3"], "got budget.trials, budget.epochs"),
        (["strategies=[evolution]", "seeds=3", "budget.days=5"], "budget.days: there is no such budget"),
        (["strategies=[evolution]", "seeds=3", "budget.trials=0"], "budget.trials: got 0"),
        (["strategies=[darts]", "seeds=3", "budget.trials=5"], "darts shares weights and has no trials"),
        (["strategies=[darts]", "seeds=3", "budget.epochs=5", "search_space=pnas_small"], "darts: .*no supernet"),
        (["strategies=[random]", "seeds=3", "budget.epochs=2"], "takes 3 epochs"),
        ([*NEEDED, "seed=3"], "seed: a comparison sets it; use seeds=N"),
        ([*NEEDED, "hydra.run.dir=here"], "use out=FOLDER"),
        ([*NEEDED, "--multirun"], "takes KEY=VALUE and no flags"),
        ([*NEEDED, "seeds=4"], "seeds: it is given twice"),
        ([*NEEDED, "against=darts"], "against: got 'darts'"),
        ([*NEEDED, "darts.arch_every=2"], "darts.arch_every: darts is not among"),
        ([*NEEDED, "evolution.populaton=20"], "population"),
        ([*NEEDED, "search_space=nasbench_201"], "there is no preset 'nasbench_201'"),
        ([*NEEDED, "out=[a]"], "out: got"),
        ([*NEEDED, "search_space=nasbench201", "engine=table", "engine.path=none.npz"], "none.npz"),
        ([*NEEDED, "broken"], "cannot read 'broken'"),
    ],
)
def test_what_cannot_be_compared_is_one_error_before_anything_runs(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words) as refused:
        main(arguments)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("runs"))


def test_arguments_are_sorted() -> None:
    asked = read(
        [*NEEDED, "dataset=digits,npz", "engine.epochs=12,200", "evolution.trainer.precision=16-mixed", "a.b=1"]
    )
    assert asked.tasks == {
        "digits-12": ["dataset=digits", "engine.epochs=12"],
        "digits-200": ["dataset=digits", "engine.epochs=200"],
        "npz-12": ["dataset=npz", "engine.epochs=12"],
        "npz-200": ["dataset=npz", "engine.epochs=200"],
    }
    assert asked.own == {"evolution": ["trainer.precision=16-mixed"]}
    assert asked.overrides == ["a.b=1"]
