"""What a model's certificate says to those who ask for its explanations, and whether it is good enough to be served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from model_store import CorruptBlob, ModelVersion, UnknownBlob

from .errors import ModelUnusable, NoCertificate, NotCertified


def certificate_bytes(version: ModelVersion) -> bytes:
    """The latest certificate of a version, the bytes that its digest is of.

    Raises:
        NoCertificate: it has none.
        ModelUnusable: its bytes are damaged or gone.
    """
    which = f"model {version.name} version {version.version}"
    try:
        data = version.certificate()
    except (CorruptBlob, UnknownBlob) as error:
        why = f"is damaged: {error.problem}" if isinstance(error, CorruptBlob) else "is not in the store"
        raise ModelUnusable(f"{which}: its certificate {version.certificate_digest} {why}") from error
    if data is None:
        raise NoCertificate(f"{which} has no certificate; glasshouse verify makes one")
    return data


def certificate_of(version: ModelVersion) -> Mapping[str, Any] | None:
    """The same read; None where there is none.

    Raises:
        ModelUnusable: it is damaged, or no certificate.
    """
    try:
        found = json.loads(certificate_bytes(version))
    except NoCertificate:
        return None
    except ValueError as error:
        which = f"model {version.name} version {version.version}"
        raise ModelUnusable(f"{which}: its certificate {version.certificate_digest} is no JSON") from error
    return found if isinstance(found, dict) else {}


def require(version: ModelVersion) -> None:
    """Nothing, for a model whose certificate is its own and has passed.

    Raises:
        NotCertified: it has none, or one that says what failed; the message says which.
        ModelUnusable: it is damaged.
    """
    found, which = certificate_of(version), f"model {version.name} version {version.version}"
    if found is None:
        raise NotCertified(f"{which} is not served: it has no certificate, and this server requires one that passed")
    if version.model_digest not in _judged(found, version):
        raise NotCertified(f"{which} is not served: its certificate {version.certificate_digest} is of another file")
    if found.get("passed") is not True:
        failed = "; ".join(map(str, found.get("failures") or ["it does not say that it passed"]))
        raise NotCertified(f"{which} is not served: its certificate {version.certificate_digest} failed: {failed}")


def _judged(found: Mapping[str, Any], version: ModelVersion) -> set[Any]:
    """The files that a certificate is of: the model's own, and the float16 variant that was held against it."""
    own, variant = found.get("model"), found.get("float16")
    if isinstance(variant, Mapping) and own == version.preferring("float32").model_digest:
        return {own, variant.get("model")}
    return {own}


def of_method(found: Mapping[str, Any] | None, version: ModelVersion, method: str) -> dict[str, Any]:
    """What a certificate says of one method: ``passed`` (true, false, or null where nothing was judged), who judged it
    or why nobody could, and the certificate's digest; and of which file, where that is another than the one that runs.
    """
    report = ((found or {}).get("methods") or {}).get(method) or {}
    judge = report.get("judged_by")
    reason = report.get("judge", "not judged: the certificate does not name it" if found else "not judged")
    named = judge["name"] if isinstance(judge, dict) else reason if isinstance(reason, str) else None
    told = {"passed": report.get("passed"), "judge": named, "digest": version.certificate_digest}
    about = (found or {}).get("model", version.model_digest)
    return told if about == version.model_digest else {**told, "model_digest": about}
