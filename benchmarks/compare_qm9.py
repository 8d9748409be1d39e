"""Weightings on 11 properties of molecules (QM9), by `lossweigh.compare`.

    pip install qm9pack
    KERAS_BACKEND=torch python benchmarks/compare_qm9.py --jobs 2

10,000 drawn molecules; what the network sees are the counts of the elements and the
sorted Coulomb matrix. Run twice: with standardised targets, `qm9`, and with the targets
in their units, `qm9_raw`, whose scales differ by 10^4. The metric is the root mean
squared error of each property.
"""

import ast
import csv
import functools
import itertools

import comparing
import data_files
import keras
import numpy as np
from keras import layers

TARGETS = {
    "dipole": "Dipole_debye",
    "polarizability": "Polarizability_bohr3",
    "homo": "HOMO_au",
    "lumo": "LUMO_au",
    "gap": "HOMO_LUMO_gap_au",
    "r2": "R2_bohr2",
    "zpve": "ZPVE_au",
    "energy": "InternalEnergy_0K_au",
    "enthalpy": "Enthalphy_298K_au",
    "free_energy": "GibbsFreeEnergy_298K_au",
    "heat_capacity": "Heatcapacity_Cv_cal_mol_K",
}
CHARGES = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
MOLECULES, ATOMS, UNITS, BATCH, EPOCHS = 10_000, 29, 128, 128, 12


def read(folder, number):
    """Features and targets of some molecules, drawn from all."""
    files = [folder / f"qm9_part{part}.csv" for part in (1, 2, 3)]
    for path in files:
        data_files.need(path, data_files.ABOUT_QM9)
    csv.field_size_limit(10**7)
    total = sum(1 for path in files for _ in path.open(encoding="utf-8")) - len(files)
    chosen = np.zeros(total, bool)
    chosen[np.random.default_rng(0).permutation(total)[:number]] = True
    molecules = itertools.chain.from_iterable(
        csv.DictReader(path.open(encoding="utf-8")) for path in files
    )
    features, targets = [], []
    for molecule in itertools.compress(molecules, chosen):
        charges = np.array([CHARGES[e] for e in ast.literal_eval(molecule["Elements"])])
        positions = np.array(ast.literal_eval(molecule["XYZ_Ang"]))
        features.append(describe(charges, positions))
        targets.append([float(molecule[column]) for column in TARGETS.values()])
    return np.array(features), np.array(targets)


def describe(charges, positions):
    """Counts of the elements, and the upper half of the sorted Coulomb matrix."""
    counts = [(charges == charge).sum() for charge in CHARGES.values()]
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distances, 1.0)
    small = np.outer(charges, charges) / distances
    np.fill_diagonal(small, 0.5 * charges**2.4)
    order = np.argsort(-np.linalg.norm(small, axis=1))
    matrix = np.zeros((ATOMS, ATOMS))
    matrix[: len(order), : len(order)] = small[np.ix_(order, order)]
    return np.concatenate([counts, matrix[np.triu_indices(ATOMS)]])


def load(folder, number):
    """The parts in the targets' units, with standardised features."""
    features, targets = read(folder, number)
    cuts = [round(0.6 * number), round(0.8 * number)]
    features = standardised(features, cuts[0])
    return zip(
        ["train", "validation", "test"],
        np.split(features.astype("float32"), cuts),
        np.split(targets, cuts),
        strict=True,
    )


def standardised(values, number):
    """By the mean and the spread of the first rows."""
    spread = values[:number].std(0)
    return (values - values[:number].mean(0)) / np.where(spread > 0, spread, 1)


def named(y):
    columns = y.astype("float32").T[..., None]
    return dict(zip(TARGETS, columns, strict=True))


def build(num_features):
    x = keras.Input((num_features,), name="molecule")
    hidden = x
    for _ in range(2):
        hidden = layers.Dense(UNITS, activation="relu")(hidden)
    # All linear heads as the columns of one layer: the same network, quicker.
    heads = layers.Dense(len(TARGETS))(hidden)
    outputs = {name: heads[:, k : k + 1] for k, name in enumerate(TARGETS)}
    return keras.Model(x, outputs), dict.fromkeys(TARGETS, "mse")


def experiments(options):
    folder = options.data or data_files.installed("qm9pack", "data")
    parts = list(load(folder, 500 if options.short else MOLECULES))
    known = parts[0][2]
    mean, spread = known.mean(0), known.std(0)
    for name in ("qm9", "qm9_raw"):
        if options.only and name not in options.only:
            continue
        scale = (mean, spread) if name == "qm9" else (0.0, 1.0)
        yield comparing.Experiment(
            name,
            functools.partial(build, parts[0][1].shape[1]),
            {part: (x, named((y - scale[0]) / scale[1])) for part, x, y in parts},
            dict.fromkeys(TARGETS, "root_mean_squared_error"),
            EPOCHS,
            BATCH,
        )


if __name__ == "__main__":
    comparing.main(experiments, comparing.arguments(__doc__))
