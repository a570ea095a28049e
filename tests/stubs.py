"""Make the committed stubs from the .proto files, or say where they have drifted."""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

from grpc_tools import protoc

PROTO: Final = Path("proto")


def generate(out: Path) -> None:
    """Write all stubs below ``out``."""
    bundled = str(resources.files("grpc_tools") / "_proto")
    scripts = Path(sys.executable).parent
    files = sorted(str(path) for path in PROTO.rglob("*.proto"))
    code = protoc.main(
        ["protoc", f"-I{PROTO}", f"-I{bundled}", f"--python_out={out}", f"--grpc_python_out={out}",
         f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
         f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
         f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}", *files]
    )  # fmt: skip
    if code != 0:
        raise SystemExit(f"protoc failed with {code}")


def main() -> int:
    """Write the stubs with ``--write``; otherwise compare them, and exit 1 on a difference."""
    if "--write" in sys.argv:
        generate(PROTO)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.relative_to(folder): path for path in Path(folder).rglob("*_pb2*")}
        stale = [
            str(PROTO / name)
            for name, path in sorted(fresh.items())
            if not (PROTO / name).exists() or (PROTO / name).read_bytes() != path.read_bytes()
        ]
    for name in stale:
        sys.stderr.write(f"{name} has drifted from its .proto; run 'make proto'\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
