"""Adapters on their way from a training to the engine's processes."""

import errno
import json
import os
import shutil
from datetime import timedelta
from uuid import uuid4

import numpy as np
import pytest
from django.utils import timezone
from safetensors.numpy import save

from inference import adapters
from inference.adapter_files import CONFIG, MANIFEST, WEIGHTS, AdapterRefused, verify
from inference.adapters import Confirmation, confirmed, folder_of, publish, wanted
from inference.models import Adapter, AdapterLoad, ChatModelConfig, EngineProcess
from inference.models.adapters import LIVE_SECONDS
from inference.tests.test_adapter_files import PLAIN, tensors
from llmsite.core.errors import DiskFull

pytestmark = pytest.mark.django_db

BASE = {"base_model": "tiny", "base_sha256": "b" * 64}


@pytest.fixture(autouse=True)
def root(tmp_path, settings):
    settings.ADAPTERS_ROOT = tmp_path / "adapters"
    return settings.ADAPTERS_ROOT


def trained(tmp_path, *, value=1.0, name="trained"):
    """What a training leaves."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(PLAIN))
    (folder / WEIGHTS).write_bytes(save({key: array * np.float32(value) for key, array in tensors().items()}))
    return folder


def names_below(root):
    return sorted(path.name for path in root.iterdir())


def test_an_adapter_is_kept_under_the_hash_of_its_content(tmp_path, root):
    folder, run = trained(tmp_path), uuid4()
    adapter = publish(folder, **BASE, run=run)

    assert adapter.name == f"tiny-{adapter.sha256[:12]}"
    assert (adapter.base_model, adapter.base_sha256, adapter.run) == ("tiny", "b" * 64, run)
    verify(folder_of(adapter.name), adapter.sha256, base_sha256="b" * 64)
    assert json.loads((folder_of(adapter.name) / MANIFEST).read_text())["run"] == str(run)
    assert not folder.exists()
    assert names_below(root) == [adapter.name]


def test_only_the_sites_account_reads_it(tmp_path, root):
    place = folder_of(publish(trained(tmp_path), **BASE).name)
    assert [path.stat().st_mode & 0o777 for path in (root, place)] == [0o700] * 2
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}


def test_a_run_has_one_adapter_however_often_it_is_told(tmp_path):
    run = uuid4()
    first = publish(trained(tmp_path), **BASE, run=run)
    again = publish(trained(tmp_path, value=2, name="again"), **BASE, run=run)
    assert (again, Adapter.objects.count()) == (first, 1)


def test_two_runs_with_the_same_result_have_adapters_of_their_own(tmp_path):
    names = {publish(trained(tmp_path, name=str(turn)), **BASE, run=uuid4()).name for turn in range(2)}
    assert len(names) == 2


def test_a_worker_that_ended_in_between_leaves_it_to_the_next(tmp_path, monkeypatch, root):
    run = uuid4()
    with monkeypatch.context() as patch:
        patch.setattr(Adapter.objects, "get_or_create", _dies)
        with pytest.raises(RuntimeError):
            publish(trained(tmp_path), **BASE, run=run)
    assert Adapter.objects.count() == 0

    adapter = publish(trained(tmp_path), **BASE, run=run)
    assert names_below(root) == [adapter.name]


def _dies(**_values):
    raise RuntimeError


def test_what_lies_broken_in_its_place_is_replaced(tmp_path):
    run = uuid4()
    adapter = publish(trained(tmp_path), **BASE, run=run)
    (folder_of(adapter.name) / WEIGHTS).write_bytes(b"broken")
    Adapter.objects.all().delete()
    assert publish(trained(tmp_path), **BASE, run=run).name == adapter.name
    verify(folder_of(adapter.name), adapter.sha256)


def test_one_that_is_refused_leaves_nothing(tmp_path, root):
    folder = trained(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(AdapterRefused):
        publish(folder, **BASE)
    assert not root.exists() or names_below(root) == []
    assert Adapter.objects.count() == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_and_is_told(tmp_path, root, monkeypatch, code):
    def full(*_args, **_options):
        raise OSError(code, os.strerror(code))

    folder = trained(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", full)
        with pytest.raises(DiskFull):
            publish(folder, **BASE)
    assert (names_below(root), Adapter.objects.count()) == ([], 0)

    publish(folder, **BASE)  # The training is not lost by it.


def processes(count, **values):
    return [EngineProcess.objects.create(base_model="tiny", **values) for _ in range(count)]


def tell(process, adapter, state, error=""):
    AdapterLoad.objects.create(process=process, adapter=adapter, state=state, error=error)


@pytest.fixture
def adapter():
    return Adapter.objects.create(name="tiny-1", sha256="a" * 64, **BASE)


def test_it_is_confirmed_once_every_process_has_it(adapter):
    first, second = processes(2)
    assert confirmed(adapter) == Confirmation(ready=0, waiting=2)
    tell(first, adapter, "ready")
    tell(second, adapter, "loading")
    assert confirmed(adapter) == Confirmation(ready=1, waiting=1)
    assert not confirmed(adapter).is_complete
    AdapterLoad.objects.filter(process=second).update(state="ready")
    assert confirmed(adapter).is_complete


def test_it_is_not_confirmed_where_no_process_lives(adapter):
    assert confirmed(adapter) == Confirmation(ready=0, waiting=0)
    assert not confirmed(adapter).is_complete


def test_nobody_waits_for_a_dead_process(adapter):
    [live] = processes(1)
    [dead] = processes(1, seen_at=timezone.now() - timedelta(seconds=LIVE_SECONDS + 1))
    tell(live, adapter, "ready")
    tell(dead, adapter, "loading")
    assert confirmed(adapter).is_complete


@pytest.mark.parametrize("said", ["ready", "failed"])
def test_what_a_dead_process_has_said_does_not_count(adapter, said):
    processes(1)
    [dead] = processes(1, seen_at=timezone.now() - timedelta(seconds=LIVE_SECONDS + 1))
    tell(dead, adapter, said)
    assert confirmed(adapter) == Confirmation(ready=0, waiting=1)


def test_what_failed_is_told_with_its_reason(adapter):
    first, second = processes(2)
    tell(first, adapter, "ready")
    tell(second, adapter, "failed", "Its file is not as it was sealed.")
    told = confirmed(adapter)
    assert (told.ready, told.waiting, told.failed) == (1, 0, ["Its file is not as it was sealed."])
    assert not told.is_complete


def test_another_adapter_is_no_confirmation(adapter):
    [process] = processes(1)
    other = Adapter.objects.create(name="tiny-2", sha256="c" * 64, **BASE)
    tell(process, other, "ready")
    assert confirmed(adapter) == Confirmation(ready=0, waiting=1)


def test_a_copy_that_is_not_whole_is_not_kept(tmp_path, root, monkeypatch):
    copy = shutil.copytree

    def torn(folder, place, **options):
        copy(folder, place, **options)
        (place / WEIGHTS).write_bytes(b"")

    monkeypatch.setattr(adapters.shutil, "copytree", torn)
    with pytest.raises(AdapterRefused):
        publish(trained(tmp_path), **BASE)
    assert (names_below(root), Adapter.objects.exists()) == ([], False)


def test_what_was_withdrawn_is_not_wanted_whoever_names_it(adapter):
    ChatModelConfig.objects.create(alias="m", provider="local", provider_model="tiny", adapter="tiny-1")
    assert [row.name for row in wanted()] == ["tiny-1"]
    Adapter.objects.update(withdrawn_at=timezone.now())
    assert wanted() == []


def test_wanted_is_what_active_local_models_name(adapter):
    row = ChatModelConfig.objects.create(alias="m", provider="local", provider_model="tiny", adapter="tiny-1")
    assert wanted() == [adapter]
    for changes in (
        {"is_active": False},
        {"provider": "openai"},
        {"base_url": "http://gpu:8000"},
        {"adapter": ""},
    ):
        with_changes = ChatModelConfig.objects.filter(pk=row.pk)
        before = with_changes.values(*changes).get()
        with_changes.update(**changes)
        assert wanted() == []
        with_changes.update(**before)


def test_wanted_is_what_upper_apps_ask_for_too(adapter, monkeypatch):
    monkeypatch.setattr(adapters, "_wanting", [])
    adapters.want(lambda: ["tiny-1", "unknown"])
    assert wanted() == [adapter]


# --- What is left over --------------------------------------------------------------------------------


def grow_old(place):
    os.utime(place, (0, 0))


def test_files_whose_row_is_gone_are_swept_a_day_later(tmp_path, root):
    gone, kept = publish(trained(tmp_path), **BASE), publish(trained(tmp_path, value=2.0), **BASE)
    gone.delete()
    assert adapters.sweep() == 0, "it may get its row yet"
    for place in root.iterdir():
        grow_old(place)
    (root / "of-somebody-else").mkdir()
    grow_old(root / "of-somebody-else")

    assert adapters.sweep() == 1

    assert names_below(root) == sorted([kept.name, "of-somebody-else"])
    assert not folder_of(gone.name).exists()


def test_one_that_is_published_again_is_not_swept_before_its_row_is_written(tmp_path, root, monkeypatch):
    first = publish(trained(tmp_path), **BASE)
    first.delete()
    grow_old(folder_of(first.name))
    get_or_create = Adapter.objects.get_or_create

    def sweep_first(**values):
        assert adapters.sweep() == 0
        return get_or_create(**values)

    monkeypatch.setattr(Adapter.objects, "get_or_create", sweep_first)
    again = publish(trained(tmp_path), **BASE)
    verify(folder_of(again.name), again.sha256)
