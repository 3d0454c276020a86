"""A pipeline on the cluster under the eyes of a real Prometheus; every graph shows it."""

import functools
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.monitoring.prometheus import CONFIGS, Prometheus, wait_for

NEEDS_GPU = "supnorm_train_gpu_memory_bytes"

pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs prometheus: apt-get install prometheus"
)


def expressions():
    """Every query of the dashboard, as Grafana would send it for all runs."""
    panels = json.loads((CONFIGS / "dashboard.json").read_text())["panels"]
    for panel in panels:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5s")
            yield text.replace("$run", ".*").replace("$stage", ".*")


@pytest.fixture
def prometheus(desk):
    server = Prometheus(desk.folder)
    yield server
    server.stop()


@pytest.fixture
def node_exporter(desk):
    """Serves the text files that stages have left, as a node_exporter does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            texts = [path.read_text() for path in (desk.folder / "runs/.metrics").glob("*.prom")]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(merged(texts).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def merged(texts):
    """Families of several files, each with one HELP and TYPE."""
    families = {}
    for line in "".join(texts).splitlines():
        if line.startswith("# "):
            families.setdefault(line, [])
            newest = line
        else:
            families[newest].append(line)
    return "\n".join(line for head, lines in families.items() for line in (head, *lines)) + "\n"


@pytest.mark.slow
def test_prometheus_scrapes_a_job_on_two_nodes_and_every_graph_shows_it(
    desk, prometheus, node_exporter
):
    unanswered = {text for text in expressions() if NEEDS_GPU not in text}
    for text in expressions():
        prometheus.get("format_query", query=text)
    desk.write(300, **{"{kind: hinge}": "{kind: mixture}"})  # shows all that has a graph
    desk.command("submit", "tiny.yaml")
    seen = {}

    def ask():
        for text in sorted(unanswered):
            if prometheus.query(text):
                unanswered.discard(text)
        for found in prometheus.query('up{job="supnorm", stage="train"} == 1'):
            seen[found["metric"]["rank"]] = found["metric"]
        return (desk.run_dir / "report/stage.json").exists()

    desk.cluster.wait_for(ask, 240, "the pipeline is done")
    job = desk.job_id("train")
    assert {(rank, labels["node"]) for rank, labels in seen.items()} == {("0", "n1"), ("1", "n2")}
    assert {labels["slurm_job_id"] for labels in seen.values()} == {job}
    targets = desk.folder / "runs/.metrics/targets"
    assert list(targets.iterdir()) == []

    (targets / "node.json").write_text(json.dumps([{"targets": [node_exporter]}]))
    wait_for(lambda: prometheus.query("supnorm_shard_shards_total"), 30, "text files are read")
    ask()
    assert unanswered == set()
    certified = prometheus.query('sum(supnorm_certify_images_total{stage="certify"})')
    assert 0 < int(certified[0]["value"][1]) <= 40  # those of the first of two ranks
    done = prometheus.query('supnorm_stage_state{state="done"} == 1')
    assert {found["metric"]["stage"] for found in done} == {
        "shard",
        "train",
        "prune",
        "certify",
        "certify_pruned",
        "report",
    }


def test_text_files_are_what_promtool_calls_right(desk):
    subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "tiny.yaml", "--stage", "shard"],
        cwd=desk.folder,
        check=True,
    )
    for path in (desk.folder / "runs/.metrics").glob("*.prom"):
        with path.open("rb") as file:
            done = subprocess.run(
                ["promtool", "check", "metrics"],
                stdin=file,
                capture_output=True,
                text=True,
                check=False,
            )
        # It would like a total to be called seconds_total, and the state to have a unit.
        assert done.returncode == 0, done.stdout + done.stderr
