"""Coverage-guided fuzzing with atheris, for as long as it is told: python tests/fuzz/long.py guarding 900

What is new is written to tests/fuzz/seeds/TARGET when the run ends; a crash, a hang or growing memory ends it
early, with the input in tests/fuzz/found.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

with atheris.instrument_imports(include=["proxy", "tests.fuzz"]):
    from tests.fuzz.targets import TARGETS, seeds

FOUND = HERE / "found"
KEPT = 150
"""Seeds a target keeps at most; the shortest are kept."""
LONGEST = 4096


def fuzz(target: str, seconds: int, corpus: Path) -> None:
    """Ends the process."""
    words = {word for seed in seeds(target) for word in seed.split() if 2 < len(word) < 20 and word.isalnum()}
    listing = corpus.with_suffix(".dict")
    listing.write_bytes(b"".join(b'"' + word + b'"\n' for word in sorted(words | {b"SELECT"})))
    options = [
        f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000", f"-max_len={LONGEST}",
        f"-dict={listing}", f"-artifact_prefix={FOUND}/{target}-", "-print_final_stats=1", "-reload=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[target])
    atheris.Fuzz()


def main(target: str, seconds: int) -> int:
    FOUND.mkdir(exist_ok=True)
    corpus = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for seed in seeds(target):
        (corpus / sha256(seed).hexdigest()[:20]).write_bytes(seed)
    known = {path.name for path in corpus.iterdir()}
    # libFuzzer ends its process without ceremony.
    ended = subprocess.run([sys.executable, __file__, target, str(seconds), str(corpus)])
    keep(target, corpus, known)
    return ended.returncode


def keep(target: str, corpus: Path, known: set[str]) -> None:
    """Keep new inputs as seeds, the shortest first."""
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    new = sorted((path for path in corpus.iterdir() if path.name not in known), key=_size)
    room = max(0, KEPT - len(list(folder.iterdir())))
    for path in new[:room]:
        data = path.read_bytes()
        (folder / sha256(data).hexdigest()[:20]).write_bytes(data)
    print(f"{target}: {len(new)} new inputs, {min(len(new), room)} kept")


def _size(path: Path) -> int:
    return path.stat().st_size


if __name__ == "__main__":
    if len(sys.argv) > 3:
        fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
