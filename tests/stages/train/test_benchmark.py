from stages.train import benchmark


def test_the_benchmark_prints_a_rate_for_each_loader(data_dir, tiny, capsys, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.05)
    benchmark.print_rates(data_dir, tiny())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fashion_mnist, 6 x 6 x 1, batches of 40:"
    names = [line.strip().split("  ")[0] for line in lines[1:]]
    assert names == ["resident", "streaming", "ImageFolder + DataLoader"]
    assert all("images/s" in line for line in lines[1:])
