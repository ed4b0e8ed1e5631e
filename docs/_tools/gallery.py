"""Make the reports of the gallery again: ``python docs/_tools/gallery.py``, some minutes on two cores.

Each is the ``report.html`` of one command, listed on ``docs/gallery/index.md``. ``LIGHTNING_NAS_DATA`` must name the
folder of ``nasbench201.npz`` for the second.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

GALLERY = Path(__file__).parents[1] / "gallery"
RUNS = {
    "fbnet": ["strategy=fbnet"],
    "evolution": ["strategy=evolution", "engine=table", "search_space=nasbench201"],
    "darts": ["strategy=darts", "search_space=nasbench201_small", "callbacks=health"],
}


def main() -> None:
    """Run every command in a folder of its own, and keep its report."""
    for name, words in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "lightning_nas.run", *words, "logger=none", f"hydra.run.dir={name}"]
            subprocess.run(command, check=True, cwd=folder)  # noqa: S603 - the words above
            page = Path(folder, name, "report.html").read_text(encoding="utf-8")
            (GALLERY / f"{name}.html").write_text(page.replace(folder, "outputs"), encoding="utf-8")


if __name__ == "__main__":
    main()
