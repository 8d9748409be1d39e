"""The order of reads and assignments in a step, after TensorFlow's graph optimizer.

In a traced step TensorFlow orders what touches a variable by control edges, and its
graph optimizer may drop them. A read that no path leads from, neither to the
assignment of its variable nor from it, can then see the old number or the new one,
as the threads happen to run.
"""

import collections

from tensorflow.python.eager import context  # no public name gives optimized graphs

ASSIGNMENTS = {"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}


def optimized_graphs(step):
    """The graphs that `step()` runs, each with the functions that it calls."""
    context.enable_run_metadata()
    try:
        step()
        metadata = context.export_run_metadata()
    finally:
        context.disable_run_metadata()
    return [graph.post_optimization_graph for graph in metadata.function_graphs]


def unordered_reads(step):
    """What a step reads and assigns, and TensorFlow may run in either order.

    Args:
        step: A function without arguments that traces and runs the step.

    Returns:
        Names of nodes, as `"read, assignment"`.
    """
    found, assignments = [], 0
    for graph in optimized_graphs(step):
        consumers = collections.defaultdict(list)
        touching = collections.defaultdict(list)  # the nodes that take a variable
        variables = {node.name for node in graph.node if is_variable(node)}
        for node in graph.node:
            for name in node.input:
                source = name.lstrip("^").split(":")[0]
                consumers[source].append(node.name)
                if source in variables:
                    touching[source].append(node)
        for nodes in touching.values():
            assigning = [node.name for node in nodes if is_assignment(node)]
            assignments += len(assigning)
            reached = {node.name: reached_from(node.name, consumers) for node in nodes}
            found += [
                f"{node.name}, {assignment}"
                for node in nodes
                if not is_assignment(node)
                for assignment in assigning
                if assignment not in reached[node.name]
                and node.name not in reached[assignment]
            ]
    assert assignments, "the step that was run assigns nothing, or was traced before"
    return found


def is_variable(node):
    """A variable is an argument of the traced function."""
    return node.op in ("_Arg", "Placeholder") and "resource" in str(node.attr)


def is_assignment(node):
    return node.op in ASSIGNMENTS or node.op.startswith("ResourceApply")


def reached_from(start, consumers):
    """The nodes that run after `start`, by data or by control edges."""
    seen, ahead = set(), [start]
    while ahead:
        for name in consumers[ahead.pop()]:
            if name not in seen:
                seen.add(name)
                ahead.append(name)
    return seen
