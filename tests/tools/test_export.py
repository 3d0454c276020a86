"""The exported network gives the same integers, in a process that cannot import torch."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import StageError, UserError
from stages.data.in_memory import load_split
from stages.data.manifest import read_manifest
from stages.models.linf import numpy_network
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.integer_file import load_integer_network, save_integer_network
from stages.models.linf.quantise import quantise
from stages.models.network_file import load_network
from tools.export import export

WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "safetensors", "stages", "kernels", "pipeline"):
            raise ImportError(f"{name} is not to be had here")
sys.meta_path.insert(0, Refuse())
import json
import numpy as np
import numpy_network
network = numpy_network.NumpyNetwork("small.npz")
images = np.load("images.npy")
names, radii = network.certify(images)
outputs = network.outputs(images).tolist()
print(json.dumps({"outputs": outputs, "names": names, "radii": list(map(str, radii))}))
"""


@pytest.fixture
def integer_dir(prune_stage, tmp_path):
    loaded = load_network(prune_stage())
    folder = tmp_path / "certify"
    folder.mkdir()
    network = quantise(loaded.network, loaded.normalisation, loaded.image_shape, 5)
    save_integer_network(folder, network, loaded)
    return folder


def test_numpy_alone_gives_the_same_integers_and_radii(integer_dir, data_dir, tmp_path) -> None:
    images = load_split(data_dir, read_manifest(data_dir), "test").images
    export(integer_dir, tmp_path / "out" / "small.npz")
    np.save(tmp_path / "out" / "images.npy", images.numpy())
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    loaded = load_integer_network(integer_dir)
    assert answer["outputs"] == loaded.network.outputs_of(images).tolist()
    labels = torch.tensor([loaded.classes.index(name) for name in answer["names"]])
    prover = ExactProver(loaded.network)
    proof = prover.by_margin(images, labels)
    assert torch.equal(proof.predicted, labels)
    for text, half_units in zip(answer["radii"], proof.radius.tolist(), strict=True):
        assert Fraction(text) == Fraction(half_units, prover.ticks_per_pixel)


def test_the_copy_is_a_program_of_its_own(integer_dir, data_dir, tmp_path) -> None:
    export(integer_dir, tmp_path / "small.npz")
    images = load_split(data_dir, read_manifest(data_dir), "test").images[:2]
    np.save(tmp_path / "images.npy", images.numpy())
    done = subprocess.run(
        [sys.executable, "numpy_network.py", "small.npz", "images.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("proved for every change below") == 2


def test_the_reader_is_a_page_of_numpy() -> None:
    lines = Path(numpy_network.__file__).read_text().splitlines()
    assert len(lines) < 85
    imports = [line.split()[1] for line in lines if line.startswith(("import ", "from "))]
    assert {name.partition(".")[0] for name in imports} == {"sys", "fractions", "numpy"}


def test_wrong_images_are_refused(integer_dir, tmp_path) -> None:
    export(integer_dir, tmp_path / "small.npz")
    network = numpy_network.NumpyNetwork(str(tmp_path / "small.npz"))
    with pytest.raises(ValueError, match=r"expected uint8 images \(B, \(1, 6, 6\)\)"):
        network.outputs(np.zeros((2, 6, 6, 1), dtype=np.uint8))


def test_a_folder_without_an_integer_network_is_refused(prune_stage, tmp_path) -> None:
    with pytest.raises(StageError, match=r"int.json: cannot be read .*certifier: .kind: exact"):
        export(prune_stage(), tmp_path / "small.npz")


def test_another_ending_is_refused(integer_dir, tmp_path) -> None:
    with pytest.raises(UserError, match=r"must end in .npz"):
        export(integer_dir, tmp_path / "small.pt")
