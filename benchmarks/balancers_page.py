"""The page and the picture of `balancers.py`, from its runs."""

import numpy as np
from matplotlib.figure import Figure

MARGIN = 0.03  # how far below the best fixed weights still counts as level with them
SCORES = ("IoU of the box", "accuracy of the type")
COLORS = ("#e0812b", "#17375e", "#2f6fb0", "#8fb8de", "#3f9b5b")  # of the levels


class Table:
    """What the runs of the complete seeds say of each row, a (method, level)."""

    def __init__(self, runs, rows, fixed, levels):
        numbers = sorted({seed for _, _, seed in runs})
        self.seeds = [s for s in numbers if all((*row, s) in runs for row in rows)]
        self.rows, self.fixed, self.levels = rows, fixed, levels
        self.plain = fixed[0], ""  # the row that the others are compared with
        self.backends = " and ".join(sorted({one["backend"] for one in runs.values()}))
        if self.seeds:
            self._summarise(runs)

    def _summarise(self, runs):
        """Scores (seeds, 2), and what follows from them."""
        some = {row: [runs[*row, seed] for seed in self.seeds] for row in self.rows}
        self.scores = {
            row: np.array([[one["iou"], one["accuracy"]] for one in mine])
            for row, mine in some.items()
        }
        self.mean = {row: scores.mean(0) for row, scores in self.scores.items()}
        self.best = np.max([self.mean[name, ""] for name in self.fixed], axis=0)
        self.change = {row: mean - self.best for row, mean in self.mean.items()}
        self.gets = {row: change >= -MARGIN for row, change in self.change.items()}
        self.step, self.diverged, self.unsteady = {}, {}, {}
        for row, mine in some.items():
            pairs = zip(mine, some[self.plain], strict=True)
            self.step[row] = np.median(
                [one["step"] / two["step"] for one, two in pairs]
            )
            curves = [curve for one in mine for curve in one["losses"].values()]
            self.diverged[row] = any(not curve[-1] < curve[0] for curve in curves)
            self.unsteady[row] = any(max(curve) > 1.05 * curve[0] for curve in curves)

    @property
    def methods(self):
        """The balancers that have all levels, the best of any level first."""
        names = dict.fromkeys(name for name, level in self.rows if level)
        whole = [
            n for n in names if all((n, level) in self.rows for level in self.levels)
        ]
        return sorted(whole, key=lambda name: -self.most(name))

    def most(self, name):
        """The smaller change of the method's best row."""
        return max(self.change[row].min() for row in self.rows if row[0] == name)

    def difference(self, row, other):
        """Mean and standard error of the paired difference, each (2,)."""
        differences = self.scores[row] - self.scores[other]
        error = deviation(differences) / len(differences) ** 0.5
        return differences.mean(0), error


def deviation(values):
    """The standard deviation over the seeds, 0 for a single one."""
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def title(row, table):
    name, level = row
    shown = f"**{name}**" if name in table.fixed else f"`{name}`"
    return shown + f", {level}" * bool(level)


