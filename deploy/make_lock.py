"""Write the hashed locks of the container image: exact versions and the SHA-256 of every wheel it may install.

The wheels are resolved within constraints.txt, downloaded and hashed here, so a lock says nothing of where they came
from. One lock for what the image runs, one for what builds its wheel; both for CPython 3.11 on x86-64 and AArch64.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MACHINES = ("x86_64", "aarch64")
# Bookworm has glibc 2.36; a wheel for any older one runs there too.
GLIBC = [f"manylinux_2_{minor}" for minor in range(36, 16, -1)] + ["manylinux2014"]
HEADER = "# Made by `make lock` from pyproject.toml and constraints.txt; do not edit.\n"


def download(requirements: list[str], machine: str, folder: Path) -> None:
    """Fetch the wheels of the requirements, and of all that they need, for one kind of machine."""
    platforms = [f"--platform={tag}_{machine}" for tag in GLIBC]
    abis = ["--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none"]
    constraint = f"--constraint={ROOT / 'constraints.txt'}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", f"--dest={folder}"]
    subprocess.run([*command, constraint, *platforms, *abis, *requirements], check=True)  # noqa: S603 - own arguments


def lock(requirements: list[str]) -> str:
    """The lines of a lock for these requirements."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for machine in MACHINES:
        with tempfile.TemporaryDirectory() as folder:
            download(requirements, machine, Path(folder))
            for wheel in Path(folder).glob("*.whl"):
                name, version, *_ = wheel.name.split("-")
                pinned = f"{re.sub('[-_.]+', '-', name).lower()}=={version}"
                hashes[pinned].add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    blocks = [
        " \\\n".join([name, *(f"    --hash=sha256:{digest}" for digest in sorted(hashes[name]))])
        for name in sorted(hashes)
    ]
    return HEADER + "\n".join(blocks) + "\n"


def main() -> None:
    """Write both locks beside this file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    serving = project["project"]["dependencies"] + extras["cpu"] + extras["otel"]
    for name, requirements in {"serving": serving, "build": project["build-system"]["requires"]}.items():
        target = ROOT / "deploy" / f"requirements-{name}.lock"
        target.write_text(lock(requirements))
        print(f"{target.relative_to(ROOT)}: {target.read_text().count('==')} packages")


if __name__ == "__main__":
    main()
