"""Several processes on torch: `DistributedDataParallel` and a loop.

Two processes train as one does, but for rounding, and their state is equal to the bit,
though each has its own half of every batch, and other labels are missing in it.

Two numbers are predicted by a network that shares a layer, and every second label of
one of them is missing in the first half of each batch. Two processes take a half of
each batch. FAMO weighs the losses and MGDA balances the gradients, both by numbers of
the whole batch: the counts of labels, the mean losses and the Gramian are summed over
the processes. The same steps are then taken by one process.

The first process writes a checkpoint after half of the steps, and all of them read it.

    KERAS_BACKEND=torch python examples/several_processes_torch.py
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import lossweigh as lw

PROCESSES, ROWS = 2, 32


def build_training():
    """A model of two outputs, the same in each process."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8,), name="x")
    hidden = layers.Dense(16, activation="tanh")(x)
    outputs = {name: layers.Dense(1, name=name)(hidden) for name in ("small", "large")}
    training = lw.build_training_model(
        keras.Model(x, outputs),
        {"small": lw.BranchLoss("mse", missing="nan"), "large": "mse"},
        weighter=lw.FAMO(),
        balancer=lw.MGDA(),
    )
    training.compile(keras.optimizers.Adam(0.01))
    return training


def draw_batches(number, seed=0):
    """Whole batches of the training model's inputs: x and the targets."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        x = random.normal(size=(ROWS, 8)).astype("float32")
        small = np.sin(x[:, :1])
        large = 10 * x[:, 1:2] * small
        small[: ROWS // 2 : 2] = np.nan
        yield {"x": x, "small_target": small, "large_target": large}


def step(model, training, batch):
    """One step of a loop: the model is a training model, or DDP around it."""
    import torch

    training.zero_grad()
    loss = model(batch, training=True)["weighted_loss"].mean()
    loss.backward()  # DistributedDataParallel averages the gradients
    variables = training.trainable_variables
    with torch.no_grad():
        gradients = [variable.value.grad for variable in variables]
        training.optimizer.apply(gradients, variables)


def train(rank, folder, number, processes=PROCESSES):
    """What each process runs; it writes its numbers into the folder."""
    import torch

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes
    )
    training = build_training()
    model = torch.nn.parallel.DistributedDataParallel(training)
    mine = slice(ROWS // processes * rank, ROWS // processes * (rank + 1))
    checkpoint = folder / "checkpoint.keras"
    for index, batch in enumerate(draw_batches(number)):
        if index == number // 2:  # as after a break: written by one, read by all
            if rank == 0:
                training.save(checkpoint)
            torch.distributed.barrier()
            training = keras.models.load_model(checkpoint)
            model = torch.nn.parallel.DistributedDataParallel(training)
        part = {name: torch.as_tensor(rows[mine]) for name, rows in batch.items()}
        step(model, training, part)
    np.savez(folder / f"process_{rank}.npz", *training.get_weights())
    torch.distributed.destroy_process_group()


def main(arguments=None):
    """Trains both ways; returns the largest differences of their weights."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="a tenth of the steps")
    options = parser.parse_args(arguments)
    number = 20 if options.short else 200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.multiprocessing.spawn(train, (folder, number), nprocs=PROCESSES)
        ranks = []
        for rank in range(PROCESSES):
            with np.load(folder / f"process_{rank}.npz") as arrays:
                ranks.append([arrays[key] for key in arrays.files])
    training = build_training()
    for batch in draw_batches(number):
        tensors = {name: torch.as_tensor(rows) for name, rows in batch.items()}
        step(training, training, tensors)

    def apart(one, other):
        pairs = zip(one, other, strict=True)
        return max(float(np.abs(a - b).max()) for a, b in pairs)

    from_one, from_each_other = apart(ranks[0], training.get_weights()), apart(*ranks)
    weights = {name: round(weight, 3) for name, weight in training.balance.items()}
    print(f"weights of the gradients: {weights}")
    print(f"After {number} steps {PROCESSES} processes differ from one by at most")
    print(f"{from_one:.0e}, and from each other by {from_each_other:.0e}.")
    return from_one, from_each_other


if __name__ == "__main__":
    main()
