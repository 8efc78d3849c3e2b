"""Trains the model of the flights in JAX with optax, on the devices of one process or of several."""

import argparse

import flights
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import penstock

OPTIMIZER = optax.adam(flights.LEARNING_RATE)


def example(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From columns to what the model takes, and the label."""
    return {
        "numbers": np.stack([arrays[name] for name in flights.NUMBERS], axis=1),
        "categories": (np.stack([arrays[name] for name in flights.CATEGORIES], axis=1) + flights.OFFSETS).astype(
            np.int32
        ),
        "late": (arrays[flights.LABEL] >= flights.LATE_MINUTES).astype(np.float32),
    }


def initial(seed: int) -> dict[str, jax.Array]:
    """The categories embedded, the numbers, a hidden layer, and the logit of being late."""
    keys = jax.random.split(jax.random.key(seed), 3)
    glorot = jax.nn.initializers.glorot_uniform()
    return {
        "table": 0.05 * jax.random.normal(keys[0], [flights.TABLE_ROWS, flights.WIDTH]),
        "hidden": glorot(keys[1], [len(flights.CATEGORIES) * flights.WIDTH + len(flights.NUMBERS), flights.HIDDEN]),
        "hidden_bias": jnp.zeros(flights.HIDDEN),
        "logit": glorot(keys[2], [flights.HIDDEN, 1]),
        "logit_bias": jnp.zeros(1),
    }


@jax.jit
def logits_of(weights, batch):
    """Returns float32[rows]."""
    embedded = weights["table"][batch["categories"]].reshape(len(batch["categories"]), -1)
    hidden = jax.nn.relu(jnp.concatenate([embedded, batch["numbers"]], 1) @ weights["hidden"] + weights["hidden_bias"])
    return (hidden @ weights["logit"] + weights["logit_bias"])[:, 0]


@jax.jit
def step(weights, state, batch):
    """One step of the optimizer; returns the mean loss of the batch, too."""

    def loss_of(weights):
        return optax.sigmoid_binary_cross_entropy(logits_of(weights, batch), batch["late"]).mean()

    loss, gradients = jax.value_and_grad(loss_of)(weights)
    updates, state = OPTIMIZER.update(gradients, state)
    return optax.apply_updates(weights, updates), state, loss


def main() -> None:
    """Trains, and prints the loss of each epoch, and that of the eval split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="OUTPUT of prepare")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=256, help="of all processes together")
    parser.add_argument("--seed", type=int, default=1, help="of the weights, and of the order of the rows")
    parser.add_argument(
        "--processes", type=int, default=1, help="with more than one, each is started with the same flags"
    )
    parser.add_argument("--process", type=int, default=0, help="number of this one")
    parser.add_argument("--coordinator", help="HOST:PORT where process 0 listens")
    flags = parser.parse_args()

    if flags.processes > 1:
        jax.distributed.initialize(flags.coordinator, flags.processes, flags.process)
    mesh = Mesh(jax.devices(), ["rows"])
    by_rows, everywhere = NamedSharding(mesh, PartitionSpec("rows")), NamedSharding(mesh, PartitionSpec())
    weights = jax.device_put(initial(flags.seed), everywhere)
    state = jax.device_put(OPTIMIZER.init(weights), everywhere)

    loaded = penstock.load(flags.dataset, "train", columns=flights.COLUMNS).shuffle(flags.seed)
    own = loaded.shard(jax.process_index(), jax.process_count())
    batches = own.numpy(flags.batch_size // jax.process_count(), missing=flights.MISSING, last="drop")
    print(f"train: {len(loaded):,} flights")
    for epoch in range(flags.epochs):
        losses = []
        for arrays in batches:  # the rows of this process, which are put together with those of the others
            batch = jax.make_array_from_process_local_data(by_rows, example(arrays))
            weights, state, loss = step(weights, state, batch)
            losses.append(loss)
        print(f"epoch {epoch + 1}   loss {np.mean(jax.device_get(losses)):.4f}")

    weights = jax.device_get(weights)
    held_out = penstock.load(flags.dataset, "eval", columns=flights.COLUMNS).numpy(4096, missing=flights.MISSING)
    found = [(logits_of(weights, batch), batch["late"]) for batch in map(example, held_out)]
    print(flights.summary(*(np.concatenate(part) for part in zip(*found, strict=True))))


if __name__ == "__main__":
    main()
