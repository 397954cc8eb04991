"""The files beside the image say what the code and each other say."""

import json
import re
from pathlib import Path

from prometheus_client import Counter
from support import REPOSITORY

from worker.process import metrics

ROOT = REPOSITORY
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_the_dashboard_asks_for_metrics_that_workers_serve() -> None:
    served = {f"{c._name}_total" for c in vars(metrics).values() if isinstance(c, Counter)}
    served |= set(re.findall(r'GaugeMetricFamily\("(\w+)"', Path(metrics.__file__).read_text()))
    path = ROOT / "docker" / "grafana" / "dashboards" / "mtl-batch.json"
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    asked = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    assert set(re.findall(r"mtl_\w+", asked)) == served


def test_prometheus_looks_where_workers_serve() -> None:
    scraped = (ROOT / "docker" / "prometheus.yml").read_text(encoding="utf-8")
    port = re.search(r'MTL_METRICS_PORT: "(\d+)"', COMPOSE)
    assert port is not None
    assert f"port: {port.group(1)}" in scraped


def test_every_variable_of_the_example_is_one_that_compose_reads() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    variables = re.findall(r"^#?((?:MTL|AWS)_\w+)=", example, re.MULTILINE)
    assert len(variables) > 10
    for name in variables:
        assert re.search(rf"\${{{name}\b|^    {name}:$", COMPOSE, re.MULTILINE), name
