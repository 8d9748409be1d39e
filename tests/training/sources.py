"""The five kinds of data that `fit` takes, made from the same arrays."""

import keras
import tensorflow as tf
import torch
from nets import BATCH, ROWS


def rows_of(data, rows):
    """Some rows of `(x, y)` or `(x, y, weights)`."""
    return tuple(
        keras.tree.map_structure(lambda array: array[rows], part) for part in data
    )


def batches(data):
    """The batches of an epoch, the last a partial one."""
    for start in range(0, ROWS, BATCH):
        yield rows_of(data, slice(start, start + BATCH))


def endless(data):
    while True:
        yield from batches(data)


class Batches(keras.utils.PyDataset):
    def __init__(self, data):
        super().__init__()
        self.batches = list(batches(data))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class Rows(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return rows_of(self.data, index)


# Each gives the data and what else `fit` and `evaluate` must be told.
SOURCES = {
    "tf.data": lambda data: tf.data.Dataset.from_tensor_slices(data).batch(BATCH),
    "PyDataset": Batches,
    "generator": endless,
    "DataLoader": lambda data: torch.utils.data.DataLoader(Rows(data), BATCH),
}
STEPS = {"generator": -(-ROWS // BATCH)}  # only an endless source needs to be told
