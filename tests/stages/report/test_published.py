from fractions import Fraction

import yaml

from stages.data.catalogue import CATALOGUE
from stages.report.published import PUBLISHED_PATH, published_results


def rows() -> list[dict[str, str]]:
    found: list[dict[str, str]] = yaml.safe_load(PUBLISHED_PATH.read_text())["results"]
    return found


def test_the_best_certified_accuracy_comes_first() -> None:
    found = published_results("fashion_mnist", "linf", Fraction(1, 10))
    assert (found[0].certified, found[0].arxiv) == ("79.23", "2102.05363")
    certified = [float(row.certified) for row in found]
    assert certified == sorted(certified, reverse=True)


def test_eps_matches_exactly_or_not_at_all() -> None:
    assert published_results("cifar10", "linf", Fraction(8, 255))
    assert not published_results("cifar10", "linf", Fraction("0.03137"))
    assert not published_results("fashion_mnist", "linf", Fraction(1, 11))
    assert not published_results("no such data set", "linf", Fraction(1, 10))


def test_every_row_is_of_a_known_data_set_and_can_be_read() -> None:
    for row in rows():
        assert row["dataset"] in CATALOGUE
        assert published_results(row["dataset"], row["norm"], Fraction(row["eps"]))


def test_no_row_certifies_more_than_its_attack_leaves() -> None:
    for row in rows():
        figures = [float(row[name]) for name in ("certified", "attacked", "clean") if name in row]
        assert figures == sorted(figures), row
