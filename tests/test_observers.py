"""Prometheus over HTTP as a scraper sees it; Weights & Biases without its servers."""

import math
import socket
import sys
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloob_jax import observers
from cloob_jax.errors import UserError
from cloob_jax.observers import Wishes
from cloob_jax.pulse import Pulse


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def scrape(port):
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for f in families for sample in f.samples}


def test_prometheus_scrapes_the_last_values(tmp_path):
    port, pulse = free_port(), Pulse()
    [observer] = observers.build(Wishes(str(port)), tmp_path, {}, pulse)
    try:
        observer.write(1, {"train/loss": 9.0})
        observer.write(2, {"train/loss": 2.5, "val/x-zeroshot-val-top1": math.nan})
        pulse.begin_step(7, np.zeros(0, np.int64))
        found = scrape(port)
    finally:
        observer.close()
    assert found["cloob_jax_train_loss"] == 2.5 and found["cloob_jax_step"] == 7
    assert math.isnan(found["cloob_jax_val_x_zeroshot_val_top1"])
    assert 0 <= found["cloob_jax_silent_seconds"] < 60
    with pytest.raises(OSError):
        scrape(port)


def test_only_this_machine_is_served_unless_asked_for(tmp_path):
    for where, host in (("{}", "127.0.0.1"), ("0.0.0.0:{}", "0.0.0.0")):
        wishes = Wishes(where.format(free_port()))
        [observer] = observers.build(wishes, tmp_path, {}, Pulse())
        assert observer._server.server_address[0] == host
        observer.close()


@pytest.mark.parametrize("where", ["", "0", "http", "1.5", "host:", "70000", "-1"])
def test_what_is_no_port_is_named(tmp_path, where):
    with pytest.raises(UserError, match=f"--metrics_port={where}: expected PORT"):
        observers.build(Wishes(where), tmp_path, {}, Pulse())


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with pytest.raises(UserError, match=f"--metrics_port={port}: .* in use"):
            observers.build(Wishes(port), tmp_path, {}, Pulse())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_wandb_keeps_a_run_offline_and_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    names = []
    for _ in range(2):
        wishes = Wishes(wandb="team/project")
        [observer] = observers.build(wishes, tmp_path, {"seed": 3}, Pulse())
        observer.write(10, {"train/loss": 2.5, "bad": math.nan})
        assert dict(observer._run.config) == {"seed": 3}
        assert (observer._run.entity, observer._run.project) == ("team", "project")
        names.append(observer._run.id)
        observer.close()
    assert names[0] == names[1] == (tmp_path / "wandb_id").read_text()
    logs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert logs and any(b"train/loss" in log.read_bytes() for log in logs)


def test_without_wandb_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"--wandb needs the extra wandb; pip install"):
        observers.build(Wishes(wandb="project"), tmp_path, {}, Pulse())


def test_nobody_is_told_who_was_not_asked_for(tmp_path):
    assert observers.build(Wishes(), tmp_path, {}, Pulse()) == []
