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
from PIL.PngImagePlugin import PngInfo

from reports.charts.ranking import ranking_chart
from reports.records.store import read_run
from reports.render import render
from reports.summary.answer import answer
from reports.summary.summarise import summarise
from reports.summary.summary import Summary

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "docs/results/peers-width32-vnni"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = "1360,925"  # pixels
COLOURS = 256  # of the picture: it shows text, lines and their rims


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=RUN)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/report.png")
    arguments = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit("no Chromium on this machine; install it: apt-get install chromium")
    summary = summarise(read_run(arguments.run))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text(render(summary, "html"), encoding="utf-8")
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}"]
        command = [browser, *options, f"--user-data-dir={folder}/profile", f"--screenshot={arguments.out.resolve()}"]
        subprocess.run([*command, page.as_uri()], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with Image.open(arguments.out) as picture:
        small = picture.convert("RGB").quantize(COLOURS)
    held = PngInfo()
    held.add_itxt("Description", description(summary))
    small.save(arguments.out, optimize=True, pnginfo=held)


def description(summary: Summary) -> str:
    """What the picture says, in words that it holds: by these a test knows whether it is that of today's report."""
    said, chart = answer(summary), ranking_chart(summary)
    figures = [f"{each.label}: {each.value}, {each.detail}" for each in said.figures]
    parts = [summary.headline, *figures, said.worst_case, said.cases, said.machine, *summary.warnings]
    return "\n".join([*parts, chart.text] if chart else parts)


if __name__ == "__main__":
    main()
