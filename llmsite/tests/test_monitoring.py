"""What deploy/ gives Prometheus and Grafana can be read, and asks for nothing that the site does not tell."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from django.conf import settings
from prometheus_client import REGISTRY

from llmsite.metrics import gauges

DEPLOY = Path(settings.BASE_DIR) / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/llmsite.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
SCRAPES = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())

RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{f"alert {rule['alert']}": rule["expr"] for rule in RULES},
    **{
        f"panel {panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
    },
}
OF_PROMETHEUS = {"up", "le", "job", "instance"}


@pytest.fixture
async def told(monkeypatch, settings, transactional_db):
    """The names of all samples, and of all labels, that a scrape can have."""
    settings.MODEL_URL = "http://127.0.0.1:9"
    read = await gauges.Gauges(kept_seconds=0).read()
    kept = [one for one in REGISTRY.collect() if one.name.startswith("llmsite_")]
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
    names = {metric.name + end for metric in (*kept, *read) for end in ends.get(metric.type, ("",))}
    labels = {
        label for collector in REGISTRY._collector_to_names for label in getattr(collector, "_labelnames", ())
    }
    labels |= {label for metric in read for label in getattr(metric, "_labelnames", ())}
    labels |= {label for metric in read for sample in metric.samples for label in sample.labels}
    return names, labels


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_each_expression_is_promql(where):
    promql_parser.parse(EXPRESSIONS[where].replace("$__rate_interval", "1m"))


def test_what_is_no_promql_is_refused():
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("sum by (le (rate(up[1m]))")


async def test_each_metric_that_is_asked_for_is_told(told):
    names, _ = told
    asked = {
        name for text in EXPRESSIONS.values() for name in re.findall(r"\bllmsite_[a-z0-9_]+(?!\w|\.)", text)
    }
    patterns = re.findall(r'__name__=~"([^"]+)"', "\n".join(EXPRESSIONS.values()))

    assert len(asked) > 20
    assert asked - names == set()
    assert patterns
    for pattern in patterns:
        assert [name for name in names if re.fullmatch(pattern, name)], pattern


async def test_each_metric_that_is_told_is_shown_or_watched(told):
    """So that a new one is not forgotten."""
    names, _ = told
    texts = "\n".join(EXPRESSIONS.values())
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("llmsite_")}
    unseen = {name for name in families if name not in texts and not name.startswith("llmsite_cost_")}

    assert unseen == set()


async def test_each_label_that_is_asked_for_is_told(told):
    _, labels = told
    asked = set()
    for text in EXPRESSIONS.values():
        for inner in re.findall(r"by \(([^)]*)\)", text):
            asked |= {name.strip() for name in inner.split(",")}
        asked |= set(re.findall(r'[{,](\w+)(?:=~|!=|!~|=)"', text))
    for panel in PANELS:
        for target in panel["targets"]:
            asked |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    for rule in RULES:
        asked |= set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))

    assert asked - labels - OF_PROMETHEUS - {"__name__"} == set()


def test_each_alert_says_what_to_do():
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 10
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_prometheus_asks_where_the_site_tells():
    [job] = [one for one in SCRAPES["scrape_configs"] if one["job_name"] == "llmsite"]
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
    assert SCRAPES["rule_files"] == ["/etc/prometheus/alerts.yml"]


def test_grafana_finds_its_data_and_its_dashboard():
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/llmsite.yml").read_text())
    providers = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/llmsite.yml").read_text())

    [source] = sources["datasources"]
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {source["uid"]}
    assert providers["providers"][0]["options"]["path"] == "/var/lib/grafana/dashboards"


def test_no_panel_lies_on_another():
    places = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
