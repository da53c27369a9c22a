"""The picture in the README: the first screen of a committed run's report, as Chromium shows it.

python scripts/picture_of_report.py [--run docs/results/peers-width32-vnni] [--out docs/report.png]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from reports.records.store import read_run
from reports.render import render
from reports.summary.summarise import summarise

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = "1360,925"  # pixels
COLOURS = 256  # of the picture: it shows text, lines and their rims


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=ROOT / "docs/results/peers-width32-vnni")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/report.png")
    arguments = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit("no Chromium on this machine; install it: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text(render(summarise(read_run(arguments.run)), "html"), encoding="utf-8")
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}"]
        command = [browser, *options, f"--user-data-dir={folder}/profile", f"--screenshot={arguments.out.resolve()}"]
        subprocess.run([*command, page.as_uri()], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with Image.open(arguments.out) as picture:
        small = picture.convert("RGB").quantize(COLOURS)
    small.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
