"""Which weighter should be the default? Box and class on real images, by seed.

Trains the network of `examples/localise_and_classify.py` on its digit scenes, and on
photographs if --data names an archive of them, with each candidate and with fixed
weights. Reports the mean intersection over union of the boxes and the accuracy of the
classes on held-out images, and the worse of the two errors (1 - IoU, 1 - accuracy)
relative to equal weights' of the same seed.

    python benchmarks/default_weighter.py --data photographs.npz --json results.json
"""

import argparse
import importlib.util
import json
import time
from pathlib import Path

import keras
import numpy as np

import lossweigh as lw

EXAMPLE = Path(__file__).parents[1] / "examples" / "localise_and_classify.py"
CANDIDATES = {
    "fixed 1 : 1": lambda: lw.FixedWeights({"box": 1.0, "label": 1.0}),
    "fixed 10 : 1": lambda: lw.FixedWeights({"box": 10.0, "label": 1.0}),
    "LossWeighter(barrier=0.5)": lambda: lw.LossWeighter(barrier=0.5),
    "Uncertainty": lw.Uncertainty,
    "RevisedUncertainty": lw.RevisedUncertainty,
    "IMTLL": lw.IMTLL,
}


def load_example():
    spec = importlib.util.spec_from_file_location("localise_and_classify", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(example, data, held_out, num_classes, make_weighter, epochs, seed):
    """Trains one predictor; returns IoU and accuracy on the held-out images."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    x, y = held_out
    predictor = example.build_predictor(x.shape[1:], num_classes)
    training = lw.build_training_model(predictor, example.LOSSES, make_weighter())
    training.compile("adam")
    training.fit(*data, batch_size=32, epochs=epochs, verbose=0)
    iou, accuracy = example.scores(predictor.predict(x, verbose=0), y)
    return float(iou), float(accuracy)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="photographs, an .npz archive")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs=2, default=[3, 20])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--short", action="store_true", help="few images, one epoch")
    options = parser.parse_args()
    example = load_example()
    sets = {"digits": (example.digit_scenes, options.epochs[0])}
    if options.data is not None:

        def photographs(short, random):
            return example.photographs(options.data, short, random)

        sets["photographs"] = (photographs, options.epochs[1])

    results = {}
    for name, (load, epochs) in sets.items():
        for seed in range(1 if options.short else options.seeds):
            random = np.random.default_rng(seed)
            data, held_out, names = load(options.short, random)
            for rule, make_weighter in CANDIDATES.items():
                begin = time.perf_counter()
                scores = run(
                    example,
                    data,
                    held_out,
                    len(names),
                    make_weighter,
                    1 if options.short else epochs,
                    seed,
                )
                results.setdefault(name, {}).setdefault(rule, []).append(scores)
                print(
                    f"{name:<12} seed {seed}  {rule:<26} IoU {scores[0]:.3f}  accuracy "
                    f"{scores[1]:.3f}  {time.perf_counter() - begin:5.1f} s",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))

    print(f"\n{'':<12} {'weighter':<26} IoU            accuracy       worse error")
    for name, rules in results.items():
        equal = 1 - np.array(rules["fixed 1 : 1"])
        for rule, scores in rules.items():
            scores = np.array(scores)
            mean, spread = scores.mean(0), scores.std(0)
            change = 100 * ((1 - scores) / equal - 1).mean(0).max()
            print(
                f"{name:<12} {rule:<26} {mean[0]:.3f} ± {spread[0]:.3f}  "
                f"{mean[1]:.3f} ± {spread[1]:.3f}  {change:+8.1f}%"
            )


if __name__ == "__main__":
    main()
