"""The engine's process and the database: what is wanted there is answered here, on a tiny real model."""

import shutil

import pytest
from django.db import OperationalError

from inference import adapters
from inference.adapter_files import WEIGHTS
from inference.adapter_service import AdapterService
from inference.adapters import confirmed, folder_of, publish
from inference.engine import adapter_host
from inference.engine.base_model import base_model
from inference.engine.load import load
from inference.models import AdapterLoad, ChatModelConfig, EngineProcess
from inference.tests.engine.serving import serving_model
from inference.tests.engine.test_scheduler import wait_until
from inference.tests.tiny import make_adapter, make_model, written_by_peft

QUESTION = "What is the capital of France?"
OPTIONS = {"max_tokens": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Two adapters of the tiny model, as trainings leave them."""
    root = tmp_path_factory.mktemp("trained")
    return [make_adapter(root / str(seed), folder, seed=seed) for seed in (1, 2)]


@pytest.fixture
def root(tmp_path, settings):
    settings.ADAPTERS_ROOT = tmp_path / "adapters"
    return tmp_path


@pytest.fixture
def published(db, folder, trained, root):
    base = base_model(str(folder), root)
    rows = []
    for number, one in enumerate(trained):
        copy = shutil.copytree(one, root / f"trained-{number}")
        rows.append(publish(copy, base_model=base.name, base_sha256=base.sha256))
    return rows


@pytest.fixture
def row(db):
    return ChatModelConfig.objects.create(alias="tiny", provider="local", provider_model="tiny")


def give(row, adapter):
    ChatModelConfig.objects.filter(pk=row.pk).update(adapter=adapter.name if adapter else "")


class Driven(AdapterService):
    """Its rounds are made by the test, in the test's transaction, and not by a thread."""

    def start(self):
        pass

    def settled(self):
        """Look until nothing is being loaded."""
        self.look()
        wait_until(lambda: all(told.state != "loading" for told in self.host.told().values()))
        self.look()


@pytest.fixture
def service(db, folder, root):
    model = load(path=str(folder), device="cpu", models_root=root)
    made = Driven(model, path=str(folder), models_root=root)
    with serving_model(model, made) as served:
        made.served = served
        yield made


def test_what_a_model_names_is_answered_as_peft_would(folder, trained, published, row, service):
    give(row, published[0])
    service.settled()

    prompt = service.served.send("POST", "/tokenize", {"messages": [{"role": "user", "content": QUESTION}]})[
        1
    ]
    written = written_by_peft(folder, trained[0], prompt["tokens"], tokens=12)
    answer = service.served.text(QUESTION, model=published[0].name, **OPTIONS)
    assert answer == service.served.model.tokenizer.decode(written)
    assert answer != service.served.text(QUESTION, **OPTIONS)


def test_it_is_told_how_each_adapter_is_and_that_the_process_lives(published, row, service):
    service.look()
    assert EngineProcess.objects.live().count() == 1
    assert confirmed(published[0]).waiting == 1

    give(row, published[0])
    service.settled()
    assert confirmed(published[0]).is_complete
    assert AdapterLoad.objects.get().state == "ready"


def test_the_next_one_is_loaded_beside_the_one_that_answers(published, row, service, monkeypatch):
    monkeypatch.setattr(adapters, "_wanting", [lambda: [published[1].name]])
    give(row, published[0])
    service.settled()
    answers = {service.served.text(QUESTION, model=one.name, **OPTIONS) for one in published}
    assert len(answers) == 2
    assert confirmed(published[0]).is_complete
    assert confirmed(published[1]).is_complete


def test_what_nobody_names_any_more_goes(published, row, service, monkeypatch):
    monkeypatch.setattr(adapter_host, "LINGER_SECONDS", 0.0)
    give(row, published[0])
    service.settled()
    give(row, None)
    for _ in range(3):
        service.look()
    assert AdapterLoad.objects.count() == 0
    assert service.served.chat(QUESTION, model=published[0].name)[0] == 404


def test_a_changed_byte_is_refused_and_told_and_the_rest_goes_on(
    published, row, service, monkeypatch, capsys
):
    monkeypatch.setattr(adapters, "_wanting", [lambda: [published[1].name]])
    weights = folder_of(published[0].name) / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    give(row, published[0])
    service.settled()

    told = confirmed(published[0])
    assert (told.ready, told.failed) == (0, [f"Its file {WEIGHTS} is not as it was sealed."])
    assert service.served.chat(QUESTION, model=published[0].name)[0] == 503
    assert service.served.chat(QUESTION, model=published[1].name, **OPTIONS)[0] == 200
    assert service.served.chat(QUESTION, **OPTIONS)[0] == 200


def test_an_adapter_of_other_weights_is_refused(trained, row, service, root):
    copy = shutil.copytree(trained[0], root / "trained")
    adapter = publish(copy, base_model="tiny", base_sha256="c" * 64)
    give(row, adapter)
    service.settled()
    [reason] = confirmed(adapter).failed
    assert "other weights" in reason


def test_a_lost_folder_is_told(published, row, service, root):
    shutil.rmtree(root / "adapters")
    give(row, published[0])
    service.settled()
    [reason] = confirmed(published[0]).failed
    assert "missing" in reason


def test_a_process_whose_row_was_lost_tells_everything_again(published, row, service):
    give(row, published[0])
    service.settled()
    EngineProcess.objects.all().delete()
    service._report._beat_at = float("-inf")
    service.look()
    assert confirmed(published[0]).is_complete


def test_a_round_in_which_nothing_changes_costs_two_queries(
    published, row, service, django_assert_num_queries, monkeypatch
):
    monkeypatch.setattr(adapters, "_wanting", [])
    monkeypatch.setattr(adapters, "_after_report", [])
    give(row, published[0])
    service.settled()
    with django_assert_num_queries(2):
        service.look()


def test_upper_apps_act_on_what_was_told(published, row, service, monkeypatch):
    seen = []
    monkeypatch.setattr(adapters, "_after_report", [lambda: seen.append(confirmed(published[0]).ready)])
    give(row, published[0])
    service.settled()
    assert seen[-1] == 1


@pytest.mark.django_db(transaction=True)
def test_the_thread_looks_by_itself_and_says_when_it_ends(published, row, folder, root):
    model = load(path=str(folder), device="cpu", models_root=root)
    service = AdapterService(model, path=str(folder), models_root=root)
    with serving_model(model, service) as served:
        wait_until(lambda: EngineProcess.objects.live().exists())
        give(row, published[0])
        wait_until(lambda: confirmed(published[0]).is_complete)
        assert served.chat(QUESTION, model=published[0].name, **OPTIONS)[0] == 200
    assert not EngineProcess.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_is_loaded_goes_on_while_the_database_is_away(published, row, folder, root, monkeypatch, caplog):
    monkeypatch.setattr("inference.adapter_service.LOOK_SECONDS", 0.05)
    model = load(path=str(folder), device="cpu", models_root=root)
    service = AdapterService(model, path=str(folder), models_root=root)
    give(row, published[0])
    rounds = []

    def away():
        rounds.append(1)
        raise OperationalError("the server has gone")

    with serving_model(model, service) as served:
        wait_until(lambda: confirmed(published[0]).is_complete)
        with monkeypatch.context() as patch:
            patch.setattr("inference.adapter_service.wanted", away)
            wait_until(lambda: len(rounds) > 2)
            assert served.chat(QUESTION, model=published[0].name, **OPTIONS)[0] == 200
        give(row, published[1])
        wait_until(lambda: confirmed(published[1]).is_complete)
    told = [record for record in caplog.records if "adapters_not_looked_after" in record.getMessage()]
    assert [(record.levelname, record.exc_info) for record in told] == [("WARNING", None)]
