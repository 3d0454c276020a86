"""What the three files say, against figures counted here from the rows."""

import csv
import itertools
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.errors import StageError
from pipeline.spec.load import load_spec
from stages.data.records import RECORDS_FILE, Record
from stages.report.svg import THEME_CSS

MakeReport = Callable[..., Path]

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7*7 }} `|` [a](b) </svg>"


class Page(HTMLParser):
    """The tags, attributes and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(report_dir: Path) -> Page:
    page = Page((report_dir / "index.html").read_text())
    assert page.open == []
    return page


def json_of(report_dir: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (report_dir / "report.json").read_text()
    report: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return report


def rows_of(report_dir: Path) -> list[dict[str, str]]:
    with (report_dir.parent / "certify" / RECORDS_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def floored(count: int, total: int) -> str:
    return f"{math.floor(Fraction(10_000 * count, total)) / 100:.2f}"


def test_every_headline_figure_is_a_count_of_rows(report_dir: Path) -> None:
    rows = rows_of(report_dir)
    counts = {
        "clean": sum(row["label"] == row["predicted"] for row in rows),
        "attacked": sum(row["attacked_correct"] == "true" for row in rows),
        "certified": sum(row["certified"] == "true" for row in rows),
    }
    text, markdown = page_of(report_dir).text, (report_dir / "report.md").read_text()
    result = json_of(report_dir)["networks"][0]["result"]
    for name, count in counts.items():
        assert result[name]["count"] == count
        assert result[name]["accuracy"] == count / len(rows)
        assert f"{name.title()} {floored(count, len(rows))} %" in text
    ours = " ".join(floored(count, len(rows)) for count in counts.values())
    assert f"This run, train: distance_mlp {ours}" in text
    assert ours.replace(" ", "** | **") in markdown
    assert f"**{counts['certified']}** are classified right" in markdown
    num_pgd = sum(row["pgd_correct"] == "true" for row in rows)
    assert result["pgd"]["count"] == num_pgd > counts["attacked"]
    assert f"plain PGD leaves {floored(num_pgd, len(rows))}" in text
    assert f"plain PGD alone {floored(num_pgd, len(rows))} %" in markdown


def test_the_grid_is_counted_from_the_radii(report_dir: Path) -> None:
    rows = rows_of(report_dir)
    text = page_of(report_dir).text
    result = json_of(report_dir)["networks"][0]["result"]
    for point in result["grid"][1:]:
        eps = Fraction(point["eps"])
        count = sum(Fraction(row["exact_radius"]) > eps for row in rows)
        assert point["certified"]["count"] == count
        assert f"{point['eps']} {float(eps):.4g} {count} {floored(count, len(rows))}" in text
    fine = {Fraction(point["eps"]): point["certified"]["count"] for point in result["curve"]}
    for eps, count in list(fine.items())[1:]:
        assert count == sum(Fraction(row["exact_radius"]) > eps for row in rows)


def test_each_class_is_counted_from_its_rows(report_dir: Path) -> None:
    rows = rows_of(report_dir)
    text = page_of(report_dir).text
    report = json_of(report_dir)
    for label, name in enumerate(report["data"]["classes"]):
        own = [row for row in rows if row["label"] == str(label)]
        proved = sum(row["certified"] == "true" for row in own)
        assert re.search(rf"{name} {len(own)} [\d.]+ [\d.]+ {floored(proved, len(own))}", text)


def test_the_published_row_stands_beside_ours(report_dir: Path) -> None:
    for text in (page_of(report_dir).text, (report_dir / "report.md").read_text()):
        assert "-distance net + MLP" in text
        assert "79.23" in text
        assert "arXiv:2102.05363" in text


def test_where_nothing_was_published_the_report_says_so(
    make_report: MakeReport, tmp_path: Path
) -> None:
    report_dir = make_report(tmp_path, eps=Fraction(1, 11), grid=(Fraction(1, 11),))
    for text in (page_of(report_dir).text, (report_dir / "report.md").read_text()):
        assert "exactly" in text
        assert "on file" in text
        assert "arXiv" not in text


def test_the_gallery_shows_the_extremes(report_dir: Path) -> None:
    rows = {row["key"]: row for row in rows_of(report_dir)}
    furthest, just, wrong = json_of(report_dir)["networks"][0]["gallery"]
    proved = sorted(
        (float(row["radius"]), key) for key, row in rows.items() if row["certified"] == "true"
    )
    assert [p["key"] for p in furthest["pictures"]] == [key for _, key in proved[::-1][:8]]
    assert [p["key"] for p in just["pictures"]] == [key for _, key in proved[:8]]
    lost = sorted(
        (float(row["margin"]), key) for key, row in rows.items() if row["predicted"] != row["label"]
    )
    assert [p["key"] for p in wrong["pictures"]] == [key for _, key in lost[:8]]
    assert len(page_of(report_dir).all("img")) == 24


def test_nothing_is_asked_of_the_network(report_dir: Path) -> None:
    page = page_of(report_dir)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.tags
    }
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "srcset", "action", "data", "poster"):
                assert value.startswith("data:image/png;base64,")
            if name == "href":
                assert value.startswith("#")
            elif name not in ("xmlns", "src"):
                assert "//" not in value
    html = (report_dir / "index.html").read_text()
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_every_id_is_there_once_and_every_reference_finds_its_id(report_dir: Path) -> None:
    page = page_of(report_dir)
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    html = (report_dir / "index.html").read_text()
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    used |= {name for tag in page.all("svg") for name in tag["aria-labelledby"].split()}
    assert used <= set(ids)


def test_a_reader_who_cannot_see_is_told(report_dir: Path) -> None:
    page = page_of(report_dir)
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("svg")) == len(page.all("title")) - 1 == 3
    assert all(region["aria-label"] for region in page.all("div") if "tabindex" in region)


def test_the_plots_are_files_of_their_own_that_name_no_colour(report_dir: Path) -> None:
    theme = set(re.findall(r"(--[\w-]+):", (report_dir / "index.html").read_text()))
    plots = sorted(report_dir.glob("*.svg"))
    assert [plot.name for plot in plots] == [
        "certify-curve.svg",
        "certify-radii.svg",
        "certify-training.svg",
    ]
    markdown = (report_dir / "report.md").read_text()
    for plot in plots:
        drawing = ElementTree.fromstring(plot.read_text())
        assert drawing.find(".//{*}text") is not None
        drawn = plot.read_text().split("</style>")[1]
        assert not re.search(r"#[0-9a-f]{6}\b(?!-)", drawn)
        assert set(re.findall(r"var\((--[\w-]+)\)", drawn)) <= theme
        assert f"]({plot.name})" in markdown


def test_equal_artifacts_give_equal_bytes(make_report: MakeReport, tmp_path: Path) -> None:
    first, second = make_report(tmp_path / "a"), make_report(tmp_path / "b")
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_hostile_names_stay_words(make_report: MakeReport, tmp_path: Path) -> None:
    classes = (HOSTILE, *"bcdefghij")
    report_dir = make_report(
        tmp_path, settings={"title": HOSTILE}, classes=classes, source=f"{HOSTILE}\n```\n# x"
    )
    page = page_of(report_dir)
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(image["src"].startswith("data:image/png") for image in page.all("img"))
    assert HOSTILE in page.text
    markdown = (report_dir / "report.md").read_text()
    outside = re.sub(r"^(`{3,})\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"(?<!\\)<|(?<!\\)`\\?\|", outside.replace("`index.html`", ""))
    assert json_of(report_dir)["data"]["classes"][0] == HOSTILE


def test_the_spec_beside_the_page_is_the_run_itself(report_dir: Path) -> None:
    spec = load_spec(report_dir / "quickstart.yaml")
    assert spec.name == "quickstart"
    recorded = {stage["stage"]: stage for stage in json_of(report_dir)["stages"]}
    assert {stage.name for stage in spec.stages} == {*recorded, "report"}
    for name, record in recorded.items():
        stage = spec.stage(name)
        assert stage.kind == record["kind"]
        assert stage.settings.model_dump(mode="json", exclude={"inputs"}) == record["settings"]
    assert (report_dir / "quickstart.yaml").read_text() in (report_dir / "report.md").read_text()


def test_the_colours_can_be_read_in_light_and_in_dark() -> None:
    light, dark = THEME_CSS.read_text().split("@media")
    for scheme in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", scheme))
        for role in ("ink", "muted", "certified", "attacked", "clean", "training"):
            for ground in ("paper", "shade"):
                least = 4.5 if ground == "paper" and role != "clean" else 3
                assert contrast(colours[role], colours[ground]) >= least, (role, ground)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        levels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_the_stage_needs_no_torch() -> None:
    program = "import sys, stages.report.run; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("num_validations", [None, 1, 2])
def test_a_short_history_or_none_is_no_fault(
    make_report: MakeReport, tmp_path: Path, num_validations: int | None
) -> None:
    report_dir = make_report(tmp_path, num_validations=num_validations)
    has_figure = (report_dir / "certify-training.svg").exists()
    assert has_figure == (num_validations is not None)
    assert ("without a training history" in page_of(report_dir).text) != has_figure


def lost(index: int, is_correct: bool) -> Record:
    return Record(
        key=f"test-{index:06d}",
        label=index % 10,
        predicted=index % 10 if is_correct else (index + 1) % 10,
        margin=0.01 if is_correct else math.nan,
        radius=0,
        certified=False,
        attacked_correct=is_correct,
        method="none",
        seconds=0.1,
        exact_radius=Fraction(0),
        pgd_correct=is_correct,
        image_sha256="d" * 64,
    )


@pytest.mark.parametrize("is_correct", [True, False])
def test_a_network_that_proves_nothing_has_a_report(
    make_report: MakeReport, tmp_path: Path, is_correct: bool
) -> None:
    records = tuple(lost(index, is_correct) for index in range(20))
    report_dir = make_report(tmp_path, num_images=20, records=records)
    assert "Certified 0.00 %" in page_of(report_dir).text
    gallery = json_of(report_dir)["networks"][0]["gallery"]
    assert [row["title"] for row in gallery] == ([] if is_correct else ["Misclassified"])


def test_colour_images_one_grid_point_and_no_gallery(
    make_report: MakeReport, tmp_path: Path
) -> None:
    eps = Fraction(8, 255)
    shared = {"dataset": "cifar10", "image_shape": (32, 32, 3), "eps": eps, "grid": (eps,)}
    report_dir = make_report(tmp_path / "shown", **shared)
    page = page_of(report_dir)
    assert "CIFAR-10, certified at eps 8/255" in page.text
    assert page.all("img")[0]["width"] == "32"
    bare_dir = make_report(tmp_path / "bare", settings={"gallery_size": 0}, **shared)
    assert not page_of(bare_dir).all("img")


def test_a_summary_that_its_rows_do_not_add_up_to_is_refused(
    make_report: MakeReport, tmp_path: Path
) -> None:
    def damage(folder: Path) -> None:
        path = folder / "certify" / "summary.json"
        summary = json.loads(path.read_text())
        summary["num_clean_correct"] += 1
        path.write_text(json.dumps(summary))

    with pytest.raises(StageError, match="adds up to"):
        make_report(tmp_path, spoil=damage)


def test_a_missing_row_is_named(make_report: MakeReport, tmp_path: Path) -> None:
    records = tuple(lost(index, is_correct=True) for index in range(19))
    with pytest.raises(StageError, match="test-000019"):
        make_report(tmp_path, num_images=20, records=records)


def test_a_damaged_shard_is_named(make_report: MakeReport, tmp_path: Path) -> None:
    def damage(folder: Path) -> None:
        path = folder / "shard" / "test-000000.tar"
        content = bytearray(path.read_bytes())
        content[2000] ^= 1
        path.write_bytes(content)

    with pytest.raises(StageError, match=r"test-000000\.tar"):
        make_report(tmp_path, spoil=damage)
