"""Training targets that are shares of classes: mixed records (mixup) and smoothed labels.

mixup (Zhang et al. 2018, arXiv 1710.09412) trains on lambda * a + (1 - lambda) * b of two records and of
their labels, with lambda drawn from Beta(alpha, alpha). Here rows 2k and 2k + 1 of the global batch mix with
each other. An epoch's order is random, so a neighbour is a random partner, and a pair lies within one replica
for any number of replicas. lambda follows from the keys of the two records, so from (seed, epoch, ids) alone.

Label smoothing (Szegedy et al. 2016, arXiv 1512.00567) gives each class the share smoothing / classes of
every target.
"""

from typing import Any, Final, Self

import keras
import tensorflow as tf

from data_pipeline.splitmix64 import stateless_bits

_SALT: Final = 0x6D697875  # makes these numbers independent of other uses of the same keys
_LOG_QUANTILES: Final = 12  # 4,096 equally likely values of lambda


class SoftTargets:
    """Makes soft targets of a batch, and the loss against them.

    Args:
        classes: number of classes.
        label_smoothing: share of each target that is spread equally over all classes.
        mixup: alpha of the distribution of lambda; 0: records are not mixed.

    Attributes:
        loss: (shares float32 [B, K], logits float32 [B, K]) -> float32 [B], the cross-entropy; it smooths.
    """

    def __init__(self, classes: int, label_smoothing: float, mixup: float) -> None:
        self.classes, self.mixup = classes, mixup
        self.loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing, reduction="none"
        )

    @classmethod
    def of(cls, classes: int, label_smoothing: float, mixup: float) -> Self | None:
        """Returns the targets; None if they are the labels themselves."""
        return cls(classes, label_smoothing, mixup) if label_smoothing or mixup else None

    def __call__(self, batch: dict[str, Any], image: Any) -> tuple[Any, Any]:
        """Mixes a batch of one replica, if records are to be mixed.

        Args:
            batch: its `label` int32 [B] and, for mixup, its `key` int64 [B].
            image: uint8 [B, H, W, C].

        Returns:
            image uint8 [B, H, W, C], and the share of each class in it, float32 [B, K]. A record's own label
            has the larger share.
        """
        shares = tf.one_hot(batch["label"], self.classes)
        if not self.mixup:
            return image, shares
        own = own_shares(batch["key"], self.mixup)
        mixed = mixed_pairs(tf.cast(image, tf.float32), own)
        return tf.cast(tf.round(mixed), tf.uint8), mixed_pairs(shares, own)


def own_shares(key: Any, alpha: float) -> Any:
    """Returns the share of each record in its mixture, float32 [B], both of a pair the same.

    It is the larger one of lambda and 1 - lambda. As both records of a pair are trained on, one with each,
    the set of the mixtures is that of lambda itself, and each record keeps its place: metrics can count it by
    its own label.

    Args:
        key: int64 [B], of the records; B is even.
        alpha: of Beta(alpha, alpha).
    """
    pairs = tf.reshape(key, [-1, 2])
    bits = stateless_bits(_SALT, pairs[:, 0], pairs[:, 1])
    drawn = tf.bitwise.right_shift(bits, tf.constant(64 - _LOG_QUANTILES, tf.uint64))
    return tf.repeat(tf.gather(tf.constant(upper_quantiles(alpha), tf.float32), tf.cast(drawn, tf.int32)), 2)


def upper_quantiles(alpha: float) -> list[float]:
    """Returns equally likely values of max(lambda, 1 - lambda), lambda of Beta(alpha, alpha), ascending."""
    from scipy.special import betaincinv  # slow to import, and needed with mixup alone

    count = 2**_LOG_QUANTILES
    return [float(betaincinv(alpha, alpha, 0.5 + (i + 0.5) / (2 * count))) for i in range(count)]


def mixed_pairs(values: Any, own: Any) -> Any:
    """Returns own * values + (1 - own) * partner, where rows 2k and 2k + 1 are each other's partner.

    Args:
        values: float32 [B, ...], B even.
        own: float32 [B].
    """
    pairs = tf.reshape(values, [-1, 2, *values.shape[1:]])
    partner = tf.reshape(tf.reverse(pairs, [1]), tf.shape(values))
    share = tf.reshape(own, [-1, *[1] * (values.shape.rank - 1)])
    return share * values + (1 - share) * partner
