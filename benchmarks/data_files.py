"""Data that the benchmarks need and pip doesn't bring: where it is, or what to get."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "shared" / "data"
CELLS = FOLDER / "bccd_wbc_96x128.npz"
MULTI_TARGET = FOLDER / "multi_target"

ABOUT_CELLS = """\
It holds photographs of blood with one white cell each, as NumPy arrays:
  x    (339, 96, 128, 3) uint8    the images
  box  (339, 4) float             x1, y1, x2, y2 of the cell, each in 0..1
  y    (339,) int                 its type, 0 to 3
The images and boxes are those of the repository Shenggan/BCCD_Dataset (MIT) that show
exactly one white cell, scaled to 96 x 128; the types are those of apple2373/BCCD."""

ABOUT_MULTI_TARGET = """\
They are the ARFF files of the repository tsoumakas/mulan, whose last columns are the
targets (rows, columns, targets):
  enb.arff    768,  10,  2
  jura.arff   359,  18,  3
  wq.arff    1060,  30, 14
  atp1d.arff  337, 417,  6"""


def need(path, about):
    """Ends the script in words if a file isn't there; returns its path."""
    if not path.is_file():
        raise SystemExit(
            f"This benchmark needs the file {path.name}, which isn't at\n  {path}\n"
            f"{about}\nSay where it is with --data."
        )
    return path
