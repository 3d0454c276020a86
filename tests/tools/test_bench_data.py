"""The images a second of each loader, from the command line."""

from tests.stages.train.conftest import tiny_settings, write_shards
from tools import bench_data


def test_the_benchmark_prints_a_rate_for_each_loader(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(bench_data, "SECONDS", 0.05)
    bench_data.print_rates(write_shards(tmp_path), tiny_settings())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fashion_mnist, 6 x 6 x 1, batches of 40:"
    names = [line.strip().split("  ")[0] for line in lines[1:]]
    assert names == ["resident", "streaming", "ImageFolder + DataLoader"]
    assert all("images/s" in line for line in lines[1:])
