"""The shipped configuration of Prometheus, judged by promtool itself."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring.catalogue import catalogue

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs/monitoring"
ALERTS = Path(__file__).with_name("alerts.yml")

pytestmark = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool: apt-get install prometheus"
)


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_right():
    promtool("check", "config", CONFIGS / "prometheus.yml")


def test_each_alert_fires_where_it_should_and_not_where_all_is_well():
    promtool("test", "rules", ALERTS)


def test_no_alert_goes_without_its_test():
    groups = yaml.safe_load((CONFIGS / "rules.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    cases = [
        case
        for test in yaml.safe_load(ALERTS.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts


def test_rules_and_dashboard_speak_of_metrics_that_exist():
    text = (CONFIGS / "rules.yml").read_text() + (CONFIGS / "dashboard.json").read_text()
    known = {metric.name for metric in catalogue()}
    known |= {f"supnorm_train_step_seconds_{end}" for end in ("bucket", "sum", "count")}
    words = set(re.findall(r"supnorm_[a-z_]+", text))
    assert words - known - {"supnorm_series", "supnorm_alerts"} == set()


def test_every_panel_shows_something_else():
    panels = json.loads((CONFIGS / "dashboard.json").read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) == len(set(expressions))
    assert len({panel["id"] for panel in panels}) == len(panels)
