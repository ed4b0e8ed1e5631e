"""Figures beside the test accuracy, compared with scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, precision_score, recall_score
from sklearn.metrics import confusion_matrix as theirs
from sklearn.preprocessing import StandardScaler
from torch import nn

from lightning_nas.data.arrays import ArrayData
from lightning_nas.data.images import Digits
from lightning_nas.experiment.pixel_baseline import logistic_regression, pixel_baseline
from lightning_nas.experiment.tested import confusion, described
from lightning_nas.files import write_json
from lightning_nas.report.page import write_report
from lightning_nas.report.quantities import comparison
from lightning_nas.tasks.classification import Classification


class Answers(nn.Module):
    """Answers what the first pixel says."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.weight = classes, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return nn.functional.one_hot(x[:, 0, 0, 0].long(), self.classes).float()


def test_class_figures_are_scikit_learns():
    rng = np.random.default_rng(0)
    y, said = rng.choice(4, 300, p=[0.9, 0.05, 0.03, 0.02]), rng.integers(0, 4, 300)
    batches = [
        (torch.from_numpy(said[i : i + 64]).double().reshape(-1, 1, 1, 1), torch.from_numpy(y[i : i + 64]))
        for i in range(0, 300, 64)
    ]
    network = Answers(4)
    with confusion(network, batches, 4) as (watched, matrix):
        score = Classification().evaluate(network, watched, 4)
    assert score == pytest.approx(accuracy_score(y, said))
    np.testing.assert_array_equal(matrix, theirs(y, said))
    found = described(matrix, None, majority=0)
    assert found["balanced_acc"] == pytest.approx(balanced_accuracy_score(y, said))
    assert found["majority_share"] == pytest.approx((y == 0).mean())
    for key, score in (("recall", recall_score), ("precision", precision_score)):
        np.testing.assert_allclose([entry[key] for entry in found["classes"]], score(y, said, average=None))


def test_a_class_without_test_images_does_not_count():
    found = described(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ["a", "b", "c"], majority=1)
    assert found["balanced_acc"] == pytest.approx((0.75 + 1) / 2)
    assert found["classes"][2] == {"name": "c", "images": 0, "recall": None, "precision": None}


def test_the_baseline_is_scikit_learns_logistic_regression():
    data = Digits()
    data.setup()
    (x, y), (x_test, y_test) = data.looked_at("retrain", 10_000), data.looked_at("test", 10_000)
    scale = StandardScaler().fit(x.flatten(1))
    model = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit(scale.transform(x.flatten(1)), y)
    wanted = model.predict(scale.transform(x_test.flatten(1)))
    ours = logistic_regression(x.flatten(1).double(), y, x_test.flatten(1).double(), 10)
    assert (ours.numpy() == wanted).mean() > 0.99
    state = torch.get_rng_state()
    accuracy, trained, tested = pixel_baseline(data)
    assert torch.equal(torch.get_rng_state(), state)
    assert accuracy == pytest.approx((wanted == y_test.numpy()).mean(), abs=0.01)
    assert (trained, tested) == (1258, 359)


def test_large_images_are_averaged_and_many_are_bounded(monkeypatch):
    monkeypatch.setattr("lightning_nas.experiment.pixel_baseline._MOST_IN_MEMORY", 50)
    y = np.arange(200) % 2
    x = np.random.default_rng(0).random((200, 40, 40)) * 0.1 + y[:, None, None]
    data = ArrayData(x, y, batch_size=4)
    data.setup()
    accuracy, trained, tested = pixel_baseline(data)
    assert (accuracy, tested) == (1.0, 40)
    assert trained <= 50


def test_the_report_holds_the_table_of_classes_and_the_doubts(tmp_path):
    found = described(torch.tensor([[150, 0, 0], [8, 0, 0], [2, 0, 0]]), ["Kätzchen", "<b>", "c"], majority=0)
    result = {"test_acc": 0.9375, **found, "warnings": ["something & more"], "augmentation": "mirrored"}
    write_json(tmp_path / "result.json", result)
    page = write_report(tmp_path, None).read_text()
    for words in ("33.33%", "93.75% by always answering the largest class", "Kätzchen", "&lt;b&gt;", "150", "93.8%",
                  "something &amp; more", "mirrored", "Confusion matrix"):  # fmt: skip
        assert words in page, words
    assert comparison({"majority_share": "text"}) is None
