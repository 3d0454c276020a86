"""Any picture, from the command line and from code."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from stages.data.records import read_records
from stages.models.linf.integer_file import load_integer_network
from tools.certify_image import certify_image, certify_picture


@pytest.fixture
def certified(any_world, tools):
    """The folder of a certify stage, with the images beside it as PNG files."""
    folder = any_world.certify(tools.settings_for())
    for index, image in enumerate(any_world.images.numpy()):
        Image.fromarray(image[0]).save(folder.parent / f"{index}.png")
    return folder


def test_a_picture_has_the_class_and_radius_of_its_row(certified, any_world):
    loaded = load_integer_network(certified)
    num_right = 0
    for row, image in zip(
        read_records(certified / "records.csv"), any_world.images.numpy(), strict=True
    ):
        proof = certify_picture(loaded, image.transpose(1, 2, 0))
        assert proof.image_sha256 == row.image_sha256
        if row.is_correct:
            num_right += 1
            assert proof.predicted == row.label and proof.radius >= row.exact_radius
            assert proof.margin == pytest.approx(row.margin)
        else:
            assert proof.predicted != row.label and proof.radius > 0
    assert num_right > 20


def test_what_is_printed(certified, capsys):
    paths = [certified.parent / f"{index}.png" for index in (0, 1)]
    certify_image(paths, certified, certified)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"network {certified}, of prototypes, ")
    assert rest[0].startswith(f"{paths[0]}: ") and "(class " in rest[0]
    assert "proved below radius" in rest[1] and "grey levels" in rest[1]
    assert sum(line.startswith("  network sha256 ") for line in rest) == 2


def test_the_only_network_under_runs_is_the_default(certified, tmp_path, capsys):
    runs = tmp_path / "runs"
    (runs / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="no exact network under"):
        certify_image([certified.parent / "0.png"], None, runs)
    (runs / "mine" / "certify").symlink_to(certified)
    certify_image([certified.parent / "0.png"], None, runs)
    assert f"network {runs / 'mine' / 'certify'}" in capsys.readouterr().out
    (runs / "mine" / "certify_pruned").symlink_to(certified)
    certify_image([certified.parent / "0.png"], None, runs)
    assert f"network {runs / 'mine' / 'certify'}," in capsys.readouterr().out
    (runs / "yours").mkdir()
    (runs / "yours" / "certify").symlink_to(certified)
    with pytest.raises(UserError, match=r"several networks .*mine.*yours.*--network"):
        certify_image([certified.parent / "0.png"], None, runs)


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [
        ((5, 4), "L", "5 x 4 pixels in mode L; .* takes 4 x 4 pixels in mode L"),
        ((4, 4), "RGB", "in mode RGB"),
        ((4, 4), "LA", "in mode LA"),
        ((4, 4), "1", "in mode 1;"),
        ((4, 4), "I;16", "in mode I;16"),
    ],
)
def test_a_picture_that_does_not_fit_is_refused_and_nothing_printed(
    certified, tmp_path, capsys, size, mode, message
):
    path = tmp_path / "odd.png"
    Image.new(mode, size).save(path)
    capsys.readouterr()
    with pytest.raises(UserError, match=message):
        certify_image([certified.parent / "0.png", path], certified, certified)
    assert capsys.readouterr().out == ""


def test_a_jpeg_is_read_as_it_is_decoded(certified, tmp_path, any_world):
    path = tmp_path / "picture.jpg"
    Image.fromarray(any_world.images[0, 0].numpy()).save(path)
    loaded = load_integer_network(certified)
    decoded = np.array(Image.open(path))[:, :, None]
    certify_image([path], certified, certified)
    assert certify_picture(loaded, decoded).radius >= 0


def test_files_that_are_no_pictures_are_named(certified, tmp_path):
    path = tmp_path / "words.png"
    path.write_text("no picture")
    for wrong, message in ((path, "is no picture"), (tmp_path / "none.png", "cannot be read")):
        with pytest.raises(UserError, match=message):
            certify_image([wrong], certified, certified)


def test_arrays_of_another_shape_or_type_are_refused(certified):
    loaded = load_integer_network(certified)
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.float32)):
        with pytest.raises(UserError, match="takes uint8"):
            certify_picture(loaded, image)


def test_two_classes_equally_near_prove_nothing(certified):
    loaded = load_integer_network(certified)
    proof = certify_picture(loaded, np.zeros((4, 4, 1), np.uint8))
    assert (proof.radius == 0) == (proof.method == "none")
    assert isinstance(proof.radius, Fraction)


def command(*arguments):
    words = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_command_line_certifies_and_audits(world, tools):
    folder = world.certify(tools.settings_for())
    path = folder.parent / "0.png"
    Image.fromarray(world.images[0, 0].numpy()).save(path)
    done = command("certify-image", path, "--network", folder)
    assert done.returncode == 0 and "proved below radius" in done.stdout
    done = command("audit", folder / "records.csv", "--sample", 5)
    assert done.returncode == 0 and "every row stands" in done.stdout
    done = command("certify-image", folder.parent / "none.png", "--network", folder)
    assert done.returncode == 2 and "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
