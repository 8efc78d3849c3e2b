"""What the three scripts share: what the model sees and learns, its size, and how good it is."""

import itertools

import numpy as np
import numpy.typing as npt

# A flight is late 15 minutes after its time, as the statistics of the United States count it.
LABEL = "arr_delay"
LATE_MINUTES = 15

# The columns that examples/flights/features.yaml computes: z-scores, and ids with their number.
NUMBERS = ("dep_delay", "carrier_dep_delay", "distance")
CATEGORIES = {
    "carrier": 16,
    "dest": 84,
    "tailnum": 512,
    "route": 256,
    "month": 13,
    "dep_hour": 24,
    "distance_bucket": 8,
}
COLUMNS = (*NUMBERS, *CATEGORIES, LABEL)

# What is not known of a departure is taken as the mean, whose z-score is 0. Any other missing value is an error.
MISSING = {"dep_delay": 0.0}

# One table embeds all categories, one behind the other. The first row is that of a carrier which is not in the train
# split, whose id is -1.
OFFSETS = np.array([1, *itertools.accumulate(CATEGORIES.values(), initial=1)][1:-1])
TABLE_ROWS = 1 + sum(CATEGORIES.values())
WIDTH, HIDDEN = 8, 32
LEARNING_RATE = 0.003


def summary(logits: npt.NDArray[np.floating], late: npt.NDArray[np.floating]) -> str:
    """Returns a line with the loss (cross-entropy, nats), that of a constant answer, and the area under the ROC."""
    logits, rate = logits.astype(np.float64), late.mean()
    loss = np.mean(np.logaddexp(0, logits) - late * logits)
    constant = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    return (
        f"eval: {len(late):,} flights   loss {loss:.4f}   constant {constant:.4f}   ROC AUC {roc_auc(logits, late):.4f}"
    )


def roc_auc(scores: npt.NDArray[np.floating], late: npt.NDArray[np.floating]) -> float:
    """Returns the chance that a late flight scores above one in time; equal scores count half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    number = late.sum()
    return float((ranks[late == 1].sum() - number * (number + 1) / 2) / (number * (len(late) - number)))
