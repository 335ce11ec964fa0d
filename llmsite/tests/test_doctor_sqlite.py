"""`manage.py doctor` in front of a file of SQLite: what is wrong with it, and that it stays as it is."""

import os
import sqlite3

import pytest
from django.db import ConnectionHandler, connection

from llmsite.doctor import machine, sqlite_file


@pytest.fixture
def file(tmp_path):
    return tmp_path / "site?%20.sqlite3"


@pytest.fixture
def look(file, monkeypatch):
    """The findings about the database in `file`, in a site whose database that is."""
    values = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file), "OPTIONS": OPTIONS}
    own = ConnectionHandler({"default": values})["default"]
    own.inc_thread_sharing()
    monkeypatch.setattr(machine, "connection", own)
    yield lambda: list(machine.look_at_database())
    own.close()


OPTIONS = {"init_command": "PRAGMA journal_mode=WAL;"}


def fill(file, *, rows=2000):
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE people (name TEXT)")
        database.executemany("INSERT INTO people VALUES (?)", [(f"{at:0100}",) for at in range(rows)])
    database.close()


def names(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.fixture
def reach(django_db_blocker):
    """These databases are no test's, and nothing of them has to be rolled back."""
    with django_db_blocker.unblock():
        yield


pytestmark = pytest.mark.usefixtures("reach")


def test_a_whole_one_answers_and_stays_as_it_is(look, file, tmp_path):
    fill(file)
    before = file.read_bytes()

    [found] = look()
    machine.connection.close()

    assert found.state == "ok"
    assert "SQLite" in found.text
    assert file.read_bytes() == before
    assert names(tmp_path) == [file.name]


def test_where_there_is_none_none_is_made(look, tmp_path):
    [found] = look()

    assert (found.state, found.text) == ("failed", f"There is no database yet: {tmp_path}/site?%20.sqlite3.")
    assert found.todo == "Run: python manage.py migrate"
    assert names(tmp_path) == []


def test_an_empty_file_is_none_either_and_stays_empty(look, file, tmp_path):
    file.touch()

    [found] = look()

    assert found.text.startswith("There is no database yet")
    assert file.read_bytes() == b""
    assert names(tmp_path) == [file.name]


def test_a_folder_that_is_not_there(look, file, monkeypatch):
    os.rmdir(file.parent)

    [found] = look()

    assert (found.state, found.text) == ("failed", f"There is no folder {file.parent} for the database.")
    assert "DATABASE_URL" in found.todo
    assert not file.parent.exists()


@pytest.mark.parametrize("closed", ["the folder", "the file", "its log"])
def test_what_cannot_be_written(look, file, monkeypatch, closed):
    fill(file)
    log = file.with_name(f"{file.name}-wal")
    log.touch()
    place = {"the folder": file.parent, "the file": file, "its log": log}[closed]
    monkeypatch.setattr(os, "access", lambda path, mode: path != place)

    [found] = look()

    assert (found.state, found.text) == ("failed", f"SQLite cannot write to {place}.")
    assert found.todo.startswith(f"Let the site's user write to {file} and its folder")


@pytest.mark.parametrize("at", ["head", "middle"])
def test_a_damaged_one(look, file, at):
    fill(file)
    with file.open("r+b") as damaged:
        damaged.seek({"head": 0, "middle": 3 * 4096}[at])
        damaged.write(b"\xa5" * 4096)
    before = file.read_bytes()

    [found] = look()

    assert (found.state, found.text) == ("failed", f"The database is damaged: {file}.")
    assert found.todo.startswith("Restore a backup")
    assert "manage.py restore" in found.todo
    assert file.read_bytes() == before


def test_a_large_one_is_read_for_a_while_only(look, file, monkeypatch):
    fill(file)
    monkeypatch.setattr(sqlite_file, "SECONDS", 0)
    monkeypatch.setattr(sqlite_file, "STEPS", 1)

    [found] = look()

    assert found.state == "ok"


def test_one_in_memory_has_no_file():
    assert list(sqlite_file.look_at_file("file:memorydb_default?mode=memory&cache=shared")) == []
    assert list(sqlite_file.look_at_file(":memory:")) == []


def test_the_database_of_these_tests_is_not_taken_for_one():
    [found, *_] = machine.look_at_database()
    assert found.text.startswith(connection.display_name)
