"""Classifiers guess where two samples are alike, and know where they are not."""

import builtins
import math

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

from pyro_ebm.learning import classifier_two_sample_test

NEIGHBOURS = {"neighbours": KNeighborsClassifier(5)}


def test_equal_distributions_are_guessed():
    means = [
        classifier_two_sample_test(
            torch.randn(200, 2), torch.randn(100, 2), classifiers=NEIGHBOURS, repeats=2
        ).mean["neighbours"]
        for _ in range(40)
    ]
    assert abs(np.mean(means) - 0.5) < 4 * np.std(means) / math.sqrt(40)


def test_the_usual_classifiers_guess_and_know():
    real = torch.randn(100, 2, 2)
    alike = classifier_two_sample_test(torch.randn(500, 2, 2), real, repeats=2)
    apart = classifier_two_sample_test((torch.randn(100, 2, 2) + 6).numpy(), real, repeats=1)
    assert set(alike.mean) == {"boosted trees", "5 neighbours"}
    for name in alike.mean:
        assert abs(alike.mean[name] - 0.5) < 4 * 0.5 / math.sqrt(200)
        assert apart.mean[name] > 0.98
        assert alike.accuracies[name].shape == (2,)
    assert alike.num_rows == apart.num_rows == 100
    assert "boosted trees 0." in repr(alike)


def test_as_many_rows_of_each_kind_are_taken():
    constant = {"the first": DummyClassifier(strategy="constant", constant=True)}
    for n, m in ((400, 60), (60, 400)):
        found = classifier_two_sample_test(
            torch.randn(n, 1), torch.randn(m, 1), classifiers=constant, repeats=3
        )
        assert found.accuracies["the first"].tolist() == [0.5] * 3
        assert found.num_rows == 60


def test_a_column_that_tells_is_enough_and_its_unit_does_not_matter():
    real = torch.randn(100, 5) * torch.tensor([1.0, 1e6, 1.0, 1.0, 1.0])
    fake = torch.randn(100, 5) * torch.tensor([1.0, 1e6, 1.0, 1.0, 1.0])
    fake[:, 2] += 5.0
    found = classifier_two_sample_test(fake, real, repeats=1)
    assert min(found.mean.values()) > 0.9


def test_one_generator_repeats_all_accuracies():
    x, y = torch.randn(90, 2), torch.randn(60, 2) + 0.5
    first, second, other = (
        classifier_two_sample_test(
            x, y, repeats=2, generator=torch.Generator().manual_seed(seed)
        ).accuracies
        for seed in (1, 1, 2)
    )
    for name in first:
        assert torch.equal(first[name], second[name])
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_given_classifiers_are_left_as_they_were():
    given = LogisticRegression()
    found = classifier_two_sample_test(
        torch.randn(50, 1) + 3, torch.randn(50, 1), classifiers={"line": given}, repeats=1
    )
    assert found.mean["line"] > 0.8
    assert not hasattr(given, "coef_")
    assert given.random_state is None


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (torch.zeros(4, 2), {}, "at least 5 rows of held_out"),
        (torch.zeros(9, 3), {}, "one event shape"),
        (torch.zeros(9, 2), {"folds": 1}, "folds to be at least 2"),
        (torch.zeros(9, 2), {"repeats": 0}, "repeats to be at least 1"),
        (torch.zeros(9, 2), {"classifiers": "trees"}, "scikit-learn classifiers by name"),
        (torch.zeros(9, 2), {"classifiers": {"ridge": Ridge()}}, "scikit-learn classifiers"),
        (torch.zeros(9, 2), {"classifiers": {"no instance": Ridge}}, "scikit-learn classifiers"),
        (torch.zeros(9, 2), {"classifiers": {}}, "a classifier at least"),
        (torch.full((9, 2), math.nan), {}, "held_out of finite numbers"),
    ],
)
def test_what_cannot_be_classified_is_refused(rows, options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        classifier_two_sample_test(torch.randn(9, 2), rows, **options)


def test_a_missing_scikit_learn_is_told_with_the_way_out(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.startswith("sklearn"):
            raise ModuleNotFoundError("No module named 'sklearn'")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'pyro_ebm\[sklearn\]'"):
        classifier_two_sample_test(torch.randn(9, 2), torch.randn(9, 2))
