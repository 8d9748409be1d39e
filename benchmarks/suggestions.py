"""Would the advice of `lossweigh.suggest` have helped? On the data of `compare_*.py`.

    KERAS_BACKEND=torch python benchmarks/suggestions.py --jobs 2

Asks `suggest` for each model, before any training, and looks up in the results of
`compare_*.py` what its advice changed: the balancer is one of their candidates, and
`compare_qm9.py` trains with and without standardised targets. What isn't among their
candidates is compared anew. `results/suggestions.json` keeps the answers.
"""

import json

import compare_cells
import compare_multi_target
import compare_overlapping
import compare_qm9
import compare_speakers
import compare_tox21
import comparing
import keras
import numpy as np

import lossweigh as lw

SCRIPTS = [
    compare_multi_target,
    compare_tox21,
    compare_speakers,
    compare_cells,
    compare_overlapping,
    compare_qm9,
]
PATH = comparing.RESULTS / "suggestions.json"


def suggested(experiment):
    """What `suggest` proposes for an untrained model."""
    keras.utils.set_random_seed(0)
    model, losses = experiment.build()
    training = lw.build_training_model(model, losses)
    training.compile("adam")
    x, y = experiment.data["train"]
    return lw.suggest(training, x, y, batch_size=experiment.batch_size)


def candidate(proposals):
    """What the proposed lines make: a weighter, a balancer or both."""
    namespace = {"lw": lw, "keras": keras, "np": np}
    for proposal in proposals:
        exec(proposal.code, namespace)
    pair = namespace.get("weighter"), namespace.get("balancer")
    if None in pair:
        return pair[0] or pair[1]
    return pair


def results(name):
    """What a `compare_*.py` found, by candidate."""
    text = (comparing.RESULTS / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)["candidates"]


def of_standardising(proposals):
    """The mean change that standardised targets made, from `compare_qm9.py`."""
    if not all((comparing.RESULTS / f"{n}.json").is_file() for n in ("qm9", "qm9_raw")):
        return None
    scaled, raw = (results(n)["equal"]["branches"] for n in ("qm9", "qm9_raw"))
    spread = {one.branches[0]: one.number for one in proposals}
    changes = [
        1
        - np.mean(branch["values"]) * spread.get(name, 1) / np.mean(raw[name]["values"])
        for name, branch in scaled.items()
    ]
    return {"mean": float(np.mean(changes)), "worst": float(min(changes))}


def advised(experiment, options):
    """The proposals for an experiment and the change that they made."""
    suggestion = suggested(experiment)
    print(f"\n{experiment.name}\n\n{suggestion}\n", flush=True)
    proposals = suggestion.proposals
    found = {
        "actions": suggestion.actions,
        "reasons": [proposal.reason for proposal in proposals],
        "change": None,
    }
    if options.short or suggestion.actions == ["equal_weights"]:
        return found
    if "standardise" in suggestion.actions:
        found["change"] = of_standardising(proposals)
        return found
    proposed = candidate(proposals)
    known = {repr(one): name for name, one in comparing.candidates().items()}
    if repr(proposed) in known:
        row = results(experiment.name)[known[repr(proposed)]]
    else:
        comparison, _ = comparing.run(experiment, {"suggested": proposed}, options)
        print(comparison, flush=True)
        row = comparison.to_dict()["candidates"]["suggested"]
    if row["change"] is not None:
        worst = min(branch["change"]["mean"] for branch in row["branches"].values())
        found["change"] = {**row["change"], "worst": worst}
    return found


def main():
    options = comparing.arguments(__doc__)
    kept = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}
    for script in SCRIPTS:
        try:
            for experiment in script.experiments(options):
                if options.only and experiment.name not in options.only:
                    continue
                kept[experiment.name] = advised(experiment, options)
        except SystemExit as error:  # its data aren't there
            print(f"{script.__name__} is left out. {error}")
        if not options.short:
            comparing.RESULTS.mkdir(exist_ok=True)
            PATH.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
