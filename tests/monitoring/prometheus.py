"""A real Prometheus that reads the shipped configuration and watches a folder of runs."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[2] / "configs/monitoring"


class Prometheus:
    """Watches `<folder>/runs`; looks once a second, or tests would take long."""

    def __init__(self, folder: Path) -> None:
        configs = folder / "configs/monitoring"
        shutil.copytree(CONFIGS, configs)
        config = configs / "prometheus.yml"
        config.write_text(config.read_text().replace(": 5s", ": 1s"))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self._output = (folder / "prometheus.out").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
        wait_for(self._is_ready, 30, "Prometheus is ready")

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The vector that an expression is, now or at a time."""
        when = {} if at is None else {"time": str(at)}
        found: list[dict[str, Any]] = self.get("query", query=expression, **when)["result"]
        return found

    def get(self, what: str, **parameters: str) -> Any:
        """The data of an answer; an expression that is wrong raises, with what Prometheus says."""
        words = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{what}?{words}") as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._output.close()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def wait_for(is_so: Callable[[], object], timeout_s: float, what: str) -> None:
    """Return once something is so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        time.sleep(0.1)
