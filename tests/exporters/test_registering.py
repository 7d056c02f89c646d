"""Registering can require a certificate that has passed."""

import pytest

import exporters
from model_store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_certified_model_is_registered(store, exported, evidence, engine, small):
    certified = exporters.certify(exported, evidence, engine, network=small.network)
    version = exporters.register(store, certified, require_certificate=True)
    assert version.certificate() == certified.files()["certificate"]


def test_without_a_certificate_nothing_is(store, exported):
    with pytest.raises(exporters.CertificateFailed, match="'small' has no certificate"):
        exporters.register(store, exported, require_certificate=True)
    assert store.models() == []
    assert exporters.register(store, exported).version == 1, "unless one is required"


def test_what_failed_is_said(store, exported):
    wrong = exported.but(certificate={"passed": False, "failures": ["parity: off by 2", "lime: wrong"]})
    with pytest.raises(exporters.CertificateFailed, match="not registered: parity: off by 2; lime: wrong"):
        exporters.register(store, wrong, require_certificate=True)
    assert store.models() == []
