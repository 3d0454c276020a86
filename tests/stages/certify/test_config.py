import subprocess
import sys
from fractions import Fraction

import pytest
from pydantic import ValidationError

from stages.certify.config import Settings

LEAST = {"inputs": {"data": "shard", "network": "train"}, "eps": "8/255"}


def test_the_default_grid_reaches_twice_eps_and_holds_it():
    grid = Settings.model_validate(LEAST).grid()
    assert (grid[0], grid[8], grid[-1]) == (0, Fraction(8, 255), Fraction(16, 255))
    assert len(grid) == 17


def test_the_default_grid_stays_within_the_pixel_range():
    assert Settings.model_validate(LEAST | {"eps": "3/4"}).grid()[-1] == 1


def test_radii_above_1_are_legal_in_the_l2_norm():
    settings = Settings.model_validate(LEAST | {"norm": "l2", "eps": "79/50"})
    assert (settings.eps, settings.grid()[-1]) == (Fraction(79, 50), Fraction(79, 25))


def test_eps_is_added_to_a_grid_without_it():
    settings = Settings.model_validate(LEAST | {"eps_grid": ["1/255", "16/255"]})
    assert settings.grid() == (Fraction(1, 255), Fraction(8, 255), Fraction(16, 255))


def test_settings_survive_json():
    settings = Settings.model_validate(LEAST | {"attack": {"surrogates": [8, "inf"]}})
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert settings.attack.surrogates == (8.0, "inf")


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"eps": "0"}, "a ball of one image"),
        ({"eps": "8"}, "did you mean 8/255"),
        ({"eps": 0.1}, "1/10"),
        ({"eps_grid": [0.1]}, "1/10"),
        ({"certifier": {"kind": "exact", "certificates": []}}, "at least 1"),
        ({"certifier": {"kind": "exact", "certificates": ["margin", "margin"]}}, "twice"),
        ({"attack": {"surrogates": [8, 8]}}, "given twice"),
        ({"attack": {"surrogates": [0]}}, "greater than 0"),
        ({"certifier": {"kind": "interval"}}, "'exact', 'float'"),
        ({"certifier": {"kind": "exact", "fraction_bits": 17}}, "less than or equal to 16"),
        ({"attack": {"steps": 0}}, "greater than or equal to 1"),
        ({"split": "tset"}, "'test', 'validation' or 'train'"),
    ],
)
def test_a_mistake_is_explained(mistake, message):
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(LEAST | mistake)


def test_settings_need_no_torch():
    program = "import sys, stages.certify.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
