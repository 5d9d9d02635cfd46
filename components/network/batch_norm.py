"""Batch normalisation as a Keras 3 layer, written out so that every rule of it can be read."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="bnpipe")
class BatchNorm(keras.layers.Layer):
    """Normalises every channel by the statistics of the batch, and at inference by their average.

    Training, over the `m` positions of a batch that belong to a channel (Ioffe & Szegedy 2015,
    https://arxiv.org/abs/1502.03167, Algorithm 1):

        mean = sum(x) / m
        variance = sum((x - mean)^2) / m
        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta
        moving = momentum * moving + (1 - momentum) * batch        (mean and variance alike)

    Inference puts the moving statistics in the place of the batch's, so an answer never depends on
    what else is in the batch. Like `keras.layers.BatchNormalization`, and unlike the paper's
    Algorithm 2, the moving variance is the biased one. `trainable=False` means inference mode.

    Statistics are kept and computed in float32 at least, whatever the compute dtype. The variance
    takes a second pass over the data: E[x^2] - E[x]^2 loses all digits when |mean| is large. Under
    `tf.distribute` both passes sum over the replicas, so a batch split among replicas is
    normalised as the whole batch would be. A batch without a single (unmasked) position leaves the
    moving statistics as they are.

    Args:
        axis: the axis of the channels.
        momentum: weight of the past in the moving statistics, in [0, 1].
        epsilon: added to the variance; positive.
        center: whether there is a learned offset beta.
        scale: whether there is a learned factor gamma.

    Raises:
        ValueError: axis is not one integer, or momentum or epsilon is out of range.

    Call arguments:
        inputs: tensor of rank 2 or more.
        training: a Python bool; whether to use, and learn from, the statistics of the batch.
        mask: booleans of shape `inputs.shape[:-1]`; False positions are left out of the
            statistics, but are normalised like the others.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(axis, int):
            raise ValueError(f"axis must be one integer. Received: axis={axis!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1]. Received: momentum={momentum}")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive. Received: epsilon={epsilon}")
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates gamma, beta and the moving statistics, one of each per channel.

        Raises:
            ValueError: the inputs have no such axis, or its size is not known.
        """
        rank = len(input_shape)
        if not -rank <= self.axis < rank:
            raise ValueError(
                f"axis must be in [{-rank}, {rank}) for inputs of rank {rank}. "
                f"Received: axis={self.axis}, input_shape={input_shape}"
            )
        channel_axis = self.axis % rank
        channels = input_shape[channel_axis]
        if channels is None:
            raise ValueError(
                f"The channel axis must have a known size. Received: axis={self.axis}, "
                f"input_shape={input_shape}"
            )
        self.input_spec = keras.InputSpec(ndim=rank, axes={channel_axis: channels})
        self._channels = channels
        self._reduced = [a for a in range(rank) if a != channel_axis]
        self._broadcast = [channels if a == channel_axis else 1 for a in range(rank)]
        # A moving average in half precision would lose its small increments.
        dtype = keras.backend.result_type(self.variable_dtype, "float32")

        def vector(name: str, initializer: str, learned: bool) -> keras.Variable:
            return self.add_weight(
                name=name,
                shape=(channels,),
                initializer=initializer,
                dtype=dtype,
                trainable=learned,
                autocast=False,
                # The default keeps one moving average per replica and saves only the first.
                aggregation="none" if learned else "mean",
            )

        self.gamma = vector("gamma", "ones", True) if self.scale else None
        self.beta = vector("beta", "zeros", True) if self.center else None
        self.moving_mean = vector("moving_mean", "zeros", False)
        self.moving_variance = vector("moving_variance", "ones", False)
        self.built = True

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """Normalises; the arguments are the class's call arguments."""
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        if training and self.trainable:
            mean, variance, count = self._moments(x, mask)
            self._move(self.moving_mean, mean, count)
            self._move(self.moving_variance, variance, count)
        else:
            mean = ops.cast(self.moving_mean, x.dtype)
            variance = ops.cast(self.moving_variance, x.dtype)
        # Subtracting first is more exact than x * factor + (beta - mean * factor).
        factor = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            factor = factor * ops.cast(self.gamma, x.dtype)
        y = (x - self._spread(mean)) * self._spread(factor)
        if self.beta is not None:
            y = y + self._spread(ops.cast(self.beta, x.dtype))
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
        }

    def _moments(self, x: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Mean[C] and variance[C] over all replicas, and the number of positions they are from."""
        kept = None
        if mask is None:
            count = ops.cast(ops.size(x) // self._channels, x.dtype)
        else:
            # The mask covers all axes but the last. Unless the channels are last, they may differ
            # in their number of positions.
            kept = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), ops.shape(x))
            count = ops.sum(ops.cast(kept, x.dtype), self._reduced)

        def total(values: Any) -> Any:
            # Not a product with 0 and 1: a padded position may hold NaN.
            return ops.sum(values if kept is None else ops.where(kept, values, 0), self._reduced)

        count, sums = _sum_over_replicas([count, total(x)])
        positions = ops.maximum(count, 1)
        mean = sums / positions
        # The derivative by this mean is zero, as the deviations from it sum to zero.
        deviation = x - self._spread(ops.stop_gradient(mean))
        (squares,) = _sum_over_replicas([total(ops.square(deviation))])
        return mean, squares / positions, count

    def _move(self, moving: keras.Variable, batch: Any, count: Any) -> None:
        batch = ops.cast(batch, moving.dtype)
        moved = moving * self.momentum + batch * (1.0 - self.momentum)
        moving.assign(ops.where(count > 0, moved, moving))

    def _spread(self, vector: Any) -> Any:
        """A vector[C], shaped so that it broadcasts against the inputs."""
        return ops.reshape(vector, self._broadcast)


def _sum_over_replicas(tensors: list[Any]) -> list[Any]:
    """The tensors, summed over the replicas of a `tf.distribute` strategy if there are several."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tensors
    return [replica.all_reduce(tf.distribute.ReduceOp.SUM, tensor) for tensor in tensors]
