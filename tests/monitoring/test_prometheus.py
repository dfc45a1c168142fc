"""deploy/: the alert rules and the dashboard, tried with promtool and with a Prometheus that scrapes us."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from cleo_email.monitoring.metrics import PREFIX
from tests.support.channel import ROOT, Channel, Rig
from tests.support.mails import PASSWORD
from tests.support.ports import free_port
from tests.support.web import MAIL

RULES = ROOT / "deploy/prometheus-rules.yml"
DASHBOARD = ROOT / "deploy/grafana-dashboard.json"
TOKEN = "prometheus-token-of-the-test"
NAME = re.compile(rf"{PREFIX}\w+")
needs_promtool = pytest.mark.servers("promtool", "prometheus")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_rule_fires_on_what_it_is_for_and_never_where_all_is_well(tmp_path: Path) -> None:
    promtool("check", "rules", str(RULES))
    cases = Path(__file__).with_name("rules_test.yml").read_text("utf-8")
    tried = tmp_path / "rules_test.yml"
    tried.write_text(cases.replace("- RULES", f"- {RULES}"))
    promtool("test", "rules", str(tried))
    names = set(re.findall(r"- alert: (\w+)", RULES.read_text("utf-8")))
    assert names == set(re.findall(r"alertname: (\w+)", cases))


class Prometheus:
    """Scrapes a channel every second, with our rules."""

    def __init__(self, channel: Channel, directory: Path) -> None:
        self._channel, self._port = channel, free_port()
        directory.mkdir()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": "cleo-email",
                    "authorization": {"credentials": TOKEN},
                    "static_configs": [{"targets": [f"127.0.0.1:{channel.port}"]}],
                }
            ],
        }
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(config))  # which is YAML, too
        promtool("check", "config", str(file))
        self._argv = [
            *(str(shutil.which("prometheus")), f"--config.file={file}"),
            *(f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{self._port}"),
        ]

    def __enter__(self) -> Prometheus:
        self._process = subprocess.Popen(
            self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return None
            raise AssertionError(f"{query}: {error.read().decode()}") from None
        except OSError:
            return None  # it is starting

    def value(self, expression: str) -> list[dict[str, Any]]:
        found = self.ask("query", query=expression)
        return found["result"] if found else []


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m")


UNSET = [f"max without (instance) ({PREFIX}redis_memory_limit_bytes > 0)"]  # the Redis of the tests has none


def without_value(prometheus: Prometheus) -> list[str]:
    return [one for one in expressions() if not prometheus.value(one)]


@needs_promtool
def test_a_prometheus_reads_us_and_every_expression_of_the_dashboard_has_a_value(
    tmp_path: Path, redis_url: str
) -> None:
    env = {"CLEO_API_TOKEN": TOKEN, "EMAIL_PASSWORD": PASSWORD}
    shown = {"Authorization": f"Bearer {TOKEN}"}
    with Rig(tmp_path / "rig", redis_url, polls=False, env=env) as rig:
        rig.start_web()
        rig.start_worker()
        # A mail server that is there, so that there is a last poll to show.
        with Redis.from_url(redis_url) as redis, Prometheus(rig, tmp_path / "prometheus") as prometheus:
            redis.hset("cleo:pulse", "polled", 1_795_000_000_000)
            rig.wait(lambda: prometheus.value(f"{PREFIX}workers > 0"), 60)
            for number in range(3):
                assert rig.post({**MAIL, "message_id": f"<{number}@example.test>"})[0] == 202
            rig.wait(lambda: prometheus.value(f'{PREFIX}messages_total{{state="replied"}} == 3'), 60)
            rig.wait(lambda: without_value(prometheus) == UNSET, 60)
            exposed = {name for name in prometheus.ask("label/__name__/values") if name.startswith(PREFIX)}
            status, text, _ = rig.call("GET", "/metrics", headers=shown)
            assert status == 200
            assert exposed >= set(re.findall(rf"^({PREFIX}\w+)", text, re.MULTILINE))
            used = set()
            for expression in (*expressions(), *re.findall(r"expr: (.*)", RULES.read_text("utf-8"))):
                found = prometheus.ask("query", query=expression)
                assert found is not None, expression
                used |= set(NAME.findall(expression))
            assert used <= exposed
            assert prometheus.value("up")[0]["value"][1] == "1"
            assert prometheus.ask("rules")["groups"][0]["rules"][0]["health"] in ("ok", "unknown")


def test_every_metric_of_the_rules_and_of_the_dashboard_is_on_the_page() -> None:
    page = (ROOT / "docs/operation.md").read_text("utf-8")
    used = set(NAME.findall(RULES.read_text("utf-8") + " ".join(expressions())))
    assert {name for name in used if name.removesuffix("_bucket") not in page} == set()
