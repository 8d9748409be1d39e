"""`Derivatives`: a network and its derivatives by its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _backend, _compat
from lossweigh._types import Tensor
from lossweigh.layers.derivative_names import DerivativeNames, orders
from lossweigh.layers.network_columns import NetworkColumns
from lossweigh.layers.network_warnings import NetworkTraits


@keras.saving.register_keras_serializable(package="lossweigh")
class Derivatives(keras.layers.Layer):
    """A network's outputs and their derivatives by its inputs, by name.

    With it the residual of a differential equation is a line of `keras.ops`, an output
    of the prediction model and a branch like any other:

        u = lw.layers.Derivatives(network, variables=["t", "x"], outputs=["u"])
        at = u(points, ["u", "u_t", "u_x", "u_xx"])
        residual = at["u_t"] + at["u"] * at["u_x"] - nu * at["u_xx"]

    One layer can be called on several sets of points. Each call says what it needs, and
    only that is computed, together: `"u_xx"` costs nothing more with `"u_x"` and `"u"`.
    A call for `["u"]` costs what the network costs.

    The derivatives can be differentiated again, by the network's weights and by the
    points. A `Derivatives` of a model that calls `Derivatives` has third and fourth
    order. JAX takes them forward, TensorFlow and torch backward. In float64 they have
    all the digits that the network's layers leave: Keras multiplies in float32 on
    torch, and its `tanh` is float32 on JAX.

    The network stays a model of its own: predict with it, save it and serve it alone.
    A model may call it and `Derivatives` of it, several too; all of them are one
    network again in a model that `keras.saving.load_model` gives back. (`clone_model`
    makes a network for each.)

    Each row must be computed by itself. `BatchNormalization` mixes the rows of a
    batch, so it is refused unless it is frozen; a layer of your own that does so isn't
    seen, and what it gives is no derivative. `Dropout` drops the same elements in all
    that one call computes. Second derivatives need a network without kinks: relu and
    its like are warned of.

    Args:
        network: A built `keras.Model`, of any kind that `build_training_model` takes.
        variables: The names of what to differentiate by, the columns of the
            network's inputs: a list for its only input, or a dict of lists by the
            inputs' names. Inputs that the dict leaves out aren't differentiated by.
            Default: each input of one column has its name; others are left out.
        outputs: Likewise the names of the columns of the network's outputs.
        **kwargs: Passed to `keras.layers.Layer`. The layer is float32 whatever the
            global policy, which changes no tensor's dtype.

    Call arguments:
        inputs: What the network takes, or a dict by the names of its inputs. With a
            further axis in front, `(sets, points, columns)` for a network of
            `(points, columns)`, each result has that axis too.
        names: A list of names: an output's, as `"u"`; with one variable, `"u_x"`; or
            with two, `"u_xx"`, `"u_tx"`. Where a variable's name has several letters
            the two are parted by `_`, as in `"u_x1_x2"`.
        training: Bool, as for the network.

    Returns:
        A dict of tensors by these names, each `(batch, 1)`, of the dtype of the points
        and the network's outputs, whichever has more digits.

    Raises:
        TypeError: If `network` isn't a model, names aren't strings in a list, or
            inputs aren't tensors.
        ValueError: If the network isn't built, columns lack names, a name is unknown,
            inputs have other shapes than the network's, or the network mixes rows; on
            JAX, if a layer of the network has a custom gradient.

    Attributes:
        names: All names that a call can ask for.

    Examples:
        >>> import keras, numpy as np
        >>> from keras import ops
        >>> x, y = keras.Input((1,), name="x"), keras.Input((1,), name="y")
        >>> network = keras.Model([x, y], {"u": x * x * y})
        >>> u = Derivatives(network)
        >>> points = {"x": np.array([[3.0]]), "y": np.array([[5.0]])}
        >>> at = u(points, ["u", "u_x", "u_xx", "u_xy"])
        >>> print({name: ops.convert_to_numpy(at[name]).item() for name in at})
        {'u': 45.0, 'u_x': 30.0, 'u_xx': 10.0, 'u_xy': 6.0}
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        variables: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        outputs: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        # Under a mixed policy it would read the network's variables in half precision.
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)
        if not isinstance(network, keras.Model):
            raise TypeError(
                "`network` must be a keras.Model. Received: "
                f"network={network!r} (of type {type(network).__name__})."
            )
        if not network.built:
            raise ValueError(
                "`network` must be built. Received the model "
                f"{network.name!r} (a {type(network).__name__}), which isn't. Call it "
                "once on a batch of points, as in `network(points[:1])`, or give a "
                "Sequential model an `Input`."
            )
        self.network = network
        self._config = {"variables": variables, "outputs": outputs}
        self._columns = NetworkColumns(network, variables, outputs)
        self._names = DerivativeNames(
            _joined(self._columns.outputs), _joined(self._columns.variables)
        )
        self._traits = NetworkTraits.of(network)
        self._longest: dict[str, Tensor] = {}
        self.built = True

    @property
    def names(self) -> list[str]:
        return list(self._names.known)

    def __call__(self, inputs: Any, names: Sequence[str], **kwargs: Any) -> Any:
        wanted = self._names.look_up(names)
        self._columns.extra_axes(inputs)  # raises what Keras would reword
        order = max(len(derivative) for derivative in wanted.values()) - 1
        self._traits.check(order, kwargs.get("training"))
        # Keras takes what isn't a tensor by its name only.
        results = super().__call__(inputs, names=list(names), **kwargs)
        is_symbolic = isinstance(next(iter(results.values())), keras.KerasTensor)
        if is_symbolic and len(results) > len(self._longest):
            self._longest = results
        return results

    @property
    def output(self) -> Any:
        """The output of the call in a model's graph that asked for most.

        Keras's is that of the first call. It takes the number of its tensors for that
        of every call, and refuses a model with a later call that has more.
        """
        return self._longest or super().output

    def call(
        self, inputs: Any, names: Sequence[str], training: bool | None = None
    ) -> dict[str, Tensor]:
        wanted = self._names.look_up(names)
        firsts, seconds = orders(wanted.values())
        results: dict[tuple[int, ...], Tensor]
        extra = self._columns.extra_axes(inputs)
        rows = self._columns.rows(inputs, extra)
        if any(firsts.values()):
            function, moved = self._function(rows, training)
            columns = self._columns.split(rows)
            results, extras = _backend.derivatives(function, columns, firsts, seconds)
            self._take(moved, *extras)
        else:
            outputs = self.network(self._columns.pack(rows), training=training)
            columns = self._columns.of_outputs(outputs)
            results = {(index,): column for index, column in enumerate(columns)}
        return {
            name: self._columns.in_sets(results[derivative], inputs, extra)
            for name, derivative in wanted.items()
        }

    def _function(
        self, rows: Sequence[Tensor], training: bool | None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """The network from columns to columns; a list of the variables it assigns.

        Its extras are their values, and the losses that the network adds. Both are
        empty but where a step is a function of all variables' values. The network is
        one, too, there: it may be called again, and draws the same random numbers.
        """
        moved: list[Any] = []

        def of_columns(*columns: Tensor) -> tuple[list[Tensor], Any]:
            inputs = self._columns.join(columns, rows)
            outputs = self.network(inputs, training=training)
            return self._columns.of_outputs(outputs), ([], [])

        def stateless(*columns: Tensor) -> tuple[list[Tensor], Any]:
            with _compat.Assignments(before) as scope:
                outputs, _ = of_columns(*columns)
                losses = scope.take_losses(self.network)
            moved[:] = scope.assigned.values()
            values = [scope.get_current_value(variable) for variable in moved]
            return outputs, (values, losses)

        if not _backend.STATELESS:
            return of_columns, moved
        before = [(v, ops.convert_to_tensor(v)) for v in self.network.variables]
        return stateless, moved

    def _take(
        self, moved: Sequence[Any], values: Sequence[Tensor], losses: Sequence[Tensor]
    ) -> None:
        """Assigns what the network assigned, and adds the losses that it added."""
        for variable, value in zip(moved, values, strict=True):
            variable.assign(value)
        for loss in losses:
            self.add_loss(loss)

    def compute_output_spec(
        self, inputs: Any, names: Sequence[str], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        shape = self._columns.shape_of_results(inputs)
        return {
            name: keras.KerasTensor(shape, self._columns.dtype)
            for name in self._names.look_up(names)
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "network": _compat.serialize_shared(self.network),
            **self._config,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def _joined(names: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for several in names.values() for name in several]
