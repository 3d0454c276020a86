import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from tools.fetch import fetch

FASHION_MNIST = Path(__file__).parents[2] / "data" / "fashion_mnist"


def test_another_data_set_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"minst: no such data set; choose one of .*mnist"):
        fetch("minst", tmp_path)


def test_the_fetched_fashion_mnist_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    if not FASHION_MNIST.is_dir():
        pytest.skip("needs data/fashion_mnist: make setup")
    fetch("fashion_mnist", FASHION_MNIST)
    assert "already in" in capsys.readouterr().out


def test_importing_the_command_loads_no_torch() -> None:
    program = "import sys, tools.fetch; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
