"""A run's folder as a finished search leaves it, with invented numbers."""

import csv
import json
import math
import random
from collections.abc import Iterable
from pathlib import Path

import networkx as nx

OPTIONS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")


def write_csv(path: Path, head: str, rows: Iterable[Iterable[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head.split(","))
        writer.writerows(rows)


def write_run(folder: Path, options: tuple[str, ...] = OPTIONS, choices: int = 9, epochs: int = 30) -> None:
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)
    answer = [options[(5 * i) % len(options)] for i in range(choices)]
    curve = [
        (e // 4, e, f"{2.3 * math.exp(-e / 30) + 0.1 * draw.random():.4f}", f"{3 * math.exp(-e / 40):.4f}",
         f"{2.2 * math.exp(-e / 50):.4f}" if e % 4 == 3 else "", f"{1.2 - e / 200:.4f}",
         f"{1 - 0.9 * math.exp(-e / 25):.4f}" if e % 4 == 3 else "", 0.1)
        for e in range(4 * epochs)
    ]  # fmt: skip
    write_csv(
        folder / "metrics.csv",
        "epoch,step,train/loss,arch/loss,arch/entropy,latency/expected_ms,val/acc,lr/weights",
        curve,
    )
    write_csv(
        folder / "retrain/metrics.csv", "epoch,step,train/loss,val/acc", [(r[0], r[1], r[2], r[6]) for r in curve]
    )
    shares = []
    for epoch in range(epochs):
        for choice, best in enumerate(answer):
            logits = [(epoch / 8) * (option == best) + draw.random() for option in options]
            total = sum(map(math.exp, logits))
            shares += [(epoch, "layers", choice, o, math.exp(x) / total) for o, x in zip(options, logits, strict=True)]
    write_csv(folder / "probabilities.csv", "epoch,group,choice,option,probability", shares)
    likeliest: dict[object, tuple[object, ...]] = {}
    for epoch, group, choice, option, share in shares:
        if share > likeliest.get((epoch, choice), (0.0,))[-1]:
            likeliest[epoch, choice] = (epoch, group, choice, 1.5, option, share)
    write_csv(folder / "edges.csv", "epoch,group,choice,entropy,option,probability", likeliest.values())
    seen = [
        (e, 4 * e, "sampled" if e % 3 else "derived", f"{e:016x}", f"{draw.random():.4f}" if e % 5 else "",
         f"{draw.random():.4f}", " ".join(draw.choices(options, k=choices)))
        for e in range(epochs)
    ]  # fmt: skip
    write_csv(folder / "architectures.csv", "epoch,step,kind,key,score,cost,choices", seen)
    head = (
        "epoch,step,kendall_tau,low,high,p_tau,spearman,precision_at_k,k,architectures,kendall_tau_macs,spearman_macs,"
        "chance,verdict"
    )
    taus = [
        (e, 4 * e, t, t - 0.3, min(1, t + 0.25), (t + 1) / 2, t + 0.1, 0.67, 3, 12, 0.41, 0.52, 0.004, "too few to say")
        for e, t in ((9, 0.3), (29, 0.58))
    ]
    write_csv(folder / "rank.csv", head, taus)
    head = "proxy,kendall_tau,low,high,p_tau,spearman,precision_at_k,k,architectures,chance"
    scores = [("synflow", 0.41, 0.1, 0.7, 0.7, 0.52, 0.33, 3, 12, 0.02), ("swap", *[""] * 5, 0.0, 3, 12, "")]
    write_csv(folder / "rank_proxies.csv", head, scores)
    health = [
        (
            e,
            4 * e,
            0.2,
            0.1 + e / 100,
            1.2 - e / 60,
            0.9,
            0.6 + e / 100,
            0.3 - e / 100,
            0.1 + draw.random() if e > 3 else "",
        )
        for e in range(0, epochs, 3)
    ]
    names = "skip_share,skip_probability,entropy,supernet_score,derived_score,discretisation_gap,eigenvalue"
    write_csv(folder / "health.csv", f"epoch,step,{names}", health)
    points = [(e, f"{i:016x}", 0.5 + i / 30 + 0.1 * draw.random(), 0.6 + i / 40) for e in (9, 29) for i in range(12)]
    write_csv(folder / "rank_points.csv", "epoch,key,score,truth", points)
    costs = [(f"layers {i + 1}", option, 0.05 + 0.2 * draw.random()) for i, option in enumerate(answer)]
    write_csv(folder / "layers.csv", "decision,option,cost", [("fixed", "stem", 0.1), *costs, ("fixed", "head", 0.08)])
    decisions = {f"layer_{i:02}": option for i, option in enumerate(answer, 1)}
    architecture = {"format": 1, "space": "fbnet_small", "choices": decisions}
    (folder / "architecture.json").write_text(json.dumps(architecture))
    result = {
        "strategy": "fbnet", "search_space": "fbnet_small", "dataset": "digits", "seed": 1,
        "architecture": architecture, "test_acc": 0.9833, "params": 104522, "macs": 2345678,
        "latency_predicted_ms": 1.234, "latency_measured_ms": 1.311, "kendall_tau": 0.58,
        "kendall_tau_interval": [0.28, 0.83], "kendall_tau_architectures": 12, "kendall_tau_chance": 0.004,
        "kendall_tau_macs": 0.41, "ranking": "too few to say",
        "search_seconds": 41.2, "retrain_seconds": 12.9,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text(
        "seed: 1\nstrategy:\n  _target_: lightning_nas.strategies.FBNet\n  alpha: 0.2\n"
    )


def chain(options: Iterable[str]) -> "nx.DiGraph[str]":
    graph: nx.DiGraph[str] = nx.DiGraph()
    nodes = ["input", *(f"layer_{i:02}" for i, _ in enumerate(options, 1)), "head"]
    for node, label in zip(
        nodes, ["1x8x8", *(f"{option}\n32x4x4" for option in options), "conv 1x1, pool"], strict=True
    ):
        graph.add_node(node, label=label)
    nx.add_path(graph, nodes)
    return graph