def page(table, *, types, rate, batch, epochs):
    """The Markdown page."""
    majority = types.max() / types.sum()
    lines = [
        "# Balancers on real images",
        "",
        f"Written by `benchmarks/balancers.py`, {len(table.seeds)} seeds, "
        f"{table.backends} on a CPU. Photographs of blood, each with one white cell: "
        "its box and its type. Mean IoU of the boxes and accuracy of the types on "
        "held-out images, under fixed weights, with each weighter, and with each "
        "balancer at each level.",
        "",
        "![IoU and accuracy of each method, a color a level.](../images/balancers.png)",
        "",
        "The dashed lines are at "
        f"{table.best[0]:.3f} and {table.best[1]:.3f}, the best of the fixed weights.",
        "",
        "## How to read it",
        "",
        *reading(table, majority),
        "",
        "## The levels",
        "",
        *levels(table),
        "",
        "## The level, by method",
        "",
        *by_method(table),
        "",
        "## All rows",
        "",
        *all_rows(table),
        "",
        "## Settings",
        "",
        f"- {types.sum()} images, 96 x 128; seed k holds out the k-th fifth of one "
        "fixed order and sets the initial parameters and the order of the batches, the "
        "same for all rows. The other images are trained on in all four mirrorings.",
        "- Four convolutions with max-pooling are shared (16, 32, 48 and 64 filters); "
        "the box has a head of 32 units, the type a global max-pooling. Losses: huber "
        "and cross-entropy.",
        f"- Adam, learning rate {rate:g} with a cosine decay to 0, batches of {batch}, "
        f"{epochs} epochs, the parameters at the end. The network, the epochs and the "
        "rate were chosen in a few pilot runs on these images, nothing else was "
        "selected by the held-out ones. Balancers with their defaults but for the "
        "level, over equal weights.",
        f"- The most frequent type is {majority:.0%} of the images.",
        "",
    ]
    return "\n".join(lines)


def reading(table, majority):
    """What the numbers say, in words."""

    def those(condition):
        found = {}
        for name, level in filter(condition, table.rows):
            found.setdefault(name, []).append(level)
        parts = []
        for name, where in found.items():
            shown = title((name, ""), table)
            every = where == [own for other, own in table.rows if other == name]
            parts.append(shown if every else f"{shown} ({'; '.join(where)})")
        return ", ".join(parts) or "none"

    fixed = [table.mean[name, ""] for name in table.fixed]
    scores = [f"{mean[0]:.3f} and {mean[1]:.3f}" for mean in fixed]
    plain = table.plain
    noise = np.mean(
        [table.difference(r, plain)[1] for r in table.rows if r != plain], 0
    )
    top = max(table.rows, key=lambda row: table.change[row].min())
    gets = table.gets
    yield (
        f"Equal weights give an IoU and an accuracy of {scores[0]}, the box 30 times "
        f"as heavy {scores[1]}. A result at most {MARGIN} below the better of these "
        "counts as level with it. Where no level is given, the result holds for all."
    )
    yield ""
    yield f"- **Both tasks**: {those(lambda row: gets[row].all())}."
    yield (
        "- **The box, at the type's cost**: "
        f"{those(lambda row: gets[row][0] and not gets[row][1])}."
    )
    yield (
        "- **The type, at the box's cost**: "
        f"{those(lambda row: gets[row][1] and not gets[row][0])}."
    )
    yield f"- **Neither**: {those(lambda row: not gets[row].any())}."
    yield (
        "- The type was not learned, its accuracy within 0.03 of always naming the "
        f"most frequent one: {those(lambda row: table.mean[row][1] < majority + 0.03)}."
    )
    yield (
        "- Training diverged, a loss ending higher than it began or not finite, in "
        f"some seed: {those(table.diverged.get)}. Unsteady, a loss of a later epoch "
        "more than 5% above the first epoch's, in some seed: "
        f"{those(table.unsteady.get)}."
    )
    yield (
        f"- The best compromise is {title(top, table)}: the smaller of its two "
        f"differences is the largest. Over {len(table.seeds)} seeds a mean "
        "difference from equal weights is uncertain "
        f"by about {noise[0]:.3f} in IoU and {noise[1]:.3f} in accuracy (its standard "
        "error). Don't rely on the order of neighbours."
    )


