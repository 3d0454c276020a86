"""What a Prometheus finds while a rank runs, and what is left when it has ended."""

import json
import socket
import urllib.request

import pytest

from pipeline.monitor.exporter import HOST_VARIABLE, Watched, exporting
from pipeline.monitor.metrics import Metrics
from pipeline.ranks import Ranks
from stages.train import metrics as train

WATCHED = Watched("toy", "train", Ranks(1, 2, 1, 2), num_attempts=3)
FIRST = Watched("toy", "train", Ranks())


def scraped(target):
    with urllib.request.urlopen(f"http://{target}/metrics") as answer:
        return answer.read().decode()


def values(text):
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return dict(line.rsplit(" ", 1) for line in lines)


def test_each_rank_is_a_target_while_it_runs_and_none_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    path = tmp_path / ".metrics/targets/toy.train.1.json"
    metrics = Metrics()
    with exporting(metrics, WATCHED, tmp_path):
        (found,) = json.loads(path.read_text())
        assert found["labels"] == {
            "run": "toy",
            "stage": "train",
            "rank": "1",
            "node": "n2",
            "slurm_job_id": "17",
        }
        metrics.add(train.IMAGES, 512)
        shown = values(scraped(found["targets"][0]))
        assert found["targets"][0].startswith("127.0.0.1:")
        assert shown["supnorm_train_images_total"] == "512.0"
        assert shown["supnorm_stage_ranks"] == "2.0"
        assert shown["supnorm_stage_resumes_total"] == "2.0"
        assert shown['supnorm_stage_state{state="running"}'] == "1.0"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_first_rank_leaves_its_last_values_with_all_labels(tmp_path):
    metrics = Metrics()
    with exporting(metrics, FIRST, tmp_path):
        metrics.observe(train.STEP_SECONDS, 0.03)
    text = (tmp_path / ".metrics/toy.train.prom").read_text()
    found = {key: value for key, value in values(text).items() if 'stage="train"' in key}
    assert len(found) == len(values(text))
    state = next(value for key, value in found.items() if 'state="done"' in key)
    count = next(value for key, value in found.items() if "step_seconds_count" in key)
    assert (state, count) == ("1.0", "1.0")


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt, "stopped"), (ValueError, "failed")]
)
def test_the_time_of_the_last_success_outlives_a_failure(tmp_path, error, state):
    def last():
        found = values((tmp_path / ".metrics/toy.train.prom").read_text())
        return {
            key.partition("{")[0]: value
            for key, value in found.items()
            if "last_success" in key or f'state="{state}"' in key
        }

    with exporting(Metrics(), FIRST, tmp_path):
        pass
    success = last()
    with pytest.raises(error), exporting(Metrics(), FIRST, tmp_path):
        raise error
    assert last() == {**success, "supnorm_stage_state": "1.0"}
    assert float(success["supnorm_stage_last_success_timestamp_seconds"]) > 1.7e9


def test_a_stage_goes_on_where_nothing_can_be_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(HOST_VARIABLE, "203.0.113.1")
    (tmp_path / ".metrics").write_text("a file where a folder is needed")
    with exporting(Metrics(), FIRST, tmp_path):
        pass
    said = capfd.readouterr().err
    assert "metrics: cannot listen on 203.0.113.1" in said
    assert "toy.train.prom" in said


def test_ranks_of_one_machine_listen_on_ports_of_their_own(tmp_path):
    ranks = [Watched("toy", "train", Ranks(rank, 2, rank, 2)) for rank in range(2)]
    with (
        exporting(Metrics(), ranks[0], tmp_path),
        exporting(Metrics(), ranks[1], tmp_path),
    ):
        files = sorted((tmp_path / ".metrics/targets").iterdir())
        hosts = {json.loads(path.read_text())[0]["targets"][0] for path in files}
        assert len(hosts) == 2
        for host in hosts:
            with socket.create_connection(host.split(":")):
                pass
