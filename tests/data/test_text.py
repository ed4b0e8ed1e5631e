from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.data.text import TextData
from lightning_nas.data.windows import Windows
from lightning_nas.errors import DataError

NUMBERED = " ".join(f"w{i}" for i in range(1000))


def made(path: Path | None = None, **options: Any) -> TextData:
    """A text whose every word says where it stood."""
    data = TextData(
        path=None if path is None else str(path), **{"split": "spaces", "batch_size": 4, "bptt": 5} | options
    )
    data.setup()
    return data


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    file = tmp_path / "text"
    file.write_text(NUMBERED)
    return file


def test_the_four_parts_are_disjoint_contiguous_and_everything(numbered: Path) -> None:
    data = made(numbered, arch_fraction=0.25)
    assert data.sizes == {"weights": 601, "arch": 200, "val": 100, "test": 100}
    words = list(data.vocabulary)
    parts = {name: [words[i] for i in part] for name, part in data._parts.items()}
    assert parts["weights"] + parts["arch"] == [f"w{i}" for i in range(801)]
    assert set(parts["val"]) == {"<unk>"}, "the vocabulary holds words of the validation part"
    assert parts["test"][-1] == "<eos>"


def test_no_batch_of_one_part_holds_a_word_of_another(numbered: Path) -> None:
    data = made(numbered)
    seen: dict[str, set[int]] = {"weights": set(), "arch": set()}
    for batch in data.search_loader("epoch", lambda: 0):
        for part, (x, y) in batch.items():
            seen[part] |= {*x.flatten().tolist(), *y.flatten().tolist()}
    assert all(seen.values())
    assert not seen["weights"] & seen["arch"]


def test_own_files_are_the_validation_and_test_parts(tmp_path: Path) -> None:
    for name, text in {
        "ptb.train.txt": NUMBERED,
        "ptb.valid.txt": "w1 w2 " * 30,
        "ptb.test.txt": "w3 w3 " * 30,
    }.items():
        (tmp_path / name).write_text(text)
    data = made(tmp_path)
    assert data.sizes == {"weights": 801, "arch": 200, "val": 61, "test": 61}
    assert {list(data.vocabulary)[i] for i in data._parts["test"]} == {"w3", "<eos>"}


def test_rows_go_on_from_window_to_window_and_the_target_is_the_next_word() -> None:
    words = torch.arange(103)
    windows = Windows(words, "weights", 4, 7)
    x, y = (torch.cat(parts, 1) for parts in zip(*(windows[t] for t in range(len(windows))), strict=True))
    assert torch.equal(x, words[:100].view(4, 25)[:, :-1])
    assert torch.equal(y, words[:100].view(4, 25)[:, 1:])
    assert torch.equal(windows[len(windows)][0], windows[0][0])


def test_processes_read_different_rows() -> None:
    words = torch.arange(80)
    whole, ranks = Windows(words, "w", 4, 5), [Windows(words, "w", 2, 5, rank=r, world_size=2) for r in (0, 1)]
    assert torch.equal(torch.cat([rank[1][0] for rank in ranks]), whole[1][0])


def test_random_windows_cover_each_pass_and_differ_between_passes() -> None:
    windows = Windows(torch.arange(4 * 1001), "weights", 4, 35, seed=0)
    passes = [[windows[t][0] for t in range(p * len(windows), (p + 1) * len(windows))] for p in (0, 1)]
    lengths = [[x.shape[1] for x in windows] for windows in passes]
    assert [sum(each) for each in lengths] == [1000, 1000]
    assert lengths[0] != lengths[1]
    assert min(map(min, lengths)) > 0
    assert 30 < torch.tensor(lengths[0]).float().median() < 40
    assert torch.equal(torch.cat(passes[1], 1), torch.arange(4004).view(4, 1001)[:, :-1])


def test_architectures_are_scored_on_as_many_rows_as_there_are_windows(
    numbered: Path,
) -> None:
    data = made(numbered, batch_size=16, eval_batch_size=2)
    for part in ("arch", "val"):
        words, (x, y) = data._parts[part], next(iter(data.score_batches(1, part)))
        lines = words[: len(words) // 16 * 16].view(16, -1)
        assert torch.equal(x, lines[:, :5])
        assert torch.equal(y, lines[:, 1:6])
    assert len(next(iter(made(numbered, batch_size=80, eval_batch_size=2, bptt=9).score_batches(1)))[0]) == 10


def test_a_loader_begins_anywhere(numbered: Path) -> None:
    data = made(numbered, random_length=True)
    whole = list(data.retrain_loader(lambda: 0))
    rest = list(data.retrain_loader(lambda: 3, searched=True))
    assert all(
        torch.equal(a, b) for one, other in zip(whole[3:], rest, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_rare_words_are_unknown(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("often often rare often seldom seldom\n" * 2 + "often once " * 20)
    kinds = [
        list(made(file, batch_size=1, eval_batch_size=1, **limit).vocabulary)
        for limit in ({"max_words": 4}, {"min_count": 3})
    ]
    assert kinds == [["<unk>", "<eos>", "often", "once"], ["<unk>", "<eos>", "often", "once", "seldom"]]


def test_the_default_text_is_pythons_own_and_in_lower_case() -> None:
    data = TextData(max_words=500)
    data.setup()
    assert data.num_classes == 500
    assert {"statement", "(", "<eos>"} <= set(data.vocabulary)
    assert not any(word != word.lower() for word in data.vocabulary)


def _two_trains(path: Path) -> None:
    (path / "a.train.txt").write_text("a b")
    (path / "b.train.txt").write_text("a b")


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: (path / "train.txt").write_bytes(bytes(range(256)) * 9), "not UTF-8 text.*byte 128"),
        (lambda path: (path / "train.txt").write_bytes(b"ab\x00c" * 99), r"not text: it has the character '\\x00'"),
        (lambda path: (path / "train.txt").write_text(""), "has no words"),
        (lambda path: (path / "train.txt").write_text(" \n\n "), "has no words"),
        (lambda path: (path / "train.txt").write_text("too short"), "too few for 4 rows"),
        (lambda path: (path / "notes.md").write_text("a b"), r"no training text.*train\.txt"),
        (_two_trains, "two files for the train part: 'a.train.txt' and 'b.train.txt'"),
        (lambda path: (path / "train.txt").mkdir(), "no training text"),
    ],
)
def test_files_that_are_not_text_are_refused_in_one_line(
    write: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        made(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_path_and_a_wrong_size_are_refused(numbered: Path) -> None:
    with pytest.raises(DataError, match=r"no file or folder.*dataset\.path"):
        made(Path("/nowhere"))
    with pytest.raises(DataError, match=r"has 803 words, but num_classes .* is 50"):
        made(numbered, num_classes=50)
