"""Clusters that cannot be joined, each in one line."""

import sys

import pytest

from bench.cluster.connection import connected
from bench.errors import InputError


def test_without_the_package_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'^--ray: takes Ray, which is not installed; .*pip install "\.\[ray\]"$'):
        connected("auto").__enter__()


def test_rays_client_is_refused():
    with pytest.raises(InputError, match=r"^--ray ray://head:10001: Ray's client is not used; call bench on a machine"):
        connected("ray://head:10001").__enter__()


def test_an_address_that_is_none():
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    with pytest.raises(InputError, match=r"^--ray nonsense: no cluster that can be joined \(.*\); start one with `ray"):
        connected("nonsense").__enter__()


def test_an_address_at_which_nobody_listens():
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    with pytest.raises(InputError, match=r"^--ray 127\.0\.0\.1:1: nobody listens at .*:1 \(Connection refused\)"):
        connected("127.0.0.1:1").__enter__()