def levels(table):
    """A table: what each level gives over the balancers, and how far from exact."""
    yield "| level | IoU | accuracy | spread | off exact: IoU | accuracy | step |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    exact = np.array([table.scores[name, "parameters"] for name in table.methods])
    for level in table.levels:
        mine = np.array([table.scores[name, level] for name in table.methods])
        mean = mine.mean((0, 1))
        spread = np.mean([deviation(scores) for scores in mine], axis=0)
        gap = np.abs((mine - exact).mean(1)).mean(0)
        step = np.median([table.step[name, level] for name in table.methods])
        yield (
            f"| {level} | {mean[0]:.3f} | {mean[1]:.3f} | {spread[0]:.3f}, "
            f"{spread[1]:.3f} | {gap[0]:.3f} | {gap[1]:.3f} | {step:.2f} |"
        )
    yield ""
    yield (
        f"Means over the {len(table.methods)} balancers that have all levels; "
        "**spread**: the mean of their standard deviations over the seeds, of IoU and "
        "accuracy; **off exact**: how far from the same balancer at the parameters in "
        "each step, the mean distance of the means over the seeds; **step**: the "
        f"median processor time against {title(table.plain, table)}."
    )


def by_method(table):
    """A table: both scores at each level, and what the exact gradients change."""
    head = ["method", *table.levels, "parameters - representation"]
    yield f"| {' | '.join(head)} |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    for name in table.methods:
        cells = []
        for level in table.levels:
            both = ", ".join(f"{score:.3f}" for score in table.mean[name, level])
            cells.append(f"**{both}**" if table.gets[name, level].all() else both)
        change = table.difference((name, "parameters"), (name, "representation"))
        parts = [
            f"{mean:+.3f} ± {error:.3f}" for mean, error in zip(*change, strict=True)
        ]
        yield f"| `{name}` | {' | '.join([*cells, ', '.join(parts)])} |"
    yield ""
    yield (
        "IoU, accuracy; bold where both are level with the best of the fixed weights. "
        "The difference is paired by the seeds, ± its standard error."
    )


def all_rows(table):
    """A table of everything, in the order of the smaller change."""
    yield (
        "| method, level | IoU | accuracy | worst seed: IoU | accuracy | smaller "
        "change | processor time of a step |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for row in sorted(table.rows, key=lambda row: -table.change[row].min()):
        scores = table.scores[row]
        pairs = zip(scores.mean(0), deviation(scores), strict=True)
        cells = [
            title(row, table),
            *(f"{mean:.3f} ± {spread:.3f}" for mean, spread in pairs),
            *(f"{worst:.3f}" for worst in scores.min(0)),
            f"{table.change[row].min():+.3f}",
            f"{table.step[row]:.2f}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield (
        "± the standard deviation over the seeds. **Smaller change**: the smaller of "
        "the two differences from the best of the fixed weights. **Processor time**: "
        f"of all cores, against {title(table.plain, table)}, the median over "
        "the seeds; for measured times see `benchmarks/step_cost.py`."
    )


def draw(path, table):
    """IoU and accuracy side by side: a line a method, a mark a level."""
    balanced = {name for name, level in table.rows if level}
    order = sorted(
        dict.fromkeys(name for name, _ in table.rows),
        key=lambda name: (name in balanced, table.most(name)),
    )
    figure = Figure((10, 1.6 + 0.27 * len(order)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shown = [("", "fixed weights and weighters", "#555555", "D")]
    shown += [
        (level, level, color, "o")
        for level, color in zip(table.levels, COLORS, strict=True)
    ]
    for column, axes in enumerate(panels):
        means = [mean[column] for mean in table.mean.values()]
        lowest = max(min(means), table.best[column] - 0.3)  # below it, an arrow
        axes.axvline(table.best[column], color="#999999", lw=1, ls="--", zorder=0)
        for level, label, color, mark in shown:
            points = [
                (table.mean[row][column], order.index(row[0]))
                for row in table.rows
                if row[1] == level
            ]
            x, y = zip(*points, strict=True)
            axes.plot(x, y, mark, color=color, ms=6, alpha=0.85, label=label)
            far = [place for mean, place in points if mean < lowest]
            axes.plot([lowest] * len(far), far, "<", color=color, ms=6)
        axes.set_xlim(left=lowest - 0.01)
        axes.set_xlabel(f"{SCORES[column]}, mean of {len(table.seeds)} seeds")
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.7, len(order) - 0.3)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=110)
