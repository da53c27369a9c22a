"""What an actor holds, without Ray around it."""

import os

import pytest

from bench.cluster.host import Host, Raised, raised, versions


@pytest.fixture
def host(monkeypatch) -> Host:
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # the streams are those of the tests
    return Host()


def test_it_makes_an_object_and_calls_its_methods(host):
    assert host.make("bench.cluster.places:Node", "k", "n", 1, 2) is None
    assert host.call("__eq__", object()) is NotImplemented
    assert "name='n'" in host.call("__repr__")


def test_what_is_raised_is_a_value(host):
    assert host.make("bench.cluster.places:Node") == Raised("TypeError", host.make("bench.cluster.places:Node").reason)
    assert host.make("json:loads", "{") == Raised("JSONDecodeError", host.make("json:loads", "{").reason)
    assert host.call("nothing") == Raised("AttributeError", "'NoneType' object has no attribute 'nothing'")
    assert raised(ValueError("in\n  two lines")) == Raised("ValueError", "in two lines")
    assert raised(PermissionError(13, "Permission denied", "Muster")) == Raised("PermissionError", "Permission denied")
    assert raised(ValueError()) == Raised("ValueError", "ValueError")


def test_versions_of_what_must_be_equal():
    assert set(versions()) == {"python", "torch", "voxbench"}
    assert versions()["torch"].startswith("2.")
