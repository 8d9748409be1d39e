"""Weightings on twelve assays of toxicity (Tox21), by `lossweigh.compare`.

    pip install rdkit
    KERAS_BACKEND=torch python benchmarks/compare_tox21.py --jobs 2

17% of the labels are missing. What the network sees are fingerprints of 1,024 bits
(ECFP4). The metric is the area under the ROC curve of each assay, over its labels.
"""

import csv
import gzip

import comparing
import data_files
import keras
import numpy as np
from keras import layers
from sklearn.metrics import roc_auc_score

import lossweigh as lw

BITS, UNITS, BATCH, EPOCHS, MISSING = 1024, 128, 64, 6, -1


def read(path):
    """Fingerprints, and labels by assay: 1, 0, or -1 where there is none."""
    try:
        from rdkit import Chem, RDLogger
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError:
        raise SystemExit("This benchmark needs rdkit: pip install rdkit") from None
    RDLogger.DisableLog("rdApp.*")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS)
    fingerprints, labels = [], []
    with gzip.open(data_files.need(path, data_files.ABOUT_TOX21), "rt") as file:
        rows = csv.DictReader(file)
        assays = [n for n in rows.fieldnames or () if n not in ("mol_id", "smiles")]
        for row in rows:
            molecule = Chem.MolFromSmiles(row["smiles"])
            if molecule is None:
                continue
            fingerprints.append(generator.GetFingerprintAsNumPy(molecule))
            labels.append([float(row[a]) if row[a] else MISSING for a in assays])
    names = [assay.lower().replace("-", "_") for assay in assays]
    return np.array(fingerprints, "float32"), dict(
        zip(names, np.array(labels).T, strict=True)
    )


def load(path, number):
    x, labels = read(path)
    order = np.random.default_rng(0).permutation(len(x))[:number]
    cuts = [round(0.6 * len(order)), round(0.8 * len(order))]
    parts = zip(["train", "validation", "test"], np.split(order, cuts), strict=True)
    return {
        part: (x[rows], {n: y[rows, None].astype("int8") for n, y in labels.items()})
        for part, rows in parts
    }


def auc(y_true, y_pred):
    """Of the molecules that have a label."""
    labelled = y_true.ravel() != MISSING
    return roc_auc_score(y_true.ravel()[labelled], y_pred.ravel()[labelled])


def experiments(options):
    data = load(options.data or data_files.TOX21, 2000 if options.short else None)
    assays = list(data["train"][1])

    def build():
        x = keras.Input((BITS,), name="fingerprint")
        hidden = layers.Dense(UNITS, activation="relu")(layers.Dropout(0.2)(x))
        hidden = layers.Dense(UNITS, activation="relu")(layers.Dropout(0.5)(hidden))
        # All heads as the columns of one layer: the same network, quicker.
        heads = layers.Dense(len(assays), activation="sigmoid")(hidden)
        outputs = {name: heads[:, k : k + 1] for k, name in enumerate(assays)}
        losses = {
            name: lw.BranchLoss("binary_crossentropy", missing=MISSING)
            for name in assays
        }
        return keras.Model(x, outputs), losses

    metric = dict.fromkeys(assays, (auc, "max"))
    yield comparing.Experiment("tox21", build, data, metric, EPOCHS, BATCH)


if __name__ == "__main__":
    comparing.main(experiments, comparing.arguments(__doc__))
